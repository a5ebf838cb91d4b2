"""Data sets: read the same from every place, and never the test images for calibration."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rheobase.data import (
    ImageBatches,
    calibration_subset,
    evaluation_split,
    images,
    learn_tokenizer,
    load,
    pixels,
    resample,
    texts,
    tokens,
    waveforms,
)
from rheobase.errors import DataError, SettingError

datasets = pytest.importorskip("datasets")
from PIL import Image as Picture  # noqa: E402

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
REAL = os.environ.get("RHEOBASE_DATA")


def _png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(array).save(file, "PNG")
    return file.getvalue()


def _arrays(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(count)]


def _write(path: Path, blobs: list[bytes], labels: list[int], label: str = "label") -> None:
    features = datasets.Features(
        {
            "img": datasets.Image(),
            label: datasets.ClassLabel(names=["a", "b", "c"]),
            "id": datasets.Value("int64"),
        }
    )
    columns = {
        "img": [{"bytes": blob, "path": None} for blob in blobs],
        label: labels,
        "id": [0] * len(labels),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a tiny `cifar10`: 20 training images and 6 test images of 8x8."""
    folder = tmp_path / "data"
    for split, count, seed in (("train", 20, 0), ("test", 6, 1)):
        blobs = [_png(array) for array in _arrays(count, seed)]
        _write(folder / "cifar10" / f"{split}-00000-of-00001.parquet", blobs, [i % 3 for i in range(count)])
    return folder


def test_images_are_decoded_in_order_and_normalised(root: Path) -> None:
    x, y = images("cifar10", "test", MEAN, STD, root=root).tensors
    expected = np.stack(_arrays(6, 1)).astype(np.float64) / 255
    expected = ((expected - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    assert x.dtype == torch.float32
    assert y.tolist() == [0, 1, 2, 0, 1, 2]
    assert y.dtype == torch.int64
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)


def test_limit_takes_the_first_images(root: Path) -> None:
    whole, first = pixels("cifar10", "test", root=root)[0], pixels("cifar10", "test", limit=4, root=root)[0]
    assert whole.dtype == torch.uint8
    assert torch.equal(first, whole[:4])


def test_environment_variable_names_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHEOBASE_DATA", str(root))
    assert len(load("cifar10", "train")) == 20


def test_a_folder_is_read_as_the_named_set_is(root: Path) -> None:
    named, folder = pixels("cifar10", "train", root=root), pixels(root / "cifar10", "train")
    assert torch.equal(named[0], folder[0])
    assert torch.equal(named[1], folder[1])


def test_batches_join_to_the_whole(root: Path) -> None:
    batches = ImageBatches("cifar10", "train", MEAN, STD, batch_size=6, root=root)
    x, y = images("cifar10", "train", MEAN, STD, root=root).tensors
    for _ in range(2):  # a second pass gives the same
        parts = list(batches)
        assert [len(part[1]) for part in parts] == [6, 6, 6, 2]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)
    assert len(batches) == 4


def test_calibration_subset_is_the_same_for_the_same_seed(root: Path) -> None:
    one, same, other = (
        calibration_subset("cifar10", MEAN, STD, count=8, seed=seed, root=root).tensors[0] for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_calibration_subset_has_training_images_only_and_none_twice(root: Path) -> None:
    x, _ = calibration_subset("cifar10", MEAN, STD, count=15, root=root).tensors
    train = {image.numpy().tobytes() for image in images("cifar10", "train", MEAN, STD, root=root).tensors[0]}
    test = {image.numpy().tobytes() for image in images("cifar10", "test", MEAN, STD, root=root).tensors[0]}
    chosen = [image.numpy().tobytes() for image in x]
    assert set(chosen) <= train
    assert not set(chosen) & test
    assert len(set(chosen)) == 15


@pytest.mark.parametrize("split", ["test", "validation", "train+test", "test[:10]", "all", "train[:2]+test"])
def test_calibration_on_anything_but_training_data_raises(root: Path, split: str) -> None:
    with pytest.raises(DataError, match="training split only"):
        calibration_subset("cifar10", MEAN, STD, count=2, split=split, root=root)


def test_part_of_the_training_split_is_allowed_for_calibration(root: Path) -> None:
    assert len(calibration_subset("cifar10", MEAN, STD, count=5, split="train[:10]", root=root)) == 5


def test_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no data set 'cifar10': looked for the folder {tmp_path}/cifar10"):
        load("cifar10", "test", root=tmp_path)


def test_missing_folder_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"looked for the folder {tmp_path}/absent; give one of cifar10, "):
        load(tmp_path / "absent", "test")


