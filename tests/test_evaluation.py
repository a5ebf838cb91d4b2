"""One streaming pass gives what a separate simulation for each T gives, and says what it cannot measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import MLP_INPUT, RESIDUAL_INPUT, inputs, mlp
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rheobase as rb
from rheobase import evaluation
from rheobase.errors import DataError, SettingError
from rheobase.methods import MSAT, ConstantThreshold
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

X = inputs(MLP_INPUT, 23, seed=1).float()
NET = mlp(7)
with torch.no_grad():
    Y = torch.where(torch.arange(23) % 3 == 0, torch.arange(23) % 4, NET(X).argmax(1))
STEPS = 12


def converted(method: MSAT | ConstantThreshold | None = None) -> SpikingModel:
    return rb.convert(NET, inputs(MLP_INPUT, 60, seed=2), method or ConstantThreshold(0.5))


RANDOM = MSAT(confidence=True, confidence_sites="all", confidence_steps=9)


def noisy() -> SpikingModel:
    """A network whose runs depend on the seed for certain."""
    snn = converted(RANDOM)
    plan = snn.plan
    for site, neuron in plan.neurons.items():
        plan = plan.with_neuron(site, type(neuron)(**{**neuron.settings(), "probability": 0.5}))
    return SpikingModel(snn.graph, plan)


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of each batch's generator, in the order of the simulations."""
    seen: list[int] = []
    stream = evaluation.stream

    def spy(*args: Any, generator: torch.Generator, **kwargs: Any) -> Iterator[Any]:
        seen.append(generator.initial_seed())
        return stream(*args, generator=generator, **kwargs)

    monkeypatch.setattr(evaluation, "stream", spy)
    return seen


@pytest.mark.parametrize("chunk", [1, 5, None])
@pytest.mark.parametrize("build", [converted, lambda: converted(MSAT()), noisy])
def test_every_step_equals_a_simulation_of_its_own(
    build: Callable[[], SpikingModel], chunk: int | None, generators: list[int]
) -> None:
    snn = build()
    batches = list(zip(X.split(9), Y.split(9), strict=True))  # 9, 9 and 5 samples
    curve = rb.evaluate(snn, batches, STEPS, NET, chunk=chunk)
    assert curve.images == 23
    before = dict.fromkeys(snn.plan.neurons, 0.0)
    for t in range(1, STEPS + 1):
        correct = agree = 0
        error = size = 0.0
        spikes = dict.fromkeys(before, 0)
        for (x, y), seed in zip(batches, generators[:3], strict=True):
            run = simulate(snn, x, t, generator=torch.Generator().manual_seed(seed))
            with torch.no_grad():
                wanted = NET(x)
            for i in range(len(x)):
                correct += int(run.output[i].argmax() == y[i])
                agree += int(run.output[i].argmax() == wanted[i].argmax())
                error += float((run.output[i].double() - wanted[i].double()).square().sum())
                size += float(wanted[i].double().square().sum())
            for site in spikes:
                spikes[site] += int(run.spikes[site].sum())
        assert curve.accuracy is not None
        assert curve.agreement is not None
        assert curve.logit_error is not None
        assert curve.accuracy[t - 1] == pytest.approx(correct / 23)
        assert curve.agreement[t - 1] == pytest.approx(agree / 23)
        assert curve.logit_error[t - 1] == pytest.approx((error / size) ** 0.5, rel=1e-5)
        for site, total in spikes.items():
            assert curve.spikes[site][t - 1] == pytest.approx((total - before[site]) / 23)
        before = {site: float(total) for site, total in spikes.items()}
    assert sum(before.values()) > 0


def test_the_curve_names_its_method_neurons_and_reference() -> None:
    curve = rb.evaluate(converted(MSAT()), (X, Y), STEPS, NET)
    assert (curve.method, curve.steps, curve.images, curve.seeds) == ("MSAT()", STEPS, 23, (0,))
    assert curve.neurons == {"1": 10, "3": 8}
    with torch.no_grad():
        assert curve.reference_accuracy == pytest.approx(float((NET(X).argmax(1) == Y).double().mean()))
    assert curve.accuracy_by_seed is None


