"""The explorer's views of connections, testing and memory: what they compute and say against the
package, matrices, autograd and closed forms; hand, keyboard and touch.
"""

import math
import re

import pytest
import torch
from conftest import ROOT
from test_explorer import LATER, opened
from torch.nn import functional as F

from vggbook import build, claims, count_macs, count_parameters, to_dense, trace
from vggbook.arithmetic import last_map, walk
from vggbook.configs import CONFIGS, Config, Conv, Pool
from vggbook.evaluate import crop_grid, dense_macs
from vggbook.evaluate.scales import score_map_size

COLUMNS = 24
STACKS = {"3": [3], "3,3": [3, 3], "3,3,3": [3, 3, 3], "5": [5], "7": [7]}
CHOICES = [(stack, pooling) for stack in STACKS for pooling in ("none", "before", "behind")]
CHOICES += [("A", "none"), ("D", "none")]
NETS = ["A", "A-LRN", "B", "C", "D", "E", "B-5x5"]
SIDES = sorted({*range(224, 641, 13), 225, 239, 240, 255, 256, 257, 383, 384, 447, 448, 512, 640})
PLAIN = ["A", "B", "C", "D", "E", "B-5x5"]  # without LRN, whose memory is not counted


@pytest.fixture(scope="module")
def page(browser):
    with opened(
        browser, "".join(f'<div class="explorer" data-view="{v}"></div>' for v in LATER)
    ) as p:
        yield p


@pytest.fixture
def views(page):
    page.reload()
    return {v: page.locator(f'.explorer[data-view="{v}"]') for v in LATER}


# ---- connections


def stack_layers(choice, pooling):
    """The layers of a choice, as the package has them."""
    if choice in CONFIGS:
        config = CONFIGS[choice]
        end = config.layer_names.index("pool2") + 1
        return config.layers[:end]
    convs = tuple(Conv(1, kernel) for kernel in STACKS[choice])
    return {"none": convs, "before": (Pool(), *convs), "behind": (*convs, Pool())}[pooling]


def reads(layers):
    """For each layer the matrix of which unit reads which unit below, by PyTorch's 1-D layers."""
    units, matrices = COLUMNS, []
    for layer in layers:
        one = torch.eye(units)[:, None]
        if isinstance(layer, Pool):
            out = F.avg_pool1d(one, 2)
        else:
            out = F.conv1d(one, torch.ones(1, 1, layer.kernel), padding=layer.pad)
        matrices.append(out[:, 0].T > 0)
        units = out.shape[-1]
    return matrices


@pytest.mark.parametrize("choice,pooling", CHOICES)
def test_lit_units_are_those_that_pytorch_s_layers_read(page, choice, pooling):
    """Every unit of every row, down to the picture; the fields by the package's arithmetic."""
    layers = stack_layers(choice, pooling)
    rows = page.evaluate(
        """([choice, pooling]) => {
            const c = vggExplorer.connections, all = c.rows(c.layersOf(choice, pooling));
            const each = (row, f) => Array.from({length: row.units}, (_, i) => f(i));
            return {
                rows: all,
                cones: all.map((row, k) => each(row, (i) => c.cone(all, k, i))),
                reach: each(all[0], (i) => c.reach(all, i)),
            };
        }""",
        [choice, pooling],
    )
    fields = walk(Config("stack", layers, fc=()), image_size=COLUMNS)[:-1]
    assert [row["units"] for row in rows["rows"][1:]] == [r.output_shape[1] for r in fields]
    for row, want in zip(rows["rows"][1:], fields, strict=True):
        seen = row["field"]
        assert seen == {"size": want.field.size, "jump": want.field.jump, "start": want.field.start}
    matrices = reads(layers)
    for at, cones in enumerate(rows["cones"]):
        below = torch.eye(len(cones)) > 0
        for k in range(at, -1, -1):
            for unit, cone in enumerate(cones):
                lit = below[unit].nonzero().flatten().tolist()
                assert lit == list(range(cone[k]["first"], cone[k]["last"] + 1)), (at, unit, k)
                assert cone[k]["count"] == len(lit)
            if k:
                below = below.float() @ matrices[k - 1].float() > 0
        for unit, cone in enumerate(cones):
            field = rows["rows"][at]["field"]
            left = field["start"] - field["size"] / 2 + unit * field["jump"]
            inside = min(COLUMNS, left + field["size"]) - max(0, left)
            assert cone[0]["count"] == inside
    above = torch.eye(COLUMNS) > 0
    for k in range(1, len(rows["rows"])):
        above = matrices[k - 1].float() @ above.float() > 0
        counts = above.sum(0).tolist()
        assert counts == [column[k]["count"] for column in rows["reach"]]


