"""Shapes, parameters, multiply-adds and receptive fields, from the configuration alone.

No network is built and no weight allocated. One walk through the layers (:func:`walk`) yields
everything; the other functions add up or rearrange its rows. Paper: Sect. 2.1 to 2.3, Tables 1, 2.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

from .checks import needs, positive
from .configs import (
    LRN,
    Config,
    Conv,
    Layer,
    Pool,
    Size,
    check_classes,
    check_size,
    check_width,
    resolve,
    scaled,
)

Shape = tuple[int, ...]  # of one image's map, without the batch axis


@dataclass(frozen=True)
class Field:
    """Receptive field of one layer's units, in input pixels along one axis.

    ``size``: side of the square that one unit sees. ``jump``: distance between the fields of
    neighbouring units (the effective stride). ``start``: centre of the first unit's field; pixel
    centres lie at 0.5, 1.5, ...
    """

    name: str
    size: int
    jump: int
    start: float

    @property
    def left(self) -> float:
        """First pixel of the first unit's field; negative where it reaches into the padding."""
        return self.start - self.size / 2

    def grow(self, name: str, kernel: int, stride: int = 1, padding: int = 0) -> Field:
        """The field one layer further.

        The size grows by (kernel - 1) jumps, and only the stride changes the jump.
        """
        return Field(
            name,
            size=self.size + (kernel - 1) * self.jump,
            jump=self.jump * stride,
            start=self.start + ((kernel - 1) / 2 - padding) * self.jump,
        )

    def after(self, name: str, layer: Layer) -> Field:
        """The field of the units of ``layer``, which reads the units that this field is of."""
        if isinstance(layer, Conv):
            return self.grow(name, layer.kernel, layer.stride, layer.pad)
        if isinstance(layer, Pool):
            return self.grow(name, layer.kernel, layer.stride)
        return replace(self, name=name)


PIXEL = Field("input", size=1, jump=1, start=0.5)


def out_side(layer: Layer, side: int) -> int:
    """Output side of a layer for an input of ``side`` units, as in PyTorch; below 1: nothing."""
    if isinstance(layer, LRN):
        return side
    if isinstance(layer, Conv):
        return (side + 2 * layer.pad - layer.kernel) // layer.stride + 1
    if not layer.ceil:
        return (side - layer.kernel) // layer.stride + 1
    out = math.ceil((side - layer.kernel) / layer.stride) + 1
    starts_outside = (out - 1) * layer.stride >= side  # PyTorch drops such a last window
    return out - 1 if starts_outside else out


@dataclass(frozen=True)
class Row:
    """One layer for one image: output shape without the batch axis, parameters, cost, field.

    ``kind``: conv, bn, lrn, pool or fc. ``kernel`` is 0 where there is none. ReLU and dropout work
    in place and have no row.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    macs: int
    activation_bytes: int
    field: Field
    kernel: int

    @property
    def receptive_field(self) -> int:
        """Side of the receptive field in input pixels."""
        return self.field.size


def _first_empty(config: Config, size: Size) -> str | None:
    """The layer that leaves nothing of an image of ``size``; None where all leave something."""
    sides = list(size)
    for name, layer in zip(config.layer_names, config.layers):
        sides = [out_side(layer, side) for side in sides]
        if min(sides) < 1:
            return name
    return None


def smallest_image(config: str | Config) -> int:
    """Smallest square image, in pixels a side, of which every layer leaves at least one position.

    32 for the nets of Table 1. Raises ValueError where no image of up to 1000 pixels will do.
    """
    config = resolve(config)
    # sides of maps grow with the image, so one search by halves will do
    sides = range(1, 1001)
    side = 1 + bisect_left(sides, True, key=lambda n: _first_empty(config, (n, n)) is None)
    needs(side in sides, "config", config.name, "a net for images of up to 1000 pixels a side")
    return side


def walk(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | Size = 224,
    bytes_per_value: int = 4,
) -> list[Row]:
    """All layers of a configuration in order, as :class:`Row`.

    Raises KeyError for an unknown configuration and ValueError for an argument out of range or an
    image too small for the layers.
    """
    config = resolve(config)
    num_classes = check_classes(num_classes)
    width = check_width(width)
    positive("bytes_per_value", bytes_per_value)
    size = check_size(image_size)
    if (empty := _first_empty(config, size)) is not None:
        least = f"at least {smallest_image(config)} pixels a side for {config.name}"
        needs(False, "image_size", image_size, f"{least}; nothing is left after {empty}")

    rows: list[Row] = []

    def add(name: str, kind: str, shape: Shape, params: int, macs: int, kernel: int = 0) -> None:
        held = math.prod(shape) * bytes_per_value
        rows.append(Row(name, kind, shape, params, macs, held, replace(field, name=name), kernel))

    channels = 3
    h, w = size
    field = PIXEL
    for name, layer in zip(config.layer_names, config.layers):
        h, w = (out_side(layer, side) for side in (h, w))
        field = field.after(name, layer)
        if isinstance(layer, LRN):
            add(name, "lrn", (channels, h, w), 0, 0)
        elif isinstance(layer, Pool):
            add(name, "pool", (channels, h, w), 0, 0, layer.kernel)
        else:
            out = scaled(layer.channels, width, config.channel_unit)
            weights = layer.kernel**2 * (channels // layer.groups) * out
            channels = out
            add(name, "conv", (out, h, w), weights + out, weights * h * w, layer.kernel)
            if batch_norm:  # a scale and a shift a channel
                add(name.replace("conv", "bn"), "bn", (out, h, w), 2 * out, 0)

    field = field.grow("", h)  # the first FC layer is an h x w convolution (Sect. 3.2)
    features = channels * h * w
    hidden = [scaled(n, width) for n in config.fc]
    for name, out in zip(config.fc_names, [*hidden, num_classes]):
        add(name, "fc", (out,), features * out + out, features * out)
        features = out
    return rows


def last_map(
    config: str | Config, image_size: int | Size = 224, width: float = 1.0
) -> tuple[int, int, int]:
    """(channels, height, width) of the map that the first FC layer reads: 512, 7, 7 at 224."""
    rows = [row for row in walk(config, width=width, image_size=image_size) if row.kind != "fc"]
    channels, h, w = rows[-1].output_shape
    return channels, h, w


def count_parameters(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | Size = 224,
) -> int:
    """Weights and biases of the network (Table 2).

    ``batch_norm`` adds a scale and a shift a convolution channel.
    """
    return sum(row.params for row in walk(config, num_classes, batch_norm, width, image_size))


def count_macs(
    config: str | Config, image_size: int | Size = 224, num_classes: int = 1000, width: float = 1.0
) -> int:
    """Multiply-adds of convolutions and FC layers for one image.

    Biases, ReLU, pooling and normalisation are not counted.
    """
    rows = walk(config, num_classes, width=width, image_size=image_size)
    return sum(row.macs for row in rows)


def receptive_field(config: str | Config, image_size: int | Size = 224) -> list[Field]:
    """Receptive field after each layer, first convolution to last FC layer (Sect. 2.3).

    The first FC layer counts as the convolution over the whole last map that it is (Sect. 3.2),
    along the height of the image.
    """
    return [row.field for row in walk(config, image_size=image_size)]
