"""Layers of spikes in whole numbers against those in float32 and float64."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import MLP_INPUT, RESIDUAL_INPUT, mlp, residual
from torch import Tensor, nn

import rheobase as rb
from rheobase.errors import SettingError
from rheobase.kernels import Code, EventLayer, KnownInput, events, integer
from rheobase.kernels.integer import IntegerLayer
from rheobase.methods import ConstantThreshold, DifferentialCoding, DoubleThreshold, RateCoding
from rheobase.neurons import IF, MSAT, Biased, CumulativeMaxPool
from rheobase.spiking import SpikingModel

pytestmark = pytest.mark.skipif(integer.unavailable() is not None, reason=str(integer.unavailable()))

LEVELS = [(1, False), (1, True), (3, False), (8, True), (15, False), (15, True), (63, False), (31, True)]


def spikes(shape: tuple[int, ...], code: Code, density: float = 0.5) -> Tensor:
    n = torch.randint(-code.levels if code.signed else 0, code.levels + 1, shape) * (torch.rand(shape) < density)
    return n * code.unit.reshape(-1, *[1] * (len(shape) - 2))


@st.composite
def problems(draw: st.DrawFn) -> tuple[nn.Conv2d | nn.Linear, Tensor, Code]:
    """A layer, and spikes that it accepts, in a batch of one to four."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels, samples = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    outputs = draw(st.sampled_from([1, 10, 16, 33]))
    levels, signed = draw(st.sampled_from(LEVELS))
    code = Code(torch.rand(channels) + 0.01 if draw(st.booleans()) else torch.tensor(0.3), levels, signed)
    if draw(st.integers(0, 3)) == 0:
        layer = nn.Linear(channels, outputs, bias=draw(st.booleans()))
        return layer, spikes((samples, channels), code), code
    kernel, stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True))
    convolution = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=draw(st.booleans()))
    return convolution, spikes((samples, channels, *size), code).to(memory_format=torch.channels_last), code


