"""The net in the page, as a reader uses it: the score map and its windows, the FC layers, an object
dragged over the border, files that are refused, the keyboard, a phone's one screen.

What the page computes is tested in test_think.py.
"""

import json
import math

import pytest
import torch
from test_think import loaded, net_of, opened, settled
from torch.nn import functional as F

from tools import think
from vggbook import receptive_field, to_dense
from vggbook.book import export

Q = 128
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
HEADER = 60  # pixels of a phone's screen that the book's own bar covers


@pytest.fixture(scope="module")
def net():
    """The page's net as PyTorch reads it."""
    return export.read(think.FOLDER / "net-D.js")


def painted(side: int = 64):
    """The page's first picture, by the package: (1, 3, side, side)."""
    return think.shapes().batch([think.PICTURES[0]], size=side)[0]


def instrument(page, what: str):
    """A value of the instrument, by an expression of `it`."""
    return page.evaluate(
        f"() => {{ const it = document.querySelector('.think').instrument; return {what}; }}"
    )


# ---- the score map


@pytest.fixture(scope="module")
def shares(net):
    """Posteriors of the package's dense net at Q: (classes, rows, columns)."""
    with torch.inference_mode():
        return to_dense(net).eval()(net.preprocessing(painted(Q))).softmax(1)[0]


def mapped(page, q: int = Q):
    loaded(page)
    page.get_by_label("Q, the picture's side").fill(str(q))
    settled(page)


@pytest.mark.parametrize("rows,columns,factor", [(1, 1, 4), (2, 3, 5), (3, 3, 32)])
def test_colours_between_the_scores_are_bilinear(browser, rows, columns, factor):
    values = torch.rand(rows, columns, generator=torch.Generator().manual_seed(rows))
    with opened(browser) as page:
        found = page.evaluate(
            "([values, rows, columns, factor]) =>"
            " Array.from(vggThink.smooth(values, rows, columns, factor))",
            [values.flatten().tolist(), rows, columns, factor],
        )
    options = {"scale_factor": factor, "mode": "bilinear", "align_corners": False}
    want = F.interpolate(values[None, None], **options).flatten()
    assert float((torch.tensor(found) - want).abs().max()) < 1e-6


def test_the_map_shows_the_dense_net_s_scores(browser, net, shares):
    """A tile a score, in rows and columns as PyTorch has them; of any class."""
    with opened(browser, "testing") as page:
        mapped(page)
        for name in ("the answer", "disc-stripes", "star-dots"):
            page.get_by_label("Scores of").select_option(label=name)
            answer = int(shares.mean((1, 2)).argmax())
            c = answer if name == "the answer" else net.classes.index(name)
            tiles = page.locator(".think-scores button")
            assert tiles.count() == shares[c].numel() == 9
            for i, share in enumerate(shares[c].flatten().tolist()):
                tile = tiles.nth(i)
                assert abs(int(tile.inner_text().removesuffix(" %")) - 100 * share) < 1.6
                place = f"row {i // 3}, column {i % 3}: "
                assert tile.get_attribute("aria-label").startswith(place)
            assert f"how sure of {net.classes[c]}" in page.locator("figcaption").nth(1).inner_text()


def test_each_score_lies_at_the_middle_of_its_window(browser, net):
    """The crops of 64 pixels round the middles that the package computes; framed and said."""
    row = next(row for row in receptive_field("D", image_size=64) if row.name == "fc1")
    with opened(browser, "testing") as page:
        mapped(page)
        page.get_by_label("map over the picture").uncheck()
        told = page.locator(".think-told")
        for r in range(3):
            for c in range(3):
                page.locator(f'button[data-row="{r}"][data-column="{c}"]').hover()
                left, top = (round(row.start + k * row.jump - 32) for k in (c, r))
                text = f"pixels {left} to {left + 63} across, {top} to {top + 63} down"
                assert f"Row {r}, column {c}:" in told.inner_text() and text in told.inner_text()
                assert f"its field is {row.size} × {row.size}" in told.inner_text()
                edges = {v for v in (left, left + 64) if 0 < v < Q}
                scale = instrument(page, f"it.hand.canvas.width / {Q}")
                for edge in edges:  # the frame's white line, beside the dots
                    at = f"{edge * scale}, {(top + 10) * scale}"
                    pixel = instrument(
                        page, f"[...it.hand.canvas.getContext('2d').getImageData({at}, 1, 1).data]"
                    )
                    assert min(pixel[:3]) > 240