def test_unreachable_hub_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"not in {tmp_path}/cifar10 .*'uoft-cs/cifar10' .*hub \(no network\); put"):
        load("cifar10", "test")


def test_wrong_split_names_the_splits_there_are(root: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'validation'; it has train, test|it has test, train"):
        load("cifar10", "validation", root=root)


def test_wrong_column_names_the_columns_there_are(root: Path) -> None:
    with pytest.raises(DataError, match="no column 'picture'; it has img, label, id"):
        pixels("cifar10", "test", columns=("picture", "label"), root=root)


@pytest.mark.parametrize("columns", [("label",), "img", ("img", "label", "id")])
def test_columns_that_are_not_two_are_a_clear_error(root: Path, columns: Any) -> None:
    with pytest.raises(SettingError, match=r"columns is .*; give two names, columns=\(image, label\)"):
        pixels("cifar10", "test", columns=columns, root=root)


@pytest.mark.parametrize(
    "length", [{"seconds": float("nan")}, {"seconds": 1e-9}, {"rate": 0}, {"seconds": -1.0}], ids=str
)
def test_a_length_that_is_no_sample_is_a_clear_error(length: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"rate is \S+, seconds \S+; give positive numbers, at least one sample"):
        waveforms("speech_commands", "test", **length)


def test_known_set_with_another_label_column_is_a_clear_error(root: Path) -> None:
    (root / "cifar10").rename(root / "cifar100")
    with pytest.raises(DataError, match="no column 'fine_label'; it has img, label, id"):
        pixels("cifar100", "test", root=root)


def test_damaged_parquet_file_is_a_clear_error(root: Path) -> None:
    file = root / "cifar10" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"the file {file} cannot be read .*accepted are parquet"):
        load("cifar10", "test", root=root)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (200, None, "ArrowInvalid: Could not open Parquet input source .*magic bytes not found"),
        (30, 200, "(ArrowInvalid|OSError): .*(PLAIN-encoded|[Cc]orrupt|decompress|deserialize)"),
    ],
    ids=["cut", "overwritten"],
)
def test_damaged_one_of_several_parquet_files_is_named_with_the_innermost_reason(
    tmp_path: Path, start: int, end: int | None, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "set" / f"train-0000{part}-of-00002.parquet" for part in range(2)]
    for seed, file in enumerate(files):
        _write(file, [_png(array) for array in _arrays(20, seed)], [0] * 20)
    content = files[1].read_bytes()
    files[1].write_bytes(content[:start] if end is None else content[:start] + b"\xff" * (end - start) + content[end:])
    capfd.readouterr()
    with pytest.raises(DataError, match=rf"the file {files[1]} cannot be read \({message}.*; accepted are") as caught:
        load(tmp_path / "set", "train")
    assert caught.value.__cause__ is not None
    assert capfd.readouterr().err == ""  # `datasets` logs it too


def test_hub_error_says_what_it_goes_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        try:
            raise OSError("name or service not known")
        except OSError as error:
            raise ConnectionError("the hub cannot be reached") from error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"hub \(the hub cannot be reached; OSError: name or service not known\); put"):
        load("cifar10", "test")


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"no image", r"not an image, or damaged \(UnidentifiedImageError: cannot identify image file\)"),
        (b"", "nothing is stored there"),
    ],
)
def test_row_without_an_image_says_so_in_words(tmp_path: Path, blob: bytes, message: str) -> None:
    _write(tmp_path / "set" / "train.parquet", [_png(_arrays(1, 0)[0]), blob], [0, 1])
    with pytest.raises(DataError, match=rf"row 1, column 'img': {message}; accepted is what Pillow reads; remove or"):
        pixels(tmp_path / "set", "train")


