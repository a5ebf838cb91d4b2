"""Fused neuron scans on the processor: layouts, tasks and threads around the compiled `loops`.

Numba is imported by the first call that needs it. The kernels run on PyTorch's own OpenMP threads where
it has them, so that there is one team of threads and not two, and release the GIL.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rheobase.kernels import chained, layout
from rheobase.kernels.layout import dense, ordered, values_for
from rheobase.kernels.reference import LEAST

__all__ = [
    "bdett_scan",
    "compute",
    "count_nonzero",
    "counted",
    "exponent",
    "if_scan",
    "launch",
    "msat_scan",
    "settle",
    "task_of",
    "unavailable",
    "unsuitable",
    "weigh",
]

# Slots as in `loops`, which is not imported before it is needed.
_STATES, _DONE, _HARD, _COUNTS, _THRESHOLDS, _SCANNED, _SLOTS = 8, 14, 14, 20, 22, 23, 24
_BLOCK = 256  # fewer neurons in a sample would make short blocks, so that their spikes are counted afterwards
_SHARE = 32768  # neuron-steps that are worth a thread, as for the element-wise operations of PyTorch


@cache
def unavailable() -> str | None:
    """Why compiled kernels cannot be used in this process, or None where they can."""
    try:
        from rheobase.kernels import counting_loops
    except Exception as error:  # noqa: BLE001 (whatever is wrong with Numba, there is the reference)
        return f"Numba cannot be imported ({error}); install it with: pip install numba"
    try:
        counting_loops.compiled("count")
    except Exception as error:  # noqa: BLE001
        first = str(error).partition("\n")[0]
        return f"Numba cannot compile the kernels ({type(error).__name__}: {first}); is NUMBA_DISABLE_JIT set?"
    return None


def unsuitable(*tensors: Tensor) -> str | None:
    """Why the kernels cannot take these tensors, or None where they can."""
    return layout.unsuitable("cpu", *tensors)


def if_scan(
    current: Tensor,
    potential: Tensor,
    threshold: Tensor,
    *,
    hard_reset: bool = False,
    overwrite: bool = False,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`reference.if_scan`, bit for bit."""
    values, (after,), task, _keep = task_of(current, threshold, [potential], overwrite)
    task[_HARD] = hard_reset
    _scan("if", task, values, counts)
    return values, after


