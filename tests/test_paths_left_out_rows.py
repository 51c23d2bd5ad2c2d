"""Leave-one-out of lasso and elastic net without n fits, against n fits."""

import numpy as np
import pytest

import bayesreg as br
from bayesreg.paths import left_out_rows
from bayesreg.selection.cross_validation import cross_validate
from bayesreg.selection.leave_one_out import leave_one_out


def correlated(n=40, d=8, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, d)) @ np.linalg.cholesky(0.2 * np.eye(d) + 0.8).T + 3.0
    return features, features @ random.standard_normal(d) + random.standard_normal(n)


def binary(seed=1):
    random = np.random.default_rng(seed)
    features = random.integers(0, 2, (40, 8)).astype(float)
    return features, features[:, :3].sum(1) + random.integers(0, 2, 40)


def dominated(seed=2):
    features, target = correlated(seed=seed)
    features[7, 2] = 1e5
    features[:, 3] = 0.0
    features[11, 3] = 1.0  # a constant column without this row
    return features, target


def outlier(seed=3):
    features, target = correlated(seed=seed)
    target[5] = 1e6
    return features, target


def barely_more_rows(seed=4):
    return correlated(n=11, d=9, seed=seed)


def scales(seed=5):
    features, target = correlated(seed=seed)
    return features * np.geomspace(1e-4, 1e4, 8), target


def constant_target(seed=6):
    return correlated(seed=seed)[0], np.full(40, 2.0)


def apart_in_one_row(seed=7):
    """Without row 4 two columns are the same, without row 8 another is the sum of two: fits are not unique."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((40, 8))
    features[:, 1] = features[:, 0]
    features[4, 1] += 1.0
    features[:, 5] = features[:, 6] + features[:, 7]
    features[8, 5] -= 2.0
    return features, features[:, :2].sum(1) + features[:, 5] + random.standard_normal(40)


DESIGNS = (correlated, binary, dominated, outlier, barely_more_rows, scales, constant_target, apart_in_one_row)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["l1", "elasticnet"])
@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.__name__)
def test_it_is_n_fits(design, kind, intercept):
    data = br.RegressionData(*design())
    top = float(br.path(data, kind, intercept=intercept).lambdas[0])
    lambdas = np.random.default_rng(0).permutation(top * np.geomspace(1.5, 1e-4, 30))
    options = {"l1_ratio": 0.3} if kind == "elasticnet" else {}
    found = leave_one_out(br.path(data, kind, lambdas, intercept=intercept, **options), data)
    fits = cross_validate(data, kind, lambdas, folds=data.num_rows, intercept=intercept, **options)
    # Between n certified fits and these both are off by rounding, of which a shared set leaves no more.
    np.testing.assert_allclose(found.loss, fits.loss, rtol=1e-9)
    assert found.best == fits.best
    # The folds are in another order.
    np.testing.assert_allclose(
        np.sort(found.errors), np.sort(fits.fold_losses[:, fits.best]), rtol=1e-8, atol=1e-12 * float(found.loss.max())
    )


def test_the_errors_are_in_the_order_of_the_rows():
    features, target = correlated()
    data = br.RegressionData(features, target)
    found = leave_one_out(br.path(data, "l1", [0.05]), data)
    others = np.arange(40) != 9
    fit = br.path(br.RegressionData(features[others], target[others]), "l1", [0.05])
    error = target[9] - features[9] @ fit.weights[0].numpy() - float(fit.intercepts[0])
    assert float(found.errors[9]) == pytest.approx(error**2 / 2, rel=1e-10)


def test_few_rows_are_fitted_anew_and_only_those_that_must_be(monkeypatch):
    fitted = []
    whole = left_out_rows.LeftOutRows._from_other_rows
    monkeypatch.setattr(
        left_out_rows.LeftOutRows,
        "_from_other_rows",
        lambda self, row, l1, l2: fitted.append((row, len(l1))) or whole(self, row, l1, l2),
    )
    for design, expected in ((correlated, []), (dominated, [(7, 100), (11, 100)]), (outlier, [(5, 100)])):
        for kind in ("l1", "elasticnet"):
            fitted.clear()
            data = br.RegressionData(*design())
            leave_one_out(br.path(data, kind), data)
            assert fitted == expected, (design.__name__, kind)


@pytest.mark.parametrize("where", ["sets", "signs"])
def test_a_wrong_set_to_begin_with_is_exchanged(where):
    """The set of all rows is where to begin, and no more: another one leads to the same fits."""
    data = br.RegressionData(*correlated())
    design = br.paths.centred_design.centred_design(data)
    l1, l2 = np.array([0.05]), np.array([0.01])
    rows = left_out_rows.LeftOutRows(data, design, l1, l2)
    begin = np.ones(8) if where == "sets" else -np.sign(br.path(data, "l1", [0.05]).weights[0].numpy())
    found = rows.residuals(0, begin)
    right = rows.residuals(0, br.path(data, "elasticnet", [0.06], l1_ratio=5 / 6).weights[0].numpy())
    np.testing.assert_allclose(found, right, rtol=1e-10)
    assert rows.largest_gap < 1e-10


def test_columns_one_at_a_time_come_to_the_same_fits(monkeypatch):
    """What is left to where exchanging all at once goes round in circles, from a wrong set to begin with."""
    data = br.RegressionData(*correlated())
    design = br.paths.centred_design.centred_design(data)
    rows = left_out_rows.LeftOutRows(data, design, np.array([0.05]), np.array([0.0]))
    expected = rows.residuals(0, br.path(data, "l1", [0.05]).weights[0].numpy())
    monkeypatch.setattr(left_out_rows, "_ALL_AT_ONCE", 0)
    monkeypatch.setattr(left_out_rows, "_MOST_EXCHANGES", 2**8)
    monkeypatch.setattr(left_out_rows.LeftOutRows, "_from_other_rows", None)  # none is left to it
    np.testing.assert_allclose(rows.residuals(0, np.zeros(8)), expected, rtol=1e-10)


def test_dependent_columns_and_few_rows_are_fitted_n_times():
    features, target = correlated()
    twice = br.RegressionData(np.column_stack([features, features[:, 0]]), target)
    wide = br.RegressionData(features[:6], target[:6])
    for data in (twice, wide):
        lambdas = [0.5, 0.05]
        found = leave_one_out(br.path(data, "l1", lambdas), data)
        fits = cross_validate(data, "l1", lambdas, folds=data.num_rows)
        np.testing.assert_allclose(found.loss, fits.loss, rtol=1e-12)


def test_many_rows_are_done_in_blocks_on_threads(monkeypatch):
    data = br.RegressionData(*correlated())
    fits = br.path(data, "l1")
    found = leave_one_out(fits, data)
    monkeypatch.setattr(left_out_rows, "_NUMBERS_AT_ONCE", 8 * 7)
    again = leave_one_out(fits, data)
    np.testing.assert_allclose(found.loss, again.loss, rtol=1e-13)


def test_a_gap_that_is_not_reached_is_said(monkeypatch):
    data = br.RegressionData(*correlated())
    fits = br.path(data, "l1", [0.05])
    monkeypatch.setattr(left_out_rows.LeftOutRows, "_count", lambda self, _: setattr(self, "largest_gap", 1e-3))
    with pytest.warns(br.ConvergenceWarning, match="leave-one-out has a relative gap of 1.0e-03"):
        leave_one_out(fits, data)
