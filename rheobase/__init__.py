"""Rheobase converts trained PyTorch networks into spiking networks, and says what it cost.

>>> import torch, rheobase as rb
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> snn = rb.convert(net, torch.rand(64, 4), rb.MSAT.resnet20())
>>> rb.simulate(snn, torch.rand(3, 4), steps=32).output.shape
torch.Size([3, 2])
"""

from rheobase.conversion import convert
from rheobase.curve import Curve
from rheobase.errors import (
    ConversionError,
    ConversionWarning,
    DataError,
    SettingError,
    UnsupportedOperationError,
)
from rheobase.evaluation import evaluate
from rheobase.exits import Exit
from rheobase.graph import Graph, trace
from rheobase.kernels import backends
from rheobase.memory import keep_memory
from rheobase.methods import MSAT, AnnealedDelta, Auto, ConstantThreshold, DeltaCoding, RateCoding
from rheobase.observers import Statistics, observe
from rheobase.plan import Plan
from rheobase.simulation import Run, simulate
from rheobase.spiking import SpikingModel, load

__version__ = "0.1.0"

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
    "convert",
    "evaluate",
    "keep_memory",
    "load",
    "observe",
    "simulate",
    "trace",
]
