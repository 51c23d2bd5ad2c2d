"""Every row of the dictionary against an oracle that knows no dictionary.

Each library's objective is written out below in that library's own symbols and minimised numerically; the MAP is the
numerical maximum of SciPy's log densities. The two must be one point when the knob is the one `penalty_for` gives.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
from scipy import stats

from bayesreg import objectives
from bayesreg.conventions import penalty_for, prior_for
from bayesreg.multipliers import Factor
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.priors import FlatPrior, GaussianPrior, LaplacePrior

NOISE, STEPS = 0.8, 4


def _problem(seed=5):
    """Asymmetric, correlated, with an intercept; n = 12 in four batches of three."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(12, 3)) @ np.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 1.5]]) + [
        0.5,
        -1.0,
        2.0,
    ]
    return features, 4.0 + features @ [1.5, -0.7, 0.4] + NOISE * rng.normal(size=12)


X, Y = _problem()
TARGET_SCALE = float(np.std(Y))
KNOWN = {"noise_scale": NOISE, "num_rows": len(Y), "steps_per_epoch": STEPS, "target_scale": TARGET_SCALE}


def _sum_over_batches(batch_loss):
    return sum(batch_loss(X[rows], Y[rows]) for rows in np.split(np.arange(len(Y)), STEPS))


def _glmnet(w, b, l2, l1):
    """As in its Fortran: y and both strengths divided by s_y, the solution multiplied by it."""
    beta, beta0 = w / TARGET_SCALE, b / TARGET_SCALE
    penalty = l2 / TARGET_SCALE * np.sum(beta**2) / 2 + l1 / TARGET_SCALE * np.sum(abs(beta))
    return np.sum((Y / TARGET_SCALE - X @ beta - beta0) ** 2) / (2 * len(Y)) + penalty


def _rss(w, b):
    return np.sum((Y - X @ w - b) ** 2)


def _mse(w, b):
    return np.mean((Y - X @ w - b) ** 2)


# objective(w, b, knob of L2, knob of L1), in the library's own words
WRITTEN = {
    "mean-half-squared": lambda w, b, l2, l1: _mse(w, b) / 2 + l2 * np.sum(w**2) / 2 + l1 * np.sum(abs(w)),
    "torch-mse-mean": lambda w, b, l2, l1: _mse(w, b) + l2 / 2 * np.sum(w**2) + l1 * np.sum(abs(w)),
    "torch-mse-sum": lambda w, b, l2, l1: _sum_over_batches(
        lambda x, y: np.sum((y - x @ w - b) ** 2) + l2 / 2 * np.sum(w**2) + l1 * np.sum(abs(w))
    ),
    "torch-adam": lambda w, b, l2, l1: _mse(w, b) + l2 / 2 * np.sum(w**2) + l1 * np.sum(abs(w)),
    "sklearn-ridge": lambda w, b, l2, l1: _rss(w, b) + l2 * np.sum(w**2),
    "sklearn-lasso": lambda w, b, l2, l1: _rss(w, b) / (2 * len(Y)) + l1 * np.sum(abs(w)),
    "celer": lambda w, b, l2, l1: _rss(w, b) / (2 * len(Y)) + l1 * np.sum(abs(w)),
    "sklearn-elasticnet": lambda w, b, l2, l1: _mse(w, b) / 2 + l1 * np.sum(abs(w)) + l2 * np.sum(w**2) / 2,
    "sklearn-bayesian-ridge": lambda w, b, l2, l1: _rss(w, b) / NOISE**2 / 2 + l2 * np.sum(w**2) / 2,
    "glmnet": _glmnet,
    "keras-l2": lambda w, b, l2, l1: _mse(w, b) + l2 * np.sum(w**2),
    "keras-l1": lambda w, b, l2, l1: _mse(w, b) + l1 * np.sum(abs(w)),
    "park-casella": lambda w, b, l2, l1: _rss(w, b) / (2 * NOISE**2) + l1 / NOISE * np.sum(abs(w)),
    "laplace-torch": lambda w, b, l2, l1: _rss(w, b) / (2 * NOISE**2) + l2 * np.sum(w**2) / 2,
}
ROWS = [
    (name, kind)
    for name, row in objectives.CONVENTIONS.items()
    for kind, accepted in (("l2", row.accepts_l2), ("l1", row.accepts_l1))
    if accepted
]
PRIORS = {"l2": GaussianPrior(scale=0.5), "l1": LaplacePrior(scale=0.3)}


