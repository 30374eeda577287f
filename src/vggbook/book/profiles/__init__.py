"""Sizes of the runs in the chapters, one YAML a profile: ``cpu`` (two cores, seconds a chapter) and
``gpu``.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...checks import choice, flag, needs
from ...paper import load_yaml

_HERE = Path(__file__).parent
NAMES = ("cpu", "gpu")


class Settings(SimpleNamespace):
    """A profile's values as attributes, with ``profile`` (its name), ``device`` and ``strict``.

    A reader who wants other sizes assigns to them: ``settings.train = 4096``.
    """

    def __init__(self, profile: str, values: dict[str, Any], strict: bool = False) -> None:
        super().__init__(profile=profile, strict=strict, **values)
        self._given = deepcopy(values)

    @property
    def changed(self) -> bool:
        """Whether a value differs from the profile's own: a reader has edited it."""
        values = {k: v for k, v in vars(self).items() if k not in ("profile", "strict", "_given")}
        return values != self._given

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k != "_given")
        return f"Settings({values})"


def choose() -> str:
    """The profile that fits this machine: ``gpu`` where PyTorch sees one, else ``cpu``. Nothing
    else decides.
    """
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def read(profile: str) -> dict[str, dict[str, Any]]:
    """A profile's file: the section ``common``, and ``chapter_05`` and so on."""
    return load_yaml(_HERE / f"{profile}.yaml")


def load(profile: str = "auto", chapter: str | None = None, strict: bool = False) -> Settings:
    """Settings of a profile; those of ``chapter`` ("05") are added to the common ones.

    profile: "auto" (see :func:`choose`), "cpu" or "gpu". strict: a missed statistical band stops
    the run (:func:`vggbook.book.bands.expect`), as in the book's own build. Raises ValueError for
    an unknown profile or chapter.
    """
    flag("strict", strict)
    choice("profile", profile, ("auto", *NAMES))
    name = choose() if profile == "auto" else profile
    data = read(name)
    values = dict(data["common"])
    if chapter is not None:
        known = ", ".join(sorted(repr(key[8:]) for key in data if key.startswith("chapter_")))
        there = f"chapter_{chapter}" in data
        needs(there, "chapter", chapter, f"one with settings, {known}")
        values |= deepcopy(data[f"chapter_{chapter}"] or {})
    return Settings(name, values, strict)
