"""Networks trained with the QCFS activation, layer-synchronous methods, and how long both take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, MLP_SITES, RESIDUAL_INPUT, inputs, mlp, residual
from synchronous_references import clip_floor_shift
from torch import Tensor, nn

import rheobase as rb
from rheobase import methods, models
from rheobase.batches import as_batches
from rheobase.calibration import Layer, layerwise
from rheobase.coding import Delayed
from rheobase.errors import SettingError
from rheobase.methods import COS, QCFS, SRP, TPP, ConstantThreshold, ParallelConversion, RateCoding, SpikeConverter
from rheobase.methods._base import Method
from rheobase.methods.parts.tuned import Tuned
from rheobase.neurons import IF, Neuron, Parallel
from rheobase.qcfs import ClipFloorShift, with_levels
from rheobase.simulation import simulate

SYNCHRONOUS = [ParallelConversion(), COS(), SpikeConverter(), TPP()]


def trained(levels: int = 4) -> nn.Sequential:
    """An MLP as after QCFS training: each site has a threshold of its own."""
    net = mlp()
    net[1], net[3] = ClipFloorShift(levels, 1.25), ClipFloorShift(levels, 0.75)
    return net.eval()


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_the_activation_equals_its_reference(levels: int) -> None:
    z = torch.linspace(-2, 3, 401, dtype=torch.float64)
    activation = ClipFloorShift(levels, 1.5).double()
    np.testing.assert_allclose(activation(z).detach().numpy(), clip_floor_shift(z.numpy(), 1.5, levels), atol=1e-12)


def test_its_gradients_pass_the_floor_and_reach_the_threshold() -> None:
    activation = ClipFloorShift(4, 1.0)
    z = torch.tensor([-1.0, 0.3, 0.6, 2.0], requires_grad=True)
    activation(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert activation.threshold.grad is not None  # (h - z) / threshold inside, 1 above the clip
    assert float(activation.threshold.grad) == pytest.approx((0.25 - 0.3) + (0.5 - 0.6) + 1, abs=1e-6)


@pytest.mark.parametrize(("levels", "threshold"), [(0, 1.0), (4, 0.0), (4, float("nan"))])
def test_wrong_settings_of_the_activation_are_errors(levels: int, threshold: float) -> None:
    with pytest.raises(SettingError, match="ClipFloorShift"):
        ClipFloorShift(levels, threshold)


def test_every_relu_of_a_network_gets_levels_and_a_threshold_of_its_own() -> None:
    net = with_levels(mlp(), 4, 2.0)
    found = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    assert [(type(m), m.levels, m.threshold.item()) for m in found] == 2 * [(ClipFloorShift, 4, 2.0)]
    assert found[0].threshold is not found[1].threshold


def test_a_relu_at_two_places_shares_its_threshold() -> None:
    act = nn.ReLU().eval()
    net = with_levels(nn.Sequential(nn.Linear(2, 3), act, nn.Linear(3, 3), act).double(), 4)
    assert isinstance(net[1], ClipFloorShift)
    assert net[1] is net[3]
    assert net[1].threshold.dtype == torch.float64
    assert not net[1].training
    with pytest.raises(SettingError, match="levels already"):
        with_levels(net, 4)


def test_a_network_without_relu_modules_cannot_get_levels() -> None:
    with pytest.raises(SettingError, match="has no place"):
        with_levels(nn.Linear(2, 3))


def test_a_network_of_the_package_is_built_with_levels_and_without() -> None:
    def kinds(**settings: int) -> set[type]:
        return {type(m) for m in models.build("resnet20", width=2, **settings).modules() if isinstance(m, nn.ReLU)}

    assert kinds(levels=4) == {ClipFloorShift}
    assert kinds() == {nn.ReLU}
    with pytest.raises(SettingError, match="levels is 0"):
        models.build("vgg16", width=2, levels=0)


def test_a_trained_activation_is_a_site_and_computes_the_same() -> None:
    net, x = trained(), inputs(MLP_INPUT, 20).float()
    graph = rb.trace(net, x)
    assert graph.sites == MLP_SITES
    assert torch.equal(graph.module(x), net(x))
    assert isinstance(graph.module.get_submodule("1"), ClipFloorShift)
    assert net[1].threshold.requires_grad  # type: ignore[union-attr]


@pytest.mark.parametrize("levels", [2, 4, 8])
def test_with_t_steps_for_t_levels_the_layer_synchronous_network_is_the_trained_one(levels: int) -> None:
    net, x = trained(levels).double(), inputs(MLP_INPUT, 200)
    snn = rb.convert(net, x, ParallelConversion(levels, calibrate=False))
    torch.testing.assert_close(simulate(snn, x, levels).output, net(x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("levels", [2, 4, 8])
def test_the_first_layer_of_a_causal_network_is_the_trained_one(levels: int) -> None:
    net, x = trained(levels).double(), inputs(MLP_INPUT, 200)
    snn = rb.convert(net, x, QCFS())
    neuron = snn.plan.neurons["1"]
    assert isinstance(neuron, IF)
    assert (float(neuron.threshold), float(neuron.initial_potential)) == (1.25, 0.625)
    rate = simulate(snn, x, levels, record=["1"]).values["1"].mean(0)
    torch.testing.assert_close(rate, net[:2](x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", [*SYNCHRONOUS, QCFS(), SRP(), RateCoding()], ids=repr)
def test_methods_keep_the_threshold_that_was_trained(method: Method) -> None:
    plan = rb.convert(trained(), inputs(MLP_INPUT, 40).float(), method).plan
    assert [float(n.threshold) for n in plan.neurons.values()] == [1.25, 0.75]  # type: ignore[arg-type]


def test_a_trained_network_is_saved_and_loaded(tmp_path: Path) -> None:
    x = inputs(MLP_INPUT, 40).float()
    snn = rb.convert(trained(), x, QCFS())
    snn.save(tmp_path / "net")
    assert torch.equal(simulate(rb.load(tmp_path / "net", trained()), x, 8).output, simulate(snn, x, 8).output)


def test_a_threshold_that_training_brought_below_zero_is_an_error() -> None:
    net, x = trained(), inputs(MLP_INPUT, 40).float()
    net[3].threshold.data.fill_(-0.1)  # type: ignore[union-attr, operator]
    with pytest.raises(SettingError, match=r"activation 3 was trained to the threshold -0\.1"):
        rb.convert(net, x, QCFS())


# ------------------------------------------------------------------------- what the methods decide


def test_parallel_conversion_measures_both_gaps_exactly() -> None:
    net, x = residual().double(), inputs(RESIDUAL_INPUT, 64)
    snn = rb.convert(net, x, ParallelConversion(4))
    seen: list[Layer] = []

    def look(layer: Layer) -> Neuron:
        seen.append(layer)
        return layer.neuron

    layerwise(snn, snn.graph, [(x, None)], 4, look)  # type: ignore[arg-type]
    for layer in seen:
        neuron = layer.neuron
        assert isinstance(neuron, Parallel)
        torch.testing.assert_close(layer.activation, layer.pre_activation.relu())
        psi = (layer.pre_activation - layer.currents.mean(0)).mean((0, 2, 3))
        phi = (layer.activation - layer.emit(Parallel(neuron.threshold, psi)).mean(0)).mean((0, 2, 3))
        torch.testing.assert_close(neuron.bias, psi)
        torch.testing.assert_close(neuron.gain, phi)


def test_without_calibration_parallel_conversion_is_the_plan() -> None:
    plan = rb.convert(mlp(), inputs(MLP_INPUT, 40).float(), ParallelConversion(calibrate=False)).plan
    assert all(float(n.bias) == 0 and float(n.gain) == 0 for n in plan.neurons.values())  # type: ignore[arg-type]


def test_binary_digits_are_nearly_exact_after_eight_steps() -> None:
    net, x = residual(), inputs(RESIDUAL_INPUT, 100).float()
    curve = rb.evaluate(rb.convert(net, x, SpikeConverter(8)), x, 8, net)
    assert curve.logit_error is not None
    assert curve.logit_error[-1] < 0.02


def test_srp_reads_the_second_phase_in_chunks_of_any_size() -> None:
    net, x = residual(), inputs(RESIDUAL_INPUT, 10).float()
    snn = rb.convert(net, x, SRP(first_phase=5))
    assert snn.plan.readout == Delayed(5)
    assert snn.causal
    outputs = [simulate(snn, x, 13, chunk=k).output for k in (1, 4, 5, 13)]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0])


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (ParallelConversion, {"images": 0, "steps": 0}, r"steps is 0.*images is 0"),
        (COS, {"pre_steps": 0, "iterations": 0}, r"pre_steps is 0.*iterations is 0"),
        (SRP, {"first_phase": 0}, "first_phase is 0"),
        (SpikeConverter, {"radix": 3.0}, "radix is 3"),
        (TPP, {"threshold": "least"}, "threshold is 'least'"),
        (QCFS, {"threshold": 0.5}, "percentile 0.5"),
    ],
)
def test_wrong_settings_are_named(make: Callable[..., Method], wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=f"{make.__name__}: .*{message}"):  # type: ignore[attr-defined]
        make(**wrong)


# ------------------------------------------------------------------------------------------ latency


class Branches(nn.Module):
    """Two sites one after the other, beside one alone, and a last one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.out = (nn.Linear(6, 6) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        long = self.b(self.a(x).relu()).relu()
        return self.out(self.d(long + self.c(x).relu()).relu())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("method", "steps"),
    [(ParallelConversion(), 3 * 8), (TPP(), 3 * 8), (COS(), 3 * 16), (COS(pre_steps=3, iterations=2), 3 * 14)],
    ids=repr,
)
def test_a_layer_synchronous_answer_takes_the_longest_chain(method: Method, steps: int) -> None:
    torch.manual_seed(0)
    net, x = Branches(), inputs(MLP_INPUT, 40).float()
    curve = rb.evaluate(rb.convert(net, x, method), x, 8)
    assert curve.end_to_end_steps == steps
    assert f"T = 8 takes {steps} steps from end to end" in str(curve)
    assert rb.Curve.from_json(curve.to_json()) == curve


