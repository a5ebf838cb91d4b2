"""Fused neuron scans on a graphics processor: layouts and launches around the compiled `gpu_loops`.

Triton is imported by the first call that needs it. Under ``TRITON_INTERPRET=1``, set before this module is imported,
the same kernels run on the processor, very slowly: that is for their tests.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rheobase.kernels import layout
from rheobase.kernels.layout import dense, ordered, values_for
from rheobase.kernels.reference import LEAST

__all__ = [
    "bdett_scan",
    "count_nonzero",
    "counts_in_a_scan",
    "graded_scan",
    "if_scan",
    "msat_scan",
    "signed_msat_scan",
    "unavailable",
    "unsuitable",
]

OPTIONS = {"enable_fp_fusion": False}
"""How Triton compiles the kernels."""

_BLOCK = 512  # neurons that one program takes
_DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"  # what the tensors are on


@cache
def unavailable() -> str | None:
    """Why Triton's kernels cannot be used in this process, or None where they can."""
    if _DEVICE == "cuda" and not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    try:
        import triton  # noqa: F401
    except Exception as error:  # noqa: BLE001 (whatever is wrong with Triton, there is the reference)
        return f"Triton cannot be imported ({error}); install it with: pip install triton"
    try:
        count_nonzero(torch.ones(1, 1, device=_DEVICE))
    except Exception as error:  # noqa: BLE001
        first = str(error).partition("\n")[0]
        return f"Triton cannot compile the kernels ({type(error).__name__}: {first})"
    return None


def unsuitable(*tensors: Tensor) -> str | None:
    """Why the kernels cannot take these tensors, or None where they can."""
    return layout.unsuitable(_DEVICE, *tensors)