def test_the_overlay_is_the_interpolated_map_and_nothing_where_no_score_is(browser, net, shares):
    """Against PyTorch: 32 pixels a score, from 16 off the corner; the rest of the picture stays."""
    c = int(shares.mean((1, 2)).argmax())
    options = {"scale_factor": 32, "mode": "bilinear", "align_corners": False}
    share = F.interpolate(shares[c][None, None], **options)[0]  # (1, 96, 96)
    picture = painted(Q)[0].float()
    blue = torch.tensor([0.0, 114.0, 178.0])[:, None, None]
    tint = 255 + share * (blue - 255)
    want = picture.clone()
    inner = (slice(None), slice(16, 112), slice(16, 112))
    want[inner] = 0.35 * picture[inner].mean(0) + 0.65 * tint
    with opened(browser, "testing") as page:
        mapped(page)
        found = torch.tensor(
            instrument(page, "Array.from(it.view.scores.overlaid(it.picture).data)")
        ).view(3, Q, Q)
        shown = instrument(
            page, "[...it.hand.canvas.getContext('2d').getImageData(0, 0, 1, 1).data]"
        )
    assert float((found - want).abs().max()) < 2
    outside = torch.ones(Q, Q, dtype=torch.bool)
    outside[16:112, 16:112] = False
    assert float((found - picture)[:, outside].abs().max()) <= 1
    assert shown[3] == 255


def test_one_score_at_the_training_size(browser):
    with opened(browser, "testing") as page:
        mapped(page, 64)
        assert page.locator(".think-scores button").count() == 1
        assert "Its window is the whole picture" in page.locator(".think-told").inner_text()
        assert "One score, at the dot" in page.locator(".think-resolution").inner_text()


def test_the_map_says_how_coarse_it_is(browser):
    with opened(browser, "testing") as page:
        mapped(page)
        text = page.locator(".think-resolution").inner_text()
    assert "9 scores, at the dots, 32 pixels apart; the colours between are interpolated" in text


def test_scores_by_keyboard_and_from_the_picture(browser):
    """One stop of the Tab key for the whole map; arrows choose; pointing at the picture too."""
    with opened(browser, "testing") as page:
        mapped(page)
        page.get_by_label("map over the picture").focus()
        page.keyboard.press("Tab")  # the picture
        page.keyboard.press("Tab")  # the map
        told = page.locator(".think-told")
        for key, place in (
            ("ArrowRight", "Row 0, column 1:"),
            ("ArrowDown", "Row 1, column 1:"),
            ("ArrowDown", "Row 2, column 1:"),
            ("ArrowDown", "Row 2, column 1:"),
            ("ArrowLeft", "Row 2, column 0:"),
        ):
            page.keyboard.press(key)
            assert told.inner_text().startswith(place)
        focused = (
            "() => [document.activeElement.dataset.row, document.activeElement.dataset.column]"
        )
        assert page.evaluate(focused) == ["2", "0"]
        assert page.locator('.think-scores button[aria-pressed="true"]').count() == 1
        page.keyboard.press("Tab")
        assert page.evaluate("() => !document.activeElement.closest('.think-scores')")
        box = page.locator(".think-picture").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 97 / Q, box["y"] + box["height"] * 30 / Q)
        assert told.inner_text().startswith("Row 0, column 2:")


