"""Posterior moments and evidence by brute force: the model's own density summed over a grid, for one or two weights."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import torch
from scipy.special import erfcx


def integrate(model, data, weights, scales):
    """Sum exp(log density) over a grid; the intercept's integral of exp(-n c^2 / 2 s^2) is s sqrt(2 pi / n).

    Args:
        model: With an intercept; nothing of the package is used but its parameters.
        data: Rows.
        weights: One grid a feature.
        scales: A grid of log scale for each learned scale, by name.

    Returns:
        The log evidence, and for each coordinate (weights, then log scales) its mean and standard deviation.
    """
    axes = [*weights, *scales.values()]
    mesh = np.meshgrid(*axes, indexing="ij", sparse=True)
    columns = dict(zip(scales, mesh[len(weights) :], strict=True))
    noise = np.exp(columns["noise_scale"]) if "noise_scale" in columns else model.noise_scale
    prior_scale = np.exp(columns["prior_scale"]) if "prior_scale" in columns else None
    features, target = data.features - data.features.mean(0), data.target - data.target.mean()
    gram, cross = features.T @ features, features.T @ target
    rss = target @ target
    for i, j in itertools.product(range(len(weights)), repeat=2):
        rss = rss + mesh[i] * mesh[j] * gram[i, j]
    for i in range(len(weights)):
        rss = rss - 2.0 * mesh[i] * cross[i]
    n = len(target)
    density = -n / 2 * math.log(2 * math.pi) - n * np.log(noise) - rss / (2 * noise**2)
    density = density + np.log(noise) + 0.5 * math.log(2 * math.pi / n)
    for i in range(len(weights)):
        location = np.broadcast_to(model.prior.loc, len(weights))[i]
        unit = noise if model.prior.relative_to_noise else 1.0
        if model.prior.kind == "elasticnet":
            gaussian = np.broadcast_to(model.prior.gaussian_scale, len(weights))[i] * unit
            laplace = np.broadcast_to(model.prior.laplace_scale, len(weights))[i] * unit
            constant = np.log(gaussian * math.sqrt(2 * math.pi) * erfcx(gaussian / laplace / math.sqrt(2.0)))
            density = density - ((mesh[i] - location) / gaussian) ** 2 / 2
            density = density - np.abs(mesh[i] - location) / laplace - constant
            continue
        scale = prior_scale if prior_scale is not None else np.broadcast_to(model.prior.scale, len(weights))[i]
        density = density - np.abs(mesh[i] - location) / (scale * unit) - np.log(2 * scale * unit)
    laws = {"noise_scale": model.noise_scale, "prior_scale": getattr(model.prior, "scale", None)}
    for name, grid in columns.items():
        law = laws[name]
        assert isinstance(law, dist.Distribution)
        density = density + law.log_prob(torch.from_numpy(np.exp(grid)).double()).numpy() + grid  # of log scale
    density = np.broadcast_to(density, [len(axis) for axis in axes])
    for position in range(len(axes)):  # nothing may be lost over the edges
        ends = np.take(density, [0, -1], axis=position)
        assert ends.max() < density.max() - 12.0, f"axis {position} ends where the density is {ends.max()}"
    weight = np.exp(density - density.max())
    cell = math.prod(axis[1] - axis[0] for axis in axes)
    log_evidence = math.log(weight.sum() * cell) + density.max()
    weight /= weight.sum()
    moments = []
    for position, axis in enumerate(axes):
        marginal = weight.sum(tuple(other for other in range(len(axes)) if other != position))
        mean = marginal @ axis
        moments.append((mean, math.sqrt(marginal @ (axis - mean) ** 2)))
    return log_evidence, moments
