"""The fused kernels of layer-synchronous neurons against their plain PyTorch code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scans import problems
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.kernels import cpu
from rheobase.neurons import Neuron, OffsetIF, Parallel, Probabilistic, Radix
from rheobase.neurons.synchronous import AveragedParallel

needs_numba = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
pytestmark = needs_numba


def answer(neuron: Neuron, current: Tensor, backend: str, **options: Any) -> tuple[Tensor, Tensor | None]:
    """The values, and how many of each step and sample are not 0."""
    neuron.backend = backend  # type: ignore[assignment]
    neuron.reset()
    counts = torch.full(current.shape[:2], -1) if current.ndim > 1 else None
    return neuron(current, counts=counts, **options), counts


def equal(neuron: Neuron, current: Tensor, **options: Any) -> None:
    wanted, number = answer(neuron, current.clone() if options else current, "reference")
    found, counts = answer(neuron, current, "cpu", **options)
    assert torch.equal(found, wanted)
    if counts is not None and number is not None:
        assert torch.equal(counts, number)


def parameter(draw: st.DrawFn, channels: int | None, low: float) -> Tensor:
    """Of shape (), or (C,) where there are channels; multiples of an eighth, of which sums are exact."""
    sizes = [()] if channels is None else [(), (channels,)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.rand(draw(st.sampled_from(sizes)), generator=generator).mul(8).round().div(8) + low


@st.composite
def neurons(draw: st.DrawFn) -> tuple[Neuron, Tensor]:
    """A neuron, and a current whose sums over time are exact in any order, in every layout the kernels accept."""
    current = draw(problems())[0].mul(4).round().div(4)
    current = current[torch.arange(draw(st.sampled_from([1, 4, 16, 18, 33]))) % len(current)]
    channels = current.shape[2] if current.ndim > 2 else None
    threshold = parameter(draw, channels, 0.25)
    kind = draw(st.sampled_from(KINDS))
    if kind is Parallel:
        return Parallel(threshold, parameter(draw, channels, -0.5), parameter(draw, channels, -0.125)), current
    if kind is OffsetIF:
        return OffsetIF(threshold, draw(st.sampled_from([None, 3, 40])), draw(st.integers(1, 3))), current
    return Radix(threshold, draw(st.sampled_from([1.0, 1.5, 2.0]))), current


KINDS = [Parallel, Radix, OffsetIF]


@given(neurons())
def test_the_kernels_equal_pytorch_bit_for_bit(problem: tuple[Neuron, Tensor]) -> None:
    equal(*problem)


@given(neurons())
def test_values_in_the_place_of_the_current_are_the_same(problem: tuple[Neuron, Tensor]) -> None:
    neuron, current = problem
    equal(neuron, current.clone(), overwrite=True)


def spread(steps: int, channels_last: bool) -> Tensor:
    """Currents whose sums are rounded. (T, 3, 16, 9, 8), in blocks that no sample fills."""
    current = torch.randn(steps, 3, 16, 9, 8, generator=torch.Generator().manual_seed(steps))
    folded = current.flatten(0, 1)
    return folded.to(memory_format=torch.channels_last).unflatten(0, (steps, 3)) if channels_last else current  # type: ignore[no-any-return, no-untyped-call]


MANY = torch.linspace(0.25, 1.5, 16)
EXAMPLES = [
    Parallel(MANY, 0.1, MANY / 7),
    Parallel(0.7, MANY / 9),
    Radix(MANY),
    Radix(0.7, 1.3),
    OffsetIF(MANY),
    OffsetIF(0.7, 20, 3),
]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 15, 16, 17, 40, 255, 256, 300])
@pytest.mark.parametrize("neuron", EXAMPLES, ids=repr)
def test_sums_over_time_are_rounded_as_pytorch_rounds_them(neuron: Neuron, steps: int, channels_last: bool) -> None:
    current = spread(steps, channels_last)
    equal(neuron, current)
    equal(neuron, current, overwrite=True)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("neuron", EXAMPLES, ids=repr)
def test_a_constant_current_is_its_own_mean(neuron: Neuron, channels_last: bool) -> None:
    first = spread(1, channels_last)[0]
    constant = first.expand(17, *first.shape)
    equal(neuron, constant)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("neuron", [*EXAMPLES, Probabilistic(MANY), Probabilistic(0.7)], ids=repr)
def test_time_folds_into_the_batch_in_the_order_of_the_current(neuron: Neuron, backend: str) -> None:
    values = answer(neuron, spread(4, True), backend)[0]
    assert values.flatten(0, 1).data_ptr() == values.data_ptr()
    assert values.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_any_number_of_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    current = torch.randn(16, 4, 16, 20, 20)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append([answer(neuron, current, "cpu") for neuron in EXAMPLES])
    for (a, m), (b, n) in zip(*found, strict=True):
        assert m is not None
        assert n is not None
        assert torch.equal(a, b)
        assert torch.equal(m, n)


def test_gradients_and_float64_are_left_to_pytorch() -> None:
    current = torch.rand(4, 2, 3)
    neuron = Parallel(torch.tensor(0.5))
    neuron.threshold.requires_grad_()
    neuron(current).sum().backward()
    assert neuron.threshold.grad is not None
    with pytest.raises(SettingError, match=r'backend="cpu" cannot be used: a tensor requires grad'):
        answer(neuron, current, "cpu")
    with pytest.raises(SettingError, match="float64"):
        answer(Radix(torch.tensor(0.5, dtype=torch.float64)), current.double(), "cpu")
    with pytest.raises(SettingError, match="backend is 'fast'"):
        answer(Radix(0.5), current, "fast")
    radix = Radix(0.5)
    radix.backend = "triton"
    assert radix(current).shape == current.shape


def test_a_neuron_of_ones_own_keeps_its_own_answer() -> None:
    class Louder(Parallel):
        def respond(self, current: Tensor) -> Tensor:
            return 1.5 * super().respond(current)

    current = torch.rand(8, 2, 30)
    values, counts = answer(Louder(0.4), current, "cpu")
    assert counts is not None
    assert torch.equal(counts, (values != 0).sum(2))
    torch.testing.assert_close(values, 1.5 * answer(Parallel(0.4), current, "reference")[0])
    average, _ = answer(AveragedParallel(0.4, 0.0, 0.0, 8), current.mean(0, keepdim=True), "cpu")
    torch.testing.assert_close(average[0], values.mean(0) / 1.5)
