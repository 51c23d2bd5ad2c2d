"""The posterior under a Gaussian prior by brute-force integration: shares no code with the package.

With the intercept integrated out and U diag(g) V' the singular values of the centred features,

    log p(s, t | y) = -(n - 1) log s - sum_i log(1 + t^2 g_i^2 / s^2) / 2
                      - [|y|^2 - sum_i u_i^2 + sum_i u_i^2 / (1 + t^2 g_i^2 / s^2)] / (2 s^2) + log p(s) + log p(t),

u = U'y; given (s, t) the weights are Normal(V c, s^2 V diag(1 / (g^2 + s^2/t^2)) V' + t^2 (I - V V')), c_i = g_i u_i /
(g_i^2 + s^2/t^2). A plain grid over the logarithms of the learned scales, equal steps, is exact to far below the gates.
"""

from __future__ import annotations

import numpy as np

from .gates import Reference
from .problems import HALF_NORMAL_SCALE, Problem


def gaussian_reference(problem: Problem, features: np.ndarray, target: np.ndarray) -> Reference:
    """Return the moments of weights, intercept and log scales.

    Args:
        problem: One with a Gaussian prior.
        features: ``(n, d)``.
        target: ``(n,)``.

    Returns:
        The reference, with errors of 0.
    """
    num_rows = len(target)
    means, centre = features.mean(0), target.mean()
    singular, projection, rotation, rest = _decompose(features, target)
    learned = [scale is None for scale in (problem.noise_scale, problem.prior_scale)]
    known = [0.0 if scale is None else np.log(scale) for scale in (problem.noise_scale, problem.prior_scale)]

    def log_density(log_noise, log_prior):
        noise, prior = np.exp(2.0 * log_noise), np.exp(2.0 * log_prior)
        inflation = 1.0 + (prior / noise)[..., None] * singular**2
        quadratic = (projection**2 / inflation).sum(-1) + rest
        value = -(num_rows - 1) * log_noise - 0.5 * np.log(inflation).sum(-1) - 0.5 * quadratic / noise
        for log_scale, is_learned in ((log_noise, learned[0]), (log_prior, learned[1])):
            if is_learned:  # HalfNormal, and the Jacobian of the logarithm
                value = value + log_scale - 0.5 * np.exp(2.0 * log_scale) / HALF_NORMAL_SCALE**2
        return value

    log_noise, log_prior, mass = _grid(log_density, learned, known)
    noise, prior = np.exp(2.0 * log_noise), np.exp(2.0 * log_prior)
    ridge = singular**2 + (noise / prior)[:, None]
    coordinates = singular * projection / ridge  # (nodes, r)
    mean = mass @ coordinates
    spread = (coordinates * mass[:, None]).T @ coordinates - np.outer(mean, mean)
    spread[np.diag_indices_from(spread)] += mass @ (noise[:, None] / ridge)
    unseen = 1.0 - (rotation**2).sum(1)  # of each weight, outside the span of the rows
    variance = np.einsum("ji,ik,jk->j", rotation, spread, rotation, optimize=True) + unseen.clip(0.0) * (mass @ prior)
    seen = rotation.T @ means
    intercept = mass @ noise / num_rows + seen @ spread @ seen + (means @ means - seen @ seen) * (mass @ prior)
    found = [(rotation @ mean, variance), (centre - seen @ mean, intercept)]
    for values, is_learned in ((log_noise, learned[0]), (log_prior, learned[1])):
        if is_learned:
            found.append((mass @ values, mass @ (values - mass @ values) ** 2))
    mean = np.concatenate([np.atleast_1d(value) for value, _ in found])
    sd = np.sqrt(np.concatenate([np.atleast_1d(value) for _, value in found]))
    return Reference(mean, sd, np.zeros_like(mean), np.zeros_like(sd), "quadrature")


def _decompose(features, target):
    """Return g ``(r,)``, u ``(r,)``, V ``(d, r)`` and |y|^2 - |u|^2."""
    centred, departure = features - features.mean(0), target - target.mean()
    if len(target) > 20 * features.shape[1]:  # well conditioned, and rows too many for an SVD
        squares, rotation = np.linalg.eigh(centred.T @ centred)
        singular = np.sqrt(squares)
        projection = rotation.T @ (centred.T @ departure) / singular
    else:
        left, singular, rotation = np.linalg.svd(centred, full_matrices=False)
        kept = singular > 1e-10 * singular[0]
        left, singular, rotation = left[:, kept], singular[kept], rotation[kept].T
        projection = left.T @ departure
    return singular, projection, rotation, max(departure @ departure - projection @ projection, 0.0)


def _grid(log_density, learned, known, nodes=801):
    """Return nodes of both log scales and their masses: a wide grid finds where the mass is, a later one fills it."""
    limits = [(-25.0, 5.0) if is_learned else (value, value) for is_learned, value in zip(learned, known, strict=True)]
    for _ in range(3):
        axes = [
            np.linspace(*limit, nodes if is_learned else 1) for limit, is_learned in zip(limits, learned, strict=True)
        ]
        table = np.concatenate([log_density(part[:, None], axes[1]) for part in np.array_split(axes[0], len(axes[0]))])
        inside = table > table.max() - 45.0
        limits = [
            _widened(axis, inside.any(1 - index)) if is_learned else limit
            for index, (axis, limit, is_learned) in enumerate(zip(axes, limits, learned, strict=True))
        ]
    mass = np.exp(table - table.max())
    kept = mass > 1e-18
    log_noise, log_prior = np.broadcast_arrays(axes[0][:, None], axes[1])
    return log_noise[kept], log_prior[kept], mass[kept] / mass[kept].sum()


def _widened(axis, inside):
    first, last = np.flatnonzero(inside)[[0, -1]]
    return axis[max(first - 1, 0)], axis[min(last + 1, len(axis) - 1)]
