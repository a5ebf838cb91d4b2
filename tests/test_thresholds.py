"""Thresholds are the best ones, by the slowest search, for what was observed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import references
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networks import MLP_INPUT, inputs, mlp
from numpy.typing import NDArray
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.graph import trace
from rheobase.observers import LTB, MMSE, Histogram, Max, Observer, Statistics, observe
from rheobase.thresholds import gaussian, mmse, scales

Floats = NDArray[np.float32]

SCALES = [
    MMSE(4, per_channel=False),
    MMSE(1),
    MMSE(8, rounding=False),
    MMSE(4, powers_of_two=True),
    LTB(30, per_channel=False),
    LTB(30, rate=0.3),
]
FRACTIONS = np.arange(100, 5, -1) / 100  # of Li et al. 2021

activations = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.integers(1, 3), st.just(4)), elements=st.floats(-4, 4, width=32)
)


def measured(observer: Observer, x: Floats) -> Tensor:
    observer = observer.clone()
    observer.update(torch.from_numpy(x))
    return observer.result()


def skewed(n: int = 400, seed: int = 0) -> Floats:
    """Like pre-activations: half of them negative, a long tail."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=n) * rng.lognormal(sigma=0.5, size=n)).astype(np.float32)[:, None]


# ------------------------------------------------------------------------------------------- mmse


@settings(max_examples=30)
@given(x=activations, levels=st.integers(1, 9), powers_of_two=st.booleans())
def test_no_clip_of_the_grid_of_fractions_is_much_better_than_the_mmse(
    x: Floats, levels: int, powers_of_two: bool
) -> None:
    top = float(x.max())
    if top < 2.0**-10:
        return
    clip = float(measured(MMSE(levels, False, powers_of_two=powers_of_two), x))
    found = references.quantisation_rms(x, clip, levels, True, powers_of_two)
    least = min(references.quantisation_rms(x, f * top, levels, True, powers_of_two) for f in FRACTIONS[::3])
    assert found <= least + (2 ** (1 / 64) - 1 + 2**-7) * top


@pytest.mark.parametrize("rounding", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 4, 8, 16])
def test_mmse_is_as_good_as_a_fine_search_on_a_long_tail(levels: int, rounding: bool) -> None:
    x = skewed()
    top = float(x.max())
    clip = float(measured(MMSE(levels, rounding=rounding), x))
    found = references.quantisation_rms(x, clip, levels, rounding)
    assert found <= 1.02 * min(references.quantisation_rms(x, f * top, levels, rounding) for f in FRACTIONS)


def test_mmse_for_powers_of_two_is_as_good_as_a_fine_search() -> None:
    x = skewed()
    clip = float(measured(MMSE(4, powers_of_two=True), x))
    found = references.quantisation_rms(x, clip, 4, powers_of_two=True)
    searched = [references.quantisation_rms(x, f * float(x.max()), 4, powers_of_two=True) for f in FRACTIONS]
    assert found <= 1.02 * min(searched)


def test_with_very_many_levels_the_mmse_clip_is_the_maximum() -> None:
    x = skewed()
    assert float(measured(MMSE(2**16), x)) == pytest.approx(float(x.max()), rel=0.025)


def test_more_levels_clip_less() -> None:
    clips = [float(measured(MMSE(levels), skewed())) for levels in (1, 4, 16, 64, 256)]
    assert clips == sorted(clips)
    assert clips[0] < clips[-1] / 2


def test_a_single_activation_is_its_own_clip() -> None:
    for levels in (1, 5):
        assert float(measured(MMSE(levels), np.float32([[3.0], [-1.0]]))) == pytest.approx(3, rel=0.02)


def test_mmse_takes_channels_together_or_apart() -> None:
    histogram = Histogram(per_channel=True)
    histogram.update(torch.from_numpy(skewed(600).reshape(100, 3, 2)))
    counts, centres = histogram.result(), histogram.centres()
    each = torch.stack([mmse(row, centres, 6) for row in counts])
    assert torch.equal(mmse(counts, centres, 6), each)


@pytest.mark.parametrize("levels", [0, -1, 2**20 + 1, True, 2.0])
def test_levels_out_of_range_are_an_error(levels: int) -> None:
    with pytest.raises(SettingError, match=r"levels is .*accepted: a whole number from 1 to 1,048,576"):
        MMSE(levels)


def test_powers_of_two_below_the_histogram_are_an_error() -> None:
    with pytest.raises(SettingError, match="levels is 33; accepted: a whole number from 1 to 32"):
        MMSE(33, powers_of_two=True)


