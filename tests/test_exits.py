"""Early exit: the rules by hand, the same decisions as from the whole curve, and work that is really left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import inputs
from test_evaluation import NET, STEPS, X, Y, converted, noisy
from test_methods import EVERY, NETWORKS
from torch import Tensor, nn

import rheobase as rb
from rheobase.coding import Poisson
from rheobase.errors import DataError, SettingError
from rheobase.exits import Exit
from rheobase.methods import ConstantThreshold, ParallelConversion, SignedMemory
from rheobase.methods._base import Method
from rheobase.plan import Plan
from rheobase.simulation import simulate, stream
from rheobase.spiking import SpikingModel

# ------------------------------------------------------------------------------------- the rule


def by_hand(rule: Exit, answer: Any) -> bool:
    """The equations of the docstring, for one answer."""
    p = np.exp(answer - answer.max())
    p /= p.sum()
    if rule.on == "confidence":
        return bool(p.max() >= rule.threshold)
    if rule.on == "margin":
        second, first = np.sort(answer)[-2:]
        return bool(first - second >= rule.threshold)
    return bool(-sum(q * math.log(q) for q in p) / math.log(len(p)) <= rule.threshold)


RULES = [Exit("confidence", 0.6), Exit("margin", 0.7), Exit("entropy", 0.7), Exit("margin", 0.2, first_step=4)]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("first", [1, 3])
def test_a_rule_is_its_equation(rule: Exit, first: int) -> None:
    answers = 2 * torch.randn(6, 30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = [
        [first + k >= rule.first_step and by_hand(rule, a) for a in step.numpy()] for k, step in enumerate(answers)
    ]
    assert 10 < np.sum(expected) < 170
    assert rule.met(answers, first).tolist() == expected


def test_an_answer_without_doubt_has_no_entropy() -> None:
    assert Exit("entropy", 0.0).met(torch.tensor([[[1e4, 0.0, 0.0]]]), 1).tolist() == [[True]]


def test_all_wrong_settings_are_listed() -> None:
    with pytest.raises(SettingError, match=r"on is 'luck'.*threshold is 2\.0; it must be from 0 to 1.*first_step is 0"):
        Exit("luck", 2.0, 0)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="threshold is nan"):
        Exit("margin", math.nan)


def test_a_text_gives_a_rule() -> None:
    assert Exit.parse("margin:1.5") == Exit("margin", 1.5)
    assert Exit.parse("entropy:0.1:4") == Exit("entropy", 0.1, 4)


@pytest.mark.parametrize("text", ["margin", "margin:", "margin:much", "margin:1:x", "margin:1:2:3", ""])
def test_a_text_that_is_no_rule_is_an_error(text: str) -> None:
    with pytest.raises(SettingError, match="give MEASURE:THRESHOLD"):
        Exit.parse(text)


# -------------------------------------------------------- the same decisions as from the whole curve


def afterwards(answers: Tensor, rule: Exit) -> tuple[list[int], Tensor]:
    """Step of exit (0 where there is none) and answer of each sample, from all answers (T, N, C)."""
    exits, kept = [], []
    for sample in answers.unbind(1):
        steps = [t for t, a in enumerate(sample, 1) if t >= rule.first_step and by_hand(rule, a.double().numpy())]
        exits.append(steps[0] if steps else 0)
        kept.append(sample[exits[-1] - 1])
    return exits, torch.stack(kept)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def middling(answers: Tensor) -> Exit:
    """A rule by which some samples leave early, some late and some never."""
    first, second = answers.topk(2, 2).values.unbind(2)
    best = (first - second).double()[1:].amax(0).unique()
    gap = int(best.diff()[len(best) // 3 :].argmax()) + len(best) // 3  # far from any margin, for rounding
    return Exit("margin", float((best[gap] + best[gap + 1]) / 2), first_step=2)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_who_leaves_decides_as_if_all_had_stayed(method: Method, name: str) -> None:
    build, shape, _ = NETWORKS[name]
    x = inputs(shape, 24, seed=1).float()
    snn = rb.convert(build(), x, method)
    if not snn.causal:
        with pytest.raises(SettingError, match="this network is layer-synchronous"):
            simulate(snn, x, STEPS, until=Exit("margin", 0.5))
        return
    parts = list(stream(snn, x, STEPS, generator=seeded()))
    answers = torch.cat([part.answers for part in parts]).detach()
    rule = middling(answers)
    exits, kept = afterwards(answers, rule)
    assert 0 < sum(map(bool, exits)) < 24
    run = simulate(snn, x, STEPS, chunk=3, generator=seeded(), until=rule)
    assert run.exits is not None
    assert run.exits.tolist() == exits
    assert run.output.argmax(1).tolist() == kept.argmax(1).tolist()
    torch.testing.assert_close(run.output, kept, rtol=1e-4, atol=1e-4)


def poisson() -> SpikingModel:
    """A network with random input."""
    snn = converted()
    return SpikingModel(snn.graph, Plan("poisson", snn.plan.neurons, encoder=Poisson(3.0)))


class Sized(nn.Module):
    """A network whose constant part holds a size, a tensor of that size, and samples along the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        spikes = torch.relu(self.a(x))
        turned = (2 * x[:, :4]).t()
        return (self.b(spikes) + turned.t()).reshape(x.size(0), -1) + x.sum(1, keepdim=True)


