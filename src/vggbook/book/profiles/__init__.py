"""Sizes of the runs in the chapters: one YAML a profile. ``ci``: 2 CPU cores, seconds; ``laptop``: a minute or two; ``gpu``."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from ...paper import load_yaml

_HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _HERE.glob("*.yaml")))


def choose() -> str:
    """The profile that fits this machine: gpu where PyTorch sees one, ci where CI is set, else laptop."""
    import torch

    if torch.cuda.is_available():
        return "gpu"
    return "ci" if os.environ.get("CI") else "laptop"


def load(profile: str = "auto", chapter: str | None = None) -> SimpleNamespace:
    """Settings of a profile, ``profile`` and ``device`` among them; those of ``chapter`` ("05") replace the common ones.

    Raises ValueError for a profile that does not exist, with the names of those that do.
    """
    name = choose() if profile == "auto" else profile
    if name not in NAMES:
        raise ValueError(
            f"profile={profile!r} does not exist; choose 'auto' or one of {', '.join(map(repr, NAMES))}"
        )
    data = load_yaml(_HERE / f"{name}.yaml")
    settings = {"profile": name, **data["common"]}
    if chapter is not None:
        if f"chapter_{chapter}" not in data:
            known = ", ".join(sorted(key[8:] for key in data if key.startswith("chapter_")))
            raise ValueError(
                f"chapter={chapter!r} has no settings in profile {name!r}; those with settings: {known}"
            )
        settings |= data[f"chapter_{chapter}"] or {}
    return SimpleNamespace(**settings)
