"""The kernels for graphics processors against their references: `test_triton.py` runs this file.

It does so in a process of its own, with TRITON_INTERPRET=1 set before Triton is imported, and on a CUDA device where
there is one.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import (
    BDETT,
    PAPER,
    RULES,
    bdett_constants,
    bdett_flat,
    check_bdett_steps,
    check_msat_steps,
    check_signed_msat_steps,
    constants,
    flags,
    graded_problems,
    in_chunk,
    msat_flat,
    problems,
    signed_msat,
)
from torch import Tensor, nn

import rheobase as rb
from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.kernels import reference

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

overflows = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning")
few = settings(deadline=None, max_examples=40)


def moved(tensor: Tensor) -> Tensor:
    """The tensor on the device of the kernels; a constant current stays unrepeated."""
    constant = tensor.ndim > 0 and tensor.stride(0) == 0
    return tensor[:1].to(DEVICE).expand(tensor.shape) if constant else tensor.to(DEVICE)


if_scan = partial(kernels.if_scan, backend="triton")
graded_scan = partial(kernels.graded_scan, backend="triton")
adapt = partial(msat_flat, kernels, backend="triton")
follow = partial(bdett_flat, kernels, backend="triton")


@given(problems(), st.booleans())
@few
def test_if_equals_its_reference_bit_for_bit(problem: tuple[Tensor, Tensor, Tensor], hard: bool) -> None:
    current, potential, threshold = (moved(tensor) for tensor in problem)
    ours = if_scan(current, potential, threshold, hard_reset=hard)
    plain = reference.if_scan(current, potential, threshold, hard_reset=hard)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@overflows
@pytest.mark.parametrize("shape", [(3, 512, 1, 1), (2, 8, 16, 8), (1, 700), (3, 700), (2, 3)])
@pytest.mark.parametrize("constant", [False, True])
def test_a_scan_counts_the_spikes_of_each_step_and_sample(shape: tuple[int, ...], constant: bool) -> None:
    """In the scan itself where a block has neurons of one sample, by a second kernel elsewhere."""
    torch.manual_seed(0)
    current = torch.randn(1 if constant else 5, *shape).to(DEVICE)
    if len(shape) == 4:
        current = current.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (-1, shape[0]))
    current = current.expand(5, *shape)
    zero, one = torch.zeros(shape, device=DEVICE), torch.ones((), device=DEVICE)
    counts = torch.full((5, shape[0]), -1, device=DEVICE)
    scans: list[Any] = [
        lambda: if_scan(current, zero, one, counts=counts),
        lambda: kernels.msat_scan(current, zero, zero, zero, 0, one, counts=counts, backend="triton", **PAPER),
    ]
    for scan in scans:
        values = scan()[0]
        assert torch.equal(counts, kernels.count_by_sample(values, backend="reference"))
        assert counts.sum() > 0


@given(graded_problems(), RULES)
@few
def test_graded_spikes_equal_the_reference_bit_for_bit(problem: list[Tensor], rule: dict[str, Any]) -> None:
    tensors = [moved(tensor) for tensor in problem]
    ours, plain = graded_scan(*tensors, **rule), reference.graded_scan(*tensors, **rule)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@overflows
@given(problems(), constants, flags, st.integers(0, 40), st.integers(0, 5))
@few
def test_each_msat_step_equals_its_reference_except_where_rounding_decides(
    problem: tuple[Tensor, Tensor, Tensor],
    numbers: dict[str, float],
    switches: dict[str, bool],
    done: int,
    payload: int,
) -> None:
    current, potential, threshold = (moved(tensor) for tensor in problem)
    check_msat_steps("triton", (current, potential, threshold), numbers, switches, done, payload)


@overflows
@given(problems(), bdett_constants, st.integers(0, 40))
@few
def test_each_bdett_step_equals_its_reference_except_where_rounding_decides(
    problem: tuple[Tensor, Tensor, Tensor], numbers: dict[str, float], done: int
) -> None:
    current, potential, threshold = (moved(tensor) for tensor in problem)
    check_bdett_steps("triton", (current, potential, threshold), numbers, done)


@overflows
@given(graded_problems(), constants, flags, st.integers(0, 40))
@few
def test_each_signed_msat_step_equals_its_reference_except_where_rounding_decides(
    problem: list[Tensor], numbers: dict[str, float], switches: dict[str, bool], done: int
) -> None:
    check_signed_msat_steps("triton", [moved(tensor) for tensor in problem], numbers, switches, done)


@overflows
@given(problems(), st.integers(1, 5))
@few
def test_chunks_carry_the_state_and_equal_one_scan_bit_for_bit(
    problem: tuple[Tensor, Tensor, Tensor], chunk: int
) -> None:
    current, potential, threshold = (moved(tensor) for tensor in problem)
    values, after = if_scan(current, potential, threshold)
    v, fired = potential, []
    for x in current.split(chunk):
        y, v = if_scan(x, v, threshold)
        fired.append(y)
    assert torch.equal(torch.cat(fired), values)
    assert torch.equal(v, after)
    for scan in (partial(kernels.msat_scan, **PAPER), partial(kernels.bdett_scan, **BDETT)):
        state = [potential, torch.zeros_like(potential), torch.zeros_like(potential)]
        whole = scan(current, *state, 0, threshold, backend="triton")
        adapted, done = [], 0
        for x in current.split(chunk):
            y, *state = scan(x, *state, done, threshold, backend="triton")
            adapted.append(y)
            done += len(x)
        assert all(torch.equal(a, b) for a, b in zip((torch.cat(adapted), *state), whole, strict=True))


@overflows
@given(graded_problems(), RULES)
@few
def test_a_schedule_goes_on_in_the_next_chunk(problem: list[Tensor], rule: dict[str, Any]) -> None:
    problem = [moved(tensor) for tensor in problem]
    current, v, r, *rows = problem
    zero = torch.zeros_like(v)
    whole, adapted = graded_scan(*problem, **rule), signed_msat(problem, backend="triton")
    values, sent, state = [], [], [v, r, zero, zero]
    for k in range(len(current)):
        now = [p if len(p) == 1 else p[k : k + 1] for p in rows]
        y, v, r = graded_scan(current[k : k + 1], v, r, *now, **in_chunk(rule, k))
        values.append(y)
        y, *state = kernels.signed_msat_scan(current[k : k + 1], *state, k, *now, **PAPER, backend="triton")
        sent.append(y)
    assert all(torch.equal(a, b) for a, b in zip((torch.cat(values), v, r), whole, strict=True))
    assert all(torch.equal(a, b) for a, b in zip((torch.cat(sent), *state), adapted, strict=True))


@pytest.mark.parametrize("shape", [(1,), (1023,), (1024,), (1025,), (2, 5, 31, 33)])
def test_blocks_that_are_not_full_write_nothing_beyond_their_neurons(shape: tuple[int, ...]) -> None:
    x = torch.rand(3, *shape, device=DEVICE)
    room = torch.full((x.numel() + 2048,), -7.0, device=DEVICE)
    current = room[: x.numel()].view(x.shape).copy_(x)
    values, _ = if_scan(current, torch.zeros_like(x[0]), torch.tensor(0.7, device=DEVICE), overwrite=True)
    assert values.data_ptr() == room.data_ptr()
    assert torch.equal(values, reference.if_scan(x, torch.zeros_like(x[0]), torch.tensor(0.7, device=DEVICE))[0])
    assert (room[x.numel() :] == -7).all()


@overflows
@given(problems())
@few
def test_overwriting_changes_no_value_and_arguments_are_kept_without_it(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    for scan in (if_scan, adapt, follow):
        current, potential, threshold = (moved(tensor) for tensor in problem)
        before = [tensor.clone() for tensor in (current, potential, threshold)]
        expected = scan(current, potential, threshold)
        assert all(map(torch.equal, before, (current, potential, threshold)))
        current = current.clone() if current.stride(0) else current
        taken = scan(current, potential, threshold, overwrite=True)
        assert all(torch.equal(a, b) for a, b in zip(taken, expected, strict=True))


@given(problems())
@few
def test_folding_time_into_the_batch_is_free_and_keeps_the_memory_order(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    current, potential, threshold = (moved(tensor) for tensor in problem)
    values, after = if_scan(current, potential, threshold)
    assert values.shape == current.shape
    assert after.shape == potential.shape
    if current.ndim > 1:
        assert values.flatten(0, 1).data_ptr() == values.data_ptr()
    if current.ndim == 5 and current[0].is_contiguous(memory_format=torch.channels_last):
        assert values.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@given(problems())
@few
def test_counting_equals_its_reference(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    values = moved(problem[0]).clamp(min=0)
    values[values > 1] = torch.nan
    for tensor in (values, values[:1].expand(3, *values.shape[1:])):
        ours = kernels.count_nonzero(tensor, backend="triton")
        assert ours.dtype == torch.int64
        assert torch.equal(ours, reference.count_nonzero(tensor))


@overflows
def test_a_nan_stays_with_its_neuron_and_never_spikes_where_the_reference_does_not() -> None:
    current, zero = torch.rand(6, 4, device=DEVICE), torch.zeros(4, device=DEVICE)
    current[2, 1] = torch.nan
    for scan in (if_scan, adapt, follow):
        values, potential = scan(current, zero, torch.tensor(0.3, device=DEVICE))[:2]
        assert potential.isnan().tolist() == [False, True, False, False]
        assert not values.isnan().any()
        assert not values[2:, 1].any()
    rows = [torch.full((1, 1), value, device=DEVICE) for value in (0.3, 0.5, 0.0)]
    for powers in (False, True):
        ours = graded_scan(current, zero, zero, *rows, levels=2, powers=powers)
        plain = reference.graded_scan(current, zero, zero, *rows, 2, powers, True, True)
        assert all(a.equal(b) for a, b in zip(map(torch.isnan, ours), map(torch.isnan, plain), strict=True))
    ours, plain = (signed_msat([current, zero, zero, *rows], backend=b) for b in ("triton", "reference"))
    assert all(a.equal(b) for a, b in zip(map(torch.isnan, ours), map(torch.isnan, plain), strict=True))


@overflows
def test_a_threshold_of_zero_gives_no_nan_and_an_overflowing_exponential_the_maximum() -> None:
    x, v = torch.randn(5, 2, 3, device=DEVICE), torch.zeros(2, 3, device=DEVICE)
    m = torch.tensor([0.0, 1.0, 0.0], device=DEVICE)
    for ours, plain in zip(adapt(x, v, m), msat_flat(reference, x, v, m), strict=True):
        torch.testing.assert_close(ours, plain)
    low, one, zero, last = (torch.full((1,), value, device=DEVICE) for value in (-0.25, 1.0, 0.0, 1e4))
    steep = {**PAPER, "c": 1.0}
    m = torch.tensor(0.5, device=DEVICE)
    assert kernels.msat_scan(low[None], one, zero, last, 3, m, **steep, backend="triton")[0].item() == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_go_to_the_reference_and_by_hand_are_refused(dtype: torch.dtype) -> None:
    tensors = [torch.full(size, 0.5, dtype=dtype, device=DEVICE) for size in ((3, 4), (4,), ())]
    assert if_scan.func(*tensors)[0].dtype == dtype
    with pytest.raises(SettingError, match=f"float32, and a tensor is {dtype}"):
        if_scan(*tensors)


def test_a_gradient_is_refused_also_for_graded_neurons() -> None:
    x, zero = torch.rand(3, 2, 4, device=DEVICE), torch.zeros(2, 4, device=DEVICE)
    rows = [torch.full((1, 1), value, device=DEVICE) for value in (0.3, 0.5, 0.0)]
    rows[0].requires_grad_()
    with pytest.raises(SettingError, match="requires grad"):
        graded_scan(x, zero, zero, *rows)
    with pytest.raises(SettingError, match="requires grad"):
        signed_msat([x, zero, zero, *rows], backend="triton")
    values, _, _ = kernels.graded_scan(x, zero, zero, *rows)
    assert torch.autograd.grad(values.sum(), rows[0])[0].isfinite()


@pytest.mark.parametrize("method", [rb.ConstantThreshold(), rb.DeltaCoding()])
def test_a_network_sends_the_same_spikes(method: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(5, 2, 6, 6)
    snn = rb.convert(net, x, method).to(DEVICE)
    found = []
    for backend in ("reference", "triton"):
        snn.backend = backend  # type: ignore[assignment]
        run = rb.simulate(snn, x.to(DEVICE), 8)
        found.append([run.output, *run.spikes.values()])
    assert sum(int(count.sum()) for count in found[0][1:]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
