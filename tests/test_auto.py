"""The method that chooses among the others, and what convert does when none is named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import nn

import rheobase as rb
from rheobase.batches import as_batches
from rheobase.errors import DataError, SettingError
from rheobase.intervals import wilson
from rheobase.methods import Auto, DeltaCoding
from rheobase.methods._base import Method
from rheobase.methods.auto import Candidate, Choice, blended, measure
from rheobase.neurons import Payload
from rheobase.qcfs import ClipFloorShift

X = inputs(RESIDUAL_INPUT, 64, seed=1).float()


def graph() -> rb.Graph:
    return rb.trace(residual(), X[:2])


@pytest.mark.parametrize(
    ("auto", "payload"),
    [
        (Auto("binary", steps=4, iterations=0), Payload.BINARY),
        (Auto("ternary", steps=4, iterations=2), Payload.TERNARY),
        (Auto("integer", levels=3, steps=2, iterations=0), Payload.INTEGER),
        (Auto("power_of_two", steps=2, iterations=0), Payload.POWER_OF_TWO),
        (Auto("real", steps=1, iterations=0), Payload.INTEGER),
        (Auto("binary", causal=False, steps=4, iterations=2), Payload.BINARY),
    ],
    ids=repr,
)
def test_the_spikes_are_those_that_are_allowed(auto: Auto, payload: Payload) -> None:
    snn = rb.convert(residual(), X, auto)
    assert {neuron.alphabet.payload for neuron in snn.plan.neurons.values()} == {payload}


@pytest.mark.parametrize("weighted", [True, False])
def test_layers_wait_for_each_other_only_where_they_may(weighted: bool) -> None:
    auto = Auto("binary", step_weighted=weighted, causal=False, steps=4, iterations=2)
    tried = auto.choose(graph(), as_batches(X)).tried
    names = [repr(c.method).partition("(")[0] for c in tried]
    radix = ["SpikeConverter"] * weighted
    assert names == ["ParallelConversion", *radix, "ParallelConversion"]  # the last one tuned; radix codes cannot be
    assert not rb.convert(residual(), X, dataclasses.replace(auto, iterations=0)).causal
    assert rb.convert(residual(), X, dataclasses.replace(auto, causal=True, iterations=0)).causal


@pytest.mark.parametrize("alphabet", ["ternary", "integer", "power_of_two", "real"])
@pytest.mark.parametrize("weighted", [True, False])
def test_where_layers_may_wait_binary_spikes_stand_beside_all_others(alphabet: Any, weighted: bool) -> None:
    together, alone = (Auto(alphabet, step_weighted=weighted, causal=causal, steps=3) for causal in (False, True))
    more = together.candidates(3)[len(alone.candidates(3)) :]
    assert together.candidates(3)[: -len(more)] == alone.candidates(3)
    assert [repr(method) for method in more] == ["ParallelConversion(steps=3)", "SpikeConverter(steps=3)"][
        : 1 + weighted
    ]


@pytest.mark.parametrize(("auto", "tunes"), [(Auto(steps=8), True), (Auto(steps=8, accuracy_drop=0.01), False)])
def test_with_steps_alone_what_is_good_enough_is_tuned_all_the_same(auto: Auto, tunes: bool) -> None:
    """The most accurate one for so many steps is asked for, not one that keeps 99 % of the answers."""
    auto = dataclasses.replace(auto, alphabet="integer", levels=255, iterations=2)
    choice = auto.choose(graph(), as_batches(X))
    assert auto._enough(choice.tried[0])
    assert any(c.method.iterations for c in choice.tried) is tunes  # type: ignore[attr-defined]


def test_a_real_number_may_stand_for_a_whole_one() -> None:
    choice = Auto("real", steps=1, iterations=2, accuracy_drop=0.01).choose(graph(), as_batches(X))
    assert [repr(c.method) for c in choice.tried] == [
        "SignedMSAT(steps=1, fraction=2.0)",
        "RateCoding(steps=1, levels=255)",
    ]
    assert choice.taken is choice.tried[1]
    assert choice.taken.agreement > choice.tried[0].agreement


def test_each_candidate_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "rheobase"):
        choice = Auto(steps=2, iterations=0).choose(graph(), as_batches(X))
    told = [r.getMessage() for r in caplog.records]
    assert told == [f"T = 2: {100 * c.agreement:.1f} % agreement, {c.method!r}" for c in choice.tried]


def test_progress_names_the_candidate() -> None:
    told: list[str] = []
    with rb.calibration.session(lambda at: told.append(at.what)):
        Auto(steps=3, iterations=2).choose(graph(), as_batches(X))
    assert {text.partition(":")[0] for text in told} == {
        "trying AnnealedDelta with T = 3", "trying TemporalBias with T = 3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("auto", "message"),
    [
        (Auto(steps=1, iterations=0, accuracy_drop=1e-6), r"nothing at T = 1 keeps 99.9999 % of the answers"),
        (Auto(steps=4, iterations=0, energy_budget=1e-3), r"no candidate stays within 0.001 events a neuron"),
    ],
    ids=repr,
)
def test_a_constraint_that_is_not_met_is_a_warning(auto: Auto, message: str) -> None:
    with pytest.warns(rb.ConversionWarning, match=message) as caught:
        snn = rb.convert(residual(), X, auto)
    assert message in snn.plan.reason
    assert __file__ == caught[0].filename


def test_an_agreement_of_exactly_what_is_asked_for_is_enough() -> None:
    just = Candidate(rb.MSAT(), 4, 0.99, 0.1, 1.0)
    assert 1 - just.agreement > 0.01  # as floats
    assert Auto(steps=4)._enough(just)
    assert Auto(steps=4, accuracy_drop=0.05)._enough(dataclasses.replace(just, agreement=0.95))
    assert not Auto(steps=4)._enough(dataclasses.replace(just, agreement=0.9899))


@pytest.mark.parametrize("alphabet", ["binary", "ternary", "integer", "power_of_two", "real"])
@pytest.mark.parametrize("causal", [True, False])
def test_only_what_keeps_to_trained_thresholds_is_tried_where_there_are_some(alphabet: Any, causal: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 8), ClipFloorShift(4), nn.Linear(8, 3)).eval()
    x = torch.rand(32, 6, generator=torch.Generator().manual_seed(0))
    choice = Auto(alphabet, causal=causal, steps=2, iterations=0).choose(rb.trace(net, x[:2]), as_batches(x))
    assert choice.tried
    assert all(candidate.method.clips() for candidate in choice.tried)


def test_steps_alone_ask_for_no_accuracy(recwarn: pytest.WarningsRecorder) -> None:
    choice = Auto(steps=1, iterations=0).choose(graph(), as_batches(X))
    assert choice.taken.agreement < 0.99
    assert choice.met
    rb.convert(residual(), X, Auto(steps=1, iterations=0))
    assert not recwarn.list


def test_nothing_is_tuned_or_tried_for_more_steps_that_spends_far_more_than_the_budget() -> None:
    free = Auto(steps=1, iterations=2).choose(graph(), as_batches(X))
    least = min(c.events for c in free.tried)
    choice = Auto(iterations=2, energy_budget=least / 4).choose(graph(), as_batches(X))
    assert [(c.steps, c.method.iterations) for c in choice.tried] == [(1, 0), (1, 0)]  # type: ignore[attr-defined]
    assert not choice.met


def test_where_more_steps_can_be_had_what_is_far_from_good_enough_is_not_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """T = 1 differs in a half of the answers and T = 2 in a tenth, of which tuning leaves a quarter."""

    def measured(graph: rb.Graph, data: Any, plain: Any, test: Any, method: Method, steps: int) -> Candidate:
        left = 0.25 if method.iterations else 1.0  # type: ignore[attr-defined]
        return Candidate(method, steps, 1 - left * {1: 0.5, 2: 0.1}.get(steps, 0.08), 0.1, 1.0)

    monkeypatch.setattr("rheobase.methods.auto.measure", measured)

    def tuned(auto: Auto) -> set[int]:
        choice = auto.choose(graph(), as_batches(X))
        return {c.steps for c in choice.tried if c.method.iterations}  # type: ignore[attr-defined]

    assert tuned(Auto("binary", accuracy_drop=0.02)) == {2, 4}
    assert tuned(Auto("binary", accuracy_drop=0.05)) == {1, 2}
    assert tuned(Auto("binary", accuracy_drop=0.02, energy_budget=2.0)) == {1, 2, 4}
    assert tuned(Auto("binary", accuracy_drop=0.02, steps=1)) == {1}
    assert tuned(Auto("binary", accuracy_drop=0.002)) == {64}


def test_without_weighing_by_step_no_spike_depends_on_its_step() -> None:
    for auto in (
        Auto(step_weighted=False, steps=4, iterations=0),
        Auto("power_of_two", step_weighted=False, steps=2, iterations=0),
    ):
        snn = rb.convert(residual(), X, auto)
        assert not any(neuron.alphabet.step_weighted for neuron in snn.plan.neurons.values())


def test_the_reason_says_how_sure_the_agreement_is() -> None:
    taken = Candidate(rb.MSAT(), 16, 0.95, 0.1, 2.0)
    low, high = wilson(0.95, 200)
    assert f"On others like these its agreement is {100 * low:.1f} to {100 * high:.1f} %" in str(
        Choice(taken, (taken,), 200, "it agrees.")
    )
    assert (round(low, 3), round(high, 3)) == (0.910, 0.973)
    assert "the best of 2 may be less" in str(Choice(taken, (taken, taken), 200, "it agrees."))


def test_methods_are_judged_by_blends_of_held_out_samples() -> None:
    x, words = torch.tensor([[0.0, 4.0], [1.0, 0.0], [2.0, 8.0]]), torch.tensor([[1, 2], [3, 4]])
    assert blended(x, 0.25).tolist() == [[0.5, 5.0], [0.75, 1.0], [1.75, 6.0]]
    assert blended(x, 0.0) is x
    assert blended(words, 0.25) is words
    plain, mixed = (Auto(steps=4, iterations=0, blend=b).choose(graph(), as_batches(X)) for b in (0.0, 0.25))
    rest, held = X[:-16], blended(X[-16:], 0.25)
    again = measure(graph(), as_batches([rest]), held, held, mixed.tried[0].method, 4)
    assert again.agreement == mixed.tried[0].agreement
    assert again.error == pytest.approx(mixed.tried[0].error)
    assert again.error != pytest.approx(plain.tried[0].error)
    assert "On 16 held-out samples, 25 % of another in each: " in str(mixed)
    assert "On 16 held-out samples: " in str(plain)


def test_signs_and_weights_of_integers_are_tried_where_they_are_allowed() -> None:
    def sent(auto: Auto) -> set[str]:
        plans = [
            m.plan(graph(), rb.observers.observe(graph(), as_batches(X), m.observer())) for m in auto.candidates(3)
        ]
        return {str(neuron.alphabet) for plan in plans for neuron in plan.neurons.values()}

    assert sent(Auto("integer", levels=3)) == {"signed integer(3), step-weighted", "signed integer(3)"}
    assert sent(Auto("integer", levels=3, step_weighted=False)) == {"signed integer(3)"}
    assert sent(Auto("integer", levels=3, signed=False)) == {"integer(3)"}
    assert sent(Auto("power_of_two", signed=False)) == {"power_of_two(4)"}


def test_events_are_counted_on_samples_as_they_are() -> None:
    """Blends have weaker features, and a budget is one of ordinary samples."""
    plain, mixed = (Auto(steps=4, iterations=0, blend=b).choose(graph(), as_batches(X)) for b in (0.0, 0.5))
    assert [c.events for c in mixed.tried] == [c.events for c in plain.tried]
    assert [c.error for c in mixed.tried] != [c.error for c in plain.tried]
    snn = rb.convert(residual(), X[:-16], mixed.taken.method)
    curve = rb.evaluate(snn, X[-16:], 4)
    assert mixed.taken.events == pytest.approx(curve.total_spikes[-1] / sum(curve.neurons.values()), rel=1e-6)


@pytest.mark.parametrize("alphabet", ["ternary", "power_of_two"])
def test_what_is_not_tuned_gets_biases(alphabet: Any) -> None:
    """Gradients find them too, and begin as well without (benchmarks/held_out.py)."""
    alone, first = (Auto(alphabet, steps=4, iterations=n).candidates(4)[0] for n in (0, 10))
    assert isinstance(alone, DeltaCoding)
    assert isinstance(first, DeltaCoding)
    assert (alone.calibration, first.calibration) == ("temporal", "none")


def test_the_taken_candidate_is_the_best_of_the_table() -> None:
    choice = Auto(steps=4, iterations=3).choose(graph(), as_batches(X))
    assert len(choice.tried) >= 2
    assert not any(candidate.better(choice.taken) for candidate in choice.tried)
    assert choice.samples == 16
    assert all(repr(candidate.method) in str(choice) for candidate in choice.tried)


@pytest.mark.parametrize("asked", [None, False])
def test_what_is_tuned_mirrors_images_as_it_is_told(asked: bool | None) -> None:
    tried = Auto(steps=2, iterations=1, flip=asked).choose(graph(), as_batches(X)).tried
    tuned = [c.method for c in tried if c.method.iterations]  # type: ignore[attr-defined]
    assert tuned
    assert all(method.flip is asked for method in tuned)  # type: ignore[attr-defined]


def test_signs_alone_may_be_asked_for() -> None:
    def first_steps(auto: Auto) -> set[bool]:
        tried = auto.choose(graph(), as_batches(X)).tried
        return {c.method.doubled for c in tried if isinstance(c.method, DeltaCoding)}

    for alphabet in ("ternary", "integer"):
        assert first_steps(Auto(alphabet, steps=2, iterations=2)) == {True}  # type: ignore[arg-type]
        assert first_steps(Auto(alphabet, steps=2, iterations=2, doubled=False)) == {False}  # type: ignore[arg-type]


def test_samples_that_are_not_finite_are_told_by_their_own_batch() -> None:
    data = list(X.clone().split(8))
    data[3][1] = torch.nan
    with pytest.raises(DataError, match="Batch 3 of the calibration data has NaN"):
        rb.convert(residual(), data, Auto("binary", steps=2, iterations=0))


def test_a_dead_site_is_warned_of_once() -> None:
    layers = (nn.Linear(X[0].numel(), 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    net = nn.Sequential(nn.Flatten(), *layers)
    with torch.no_grad():
        net[1].bias.fill_(-1e6)
    with pytest.warns(rb.ConversionWarning, match="above zero") as caught:
        rb.convert(net.eval(), X, Auto("ternary", steps=2, iterations=2))
    assert len(caught) == 1


def test_samples_in_the_order_of_their_classes_are_warned_of() -> None:
    net = residual()
    with torch.no_grad():
        net.fc.bias -= net(X).mean(0)  # all answers occur
        order = net(X).argmax(1).argsort()
    auto, traced = Auto(steps=2, iterations=0, blend=0.0), rb.trace(net, X[:2])
    with pytest.warns(rb.ConversionWarning, match=r"last 16 of the 64 .* classes that the others lack.* shuffle=True"):
        auto.choose(traced, as_batches(X[order]))
    auto.choose(traced, as_batches(X))  # warnings are errors here


def test_a_drop_that_the_held_out_samples_cannot_tell_is_said() -> None:
    fine, coarse = (
        str(Auto(steps=8, accuracy_drop=d, iterations=0).choose(graph(), as_batches(X))) for d in (0.02, 0.2)
    )
    assert "One of 16 samples is more than 2 %" in fine
    assert "more of them could tell" not in coarse


def test_numbers_that_are_no_classes_have_no_interval() -> None:
    net = nn.Sequential(residual(), nn.Linear(5, 1)).eval()
    choice = Auto(steps=2, iterations=0).choose(rb.trace(net, X[:2]), as_batches(X))
    assert not choice.classes
    assert "95 % interval" not in str(choice)


def test_agreement_counts_before_the_error() -> None:
    method: Method = rb.MSAT()
    good, close, bad = (Candidate(method, 4, a, e, 1.0) for a, e in ((0.9, 0.5), (0.9, 0.4), (0.8, 0.1)))
    assert good.better(bad)
    assert close.better(good)
    assert not good.better(good)


def test_without_steps_the_first_that_is_good_enough_is_taken() -> None:
    choice = Auto(accuracy_drop=0.2, iterations=0).choose(graph(), as_batches(X))
    assert choice.taken.agreement >= 0.8
    assert all(c.agreement < 0.8 for c in choice.tried if c.steps < choice.taken.steps)
    assert f"T = {choice.taken.steps} is the first" in str(choice)


def test_a_budget_of_events_is_kept() -> None:
    free = Auto(steps=8, iterations=0).choose(graph(), as_batches(X))
    budget = (min(c.events for c in free.tried) + max(c.events for c in free.tried)) / 2
    kept = Auto(steps=8, iterations=0, energy_budget=budget).choose(graph(), as_batches(X))
    assert kept.taken.events <= budget
    assert "no candidate stays within" in str(
        Auto(steps=8, iterations=0, energy_budget=1e-9).choose(graph(), as_batches(X))
    )


def small() -> tuple[rb.Graph, Any]:
    """A network of one layer, of which few steps keep most answers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.rand(64, 4)
    return rb.trace(net, x[:2]), as_batches(x)


