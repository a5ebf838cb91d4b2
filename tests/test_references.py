"""The references against examples worked out with a pencil, so that a wrong reference is noticed."""

import math

import numpy as np
import pytest
import torch
from references import (
    cumulative_max_pool,
    if_neuron,
    msat_neuron,
    relu_rate_if,
    spike_confidence,
    synaptic_operations,
)

LN2, LN3 = math.log(2.0), math.log(3.0)
VGG16 = {"alpha": 0.03, "ka": 1.0, "ki": 1.0, "c": 5.0, "tau_mp": 1.0, "tau_rd": 1.0}  # Table 2
RESNET20 = {"alpha": 0.3, "ka": 1.0, "ki": 1.0, "c": 5.0, "tau_mp": 0.5, "tau_rd": 0.5}
PLAIN = {"alpha": 0.0, "ka": 1.0, "ki": 1.0, "c": 1.0, "tau_mp": 1.0, "tau_rd": 1.0, "v_t": 0.0}
HALF = PLAIN | {"dtt": False, "det": False}  # sigmoid(0) = 1/2: thresholds M, M/2, M/2, ...


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)[:, None]


def close(actual: np.ndarray, *expected: float) -> None:
    np.testing.assert_allclose(actual, column(*expected), rtol=1e-12, atol=1e-12)


# Integrate and fire


def test_soft_reset_keeps_the_rest():
    # 0.75 | 1.5 fires, 0.5 | 1.25 fires, 0.25
    values, potentials = if_neuron(column(0.75, 0.75, 0.75), 1.0)
    close(values, 0, 1, 1)
    close(potentials, 0.75, 0.5, 0.25)


def test_hard_reset_drops_the_rest():
    # 0.75 | 1.5 fires, 0 | 0.75
    values, potentials = if_neuron(column(0.75, 0.75, 0.75), 1.0, reset="hard")
    close(values, 0, 1, 0)
    close(potentials, 0.75, 0, 0.75)


def test_hard_reset_goes_to_zero_and_not_to_the_initial_potential():
    # 0.5 + 0.5 fires, 0 | 0.5
    values, potentials = if_neuron(column(0.5, 0.5), 1.0, 0.5, reset="hard")
    close(values, 1, 0)
    close(potentials, 0, 0.5)


def test_a_neuron_exactly_at_its_threshold_fires_the_threshold():
    values, potentials = if_neuron(column(1.0, 1.0), 2.0)
    close(values, 0, 2)
    close(potentials, 1, 0)


def test_a_neuron_fires_at_most_once_a_step_and_may_go_negative():
    # 5 fires, 4 | 4 - 3 = 1 fires, 0 | -3
    values, potentials = if_neuron(column(5.0, -3.0, -3.0), 1.0)
    close(values, 1, 1, 0)
    close(potentials, 4, 0, -3)


def test_neurons_do_not_mix_and_may_have_their_own_thresholds():
    # left: threshold 1 from 0; right: threshold 2 from 1: 2 fires, 0 | 1
    values, potentials = if_neuron(np.ones((2, 2)), [1.0, 2.0], [0.0, 1.0])
    np.testing.assert_array_equal(values, [[1, 2], [1, 0]])
    np.testing.assert_array_equal(potentials, [[0, 0], [0, 1]])


def test_closed_form_floors_and_clips():
    # the paper's example: 0.42 in ten steps is 4 spikes; 1.2 is cut to the threshold; below zero is silent
    np.testing.assert_allclose(relu_rate_if([0.42, 1.2, -0.3], 1.0, 10), [0.4, 1.0, 0.0])


def test_closed_form_starts_from_the_initial_potential():
    # (0.75 * 2 + 1) / 2 = 1.25, one spike of 2 in two steps; from zero 0.75, none
    assert relu_rate_if(0.75, 2.0, 2, 1.0) == 1.0
    assert relu_rate_if(0.75, 2.0, 2, 0.0) == 0.0


