"""How fast a network can be: FLOPs and bytes of every kernel against two ceilings (Sect. 3.3).

A kernel takes at least max(FLOPs / peak, bytes / bandwidth) seconds (Williams et al., 2009);
kernels run one after another, so the floor of a step is the sum. It is a model's floor: algorithms
with fewer products, or maps that stay in a cache, can go below it. Everything follows from the
configuration; `vggbook.timing` measures.

Assumed: activations of ``Device.value_bytes``, each operand read once from memory and each result
written once, weight gradients of the convolutions in float32, input channels padded to a multiple
of ``Device.multiple``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .arithmetic import walk
from .checks import choice, needs, positive, whole
from .configs import Config, check_size, resolve
from .kernels import Kernel, Layer
from .timing import Device, measure, spread, stopwatch

__all__ = [
    "DEVICES",
    "FUSIONS",
    "DataParallel",
    "Device",
    "Kernel",
    "Roofline",
    "data_parallel",
    "measure",
    "roofline",
    "spread",
    "stopwatch",
    "training_flops",
]

FUSIONS = {  # which passes over memory the software saves, from the most to none
    "full": "convolution, bias, ReLU and pooling in one kernel; "
    "their gradients inside the two gradient convolutions",
    "conv": "convolution, bias and ReLU in one kernel; pooling apart; "
    "pooling, ReLU and bias gradients in one pass",
    "inductor": "a bare convolution, then bias, ReLU and pooling in one pass, "
    "as torch.compile fuses; backward as in 'conv'",
    "eager": "convolution, bias, ReLU and pooling (int64 indices) one after another, "
    "forward and backward",
}

_CARDS = (
    Device("Titan Black", 5.12e12, 336e9, 4, 1, "data sheet, float32; the paper's card"),
    Device(
        "T4",
        24e12,
        240e9,
        basis="float16, sustained within its 70 W; data sheet: 65 TFLOP/s, 320 GB/s",
    ),
    Device(
        "H100",
        800e12,
        3.0e12,
        basis="bf16, large products and copies on an H100 SXM; data sheet: 989 TFLOP/s, 3.35 TB/s",
    ),
)
DEVICES = {card.name: card for card in _CARDS}


@dataclass(frozen=True)
class Roofline:
    """The kernels of one step (or one forward pass) on one device, in the order of their use."""

    config: Config
    device: Device
    batch: int
    training: bool
    fusion: str
    kernels: tuple[Kernel, ...]
    useful_flops: float  # an image, without padding
    gradients: Mapping[str, int]  # layer -> parameters

    @property
    def seconds(self) -> float:
        """Floor of one step over the batch."""
        return self.phase_seconds("forward", "backward", "update")

    def phase_seconds(self, *phases: str) -> float:
        """Floor of some phases of the step."""
        return sum(k.seconds(self.device) for k in self.kernels if k.phase in phases)

    @property
    def images_per_second(self) -> float:
        """The rate at the floor."""
        return self.batch / self.seconds

    def by_layer(self) -> dict[str, tuple[float, float, float, float]]:
        """layer -> (FLOPs, bytes, floor in seconds, seconds of it bound by memory)."""
        rows: dict[str, tuple[float, float, float, float]] = {}
        for k in self.kernels:
            flops, size, floor, memory = rows.get(k.layer, (0.0, 0.0, 0.0, 0.0))
            seconds = k.seconds(self.device)
            waiting = seconds if k.bound(self.device) == "memory" else 0.0
            rows[k.layer] = flops + k.flops, size + k.bytes, floor + seconds, memory + waiting
        return rows


def training_flops(
    config: str | Config, image_size: int = 224, num_classes: int = 1000, width: float = 1.0
) -> int:
    """Useful FLOPs of one training step for one image.

    Forward, and two products a layer backward; the images need no gradient.
    """
    rows = walk(config, num_classes, width=width, image_size=image_size)
    macs = [row.macs for row in rows if row.macs]
    return 2 * (3 * sum(macs) - macs[0])


def roofline(
    config: str | Config,
    device: str | Device = "H100",
    batch: int = 256,
    fusion: str = "inductor",
    training: bool = True,
    *,
    image_size: int = 224,
    num_classes: int = 1000,
    width: float = 1.0,
) -> Roofline:
    """The floor of a training step, or of a forward pass, for a batch (Sect. 3.3).

    ``fusion`` is one of ``FUSIONS``; ``device`` a :class:`Device` or a key of ``DEVICES``. Nets
    with LRN raise ValueError: not modelled.
    """
    whole("batch", batch, low=1)
    choice("fusion", fusion, FUSIONS)
    machine = device if isinstance(device, Device) else DEVICES[choice("device", device, DEVICES)]
    net = resolve(config)
    rows = walk(net, num_classes, width=width, image_size=image_size)
    modelled = all(row.kind != "lrn" for row in rows)
    needs(modelled, "config", net.name, "a net without LRN, whose traffic is not modelled")
    steps: list[list[Kernel]] = []
    shape: tuple[int, ...] = (3, *check_size(image_size))
    for row, after in zip(rows, [*rows[1:], None]):
        if row.kind != "pool":
            pooled = 0
            if after is not None and after.kind == "pool":
                pooled = math.prod(after.output_shape)
            layer = _layer(row, shape, pooled, batch, first=not steps, device=machine)
            fully = row.kind == "fc"
            own = layer.products(training) if fully else layer.kernels(fusion, training)
            steps.append(list(own))
        shape = row.output_shape
    kernels = [k for step in steps for k in step if k.phase == "forward"]
    kernels += [k for step in reversed(steps) for k in step if k.phase == "backward"]
    gradients = {row.name: row.params for row in rows if row.params}
    useful = 2 * sum(row.macs for row in rows)
    if training:
        kernels.append(_update(sum(gradients.values()), machine))
        useful = training_flops(net, image_size, num_classes, width)
    return Roofline(net, machine, batch, training, fusion, tuple(kernels), useful, gradients)


def _layer(
    row: Any, inputs: tuple[int, ...], pooled: int, batch: int, *, first: bool, device: Device
) -> Layer:
    """A row of the trace, whose input has this shape and whose pooling gives so many values."""
    weights = row.macs
    flops = 2.0 * batch * row.macs
    if row.kind == "conv":
        weights //= math.prod(row.output_shape[1:])  # used once a position
        flops *= math.ceil(inputs[0] / device.multiple) * device.multiple / inputs[0]
    return Layer(
        name=row.name,
        flops=flops,
        weights=weights,
        inputs=batch * math.prod(inputs),
        outputs=batch * math.prod(row.output_shape),
        pooled=batch * pooled,
        first=first,
        value_bytes=device.value_bytes,
    )


def _update(parameters: int, device: Device) -> Kernel:
    """SGD in float32: weight and momentum read and written, gradient read and zeroed."""
    each = 6 * 4
    if device.value_bytes == 2:
        each += 2  # a 16-bit copy of the weight is written
    return Kernel("update", "update", "SGD with momentum", 0.0, float(each * parameters))


@dataclass(frozen=True)
class DataParallel:
    """One synchronous step on several devices, in seconds."""

    devices: int
    compute: float
    communication: float  # all-reduce
    exposed: float  # all-reduce that nothing hides

    @property
    def efficiency(self) -> float:
        """Speed-up over the number of devices (the paper's: 3.75 / 4)."""
        return self.compute / (self.compute + self.exposed)

    @property
    def speedup(self) -> float:
        """Images a second over those of one device with the same batch a device."""
        return self.devices * self.efficiency


def data_parallel(
    step: Roofline,
    devices: int,
    bandwidth: float,
    *,
    overlap: bool = True,
    scale: float = 1.0,
    gradient_bytes: int = 4,
    bucket: int = 25 * 2**20,
    latency: float = 20e-6,
    layers: Callable[[str], bool] = lambda name: True,
) -> DataParallel:
    """The step on each of ``devices``, then the gradients' mean by a ring all-reduce (Sect. 3.3).

    ``bandwidth``: bytes/s that a device sends and receives at once. A ring moves 2 (n - 1) / n of
    the gradient's bytes through each device. Gradients travel in buckets of at least ``bucket``
    bytes as soon as the backward pass has them, last layers first, one bucket after another;
    ``overlap=False`` waits for the whole backward pass, as in 2014. ``scale``: measured step over
    the floor. ``layers``: which layers' gradients travel, by name.
    """
    whole("devices", devices, low=1)
    positive("bandwidth", bandwidth)
    what = "roofline(..., training=True), which has gradients"
    needs(step.training, "step", "a forward pass", what)
    now = scale * step.phase_seconds("forward")
    end = now + scale * step.phase_seconds("backward")
    sent = 0.0  # when the last bucket has arrived
    communication = 0.0
    held = 0  # bytes that wait for their bucket to be full
    backward = [k for k in step.kernels if k.phase == "backward"]
    for k, following in zip(backward, [*backward[1:], None]):
        now += scale * k.seconds(step.device)
        last = following is None
        done = following is None or following.layer != k.layer
        if done and layers(k.layer):
            held += gradient_bytes * step.gradients[k.layer]
        if devices > 1 and held and (held >= bucket or last):
            duration = 2 * (devices - 1) / devices * held / bandwidth + latency
            sent = max(sent, now if overlap else end) + duration
            communication += duration
            held = 0
    compute = end + scale * step.phase_seconds("update")
    return DataParallel(devices, compute, communication, exposed=max(0.0, sent - end))
