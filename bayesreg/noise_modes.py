"""Where chains start under a Laplace prior: at the modes of a learned noise scale, the weights integrated out.

A Laplace prior in conflict with the data leaves two explanations, a small noise with the weights where the data want
them, and a large one with the weights where the prior does; each may be a mode of its own that no chain leaves. Which
of them has the mass, a Gaussian prior of the same variance does not tell: conflict costs it the square of what it costs
a Laplace.

The bound. With z = (w - m) / D = t x as in `bayesreg.inference.scale_mixture`, for any v > 0,

    exp(-|x_j|) / 2 >= sqrt(2 pi v_j) / 2 exp(-v_j / 2) Normal(x_j; 0, v_j),

with equality at |x_j| = v_j. So log p(y | s, t) >= F(s, v) = log p(y | s, t, v) + sum_j [log(2 pi v_j) - v_j] / 2 -
d log 2, within 0.28 nats a weight at the best v, which is v_j^2 = E x_j^2. From noise scales between the residual and
the spread of the target, turns of that step and of the best s given the moments of x (an EM algorithm) climb to the
modes.

Sources: Figueiredo, Adaptive sparseness for supervised learning, IEEE PAMI 25 (2003), for the EM; Jaakkola and Jordan,
Bayesian parameter estimation via variational methods, Statistics and Computing 10 (2000), for such bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bayesreg.evidence import EvidenceSpectrum
    from bayesreg.scales import LearnedScale

# Noise scales to climb from, down to this share of the target's spread, and the most steps of a climb.
_CLIMBS, _SMALLEST_SHARE, _MOST_STEPS = 4, 1e-3, 60
# Steps in which only v moves: s would take what it has not fitted yet for noise, and leave the slope it starts on.
_STEPS_AT_FIRST = 6
# A climb has arrived when log s moves less; two that end this close have found one mode.
_STILL, _APART = 1e-3, 0.2
# A mode so many nats below the highest has no mass to speak of.
_WORTH_A_CHAIN = 5.0
# A start is at the residual where the noise is larger than that of least squares by less than this factor.
_NO_CONFLICT = 1.5
# The grid on which the best s is looked for: what a climb needs, not what a posterior does.
_GRID_STEP, _GRID_REACH = 0.01, 16.0


@dataclass(frozen=True)
class NoiseMode:
    """A mode.

    Attributes:
        coordinate: The noise scale's unconstrained coordinate ``()``.
        weights: The weights' mean there ``(d,)``.
        bound: F plus the log prior density of the coordinate.
    """

    coordinate: torch.Tensor
    weights: torch.Tensor
    bound: float


def noise_modes(
    spectrum: EvidenceSpectrum, learned: LearnedScale, start: torch.Tensor, factor: float, relative_to_noise: bool
) -> list[NoiseMode]:
    """Find the modes of the noise scale under a Laplace prior.

    Args:
        spectrum: The data.
        learned: The prior of the noise scale.
        start: A coordinate ``()`` to climb from beside the others.
        factor: t, or t / s where the prior is relative to the noise.
        relative_to_noise: Whether it is.

    Returns:
        Those within 5 nats of the highest, the highest first. None where no conflict is seen, so that the start will
        do: it is at the residual already, though a Gaussian prior shuns a small noise more than a Laplace does.
    """
    spare = spectrum.degrees_of_freedom - spectrum.rank
    if float(learned.constrain(start)) ** 2 * spare < _NO_CONFLICT**2 * spectrum.residual:
        return []
    climb = _Climb(spectrum, learned, factor, relative_to_noise)
    spread = math.sqrt(climb.total / max(spectrum.degrees_of_freedom, 1))
    residual = math.sqrt(spectrum.residual / max(spare, 1))
    lowest = max(residual, _SMALLEST_SHARE * spread)
    scales = [spread * (lowest / spread) ** (index / (_CLIMBS - 1)) for index in range(_CLIMBS)] if spread > 0 else []
    modes: list[NoiseMode] = []
    for log_noise in [float(learned.constrain(start).log()), *(math.log(scale) for scale in scales)]:
        found = climb.from_noise(log_noise)
        same = [abs(climb.log_noise(found) - climb.log_noise(mode)) < _APART for mode in modes]
        if not any(same) and math.isfinite(found.bound):
            modes.append(found)
    modes.sort(key=lambda mode: -mode.bound)
    return [mode for mode in modes if mode.bound >= modes[0].bound - _WORTH_A_CHAIN]


class _Climb:
    """The EM algorithm for one posterior."""

    def __init__(self, spectrum: EvidenceSpectrum, learned: LearnedScale, factor: float, relative_to_noise: bool):
        self._spectrum, self._learned = spectrum, learned
        self._design = spectrum.singular_values.unsqueeze(-1) * spectrum.basis.mT
        self._log_factor, self._relative = math.log(factor), relative_to_noise
        self.total = spectrum.residual + float(spectrum.projections.square().sum())
        # The coordinates among which the best s is: a wide grid of log s where that is the coordinate.
        like = {"dtype": self._design.dtype, "device": self._design.device}
        number = round(2 * _GRID_REACH / _GRID_STEP) + 1
        self._grid = torch.linspace(-_GRID_REACH, _GRID_REACH, number, **like)
        if learned.is_logarithm:
            self._grid = self._grid + 0.5 * math.log(max(self.total / max(spectrum.degrees_of_freedom, 1), 1e-300))
        self._log_noises = learned.constrain(self._grid).log()
        self._log_prior = learned.log_density(self._grid)

    def log_noise(self, mode: NoiseMode) -> float:
        """Return log s of a mode."""
        return float(self._learned.constrain(mode.coordinate).log())

    def from_noise(self, log_noise: float) -> NoiseMode:
        """Climb from a noise scale."""
        spectrum = self._spectrum
        best, bound = 0, -math.inf
        variances = torch.ones_like(spectrum.relative_scales)
        coordinate = self._grid[0]
        mean = torch.zeros_like(variances)
        for step in range(_MOST_STEPS):
            log_scale = self._log_factor + (log_noise if self._relative else 0.0)
            mean, second, misfit, bound = self._moments(log_noise, log_scale, variances)
            variances = second.sqrt().clamp_min(torch.finfo(second.dtype).tiny)
            if step < _STEPS_AT_FIRST:
                continue
            best = int(self._log_posterior(*misfit).argmax())
            coordinate, moved = self._grid[best], float(self._log_noises[best]) - log_noise
            log_noise += moved
            if abs(moved) < _STILL:
                break
        scale = math.exp(self._log_factor + (log_noise if self._relative else 0.0))
        weights = spectrum.prior_loc + spectrum.relative_scales * scale * mean
        return NoiseMode(coordinate, weights, bound + float(self._log_prior[best]))

    def _moments(
        self, log_noise: float, log_scale: float, variances: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float], float]:
        """Return E x, E x^2, (c'G E x, E |G x|^2) and F at s, t and v."""
        spectrum, design = self._spectrum, self._design
        scaled = design * variances
        matrix = scaled @ design.mT
        matrix.diagonal().add_(math.exp(2.0 * (log_noise - log_scale)))
        matrix.diagonal().mul_(1.0 + 4 * sum(design.shape) * torch.finfo(design.dtype).eps)
        factor = torch.linalg.cholesky_ex(matrix).L
        observed = spectrum.projections.unsqueeze(-1) * math.exp(-log_scale)
        half = torch.linalg.solve_triangular(factor, torch.cat([observed, scaled], -1), upper=False)
        fitted, root = half[:, :1], half[:, 1:]  # root'root = V G'M^-1 G V
        mean = (root.mT @ fitted).squeeze(-1)
        second = mean.square() + (variances - root.square().sum(0)).clamp_min(0.0)
        # tr(G Cov G') = rho^2 (r - rho^2 tr M^-1)
        ratio = math.exp(2.0 * (log_noise - log_scale))
        inverse = torch.linalg.solve_triangular(
            factor, torch.eye(len(factor), dtype=factor.dtype, device=factor.device), upper=False
        )
        trace = max(ratio * (len(factor) - ratio * float(inverse.square().sum())), 0.0)
        seen = design @ mean
        misfit = float(spectrum.projections @ seen), float(seen @ seen) + trace
        rank, degrees = spectrum.rank, spectrum.degrees_of_freedom
        bound = -(degrees - rank) * log_noise - rank * log_scale - 0.5 * spectrum.residual * math.exp(-2.0 * log_noise)
        bound -= float(factor.diagonal().log().sum()) + 0.5 * float(fitted.square().sum())
        bound += 0.5 * float((variances.log() - variances).sum())
        return mean, second, misfit, bound if math.isfinite(bound) else -math.inf

    def _log_posterior(self, across: float, square: float) -> torch.Tensor:
        """Return the expected log density of the grid's coordinates, but for a constant."""
        log_scales = self._log_factor + (self._log_noises if self._relative else torch.zeros_like(self._log_noises))
        scales = log_scales.exp()
        misfit = (self.total - 2.0 * scales * across + scales.square() * square).clamp_min(0.0)
        density = -self._spectrum.degrees_of_freedom * self._log_noises - 0.5 * misfit * (-2.0 * self._log_noises).exp()
        return (density + self._log_prior).nan_to_num(nan=-math.inf)
