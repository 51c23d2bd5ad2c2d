"""Certified lasso and elastic-net fits for many strengths."""

import numpy as np
import pytest
from coordinate_descent import solve
from path_designs import KINDS, design_of, gap_from_rows

import bayesreg as br
import bayesreg.paths.centred_design
import bayesreg.paths.lasso_path
from bayesreg.moments import Moments
from bayesreg.paths.centred_design import CentredRows, centred_design
from bayesreg.paths.lasso_path import fit_path


def lambdas_of(data, count=30, share=1e-3, intercept=True):
    largest = np.abs(centred_design(data, intercept).correlations).max()
    return largest * np.geomspace(1.0, share, count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_every_fit_on_hard_designs_has_a_gap_of_1e_10(kind, ridge):
    for seed in range(15):
        data = design_of(kind, seed)
        if np.ptp(data.target) == 0 or not np.abs(centred_design(data).correlations).max() > 1e-12:
            continue
        lambdas = lambdas_of(data)
        fits = fit_path(centred_design(data), lambdas, ridge * lambdas)
        assert fits.gaps.max() <= 1e-10
        for k in range(0, 30, 7):
            # The difference of the objectives has their rounding.
            assert gap_from_rows(data, fits.weights[k], lambdas[k], ridge * lambdas[k]) <= 1e-10 + 1e-13


@pytest.mark.parametrize("kind", ["plain", "wide", "duplicates", "ties"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_it_agrees_with_coordinate_descent(kind, ridge):
    data = design_of(kind, 3)
    lambdas = lambdas_of(data, 5, 0.05)
    fits = fit_path(centred_design(data), lambdas, ridge * lambdas)
    for weights, l1 in zip(fits.weights, lambdas, strict=True):
        oracle = np.asarray(solve(data.features, data.target, l1, ridge * l1), dtype=float)
        # Not the weights: with dependent columns they need not be unique. Fit and objective are.
        np.testing.assert_allclose(
            data.features @ (weights - oracle),
            np.full(data.num_rows, (data.features @ (weights - oracle)).mean()),
            atol=1e-7,
        )
        assert abs(np.abs(weights).sum() - np.abs(oracle).sum()) < 1e-7


def test_a_fit_that_the_gram_spoils_is_found_on_the_root(monkeypatch):
    data = design_of("plain", 1)
    lambdas = lambdas_of(data, 10)
    right = fit_path(centred_design(data), lambdas, np.zeros(10)).weights
    good = bayesreg.paths.lasso_path._follow

    def spoilt(*arguments):
        weights = good(*arguments)
        weights[3] *= 1.1
        weights[7] = np.nan
        return weights

    monkeypatch.setattr(bayesreg.paths.lasso_path, "_follow", spoilt)
    fits = fit_path(centred_design(data), lambdas, np.zeros(10))
    np.testing.assert_allclose(fits.weights, right, atol=1e-9)
    assert fits.gaps.max() < 1e-10


def test_gaps_are_those_of_the_certificate():
    data = design_of("plain", 5)
    rng = np.random.default_rng(0)
    lambdas = lambdas_of(data, 6, 0.1)
    weights = rng.standard_normal((6, data.num_features))
    design = centred_design(data)
    squares, correlations = design.residuals(weights)
    for ridge in (0.0, 0.4):
        gaps = bayesreg.paths.lasso_path.relative_gaps(design, weights, squares, correlations, lambdas, ridge * lambdas)
        for w, l1, gap in zip(weights, lambdas, gaps, strict=True):
            assert gap == pytest.approx(gap_from_rows(data, w, l1, ridge * l1), rel=1e-9)
            certificate = br.certify(w, data, br.Penalty(l1=l1, l2=ridge * l1))
            assert certificate.relative_gap <= gap * (1 + 1e-9)  # the best multiple, and not one of at most 1


def test_far_more_columns_than_rows_go_through_a_working_set(monkeypatch):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((20, 600))
    data = br.RegressionData(x, x[:, :5].sum(1) + 0.5 * rng.standard_normal(20))
    whole = fit_path(centred_design(data), lambdas_of(data, 40, 1e-2), np.zeros(40))
    sizes = []
    gram = CentredRows.gram
    monkeypatch.setattr(bayesreg.paths.lasso_path, "_MANY_COLUMNS", 0)
    monkeypatch.setattr(
        CentredRows, "gram", lambda self, *chosen: (sizes.append(len(chosen[0])), gram(self, *chosen))[1]
    )
    design = centred_design(data)
    assert isinstance(design, CentredRows)
    fits = fit_path(design, lambdas_of(data, 40, 1e-2), np.zeros(40))
    assert max(sizes) < 300
    np.testing.assert_allclose(fits.weights, whole.weights, atol=1e-9)
    assert fits.gaps.max() < 1e-10


@pytest.mark.parametrize("intercept", [True, False])
def test_rows_and_moments_make_the_same_design(intercept):
    rng = np.random.default_rng(5)
    data = br.RegressionData(rng.standard_normal((7, 30)) + 1e6, rng.standard_normal(7) + 1e6)
    by_moments = centred_design(Moments.from_data(data), intercept)
    assert not isinstance(by_moments, CentredRows)
    by_rows = centred_design(data, intercept)
    assert isinstance(by_rows, CentredRows)
    weights = rng.standard_normal((3, 30))
    size = 1.0 if intercept else 1e12
    np.testing.assert_allclose(by_rows.gram(), by_moments.gram(), atol=1e-9 * size)
    np.testing.assert_allclose(by_rows.gram(np.array([2, 9])), by_moments.gram(np.array([2, 9])), atol=1e-9 * size)
    np.testing.assert_allclose(by_rows.correlations, by_moments.correlations, atol=1e-9 * size)
    assert by_rows.mean_square == pytest.approx(by_moments.mean_square, rel=1e-9)
    for found, wanted in zip(by_rows.residuals(weights), by_moments.residuals(weights), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-7 * size)
    np.testing.assert_allclose(by_rows.root.T @ by_rows.root, by_moments.root.T @ by_moments.root, atol=1e-7 * size)
    np.testing.assert_allclose(by_rows.feature_means, by_moments.feature_means)


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_ties_leave_no_weights_of_rounding(unit):
    # Two means, 20 and 20: half of the columns come in at once, and the others stay on their bound from there on.
    data = br.RegressionData(np.eye(40) * unit, np.repeat([1.0, 2.0], 20) / unit)
    fits = br.path(data, "l1")
    assert fits.num_nonzero.unique().tolist() == [0, 20]
    assert float(fits.relative_gaps.max()) < 1e-13


@pytest.mark.parametrize("where", ["features", "target"])
@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_few_rows_too_large_are_refused_by_name(kind, where):
    rows = np.array([[1.7e308, 1.0, 0.0], [-1.7e308, 2.0, 1.0], [1.7e308, 0.0, 3.0]])
    features, target = (rows, [1.0, 2.0, 4.0]) if where == "features" else (rows[:, 1:] @ np.ones((2, 3)), rows[:, 0])
    with pytest.raises(ValueError, match=f"column '{'x0' if where == 'features' else 'y'}' is too large"):
        br.path(br.RegressionData(features, target), kind, [0.1])
