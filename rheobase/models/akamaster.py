"""The pretrained CIFAR-10 ResNet-20 of akamaster/pytorch_resnet_cifar10, from a file that the user names.

References:
    Y. Idelbayev: Proper ResNet implementation for CIFAR10/CIFAR100 in PyTorch,
    https://github.com/akamaster/pytorch_resnet_cifar10 (91.73 % on the CIFAR-10 test set).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from rheobase.errors import DataError
from rheobase.models.resnet import ResNet, resnet20

__all__ = ["AKAMASTER_MEAN", "AKAMASTER_STD", "load_akamaster"]

AKAMASTER_MEAN = (0.485, 0.456, 0.406)
"""Subtracted from the pixels (in 0..1), one value for each channel."""
AKAMASTER_STD = (0.229, 0.224, 0.225)
"""What the pixels are then divided by."""

_WANTED = (
    "expected resnet20-*.th of github.com/akamaster/pytorch_resnet_cifar10: a state dict under "
    "'state_dict', with the key prefix 'module.'"
)


def load_akamaster(path: str | Path) -> ResNet:
    """Load akamaster's ResNet-20 for CIFAR-10, in evaluation mode.

    Args:
        path: The weights file, such as ``pretrained_models/resnet20-12fca82f.th`` of that repository.

    Returns:
        The network. Its input is the pixels in 0..1, less `AKAMASTER_MEAN`, divided by `AKAMASTER_STD`.

    Raises:
        DataError: The file is missing, unreadable or holds other weights.
    """
    file = Path(path)
    state = _read(file)
    model = resnet20()
    wanted = model.state_dict()
    problems = [f"{key} is missing" for key in wanted.keys() - state.keys() if "num_batches" not in key]
    problems += [f"{key} is not a key of ResNet-20" for key in state.keys() - wanted.keys()]
    problems += [
        f"{key} has shape {tuple(value.shape)}, ResNet-20 has {tuple(wanted[key].shape)}"
        for key, value in state.items()
        if key in wanted and value.shape != wanted[key].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{file} does not hold the weights of a CIFAR-10 ResNet-20: {shown}{more}; {_WANTED}")
    # Files written before PyTorch 0.4.1 have no batch counters; they play no part in evaluation.
    counters = {key: value for key, value in wanted.items() if "num_batches" in key}
    model.load_state_dict({**counters, **state})
    return model.eval()


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise DataError(f"no weights file at {file.absolute()}; {_WANTED}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        kind = type(error).__name__  # the text of torch's errors advises to load the file unsafely
        raise DataError(f"{file} is no PyTorch weights file, or is damaged ({kind}); {_WANTED}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{file} has no tensors under 'state_dict' (found {keys}); {_WANTED}")
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    return {"fc" + key[6:] if key.startswith("linear.") else key: value for key, value in plain.items()}
