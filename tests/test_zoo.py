"""The zoo: every card equals what its file gives."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
from rheobase import data
from rheobase.errors import DataError
from rheobase.models import load, names, read_card
from rheobase.models.lstm import PADDING
from rheobase.models.texts import read_tokenizer
from rheobase.models.zoo import store, table, zoo_folder
from rheobase.training import TrainingConfig, evaluate_ann, publish, train
from rheobase.training.batches import Samples

CONFIG = TrainingConfig(
    name="small-fast",
    model="resnet20",
    model_settings={"width": 4, "classes": 3},
    data="none",
    epochs=1,
    batch_size=16,
    threads=1,
)
SAMPLES = Samples(
    torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    torch.arange(64) % 3,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(CONFIG, folder, data=(SAMPLES, SAMPLES))
    return folder


@pytest.fixture
def zoo(run: Path, tmp_path: Path) -> Path:
    publish(run, tmp_path / "zoo", test=SAMPLES)
    return tmp_path / "zoo"


def test_published_network_is_the_trained_one_rounded_to_half_precision(run: Path, zoo: Path) -> None:
    trained = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in load("small", zoo).model.state_dict().items():
        found = trained[f"model.{key}"]
        assert torch.equal(value, found.half().float() if value.dim() > 1 else found)
        assert value.dtype == found.dtype


def test_card_has_the_accuracy_of_the_stored_weights(zoo: Path) -> None:
    pretrained = load("small", zoo)
    with torch.inference_mode():
        answers = pretrained.model(pretrained.transform(SAMPLES.inputs)).argmax(1)
    assert pretrained.accuracy == float((answers == SAMPLES.labels).double().mean())
    assert evaluate_ann("small", folder=zoo, test=SAMPLES).accuracy == pretrained.accuracy


def test_transform_takes_pixels_that_need_a_gradient(zoo: Path) -> None:
    found = load("small", zoo).transform((SAMPLES.inputs.float() / 255).requires_grad_())
    assert found.requires_grad


@pytest.mark.parametrize("factor", [32_768.0, float("nan")])
def test_waveforms_that_are_no_parts_of_the_loudest_sample_are_refused(factor: float) -> None:
    waves = factor * torch.rand(2, 1, 8000, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"takes waveforms in -1\.\.1.*Divide those of 16 bits"):
        load("m5-speech_commands").transform(waves)


def test_transform_takes_bytes_and_numbers_alike(zoo: Path) -> None:
    transform = load("small", zoo).transform
    torch.testing.assert_close(transform(SAMPLES.inputs), transform(SAMPLES.inputs.double() / 255))


def test_waveforms_and_tokens_are_taken_as_they_are_and_nothing_else_is() -> None:
    waves, tokens = torch.rand(3, 1, 8000), torch.randint(0, 10, (3, 20))
    assert load("m5-speech_commands").transform(waves) is waves
    assert load("bilstm-imdb").transform(tokens) is tokens
    with pytest.raises(DataError, match=r"takes float32 waveforms .* torch.int64 tensor of shape \(3, 20\)"):
        load("m5-speech_commands").transform(tokens)
    with pytest.raises(DataError, match="takes texts, or int64 token numbers"):
        load("bilstm-imdb").transform(waves)


REVIEWS = ["A good FILM.<br /><br />Cinema!", "bad " * 300, ""]


def test_texts_become_token_numbers_of_the_length_that_the_network_was_trained_with() -> None:
    pytest.importorskip("tokenizers")
    network = load("bilstm-imdb")
    found = network.transform(REVIEWS)
    assert (found.dtype, found.shape) == (torch.int64, (3, network.card.recipe["length"]))
    assert found[0, :6].tolist() == network.transform("a good film . cinema !")[0, :6].tolist()
    assert found[0, 6:].eq(PADDING).all()
    assert found[1].eq(found[1, 0]).all()
    assert found[2].eq(PADDING).all()
    assert torch.equal(network.transform(REVIEWS[0]), found[:1])
    assert network.model(found).shape == (3, 2)


def test_a_network_for_texts_tells_a_good_review_from_a_bad_one() -> None:
    pytest.importorskip("tokenizers")
    network = load("bilstm-imdb")
    reviews = ["A wonderful film, one of the best I have seen.", "A terrible film, one of the worst I have seen."]
    assert network.model(network.transform(reviews)).argmax(1).tolist() == [1, 0]


def test_the_tokenizer_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    read = []
    monkeypatch.setattr(
        "rheobase.models.zoo.read_tokenizer", lambda *given: (read.append(given), read_tokenizer(*given))[1]
    )
    network = load("bilstm-imdb")
    assert not read
    assert torch.equal(network.transform("good"), network.transform("good"))
    assert len(read) == 1


def test_a_printed_network_does_not_list_its_vocabulary() -> None:
    assert len(repr(load("bilstm-imdb"))) < 5000


@pytest.mark.parametrize("given", [[], [1, 2], ["good", 1], None, b"good"])
def test_what_is_neither_texts_nor_numbers_is_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"takes a text, a list of some, or int64 token numbers; found "):
        load("bilstm-imdb").transform(given)


@pytest.mark.parametrize("given", ["good", ["good"], [0.5], None])
def test_images_that_are_no_tensor_are_refused(zoo: Path, given: Any) -> None:
    with pytest.raises(DataError, match=r"small takes a tensor; found a \w+, and no torch.Tensor"):
        load("small", zoo).transform(given)


def test_without_the_package_of_tokenizers_texts_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    network = load("bilstm-imdb")  # numbers do not need it
    assert network.transform(torch.ones(1, 4, dtype=torch.int64)).shape == (1, 4)
    with pytest.raises(DataError, match=r"takes texts by the package `tokenizers`; pip install 'rheobase\[data\]'"):
        network.transform("good")


def test_tokenizer_that_the_package_cannot_read_is_a_clear_error() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(DataError, match=r"tokenizers [\d.]+ cannot read the tokenizer of bilstm-imdb \(.*version"):
        dataclasses.replace(load("bilstm-imdb"), tokenizer="{}").transform("good")


def test_network_for_texts_without_a_tokenizer_asks_for_numbers() -> None:
    with pytest.raises(DataError, match=r"holds no tokenizer of bilstm-imdb; give int64 token numbers"):
        dataclasses.replace(load("bilstm-imdb"), tokenizer=None).transform("good")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"no tokenizer at .*bilstm-imdb\.tokenizer; restore it"), (b"{}", "tokenizer has the checksum")],
    ids=["missing", "changed"],
)
def test_tokenizer_that_is_not_the_one_of_the_card_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    for file in zoo_folder().glob("bilstm-imdb.*"):
        shutil.copy(file, tmp_path)
    file = tmp_path / "bilstm-imdb.tokenizer"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load("bilstm-imdb", tmp_path)


def test_a_network_without_a_tokenizer_replaces_one_with_it(tmp_path: Path) -> None:
    network = load("bilstm-imdb")
    assert store(network.model, network.card, tmp_path, network.tokenizer) == network.card
    store(network.model, network.card, tmp_path)
    assert load("bilstm-imdb", tmp_path).tokenizer is None
    assert not (tmp_path / "bilstm-imdb.tokenizer").exists()


@pytest.mark.slow
def test_the_stored_tokenizer_gives_the_tokens_of_the_training(real_data: Path) -> None:
    pytest.importorskip("tokenizers")
    if not (real_data / "imdb").is_dir():
        pytest.skip("$RHEOBASE_DATA names no folder with imdb")
    network = load("bilstm-imdb")
    reviews, _ = data.texts("imdb", "test", limit=2000)
    tokenizer = data.learn_tokenizer(data.texts("imdb", "train")[0], network.card.model_settings["vocabulary"])
    assert torch.equal(network.transform(reviews), data.tokens(reviews, tokenizer, network.card.recipe["length"]))


def test_the_transform_of_images_refuses_other_channels(zoo: Path) -> None:
    channels = len(load("small", zoo).card.mean)
    with pytest.raises(DataError, match=rf"takes images \(..., {channels}, H, W\); found the shape \(5, 7, 8, 8\)"):
        load("small", zoo).transform(torch.rand(5, 7, 8, 8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_the_transform_of_images_refuses_whole_numbers_that_are_no_bytes(zoo: Path, dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match=rf"bytes \(uint8, 0..255\) or .* in 0..1; found {dtype}. .*to\(torch.uint8\)"):
        load("small", zoo).transform(SAMPLES.inputs.to(dtype))


def test_the_transform_of_images_refuses_numbers_outside_the_unit_range(zoo: Path) -> None:
    transform, inputs = load("small", zoo).transform, SAMPLES.inputs
    for pixels, found in (
        (inputs.float(), "0 to 255"),
        (transform(inputs), r"-1\.98\d* to 2\.12\d*"),  # what is normalised already
        (inputs.float() / 255 - 0.5, r"-0\.5 to 0\.5"),
        (torch.full((3, 8, 8), torch.nan), "nan to nan"),
    ):
        with pytest.raises(DataError, match=rf"pixels in 0..1, .*; found {found}\. Divide .* by 255"):
            transform(pixels)


def test_the_transform_of_images_takes_rounding_errors_and_no_images(zoo: Path) -> None:
    transform = load("small", zoo).transform
    assert transform(torch.tensor([-1e-6, 1 + 1e-6, 0.5, 1]).view(2, 2).expand(3, 2, 2)).isfinite().all()
    assert transform(torch.empty(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_the_transform_of_waveforms_says_their_rate_and_length() -> None:
    defaults = inspect.signature(data.waveforms).parameters
    rate, seconds = defaults["rate"].default, defaults["seconds"].default
    with pytest.raises(DataError, match=rf"of {rate:,} samples a second: L = {rate * seconds:.0f}, as `rheo"):
        load("m5-speech_commands").transform(torch.zeros(16_000))


def test_worse_network_does_not_replace_a_better_one(run: Path, zoo: Path) -> None:
    card = read_card("small", zoo)
    better = dataclasses.replace(card, accuracy=1.0)
    (zoo / "small.json").write_text(json.dumps(dataclasses.asdict(better)))
    assert publish(run, zoo, test=SAMPLES) == better


@pytest.mark.parametrize("left", [None, "half a pa"], ids=["before-the-page", "while-writing-the-page"])
def test_publishing_again_after_a_kill_writes_the_page(run: Path, zoo: Path, left: str | None) -> None:
    page = zoo / "README.md"
    whole = page.read_text()
    page.unlink() if left is None else page.write_text(left)
    publish(run, zoo, test=SAMPLES)
    assert page.read_text() == whole


def test_publishing_again_removes_what_a_kill_left_of_these_files(run: Path, zoo: Path) -> None:
    for name in (".small.safetensors.a1_b2c3d", ".small.json.abcdefgh", ".other.json.abcdefgh"):
        (zoo / name).mkdir()
    (zoo / "small.json").unlink()
    publish(run, zoo, test=SAMPLES)
    assert [file.name for file in zoo.glob(".*")] == [".other.json.abcdefgh"]


def test_better_network_replaces_a_worse_one(run: Path, zoo: Path) -> None:
    card = read_card("small", zoo)
    (zoo / "small.json").write_text(json.dumps(dataclasses.asdict(dataclasses.replace(card, accuracy=0.0))))
    assert publish(run, zoo, test=SAMPLES) == card


def test_unfinished_training_is_not_published(run: Path, tmp_path: Path) -> None:
    for file in ("last.ckpt", "config.json"):
        (tmp_path / file).write_bytes((run / file).read_bytes())
    with pytest.raises(DataError, match="let it end before it is measured or published"):
        publish(tmp_path, tmp_path / "zoo", test=SAMPLES)


def test_folder_without_a_training_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not hold a training"):
        publish(tmp_path, tmp_path / "zoo", test=SAMPLES)


def test_unknown_name_lists_those_there_are(zoo: Path) -> None:
    with pytest.raises(DataError, match=r"no network 'large' in the zoo at .*there are: small"):
        load("large", zoo)


@pytest.mark.parametrize("there", [True, False], ids=["empty", "absent"])
def test_installation_without_the_zoo_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    place = tmp_path / "zoo"
    place.mkdir() if there else None
    monkeypatch.setenv("RHEOBASE_ZOO", str(place))
    with pytest.raises(DataError) as found:
        load("vgg16-cifar10")
    assert str(found.value) == (
        f"no network 'vgg16-cifar10' in the zoo: the folder {place} holds none. The weights are in Rheobase's "
        "repository and not in the installed package: get it with git clone, and let $RHEOBASE_ZOO name its folder zoo/"
    )


def test_changed_weights_do_not_pass_for_those_of_the_card(zoo: Path) -> None:
    file = zoo / "small.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"checksum .* the file is damaged or another one"):
        load("small", zoo)


def test_missing_weights_are_a_clear_error(zoo: Path) -> None:
    (zoo / "small.safetensors").unlink()
    with pytest.raises(DataError, match="no weights at"):
        load("small", zoo)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", b"", r"result.json is damaged"),
        ("result.json", b'{"accuracy": null}', r"result.json is damaged .*it lacks accuracy"),
        ("provenance.json", b"", r"provenance.json is damaged"),
        ("config.json", b"{}", r"config.json is damaged .*'model' is missing"),
        ("last.ckpt", b"", r"last.ckpt is damaged"),
    ],
)
def test_damaged_file_of_a_training_is_not_published(
    run: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        publish(tmp_path / "run", tmp_path / "zoo", test=SAMPLES)
    assert not (tmp_path / "zoo").exists()


def test_card_whose_settings_do_not_fit_its_weights_is_a_clear_error(zoo: Path) -> None:
    values = json.loads((zoo / "small.json").read_text())
    (zoo / "small.json").write_text(json.dumps(values | {"model_settings": {"width": 4, "classes": 5}}))
    with pytest.raises(DataError, match=r"small.safetensors do not fit the network of .*size mismatch for fc.weight"):
        load("small", zoo)


@pytest.mark.parametrize("change", [{"model_settings": 3}, {"recipe": [1]}, {"accuracy": "high"}])
def test_card_with_a_value_of_another_type_is_damaged(zoo: Path, change: dict[str, object]) -> None:
    values = json.loads((zoo / "small.json").read_text())
    (zoo / "small.json").write_text(json.dumps(values | change))
    with pytest.raises(DataError, match=rf"card .* is damaged \({next(iter(change))} is "):
        load("small", zoo)


def test_damaged_card_is_a_clear_error(zoo: Path) -> None:
    (zoo / "small.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"card .* is damaged"):
        load("small", zoo)


@pytest.mark.parametrize("name", names())
def test_every_file_of_the_zoo_is_the_one_of_its_card(name: str) -> None:
    file = zoo_folder() / f"{name}.safetensors"
    card = read_card(name)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.sha256
    assert file.stat().st_size <= 30_000_000
    model = load(name).model
    assert sum(p.numel() for p in model.parameters()) == card.parameters


def test_page_of_the_zoo_is_generated_from_the_cards() -> None:
    page = zoo_folder() / "README.md"
    assert not names() or page.read_text(encoding="utf-8").endswith(table())


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_card_has_the_accuracy_of_its_file(name: str) -> None:
    card, root = read_card(name), os.environ.get("RHEOBASE_DATA")
    if not root or not Path(root, card.data).is_dir():
        pytest.skip(f"$RHEOBASE_DATA names no folder with {card.data}")
    count = 500
    expected = card.accuracy
    found = evaluate_ann(name, limit=count).accuracy
    assert abs(found - expected) < 4 * (expected * (1 - expected) / count) ** 0.5  # 4 standard deviations
