"""The explorer in a real browser: its arithmetic and its displayed numbers against the package, its
refusals, its keyboard.

Kept apart from the built book: the page under test holds the widgets and the files of
book/_static/explorer alone. What the views of connections, testing and memory compute is tested in
test_explorer_views.py.
"""

import html as markup
import json
import math
import random
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn

from tools import explorer
from vggbook.arithmetic import count_parameters, smallest_image, walk
from vggbook.configs import CONFIGS, Config, Conv, Pool

SIZES = (96, 224, 227, 256, 448)
NETWORK = (
    '<div class="explorer" data-view="network" data-config="D" data-layer="conv5_3" data-table>'
    "</div>"
)
STACK = '<div class="explorer" data-view="stack"></div>'
LATER = ("connections", "testing", "memory")
VIEWS = ("network", "stack", *LATER)  # each has a script of its own
EVERY = NETWORK + STACK + "".join(f'<div class="explorer" data-view="{v}"></div>' for v in LATER)
SCRIPTS = ("configs", "arithmetic", "kit", *VIEWS)
# texts of a drawing that reach beyond it
CUT = """() => [...document.querySelectorAll(".explorer svg text")].filter((t) => {
    const inner = t.getBoundingClientRect();
    const outer = t.ownerSVGElement.getBoundingClientRect();
    return inner.right > outer.right + 1 || inner.left < outer.left - 1;
}).map((t) => t.textContent)"""
# options that their select cannot show whole: text and missing pixels
CUT_OPTIONS = """() => [
    ...document.querySelectorAll("select")
].filter((e) => e.clientWidth).map((e) => {
    const style = getComputedStyle(e);
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${style.fontSize} ${style.fontFamily}`;
    const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const room = e.clientWidth - padding - 20;
    return [...e.options].map((o) => [o.text, pen.measureText(o.text).width - room]);
}).flat().filter(([, over]) => over > 0)"""
TYPES = {".js": "text/javascript", ".css": "text/css", ".jpg": "image/jpeg"}


def test_configurations_written_for_the_page_are_those_of_the_package():
    assert (explorer.FOLDER / "configs.js").read_text() == explorer.config_script(), (
        "run python -m tools.explorer"
    )
    data = json.loads(re.search(r"= (\[.*\]);", explorer.config_script(), re.S)[1])
    assert [c["name"] for c in data] == list(CONFIGS)


def test_photograph_is_small_and_square():
    from PIL import Image

    path = explorer.FOLDER / "photo.jpg"
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert image.size == (explorer.SIDE, explorer.SIDE)


def test_nothing_is_loaded_from_another_host():
    text = "".join(
        (explorer.FOLDER / name).read_text()
        for name in ("explorer.css", *(f"{script}.js" for script in SCRIPTS))
    )
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}


@contextmanager
def opened(browser, body: str, theme: str = "light", **context):
    """A page with these widgets and nothing else; whatever it asks for beyond its own files fails
    the test.
    """
    context.setdefault("viewport", {"width": 1000, "height": 900})
    ctx = browser.new_context(**context)
    ctx.set_default_timeout(5000)
    page, trouble = ctx.new_page(), []
    scripts = "".join(f'<script src="{name}.js" defer></script>' for name in SCRIPTS)
    text = (
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><title>Explorer</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="explorer.css">'
        f"{scripts}</head>"
        f"<body><main><h1>Explorer</h1>{body}</main></body></html>"
    )

    def serve(route):
        name = route.request.url.removeprefix("http://explorer.test/")
        path = explorer.FOLDER / name
        if not name:
            route.fulfill(body=text, content_type="text/html; charset=utf-8")
        elif route.request.url.startswith("http://explorer.test/") and path.is_file():
            route.fulfill(
                body=path.read_bytes(), content_type=TYPES[path.suffix] + "; charset=utf-8"
            )
        else:
            trouble.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", serve)
    page.on("pageerror", lambda error: trouble.append(f"error {error}"))
    page.on(
        "console",
        lambda m: trouble.append(f"console {m.text}") if m.type in ("error", "warning") else None,
    )
    page.goto("http://explorer.test/")
    page.wait_for_function("() => !document.querySelector('.explorer:not([data-ready])')")
    yield page
    ctx.close()
    assert not trouble


