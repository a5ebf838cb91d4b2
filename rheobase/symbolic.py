"""Symbolic tracing: from a network to a graph of its operations, by ``torch.fx``.

The network is copied first, and what must not stand in its graph is taken off the copy.
"""

from __future__ import annotations

import copy
import inspect
import linecache
import operator
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from rheobase.errors import ConversionError
from rheobase.qcfs import ClipFloorShift

__all__ = ["check_kind", "own_copy", "symbolic_trace"]

# Built from a size, these do not record themselves.
_CREATORS = (torch.zeros, torch.ones, torch.full, torch.empty, torch.arange, torch.linspace, torch.eye)
_TRACING = threading.Lock()  # torch.fx puts a call of its own into nn.Module for as long as it traces
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def own_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode. Hooks are left out, and what those of ``torch.nn.utils`` compute is kept.

    Weight norm, spectral norm, pruning and parametrizations end as plain parameters.

    Raises:
        ConversionError: the model is no module, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ConversionError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    check_kind(model)
    replaced: dict[int, Any] = {}  # what deepcopy is to put in place of an object
    reparametrized: list[tuple[str, Any]] = []
    for path, part in model.named_modules():
        for hooks in _HOOKS:
            replaced[id(getattr(part, hooks))] = OrderedDict()
        own_hooks = [h for h in part._forward_pre_hooks.values() if type(h).__module__.startswith("torch.nn.utils")]
        reparametrized += [(path, hook) for hook in own_hooks]
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # the weight that such a hook computed
                replaced[id(value)] = value.detach().clone()
    try:
        own = copy.deepcopy(model, replaced).eval()
    except Exception as error:
        raise ConversionError(
            f"{type(model).__name__} cannot be copied (copy.deepcopy): {error}. Take what cannot be copied out of "
            "the module's attributes, or give the class a __deepcopy__."
        ) from error
    with torch.no_grad():
        for path, hook in reparametrized:
            hook.remove(own.get_submodule(path))
        for part in list(own.modules()):
            if parametrize.is_parametrized(part):
                _settle(part)
    return own


def _settle(part: nn.Module) -> None:
    """Make parameters of what is parametrized, without ``torch``: it edits the class, which the user's model shares."""
    values = {name: getattr(part, name) for name in part.get_submodule("parametrizations")._modules}
    part.__class__ = type(part).__bases__[0]
    del part._modules["parametrizations"]
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value.clone(), requires_grad=False))


class _Proxy(fx.Proxy):
    """Records ``x += y`` as what it is; fx takes it for ``x = x + y``."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)

    def _in_place(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(fx.Tracer):
    """Keeps modules of torch.nn whole, also in a subclass that inherits what they compute.

    What other threads compute meanwhile is no part of the trace.
    """

    record_stack_traces = True

    def __init__(self) -> None:
        super().__init__(autowrap_functions=_CREATORS)
        self._autowrap_search.append(torch)
        self._thread = threading.get_ident()

    def _is_traced(self) -> bool:
        """Whether this thread is the one whose operations are recorded."""
        return threading.get_ident() == self._thread

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return super().call_module(m, forward, args, kwargs) if self._is_traced() else forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return super().getattr(attr, attr_val, parameter_proxy_cache) if self._is_traced() else attr_val

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Asserted conditions are taken to hold; any other test of a value is an error."""
        frame = sys._getframe(2)  # above this one and the proxy's __bool__
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return line.strip().startswith("assert") or super().to_bool(obj)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            return False
        if isinstance(m, ClipFloorShift):
            return True
        ancestors = type(m).__mro__
        first = next(i for i, kind in enumerate(ancestors) if kind.__module__.startswith("torch.nn.modules"))
        changed = any(
            name == "forward" or (name.startswith("_") and name.endswith("_forward"))
            for kind in ancestors[:first]
            for name in vars(kind)
        )
        return super().is_leaf_module(m, module_qualified_name) or (ancestors[first] is not nn.Module and not changed)


def check_kind(model: nn.Module) -> None:
    """Refuse what is around a network or was made of it, and say where the network is.

    Raises:
        ConversionError: it is TorchScript, wrapped, or has no values.
    """
    name = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(f"The network is TorchScript ({name}); give the nn.Module that it was made from.")
    for inside, kinds in (("module", ("DataParallel", "DistributedDataParallel")), ("_orig_mod", ("OptimizedModule",))):
        if name in kinds:
            raise ConversionError(f"A {name} is around the network; give what is in it, net.{inside}.")
    if any(p.is_meta for p in model.parameters() if type(p) is nn.Parameter):  # a subclass may hold values
        raise ConversionError(f"{name} has parameters without values (on the meta device); load its weights first.")


def symbolic_trace(model: nn.Module) -> fx.GraphModule:
    """Record the operations of a network with one input; other arguments keep their defaults.

    Raises:
        ConversionError: there are several inputs, or operations that depend on the data.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    required = [p for p in parameters if p.default is p.empty and p.kind not in variadic]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if len(required) != 1 and (required or not parameters):
        names = ", ".join(p.name for p in required)
        raise ConversionError(
            f"{type(model).__name__}.forward takes {len(required)} inputs ({names}); it must take one tensor. "
            "Wrap the network in a module that fixes the others."
        )
    if not required:
        defaults.pop(parameters[0].name, None)
    tracer = _Tracer()
    try:
        with _TRACING:
            graph = tracer.trace(model, concrete_args=defaults or None)
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
        own = [f for f in frames if f.filename != __file__]
        line = f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
        raise ConversionError(
            f"torch.fx cannot trace {type(model).__name__}{line} ({error}). Control flow and Python numbers must "
            "not depend on the data, and nothing may be assigned to a slice; move such code out of forward, or "
            "wrap it with torch.fx.wrap."
        ) from error
    _drop_checks(graph)
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # or the generated code would wrap torch.zeros for every later trace
    return fx.GraphModule(tracer.root, graph).eval()


def _drop_checks(graph: fx.Graph) -> None:
    """Remove assertions, then the arguments that nothing reads."""
    for node in reversed(list(graph.nodes)):
        is_check = node.op == "call_function" and node.target.__name__ in ("_assert", "_assert_is_none")
        is_comparison = node.target is operator.eq and not node.users
        is_extra = node.op == "placeholder" and node is not graph._root.next and not node.users
        if is_check or is_comparison or is_extra:
            graph.erase_node(node)
