"""From stored samples to what a network takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rheobase import augment
from rheobase.errors import SettingError
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig

__all__ = ["check_samples", "prepare"]


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


def check_samples(model: nn.Module, config: TrainingConfig, training: Samples, test: Samples) -> None:
    """Refuse samples that do not go with the recipe or its network, before the first step rather than in it.

    Raises:
        SettingError: A split is empty, its channels, sizes or labels are not those of the recipe, the network cannot
            take its samples, or a package for the augmentation is missing.
    """
    problems = []
    for split, samples in (("training", training), ("test", test)):
        if not len(samples):
            problems.append(f"the {split} split has no samples; give at least one")
        elif samples.inputs.dtype == torch.uint8:
            _, channels, height, width = samples.inputs.shape
            if channels != len(config.mean):
                problems.append(
                    f"mean and std have {len(config.mean)} values and the {split} images {channels} channels; "
                    "give one value for each channel"
                )
            if split == "training" and config.crop >= min(height, width):
                problems.append(
                    f"crop is {config.crop} and the images have {height} x {width} pixels; "
                    f"give at most {min(height, width) - 1}"
                )
    problems = problems or _misfits(model, config, training, test)
    if problems:
        raise SettingError(f"training {config.name!r}: " + "; ".join(problems))


def _misfits(model: nn.Module, config: TrainingConfig, training: Samples, test: Samples) -> list[str]:
    """What two samples of each split show: whether the network takes them, and whether it has their classes."""
    try:
        with torch.inference_mode():
            model.eval()
            model(prepare(test.inputs[:2], config, None))
            classes = model(prepare(training.inputs[:2], config, torch.Generator())).shape[-1]
    except ModuleNotFoundError as error:
        return [
            f"auto_augment needs the package {error.name}; pip install 'rheobase[train]', or give auto_augment = false"
        ]
    except (IndexError, RuntimeError, ValueError) as error:
        shape, reason = tuple(training.inputs.shape[1:]), " ".join(str(error).split())[:200]
        return [f"{config.model} cannot take samples of shape {shape} ({reason}); name other data"]
    finally:
        model.train()
    low, high = (int(bound) for bound in torch.cat([training.labels, test.labels]).aminmax())
    if low >= 0 and high < classes:
        return []
    found = f"the network has {classes} classes and the labels are {low} to {high}"
    return [f"{found}; give model_settings = {{ classes = {high + 1} }}, and count labels from 0"]