def test_fewer_steps_are_taken_where_a_budget_asks_for_them() -> None:
    """Down to where all candidates keep to it: one that does with more steps may be worse than others with fewer."""
    auto = Auto(steps=8, iterations=0, energy_budget=1.5)
    choice = auto.choose(*small())
    events = {steps: [c.events for c in choice.tried if c.steps == steps] for steps in (8, 6, 4)}
    assert [c.steps for c in choice.tried] == [8, 8, 6, 6, 4, 4]
    assert min(events[8]) > 1.5
    assert min(events[6]) <= 1.5 < max(events[6])
    assert max(events[4]) <= 1.5
    assert choice.met
    assert choice.taken.agreement == max(c.agreement for c in choice.tried if c.events <= 1.5)
    assert "up to T = 8, this agrees most with the ANN within 1.5 events a neuron." in str(choice)


def test_with_a_share_of_answers_and_a_budget_the_most_steps_that_keep_both_are_taken() -> None:
    both = Auto(steps=8, iterations=0, energy_budget=1.5, accuracy_drop=0.1).choose(*small())
    assert both.met
    assert both.taken.agreement >= 0.9
    assert all(c.events > 1.5 or c.agreement < 0.9 for c in both.tried if c.steps > both.taken.steps)
    neither = Auto(steps=8, iterations=0, energy_budget=0.5, accuracy_drop=0.001).choose(*small())
    assert not neither.met
    assert any(c.agreement > 0.999 for c in neither.tried)
    assert "nothing up to T = 8 keeps 99.9 % of the answers within 0.5 events a neuron." in str(neither)


