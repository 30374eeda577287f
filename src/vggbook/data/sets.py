"""What a data set is here, and those that hold images: in memory, or as files.

A data set has `len(ds)`, `ds[i] -> (image uint8 (3, H, W), label int)` and `ds.classes` (names). If
it also has `ds.batch(indices, size=None) -> (images, labels)` (uint8 (N, 3, H, W), or a list of
(3, H, W) where shapes differ; labels int64 (N,)) it is fed a batch at a time. torchvision's sets
that give PIL images are accepted too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import choice, needs
from ..inputs import Images
from .crops import isotropic_resize, take
from .files import UnreadableImage, load_image, rgb_tensor

ON_ERROR = ("error", "skip")


class ArrayDataset:
    """Images held in memory: uint8 (N, 3, H, W) or a list of (3, H, W), on any device.

    labels: N integers. classes: their names.
    """

    def __init__(self, images: Images, labels: Any, classes: Iterable[str]):
        labels = torch.as_tensor(labels, dtype=torch.int64)
        if len(images) != len(labels) or not len(images):
            counts = f"{len(images)} images, {len(labels)} labels"
            raise ValueError(f"{counts}: expected as many of both, and at least one")
        for image in [images] if isinstance(images, Tensor) else images:
            if image.dtype != torch.uint8 or image.shape[-3] != 3:
                kind = f"images of {image.dtype}, shape {tuple(image.shape)}"
                raise ValueError(f"{kind}: expected uint8 (3, H, W)")
        self.images = images
        self.labels = labels.to(images[0].device)
        self.classes = tuple(classes)
        _check_labels(self.labels, range(len(labels)), len(self.classes))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: Iterable[int], size: int | None = None) -> tuple[Images, Tensor]:
        """Images and labels at N indices, rescaled to smallest side `size` where it is given."""
        index = [int(i) for i in indices]
        images = take(self.images, index)
        labels = self.labels[index]
        return images if size is None else isotropic_resize(images, size), labels


class FolderDataset:
    """Image files on disk, decoded when asked for: `paths` and `labels` (N) and class names."""

    def __init__(self, samples: Sequence[tuple[str, int]], classes: Iterable[str]):
        self.paths = [str(path) for path, _ in samples]
        self.labels = [label for _, label in samples]
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return load_image(self.paths[index]), self.labels[index]


class Fetched(NamedTuple):
    """What `fetch` found: images, labels int64 (n,), their indices; index -> reason of others."""

    images: Images
    labels: Tensor
    indices: list[int]
    skipped: dict[int, str]


def fetch(
    dataset: Any,
    indices: Sequence[int],
    *,
    on_error: str = "error",
    size: int | None = None,
    classes: int | None = None,
) -> Fetched:
    """Images and checked labels of any data set, rescaled to smallest side `size` where given.

    classes: how many there are, for a set that has no `.classes`.

    on_error: an unreadable image is an "error" (`UnreadableImage`), or it is left out ("skip"; none
    may be left then). ValueError where there is no label, or none of the set's classes.
    """
    choice("on_error", on_error, ON_ERROR)
    skipped: dict[int, str] = {}
    if hasattr(dataset, "batch"):
        images, labels = dataset.batch(indices, size)
        kept = list(indices)
    else:
        images, found, kept = [], [], []
        for i in indices:
            try:
                image, label = _pair_of(dataset, i)
            except (OSError, SyntaxError) as error:
                if on_error == "error":
                    raise UnreadableImage(f"image {i}: {error}") from error
                skipped[i] = str(error)
                continue
            images.append(image)
            found.append(label)
            kept.append(i)
        labels = torch.tensor(found, dtype=torch.int64)
        images = images if size is None else isotropic_resize(images, size)
    _check_labels(labels, kept, classes or len(dataset.classes))
    return Fetched(images, labels, kept, skipped)


def fetch_blocks(
    dataset: Any,
    block: int,
    *,
    on_error: str = "error",
    skipped: dict[int, str] | None = None,
    size: int | None = None,
) -> Iterator[Fetched]:
    """The whole set in order, `block` images at a time; what is skipped is added to `skipped`."""
    for start in range(0, len(dataset), block):
        indices = range(start, min(start + block, len(dataset)))
        found = fetch(dataset, list(indices), on_error=on_error, size=size)
        if skipped is not None:
            skipped.update(found.skipped)
        if len(found.labels):
            yield found


def _pair_of(dataset: Any, index: int) -> tuple[Tensor, int]:
    item = dataset[index]
    right = isinstance(item, tuple | list) and len(item) == 2 and item[1] is not None
    what = "(image, label); only predict() works without labels"
    needs(right, f"dataset[{index}]", type(item).__name__, what)
    image, label = item
    return image if isinstance(image, Tensor) else rgb_tensor(image), int(label)


def _check_labels(labels: Tensor, indices: Sequence[int], count: int) -> None:
    wrong = ((labels < 0) | (labels >= count)).nonzero()
    if len(wrong):
        i = int(wrong[0])
        reach = f"expected 0 to {count - 1}"
        raise ValueError(f"label {int(labels[i])} of image {indices[i]}: {reach}")


def in_memory(
    dataset: Any,
    size: int | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    *,
    on_error: str = "error",
    skipped: dict[int, str] | None = None,
) -> ArrayDataset:
    """Render, decode or copy a whole set once, to crop from memory afterwards.

    size: rescale isotropically to this smallest side. on_error="skip" leaves unreadable images out,
    so that later ones move up, and adds index -> reason to `skipped`.
    """
    images: list[Tensor] = []
    labels = []
    for found in fetch_blocks(dataset, batch_size, on_error=on_error, skipped=skipped, size=size):
        if isinstance(found.images, Tensor):
            images.append(found.images.to(device))
        else:
            images += [image[None].to(device) for image in found.images]
        labels.append(found.labels.cpu())
    if not labels:
        raise ValueError(f"{len(dataset)} images, none of them readable: expected at least one")
    if len({x.shape[1:] for x in images}) == 1:
        return ArrayDataset(torch.cat(images), torch.cat(labels), dataset.classes)
    single = [image for x in images for image in x]
    return ArrayDataset(single, torch.cat(labels), dataset.classes)
