"""How many connections leave each input of a weighted layer: what a spike costs its receivers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["fan_out"]


def fan_out(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The number of multiply-accumulates that one non-zero input of a layer causes.

    At the border of an image that is less than inside. A bias counts nothing.

    Args:
        layer: a convolution, transposed convolution or linear layer; it is left as it is.
        shape: of one sample at its input, without N.

    Returns:
        Whole numbers, int64. Shape ``shape``.

    >>> fan_out(nn.Conv2d(1, 8, 3, padding=1), (1, 3, 3))[0].tolist()
    [[32, 48, 32], [48, 72, 48], [32, 48, 32]]
    """
    ones = copy.copy(layer)  # whose forward pass alone is called, without the hooks of the layer
    with torch.inference_mode(False), torch.enable_grad():
        weight = torch.ones_like(layer.weight, dtype=torch.float64)  # type: ignore[arg-type]
        ones._parameters = {**layer._parameters, "weight": nn.Parameter(weight), "bias": None}
        x = torch.zeros(1, *shape, dtype=torch.float64, device=weight.device, requires_grad=True)
        (counts,) = torch.autograd.grad(ones.forward(x).sum(), x)
    return counts[0].to(torch.int64)
