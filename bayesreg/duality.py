"""The duality gap of a weight vector: an upper bound of J(w) - min J from one point of the dual.

With v = w - c, r = yc - Xc w, and R_j(v) = l2_j v^2 / 2 + l1_j |v|, the problem and its dual are

    J(w) = |r|^2 / (2 n) + sum_j R_j(v_j),
    D(theta) = (yc - Xc c)'theta - n |theta|^2 / 2 - sum_j R_j*((Xc'theta)_j),
    R_j*(u) = (|u| - l1_j)_+^2 / (2 l2_j),  or for l2_j = 0 the indicator of |u| <= l1_j.

The dual point is theta = alpha q / n with q = r - f, where f = Xc d is what a Newton step d over the features without
a kink (l1_j = 0) fits. It alone gives the exact excess when no feature has a kink, and makes q orthogonal to columns
without any penalty, as the dual demands; alpha, the best feasible, serves the others. With g = Xc'q / n and
u = alpha g, J - D is

    |(1 - alpha) q + f|^2 / (2 n)  +  sum_j [R_j(v_j) + R_j*(u_j) - u_j v_j],

where every bracket of the sum is nonnegative and 0 at the optimum: nothing cancels, and the gap of an optimum is far
below eps J. Sources: Boyd and Vandenberghe, "Convex Optimization" (2004), section 5.5; Fercoq, Gramfort and Salmon,
"Mind the duality gap" (ICML 2015), for the multiple of the residual.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

# Where the residual q is little but rounding, a larger multiple of it would be a dual point made of rounding.
LARGEST_MULTIPLE = 2.0


@dataclass(frozen=True, eq=False)
class PenalisedPoint:
    """A weight vector in a penalised least-squares problem, canonical units: what its certificate is computed from.

    Attributes:
        root: F (k, d + 1) with F'F the centred second moments of features and target.
        num_rows: n.
        weights: w, (d,).
        offset: v = w - c, (d,).
        gradient: Xc'r / n, (d,).
        l1: L1 strengths, (d,).
        l2: L2 strengths, (d,).
    """

    root: np.ndarray
    num_rows: int
    weights: np.ndarray
    offset: np.ndarray
    gradient: np.ndarray
    l1: np.ndarray
    l2: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """|Xc_j|, (d,)."""
        return np.linalg.norm(self.root[:, :-1], axis=0)

    @property
    def size(self) -> float:
        """|yc| + sum_k |Xc_k| |w_k| + |sqrt(n l2) v|, the size of what the residuals are differences of."""
        pull = np.linalg.norm(np.sqrt(self.num_rows * self.l2) * self.offset)
        return float(np.linalg.norm(self.root[:, -1]) + self.lengths @ np.abs(self.weights) + pull)

    @property
    def rounding(self) -> np.ndarray:
        """A few eps (|Xc_j| + sqrt(n l2_j)) size / n: how far g_j - l2_j v_j may be from exact, (d,)."""
        lengths = self.lengths + np.sqrt(self.num_rows * self.l2)
        return 8 * np.finfo(np.float64).eps * lengths * self.size / self.num_rows


def duality_gap(point: PenalisedPoint) -> float:
    """The gap of a weight vector: J(w) less the dual objective (the formulas are at the top of this file).

    Args:
        point: The weight vector and its problem.

    Returns:
        An upper bound of J(w) - min J, at least 0.
    """
    step, fitted, left = _smooth_step(point)
    computed = point.gradient - point.root[:, :-1].T @ fitted / point.num_rows
    gradient = _within_rounding(computed, point.offset + step, point.l1, point.l2, point.rounding)
    moves = computed - gradient
    # What the moves may hide, with huge weights that cancel much more than rounding: u_j v_j at a kink, else u_j d_j.
    hidden = float(np.abs(moves) @ np.abs(np.where(point.l1 > 0, point.offset, step)))
    gap = _gap_of(point, gradient, fitted, left) + hidden
    if hidden <= np.finfo(np.float64).eps * float(point.root[:, -1] @ point.root[:, -1]) / (2 * point.num_rows):
        return gap
    shift = _shift_that_makes(point, moves)
    if shift is None:
        return gap
    elsewhere = computed - point.root[:, :-1].T @ shift / point.num_rows
    return min(gap, _gap_of(point, np.where(moves != 0, gradient, elsewhere), fitted + shift, left - shift))


def _gap_of(point: PenalisedPoint, gradient: np.ndarray, fitted: np.ndarray, left: np.ndarray) -> float:
    """J - D at the best multiple of a dual direction (the formulas are at the top of this file).

    Args:
        point: The weight vector and its problem.
        gradient: g = Xc'q / n, (d,).
        fitted: f, (k,).
        left: q = r - f, (k,).

    Returns:
        The gap.
    """
    l1, l2, offset, n = point.l1, point.l2, point.offset, point.num_rows
    mean_square = float(left @ left) / n
    stationary = float(left @ fitted) / n + float(offset @ gradient)

    size = np.abs(gradient)
    curved, bounded = l2 > 0, (l2 == 0) & (size > 0)
    largest = float(np.min(l1[bounded] / size[bounded], initial=LARGEST_MULTIPLE))

    def slope(alpha: float) -> float:  # d gap / d alpha, increasing in alpha
        beyond = np.maximum(alpha * size[curved] - l1[curved], 0)
        return (alpha - 1) * mean_square - stationary + float(np.sum(size[curved] * (beyond / l2[curved])))

    kinked = curved & (size > 0)
    alpha = _root(slope, l1[kinked] / size[kinked], largest)
    dual = alpha * gradient
    clipped = np.clip(dual, -l1, l1)
    off_curve = (dual - clipped - l2 * offset)[curved]
    off_kink = np.abs(offset) * (l1 - clipped * np.sign(offset))
    misfit = (1 - alpha) * left + fitted
    curve_gap = np.sum(off_curve * (off_curve / (2 * l2[curved])))
    return float(misfit @ misfit / (2 * n) + curve_gap + np.sum(off_kink))


def _smooth_step(point: PenalisedPoint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Newton step over the features without a kink: least squares on the root with sqrt(n l2) below.

    By projection on an orthonormal basis, so that duplicate columns do no harm: where l2_j = 0 the step itself is not
    needed, only what it fits.

    Args:
        point: The weight vector and its problem.

    Returns:
        The step d (d,), 0 where l1_j > 0 or l2_j = 0; what the whole step fits (k,); the residual that it leaves (k,).
    """
    features, target = point.root[:, :-1], point.root[:, -1]
    residual = target - features @ point.weights
    step, smooth = np.zeros_like(point.weights), point.l1 == 0
    if not smooth.any():
        return step, np.zeros_like(residual), residual
    below = np.sqrt(point.num_rows * point.l2[smooth])
    columns = np.vstack([features[:, smooth], np.diag(below)])
    # Unit columns, so that those of another scale are not taken for rounding.
    lengths = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(lengths > 0, lengths, 1.0)
    basis, triangle, _ = scipy.linalg.qr(columns, mode="economic", pivoting=True)
    pivots = np.abs(np.diag(triangle))
    basis = basis[:, pivots > max(columns.shape) * np.finfo(np.float64).eps]
    projected = basis @ (basis.T @ np.concatenate([residual, -below * point.offset[smooth]]))
    fitted, moved = np.split(projected, [len(residual)])
    step[smooth] = np.divide(moved, below, out=np.zeros_like(below), where=below > 0)
    return step, fitted, residual - fitted


