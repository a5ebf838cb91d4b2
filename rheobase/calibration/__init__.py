"""Passes that improve a converted network with calibration data."""

from rheobase.calibration.bias import calibrate_bias, calibrate_potential, calibrate_temporal_bias
from rheobase.calibration.confidence import measure_confidence
from rheobase.calibration.display import shown
from rheobase.calibration.gradient import Tuning, tune, tune_layers
from rheobase.calibration.layerwise import Layer, layerwise
from rheobase.calibration.session import Progress, session
from rheobase.calibration.weights import calibrate_weights

__all__ = [
    "Layer",
    "Progress",
    "Tuning",
    "calibrate_bias",
    "calibrate_potential",
    "calibrate_temporal_bias",
    "calibrate_weights",
    "layerwise",
    "measure_confidence",
    "session",
    "shown",
    "tune",
    "tune_layers",
]
