"""The gap against the textbook definition of primal and dual, and how it closes."""

from fractions import Fraction

import numpy as np
import pytest
from coordinate_descent import objective, solve
from penalised_problems import CASES, case, design_of, excess_of
from scipy.optimize import minimize_scalar

from bayesreg.certificates import certify
from bayesreg.data import RegressionData
from bayesreg.penalties import L1, L2, Penalty


def _best_dual_objective(weights, data, penalty):
    """The largest D(alpha r / n), 0 <= alpha <= 2, from its definition: by search, in long double."""
    n, d = data.features.shape
    l1, l2, centre = (v.astype(np.longdouble) for v in penalty.per_feature(d))
    x, y = (v.astype(np.longdouble) - v[0] for v in (data.features, data.target))
    x, y = x - x.mean(axis=0), y - y.mean()
    shifted, residual = y - x @ centre, y - x @ weights

    def dual(alpha):
        theta = alpha * residual / n
        u = np.abs(x.T @ theta)
        curved = l2 > 0
        if np.any(u[~curved] > l1[~curved] * (1 + 1e-12)):
            return -np.inf
        conjugate = np.sum(np.maximum(u - l1, 0)[curved] ** 2 / (2 * l2[curved]))
        return float(shifted @ theta - n * (theta @ theta) / 2 - conjugate)

    bounded = (l2 == 0) & (np.abs(x.T @ residual) > 0)
    largest = float(np.min(l1[bounded] * n / np.abs(x.T @ residual)[bounded], initial=2.0))
    search = minimize_scalar(lambda a: -dual(a), bounds=(0, largest), method="bounded", options={"xatol": 1e-12})
    return max((dual(0.0), 0.0), (dual(largest), largest), (-search.fun, search.x))


def _near(data, best):
    return (best + 0.3 / np.maximum(data.features.std(axis=0), 1e-3)).astype(float)


@pytest.mark.parametrize(
    ("design", "kind"), [c for c in CASES if c[1] not in ("ridge", "ridge per feature", "free on some")]
)
def test_with_kinks_the_gap_is_the_primal_less_the_best_dual(design, kind):
    data, penalty, best = case(design, kind)
    weights = _near(data, best)
    primal = float(objective(weights, data.features, data.target, penalty.l1, penalty.l2, penalty.centre))
    dual, _ = _best_dual_objective(weights, data, penalty)
    assert certify(weights, data, penalty).gap == pytest.approx(primal - dual, rel=1e-6, abs=1e-12 * primal)


def test_an_overfit_needs_more_than_the_residual():
    """Between the lasso and least squares the residual is too small: the best multiple is above 1."""
    data, penalty, best = case("tall", "lasso")
    least_squares = solve(data.features, data.target)
    weights = (0.5 * best + 0.5 * least_squares).astype(float)
    primal = float(objective(weights, data.features, data.target, penalty.l1))
    dual, alpha = _best_dual_objective(weights, data, penalty)
    assert 1.01 < alpha < 2
    assert certify(weights, data, penalty).gap == pytest.approx(primal - dual, rel=1e-6)


@pytest.mark.parametrize(
    ("design", "kind"), [c for c in CASES if c[1] in ("ridge", "ridge per feature", "free on some")]
)
def test_without_kinks_the_gap_is_the_excess(design, kind):
    data, penalty, best = case(design, kind)
    weights = _near(data, best)
    excess = excess_of(weights, data, penalty, best)
    assert certify(weights, data, penalty).gap == pytest.approx(excess, rel=1e-9, abs=1e-13)


def test_it_closes_quadratically_under_l2_and_linearly_under_l1():
    data = design_of("tall")
    direction = np.array([1.0, -0.5, 0.3, 0.8, -1.0])
    for penalty, power in ((L2(0.3), 2), (L1(0.2), 1)):
        best = solve(data.features, data.target, penalty.l1, penalty.l2).astype(float)
        gaps = [certify(best + size * direction, data, penalty).gap for size in (1e-3, 1e-4)]
        assert gaps[0] / gaps[1] == pytest.approx(10**power, rel=0.2)


