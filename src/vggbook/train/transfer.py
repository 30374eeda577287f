"""Layers from a trained net, by their names in Table 1 (Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import needs
from ..configs import Config, Conv, Pool
from ..foreign import parts
from ..model import Network
from .sources import Source, match_pixels, trained

Layer = nn.Conv2d | nn.Linear


def named_layers(net: nn.Module) -> dict[str, Layer]:
    """Convolutions and FC layers by their names in Table 1: conv1_1, ..., fc1, fc2, fc3.

    Also takes torchvision's VGG nets: a pooling layer ends a block there as here.
    """
    features, classifier = parts(net)
    sliding = [m for m in features.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    convs = [m for m in sliding if isinstance(m, nn.Conv2d)]
    linear = [m for m in classifier.modules() if isinstance(m, nn.Linear)]
    if isinstance(net, Network):
        config = net.config
    else:
        layers = [Conv(m.out_channels) if isinstance(m, nn.Conv2d) else Pool() for m in sliding]
        fc = tuple(m.out_features for m in linear[:-1])
        config = Config(type(net).__name__, tuple(layers), fc)
    names = [name for name in config.layer_names if name.startswith("conv")]
    return {**dict(zip(names, convs)), **dict(zip(config.fc_names, linear))}


def _with_norms(net: nn.Module) -> dict[str, list[Any]]:
    """The layers by name, each with the batch normalisation that follows it, if any."""
    groups: dict[str, list[Any]] = {name: [layer] for name, layer in named_layers(net).items()}
    of_layer = {id(layer): group for group in groups.values() for layer in group}
    group: list[Any] = []
    for module in parts(net)[0].modules():
        group = of_layer.get(id(module), group)
        if isinstance(module, nn.BatchNorm2d):
            group.append(module)
    return groups


@torch.no_grad()
def copy_layers(
    source: nn.Module, target: nn.Module, names: Collection[str] | None = None
) -> tuple[str, ...]:
    """Copy weights and biases by layer name; a convolution's batch normalisation goes with it.

    Without ``names``: the first four convolutions of ``source`` and all its FC layers. With A as
    the source these are conv1_1, conv2_1, conv3_1, conv3_2, fc1, fc2, fc3 (Sect. 3.1): by position
    it cannot be done, the shapes differ. Returns the names. Raises ValueError, and copies nothing,
    where ``target`` lacks a layer or has another shape.
    """
    have, want = _with_norms(source), _with_norms(target)
    names = _four_and_fc(have) if names is None else tuple(names)
    for name in names:
        there, here = (
            tuple(groups[name][0].weight.shape) if name in groups else "no such layer"
            for groups in (have, want)
        )
        what = f"a layer of one shape in both; {_title(source)} has {there}, "
        what += f"{_title(target)} has {here}"
        needs(there == here != "no such layer", "names", name, what)
    for name in names:
        for theirs, ours in zip(have[name], want[name]):
            ours.load_state_dict(theirs.state_dict())
    return names


def _four_and_fc(layers: Collection[str]) -> tuple[str, ...]:
    convs = [name for name in layers if name.startswith("conv")]
    return (*convs[:4], *(name for name in layers if name not in convs))


def _title(net: nn.Module) -> str:
    return net.config.name if isinstance(net, Network) else type(net).__name__


def start_from(source: Source, model: Network, gain: float, say: Callable[[str], None]) -> None:
    """Copy a trained net's layers: all where the convolutions have the same names, else the first
    four of them and the FC layers; the last layer only where the classes are as many.

    ``say`` gets one line on what was copied, and one where the net is used to other pixels: a net
    that read BGR has its first layer turned round, a division is for ``gain`` to make.
    """
    net = trained(source, model.image_size)
    title = str(source) if isinstance(source, str | Path) else _title(net)
    have, want = named_layers(net), named_layers(model)
    names = tuple(have) if list(have) == list(want) else _four_and_fc(have)
    *_, last = have
    there, here = (list(layers.values())[-1].weight.shape[0] for layers in (have, want))
    why = ""
    if there != here:
        names = tuple(name for name in names if name != last)
        why = f" ({last} has {there} outputs there)"
    copy_layers(net, model, names)
    fresh = [name for name in want if name not in names]
    rest = f"; drawn anew: {', '.join(fresh)}" if fresh else ""
    say(f"layers from {title}: {', '.join(names)}{rest}{why}")
    match_pixels(net, next(iter(want.values())), gain, say)


def frozen_layers(model: nn.Module, freeze: Sequence[str]) -> dict[str, list[nn.Module]]:
    """The layers that ``freeze`` names, each with its batch normalisation. ValueError for a name
    that no layer begins with, and where nothing would be left to train."""
    groups = _with_norms(model)
    for start in freeze:
        some = any(name.startswith(start) for name in groups)
        needs(some, "freeze", start, f"the beginning of a layer's name: {', '.join(groups)}")
    frozen = {name: group for name, group in groups.items() if name.startswith(tuple(freeze))}
    needs(len(frozen) < len(groups), "freeze", tuple(freeze), "at least one layer left to train")
    return frozen
