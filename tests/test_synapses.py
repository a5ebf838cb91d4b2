"""Synaptic operations against counting one input at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor, fx, nn

import rheobase as rb
from rheobase.simulation import simulate
from rheobase.synapses import fan_out

LAYERS = {
    "linear": (nn.Linear(5, 3), (5,)),
    "linear on the last dimension": (nn.Linear(5, 3), (2, 5)),
    "convolution": (nn.Conv2d(2, 3, 3, padding=1), (2, 4, 5)),
    "stride, dilation and groups": (nn.Conv2d(4, 6, (3, 2), stride=2, dilation=(1, 2), groups=2), (4, 7, 6)),
    "one dimension": (nn.Conv1d(2, 3, 4, stride=3), (2, 12)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1), (2, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fan_out_equals_counting_one_input_at_a_time(name: str) -> None:
    layer, shape = LAYERS[name]
    before = layer.weight.clone()
    counts = fan_out(layer, shape)
    assert counts.shape == shape
    nn.init.constant_(layer.weight, 1.0)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for i, expected in enumerate(counts.flatten().tolist()):
            x = torch.zeros(1, counts.numel())
            x[0, i] = 1.0
            assert int(layer(x.view(1, *shape)).count_nonzero()) == expected
    layer.weight.data.copy_(before)


def test_fan_out_leaves_the_layer_alone_and_works_without_gradients() -> None:
    layer = nn.Conv2d(2, 3, 3)
    before = layer.weight.clone()
    with torch.inference_mode():
        fan_out(layer, (2, 5, 5))
    assert torch.equal(layer.weight, before)
    assert layer.weight.requires_grad
    assert layer.weight.grad is None


def counted(snn: rb.SpikingModel, x: Tensor, steps: int) -> dict[str, list[int]]:
    """Operations by another way: each layer with weights of 1 applied to where its input is not zero, step by step."""
    totals: dict[str, list[int]] = {}

    def look(node: fx.Node, received: Tensor) -> None:
        layer = copy.deepcopy(snn.module.get_submodule(str(node.target)))
        nn.init.ones_(layer.weight)
        layer.bias = None
        totals.setdefault(str(node.target), []).append(int(layer((received[0] != 0).float()).sum()))

    snn.reset()
    execution = snn.execution(x)
    with torch.no_grad():
        for _ in range(steps):
            execution.advance(1, on_inputs=look)
    return totals


@pytest.mark.parametrize("method", [rb.MSAT(), rb.AnnealedDelta(steps=3, iterations=0)], ids=repr)
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_operations_of_a_simulation_equal_counting_them(method: rb.Method, chunk: int) -> None:
    x = inputs(RESIDUAL_INPUT, 6, seed=4).float()
    snn = rb.convert(residual(), x, method)
    expected = counted(snn, x, 3)
    run = simulate(snn, x, 3, chunk=chunk, operations=True)
    assert {layer: counts.tolist() for layer, counts in run.operations.items()} == expected
    assert set(expected) == {"conv2", "fc"}
    assert sum(map(sum, expected.values())) > 0


def test_the_curve_has_operations_for_each_sample_beside_those_of_a_dense_pass() -> None:
    x = inputs(RESIDUAL_INPUT, 6, seed=4).float()
    snn = rb.convert(residual(), x, rb.ConstantThreshold(fraction=0.5))
    curve = rb.evaluate(snn, [x[:4], x[4:]], 3)
    run = simulate(snn, x, 3, operations=True)
    assert simulate(snn, x, 3).operations == {}
    assert {k: [6 * n for n in v] for k, v in curve.operations.items()} == {
        k: pytest.approx(v.tolist()) for k, v in run.operations.items()
    }
    assert curve.dense_operations == {"conv2": 4 * 4 * (3 * 4 - 2) ** 2, "fc": 16 * 5}
    assert curve.total_operations[-1] == pytest.approx(sum(map(sum, curve.operations.values())))
    assert curve.rows()[-1]["operations"] == curve.total_operations[-1]
    assert all(n <= curve.dense_operations[k] for k, v in curve.operations.items() for n in v)


def test_samples_that_left_cost_nothing() -> None:
    x = inputs(RESIDUAL_INPUT, 6, seed=4).float()
    snn = rb.convert(residual(), x, rb.ConstantThreshold(fraction=0.5))
    never, at_once = (rb.Exit("margin", threshold) for threshold in (1e9, 0.0))
    assert torch.equal(*(simulate(snn, x, 3, until=u, operations=True).operations["conv2"] for u in (None, never)))
    assert simulate(snn, x, 3, until=at_once, chunk=1, operations=True).operations["conv2"][1:].tolist() == [0, 0]
