"""A hash of texts and tensors, which tells whether two networks, data or settings are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["digest", "weights"]


def weights(module: nn.Module) -> list[str | Tensor]:
    """The names and values of all parameters and buffers, for `digest`."""
    return [part for name, value in module.state_dict().items() for part in (name, value)]


def digest(parts: Sequence[str | Tensor | None]) -> str:
    """A hash of texts and tensors: their types, shapes and bits."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode())
            bits = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(bits.numpy())  # type: ignore[arg-type]
        else:
            found.update(repr(part).encode())
    return found.hexdigest()
