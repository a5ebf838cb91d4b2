"""The command line: what it prints, what it writes, and what it says about input that it cannot use."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import rheobase as rb
from rheobase import evaluation, resume
from rheobase.calibration import Progress as Calibrated
from rheobase.calibration import gradient
from rheobase.calibration.display import _moving, bar
from rheobase.cli import app, files
from rheobase.cli.files import refuse_existing
from rheobase.cli.samples import Samples
from rheobase.curve import Curve
from rheobase.data import ImageBatches
from rheobase.locate import locate

datasets = pytest.importorskip("datasets")
from PIL import Image  # noqa: E402

_MODEL = """
import torch
from torch import nn

def tiny(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(9 * width, 8), nn.ReLU(), nn.Linear(8, 2))

def number():
    return 3

def data(split):
    generator = torch.Generator().manual_seed(len(split))
    return torch.rand(10, 3, 8, 8, generator=generator), torch.arange(10) % 2

def unseen(split):
    inputs, labels = data(split)
    return (inputs, labels) if split == "train" else (inputs[:0], labels[:0])

def unlabelled(split):
    return data(split)[0]

def pooled():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def sigmoid():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Sigmoid(), nn.Linear(4, 2))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model file, and an image folder with 12 training and 6 test images of two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for kind in ("dark", "light"):
            (tmp_path / "pictures" / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 128, (8, 8, 3), dtype=np.uint8) + 120 * (kind == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / split / kind / f"{index}.png")
    (tmp_path / "nets.py").write_text(_MODEL)
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _ok(*arguments: str) -> str:
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def _error(*arguments: str) -> str:
    result = _run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def _untimed(text: str) -> dict[str, Any]:
    """A comparison in JSON, without the times of the conversions, which no run has twice."""
    content: dict[str, Any] = json.loads(text)
    assert all(curve.pop("calibration_seconds") > 0 for curve in content["curves"].values())
    return content


SOURCE = ("--model", "nets.py:tiny", "--data", "pictures")
SHORT = (*SOURCE, "--steps", "4")


@pytest.mark.usefixtures("folder")
def test_a_conversion_that_was_saved_gives_the_curve_of_its_method() -> None:
    plan = _ok("convert", *SOURCE, "--method", "MSAT.vgg16", "--output", "out/net.rheobase")
    assert "MSAT(alpha=0.03, tau_mp=1.0, tau_rd=1.0)" in plan
    assert "4x3x3" in plan
    loaded = _ok("evaluate", "out/net.rheobase", *SHORT, "--json")
    direct = _ok("evaluate", *SHORT, "--method", "MSAT.vgg16", "--json")
    assert Curve.from_json(loaded) == Curve.from_json(direct)


