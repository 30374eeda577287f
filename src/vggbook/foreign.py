"""Networks of any make: their parts, and whether these do what a VGG net's parts do.

Ours, torchvision's and others have ``features``, which make a map of an image, and ``classifier``,
which makes class scores of the map of one crop; torchvision's put an ``avgpool`` between them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .checks import expected, needs
from .configs import Size
from .model import Network, testing

# nets whose forward() is known to be features, avgpool (torchvision's), flatten, classifier
_KNOWN = ("vggbook.model", "torchvision.models.vgg", "torchvision.models.alexnet")


def parts(net: nn.Module, name: str = "net") -> tuple[nn.Module, nn.Module]:
    """``features`` and ``classifier``; TypeError, naming the argument, where a part is missing."""
    features = getattr(net, "features", None)
    classifier = getattr(net, "classifier", None)
    if not (isinstance(features, nn.Module) and isinstance(classifier, nn.Module)):
        what = "a network with modules .features and .classifier"
        raise TypeError(expected(name, type(net).__name__, what))
    return features, classifier


def head_of(model: nn.Module) -> nn.Sequential:
    """What the model does after ``features``: torchvision's avgpool, if any, and the classifier."""
    _, classifier = parts(model, "model")
    avgpool = getattr(model, "avgpool", None)
    if isinstance(avgpool, nn.Module) and type(model).forward is not Network.forward:
        return nn.Sequential(avgpool, nn.Flatten(), classifier)
    return nn.Sequential(nn.Flatten(), classifier)


def _outline(module: nn.Module) -> nn.Module:
    """A copy of ``module`` without numbers and without hooks: it tells shapes and does no work."""
    copied = copy.copy(module)
    copied._forward_hooks = OrderedDict()
    copied._forward_pre_hooks = OrderedDict()
    copied._parameters = {name: _on_meta(p) for name, p in module._parameters.items()}
    copied._buffers = {name: _on_meta(b) for name, b in module._buffers.items()}
    copied._modules = {name: m and _outline(m) for name, m in module._modules.items()}
    return copied


def _on_meta(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().to("meta")


def output_shape(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of what ``module`` makes of a tensor of ``shape``, found without computing anything."""
    dtype = next((p.dtype for p in module.parameters()), None)
    with torch.no_grad():
        x = torch.empty(tuple(shape), dtype=dtype, device="meta")
        return tuple(_outline(module)(x).shape)


def grid_and_classes(
    features: nn.Module, head: nn.Sequential, image_size: Size
) -> tuple[Size, int]:
    """(height, width) of the map of a crop of ``image_size``, and how many scores the head gives.

    ValueError where a larger image has no larger map, or the head does not read that of a crop.
    """
    h, w = image_size
    window = output_shape(features, (2, 3, h, w))
    larger = output_shape(features, (2, 3, 16 * h, 16 * w))
    what = "layers that make a larger map of a larger image, without adaptive pooling"
    needs(len(window) == 4 and larger != window, "features", type(features).__name__, what)
    try:
        scores = output_shape(head, window)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        what = f"a head for maps of shape {window[1:]}, which a crop gives ({reason})"
        raise ValueError(expected("classifier", type(head[-1]).__name__, what)) from None
    needs(len(scores) == 2, "classifier", scores, "a head that gives scores (N, classes)")
    return (window[2], window[3]), scores[1]


def check_equal(model: nn.Module, dense: nn.Module, size: Size) -> None:
    """Raise ValueError unless ``model`` and its twin give one score vector for a random image of
    the crop ``size``. Nets that are known to do just what their parts do are not asked."""
    weight = next(model.parameters())
    if type(model).forward.__module__ in _KNOWN or weight.is_meta:
        return
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    image = image.to(weight.device, weight.dtype)
    with testing([model, dense]):
        theirs = model(image)
        ours = dense(image)[:, :, 0, 0]
    same = theirs.shape == ours.shape
    if same:
        same = bool((theirs - ours).abs().max() <= 0.01 * theirs.abs().max())
    what = "a network whose forward() is features, avgpool if it has one, flatten, classifier"
    needs(same, "model", type(model).__name__, what)
