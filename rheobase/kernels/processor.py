"""What the processor can do, as PyTorch finds it out, which also decides by it what oneDNN does."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["multiplies_bfloat16", "supports"]


@cache
def supports(*names: str) -> bool:
    """Whether it has one of the extensions: avx2, avx512, avx512_bf16, vnni, amx_tile."""
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in names)


def multiplies_bfloat16() -> bool:
    """Whether it multiplies bfloat16 by itself; for others PyTorch takes numbers apart, much slower than float32."""
    return supports("amx_tile", "avx512_bf16")