@pytest.mark.parametrize("choice,pooling", CHOICES)
def test_the_words_say_the_arithmetic_s_field(views, choice, pooling):
    view = views["connections"]
    view.get_by_label("Stack").select_option(choice)
    if choice not in CONFIGS:
        view.get_by_label("Pooling 2×2").select_option(pooling)
    field = walk(Config("stack", stack_layers(choice, pooling), fc=()), image_size=COLUMNS)[
        -2
    ].field
    text = view.get_by_role("status").inner_text()
    assert f"sees {field.size} of the picture's columns" in text
    assert f"= {field.size} pixels a side" in text
    sum_ = re.search(r"1 \+ (.*) = ", text)[1].replace("×", "*").replace(" ", "")
    assert 1 + sum(math.prod(map(int, part.split("*"))) for part in sum_.split("+")) == field.size
    assert view.locator("rect.ex-input.ex-lit").count() == field.size
    assert view.get_by_label("Pooling 2×2").is_disabled() == (choice in CONFIGS)


def test_blocks_two_of_b_to_e_are_alike():
    """One drawing for four nets: their first two blocks are the same along one axis."""
    assert len({stack_layers(name, "none") for name in "BCDE"}) == 1
    assert stack_layers("A", "none") != stack_layers("B", "none")


def lit(view):
    return view.locator("rect.ex-lit.ex-unit").count()


def test_pointing_at_a_unit_lights_its_inputs(page, views):
    view = views["connections"]
    view.locator("svg").scroll_into_view_if_needed()
    first = view.locator("rect.ex-unit").nth(3 * COLUMNS).bounding_box()  # of the top row
    page.mouse.move(first["x"] + first["width"] / 2, first["y"] + 5)
    text = view.get_by_role("status").inner_text()
    assert "Unit 0 of the 24 in the third 3×3 sees 4 of the picture's columns (0 to 3)" in text
    assert "the other 3 of its 7 lie outside, on padding" in text
    assert lit(view) == 1 + 2 + 3 + 4
    assert view.locator("rect.ex-zero.ex-lit").count() == 3


def test_a_column_of_the_picture_lights_what_it_goes_into(views):
    view = views["connections"]
    view.get_by_label("Row", exact=True).select_option("picture")
    text = view.get_by_role("status").inner_text()
    assert "Column 12 of the picture goes into 7 units of the third 3×3" in text
    assert "3 units of the first 3×3, then 5 units of the second 3×3" in text
    assert lit(view) == 1 + 3 + 5 + 7


def test_arrow_keys_move_between_units_and_rows(views):
    view = views["connections"]
    drawing = view.get_by_role("application")
    for key, said in (
        ("ArrowLeft", "Unit 11 of the 24 in the third"),
        ("ArrowDown", "Unit 11 of the 24 in the second 3×3 sees 5"),
        ("End", "Unit 23 of the 24 in the second 3×3 sees 3"),
        ("ArrowRight", "Unit 23 of the 24 in the second 3×3 sees 3"),
        ("Home", "Unit 0 of the 24 in the second"),
        ("ArrowUp", "Unit 0 of the 24 in the third"),
        ("ArrowUp", "Unit 0 of the 24 in the third"),
    ):
        drawing.press(key)
        assert said in view.get_by_role("status").inner_text(), key
    assert view.get_by_label("Unit", exact=True).input_value() == "0"
    view.get_by_label("Unit", exact=True).press("ArrowRight")
    assert "Unit 1 of the 24" in view.get_by_role("status").inner_text()
    view.get_by_label("Stack").select_option("A")
    drawing.press("ArrowDown")
    drawing.press("ArrowDown")
    assert "in pool1 sees" in view.get_by_role("status").inner_text()


def test_a_pooling_chosen_before_comes_back_after_the_blocks(views):
    view = views["connections"]
    view.get_by_label("Pooling 2×2").select_option("behind")
    view.get_by_label("Stack").select_option("D")
    assert view.get_by_label("Pooling 2×2").locator("option").all_inner_texts() == [
        "those of the blocks"
    ]
    view.get_by_label("Stack").select_option("5")
    assert view.get_by_label("Pooling 2×2").input_value() == "behind"


# ---- testing


