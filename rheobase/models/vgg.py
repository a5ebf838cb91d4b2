"""VGG16 with batch norm for small images, with max or average pooling and any width.

References:
    K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015,
    arXiv:1409.1556, table 1, column D. As usual for 32x32 images, one linear layer takes the place of the
    three fully connected ones (14.7 M parameters).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from rheobase.errors import SettingError

__all__ = ["VGG", "Pooling", "vgg16"]

Pooling = Literal["max", "average"]

_BLOCKS = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # channels in units of the width


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions, each with batch norm and relu and ended by a 2x2 pooling.

    Args:
        classes: Outputs of the linear layer.
        width: Channels of the first block; 64 in the paper. The others have 2, 4, 8 and 8 times as many.
        pooling: ``"max"`` as in the paper, or ``"average"``, which a spiking network computes exactly.
        dropout: Probability of dropping a feature before the linear layer, in training.

    Shape:
        (N, 3, 32, 32) -> (N, classes).
    """

    def __init__(self, classes: int = 10, width: int = 64, pooling: Pooling = "max", dropout: float = 0.0) -> None:
        super().__init__()
        _check(classes, width, pooling, dropout)
        layers: list[nn.Module] = []
        inputs = 3
        for block in _BLOCKS:
            for factor in block:
                convolution = nn.Conv2d(inputs, factor * width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                layers += [convolution, nn.BatchNorm2d(factor * width), nn.ReLU()]
                inputs = factor * width
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, classes)."""
        result: Tensor = self.classifier(self.dropout(self.flatten(self.features(x))))
        return result


def vgg16(classes: int = 10, width: int = 64, pooling: Pooling = "max", dropout: float = 0.0) -> VGG:
    """The VGG16 for 32x32 images; see `VGG` for the arguments.

    >>> sum(p.numel() for p in vgg16().parameters())
    14724042
    """
    return VGG(classes, width, pooling, dropout)


def _check(classes: int, width: int, pooling: str, dropout: float) -> None:
    problems = []
    if classes < 1:
        problems.append(f"classes is {classes}; give a positive number")
    if width < 1:
        problems.append(f"width is {width}; give a positive number of channels")
    if pooling not in ("max", "average"):
        problems.append(f"pooling is {pooling!r}; choose 'max' or 'average'")
    if not 0 <= dropout < 1:
        problems.append(f"dropout is {dropout}; give a probability in [0, 1)")
    if problems:
        raise SettingError("VGG16: " + "; ".join(problems))
