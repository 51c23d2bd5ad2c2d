"""Judge any weight vector: how far is it from the optimum of a penalised least-squares problem?

In the canonical objective, with centred rows (the intercept at its best), g = Xc'(yc - Xc w)/n and v = w - c,

    J(w) = |yc - Xc w|^2 / (2 n) + sum_j R_j(v_j),        R_j(v) = l2_j v^2 / 2 + l1_j |v|,

- the KKT residual is the distance of 0 from the subdifferential, max_j dist(g_j, dR_j(v_j));
- the duality gap, J(w) minus the dual objective at a feasible point, bounds J(w) - min J from above. The point
  is a multiple alpha of the residual r = yc - Xc w, and the gap is a sum of Fenchel-Young terms, each nonnegative
  and each zero at the optimum, so that nothing cancels: with u = alpha g,

      gap(alpha) = (1 - alpha)^2 |r|^2 / (2 n) + sum_j [ R_j(v_j) + R_j*(u_j) - u_j v_j ],
      R_j*(u) = (|u| - l1_j)_+^2 / (2 l2_j),  or for l2_j = 0 the indicator of |u| <= l1_j;

- J is strongly convex with modulus mu >= min_j l2_j + eigmin(Xc'Xc)/n, hence |w - w*|_2 <= sqrt(2 gap / mu).

Sources: Fercoq, Gramfort and Salmon, "Mind the duality gap" (ICML 2015), for the multiple of the residual;
Boyd and Vandenberghe, "Convex Optimization" (2004), sections 5.5 and 9.1.2, for gap and distance.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.moments import Moments, as_moments
from bayesreg.multipliers import Factor
from bayesreg.objectives import get_convention
from bayesreg.penalties import Penalty

if TYPE_CHECKING:
    from bayesreg.data import RegressionData

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Certificate:
    """What `certify` found about a weight vector.

    Attributes:
        kkt_residual: Largest distance of a gradient entry from the set it must lie in, as a share of max|Xc'yc|/n; with
            an intercept given, its gradient as a share of the target's standard deviation (divisor n), if larger.
        gap: Upper bound of the excess of the penalty's own objective over its minimum; None without a penalty.
        relative_gap: The gap as a share of J(0) = |yc|^2 / (2 n) in the canonical objective; None without a penalty.
        distance_bound: Upper bound of |w - w*|_2; None without a penalty or without strong convexity.
        objective: The penalised objective at the weights, in the penalty's own convention.
        convention: Name of the convention of `gap` and `objective`.
        intercept: The intercept judged: as given, or the best one for these weights; 0 for a model without intercept.
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

    The gap bounds the excess of the objective at the weights over its minimum; it says how far training was from done,
    whatever did the training. It is computed in float64: below about 1e-15 relative it measures rounding.

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
        TypeError: If the data, the penalty or the intercept are of another type.
        ValueError: If the weights are not d finite numbers, the intercept is not finite, or knowledge is missing.

    Example:
        >>> from bayesreg import L2, RegressionData
        >>> data = RegressionData([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> at_optimum = certify([0.5], data, L2(1.25))
        >>> at_optimum.gap, at_optimum.kkt_residual
        (0.0, 0.0)
        >>> certify([0.6], data, L2(1.25)).distance_bound >= 0.1
        True
    """
    moments = as_moments(data)
    without_intercept = isinstance(intercept, bool | np.bool_) and not intercept
    if without_intercept:
        moments = moments.about_origin()
    elif isinstance(intercept, bool | np.bool_ | str) or np.ndim(intercept):
        raise TypeError(f"intercept must be None (the best one), a number, or False (no intercept); got {intercept!r}")
    if not (penalty is None or isinstance(penalty, Penalty)):
        raise TypeError(f"penalty must be a Penalty, such as L2(0.1), or None; got {type(penalty).__name__}")
    weights = _checked_weights(weights, moments.num_features)
    n = moments.num_rows
    own, here, unit = _in_canonical_units(penalty or Penalty(), moments, knowledge)

    rss, cross = _residuals(weights, data, moments, centred=not without_intercept)
    gradient = cross / n
    l1, l2, centre = (
        np.broadcast_to(np.asarray(v, dtype=np.float64), weights.shape) for v in (here.l1, here.l2, here.centre)
    )
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
        return Certificate(kkt, None, None, None, objective * unit, own.convention, judged)

    profile_gap = _duality_gap(weights, gradient, rss / n, offset, l1, l2, moments)
    gap = profile_gap + mean_residual**2 / 2
    null = moments.Syy / (2 * n)
    return Certificate(
        kkt_residual=kkt,
        gap=gap * unit,
        # A constant target has J(0) = 0: the objective itself is then the scale, and 0/0 is the optimum.
        relative_gap=gap / (null or objective or 1.0),
        distance_bound=_distance_bound(profile_gap, weights, rss, l2, moments),
        objective=objective * unit,
        convention=own.convention,
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
        ValueError: If they are not that many finite numbers.
    """
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().numpy()
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (num_features,):
        raise ValueError(f"weights must have shape ({num_features},), one a feature; got {array.shape}")
    if not np.all(np.isfinite(array)):
        worst = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"weights must be finite; entry {worst} is {array[worst]}")
    return array


def _in_canonical_units(
    penalty: Penalty, moments: Moments, knowledge: dict[str, Any]
) -> tuple[Penalty, Penalty, float]:
    """The penalty, the same in canonical units, and the factor from a canonical objective to the penalty's own.

    Args:
        penalty: The penalty.
        moments: The moments, which know the number of rows and the target's standard deviation.
        knowledge: The rest.

    Returns:
        The penalty, its canonical form, and 2 n loss_multiplier.

    Raises:
        ValueError: If `num_rows` is given and is not that of the data.
    """
    given = knowledge.get("num_rows")
    if given is not None and given != moments.num_rows:
        raise ValueError(f"num_rows={given!r}, but the data have {moments.num_rows} rows; it need not be given")
    target_scale = math.sqrt(moments.Syy / moments.num_rows) or None
    known = {"target_scale": target_scale, **knowledge, "num_rows": moments.num_rows}
    loss = get_convention(penalty.convention).loss_multiplier * Factor(2.0, num_rows=1)
    return penalty, penalty.canonical(**known), loss.at(f"the objective of {penalty.convention}", **known)


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


def _duality_gap(
    weights: np.ndarray,
    gradient: np.ndarray,
    mean_square: float,
    offset: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    moments: Moments,
) -> float:
    """The smallest gap over the feasible multiples of the residual (the formulas are at the top of this file).

    Args:
        weights: w, (d,).
        gradient: g = Xc'(yc - Xc w)/n, (d,).
        mean_square: |yc - Xc w|^2 / n.
        offset: v = w - c, (d,).
        l1: Canonical L1 strengths, (d,).
        l2: Canonical L2 strengths, (d,).
        moments: The moments, for features without any penalty.

    Returns:
        The gap in canonical units, at least 0.
    """
    explained = 0.0
    free = (l1 == 0) & (l2 == 0)
    if free.any():
        # A dual point must be orthogonal to columns without a penalty: fit them to the residual first, as the mean was.
        gradient, mean_square, explained = _without_free_features(weights, free, moments)
    size = np.abs(gradient)
    bounded, curved = (l2 == 0) & (size > 0), l2 > 0
    largest = float(np.min(l1[bounded] / size[bounded], initial=np.inf))

    def slope(alpha: float) -> float:
        # d gap / d alpha, increasing in alpha
        beyond = np.maximum(alpha * size[curved] - l1[curved], 0)
        return (alpha - 1) * mean_square - offset @ gradient + float(np.sum(size[curved] * beyond / l2[curved]))

    alpha = _root(slope, l1[curved & (size > 0)] / size[curved & (size > 0)], largest)
    dual = alpha * gradient
    clipped = np.clip(dual, -l1, l1)
    off_curve = (dual - clipped - l2 * offset)[curved]
    off_kink = np.abs(offset) * (l1 - clipped * np.sign(offset))
    misfit = ((1 - alpha) ** 2 * mean_square + explained) / 2
    return float(misfit + np.sum(off_curve**2 / (2 * l2[curved])) + np.sum(off_kink))


def _root(slope: Callable[[float], float], kinks: np.ndarray, largest: float) -> float:
    """The root in [0, largest] of an increasing function that is linear between its kinks, or the nearer end.

    Args:
        slope: The function.
        kinks: Where its slope changes, in any order.
        largest: The upper end; may be infinite.

    Returns:
        The root.
    """
    knots = np.unique(np.concatenate([[0.0], kinks[kinks < largest]]))
    if slope(0.0) >= 0:
        return 0.0
    below = bisect.bisect_left(range(len(knots)), True, key=lambda k: slope(knots[k]) >= 0) - 1
    left = float(knots[below])
    right = float(knots[below + 1]) if below + 1 < len(knots) else min(largest, left + 1.0)
    rise = slope(right) - slope(left)
    # Beyond the last knot the line goes on: the root may lie to the right of `right`.
    return min(left - slope(left) * (right - left) / rise, largest) if rise > 0 else right


def _without_free_features(weights: np.ndarray, free: np.ndarray, moments: Moments) -> tuple[np.ndarray, float, float]:
    """The residual made orthogonal to the columns that bear no penalty.

    Args:
        weights: w, (d,).
        free: Which columns bear none, (d,).
        moments: The moments.

    Returns:
        Xc'r'/n for the residual r' left, (d,), exactly 0 in the free entries; |r'|^2/n; and |r - r'|^2/n.
    """
    root = moments.square_root()
    features, target = root[:, :-1], root[:, -1]
    residual = target - features @ weights
    columns = features[:, free]
    norms = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(norms > 0, norms, 1.0)
    fitted = columns @ np.linalg.lstsq(columns, residual, rcond=None)[0]
    left = residual - fitted
    gradient = np.where(free, 0.0, features.T @ left) / moments.num_rows
    return gradient, float(left @ left) / moments.num_rows, float(fitted @ fitted) / moments.num_rows


def _distance_bound(gap: float, weights: np.ndarray, rss: float, l2: np.ndarray, moments: Moments) -> float | None:
    """sqrt(2 gap / mu) with mu the strong convexity of J, plus what rounding of the gradient can hide.

    A gradient that is off by e moves the minimiser by up to |e|/mu, and one computed in float64 is off by a few
    eps |Xc_j| (|yc| + sum_k |Xc_k| |w_k|) / n.

    Args:
        gap: The gap without the intercept's part, canonical.
        weights: w, (d,).
        rss: |yc - Xc w|^2.
        l2: Canonical L2 strengths, (d,).
        moments: The moments.

    Returns:
        The bound, or None where mu cannot be shown to be positive.
    """
    n, d = moments.num_rows, moments.num_features
    mu = float(np.min(l2))
    if n > d:
        # eigvalsh is exact for a matrix within d eps |Sxx| of this one. With n <= d centred rows the least is 0.
        eigenvalues = np.linalg.eigvalsh(moments.Sxx)
        mu += max(0.0, float(eigenvalues[0] - d * _EPS * eigenvalues[-1])) / n
    if mu <= 0:
        return None
    norms = np.sqrt(np.diag(moments.Sxx))
    size = math.sqrt(moments.Syy) + math.sqrt(rss) + float(norms @ np.abs(weights))
    rounding = 4 * _EPS * size * float(np.linalg.norm(norms)) / n + 4 * _EPS * float(np.linalg.norm(l2 * weights))
    return math.sqrt(2 * gap / mu) + rounding / mu
