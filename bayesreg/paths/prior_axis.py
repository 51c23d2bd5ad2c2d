"""The axis of a posterior path: prior scales, and the lambdas that they stand for.

                                    Gaussian prior               Laplace prior
    of scale t, b                   lambda = s^2 / (n t^2)       lambda = s^2 / (n b)
    of scale tau s                  lambda = 1 / (n tau^2)       lambda = s / (n tau)

for n rows with noise of scale s. Where s is learned, a prior scale stands for one lambda only where s cancels: under a
Gaussian prior relative to the noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.scales import as_numbers, check_scale, is_learned
from bayesreg.strengths import scale_from_strength, strength_from_scale

if TYPE_CHECKING:
    from bayesreg.scales import Scale

_NEEDS_NOISE = {
    "l2": "under a Gaussian prior lambda = s^2 / (n t^2), and with the noise learned no prior scale t stands for one; "
    "give relative_to_noise=True, under which lambda = 1 / (n tau^2) whatever the noise is, or prior_scales=, or "
    "noise_scale= a number",
    "l1": "under a Laplace prior lambda = s^2 / (n b), and with the noise learned no prior scale stands for one, nor "
    "does one relative to the noise (lambda = s / (n tau)); give prior_scales= instead, or noise_scale= a number",
}


def check_axis(
    kind: str, lambdas: Any, prior_scales: Any, noise_scale: Scale, num_rows: int, relative_to_noise: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the prior scales, and the lambdas that they stand for; None where they stand for none.

    Args:
        kind: ``"l2"``, a Gaussian prior, or ``"l1"``, a Laplace prior.
        lambdas: The penalties, or None.
        prior_scales: The scales, or None.
        noise_scale: A number or a distribution.
        num_rows: The number n of rows.
        relative_to_noise: Whether the scales multiply the noise scale.

    Returns:
        Two arrays ``(k,)``.

    Raises:
        ValueError: Both are given, or neither, or lambdas that no prior scale stands for; or a number out of range.
    """
    if (lambdas is None) == (prior_scales is None):
        raise ValueError(f"give one of lambdas and prior_scales, got {'neither' if lambdas is None else 'both'}")
    name, values = ("lambdas", lambdas) if prior_scales is None else ("prior_scales", prior_scales)
    wanted = "a vector of positive finite numbers"
    axis = np.atleast_1d(as_numbers(values, name, wanted))
    if axis.ndim > 1 or axis.size == 0:
        raise ValueError(f"{name} must be {wanted}, got an array of shape {axis.shape}")
    bad = axis[~(np.isfinite(axis) & (axis > 0))]
    if bad.size:
        raise ValueError(f"{name} must be positive and finite, got {bad[0]:g}")
    noise = check_scale(noise_scale, "LinearRegression(noise_scale=...)", vector=False)
    learned = is_learned(noise)
    if learned and not (kind == "l2" and relative_to_noise):
        if prior_scales is None:
            raise ValueError(f"lambdas need a known noise scale: {_NEEDS_NOISE[kind]}")
        return axis, None
    knowledge = {
        "relative_to_noise": relative_to_noise,
        "noise_scale": None if learned else noise,
        "num_rows": num_rows,
    }
    if prior_scales is None:
        return scale_from_strength(kind, axis, **knowledge), axis
    return axis, strength_from_scale(kind, axis, **knowledge)
