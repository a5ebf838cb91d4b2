"""The kernels for graphics processors: what they compile to, and (in `triton_scans.py`) what they compute."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rheobase.kernels import gpu

triton = pytest.importorskip("triton", reason="Triton is not installed; it is in rheobase[dev], for Linux")

NUMBERS = ("alpha", "ka", "inverse_ki", "inverse_c", "v_t", "dtt_gain", "det_gain", "least", "lowest")
INTEGERS = (
    "neurons", "steps", "stride", "inner", "count", "channels", "levels", "first_levels", "done", "each", "samples",
)  # fmt: skip
SWITCHES = {
    "HARD", "USE_DTT", "USE_DET", "INSTANT", "RAW", "LINEAR", "PAYLOAD", "POWERS", "SIGNED", "MEMORY", "SCHEDULE",
    "COUNT",
}  # fmt: skip

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("interpret", ["1", pytest.param("0", marks=needs_cuda)], ids=["interpreter", "cuda"])
def test_the_kernels_equal_their_references(interpret: str) -> None:
    """In a process of its own: the interpreter must be chosen before Triton is imported."""
    file = Path(__file__).with_name("triton_scans.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env=os.environ | {"TRITON_INTERPRET": interpret}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def assembly(name: str, switches: dict[str, int], folder: Path, **options: Any) -> str:
    """What Triton compiles a kernel to, for a GPU that need not be there."""
    from triton.backends.compiler import GPUTarget

    from rheobase.kernels import gpu_loops

    kernel = getattr(gpu_loops, name)
    types = dict.fromkeys(NUMBERS, "fp32")
    types |= dict.fromkeys(INTEGERS, "i32") | {"counts": "*i64"}
    fixed = {n: False for n in kernel.arg_names if n in SWITCHES} | switches | {"BLOCK": 1024}
    signature = {n: "constexpr" if n in fixed else types.get(n, "*fp32") for n in kernel.arg_names}
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(folder)
        source = triton.compiler.ASTSource(kernel, signature, fixed)
        return str(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("if_kernel", {}),
        ("if_kernel", {"HARD": True}),
        ("graded_kernel", {"SIGNED": True, "MEMORY": True, "SCHEDULE": True}),
        ("graded_kernel", {"POWERS": True}),
        ("count_kernel", {}),
        ("if_kernel", {"inner": 1, "count": 1}),  # one threshold: Triton compiles a 1 in
        ("graded_kernel", {"neurons": 1, "stride": 1, "inner": 1, "channels": 1, "MEMORY": True, "SCHEDULE": True}),
        ("count_kernel", {"neurons": 1, "stride": 1}),
    ],
)
def test_kernels_compile_without_fused_multiply_adds(name: str, switches: dict[str, int], tmp_path: Path) -> None:
    code = assembly(name, switches, tmp_path, **gpu.OPTIONS)
    assert re.search(r"ld\.global\S*\.b32", code)
    assert not re.search(r"\bfma\.", code)


@pytest.mark.parametrize(
    ("name", "switches", "loads", "stores"),
    [
        ("msat_kernel", {}, 5, 4),  # current, threshold and three states; values and three states
        ("msat_kernel", {"LINEAR": True}, 5, 4),
        ("msat_kernel", {"PAYLOAD": 4}, 5, 4),
        ("signed_msat_kernel", {}, 9, 5),  # current, four parameters and four states; values and four states
        ("signed_msat_kernel", {"SCHEDULE": True}, 9, 5),
    ],
)
def test_adaptive_neurons_read_each_current_once_and_their_state_once_a_scan(
    name: str, switches: dict[str, int], loads: int, stores: int, tmp_path: Path
) -> None:
    code = assembly(name, {"USE_DTT": True, "USE_DET": True, **switches}, tmp_path, **gpu.OPTIONS)
    each = 1024 // 128  # neurons of a thread
    assert len(re.findall(r"ld\.global", code)) == loads * each
    assert len(re.findall(r"st\.global", code)) == stores * each
