"""Pictures that several test files use: noise, and noise as a JPEG file."""

import io

import torch
from PIL import Image


def noise(*shape, seed=0):
    """uint8 of this shape, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def jpeg(size=(40, 30), seed=0):
    """The bytes of a JPEG file of width x height pixels."""
    buffer = io.BytesIO()
    Image.fromarray(noise(size[1], size[0], 3, seed=seed).numpy()).save(buffer, "JPEG")
    return buffer.getvalue()
