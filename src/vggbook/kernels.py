"""The kernels of one layer, forward and backward: FLOPs as executed and bytes moved.

What is fused with what is one of `vggbook.roofline.FUSIONS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .timing import Device


@dataclass(frozen=True)
class Kernel:
    """One launch: FLOPs as executed (padding included) and bytes moved, for the whole batch."""

    layer: str
    phase: str  # forward, backward, update
    name: str
    flops: float
    bytes: float

    def seconds(self, device: Device) -> float:
        """The floor of its duration."""
        return max(self.flops / device.flops, self.bytes / device.bandwidth)

    def bound(self, device: Device) -> str:
        """What limits it: "arithmetic" or "memory"."""
        arithmetic = self.flops / device.flops >= self.bytes / device.bandwidth
        return "arithmetic" if arithmetic else "memory"


@dataclass(frozen=True)
class Layer:
    """A convolution or FC layer with the pooling after it: values of a whole batch."""

    name: str
    flops: float  # padding included
    weights: int
    inputs: int
    outputs: int
    pooled: int  # after the pooling; 0 where none follows
    first: bool  # its inputs are images, which need no gradient
    value_bytes: int

    def kernel(self, phase: str, name: str, values: float, *, flops: float = 0, plus: float = 0):
        """A kernel that moves so many values, and ``plus`` bytes."""
        return Kernel(self.name, phase, name, flops, float(self.value_bytes * values + plus))

    def kernels(self, fusion: str, training: bool) -> Iterator[Kernel]:
        """The convolution, bias, ReLU and pooling, forward and then backward."""
        code = self.pooled if training else 0  # a byte a pooled value says which of four it was
        yield from {
            "full": self._forward_full,
            "conv": self._forward_conv,
            "inductor": self._forward_inductor,
            "eager": self._forward_eager,
        }[fusion](code, training)
        if training:
            yield from self._backward_pointwise(fusion)
            yield from self._backward_products(fused=fusion == "full")

    def _forward_full(self, code: int, training: bool) -> Iterator[Kernel]:
        name = "conv+bias+ReLU+pool" if self.pooled else "conv+bias+ReLU"
        values = self.inputs + self.weights + (self.pooled or self.outputs)
        yield self.kernel("forward", name, values, flops=self.flops, plus=code)

    def _forward_conv(self, code: int, training: bool) -> Iterator[Kernel]:
        values = self.inputs + self.weights + self.outputs
        yield self.kernel("forward", "conv+bias+ReLU", values, flops=self.flops)
        if self.pooled:
            yield self.kernel("forward", "pool", self.outputs + self.pooled, plus=code)

    def _forward_inductor(self, code: int, training: bool) -> Iterator[Kernel]:
        values = self.inputs + self.weights + self.outputs
        yield self.kernel("forward", "conv", values, flops=self.flops)
        if not self.pooled:
            yield self.kernel("forward", "bias+ReLU", 2 * self.outputs)
            return
        kept = self.outputs if training else 0  # the ReLU's output, for the backward pass
        values = self.outputs + self.pooled + kept
        yield self.kernel("forward", "bias+ReLU+pool", values, plus=code)

    def _forward_eager(self, code: int, training: bool) -> Iterator[Kernel]:
        values = self.inputs + self.weights + self.outputs
        yield self.kernel("forward", "conv", values, flops=self.flops)
        yield self.kernel("forward", "bias", 2 * self.outputs)
        yield self.kernel("forward", "ReLU", 2 * self.outputs)
        if self.pooled:  # its indices are int64
            values = self.outputs + self.pooled
            yield self.kernel("forward", "pool", values, plus=8 * self.pooled)

    def _backward_pointwise(self, fusion: str) -> Iterator[Kernel]:
        """Gradients of pooling, ReLU and bias; "full" has them in the products."""
        if fusion == "eager":
            if self.pooled:
                values = self.outputs + self.pooled
                yield self.kernel("backward", "pool gradient", values, plus=8 * self.pooled)
            yield self.kernel("backward", "ReLU gradient", 3 * self.outputs)
            yield self.kernel("backward", "bias gradient", self.outputs)
        elif fusion != "full":
            values = 2 * self.outputs + self.pooled if self.pooled else 3 * self.outputs
            name = "pool, ReLU, bias gradients"
            yield self.kernel("backward", name, values, plus=self.pooled)

    def _backward_products(self, fused: bool) -> Iterator[Kernel]:
        incoming, code = self.outputs, 0
        if fused and self.pooled:
            incoming, code = self.pooled, self.pooled
        if not self.first:
            mask = self.inputs if fused else 0  # the input is read for its ReLU's mask
            values = incoming + self.weights + self.inputs + mask
            yield self.kernel("backward", "input gradient", values, flops=self.flops, plus=code)
        values = incoming + self.inputs
        plus = code + 4 * self.weights
        yield self.kernel("backward", "weight gradient", values, flops=self.flops, plus=plus)

    def products(self, training: bool) -> Iterator[Kernel]:
        """An FC layer: its products alone."""
        once = self.weights + self.inputs + self.outputs
        yield self.kernel("forward", "product", once, flops=self.flops)
        if training:
            values = once + self.inputs
            yield self.kernel("backward", "input gradient", values, flops=self.flops)
            yield self.kernel("backward", "weight gradient", once, flops=self.flops)
