"""Table 1 as data: the paper's six networks, its 5x5 net (Sect. 4.1), and the four nets before VGG.

A configuration is a tuple of frozen layers. It holds what the paper prints and nothing that can be
computed from it: shapes, parameters and receptive fields are worked out in
:mod:`vggbook.arithmetic`, modules are made in :mod:`vggbook.model`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from .checks import is_whole, needs, positive, whole


@dataclass(frozen=True)
class Conv:
    """A convolution followed by a ReLU (Sect. 2.1).

    ``padding=None`` means (kernel - 1) / 2, which keeps the resolution.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    kind: ClassVar = "conv"

    @property
    def pad(self) -> int:
        """Zero padding on each side, in pixels."""
        return (self.kernel - 1) // 2 if self.padding is None else self.padding

    @property
    def shorthand(self) -> int | str:
        """The number of channels, "5x5:64" where the kernel is not 3x3."""
        kernel = self.kernel
        return self.channels if kernel == 3 else f"{kernel}x{kernel}:{self.channels}"


@dataclass(frozen=True)
class Pool:
    """Max-pooling (Sect. 2.1: 2x2, stride 2).

    ``ceil=True`` rounds the output size up, as the nets before VGG do.
    """

    kernel: int = 2
    stride: int = 2
    ceil: bool = False
    kind: ClassVar = "pool"
    shorthand: ClassVar = "M"