def luminance(rgb):
    parts = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_numbers_stand_out_on_every_tile(browser):
    """At every share, chosen or not: a contrast of at least 4.5."""
    with opened(browser, "testing") as page:
        mapped(page)
        for i in range(0, 101, 4):
            found = page.evaluate(
                """(share) => {
                  const it = document.querySelector('.think').instrument;
                  for (const posterior of it.view.scores.map.positions) posterior.fill(share);
                  it.view.scores.show();
                  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
                  return [...document.querySelectorAll('.think-scores button')].slice(0, 2)
                    .map((tile) => getComputedStyle(tile))
                    .map((style) => [rgb(style.color), rgb(style.backgroundColor)]);
                }""",
                i / 100,
            )
            for ink, ground in found:
                high, low = sorted((luminance(ink[:3]), luminance(ground[:3])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, i


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_picture_and_map_lie_together_on_a_phone_s_screen(browser, scheme):
    """From the view's own controls to the end of the map, below the book's bar."""
    with opened(browser, color_scheme=scheme, **PHONE) as page:
        loaded(page)
        for view, map_ in (("Layers", ".think-map"), ("Testing", ".think-scores")):
            page.get_by_role("button", name=view, exact=True).tap()
            settled(page)
            if view == "Testing":
                page.get_by_label("Q, the picture's side").fill("146")
                settled(page)
            boxes = [
                page.locator(part).bounding_box()
                for part in (".think-asked", ".think-picture", map_)
            ]
            top = min(box["y"] for box in boxes)
            bottom = max(box["y"] + box["height"] for box in boxes)
            assert bottom - top < 844 - HEADER, view
            _, picture, shown = boxes
            assert abs(picture["y"] - shown["y"]) < 2 and picture["width"] > 140
            assert shown["x"] >= picture["x"] + picture["width"]
            assert shown["x"] + shown["width"] <= 390 and shown["width"] > 140
        # the answer too, while the reader moves Q
        answer = page.locator(".think-answer").bounding_box()
        tabs = page.locator(".think-tabs").bounding_box()
        assert answer["y"] - tabs["y"] < 844 - HEADER


def test_a_finger_chooses_a_score(browser):
    with opened(browser, "testing", **PHONE) as page:
        mapped(page)
        page.locator('button[data-row="2"][data-column="1"]').tap()
        assert page.locator(".think-told").inner_text().startswith("Row 2, column 1:")


# ---- the FC layers


@pytest.fixture(scope="module")
def vectors(net):
    """What the FC layers of the page's net give for the first picture, after ReLU but the last."""
    found, x = {}, net.features(net.preprocessing(painted())).flatten(1)
    linear = [module for module in net.classifier if isinstance(module, torch.nn.Linear)]
    with torch.inference_mode():
        for name, layer in zip(("fc1", "fc2", "fc3"), linear):
            x = layer(x)
            x = x if name == "fc3" else x.relu()
            found[name] = x[0]
    return found


def chosen(page, layer: str) -> str:
    """Choose a layer; the line that tells its unit."""
    page.get_by_label("Layer", exact=True).select_option(layer)
    page.wait_for_function(
        "(n) => document.querySelector('.think-sum').textContent.startsWith(n)", arg=layer
    )
    return page.locator(".think-sum p").first.inner_text()


def test_every_layer_can_be_read(browser, net):
    with opened(browser, "layers") as page:
        loaded(page)
        names = page.get_by_label("Layer", exact=True).locator("option").all_inner_texts()
    assert names == [row.name for row in receptive_field("D", image_size=64)][: len(names)]
    assert names[-3:] == ["fc1", "fc2", "fc3"]


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_a_vector_folded_into_a_square(browser, vectors, layer):
    """How many units answer, the strongest first, and each by pointing and by key."""
    values = vectors[layer]
    active, strongest = int((values > 1e-3).sum()), int(values.argmax())
    with opened(browser, "layers") as page:
        loaded(page)
        line = chosen(page, layer)
        assert f"{layer}, unit {strongest}: " in line
        shown = float(page.locator(".think-sum strong").inner_text().replace(",", ""))
        assert abs(shown - float(values[strongest])) < 2e-2
        text = page.locator(".think-vector").inner_text()
        assert f"{layer} is a vector: " in text and "has no place in the picture" in text
        assert abs(int(text.split(": ")[1].split(" ")[0]) - active) <= 2  # rounding of pixels
        assert f"its kernel is {'the whole last map, 2 × 2' if layer == 'fc1' else '1 × 1'}" in text
        assert page.get_by_role("spinbutton", name="Unit").input_value() == str(strongest)
        drawing = page.locator(".think-map")
        box = drawing.bounding_box()
        cell = box["width"] / 16
        page.mouse.click(box["x"] + 4.5 * cell, box["y"] + 2.5 * cell)  # unit 2 * 16 + 4
        for key, unit in (("", 36), ("ArrowDown", 52), ("ArrowRight", 53), ("ArrowUp", 37)):
            if key:
                drawing.press(key)
            page.wait_for_function(
                "(part) => document.querySelector('.think-map').ariaLabel.startsWith(part)",
                arg=f"{layer}, unit {unit}: ",
            )
        white = instrument(
            page,
            "((c) => [...c.getContext('2d').getImageData("
            f"({strongest} % 16 + 0.5) * c.width / 16, (Math.floor({strongest} / 16) + 0.5)"
            " * c.width / 16, 1, 1).data])(it.view.units.large)",
        )
        assert white[0] == 255  # the strongest unit


def test_class_scores_as_bars(browser, net, vectors):
    """The last layer has no ReLU: scores below 0 too; its sums open by key, focus kept."""
    with opened(browser, "layers") as page:
        loaded(page)
        line = chosen(page, "fc3")
        best = int(vectors["fc3"].argmax())
        assert f"fc3, unit {best} ({net.classes[best]}): " in line
        assert not page.locator(".think-map").is_visible()
        items = page.locator(".think-signed li")
        assert items.count() == len(net.classes)
        most = float(vectors["fc3"].abs().max())
        for i, score in enumerate(vectors["fc3"].tolist()):
            name, shown = items.nth(i).locator("button span").all_inner_texts()
            assert name == net.classes[i]
            assert abs(float(shown.replace("−", "-")) - score) < 0.12
            bar = items.nth(i).locator(".think-zero > span")
            track = items.nth(i).locator(".think-zero").bounding_box()
            box = bar.bounding_box()
            zero = track["x"] + track["width"] / 2
            edge = box["x"] + box["width"] if score > 0 else box["x"]
            assert abs((edge - zero) / (track["width"] / 2) - score / most) < 0.03
        items.nth(4).locator("button").focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('.think-sum').textContent.startsWith('fc3, unit 4 ')"
        )
        assert "the class score: no ReLU follows" in page.locator(".think-sum").inner_text()
        assert page.evaluate("() => document.activeElement.innerText").startswith(net.classes[4])
        chosen(page, "conv1_1")
        assert page.locator(".think-map").is_visible() and items.count() == 0


def test_fc_units_see_more_than_the_picture(browser):
    row = next(row for row in receptive_field("D", image_size=64) if row.name == "fc1")
    with opened(browser, "layers") as page:
        loaded(page)
        line = chosen(page, "fc1")
    assert f"It sees {row.size} × {row.size} pixels, more than the picture's 64 × 64" in line


# ---- over the border


def test_the_share_of_a_disc_in_the_picture(browser):
    """Closed forms: half of a disc beyond an edge, a quarter at a corner, a segment."""
    segment = (math.acos(0.5) - 0.5 * math.sqrt(0.75)) / math.pi
    cases = [(0.5, 0.5, 1), (0, 0.5, 0.5), (1, 1, 0.25), (0.5, 1.1, segment), (-0.3, 0.5, 0)]
    with opened(browser) as page:
        found = page.evaluate(
            """(cases) => cases.map(([x, y]) => {
              const object = { ...vggScenes.scenes[0].object, shape: 0, r: 0.2, tilt: 1, x, y };
              return vggScene.inside(vggScenes, { object });
            })""",
            cases,
        )
    for (_, _, want), got in zip(cases, found):
        assert abs(got - want) < 0.01


def dragged(page, start, end):
    """Press the mouse at a place of the picture, in units of its side, and let it go at another."""
    box = page.locator(".think-picture").bounding_box()
    place = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*place[0])
    page.mouse.down()
    page.mouse.move(*place[1], steps=4)
    page.mouse.up()
    settled(page)


