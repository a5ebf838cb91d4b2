"""The networks have the sizes of their papers, and load what others trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rheobase.errors import DataError, SettingError
from rheobase.models import (
    AKAMASTER_MEAN,
    AKAMASTER_STD,
    ResNet,
    bilstm,
    build,
    load_akamaster,
    m5,
    resnet20,
    resnet34,
    vgg16,
)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_resnet20_has_the_parameters_of_its_paper() -> None:
    assert _parameters(resnet20()) == 269_722  # 0.27 M in table 6 of He et al.


def test_option_a_shortcuts_have_no_parameters_and_projections_do() -> None:
    a, b, c = (_parameters(resnet20(shortcut=option)) for option in ("A", "B", "C"))
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert b - a == projections
    # Option C projects the seven shortcuts that keep their shape too.
    assert c - b == 3 * (16**2 + 2 * 16) + 2 * (32**2 + 2 * 32) + 2 * (64**2 + 2 * 64)


def test_resnet34_has_the_parameters_of_torchvision() -> None:
    assert _parameters(resnet34()) == 21_797_672


def test_twice_the_width_has_about_four_times_the_parameters() -> None:
    assert 3.9 < _parameters(resnet20(width=32)) / _parameters(resnet20(width=16)) < 4.1


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("width", [4, 5])
def test_resnet20_keeps_its_shapes_with_every_shortcut(shortcut: str, width: int) -> None:
    model = resnet20(classes=7, width=width, shortcut=shortcut)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 32, 32)
    assert model.layer3(model.layer2(model.layer1(model.conv1(x)))).shape == (2, 4 * width, 8, 8)
    assert model(x).shape == (2, 7)


def test_resnet34_imagenet_stem_divides_the_size_by_32() -> None:
    model = resnet34(classes=5, width=4)
    x = torch.randn(1, 3, 64, 64)
    features: list[torch.Size] = []
    model.layer4.register_forward_hook(lambda module, inputs, output: features.append(output.shape))
    assert model(x).shape == (1, 5)
    assert features == [(1, 32, 2, 2)]


def test_option_a_takes_every_second_pixel_and_pads_channels_on_both_sides() -> None:
    shortcut = resnet20(width=4).layer2[0].downsample
    x = torch.randn(1, 4, 6, 6)
    y = shortcut(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


def test_resnet_traces() -> None:
    model = resnet20(width=4).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


def test_resnet_names_every_wrong_setting_at_once() -> None:
    with pytest.raises(SettingError, match=r"blocks is \(\).*width is 0.*classes is -1.*'D'.*'stem8'"):
        ResNet((), 0, -1, "D", "stem8")  # type: ignore[arg-type]


def test_vgg16_has_thirteen_convolutions_and_the_parameters_of_column_d() -> None:
    model = vgg16()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 13
    # The 3x3 kernels of column D (Simonyan and Zisserman) without their biases; batch norm; ten classes.
    assert sum(module.weight.numel() for module in convolutions) == 14_710_464
    assert _parameters(model) == 14_710_464 + 2 * 4_224 + 5_130


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_vgg16_keeps_its_shapes_with_both_poolings(pooling: str) -> None:
    model = vgg16(classes=7, width=4, pooling=pooling)  # type: ignore[arg-type]
    kind = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
    assert sum(isinstance(module, kind) for module in model.modules()) == 5
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 32, 1, 1)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_m5_has_the_parameters_of_its_paper() -> None:
    assert _parameters(m5()) == 559_114  # 0.559 M in table 1 of Dai et al.


def test_m5_takes_a_second_of_8_khz_and_more() -> None:
    model = m5(classes=12, width=4)
    assert model.features(torch.randn(2, 1, 8000)).shape == (2, 16, 7)
    assert model.features(torch.randn(1, 1, 32000)).shape == (1, 16, 31)
    assert model(torch.randn(2, 1, 8000)).shape == (2, 12)


def test_bilstm_has_the_parameters_of_its_equations() -> None:
    # An LSTM direction has 4 gates: (inputs + units + two biases) x units numbers each.
    first, other = 2 * 4 * 128 * (128 + 128 + 2), 2 * 4 * 128 * (256 + 128 + 2)
    head = (256 + 1) * 128 + (128 + 1) * 2
    assert _parameters(bilstm()) == 20_000 * 128 + first + 2 * other + head


def test_padding_takes_no_part_in_the_mean_of_the_bilstm() -> None:
    model = bilstm(vocabulary=20, embedding=4, hidden=3, layers=1).eval()
    tokens = torch.tensor([[5, 6, 7, 0, 0]])
    states, _ = model.lstm(model.embedding(tokens))
    expected = model.classifier(model.relu(model.fc(states[:, :3].mean(1))))
    torch.testing.assert_close(model(tokens), expected)
    assert torch.isfinite(model(torch.zeros(2, 4, dtype=torch.int64))).all()


@pytest.mark.parametrize("name", ["vgg16", "m5", "bilstm"])
def test_networks_name_every_wrong_setting_at_once(name: str) -> None:
    with pytest.raises(SettingError, match=r"classes is 0; .*dropout is 1"):
        build(name, classes=0, dropout=1.0)


def test_network_by_name_takes_its_settings_only() -> None:
    assert build("vgg16", width=4).classifier.in_features == 32
    with pytest.raises(SettingError, match=r"'m5' with settings .*pooling"):
        build("m5", pooling="max")
    with pytest.raises(SettingError, match="no network 'lenet'; choose one of vgg16, resnet20, resnet34, m5"):
        build("lenet")


def _akamaster_state() -> dict[str, torch.Tensor]:
    state = resnet20().state_dict()
    return {"module." + key.replace("fc.", "linear."): value for key, value in state.items()}


def test_akamaster_weights_arrive_in_the_network(tmp_path: Path) -> None:
    state = _akamaster_state()
    torch.save({"state_dict": state, "best_prec1": 1.0}, tmp_path / "w.th")
    model = load_akamaster(tmp_path / "w.th")
    assert not model.training
    assert torch.equal(model.fc.weight, state["module.linear.weight"])
    assert torch.equal(model.layer3[2].bn2.running_var, state["module.layer3.2.bn2.running_var"])


def test_akamaster_weights_without_batch_counters_load(tmp_path: Path) -> None:
    state = {key: value for key, value in _akamaster_state().items() if "num_batches" not in key}
    torch.save({"state_dict": state}, tmp_path / "w.th")
    assert isinstance(load_akamaster(tmp_path / "w.th"), ResNet)


def test_missing_akamaster_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights file at .*absent\.th.*state_dict"):
        load_akamaster(tmp_path / "absent.th")


@pytest.mark.parametrize("content", [b"", b"not a pickle", None], ids=["empty", "text", "truncated"])
def test_damaged_akamaster_file_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "w.th"
    torch.save({"state_dict": _akamaster_state()}, file)
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(DataError, match=r"w\.th is no PyTorch weights file, or is damaged"):
        load_akamaster(file)


def test_other_weights_are_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    state = _akamaster_state()
    del state["module.bn1.bias"]
    state["module.linear.weight"] = torch.zeros(100, 64)
    state["module.extra"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "w.th")
    with pytest.raises(DataError, match=r"bn1.bias is missing; extra is not a key .*; fc.weight has shape"):
        load_akamaster(tmp_path / "w.th")


def test_file_without_state_dict_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"weights": {}, "epoch": 3}, tmp_path / "w.th")
    with pytest.raises(DataError, match=r"no tensors under 'state_dict' \(found \['epoch', 'weights'\]\)"):
        load_akamaster(tmp_path / "w.th")


@pytest.mark.slow
def test_akamaster_resnet20_has_its_published_accuracy(real_data: Path, real_weights: Path) -> None:
    from rheobase.data import images

    x, y = images("cifar10", "test", AKAMASTER_MEAN, AKAMASTER_STD, limit=1000, root=real_data).tensors
    model = load_akamaster(real_weights / "resnet20-cifar10.th")
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(1) for part in x.split(250)])
    # 9,173 of all 10,000 (91.73 %); of the first 1,000 it is 915, with one of slack for other arithmetic
    assert abs(int((answers == y).sum()) - 915) <= 1
