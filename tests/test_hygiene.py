"""The user's network is as it was: parameters, buffers, flags, hooks, attributes; also when something raises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor, nn

import rheobase as rb
from rheobase.methods import MSAT, ConstantThreshold
from rheobase.observers import Max

X = inputs(RESIDUAL_INPUT, 12, seed=1).float()
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
METHOD = MSAT(confidence=True, confidence_sites="all")


class Unsupported(nn.Module):
    """As `residual`, and something that has no spiking form."""

    def __init__(self) -> None:
        super().__init__()
        self.net = residual()

    def forward(self, x: Tensor) -> Tensor:
        return self.net.fc(torch.sigmoid(self.net.pool(self.net.pool(self.net.relu(self.net.conv1(x))))).flatten(1))  # type: ignore[no-any-return]


def worn(net: nn.Module) -> nn.Module:
    """A network as users have it: partly frozen, in training mode but for one part, with hooks and gradients."""
    net.train()
    modules = list(net.modules())
    modules[2].eval()
    parameters = list(net.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    modules[-1].register_forward_hook(lambda *_: None)
    modules[1].register_forward_pre_hook(lambda *_: None)
    net.register_full_backward_hook(lambda *_: None)
    net.note = {"accuracy": [0.9]}  # type: ignore[assignment]
    return net


def snapshot(net: nn.Module) -> dict[str, Any]:
    """Everything that can be seen of a network; tensors with identity, version, content and memory."""
    facts: dict[str, Any] = {"grad": torch.is_grad_enabled(), "rng": torch.get_rng_state().tolist()}
    for path, module in net.named_modules():
        facts[f"{path}: module"] = (id(module), type(module), module.training, sorted(vars(module)))
        facts[f"{path}: forward"] = module.__dict__.get("forward")
        for name in HOOKS:
            facts[f"{path}: {name}"] = list(getattr(module, name).items())
    for path, tensor in [*net.named_parameters(), *net.named_buffers()]:
        gradient = None if tensor.grad is None else tensor.grad.tolist()
        facts[path] = (id(tensor), tensor.data_ptr(), tensor.requires_grad, gradient, tensor.dtype, tensor.tolist())
    facts["note"] = copy.deepcopy(net.note)
    return facts


def saved(path: Path, net: nn.Module) -> Path:
    rb.convert(net, X, METHOD).save(path)
    return path


ACTIONS: dict[str, Callable[[nn.Module, Path], object]] = {
    "trace": lambda net, _: rb.trace(net, X),
    "observe": lambda net, _: rb.observe(rb.trace(net, X), X, Max()),
    "convert": lambda net, _: rb.convert(net, X, ConstantThreshold(percentile=99.0)),
    "convert with refinement": lambda net, _: rb.convert(net, list(X.split(5)), METHOD),
    "simulate": lambda net, _: rb.simulate(rb.convert(net, X, METHOD), X, 5),
    "evaluate": lambda net, _: rb.evaluate(rb.convert(net, X, METHOD), X, 5, net),
    "load": lambda net, path: rb.load(saved(path / "net", net), net),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_network_is_left_as_it_was(action: str, tmp_path: Path) -> None:
    net = worn(residual())
    before = snapshot(net)
    ACTIONS[action](net, tmp_path)
    assert snapshot(net) == before


def bad_data() -> list[Tensor]:
    return [X, torch.full_like(X, float("nan"))]


FAILURES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], object]]] = {
    "data that are not finite": (residual, lambda net: rb.convert(net, bad_data(), METHOD)),
    "data of another shape": (residual, lambda net: rb.convert(net, [X, X[:, :1]], METHOD)),
    "an operation without spiking form": (Unsupported, lambda net: rb.convert(net, X, METHOD)),
    "an unknown site": (
        residual,
        lambda net: rb.convert(net, X, MSAT(confidence=True, confidence_sites="nowhere")),
    ),
    "an evaluation of bad data": (residual, lambda net: rb.evaluate(rb.convert(net, X), bad_data(), 3, net)),
    "an evaluation with bad labels": (
        residual,
        lambda net: rb.evaluate(rb.convert(net, X), (X, torch.ones(12, 2)), 3, net),
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_network_is_left_as_it_was_when_something_raises(failure: str) -> None:
    build, action = FAILURES[failure]
    net = worn(build())
    before = snapshot(net)
    with pytest.raises(rb.ConversionError):
        action(net)
    assert snapshot(net) == before


class Broken(nn.Module):
    """Raises at the second batch that it really computes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = residual()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise KeyboardInterrupt
        return self.net(x)  # type: ignore[no-any-return]


def test_an_interrupted_evaluation_leaves_the_reference_as_it_was() -> None:
    net = worn(Broken())
    before = snapshot(net)
    with pytest.raises(KeyboardInterrupt):
        rb.evaluate(rb.convert(residual(), X), [X, X], 3, net)
    assert snapshot(net) == before


def test_an_interrupted_observation_leaves_no_hooks() -> None:
    graph = rb.trace(residual(), X)
    before = [len(module._forward_pre_hooks) for module in graph.module.modules()]

    def data() -> Any:
        yield X
        raise KeyboardInterrupt

    class Endless:
        def __iter__(self) -> Any:
            return data()

    with pytest.raises(KeyboardInterrupt):
        rb.observe(graph, Endless(), Max())
    assert [len(module._forward_pre_hooks) for module in graph.module.modules()] == before


def test_the_converted_network_shares_no_memory_with_the_original() -> None:
    net = residual()
    snn = rb.convert(net, X, METHOD)
    own = {t.data_ptr() for t in [*snn.parameters(), *snn.buffers()]}
    assert own.isdisjoint({t.data_ptr() for t in [*net.parameters(), *net.buffers()]})


def test_the_inputs_are_left_as_they_were() -> None:
    x, before = X.clone(), X.clone()
    snn = rb.convert(residual(), x, METHOD)
    rb.evaluate(snn, x, 4, residual())
    assert torch.equal(x, before)
