"""Images that stay on disk: the same as in memory, random parts by seed, and a training that never holds them all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("lightning")
datasets = pytest.importorskip("datasets")
from PIL import Image  # noqa: E402

from rheobase.cli import app  # noqa: E402
from rheobase.data import StoredImages, pictures, pixels, stored  # noqa: E402
from rheobase.errors import DataError, SettingError  # noqa: E402
from rheobase.training import TrainingConfig, calibration_samples, read_config, train  # noqa: E402
from rheobase.training.batches import Samples, ShuffledBatches  # noqa: E402
from rheobase.training.samples import load_samples, samples_to_test  # noqa: E402

SIZE = 16
CONFIG = TrainingConfig(
    name="stored",
    model="resnet20",
    model_settings={"width": 4, "classes": 2},
    data="pictures",
    size=SIZE,
    random_part=True,
    flip=True,
    epochs=4,
    batch_size=8,
    checkpoint_steps=3,
    threads=1,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 training and 10 validation images of several sizes: dark and light ones."""
    folder = tmp_path_factory.mktemp("stored")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for kind in ("dark", "light"):
            (folder / "pictures" / split / kind).mkdir(parents=True)
            for index in range(count):
                array = rng.integers(0, 120, (20 + index, 24, 3)) + 130 * (kind == "light")
                Image.fromarray(array.astype(np.uint8)).save(folder / "pictures" / split / kind / f"{index:02}.png")
    return folder


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)
    monkeypatch.chdir(place)


def _drawn(images: StoredImages, seed: int) -> torch.Tensor:
    return images.draw(torch.tensor([3, 3, 20]), torch.Generator().manual_seed(seed))


def test_stored_images_are_those_in_memory() -> None:
    images = StoredImages("pictures", "train", SIZE)
    x, y = pixels("pictures", "train", size=SIZE, resize=18)
    rows = torch.tensor([5, 23, 0])
    assert images.shape == tuple(x.shape)
    assert torch.equal(images.labels, y)
    assert torch.equal(images[rows], x[rows])
    assert torch.equal(images[20:], x[20:])
    assert torch.equal(images.first(3)[:], x[:3])
    assert images[:0].shape == (0, 3, SIZE, SIZE)
    with pytest.raises(SettingError, match=r"not by 3; for one, \[i : i \+ 1\]"):
        images[3]  # type: ignore[index]


def test_random_parts_depend_on_the_generator_and_not_on_the_threads() -> None:
    one, many = (StoredImages("pictures", "train", SIZE, threads=threads) for threads in (1, 4))
    assert torch.equal(_drawn(one, 0), _drawn(many, 0))
    assert not torch.equal(_drawn(one, 0), _drawn(one, 1))
    assert not torch.equal(_drawn(one, 0)[0], _drawn(one, 0)[1])  # the same image twice, another part of it


def _slowly(width: int, height: int) -> np.ndarray:
    """Shares of parts that do not stick out, without rounding to pixels."""
    rng = np.random.default_rng(0)
    share, ratio = rng.uniform(0.08, 1, 100_000), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 100_000))
    inside = (np.sqrt(share * width * height * ratio) <= width) & (np.sqrt(share * width * height / ratio) <= height)
    return share[inside]


def test_random_parts_are_of_8_to_100_per_cent_and_inside() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = np.array([pictures._part(400, 300, generator) for _ in range(2000)])
    left, top, right, bottom = parts.T
    assert left.min() == top.min() == 0
    assert right.max() == 400
    assert bottom.max() == 300
    width, height = right - left, bottom - top
    share, ratio = width * height / 120_000, width / height
    assert 0.078 < share.min() < 0.1
    assert 0.9 < share.max() <= 1
    assert abs(share.mean() - _slowly(400, 300).mean()) < 0.02
    assert 0.73 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.36


@pytest.mark.parametrize(("width", "height", "part"), [(1000, 3, (498, 0, 502, 3)), (3, 1000, (0, 498, 3, 502))])
def test_of_a_long_image_the_middle_is_taken(width: int, height: int, part: tuple[int, ...]) -> None:
    assert pictures._part(width, height, torch.Generator().manual_seed(0)) == part


def test_a_random_part_is_that_part_scaled() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    part = pictures._part(40, 30, torch.Generator().manual_seed(5))
    found = pictures.random_part(image, SIZE, torch.Generator().manual_seed(5))
    expected = image.crop(part).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def _batches(samples: Samples, start: int) -> list[torch.Tensor]:
    return [x for x, _ in ShuffledBatches(samples, 8, 0, lambda: start)]


