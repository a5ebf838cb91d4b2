"""The choice of what computes a scan: by itself, by hand, and for a whole network."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from networks import MLP_INPUT, inputs, mlp
from torch import Tensor

import rheobase as rb
from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.kernels import cpu, gpu, graded
from rheobase.methods import COS, MSAT, SRP, ConstantThreshold, DeltaCoding

SCAN = (torch.full((4, 1), 0.5), torch.zeros(1), torch.tensor(1.0))


def test_backends_names_each_with_ok_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "unavailable", lambda: "there is no such device")
    monkeypatch.setattr(cpu, "unavailable", lambda: None)
    assert rb.backends() == {"triton": "there is no such device", "cpu": "ok", "reference": "ok"}


def test_no_compiler_is_imported_before_it_is_needed() -> None:
    code = "import sys, rheobase; print({'numba', 'llvmlite', 'triton'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_backend_is_refused() -> None:
    snn = rb.convert(mlp(), inputs(MLP_INPUT, 8, seed=1).float(), ConstantThreshold())
    with pytest.raises(SettingError, match="'numba'; it must be one of"):
        snn.backend = "numba"  # type: ignore[assignment]
    with pytest.raises(SettingError, match="'numba'; it must be one of"):
        kernels.if_scan(*SCAN, backend="numba")  # type: ignore[arg-type]
    assert snn.backend == "auto"


def test_a_backend_by_hand_names_all_that_stands_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "unavailable", lambda: "PyTorch finds no CUDA device")
    monkeypatch.setattr(gpu, "unsuitable", lambda *_: "a tensor is on cpu")
    message = 'backend="triton" cannot be used: PyTorch finds no CUDA device; a tensor is on cpu. backend="auto" takes'
    with pytest.raises(SettingError) as caught:
        kernels.if_scan(*SCAN, backend="triton")
    assert message in str(caught.value)


def test_auto_takes_triton_on_a_cuda_device_where_it_can_and_else_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensor: Any = SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(gpu, "unsuitable", lambda *_: None)
    monkeypatch.setattr(gpu, "unavailable", lambda: None)
    assert kernels.available(tensor)
    assert kernels._choose("auto", (tensor,)) == "triton"
    monkeypatch.setattr(gpu, "unavailable", lambda: "Triton cannot be imported")
    assert kernels._choose("auto", (tensor,)) == "reference"


def test_torch_compile_traces_the_reference_without_a_break() -> None:
    def fire(current: Tensor) -> Tensor:
        return kernels.if_scan(current, *SCAN[1:])[0]

    compiled = torch.compile(fire, backend="eager", fullgraph=True)
    assert torch.equal(compiled(SCAN[0]), fire(SCAN[0]))


# ------------------------------------------------------------------------------- in a network


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every compiled scan raises."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a compiled kernel was called")

    for module, name in ((cpu, "if_scan"), (cpu, "msat_scan"), (cpu, "count_nonzero"), (graded, "scan")):
        monkeypatch.setattr(module, name, refuse)


NETWORKS = [ConstantThreshold(), MSAT(confidence=True, confidence_sites="all"), DeltaCoding(), COS(), SRP()]


@pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
@pytest.mark.parametrize("method", NETWORKS, ids=lambda m: type(m).__name__)
def test_a_network_hands_its_backend_to_each_neuron(method: Any, request: pytest.FixtureRequest) -> None:
    x = inputs(MLP_INPUT, 8, seed=1).float()
    snn = rb.convert(mlp(), x, method)
    snn.events = "never"
    usual = rb.simulate(snn, x, 8)
    request.getfixturevalue("forbidden")
    with pytest.raises(RuntimeError, match="compiled"):
        rb.simulate(snn, x, 8)
    snn.backend = "reference"
    plain = rb.simulate(snn, x, 8)
    torch.testing.assert_close(plain.output, usual.output, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
@pytest.mark.parametrize("name", ["if_scan", "count_nonzero"])
def test_neurons_and_counting_each_follow_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(MLP_INPUT, 8, seed=1).float()
    snn = rb.convert(mlp(), x, ConstantThreshold())
    snn.events = "never"
    calls = []
    kernel = getattr(cpu, name)
    monkeypatch.setattr(cpu, name, lambda *a, **k: calls.append(name) or kernel(*a, **k))
    snn.backend = "cpu"
    rb.simulate(snn, x, 2)
    assert calls
    calls.clear()
    snn.backend = "reference"
    rb.simulate(snn, x, 2)
    assert not calls


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_network_that_cannot_run_on_its_backend_says_why() -> None:
    x = inputs(MLP_INPUT, 8, seed=1).float()
    snn = rb.convert(mlp(), x, ConstantThreshold())
    snn.backend = "triton"
    with pytest.raises(SettingError, match="PyTorch finds no CUDA device"):
        rb.simulate(snn, x, 2)
