"""The converted network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from rheobase import kernels
from rheobase.digest import structure
from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.execution import Execution
from rheobase.graph import Graph, site_shapes, trace
from rheobase.neurons import CumulativeMaxPool, MaxPoolGate, Neuron, Temporal
from rheobase.operations import POOLS, reached
from rheobase.ownership import Ownership
from rheobase.plan import Plan
from rheobase.precision import first_weight
from rheobase.program import Program
from rheobase.rewrites import pool_spikes

__all__ = ["SpikingModel", "load"]


class SpikingModel(nn.Module):
    """A network whose activation sites are layers of spiking neurons.

    Calling it advances it by one step and gives the analog output of that step, where the input is a constant current;
    `rheobase.simulation.stream` goes step by step with ``chunk=1`` through any network, and `simulate` reads the
    answer out.

    Args:
        graph: the network in normal form; it is copied.
        plan: the neuron of each site, and edits of the weights.

    Raises:
        ConversionError: the plan and the graph do not fit each other; every misfit is listed. When called: the
            input is not a constant current.

    Shape:
        (N, ...) -> (N, ...).
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__()
        _check_fit(graph, plan)
        self._given = graph
        self.graph = graph = _with_spikes_pooled(graph) if plan.pooling == "gate" else graph
        self.module = copy.deepcopy(graph.module)
        weight = first_weight(self.module, None)
        device, dtype = (None, None) if weight is None else (weight.device, weight.dtype)
        plan = self.plan = plan if device is None else plan.on(device)
        for path, value in plan.edits.items():
            self.module.get_parameter(path).data.copy_(value)
        for site, neuron in plan.neurons.items():
            self.module.set_submodule(site, copy.deepcopy(neuron).to(device, dtype))
        neurons = {node for node in self.module.graph.nodes if str(node.target) in plan.neurons}
        for node in reached(self.module.graph, neurons.__contains__):
            layer = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, POOLS):
                self.module.set_submodule(str(node.target), _pooling(plan, layer))
        self.module.graph.owning_module = None  # or the two would keep each other, and the weights, until a collection
        self.program = Program(self.module, plan.encoder.constant)
        self._input_key = 0
        self._ownership = Ownership()
        self._backend: kernels.Backend = "auto"
        self.eval()

    def neurons(self) -> dict[str, Neuron]:
        """The neurons of each site, in the order of execution."""
        return {site: self.module.get_submodule(site) for site in self.plan.neurons}  # type: ignore[misc]

    def is_of(self, graph: Graph) -> bool:
        """Whether it was made of a graph with the same layers; its weights and sizes of layers may be others."""
        own = (self._given, self.graph)  # the second one pools spikes, where poolings are gates
        return graph in own or structure(graph.module) in [structure(known.module) for known in own]

    @property
    def random(self) -> bool:
        """Whether a run depends on the generator given to `reset`."""
        return self.plan.encoder.random or any(neuron.random for neuron in self.neurons().values())

    @property
    def causal(self) -> bool:
        """Whether each layer works in the same step as the one before it; otherwise a layer waits for all steps."""
        return all(neuron.causal for neuron in self.neurons().values())

    def end_to_end_steps(self, steps: int) -> int:
        """How long the answer of a simulation of so many steps takes from the input on.

        In a causal network that is the simulation itself, ``steps`` (with a read-out ``Delayed(after)``, after + T).
        In a layer-synchronous one each layer waits for the one before it: the sum of `Neuron.layer_steps` along the
        longest chain of sites, layers * T for most neurons. The first layer knows its constant input at once. While
        one input passes through the later layers, the earlier ones may take the next.

        Args:
            steps: of the simulation, at least 1.
        """
        neurons, longest = self.neurons(), 0
        ready: dict[fx.Node, int] = {}  # when all that a node computes from the neurons before it has come
        for node in self.module.graph.nodes:
            neuron = neurons.get(str(node.target)) if node.op == "call_module" else None
            own = 0 if neuron is None or neuron.causal else neuron.layer_steps(steps)
            ready[node] = own + max((ready[n] for n in node.all_input_nodes), default=0)
            longest = max(longest, ready[node])
        return max(longest, steps)

    def dense_operations(self) -> dict[str, int]:
        """What one pass with all inputs non-zero costs each weighted layer that receives spikes, per sample."""
        costs: dict[str, int] = {}
        for node in self.program.synapses:
            name = str(node.target)
            costs[name] = costs.get(name, 0) + int(self.program.fan_out(node).sum())
        return costs

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Forget all input. Each layer draws a key from the generator (or one of seed 0) for what is random in it."""
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        with self._ownership.turn():
            self._ownership.claim()
            self._input_key = _key(generator) if self.plan.encoder.random else 0
            for layer in self.module.modules():
                if isinstance(layer, Temporal):
                    layer.reset(_key(generator))

    def start(self, x: Tensor, generator: torch.Generator | None = None) -> Execution:
        """Reset, and prepare a batch: `reset` and `execution`, with no other thread in between."""
        with self._ownership.turn():
            self.reset(generator)
            return self.execution(x)

    def execution(self, x: Tensor) -> Execution:
        """Prepare a batch: what is constant over time is computed here.

        The neurons are those of this batch from here on; an earlier execution that goes on raises a ConversionError.

        Raises:
            DataError: the input does not fit the network.
        """
        if tuple(x.shape[1:]) != self.graph.input_shape:
            raise DataError(
                f"The input has the shape {tuple(x.shape)}; the network was converted for "
                f"(N, {', '.join(map(str, self.graph.input_shape))})."
            )
        dtype = first_weight(self.module, x).dtype
        if x.dtype != dtype and (x.is_floating_point() or not self._takes_numbers()):
            raise DataError(f"The input is {x.dtype} and the network {dtype}; give x.to({dtype}).")
        x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
        draws = torch.Generator().manual_seed(self._input_key)
        with self._ownership.turn():
            return Execution(self.program, x, self.plan.encoder, draws, self._ownership)

    def _takes_numbers(self) -> bool:
        return any(isinstance(layer, nn.Embedding) for layer in self.module.modules())

    def forward(self, x: Tensor) -> Tensor:
        if not self.plan.encoder.constant or self.plan.encoder.changes:
            raise ConversionError(
                f"A network with the input {self.plan.encoder!r} cannot be called step by step, because what it "
                "receives depends on the step. Use rheobase.simulate, or "
                "rheobase.simulation.stream(snn, x, steps, chunk=1)."
            )
        return self.execution(x).advance(1)[0]

    @property
    def events(self) -> kernels.Events:
        """When convolutions and linear layers touch only the spikes they receive.

        "auto": in each chunk of steps, where the number of spikes makes that faster; "always":
        wherever it can be done; "never". The choice changes results by rounding alone. What is not computed from
        events is dense, see `arithmetic`. Weights are read once; a change of ``parameter.data`` is not seen.
        """
        return self.program.events

    @events.setter
    def events(self, events: kernels.Events) -> None:
        kernels.check("events", events, kernels.Events)
        self.program.events = events

    @property
    def arithmetic(self) -> kernels.Arithmetic:
        """How convolutions and linear layers that are not computed from events multiply the spikes they receive.

        "auto": in whole numbers where that is faster (`rheobase.kernels.integer` says how exactly);
        "float": in float32; "rounded": in whole numbers, with the product of weight and threshold rounded to at least
        1 / 16,000 of the largest of its output channel. On a CUDA device, "auto" and "float" are float32 whatever
        PyTorch's settings are, and "rounded" allows TF32, whose products are within 2^-10.
        """
        return self.program.arithmetic

    @arithmetic.setter
    def arithmetic(self, arithmetic: kernels.Arithmetic) -> None:
        kernels.check("arithmetic", arithmetic, kernels.Arithmetic)
        self.program.arithmetic = arithmetic

    @property
    def backend(self) -> kernels.Backend:
        """What computes the neurons that have fused kernels, and counts their spikes.

        "auto": for each call the fastest that can take its tensors; "triton" (CUDA) or "cpu" (Numba), which raise a
        `SettingError` in a simulation where they cannot; "reference": plain PyTorch. `rheobase.backends` says which of
        them this process has. Integrate and fire, graded or not, gives the same bits in all of them; the
        thresholds of MSAT agree to float32 rounding.
        """
        return self._backend

    @backend.setter
    def backend(self, backend: kernels.Backend) -> None:
        kernels.check("backend", backend, kernels.Backend)
        self._backend = backend
        for layer in self.module.modules():
            if isinstance(layer, Temporal):
                layer.backend = backend

    def save(self, path: str | Path) -> None:
        """Write the conversion (not the weights of the network) to one file, for `load`."""
        self.plan.save(
            path,
            {
                "input_shape": self._given.input_shape,
                "layers": structure(self._given.module),
                "weights": _fingerprint(self._given),
            },
        )


def load(path: str | Path, model: nn.Module) -> SpikingModel:
    """Convert a network as it was when `SpikingModel.save` wrote the file.

    Args:
        path: the file.
        model: the network with the weights that it had then.

    Raises:
        SettingError: the network is no nn.Module.
        DataError: the file cannot be read.
        ConversionError: the network or its weights are others than those converted.
    """
    if not isinstance(model, nn.Module):
        raise SettingError(f"load: model is {model!r}; give the network that was converted, an nn.Module.")
    plan, header = Plan.load(path)
    if "input_shape" not in header:
        raise DataError(f"{path} holds a plan alone; rheobase.load takes a file that SpikingModel.save wrote.")
    weight = first_weight(model, torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    example = torch.rand((2, *header["input_shape"]), generator=generator).to(weight.device, weight.dtype)
    graph = trace(model, example)
    there, asked = structure(graph.module), header.get("layers")  # which files of older versions lack
    if asked is not None and there != asked:
        first = next(pair for pair in zip_longest(there, asked, fillvalue="nothing") if pair[0] != pair[1])
        raise ConversionError(
            f"{path} was made from another network: it had {first[1]} where this one has {first[0]}. Build the "
            "network as it was converted, or convert again."
        )
    found, wanted = _fingerprint(graph), header["weights"]
    differing = [k for k in wanted if not _close(found.get(k), wanted[k])] + [k for k in found if k not in wanted]
    if differing:
        raise ConversionError(
            f"{path} was made from a network with other weights: {', '.join(differing[:5])}"
            f"{' ...' if len(differing) > 5 else ''} differ. Load the weights that were converted, or convert again."
        )
    return SpikingModel(graph, plan).to(weight.device)


def _key(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _with_spikes_pooled(graph: Graph) -> Graph:
    """The same network with its max poolings behind the neurons that they are before."""
    module = copy.deepcopy(graph.module)
    pool_spikes(module)
    return dataclasses.replace(graph, module=module, shapes=site_shapes(module, graph.sites))


def _pooling(plan: Plan, layer: nn.Module) -> nn.Module:
    """The max pooling that the plan wants where neurons are read."""
    return MaxPoolGate(layer) if plan.pooling == "gate" else CumulativeMaxPool(layer, plan.pooling == "edges")


def _fingerprint(graph: Graph) -> dict[str, list[Any]]:
    """Of each parameter and buffer p of the normal form: shape, mean of |p|, and sum of p_i cos(i) over sum of |p|.

    They are the same on every machine up to rounding, which folding batch norm into weights leaves to it. The second
    sees signs and order.
    """
    found = {}
    for name, p in graph.module.state_dict().items():
        flat = p.detach().double().cpu().flatten()
        waves = torch.arange(len(flat), dtype=torch.float64).cos()
        found[name] = [list(p.shape), float(flat.abs().mean()), float(flat @ waves / flat.abs().sum().clamp(min=1e-30))]
    return found


def _close(found: list[Any] | None, wanted: list[Any]) -> bool:
    """Whether two fingerprints of a tensor agree; a file of an older version has no third number."""
    if found is None or found[0] != wanted[0] or abs(found[1] - wanted[1]) > 1e-4 * abs(wanted[1]):
        return False
    return all(abs(a - b) <= 1e-5 for a, b in zip(found[2:], wanted[2:], strict=False))


def _parameters(neuron: Neuron) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a neuron and of those inside it, for the layer, each channel, or each step and channel."""
    for module in neuron.modules():
        if isinstance(module, Neuron):
            yield from module.named_buffers(recurse=False)


def _check_fit(graph: Graph, plan: Plan) -> None:
    problems = [f"the plan has no neuron for the site {s}" for s in graph.sites if s not in plan.neurons]
    problems += [f"the network has no site {s}" for s in plan.neurons if s not in graph.sites]
    for site in set(graph.sites) & set(plan.neurons):
        shape, channels = tuple(graph.shapes[site]), graph.channels(site)
        problems += [
            f"{site} has {channels} channels and {name} of shape {tuple(value.shape)}"
            for name, value in _parameters(plan.neurons[site])
            if value.ndim and value.shape[-1] not in (1, channels) and tuple(value.shape) != shape
        ]
    if plan.pooling not in ("sum", "edges", "gate"):
        problems.append(f'its pooling is {plan.pooling!r}; it must be "sum", "edges" or "gate"')
    names = dict(graph.module.named_parameters())
    for path, value in plan.edits.items():
        if path not in names:
            problems.append(f"the network has no parameter {path}")
        elif value.shape != names[path].shape:
            problems.append(f"{path} has the shape {tuple(names[path].shape)}, the plan {tuple(value.shape)}")
    if problems:
        raise ConversionError("The plan does not fit the network:\n  " + "\n  ".join(sorted(problems)))
