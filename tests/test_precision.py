"""Which products a graphics processor is allowed to round; the settings are there without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from networks import RESIDUAL_INPUT, residual
from torch import nn

import rheobase as rb
from rheobase import execution
from rheobase.precision import float32_products

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def now() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    before = now()
    yield
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("rounded", [False, True])
def test_the_settings_hold_within_the_context_and_come_back_after_an_error(rounded: bool) -> None:
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = "tf32", "ieee"
    with pytest.raises(RuntimeError, match="inside"), float32_products(CUDA, rounded):  # noqa: PT012
        assert now() == (("tf32",) * 2 if rounded else ("ieee",) * 2)
        raise RuntimeError("inside")
    assert now() == ("tf32", "ieee")


def test_elsewhere_nothing_is_changed() -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    with float32_products(CPU, rounded=False):
        assert now()[0] == "tf32"


def test_the_layers_of_a_network_are_called_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "float32_products", lambda _device, rounded: float32_products(CUDA, rounded))
    x = torch.rand(2, *RESIDUAL_INPUT)
    snn = rb.convert(residual(), [x], rb.ConstantThreshold())
    seen: list[tuple[str, str]] = []
    for layer in snn.module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *_: seen.append(now()))
    for arithmetic, moving in (("auto", "ieee"), ("float", "ieee"), ("rounded", "tf32")):
        seen.clear()
        snn.arithmetic = arithmetic  # type: ignore[assignment]
        rb.simulate(snn, x, 2)
        assert seen == [("ieee", "ieee"), (moving, moving)]  # the first layer is constant, and exact
