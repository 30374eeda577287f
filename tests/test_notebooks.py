"""The notebooks as they are committed (form) and as `make book` executed them (what they show)."""

import json
import re
import statistics

import nbformat
import pytest
from conftest import ROOT

from tools.address import address, branch, install_cell, untitled
from tools.boxes import BOX, blocks
from tools.execute import stamp
from tools.ledger import MIME
from tools.notebook import normalise
from vggbook import claims

LONGEST, MEDIAN = 36, 8  # lines of a cell that a reader sees
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = ROOT / "_build" / "executed"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def read(path):
    return nbformat.read(path, 4)


def markdown(nb):
    return [c for c in nb.cells if c.cell_type == "markdown"]


def code(nb):
    return [c for c in nb.cells if c.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def executed(path):
    found = EXECUTED / "notebooks" / path.name
    if not found.exists():
        pytest.skip("needs the executed notebooks: run make book first")
    return read(found)


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_stripped_and_with_stable_ids(path):
    nb = read(path)
    assert nb == normalise(read(path), read(path)), "run: make tidy"
    assert len({c.id for c in nb.cells}) == len(nb.cells)


@each
def test_install_cell_comes_first_and_parameters_follow(path):
    cells = code(read(path))
    assert untitled(cells[0].source) == install_cell(address(), branch())
    assert "setup" in tags(cells[0])
    marked = [c for c in cells if "parameters" in tags(c)]
    lines = [line for c in marked for line in c.source.splitlines()]
    assert lines[:2] == ['profile = "auto"', "strict = False"]
    assert lines[2:] in ([], ['weights = "auto"'])


def boxes(nb):
    """The kinds of the chapter's boxes, in order."""
    quotes = (text for c in markdown(nb) for quote, text in blocks(c.source) if quote)
    return [m[1] for text in quotes if (m := BOX.fullmatch(text.split("\n")[0]))]


@each
def test_frame(path):
    """Title, sections and the line for the times; the idea; objectives; at the end take-aways,
    exercises, references.
    """
    nb = read(path)
    assert re.match(r"# \S", nb.cells[0].source), "the first cell is the title"
    text = "\n".join(c.source for c in markdown(nb))
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[-2:] == ["Exercises", "References"]
    kinds = boxes(nb)
    assert kinds.count("Objectives") == 1
    assert kinds[0] in ("Objectives", "Remember") and "Objectives" in kinds[:3]
    assert "Take-aways" in kinds or headings[-3] == "Take-aways"
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    assert len(re.findall(r"^# (.+)$", prose, re.M)) == 1
    if "Remember" in kinds:  # the idea comes first, and a picture of it before any other code
        assert "<!-- times -->" in nb.cells[0].source and headings[0] == "The idea"
        heroes = [c for c in code(nb) if "hero" in tags(c)]
        assert len(heroes) == 1 and "plot" in tags(heroes[0])
        first = next(c for c in code(nb) if not {"setup", "parameters"} & set(tags(c)))
        assert first is heroes[0]


@each
def test_at_most_three_traps(path):
    """The others belong to the page of misreadings; the gallery of bugs is traps by nature."""
    assert boxes(read(path)).count("Trap") <= 3 or path.stem.startswith("12")


@each
def test_visible_cells_are_short(path):
    """One idea a cell: what a reader sees has 36 lines at most, and half of the cells have 8 or
    fewer.
    """
    lengths = {c.id: len(c.source.splitlines()) for c in code(read(path)) if not tags(c)}
    assert max(lengths.values()) <= LONGEST, max(lengths, key=lengths.get)
    assert statistics.median(lengths.values()) <= MEDIAN


@each
def test_known_tags_only(path):
    known = {"setup", "parameters", "check", "plot", "hero", "checker", "answer", "live"}
    assert {tag for c in code(read(path)) for tag in tags(c)} <= known | {"remove-output"}


@each
def test_plain_markdown_and_known_boxes_only(path):
    for c in markdown(read(path)):
        prose = re.sub(r"`[^`\n]*`|```.*?```", "", c.source, flags=re.S)
        assert not re.search(r"^\s*(:{3,}|`{3,}\{)|\{[a-z:]+\}`|^\([\w-]+\)=$", c.source, re.M), (
            f"MyST syntax in {c.source[:80]!r}"
        )
        assert "<img" not in prose and "![](" not in prose, "a picture without alt text"
        for quote, text in blocks(c.source):
            first = text.split("\n")[0]
            if quote and first.startswith("> **"):
                assert BOX.fullmatch(first), f"a box that tools/stage.py does not know: {first!r}"


@each
def test_exercises_are_numbered_and_answered(path):
    nb, chapter, numbers, answered = read(path), int(path.stem[:2]), [], set()
    for c in nb.cells:
        for line in c.source.splitlines() if c.cell_type == "markdown" else []:
            if line.startswith("### Exercise"):
                m = re.fullmatch(r"### Exercise (\d+)\.(\d+) \((\w+)\): \S.*", line)
                assert m, f"write '### Exercise {chapter}.N (kind): title', not {line!r}"
                assert int(m[1]) == chapter
                numbers.append(int(m[2]))
        if c.cell_type == "code" and "answer" in tags(c) and numbers:
            answered.add(numbers[-1])
    assert numbers == list(range(1, len(numbers) + 1)) and numbers
    assert answered == set(numbers), f"without an answer cell: {sorted(set(numbers) - answered)}"


@each
def test_every_figure_has_alt_text_and_caption(path):
    for c in code(executed(path)):
        pictures = [o for o in c.outputs if any(k.startswith("image/") for k in o.get("data", {}))]
        if pictures and "remove-output" not in tags(c):
            about = c.metadata.get("mystnb", {})
            alt, caption = (
                about.get("image", {}).get("alt", ""),
                about.get("figure", {}).get("caption", ""),
            )
            assert len(alt.split()) >= 5, (
                f"alt text must say what the figure shows: {alt!r} in {c.source[:60]!r}"
            )
            assert len(caption.split()) >= 3, f"no caption in {c.source[:60]!r}"
            assert about["figure"].get("name", "").startswith("fig-")


@each
def test_execution_is_clean_and_of_this_notebook(path):
    nb = executed(path)
    for c in code(nb):
        for o in c.outputs:
            assert o.output_type != "error"
            assert not (o.output_type == "stream" and o.name == "stderr"), (
                f"{c.source[:60]!r} wrote to stderr: {o.text[:300]}"
            )
    ran = [c.source for c in nb.cells if "injected-parameters" not in tags(c)]
    assert ran == [c.source for c in read(path).cells]
    record = json.loads((EXECUTED / "runs" / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert record["stamp"] == stamp(path, record["profile"]), (
        "older than its sources: run make book"
    )


@each
def test_claims_have_distinct_anchors_and_known_ids(path):
    entries = [
        o.data[MIME] for c in code(executed(path)) for o in c.outputs if MIME in o.get("data", {})
    ]
    anchors = [e["anchor"] for e in entries]
    assert len(anchors) == len(set(anchors))
    assert {e["id"] for e in entries} <= {c.id for c in claims()}
