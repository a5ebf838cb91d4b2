"""Neuron scans that pick the fastest backend their tensors allow: `gpu` (Triton), `cpu` (Numba), else `reference`.

Layers that touch only the spikes they receive are `EventLayer`, in `events`.

Each scan takes ``backend="auto"``; ``"triton"`` and ``"cpu"`` raise where they cannot be had, ``"reference"`` is
plain PyTorch. Nothing of Triton or Numba is imported before a scan or `backends` needs it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.kernels import chained, cpu, gpu, graded, gradient, reference, signed_msat, synchronous
from rheobase.kernels.cpu import settle
from rheobase.kernels.events import EventLayer, Events, KnownInput
from rheobase.kernels.integer import Arithmetic, Code
from rheobase.kernels.layout import along_steps, check_channels
from rheobase.kernels.synchronous import Rule, offset_rule, parallel_rule, radix_rule

__all__ = [
    "Arithmetic",
    "Backend",
    "Code",
    "EventLayer",
    "Events",
    "KnownInput",
    "Rule",
    "available",
    "backends",
    "bdett_scan",
    "check",
    "count_by_sample",
    "count_nonzero",
    "graded_scan",
    "if_scan",
    "msat_scan",
    "offset_rule",
    "parallel_rule",
    "radix_rule",
    "settle",
    "signed_msat_scan",
    "synchronous_scan",
    "weigh",
    "weigh_by_sample",
]

Backend = Literal["auto", "triton", "cpu", "reference"]
"""What computes a scan: Triton on a CUDA device, Numba on the CPU, or PyTorch; auto takes the fastest that can."""

_COMPILED: dict[str, ModuleType] = {"triton": gpu, "cpu": cpu}


def available(*tensors: Tensor) -> bool:
    """Whether a compiled backend takes these tensors, if no gradient is asked for: float32, dense, on one device."""
    return _choose("auto", tensors) != "reference"


def backends() -> dict[str, str]:
    """Each backend with "ok", or the reason why this process cannot use it.

    >>> backends()["reference"]
    'ok'
    """
    return {name: module.unavailable() or "ok" for name, module in _COMPILED.items()} | {"reference": "ok"}


def check(name: str, value: str, choices: Any) -> None:
    """Check that a setting is one of its choices.

    Args:
        name: of the setting.
        value: what was given.
        choices: the `Literal` of those there are.

    Raises:
        SettingError: it is none of them.
    """
    if value not in get_args(choices):
        raise SettingError(f"{name} is {value!r}; it must be one of {list(get_args(choices))}.")


def if_scan(
    current: Tensor,
    potential: Tensor,
    threshold: Tensor,
    *,
    hard_reset: bool = False,
    overwrite: bool = False,
    counts: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Integrate and fire, K steps: the equations are in `reference.if_scan`.

    All backends give the same bits, and the same gradients up to rounding; Triton has no gradient.

    Shape: current (K, N, ...), its first dimension may be expanded; potential (N, ...); threshold ()
    or broadcastable to (N, ...).

    With ``overwrite`` the values may take the memory of the current, which saves time and
    all of the new memory; it is a permission, for a current that nobody needs any more. ``counts``, (K, N) int64,
    is filled with the number of spikes of each step and sample.

    Returns:
        The emitted values (K, N, ...), in the memory order of the current, and the potential (N, ...).

    Raises:
        SettingError: the backend asked for cannot take these tensors.

    >>> import torch
    >>> values, potential = if_scan(torch.full((4, 1), 0.5), torch.zeros(1), torch.tensor(1.0))
    >>> values.flatten().tolist(), potential.item()
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """
    values, after = _counting(
        "if_scan", (current, potential, threshold), {"hard_reset": hard_reset}, overwrite, counts, backend
    )
    return values, after


def msat_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    v_t: float,
    dtt_gain: float,
    det_gain: float,
    use_dtt: bool = True,
    use_det: bool = True,
    drive_is_current: bool = False,
    raw_units: bool = False,
    payload: int = 0,
    overwrite: bool = False,
    counts: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multi-stage adaptive threshold, K steps: equations and arguments are in `reference.msat_scan`.

    Backends agree to float32 rounding of the threshold, and so do the gradients; Triton has none.
    ``overwrite`` and ``counts`` are as for `if_scan`.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    arguments = (current, potential, mean, last, steps_done, threshold)
    keywords: dict[str, Any] = {
        "alpha": alpha, "ka": ka, "ki": ki, "c": c, "v_t": v_t, "dtt_gain": dtt_gain, "det_gain": det_gain,
        "use_dtt": use_dtt, "use_det": use_det, "drive_is_current": drive_is_current, "raw_units": raw_units,
        "payload": payload,
    }  # fmt: skip
    values, v, mean, last = _counting("msat_scan", arguments, keywords, overwrite, counts, backend)
    return values, v, mean, last


