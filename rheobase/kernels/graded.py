"""The graded integrate-and-fire scan on the processor, with its gradient: tables, tasks and threads."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rheobase.kernels.chained import Scan
from rheobase.kernels.cpu import counted, launch
from rheobase.kernels.layout import dense, ordered, values_for

__all__ = ["SUMS", "scan", "task_of", "to_rows"]

_PIECE = 448  # neurons that a thread takes at a time for the gradient, at most a row of its workspace
_TASK = 23  # int64 slots, as in `graded_loops`, which is not imported before it is needed
_BLOCK, _SCAN = 256, 24  # the same of the scan, as in `graded_scan_loops`
_FIRST_LEVELS, _TABLE, _TABLE_STRIDE, _BIASED, _SCANNED = 18, 6, 19, 22, 23

SUMS = 16
"""Partial sums of a gradient: their number must not depend on the threads."""


def scan(
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
    *,
    overwrite: bool = False,
    counts: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.graded_scan`; differentiable, without the last three, by the current and the three parameters."""
    parameters = [threshold, 1 / threshold, fire, offset, *([] if bias is None else [bias])]
    rows = torch.stack(torch.broadcast_tensors(*parameters), 1)  # type: ignore[no-untyped-call]
    rule = (levels, powers, signed, memory, first_levels)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (current, potential, sent, rows)):
        y, v, r = _Scan.apply(current, potential, sent, rows, *rule)  # type: ignore[no-untyped-call]
        return y, v, r
    return _forward(current, potential, sent, rows, *rule, overwrite=overwrite, counts=counts)


class _Scan(torch.autograd.Function):
    """The gradient undoes the scan step by step, so that nothing but its input and output is kept."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, potential: Tensor, sent: Tensor, rows: Tensor, *rule: Any) -> Any:
        current, _ = dense(current)
        y, v, r = _forward(current, potential, sent, rows, *rule)
        ctx.save_for_backward(current, y, v, r, rows)
        ctx.rule = rule
        return y, v, r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, gradient_v: Tensor, gradient_r: Tensor) -> Any:
        current, y, v, r, rows = ctx.saved_tensors
        shape, strides = current.shape[1:], current.stride()[1:]
        gradient = ordered(gradient, y.shape, y.stride())
        result = y.new_empty_strided(y.shape, y.stride())
        width, task, _keep = task_of(current, y, rows)
        *task[14:18], task[22] = ctx.rule
        states = [y.new_empty_strided(shape, strides).copy_(g) for g in (gradient_v, gradient_r)]
        undone = [ordered(state, tuple(shape), strides).clone() for state in (v, r)]
        sums = y.new_zeros(SUMS, current.shape[0], 3, width)
        task[10], task[11], task[12], task[13] = (t.data_ptr() for t in (*states, *undone))
        task[18], task[19], task[20], task[21] = gradient.data_ptr(), result.data_ptr(), sums.data_ptr(), SUMS
        from rheobase.kernels import graded_loops

        launch(graded_loops.compiled(), task, task[1] * task[2])
        found = to_rows(sums.sum(0), rows, shape, strides)
        zero = torch.zeros_like(found[:, :1])  # that of the reciprocal
        return result, *states, torch.cat([found[:, :1], zero, found[:, 1:]], 1), *[None] * 5


def _forward(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    rows: Tensor,
    *rule: Any,
    overwrite: bool = False,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The values and the states after the scan; rows of five have a bias."""
    from rheobase.kernels import graded_scan_loops

    current, strides = dense(current)
    shape, y = current.shape[1:], values_for(current, strides, overwrite)
    before = [ordered(state, tuple(shape), strides) for state in (potential, sent)]
    v, r = (y.new_empty_strided(shape, strides) for _ in range(2))
    table = _table(rows, current, _BLOCK, of_samples=True)
    stride = 0 if len(table) == 1 else table.shape[1] * table.shape[2]
    neurons = current[0].numel()
    task = (ctypes.c_int64 * _SCAN)(0, neurons, len(current), current.stride(0), table.shape[2])
    task[5:8] = [current.data_ptr(), table.data_ptr(), y.data_ptr()]
    task[8:12] = [before[0].data_ptr(), v.data_ptr(), before[1].data_ptr(), r.data_ptr()]
    task[14:20] = [*rule, stride]
    task[_BIASED], task[_SCANNED] = rows.shape[1] == 5, neurons
    counted(graded_scan_loops.compiled(), task, y, counts, Scan(2, _TABLE, 4 * stride, _FIRST_LEVELS))
    return y, v, r


