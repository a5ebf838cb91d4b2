"""The quantised twin is the network with few levels, and its channels have the means of the network's."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import MLP_INPUT, MLP_SITES, RESIDUAL_INPUT, RESIDUAL_SITES, inputs, mlp, residual
from torch import Tensor, nn

from rheobase.errors import DataError, SettingError
from rheobase.graph import Graph, trace
from rheobase.neurons import IF
from rheobase.observers import MMSE, Max, observe
from rheobase.quantisation import Quantiser, quantise, quantised_twin
from rheobase.thresholds import scales

NETWORKS = {
    "mlp": (mlp, MLP_INPUT, MLP_SITES),
    "residual": (residual, RESIDUAL_INPUT, RESIDUAL_SITES),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Graph, list[Tensor]]:
    """A network in normal form, and its calibration data."""
    make, shape, _ = NETWORKS[request.param]
    batches = list(inputs(shape, 48, seed=3).float().split(20))
    return trace(make(), batches[0]), batches


def channel_means(module: nn.Module, sites: tuple[str, ...], batches: list[Tensor]) -> dict[str, Tensor]:
    """The mean of what each site sends, from all of it at once."""
    sent: dict[str, list[Tensor]] = {site: [] for site in sites}
    hooks = [
        module.get_submodule(site).register_forward_hook(lambda _m, _x, a, s=site: sent[s].append(a)) for site in sites
    ]
    for x in batches:
        module(x)
    for hook in hooks:
        hook.remove()
    return {site: torch.cat(a).double().transpose(0, 1).flatten(1).mean(1) for site, a in sent.items()}


def gap(graph: Graph, twin: nn.Module, batches: list[Tensor]) -> float:
    """How far the mean of a channel is from that of the network, the worst one, relative to the site's mean."""
    wanted = channel_means(graph.module, graph.sites, batches)
    found = channel_means(twin, graph.sites, batches)
    return max(float((wanted[s] - found[s]).abs().max() / wanted[s].mean()) for s in graph.sites)


@given(
    z=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8),
    clip=st.sampled_from([0.5, 1.0, 2.5]),
    levels=st.sampled_from([1, 2, 4, 8]),
    rounding=st.booleans(),
)
def test_a_quantised_activation_is_the_mean_of_an_if_neuron(
    z: list[float], clip: float, levels: int, rounding: bool
) -> None:
    z = [round(x * 64) / 64 for x in z]  # sums without rounding
    x, th = torch.tensor([z]).double(), torch.tensor(clip).double()
    expected = references.relu_rate_if(z, clip, levels, clip / 2 if rounding else 0.0)
    np.testing.assert_array_equal(quantise(x, th, levels, rounding=rounding)[0], expected)
    neuron = IF(th, th / 2 if rounding else 0 * th)
    np.testing.assert_allclose(neuron(x.expand(levels, 1, -1)).mean(0)[0], expected, rtol=1e-12)


@given(z=st.floats(-1, 5), clip=st.floats(0.1, 4), levels=st.integers(1, 9))
def test_a_quantised_activation_is_the_nearest_level(z: float, clip: float, levels: int) -> None:
    x, th = torch.tensor([[z]], dtype=torch.float64), torch.tensor(clip, dtype=torch.float64)
    found = float(quantise(x, th, levels))
    a = max(z, 0.0)
    assert abs(found - a) == pytest.approx(abs(references.quantiser(a, clip, levels) - a), abs=1e-12)


def test_clips_and_biases_of_channels_act_on_their_channels() -> None:
    z = torch.rand(3, 2, 4)
    both = Quantiser(torch.tensor([0.5, 2.0]), 4, bias=torch.tensor([0.1, -0.2]))(z)
    assert torch.equal(both[:, 0], quantise(z[:, 0] + 0.1, torch.tensor(0.5), 4))
    assert torch.equal(both[:, 1], quantise(z[:, 1] - 0.2, torch.tensor(2.0), 4))


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("rounding", [False, True])
def test_with_very_many_levels_the_twin_is_the_network(
    network: tuple[Graph, list[Tensor]], rounding: bool, bias_correction: bool
) -> None:
    graph, batches = network
    clips = scales(observe(graph, batches, Max(per_channel=True)))
    twin = quantised_twin(
        graph,
        clips,
        2**20,
        rounding=rounding,
        bias_correction=bias_correction,
        batches=batches if bias_correction else None,
    )
    for x in batches:
        torch.testing.assert_close(twin(x), graph.module(x), rtol=1e-4, atol=1e-4)


