"""What gradient descent moves in a calibration, in which units, and how one step of it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rheobase.errors import DataError
from rheobase.neurons import Neuron

__all__ = [
    "State",
    "descend",
    "descent",
    "group",
    "groups_of",
    "leaves_of",
    "put",
    "relative",
    "root_mean_square",
    "tunable",
]


def tunable(neuron: Neuron) -> dict[str, str]:
    """The dotted paths of the buffers that can be tuned, also of neurons inside, and how: see `Neuron`."""
    return {
        f"{prefix}.{name}" if prefix else name: kind
        for prefix, module in neuron.named_modules()
        if isinstance(module, Neuron)
        for name, kind in module.tunable.items()
    }


def innermost(neuron: Neuron) -> Neuron:
    """The neuron itself, or what its wrappers hold."""
    return [m for m in neuron.modules() if isinstance(m, Neuron)][-1]


def _leaf(value: Tensor, kind: str) -> Tensor:
    """What is moved instead of the value."""
    return (value.log() if kind == "log" else value.clone()).requires_grad_(True)


def leaves_of(neuron: Neuron) -> dict[str, Tensor]:
    """The parameters that gradient descent moves, by the paths of their buffers."""
    return {path: _leaf(neuron.get_buffer(path), kind) for path, kind in tunable(neuron).items()}


def put(neuron: Neuron, leaves: Mapping[str, Tensor], detach: bool = False) -> None:
    """Put the parameters into the neuron."""
    for path, leaf in leaves.items():
        owner, _, name = path.rpartition(".")
        module = neuron.get_submodule(owner)
        value = leaf.exp() if module.tunable[name] == "log" else leaf  # type: ignore[index]
        setattr(module, name, value.detach().clone() if detach else value)


@torch.no_grad()
def root_mean_square(p: Tensor) -> float:
    """The root mean square of a tensor."""
    return float(p.double().square().mean().sqrt())


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """|found - wanted|^2 / |wanted|^2."""
    return (found - wanted).square().sum() / wanted.square().sum().clamp(min=1e-12)


def group(params: list[Tensor], rate: float, unit: float = 1.0) -> dict[str, Any]:
    """What has one learning rate, and the unit in which the rate and the limit of the gradient's norm are meant."""
    return {"params": params, "lr": rate * unit, "most": 1.0 / max(unit, 1e-30)}


def groups_of(
    neurons: Mapping[str, Neuron], leaves: Mapping[str, Mapping[str, Tensor]], rate: float
) -> list[dict[str, Any]]:
    """The parameters of neurons: those without a unit together, and the currents of each site."""
    pure: list[Tensor] = []
    groups = []
    for site, own in leaves.items():
        kinds = tunable(neurons[site])
        pure += [leaf for path, leaf in own.items() if kinds[path] != "current"]
        currents = [leaf for path, leaf in own.items() if kinds[path] == "current"]
        if currents:
            groups.append(group(currents, rate, root_mean_square(innermost(neurons[site]).get_buffer("threshold"))))
    return [group(pure, rate), *groups]


def descent(
    groups: list[dict[str, Any]], iterations: int
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.OneCycleLR]:
    """Adam, and one cycle of its learning rates."""
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, max(iterations, 10), pct_start=0.2, cycle_momentum=False
    )
    return optimizer, schedule


def descend(
    loss: Tensor, optimizer: torch.optim.Adam, schedule: torch.optim.lr_scheduler.OneCycleLR, where: str
) -> None:
    """One step, with the gradients of each group clipped at norm 1 in its unit.

    Raises:
        DataError: the loss or its gradient is not finite; the message begins with ``where``.
    """
    if not bool(torch.isfinite(loss)):
        raise DataError(f"{where}: the loss of the calibration is {loss.item()}. Lower its rates.")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norms = [nn.utils.clip_grad_norm_(group["params"], group["most"]) for group in optimizer.param_groups]
    if not all(bool(torch.isfinite(norm)) for norm in norms):
        raise DataError(f"{where}: the gradient of the calibration is not finite. Lower its rates.")
    optimizer.step()
    schedule.step()


@dataclass(frozen=True, eq=False)
class State:
    """All that gradient descent changes."""

    leaves: Mapping[str, Mapping[str, Tensor]]
    weights: Mapping[str, Tensor]
    optimizer: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.OneCycleLR

    def _tensors(self) -> dict[str, Tensor]:
        own = {f"{site} {path}": leaf for site, found in self.leaves.items() for path, leaf in found.items()}
        return {**own, **{f"weight {name}": p for name, p in self.weights.items()}}

    def content(self, done: int) -> dict[str, Any]:
        """What is written to disk after so many iterations."""
        tensors = {name: tensor.detach() for name, tensor in self._tensors().items()}
        descent = {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        return {"done": done, "tensors": tensors, **descent}

    @torch.no_grad()
    def restore(self, content: dict[str, Any] | None) -> int:
        """Take over a state; gives the iterations that are done."""
        if content is None:
            return 0
        for name, tensor in self._tensors().items():
            tensor.copy_(content["tensors"][name])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        return int(content["done"])
