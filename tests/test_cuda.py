"""Every method on a CUDA device, beside the same method on the processor; skipped where there is no such device."""

from __future__ import annotations

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual

import rheobase as rb
from rheobase import methods
from rheobase.methods._base import Method
from rheobase.observers import MMSE
from rheobase.quantisation import quantised_twin
from rheobase.thresholds import scales

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEFAULTS: list[Method] = [
    getattr(methods, name)() for name in methods.__all__ if name not in ("Auto", "QCFS", "AnnealedDelta")
]
TUNED: list[Method] = [
    methods.AnnealedDelta(steps=4, iterations=4),
    methods.AnnealedDelta(steps=4, iterations=0, layer_iterations=2),
    methods.DifferentialCoding(steps=4, iterations=4, weight_rate=1e-4),
    methods.ParallelConversion(steps=4, iterations=4, weight_rate=1e-4),
    methods.RateCoding(steps=4, levels=3, iterations=4, weight_rate=1e-4),
    methods.SignedMemory(steps=4, calibration="temporal", iterations=4, weight_rate=1e-4),
    methods.SignedMSAT(steps=4, iterations=4, weight_rate=1e-4),
    methods.TemporalBias(steps=4, iterations=4, weight_rate=1e-4),
]
CHOSEN: list[Method] = [methods.Auto(steps=4, alphabet="integer", levels=3), methods.Auto(steps=4)]


def answers(device: str, method: Method) -> torch.Tensor:
    """What comes out, on the processor again."""
    x = inputs(RESIDUAL_INPUT, 64, seed=1).float().to(device)
    snn = rb.convert(residual().to(device), x, method)
    steps = getattr(method, "steps", 8)
    run = rb.simulate(snn, x[:16], steps, operations=True, generator=torch.Generator().manual_seed(0))
    assert run.output.device == x.device
    assert set(run.operations)
    return run.output.cpu()


@pytest.mark.parametrize("method", [*DEFAULTS, *TUNED, *CHOSEN], ids=repr)
def test_a_device_gives_what_the_processor_gives(method: Method) -> None:
    """But for potentials within rounding of their threshold; a calibration by gradients adds up more of it."""
    ours, wanted = answers("cuda", method), answers("cpu", method)
    near = (ours - wanted).abs() <= 0.02 * wanted.abs().max()
    assert near.float().mean() > 0.8


def test_the_quantised_twin_is_the_one_of_the_processor() -> None:
    def twin(device: str) -> torch.Tensor:
        x = inputs(RESIDUAL_INPUT, 64, seed=1).float().to(device)
        graph = rb.trace(residual().to(device), x[:2])
        clips = scales(rb.observe(graph, x, MMSE(15)))
        return quantised_twin(graph, clips, 15, batches=x)(x).cpu()

    near = (twin("cuda") - twin("cpu")).abs() <= 1e-3
    assert near.float().mean() > 0.9


def test_an_evaluation_moves_its_batches_and_exits_early() -> None:
    x, labels = inputs(RESIDUAL_INPUT, 64, seed=1).float(), torch.arange(64) % 5
    model = residual().cuda()
    snn = rb.convert(model, x, rb.ConstantThreshold())
    data = [(x[:32], labels[:32]), (x[32:], labels[32:])]
    curve = rb.evaluate(snn, data, 8, reference=model)
    other = rb.evaluate(rb.convert(residual(), x, rb.ConstantThreshold()), data, 8, reference=residual())
    assert curve.accuracy == pytest.approx(other.accuracy, abs=0.05)
    early = rb.evaluate(snn, data, 8, reference=model, until=rb.Exit("margin", 0.1))
    assert early.exits is not None
    assert sum(early.exits) > 0
