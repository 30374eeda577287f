"""The net in the page, in a browser: its numbers against the package, its controls."""

import json
from contextlib import contextmanager

import pytest
import torch
from conftest import ROOT
from torch import nn

from tools import interactive, think
from vggbook import build, receptive_field, to_dense
from vggbook.book import export
from vggbook.data import ShapesDataset
from vggbook.evaluate import dense_macs, predict
from vggbook.weights import Preprocessing

TYPES = {".js": "text/javascript", ".css": "text/css"}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Think</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><link rel="stylesheet" href="think.css">{scripts}</head>
<body><main><h1>Think</h1>{body}</main></body></html>"""
BODY = '<div class="think" data-view="{views}"><p>This needs JavaScript.</p></div>'


def page_with(views: str) -> str:
    """A page with one instrument, and the scripts that the book gives to such a page."""
    body = BODY.format(views=views)
    names = [name.removeprefix("think/") for name in interactive.needed(body)[0]]
    scripts = "".join(f'<script src="{name}" defer></script>' for name in names)
    return PAGE.format(scripts=scripts, body=body)


@contextmanager
def opened(browser, views: str = "layers occlusion testing", **context):
    """A page with one instrument; a request for another file, or an error, fails the test."""
    context.setdefault("viewport", {"width": 1000, "height": 1000})
    ctx = browser.new_context(**context)
    ctx.set_default_timeout(20_000)
    page, trouble = ctx.new_page(), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda line: line.type == "error" and trouble.append(line.text))

    def serve(route):
        name = route.request.url.removeprefix("http://think.test/")
        path = think.FOLDER / name
        if not name:
            text = page_with(views)
            route.fulfill(body=text, content_type="text/html; charset=utf-8")
        elif route.request.url.startswith("http://think.test/") and path.is_file():
            kind = TYPES[path.suffix] + "; charset=utf-8"
            route.fulfill(body=path.read_bytes(), content_type=kind)
        else:
            trouble.append(f"asked for {route.request.url}")
            route.abort()

    page.route("http://**/*", serve)
    page.goto("http://think.test/")
    yield page
    ctx.close()
    assert not trouble


def net_of(name: str, **options):
    """A small net with random weights whose answers differ from picture to picture."""
    generator = torch.Generator().manual_seed(3)
    net = build(name, 12, width=0.0625, image_size=64, generator=generator, **options).eval()
    preprocessing = Preprocessing(name, (120.0, 110.0, 100.0), (64.0, 60.0, 70.0))
    return net, preprocessing


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Files of nets of every kind of layer, each with the net that PyTorch reads back from it."""
    folder, found = tmp_path_factory.mktemp("nets"), {}
    for name, options in (("D", {}), ("C", {}), ("A-LRN", {}), ("B", {"batch_norm": True})):
        net, preprocessing = net_of(name, **options)
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)
        data = export.describe(net, [f"class {i}" for i in range(12)], preprocessing)
        path = export.write(data, folder / f"{name}.json")
        found[name] = data, export.read(path)
    return found


RUN = """async ([data, pixels, height, width]) => {
  const engine = vggEngine();
  const net = await engine.decode(data);
  const picture = { h: height, w: width, data: Float32Array.from(pixels) };
  const maps = engine.forward(net, picture);
  return {
    maps: maps.map((map) => (
      { name: map.name, shape: [map.c, map.h, map.w], data: Array.from(map.data) })),
    dense: engine.dense(net, picture), flipped: engine.dense(net, picture, true).posterior,
    centre: engine.centreCrop(net, picture), crops: engine.crops(net, picture),
  };
}"""


def linear_layers(net):
    return [module for module in net.classifier if isinstance(module, nn.Linear)]


