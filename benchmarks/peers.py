"""Other simulators of the same network, in an environment of their own: `benchmarks.speed` makes and asks it.

    python benchmarks/peers.py NETWORK.pt     (the interpreter of the other environment)

NETWORK.pt holds the folded network, the thresholds of its activation sites and the images. A line of JSON on
the standard input names what to run, a line on the standard output answers. Each simulator gets the same weights
and thresholds, its own integrate-and-fire neuron with reset by subtraction, and images in channels-last order.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, fx, nn


def own(threshold: Tensor) -> float:
    """The threshold that a peer's neuron gets."""
    return float(threshold) if threshold.numel() == 1 else 1.0


class Site(nn.Module):
    """A peer's neuron: unit spikes times the threshold. Shape: (N, ...), or (T * N, ...) with ``steps``.

    One threshold a channel is divided out before the neuron, whose own is then 1.
    """

    def __init__(self, neuron: nn.Module, threshold: Tensor, steps: int, time_first: bool = True) -> None:
        super().__init__()
        self.neuron, self.steps, self.time_first = neuron, steps, time_first
        self.register_buffer("threshold", threshold.float().reshape(-1, 1, 1) if threshold.numel() > 1 else threshold)

    def forward(self, x: Tensor) -> Tensor:
        if self.threshold.numel() > 1:
            x = x / self.threshold
        if self.steps == 1:
            return self.neuron(x) * self.threshold
        x = x.unflatten(0, (self.steps, -1))  # (T*N, ...) -> (T, N, ...)
        y = self.neuron(x) if self.time_first else self.neuron(x.movedim(0, 1).contiguous()).movedim(1, 0)
        return y.flatten(0, 1) * self.threshold


def spikingjelly(threshold: Tensor, steps: int) -> nn.Module:
    from spikingjelly.activation_based.neuron import IFNode

    mode = "s" if steps == 1 else "m"
    return Site(IFNode(v_threshold=own(threshold), v_reset=None, step_mode=mode), threshold, steps)


def snntorch(threshold: Tensor, steps: int) -> nn.Module:
    import snntorch as snn

    neuron = snn.Leaky(
        beta=1.0, threshold=own(threshold), reset_mechanism="subtract", reset_delay=False, init_hidden=True
    )
    return Site(neuron, threshold, steps)


def sinabs(threshold: Tensor, steps: int) -> nn.Module:
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAF

    return Site(
        IAF(spike_threshold=torch.tensor(own(threshold)), spike_fn=SingleSpike), threshold, steps, time_first=False
    )


def reset(neuron: nn.Module, start: float) -> None:
    """Forget the last run; SpikingJelly's neurons begin with a share of their threshold as potential."""
    name = type(neuron).__name__
    if name == "IAF":
        neuron.reset_states()
    elif name == "Leaky":
        neuron.reset_mem()
    else:
        neuron.reset()
        if start:
            neuron.v = start * neuron.v_threshold


MAKERS: dict[str, tuple[Callable[[Tensor, int], nn.Module], bool]] = {
    "SpikingJelly, step by step": (spikingjelly, False),
    "SpikingJelly, multi-step": (spikingjelly, True),
    "snnTorch": (snntorch, False),
    "sinabs": (sinabs, True),
}
PACKAGES = {"SpikingJelly, step by step": "spikingjelly", "SpikingJelly, multi-step": "spikingjelly"}


def convert(content: dict[str, Any], name: str, steps: int) -> nn.Module:
    """The network with a peer's neurons."""
    make, together = MAKERS[name]
    layers = {path: copy.deepcopy(layer) for path, layer in content["layers"].items()}
    layers |= {site: make(threshold, steps if together else 1) for site, threshold in content["thresholds"].items()}
    graph, made = fx.Graph(), {}
    for op, node, target, args, kwargs in content["nodes"]:
        args, kwargs = fx.node.map_aggregate(
            (args, kwargs), lambda a: made[a[1:]] if isinstance(a, str) and a.startswith("%") else a
        )
        made[node] = graph.create_node(op, target, args, kwargs, node)
    net = fx.GraphModule(layers | content["constants"], graph)
    return net.to(memory_format=torch.channels_last).eval()


def simulate(net: nn.Module, x: Tensor, steps: int, start: float) -> Tensor:
    """The sum of the outputs over time. Shape (N, classes)."""
    sites = [m for m in net.modules() if isinstance(m, Site)]
    for site in sites:
        reset(site.neuron, start)
    if sites[0].steps == 1:
        total = net(x)
        for _ in range(steps - 1):
            total = total + net(x)
        return total
    repeated = x.repeat(steps, 1, 1, 1).to(memory_format=torch.channels_last)
    return net(repeated).unflatten(0, (steps, -1)).sum(0)


def main() -> None:
    content = torch.load(sys.argv[1], weights_only=False)
    torch.set_num_threads(content["threads"])
    x = content["images"].to(memory_format=torch.channels_last)
    nets: dict[tuple[str, int], nn.Module] = {}
    for line in sys.stdin:
        request = json.loads(line)
        key = request["run"], request["steps"]
        try:
            if key not in nets:
                nets[key] = convert(content, *key)
            with torch.no_grad():
                start = time.perf_counter()
                output = simulate(nets[key], x, request["steps"], content["start"])
                seconds = time.perf_counter() - start
            package = PACKAGES.get(key[0], key[0].lower())
            answer = {"seconds": seconds, "classes": output.argmax(1).tolist(), "version": version(package)}
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a peer, its line says so)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
