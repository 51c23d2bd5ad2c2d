"""MAP against penalised training: every road to the same point, each judged by a certificate.

The prior and the noise scale say one lambda (`bayesreg.conventions`). The MAP under the prior, found in posterior
units, and the penalised fit at that lambda, found in loss units, must then be the same point; `compare` finds it by
several routes that share no code and certifies each against the penalty. A route passes where its relative gap is below
its stated tolerance, which is never above a tenth of the gap that a factor 2 in lambda leaves: what passes could not
have passed at the wrong lambda. Where half or twice lambda has the same optimum (one row, a constant target, a lambda
that holds every weight at the centre, one too small to matter), there is nothing to tell apart, and nothing to catch.

Each gap is an upper bound of J(w) - min J, relative to J(0): the smaller of the route's own duality gap and J(w) minus
the best dual objective that any route's certificate holds. Both are rigorous; the second is the tighter one at a kink.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.certificates import Certificate, certify
from bayesreg.comparison_result import Comparison, Route
from bayesreg.data import RegressionData, require_rows
from bayesreg.inference.auto_delta import DeltaEstimate, auto_delta
from bayesreg.inference.map import map_estimate
from bayesreg.model import require_model
from bayesreg.moments import Moments, as_moments
from bayesreg.optimum import penalised_optimum
from bayesreg.penalties import Penalty
from bayesreg.redundant_columns import redundant_columns
from bayesreg.training.objective import largest_stable_step
from bayesreg.training.train import train

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression

EXACT_TOLERANCE = 1e-8
AUTO_DELTA_TOLERANCE = 1e-4
SUBGRADIENT_TOLERANCE = 1e-2
# A pass must be out of reach of the wrong lambda by this factor.
_MARGIN = 0.1
# A smaller relative gap is the rounding of its terms: the optimum of another lambda that near is the same point.
_SAME_POINT = 1e-13
# The finishing phase goes on from there.
_MOST_MINIBATCH_STEPS = 1000
_BATCH_SIZE = 5
_LEARNING_RATE = 0.003


@dataclass(frozen=True)
class _Finding:
    """What a route came back with, before it is judged."""

    name: str
    weights: np.ndarray
    intercept: float | None
    noise_scale: float
    seconds: float
    tolerance: float
    certificate: Certificate


def compare(
    model: LinearRegression,
    data: RegressionData,
    noise_scale: float | None = None,
    prior_scale: float | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Find the mode by every route, and certify each against the penalty that the prior stands for.

    The penalty is that of `penalty_for` at the noise scale s, in J(w) = |y - Xw - b|^2 / (2 n) + lambda R(w), so that
    the minimiser of J and the MAP are the same point.

    Routes: an independent optimum (least squares, or an interior point where the prior has a kink), `map_estimate`,
    Pyro's AutoDelta, penalised SGD with a finishing phase (L2 by ``weight_decay``; L1 by proximal and by subgradient
    steps) and, where the penalty has one strength for all features and pulls to 0, scikit-learn. Tolerances of the
    relative gap (under a flat prior of the KKT residual): 1e-8; AutoDelta 1e-4; subgradient 1e-2; each at most a tenth
    of the gap that a factor 2 in lambda leaves. With learned noise, every route but `map_estimate` is held at the noise
    scale of the joint mode.

    Args:
        model: The model.
        data: Rows: training needs them.
        noise_scale: Conditions on this value of a learned noise scale.
        prior_scale: Conditions on this value of a learned prior scale.
        seed: Seeds the training.
        progress: Called with the name of each route before it starts.

    Returns:
        The `Comparison`.

    Raises:
        TypeError: ``model`` is not a `LinearRegression`, or ``data`` are not rows.
        ValueError: The mode does not exist, or a scale to condition on is refused (see `map_estimate`).

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> result = br.compare(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data)
        >>> result.passed
        True
    """
    rows = require_rows(data, "compare")
    model = require_model(model).conditioned(noise_scale, prior_scale)
    tell = progress or (lambda name: None)
    moments = as_moments(rows)
    centred = moments if model.intercept else moments.about_origin()
    estimate = map_estimate(model, rows)
    penalty = estimate.penalty

    def judge(weights: Any, intercept: float | None) -> Certificate:
        return certify(weights, rows, penalty, (intercept if model.intercept else False))

    wrong = _wrong_optima(penalty, centred)
    wrong_certificates = [judge(weights, None) for _, weights in wrong]
    tolerance = _Tolerance(judge(estimate.weights, estimate.intercept), wrong_certificates)

    findings: list[_Finding] = []

    def route(name: str, nominal: float, find: Callable[[], tuple[Any, float | None, float]]) -> None:
        tell(name)
        started = time.perf_counter()
        weights, intercept, noise = find()
        seconds = time.perf_counter() - started
        weights = np.asarray(weights, dtype=np.float64)
        certificate = judge(weights, intercept)
        findings.append(_Finding(name, weights, intercept, noise, seconds, tolerance.of(nominal), certificate))

    noise = estimate.noise_scale
    held = model.conditioned(noise_scale=noise) if model.noise_is_learned else model
    has_kink = penalty.kind in ("l1", "elasticnet")
    independent = "interior point" if has_kink else "least squares"
    route(independent, EXACT_TOLERANCE, lambda: (penalised_optimum(centred, penalty), None, noise))

    def by_map() -> tuple[Any, float | None, float]:
        found = map_estimate(model, rows)  # again, for its time
        return found.weights, found.intercept, found.noise_scale

    route("map_estimate", EXACT_TOLERANCE, by_map)
    route("Pyro AutoDelta", AUTO_DELTA_TOLERANCE, lambda: _by_auto_delta(held, rows, judge, tolerance))
    if has_kink:
        for name, update, allowed in (
            ("SGD, proximal step", "proximal", EXACT_TOLERANCE),
            ("SGD, subgradient", "subgradient", SUBGRADIENT_TOLERANCE),
        ):
            route(name, allowed, lambda update=update: _by_training(model, rows, penalty, seed, update, noise))
    else:
        name = "SGD, weight_decay" if penalty.kind == "l2" else "SGD"
        route(name, EXACT_TOLERANCE, lambda: _by_training(model, rows, penalty, seed, "proximal", noise))
    if np.ndim(penalty.strength) == 0 and not np.any(penalty.centre):  # scikit-learn holds no other
        route("scikit-learn", EXACT_TOLERANCE, lambda: _by_scikit_learn(model, rows, penalty, noise))

    certificates = [finding.certificate for finding in findings]
    floor = _best_dual_value(certificates)
    first = findings[0]
    routes = tuple(_judged(finding, first, centred, penalty, floor) for finding in findings)
    strict = tolerance.of(EXACT_TOLERANCE)
    wrong_findings = [
        _Finding(name, weights, None, noise, 0.0, strict, certificate)
        for (name, weights), certificate in zip(wrong, wrong_certificates, strict=True)
    ]
    wrong_routes = [_judged(finding, first, centred, penalty, floor) for finding in wrong_findings]
    return Comparison(
        routes=routes,
        wrong=tuple(replace(r, same_point=same) for r, same in zip(wrong_routes, tolerance.same_point, strict=True)),
        penalty=penalty,
        noise_scale=noise,
        unique=penalty.kind == "none" or certificates[0].distance_bound is not None,
        estimate=estimate,
        redundant_columns=redundant_columns(centred.square_root()[:, :-1], rows.feature_names, model.intercept),
    )


