"""Scoring an image in overlapping strips, so that memory is bounded (Sect. 3.2's dense evaluation).

Each strip holds all pixels that its scores see; strips start where strides are in phase, so the
scores are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .arithmetic import PIXEL, out_side
from .checks import needs
from .configs import Conv, Pool, Size

_POINTWISE = (
    *(nn.Sequential, nn.ReLU, nn.Dropout, nn.Identity),
    *(nn.BatchNorm2d, nn.LocalResponseNorm),
)
_RULED = "convolutions and max-pooling with square windows, to score an image in strips"


def score_in_strips(
    score: Callable[[Tensor], Tensor],
    layers: nn.Module,
    grid: Size,
    images: Tensor,
    max_pixels: int,
) -> Tensor:
    """``score(images)`` (N, classes, H', W') from strips of up to ``max_pixels`` across the longer
    side; ``score`` slides windows of ``grid`` units over the map that ``layers`` make.

    ValueError for layers whose receptive fields are not known.
    """
    axis = 2 if images.shape[2] >= images.shape[3] else 3
    units = length = images.shape[axis]
    field = PIXEL
    for layer in _sliding(layers):
        field = field.after("", layer)
        units = out_side(layer, units)
    field = field.grow("", grid[axis - 2])
    units -= grid[axis - 2] - 1  # scores along the axis
    left = int(field.left)
    room = max_pixels // (images.numel() // 3 // length)  # pixels along the axis
    step = max(1, (room - field.size) // field.jump)  # scores a strip
    parts = []
    for first in range(0, units, step):
        last = min(first + step, units)
        # counted in scores, so that strides stay in phase; no padding is read inside the image
        origin = max(0, first + left // field.jump)
        start = origin * field.jump
        end = min(length, (last - 1) * field.jump + left + field.size)
        if last == units:
            end = length
        strip = score(images.narrow(axis, start, end - start))
        parts.append(strip.narrow(axis, first - origin, last - first))
    return torch.cat(parts, axis)


def _sliding(features: nn.Module) -> Iterator[Conv | Pool]:
    """What of ``features`` widens or shifts receptive fields, in order, as layers of a Config."""
    for module in features.modules():
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d):
            needs(isinstance(module, _POINTWISE), "features", type(module).__name__, _RULED)
            continue
        needs(_side(module.dilation) == 1, "features", module, _RULED)
        kernel = _side(module.kernel_size)
        stride = _side(module.stride)
        padding = _side(module.padding)
        if isinstance(module, nn.Conv2d):
            yield Conv(module.out_channels, kernel, stride, padding)
        else:
            needs(padding == 0, "features", module, _RULED)
            yield Pool(kernel, stride, module.ceil_mode)


def _side(value: object) -> int:
    """The one number of pixels that a module's setting has for both axes."""
    sides = set(value) if isinstance(value, tuple) else {value}
    side: Any = sides.pop()
    needs(isinstance(side, int) and not sides, "features", value, _RULED)
    return int(side)
