"""Designs on which a lasso path is hard: ties, duplicates, polynomials, constants, dependent columns, fewer rows."""

import numpy as np

from bayesreg.data import RegressionData

KINDS = [
    "plain", "ties", "duplicates", "opposites", "polynomial", "constant", "integers", "wide", "binary", "orthogonal",
    "one hot", "nearly equal",
]  # fmt: skip


def design_of(kind, seed):
    rng = np.random.default_rng([KINDS.index(kind), seed])
    n, d = int(rng.integers(4, 50)), int(rng.integers(1, 40))
    features = rng.standard_normal((n, d))
    if kind == "ties":
        features = rng.integers(-1, 2, (n, d)).astype(float)
    elif kind == "duplicates":
        features = features[:, rng.integers(0, d, d)]
    elif kind == "opposites":
        features = features[:, rng.integers(0, d, d)] * rng.choice([-1.0, 1.0], d)
    elif kind == "polynomial":
        features = rng.uniform(-1, 1, n)[:, None] ** np.arange(1, int(rng.integers(3, 14)))
    elif kind == "constant":
        features[:, rng.integers(0, d)] = 3.0
    elif kind == "integers":
        features = rng.integers(0, 4, (n, d)).astype(float)
    elif kind == "wide":
        features = rng.standard_normal((min(n, 12), int(rng.integers(20, 100))))
    elif kind == "binary":
        features = (rng.uniform(size=(n, d)) < 0.3).astype(float)
    elif kind == "orthogonal":
        features = np.eye(max(n, d))[:, :d]
    elif kind == "one hot":
        features = np.eye(6)[rng.integers(0, 6, n)]
    elif kind == "nearly equal":
        features[:, -1] = features[:, 0] + 1e-7 * rng.standard_normal(n)
    used = features[:, :3]
    target = used @ rng.choice([1.0, -1.0, 2.0], used.shape[1])
    target = target + rng.choice([0.0, 0.1, 1.0]) * rng.standard_normal(len(features))
    if kind in ("ties", "integers", "orthogonal", "one hot"):
        target = np.round(target)  # knots at the same place
    return RegressionData(features, target)


def gap_from_rows(data, weights, l1, l2=0.0, intercept=True):
    """The duality gap over J(0), from the rows: the difference of the two objectives, as the books have it."""
    x, y = data.features, data.target
    if intercept:
        x, y = x - x[0], y - y[0]
        x, y = x - x.mean(axis=0), y - y.mean()
    n = len(y)
    residual = y - x @ weights
    primal = residual @ residual / (2 * n) + l1 * np.abs(weights).sum() + l2 * weights @ weights / 2
    multiple = 1.0 if l2 else min(1.0, l1 * n / max(np.abs(x.T @ residual).max(), 1e-300))
    dual = multiple * residual / n
    value = y @ dual - n * dual @ dual / 2
    if l2:
        value -= np.square(np.maximum(np.abs(x.T @ dual) - l1, 0.0)).sum() / (2 * l2)
    return (primal - value) / (y @ y / (2 * n))
