"""What one spike may carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rheobase.errors import is_whole

__all__ = ["Alphabet", "Payload", "mislevelled"]


class Payload(StrEnum):
    """What one spike carries, as a multiple of a constant known to the receiver."""

    BINARY = "binary"
    TERNARY = "ternary"
    INTEGER = "integer"
    POWER_OF_TWO = "power_of_two"
    REAL = "real"


@dataclass(frozen=True)
class Alphabet:
    """The set of values that one spike may take.

    Args:
        payload: binary {0, 1}, ternary {-1, 0, 1}, integer {0, ..., levels},
            power of two {0, 2^0, ..., 2^(1 - levels)}, or a real number.
        levels: how many non-zero magnitudes there are (integer and power-of-two payloads).
        step_weighted: whether what a symbol stands for also depends on the step it is sent in, by a schedule that the
            receiver knows. Within one step, the symbols of a ternary or signed integer spike, 2 levels of them beside
            silence, may then have any values.
        signed: whether integers, powers of two and real numbers may be negative too.
    """

    payload: Payload
    levels: int = 1
    step_weighted: bool = False
    signed: bool = False

    def __str__(self) -> str:
        graded = self.payload in (Payload.INTEGER, Payload.POWER_OF_TWO)
        text = f"{self.payload.value}({self.levels})" if graded else self.payload.value
        text = f"signed {text}" if graded and self.signed else text
        return f"{text}, step-weighted" if self.step_weighted else text

    @property
    def negative(self) -> bool:
        """Whether a spike may be negative."""
        return self.signed or self.payload is Payload.TERNARY

    def levels_after(self, steps: int) -> int | None:
        """How many values above 0 the sum of spikes of T steps can have; None for real numbers.

        .. code-block:: text

            n T             where a spike counts alike in each step, n = 1 for binary and ternary ones
                            and 2^(n - 1) for n powers of two
            k^T - 1         step-weighted with no two steps alike, k symbols a step, silence among them; half as many
                            where they are signed

        What a neuron says of itself (`Neuron.levels_after`) goes by its schedule.

        Args:
            steps: T, at least 1.

        Example:
            >>> Alphabet(Payload.BINARY).levels_after(8), Alphabet(Payload.TERNARY, step_weighted=True).levels_after(4)
            (8, 40)
        """
        graded = self.payload in (Payload.INTEGER, Payload.POWER_OF_TWO)
        magnitudes = self.levels if graded else 1
        if self.payload is Payload.REAL:
            return None
        if not self.step_weighted:
            return steps * (2 ** (magnitudes - 1) if self.payload is Payload.POWER_OF_TWO else magnitudes)
        if self.negative:
            return int(((2 * magnitudes + 1) ** steps - 1) // 2)
        return int((magnitudes + 1) ** steps - 1)


def mislevelled(name: str, levels: object, powers: bool, least: int = 1) -> list[str]:
    """What is wrong with a number of magnitudes, for a message: nothing where a spike may have so many.

    >>> mislevelled("levels", 20, powers=True), mislevelled("levels", 20, powers=False)
    (['levels is 20; it must be from 1 to 16'], [])
    """
    most = 16 if powers else 2**16
    if is_whole(levels) and least <= levels <= most:
        return []
    kind = "" if is_whole(levels) else "a whole number "
    return [f"{name} is {levels!r}; it must be {kind}from {least} to {most}"]
