"""From a stored image to a training crop: rescale, crop, mirror, shift the colour (Sect. 3.1).

Images are RGB on 0..255: (3, H, W), batches (N, 3, H, W), or lists of (3, H, W) where sizes differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import needs
from ..inputs import Images


@overload
def isotropic_resize(images: Tensor, S: int) -> Tensor: ...
@overload
def isotropic_resize(
    images: Tensor | Sequence[Tensor], S: int | Sequence[int] | Tensor
) -> Images: ...
def isotropic_resize(images: Tensor | Sequence[Tensor], S: int | Sequence[int] | Tensor) -> Images:
    """Rescale to smallest side S, keeping the aspect (Sect. 3.1), as torchvision's `Resize(S)`.

    Bilinear with anti-aliasing. images: (3, H, W), (N, 3, H, W) or a list of (3, H, W), uint8 or
    float. S: pixels, or one a image (N values). Returns the same kind; a list where S is given per
    image. The longer side is rounded down. uint8 on a CPU is resampled in fixed point, elsewhere in
    float32 and rounded: they agree to one grey level.
    """
    if isinstance(S, int) and isinstance(images, Tensor):
        return _resize(images[None], S)[0] if images.dim() == 3 else _resize(images, S)
    sides = [S] * len(images) if isinstance(S, int) else [int(s) for s in S]
    if len(sides) != len(images):
        raise ValueError(
            f"S has {len(sides)} values: expected one for each of the {len(images)} images"
        )
    out: list = [None] * len(images)
    for members, resized in resized_groups(images, sides):
        for i, image in zip(members, resized):
            out[i] = image
    return out


def resized_groups(
    images: Tensor | Sequence[Tensor], sides: Sequence[int]
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (positions, (n, 3, h, w)) for images that share shape and S: one call for many."""
    groups: dict[tuple, list[int]] = {}
    for i, side in enumerate(sides):
        groups.setdefault((images[i].shape, side), []).append(i)
    for (_, side), members in groups.items():
        whole = isinstance(images, Tensor) and len(members) == len(images)
        found = images if whole else take(images, members)
        batch = found if isinstance(found, Tensor) else torch.stack(list(found))
        yield members, _resize(batch, side)


def take(images: Tensor | Sequence[Tensor], indices: Sequence[int]) -> Images:
    """The images at these positions, of a tensor or a sequence."""
    if isinstance(images, Tensor):
        return images.index_select(0, torch.as_tensor(indices, device=images.device))
    return [images[i] for i in indices]


def _resize(x: Tensor, side: int) -> Tensor:
    height, width = x.shape[-2:]
    needs(side >= 1, "S", side, "a smallest side of at least 1 pixel")
    smallest = min(height, width)
    size = (int(side * height / smallest), int(side * width / smallest))
    if size == (height, width):
        return x
    # on a CPU, PyTorch's fixed point cannot make a single pixel of an image
    if x.dtype == torch.uint8 and (x.device.type != "cpu" or size == (1, 1)):
        return _resize(x.float(), side).round_().to(torch.uint8)  # means stay within 0..255
    return F.interpolate(x, size, mode="bilinear", antialias=True)


def random_crop_flip(
    batch: Images, crop: int, generator: torch.Generator | None = None, flip: bool = True
) -> Tensor:
    """A random crop an image, mirrored with probability 1/2 (Sect. 3.1): (N, 3, crop, crop).

    ValueError where an image is smaller than the crop. `generator` may live on any device; without
    it torch's global one is used.
    """
    device = None if generator is None else generator.device
    u = torch.rand(len(batch), 3, generator=generator, device=device)
    if isinstance(batch, Tensor):
        return crops_at(batch, crop, u, flip)
    return torch.cat(
        [crops_at(image[None], crop, part[None], flip) for image, part in zip(batch, u)]
    )


def centre_crops(x: Tensor, crop: int) -> Tensor:
    """The middle (N, 3, crop, crop) of (N, 3, H, W)."""
    height, width = _checked_size(x, crop)
    top, left = (height - crop) // 2, (width - crop) // 2
    return x[:, :, top : top + crop, left : left + crop]


def crops_at(x: Tensor, crop: int, u: Tensor, flip: bool) -> Tensor:
    """Crops of (N, 3, H, W) where u (N, 3) of 0..1 says: top, left, mirrored below 1/2."""
    height, width = _checked_size(x, crop)
    u = u.cpu()
    top, left = (u[:, :2] * torch.tensor([height - crop + 1, width - crop + 1])).long().unbind(1)
    mirrored = (u[:, 2] < 0.5) & flip
    if x.device.type == "cpu":
        return cropped(x, crop, top, left, mirrored)
    return _gathered(x, crop, top, left, mirrored)


def _checked_size(x: Tensor, crop: int) -> tuple[int, int]:
    height, width = x.shape[-2:]
    fits = 1 <= crop <= min(height, width)
    reach = f"1 to {min(height, width)} for images of {height} x {width} pixels"
    needs(fits, "crop", crop, reach)
    return height, width


def cropped(x: Tensor, crop: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Plain copies, which beat a gather on a CPU."""
    crops = []
    for image, t, k, mirror in zip(x, top.tolist(), left.tolist(), mirrored.tolist()):
        window = image[:, t : t + crop, k : k + crop]
        crops.append(window.flip(-1) if mirror else window)
    return torch.stack(crops)


def _gathered(x: Tensor, crop: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """One kernel for all images."""
    step = torch.arange(crop)
    across = torch.where(mirrored[:, None], crop - 1 - step, step)
    rows = (top[:, None] + step).to(x.device)  # (N, crop)
    columns = (left[:, None] + across).to(x.device)  # (N, crop)
    image = torch.arange(len(x)).to(x.device)
    pixels = x[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, crop, crop, 3)
    return pixels.movedim(3, 1)


def colour_shift(
    batch: Tensor,
    eigen: tuple[Tensor, Tensor],
    generator: torch.Generator | None = None,
    std: float = 0.1,
    alpha: Tensor | None = None,
) -> Tensor:
    """Add one random colour to each image (Krizhevsky et al., 2012, Sect. 4.1, after Sect. 3.1).

    batch: float32 (N, 3, H, W), 0..255; the result is not clipped. The shift is the sum over the
    principal components i of vectors[:, i] * alpha_i * sqrt(values[i]), alpha_i from N(0, std).
    Units: `eigen` = (values, vectors) is that of RGB on 0..255, so values are variances in squared
    grey levels and their roots grey levels. The AlexNet text multiplies by the eigenvalue itself:
    on 0..255 that would be shifts of hundreds of grey levels. The constants in common use (0.2175,
    0.0188, 0.0045) are eigenvalues of pixels on 0..1. alpha: (N, 3), in place of random ones.
    """
    values, vectors = (torch.as_tensor(t, dtype=torch.float32) for t in eigen)
    if alpha is None:
        device = None if generator is None else generator.device
        alpha = std * torch.randn(len(batch), 3, generator=generator, device=device)
    shift = (alpha.to(values.device) * values.sqrt()) @ vectors.T  # (N, 3)
    return batch + shift.to(batch.device)[:, :, None, None]
