"""Neurons that see all T steps before they fire, on the processor: their rules, and tasks for the compiled loops."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rheobase.kernels.cpu import counted, task_of
from rheobase.kernels.layout import dense, ordered

__all__ = ["Rule", "offset_rule", "parallel_rule", "radix_rule", "scan"]

_BIAS, _CONSTANTS = 8, 10  # slots, as in `synchronous_loops`; after the constants come trial steps and iterations


class Rule(NamedTuple):
    """How such a neuron answers the currents of T steps; the equations are those of `rheobase.neurons`.

    Attributes:
        kernel: the name of the compiled loops.
        parameters: the threshold, and what else neurons have of their own. Shapes () or broadcastable to (N, ...),
            the same for all samples.
        constants: numbers that all neurons share.
        trial: the steps of a trial run.
        iterations: how many trial runs there are.
    """

    kernel: Literal["parallel", "radix", "offset"]
    parameters: tuple[Tensor, ...]
    constants: tuple[float, ...] = ()
    trial: int = 0
    iterations: int = 0


def parallel_rule(threshold: Tensor, bias: Tensor, value: Tensor) -> Rule:
    """That of `rheobase.neurons.Parallel`; ``value`` is what a spike carries."""
    return Rule("parallel", (threshold, bias, value))


def radix_rule(threshold: Tensor, shares: Sequence[float]) -> Rule:
    """That of `rheobase.neurons.Radix`; ``shares`` are w(t) / threshold of each step."""
    return Rule("radix", (threshold,), (shares[-1] / 2, *shares, *(len(shares) * share for share in shares)))


def offset_rule(threshold: Tensor, trial: int, iterations: int, below: float) -> Rule:
    """That of `rheobase.neurons.OffsetIF`; ``below`` is a little less than 1."""
    return Rule("offset", (threshold,), (below,), trial, iterations)


def scan(current: Tensor, rule: Rule, *, overwrite: bool = False, counts: Tensor | None = None) -> Tensor:
    """The values sent in T steps. Shape: (T, N, ...) -> (T, N, ...), in the memory order of the current."""
    from rheobase.kernels import synchronous_loops

    current, strides = dense(current)
    threshold, *others = torch.broadcast_tensors(*rule.parameters)  # type: ignore[no-untyped-call]
    values, _, task, _keep = task_of(current, threshold, [], overwrite)
    if threshold.numel() > 1:
        others = [ordered(parameter, (1, *current.shape[2:]), strides) for parameter in others]
    constants = (ctypes.c_float * max(1, len(rule.constants)))(*rule.constants)
    task[_BIAS : _BIAS + len(others)] = [parameter.data_ptr() for parameter in others]
    task[_CONSTANTS : _CONSTANTS + 3] = [ctypes.addressof(constants), rule.trial, rule.iterations]
    counted(synchronous_loops.compiled(rule.kernel), task, values, counts)
    return values
