"""The finishing phase: at the optimum of whatever objective, from whatever start, by products alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.linalg.lapack
import scipy.sparse.linalg
import torch
from coordinate_descent import solve

import bayesreg as br
import bayesreg.inference.map
import bayesreg.training.finishing
from bayesreg.data import RegressionData, load_diabetes
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.training.train import train
from bayesreg.warnings import ConvergenceWarning

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "frequentist"


VECTOR = [0.1, 0.0, 0.4, 1.0, 0.2]


def correlated(n=100, d=500, correlation=0.9, seed=1):
    """Rows of an autoregressive design with ten true weights."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n, d))
    features = steps.copy()
    for j in range(1, d):
        features[:, j] = correlation * features[:, j - 1] + np.sqrt(1 - correlation**2) * steps[:, j]
    return RegressionData(features, features[:, :10] @ rng.normal(size=10) + rng.normal(size=n))


def collinear(seed=2):
    """Rows with each column twice, and one at twice its size."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 4))
    features = np.column_stack([features, features, 2 * features[:, 0]])
    return RegressionData(features, features @ np.arange(9.0) + rng.normal(size=40))


DESIGNS = {
    "diabetes": lambda: load_diabetes().standardized(),
    "diabetes as it comes": load_diabetes,
    "20 x 200": lambda: br.simulate_weight_decay(seed=0)[0],
    "20 x 200 standardized": lambda: br.simulate_weight_decay(seed=0)[0].standardized(),
    "100 x 500": correlated,
    "collinear": collinear,
}


def lasso(data, share=0.01):
    """An L1 penalty that leaves some weights, and not all."""
    return L1(share * float(L1(1.0).largest_useful(br.Moments.from_data(data))))


def finished(data, penalty, seed=0, **settings):
    return train(data, penalty, epochs=0, seed=seed, finish=True, **settings)


def kkt_residual(run, l1=0.0, l2=0.0):
    """Of the canonical objective, written out, as a share of max|Xc'yc|/n."""
    x, y = run.data.features, run.data.target
    x, y = x - x.mean(axis=0), y - y.mean()
    w = run.weights.numpy()
    gradient = x.T @ (x @ w - y) / len(y) + l2 * w
    distance = np.where(w != 0, np.abs(gradient + l1 * np.sign(w)), np.maximum(np.abs(gradient) - l1, 0))
    return distance.max() / (np.abs(x.T @ y).max() / len(y))


@pytest.mark.parametrize("name", DESIGNS)
def test_l2_starts_agree_at_the_optimum(name):
    data = DESIGNS[name]()
    strength = 1 / data.num_rows
    runs = [finished(data, L2(strength), seed) for seed in range(3)]
    for run in runs:
        assert run.certificate.relative_gap < 1e-13
        assert kkt_residual(run, l2=strength) < 1e-7
        torch.testing.assert_close(run.weights, runs[0].weights, rtol=0, atol=1e-5 * float(runs[0].weights.abs().max()))


@pytest.mark.parametrize("name", DESIGNS)
def test_l1_starts_agree_at_the_optimum_with_exact_zeros(name):
    data = DESIGNS[name]()
    penalty = lasso(data)
    runs = [finished(data, penalty, seed) for seed in range(3)]
    fits = [data.features @ run.weights.numpy() for run in runs]
    for run, fit in zip(runs, fits, strict=True):
        zeros = int((run.weights == 0).sum())
        assert run.certificate.relative_gap < 1e-13
        assert kkt_residual(run, l1=penalty.l1) < 1e-7
        assert 0 < zeros < data.num_features
        # The minimiser need not be unique; its fit and its |w|_1 are.
        np.testing.assert_allclose(fit, fits[0], rtol=0, atol=1e-6 * np.ptp(fits[0]))
        assert float(run.weights.abs().sum()) == pytest.approx(float(runs[0].weights.abs().sum()), rel=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.2])
