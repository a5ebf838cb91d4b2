"""What `import rheobase` offers; each name is imported when it is first used."""

from . import calibration, coding, curve, data, kernels, methods, models, neurons, observers
from .conversion import convert
from .curve import Curve
from .errors import (
    ConversionError,
    ConversionWarning,
    DataError,
    SettingError,
    UnsupportedOperationError,
)
from .evaluation import evaluate
from .exits import Exit
from .graph import Graph, trace
from .kernels import backends
from .memory import keep_memory
from .methods import MSAT, AnnealedDelta, Auto, ConstantThreshold, DeltaCoding, RateCoding
from .observers import Statistics, observe
from .plan import Plan
from .simulation import Run, simulate
from .spiking import SpikingModel, load

__version__: str

__all__ = [
    "MSAT",
    "AnnealedDelta",
    "Auto",
    "ConstantThreshold",
    "ConversionError",
    "ConversionWarning",
    "Curve",
    "DataError",
    "DeltaCoding",
    "Exit",
    "Graph",
    "Plan",
    "RateCoding",
    "Run",
    "SettingError",
    "SpikingModel",
    "Statistics",
    "UnsupportedOperationError",
    "backends",
    "calibration",
    "coding",
    "convert",
    "curve",
    "data",
    "evaluate",
    "keep_memory",
    "kernels",
    "load",
    "methods",
    "models",
    "neurons",
    "observe",
    "observers",
    "simulate",
    "trace",
]
