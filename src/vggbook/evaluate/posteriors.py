"""Class posteriors: dense evaluation, crops, several scales, several nets (Sect. 3.2, 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import choice, expected, needs, whole
from ..data import isotropic_resize
from ..dense import to_dense
from ..inputs import rgb_pixels
from ..model import testing
from ..weights import FAMILIES
from .scales import crop_grid

METHODS = ("dense", "multi_crop", "both")
AVERAGES = ("posterior", "logit")
BATCHES = 8  # one pass takes an eighth of max_pixels, so that its maps stay near the caches
Images = Tensor | Sequence[Tensor]


def fuse(posteriors: Sequence[Tensor]) -> Tensor:
    """Average of several nets' (or methods') posteriors, each (N, classes) (Sect. 4.4)."""
    shapes = [tuple(p.shape) for p in posteriors]
    right = len(set(shapes)) == 1 and len(shapes[0]) == 2
    needs(right, "shapes of posteriors", shapes, "one shape (N, classes), over the same classes")
    return torch.stack(list(posteriors)).mean(0)


def network_list(models: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """One network or several as a list; TypeError for anything else."""
    several = models if isinstance(models, list | tuple) else [models]
    nets = [net for net in several if isinstance(net, nn.Module)]
    if not nets or len(nets) < len(several):
        raise TypeError(expected("models", models, "a network or a non-empty list of networks"))
    return nets


def count_classes(models: nn.Module | Sequence[nn.Module]) -> int:
    """The number of classes of one net or several; ValueError where they differ."""
    counts = [to_dense(net).classes for net in network_list(models)]
    needs(len(set(counts)) == 1, "classes of models", counts, "nets over the same classes")
    return counts[0]


def _check_scales(scales: int | Sequence[int], crop: int) -> list[int]:
    """The scales in one order, so that sums of posteriors are the same to the last bit."""
    several = scales if isinstance(scales, Iterable) else [scales]
    checked = sorted(whole("scales", q, low=1) for q in several)
    needs(len(checked) > 0, "scales", scales, "at least one test scale Q, as in (256, 384, 512)")
    what = f"at least the crop of the network, {crop} pixels, or nothing could be scored"
    needs(checked[0] >= crop, "Q", checked[0], what)
    return checked


def _batches(images: Images, scale: int, max_pixels: int) -> Iterator[tuple[list[int], Tensor]]:
    """Images rescaled from the original to smallest side ``scale``: (indices, (n, 3, h, w)).

    Those of equal size come together, no more than ``max_pixels`` of them, or a single image.
    """
    block = max(64, BATCHES * max_pixels // scale**2)  # images held rescaled at a time
    for start in range(0, len(images), block):
        resized: Any = isotropic_resize(images[start : start + block], scale)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(resized):
            groups.setdefault(tuple(image.shape), []).append(i)
        for (_, h, w), members in groups.items():
            room = max(1, max_pixels // (h * w))
            for at in range(0, len(members), room):
                part = members[at : at + room]
                same = isinstance(resized, Tensor)
                batch = resized[part] if same else torch.stack([resized[i].float() for i in part])
                yield [start + i for i in part], batch


@dataclass
class _Scorer:
    """One net with its dense twin: posteriors of a batch that is already rescaled."""

    net: nn.Module
    preprocess: Callable[[Tensor], Tensor] | None
    grid: int
    average: str
    max_pixels: int
    dtype: torch.dtype | None

    def __post_init__(self) -> None:
        self.twin = to_dense(self.net)
        self.weight = next(self.net.parameters())
        own: Callable[[Tensor], Tensor] = getattr(self.net, "preprocessing", FAMILIES["paper"])
        self.prepare = self.preprocess or own

    def __call__(self, images: Tensor, methods: Sequence[str], flip: bool) -> Tensor:
        """(N, 3, H, W) of 0..255 -> (N, classes): the sum of the views' posteriors, on the CPU."""
        x = self.prepare(images.to(self.weight.device))  # (N, 3, H, W)
        x = x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        # The convolutions of D take as long a pixel at any size and batch, but an FC layer with few
        # rows waits for its weights (9 rows take as long as 4): so both views go in one batch.
        views = torch.cat((x, x.flip(3))) if flip else x  # (V, 3, H, W), V = N or 2 N
        total = torch.zeros(())
        autocast = torch.autocast(x.device.type, self.dtype) if self.dtype else nullcontext()
        with autocast:
            for method in methods:
                scores = self.dense(views) if method == "dense" else self.multi_crop(views)
                total = total + self._posteriors(scores).cpu()
        return total.unflatten(0, (-1, len(x))).sum(0)

    def dense(self, views: Tensor) -> Tensor:
        """Scores (V, positions, classes) of the whole images."""
        return self.twin(views, self.max_pixels).flatten(2).transpose(1, 2)

    def multi_crop(self, views: Tensor) -> Tensor:
        """Scores (V, crops, classes) of each image's crops."""
        h, w = self.twin.image_size
        corners = crop_grid((views.shape[2], views.shape[3]), (h, w), self.grid)
        crops = [views[..., top : top + h, left : left + w] for top, left in corners]
        room = max(1, self.max_pixels // BATCHES // (len(views) * h * w))
        starts = range(0, len(crops), room)
        scores = torch.cat([self.net(torch.cat(crops[at : at + room])) for at in starts])
        return scores.unflatten(0, (len(crops), len(views))).transpose(0, 1)

    def _posteriors(self, scores: Tensor) -> Tensor:
        """(V, positions, classes) -> (V, classes): soft-max and mean, in the order asked for."""
        scores = scores.float()
        if self.average == "posterior":
            return scores.softmax(2).mean(1)
        return scores.mean(1).softmax(1)


def predict(
    models: nn.Module | Sequence[nn.Module],
    images: Images,
    method: str = "dense",
    scales: int | Sequence[int] = (256, 384, 512),
    flip: bool = True,
    *,
    grid: int = 5,
    average: str = "posterior",
    preprocess: Callable[[Tensor], Tensor] | None = None,
    max_pixels: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Class posteriors (N, classes), float32 on the CPU, rows summing to 1 (Sect. 3.2, 4.2 to 4.4).

    ``models``: a network or several, whose posteriors are averaged. ``images``: (N, 3, H, W), or a
    list of (3, H, W) of differing sizes, RGB of 0..255, whole numbers or floating; each is rescaled
    from the original to smallest side Q for every Q of ``scales``, up or down, keeping its
    proportions. ``method``: "dense" scores the whole image; "multi_crop" is the mean of
    ``grid`` x ``grid`` crops (``grid=1``: the centre crop); "both" averages the two. ``flip`` also
    averages over the mirrored image.

    ``average``: "posterior" or "logit", over positions and crops, see the package's text.
    ``preprocess`` maps (N, 3, H, W) of 0..255 to the net's input; by default each model's own
    ``.preprocessing``, else the paper's (RGB minus the released mean). ``max_pixels`` bounds the
    input of one forward pass, and so the memory (a larger image is scored in strips); the result
    does not depend on it. ``dtype``: autocast.

    Raises ValueError or TypeError for images that are no RGB of 0..255, an empty scale list, a Q
    below the crop size, nets over different classes, and posteriors that are not finite.
    """
    nets = network_list(models)
    choice("method", method, METHODS)
    choice("average", average, AVERAGES)
    whole("grid", grid, low=1)
    images = rgb_pixels(images)
    if max_pixels is None:
        max_pixels = 2**26 if next(nets[0].parameters()).is_cuda else 2**21
    whole("max_pixels", max_pixels, low=1)
    classes = count_classes(nets)
    methods = ("dense", "multi_crop") if method == "both" else (method,)
    flips = 2 if flip else 1
    with testing(nets):
        scorers = [_Scorer(net, preprocess, grid, average, max_pixels, dtype) for net in nets]
        scales = _check_scales(scales, max(max(s.twin.image_size) for s in scorers))
        total = torch.zeros(len(images), classes)
        for scale in scales:
            for indices, batch in _batches(images, scale, max_pixels // BATCHES // flips):
                for k, score in enumerate(scorers):
                    part = score(batch, methods, flip)
                    _check_finite(part, f"models[{k}]", indices, scale)
                    total[indices] += part
    return total / (len(scales) * len(scorers) * len(methods) * flips)


def _check_finite(posteriors: Tensor, name: str, indices: Sequence[int], scale: int) -> None:
    bad = (~posteriors.isfinite().all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f"{name} gives posteriors that are not finite for images[{indices[int(bad[0])]}] "
            f"at Q={scale}: expected a net whose weights and preprocessing are whole"
        )
