"""What a notebook shows: tables, with words in the first column and numbers in the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape

from ..checks import expected, needs


def in_a_notebook() -> bool:
    """Whether this process is a Jupyter kernel: JupyterLab, VS Code, Colab."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _text(value: object) -> str:
    """Text as it is, an integer with its thousands separated, any other number to six digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


class Table:
    """A small table that a notebook shows as HTML, a terminal as text; its cells are strings."""

    def __init__(self, head: Sequence[object], rows: Sequence[Sequence[object]], caption: str = ""):
        self.head = [_text(cell) for cell in head]
        self.rows = [[_text(cell) for cell in row] for row in rows]
        self.caption = caption

    def _repr_html_(self) -> str:
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(
            _cell("th", "right" if at else "left", text, "col") for at, text in enumerate(self.head)
        )
        body = "".join(f"<tr>{_row(row)}</tr>" for row in self.rows)
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return (
            '<div class="table-box" style="overflow-x: auto">'
            f'<table class="small-table">{caption}{table}</table></div>'
        )

    def __repr__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.head))]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        ]
        return "\n".join([*([self.caption] if self.caption else []), *text])


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return _cell("th", "left", first, "row") + "".join(
        _cell("td", "right", text) for text in others
    )


def _cell(tag: str, side: str, text: str, scope: str = "") -> str:
    """One cell. What has no text heads nothing: it is no heading."""
    if not text:
        tag, scope = "td", ""
    named = f' scope="{scope}"' if scope else ""
    return f'<{tag}{named} style="text-align: {side}">{escape(text)}</{tag}>'


def show_table(head: Sequence[object], *rows: Sequence[object], caption: str = "") -> Table:
    """A table to end a cell with: ``head`` and each of ``rows`` have the same number of cells.

    Text is shown as it is, an integer with its thousands separated, another number to six digits;
    format a number yourself where it needs a fixed number of decimals. The first column is text.
    ValueError for a row of another length, or a table without columns.
    """
    needs(len(head) > 0, "head", head, "at least one column")
    for row in rows:
        if len(row) != len(head):
            raise ValueError(expected("row", row, f"{len(head)} cells, as in head={head!r}"))
    return Table(head, rows, caption)
