"""Synaptic operations against counting one input at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