def test_file_of_an_image_folder_that_is_gone_is_named(folder: Path) -> None:
    batches = ImageBatches(folder, "train", size=8)
    (folder / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match=r"row 4 \(.*dog/1\.png\).*the file cannot be read \(FileNotFoundError"):
        list(batches)


def test_damaged_image_is_named_by_its_row(tmp_path: Path) -> None:
    blobs = [_png(array) for array in _arrays(4, 0)]
    blobs[2] = blobs[2][:40]
    _write(tmp_path / "set" / "train.parquet", blobs, [0, 1, 2, 0])
    with pytest.raises(DataError, match=r"row 2, column 'img': not an image, or damaged"):
        pixels(tmp_path / "set", "train")


_GREY = np.array([[0, 257], [128 * 257, 65535]], dtype=np.uint16).repeat(4, 0).repeat(4, 1)


def _stored(image: Picture.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / "set" / "train.parquet", [_stored(Picture.fromarray(_GREY), kind)], [0])
    x, _ = pixels(tmp_path / "set", "train")
    assert x.shape == (1, 3, 8, 8)
    assert x[0, :, ::4, ::4].tolist() == [[[0, 1], [128, 255]]] * 3


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_largest_one_are_refused(tmp_path: Path, dtype: type) -> None:
    _write(tmp_path / "set" / "train.parquet", [_stored(Picture.fromarray(_GREY.astype(dtype)), "TIFF")], [0])
    with pytest.raises(
        DataError, match=r"row 0, column 'img': an image of mode [IF], whose largest value is not known"
    ):
        pixels(tmp_path / "set", "train")


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("1", "PNG", 1, (255, 255, 255)),
        ("L", "PNG", 70, (70, 70, 70)),
        ("LA", "PNG", (70, 9), (70, 70, 70)),
        ("RGBA", "PNG", (200, 100, 50, 0), (200, 100, 50)),
        ("P", "PNG", (200, 100, 50, 0), (200, 100, 50)),
        ("CMYK", "JPEG", (0, 100, 200, 10), (245, 149, 53)),
    ],
)
def test_images_of_every_mode_become_their_colours(
    tmp_path: Path, mode: str, kind: str, colour: tuple[int, ...] | int, expected: tuple[int, int, int]
) -> None:
    image = Picture.new("RGBA" if mode == "P" else mode, (8, 8), colour).convert(mode)
    _write(tmp_path / "set" / "train.parquet", [_stored(image, kind)], [0])
    x, _ = pixels(tmp_path / "set", "train")
    np.testing.assert_allclose(x[0, :, 4, 4].numpy(), expected, atol=1)


