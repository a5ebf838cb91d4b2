"""Random scans in every layout that the kernels accept, and how far a threshold of MSAT may be from the exact one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from rheobase import kernels
from rheobase.kernels import reference
from rheobase.kernels.surrogate import nearest_power

EPS = torch.finfo(torch.float32).eps
PAPER = {"alpha": 0.3, "ka": 1.0, "ki": 1.0, "c": 5.0, "v_t": -1.0, "dtt_gain": 0.5, "det_gain": 0.25}

SHAPES = [(), (7,), (3, 10), (1, 5), (2, 3, 17), (2, 3, 5, 4), (1, 4, 3, 3), (5, 1, 4, 6), (3, 16, 9, 8)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """A current (K, N, ...), a potential (N, ...) and a threshold, in every layout the kernels accept."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape, steps = draw(st.sampled_from(SHAPES)), draw(st.integers(1, 6))

    ties = draw(st.booleans())  # potentials that meet the threshold exactly

    def normal(*size: int) -> Tensor:
        values = torch.randn(size, generator=generator)
        return values.mul(4).round().div(4) if ties else values

    layout = draw(st.sampled_from(["dense", "channels last", "constant", "sparse", "strided", "permuted"]))
    current = normal(steps, *shape)
    if layout == "channels last" and len(shape) == 4:
        current = current.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, -1))
    elif layout == "constant":
        current = current[:1].expand(steps, *shape)
    elif layout == "sparse" and shape:
        current = normal(steps, *shape[:-1], 2 * shape[-1])[..., ::2]
    elif layout == "strided":
        current = normal(2 * steps, *shape)[::2]
    elif layout == "permuted":
        current = normal(steps, *reversed(shape)).permute(0, *range(len(shape), 0, -1))
    potential = normal(*shape)
    if len(shape) == 4 and draw(st.booleans()):
        potential = potential.to(memory_format=torch.channels_last)
    sizes = [(), (1,), shape, shape[1:], (shape[1:2] + (1,) * (len(shape) - 2)), (1, *shape[1:])]
    size = draw(st.sampled_from(sizes))
    return current, potential, normal(*size).abs() + 0.25 if len(size) <= len(shape) else torch.tensor(0.75)


flags = st.fixed_dictionaries({name: st.booleans() for name in ("use_dtt", "use_det", "drive_is_current", "raw_units")})
constants = st.fixed_dictionaries(
    {
        "alpha": st.floats(0, 2),
        "ka": st.floats(0, 2),
        "ki": st.floats(0.25, 4),
        "c": st.floats(0.5, 8),
        "v_t": st.floats(-2, 1),
        "dtt_gain": st.floats(0, 2),
        "det_gain": st.floats(0, 2),
    }
)

BDETT = {"eta": 0.3, "psi": 4.0, "rest": 0.1, "a": -0.05, "c": 5.0}
bdett_constants = st.fixed_dictionaries(
    {
        "eta": st.floats(0, 2),
        "psi": st.floats(0.25, 4),
        "rest": st.floats(-2, 1),
        "a": st.floats(-1, 1),
        "c": st.floats(0.5, 8),
    }
)


GRADED_SHAPES = [(2,), (3, 10), (2, 700), (3, 5, 40), (2, 16, 5, 4), (1, 3, 3, 3), (2, 24, 9, 9)]
RULES = st.fixed_dictionaries(
    {
        "levels": st.integers(1, 5),
        "powers": st.booleans(),
        "signed": st.booleans(),
        "memory": st.booleans(),
        "first_levels": st.sampled_from([0, 0, 1, 2, 7]),
    }
).map(lambda rule: rule | {"first_levels": 0} if rule["powers"] else rule)


def in_chunk(rule: dict[str, Any], start: int) -> dict[str, Any]:
    """The rule of a chunk that begins with this step: only the first one has the first step."""
    return rule if start == 0 else rule | {"first_levels": 0}


@st.composite
def graded_problems(draw: st.DrawFn) -> list[Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape, steps = draw(st.sampled_from(GRADED_SHAPES)), draw(st.integers(1, 6))
    rows = draw(st.sampled_from([1, steps]))
    channels = draw(st.sampled_from([1, shape[1] if len(shape) > 1 else 1]))
    current = torch.randn(steps, *shape, generator=generator)
    if len(shape) == 4 and draw(st.booleans()):
        current = current.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, -1))
    elif draw(st.booleans()):
        current = current[:1].expand(steps, *shape)
    potential, sent = 0.2 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
    threshold = 0.3 + torch.rand(rows, channels, generator=generator)
    fire = 0.3 + 0.5 * torch.rand(rows, channels, generator=generator)
    return [current, potential, sent, threshold, fire, 0.05 * torch.randn(1, channels, generator=generator)]


