"""What ``init_from`` may be: a net, a run's checkpoint, released weights; and their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import expected
from ..model import Network
from ..released import NAMES
from ..weights import FAMILIES, load_weights
from .checkpoint import CheckpointError, load_run

Source = str | Path | nn.Module


def trained(source: Source, image_size: Any) -> nn.Module:
    """The net that ``init_from`` means: a net itself, torchvision's name for one ("vgg16"), a run's
    checkpoint, or a file of released weights, for images of this size where the file does not tell.
    CheckpointError says what is wrong with a file."""
    if isinstance(source, nn.Module):
        return source
    if not isinstance(source, str | Path):
        what = "a net, a checkpoint, a file of weights, or a name like 'vgg16'"
        raise TypeError(expected("init_from", source, what))
    file = Path(source)
    named = str(source) in NAMES and not file.exists()
    read_as = f"init_from={str(source)!r}"
    try:
        if not named:
            try:
                return load_run(file).model
            except CheckpointError as error:
                if not file.is_file() or not file.stat().st_size:
                    raise
                read_as = f"{error}; and as released weights"
        return _released(source, image_size)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{read_as}: {error}") from None


def _released(source: str | Path, image_size: Any) -> Network:
    try:
        return load_weights(source, image_size=image_size)
    except ValueError as error:
        if not str(error).startswith("family="):
            raise
        # the file does not tell who trained it: that is of the pixels, and not of the weights
        return load_weights(source, family="paper", image_size=image_size)


@torch.no_grad()
def match_pixels(
    source: nn.Module, first: nn.Conv2d | nn.Linear, gain: float, say: Callable[[str], None]
) -> None:
    """Make the ``first`` layer, copied from ``source``, one for RGB where that net reads BGR; say
    which ``gain`` makes up for a division of its pixels."""
    pixels = getattr(source, "preprocessing", None)
    if pixels is None and type(source).__module__.startswith("torchvision."):
        pixels = FAMILIES["torchvision"]
    if pixels is None:
        return
    if pixels.bgr:
        first.weight.copy_(first.weight.flip(1))
    std = sum(pixels.std) / 3
    if abs(gain * std - 1) > 0.05:
        say(
            f"that net's pixels were divided by {std:.4g}, this recipe multiplies them by "
            f"gain={gain:g}: gain={1 / std:.4g} is what its weights are used to"
        )