@pytest.mark.parametrize("size", [1, 7, 22, 100])
def test_the_split_into_batches_does_not_change_the_curve(size: int) -> None:
    snn = converted(MSAT())
    whole = rb.evaluate(snn, (X, Y), STEPS, NET)
    split = rb.evaluate(snn, DataLoader(TensorDataset(X, Y), batch_size=size), STEPS, NET)
    assert split.accuracy == whole.accuracy
    assert split.agreement == whole.agreement
    assert split.logit_error == pytest.approx(whole.logit_error, rel=1e-5)
    assert split.spikes == whole.spikes
    assert split.reference_accuracy == whole.reference_accuracy


@pytest.mark.parametrize(
    "data",
    [
        {"img": X, "label": Y},
        (X.double().numpy(), Y.numpy()),
        [(X[:20], Y[:20].tolist()), (X[20:], Y[20:].tolist())],
        ((x, y) for x, y in zip(X.split(8), Y.split(8), strict=True)),
    ],
)
def test_any_labelled_data_give_the_same_curve(data: object) -> None:
    snn = converted()
    assert rb.evaluate(snn, data, 4).accuracy == rb.evaluate(snn, (X, Y), 4).accuracy


# ------------------------------------------------------------------------------------- seeds


def test_each_seed_is_a_run_of_its_own() -> None:
    snn = noisy()
    curve = rb.evaluate(snn, [(X, Y), (X, Y)], STEPS, NET, seeds=(0, 1, 5))
    alone = [rb.evaluate(snn, [(X, Y), (X, Y)], STEPS, NET, seeds=(seed,)) for seed in (0, 1, 5)]
    assert curve.seeds == (0, 1, 5)
    assert curve.accuracy_by_seed == [one.accuracy for one in alone]
    for name in ("accuracy", "agreement", "logit_error"):
        mean = torch.tensor([getattr(one, name) for one in alone], dtype=torch.float64)
        mean = mean.square().mean(0).sqrt() if name == "logit_error" else mean.mean(0)
        assert getattr(curve, name) == pytest.approx(mean.tolist())
    for site in curve.spikes:
        mean = torch.tensor([one.spikes[site] for one in alone], dtype=torch.float64).mean(0)
        assert curve.spikes[site] == pytest.approx(mean.tolist())
    errors = {tuple(one.logit_error or ()) for one in alone}
    assert len(errors) == 3


def test_the_same_seed_gives_the_same_curve() -> None:
    snn = noisy()
    assert rb.evaluate(snn, (X, Y), 8, NET, seeds=(4,)) == rb.evaluate(snn, (X, Y), 8, NET, seeds=(4,))


def test_no_two_seeds_and_batches_share_their_random_numbers(generators: list[int]) -> None:
    rb.evaluate(noisy(), [(X, Y)] * 4, 1, seeds=(*range(20), 2**32, 2**40 + 1))
    assert len(set(generators)) == len(generators) == 4 * 22
    first_draws = {
        float(torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)) for seed in generators
    }
    assert len(first_draws) == 4 * 22


def test_only_the_first_seed_counts_where_nothing_is_random(generators: list[int]) -> None:
    curve = rb.evaluate(converted(), (X, Y), 3, seeds=(6, 7, 8))
    assert curve.seeds == (6,)
    assert curve.accuracy_by_seed is None
    assert len(generators) == 1


def test_the_curve_of_several_seeds_survives_json() -> None:
    seeds = torch.arange(2).numpy()  # numpy's integers are no JSON
    curve = rb.evaluate(noisy(), (X, Y), 4, NET, seeds=seeds)
    assert rb.Curve.from_json(curve.to_json()) == curve


# -------------------------------------------------------------------- what there is to compare


