"""A stopwatch, a machine's cores, and its two ceilings by measurement."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .checks import needs, whole


@dataclass(frozen=True)
class Device:
    """A processor as two ceilings; ``basis`` says how they are known."""

    name: str
    flops: float  # FLOP/s
    bandwidth: float  # bytes/s
    value_bytes: int = 2
    multiple: int = 8  # input channels are padded to a multiple of this
    basis: str = ""

    @property
    def ridge(self) -> float:
        """FLOPs a byte above which arithmetic limits, below which memory does."""
        return self.flops / self.bandwidth


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stopwatch(
    cases: Mapping[str, Callable[[], object]], rounds: int = 5, warmup: int = 1, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each call, ``rounds`` times, all cases in turn.

    Each round starts with another case, so that drift hits all alike. The device's queue is empty
    when the clock starts and when it stops.
    """
    whole("rounds", rounds, low=1)
    needs(len(cases) > 0, "cases", {}, "at least one")
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names * warmup:
        cases[name]()
    for first in range(rounds):
        shift = first % len(names)
        for name in names[shift:] + names[:shift]:
            _synchronise(device)
            start = time.perf_counter()
            cases[name]()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(
    device: str = "cpu", dtype: str = "float32", rounds: int = 7, size: int | None = None
) -> Device:
    """The two ceilings of this machine: the best matrix product, and the best copy or sum.

    Of ``rounds`` runs on random numbers. ``size``: side of the matrices (2048 on a CPU, 8192 on a
    GPU). The copy is four times as large and at least 64 MiB.
    """
    import torch

    kind = getattr(torch, dtype)
    cuda = _is_cuda(device)
    side = size or (8192 if cuda else 2048)
    a, b = torch.randn(2, side, side, device=device).to(kind)
    source = torch.randn(max(4 * side * side, 2**24), device=device)
    target = torch.zeros_like(source)
    cases = {
        "product": lambda: a @ b,
        "copy": lambda: target.copy_(source),
        "sum": lambda: target.add_(source),
    }
    seconds = stopwatch(cases, rounds, warmup=2, device=device)
    best = {name: min(values) for name, values in seconds.items()}
    threads = torch.get_num_threads()
    here = f"this CPU, {threads} thread{'s' if threads > 1 else ''}"
    sizes = f"product of {side} x {side} matrices, copy and sum of {source.nbytes / 1e6:.0f} MB"
    # A sum moves three values, a copy two; a CPU's copy may also read what it overwrites.
    passes = max(2 / best["copy"], 3 / best["sum"])
    return Device(
        name=torch.cuda.get_device_name(device) if cuda else here,
        flops=2 * side**3 / best["product"],
        bandwidth=source.nbytes * passes,
        value_bytes=kind.itemsize,
        multiple=8 if kind.itemsize == 2 else 1,
        basis=f"measured: {dtype} {sizes}",
    )


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile (for one value: itself)."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def _is_cuda(device: str) -> bool:
    return str(device).startswith("cuda")


def _synchronise(device: str) -> None:
    if _is_cuda(device):
        import torch

        torch.cuda.synchronize(device)
