"""Neuron scans that pick the fastest backend their tensors allow: `cpu` (Numba), else `reference`.

Layers that touch only the spikes they receive are `EventLayer`, in `events`.

Each scan takes ``backend="auto"``; ``"cpu"`` raises where it cannot be had, ``"reference"`` is plain PyTorch.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from rheobase.errors import SettingError
from rheobase.kernels import cpu, graded, reference
from rheobase.kernels.events import EventLayer, Events

__all__ = [
    "Backend",
    "EventLayer",
    "Events",
    "available",
    "backends",
    "count_nonzero",
    "graded_scan",
    "if_scan",
    "msat_scan",
]

Backend = Literal["auto", "cpu", "reference"]


def available(*tensors: Tensor) -> bool:
    """Whether the compiled kernels can take these tensors: float32, on the CPU, without gradients."""
    return cpu.unsuitable(*tensors) is None and cpu.unavailable() is None


def backends() -> dict[str, str]:
    """Each backend with "ok", or the reason why this process cannot use it.

    >>> backends()["reference"]
    'ok'
    """
    return {"cpu": cpu.unavailable() or "ok", "reference": "ok"}


def if_scan(
    current: Tensor,
    potential: Tensor,
    threshold: Tensor,
    *,
    hard_reset: bool = False,
    overwrite: bool = False,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Integrate and fire, K steps: the equations are in `reference.if_scan`.

    All backends give the same bits.

    Shape: current (K, N, ...), its first dimension may be expanded; potential (N, ...); threshold ()
    or broadcastable to (N, ...).

    With ``overwrite`` the values may take the memory of the current, which saves a third of the time and
    all of the new memory; it is a permission, for a current that nobody needs any more.

    Returns:
        The emitted values (K, N, ...), in the memory order of the current, and the potential (N, ...).

    Raises:
        SettingError: the backend asked for cannot take these tensors.

    >>> import torch
    >>> values, potential = if_scan(torch.full((4, 1), 0.5), torch.zeros(1), torch.tensor(1.0))
    >>> values.flatten().tolist(), potential.item()
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """
    if _compiled(backend, current, potential, threshold):
        return cpu.if_scan(current, potential, threshold, hard_reset=hard_reset, overwrite=overwrite)
    return reference.if_scan(current, potential, threshold, hard_reset=hard_reset)


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
    overwrite: bool = False,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multi-stage adaptive threshold, K steps: equations and arguments are in `reference.msat_scan`.

    Backends agree to float32 rounding of the threshold. ``overwrite`` is as for `if_scan`.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    arguments = (current, potential, mean, last, steps_done, threshold)
    keywords: dict[str, Any] = {
        "alpha": alpha, "ka": ka, "ki": ki, "c": c, "v_t": v_t, "dtt_gain": dtt_gain, "det_gain": det_gain,
        "use_dtt": use_dtt, "use_det": use_det, "drive_is_current": drive_is_current, "raw_units": raw_units,
    }  # fmt: skip
    if _compiled(backend, current, potential, mean, last, threshold):
        return cpu.msat_scan(*arguments, **keywords, overwrite=overwrite)
    return reference.msat_scan(*arguments, **keywords)


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
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Graded integrate and fire, K steps: equations and arguments are in `reference.graded_scan`.

    All backends give the same bits, and the same gradients up to rounding.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    tensors = (current, potential, sent, threshold, fire, offset)
    if _compiled(backend, *(t.detach() for t in tensors)):
        return graded.scan(*tensors, levels, powers, signed, memory)
    return reference.graded_scan(*tensors, levels, powers, signed, memory)


def count_nonzero(values: Tensor, *, backend: Backend = "auto") -> Tensor:
    """How many elements are not zero, for each step. Shape: (K, ...) -> (K,), int64.

    Raises:
        SettingError: the backend asked for cannot take these tensors.
    """
    if _compiled(backend, values):
        return cpu.count_nonzero(values)
    return reference.count_nonzero(values)


def _compiled(backend: Backend, *tensors: Tensor) -> bool:
    """Whether to call `cpu`."""
    if backend == "reference":
        return False
    reason = cpu.unsuitable(*tensors) or cpu.unavailable()
    if backend == "cpu" and reason is not None:
        raise SettingError(f'backend="cpu" cannot be used: {reason}. backend="auto" falls back to PyTorch.')
    return reason is None