@pytest.fixture
def imagenet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet as a folder of images under $RHEOBASE_DATA: train and val, of several sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("n01440764", "n01443537"):
            (folder / "sets" / "imagenet" / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (230 + 40 * index, 260, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "sets" / "imagenet" / split / kind / f"{index}.JPEG")
    monkeypatch.setenv("RHEOBASE_DATA", str(folder / "sets"))


@pytest.mark.usefixtures("imagenet")
@pytest.mark.parametrize(
    ("model", "sizes"), [("pooled", ()), ("tiny", ("--size", "8", "--resize", "9"))], ids=["224", "8"]
)
def test_imagenet_is_calibrated_and_evaluated_by_its_name(model: str, sizes: tuple[str, ...]) -> None:
    text = _ok("evaluate", "--model", f"nets.py:{model}", "--data", "imagenet", *sizes, "--method", "MSAT", "--json")
    curve = Curve.from_json(text)
    assert curve.images == 6
    assert curve.steps == 64


@pytest.mark.usefixtures("folder")
def test_an_interrupted_conversion_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    method = ("--method", "AnnealedDelta(steps=2, iterations=30)")
    _ok("convert", *SOURCE, *method, "--output", "whole.rheobase")
    losses, loss = [], gradient._loss

    def interrupted(*arguments: Any) -> Any:
        losses.append(None)
        if len(losses) == 25:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(gradient, "_loss", interrupted)
    stopped = _run("convert", *SOURCE, *method, "--output", "net.rheobase")
    assert stopped.exit_code != 0
    assert "calibrated so far is in net.rheobase.calibration; repeat the command" in " ".join(stopped.stderr.split())
    assert Path("net.rheobase.calibration").is_dir()
    assert not Path("net.rheobase").exists()
    _ok("convert", *SOURCE, *method, "--output", "net.rheobase")
    assert len(losses) == 25 + 10  # 20 of 30 were kept
    assert not Path("net.rheobase.calibration").exists()
    files = ("whole.rheobase", "net.rheobase")
    curves = [Curve.from_json(_ok("evaluate", file, *SOURCE, "--steps", "2", "--json")) for file in files]
    assert curves[0] == curves[1]


@pytest.mark.usefixtures("folder")
def test_the_curve_is_that_of_the_library() -> None:
    curve = Curve.from_json(_ok("evaluate", *SHORT, "--method", "MSAT", "--images", "4", "--json"))
    model = locate("nets.py:tiny")().eval()
    snn = rb.convert(model, [x for x, _ in ImageBatches("pictures", "train")], rb.MSAT())
    wanted = rb.evaluate(snn, ImageBatches("pictures", "test", limit=4), 4, reference=model)
    assert curve.images == 4
    assert curve.accuracy == wanted.accuracy
    assert curve.total_spikes == pytest.approx(wanted.total_spikes)


@pytest.mark.usefixtures("folder")
def test_a_comparison_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("compare", *SHORT, "--method", "MSAT", "--method", "RMP", "--batch-size", "2", "--json")
    whole = _untimed(_ok(*arguments))
    batches: list[int] = []
    stream = evaluation.stream

    def failing(*given: Any, **settings: Any) -> Any:
        batches.append(len(given[1]))
        if len(batches) == 5:
            raise KeyboardInterrupt
        return stream(*given, **settings)

    monkeypatch.setattr(evaluation, "stream", failing)
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    _run(*arguments, "--resume", "done/so/far")
    assert [json.loads(f.read_text())["batches"] for f in sorted(Path("done/so/far").iterdir())] == [3, 1]
    assert "steps: 4 there, 5 here" in _error(*arguments, "--resume", "done/so/far", "--steps", "5")
    assert _untimed(_ok(*arguments, "--resume", "done/so/far")) == whole
    assert batches == [2] * 7  # three of each method, and the one in which the interruption fell
    assert not list(Path("done/so/far").iterdir())


@pytest.mark.usefixtures("folder")
def test_a_comparison_that_was_interrupted_while_it_tuned_goes_on_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = ("--method", "AnnealedDelta(steps=2, iterations=30)", "--method", "AnnealedDelta(steps=2, iterations=10)")
    arguments = ("compare", *SOURCE, *tuned, "--json")
    whole = _untimed(_ok(*arguments))
    losses, loss = [], gradient._loss

    def interrupted(*given: Any) -> Any:
        losses.append(None)
        if len(losses) == 25:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(gradient, "_loss", interrupted)
    stopped = _run(*arguments, "--resume", "so-far")
    assert "calibrated so far is in so-far/calibration-1; repeat the command" in " ".join(stopped.stderr.split())
    rest = json.loads(_ok(*arguments, "--resume", "so-far"))
    assert len(losses) == 25 + 10 + 10  # 20 of 30 were kept
    seconds = [curve.pop("calibration_seconds") for curve in rest["curves"].values()]
    assert seconds[0] is None  # it has a part of the work alone
    assert seconds[1] > 0
    assert rest == whole
    assert not list(Path("so-far").iterdir())


@pytest.mark.usefixtures("folder")
def test_images_that_have_decided_leave() -> None:
    curve = Curve.from_json(_ok("evaluate", *SHORT, "--method", "MSAT", "--exit", "margin:0:2", "--json"))
    assert curve.exit_rule == "Exit(on='margin', threshold=0.0, first_step=2)"
    assert curve.exits == [0.0, 1.0, 0.0, 0.0]
    text = _ok("evaluate", *SHORT, "--method", "MSAT", "--exit", "entropy:1")
    assert "steps/image" in text
    assert "1.00 of 4 steps/image" in " ".join(text.split())
    both = _ok("compare", *SHORT, "--method", "MSAT", "--method", "RMP", "--exit", "confidence:1")
    assert both.count("4.00 of 4 steps/image") == 2
    assert "margin:0.5" in " ".join(_error("evaluate", *SHORT, "--method", "MSAT", "--exit", "margin").split())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("method", "steps"), [("RateCoding(steps=3)", 3), ("MSAT", 64)])
