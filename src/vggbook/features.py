"""Generalisation (Appendix B): the net as a feature extractor, a linear SVM on top, other data.

:func:`caltech` and :func:`voc_presence` read the paper's data sets through torchvision.

x = describe_images(net, images, scales=(73, 110, 146))   # (N, 512): one descriptor a picture
machine = fit_svm(x, labels)                              # one-vs-rest, C chosen by validation
mean_class_recall(machine.predict(describe_images(net, others, scales)), truth)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import choice, needs, number, whole
from .data import FolderDataset, isotropic_resize
from .dense import to_dense
from .model import Network

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

COMBINATIONS = ("average", "stack")
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # values of C that validation chooses from


def truncated(net: Network) -> Network:
    """The net without its last FC layer, sharing all weights: (N, 3, H, W) -> (N, 4096).

    The activations are those after the hidden layer's ReLU (App. B). Raises ValueError for a head
    that is no ``nn.Sequential``, or has fewer than two FC layers: there is no hidden one to read.
    """
    kind = type(net.classifier)
    needs(issubclass(kind, nn.Sequential), "net.classifier", kind.__name__, "an nn.Sequential")
    linear = [at for at, part in enumerate(net.classifier) if isinstance(part, nn.Linear)]
    what = "a hidden FC layer before the last one"
    needs(len(linear) > 1, "net", f"{len(linear)} FC layer(s)", what)
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

    At every scale Q the net is applied densely, its D activations are averaged over all positions
    and the mirrored picture and normalised (App. B). ``combine``: "average" of the scales, or
    "stack" them. ``images``: RGB of 0..255, (N, 3, H, W), or a list of (3, H, W) of any sizes.
    ``preprocess``: by default the net's own ``.preprocessing``.

    Raises ValueError for no pictures, no scale, a Q below the crop size, and a net without a
    hidden FC layer.
    """
    needs(len(images) > 0, "len(images)", len(images), "at least one picture")
    choice("combine", combine, COMBINATIONS)
    sizes = [scales] if isinstance(scales, int) else list(scales)
    needs(len(sizes) > 0, "scales", scales, "at least one test scale Q")
    for size in sizes:
        whole("scales", size, min(net.image_size))
    prepare: Any = preprocess or getattr(net, "preprocessing", None)
    what = "a function, as the net has no .preprocessing"
    needs(prepare is not None, "preprocess", None, what)
    dense = to_dense(truncated(net))
    if isinstance(images, Tensor):
        groups = list(images.split(batch_size))
    else:
        groups = [image[None] for image in images]
    described = []
    for group in groups:
        views = [_at_scale(dense, prepare(isotropic_resize(group, q)), flip) for q in sizes]
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
    """A linear SVM, one class against the rest, on (N, D) descriptors.

    ``validation``: the share of each class that chooses C from ``strengths`` (App. B); the machine
    returned is fitted on everything.
    Raises ValueError for fewer than two classes and for a class too small to hold a picture out.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
    from sklearn.svm import LinearSVC

    number("validation", validation, 0, 1)
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    needs(len(counts) > 1, "labels", sorted(set(labels.tolist())), "at least two classes")
    needs(int(counts.min()) > 1, "labels", int(counts.min()), "two pictures of each class or more")
    x, y = descriptors.cpu().numpy(), labels.cpu().numpy()
    held = max(len(counts), round(validation * len(y)))
    split = StratifiedShuffleSplit(1, test_size=held, random_state=seed)
    search = GridSearchCV(LinearSVC(random_state=seed), {"C": list(strengths)}, cv=split)
    with warnings.catch_warnings():  # a large C may stop early: it is judged like any other
        warnings.simplefilter("ignore", ConvergenceWarning)
        return search.fit(x, y).best_estimator_  # of equal C the first


def mean_class_recall(found: Sequence[int], truth: Sequence[int]) -> float:
    """Mean over the classes of the share of its pictures found, in per cent (Table 11, Caltech)."""
    labels = torch.as_tensor(truth)
    same = torch.as_tensor(found) == labels if len(found) == len(truth) else torch.zeros(0)
    needs(len(same) > 0, "found", len(found), f"as many as the truth, {len(truth)}")
    shares = [same[labels == label].double().mean() for label in labels.unique()]
    return 100 * float(torch.stack(shares).mean())


def average_precision(scores: Tensor, right: Tensor, points: int | None = None) -> float:
    """Average precision of a ranking, 0 to 1 (Table 11, VOC).

    ``scores`` (N,), ``right`` (N,) truth values. ``points=11``: VOC 2007's mean of the best
    precision at recall 0, 0.1, ..., 1. None: the area under the curve of best precisions, as VOC
    2010 and later have it. Raises ValueError for unlike lengths, and where nothing is right.
    """
    needs(points in (None, 11), "points", points, "11, or None for all points")
    needs(len(scores) == len(right), "scores", len(scores), f"as many as right, {len(right)}")
    hits = right.bool()[scores.argsort(descending=True, stable=True)].double()
    needs(bool(hits.any()), "right", int(hits.sum()), "at least one right answer")
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    recall = hits.cumsum(0) / hits.sum()
    best = precision.flip(0).cummax(0).values.flip(0)  # best at this recall or a larger one
    if points is None:
        steps = torch.diff(recall, prepend=recall.new_zeros(1))
        return float((steps * best).sum())
    levels = torch.arange(11).double() / 10
    first = [int((recall < level).sum()) for level in levels]  # where recall reaches it
    return float(best[first].mean())


def split_by_class(
    labels: Tensor, train: int, test: int | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Indices of a random split, ``train`` pictures of each class and at most ``test`` others.

    The paper's protocol (App. B): three splits; 30 and at most 50 for Caltech-101, 60 and the rest
    for Caltech-256. Raises ValueError for a class without a picture left to test.
    """
    whole("train", train, 1)
    if test is not None:
        whole("test", test, 1)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        what = f"fewer than the {len(members)} pictures of class {int(label)}"
        needs(train < len(members), "train", train, what)
        members = members[torch.randperm(len(members), generator=generator)]
        parts.append((members[:train], members[train:][:test]))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def caltech(root: str | os.PathLike, classes: int = 101, background: bool = True) -> FolderDataset:
    """Caltech-101 or Caltech-256 as torchvision keeps it under ``root``; nothing is downloaded.

    ``background``: torchvision's Caltech101 drops the clutter class; the paper's 102 classes count
    it, and so it is put back as the last one. Caltech-256's clutter is the last of its 257.
    Raises ValueError for another number and for a class without a picture, FileNotFoundError where
    the pictures are not there.
    """
    from torchvision.datasets import Caltech101, Caltech256

    choice("classes", classes, (101, 256))
    try:
        source = Caltech101(str(root)) if classes == 101 else Caltech256(str(root))
    except RuntimeError as error:
        raise FileNotFoundError(f"Caltech-{classes} in root={str(root)!r}: {error}") from error
    folder = Path(source.root, f"{classes}_ObjectCategories")
    names = list(source.categories)
    if classes == 101 and background:
        names.append("BACKGROUND_Google")
    if classes == 256 and not background:
        names = [name for name in names if not name.endswith("clutter")]
    samples = [
        (str(path), label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).glob("*.jpg"))
    ]
    shown = {label for _, label in samples}
    missing = [name for label, name in enumerate(names) if label not in shown]
    needs(not missing, "root", str(root), f"a picture of each class, also of {missing}")
    return FolderDataset(samples, names)


VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def voc_presence(annotations: Sequence[Mapping[str, Any]]) -> Tensor:
    """Which classes VOC pictures show, int64 (N, 20): 1 shown, 0 not, -1 only as "difficult".

    ``annotations``: the second items of torchvision's ``VOCDetection``. A class's average precision
    leaves out its -1: ``average_precision(scores[shown >= 0], shown[shown >= 0])``.
    """
    found = torch.zeros(len(annotations), len(VOC_CLASSES), dtype=torch.int64)
    for row, annotation in zip(found, annotations):
        for thing in annotation["annotation"]["object"]:
            at = VOC_CLASSES.index(choice("name", thing["name"], VOC_CLASSES))
            if int(thing.get("difficult", 0)) == 0:
                row[at] = 1
            elif row[at] == 0:
                row[at] = -1
    return found
