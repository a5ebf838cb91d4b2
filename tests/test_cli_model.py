"""Networks from a factory and a checkpoint: every common form is read, and a misfit is told in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rheobase import ConversionError, DataError, SettingError
from rheobase.cli.model import load_checkpoint, load_model


def _net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


def _prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in _net().state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_every_common_form_of_a_checkpoint_is_read(tmp_path: Path, prefix: str, key: str | None) -> None:
    state = _prefixed(prefix)
    torch.save(state if key is None else {"epoch": 3, key: state}, tmp_path / "net.th")
    network = _net()
    load_checkpoint(network, tmp_path / "net.th")
    assert all(torch.equal(value, state[prefix + name]) for name, value in network.state_dict().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    state = _prefixed("module.")
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    network = _net()
    load_checkpoint(network, tmp_path / "net.safetensors")
    assert torch.equal(network[0].weight, state["module.0.weight"])


def test_a_prefix_that_the_network_has_is_kept(tmp_path: Path) -> None:
    network = nn.ModuleDict({"model": _net()})
    torch.save(network.state_dict(), tmp_path / "net.pt")
    load_checkpoint(network, tmp_path / "net.pt")


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    state = {k: v for k, v in _prefixed("").items() if "num_batches" not in k}
    torch.save(state, tmp_path / "net.pt")
    load_checkpoint(_net(), tmp_path / "net.pt")


def test_all_misfits_are_in_one_error(tmp_path: Path) -> None:
    state = {**_net(4).state_dict(), "extra.weight": torch.zeros(1)}
    del state["1.running_var"]
    torch.save(state, tmp_path / "net.pt")
    network = _net()
    before = network[0].weight.clone()
    with pytest.raises(DataError) as caught:
        load_checkpoint(network, tmp_path / "net.pt")
    text = str(caught.value)
    assert "does not fit the network Sequential" in text
    assert "1 missing: 1.running_var" in text
    assert "1 unexpected: extra.weight" in text
    assert "0.weight (4, 2), wanted (3, 2)" in text
    assert torch.equal(network[0].weight, before)


def test_a_long_list_of_misfits_is_cut(tmp_path: Path) -> None:
    torch.save({f"layer{i}.weight": torch.zeros(1) for i in range(30)}, tmp_path / "net.pt")
    with pytest.raises(DataError, match=r"30 unexpected: layer0.weight, .* and 20 more"):
        load_checkpoint(_net(), tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "loss": 0.1}, "holds no state dict: found the keys epoch, loss; accepted is model.state_dict"),
        ([1, 2], "holds no state dict: found list"),
        ({}, "holds no state dict"),
        (_net(), "holds Python objects besides tensors, or is damaged; .* Save the weights alone"),
    ],
)
def test_another_content_is_a_clear_error(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(DataError, match=message):
        load_checkpoint(_net(), tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_damaged_or_missing_file_is_a_clear_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net.{suffix}"
    with pytest.raises(DataError, match="There is no checkpoint"):
        load_checkpoint(_net(), path)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        load_checkpoint(_net(), path)


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "some_nets.py").write_text(
        "from torch import nn\n"
        "ready = nn.Linear(2, 2)\n"
        "number = 3\n"
        "def made(width, kind='relu'):\n    assert kind == 'relu'\n    return nn.Linear(2, width)\n"
        "def other():\n    return 3\n"
    )
    return str(tmp_path / "some_nets.py")


def test_arguments_reach_the_factory(nets: str) -> None:
    network = load_model(f"{nets}:made", ["width=5", "kind=relu"], None, "cpu")
    assert isinstance(network, nn.Linear)
    assert network.out_features == 5
    assert not network.training


def test_a_class_a_network_and_a_module_of_a_package_are_accepted(nets: str) -> None:
    assert isinstance(load_model(f"{nets}:ready", [], None, "cpu"), nn.Linear)
    assert load_model("torch.nn:Linear", ["in_features=2", "out_features=3"], None, "cpu").out_features == 3
    assert load_model("rheobase.models:resnet20", ["classes=3"], None, "cpu").fc.out_features == 3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("absent", (), "has no 'absent'; it defines made, other"),
        ("number", (), "is a int; it must be a function"),
        ("other", (), "it gave a int; it must give a torch.nn.Module"),
        ("made", (), r"missing a required argument: 'width'. Its arguments are \(width, kind='relu'\)"),
        ("made", ("depth=3",), "cannot be called"),
        ("made", ("width",), "is not key=value"),
        ("made", ("width=3", "kind=elu"), "calling it raised AssertionError"),
    ],
)
def test_a_wrong_factory_is_a_clear_error(nets: str, name: str, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_model(f"{nets}:{name}", arguments, None, "cpu")


@pytest.mark.parametrize("text", ["nets", ":made", "nets.py:", "no_such_package.nets:made", "absent.py:made"])
def test_a_wrong_place_is_a_clear_error(text: str) -> None:
    with pytest.raises(SettingError, match=r"package\.module:name"):
        load_model(text, [], None, "cpu")


def test_an_unknown_device_is_a_clear_error() -> None:
    with pytest.raises(ConversionError, match="--device abacus"):
        load_model("torch.nn:Identity", [], None, "abacus")
