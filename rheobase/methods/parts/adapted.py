"""What methods share whose neurons have the adaptive threshold of MSAT, on a calibrated scale.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking
    Neural Networks", arXiv 2303.13080.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.errors import SettingError
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Adaptation

__all__ = ["Adapted"]


@dataclass(frozen=True, repr=False)
class Adapted(RateCoding):
    """Rate coding with adaptive thresholds and temporal biases; M is a calibrated scale of each channel.

    Args:
        alpha: slope of the tracking threshold; this and those below are the fields of `rheobase.neurons.Adaptation`.
        ka: height of its softplus term.
        ki: width of its softplus term.
        c: sensitivity of the evoked threshold.
        tau_mp: weight of the tracking threshold.
        tau_rd: weight of the evoked threshold.
        v_t: V_T, in units of M.

    The other arguments are those of `RateCoding`.
    """

    calibration: Literal["none", "bias", "potential", "temporal"] = "temporal"
    alpha: float = Adaptation.alpha
    ka: float = Adaptation.ka
    ki: float = Adaptation.ki
    c: float = Adaptation.c
    tau_mp: float = Adaptation.tau_mp
    tau_rd: float = Adaptation.tau_rd
    v_t: float = Adaptation.v_t

    def _problems(self) -> list[str]:
        problems = super()._problems()
        try:
            self.adaptation()
        except SettingError as error:
            problems.append(str(error).removeprefix("MSAT: ").removesuffix("."))
        return problems

    def adaptation(self) -> Adaptation:
        """The threshold's hyper-parameters."""
        return Adaptation(
            self.alpha, ka=self.ka, ki=self.ki, c=self.c, tau_mp=self.tau_mp, tau_rd=self.tau_rd, v_t=self.v_t
        )