def test_evaluate_takes_the_steps_that_a_conversion_is_for(method: str, steps: int) -> None:
    assert Curve.from_json(_ok("evaluate", *SOURCE, "--method", method, "--json")).steps == steps
    _ok("convert", *SOURCE, "--method", method, "--output", "net.rheobase")
    result = _run("evaluate", "net.rheobase", *SOURCE, "--output", "results")
    assert "is calibrated for" not in result.stderr
    assert json.loads(Path("results/curve.json").read_text())["steps"] == steps
    other = _run("evaluate", "net.rheobase", *SHORT)
    told = "RateCoding(steps=3) is calibrated for T = 3, and simulated for 4 steps." in " ".join(other.stderr.split())
    assert told == (method != "MSAT")


@pytest.mark.usefixtures("folder")
def test_labels_are_not_needed() -> None:
    source = ("--model", "nets.py:tiny", "--data", "nets.py:unlabelled")
    _ok("convert", *source, "--method", "RMP", "--output", "net.rheobase")
    curve = Curve.from_json(_ok("evaluate", "net.rheobase", *source, "--steps", "4", "--json"))
    assert curve.accuracy is None
    assert curve.agreement is not None
    with_labels = _ok("evaluate", "net.rheobase", *source[:3], "nets.py:data", "--steps", "4", "--json")
    assert Curve.from_json(with_labels).agreement == curve.agreement


@pytest.mark.usefixtures("folder")
def test_evaluate_prints_the_powers_of_two_and_the_original_accuracy() -> None:
    text = _ok("evaluate", *SHORT, "--method", "ConstantThreshold(fraction=0.5)")
    assert "ConstantThreshold(fraction=0.5)" in text
    for column in ("T", "accuracy %", "95 % interval", "agreement %", "spikes/image", "mean rate"):
        assert column in text
    assert [line.split()[0] for line in text.splitlines() if line.strip()[:1].isdigit()] == ["1", "2", "4"]
    assert "of 6 images correctly" in text


