"""A hash of texts and tensors, which tells whether two networks, data or settings are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

__all__ = ["digest", "layers", "structure", "weights"]


def weights(module: nn.Module) -> list[str | Tensor]:
    """The names and values of all parameters and buffers, for `digest`."""
    return [part for name, value in module.state_dict().items() for part in (name, value)]


def layers(module: nn.Module) -> dict[str, str]:
    """The class and the settings of each module inside, by its dotted path: what ``state_dict`` does not hold.

    >>> layers(nn.Sequential(nn.AvgPool2d(2)))["0"]
    'AvgPool2d(ceil_mode=False, count_include_pad=True, divisor_override=None, kernel_size=2, padding=0, stride=2)'
    """
    found = {}
    for path, layer in module.named_modules():
        plain = {k: v for k, v in vars(layer).items() if k[0] != "_" and k != "training" and _plain(v)}
        settings = ", ".join(f"{name}={plain[name]!r}" for name in sorted(plain))
        found[path] = f"{type(layer).__name__}({settings})"
    found.pop("")  # the whole
    return found


def structure(module: fx.GraphModule) -> list[str]:
    """What a graph does, one line for each of its nodes: the layer or function, its settings, and where it reads."""
    found = layers(module)
    numbers = {node: index for index, node in enumerate(module.graph.nodes)}
    lines = []
    for node in module.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        name = f"{name}: {found[name]}" if node.op == "call_module" else str(name)
        args = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: f"%{numbers[source]}")
        lines.append(f"{name} {args}")
    return lines


def _plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


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
