"""The networks of the paper: VGG16, ResNet-20 and ResNet-34, M5 and a bidirectional LSTM."""

from __future__ import annotations

from rheobase.models.akamaster import AKAMASTER_MEAN, AKAMASTER_STD, load_akamaster
from rheobase.models.build import build
from rheobase.models.resnet import ResNet, resnet20, resnet34
from rheobase.models.vgg import VGG, vgg16

__all__ = [
    "AKAMASTER_MEAN",
    "AKAMASTER_STD",
    "VGG",
    "ResNet",
    "build",
    "load_akamaster",
    "resnet20",
    "resnet34",
    "vgg16",
]
