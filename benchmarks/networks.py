"""The networks that methods are compared on, each with calibration and test images.

Besides those of the zoo and the ResNet-20 of $RHEOBASE_WEIGHTS there are two that are trained in seconds on the
handwritten digits of scikit-learn: `cnn-digits`, the network of `rheobase demo`, and `resnet56-digits`, which is deep;
and `resnet34-random-cifar10`, whose weights are random, so that only its agreement with itself says something.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.pixels import calibration_images, test_images
from rheobase import demo, models
from rheobase.digest import digest, weights
from rheobase.models import AKAMASTER_MEAN, AKAMASTER_STD, load_akamaster
from rheobase.models.resnet import ResNet

__all__ = ["Bench", "bench"]


@dataclass(frozen=True)
class Bench:
    """A network with its data."""

    name: str
    model: nn.Module
    calibration: Tensor
    test: Any
    weights: str


def bench(name: str, count: int, calibration: int, device: str = "cpu") -> Bench:
    """The network, calibration images and the first test images, the network on a device."""
    batch = 50 if device == "cpu" else 250
    if name.endswith("-digits"):
        model, x, tests = _digits(name)
        tests, x = TensorDataset(*(values[:count] for values in tests)), x[:calibration]
        return Bench(name, model.to(device), x.to(device), DataLoader(tests, batch_size=batch), digest(weights(model)))
    if name == "resnet20-cifar10":
        file = Path(os.environ.get("RHEOBASE_WEIGHTS", "../shared/weights")) / "resnet20-cifar10.th"
        model, mean, std = load_akamaster(file), AKAMASTER_MEAN, AKAMASTER_STD
        known = hashlib.sha256(file.read_bytes()).hexdigest()
    elif name == "resnet34-random-cifar10":
        mean, std = AKAMASTER_MEAN, AKAMASTER_STD
        model = _random(calibration_images("cifar10", mean, std, 64))
        known = digest(weights(model))
    else:
        loaded = models.load(name)
        model, mean, std, known = loaded.model, loaded.card.mean, loaded.card.std, loaded.card.sha256
    data = name.rpartition("-")[2]
    x = calibration_images(data, mean, std, calibration)
    test = DataLoader(test_images(data, mean, std, count), batch_size=batch)
    return Bench(name, model.eval().to(device), x.to(device), test, known)


@torch.no_grad()
def _random(x: Tensor) -> nn.Module:
    """A ResNet-34 of 16 to 128 channels with random weights, and a last bias that lets all classes occur."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.resnet34(10, 16, "A", "cifar").eval()
    model.fc.bias -= model(x).mean(0)
    return model


def _digits(name: str) -> tuple[nn.Module, Tensor, tuple[Tensor, Tensor]]:
    """A network trained with the seed 0, the training images, and the test images with their labels."""
    (x, y), (test, labels) = demo.images("train"), demo.images("test")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        deep = name.startswith("resnet56")
        model = ResNet((9, 9, 9), 8, 10, "A") if deep else demo.DigitsNet()
    if deep:
        x, test = (images.expand(-1, 3, -1, -1).contiguous() for images in (x, test))
    demo.train(model, x, y)
    return model, x, (test, labels)
