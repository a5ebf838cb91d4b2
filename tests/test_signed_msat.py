"""The kernels of signed MSAT, with their gradients, against plain PyTorch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scans import PAPER, check_signed_msat_steps, constants, flags, graded_problems, signed_msat
from torch import Tensor

from rheobase import kernels
from rheobase.kernels import cpu
from rheobase.neurons import SignedMSAT
from rheobase.neurons.msat import Adaptation

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

ADAPTATIONS = [Adaptation(), Adaptation.vgg16(), Adaptation(depolarisation="current", units="raw", tau_rd_twice=False)]


@given(graded_problems(), constants, flags, st.integers(0, 40))
@settings(deadline=None)
def test_each_step_equals_its_reference_except_where_rounding_decides(
    problem: list[Tensor], numbers: dict[str, float], switches: dict[str, bool], done: int
) -> None:
    check_signed_msat_steps("cpu", problem, numbers, switches, done)


@given(graded_problems(), flags, st.integers(1, 5))
@settings(deadline=None)
def test_chunks_equal_one_scan_bit_for_bit(problem: list[Tensor], switches: dict[str, bool], chunk: int) -> None:
    current, potential, sent, *rows = problem
    whole = signed_msat(problem, **switches, backend="cpu")
    zero = torch.zeros_like(potential)
    state, values, done = [potential, sent, zero, zero], [], 0
    for x in current.split(chunk):
        now = [p if len(p) == 1 else p[done : done + len(x)] for p in rows]
        y, *state = kernels.signed_msat_scan(x, *state, done, *now, **PAPER, **switches, backend="cpu")
        values.append(y)
        done += len(x)
    assert all(torch.equal(a, b) for a, b in zip((torch.cat(values), *state), whole, strict=True))


@given(graded_problems())
@settings(deadline=None, max_examples=30)
def test_arguments_are_left_as_they_were_and_values_keep_the_memory_order(problem: list[Tensor]) -> None:
    before = [tensor.clone() for tensor in problem]
    values = signed_msat(problem, backend="cpu")[0]
    assert all(map(torch.equal, before, problem))
    if values.ndim == 5 and problem[0][0].is_contiguous(memory_format=torch.channels_last):
        assert values.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def gradients(problem: list[Tensor], **keywords: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The values, and the gradients of a weighted sum of them and of the last states with respect to all arguments."""
    leaves = [t.clone().requires_grad_() for t in problem]
    values, v, r, mean, last = signed_msat(leaves, **keywords)
    assert not mean.requires_grad
    assert not last.requires_grad
    weights = torch.linspace(-1, 2, values.numel()).view(values.shape)
    return values.detach(), torch.autograd.grad((values * weights).sum() + v.square().sum() - 0.5 * r.sum(), leaves)


def check_gradients(problem: list[Tensor], **keywords: Any) -> None:
    (ours, found), (plain, wanted) = (gradients(problem, **keywords, backend=b) for b in ("cpu", "reference"))
    assert torch.equal(ours, signed_msat(problem, **keywords, backend="cpu")[0])  # those of the tests above
    assume(bool(((ours - plain).abs() < 1e-4).all()))  # rounding decided nothing
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * (1 + float(b.abs().max())))


@given(graded_problems(), flags, st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_gradients_equal_the_reference(problem: list[Tensor], switches: dict[str, bool], done: int) -> None:
    check_gradients(problem, **switches, done=done)


@given(graded_problems())
@settings(deadline=None, max_examples=30)
def test_gradients_share_ties_as_the_reference_does(problem: list[Tensor]) -> None:
    """Where v_pre = -r, and where th s = -r: nothing was sent and nothing is, as for most neurons at first.

    Without adaptation th = M / 2, so that both backends add up the same quarters, and rounding breaks no tie.
    """
    current, potential, sent, threshold, *rest = (t.mul(4).round().div(4) for t in problem)
    fire = problem[4]
    if current[0].numel() > 1000:
        assert (current[0] + potential == -sent).any()
    check_gradients([current, potential, sent, threshold.clamp(min=0.25), fire, rest[1]], use_dtt=False, use_det=False)


@given(graded_problems(), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_gradients_flow_from_chunk_to_chunk(problem: list[Tensor], chunk: int) -> None:
    _, whole = gradients(problem, backend="cpu")
    leaves = [t.clone().requires_grad_() for t in problem]
    current, v, r, *rows = leaves
    mean = last = torch.zeros_like(v).detach()
    values: list[Tensor] = []
    for x in current.split(chunk):
        done = sum(map(len, values))
        now = [p if len(p) == 1 else p[done : done + len(x)] for p in rows]
        y, v, r, mean, last = kernels.signed_msat_scan(x, v, r, mean, last, done, *now, **PAPER, backend="cpu")
        values.append(y)
    sent = torch.cat(values)
    weights = torch.linspace(-1, 2, sent.numel()).view(sent.shape)
    chunked = torch.autograd.grad((sent * weights).sum() + v.square().sum() - 0.5 * r.sum(), leaves)
    for a, b in zip(chunked, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * (1 + float(b.abs().max())))


def test_the_number_of_threads_changes_no_bit() -> None:
    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 16, 24, 24, generator=generator)
    zero = torch.zeros(8, 16, 24, 24)
    problem = [x, zero, zero, torch.full((4, 16), 0.5), torch.full((1, 1), 0.5), torch.zeros(1, 1)]
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(gradients(problem, backend="cpu"))
    finally:
        torch.set_num_threads(before)
    (one, found), (two, same) = results
    assert torch.equal(one, two)
    assert all(map(torch.equal, found, same))


@pytest.mark.parametrize("shape", [(), (5,), (4, 5), (6, 1)])
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_the_neuron_sends_the_same_with_any_backend(shape: tuple[int, ...], adaptation: Adaptation) -> None:
    generator = torch.Generator().manual_seed(0)
    rand = partial(torch.rand, generator=generator)
    neuron = SignedMSAT(0.5 + rand(shape), adaptation, 0.4 + 0.3 * rand(shape), 0.1 * rand(shape))
    x = 0.5 * torch.randn(8, 3, 5, 4, 4, generator=generator) + 0.3
    sent = []
    for backend, sizes in (("reference", 8), ("cpu", 8), ("cpu", 3), ("auto", 1)):
        neuron.reset()
        neuron.backend = backend  # type: ignore[assignment]
        sent.append(torch.cat([neuron(part) for part in x.split(sizes)]))
    torch.testing.assert_close(sent[1], sent[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(sent[2], sent[1])
    assert torch.equal(sent[3], sent[1])


def test_other_precisions_go_to_the_reference_with_their_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 4), (2, 4), (2, 4), (1, 4), (1, 4), (1, 4)]
    problem = [0.5 + torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
    (ours, found), (plain, wanted) = (gradients(problem, backend=b) for b in ("auto", "reference"))
    assert ours.dtype == torch.float64
    assert torch.equal(ours, plain)
    assert all(map(torch.equal, found, wanted))


def test_a_nan_is_sent_on_and_stays_with_its_neuron() -> None:
    current = torch.rand(6, 3, 4)
    current[2, 1, 1] = torch.nan
    zero, one = torch.zeros(3, 4), torch.ones(1, 1)
    problem = [current, zero, zero, one, 0.5 * one, 0 * one]
    ours, plain = (signed_msat(problem, backend=b) for b in ("cpu", "reference"))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    assert ours[0].isnan().sum() == 4
