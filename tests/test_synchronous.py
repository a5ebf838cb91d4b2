"""Neurons that see all steps before they fire, and neurons with a trial phase, against their references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synchronous_references import (
    inverse_leaky_neuron,
    offset_neuron,
    parallel_neuron,
    probabilistic_neuron,
    residual_neuron,
)
from torch import Tensor

from rheobase.errors import ConversionError, SettingError
from rheobase.neurons import IF, Neuron, OffsetIF, Parallel, Probabilistic, Radix, ResidualIF

SEEDS = st.integers(0, 2**31)
THRESHOLDS = st.floats(0.2, 2.0)


def currents(seed: int, steps: int = 12, n: int = 20) -> Tensor:
    """Constant means with noise around them, as later layers see them. (T, 1, n)."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, generator=generator, dtype=torch.float64)
    return 0.5 * mean + 0.5 * torch.randn(steps, 1, n, generator=generator, dtype=torch.float64)


def sent(neuron: Neuron, x: Tensor) -> np.ndarray:
    neuron.reset(key=3)
    values: np.ndarray = neuron.double()(x)[:, 0].numpy()
    return values


@given(seed=SEEDS, threshold=THRESHOLDS, bias=st.floats(-0.3, 0.3), gain=st.floats(-0.1, 0.3))
@settings(max_examples=25, deadline=None)
def test_the_parallel_neuron_equals_its_reference(seed: int, threshold: float, bias: float, gain: float) -> None:
    x = currents(seed)
    neuron = Parallel(torch.tensor(threshold, dtype=torch.float64), bias, gain)
    np.testing.assert_allclose(sent(neuron, x), parallel_neuron(x[:, 0].numpy(), threshold, bias, gain), atol=1e-12)


@given(seed=SEEDS, threshold=THRESHOLDS, radix=st.sampled_from([1.0, 1.3, 1.7, 2.0]))
@settings(max_examples=25, deadline=None)
def test_the_radix_neuron_is_the_inverse_leaky_one(seed: int, threshold: float, radix: float) -> None:
    x = currents(seed)
    neuron = Radix(torch.tensor(threshold, dtype=torch.float64), radix)
    expected = inverse_leaky_neuron(x[:, 0].numpy(), threshold, radix)
    np.testing.assert_allclose(sent(neuron, x), expected, atol=1e-9)


@given(seed=SEEDS, threshold=THRESHOLDS)
@settings(max_examples=25, deadline=None)
def test_the_probabilistic_neuron_equals_its_reference(seed: int, threshold: float) -> None:
    x = currents(seed)
    neuron = Probabilistic(torch.tensor(threshold, dtype=torch.float64))
    neuron.reset(key=3)
    uniform = np.stack([neuron.draw(t, x[0])[0].numpy() for t in range(1, 13)])
    np.testing.assert_allclose(
        sent(neuron, x), probabilistic_neuron(x[:, 0].numpy(), threshold, uniform.astype(np.float64)), atol=1e-12
    )


