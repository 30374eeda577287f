"""Build the networks of Table 1 in PyTorch (Sect. 2.1, 2.2) and start their weights (Sect. 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .arithmetic import last_map
from .checks import choice, is_number, needs
from .configs import LRN, Config, Conv, Pool, Size, check_classes, check_size, resolve, scaled
from .inputs import check_images

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
    """Draw all convolution and FC weights anew by one of ``INIT_SCHEMES``; biases become zero.

    Paper: Sect. 3.1. Returns the model.
    """
    choice("init", scheme, INIT_SCHEMES)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and scheme != "torch":
            _draw(module.weight, scheme, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return model


def _draw(weight: Tensor, scheme: str, generator: torch.Generator | None) -> None:
    if scheme == "glorot":
        nn.init.xavier_uniform_(weight, generator=generator)
        return
    fan_in = math.prod(weight.shape[1:])
    std = {"paper": 0.1, "std0.01": 0.01, "he": math.sqrt(2 / fan_in)}[scheme]
    nn.init.normal_(weight, std=std, generator=generator)


@contextmanager
def testing(nets: Sequence[nn.Module]) -> Iterator[None]:
    """Evaluation mode and no gradients; afterwards every module is as it was."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    try:
        for net in nets:
            net.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class Network(nn.Module):
    """``features`` (convolutions, ReLU, pooling), then ``classifier``; returns logits (N, classes).

    The classifier (FC layers, ReLU, dropout) may be replaced by any head that reads (N, features).
    The soft-max is left to the loss and to ``predict``. Parameter names equal torchvision's
    vgg11/13/16/19(_bn).
    """

    # Set on nets with trained weights alone: vggbook.weights, vggbook.book.miniatures and .export
    preprocessing: Callable[[Tensor], Tensor]
    class_names: list[str] | None
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    # Set on box regressors alone: vggbook.localise
    per_class: bool
    box_classes: int
    classifier: Any  # FC layers, or whatever head takes their place

    def __init__(
        self, config: Config, features: nn.Sequential, classifier: nn.Module, image_size: Size
    ) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, next(self.parameters(), None), self.image_size)
        x = self.features(images)  # (N, C, h, w): 512 x 7 x 7 for Table 1 at 224 pixels
        x = torch.flatten(x, 1)  # (N, C h w)
        return self.classifier(x)  # (N, classes)


def _features(config: Config, width: float, batch_norm: bool) -> nn.Sequential:
    """Everything before the first FC layer."""
    modules: list[nn.Module] = []
    channels = 3
    for layer in config.layers:
        if isinstance(layer, Conv):
            out = scaled(layer.channels, width, config.channel_unit)
            modules.append(
                nn.Conv2d(channels, out, layer.kernel, layer.stride, layer.pad, groups=layer.groups)
            )
            if batch_norm:
                modules.append(nn.BatchNorm2d(out))
            modules.append(nn.ReLU(inplace=True))
            channels = out
        elif isinstance(layer, Pool):
            modules.append(nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=layer.ceil))
        else:  # PyTorch divides alpha by the size: hand it alpha * size
            alpha = layer.alpha * layer.size
            modules.append(nn.LocalResponseNorm(layer.size, alpha, layer.beta, layer.k))
    return nn.Sequential(*modules)


def _classifier(
    inputs: int, hidden: Sequence[int], num_classes: int, dropout: float
) -> nn.Sequential:
    """The FC layers: ReLU and dropout after all but the last."""
    modules: list[nn.Module] = []
    for outputs in hidden:
        modules += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        inputs = outputs
    return nn.Sequential(*modules, nn.Linear(inputs, num_classes))


def build(
    config: str | Config,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    image_size: int | Size = 224,
    *,
    dropout: float = 0.5,
    init: str = "he",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Network:
    """The network of a configuration (Table 1).

    ``width`` multiplies every channel count, hidden FC layers included. ``image_size`` in pixels
    fixes the input of the first FC layer. ``dropout`` follows the first two FC layers (Sect. 3.1).
    ``init`` is one of ``INIT_SCHEMES``; the default "he" is the later scheme that trains at any
    depth, "paper" is what Sect. 3.1 prints. ``batch_norm`` is not in the paper.

    Raises KeyError for an unknown configuration, ValueError for an argument out of range.
    """
    config = resolve(config)
    size = check_size(image_size)
    num_classes = check_classes(num_classes)
    choice("init", init, INIT_SCHEMES)
    right = is_number(dropout, low=0) and dropout < 1
    needs(right, "dropout", dropout, "a probability of at least 0 and below 1; the paper has 0.5")
    inputs = math.prod(last_map(config, image_size, width))
    hidden = [scaled(n, width) for n in config.fc]
    with torch.device("meta"):  # shapes only; the weights are drawn once, below
        features = _features(config, width, batch_norm)
        classifier = _classifier(inputs, hidden, num_classes, dropout)
    model = Network(config, features, classifier, size).to_empty(device=device)
    if torch.device(device).type != "meta":
        initialise(model, init, generator)
    return model


def local_response_norm(x: Tensor, lrn: LRN = LRN()) -> Tensor:  # noqa: B008 (frozen)
    """LRN as Krizhevsky et al. (2012) print it; ``x`` is (N, C, H, W).

    b = a / (k + alpha * sum of a^2 over ``size`` neighbouring channels)^beta. The sum is not
    divided by ``size``. Slower than ``nn.LocalResponseNorm`` and written to be read.
    """
    half = lrn.size // 2
    squares = F.pad(x.square(), (0, 0, 0, 0, half, lrn.size - 1 - half))  # (N, C + size - 1, H, W)
    total = squares.unfold(1, lrn.size, 1).sum(-1)  # (N, C, H, W)
    return x / (lrn.k + lrn.alpha * total) ** lrn.beta
