"""Every method on another device beside the same method on the processor.

The device is a CUDA device where there is one, and everywhere that of `pretended`, which finds tensors left behind.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pretended
import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual

import rheobase as rb
from rheobase import methods
from rheobase.methods._base import Method
from rheobase.observers import MMSE
from rheobase.quantisation import quantised_twin
from rheobase.thresholds import scales

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
each_device = pytest.mark.parametrize("device", [pretended.DEVICE, pytest.param("cuda", marks=needs_cuda)])

DEFAULTS: list[Method] = [
    getattr(methods, name)() for name in methods.__all__ if name not in ("Auto", "QCFS", "AnnealedDelta")
]
TUNED: list[Method] = [
    methods.AnnealedDelta(steps=4, iterations=4),
    methods.AnnealedDelta(steps=4, levels=3, iterations=4),
    methods.AnnealedDelta(steps=4, iterations=0, layer_iterations=2),
    methods.DifferentialCoding(steps=4, iterations=4, weight_rate=1e-4),
    methods.ParallelConversion(steps=4, iterations=4, weight_rate=1e-4),
    methods.RateCoding(steps=4, levels=3, iterations=4, weight_rate=1e-4),
    methods.SignedMemory(steps=4, calibration="temporal", iterations=4, weight_rate=1e-4),
    methods.SignedMSAT(steps=4, iterations=4, weight_rate=1e-4),
    methods.TemporalBias(steps=4, iterations=4, weight_rate=1e-4),
]
CHOSEN: list[Method] = [methods.Auto(steps=4, alphabet="integer", levels=3, iterations=4)]


def there(device: str) -> AbstractContextManager[None]:
    """The context in which there is such a device."""
    return pretended.pretended() if device == pretended.DEVICE else nullcontext()


def answers(device: str, method: Method) -> torch.Tensor:
    """What comes out on a device, on the processor again."""
    with there(device):
        x = inputs(RESIDUAL_INPUT, 64, seed=1).float().to(device)
        snn = rb.convert(residual().to(device), x, method)
        steps = getattr(method, "steps", 8)
        run = rb.simulate(snn, x[:16], steps, operations=True, generator=torch.Generator().manual_seed(0))
        assert run.output.device.type == device
        assert set(run.operations)
        return run.output.cpu()


@each_device
@pytest.mark.parametrize("method", [*DEFAULTS, *TUNED, *CHOSEN], ids=repr)
def test_a_device_gives_what_the_processor_gives(method: Method, device: str) -> None:
    """But for potentials within rounding of their threshold; a calibration by gradients adds up more of it."""
    ours, wanted = answers(device, method), answers("cpu", method)
    near = (ours - wanted).abs() <= 0.02 * wanted.abs().max()
    assert near.float().mean() > 0.8


@each_device
@pytest.mark.parametrize("method", [methods.ConstantThreshold(), methods.MSAT(), methods.TemporalBias(steps=8)])
def test_a_converted_network_moves_to_a_device_or_is_loaded_there(method: Method, device: str, tmp_path: Path) -> None:
    """Also one that has been simulated before."""
    x = inputs(RESIDUAL_INPUT, 64, seed=1).float()
    snn = rb.convert(residual(), x, method)
    wanted = rb.simulate(snn, x, 8, operations=True).output
    snn.save(tmp_path / "converted.rheobase")
    with there(device):
        loaded = rb.load(tmp_path / "converted.rheobase", residual().to(device))
        for network in (loaded, snn.to(device)):
            ours = rb.simulate(network, x.to(device), 8, operations=True).output
            assert ours.device.type == device
            near = (ours.cpu() - wanted).abs() <= 0.02 * wanted.abs().max()
            assert near.float().mean() > 0.8


@each_device
def test_the_quantised_twin_is_the_one_of_the_processor(device: str) -> None:
    def twin(device: str) -> torch.Tensor:
        with there(device):
            x = inputs(RESIDUAL_INPUT, 64, seed=1).float().to(device)
            graph = rb.trace(residual().to(device), x[:2])
            clips = scales(rb.observe(graph, x, MMSE(15)))
            return quantised_twin(graph, clips, 15, batches=x)(x).cpu()

    near = (twin(device) - twin("cpu")).abs() <= 1e-3
    assert near.float().mean() > 0.9


@each_device
def test_an_evaluation_moves_its_batches_and_exits_early(device: str) -> None:
    x, labels = inputs(RESIDUAL_INPUT, 64, seed=1).float(), torch.arange(64) % 5
    data = [(x[:32], labels[:32]), (x[32:], labels[32:])]
    other = rb.evaluate(rb.convert(residual(), x, rb.ConstantThreshold()), data, 8, reference=residual())
    with there(device):
        model = residual().to(device)
        snn = rb.convert(model, x, rb.ConstantThreshold())
        curve = rb.evaluate(snn, data, 8, reference=model)
        early = rb.evaluate(snn, data, 8, reference=model, until=rb.Exit("margin", 0.1))
    assert curve.accuracy == pytest.approx(other.accuracy, abs=0.05)
    assert early.exits is not None
    assert sum(early.exits) > 0
