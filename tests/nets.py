"""Small networks and pictures that several test files share."""

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vggbook import build
from vggbook.configs import LRN, Config, Conv, Pool
from vggbook.model import Network
from vggbook.weights import Preprocessing

BEFORE_VGG = ("AlexNet", "VGG-F", "VGG-M", "VGG-S")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(name: str = "A", classes: int = 3, size: int = 32, **options) -> Network:
    """A net a sixteenth as wide, in evaluation mode."""
    return build(name, classes, width=1 / 16, image_size=size, generator=seeded(), **options).eval()


def net(config: str = "A", classes: int = 7, crop: int = 64, seed: int = 0, **options) -> Network:
    """A small net whose posteriors are far from uniform."""
    model = build(
        config, classes, width=1 / 16, image_size=crop, generator=seeded(seed), **options
    ).eval()
    model.preprocessing = Preprocessing("test", (110.0, 120.0, 130.0), (40.0, 40.0, 40.0))
    return model


def pictures(sizes, seed: int = 0) -> list[Tensor]:
    """Smooth random uint8 pictures (3, h, w)."""
    generator = seeded(seed)
    coarse = [torch.rand(1, 3, 6, 6, generator=generator) * 255 for _ in sizes]
    found = []
    for c, size in zip(coarse, sizes):
        fine = F.interpolate(c, size, mode="bicubic").clamp(0, 255)[0]
        found.append(fine.to(torch.uint8))
    return found


def as_convolutions(model: Network, x: Tensor) -> Tensor:
    """The FC layers as explicit convolutions: as large as the map of one crop, then 1x1."""
    with torch.no_grad():
        kernel = model.features(torch.zeros(1, 3, *model.image_size)).shape[2:]
        x = model.features(x)
        for layer in model.classifier:
            if not isinstance(layer, nn.Linear):
                x = layer(x)
                continue
            channels = layer.in_features // (kernel[0] * kernel[1])
            conv = nn.Conv2d(channels, layer.out_features, kernel)
            conv.weight.copy_(layer.weight.view_as(conv.weight))
            conv.bias.copy_(layer.bias)
            x = conv(x)
            kernel = (1, 1)
    return x


@st.composite
def configs(draw) -> Config:
    """A random configuration: up to three blocks of convolutions, some LRN, pools, groups."""
    layers = []
    channels = 3
    jump = 1
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 3))):
            out = 2 * draw(st.integers(1, 12))
            groups = draw(st.sampled_from([g for g in (1, 1, 2) if channels % g == 0]))
            kernel = draw(st.sampled_from([1, 2, 3, 5, 7]))
            stride = draw(st.sampled_from([1, 1, 1, 2, 4]))
            stride = stride if jump * stride <= 16 else 1
            jump *= stride
            layers.append(Conv(out, kernel, stride, draw(st.sampled_from([None, 0, 1])), groups))
            channels = out
        if draw(st.booleans()):
            layers.append(LRN(size=draw(st.sampled_from([3, 5]))))
        stride = draw(st.integers(1, 3)) if jump <= 16 else 1
        jump *= stride
        layers.append(Pool(draw(st.integers(2, 3)), stride, draw(st.booleans())))
    fc = tuple(draw(st.lists(st.integers(1, 64), max_size=2)))
    return Config("random", tuple(layers), fc, blocks=draw(st.booleans()))