def test_duplicates_among_the_unpenalised_columns():
    """A step along their difference, which fits nothing, must not be taken for one that does."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(15, 4)) * [1.0, 1.0, 1e5, 1e-3] + [0.0, 0.0, 1e9, 0.0]
    features[:, 1] = features[:, 0] * (1 + 2e-16 * rng.normal(size=15))
    data = RegressionData(features, rng.normal(size=15))
    penalty = Penalty(l1=[0.0, 0.0, 100.0, 1e-5])
    best = solve(data.features, data.target, penalty.l1)
    for weights in (best.astype(float), np.array([1.0, -1.0, 1e-6, 10.0]), np.array([1e3, 0.0, 1e-2, 0.0])):
        found = certify(weights, data, penalty)
        assert found.gap >= excess_of(weights, data, penalty, best) * (1 - 1e-12) - 1e-14
    assert certify(best.astype(float), data, penalty).relative_gap < 1e-12


def test_an_interpolating_fit_leaves_a_residual_of_rounding():
    """No multiple of it is a dual point. The free columns alone interpolate too, so that the least objective is 0."""
    rng = np.random.default_rng(6)
    data = RegressionData(rng.normal(size=(4, 6)) + 5.0, rng.normal(size=4))
    penalty = Penalty(l2=[0.0, 1e-6, 1e-5, 0.0, 0.0, 0.0])
    weights = np.linalg.lstsq(data.features, data.target, rcond=None)[0]
    found = certify(weights, data, penalty)
    assert found.gap == pytest.approx(found.objective, rel=1e-12) and found.gap > 1e-8


@pytest.mark.parametrize("apart", [1e2, 1e4, 1e8])
@pytest.mark.parametrize(
    "penalty", [L1(1e-6), L1(1e-12), L2(1e-6), L2(1e-16), Penalty(l1=1e-6, l2=1e-9)], ids=lambda penalty: repr(penalty)
)
def test_huge_weights_that_cancel_hide_nothing(penalty, apart):
    """Two equal columns with weights a + k and a - k fit like a and a: rounding may not forgive the penalty on k."""
    column, target = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 4.0, 6.0])
    half = float(np.polyfit(column, target, 1)[0]) / 2

    def exact(weights):
        slope = sum(map(Fraction, weights))
        rows = zip(column - column.mean(), target - target.mean(), strict=True)
        squares = sum((Fraction(y) - Fraction(x) * slope) ** 2 for x, y in rows)
        size, square = sum(abs(Fraction(w)) for w in weights), sum(Fraction(w) ** 2 for w in weights)
        return squares / 12 + Fraction(float(penalty.l1)) * size + Fraction(float(penalty.l2)) * square / 2

    far = [half + apart, half - apart]
    excess = float(exact(far) - exact([half, half]))  # at least this far above the minimum
    certificate = certify(far, RegressionData(np.c_[column, column], target), penalty)
    assert certificate.gap >= excess > 0


@pytest.mark.parametrize("length", [1e4, 1e8])
def test_a_long_column_does_not_widen_the_gap(length):
    """The rounding of its gradient times a weight of 1 is no excess: a shift of the residual by rounding undoes it."""
    random = np.random.default_rng(0)
    features = random.standard_normal((50, 3))
    target = features @ [1.0, -2.0, 0.5] + random.standard_normal(50)
    penalty = Penalty(l1=0.02, centre=1.0)
    lengths = np.array([length, 1.0, 1.0])
    pull = 0.02 / lengths * np.sign(solve(features, target, l1=0.02 / lengths, centre=lengths) - lengths).astype(float)
    centred = features - features.mean(axis=0)
    best = np.linalg.solve(centred.T @ centred, centred.T @ target - 50 * pull) / lengths  # no weight is at the centre
    certificate = certify(best, RegressionData(features * lengths, target), penalty)
    assert certificate.relative_gap < 1e-10


@pytest.mark.parametrize("apart", [1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("strength", [1e-6, 1e-10, 1e-13])
def test_nearly_equal_columns_hide_nothing(apart, strength):
    """Those of least squares cancel there, at about 1 / apart: against a lasso their gap is mostly the penalty."""
    random = np.random.default_rng(0)
    features = random.standard_normal((30, 3))
    features[:, 1] = features[:, 0] + apart * random.standard_normal(30)
    data = RegressionData(features, features @ [1.0, 1.0, 2.0] + random.standard_normal(30))
    centred = [[Fraction(v) for v in row] for row in np.column_stack([features, data.target]).tolist()]
    means = [sum(column) / 30 for column in zip(*centred, strict=True)]

    def exact(weights):
        signs = [*(-Fraction(w) for w in weights), 1]
        squares = sum(sum(s * (v - m) for s, v, m in zip(signs, row, means, strict=True)) ** 2 for row in centred)
        return squares / 60 + Fraction(strength) * sum(abs(Fraction(w)) for w in weights)

    cancelling = np.linalg.lstsq(features - features.mean(0), data.target - data.target.mean())[0]
    without = np.insert(np.linalg.lstsq(*(v - v.mean(0) for v in (features[:, ::2], data.target)))[0], 1, 0.0)
    excess = float(exact(cancelling.tolist()) - exact(without.tolist()))
    assert certify(cancelling, data, L1(strength)).gap >= excess * (1 - 1e-9)
