"""Penalties: their value, steps and units, against brute force."""

import copy
import math
import pickle

import numpy as np
import pytest
from coordinate_descent import solve
from scipy.optimize import minimize_scalar

from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.objectives import CONVENTIONS
from bayesreg.penalties import L1, L2, Penalty

KNOWN = {"noise_scale": 0.8, "num_rows": 12, "steps_per_epoch": 4, "target_scale": 2.5}
GENERAL = Penalty(l1=[0.3, 0.0, 2.0], l2=[0.5, 1.5, 0.0], centre=[0.0, 1.0, -0.5])


def _problem(seed=0, n=30, d=4):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.logspace(-1, 2, d) + 10.0
    return RegressionData(features, 5.0 + features @ (rng.normal(size=d) / np.logspace(-1, 2, d)) + rng.normal(size=n))


def _solve(data, penalty):
    return solve(data.features, data.target, penalty.l1, penalty.l2, penalty.centre).astype(float)


def test_constructors():
    assert L2(3.0, "Torch-MSE-Mean") == Penalty(l2=3.0, convention="torch-mse-mean")
    assert L1(np.float32(0.5)) == Penalty(l1=0.5)
    assert (L2(3).kind, L1(3).kind, Penalty(l1=1, l2=1).kind, Penalty().kind) == ("l2", "l1", "elasticnet", "none")
    assert L2(0.0).kind == L1([0.0, 0.0]).kind == "none"
    assert isinstance(L2(np.int64(3)).l2, float) and isinstance(L2([1, 2]).l2, np.ndarray)


def test_strength_is_what_is_typed():
    assert L2(3.0, "sklearn-ridge").strength == 3.0
    assert L1(0.1, "celer").strength == 0.1
    for name in ("sklearn-elasticnet", "glmnet"):
        net = Penalty(l1=0.2 * 0.7, l2=0.2 * 0.3, convention=name)  # alpha=0.2, l1_ratio=0.7
        assert net.strength == pytest.approx(0.2, rel=1e-15) and net.l1_ratio == pytest.approx(0.7, rel=1e-15)
    assert Penalty().strength == 0.0 and Penalty().l1_ratio == 0.0
    assert L1([1.0, 0.0]).l1_ratio == 1.0
    with pytest.raises(ValueError, match="l1_ratio is one number"):
        _ = GENERAL.l1_ratio


def test_repr_evaluates_to_the_penalty():
    for penalty in (L2(3.0, "sklearn-ridge"), L1(0.1), Penalty(), Penalty(l1=0.1, l2=0.2, centre=1.0), GENERAL):
        assert eval(repr(penalty)) == penalty
    assert repr(L1(np.arange(9))) == "Penalty(l1=[0, 1, 2, 3, 4, 5, ...], convention='mean-half-squared')"


def test_equality_hash_and_pickle():
    assert L2([1.0, 2.0]) == L2((1, 2)) and hash(L2([1.0, 2.0])) == hash(L2((1, 2)))
    assert L2([1.0, 2.0]) != L2([1.0, 3.0]) and L2(1.0) != L1(1.0) and L2(1.0) != L2(1.0, "torch-mse-mean")
    assert L2(1.0) != 1.0 and len({L2(1.0), L2(1), GENERAL, pickle.loads(pickle.dumps(GENERAL))}) == 2


def test_no_copy_can_be_changed():
    for same in (copy.copy(GENERAL), copy.deepcopy(GENERAL), pickle.loads(pickle.dumps(GENERAL))):
        assert same == GENERAL
        for array in (same.l1, same.l2, same.centre):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0


