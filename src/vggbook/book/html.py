"""What a notebook shows: tables. Words stand left in their column, numbers right."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from html import escape

from ..checks import expected, needs

LINE = 20  # characters of a number with its interval, which is not broken over lines
WORD_OR_LIST = re.compile(r"[^\W\d_]{3,}|, (?![^\[(]*[\])])")  # a comma, but not of an interval
HYPHEN_FOR_MINUS = re.compile(r"(?<![\w.)\]])-(?=\.?\d)")


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
        sides = self._sides()
        head = "".join(map(_cell, sides, self.head, ["col"] * len(sides)))
        scopes = ["row"] + [""] * (len(sides) - 1)
        body = "".join(f"<tr>{''.join(map(_cell, sides, row, scopes))}</tr>" for row in self.rows)
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return (
            '<div class="table-box" style="overflow-x: auto">'
            f'<table class="small-table">{caption}{table}</table></div>'
        )

    def _sides(self) -> list[str]:
        """Left or right for each column: the first stands left, others where most cells belong."""
        sides = ["left"]
        for at in range(1, len(self.head)):
            cells = [row[at] for row in self.rows if row[at].strip("-– ")]
            numbers = sum(map(_is_number, cells))
            sides.append("right" if 2 * numbers >= len(cells) else "left")
        return sides

    def __repr__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.head))]
        justify = [str.ljust if side == "left" else str.rjust for side in self._sides()]
        text = [
            "  ".join(set_in(cell, width) for set_in, cell, width in zip(justify, line, widths))
            for line in lines
        ]
        text = [line.rstrip() for line in text]
        return "\n".join([*([self.caption] if self.caption else []), *text])


def _is_number(text: str) -> bool:
    """Whether a cell holds one number, with its unit or interval: digits, no word, no list."""
    return bool(re.search(r"\d", text)) and not WORD_OR_LIST.search(text)


def _cell(side: str, text: str, scope: str) -> str:
    """One cell, a heading if it has a scope and a text. Its numbers get a minus for a hyphen."""
    tag, named = ("th", f' scope="{scope}"') if scope and text else ("td", "")
    kept = "white-space: nowrap; " if _is_number(text) and len(text) <= LINE else ""
    shown = escape(HYPHEN_FOR_MINUS.sub("\N{MINUS SIGN}", text))
    return f'<{tag}{named} style="{kept}text-align: {side}">{shown}</{tag}>'


def show_table(head: Sequence[object], *rows: Sequence[object], caption: str = "") -> Table:
    """A table to end a cell with: ``head`` and each of ``rows`` have the same number of cells.

    Text is shown as it is, an integer with its thousands separated, another number to six digits;
    format a number yourself where it needs a fixed number of decimals. The first column
    stands left, another one right if most of its cells hold numbers.
    ValueError for a row of another length, or a table without columns.
    """
    needs(len(head) > 0, "head", head, "at least one column")
    for row in rows:
        if len(row) != len(head):
            raise ValueError(expected("row", row, f"{len(head)} cells, as in head={head!r}"))
    return Table(head, rows, caption)
