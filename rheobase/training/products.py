"""3x3 convolutions of small maps as matrix products, which on CPUs are faster to train.

oneDNN's convolutions are far from the speed of a matrix product on 512 channels of 4x4 or 2x2 pixels, of which VGG16
has many. The products give the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ProductConvolution", "small_convolutions_as_products"]

LARGEST_MAP = 16
"""Pixels of the largest map for which the product is faster (measured with 512 channels, batch 128)."""


class ProductConvolution(torch.autograd.Function):
    """y = columns(x) W with the 3x3 neighbourhoods of x as rows; padding 1, stride 1, no bias.

    dL/dW = columns(x)^T dL/dy; dL/dx is the convolution of dL/dy with the mirrored, transposed kernel.

    Shape:
        x (N, C, H, W), weight (O, C, 3, 3) -> (N, O, H, W).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        columns = _columns(x)
        ctx.save_for_backward(columns, weight)
        ctx.shape = x.shape
        return _rows_to_images(columns @ _matrix(weight).t(), x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        columns, weight = ctx.saved_tensors
        outputs, inputs = weight.shape[:2]
        gradient = gradients[0]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)  # (N, O, H, W) -> (N*H*W, O)
        to_weight = (rows.t() @ columns).view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)
        mirrored = weight.permute(2, 3, 0, 1).flip(0, 1).reshape(-1, inputs)  # (9*O, C)
        return _rows_to_images(_columns(gradient) @ mirrored, ctx.shape), to_weight


@contextmanager
def small_convolutions_as_products(model: nn.Module) -> Iterator[None]:
    """Inside, the 3x3 convolutions of `model` are products where maps are small; afterwards as before."""
    chosen = [module for module in model.modules() if isinstance(module, nn.Conv2d) and _fits(module)]
    for module in chosen:
        module.forward = partial(_forward, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in chosen:
            del module.forward


def _fits(module: nn.Conv2d) -> bool:
    simple = module.stride == (1, 1) and module.padding == (1, 1) and module.dilation == (1, 1)
    plain = module.groups == 1 and module.bias is None and module.padding_mode == "zeros"
    return simple and plain and module.kernel_size == (3, 3) and module.in_channels >= 128


def _forward(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.shape[2] * x.shape[3] > LARGEST_MAP or x.is_cuda:
        return F.conv2d(x, module.weight, padding=1)
    weight = module.weight
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(kind), weight.to(kind)
    result: Tensor = ProductConvolution.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


def _columns(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N*H*W, 9*C): the neighbourhood of each pixel, channels last."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1)  # (N, H, W, C, 3, 3), no copy
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, 9 * x.shape[1])


def _matrix(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (O, 9*C), no copy of a weight in channels-last memory."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def _rows_to_images(rows: Tensor, shape: torch.Size) -> Tensor:
    """(N*H*W, O) -> (N, O, H, W), in channels-last memory."""
    return rows.view(shape[0], shape[2], shape[3], -1).permute(0, 3, 1, 2)
