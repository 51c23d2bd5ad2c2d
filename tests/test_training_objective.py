"""What a training step sees of each convention, and the largest step that it can stand."""

import numpy as np
import pytest
import torch

from bayesreg.computing.power_iteration import largest_eigenvalue
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.objectives import CONVENTIONS
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.training.objective import TrainingObjective, largest_stable_step, stable_step
from bayesreg.training.train import train

TRAINED = [name for name, row in CONVENTIONS.items() if row.training_loss is not None]


def make_rows(n=23, d=4, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    features = scale * (rng.normal(size=(n, d)) + 0.5)
    return RegressionData(features, features @ np.linspace(-1, 2, d) / scale + 1.5 + rng.normal(size=n))


def written_out(convention, strength, target, steps):
    """(RSS's factor, L2's factor of |w|^2, L1's factor) of each library's objective, from its own documentation."""
    n, sd = len(target), np.std(target)
    return {
        "mean-half-squared": (1 / (2 * n), strength / 2, strength),
        "torch-mse-mean": (1 / n, strength / 2, strength),
        "torch-mse-sum": (1, steps * strength / 2, steps * strength),
        "torch-adam": (1 / n, strength / 2, strength),
        "sklearn-ridge": (1, strength, None),
        "sklearn-lasso": (1 / (2 * n), None, strength),
        "celer": (1 / (2 * n), None, strength),
        "sklearn-elasticnet": (1 / (2 * n), strength / 2, strength),
        "glmnet": (1 / (2 * n), strength / (2 * sd), strength),
        "keras-l2": (1 / n, strength, None),
        "keras-l1": (1 / n, None, strength),
    }[convention]


@pytest.mark.parametrize("convention", TRAINED)
def test_the_objective_is_the_one_that_the_library_documents(convention):
    rows, batch = make_rows(), 5
    rss_factor, l2_factor, l1_factor = written_out(convention, 0.7, rows.target, steps=5)
    weights = np.array([0.3, -1.2, 0.0, 2.0])
    residual = rows.target - rows.features @ weights - 0.4
    for make, factor, norm in ((L2, l2_factor, weights @ weights), (L1, l1_factor, np.abs(weights).sum())):
        if factor is None:
            with pytest.raises(ValueError, match="has no L"):
                make(0.7, convention)
            continue
        start = train(rows, make(0.7, convention), epochs=0, batch_size=batch, start=(weights, 0.4)).history.iloc[0]
        assert start.train_loss == pytest.approx(rss_factor * residual @ residual, rel=1e-13)
        assert start.train_objective - start.train_loss == pytest.approx(factor * norm, rel=1e-10)


def test_every_convention_with_a_loss_is_covered():
    assert set(CONVENTIONS) - set(TRAINED) == {"torch-adamw", "sklearn-bayesian-ridge", "park-casella", "laplace-torch"}


@pytest.mark.parametrize(
    "penalty", [L2(1.0, "sklearn-bayesian-ridge"), L1(1.0, "park-casella"), L2(1.0, "laplace-torch")]
)
def test_a_loss_over_the_noise_variance_is_refused_with_the_way_out(penalty):
    rows = make_rows()
    with pytest.raises(ValueError, match=r"penalty\.to\('mean-half-squared', num_rows=..., noise_scale=...\)"):
        train(rows, penalty)
    converted = penalty.to("mean-half-squared", num_rows=rows.num_rows, noise_scale=2.0)
    assert train(rows, converted, epochs=1).history.train_objective.notna().all()


def test_a_bare_strength_and_vectors_of_another_length_are_refused():
    rows = make_rows()
    with pytest.raises(TypeError, match=r"L2\(3.0\).*got 3.0"):
        train(rows, 3.0)
    for penalty in (L2([1.0, 2.0]), L1([1.0, 2.0, 3.0]), Penalty(l2=1.0, centre=[1.0, 2.0])):
        with pytest.raises(ValueError, match="each of 4 features"):
            train(rows, penalty)


# --- the largest stable step


@pytest.mark.parametrize("size", [1, 7, 60])
def test_the_largest_eigenvalue_is_eigvalsh(size):
    root = np.random.default_rng(size).normal(size=(size + 2, size))
    matrix = torch.tensor(root.T @ root)
    found = largest_eigenvalue(lambda v: matrix @ v, size, matrix.device)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-7)
    assert largest_eigenvalue(lambda v: 0 * v, size, matrix.device) == 0.0


def full_batch_hessian(rows, convention, strength, intercept):
    rss_factor, l2_factor, _ = written_out(convention, strength, rows.target, steps=1)
    design = np.column_stack([rows.features, np.ones(rows.num_rows)]) if intercept else rows.features
    decay = np.diag([2 * l2_factor] * rows.num_features + [0.0] * intercept)
    return 2 * rss_factor * design.T @ design + decay