@pytest.mark.parametrize("method", [QCFS(), SRP(), ConstantThreshold()], ids=repr)
def test_a_causal_answer_takes_the_steps_of_the_simulation(method: Method) -> None:
    curve = rb.evaluate(rb.convert(mlp(), inputs(MLP_INPUT, 40).float(), method), inputs(MLP_INPUT, 40).float(), 12)
    assert curve.end_to_end_steps == 12
    assert "end to end" not in str(curve)


def test_every_method_keeps_the_trained_clip_or_says_that_it_does_not() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), ClipFloorShift(16, 1.0), nn.Linear(32, 5)).eval()
    net[0].weight.data *= 4
    x = torch.randn(256, 6)
    wanted, refused = net(x).detach(), set()
    assert (net[0](x) > 1).float().mean() > 0.2
    for name in sorted(set(methods.__all__) - {"Auto"}):
        plain = getattr(methods, name)()
        fields = {field.name for field in dataclasses.fields(plain)}
        long = {"steps": 64} if "steps" in fields else {}
        method = dataclasses.replace(plain, **long, **({"iterations": 0} if isinstance(plain, Tuned) else {}))
        if not method.clips():
            refused.add(name)
            with pytest.raises(SettingError, match="were trained to a largest value"):
                rb.convert(net, x, method)
            continue
        snn = rb.convert(net, x, method)
        steps = 72 if name == "SRP" else 64
        output = simulate(snn, x, steps).output
        assert (output - wanted).norm() < 0.15 * wanted.norm(), name
    assert {"AnnealedDelta", "Burst", "ConstantThreshold", "MSAT", "SignedMSAT", "SpikeNorm"} <= refused
    assert refused.isdisjoint({"QCFS", "RateCoding", "MultiLevel", "TemporalBias", "ParallelConversion"})


