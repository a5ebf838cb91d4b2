"""The neuron of BDETT, whose threshold follows its potential. MSAT is this rule put through a sigmoid.

References:
    Ding, Dong, Heide, Ding, Zhou, Yin, Yang 2022, "Biologically inspired dynamic thresholds for spiking neural
    networks", NeurIPS 2022, arXiv 2206.04426.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError, nonpositive
from rheobase.neurons._base import Neuron, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.integrate_fire import positive, summary
from rheobase.precision import type_of_sums

__all__ = ["BDETT", "BDETTState"]


class BDETTState(NamedTuple):
    """The potential after firing, its mean over the steps, and the one before firing, of the last step. (N, ...).

    In half precision, the mean is in float32.
    """

    potential: Tensor
    mean: Tensor
    before_firing: Tensor
    steps: int


class BDETT(Neuron):
    r"""Integrate and fire with soft reset and a threshold that follows the potentials.

    With M the layer's largest activation, u(.) = (.) / M, and v_m the mean of v over the
    steps done:

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        E(t)     = eta u(v(t-1) - v_m(t-1)) + rest + ln(1 + exp(u(v(t-1) - v_m(t-1)) / psi))
        H(t)     = a + exp(-u(v_pre(t) - v_pre(t-1)) / c)
        th(t)    = M max((E(t) + H(t)) / 2, 0.05),  th(1) = M
        y(t)     = th(t) if v_pre(t) >= th(t) else 0
        v(t)     = v_pre(t) - y(t)

    Written from a summary: in the paper v_m, rest, a and c are statistics of the layer at each step. Here v_m is
    the neuron's own, as in MSAT: in a converted network the potentials of silent neurons sink without end, and a
    mean over the layer would raise all thresholds with them. There is no lower limit in the paper.

    Args:
        threshold: M. Shape () for the layer or (C,) a channel.
        eta: slope of the energy term.
        psi: width of its softplus, greater than 0.
        rest: its offset.
        a: offset of the temporal term.
        c: its sensitivity, greater than 0.

    Raises:
        SettingError: a value is outside its range.
    """

    alphabet = Alphabet(Payload.REAL)
    overwrites = counting = chains = True
    tunable = MappingProxyType({"threshold": "log"})
    threshold: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        eta: float = 0.3,
        psi: float = 4.0,
        rest: float = 0.0,
        a: float = 0.0,
        c: float = 5.0,
    ) -> None:
        super().__init__()
        problems = nonpositive("psi", psi) + nonpositive("c", c)
        if problems:
            raise SettingError("BDETT: " + "; ".join(problems) + ".")
        self.register_buffer("threshold", positive(threshold, "BDETT"))
        self.eta, self.psi, self.rest, self.a, self.c = eta, psi, rest, a, c

    def initial_state(self, current: Tensor) -> BDETTState:
        zero = torch.zeros_like(current)
        return BDETTState(zero, zero.to(type_of_sums(zero.dtype)), zero, 0)

    def step(self, current: Tensor, state: BDETTState) -> tuple[Tensor, BDETTState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(
        self, current: Tensor, state: BDETTState, overwrite: bool = False, counts: Tensor | None = None
    ) -> tuple[Tensor, BDETTState]:
        y, v, mean, v_pre = kernels.bdett_scan(
            current,
            *state,
            along_channels(self.threshold, current[0]),
            eta=self.eta,
            psi=self.psi,
            rest=self.rest,
            a=self.a,
            c=self.c,
            overwrite=overwrite,
            counts=counts,
            backend=self.backend,
        )
        return y, BDETTState(v, mean, v_pre, state.steps + current.shape[0])

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The activation: charge is conserved, and the threshold grows with the potential."""
        return current.clamp(min=0.0)

    def rate_bound(self, steps: int) -> float:
        return 20.0 / steps

    def refund(self, state: BDETTState, charge: Tensor) -> BDETTState:
        return state._replace(potential=state.potential + charge, mean=state.mean + charge / state.steps)

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, eta={self.eta}, psi={self.psi}, c={self.c}"
