"""A plain training loop for the second plan: one start, one schedule, the same number of updates
for every net.

The trainer of :mod:`vggbook.train` follows the paper, whose rate falls when validation accuracy
stops improving. The second
plan wants nets that differ in one thing, so here the rate falls at fixed fractions of the updates,
for every net at the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggbook.data import Loader
from vggbook.model import Network


@dataclass(frozen=True)
class Schedule:
    """How a net is trained. Fractions are of ``updates``."""

    updates: int
    rate: float
    warm_up: float = 0.05  # the rate rises linearly from 0 over this fraction
    drops: tuple[float, ...] = (0.6, 0.85)  # the rate falls to a tenth at each
    average_from: float = 0.9  # tested are the mean weights over the updates from here on
    clip: float = 1.0  # longest gradient, over all weights
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def rate_at(self, update: int) -> float:
        """Learning rate of update 0, 1, ..."""
        done = update / self.updates
        rise = min(1.0, (update + 1) / (self.warm_up * self.updates)) if self.warm_up else 1.0
        return self.rate * rise * 0.1 ** sum(done >= drop for drop in self.drops)


@torch.no_grad()
def measured_start(net: Network, images: Tensor) -> Network:
    """Scale each layer of a net so that its output on ``images`` has unit variance; biases become
    zero.

    The directions of the weights stay as drawn. So nets of any depth pass a signal of one size
    from layer to layer, whatever the
    pixels' scale (after Mishkin and Matas, 2016). The last layer is scaled to a tenth, so that all
    classes begin alike.
    """
    net.eval()
    x = images
    layers = [*net.features, nn.Flatten(), *net.classifier]
    last = net.classifier[-1]
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.bias.zero_()
            wanted = 0.1 if layer is last else 1.0
            layer.weight.mul_(wanted / layer(x).std())
        x = layer(x)
    return net


def batches(loader: Loader, updates: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``updates`` batches, epoch after epoch."""
    done = 0
    epoch = 0
    while done < updates:
        for images, labels, _ in loader.epoch(epoch):
            if done == updates:
                return
            yield images, labels
            done += 1
        epoch += 1


def train(
    net: Network, loader: Loader, schedule: Schedule, half: bool = True, every: int = 64
) -> list[dict]:
    """Train ``net`` in place; at the end it holds the averaged weights. Returns the curve: mean
    loss of every ``every`` updates.

    ``half``: matrix products in bfloat16, weights in float32. Raises FloatingPointError where the
    loss is not finite.
    """
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        net.parameters(), schedule.rate, schedule.momentum, weight_decay=schedule.weight_decay
    )
    first_averaged = min(math.ceil(schedule.average_from * schedule.updates), schedule.updates - 1)
    average = [torch.zeros_like(p) for p in net.parameters()]
    averaged = 0
    curve: list[dict] = []
    losses: list[float] = []
    norms: list[float] = []
    for update, (images, labels) in enumerate(batches(loader, schedule.updates)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(update)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            logits = net(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
        optimizer.step()
        losses.append(loss.item())
        norms.append(float(norm))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at update {update + 1}")
        if update >= first_averaged:
            averaged += 1
            with torch.no_grad():
                for mean, weight in zip(average, net.parameters()):
                    mean.lerp_(weight, 1 / averaged)
        if (update + 1) % every == 0 or update + 1 == schedule.updates:
            row = {"update": update + 1, "loss": math.fsum(losses) / len(losses)}
            curve.append({**row, "clipped": sum(n > schedule.clip for n in norms) / len(norms)})
            losses.clear()
            norms.clear()
    with torch.no_grad():
        for mean, weight in zip(average, net.parameters()):
            weight.copy_(mean)
    net.eval()
    return curve
