"""Augmentation of whole batches on tensors. The random numbers come from the generator that is given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

__all__ = ["auto_augment", "cutmix", "cutout", "flip", "mixup", "noise", "shift_images", "shift_waves"]


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images, left to right."""
    chosen = torch.rand(len(x), generator=generator, dtype=torch.float32).lt(0.5).to(x.device)
    return torch.where(chosen.view(-1, 1, 1, 1), x.flip(3), x)


def shift_images(x: Tensor, pixels: int, generator: Generator) -> Tensor:
    """Move each image by up to `pixels` in both directions; its mirror image fills the border."""
    count, _, height, width = x.shape
    padded = F.pad(x.float(), (pixels,) * 4, mode="reflect").to(x.dtype)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p+1, 2p+1, H, W), no copy
    down, right = (torch.randint(2 * pixels + 1, (2, count), generator=generator)).to(x.device)
    return windows[torch.arange(count, device=x.device), :, down, right]


def cutout(x: Tensor, side: int, generator: Generator) -> Tensor:
    """Set a square at a random place to 0 (the mean, after normalisation); it may stick out.

    References:
        T. DeVries, G. Taylor: Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
        arXiv:1708.04552.
    """
    rows, columns = (
        _stretch(size, torch.randint(size, (len(x), 1), generator=generator) - side // 2, side) for size in x.shape[2:]
    )
    return x.masked_fill(_rectangles(rows, columns).to(x.device), 0.0)


def _stretch(size: int, start: Tensor, length: Tensor | int) -> Tensor:
    """Which of ``size`` places are among the ``length`` from ``start`` on. (N, 1) -> (N, size)."""
    place = torch.arange(size)
    return (place >= start) & (place < start + length)


def _rectangles(rows: Tensor, columns: Tensor) -> Tensor:
    """The places of chosen rows and columns. (N, H), (N, W) -> (N, 1, H, W)."""
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def mixup(x: Tensor, generator: Generator) -> Tensor:
    """Blend each image with another one of the batch, of which it keeps at least half.

    References:
        H. Zhang et al.: mixup: Beyond Empirical Risk Minimization, 2018, arXiv:1710.09412.
    """
    other = x[torch.randperm(len(x), generator=generator).to(x.device)]
    share = 0.5 + 0.5 * torch.rand(len(x), *[1] * (x.ndim - 1), generator=generator, dtype=torch.float32).to(x.device)
    return share * x + (1 - share) * other


def cutmix(x: Tensor, generator: Generator) -> Tensor:
    """Put a rectangle of another image of the batch into each, with sides of a quarter to three quarters of its own.

    References:
        S. Yun et al.: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019,
        arXiv:1905.04899.
    """
    count = len(x)
    other = x[torch.randperm(count, generator=generator).to(x.device)]
    stretches = []
    for size in x.shape[2:]:
        side = ((0.25 + 0.5 * torch.rand(count, 1, generator=generator, dtype=torch.float32)) * size).round()
        start = (torch.rand(count, 1, generator=generator, dtype=torch.float32) * (size - side + 1)).floor()
        stretches.append(_stretch(size, start, side))
    return torch.where(_rectangles(*stretches).to(x.device), other, x)


def auto_augment(x: Tensor) -> Tensor:
    """Apply the AutoAugment policy for CIFAR-10 to images in 0..1, a sub-policy of its own for each.

    It draws from PyTorch's global generator.

    References:
        E. Cubuk et al.: AutoAugment: Learning Augmentation Strategies from Data, 2019, arXiv:1805.09501.
    """
    from kornia.augmentation.auto import AutoAugment

    policies = list(AutoAugment(policy="cifar10").children())  # which as a whole draws one for all images
    drawn = torch.randint(len(policies), (len(x),)).to(x.device)
    result = x.clone()
    for i in set(drawn.tolist()):
        result[drawn == i] = policies[i](x[drawn == i])
    return result


def shift_waves(x: Tensor, samples: int, generator: Generator) -> Tensor:
    """Move each waveform by up to `samples`; silence fills the gap. (N, C, L) -> (N, C, L)."""
    count, _, length = x.shape
    windows = F.pad(x, (samples, samples)).unfold(2, length, 1)  # (N, C, 2s+1, L), no copy
    start = torch.randint(2 * samples + 1, (count,), generator=generator).to(x.device)
    return windows[torch.arange(count, device=x.device), :, start]


def noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Add Gaussian noise whose standard deviation is drawn from 0..`deviation` for each sample."""
    level = torch.rand(len(x), *[1] * (x.dim() - 1), generator=generator, dtype=torch.float32) * deviation
    return x + (level * torch.randn(x.shape, generator=generator)).to(x.device)