def test_levels_may_be_a_number_of_numpy() -> None:
    x = skewed()
    assert torch.equal(measured(MMSE(np.int64(4)), x), measured(MMSE(4), x))  # type: ignore[arg-type]


def test_a_finer_grid_finds_a_better_clip() -> None:
    x = skewed()
    histogram = Histogram()
    histogram.update(torch.from_numpy(x))
    counts, centres = histogram.result(), histogram.centres()
    errors = [references.quantisation_rms(x, float(mmse(counts, centres, 2, grid=grid)), 2) for grid in (1, 4, 64)]
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(SettingError, match="grid is 0; accepted: 1 or more"):
        mmse(counts, centres, 2, grid=0)


# -------------------------------------------------------------------------------------------- LTB


@settings(max_examples=30)
@given(x=activations, iterations=st.integers(1, 12), rate=st.sampled_from([0.25, 1.0]))
def test_ltb_is_the_published_iteration_over_all_the_data(x: Floats, iterations: int, rate: float) -> None:
    expected = references.local_threshold_balancing(x, iterations, rate)
    found = float(measured(LTB(iterations, rate, per_channel=False), x))
    assert found == pytest.approx(expected, rel=0, abs=2**-7 * float(x.max(initial=2.0**-12)))


def test_ltb_grows_towards_the_maximum_and_not_beyond() -> None:
    found = [float(measured(LTB(n), skewed())) for n in (1, 10, 100, 1000)]
    assert found == sorted(found)
    assert found[-1] <= skewed().max()
    dense = np.float32([[1.0], [1.1]])  # the first iteration would give 2.1
    assert float(measured(LTB(1), dense)) == np.float32(1.1)


def test_all_bad_settings_of_ltb_are_in_one_message() -> None:
    with pytest.raises(SettingError, match=r"iterations is 0.*rate is 1\.5"):
        LTB(0, 1.5)


# ------------------------------------------------------------------------------------ every scale


@pytest.mark.parametrize("observer", SCALES, ids=repr)
@given(x=activations, octave=st.integers(-4, 4))
def test_scales_grow_with_the_activations(observer: Observer, x: Floats, octave: int) -> None:
    x = np.where(np.abs(x) < 2.0**-8, 0, x).astype(np.float32)  # the histogram has a smallest octave
    torch.testing.assert_close(measured(observer, x * 2**octave), measured(observer, x) * 2**octave, rtol=1e-6, atol=0)


@pytest.mark.parametrize("observer", SCALES, ids=repr)
def test_scales_grow_with_the_activations_by_any_factor_within_the_bins(observer: Observer) -> None:
    x = skewed(3000)
    torch.testing.assert_close(measured(observer, x * 1.7), measured(observer, x) * 1.7, rtol=0.05, atol=0)


@pytest.mark.parametrize("observer", SCALES, ids=repr)
@given(x=activations)
def test_on_one_channel_the_scale_is_that_of_the_site(observer: Observer, x: Floats) -> None:
    site, channel = observer.clone(), observer.clone()
    for o, per_channel in ((site, False), (channel, True)):
        o.per_channel = per_channel  # type: ignore[attr-defined]
    assert torch.equal(measured(channel, x[:, :1]), measured(site, x[:, :1]).reshape(1))


@pytest.mark.parametrize("observer", SCALES, ids=repr)
def test_a_silent_channel_has_scale_0_and_does_not_disturb_the_others(observer: Observer) -> None:
    x = skewed(60).reshape(20, 3)
    x[:, 1] = -np.abs(x[:, 1])
    alone = measured(observer, x[:, [0, 2]])
    found = measured(observer, x)
    if found.ndim:
        assert found[1] == 0
        assert torch.equal(found[[0, 2]], alone)
    assert not measured(observer, -np.abs(x)).any()


