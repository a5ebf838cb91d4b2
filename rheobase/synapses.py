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
        Whole numbers, float32. Shape ``shape``.

    >>> fan_out(nn.Conv2d(1, 8, 3, padding=1), (1, 3, 3))[0].tolist()
    [[32.0, 48.0, 32.0], [48.0, 72.0, 48.0], [32.0, 48.0, 32.0]]
    """
    with torch.inference_mode(False), torch.enable_grad():
        ones = copy.deepcopy(layer).requires_grad_(False).float()
        ones.weight.fill_(1.0)  # type: ignore[operator]
        x = torch.zeros(1, *shape, device=ones.weight.device, requires_grad=True)  # type: ignore[arg-type]
        (counts,) = torch.autograd.grad(ones(x).sum(), x)
    return counts[0]
