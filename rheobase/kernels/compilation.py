"""Compiling a kernel of Numba to a C function, through Numba's cache."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba import cfunc, types

__all__ = ["compile_kernel"]


@cache
def _version(folder: Path) -> str:
    """A digest of all loops. Numba looks at the file of a kernel alone, and not at the helpers compiled into it."""
    files = sorted(folder.glob("*loops.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def compile_kernel(kernel: Any) -> Any:
    """The C function ``void kernel(int64 *task)`` of a Python function, from Numba's cache where it is there."""
    signature = types.void(types.CPointer(types.int64))
    version = f"-{_version(Path(kernel.__code__.co_filename).parent)}"
    kernel.__qualname__ = kernel.__qualname__.removesuffix(version) + version  # two threads may come here at once
    try:
        return cfunc(signature, cache=True, error_model="numpy")(kernel)
    except Exception:  # noqa: BLE001 (no folder for the cache, or a damaged one: compile all the same)
        return cfunc(signature, error_model="numpy")(kernel)
