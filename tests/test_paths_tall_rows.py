"""Lasso paths of more rows than columns, on the rows of the Gram that they ask for."""

import numpy as np
import pytest
import torch
from path_designs import gap_from_rows
from threadpoolctl import threadpool_limits

import bayesreg as br
from bayesreg.moments import Moments
from bayesreg.paths import homotopy, lasso_path, tall_rows
from bayesreg.paths.centred_design import centred_design
from bayesreg.paths.lasso_path import fit_path
from bayesreg.paths.tall_rows import TallRows


@pytest.fixture(autouse=True)
def few_columns_are_many(monkeypatch):
    monkeypatch.setattr(tall_rows, "WIDE", 20)
    monkeypatch.setattr(lasso_path, "_FIRST_ROWS", 8)
    monkeypatch.setattr(lasso_path, "_FEWEST_ROWS", 4)


def rows(n=300, d=60, active=5, noise=0.3, correlation=0.0, offset=0.1, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, d))
    for j in range(1, d if correlation else 0):
        features[:, j] = correlation * features[:, j - 1] + np.sqrt(1 - correlation**2) * features[:, j]
    target = features[:, : 3 * active : 3] @ random.choice([-1.0, 1.0], active) + noise * random.standard_normal(n)
    return br.RegressionData(features + offset, target + offset)


def with_columns(*others):
    plain = rows()
    return br.RegressionData(np.column_stack([plain.features, *others]), plain.target)


PLAIN = rows()
DESIGNS = {
    "sparse": rows(),
    "correlated": rows(correlation=0.9),
    "of much noise": rows(noise=5.0),
    "dense": rows(active=20),
    "of few rows more": rows(n=65),
    "fitted exactly": rows(noise=0.0),
    "with copies": with_columns(PLAIN.features[:, ::4], -PLAIN.features[:, 1::7]),
    "with near copies": with_columns(PLAIN.features[:, :3] + 1e-9 * rows(seed=1).features[:, :3]),
    "of other lengths": br.RegressionData(PLAIN.features * np.geomspace(1e-6, 1e6, 60), PLAIN.target),
    "of ties": br.RegressionData(np.sign(PLAIN.features), np.round(PLAIN.target)),
}


def strengths(data, share, intercept=True, count=25):
    return np.abs(centred_design(data, intercept).correlations).max() * np.geomspace(1.0, share, count)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.03, 1e-3])
@pytest.mark.parametrize("name", DESIGNS)
def test_it_is_the_path_of_all_second_moments(name, share, intercept):
    data = DESIGNS[name]
    lambdas = strengths(data, share, intercept)
    found = br.path(data, "l1", lambdas, intercept=intercept)
    assert isinstance(found._design, TallRows)
    expected = br.path(Moments.from_data(data), "l1", lambdas, intercept=intercept)
    assert found.relative_gaps.max() <= 1e-10
    for k in range(0, 25, 6):
        gap = gap_from_rows(data, found.weights[k].numpy(), lambdas[k], intercept=intercept)
        assert gap <= 1e-10 + 1e-13  # of the difference of two objectives
    fitted = data.features @ (found.weights - expected.weights).numpy().T
    np.testing.assert_allclose(fitted - intercept * fitted.mean(axis=0), 0.0, atol=1e-8)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-8, atol=1e-13 * float(expected.losses.max()))
    np.testing.assert_allclose(found.weights.abs().sum(1), expected.weights.abs().sum(1), rtol=1e-6)
    if "copies" not in name:
        np.testing.assert_allclose(found.intercepts, expected.intercepts, atol=1e-9)


