"""Spiking neurons, one family a file. Each is the definition of its equations."""

from rheobase.neurons._base import Neuron, Temporal
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.bdett import BDETT
from rheobase.neurons.biased import Biased
from rheobase.neurons.confidence import SpikeConfidence
from rheobase.neurons.differential import Differential
from rheobase.neurons.edges import EdgeTransmission
from rheobase.neurons.graded import GradedIF
from rheobase.neurons.integrate_fire import IF
from rheobase.neurons.max_pool import CumulativeMaxPool, MaxPoolGate
from rheobase.neurons.msat import MSAT, Adaptation
from rheobase.neurons.retracting import Retracting
from rheobase.neurons.rounded import Rounded
from rheobase.neurons.signed_msat import SignedMSAT
from rheobase.neurons.synchronous import Parallel, Probabilistic, Radix
from rheobase.neurons.two_phase import OffsetIF, ResidualIF

__all__ = [
    "BDETT",
    "IF",
    "MSAT",
    "Adaptation",
    "Alphabet",
    "Biased",
    "CumulativeMaxPool",
    "Differential",
    "EdgeTransmission",
    "GradedIF",
    "MaxPoolGate",
    "Neuron",
    "OffsetIF",
    "Parallel",
    "Payload",
    "Probabilistic",
    "Radix",
    "ResidualIF",
    "Retracting",
    "Rounded",
    "SignedMSAT",
    "SpikeConfidence",
    "Temporal",
]
