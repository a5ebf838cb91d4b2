"""A plan can be read, changed, saved and loaded; a file that is none, or a damaged one, is named."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from networks import MLP_INPUT, MLP_SITES, RESIDUAL_INPUT, inputs, mlp, residual
from test_neurons import EXAMPLES
from torch import Tensor, nn

import rheobase as rb
from rheobase.coding import Mean, Readout
from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.neurons import (
    IF,
    MSAT,
    Adaptation,
    Alphabet,
    Biased,
    Differential,
    GradedIF,
    Neuron,
    Parallel,
    Payload,
    SignedMSAT,
    SpikeConfidence,
)
from rheobase.plan import Plan
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

X = inputs(MLP_INPUT, 6).float()


def plan() -> Plan:
    return Plan("by hand", {"1": IF(0.5), "3": SpikeConfidence(MSAT(2.0, Adaptation.vgg16()), 0.6, 8)})


# ------------------------------------------------------------------------------- reading, changing


def test_the_text_shows_the_method_the_coding_and_every_neuron() -> None:
    lines = str(plan()).splitlines()
    assert lines[0] == "by hand"
    assert lines[1] == "input: ConstantCurrent, output: Mean"
    assert lines[2].split() == ["site", "neuron", "spikes"]
    assert lines[3].split() == ["1", "IF(threshold=0.5,", "reset=soft)", "binary"]
    for words in (
        "SpikeConfidence(",
        "probability=0.6, steps=8, keep_charge=True",
        "MSAT(threshold=2",
        "alpha=0.03",
        "real",
    ):
        assert words in lines[4]
    assert len(lines) == 5


def test_the_text_shows_the_range_of_thresholds_of_channels() -> None:
    assert "threshold=0.25...2 (3 channels)" in str(Plan("", {"a": IF(torch.tensor([0.25, 2.0, 1.0]))}))


def test_another_neuron_makes_another_plan() -> None:
    old = plan()
    new = old.with_neuron("1", IF(4.0))
    assert float(new.neurons["1"].threshold) == 4.0  # type: ignore[arg-type]
    assert float(old.neurons["1"].threshold) == 0.5  # type: ignore[arg-type]
    assert new.neurons["3"] is old.neurons["3"]
    assert list(new.neurons) == list(old.neurons)
    assert (new.method, new.encoder, new.readout) == (old.method, old.encoder, old.readout)


def test_a_neuron_for_no_site_is_an_error() -> None:
    with pytest.raises(ConversionError, match=r"no site '2'; its sites are 1, 3"):
        plan().with_neuron("2", IF(1.0))


def test_a_plan_is_frozen_and_can_be_replaced() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().method = "other"  # type: ignore[misc]
    assert dataclasses.replace(plan(), method="other").method == "other"


def test_edits_change_the_converted_network_alone() -> None:
    net = mlp()
    graph = rb.trace(net, X)
    bias = torch.full((4,), 7.0)
    edited = SpikingModel(graph, dataclasses.replace(plan(), edits={"4.bias": bias}))
    plain = SpikingModel(graph, plan())
    difference = simulate(edited, X, 1).output - simulate(plain, X, 1).output
    torch.testing.assert_close(difference, (bias - net[4].bias.detach()).expand(6, 4))
    assert torch.equal(graph.module.get_parameter("4.bias"), net[4].bias)


# ----------------------------------------------------------------------------------- round trips


def assert_same_run(a: SpikingModel, b: SpikingModel, x: Tensor) -> None:
    """Bit for bit."""
    sites = list(a.plan.neurons)
    runs = [simulate(s, x, 24, record=sites, generator=torch.Generator().manual_seed(2)) for s in (a, b)]
    assert torch.equal(runs[0].output, runs[1].output)
    for site in sites:
        assert torch.equal(runs[0].values[site], runs[1].values[site])
        assert torch.equal(runs[0].spikes[site], runs[1].spikes[site])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_neuron_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    neuron = EXAMPLES[name]
    Plan("m", {"site": neuron}).save(tmp_path / "plan")
    loaded, _ = Plan.load(tmp_path / "plan")
    back = loaded.neurons["site"]
    assert type(back) is type(neuron)
    assert repr(back) == repr(neuron)
    assert same(back.settings(), neuron.settings())
    current = inputs((4,), 3).float().expand(20, 3, 4)
    for each in (back, neuron):
        each.reset(key=3)
    assert torch.equal(back(current), neuron(current))
    neuron.reset()


def same(a: Any, b: Any) -> bool:
    """Equality that goes into neurons, and tells a tuple from a list and float32 from float64."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Neuron):
        return type(a) is type(b) and same(a.settings(), b.settings())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and bool(a == b)


