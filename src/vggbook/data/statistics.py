"""The mean colour of a set and its principal components, streamed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .sets import fetch_blocks


class Eigen(NamedTuple):
    """Principal components of RGB pixel values on 0..255."""

    values: Tensor  # (3,) variances in squared grey levels, descending
    vectors: Tensor  # (3, 3), in columns


def mean_rgb(
    dataset: Any,
    batch_size: int = 256,
    *,
    on_error: str = "error",
    skipped: dict[int, str] | None = None,
) -> Tensor:
    """The mean RGB over all pixels of a set, float32 (3,), 0..255 (Sect. 2.1).

    Summed in float64. on_error="skip" leaves unreadable images out and adds index -> reason to
    `skipped`. ValueError where there is no image.
    """
    return _moments(dataset, batch_size, on_error, skipped)[0].float()


def pca_rgb(
    dataset: Any,
    batch_size: int = 256,
    *,
    on_error: str = "error",
    skipped: dict[int, str] | None = None,
) -> Eigen:
    """Principal components of all RGB pixels, for `colour_shift`; options as of `mean_rgb`."""
    covariance = _moments(dataset, batch_size, on_error, skipped)[1]
    values, vectors = torch.linalg.eigh(covariance)
    brighter = torch.where(vectors.sum(0) < 0, -vectors, vectors)  # the sign is arbitrary
    return Eigen(values.flip(0).clamp(min=0).float(), brighter.flip(1).float())


def _moments(
    dataset: Any, block: int, on_error: str, skipped: dict[int, str] | None
) -> tuple[Tensor, Tensor]:
    """Mean (3,) and covariance (3, 3) over all pixels, float64."""
    count = 0
    total = torch.zeros(3, dtype=torch.float64)
    outer = torch.zeros(3, 3, dtype=torch.float64)
    for found in fetch_blocks(dataset, block, on_error=on_error, skipped=skipped):
        for images in [found.images] if isinstance(found.images, Tensor) else found.images:
            pixels = images.movedim(-3, 0).reshape(3, -1).double()
            count += pixels.shape[1]
            total += pixels.sum(1).cpu()
            outer += (pixels @ pixels.T).cpu()
    if not count:
        what = "none of them readable" if len(dataset) else "the data set is empty"
        raise ValueError(f"{len(dataset)} images, {what}: expected at least one")
    mean = total / count
    return mean, outer / count - mean[:, None] * mean
