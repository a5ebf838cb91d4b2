"""The rewriting passes, one by one, on networks of a few lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rheobase.graph import Graph, trace
from rheobase.operations import SYNAPSES, Affine

LAYERS: dict[str, tuple[type[nn.Module], type[nn.Module], int]] = {
    "conv1d": (nn.Conv1d, nn.BatchNorm1d, 1),
    "conv2d": (nn.Conv2d, nn.BatchNorm2d, 2),
    "conv3d": (nn.Conv3d, nn.BatchNorm3d, 3),
    "transposed1d": (nn.ConvTranspose1d, nn.BatchNorm1d, 1),
    "transposed2d": (nn.ConvTranspose2d, nn.BatchNorm2d, 2),
    "transposed3d": (nn.ConvTranspose3d, nn.BatchNorm3d, 3),
}


def trained(norm: Any) -> Any:
    """A batch norm as training leaves it."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3.0)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def kinds(graph: Graph) -> list[type]:
    """The classes of the modules that the normal form calls, in order."""
    return [type(graph.module.get_submodule(n.target)) for n in graph.module.graph.nodes if n.op == "call_module"]


class Function(nn.Module):
    """A network of three linear layers and a function of them and the input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(width, width) for _ in range(3))
        self.norm, self.pool, self.relu = trained(nn.BatchNorm1d(width)), nn.MaxPool1d(2), nn.ReLU()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def normal(function: Callable[[Any, Tensor], Tensor], *shape: int) -> Graph:
    return trace(Function(function), torch.randn(2, *(shape or (6,))))


@given(
    layer=st.sampled_from(sorted(LAYERS)),
    groups=st.sampled_from([1, 2, 4]),
    per_group=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    flags=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=15, deadline=None)
def test_folding_batch_norm_keeps_the_output(
    layer: str, groups: int, per_group: tuple[int, int], dilation: int, flags: tuple[bool, bool], seed: int
) -> None:
    torch.manual_seed(seed)
    kind, norm, d = LAYERS[layer]
    bias, affine = flags
    n_in, n_out = (groups * n for n in per_group)
    weighted = kind(n_in, n_out, 2, stride=2, dilation=dilation, groups=groups, bias=bias)
    model = nn.Sequential(weighted, trained(norm(n_out, affine=affine, eps=1e-3)), nn.ReLU()).double().eval()
    x = torch.randn(2, n_in, *[5] * d).double()
    graph = trace(model, x)
    assert kinds(graph) == [kind, nn.ReLU]
    torch.testing.assert_close(graph.module(x), model(x), atol=1e-10, rtol=1e-10)


def test_weights_are_folded_in_double_precision() -> None:
    """(b - mu) s + beta cancels: in single precision mu = 1000 would leave 1e-4 of error."""
    layer, norm = nn.Linear(6, 6), trained(nn.BatchNorm1d(6))
    norm.running_mean.fill_(1000.0)
    nn.init.constant_(layer.bias, 1000.1)
    model = nn.Sequential(layer, norm, nn.ReLU())
    s = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
    expected = (layer.bias.double() - 1000.0) * s + norm.bias.double()
    folded = trace(model, torch.randn(2, 6)).module.get_parameter("0.bias")
    torch.testing.assert_close(folded.double(), expected.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.relu(m.a(m.norm(x))),
        lambda m, x: F.relu(m.norm(torch.cat([m.a(x)[:, :3], m.b(x)[:, :3]], 1))),
        lambda m, x: F.relu(m.norm(F.relu(m.a(x)))),
        lambda m, x: F.relu(m.norm(m.a(x) + m.b(x))),
    ],
    ids=["first", "after cat", "after relu", "after add"],
)
def test_a_batch_norm_with_nothing_before_it_becomes_affine(function: Callable[[Any, Tensor], Tensor]) -> None:
    assert kinds(normal(function)).count(Affine) == 1


def test_a_layer_that_others_read_too_is_not_scaled() -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        return F.relu(m.norm(y)) + y

    assert kinds(normal(function)) == [nn.Linear, Affine, nn.ReLU]


def test_two_norms_after_one_layer_are_both_folded() -> None:
    model = nn.Sequential(nn.Linear(6, 6), trained(nn.BatchNorm1d(6)), trained(nn.BatchNorm1d(6)), nn.ReLU())
    assert kinds(trace(model, torch.randn(2, 6))) == [nn.Linear, nn.ReLU]


def test_constants_of_one_module_do_not_overwrite_each_other() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.randn(6))

        def forward(self, x: Tensor) -> Tensor:
            scale, shift = self.p.exp(), self.p.sin()
            return torch.relu(x * scale + shift) * scale - shift

    model = nn.Sequential(nn.Linear(6, 6), Inner())
    x = torch.randn(3, 6)
    graph = trace(model, x)
    torch.testing.assert_close(graph.module(x), model(x))
    assert len(list(graph.module.buffers())) == 2


def test_a_pool_of_neurons_that_nothing_else_reads_moves_before_them() -> None:
    graph = normal(lambda m, x: m.pool(m.pool(F.relu(m.relu(m.a(x))))), 3, 6)
    assert kinds(graph) == [nn.Linear, nn.MaxPool1d, nn.MaxPool1d, nn.ReLU, nn.ReLU]
    assert dict(graph.shapes) == {"relu": (3, 1), "relu_1": (3, 1)}


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: [y := m.relu(m.a(x)), m.pool(y).sum(2, keepdim=True) + y][1],
        lambda m, x: m.pool(torch.cat([m.relu(m.a(x)), x], 1)),
        lambda m, x: m.pool(m.relu(m.a(x)) * -1),
    ],
    ids=["another reader", "cat", "negated"],
)
def test_a_pool_stays_where_moving_it_would_change_something(function: Callable[[Any, Tensor], Tensor]) -> None:
    order = kinds(normal(function, 3, 6))
    assert order.index(nn.ReLU) < order.index(nn.MaxPool1d)


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1, 1, True),
    "by name": lambda x: F.max_pool2d(input=x, kernel_size=(2, 3), dilation=2),
    "torch": lambda x: torch.max_pool2d(x, 2, 1),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, (2, 1)),
    "of the size": lambda x: F.max_pool2d(x, x.size()[2:]),
    "of one size": lambda x: F.max_pool2d(x, kernel_size=(x.size(2), x.shape[3])),
    "amax": lambda x: x.amax((2, 3), keepdim=True),
    "torch.amax": lambda x: torch.amax(x, dim=-1),
    "max": lambda x: x.max(3)[0].max(dim=2).values,
    "torch.max": lambda x: torch.max(x, -1, keepdim=True)[0],
}


@pytest.mark.parametrize("name", POOLINGS)
def test_functional_pools_become_modules(name: str) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return POOLINGS[name](F.relu(self.conv(x)))

    model = Pooled()
    graph = trace(model, torch.randn(3, 2, 7, 7))
    x = torch.randn(5, 2, 7, 7)
    torch.testing.assert_close(graph.module(x), model(x))
    assert "Pool" in kinds(graph)[1].__name__  # before the neurons
    assert graph.sites == ("relu",)


@pytest.mark.parametrize("inplace", list(itertools.product([False, True], repeat=2)))
def test_later_readers_see_what_was_done_in_place(inplace: tuple[bool, bool]) -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        before = y * 1
        z = F.relu(y, inplace=inplace[0])
        w = m.b(y)
        y = torch.nn.functional.relu(w, inplace[1])
        return before + z + w + y

    model = Function(function)
    x = torch.randn(4, 6)
    torch.testing.assert_close(trace(model, x).module(x), model(x))


def test_functional_layers_keep_their_weights() -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        x = F.relu(F.linear(x, m.a.weight * 2, bias=m.b.bias))
        x = F.conv1d(x[:, None], weight=m.c.weight[:3, None, :4], stride=2, padding=1)
        return F.relu(x).flatten(1)

    model = Function(function)
    x = torch.randn(3, 6)
    graph = trace(model, x)
    torch.testing.assert_close(graph.module(x), model(x))
    assert kinds(graph) == [nn.Linear, nn.ReLU, nn.Conv1d, nn.ReLU]
    assert [n.target for n in graph.module.graph.nodes if n.op == "call_module"][::2] == ["linear", "conv1d"]


def test_what_is_not_used_is_not_kept() -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        m.norm(m.b(x))
        return F.relu(m.a(x))

    graph = normal(function)
    assert kinds(graph) == [nn.Linear, nn.ReLU]
    assert [type(m) for m in graph.module.modules() if isinstance(m, SYNAPSES)] == [nn.Linear]
