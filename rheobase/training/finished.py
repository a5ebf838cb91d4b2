"""What a finished training left in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from rheobase import models
from rheobase.errors import DataError, SettingError
from rheobase.training.config import TrainingConfig, config_from
from rheobase.training.provenance import read_provenance
from rheobase.training.records import load_checkpoint, read_record

__all__ = ["Finished", "read_finished", "read_recipe"]


@dataclass(frozen=True)
class Finished:
    """A trained network in evaluation mode, its recipe, its accuracy at the end, the time it took and on what."""

    config: TrainingConfig
    model: nn.Module
    accuracy: float
    seconds: float
    hardware: str


def read_finished(place: Path) -> Finished:
    """Read the folder of a training; nothing in it is changed.

    Raises:
        DataError: It holds no training, or one that is not finished, or a file is damaged.
    """
    for name in ("config.json", "last.ckpt"):
        if not (place / name).is_file():
            raise DataError(f"{place} does not hold a training (no {name}); give the folder of a finished one")
    config = read_recipe(place)
    model = models.build(config.model, **config.model_settings)
    checkpoint = load_checkpoint(place / "last.ckpt", model)
    result = place / "result.json"
    if checkpoint["epoch"] < config.epochs - 1 or not result.is_file():
        raise DataError(
            f"the training in {place} is in epoch {checkpoint['epoch']} of {config.epochs}; let it end before it is "
            "measured or published"
        )
    accuracy = read_record(result, accuracy=float)["accuracy"]
    noted = (place / "provenance.json").is_file()
    hardware = read_provenance(place).hardware if noted else "unknown"
    return Finished(config, model.eval(), accuracy, float(checkpoint["seconds"]), hardware)


def read_recipe(place: Path) -> TrainingConfig:
    """The recipe that a training left in its folder.

    Raises:
        DataError: The file is damaged.
    """
    file = place / "config.json"
    values = read_record(file)
    try:
        return config_from(values)
    except SettingError as error:
        raise DataError(f"{file} is damaged or a newer version's ({error}); restore it") from error
