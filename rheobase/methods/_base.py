"""What a conversion method is: three questions, answered one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, fields

from rheobase.batches import Batches
from rheobase.graph import Graph
from rheobase.observers import Observer, Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel

__all__ = ["Method"]


class Method(ABC):
    """A conversion method; subclasses are frozen dataclasses whose fields are its hyper-parameters.

    ``repr(method)`` is its line in a results table, and the same text names it on the command line:
    the hyper-parameters that differ from their defaults. Subclasses need ``@dataclass(frozen=True,
    repr=False)`` for it.
    """

    def __repr__(self) -> str:
        changed = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                changed.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(changed)})"

    def resolve(self, graph: Graph, batches: Batches) -> tuple[Method, str]:
        """The method that is to be used, and why; a method is itself, unless it chooses among others."""
        return self, ""

    def clips(self) -> bool:
        """Whether neurons send at most the threshold that a site was trained with (`rheobase.qcfs`).

        `rheobase.convert` refuses a network that was trained so where they do not.
        """
        return False

    @abstractmethod
    def observer(self) -> Observer:
        """What to measure at each site of the ANN, on the calibration data."""

    @abstractmethod
    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        """Decide the neurons of each site. Changes nothing."""

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        """Improve the converted network with calibration data; by default it stays as it is."""
        return snn
