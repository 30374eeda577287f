"""How D starts: schemes of random weights, layers from A, a measured start; pixels as in the
paper, and divided by 64.

    python -m experiments.starts                 # an eighth of the width, then full width; one
    JSON a start

Asks only whether the loss leaves ln(classes) in the first updates, so it needs minutes where
section4_two needs hours. The
recipe is the paper's (rate 0.01, momentum 0.9), without a schedule; each start sees the same
batches.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import provenance
from experiments.loop import batches, measured_start
from experiments.section4_two import ROOT, write
from vggbook.book import miniature
from vggbook.data import Loader, ShapesDataset, in_memory, mean_rgb, pca_rgb
from vggbook.model import Network, build
from vggbook.train import copy_layers

SCHEMES = ("paper", "std0.01", "glorot", "he", "A", "measured")
DIVISORS = (1, 64)
SIZES = {0.125: (192, 32), 1.0: (6, 8)}  # width: updates, pictures each


def start(scheme: str, width: float, seed: int, images: Tensor) -> Network:
    """D before its first update. "A": He's weights, then the layers of the book's small trained
    A."""
    he = "he" if scheme in ("A", "measured") else scheme
    generator = torch.Generator().manual_seed(seed)
    net = build("D", 12, width=width, image_size=64, init=he, generator=generator)
    if scheme == "measured":
        measured_start(net, images)
    if scheme == "A":
        copy_layers(miniature("A"), net)
    return net


def first_updates(
    net: Network, source: Iterator[tuple[Tensor, Tensor]], rate: float = 0.01
) -> list[float]:
    """Losses of plain SGD with momentum; ends early where one is not finite."""
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), rate, 0.9, weight_decay=5e-4)
    losses: list[float] = []
    for images, labels in source:
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return losses


def run(scheme: str, divisor: int, width: float, seed: int = 0) -> dict:
    """One start, recorded."""
    began = time.monotonic()
    updates, batch = SIZES[width]
    pictures = in_memory(ShapesDataset("train", 2048, seed=seed, size=73, difficulty=0.15))
    shape = {
        "crop": 64,
        "scales": 73,
        "mean": mean_rgb(pictures),
        "seed": seed,
        "gain": 1 / divisor,
    }
    plain = Loader(pictures, 64, augment=False, **shape)
    images = next(iter(plain.epoch(0)))[0]  # (64, 3, 64, 64)
    net = start(scheme, width, seed, images)
    with torch.inference_mode():
        spread = net.eval()(images[:16]).std(0).mean().item()  # over pictures, mean over classes
    loader = Loader(pictures, batch, colour=pca_rgb(pictures), **shape)
    torch.manual_seed(seed)
    losses = first_updates(net, batches(loader, updates))
    last = losses[-max(1, updates // 6) :]
    finite = all(map(math.isfinite, losses))
    return {
        "provenance": provenance("cpu", seed),
        "config": "D",
        "scheme": scheme,
        "divisor": divisor,
        "width": width,
        "logit_spread": spread,
        "updates": updates,
        "batch_size": batch,
        "losses": [loss if math.isfinite(loss) else None for loss in losses],
        "last_loss": sum(last) / len(last) if finite else None,
        "seconds": time.monotonic() - began,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.starts", description=__doc__)
    parser.add_argument("--widths", type=float, nargs="+", default=list(SIZES))
    given = parser.parse_args(argv)
    for width in given.widths:
        for scheme in SCHEMES:
            if scheme == "A" and width != 0.125:
                continue  # there is no trained A of that width
            for divisor in DIVISORS:
                path = ROOT / "results" / "section4-starts" / f"{scheme}_{divisor}_{width:g}.json"
                if not path.exists():
                    record = run(scheme, divisor, width)
                    write(path, record)
                    spread, last = record["logit_spread"], record["last_loss"]
                    print(f"{path.stem}: spread {spread:.1e}, last loss {last}")


if __name__ == "__main__":
    main()
