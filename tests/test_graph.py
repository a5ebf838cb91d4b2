"""Tracing, over a zoo of awkward networks: same function, complete normal form, untouched originals."""

from __future__ import annotations

import functools
import operator
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from rheobase.errors import ConversionError, DataError, UnsupportedOperationError
from rheobase.functional import DROPOUTS
from rheobase.graph import Graph, trace
from rheobase.models import resnet20
from rheobase.operations import BATCH_NORMS, POOLS, SYNAPSES

IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv, torch.relu_, torch.clamp_min_)
REFUSED = {**zoo.UNSUPPORTED, **zoo.UNTRACEABLE}


@functools.cache
def traced(name: str) -> Graph:
    return trace(zoo.build(zoo.ZOO[name]), zoo.inputs(zoo.ZOO[name], 3))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_the_normal_form_computes_what_the_network_computes(name: str) -> None:
    model, graph = zoo.build(zoo.ZOO[name]).eval(), traced(name)
    for samples in (1, 2, 5):
        x = zoo.inputs(zoo.ZOO[name], samples, seed=samples)
        expected = model(x.clone())
        before = x.clone()
        torch.testing.assert_close(graph.module(x), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(x, before, atol=0, rtol=0)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_the_normal_form_is_complete(name: str) -> None:
    graph = traced(name)
    calls = [node for node in graph.module.graph.nodes if node.op == "call_module"]
    assert len({node.target for node in calls}) == len(calls), "a module is called twice"
    modules = [graph.module.get_submodule(node.target) for node in calls]
    assert not any(isinstance(m, (*BATCH_NORMS, nn.Dropout, nn.Identity)) for m in modules)
    assert not any(getattr(m, "inplace", False) for m in modules)
    assert graph.sites == tuple(n.target for n, m in zip(calls, modules, strict=True) if isinstance(m, nn.ReLU))
    parameters = [p for m in modules if isinstance(m, (*SYNAPSES, *POOLS)) for p in m.parameters()]
    assert len({id(p) for p in parameters}) == len(parameters), "two layers share a parameter"
    for node in graph.module.graph.nodes:
        if node.op == "call_function":
            assert node.target not in (F.relu, torch.relu, F.max_pool2d, F.conv2d, F.linear, *IN_PLACE, *DROPOUTS)
        if node.op == "call_method":
            assert not node.target.endswith("_")
            assert node.target not in ("relu", "view")


@pytest.mark.parametrize("name", [name for name, entry in zoo.ZOO.items() if entry.sites])
def test_sites_are_named_after_the_call(name: str) -> None:
    assert traced(name).sites == zoo.ZOO[name].sites


def test_shapes_are_of_one_sample() -> None:
    graph = traced("MaxPool1dMoved")
    assert graph.input_shape == (4, 12)
    assert dict(graph.shapes) == {"act": (5,)}  # pooled before the neurons, then over all of time
    assert graph.neurons("act") == 5
    assert "1 sites" in str(graph)


def snapshot(model: nn.Module) -> list[Any]:
    """Everything about a model that a conversion could change."""
    seen: list[Any] = []
    for path, part in model.named_modules():
        kind = sorted(set(vars(type(part))) - {"__slotnames__"})  # which copying leaves there
        seen.append((path, id(part), type(part), part.training, sorted(vars(part)), kind))
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            seen += [(key, id(hook)) for key, hook in getattr(part, hooks).items()]
        seen += [(name, id(p), p.requires_grad, p._version) for name, p in part.named_parameters(recurse=False)]
        seen += [(name, id(b), b._version) for name, b in part.named_buffers(recurse=False)]
    return seen


@pytest.mark.parametrize("name", [*zoo.ZOO, *REFUSED])
def test_the_model_and_the_example_stay_as_they_are(name: str) -> None:
    entry = (zoo.ZOO | REFUSED)[name]
    model = zoo.build(entry)
    x = zoo.inputs(entry, 4)
    before, weights, example = snapshot(model), [p.clone() for p in model.parameters()], x.clone()
    try:
        trace(model, x)
    except ConversionError:
        assert name in REFUSED
    else:
        assert name in zoo.ZOO
    assert snapshot(model) == before
    assert torch.equal(x, example)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), weights, strict=True))