def msat_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    v_t: float,
    dtt_gain: float,
    det_gain: float,
    use_dtt: bool = True,
    use_det: bool = True,
    drive_is_current: bool = False,
    raw_units: bool = False,
    payload: int = 0,
    overwrite: bool = False,
    counts: Tensor | None = None,
    thresholds: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.msat_scan`, to float32 rounding; the thresholds of each step are written down where there is room.

    exp, log and sigmoid are polynomials with relative errors below 3e-7, so a threshold differs from
    the reference's in its last bits, and a neuron within that of its threshold may decide the other way.
    """
    terms = exponent(
        alpha=alpha, ka=ka, ki=ki, c=c, v_t=v_t, dtt_gain=dtt_gain, det_gain=det_gain,
        use_dtt=use_dtt, use_det=use_det, raw_units=raw_units, payload=payload,
    )  # fmt: skip
    states = [potential, mean, last]
    name = "rounded_msat" if payload else "msat"
    return _adapt(name, current, states, steps_done, threshold, terms, drive_is_current, overwrite, counts, thresholds)


def bdett_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    eta: float,
    psi: float,
    rest: float,
    a: float,
    c: float,
    overwrite: bool = False,
    counts: Tensor | None = None,
    thresholds: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.bdett_scan`, to float32 rounding: (E + H) / 2 is the exponent of MSAT.

    As for `msat_scan`, a neuron within the rounding of its threshold may decide the other way.
    """
    terms = exponent(alpha=eta, ka=1.0, ki=psi, c=c, v_t=rest + a, dtt_gain=0.5, det_gain=0.5)
    states = [potential, mean, last]
    return _adapt("bdett", current, states, steps_done, threshold, terms, False, overwrite, counts, thresholds)


def exponent(
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    v_t: float,
    dtt_gain: float,
    det_gain: float,
    use_dtt: bool = True,
    use_det: bool = True,
    raw_units: bool = False,
    payload: int = 0,
) -> tuple[Any, tuple[bool, bool, bool]]:
    """The arguments of `reference.msat_threshold`, and the payload, as the loops take them.

    Returns:
        The parameters, and the switches USE_DTT, USE_DET and RAW.
    """
    weights = (-dtt_gain * alpha * ki, -dtt_gain * ka, -dtt_gain * v_t, -det_gain)  # of the four terms
    parameters = (ctypes.c_float * 8)(1 / ki, -1 / c, *weights, LEAST, 2.0 ** (payload - 1))
    return parameters, (use_dtt, use_det and det_gain != 0, raw_units)


def _adapt(
    name: str,
    current: Tensor,
    states: list[Tensor],
    steps_done: int,
    threshold: Tensor,
    terms: tuple[Any, tuple[bool, bool, bool]],
    drive_is_current: bool,
    overwrite: bool,
    counts: Tensor | None,
    thresholds: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A scan whose threshold adapts to the potential, its mean, and what it was before the last spike."""
    values, (v, average, before), task, _keep = task_of(current, threshold, states, overwrite)
    parameters, (use_dtt, use_det, raw) = terms
    task[_DONE:_COUNTS] = [steps_done, use_dtt, use_det, drive_is_current, raw, ctypes.addressof(parameters)]
    task[_THRESHOLDS] = 0 if thresholds is None else thresholds.data_ptr()
    _scan(name, task, values, counts)
    return values, v, average, before


def count_nonzero(values: Tensor) -> Tensor:
    """`reference.count_nonzero`. Shape: (K, ...) -> (K,), int64."""
    values, _ = dense(values)
    counts = torch.zeros(values.shape[0], dtype=torch.int64, device="cpu")
    task = (ctypes.c_int64 * _SLOTS)(0, values[0].numel(), values.shape[0], values.stride(0), 0, values.data_ptr())
    task[_STATES] = counts.data_ptr()
    _count("count", task)
    return counts


def weigh(values: Tensor, weights: Tensor) -> Tensor:
    """`reference.weigh`, for weights below 2^31 / 4096. Shapes: (K, N, ...), (...) -> (K,), int64."""
    values, strides = dense(values)
    shape = values.shape[2:]
    weights = torch.empty_strided(shape, strides[1:], dtype=torch.int32, device="cpu").copy_(weights)
    counts = torch.zeros(values.shape[0], dtype=torch.int64, device="cpu")
    sizes = (0, values[0].numel(), values.shape[0], values.stride(0), weights.numel())
    task = (ctypes.c_int64 * _SLOTS)(*sizes, values.data_ptr(), weights.data_ptr())
    task[_STATES] = counts.data_ptr()
    _count("weigh", task)
    return counts


def functions(x: Tensor) -> Tensor:
    """exp, softplus and sigmoid as the kernels compute them, for tests. Shape: (n,) -> (3, n)."""
    from rheobase.kernels import loops

    result = torch.empty(3, x.numel(), dtype=torch.float32, device="cpu")
    task = (ctypes.c_int64 * _SLOTS)(0, x.numel(), 1, 0, 1, x.data_ptr(), 0, result.data_ptr())
    loops.compiled("functions").ctypes(task)
    return result


