"""Early exit: a rule that says of each answer whether it is sure enough to be the last one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from rheobase.errors import DataError, SettingError, miscounted, mismeasured

__all__ = ["Exit", "Measure"]

Measure = Literal["confidence", "margin", "entropy"]


@dataclass(frozen=True)
class Exit:
    r"""A sample leaves at the first step, from ``first_step`` on, whose answer is sure enough.

    .. code-block:: text

        a(t) = the answer after t steps, C numbers;   p = softmax(a(t))

        confidence:  max p                                        >= threshold
        margin:      (largest of a(t)) - (second largest)         >= threshold
        entropy:     -(sum over c of p_c ln p_c) / ln C           <= threshold

    It keeps that answer. The rules are those of the papers below, with one threshold for all steps and classes. The
    temperature of Li, Jones & Furber, and its thresholds from a Pareto front, are not here: divide the last layer by
    the temperature, and choose the threshold on training data.

    Args:
        on: what is compared with the threshold.
        threshold: a probability from 0 to 1 (confidence), a difference of answers of at least 0 (margin), or a share
            of the greatest entropy from 0 to 1 (entropy).
        first_step: the first step whose answer counts, at least 1. With the read-out `Delayed`, choose one after its
            delay.

    Raises:
        SettingError: a value is outside its range; all are listed.

    References:
        Li, Geller, Kim, Panda 2023, arXiv 2304.01230, "SEENN: towards temporal spiking early-exit neural networks"
        (SEENN-I: confidence).
        Li, Jones, Furber 2023, arXiv 2303.10276, "Unleashing the potential of spiking neural networks with dynamic
        confidence" (confidence).
        Wu et al. 2023, arXiv 2301.09522, "Optimising event-driven spiking neural network with regularisation and
        cutoff" (margin).
        Li, Moitra, Geller, Panda 2023, arXiv 2305.17346, "Input-aware dynamic timestep spiking neural networks for
        efficient in-memory computing" (entropy).

    Example:
        >>> Exit("margin", 0.5).met(torch.tensor([[[1.0, 0.8, 0.0]], [[1.6, 0.9, 0.0]]]), first_step=1).tolist()
        [[False], [True]]
    """

    on: Measure
    threshold: float
    first_step: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.on, str) or self.on not in get_args(Measure):
            problems.append(f"on is {self.on!r}; it must be one of {', '.join(get_args(Measure))}")
        most = math.inf if self.on == "margin" else 1.0
        bounds = "at least 0" if self.on == "margin" else "from 0 to 1"
        problems += mismeasured("threshold", self.threshold, bounds, 0.0, most)
        problems += miscounted("first_step", self.first_step)
        if problems:
            raise SettingError("Exit: " + "; ".join(problems) + ".")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rule of a text such as ``margin:0.5``, or ``margin:0.5:4`` with its first step.

        Raises:
            SettingError: the text is something else.
        """
        on, *numbers = text.split(":")
        try:
            threshold, first_step = float(numbers[0]), int(*(numbers[1:] or ["1"]))
        except (IndexError, ValueError, TypeError) as error:
            raise SettingError(
                f"The exit rule is {text!r}; give MEASURE:THRESHOLD or MEASURE:THRESHOLD:FIRST_STEP, such as "
                f"margin:0.5 or confidence:0.9:4. Measures: {', '.join(get_args(Measure))}."
            ) from error
        return cls(on, threshold, first_step)  # type: ignore[arg-type]

    def met(self, answers: Tensor, first_step: int) -> Tensor:
        """Whether each answer is sure enough.

        Args:
            answers: after the steps t = first_step, first_step + 1, ... Shape (K, N, C).
            first_step: t of the first of them.

        Returns:
            True where the rule holds. Shape (K, N).

        Raises:
            DataError: the answers are not those of at least 2 classes.
        """
        if answers.ndim != 3 or answers.shape[2] < 2:
            raise DataError(
                f"{self}: the network answers in the shape {tuple(answers.shape[1:])}; an early exit needs "
                "(N, classes), at least 2 classes. Leave the exit rule out for other tasks."
            )
        t = torch.arange(first_step, first_step + len(answers), device=answers.device)
        return _MEASURES[self.on](answers.double(), self.threshold) & (t >= self.first_step)[:, None]


def _confidence(answers: Tensor, threshold: float) -> Tensor:
    return answers.softmax(2).amax(2) >= threshold


def _margin(answers: Tensor, threshold: float) -> Tensor:
    largest: Tensor = answers.topk(2, dim=2).values
    return largest[..., 0] - largest[..., 1] >= threshold


def _entropy(answers: Tensor, threshold: float) -> Tensor:
    p = answers.softmax(2)
    entropy: Tensor = torch.special.entr(p).sum(2)  # (K, N)
    return entropy / math.log(p.shape[2]) <= threshold


_MEASURES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "confidence": _confidence,
    "margin": _margin,
    "entropy": _entropy,
}
