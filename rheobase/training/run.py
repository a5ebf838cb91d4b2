"""`train`: a recipe, a folder, and what comes out of them; also after it was killed."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from rheobase import models
from rheobase.errors import SettingError
from rheobase.files import replacing, write_atomically
from rheobase.training.batches import Samples, ShuffledBatches
from rheobase.training.config import TrainingConfig
from rheobase.training.products import small_convolutions_as_products
from rheobase.training.provenance import write_provenance
from rheobase.training.samples import load_samples
from rheobase.training.task import Task, prepare

__all__ = ["TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave: the network in evaluation mode, its accuracy on the test split, its time."""

    config: TrainingConfig
    model: nn.Module
    accuracy: float
    seconds: float
    folder: Path


def train(
    config: TrainingConfig,
    folder: str | Path | None = None,
    *,
    data: tuple[Samples, Samples] | None = None,
    progress: bool = False,
) -> TrainingResult:
    """Train a network by a recipe. Where `folder` holds a checkpoint of this recipe, go on from there.

    Args:
        config: The recipe.
        folder: For ``last.ckpt``, ``log.csv`` and ``config.json``; ``runs/<name>`` where it is not given.
        data: Training and test samples, instead of the data set that the recipe names.
        progress: Whether Lightning shows a progress bar with the time left.

    Raises:
        SettingError: The folder holds a checkpoint of another recipe.
        DataError: The data cannot be read, or the loss became not finite.
    """
    place = Path(folder) if folder is not None else Path("runs") / config.name
    place.mkdir(parents=True, exist_ok=True)
    _check_recipe(config, place)
    write_provenance(place, config.threads)
    training, test = data if data is not None else load_samples(config)
    torch.manual_seed(config.seed)
    model = models.build(config.model, **config.model_settings)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = place / "last.ckpt"
    with _threads(config.threads), _silence(progress), small_convolutions_as_products(model):
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            precision=config.precision,
            accelerator="auto",
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            gradient_clip_val=config.clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            use_distributed_sampler=False,
            callbacks=[_Checkpoint(place, config.checkpoint_steps), _Log(place / "log.csv")],
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
    result = TrainingResult(config, model, accuracy(model, test, config), task.seconds, place)
    if trainer.is_global_zero:
        _replace(place / "result.json", {"accuracy": result.accuracy, "seconds": result.seconds})
    return result


def accuracy(model: nn.Module, samples: Samples, config: TrainingConfig, batch_size: int = 500) -> float:
    """The part of the samples whose class the network names, in float32."""
    correct = 0
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            answers = model(prepare(samples.inputs[part].to(device), config, None)).argmax(1)
            correct += int((answers.cpu() == samples.labels[part]).sum())
    return correct / len(samples)


def _check_recipe(config: TrainingConfig, place: Path) -> None:
    """A checkpoint goes with the recipe that made it, but for how often it is written and on what devices."""
    free = ("checkpoint_steps", "devices", "nodes", "strategy")
    recipe = json.loads(json.dumps(dataclasses.asdict(config), default=list))
    file = place / "config.json"
    if file.is_file() and (place / "last.ckpt").is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        differ = [key for key in recipe if key not in free and found.get(key, recipe[key]) != recipe[key]]
        if differ:
            changes = ", ".join(f"{key} {found.get(key)!r} is now {recipe[key]!r}" for key in differ)
            raise SettingError(f"{place} holds the checkpoint of another recipe ({changes}); name another folder")
    _replace(file, recipe)


def _replace(file: Path, value: Any) -> None:
    """Write JSON so that a kill at any moment leaves the old file or the new one."""
    write_atomically(file, json.dumps(value, indent=2) + "\n")


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
        # All processes must call save_checkpoint; the first one alone writes.
        with replacing(self._file) if trainer.is_global_zero else nullcontext(self._file) as place:
            trainer.save_checkpoint(place)


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
def _silence(progress: bool) -> Iterator[None]:
    """Keep Lightning's remarks off the screen, and its warnings about loaders that are not PyTorch's."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(level if progress else logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        log.setLevel(level)
