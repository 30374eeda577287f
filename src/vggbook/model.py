"""Build the networks of Table 1 in PyTorch (Sect. 2.1, 2.2), start their weights (Sect. 3.1), make them dense (Sect. 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .arithmetic import walk
from .configs import LRN, Config, Conv, Pool, check_size, resolve, scaled

INIT_SCHEMES = {
    "paper": "normal with variance 1e-2 (std 0.1), as Sect. 3.1 prints it",
    "std0.01": "normal with std 0.01, as AlexNet and most VGG code have it",
    "glorot": "uniform with variance 2 / (fan_in + fan_out) (Glorot & Bengio, 2010)",
    "he": "normal with variance 2 / fan_in (He et al., 2015)",
    "torch": "the default of torch.nn",
}


def initialise(
    model: nn.Module, scheme: str = "he", generator: torch.Generator | None = None
) -> nn.Module:
    """Draw all convolution and FC weights anew by one of ``INIT_SCHEMES``; biases become zero (Sect. 3.1). Returns the model."""
    if scheme not in INIT_SCHEMES:
        raise ValueError(f"init={scheme!r}: choose one of {', '.join(map(repr, INIT_SCHEMES))}")
    for module in model.modules():
        if scheme == "torch" or not isinstance(module, (nn.Conv2d, nn.Linear)):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            continue
        fan_in = math.prod(module.weight.shape[1:])
        if scheme == "glorot":
            nn.init.xavier_uniform_(module.weight, generator=generator)
        else:
            std = {"paper": 0.1, "std0.01": 0.01, "he": math.sqrt(2 / fan_in)}[scheme]
            nn.init.normal_(module.weight, std=std, generator=generator)
        nn.init.zeros_(module.bias)
    return model


def check_images(
    images: Tensor, like: Tensor, size: tuple[int, int] | None = None, at_least: bool = False
) -> None:
    """Raise unless ``images`` is a floating (N, 3, H, W) batch of ``like``'s dtype and of ``size`` (or no smaller)."""
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images is a {type(images).__name__}; a tensor of shape (N, 3, H, W) is needed"
        )
    shape = tuple(images.shape)
    if images.ndim != 4:
        raise ValueError(
            f"images has shape {shape}; four axes (N, 3, H, W) are needed, also for one image: images[None]"
        )
    if shape[1] != 3:
        raise ValueError(
            f"images has {shape[1]} channels (shape {shape}); 3 are needed, RGB, in the second axis"
        )
    if images.dtype != like.dtype and not torch.is_autocast_enabled(images.device.type):
        raise TypeError(
            f"images has dtype {images.dtype}; the weights have {like.dtype}: convert with images.to({like.dtype})"
        )
    if size and (
        min(shape[2] - size[0], shape[3] - size[1]) < 0 if at_least else shape[2:] != size
    ):
        want = f"at least {size[0]} x {size[1]}" if at_least else f"exactly {size[0]} x {size[1]}"
        hint = "" if at_least else "; to_dense(model) takes larger ones"
        raise ValueError(
            f"images are {shape[2]} x {shape[3]} pixels; this network takes {want}{hint}"
        )


class Network(nn.Module):
    """``features`` (convolutions, ReLU, pooling) then ``classifier`` (FC layers, ReLU, dropout); returns logits (N, classes).

    The soft-max is left to the loss and to ``predict``. Parameter names equal torchvision's vgg11/13/16/19(_bn).
    """

    def __init__(
        self,
        config: Config,
        features: nn.Sequential,
        classifier: nn.Sequential,
        image_size: tuple[int, int],
    ):
        super().__init__()
        self.config, self.image_size = config, image_size
        self.features, self.classifier = features, classifier

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.classifier[0].weight, self.image_size)
        x = self.features(images)  # (N, C, h, w): 512 x 7 x 7 for Table 1 at 224 pixels
        x = torch.flatten(x, 1)  # (N, C h w)
        return self.classifier(x)  # (N, classes)


def _conv(layer: Conv, channels: int, out: int, batch_norm: bool) -> list[nn.Module]:
    modules = [nn.Conv2d(channels, out, layer.kernel, layer.stride, layer.pad, groups=layer.groups)]
    if batch_norm:
        modules.append(nn.BatchNorm2d(out))
    return [*modules, nn.ReLU(inplace=True)]


