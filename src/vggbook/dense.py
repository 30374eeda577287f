"""The fully convolutional twin of a network (Sect. 3.2): the head at every position of a map.

The paper turns the first FC layer into a 7x7 convolution and the others into 1x1 convolutions.
Here each 7x7 window of the last map goes through the net's own head as one row of a batch: the same
products and sums, for any head. ``DenseNetwork.convolutions`` gives the paper's form.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .arithmetic import PIXEL, out_side
from .checks import expected, needs
from .configs import Conv, Pool
from .model import Network, check_images, testing

# nets whose forward() is known to be features, avgpool (torchvision's), flatten, classifier
_KNOWN = ("vggbook.model", "torchvision.models.vgg", "torchvision.models.alexnet")
_POINTWISE = (
    nn.Sequential,
    nn.ReLU,
    nn.BatchNorm2d,
    nn.LocalResponseNorm,
    nn.Dropout,
    nn.Identity,
)
_STRIPS = "convolutions and max-pooling with square windows, to score an image in strips"


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


class DenseNetwork(nn.Module):
    """(N, 3, H, W) -> class score map (N, classes, H', W'), for images no smaller than the crop.

    ``features`` make a map of the image; ``head`` makes class scores of each window of that map
    that is as large as the map of one crop, ``grid``. ``image_size`` is the crop, (height, width).
    """

    def __init__(
        self, features: nn.Module, head: nn.Sequential, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.image_size = image_size
        h, w = image_size
        window = output_shape(features, (2, 3, h, w))
        larger = output_shape(features, (2, 3, 16 * h, 16 * w))
        what = "layers that make a larger map of a larger image, without adaptive pooling"
        needs(len(window) == 4 and larger != window, "features", type(features).__name__, what)
        self.grid = (window[2], window[3])
        try:
            scores = output_shape(head, window)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            what = f"a head for maps of shape {window[1:]}, which a crop gives ({reason})"
            raise ValueError(expected("classifier", type(head[-1]).__name__, what)) from None
        needs(len(scores) == 2, "classifier", scores, "a head that gives scores (N, classes)")
        self.classes = scores[1]

    def convolutions(self) -> list[nn.Conv2d]:
        """The FC layers as convolutions that share their weights: 7x7, 1x1, 1x1."""
        convs: list[nn.Conv2d] = []
        kernel = self.grid
        for fc in (module for module in self.head.modules() if isinstance(module, nn.Linear)):
            weight = fc.weight.unflatten(1, (-1, *kernel))  # (out, C, 7, 7), then (out, in, 1, 1)
            conv = nn.Conv2d(weight.shape[1], len(weight), kernel, device="meta")
            conv.weight = nn.Parameter(weight)
            conv.bias = fc.bias
            convs.append(conv)
            kernel = (1, 1)
        return convs

    def scores(self, images: Tensor) -> Tensor:
        """The class score map of images (N, 3, H, W), all at once."""
        x = self.features(images)  # (N, C, h, w)
        windows = x.unfold(2, self.grid[0], 1).unfold(3, self.grid[1], 1)  # (N, C, H', W', 7, 7)
        n, _, height, width, *_ = windows.shape
        rows = windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # (N H' W', C, 7, 7)
        scores = self.head(rows)  # (N H' W', classes)
        return scores.unflatten(0, (n, height, width)).permute(0, 3, 1, 2)

    def forward(self, images: Tensor, max_pixels: int | None = None) -> Tensor:
        """``max_pixels`` bounds the memory: larger images are worked off in overlapping strips."""
        check_images(images, next(self.parameters(), None), self.image_size, at_least=True)
        n, _, height, width = images.shape
        if not max_pixels or n * height * width <= max_pixels:
            return self.scores(images)
        axis = 2 if height >= width else 3
        return self._in_strips(images, axis, max_pixels)

    def _in_strips(self, images: Tensor, axis: int, max_pixels: int) -> Tensor:
        """The score map from strips across ``axis``; each holds all pixels that its scores see."""
        length = images.shape[axis]
        field = PIXEL
        units = length
        for layer in _layers(self.features):
            field = field.after("", layer)
            units = out_side(layer, units)
        kernel = self.grid[axis - 2]
        field = field.grow("", kernel)
        units -= kernel - 1  # scores along the axis
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
            strip = self.scores(images.narrow(axis, start, end - start))
            parts.append(strip.narrow(axis, first - origin, last - first))
        return torch.cat(parts, axis)  # (N, classes, H', W')


def _side(value: object) -> int:
    """The one number of pixels that a module's setting has for both axes."""
    pair = value if isinstance(value, tuple) else (value, value)
    square = isinstance(pair[0], int) and pair[0] == pair[1]
    needs(square, "features", value, _STRIPS)
    return int(pair[0])


