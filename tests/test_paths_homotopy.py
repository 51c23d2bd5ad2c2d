"""The lasso path on a Gram: knots, exchanges, and what becomes of the inverse on the way."""

import numpy as np
import pytest
from path_designs import KINDS, design_of
from sklearn.linear_model import lasso_path

import bayesreg.paths.homotopy
from bayesreg.moments import Moments
from bayesreg.paths.gram_active_set import GramActiveSet
from bayesreg.paths.homotopy import PathFollower, follow, follow_elastic_net


def problem(seed=0, n=60, d=12):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + rng.standard_normal((n, 1))
    y = x @ rng.standard_normal(d) + rng.standard_normal(n)
    return x.T @ x / n, x.T @ y / n, x, y


def kkt_violation(gram, correlation, weights, l1, l2=0.0):
    gradient = correlation - gram @ weights - l2 * weights
    off = np.where(weights != 0, np.abs(gradient - l1 * np.sign(weights)), np.maximum(np.abs(gradient) - l1, 0))
    return off.max() / np.abs(correlation).max()


def test_the_path_is_that_of_scikit_learn():
    gram, correlation, x, y = problem()
    lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-3, 40)
    weights, done = follow(gram, correlation, lambdas, 12)
    assert done == 40
    expected = lasso_path(x, y, alphas=lambdas, tol=1e-14, max_iter=100_000)[1].T
    np.testing.assert_allclose(weights, expected, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_columns_leave_whatever_the_units(unit):
    gram, correlation, *_ = problem(1, n=20, d=18)
    lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-3, 40)
    expected, done = follow(gram, correlation, lambdas, 18)
    assert done == 40
    assert ((expected[:-1] != 0) & (expected[1:] == 0)).any()  # a column does leave
    weights, done = follow(gram * unit**2, correlation * unit**2, lambdas * unit**2, 18)
    assert done == 40
    np.testing.assert_allclose(weights, expected, atol=1e-9)


@pytest.mark.parametrize("jumps", [False, True])
def test_knots_and_exchanges_meet_the_conditions_of_optimality(monkeypatch, jumps):
    monkeypatch.setattr(bayesreg.paths.homotopy, "_LARGE_SET", 1 if jumps else 10**9)
    monkeypatch.setattr(bayesreg.paths.homotopy, "_MANY_KNOTS", 0)
    for seed in range(5):
        gram, correlation, *_ = problem(seed, n=300, d=150)
        lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-4, 25)
        weights, done = follow(gram, correlation, lambdas, 150)
        assert done == 25
        assert max(kkt_violation(gram, correlation, w, l1) for w, l1 in zip(weights, lambdas, strict=True)) < 1e-12


def test_exchanges_are_used_where_there_are_many_knots(monkeypatch):
    gram, correlation, *_ = problem(0, n=300, d=150)
    lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-4, 25)
    monkeypatch.setattr(bayesreg.paths.homotopy, "_LARGE_SET", 40)
    taken = []
    cross = bayesreg.paths.homotopy.PathFollower.cross
    monkeypatch.setattr(
        bayesreg.paths.homotopy.PathFollower,
        "cross",
        lambda self, *event: (taken.append(event), cross(self, *event))[1],
    )
    with_exchanges = follow(gram, correlation, lambdas, 150)[0]
    few = len(taken)
    monkeypatch.setattr(bayesreg.paths.homotopy, "_LARGE_SET", 10**9)
    taken.clear()
    knot_by_knot = follow(gram, correlation, lambdas, 150)[0]
    assert few < 0.8 * len(taken)
    np.testing.assert_allclose(with_exchanges, knot_by_knot, atol=1e-11)


def test_a_path_stops_where_the_set_is_full():
    gram, correlation, *_ = problem(0, n=300, d=50)
    lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-3, 60)
    everything = follow(gram, correlation, lambdas, 50)[0]
    weights, done = follow(gram, correlation, lambdas, 7)
    assert 0 < done < 60
    np.testing.assert_allclose(weights[:done], everything[:done], atol=1e-13)
    assert (everything[done] != 0).sum() > 7