def test_rows_are_made_of_columns_that_enter_or_of_all_where_many_do(monkeypatch):
    calls, make, make_all = [], TallRows.make, TallRows.make_all
    monkeypatch.setattr(TallRows, "make", lambda self, columns: (calls.append(len(columns)), make(self, columns)))
    monkeypatch.setattr(TallRows, "make_all", lambda self: (calls.append("all"), make_all(self)))
    many = rows(n=500, d=200, correlation=0.9)
    sparse = br.path(many, "l1", strengths(many, 0.1))
    made, used = sparse._design.made, (sparse.weights != 0).any(0).numpy()
    assert made[used].all() and 8 < made.sum() == sum(calls) <= 24
    assert "moments" not in vars(sparse._design)
    # Of much noise many enter, as the first ones tell; far below the noise they do in any case.
    for share, expected in (0.05, [8, "all"]), (1e-3, ["all"]):
        calls.clear()
        dense = br.path(DESIGNS["of much noise"], "l1", strengths(DESIGNS["of much noise"], share))
        assert calls == expected and dense._design.made.all() and "moments" not in vars(dense._design)


@pytest.mark.parametrize("intercept", [True, False])
def test_what_is_made_is_what_the_moments_hold(intercept):
    data = rows(n=301)
    design, moments = TallRows.of(data, intercept), centred_design(Moments.from_data(data), intercept)
    for name in ("correlations", "deviations", "feature_means"):
        np.testing.assert_allclose(getattr(design, name), getattr(moments, name), atol=1e-14)
    assert design.target_mean == pytest.approx(moments.target_mean, rel=1e-13)
    assert design.mean_square == pytest.approx(moments.mean_square, rel=1e-13)
    gram = moments.gram()
    np.testing.assert_allclose(design.rows_of_gram.diagonal(), gram.diagonal(), rtol=1e-13)
    design.make(np.array([7, 3]))
    assert np.flatnonzero(design.made).tolist() == [3, 7]
    np.testing.assert_allclose(design.rows_of_gram[[3, 7]], gram[[3, 7]], atol=1e-13)
    weights = np.zeros((2, 60))
    weights[:, [3, 7]] = [[1.0, 2.0], [-1.0, 0.5]]
    by_rows = design.residuals(weights)
    assert "moments" not in vars(design)
    design.make_all()
    np.testing.assert_allclose(design.rows_of_gram, gram, atol=1e-13)
    weights[:, 0] = 1.0
    for found, of_more, one in zip(by_rows, design.residuals(weights), (0, 1), strict=True):
        weights[:, 0] = 0.0
        np.testing.assert_allclose(found, moments.residuals(weights)[one], rtol=1e-12, atol=1e-13)
        weights[:, 0] = 1.0
        np.testing.assert_allclose(of_more, moments.residuals(weights)[one], rtol=1e-12, atol=1e-13)
    assert design.from_rows is moments.from_rows is False
    np.testing.assert_allclose(design.spectrum.singular_values, moments.spectrum.singular_values, rtol=1e-10)


def test_weights_of_columns_that_are_not_there_or_nearly_copies_go_by_the_moments():
    data = DESIGNS["with near copies"]
    design = TallRows.of(data, True)
    weights = np.zeros((1, 63))
    weights[0, [0, 60]] = 1.0
    design.make(np.array([0]))
    one = design.residuals(weights)
    assert "moments" in vars(design) and design.moments.factor is not None
    design.make(np.array([60]))
    for found, again, right in zip(one, design.residuals(weights), design.moments.residuals(weights), strict=True):
        assert np.array_equal(found, again) and np.array_equal(found, right / 300)


@pytest.mark.parametrize(
    "data",
    [
        Moments.from_data(PLAIN),
        br.RegressionData(PLAIN.features[:, :19], PLAIN.target),
        br.RegressionData(PLAIN.features[:60], PLAIN.target[:60]),
        rows(offset=2.0),
        with_columns(np.ones(300)),
        with_columns(np.zeros(300)),
        with_columns(1e-170 * PLAIN.target),
        with_columns(1e160 * PLAIN.target),
        br.RegressionData(PLAIN.features, np.zeros(300)),
    ],
    ids=["moments", "few columns", "few rows", "far", "constant", "zeros", "tiny", "huge", "no target"],
)
def test_other_data_are_not_such_rows(data):
    assert TallRows.of(data, True) is None