def activations(net, x):
    """Outputs of every layer of the page: after ReLU, FC layers at every position."""
    maps = []
    for module in net.features:
        x = module(x)
        if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.LocalResponseNorm):
            maps.append(x[0])
    convs = linear_layers(net)
    for layer in convs:
        weight = layer.weight.view(len(layer.weight), x.shape[1], -1)
        side = round(weight.shape[2] ** 0.5)
        x = nn.functional.conv2d(x, weight.unflatten(2, (side, side)), layer.bias)
        x = x if layer is convs[-1] else x.relu()
        maps.append(x[0])
    return maps


@pytest.mark.parametrize("name", ["D", "C", "A-LRN", "B"])
def test_every_activation_and_answer_equals_pytorchs(browser, exported, name):
    data, net = exported[name]
    torch.manual_seed(len(name))
    for height, width in ((64, 64), (97, 110)):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        with opened(browser) as page:
            found = page.evaluate(RUN, [data, image.flatten().tolist(), height, width])
        with torch.inference_mode():
            expected = activations(net, net.preprocessing(image[None]))
        assert [m["name"] for m in found["maps"][1:]] == [layer["name"] for layer in data["layers"]]
        for got, want in zip(found["maps"][1:], expected):
            assert got["shape"] == list(want.shape)
            scale = max(1.0, float(want.abs().max()))
            assert float((torch.tensor(got["data"]) - want.flatten()).abs().max()) < 1e-3 * scale
        side = min(height, width)
        ask = {"images": image[None], "scales": side}
        for key, options in (
            ("dense", {"method": "dense", "flip": False}),
            ("centre", {"method": "multi_crop", "grid": 1, "flip": False}),
            ("crops", {"method": "multi_crop"}),
        ):
            answer = found[key]
            posterior = torch.tensor(answer if key == "centre" else answer["posterior"])
            assert float((posterior - predict(net, **ask, **options)[0]).abs().max()) < 1e-4
        flipped = predict(net, **ask, method="dense")[0]
        assert float((torch.tensor(found["flipped"]) - flipped).abs().max()) < 1e-4


def test_work_is_that_of_the_package(browser, exported):
    data, _ = exported["D"]
    with opened(browser) as page:
        found = page.evaluate(
            "async (data) => { const e = vggEngine(); const net = await e.decode(data);"
            " return [64, 80, 146].map((q) => e.cost(net, q, q)); }",
            data,
        )
    assert found == [dense_macs("D", q, 64, 12, 0.0625) for q in (64, 80, 146)]


def test_fields_are_those_of_the_package(browser, exported):
    data, _ = exported["C"]
    with opened(browser) as page:
        found = page.evaluate(
            "async (data) => { const e = vggEngine(); const net = await e.decode(data);"
            " return net.layers.map((l) => ({ name: l.name, ...e.field(net, l.name) })); }",
            data,
        )
    rows = {row.name: row for row in receptive_field("C", image_size=64)}
    for layer in found:
        row = rows[layer["name"]]
        assert (layer["size"], layer["jump"]) == (row.size, row.jump)
        assert layer["left"] == row.start - row.size / 2


def test_a_units_sum_is_the_convolutions_value(browser, exported):
    data, net = exported["D"]
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    x = net.preprocessing(image[None])
    convs = [m for m in net.features if isinstance(m, nn.Conv2d)]
    raw = {}  # before ReLU
    with torch.inference_mode():
        for module in net.features:
            after = module(x)
            if module is convs[3]:
                raw["conv2_2"] = after[0].clone()  # ReLU overwrites it
            x = after
        x = x.flatten(1)
        for name, layer in zip(("fc1", "fc2", "fc3"), linear_layers(net)):
            raw[name] = layer(x)[0, :, None, None]
            x = layer(x).relu()
    places = [("conv2_2", 0, 0, 0), ("conv2_2", 5, 31, 31), ("conv2_2", 3, 10, 20)]
    places += [("fc1", 0, 0, 0), ("fc1", 9, 0, 0), ("fc2", 5, 0, 0), ("fc3", 11, 0, 0)]
    with opened(browser) as page:
        found = page.evaluate(
            """async ([data, pixels, places]) => {
              const engine = vggEngine();
              const net = await engine.decode(data);
              const maps = engine.forward(net, { h: 64, w: 64, data: Float32Array.from(pixels) });
              return places.map(([name, c, y, x]) => engine.unit(net, maps, name, c, y, x));
            }""",
            [data, image.flatten().tolist(), places],
        )
    for (name, c, y, x_), unit in zip(places, found):
        assert abs(unit["sum"] - float(raw[name][c, y, x_])) < 1e-3, name
        total = unit["bias"] + sum(
            t["value"] * t["weight"] for p in unit["parts"] for t in p["taps"]
        )
        assert abs(total - unit["sum"]) < 1e-3
    shapes = {
        name: [len(unit["parts"]), len(unit["parts"][0]["taps"])]
        for (name, *_), unit in zip(places, found)
    }
    linear = linear_layers(net)
    assert shapes["fc1"] == [convs[-1].out_channels, 4]  # the whole 2 x 2 map of every channel
    assert shapes["fc2"] == [linear[1].in_features, 1]


