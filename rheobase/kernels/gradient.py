"""The scans of `cpu` where gradients are asked for: a scan that keeps its thresholds, and the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rheobase.kernels import cpu
from rheobase.kernels.layout import dense, ordered, values_for

__all__ = ["asked_for", "scan"]

_GRADIENT, _PAYLOAD = 10, 15  # slots as in `gradient_loops`, which is not imported before it is needed
_VALUES, _HARD = 7, 14


def asked_for(current: Tensor, potential: Tensor, threshold: Tensor) -> bool:
    """Whether the result of a scan is to be differentiated; what else a neuron remembers is a constant."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (current, potential, threshold))


def scan(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, ...]:
    """A scan of `cpu`, differentiable with respect to the current, the potential and the threshold.

    Args:
        name: of the scan.
        arguments: the current, the potential, what else the neuron has, and the threshold.
        keywords: of the scan, but for the permission to overwrite the current and the counts.
    """
    found: tuple[Tensor, ...] = _Scan.apply(name, keywords, *arguments)  # type: ignore[no-untyped-call]
    return found


class _Scan(torch.autograd.Function):
    """The gradient repeats the additions of the scan, and reads the thresholds that it has written down."""

    @staticmethod
    def forward(
        ctx: Any, name: str, keywords: dict[str, Any], current: Tensor, potential: Tensor, *rest: Any
    ) -> tuple[Tensor, ...]:
        current, strides = dense(current)
        potential = ordered(potential, current.shape[1:], strides)
        thresholds = values_for(current, strides) if len(rest) > 1 else None
        own = {} if thresholds is None else {"thresholds": thresholds}
        found: tuple[Tensor, ...] = getattr(cpu, name)(current, potential, *rest, **keywords, **own)
        ctx.save_for_backward(current, potential, rest[-1], found[0], thresholds)
        ctx.hard, ctx.payload = keywords.get("hard_reset", False), keywords.get("payload", 0)
        ctx.mark_non_differentiable(*found[2:])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, gradient_v: Tensor, *_: Any) -> Any:
        from rheobase.kernels import gradient_loops

        current, potential, threshold, y, thresholds = ctx.saved_tensors
        of_current, (of_potential,), task, _keep = cpu.task_of(current, threshold, [potential], overwrite=False)
        of_potential.copy_(gradient_v)
        of_threshold = torch.zeros_like(of_potential)
        gradient = ordered(gradient, y.shape, y.stride())
        task[_VALUES], task[_HARD] = y.data_ptr(), ctx.hard
        task[_GRADIENT:_HARD] = [
            gradient.data_ptr(),
            of_current.data_ptr(),
            of_threshold.data_ptr(),
            0 if thresholds is None else thresholds.data_ptr(),
        ]
        task[_PAYLOAD] = ctx.payload
        cpu.launch(gradient_loops.compiled(), task, task[1] * task[2])
        rest = [None] * (len(ctx.needs_input_grad) - 5)  # between the potential and the threshold
        return None, None, of_current, of_potential, *rest, of_threshold.sum_to_size(threshold.shape)