Rounding = Callable[[Tensor, Tensor, Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor]]
"""The exact threshold of a step from x, v, mean, last, t and M, and a bound on the float32 error in it."""


def check_msat_steps(
    backend: kernels.Backend, problem: tuple[Tensor, Tensor, Tensor], numbers: dict[str, float],
    switches: dict[str, bool], done: int, payload: int,
) -> None:  # fmt: skip
    scans = [partial(kernels.msat_scan, backend=backend), reference.msat_scan]
    ours, plain = (partial(scan, **numbers, **switches, payload=payload) for scan in scans)  # type: ignore[operator]
    _check_steps(ours, plain, partial(_msat_rounding, numbers=numbers, switches=switches), problem, done, payload)


def check_bdett_steps(
    backend: kernels.Backend, problem: tuple[Tensor, Tensor, Tensor], numbers: dict[str, float], done: int
) -> None:
    scans = [partial(kernels.bdett_scan, backend=backend), reference.bdett_scan]
    ours, plain = (partial(scan, **numbers) for scan in scans)  # type: ignore[operator]
    _check_steps(ours, plain, partial(_bdett_rounding, numbers=numbers), problem, done)


def _check_steps(
    scan: Any, plain: Any, rounding: Rounding, problem: tuple[Tensor, Tensor, Tensor], done: int, payload: int = 0
) -> None:
    """Teacher-forced: every step starts from the same state for the backend and for float64.

    A rounded payload may be either of its neighbours where the threshold is within rounding of where they meet.
    """
    current, v, threshold = problem
    mean, last = 0.5 * v.flip(0) if v.ndim else 0.5 * v, v + 0.25
    for t, x in enumerate(current, start=done):
        ours = scan(x[None], v, mean, last, t, threshold)
        arguments = [tensor.double() for tensor in (x[None], v, mean, last)]
        exact = plain(*arguments, t, threshold.double())
        th, error = rounding(x, v, mean, last, t, threshold)
        distance = (arguments[3] * 0 + x.double() + v.double() - th).abs()
        sent, decided = th, distance > error
        if payload:
            sent, low, high = (nearest_power(u, threshold, payload) for u in (th, th - error, th + error))
            settled = low == high
            decided = decided & settled
        scale = 1 + x.abs() + v.abs() + threshold
        for a, b in zip((ours[0][0], *ours[1:]), (exact[0][0], *exact[1:]), strict=True):
            assert ((a - b).abs() <= error + 4 * EPS * scale)[decided].all()
        fired = ours[0][0] != 0
        fired = fired & settled if payload else fired
        assert torch.where(fired, (ours[0][0] - sent).abs() <= error, True).all()
        _, v, mean, last = ours


def check_signed_msat_steps(
    backend: kernels.Backend, problem: list[Tensor], numbers: dict[str, float], switches: dict[str, bool], done: int
) -> None:
    """Teacher-forced, as `_check_steps`; within the rounding of q, its level may be either."""
    current, v, r, *rows = problem
    mean, last = 0.5 * v.flip(0), v + 0.25
    for k, x in enumerate(current):
        now, t = [p if len(p) == 1 else p[k : k + 1] for p in rows], done + k
        ours = kernels.signed_msat_scan(x[None], v, r, mean, last, t, *now, **numbers, **switches, backend=backend)
        exact = reference.signed_msat_scan(
            *(state.double() for state in (x[None], v, r, mean, last)), t, *(p.double() for p in now),
            **numbers, **switches,
        )  # fmt: skip
        m, fire, offset = (p[0].reshape(-1, *[1] * (x.ndim - 2)).double() for p in now)
        th, error = _msat_rounding(x, v, mean, last, t, m, numbers, switches)
        q = (x.double() + v).maximum(-r.double()) / th + offset
        noise = (error * (q - offset).abs() + EPS * (x.abs() + v.abs())) / th + 8 * EPS * (1 + q.abs() + fire)
        decided = (q.abs() - fire).abs() > noise
        scale = 1 + x.abs() + v.abs() + r.abs() + m
        for a, b in zip((ours[0][0], *ours[1:]), (exact[0][0], *exact[1:]), strict=True):
            assert ((a - b).abs() <= error + 4 * EPS * scale)[decided].all()
        assert (ours[2] >= 0).all()
        _, v, r, mean, last = ours


