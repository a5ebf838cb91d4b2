"""The scan of signed MSAT on the processor, with its gradient: tables, tasks and threads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rheobase.kernels.cpu import exponent, launch
from rheobase.kernels.graded import SUMS, task_of, to_rows
from rheobase.kernels.layout import dense, ordered, values_for

__all__ = ["scan"]

_PIECE = 256  # neurons that a thread takes at a time, at most a row of its workspace
_TASK = 30  # int64 slots, as in `signed_msat_loops`, which is not imported before it is needed


def scan(
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
    drive_is_current: bool = False,
    **adaptation: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`reference.signed_msat_scan`, to float32 rounding of the threshold.

    Differentiable with respect to the current, the potential, what was sent and the three parameters.
    """
    rows = torch.stack(torch.broadcast_tensors(threshold, fire, offset), 1)  # type: ignore[no-untyped-call]
    states, rule = (potential, sent, mean, last), (steps_done, drive_is_current, adaptation)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (current, potential, sent, rows)):
        y, v, r, average, before = _Scan.apply(current, *states, rows, rule)  # type: ignore[no-untyped-call]
        return y, v, r, average, before
    y, (v, r, average, before) = _forward(current, states, rows, rule)
    return y, v, r, average, before


class _Scan(torch.autograd.Function):
    """The gradient repeats the additions of the scan, and reads its thresholds."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, potential: Tensor, sent: Tensor, mean: Tensor, last: Tensor, rows: Tensor, rule: Any
    ) -> Any:
        current, strides = dense(current)
        states = [ordered(state, current.shape[1:], strides) for state in (potential, sent, mean, last)]
        thresholds = values_for(current, strides)
        y, after = _forward(current, states, rows, rule, thresholds)
        ctx.save_for_backward(current, y, thresholds, states[0], states[1], rows)
        ctx.mark_non_differentiable(after[2], after[3])
        return y, *after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, gradient_v: Tensor, gradient_r: Tensor, *_: Any) -> Any:
        current, y, thresholds, v, r, rows = ctx.saved_tensors
        shape, strides = current.shape[1:], current.stride()[1:]
        gradient = ordered(gradient, y.shape, y.stride())
        result = y.new_empty_strided(y.shape, y.stride())
        states = [y.new_empty_strided(shape, strides).copy_(g) for g in (gradient_v, gradient_r)]
        width, task, _keep = task_of(current, y, rows, _PIECE, _TASK)
        sums = y.new_zeros(SUMS, len(current), 3, width)
        scratch = y.new_empty(SUMS, len(current), 2, task[4])
        task[10:14] = [t.data_ptr() for t in (v, r, *states)]
        task[18:22] = [gradient.data_ptr(), result.data_ptr(), sums.data_ptr(), SUMS]
        task[28], task[29] = thresholds.data_ptr(), scratch.data_ptr()
        _launch("gradient", task)
        return result, *states, None, None, to_rows(sums.sum(0), rows, shape, strides), None


def _forward(
    current: Tensor,
    states: Sequence[Tensor],
    rows: Tensor,
    rule: tuple[int, bool, dict[str, Any]],
    thresholds: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The values, and the states after the scan; the thresholds are written down where there is room for them."""
    steps_done, drive_is_current, adaptation = rule
    current, strides = dense(current)
    shape, y = current.shape[1:], values_for(current, strides)
    _, task, _keep = task_of(current, y, rows, _PIECE, _TASK)
    before = [ordered(state, shape, strides) for state in states]
    after = [y.new_empty_strided(shape, strides) for _ in states]
    parameters, switches = exponent(**adaptation)
    v, r, mean, last = ((b.data_ptr(), a.data_ptr()) for b, a in zip(before, after, strict=True))
    task[10:14] = [v[0], r[0], v[1], r[1]]
    task[14:18] = [steps_done, *switches[:2], drive_is_current]
    task[22:28] = [*mean, *last, switches[2], ctypes.addressof(parameters)]
    task[28] = 0 if thresholds is None else thresholds.data_ptr()
    _launch("scan", task)
    return y, after


def _launch(name: str, task: Any) -> None:
    """Run a kernel; it works on slot 1 times slot 2 neuron-steps."""
    from rheobase.kernels import signed_msat_loops

    launch(signed_msat_loops.compiled(name), task, task[1] * task[2])
