"""The penalised optimum in loss units, by methods that share nothing with `map_estimate` or `train`.

    J(w) = |yc - Xc w|^2 / (2n) + sum_j l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j|

Without an l1 part: least squares on a root of the second moments, diag(sqrt(n l2)) below it. With one: the quadratic
programme in v = p - q, p, q >= 0, by a primal-dual interior-point method, and a linear solve on the support that it
finds. Both are one route of `bayesreg.compare`: an optimum that owes nothing to the others. Source: Boyd &
Vandenberghe, Convex Optimization (2004), section 11.7; Kim, Koh, Lustig, Boyd & Gorinevsky, IEEE J. Selected Topics in
Signal Processing 1 (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from bayesreg.computing.threads import threads_for

if TYPE_CHECKING:
    from bayesreg.moments import Moments
    from bayesreg.penalties import Penalty

_MOST_ITERATIONS = 100
_TOLERANCE = 1e-15


def penalised_optimum(moments: Moments, penalty: Penalty) -> np.ndarray:
    """Return a minimiser of a canonical penalised objective: of several, one.

    Args:
        moments: The data: centred where the intercept is free, about the origin where there is none.
        penalty: A penalty in the convention ``mean-half-squared``.

    Returns:
        The weights ``(d,)``.
    """
    num_features = moments.num_features
    l1, l2, centre = (
        np.broadcast_to(np.asarray(v, dtype=float), num_features) for v in (penalty.l1, penalty.l2, penalty.centre)
    )
    if not np.any(l1 > 0.0):
        return centre + _least_squares(moments, l2, centre)
    rss, cross = moments.residuals(centre)
    hessian, linear = moments.Sxx / moments.num_rows + np.diag(l2), np.asarray(cross) / moments.num_rows
    # In coordinates that give the Hessian a unit diagonal, columns of any length are alike.
    lengths = np.sqrt(np.diag(hessian))
    lengths = np.where(lengths > 0.0, lengths, 1.0)
    hessian, linear, bounds = hessian / np.outer(lengths, lengths), linear / lengths, l1 / lengths
    # In these coordinates no gradient entry passes the residual's length, so a higher bound holds its weight at the
    # centre just the same; lowered, it does not set the scale of the others.
    solution = _interior_point(hessian, linear, np.minimum(bounds, 2.0 * np.sqrt(rss / moments.num_rows)))
    return centre + solution / lengths


def _least_squares(moments: Moments, l2: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Minimise |t - F v|^2 + n sum_j l2_j v_j^2 over v, F'F = Xc'Xc, the columns scaled to unit length."""
    root = moments.square_root()
    columns = np.vstack([root[:, :-1], np.diag(np.sqrt(moments.num_rows * l2))])
    lengths = np.linalg.norm(columns, axis=0)
    lengths = np.where(lengths > 0.0, lengths, 1.0)
    target = np.concatenate([root[:, -1] - root[:, :-1] @ centre, np.zeros(l2.size)])
    with threads_for(len(lengths)):
        return np.linalg.lstsq(columns / lengths, target, rcond=None)[0] / lengths


def _interior_point(hessian: np.ndarray, linear: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Minimise v'Hv/2 - h'v + sum_j l_j |v_j| by Newton's method on the perturbed conditions of optimality."""
    size = linear.shape[0]
    scale = max(float(np.abs(linear).max(initial=0.0)), float(bounds.max()))
    if scale == 0.0:  # nothing left to explain
        return np.zeros(size)
    positive, negative = np.full(size, scale), np.full(size, scale)
    dual_positive, dual_negative = bounds + scale, bounds + scale
    for _ in range(_MOST_ITERATIONS):
        gap = positive @ dual_positive + negative @ dual_negative
        gradient = hessian @ (positive - negative) - linear
        residual = max(np.abs(gradient + bounds - dual_positive).max(), np.abs(bounds - gradient - dual_negative).max())
        if gap <= _TOLERANCE * scale * scale and residual <= _TOLERANCE * scale:
            break
        aim = 0.1 * gap / (2 * size)
        slope_positive, slope_negative = dual_positive / positive, dual_negative / negative
        right_positive = -(gradient + bounds) + aim / positive
        right_negative = gradient - bounds + aim / negative
        total = slope_positive + slope_negative
        diagonal = slope_positive * slope_negative / total
        right = (slope_negative * right_positive - slope_positive * right_negative) / total
        try:
            factor = scipy.linalg.cho_factor(hessian + np.diag(diagonal))
        except np.linalg.LinAlgError:  # as exact as float64 lets it be
            break
        step = scipy.linalg.cho_solve(factor, right)
        step_positive = (right_positive + right_negative + slope_negative * step) / total
        step_negative = step_positive - step
        step_dual_positive = aim / positive - dual_positive - slope_positive * step_positive
        step_dual_negative = aim / negative - dual_negative - slope_negative * step_negative
        primal = _longest_step(np.r_[positive, negative], np.r_[step_positive, step_negative])
        dual = _longest_step(np.r_[dual_positive, dual_negative], np.r_[step_dual_positive, step_dual_negative])
        length = min(primal, dual)
        positive, negative = positive + length * step_positive, negative + length * step_negative
        dual_positive, dual_negative = (
            dual_positive + length * step_dual_positive,
            dual_negative + length * step_dual_negative,
        )
    return _on_support(hessian, linear, bounds, positive, negative, dual_positive, dual_negative)


def _longest_step(values: np.ndarray, step: np.ndarray) -> float:
    """Return the longest step up to 1 that keeps values positive, with a margin."""
    falling = step < 0.0
    return min(1.0, 0.995 * float(np.min(-values[falling] / step[falling]))) if falling.any() else 1.0


def _on_support(hessian, linear, bounds, positive, negative, dual_positive, dual_negative) -> np.ndarray:
    """Solve on the support that the multipliers show, for exact zeros; keep the interior point if that is no better."""
    inside = positive - negative
    signs = np.where(positive > dual_positive, 1.0, np.where(negative > dual_negative, -1.0, 0.0))
    support = np.flatnonzero(signs)
    solution = np.zeros_like(linear)
    if support.size:
        block = hessian[np.ix_(support, support)]
        solution[support] = np.linalg.lstsq(block, linear[support] - bounds[support] * signs[support], rcond=1e-13)[0]

    def objective(point: np.ndarray) -> float:
        return 0.5 * point @ hessian @ point - linear @ point + bounds @ np.abs(point)

    # The difference of two equal minima is rounding; a wrong support is worse by much more.
    slack = 1e-14 * (1.0 + abs(objective(inside)))
    return solution if objective(solution) <= objective(inside) + slack else inside