def bdett_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    eta: float,
    psi: float,
    rest: float,
    a: float,
    c: float,
    overwrite: bool = False,
    counts: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dynamic thresholds of BDETT, K steps: equations and arguments are in `reference.bdett_scan`.

    Backends agree to float32 rounding of the threshold, and so do the gradients; Triton has none.
    ``overwrite`` and ``counts`` are as for `if_scan`.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    arguments = (current, potential, mean, last, steps_done, threshold)
    numbers: dict[str, Any] = {"eta": eta, "psi": psi, "rest": rest, "a": a, "c": c}
    values, v, mean, last = _counting("bdett_scan", arguments, numbers, overwrite, counts, backend)
    return values, v, mean, last


def _counting(
    name: str,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    overwrite: bool,
    counts: Tensor | None,
    backend: Backend,
) -> tuple[Tensor, ...]:
    """The scan of this name, which counts its spikes itself where it can."""
    found: tuple[Tensor, ...]
    tensors = tuple(argument for argument in arguments if isinstance(argument, Tensor))
    chosen = _choose(backend, tensors, gradients=("cpu",))
    tuned = gradient.asked_for(arguments[0], arguments[1], arguments[-1])
    if chosen != "cpu" or tuned or not chained.takes(arguments[0]):
        cpu.settle()
    match chosen:
        case "triton":
            own = counts if counts is not None and gpu.counts_in_a_scan(arguments[0]) else None
            found = getattr(gpu, name)(*arguments, **keywords, overwrite=overwrite, counts=own)
            if own is not None:
                return found
        case "cpu" if tuned:
            found = gradient.scan(name, arguments, keywords)
        case "cpu":
            found = getattr(cpu, name)(*arguments, **keywords, overwrite=overwrite, counts=counts)
            return found
        case _:
            found = getattr(reference, name)(*arguments, **keywords)
    if counts is not None:
        counts.copy_(count_by_sample(found[0].detach(), backend=backend))
    return found


def signed_msat_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
    *,
    backend: Backend = "auto",
    **adaptation: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The threshold of MSAT with signed spikes and a memory, K steps: see `reference.signed_msat_scan`.

    Backends agree to float32 rounding of the threshold, and so do the gradients; Triton has no gradient.

    Raises:
        SettingError: the backend asked for cannot take these tensors, or a parameter is for other channels.
    """
    tensors = (threshold, fire, offset)
    states = (potential, sent, mean, last)
    check_channels(current, *tensors)
    cpu.settle()
    match _choose(backend, (current, *states, *tensors), gradients=("cpu",)):
        case "triton":
            return gpu.signed_msat_scan(current, *states, steps_done, *tensors, **adaptation)
        case "cpu":
            return signed_msat.scan(current, *states, steps_done, *tensors, **adaptation)
        case _:
            return reference.signed_msat_scan(current, *states, steps_done, *tensors, **adaptation)


def graded_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
    *,
    levels: int = 1,
    powers: bool = False,
    signed: bool = True,
    memory: bool = True,
    first_levels: int = 0,
    overwrite: bool = False,
    counts: Tensor | None = None,
    bias: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Graded integrate and fire, K steps: equations and arguments are in `reference.graded_scan`.

    All backends give the same bits, and the same gradients up to rounding; Triton has no gradient. ``overwrite`` and
    ``counts`` are as for `if_scan`; ``bias``, (K or 1, C or 1), is added to the current.

    Raises:
        SettingError: the backend asked for cannot take these tensors, or a parameter is for other channels.
    """
    tensors, rule = (current, potential, sent, threshold, fire, offset), (levels, powers, signed, memory, first_levels)
    check_channels(current, threshold, fire, offset, *([] if bias is None else [bias]))
    given = tensors if bias is None else (*tensors, bias)
    chosen = _choose(backend, given, gradients=("cpu",))
    tuned = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    if chosen == "cpu" and not tuned:
        if not chained.takes(current):
            cpu.settle()
        return graded.scan(*tensors, *rule, overwrite=overwrite, counts=counts, bias=bias)
    cpu.settle()
    current = current if bias is None else current + along_steps(bias, current)
    scan = {"triton": gpu.graded_scan, "cpu": graded.scan}.get(chosen, reference.graded_scan)
    found = scan(current, *tensors[1:], *rule)
    if counts is not None:
        counts.copy_(count_by_sample(found[0].detach(), backend=backend))
    return found


