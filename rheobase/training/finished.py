"""What a finished training left in its folder."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rheobase import models
from rheobase.errors import DataError
from rheobase.training.config import TrainingConfig, config_from

__all__ = ["Finished", "read_finished"]


@dataclass(frozen=True)
class Finished:
    """A trained network in evaluation mode, its recipe, its accuracy at the end and the time it took."""

    config: TrainingConfig
    model: nn.Module
    accuracy: float
    seconds: float


def read_finished(place: Path) -> Finished:
    """Read the folder of a training; nothing in it is changed.

    Raises:
        DataError: It holds no training, or one that is not finished, or a file is damaged.
    """
    try:
        config = config_from(json.loads((place / "config.json").read_text(encoding="utf-8")))
        checkpoint = torch.load(place / "last.ckpt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{place} does not hold a training ({reason}); give the folder of a finished one") from error
    result = place / "result.json"
    if checkpoint["epoch"] < config.epochs - 1 or not result.is_file():
        raise DataError(
            f"the training in {place} is in epoch {checkpoint['epoch']} of {config.epochs}; let it end before it is "
            "measured or published"
        )
    model = models.build(config.model, **config.model_settings)
    state = {key.removeprefix("model."): value for key, value in checkpoint["state_dict"].items()}
    model.load_state_dict(state)
    accuracy = float(json.loads(result.read_text(encoding="utf-8"))["accuracy"])
    return Finished(config, model.eval(), accuracy, float(checkpoint["seconds"]))
