"""Lasso and elastic-net fits for many strengths, each with its duality gap.

    J(w) = |yc - Xc w|^2 / (2 n) + l1 |w|_1 + l2 |w|^2 / 2

The path is followed on the Gram (`bayesreg.paths.homotopy`), of which rows may be made as it asks for them; with an L2
term, whose strength changes along it, the sets are exchanged on the Gram of each strength. Far more columns than rows
enter by a working set, which grows until no column outside violates its condition at any strength. Every fit is judged
by its duality gap, and one that the Gram has not digits enough for is solved again on the rows or a root of the moments
(`bayesreg.inference.active_set`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesreg.duality import PenalisedPoint, duality_gap
from bayesreg.inference.active_set import minimise_absolute_penalty
from bayesreg.paths.centred_design import CentredDesign
from bayesreg.paths.homotopy import PathFollower, follow, follow_elastic_net
from bayesreg.paths.tall_rows import TallRows

LARGEST_GAP = 1e-10
# Columns of the working set, by rows, to begin with.
_WORKING_SET = 3
# Fewer columns than this are all taken.
_MANY_COLUMNS = 1000
# Rows of the Gram that are made to begin with, and at once at least later on.
_FIRST_ROWS, _FEWEST_ROWS = 32, 16
# The share of the columns beyond which all are as soon made.
_MOST_ROWS = 0.4
# The share of a correlation that a target of noise alone would give, below which nearly every column has a weight,
# unless the columns explain some 99 percent.
_BELOW_NOISE = 0.1
# Strengths between two looks at the columns outside.
_STRENGTHS_AT_ONCE = 20
# A column outside the working set violates its condition where its correlation is larger than lambda by this share.
_VIOLATION = 1e-9
# A weight that moves the fit by less than this share of the target's deviation is 0 but for rounding: a tie let it in.
_NOTHING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class FittedPath:
    """Fits at strengths in descending order.

    Attributes:
        l1: L1 strengths `(m,)`, canonical.
        l2: L2 strengths `(m,)`, canonical.
        weights: `(m, d)`.
        mean_squares: |yc - Xc w|^2 / n, `(m,)`.
        gaps: Duality gap over J(0), `(m,)`.
    """

    l1: np.ndarray
    l2: np.ndarray
    weights: np.ndarray
    mean_squares: np.ndarray
    gaps: np.ndarray


def fit_path(design: CentredDesign, l1: np.ndarray, l2: np.ndarray) -> FittedPath:
    """Fit at every strength.

    Args:
        design: The data.
        l1: L1 strengths `(m,)`, positive, descending.
        l2: L2 strengths `(m,)`, descending; zeros for the lasso.

    Returns:
        The fits; a gap above 1e-10 says that float64 did not reach one.
    """
    weights = _on_gram(design, design.correlations, l1, l2)
    weights[np.abs(weights) * design.deviations < _NOTHING * np.sqrt(design.mean_square)] = 0.0
    mean_squares, correlations = design.residuals(weights)
    gaps = relative_gaps(design, weights, mean_squares, correlations, l1, l2)
    for k in np.flatnonzero(~(gaps <= LARGEST_GAP)):
        start = weights[k] if np.isfinite(weights[k]).all() else None
        again = _on_root(design, l1[k], l2[k], start)
        squares, cross = design.residuals(again[None])
        gap = relative_gaps(design, again[None], squares, cross, l1[k : k + 1], l2[k : k + 1])[0]
        if not gap >= gaps[k]:
            weights[k], mean_squares[k], gaps[k] = again, squares[0], gap
        if not gaps[k] <= LARGEST_GAP:
            gaps[k] = min(gaps[k], _careful_gap(design, weights[k], l1[k], l2[k]))
    return FittedPath(l1, l2, weights, mean_squares, gaps)


def relative_gaps(
    design: CentredDesign,
    weights: np.ndarray,
    mean_squares: np.ndarray,
    correlations: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
) -> np.ndarray:
    """Return the duality gap over J(0) of each fit.

    With g = Xc'r / n and the dual point a r, a <= 1 the largest feasible multiple (a = 1 with an L2 term everywhere),

        gap = (1 - a)^2 |r|^2 / (2 n) + sum_j [ l1 |w_j| + l2 w_j^2 / 2 + (a |g_j| - l1)_+^2 / (2 l2) - a g_j w_j ],

    the form in which nothing cancels of `bayesreg.duality`.

    Args:
        design: The data.
        weights: `(m, d)`.
        mean_squares: |r|^2 / n, `(m,)`.
        correlations: g, `(m, d)`.
        l1: L1 strengths `(m,)`.
        l2: L2 strengths `(m,)`.

    Returns:
        The gaps, `(m,)`; over J at the fit where the target is constant.
    """
    largest = np.maximum(correlations.max(axis=1, initial=0.0), -correlations.min(axis=1, initial=0.0))
    ridge = l2 > 0.0
    multiple = np.where(ridge | (largest <= l1), 1.0, l1 / np.where(largest > 0.0, largest, 1.0))
    gaps = np.square(1.0 - multiple) * mean_squares / 2.0
    if not ridge.any():  # nothing is left of the columns without a weight
        used = weights.any(axis=0)
        weights, correlations = weights[:, used], correlations[:, used]
    dual = multiple[:, None] * correlations
    clipped = np.clip(dual, -l1[:, None], l1[:, None])
    # |w| l1 - w clip(a g) is the kink's part, never negative; the rest is the square of what is off the L2 curve.
    gaps += (np.abs(weights) * (l1[:, None] - clipped * np.sign(weights))).sum(axis=1)
    if ridge.any():
        off = np.square(dual - clipped - l2[:, None] * weights).sum(axis=1)
        gaps += np.divide(off, 2.0 * l2, out=np.zeros_like(off), where=ridge)
    null = design.mean_square / 2.0
    if null > 0.0:
        return gaps / null
    objective = mean_squares / 2.0 + l1 * np.abs(weights).sum(axis=1) + l2 * np.square(weights).sum(axis=1) / 2.0
    return gaps / np.where(objective > 0.0, objective, 1.0)


def _careful_gap(design: CentredDesign, weights: np.ndarray, l1: float, l2: float) -> float:
    """Return the gap over J(0) of one fit, as `bayesreg.duality` has it: rounding of the gradient fills no gap."""
    d, n = design.num_features, design.num_rows
    gradient = design.residuals(weights[None])[1][0]
    point = PenalisedPoint(design.root, n, weights, weights, gradient, np.full(d, l1), np.full(d, l2))
    return duality_gap(point) / (design.mean_square / 2.0 or 1.0)


def _on_gram(design: CentredDesign, correlations: np.ndarray, l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
    """Return weights `(m, d)`, from a working set of columns where they are far more than the rows."""
    d, n = design.num_features, design.num_rows
    size = _WORKING_SET * n
    if isinstance(design, TallRows) and not l2.any():
        return _on_rows_of_gram(design, correlations, l1)
    if d <= max(2 * size, _MANY_COLUMNS):
        return _follow(design.gram(), correlations, l1, l2, n)
    columns = np.argpartition(-np.abs(correlations), size)[:size]
    gram = design.gram(columns)
    weights, done = np.zeros((l1.shape[0], d)), 0
    path = None
    while done < l1.shape[0]:
        part = slice(done, l1.shape[0] if l2.any() else done + _STRENGTHS_AT_ONCE)
        weights[part] = 0.0
        if l2.any():
            weights[part, columns] = follow_elastic_net(gram, correlations[columns], l1, l2)
        else:
            if path is None:
                start = (weights[done - 1, columns], float(l1[done - 1])) if done else ()
                path = PathFollower(gram, correlations[columns], n, *start)
            weights[part, columns], reached = path.advance(l1[part])
            if reached < len(l1[part]):
                return weights  # the gaps say from where on
        sizes = (np.abs(design.residuals(weights[part])[1]) / l1[part, None]).max(axis=0)
        sizes[columns] = 0.0
        if not sizes.max() > 1.0 + _VIOLATION:
            done += len(l1[part])
            continue
        # Those that violate, and those that will next.
        more = np.argpartition(-sizes, n)[:n]
        more = more[sizes[more] > 0.0]
        between = design.gram(columns, more)
        gram = np.block([[gram, between], [between.T, design.gram(more)]])
        columns, path = np.concatenate([columns, more]), None
    return weights


def _on_rows_of_gram(design: TallRows, correlations: np.ndarray, l1: np.ndarray) -> np.ndarray:
    """Return weights `(m, d)`; rows of the Gram are made as the path asks for them, or all, where it will for many."""
    d = design.num_features
    if l1[-1] < _BELOW_NOISE * np.median(design.deviations) * np.sqrt(design.mean_square / design.num_rows):
        design.make_all()
    else:
        design.make(np.argpartition(-np.abs(correlations), _FIRST_ROWS)[:_FIRST_ROWS])
    path = PathFollower(design.rows_of_gram, correlations, d, made=design.made)
    weights, done = np.zeros((len(l1), d)), 0
    while True:
        weights[done:], reached = path.advance(l1[done:])
        done += reached
        if path.missing is None:
            break
        (likely, number), made = path.likely(float(l1[-1])), int(design.made.sum())
        # Until the columns that the others' correlations come from are in, more seem likely than are.
        told = path.set.size >= _FIRST_ROWS or 8 * made >= d
        if told and made + number > _MOST_ROWS * d:
            design.make_all()
        else:
            design.make(likely[: max(min(number, made), _FEWEST_ROWS)])
    if done:
        weights[done:] = weights[done - 1]  # where to start from
    return weights


def _follow(gram: np.ndarray, correlations: np.ndarray, l1: np.ndarray, l2: np.ndarray, num_rows: int) -> np.ndarray:
    if l2.any():
        return follow_elastic_net(gram, correlations, l1, l2)
    weights, done = follow(gram, correlations, l1, num_rows)
    if done:
        weights[done:] = weights[done - 1]  # where to start from
    return weights


def _on_root(design: CentredDesign, l1: float, l2: float, start: np.ndarray | None) -> np.ndarray:
    """Return the fit at one strength from a root of the second moments: an L2 term is rows of their own."""
    d, n = design.num_features, design.num_rows
    features, target = design.root[:, :-1], design.root[:, -1]
    if l2 > 0.0:
        features = np.vstack([features, np.sqrt(n * l2) * np.eye(d)])
        target = np.concatenate([target, np.zeros(d)])
    return minimise_absolute_penalty(features, target, np.full(d, n * l1), start)
