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
    prior_scale: torch.Tensor,
    gram: torch.Tensor,
    cross: torch.Tensor,
) -> torch.Tensor:
    """Return the marginal density of each weight.

    Args:
        points: Where, ``(d, m)``.
        weights: Draws ``(number, d)``.
        noise_scale: The noise scale at each draw ``(number,)``, or one number.
        prior_scale: The prior's effective scale b at each draw ``(number,)``, or one number.
        gram: Sxx ``(d, d)``.
        cross: Sxy ``(d,)``.

    Returns:
        ``(d, m)``.
    """
    step = max(1, weights.shape[0] // _MOST_DRAWS)
    noise, scale = (values.expand(weights.shape[0])[::step] for values in (noise_scale, prior_scale))
    weights = weights[::step]
    squares = gram.diagonal()
    offsets = cross - weights @ gram + weights * squares  # Sxx_jj m_j at each draw
    found = []
    for j in range(points.shape[0]):
        if not squares[j] > 0.0:  # the data say nothing of it
            found.append(((-points[j].abs().unsqueeze(-1) / scale).exp() / (2.0 * scale)).mean(-1))
            continue
        sd = noise / squares[j].sqrt()
        mean, shift = offsets[:, j] / squares[j], sd.square() / scale
        # Each side of zero has a Normal of its own, of mean m + v / b below and m - v / b above, v = s^2 / Sxx_jj. At
        # most one of the means lies on its own side; all is told from the height there, so that no large squares are
        # subtracted where the noise or the prior is narrow.
        sides = torch.stack([mean + shift, mean - shift])
        ends = torch.stack([-sides[0], sides[1]]) / sd
        own = ends > 0.0
        peak = 0.5 * ends.clamp(min=0.0).square().sum(0)
        beyond = (torch.special.erfcx(-ends.clamp(max=0.0) / math.sqrt(2.0)) / 2.0).log() - peak
        logs = torch.where(own, torch.special.log_ndtr(ends), beyond)
        log_mass = torch.logsumexp(logs, 0) + sd.log() + 0.5 * math.log(2.0 * math.pi)
        point = points[j].unsqueeze(-1)
        above = (point >= 0.0).expand(-1, sd.shape[0])
        centre, inside = torch.where(above, sides[1], sides[0]), torch.where(above, own[1], own[0])
        scaled = point / sd
        near = -0.5 * ((point - centre) / sd).square()
        far = scaled * (centre / sd) - 0.5 * scaled.square() - peak
        found.append((torch.where(inside, near, far) - log_mass).exp().mean(-1))
    return torch.stack(found)
