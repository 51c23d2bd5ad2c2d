"""Products of powers of what a conversion may have to know, in plain Python.

Every multiplier of the lambda dictionary, and so every conversion between two of its rows, has the form

    number * num_rows^a * noise_scale^b * target_scale^c * steps_per_epoch^e,

and what cancels need not be known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

KNOWLEDGE = {
    "num_rows": "the number of rows, an integer of at least 1",
    "noise_scale": "the standard deviation of the noise, a positive number",
    "target_scale": "the standard deviation of the target with divisor n, a positive number",
    "steps_per_epoch": "the number of optimizer steps in an epoch, an integer of at least 1 (1: full batch)",
}
"""What a conversion may have to know about the problem, with what is accepted for each."""


def _checked(name: str, value: Any) -> float:
    """A piece of knowledge as a positive finite float.

    Args:
        name: One of `KNOWLEDGE`.
        value: What the caller gave.

    Returns:
        The value as a float.

    Raises:
        ValueError: If the value is not what `KNOWLEDGE` says.
    """
    accepted = f"{name} must be {KNOWLEDGE[name]}; got {value!r}"
    if hasattr(value, "log_prob"):
        raise ValueError(f"{accepted}, a distribution. Give the value to use, for example map_estimate(...).{name}.")
    if isinstance(value, (str, bytes, bool)):
        raise ValueError(f"{accepted}.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{accepted}.") from None
    whole = name in ("num_rows", "steps_per_epoch")
    if not (math.isfinite(number) and number > 0 and (not whole or number == int(number))):
        raise ValueError(f"{accepted}.")
    return number


def in_range(name: str, value: Any) -> Any:
    """A number, or array of them, that is known to be positive and finite.

    Args:
        name: What it is, for the message.
        value: A number or a NumPy array.

    Returns:
        The value.

    Raises:
        ValueError: If it, or an entry, is not.
    """
    try:
        fine = (value > 0) & (value < math.inf)
        if not isinstance(value, (str, bool)) and getattr(fine, "all", lambda: fine)():
            return value
    except TypeError:
        pass
    raise ValueError(f"{name} must be positive and finite (within the range of float64), got {value!r}")


@dataclass(frozen=True)
class Factor:
    """A product number * num_rows^a * noise_scale^b * target_scale^c * steps_per_epoch^e.

    Products and quotients of factors add and subtract the powers, so that a conversion asks only for the
    knowledge that does not cancel out of it.

    Attributes:
        number: The constant in front.
        num_rows: Power of the number of rows.
        noise_scale: Power of the noise scale.
        target_scale: Power of the target's standard deviation (divisor n).
        steps_per_epoch: Power of the number of optimizer steps in an epoch.
    """

    number: float = 1.0
    num_rows: int = 0
    noise_scale: int = 0
    target_scale: int = 0
    steps_per_epoch: int = 0

    def __mul__(self, other: Factor) -> Factor:
        return Factor(self.number * other.number, *(getattr(self, k) + getattr(other, k) for k in KNOWLEDGE))

    def __truediv__(self, other: Factor) -> Factor:
        return Factor(self.number / other.number, *(getattr(self, k) - getattr(other, k) for k in KNOWLEDGE))

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the knowledge without which the factor is not a number."""
        return tuple(name for name in KNOWLEDGE if getattr(self, name))

    def at(self, purpose: str, **knowledge: Any) -> float:
        """The factor as a number.

        Args:
            purpose: What it is for; opens the message of an error.
            **knowledge: Values for any of `KNOWLEDGE`; None counts as not given, all others are checked.

        Returns:
            The positive number.

        Raises:
            TypeError: If a name is none of `KNOWLEDGE`.
            ValueError: If a value is not acceptable, one that is needed is missing, or the number leaves the range of
                float64.

        Example:
            >>> Factor(2.0, num_rows=-1).at("an example", num_rows=20)
            0.1
        """
        unknown = [name for name in knowledge if name not in KNOWLEDGE]
        if unknown:
            raise TypeError(f"unknown argument {unknown[0]!r}; a conversion may be told {', '.join(KNOWLEDGE)}")
        known = {name: _checked(name, value) for name, value in knowledge.items() if value is not None}
        missing = [name for name in self.needs if name not in known]
        if missing:
            wanted = "; ".join(f"{name}= ({KNOWLEDGE[name]})" for name in missing)
            raise ValueError(f"{purpose} needs {wanted}")
        value = self.number
        for name in self.needs:
            power = getattr(self, name)
            # One at a time: 1e-200 ** -2 raises OverflowError, a quotient does not.
            for _ in range(abs(power)):
                value = value * known[name] if power > 0 else value / known[name]
        return in_range(purpose, value)
