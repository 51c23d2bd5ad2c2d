"""Where chains start under a prior with a kink: at the modes of a learned noise scale, the weights integrated out.

A Laplace prior in conflict with the data leaves two explanations, a small noise with the weights where the data want
them, and a large one with the weights where the prior does; each may be a mode of its own that no chain leaves. Which
of them has the mass, a Gaussian prior of the same variance does not tell: conflict costs it the square of what it costs
a Laplace.

The bound. With z = (w - m) / D = t x as in `bayesreg.inference.scale_mixture`, for any v > 0,

    exp(-|x_j|) / 2 >= sqrt(2 pi v_j) / 2 exp(-v_j / 2) Normal(x_j; 0, v_j),

with equality at |x_j| = v_j. So log p(y | s, t) >= F(s, v) = log p(y | s, t, v) + sum_j [log(2 pi v_j) - v_j] / 2 -
d log 2, within 0.28 nats a weight at the best v, which is v_j^2 = E x_j^2. An elastic net, exp(-a_j |x_j| - q_j x_j^2 /
2) / Z_j (`bayesreg.prior_shapes`), has the variances V_j = 1 / (a_j^2 / v_j + q_j), so that F has sum_j [log(2 pi V_j)
- v_j - 2 log Z_j] / 2, and v_j^2 = a_j^2 E x_j^2. From noise scales between the residual and
the spread of the target, turns of that step and of the best s given the moments of x (an EM algorithm) climb to the
modes.

Sources: Figueiredo, Adaptive sparseness for supervised learning, IEEE PAMI 25 (2003), for the EM; Jaakkola and Jordan,
Bayesian parameter estimation via variational methods, Statistics and Computing 10 (2000), for such bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch

from bayesreg.computing.threads import one_thread
from bayesreg.scales import LearnedScale

if TYPE_CHECKING:
    from bayesreg.evidence import EvidenceSpectrum
    from bayesreg.prior_shapes import PriorShape

# Noise scales to climb from, down to this share of the target's spread, and the most steps of a climb.
_CLIMBS, _SMALLEST_SHARE, _MOST_STEPS = 4, 1e-3, 60
# Steps in which only v moves: s would take what it has not fitted yet for noise, and leave the slope it starts on.
_STEPS_AT_FIRST = 6
# A climb has arrived when log s moves less; two that end this close have found one mode.
_STILL, _APART = 1e-3, 0.2
# A mode so many nats below the highest has no mass to speak of.
_WORTH_A_CHAIN = 5.0
# Places between two modes at which the bound is looked at, and how far below the lower one it must be.
_LOOKS, _LEAST_DIP = 3, 0.5
# A start is at the residual where the noise is larger than that of least squares by less than this factor.
_NO_CONFLICT = 1.5
# The grid on which the best s is looked for: what a climb needs, not what a posterior does.
_GRID_STEP, _GRID_REACH = 0.01, 16.0


@dataclass(frozen=True)
class NoiseMode:
    """A mode.

    Attributes:
        coordinate: The noise scale's unconstrained coordinate.
        log_noise: log s.
        weights: The weights' mean there ``(d,)``.
        bound: F, without constants, plus the log prior density of the coordinate.
    """

    coordinate: float
    log_noise: float
    weights: np.ndarray
    bound: float


@one_thread()
def noise_modes(
    spectrum: EvidenceSpectrum,
    shape: PriorShape,
    learned: LearnedScale,
    log_noise: float,
    factor: float,
    relative_to_noise: bool,
) -> list[NoiseMode]:
    """Find the modes of the noise scale under a prior with a kink.

    Args:
        spectrum: The data.
        shape: The prior's density in units of its scale.
        learned: The prior of the noise scale.
        log_noise: log s of a good guess, to climb from beside others.
        factor: t, or t / s where the prior is relative to the noise.
        relative_to_noise: Whether it is.

    Returns:
        Those within 5 nats of the highest, the highest first. None where no conflict is seen, so that the guess will
        do: it is at the residual already, though a Gaussian prior shuns a small noise more than a Laplace does.
    """
    spare = spectrum.degrees_of_freedom - spectrum.rank
    if math.exp(2.0 * log_noise) * spare < _NO_CONFLICT**2 * spectrum.residual:
        return []
    climb = _Climb(spectrum, shape, learned, factor, relative_to_noise)
    if climb.total <= 0.0:  # nothing is seen of the noise: one row, or a constant target
        return []
    spread = math.sqrt(climb.total / max(spectrum.degrees_of_freedom, 1))
    residual = math.sqrt(spectrum.residual / max(spare, 1))
    lowest = max(residual, _SMALLEST_SHARE * spread)
    places = [log_noise, *np.linspace(math.log(spread), math.log(lowest), _CLIMBS)]
    modes: list[NoiseMode] = []
    for place in places:
        found = climb.from_noise(float(place))
        if math.isfinite(found.bound) and all(abs(found.log_noise - mode.log_noise) >= _APART for mode in modes):
            modes.append(found)
    modes.sort(key=lambda mode: -mode.bound)
    kept = modes[:1]
    for mode in modes[1:]:
        if mode.bound >= kept[0].bound - _WORTH_A_CHAIN and all(climb.dips_between(mode, other) for other in kept):
            kept.append(mode)
    return kept


class _Climb:
    """The EM algorithm for one posterior, on the CPU: small steps, one after the other."""

    def __init__(
        self,
        spectrum: EvidenceSpectrum,
        shape: PriorShape,
        learned: LearnedScale,
        factor: float,
        relative_to_noise: bool,
    ):
        self._shape = shape
        values, basis, projections, location, scales = (
            tensor.cpu().numpy()
            for tensor in (
                spectrum.singular_values, spectrum.basis, spectrum.projections, spectrum.prior_loc,
                spectrum.relative_scales,
            )
        )  # fmt: skip
        self._design, self._projections = values[:, None] * basis.T, projections
        self._location, self._scales, self._residual = location, scales, spectrum.residual
        self._degrees, self._rank = spectrum.degrees_of_freedom, spectrum.rank
        self._log_factor, self._relative = math.log(factor), relative_to_noise
        self.total = spectrum.residual + float(projections @ projections)
        # The coordinates among which the best s is: a wide grid of log s where that is the coordinate.
        self._grid = np.linspace(-_GRID_REACH, _GRID_REACH, round(2 * _GRID_REACH / _GRID_STEP) + 1)
        if learned.is_logarithm:
            self._grid += 0.5 * math.log(max(self.total / max(self._degrees, 1), 1e-300))
        coordinates = torch.from_numpy(self._grid)
        learned = LearnedScale(learned.distribution, "cpu")
        self._log_noises = learned.constrain(coordinates).log().numpy()
        self._log_prior = learned.log_density(coordinates).numpy()

    def from_noise(self, log_noise: float) -> NoiseMode:
        """Climb from a noise scale."""
        mixing, mean = np.ones_like(self._scales), np.zeros_like(self._scales)
        best, bound = 0, -math.inf
        for step in range(_MOST_STEPS):
            mean, second, misfit, bound = self._moments(log_noise, self._log_scale(log_noise), mixing)
            mixing = self._best_mixing(second)
            if step < _STEPS_AT_FIRST:
                continue
            best = int(self._log_posterior(*misfit).argmax())
            moved = float(self._log_noises[best]) - log_noise
            log_noise += moved
            if abs(moved) < _STILL:
                break
        weights = self._location + self._scales * math.exp(self._log_scale(log_noise)) * mean
        return NoiseMode(float(self._grid[best]), log_noise, weights, bound + float(self._log_prior[best]))

    def dips_between(self, lower: NoiseMode, higher: NoiseMode) -> bool:
        """Say whether the bound falls on the way to a higher mode: else a climb was slow, and this is no mode."""
        on_the_way = np.linspace(lower.log_noise, higher.log_noise, _LOOKS + 2)[1:-1]
        return min(self._height(float(log_noise)) for log_noise in on_the_way) < lower.bound - _LEAST_DIP

    def _height(self, log_noise: float) -> float:
        """Return F plus the log prior density at a noise scale that is held."""
        mixing, bound = np.ones_like(self._scales), -math.inf
        for _ in range(_STEPS_AT_FIRST + 1):
            _, second, _, bound = self._moments(log_noise, self._log_scale(log_noise), mixing)
            mixing = self._best_mixing(second)
        return bound + float(self._log_prior[np.abs(self._log_noises - log_noise).argmin()])

    def _log_scale(self, log_noise: float | np.ndarray) -> float | np.ndarray:
        return self._log_factor + (log_noise if self._relative else 0.0 * log_noise)

    def _best_mixing(self, second: np.ndarray) -> np.ndarray:
        """Return v given E x^2."""
        return np.maximum(self._shape.absolute * np.sqrt(second), np.finfo(second.dtype).tiny)

    def _moments(
        self, log_noise: float, log_scale: float, mixing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
        """Return E x, E x^2, (c'G E x, E |G x|^2) and F at s, t and v."""
        design, rank = self._design, self._rank
        variances = 1.0 / (np.square(self._shape.absolute) / mixing + self._shape.square)
        ratio = math.exp(2.0 * (log_noise - log_scale))
        scaled = design * variances
        matrix = scaled @ design.T
        matrix[np.diag_indices(rank)] += ratio
        # What products and a factorisation can lose of a diagonal entry: raised by that, the factor always exists.
        matrix[np.diag_indices(rank)] *= 1.0 + 4 * sum(design.shape) * np.finfo(design.dtype).eps
        factor = scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
        right = np.concatenate([math.exp(-log_scale) * self._projections[:, None], scaled, np.eye(rank)], axis=1)
        half = scipy.linalg.solve_triangular(factor, right, lower=True, check_finite=False)
        fitted, root, inverse = half[:, 0], half[:, 1 : 1 + len(variances)], half[:, 1 + len(variances) :]
        mean = root.T @ fitted  # root'root = V G'M^-1 G V
        second = mean**2 + np.maximum(variances - (root**2).sum(0), 0.0)
        seen = design @ mean
        # tr(G Cov G') = rho^2 (r - rho^2 tr M^-1)
        trace = max(ratio * (rank - ratio * float((inverse**2).sum())), 0.0)
        bound = (
            -(self._degrees - rank) * log_noise - rank * log_scale - 0.5 * self._residual * math.exp(-2.0 * log_noise)
        )
        bound -= float(np.log(factor.diagonal()).sum()) + 0.5 * float(fitted @ fitted)
        bound += 0.5 * float((np.log(variances) - mixing).sum())
        return mean, second, (float(self._projections @ seen), float(seen @ seen) + trace), bound

    def _log_posterior(self, across: float, square: float) -> np.ndarray:
        """Return the expected log density of the grid's coordinates, but for a constant."""
        scales = np.exp(self._log_scale(self._log_noises))
        misfit = np.maximum(self.total - 2.0 * scales * across + scales**2 * square, 0.0)
        density = -self._degrees * self._log_noises - 0.5 * misfit * np.exp(-2.0 * self._log_noises) + self._log_prior
        return np.where(np.isnan(density), -math.inf, density)