def test_scales_fill_silent_channels_with_the_largest_scale() -> None:
    statistics = Statistics({"a": torch.tensor([0.0, 2.0, 1.0]), "b": torch.zeros(())}, 8, dead=("b",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scales(statistics)
    assert found["a"].tolist() == [2.0, 2.0, 1.0]
    assert found["b"] == 1


@pytest.mark.parametrize("observer", SCALES, ids=repr)
def test_every_scale_can_be_observed_and_is_at_most_a_grid_step_above_the_maximum(observer: Observer) -> None:
    graph, x = trace(mlp(), inputs(MLP_INPUT, 64).float()), inputs(MLP_INPUT, 64).float()
    found, maximum = observe(graph, x, observer), observe(graph, x, Max(observer.per_channel))  # type: ignore[attr-defined]
    for site in graph.sites:
        assert bool((found[site] <= 1.03 * maximum[site]).all())


# --------------------------------------------------------------------------------------- gaussian

Z = np.linspace(-9, 9, 20_001)
DENSITY = np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi) * (Z[1] - Z[0])


def expected_error(mean: float, deviation: float, clip: float, levels: int) -> float:
    z = mean + deviation * Z
    q = np.clip(np.floor(z * levels / clip + 0.5), 0, levels) * clip / levels
    return float((DENSITY * (np.maximum(z, 0) - q) ** 2).sum())


@pytest.mark.parametrize("levels", [1, 3, 8, 32])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 0.5), (-2.0, 1.5), (3.0, 1.0), (-0.3, 0.01)])
def test_the_gaussian_clip_is_that_of_a_numeric_search(mean: float, deviation: float, levels: int) -> None:
    if mean < -8 * deviation:
        assert gaussian(torch.tensor(mean), torch.tensor(deviation**2), levels) == 0
        return
    candidates = np.geomspace(0.2, 12, 800) * deviation
    errors = [expected_error(mean, deviation, m, levels) for m in candidates]
    found = float(gaussian(torch.tensor(mean), torch.tensor(deviation).square(), levels))
    assert expected_error(mean, deviation, found, levels) <= min(errors) * (1 + 1e-3)
    assert found == pytest.approx(candidates[int(np.argmin(errors))], rel=0.01)


def published_iteration(mean: float, variance: float, levels: int, start: float, times: int) -> float:
    th = start
    for _ in range(times):
        b = [(i - 0.5) * th / levels for i in range(1, levels + 1)]
        e = [(x - mean) / math.sqrt(2 * variance) for x in b]
        s1 = sum(math.erf(x) for x in e) / levels
        s2 = sum((2 * i - 1) * math.erf(x) for i, x in enumerate(e, 1)) / levels**2
        s3 = sum(math.exp(-x * x) for x in e) / levels
        th = (mean * (1 - s1) + math.sqrt(2 * variance / math.pi) * s3) / (1 - s2)
    return th


@pytest.mark.parametrize("levels", [1, 4, 16])
def test_the_gaussian_clip_is_where_the_published_iteration_stops(levels: int) -> None:
    stop = published_iteration(0.4, 2.0, levels, start=3.0, times=2000)
    assert float(gaussian(torch.tensor(0.4), torch.tensor(2.0), levels)) == pytest.approx(stop, rel=1e-6)


def test_the_published_iteration_is_far_from_its_end_after_100_times_with_256_levels() -> None:
    assert published_iteration(0.0, 1.0, 256, start=1.0, times=100) == pytest.approx(3.2, abs=0.05)
    assert float(gaussian(torch.tensor(0.0), torch.tensor(1.0), 256)) == pytest.approx(4.2, abs=0.05)


@settings(max_examples=30)
@example(mean=-3.0, deviation=0.37937213246556256, scale=1.0, levels=1)  # 7.9 deviations below 0
@given(mean=st.floats(-4, 4), deviation=st.floats(0.1, 4), scale=st.floats(0.01, 100), levels=st.integers(1, 40))
def test_the_gaussian_clip_grows_with_the_activations(mean: float, deviation: float, scale: float, levels: int) -> None:
    mu, sigma = torch.tensor([mean, scale * mean]).double(), torch.tensor([deviation, scale * deviation]).double()
    one, other = gaussian(mu, sigma**2, levels).tolist()
    assert other == pytest.approx(scale * one, rel=1e-3)


def test_the_gaussian_clip_is_found_for_each_channel_as_for_it_alone() -> None:
    mean, variance = torch.tensor([0.0, -1.0, 5.0, -3.0]), torch.tensor([1.0, 4.0, 0.01, 0.01])
    together = gaussian(mean, variance, 64)
    alone = [gaussian(m, v, 64) for m, v in zip(mean, variance, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-9, atol=0)
    assert together[3] == 0


def test_a_constant_activation_is_its_own_gaussian_clip() -> None:
    assert gaussian(torch.tensor([2.0, -2.0]), torch.zeros(2), 5).tolist() == [2.0, 0.0]


def test_the_gaussian_clip_is_near_the_mmse_of_gaussian_data() -> None:
    x = np.random.default_rng(0).normal(0.5, 2.0, (1000, 1, 50)).astype(np.float32)
    assert float(measured(MMSE(8, False), x)) == pytest.approx(
        float(gaussian(torch.tensor(0.5), torch.tensor(4.0), 8)), rel=0.03
    )


def test_a_gaussian_without_levels_is_an_error() -> None:
    with pytest.raises(SettingError, match="levels is 0; accepted: 1 or more"):
        gaussian(torch.zeros(()), torch.ones(()), 0)