def test_a_budget_alone_asks_for_the_best_within_it(recwarn: pytest.WarningsRecorder) -> None:
    free = Auto(steps=4, iterations=0).choose(graph(), as_batches(X))
    budget = 0.6 * min(c.events for c in free.tried)
    auto = Auto(iterations=0, energy_budget=budget)
    choice = auto.choose(graph(), as_batches(X))
    assert choice.met
    assert choice.taken.agreement < 0.99
    assert f"this agrees most with the ANN within {budget:g} events a neuron." in str(choice)
    rb.convert(residual(), X, auto)
    assert not recwarn.list
    asked = dataclasses.replace(auto, accuracy_drop=0.01).choose(graph(), as_batches(X))
    assert not asked.met
    assert asked.taken == choice.taken


def test_a_large_budget_asks_for_the_fewest_steps_that_keep_the_answers() -> None:
    choice = Auto(iterations=2, energy_budget=100.0).choose(*small())
    assert choice.met
    assert "is the first that keeps 99 % of the answers within 100 events a neuron" in str(choice)
    last = [c for c in choice.tried if c.steps == choice.taken.steps]
    assert choice.taken.steps == choice.tried[-1].steps
    assert any(c.method.iterations for c in choice.tried)  # type: ignore[attr-defined]
    assert not any(c.method.iterations for c in last)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("count", "told"), [(6, "On 1 held-out samples: "), (8, "On 2 held-out samples, 15 % of an")])
