"""Why a notebook failed, in at most ten lines: chapter, cell, reason, what to do. The whole story
lies in a file.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from tools import EXECUTED, ROOT
from tools.files import write

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ARROW = re.compile(r"^-+> *\d+ (.+)$", re.M)  # the line of the cell that raised
PLACE = (
    EXECUTED / "failed"
)  # <chapter>.ipynb as far as it ran, <chapter>.txt with the whole traceback
WIDTH = 160  # characters of a line on the screen

FULL = "free some space on this disk, then run the same command again"
AGAIN = "run the same command again; chapters that were executed are kept"


class NotebookFailed(RuntimeError):
    """A notebook raised, timed out, lost its kernel or cannot be read; the message has at most ten
    lines.
    """


def shown(path: Path) -> str:
    """A path as the reader can type it, relative to the book's folder."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def short(text: str) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 4] + " ..."


def message(notebook: Path, where: str, reason: str, advice: str, line: str = "") -> NotebookFailed:
    """The failure as a reader sees it."""
    lines = [f"{notebook.stem} failed{where}"]
    lines += [f"  line     {short(line)}"] if line else []
    lines += [f"  reason   {short(reason)}", f"  to do    {advice}"]
    return NotebookFailed("\n".join(lines))


def reason_of(log: str, cell_timeout: float) -> tuple[str, str]:
    """Reason and advice from papermill's log, where no cell of the notebook holds an error."""
    if "No space left on device" in log:
        return "no space is left on the disk", FULL
    if "CellTimeoutError" in log:
        late = f"a cell took longer than {cell_timeout:g} s"
        return late, "end other programs, or allow more: python -m tools.build --cell-timeout 1800"
    if "DeadKernelError" in log or "Kernel died" in log:
        return "the notebook's process died, most often for lack of memory", "free memory; " + AGAIN
    lines = [line for line in log.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "papermill said nothing"), AGAIN


def failed_cell(executed: Path) -> tuple[int, str, str, str] | None:
    """Number of the cell that raised, counted from 1 among all cells; its line, its error, the
    traceback.
    """
    try:
        cells = nbformat.read(executed, 4).cells
    except (OSError, ValueError, nbformat.reader.NotJSONError):  # absent, or cut by a full disk
        return None
    own = [c for c in cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    own = [c for c in own if "injected-parameters" not in c.metadata.get("tags", [])]
    for number, cell in enumerate(own, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback))
                arrow = ARROW.search(trace)
                line = arrow[1] if arrow else cell.source.splitlines()[0]
                return number, line, f"{output.ename}: {output.evalue}", trace
    return None


def explain(notebook: Path, executed: Path, log: str, cell_timeout: float) -> NotebookFailed:
    """What went wrong, from the half-executed notebook and papermill's log; both are kept in a
    folder.
    """
    log = ANSI.sub("", log)
    PLACE.mkdir(parents=True, exist_ok=True)
    found = None if "No space left on device" in log else failed_cell(executed)
    story = PLACE / f"{notebook.stem}.txt"
    try:
        write(story, (found[3] if found else log) + "\n")
        if executed.exists():
            executed.replace(PLACE / notebook.name)
    except OSError:  # a full disk: the message must come all the same
        return message(notebook, "", "no space is left on the disk", FULL)
    if not found:
        reason, advice = reason_of(log, cell_timeout)
        late = slow_cell(log)
        return message(notebook, "", reason, f"{advice}\n  more in  {shown(story)}", late)
    number, line, error, _ = found
    advice = f"open {shown(notebook)} at that cell, mend it, run the same command again"
    return message(
        notebook, f" in cell {number}", error, f"{advice}\n  more in  {shown(story)}", line
    )


def slow_cell(log: str) -> str:
    """The cell that a time limit ended, from nbclient's message."""
    quoted = re.search(r"preview of the cell contents:\s*-+\s*(.*?)\s*-{5,}", log, re.S)
    return quoted[1] if quoted and "CellTimeoutError" in log else ""


def unreadable(notebook: Path) -> NotebookFailed | None:
    """A notebook that is no notebook: empty, or cut by a crash or a broken download."""
    try:
        nbformat.validate(nbformat.read(notebook, 4))
    except OSError as error:
        return message(
            notebook, "", f"it cannot be read: {error.strerror}", "check its permissions"
        )
    except Exception as error:
        reason = f"the file is no whole notebook ({type(error).__name__}: {short(str(error))[:60]})"
        return message(notebook, "", reason, f"get it back: git checkout {shown(notebook)}")
    return None


def without_picture(executed: Path) -> str | None:
    """The name of the first figure whose cell shows no picture; None where all do."""
    for cell in nbformat.read(executed, 4).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if cell.cell_type != "code" or not figure:
            continue
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if not any(kind.startswith("image/") or kind == "text/html" for kind in kinds):
            return figure.get("name", "a figure without a name")
    return None
