"""The loop of Sect. 3.1, and ``fit``, which sets it up."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..checks import needs
from ..data import Eigen, Loader, mean_rgb, pca_rgb
from ..model import Network
from .checkpoint import Run, check_same_run, locked, newest
from .history import History
from .machine import Machine, choose_device, choose_precision, from_first, share_threads, world
from .options import Options
from .recipe import Recipe
from .state import Keeper, Training
from .transfer import Source, frozen_layers, start_from

Say = Callable[[str], Any]
NAMED = 10  # skipped images that are named in the log, at most


def descend(at: Training, machine: Machine, val: Loader | None, keeper: Keeper, say: Say) -> None:
    """Mini-batch gradient descent with momentum and weight decay; the learning rate is divided by
    ten where the validation accuracy stops improving (Sect. 3.1)."""
    while not at.ended:
        at.train_mode()
        began, first = time.monotonic(), at.step
        for images, labels, indices in batches(at, machine):  # (n, 3, crop, crop), (n,), (n,)
            at.optimizer.zero_grad(set_to_none=True)
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
        hint(at, say)


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
            total += torch.tensor([float(loss), float(right), len(y)], dtype=torch.float64)
    loss, right, images = machine.total(total)
    return loss / images, right / images


def hint(at: Training, say: Say) -> None:
    """One line, once, where an epoch ended no better than guessing."""
    classes = len(at.classes)
    if not at.history.at_chance(classes, len(at.loader)) or at.hinted:
        return
    at.hinted = True
    say(
        f"the loss is still that of guessing, ln({classes}) = {math.log(classes):.3f}, or above. "
        "If it stays there: layers from a trained shallower net (init_from) or init='glorot', both "
        "of Sect. 3.1, init='he', or another lr"
    )


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
    _check(recipe, train, val, model, init_from, processes)
    device = choose_device(options.device)
    dtype = choose_precision(options.precision, device)
    if device.type == "cpu":
        share_threads(int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    folder = None if out is None else Path(out)
    with locked(folder) if folder and rank == 0 else contextlib.nullcontext():
        net = recipe.net(len(train.classes)) if model is None else model
        frozen = frozen_layers(net, options.freeze) if options.freeze else {}
        state = newest(folder) if folder and rank == 0 else None
        if state is not None:
            classes = list(map(str, train.classes))
            found = {"images": len(train), "classes": classes, "frozen": list(frozen)}
            check_same_run(state, recipe, found)
        state = from_first(state, device)
        if init_from is not None and state is None:
            start_from(init_from, net, recipe.gain, say)
        skipped: dict[int, str] = {}
        known = _statistics(recipe, train, options, state, skipped) if rank == 0 else None
        mean, eigen = from_first(known, device)
        feed = {
            "batch_size": recipe.batch_size,
            "crop": recipe.crop,
            "mean": mean,
            "gain": recipe.gain,
            "seed": recipe.seed,
            "rank": rank,
            "world_size": processes,
            "device": device,
            "workers": options.workers,
            "on_error": options.on_error,
        }
        colour = eigen if recipe.colour else None
        loader = Loader(train, scales=recipe.scales, colour=colour, flip=recipe.flip, **feed)
        centre = {"scales": recipe.test_scale, "flip": False, "shuffle": False, "augment": False}
        checker = None if val is None else Loader(val, **centre, **feed)
        machine = Machine(net, recipe, device, dtype, options.compile, options.micro_batch, say)
        at = Training(recipe, net, loader, device, machine.scaler, eigen, frozen)
        if state is not None:
            at.restore(state)
            going = f"going on from {folder}: epoch {at.epoch + 1}, step {at.step}"
            say(f"{folder} is finished: {at.ended}" if at.ended else going)
        descend(at, machine, checker, Keeper(folder if rank == 0 else None, options), say)
        machine.release()
        at.release()
        lost = {*at.skipped, *skipped.values(), *(checker.skipped.values() if checker else ())}
        named = sorted(machine.union(lost))
        if named:
            rest = f"; and {len(named) - NAMED} more" if len(named) > NAMED else ""
            say(f"{len(named)} unreadable images skipped: {'; '.join(named[:NAMED])}{rest}")
        return Run(
            recipe,
            net,
            at.history,
            mean=mean,
            classes=at.classes,
            ended=at.ended,
            checkpoint=at.written,
            skipped=tuple(named),
        )


def _check(
    recipe: Recipe, train: Any, val: Any, model: Any, init_from: Any, processes: int
) -> None:
    """What can be said before any data is touched."""
    needs(isinstance(recipe, Recipe), "recipe", recipe, "a Recipe")
    divides = recipe.batch_size % processes == 0
    needs(divides, "batch_size", recipe.batch_size, f"a multiple of the {processes} processes")
    classes = list(map(str, train.classes))
    if val is not None:
        theirs = list(map(str, val.classes))
        needs(theirs == classes, "val", theirs, f"the classes of the training set, {classes}")
    if model is None:
        return
    given = str(init_from) if isinstance(init_from, str | Path) else type(init_from).__name__
    needs(init_from is None, "init_from", given, "None where a model is given")
    if isinstance(model, Network):
        found = model.config.name, model.image_size
        asked = recipe.config, (recipe.crop, recipe.crop)
        needs(found == asked, "model", found, f"the recipe's configuration and crop, {asked}")
    outputs = [m.out_features for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    what = f"a net with {len(classes)} outputs, one a class of the training set"
    needs(outputs in ([], [len(classes)]), "model", f"{outputs} outputs", what)


def _statistics(
    recipe: Recipe, train: Any, options: Options, state: dict | None, skipped: dict[int, str]
) -> tuple[Tensor, Eigen | None]:
    """Mean RGB and principal components: the checkpoint's, those given, or the training set's."""
    if state is not None:
        return state["mean"], Eigen(*state["eigen"]) if state["eigen"] else None
    mean, eigen = options.mean, options.eigen
    how = {"on_error": options.on_error, "skipped": skipped}
    mean = mean_rgb(train, **how) if mean is None else torch.as_tensor(mean, dtype=torch.float32)
    if eigen is None and recipe.colour:
        eigen = pca_rgb(train, **how)
    return mean, eigen
