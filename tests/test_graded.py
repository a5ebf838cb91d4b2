"""The kernels of the graded neuron, with their gradients, against plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rheobase import kernels
from rheobase.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

SHAPES = [(2,), (3, 10), (2, 700), (3, 5, 40), (2, 16, 5, 4), (1, 3, 3, 3), (2, 24, 9, 9)]
RULES = st.fixed_dictionaries(
    {"levels": st.integers(1, 5), "powers": st.booleans(), "signed": st.booleans(), "memory": st.booleans()}
)


@st.composite
def problems(draw: st.DrawFn) -> list[Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape, steps = draw(st.sampled_from(SHAPES)), draw(st.integers(1, 6))
    rows = draw(st.sampled_from([1, steps]))
    channels = draw(st.sampled_from([1, shape[1] if len(shape) > 1 else 1]))
    current = torch.randn(steps, *shape, generator=generator)
    if len(shape) == 4 and draw(st.booleans()):
        current = current.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, -1))
    elif draw(st.booleans()):
        current = current[:1].expand(steps, *shape)
    potential, sent = 0.2 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
    threshold = 0.3 + torch.rand(rows, channels, generator=generator)
    fire = 0.3 + 0.5 * torch.rand(rows, channels, generator=generator)
    return [current, potential, sent, threshold, fire, 0.05 * torch.randn(1, channels, generator=generator)]


@given(problems(), RULES)
@settings(deadline=None, max_examples=60)
def test_graded_spikes_equal_the_reference_bit_for_bit(problem: list[Tensor], rule: dict[str, Any]) -> None:
    ours, plain = (kernels.graded_scan(*problem, **rule, backend=b) for b in ("cpu", "reference"))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@given(problems(), RULES)
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


@given(problems(), RULES)
@settings(deadline=None, max_examples=30)
def test_gradients_flow_from_chunk_to_chunk(problem: list[Tensor], rule: dict[str, Any]) -> None:
    gradients = []
    for parts in (1, len(problem[0])):
        leaves = [t.clone().requires_grad_() for t in problem]
        x, v, r, threshold, fire, offset = leaves
        values = []
        for k in range(parts):
            rows = [p if len(p) == 1 or parts == 1 else p[k : k + 1] for p in (threshold, fire, offset)]
            y, v, r = kernels.graded_scan(x if parts == 1 else x[k : k + 1], v, r, *rows, **rule, backend="cpu")
            values.append(y)
        sent = torch.cat(values)
        weights = torch.linspace(-1, 2, sent.numel()).view(sent.shape)
        gradients.append(torch.autograd.grad((sent * weights).sum() + v.sum() - 0.5 * r.sum(), leaves))
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-3, atol=1e-3 * (1 + float(whole.abs().max())))