def test_without_an_intercept_means_are_of_no_account():
    assert TallRows.of(rows(offset=2.0), False) is not None
    for column in (np.zeros(300), 1e-170 * PLAIN.target, 1e160 * PLAIN.target):
        assert TallRows.of(with_columns(column), False) is None


@pytest.mark.parametrize(("size", "says"), [(1e-170, "varies too little"), (1e160, "too large")])
def test_columns_beyond_float64_are_refused_by_name(size, says):
    data = with_columns(size * PLAIN.target)
    with pytest.raises(ValueError, match=f"'x60' (is|varies) {says.removeprefix('varies ')}"):
        br.path(data, "l1", [1.0])


@pytest.mark.parametrize(("name", "share"), [("sparse", 0.5), ("of much noise", 0.2), ("dense", 0.3)])
def test_an_exchange_that_asks_for_rows_that_are_not_there_takes_the_knots(name, share, monkeypatch):
    data = DESIGNS[name]
    lambdas = strengths(data, share, count=6)
    expected = fit_path(centred_design(data), lambdas, np.zeros(6))
    monkeypatch.setattr(homotopy, "_LARGE_SET", 2)
    monkeypatch.setattr(homotopy, "_MANY_KNOTS", 1)
    monkeypatch.setattr(lasso_path, "_FIRST_ROWS", 2)
    monkeypatch.setattr(lasso_path, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(lasso_path, "_on_root", None)  # where wrong weights would be put right
    design = TallRows.of(data, True)
    design.rows_of_gram[:] = np.diag(design.rows_of_gram.diagonal())  # rows as could be
    found = fit_path(design, lambdas, np.zeros(6))
    assert not design.made.all()
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-10)
    assert found.gaps.max() < 1e-12


def test_strengths_above_all_correlations_leave_nothing():
    lambdas = strengths(PLAIN, 1.0, count=1) * [3.0, 2.0, 1.0]
    assert not br.path(PLAIN, "l1", lambdas).weights.any()


def test_digits_do_not_depend_on_the_number_of_threads():
    data, before = rows(n=4000, d=100), torch.get_num_threads()
    lambdas = strengths(data, 0.1)
    several = br.path(data, "l1", lambdas).weights
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            assert br.path(data, "l1", lambdas).weights.equal(several)
    finally:
        torch.set_num_threads(before)


def test_the_likely_columns_are_those_whose_correlations_are_larger_than_the_last_strength():
    gram, correlation = np.eye(6), np.array([1.0, -0.8, 0.0, 0.3, -0.6, 0.7])
    made = np.array([True, False, False, False, False, True])
    path = homotopy.PathFollower(gram, correlation, 6, made=made)
    weights, reached = path.advance(np.array([0.9, 0.1]))
    assert reached == 1 and path.missing == 1 and weights[0] == pytest.approx([0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
    columns, number = path.likely(0.5)
    assert columns.tolist() == [1, 4, 3] and number == 2
    made[[1, 3, 4]] = True
    weights, reached = path.advance(np.array([0.1]))
    assert reached == 1 and path.missing is None
    assert weights[0] == pytest.approx([0.9, -0.7, 0.0, 0.2, -0.5, 0.6])


def test_the_column_that_is_missing_comes_first_though_others_have_larger_correlations():
    gram = np.array([[1.0, -0.3, 0.6], [-0.3, 1.0, 0.0], [0.6, 0.0, 1.0]])
    path = homotopy.PathFollower(gram, np.array([1.0, 0.5, 0.6]), 3, made=np.array([True, False, False]))
    path.advance(np.array([0.1]))
    assert path.missing == 1 and path.likely(0.1)[0].tolist() == [1, 2]
