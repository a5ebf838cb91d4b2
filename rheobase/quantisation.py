"""The quantised twin of a network: the ANN whose activations have as few levels as the spikes of an SNN.

A layer that sends T binary spikes of height M, or T steps' worth of spikes in multiples of M / L, cannot say
more than a clip-and-round quantiser does. The accuracy of the network with these quantisers, which have no
time, is what a conversion with such spikes is to be measured against.

References:
    Bu et al. 2022, arXiv 2303.04347 (ANN with quantised activations and IF neurons agree, clip-floor-shift).
    Li et al. 2021, arXiv 2106.06984 (bias correction from the means of channels).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx, nn

from rheobase.batches import Batch, batches_for
from rheobase.errors import SettingError
from rheobase.graph import Graph
from rheobase.neurons._base import along_channels
from rheobase.observers import MMSE, observe
from rheobase.precision import first_weight, float32_products
from rheobase.qcfs import trained_thresholds
from rheobase.reading import AS_TRAINED, Reading, on_batch
from rheobase.thresholds import scales

__all__ = ["Quantiser", "fitted_twin", "quantise", "quantised_twin"]


def quantise(z: Tensor, clip: Tensor, levels: int, *, rounding: bool = True) -> Tensor:
    """The activation that is left of a pre-activation when there are few levels.

    .. code-block:: text

        q(z; M) = (M / L) clip(floor(z L / M + 1/2), 0, L)      (without rounding: no 1/2)

    What an IF neuron with threshold M and initial potential M / 2 (without rounding: 0) sends a step, on
    average over T = L steps of the constant current z.

    Args:
        z: pre-activation.
        clip: M > 0, the greatest value, in units of the activation.
        levels: L, how many values above 0 there are.
        rounding: to the nearest level; otherwise to the next one below.

    Shape:
        z: (N, C, ...); clip: () or (C,); result: that of z.

    Example:
        >>> quantise(torch.tensor([[-1.0, 0.3, 0.6, 9.0]]), torch.tensor(1.0), 2)
        tensor([[0.0000, 0.5000, 0.5000, 1.0000]])
    """
    step = along_channels(clip, z) / levels
    return torch.floor(z / step + 0.5 * rounding).clamp_(0, levels) * step


class Quantiser(nn.Module):
    """Takes the place of a ReLU: q(z + bias; clip), as in ``quantise``.

    Args:
        clip: M, shape () or (C,).
        levels: L.
        rounding: to the nearest level; otherwise to the next one below.
        bias: added to the pre-activation, shape () or (C,).
    """

    clip: Tensor
    bias: Tensor

    def __init__(self, clip: Tensor, levels: int, rounding: bool = True, bias: Tensor | float = 0.0) -> None:
        super().__init__()
        self.register_buffer("clip", clip)
        self.register_buffer("bias", torch.as_tensor(bias, dtype=clip.dtype).to(clip.device))
        self.levels = levels
        self.rounding = rounding

    def forward(self, z: Tensor) -> Tensor:
        """Quantise the pre-activation. Shape (N, C, ...)."""
        return quantise(z + along_channels(self.bias, z), self.clip, self.levels, rounding=self.rounding)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, rounding={self.rounding}"


@torch.no_grad()
def quantised_twin(
    graph: Graph,
    thresholds: Mapping[str, Tensor],
    levels: int,
    *,
    rounding: bool = True,
    bias_correction: bool = True,
    batches: object = None,
    rounds: int = 1,
) -> nn.Module:
    """The network with a ``Quantiser`` in the place of each ReLU.

    With the bias correction, site after site in the order of execution, so that each sees what the corrected
    ones before it send, and with means over samples and positions, for each channel:

    .. code-block:: text

        bias <- bias + mean(max(z_ann, 0)) - mean(q(z_twin + bias; M))

    The bias acts before the quantiser, where the layer of an SNN has its own bias. One round does not quite
    make the means equal, because a clipped or silent neuron does not feel the bias; further ones come closer.
    It costs one pass of the network over the batches, and ``rounds`` passes up to each site.

    Args:
        graph: the network in normal form; it stays as it is.
        thresholds: the clip M of every site, positive, in units of the activation, such as ``MMSE`` gives for
            these levels (with ``thresholds.scales`` for silent channels).
        levels: L, how many values above 0 each activation can have; T for IF neurons that run T steps.
        rounding: to the nearest level; otherwise to the next one below.
        bias_correction: whether to correct the mean of each channel.
        batches: calibration data, what ``rheobase.batches.as_batches`` accepts; only for the correction.
        rounds: how often each site is corrected.

    Shape:
        thresholds: () or (C,).

    Returns:
        A module that computes what the twin computes, in evaluation mode and without gradients.

    Raises:
        SettingError: a site lacks its threshold, a threshold is not positive, does not fit or has no site,
            levels or rounds is below 1, or there are no batches for the correction; all in one message.
        DataError: the batches are malformed or do not fit the network.

    Example:
        >>> from rheobase.graph import trace
        >>> graph = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.rand(8, 4))
        >>> twin = quantised_twin(graph, {"1": torch.tensor(1.0)}, 4, bias_correction=False)
        >>> bool((twin(torch.rand(8, 4)) * 4 % 1 == 0).all())
        True
    """
    problems = _problems(graph, thresholds)
    if levels < 1:
        problems.append(f"levels is {levels}; accepted: 1 or more")
    if rounds < 1:
        problems.append(f"rounds is {rounds}; accepted: 1 or more")
    if bias_correction and batches is None:
        problems.append("the bias correction needs batches; give some, or bias_correction=False")
    if problems:
        raise SettingError("quantised_twin: " + "; ".join(problems) + ".")
    twin = copy.deepcopy(graph.module)
    weight = first_weight(twin, torch.zeros(()))
    quantisers = {}
    for site in graph.sites:
        clip = thresholds[site].detach().to(weight.device, weight.dtype, copy=True)
        quantisers[site] = Quantiser(clip, levels, rounding)
        twin.set_submodule(site, quantisers[site])
    if bias_correction:
        data = batches_for(batches, twin)
        read = Reading(data)
        wanted = read.alike(lambda: _means(graph.module, graph.sites, read))
        for site in graph.sites:
            part = _until(twin, site)
            for _ in range(rounds):
                gap = wanted[site] - _means(part, (site,), data)[site]
                quantisers[site].bias = quantisers[site].bias + gap.to(weight.dtype)
    return twin.eval()


def fitted_twin(graph: Graph, batches: object, levels: int) -> nn.Module:
    """The twin with the thresholds of least squared error for each channel, and one round of bias correction.

    A site that was trained as `rheobase.qcfs.ClipFloorShift` keeps the threshold that was trained.

    Args:
        graph: the network in normal form; it stays as it is.
        batches: calibration data, what ``rheobase.batches.as_batches`` accepts.
        levels: L, how many values above 0 each activation can have, at least 1.

    Raises:
        SettingError: levels is below 1.
        DataError: the batches are malformed or do not fit the network.
    """
    data = batches_for(batches, graph.module)
    clips = scales(observe(graph, data, MMSE(levels))) | trained_thresholds(graph.module, graph.sites)
    return quantised_twin(graph, clips, levels, batches=data)


def _problems(graph: Graph, thresholds: Mapping[str, Tensor]) -> list[str]:
    problems = [f"there is no threshold for the site {site}" for site in graph.sites if site not in thresholds]
    for site, clip in thresholds.items():
        if site not in graph.sites:
            problems.append(f"the network has no site {site}; it has {', '.join(graph.sites)}")
            continue
        shape = graph.shapes[site]
        if clip.ndim > 1 or (clip.ndim == 1 and clip.shape != shape[:1]):
            problems.append(f"{site} has {graph.channels(site)} channels and thresholds of shape "
                            f"{tuple(clip.shape)}; accepted: () for the layer or (C,) for its channels")  # fmt: skip
        if not bool((torch.isfinite(clip) & (clip > 0)).all()):
            problems.append(f"{site} has a threshold that is not positive and finite; see rheobase.thresholds.scales")
    return problems


def _until(module: fx.GraphModule, site: str) -> fx.GraphModule:
    """The part of a network up to the output of a site, with the same submodules."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.op == "call_module" and node.target == site:
            graph.output(copies[node])
            break
    part = fx.GraphModule(module, graph).eval()
    part.graph.eliminate_dead_code()
    part.recompile()
    return part


def _means(module: nn.Module, sites: tuple[str, ...], data: Iterable[Batch]) -> dict[str, Tensor]:
    """The mean of what each site sends, for each channel, float64. Shape (C,), or () where a site has none."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(sites, 0)

    def look(site: str, a: Tensor) -> None:
        parts = a.double().sum([d for d in range(a.ndim) if d != 1])  # (N, C, ...) -> (C,)
        sums[site] = sums[site] + parts if site in sums else parts
        counts[site] += a.numel() // parts.numel()

    hooks = [
        module.get_submodule(site).register_forward_hook(lambda _module, _args, a, s=site: look(s, a)) for site in sites
    ]
    try:
        for index, (x, _) in enumerate(data):
            with on_batch(index, x, "the network", AS_TRAINED), float32_products(x.device, rounded=False):
                module.forward(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {site: sums[site] / counts[site] for site in sites}
