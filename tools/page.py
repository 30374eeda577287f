"""An executed notebook as its page shows it: machinery folded, checks as ticks, figures in both
themes.

Each function takes the cells one step further; ``page`` names the steps in their order.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator

import nbformat
from nbformat import NotebookNode

from tools import boxes, ledger, notes, quizzes
from tools.boxes import Trap
from tools.estimate import estimate

FOLDED = {
    "answer": ("hide-cell", "Answer"),
    "setup": ("hide-input", "Setup"),
    "check": ("hide-input", "Check"),
    "plot": ("hide-input", "Plot"),
    "checker": ("hide-input", "Checker"),
}
READING = 200  # words a minute
CODING = 10  # visible lines of code a minute
WIDE = 4.95 * 72  # points: what is wider than this scrolls on a phone instead of shrinking
TITLE = re.compile(r"\A# @title .*\n?")  # a form's title in Colab; the page has its own
GROUND = re.compile(r'(<g id="patch_1">\s*<path [^>]*style=")fill: #fcfcfa')
SVG = "image/svg+xml"
GPUS = ("T4", "H100")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def plain(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells without what tools left in them, under today's tags."""
    kept = []
    for cell in cells:
        if "injected-parameters" in tags(cell):
            continue
        named = {"plumbing": "plot", "parameters": "setup"}
        now = list(dict.fromkeys(named.get(tag, tag) for tag in tags(cell)))
        mystnb = {"mystnb": cell.metadata.mystnb} if "mystnb" in cell.metadata else {}
        cell.metadata = nbformat.from_dict({**({"tags": now} if now else {}), **mystnb})
        if cell.cell_type == "code":
            cell.source = TITLE.sub("", cell.source)
        kept.append(cell)
    return kept


def joined(cells: list[NotebookNode], tag: str) -> list[NotebookNode]:
    """Neighbouring code cells with the tag as one cell."""
    merged: list[NotebookNode] = []
    for cell in cells:
        last = merged[-1] if merged else None
        if last is not None and all(c.cell_type == "code" and tag in tags(c) for c in (last, cell)):
            last.source += "\n\n" + cell.source
            last.outputs += cell.outputs
        else:
            merged.append(cell)
    return merged


def without_silent_plots(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The code of a plot cell that shows nothing goes to the plot cell behind it, if one is there:
    a fold stands above nothing otherwise.
    """
    merged: list[NotebookNode] = []
    for cell in cells:
        last = merged[-1] if merged else None
        if last is not None and silent_plot(last) and "plot" in tags(cell):
            cell.source = f"{last.source}\n\n{cell.source}"
            merged.pop()
        merged.append(cell)
    return merged


def silent_plot(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and "plot" in tags(cell) and not cell.outputs


def hero_first(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The fold "Setup" moved below the hero figure, which is the first thing to see."""
    heroes = [i for i, cell in enumerate(cells) if "hero" in tags(cell)]
    setups = [i for i, cell in enumerate(cells) if "setup" in tags(cell)]
    if not heroes or not setups or setups[0] > heroes[0]:
        return cells
    setup = cells[setups[0]]
    others = [cell for cell in cells if cell is not setup]
    at = others.index(cells[heroes[0]]) + 1
    while at < len(others) and "check" in tags(others[at]):
        at += 1
    return [*others[:at], setup, *others[at:]]


# Ticks ------------------------------------------------------------------------------------------


def tick(entry: dict) -> str:
    """One check as a fold: a mark, which opens to the statement, the value, status and source."""
    status, claim = entry["status"], html.escape(entry["id"])
    statement = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(entry["statement"]))
    name = html.escape(re.sub("`", "", f"{status}: {entry['statement']}"))
    value = ledger.shown(entry["found"] if entry["found"] is not None else entry["expected"])
    where = html.escape(ledger.where_in_paper(entry["section"]))
    evidence = f" Evidence: {html.escape(entry['evidence'])}." if entry["evidence"] else ""
    return (
        f'<details class="tick tick-{status}" id="{entry["anchor"]}">'
        f'<summary title="{name}"><span class="tick-mark" aria-hidden="true"></span>'
        f'<span class="visually-hidden">{name}</span></summary>'
        f'<p><span class="claim-status">{status}</span> {statement} '
        f"<code>{html.escape(value)}</code>{evidence} "
        f'<a class="claim-source" href="../book/ledger.html#{claim}">{where}, {claim}</a></p>'
        "</details>"
    )