@dataclass(frozen=True)
class LRN:
    """Local response normalisation with the constants of Krizhevsky et al. (2012), Sect. 3.3.

    The sum over ``size`` neighbouring channels is multiplied by ``alpha``; it is NOT divided by
    ``size``. PyTorch and Caffe divide, so they need ``alpha * size`` = 5e-4 for the same numbers.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    kind: ClassVar = "lrn"
    shorthand: ClassVar = "LRN"


Layer = Conv | Pool | LRN
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Config:
    """One network as data.

    ``blocks`` numbers layers as VGG does (conv3_2: second convolution of block 3); otherwise they
    are conv1, conv2, ... and ``layer_names`` holds them in order. ``fc`` are the widths of the
    hidden fully-connected layers; the classes come on top.
    """

    name: str
    layers: tuple[Layer, ...]
    fc: tuple[int, ...] = (4096, 4096)
    blocks: bool = True
    source: str = "Table 1"

    def __post_init__(self) -> None:
        channels = 3
        for name, layer in zip(self.layer_names, self.layers):
            if not isinstance(layer, Conv):
                continue
            if channels % layer.groups or layer.channels % layer.groups:
                raise ValueError(
                    f"{self.name}, {name}: {layer.groups} groups do not divide "
                    f"{channels} to {layer.channels} channels"
                )
            channels = layer.channels

    @property
    def convs(self) -> int:
        """Number of convolutional layers."""
        return sum(isinstance(layer, Conv) for layer in self.layers)

    @property
    def weight_layers(self) -> int:
        """Depth as the paper counts it: convolutional plus fully-connected layers."""
        return self.convs + len(self.fc) + 1

    @property
    def channel_unit(self) -> int:
        """What every channel count must stay a multiple of at any width: all groups divide it."""
        return math.lcm(*(layer.groups for layer in self.layers if isinstance(layer, Conv)))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """One name a layer: conv1_1, pool1, ... for the VGG nets, else conv1, lrn1, pool1, ..."""
        names = []
        block = 1
        seen: Counter[str] = Counter()  # of each kind: in this block, or in a net without blocks
        for layer in self.layers:
            seen[layer.kind] += 1
            if not self.blocks:
                names.append(f"{layer.kind}{seen['conv']}")
            elif layer.kind != "pool":
                names.append(f"{layer.kind}{block}_{seen[layer.kind]}")
            else:
                names.append(f"pool{block}")
                block += 1
                seen.clear()
        return tuple(names)

    @property
    def fc_names(self) -> tuple[str, ...]:
        """fc1, fc2, fc3 for the VGG nets (Caffe's fc6, fc7, fc8), else full6, full7, full8."""
        numbers = range(len(self.fc) + 1)
        return tuple(f"fc{i + 1}" if self.blocks else f"full{i + 6}" for i in numbers)

    @property
    def as_list(self) -> list[int | str]:
        """The usual shorthand: channels, 'M', 'LRN'; 'kxk:channels' where the kernel is not 3x3."""
        return [layer.shorthand for layer in self.layers]


_CHANNELS = (64, 128, 256, 512, 512)  # of the five blocks, the same in every net of Table 1
_UP = Pool(3, 2, ceil=True)


def _table_1(name: str, kernels: str, source: str = "Table 1") -> Config:
    """A net of five blocks, each closed by one 2x2 max-pooling.

    ``kernels`` has a word a block: the kernel of each convolution, and "n" for LRN.
    """
    layers: list[Layer] = []
    for channels, block in zip(_CHANNELS, kernels.split()):
        layers += [LRN() if kernel == "n" else Conv(channels, int(kernel)) for kernel in block]
        layers.append(Pool())
    return Config(name, tuple(layers), source=source)


def _before(
    name: str, *layers: Layer, source: str = "Chatfield et al. (2014), as released"
) -> Config:
    """A net before VGG: its layers are not numbered by blocks."""
    return Config(name, layers, blocks=False, source=source)


_ALL = (
    _table_1("A", "3 3 33 33 33"),
    _table_1("A-LRN", "3n 3 33 33 33"),
    _table_1("B", "33 33 33 33 33"),
    _table_1("C", "33 33 331 331 331"),
    _table_1("D", "33 33 333 333 333"),
    _table_1("E", "33 33 3333 3333 3333"),
    _table_1("B-5x5", "5 5 5 5 5", source="Sect. 4.1"),
    _before(
        "AlexNet",
        *(Conv(96, 11, 4, 0), LRN(), _UP),
        *(Conv(256, 5, groups=2), LRN(), _UP),
        *(Conv(384), Conv(384, groups=2), Conv(256, groups=2), _UP),
        source="Krizhevsky et al. (2012), Sect. 3.5",
    ),
    _before(
        "VGG-F",
        *(Conv(64, 11, 4, 0), LRN(), _UP),
        *(Conv(256, 5), LRN(), _UP),
        *(Conv(256), Conv(256), Conv(256), _UP),
    ),
    _before(
        "VGG-M",
        *(Conv(96, 7, 2, 0), LRN(), _UP),
        *(Conv(256, 5, 2, 1), LRN(), _UP),
        *(Conv(512), Conv(512), Conv(512), _UP),
    ),
    _before(
        "VGG-S",
        *(Conv(96, 7, 2, 0), LRN(), Pool(3, 3, ceil=True)),
        *(Conv(256, 5, 1, 0), Pool(2, 2, ceil=True)),
        *(Conv(512), Conv(512), Conv(512), Pool(3, 3, ceil=True)),
    ),
)


class Configs(Mapping[str, Config]):
    """The configurations by name; VGG11, VGG13, VGG16, VGG19 are aliases of A, B, D, E.

    Iteration yields the eleven names themselves, aliases work in look-ups only.
    """

    aliases: ClassVar[dict[str, str]] = {"VGG11": "A", "VGG13": "B", "VGG16": "D", "VGG19": "E"}

    def __init__(self, configs: tuple[Config, ...]):
        self._configs = {config.name: config for config in configs}

    def __getitem__(self, name: str) -> Config:
        try:
            return self._configs[self.aliases.get(name, name)]
        except (KeyError, TypeError):
            valid = ", ".join([*self._configs, *self.aliases])
            raise KeyError(f"unknown configuration {name!r}; valid names: {valid}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def __repr__(self) -> str:
        return f"CONFIGS({', '.join(self)})"


CONFIGS = Configs(_ALL)


def resolve(config: str | Config) -> Config:
    """The configuration itself, or the one of that name."""
    return config if isinstance(config, Config) else CONFIGS[config]


def check_size(image_size: int | Size, name: str = "image_size") -> Size:
    """``image_size`` as (height, width) in pixels; ValueError for what is neither one nor two."""
    pair = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    right = len(pair) == 2 and all(is_whole(side, low=1) for side in pair)
    what = "a whole number of pixels of at least 1, or a pair (height, width) of them"
    needs(right, name, image_size, what)
    return int(pair[0]), int(pair[1])


def check_classes(num_classes: int) -> int:
    """``num_classes`` as an int of at least 1."""
    return whole("num_classes", num_classes, low=1)


def check_width(width: float) -> float:
    """``width`` as a positive finite multiplier of all channel counts; 1.0 is the paper's width."""
    return positive("width", width)


def scaled(channels: int, width: float, unit: int = 1) -> int:
    """``channels`` times ``width``, rounded to a multiple of ``unit`` and never zero."""
    return max(1, round(channels * width / unit)) * unit
