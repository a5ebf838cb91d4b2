"""Training of the networks in `rheobase.models`, through `lightning`: recipes, checkpoints, the zoo."""

from __future__ import annotations

from rheobase.training.config import TrainingConfig, read_config
from rheobase.training.publish import AnnAccuracy, evaluate_ann, publish
from rheobase.training.run import TrainingResult, train

__all__ = ["AnnAccuracy", "TrainingConfig", "TrainingResult", "evaluate_ann", "publish", "read_config", "train"]
