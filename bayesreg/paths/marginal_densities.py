"""Marginal densities of single weights from draws of all weights, under a Laplace prior.

Given the other weights and the scales, the density of w_j is proportional to

    exp(-a (w - m)^2 / 2 - |w| / b),    a = Sxx_jj / s^2,    m = (Sxy_j - sum over i != j of Sxx_ji w_i) / Sxx_jj,

two truncated Normals that meet at zero, whose mass is known. Its mean over draws of the other weights is the marginal
density: smooth where a histogram of the draws is not, with the prior's kink at zero, and of a smaller error.

Source: Gelfand and Smith, JASA 85 (1990), section 2.
"""

from __future__ import annotations

import math

import torch

# Deviations from the mean that the points reach over, and draws that the mean is over, evenly spaced.
REACH = 4.0
_MOST_DRAWS = 500


def density_points(mean: torch.Tensor, sd: torch.Tensor, number: int) -> torch.Tensor:
    """Return the points that densities are given at: evenly from 4 standard deviations below the mean to 4 above.

    Args:
        mean: Posterior means ``(...)``.
        sd: Posterior standard deviations ``(...)``.
        number: How many points m.

    Returns:
        ``(..., m)``.
    """
    steps = torch.linspace(-REACH, REACH, number, dtype=torch.float64, device=mean.device)
    return mean.unsqueeze(-1) + sd.unsqueeze(-1) * steps


def laplace_densities(
    points: torch.Tensor,
    weights: torch.Tensor,
    noise_scale: torch.Tensor,
    prior_scale: float,
    gram: torch.Tensor,
    cross: torch.Tensor,
) -> torch.Tensor:
    """Return the marginal density of each weight.

    Args:
        points: Where, ``(d, m)``.
        weights: Draws ``(number, d)``.
        noise_scale: The noise scale at each draw ``(number,)``, or one number.
        prior_scale: b.
        gram: Sxx ``(d, d)``.
        cross: Sxy ``(d,)``.

    Returns:
        ``(d, m)``.
    """
    step = max(1, weights.shape[0] // _MOST_DRAWS)
    weights, noise = weights[::step], noise_scale.expand(weights.shape[0])[::step]
    squares = gram.diagonal()
    offsets = cross - weights @ gram + weights * squares  # Sxx_jj m_j at each draw
    found = []
    for j in range(points.shape[0]):
        if not squares[j] > 0.0:  # the data say nothing of it
            found.append((-points[j].abs() / prior_scale).exp() / (2.0 * prior_scale))
            continue
        sd = noise / squares[j].sqrt()
        mean, shift = offsets[:, j] / squares[j], sd.square() / prior_scale
        # Each side's mass, over exp((mean^2 - w^2) / 2) of the other terms: its own Normal, of mean m -+ v / b.
        sides = torch.stack([mean + shift, mean - shift])
        ends = torch.stack([-sides[0], sides[1]]) / sd
        logs = 0.5 * (sides / sd).square() + torch.special.log_ndtr(ends)
        log_mass = torch.logsumexp(logs, 0) + sd.log() + 0.5 * math.log(2.0 * math.pi)
        scaled = points[j].unsqueeze(-1) / sd
        exponent = scaled * mean / sd - 0.5 * scaled.square() - points[j].abs().unsqueeze(-1) / prior_scale
        found.append((exponent - log_mass).exp().mean(-1))
    return torch.stack(found)