def _minimise(function, centre=(0.0, 0.0, 0.0), kinks=True):
    """The minimiser over (w, b) of a convex function, quadratic between kinks at w_j = centre_j: only values are used.

    For each pattern of signs of w - centre the function is a quadratic, which differences recover exactly.
    """
    best = (np.inf, None)
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=3) if kinks else [(1.0, 1.0, 1.0)]:
        basis = np.eye(4)[[j for j in range(4) if j == 3 or signs[j]]]
        base, size = np.array([*(np.asarray(centre) + signs), 0.0]), len(basis)

        def at(step, base=base):
            return function((base + step)[:3], (base + step)[3])

        slope, curvature, h = np.empty(size), np.empty((size, size)), 0.25
        for a, u in enumerate(h * basis):
            slope[a] = (at(u) - at(-u)) / (2 * h)
            for b, v in enumerate(h * basis[: a + 1]):
                curvature[a, b] = (at(u + v) - at(u - v) - at(v - u) + at(-u - v)) / (4 * h**2)
                curvature[b, a] = curvature[a, b]
        z = base - np.linalg.solve(curvature, slope) @ basis
        best = min(best, (function(z[:3], z[3]), z.tolist()))
    return np.array(best[1][:3])


def _minimum_of_row(name, kind, knob):
    l2, l1 = (knob, 0.0) if kind == "l2" else (0.0, knob)
    return _minimise(lambda w, b: WRITTEN[name](w, b, l2, l1), kinks=kind == "l1")


@functools.cache
def _map_at_known_scale(kind, scale):
    return _map(kind, scale)


def _map(kind, scale, loc=0.0, noise=NOISE):
    """Maximum of the joint density, from SciPy's densities: the intercept flat."""
    weight = {"l2": stats.norm, "l1": stats.laplace}[kind]

    def negative_log_density(w, b):
        return -stats.norm.logpdf(Y, X @ w + b, noise).sum() - weight.logpdf(w, loc, scale).sum()

    return _minimise(negative_log_density, np.broadcast_to(loc, 3), kinks=kind == "l1")


