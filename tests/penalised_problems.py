"""Penalised problems to certify: awkward designs, every kind of penalty, and their optima from coordinate descent."""

import functools

import numpy as np
from coordinate_descent import objective, solve

from bayesreg.data import RegressionData
from bayesreg.penalties import L1, L2, Penalty


def design_of(name):
    rng = np.random.default_rng(7)
    n, d = {"wide": (12, 30), "one row": (1, 3)}.get(name, (40, 5))
    features = rng.normal(size=(n, d)) + 0.8 * rng.normal(size=(n, 1)) + 3.0
    if name == "scales":
        features *= np.logspace(-6, 6, d)
    if name == "duplicates":
        features[:, 1] = features[:, 0]
        features[:, 3] = 2.0
    if name == "offset":
        features = np.round(features, 3) + 1e8
    scale = np.maximum(features.std(axis=0), 1e-300)
    target = 2.0 + (features - features[0]) @ (rng.normal(size=d) / scale) + rng.normal(size=n)
    return RegressionData(features, np.full(n, 3.3) if name == "constant target" else target)


DESIGNS = ["tall", "wide", "scales", "duplicates", "offset", "one row", "constant target"]


def penalties_for(data):
    """One of each kind, at strengths that neither hold all weights at the centre nor leave them free."""
    d = data.num_features
    x = data.features - data.features.mean(axis=0)
    scale = np.where(x.std(axis=0) > 1e-6, x.std(axis=0), 1.0)
    largest = np.abs(x.T @ (data.target - data.target.mean()) / scale).max() / data.num_rows or 0.5
    mixed = np.where(np.arange(d) % 2, 0.3, 0.0) * scale**2
    return {
        "ridge": L2(0.3 * float(scale.min()) ** 2),
        "ridge per feature": Penalty(l2=0.2 * scale**2, centre=0.5 / scale),
        "lasso": L1(0.2 * largest * float(scale.max() if scale.max() < 100 else 1e3)),
        "lasso per feature": Penalty(l1=0.3 * largest * scale * np.linspace(0.5, 1.0, d)),
        "elastic net": Penalty(l1=0.1 * largest * scale, l2=0.2 * scale**2, centre=-0.1 / scale),
        "l2 on some": Penalty(l1=0.1 * largest * scale, l2=mixed),
        "free on some": Penalty(l2=mixed),
    }


CASES = [(design, kind) for design in DESIGNS for kind in penalties_for(design_of("tall"))]


@functools.cache
def case(design, kind):
    data = design_of(design)
    penalty = penalties_for(data)[kind]
    best = solve(data.features, data.target, penalty.l1, penalty.l2, penalty.centre)
    return data, penalty, best


def excess_of(weights, data, penalty, best, intercept=None):
    terms = (data.features, data.target, penalty.l1, penalty.l2, penalty.centre)
    return float(objective(weights, *terms, intercept) - objective(best, *terms))
