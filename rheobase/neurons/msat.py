"""The neuron of MSAT, whose threshold adapts to its potential and its input at each step.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for
    Conversion of Spiking Neural Networks", arXiv 2303.13080, equations 9 to 15 and Algorithm 1.
    The rule is the one of Ding et al. 2022 (BDETT, arXiv 2206.04426) put through a sigmoid and
    scaled by the layer's largest activation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.integrate_fire import positive, summary
from rheobase.precision import type_of_sums

__all__ = ["MSAT", "Adaptation", "MSATState"]


@dataclass(frozen=True)
class Adaptation:
    """The hyper-parameters of the threshold of MSAT, with the variants of its equations.

    The paper's text and the authors' released code differ; the defaults follow the paper, and
    `release` gives the code's choices.

    Args:
        alpha: slope of the tracking threshold below the mean potential (Eq. 12).
        ka: height of its softplus term; the slope above the mean is alpha + ka / ki.
        ki: width of its softplus term, greater than 0.
        c: sensitivity of the evoked threshold to depolarisation, greater than 0 (Eq. 13).
        tau_mp: weight of the tracking threshold (Eq. 11).
        tau_rd: weight of the evoked threshold (Eqs. 11 and 13).
        v_t: V_T of Eq. 12 in units of the layer's maximum. The paper leaves it open; -1 is what
            the release uses, and what its results were made with.
        dtt: use the dynamic tracking threshold.
        det: use the dynamic evoked threshold.
        depolarisation: "potential", the change of the potential before firing (paper), or
            "current", the input current (release).
        tau_rd_twice: tau_rd multiplies the evoked threshold in Eq. 11 and in Eq. 13 (paper), or
            once (release).
        units: "normalised" divides potentials by the layer's maximum before Eqs. 12 and 13, so
            that scaling a layer does not change its behaviour; "raw" does not (release).

    Raises:
        SettingError: ki or c is not positive, or a choice is unknown.
    """

    alpha: float = 0.3
    ka: float = 1.0
    ki: float = 1.0
    c: float = 5.0
    tau_mp: float = 0.5
    tau_rd: float = 0.5
    v_t: float = -1.0
    dtt: bool = True
    det: bool = True
    depolarisation: Literal["potential", "current"] = "potential"
    tau_rd_twice: bool = True
    units: Literal["normalised", "raw"] = "normalised"

    def __post_init__(self) -> None:
        problems = [f"{n} is {v}; it must be > 0" for n, v in (("ki", self.ki), ("c", self.c)) if not v > 0]
        numbers = ("alpha", "ka", "ki", "c", "tau_mp", "tau_rd", "v_t")
        problems += [f"{n} is not finite" for n in numbers if not math.isfinite(getattr(self, n))]
        if self.depolarisation not in ("potential", "current"):
            problems.append(f'depolarisation is {self.depolarisation!r}; it must be "potential" or "current"')
        if self.units not in ("normalised", "raw"):
            problems.append(f'units is {self.units!r}; it must be "normalised" or "raw"')
        if not (self.dtt or self.det):
            problems.append("dtt and det are both off; use a constant threshold instead")
        if problems:
            raise SettingError("MSAT: " + "; ".join(problems) + ".")

    @classmethod
    def vgg16(cls, **changes: object) -> Self:
        """Table 2 of the paper, column VGG16."""
        return cls(**{"alpha": 0.03, "tau_mp": 1.0, "tau_rd": 1.0, **changes})  # type: ignore[arg-type]

    @classmethod
    def resnet20(cls, **changes: object) -> Self:
        """Table 2 of the paper, column ResNet20 (the defaults)."""
        return cls(**changes)  # type: ignore[arg-type]

    @classmethod
    def resnet34(cls, **changes: object) -> Self:
        """Table 2 of the paper, column ResNet34."""
        return cls(**{"alpha": 1.0, **changes})  # type: ignore[arg-type]

    def adaptation(self) -> Adaptation:
        """These hyper-parameters alone, without what a subclass adds."""
        return Adaptation(**{f.name: getattr(self, f.name) for f in fields(Adaptation)})

    def arguments(self) -> dict[str, Any]:
        """These hyper-parameters as the keyword arguments of `rheobase.kernels.msat_scan`."""
        return {
            "alpha": self.alpha, "ka": self.ka, "ki": self.ki, "c": self.c, "v_t": self.v_t,
            "dtt_gain": self.tau_mp, "det_gain": self.det_gain, "use_dtt": self.dtt, "use_det": self.det,
            "drive_is_current": self.depolarisation == "current", "raw_units": self.units == "raw",
        }  # fmt: skip

    @property
    def det_gain(self) -> float:
        """What the exponential of Eq. 13 is multiplied by in all."""
        return self.tau_rd**2 if self.tau_rd_twice else self.tau_rd


class MSATState(NamedTuple):
    """What the threshold is computed from; each tensor has the shape (N, ...).

    Attributes:
        potential: v, after firing.
        mean: v_m, the running mean of v over the steps done, in half precision in float32.
        before_firing: v_pre of the last step.
        steps: how many steps have been done.
    """

    potential: Tensor
    mean: Tensor
    before_firing: Tensor
    steps: int


class MSAT(Neuron):
    r"""Integrate and fire with soft reset and a threshold of its own at each step (Eqs. 9 to 13).

    With M the layer's maximum activation and u(.) = (.) / M in normalised units:

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        th(1)    = M
        DTT(t-1) = alpha u(v(t-1) - v_m(t-1)) + V_T + ka ln(1 + exp(u(v(t-1) - v_m(t-1)) / ki))
        DET(t)   = tau_rd exp(-u(v_pre(t) - v_pre(t-1)) / c)
        th(t)    = M sigmoid(tau_mp DTT(t-1) + tau_rd DET(t))
        s(t)     = 1 if v_pre(t) >= th(t) else 0
        y(t)     = th(t) s(t)
        v(t)     = v_pre(t) - y(t)
        v_m(t)   = (1/t) sum over t' <= t of v(t')

    A spike carries th(t), a real number that the receiver cannot know: on hardware this is a
    graded spike, and each synaptic event a multiplication.

    Args:
        threshold: M, the layer's largest activation. Shape () for the layer or (C,) a channel.
        adaptation: the hyper-parameters and variants.

    Raises:
        SettingError: the threshold is not a positive, finite number.

    Example:
        >>> import torch
        >>> neuron = MSAT(torch.tensor(1.0), Adaptation.resnet20())
        >>> neuron(torch.full((4, 1), 0.6)).flatten()
        tensor([0.0000, 0.5171, 0.5273, 0.5309])
    """

    alphabet = Alphabet(Payload.REAL)
    overwrites = counting = chains = rounding = True
    tunable = MappingProxyType({"threshold": "log"})
    threshold: Tensor

    def __init__(self, threshold: Tensor | float, adaptation: Adaptation) -> None:
        super().__init__()
        self.register_buffer("threshold", positive(threshold, "MSAT"))
        self.adaptation = adaptation

    def initial_state(self, current: Tensor) -> MSATState:
        zero = torch.zeros_like(current)
        return MSATState(zero, zero.to(type_of_sums(zero.dtype)), zero, 0)

    def step(self, current: Tensor, state: MSATState) -> tuple[Tensor, MSATState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(
        self,
        current: Tensor,
        state: MSATState,
        overwrite: bool = False,
        counts: Tensor | None = None,
        payload: int = 0,
    ) -> tuple[Tensor, MSATState]:
        y, v, mean, v_pre = kernels.msat_scan(
            current,
            state.potential,
            state.mean,
            state.before_firing,
            state.steps,
            along_channels(self.threshold, current[0]),
            **self.adaptation.arguments(),
            payload=payload,
            overwrite=overwrite,
            counts=counts,
            backend=self.backend,
        )
        return y, MSATState(v, mean, v_pre, state.steps + current.shape[0])

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The activation clipped at M: charge is conserved, so r(T) = x - v(T) / T (Eq. 6).

        The threshold stays below M, so an input near M leaves a growing potential behind; the
        bound is for inputs of at most 0.9 M.
        """
        return current.clamp(min=0.0).minimum(along_channels(self.threshold, current))

    def rate_bound(self, steps: int) -> float:
        return 10.0 / steps

    def refund(self, state: MSATState, charge: Tensor) -> MSATState:
        return state._replace(potential=state.potential + charge, mean=state.mean + charge / state.steps)

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, {self.adaptation}"