def test_the_oracle_is_a_minimum_and_not_a_trivial_one():
    least_squares = _minimise(_rss, kinks=False)
    np.testing.assert_allclose(least_squares, np.linalg.lstsq(np.c_[X, np.ones(12)], Y, rcond=None)[0][:3], atol=1e-11)
    rng = np.random.default_rng(0)
    for kind in ("l2", "l1"):
        w = _map(kind, PRIORS[kind].scale)
        value = WRITTEN["mean-half-squared"]
        strengths = (NOISE**2 / 12 / 0.5**2, 0.0) if kind == "l2" else (0.0, NOISE**2 / 12 / 0.3)
        b = np.mean(Y - X @ w)
        for direction in rng.normal(size=(50, 4)) * 1e-3:
            assert value(w + direction[:3], b + direction[3], *strengths) > value(w, b, *strengths)
        assert np.abs(w).max() > 0.3 and np.abs(w - least_squares).max() > 0.1
    assert 0 < np.count_nonzero(w) < 3  # the Laplace MAP has exact zeros, and not only those


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_the_fit_of_a_row_is_the_map(name, kind):
    prior = PRIORS[kind]
    penalty = penalty_for(prior, convention=name, **KNOWN)
    assert penalty.convention == name and penalty.kind == kind
    fit = _minimum_of_row(name, kind, penalty.strength)
    np.testing.assert_allclose(fit, _map_at_known_scale(kind, prior.scale), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_the_prior_of_a_rows_knob_has_its_fit_as_map(name, kind):
    knob = 0.37 * penalty_for(PRIORS[kind], convention=name, **KNOWN).strength
    prior = prior_for(Penalty(**{kind: knob}, convention=name), **KNOWN)
    assert type(prior) is type(PRIORS[kind]) and isinstance(prior.scale, float) and not prior.relative_to_noise
    np.testing.assert_allclose(_map(kind, prior.scale), _minimum_of_row(name, kind, knob), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind", "multiplier"), [(n, k, m) for n, k in ROWS for m in ("loss_multiplier", f"{k}_multiplier")]
)
def test_a_factor_of_two_in_any_row_is_seen(name, kind, multiplier, monkeypatch):
    """The check above on a mutated dictionary: it must fail, by far more than its tolerance."""
    row = objectives.CONVENTIONS[name]
    mutant = dataclasses.replace(row, **{multiplier: getattr(row, multiplier) * Factor(2.0)})
    monkeypatch.setitem(objectives.CONVENTIONS, name, mutant)
    knob = penalty_for(PRIORS[kind], convention=name, **KNOWN).strength
    right = _map_at_known_scale(kind, PRIORS[kind].scale)
    assert np.abs(_minimum_of_row(name, kind, knob) - right).max() > 1e-2
    back = prior_for(Penalty(**{kind: knob}, convention=name), **KNOWN)
    assert back.scale == pytest.approx(PRIORS[kind].scale, rel=1e-12)  # a round trip alone would not have seen it


@pytest.mark.parametrize(("name", "kind"), dict(reversed(ROWS)).items())
def test_a_wrong_power_of_what_is_known_is_seen(name, kind, monkeypatch):
    """Each power of n, s, s_y and K in a row, off by one, moves the fit."""
    right = _map_at_known_scale(kind, PRIORS[kind].scale)
    row = objectives.CONVENTIONS[name]
    for what in ("num_rows", "noise_scale", "target_scale", "steps_per_epoch"):
        mutant = dataclasses.replace(row, loss_multiplier=row.loss_multiplier * Factor(**{what: 1}))
        monkeypatch.setitem(objectives.CONVENTIONS, name, mutant)
        knob = penalty_for(PRIORS[kind], convention=name, **KNOWN).strength
        assert np.abs(_minimum_of_row(name, kind, knob) - right).max() > 1e-3


@pytest.mark.parametrize(("source", "kind"), ROWS)
def test_every_row_into_every_other_and_back(source, kind):
    penalty = penalty_for(PRIORS[kind], convention=source, **KNOWN)
    for destination, other_kind in ROWS:
        if other_kind == kind:
            other = penalty.to(destination, **KNOWN)
            expected = penalty_for(PRIORS[kind], convention=destination, **KNOWN).strength
            assert other.strength == pytest.approx(expected, rel=1e-13)
            assert other.to(source, **KNOWN).strength == pytest.approx(penalty.strength, rel=1e-13)
            assert prior_for(other, **KNOWN).scale == pytest.approx(PRIORS[kind].scale, rel=1e-13)


@pytest.mark.parametrize(("prior_class", "kind"), [(GaussianPrior, "l2"), (LaplacePrior, "l1")])
def test_vectors_and_locations(prior_class, kind):
    scale, loc = np.array([0.2, 1.0, 0.1]), np.array([0.2, -0.3, 1.0])
    prior = prior_class(scale=scale, loc=loc)
    penalty = penalty_for(prior, noise_scale=NOISE, num_rows=12)

    def objective(w, b):
        return _mse(w, b) / 2 + float(penalty.value(w))

    fit = _minimise(objective, loc)
    np.testing.assert_allclose(fit, _map(kind, scale, loc), atol=1e-9)
    assert np.abs(fit - _map(kind, scale)).max() > 1e-2  # the location matters
    back = prior_for(penalty, noise_scale=NOISE, num_rows=12)
    np.testing.assert_allclose(back.scale, scale, rtol=1e-13)
    np.testing.assert_array_equal(back.loc, loc)


@pytest.mark.parametrize(("prior_class", "kind"), [(GaussianPrior, "l2"), (LaplacePrior, "l1")])
def test_a_scale_relative_to_the_noise(prior_class, kind):
    prior = prior_class(scale=0.3, relative_to_noise=True)
    for noise in (0.4, 0.8):
        penalty = penalty_for(prior, noise_scale=noise, num_rows=12)
        strengths = (penalty.l2, penalty.l1)
        fit = _minimise(lambda w, b, strengths=strengths: WRITTEN["mean-half-squared"](w, b, *strengths))
        np.testing.assert_allclose(fit, _map(kind, 0.3 * noise, noise=noise), atol=1e-9)
    assert penalty_for(LaplacePrior(scale=0.25, relative_to_noise=True), convention="park-casella").strength == 4.0


def test_tensors_and_integers_as_scales():
    torch = pytest.importorskip("torch")
    known = {"noise_scale": torch.tensor(2.0), "num_rows": np.int32(10)}
    vector = penalty_for(GaussianPrior(scale=torch.tensor([1, 2])), **known)
    assert vector == L2([0.4, 0.1])
    assert penalty_for(LaplacePrior(scale=2), **known) == L1(0.2)


def test_no_penalty_is_the_flat_prior():
    assert isinstance(prior_for(L2(0.0)), FlatPrior)
    assert isinstance(prior_for(L1([0.0, 0.0], "celer")), FlatPrior)
    flat = penalty_for(FlatPrior(), convention="sklearn-lasso")
    assert flat.kind == "none" and flat.convention == "sklearn-lasso" and flat.strength == 0.0


def test_a_larger_strength_is_a_narrower_prior():
    scales = [prior_for(L2(strength), noise_scale=1.0, num_rows=10).scale for strength in (0.1, 1.0, 10.0)]
    assert scales[0] > scales[1] > scales[2]
    assert scales[2] == pytest.approx(0.1) and math.isclose(scales[0] / scales[1], math.sqrt(10))


@pytest.mark.parametrize("missing", ["noise_scale", "num_rows"])
def test_missing_knowledge_is_named(missing):
    rest = {k: v for k, v in KNOWN.items() if k != missing}
    with pytest.raises(ValueError, match=rf"needs {missing}= \("):
        penalty_for(GaussianPrior(scale=1.0), **rest)
    with pytest.raises(ValueError, match=rf"needs {missing}= \("):
        prior_for(L1(1.0), **rest)


def test_learned_scales_are_refused_without_the_value_to_use():
    learned = dist.HalfNormal(1.0)
    with pytest.raises(
        ValueError, match=r"noise_scale must be .* a distribution. Give the value to use, .*map_estimate"
    ):
        penalty_for(GaussianPrior(scale=1.0), noise_scale=learned, num_rows=10)
    with pytest.raises(ValueError, match="noise_scale must be .* a distribution"):
        prior_for(L2(1.0), noise_scale=learned, num_rows=10)
    with pytest.raises(ValueError, match="is learned: give the value to use as prior_scale="):
        penalty_for(LaplacePrior(scale=learned), noise_scale=1.0, num_rows=10)
    for no_number in (learned, "0.5"):
        with pytest.raises(TypeError, match="prior_scale must be a number or a vector of numbers"):
            penalty_for(LaplacePrior(scale=learned), noise_scale=1.0, num_rows=10, prior_scale=no_number)
    given = penalty_for(LaplacePrior(scale=learned), noise_scale=1.0, num_rows=10, prior_scale=0.5)
    assert given == L1(0.2)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, [[1.0]], [1.0, 0.0], []])
