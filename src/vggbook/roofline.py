"""How fast a network can be: FLOPs and bytes of every kernel against two ceilings, and a stopwatch to see how near a run comes.

A kernel takes at least max(FLOPs / peak, bytes / bandwidth) seconds (Williams et al., 2009); kernels run one after another, so the
floor of a step is the sum. It is a model's floor: algorithms with fewer products, or maps that stay in a cache, can go below it.
Everything follows from the configuration; only :func:`measure` and :func:`stopwatch` run anything.
Assumed: activations of ``Device.value_bytes``, each operand read once from memory and each result written once, weight gradients of
the convolutions in float32, input channels padded to a multiple of ``Device.multiple``. Paper: Sect. 3.3.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .arithmetic import walk
from .configs import Config, check_size, resolve

FUSIONS = {  # which passes over memory the software saves
    "full": "convolution, bias, ReLU and pooling in one kernel; their gradients inside the two gradient convolutions",
    "conv": "convolution, bias and ReLU in one kernel; pooling apart; pooling, ReLU and bias gradients in one pass",
    "inductor": "a bare convolution, then bias, ReLU and pooling in one pass, as torch.compile fuses; backward as in 'conv'",
    "eager": "convolution, bias, ReLU and pooling (int64 indices) one after another, forward and backward",
}


@dataclass(frozen=True)
class Device:
    """A processor as two ceilings: ``flops`` in FLOP/s and ``bandwidth`` in bytes/s; ``basis`` says how they are known."""

    name: str
    flops: float
    bandwidth: float
    value_bytes: int = 2
    multiple: int = 8
    basis: str = ""

    @property
    def ridge(self) -> float:
        """FLOPs a byte above which arithmetic limits, below which memory does."""
        return self.flops / self.bandwidth


DEVICES = {
    "Titan Black": Device(
        "Titan Black", 5.12e12, 336e9, 4, 1, "data sheet, float32; the paper's card"
    ),
    "T4": Device(
        "T4",
        24e12,
        240e9,
        basis="float16, sustained within its 70 W; data sheet: 65 TFLOP/s, 320 GB/s",
    ),
    "H100": Device(
        "H100",
        800e12,
        3.0e12,
        basis="bf16, large products and copies on an H100 SXM; data sheet: 989 TFLOP/s, 3.35 TB/s",
    ),
}


@dataclass(frozen=True)
class Kernel:
    """One launch: FLOPs as executed (padding included) and bytes moved, for the whole batch. ``phase``: forward, backward, update."""

    layer: str
    phase: str
    name: str
    flops: float
    bytes: float

    def seconds(self, device: Device) -> float:
        """The floor of its duration."""
        return max(self.flops / device.flops, self.bytes / device.bandwidth)

    def bound(self, device: Device) -> str:
        """What limits it: "arithmetic" or "memory"."""
        return (
            "arithmetic" if self.flops / device.flops >= self.bytes / device.bandwidth else "memory"
        )


def _check(batch: int, fusion: str) -> None:
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r}: choose one of {', '.join(map(repr, FUSIONS))}")
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ValueError(f"batch={batch!r}: a number of images from 1 is needed; the paper has 256")


def _layer(
    row,
    inputs: tuple[int, ...],
    pooled: int,
    batch: int,
    fusion: str,
    training: bool,
    first: bool,
    device: Device,
) -> Iterator[Kernel]:
    """Kernels of a convolution or FC layer and of the bias, ReLU and pooling (to ``pooled`` values an image) after it, in order."""
    kernel = lambda phase, name, flops, size: Kernel(
        row.name, phase, name, float(flops), float(size)
    )
    b, x, y, p = (
        device.value_bytes,
        batch * math.prod(inputs),
        batch * math.prod(row.output_shape),
        batch * pooled,
    )
    flops = 2 * batch * row.macs
    if row.kind == "fc":
        yield kernel("forward", "product", flops, b * (row.macs + x + y))
        if training:
            yield kernel("backward", "input gradient", flops, b * (row.macs + 2 * x + y))
            yield kernel("backward", "weight gradient", flops, b * (row.macs + x + y))
        return
    w = row.macs // math.prod(row.output_shape[1:])
    flops *= math.ceil(inputs[0] / device.multiple) * device.multiple / inputs[0]
    code = (
        p * training
    )  # one byte for each pooled value: which of the four it was; only the backward pass needs it
    if fusion == "full":
        yield kernel(
            "forward", "conv+bias+ReLU" + "+pool" * bool(p), flops, b * (x + w + (p or y)) + code
        )
    else:
        yield kernel(
            "forward", "conv+bias+ReLU" if fusion == "conv" else "conv", flops, b * (x + w + y)
        )
    if fusion == "conv" and p:
        yield kernel("forward", "pool", 0, b * (y + p) + code)
    elif fusion == "inductor":  # pooling keeps the ReLU's output as well for the backward pass
        yield kernel(
            "forward",
            "bias+ReLU" + "+pool" * bool(p),
            0,
            b * (y + p + y * training) + code if p else 2 * b * y,
        )
    elif fusion == "eager":
        yield kernel("forward", "bias", 0, 2 * b * y)
        yield kernel("forward", "ReLU", 0, 2 * b * y)
        if p:
            yield kernel("forward", "pool", 0, b * (y + p) + 8 * p)
    if not training:
        return
    if fusion == "eager":
        if p:
            yield kernel("backward", "pool gradient", 0, b * (y + p) + 8 * p)
        yield kernel("backward", "ReLU gradient", 0, 3 * b * y)
        yield kernel("backward", "bias gradient", 0, b * y)
    elif fusion != "full":
        yield kernel(
            "backward", "pool, ReLU, bias gradients", 0, b * (2 * y + p) + p if p else 3 * b * y
        )
    incoming = b * p + p if fusion == "full" and p else b * y
    if not first:  # the images need no gradient; fused, the input is read for its ReLU's mask
        yield kernel(
            "backward", "input gradient", flops, incoming + b * (w + x) + (fusion == "full") * b * x
        )
    yield kernel("backward", "weight gradient", flops, incoming + b * x + 4 * w)


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
        return sum(kernel.seconds(self.device) for kernel in self.kernels)

    @property
    def images_per_second(self) -> float:
        """The rate at the floor."""
        return self.batch / self.seconds

    @property
    def share_of_peak(self) -> float:
        """Useful FLOPs over what the arithmetic ceiling would do in the same time."""
        return self.useful_flops * self.batch / self.seconds / self.device.flops

    def by_layer(self, phase: str | None = None) -> dict[str, tuple[float, float, float, float]]:
        """layer -> (FLOPs, bytes, floor in seconds, seconds of it bound by memory), all kernels or those of one phase."""
        rows: dict[str, list[float]] = {}
        for k in self.kernels:
            if phase in (None, k.phase):
                row, seconds = rows.setdefault(k.layer, [0.0] * 4), k.seconds(self.device)
                for i, value in enumerate(
                    (k.flops, k.bytes, seconds, seconds * (k.bound(self.device) == "memory"))
                ):
                    row[i] += value
        return {name: tuple(row) for name, row in rows.items()}


def training_flops(
    config: str | Config, image_size: int = 224, num_classes: int = 1000, width: float = 1.0
) -> int:
    """Useful FLOPs of one training step for one image: forward, and two products a layer backward; none for the images' gradient."""
    macs = [row.macs for row in walk(config, num_classes, False, width, image_size) if row.macs]
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

    ``fusion`` is one of ``FUSIONS``; ``device`` a :class:`Device` or a key of ``DEVICES``. Nets with LRN raise ValueError: not modelled.
    """
    _check(batch, fusion)
    if isinstance(device, str) and device not in DEVICES:
        raise ValueError(
            f"device={device!r}: choose one of {', '.join(map(repr, DEVICES))}, or give a Device"
        )
    device, config = DEVICES[device] if isinstance(device, str) else device, resolve(config)
    rows = walk(config, num_classes, False, width, image_size)
    if any(row.kind == "lrn" for row in rows):
        raise ValueError(
            f"config={config.name!r} has LRN layers, whose traffic is not modelled; A, B, C, D, E and B-5x5 have none"
        )
    steps, shape = [], (3, *check_size(image_size))
    for row, after in zip(rows, [*rows[1:], None]):
        if row.kind != "pool":
            pooled = (
                math.prod(after.output_shape) if after is not None and after.kind == "pool" else 0
            )
            steps.append(
                list(_layer(row, shape, pooled, batch, fusion, training, not steps, device))
            )
        shape = row.output_shape
    kernels = [k for step in steps for k in step if k.phase == "forward"]
    kernels += [k for step in reversed(steps) for k in step if k.phase == "backward"]
    gradients, useful = (
        {row.name: row.params for row in rows if row.params},
        2 * sum(row.macs for row in rows),
    )
    if training:  # weight and momentum read and written, gradient read and zeroed; a 16-bit copy of the weight written
        each = 24 + (2 if device.value_bytes == 2 else 0)
        kernels.append(
            Kernel(
                "update", "update", "SGD with momentum", 0.0, float(each * sum(gradients.values()))
            )
        )
        useful = training_flops(config, image_size, num_classes, width)
    return Roofline(config, device, batch, training, fusion, tuple(kernels), useful, gradients)


@dataclass(frozen=True)
class DataParallel:
    """One synchronous step on several devices: seconds of computing, of all-reduce, and of all-reduce that nothing hides."""

    devices: int
    compute: float
    communication: float
    exposed: float

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
    """The step on each of ``devices``, then the mean of the gradients by a ring all-reduce (Sect. 3.3).

    ``bandwidth``: bytes/s that a device sends and receives at once. A ring moves 2 (n - 1) / n of the gradient's bytes through each
    device. Gradients travel in buckets of at least ``bucket`` bytes as soon as the backward pass has them, last layers first, one
    bucket after another; ``overlap=False`` waits for the whole backward pass, as in 2014. ``scale``: measured step over the floor.
    ``layers``: which layers' gradients travel, by name.
    """
    if not step.training:
        raise ValueError(
            "step is a forward pass; only a training step has gradients to share: roofline(..., training=True)"
        )
    if devices < 1 or bandwidth <= 0:
        raise ValueError(
            f"devices={devices!r}, bandwidth={bandwidth!r}: at least one device and a bandwidth above 0 are needed"
        )
    now, finish, held, total, backward = (
        0.0,
        0.0,
        0,
        0.0,
        [k for k in step.kernels if k.phase == "backward"],
    )
    after = sum(k.seconds(step.device) for k in step.kernels if k.phase == "update") * scale
    now = sum(k.seconds(step.device) for k in step.kernels if k.phase == "forward") * scale
    end = now + sum(k.seconds(step.device) for k in backward) * scale
    for k, following in zip(backward, [*backward[1:], None]):
        now += k.seconds(step.device) * scale
        if following is None or following.layer != k.layer:
            held += gradient_bytes * step.gradients[k.layer] * layers(k.layer)
        if devices > 1 and held and (held >= bucket or following is None):
            duration = 2 * (devices - 1) / devices * held / bandwidth + latency
            finish, total, held = (
                max(finish, now if overlap else end) + duration,
                total + duration,
                0,
            )
    return DataParallel(devices, end + after, total, max(0.0, finish - end))


# --- the stopwatch -----------------------------------------------------------------------------------------------------------------
def _synchronise(device: str) -> None:
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def stopwatch(
    cases: Mapping[str, Callable[[], object]], rounds: int = 5, warmup: int = 1, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each call, ``rounds`` times: all cases in turn, each round starting with another, so that drift hits all alike.

    The device's queue is empty when the clock starts and when it stops.
    """
    if rounds < 1 or not cases:
        raise ValueError(f"rounds={rounds!r}, {len(cases)} cases: at least one of each is needed")
    names, seconds = list(cases), {name: [] for name in cases}
    for name in names * warmup:
        cases[name]()
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            _synchronise(device)
            start = time.perf_counter()
            cases[name]()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(
    device: str = "cpu", dtype: str = "float32", rounds: int = 7, size: int | None = None
) -> Device:
    """The two ceilings of this machine: the best matrix product and the best copy or sum of ``rounds``, of random numbers.

    ``size``: side of the matrices (2048 on a CPU, 8192 on a GPU). The copy is four times as large and at least 64 MiB.
    """
    import torch

    kind, cuda = getattr(torch, dtype), str(device).startswith("cuda")
    size = size or (8192 if cuda else 2048)
    a, b = torch.randn(2, size, size, device=device).to(kind)
    source = torch.randn(max(4 * size * size, 2**24), device=device)
    target = torch.zeros_like(source)
    cases = {
        "product": lambda: a @ b,
        "copy": lambda: target.copy_(source),
        "sum": lambda: target.add_(source),
    }
    best = {name: min(seconds) for name, seconds in stopwatch(cases, rounds, 2, device).items()}
    name = (
        torch.cuda.get_device_name(device)
        if cuda
        else f"this CPU, {torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
    )
    return Device(
        name,
        flops=2 * size**3 / best["product"],
        bandwidth=source.nbytes
        * max(2 / best["copy"], 3 / best["sum"]),  # a CPU's copy may also read what it overwrites
        value_bytes=kind.itemsize,
        multiple=8 if kind.itemsize == 2 else 1,
        basis=f"measured: {dtype} product of {size} x {size} matrices, copy and sum of {source.nbytes / 1e6:.0f} MB",
    )


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile (for one value: itself)."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
