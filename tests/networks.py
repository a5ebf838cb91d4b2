"""Small trained-looking networks, and the slowest obvious simulation of each: a step at a time, a layer at a time.

The simulations share nothing with the library: batch norm stays where the network has it, max pooling acts on
running sums, and the neurons are the loops in ``references``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Fire: TypeAlias = Callable[[str, Array], Array]  # site and its currents (T, n) -> emitted values (T, n)
Trace: TypeAlias = dict[str, Array]  # what each site emits (T, N, ...), and "output", the answer after each step


class Residual(nn.Module):
    """Batch norm; a max pooling that can move before its neurons, and one that cannot; a skip; one ReLU used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.relu(self.bn1(self.conv1(x))))
        h = h + self.relu(self.bn2(self.conv2(h)))
        return self.fc(F.max_pool2d(h, 3, 2, 1).flatten(1))  # type: ignore[no-any-return]


RESIDUAL_INPUT = (2, 8, 8)
RESIDUAL_SITES = ("relu", "relu_1")
MLP_INPUT = (6,)
MLP_SITES = ("1", "3")


def residual(seed: int = 0) -> Residual:
    """In evaluation mode, with batch norm statistics and weights as after training."""
    torch.manual_seed(seed)
    net = Residual()
    for norm in (net.bn1, net.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.2, 0.3)
        nn.init.normal_(norm.running_mean, 0.0, 0.2)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.2, 1.0)  # type: ignore[arg-type]
    return net.eval()


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def dyadic(net: nn.Module, denominator: int = 16) -> nn.Module:
    """Round every parameter to a binary fraction, so that float32 sums of them are exact."""
    for parameter in net.parameters():
        parameter.data = (parameter.data * denominator).round() / denominator
    return net


def inputs(shape: tuple[int, ...], n: int = 5, seed: int = 0, denominator: int | None = None) -> Tensor:
    """Inputs of both signs; binary fractions on demand."""
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x if denominator is None else (x * denominator).round() / denominator


def residual_trace(net: Residual, x: Tensor, steps: int, fire: Fire) -> Trace:
    """``Residual``, a step at a time."""
    first = _each(lambda v: net.pool(_norm(net.bn1, net.conv1(v))), _repeat(x, steps))
    a = _fire(fire, "relu", first)
    b = _fire(fire, "relu_1", _each(lambda v: _norm(net.bn2, net.conv2(v)), a))
    sums = np.cumsum(a + b, axis=0)
    pooled = _each(lambda v: F.max_pool2d(v, 3, 2, 1).flatten(1), sums)
    sent = np.diff(pooled, axis=0, prepend=np.zeros_like(pooled[:1]))
    return {"relu": a, "relu_1": b, "output": _mean(_each(net.fc, sent))}


def mlp_trace(net: nn.Sequential, x: Tensor, steps: int, fire: Fire) -> Trace:
    """``mlp``, a step at a time."""
    a = _fire(fire, "1", _each(net[0], _repeat(x, steps)))
    b = _fire(fire, "3", _each(net[2], a))
    return {"1": a, "3": b, "output": _mean(_each(net[4], b))}


def pre_activations(net: nn.Module, x: Tensor) -> dict[str, Array]:
    """What the ReLU of each site receives in the network itself; a moved pooling acts on it too."""
    with torch.no_grad():
        if isinstance(net, Residual):
            a = net.pool(net.bn1(net.conv1(x)))
            return {"relu": a.double().numpy(), "relu_1": net.bn2(net.conv2(a.relu())).double().numpy()}
        assert isinstance(net, nn.Sequential)
        return {"1": net[0](x).double().numpy(), "3": net[:3](x).double().numpy()}


def maxima(net: nn.Module, x: Tensor) -> dict[str, float]:
    """The largest activation of each site."""
    return {site: float(np.maximum(z, 0).max()) for site, z in pre_activations(net, x).items()}


def _repeat(x: Tensor, steps: int) -> Iterable[Array]:
    return [x.double().numpy()] * steps


def _each(layer: Callable[[Tensor], Tensor], values: Iterable[Array]) -> Array:
    with torch.no_grad():
        return np.stack([layer(torch.from_numpy(v)).numpy() for v in values])


def _norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm by its definition."""
    mean, variance, g, beta = (
        p[:, None, None]
        for p in (norm.running_mean, norm.running_var, norm.weight, norm.bias)  # type: ignore[index]
    )
    return g * (x - mean) / (variance + norm.eps).sqrt() + beta


def _fire(fire: Fire, site: str, currents: Array) -> Array:
    steps = len(currents)
    return fire(site, currents.reshape(steps, -1)).reshape(currents.shape)


def _mean(outputs: Array) -> Array:
    """(1/t) times the sum of the first t."""
    return np.stack([outputs[:t].sum(0) / t for t in range(1, len(outputs) + 1)])