def test_bad_values_of_a_learned_scale(bad):
    with pytest.raises(ValueError, match="prior_scale must be "):
        penalty_for(GaussianPrior(scale=dist.HalfNormal(1.0)), noise_scale=1.0, num_rows=10, prior_scale=bad)


def test_a_value_for_a_known_scale_is_refused():
    with pytest.raises(ValueError, match=r"prior_scale= is the value of a learned scale, but that of GaussianPrior"):
        penalty_for(GaussianPrior(scale=1.0), noise_scale=1.0, num_rows=10, prior_scale=0.5)


def test_what_a_convention_cannot_hold_is_refused():
    for name, kind in ROWS:
        row, prior_class = objectives.CONVENTIONS[name], type(PRIORS[kind])
        for accepted, prior in (
            (row.accepts_centre, prior_class(scale=1.0, loc=0.5)),
            (row.accepts_per_feature, prior_class(scale=[1.0, 2.0, 3.0])),
        ):
            if accepted:
                assert np.all(penalty_for(prior, convention=name, **KNOWN).strength)
            else:
                with pytest.raises(ValueError, match=f"{name} .* cannot hold"):
                    penalty_for(prior, convention=name, **KNOWN)
    with pytest.raises(ValueError, match=r"sklearn-ridge .* has no L1 penalty"):
        penalty_for(LaplacePrior(scale=1.0), convention="sklearn-ridge", **KNOWN)
    with pytest.raises(ValueError, match="no Gaussian prior has its end point as MAP"):
        penalty_for(GaussianPrior(scale=1.0), convention="adamw", **KNOWN)


def test_penalties_without_one_of_the_priors_are_refused():
    for penalty in (L2([1.0, 0.0, 2.0]), Penalty(l1=0.1, l2=[1.0, 0.0, 2.0])):
        with pytest.raises(
            ValueError, match=r"features \[1\] have L2 strength 0, a flat prior, and the others have not"
        ):
            prior_for(penalty, noise_scale=1.0, num_rows=10)


def test_wrong_types():
    with pytest.raises(TypeError, match="a LaplacePrior, an ElasticNetPrior or a FlatPrior, got 0.5"):
        penalty_for(0.5, noise_scale=1.0, num_rows=10)
    with pytest.raises(TypeError, match=r"penalty must be a Penalty, such as L2\(0.1\), got 0.5"):
        prior_for(0.5, noise_scale=1.0, num_rows=10)
    with pytest.raises(TypeError, match="unknown argument 'n'"):
        penalty_for(GaussianPrior(scale=1.0), noise_scale=1.0, num_rows=10, n=3)
