"""A curve counts, prints, saves and draws what it holds."""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase.curve import Curve, draw_curves, plot
from rheobase.errors import DataError, SettingError
from rheobase.intervals import wilson

CURVE = Curve(
    method="IF()",
    steps=5,
    images=200,
    seeds=(0,),
    accuracy=[0.1, 0.25, 0.5, 0.75, 0.9],
    agreement=[0.1, 0.2, 0.5, 0.8, 0.95],
    logit_error=[0.9, 0.8, 0.5, 0.25, 0.125],
    spikes={"a": [0, 10.0, 20.0, 20.0, 20.0], "b": [0, 0, 5.0, 5.0, 10.0]},
    neurons={"a": 40, "b": 10},
    reference_accuracy=0.925,
)
BARE = dataclasses.replace(CURVE, accuracy=None, agreement=None, logit_error=None, reference_accuracy=None)


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_examples(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 10**6), share=st.floats(0, 1))
def test_wilson_inverts_the_score_test(n: int, share: float) -> None:
    """Its bounds are the probabilities from which the share is 1.96 standard deviations away."""
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            distance = abs(share - bound)
            assert distance == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), rel=1e-4, abs=1e-7)
    mirrored = wilson(1 - share, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_no_samples_leave_everything_open() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_totals_run_from_the_first_step() -> None:
    assert CURVE.total_spikes == [0, 10, 35, 60, 90]


def test_the_rate_of_a_site_is_its_spikes_a_neuron() -> None:
    assert CURVE.rate == {"a": [0, 0.25, 0.5, 0.5, 0.5], "b": [0, 0, 0.5, 0.5, 1.0]}


def test_the_mean_rate_is_over_all_neurons_and_steps_so_far() -> None:
    assert CURVE.mean_rate == pytest.approx([0, 10 / 100, 35 / 150, 60 / 200, 90 / 250])


def test_the_interval_is_of_that_step() -> None:
    assert CURVE.interval(1) == wilson(0.1, 200)
    assert CURVE.interval(5) == wilson(0.9, 200)


@pytest.mark.parametrize("step", [0, 6, -1])
def test_a_step_outside_the_curve_has_no_interval(step: int) -> None:
    with pytest.raises(SettingError, match=rf"interval\({step}\): the curve has 5 steps"):
        CURVE.interval(step)


def test_without_accuracy_there_is_no_interval() -> None:
    with pytest.raises(SettingError, match="no labels"):
        BARE.interval(1)


def test_rows_are_the_powers_of_two_and_the_last_step() -> None:
    rows = CURVE.rows()
    assert [row["steps"] for row in rows] == [1, 2, 4, 5]
    assert rows[2] == {
        "steps": 4,
        "accuracy": 0.75,
        "accuracy_low": wilson(0.75, 200)[0],
        "accuracy_high": wilson(0.75, 200)[1],
        "agreement": 0.8,
        "logit_error": 0.25,
        "spikes": 60,
        "operations": None,
        "rate": pytest.approx(0.3),
        "mean_steps": 4,
    }


def test_rows_at_chosen_steps_come_in_that_order_and_once() -> None:
    assert [row["steps"] for row in CURVE.rows([3, 1, 3, 64])] == [3, 1]
    four = {site: counts[:4] for site, counts in CURVE.spikes.items()}
    assert [row["steps"] for row in dataclasses.replace(CURVE, steps=4, spikes=four).rows()] == [1, 2, 4]


@pytest.mark.parametrize("curve", [CURVE, BARE])
def test_rows_before_the_first_step_are_an_error(curve: Curve) -> None:
    with pytest.raises(SettingError, match="counted from 1"):
        curve.rows([0, 1])


def test_the_text_is_a_table() -> None:
    assert str(CURVE).splitlines() == [
        "IF()",
        "200 samples, 50 neurons",
        "accuracy of the original network: 92.50 % [88.0, 95.4]",
        "   T  accuracy %   95 % interval  agreement %  logit error  spikes/sample    rate",
        "   1       10.00     6.6 to 14.9        10.00       0.9000              0  0.0000",
        "   2       25.00    19.5 to 31.4        20.00       0.8000             10  0.1000",
        "   4       75.00    68.6 to 80.5        80.00       0.2500             60  0.3000",
        "   5       90.00    85.1 to 93.4        95.00       0.1250             90  0.3600",
    ]


def test_a_network_without_a_layer_after_its_neurons_has_no_operations() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), torch.rand(8, 4)
    curve = rb.evaluate(rb.convert(net, x, rb.ConstantThreshold()), x, 4)
    assert curve.total_operations == [0.0] * 4
    assert curve.cost(4) == "0 synaptic operations/sample, 0.00 of one dense pass"


