"""Layers from a trained net, by their names in Table 1 (Sect. 3.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import expected, needs
from ..model import Network
from ..weights import FAMILIES, load_weights
from .checkpoint import CheckpointError, load_run

Source = str | Path | nn.Module
Layer = nn.Conv2d | nn.Linear


def named_layers(net: nn.Module) -> dict[str, Layer]:
    """Convolutions and FC layers by their names in Table 1: conv1_1, ..., fc1, fc2, fc3.

    Also takes torchvision's VGG nets: a pooling layer ends a block there as here.
    """
    features, classifier = _parts(net)
    convs = [m for m in features.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in classifier.modules() if isinstance(m, nn.Linear)]
    if isinstance(net, Network):
        names = [name for name in net.config.layer_names if name.startswith("conv")]
        return {**dict(zip(names, convs)), **dict(zip(net.config.fc_names, linear))}
    layers: dict[str, Layer] = {}
    block, number = 1, 0
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            number += 1
            layers[f"conv{block}_{number}"] = module
        elif isinstance(module, nn.MaxPool2d):
            block, number = block + 1, 0
    return layers | {f"fc{i}": module for i, module in enumerate(linear, 1)}


def _parts(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    features, classifier = getattr(net, "features", None), getattr(net, "classifier", None)
    if not (isinstance(features, nn.Module) and isinstance(classifier, nn.Module)):
        what = "a net with .features (convolutions) and .classifier (FC layers)"
        raise TypeError(expected("net", type(net).__name__, what))
    return features, classifier


def _norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Batch normalisation by the name of the convolution before it; empty where there is none."""
    norms: dict[str, nn.BatchNorm2d] = {}
    before = None
    names = {id(module): name for name, module in named_layers(net).items()}
    for module in _parts(net)[0].modules():
        if isinstance(module, nn.Conv2d):
            before = names[id(module)]
        elif isinstance(module, nn.BatchNorm2d) and before is not None:
            norms[before] = module
    return norms


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
    have, want = named_layers(source), named_layers(target)
    names = _four_and_fc(have) if names is None else tuple(names)
    for name in names:
        shapes = [
            tuple(layers[name].weight.shape) if name in layers else "no such layer"
            for layers in (have, want)
        ]
        what = f"a layer of one shape in both; {_title(source)} has {shapes[0]}, "
        what += f"{_title(target)} has {shapes[1]}"
        needs(shapes[0] == shapes[1] != "no such layer", "names", name, what)
    norms, own = _norms(source), _norms(target)
    for name in names:
        want[name].load_state_dict(have[name].state_dict())
        if name in norms and name in own:
            own[name].load_state_dict(norms[name].state_dict())
    return names


def _four_and_fc(layers: Collection[str]) -> tuple[str, ...]:
    convs = [name for name in layers if name.startswith("conv")]
    return (*convs[:4], *(name for name in layers if name not in convs))


def _title(net: nn.Module) -> str:
    return net.config.name if isinstance(net, Network) else type(net).__name__


def trained(source: Source, image_size: Any = 224) -> nn.Module:
    """The net that ``init_from`` means: a net itself, torchvision's name for one ("vgg16"), a run's
    checkpoint, or a file of released weights, for images of this size where the file does not tell.
    CheckpointError says what is wrong with a file."""
    if isinstance(source, nn.Module):
        return source
    if not isinstance(source, str | Path):
        what = "a net, a checkpoint, a file of weights, or a name like 'vgg16'"
        raise TypeError(expected("init_from", source, what))
    named = re.fullmatch(r"vgg1[1369](_bn)?", str(source)) and not Path(source).exists()
    try:
        return _released(source, image_size) if named else load_run(source).model
    except CheckpointError as error:
        file = Path(source)
        if not file.is_file() or not file.stat().st_size:
            raise
        reason = str(error)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"init_from={str(source)!r}: {error}") from None
    try:
        return _released(source, image_size)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{reason}; and as released weights: {error}") from None


def _released(source: str | Path, image_size: Any) -> Network:
    try:
        return load_weights(source, image_size=image_size)
    except ValueError as error:
        if not str(error).startswith("family="):
            raise
        # the file does not tell who trained it: that is of the pixels, and not of the weights
        return load_weights(source, family="paper", image_size=image_size)


def start_from(
    source: Source, model: nn.Module, gain: float = 1.0, say: Callable[[str], None] = print
) -> tuple[str, ...]:
    """Copy a trained net's layers: all where the convolutions have the same names, else the first
    four of them and the FC layers; the last layer only where the classes are as many.

    ``say`` gets one line on what was copied, and one where the net is used to other pixels: a net
    that read BGR has its first layer turned round, a division is for ``gain`` to make.
    """
    name = str(source) if isinstance(source, str | Path) else _title(source)
    source = trained(source, getattr(model, "image_size", 224))
    have, want = named_layers(source), named_layers(model)
    names = tuple(have) if list(have) == list(want) else _four_and_fc(have)
    classes = [list(layers.values())[-1].weight.shape[0] for layers in (have, want)]
    last = list(have)[-1]
    if classes[0] != classes[1]:
        names = tuple(n for n in names if n != last)
    copy_layers(source, model, names)
    fresh = [n for n in want if n not in names]
    rest = f"; drawn anew: {', '.join(fresh)}" if fresh else ""
    why = f" ({last} has {classes[0]} outputs there)" if classes[0] != classes[1] else ""
    say(f"layers from {name}: {', '.join(names)}{rest}{why}")
    _match_pixels(source, want, gain, say)
    return names


@torch.no_grad()
def _match_pixels(
    source: nn.Module, layers: dict[str, Layer], gain: float, say: Callable[[str], None]
) -> None:
    pixels = getattr(source, "preprocessing", None)
    if pixels is None and type(source).__module__.startswith("torchvision."):
        pixels = FAMILIES["torchvision"]
    if pixels is None:
        return
    if pixels.bgr:
        first = next(iter(layers.values()))
        first.weight.copy_(first.weight.flip(1))
    std = sum(pixels.std) / 3
    if abs(gain * std - 1) > 0.05:
        say(
            f"that net's pixels were divided by {std:.4g}, this recipe multiplies them by "
            f"gain={gain:g}: gain={1 / std:.4g} is what its weights are used to"
        )


def frozen_layers(model: nn.Module, freeze: Sequence[str]) -> dict[str, list[nn.Module]]:
    """The layers that ``freeze`` names, each with its batch normalisation. ValueError for a name
    that no layer begins with, and where nothing would be left to train."""
    layers, norms = named_layers(model), _norms(model)
    for start in freeze:
        some = any(name.startswith(start) for name in layers)
        needs(some, "freeze", start, f"the beginning of a layer's name: {', '.join(layers)}")
    names = [name for name in layers if name.startswith(tuple(freeze))]
    needs(len(names) < len(layers), "freeze", tuple(freeze), "at least one layer left to train")
    return {n: [layers[n], *([norms[n]] if n in norms else [])] for n in names}
