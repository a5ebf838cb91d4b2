"""`train`: a recipe, a folder, and what comes out of them; also after it was killed."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from torch import nn

from rheobase import models
from rheobase.errors import SettingError
from rheobase.files import sweep
from rheobase.training.batches import Samples, ShuffledBatches
from rheobase.training.callbacks import Checkpoint, CheckpointReader, Log, Progress, Report
from rheobase.training.config import TrainingConfig
from rheobase.training.finished import read_recipe
from rheobase.training.inputs import check_samples
from rheobase.training.measure import accuracy
from rheobase.training.products import small_convolutions_as_products
from rheobase.training.provenance import write_provenance
from rheobase.training.records import write_record
from rheobase.training.samples import load_samples
from rheobase.training.task import Task

__all__ = ["Progress", "TrainingResult", "train"]

_FILES = ("last.ckpt", "log.csv", "config.json", "provenance.json", "result.json")


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave: the network in evaluation mode, its accuracy on the test samples, its time.

    Of several processes each has the network, the accuracy and the time of the first one, which is the one to print
    and write: `first` says whether this is it.
    """

    config: TrainingConfig
    model: nn.Module
    accuracy: float
    seconds: float
    folder: Path
    test_samples: int
    first: bool = True


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
        SettingError: The folder holds a checkpoint of another recipe, a package is missing, the samples do not fit the
            recipe, or Lightning refuses a setting.
        DataError: The data cannot be read, a file of the folder is damaged, or the loss became not finite.
    """
    place = Path(folder) if folder is not None else Path("runs") / config.name
    logger = _logger(config, place)
    torch.manual_seed(config.seed)
    model = models.build(config.model, **config.model_settings)
    training, test = data if data is not None else load_samples(config)
    check_samples(model, config, training, test)
    checkpoint = place / "last.ckpt"
    callbacks: list[Callback] = [Checkpoint(place, config.checkpoint_steps), Log(place / "log.csv")]
    callbacks += [LearningRateMonitor("step")] if logger else []
    callbacks += [Report(progress)] if progress is not None else []
    with _silence():
        trainer = _trainer(config, logger, callbacks, CheckpointReader(checkpoint, model))
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{place} cannot be made ({error.strerror}); name another folder") from error
    if trainer.is_global_zero:  # it alone writes; the others may come when it has begun
        _prepare_folder(config, place, resume)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with _threads(config.threads), _silence(), small_convolutions_as_products(model):
        batches = ShuffledBatches(
            training,
            config.batch_size,
            config.seed,
            lambda: trainer.global_step,
            lambda: (trainer.global_rank, trainer.world_size),
        )
        task = Task(model, batches, config)
        trainer.fit(task, batches, ckpt_path=checkpoint if resume and checkpoint.is_file() else None, weights_only=True)
    model.eval()
    first = trainer.is_global_zero  # its batch norm statistics are those of the checkpoint; it measures, for all
    found = accuracy(model, test, config) if first else math.nan
    state, found, seconds = trainer.strategy.broadcast((model.state_dict(), found, task.seconds))
    model.load_state_dict(state)
    result = TrainingResult(config, model, found, seconds, place, len(test), first)
    if first:
        write_record(place / "result.json", {"accuracy": result.accuracy, "seconds": result.seconds})
    return result


def _trainer(
    config: TrainingConfig, logger: Any, callbacks: list[Callback], reader: CheckpointReader
) -> lightning.Trainer:
    """What Lightning makes of the settings that are its own."""
    try:
        return lightning.Trainer(
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
            plugins=[reader],
        )
    except (ImportError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingError(
            f"training {config.name!r}: Lightning refuses strategy {config.strategy!r}, {config.devices} devices, "
            f"{config.nodes} nodes or precision {config.precision!r} ({reason}); change these"
        ) from error


def _prepare_folder(config: TrainingConfig, place: Path, resume: bool) -> None:
    """Remove what killed writers left, and without `resume` all files of a training; then write what is trained."""
    for name in _FILES:
        sweep(place / name)
        if not resume:
            (place / name).unlink(missing_ok=True)
    if not resume:
        shutil.rmtree(place / "tensorboard", ignore_errors=True)
    _check_recipe(config, place)
    write_record(place / "config.json", _as_json(config))
    write_provenance(place, config.threads)


def _check_recipe(config: TrainingConfig, place: Path) -> None:
    """A checkpoint goes with the recipe that made it, but for how often it is written, what logs, on what devices.

    A setting that an old recipe does not have had what is now its default.
    """
    free = ("checkpoint_steps", "logger", "devices", "nodes", "strategy")
    if (place / "config.json").is_file() and (place / "last.ckpt").is_file():
        recipe, found = _as_json(config), _as_json(read_recipe(place))
        differ = [key for key in recipe if key not in free and found[key] != recipe[key]]
        if differ:
            changes = ", ".join(f"{key} {found[key]!r} is now {recipe[key]!r}" for key in differ)
            raise SettingError(f"{place} holds the checkpoint of another recipe ({changes}); name another folder")


def _as_json(config: TrainingConfig) -> dict[str, Any]:
    """The recipe as it is read back from JSON: with lists for tuples."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=list))
    return values


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
