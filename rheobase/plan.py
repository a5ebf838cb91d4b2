"""A plan: what a method decided for each site, before anything is converted."""

from __future__ import annotations

import copy
import dataclasses
import json
import operator
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rheobase.coding import ConstantCurrent, Encoder, Mean, Readout
from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.files import write_atomically
from rheobase.neurons import Neuron

__all__ = ["Plan"]

_FORMAT = "rheobase plan 1"  # the one key of the metadata: the order of several would vary from file to file


@dataclass(frozen=True, eq=False)
class Plan:
    """The neurons of each site, how the input is coded and how the output is read.

    A value: to change it, use ``dataclasses.replace`` or `with_neuron`.

    Args:
        method: the method that made it, as the line in a results table.
        neurons: the neuron of each site.
        encoder: how the input is coded.
        readout: how the output is read.
        edits: new values for parameters of the normal form, by their dotted path.
        reason: why this method, where it was chosen among others.
        pooling: how max pooling reads neurons: the change of the pooled "sum" (exact), the same for held values that
            are sent as "edges", or a "gate" for the unit that has sent the most.
        steps: T, the steps that it was made for and that a simulation has where none are given; None for any number.
    """

    method: str
    neurons: Mapping[str, Neuron]
    encoder: Encoder = field(default_factory=ConstantCurrent)
    readout: Readout = field(default_factory=Mean)
    edits: Mapping[str, Tensor] = field(default_factory=dict)
    reason: str = ""
    pooling: Literal["sum", "edges", "gate"] = "sum"
    steps: int | None = None

    def with_neuron(self, site: str, neuron: Neuron) -> Plan:
        """The same plan with another neuron at one site.

        Raises:
            ConversionError: there is no such site.
        """
        if site not in self.neurons:
            raise ConversionError(f"The plan has no site {site!r}; its sites are {', '.join(self.neurons)}.")
        return dataclasses.replace(self, neurons={**self.neurons, site: neuron})

    def on(self, device: torch.device) -> Plan:
        """The same plan with all tensors on a device; this one where they are."""
        elsewhere = {
            site: copy.deepcopy(neuron).to(device)
            for site, neuron in self.neurons.items()
            if any(tensor.device != device for tensor in neuron.state_dict().values())
        }
        edits = {path: value.to(device) for path, value in self.edits.items()}
        moved = elsewhere or any(edits[path] is not value for path, value in self.edits.items())
        return dataclasses.replace(self, neurons={**self.neurons, **elsewhere}, edits=edits) if moved else self

    def __str__(self) -> str:
        rows = [("site", "neuron", "spikes")]
        rows += [(site, " ".join(repr(neuron).split()), str(neuron.alphabet)) for site, neuron in self.neurons.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        coding = f"input: {type(self.encoder).__name__}, output: {type(self.readout).__name__}"
        coding += "" if self.steps is None else f", T = {self.steps}"
        return "\n".join([self.method, *self.reason.splitlines(), coding, *lines])

    def save(self, path: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write the plan as one safetensors file; an old file stays whole if this fails.

        Args:
            path: where to.
            extra: further facts to keep in its header, as JSON values.

        Raises:
            SettingError: a neuron, encoder or read-out has a setting that no file can hold, or the file cannot be
                written.
        """
        tensors: dict[str, Tensor] = {f"edits/{k}": _own(v) for k, v in self.edits.items()}
        header = {
            "method": self.method,
            "reason": self.reason,
            "neurons": {s: _to_json(n, f"neurons/{s}", tensors) for s, n in self.neurons.items()},
            "encoder": _to_json(self.encoder, "encoder", tensors),
            "readout": _to_json(self.readout, "readout", tensors),
            "pooling": self.pooling,
            "steps": self.steps,
            **(extra or {}),
        }
        blob = safetensors.torch.save(tensors, {_FORMAT: json.dumps(header)})
        try:
            write_atomically(path, blob)
        except OSError as error:
            raise SettingError(
                f"{path} cannot be written ({error.strerror}); give a file in a folder that exists."
            ) from error

    @staticmethod
    def load(path: str | Path) -> tuple[Plan, dict[str, Any]]:
        """Read a plan and the header that `save` wrote.

        Raises:
            DataError: the file is missing or is no plan, or needs a class that is not imported.
        """
        if Path(path).is_dir():
            raise DataError(f"{path} cannot be read: it is a folder. Give the file that SpikingModel.save wrote.")
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(f"{path} cannot be read as a converted network: {error}.") from error
        if _FORMAT not in metadata:
            found = ", ".join(metadata) or "none"
            raise DataError(f"{path} is a safetensors file with the metadata {found}; expected {_FORMAT!r}, "
                            "as SpikingModel.save writes it.")  # fmt: skip
        try:
            header = json.loads(metadata[_FORMAT])
            plan = Plan(
                header["method"],
                {site: _from_json(value, tensors) for site, value in header["neurons"].items()},
                _from_json(header["encoder"], tensors),
                _from_json(header["readout"], tensors),
                {key.removeprefix("edits/"): value for key, value in tensors.items() if key.startswith("edits/")},
                header.get("reason", ""),
                header.get("pooling", "sum"),
                header.get("steps"),
            )
        except DataError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged, or was written by another version of its neurons: {error!r}. Convert again."
            ) from error
        return plan, header


def _own(tensor: Tensor) -> Tensor:
    """A copy with memory of its own, which safetensors asks for."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _to_json(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A neuron, dataclass, tensor or plain value as JSON; tensors go to ``tensors`` under their path."""
    if isinstance(value, Tensor):
        tensors[path] = _own(value)
        return {"tensor": path}
    if isinstance(value, list | tuple):
        items = [_to_json(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Neuron):
        settings: Mapping[str, Any] = value.settings()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        settings = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif value is None or isinstance(value, bool | int | float | str):
        return value
    else:
        raise SettingError(
            f"The plan cannot be saved: {path} is a {type(value).__name__}. Accepted: neurons, dataclasses, "
            "tensors, numbers, strings, lists and tuples."
        )
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    return {"class": kind, "settings": {k: _to_json(v, f"{path}/{k}", tensors) for k, v in settings.items()}}


def _from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_to_json`. Only classes of modules already imported are used."""
    if isinstance(value, list):
        return [_from_json(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.clone(tensors[value["tensor"]])
    if "tuple" in value:
        return tuple(_from_json(v, tensors) for v in value["tuple"])
    module, _, name = str(value["class"]).partition(":")
    try:
        kind = operator.attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        kind = None
    if not (isinstance(kind, type) and (issubclass(kind, Neuron) or dataclasses.is_dataclass(kind))):
        raise DataError(f"The file needs the class {name} of the module {module}; import that module first.")
    return kind(**{k: _from_json(v, tensors) for k, v in value["settings"].items()})
