"""Networks by name, for recipes and model cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from rheobase.errors import DataError, SettingError
from rheobase.models.lstm import bilstm
from rheobase.models.m5 import m5
from rheobase.models.resnet import resnet20, resnet34
from rheobase.models.vgg import vgg16
from rheobase.qcfs import with_levels

__all__ = ["build", "fill"]

_BUILDERS: tuple[Callable[..., nn.Module], ...] = (vgg16, resnet20, resnet34, m5, bilstm)


def build(name: str, levels: int | None = None, **settings: Any) -> nn.Module:
    """Build a network of this package from its name and settings.

    Args:
        name: ``"vgg16"``, ``"resnet20"`` and so on.
        levels: Of its activations, so that it is trained to convert exactly (QCFS, `rheobase.qcfs.with_levels`); None
            leaves them ReLUs.
        settings: The arguments of that function.

    Raises:
        SettingError: There is no such network or setting, or a setting has a wrong value.

    >>> build("resnet20", width=4, classes=3).fc
    Linear(in_features=16, out_features=3, bias=True)
    """
    builders = {builder.__name__: builder for builder in _BUILDERS}
    if name not in builders:
        raise SettingError(f"there is no network {name!r}; choose one of {', '.join(builders)}")
    try:
        model = builders[name](**settings)
        return model if levels is None else with_levels(model, levels)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # what PyTorch says of wrong sizes
        raise SettingError(f"network {name!r} with settings {settings}: {error}") from error


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Give a network its weights.

    Raises:
        DataError: They are those of another network; the message names their source and the first difference.
    """
    try:
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        first = [*str(error).splitlines(), ""][1].strip().rstrip(".") or error  # PyTorch's first line is a title
        raise DataError(
            f"the weights in {source} do not fit the network of their settings ({first}); restore both together"
        ) from error
