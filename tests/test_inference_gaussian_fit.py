"""The fit of Gaussians: exact where the posterior is one, stationary elsewhere, honest about what it leaves."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br
from bayesreg.inference import bordered_precision, exact, gaussian_fit
from bayesreg.inference.gaussian_elbo import GaussianElbo
from bayesreg.inference.gaussian_fit import fit_gaussian

HALF_NORMAL = dist.HalfNormal(1.0)
FUNNEL = br.LaplacePrior(dist.HalfNormal(0.25))


def rows(n, d, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, d)) + 0.3
    return br.RegressionData(features, features[:, : min(d, 3)].sum(1) + 0.5 * random.standard_normal(n))


def target(prior, noise=HALF_NORMAL, data=None, **options):
    return br.LinearRegression(prior, noise, **options).target(
        br.load_diabetes().standardized() if data is None else data
    )


TALL = [
    br.LaplacePrior(0.25),
    br.LaplacePrior(0.25, loc=0.3, relative_to_noise=True),
    br.LaplacePrior(dist.HalfCauchy(1.0)),
    br.GaussianPrior(0.25),
    br.GaussianPrior(dist.Gamma(2.0, 4.0), relative_to_noise=True),
    br.FlatPrior(),
]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("prior", [br.GaussianPrior(0.3, loc=0.1), br.FlatPrior()], ids=repr)
def test_a_gaussian_posterior_is_found_exactly(prior, intercept):
    """Noise known: the ELBO is the log evidence, mean and covariance are those of the closed form."""
    posed = target(prior, 0.7, intercept=intercept)
    fit = fit_gaussian(posed)
    evidence = exact.run(posed, draws=1, tune=0, chains=1, seed=0).log_evidence
    assert fit.elbos[0] == pytest.approx(evidence, abs=1e-9)
    assert fit.converged[0] and fit.steps[0] == 1  # a Newton step is the solution, and gains what was foretold
    gram, cross = posed.moments.Sxx / 0.49, posed.moments.Sxy / 0.49
    prior_precision = 0.0 if prior.kind == "flat" else np.eye(10) / 0.09
    covariance = np.linalg.inv(gram + prior_precision)
    mean = covariance @ (cross + np.sum(prior_precision * 0.1, axis=-1) * (prior.kind != "flat"))
    np.testing.assert_allclose(fit.parts.weights[0], mean, rtol=1e-9)
    np.testing.assert_allclose(fit.covariance.variances[0], np.diag(covariance), rtol=1e-9)


def test_mean_field_has_the_mean_and_the_diagonal_of_the_precision():
    posed = target(br.GaussianPrior(0.3), 0.7)
    fit, full = fit_gaussian(posed, mean_field=True), fit_gaussian(posed)
    precision = posed.moments.Sxx / 0.49 + np.eye(10) / 0.09
    np.testing.assert_allclose(fit.parts.weights, full.parts.weights, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance.variances[0], 1 / np.diag(precision), rtol=1e-10)
    divergence = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert divergence > 1.0
    assert fit.elbos[0] == pytest.approx(full.elbos[0] - divergence, abs=1e-9)


@pytest.mark.parametrize(
    "prior", [br.GaussianPrior(0.3), br.GaussianPrior(dist.HalfNormal(0.3)), br.FlatPrior()], ids=repr
)
def test_the_elbo_is_below_the_log_evidence(prior):
    posed = target(prior)
    evidence = exact.run(posed, draws=1, tune=0, chains=1, seed=0).log_evidence
    full, mean_field = fit_gaussian(posed).elbos[0], fit_gaussian(posed, mean_field=True).elbos[0]
    assert evidence - 0.2 < full < evidence
    assert mean_field < full - 1.0


@pytest.mark.parametrize("mean_field", [False, True])
@pytest.mark.parametrize("prior", TALL, ids=repr)
def test_the_fit_is_stationary(prior, mean_field):
    """No gradient in the mean, and P = E[-Hess log p] (its diagonal): the conditions of an optimum, from scratch."""
    fit = fit_gaussian(target(prior), mean_field=mean_field, tolerance=1e-12)
    _, gradient = fit.elbo(fit.parts, fit.covariance)
    expected, found = fit.elbo.layout.views(gradient), fit.parts
    spread = np.sqrt(fit.covariance.variances)
    assert np.abs(expected.weights * spread).max() < 1e-4
    assert np.abs(expected.scales).max() * 0.1 < 1e-4
    gram = fit.elbo.design.gram_diagonal
    np.testing.assert_allclose(found.diagonal + found.gram * gram, expected.diagonal + expected.gram * gram, rtol=1e-4)
    if not mean_field:
        np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-4)
        np.testing.assert_allclose(found.corner, expected.corner, rtol=1e-4, atol=1e-3)
        assert np.abs((found.border - expected.border) * spread[:, :, None]).max() < 1e-2


@pytest.mark.parametrize("mean_field", [False, True])
def test_no_neighbour_is_better(mean_field):
    fit = fit_gaussian(target(FUNNEL, data=rows(8, 20)), mean_field=mean_field, tolerance=1e-10)
    random = np.random.default_rng(0)
    for size in (1e-1, 1e-2, 1e-3):
        moved = fit.vectors + size * random.standard_normal((50, fit.vectors.shape[1])) * np.sqrt(np.abs(fit.vectors))
        with np.errstate(all="ignore"):
            values = gaussian_fit._evaluate(fit.elbo, mean_field, moved)[0]
        assert np.isfinite(values).any()
        assert values.max() < fit.elbos[0]


HARD = [
    (rows(8, 30), br.LaplacePrior(0.05)),
    (rows(8, 30), FUNNEL),
    (rows(12, 40, seed=1), br.GaussianPrior(dist.HalfNormal(0.05))),
    (rows(12, 40, seed=2), br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=True)),
    (rows(25, 25), br.LaplacePrior(0.5)),
]


@pytest.mark.parametrize("mean_field", [False, True])
@pytest.mark.parametrize(("data", "prior"), HARD)
def test_what_may_remain_covers_what_remains(data, prior, mean_field):
    """At three tolerances, against a fit that goes on to rounding."""
    posed = target(prior, data=data)
    best = fit_gaussian(posed, mean_field=mean_field, tolerance=1e-12)
    for tolerance in (1e-4, 1e-6, 1e-8):
        fit = fit_gaussian(posed, mean_field=mean_field, tolerance=tolerance)
        assert fit.converged[0] and fit.remaining[0] < tolerance
        assert fit.steps[0] <= best.steps[0] < 300
        assert -1e-11 < best.elbos[0] - fit.elbos[0] <= fit.remaining[0] + 1e-11


@pytest.mark.parametrize("mean_field", [False, True])
@pytest.mark.parametrize("prior", [br.LaplacePrior(0.1), FUNNEL, br.GaussianPrior(0.1)], ids=repr)
def test_few_rows_give_what_the_dense_route_gives(prior, mean_field, monkeypatch):
    posed = target(prior, data=rows(8, 30))
    few = fit_gaussian(posed, mean_field=mean_field, tolerance=1e-10)
    monkeypatch.setattr(bordered_precision, "_FEW_ROWS", 0.0)
    dense = fit_gaussian(posed, mean_field=mean_field, tolerance=1e-10)
    assert isinstance(few.elbo.design, bordered_precision.FewRowsDesign)
    assert isinstance(dense.elbo.design, bordered_precision.DenseDesign)
    assert few.elbos[0] == pytest.approx(dense.elbos[0], abs=1e-9)
    spread = np.sqrt(dense.covariance.variances)
    assert np.abs((few.parts.weights - dense.parts.weights) / spread).max() < 1e-3
    np.testing.assert_allclose(few.covariance.variances, dense.covariance.variances, rtol=1e-3)


@pytest.mark.parametrize("data", [rows(60, 6), rows(6, 20)], ids=["tall", "wide"])
@pytest.mark.parametrize("mean_field", [False, True])
def test_a_batch_of_prior_scales_is_one_fit_each(data, mean_field):
    scales = np.geomspace(0.003, 3.0, 7)
    batch = fit_gaussian(target(br.LaplacePrior(1.0), data=data), prior_scales=scales, mean_field=mean_field)
    assert batch.converged.all() and len(set(batch.steps)) > 1
    for index, scale in enumerate(scales):
        alone = fit_gaussian(target(br.LaplacePrior(scale), data=data), mean_field=mean_field)
        assert batch.elbos[index] == pytest.approx(alone.elbos[0], abs=1.5e-6)
        spread = np.sqrt(alone.covariance.variances[0])
        assert np.abs((batch.parts.weights[index] - alone.parts.weights[0]) / spread).max() < 1e-2
        assert batch.log_scales[index, 0] == pytest.approx(alone.log_scales[0, 0], abs=1e-2)


@pytest.mark.parametrize("mean_field", [False, True])
def test_a_start_far_away_is_come_back_from(mean_field, monkeypatch):
    """Weights a thousand prior scales out, where a Laplace prior shows no curvature: only damped steps lead back."""
    data, scales = rows(60, 6), np.array([0.003, 0.01, 0.03])
    posed = target(br.LaplacePrior(1.0), data=data)
    near = fit_gaussian(posed, prior_scales=scales, mean_field=mean_field)
    monkeypatch.setattr(gaussian_fit, "_move_to_ridge", lambda elbo, parts: None)
    far = fit_gaussian(posed, prior_scales=scales, mean_field=mean_field)
    assert far.converged.all() and far.steps.sum() > near.steps.sum()
    np.testing.assert_allclose(far.elbos, near.elbos, atol=2e-6, rtol=0)


def test_one_scale_a_feature_in_a_batch():
    scales = np.array([[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]])
    data = rows(20, 3)
    batch = fit_gaussian(target(br.GaussianPrior(1.0), 0.5, data=data), prior_scales=scales)
    for scale, elbo in zip(scales, batch.elbos, strict=True):
        assert elbo == pytest.approx(fit_gaussian(target(br.GaussianPrior(scale), 0.5, data=data)).elbos[0], abs=1e-9)


def test_the_units_do_not_matter():
    """Columns a million times longer: the same steps, weights a million times smaller, the ELBO of the same density."""
    data = rows(30, 4)
    other = br.RegressionData(data.features * 1e6, data.target)
    one = fit_gaussian(target(br.LaplacePrior(0.5), data=data), tolerance=1e-10)
    scaled = fit_gaussian(target(br.LaplacePrior(0.5e-6), data=other), tolerance=1e-10)
    np.testing.assert_allclose(scaled.parts.weights * 1e6, one.parts.weights, rtol=1e-6)
    assert scaled.elbos[0] == pytest.approx(one.elbos[0], abs=1e-8)
    assert scaled.steps[0] == one.steps[0]


def test_too_few_steps_are_said_to_be_too_few():
    fit = fit_gaussian(target(FUNNEL, data=rows(8, 30)), max_steps=3)
    assert not fit.converged[0] and fit.steps[0] == 3 and fit.remaining[0] > 1e-6
    assert fit.elbos[0] == pytest.approx(fit.elbo(fit.parts, fit.covariance)[0][0], abs=1e-12)


def test_extrapolation_saves_most_of_the_steps(monkeypatch):
    """Where noise and weights move together: plain natural-gradient steps are slow there."""
    posed = target(br.LaplacePrior(0.25), data=rows(20, 100))
    fast = fit_gaussian(posed)
    propose = gaussian_fit._propose

    def plain(layout, state):
        state.plain[:] = True
        return propose(layout, state)

    monkeypatch.setattr(gaussian_fit, "_propose", plain)
    slow = fit_gaussian(posed)
    assert fast.steps[0] < 0.4 * slow.steps[0]
    assert slow.elbos[0] == pytest.approx(fast.elbos[0], abs=2e-6)


def test_many_rows_take_four_steps():
    """Where the weights are known well a step is nearly Newton's, and the last is not taken twice to be sure of it."""
    fit = fit_gaussian(target(br.LaplacePrior(0.25)))
    assert fit.converged[0] and fit.steps[0] <= 4
    assert fit_gaussian(target(br.LaplacePrior(0.25)), tolerance=1e-12).elbos[0] - fit.elbos[0] < 1e-6


