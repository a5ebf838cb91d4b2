"""Event-driven layers against the dense ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase.conversion import convert
from rheobase.errors import SettingError
from rheobase.kernels import cpu, events
from rheobase.kernels.events import EventLayer, unsupported
from rheobase.methods import ConstantThreshold
from rheobase.models import resnet20
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))


def close(ours: Tensor, dense: Tensor) -> bool:
    return ours.shape == dense.shape and torch.allclose(ours, dense, rtol=1e-4, atol=1e-4)


def sparse(shape: tuple[int, ...], density: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor]:
    """A convolution, and an input that it accepts."""
    usual = draw(st.booleans())
    kernel = (3, 3) if usual else draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = (1, 1) if usual else draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True))
    channels, outputs = draw(st.integers(1, 40)), draw(st.sampled_from([1, 10, 16, 17, 32, 33, 64, 65, 130]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=draw(st.booleans()))
    density = draw(st.sampled_from([0.0, 0.02, 0.2, 1.0]))
    x = sparse((draw(st.integers(1, 4)), channels, *size), density, draw(st.integers(0, 2**31)))
    return layer, x.to(memory_format=torch.channels_last)


@contextmanager
def without_onednn() -> Iterator[None]:
    """Convolutions by PyTorch's own code.

    oneDNN 3.12 in PyTorch 2.13 reads memory that nobody has written for some geometries, on a processor without AMX:
    `nn.Conv2d(1, 33, (4, 3), (1, 3), (2, 1), bias=False)` of zeros gave NaN.
    """
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@given(convolutions())
@torch.no_grad()
@without_onednn()
def test_a_convolution_of_events_is_the_dense_one(problem: tuple[nn.Conv2d, Tensor]) -> None:
    layer, x = problem
    ours = EventLayer(layer)(x, "always")
    assert close(ours, layer(x))
    assert ours.is_contiguous(memory_format=torch.channels_last)


@given(convolutions(), st.booleans())
@torch.no_grad()
@without_onednn()
def test_a_summand_is_added_to_the_output_bit_for_bit(problem: tuple[nn.Conv2d, Tensor], ordered: bool) -> None:
    layer, x = EventLayer(problem[0]), problem[1]
    for when in ("always", "never"):
        plain = layer(x, when)
        plus = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
        plus = plus.to(memory_format=torch.channels_last) if ordered else plus
        before = plus.clone()
        assert torch.equal(layer(x, when, plus=plus), plain + plus)
        assert torch.equal(plus, before)
        assert layer(x, when, plus=plus.double()).dtype == torch.float64
        single = plus[:1, :, :1, :1].contiguous()
        assert torch.equal(layer(x, when, plus=single), plain + single)


@torch.no_grad()
def test_a_copy_makes_plans_of_its_own() -> None:
    layer = EventLayer(nn.Linear(40, 70))
    layer(sparse((5, 40), 0.2, 0))
    assert layer._plans
    assert copy.deepcopy(layer)._plans == {}


@torch.no_grad()
def test_a_linear_layer_adds_a_summand_bit_for_bit() -> None:
    layer = EventLayer(nn.Linear(40, 70))
    for shape in ((5, 40), (2, 3, 40), (40,)):
        x = sparse(shape, 0.2, 0)
        plain = layer(x, "always")
        for plus in (torch.randn(plain.shape), torch.randn(70), torch.randn(1)):
            assert torch.equal(layer(x, "always", plus=plus), plain + plus)


@torch.no_grad()
@pytest.mark.parametrize("outputs", [10, 32, 70])
def test_a_processor_with_few_registers_computes_the_same(outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(20, outputs, 3, padding=1)
    x = sparse((3, 20, 7, 6), 0.2, 0).to(memory_format=torch.channels_last)
    for many in (True, False):
        monkeypatch.setattr(events, "_many_registers", lambda many=many: many)
        assert close(EventLayer(layer)(x, "always"), layer(x))


@given(st.integers(1, 100), st.integers(1, 130), st.sampled_from([0.0, 0.1, 1.0]), st.booleans())
@torch.no_grad()
def test_a_linear_layer_of_events_is_the_dense_one(inputs: int, outputs: int, density: float, bias: bool) -> None:
    layer = nn.Linear(inputs, outputs, bias)
    for shape in ((5, inputs), (2, 3, inputs), (2, 3, 2, inputs), (inputs,)):
        x = sparse(shape, density, 0)
        assert close(EventLayer(layer)(x, "always"), layer(x))


@torch.no_grad()
def test_without_events_there_is_the_bias_alone() -> None:
    layer = nn.Conv2d(20, 70, 3, padding=1)
    x = torch.zeros(2, 20, 5, 5).to(memory_format=torch.channels_last)
    output = EventLayer(layer)(x, "always")
    assert torch.equal(output, layer.bias.view(1, -1, 1, 1).expand_as(output))  # type: ignore[union-attr]


@torch.no_grad()
def test_an_image_gives_the_same_bits_in_any_batch_and_with_any_number_of_threads() -> None:
    layer = EventLayer(nn.Conv2d(32, 96, 3, padding=1))
    x = sparse((24, 32, 16, 16), 0.1, 0).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(layer(x, "always"))
    finally:
        torch.set_num_threads(threads)
    results.append(torch.cat([layer(image, "always") for image in x.split(5)]))
    assert all(torch.equal(results[0], other) for other in results)


@torch.no_grad()
@pytest.mark.parametrize(("outputs", "padding"), [(10, 1), (16, 0), (32, 2)])
def test_three_rows_of_sums_give_the_same_bits_with_any_number_of_threads(outputs: int, padding: int) -> None:
    conv = nn.Conv2d(16, outputs, 3, padding=padding)
    layer = EventLayer(conv)
    x = sparse((24, 16, 20, 20), 0.2, 0).to(memory_format=torch.channels_last)
    plus = torch.randn_like(conv(x))
    assert plus.is_contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results += [(layer(x, "always"), layer(x, "always", plus=plus)) for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert close(results[0][0], conv(x))
    for one, two in results:
        assert torch.equal(one, results[0][0])
        assert torch.equal(two, results[0][1])


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3, 16, 40])
@pytest.mark.parametrize("outputs", [10, 16, 64])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1)])
def test_an_infinite_input_reaches_the_outputs_whose_filter_covers_it_and_no_other(
    channels: int, outputs: int, size: int, stride: int
) -> None:
    layer = nn.Conv2d(channels, outputs, size, stride, size // 2)
    x = sparse((2, channels, 16, 16), 0.1, 0).to(memory_format=torch.channels_last)
    clean, events = layer(x), EventLayer(layer)
    covered = torch.zeros(2, 1, 16, 16)
    covered[0, 0, 4, 3] = covered[1, 0, 15, 8] = 1.0
    reached = nn.functional.conv2d(covered, torch.ones(1, 1, size, size), None, stride, size // 2).bool()
    for value in (torch.inf, -torch.inf, torch.nan):
        x[0, channels // 2, 4, 3] = x[1, channels - 1, 15, 8] = value
        output = events(x, "always")
        assert torch.equal(output.isfinite(), ~reached.expand_as(output))
        there = reached.expand_as(output)
        assert torch.equal(output[there].isnan(), torch.full((int(there.sum()),), bool(torch.tensor(value).isnan())))
        assert close(output[~there], clean[~there])


@torch.no_grad()
def test_infinities_and_nan_come_through() -> None:
    layer = nn.Conv2d(16, 16, 1)
    x = torch.zeros(1, 16, 1, 3).to(memory_format=torch.channels_last)
    x[0, 3, 0, 0], x[0, 5, 0, 1] = torch.inf, torch.nan
    output = EventLayer(layer)(x, "always")
    assert torch.isinf(output[..., 0]).all()
    assert torch.isnan(output[..., 1]).all()
    assert torch.isfinite(output[..., 2]).all()


@pytest.mark.parametrize("events", ["always", "never"])
@pytest.mark.parametrize("width", [64, 512, 1024])
def test_weights_that_were_in_half_precision_meanwhile_are_read_again(width: int, events: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.ReLU(),
                        nn.Linear(width, 5, bias=False))  # fmt: skip
    x = torch.rand(4, 64)
    snn = convert(net, x, ConstantThreshold())
    snn.events = events  # type: ignore[assignment]
    rb.simulate(snn, x, 8)
    snn.half().float()
    assert torch.equal(rb.simulate(snn, x, 8).output, rb.simulate(copy.deepcopy(snn), x, 8).output)


@torch.no_grad()
def test_weights_that_were_changed_or_replaced_are_read_again() -> None:
    layer = nn.Conv2d(8, 8, 3)
    ours, x = EventLayer(layer), sparse((2, 8, 6, 6), 0.3, 0).to(memory_format=torch.channels_last)
    assert close(ours(x, "always"), layer(x))
    layer.weight.mul_(2.0)
    layer.bias.add_(1.0)  # type: ignore[union-attr]
    assert close(ours(x, "always"), layer(x))
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    assert close(ours(x, "always"), layer(x))


@torch.no_grad()
def test_what_the_kernels_cannot_take_goes_to_the_dense_layer() -> None:
    layer = nn.Conv2d(4, 4, 3)
    x = sparse((2, 4, 6, 6), 0.3, 0)
    assert torch.equal(EventLayer(layer)(x, "always"), layer(x))  # not channels last
    double = nn.Linear(3, 2).double()
    assert EventLayer(double)(torch.ones(1, 3, dtype=torch.float64), "always").dtype == torch.float64


def test_gradients_flow_through_the_dense_layer() -> None:
    layer = nn.Linear(3, 2)
    EventLayer(layer)(torch.ones(1, 3), "always").sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, padding="same"),
     nn.Conv2d(4, 4, 3, padding_mode="circular"), nn.Conv1d(4, 4, 3), nn.ReLU()],
)  # fmt: skip
def test_a_layer_without_an_event_driven_form_says_why(layer: nn.Module) -> None:
    assert unsupported(layer)


def test_few_events_pay_and_many_do_not() -> None:
    layer = EventLayer(nn.Conv2d(64, 64, 3, padding=1))
    elements = 64 * 64 * 16 * 16
    dense = layer.dense_cost(64, (16, 16))
    assert layer.event_cost(64, (16, 16), elements // 20) < dense
    assert layer.event_cost(64, (16, 16), elements) > dense
    small = EventLayer(nn.Linear(8, 4))
    assert small.event_cost(1, (1, 1), 1) > small.dense_cost(1, (1, 1))


@pytest.mark.parametrize("many", [True, False])
def test_where_dense_layers_are_slower_more_events_pay(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_many_registers", lambda: many)
    layer = EventLayer(nn.Conv2d(16, 16, 3, padding=1))
    size, elements = (32, 32), 64 * 16 * 32 * 32
    paying = [layer.event_cost(64, size, elements * tenths // 10) < layer.dense_cost(64, size) for tenths in (1, 3, 6)]
    assert paying == [True, not many, False]


# ------------------------------------------------------------------------------- in a network


def residual() -> tuple[SpikingModel, Tensor]:
    model = resnet20(width=8).eval()
    x = torch.rand(3, 3, 32, 32)
    return convert(model, [x], ConstantThreshold()), x


def test_a_network_computes_the_same_from_events() -> None:
    snn, x = residual()
    outputs = []
    for choice in ("never", "always", "auto"):
        snn.events = choice  # type: ignore[assignment]
        outputs.append(simulate(snn, x, 4).output)
    assert close(outputs[0], outputs[1])
    assert close(outputs[0], outputs[2])


def test_an_unknown_choice_of_events_is_refused() -> None:
    snn, _ = residual()
    with pytest.raises(SettingError, match="sometimes"):
        snn.events = "sometimes"  # type: ignore[assignment]


def test_memory_is_taken_over_where_nobody_looks_and_left_alone_where_a_hook_does() -> None:
    snn, x = residual()
    plain = simulate(snn, x, 3).output
    seen: list[tuple[Tensor, Tensor]] = []
    layers = [*snn.neurons().values(), *(m for m in snn.module.modules() if isinstance(m, nn.Conv2d))]
    for layer in layers:
        for tensor in (0, 1):  # what goes in, and what comes out
            layer.register_forward_hook(
                lambda _m, args, out, t=tensor: seen.append(((args[0], out)[t], (args[0], out)[t].clone()))
            )
    assert close(simulate(snn, x, 3).output, plain)
    assert len(seen) > 40
    assert all(torch.equal(kept, copy) for kept, copy in seen)


def test_hooks_for_all_modules_see_layers_that_would_be_computed_from_events() -> None:
    net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    x = torch.rand(8, 3)
    snn = rb.convert(net, x, rb.ConstantThreshold())
    seen: list[str] = []
    hook = nn.modules.module.register_module_forward_hook(lambda layer, _a, _o: seen.append(type(layer).__name__))
    counts = {}
    try:
        for events in ("never", "always"):
            seen.clear()
            snn.events = events
            rb.simulate(snn, x, 4)
            counts[events] = seen.count("Linear")
    finally:
        hook.remove()
    assert counts["always"] == counts["never"] > 1


class Shortcuts(nn.Module):
    """A residual block with an identity, and one whose shortcut is padded with zeros."""

    def __init__(self, mode: str = "constant", value: float | None = None, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1), nn.Linear(24, 5)
        self.wider = nn.Conv2d(16, 24, 3, 2, 1)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.mode, self.value, self.twice = mode, value, twice

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.first(x))
        x = self.relus[1](self.second(x) + x)
        wider = self.wider(x)
        padded = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 5), self.mode, self.value)
        x = wider + padded
        x = self.relus[2](x + padded if self.twice else x)
        return self.third(x.mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize(
    ("mode", "value", "twice"), [("constant", None, False), ("constant", 0.5, False), ("constant", None, True)]
)
@pytest.mark.parametrize("hooked", ["", "second", "wider"])
@pytest.mark.parametrize("method", [ConstantThreshold(), rb.methods.DeltaCoding(steps=4)])
def test_residual_sums_are_those_of_plain_pytorch(
    mode: str, value: float | None, twice: bool, hooked: str, method: rb.methods.Method
) -> None:
    net = Shortcuts(mode, value, twice)
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    snn = convert(net, [x], method)
    seen = []
    if hooked:
        snn.program.module.get_submodule(hooked).register_forward_hook(lambda *call: seen.append(call[2].clone()))
    outputs = []
    program = snn.program
    joined, paddings = program.joined, program.paddings
    program.joined, program.paddings = {}, {}
    for choice, arithmetic in (("never", "float"), ("never", "float"), ("always", "auto"), ("auto", "auto")):
        snn.events, snn.arithmetic = choice, arithmetic
        outputs.append((simulate(snn, x, 4), seen[:]))
        seen.clear()
        program.joined, program.paddings = joined, paddings
    (first, plain), *others = outputs
    for run, values in others:
        assert torch.allclose(run.output, first.output, atol=1e-4)
        assert all(torch.equal(run.spikes[site], first.spikes[site]) for site in first.spikes)
        assert bool(values) == bool(plain)
        for ours, theirs in zip(values, plain, strict=True):  # without what a sum adds
            assert torch.allclose(ours, theirs, atol=1e-4)


@torch.no_grad()
def test_a_layer_adds_the_shortcut_and_a_padded_shortcut_is_never_written() -> None:
    net = Shortcuts()
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    snn = convert(net, [x], ConstantThreshold())
    snn.events = "always"
    with torch.profiler.profile() as profile:
        simulate(snn, x, 4)
    done = {event.key for event in profile.key_averages()}
    assert "aten::conv2d" in done
    assert "aten::constant_pad_nd" not in done
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::add_") == 1  # the padded one's


def gradients(where: str) -> tuple[Tensor, Tensor, int]:
    """The answer, the gradient of the first weights, and how often a backward hook was called."""
    torch.manual_seed(0)
    net = Shortcuts()
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    snn = convert(net, [x], rb.methods.SignedMSAT())
    x.requires_grad_()  # where no input of a layer does, PyTorch warns of a hook on it
    module, called = snn.program.module, []
    for parameter in module.parameters():
        parameter.requires_grad_()
    hooks = [
        module.get_submodule(name).register_full_backward_hook(lambda *_: called.append(1))
        for name in where.split()
        if name not in ("everywhere", "before")
    ]
    if where == "before":
        hooks = [module.get_submodule("second").register_full_backward_pre_hook(lambda *_: called.append(1))]
    if where == "everywhere":
        hooks = [nn.modules.module.register_module_full_backward_hook(lambda *_: called.append(1))]
    try:
        snn.reset()
        output = snn.execution(x).advance(4)
        output.square().sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
    gradient = module.get_submodule("second").weight.grad
    assert isinstance(gradient, Tensor)
    return output.detach(), gradient, len(called)


@pytest.mark.parametrize("where", ["second", "wider", "second wider relus.0", "before", "everywhere"])
def test_backward_hooks_see_gradients_and_change_none(where: str) -> None:
    output, gradient, _ = gradients("")
    ours, same, called = gradients(where)
    assert called
    assert torch.equal(ours, output)
    assert torch.allclose(same, gradient, rtol=1e-5, atol=1e-6)


class EarlyPadding(nn.Module):
    """A residual block whose shortcut is padded before the block reads what is padded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 12, 3, 1, 1), nn.Linear(12, 5)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.first(x))
        shortcut = nn.functional.pad(x, (0, 0, 0, 0, 2, 2))
        x = self.relus[1](self.second(x) + shortcut)
        return self.third(x.mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("method", [ConstantThreshold(), rb.methods.DeltaCoding(steps=4)])
def test_what_is_padded_is_kept_until_its_sum(method: rb.methods.Method) -> None:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    snn = convert(EarlyPadding(), [x], method)
    ours = simulate(snn, x, 4).output
    snn.program.paddings = {}
    assert torch.allclose(ours, simulate(snn, x, 4).output, atol=1e-5)
