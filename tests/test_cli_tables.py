"""Tables and sentences say what a curve holds, and fit into a narrow terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from rheobase import Curve, SettingError
from rheobase.cli.tables import comparison_table, cost_table, curve_table, early, latency, original


def _curve(
    accuracy: list[float] | None, reference: float | None = 0.9, method: str = "MSAT()", **more: object
) -> Curve:
    steps = len(accuracy or [0])
    return Curve(
        method=method,
        steps=steps,
        images=1000,
        seeds=(0,),
        accuracy=accuracy,
        agreement=[0.5] * steps,
        logit_error=[0.1] * steps,
        spikes={"relu": [10.0] * steps},
        neurons={"relu": 100},
        reference_accuracy=reference,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("accuracy", "wanted"),
    [
        ([0.1, 0.89, 0.9, 0.95], 2),
        ([0.9, 0.1, 0.89, 0.89], 3),  # it must stay there
        ([0.9, 0.9], 1),
        ([0.9, 0.8899], None),
    ],
)
def test_latency_is_the_step_from_which_on_the_accuracy_stays_close(accuracy: list[float], wanted: int | None) -> None:
    assert _curve(accuracy).latency_steps(0.01) == wanted


def test_latency_without_accuracies_is_a_clear_error() -> None:
    with pytest.raises(SettingError, match="evaluate with labels and with reference="):
        _curve(None).latency_steps()


def test_the_sentence_has_the_measured_values() -> None:
    assert latency(_curve([0.1, 0.89])) == "within one point of the original from T = 2 on, 20 spikes/image by then"
    text = "not within one point of the original by T = 3 (70.00 % there, at best 80.00 % at T = 2)"
    assert latency(_curve([0.1, 0.8, 0.7])) == text
    assert latency(_curve([0.1, 0.7])) == "not within one point of the original by T = 2 (70.00 % there)"
    assert latency(_curve(None)) == "no accuracy without labels"
    assert early(_curve([0.1, 0.8]), 2) == "80.0 % correct, 20 spikes/image"
    assert "answers 90.00 % of 1,000 images correctly" in original(_curve([0.1]))
    assert "without labels" in original(_curve(None, None))


def _lines(table: object, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def test_a_curve_without_labels_has_dashes_for_its_accuracy() -> None:
    assert _lines(curve_table(_curve(None)), 80)[-2].split() == ["1", "-", "-", "50.00", "10", "0.1000"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_to_256_steps_keeps_its_numbers_in_80_columns(width: int) -> None:
    accuracy = [0.875] * 256
    methods = ("ConstantThreshold(fraction=0.5)", "MSAT(confidence=True, alpha=0.03, tau_mp=1.0)")
    lines = _lines(comparison_table({m: _curve(accuracy, method=m) for m in methods}, width), width)
    assert all(len(line) <= width for line in lines)
    assert sum(line.count("87.5") for line in lines) == 18


def test_a_comparison_is_by_alphabet_and_has_no_answers_before_the_last_of_layers_that_wait() -> None:
    curves = {
        "MSAT()": _curve([0.1, 0.2, 0.8, 0.9], alphabet="real", end_to_end_steps=4),
        "ParallelConversion()": _curve([0.1, 0.2, 0.7, 0.89], alphabet="binary", end_to_end_steps=12),
        "RateCoding(steps=2)": _curve([0.5, 0.6], alphabet="binary", end_to_end_steps=2),
        "DeltaCoding(steps=1)": _curve([0.5], alphabet="ternary, step-weighted"),
        "Mixed()": _curve([0.5], alphabet="binary / ternary, step-weighted"),
    }
    lines = [" ".join(line.split()) for line in _lines(comparison_table(curves, 80), 80)]
    found = [line for line in lines if line and "─" not in line]
    assert found == [
        "accuracy in % after T time steps",
        "method T=1 T=2 T=4",
        "real, causal",
        "MSAT() 10.0 20.0 90.0",
        "binary, layer-synchronous",
        "ParallelConversion() - - 89.0",
        "binary, causal",
        "RateCoding(steps=2) 50.0 60.0 -",
        "ternary, causal, step-weighted",
        "DeltaCoding(steps=1) 50.0 - -",
        "binary / ternary, step-weighted, causal",
        "Mixed() 50.0 - -",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_costs_of_a_comparison_stand_under_their_heads(width: int) -> None:
    more = {"operations": {"fc": [50.0, 30.0]}, "dense_operations": {"fc": 160}}
    curves = {
        "MSAT(confidence=True)": _curve([0.1, 0.9], alphabet="real", calibration_seconds=2.51, **more),
        "ParallelConversion(steps=2)": _curve(
            [0.1, 0.8], alphabet="binary", end_to_end_steps=8, levels=3, twin_accuracy=0.75, twin_agreement=0.7
        ),
        "RMP()": _curve(None, None, alphabet="binary", levels=15, twin_agreement=0.65),
    }
    lines = _lines(cost_table(curves, width), width)
    assert all(len(line) <= width for line in lines)
    rows = [line.replace(label, "").split() for line in lines for label in [*curves, "nothing"] if label in line]
    if width == 80:  # a label has a line of its own
        rows = [line.split() for line in lines if line.split() and line.split()[0] in ("1", "2")]
    assert rows == [
        ["2", "2", "2", "90.00", "-", "50.00", "0.100", "0.200", "0.500", "2.5", "s"],
        ["2", "8", "never", "80.00", "75.00", "50.00", "0.100", "0.200", "-", "-"],
        ["1", "1", "-", "-", "65.00", "50.00", "0.100", "0.100", "-", "-"],
    ]
    assert [line.split() for line in lines if line.split()[-1:] in (["3"], ["15"])] == [["77.4-82.4", "3"], ["15"]]
    assert sum("88.0-91.7" in line for line in lines) == 1
    assert [line.strip() for line in lines if "causal" in line or "synchronous" in line] == [
        "real, causal", "binary, layer-synchronous", "binary, causal",
    ]  # fmt: skip
