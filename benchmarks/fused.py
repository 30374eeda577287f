"""A candidate for GPUs: convolution, bias and ReLU in one cuDNN kernel, with the ReLU's output as
the only thing kept of it.

Eager PyTorch adds the bias and applies the ReLU in passes of their own. Here the forward pass is
``torch.cudnn_convolution_relu``; the backward pass masks the gradient where the output is zero and
hands it to the ordinary gradient convolutions. On a CPU the forward pass is the ordinary one, so
that the gradient can be tested anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDE = _DILATION = (1, 1)


def _mask(gradient: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient before the ReLU, and its sum over images and positions: the bias's gradient."""
    masked = torch.where(output > 0, gradient, 0)  # (N, C, H, W)
    return masked, masked.sum((0, 2, 3), dtype=torch.float32)  # (C,)


class ConvReLU(torch.autograd.Function):
    """relu(conv2d(x, weight, bias)), stride 1. ``mask`` is :func:`_mask` or a compiled version of
    it.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int], mask
    ) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        x, kernel, shift = x.to(dtype), weight.to(dtype), bias.to(dtype)
        with torch.autocast(kind, enabled=False):
            if x.is_cuda:
                y = torch.cudnn_convolution_relu(x, kernel, shift, _STRIDE, padding, _DILATION, 1)
            else:
                y = F.conv2d(x, kernel, shift, _STRIDE, padding).relu_()
        ctx.save_for_backward(x, kernel, y)
        ctx.padding, ctx.mask, ctx.dtypes = padding, mask, (weight.dtype, bias.dtype)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, kernel, y = ctx.saved_tensors
        masked, bias = ctx.mask(gradient, y)
        needs = (ctx.needs_input_grad[0], True, False)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            masked, x, kernel, None, _STRIDE, ctx.padding, _DILATION, False, (0, 0), 1, needs
        )
        return dx, dw.to(ctx.dtypes[0]), bias.to(ctx.dtypes[1]), None, None


class FusedConv(nn.Module):
    """A convolution and the ReLU after it, sharing the convolution's parameters; ``channels``: pad
    fewer input channels to so many.
    """

    def __init__(self, conv: nn.Conv2d, mask=_mask, channels: int = 0):
        super().__init__()
        self.conv, self.mask, self.missing = conv, mask, max(0, channels - conv.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        if self.missing:  # tensor cores take channels in eights: zeros for images and weights
            x = F.pad(x, (0, 0, 0, 0, 0, self.missing)).contiguous(
                memory_format=torch.channels_last
            )  # (N, 8, H, W)
            weight = F.pad(weight, (0, 0, 0, 0, 0, self.missing))  # (C, 8, 3, 3)
        return ConvReLU.apply(x, weight, self.conv.bias, self.conv.padding, self.mask)


def fuse(model: nn.Module, mask=_mask, channels: int = 0) -> nn.Module:
    """The model with each convolution and its ReLU in ``features`` replaced by one
    :class:`FusedConv`; the weights stay where they are.
    """
    modules, fused = list(model.features), []
    while modules:
        module = modules.pop(0)
        if isinstance(module, nn.Conv2d) and modules and isinstance(modules[0], nn.ReLU):
            modules.pop(0)
            module = FusedConv(module, mask, channels)
        fused.append(module)
    model.features = nn.Sequential(*fused)
    return model