def synchronous_scan(
    current: Tensor,
    rule: Rule,
    *,
    overwrite: bool = False,
    counts: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor | None:
    """All T steps of a layer-synchronous neuron, or None where its own PyTorch code is to compute them.

    There is no Triton kernel for it; on a GPU, PyTorch computes it. The bits are mostly those of PyTorch where each
    step is dense in memory, as between two layers. For the last few neurons of a step, and in other layouts, PyTorch
    may add the steps in another order, and a mean that is within rounding of the edge between two numbers of spikes may
    fall on its other side. ``overwrite`` and
    ``counts`` are as for `if_scan`.

    Shape: current (T, N, ...) -> (T, N, ...).

    Raises:
        SettingError: the CPU backend is asked for and cannot take these tensors.
    """
    cpu.settle()
    if backend == "triton" or _choose(backend, (current, *rule.parameters)) != "cpu":
        return None
    return synchronous.scan(current, rule, overwrite=overwrite, counts=counts)


def count_nonzero(values: Tensor, *, backend: Backend = "auto") -> Tensor:
    """How many elements are not zero, for each step. Shape: (K, ...) -> (K,), int64.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    match _choose(backend, (values,)):
        case "triton":
            return gpu.count_nonzero(values)
        case "cpu":
            return cpu.count_nonzero(values)
        case _:
            return reference.count_nonzero(values)


def count_by_sample(values: Tensor, *, backend: Backend = "auto") -> Tensor:
    """How many elements are not zero, for each step and sample. Shape: (K, N, ...) -> (K, N), int64.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    folded = values.flatten(0, 1)
    if backend == "reference" or folded.ndim == 1:
        return (values != 0).flatten(2).sum(2) if values.ndim > 2 else (values != 0).long()
    return count_nonzero(folded.unsqueeze(1), backend=backend).view(values.shape[:2])


def weigh(values: Tensor, weights: Tensor, *, backend: Backend = "auto") -> Tensor:
    """The weights of the elements that are not zero, for each step: see `reference.weigh`.

    There is no Triton kernel for it; on a GPU, PyTorch computes it.

    Raises:
        SettingError: the CPU backend is asked for and cannot take these tensors.
    """
    if _weighs_on_cpu(values, backend):
        return cpu.weigh(values, weights)
    return reference.weigh(values, weights)


def weigh_by_sample(values: Tensor, weights: Tensor, *, backend: Backend = "auto") -> Tensor:
    """As `weigh`, for each step and sample. Shapes: (K, N, ...), (...) -> (K, N), int64."""
    if _weighs_on_cpu(values, backend):
        return cpu.weigh(values.flatten(0, 1).unsqueeze(1), weights).view(values.shape[:2])
    return reference.weigh_by_sample(values, weights)


def _weighs_on_cpu(values: Tensor, backend: Backend) -> bool:
    return backend != "reference" and _choose("cpu" if backend == "cpu" else "auto", (values,)) == "cpu"


def _choose(backend: Backend, tensors: tuple[Tensor, ...], gradients: tuple[str, ...] = ()) -> str:
    """Which backend computes a scan of these tensors, the current first.

    Args:
        backend: the one asked for.
        tensors: the arguments of the scan.
        gradients: the compiled backends whose kernel for this scan has a backward pass.

    Returns:
        "triton", "cpu" or "reference".

    Raises:
        SettingError: the backend asked for is unknown, or cannot take these tensors.
    """
    check("backend", backend, Backend)
    if backend == "reference":
        return backend
    name = backend if backend != "auto" else "triton" if tensors[0].is_cuda else "cpu"
    module = _COMPILED[name]
    if name in gradients:
        tensors = tuple(tensor.detach() for tensor in tensors)
    unsuitable = module.unsuitable(*tensors)
    if unsuitable is None and module.unavailable() is None:
        return name
    if backend == "auto":
        return "reference"
    reasons = "; ".join(filter(None, (module.unavailable(), unsuitable)))
    raise SettingError(f'backend="{name}" cannot be used: {reasons}. backend="auto" takes the fastest that can.')
