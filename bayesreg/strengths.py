"""From a penalty's strength to its strength elsewhere, and to the scale of the prior behind it, in plain Python.

    Gaussian prior of scale t:  lambda2 = s^2 / (n t^2)          Laplace prior of scale b:  lambda1 = s^2 / (n b)

in the canonical objective, for n rows with Gaussian noise of scale s; the multipliers of `bayesreg.objectives` carry
both to every other one.
"""

import math
from typing import Any

from bayesreg.multipliers import Factor, in_range
from bayesreg.objectives import CANONICAL, PenaltyKind, get_convention


def conversion(kind: PenaltyKind, source: str, destination: str) -> Factor:
    """The factor from a strength in one convention to the same penalty's strength in another.

    Args:
        kind: "l2" or "l1".
        source: Name of the convention that the strength is in.
        destination: Name of the convention wanted.

    Returns:
        The factor; `Factor.needs` names what has to be known to make it a number.

    Example:
        >>> conversion("l2", "torch-mse-mean", "sklearn-ridge").at("an example", num_rows=20)
        10.0
    """
    return get_convention(source).to_canonical(kind) / get_convention(destination).to_canonical(kind)


def convert_strength(kind: PenaltyKind, strength: float, source: str, destination: str, **knowledge: Any) -> float:
    """A strength in the words of another convention.

    Args:
        kind: "l2" or "l1".
        strength: The strength in the convention `source`; finite, at least 0.
        source: Name of the convention that the strength is in.
        destination: Name of the convention wanted.
        **knowledge: What the conversion needs, see `bayesreg.multipliers.KNOWLEDGE`.

    Returns:
        The strength in the convention `destination`.

    Raises:
        ValueError: If the strength is not a finite number of at least 0, or knowledge is missing.

    Example:
        The deep-learning book's concise program with weight_decay=3 on 20 rows, as `Ridge(alpha)`:

        >>> convert_strength("l2", 3.0, "torch-mse-mean", "sklearn-ridge", num_rows=20)
        30.0
    """
    if isinstance(strength, (str, bool)) or not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"{kind.upper()} strength must be a finite number of at least 0, got {strength!r}")
    purpose = f"converting {kind.upper()} from {source} to {destination}"
    return float(strength) * conversion(kind, source, destination).at(purpose, **knowledge)


def prior_factor(kind: PenaltyKind, convention: str = CANONICAL, relative_to_noise: bool = False) -> Factor:
    """The factor in front of 1/t^2 (Gaussian) or 1/b (Laplace) that gives a penalty's strength.

    In the canonical objective it is s^2 / n. A scale relative to the noise is multiplied by s first, which takes
    away two powers of s under a Gaussian prior (none is left) and one under a Laplace prior.

    Args:
        kind: "l2" for a Gaussian prior, "l1" for a Laplace prior.
        convention: The convention that the strength is wanted in.
        relative_to_noise: Whether the prior's scale is in units of the noise scale.

    Returns:
        The factor.

    Example:
        >>> prior_factor("l2").needs
        ('num_rows', 'noise_scale')
        >>> prior_factor("l2", "laplace-torch").needs
        ()
    """
    noise_power = 2 - ({"l2": 2, "l1": 1}[kind] if relative_to_noise else 0)
    return Factor(num_rows=-1, noise_scale=noise_power) / get_convention(convention).to_canonical(kind)


def strength_from_scale(
    kind: PenaltyKind, scale: float, convention: str = CANONICAL, *, relative_to_noise: bool = False, **knowledge: Any
) -> float:
    """The strength that a Gaussian (L2) or Laplace (L1) prior of a scale stands for.

    Args:
        kind: "l2" for a Gaussian prior, "l1" for a Laplace prior.
        scale: The prior's scale: t, the standard deviation, or b, the mean absolute value; positive, or else a
            ValueError. A NumPy array of scales gives an array of strengths.
        convention: The convention that the strength is wanted in.
        relative_to_noise: Whether the scale is in units of the noise scale.
        **knowledge: What the conversion needs, see `bayesreg.multipliers.KNOWLEDGE`.

    Returns:
        The strength.

    Example:
        >>> strength_from_scale("l2", 0.5, "sklearn-ridge", noise_scale=2.0)
        16.0
    """
    purpose = f"the {convention} strength of a prior"
    factor = prior_factor(kind, convention, relative_to_noise).at(purpose, **knowledge)
    strength = factor / in_range("the scale of a prior", scale)
    return in_range(purpose, strength / scale if kind == "l2" else strength)


def scale_from_strength(
    kind: PenaltyKind,
    strength: float,
    convention: str = CANONICAL,
    *,
    relative_to_noise: bool = False,
    **knowledge: Any,
) -> float:
    """The scale of the Gaussian (L2) or Laplace (L1) prior that a strength stands for.

        t = s / sqrt(n lambda2)          b = s^2 / (n lambda1)

    or, relative to the noise, t / s = 1 / sqrt(n lambda2) and b / s = s / (n lambda1).

    Args:
        kind: "l2" for a Gaussian prior, "l1" for a Laplace prior.
        strength: The strength; positive, or else a ValueError (strength 0 is the flat prior, which has no scale). A
            NumPy array of strengths gives an array of scales.
        convention: The convention that the strength is in.
        relative_to_noise: Whether the scale is wanted in units of the noise scale.
        **knowledge: What the conversion needs, see `bayesreg.multipliers.KNOWLEDGE`.

    Returns:
        The scale: t, the standard deviation, or b, the mean absolute value.

    Example:
        The prior behind weight_decay=3 in the deep-learning book's concise program:

        >>> round(scale_from_strength("l2", 3.0, "torch-mse-mean", noise_scale=0.01, num_rows=20), 5)
        0.00183
    """
    purpose = f"the scale of the prior behind a {convention} strength"
    factor = prior_factor(kind, convention, relative_to_noise).at(purpose, **knowledge)
    squared_or_not = factor / in_range("a strength", strength)
    return in_range(purpose, squared_or_not**0.5 if kind == "l2" else squared_or_not)
