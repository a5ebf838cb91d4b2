"""The gradient of the scans of integrate and fire, MSAT and BDETT, against that of their plain PyTorch references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scans import PAPER, bdett_constants, constants, flags, problems
from torch import Tensor

from rheobase import kernels
from rheobase.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

Problem = tuple[Tensor, Tensor, Tensor]


def adaptive(scan: Callable[..., Any], done: int = 0, **keywords: Any) -> Callable[..., Any]:
    """A scan of (current, potential, threshold) whose mean and last potential start at 0."""

    def run(current: Tensor, potential: Tensor, threshold: Tensor, **more: Any) -> Any:
        zeros = torch.zeros_like(potential).detach()
        return scan(current, potential, zeros, zeros, done, threshold, **keywords, **more)

    return run


def gradients(scan: Callable[..., Any], problem: Problem, backend: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The values, and the gradients of a weighted sum of them and of the last potential."""
    leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in problem]
    current = leaves[0] if problem[0].stride(0) else leaves[0][:1].expand_as(problem[0])
    values, potential, *others = scan(current, *leaves[1:], backend=backend)
    assert not any(tensor.requires_grad for tensor in others)
    weights = torch.linspace(-1, 2, values.numel()).view(values.shape)
    return values.detach(), torch.autograd.grad((values * weights).sum() + potential.square().sum(), leaves)


def check_gradients(scan: Callable[..., Any], problem: Problem) -> None:
    (ours, found), (plain, wanted) = (gradients(scan, problem, b) for b in ("cpu", "reference"))
    assert torch.equal(ours, scan(*problem, backend="cpu")[0])  # what is kept for the gradient changes no value
    assume(bool(((ours - plain).abs() < 1e-4).all()))  # rounding decided nothing
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * (1 + float(b.abs().max())))


@given(problems(), st.booleans())
def test_those_of_integrate_and_fire(problem: Problem, hard: bool) -> None:
    check_gradients(partial(kernels.if_scan, hard_reset=hard), problem)


@settings(deadline=None)
@given(problems(), constants, flags, st.integers(0, 3), st.integers(0, 5))
def test_those_of_msat(
    problem: Problem, numbers: dict[str, float], switches: dict[str, bool], done: int, payload: int
) -> None:
    check_gradients(adaptive(kernels.msat_scan, done, **numbers, **switches, payload=payload), problem)


@settings(deadline=None)
@given(problems(), bdett_constants, st.integers(0, 3))
def test_those_of_bdett(problem: Problem, numbers: dict[str, float], done: int) -> None:
    check_gradients(adaptive(kernels.bdett_scan, done, **numbers), problem)


@pytest.mark.parametrize("payload", [0, 4])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_threshold_of_zero_gives_a_finite_slope(payload: int, backend: kernels.Backend) -> None:
    current = torch.randn(5, 2, 3).requires_grad_()
    scan = adaptive(kernels.msat_scan, **PAPER, payload=payload)
    values = scan(current, torch.zeros(2, 3), torch.tensor([0.0, 1.0, 0.0]), backend=backend)[0]
    (slope,) = torch.autograd.grad(values.sum(), current)
    assert bool(slope.isfinite().all())
    assert bool((slope != 0).any())


@settings(deadline=None, max_examples=30)
@given(problems(), st.integers(1, 3), st.integers(0, 4))
def test_they_flow_from_chunk_to_chunk(problem: Problem, chunk: int, payload: int) -> None:
    whole, wanted = gradients(adaptive(kernels.msat_scan, **PAPER, payload=payload), problem, "cpu")

    def in_chunks(current: Tensor, v: Tensor, threshold: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
        mean = last = torch.zeros_like(v).detach()
        values: list[Tensor] = []
        for x in current.split(chunk):
            done = sum(map(len, values))
            y, v, mean, last = kernels.msat_scan(
                x, v, mean, last, done, threshold, **PAPER, payload=payload, **keywords
            )
            values.append(y)
        return torch.cat(values), v

    values, found = gradients(in_chunks, problem, "cpu")
    assert torch.equal(values, whole)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * (1 + float(b.abs().max())))


def test_the_number_of_threads_changes_no_bit_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    problem = (torch.rand(4, 8, 64, 40, generator=generator), torch.zeros(8, 64, 40), torch.ones(8, 64, 40))
    scan, found, before = adaptive(kernels.msat_scan, **PAPER, payload=4), [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(gradients(scan, problem, "cpu")[1])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
def test_spikes_are_counted_where_gradients_are_asked_for(backend: kernels.Backend) -> None:
    current, counts = torch.rand(6, 2, 300).requires_grad_(), torch.full((6, 2), -1)
    values = kernels.if_scan(
        current, torch.zeros(2, 300), torch.tensor(0.8), counts=counts, overwrite=True, backend=backend
    )[0]
    assert torch.equal(counts, (values != 0).sum(2))
    assert counts.sum() > 0
    assert values.requires_grad
    values += 1  # they are no view that autograd protects


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_what_a_neuron_remembers_is_a_constant(backend: kernels.Backend) -> None:
    zero = torch.zeros(2, 3)
    mean = zero.clone().requires_grad_()
    values, potential, *_ = kernels.msat_scan(
        torch.rand(4, 2, 3), zero, mean, zero, 1, torch.tensor(0.8), **PAPER, backend=backend
    )
    assert not values.requires_grad
    assert not potential.requires_grad


def test_more_powers_than_an_integer_has_bits_are_rounded_to() -> None:
    problem = (torch.rand(6, 2, 3), torch.zeros(2, 3), torch.tensor(0.75))
    scan = adaptive(kernels.msat_scan, **PAPER, payload=70)
    found, wanted = (gradients(scan, problem, backend)[1] for backend in ("cpu", "reference"))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_second_derivative_is_refused_and_not_zero(backend: kernels.Backend) -> None:
    zero, one = torch.zeros(2, 3), torch.ones(1, 3)
    problem = (torch.rand(4, 2, 3).requires_grad_(), zero)
    rows = (one, 0.5 * one, 0 * one)
    scans = (
        lambda: kernels.if_scan(*problem, torch.tensor(0.8), backend=backend)[0],
        lambda: kernels.graded_scan(*problem, zero, *rows, backend=backend)[0],
        lambda: kernels.signed_msat_scan(*problem, zero, zero, zero, 0, *rows, **PAPER, backend=backend)[0],
    )
    for scan in scans:
        (slope,) = torch.autograd.grad(scan().square().sum(), problem[0], create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            slope.sum().backward()