METHODS = [
    rb.ConstantThreshold(0.3, per_channel=True, initial_potential=0.5),
    rb.ConstantThreshold(percentile=99, reset="hard"),
    rb.MSAT.release(),
    rb.MSAT(confidence=True, confidence_sites="all"),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_network_runs_as_before(method: rb.MSAT, dtype: torch.dtype, tmp_path: Path) -> None:
    net = residual(1).to(dtype)
    snn = rb.convert(net, inputs(RESIDUAL_INPUT, 30, seed=1), method)
    snn.save(tmp_path / "net.rheobase")
    loaded = rb.load(tmp_path / "net.rheobase", residual(1).to(dtype))
    assert str(loaded.plan) == str(snn.plan)
    assert_same_run(loaded, snn, inputs(RESIDUAL_INPUT, 4, seed=2).to(dtype))


@pytest.mark.parametrize(
    ("method", "steps"), [(rb.methods.RateCoding(steps=3), 3), (rb.methods.SRP(steps=3, first_phase=2), 5)], ids=repr
)
def test_a_network_is_simulated_for_the_steps_that_it_was_converted_for(
    method: rb.methods.RateCoding, steps: int, tmp_path: Path
) -> None:
    snn = rb.convert(mlp(), X, method)
    assert f"T = {steps}" in str(snn.plan)
    snn.save(tmp_path / "net.rheobase")
    for network in (snn, rb.load(tmp_path / "net.rheobase", mlp())):
        assert simulate(network, X).steps == steps == rb.evaluate(network, X).steps
        assert simulate(network, X, 2).steps == 2 == rb.evaluate(network, X, 2).steps


@pytest.mark.parametrize("run", [simulate, rb.evaluate])
def test_a_network_for_any_number_of_steps_needs_to_be_told(run: Any) -> None:
    with pytest.raises(SettingError, match=r"steps is not given, and MSAT\(\) is for any number; give it, such as 64"):
        run(rb.convert(mlp(), X, rb.MSAT()), X)


def test_a_saved_network_with_edits_runs_as_before(tmp_path: Path) -> None:
    edits = {"4.bias": torch.randn(4), "0.weight": torch.randn(6, 10).T}  # the second is not contiguous
    snn = SpikingModel(rb.trace(mlp(), X), dataclasses.replace(plan(), edits=edits))
    snn.save(tmp_path / "net")
    loaded = rb.load(tmp_path / "net", mlp())
    assert set(loaded.plan.edits) == set(edits)
    assert_same_run(loaded, snn, X)


def test_a_network_that_has_run_saves_the_same_file(tmp_path: Path) -> None:
    snn = rb.convert(mlp(), X)
    snn.save(tmp_path / "before")
    simulate(snn, X, 5)
    snn.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_neurons_and_tensors_may_be_shared(tmp_path: Path) -> None:
    shared, thresholds = IF(0.5), torch.arange(1.0, 11.0)
    neurons = {"a": shared, "b": shared, "c": IF(thresholds[:4]), "d": IF(thresholds[2:6])}
    Plan("m", neurons).save(tmp_path / "plan")
    loaded, _ = Plan.load(tmp_path / "plan")
    assert all(same(loaded.neurons[site], neuron) for site, neuron in neurons.items())


class Cascade(Neuron):
    """A user's neuron, with settings of every sort that a file can hold."""

    alphabet = Alphabet(Payload.BINARY)

    class Part(IF):
        """A class inside a class."""

    def __init__(self, parts: tuple[Neuron, ...], gains: list[float], name: str | None, on: bool) -> None:
        super().__init__()
        self.parts = parts
        self.gains = gains
        self.name = name
        self.on = on

    def initial_state(self, current: Tensor) -> list[Any]:
        return [part.initial_state(current) for part in self.parts]

    def step(self, current: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        done = [part.step(g * current, s) for part, g, s in zip(self.parts, self.gains, state, strict=True)]
        return torch.stack([y for y, _ in done]).sum(0), [s for _, s in done]

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        return sum((p.expected_rate(current, steps) for p in self.parts), torch.zeros(()))


def test_a_neuron_of_ones_own_is_saved_and_loaded(tmp_path: Path) -> None:
    neuron = Cascade((IF(0.5), Cascade.Part(torch.tensor([0.5, 1.0]))), [1.0, math.inf], None, on=True)
    Plan("m", {"site": neuron}).save(tmp_path / "plan")
    back = Plan.load(tmp_path / "plan")[0].neurons["site"]
    assert isinstance(back, Cascade)
    assert isinstance(back.parts, tuple)
    assert [type(part) for part in back.parts] == [IF, Cascade.Part]
    assert (back.gains, back.name, back.on) == ([1.0, math.inf], None, True)
    assert same(back.parts[1], neuron.parts[1])


@dataclasses.dataclass(frozen=True)
class LastSteps(Readout):
    """A user's read-out: the total of all steps, times a gain."""

    gain: float = 2.0

    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        totals = outputs.cumsum(0) + (0.0 if state is None else state)
        return self.gain * totals, totals[-1]


def test_a_read_out_of_ones_own_is_used_saved_and_loaded(tmp_path: Path) -> None:
    graph = rb.trace(mlp(), X)
    snn = SpikingModel(graph, dataclasses.replace(plan(), readout=LastSteps(3.0)))
    mean = SpikingModel(graph, plan())
    torch.testing.assert_close(simulate(snn, X, 5).output, 15 * simulate(mean, X, 5).output)
    snn.save(tmp_path / "net")
    loaded = rb.load(tmp_path / "net", mlp())
    assert loaded.plan.readout == LastSteps(3.0)
    assert Plan.load(tmp_path / "net")[0].encoder == plan().encoder
    assert_same_run(loaded, snn, X)


def test_further_facts_are_kept_in_the_header(tmp_path: Path) -> None:
    plan().save(tmp_path / "plan", {"note": [1, "two", None]})
    loaded, header = Plan.load(tmp_path / "plan")
    assert header["note"] == [1, "two", None]
    assert loaded.readout == Mean()


# --------------------------------------------------------------------------------------- failures


class Closure(IF):
    def __init__(self, function: Any) -> None:
        super().__init__(1.0)
        self.function = function

    def settings(self) -> dict[str, Any]:
        return {"function": self.function}


class BareReadout(Readout):
    def read(self, totals: Tensor, first_step: int) -> Tensor:
        return totals


def test_what_no_file_can_hold_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    plan().save(path)
    before = path.read_bytes()
    with pytest.raises(SettingError, match="neurons/site/function is a function"):
        Plan("m", {"site": Closure(lambda: 1)}).save(path)
    with pytest.raises(SettingError, match="readout is a BareReadout"):
        dataclasses.replace(plan(), readout=BareReadout()).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("stage", ["write_bytes", "replace"])
@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(28, "disk full"), SettingError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_an_interrupted_write_leaves_the_old_file(
    stage: str, error: BaseException, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.rheobase"
    plan().save(path)
    before = path.read_bytes()
    write = Path.write_bytes

    def fail(self: Path, *args: Any) -> None:
        if stage == "write_bytes":
            write(self, args[0][: len(args[0]) // 2])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, stage, fail)
        with pytest.raises(seen):
            Plan("other", {"x": IF(9.0)}).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["missing/net.rheobase", "."])
def test_a_place_that_cannot_be_written_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=rf"{tmp_path / path} cannot be written \("):
        plan().save(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    plan().save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 23), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="cannot be read"):
            Plan.load(path)


@pytest.mark.parametrize("content", [b"", b"not a plan at all, but some text of a reader", bytes(200)])
def test_another_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        Plan.load(tmp_path / "other")


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Plan.load(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot be read: it is a folder"):
        Plan.load(tmp_path)
    with pytest.raises(SettingError, match=r"load: model is 'net'; .*an nn\.Module"):
        rb.load(tmp_path, "net")  # type: ignore[arg-type]


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"rheobase plan 99": "{}"}])
def test_weights_in_safetensors_are_no_plan(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.ones(3)}, tmp_path / "weights", metadata)
    with pytest.raises(DataError, match=r"expected 'rheobase plan 1'"):
        Plan.load(tmp_path / "weights")