@pytest.mark.parametrize("name", zoo.UNSUPPORTED)
def test_unsupported_operations_are_all_listed_with_place_and_remedy(name: str) -> None:
    entry = zoo.UNSUPPORTED[name]
    with pytest.raises(UnsupportedOperationError) as error:
        trace(zoo.build(entry), zoo.inputs(entry, 4))
    assert [word for word in entry.words if word not in str(error.value)] == []


@pytest.mark.parametrize("name", zoo.UNTRACEABLE)
def test_what_cannot_be_traced_is_explained(name: str) -> None:
    entry = zoo.UNTRACEABLE[name]
    with pytest.raises(ConversionError) as error:
        trace(zoo.build(entry), zoo.inputs(entry, 4))
    assert [word for word in entry.words if word not in str(error.value)] == []


def test_hooks_are_neither_run_nor_copied() -> None:
    class Recorder:
        lock = property(lambda self: threading.Lock())

        def __init__(self) -> None:
            self.held, self.calls = threading.Lock(), 0  # cannot be copied

        def __call__(self, *_: object) -> None:
            self.calls += 1

    model, recorder = zoo.build(zoo.ZOO["plain"]), Recorder()
    model[1].register_forward_hook(recorder)
    trace(model, torch.randn(2, 6))
    assert recorder.calls == 0


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = zoo.build(zoo.ZOO["plain"])
    model.lock = threading.Lock()
    with pytest.raises(ConversionError, match=r"cannot be copied \(copy.deepcopy\).*lock"):
        trace(model, torch.randn(2, 6))


def test_a_trained_weight_norm_can_be_copied() -> None:
    model = zoo.build(zoo.ZOO["weight_norms"])
    model(torch.randn(4, 3, 6, 6)).sum().backward()  # leaves weights that deepcopy refuses
    x = torch.randn(4, 3, 6, 6)
    graph = trace(model, x)
    torch.testing.assert_close(graph.module(x), model.eval()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.randn(2, 5), "fails on an input of shape"),
        (torch.randn(2, 6).double(), "float64"),
        (torch.randn(0, 6), "at least one sample"),
        (torch.tensor(1.0), "at least one sample"),
        ([1.0, 2.0], "type list"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(example: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        trace(zoo.build(zoo.ZOO["plain"]), example)


def test_a_function_is_no_model() -> None:
    with pytest.raises(ConversionError, match=r"must be a torch.nn.Module"):
        trace(torch.relu, torch.randn(2, 6))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_a_deep_network_of_half_precision_differs_by_the_rounding_of_its_layers(dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    model = resnet20().eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    model, x = model.to(dtype), torch.randn(2, 3, 32, 32).to(dtype)
    found, wanted = trace(model, x).module(x), model(x)
    assert (found - wanted).abs().max() < 8 * torch.finfo(dtype).eps * wanted.abs().max()
    assert not torch.equal(found, wanted)


def test_one_sample_is_enough_of_an_example() -> None:
    model = zoo.build(zoo.ZOO["Squeeze"]).eval()
    graph = trace(model, zoo.inputs(zoo.ZOO["Squeeze"], 1))
    x = zoo.inputs(zoo.ZOO["Squeeze"], 4)
    torch.testing.assert_close(graph.module(x), model(x), atol=1e-5, rtol=1e-5)


def test_the_example_may_require_gradients() -> None:
    x = torch.randn(2, 6, requires_grad=True)
    assert trace(zoo.build(zoo.ZOO["InPlaceSums"]), x).sites
    assert x.grad is None


def test_torch_functions_are_as_before_after_a_trace() -> None:
    zeros, size = torch.zeros, torch.Tensor.size
    for _ in range(2):
        trace(zoo.build(zoo.ZOO["Sizes"]), zoo.inputs(zoo.ZOO["Sizes"], 2))
    assert (torch.zeros, torch.Tensor.size) == (zeros, size)
    with pytest.raises(ConversionError):
        trace(zoo.build(zoo.UNTRACEABLE["data_dependent_if"]), torch.randn(2, 6))
    assert torch.zeros is zeros


def test_a_batch_statistic_hidden_in_the_readout_is_found() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            return F.softmax(y - y.amax(0), 1)

    with pytest.raises(ConversionError, match=r"mixes the samples(.|\n)*max_pool|amax"):
        trace(Centred(), torch.randn(4, 6))
