"""The files in the folder of a training: written whole, and read with a message where they are damaged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rheobase.errors import DataError
from rheobase.files import write_atomically
from rheobase.models.build import fill

__all__ = ["load_checkpoint", "read_record", "write_record"]

_CHECKPOINT = {"epoch": int, "global_step": int, "seconds": float, "state_dict": dict}
_CHECKPOINT |= {"loops": dict, "optimizer_states": list, "lr_schedulers": list}


def write_record(file: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a kill at any moment leaves the old file or the new one."""
    write_atomically(file, json.dumps(value, indent=2) + "\n")


def read_record(file: Path, **kinds: type) -> dict[str, Any]:
    """Read a table of JSON that has these keys, with values of these types.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    return _table(file, found, kinds)


def load_checkpoint(file: Path, model: nn.Module) -> dict[str, Any]:
    """Read the checkpoint of a training, and give its weights to the network.

    Raises:
        DataError: The file cannot be read, is no checkpoint of this library, or one of another network.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(file, error) from error
    checkpoint = _table(file, found, _CHECKPOINT)
    state: dict[str, Tensor] = {
        str(key).removeprefix("model."): value for key, value in checkpoint["state_dict"].items()
    }
    fill(model, state, file)
    return checkpoint


def _table(file: Path, found: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _damaged(file, f"it holds a {type(found).__name__}, no table")
    wrong = [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise _damaged(file, f"it lacks {', '.join(wrong)}")
    return found


def _damaged(file: Path, reason: object) -> DataError:
    said = " ".join(str(reason).split())[:200] or type(reason).__name__
    return DataError(
        f"{file} is damaged or another program's ({said}); restore it, or remove it and repeat the training, "
        "which keeps what is left"
    )