def test_without_labels_there_is_agreement_and_no_accuracy() -> None:
    curve = rb.evaluate(converted(), X, STEPS, NET)
    assert curve.accuracy is None
    assert curve.reference_accuracy is None
    assert curve.agreement == rb.evaluate(converted(), (X, Y), STEPS, NET).agreement


def test_accuracy_needs_labels_for_all_data() -> None:
    curve = rb.evaluate(converted(), [(X, Y), (X,)], 3, NET)
    assert curve.accuracy is None
    assert curve.reference_accuracy is None


def test_without_reference_there_is_accuracy_alone() -> None:
    curve = rb.evaluate(converted(), (X, Y), STEPS)
    assert curve.agreement is None
    assert curve.logit_error is None
    assert curve.reference_accuracy is None
    assert curve.accuracy == rb.evaluate(converted(), (X, Y), STEPS, NET).accuracy


def test_the_network_itself_agrees_with_itself_in_the_end() -> None:
    curve = rb.evaluate(rb.convert(NET, X, ConstantThreshold()), (X, Y), 600, NET)
    assert curve.agreement is not None
    assert curve.agreement[-1] == 1.0
    assert curve.accuracy is not None
    assert curve.accuracy[-1] == curve.reference_accuracy
    assert curve.logit_error is not None
    assert curve.logit_error[-1] < 0.02 < curve.logit_error[0]


def regression(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, outputs))


def test_one_output_is_no_class() -> None:
    net = regression(1)
    curve = rb.evaluate(rb.convert(net, X), X, 4, net)
    assert curve.agreement is None
    assert curve.logit_error is not None
    with pytest.raises(DataError, match="at least 2 classes"):
        rb.evaluate(rb.convert(net, X), (X, Y), 4, net)


def test_images_as_outputs_have_a_logit_error_and_no_agreement() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    x = inputs(RESIDUAL_INPUT, 4).float()
    curve = rb.evaluate(rb.convert(net, x, ConstantThreshold()), x, 200, net)
    assert curve.agreement is None
    assert curve.logit_error is not None
    assert curve.logit_error[-1] < 0.05


def test_a_reference_of_zeros_has_no_relative_error() -> None:
    net = regression(3)
    nn.init.zeros_(net[2].weight)  # type: ignore[index, arg-type]
    nn.init.zeros_(net[2].bias)  # type: ignore[index, arg-type]
    assert rb.evaluate(rb.convert(net, X), X, 4, net).logit_error is None


def test_a_network_of_neurons_alone_can_be_evaluated() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    curve = rb.evaluate(rb.convert(net, X, ConstantThreshold()), X, 300, net)
    assert curve.agreement is not None
    assert curve.agreement[-1] > 0.9


def test_a_network_moved_to_another_type_is_evaluated_in_it() -> None:
    snn, net = converted().double(), mlp(7).double()
    curve = rb.evaluate(snn, (X, Y), 4, net)
    assert curve.accuracy == rb.evaluate(converted(), (X, Y), 4).accuracy


# --------------------------------------------------------------------- the reference is left alone