@pytest.mark.parametrize("name", NETS)
def test_the_score_map_of_any_picture_agrees_with_the_package(page, name):
    script = """([name, sides]) => sides.map((q) => {
        const t = vggExplorer.testing;
        return {...t.scoreMap(name, q), corners: t.corners(q), dropped: t.dropped(name, q)};
    })"""
    head = next(row for row in walk(name) if row.kind == "fc").field
    for q, got in zip(SIDES, page.evaluate(script, [name, SIDES]), strict=True):
        assert got["map"] == list(last_map(name, q)), q
        assert (got["cells"], got["cells"]) == score_map_size(name, q), q
        assert (got["dense"], got["crop"]) == (dense_macs(name, q), count_macs(name)), q
        assert (got["spacing"], got["first"], got["field"]) == (head.jump, head.start, head.size)
        assert got["corners"] == [left for _, left in crop_grid((q, q))[:5]]
        odd = [f"pool{k + 1}" for k in range(5) if q >> k & 1]  # a half of an odd side
        assert [each["name"] for each in got["dropped"]] == odd, q
        assert all(each["rows"] == 1 for each in got["dropped"])


@pytest.mark.parametrize("q", [224, 255, 256, 287, 320])
def test_cells_are_as_many_as_a_dense_net_answers(page, q):
    net = to_dense(build("A", num_classes=2, width=1 / 64)).eval()
    with torch.no_grad():
        h, w = net(torch.zeros(1, 3, q, q)).shape[2:]
    assert page.evaluate("(q) => vggExplorer.testing.scoreMap('A', q).cells", q) == h == w


def test_a_cell_hangs_on_the_pixels_of_its_crop(page):
    """The gradient of a cell's score, all weights positive, lies round the cell's middle."""
    net = build("A", num_classes=1, width=1 / 64)
    for p in net.parameters():
        torch.nn.init.constant_(p, 0.1)
    q, found = 320, page.evaluate("() => vggExplorer.testing.scoreMap('A', 320)")
    dense = to_dense(net).eval()
    x = torch.ones(1, 3, q, q, requires_grad=True)
    dense(x)[0, 0, 1, 2].backward()
    rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
    field, middle = found["field"], found["first"] + found["spacing"]
    assert field >= rows[-1] - rows[0] + 1 >= 224 - 32  # max-pooling passes on one of four
    assert abs((rows[0] + rows[-1] + 1) / 2 - middle) <= 16


def macs(view):
    return [int(cell.get_attribute("data-macs")) for cell in view.locator("td[data-macs]").all()]


def test_the_shown_cost_is_the_paper_s_comparison(views):
    view = views["testing"]
    for name, q in (("D", 256), ("D", 384), ("E", 512), ("A", 301)):
        view.get_by_label("Configuration").select_option(name)
        view.get_by_label("Q, pixels").fill(str(q))
        three = sum(dense_macs(name, side) for side in (256, 384, 512))
        assert macs(view) == [
            2 * dense_macs(name, q),
            50 * count_macs(name),
            2 * three,
            150 * count_macs(name),
        ]
        ratio = f"{25 * count_macs(name) / dense_macs(name, q):.1f} times as much"
        assert ratio in view.get_by_role("status").first.inner_text()
        assert view.get_by_label("Q, side of the test image").input_value() == str(q)
    view.get_by_label("Configuration").select_option("D")
    dense, crops = macs(view)[2:]
    claims()["crop-cost"].check(
        {
            "gmac_150_crops": crops / 1e9,
            "gmac_dense_3_scales_flip": dense / 1e9,
            "ratio": crops / dense,
        }
    )


def test_the_slider_moves_q_and_the_map_grows_by_whole_cells(views):
    view = views["testing"]
    slider = view.get_by_label("Q, side of the test image")

    def fact(term):
        return view.locator(f'dd[data-fact="{term}"]').inner_text()

    for q, cells, lost in ((255, 1, "pool1, pool2, pool3, pool4, pool5"), (256, 2, "none")):
        slider.fill(str(q))
        assert fact("Score map").startswith(f"{cells} × {cells},")
        assert fact("Poolings that leave out a row") == lost
        assert fact("Pixels beyond the last cell's crop") == str(q % 32)
        assert view.locator("rect.ex-score").count() == cells**2
        assert view.get_by_label("Q, pixels").input_value() == str(q)
    slider.fill("512")
    assert fact("Last map") == "512 × 16 × 16" and fact("Crops apart") == "72.0 pixels"