def if_scan(
    current: Tensor,
    potential: Tensor,
    threshold: Tensor,
    *,
    hard_reset: bool = False,
    overwrite: bool = False,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`reference.if_scan`, bit for bit; ``counts`` is as for `rheobase.kernels.if_scan`, see `counts_in_a_scan`."""
    current, strides = dense(current)
    m, inner = _numbers(threshold, current.shape[1:], strides)
    before, after = _states(current, strides, potential)
    values = values_for(current, strides, overwrite)
    counter, *samples = _counter(current, counts)
    _launch(
        "if", current, values, m, *before, *after, counter, *_sizes(current), inner, m.numel(), *samples,
        HARD=hard_reset, COUNT=counts is not None,
    )  # fmt: skip
    return values, after[0]


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.msat_scan`, to float32 rounding.

    The exponentials and logarithms are the processor's own, whose relative error is some units of the last place, so
    a neuron within that of its threshold may decide the other way.
    """
    numbers = (alpha, ka, 1 / ki, 1 / c, v_t, dtt_gain, det_gain)
    return _adapt(
        current, [potential, mean, last], steps_done, threshold, numbers, overwrite, counts,
        USE_DTT=use_dtt, USE_DET=use_det and det_gain != 0, INSTANT=drive_is_current, RAW=raw_units, LINEAR=False,
        PAYLOAD=payload,
    )  # fmt: skip


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.bdett_scan`, to float32 rounding, as `msat_scan`: (E + H) / 2 is the exponent of MSAT."""
    return _adapt(
        current, [potential, mean, last], steps_done, threshold, (eta, 1.0, 1 / psi, 1 / c, rest + a, 0.5, 0.5),
        overwrite, counts, USE_DTT=True, USE_DET=True, INSTANT=False, RAW=False, LINEAR=True, PAYLOAD=0,
    )  # fmt: skip


def _adapt(
    current: Tensor,
    states: list[Tensor],
    steps_done: int,
    threshold: Tensor,
    numbers: tuple[float, ...],
    overwrite: bool,
    counts: Tensor | None,
    **switches: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A scan whose threshold adapts to the potential, its mean, and what it was before the last spike."""
    current, strides = dense(current)
    m, inner = _numbers(threshold, current.shape[1:], strides)
    before, after = _states(current, strides, *states)
    values = values_for(current, strides, overwrite)
    pairs = [tensor for pair in zip(before, after, strict=True) for tensor in pair]
    counter, *samples = _counter(current, counts)
    _launch(
        "msat", current, values, m, *pairs, counter, *_sizes(current), inner, m.numel(), *samples, steps_done,
        *(float(number) for number in (*numbers, LEAST)), **switches, COUNT=counts is not None,
    )  # fmt: skip
    return values, after[0], after[1], after[2]


def signed_msat_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`reference.signed_msat_scan`, to float32 rounding of the threshold; without a gradient."""
    current, strides = dense(current)
    rows, inner = _rows(threshold, fire, offset, strides)
    before, after = _states(current, strides, potential, sent, mean, last)
    values = values_for(current, strides)
    pairs = [tensor for pair in zip(before, after, strict=True) for tensor in pair]
    _launch(
        "signed_msat", current, values, rows, *pairs, *_sizes(current), inner, rows.shape[2], steps_done,
        *(float(number) for number in (alpha, ka, 1 / ki, 1 / c, v_t, dtt_gain, det_gain)),
        USE_DTT=use_dtt, USE_DET=use_det and det_gain != 0, INSTANT=drive_is_current, RAW=raw_units,
        SCHEDULE=len(rows) > 1,
    )  # fmt: skip
    return values, after[0], after[1], after[2], after[3]


def graded_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
    levels: int,
    powers: bool,
    signed: bool,
    memory: bool,
    first_levels: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.graded_scan`, bit for bit; without a gradient."""
    current, strides = dense(current)
    rows, inner = _rows(threshold, fire, offset, strides)
    before, after = _states(current, strides, potential, sent)
    values = values_for(current, strides)
    pairs = [tensor for pair in zip(before, after, strict=True) for tensor in pair]
    _launch(
        "graded", current, values, rows, *pairs, *_sizes(current), inner, rows.shape[2], levels, first_levels,
        0.5 ** (levels - 1),
        POWERS=powers, SIGNED=signed, MEMORY=memory, SCHEDULE=len(rows) > 1,
    )  # fmt: skip
    return values, after[0], after[1]


def count_nonzero(values: Tensor) -> Tensor:
    """`reference.count_nonzero`, in one launch. Shape: (K, ...) -> (K,), int64."""
    values, _ = dense(values)
    neurons, steps, stride = _sizes(values)
    counts = torch.zeros(steps, dtype=torch.int64, device=values.device)
    _launch("count", values, counts, neurons, stride, steps=steps)
    return counts


def counts_in_a_scan(current: Tensor) -> bool:
    """Whether a scan can count the spikes of each sample: a program must have the neurons of one. Shape (K, N, ...)."""
    return current.shape[1] == 1 or current[0, 0].numel() % _BLOCK == 0


def _counter(current: Tensor, counts: Tensor | None) -> tuple[Tensor, int, int]:
    """Where a scan counts (nowhere: any tensor), neurons of a sample, and samples."""
    if counts is None:
        return current, 1, 1
    return counts.zero_(), current[0, 0].numel(), current.shape[1]


def _sizes(current: Tensor) -> tuple[int, int, int]:
    """Neurons, steps, and what lies between the current of one step and of the next."""
    return current[0].numel(), current.shape[0], current.stride(0)


def _numbers(parameter: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Tensor, int]:
    """A parameter for neurons in memory order: neuron n has ``numbers[n // inner % len(numbers)]``.

    Args:
        parameter: broadcastable to the shape.
        shape: of one step of the current, (N, ...).
        strides: of one step, dense.

    Returns:
        The numbers, and inner. Where the parameter varies along one dimension it is not repeated.
    """
    wide = [d for d in range(-parameter.ndim, 0) if parameter.shape[d] > 1]
    if len(wide) < 2:
        return parameter.reshape(-1).contiguous(), strides[wide[0]] if wide else 1
    return ordered(parameter, shape, strides), 1


def _rows(threshold: Tensor, fire: Tensor, offset: Tensor, strides: tuple[int, ...]) -> tuple[Tensor, int]:
    """The parameters of graded spikes, (1 or K, 4, 1 or C): neuron n has those of channel ``n // inner % C``."""
    each = torch.broadcast_tensors(threshold, 1 / threshold, fire, offset)  # type: ignore[no-untyped-call]
    return torch.stack(each, 1), strides[1] if each[0].shape[1] > 1 else 1


def _states(current: Tensor, strides: tuple[int, ...], *states: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The states in the memory order of one step of the current, and room for those after the scan."""
    shape = current.shape[1:]
    before = [ordered(state, shape, strides) for state in states]
    return before, [current.new_empty_strided(shape, strides) for _ in states]


def _launch(name: str, current: Tensor, *arguments: Any, steps: int = 1, **constants: int) -> None:
    """Run a kernel for all neurons, on the device of the current.

    Args:
        name: of the kernel.
        current: its first argument, (K, N, ...).
        arguments: the others.
        steps: how many programs there are for each block of neurons.
        constants: switches that are compiled in.
    """
    from rheobase.kernels import gpu_loops

    kernel = getattr(gpu_loops, f"{name}_kernel")
    blocks = -(-current[0].numel() // _BLOCK)
    with torch.cuda.device_of(current):  # type: ignore[no-untyped-call]
        kernel[(blocks * steps,)](current, *arguments, BLOCK=_BLOCK, **OPTIONS, **constants)