def sized() -> SpikingModel:
    torch.manual_seed(3)
    return rb.convert(Sized(), X, SignedMemory(iterations=0))


@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("build", [noisy, poisson, sized, converted])
def test_spikes_and_steps_until_the_exit_are_those_of_the_samples_alone(
    build: Callable[[], SpikingModel], chunk: int | None
) -> None:
    """The numbers of a sample do not depend on who else is in the batch, nor on the chunk: also random ones."""
    snn = build()
    sites = list(snn.plan.neurons)
    parts = list(stream(snn, X, STEPS, record=sites, generator=seeded(), chunk=4))
    answers = torch.cat([part.answers for part in parts]).detach()
    rule = middling(answers)
    exits, kept = afterwards(answers, rule)
    run = simulate(snn, X, STEPS, chunk=chunk, generator=seeded(), until=rule)
    assert run.exits is not None
    assert run.exits.tolist() == exits
    torch.testing.assert_close(run.output, kept, rtol=1e-4, atol=1e-4)
    last = torch.tensor([t or STEPS for t in exits])
    assert run.mean_steps == pytest.approx(float(last.double().mean()))
    for site in sites:
        sent = torch.cat([part.values[site] for part in parts]) != 0
        spent = [int(sent[t - 1, last >= t].sum()) for t in range(1, STEPS + 1)]
        assert run.spikes[site].tolist() == spent
        assert run.rates[site] == pytest.approx(sum(spent) / (run.neurons[site] * float(last.double().mean())))


def test_after_the_last_exit_nothing_is_sent_and_the_answers_stay() -> None:
    parts = list(stream(converted(), X, 9, chunk=2, until=Exit("margin", 0.0, first_step=3)))
    assert [part.first_step for part in parts] == [1, 3, 5, 7, 9]
    assert all(int(n.sum()) == 0 for part in parts[2:] for n in part.spikes.values())
    assert all(torch.equal(a, parts[1].answers[0]) for part in parts[1:] for a in part.answers)
    assert parts[0].exits is not None
    assert parts[0].exits.tolist() == [0] * 23
    assert parts[-1].exits is not None
    assert parts[-1].exits.tolist() == [3] * 23


# ----------------------------------------------------------------------------- work that is left out