def _within_rounding(
    gradient: np.ndarray, offset: np.ndarray, l1: np.ndarray, l2: np.ndarray, rounding: np.ndarray
) -> np.ndarray:
    """The gradient moved by at most its rounding error towards the subdifferential of the penalty.

    The gap divides by l2, or by the room between |g| and l1: with columns 1e12 apart in scale the rounding of the
    gradient of one, harmless along its own steep direction, would fill the gap of all.

    Args:
        gradient: (d,).
        offset: The point at which the subdifferential is taken, (d,).
        l1: L1 strengths, (d,).
        l2: L2 strengths, (d,).
        rounding: How far each entry may move, (d,).

    Returns:
        The gradient of a problem that float64 does not tell from this one, (d,).
    """
    centre = l2 * offset + l1 * np.sign(offset)
    width = np.where(offset == 0, l1, 0.0)
    nearest = np.clip(gradient, centre - width, centre + width)
    return np.where(np.abs(gradient - nearest) <= rounding, nearest, gradient)


def _shift_that_makes(point: PenalisedPoint, moves: np.ndarray) -> np.ndarray | None:
    """The smallest shift p of the residual that moves the gradient in truth, X_j'p / n = move_j where there is a move.

    The gap then counts its square: far less than what the moves may hide where the columns are independent, though of
    great length.

    Args:
        point: The weight vector and its problem.
        moves: The gradient as computed less the moved one, (d,).

    Returns:
        The shift, (k,); None where the columns moved are dependent.
    """
    moved = np.flatnonzero(moves)
    lengths = point.lengths[moved]
    if not lengths.all():
        return None
    basis, upper, order = scipy.linalg.qr(point.root[:, moved] / lengths, mode="economic", pivoting=True)
    pivots = np.abs(np.diag(upper))
    if len(pivots) < len(moved) or pivots[-1] <= len(moved) * np.finfo(np.float64).eps:
        return None
    return basis @ scipy.linalg.solve_triangular(upper, (point.num_rows * moves[moved] / lengths)[order], trans=1)


def _root(slope: Callable[[float], float], kinks: np.ndarray, largest: float) -> float:
    """The root in [0, largest] of an increasing function that is linear between its kinks, or the nearer end.

    Args:
        slope: The function.
        kinks: Where its slope changes, in any order.
        largest: The upper end.

    Returns:
        The root.
    """
    if slope(0.0) >= 0:
        return 0.0
    knots = np.unique(np.concatenate([[0.0], kinks[kinks < largest]]))
    below = bisect.bisect_left(range(len(knots)), True, key=lambda k: slope(knots[k]) >= 0) - 1
    left = float(knots[below])
    right = float(knots[below + 1]) if below + 1 < len(knots) else min(largest, left + 1.0)
    rise = slope(right) - slope(left)
    # Beyond the last knot the line goes on: the root may lie to the right of `right`.
    return min(left - slope(left) * (right - left) / rise, largest) if rise > 0 else right
