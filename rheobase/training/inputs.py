"""From stored samples to what a network takes."""

from __future__ import annotations

import torch
from torch import Tensor

from rheobase import augment
from rheobase.training.config import TrainingConfig

__all__ = ["prepare"]


def prepare(x: Tensor, config: TrainingConfig, generator: torch.Generator | None) -> Tensor:
    """Turn a batch of stored inputs into what the network takes; with a generator, augment it too.

    Shape:
        Images uint8 (N, C, H, W) -> float32; waveforms float32 (N, C, L) and tokens int64 (N, L) as they are.
    """
    if x.dtype == torch.uint8:
        if generator is not None and config.crop:
            x = augment.shift_images(x, config.crop, generator)
        if generator is not None and config.flip:
            x = augment.flip(x, generator)
        x = x.float().div_(255)
        if generator is not None and config.auto_augment:
            x = augment.auto_augment(x)
        mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (config.mean, config.std))
        x = x.sub_(mean).div_(std)
        if generator is not None and config.cutout:
            x = augment.cutout(x, config.cutout, generator)
        return x.contiguous(memory_format=torch.channels_last)
    if x.is_floating_point() and generator is not None:
        x = augment.shift_waves(x, config.crop, generator) if config.crop else x
        x = augment.noise(x, config.noise, generator) if config.noise else x
    return x