def task_of(
    current: Tensor, threshold: Tensor, states: list[Tensor], overwrite: bool
) -> tuple[Tensor, list[Tensor], Any, list[Tensor]]:
    """What all scans share.

    Returns:
        The values and the states after the scan, to fill; the task; and what must live until launch.
    """
    current, strides = dense(current)
    steps, shape = current.shape[0], current.shape[1:]
    neurons = current[0].numel()
    if threshold.numel() > 1:
        each = threshold.ndim == len(shape) and threshold.shape[0] > 1  # one for each sample
        threshold = ordered(threshold, shape if each else (1, *shape[1:]), strides)
    before = [ordered(state, shape, strides) for state in states]
    after = [current.new_empty_strided(shape, strides) for _ in states]
    values = values_for(current, strides, overwrite)
    task = (ctypes.c_int64 * _SLOTS)(0, neurons, steps, current.stride(0), threshold.numel())
    task[5:_STATES] = [current.data_ptr(), threshold.data_ptr(), values.data_ptr()]
    for i, pair in enumerate(zip(before, after, strict=True)):
        task[_STATES + 2 * i], task[_STATES + 2 * i + 1] = (tensor.data_ptr() for tensor in pair)
    return values, after, task, [current, threshold, *before]


def _count(name: str, task: Any) -> None:
    """Run a kernel that counts."""
    from rheobase.kernels import counting_loops

    launch(counting_loops.compiled(name), task, task[1] * task[2])


def _scan(name: str, task: Any, values: Tensor, counts: Tensor | None) -> None:
    """Run a scan of `loops`, see `counted`, and the layer before it, where that waits."""
    from rheobase.kernels import loops

    task[_SCANNED] = task[1]
    own = chained.Scan(1, _DONE, 0) if name == "if" else chained.Scan(3, _DONE, 1)
    counted(loops.compiled(name), task, values, counts, own)


def settle() -> None:
    """Compute the layer that waits for its neurons, if there is one; see `chained`."""
    layer = chained.waiting()
    if layer is not None:
        compute(layer)


def compute(layer: chained.Waiting) -> None:
    """Compute a layer by itself."""
    layer.done = True
    for kernel, task, work in (layer.lists, layer.sums):
        task[0] = 0
        launch(kernel, task, work)


def counted(kernel: Any, task: Any, values: Tensor, counts: Tensor | None, scan: chained.Scan | None = None) -> None:
    """Run a scan and, where asked for, count the values of each step and sample that are not zero.

    Args:
        kernel: the compiled function; it counts where its task has an address for it.
        task: its argument.
        values: where it writes. Shape (K, N, ...).
        counts: to be filled. Shape (K, N), int64.
        scan: what its task has, where it may compute the layer before it in the same pass.
    """
    apart = counts is None or not counts.is_contiguous() or values[0, 0].numel() < _BLOCK
    if counts is not None and not apart:
        counts.zero_()
        task[_COUNTS], task[_COUNTS + 1] = counts.data_ptr(), values[0, 0].numel()
    both = chained.together(kernel, task, scan) if scan else None
    if both is None:
        settle()
    launch(*(both or (kernel, task, task[1] * task[2])))
    if counts is not None and apart:
        counts.copy_(count_nonzero(values.flatten(0, 1).unsqueeze(1)).view(counts.shape))


def launch(kernel: Any, task: Any, work: int) -> None:
    """Run a kernel on as many threads as PyTorch uses, where there is work for them.

    Args:
        kernel: the compiled function.
        task: its argument.
        work: how much there is to do, in neuron-steps.
    """
    threads = max(1, min(torch.get_num_threads(), work // _SHARE))
    if threads == 1:
        kernel.ctypes(task)
    elif (parallel := _openmp()) is not None:
        parallel(kernel.address, ctypes.addressof(task), threads, 0)
    else:
        helpers = [threading.Thread(target=kernel.ctypes, args=(task,)) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        kernel.ctypes(task)
        for helper in helpers:
            helper.join()


@cache
def _openmp() -> Any:
    """``GOMP_parallel`` of the OpenMP library that PyTorch has loaded, or None."""
    if "OpenMP" not in torch.__config__.parallel_info() or not hasattr(os, "RTLD_NOLOAD"):
        return None
    for name in ("libgomp.so.1", "libiomp5.so", "libomp.so"):
        try:
            parallel = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None