def exact(layer: nn.Conv2d | nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output in float64, and the sum of the magnitudes of all its products."""
    double, sizes = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
    sizes.weight.abs_()
    sizes.bias = None
    return double(x.double()), sizes(x.double().abs())


def left_of_weights(layer: nn.Conv2d | nn.Linear, x: Tensor, code: Code, share: float) -> Tensor:
    """What the output may lack where each weight lacks that share of the largest of its output channel."""
    unit = code.unit.double().reshape(-1, *[1] * (layer.weight.ndim - 2))
    largest = (layer.weight.double() * unit).flatten(1).abs().amax(1)
    counted = copy.deepcopy(layer).double()
    counted.weight.copy_(largest.view(-1, *[1] * (layer.weight.ndim - 1)).expand_as(layer.weight))
    counted.bias = None
    whole = x.double().abs() / code.unit.double().reshape(-1, *[1] * (x.ndim - 2))
    return share * counted(whole)  # type: ignore[no-any-return]


@given(problems())
@torch.no_grad()
def test_a_layer_in_whole_numbers_gives_the_exact_sums(problem: tuple[nn.Conv2d | nn.Linear, Tensor, Code]) -> None:
    layer, x, code = problem
    ours = IntegerLayer(layer)(x, code)
    wanted, sizes = exact(layer, x)
    assert ours.shape == wanted.shape
    if ours.ndim == 4:
        assert ours.is_contiguous(memory_format=torch.channels_last)
    rounding = 2**-22 * (sizes + wanted.abs())
    assert torch.all((ours - wanted).abs() <= left_of_weights(layer, x, code, 2**-28) + rounding + 1e-30)


@torch.no_grad()
@pytest.mark.parametrize(("levels", "signed"), LEVELS)
@pytest.mark.parametrize("size", [16, 4])
def test_the_sums_are_nearer_to_the_exact_ones_than_in_float32(levels: int, signed: bool, size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    layer.weight.copy_(torch.randn_like(layer.weight))
    code = Code(torch.rand(64) + 0.1, levels, signed)
    x = spikes((8, 64, size, size), code).to(memory_format=torch.channels_last)
    wanted, _ = exact(layer, x)
    ours, floats = ((output - wanted).square().mean().sqrt() for output in (IntegerLayer(layer)(x, code), layer(x)))
    assert float(ours) < float(floats)


@torch.no_grad()
def test_threads_do_not_change_a_layer_whose_padding_is_as_wide_as_its_filter() -> None:
    torch.manual_seed(0)
    layer, code = nn.Conv2d(32, 12, (1, 2), (3, 2), (0, 2), bias=False), Code(torch.tensor(0.3), 1, False)
    x = spikes((2, 32, 10, 11), code).to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(20):
            torch.testing.assert_close(IntegerLayer(layer)(x, code).double(), exact(layer, x)[0], rtol=0, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@given(problems())
@torch.no_grad()
def test_rounded_weights_stay_within_their_bound(problem: tuple[nn.Conv2d | nn.Linear, Tensor, Code]) -> None:
    layer, x, code = problem
    ours = IntegerLayer(layer)(x, code, rounded=True)
    wanted, sizes = exact(layer, x)
    assert torch.all((ours - wanted).abs() <= left_of_weights(layer, x, code, 2**-14) + 2**-22 * sizes + 1e-5)


@torch.no_grad()
def test_rounded_weights_are_rounded() -> None:
    torch.manual_seed(0)
    layer, code = nn.Linear(64, 8), Code(torch.ones(()), 1, False)
    x = spikes((5, 64), code)
    ours, rounded = IntegerLayer(layer)(x, code), IntegerLayer(layer)(x, code, rounded=True)
    assert 1e-6 < float((ours - rounded).abs().max()) < 1e-3


def test_a_code_says_how_often_weights_are_split() -> None:
    binary, ternary = Code(torch.ones(()), 1, False), Code(torch.ones(()), 1, True)
    assert [c.digits(rounded) for c in (binary, ternary) for rounded in (False, True)] == [2, 1, 2, 1]
    assert Code(torch.ones(()), 15, True).digits(rounded=False) == 3


@pytest.mark.parametrize("size", [(16, 16), (4, 4)])
@pytest.mark.parametrize("tiles", [True, False])
def test_rounded_weights_are_expected_to_cost_half_the_products(
    size: tuple[int, int], tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer, "has_tiles", lambda: tiles)
    layer, code = EventLayer(nn.Conv2d(64, 64, 3, padding=1)), Code(torch.ones(()), 1, False)
    exact_cost, rounded_cost, floats = (
        layer.dense_cost(64, size, code), layer.dense_cost(64, size, code, "rounded"), layer.dense_cost(64, size)
    )  # fmt: skip
    assert rounded_cost < 0.8 * exact_cost
    assert (exact_cost < floats) is tiles  # with VNNI alone, two products of bytes take longer than one of floats
    assert rounded_cost < floats


def test_too_many_levels_and_sums_beyond_32_bits_are_not_taken() -> None:
    layer = IntegerLayer(nn.Linear(4, 2))
    assert layer.takes(Code(torch.ones(4), 63, False))
    assert not layer.takes(Code(torch.ones(4), 64, False))
    assert not layer.takes(Code(torch.ones(4), 32, True))
    assert not layer.takes(Code(torch.ones(3), 1, True))
    assert not IntegerLayer(nn.Linear(40_000, 1)).takes(Code(torch.ones(()), 1, False))


@torch.no_grad()
def test_changed_weights_units_and_sizes_are_read_again() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1)
    ours = IntegerLayer(layer)
    code = Code(torch.tensor([1.0, 2.0, 0.5]), 1, True)
    for size in (9, 3, 9):
        x = spikes((2, 3, size, size), code).to(memory_format=torch.channels_last)
        assert torch.allclose(ours(x, code), layer(x), atol=1e-5)
    layer.weight.mul_(-2.0)
    assert torch.allclose(ours(x, code), layer(x), atol=1e-5)
    code.unit.mul_(3.0)
    x = 3 * x
    assert torch.allclose(ours(x, code), layer(x), atol=1e-4)
    for _ in range(40):  # a new weight may lie where the old one lay
        layer.weight = nn.Parameter(torch.empty(0))
        layer.weight = nn.Parameter(torch.randn(5, 3, 3, 3))
        assert torch.allclose(ours(x, code), layer(x), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_come_through(bad: float) -> None:
    layer, code = nn.Linear(4, 3), Code(torch.ones(()), 1, False)
    layer.weight[1, 2] = bad
    output = IntegerLayer(layer)(torch.ones(2, 4), code)
    assert not torch.isfinite(output[:, 1]).any()
    assert torch.isfinite(output[:, [0, 2]]).all()


@torch.no_grad()
def test_an_interrupted_packing_leaves_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, code = nn.Linear(64, 8), Code(torch.ones(()), 1, False)
    ours, x, plain = IntegerLayer(layer), spikes((5, 64), code), integer._split
    first = ours(x, code)
    calls: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(integer, "_split", interrupted)
    changed = Code(torch.full((), 0.5), 1, False)
    with pytest.raises(KeyboardInterrupt):
        ours(x / 2, changed)
    monkeypatch.setattr(integer, "_split", plain)
    assert torch.allclose(ours(x / 2, changed), layer(x / 2), atol=1e-6)
    assert torch.equal(ours(x, code), first)


def test_asking_whether_it_can_be_had_draws_no_random_numbers() -> None:
    integer.unavailable.cache_clear()
    torch.manual_seed(3)
    assert integer.unavailable() is None
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))


def test_asking_works_whatever_the_default_type_is() -> None:
    integer.unavailable.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert integer.unavailable() is None
    finally:
        torch.set_default_dtype(torch.float32)


# ------------------------------------------------------------------------------- in a network


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Code, bool]]:
    """Whole numbers wherever they can be had; the codes of all calls, and whether weights are rounded."""
    integer.unavailable()  # its own layers are none of these
    calls: list[tuple[Code, bool]] = []
    plain = IntegerLayer.__call__

    def called(self: IntegerLayer, values: Tensor, code: Code, rounded: bool = False) -> Tensor:
        calls.append((code, rounded))
        return plain(self, values, code, rounded)

    monkeypatch.setattr(IntegerLayer, "__call__", called)
    slow = events._costs()._replace(dense=dict.fromkeys((1, 2, 4), 1e9), narrow=1e9)
    monkeypatch.setattr(events, "_costs", lambda: slow)
    return calls


def network(method: object, seed: int = 0) -> tuple[SpikingModel, Tensor]:
    torch.manual_seed(seed)
    x = torch.randn(8, *RESIDUAL_INPUT)
    return rb.convert(residual(), [x], method), x  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "method",
    [ConstantThreshold(per_channel=True), ConstantThreshold(initial_potential=0.5), DoubleThreshold(),
     RateCoding(levels=15), DifferentialCoding(schedule="constant")],
    ids=repr,
)  # fmt: skip
def test_a_network_computes_the_same_in_whole_numbers(method: object, eager: list[tuple[Code, bool]]) -> None:
    snn, x = network(method)
    snn.events = "never"
    answers = {}
    for arithmetic in ("float", "auto", "rounded"):
        eager.clear()
        snn.arithmetic = arithmetic  # type: ignore[assignment]
        answers[arithmetic] = rb.simulate(snn, x, 6)
        assert bool(eager) == (arithmetic != "float")
        assert all(rounded == (arithmetic == "rounded") for _, rounded in eager)
    for other in ("auto", "rounded"):
        assert torch.allclose(answers["float"].output, answers[other].output, atol=1e-3)
        for site, counts in answers["float"].spikes.items():
            assert torch.equal(counts, answers[other].spikes[site])


def test_what_a_hook_makes_of_spikes_is_multiplied_as_it_is(eager: list[tuple[Code, bool]]) -> None:
    snn, x = network(ConstantThreshold())
    snn.events = "never"
    for neuron in snn.neurons().values():
        neuron.register_forward_hook(lambda _m, _args, out: out * 0.123 + 0.01)
    outputs = []
    for arithmetic in ("float", "auto"):
        snn.arithmetic = arithmetic  # type: ignore[assignment]
        outputs.append(rb.simulate(snn, x, 3).output)
    assert not eager
    assert torch.equal(*outputs)


class Branches(nn.Module):
    """Neurons that a max pooling reads and a convolution too, so that the pooling cannot move before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pooled, self.plain = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.relu(self.pooled(self.pool(h)).flatten(2).mean(2) + self.plain(h).flatten(2).mean(2)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", [ConstantThreshold(), DoubleThreshold(), RateCoding(levels=3)], ids=repr)
def test_spikes_stay_whole_numbers_through_a_max_pooling(method: object, eager: list[tuple[Code, bool]]) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 2, 9, 9)
    snn = rb.convert(Branches().eval(), [x], method)  # type: ignore[arg-type]
    assert any(isinstance(module, CumulativeMaxPool) for module in snn.module.modules())
    snn.events = "never"
    outputs = []
    for arithmetic in ("float", "auto"):
        eager.clear()
        snn.arithmetic = arithmetic  # type: ignore[assignment]
        outputs.append(rb.simulate(snn, x, 12).output)
    assert len(eager) == 3  # the pooled and the plain convolution and the last layer, in one chunk
    assert torch.allclose(*outputs, atol=1e-4)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_hook_on_the_pooling_counts_too(everywhere: bool, eager: list[tuple[Code, bool]]) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 2, 9, 9)
    snn = rb.convert(Branches().eval(), [x], ConstantThreshold())
    snn.events = "never"

    def change(module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        return output * 0.123 + 0.01 if isinstance(module, CumulativeMaxPool) else None

    pooling = next(module for module in snn.module.modules() if isinstance(module, CumulativeMaxPool))
    handle = (
        nn.modules.module.register_module_forward_hook(change) if everywhere else pooling.register_forward_hook(change)
    )
    try:
        outputs = []
        for arithmetic in ("float", "auto"):
            snn.arithmetic = arithmetic  # type: ignore[assignment]
            outputs.append(rb.simulate(snn, x, 12).output)
    finally:
        handle.remove()
    assert torch.allclose(*outputs, atol=1e-5)


def test_a_network_that_has_run_is_copied_and_pickled(eager: list[tuple[Code, bool]]) -> None:
    x = torch.rand(8, *MLP_INPUT)
    snn = rb.convert(mlp().float(), [x], ConstantThreshold())
    snn.events = "never"
    first = rb.simulate(snn, x, 3).output
    assert eager
    for other in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert torch.equal(rb.simulate(other, x, 3).output, first)


def test_a_linear_layer_whose_channels_are_not_the_second_dimension_stays_in_floats(
    eager: list[tuple[Code, bool]],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(4, 5, 2, 6)
    snn = rb.convert(model, [x], ConstantThreshold(per_channel=False))
    snn.events = "never"
    rb.simulate(snn, x, 3)
    assert not eager


def test_a_neuron_that_sends_something_else_does_not_inherit_the_code() -> None:
    class Louder(IF):
        def scan(self, current: Tensor, state: Any, **options: Any) -> Any:
            values, after = super().scan(current, state, **options)
            return 1.5 * values, after

    class Renamed(IF):
        pass

    assert IF.holds("code")
    assert Renamed.holds("code")
    assert not Louder.holds("code")
    assert not MSAT.holds("code")
    assert Biased(IF(1.0)).code is not None
    assert Biased(Louder(IF(1.0).threshold)).code is None  # a neuron around it does not hide that


def test_what_other_functions_emit_is_not_taken_for_spikes(eager: list[tuple[Code, bool]]) -> None:
    snn, x = network(ConstantThreshold())
    snn.reset()
    snn.execution(x).walk(2, lambda _node, layer, current: layer(current) + 0.01)
    assert not eager


def test_where_whole_numbers_cannot_be_had_there_is_float32(
    monkeypatch: pytest.MonkeyPatch, eager: list[tuple[Code, bool]]
) -> None:
    snn, x = network(ConstantThreshold())
    monkeypatch.setattr(integer, "unavailable", lambda: "no such processor")
    rb.simulate(snn, x, 3)
    assert not eager


def test_an_unknown_arithmetic_is_refused() -> None:
    snn, _ = network(ConstantThreshold())
    with pytest.raises(SettingError, match="roman"):
        snn.arithmetic = "roman"  # type: ignore[assignment]


@torch.no_grad()
def test_gradients_and_other_memory_orders_go_to_the_layer(eager: list[tuple[Code, bool]]) -> None:
    layer, code = nn.Conv2d(3, 5, 3), Code(torch.ones(()), 1, False)
    x = spikes((2, 3, 9, 9), code)
    assert torch.equal(EventLayer(layer)(x, "never", "auto", KnownInput(code)), layer(x))
    with torch.enable_grad():
        last = x.to(memory_format=torch.channels_last)
        EventLayer(layer)(last, "never", "auto", KnownInput(code)).sum().backward()
    assert layer.weight.grad is not None
    assert not eager
