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

    def kernel(
        self, phase: str, name: str, values: float, *, flops: float = 0, plus: float = 0
    ) -> Kernel:
        """A kernel that moves so many values, and ``plus`` bytes."""
        return Kernel(self.name, phase, name, flops, float(self.value_bytes * values + plus))

    def kernels(self, fusion: str, training: bool) -> Iterator[Kernel]:
        """The convolution, bias, ReLU and pooling, forward and then backward."""
        yield from self._forward(fusion, training)
        if training:
            yield from self._backward_pointwise(fusion)
            yield from self._backward_products(fused=fusion == "full")

    def _forward(self, fusion: str, training: bool) -> Iterator[Kernel]:
        code = self.pooled if training else 0  # a byte a pooled value says which of four it was
        read = self.inputs + self.weights
        if fusion == "full":
            name = "conv+bias+ReLU+pool" if self.pooled else "conv+bias+ReLU"
            values = read + (self.pooled or self.outputs)
            yield self.kernel("forward", name, values, flops=self.flops, plus=code)
            return
        name = "conv+bias+ReLU" if fusion == "conv" else "conv"
        yield self.kernel("forward", name, read + self.outputs, flops=self.flops)
        if fusion == "inductor" and self.pooled:
            kept = self.outputs if training else 0  # the ReLU's output, for the backward pass
            values = self.outputs + self.pooled + kept
            yield self.kernel("forward", "bias+ReLU+pool", values, plus=code)
            return
        pointwise = {"conv": [], "inductor": ["bias+ReLU"], "eager": ["bias", "ReLU"]}
        for name in pointwise[fusion]:
            yield self.kernel("forward", name, 2 * self.outputs)
        if self.pooled:
            indices = 8 * self.pooled if fusion == "eager" else code  # int64
            yield self.kernel("forward", "pool", self.outputs + self.pooled, plus=indices)

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
