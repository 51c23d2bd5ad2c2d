"""Judge any weight vector: how far is it from the optimum of a penalised least-squares problem?

In the canonical objective, with centred rows (the intercept at its best), g = Xc'(yc - Xc w)/n and v = w - c,

    J(w) = |yc - Xc w|^2 / (2 n) + sum_j R_j(v_j),        R_j(v) = l2_j v^2 / 2 + l1_j |v|,

- the KKT residual is the distance of 0 from the subdifferential, max_j dist(g_j, dR_j(v_j));
- the duality gap bounds J(w) - min J from above, whatever found w: see `bayesreg.duality`;
- J is strongly convex with modulus mu, the least eigenvalue of H = Xc'Xc/n + diag(l2), hence
  |w - w*|_2 <= sqrt(2 gap / mu) (Boyd and Vandenberghe, "Convex Optimization", 2004, section 9.1.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.computing.arrays import as_float64
from bayesreg.duality import PenalisedPoint, duality_gap
from bayesreg.moments import Moments, as_moments
from bayesreg.multipliers import Factor
from bayesreg.objectives import get_convention
from bayesreg.penalties import Penalty

if TYPE_CHECKING:
    from bayesreg.data import RegressionData


@dataclass(frozen=True)
class Certificate:
    """What `certify` found about a weight vector.

    Attributes:
        kkt_residual: Largest distance of a gradient entry from the set it must lie in, as a share of max|Xc'yc|/n; with
            an intercept given, its gradient as a share of the target's standard deviation (divisor n), if larger.
        gap: Upper bound of the excess of the penalty's own objective over its minimum; None without a penalty.
        relative_gap: The gap in the canonical objective as a share of |yc|^2 / (2 n), the loss of weights 0; None
            without a penalty.
        distance_bound: Upper bound of |w - w*|_2, w* the optimal weights; None without a penalty or where strong
            convexity cannot be shown.
        objective: The penalised objective at the weights, in the penalty's own convention.
        convention: Name of the convention of `gap` and `objective`.
        intercept: The intercept judged: as given, or the best one for these weights; 0 for a model without intercept.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> weights = br.path(data, "l2", [0.1]).weights[0]
        >>> certificate = br.certify(weights, data, br.L2(0.1))
        >>> certificate.relative_gap < 1e-10, certificate.distance_bound < 1e-4
        (True, True)
        >>> br.certify(weights, data, br.L2(0.2)).relative_gap < 1e-4
        False
    """

    kkt_residual: float
    gap: float | None
    relative_gap: float | None
    distance_bound: float | None
    objective: float
    convention: str
    intercept: float

    def __str__(self) -> str:
        kkt = f"KKT residual {self.kkt_residual:.1e}"
        if self.gap is None:
            return f"No penalty, so no duality gap: {kkt}."
        distance = "no distance bound (not strongly convex)"
        if self.distance_bound is not None:
            distance = f"the optimal weights within {self.distance_bound:.1e}"
        return (
            f"The {self.convention} objective is within {self.gap:.1e} of its minimum "
            f"(relative gap {self.relative_gap:.1e}), {kkt}, {distance}."
        )


def certify(
    weights: Any,
    data: RegressionData | Moments,
    penalty: Penalty | None = None,
    intercept: float | bool | None = None,
    **knowledge: Any,
) -> Certificate:
    """Certify a weight vector, from whoever, against a penalised least-squares objective.

        J(w) = |yc - Xc w|^2 / (2 n) + sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ]

    in the canonical convention, columns and target centred; gap and objective are those of the penalty's own. The KKT
    residual is the distance of 0 from the subdifferential of J; the gap is J(w) less the dual objective at a feasible
    point (`bayesreg.duality`); the distance bound is sqrt(2 gap / mu), J strongly convex with modulus mu, and what
    rounding can hide. Sources: Boyd and Vandenberghe, Convex Optimization (2004), sections 5.5 and 9.1.2; Fercoq,
    Gramfort and Salmon, Mind the duality gap (ICML 2015).

    The gap bounds the excess of the objective at the weights over its minimum; it says how far training was from done,
    whatever did the training. Below about 1e-14 of the objective it measures the rounding of float64.

    Args:
        weights: (d,), numbers or a tensor, in the units of the data.
        data: The rows, or their moments. Rows give the more accurate residual on an ill-conditioned design.
        penalty: The penalty. With None, or strength zero, only the KKT residual of least squares is given.
        intercept: None: the best one for these weights; a number: judged too, its gradient counts in the residual and
            its excess in the gap; False: the model has no intercept, and nothing is centred.
        **knowledge: What the penalty's convention needs beyond the data: `noise_scale`, `steps_per_epoch`.
            `num_rows` and `target_scale` come from the data.

    Returns:
        The certificate.

    Raises:
        TypeError: If weights, data, penalty or intercept are of another type, or knowledge is of another name.
        ValueError: If the weights are not d finite numbers, the intercept is not finite or not there, or knowledge is
            missing.

    Example:
        >>> from bayesreg import L2, RegressionData
        >>> data = RegressionData([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> at_optimum = certify([0.5], data, L2(1.25))
        >>> at_optimum.relative_gap < 1e-15, at_optimum.kkt_residual < 1e-15
        (True, True)
        >>> certify([0.6], data, L2(1.25)).distance_bound >= 0.1
        True
    """
    moments = as_moments(data)
    without_intercept = isinstance(intercept, bool | np.bool_) and not intercept
    if without_intercept:
        moments = moments.about_origin()
    elif not moments.centred:
        raise ValueError("moments about the origin have no intercept: give intercept=False")
    elif isinstance(intercept, bool | np.bool_ | str) or np.ndim(intercept):
        raise TypeError(f"intercept must be None (the best one), a number, or False (no intercept); got {intercept!r}")
    if not (penalty is None or isinstance(penalty, Penalty)):
        raise TypeError(f"penalty must be a Penalty, such as L2(0.1), or None; got {type(penalty).__name__}")
    weights = _checked_weights(weights, moments.num_features)
    n = moments.num_rows
    penalty = penalty or Penalty()
    here, unit = _in_canonical_units(penalty, moments, knowledge)

    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        rss, cross = _residuals(weights, data, moments, centred=not without_intercept)
    if not (math.isfinite(rss) and np.all(np.isfinite(cross))):
        raise ValueError(
            f"the loss overflows float64 at these weights, the largest of size {np.abs(weights).max():.1e}"
        )
    gradient = cross / n
    l1, l2, centre = here.per_feature(moments.num_features)
    offset = weights - centre

    best_intercept = 0.0 if without_intercept else float(moments.target_mean - moments.feature_means @ weights)
    judged = best_intercept if intercept is None or without_intercept else float(intercept)
    if not math.isfinite(judged):
        raise ValueError(f"intercept must be finite, got {intercept!r}")
    mean_residual = best_intercept - judged

    objective = rss / (2 * n) + mean_residual**2 / 2 + float(np.sum(l2 * offset**2 / 2 + l1 * np.abs(offset)))
    kkt = _kkt_residual(gradient, offset, l1, l2, moments)
    if mean_residual:
        kkt = max(kkt, abs(mean_residual) / (math.sqrt(moments.Syy / n) or max(abs(judged), abs(best_intercept))))
    if here.kind == "none":
        return Certificate(kkt, None, None, None, objective * unit, penalty.convention, judged)

    point = PenalisedPoint(moments.square_root(), n, weights, offset, gradient, l1, l2)
    profile_gap = duality_gap(point)
    gap = profile_gap + mean_residual**2 / 2
    null = moments.Syy / (2 * n)
    return Certificate(
        kkt_residual=kkt,
        gap=gap * unit,
        # A constant target has J(0) = 0: the objective itself is then the scale, and 0/0 is the optimum.
        relative_gap=gap / (null or objective or 1.0),
        distance_bound=_distance_bound(point, profile_gap),
        objective=objective * unit,
        convention=penalty.convention,
        intercept=judged,
    )


def _checked_weights(weights: Any, num_features: int) -> np.ndarray:
    """The weights as a float64 array.

    Args:
        weights: What the caller gave.
        num_features: The length it must have.

    Returns:
        The weights, (d,).

    Raises:
        TypeError: If they are no numbers.
        ValueError: If they are not that many finite numbers.
    """
    array = as_float64(weights, "weights")
    if array.shape != (num_features,):
        raise ValueError(f"weights must have shape ({num_features},), one a feature; got {array.shape}")
    if not np.all(np.isfinite(array)):
        worst = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"weights must be finite; entry {worst} is {array[worst]}")
    return array


def _in_canonical_units(penalty: Penalty, moments: Moments, knowledge: dict[str, Any]) -> tuple[Penalty, float]:
    """The penalty in canonical units, and the factor from a canonical objective to the penalty's own.

    Args:
        penalty: The penalty.
        moments: The moments, which know the number of rows and the target's standard deviation.
        knowledge: The rest.

    Returns:
        The canonical penalty, and 2 n loss_multiplier.

    Raises:
        ValueError: If `num_rows` is given and is not that of the data.
    """
    given = knowledge.get("num_rows")
    if given is not None and given != moments.num_rows:
        raise ValueError(f"num_rows={given!r}, but the data have {moments.num_rows} rows; it need not be given")
    target_scale = math.sqrt(moments.Syy / moments.num_rows) or None
    known = {"target_scale": target_scale, **knowledge, "num_rows": moments.num_rows}
    loss = get_convention(penalty.convention).loss_multiplier * Factor(2.0, num_rows=1)
    return penalty.canonical(**known), loss.at(f"the objective of {penalty.convention}", **known)


def _residuals(weights: np.ndarray, data: Any, moments: Moments, centred: bool) -> tuple[float, np.ndarray]:
    """|yc - Xc w|^2 and Xc'(yc - Xc w), from the rows where they are at hand.

    Args:
        weights: (d,).
        data: RegressionData or Moments.
        moments: The moments of the data.
        centred: Whether columns and target are centred.

    Returns:
        The residual sum of squares, and the cross products (d,).
    """
    if isinstance(data, Moments):
        rss, cross = moments.residuals(weights)
        return float(rss), cross
    features, target = data.features, data.target
    if centred:
        # Subtract a row first: at an offset of 1e8 the mean itself is rounded, and what it leaves is removed after.
        features, target = features - features[0], target - target[0]
        features, target = features - features.mean(axis=0), target - target.mean()
    residual = target - features @ weights
    return float(residual @ residual), features.T @ residual


def _kkt_residual(gradient: np.ndarray, offset: np.ndarray, l1: np.ndarray, l2: np.ndarray, moments: Moments) -> float:
    """The largest distance of 0 from the subdifferential of J, as a share of max|Xc'yc|/n.

    Args:
        gradient: g = Xc'(yc - Xc w)/n, (d,).
        offset: v = w - c, (d,).
        l1: Canonical L1 strengths, (d,).
        l2: Canonical L2 strengths, (d,).
        moments: The moments, for the scale.

    Returns:
        The relative residual. Where Xc'yc = 0 (a constant target) it is relative to the largest term of the gradient.
    """
    smooth = l2 * offset - gradient
    # dist(0, smooth + l1 d|v|): the set is one point off the centre, and the interval [-l1, l1] about smooth at it.
    distance = np.where(offset != 0, np.abs(smooth + l1 * np.sign(offset)), np.maximum(np.abs(smooth) - l1, 0))
    worst = float(np.max(distance))
    scale = float(np.max(np.abs(moments.Sxy))) / moments.num_rows
    return worst / (scale or float(np.max(np.abs(gradient) + l2 * np.abs(offset) + l1)) or 1.0)


def _distance_bound(point: PenalisedPoint, gap: float) -> float | None:
    """sqrt(2 gap / mu), plus what rounding can hide.

    J is strongly convex in the norm of H: |w - w*|_H <= sqrt(2 gap), and a gradient that is off by e moves the
    minimiser by at most the dual norm of e. Diagonal lower bounds of H stand for it: H >= diag(l2); H >= c D with
    D = diag(H) and c the least eigenvalue of D^-1/2 H D^-1/2, which columns 1e12 apart in scale leave alone; and
    H >= its own least eigenvalue.

    Args:
        point: The weight vector and its problem.
        gap: Its gap, the intercept's part left out.

    Returns:
        The bound, or None where mu cannot be shown to be positive.
    """
    features, d = point.root[:, :-1], len(point.weights)
    hessian = features.T @ features / point.num_rows + np.diag(point.l2)
    diagonal = np.diag(hessian)
    if not np.all(diagonal > 0):
        return None
    scale = np.sqrt(diagonal)
    lower_bounds = [point.l2, _least_eigenvalue(hessian / scale / scale[:, None]) * diagonal]
    lower_bounds.append(np.full(d, _least_eigenvalue(hessian)))
    lower_bounds = [bound for bound in lower_bounds if np.all(bound > 0)]
    if not lower_bounds:
        return None
    rounding = min(float(np.linalg.norm(point.rounding / np.sqrt(bound))) for bound in lower_bounds)
    return (math.sqrt(2 * gap) + rounding) / math.sqrt(max(float(np.min(bound)) for bound in lower_bounds))


def _least_eigenvalue(matrix: np.ndarray) -> float:
    """Return a lower bound of the least eigenvalue of a symmetric matrix, for all that rounding does."""
    eigenvalues = np.linalg.eigvalsh(matrix)
    return float(eigenvalues[0] - 4 * len(matrix) * np.finfo(np.float64).eps * eigenvalues[-1])