def test_one_sample_is_blended_with_nothing(count: int, told: str) -> None:
    assert told in str(Auto(steps=2, iterations=0).choose(graph(), as_batches(X[:count])))


@pytest.mark.parametrize(("share", "step_weighted"), [(0.5, False), (0.75, True)])
def test_the_search_goes_on_until_something_within_the_budget_is_good_enough(share: float, step_weighted: bool) -> None:
    auto = Auto(accuracy_drop=0.2, iterations=0, step_weighted=step_weighted)
    free = auto.choose(graph(), as_batches(X))
    budget = share * free.taken.events
    choice = dataclasses.replace(auto, energy_budget=budget).choose(graph(), as_batches(X))
    assert choice.taken.events <= budget < min(c.events for c in choice.tried if c.agreement >= 0.8)
    assert choice.tried[-1].steps > free.taken.steps
    assert f"nothing up to T = {choice.tried[-1].steps} keeps 80 % of the answers within {budget:g}" in str(choice)


def test_convert_without_a_method_says_what_it_took(tmp_path: Any) -> None:
    snn = rb.convert(residual(), X)
    assert "agreement" in snn.plan.reason
    assert "Taken: " in str(snn.plan)
    snn.save(tmp_path / "net")
    assert rb.load(tmp_path / "net", residual()).plan.reason == snn.plan.reason


