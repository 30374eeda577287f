"""Files that ``torch.save`` wrote, read where they are whole and hold nothing that could run."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch


def read_saved(path: Path, kind: str, old: bool = False, mmap: bool = False) -> Any:
    """Tensors and plain values of a file, on the CPU; every checksum of an archive is tried.

    ``old``: also what torch wrote before 1.6, a pickle without checksums. ``mmap``: an archive's
    tensors stay on the disk until they are used.

    Raises ValueError that says in one line what is wrong, such as "is no ``kind``: ...", without
    the file's name, and OSError where the file cannot be opened.
    """
    with open(path, "rb") as file:
        start = file.read(40)
    archive = start.startswith(b"PK")
    if not start:
        raise ValueError("is damaged: it is empty")
    if not archive and not (old and start.startswith(b"\x80")):
        raise ValueError(f"is no {kind}: it starts with {start!r}")
    try:
        if archive:
            _try_checksums(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)
    except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
        raise ValueError(_refusal(error)) from error


def _try_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is wrong")


def _refusal(error: Exception) -> str:
    """Why a file is not opened; never torch's advice to switch the safe reading off."""
    if found := re.search(r"GLOBAL (\S+)|[Tt]rying to \w+ (\S+)|Unsupported \w+ (\S+)", str(error)):
        what = next(group for group in found.groups() if group)
        why = "objects other than tensors and plain values could run code"
        return f"holds more than weights, it is not opened ({what}: {why})"
    first = (str(error) or type(error).__name__).splitlines()[0]
    reason = f" ({first})" if "weights" not in first.lower() else ""
    return f"is damaged, it cannot be read: it is cut short or another kind of file{reason}"