def test_a_label_column_without_labels_is_named_without_its_whole_content(tmp_path: Path) -> None:
    _write(tmp_path / "set" / "train.parquet", [_png(array) for array in _arrays(2, 0)], [0, 1])
    with pytest.raises(DataError, match="name the column that has them") as caught:
        pixels(tmp_path / "set", "train", columns=("label", "img"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("split", ["train[abc]", "train[:200%]", "train[9:]"])
def test_a_part_of_a_split_that_has_no_rows_is_not_taken_for_damage(tmp_path: Path, split: str) -> None:
    _write(tmp_path / "set" / "train.parquet", [_png(array) for array in _arrays(2, 0)], [0, 1])
    with pytest.raises(DataError, match=r"no rows can be chosen by .* such as 'train\[:100\]'"):
        load(tmp_path / "set", split)


@pytest.mark.parametrize(("mean", "std"), [((0.5, 0.5), (1.0,)), ((0.5,), (0.2, 0.0, 0.2)), ((0.5,), ())])
@pytest.mark.parametrize("read", [images, ImageBatches])
def test_a_normalisation_that_does_not_fit_is_refused(
    tmp_path: Path, read: Any, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(SettingError, match="give one number each, or one for red, green and blue"):
        read(tmp_path / "set", "train", mean, std)


def test_hidden_labels_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "set" / "test.parquet", [_png(array) for array in _arrays(2, 0)], [-1, -1])
    with pytest.raises(DataError, match="found the label -1"):
        pixels(tmp_path / "set", "test")


def test_more_images_than_there_are_is_a_clear_error(root: Path) -> None:
    with pytest.raises(DataError, match="has 6 rows, 7 were asked for"):
        pixels("cifar10", "test", limit=7, root=root)


def test_zero_limit_is_a_clear_error(root: Path) -> None:
    with pytest.raises(SettingError, match="limit is 0"):
        pixels("cifar10", "test", limit=0, root=root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder, one sub-folder for each class, of grey and colour images of several sizes."""
    for kind, count in (("cat", 3), ("dog", 2)):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for index in range(count):
            array = np.full((10 + index, 12, 3), 40 * index, dtype=np.uint8)
            image = Picture.fromarray(array if index else array[:, :, 0])
            image.save(tmp_path / "pets" / kind / f"{index}.png")
    return tmp_path / "pets"


def test_image_folder_has_a_class_for_each_sub_folder(folder: Path) -> None:
    x, y = pixels(folder, "train", size=8)
    assert x.shape == (5, 3, 8, 8)
    assert y.tolist() == [0, 0, 0, 1, 1]
    assert x[:, 0, 4, 4].tolist() == [0, 40, 80, 0, 40]


def test_images_of_several_sizes_ask_for_a_size(folder: Path) -> None:
    with pytest.raises(DataError, match=r"several sizes \(10x12, 11x12, 12x12\); give size="):
        pixels(folder, "train")


def test_damaged_file_of_an_image_folder_is_named(folder: Path) -> None:
    (folder / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"row 4 \(.*dog/1\.png\)"):
        pixels(folder, "train", size=8)


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A folder with a tiny `imagenet`: colour and grey images of several sizes, no labels in its test split."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("validation", 4), ("test", 2)):
        images = [rng.integers(0, 256, (250 + 20 * i, 300, 3), dtype=np.uint8) for i in range(count)]
        images[1] = images[1][:, :, 0]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
        blobs = [{"bytes": _stored(Picture.fromarray(image), "JPEG"), "path": None} for image in images]
        labels = [-1 if split == "test" else i % 3 for i in range(count)]
        file = tmp_path / "sets" / "imagenet" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict({"image": blobs, "label": labels}, features=features).to_parquet(file)
    return tmp_path / "sets"


def test_imagenet_is_scaled_to_256_and_cropped_to_224(imagenet: Path) -> None:
    x, y = next(iter(ImageBatches("imagenet", "validation", root=imagenet)))
    assert x.shape == (4, 3, 224, 224)
    assert y.tolist() == [0, 1, 2, 0]
    with Picture.open(io.BytesIO(load("imagenet", "validation", root=imagenet)[2]["image"]["bytes"])) as file:
        scaled = file.resize((264, 256), Picture.Resampling.BILINEAR)  # of 300 x 290: int(256 * 300 / 290) = 264
    expected = np.asarray(scaled)[16:240, 20:244].transpose(2, 0, 1)
    np.testing.assert_array_equal((x[2] * 255).round().numpy(), expected)
    assert len(calibration_subset("imagenet", MEAN, STD, count=3, root=imagenet)) == 3


def test_imagenet_is_evaluated_on_its_validation_split_as_its_test_split_has_no_labels(imagenet: Path) -> None:
    assert evaluation_split("imagenet") == "validation"
    with pytest.raises(DataError, match=r"found the label -1.*use 'validation'"):
        pixels("imagenet", "test", root=imagenet)


def test_folder_without_a_test_split_is_evaluated_on_its_validation_split(imagenet: Path, root: Path) -> None:
    (imagenet / "imagenet" / "test-00000-of-00001.parquet").unlink()
    assert evaluation_split(imagenet / "imagenet") == "validation"
    assert evaluation_split(root / "cifar10") == "test"


@pytest.mark.parametrize(("size", "resize"), [(None, 9), (8, 7), (0, None)])
def test_size_and_resize_that_do_not_go_together_are_refused(folder: Path, size: int | None, resize: int) -> None:
    with pytest.raises(SettingError, match="give a positive size, and with it a resize that is not smaller"):
        ImageBatches(folder, "train", size=size, resize=resize)


# --------------------------------------------------------------------------- recordings and texts


def _write_recordings(path: Path, waves: list[np.ndarray], rate: int, damaged: int | None = None) -> None:
    blobs = [b"no sound" if index == damaged else _sound(wave, rate, "FLAC") for index, wave in enumerate(waves)]
    _write_sounds(path, blobs)


def _sound(wave: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    pytest.importorskip("soundfile").write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def _write_sounds(path: Path, blobs: list[bytes | None], files: list[str] | None = None) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    audio = arrow.StructArray.from_arrays(
        [arrow.array(blobs, arrow.binary()), arrow.array(files or [None] * len(blobs), arrow.string())],
        names=["bytes", "path"],
    )
    table = arrow.table({"audio": audio, "label": arrow.array([i % 2 for i in range(len(blobs))])})
    features = {"audio": {"_type": "Audio"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)


def _tone(frequency: float, rate: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def test_recordings_get_one_rate_and_one_length(tmp_path: Path) -> None:
    stereo = np.stack([_tone(440, 16_000, 1.5), np.zeros(24_000, np.float32)], 1)
    _write_recordings(tmp_path / "set" / "train.parquet", [_tone(440, 16_000, 0.5), stereo], 16_000)
    x, y = waveforms(tmp_path / "set", "train", rate=8000)
    assert x.shape == (2, 1, 8000)
    assert y.tolist() == [0, 1]
    tone = _tone(440, 8000, 0.5)
    np.testing.assert_allclose(x[0, 0, :4000].numpy(), tone, atol=1e-3)  # 220 whole periods: no ringing
    assert not x[0, 0, 4000:].any()  # filled with silence
    np.testing.assert_allclose(x[1, 0, 100:].numpy(), _tone(440, 8000, 1.0)[100:] / 2, atol=1e-3)  # mean of channels


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    assert np.abs(resample(_tone(7000, 16_000, 1.0), 16_000, 8000)).max() < 1e-3


def test_damaged_recording_is_named_by_its_row(tmp_path: Path) -> None:
    _write_recordings(tmp_path / "set" / "train.parquet", [_tone(440, 8000, 0.1)] * 3, 8000, damaged=1)
    with pytest.raises(DataError, match="row 1, column 'audio': not a recording, or damaged"):
        waveforms(tmp_path / "set", "train")


_HALF = _tone(440, 16_000, 0.5)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (
            lambda: _sound(np.where(np.arange(8000) < 2, np.nan, _HALF), 16_000, "WAV", "FLOAT"),
            "2 of the 8,000 samples",
        ),
        (
            lambda: _sound(np.where(np.arange(8000) < 1, np.inf, _HALF), 16_000, "WAV", "FLOAT"),
            "1 of the 8,000 samples",
        ),
        (lambda: _sound(_HALF, 16_000, "WAV")[:-1000], "the recording is cut off, 1,000 bytes of its samples"),
        (lambda: _sound(_HALF, 16_000, "FLAC")[:-1000], r"damaged \(LibsndfileError: .*lost sync"),
        (lambda: _sound(_HALF, 16_000, "OGG")[:3000], r"damaged \(LibsndfileError: Error opening.*malformed"),
        (lambda: _sound(_HALF[:0], 16_000, "WAV"), "the recording has no samples"),
        (lambda: b"", "nothing is stored there"),
    ],
    ids=["nan", "inf", "wav", "flac", "ogg", "empty", "nothing"],
)
def test_recording_that_is_not_whole_is_named_by_its_row(tmp_path: Path, blob: Any, message: str) -> None:
    _write_sounds(tmp_path / "set" / "train.parquet", [_sound(_HALF, 16_000, "WAV"), blob()])
    with pytest.raises(DataError, match=rf"row 1, column 'audio': .*{message}.*; accepted is .*; remove or replace it"):
        waveforms(tmp_path / "set", "train")


def test_damaged_recording_in_a_file_of_its_own_is_named_by_it(tmp_path: Path) -> None:
    (tmp_path / "0.wav").write_bytes(_sound(_HALF, 16_000, "WAV")[:-1000])
    _write_sounds(tmp_path / "set" / "train.parquet", [None], [str(tmp_path / "0.wav")])
    with pytest.raises(DataError, match=rf"row 0 \({tmp_path}/0\.wav\), column 'audio': the recording is cut off"):
        waveforms(tmp_path / "set", "train")


def test_package_that_datasets_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        try:
            raise ModuleNotFoundError("No module named 'torchcodec'", name="torchcodec")
        except ModuleNotFoundError as error:
            raise RuntimeError("an error occurred") from error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=rf"needs the package torchcodec to read {tmp_path}; install it, or store"):
        load(tmp_path, "train")


def test_wav_file_whose_writer_did_not_know_its_length_is_read(tmp_path: Path) -> None:
    blob = _sound(_HALF, 16_000, "WAV")
    at = blob.index(b"data") + 4
    _write_sounds(tmp_path / "set" / "train.parquet", [blob[:at] + b"\xff" * 4 + blob[at + 4 :]])
    x, _ = waveforms(tmp_path / "set", "train", rate=16_000)
    np.testing.assert_allclose(x[0, 0, :8000].numpy(), _HALF, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_recording_of_one_sample_is_that_sample_and_silence(tmp_path: Path, rate: int) -> None:
    _write_sounds(tmp_path / "set" / "train.parquet", [_sound(np.float32([0.5]), rate, "WAV")])
    x, _ = waveforms(tmp_path / "set", "train", rate=8000)
    assert x[0, 0, 0] > 0.1 / (rate / 8000)
    assert not x[0, 0, 1:].any()


COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "bed",
    "bird",
    "cat",
    "dog",
    "happy",
    "house",
    "marvin",
    "sheila",
    "tree",
    "wow",
    "backward",
    "forward",
    "follow",
    "learn",
    "visual",
]
TASK = ["_silence_", "_unknown_", *sorted(COMMANDS)]


def _hub_speech_commands(names: list[str]) -> Any:
    """A row of each class, with the columns of google/speech_commands and its 36 classes."""
    classes = [*COMMANDS, *WORDS, "_silence_"]
    features = {
        "file": datasets.Value("string"),
        "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "label": datasets.ClassLabel(names=classes),
        "is_unknown": datasets.Value("bool"),
    }
    rows = {
        "file": [f"{name}/0.wav" for name in names],
        "audio": [{"bytes": _sound(_HALF, 16_000, "WAV"), "path": None} for _ in names],
        "label": [classes.index(name) for name in names],
        "is_unknown": [name in WORDS for name in names],
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.mark.parametrize("name", ["speech_commands", "google/speech_commands"])
def test_speech_commands_of_the_hub_have_the_classes_of_the_task(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hub(*arguments: object, **named: object) -> Any:
        asked.append((arguments, named))
        return _hub_speech_commands(["tree", "yes", "_silence_", "down", "visual"])

    monkeypatch.setattr(datasets, "load_dataset", hub)
    x, y = waveforms(name, "validation")
    assert asked == [(("google/speech_commands",), {"split": "validation", "name": "v0.02", "revision": "refs/pr/5"})]
    assert [TASK[label] for label in y.tolist()] == ["_unknown_", "yes", "_silence_", "down", "_unknown_"]
    assert x.shape == (5, 1, 8000)
    assert load(name, "validation").features["label"].names == TASK


def test_copy_of_the_hub_repository_is_read_as_the_hub_is(tmp_path: Path) -> None:
    for version, names in (("v0.01", ["go"]), ("v0.02", ["wow", "stop"])):
        folder = tmp_path / "speech_commands" / version
        folder.mkdir(parents=True)
        _hub_speech_commands(names).to_parquet(folder / "test-00000-of-00001.parquet")
    _, y = waveforms("speech_commands", "test", root=tmp_path)
    assert [TASK[label] for label in y.tolist()] == ["_unknown_", "stop"]


def test_speech_commands_that_cannot_be_had_say_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such revision")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"'google/speech_commands', name 'v0\.02', revision 'refs/pr/5' could not be"):
        load("speech_commands", "test")


def test_speech_commands_of_other_classes_are_refused(tmp_path: Path) -> None:
    _write_sounds(tmp_path / "speech_commands" / "test.parquet", [_sound(_HALF, 16_000, "WAV")])
    with pytest.raises(DataError, match=r"its classes are a, b; _silence_, down, .* of the task is not among them"):
        load("speech_commands", "test", root=tmp_path)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": ["A good, good film.<br />Really", "A bad film", None], "label": [1, 0, 0]}
    for split, count in (("train", 2), ("test", 3)):
        part = {key: values[:count] for key, values in rows.items()}
        (tmp_path / "reviews").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(part, features=features).to_parquet(tmp_path / "reviews" / f"{split}.parquet")
    return tmp_path / "reviews"


def test_texts_become_numbers_of_known_words_filled_with_padding(reviews: Path) -> None:
    pytest.importorskip("tokenizers")
    corpus, labels = texts(reviews, "train")
    tokenizer = learn_tokenizer(corpus, vocabulary=100)
    assert labels.tolist() == [1, 0]
    numbers = tokens([*corpus, "An unknown FILM"], tokenizer, length=8)
    words = [[tokenizer.id_to_token(number) for number in row] for row in numbers.tolist()]
    assert words[0] == ["a", "good", ",", "good", "film", ".", "really", "[PAD]"]
    assert words[2] == ["[UNK]", "[UNK]", "film", *["[PAD]"] * 5]
    assert int(numbers[1, 3]) == 0
    assert tokens(corpus, tokenizer, length=2).shape == (2, 2)


def test_tokenizer_is_the_same_for_the_same_texts(reviews: Path) -> None:
    pytest.importorskip("tokenizers")
    corpus, _ = texts(reviews, "train")
    assert learn_tokenizer(corpus).to_str() == learn_tokenizer(corpus).to_str()


def test_row_without_text_is_named(reviews: Path) -> None:
    with pytest.raises(DataError, match="row 2, column 'text': found NoneType; accepted is text"):
        texts(reviews, "test")


def test_images_in_a_set_of_texts_name_the_columns_there_are(reviews: Path) -> None:
    with pytest.raises(DataError, match="cannot tell the image and the label column; it has text, label, 0 of them"):
        pixels(reviews, "train")


@pytest.mark.slow
def test_real_cifar10_has_its_sizes_and_colours() -> None:
    if not REAL or not Path(REAL, "cifar10").is_dir():
        pytest.skip("$RHEOBASE_DATA names no folder with cifar10")
    x, y = pixels("cifar10", "test", root=REAL)
    assert x.shape == (10_000, 3, 32, 32)
    assert torch.bincount(y).tolist() == [1000] * 10
    train, labels = pixels("cifar10", "train", root=REAL)
    assert torch.bincount(labels).tolist() == [5000] * 10
    mean = train.double().mean((0, 2, 3)) / 255
    np.testing.assert_allclose(mean.numpy(), [0.4914, 0.4822, 0.4465], atol=1e-4)  # the usual constants
    leaked = {image.numpy().tobytes() for image in train} & {image.numpy().tobytes() for image in x}
    assert not leaked


@pytest.mark.slow
def test_real_speech_commands_and_reviews_have_their_sizes() -> None:
    if not REAL or not all(Path(REAL, name).is_dir() for name in ("speech_commands", "imdb")):
        pytest.skip("$RHEOBASE_DATA names no folder with speech_commands and imdb")
    x, y = waveforms("speech_commands", "test", root=REAL)
    assert x.shape == (978, 1, 8000)
    assert 0.3 < float(x.abs().amax(2).median()) <= 1
    assert len(torch.unique(y)) == 12
    assert load("speech_commands", "test", root=REAL).features["label"].names == TASK
    corpus, labels = texts("imdb", "test", root=REAL)
    assert len(corpus) == 25_000
    assert torch.bincount(labels).tolist() == [12_500, 12_500]
