"""Expectations of a learned scale's log density under a Gaussian of its logarithm.

For s = e^u with prior density p, u ~ N(m, v) and f(u) = log p(e^u) + u, they are E f, E f' and E f''. The densities
that a file can name have, but for the half-Cauchy,

    f(u) = constant + linear u + quadratic u^2 + coefficient e^(rate u),       E e^(rate u) = e^(rate m + rate^2 v / 2).

For the others, the trapezoid rule in z = (u - m) / sqrt(v), and Stein's identities E f' = E[z f] / sqrt(v) and E f'' =
E[(z^2 - 1) f] / v. On functions analytic in a strip the rule converges geometrically (Trefethen and Weideman, SIAM
Review 56, 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import torch

from bayesreg.scales import LearnedScale

# Wide enough for a density that grows as e^(2u) under a standard deviation of 2, and fine enough for a pole at a
# distance of pi/2 under one of 4.
_NODES = np.linspace(-13.0, 13.0, 313)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()


class ExpectedScale:
    """E f, E f' and E f'' of one learned scale whose coordinate is its logarithm.

    Args:
        learned: The scale.
    """

    def __init__(self, learned: LearnedScale):
        self._closed = _closed_form(learned.distribution)
        self._density = _density(learned.distribution) if self._closed is None else None

    def __call__(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three expectations.

        Args:
            mean: m ``(b,)``.
            variance: v ``(b,)``.

        Returns:
            E f, E f' and E f'', each ``(b,)``.
        """
        if self._closed is None:
            return self._by_quadrature(mean, variance)
        constant, linear, quadratic, coefficient, rate = self._closed
        growing = coefficient * np.exp(rate * mean + 0.5 * rate * rate * variance)
        value = constant + linear * mean + quadratic * (mean * mean + variance) + growing
        return value, linear + 2.0 * quadratic * mean + rate * growing, 2.0 * quadratic + rate * rate * growing

    def _by_quadrature(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spread = np.sqrt(variance)
        values = self._density(mean[:, None] + spread[:, None] * _NODES)
        # A constant does not matter to the slopes, but for rounding.
        centred = values - values[:, len(_NODES) // 2, None]
        slope, curvature = centred @ (_NODES * _WEIGHTS), centred @ ((_NODES**2 - 1.0) * _WEIGHTS)
        return values @ _WEIGHTS, slope / spread, curvature / variance


def _closed_form(distribution: dist.Distribution) -> tuple[float, float, float, float, float] | None:
    """Return constant, linear, quadratic, coefficient and rate of f, or None for an unnamed density."""
    if isinstance(distribution, dist.MaskedDistribution):
        return 0.0, 1.0, 0.0, 0.0, 0.0
    kind = type(distribution)
    if kind is dist.HalfNormal:  # sqrt(2 / pi) / a exp(-s^2 / (2 a^2))
        a = float(distribution.scale)
        return 0.5 * math.log(2 / math.pi) - math.log(a), 1.0, 0.0, -0.5 / a**2, 2.0
    if kind is dist.LogNormal:
        m, a = float(distribution.loc), float(distribution.scale)
        return -math.log(a) - 0.5 * math.log(2 * math.pi) - 0.5 * (m / a) ** 2, m / a**2, -0.5 / a**2, 0.0, 0.0
    if kind in (dist.Gamma, dist.Chi2):  # Chi2(df) is Gamma(df / 2, 1 / 2)
        a, r = float(distribution.concentration), float(distribution.rate)
        return a * math.log(r) - math.lgamma(a), a, 0.0, -r, 1.0
    if kind is dist.InverseGamma:
        a, r = float(distribution.concentration), float(distribution.rate)
        return a * math.log(r) - math.lgamma(a), -a, 0.0, -r, -1.0
    if kind is dist.Exponential:
        r = float(distribution.rate)
        return math.log(r), 1.0, 0.0, -r, 1.0
    if kind is dist.Weibull:  # k / a (s / a)^(k - 1) exp(-(s / a)^k)
        a, k = float(distribution.scale), float(distribution.concentration)
        return math.log(k) - k * math.log(a), k, 0.0, -(a**-k), k
    return None


def _density(distribution: dist.Distribution) -> Callable[[np.ndarray], np.ndarray]:
    """Return f."""
    if type(distribution) is dist.HalfCauchy:  # 2 / (pi a) / (1 + s^2 / a^2)
        log_scale = math.log(float(distribution.scale))
        constant = math.log(2.0 / math.pi) - log_scale
        return lambda u: u + constant - np.logaddexp(0.0, 2.0 * (u - log_scale))
    learned = LearnedScale(distribution)

    def by_torch(points: np.ndarray) -> np.ndarray:
        return learned.log_density(torch.tensor(points, dtype=torch.float64, device="cpu")).numpy()

    return by_torch