# --- routes


def _by_auto_delta(
    model: LinearRegression, rows: RegressionData, judge: Callable[..., Certificate], tolerance: _Tolerance
) -> tuple[Any, float | None, float]:
    def enough(estimate: DeltaEstimate) -> bool:
        return tolerance.met_by(judge(estimate.weights, estimate.intercept), AUTO_DELTA_TOLERANCE)

    found = auto_delta(model, rows, enough)
    return found.weights, found.intercept, float(model.noise_scale)


def _by_training(
    model: LinearRegression, rows: RegressionData, penalty: Penalty, seed: int, l1_update: str, noise: float
) -> tuple[Any, float | None, float]:
    batch_size = min(_BATCH_SIZE, rows.num_rows)
    steps_per_epoch = -(-rows.num_rows // batch_size)
    stable = 0.5 * largest_stable_step(rows, penalty, batch_size=batch_size, intercept=model.intercept)
    pull, null = float(np.square(penalty.per_feature(rows.num_features)[0]).sum()), float(np.var(rows.target)) / 2
    if l1_update == "subgradient" and pull and null:
        stable = min(stable, null / pull)  # its steps do not end at 0: they may cost no more than weights of 0 do
    run = train(
        rows,
        penalty,
        epochs=max(1, min(100, _MOST_MINIBATCH_STEPS // steps_per_epoch)),
        batch_size=batch_size,
        learning_rate=min(_LEARNING_RATE, stable),
        seed=seed,
        l1_update=l1_update,
        finish=True,
        intercept=model.intercept,
    )
    return run.weights, run.intercept, noise


def _by_scikit_learn(
    model: LinearRegression, rows: RegressionData, penalty: Penalty, noise: float
) -> tuple[Any, float | None, float]:
    from sklearn.exceptions import ConvergenceWarning as SolverWarning
    from sklearn.linear_model import ElasticNet, LinearRegression, Ridge

    intercept, num_rows = model.intercept, rows.num_rows
    if penalty.kind == "none":
        solver = LinearRegression(fit_intercept=intercept)
    elif penalty.kind == "l2":
        strength = penalty.to("sklearn-ridge", num_rows=num_rows).strength
        solver = Ridge(alpha=strength, fit_intercept=intercept, solver="svd")
    else:
        strength, share = penalty.to("sklearn-elasticnet", num_rows=num_rows).strength, penalty.l1_ratio
        solver = ElasticNet(alpha=strength, l1_ratio=share, fit_intercept=intercept, tol=1e-12, max_iter=200_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)  # the certificate says how far it is
        solver.fit(rows.features, rows.target)
    return solver.coef_, float(solver.intercept_), noise


# --- verdicts


class _Tolerance:
    """A route's tolerance: its nominal one, and at most a tenth of what a wrong lambda leaves, where it leaves any."""

    def __init__(self, right: Certificate, wrong: list[Certificate]):
        self._floor = _best_dual_value([right])
        gaps = [_relative_gap(certificate, self._floor) for certificate in wrong]
        self.same_point = [gap <= _SAME_POINT for gap in gaps]
        self._ceiling = _MARGIN * min((gap for gap in gaps if gap > _SAME_POINT), default=np.inf)

    def of(self, nominal: float) -> float:
        return float(min(nominal, self._ceiling))

    def met_by(self, certificate: Certificate, nominal: float) -> bool:
        return _measure(certificate, self._floor) <= self.of(nominal)


def _wrong_optima(penalty: Penalty, moments: Moments) -> list[tuple[str, np.ndarray]]:
    if penalty.kind == "none":
        return []

    def scaled(factor: float) -> Penalty:
        return Penalty(np.multiply(penalty.l1, factor), np.multiply(penalty.l2, factor), penalty.centre)

    return [
        (name, penalised_optimum(moments, scaled(factor))) for name, factor in (("lambda / 2", 0.5), ("2 lambda", 2.0))
    ]


def _best_dual_value(certificates: list[Certificate]) -> float | None:
    """Return the largest value that a certificate proves the minimum to reach; None without a penalty."""
    values = [certificate.objective - certificate.gap for certificate in certificates if certificate.gap is not None]
    return max(values) if values else None


def _relative_gap(certificate: Certificate, floor: float | None) -> float | None:
    if certificate.gap is None:
        return None
    if certificate.gap == 0.0:
        return 0.0
    gap = min(certificate.gap, max(certificate.objective - floor, 0.0))
    return certificate.relative_gap * (gap / certificate.gap)


def _measure(certificate: Certificate, floor: float | None) -> float:
    gap = _relative_gap(certificate, floor)
    return certificate.kkt_residual if gap is None else gap


def _judged(finding: _Finding, first: _Finding, moments: Moments, penalty: Penalty, floor: float | None) -> Route:
    difference = finding.weights - first.weights
    root = moments.square_root()
    return Route(
        name=finding.name,
        weights=finding.weights,
        intercept=finding.intercept,
        noise_scale=finding.noise_scale,
        objective=finding.certificate.objective,
        relative_gap=_relative_gap(finding.certificate, floor),
        kkt_residual=finding.certificate.kkt_residual,
        weight_difference=float(np.abs(difference).max()),
        fit_difference=float(np.linalg.norm(root[:, :-1] @ difference) / np.sqrt(moments.num_rows)),
        l1_norm_difference=float(abs(np.abs(finding.weights).sum() - np.abs(first.weights).sum())),
        zeros=int(np.sum(finding.weights == penalty.centre)),
        seconds=finding.seconds,
        tolerance=finding.tolerance,
        passed=bool(_measure(finding.certificate, floor) <= finding.tolerance),
    )
