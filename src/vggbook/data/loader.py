"""Batches for the trainer: the paper's crops, repeatable from any point (Sect. 3.1, 3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..checks import choice, flag, needs, number, whole, whole_pair
from .crops import centre_crops, colour_shift, crops_at, resized_groups
from .files import UnreadableImage
from .keyed import hash_keys, uniforms
from .sets import ON_ERROR, fetch

Batch = tuple[Tensor, Tensor, Tensor]  # images, labels, indices
_COLOUR_STD = 0.1
_PLACE_COLUMNS = 4  # of a sample's numbers: scale, top, left, mirrored
_COLOUR_COLUMNS = 6  # two for each of three normal ones


class Loader:
    """Training or validation batches of a data set.

    batch_size: images a batch of the whole job; rank r of `world_size` gets its part of each, so
        the global batch at step k is the same for every world size.
    crop, scales: side of the crops, and smallest side S of the rescaled image, or (S_min, S_max).
    mean: RGB (3,), subtracted from the pixels *and nothing else*; gain: multiplies them afterwards
        (the paper's value is 1; another one is a deviation to be stated).
    colour: `pca_rgb(dataset)` for the colour shift, or None. flip: mirror half of the crops.
    augment: False gives centre crops without colour shift, for validation.
    shuffle: False gives the set's own order. drop_last: whether a short last batch is left out; it
        is where the order is shuffled, unless it is said.
    device: where the batches go. workers: processes that decode and crop.
    on_error: an unreadable image is an "error", or it is left out ("skip"); `skipped` then maps
        its index to the reason.

    Nothing random is stored: the order depends on (seed, epoch), a sample's scale, crop, flip and
    colour on (seed, epoch, index). So ``epoch(e, start=k)`` continues an interrupted epoch bit for
    bit, with any number of workers and processes. ValueError for arguments that do not fit.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 256,
        *,
        crop: int = 224,
        scales: int | tuple[int, int] = 256,
        mean: Any,
        colour: tuple[Tensor, Tensor] | None = None,
        flip: bool = True,
        shuffle: bool = True,
        augment: bool = True,
        drop_last: bool | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        on_error: str = "error",
        workers: int = 0,
        gain: float = 1.0,
    ):
        self.dataset = dataset
        self.world_size = whole("world_size", world_size, low=1)
        self.rank = whole("rank", rank, low=0, high=world_size - 1)
        self.shuffle = flag("shuffle", shuffle)
        self.drop_last = self.shuffle if drop_last is None else flag("drop_last", drop_last)
        self.batch_size = self._checked_batch(batch_size)
        self.crop = whole("crop", crop, low=1)
        self.flip = flag("flip", flip)
        self.augment = flag("augment", augment)
        self.scales = self._checked_scales(scales)
        self.mean = torch.as_tensor(mean, dtype=torch.float32).to(device)
        rgb = self.mean.shape == (3,)
        needs(rgb, "mean", mean, "the mean RGB, 3 values on 0..255")
        self.colour = colour
        self.gain = number("gain", gain)
        self.seed = whole("seed", seed)
        self.device = torch.device(device)
        self.on_error = choice("on_error", on_error, ON_ERROR)
        self.workers = whole("workers", workers, low=0)
        alone = self.workers == 0 or _device_of(dataset).type == "cpu"
        needs(alone, "workers", workers, "0, since a set on a GPU is read by this process")
        self.skipped: dict[int, str] = {}

    def _checked_batch(self, value: int) -> int:
        processes = self.world_size
        size = whole("batch_size", value, low=1)
        parts = f"a positive multiple of the {processes} processes"
        needs(size % processes == 0, "batch_size", value, parts)
        count = len(self.dataset)
        if count < (size if self.drop_last else 1):
            raise ValueError(f"batch_size={size}: the data set has only {count} images")
        return size

    def _checked_scales(self, value: int | tuple[int, int]) -> tuple[int, int]:
        low, high = whole_pair("scales", value, low=1)
        needs(low >= self.crop, "scales", value, f"a smallest side S of at least crop={self.crop}")
        one = self.augment or low == high
        needs(one, "scales", value, "one smallest side S where augment=False")
        return low, high

    def __len__(self) -> int:
        """Batches an epoch, the same on every rank."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The order of the whole set in this epoch, int64 (n,), by a hash: the same everywhere."""
        index = torch.arange(len(self.dataset))
        if not self.shuffle:
            return index
        return torch.argsort(hash_keys(self.seed, epoch, -1, index))  # no two hashes are equal

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's batches of an epoch, from global batch `start` on.

        Yields images float32 (n, 3, crop, crop) and labels int64 (n,) on the device, and indices
        (n,) on the CPU.
        """
        whole("start", start, low=0, high=len(self))
        batches = self.order(epoch).split(self.batch_size)[start : len(self)]
        parts = [batch.tensor_split(self.world_size)[self.rank].tolist() for batch in batches]
        fast = self.device.type == "cuda"
        for images, labels, indices, skipped in self._cropped(epoch, parts, fast):
            self.skipped.update(skipped)
            images = images.to(self.device, non_blocking=fast).float()
            if self.augment and self.colour is not None:
                alpha = _COLOUR_STD * self._normals(epoch, indices)
                images = colour_shift(images, self.colour, alpha=alpha)
            images -= self.mean[:, None, None]
            if self.gain != 1:
                images *= self.gain
            yield images, labels.to(self.device, non_blocking=fast), indices

    def _cropped(self, epoch: int, parts: list[list[int]], pin: bool) -> Iterable:
        """uint8 crops of each list of indices, made in this process or by workers."""
        source = _Crops(self, epoch)
        if not self.workers or not parts:
            return map(source.__getitem__, parts)
        return DataLoader(
            source, batch_size=None, sampler=parts, num_workers=self.workers, pin_memory=pin
        )

    def numbers(self, epoch: int, indices: Tensor, count: int) -> Tensor:
        """The uniform numbers (n, count) of samples in an epoch."""
        return uniforms(hash_keys(self.seed, epoch, 0, indices), count)

    def _normals(self, epoch: int, indices: Tensor) -> Tensor:
        """Normally distributed (n, 3), by Box and Muller."""
        u = self.numbers(epoch, indices, _PLACE_COLUMNS + _COLOUR_COLUMNS)[:, _PLACE_COLUMNS:]
        return torch.sqrt(-2 * torch.log(1 - u[:, :3])) * torch.cos(2 * math.pi * u[:, 3:])


class _Crops(torch.utils.data.Dataset):
    """A list of indices -> (uint8 crops (n, 3, crop, crop), labels, indices, skipped)."""

    def __init__(self, loader: Loader, epoch: int):
        self.loader = loader
        self.epoch = epoch

    def __getitem__(self, wanted: list[int]) -> tuple[Tensor, Tensor, Tensor, dict[int, str]]:
        of = self.loader
        if not wanted:
            none = torch.empty(0, dtype=torch.int64)
            return torch.empty(0, 3, of.crop, of.crop, dtype=torch.uint8), none, none, {}
        images, labels, kept, skipped = fetch(of.dataset, wanted, on_error=of.on_error)
        if not kept:
            reason = next(iter(skipped.values()))
            raise UnreadableImage(f"no readable image in a batch of {len(skipped)}: {reason}")
        indices = torch.as_tensor(kept)
        u = of.numbers(self.epoch, indices, _PLACE_COLUMNS)
        low, high = of.scales
        sides = (low + (u[:, 0] * (high - low + 1)).long()).tolist()
        order: list[int] = []
        parts = []
        for members, resized in resized_groups(images, sides):
            order += members
            if of.augment:
                parts.append(crops_at(resized, of.crop, u[members, 1:], of.flip))
            else:
                parts.append(centre_crops(resized, of.crop))
        crops = torch.cat(parts)
        back = torch.tensor(order).argsort()
        return crops.index_select(0, back.to(crops.device)), labels, indices, skipped


def _device_of(dataset: Any) -> torch.device:
    """Where a set's images lie."""
    labels = getattr(dataset, "labels", None)
    return torch.device(getattr(dataset, "device", getattr(labels, "device", "cpu")))