@pytest.mark.parametrize("v0", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_closed_form_is_what_the_loop_counts(v0: float, steps: int):
    x = np.arange(-32, 33) / 8  # dyadic, so that ties are ties in both
    values, _ = if_neuron(np.tile(x, (steps, 1)), 2.0, v0)
    np.testing.assert_allclose(relu_rate_if(x, 2.0, steps, v0), values.mean(axis=0), rtol=1e-14)


def test_closed_form_refuses_what_it_gets_wrong():
    # from 3 with threshold 2 and current -1 a neuron fires at once (2 >= 2), and in 4 steps floor(-1/2) < 0
    assert if_neuron(column(-1, -1, -1, -1), 2.0, 3.0)[0].sum() == 2.0
    with pytest.raises(ValueError, match="0 <= v0 <= threshold"):
        relu_rate_if(-1.0, 2.0, 4, 3.0)


# MSAT


def rest(parameters: dict[str, float], maximum: float, **options) -> float:
    """th(2) / M after two silent steps without input."""
    return float(msat_neuron(column(0, 0), maximum, **parameters, **options)["thresholds"][1, 0] / maximum)


def test_first_threshold_is_the_maximum():
    # 2.5 is below 3, so silent, although every later threshold is 1.5
    result = msat_neuron(column(2.5), 3.0, **HALF)
    close(result["thresholds"], 3.0)
    close(result["values"], 0.0)


def test_resting_thresholds_of_the_published_settings():
    # VGG16: -1 + ln 2 + 1 = ln 2, so 2/3. ResNet20, tau_rd once: (-1 + ln 2)/2 + 1/2, so sqrt2/(1 + sqrt2)
    assert rest(VGG16, 7.0) == pytest.approx(2 / 3)
    assert rest(RESNET20, 7.0, tau_rd_twice=False) == pytest.approx(math.sqrt(2) / (1 + math.sqrt(2)))
    # ... twice: (-1 + ln 2)/2 + 1/4, so 1 / (1 + e^(1/4) / sqrt2)
    assert rest(RESNET20, 7.0) == pytest.approx(1 / (1 + math.exp(0.25) / math.sqrt(2)))


@pytest.mark.parametrize(("maximum", "share"), [(1.0, 0.667), (2.0, 0.42), (3.0, 0.21), (5.0, 0.035)])
def test_raw_units_shrink_the_threshold_of_a_layer_with_a_large_maximum(maximum: float, share: float):
    # V_T = -M: -M + ln 2 + 1, so 2 / (2 + e^(M - 1)); the figures are those of METHODS.md 1.1
    assert rest(VGG16, maximum, units="raw") == pytest.approx(2 / (2 + math.exp(maximum - 1)))
    assert rest(VGG16, maximum, units="raw") == pytest.approx(share, abs=5e-3)


def test_tracking_term_with_every_letter():
    # M = 3, alpha = 2, ka = 2, ki = 1/2, tau_mp = 1/2, V_T = 0.
    # 1: no input, V = 0.
    # 2: (0 + 2 ln 2) / 2 = ln 2, th = 3 * 2/3 = 2. P = 2 + 6 ln 3 fires 2, V = 6 ln 3, mean 3 ln 3.
    # 3: (V - m) / M = ln 3; ln(1 + e^(2 ln 3)) = ln 10; (2 ln 3 + 2 ln 10) / 2 = ln 30.
    #    th = 3 * 30/31 = 2.90; P = 6 ln 3 = 6.59 fires.
    result = msat_neuron(
        column(0, 2 + 6 * LN3, 0), 3.0, alpha=2, ka=2, ki=0.5, c=9, tau_mp=0.5, tau_rd=9, v_t=0, det=False
    )
    third = 90 / 31
    close(result["thresholds"], 3, 2, third)
    close(result["values"], 0, 2, third)
    close(result["potentials"], 0, 6 * LN3, 6 * LN3 - third)
    close(result["means"], 0, 3 * LN3, (12 * LN3 - third) / 3)


def test_tracking_term_in_normalised_and_raw_units():
    # V_T: -ln 2 normalised, -3 ln 2 raw, so th(2) is 3 sigmoid(0) = 3/2 and 3 sigmoid(ln 1/4) = 3/5.
    # Then V(2) makes (V - m) / scale = -ln 3, and -ln 3 + ln(1 + 1/3) = ln 4/9:
    # normalised ln 4/9 - ln 2 = ln 2/9, th = 6/11; raw ln 4/9 - 3 ln 2 = ln 1/18, th = 3/19.
    parameters = PLAIN | {"alpha": 1.0, "v_t": -LN2, "det": False}
    close(msat_neuron(column(0, -6 * LN3, 0), 3.0, **parameters)["thresholds"], 3, 1.5, 6 / 11)
    close(msat_neuron(column(0, -2 * LN3, 0), 3.0, **parameters, units="raw")["thresholds"], 3, 0.6, 3 / 19)


@pytest.mark.parametrize(
    ("options", "exponent"),
    [
        # M = 2, c = 2, tau_rd = 2. Step 1: P = 3 fires 2, V = 1. Step 2: x = 2 + 4 ln 2, P = 3 + 4 ln 2.
        # The rise P(2) - P(1) is 4 ln 2, divided by M and c it is ln 2: e^-ln2 = 1/2; 2 * 2 * 1/2 = 2
        ({}, 2.0),
        ({"tau_rd_twice": False}, 1.0),
        # not divided by M: e^(-2 ln 2) = 1/4
        ({"units": "raw"}, 1.0),
        # x / M / c = 1/2 + ln 2: e^-(1/2) / 2
        ({"depolarisation": "current"}, 2.0 * math.exp(-0.5)),
        # the release: x / c = 1 + 2 ln 2: e^-1 / 4, tau_rd once
        ({"depolarisation": "current", "tau_rd_twice": False, "units": "raw"}, math.exp(-1) / 2),
    ],
)
def test_evoked_term(options: dict, exponent: float):
    parameters = PLAIN | {"c": 2.0, "tau_rd": 2.0, "dtt": False}
    result = msat_neuron(column(3, 2 + 4 * LN2), 2.0, **parameters, **options)
    close(result["thresholds"], 2, 2 / (1 + math.exp(-exponent)))


def test_both_terms_add_inside_the_sigmoid():
    # ka ln 2 + tau_rd^2 e^0 = ln 2 + 1: 2e / (1 + 2e). The weights: 2 ln 2 + 9: 4e^9 / (1 + 4e^9)
    close(msat_neuron(column(0, 0), 1.0, **PLAIN)["thresholds"], 1, 2 * math.e / (1 + 2 * math.e))
    weighted = PLAIN | {"tau_mp": 2.0, "tau_rd": 3.0}
    close(msat_neuron(column(0, 0), 1.0, **weighted)["thresholds"], 1, 1 / (1 + math.exp(-9) / 4))


def test_without_both_terms_the_threshold_is_half_the_maximum():
    # M = 2: th 2, 1, 1. P: 1.5 | 2 fires 1, V = 1 | 1 fires 1 (equality), V = 0
    result = msat_neuron(column(1.5, 0.5, 0.0), 2.0, **HALF)
    close(result["thresholds"], 2, 1, 1)
    close(result["values"], 0, 1, 1)
    close(result["potentials"], 1.5, 1, 0)


def test_mean_weighs_all_steps_alike_and_leaves_out_the_start():
    # th 8, 4, 4, never reached: V = 1, 1.5, 3.5; means 1, 2.5/2, 6/3
    result = msat_neuron(column(1, 0.5, 2), 8.0, **HALF)
    close(result["means"], 1, 1.25, 2)


def test_a_filtered_spike_keeps_its_charge_in_the_paper_and_loses_it_in_the_release():
    # th 1, 1/2. Paper: P = 1.5 filtered, V = 1.5 | P = 2.5 fires 1/2, V = 2
    # Release: P = 1.5 filtered, V = 0.5 | P = 1.5 fires 1/2, V = 1
    paper = msat_neuron(column(1.5, 1), 1.0, **HALF, keep=column(0, 1))
    release = msat_neuron(column(1.5, 1), 1.0, **HALF, keep=column(0, 1), keep_charge=False)
    close(paper["values"], 0, 0.5)
    close(release["values"], 0, 0.5)
    close(paper["potentials"], 1.5, 2)
    close(release["potentials"], 0.5, 1)


def test_the_filter_works_up_to_and_including_step_sixteen():
    result = msat_neuron(np.ones((18, 1)), 1.0, **HALF, keep=np.zeros((18, 1)))
    close(result["values"], *[0] * 16, 0.5, 0.5)


def test_the_filter_does_not_matter_where_no_spike_is():
    # 0.5 is below 1: silent and kept, filtered or not
    for flag in (0, 1):
        result = msat_neuron(column(0.5), 1.0, **HALF, keep=column(flag), keep_charge=False)
        close(result["values"], 0)
        close(result["potentials"], 0.5)


def test_msat_neurons_do_not_mix():
    rng = np.random.default_rng(0)
    currents = rng.normal(0.3, 0.5, (12, 3))
    keep = rng.integers(0, 2, (12, 3))
    maxima = np.array([0.5, 1.0, 2.0])
    together = msat_neuron(currents, maxima, **VGG16, keep=keep)
    for i in range(3):
        alone = msat_neuron(currents[:, i : i + 1], maxima[i], **VGG16, keep=keep[:, i : i + 1])
        for name, array in alone.items():
            np.testing.assert_array_equal(array[:, 0], together[name][:, i])


def test_msat_conserves_charge_when_filtered_spikes_keep_theirs():
    rng = np.random.default_rng(1)
    currents = rng.normal(0.3, 0.5, (20, 4))
    result = msat_neuron(currents, 1.0, **RESNET20, keep=rng.integers(0, 2, (20, 4)))
    np.testing.assert_allclose(result["values"].sum(axis=0) + result["potentials"][-1], currents.sum(axis=0))


@pytest.mark.parametrize("current", [-1e6, 1e6])
def test_huge_currents_saturate_the_threshold_without_overflow(current: float):
    result = msat_neuron(np.full((4, 1), current), 2.0, **VGG16, units="raw")
    assert np.isfinite(result["values"]).all()
    assert ((result["thresholds"] >= 0) & (result["thresholds"] <= 2)).all()


# Spike confidence


def test_spike_confidence_counts_each_wrong_neuron_once():
    # fired: 1st, 3rd, 4th, 5th; negative among them: 1st and 5th, 2 of 4
    assert spike_confidence([3, 0, 1, 2, 5], [-1.0, -1.0, 0.25, 0.5, -0.25]) == 0.5


def test_a_spike_at_a_preactivation_of_zero_is_a_correct_one():
    assert spike_confidence([1, 1], [0.0, -1.0]) == 0.5


def test_spike_confidence_pools_the_samples():
    # 1 wrong of 1 and 0 wrong of 3: 3/4, not the mean of 0 and 1
    assert spike_confidence([[1, 0, 0], [1, 1, 1]], [[-1, 1, 1], [1, 1, 1]]) == 0.75


def test_spike_confidence_is_one_where_nothing_fired():
    assert spike_confidence([0, 0], [-1.0, 1.0]) == 1.0


# Pooling


def test_cumulative_max_pool_sends_the_change_of_the_maximum():
    # C(1) = 3 1 2: 3 and 2. C(2) = 1 2 4: 2 and 4, changes -1 and 2
    pooled = cumulative_max_pool([[3, 1, 2], [-2, 1, 2]], [[0, 1], [1, 2]])
    np.testing.assert_array_equal(pooled, [[3, 2], [-1, 2]])


def test_cumulative_max_pool_may_start_below_zero():
    np.testing.assert_array_equal(cumulative_max_pool([[-1, -2]], [[0, 1]]), [[-1]])


# Synaptic operations


def test_linear_operations_are_spikes_times_outputs():
    # three nonzero entries, whatever their value, four outputs
    assert synaptic_operations([[1, 0, 2], [0, 0, -1]], (4, 3)) == 12


@pytest.mark.parametrize(
    ("spike", "options", "kernel", "expected"),
    [
        ((0, 0), {}, 2, 1),  # a corner of 3 x 3 lies under one 2 x 2 window
        ((1, 1), {}, 2, 4),  # the centre under all four
        ((0, 1), {}, 2, 2),  # an edge under two
        ((0, 0), {"padding": 1}, 3, 4),  # nine windows around a padded picture, four hold the corner
        ((1, 1), {"padding": 1}, 3, 9),
        ((1, 1), {"stride": 2}, 2, 1),  # one window, at the top left
        ((2, 2), {"stride": 2}, 2, 0),  # never visited
        ((2, 2), {"dilation": 2}, 2, 1),  # one window, whose taps are the corners
        ((1, 1), {"dilation": 2}, 2, 0),
        ((2, 0), {"stride": (2, 1)}, 2, 0),  # rows 0 and 1 only
        ((0, 2), {"stride": (2, 1)}, 2, 1),
    ],
)
def test_convolution_operations_of_one_spike(spike, options, kernel, expected):
    mask = np.zeros((1, 1, 3, 3))
    mask[0, 0, spike[0], spike[1]] = 1
    assert synaptic_operations(mask, (1, 1, kernel, kernel), **options) == expected
    assert synaptic_operations(mask, (5, 1, kernel, kernel), **options) == 5 * expected


def test_groups_reach_their_own_outputs_only():
    # 4 channels, 6 outputs in 2 groups: a spike reaches 3 outputs
    mask = np.zeros((4, 1, 1))
    mask[2] = 1
    assert synaptic_operations(mask, (6, 2, 1, 1), groups=2) == 3
    assert synaptic_operations(mask, (6, 4, 1, 1)) == 6


def test_leading_axes_add_up():
    # (T, N, C, H, W) = (2, 3, 1, 2, 2), all spiking, one 2 x 2 window each: 6 * 4
    assert synaptic_operations(np.ones((2, 3, 1, 2, 2)), (1, 1, 2, 2)) == 24


def test_one_dimensional_convolution():
    # length 4, kernel 3, stride 2, padding 1: windows {-1 0 1} {1 2 3}; place 1 is under both, 2 under one
    assert synaptic_operations([[0, 1, 1, 0]], (1, 1, 3), stride=2, padding=1) == 3


@pytest.mark.parametrize("seed", range(6))
def test_convolution_operations_are_a_convolution_of_the_mask_with_ones(seed: int):
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 3))
    options = {
        "stride": tuple(map(int, rng.integers(1, 4, 2))),
        "padding": tuple(map(int, rng.integers(0, 3, 2))),
        "dilation": tuple(map(int, rng.integers(1, 3, 2))),
        "groups": groups,
    }
    shape = (2 * groups, 2, *map(int, rng.integers(1, 4, 2)))
    mask = rng.integers(0, 2, (2, 2 * groups, 7, 6))
    counted = torch.nn.functional.conv2d(torch.tensor(mask).double(), torch.ones(shape).double(), **options)
    assert synaptic_operations(mask, shape, **options) == counted.sum().item()


# What they refuse


@pytest.mark.parametrize(
    "call",
    [
        lambda: if_neuron([1.0, 2.0], 1.0),
        lambda: if_neuron(column(1), 1.0, reset="sof"),
        lambda: msat_neuron(column(1), 1.0, **VGG16, units="Raw"),
        lambda: msat_neuron(column(1), 1.0, **VGG16, depolarisation="x"),
        lambda: msat_neuron(column(1), 1.0, **VGG16, keep=column(0.5)),
        lambda: msat_neuron(column(1), 1.0, **VGG16, keep=column(1, 1)),
        lambda: spike_confidence([1], [1.0, 2.0]),
        lambda: synaptic_operations([1, 1], (2, 3)),
        lambda: synaptic_operations(np.ones((3, 2, 2)), (2, 2, 1, 1)),
        lambda: synaptic_operations(np.ones((1, 2, 2)), (1, 1, 1, 1), stride=(1, 1, 1)),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(ValueError, match=r"\S"):
        call()