@pytest.mark.parametrize("name", DESIGNS)
def test_the_subgradient_reaches_the_optimum_without_exact_zeros(name, share):
    data = DESIGNS[name]()
    penalty = lasso(data, share)
    run = finished(data, penalty, l1_update="subgradient")
    exact = finished(data, penalty)
    assert run.certificate.relative_gap < 1e-9
    assert not (run.weights == 0).any()
    fit = data.features @ (run.weights - exact.weights).numpy()
    assert np.abs(fit - fit.mean()).max() < 1e-3 * np.std(data.target)
    # What stands in for a zero is as good as one.
    if name != "collinear":
        largest = float(exact.weights.abs().max()) or 1.0
        assert float(run.weights[exact.weights == 0].abs().amax()) < 1e-6 * largest


@pytest.mark.parametrize(
    "penalty",
    [
        Penalty(l1=0.1, l2=0.05),
        Penalty(l1=0.1, l2=0.05, centre=0.4),
        Penalty(l1=[0.3, 0.0, 0.2, 0.1], l2=[0.0, 0.2, 0.1, 0.0], centre=[1.0, -1.0, 0.0, 2.0]),
        L2([0.1, 1.0, 10.0, 0.0]),
        L1([0.0, 0.5, 0.2, 0.3]),
        Penalty(),
    ],
)
@pytest.mark.parametrize("intercept", [True, False])
def test_any_penalty_against_coordinate_descent(penalty, intercept):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)) + 1.0
    data = RegressionData(features, features @ [1.0, -2.0, 0.0, 0.5] + 3.0 + rng.normal(size=30))
    optimum = solve(features, data.target, penalty.l1, penalty.l2, penalty.centre, intercept).astype(float)
    for l1_update in ("proximal", "subgradient"):
        run = finished(data, penalty, intercept=intercept, l1_update=l1_update)
        np.testing.assert_allclose(run.weights.numpy(), optimum, rtol=0, atol=1e-6)
        best = np.mean(data.target - features @ optimum) if intercept else 0.0
        assert run.intercept == pytest.approx(best, abs=1e-5)
    proximal = finished(data, penalty, intercept=intercept).weights.numpy()
    np.testing.assert_array_equal(proximal == penalty.centre, optimum == penalty.centre)


@pytest.mark.parametrize(
    ("penalty", "rss_factor", "decay"),
    [
        (L2(0.8), 1 / 80, 0.8),
        (L2(0.8, "torch-mse-mean"), 1 / 40, 0.8),
        (L2(0.8, "torch-mse-sum"), 1.0, 6 * 0.8),  # 6 batches of at most 7 rows
        (L2(0.8, "sklearn-ridge"), 1.0, 1.6),
        (L2(0.8, "keras-l2"), 1 / 40, 1.6),
    ],
)
def test_the_optimum_is_that_of_the_objective_that_the_penalty_states(penalty, rss_factor, decay):
    data = collinear()
    x, y = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    optimum = np.linalg.solve(2 * rss_factor * x.T @ x + decay * np.eye(9), 2 * rss_factor * x.T @ y)
    run = finished(data, penalty, batch_size=7)
    np.testing.assert_allclose(run.weights.numpy(), optimum, rtol=0, atol=1e-5)
    assert run.certificate.convention == penalty.convention
    objective = rss_factor * np.square(y - x @ optimum).sum() + decay * optimum @ optimum / 2
    assert run.certificate.objective == pytest.approx(objective, rel=1e-8)


