"""The fused kernels against their plain PyTorch references."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scans import (
    BDETT,
    PAPER,
    bdett_constants,
    bdett_flat,
    check_bdett_steps,
    check_msat_steps,
    constants,
    flags,
    msat,
    msat_flat,
    problems,
)
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.kernels import cpu, reference
from rheobase.kernels.surrogate import spikes_of
from rheobase.neurons import IF, Adaptation, Biased, GradedIF

needs_numba = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
pytestmark = needs_numba


@given(problems(), st.booleans())
def test_if_equals_its_reference_bit_for_bit(problem: tuple[Tensor, Tensor, Tensor], hard: bool) -> None:
    ours = kernels.if_scan(*problem, hard_reset=hard, backend="cpu")
    plain = reference.if_scan(*problem, hard_reset=hard)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@given(problems())
def test_folding_time_into_the_batch_is_free_and_keeps_the_memory_order(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    current, potential, threshold = problem
    values, after = kernels.if_scan(current, potential, threshold, backend="cpu")
    assert values.shape == current.shape
    assert after.shape == potential.shape
    if current.ndim > 1:
        assert values.flatten(0, 1).data_ptr() == values.data_ptr()
    if current.ndim == 5 and current[0].is_contiguous(memory_format=torch.channels_last):
        assert values.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@given(problems())
def test_arguments_are_left_as_they_were(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    before = [tensor.clone() for tensor in problem]
    kernels.if_scan(*problem, backend="cpu")
    msat(kernels, problem, backend="cpu")
    bdett_flat(kernels, *problem, backend="cpu")
    assert all(torch.equal(a, b) for a, b in zip(before, problem, strict=True))


@given(problems())
def test_overwriting_the_current_changes_no_value(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    for scan in (kernels.if_scan, partial(msat_flat, kernels), partial(bdett_flat, kernels)):
        scan = partial(scan, backend="cpu")
        current, potential, threshold = problem
        expected = scan(current, potential, threshold)
        current = current.clone() if current.stride(0) else current
        values, *state = scan(current, potential, threshold, overwrite=True)
        assert all(torch.equal(a, b) for a, b in zip((values, *state), expected, strict=True))


def test_overwriting_needs_permission_and_a_current_of_its_own() -> None:
    current, potential, threshold = torch.rand(2, 3, 4), torch.zeros(3, 4), torch.tensor(1.0)
    kept = kernels.if_scan(current, potential, threshold, backend="cpu")[0]
    assert kept.data_ptr() != current.data_ptr()
    constant = current[:1].expand(2, 3, 4)
    taken = kernels.if_scan(constant, potential, threshold, overwrite=True, backend="cpu")[0]
    assert taken.data_ptr() != current.data_ptr()
    taken = kernels.if_scan(current, potential, threshold, overwrite=True, backend="cpu")[0]
    assert taken.data_ptr() == current.data_ptr()
    assert torch.equal(taken, kept)


@pytest.mark.parametrize("scan", [partial(kernels.msat_scan, **PAPER), partial(kernels.bdett_scan, **BDETT)])
@given(problem=problems(), chunk=st.integers(1, 5))
def test_adaptive_scans_in_chunks_equal_one_scan_bit_for_bit(
    scan: Any, problem: tuple[Tensor, Tensor, Tensor], chunk: int
) -> None:
    current, potential, threshold = problem
    state = [potential, torch.zeros_like(potential), torch.zeros_like(potential)]
    whole = scan(current, *state, 0, threshold, backend="cpu")
    parts, done = [], 0
    for x in current.split(chunk):
        values, *state = scan(x, *state, done, threshold, backend="cpu")
        parts.append(values)
        done += len(x)
    assert torch.equal(torch.cat(parts), whole[0])
    assert all(torch.equal(a, b) for a, b in zip(state, whole[1:], strict=True))


@given(problems(), constants, flags, st.integers(0, 40), st.integers(0, 5))
def test_each_msat_step_equals_its_reference_except_where_rounding_decides(
    problem: tuple[Tensor, Tensor, Tensor],
    numbers: dict[str, float],
    switches: dict[str, bool],
    done: int,
    payload: int,
) -> None:
    check_msat_steps("cpu", problem, numbers, switches, done, payload)


@given(problems(), bdett_constants, st.integers(0, 40))
def test_each_bdett_step_equals_its_reference_except_where_rounding_decides(
    problem: tuple[Tensor, Tensor, Tensor], numbers: dict[str, float], done: int
) -> None:
    check_bdett_steps("cpu", problem, numbers, done)


@given(problems())
def test_counted_spikes_are_those_sent(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    assume(problem[0].ndim > 1)  # there are samples
    msats = (partial(msat_flat, kernels, payload=payload) for payload in (0, 3))
    for scan in (kernels.if_scan, *msats, partial(bdett_flat, kernels)):
        counts = torch.full(problem[0].shape[:2], -1)
        values = scan(*problem, counts=counts, backend="cpu")[0]
        assert torch.equal(counts, kernels.count_by_sample(values, backend="reference"))


def test_msat_fires_just_above_its_threshold_and_not_just_below() -> None:
    v, mean, m = torch.randn(1000), torch.randn(1000), torch.tensor(0.8)
    keywords = {**PAPER, "use_det": False}  # so that the threshold does not depend on x
    th = reference.msat_threshold((v - mean).double(), v.double(), m.double(), **keywords)
    for factor in (1 - 2e-6, 1 + 2e-6):
        x = (th * factor - v).float()
        values = kernels.msat_scan(x[None], v, mean, v, 5, m, **keywords, backend="cpu")[0]
        clear = ((x + v) / th - factor).abs() < 1e-6  # x + v may round
        assert clear.float().mean() > 0.9
        assert ((values[0] != 0) == (factor > 1))[clear].all()


@given(problems(), flags, st.integers(0, 5))
def test_msat_conserves_charge(problem: tuple[Tensor, Tensor, Tensor], switches: dict[str, bool], payload: int) -> None:
    """sum_t y(t) = v(0) + sum_t x(t) - v(T), whichever way the close decisions went."""
    current, potential, _ = problem
    values, after, _, last = msat(kernels, problem, backend="cpu", payload=payload, **switches)
    left = values.double().sum(0) + after.double()
    right = current.double().sum(0) + potential.double()
    assert (left - right).abs().max() < 1e-5
    torch.testing.assert_close(last, after + values[-1])


def test_a_long_msat_scan_emits_what_its_reference_emits() -> None:
    current = torch.rand(1, 4, 6, 8, 8).expand(64, 4, 6, 8, 8)
    problem = (current, torch.zeros(4, 6, 8, 8), torch.linspace(0.5, 1.5, 6).view(6, 1, 1))
    ours, plain = msat(kernels, problem, backend="cpu")[0], msat(reference, problem)[0]
    assert ((ours != 0) == (plain != 0)).float().mean() > 0.99
    assert (ours.mean(0) - plain.mean(0)).abs().max() < 1.6 / 64  # at most one spike apart


@pytest.mark.parametrize("drive_is_current", [True, False])
def test_a_threshold_whose_exponential_overflows_is_the_maximum(drive_is_current: bool) -> None:
    current = torch.tensor([[1.0], [-1e6], [2e6]])
    problem = (current, torch.zeros(1), torch.tensor(0.5))
    values = msat(kernels, problem, backend="cpu", c=1.0, drive_is_current=drive_is_current)
    assert all(tensor.isfinite().all() for tensor in values)
    steep = {**PAPER, "c": 1.0}
    state = (torch.ones(1), torch.zeros(1), torch.full((1,), 1e4))
    low = kernels.msat_scan(torch.full((1, 1), -0.25), *state, 3, torch.tensor(0.5), **steep, backend="cpu")
    assert low[0].item() == 0.5


@pytest.mark.parametrize("payload", [0, 4])
def test_a_threshold_of_zero_gives_no_nan(payload: int) -> None:
    problem = (torch.randn(5, 2, 3), torch.zeros(2, 3), torch.tensor([0.0, 1.0, 0.0]))
    ours, plain = msat(kernels, problem, backend="cpu", payload=payload), msat(reference, problem, payload=payload)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)
    current = problem[0].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(msat(reference, (current, *problem[1:]), payload=payload)[0].sum(), current)
    assert bool(slope.isfinite().all())


def test_a_nan_stays_with_its_neuron_and_never_spikes() -> None:
    current = torch.rand(6, 4)
    current[2, 1] = torch.nan
    for scan in (kernels.if_scan, partial(msat_flat, kernels), partial(bdett_flat, kernels)):
        values, potential = scan(current, torch.zeros(4), torch.tensor(0.3), backend="cpu")[:2]
        assert potential.isnan().tolist() == [False, True, False, False]
        assert not values.isnan().any()
        assert not values[2:, 1].any()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([(1, 1), (3, 1000), (2, 5, 7), (2, 20_000)]))
def test_counting_equals_its_reference(seed: int, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).clamp(min=0)
    values[values > 1] = torch.nan
    constant = values[:1].expand(3, *shape[1:])
    for tensor in (values, values.mT, -values, constant, values[::2], values[..., ::2]):
        ours = kernels.count_nonzero(tensor, backend="cpu")
        assert ours.dtype == torch.int64
        assert torch.equal(ours, reference.count_nonzero(tensor))


def test_counting_is_exact_in_channels_last_order() -> None:
    values = torch.randn(12, 5, 9, 9).relu().to(memory_format=torch.channels_last).unflatten(0, (3, 4))
    assert torch.equal(kernels.count_nonzero(values, backend="cpu"), reference.count_nonzero(values))


@pytest.mark.parametrize(
    ("row", "function", "bound"),
    [
        (0, np.exp, 1e-7),
        (1, lambda x: np.logaddexp(0, x), 3e-7),
        (2, lambda x: 1 / (1 + np.exp(-x)), 2e-7),
    ],
)
def test_the_polynomials_have_their_stated_relative_error(row: int, function: Any, bound: float) -> None:
    x = torch.cat([torch.linspace(-87, 87, 2_000_001), torch.linspace(-2, 2, 1_000_001)])
    exact = function(x.double().numpy())
    error = np.abs(cpu.functions(x)[row].numpy() / exact - 1)
    assert error.max() < bound


def test_exponentials_saturate_outside_their_range() -> None:
    x = torch.tensor([-torch.inf, -1e30, -88.0, 88.0, 1e30, torch.inf])
    exp, softplus, sigmoid = cpu.functions(x)
    assert exp.isfinite().all()
    assert (exp[:3] < 2e-38).all()
    assert (exp[3:] > 6e37).all()
    assert torch.equal(softplus[3:], x[3:])
    assert torch.equal(sigmoid[3:], torch.ones(3))


def test_the_number_of_threads_changes_no_bit() -> None:
    problem = (torch.rand(8, 16, 8, 16, 16), torch.zeros(16, 8, 16, 16), torch.tensor(0.6))
    many = msat(kernels, problem, backend="cpu")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = msat(kernels, problem, backend="cpu")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


def test_kernels_may_be_called_from_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = (torch.rand(8, 16, 8, 16, 16), torch.zeros(16, 8, 16, 16), torch.tensor(0.6))
    expected = kernels.if_scan(*problem, backend="reference")[0]
    for openmp in (cpu._openmp(), None):
        monkeypatch.setattr(cpu, "_openmp", lambda openmp=openmp: openmp)
        results: list[Tensor] = []

        def work(results: list[Tensor] = results) -> None:
            results.extend(kernels.if_scan(*problem, backend="cpu")[0] for _ in range(5))

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 15
        assert all(torch.equal(result, expected) for result in results)


def test_what_the_kernels_cannot_take_goes_to_the_reference() -> None:
    current, potential, threshold = torch.rand(3, 4, dtype=torch.float64), torch.zeros(4), torch.tensor(0.5)
    assert not kernels.available(current, potential, threshold)
    assert kernels.if_scan(current, potential.double(), threshold.double())[0].dtype == torch.float64
    with pytest.raises(SettingError, match="float32"):
        kernels.if_scan(current, potential, threshold, backend="cpu")

    trained = torch.tensor(0.5, requires_grad=True)
    kernels.if_scan(current.float(), potential, trained)[0].sum().backward()
    assert trained.grad is not None
    with torch.no_grad():
        assert kernels.available(current.float(), potential, trained)

    empty = kernels.if_scan(torch.empty(0, 4), potential, threshold)
    assert empty[0].shape == (0, 4)
    assert torch.equal(empty[1], potential)


def test_backends_say_why_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.backends()["cpu"] == kernels.backends()["reference"] == "ok"
    monkeypatch.setattr(cpu, "unavailable", lambda: "Numba cannot be imported")
    assert kernels.backends()["cpu"] == "Numba cannot be imported"
    assert not kernels.available(torch.zeros(1))
    assert kernels.if_scan(torch.ones(2, 1), torch.zeros(1), torch.tensor(1.0))[0].sum() == 2
    with pytest.raises(SettingError, match="Numba cannot be imported"):
        kernels.count_nonzero(torch.ones(2, 1), backend="cpu")


@pytest.mark.parametrize("hard", [False, True])
def test_the_slopes_of_integrate_and_fire_change_no_value(hard: bool) -> None:
    current = torch.randn(6, 5, 3) * 0.6
    threshold = torch.tensor([0.5, 1.0, 0.7])
    plain = kernels.if_scan(current, torch.zeros(5, 3), threshold, hard_reset=hard)
    leaf = threshold.clone().requires_grad_(True)
    found = kernels.if_scan(current, torch.zeros(5, 3), leaf, hard_reset=hard)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    found[0].sum().backward()
    assert bool((leaf.grad != 0).all())


@pytest.mark.parametrize(
    ("x", "fires", "near", "below"),
    [(-0.1, 0, 0, 0), (0.2, 0, 0, 1), (0.4, 0, 1, 1), (1.1, 1, 1, 1), (1.4, 1, 1, 0), (1.8, 1, 0, 0)],
)
def test_a_spike_has_the_slope_of_a_ramp_around_its_threshold(x: float, fires: int, near: int, below: int) -> None:
    current, threshold = torch.full((1, 1), 2 * x, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    values, potential = kernels.if_scan(current, torch.zeros(1), threshold)
    assert values.item() == 2 * fires
    gradients = torch.autograd.grad(values.sum(), (current, threshold), retain_graph=True)
    assert [g.item() for g in gradients] == pytest.approx([near, fires - x * below])  # y = M s(x / M)
    (rest,) = torch.autograd.grad(potential.sum(), current)
    assert rest.item() == 1 - near


@pytest.mark.parametrize(("payload", "size"), [(0, 0.4), (4, 0.5), (1, 1.0)])
@pytest.mark.parametrize(
    ("q", "fires", "near", "below"), [(0.2, 0, 0, 1), (0.4, 0, 1, 1), (1.1, 1, 1, 1), (1.8, 1, 0, 0)]
)
def test_a_share_of_the_threshold_and_its_rounding_are_constants_of_the_slope(
    payload: int, size: float, q: float, fires: int, near: int, below: int
) -> None:
    """th = 0.4 M, and what is sent of it is 0.4, 0.5 or 1 M."""
    m, v = torch.tensor(2.0, requires_grad=True), torch.tensor([0.8 * q], requires_grad=True)
    values = spikes_of(v, m, torch.tensor([0.4]), payload)
    assert values.item() == pytest.approx(2 * size * fires)
    gradients = torch.autograd.grad(values.sum(), (v, m))
    assert [g.item() for g in gradients] == pytest.approx([near * size / 0.4, size * (fires - q * below)])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_threshold_that_underflows_is_rounded_to_the_smallest_power(backend: Any) -> None:
    rule = {**PAPER, "v_t": -1.0, "raw_units": True}
    zero = torch.zeros(1)
    values = kernels.msat_scan(
        torch.full((6, 1), 60.0), zero, zero, zero, 0, torch.tensor(300.0), **rule, payload=4, backend=backend
    )[0]
    assert values.flatten().tolist() == [0.0, *[37.5] * 5]


def test_the_slopes_are_those_of_a_graded_neuron_that_fires_at_a_half() -> None:
    current, threshold = torch.randn(8, 5, 3) * 0.6, torch.tensor([0.5, 1.0, 0.7])
    found = []
    graded = GradedIF(threshold, signed=False, memory=False)
    for neuron, start in ((IF(threshold), threshold / 2), (graded, 0 * threshold)):
        x = current.clone().requires_grad_(True)
        neuron.threshold = threshold.clone().requires_grad_(True)
        values = Biased(neuron, potential=start)(x)
        weights = torch.linspace(-1, 1, values.numel()).view_as(values)
        found.append((values.detach(), torch.autograd.grad((values * weights).sum(), x)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert bool((found[0][1] == 0).any())
    assert bool((found[0][0] != 0).any())


def test_the_slopes_of_msat_take_the_share_of_its_threshold_for_constant() -> None:
    rule = Adaptation.resnet20().arguments()
    current, state = torch.randn(5, 4, 3).abs() * 0.7, [torch.zeros(4, 3) for _ in range(3)]
    one = torch.tensor(1.0)
    plain = kernels.msat_scan(current, *state, 0, one, **rule, backend="reference")
    leaf = one.clone().requires_grad_(True)
    found = kernels.msat_scan(current, *state, 0, leaf, **rule)
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(b.detach(), a, rtol=1e-6, atol=1e-6)
    grown = kernels.msat_scan(3 * current, *state, 0, 3 * leaf, **rule)[0]  # scales with M, in normalised units
    (whole,) = torch.autograd.grad(grown.sum(), leaf)
    (third,) = torch.autograd.grad(found[0].sum(), leaf)
    assert whole.item() == pytest.approx(3 * third.item(), rel=1e-4)
    assert third.item() != 0
