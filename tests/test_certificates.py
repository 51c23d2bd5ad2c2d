"""Certificates: bounds that hold against long-double optima, and are tight where they should be."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from coordinate_descent import objective, solve
from penalised_problems import CASES, case, design_of, excess_of

from bayesreg.certificates import certify
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.objectives import CONVENTIONS
from bayesreg.penalties import L1, L2, Penalty

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "frequentist"


@pytest.mark.parametrize(("design", "kind"), CASES)
def test_gap_and_distance_bound_hold(design, kind):
    data, penalty, best = case(design, kind)
    rng, scale = np.random.default_rng(0), np.maximum(data.features.std(axis=0), 1e-3)
    moments = Moments.from_data(data)
    for size in (0.0, 1e-8, 1e-4, 1e-2, 1.0, 1e3):
        weights = (best + size * rng.normal(size=data.num_features) / scale).astype(float)
        for given in (data, moments):
            found = certify(weights, given, penalty)
            slack = 1e-14 * (found.objective + np.var(data.target) / 2)  # what float64 resolves
            assert found.gap >= excess_of(weights, data, penalty, best) - slack
            assert all(math.isfinite(v) and v >= 0 for v in (found.gap, found.relative_gap, found.kkt_residual))
            unique = kind != "free on some" or design not in ("duplicates", "wide")
            if found.distance_bound is not None and unique:
                assert found.distance_bound >= float(np.linalg.norm((weights - best).astype(float)))


@pytest.mark.parametrize(("design", "kind"), CASES)
def test_the_optimum_is_recognised(design, kind):
    data, penalty, best = case(design, kind)
    weights = best.astype(float)
    tolerance = 1e-13
    if design == "offset":
        tolerance = 1e-12
    for given in (data, Moments.from_data(data)):
        found = certify(weights, given, penalty)
        assert found.relative_gap < tolerance and found.kkt_residual < tolerance
        wrong = certify(weights + 0.1 / np.maximum(data.features.std(axis=0), 1e-3), given, penalty)
        assert wrong.relative_gap > 1e-4 and wrong.kkt_residual > 1e-4


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
    data = design_of("tall")
    for penalty in (None, L1(0.0), L2([0.0] * 5), Penalty(convention="sklearn-lasso")):
        found = certify(np.zeros(5), data, penalty)
        assert found.gap is found.relative_gap is found.distance_bound is None
        assert found.kkt_residual == pytest.approx(1.0)
        assert "No penalty" in str(found)


def test_distance_bound_needs_strong_convexity():
    assert certify(np.ones(30), design_of("wide"), L1(0.1)).distance_bound is None
    assert certify(np.ones(5), design_of("duplicates"), L1(0.1)).distance_bound is None
    assert certify(np.ones(30), design_of("wide"), Penalty(l1=0.1, l2=np.arange(30.0) // 15)).distance_bound is None
    for seed in range(20):  # eigenvalues of rounding, of either sign, are not curvature
        features = np.random.default_rng(seed).normal(size=(40, 3))[:, [0, 1, 2, 0]] * [1.0, 1e3, 1e-3, 3.0]
        data = RegressionData(features, features.sum(axis=1))
        assert certify(np.ones(4), data, L1(0.1)).distance_bound is None
    assert "not strongly convex" in str(certify(np.ones(30), design_of("wide"), L1(0.1)))
    assert certify(np.ones(5), design_of("tall"), L1(0.1)).distance_bound > 0
    for penalty in (L2(0.1), Penalty(l1=0.3, l2=0.1)):
        assert certify(np.ones(30), design_of("wide"), penalty).distance_bound > 0


def test_distance_bound_uses_the_curvature_of_the_data():
    """For ridge mu = l2 + eigmin: with l2 alone the bound would be several times too wide."""
    data = design_of("tall")
    x = data.features - data.features.mean(axis=0)
    smallest = np.linalg.eigvalsh(x.T @ x / 40)[0]
    found = certify(np.ones(5), data, L2(1e-3))
    assert found.distance_bound == pytest.approx(math.sqrt(2 * found.gap / (1e-3 + smallest)), rel=1e-9)
    assert smallest > 0.1


def test_a_given_intercept_counts():
    data = design_of("tall")
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
        assert off.gap >= excess_of(best, data, penalty, best, right + 0.5) * (1 - 1e-12)
        assert off.objective == pytest.approx(
            float(objective(best, data.features, data.target, l2=0.3, intercept=right + 0.5))
        )
        assert off.kkt_residual == pytest.approx(0.5 / data.target.std(), rel=1e-10)
        assert off.distance_bound < 1e-10  # the weights are optimal, whatever the intercept
        in_ridge_units = certify(best, given, L2(12.0, "sklearn-ridge"), intercept=right + 0.5)
        assert in_ridge_units.gap == pytest.approx(80 * 0.125, rel=1e-10)


@pytest.mark.parametrize("penalty", [L2(0.3), L1(0.4), Penalty(l1=0.1, l2=0.2, centre=0.3)])
def test_without_an_intercept_nothing_is_centred(penalty):
    data = design_of("tall")
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
    data, row = design_of("tall"), CONVENTIONS[name]
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
    tall, one_row = design_of("tall"), design_of("one row")
    constant = RegressionData(tall.features[:7], np.full(7, 152.3))  # whose mean, in float64, is not 152.3
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
    data = design_of("tall")
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
    for data in (design_of("tall"), Moments.from_data(design_of("tall"))):
        with pytest.raises(ValueError, match=message):
            certify(weights, data, L2(0.1))


def test_bad_arguments():
    data, w = design_of("tall"), np.zeros(5)
    with pytest.raises(TypeError, match=r"penalty must be a Penalty, such as L2\(0.1\), or None; got float"):
        certify(w, data, 0.1)
    with pytest.raises(TypeError, match="weights must be booleans, integers or floats"):
        certify("x", data, L2(0.1))
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
    found = certify(np.zeros(5), design_of("tall"), L2(0.1, "sklearn-ridge"))
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