@pytest.mark.parametrize(
    "value,reason",
    [
        ("223", "at least 224 are needed"),
        ("641", "stops at 640"),
        ("", "Q is empty"),
        ("300.5", "whole"),
    ],
)
def test_an_impossible_q_is_refused_with_the_reason(views, value, reason):
    view = views["testing"]
    before = macs(view)
    side = view.get_by_label("Q, pixels")
    side.fill(value)
    refusal = side.locator("xpath=..").get_by_role("alert").inner_text()  # beside the field
    assert reason in refusal and re.search("whole numbers? from 224 to 640", refusal)
    assert side.get_attribute("aria-invalid") == "true" and macs(view) == before
    side.fill("300")
    assert not view.get_by_role("alert").inner_text()


def test_cells_are_chosen_by_key_and_by_hand(page, views):
    view = views["testing"]
    said = view.get_by_role("status").nth(1)
    drawing = view.get_by_role("application")
    drawing.press("ArrowDown")
    drawing.press("ArrowRight")
    drawing.press("ArrowRight")
    assert "row 1, column 2 answers for the crop of pixels 64 to 287 across, 32 to 255" in (
        said.inner_text()
    )
    window = view.locator("rect.ex-field")
    assert [window.get_attribute(k) for k in ("x", "y", "width")] == ["64", "32", "224"]
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 272 / 384, box["y"] + box["height"] * 112 / 384)
    assert "row 0, column 5" in said.inner_text()
    view.get_by_label("Q, pixels").fill("224")
    assert "row 0, column 0" in said.inner_text()


# ---- memory


def kept_by_autograd(net, images):
    """Bytes that autograd keeps for the backward pass, parameters aside."""
    saved, alive = {}, []

    def note(tensor):
        alive.append(tensor)  # else another tensor could take its place in memory
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        net(images)
    for parameter in net.parameters():
        saved.pop(parameter.untyped_storage()._cdata, None)
    return sum(saved.values())


@pytest.mark.parametrize("name", PLAIN)
def test_memory_of_an_image_is_what_autograd_keeps(page, name):
    net = build(name, device="meta").eval()
    kept = kept_by_autograd(net, torch.empty(2, 3, 224, 224, device="meta"))
    found = page.evaluate("(name) => vggExplorer.memory.memory(name)", name)
    assert 2 * found["image"] == kept
    assert found["step"] == 3 * 4 * count_parameters(name)


def test_mixed_precision_is_what_autograd_keeps_under_autocast(page):
    """The 16-bit copies of the weights are kept too; biases are not needed backward."""
    net, side = build("A", image_size=32).eval(), 32
    with torch.autocast("cpu", torch.bfloat16):
        kept = kept_by_autograd(net, torch.randn(2, 3, side, side))
    weights = sum(p.numel() for p in net.parameters() if p.dim() > 1)
    found = page.evaluate("() => vggExplorer.memory.memory('A', {side: 32, mixed: true})")
    assert 2 * found["image"] + 2 * weights == kept
    assert found["copy"] == 2 * count_parameters("A", image_size=32)
    assert found["step"] == 14 * count_parameters("A", image_size=32)


@pytest.mark.parametrize("name", PLAIN)
def test_outputs_and_their_gradients_are_twice_the_trace(page, name):
    for mixed, share in ((False, 1), (True, 2)):
        found = page.evaluate(
            "([n, mixed]) => vggExplorer.memory.memory(n, {mixed, kept: 'pairs'})", [name, mixed]
        )
        assert found["image"] * share == 2 * trace(name).total_activation_bytes


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kept", ["torch", "pairs"])
@pytest.mark.parametrize("mixed", [False, True])
def test_one_image_more_would_not_fit(views, name, kept, mixed):
    view = views["memory"]
    view.get_by_label("Configuration").select_option(name)
    view.get_by_label("Kept").select_option(kept)
    view.get_by_label("Mixed").set_checked(mixed)
    rows = trace(name).rows
    value = 2 if mixed else 4
    numbers = sum(math.prod(row.output_shape) for row in rows)
    winners = sum(math.prod(row.output_shape) for row in rows if row.kind == "pool")
    image = value * (numbers - 1000 + 3 * 224**2) + 8 * winners
    if kept == "pairs":
        image = 2 * value * numbers
    fixed = (14 if mixed else 12) * count_parameters(name)
    for size in (6, 16, 80):
        most = int(view.locator(f'td[data-card="{size}"]').inner_text().replace(",", ""))
        assert fixed + most * image <= size * 2**30 < fixed + (most + 1) * image
    for batch in (1, 64, 256, 1024):
        view.get_by_label("Images", exact=True).fill(str(batch))
        shown = view.locator('td[data-part="all"]').inner_text()
        gigabytes = (fixed + batch * image) / 1e9
        assert float(shown) == pytest.approx(gigabytes, abs=0.051)
        parts = view.locator("tbody td[data-part]").all_inner_texts()
        assert sum(map(float, parts)) == pytest.approx(gigabytes, abs=0.06 * len(parts))


