"""Folds from one pass: the same losses as fitting each fold from its rows."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LassoCV
from sklearn.model_selection import KFold

import bayesreg as br
import bayesreg.paths.centred_design
import bayesreg.selection.cross_validation


@pytest.fixture(scope="module")
def diabetes():
    return br.load_diabetes().standardized()


def test_it_is_lasso_cv(diabetes):
    lambdas = np.geomspace(0.5, 0.002, 15)
    found = br.cross_validate(diabetes, "l1", lambdas, folds=10, seed=3)
    splits = KFold(10, shuffle=True, random_state=3)
    peer = LassoCV(alphas=lambdas, cv=splits, tol=1e-12, max_iter=10**6).fit(diabetes.features, diabetes.target)
    order = np.argsort(-peer.alphas_)
    np.testing.assert_allclose(found.fold_losses, peer.mse_path_[order].T / 2, rtol=1e-8)
    assert float(found.lambdas[found.best]) == pytest.approx(peer.alpha_)


def by_hand(data, kind, lambdas, folds, seed, intercept):
    losses = []
    for kept, held in KFold(folds, shuffle=True, random_state=seed).split(data.features):
        part = br.RegressionData(data.features[kept], data.target[kept])
        fits = br.path(part, kind, lambdas, intercept=intercept)
        losses.append(fits.loss(br.RegressionData(data.features[held], data.target[held])).numpy())
    return np.array(losses)


@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("folds", [2, 7, 40])
def test_folds_are_fits_without_their_rows(kind, intercept, folds):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 5)) + 1e4
    data = br.RegressionData(x, x[:, 0] - x[:, 1] + rng.standard_normal(40))
    lambdas = [1.0, 0.1, 0.01]
    found = br.cross_validate(data, kind, lambdas, folds=folds, seed=0, intercept=intercept)
    expected = by_hand(data, kind, lambdas, folds, 0, intercept)
    # Residuals are known to the digits that the condition of the second moments leaves: about the origin, half of them.
    known_to = 4 * np.finfo(float).eps * np.linalg.cond(x - intercept * x.mean(axis=0)) ** 2
    np.testing.assert_allclose(found.fold_losses.sqrt(), np.sqrt(expected), rtol=1e-6, atol=known_to)
    assert found.fold_sizes.sum() == 40


def test_the_sums_of_many_folds_are_made_when_needed(monkeypatch, diabetes):
    lambdas = [0.1, 0.01]
    held = br.cross_validate(diabetes, "l1", lambdas, folds=20).fold_losses
    monkeypatch.setattr(bayesreg.selection.cross_validation, "_FEW_FOLDS", 1)
    np.testing.assert_allclose(br.cross_validate(diabetes, "l1", lambdas, folds=20).fold_losses, held, rtol=1e-10)


@pytest.mark.parametrize("intercept", [True, False])
def test_errors_too_small_for_the_sums_are_made_from_rows(monkeypatch, intercept):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 4))
    data = br.RegressionData(x, x @ [3.0, -2.0, 1.0, 0.5] + 3e-4 * rng.standard_normal(300))
    lambdas = [1.0, 1e-8]  # held-out mean squares of about 1 and 1e-7
    expected = by_hand(data, "l2", lambdas, 5, 0, intercept)
    module, made = bayesreg.selection.cross_validation, []
    from_rows = module._from_rows
    monkeypatch.setattr(
        module, "_from_rows", lambda weights, *rest: made.append(len(weights)) or from_rows(weights, *rest)
    )
    found = br.cross_validate(data, "l2", lambdas, folds=5, intercept=intercept).fold_losses
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert made == [1] * 5


def test_an_offset_does_not_enter(diabetes):
    x = np.round(diabetes.features * 1024) / 1024  # so that the offset rounds nothing
    near, far = (br.RegressionData(x + offset, diabetes.target) for offset in (0.0, 2.0**27))
    found = [br.cross_validate(data, "l1", [0.1, 0.01]).fold_losses for data in (near, far)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


def test_fewer_rows_than_columns():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((15, 50))
    data = br.RegressionData(x, x[:, 0] + 0.1 * rng.standard_normal(15))
    for kind in ("l2", "l1"):
        found = br.cross_validate(data, kind, [0.3, 0.03], folds=5)
        np.testing.assert_allclose(found.fold_losses, by_hand(data, kind, [0.3, 0.03], 5, 0, True), rtol=1e-7)


def test_the_curve_and_what_it_chooses():
    lambdas = np.array([1.0, 0.5, 0.25, 0.125])
    losses = np.array([[4.0, 1.2, 1.0, 3.0], [6.0, 1.4, 1.0, 5.0], [5.0, 0.7, 1.3, 4.0]])
    sizes = torch.tensor([2, 1, 1])
    found = br.CrossValidation("l1", torch.tensor(lambdas), torch.tensor(losses), sizes)
    np.testing.assert_allclose(found.loss, np.average(losses, axis=0, weights=[2, 1, 1]))
    np.testing.assert_allclose(found.standard_error, losses.std(0, ddof=1) / np.sqrt(3))
    assert found.best == 2
    assert found.one_standard_error == (1 if found.loss[1] <= found.loss[2] + found.standard_error[2] else 2)
    assert list(found.to_frame().columns) == ["lambda", "loss", "standard_error"]


def test_of_equal_losses_the_largest_strength_is_chosen():
    same = br.CrossValidation("l1", torch.tensor([0.1, 1.0, 0.5]).double(), torch.ones(4, 3).double(), torch.ones(4))
    assert same.best == 1
    assert same.one_standard_error == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"folds": 1}, ValueError, "folds must be at least 2|folds must be"),
        ({"folds": 443}, ValueError, "folds must be at most the number of rows, 442, got 443"),
        ({"folds": 2.5}, TypeError, "folds"),
        ({"kind": "ridge"}, ValueError, "kind must be one of"),
        ({"lambdas": [-1.0]}, ValueError, "lambdas must be finite"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments(diabetes, arguments, error, message):
    with pytest.raises(error, match=message):
        br.cross_validate(diabetes, **arguments)


def test_moments_have_no_folds(diabetes):
    with pytest.raises(TypeError, match="rows"):
        br.cross_validate(br.Moments.from_data(diabetes))
