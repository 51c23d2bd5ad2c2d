"""Slow, obviously right answers."""

import numpy as np


def laplace_gibbs(features, target, noise_scale, prior_scale, scans, seed):
    """Draw weights under a Laplace prior, noise known, the intercept integrated out, by Park & Casella's Gibbs sampler.

    The Laplace prior of scale b is a Normal(0, v_j) with v_j exponential of mean 2 b^2 (JASA 2008, section 2), so that

        w | v ~ Normal(A^-1 Xc'yc, s^2 A^-1),  A = Xc'Xc + s^2 diag(1/v);   1/v_j | w_j ~ InverseGaussian(1/(b |w_j|),
        1/b^2).

    Returns:
        Draws ``(scans, d)``, after a tenth of warm-up.
    """
    random = np.random.default_rng(seed)
    centred = features - features.mean(0)
    gram, cross = centred.T @ centred, centred.T @ (target - target.mean())
    weights, draws = np.linalg.lstsq(gram, cross)[0], []
    for scan in range(scans + scans // 10):
        precision = random.wald(1.0 / (prior_scale * np.abs(weights)), 1.0 / prior_scale**2)
        root = np.linalg.cholesky(gram / noise_scale**2 + np.diag(precision))
        mean = np.linalg.solve(root.T, np.linalg.solve(root, cross / noise_scale**2))
        weights = mean + np.linalg.solve(root.T, random.standard_normal(len(cross)))
        if scan >= scans // 10:
            draws.append(weights)
    return np.array(draws)