def build(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | tuple[int, int] = 224,
    *,
    dropout: float = 0.5,
    init: str = "he",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Network:
    """The network of a configuration (Table 1).

    ``width`` multiplies every channel count, hidden FC layers included. ``image_size`` in pixels fixes the input of the first FC layer.
    ``dropout`` follows the first two FC layers (Sect. 3.1). ``init`` is one of ``INIT_SCHEMES``; the default "he" is the later scheme
    that trains at any depth, "paper" is what Sect. 3.1 prints. ``batch_norm`` is not in the paper.
    """
    config, size = resolve(config), check_size(image_size)
    if init not in INIT_SCHEMES:
        raise ValueError(f"init={init!r}: choose one of {', '.join(map(repr, INIT_SCHEMES))}")
    if not 0 <= dropout < 1:
        raise ValueError(
            f"dropout={dropout!r}: a probability of at least 0 and below 1 is needed; the paper has 0.5"
        )
    rows = walk(
        config, num_classes, False, width, image_size
    )  # checks every argument before anything is allocated
    with torch.device("meta"):  # shapes only; the weights are drawn once, below
        features, channels = [], 3
        for layer, unit in zip(config.layers, config.channel_units):
            if isinstance(layer, Conv):
                out = scaled(layer.channels, width, unit)
                features += _conv(layer, channels, out, batch_norm)
                channels = out
            elif isinstance(layer, Pool):
                features.append(nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=layer.ceil))
            elif isinstance(layer, LRN):  # PyTorch divides alpha by the size: hand it alpha * size
                features.append(
                    nn.LocalResponseNorm(layer.size, layer.alpha * layer.size, layer.beta, layer.k)
                )
        inputs = math.prod(next(row for row in reversed(rows) if row.kind != "fc").output_shape)
        classifier = []
        for hidden in (scaled(n, width) for n in config.fc):
            classifier += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = hidden
        classifier.append(nn.Linear(inputs, int(num_classes)))
        model = Network(config, nn.Sequential(*features), nn.Sequential(*classifier), size)
    model = model.to_empty(device=device)
    return (
        model if model.classifier[0].weight.is_meta else initialise(model, init, generator)
    )  # meta: nothing to draw


def local_response_norm(x: Tensor, lrn: LRN = LRN()) -> Tensor:  # noqa: B008 (frozen)
    """LRN as Krizhevsky et al. (2012) print it: b = a / (k + alpha * sum of a^2 over ``size`` neighbouring channels)^beta.

    ``x`` is (N, C, H, W). Slower than ``nn.LocalResponseNorm`` and written to be read; the sum is not divided by ``size``.
    """
    half = lrn.size // 2
    squares = F.pad(x.square(), (0, 0, 0, 0, half, lrn.size - 1 - half))  # (N, C + size - 1, H, W)
    total = squares.unfold(1, lrn.size, 1).sum(-1)  # (N, C, H, W)
    return x / (lrn.k + lrn.alpha * total) ** lrn.beta


