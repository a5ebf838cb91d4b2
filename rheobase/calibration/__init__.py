"""Passes that improve a converted network with calibration data."""

from rheobase.calibration.bias import calibrate_bias, calibrate_potential, calibrate_temporal_bias
from rheobase.calibration.confidence import measure_confidence
from rheobase.calibration.gradient import Tuning, tune, tune_layers
from rheobase.calibration.layerwise import Layer, layerwise

__all__ = [
    "Layer",
    "Tuning",
    "calibrate_bias",
    "calibrate_potential",
    "calibrate_temporal_bias",
    "layerwise",
    "measure_confidence",
    "tune",
    "tune_layers",
]
