"""Cross-validation: no sample is trained on and tested on, and the interval is Student's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning")
from rheobase import data
from rheobase.errors import DataError, SettingError
from rheobase.training import TrainingConfig, fold_config, read_config, summarise
from rheobase.training.folds import fold_rows
from rheobase.training.samples import load_samples, samples_to_test

M5 = TrainingConfig(name="waves", model="m5", data="waves")
LSTM = TrainingConfig(name="words", model="bilstm", data="words", length=4, model_settings={"vocabulary": 50})
LABELS = torch.arange(103) % 4


def test_every_row_is_tested_on_once_and_never_trained_on_then() -> None:
    parts = [fold_rows(LABELS, range(103), 5, fold, 7) for fold in range(5)]
    for train, test in parts:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(103))
    assert sorted(torch.cat([test for _, test in parts]).tolist()) == list(range(103))


def test_every_fold_has_the_classes_in_their_proportions() -> None:
    for fold in range(5):
        counts = LABELS[fold_rows(LABELS, range(103), 5, fold, 0)[1]].bincount()
        assert counts.tolist() == pytest.approx([103 / 20] * 4, abs=1)


def test_rows_of_equal_content_are_in_one_fold() -> None:
    contents = [row // 4 if row < 60 else row for row in range(103)]  # 15 samples four times, of one class each
    labels = torch.tensor(contents) % 4
    for fold in range(5):
        train, test = fold_rows(labels, contents, 5, fold, 0)
        assert len(train) + len(test) == 103
        assert len(test) > 5
        assert not {contents[row] for row in train} & {contents[row] for row in test}


def test_another_seed_gives_other_folds() -> None:
    assert fold_rows(LABELS, range(103), 5, 0, 0)[1].tolist() != fold_rows(LABELS, range(103), 5, 0, 1)[1].tolist()
    assert fold_rows(LABELS, range(103), 5, 0, 0)[1].tolist() == fold_rows(LABELS, range(103), 5, 0, 0)[1].tolist()


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 + 5 recordings: each is its own number, those of the test split from 20 on."""

    def waveforms(name: str, split: str, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        first, count = (0, 20) if split == "train" else (20, 5)
        numbers = torch.arange(first, first + count)[:limit]
        return numbers.float().view(-1, 1, 1), numbers % 2

    monkeypatch.setattr(data, "waveforms", waveforms)


@pytest.mark.usefixtures("recordings")
def test_folds_divide_both_splits_and_keep_the_labels() -> None:
    tested: list[float] = []
    for fold in range(5):
        train, test = load_samples(dataclasses.replace(M5, folds=5, fold=fold))
        assert not set(train.inputs.flatten().tolist()) & set(test.inputs.flatten().tolist())
        assert len(train) + len(test) == 25
        for part in (train, test):
            assert torch.equal(part.inputs.flatten().long() % 2, part.labels)
        tested += test.inputs.flatten().tolist()
    assert sorted(tested) == list(range(25))


@pytest.mark.usefixtures("recordings")
def test_test_samples_alone_are_those_of_the_fold() -> None:
    config = dataclasses.replace(M5, folds=5, fold=2)
    assert torch.equal(samples_to_test(config).inputs, load_samples(config)[1].inputs)
    assert torch.equal(samples_to_test(config, 3).inputs, load_samples(config)[1].inputs[:3])


@pytest.mark.usefixtures("recordings")
def test_recipe_without_folds_keeps_the_official_split() -> None:
    train, test = load_samples(M5)
    assert train.inputs.flatten().tolist() == list(range(20))
    assert test.inputs.flatten().tolist() == list(range(20, 25))


def test_vocabulary_of_a_fold_has_no_word_of_its_test_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")

    def texts(name: str, split: str, limit: int | None = None) -> tuple[list[str], torch.Tensor]:
        letters = "abcdefghij" if split == "train" else "klmno"
        return [letter * 3 for letter in letters][:limit], torch.zeros(len(letters), dtype=torch.int64)[:limit]

    monkeypatch.setattr(data, "texts", texts)
    train, test = load_samples(dataclasses.replace(LSTM, folds=5))
    assert set(train.inputs[:, 0].tolist()) == set(range(2, 14))  # 12 texts, each of its own word
    assert test.inputs[:, 0].tolist() == [1] * 3  # unknown words
    assert samples_to_test(LSTM, 2).inputs[:, 0].tolist() == [1] * 2


@pytest.mark.slow
def test_folds_of_real_recordings_share_none_although_the_official_splits_do(real_data: Path) -> None:
    if not (real_data / "speech_commands").is_dir():
        pytest.skip("$RHEOBASE_DATA names no folder with speech_commands")
    config = TrainingConfig(name="real", model="m5", data=str(real_data / "speech_commands"))

    def shared(config: TrainingConfig) -> int:
        train, test = load_samples(config)
        assert len(train) + len(test) == 4890
        known = {sample.numpy().tobytes() for sample in train.inputs}
        return sum(sample.numpy().tobytes() in known for sample in test.inputs)

    assert shared(config) == 39
    assert shared(dataclasses.replace(config, folds=5, fold=1)) == 0


# ------------------------------------------------------------------------------------- summary


def _measured(*accuracies: float, **changes: object) -> list[tuple[TrainingConfig, float]]:
    configs = [fold_config(M5, fold) for fold in range(len(accuracies))]
    configs[-1] = dataclasses.replace(configs[-1], **changes)  # type: ignore[arg-type]
    return list(zip(configs, accuracies, strict=True))


def test_interval_of_five_folds_is_that_of_students_distribution() -> None:
    accuracies = (0.90, 0.93, 0.91, 0.95, 0.92)
    summary = summarise(_measured(*accuracies)[::-1])
    stats = pytest.importorskip("scipy.stats")
    low, high = stats.t.interval(0.95, 4, loc=summary.mean, scale=stats.sem(accuracies))
    assert summary.accuracies == accuracies
    assert summary.mean == pytest.approx(0.922)
    assert (summary.low, summary.high) == pytest.approx((low, high), abs=1e-5)
    assert str(summary) == "5 folds: mean accuracy 92.20 % (95 % interval 89.81 to 94.59)"


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (_measured(0.9, 0.9, 0.9, 0.9), "needs each fold once, 0 to 4, .* found 0, 1, 2, 3;"),
        (_measured(0.9, 0.9, 0.9, 0.9, 0.9, fold=0), "found 0, 0, 1, 2, 3;"),
        (_measured(0.9, 0.9, 0.9, 0.9, 0.9, seed=1), "of several recipes: seed differs"),
        ([(M5, 0.9)], "found trainings on the official split"),
    ],
    ids=["missing", "twice", "recipes", "official"],
)
def test_summary_of_anything_but_all_folds_of_one_recipe_raises(
    measured: list[tuple[TrainingConfig, float]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        summarise(measured)


def test_fold_of_a_recipe_has_its_own_name_and_five_parts_by_default() -> None:
    recipe = read_config(Path(__file__).parents[1] / "experiments/train/m5-speech_commands-fast.toml")
    found = fold_config(recipe, 3)
    assert (found.name, found.folds, found.fold) == ("m5-speech_commands-fast-fold3", 5, 3)
    assert dataclasses.replace(found, name=recipe.name, folds=0, fold=0) == recipe


def test_fold_that_there_is_not_is_a_clear_error() -> None:
    with pytest.raises(SettingError, match="fold is 5 of folds = 5; give 2 or more folds, and one of 0, 1"):
        fold_config(M5, 5)
    with pytest.raises(SettingError, match="fold is 2 of folds = 0"):
        dataclasses.replace(M5, fold=2)
