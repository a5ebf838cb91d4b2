"""Compiled kernels follow the code of the helpers that are compiled into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KERNEL = """
import ctypes
from helper_loops import half
from rheobase.kernels.compilation import compile_kernel

def kernel(task):
    task[0] = half(task[0])

number = (ctypes.c_int64 * 1)(12)
kernel = compile_kernel(kernel)
kernel.ctypes(ctypes.cast(number, ctypes.POINTER(ctypes.c_int64)))
print(number[0], kernel.cache_hits)
"""
HELPER = """
from numba import njit

@njit
def half(x):
    return x // {}
"""


def run(folder: Path) -> tuple[int, int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, str(folder / "kernel_loops.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    number, hits = done.stdout.split()
    return int(number), int(hits)


def test_a_helper_that_changed_is_compiled_anew_and_one_that_did_not_comes_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "kernel_loops.py").write_text(KERNEL)
    (tmp_path / "helper_loops.py").write_text(HELPER.format(2))
    assert run(tmp_path) == (6, 0)
    assert run(tmp_path) == (6, 1)
    (tmp_path / "helper_loops.py").write_text(HELPER.format(3))
    assert run(tmp_path) == (4, 0)
