"""The kernels of the graded neuron, with their gradients, against plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import RULES, graded_problems, in_chunk
from torch import Tensor

from rheobase import kernels
from rheobase.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))


@given(graded_problems(), RULES)
@settings(deadline=None, max_examples=60)
def test_graded_spikes_equal_the_reference_bit_for_bit(problem: list[Tensor], rule: dict[str, Any]) -> None:
    ours, plain = (kernels.graded_scan(*problem, **rule, backend=b) for b in ("cpu", "reference"))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@given(graded_problems(), RULES, st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_bias_counts_and_the_memory_of_the_current_change_no_bit(
    problem: list[Tensor], rule: dict[str, Any], overwrite: bool
) -> None:
    current, *others = problem
    steps, channels = len(current), current.shape[2] if current.ndim > 2 else 1
    bias = torch.linspace(-0.5, 1, steps * channels).view(steps, channels)
    ours, plain = [], []
    for backend, found in (("cpu", ours), ("reference", plain)):
        own = current if backend == "reference" or not overwrite or current.stride(0) == 0 else clone(current)
        counts = torch.full(current.shape[:2], -1)
        keywords: dict[str, Any] = {"overwrite": own is not current, "counts": counts, "bias": bias, "backend": backend}
        found += [*kernels.graded_scan(own, *others, **rule, **keywords), counts]
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


def clone(tensor: Tensor) -> Tensor:
    """A copy with the same strides."""
    return torch.empty_strided(tensor.shape, tensor.stride()).copy_(tensor)


@pytest.mark.parametrize("channels", [1, 12, 16, 100, 300])
@pytest.mark.parametrize("size", [7, 9, 16])
def test_counts_are_right_where_a_block_is_of_two_samples(channels: int, size: int) -> None:
    torch.manual_seed(0)
    current = (
        torch.randn(6, channels, size, size).to(memory_format=torch.channels_last).view(2, 3, channels, size, size)
    )
    zero = torch.zeros_like(current[0])
    parameters = [torch.rand(2, channels) + 0.25, torch.full((1, 1), 0.5), torch.zeros(1, 1)]
    counts = torch.full((2, 3), -1)
    values = kernels.graded_scan(current, zero, zero, *parameters, levels=2, counts=counts, backend="cpu")[0]
    plain = kernels.graded_scan(current, zero, zero, *parameters, levels=2, backend="reference")[0]
    assert torch.equal(values, plain)
    assert torch.equal(counts, (plain != 0).flatten(2).sum(2))


@given(graded_problems(), RULES)
@settings(deadline=None, max_examples=60)
def test_graded_gradients_equal_the_reference(problem: list[Tensor], rule: dict[str, Any]) -> None:
    gradients = []
    for backend in ("cpu", "reference"):
        leaves = [t.clone().requires_grad_() if i not in (1, 2) else t for i, t in enumerate(problem)]
        values, _, _ = kernels.graded_scan(*leaves, **rule, backend=backend)  # type: ignore[arg-type]
        weights = torch.linspace(-1, 2, values.numel()).view(values.shape)
        gradients.append(torch.autograd.grad((values * weights).sum(), [leaves[i] for i in (0, 3, 4, 5)]))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3 * (1 + float(plain.abs().max())))


def test_the_gradient_does_not_depend_on_the_threads() -> None:
    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 16, 24, 24, generator=generator)
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            threshold = torch.full((4, 16), 0.5, requires_grad=True)
            zero = torch.zeros(8, 16, 24, 24)
            half, none = torch.full((1, 1), 0.5), torch.zeros(1, 1)
            values, _, _ = kernels.graded_scan(x, zero, zero, threshold, half, none)
            results.append(torch.autograd.grad(values.square().sum(), threshold)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@given(graded_problems(), RULES)
@settings(deadline=None, max_examples=30)
def test_gradients_flow_from_chunk_to_chunk(problem: list[Tensor], rule: dict[str, Any]) -> None:
    gradients = []
    for parts in (1, len(problem[0])):
        leaves = [t.clone().requires_grad_() for t in problem]
        x, v, r, threshold, fire, offset = leaves
        values = []
        for k in range(parts):
            rows = [p if len(p) == 1 or parts == 1 else p[k : k + 1] for p in (threshold, fire, offset)]
            part = x if parts == 1 else x[k : k + 1]
            y, v, r = kernels.graded_scan(part, v, r, *rows, **in_chunk(rule, k), backend="cpu")  # type: ignore[arg-type]
            values.append(y)
        sent = torch.cat(values)
        weights = torch.linspace(-1, 2, sent.numel()).view(sent.shape)
        gradients.append(torch.autograd.grad((sent * weights).sum() + v.sum() - 0.5 * r.sum(), leaves))
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-3, atol=1e-3 * (1 + float(whole.abs().max())))
