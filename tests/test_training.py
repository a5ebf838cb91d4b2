"""Training: reaches its accuracy, survives kills, stops with a reason."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("lightning")
from rheobase.errors import DataError, SettingError
from rheobase.models import resnet20, vgg16
from rheobase.training import (
    TrainingConfig,
    config_from,
    read_config,
    train,
)
from rheobase.training.batches import Samples, ShuffledBatches
from rheobase.training.callbacks import CheckpointReader
from rheobase.training.products import ProductConvolution, small_convolutions_as_products
from rheobase.training.provenance import write_provenance
from rheobase.training.task import learning_rate_factor

RECIPES = sorted((Path(__file__).parents[1] / "experiments" / "train").glob("*.toml"))
TINY = TrainingConfig(
    name="tiny",
    model="resnet20",
    model_settings={"width": 2, "classes": 3},
    data="none",
    epochs=2,
    batch_size=16,
    flip=True,
    crop=2,
    cutout=4,
    checkpoint_steps=2,
    threads=1,
)


def _random_samples(count: int = 96, size: int = 8) -> Samples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return Samples(images, torch.arange(count) % 3)


def _digits() -> tuple[Samples, Samples]:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(x * 15.9).to(torch.uint8).view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    labels = torch.from_numpy(y).long()
    return Samples(images[:1500], labels[:1500]), Samples(images[1500:], labels[1500:])


def test_a_short_training_on_digits_reaches_its_accuracy(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, model_settings={"width": 8}, epochs=10, batch_size=16, flip=False, crop=1, cutout=0, checkpoint_steps=100
    )
    result = train(config, tmp_path, data=_digits())
    assert result.accuracy > 0.93
    assert not result.model.training
    assert (tmp_path / "last.ckpt").is_file()
    assert (tmp_path / "log.csv").read_text().startswith("step,epoch,loss,learning_rate,time\n10,0,")


_KILLED = """
    import sys, dataclasses
    sys.path.insert(0, {tests!r})
    from test_training import TINY, _random_samples
    from rheobase.training import train
    from rheobase.training.callbacks import Checkpoint
    import os, signal

    at, stage = int(sys.argv[2]), sys.argv[3]
    if stage == "step":
        whole = Checkpoint.on_train_batch_end

        def die_after_step(self, trainer, *args):
            whole(self, trainer, *args)
            if trainer.global_step == at:
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpoint.on_train_batch_end = die_after_step
    else:
        replace = os.replace

        def die_before_rename(source, target):
            if str(target).endswith("last.ckpt") and at == int(open(sys.argv[1] + "/count").read()):
                with open(source, "r+b") as file:  # as if only half of it had been written
                    file.truncate(1000)
                os.kill(os.getpid(), signal.SIGKILL)
            if str(target).endswith("last.ckpt"):
                count = int(open(sys.argv[1] + "/count").read()) + 1
                open(sys.argv[1] + "/count", "w").write(str(count))
            replace(source, target)

        open(sys.argv[1] + "/count", "w").write("0")
        os.replace = die_before_rename
    samples = _random_samples()
    train(TINY, sys.argv[1], data=(samples, samples))