def middle(page):
    return instrument(page, "[it.scene.object().x, it.scene.object().y]")


def test_an_object_is_taken_where_it_is_touched(browser):
    """It moves as far as the hand does; a press beside it brings its middle there."""
    with opened(browser, "layers") as page:
        loaded(page)
        before = middle(page)
        dragged(page, (before[0] + 0.2, before[1]), (before[0] + 0.1, before[1] - 0.2))
        x, y = middle(page)
        assert abs(x - before[0] + 0.1) < 0.01 and abs(y - before[1] + 0.2) < 0.01
        page.get_by_label("Size").fill("0.4")
        dragged(page, (0.1, 0.9), (0.1, 0.9))
        assert [round(v, 2) for v in middle(page)] == [0.1, 0.9]


def test_an_object_leaves_the_picture_and_comes_back(browser):
    """Half outside, the page says how much is left; outside, the picture is the ground alone."""
    with opened(browser, "layers") as page:
        loaded(page)
        said = page.locator(".think-strange")
        assert not said.inner_text()
        x, y = middle(page)
        dragged(page, (x, y), (0, 0.5))
        assert "50 % of the object lies in the picture" in said.inner_text()
        assert "its convolutions read zeros" in said.inner_text()
        assert "(true)" in page.locator(".think-answer").inner_text()
        dragged(page, (0.02, 0.5), (-1.5, 0.5))  # far beyond
        assert "The object lies outside" in said.inner_text()
        assert "(true)" not in page.locator(".think-answer").inner_text()
        alike = page.evaluate(
            """() => {
              const it = document.querySelector('.think').instrument;
              const scene = structuredClone(it.scene.scene());
              Object.assign(scene.object, { x: -40, y: -40 });
              const ground = vggScene.paint(vggScenes, scene, 64).data;
              return it.scene.paint(64).data.every((value, i) => value === ground[i]);
            }"""
        )
        assert alike
        radius = instrument(page, "it.scene.object().r")
        assert abs(middle(page)[0] + radius) < 1e-6  # no further than out of sight
        dragged(page, (0.5, 0.5), (0.5, 0.5))
        assert middle(page) == pytest.approx([0.5, 0.5], abs=0.01)
        assert "outside" not in said.inner_text()


