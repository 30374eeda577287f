"""Before the first step: what belongs together, where a run goes on, how its batches are made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import needs
from ..data import Eigen, Loader, mean_rgb, pca_rgb
from ..model import Network
from .checkpoint import check_same_run, newest
from .options import Options
from .recipe import Recipe


def check_arguments(
    recipe: Recipe, train: Any, val: Any, model: Any, init_from: Any, processes: int
) -> None:
    """What can be said before any data is touched; ValueError where it does not fit together."""
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


def earlier_state(
    folder: Path, recipe: Recipe, train: Any, frozen: dict[str, Any]
) -> dict[str, Any] | None:
    """The newest checkpoint in ``folder``, None where there is none; CheckpointError where it is of
    another recipe, set or choice of frozen layers."""
    state = newest(folder)
    if state is not None:
        classes = list(map(str, train.classes))
        found = {"images": len(train), "classes": classes, "frozen": list(frozen)}
        check_same_run(state, recipe, found)
    return state


def statistics(
    recipe: Recipe, train: Any, options: Options, state: dict | None, skipped: dict[int, str]
) -> tuple[Tensor, Eigen | None]:
    """Mean RGB and principal components: the checkpoint's, those given, or the training set's."""
    if state is not None:
        return state["mean"], Eigen(*state["eigen"]) if state["eigen"] else None
    mean, eigen = options.mean, options.eigen
    how: dict[str, Any] = {"on_error": options.on_error, "skipped": skipped}
    mean = mean_rgb(train, **how) if mean is None else torch.as_tensor(mean, dtype=torch.float32)
    if eigen is None and recipe.colour:
        eigen = pca_rgb(train, **how)
    return mean, eigen


def loaders(
    recipe: Recipe,
    train: Any,
    val: Any,
    mean: Tensor,
    eigen: Eigen | None,
    options: Options,
    **where: Any,
) -> tuple[Loader, Loader | None]:
    """Training batches, and centre crops at Q = S of the validation set.

    ``where``: the loader's rank, world_size and device.
    """
    feed = partial(
        Loader,
        batch_size=recipe.batch_size,
        crop=recipe.crop,
        mean=mean,
        gain=recipe.gain,
        seed=recipe.seed,
        workers=options.workers,
        on_error=options.on_error,
        **where,
    )
    colour = eigen if recipe.colour else None
    loader = feed(dataset=train, scales=recipe.scales, colour=colour, flip=recipe.flip)
    if val is None:
        return loader, None
    return loader, feed(dataset=val, scales=recipe.test_scale, shuffle=False, augment=False)
