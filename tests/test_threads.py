"""What other threads do while a network is converted, and several conversions at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor, nn

import rheobase as rb

X = inputs(RESIDUAL_INPUT, 8, seed=1).float()


def elsewhere(work: Callable[[], Any]) -> Any:
    """What it gives in another thread, or the error that it raises there."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 (told to the test)
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


class Watched(nn.Module):
    """A network in whose forward another thread runs a network of its own."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        super().__init__()
        self.net, self.found = residual(), []
        self.work = work

    def __deepcopy__(self, memo: Any) -> Watched:
        return self

    def forward(self, x: Tensor) -> Any:
        self.found.append(elsewhere(self.work))
        return self.net(x)


def test_another_thread_computes_with_its_networks_during_a_conversion() -> None:
    other = residual(seed=2).float()
    expected = other(X)
    watched = Watched(lambda: other(X)).float().eval()
    rb.convert(watched, X, rb.ConstantThreshold())
    assert watched.found
    for found in watched.found:
        assert torch.equal(found, expected), found


class Waiting(nn.Module):
    """A network whose first forward tells that it has begun, and waits."""

    def __init__(self, begun: threading.Event, go: threading.Event) -> None:
        super().__init__()
        self.net, self.begun, self.go = residual(), begun, go

    def __deepcopy__(self, memo: Any) -> Waiting:
        return self

    def forward(self, x: Tensor) -> Any:
        self.begun.set()
        self.go.wait(10)
        return self.net(x)


def test_conversions_at_once_leave_modules_as_they_were() -> None:
    begun, go = threading.Event(), threading.Event()
    waiting = Waiting(begun, go).float().eval()
    found: list[Any] = []
    second = threading.Thread(target=lambda: found.append(rb.convert(waiting, X, rb.ConstantThreshold())))

    def start() -> Tensor:
        if not second.ident:
            second.start()
            begun.wait(0.5)  # until it traces too, if it may
        return X

    watched = Watched(start).float().eval()
    snn = rb.convert(watched, X, rb.ConstantThreshold())
    go.set()
    second.join()
    plain = nn.Linear(2, 2)
    assert torch.equal(plain(torch.ones(1, 2)), plain.forward(torch.ones(1, 2)))
    assert torch.equal(rb.simulate(found[0], X, 4).output, rb.simulate(snn, X, 4).output)
