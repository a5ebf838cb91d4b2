"""The demo: it learns, tells what was measured, and what it writes can be used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import rheobase as rb
from rheobase.cli import app
from rheobase.curve import Curve
from rheobase.demo import DigitsNet, digits, images
from rheobase.neurons import CumulativeMaxPool

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
STEPS = 6


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the text of a short demo."""
    folder = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["demo", "--output", str(folder), "--steps", str(STEPS)])
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def test_no_image_is_in_both_splits() -> None:
    train, test = ({x.numpy().tobytes() for x in images(split)[0]} for split in ("train", "test"))
    assert not train & test
    assert len(images("train")[0]) + len(images("test")[0]) == 1797


def test_an_unknown_split_is_a_clear_error() -> None:
    with pytest.raises(rb.DataError, match="no split 'val'; accepted are 'train' and 'test'"):
        images("val")


def test_missing_scikit_learn_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(rb.ConversionError, match=r"pip install 'rheobase\[demo\]'"):
        images("train")


def test_the_same_seed_trains_the_same_network_and_leaves_the_global_generator() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (digits(seed, epochs=1).model.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_both_kinds_of_max_pooling_are_in_the_network() -> None:
    snn = rb.convert(DigitsNet(), images("train")[0][:50], rb.ConstantThreshold())
    spiking = [module for module in snn.modules() if isinstance(module, CumulativeMaxPool)]
    assert len(spiking) == 1  # the other one moved before its neurons


def test_the_curves_of_three_methods_are_written(output: tuple[Path, str]) -> None:
    content = json.loads((output[0] / "curve.json").read_text())
    curves = {label: Curve.from_json(json.dumps(entry)) for label, entry in content["curves"].items()}
    assert list(curves) == ["ConstantThreshold()", "ConstantThreshold(fraction=0.5)", "MSAT()"]
    for curve in curves.values():
        assert curve.steps == STEPS
        assert curve.images == 797
        assert curve.reference_accuracy is not None
        assert curve.reference_accuracy > 0.95
    assert (output[0] / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_text_says_what_was_measured(output: tuple[Path, str]) -> None:
    folder, text = output
    curve = Curve.from_json(json.dumps(json.loads((folder / "curve.json").read_text())["curves"]["MSAT()"]))
    assert curve.accuracy is not None
    assert f"{100 * curve.accuracy[3]:.2f}" in text
    assert "T time steps" in " ".join(text.split())
    latency = curve.latency_steps()
    claim = f"by T = {STEPS}" if latency is None else f"from T = {latency} on"
    assert f"within one point of the original {claim}" in " ".join(text.split())


def test_a_demo_replaces_its_own_files_only(output: tuple[Path, str], tmp_path: Path) -> None:
    again = ["demo", "--steps", "1", "--output"]
    assert CliRunner().invoke(app, [*again, str(output[0])]).exit_code == 0
    (tmp_path / "curve.json").write_text('{"mine": 1}')
    result = CliRunner().invoke(app, [*again, str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert (tmp_path / "curve.json").read_text() == '{"mine": 1}'


def test_the_weights_that_are_written_can_be_compared_next(output: tuple[Path, str]) -> None:
    source = ("--model", "rheobase.demo:DigitsNet", "--data", "rheobase.demo:images")
    weights = ("--checkpoint", str(output[0] / "digits.safetensors"))
    arguments = ["compare", *source, *weights, "--method", "MSAT", "--steps", "2", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["curves"]["MSAT()"]["reference_accuracy"] > 0.95


@pytest.mark.slow
def test_the_whole_demo_comes_within_two_points(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["demo", "--output", str(tmp_path)]).exit_code == 0
    for entry in json.loads((tmp_path / "curve.json").read_text())["curves"].values():
        curve = Curve.from_json(json.dumps(entry))
        assert curve.steps == 128
        assert curve.latency_steps(0.02) is not None
