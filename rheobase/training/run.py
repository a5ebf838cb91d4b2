"""`train`: a recipe, a folder, and what comes out of them; also after it was killed."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from torch import nn

from rheobase import models
from rheobase.errors import SettingError
from rheobase.training.batches import Samples, ShuffledBatches
from rheobase.training.config import TrainingConfig, config_from
from rheobase.training.measure import accuracy
from rheobase.training.products import small_convolutions_as_products
from rheobase.training.provenance import write_provenance
from rheobase.training.samples import load_samples
from rheobase.training.task import Task

__all__ = ["Progress", "TrainingResult", "train"]

_FILES = ("last.ckpt", "log.csv", "config.json", "provenance.json", "result.json")


@dataclass(frozen=True)
class Progress:
    """Where a training is: steps done of all steps, the pass it is in (from 0), and the last loss."""

    step: int
    steps: int
    epoch: int
    loss: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave: the network in evaluation mode, its accuracy on the test samples, its time."""

    config: TrainingConfig
    model: nn.Module
    accuracy: float
    seconds: float
    folder: Path
    test_samples: int


def train(
    config: TrainingConfig,
    folder: str | Path | None = None,
    *,
    data: tuple[Samples, Samples] | None = None,
    progress: Callable[[Progress], None] | None = None,
    resume: bool = True,
) -> TrainingResult:
    """Train a network by a recipe. Where `folder` holds a checkpoint of this recipe, go on from there.

    Args:
        config: The recipe.
        folder: For ``last.ckpt``, ``log.csv`` and ``config.json``; ``runs/<name>`` where it is not given.
        data: Training and test samples, instead of the data set that the recipe names.
        progress: Called at the start and after every tenth step.
        resume: Whether to go on from a checkpoint; otherwise it and all files of that training are removed.

    Raises:
        SettingError: The folder holds a checkpoint of another recipe, or a package for the logger is missing.
        DataError: The data cannot be read, or the loss became not finite.
    """
    place = Path(folder) if folder is not None else Path("runs") / config.name
    logger = _logger(config, place)
    training, test = data if data is not None else load_samples(config)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{place} cannot be made ({error.strerror}); name another folder") from error
    if not resume:
        for name in _FILES:
            (place / name).unlink(missing_ok=True)
    _check_recipe(config, place)
    write_provenance(place, config.threads)
    torch.manual_seed(config.seed)
    model = models.build(config.model, **config.model_settings)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = place / "last.ckpt"
    callbacks: list[Callback] = [_Checkpoint(place, config.checkpoint_steps), _Log(place / "log.csv")]
    callbacks += [LearningRateMonitor("step")] if logger else []
    callbacks += [_Report(progress)] if progress is not None else []
    with _threads(config.threads), _silence(), small_convolutions_as_products(model):
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            precision=config.precision,
            accelerator="auto",
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            gradient_clip_val=config.clip or None,
            logger=logger,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            log_every_n_steps=10,
            callbacks=callbacks,
        )
        batches = ShuffledBatches(
            training,
            config.batch_size,
            config.seed,
            lambda: trainer.global_step,
            lambda: (trainer.global_rank, trainer.world_size),
        )
        task = Task(model, batches, config)
        trainer.fit(task, batches, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
    model.eval()
    result = TrainingResult(config, model, accuracy(model, test, config), task.seconds, place, len(test))
    if trainer.is_global_zero:
        _replace(place / "result.json", {"accuracy": result.accuracy, "seconds": result.seconds})
    return result


def _check_recipe(config: TrainingConfig, place: Path) -> None:
    """A checkpoint goes with the recipe that made it, but for how often it is written, what logs, on what devices.

    A setting that an old recipe does not have had what is now its default.
    """
    free = ("checkpoint_steps", "logger", "devices", "nodes", "strategy")
    recipe = json.loads(json.dumps(dataclasses.asdict(config), default=list))
    file = place / "config.json"
    if file.is_file() and (place / "last.ckpt").is_file():
        try:
            before = config_from(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise SettingError(f"{file} is damaged ({error}); name another folder") from error
        found = json.loads(json.dumps(dataclasses.asdict(before), default=list))
        differ = [key for key in recipe if key not in free and found[key] != recipe[key]]
        if differ:
            changes = ", ".join(f"{key} {found[key]!r} is now {recipe[key]!r}" for key in differ)
            raise SettingError(f"{place} holds the checkpoint of another recipe ({changes}); name another folder")
    _replace(file, recipe)


def _replace(file: Path, value: Any) -> None:
    """Write JSON so that a kill at any moment leaves the old file or the new one."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, file)


class _Checkpoint(Callback):
    """Writes ``last.ckpt`` beside itself and renames it, so that there is always a whole one."""

    def __init__(self, place: Path, every: int) -> None:
        self._file, self._every, self._since = place / "last.ckpt", every, time.monotonic()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        pl_module.seconds = float(checkpoint["seconds"])

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        now = time.monotonic()
        pl_module.seconds += now - self._since
        self._since = now
        checkpoint["seconds"] = pl_module.seconds

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self._every == 0:
            self._write(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        partial = self._file.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, self._file)


class _Log(Callback):
    """Appends step, loss, learning rate and time to a CSV file; a resumed run repeats the steps it lost."""

    def __init__(self, file: Path, every: int = 10) -> None:
        self._file, self._every = file, every

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero or trainer.global_step % self._every:
            return
        new = not self._file.is_file()
        with self._file.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(("step", "epoch", "loss", "learning_rate", "time"))
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            loss = float(outputs["loss"])
            writer.writerow(
                (trainer.global_step, trainer.current_epoch, f"{loss:.5f}", f"{rate:.6f}", int(time.time()))
            )


class _Report(Callback):
    """Says where the training is."""

    def __init__(self, report: Callable[[Progress], None], every: int = 10) -> None:
        self._report, self._every = report, every

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._say(trainer, pl_module, math.nan)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self._every == 0:
            self._say(trainer, pl_module, float(outputs["loss"]))

    def _say(self, trainer: Any, pl_module: Any, loss: float) -> None:
        steps = pl_module.config.epochs * len(pl_module.batches)
        self._report(Progress(trainer.global_step, steps, trainer.current_epoch, loss))


def _logger(config: TrainingConfig, place: Path) -> Any:
    """Lightning's logger for TensorBoard, or none: ``log.csv`` is always written."""
    if config.logger == "csv":
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(place, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise SettingError(
            f'training {config.name!r}: logger = "tensorboard" needs the package tensorboard; '
            "pip install 'rheobase[tensorboard]', or use \"csv\""
        ) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use so many CPU threads inside, and as many as before afterwards; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Lightning's remarks off the screen, and its warnings about loaders that are not PyTorch's."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        log.setLevel(level)
