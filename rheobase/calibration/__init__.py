"""Passes that need calibration data and the converted network."""

from rheobase.calibration.confidence import measure_confidence

__all__ = ["measure_confidence"]
