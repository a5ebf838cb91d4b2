"""`rheobase train` and `rheobase evaluate-ann`: from a recipe to a network in the zoo, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

pytest.importorskip("lightning")
from rheobase import models
from rheobase.cli import app
from rheobase.cli.progress import _lines, duration
from rheobase.training import Progress

datasets = pytest.importorskip("datasets")
from PIL import Image  # noqa: E402
from test_data import _write_recordings  # noqa: E402

RECIPE = """
model = "resnet20"
model_settings = { width = 2, classes = 2 }
data = "pictures"
epochs = 2
batch_size = 8
threads = 1
"""


def _pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 9)):
        for kind in ("dark", "light"):
            (folder / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 100, (8, 8, 3)) + 150 * (kind == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / kind / f"{index}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a recipe and its finished training."""
    place = tmp_path_factory.mktemp("work")
    _pictures(place / "pictures")
    (place / "small-fast.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        patch.delenv("RHEOBASE_DATA", raising=False)
        _ok("train", "small-fast.toml", "--quiet")
    return place


@pytest.fixture(autouse=True)
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder, with an empty zoo."""
    place = tmp_path / "work"
    shutil.copytree(trained, place, ignore=shutil.ignore_patterns("cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)
    monkeypatch.setenv("RHEOBASE_ZOO", str(place / "zoo"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(place)
    return place


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _ok(*arguments: str) -> str:
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def _error(*arguments: str) -> str:
    result = _run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


RUN = "runs/small-fast"


def test_training_ends_with_its_accuracy_and_where_the_files_are() -> None:
    text = _ok("train", "small-fast.toml")
    stored = json.loads(Path(RUN, "result.json").read_text())["accuracy"]
    assert text.startswith(f"small-fast: accuracy {100 * stored:.2f} % of 18 test samples (95 % interval ")
    assert text.rstrip().endswith(f"the files are in {RUN}.")
    assert {file.name for file in Path(RUN).iterdir()} >= {"last.ckpt", "result.json", "config.json"}


def test_training_as_json_says_what_it_ran_on() -> None:
    found = json.loads(_ok("train", "small-fast.toml", "--json"))
    assert found["folder"] == RUN
    assert found["test_samples"] == 18
    assert found["low"] < found["accuracy"] <= found["high"]
    assert set(found["versions"]) == {"torch", "lightning"}


def test_training_anew_needs_force_where_there_is_a_checkpoint() -> None:
    before = Path(RUN, "last.ckpt").stat().st_mtime_ns
    assert "exists already" in _error("train", "small-fast.toml", "--no-resume")
    _ok("train", "small-fast.toml")
    assert Path(RUN, "last.ckpt").stat().st_mtime_ns == before
    _ok("train", "small-fast.toml", "--no-resume", "--force")
    assert Path(RUN, "last.ckpt").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (None, "cannot be read as a training recipe"),
        (RECIPE + "epoch = 3\n", "there is no setting 'epoch'; accepted are auto_augment"),
        (RECIPE.replace("pictures", "./nowhere"), "no data set './nowhere'"),
        (RECIPE.replace("resnet20", "alexnet"), "no network 'alexnet'; choose one of"),
        (RECIPE + "mean = 0.5\n", "mean is 0.5; give a list of numbers"),
        (RECIPE.replace("classes = 2", "classes = 1"), "the network has 1 classes and the labels are 0 to 1"),
    ],
    ids=["missing", "key", "data", "network", "mean", "classes"],
)
def test_recipe_that_cannot_be_trained_is_one_clear_error(recipe: str | None, message: str) -> None:
    if recipe is not None:
        Path("other.toml").write_text(recipe)
    result = _run("train", "other.toml")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_output_that_is_a_file_is_a_clear_error() -> None:
    assert "small-fast.toml is a file, no folder; give another --output" in _error(
        "train", "small-fast.toml", "-q", "--output", "small-fast.toml"
    )


def test_missing_lightning_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rheobase.training.run")
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert "training needs the package lightning; pip install 'rheobase[train]'" in _error("train", "small-fast.toml")


def test_measuring_a_network_does_not_import_lightning() -> None:
    code = "import sys, rheobase.cli, rheobase.training; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


# --------------------------------------------------------------------------------- evaluate-ann


def _card(**changes: object) -> None:
    file = Path("zoo/small.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_training_is_measured_on_the_whole_test_set_and_left_as_it_is() -> None:
    before = {file.name: file.stat().st_mtime_ns for file in Path(RUN).iterdir()}
    found = json.loads(_ok("evaluate-ann", RUN, "--json"))
    (network,) = found["networks"]
    assert network["samples"] == 18
    assert network["accuracy"] == network["stated"] == json.loads(Path(RUN, "result.json").read_text())["accuracy"]
    assert network["reproduced"]
    assert network["training_seconds"] == torch.load(f"{RUN}/last.ckpt", weights_only=True)["seconds"] > 0
    assert network["training_hardware"] == json.loads(Path(RUN, "provenance.json").read_text())["hardware"]
    assert {file.name: file.stat().st_mtime_ns for file in Path(RUN).iterdir()} == before
    assert found["command"] == f"rheobase evaluate-ann {RUN}"
    assert {"commit", "hardware", "versions", "date"} <= set(found)


def test_training_of_an_older_version_is_measured_and_published() -> None:
    file = Path(RUN, "config.json")
    newer = ("folds", "fold", "logger", "length")
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in newer}))
    assert "Published" in _run("evaluate-ann", RUN, "--publish", "zoo").stderr
    assert _ok("evaluate-ann", "small").rstrip().endswith("yes")


def test_measurement_of_the_zoo_says_what_its_card_does_of_the_training() -> None:
    _ok("evaluate-ann", RUN, "--publish", "zoo")
    _card(seconds=12.5, hardware="an abacus")
    (network,) = json.loads(_ok("evaluate-ann", "small", "--json"))["networks"]
    assert (network["training_seconds"], network["training_hardware"]) == (12.5, "an abacus")


def test_hardware_that_a_training_did_not_note_is_not_taken_for_this_one() -> None:
    Path(RUN, "provenance.json").unlink()
    (network,) = json.loads(_ok("evaluate-ann", RUN, "--json"))["networks"]
    assert network["training_hardware"] == "unknown"


def test_published_training_is_found_in_the_zoo_and_reproduces_its_card() -> None:
    assert "Published: zoo/small.safetensors" in _run("evaluate-ann", RUN, "--publish", "zoo").stderr
    assert "| small | pictures |" in Path("zoo/README.md").read_text()
    for arguments in ((), ("small",), ("zoo/small.safetensors",), ("small", "--zoo", "zoo")):
        text = _ok("evaluate-ann", *arguments)
        assert text.split("\n")[4].split()[0] == "small"
        assert text.rstrip().endswith("yes")


def test_training_may_publish_at_its_end_and_only_what_is_better() -> None:
    assert "Published:" in _run("train", "small-fast.toml", "--publish", "zoo").stderr
    assert "Not published: zoo already holds small" in _run("train", "small-fast.toml", "--publish", "zoo").stderr


def test_several_processes_print_and_publish_once(work: Path) -> None:
    Path("pair.toml").write_text(RECIPE + "devices = 2\n")
    command = [sys.executable, "-m", "rheobase", "train", "pair.toml", "--json", "--publish", "zoo"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    environment["HF_DATASETS_CACHE"] = str(work / "cache")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # one line, of the first process
    assert found["accuracy"] == json.loads(Path("runs/pair/result.json").read_text())["accuracy"]
    assert (done.stderr.count("Published:"), done.stderr.count("Not published")) == (1, 0)


@pytest.mark.parametrize("kind", ["m5", "bilstm"])
def test_recordings_and_texts_go_from_recipe_to_zoo_too(kind: str) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("tokenizers")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    Path("samples").mkdir()
    for split, count in (("train", 16), ("test", 6)):
        file = Path("samples", f"{split}.parquet")
        if kind == "m5":
            _write_recordings(file, [np.sin(np.arange(8000) * (0.1 + 0.5 * (i % 2))) for i in range(count)], 8000)
        else:
            rows = {"text": [("good film", "bad film")[i % 2] for i in range(count)], "label": [0, 1] * (count // 2)}
            datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    size = "width = 4" if kind == "m5" else "vocabulary = 9, embedding = 4, hidden = 4"
    recipe = RECIPE.replace("resnet20", kind).replace("pictures", "./samples").replace("width = 2", size)
    Path("kind.toml").write_text(recipe)
    _ok("train", "kind.toml", "--publish", "zoo", "--quiet")
    (found,) = json.loads(_ok("evaluate-ann", "kind", "--json"))["networks"]
    assert (found["name"], found["samples"], found["reproduced"]) == ("kind", 6, True)
    assert Path("zoo/kind.tokenizer").exists() == (kind == "bilstm")
    if kind == "bilstm":  # "film", "bad" and "good", in the order of their counts and letters
        network = models.load("kind")
        assert network.transform(["good film", "bad play"]).tolist() == [[4, 2, *[0] * 254], [3, 1, *[0] * 254]]
        assert network.card.test_samples == 6


def test_measuring_a_network_for_texts_needs_its_test_split_alone() -> None:
    pytest.importorskip("tokenizers")
    rows = {"text": ["good film", "bad film"] * 8, "label": [0, 1] * 8}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    Path("samples").mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(Path("samples", f"{split}.parquet"))
    size = "vocabulary = 9, embedding = 4, hidden = 4"
    recipe = RECIPE.replace("resnet20", "bilstm").replace("pictures", "./samples").replace("width = 2", size)
    Path("kind.toml").write_text(recipe)
    _ok("train", "kind.toml", "--publish", "zoo", "--quiet")
    Path("samples/train.parquet").unlink()
    assert _ok("evaluate-ann", "kind").rstrip().endswith("yes")


def test_only_the_first_process_publishes_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    _ok("evaluate-ann", RUN, "--publish", "zoo", "--output", "out/ann.json")
    assert not Path("zoo").exists()
    assert not Path("out").exists()
    monkeypatch.setenv("RANK", "0")
    _ok("evaluate-ann", RUN, "--publish", "zoo", "--output", "out/ann.json")
    assert models.names("zoo") == ["small"]


def test_checkpoint_may_be_named_instead_of_its_folder() -> None:
    assert "small-fast" in _ok("evaluate-ann", f"{RUN}/last.ckpt", "--images", "4")


def test_card_that_is_not_reproduced_is_an_error_after_the_table() -> None:
    _ok("evaluate-ann", RUN, "--publish", "zoo")
    _card(accuracy=0.31)
    result = _run("evaluate-ann")
    assert result.exit_code == 2
    assert "small: 31.00 % is stated, and " in result.stderr
    assert result.stdout.rstrip().endswith("no")


def test_damaged_weights_are_an_error_and_the_others_are_measured() -> None:
    _ok("evaluate-ann", RUN, "--publish", "zoo")
    _card(sha256="0" * 64)
    result = _run("evaluate-ann", "small", RUN)
    assert result.exit_code == 2
    assert "small.safetensors has the checksum" in result.stderr
    assert "small-fast" in result.stdout


def test_result_file_is_the_json_that_is_printed_and_not_replaced_unasked() -> None:
    printed = _ok("evaluate-ann", RUN, "--json", "--output", "out/ann.json")
    assert json.loads(Path("out/ann.json").read_text()) == json.loads(printed)
    assert "exists already" in _error("evaluate-ann", RUN, "--output", "out/ann.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the folder .* holds none. The weights are in .* git clone, .*RHEOBASE_ZOO name .*--zoo names another"),
        (("small",), "no network 'small' in the zoo"),
        (("pictures",), "pictures does not hold a training"),
        ((RUN, "--images", "19"), "has 18 rows, 19 were asked for"),
        ((RUN, "--folds"), "a summary needs each fold once"),
        ((RUN, "--folds", "--images", "3"), "leave out --images"),
    ],
    ids=["empty", "name", "folder", "images", "folds", "part"],
)
def test_network_that_cannot_be_measured_is_one_clear_error(arguments: tuple[str, ...], message: str) -> None:
    result = _run("evaluate-ann", *arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.stderr


def test_unfinished_training_is_neither_measured_nor_published() -> None:
    Path(RUN, "result.json").unlink()
    assert "let it end before it is measured or published" in _error("evaluate-ann", RUN, "--publish", "zoo")
    assert not Path("zoo").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("train", "small-fast.toml", "--quiet"), "last.ckpt"),
        (("train", "small-fast.toml", "--quiet", "--json"), "provenance.json"),
        (("evaluate-ann", RUN), "last.ckpt"),
        (("evaluate-ann", RUN), "result.json"),
    ],
)
def test_emptied_file_of_a_training_is_one_clear_error(arguments: tuple[str, ...], name: str) -> None:
    Path(RUN, name).write_bytes(b"")
    assert f"{name} is damaged" in _error(*arguments)


def test_folds_are_trained_one_by_one_and_summarised() -> None:
    Path("two.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 1\nfolds = 2"))
    for fold in "01":
        _ok("train", "two.toml", "--fold", fold, "--quiet")
    runs = ("runs/two-fold0", "runs/two-fold1")
    assert "2 folds: mean accuracy" in _ok("evaluate-ann", *runs, "--folds")
    found = json.loads(_ok("evaluate-ann", *runs, "--folds", "--json"))
    assert [network["samples"] for network in found["networks"]] == [25, 25]
    assert all(network["training_seconds"] > 0 for network in found["networks"])
    assert found["folds"]["accuracies"] == [network["accuracy"] for network in found["networks"]]
    assert "training on fold 0 of 2; the zoo holds" in _error("evaluate-ann", runs[0], "--publish", "zoo")
    assert "leave it out" in _error("train", "two.toml", "--fold", "0", "--publish", "zoo")


# ------------------------------------------------------------------------------------- progress


def test_log_has_a_line_a_minute_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 1000.0
    monkeypatch.setattr("rheobase.cli.progress.time.monotonic", lambda: clock)
    show, at = _lines("net", 4), Progress(step=100, steps=400, epoch=1, loss=float("nan"))
    for step in (100, 130, 160, 190):  # after a resume at step 100; 30 steps take 40 s
        show(dataclasses.replace(at, step=step, loss=0.5))
        clock += 40
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["net: pass 2 of 4, loss 0.500, step 160 of 400, 5 min left"]


def test_durations_have_about_two_figures() -> None:
    assert [duration(s) for s in (45.4, 99, 1020, 5400)] == ["45 s", "99 s", "17 min", "1 h 30 min"]