def test_files_written_for_the_page_are_up_to_date():
    assert (think.FOLDER / "scenes.js").read_text(encoding="utf-8") == think.scene_script()
    net = think.FOLDER / "net-D.js"
    assert net.stat().st_size <= 400_000
    assert export.load(net)["classes"] == list(think.shapes().classes)


@pytest.mark.parametrize("side", [64, 101])
def test_pictures_are_those_of_the_package(browser, side):
    expected, _ = think.shapes().batch(list(think.PICTURES), size=side)
    with opened(browser) as page:
        found = page.evaluate(
            "(side) => vggScenes.scenes.map("
            "(scene) => Array.from(vggScene.paint(vggScenes, scene, side).data))",
            side,
        )
    for got, want in zip(found, expected):
        difference = (torch.tensor(got) - want.flatten()).abs()
        assert float(difference.max()) <= 1  # one grey level, where a value falls on its edge
        assert float((difference > 0).double().mean()) < 0.01


def test_a_turned_and_moved_object_keeps_its_texture(browser):
    """Moving the object by whole pixels moves its pixels, where nothing else lies."""
    with opened(browser) as page:
        found = page.evaluate(
            """() => {
              const scene = structuredClone(vggScenes.scenes[0]);
              Object.assign(scene, { waves: [], bands: [], plain: [] });
              scene.ground.far = scene.ground.near;
              Object.assign(scene.light, { slope: 0, gain: 1 });
              Object.assign(scene.object, { x: 0.4, y: 0.4, r: 0.2 });
              const paint = (change) => Array.from(
                vggScene.paint(vggScenes, vggScene.changed(scene, change), 64).data);
              const there = { x: 0.4 + 8 / 64, y: 0.4 + 4 / 64 };
              return [paint({}), paint(there), paint({ turn: 2 * Math.PI })];
            }"""
        )
    here, there, around = (torch.tensor(picture).view(3, 64, 64) for picture in found)
    moved = here.roll((4, 8), (1, 2))
    assert float((moved[:, 10:60, 14:60] - there[:, 10:60, 14:60]).abs().max()) <= 1
    assert float((here - around).abs().max()) <= 1


def loaded(page):
    page.get_by_role("button", name="Load the trained net").click()
    page.wait_for_function("() => document.querySelector('.think').dataset.turn > 0")


def settled(page):
    page.wait_for_function(
        "() => { const t = document.querySelector('.think').instrument;"
        " return !t.busy && String(t.turn) === t.root.dataset.turn; }"
    )


def test_nothing_heavy_is_fetched_before_it_is_asked_for(browser):
    asked = []
    with opened(browser) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(200)
        assert not asked
        loaded(page)
    assert [url for url in asked if "net-D" in url]


