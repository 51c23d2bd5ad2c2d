"""Certificates: bounds that hold against long-double optima, and are tight where they should be."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from coordinate_descent import objective, solve
from scipy.optimize import minimize_scalar

from bayesreg.certificates import certify
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.objectives import CONVENTIONS
from bayesreg.penalties import L1, L2, Penalty

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "frequentist"


def _design(name):
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


def _penalties(data):
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


CASES = [(design, kind) for design in DESIGNS for kind in _penalties(_design("tall"))]


@functools.cache
def _case(design, kind):
    data = _design(design)
    penalty = _penalties(data)[kind]
    best = solve(data.features, data.target, penalty.l1, penalty.l2, penalty.centre)
    return data, penalty, best


def _excess(weights, data, penalty, best, intercept=None):
    terms = (data.features, data.target, penalty.l1, penalty.l2, penalty.centre)
    return float(objective(weights, *terms, intercept) - objective(best, *terms))


@pytest.mark.parametrize(("design", "kind"), CASES)
def test_gap_and_distance_bound_hold(design, kind):
    data, penalty, best = _case(design, kind)
    rng, scale = np.random.default_rng(0), np.maximum(data.features.std(axis=0), 1e-3)
    moments = Moments.from_data(data)
    for size in (0.0, 1e-8, 1e-4, 1e-2, 1.0, 1e3):
        weights = (best + size * rng.normal(size=data.num_features) / scale).astype(float)
        for given in (data, moments):
            found = certify(weights, given, penalty)
            slack = 1e-14 * (found.objective + np.var(data.target) / 2)  # what float64 resolves
            assert found.gap >= _excess(weights, data, penalty, best) - slack
            assert all(math.isfinite(v) and v >= 0 for v in (found.gap, found.relative_gap, found.kkt_residual))
            unique = kind != "free on some" or design not in ("duplicates", "wide")
            if found.distance_bound is not None and unique:
                assert found.distance_bound >= float(np.linalg.norm((weights - best).astype(float)))


@pytest.mark.parametrize(("design", "kind"), CASES)
def test_the_optimum_is_recognised(design, kind):
    data, penalty, best = _case(design, kind)
    weights = best.astype(float)
    tolerance = 1e-13
    if design == "offset":
        tolerance = 1e-12
    for given in (data, Moments.from_data(data)):
        found = certify(weights, given, penalty)
        assert found.relative_gap < tolerance and found.kkt_residual < tolerance
        wrong = certify(weights + 0.1 / np.maximum(data.features.std(axis=0), 1e-3), given, penalty)
        assert wrong.relative_gap > 1e-4 and wrong.kkt_residual > 1e-4


@pytest.mark.parametrize(("design", "kind"), [c for c in CASES if c[1] != "free on some"])
def test_the_gap_is_the_primal_less_the_best_dual(design, kind):
    """P(w) - D(alpha r / n) from its textbook definition, at the best alpha found by search.

    Where no feature has a kink, the dual point is better than any multiple of r: the gap is the excess itself.
    """
    data, penalty, best = _case(design, kind)
    n, d = data.features.shape
    l1, l2, centre = (
        np.broadcast_to(np.asarray(v, dtype=np.longdouble), d) for v in (penalty.l1, penalty.l2, penalty.centre)
    )
    weights = (best + 0.3 / np.maximum(data.features.std(axis=0), 1e-3)).astype(float)
    if "ridge" in kind:
        excess = _excess(weights, data, penalty, best)
        assert certify(weights, data, penalty).gap == pytest.approx(excess, rel=1e-9)
        return
    x, y = (v.astype(np.longdouble) - v[0] for v in (data.features, data.target))
    x, y = x - x.mean(axis=0), y - y.mean()
    shifted, residual = y - x @ centre, y - x @ weights

    def dual(theta):
        u = np.abs(x.T @ theta)
        curved = l2 > 0
        if np.any(u[~curved] > l1[~curved] * (1 + 1e-12)):
            return -np.inf
        conjugate = np.sum(np.maximum(u - l1, 0)[curved] ** 2 / (2 * l2[curved]))
        return float(shifted @ theta - n * (theta @ theta) / 2 - conjugate)

    primal = float(objective(weights, data.features, data.target, l1, l2, centre))
    bounded = (l2 == 0) & (np.abs(x.T @ residual) > 0)
    largest = float(np.min(l1[bounded] * n / np.abs(x.T @ residual)[bounded], initial=2.0))
    values = {a: dual(a * residual / n) for a in [0.0, largest]}
    search = minimize_scalar(
        lambda a: -dual(a * residual / n), bounds=(0, largest), method="bounded", options={"xatol": 1e-12}
    )
    best_dual = max(*values.values(), -search.fun)
    assert certify(weights, data, penalty).gap == pytest.approx(primal - best_dual, rel=1e-6, abs=1e-12 * primal)


def test_the_gap_closes_quadratically_under_l2_and_linearly_under_l1():
    data = _design("tall")
    direction = np.array([1.0, -0.5, 0.3, 0.8, -1.0])
    for penalty, power in ((L2(0.3), 2), (L1(0.2), 1)):
        best = solve(data.features, data.target, penalty.l1, penalty.l2).astype(float)
        gaps = [certify(best + size * direction, data, penalty).gap for size in (1e-3, 1e-4)]
        assert gaps[0] / gaps[1] == pytest.approx(10**power, rel=0.2)


def test_kkt_residual_by_hand():
    data = RegressionData([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], [3.0, 1.0, 4.0, 0.0])
    # centred target (1, -1, 2, -2): Xc'yc/n = (0.5, 2), Xc'Xc/n = diag(0.5, 2)
    for weights, penalty, expected in (
        ([0.0, 0.0], L2(1.0), 2.0),
        ([0.2, 0.5], L2(1.0), max(abs(0.2 + 0.1 - 0.5), abs(0.5 + 1.0 - 2.0))),
        ([0.0, 0.0], L1(0.75), 1.25),
        ([0.0, 0.625], L1(0.75), 0.0),
        ([0.1, 0.625], L1(0.75), 0.05 - 0.5 + 0.75),
        ([-0.1, 0.625], L1(0.75), abs(-0.05 - 0.5 - 0.75)),
        ([0.5, 1.0], Penalty(l2=1.0, centre=[0.5, 0.0]), max(abs(0.25 - 0.5), abs(1.0 + 2.0 - 2.0))),
    ):
        assert certify(weights, data, penalty).kkt_residual == pytest.approx(expected / 2.0, abs=1e-15)
    assert certify([1.0, 1.0], data).kkt_residual == 0.0
    assert certify([1.0, 0.75], data, L2(0.0)).kkt_residual == 0.25


def test_without_a_penalty_only_the_kkt_residual():
    data = _design("tall")
    for penalty in (None, L1(0.0), L2([0.0] * 5), Penalty(convention="sklearn-lasso")):
        found = certify(np.zeros(5), data, penalty)
        assert found.gap is found.relative_gap is found.distance_bound is None
        assert found.kkt_residual == pytest.approx(1.0)
        assert "No penalty" in str(found)


def test_distance_bound_needs_strong_convexity():
    assert certify(np.ones(30), _design("wide"), L1(0.1)).distance_bound is None
    assert certify(np.ones(5), _design("duplicates"), L1(0.1)).distance_bound is None
    assert certify(np.ones(30), _design("wide"), Penalty(l1=0.1, l2=np.arange(30.0) // 15)).distance_bound is None
    assert "not strongly convex" in str(certify(np.ones(30), _design("wide"), L1(0.1)))
    assert certify(np.ones(5), _design("tall"), L1(0.1)).distance_bound > 0
    for penalty in (L2(0.1), Penalty(l1=0.3, l2=0.1)):
        assert certify(np.ones(30), _design("wide"), penalty).distance_bound > 0


def test_distance_bound_uses_the_curvature_of_the_data():
    """For ridge mu = l2 + eigmin: with l2 alone the bound would be several times too wide."""
    data = _design("tall")
    x = data.features - data.features.mean(axis=0)
    smallest = np.linalg.eigvalsh(x.T @ x / 40)[0]
    found = certify(np.ones(5), data, L2(1e-3))
    assert found.distance_bound == pytest.approx(math.sqrt(2 * found.gap / (1e-3 + smallest)), rel=1e-9)
    assert smallest > 0.1


def test_a_given_intercept_counts():
    data = _design("tall")
    penalty = L2(0.3)
    best = solve(data.features, data.target, l2=0.3).astype(float)
    free = certify(best, data, penalty)
    right = data.target.mean() - data.features.mean(axis=0) @ best
    assert free.intercept == pytest.approx(right, rel=1e-12)
    at_best = certify(best, data, penalty, intercept=free.intercept)
    assert (at_best.gap, at_best.kkt_residual, at_best.objective) == (free.gap, free.kkt_residual, free.objective)
    for given in (data, Moments.from_data(data)):
        off = certify(best, given, penalty, intercept=right + 0.5)
        assert off.gap == pytest.approx(0.125, rel=1e-10) and off.intercept == right + 0.5
        assert off.gap >= _excess(best, data, penalty, best, right + 0.5) * (1 - 1e-12)
        assert off.objective == pytest.approx(
            float(objective(best, data.features, data.target, l2=0.3, intercept=right + 0.5))
        )
        assert off.kkt_residual == pytest.approx(0.5 / data.target.std(), rel=1e-10)
        assert off.distance_bound < 1e-10  # the weights are optimal, whatever the intercept
        in_ridge_units = certify(best, given, L2(12.0, "sklearn-ridge"), intercept=right + 0.5)
        assert in_ridge_units.gap == pytest.approx(80 * 0.125, rel=1e-10)


@pytest.mark.parametrize("penalty", [L2(0.3), L1(0.4), Penalty(l1=0.1, l2=0.2, centre=0.3)])
def test_without_an_intercept_nothing_is_centred(penalty):
    data = _design("tall")
    best = solve(data.features, data.target, penalty.l1, penalty.l2, penalty.centre, intercept=False)
    weights = best.astype(float)
    for given in (data, Moments.from_data(data), Moments.from_data(data).about_origin()):
        found = certify(weights, given, penalty, intercept=False)
        terms = (data.features, data.target, penalty.l1, penalty.l2, penalty.centre)
        assert found.objective == pytest.approx(float(objective(weights, *terms, intercept=False)), rel=1e-11)
        assert found.relative_gap < 1e-12 and found.kkt_residual < 1e-12 and found.intercept == 0.0
        assert certify(weights, data, penalty).relative_gap > 1e-3  # with an intercept these weights are not optimal
        for size in (1e-3, 1.0):
            moved = weights + size * np.arange(5.0)
            found = certify(moved, given, penalty, intercept=np.bool_(False))
            excess = float(objective(moved, *terms, intercept=False) - objective(best, *terms, intercept=False))
            assert found.gap >= excess * (1 - 1e-12)
            assert found.distance_bound >= np.linalg.norm(moved - weights)
            scale = float(np.mean(data.target**2)) / 2
            assert found.relative_gap == pytest.approx(found.gap / scale, rel=1e-12)


@pytest.mark.parametrize("name", [name for name, row in CONVENTIONS.items() if not row.refusal])
def test_gap_and_objective_are_in_the_units_of_the_convention(name):
    data, row = _design("tall"), CONVENTIONS[name]
    known = {"noise_scale": 0.7, "steps_per_epoch": 5}
    everything = {**known, "num_rows": 40, "target_scale": float(data.target.std())}
    weights = np.array([0.3, 0.0, -0.2, 1.0, 0.1])
    kinds = [kind for kind, accepted in (("l1", row.accepts_l1), ("l2", row.accepts_l2)) if accepted]
    penalty = Penalty(**dict.fromkeys(kinds, 0.8), convention=name)
    found, canonical = certify(weights, data, penalty, **known), certify(weights, data, penalty.canonical(**everything))
    residual = data.target - data.features @ weights
    rss = np.sum((residual - residual.mean()) ** 2)
    loss_multiplier = row.loss_multiplier.at("a test", **everything)
    expected = loss_multiplier * rss + float(penalty.value(weights, **everything))
    assert found.convention == name
    assert found.objective == pytest.approx(expected, rel=1e-12)
    assert found.gap == pytest.approx(canonical.gap * 2 * 40 * loss_multiplier, rel=1e-12)
    for number in ("relative_gap", "kkt_residual", "distance_bound"):
        assert getattr(found, number) == pytest.approx(getattr(canonical, number), rel=1e-12)
    assert canonical.relative_gap == pytest.approx(canonical.gap / (data.target.var() / 2), rel=1e-12)


def test_degenerate_targets_have_finite_numbers():
    constant, one_row = _design("constant target"), _design("one row")
    for data in (constant, one_row, Moments.from_data(constant), Moments.from_data(one_row)):
        d = data.num_features
        for penalty in (L2(0.3), L1(0.1)):
            at_zero = certify(np.zeros(d), data, penalty)
            assert (at_zero.gap, at_zero.relative_gap, at_zero.kkt_residual) == (0.0, 0.0, 0.0)
            assert at_zero.distance_bound in (None, 0.0)
            away = certify(np.ones(d), data, penalty)
            assert 0.1 < away.relative_gap <= 1.0 + 1e-12 and 0.1 < away.kkt_residual <= 1.5
            off = certify(np.zeros(d), data, penalty, intercept=1.0)
            assert 0 < off.relative_gap <= 1.0 and 0 < off.kkt_residual <= 1.0


def test_tensors_integers_and_lists_as_weights():
    torch = pytest.importorskip("torch")
    data = _design("tall")
    expected = certify([1.0, 0.0, 2.0, 0.0, 1.0], data, L1(0.1))
    for weights in ([1, 0, 2, 0, 1], np.array([1, 0, 2, 0, 1]), torch.tensor([1.0, 0, 2, 0, 1], requires_grad=True)):
        assert certify(weights, data, L1(0.1)) == expected
    assert certify([1, 0, 2, 0, 1], data, L1(0.1), intercept=torch.tensor(2.0)).intercept == 2.0
    for number in (
        expected.kkt_residual,
        expected.gap,
        expected.distance_bound,
        expected.objective,
        expected.intercept,
    ):
        assert type(number) is float
    json.dumps(vars(expected))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"weights must have shape \(5,\), one a feature; got \(2,\)"),
        (np.ones((5, 1)), r"weights must have shape \(5,\)"),
        ([0, 0, math.nan, 0, 0], "weights must be finite; entry 2 is nan"),
        ([0, 0, 0, -math.inf, 0], "weights must be finite; entry 3 is -inf"),
        ([1e300, 0, 0, 0, 0], "the loss overflows float64 at these weights, the largest of size 1.0e[+]300"),
    ],
)
def test_bad_weights(weights, message):
    for data in (_design("tall"), Moments.from_data(_design("tall"))):
        with pytest.raises(ValueError, match=message):
            certify(weights, data, L2(0.1))


def test_bad_arguments():
    data, w = _design("tall"), np.zeros(5)
    with pytest.raises(TypeError, match=r"penalty must be a Penalty, such as L2\(0.1\), or None; got float"):
        certify(w, data, 0.1)
    with pytest.raises(TypeError, match="data must be a RegressionData or Moments"):
        certify(w, data.features, L2(0.1))
    for bad in (True, "0.5", [1.0]):
        with pytest.raises(TypeError, match="intercept must be None .*, a number, or False"):
            certify(w, data, L2(0.1), intercept=bad)
    with pytest.raises(ValueError, match="intercept must be finite, got nan"):
        certify(w, data, L2(0.1), intercept=math.nan)
    with pytest.raises(ValueError, match="l2 of the penalty has 3 entries, but there are 5 features"):
        certify(w, data, L2([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="num_rows=41, but the data have 40 rows"):
        certify(w, data, L2(0.1), num_rows=41)
    with pytest.raises(ValueError, match="needs noise_scale="):
        certify(w, data, L1(0.1, "park-casella"))
    with pytest.raises(TypeError, match="unknown argument 'noise'"):
        certify(w, data, L2(0.1), noise=1.0)
    with pytest.raises(ValueError, match="moments about the origin have no intercept: give intercept=False"):
        certify(w, Moments.from_data(data).about_origin(), L2(0.1))


def test_the_sentence():
    found = certify(np.zeros(5), _design("tall"), L2(0.1, "sklearn-ridge"))
    assert str(found) == (
        f"The sklearn-ridge objective is within {found.gap:.1e} of its minimum "
        f"(relative gap {found.relative_gap:.1e}), "
        f"KKT residual 1.0e+00, the optimal weights within {found.distance_bound:.1e}."
    )


# Solutions of scikit-learn 1.9.1 on its diabetes data, polished on the active set in long double (KKT below 7e-14
# relative), with their exact objectives: copied from ../shared/reference/frequentist/diabetes.json.
DIABETES = [
    (
        "Ridge",
        1.0,
        None,
        [
            29.466111893477013,
            -83.1542763618755,
            306.3526801506861,
            201.62773437326967,
            5.909614367497337,
            -29.515495079689654,
            -152.0402800618641,
            117.31173160030161,
            262.9442900143125,
            111.87895643952356,
        ],
        152.133484162896,
        1700059.1028947541,
    ),
    (
        "Lasso",
        0.21480435755294983,
        1.0,
        [
            0.0,
            -63.75102011629311,
            510.5047843996697,
            227.76069732611654,
            0.0,
            0.0,
            -161.4234757926681,
            0.0,
            449.0270715158679,
            0.0,
        ],
        152.13348416289602,
        1807.1652594097907,
    ),
    (
        "ElasticNet",
        0.08592174302117993,
        0.5,
        [
            11.72772283664069,
            0.1939905227966003,
            43.01350220015547,
            31.58743710603366,
            12.540432803145038,
            9.343336759631121,
            -27.60631622638267,
            29.024179938890942,
            40.6133393980299,
            26.128124431188283,
        ],
        152.13348416289594,
        2783.0535175193518,
    ),
]


@pytest.mark.parametrize(("estimator", "alpha", "l1_ratio", "coef", "intercept", "exact"), DIABETES)
def test_reference_solutions_on_diabetes(estimator, alpha, l1_ratio, coef, intercept, exact):
    from sklearn.datasets import load_diabetes

    data = RegressionData(*load_diabetes(return_X_y=True))
    _check_reference(data, estimator, alpha, l1_ratio, coef, intercept, exact)


@pytest.mark.parametrize("problem", ["diabetes", "d2l_20x200"])
def test_all_reference_solutions(problem):
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference answers at {REFERENCE}")
    with np.load(REFERENCE / f"{problem}.npz") as arrays:
        data = RegressionData(arrays["X"], arrays["y"])
    solutions = json.loads((REFERENCE / f"{problem}.json").read_text())["solutions"]
    assert len(solutions) >= 10
    for s in solutions:
        _check_reference(data, s["estimator"], s["alpha"], s.get("l1_ratio"), s["coef"], s["intercept"], s["objective"])


def _check_reference(data, estimator, alpha, l1_ratio, coef, intercept, exact):
    penalty = {
        "Ridge": lambda: L2(alpha, "sklearn-ridge"),
        "Lasso": lambda: L1(alpha, "sklearn-lasso"),
        "ElasticNet": lambda: Penalty(l1=alpha * l1_ratio, l2=alpha * (1 - l1_ratio), convention="sklearn-elasticnet"),
    }[estimator]()
    for given in (data, Moments.from_data(data)):
        for b in (None, intercept):
            found = certify(coef, given, penalty, intercept=b)
            assert found.objective == pytest.approx(exact, rel=1e-11)
            assert found.intercept == pytest.approx(intercept, rel=1e-12)
            assert found.kkt_residual < 1e-12
            assert found.relative_gap is None or found.relative_gap < 1e-12
    doubled = Penalty(l1=2 * penalty.l1, l2=2 * penalty.l2, convention=penalty.convention)
    assert not alpha or certify(coef, data, doubled).relative_gap > 1e-9