"""


def _run_and_kill(folder: Path, at: int, stage: str) -> None:
    code = textwrap.dedent(_KILLED).format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.run([sys.executable, "-c", code, str(folder), str(at), stage], env=environment, check=False)
    assert process.returncode == -signal.SIGKILL


def _equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def uninterrupted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def uninterrupted(uninterrupted_folder: Path) -> nn.Module:
    samples = _random_samples()
    return train(TINY, uninterrupted_folder, data=(samples, samples)).model


@pytest.mark.parametrize(
    ("at", "stage"),
    [(3, "step"), (6, "step"), (8, "step"), (1, "rename")],
    ids=["between-checkpoints", "epoch-end", "second-epoch", "while-writing"],
)
def test_training_killed_and_resumed_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, uninterrupted: nn.Module, at: int, stage: str
) -> None:
    _run_and_kill(tmp_path, at, stage)  # 6 steps an epoch, a checkpoint every second step
    samples = _random_samples()
    resumed = train(TINY, tmp_path, data=(samples, samples))
    assert _equal(resumed.model, uninterrupted)
    assert not list(tmp_path.glob(".*"))  # nor does a write that was killed leave anything


def test_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    samples = _random_samples()
    first = train(TINY, tmp_path, data=(samples, samples))
    log = (tmp_path / "log.csv").read_text()
    again = train(TINY, tmp_path, data=(samples, samples))
    assert _equal(first.model, again.model)
    assert (tmp_path / "log.csv").read_text() == log


def test_a_resumed_training_reads_its_checkpoint_once(
    uninterrupted: nn.Module, uninterrupted_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(uninterrupted_folder, tmp_path / "run")
    read, load = [], torch.load
    monkeypatch.setattr("torch.load", lambda file, *a, **k: (read.append(file), load(file, *a, **k))[1])
    train(TINY, tmp_path / "run", data=(_random_samples(),) * 2)
    assert len(read) == 1


def test_files_that_forked_processes_hand_over_are_read_as_they_are(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / ".temp.ckpt")
    reader = CheckpointReader(tmp_path / "last.ckpt", nn.Linear(2, 1))
    assert list(reader.load_checkpoint(tmp_path / ".temp.ckpt", weights_only=True)) == ["weight"]


_RANKS = """
    import json, os, sys
    sys.path.insert(0, {tests!r})
    import dataclasses
    from test_training import TINY, _random_samples
    from rheobase.digest import digest, weights
    from rheobase.training import train

    config = dataclasses.replace(TINY, devices=2, strategy="ddp", learning_rate=0.01)
    result = train(config, sys.argv[1] + "/run", data=(_random_samples(), _random_samples(600)))
    found = [result.accuracy, result.seconds, digest(weights(result.model)), result.first]
    open(sys.argv[1] + "/rank" + os.environ.get("LOCAL_RANK", "0"), "w").write(json.dumps(found))
