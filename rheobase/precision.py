"""In what type a network computes, how exactly numbers are added up, and how exactly a GPU multiplies float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["first_weight", "float32_products", "type_of_sums"]

T = TypeVar("T")


def type_of_sums(dtype: torch.dtype) -> torch.dtype:
    """In what numbers of this type are added up over the steps: float32 for those of half precision, else their own.

    In bfloat16 a sum of ones stays at 256, where the next number is 258.
    """
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@contextmanager
def float32_products(device: torch.device, rounded: bool) -> Iterator[None]:
    """Within this context, layers on a CUDA device multiply in float32, or with factors rounded to TF32.

    TF32 has 11 significant bits, and its sums are float32's: a product is within 2^-10 of the exact one, on the tensor
    cores, which make several times as many of them. PyTorch's own default is TF32 for convolutions and float32
    for matrix products; it is put back at the end. Elsewhere than on CUDA nothing is changed.

    Args:
        device: of the layers.
        rounded: whether TF32 is allowed.
    """
    if device.type != "cuda":
        yield
        return
    settings = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "tf32" if rounded else "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def first_weight(network: nn.Module, otherwise: T) -> Tensor | T:
    """The parameter that says on which device and in which type a network computes: its first of floating point."""
    return next((p for p in network.parameters() if p.is_floating_point()), otherwise)
