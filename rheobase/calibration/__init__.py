"""Passes that improve a converted network with calibration data."""

from rheobase.calibration.confidence import measure_confidence
from rheobase.calibration.gradient import Tuning, tune

__all__ = ["Tuning", "measure_confidence", "tune"]