@pytest.mark.parametrize(
    ("convention", "strength", "intercept", "margin"),
    [
        ("mean-half-squared", 0.1, True, 0.005),
        ("mean-half-squared", 300.0, False, 0.03),
        ("torch-mse-mean", 0.1, False, 0.03),
        ("torch-mse-mean", 300.0, True, 0.03),
        ("torch-mse-sum", 0.1, True, 0.03),
        ("sklearn-ridge", 300.0, True, 0.03),
        ("keras-l2", 3.0, True, 0.03),
    ],
)
def test_the_full_batch_bound_is_sharp(convention, strength, intercept, margin):
    rows = make_rows()
    penalty = L2(strength, convention)
    sharp = 2 / np.linalg.eigvalsh(full_batch_hessian(rows, convention, strength, intercept))[-1]
    bound = largest_stable_step(rows, penalty, batch_size=rows.num_rows, intercept=intercept)
    assert bound == pytest.approx(sharp, rel=1e-7)
    settings = {"batch_size": rows.num_rows, "intercept": intercept, "epochs": round(6 / margin)}
    below = train(rows, penalty, learning_rate=(1 - margin) * bound, **settings)
    assert below.history.train_objective.is_monotonic_decreasing
    assert below.certificate.relative_gap < 0.01
    with pytest.raises(ValueError, match=f"learning_rate here is {bound:.6g} .*sharp bound") as caught:
        train(rows, penalty, learning_rate=(1 + margin) * bound, **settings)
    assert "sufficient" not in str(caught.value)


def test_on_the_full_batch_going_up_at_all_is_diverging():
    rows = make_rows()
    bound = largest_stable_step(rows, L2(0.1), batch_size=23)
    with pytest.raises(ValueError, match="sharp bound"):
        train(rows, L2(0.1), batch_size=23, learning_rate=1.05 * bound, epochs=30)
    # So short a run has not gone far: the objective is a few hundred times what it was.
    far = train(rows, L1(1e-300), batch_size=23, learning_rate=1.05 * bound, epochs=30, l1_update="subgradient").history
    assert 1 < far.train_objective.iloc[-1] / far.train_objective.iloc[0] < 1e3


def test_the_mini_batch_bound_holds_for_the_worst_of_batches():
    # Two rows, alike and much longer than the rest: the shuffling brings them together now and then. The longer one is
    # worse alone, in the short last batch.
    rng = np.random.default_rng(3)
    features = rng.normal(size=(21, 3))
    features[:2] = [[9.0, -5.0, 2.0], [7.0, -5.0, 2.0]]
    rows = RegressionData(features, rng.normal(size=21))
    strong = L2(5000.0, "sklearn-ridge")
    for penalty in (L2(0.5), L2(0.5, "torch-mse-mean"), L2(0.5, "torch-mse-sum"), strong, L1(0.1), None):
        objective = TrainingObjective.of(penalty or Penalty(), rows, 2)
        bound, sharp = stable_step(objective, torch.tensor(features), 2, intercept=True)
        assert not sharp
        design = np.column_stack([features, np.ones(21)])
        factor = {"half-mean": lambda m: 1 / m, "mean": lambda m: 2 / m, "sum": lambda m: 2.0}[objective.loss_name]
        decay = 10000 / 11 if penalty is strong else 0.0 if penalty in (None, L1(0.1)) else 0.5
        pairs = [design[[i, j]] for i in range(21) for j in range(i)]
        worst = max(factor(2) * np.linalg.eigvalsh(pair @ pair.T)[-1] for pair in pairs)
        worst = max(worst, factor(1) * np.square(design).sum(axis=1).max()) + decay  # the last batch has one row
        assert worst <= 2 / bound * (1 + 1e-9)
        assert 2 / bound <= 1.5 * worst  # of use
        history = train(rows, penalty, epochs=60, batch_size=2, learning_rate=bound).history
        assert history.train_objective.iloc[-1] < 10 * history.train_objective.iloc[0]


def test_a_diverging_mini_batch_run_names_a_sufficient_bound():
    rows = make_rows(scale=30.0)
    bound = largest_stable_step(rows, L2(0.1), batch_size=5)
    with pytest.raises(ValueError, match=f"learning_rate=0.1:.* here is {bound:.6g} .*sufficient bound") as caught:
        train(rows, L2(0.1), learning_rate=0.1)
    assert "sharp" not in str(caught.value)
    assert train(rows, L2(0.1), learning_rate=0.9 * bound).history.train_objective.iloc[-1] < 100


@pytest.mark.parametrize("l1_update", ["proximal", "subgradient"])
def test_with_an_l1_term_the_full_batch_bound_is_called_sufficient(l1_update):
    rows = make_rows()
    bound = largest_stable_step(rows, L1(0.1), batch_size=100)
    settings = {"batch_size": 100, "epochs": 300, "l1_update": l1_update}
    with pytest.raises(ValueError, match="sufficient bound"):
        train(rows, L1(0.1), learning_rate=1.05 * bound, **settings)
    history = train(rows, L1(0.1), learning_rate=0.95 * bound, **settings).history
    assert history.train_objective.iloc[-1] < history.train_objective.iloc[0]


def test_largest_stable_step_needs_rows():
    with pytest.raises(TypeError, match="largest_stable_step needs rows"):
        largest_stable_step(Moments.from_data(make_rows()))