@pytest.mark.parametrize("kind", KINDS)
def test_hard_designs_to_a_gap_of_1e_10_but_where_the_gram_has_no_digits(kind):
    reached = total = 0
    for seed in range(25):
        moments = Moments.from_data(design_of(kind, seed))
        gram, correlation = moments.Sxx / moments.num_rows, moments.Sxy / moments.num_rows
        if not np.abs(correlation).max() > 1e-14:
            continue
        lambdas = np.abs(correlation).max() * np.geomspace(1.0, 1e-3, 30)
        weights, done = follow(np.ascontiguousarray(gram), correlation, lambdas, moments.num_rows)
        total += 1
        off = [kkt_violation(gram, correlation, w, l1) for w, l1 in zip(weights, lambdas, strict=True)]
        reached += done == 30 and max(off) < 1e-8
    assert total > 15
    assert reached >= (0.9 if kind == "polynomial" else 0.4 if kind == "nearly equal" else 1.0) * total


def test_elastic_net_meets_its_conditions():
    gram, correlation, *_ = problem(3, n=20, d=40)
    lambdas = np.abs(correlation).max() * np.geomspace(2.0, 1e-3, 30)
    before = gram.copy()
    weights = follow_elastic_net(gram, correlation, 0.5 * lambdas, 0.5 * lambdas)
    off = [kkt_violation(gram, correlation, w, l1 / 2, l1 / 2) for w, l1 in zip(weights, lambdas, strict=True)]
    assert max(off) < 1e-12
    assert np.array_equal(gram, before)  # the ridge is on a copy


def linear_functions(gram, correlation, active, signs):
    """N and p in one vector, -D and q in the other, by solving anew."""
    own = gram[np.ix_(active, active)]
    constant, slope = np.linalg.solve(own, correlation[active]), np.linalg.solve(own, signs)
    functions = np.stack([correlation - gram[:, active] @ constant, gram[:, active] @ slope])
    functions[:, active] = constant, -slope
    return functions


def assert_state(state, gram, correlation):
    k = state.size
    expected = linear_functions(gram, correlation, state.active[:k], state.signs[state.active[:k]])
    for found, wanted in zip(state.functions, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-9 * np.abs(wanted).max())
    assert not state.outside[state.active[:k]].any()
    assert np.flatnonzero(state.signs).tolist() == sorted(state.active[:k])


def test_columns_enter_and_leave_singly_and_together():
    gram, correlation, *_ = problem(1, d=12)
    state = GramActiveSet(gram.copy(), correlation, 12)
    for j, sign in ((3, 1.0), (7, -1.0), (0, 1.0), (11, 1.0)):
        state.enter(j, sign)
        assert_state(state, gram, correlation)
    state.leave(1)
    assert_state(state, gram, correlation)
    assert sorted(state.active[: state.size]) == [0, 3, 11]
    kept = state.active[1]
    assert state.exchange(np.array([0, 2]), np.array([1, 2, 5]), np.array([1.0, -1.0, 1.0]))
    assert_state(state, gram, correlation)
    assert sorted(state.active[: state.size]) == sorted([kept, 1, 2, 5])
    state.add_to_diagonal(0.3)
    assert_state(state, gram + 0.3 * np.eye(12), correlation)


def test_a_dependent_column_is_refused_until_one_leaves():
    gram, correlation, x, y = problem(2, d=4)
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    gram, correlation = x.T @ x / len(x), x.T @ y / len(x)
    state = GramActiveSet(gram, correlation, 5)
    for j in (0, 1, 4):
        state.enter(j, 1.0)
    assert state.size == 2
    assert not state.outside[4]
    assert not state.exchange(np.array([], dtype=int), np.array([4]), np.array([1.0]))
    state.leave(0)
    assert state.outside[4]
    state.enter(4, 1.0)
    assert state.size == 2
    assert_state(state, gram, correlation)


def largest_error(state, gram, correlation):
    k = state.size
    expected = linear_functions(gram, correlation, state.active[:k], state.signs[state.active[:k]])
    return np.abs(state.functions / expected - 1.0).max()


def test_a_set_that_was_exchanged_is_solved_for_anew():
    gram, correlation, *_ = problem(0, n=300, d=30)
    largest = np.abs(correlation).max()
    path = PathFollower(gram, correlation, 30)
    assert path.jump_to(0.3 * largest)
    path.set.functions *= 1.0 + 1e-7  # what rounding makes of them on a long way
    before = path.set.size
    assert path.jump_to(0.01 * largest)
    assert path.set.size > before
    assert largest_error(path.set, gram, correlation) < 1e-11
    path.set.functions *= 1.0 + 1e-7
    columns = path.set.active[:5].copy()
    path.set_to(columns, path.set.signs[columns])
    assert path.set.size == 5
    assert largest_error(path.set, gram, correlation) < 1e-11
