"""An oracle: the penalised fit by plain coordinate descent, slow and obviously right."""

import numpy as np


def solve(features, target, l1=0.0, l2=0.0, centre=0.0, intercept=True, sweeps=50_000):
    """The minimiser of |y - Xw - b|^2 / 2n + sum_j l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j|, from the rows.

    In long double, each coordinate at its own minimum in turn, until a sweep changes nothing.
    """
    x, y = np.asarray(features, dtype=np.longdouble), np.asarray(target, dtype=np.longdouble)
    if intercept:
        x, y = x - x[0], y - y[0]
        x, y = x - x.mean(axis=0), y - y.mean()
    n, d = x.shape
    l1, l2, centre = (np.broadcast_to(np.asarray(v, dtype=np.longdouble), d) for v in (l1, l2, centre))
    squares = (x * x).sum(axis=0) / n
    offset, residual = np.zeros(d, dtype=np.longdouble), y - x @ centre
    for _ in range(sweeps):
        before = offset.copy()
        for j in range(d):
            partial = x[:, j] @ residual / n + squares[j] * offset[j]
            shrunk = np.copysign(max(abs(partial) - l1[j], 0), partial)
            new = shrunk / (squares[j] + l2[j]) if squares[j] + l2[j] > 0 else 0
            residual -= x[:, j] * (new - offset[j])
            offset[j] = new
        if np.abs(offset - before).max() <= 1e-18 * np.abs(offset).max():
            break
    return centre + offset


def objective(weights, features, target, l1=0.0, l2=0.0, centre=0.0, intercept=None):
    """The canonical objective in long double: intercept None is the best one, False none at all."""
    x, y = np.asarray(features, dtype=np.longdouble), np.asarray(target, dtype=np.longdouble)
    w = np.asarray(weights, dtype=np.longdouble)
    if intercept is None:
        x, y = x - x[0], y - y[0]
        x, y = x - x.mean(axis=0), y - y.mean()
    residual = y - x @ w - (intercept or 0)
    offset = w - np.asarray(centre, dtype=np.longdouble)
    penalty = np.asarray(l2) * offset**2 / 2 + np.asarray(l1) * np.abs(offset)
    return residual @ residual / (2 * len(y)) + penalty.sum()
