"""What happens beside the steps of a training: checkpoints, the log, and word of where it is."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from rheobase.files import replacing
from rheobase.training.records import load_checkpoint

__all__ = ["Checkpoint", "CheckpointReader", "Log", "Progress", "Report"]


@dataclass(frozen=True)
class Progress:
    """Where a training is: steps done of all steps, the pass it is in (from 0), and the last loss."""

    step: int
    steps: int
    epoch: int
    loss: float


class Checkpoint(Callback):
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


class CheckpointReader(TorchCheckpointIO):
    """Reads the checkpoint of a training for Lightning, and refuses one that is damaged or of another network."""

    def __init__(self, file: Path, model: nn.Module) -> None:
        self._file, self._model = file, model

    def load_checkpoint(self, path: Any, *args: Any, **settings: Any) -> dict[str, Any]:
        """The content of the file; tensors are on the processor.

        Raises:
            DataError: As `rheobase.training.records.load_checkpoint`.
        """
        if Path(path) != self._file:  # what the processes of ddp_fork hand over
            return super().load_checkpoint(path, *args, **settings)
        return load_checkpoint(self._file, self._model)


class Log(Callback):
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


class Report(Callback):
    """Says where the training is."""

    def __init__(self, report: Callable[[Progress], None], every: int = 10) -> None:
        self._report, self._every = report, every

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._say(trainer, pl_module, math.nan)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self._every == 0:
            self._say(trainer, pl_module, float(outputs["loss"]))

    def _say(self, trainer: Any, pl_module: Any, loss: float) -> None:
        if not trainer.is_global_zero:
            return
        steps = pl_module.config.epochs * len(pl_module.batches)
        self._report(Progress(trainer.global_step, steps, trainer.current_epoch, loss))
