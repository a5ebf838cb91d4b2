"""A network and real images to try things on, in seconds and without a download: handwritten digits.

The images are those that scikit-learn carries, 1,797 of 8 by 8 pixels: 1,000 to train with, which are
also those to calibrate with, and 797 that neither training nor conversion ever sees.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rheobase.errors import ConversionError, DataError

__all__ = ["Digits", "DigitsNet", "digits", "images", "train"]

_TRAINING_IMAGES = 1000


class Digits(NamedTuple):
    """A trained network, and batches ``(x, y)`` of its training and its test images."""

    model: nn.Module
    train: DataLoader[tuple[Tensor, ...]]
    test: DataLoader[tuple[Tensor, ...]]


class DigitsNet(nn.Module):
    """Three convolutions with batch norm, a residual sum and two max poolings.

    The first pooling follows a ReLU, and moves before the neurons at conversion. The second pools a
    sum, and stays where it is.

    Shape:
        (N, 1, 8, 8) -> (N, 10).
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(1, width), nn.MaxPool2d(2))  # (N, W, 4, 4)
        self.block = _convolution(width, width)
        self.pool = nn.MaxPool2d(2)  # (N, W, 2, 2)
        self.head = nn.Sequential(_convolution(width, 2 * width), nn.Flatten(), nn.Linear(8 * width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        logits: Tensor = self.head(self.pool(x + self.block(x)))
        return logits


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def images(split: str) -> tuple[Tensor, Tensor]:
    """The images and labels of a split, "train" or "test"; the split is always the same.

    Raises:
        DataError: there is no such split.
        ConversionError: scikit-learn is not installed.

    Shape:
        float32 (N, 1, 8, 8) from 0 to 1, and int64 (N,).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConversionError(
            "The digits come with scikit-learn, which is not installed: pip install 'rheobase[demo]'."
        ) from error
    if split not in ("train", "test"):
        raise DataError(f"The digits have no split {split!r}; accepted are 'train' and 'test'.")
    content = load_digits()
    x = torch.tensor(content.images, dtype=torch.float32).unsqueeze(1) / 16  # (N, 8, 8) -> (N, 1, 8, 8)
    y = torch.tensor(content.target, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    chosen = order[:_TRAINING_IMAGES] if split == "train" else order[_TRAINING_IMAGES:]
    return x[chosen], y[chosen]


def train(model: nn.Module, x: Tensor, y: Tensor, seed: int = 0, epochs: int = 15) -> None:
    """Train a network with Adam, and leave it in evaluation mode.

    Args:
        model: the network; it is changed.
        x: inputs. Shape (N, ...).
        y: classes. Shape (N,).
        seed: of the order of the samples.
        epochs: passes over the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            schedule.step()
    model.eval()


def digits(seed: int = 0, epochs: int = 15) -> Digits:
    """Train a `DigitsNet`; the same seed gives the same network, on the same machine with as many threads.

    Args:
        seed: of the initial weights and the order of the images.
        epochs: passes over the training images.

    Raises:
        ConversionError: scikit-learn is not installed.
    """
    x, y = images("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsNet()
    train(model, x, y, seed=seed, epochs=epochs)
    test = TensorDataset(*images("test"))
    return Digits(model, DataLoader(TensorDataset(x, y), batch_size=50), DataLoader(test, batch_size=50))
