"""Shapes, parameters, multiply-adds and receptive fields, from the configuration alone: no network is built, no weight allocated.

One walk through the layers (:func:`walk`) yields everything; the public functions add up or rearrange its rows.
Paper: Sect. 2.1 to 2.3, Tables 1 and 2.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from .configs import (
    LRN,
    Config,
    Conv,
    Pool,
    check_classes,
    check_size,
    check_width,
    resolve,
    scaled,
)


@dataclass(frozen=True)
class Field:
    """Receptive field of one layer's units, in input pixels along one axis.

    ``size``: side of the square that one unit sees. ``jump``: distance between the fields of neighbouring units (the effective
    stride). ``start``: centre of the first unit's field; pixel centres lie at 0.5, 1.5, ...
    """

    name: str
    size: int
    jump: int
    start: float

    @property
    def left(self) -> float:
        """First pixel of the first unit's field; negative where it reaches into the zero padding."""
        return self.start - self.size / 2

    def grow(self, name: str, kernel: int, stride: int = 1, padding: int = 0) -> Field:
        """The field one layer further: size grows by (kernel - 1) jumps, and only the stride changes the jump."""
        return Field(
            name,
            size=self.size + (kernel - 1) * self.jump,
            jump=self.jump * stride,
            start=self.start + ((kernel - 1) / 2 - padding) * self.jump,
        )