def test_operations_are_told_beside_those_of_a_dense_pass() -> None:
    operations, dense = {"a": [0, 2, 8, 20, 30], "b": [1.0] * 5}, {"a": 50, "b": 50}
    curve = dataclasses.replace(CURVE, operations=operations, dense_operations=dense)
    assert curve.total_operations == [1, 4, 13, 34, 65]
    assert str(curve).splitlines()[-1] == "T = 5: 65 synaptic operations/sample, 0.65 of one dense pass"
    assert curve.cost(3) == "13 synaptic operations/sample, 0.13 of one dense pass"
    assert Curve.from_json(curve.to_json()) == curve
    with pytest.raises(SettingError, match="5 steps"):
        curve.cost(6)


def test_what_was_not_measured_is_a_dash() -> None:
    lines = str(dataclasses.replace(BARE, seeds=(1, 2, 3))).splitlines()
    assert lines[1] == "200 samples, 50 neurons, mean of 3 seeds"
    assert lines[3] == "   1           -               -            -            -              0  0.0000"


SEEDED = dataclasses.replace(
    CURVE, seeds=(3, 5), accuracy_by_seed=[[0.0, 0.2, 0.4, 0.7, 0.9], [0.2, 0.3, 0.6, 0.8, 0.9]]
)


@pytest.mark.parametrize("curve", [CURVE, BARE, SEEDED])
def test_json_keeps_everything(curve: Curve, tmp_path: Path) -> None:
    text = curve.to_json(tmp_path / "curve.json")
    assert (tmp_path / "curve.json").read_text() == text
    assert Curve.from_json(text) == curve
    assert str(Curve.from_json(text)) == str(curve)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"seeds": [0]}', CURVE.to_json()[:-1] + ', "x": 1}'])
def test_other_text_is_no_curve(text: str) -> None:
    with pytest.raises(DataError, match="no curve in JSON"):
        Curve.from_json(text)


def test_where_layers_wait_only_the_last_answer_counts() -> None:
    waiting = dataclasses.replace(CURVE, accuracy=[0.9, 0.95, 0.5, 0.5, 0.92], end_to_end_steps=15, causal=None)
    assert waiting.causal is False
    assert CURVE.causal is True
    assert waiting.latency_steps(0.01) == 5
    assert dataclasses.replace(waiting, accuracy=[0.95] * 4 + [0.5]).latency_steps(0.01) is None
    assert [row["steps"] for row in waiting.rows()] == [5]
    assert [row["steps"] for row in waiting.rows([1, 5])] == [1, 5]
    assert dataclasses.replace(CURVE, end_to_end_steps=5, causal=False).latency_steps(0.5) == 5  # of one layer

    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    draw_curves(axes, {"waiting": waiting, "causal": CURVE})
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == [[5], [1, 2, 3, 4, 5]]


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    CURVE.plot(path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (1125, 690)
    assert len(data) > 10_000


def test_a_plot_says_what_it_shows(tmp_path: Path) -> None:
    import matplotlib as mpl

    longer = dataclasses.replace(
        CURVE, steps=9, **{k: getattr(CURVE, k) + [0.9] * 4 for k in ("accuracy", "agreement")}
    )
    with mpl.rc_context({"svg.fonttype": "none"}):
        plot({"short": CURVE, "long": longer}, tmp_path / "curves.svg", "My title")
    text = (tmp_path / "curves.svg").read_text()
    for words in ("My title", ">short<", ">long<", "original network, 92.50 %", "accuracy (%)", "time steps T", ">8<"):
        assert words in text


def test_a_plot_without_labels_shows_agreement(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        dataclasses.replace(CURVE, accuracy=None, reference_accuracy=None).plot(tmp_path / "curve.svg")
    assert "agreement with the original network (%)" in (tmp_path / "curve.svg").read_text()


def test_an_unknown_suffix_names_those_that_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"curve.txt has the suffix .txt; accepted are .*\.pdf, .*\.png, .*\.svg"):
        CURVE.plot(tmp_path / "curve.txt")
    assert not list(tmp_path.iterdir())


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'IF\(\)' has neither accuracy nor agreement"):
        BARE.plot(tmp_path / "curve.png")
    with pytest.raises(DataError, match="no curve to draw"):
        plot({}, tmp_path / "curve.png")


def test_a_curve_of_other_steps_than_it_was_converted_for_says_so() -> None:
    assert "converted for T = 12, and simulated for 5 steps" in str(dataclasses.replace(CURVE, planned_steps=12))
    assert "converted for" not in str(CURVE)
    assert "converted for" not in str(dataclasses.replace(CURVE, planned_steps=5))
