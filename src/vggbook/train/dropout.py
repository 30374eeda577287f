"""Dropout (Sect. 3.1) whose masks belong to images, not to a stream of random numbers."""

from __future__ import annotations

from torch import Tensor, nn

from ..data import hash_keys, uniforms

Key = tuple[int, int, int, Tensor]


class KeyedDropout(nn.Dropout):
    """Dropout whose mask for an image depends on (seed, epoch, layer, index of the image) alone:
    ``key`` holds them. Without a key it is ordinary dropout."""

    key: Key | None = None

    def forward(self, x: Tensor) -> Tensor:  # (N, features)
        if not self.training or self.key is None:
            return super().forward(x)
        seed, epoch, layer, indices = self.key
        keys = hash_keys(seed, epoch, layer, indices.to(x.device))  # (N,)
        u = uniforms(keys, x.flatten(1).shape[1])  # (N, features)
        return x * (u >= self.p).to(x.dtype).div_(1 - self.p).view_as(x)

    @classmethod
    def install(cls, net: nn.Module) -> list[KeyedDropout]:
        """Replace every ``nn.Dropout`` of a net; weights and their names stay as they are."""
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Dropout:
                    setattr(parent, name, cls(child.p).train(child.training))
        return [module for module in net.modules() if isinstance(module, cls)]
