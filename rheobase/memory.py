"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the parameters of mallopt, in malloc.h
_ALL = 2**31 - 1
_LARGEST = 2**29  # a tensor of more comes from the system: kept ones of many sizes leave gaps that nothing else fits
_LARGEST_BEFORE = 2**25  # what older versions of glibc accept


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for its next tensors, instead of giving it back to the system.

    A simulation makes and frees the same large tensors in each chunk of steps. By default glibc gives a part of them
    back and asks for it anew, and the system clears each page; that takes time, and the resident memory grows. It is a
    setting of the whole process, so the library leaves it to you; the command line makes it. Tensors of more than
    512 MiB are given back all the same.

    Kept memory has gaps: glibc cuts an aligned tensor out of a larger block and keeps the slivers for small objects, so
    that the block is too short for the next tensor of that size. A process then holds more than a simulation needs,
    and more after many chunks than after few. Large tensors that begin with a page leave few gaps. PyTorch places them
    so, and asks for large pages, where ``THP_MEM_ALLOC_ENABLE=1`` is in the environment; this call puts it there
    unless the environment says otherwise. PyTorch reads it at its first large tensor, so call this before.

    Returns:
        Whether that could be set: on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mapped = mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_THRESHOLD, _LARGEST_BEFORE)
    trimmed = mallopt(_TRIM_THRESHOLD, _ALL)
    return bool(mapped and trimmed)
