"""The loop of Sect. 3.1, and ``fit``, which sets it up."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..data import Loader
from ..model import Network
from .checkpoint import Run, locked
from .history import History, hint
from .machine import Machine, choose_device, choose_precision, from_first, share_threads, world
from .options import Options
from .recipe import Recipe
from .sources import Source
from .start import check_arguments, earlier_state, loaders, statistics
from .state import Keeper, Training
from .transfer import frozen_layers, start_from

Say = Callable[[str], Any]
NAMED = 10  # skipped images that are named in the log, at most


def descend(at: Training, machine: Machine, val: Loader | None, keeper: Keeper, say: Say) -> None:
    """Mini-batch gradient descent with momentum and weight decay; the learning rate is divided by
    ten where the validation accuracy stops improving (Sect. 3.1)."""
    while not at.ended:
        at.train_mode()
        began, first = time.monotonic(), at.step
        for images, labels, indices in batches(at, machine):  # (n, 3, crop, crop), (n,), (n,)
            at.optimizer.zero_grad()
            loss = machine.gradient(images, labels, indices, at.epoch)  # forward and backward
            machine.update(at.optimizer)  # v = 0.9 v + g + 5e-4 w;  w = w - lr v
            at.count(loss)
            keeper.now_and_then(at)
        at.read_losses()
        rate = (at.step - first) * at.recipe.batch_size / max(time.monotonic() - began, 1e-9)
        skipped = machine.total(torch.tensor(len(at.loader.skipped)))
        measured = None if val is None else validate(machine, val)  # loss, accuracy
        better = at.close_epoch(measured, rate, skipped)  # the rule for the rate is in here
        say(History.line(at.history.rows[-1]))
        keeper.save(at, ("best.pt", "last.pt") if better else ("last.pt",))
        if not at.hinted and at.history.at_chance(len(at.classes), len(at.loader)):
            at.hinted = True
            say(hint(len(at.classes)))


def batches(at: Training, machine: Machine) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What is left of the epoch, with a bar where somebody watches."""
    if not at.step:
        at.loader.skipped.clear()  # counted anew in each epoch
    yield from tqdm(
        at.loader.epoch(at.epoch, start=at.step),
        f"epoch {at.epoch + 1}",
        len(at.loader),
        initial=at.step,
        leave=False,
        disable=machine.rank > 0 or not sys.stderr.isatty(),
    )
    at.skipped.update(at.loader.skipped.values())


@torch.no_grad()
def validate(machine: Machine, loader: Loader) -> tuple[float, float]:
    """Mean loss in nats and accuracy, of one centre crop an image."""
    machine.net.eval()
    total = torch.zeros(3, dtype=torch.float64)  # loss, right, images
    for images, labels, _ in loader.epoch(0):
        for x, y in zip(images.split(machine.micro), labels.split(machine.micro)):
            logits = machine.logits(x)  # (n, classes)
            loss = F.cross_entropy(logits, y, reduction="sum")
            right = (logits.argmax(1) == y).sum()
            total += torch.tensor([float(loss), float(right), len(y)])
    loss, right, images = machine.total(total)
    return loss / images, right / images


def fit(
    recipe: Recipe,
    train: Any,
    val: Any = None,
    out: str | Path | None = None,
    *,
    model: Network | None = None,
    init_from: Source | None = None,
    options: Options | None = None,
    **overrides: Any,
) -> Run:
    """Train by the recipe until the plateau rule or ``max_epochs`` ends it; resumes from ``out``
    where a run lies there.

    train, val: data sets (see :mod:`vggbook.data`). Without ``val`` the rate never falls.
        Validation: one centre crop at Q = S.
    out: folder for last.pt (an epoch, or ``save_minutes``, old at most), previous.pt and best.pt. A
        run that was killed continues from it, and on the CPU ends with the very weights of an
        undisturbed run. Only ``max_epochs`` and the options may differ between the two calls.
    model: train this net, in place, instead of ``recipe.net(...)``.
    init_from: what to start from: a net (also torchvision's), a run's checkpoint, a file of
        released weights, or torchvision's name for one ("vgg16"). The same layers are all copied,
        of another net (A) the first four convolutions and the FC layers; the last FC layer only
        where the classes are as many. All of them learn at the full rate; ``freeze`` holds some.
    options: see :class:`Options`; its fields can also be given by name, as in ``device="cpu"``.

    Raises ValueError or TypeError for an argument that is not right, CheckpointError for a
    checkpoint that is not this run's, Diverged for a loss that is not finite, BlockingIOError where
    another run uses ``out``.
    """
    options = (Options() if options is None else options).override(**overrides)
    rank, processes = world()
    say: Say = options.log if options.log and rank == 0 else lambda line: None
    check_arguments(recipe, train, val, model, init_from, processes)
    device = choose_device(options.device)
    dtype = choose_precision(options.precision, device)
    if device.type == "cpu":
        share_threads(int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    folder = Path(out) if out is not None and rank == 0 else None
    with locked(folder) if folder else contextlib.nullcontext():
        net = recipe.net(len(train.classes)) if model is None else model
        frozen = frozen_layers(net, options.freeze) if options.freeze else {}
        state = earlier_state(folder, recipe, train, frozen) if folder else None
        state = from_first(state, device)
        if init_from is not None and state is None:
            start_from(init_from, net, recipe.gain, say)
        skipped: dict[int, str] = {}
        known = statistics(recipe, train, options, state, skipped) if rank == 0 else None
        mean, eigen = from_first(known, device)
        where = {"rank": rank, "world_size": processes, "device": device}
        loader, checker = loaders(recipe, train, val, mean, eigen, options, **where)
        machine = Machine(net, recipe, device, dtype, options.compile, options.micro_batch, say)
        at = Training(recipe, net, loader, device, machine.scaler, eigen, frozen)
        if state is not None:
            at.restore(state)
            going = f"going on from {folder}: epoch {at.epoch + 1}, step {at.step}"
            say(f"{folder} is finished: {at.ended}" if at.ended else going)
        descend(at, machine, checker, Keeper(folder, options), say)
        machine.release()
        at.release()
        lost = {*at.skipped, *skipped.values(), *(checker.skipped.values() if checker else ())}
        named = sorted(machine.union(lost))
        if named:
            rest = f"; and {len(named) - NAMED} more" if len(named) > NAMED else ""
            say(f"{len(named)} unreadable images skipped: {'; '.join(named[:NAMED])}{rest}")
        ended = at.ended, at.written, tuple(named)
        return Run(recipe, net, at.history, mean, at.classes, *ended)
