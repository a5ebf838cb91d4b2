"""Training of the networks in `rheobase.models`, through `lightning`: recipes, checkpoints, the zoo."""

from __future__ import annotations

from rheobase.training.config import TrainingConfig, read_config
from rheobase.training.folds import FoldSummary, fold_config, summarise
from rheobase.training.publish import AnnAccuracy, evaluate_ann, publish
from rheobase.training.run import Progress, TrainingResult, train

__all__ = [
    "AnnAccuracy",
    "FoldSummary",
    "Progress",
    "TrainingConfig",
    "TrainingResult",
    "evaluate_ann",
    "fold_config",
    "publish",
    "read_config",
    "summarise",
    "train",
]
