"""Slow, obviously right answers."""

import numpy as np


def laplace_gibbs(features, target, noise_scale, prior_scale, draws, seed):
    """Draw weights under a Laplace prior, noise known, the intercept integrated out, by Park & Casella's Gibbs sampler.

    The Laplace prior of scale b is a Normal(0, v_j) with v_j exponential of mean 2 b^2 (JASA 2008, section 2), so that

        w | v ~ Normal(A^-1 Xc'yc, s^2 A^-1),  A = Xc'Xc + s^2 diag(1/v);   1/v_j | w_j ~ InverseGaussian(1/(b |w_j|),
        1/b^2).

    Returns:
        Draws ``(draws, d)``, one after the other of 20 chains, each after a warm-up of 200 scans.
    """
    random, chains, warm_up = np.random.default_rng(seed), 20, 200
    centred = features - features.mean(0)
    gram, cross = centred.T @ centred / noise_scale**2, centred.T @ (target - target.mean()) / noise_scale**2
    weights, found = np.tile(np.linalg.lstsq(gram, cross)[0], (chains, 1)), []
    for scan in range(warm_up + draws // chains):
        precision = random.wald(1.0 / (prior_scale * np.abs(weights)), 1.0 / prior_scale**2)
        weights = _normals(gram + precision[:, :, None] * np.eye(len(cross)), cross, random)
        if scan >= warm_up:
            found.append(weights)
    return np.stack(found, axis=1).reshape(-1, len(cross))


def _normals(precision, cross, random):
    """Draw one of each Normal(A^-1 b, A^-1), A ``(chains, k, k)``, b ``(k,)`` or ``(chains, k)``."""
    up = np.linalg.cholesky(precision).swapaxes(-1, -2)
    mean = np.linalg.solve(precision, np.broadcast_to(cross, precision.shape[:-1])[..., None])
    return (mean + np.linalg.solve(up, random.standard_normal(mean.shape)))[..., 0]


def laplace_gibbs_with_scales(features, target, noise, prior_scale, chains, scans, seed, relative_to_noise=False):
    """Draw weights, intercept, noise scale and prior scale by Gibbs sampling of each given the others.

    Nothing is integrated out and nothing is centred: the intercept is one more column, with a flat prior, and the
    learned scales are drawn by the inverse distribution function from a table over 8 decades. A scale is a number, or
    the log density of its prior as a function of an array.

    Returns:
        Draws ``(chains, scans, d + 3)`` of weights, intercept, noise scale, prior scale, after a warm-up of 600 scans.
    """
    random, warm_up = np.random.default_rng(seed), 600
    num_rows, num_features = features.shape
    rows = np.c_[features, np.ones(num_rows)]
    table = np.geomspace(1e-5, 1e3, 501)

    def draw_scale(prior, power, coefficient, order):
        """Draw from prior(s) s^-power exp(-coefficient / s^order), for each coefficient."""
        if not callable(prior):
            return np.full(chains, prior)
        # The nodes are equally spaced in log s, whose density has one more power of s.
        log_mass = prior(table) - (power - 1) * np.log(table) - coefficient[:, None] / table**order
        cumulative = np.exp(log_mass - log_mass.max(1, keepdims=True)).cumsum(1)
        place = (cumulative < random.uniform(0, cumulative[:, -1:])).sum(1)
        return table[place] * (table[1] / table[0]) ** random.uniform(-0.5, 0.5, chains)

    s = np.full(chains, max(target.std(), 0.1) if callable(noise) else noise)
    b = np.full(chains, 1.0 if callable(prior_scale) else prior_scale)
    variances, draws = np.ones((chains, num_features)), []
    for scan in range(warm_up + scans):
        # The weights' prior precision is 1/v, v the variance of the mixture in units of the effective scale's square.
        effective = (b * s if relative_to_noise else b)[:, None]
        precision = np.pad(1.0 / (variances * effective**2), ((0, 0), (0, 1)))[:, :, None] * np.eye(num_features + 1)
        squares = s[:, None] ** 2
        coefficients = _normals(precision + rows.T @ rows / squares[:, None], rows.T @ target / squares, random)
        weights, residuals = coefficients[:, :-1], target - coefficients @ rows.T
        # Relative to the noise, the prior of the weights given v says something on s too.
        quadratic, power = np.square(residuals).sum(1), num_rows
        if relative_to_noise:
            quadratic += (weights**2 / (variances * b[:, None] ** 2)).sum(1)
            power += num_features
        s = draw_scale(noise, power, quadratic / 2, 2)
        unit = s if relative_to_noise else np.ones(chains)
        b = draw_scale(prior_scale, num_features, np.abs(weights).sum(1) / unit, 1)
        variances = 1.0 / random.wald((b * unit)[:, None] / np.abs(weights), 1.0)
        if scan >= warm_up:
            draws.append(np.c_[coefficients, s, b])
    return np.stack(draws, axis=1)


def laplace_gibbs_noise_collapsed(features, target, log_noise_prior, prior_scale, chains, scans, seed):
    """Draw weights, intercept and noise scale, the noise given the mixture's variances alone: where rows are few.

    With the intercept integrated out, z = Q'y and Z = Q'X where the columns of Q span what is orthogonal to 1, and
    w_j | v_j ~ Normal(0, v_j), v_j exponential of mean 2 b^2 (Park & Casella, JASA 2008). K = Z diag(v) Z' = U L U',

        log p(s | v, y) = -sum_i log(l_i + s^2) / 2 - sum_i (u_i'z)^2 / (2 (l_i + s^2)) + log prior(s),

    drawn from a table of log s over 8 decades; then w by a draw u of its prior and a correction (Bhattacharya,
    Chakraborty & Mallick, Biometrika 2016), w = u + diag(v) Z'(K + s^2 I)^-1 (z - Z u - s Normal(0, I)); then 1/v.

    Returns:
        Draws ``(chains, scans, d + 2)`` of weights, intercept, log noise scale, after a tenth of warm-up.
    """
    random = np.random.default_rng(seed)
    num_rows, num_features = features.shape
    orthogonal = np.linalg.qr(np.c_[np.ones(num_rows), np.eye(num_rows)[:, 1:]])[0][:, 1:]
    rows, response = orthogonal.T @ features, orthogonal.T @ target
    grid = np.linspace(np.log(1e-6), np.log(1e2), 1000)
    log_prior, squares, step = log_noise_prior(np.exp(grid)) + grid, np.exp(2.0 * grid), grid[1] - grid[0]
    variances = prior_scale**2 * random.exponential(2.0, (chains, num_features))
    draws = np.empty((chains, scans, num_features + 2))
    for scan in range(-(scans // 10), scans):
        values, vectors = np.linalg.eigh((rows * variances[:, None]) @ rows.T)
        spread = np.maximum(values, 0.0)[:, :, None] + squares
        rotated = np.einsum("cij,i->cj", vectors, response)
        log_mass = log_prior - 0.5 * (np.log(spread) + rotated[:, :, None] ** 2 / spread).sum(1)
        cumulative = np.exp(log_mass - log_mass.max(1, keepdims=True)).cumsum(1)
        place = (cumulative < random.uniform(0, cumulative[:, -1:])).sum(1)
        noise = np.exp(grid[place] + step * random.uniform(-0.5, 0.5, chains))[:, None]
        prior = np.sqrt(variances) * random.standard_normal(variances.shape)
        missing = response - prior @ rows.T - noise * random.standard_normal((chains, num_rows - 1))
        solved = np.einsum("cij,cj->ci", vectors, np.einsum("cij,ci->cj", vectors, missing) / (values + noise**2))
        weights = prior + variances * (solved @ rows)
        variances = 1.0 / random.wald(1.0 / (prior_scale * np.abs(weights)), 1.0 / prior_scale**2)
        if scan >= 0:
            deviation = noise[:, 0] / np.sqrt(num_rows) * random.standard_normal(chains)
            intercept = target.mean() - weights @ features.mean(0) + deviation
            draws[:, scan] = np.c_[weights, intercept, np.log(noise)]
    return draws
