"""Marginal posteriors of the weights under Gaussian priors of many scales, in closed form from one decomposition.

Given the noise scale s and the prior scale t, in the eigenbasis of `bayesreg.evidence`, with h_i = sqrt(S_i^2 + s^2 /
t^2), the weights are Gaussian with

    E w_j = D_j sum_i V_ji S_i c_i / h_i^2,      var w_j = D_j^2 [ sum_i V_ji^2 s^2 / h_i^2 + t^2 (1 - sum_i V_ji^2) ],

the last term where the data see fewer directions than there are. With the noise learned, a weight's marginal is the
mixture of these Normals over p(s | y, t), which the table of log s gives as nodes and probabilities
(`bayesreg.inference.scale_table`): its quantiles are roots of its distribution function, and no draws are made. Under
a prior relative to the noise t = tau s: h does not depend on s, nor does the mean, and the mixture is of Normals of one
mean.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from bayesreg.computing.progress import progress_bar
from bayesreg.inference.scale_table import ScaleTable
from bayesreg.paths.marginal_densities import density_points
from bayesreg.paths.normal_mixtures import NormalMixtures
from bayesreg.warnings import ConvergenceWarning

if TYPE_CHECKING:
    from bayesreg.evidence import EvidenceSpectrum
    from bayesreg.paths.prior_grid import PriorGrid

# Nodes of less probability change nothing that a float64 shows.
_LEAST_PROBABILITY = 1e-20


def gaussian_path(
    grid: PriorGrid,
    interval: float,
    within: torch.Tensor | None,
    progress: bool,
    num_density_points: int | None = None,
) -> dict[str, Any]:
    """Return the posteriors' marginals on a grid of scales of a Gaussian prior, by the names of a `PosteriorPath`.

    Args:
        grid: The posteriors, on the CPU.
        interval: The bands' probability.
        within: Distances from zero, ``(d,)``; None: no probabilities.
        progress: Whether to show a bar.
        num_density_points: Points of each density; None: no densities.

    Returns:
        Tensors ``(k, d)``, ``(k,)`` and ``(k, d, m)``, without the mode.
    """
    if not grid.noise_is_learned:
        return _noise_known(grid, interval, within, num_density_points)
    points, missed = [], []
    with progress_bar(progress, "prior scales", len(grid)) as bar:
        for prior_scale in grid.prior_scales:
            target = grid.target(prior_scale)
            table = ScaleTable(target, target.spectrum.log_evidence_at_ratio, 0 if grid.relative_to_noise else 1)
            scales, probabilities = table.nodes()
            kept = probabilities > _LEAST_PROBABILITY
            noise, probabilities = scales["noise_scale"][kept], probabilities[kept]
            unit = noise if grid.relative_to_noise else torch.ones_like(noise)
            mean, sd = weight_moments(grid.spectrum, noise, float(prior_scale) * unit)
            point = _summaries(NormalMixtures(probabilities, mean.mT, sd.mT), interval, within, num_density_points)
            point["noise_scale"] = probabilities @ noise
            point["log_evidence"] = torch.tensor(table.log_evidence, dtype=torch.float64, device="cpu")
            points.append(point)
            if not table.evidence_error < table.allowed_error:
                missed.append(
                    f"{table.evidence_error:.1g} nats at {prior_scale:.3g} (threshold {table.allowed_error:.1g})"
                )
            bar.advance()
    if missed:
        message = (
            f"the table of the noise scale gives the log evidence to {'; '.join(missed)}: a noise prior with less "
            "weight at the ends helps"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    return {name: torch.stack([point[name] for point in points]) for name in points[0]}


def _noise_known(
    grid: PriorGrid, interval: float, within: torch.Tensor | None, num_density_points: int | None
) -> dict[str, Any]:
    prior_scales = torch.tensor(grid.prior_scales, dtype=torch.float64, device="cpu")
    noise = torch.full_like(prior_scales, float(grid.model(1.0).noise_scale))
    mean, sd = (values.unsqueeze(-1) for values in weight_moments(grid.spectrum, noise, prior_scales))
    found = _summaries(NormalMixtures(torch.ones_like(mean), mean, sd), interval, within, num_density_points)
    return found | {"noise_scale": noise, "log_evidence": grid.spectrum.log_evidence(noise, prior_scales)}


def _summaries(
    marginals: NormalMixtures, interval: float, within: torch.Tensor | None, num_density_points: int | None
) -> dict[str, torch.Tensor]:
    found = {
        "mean": marginals.mean(),
        "sd": marginals.sd(),
        "median": marginals.quantile(0.5),
        "lower": marginals.quantile(0.5 * (1.0 - interval)),
        "upper": marginals.quantile(0.5 * (1.0 + interval)),
    }
    if within is not None:
        found["probability_near_zero"] = marginals.probability_within(within)
    if num_density_points is not None:
        found["density_at"] = density_points(found["mean"], found["sd"], num_density_points)
        found["density"] = marginals.density(found["density_at"])
    return found


def weight_moments(
    spectrum: EvidenceSpectrum, noise_scale: torch.Tensor, prior_scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each weight given the scales.

    Args:
        spectrum: The data.
        noise_scale: s ``(k,)``.
        prior_scale: t ``(k,)``; effective, in units of the spectrum's ``relative_scales``.

    Returns:
        Two tensors ``(k, d)``.
    """
    values = spectrum.singular_values
    root = torch.hypot(values, (noise_scale / prior_scale).unsqueeze(-1))  # no square that may overflow
    mean = (values * spectrum.projections / root / root) @ spectrum.basis.mT
    squares = spectrum.basis.square()
    variance = (noise_scale.unsqueeze(-1) / root).square() @ squares.mT
    if spectrum.rank < spectrum.num_features:
        # What rounding leaves of a direction that is seen whole would come back times t^2.
        unseen = 1.0 - squares.sum(1)
        unseen = torch.where(unseen > 8 * (spectrum.rank + 1) * torch.finfo(unseen.dtype).eps, unseen, 0.0)
        variance = variance + prior_scale.square().unsqueeze(-1) * unseen
    scales = spectrum.relative_scales
    return spectrum.prior_loc + scales * mean, scales * variance.sqrt()
