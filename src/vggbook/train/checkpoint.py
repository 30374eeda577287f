"""Checkpoints: written atomically, checked when read, and found again after a crash."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import expected
from ..model import Network
from ..saved import read_saved
from .history import History
from .recipe import Recipe

FORMAT = "vggbook training checkpoint 1"


class CheckpointError(RuntimeError):
    """A checkpoint is damaged, foreign, of another recipe, or cannot be written; the message says
    which and what to do."""


@dataclass
class Run:
    """What :func:`fit` returns and :func:`load_run` reads: the net, its curves, and what its input
    needs."""

    recipe: Recipe
    model: Network
    history: History
    mean: Tensor  # (3,), RGB, 0..255: subtract it from test images too
    classes: tuple[str, ...]
    ended: str = ""  # why training ended; empty where it has not
    checkpoint: Path | None = None
    skipped: tuple[str, ...] = ()  # unreadable images that ``fit`` met, and why


def save_checkpoint(state: dict, path: str | Path, keep: str | Path | None = None) -> None:
    """Write atomically: a file beside it, flushed to the disk, then renamed. What was there before
    is renamed to ``keep``.

    Whenever the process is killed, a whole checkpoint is found under one of the two names.
    CheckpointError where it cannot be written.
    """
    path, temporary = Path(path), Path(f"{path}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps some of the system's errors
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CheckpointError(
            f"could not write {path}: {error}. "
            "The checkpoint before it is untouched; is the disk full?"
        ) from error
    with contextlib.suppress(OSError):  # the renaming itself; not every system flushes a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load_checkpoint(path: str | Path) -> dict:
    """Read and check a checkpoint: whole (every checksum), only tensors and plain values, written
    by this module. CheckpointError says what is wrong."""
    try:
        state = read_saved(Path(path), "checkpoint")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by vggbook.train ({FORMAT!r} is expected in it)"
        )
    return state


def load_run(path: str | Path) -> Run:
    """The run in a checkpoint (last.pt, previous.pt, best.pt): its network with the weights, on the
    CPU, in evaluation mode."""
    state = load_checkpoint(path)
    recipe = Recipe(**state["recipe"])
    model = recipe.net(len(state["classes"]))
    model.load_state_dict(state["model"])
    return Run(
        recipe,
        model.eval(),
        History(state["rows"], state["losses"].tolist()),
        mean=state["mean"],
        classes=tuple(state["classes"]),
        ended=state["ended"],
        checkpoint=Path(path),
    )


# --- the folder of a run ------------------------------------------------------------------------
@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this run alone; the system lets go of it when the process ends, however
    it ends. ValueError where it cannot be written, BlockingIOError where another run holds it."""
    from filelock import FileLock, Timeout  # PyTorch depends on it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock").acquire(blocking=False)
    except Timeout:
        what = "a folder of its own; another run is writing into this folder"
        raise BlockingIOError(expected("out", str(folder), what)) from None
    except OSError as error:
        what = f"a folder that can be written; this one cannot be written ({error})"
        raise ValueError(expected("out", str(folder), what)) from error
    with lock:
        yield


def newest(folder: Path) -> dict | None:
    """The newest good checkpoint of a folder, or None where there is none; a damaged one is named,
    put aside and passed over for the one before."""
    problems = []
    for path in (folder / "last.pt", folder / "previous.pt"):
        if not path.exists():
            continue
        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:  # lest the damaged one takes the good one's place at the next save
            os.replace(folder / "last.pt", folder / "damaged.pt")
            warnings.warn(
                f"{problems[0]}; going on from {path}, written just before it", stacklevel=4
            )
        return {**state, "path": path}
    if problems:
        raise CheckpointError(
            f"{'; '.join(problems)}. No good checkpoint is left in {folder}: "
            "move it away to start anew"
        )
    return None


def check_same_run(state: dict, recipe: Recipe, found: dict[str, Any]) -> None:
    """CheckpointError unless the checkpoint is of this recipe and of what else was ``found``."""
    defaults = {f.name: f.default for f in fields(Recipe)} | {"frozen": []}
    there = defaults | state["recipe"] | {name: state[name] for name in found if name in state}
    here = asdict(recipe) | found
    differ = [
        f"{name}: {there[name]!r} there, {here[name]!r} here"
        for name in here
        if name != "max_epochs" and there[name] != here[name]
    ]
    if differ:
        raise CheckpointError(
            "the folder's checkpoint is of another recipe, data set or set of frozen layers "
            f"({'; '.join(differ)}): use another folder, or the recipe as it was"
        )
