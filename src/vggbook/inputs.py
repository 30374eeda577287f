"""What a network and the functions around it take as images, and what is said of others.

Images are RGB: (3, H, W), batches (N, 3, H, W), or lists of (3, H, W) where sizes differ. Grey
levels are 0..255; a network takes floating numbers of its own dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from .checks import expected, needs
from .configs import Size

Images = Tensor | list[Tensor]


def _autocasts(device: str) -> bool:
    """Whether autocast is on for a kind of device; PyTorch 2.3 has a function for each."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # it takes no argument in PyTorch 2.3
        return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()


def check_images(images: Tensor, like: Tensor | None, size: Size, at_least: bool = False) -> None:
    """Raise unless ``images`` is a batch (N, 3, H, W) of ``like``'s dtype, or autocast is on.

    H, W are ``size``, or no smaller where ``at_least``. What torch.fx traces with is let through.
    """
    if isinstance(images, fx.Proxy):
        return
    if not isinstance(images, Tensor):
        what = "a tensor of shape (N, 3, H, W)"
        raise TypeError(expected("type(images)", type(images).__name__, what))
    shape = tuple(images.shape)
    batch = "four axes (N, 3, H, W), also for one image: images[None]"
    needs(len(shape) == 4, "images.shape", shape, batch)
    needs(shape[1] == 3, "images.shape", shape, "3 channels, RGB, in the second axis")
    other = like is not None and images.dtype != like.dtype
    if like is not None and other and not _autocasts(images.device.type):
        what = f"{like.dtype}, as the weights have: images.to({like.dtype})"
        raise TypeError(expected("images.dtype", images.dtype, what))
    h, w = size
    if at_least:
        enough = shape[2] >= h and shape[3] >= w
        needs(enough, "images.shape", shape, f"at least {h} x {w} pixels")
    else:
        hint = f"exactly {h} x {w} pixels; to_dense(model) takes larger ones"
        needs(shape[2:] == (h, w), "images.shape", shape, hint)


def as_pixels(images: Tensor | Sequence[Tensor], name: str = "images") -> Images:
    """Images as grey levels 0..255: integers of any kind become uint8, floating ones stay.

    Raises ValueError, naming the range seen, for integers outside 0..255 and for floating images
    that are plainly on another scale: 0..1, standardised, or with the mean already subtracted.
    Values up to 32 outside 0..255 pass, since resampling overshoots. TypeError for other kinds.
    """
    if not isinstance(images, Tensor):
        return [_as_pixels(image, f"{name}[{i}]") for i, image in enumerate(images)]
    return _as_pixels(images, name)


def _as_pixels(images: Tensor, name: str) -> Tensor:
    kind = images.dtype
    if kind == torch.uint8 or not images.numel():
        return images
    if kind == torch.bool or kind.is_complex:
        raise TypeError(f"{name} of {kind}: expected integers 0..255, or floating grey levels")
    low, high = (float(value) for value in images.aminmax())
    seen = f"{name} of {kind} from {low:g} to {high:g}"
    if not kind.is_floating_point:
        if low < 0 or high > 255:
            raise ValueError(f"{seen}: expected 0 to 255")
        return images.to(torch.uint8)
    if not (low >= -32 and high <= 255 + 32):  # also where they are not numbers
        raise ValueError(f"{seen}: expected RGB of 0 to 255 with no mean subtracted")
    if low < high <= 1:
        raise ValueError(f"{seen}: expected RGB of 0 to 255; multiply images of 0 to 1 by 255")
    if low < 0 and high <= 8:
        raise ValueError(f"{seen}: expected RGB of 0 to 255, not standardised")
    return images


def rgb_pixels(images: Tensor | Sequence[Tensor]) -> Images:
    """RGB images as :func:`as_pixels` has them; ValueError for tensors of another shape."""
    if isinstance(images, Tensor):
        shape = tuple(images.shape)
        right = images.ndim == 4 and images.shape[1] == 3 and 0 not in shape[2:]
        needs(right, "images.shape", shape, "(N, 3, H, W), RGB, also for one image: images[None]")
        return as_pixels(images)
    for i, image in enumerate(images):
        found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        right = isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] == 3
        what = "an RGB tensor (3, H, W) of 0..255 (load_image gives one)"
        needs(right and 0 not in image.shape, f"images[{i}]", found, what)
    return as_pixels(images)
