"""Mixtures of Normals, many at once: their moments, quantiles and the mass near zero.

    p(x) = sum_k p_k Normal(x; m_k, s_k^2),      sum_k p_k = 1.

A quantile x(q) solves F(x) = sum_k p_k Phi((x - m_k) / s_k) = q. It lies between the smallest and the largest of the
components' own quantiles; inside, Newton's steps on F, bisection where one would leave what is left of the bracket.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.special
import torch

# Both a Newton step and a bracket end here, in standard deviations of the mixture: a few units of rounding.
_STILL = 4e-15
# Bisection alone reaches that from any bracket of float64.
_MOST_STEPS = 200


@dataclass(frozen=True, eq=False)
class NormalMixtures:
    """Mixtures, one for each leading index; a single component makes them Normals.

    Attributes:
        probabilities: p, of a shape that broadcasts to ``(..., k)``.
        means: m ``(..., k)``.
        deviations: s ``(..., k)``, positive.
    """

    probabilities: torch.Tensor
    means: torch.Tensor
    deviations: torch.Tensor

    def mean(self) -> torch.Tensor:
        """Return the means ``(...)``."""
        return (self.probabilities * self.means).sum(-1)

    def sd(self) -> torch.Tensor:
        """Return the standard deviations ``(...)``."""
        between = (self.means - self.mean().unsqueeze(-1)).square()
        return (self.probabilities * (self.deviations.square() + between)).sum(-1).sqrt()

    def quantile(self, probability: float) -> torch.Tensor:
        """Return the quantiles.

        Args:
            probability: q, between 0 and 1.

        Returns:
            ``(...)``.

        Example:
            >>> two = torch.tensor([[-1.0, 1.0]], dtype=torch.float64, device="cpu")
            >>> mixtures = NormalMixtures(torch.full_like(two, 0.5), two, torch.full_like(two, 0.1))
            >>> round(float(mixtures.quantile(0.25)), 6)
            -1.0
        """
        normal = float(scipy.special.ndtri(probability))
        own = self.means + normal * self.deviations
        if own.shape[-1] == 1:
            return own.squeeze(-1)
        lower, upper, spread = own.amin(-1), own.amax(-1), self.sd()
        point = (self.mean() + normal * spread).clamp(lower, upper)
        for _ in range(_MOST_STEPS):
            standard = (point.unsqueeze(-1) - self.means) / self.deviations
            excess = (self.probabilities * _normal_cdf(standard)).sum(-1) - probability
            density = (self.probabilities / self.deviations * (-0.5 * standard.square()).exp()).sum(-1)
            density = density / math.sqrt(2.0 * math.pi)
            upper, lower = torch.where(excess > 0.0, point, upper), torch.where(excess <= 0.0, point, lower)
            wanted = point - excess / density  # not a number where the density is 0
            inside = (wanted >= lower) & (wanted <= upper)
            wanted = torch.where(inside, wanted, 0.5 * (lower + upper))
            moved = (wanted - point).abs()
            point = wanted
            if bool((torch.minimum(moved, upper - lower) <= _STILL * (spread + point.abs())).all()):
                break
        return point

    def density(self, points: torch.Tensor) -> torch.Tensor:
        """Return the densities.

        Args:
            points: ``(..., m)``.

        Returns:
            ``(..., m)``.
        """
        deviations = self.deviations.unsqueeze(-2)
        standard = (points.unsqueeze(-1) - self.means.unsqueeze(-2)) / deviations
        weighted = self.probabilities.unsqueeze(-2) / deviations * (-0.5 * standard.square()).exp()
        return weighted.sum(-1) / math.sqrt(2.0 * math.pi)

    def probability_within(self, distance: torch.Tensor) -> torch.Tensor:
        """Return P(|x| <= distance), in full relative precision far from zero.

        Args:
            distance: Of a shape that broadcasts to ``(...)``.

        Returns:
            ``(...)``.
        """
        farther, distance = self.means.abs(), distance.unsqueeze(-1)
        near = _normal_cdf((distance - farther) / self.deviations)
        beyond = _normal_cdf((-distance - farther) / self.deviations)
        return (self.probabilities * (near - beyond)).sum(-1)


def _normal_cdf(points: torch.Tensor) -> torch.Tensor:
    """Return Phi; by the complementary error function, since torch's own rounds to 0 where Phi is 1e-17."""
    return 0.5 * torch.special.erfc(points * -math.sqrt(0.5))