def with_ticks(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """A cell's outputs, each run of claims in one line of ticks."""
    shown: list[NotebookNode] = []
    run: list[str] = []

    def close() -> None:
        if run:
            text = f'<div class="ticks" role="group" aria-label="Checks">{"".join(run)}</div>'
            shown.append(nbformat.v4.new_output("display_data", data={"text/html": text}))
            run.clear()

    for output in outputs:
        entry = output.get("data", {}).get(ledger.MIME)
        if entry:
            run.append(tick(json.loads(entry) if isinstance(entry, str) else entry))
        else:
            close()
            shown.append(output)
    close()
    return shown


def with_whole_prints(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """A cell's outputs, what was printed in a row in one: MyST-NB breaks the line between two."""
    shown: list[NotebookNode] = []
    for output in outputs:
        last = shown[-1] if shown else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            shown.append(output)
    return shown


# Figures ----------------------------------------------------------------------------------------


def draw_for_both_themes(cell: NotebookNode) -> None:
    """Classes for a cell's drawings: ``drawn`` follows the theme, ``wide`` scrolls on a phone.

    A drawing that holds pixels (a photograph, a heat map) keeps its ground and its colours, and so
    do the others of its cell.
    """
    texts = {}
    for at, output in enumerate(cell.outputs):
        svg = output.get("data", {}).get(SVG)
        if svg is not None:
            texts[at] = svg if isinstance(svg, str) else "".join(svg)
    if not texts:
        return
    classes = ["wide"] if max(map(svg_width, texts.values())) > WIDE else []
    if not any("<image " in svg for svg in texts.values()):
        classes.append("drawn")
        for at, svg in texts.items():
            cell.outputs[at].data[SVG] = GROUND.sub(r"\1fill: none", svg)
    if classes:
        image = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
        image["classes"] = " ".join(dict.fromkeys([*image.get("classes", "").split(), *classes]))


def svg_width(svg: str) -> float:
    """Width of a drawing in points; 0 where it does not say."""
    found = re.search(r'<svg\b[^>]*\bwidth="([\d.]+)(?:pt)?"', svg)
    return float(found[1]) if found else 0.0


# Times ------------------------------------------------------------------------------------------


def without_exercises(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """What a chapter holds up to its section "Exercises", without the exercises that stand before:
    one begins at its heading and lasts to the next section.
    """
    inside = False
    for cell in cells:
        if cell.cell_type == "markdown":
            if re.search(r"^## Exercises", cell.source, re.M):
                return
            for heading in re.findall(r"^## |^### Exercise ", cell.source, re.M):
                inside = heading != "## "
        if not inside:
            yield cell


def visible_code(cell: NotebookNode) -> int:
    """Lines of a code cell that a reader of the page sees unfolded."""
    if cell.cell_type != "code" or set(tags(cell)) & {*FOLDED, "remove-cell", "remove-input"}:
        return 0
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def minutes(cells: Iterable[NotebookNode]) -> float:
    """200 words or 10 visible lines of code a minute."""
    cells = [*cells]
    words = sum(boxes.words(cell.source) for cell in cells if cell.cell_type == "markdown")
    return words / READING + sum(map(visible_code, cells)) / CODING


def reading_minutes(cells: list[NotebookNode]) -> float:
    """How long a chapter takes to read, without its exercises."""
    return minutes(without_exercises(cells))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min"


def times(cells: list[NotebookNode], chapter: str, record: dict) -> str:
    """What stands in the place of ``<!-- times -->``: how long to read, how long to run."""
    short, whole = (max(1, round(n)) for n in (reading_minutes(cells), minutes(cells)))
    parts = [f"{short} minutes to read, {whole} with the exercises"]
    if record:
        parts.append(f"{duration(record['seconds'])} to run on {html.escape(record['device'])}")
    worked_out = [estimate(chapter, gpu) for gpu in GPUS]
    parts += [html.escape(str(found)) for found in worked_out if found is not None]
    return f'<p class="times">{"; ".join(parts)}.</p>'


# The whole page ---------------------------------------------------------------------------------


def fold(cell: NotebookNode) -> None:
    """The tag and the words by which MyST-NB folds a cell."""
    for tag, (hide, prompt) in FOLDED.items():
        if tag in tags(cell):
            cell.metadata.tags = [*tags(cell), hide]
            cell.metadata.setdefault("mystnb", {}).update(
                code_prompt_show=prompt, code_prompt_hide=prompt
            )
            return


def insert_quiz(cells: list[NotebookNode], chapter: str) -> None:
    """The chapter's quiz, before its references."""
    quiz = quizzes.render(chapter)
    if not quiz:
        return
    ends = [
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "markdown" and cell.source.startswith("## References")
    ]
    at = ends[-1] if ends else len(cells)
    cells.insert(at, nbformat.v4.new_markdown_cell(quiz, id="quiz"))


def page(nb: NotebookNode, name: str, record: dict) -> tuple[NotebookNode, list[Trap]]:
    """The notebook as the page shows it, and the traps in it."""
    kept = ("kernelspec", "language_info", "mystnb", "myst")
    nb.metadata = nbformat.from_dict({k: v for k, v in nb.metadata.items() if k in kept})
    cells = joined(joined(plain(nb.cells), "setup"), "check")
    cells = hero_first(without_silent_plots(cells))
    chapter, traps = name[:2], []
    header = times(cells, chapter, record)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source, found = boxes.markdown(cell.source, name)
            cell.source = cell.source.replace("<!-- times -->", header)
            traps += found
        elif cell.cell_type == "code":
            cell.outputs = with_ticks(with_whole_prints(cell.outputs))
            draw_for_both_themes(cell)
            fold(cell)
    insert_quiz(cells, chapter)
    if record:
        cells.append(nbformat.v4.new_markdown_cell(notes.run_note(record), id="run-note"))
    nb.cells = cells
    return nb, traps
