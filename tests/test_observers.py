"""Observers measure the same thing however the data come, and say what is wrong with them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor, nn

from rheobase.errors import ConversionWarning, DataError, SettingError
from rheobase.graph import trace
from rheobase.observers import LTB, MMSE, Histogram, Max, Moments, Observer, Percentile, Statistics, observe

Floats = NDArray[np.float32]

EXACT = [
    Max(),
    Max(per_channel=True),
    Percentile(99.9),
    Percentile(50, per_channel=True),
    Percentile(75, nonzero=True),
    Percentile(100, per_channel=True, nonzero=True),
    Histogram(),
    Histogram(per_channel=True, bits=3, low=-4, high=2),
    Histogram(follow=True),
    Histogram(per_channel=True, bits=3, low=-4, high=2, follow=True),
    MMSE(4, per_channel=False),
    MMSE(8, rounding=False),
    MMSE(3, powers_of_two=True),
    LTB(20, per_channel=False),
    LTB(20),
]
ALL = [*EXACT, Moments(), Moments(per_channel=True)]

# Numbers of every size, with zeros of both signs, ties and values outside the range of the histogram.
numbers = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(-(2.0**24), 2.0**24, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0**-30, 2.0**-20, 2.0**20, 2.0**23]),
)


@st.composite
def activations(draw: st.DrawFn, elements: st.SearchStrategy[float] = numbers) -> Floats:
    n, c = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rest = draw(st.sampled_from([(), (1,), (5,), (2, 3)]))
    return draw(hnp.arrays(np.float32, (n, c, *rest), elements=elements))


@st.composite
def rearranged(draw: st.DrawFn) -> tuple[Floats, list[Floats]]:
    """The data in one piece, and the same samples in another order and in several pieces."""
    x = draw(activations())
    order = draw(st.permutations(range(len(x))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(x) - 1)), max_size=4)))
    return x, [piece for piece in np.split(x[list(order)], cuts) if len(piece)]


def _measure(observer: Observer, *pieces: Floats) -> Tensor:
    observer = observer.clone()
    for piece in pieces:
        observer.update(torch.from_numpy(piece))
    return observer.result()


def _rows(x: Floats, per_channel: bool) -> list[Floats]:
    """The values of each channel, or of the site, as flat arrays."""
    return [x[:, c].ravel() for c in range(x.shape[1])] if per_channel else [x.ravel()]


@pytest.mark.parametrize("observer", EXACT, ids=repr)
@given(data=rearranged())
def test_split_and_order_change_nothing(observer: Observer, data: tuple[Floats, list[Floats]]) -> None:
    whole, pieces = data
    assert torch.equal(_measure(observer, whole), _measure(observer, *pieces))


@pytest.mark.parametrize("per_channel", [False, True])
@given(data=rearranged())
def test_split_and_order_change_the_moments_by_rounding_only(
    per_channel: bool, data: tuple[Floats, list[Floats]]
) -> None:
    whole, pieces = data
    (mean, variance), (mean2, variance2) = (
        _measure(Moments(per_channel), whole),
        _measure(Moments(per_channel), *pieces),
    )
    scale = float(np.abs(whole).max())
    torch.testing.assert_close(mean, mean2, rtol=0, atol=1e-10 * scale)
    torch.testing.assert_close(variance, variance2, rtol=1e-10, atol=1e-28 * scale**2)


@pytest.mark.parametrize("per_channel", [False, True])
@given(x=activations())
def test_max_is_that_of_numpy(per_channel: bool, x: Floats) -> None:
    expected = [max(row.max(), 0) for row in _rows(x, per_channel)]
    assert _measure(Max(per_channel), x).reshape(-1).tolist() == expected


@pytest.mark.parametrize("per_channel", [False, True])
@given(x=activations())
def test_moments_are_those_of_numpy(per_channel: bool, x: Floats) -> None:
    mean, variance = _measure(Moments(per_channel), x).reshape(2, -1).numpy()
    rows = np.array(_rows(x, per_channel), np.float64)
    scale = np.abs(x).max()
    np.testing.assert_allclose(mean, rows.mean(1), rtol=0, atol=1e-14 * scale)
    np.testing.assert_allclose(variance, rows.var(1), rtol=1e-10, atol=1e-28 * scale**2)


def test_variance_keeps_its_precision_beside_a_large_mean() -> None:
    x = 4096 + torch.randn(64, 5) / 1024
    observer = Moments()
    for piece in x.split(1):
        observer.update(piece)
    np.testing.assert_allclose(observer.result()[1], x.double().numpy().var(), rtol=1e-10)


@pytest.mark.parametrize("nonzero", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@given(x=activations(), q=st.floats(0, 1))
def test_quantile_is_that_of_numpy_within_the_stated_error(
    per_channel: bool, nonzero: bool, x: Floats, q: float
) -> None:
    histogram = Histogram(per_channel)
    histogram.update(torch.from_numpy(x))
    measured = histogram.quantile(q, nonzero=nonzero).reshape(-1).tolist()
    for value, z in zip(measured, _rows(x, per_channel), strict=True):
        a = np.maximum(z, 0).astype(np.float64)
        a = a[a > 0] if nonzero else a
        top = a.max(initial=0)
        a[a >= 2.0**20] = top  # as documented for values above the range
        expected = np.quantile(a, q) if len(a) else 0.0
        assert abs(value - expected) <= (2**-8 + 1e-6) * expected + 2.0**-20
        assert value <= top


@given(x=activations(), nonzero=st.booleans())
def test_the_hundredth_percentile_is_the_exact_maximum(x: Floats, nonzero: bool) -> None:
    assert torch.equal(_measure(Percentile(100, nonzero=nonzero), x), _measure(Max(), x))


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_more_bits_make_the_percentile_more_precise(bits: int) -> None:
    x = np.random.default_rng(0).lognormal(size=(50, 200)).astype(np.float32)
    histogram = Histogram(bits=bits)
    histogram.update(torch.from_numpy(x))
    q = np.linspace(0, 1, 31)
    error = [float(histogram.quantile(p)) / e - 1 for p, e in zip(q, np.quantile(x, q), strict=True)]
    assert 2.0 ** -(bits + 3) < np.abs(error).max() <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("histogram", [Histogram(), Histogram(bits=2, low=-3, high=1)], ids=repr)
@given(x=activations())
def test_every_activation_is_counted_in_the_bin_between_its_edges(histogram: Histogram, x: Floats) -> None:
    histogram = histogram.clone()
    histogram.update(torch.from_numpy(x))
    edges, counts = histogram.edges().numpy(), histogram.result().numpy()
    a = np.maximum(x.ravel(), 0)
    expected = np.histogram(a[a > 0], edges[1:])[0]
    np.testing.assert_array_equal(counts, [(a == 0).sum(), *expected])
    assert len(histogram.centres()) == len(counts)


@pytest.mark.parametrize("length", [5, 5000])  # fewer and more values than bins, which are counted differently
def test_the_histogram_of_a_channel_is_that_of_its_values(length: int) -> None:
    x = torch.randn(2, 3, length)
    together = Histogram(per_channel=True, bits=4)
    together.update(x[:1])
    together.update(x[1:])
    for c in range(3):
        alone = Histogram(bits=4)
        alone.update(x[:, c])
        assert torch.equal(together.result()[c], alone.result())


@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_a_result_stays_as_it_is_when_more_data_come(observer: Observer) -> None:
    observer = observer.clone()
    observer.update(torch.ones(2, 3, requires_grad=True))
    result = observer.result()
    before = result.clone()
    observer.update(torch.full((2, 3), 2.0))
    assert torch.equal(result, before)
    assert not result.requires_grad


FOLLOWING = [MMSE(4), MMSE(3, per_channel=False, powers_of_two=True), LTB(20), Percentile(90), Percentile(50, True)]


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**-30, 2.0**25, 2.0**60])
@pytest.mark.parametrize("observer", FOLLOWING, ids=repr)
def test_a_threshold_grows_with_its_data_whatever_their_size(observer: Observer, factor: float) -> None:
    x = np.random.default_rng(0).lognormal(size=(400, 3)).astype(np.float32)
    scaled = _measure(observer, x * np.float32(factor)) / factor
    torch.testing.assert_close(scaled, _measure(observer, x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("observer", [*FOLLOWING, Histogram(follow=True), Histogram(True, 2, 0, 3, True)], ids=repr)
def test_batches_of_very_different_sizes_may_come_in_any_order(observer: Observer) -> None:
    sizes = np.array([1e-9, 0, 1, 4, 1e9], np.float32)
    pieces = [size * np.random.default_rng(0).random((20, 3), np.float32) for size in sizes]
    expected = _measure(observer, np.concatenate(pieces))
    for order in itertools.permutations(pieces):
        assert torch.equal(_measure(observer, *order), expected)


@pytest.mark.parametrize(
    "observer",
    [MMSE(4), LTB(20), Percentile(50, True), Histogram(follow=True), Histogram(True, 2, 0, 3, True)],
    ids=repr,
)
def test_merging_aligns_observers_of_very_different_data(observer: Observer) -> None:
    pieces = [size * torch.rand(20, 3) for size in (1e-9, 0, 1, 4, 1e9)]
    expected = _measure(observer, *(piece.numpy() for piece in [*pieces, *pieces]))
    for order in itertools.permutations(pieces):
        whole = observer.clone()
        for piece in order:
            part = observer.clone()
            part.update(piece)
            before = part.result()
            assert whole.merge(part)
            whole.update(piece)
            assert torch.equal(part.result(), before)
        assert torch.equal(whole.result(), expected)


@pytest.mark.parametrize("largest", [2.0**-10, 1e-2, 1.0, 300.0, 2.0**20 - 1])
def test_octaves_stay_where_they_are_for_ordinary_data(largest: float) -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    fixed, following = Histogram(per_channel=True), Histogram(per_channel=True, follow=True)
    for piece in (x / x.max() * largest).split(50):
        fixed.update(piece)
        following.update(piece)
    assert torch.equal(fixed.edges(), following.edges())
    assert torch.equal(fixed.result(), following.result())


def test_centres_lie_inside_their_bins() -> None:
    histogram = Histogram(bits=3)
    edges, centres = histogram.edges(), histogram.centres()
    assert bool(((edges[:-1] <= centres) & (centres <= edges[1:])).all())
    assert bool((edges.diff()[1:] > 0).all())


@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_channels_are_measured_apart_in_any_memory_format(observer: Observer) -> None:
    x = torch.randn(4, 3, 5, 6)
    plain, last = observer.clone(), observer.clone()
    plain.update(x)
    last.update(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain.result(), last.result(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_other_floating_types_are_measured_like_float32(observer: Observer, dtype: torch.dtype) -> None:
    x = torch.randn(6, 3, 4).to(torch.bfloat16).half()
    x32, x = x.float(), x.to(dtype)
    expected, found = observer.clone(), observer.clone()
    expected.update(x32)
    found.update(x)
    torch.testing.assert_close(found.result().double(), expected.result().double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_the_result_has_a_value_per_channel_or_one(observer: Observer) -> None:
    leading = {"Moments": (2,), "Histogram": ()}.get(type(observer).__name__, ())
    bins = (len(observer.edges()) - 1,) if isinstance(observer, Histogram) else ()
    channels = (3,) if observer.per_channel else ()  # type: ignore[attr-defined]
    assert _measure(observer, np.ones((2, 3, 4), np.float32)).shape == (*leading, *channels, *bins)


@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_a_clone_has_the_settings_and_has_seen_nothing(observer: Observer) -> None:
    used = observer.clone()
    used.update(torch.ones(2, 3))
    clone = used.clone()
    assert repr(clone) == repr(observer)
    with pytest.raises(DataError, match="has seen no data"):
        clone.result()


@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_an_observer_leaves_its_input_alone(observer: Observer) -> None:
    x = torch.randn(4, 3)
    before = x.clone()
    observer.clone().update(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("observer", [o for o in ALL if "per_channel=True" in repr(o)], ids=repr)
def test_another_number_of_channels_is_an_error(observer: Observer) -> None:
    observer = observer.clone()
    observer.update(torch.ones(2, 3))
    with pytest.raises(DataError, match=r"1 channels \(dimension 1\), but 3 in earlier"):
        observer.update(torch.ones(2, 1))
    with pytest.raises(DataError, match=r"shape \(2,\)\. Accepted: \(N, C, \.\.\.\)"):
        observer.update(torch.ones(2))


@pytest.mark.parametrize("percentile", [-1, 0, 0.999, 1, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_an_error(percentile: float) -> None:
    with pytest.raises(SettingError, match=r"above 1, up to 100.*write 99\.9"):
        Percentile(percentile)


def test_all_bad_settings_of_a_histogram_are_in_one_message() -> None:
    with pytest.raises(SettingError, match=r"bits is 0.*low, high are 3, 3"):
        Histogram(bits=0, low=3, high=3)


@pytest.mark.parametrize("q", [-0.1, 99.9, float("nan")])
def test_a_quantile_out_of_range_is_an_error(q: float) -> None:
    with pytest.raises(SettingError, match="accepted: 0 to 1"):
        Histogram().quantile(q)


# ------------------------------------------------------------------------------------------ observe


@dataclass(frozen=True)
class Net:
    """A graph of two sites, `first` and `second`, with weights of one."""

    module: nn.Module
    sites: tuple[str, ...] = ("first", "second")


@pytest.fixture
def net() -> Net:
    module = nn.Sequential()
    module.add_module("a", nn.Linear(3, 4))
    module.add_module("first", nn.ReLU(inplace=True))
    module.add_module("b", nn.Linear(4, 2))
    module.add_module("second", nn.ReLU())
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    return Net(module.eval())


def _hooks(net: Net) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.module.modules())


X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])


def test_observe_measures_the_preactivation_at_every_site(net: Net) -> None:
    found = observe(net, X, Moments())
    assert found["first"].tolist() == [1.0, 36.0]  # 7 and -5, four times each
    assert found["second"].tolist() == [15.0, 14.0**2]  # 29 and 1, twice each
    assert found.images == 2


def _loader() -> object:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, torch.tensor([0, 1])), batch_size=1)


SOURCES: dict[str, Callable[[], object]] = {
    "tensor": lambda: X,
    "float64 array": lambda: X.double().numpy(),
    "labelled": lambda: (X, torch.tensor([0, 1])),
    "mapping": lambda: {"pixel_values": X.numpy(), "label": [0, 1]},
    "list": lambda: [X[1:], X[:1]],
    "generator": lambda: ((row, label) for row, label in zip(X.split(1), torch.tensor([[0], [1]]), strict=True)),
    "loader": _loader,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_observe_takes_every_sort_of_data(net: Net, source: Callable[[], object]) -> None:
    found = observe(net, source(), Max(per_channel=True))
    assert found["first"].tolist() == [7.0] * 4
    assert found["second"].tolist() == [29.0] * 2
    assert found.images == 2


def test_observe_uses_the_type_of_the_network(net: Net) -> None:
    net.module.double()
    assert observe(net, X, Max())["first"].dtype == torch.float64


def test_observe_agrees_with_hooks_on_a_traced_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU()
    ).eval()
    x = torch.randn(8, 3, 6, 6)
    graph = trace(model, x)
    found = observe(graph, list(x.split(3)), Max(per_channel=True))
    with torch.no_grad():
        first, second = model[:3](x).amax((0, 2, 3)), model(x).amax(0)
    torch.testing.assert_close(list(found.values.values()), [first, second], rtol=1e-5, atol=1e-6)


def test_observe_leaves_the_observer_and_the_network_as_found(net: Net) -> None:
    observer = Max()
    observe(net, X, observer)
    assert _hooks(net) == 0
    with pytest.raises(DataError, match="seen no data"):
        observer.result()


def test_progress_is_told_of_every_batch(net: Net) -> None:
    told: list[tuple[int, int | None]] = []
    observe(net, [X, X, X], Max(), progress=lambda done, count: told.append((done, count)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_dead_sites_are_named_in_one_warning(net: Net) -> None:
    for parameter in net.module.parameters():
        nn.init.constant_(parameter, -1.0)
    with pytest.warns(ConversionWarning) as caught:
        found = observe(net, [X[:1], X[:1]], Percentile())
    assert len(caught) == 1
    assert "2 of 2 sites are dead" in str(caught[0].message)
    assert "first, second" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert found.dead == ("first", "second")
    assert found["first"] == 0


def test_dead_channels_are_counted_without_a_warning(net: Net) -> None:
    bias = net.module.get_submodule("a").bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias[1:3] = torch.tensor([-9.0, 3.0])  # -> z of channel 1 is -3, -15; that of channel 2 is 9, -3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = observe(net, [X[:1], X[1:]], Max())
    assert found.dead == ()
    assert found.dead_channels == {"first": 1, "second": 0}


def test_a_dimension_of_varying_length_is_no_channel() -> None:
    lengths = Net(nn.Sequential(nn.ReLU()), ("0",))
    found = observe(lengths, [torch.ones(2, 3, 4), torch.ones(2, 5, 4)], Max())
    assert found["0"] == 1
    assert found.dead_channels == {"0": 0}


def test_all_sites_that_are_not_finite_are_named_with_their_first_batch(net: Net) -> None:
    bad = X.clone() * 1e38
    with pytest.raises(DataError) as caught:
        observe(net, [X, bad, bad], Max())
    text = str(caught.value)
    assert "first: first in batch 1" in text
    assert "second: first in batch 1" in text
    assert "the input:" not in text
    assert _hooks(net) == 0


def test_an_input_that_is_not_finite_is_reported_as_such(net: Net) -> None:
    bad = X.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"the input: in batches 1, 3") as caught:
        observe(net, [X, bad, X, -torch.inf * X], Max())
    assert "first:" not in str(caught.value)


def test_minus_infinity_is_not_finite(net: Net) -> None:
    with torch.no_grad():
        net.module.get_submodule("b").bias.fill_(-torch.inf)  # type: ignore[operator, union-attr]
    with pytest.raises(DataError, match="second: first in batch 0"):
        observe(net, X, Max())


def test_finite_values_with_an_infinite_sum_are_finite() -> None:
    single = Net(nn.Sequential(nn.ReLU()), ("0",))
    assert observe(single, torch.full((4, 2), 3e38), Max())["0"] == torch.tensor(3e38)


def test_a_batch_of_another_shape_is_named_and_the_hooks_are_removed(net: Net) -> None:
    with pytest.raises(
        DataError, match=r"Batch 1: the network fails on an input of shape \(2, 5\) and type torch\.float32: mat1"
    ):
        observe(net, [X, torch.ones(2, 5)], Max())
    assert _hooks(net) == 0


def test_a_failing_graph_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) + torch.ones(3)

    graph = trace(Add(), torch.ones(2, 3))
    with pytest.raises(DataError, match="Batch 0: the network fails"):
        observe(graph, torch.ones(2, 5), Max())
    assert capsys.readouterr() == ("", "")


def test_no_batch_is_an_error(net: Net) -> None:
    with pytest.raises(DataError, match="gave no batch"):
        observe(net, [], Max())
    assert _hooks(net) == 0


def test_an_error_of_an_observer_names_its_site_and_stays_what_it_is(net: Net) -> None:
    class Broken(Observer):
        def update(self, x: Tensor) -> None:
            if x.shape[1] == 2:
                raise RuntimeError("broken observer")

        def result(self) -> Tensor:
            return torch.zeros(())

    with pytest.raises(RuntimeError, match="broken observer") as caught:
        observe(net, X, Broken())
    assert caught.value.__notes__ == ["This happened at site second, in batch 0."]
    assert _hooks(net) == 0


def test_a_site_that_is_never_called_is_an_error(net: Net) -> None:
    net.module.forward = nn.Sequential(*list(net.module)[:2]).forward  # type: ignore[arg-type]
    with pytest.raises(DataError, match="never called 1 of its 2 sites: second"):
        observe(net, X, Max())


def test_statistics_print_as_a_table() -> None:
    values = {"features.0": torch.tensor([0.5, 2.0]), "fc": torch.tensor(1234.5678)}
    statistics = Statistics(values, 1024, ("fc",), {"features.0": 1, "fc": 3})
    assert str(statistics).splitlines() == [
        "site        shape  least  mean  greatest  dead channels",
        "features.0      2    0.5  1.25         2              1",
        "fc              1   1235  1235      1235              3",
        "1,024 images; dead sites: fc",
    ]


def test_an_unknown_site_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no site 'conv1' here\. Accepted: a, b"):
        Statistics({"a": torch.ones(1), "b": torch.ones(1)}, 1)["conv1"]