def test_it_cannot_be_changed():
    strengths = np.array([1.0, 2.0])
    penalty = L2(strengths)
    strengths[0] = 5.0
    assert penalty == L2([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        penalty.l2[0] = 5.0
    with pytest.raises(AttributeError):
        penalty.l2 = 5.0


@pytest.mark.parametrize("name", ["l1", "l2", "centre"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, [1.0, math.nan], [[1.0]], []])
def test_bad_numbers(name, bad):
    with pytest.raises(ValueError, match=f"{name} of a penalty must be "):
        Penalty(**{name: bad})


@pytest.mark.parametrize("name", ["l1", "l2", "centre"])
@pytest.mark.parametrize("bad", ["0.1", None, [1.0, "a"], True, 1j, [[1.0], [1.0, 2.0]]])
def test_bad_types(name, bad):
    with pytest.raises(TypeError, match=f"{name} of a penalty must be a number or a vector of numbers"):
        Penalty(**{name: bad})


def test_refusals():
    for bad in (-1.0, [1.0, -1e-300]):
        with pytest.raises(ValueError, match="l2 of a penalty must be at least 0"):
            L2(bad)
    with pytest.raises(ValueError, match=r"their lengths are \{'l1': 2, 'l2': 3\}"):
        Penalty(l1=[1.0, 2.0], l2=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="sklearn-ridge .* has no L1 penalty; those with one: "):
        L1(1.0, "sklearn-ridge")
    with pytest.raises(ValueError, match="sklearn-ridge .* has no L1 penalty"):
        L1(0.0, "sklearn-ridge")
    with pytest.raises(ValueError, match="no Gaussian prior has its end point as MAP"):
        L2(0.1, "torch-adamw")
    with pytest.raises(ValueError, match="sklearn-lasso pulls the weights towards 0 and cannot hold centre=1.0"):
        Penalty(l1=1.0, centre=1.0, convention="sklearn-lasso")
    with pytest.raises(ValueError, match="torch-mse-mean has one strength for all features"):
        L2([1.0, 2.0], "torch-mse-mean")
    with pytest.raises(ValueError, match="l1_ratio is one number"):
        Penalty(l1=[1.0, 2.0], l2=[1.0, 1.0], convention="glmnet")
    assert Penalty(l1=[1.0, 2.0], l2=[0.5, 1.0], convention="glmnet").l1_ratio == pytest.approx(2 / 3)


def test_to_says_what_is_missing_and_refuses_what_the_other_cannot_hold():
    with pytest.raises(ValueError, match=r"converting L2 to sklearn-ridge needs num_rows= \(the number of rows"):
        L2(3.0).to("sklearn-ridge")
    with pytest.raises(ValueError, match="sklearn-lasso .* has no L2 penalty"):
        L2(3.0).to("sklearn-lasso")
    with pytest.raises(ValueError, match="cannot hold centre=1.0"):
        Penalty(l2=1.0, centre=1.0).to("sklearn-ridge", num_rows=3)
    with pytest.raises(TypeError, match="unknown argument 'rows'"):
        L2(3.0).to("sklearn-ridge", rows=20)
    with pytest.raises(ValueError, match="underflows to 0"):
        L2(1e-300).to("torch-mse-sum", num_rows=1, steps_per_epoch=10**30)
    with pytest.raises(ValueError, match="must be finite"):
        L2(1e300).to("sklearn-ridge", num_rows=10**20)


def test_both_terms_and_centre_travel():
    known = {"num_rows": 12}
    net = Penalty(l1=0.1, l2=0.4).to("torch-mse-mean", **known)
    assert (net.l1, net.l2) == (0.2, 0.8)
    assert net.to("sklearn-elasticnet", **known) == Penalty(l1=0.1, l2=0.4, convention="sklearn-elasticnet")
    there = Penalty(l2=[1.0, 2.0], centre=[3.0, 0.0]).to("laplace-torch", noise_scale=2.0, num_rows=8)
    assert there == Penalty(l2=[2.0, 4.0], centre=[3.0, 0.0], convention="laplace-torch")
    assert L2(0.0).to("sklearn-lasso") == L1(0.0, "sklearn-lasso")


@pytest.mark.parametrize("name", [name for name, row in CONVENTIONS.items() if not row.refusal])
def test_value_is_the_term_of_the_objective(name):
    """The penalty over its loss, canonical or in the convention, is the same number."""
    w, row = np.array([0.3, -1.2, 0.7]), CONVENTIONS[name]
    kinds = [kind for kind, accepted in (("l1", row.accepts_l1), ("l2", row.accepts_l2)) if accepted]
    penalty = Penalty(**dict.fromkeys(kinds, 0.6), convention=name)
    canonical = penalty.canonical(**KNOWN)
    expected = canonical.l2 * np.sum(w**2) / 2 + canonical.l1 * np.sum(np.abs(w))
    loss_multiplier = row.loss_multiplier.at("a test", **KNOWN)
    assert penalty.value(w, **KNOWN) == pytest.approx(expected * 2 * 12 * loss_multiplier, rel=1e-14)
    assert canonical.value(w) == pytest.approx(expected, rel=1e-14)


def test_value_by_hand():
    assert Penalty(l1=0.5, l2=3.0, centre=1.0).value([2.0, -1.0]) == pytest.approx(0.5 * (1 + 2) + 1.5 * (1 + 4))
    assert L2(3.0, "sklearn-ridge").value([[1.0, 2.0], [0.0, 0.0]]).tolist() == [15.0, 0.0]
    assert L2(3.0, "torch-mse-sum").value([2.0], steps_per_epoch=1) == 6.0
    with pytest.raises(ValueError, match="the penalty term in the objective of torch-mse-sum needs steps_per_epoch="):
        L2(3.0, "torch-mse-sum").value([2.0])


@pytest.mark.parametrize("penalty", [GENERAL, L2(0.7, "sklearn-ridge"), L1(0.7, "keras-l1"), L2(3.0, "keras-l2")])
def test_gradients_are_differences_of_the_value(penalty):
    w, h = np.array([0.4, -1.3, 2.2]), 1e-6
    slopes = [(penalty.value(w + h * e) - penalty.value(w - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(penalty.subgradient(w), slopes, atol=1e-8)
    smooth = (
        Penalty(l2=penalty.l2, centre=penalty.centre, convention=penalty.convention) if penalty.kind != "l1" else None
    )
    np.testing.assert_allclose(penalty.smooth_gradient(w), smooth.subgradient(w) if smooth else 0.0, atol=1e-14)


def test_the_subgradient_is_zero_at_the_kink():
    penalty = Penalty(l1=2.0, l2=1.0, centre=0.5)
    assert penalty.subgradient([0.5, 1.5, -0.5]).tolist() == [0.0, 3.0, -3.0]


@pytest.mark.parametrize(
    ("penalty", "known"),
    [(GENERAL, {}), (L1(0.3), {}), (L2(0.7, "sklearn-ridge"), {}), (L1(0.7, "park-casella"), {"noise_scale": 0.5})],
)
def test_the_proximal_step_minimises_its_objective(penalty, known):
    w, step = np.array([0.9, -0.4, -2.0]), 0.3
    moved = penalty.proximal_step(w, step, **known)
    for j in range(3):

        def objective(u, j=j):
            point = moved.copy()
            point[j] = u
            return np.sum((point - w) ** 2) / 2 + step * penalty.value(point, **known)

        brute = minimize_scalar(objective, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
        assert moved[j] == pytest.approx(brute, abs=1e-7)  # values alone resolve the square root of eps
    assert np.abs(moved - w).max() > 0.05


def test_the_proximal_step_reaches_the_centre_exactly():
    assert L1(1.0).proximal_step([0.3, -0.3, 0.3000001, -4.0], 0.3).tolist()[:2] == [0.0, 0.0]
    moved = Penalty(l1=1.0, l2=2.0, centre=[0.1, -7.3, 1e8]).proximal_step([0.3, -7.1, 1e8 + 0.125], 0.3)
    assert moved.tolist() == [0.1, -7.3, 1e8]
    assert L1(1.0).proximal_step([-4.0], 0.3).tolist() == [-3.7]
    assert Penalty().proximal_step([1.5, -2.0], 10.0).tolist() == [1.5, -2.0]


@pytest.mark.parametrize("penalty", [GENERAL, L2(0.7, "sklearn-ridge"), L1(0.7, "keras-l1"), Penalty()])
def test_tensors_give_the_same_and_keep_their_dtype(penalty):
    torch = pytest.importorskip("torch")
    points = np.random.default_rng(3).normal(size=(2, 5, 3))
    for dtype, tolerance in ((torch.float64, 1e-15), (torch.float32, 1e-6)):
        tensor = torch.tensor(points, dtype=dtype)
        for name, step in (("value", ()), ("smooth_gradient", ()), ("subgradient", ()), ("proximal_step", (0.3,))):
            ours, theirs = getattr(penalty, name)(points, *step), getattr(penalty, name)(tensor, *step)
            assert theirs.dtype == dtype
            np.testing.assert_allclose(theirs.numpy(), ours, atol=tolerance * 10)
    zeros = penalty.proximal_step(points, 0.3) == np.broadcast_to(penalty.centre, 3)
    in_tensor = penalty.proximal_step(torch.tensor(points), 0.3) == torch.tensor(np.array(penalty.centre))
    np.testing.assert_array_equal(in_tensor.numpy(), zeros)
    assert zeros.any() == bool(np.any(penalty.l1))
    assert penalty.value(torch.tensor([1, 2, 3])) == pytest.approx(penalty.value([1, 2, 3]))


def test_tensors_as_strengths_and_autograd():
    torch = pytest.importorskip("torch")
    assert L2(torch.tensor([1.0, 2.0])) == L2([1.0, 2.0]) and L2(torch.tensor(3, dtype=torch.int32)) == L2(3.0)
    w = torch.tensor([0.4, -1.3, 2.2], dtype=torch.float64, requires_grad=True)
    GENERAL.value(w).backward()
    torch.testing.assert_close(w.grad, GENERAL.subgradient(w.detach()))


@pytest.mark.parametrize("l2", [0.0, 0.8])
@pytest.mark.parametrize("centre", [0.0, [0.5, -0.2, 0.1, 0.0]])
@pytest.mark.parametrize("l1", [0.0, [1.0, 3.0, 0.5, 2.0]])
def test_largest_useful_is_where_the_first_weight_leaves_the_centre(l2, centre, l1):
    data = _problem()
    largest = Penalty(l1=l1, l2=l2, centre=centre).largest_useful(data)
    assert np.shape(largest) == np.shape(l1)
    for factor, moved in ((1 + 1e-9, False), (1 - 1e-3, True)):
        fit = _solve(data, Penalty(l1=factor * np.asarray(largest), l2=l2, centre=centre))
        assert np.any(fit != np.asarray(centre)) == moved


def test_largest_useful_is_in_the_words_of_the_convention():
    moments = Moments.from_data(_problem())
    canonical = L1(0.0).largest_useful(moments)
    for name in ("sklearn-lasso", "keras-l1", "torch-mse-sum", "park-casella", "glmnet"):
        known = {"noise_scale": 0.8, "steps_per_epoch": 4, "target_scale": 2.0}
        there = L1(0.0, name).largest_useful(moments, **known)
        assert L1(there, name).canonical(num_rows=30, **known).l1 == pytest.approx(canonical, rel=1e-14)
    assert L1(0.0, "keras-l1").largest_useful(moments) == pytest.approx(2 * canonical)
    with pytest.raises(ValueError, match="has no L1 penalty"):
        L2(1.0, "sklearn-ridge").largest_useful(moments)
    with pytest.raises(ValueError, match="no multiple of l1=.* keeps the features of strength 0"):
        L1([1.0, 0.0, 1.0, 1.0]).largest_useful(moments)
    with pytest.raises(TypeError, match="data must be a RegressionData or Moments, got ndarray"):
        L1(0.0).largest_useful(np.eye(3))


@pytest.mark.parametrize(
    "penalty",
    [L2(0.3), L1(0.2), Penalty(l1=[0.1, 0.3, 0.0, 0.2], l2=[0.5, 0.0, 1.0, 0.2], centre=[0.2, 0.0, -0.1, 0.0])],
)
def test_original_units_have_the_same_fit(penalty):
    data = _problem()
    scaled = data.standardized()
    there = penalty.original_units(scaled)
    assert there == penalty.original_units(Moments.from_data(data).standardized()) or np.allclose(
        there.l2, penalty.original_units(Moments.from_data(data).standardized()).l2, rtol=1e-12
    )
    fit, fit_there = _solve(scaled, penalty), _solve(data, there)
    back = fit * scaled.transform.target_scale / scaled.transform.feature_scales
    np.testing.assert_allclose(fit_there, back, rtol=1e-9, atol=1e-12)
    assert np.array_equal(fit == np.asarray(penalty.centre), fit_there == np.asarray(there.centre))
    unpenalised = _solve(data, Penalty())
    assert np.abs(fit_there / unpenalised - 1).max() > 0.05  # the penalty matters


def test_original_units_from_another_convention():
    scaled = _problem().standardized()
    there = L2(30 * 0.3, "sklearn-ridge").original_units(scaled)
    np.testing.assert_allclose(there.l2, L2(0.3).original_units(scaled).l2, rtol=1e-14)
    assert there.convention == "mean-half-squared"
    with pytest.raises(TypeError, match="data must be a RegressionData or Moments, got NoneType"):
        L2(1.0).original_units(None)
    with pytest.raises(ValueError, match="original_units needs data from data.standardized"):
        L2(0.3).original_units(_problem())
