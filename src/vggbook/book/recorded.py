"""Recorded runs: JSON files in ``results/`` that pages quote, each with the provenance that a
reader needs to judge and repeat it.

In a checkout they are read from its ``results/`` folder, in an installed package from the copy that
came with it.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

PROVENANCE = ("command", "commit", "date", "device", "versions", "seed")


class ResultError(ValueError):
    """A recorded result is missing, damaged or without provenance; the message says which file, and
    which line.
    """


def folder() -> Path:
    """Where recorded results lie: ``results/`` of the checkout, else the installed copy."""
    checkout = Path(__file__).parents[3] / "results"
    if (checkout.parent / "pyproject.toml").exists():
        return checkout
    return Path(str(resources.files("vggbook"))) / "results"


def read(path: str | os.PathLike) -> dict:
    """One recorded result. ResultError where it is not a JSON object (with the line) or lacks
    provenance (with what is missing).
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"no recorded result {path.name!r} in {path.parent}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ResultError(f"{path.name}, {where}: {error.msg}") from None
    except UnicodeDecodeError as error:
        what = f"not a text file ({error.reason} at byte {error.start})"
        raise ResultError(f"{path.name}: {what}") from None
    if not isinstance(data, dict):
        what = f"a JSON object is needed, this is a {type(data).__name__}"
        raise ResultError(f"{path.name}, line 1: {what}")
    given = data.get("provenance")
    missing = [key for key in PROVENANCE if not isinstance(given, dict) or key not in given]
    if missing:
        raise ResultError(f"{path.name}: provenance lacks {', '.join(missing)}")
    return data


def load(pattern: str) -> list[dict]:
    """All recorded results whose name matches a glob pattern such as ``"bench-*.json"``, sorted by
    name; may be empty.

    Each gets its file name under ``"file"``.
    """
    return [
        {**read(path), "file": path.relative_to(folder()).as_posix()}
        for path in sorted(folder().glob(pattern))
    ]


def source(result: dict) -> str:
    """One line that tells where a recorded number comes from: file, device, date, commit."""
    p = result["provenance"]
    commit = p["commit"] or "unknown"
    return f"results/{result['file']}: {p['device']}, {p['date']}, commit {commit}"
