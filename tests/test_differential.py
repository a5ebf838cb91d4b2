"""Differential coding around any neuron, and biases for what sends changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, inputs, mlp
from torch import Tensor

import rheobase as rb
from rheobase.batches import as_batches
from rheobase.calibration import Tuning, calibrate_temporal_bias, tune
from rheobase.calibration.activations import activations
from rheobase.calibration.layerwise import channel_mean
from rheobase.errors import ConversionError, SettingError
from rheobase.methods import (
    SNNC,
    Burst,
    CalibratedMSAT,
    DeltaCoding,
    DifferentialCoding,
    LocalBalancing,
    RateCoding,
    SignedMSAT,
    TwoStage,
)
from rheobase.neurons import IF, MSAT, Adaptation, Biased, Differential, GradedIF, Neuron, Retracting, SpikeConfidence
from rheobase.neurons import SignedMSAT as SignedMSATNeuron
from rheobase.qcfs import with_levels
from rheobase.simulation import simulate

STEPS = 6
X = inputs(MLP_INPUT, 64).float()
WRAPPED = [
    RateCoding(steps=STEPS, signed=True, differential=True, calibration="temporal", passes=4),
    Burst(levels=4, signed=True, differential=True),
    SignedMSAT(steps=STEPS, differential=True, passes=4),
]


def harmonic(steps: int = STEPS) -> Tensor:
    return 1 / torch.arange(1.0, steps + 1, dtype=torch.float64)[:, None]


def changes(rows: int, steps: int = STEPS, least: float = -2.0) -> Tensor:
    """Changes of a current that stays above ``least``. Shape (T, rows)."""
    generator = torch.Generator().manual_seed(3)
    value = least + 4 * torch.rand(steps, rows, dtype=torch.float64, generator=generator)
    return value.diff(dim=0, prepend=torch.zeros(1, rows, dtype=torch.float64))


def differential_coding(x: np.ndarray, threshold: float) -> np.ndarray:
    """Huang et al. 2025 for one neuron whose spikes are +threshold: what its receivers hold after each step.

    ``x`` is the mean current m(t) that has been received; v(0) is half of the threshold.
    """
    v, r, held = threshold / 2, 0.0, []
    before = 0.0
    for t, m in enumerate(x, 1):
        current = t * m - (t - 1) * before  # whose mean is m(t)
        v += (current - before) + before - r
        spike = threshold if v >= threshold else 0.0
        v -= spike
        r += spike / t
        before = m
        held.append(r)
    return np.array(held)


def test_with_weights_of_a_tth_an_integrate_and_fire_neuron_is_one_of_differential_coding() -> None:
    x = changes(40, 20, least=0.0)
    sent = Differential(IF(torch.tensor(1.5).double(), 0.75), harmonic(20))(x).cumsum(0)
    expected = np.stack([differential_coding(m, 1.5) for m in x.cumsum(0).T.numpy()], axis=1)
    np.testing.assert_allclose(sent.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("powers", [False, True])
@pytest.mark.parametrize("memory", [False, True])
def test_a_graded_neuron_inside_is_one_with_a_schedule(powers: bool, memory: bool) -> None:
    x, theta = changes(60), torch.tensor(1.25).double()
    inner = GradedIF(theta, 3, powers, signed=True, memory=memory)
    outer = GradedIF(theta * harmonic(), 3, powers, signed=True, memory=True)
    torch.testing.assert_close(Differential(inner, harmonic())(x), outer(x), rtol=0, atol=1e-12)


def test_with_weights_of_one_a_neuron_sends_what_it_would_without() -> None:
    x, ones = changes(60, 30), torch.ones(1, 1).double()
    neuron = IF(torch.tensor(0.75).double(), 0.25)
    torch.testing.assert_close(Differential(neuron, ones)(x), neuron(x), rtol=0, atol=1e-12)


def test_a_spike_of_msat_that_takes_back_carries_no_more_than_is_left() -> None:
    neuron = Differential(SignedMSATNeuron(torch.tensor(1.0).double(), Adaptation()), harmonic())
    sums = neuron(changes(60)).cumsum(0)
    assert float(sums.min()) >= -1e-12
    assert bool((sums.diff(dim=0) < 0).any())


def test_later_steps_have_the_last_weight() -> None:
    neuron = Differential(IF(1.0), torch.tensor([[1.0], [0.5]]))
    sent = neuron(torch.tensor([[9.0], [0.0], [0.0], [0.0]]))
    assert sent.flatten().tolist() == [1.0, 0.5, 0.5, 0.5]


def test_a_refunded_spike_was_never_sent() -> None:
    neuron = Differential(IF(1.0), torch.tensor([[1.0], [0.5]]))
    current = torch.tensor([[2.0]])
    first, state = neuron.step(current, neuron.initial_state(current))
    kept = neuron.refund(state, first)
    assert float(kept.sent) == 0.0
    assert float(kept.inner.potential) == 2.0
    assert float(kept.charge) == 2.0


@pytest.mark.parametrize("weights", [torch.tensor([[1.0], [0.0]]), torch.tensor([1.0, 0.5])])
def test_weights_that_are_no_schedule_are_an_error(weights: Tensor) -> None:
    with pytest.raises(SettingError, match="Differential"):
        Differential(IF(1.0), weights)


def test_its_spikes_are_those_of_the_neuron_inside_weighed_by_their_step() -> None:
    assert str(Differential(MSAT(1.0, Adaptation()), harmonic()).alphabet) == "real, step-weighted"
    assert Differential(MSAT(1.0, Adaptation()), harmonic()).levels_after(4) is None
    ternary = Differential(GradedIF(1.0, memory=False), harmonic())
    assert str(ternary.alphabet) == "ternary, step-weighted"
    doubled = GradedIF(torch.tensor([[1.0], [0.3]]), doubled=True)
    assert Differential(doubled, torch.ones(1, 1)).levels_after(2) == doubled.levels_after(2) == 7
    assert ternary.levels_after(2) == GradedIF(harmonic()).levels_after(2) == 3  # 1/2, 1 and 3/2
    retracting = Differential(Retracting(GradedIF(1.0, signed=False, memory=False)), harmonic())
    assert retracting.levels_after(4) == ternary.levels_after(4) == 22


@pytest.mark.parametrize("levels", [1, 4])
def test_the_setting_of_rate_coding_gives_the_network_of_differential_coding(levels: int) -> None:
    settings = {"steps": STEPS, "levels": levels, "powers": levels > 1, "fire": 0.75, "signed": True}
    nets = [
        rb.convert(mlp(), X, method)
        for method in (RateCoding(**settings, differential=True), DifferentialCoding(**settings))
    ]
    found = [simulate(snn, X, STEPS).output for snn in nets]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", WRAPPED, ids=repr)
def test_any_neuron_gets_nearer_with_more_steps(method: RateCoding) -> None:
    snn = rb.convert(mlp(), X, method)
    with torch.no_grad():
        wanted = mlp()(X)
    errors = [float((simulate(snn, X, t).output - wanted).norm() / wanted.norm()) for t in (1, STEPS)]
    assert snn.plan.encoder.changes
    assert all(neuron.alphabet.step_weighted for neuron in snn.plan.neurons.values())
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RateCoding(differential=True, calibration="bias"), "calibration is 'bias'; it must be none or tem"),
        (lambda: SNNC(differential=True), "spread must be off"),
        (lambda: RateCoding(differential=True), "signed=True sends such spikes"),
        (lambda: CalibratedMSAT(differential=True), "SignedMSAT has it"),
        (lambda: TwoStage(signed=True, differential=True, trials=3), "trials must be 0"),
        (lambda: LocalBalancing(differential=True), "cannot be read late"),
        (lambda: DeltaCoding(calibration="potential"), "calibration is 'potential'; it must be none or temporal"),
    ],
)
def test_what_does_not_go_together_is_refused(make: Callable[[], RateCoding], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        make()


@pytest.mark.parametrize(
    "method",
    [DeltaCoding(steps=STEPS), DifferentialCoding(steps=STEPS, levels=1), RateCoding(signed=True, differential=True)],
    ids=repr,
)
def test_a_temporal_bias_makes_the_sum_right_after_every_step(method: DeltaCoding | RateCoding) -> None:
    snn = rb.convert(mlp(), X, method)
    with torch.no_grad(), activations(snn.graph) as wanted:
        snn.graph.module(X)

    def gap(network: rb.SpikingModel) -> float:
        values = simulate(network, X, STEPS, record=snn.graph.sites).values
        gaps = [channel_mean(values[s].cumsum(0), keep=1) - channel_mean(wanted[s]) for s in snn.graph.sites]
        return float(torch.stack([g.abs().mean() for g in gaps]).mean())

    calibrated = calibrate_temporal_bias(snn, snn.graph, as_batches(X), STEPS, passes=20)
    assert gap(calibrated) < 0.5 * gap(snn)


@pytest.mark.parametrize("wrap", [Biased, lambda neuron: SpikeConfidence(neuron, 1.0, 4)], ids=["biased", "filtered"])
def test_what_wraps_a_neuron_hands_on_what_receivers_hold(wrap: Callable[[Neuron], Neuron]) -> None:
    x = changes(60)
    inner = SignedMSATNeuron(torch.tensor(1.0).double(), Adaptation())
    bare, wrapped = Differential(inner, harmonic())(x), Differential(wrap(inner), harmonic())(x)
    assert float(wrapped.min()) < 0
    torch.testing.assert_close(wrapped, bare)


def test_a_network_that_was_trained_with_thresholds_takes_no_sums_above_them() -> None:
    net = with_levels(mlp(), 4, 1.0)
    with pytest.raises(ConversionError, match="do not keep"):
        rb.convert(net, X, RateCoding(signed=True, differential=True))


def test_the_bias_of_changes_ends_with_its_rows() -> None:
    zeros = torch.zeros(4, 3, 2)
    rows = torch.tensor([[1.0, 0.5], [0.5, 0.25]])
    held = Biased(GradedIF(0.25, 64), rows, lasting=False)
    assert held(zeros).sum((0, 1)).tolist() == [4.5, 2.25]
    assert held.settings()["lasting"] is False
    assert Biased(GradedIF(0.25, 64), rows)(zeros).sum((0, 1)).tolist() == [9.0, 4.5]


def test_the_weights_of_the_steps_are_tuned() -> None:
    snn = rb.convert(mlp(), X, RateCoding(steps=3, signed=True, differential=True))
    tuned = tune(snn, snn.graph, as_batches(X), 3, Tuning(60, weight_rate=0.0, flip=False, bfloat16=False))

    with torch.no_grad():
        wanted = mlp()(X)

    def error(network: rb.SpikingModel) -> float:
        return float((simulate(network, X, 3).output - wanted).norm())

    started = rb.convert(mlp(), X, RateCoding(steps=3, signed=True, differential=True, iterations=1)).plan.neurons["1"]
    assert isinstance(started, Biased)
    assert not started.lasting
    first, other = (network.plan.neurons["1"] for network in (snn, tuned))
    assert isinstance(first, Differential)
    assert isinstance(other, Neuron)
    assert not torch.equal(other.get_buffer("weights"), first.weights)
    assert error(tuned) < 0.8 * error(snn)
