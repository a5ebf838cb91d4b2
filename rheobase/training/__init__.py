"""Training of the networks in `rheobase.models`: recipes, checkpoints, the zoo.

Only `train` needs `lightning`, which takes seconds to import: it is imported with that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rheobase.training.config import TrainingConfig, config_from, read_config
from rheobase.training.folds import FoldSummary, fold_config, summarise
from rheobase.training.measure import AnnAccuracy, evaluate_ann, evaluate_run
from rheobase.training.publish import publish
from rheobase.training.samples import calibration_samples

if TYPE_CHECKING:
    from rheobase.training.run import Progress, TrainingResult, train

__all__ = [
    "AnnAccuracy",
    "FoldSummary",
    "Progress",
    "TrainingConfig",
    "TrainingResult",
    "calibration_samples",
    "config_from",
    "evaluate_ann",
    "evaluate_run",
    "fold_config",
    "publish",
    "read_config",
    "summarise",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in ("Progress", "TrainingResult", "train"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("rheobase.training.run"), name)