def test_without_correction_the_twin_is_the_network_with_its_activations_quantised() -> None:
    net, x = mlp(), inputs(MLP_INPUT, 9).float()
    clips = {"1": torch.tensor(0.8), "3": torch.linspace(0.1, 0.8, 8)}
    twin = quantised_twin(trace(net, x), clips, 3, bias_correction=False)
    h = x
    with torch.no_grad():
        for layer, clip in ((net[0], clips["1"]), (net[2], clips["3"])):
            h = (layer(h) * 3 / clip + 0.5).floor().clamp(0, 3) * clip / 3
        torch.testing.assert_close(twin(x), net[4](h))


@pytest.mark.parametrize("levels", [2, 8])
def test_bias_correction_makes_the_means_of_the_channels_match(
    network: tuple[Graph, list[Tensor]], levels: int
) -> None:
    graph, batches = network
    clips = scales(observe(graph, batches, MMSE(levels, rounding=False)))
    plain, once, often = (
        quantised_twin(
            graph, clips, levels, rounding=False, bias_correction=rounds > 0, batches=batches, rounds=max(rounds, 1)
        )
        for rounds in (0, 1, 20)
    )
    before = gap(graph, plain, batches)
    assert gap(graph, once, batches) < 0.7 * before
    assert gap(graph, often, batches) < 0.1 * before


def test_bias_correction_is_the_same_however_the_data_are_split(network: tuple[Graph, list[Tensor]]) -> None:
    graph, batches = network
    clips = scales(observe(graph, batches, MMSE(4)))
    one = quantised_twin(graph, clips, 4, batches=torch.cat(batches))
    several = quantised_twin(graph, clips, 4, batches=iter(batches))
    for site in graph.sites:
        torch.testing.assert_close(one.get_submodule(site).bias, several.get_submodule(site).bias)


def test_bias_correction_takes_the_sites_in_turn() -> None:
    """The second site is corrected for what the corrected first one sends."""
    net, x = mlp(), inputs(MLP_INPUT, 40).float()
    graph = trace(net, x)
    clips = scales(observe(graph, x, MMSE(2)))
    twin = quantised_twin(graph, clips, 2, batches=x)
    with torch.no_grad():
        h, a = x, x
        for i, site in ((0, "1"), (2, "3")):
            a = net[i](a).relu()
            z = net[i](h)
            bias = (a - quantise(z, clips[site], 2)).mean(0)
            torch.testing.assert_close(twin.get_submodule(site).bias, bias, rtol=1e-5, atol=1e-6)
            h = quantise(z + bias, clips[site], 2)


def test_graph_thresholds_and_model_stay_as_they_are() -> None:
    net, x = residual().train(), inputs(RESIDUAL_INPUT, 12).float()
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    graph = trace(net, x)
    clips = {site: torch.tensor(1.0) for site in graph.sites}
    before, modules = graph.module(x), dict(graph.module.named_modules())
    twin = quantised_twin(graph, clips, 2, batches=x)
    for quantiser in (twin.get_submodule(s) for s in graph.sites):
        quantiser.clip.fill_(7.0)  # type: ignore[operator, union-attr]
    assert torch.equal(graph.module(x), before)
    assert dict(graph.module.named_modules()) == modules
    assert not any(m._forward_hooks for m in (*graph.module.modules(), *twin.modules()))
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    assert net.training
    assert not twin.training
    assert all(clip == 1 for clip in clips.values())


def test_a_twin_has_the_type_of_the_network() -> None:
    x = inputs(MLP_INPUT, 8)
    graph = trace(mlp().double(), x)
    twin = quantised_twin(graph, {s: torch.tensor(1.0) for s in MLP_SITES}, 4, batches=x.float())
    assert twin(x).dtype == torch.float64


def test_all_problems_are_in_one_message() -> None:
    graph = trace(mlp(), inputs(MLP_INPUT).float())
    with pytest.raises(SettingError) as caught:
        quantised_twin(graph, {"3": torch.zeros(3), "relu": torch.ones(())}, 0, rounds=0)
    for problem in (
        "no threshold for the site 1",
        "3 has 8 channels and thresholds of shape (3,)",
        "3 has a threshold that is not positive",
        "no site relu; it has 1, 3",
        "levels is 0",
        "rounds is 0",
        "needs batches",
    ):
        assert problem in str(caught.value)


def test_the_hooks_are_removed_when_a_batch_does_not_fit() -> None:
    graph = trace(mlp(), inputs(MLP_INPUT).float())
    with pytest.raises(DataError, match=r"Batch 0: the network fails on an input of shape \(2, 5\)"):
        quantised_twin(graph, {s: torch.tensor(1.0) for s in MLP_SITES}, 4, batches=torch.ones(2, 5))
    assert not any(m._forward_hooks for m in graph.module.modules())