VARIANTS: tuple[dict[str, Any], ...] = (
    {}, {"fraction": 0.5}, {"fraction": 2.0}, {"signed": True, "differential": True}, {"levels": 1}, {"levels": 3},
    {"levels": 3, "powers": True}, {"fire": 1.0}, {"fire": 0.75, "spread": True}, {"period": 2}, {"low": 0.3},
)  # fmt: skip


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("name", sorted(set(methods.__all__) - {"Auto"}))
def test_no_rate_is_above_the_trained_threshold_where_a_method_says_so(name: str, steps: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), ClipFloorShift(16, 0.5), nn.Linear(16, 5)).eval()
    net[0].weight.data *= 4
    x = torch.randn(32, 6)
    plain = getattr(methods, name)()
    known = {field.name for field in dataclasses.fields(plain)}
    wanted = {"steps": steps, "iterations": 0, "calibrate": False}  # which adds what is missing on average
    fixed = {key: value for key, value in wanted.items() if key in known and name != "COS"}
    for changes in VARIANTS:
        if not changes.keys() <= known:
            continue
        try:
            snn = rb.convert(net, x, dataclasses.replace(plain, **{**fixed, **changes}))
        except SettingError:
            continue
        values = simulate(snn, x, steps if name != "SRP" else 8 + steps, record=["1"]).values["1"]
        rate = values.sum(0) if snn.plan.encoder.changes else values[-steps:].mean(0)
        assert float(rate.max()) <= 0.5 + 1e-5, snn.plan.method


def test_auto_tries_only_what_keeps_the_trained_clip() -> None:
    x = inputs(MLP_INPUT, 40).float()
    choice = methods.Auto(steps=4, iterations=0).choose(rb.trace(trained(), x[:2]), as_batches(x))
    assert choice.tried
    assert all(candidate.method.clips() for candidate in choice.tried)
