"""The training step, the optimizer and its learning rate, as a Lightning module."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from rheobase.errors import DataError
from rheobase.training.batches import ShuffledBatches
from rheobase.training.config import TrainingConfig
from rheobase.training.inputs import prepare

__all__ = ["Task", "learning_rate_factor"]


def learning_rate_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate of a step, as a part of the highest one; 0 after the last step.

    With s = step / steps and w = warmup: s / w below w, then (1 - s) / (1 - w) for one-cycle and
    (1 + cos(pi (s - w) / (1 - w))) / 2 for cosine.
    """
    if step < config.warmup * steps:
        return (step + 1) / (config.warmup * steps + 1)
    rest = (step / steps - config.warmup) / (1 - config.warmup)
    return max(0.0, 1 - rest) if config.schedule == "one-cycle" else (1 + math.cos(math.pi * rest)) / 2


class Task(lightning.LightningModule):
    """What Lightning trains: the network, its loss and its optimizer."""

    def __init__(self, model: nn.Module, batches: ShuffledBatches, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config, self.batches = model, config, batches
        self.seconds = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch, from a generator that depends on the seed and the step only.

        Raises:
            DataError: The loss is not finite.
        """
        step = self.global_step
        torch.manual_seed((self.config.seed * 1_000_003 + step) * 1024 + self.global_rank)
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        x = prepare(batch[0], self.config, generator)
        loss = F.cross_entropy(self.model(x).float(), batch[1], label_smoothing=self.config.label_smoothing)
        if not torch.isfinite(loss):
            raise DataError(self._explain(float(loss.detach()), x, step))
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def _explain(self, loss: float, x: Tensor, step: int) -> str:
        epoch, index = divmod(step, len(self.batches))
        rows = self.batches.rows(step)[:8].tolist()
        weights = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
        inputs = "finite" if bool(torch.isfinite(x.float()).all()) else "not finite: look at these samples"
        return (
            f"training {self.config.name!r}: the loss is {loss} in step {step} (epoch {epoch}, batch {index}, "
            f"rows {rows} and on of the training split); the weights are "
            f"{'finite' if weights else 'not finite'} and the inputs {inputs}; the learning rate is at most "
            f"{self.config.learning_rate}: lower it, lengthen the warmup, or set clip"
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Weights decay, biases and batch norm do not; the learning rate changes with every step."""
        config = self.config
        weights = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": config.weight_decay}]
        groups.append({"params": others, "weight_decay": 0.0})
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        else:
            optimizer = torch.optim.SGD(
                groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov
            )
        steps = config.epochs * len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