def _layers(features: nn.Module) -> list[Conv | Pool]:
    """What of ``features`` widens or shifts receptive fields, in order, as layers of a Config."""
    layers: list[Conv | Pool] = []
    for module in features.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            needs(_side(module.dilation) == 1, "features", module, _STRIPS)
            kernel = _side(module.kernel_size)
            stride = _side(module.stride)
            padding = _side(module.padding)
            if isinstance(module, nn.Conv2d):
                layers.append(Conv(module.out_channels, kernel, stride, padding))
            else:
                needs(padding == 0, "features", module, _STRIPS)
                layers.append(Pool(kernel, stride, module.ceil_mode))
        else:
            needs(isinstance(module, _POINTWISE), "features", type(module).__name__, _STRIPS)
    return layers


def _head(model: nn.Module) -> nn.Sequential:
    """What the model does after ``features``: torchvision's avgpool, if any, and the classifier."""
    classifier = getattr(model, "classifier", None)
    if not isinstance(getattr(model, "features", None), nn.Module) or not isinstance(
        classifier, nn.Module
    ):
        what = "a network with modules .features and .classifier"
        raise TypeError(expected("model", type(model).__name__, what))
    avgpool = getattr(model, "avgpool", None)
    if isinstance(avgpool, nn.Module) and type(model).forward is not Network.forward:
        return nn.Sequential(avgpool, nn.Flatten(), classifier)
    return nn.Sequential(nn.Flatten(), classifier)


def _check_equal(model: nn.Module, dense: DenseNetwork) -> None:
    """Raise ValueError unless both give one score vector for a random image of the crop size."""
    weight = next(model.parameters())
    if weight.is_meta:
        return
    image = torch.randn(1, 3, *dense.image_size, generator=torch.Generator().manual_seed(0))
    image = image.to(weight.device, weight.dtype)
    with testing([model, dense]):
        theirs = model(image)
        ours = dense(image)[:, :, 0, 0]
    same = theirs.shape == ours.shape and torch.allclose(
        theirs, ours, rtol=0, atol=0.01 * float(theirs.abs().max())
    )
    what = "a network whose forward() is features, avgpool if it has one, flatten, classifier"
    needs(same, "model", type(model).__name__, what)


def to_dense(model: nn.Module) -> DenseNetwork:
    """The fully convolutional twin of a network, sharing its weights (Sect. 3.2).

    Takes the networks of ``build``, torchvision's VGG and AlexNet, and others that have the same
    parts; with any head. At the crop size (``model.image_size``, else 224 pixels) it gives a 1x1
    map equal to the network's logits; at Q = 256, 384, 512 pixels the maps of a 224-pixel net are
    2, 6 and 10 units wide.

    Raises TypeError for a model without ``features`` and ``classifier``, and ValueError where they
    do not fit together, or where ``forward`` does something else with them.
    """
    head = _head(model)
    features = model.get_submodule("features")
    dense = DenseNetwork(features, head, getattr(model, "image_size", (224, 224)))
    dense.training = model.training
    if type(model).forward.__module__ not in _KNOWN:
        _check_equal(model, dense)
    return dense
