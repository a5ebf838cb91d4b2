"""Calibration data of every kind: a subset by seed of the training split, and no sample of the test split."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_data import _png, _write, _write_recordings
from torch.utils.data import TensorDataset

from rheobase import data
from rheobase.errors import DataError
from rheobase.training import TrainingConfig, calibration_samples
from rheobase.training.inputs import prepare
from rheobase.training.samples import samples_to_test

datasets = pytest.importorskip("datasets")
pytest.importorskip("soundfile")
pytest.importorskip("tokenizers")

TRAIN, TEST = 20, 6
WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
CONFIGS = {
    "images": TrainingConfig(name="images", model="resnet20", data="images"),
    "waves": TrainingConfig(name="waves", model="m5", data="waves"),
    "words": TrainingConfig(name="words", model="bilstm", data="words", length=4, model_settings={"vocabulary": 99}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 training and 6 test samples of each kind, of which no two are equal."""
    place = tmp_path_factory.mktemp("data")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        blobs = [_png(np.full((4, 4, 3), 9 * number, dtype=np.uint8)) for number in numbers]
        _write(place / "images" / f"{split}.parquet", blobs, [number % 3 for number in numbers])
        waves = [np.full(8000, number / 64, dtype=np.float32) for number in numbers]
        _write_recordings(place / "waves" / f"{split}.parquet", waves, 8000)
        rows = {"text": [WORDS[number] for number in numbers], "label": [number % 2 for number in numbers]}
        (place / "words").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(place / "words" / f"{split}.parquet")
    return place


@pytest.fixture(autouse=True)
def _environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root.parent / "cache")
    monkeypatch.setenv("RHEOBASE_DATA", str(root))


def _subset(kind: str, count: int = 8, seed: int = 0, split: str = "train") -> TensorDataset:
    if kind == "images":
        config = CONFIGS["images"]
        return data.calibration_subset("images", config.mean, config.std, count=count, seed=seed, split=split)
    if kind == "waves":
        return data.calibration_waveforms("waves", count=count, seed=seed, split=split)
    return data.calibration_texts("words", count=count, seed=seed, split=split, vocabulary=99, length=4)


def _of_recipe(kind: str, count: int = 8, seed: int = 0) -> TensorDataset:
    return calibration_samples(CONFIGS[kind], count, seed)


def _rows(dataset: TensorDataset) -> list[str]:
    return [json.dumps(row.tolist()) for row in dataset.tensors[0]]


def _test_rows(config: TrainingConfig) -> set[str]:
    test = samples_to_test(config)
    return set(_rows(TensorDataset(prepare(test.inputs, config, None), test.labels)))


both = pytest.mark.parametrize("choose", [_subset, _of_recipe], ids=["data-set", "recipe"])
kinds = pytest.mark.parametrize("kind", list(CONFIGS))


@both
@kinds
def test_subset_is_the_same_for_the_same_seed(kind: str, choose: Callable[..., TensorDataset]) -> None:
    one, same, other = (_rows(choose(kind, seed=seed)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


@both
@kinds
def test_subset_has_training_samples_with_their_labels_and_none_twice(
    kind: str, choose: Callable[..., TensorDataset]
) -> None:
    whole, chosen = choose(kind, count=TRAIN), choose(kind, count=15)
    labels = dict(zip(_rows(whole), whole.tensors[1].tolist(), strict=True))
    assert len(labels) == TRAIN
    assert len(set(_rows(chosen))) == 15
    assert [labels[row] for row in _rows(chosen)] == chosen.tensors[1].tolist()


@both
@kinds
def test_subset_has_no_test_sample(kind: str, choose: Callable[..., TensorDataset]) -> None:
    assert not _test_rows(CONFIGS[kind]) & set(_rows(choose(kind, count=TRAIN)))


@kinds
def test_recipe_and_data_set_give_the_same_subset(kind: str) -> None:
    one, other = _subset(kind), _of_recipe(kind)
    torch.testing.assert_close(one.tensors, other.tensors)


@pytest.mark.parametrize("name", ["digits/test", "digits/Validation", Path("digits", "val")])
def test_a_folder_with_the_name_of_a_test_split_is_refused(name: str | Path) -> None:
    with pytest.raises(DataError, match="training split only; name the folder with the training data"):
        data.calibration_subset(name, (0.5,), (0.5,), count=2)


@pytest.mark.parametrize("split", ["test", "validation", "train+test", "test[:10]", "all", "train[:2]+test"])
@kinds
def test_calibration_on_anything_but_training_data_raises(kind: str, split: str) -> None:
    with pytest.raises(DataError, match="training split only"):
        _subset(kind, 2, split=split)


@kinds
def test_part_of_the_training_split_is_allowed(kind: str) -> None:
    assert set(_rows(_subset(kind, 4, split="train[:5]"))) <= set(_rows(_subset(kind, TRAIN))[:5])


def test_given_tokenizer_numbers_the_words() -> None:
    tokenizer = data.learn_tokenizer(["wordb"], 9)
    found, _ = data.calibration_texts("words", tokenizer, count=TRAIN, length=1).tensors
    assert found.flatten().tolist() == [1, 2] + [1] * (TRAIN - 2)


@kinds
def test_calibration_of_a_fold_has_none_of_its_test_samples(kind: str) -> None:
    config = dataclasses.replace(CONFIGS[kind], folds=2, fold=1)
    chosen = _rows(calibration_samples(config, 13))  # of 20 + 6
    assert len(set(chosen)) == 13
    assert not set(chosen) & _test_rows(config)
    with pytest.raises(DataError, match="14 samples were asked for, and there are 13 training samples"):
        calibration_samples(config, 14)
