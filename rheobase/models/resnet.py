"""Residual networks: the CIFAR ResNet-20 and the ResNet-34, with any width.

References:
    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, 2016,
    arXiv:1512.03385. Section 4.2 for the CIFAR networks, table 1 for ResNet-34, section 4.1 for the
    shortcut options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from rheobase.errors import SettingError

__all__ = ["BasicBlock", "PaddedShortcut", "ResNet", "Shortcut", "Stem", "resnet20", "resnet34"]

Shortcut = Literal["A", "B", "C"]
Stem = Literal["cifar", "imagenet"]


class PaddedShortcut(nn.Module):
    """Option A: every stride-th pixel, and channels of zeros on both sides. It has no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        sliced = x[:, :, :: self.stride, :: self.stride]
        return F.pad(sliced, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)), F = conv3x3, batch norm, relu, conv3x3, batch norm.

    Args:
        inputs: Channels of x.
        outputs: Channels of y.
        stride: Stride of the first convolution and of the shortcut.
        shortcut: ``"A"`` pads with zeros, ``"B"`` projects where the shape changes, ``"C"`` everywhere.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        result: Tensor = self.relu(y + self.downsample(x))
        return result


class ResNet(nn.Module):
    """A residual network of basic blocks; its keys are those of torchvision's ResNet-34.

    Args:
        blocks: Basic blocks in each group; the first of every group but the first halves the size.
        width: Channels of the first group; each further group doubles them.
        classes: Outputs of the linear layer.
        shortcut: ``"A"``, ``"B"`` or ``"C"``, see `BasicBlock`.
        stem: ``"cifar"`` (3x3, stride 1) or ``"imagenet"`` (7x7, stride 2, and a max pooling of stride 2).

    Shape:
        (N, 3, H, W) -> (N, classes).
    """

    def __init__(
        self,
        blocks: Sequence[int],
        width: int,
        classes: int,
        shortcut: Shortcut = "B",
        stem: Stem = "cifar",
    ) -> None:
        super().__init__()
        _check(blocks, width, classes, shortcut, stem)
        imagenet = stem == "imagenet"
        size, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = nn.Conv2d(3, width, size, stride=stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        self.groups = len(blocks)
        inputs = width
        for group, count in enumerate(blocks):
            outputs = width * 2**group
            layers = []
            for index in range(count):
                first = 2 if group > 0 and index == 0 else 1
                layers.append(BasicBlock(inputs, outputs, first, shortcut))
                inputs = outputs
            self.add_module(f"layer{group + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for group in range(self.groups):
            x = self.get_submodule(f"layer{group + 1}")(x)
        x = self.avgpool(x).flatten(1)
        result: Tensor = self.fc(x)
        return result


def resnet20(classes: int = 10, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """The CIFAR ResNet-20: 3 groups of 3 blocks, `width`, 2 and 4 times `width` channels (0.27 M at 16).

    Shape:
        (N, 3, 32, 32) -> (N, classes).

    >>> sum(p.numel() for p in resnet20().parameters())
    269722
    """
    return ResNet((3, 3, 3), width, classes, shortcut, "cifar")


def resnet34(classes: int = 1000, width: int = 64, shortcut: Shortcut = "B", stem: Stem = "imagenet") -> ResNet:
    """The ResNet-34: 4 groups of 3, 4, 6 and 3 blocks (21.8 M parameters with its ImageNet stem).

    Shape:
        (N, 3, 224, 224) -> (N, classes); (N, 3, 32, 32) with the CIFAR stem.
    """
    return ResNet((3, 4, 6, 3), width, classes, shortcut, stem)


def _shortcut(inputs: int, outputs: int, stride: int, option: Shortcut) -> nn.Module:
    changes = stride != 1 or inputs != outputs
    if option == "C" or (option == "B" and changes):
        projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        return nn.Sequential(projection, nn.BatchNorm2d(outputs))
    return PaddedShortcut(inputs, outputs, stride) if changes else nn.Identity()


def _check(blocks: Sequence[int], width: int, classes: int, shortcut: str, stem: str) -> None:
    problems = []
    if not blocks or min(blocks) < 1:
        problems.append(f"blocks is {tuple(blocks)}; give one positive number for each group, such as (3, 3, 3)")
    if width < 1:
        problems.append(f"width is {width}; give a positive number of channels")
    if classes < 1:
        problems.append(f"classes is {classes}; give a positive number")
    if shortcut not in ("A", "B", "C"):
        problems.append(f"shortcut is {shortcut!r}; choose 'A', 'B' or 'C'")
    if stem not in ("cifar", "imagenet"):
        problems.append(f"stem is {stem!r}; choose 'cifar' or 'imagenet'")
    if problems:
        raise SettingError("ResNet: " + "; ".join(problems))