class DenseNetwork(nn.Module):
    """Fully convolutional twin (Sect. 3.2): FC layers become 7x7, 1x1, 1x1 convolutions with the same weights.

    (N, 3, H, W) -> class score map (N, classes, H', W') for any image at least as large as the crop. The 7x7 convolution is
    computed as the product of the FC layer's own matrix with every 7x7 window; ``convolutions()`` gives the same as ``nn.Conv2d``.
    """

    def __init__(
        self,
        features: nn.Module,
        classifier: nn.Sequential,
        grid: tuple[int, int],
        image_size: tuple[int, int],
    ):
        super().__init__()
        self.features, self.classifier = features, classifier
        self.grid, self.image_size = tuple(grid), tuple(image_size)

    def convolutions(self) -> list[nn.Conv2d]:
        """The FC layers as convolutions that share their weights."""
        convs, kernel = [], self.grid
        for fc in (module for module in self.classifier if isinstance(module, nn.Linear)):
            weight = fc.weight.unflatten(1, (-1, *kernel))  # (out, C, 7, 7), then (out, in, 1, 1)
            convs.append(nn.Conv2d(weight.shape[1], len(weight), kernel, device="meta"))
            convs[-1].weight, convs[-1].bias = nn.Parameter(weight), fc.bias
            kernel = (1, 1)
        return convs

    def scores(self, images: Tensor) -> Tensor:
        x = self.features(images)  # (N, C, h, w)
        h, w = (side - k + 1 for side, k in zip(x.shape[2:], self.grid))
        x = F.unfold(x, self.grid).transpose(
            1, 2
        )  # (N, h w, C 7 7): each window as the FC layer reads it
        return self.classifier(x).transpose(1, 2).unflatten(2, (h, w))  # (N, classes, h, w)

    def _units(self, axis: int, length: int) -> tuple[int, int, int, int]:
        """Along one axis: number of scores, pixels that one sees, pixels between two, first pixel of the first one's field."""
        side = lambda value: value if isinstance(value, int) else value[axis]
        size, jump, left = 1, 1, 0
        for layer in self.features.modules():
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                kernel, stride, pad = (
                    side(layer.kernel_size),
                    side(layer.stride),
                    side(layer.padding),
                )
                ceil = stride - 1 if getattr(layer, "ceil_mode", False) else 0
                count = (length + 2 * pad - kernel + ceil) // stride + 1
                length = count - 1 if ceil and (count - 1) * stride >= length + pad else count
                size, left, jump = size + (kernel - 1) * jump, left - pad * jump, jump * stride
        return length - self.grid[axis] + 1, size + (self.grid[axis] - 1) * jump, jump, left

    def forward(self, images: Tensor, max_pixels: int | None = None) -> Tensor:
        """``max_pixels`` bounds the memory: a larger image is worked off in overlapping strips, with the same result."""
        check_images(images, self.classifier[0].weight, self.image_size, at_least=True)
        n, _, height, width = images.shape
        if not max_pixels or n * height * width <= max_pixels:
            return self.scores(images)
        axis = 0 if height >= width else 1
        length = images.shape[2 + axis]
        units, size, jump, left = self._units(axis, length)
        step = max(1, (max_pixels // (images.shape[3 - axis] * n) - size) // jump)  # scores a strip
        parts = []
        for first in range(0, units, step):
            last = min(first + step, units)
            origin = max(
                0, first + left // jump
            )  # in units, so that strides stay in phase; no zero is read inside the image
            end = length if last == units else min(length, (last - 1) * jump + left + size)
            strip = self.scores(images.narrow(2 + axis, origin * jump, end - origin * jump))
            parts.append(strip.narrow(2 + axis, first - origin, last - first))
        return torch.cat(parts, 2 + axis)  # (N, classes, H', W')


def to_dense(model: nn.Module) -> DenseNetwork:
    """The fully convolutional twin of a network, sharing its weights (Sect. 3.2); also takes torchvision's VGG nets.

    At the crop size it gives a 1x1 map equal to the network's logits; at Q = 256, 384, 512 pixels the maps of a 224-pixel net are
    2, 6 and 10 units wide. Raises TypeError for a model without ``features`` and a ``classifier`` of FC layers.
    """
    features, classifier = getattr(model, "features", None), getattr(model, "classifier", None)
    if not (
        isinstance(features, nn.Module)
        and isinstance(classifier, nn.Sequential)
        and len(classifier)
    ):
        raise TypeError(
            f"model is a {type(model).__name__} without a classifier: to_dense needs .features and a .classifier of FC layers"
        )
    first = classifier[0]
    if not isinstance(first, nn.Linear):
        raise TypeError(
            f"model.classifier starts with {type(first).__name__}; to_dense needs an FC layer (nn.Linear) there"
        )
    size = getattr(model, "image_size", (224, 224))
    channels = [m.out_channels for m in features.modules() if isinstance(m, nn.Conv2d)][-1]
    if isinstance(model, Network):
        rows = walk(model.config, 1, False, 1.0, size)
        grid = next(row for row in reversed(rows) if row.kind != "fc").output_shape[1:]
    else:
        side = math.isqrt(first.in_features // channels)
        grid = (side, side)
    if channels * grid[0] * grid[1] != first.in_features:
        raise ValueError(
            f"model.classifier takes {first.in_features} numbers; {channels} channels on a {grid[0]} x {grid[1]} map give "
            f"{channels * grid[0] * grid[1]}"
        )
    dense = DenseNetwork(features, classifier, grid, size)
    return dense.train(model.training)