@pytest.mark.usefixtures("folder")
def test_compare_prints_both_tables_and_writes_both_files() -> None:
    methods = ("--method", "MSAT(confidence=True)", "--method", "ConstantThreshold", "--seeds", "0,1")
    text = _ok("compare", *SHORT, *methods, "--output", "results")
    assert "after the last step" in text
    assert "SynOps/" in text
    assert "T=1" in text
    assert "T=4" in text
    content = json.loads(Path("results/curve.json").read_text())
    assert list(content["curves"]) == ["MSAT(confidence=True)", "ConstantThreshold()"]
    assert content["curves"]["MSAT(confidence=True)"]["seeds"] == [0, 1]
    assert (content["data"], content["calibration_split"], content["rheobase"]) == ("pictures", "train", rb.__version__)
    assert Path("results/curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("results").iterdir()) == ["curve.json", "curve.png"]


@pytest.mark.usefixtures("folder")
def test_compare_puts_the_quantised_twins_beside_the_methods() -> None:
    methods = [text for how in ("MSAT", "RateCoding(steps=2)", "SNNC(steps=2)", "DeltaCoding(steps=2)")
               for text in ("--method", how)]  # fmt: skip
    told = _run("compare", *SHORT, "--json", *methods)
    curves = json.loads(told.stdout)["curves"]
    assert {label: curve["levels"] for label, curve in curves.items()} == {
        "MSAT()": None, "RateCoding(steps=2)": 2, "SNNC(steps=2)": 2, "DeltaCoding(steps=2)": 4,
    }  # fmt: skip
    assert told.stderr.count("Measuring the quantised twin") == 2
    assert curves["MSAT()"]["twin_accuracy"] is None
    twins = [curves[f"{name}(steps=2)"]["twin_accuracy"] for name in ("RateCoding", "SNNC", "DeltaCoding")]
    assert twins[0] == twins[1]
    assert all(0 <= twin <= 1 for twin in twins)
    without = json.loads(_ok("compare", *SHORT, "--no-twins", "--json", "--method", "RateCoding(steps=2)"))
    assert without["curves"]["RateCoding(steps=2)"]["twin_accuracy"] is None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("failure", [rb.DataError("Batch 7 is odd."), KeyboardInterrupt()])
def test_what_is_measured_stays_where_the_twin_fails(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr("rheobase.cli.measure.evaluate_twin", fail)
    result = _run("compare", *SHORT, "--json", "--method", "RateCoding(steps=2)", "--output", "kept")
    assert result.exit_code != 0
    assert list(json.loads(result.stdout)["curves"]) == ["RateCoding(steps=2)"]
    assert Path("kept/curve.json").exists()
    if isinstance(failure, rb.DataError):
        assert "error: The quantised twin failed: Batch 7 is odd." in result.stderr


@pytest.mark.usefixtures("folder")
def test_compare_converts_anew_for_each_t_where_a_method_is_for_one() -> None:
    methods = [
        text for how in ("MSAT", "RMP", "RateCoding", "RateCoding(steps=3)", "SRP") for text in ("--method", how)
    ]
    content = json.loads(_ok("compare", *SOURCE, "--steps", "4,2", "--json", *methods))
    assert content["steps"] == [2, 4]
    assert {label: curve["steps"] for label, curve in content["curves"].items()} == {
        "MSAT()": 4,
        "RMP()": 4,
        "RateCoding(steps=2)": 2,
        "RateCoding(steps=4)": 4,
        "RateCoding(steps=3)": 3,  # it says its own
        "SRP(steps=2)": rb.methods.SRP(steps=2).total_steps(),
        "SRP(steps=4)": rb.methods.SRP(steps=4).total_steps(),
    }
    own = json.loads(_ok("compare", *SOURCE, "--json", *methods))
    assert own["steps"] is None
    assert {label: curve["steps"] for label, curve in own["curves"].items()} == {
        "MSAT()": 64,
        "RMP()": 64,
        "RateCoding()": rb.RateCoding().steps,
        "RateCoding(steps=3)": 3,
        "SRP()": rb.methods.SRP().total_steps(),
    }
    assert own["curves"]["RateCoding()"]["alphabet"] == "binary"


@pytest.mark.parametrize("steps", ["0", "4,x", "", "4,,8", "-1"])
@pytest.mark.usefixtures("folder")
def test_steps_that_are_no_numbers_are_one_clear_error(steps: str) -> None:
    text = _error("compare", *SOURCE, "--method", "MSAT", f"--steps={steps}")
    assert f"--steps is '{steps}'; give whole numbers from 1" in " ".join(text.split())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_comparison_that_fails_prints_the_methods_that_are_done(form: str) -> None:
    failing = "MSAT(confidence=True, confidence_sites=('nowhere',))"
    methods = ("--method", "ConstantThreshold", "--method", failing)
    result = _run("compare", *SHORT, *methods, *["--json"] * (form == "json"))
    assert result.exit_code == 2
    assert f"error: {failing} failed: MSAT: confidence_sites names" in " ".join(result.stderr.split())
    if form == "json":
        assert list(json.loads(result.stdout)["curves"]) == ["ConstantThreshold()"]
    else:
        assert "T=4" in result.stdout
        assert "ConstantThreshold()" in result.stdout


@pytest.mark.usefixtures("folder")
def test_an_exit_before_layers_that_wait_is_refused_before_anything_is_measured() -> None:
    methods = ("--method", "ConstantThreshold", "--method", "ParallelConversion(steps=4)", "--exit", "margin:0.5")
    result = _run("compare", *SHORT, *methods)
    assert result.exit_code == 2
    assert result.stdout == ""
    text = " ".join(result.stderr.split())
    assert "cannot be used with ParallelConversion(steps=4), whose layers wait" in text
    assert "Leave out --exit, or these methods." in text


def test_a_bar_cuts_its_text_and_not_its_numbers_on_a_narrow_terminal() -> None:
    narrow = Console(width=80, file=io.StringIO(), record=True, force_terminal=True)
    moving = bar(narrow)
    _moving(moving, "Converting with AnnealedDelta(iterations=300)")(Calibrated("tuning", 150, 300, 0.0491))
    narrow.print(moving.get_renderable())
    line = narrow.export_text().strip()
    assert line.startswith("tuning, loss 0.049: Converting with")
    assert "…" in line
    assert re.search(r"━ +-?[-:0-9]+ left$", line)
    assert len(line) <= 80


@pytest.mark.usefixtures("folder")
def test_json_is_all_that_is_printed_on_standard_output() -> None:
    result = _run("compare", *SHORT, "--method", "MSAT", "--json", "--output", "results")
    assert json.loads(result.stdout)["curves"]["MSAT()"]["steps"] == 4
    assert "Written to results/curve.json" in result.stderr
    sites = json.loads(_ok("convert", *SOURCE, "--json", "--output", "net.rheobase"))["sites"]
    assert [site["neurons"] for site in sites] == [36, 8]


@pytest.mark.usefixtures("folder")
def test_quiet_prints_the_result_alone() -> None:
    result = _run("evaluate", *SHORT, "--method", "MSAT", "--quiet", "--output", "results")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "original network" not in result.stdout


@pytest.mark.usefixtures("folder")
def test_a_comparison_says_what_auto_took() -> None:
    auto = "Auto(alphabet='binary', steps=4, iterations=0)"
    text = " ".join(_ok("compare", *SHORT, "--method", auto, "--method", "RMP", "--quiet").split())
    assert re.search(rf"{re.escape(auto)} took (TemporalBias|SNNC)\(steps=4", text)
    assert "RMP() took" not in text


@pytest.mark.usefixtures("folder")
def test_auto_says_what_it_took_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rb.Auto, "resolve", lambda *_: (rb.MSAT(), "a table\nTaken: MSAT()."))
    auto = ("--method", "Auto")
    plan = json.loads(_ok("convert", *SOURCE, *auto, "--json", "--output", "net.rheobase"))
    assert plan["method"].startswith("Auto(")
    assert f"Taken: {plan['taken']}." in plan["reason"]
    again = ("--output", "net.rheobase", "--force")
    assert plan["reason"] in _ok("convert", *SOURCE, *auto, *again)
    assert "Taken: " not in _ok("convert", *SOURCE, *auto, *again, "--quiet")
    measured = _run("evaluate", *SHORT, *auto, "--json")
    assert Curve.from_json(measured.stdout).method == plan["taken"]
    assert plan["reason"] in measured.stderr


@pytest.mark.usefixtures("folder")
def test_data_may_come_from_a_function() -> None:
    text = _ok("evaluate", "--model", "nets.py:tiny", "--data", "nets.py:data", "--method", "MSAT", "--steps", "2")
    assert "of 10 images correctly" in text


@pytest.mark.usefixtures("folder")
def test_existing_output_is_replaced_with_force_only() -> None:
    _ok("convert", *SOURCE, "--output", "net.rheobase")
    before = Path("net.rheobase").read_bytes()
    message = _error("convert", *SOURCE, "--method", "ConstantThreshold", "--output", "net.rheobase")
    assert "net.rheobase exists already; give another --output, or --force" in message
    assert Path("net.rheobase").read_bytes() == before
    _ok("convert", *SOURCE, "--method", "ConstantThreshold", "--output", "net.rheobase", "--force")
    assert Path("net.rheobase").read_bytes() != before


@pytest.mark.usefixtures("folder")
def test_a_toml_file_gives_options_and_the_command_line_wins() -> None:
    Path("a.toml").write_text(
        'model = "nets.py:tiny"\nmodel_args = { width = 3 }\ndata = "pictures"\nsteps = 2\nmean = [0.5, 0.5, 0.4]\n'
        'seeds = [0, 1]\n[compare]\nmethod = ["MSAT", "ConstantThreshold"]\n[convert]\noutput = "net.rheobase"\n'
    )
    content = json.loads(_ok("compare", "--config", "a.toml", "--json"))
    assert (list(content["curves"]), content["mean"]) == (["MSAT()", "ConstantThreshold()"], "0.5,0.5,0.4")
    content = json.loads(_ok("compare", "--config", "a.toml", "--method", "MSAT", "--steps", "3", "--json"))
    assert list(content["curves"]) == ["MSAT()"]
    assert content["steps"] == 3
    assert "3x3x3" in _ok("convert", "--config", "a.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 2", "there is no option 'stepz' at the top level; accepted are batch-size, calibration-images, "),
        ("[evaluate]\nfraction = 2", "there is no option 'fraction' in [evaluate]; accepted are batch-size, "),
        ("[evalute]\nsteps = 2", "there is no option 'evalute' at the top level"),
        ("steps = ", "cannot be read as TOML"),
        ("split = 2020-01-01", "split is datetime.date(2020, 1, 1); give text, a number"),
    ],
)
def test_a_wrong_toml_file_says_what_is_accepted(text: str, message: str) -> None:
    Path("a.toml").write_text(text)
    assert message in _error("evaluate", "--config", "a.toml", *SHORT)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", *SHORT), "takes either a file that `rheobase convert` wrote or --method; found neither"),
        (("evaluate", "a.rheobase", *SHORT, "--method", "MSAT"), "found both (a.rheobase and MSAT"),
        (("evaluate", "a.rheobase", *SHORT), "a.rheobase cannot be read as a converted network"),
        (("evaluate", *SHORT, "--method", "Foo"), "There is no method 'Foo'. Accepted: BDETT(...), BSNN(...)"),
        (("evaluate", *SHORT, "--method", "MSAT", "--split", "train"), "--calibration-split train and --split train"),
        (("evaluate", *SHORT, "--method", "MSAT", "--calibration-split", "test"), "share images"),
        (("evaluate", *SHORT, "--method", "MSAT", "--split", "validation"), "no split 'validation'; it has"),
        (("evaluate", *SHORT, "--method", "MSAT", "--mean", "a,b"), "--mean is 'a,b'; give one number, or one for"),
        (("evaluate", *SHORT, "--method", "MSAT", "--std", "0"), "(greater than 0)"),
        (("evaluate", *SHORT, "--method", "MSAT", "--columns", "img"), "give the image and the label column"),
        (("evaluate", *SHORT, "--method", "MSAT", "--seeds", "a"), "--seeds is 'a'; give whole numbers"),
        (("evaluate", *SHORT, "--method", "MSAT", "--images", "7"), "7 were asked for"),
        (("evaluate", *SHORT, "--method", "MSAT", "--size", "12"), "fails on an input of shape (2, 3, 12, 12)"),
        (("evaluate", *SHORT, "--method", "MSAT", "--model", "nets.py:sigmoid"), "igmoid"),
        (("evaluate", *SHORT, "--method", "MSAT", "--data", "nets.py:number"), "takes 0 positional arguments"),
        (("evaluate", *SHORT, "--method", "MSAT", "--data", "nets.py:data", "--size", "8"), "--size is for images"),
        (
            ("evaluate", *SHORT, "--method", "MSAT", "--data", "./absent"),
            "no data set './absent': looked for the folder",
        ),
        (("compare", *SHORT, "--method", "MSAT", "--method", "MSAT()"), "only these differ: MSAT()"),
        (
            ("compare", *SHORT, "--method", "RateCoding", "--method", "RateCoding(steps=4)"),
            "2 methods were given, but only these differ: RateCoding(steps=4)",
        ),
        (
            ("evaluate", *SHORT, "--method", "AnnealedDelta(steps=4, iterations=1)", "--resume", "nets.py/sub"),
            "--resume nets.py/sub cannot be made",
        ),
        (("evaluate", *SHORT, "--method", "MSAT", "--data", "nets.py:unseen"), "The data gave no batch"),
        (("convert", *SOURCE, "--output", "pictures"), "pictures exists already"),
        (("convert", *SOURCE, "--output", "pictures", "--force"), "pictures is a folder, no file"),
    ],
)
def test_input_that_cannot_be_used_is_one_clear_error(arguments: tuple[str, ...], message: str) -> None:
    text = _error(*arguments)
    assert text.startswith("error: ")
    assert message in text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "--model", "absent.py:net", "--data", "absent", "--output", "nets.py/sub/net.rheobase"),
        ("evaluate", "--model", "absent.py:net", "--data", "absent", "--method", "MSAT", "--output", "nets.py"),
        ("compare", "--model", "absent.py:net", "--data", "absent", "--method", "MSAT", "--output", "nets.py/sub"),
        ("demo", "--output", "nets.py"),
    ],
)
def test_output_that_cannot_be_written_is_found_before_the_work(arguments: tuple[str, ...]) -> None:
    assert "nets.py is a file, no folder; give another --output." in _error(*arguments)


