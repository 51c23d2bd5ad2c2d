"""The certificates of ridge: true of weights that are wrong, and sharp without a second look where they are right."""

import operator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import bayesreg as br
from bayesreg.paths import ridge_path
from bayesreg.paths.centred_design import centred_design

LAMBDAS = np.geomspace(1.0, 1e-4, 9)


def few_rows(copies=1):
    """12 rows of 60 columns, or the same rows again with other targets: of a residual that no weights fit."""
    random = np.random.default_rng(1)
    features = np.vstack([random.standard_normal((12, 60))] * copies) + 5.0
    return br.RegressionData(features, random.standard_normal(12 * copies))


def many_rows():
    random = np.random.default_rng(2)
    return br.RegressionData(random.standard_normal((60, 12)), 1e-3 * random.standard_normal(60))


def nearly_as_many_rows():
    random = np.random.default_rng(5)
    return br.RegressionData(random.standard_normal((12, 20)), random.standard_normal(12))


DESIGNS = {
    "few rows": few_rows(),
    "few rows, twice": few_rows(copies=2),
    "nearly as many rows": nearly_as_many_rows(),
    "many rows": many_rows(),
}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize(
    "wrong", [{}, {"projections": 1e-3}, {"singular_values": 1e-3}, {"left": 1e-3, "_basis": 1e-3}]
)
def test_a_first_bound_is_above_what_the_objective_lies_above_its_minimum(name, intercept, wrong, monkeypatch):
    monkeypatch.setattr(ridge_path, "_FAR_BELOW", np.inf)
    data = DESIGNS[name]
    design, n = centred_design(data, intercept), data.num_rows
    random = np.random.default_rng(3)
    for what, size in wrong.items():
        right = getattr(design.spectrum, what)
        if right is None:  # no left vectors of second moments, no others yet of few rows
            continue
        off = right + size * random.standard_normal(right.shape)
        design.spectrum = replace(design.spectrum, **{what: off})
    fits = ridge_path.fit_ridge(design, LAMBDAS)

    features, target = data.features - intercept * data.features.mean(0), data.target - intercept * data.target.mean()
    for strength, weights, gap in zip(LAMBDAS, fits.weights, fits.gaps, strict=True):
        hessian = features.T @ features / n + strength * np.eye(data.num_features)
        away = weights - np.linalg.solve(hessian, features.T @ target / n)
        excess = away @ hessian @ away / (target @ target / n)
        if wrong:
            assert 1e-16 < excess <= gap * (1.0 + 1e-6)
        else:
            assert gap < 1e-24 and excess < 1e-20


def exact_excess(features, target, weights, strength):
    """(J(w) - min J) / J(0): the gradient in fractions, so that nothing of it is rounding."""
    columns = [[Fraction(value) for value in column] for column in features.T.tolist()]
    weights, n = [Fraction(value) for value in weights.tolist()], len(target)
    left = [Fraction(value) for value in target.tolist()]
    for column, weight in zip(columns, weights, strict=True):
        left = [value - weight * own for value, own in zip(left, column, strict=True)]
    strength = Fraction(strength)
    gradient = np.array(
        [
            float(strength * weight - sum(map(operator.mul, column, left)) / n)
            for column, weight in zip(columns, weights, strict=True)
        ]
    )
    hessian = features.T @ features / n + float(strength) * np.eye(len(columns))
    return gradient @ np.linalg.solve(hessian, gradient) / (target @ target / n)


def test_a_bound_through_the_rows_products_holds_for_weights_that_are_right_but_for_rounding():
    data = DESIGNS["few rows"]
    design = centred_design(data, intercept=False)
    fits = ridge_path.fit_ridge(design, strengths := np.geomspace(1e8, 1e-4, 9))
    assert design.spectrum.row_products is not None
    excess = [
        exact_excess(data.features, data.target, *fit) for fit in zip(fits.weights, strengths.tolist(), strict=True)
    ]
    assert (np.array(excess) <= fits.gaps).all() and max(excess) > 0.0 and fits.gaps.max() < 1e-24


@pytest.mark.parametrize("strength", [0.0, 1e-200])
def test_a_target_far_longer_than_the_columns_has_its_certificate(strength):
    data = DESIGNS["few rows"]
    small = br.RegressionData(data.features * 1e-80, data.target * 1e80)
    with np.errstate(all="raise", under="ignore"):
        assert br.path(small, "l2", [strength], intercept=False).relative_gaps.max() < 1e-20


def test_a_second_look_is_taken_only_where_the_first_bound_is_no_use(monkeypatch):
    looked_at = []
    of_gradient = ridge_path._excess

    def counting(design, weights, lambdas, divisors=None):
        looked_at.extend([] if divisors is None else lambdas)
        return of_gradient(design, weights, lambdas, divisors)

    monkeypatch.setattr(ridge_path, "_excess", counting)
    for data in DESIGNS.values():
        assert br.path(data, "l2", LAMBDAS).relative_gaps.max() < 1e-24
    assert br.path(DESIGNS["few rows"], "l2", [0.0]).relative_gaps.max() < 1e-24  # they fit the target exactly
    assert not looked_at
    # What lies outside of the span is so up to rounding, and the dual point of no penalty must be so exactly.
    assert br.path(DESIGNS["few rows, twice"], "l2", [1.0, 0.0]).relative_gaps.max() < 1e-24
    assert looked_at == [0.0]


def test_ill_conditioned_rows_keep_their_digits():
    random = np.random.default_rng(4)
    features = 1e-3 * random.standard_normal((12, 60))
    features += 1e4 * np.outer(np.cos(np.arange(12)), np.sin(np.arange(60)))
    data = br.RegressionData(features, random.standard_normal(12))
    # The products of the rows have lost all but three digits here (gaps of 1e-3), at 1e7 the rows themselves as many.
    assert br.path(data, "l2", [1e6, 1e-8]).relative_gaps.max() < 1e-12
