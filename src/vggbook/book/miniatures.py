"""Trained nets small enough to come with the book: eighth-width A, D and E of chapter 8's second
plan, in half precision.

``miniature("D")`` is trained at one scale, ``miniature("D-jitter")`` with S drawn for each
picture. Each is a file ``NAME.pt`` under ``results/miniatures/``; ``miniatures.json`` beside
them holds what a file must be, and where it comes from.
"""

from __future__ import annotations

import hashlib
import io
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..checks import needs
from ..model import Network, build
from ..weights import Preprocessing
from . import recorded


class MiniatureError(ValueError):
    """A miniature's file is missing or is not the one that was recorded; the message says which
    file."""


def folder() -> Path:
    """Where the miniatures lie."""
    return recorded.folder() / "miniatures"


@cache
def _index(where: Path) -> dict:
    return recorded.read(where / "miniatures.json")


def _weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file whose checksum is right."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MiniatureError(f"no miniature {path.name!r} in {path.parent}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise MiniatureError(
            f"{path.name}: its SHA-256 begins {found[:12]}, that of the recorded net begins "
            f"{sha256[:12]}; the file is damaged or another one"
        )
    return torch.load(io.BytesIO(content), weights_only=True)


def miniature(name: str, where: Path | None = None) -> Network:
    """A trained net by its name, in evaluation mode, on the CPU, with float32 weights.

    It is ready for :func:`vggbook.evaluate.predict`: ``net.preprocessing`` prepares pixels of
    0..255. ``net.classes`` names its classes, ``net.provenance`` says how it was trained and what
    it scored; ``net.image_size`` is its crop, 64 x 64 pixels.

    ``where``: another folder than the book's own.

    Raises ValueError for a name that is not there, MiniatureError for a file that is missing or
    has a wrong checksum.
    """
    where = where or folder()
    nets = _index(where)["nets"]
    needs(name in nets, "name", name, f"one of {', '.join(map(repr, nets))}")
    entry = nets[name]
    sizes = {"width": entry["width"], "image_size": entry["crop"]}
    net = build(entry["config"], len(entry["classes"]), **sizes)
    net.load_state_dict(_weights(where / f"{name}.pt", entry["sha256"]))
    net.preprocessing = Preprocessing(name, tuple(entry["mean"]), (1 / entry["gain"],) * 3)
    net.classes = tuple(entry["classes"])
    net.provenance = {key: value for key, value in entry.items() if key != "classes"}
    return net.eval()