@given(
    seed=SEEDS,
    threshold=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    pre_steps=st.sampled_from([None, 4, 30]),
    iterations=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_the_offset_neuron_equals_its_reference(
    seed: int, threshold: float, pre_steps: int | None, iterations: int
) -> None:
    x = currents(seed).mul(256).round().div(256)  # later iterations meet the threshold exactly: no rounding there
    neuron = OffsetIF(torch.tensor(threshold, dtype=torch.float64), pre_steps, iterations)
    expected = offset_neuron(x[:, 0].numpy(), threshold, pre_steps or 12, iterations)
    np.testing.assert_allclose(sent(neuron, x), expected, atol=1e-12)


@given(seed=SEEDS, threshold=THRESHOLDS, first=st.integers(1, 14))
@settings(max_examples=25, deadline=None)
def test_the_residual_neuron_equals_its_reference(seed: int, threshold: float, first: int) -> None:
    x = currents(seed)
    neuron = ResidualIF(torch.tensor(threshold, dtype=torch.float64), first)
    np.testing.assert_allclose(sent(neuron, x), residual_neuron(x[:, 0].numpy(), threshold, first), atol=1e-12)


def test_parallel_spikes_come_first_and_only_their_number_counts() -> None:
    x = currents(1)
    values = sent(Parallel(0.5), x)
    assert bool((np.diff((values > 0).astype(int), axis=0) <= 0).all())
    np.testing.assert_array_equal(values, sent(Parallel(0.5), x.flip(0)))


def test_a_trial_run_brings_the_rate_closer_to_that_of_the_mean() -> None:
    x = currents(2, steps=8, n=4000)
    wanted = sent(Parallel(0.5), x).mean(0)
    plain, moved = (np.abs(sent(n, x).mean(0) - wanted).mean() for n in (IF(0.5, 0.25), OffsetIF(0.5)))
    assert moved < 0.3 * plain


@given(seed=SEEDS, steps=st.integers(1, 24))
@settings(max_examples=25, deadline=None)
def test_random_spikes_are_off_by_less_than_one(seed: int, steps: int) -> None:
    x = currents(seed, steps)
    mean = x.mean(0)[0].clamp(0, 0.5).numpy()
    assert np.abs(sent(Probabilistic(0.5), x).mean(0) - mean).max() < 0.5 / steps


def test_random_spikes_have_no_order_in_time() -> None:
    x = torch.full((8, 1, 20000), 3 / 8, dtype=torch.float64)
    fired = sent(Probabilistic(1.0), x) > 0
    np.testing.assert_allclose(fired.mean(1), 3 / 8, atol=0.02)
    assert bool((fired.sum(0) == 3).all())


@pytest.mark.parametrize("radix", [1.0, 1.5, 2.0])
def test_digits_round_to_the_last_one(radix: float) -> None:
    x = torch.linspace(0, 1, 301, dtype=torch.float64).expand(6, 1, 301)
    error = np.abs(sent(Radix(1.0, radix), x).mean(0) - x[0, 0].numpy())
    assert error.max() <= Radix(1.0, radix).shares(6)[-1] / 2 + 1e-12


def test_binary_digits_have_all_levels() -> None:
    x = (torch.arange(64, dtype=torch.float64) / 63).expand(6, 1, 64)
    values = sent(Radix(1.0), x)
    np.testing.assert_allclose(values.mean(0), x[0, 0].numpy(), atol=1e-6)
    bits = [sum(int(values[t, i] > 0) << (5 - t) for t in range(6)) for i in range(64)]
    assert bits == list(range(64))


def test_the_alphabet_is_binary_and_above_radix_1_step_weighted() -> None:
    assert str(Radix(1.0).alphabet) == "binary, step-weighted"
    for neuron in (Radix(1.0, 1.0), Parallel(1.0), Probabilistic(1.0), OffsetIF(1.0), ResidualIF(1.0)):
        assert str(neuron.alphabet) == "binary"
    assert ResidualIF(1.0).causal


def test_a_trial_run_takes_its_steps_too() -> None:
    assert Parallel(1.0).layer_steps(16) == 16
    assert OffsetIF(1.0).layer_steps(16) == 32
    assert OffsetIF(1.0, pre_steps=4, iterations=3).layer_steps(16) == 28


@pytest.mark.parametrize("neuron", [Parallel(1.0), Radix(1.0), Probabilistic(1.0), OffsetIF(1.0)], ids=repr)
def test_a_second_chunk_is_an_error_that_says_why(neuron: Neuron) -> None:
    neuron(torch.rand(3, 2, 4))
    with pytest.raises(ConversionError, match=r"layer-synchronous.*3 steps already.*reset\(\)"):
        neuron(torch.rand(3, 2, 4))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(SettingError, match=r"Parallel: bias must be finite; gain is -1"):
        Parallel(1.0, float("nan"), -1.0)
    with pytest.raises(SettingError, match=r"OffsetIF: pre_steps is 0.*iterations is 0"):
        OffsetIF(1.0, 0, 0)
    with pytest.raises(SettingError, match="first is 0"):
        ResidualIF(1.0, 0)
    for radix in (0.5, 2.5, float("nan")):
        with pytest.raises(SettingError, match="radix"):
            Radix(1.0, radix)
    for make in (Parallel, Radix, Probabilistic, OffsetIF, ResidualIF):
        with pytest.raises(SettingError, match="threshold must be positive"):
            make(0.0)
