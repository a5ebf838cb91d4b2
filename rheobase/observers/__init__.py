"""Observers: what the pre-activations at each site look like on the calibration data.

``observe(graph, batches, observer)`` runs the data through the network once, hands each pre-activation z to
a clone of the observer, and returns ``Statistics``. ``Moments`` measures z itself, all others the activation
a = max(z, 0): ``Max``, ``Percentile``, ``MMSE`` and ``LTB`` give a scale for thresholds, ``Histogram`` the
distribution. All of them stream: their memory does not grow with the data. All of them count or compare: how
the data were split into batches, and in which order they came, does not change the result (for ``Moments``,
not beyond float64 rounding).
"""

from rheobase.observers._base import Observer
from rheobase.observers.histogram import Histogram, Percentile
from rheobase.observers.ltb import LTB
from rheobase.observers.maximum import Max
from rheobase.observers.mmse import MMSE
from rheobase.observers.moments import Moments
from rheobase.observers.statistics import Observable, Statistics, observe

__all__ = [
    "LTB",
    "MMSE",
    "Histogram",
    "Max",
    "Moments",
    "Observable",
    "Observer",
    "Percentile",
    "Statistics",
    "observe",
]
