"""Image files of any kind as 8-bit RGB, or a word on why not."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

# Pillow converts premultiplied alpha to the plain kind of the same channels, to no other.
PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


class UnreadableImage(OSError):
    """An image that is damaged, or of a kind without a sensible conversion to 8-bit RGB.

    The message names the file.
    """


def load_image(path: str | os.PathLike) -> Tensor:
    """Read an image file as uint8 (3, H, W), RGB 0..255.

    Greyscale is repeated three times; 16-bit greyscale is divided by 257; transparent pixels are
    laid over white; palette and CMYK are converted; the camera's orientation tag is applied.
    Floating-point and wider integer files have no known range: `UnreadableImage`, as for damaged
    and truncated files. A file that is not there or may not be read raises its usual OSError.
    """
    return decode(os.fspath(path), os.fspath(path))


def decode(file: str | BytesIO, name: str) -> Tensor:
    """An image file, or its bytes, as :func:`load_image` reads it; messages call it ``name``."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            image.load()
            return rgb_tensor(ImageOps.exif_transpose(image))
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged files
        raise UnreadableImage(f"{name}: {str(error) or type(error).__name__}") from error


def rgb_tensor(image: Any) -> Tensor:
    """A PIL image of any mode -> uint8 (3, H, W); `UnreadableImage` where its range is unknown."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImage(
            "floating-point pixels have no known range: convert the file to 8 bits first"
        )
    if image.mode.startswith("I"):  # 16 bits, which older Pillows open as 32
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            reach = f"integers from {grey.min()} to {grey.max()}"
            raise UnreadableImage(f"{reach}: expected 8 or 16 bits a channel")
        image = Image.fromarray(np.round(grey / 257).astype(np.uint8))
    elif image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        if image.mode in PREMULTIPLIED:
            image = image.convert(PREMULTIPLIED[image.mode])
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
