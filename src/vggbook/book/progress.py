"""A progress bar that a reader sees while a cell runs, and that no page keeps."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
QUIET = "VGGBOOK_QUIET"  # set where a page is made: nobody watches, and the page would keep the bar
SECONDS = 0.3  # between two updates


def _in_a_notebook() -> bool:
    """Whether this process is a Jupyter kernel: JupyterLab, VS Code, Colab."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def progress(iterable: Iterable[T], total: int | None = None, title: str = "") -> Iterator[T]:
    """Yield the items of ``iterable`` and show how far it is, in a notebook or a terminal.

    total: number of items where ``len(iterable)`` does not tell. The bar vanishes at the end.
    Nothing is shown where the output is a file, or where the environment variable VGGBOOK_QUIET is
    set, as it is while a page is made.
    """
    in_a_notebook = _in_a_notebook()
    if os.environ.get(QUIET) or not (in_a_notebook or sys.stderr.isatty()):
        yield from iterable
        return
    options: dict[str, Any] = {"total": total, "desc": title or None, "mininterval": SECONDS}
    bar = _notebook_bar(iterable, options) if in_a_notebook else _terminal_bar(iterable, options)
    yield from bar


def _terminal_bar(iterable: Iterable[T], options: dict[str, Any]) -> Iterable[T]:
    from tqdm import tqdm

    return tqdm(iterable, leave=False, **options)


def _notebook_bar(iterable: Iterable[T], options: dict[str, Any]) -> Iterable[T]:
    """A line of text that is updated in place: it needs no widgets, so that every notebook shows
    it.
    """
    from IPython.display import display
    from tqdm import tqdm

    handle = display({"text/plain": ""}, raw=True, display_id=True)

    class Bar(tqdm):
        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            text = str(self) if msg is None else msg
            handle.update({"text/plain": text}, raw=True)

    return Bar(iterable, leave=False, file=io.StringIO(), ncols=80, **options)
