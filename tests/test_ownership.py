"""A network is in one run at a time; a run that would go on with the state of another is an error."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor

import rheobase as rb
from rheobase.errors import ConversionError
from rheobase.exits import Exit
from rheobase.simulation import Chunk, simulate, stream
from rheobase.spiking import SpikingModel

X, OTHER = inputs(RESIDUAL_INPUT, 8, seed=1).float().split(4)
STEPS = 6
REFUSED = r"another simulation of it has begun.*copy\.deepcopy\(snn\)"


@pytest.fixture
def snn() -> SpikingModel:
    return rb.convert(residual(), torch.cat([X, OTHER]), rb.MSAT())


def last(parts: Iterator[Chunk]) -> Tensor:
    *_, part = parts
    return part.answers[-1]


def test_runs_that_alternate_are_an_error(snn: SpikingModel) -> None:
    first, second = stream(snn, X, STEPS, chunk=2), stream(snn, OTHER, STEPS, chunk=2)
    next(first), next(second)
    with pytest.raises(ConversionError, match=REFUSED):
        next(first)
    assert torch.equal(last(second), simulate(snn, OTHER, STEPS, chunk=2).output)


def test_runs_of_copies_may_alternate(snn: SpikingModel) -> None:
    pairs = zip(stream(snn, X, STEPS, chunk=2), stream(copy.deepcopy(snn), OTHER, STEPS, chunk=2), strict=True)
    *_, (a, b) = pairs
    assert torch.equal(a.answers[-1], simulate(snn, X, STEPS, chunk=2).output)
    assert torch.equal(b.answers[-1], simulate(snn, OTHER, STEPS, chunk=2).output)


@pytest.mark.parametrize(
    "act",
    [
        lambda snn: snn.reset(),
        lambda snn: snn(X),
        lambda snn: snn.execution(X),
        lambda snn: simulate(snn, OTHER, 1),
        lambda snn: rb.evaluate(snn, OTHER, 1),
    ],
    ids=["reset", "forward", "execution", "simulate", "evaluate"],
)
def test_what_takes_the_state_ends_the_run_before(snn: SpikingModel, act: Callable[[SpikingModel], Any]) -> None:
    parts = stream(snn, X, STEPS, chunk=2)
    next(parts)
    with torch.no_grad():
        act(snn)
    with pytest.raises(ConversionError, match=REFUSED):
        next(parts)


def test_a_hook_that_simulates_the_network_it_is_in_is_an_error(snn: SpikingModel) -> None:
    def again(*_: Any) -> None:
        handle.remove()
        simulate(snn, X, STEPS)

    handle = snn.module.get_submodule("relu").register_forward_hook(again)
    with pytest.raises(ConversionError, match=REFUSED):
        simulate(snn, X, STEPS)


def test_samples_do_not_leave_the_state_of_another_run(snn: SpikingModel) -> None:
    execution = snn.start(X)
    snn.start(OTHER)
    with pytest.raises(ConversionError, match=REFUSED):
        execution.keep(torch.tensor([0, 2]))
    assert torch.equal(last(stream(snn, X, STEPS, until=Exit("margin", 1e9))), simulate(snn, X, STEPS).output)


def test_threads_that_share_a_network_give_the_answer_or_an_error(snn: SpikingModel) -> None:
    wanted = [simulate(snn, x, STEPS, chunk=1).output for x in (X, OTHER)]
    found: list[list[Tensor | ConversionError]] = [[], []]
    together = threading.Barrier(2)

    def run(index: int, x: Tensor) -> None:
        together.wait()
        for _ in range(20):
            try:
                found[index].append(simulate(snn, x, STEPS, chunk=1).output)
            except ConversionError as error:
                found[index].append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((X, OTHER))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each) for each in found] == [20, 20]
    for answers, right in zip(found, wanted, strict=True):
        assert all(isinstance(a, ConversionError) or torch.equal(a, right) for a in answers)


def test_a_thread_begins_no_run_within_a_chunk_of_another(snn: SpikingModel) -> None:
    right, found = simulate(snn, X, STEPS), []
    thread = threading.Thread(target=lambda: found.append(simulate(snn, OTHER, STEPS).output))

    def meanwhile(*_: Any) -> None:
        handle.remove()
        thread.start()
        thread.join(timeout=0.5)
        assert not found

    handle = snn.module.get_submodule("relu").register_forward_hook(meanwhile)
    assert torch.equal(simulate(snn, X, STEPS).output, right.output)
    thread.join()
    assert torch.equal(found[0], simulate(snn, OTHER, STEPS).output)


@torch.no_grad()
def test_a_network_is_called_step_by_step(snn: SpikingModel) -> None:
    last(stream(snn, OTHER, STEPS))
    snn.reset()
    steps = torch.stack([snn(X) for _ in range(STEPS)])
    torch.testing.assert_close(steps.mean(0), simulate(snn, X, STEPS, chunk=1).output)


@torch.no_grad()
def test_a_copy_goes_on_from_the_same_state(snn: SpikingModel) -> None:
    snn.reset()
    snn(X)
    again = copy.deepcopy(snn)
    assert torch.equal(again(X), snn(X))