def task_of(
    current: Tensor, y: Tensor, rows: Tensor, piece: int = _PIECE, slots: int = _TASK
) -> tuple[int, Any, list[Tensor]]:
    """The task of a scan whose parameters lie in a table, but for its states and its rule.

    Args:
        current: dense in each step. Shape (K, N, ...).
        y: the values, in the same memory order.
        rows: the parameters. Shape (K or 1, P, C or 1).
        piece: how many neurons a thread takes at a time.
        slots: of the task.

    Returns:
        How many neurons a row of the table holds, the task, and what must live until launch.
    """
    table = _table(rows, current, piece)
    width, stride = table.shape[2], 0 if len(table) == 1 else table.shape[1] * table.shape[2]
    task = (ctypes.c_int64 * slots)(0, current[0].numel(), len(current), width, min(width, piece), current.stride(0))
    task[6:10] = [table.data_ptr(), stride, current.data_ptr(), y.data_ptr()]
    return width, task, [table, current]


def _table(rows: Tensor, current: Tensor, piece: int, of_samples: bool = False) -> Tensor:
    """The parameters of neurons in memory order, repeated up to ``piece`` neurons. (R, P, C or 1) -> (R, P, width).

    With ``of_samples``, a sample is a whole number of these rows, where that does not make them shorter than half.
    """
    rows = rows.detach()
    if rows.shape[2] > 1 and not (current.ndim > 2 and current.stride(2) == 1):  # channels are not the innermost
        rows = _as_map(rows, current.shape[1:], current.stride()[1:])
    tile = max(1, piece // rows.shape[2])
    if of_samples:
        samples = current.shape[1] if current.ndim > 1 else 1
        repeats = current[0].numel() // samples // rows.shape[2]
        tile = next((n for n in range(tile, tile // 2, -1) if repeats % n == 0), tile)
    return rows.repeat(1, 1, tile).contiguous() if tile > 1 else rows.contiguous()


def _as_map(rows: Tensor, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Parameters of channels as those of the neurons of a sample, in memory order. (R, P, C) -> (R, P, neurons)."""
    order = sorted(range(1, len(shape)), key=lambda d: strides[d], reverse=True)
    spread = rows.view(*rows.shape, *[1] * (len(shape) - 2)).expand(*rows.shape[:2], *shape[1:])
    return spread.permute(0, 1, *(d + 1 for d in order)).flatten(2)


def to_rows(sums: Tensor, rows: Tensor, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """The gradient of a table's rows, from sums for each step and neuron of a row. (K, P, width) -> (R, P, C)."""
    channels = rows.shape[2]
    if sums.shape[2] > channels and channels > 1 and not (len(shape) > 1 and strides[1] == 1):
        order = sorted(range(1, len(shape)), key=lambda d: strides[d], reverse=True)
        full = sums[:, :, : shape[1:].numel() * (sums.shape[2] // shape[1:].numel())]
        full = full.view(*sums.shape[:2], -1, *(shape[d] for d in order)).sum(2)
        sums = full.permute(0, 1, *(2 + order.index(d) for d in range(1, len(shape)))).flatten(3).sum(3)
    else:
        sums = sums.view(*sums.shape[:2], -1, channels).sum(2)
    return sums.sum(0, keepdim=True) if rows.shape[0] == 1 else sums