def test_the_page_says_what_the_package_says(browser):
    net = export.read(think.FOLDER / "net-D.js")
    images, labels = think.shapes().batch(list(think.PICTURES), size=64)
    posteriors = predict(net, images, scales=64, flip=False)
    assert (
        float((posteriors.argmax(1) == labels).double().mean()) >= 0.75
    )  # a trained net, not a random one
    with opened(browser, "layers") as page:
        loaded(page)
        for index in range(3):
            page.get_by_label("Picture", exact=True).select_option(str(index))
            settled(page)
            said = page.evaluate("() => document.querySelector('.think').instrument.posterior")
            assert float((torch.tensor(said) - posteriors[index]).abs().max()) < 0.02
            name = net.classes[int(posteriors[index].argmax())]
            assert f"The net says {name}" in page.get_by_role("status").inner_text()


def test_layers_by_keyboard(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        page.get_by_label("Layer", exact=True).select_option("conv3_1")
        page.get_by_role("spinbutton", name="Channel").fill("7")
        page.get_by_role("spinbutton", name="Channel").press("Enter")
        settled(page)
        unit = page.locator(".think-map")
        unit.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            unit.press(key)
            page.wait_for_timeout(80)
        assert "conv3_1, channel 7, row 9, column 8" in unit.get_attribute("aria-label")
        text = page.locator(".think-sum").inner_text()
        assert "It sees 24 × 24 pixels" in text and "after ReLU" in text


def framed(row, unit: int, side: int = 64) -> float:
    """How many of the pixels that a unit sees along one axis lie in the picture."""
    first = row.start - row.size / 2 + unit * row.jump
    return min(side, first + row.size) - max(0, first)


def test_another_layer_shows_the_same_place_of_the_picture(browser):
    """The unit whose field's middle is nearest, by the package's arithmetic; there and back."""
    rows = {row.name: row for row in receptive_field("D", image_size=64)}
    start = rows["conv1_1"].start
    with opened(browser, "layers") as page:
        loaded(page)
        unit = page.locator(".think-map")
        box = unit.bounding_box()
        page.mouse.click(box["x"] + box["width"] * 40.5 / 64, box["y"] + box["height"] * 10.5 / 64)
        for name in ("conv3_3", "conv5_3", "pool5", "conv1_1"):
            page.get_by_label("Layer", exact=True).select_option(name)
            page.wait_for_function(
                "(n) => document.querySelector('.think-sum').textContent.startsWith(n)", arg=name
            )
            row = rows[name]
            y, x = (round((start + k - row.start) / row.jump) for k in (10, 40))
            assert f"row {max(0, y)}, column {x}:" in unit.get_attribute("aria-label"), name
            text = page.locator(".think-sum p").first.inner_text()
            sides = [framed(row, k) for k in (x, max(0, y))]
            if sides == [row.size, row.size]:
                assert text.endswith("framed in the picture.")
            else:
                assert f"The frame holds the {sides[0]:.0f} × {sides[1]:.0f} that lie" in text
            assert ("more than the picture's 64 × 64" in text) == (row.size > 64)


def test_a_click_pins_a_unit_until_it_is_released(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        page.get_by_label("Layer", exact=True).select_option("conv3_3")
        unit = page.locator(".think-map")
        unit.scroll_into_view_if_needed()
        box = unit.bounding_box()

        def at(row, column):
            cell = box["width"] / 16
            return box["x"] + cell * (column + 0.5), box["y"] + cell * (row + 0.5)

        def named(row, column):
            page.wait_for_function(
                "(part) => document.querySelector('.think-map').ariaLabel.includes(part)",
                arg=f"row {row}, column {column}:",
            )

        page.mouse.move(*at(3, 4))
        named(3, 4)
        page.mouse.click(*at(3, 5))
        named(3, 5)
        page.mouse.move(*at(10, 11))
        page.wait_for_timeout(100)
        named(3, 5)
        assert "Pinned" in page.locator(".think-map + figcaption").inner_text()
        page.mouse.click(*at(10, 11))  # another unit: the pin goes there
        page.mouse.move(*at(1, 1))
        page.wait_for_timeout(100)
        named(10, 11)
        page.keyboard.press("Escape")
        page.mouse.move(*at(2, 2))
        named(2, 2)
        unit.press("Enter")
        page.mouse.move(*at(6, 6))
        page.wait_for_timeout(100)
        named(2, 2)
        page.mouse.click(*at(2, 2))  # the pinned one: released
        page.mouse.move(*at(7, 6))
        named(7, 6)


def test_moving_the_object_by_keys_changes_what_is_said(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        picture = page.locator(".think-picture")
        before = picture.get_attribute("aria-label")
        picture.focus()
        for _ in range(4):
            picture.press("ArrowLeft")
        settled(page)
        assert picture.get_attribute("aria-label") != before


def answered(page) -> list[str]:
    settled(page)
    return page.locator(".think-answer li").all_inner_texts()


def test_what_is_no_class_is_grouped_and_said(browser):
    classes = think.shapes().classes
    with opened(browser) as page:
        loaded(page)
        for text, part, names in (("Outline", 0, think.SHAPES), ("Texture", 1, think.TEXTURES)):
            known = {name.split("-")[part] for name in classes}
            group = page.get_by_label(text, exact=True).locator("optgroup")
            assert group.get_attribute("label") == "not among the classes"
            strange = [name for name in names if name not in known]
            assert group.locator("option").all_inner_texts() == strange
        said = page.locator(".think-strange")
        page.get_by_label("Outline", exact=True).select_option("hexagon")
        settled(page)
        assert "There is no class hexagon-stripes" in said.inner_text()
        page.get_by_label("Outline", exact=True).select_option("star")
        settled(page)
        assert not said.inner_text()
        page.get_by_text("The 12 classes").click()
        assert page.locator(".think-classes").inner_text() == ", ".join(classes)
    text = (think.FOLDER.parents[1] / "see_it_think.md").read_text(encoding="utf-8")
    assert "disc, square, triangle or star, with stripes, checks or dots" in " ".join(text.split())


def test_occlusion_sweep(browser):
    with opened(browser) as page:
        loaded(page)
        whole = answered(page)
        caption = page.locator(".think-picture + figcaption")
        assert "Drag the object" in caption.inner_text()
        page.get_by_role("button", name="Occlusion").click()
        assert answered(page) != whole and "Drag the patch" in caption.inner_text()
        scale = page.locator(".think-scale")
        assert not scale.is_visible()
        page.get_by_role("button", name="Sweep").click()
        page.wait_for_function(
            "() => /worst place/.test(document.querySelector('.think-status').textContent)",
            timeout=60_000,
        )
        assert answered(page) == whole and scale.is_visible()
        page.locator(".think-picture").press("ArrowLeft")
        assert answered(page) != whole
        page.get_by_label("Patch", exact=True).press("ArrowRight")
        settled(page)
        assert not scale.is_visible()  # it was another patch


def test_testing_view_compares_the_three_protocols(browser):
    with opened(browser, "testing") as page:
        loaded(page)
        page.get_by_label("Q, the picture's side").fill("128")
        settled(page)
        assert "dense, 3 × 3 positions" in page.locator(".think-parts").inner_text()
        page.get_by_role("button", name="50 crops").click()
        page.wait_for_selector("text=The 50 crops took", timeout=120_000)
        assert page.locator(".think-parts tbody tr").count() == 3


def test_dense_is_often_less_sure_than_the_centre_crop():
    """What the testing view says, with the page's net: at the border of the map lies the doubt."""
    net, side = export.read(think.FOLDER / "net-D.js"), 128
    data = ShapesDataset("test", 60, seed=think.SEED, size=64, difficulty=0.15)
    images, _ = data.batch(list(range(60)), size=side)
    dense = predict(net, images, scales=side, method="dense", flip=False).amax(1)
    crop = predict(net, images, scales=side, method="multi_crop", grid=1, flip=False).amax(1)
    assert float((dense < crop).double().mean()) > 0.75
    with torch.inference_mode():
        cells = to_dense(net).eval()(net.preprocessing(images)).softmax(1).amax(1).mean(0)
    assert cells.shape == (3, 3) and float(cells[1, 1]) == float(cells.max())


def test_a_net_of_ones_own_and_files_that_are_none(browser, exported, tmp_path):
    data, _ = exported["A-LRN"]
    (tmp_path / "mine.json").write_text(json.dumps(data | {"name": "mine"}))
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "other.json").write_text("{}")
    short = data | {"layers": data["layers"][:-1]}
    (tmp_path / "short.json").write_text(json.dumps(short))
    with opened(browser, "layers") as page:
        loaded(page)
        page.get_by_text("Open a net of your own").click()
        chooser = page.get_by_label("File")
        for name, part in (
            ("text.json", "it is not JSON"),
            ("other.json", "no exported net"),
            ("short.json", "export the net again"),
        ):
            chooser.set_input_files(tmp_path / name)
            page.wait_for_function(
                "(part) => document.querySelector('.think-error').textContent.includes(part)",
                arg=part,
            )
        chooser.set_input_files(tmp_path / "mine.json")
        page.wait_for_function(
            "() => document.querySelector('.think-net').textContent.startsWith('mine')"
        )


@pytest.mark.parametrize("wide,scheme", [(390, "light"), (390, "dark"), (320, "light")])
def test_on_a_phone_nothing_is_cut(browser, wide, scheme):
    context = {
        "viewport": {"width": wide, "height": 800},
        "has_touch": True,
        "color_scheme": scheme,
    }
    with opened(browser, **context) as page:
        loaded(page)
        page.get_by_text("Change the picture").tap()
        for view in ("Occlusion", "Testing", "Layers"):
            page.get_by_role("button", name=view, exact=True).tap()
            settled(page)
            width = page.evaluate("() => document.documentElement.scrollWidth")
            assert width <= wide, view
        for layer in ("conv5_3", "fc1", "fc3"):
            page.get_by_label("Layer", exact=True).select_option(layer)
            page.wait_for_timeout(100)
            width = page.evaluate("() => document.documentElement.scrollWidth")
            assert width <= wide, layer


def test_it_works_from_disk(browser, tmp_path):
    text = page_with("layers")
    for path in think.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    loaded(page)
    assert "The net says" in page.locator(".think-status").inner_text()
    page.close()


# What the chapters and the page show, by their own text.
SHOWN = {
    "book/see_it_think.md": ["layers", "occlusion", "testing"],
    "notebooks/01_architecture.ipynb": ["layers", "occlusion"],
    "notebooks/02_receptive_field_and_parameters.ipynb": ["layers"],
    "notebooks/06_multi_scale_testing.ipynb": ["testing"],
}
OF_A_VIEW = {
    "layers": {"layers.js", "units.js", "sum.js"},
    "occlusion": {"occlusion.js"},
    "testing": {"testing.js", "scoremap.js"},
}


@pytest.mark.parametrize("place", SHOWN)
def test_a_page_loads_the_views_that_it_shows(place):
    """And no other's files; the net itself only when the reader asks."""
    text = (ROOT / place).read_text(encoding="utf-8").replace('\\"', '"')
    scripts, styles = interactive.needed(text)
    loaded = {name.removeprefix("think/") for name in scripts if name.startswith("think/")}
    files = {path.name for path in think.FOLDER.glob("*.js")}
    others = [
        name for view, names in OF_A_VIEW.items() if view not in SHOWN[place] for name in names
    ]
    assert loaded == files - {"net-D.js"} - set(others)
    assert "think/think.css" in styles
    assert interactive.needed("<p>think</p>") == ([], [])


def test_each_script_is_short_and_says_what_it_is_for():
    for path in think.FOLDER.glob("*.js"):
        if path.name in ("net-D.js", "scenes.js"):  # numbers
            continue
        text = path.read_text(encoding="utf-8")
        assert text.startswith("/* ") and len(text.splitlines()) <= 300, path.name


def test_without_javascript_a_sentence_stands_there(browser):
    with opened(browser, java_script_enabled=False) as page:
        assert "needs JavaScript" in page.locator(".think").inner_text()