def test_batches_of_stored_images_go_on_in_the_middle_of_an_epoch() -> None:
    samples, _ = load_samples(CONFIG)
    whole, rest = _batches(samples, 3), _batches(samples, 4)
    assert len(whole) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], rest, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(whole, _batches(samples, 0), strict=True))


def test_nothing_is_decoded_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = stored.decode
    monkeypatch.setattr(stored, "decode", lambda *found: decoded.append(found[1]) or decode(*found))
    training, _ = load_samples(CONFIG)
    assert decoded == []
    next(iter(ShuffledBatches(training, 4, 0, lambda: 0)))
    assert len(decoded) <= 8  # this batch and the next


def test_training_on_stored_images_learns_and_is_tested_on_the_validation_split(tmp_path: Path) -> None:
    result = train(CONFIG, tmp_path)
    assert result.test_samples == 10
    assert result.accuracy >= 0.8


def test_resumed_training_on_stored_images_gives_the_same_weights(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(progress: object) -> None:
        if progress.step >= 10:  # type: ignore[attr-defined]
            raise KilledError

    whole = train(CONFIG, tmp_path / "whole").model.state_dict()
    with pytest.raises(KilledError):
        train(CONFIG, tmp_path / "killed", progress=kill)
    resumed = train(CONFIG, tmp_path / "killed").model.state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_recipe_with_a_size_goes_through_the_command_line(tmp_path: Path) -> None:
    recipe = tmp_path / "light-fast.toml"
    recipe.write_text(
        'model = "resnet20"\nmodel_settings = { width = 2, classes = 2 }\ndata = "pictures"\nsize = 16\n'
        "random_part = true\nflip = true\nepochs = 2\nbatch_size = 8\nthreads = 1\n"
    )
    run = str(tmp_path / "run")
    trained = CliRunner().invoke(app, ("train", str(recipe), "--output", run, "--json", "-q"))
    assert trained.exit_code == 0, trained.output
    measured = CliRunner().invoke(app, ("evaluate-ann", run, "--json", "-q"))
    assert measured.exit_code == 0, measured.output
    (network,) = json.loads(measured.stdout)["networks"]
    assert network["samples"] == 10
    assert network["accuracy"] == json.loads(trained.stdout)["accuracy"]


def test_recipe_for_imagenet_takes_size_columns_and_split_from_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    (tmp_path / "imagenet").mkdir()
    for split, count in (("train", 4), ("validation", 2), ("test", 1)):
        images = [Image.new("RGB", (250, 260 + index), (index * 40, 9, 9)) for index in range(count)]
        rows = {"image": images, "label": [-1 if split == "test" else index % 2 for index in range(count)]}
        file = tmp_path / "imagenet" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    recipe = read_config(Path(__file__).parents[1] / "experiments/train/resnet34-imagenet-paper.toml")
    training, test = load_samples(recipe)
    assert training.inputs.shape == (4, 3, 224, 224)
    assert training.drawn
    assert test.inputs.shape == (2, 3, 224, 224)
    assert not test.drawn
    small = dataclasses.replace(
        recipe, model_settings={"classes": 2, "width": 1}, size=32, epochs=1, batch_size=2, precision="32-true"
    )
    assert train(small, tmp_path / "run").test_samples == 2
    assert len(calibration_samples(small, 3)) == 3


def test_first_test_samples_are_those_of_all() -> None:
    some, whole = samples_to_test(CONFIG, 3), samples_to_test(CONFIG)
    assert len(some) == 3
    assert torch.equal(some.inputs[:], whole.inputs[:3])


def test_damaged_image_ends_a_training_with_its_file(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / "broken" / split / kind).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (20, 20)).save(tmp_path / "broken" / split / kind / f"{index}.png")
    (tmp_path / "broken" / "train" / "b" / "3.png").write_bytes(b"no image")
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "broken"))
    with pytest.raises(DataError, match=r"split 'train', row 7 \(.*train/b/3\.png\).*not an image, or damaged"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"folds": 5},
            "folds = 5 needs all images in memory, and those of 'pictures' are decoded as",
        ),
        ({"size": 0}, "random_part is true and size is 0; give that of the images"),
        ({"size": -1}, "size is -1; give 0 or more"),
    ],
)
def test_settings_that_stored_images_do_not_go_with_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_samples(dataclasses.replace(CONFIG, **changes))  # type: ignore[arg-type]
