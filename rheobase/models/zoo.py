"""The zoo: weights that we trained, in half precision, each with a card that says where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rheobase.errors import DataError
from rheobase.files import sweep, write_atomically
from rheobase.models.build import build, fill
from rheobase.models.texts import read_tokenizer, token_numbers

__all__ = ["Card", "Pretrained", "load", "names", "read_card", "store", "table", "where_the_zoo_is", "zoo_folder"]


@dataclass(frozen=True)
class Card:
    """What is known about a weights file; the JSON file beside it.

    Args:
        name: Of the file, without its suffix.
        model: The builder of `rheobase.models`.
        model_settings: Its arguments.
        data: The data set.
        mean: What is subtracted from the pixels (in 0..1), one value for each channel; of images alone.
        std: What they are then divided by.
        accuracy: The part of the test samples that the stored, rounded weights classify correctly.
        test_samples: How many test samples there were: all of them.
        parameters: Number of trainable numbers.
        recipe: The training recipe, as `rheobase.training` reads it.
        seconds: Wall-clock time of the training.
        hardware: What it ran on.
        commit: Of this repository, when the training began.
        versions: Of PyTorch and Lightning.
        sha256: Of the weights file.
        tokenizer_sha256: Of the tokenizer beside it; "" where there is none, as the network takes no texts.
    """

    name: str
    model: str
    model_settings: Mapping[str, Any]
    data: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float
    test_samples: int
    parameters: int
    recipe: Mapping[str, Any]
    seconds: float
    hardware: str
    commit: str
    versions: Mapping[str, str]
    sha256: str
    tokenizer_sha256: str = ""


_TEXTS = ("bilstm",)
_LOUDEST = 8.0  # samples of float recordings, and resampled ones, may leave -1..1, but not by as much
_ROUNDING = 1e-3  # by which pixels that were scaled or averaged may leave 0..1

_AS_IT_IS: dict[str, tuple[str, Callable[[Tensor], bool]]] = {  # networks whose input needs no transform
    "m5": (
        "float32 waveforms (..., 1, L) of 8,000 samples a second: L = 8000, as `rheobase.data.waveforms` gives",
        lambda x: x.dtype == torch.float32 and x.ndim >= 2 and x.shape[-2] == 1,
    ),
    "bilstm": ("texts, or int64 token numbers (..., L)", lambda x: x.dtype == torch.int64 and x.ndim >= 1),
}


@dataclass(frozen=True)
class Pretrained:
    """A network in evaluation mode with its weights, its card, and, if it takes texts, its tokenizer as JSON."""

    model: nn.Module
    card: Card
    tokenizer: str | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float:
        """The measured part of the test samples that is classified correctly."""
        return self.card.accuracy

    def transform(self, inputs: Tensor | str | Sequence[str]) -> Tensor:
        """Turn bytes (0..255), or floating-point pixels in 0..1, into the input of the network; or texts (BiLSTM).

        Of a text the first tokens are taken, as many as the network was trained with, and a shorter one is filled with
        padding. Waveforms in -1..1 (M5) and token numbers (BiLSTM), as `rheobase.data` gives them, are what these
        networks take.

        Shape:
            (..., C, H, W) -> float32 (..., C, H, W); waveforms (..., 1, L) and tokens (..., L) as they are; a text ->
            int64 (1, L), N texts -> (N, L).

        Raises:
            DataError: the input is of another kind than the network's, or pixels are whole numbers that are no
                bytes, or numbers outside 0..1, or waveforms far outside -1..1; or the package `tokenizers` is missing.
        """
        if not isinstance(inputs, Tensor):
            return self._numbers(inputs)
        if self.card.model in _AS_IT_IS:
            kind, fits = _AS_IT_IS[self.card.model]
            if not fits(inputs):
                raise DataError(
                    f"{self.card.name} takes {kind}; found a {inputs.dtype} tensor of shape {tuple(inputs.shape)}."
                )
            return self._in_wave_range(inputs) if inputs.is_floating_point() else inputs
        channels = len(self.card.mean)
        if inputs.ndim < 3 or inputs.shape[-3] != channels:
            raise DataError(
                f"{self.card.name} takes images (..., {channels}, H, W); found the shape {tuple(inputs.shape)}."
            )
        x = inputs.float() / 255 if inputs.dtype == torch.uint8 else self._in_unit_range(inputs).float()
        mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (self.card.mean, self.card.std))
        return (x - mean) / std

    @cached_property
    def _reader(self) -> Any:
        if self.tokenizer is None:
            raise DataError(
                f"the zoo holds no tokenizer of {self.card.name}; give int64 token numbers, as `rheobase.data.tokens` "
                "makes them"
            )
        return read_tokenizer(self.tokenizer, self.card.name)

    def _numbers(self, texts: str | Sequence[str]) -> Tensor:
        """Texts as token numbers, if that is what the network takes and what these are."""
        if self.card.model not in _TEXTS:
            raise DataError(f"{self.card.name} takes a tensor; found a {type(texts).__name__}, and no torch.Tensor.")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{self.card.name} takes a text, a list of some, or int64 token numbers; found {repr(texts)[:80]}."
            )
        return token_numbers(texts, self._reader)

    def _in_wave_range(self, waves: Tensor) -> Tensor:
        """The same waveforms, unless they are no parts of the loudest sample, or not finite."""
        peak = float(waves.detach().abs().amax()) if waves.numel() else 0.0
        if not peak <= _LOUDEST:  # so that NaN fails too
            raise DataError(
                f"{self.card.name} takes waveforms in -1..1; found samples up to {peak:g}. Divide those of 16 bits by "
                "32,768."
            )
        return waves

    def _in_unit_range(self, pixels: Tensor) -> Tensor:
        """The same pixels, unless they would be read as far too bright, too dark or normalised twice."""
        if not pixels.is_floating_point():
            raise DataError(
                f"{self.card.name} takes pixels as bytes (uint8, 0..255) or as floating-point numbers in 0..1; found "
                f"{pixels.dtype}. Bytes of another type become the first with x.to(torch.uint8)."
            )
        low, high = (float(bound) for bound in pixels.detach().aminmax()) if pixels.numel() else (0.0, 1.0)
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # so that NaN fails too
            raise DataError(
                f"{self.card.name} takes floating-point pixels in 0..1, and normalises them itself; found {low:g} to "
                f"{high:g}. Divide pixels in 0..255 by 255, and leave out a normalisation of your own."
            )
        return pixels


def zoo_folder() -> Path:
    """The folder of the zoo: `$RHEOBASE_ZOO`, else ``zoo/`` of the repository; the installed package has none."""
    variable = os.environ.get("RHEOBASE_ZOO")
    return Path(variable) if variable else Path(__file__).resolve().parents[2] / "zoo"


def where_the_zoo_is(place: Path) -> str:
    """What to do where a folder holds no network, as it does beside a package that `pip` installed."""
    return (
        f"the folder {place} holds none. The weights are in Rheobase's repository and not in the installed package: "
        "get it with git clone, and let $RHEOBASE_ZOO name its folder zoo/"
    )


def names(folder: str | Path | None = None) -> list[str]:
    """The names of the networks in the zoo."""
    place = Path(folder) if folder is not None else zoo_folder()
    return sorted(file.stem for file in place.glob("*.json"))


def read_card(name: str, folder: str | Path | None = None) -> Card:
    """Read the card of a network.

    Raises:
        DataError: There is no such card, or it is damaged.
    """
    place = Path(folder) if folder is not None else zoo_folder()
    file = place / f"{name}.json"
    if not file.is_file():
        if not (there := names(place)):
            raise DataError(f"no network {name!r} in the zoo: {where_the_zoo_is(place)}")
        raise DataError(
            f"no network {name!r} in the zoo at {place}; there are: {', '.join(there)}; $RHEOBASE_ZOO names another"
        )
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        card = Card(**values | {key: tuple(values[key]) for key in ("mean", "std")})
        for key, hint in get_type_hints(Card).items():
            kind = int | float if hint is float else get_origin(hint) or hint
            if not isinstance(value := getattr(card, key), kind):
                raise TypeError(f"{key} is {value!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the card {file} is damaged ({error}); restore it from the repository") from error
    return card


def load(name: str, folder: str | Path | None = None) -> Pretrained:
    """Load a network of the zoo with its weights, what its input needs, and its measured accuracy.

    Args:
        name: One of `names`, such as ``"vgg16-cifar10"``.
        folder: Of the zoo, instead of `zoo_folder`.

    Raises:
        DataError: There is no such network, or its file is not the one that its card describes.
    """
    place = Path(folder) if folder is not None else zoo_folder()
    card = read_card(name, place)
    file = place / f"{name}.safetensors"
    content = _checked(file, card.sha256, "weights")
    tokenizer = None
    if card.tokenizer_sha256:
        tokenizer = _checked(place / f"{name}.tokenizer", card.tokenizer_sha256, "tokenizer").decode()
    model = build(card.model, **card.model_settings)
    fill(model, {key: _widen(value) for key, value in safetensors.torch.load(content).items()}, file)
    return Pretrained(model.eval(), card, tokenizer)


def _checked(file: Path, checksum: str, what: str) -> bytes:
    """The content of the file that the card means."""
    if not file.is_file():
        raise DataError(f"the card of {file.stem!r} is there, but no {what} at {file}; restore it from the repository")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise DataError(
            f"{file} has the checksum {found[:12]}..., its card says {checksum[:12]}...: the file is damaged or "
            "another one; restore both from the repository"
        )
    return content


def store(model: nn.Module, card: Card, folder: str | Path, tokenizer: str | None = None) -> Card:
    """Write the weights of a network (matrices and kernels in half precision) and its card.

    Args:
        model: The network.
        card: Its card.
        folder: Of the zoo.
        tokenizer: Of a network that takes texts, as JSON that also says how long a text is made.

    Returns:
        The card with the checksums of the files.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    state = {key: _narrow(value) for key, value in model.state_dict().items()}
    content = safetensors.torch.save(state)
    files = {f"{card.name}.safetensors": content}
    card = dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest(), tokenizer_sha256="")
    if tokenizer is not None:
        files[f"{card.name}.tokenizer"] = tokenizer.encode()  # no .json: those are cards
        card = dataclasses.replace(card, tokenizer_sha256=hashlib.sha256(tokenizer.encode()).hexdigest())
    files[f"{card.name}.json"] = (json.dumps(dataclasses.asdict(card), indent=2) + "\n").encode()
    for file, data in files.items():
        sweep(place / file)
        write_atomically(place / file, data)
    if tokenizer is None:
        (place / f"{card.name}.tokenizer").unlink(missing_ok=True)  # of a network that this one replaces
    return card


def table(folder: str | Path | None = None) -> str:
    """The cards as a Markdown table, one row for each network."""
    rows = [
        "| network | data | parameters | test accuracy | epochs | time | hardware |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names(folder):
        card = read_card(name, folder)
        rows.append(
            f"| {card.name} | {card.data} | {card.parameters / 1e6:.2f} M | {100 * card.accuracy:.2f} % of "
            f"{card.test_samples:,} | {card.recipe['epochs']} | {card.seconds / 60:.0f} min | {card.hardware} |"
        )
    return "\n".join(rows) + "\n"


def _narrow(value: Tensor) -> Tensor:
    """Half precision for weights; biases and batch norm statistics are few and keep their range."""
    value = value.detach().cpu()
    return (value.half() if value.is_floating_point() and value.dim() > 1 else value).contiguous()


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