DAMAGES: dict[str, tuple[str, str]] = {
    "no JSON": ('"method"', "method"),
    "no method": ('"method"', '"metod"'),
    "no neurons": ('"neurons"', '"neuron"'),
    "no readout": ('"readout"', '"red"'),
    "no tensor": ('"tensor": "neurons/1/threshold"', '"tensor": "neurons/9/threshold"'),
    "no class": ('"class": "rheobase.neurons.integrate_fire:IF"', '"clas": "IF"'),
    "other setting": ('"initial_potential"', '"potential"'),
    "bad value": ('"soft"', '"warm"'),
    "bad probability": ('"probability": 0.6', '"probability": 6'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_header_is_an_error(damage: str, tmp_path: Path) -> None:
    before, after = DAMAGES[damage]
    path = tmp_path / "plan"
    plan().save(path)
    with safetensors.safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    ((key, header),) = metadata.items()
    assert before in header
    metadata[key] = header.replace(before, after)
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(DataError, match="is damaged, or was written by another version"):
        Plan.load(path)


@pytest.mark.parametrize(
    "kind", ["nowhere.at_all:IF", "test_plan:Missing", "test_plan:plan", "os:system", "torch.nn:Linear", "json:dumps"]
)
def test_a_class_that_is_no_neuron_or_not_imported_is_an_error(kind: str, tmp_path: Path) -> None:
    header = {
        "method": "m",
        "neurons": {"a": {"class": kind, "settings": {}}},
        "encoder": {"class": "rheobase.coding:ConstantCurrent", "settings": {}},
        "readout": {"class": "rheobase.coding:Mean", "settings": {}},
    }
    metadata = {"rheobase plan 1": json.dumps(header)}
    safetensors.torch.save_file({"edits/none": torch.zeros(1)}, tmp_path / "plan", metadata)
    module, _, name = kind.partition(":")
    with pytest.raises(DataError, match=f"needs the class {name} of the module {module}; import that module first"):
        Plan.load(tmp_path / "plan")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    snn = rb.convert(mlp(0), X)
    snn.save(tmp_path / "net")
    with pytest.raises(ConversionError, match=r"other weights: 0\.weight"):
        rb.load(tmp_path / "net", mlp(1))
    changed = mlp(0)
    changed[2].bias.data[3] += 0.1  # type: ignore[operator]
    with pytest.raises(ConversionError, match=r"other weights: 2\.bias differ"):
        rb.load(tmp_path / "net", changed)


@pytest.mark.parametrize("change", [lambda w: w.flip(1), lambda w: -w, lambda w: w[[1, 0, *range(2, len(w))]]])
def test_the_same_weights_in_another_order_or_with_other_signs_are_refused(tmp_path: Path, change: Any) -> None:
    rb.convert(mlp(0), X).save(tmp_path / "net")
    changed = mlp(0)
    changed[0].weight.data = change(changed[0].weight.data)
    with pytest.raises(ConversionError, match=r"other weights: 0\.weight differ"):
        rb.load(tmp_path / "net", changed)


def test_weights_that_differ_by_rounding_are_accepted(tmp_path: Path) -> None:
    rb.convert(mlp(0), X).save(tmp_path / "net")
    changed = mlp(0)
    for p in changed.parameters():
        p.data.mul_(1 + 1e-6 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    rb.load(tmp_path / "net", changed)


def test_another_network_is_refused(tmp_path: Path) -> None:
    rb.convert(mlp(0), X).save(tmp_path / "net")
    with pytest.raises(ConversionError):
        rb.load(tmp_path / "net", residual())
    with pytest.raises(ConversionError, match=r"another network: it had .*output.* where this one has 5: ReLU"):
        rb.load(tmp_path / "net", nn.Sequential(*mlp(0), nn.ReLU(), nn.Linear(4, 2)))


def test_a_plan_that_does_not_fit_lists_every_misfit() -> None:
    misfit = Plan("m", {MLP_SITES[0]: IF(torch.ones(7)), "9": IF(1.0)}, edits={"z": X, "4.bias": torch.ones(3)})
    with pytest.raises(ConversionError) as error:
        SpikingModel(rb.trace(mlp(), X), misfit)
    for words in ("1 has 10 channels and threshold of shape (7,)", "no site 9", "no neuron for the site 3",
                  "no parameter z", "4.bias has the shape (4,), the plan (3,)"):  # fmt: skip
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (GradedIF(torch.ones(4, 3)), "threshold of shape (4, 3)"),
        (GradedIF(1.0, fire=torch.full((3,), 0.5)), "fire of shape (3,)"),
        (GradedIF(1.0, offset=torch.zeros(2, 7)), "offset of shape (2, 7)"),
        (SignedMSAT(1.0, Adaptation(), fire=torch.full((3,), 0.5)), "fire of shape (3,)"),
        (Biased(IF(1.0), torch.zeros(3)), "bias of shape (3,)"),
        (Biased(IF(torch.ones(3))), "threshold of shape (3,)"),
        (Biased(IF(1.0), potential=torch.zeros(8, 5, 5)), "potential of shape (8, 5, 5)"),
        (IF(1.0, initial_potential=torch.zeros(3)), "initial_potential of shape (3,)"),
        (Parallel(1.0, torch.zeros(3)), "bias of shape (3,)"),
        (Differential(GradedIF(1.0), torch.ones(4, 3)), "weights of shape (4, 3)"),
    ],
    ids=repr,
)
def test_parameters_for_other_channels_are_refused(neuron: Neuron, words: str) -> None:
    graph = rb.trace(mlp(), X)
    plan = Plan("test", dict.fromkeys(graph.sites, neuron))
    with pytest.raises(ConversionError) as error:
        SpikingModel(graph, plan)
    assert f"1 has 10 channels and {words}" in str(error.value)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize(
    "neuron", [GradedIF(1.0, fire=torch.full((3,), 0.5)), SignedMSAT(torch.ones(3), Adaptation())], ids=repr
)
def test_a_neuron_by_itself_refuses_other_channels(neuron: Neuron, backend: Any) -> None:
    neuron.backend = backend
    with pytest.raises(SettingError, match="parameters for 3 channels; its current has 8"):
        neuron(torch.ones(2, 4, 8))