@dataclass(frozen=True)
class Row:
    """One layer of a :class:`Trace`: output shape without the batch axis, parameters, multiply-adds and bytes for one image.

    ``kind``: conv, bn, lrn, pool or fc. ``kernel`` is 0 where there is none. ReLU and dropout work in place and have no row.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    activation_bytes: int
    field: Field
    kernel: int = 0

    @property
    def receptive_field(self) -> int:
        """Side of the receptive field in input pixels."""
        return self.field.size


def _pooled(size: int, pool: Pool) -> int:
    """Output side of a pooling layer, with PyTorch's rules for ``ceil_mode``."""
    if not pool.ceil:
        return (size - pool.kernel) // pool.stride + 1
    out = -((pool.kernel - size) // pool.stride) + 1
    return out - 1 if (out - 1) * pool.stride >= size else out


def _walk(
    config: Config,
    num_classes: int,
    batch_norm: bool,
    width: float,
    size: tuple[int, int],
    bytes_per_value: int,
) -> Iterator[Row]:
    h, w = size
    channels = 3
    field = Field("input", 1, 1, 0.5)

    def row(name, kind, shape, params=0, macs=0, kernel=0):
        return Row(
            name, kind, shape, params, macs, math.prod(shape) * bytes_per_value, field, kernel
        )

    for name, layer, unit in zip(config.layer_names, config.layers, config.channel_units):
        if isinstance(layer, LRN):
            yield row(name, "lrn", (channels, h, w))
            continue
        if isinstance(layer, Conv):
            h, w = ((side + 2 * layer.pad - layer.kernel) // layer.stride + 1 for side in (h, w))
            field = field.grow(name, layer.kernel, layer.stride, layer.pad)
        else:
            h, w = _pooled(h, layer), _pooled(w, layer)
            field = field.grow(name, layer.kernel, layer.stride)
        if min(h, w) < 1:
            raise ValueError(name)
        if isinstance(layer, Pool):
            yield row(name, "pool", (channels, h, w), kernel=layer.kernel)
            continue
        out = scaled(layer.channels, width, unit)
        weights = layer.kernel**2 * (channels // layer.groups) * out
        channels = out
        yield row(name, "conv", (out, h, w), weights + out, weights * h * w, layer.kernel)
        if batch_norm:
            yield row(
                name.replace("conv", "bn"), "bn", (out, h, w), params=2 * out
            )  # a scale and a shift a channel
    features = channels * h * w
    field = field.grow(
        config.fc_names[0], h
    )  # the first FC layer is an h x w convolution (Sect. 3.2)
    for name, out in zip(config.fc_names, [*(scaled(n, width) for n in config.fc), num_classes]):
        field = Field(name, field.size, field.jump, field.start)
        yield row(name, "fc", (out,), features * out + out, features * out)
        features = out


def smallest_image(config: str | Config) -> int:
    """Smallest square image, in pixels a side, that leaves at least one position after every layer (32 for Table 1)."""
    config = resolve(config)

    def passes(side: int) -> bool:
        try:
            return bool(list(_walk(config, 1, False, 1.0, (side, side), 1)))
        except ValueError:
            return False

    # sides grow with the image, so one search by halves will do
    side = 1 + bisect_left(range(1, 1001), True, key=passes)
    if side > 1000:
        raise ValueError(
            f"config={config.name!r}: no image of up to 1000 pixels a side passes through its layers"
        )
    return side


def walk(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | tuple[int, int] = 224,
    bytes_per_value: int = 4,
) -> list[Row]:
    """All layers of a configuration in order, as :class:`Row`.

    Raises KeyError for an unknown configuration and ValueError for an argument out of range or an image too small for the layers.
    """
    config, size = resolve(config), check_size(image_size)
    check_classes(num_classes), check_width(width)
    try:
        return list(
            _walk(config, int(num_classes), batch_norm, float(width), size, bytes_per_value)
        )
    except ValueError as layer:
        raise ValueError(
            f"image_size={image_size!r} is too small for {config.name}: nothing is left after {layer}; "
            f"at least {smallest_image(config)} pixels a side are needed"
        ) from None


def count_parameters(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | tuple[int, int] = 224,
) -> int:
    """Weights and biases of the network (Table 2). ``batch_norm`` adds a scale and a shift a convolution channel."""
    return sum(row.params for row in walk(config, num_classes, batch_norm, width, image_size))


def count_macs(
    config: str | Config,
    image_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    width: float = 1.0,
) -> int:
    """Multiply-adds of convolutions and FC layers for one image; biases, ReLU, pooling and normalisation are not counted."""
    return sum(row.macs for row in walk(config, num_classes, False, width, image_size))


def receptive_field(config: str | Config, image_size: int | tuple[int, int] = 224) -> list[Field]:
    """Receptive field after each layer, from the first convolution to the last FC layer (Sect. 2.3).

    The first FC layer counts as the convolution over the whole last map that it is (Sect. 3.2), along the height of the image.
    """
    return [
        Field(row.name, row.field.size, row.field.jump, row.field.start)
        for row in walk(config, image_size=image_size)
    ]


@dataclass(frozen=True)
class Trace:
    """A network layer by layer for one image; prints as text, and as a table in a notebook."""

    config: Config
    image_size: tuple[int, int]
    rows: tuple[Row, ...]

    @property
    def total_params(self) -> int:
        """Weights and biases."""
        return sum(row.params for row in self.rows)

    @property
    def total_macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def total_activation_bytes(self) -> int:
        """Bytes of all rows' outputs for one image."""
        return sum(row.activation_bytes for row in self.rows)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(
            f"no layer {name!r} in {self.config.name}; it has {', '.join(row.name for row in self.rows)}"
        )

    def _cells(self) -> list[tuple[str, ...]]:
        cells = [
            (
                row.name,
                row.kind,
                " x ".join(map(str, row.output_shape)),
                f"{row.params:,}",
                f"{row.macs / 1e6:,.1f}",
                f"{row.activation_bytes / 1e6:,.2f}",
                f"{row.receptive_field:,}",
            )
            for row in self.rows
        ]
        total = (
            "total",
            "",
            "",
            f"{self.total_params:,}",
            f"{self.total_macs / 1e6:,.1f}",
            f"{self.total_activation_bytes / 1e6:,.2f}",
            "",
        )
        return [*cells, total]

    _HEAD = ("layer", "kind", "output", "parameters", "million MACs", "MB", "receptive field")

    def __str__(self) -> str:
        table = [self._HEAD, *self._cells()]
        widths = [max(len(line[i]) for line in table) for i in range(len(self._HEAD))]
        align = lambda i, text: text.ljust(widths[i]) if i < 3 else text.rjust(widths[i])
        lines = [
            "  ".join(align(i, text) for i, text in enumerate(line)).rstrip() for line in table
        ]
        h, w = self.image_size
        return "\n".join(
            [
                f"{self.config.name}, input 3 x {h} x {w}",
                *lines[:-1],
                "-" * len(lines[0]),
                lines[-1],
            ]
        )

    def _repr_html_(self) -> str:
        style = lambda i: (
            f"text-align:{'left' if i < 3 else 'right'}" + ";white-space:nowrap" * (i == 2)
        )
        cell = lambda tag, i, text: f'<{tag} style="{style(i)}">{escape(text)}</{tag}>'
        line = lambda tag, cells: (
            "<tr>" + "".join(cell(tag, i, text) for i, text in enumerate(cells)) + "</tr>"
        )
        *body, total = self._cells()
        h, w = self.image_size
        return (
            f'<table class="trace"><caption>{escape(self.config.name)}, input 3 x {h} x {w}, one image</caption>'
            f"<thead>{line('th', self._HEAD)}</thead><tbody>{''.join(line('td', cells) for cells in body)}</tbody>"
            f"<tfoot>{line('td', total)}</tfoot></table>"
        )


def trace(
    config: str | Config,
    image_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    bytes_per_value: int = 4,
) -> Trace:
    """Layer by layer: name, kind, output shape, parameters, multiply-adds, activation bytes, receptive field (Table 1, Sect. 2.1).

    Counts are for one image; bytes assume ``bytes_per_value`` a number (4 for float32, 2 for bf16).
    """
    rows = walk(config, num_classes, batch_norm, width, image_size, bytes_per_value)
    return Trace(resolve(config), check_size(image_size), tuple(rows))