def test_the_paper_s_share_of_the_batch_is_chapter_3_s(views):
    """65 images of D fit into the paper's card as PyTorch keeps them, 39 with all gradients."""
    view = views["memory"]
    assert (
        "The paper's card holds 6.4 GB (sold as 6): it takes 65 images"
        in view.get_by_role("status").inner_text()
    )
    view.get_by_label("Kept").select_option("pairs")
    assert (
        "The paper's card holds 6.4 GB (sold as 6): it takes 39 images"
        in view.get_by_role("status").inner_text()
    )
    chapter = (ROOT / "notebooks/03_shape_tracing.ipynb").read_text(encoding="utf-8")
    assert "fixed + 65 * kept_bytes" in chapter and "fixed + 39 * every" in chapter


def test_an_impossible_batch_is_refused_with_the_reason(views):
    view = views["memory"]
    number = view.get_by_label("Images", exact=True)
    before = view.get_by_role("status").inner_text()
    for value, reason in (("0", "at least 1 is needed"), ("2000", "stops at 1024"), ("", "empty")):
        number.fill(value)
        refusal = number.locator("xpath=..").get_by_role("alert").inner_text()
        assert reason in refusal and re.search("whole numbers? from 1 to 1024", refusal)
        assert view.get_by_role("status").inner_text() == before
    number.fill("128")
    assert not view.get_by_role("alert").inner_text()
    assert view.get_by_label("Images on the card", exact=True).input_value() == "128"


# ---- all three


def test_a_finger_chooses_units_and_cells(browser):
    body = "".join(f'<div class="explorer" data-view="{v}"></div>' for v in LATER)
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(browser, body, **phone) as page:
        rows = page.locator("svg.ex-rows")
        rows.scroll_into_view_if_needed()
        box = rows.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + 10)
        text = page.locator(".explorer").nth(0).get_by_role("status").inner_text()
        assert "Unit 23 of the 24 in the third 3×3 sees 4" in text
        cells = page.locator("svg.ex-cells")
        cells.scroll_into_view_if_needed()
        box = cells.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
        said = page.locator(".explorer").nth(1).get_by_role("status").nth(1).inner_text()
        assert "row 5, column 5" in said


def test_a_phone_shows_the_test_size_and_its_score_map_together(browser):
    """From the first control to the end of the drawing, below the book's own bar of 60 pixels."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(browser, '<div class="explorer" data-view="testing"></div>', **phone) as page:
        top = page.locator(".ex-controls").bounding_box()["y"]
        cells = page.locator("svg.ex-cells")
        box = cells.bounding_box()
        assert box["y"] + box["height"] - top < 844 - 60 and box["width"] > 300
        side = page.get_by_label("Q, pixels")
        room = side.locator("xpath=../..").bounding_box()["width"]
        assert side.bounding_box()["width"] < room / 2
        side.fill("100")
        refusal = side.locator("xpath=..").get_by_role("alert")
        assert refusal.bounding_box()["width"] > 0.9 * room  # the reason has the whole row


def test_the_page_says_what_stands_there_without_a_script():
    text = " ".join((ROOT / "book/explorer.md").read_text(encoding="utf-8").split())
    assert (
        "the last map is 512 × 12 × 12 and the score map 6 × 6, its cells 32 pixels apart" in text
    )
    assert last_map("D", 384) == (512, 12, 12) and score_map_size("D", 384) == (6, 6)
    rows = trace("D").rows
    winners = sum(math.prod(row.output_shape) for row in rows if row.kind == "pool")
    image = 4 * (3 * 224**2 - 1000) + trace("D").total_activation_bytes + 8 * winners
    fixed = 12 * count_parameters("D") / 1e9
    assert (
        f"needs {fixed:.1f} GB for weights, gradients and momentum, and {image / 1e6:.0f} MB"
        in text
    )
