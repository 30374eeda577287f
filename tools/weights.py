"""Which weights the notebooks show: the released VGG-16 where it is, or is fetched; else the
miniatures that come with the book.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tools.failure import NotebookFailed, short

WEIGHTS = ("auto", "download", "miniature")  # the choices of vggbook.book.trained
NET = "vgg16"
SWITCH = re.compile(rb'^\s*"weights = ', re.M)  # in a notebook's cell `parameters`
WITHOUT = "or build with the miniatures: make book WEIGHTS=miniature"


def has_switch(notebook: Path) -> bool:
    """Whether the notebook looks through a trained net that can be chosen."""
    return SWITCH.search(notebook.read_bytes()) is not None


def chosen(weights: str, profile: str, say: Callable[[str], object] = print) -> Path | None:
    """The released file that the notebooks will use, None for the miniatures.

    weights: "auto" takes the file that lies on this machine, and with profile ``gpu`` tries to
    fetch it; "download" fetches it with any profile. NotebookFailed where "download" is refused,
    and where a file is not what its name says.
    """
    from vggbook.released import FOLDER_VARIABLE, FetchError, fetch_weights, find_weights
    from vggbook.weights import check_sha256, digest_of

    if weights not in WEIGHTS:
        known = ", ".join(map(repr, WEIGHTS))
        raise ValueError(f"weights={weights!r}: expected one of {known}")
    if weights == "miniature":
        return None
    try:
        path = find_weights(NET)
    except FileNotFoundError as error:
        raise refusal(str(error), "make that folder, or name another") from None
    if path is None and (weights == "download" or profile == "gpu"):
        say("fetching the released VGG-16: 528 MB, once")
        try:
            path = fetch_weights(NET)
        except FetchError as error:
            if weights == "auto":
                say(f"{error}; the miniatures stand in")
                return None
            lies = f"put the file into a folder yourself, named by {FOLDER_VARIABLE}"
            raise refusal(str(error), f"run the same command again; {lies};") from None
    if path is not None:
        try:
            check_sha256(path, digest_of(path))
        except ValueError as error:
            raise refusal(str(error), f"delete {path}, then run the same command again") from None
    return path


def refusal(reason: str, advice: str) -> NotebookFailed:
    lines = ["the released weights cannot be used"]
    lines += [f"  reason   {short(reason)}", f"  to do    {advice}", f"           {WITHOUT}"]
    return NotebookFailed("\n".join(lines))