@pytest.mark.parametrize("problem", ["diabetes", "d2l_20x200"])
def test_reference_solutions(problem):
    if not (REFERENCE / f"{problem}.json").is_file():
        pytest.skip("no reference solutions beside the project")
    rows = np.load(REFERENCE / f"{problem}.npz")
    data = RegressionData(rows["X"], rows["y"])
    tried = 0
    for solution in json.loads((REFERENCE / f"{problem}.json").read_text())["solutions"]:
        alpha, ratio = solution["alpha"], solution.get("l1_ratio")
        if alpha == 0 or solution.get("alpha_over_alpha_max", 1) < 0.01 or (ratio is None and alpha < 0.1):
            continue
        penalty = L2(alpha, "sklearn-ridge") if ratio is None else L1(alpha, "sklearn-lasso")
        if solution["estimator"] == "ElasticNet":
            penalty = Penalty(l1=alpha * ratio, l2=alpha * (1 - ratio), convention="sklearn-elasticnet")
        run = finished(data, penalty)
        expected = np.asarray(solution["coef"])
        np.testing.assert_allclose(run.weights.numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert run.certificate.objective == pytest.approx(solution["objective"], rel=1e-11)
        if ratio is not None:
            np.testing.assert_array_equal(run.weights.numpy() == 0, expected == 0)
        tried += 1
    assert tried >= 8


# --- awkward data


def awkward(name):
    rng = np.random.default_rng(4)
    features = rng.normal(size=(30, 5))
    target = features @ [1.0, 0.0, -1.0, 0.5, 2.0] + rng.normal(size=30)
    if name == "scales":
        features = features * [1e-6, 1e-3, 1.0, 1e3, 1e6]
    if name == "offset":
        features = np.round(features, 3) + 1e8
    if name == "constant column":
        features[:, 1], features[:, 4] = 7.1, 0.0
    if name == "one row":
        features, target = features[:1], target[:1]
    if name == "constant target":
        target = np.full(30, 0.1)
    if name == "fewer rows than columns":
        features, target = features[:3] * [1e-6, 1e-3, 1.0, 1e3, 1e6], target[:3]
    if name == "integers":
        features, target = np.round(10 * features).astype(int), np.round(10 * target).astype(int)
    if name == "float32":
        features, target = features.astype(np.float32), torch.tensor(target, dtype=torch.float32)
    return RegressionData(features, target)


NAMES = [
    *("scales", "offset", "constant column", "one row", "constant target"),
    *("fewer rows than columns", "integers", "float32"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("penalty", [L2(0.05), L1(0.1), Penalty(l1=0.02, l2=0.02)])
@pytest.mark.parametrize("l1_update", ["proximal", "subgradient"])
def test_awkward_data_are_certified(name, penalty, l1_update):
    run = finished(awkward(name), penalty, l1_update=l1_update)
    assert run.certificate.relative_gap < 1e-10
    if name == "constant column":
        assert float(run.weights[[1, 4]].abs().max()) < 1e-12
    if name in ("one row", "constant target"):
        assert not run.weights.any()
        assert run.intercept == pytest.approx(run.data.target[0], rel=1e-12)


@pytest.mark.parametrize("constant", [7.1, 0.1, 1 / 3, 1e8 + 0.3])
def test_constant_columns_that_nothing_holds_stay_where_they_are(constant):
    # The mean of such a column may be off by rounding, which scaled to unit length would be a column like any other.
    data = awkward("constant column")
    features = data.features.copy()
    features[:, 1] = constant
    data = RegressionData(features, data.target)
    start = np.array([0.0, 3.0, 0.0, 0.0, -4.0])
    run = finished(data, None, start=(start, 0.0))
    assert run.weights[[1, 4]].tolist() == [3.0, -4.0]
    residual = data.target - data.features @ run.weights.numpy() - run.intercept
    assert abs(residual.mean()) < 1e-15 * max(1e3, 10 * constant)
    assert run.certificate.kkt_residual < 1e-10


def test_an_l1_term_too_weak_to_pull_a_constant_column_home_still_does():
    run = finished(awkward("constant column"), L1(1e-9))
    assert run.weights[[1, 4]].tolist() == [0.0, 0.0]
    assert run.certificate.relative_gap < 1e-10


@pytest.mark.parametrize("l1_update", ["proximal", "subgradient"])
@pytest.mark.parametrize("seed", range(4))
def test_an_l1_term_at_the_level_of_rounding_is_certified(seed, l1_update):
    # On the column of scale 1e6 the kink is 1e-14 of the gradient's terms: float64 cannot tell its sides apart.
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 6)) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    target = features @ rng.normal(size=6) + rng.normal(size=40)
    data = RegressionData(features * rng.permutation([1e-6, 1e-4, 1, 1e2, 1e4, 1e6]), target)
    assert finished(data, L1(1e-8), l1_update=l1_update).certificate.relative_gap < 1e-10


@pytest.mark.parametrize("penalty", [L2(VECTOR), Penalty(l1=VECTOR, l2=0.1, centre=0.3), None])
@pytest.mark.parametrize("l1_update", ["proximal", "subgradient"])
def test_tensors_say_where_they_are_and_only_checks_wait(strict_factories, no_synchronisation, penalty, l1_update):
    data = awkward("float32")
    with no_synchronisation(at_most=20):  # for hundreds of steps
        run = train(data, penalty, epochs=30, l1_update=l1_update, finish=True)
    assert run.finishing_steps >= 50


# --- how it gets there


def test_training_solves_nothing_and_knows_no_map(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("training must not solve, factor or call the MAP")

    names = [
        *("solve", "solve_triangular", "solve_ex", "lstsq", "tensorsolve", "triangular_solve", "cg", "gmres", "lsqr"),
        *("cholesky", "cholesky_ex", "cholesky_solve", "cholesky_inverse", "cho_factor", "cho_solve", "spsolve"),
        *("inv", "inv_ex", "inverse", "pinv", "pinvh", "qr", "lu", "lu_factor", "lu_solve", "ldl", "ldl_factor"),
        *("eig", "eigh", "eigvals", "eigvalsh", "eigsh", "svd", "svdvals", "svds", "matrix_power", "expm"),
        *("dpotrf", "dpotrs", "dposv", "dgels", "dgelsd", "dgelsy", "dgesv", "dsyevd", "dgesdd"),
    ]
    modules = [torch, torch.linalg, torch.Tensor, np.linalg]
    modules += [scipy.linalg, scipy.linalg.lapack, scipy.sparse.linalg]
    patched = 0
    for module in modules:
        for name in names:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
                patched += 1
    monkeypatch.setattr(bayesreg.inference.map, "map_estimate", refuse)
    assert patched > 60
    data = load_diabetes().standardized()
    runs = {
        (penalty.kind, update): train(data, penalty, epochs=2, l1_update=update, finish=True)
        for penalty in (L2(0.01), L1(0.1), Penalty(l1=0.05, l2=0.05))
        for update in ("proximal", "subgradient")
    }
    monkeypatch.undo()
    assert all(run.certificate.relative_gap < 1e-10 for run in runs.values())


def test_finishing_goes_on_from_where_the_epochs_ended():
    # Without a penalty on fewer rows than columns each minimiser depends on its start.
    data = br.simulate_weight_decay(seed=0)[0]
    trained = train(data, None, epochs=20)
    end = train(data, None, epochs=20, finish=True)
    x = data.features - data.features.mean(axis=0)
    moved = (end.weights - trained.weights).numpy() * x.std(axis=0)  # gradient steps, in the scaled coordinates
    scaled = x / x.std(axis=0)
    inside = scaled.T @ np.linalg.lstsq(scaled.T, moved, rcond=None)[0]
    np.testing.assert_allclose(moved, inside, rtol=0, atol=1e-10)
    assert float(trained.weights.norm()) > 10
    assert end.certificate.kkt_residual < 1e-10
    assert trained.certificate.kkt_residual > 1e-4


def test_stopping_short_is_a_warning_with_number_and_threshold(monkeypatch):
    monkeypatch.setattr(bayesreg.training.finishing, "_MOST_STEPS", 50)
    with pytest.warns(ConvergenceWarning, match=r"50 steps at a relative gap of .*, above 1e-10") as caught:
        run = finished(correlated(), L2(0.01))
    assert run.finishing_steps == 50
    assert run.certificate.relative_gap > 1e-10
    assert caught[0].filename == __file__


def test_without_a_penalty_the_kkt_residual_is_what_counts(monkeypatch):
    run = finished(load_diabetes().standardized(), None)
    assert run.certificate.relative_gap is None
    assert run.certificate.kkt_residual < 1e-10
    monkeypatch.setattr(bayesreg.training.finishing, "_MOST_STEPS", 50)
    with pytest.warns(ConvergenceWarning, match="a KKT residual of .*, above 1e-08"):
        finished(correlated(40, 39, 0.99), None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("penalty", [L2(0.01), L1(0.05)])
def test_the_gpu_ends_at_the_same_point(penalty):
    data = load_diabetes().standardized()
    here, there = (train(data, penalty, epochs=3, finish=True, device=device) for device in ("cpu", "cuda"))
    assert there.weights.device.type == "cpu"
    torch.testing.assert_close(here.weights, there.weights, rtol=0, atol=1e-7)