def test_the_choice_repeats() -> None:
    first, second = (str(Auto(steps=4, iterations=3).choose(graph(), as_batches(X))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "bad",
    [
        {"alphabet": "analog"},
        {"levels": 0},
        {"levels": 4},
        {"levels": 4, "alphabet": "real"},
        {"steps": 0},
        {"accuracy_drop": 1.0},
        {"energy_budget": 0.0},
        {"blend": 1.0},
        {"blend": -0.1},
        {"images": 3},
        {"signed": False},
        {"signed": False, "alphabet": "binary"},
    ],
    ids=str,
)
def test_a_constraint_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"Auto: {next(iter(bad))} is {next(iter(bad.values()))!r}; "):
        Auto(**bad)


@pytest.mark.parametrize("count", [340, 341, 342])
def test_any_number_of_samples_will_do(count: int) -> None:
    """Of 341, those to convert with make two batches of 128, which are not inputs and labels."""
    x = inputs(RESIDUAL_INPUT, count).float()
    choice = Auto("integer", steps=1, iterations=0, levels=3).choose(graph(), as_batches(x))
    assert choice.samples == count // 4


def test_too_few_samples_to_choose_by_is_an_error() -> None:
    with pytest.raises(DataError, match="at least 4 calibration samples"):
        rb.convert(residual(), X[:3])


def test_auto_makes_no_plan_of_its_own() -> None:
    with pytest.raises(SettingError, match=r"Auto\.choose"):
        Auto().plan(graph(), rb.observe(graph(), X, Auto().observer()))