def _msat_rounding(
    x: Tensor, v: Tensor, mean: Tensor, last: Tensor, t: int, threshold: Tensor,
    numbers: dict[str, float], switches: dict[str, bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    x, v, mean, last, m = (tensor.double() for tensor in (x, v, mean, last, threshold))
    if t == 0:
        return m.expand_as(x), 4 * EPS * (x.abs() + v.abs() + m)
    drive = x if switches["drive_is_current"] else v + x - last
    keywords = {k: w for k, w in switches.items() if k != "drive_is_current"}
    th = reference.msat_threshold(v - mean, drive, m, **numbers, **keywords)
    z_error = _exponent_rounding(x, v, mean, last, m, numbers, switches)
    cofactor = th / m
    return th, m * (cofactor * (1 - cofactor) * z_error + 8 * EPS * cofactor) + 4 * EPS * (x.abs() + v.abs())


def _bdett_rounding(
    x: Tensor, v: Tensor, mean: Tensor, last: Tensor, t: int, threshold: Tensor, numbers: dict[str, float]
) -> tuple[Tensor, Tensor]:
    """As for MSAT: (E + H) / 2 is its exponent."""
    x, v, mean, last, m = (tensor.double() for tensor in (x, v, mean, last, threshold))
    if t == 0:
        return m.expand_as(x), 4 * EPS * (x.abs() + v.abs() + m)
    th = reference.bdett_threshold(v - mean, v + x - last, m, **numbers)
    same = {
        "alpha": numbers["eta"], "ka": 1.0, "ki": numbers["psi"], "c": numbers["c"],
        "v_t": abs(numbers["rest"]) + abs(numbers["a"]), "dtt_gain": 0.5, "det_gain": 0.5,
    }  # fmt: skip
    switches = {"use_dtt": True, "use_det": True, "drive_is_current": False, "raw_units": False}
    z_error = _exponent_rounding(x, v, mean, last, m, same, switches)
    return th, m * z_error + 8 * EPS * th + 4 * EPS * (x.abs() + v.abs())


def _exponent_rounding(
    x: Tensor, v: Tensor, mean: Tensor, last: Tensor, m: Tensor, numbers: dict[str, float], switches: dict[str, bool]
) -> Tensor:
    """A bound on the float32 error in the exponent of MSAT: first-order, term by term."""
    unit = 1.0 if switches["raw_units"] else 1 / m
    drive = x if switches["drive_is_current"] else v + x - last
    noise = EPS * (x.abs() + v.abs() + last.abs() + mean.abs()) * unit  # rounding of d and of drive
    z_error = torch.zeros_like(x)
    if switches["use_dtt"]:
        d = ((v - mean) * unit).abs()
        rest = abs(numbers["v_t"]) * (m if switches["raw_units"] else 1)
        soft = numbers["ka"] * (1 + d / numbers["ki"])
        terms = numbers["alpha"] * d + rest + soft
        slope = numbers["alpha"] + numbers["ka"] / numbers["ki"]
        z_error = z_error + numbers["dtt_gain"] * (8 * EPS * terms + slope * noise)
    if switches["use_det"]:
        argument = -drive * unit / numbers["c"]
        det = numbers["det_gain"] * torch.exp(argument)
        z_error = z_error + det * (8 * EPS * (1 + argument.abs()) + noise / numbers["c"])
    return z_error


def msat(module: Any, problem: tuple[Tensor, Tensor, Tensor], **keywords: Any) -> tuple[Tensor, ...]:
    """A scan from a fresh state with the constants of the paper."""
    current, potential, threshold = problem
    zeros = torch.zeros_like(potential)
    result: tuple[Tensor, ...] = module.msat_scan(
        current, potential, zeros, zeros, 0, threshold, **{**PAPER, **keywords}
    )
    return result


def msat_flat(module: Any, *problem: Tensor, **keywords: Any) -> tuple[Tensor, ...]:
    return msat(module, (problem[0], problem[1], problem[2]), **keywords)


def bdett_flat(module: Any, *problem: Tensor, **keywords: Any) -> tuple[Tensor, ...]:
    """A scan from a fresh state."""
    current, potential, threshold = problem
    zeros = torch.zeros_like(potential)
    result: tuple[Tensor, ...] = module.bdett_scan(
        current, potential, zeros, zeros, 0, threshold, **{**BDETT, **keywords}
    )
    return result


def signed_msat(problem: list[Tensor], done: int = 0, **keywords: Any) -> tuple[Tensor, ...]:
    """A scan with the constants of the paper; its mean and last potential start at 0."""
    current, potential, sent, *rows = problem
    zeros = torch.zeros_like(potential)
    return kernels.signed_msat_scan(current, potential, sent, zeros, zeros, done, *rows, **{**PAPER, **keywords})
