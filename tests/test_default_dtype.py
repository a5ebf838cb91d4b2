"""A process whose default dtype or device is another: float32 networks give the same bits as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual

import rheobase as rb
from rheobase.batches import as_batches
from rheobase.calibration import Tuning, tune
from rheobase.coding import Poisson
from rheobase.methods import TPP, DeltaCoding, MultiLevel, ParallelConversion, RateCoding, SignedMSAT, SpikeConverter
from rheobase.spiking import SpikingModel

X = inputs(RESIDUAL_INPUT, 24, seed=2).float()
METHODS = [
    rb.ConstantThreshold(), rb.MSAT(confidence=True), DeltaCoding(steps=4), RateCoding(steps=4, signed=True),
    MultiLevel(steps=4), SignedMSAT(steps=4), ParallelConversion(steps=4), SpikeConverter(steps=4), TPP(steps=4),
]  # fmt: skip


@contextmanager
def default(dtype: torch.dtype, device: str = "cpu") -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def runs(snn: SpikingModel) -> list[torch.Tensor]:
    found = []
    for snn.events in ("never", "always"):
        done = rb.simulate(snn, X, 4, generator=torch.Generator().manual_seed(1))
        found += [done.output, *done.spikes.values()]
    return found


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")]
)
def test_a_simulation_does_not_depend_on_what_new_tensors_are_by_default(
    method: Any, dtype: torch.dtype, device: str
) -> None:
    snn = rb.convert(residual(), X, method)
    wanted = runs(snn)
    with default(dtype, device):
        found = runs(snn)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_random_input_does_not_depend_on_it_either() -> None:
    frames = []
    for dtype in (torch.float32, torch.float64):
        with default(dtype):
            frames.append(Poisson(1.0).encode(X, 3, torch.Generator().manual_seed(0)))
    assert torch.equal(*frames)


@pytest.mark.parametrize("method", [DeltaCoding(steps=3), SignedMSAT(steps=3), ParallelConversion(steps=3)], ids=repr)
def test_a_tuning_does_not_depend_on_it_either(method: Any) -> None:
    graph = rb.trace(residual(), X[:2])
    snn = SpikingModel(graph, method.plan(graph, rb.observe(graph, X, method.observer())))
    tuned = []
    for dtype in (torch.float32, torch.float64):
        with default(dtype):
            network = tune(snn, graph, as_batches(X.split(8)), 3, Tuning(iterations=3, bfloat16=False))
        tuned.append(rb.simulate(network, X, 3).output)
    torch.testing.assert_close(*tuned, rtol=1e-5, atol=1e-6)
