"""Fitting weights layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor, nn

import rheobase as rb
from rheobase.batches import Batches, as_batches
from rheobase.calibration import Layer, Tuning, calibrate_weights, tune, weights
from rheobase.calibration.bias import fit_potential
from rheobase.errors import SettingError
from rheobase.methods import SNNC, DeltaCoding, RateCoding, RobustNorm
from rheobase.neurons import Biased
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

STEPS = 4
X = inputs(RESIDUAL_INPUT, 64, seed=3).float()


def data() -> Batches:
    return as_batches([X[:30], X[30:]])


class Pooled(nn.Module):
    """Neurons that a max pooling and a sum read, and a layer whose output two layers of neurons read."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.last = nn.Linear(16, 3)
        self.relu, self.other, self.third = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.first(x))
        z = self.second(a)
        b = self.other(z + a)
        c = self.third(z - 0.25)
        both = torch.cat([self.pool(b), self.pool(c)], 1).mean((2, 3))
        result: Tensor = self.last(both)
        return result


def converted(net: nn.Module, method: RateCoding | RobustNorm) -> SpikingModel:
    return rb.convert(net.eval(), X, method)


def error(net: nn.Module, snn: SpikingModel) -> float:
    with torch.no_grad():
        wanted = net(X)
    return float((simulate(snn, X, STEPS).output - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    ("net", "method"),
    [(residual(), RobustNorm()), (Pooled(), RobustNorm()), (Pooled(), RateCoding(steps=STEPS, fire=1.0))],
    ids=["residual", "pooled", "pooled, by channel"],
)
def test_fitted_weights_bring_the_answers_nearer(net: nn.Module, method: RateCoding | RobustNorm) -> None:
    snn = converted(net, method)
    fitted = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=60, rate=1e-2)
    assert error(net, fitted) < 0.85 * error(net, snn)


def test_only_weights_before_neurons_move_and_the_given_network_stays() -> None:
    snn = converted(Pooled(), RateCoding(steps=STEPS))
    before = {name: p.clone() for name, p in snn.module.named_parameters()}
    answers = simulate(snn, X, STEPS).output
    fitted = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=5)
    assert set(fitted.plan.edits) == {f"{layer}.{name}" for layer in ("first", "second") for name in ("weight", "bias")}
    assert not any(torch.equal(value, before[name]) for name, value in fitted.plan.edits.items())
    assert all(torch.equal(p, before[name]) for name, p in snn.module.named_parameters())
    assert torch.equal(simulate(snn, X, STEPS).output, answers)
    assert str(fitted.plan.neurons) == str(snn.plan.neurons)


@pytest.mark.parametrize("method", [RateCoding(steps=STEPS), RobustNorm(), RobustNorm(gate=True)], ids=repr)
@pytest.mark.parametrize("build", [residual, Pooled])
def test_each_layer_is_fitted_to_what_the_fitted_layers_before_it_send(
    build: Callable[[], nn.Module], method: RateCoding | RobustNorm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a layer is told that those before it send is what they send in the network that comes out."""
    told: dict[str, Tensor] = {}
    parameters: list[str] = []
    send, own = weights._Network.send, weights._Network.parameters

    def sends(self: weights._Network, node: Any, layer: Layer, adjust: Any) -> Tensor:
        told[layer.site] = values = send(self, node, layer, adjust)
        return values

    def finds(self: weights._Network, node: Any) -> dict[str, nn.Parameter]:
        found = own(self, node)
        parameters.extend(found)
        return found

    monkeypatch.setattr(weights._Network, "send", sends)
    monkeypatch.setattr(weights._Network, "parameters", finds)
    snn = converted(build(), method)
    with_potentials = {"adjust": lambda layer: fit_potential(layer, 1)}
    fitted = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=20, rate=1e-2, **with_potentials)
    assert all(isinstance(neuron, Biased) for neuron in fitted.plan.neurons.values())
    run = simulate(fitted, X, STEPS, record=snn.graph.sites)
    assert set(told) == set(snn.graph.sites)
    for site, values in told.items():
        torch.testing.assert_close(values, run.values[site], msg=lambda text, s=site: f"{s}: {text}")
    assert sorted(parameters) == sorted(set(parameters)) == sorted(fitted.plan.edits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_fitted_in_float32(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    snn, half = (rb.convert(residual().to(t), X.to(t), RobustNorm()) for t in (torch.float32, dtype))
    wanted = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=20, rate=1e-2).plan.edits
    found = calibrate_weights(half, half.graph, as_batches([x]), STEPS, iterations=20, rate=1e-2).plan.edits
    assert {value.dtype for value in found.values()} == {dtype}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name].float(), value, rtol=0.1, atol=0.05)


def test_the_data_get_no_gradients() -> None:
    x = X.clone().requires_grad_(True)
    snn = converted(residual(), RateCoding(steps=STEPS))
    calibrate_weights(snn, snn.graph, as_batches([x]), STEPS, iterations=2)
    tune(snn, snn.graph, as_batches([x]), STEPS, Tuning(2))
    assert x.grad is None


def test_the_same_seed_gives_the_same_weights() -> None:
    snn = converted(residual(), RateCoding(steps=STEPS))
    first, again, other = (
        calibrate_weights(snn, snn.graph, data(), STEPS, iterations=3, seed=seed).plan.edits for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_inference_mode_does_not_matter() -> None:
    snn = converted(residual(), RateCoding(steps=STEPS))
    with torch.inference_mode():
        inside = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=3).plan.edits
    outside = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=3).plan.edits
    assert all(torch.equal(inside[name], outside[name]) for name in outside)


def test_snnc_fits_weights_before_its_potentials() -> None:
    settings = {"steps": STEPS, "calibration": "potential"}
    plain, fitted = (rb.convert(residual(), X, SNNC(**settings, weight_iterations=n)) for n in (0, 40))
    assert not plain.plan.edits
    assert fitted.plan.edits
    assert error(residual(), fitted) < error(residual(), plain)


def test_whole_numbers_among_the_parameters_stay() -> None:
    net = residual()
    first = next(module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    first.register_parameter("version", nn.Parameter(torch.tensor(3), requires_grad=False))
    snn = rb.convert(net, X, RateCoding(steps=STEPS))
    edits = calibrate_weights(snn, snn.graph, data(), STEPS, iterations=2).plan.edits
    assert edits
    assert not any(name.endswith("version") for name in edits)


@pytest.mark.parametrize(
    ("settings", "said"), [({"iterations": 0}, "iterations is 0"), ({"rate": float("nan")}, "rate is nan")]
)
def test_wrong_settings_are_errors(settings: dict[str, float], said: str) -> None:
    snn = converted(residual(), RateCoding(steps=STEPS))
    with pytest.raises(SettingError, match=said):
        calibrate_weights(snn, snn.graph, data(), STEPS, **settings)  # type: ignore[arg-type]


def test_a_network_of_changes_is_refused() -> None:
    snn = rb.convert(residual(), X, DeltaCoding(steps=STEPS))
    with pytest.raises(SettingError, match="constant current"):
        calibrate_weights(snn, snn.graph, data(), STEPS)
    with pytest.raises(SettingError, match="weight_iterations is -1"):
        SNNC(weight_iterations=-1)
    with pytest.raises(SettingError, match="weight_iterations must be 0 where differential is on"):
        SNNC(weight_iterations=3, signed=True, spread=False, calibration="none", differential=True)