@pytest.fixture(scope="module")
def page(browser):
    with opened(browser, NETWORK + STACK) as page:
        yield page


@pytest.fixture
def network(page):
    page.reload()
    return page.locator(".explorer").nth(0)


@pytest.fixture
def stack(page):
    page.reload()
    return page.locator(".explorer").nth(1)


def expected(name, size, batch_norm):
    return [
        {
            "name": r.name,
            "kind": r.kind,
            "shape": list(r.output_shape),
            "params": r.params,
            "macs": r.macs,
            "bytes": r.activation_bytes,
            "field": {"size": r.field.size, "jump": r.field.jump, "start": r.field.start},
        }
        for r in walk(name, batch_norm=batch_norm, image_size=size)
    ]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_of_every_configuration_agrees_with_the_package(page, name, batch_norm):
    sizes = (smallest_image(name), *SIZES)
    script = "([n, sizes, batchNorm]) => sizes.map((s) => vggExplorer.trace(n, s, {batchNorm}))"
    for size, got in zip(sizes, page.evaluate(script, [name, sizes, batch_norm]), strict=True):
        assert got == expected(name, size, batch_norm), f"{name} at {size}"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_displayed_table_is_the_package_s_trace(network, name):
    from vggbook import trace

    network.get_by_label("Configuration").select_option(name)
    network.get_by_label("Input side").fill("256")
    shown = network.locator("table tr").all_inner_texts()
    shown = [tuple(part.strip() for part in line.split("\t")) for line in shown[1:]]
    rows = re.findall(r"<tr.*?</tr>", trace(name, image_size=256)._repr_html_())
    want = [tuple(re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)) for row in rows[1:]]
    assert shown[:-1] == want[:-1]
    assert [t for t in shown[-1] if t] == [t for t in want[-1] if t]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_chosen_layer_shows_its_facts(network, name):
    def fact(term):
        return network.locator(f'dd[data-fact="{term}"]').inner_text()

    network.get_by_label("Configuration").select_option(name)
    for row in walk(name)[:: len(walk(name)) // 3]:
        network.get_by_label("Layer", exact=True).select_option(row.name)
        assert fact("Parameters") == f"{row.params:,}"
        assert fact("Multiply-adds") == f"{row.macs:,}"
        assert fact("Output") == " × ".join(map(str, row.output_shape))
        assert fact("Output in memory (float32)") == f"{row.activation_bytes / 1e6:,.2f} MB"
        assert (
            fact("Receptive field") == f"{row.field.size} pixels, neighbours {row.field.jump} apart"
        )
        assert fact("All layers: parameters") == f"{sum(r.params for r in walk(name)):,}"
        assert (
            f"sees {row.field.size} × {row.field.size} pixels"
            in network.get_by_role("status").inner_text()
        )


@pytest.mark.parametrize("name", ["A", "D"])
def test_the_bars_say_what_their_full_height_is(network, name):
    network.get_by_label("Configuration").select_option(name)
    network.get_by_label("Input side").fill("96")
    rows = [row for row in walk(name, image_size=96) if row.kind != "input"]
    macs, params = (max(getattr(row, key) for row in rows) for key in ("macs", "params"))
    megabytes = max(math.prod(row.output_shape) for row in rows) * 4 / 1e6
    text = network.locator(".ex-chart .ex-note").inner_text()
    found = re.match(
        r"Full height: (\d+) pixels, ([\d.]+) ([MG]) multiply-adds, "
        r"([\d.]+) M parameters, ([\d.]+) MB",
        text,
    )
    assert int(found[1]) == 96 and float(found[5]) == pytest.approx(megabytes, abs=0.006)
    unit = {"M": 1e6, "G": 1e9}[found[3]]
    assert float(found[2]) * unit == pytest.approx(macs, rel=0.006)
    assert float(found[4]) * 1e6 == pytest.approx(params, rel=0.006)


@pytest.mark.parametrize("name", ["A", "E"])
def test_the_last_layer_gives_boxes_too(network, name):
    """Appendix A: 4 numbers for one box, 4 a class for 1000 classes; each has 4096 weights and a
    bias.
    """
    network.get_by_label("Configuration").select_option(name)
    below = sum(row.params for row in walk(name)[:-1])
    for outputs in (4, 4000, 1000):
        network.get_by_label("Last layer gives").select_option(str(outputs))
        network.get_by_label("Layer", exact=True).select_option("fc3")
        wanted = {"Output": f"{outputs}", "All layers: parameters": f"{below + 4097 * outputs:,}"}
        for term, want in wanted.items():
            assert network.locator(f'dd[data-fact="{term}"]').inner_text() == want


def clip(value, size):
    return min(max(value, 0), size)


def test_the_square_drawn_is_the_footprint_of_a_gradient(page):
    """A unit's square, clipped to the picture, holds exactly the pixels that change it
    (all-positive weights, average pooling).
    """
    from vggbook import build

    net, size = build("A", num_classes=1, width=1 / 64, image_size=96).features.double(), 96
    layers = [
        nn.AvgPool2d(m.kernel_size, m.stride) if isinstance(m, nn.MaxPool2d) else m for m in net
    ]
    layers = [m for m in layers if not isinstance(m, nn.ReLU)]
    for p in nn.Sequential(*layers).parameters():
        nn.init.constant_(p, 0.1)
    names = [r.name for r in walk("A", image_size=size) if r.kind in ("conv", "pool")]
    for name, unit in (
        ("conv2_1", (5, 7)),
        ("conv3_2", (0, 11)),
        ("conv4_2", (6, 3)),
        ("pool4", (5, 0)),
    ):
        x = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
        nn.Sequential(*layers[: names.index(name) + 1])(x)[0, 0][unit].backward()
        touched = x.grad[0].abs().sum(0).nonzero()
        (top, left), (bottom, right) = touched.amin(0).tolist(), (touched.amax(0) + 1).tolist()
        box = page.evaluate(
            """([l, s, i, j]) => {
            const row = vggExplorer.trace('A', s).find((r) => r.name === l);
            return vggExplorer.window(row, s, i, j);
        }""",
            [name, size, *unit],
        )
        first = [clip(box[side], size) for side in ("top", "left")]
        last = [clip(box[side] + box["size"], size) for side in ("top", "left")]
        assert first == [top, left], name
        assert last == [bottom, right], name
        assert box["inside"] == (bottom - top) * (right - left)


def test_sliders_move_the_square_and_its_description(network):
    network.get_by_label("Layer", exact=True).select_option("conv5_3")
    network.get_by_label("Row of the unit").fill("0")
    network.get_by_label("Column", exact=True).fill("13")
    row = next(r for r in walk("D") if r.name == "conv5_3")
    box = network.locator("svg rect.ex-field")
    assert float(box.get_attribute("y")) == row.field.left
    assert float(box.get_attribute("x")) == row.field.left + 13 * row.field.jump
    assert float(box.get_attribute("width")) == row.field.size
    assert "row 0, column 13" in network.get_by_role("status").inner_text()


def random_stacks(n: int, seed: int = 0):
    draw = random.Random(seed)
    for _ in range(n):
        layers = [draw.choice([1, 3, 5, 7, "pool"]) for _ in range(draw.randint(0, 12))]
        side = draw.randint(2 ** layers.count("pool"), 300)
        yield layers, draw.randint(1, 600), draw.randint(1, 600), side


def test_random_stacks_agree_with_the_package_and_with_torch(page):
    """Fields and maps against the package's walk; weights and multiply-adds against real
    (weightless) modules.
    """
    stacks = [list(stack) for stack in random_stacks(300)]
    results = page.evaluate(
        """(stacks) => stacks.map(
            ([l, channels, inputs, side]) => vggExplorer.stack(l, {channels, inputs, side})
        )""",
        stacks,
    )
    for (layers, channels, inputs, side), got in zip(stacks, results, strict=True):
        config = Config(
            "stack", tuple(Pool() if k == "pool" else Conv(channels, k) for k in layers), fc=()
        )
        rows = walk(config, image_size=side)[:-1]
        assert [(r["size"], r["jump"], r["side"]) for r in got["rows"]] == [
            (r.field.size, r.field.jump, r.output_shape[1]) for r in rows
        ], layers
        weights = macs = 0
        x = torch.empty(1, inputs, side, side, device="meta")
        for k in layers:
            pool = k == "pool"
            layer = (
                nn.MaxPool2d(2)
                if pool
                else nn.Conv2d(x.shape[1], channels, k, padding=k // 2, bias=False, device="meta")
            )
            x = layer(x)
            weights += 0 if pool else layer.weight.numel()
            macs += 0 if pool else layer.weight.numel() * x[0, 0].numel()
        assert (got["weights"], got["macs"], got["side"]) == (weights, macs, x.shape[-1]), layers
        field = rows[-1].field if rows else None
        if field:
            one = nn.Conv2d(
                inputs, x.shape[1], field.size, stride=field.jump, bias=False, device="meta"
            ).weight.numel()
            assert got["single"] == {
                "kernel": field.size,
                "stride": field.jump,
                "weights": one,
                "macs": one * x[0, 0].numel(),
            }


def test_biases_add_one_a_channel_and_convolution(page):
    got = page.evaluate(
        "() => vggExplorer.stack([3, 'pool', 3], {channels: 10, inputs: 4, biases: true})"
    )
    bare = page.evaluate("() => vggExplorer.stack([3, 'pool', 3], {channels: 10, inputs: 4})")
    assert (
        got["weights"] - bare["weights"],
        got["single"]["weights"] - bare["single"]["weights"],
    ) == (20, 10)
    assert got["macs"] == bare["macs"]


def cells(stack, which: str) -> dict:
    return {
        c.get_attribute(f"data-{which}"): c.inner_text()
        for c in stack.locator(f"td[data-{which}]").all()
    }


@pytest.mark.parametrize("channels", [1, 64, 512])
def test_the_paper_s_27_against_49(stack, channels):
    stack.get_by_label("Channels out").fill(str(channels))
    ours, one = cells(stack, "stack"), cells(stack, "single")
    assert (ours["Weights, formula"], one["Weights, formula"]) == ("27 C²", "49 C²")
    assert (ours["Weights"], one["Weights"]) == (f"{27 * channels**2:,}", f"{49 * channels**2:,}")
    text = stack.get_by_role("status").inner_text()
    assert f"{100 * 22 / 27:.1f}% more" in text and f"{100 * 22 / 49:.1f}% fewer" in text


def test_layers_are_added_moved_and_removed(stack):
    def names():
        texts = stack.locator("ol.ex-list li > div > span:first-child").all_inner_texts()
        return [text.split("sees")[0].strip() for text in texts]

    stack.get_by_role("button", name="Add 5×5").click()
    stack.get_by_role("button", name="Add pool").click()
    assert names() == ["conv 3×3"] * 3 + ["conv 5×5", "max-pool 2×2"]
    stack.get_by_role("button", name="Move up layer 4, conv 5×5").click()
    assert names() == ["conv 3×3", "conv 3×3", "conv 5×5", "conv 3×3", "max-pool 2×2"]
    stack.get_by_role("button", name="Move down layer 3, conv 5×5").click()
    stack.get_by_role("button", name="Remove layer 1, conv 3×3").click()
    assert names() == ["conv 3×3", "conv 3×3", "conv 5×5", "max-pool 2×2"]
    assert cells(stack, "single")["Kernels"] == "conv 10×10, stride 2"
    for _ in range(4):
        stack.get_by_role("button", name=re.compile("^Remove layer 1,")).click()
    assert "No layer yet" in stack.inner_text()


def test_where_channels_double_the_pair_of_3x3_is_larger(stack):
    stack.get_by_role("button", name="Remove layer 3").click()
    stack.get_by_label("Channels out").fill("128")
    stack.get_by_label("Channels in").fill("64")
    assert (
        "The stack has 8.0% more weights" in stack.get_by_role("status").inner_text()
    )  # 54 against 50
    assert cells(stack, "stack")["Weights, formula"] == "9 C_in C + 9 C²"


REFUSED = [
    ("D", "31", "at least 32 pixels a side are needed"),
    ("AlexNet", str(smallest_image("AlexNet") - 1), f"at least {smallest_image('AlexNet')} pixels"),
    ("D", "224.5", "only a whole number makes sense"),
    ("D", "-3", "at least 32 pixels a side are needed"),
    ("D", "5000", "the drawing stops at 2048"),
    ("D", "", "The input size is empty"),
]


@pytest.mark.parametrize("name,value,reason", REFUSED)
def test_an_impossible_input_size_is_refused_with_the_reason(network, name, value, reason):
    network.get_by_label("Configuration").select_option(name)
    before = network.get_by_role("status").inner_text()
    side = network.get_by_label("Input side")
    side.fill(value)
    assert reason in network.get_by_role("alert").inner_text()
    assert side.get_attribute("aria-invalid") == "true"
    assert side.get_attribute("aria-describedby") == network.get_by_role("alert").get_attribute(
        "id"
    )
    assert network.get_by_role("status").inner_text() == before
    side.fill("300")
    assert (
        side.get_attribute("aria-invalid") is None and not network.get_by_role("alert").inner_text()
    )


def test_impossible_stacks_are_refused_with_the_reason(stack):
    stack.get_by_label("Map side").fill("1")
    stack.get_by_role("button", name="Add pool").click()
    assert "pool a map of side 1" in stack.get_by_role("alert").inner_text()
    assert stack.locator("ol.ex-list li").count() == 3
    stack.get_by_label("Channels out").fill("0")
    assert "Channels is 0" in stack.get_by_role("alert").inner_text()
    stack.get_by_label("Channels out").fill("8")
    for _ in range(9):
        stack.get_by_role("button", name="Add 1×1").click()
    assert not stack.get_by_role("alert").inner_text()
    stack.get_by_role("button", name="Add 1×1").click()
    assert "stops at 12 layers" in stack.get_by_role("alert").inner_text()
    assert stack.locator("ol.ex-list li").count() == 12


def test_everything_works_from_the_keyboard(page):
    """From the top of the page by Tab alone: every control is reached, focus shows, and keys do
    what clicks do.
    """
    page.reload()
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
            const e = document.activeElement, style = getComputedStyle(e);
            const label = e.labels?.[0]?.innerText ?? e.getAttribute("aria-label") ?? e.innerText;
            return [e.tagName, label, style.outlineStyle];
        }""")
        )
        if reached[-1][0] == "BODY":
            break
    names = [name for tag, name, _ in reached if tag != "BODY"]
    for control in (
        "Configuration",
        "Input side, pixels",
        "Layer",
        "Row of the unit",
        "Column",
        "Channels out (C)",
        "Add 7×7",
        "Remove layer 3, conv 3×3",
    ):
        assert control in names
    assert all(outline == "solid" for tag, _, outline in reached if tag != "BODY")
    stack = page.locator(".explorer").nth(1)
    stack.get_by_role("button", name="Add 7×7").press("Enter")
    stack.get_by_role("button", name="Move up layer 4, conv 7×7").press("Enter")
    assert "layer 3, conv 7×7" in page.evaluate(
        "document.activeElement.getAttribute('aria-label')"
    )  # focus follows the layer
    network = page.locator(".explorer").nth(0)
    network.get_by_label("Configuration").press("ArrowDown")
    assert (
        network.get_by_role("status").inner_text().startswith("conv5_3 of E")
        or network.get_by_label("Configuration").input_value() == "E"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_the_width(browser, width, theme):
    with opened(browser, EVERY, theme=theme, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.evaluate("""() => [
            ...document.querySelectorAll(".explorer button, .explorer select, .explorer input")
        ].map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
            .filter(([, r]) => Math.min(r.width, r.height) < 22)""")
        assert not small
        for stack in ("Add 7×7", "Add pool", "Add 5×5"):
            page.get_by_role("button", name=stack).click()
        cut = page.evaluate(CUT)
        assert not cut, cut
        long = page.evaluate(CUT_OPTIONS)
        assert not long, long


@pytest.mark.parametrize(
    "family", ["DejaVu Sans", "Liberation Sans", "Noto Sans", "DejaVu Sans Mono"]
)
def test_its_drawings_fit_in_any_font(browser, family):
    with opened(browser, EVERY, viewport={"width": 320, "height": 800}) as page:
        page.add_style_tag(content=f"* {{ font-family: '{family}' !important; }}")
        page.set_viewport_size({"width": 322, "height": 800})
        page.wait_for_timeout(100)
        cut = page.evaluate(CUT)
        assert not cut, cut


def test_the_page_says_where_the_parameters_lie():
    rows = [r for r in walk("D") if r.kind == "fc"]
    total = count_parameters("D")
    text = " ".join((ROOT / "book/explorer.md").read_text(encoding="utf-8").split())
    first, all_three = 100 * rows[0].params / total, 100 * sum(r.params for r in rows) / total
    assert f"{first:.0f}% lie in the first FC layer and {all_three:.0f}% in the three" in text


def test_without_a_script_the_page_s_own_text_remains(browser):
    text = "Open the explorer page for the live drawing."
    ctx = browser.new_context(java_script_enabled=False)
    page = ctx.new_page()
    page.set_content(f'<div class="explorer" data-view="stack"><p>{markup.escape(text)}</p></div>')
    assert text in page.inner_text("body")
    ctx.close()


SAYS = {
    "network": "sees",
    "stack": "sees",
    "connections": "of the picture's columns",
    "testing": "score map",
    "memory": "whatever the batch",
}
PLACES = (
    "book/explorer.md",
    "notebooks/02_receptive_field_and_parameters.ipynb",
    "notebooks/03_shape_tracing.ipynb",
)


@pytest.mark.parametrize("place", PLACES)
def test_it_stands_where_it_should_and_asks_for_what_exists(place):
    text = (ROOT / place).read_text().replace('\\"', '"')
    found = [
        dict(re.findall(r'data-(\w+)="([^"]*)"', tag))
        for tag in re.findall(r'<div class="explorer"[^>]*>', text)
    ]
    assert found, f"no explorer in {place}"
    for data in found:
        view = data.pop("view")
        assert view in VIEWS
        if view == "connections":
            assert data.pop("layers") == "3,3,3"
        elif view == "testing":
            assert data.pop("config") in CONFIGS and 224 <= int(data.pop("size")) <= 640
        elif view == "memory":
            assert data.pop("config") in CONFIGS and 1 <= int(data.pop("batch")) <= 1024
        elif view == "network":
            rows = walk(data.pop("config"), image_size=int(data.pop("size")))
            assert data.pop("layer") in {row.name for row in rows}
        else:
            assert set(data.pop("layers").split(",")) <= {"1", "3", "5", "7", "pool"}
            assert int(data.pop("channels")) > 0 and int(data.pop("side")) > 0
        assert not data, f"unknown settings {data}"


def test_pages_load_scripts_only_where_they_use_them(html):
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for mark, script in (
            ('class="explorer"', "explorer/kit.js"),
            ('class="quiz"', "quiz.js"),
            *((f'class="explorer" data-view="{view}"', f"explorer/{view}.js") for view in VIEWS),
        ):
            assert (mark in text) == (f"_static/{script}" in text), (
                f"{path.name}: {mark} and {script}"
            )


def test_embedded_explorers_work_on_the_built_pages(html, browser):
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    for place in PLACES:
        built = html / Path(place).with_suffix(".html")
        page.goto(built.as_uri())
        count = built.read_text(encoding="utf-8").count('class="explorer"')
        assert page.locator(".explorer[data-ready]").count() == count > 0
        for view, word in SAYS.items():
            said = page.locator(f'.explorer[data-view="{view}"] [role="status"]')
            assert all(word in text for text in said.all_text_contents()[:1])


@pytest.mark.parametrize("width", [390, 1280])
def test_selects_of_the_built_pages_show_their_whole_text(html, browser, width):
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    selects = 0
    for place in (*PLACES, "book/see_it_think.md"):
        page.goto((html / Path(place).with_suffix(".html")).as_uri())
        if place == "book/see_it_think.md":
            page.get_by_role("button", name="Load the trained net").click()
            page.wait_for_selector(".think select")
        selects += page.locator("select").count()
        cut = page.evaluate(CUT_OPTIONS)
        assert not cut, (place, cut)
    assert selects > 0  # chapter 2 alone has none
    page.context.close()