def test_looking_whether_output_can_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_existing(False, tmp_path / "new" / "net.rheobase")
    assert not list(tmp_path.iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "TemporaryDirectory", full)
    with pytest.raises(rb.SettingError, match=r"net.rheobase cannot be written .No space left on device.; give"):
        refuse_existing(False, tmp_path / "new" / "net.rheobase")


@pytest.mark.usefixtures("folder")
def test_images_of_another_size_than_those_converted_are_an_error() -> None:
    _ok("convert", *SOURCE, "--output", "net.rheobase")
    assert "has the shape (3, 9, 9)" in _error("evaluate", "net.rheobase", *SHORT, "--size", "9")


@pytest.mark.usefixtures("folder")
def test_debug_shows_the_traceback() -> None:
    result = _run("evaluate", *SHORT, "--method", "Foo", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "error: There is no method 'Foo'" in result.stderr


@pytest.mark.parametrize(
    ("split", "calibration", "overlap"),
    [
        ("test", "train", False),
        ("train", "train[:10]", True),
        ("train[10:]", "train[:10]", False),
        ("train[9:]", "train[:10]", True),
        ("train[80%:]", "train[:80%]", False),
        ("train[10:]", "train[:80%]", True),
        ("train[-10:]", "train[:10]", True),
    ],
)
def test_only_disjoint_parts_of_one_split_are_let_through(split: str, calibration: str, overlap: bool) -> None:
    Path("some_data.py").write_text("import torch\n\ndef data(split):\n    return torch.zeros(2, 1), torch.zeros(2)\n")
    samples = Samples("some_data.py:data", split, calibration)
    if overlap:
        with pytest.raises(rb.SettingError, match="share images"):
            samples.calibration()
    else:
        assert samples.calibration() is not None


def test_help_and_the_import_of_the_library_wait_for_no_pytorch() -> None:
    code = "import sys, rheobase, rheobase.cli; assert rheobase.cli.is_first(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_version_and_help() -> None:
    assert _ok("--version") == f"rheobase {rb.__version__}\n"
    text = _ok("--help")
    for verb in ("demo", "convert", "evaluate", "compare", "methods", "train", "evaluate-ann"):
        assert verb in text
        assert "Example" in _ok(verb, "--help")


def test_methods_lists_all_and_describes_one() -> None:
    text = _ok("methods")
    rows = json.loads(_ok("methods", "--json"))
    assert [row["name"] for row in rows] == sorted(rb.methods.__all__, key=str.lower)
    for row in rows:
        assert row["name"] in text
        assert row["sentence"]
        assert row["spikes"]
    found = {row["name"]: row for row in rows}
    assert (found["ParallelConversion"]["spikes"], found["ParallelConversion"]["layers"]) == ("binary", "wait")
    assert found["CalibratedMSAT"]["settings"]["tau_mp"] == "2.0"
    assert found["MSAT"]["presets"][0] == "vgg16"
    rounded = json.loads(_ok("methods", "CalibratedMSAT(payload=4)", "--json"))
    assert [(row["spikes"], row["settings"]["payload"]) for row in rounded] == [("power_of_two(4)", "4")]
    named = json.loads(_ok("methods", "MSAT(confidence=True, confidence_sites=('layer1.0.act1',))", "--json"))
    assert (named[0]["spikes"], named[0]["layers"]) == ("real", "in step")  # of a network that is not here
    one = " ".join(_ok("methods", "SignedMemory").split())
    for text in ("e(t) = max(v(t-1) + x(t), -r(t-1))", "steps=16", "T, for which the network is converted", "IJCAI"):
        assert text in one
    one = _ok("methods", "MSAT")
    assert "MSAT.vgg16" in one
    assert "Did you mean MSAT?" in _error("methods", "Msta")
