"""The networks of the paper: VGG16, ResNet-20 and ResNet-34, M5 and a bidirectional LSTM."""

from __future__ import annotations

from rheobase.models.akamaster import AKAMASTER_MEAN, AKAMASTER_STD, load_akamaster
from rheobase.models.build import build
from rheobase.models.lstm import BiLSTM, bilstm
from rheobase.models.m5 import M5, m5
from rheobase.models.resnet import ResNet, resnet20, resnet34
from rheobase.models.vgg import VGG, vgg16
from rheobase.models.zoo import Card, Pretrained, load, names, read_card

__all__ = [
    "AKAMASTER_MEAN",
    "AKAMASTER_STD",
    "M5",
    "VGG",
    "BiLSTM",
    "Card",
    "Pretrained",
    "ResNet",
    "bilstm",
    "build",
    "load",
    "load_akamaster",
    "m5",
    "names",
    "read_card",
    "resnet20",
    "resnet34",
    "vgg16",
]