class Moody(nn.Module):
    """A reference with flags of its own, that can fail."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.inner = mlp(7)
        self.dropout = nn.Dropout(0.5)
        self.fail = fail
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.dropout.training)
        if self.fail:
            raise RuntimeError("moody")
        return self.dropout(self.inner(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("fail", [False, True])
def test_the_reference_keeps_its_training_flags(fail: bool) -> None:
    net = Moody(fail).train()
    net.inner[1].eval()
    flags = {name: module.training for name, module in net.named_modules()}
    state = {k: v.clone() for k, v in net.state_dict().items()}
    if fail:
        with pytest.raises(DataError, match=r"Batch 0: the reference network fails .*moody"):
            rb.evaluate(converted(), (X, Y), 3, net)
    else:
        rb.evaluate(converted(), (X, Y), 3, net)
    assert net.modes == [False]
    assert {name: module.training for name, module in net.named_modules()} == flags
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_the_flags_come_back_when_the_simulation_fails() -> None:
    net = mlp(7).train()
    with pytest.raises(DataError, match="labels"):
        rb.evaluate(converted(), (X, torch.rand(23)), 3, net)
    assert all(module.training for module in net.modules())


def test_gradients_are_off_inside_and_on_again_after() -> None:
    enabled: list[bool] = []
    net = mlp(7)
    net.register_forward_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
    rb.evaluate(converted(), X, 3, net)
    assert enabled == [False]
    assert torch.is_grad_enabled()


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("reference", [None, NET])
@pytest.mark.parametrize("labels", [nn.functional.one_hot(Y, 4), torch.rand(23), torch.zeros(23, 2), Y[:, None, None]])
def test_labels_that_are_no_classes_are_an_error(labels: Tensor, reference: nn.Module | None) -> None:
    with pytest.raises(DataError, match=r"accuracy needs integer labels \(N,\) and answers \(N, classes\)"):
        rb.evaluate(converted(), (X, labels), 3, reference)


@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_a_reference_with_other_outputs_is_an_error(outputs: int) -> None:
    with pytest.raises(DataError, match=rf"\(23, {outputs}\).*\(23, 4\)"):
        rb.evaluate(converted(), X, 3, regression(outputs))


class _Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class _NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 4), float("inf"))


@pytest.mark.parametrize(("net", "message"), [(_Pair(), "a tuple"), (_NotFinite(), "not finite")])
def test_a_reference_that_gives_no_numbers_is_an_error(net: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=f"Batch 0.*{message}"):
        rb.evaluate(converted(), X, 3, net)


@pytest.mark.parametrize("reference", [None, NET])
def test_inputs_that_are_not_finite_are_an_error_with_their_batch(reference: nn.Module | None) -> None:
    bad = X.clone()
    bad[3, 2] = float("nan")
    with pytest.raises(DataError, match="Batch 1: the input has NaN"):
        rb.evaluate(converted(), [X, bad], 3, reference)


@pytest.mark.parametrize("moved", [-1, 4])
def test_labels_outside_the_classes_are_an_error(moved: int) -> None:
    with pytest.raises(DataError, match=rf"labels go from {moved} to {moved + 3}, .* classes 0 to 3"):
        rb.evaluate(converted(), (X, Y + moved), 3)


def test_answers_that_are_not_finite_are_an_error() -> None:
    snn = converted()
    snn.module.get_parameter("4.bias").data[1] = torch.nan
    with pytest.raises(DataError, match="converted network answers NaN"):
        rb.evaluate(snn, (X, Y), 3)


def test_what_is_no_converted_network_and_no_reference_is_an_error() -> None:
    with pytest.raises(SettingError, match="a Sequential cannot be evaluated; convert it"):
        rb.evaluate(NET, X, 3)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"reference is .*an nn\.Module.*resume is True"):
        rb.evaluate(converted(), X, 3, lambda x: x, resume=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Batch 0: the reference network fails on an input of shape \(23, 6\)"):
        rb.evaluate(converted(), X, 3, nn.Linear(5, 4))


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_a_lack_of_memory_is_no_mistake_of_the_data(error: Exception) -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(type(error), match=str(error)) as raised:
        rb.evaluate(converted(), X, 3, Greedy())
    assert not isinstance(raised.value, DataError)


def test_all_wrong_settings_are_listed() -> None:
    with pytest.raises(SettingError, match=r"steps is 0.*seeds is empty"):
        rb.evaluate(converted(), X, 0, seeds=())
    with pytest.raises(SettingError, match="a seed is -2; it must be at least 0"):
        rb.evaluate(converted(), X, 3, seeds=(1, -2))


@pytest.mark.parametrize("data", [[], X[:0], DataLoader(TensorDataset(X[:0]))])
def test_no_data_is_an_error(data: object) -> None:
    with pytest.raises(DataError):
        rb.evaluate(converted(), data, 3)