@pytest.mark.parametrize("chunk", [1, 4])
def test_layers_compute_only_who_is_left(chunk: int) -> None:
    snn = converted()
    snn.events = "never"
    answers = torch.cat([part.answers for part in stream(snn, X, STEPS)]).detach()
    rule = middling(answers)
    computed: list[int] = []
    snn.module.get_submodule("2").register_forward_hook(lambda layer, args, out: computed.append(len(args[0])))
    simulate(snn, X, STEPS, chunk=chunk)
    assert sum(computed) == 23 * STEPS
    computed.clear()
    simulate(snn, X, STEPS, chunk=chunk, until=rule)
    exits, _ = afterwards(answers, rule)
    assert sum(computed) == sum(-(-(t or STEPS) // chunk) * chunk for t in exits) < 23 * STEPS


# --------------------------------------------------------------------------------------- the curve


def test_the_curve_holds_what_an_inference_of_at_most_t_steps_gives() -> None:
    snn = noisy()
    rule = middling(torch.cat([part.answers for part in stream(snn, X, STEPS)]))
    batches = list(zip(X.split(9), Y.split(9), strict=True))
    curve = rb.evaluate(snn, batches, STEPS, NET, seeds=(0, 1), until=rule, chunk=5)
    assert curve.exit_rule == repr(rule)
    assert curve.exits is not None
    assert 0 < sum(curve.exits) < 1
    for t in (1, 2, 7, STEPS):
        capped = rb.evaluate(snn, batches, t, NET, seeds=(0, 1), until=rule)
        assert curve.accuracy is not None
        assert curve.agreement is not None
        assert curve.logit_error is not None
        assert capped.accuracy is not None
        assert capped.agreement is not None
        assert capped.logit_error is not None
        assert curve.accuracy[t - 1] == capped.accuracy[-1]
        assert curve.agreement[t - 1] == capped.agreement[-1]
        assert curve.logit_error[t - 1] == pytest.approx(capped.logit_error[-1])
        assert curve.total_spikes[t - 1] == pytest.approx(capped.total_spikes[-1])
        assert curve.mean_steps[t - 1] == pytest.approx(capped.mean_steps[-1])
        assert curve.exits[:t] == capped.exits
    spent = sum((t * share for t, share in enumerate(curve.exits, 1)), STEPS * (1 - sum(curve.exits)))
    assert curve.mean_steps[-1] == pytest.approx(spent)
    neurons = sum(curve.neurons.values())
    assert curve.mean_rate[-1] == pytest.approx(curve.total_spikes[-1] / (neurons * spent))
    assert f"early exit: {rule!r}; {spent:.2f} steps/sample" in str(curve)
    assert rb.Curve.from_json(curve.to_json()) == curve


def test_without_a_rule_every_sample_takes_every_step() -> None:
    curve = rb.evaluate(converted(), (X, Y), 4)
    assert curve.exits is None
    assert curve.mean_steps == [1, 2, 3, 4]
    assert "steps/sample" not in str(curve)


# ------------------------------------------------------------------------------- what is refused


def test_a_record_and_an_exit_exclude_each_other() -> None:
    with pytest.raises(SettingError, match="record keeps every sample"):
        simulate(converted(), X, 4, record=["1"], until=RULES[0])


def test_evaluate_refuses_a_network_that_is_layer_synchronous() -> None:
    snn = rb.convert(NET, X, ParallelConversion(steps=8, iterations=0))
    with pytest.raises(SettingError, match=r"Exit\(on='margin'.*layer-synchronous"):
        rb.evaluate(snn, (X, Y), 8, until=RULES[1])


def test_answers_that_are_no_classes_are_an_error() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    with pytest.raises(DataError, match=r"\(23, 1\); an early exit needs"):
        simulate(rb.convert(net, X, ConstantThreshold()), X, 4, until=RULES[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(("margin", "0.5"), "threshold is '0.5'; it must be at least 0"), ((["margin"], 0.5), r"on is \['margin'\]"),
     (("margin", 0.5, 1.5), "first_step is 1.5; it must be a whole number"), (("entropy", None), "from 0 to 1")],
    ids=str,
)  # fmt: skip
def test_what_is_no_number_is_a_clear_error(wrong: Any, message: str) -> None:
    with pytest.raises(rb.SettingError, match=message):
        rb.Exit(*wrong)
