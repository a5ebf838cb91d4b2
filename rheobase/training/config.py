"""What a training needs to know: one frozen value, read from a small TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from rheobase.errors import SettingError

__all__ = ["Logger", "Optimizer", "Precision", "Schedule", "TrainingConfig", "config_from", "read_config"]

Optimizer = Literal["sgd", "adamw"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Schedule = Literal["one-cycle", "cosine"]
Logger = Literal["csv", "tensorboard"]

_POSITIVE = ("epochs", "batch_size", "length", "learning_rate", "checkpoint_steps", "devices", "nodes")
_NOT_NEGATIVE = ("weight_decay", "clip", "crop", "size", "cutout", "noise", "folds", "fold", "threads")
_PARTS = ("momentum", "warmup", "label_smoothing")
_CHOICES = {"optimizer": Optimizer, "schedule": Schedule, "precision": Precision, "logger": Logger}


@dataclass(frozen=True)
class TrainingConfig:
    """A training recipe. With the same seed, on the same machine, it gives the same weights.

    Args:
        name: Of the run, and of its files.
        model: A builder of `rheobase.models`, such as ``"vgg16"``.
        model_settings: Its arguments.
        data: A data set, see `rheobase.data.load`.
        mean: What is subtracted from the pixels (in 0..1), one value for each channel.
        std: What they are then divided by.
        epochs: Passes over the training split.
        batch_size: Samples in a step, over all devices.
        optimizer: ``"sgd"`` or ``"adamw"``.
        learning_rate: Its highest value.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        weight_decay: Of the weights; biases and batch norm have none.
        schedule: ``"one-cycle"`` rises linearly, then falls linearly to 0; ``"cosine"`` falls from the start.
        warmup: The part of the steps in which the learning rate rises.
        label_smoothing: Probability that is spread over all classes.
        clip: Largest norm of the gradient; 0 for no limit.
        flip: Whether images are mirrored at random.
        crop: Pixels (or samples of a waveform) by which inputs are shifted at random, up to.
        size: Side of images that are too many for memory, or of many sizes: they are decoded as they are asked for, the
            shorter side scaled to 8/7 of it and the centre cropped. 0: as the data set says, which is 224 for ImageNet.
        random_part: Whether training takes random parts of such images, scaled to `size`, and not their centres.
        cutout: Side of a square of zeros at a random place, in pixels; 0 for none.
        auto_augment: Whether the AutoAugment policy for CIFAR-10 is applied (needs kornia).
        noise: Standard deviation of noise added to waveforms, up to.
        length: Tokens of a text that are read.
        folds: Divide training and test samples together into so many parts; 0 keeps the official split.
        fold: Which part is tested on, from 0; the others are trained on.
        precision: Of the arithmetic, as Lightning names it.
        checkpoint_steps: Steps between checkpoints.
        seed: Of the initial weights, the order of the samples and the augmentation.
        logger: ``"csv"`` writes ``log.csv``; ``"tensorboard"`` event files too (needs tensorboard).
        threads: CPU threads; 0 leaves it to PyTorch. One is best where other programs share the cores.
        devices: Number of devices on each node.
        nodes: Number of nodes.
        strategy: Lightning's strategy for several devices.
    """

    name: str
    model: str
    data: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    epochs: int = 10
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Schedule = "one-cycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    clip: float = 0.0
    flip: bool = False
    crop: int = 0
    size: int = 0
    random_part: bool = False
    cutout: int = 0
    auto_augment: bool = False
    noise: float = 0.0
    length: int = 256
    folds: int = 0
    fold: int = 0
    precision: Precision = "32-true"
    checkpoint_steps: int = 50
    seed: int = 0
    logger: Logger = "csv"
    threads: int = 0
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        """Collect every value of a wrong type, then every wrong value, and raise once."""
        if problems := _wrong_types(vars(self)):
            raise SettingError(f"training {self.name!r}: " + "; ".join(problems))
        bounds: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
            (_POSITIVE, lambda value: value > 0, "a positive number"),
            (_NOT_NEGATIVE, lambda value: value >= 0, "0 or more"),
            (_PARTS, lambda value: 0 <= value < 1, "a number in [0, 1)"),
            (("seed",), lambda value: abs(value) < 2**32, "a number below 2^32"),
        )
        problems = [
            f"{key} is {getattr(self, key)}; give {accepted}"
            for keys, holds, accepted in bounds
            for key in keys
            if not holds(getattr(self, key))
        ]
        problems += [
            f"{key} is {getattr(self, key)!r}; choose one of {', '.join(get_args(kind))}"
            for key, kind in _CHOICES.items()
            if getattr(self, key) not in get_args(kind)
        ]
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            problems.append(f"fold is {self.fold} of folds = {self.folds}; give 2 or more folds, and one of 0, 1, ...")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            problems.append("momentum is 0 and nesterov true; give a momentum, or nesterov = false")
        if len(self.mean) != len(self.std) or min(self.std, default=1) <= 0:
            problems.append(f"mean is {self.mean} and std {self.std}; give as many, and positive deviations")
        if problems:
            raise SettingError(f"training {self.name!r}: " + "; ".join(problems))


def config_from(values: Mapping[str, Any]) -> TrainingConfig:
    """Build a recipe from values that were read from a file, where tuples are lists.

    Raises:
        SettingError: They are no table of settings, or there is a wrong key, type or value.
    """
    if not isinstance(values, Mapping):
        raise SettingError(f"a recipe is a table of settings; found {values!r}")
    if problems := _wrong_keys(values):
        raise SettingError(f"training {values.get('name')!r}: {'; '.join(problems)}")
    tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return TrainingConfig(**tuples)


def read_config(path: str | Path) -> TrainingConfig:
    """Read a recipe from a TOML file whose keys are the fields of `TrainingConfig`.

    Raises:
        SettingError: The file is missing or no TOML, or has a wrong key, type or value.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(
            f"{file} cannot be read as a training recipe ({error}); experiments/train/ holds examples"
        ) from error
    values.setdefault("name", file.stem)
    for key, hint in _hints().items():
        if hint is float and type(values.get(key)) is int:
            values[key] = float(values[key])
    if problems := _wrong_keys(values) + _wrong_types(values):
        raise SettingError(f"{file}: {'; '.join(sorted(problems))}; accepted are {', '.join(sorted(_hints()))}")
    return config_from(values)


def _hints() -> dict[str, Any]:
    return get_type_hints(TrainingConfig)


def _wrong_keys(values: Mapping[str, Any]) -> list[str]:
    problems = [f"there is no setting {key!r}" for key in sorted(values.keys() - _hints().keys())]
    return problems + [f"{key!r} is missing" for key in ("name", "model", "data") if key not in values]


def _wrong_types(values: Mapping[str, Any]) -> list[str]:
    """What is said of settings of another type than their field's; choices are told by their values."""
    problems = []
    for key, hint in _hints().items():
        if key not in values or key in _CHOICES:
            continue
        value, kind = values[key], f"a value of type {getattr(hint, '__name__', '')}"
        if hint in (str, bool):
            right = isinstance(value, hint)
        elif hint in (int, float):
            right = _is_number(value, hint)
        elif key == "model_settings":
            right = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
            kind = "a table such as { width = 8 }"
        else:
            right = isinstance(value, list | tuple) and all(_is_number(part, float) for part in value)
            kind = "a list of numbers, one for each channel"
        if not right:
            problems.append(f"{key} is {value!r}; give {kind}")
    return problems


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