def test_a_strong_prior_of_a_far_scale_and_a_million_rows_are_no_trouble():
    """Rounding of an ELBO of 1e6 nats bounds what can be told."""
    random = np.random.default_rng(0)
    features = random.standard_normal((200, 3))
    moments = br.Moments.from_data(br.RegressionData(features, features[:, 0] + random.standard_normal(200)))
    many = sum([moments] * 5_000)
    fit = fit_gaussian(br.LinearRegression(br.LaplacePrior(1e-3), HALF_NORMAL).target(many))
    assert fit.converged[0] and fit.steps[0] < 30


def test_an_improper_posterior_is_refused_or_not_said_to_be_done():
    data = br.RegressionData(np.random.default_rng(0).standard_normal((10, 3)), np.ones(10))
    posed = br.LinearRegression(br.LaplacePrior(0.5), HALF_NORMAL).target(data)
    try:
        fit = fit_gaussian(posed, max_steps=50)
    except ValueError as error:
        assert "no finite evidence lower bound" in str(error)
    else:
        assert not fit.converged[0]


def test_a_start_without_an_elbo_is_refused(monkeypatch):
    call = GaussianElbo.__call__
    monkeypatch.setattr(
        GaussianElbo, "__call__", lambda *arguments: (call(*arguments)[0] * np.nan, call(*arguments)[1])
    )
    with pytest.raises(ValueError, match="svi found no finite evidence lower bound .* posterior is improper"):
        fit_gaussian(target(br.LaplacePrior(0.5), data=rows(20, 3)))


def test_the_number_of_threads_does_not_matter():
    posed, threads, results = target(br.LaplacePrior(1.0), data=rows(200, 100)), torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(fit_gaussian(posed).vectors)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*results)
