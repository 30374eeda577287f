"""Numbers by key: a value is a function of its keys, never of what was drawn before it.

So an epoch can go on in its middle, and a picture can be drawn alone, with the same result bit for
bit on every device and with any number of workers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF  # 32 bits, kept in int64


def mix(x: Tensor) -> Tensor:
    """A bijection of the 32-bit integers that scrambles them, int64 -> int64; nothing overflows."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _MASK
    return x ^ (x >> 16)


def hash_keys(*keys: int | Tensor) -> Tensor:
    """Fold integers and int64 tensors, which are broadcast, into one 32-bit hash (int64).

    With the earlier keys fixed it is a bijection of the last one where that is a tensor.
    """
    h = torch.zeros((), dtype=torch.int64)
    for key in keys:
        if isinstance(key, Tensor):
            parts = [key]
        else:
            parts = [torch.tensor(key >> 32 & _MASK), torch.tensor(key & _MASK)]
        for part in parts:
            h = mix(((h.to(part.device) ^ part) + 0x9E3779B9) & _MASK)
    return h


def uniforms(key: Tensor, count: int) -> Tensor:
    """Hashes (N,) -> float32 (N, count) in [0, 1), the same on every device.

    Column k does not depend on ``count``.
    """
    stream = mix(torch.arange(1, count + 1, device=key.device) * 0x3C6EF372 & _MASK)
    return (mix((key[:, None] + stream) & _MASK) >> 8).float() * 2**-24