def test_keys_move_an_object_over_the_border(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        picture = page.locator(".think-picture")
        for _ in range(40):
            picture.press("ArrowUp")
        settled(page)
        assert "The object lies outside" in page.locator(".think-strange").inner_text()
        for _ in range(20):
            picture.press("ArrowDown")
        settled(page)
        assert "outside" not in page.locator(".think-strange").inner_text()


def test_drawing_by_key(browser):
    """Each arrow key sets a stroke beside the last one, and the object stays."""
    with opened(browser, "layers") as page:
        loaded(page)
        before = middle(page)
        page.get_by_label("draw over it").check()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
            page.locator(".think-picture").press(key)
        settled(page)
        strokes = instrument(page, "it.scene.strokes.map(({ x, y }) => [x, y])")
        assert strokes == [[17 / 32, 0.5], [18 / 32, 0.5], [18 / 32, 17 / 32]]
        assert middle(page) == before
        page.get_by_role("button", name="As it was").click()
        settled(page)
        assert instrument(page, "it.scene.strokes.length") == 0
        assert page.get_by_label("draw over it").is_checked()  # and it still draws


# ---- files


def file_of(name: str) -> dict:
    """What an exported file of a small net with random weights holds."""
    made, preprocessing = net_of(name)
    return export.describe(made, [f"class {i}" for i in range(12)], preprocessing)


def refused(page, chooser, file, part: str) -> None:
    """The file is refused with these words, beside the field, as an alert."""
    chooser.set_input_files(file)
    alert = page.locator("details", has=chooser).get_by_role("alert")
    page.wait_for_function(
        "(part) => document.querySelector('.think [role=alert]').textContent.includes(part)",
        arg=part,
    )
    assert chooser.get_attribute("aria-invalid") == "true"
    assert chooser.get_attribute("aria-describedby") == alert.get_attribute("id")
    field, said = chooser.bounding_box(), alert.bounding_box()
    assert 0 <= said["y"] - field["y"] - field["height"] < 20


def files(data, folder):
    """Files that are no net of ours, each with what the page must say of it."""
    layers = data["layers"]
    broken = {
        "text": ("hello", "text.json is no exported net: it is not JSON"),
        "cut": (json.dumps(data)[:-40], "cut.json is no exported net: it is not JSON"),
        "other": ({}, "no exported net: its format"),
        "lacking": ({k: v for k, v in data.items() if k != "scales"}, 'lacks "scales"'),
        "kinds": (data | {"layers": [{"kind": "attention"}, *layers]}, "Layer 1 of the file"),
        "numbers": (
            data | {"layers": [{"name": "conv1_1", "kind": "conv"}, *layers[1:]]},
            'Layer 1 of the file lacks the number "in"',
        ),
        "nolist": (data | {"layers": 3}, '"layers" is no list'),
        "damaged": (data | {"weights": "?" * 40}, "weights are damaged"),
        "biases": (data | {"biases": ""}, "biases are damaged"),
        "spoilt": (data | {"weights": data["weights"][:200] + "A" * 200}, "weights are damaged"),
        "classes": (data | {"classes": ["a"]}, "12 scores for 1 classes"),
        "crop": (data | {"size": [96, 96]}, "The first FC layer takes"),
    }
    for name, (content, part) in broken.items():
        path = folder / f"{name}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        yield path, part
    picture = folder / "photo.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    yield picture, "photo.png is a picture: choose an exported net, a .json file"
    checkpoint = folder / "last.pt"
    checkpoint.write_bytes(b"PK\x03\x04" + bytes(5000))
    yield checkpoint, "last.pt is no exported net: it is not JSON"


def test_what_is_wrong_with_a_file_stands_beside_its_field(browser, tmp_path):
    data = file_of("A-LRN")
    (tmp_path / "mine.json").write_text(json.dumps(data | {"name": "mine"}))
    with opened(browser, "layers") as page:
        loaded(page)
        page.get_by_text("Open a net of your own").click()
        chooser = page.get_by_label("File")
        said = page.get_by_role("status").inner_text()
        for path, part in files(data, tmp_path):
            refused(page, chooser, path, part)
        assert page.get_by_role("status").inner_text() == said  # the net above stays
        assert page.locator(".think-net").inner_text().startswith("D:")
        chooser.focus()
        chooser.set_input_files(tmp_path / "mine.json")
        page.wait_for_function(
            "() => document.querySelector('.think-net').textContent.startsWith('mine')"
        )
        settled(page)
        assert not page.get_by_role("alert").inner_text()
        assert chooser.get_attribute("aria-invalid") is None and chooser.is_visible()
        assert "mine.json is open: mine, 12 classes" in page.locator(".think-opened").inner_text()
        assert page.evaluate("() => document.activeElement.type") == "file"
        chooser.set_input_files(tmp_path / "text.json")
        page.wait_for_function("() => document.querySelector('.think [role=alert]').textContent")
        assert not page.locator(".think-opened").inner_text()


def test_the_same_file_mended_is_read_anew(browser, tmp_path):
    data = file_of("D")
    path = tmp_path / "mine.json"
    path.write_text("{")
    with opened(browser, "layers") as page:
        loaded(page)
        page.get_by_text("Open a net of your own").click()
        chooser = page.get_by_label("File")
        refused(page, chooser, path, "not JSON")
        path.write_text(json.dumps(data | {"name": "mended"}))
        chooser.set_input_files(path)
        page.wait_for_function(
            "() => document.querySelector('.think-net').textContent.startsWith('mended')"
        )


# ---- the keyboard's place


def test_focus_stays_where_the_reader_works(browser):
    """After loading it stands in the instrument; another picture leaves it on the list."""
    with opened(browser) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('.think').dataset.turn > 0")
        assert page.evaluate("() => document.activeElement.textContent") == "Layers"
        pictures = page.get_by_label("Picture", exact=True)
        page.get_by_label("Turn").fill("90")
        page.get_by_label("Outline").select_option("star")
        pictures.focus()
        pictures.press("ArrowDown")
        settled(page)
        assert pictures.input_value() == "1"
        assert pictures.evaluate("(e) => e === document.activeElement")
        shape = instrument(page, "vggScenes.scenes[1].object.shape")
        assert page.get_by_label("Outline").input_value() == str(shape)
        assert page.get_by_label("Turn").input_value() == "0"


def test_sliders_say_their_values(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        for name, value, words in (("Size", "0.8", "80 %"), ("Turn", "-45", "−45°")):
            slider = page.get_by_label(name)
            slider.fill(value)
            assert slider.get_attribute("aria-valuetext") == words
        paint = page.get_by_label("Paint")
        assert paint.get_attribute("aria-valuetext") == "its own"
        paint.fill("120")
        assert paint.get_attribute("aria-valuetext") == "hue 120°"
        page.get_by_role("button", name="As it was").click()
        settled(page)
        assert paint.get_attribute("aria-valuetext") == "its own"
        assert page.get_by_label("Size").get_attribute("aria-valuetext") == "100 %"


# ---- what comes while something else is under way


def test_a_late_sum_does_not_stand_under_another_layer(browser):
    """Layers chosen one after the other, faster than the worker answers: the last one's line."""
    with opened(browser, "layers") as page:
        loaded(page)
        page.evaluate(
            """() => {
              const layer = [...document.querySelectorAll('.think label')]
                .find((label) => label.textContent === 'Layer').control;
              for (const name of ['conv5_3', 'pool5']) {
                layer.value = name;
                layer.dispatchEvent(new Event('change'));
              }
            }"""
        )
        page.wait_for_timeout(500)
        said = page.locator(".think-sum").inner_text()
        assert said.startswith("pool5,") and "The largest of the units below it" in said


def test_after_a_failed_question_the_next_picture_is_asked_for(browser):
    """The picture changes while a question is under way that fails: the answer is the new one's."""
    with opened(browser, "layers") as page:
        loaded(page)
        page.evaluate(
            """() => {
              const it = document.querySelector('.think').instrument;
              const ask = vggThink.ask;
              vggThink.ask = async () => {
                vggThink.ask = ask;
                it.refresh();
                throw new Error('no answer');
              };
              it.refresh();
            }"""
        )
        settled(page)
        assert "The net says" in page.get_by_role("status").inner_text()


def test_a_net_opened_after_a_sweep_has_its_own_occlusion(browser, tmp_path):
    """The old net's map goes; the controls still show what was changed of the picture."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(file_of("D") | {"name": "mine"}))
    with opened(browser, "occlusion") as page:
        loaded(page)
        page.get_by_label("Size").fill("0.8")
        page.get_by_label("Turn").fill("-45")
        page.get_by_label("Paint").fill("120")
        page.get_by_label("Outline").select_option("star")
        settled(page)
        page.get_by_role("button", name="Sweep").click()
        page.wait_for_selector("text=worst place", timeout=60_000)
        page.get_by_text("Open a net of your own").click()
        page.get_by_label("File").set_input_files(path)
        page.wait_for_selector("text=mine.json is open")
        settled(page)
        assert not page.locator(".think-scale").is_visible()
        patch = instrument(
            page,
            "((c) => [...c.getContext('2d').getImageData(c.width / 2, c.width / 2, 1, 1).data])"
            "(it.hand.canvas)",
        )
        assert patch == [128, 128, 128, 255]
        for name, value, words in (
            ("Size", "0.8", "80 %"),
            ("Turn", "-45", "−45°"),
            ("Paint", "120", "hue 120°"),
        ):
            slider = page.get_by_label(name)
            assert slider.input_value() == value
            assert slider.get_attribute("aria-valuetext") == words
        assert page.get_by_label("Outline").locator("option:checked").inner_text() == "star"


def test_the_crops_have_one_row_and_the_button_keeps_the_focus(browser):
    with opened(browser, "testing") as page:
        loaded(page)
        button = page.get_by_role("button", name="50 crops")
        for _ in range(2):
            button.focus()
            page.keyboard.press("Enter")
            page.wait_for_function("(b) => b.disabled", arg=button.element_handle())
            page.wait_for_function(
                "(b) => !b.disabled", arg=button.element_handle(), timeout=120_000
            )
            assert button.evaluate("(b) => b === document.activeElement")
        heads = page.locator(".think-parts tbody th").all_inner_texts()
        assert heads == ["centre crop", "dense, 1 × 1 positions", "50 crops"]


# ---- input that means something else


def test_a_channel_is_a_whole_number(browser):
    with opened(browser, "layers") as page:
        loaded(page)
        channel = page.get_by_role("spinbutton", name="Channel")
        for typed, shown in (("4.6", "5"), ("-3", "0"), ("1e6", "7"), ("", "0")):
            channel.fill(typed)
            channel.press("Enter")
            page.wait_for_function(
                "(part) => document.querySelector('.think-sum').textContent.startsWith(part)",
                arg=f"conv1_1, channel {shown},",
            )
            assert channel.input_value() == shown
        assert "The net says" in page.get_by_role("status").inner_text()


def test_the_object_moves_by_the_main_button_and_by_plain_arrows(browser):
    """A press of the right button opens a menu, Alt and an arrow go back a page."""
    with opened(browser, "layers") as page:
        loaded(page)
        before = middle(page)
        picture = page.locator(".think-picture")
        picture.click(button="right", position={"x": 20, "y": 20})
        page.mouse.move(300, 300)
        for keys in ("Control+ArrowLeft", "Alt+ArrowUp", "Meta+ArrowDown"):
            picture.press(keys)
        settled(page)
        assert middle(page) == before
        picture.press("ArrowLeft")
        settled(page)
        assert middle(page) == pytest.approx([before[0] - 1 / 32, before[1]])
