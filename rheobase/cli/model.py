"""The network that the command line converts: a factory, and a checkpoint with its weights."""

from __future__ import annotations

import ast
import inspect
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.locate import locate

__all__ = ["load_checkpoint", "load_model"]

_KEYS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SHOWN = 10


def load_model(factory: str, arguments: Sequence[str], checkpoint: Path | None, device: str) -> nn.Module:
    """Make the network, load its weights, and put it into evaluation mode.

    Args:
        factory: ``package.module:function`` or ``path/file.py:function``; also a class, or a network itself.
        arguments: ``key=value`` for the function; a value that is no Python literal is a string.
        checkpoint: the weights; without it those that the function gives.
        device: where the network goes.

    Raises:
        SettingError: the function cannot be found or called, gives no network, or there is no such device.
        DataError: the checkpoint cannot be read or does not fit.
    """
    made = locate(factory)
    if not isinstance(made, nn.Module):
        made = _call(factory, made, dict(_key_value(argument) for argument in arguments))
    if not isinstance(made, nn.Module):
        raise SettingError(f"--model {factory}: it gave a {type(made).__name__}; it must give a torch.nn.Module.")
    if checkpoint is not None:
        load_checkpoint(made, checkpoint)
    try:
        return made.eval().to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        raise SettingError(f"--device {device}: {str(error).splitlines()[0]}; cpu always works.") from error


def _key_value(argument: str) -> tuple[str, Any]:
    key, equals, value = argument.partition("=")
    if not equals or not key.strip().isidentifier():
        raise SettingError(f"--model-args {argument!r} is not key=value, such as --model-args num_classes=100.")
    try:
        return key.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.strip(), value


def _call(factory: str, function: Any, arguments: dict[str, Any]) -> Any:
    if not callable(function):
        kind = type(function).__name__
        raise SettingError(f"--model {factory} is a {kind}; it must be a function that gives a torch.nn.Module.")
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        accepted = ", ".join(
            str(p.replace(annotation=p.empty)) for p in inspect.signature(function).parameters.values()
        )
        raise SettingError(
            f"--model {factory} cannot be called: {error}. Its arguments are ({accepted}); "
            "give its arguments with --model-args key=value, once for each."
        ) from error
    try:
        return function(**arguments)
    except ConversionError:
        raise
    except Exception as error:
        raise SettingError(
            f"--model {factory}: calling it raised {type(error).__name__}: {error} (--debug shows where)."
        ) from error


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load the weights of a file into a network.

    Args:
        model: the network; it is changed.
        path: ``.safetensors``, or what ``torch.save`` wrote: a state dict, or one under the key
            ``state_dict``, ``model_state_dict`` or ``model``. A prefix that all keys share, such as
            ``module.``, is dropped where the network has none.

    Raises:
        DataError: the file cannot be read, or does not fit; every misfit is listed.
    """
    state = _state(path)
    wanted = model.state_dict()
    for _ in range(len(_PREFIXES)):
        for prefix in _PREFIXES:
            if all(k.startswith(prefix) for k in state) and not all(k.startswith(prefix) for k in wanted):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}  # absent from old files, and not used
    shapes = {k: (tuple(v.shape), tuple(wanted[k].shape)) for k, v in state.items() if k in wanted}
    problems = [
        *_listed("missing", sorted(wanted.keys() - state.keys() - optional)),
        *_listed("unexpected", sorted(state.keys() - wanted.keys())),
        *_listed("of another shape", [f"{k} {a}, wanted {b}" for k, (a, b) in shapes.items() if a != b]),
    ]
    if problems:
        raise DataError(
            f"The checkpoint {path} does not fit the network {type(model).__name__}:\n"
            + "\n".join(problems)
            + "\nGive the network that the weights were trained with (--model, --model-args)."
        )
    model.load_state_dict(state, strict=False)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"  {len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"]


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"There is no checkpoint {path.absolute()}; give a .pt, .pth, .th or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"The checkpoint {path} holds Python objects besides tensors, or is damaged; loading those could run "
            "any code. Save the weights alone: torch.save(model.state_dict(), path)."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"The checkpoint {path} cannot be read ({type(error).__name__}: {error}).") from error
    inner = next((content[k] for k in _KEYS if k in content and isinstance(content[k], dict)), content) if (
        isinstance(content, dict)
    ) else content  # fmt: skip
    if not isinstance(inner, dict) or not inner or not all(isinstance(v, Tensor) for v in inner.values()):
        found = f"the keys {', '.join(map(str, list(inner)[:5]))}" if isinstance(inner, dict) else type(inner).__name__
        raise DataError(
            f"The checkpoint {path} holds no state dict: found {found}; accepted is model.state_dict(), "
            f"or a dictionary with it under {', '.join(_KEYS)}."
        )
    return inner
