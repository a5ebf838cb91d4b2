"""Training of the networks in `rheobase.models`, through `lightning`: recipes, checkpoints, the zoo."""

from __future__ import annotations

from rheobase.training.config import TrainingConfig, read_config
from rheobase.training.run import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "read_config", "train"]
