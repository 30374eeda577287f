"""Generalisation (Appendix B): the net as a feature extractor, a linear SVM on top, other data.

x = describe_images(net, images, scales=(73, 110, 146))   # (N, 512): one descriptor a picture
machine = fit_svm(x, labels)                              # one-vs-rest, C chosen by validation
mean_class_recall(machine.predict(describe_images(net, others, scales)), truth)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import choice, needs, number, whole
from .data import isotropic_resize
from .model import Network, to_dense

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

COMBINATIONS = ("average", "stack")
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # values of C that validation chooses from


def truncated(net: Network) -> Network:
    """The net without its last FC layer, sharing all weights: (N, 3, H, W) -> (N, 4096), after ReLU.

    Raises ValueError for a net with fewer than two FC layers: it has no hidden one to read.
    """
    linear = [at for at, part in enumerate(net.classifier) if isinstance(part, nn.Linear)]
    needs(
        len(linear) > 1,
        "net",
        f"{len(linear)} FC layer(s)",
        "a hidden FC layer before the last one",
    )
    body = nn.Sequential(*list(net.classifier)[: linear[-1]])
    return Network(net.config, net.features, body, net.image_size).eval()


@torch.inference_mode()
def describe_images(
    net: Network,
    images: Tensor | Sequence[Tensor],
    scales: int | Sequence[int],
    combine: str = "average",
    *,
    flip: bool = True,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Descriptors of pictures, L2-normalised: (N, D), or (N, D x scales) where scales are stacked.

    At every scale Q the net is applied densely, its D activations are averaged over all positions and the
    mirrored picture and normalised. ``combine``: "average" of the scales, or "stack" them. ``images``: uint8
    (N, 3, H, W), or a list of (3, H, W). ``preprocess``: by default the net's own ``.preprocessing``.
    """
    choice("combine", combine, COMBINATIONS)
    sizes = [scales] if isinstance(scales, int) else list(scales)
    needs(len(sizes) > 0, "scales", scales, "at least one test scale Q")
    for size in sizes:
        whole("scales", size, min(net.image_size))
    preprocess = preprocess or getattr(net, "preprocessing", None)
    needs(
        preprocess is not None, "preprocess", None, "a function, as the net has no .preprocessing"
    )
    assert preprocess is not None
    dense = to_dense(truncated(net))
    described = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        alike = part if isinstance(part, Tensor) else None
        groups = [alike] if alike is not None else [image[None] for image in part]
        for group in groups:
            views = [_at_scale(dense, preprocess(isotropic_resize(group, q)), flip) for q in sizes]
            described.append(torch.stack(views, 1))  # (n, scales, D)
    each = torch.cat(described)
    joined = each.mean(1) if combine == "average" else each.flatten(1)
    return F.normalize(joined, dim=1)


def _at_scale(dense: nn.Module, x: Tensor, flip: bool) -> Tensor:
    """Activations averaged over positions and the mirrored picture, normalised: (n, D)."""
    views = (x, x.flip(3)) if flip else (x,)
    means = [dense(view).flatten(2).mean(2) for view in views]  # (n, D) each
    return F.normalize(torch.stack(means).mean(0), dim=1)


def fit_svm(
    descriptors: Tensor,
    labels: Tensor,
    validation: float = 0.2,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearSVC:
    """A linear SVM, one class against the rest, on (N, D) descriptors; C is the best on held-out pictures.

    ``validation``: the share of each class that chooses C; the machine returned is fitted on everything.
    Raises ValueError for fewer than two classes and for a class too small to hold a picture out.
    """
    from sklearn.model_selection import train_test_split
    from sklearn.svm import LinearSVC

    number("validation", validation, 0, 1)
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    needs(len(counts) > 1, "labels", sorted(set(labels.tolist())), "at least two classes")
    needs(int(counts.min()) > 1, "labels", int(counts.min()), "two pictures of each class or more")
    x, y = descriptors.numpy(), labels.numpy()
    held = max(len(counts), round(validation * len(y)))
    parts = train_test_split(x, y, test_size=held, stratify=y, random_state=seed)
    fitted, chosen, fitted_labels, chosen_labels = parts
    accuracy = {
        c: LinearSVC(C=c).fit(fitted, fitted_labels).score(chosen, chosen_labels) for c in strengths
    }
    best = max(accuracy, key=lambda c: accuracy[c])
    return LinearSVC(C=best).fit(x, y)


def mean_class_recall(found: Sequence[int], truth: Sequence[int]) -> float:
    """Mean over the classes of the share of its pictures that are found, in per cent (Table 11, Caltech)."""
    found, truth = torch.as_tensor(found), torch.as_tensor(truth)
    needs(len(found) == len(truth) > 0, "found", len(found), f"as many as the truth, {len(truth)}")
    shares = [(found[truth == label] == label).double().mean() for label in truth.unique()]
    return 100 * float(torch.stack(shares).mean())


def average_precision(scores: Tensor, right: Tensor, points: int | None = None) -> float:
    """Average precision of a ranking, 0 to 1 (Table 11, VOC).

    ``scores`` (N,), ``right`` (N,) truth values. ``points=11``: VOC 2007's mean of the best precision at
    recall 0, 0.1, ..., 1. None: the area under the curve of best precisions, as VOC 2010 and later have it.
    """
    needs(points in (None, 11), "points", points, "11, or None for all points")
    hits = right.bool()[scores.argsort(descending=True, stable=True)].double()
    needs(bool(hits.any()), "right", int(hits.sum()), "at least one right answer")
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    recall = hits.cumsum(0) / hits.sum()
    best = (
        precision.flip(0).cummax(0).values.flip(0)
    )  # best precision at this recall or a larger one
    if points is None:
        steps = torch.diff(recall, prepend=recall.new_zeros(1))
        return float((steps * best).sum())
    levels = torch.arange(11).double() / 10
    reached = [best[recall >= level - 1e-12] for level in levels]
    return float(
        torch.stack([part[0] if len(part) else part.new_zeros(()) for part in reached]).mean()
    )
