"""Top-1 and top-5 error over a data set (Sect. 4), in one process or shared out among several."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import choice, needs, whole
from ..data import UnreadableImage, fetch
from ..train.machine import gathered, summed, world
from .posteriors import count_classes, network_list, predict


@dataclass(frozen=True)
class Evaluation:
    """Result of ``evaluate`` over K classes.

    ``confusion`` (K, K): counts, rows are true classes. ``hits5`` (K,): images whose class is among
    the five best. ``skipped``: why an image could not be read, by its index.
    """

    confusion: Tensor
    hits5: Tensor
    classes: tuple[Any, ...]
    skipped: Mapping[int, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of images that were tested."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of misclassified images, in per cent (Sect. 4)."""
        return 100 * (1 - int(self.confusion.diag().sum()) / self.n)

    @property
    def top5(self) -> float:
        """Share of images whose class is not among the five best, in per cent (Sect. 4)."""
        return 100 * (1 - int(self.hits5.sum()) / self.n)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a JSON file."""
        return {
            "n": self.n,
            "top1": self.top1,
            "top5": self.top5,
            "confusion": self.confusion.tolist(),
            "skipped": {str(i): reason for i, reason in self.skipped.items()},
        }

    def __str__(self) -> str:
        errors = f"top-1 error {self.top1:.2f} %, top-5 error {self.top5:.2f} %"
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{errors} ({self.n:,} images, {len(self.classes)} classes{skipped})"


def evaluate(
    models: nn.Module | Sequence[nn.Module],
    dataset: Any,
    method: str = "dense",
    scales: int | Sequence[int] = (256, 384, 512),
    flip: bool = True,
    *,
    block: int = 64,
    progress: bool | None = None,
    on_error: str = "error",
    **keywords: Any,
) -> Evaluation:
    """Top-1 and top-5 error, confusion and per-class errors over a data set (Sect. 4).

    ``dataset``: ``len``, ``dataset[i] -> (image, label)`` or ``dataset.batch(indices)``, see
    :mod:`vggbook.data`. Never more than ``block`` of its images are held. ``progress``: a bar
    (default: where a terminal shows it). ``on_error``: "skip" leaves out files that cannot be read
    and names them in the result. Further keywords go to ``predict``.

    With torch.distributed running, the blocks are dealt out to the processes and the counts added
    up: every process returns the same result as one process would.

    Raises ValueError for labels or classes that are not the network's, and UnreadableImage for a
    file that cannot be read, or where none can.
    """
    nets = network_list(models)
    classes = count_classes(nets)
    names = tuple(getattr(dataset, "classes", None) or range(classes))
    needs(len(names) == classes, "classes of dataset", len(names), f"the network's, {classes}")
    needs(len(dataset) > 0, "images of dataset", len(dataset), "at least one")
    whole("block", block, low=1)
    choice("on_error", on_error, ("error", "skip"))
    rank, processes = world()
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    hits5 = torch.zeros(classes, dtype=torch.int64)
    skipped: dict[int, str] = {}
    if progress is None:
        progress = sys.stderr.isatty() and rank == 0
    starts = range(rank * block, len(dataset), processes * block)
    bar = tqdm(starts, f"{method} {scales}", unit=" blocks", disable=not progress)
    for start in bar:
        indices = list(range(start, min(start + block, len(dataset))))
        images, found, _, unread = fetch(dataset, indices, on_error=on_error, classes=classes)
        skipped.update(unread)
        labels = found.cpu()
        posteriors = predict(nets, images, method, scales, flip, **keywords)  # (n, K)
        best = posteriors.topk(min(5, classes)).indices  # (n, 5)
        confusion.index_put_((labels, best[:, 0]), torch.ones_like(labels), accumulate=True)
        among = (best == labels[:, None]).any(1)  # (n,)
        hits5 += torch.bincount(labels[among], minlength=classes)
    counts = torch.cat((confusion, hits5[:, None]), 1)  # (K, K + 1)
    counts = summed(counts, next(nets[0].parameters()).device)
    confusion, hits5 = counts[:, :-1], counts[:, -1]
    skipped = {i: reason for part in gathered(skipped) for i, reason in part.items()}
    if not confusion.any():
        raise UnreadableImage(f"none of {len(dataset)} images: {next(iter(skipped.values()))}")
    return Evaluation(confusion, hits5, names, dict(sorted(skipped.items())))