"""


def test_several_processes_give_the_network_and_the_accuracy_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(textwrap.dedent(_RANKS).format(tests=str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(tmp_path / "ranks.py"), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    first, second = (json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1))
    assert first[:3] == second[:3]
    assert (first[3], second[3]) == (True, False)
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [stored["accuracy"], stored["seconds"]] == first[:2]


def test_another_seed_gives_other_weights(tmp_path: Path, uninterrupted: nn.Module) -> None:
    samples = _random_samples()
    other = train(dataclasses.replace(TINY, seed=1), tmp_path, data=(samples, samples))
    assert not _equal(other.model, uninterrupted)


def test_checkpoint_of_another_recipe_is_refused_with_what_differs(tmp_path: Path) -> None:
    samples = _random_samples()
    train(TINY, tmp_path, data=(samples, samples))
    with pytest.raises(SettingError, match=r"another recipe \(learning_rate 0.1 is now 0.2\)"):
        train(dataclasses.replace(TINY, learning_rate=0.2), tmp_path, data=(samples, samples))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("last.ckpt", b"", r"last.ckpt is damaged or another program's \(.+\); restore it, or remove it and repeat"),
        ("last.ckpt", b"PK\3\4 no archive", r"last.ckpt is damaged or another program's"),
        ("last.ckpt", {"a": torch.ones(1)}, r"last.ckpt is damaged .*\(it lacks epoch, global_step, .*state_dict"),
        ("last.ckpt", torch.ones(1), r"last.ckpt is damaged .*\(it holds a Tensor, no table\)"),
        ("config.json", b"", r"config.json is damaged"),
        ("config.json", b"[1]", r"config.json is damaged .*it holds a list, no table"),
        ("config.json", b'{"name": "tiny"}', r"config.json is damaged .*'model' is missing; 'data' is missing"),
        ("provenance.json", b"", r"provenance.json is damaged"),
        ("provenance.json", b'{"commit": 1}', r"provenance.json is damaged .*it lacks commit, hardware, versions"),
    ],
)
def test_damaged_folder_is_refused_before_the_first_step(
    uninterrupted: nn.Module, uninterrupted_folder: Path, tmp_path: Path, name: str, content: Any, message: str
) -> None:
    shutil.copytree(uninterrupted_folder, tmp_path / "run")
    file = tmp_path / "run" / name
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    steps: list[object] = []
    with pytest.raises(DataError, match=message):
        train(TINY, tmp_path / "run", data=(_random_samples(),) * 2, progress=steps.append)
    assert not steps


def test_checkpoint_of_another_network_is_refused_with_the_first_difference(
    uninterrupted: nn.Module, uninterrupted_folder: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(uninterrupted_folder / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["model.fc.bias"] = torch.zeros(7)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match=r"last.ckpt do not fit the network .*\(size mismatch for fc.bias"):
        train(TINY, tmp_path, data=(_random_samples(),) * 2)


def test_provenance_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rheobase.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_provenance(tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_loss_that_is_not_finite_stops_with_its_step_and_batch(tmp_path: Path) -> None:
    samples = _random_samples()
    config = dataclasses.replace(TINY, learning_rate=1e30, warmup=0.0)
    with pytest.raises(DataError, match=r"loss is (nan|inf) in step \d+ \(epoch 0, batch \d+, rows \[\d+, .*lower it"):
        train(config, tmp_path, data=(samples, samples))


def test_samples_that_are_not_finite_are_told_from_weights_that_are_not(tmp_path: Path) -> None:
    inputs = torch.randn(32, 1, 8)
    inputs[:, 0, 0] = torch.nan
    samples = Samples(inputs, torch.arange(32) % 3)
    config = dataclasses.replace(TINY, model="resnet20", crop=0)
    with pytest.raises(DataError, match=r"step 0 .*weights are finite and the inputs not finite"):
        train(config, tmp_path, data=(Samples(inputs.view(32, 1, 2, 4).expand(-1, 3, -1, -1), samples.labels),) * 2)


def test_waveforms_and_tokens_train_too(tmp_path: Path) -> None:
    labels = torch.arange(24) % 2
    tones = torch.sin(torch.arange(4000) * (0.05 + 0.2 * labels).unsqueeze(1)).unsqueeze(1)
    waves = Samples(tones, labels)
    words = Samples((torch.arange(24) % 2 + 2).unsqueeze(1).repeat(1, 5), labels)
    for model, settings, samples in (
        ("m5", {"classes": 2, "width": 4}, waves),
        ("bilstm", {"classes": 2, "vocabulary": 5, "embedding": 4, "hidden": 4}, words),
    ):
        config = dataclasses.replace(
            TINY,
            model=model,
            model_settings=settings,
            optimizer="adamw",
            learning_rate=0.02,
            epochs=12,
            batch_size=8,
            crop=50,
            noise=0.01,
        )
        assert train(config, tmp_path / model, data=(samples, samples)).accuracy == 1


def test_training_leaves_the_number_of_threads_as_found(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    samples = _random_samples()
    train(TINY, tmp_path, data=(samples, samples))
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 2


# ------------------------------------------------------------------------------------- batches


def test_an_epoch_has_every_sample_once() -> None:
    batches = ShuffledBatches(_random_samples(), 16, 0, lambda: 6)
    rows = torch.cat([batches.rows(step) for step in range(6, 12)])
    assert torch.equal(rows.sort().values, torch.arange(96))


def test_epochs_have_different_orders() -> None:
    batches = ShuffledBatches(_random_samples(), 16, 0, lambda: 0)
    assert not torch.equal(batches.rows(0), batches.rows(6))


def test_batches_go_on_from_the_current_step() -> None:
    samples = _random_samples()
    whole = list(ShuffledBatches(samples, 16, 5, lambda: 6))
    rest = list(ShuffledBatches(samples, 16, 5, lambda: 8))
    assert len(rest) == 4
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[2:], rest, strict=True))


def test_processes_share_every_batch_without_overlap() -> None:
    samples = Samples(torch.arange(32).view(32, 1), torch.arange(32))
    parts = [next(iter(ShuffledBatches(samples, 8, 0, lambda: 0, lambda r=rank: (r, 2))))[1] for rank in (0, 1)]
    assert sorted(torch.cat(parts).tolist()) == sorted(ShuffledBatches(samples, 8, 0, lambda: 0).rows(0).tolist())


# -------------------------------------------------------------------- learning rate and speed


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nothing() -> None:
    config = dataclasses.replace(TINY, warmup=0.25)
    factors = [learning_rate_factor(step, 100, config) for step in range(101)]
    assert max(factors) == factors[25] == 1
    assert factors == sorted(factors[:26]) + sorted(factors[26:], reverse=True)
    assert factors[0] < 0.05
    assert factors[100] == 0


def test_cosine_is_half_way_down_in_the_middle() -> None:
    config = dataclasses.replace(TINY, warmup=0.0, schedule="cosine")
    assert learning_rate_factor(0, 100, config) == 1
    assert learning_rate_factor(50, 100, config) == pytest.approx(0.5)


def test_product_convolution_equals_the_convolution_and_its_gradients() -> None:
    x = torch.randn(3, 5, 4, 3, dtype=torch.double, requires_grad=True)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(ProductConvolution.apply(x, weight), F.conv2d(x, weight, padding=1))
    assert torch.autograd.gradcheck(ProductConvolution.apply, (x, weight))


def test_small_convolutions_as_products_keep_the_output_and_leave_the_model_as_found() -> None:
    model = vgg16(width=16).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    with small_convolutions_as_products(model):
        changed = [module for module in model.modules() if "forward" in vars(module)]
        torch.testing.assert_close(model(x), expected)
    assert len(changed) == 5  # those with 128 input channels
    assert not any("forward" in vars(module) for module in model.modules())


def test_small_resnet_has_no_products() -> None:
    with small_convolutions_as_products(model := resnet20()):
        assert not any("forward" in vars(module) for module in model.modules())


# ------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_in_the_repository_is_accepted(file: Path) -> None:
    assert read_config(file).name == file.stem


def test_wrong_recipe_names_every_problem_at_once(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('model = "vgg16"\nepochs = "ten"\nlearning_rat = 1\n')
    with pytest.raises(SettingError, match=r"'data' is missing; epochs is 'ten'; .*int; there is no .*'learning_rat'"):
        read_config(file)


def test_wrong_values_of_a_recipe_are_named_at_once() -> None:
    with pytest.raises(SettingError, match=r"epochs is 0; .*warmup is 1; .*optimizer is 'lion'; choose one of sgd"):
        dataclasses.replace(TINY, epochs=0, warmup=1, optimizer="lion")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mean = 0.5", r"mean is 0\.5; give a list of numbers, one for each channel"),
        ('mean = ["a", "b", "c"]', r"mean is \['a', 'b', 'c'\]; give a list of numbers"),
        ("std = [true, 1, 1]", r"std is \[True, 1, 1\]; give a list of numbers"),
        ("model_settings = 3", r"model_settings is 3; give a table such as \{ width = 8 \}"),
        ("seed = 1000000000000", r"seed is 1000000000000; give a number below 2\^32"),
        ("momentum = 0", r"momentum is 0 and nesterov true"),
    ],
)
def test_wrong_value_in_a_recipe_file_is_a_clear_error(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(f'model = "resnet20"\ndata = "none"\n{line}\n')
    with pytest.raises(SettingError, match=message):
        read_config(file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], r"a recipe is a table of settings; found \[1\]"),
        ({"name": "r", "model": "m5", "dat": 1}, "training 'r': there is no setting 'dat'; 'data' is missing"),
        ({"name": "r", "model": "m5", "data": "d", "epochs": "2"}, "epochs is '2'; give a value of type int"),
    ],
)
def test_wrong_recipe_of_a_card_or_a_folder_is_a_clear_error(values: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        config_from(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "have 2 values and the training images 3 channels; give one value"),
        ({"crop": 8}, "crop is 8 and the images have 8 x 8 pixels; give at most 7"),
        ({"model_settings": {"width": 2, "classes": 2}}, r"has 2 classes and the labels are 0 to 2; .*classes = 3"),
        ({"model_settings": {"width": -1}}, r"network 'resnet20' with settings {'width': -1}: "),
        ({"model": "m5", "model_settings": {"width": 2}}, r"m5 cannot take samples of shape \(3, 8, 8\) \("),
        ({"strategy": "nonsense"}, r"Lightning refuses strategy 'nonsense', 1 devices, .*change these"),
        ({"auto_augment": True}, r"auto_augment needs the package kornia.*; pip install 'rheobase\[train\]'"),
    ],
    ids=["mean", "crop", "classes", "width", "network", "strategy", "kornia"],
)
def test_recipe_that_does_not_go_with_its_samples_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.setitem(sys.modules, "kornia.augmentation.auto", None)
    with pytest.raises(SettingError, match=message):
        train(dataclasses.replace(TINY, **changes), tmp_path / "run", data=(_random_samples(),) * 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["training", "test"])
def test_split_without_samples_is_refused(tmp_path: Path, split: str) -> None:
    whole, empty = _random_samples(), Samples(torch.empty(0, 3, 8, 8, dtype=torch.uint8), torch.empty(0).long())
    with pytest.raises(SettingError, match=f"the {split} split has no samples"):
        train(TINY, tmp_path, data=(empty, whole) if split == "training" else (whole, empty))


def test_missing_recipe_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"absent\.toml cannot be read as a training recipe"):
        read_config(tmp_path / "absent.toml")


def test_unknown_network_names_those_there_are(tmp_path: Path) -> None:
    samples = _random_samples()
    with pytest.raises(SettingError, match="no network 'alexnet'; choose one of vgg16, resnet20"):
        train(dataclasses.replace(TINY, model="alexnet"), tmp_path, data=(samples, samples))


def test_training_writes_what_it_ran_on(tmp_path: Path) -> None:
    samples = _random_samples()
    train(TINY, tmp_path, data=(samples, samples))
    found = json.loads((tmp_path / "provenance.json").read_text())
    assert found["versions"]["torch"] == torch.__version__
    assert time.time() - (tmp_path / "provenance.json").stat().st_mtime < 600


def test_progress_says_how_many_steps_are_left(tmp_path: Path) -> None:
    samples, seen = _random_samples(), []
    train(dataclasses.replace(TINY, epochs=4), tmp_path, data=(samples, samples), progress=seen.append)
    assert [(at.step, at.steps, at.epoch) for at in seen] == [(0, 24, 0), (10, 24, 1), (20, 24, 3)]
    assert math.isfinite(seen[-1].loss)


def test_training_begins_anew_where_it_may_not_resume(tmp_path: Path, uninterrupted: nn.Module) -> None:
    samples = _random_samples()
    train(dataclasses.replace(TINY, seed=1), tmp_path, data=(samples, samples))
    again = train(TINY, tmp_path, data=(samples, samples), resume=False)
    assert _equal(again.model, uninterrupted)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


@pytest.mark.parametrize("resume", [True, False])
def test_start_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path, resume: bool) -> None:
    for name in (".last.ckpt.a1_b2c3d", ".provenance.json.abcdefgh", ".ipynb_checkpoints", "tensorboard"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old")
    train(dataclasses.replace(TINY, epochs=1), tmp_path, data=(_random_samples(),) * 2, resume=resume)
    folders = sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir())
    assert folders == [".ipynb_checkpoints", *(["tensorboard"] if resume else [])]


def test_only_the_first_process_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".last.ckpt.a1_b2c3d", "tensorboard"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.json").write_text("of the first process")
    monkeypatch.setattr("lightning.Trainer.is_global_zero", property(lambda _: False))
    train(dataclasses.replace(TINY, epochs=1), tmp_path, data=(_random_samples(),) * 2, resume=False)
    assert {file.name for file in tmp_path.iterdir()} >= {".last.ckpt.a1_b2c3d", "tensorboard"}
    assert (tmp_path / "config.json").read_text() == "of the first process"


def test_recipe_without_the_newest_settings_goes_on_with_their_defaults_only(tmp_path: Path) -> None:
    samples = _random_samples()
    train(TINY, tmp_path, data=(samples, samples))
    old = json.loads((tmp_path / "config.json").read_text())
    del old["folds"], old["fold"], old["logger"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(SettingError, match=r"another recipe \(folds 0 is now 5, fold 0 is now 3\)"):
        train(dataclasses.replace(TINY, folds=5, fold=3), tmp_path, data=(samples, samples))
    train(TINY, tmp_path, data=(samples, samples))


def test_missing_tensorboard_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("no tensorboard")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger", missing)
    with pytest.raises(SettingError, match=r"needs the package tensorboard; pip install 'rheobase\[tensorboard\]'"):
        train(dataclasses.replace(TINY, logger="tensorboard"), tmp_path / "run", data=(_random_samples(),) * 2)
    assert not (tmp_path / "run").exists()


def test_logger_gets_loss_and_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    monkeypatch.setattr(loggers, "TensorBoardLogger", loggers.CSVLogger)
    train(dataclasses.replace(TINY, logger="tensorboard"), tmp_path, data=(_random_samples(),) * 2)
    header, *rows = (tmp_path / "tensorboard" / "metrics.csv").read_text().splitlines()
    assert "loss" in header
    assert "lr-SGD" in header
    assert rows
    assert (tmp_path / "log.csv").is_file()
