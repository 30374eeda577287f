"""What is timed: training steps and forward passes of this package's networks and of torchvision's,
set up alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from vggbook import build

TORCHVISION = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}


def network(name: str, device: str = "cpu", library: str = "vggbook", **options) -> nn.Module:
    """A network of Table 1 with He's weights; ``library="torchvision"`` gives that library's twin
    (224 pixels, full width).
    """
    if library == "vggbook":
        return build(name, device=device, **options)
    from torchvision import models

    with torch.device(device):
        return getattr(models, TORCHVISION[name])(weights=None)


def precise(device: str, dtype: torch.dtype):
    """Autocast to a 16-bit type, without its cache, so that a step can be recorded as a CUDA graph;
    nothing for float32.
    """
    kind = torch.device(device).type
    return (
        torch.autocast(kind, dtype, cache_enabled=False)
        if dtype != torch.float32
        else contextlib.nullcontext()
    )


def batch(
    size: int, image_size: int, classes: int, device: str, layout: str, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (N, 3, H, W) of the spread of mean-subtracted pixels over 255, and labels
    (N,).
    """
    generator = torch.Generator(device).manual_seed(seed)
    images = torch.randn(size, 3, image_size, image_size, device=device, generator=generator).mul_(
        0.25
    )
    labels = torch.randint(classes, (size,), device=device, generator=generator)
    return images.contiguous(memory_format=LAYOUTS[layout]), labels


def sgd(model: nn.Module, kind: str = "fused", lr: float = 1e-3) -> torch.optim.SGD:
    """SGD with the paper's momentum and weight decay; ``kind``: "fused", "foreach" or "loop". The
    rate keeps random labels harmless.
    """
    how = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}[kind]
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, **how)


def training_step(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    optimiser: str = "fused",
    scaler: bool = False,
) -> Callable[[], None]:
    """One step of SGD: forward, soft-max loss, backward, update. ``scaler``: loss scaling, which
    float16 needs.
    """
    device = str(images.device)
    optimiser = sgd(model.train(), optimiser)
    grow = torch.amp.GradScaler(images.device.type, enabled=scaler)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with precise(device, dtype):
            loss = F.cross_entropy(model(images).float(), labels)
        grow.scale(loss).backward()
        grow.step(optimiser)
        grow.update()

    return step


def inference(
    model: nn.Module, images: torch.Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], torch.Tensor]:
    """One forward pass without gradients, in evaluation mode."""
    device = str(images.device)
    model.eval()

    def forward() -> torch.Tensor:
        with torch.inference_mode(), precise(device, dtype):
            return model(images)

    return forward


def graphed(step: Callable[[], object], rounds: int = 3) -> Callable[[], object]:
    """The step as one CUDA graph: recorded once, after ``rounds`` on a side stream, then replayed
    without the host.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(rounds):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def times(step: Callable[[], object], count: int) -> Callable[[], None]:
    """``count`` steps as one call, so that a short step is timed over many."""

    def repeated() -> None:
        for _ in range(count):
            step()

    return repeated
