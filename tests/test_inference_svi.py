"""SVI: the closed form where there is one, Pyro's loop where not or where asked, and both agree."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_chains_stand_alone, assert_matches
from gaussian_target import GaussianTarget

import bayesreg as br
from bayesreg.inference import exact, svi
from bayesreg.inference.gaussian_elbo import GaussianElbo
from bayesreg.inference.gaussian_fit import fit_gaussian
from bayesreg.inference.guides import FULL, LOW_RANK, MEAN_FIELD


def rows(n=30, d=2):
    features = np.random.default_rng(0).standard_normal((n, d))
    return br.RegressionData(
        features, features[:, 0] - 0.5 * features[:, 1] + np.random.default_rng(1).standard_normal(n)
    )


def target(prior=None, noise=None, data=None, device="cpu"):
    model = br.LinearRegression(prior or br.LaplacePrior(0.3), noise or dist.HalfNormal(1.0))
    return model.target(data or rows(), device)


def fit(posed=None, draws=1_000, chains=4, seed=0, **options):
    return svi.run(posed or target(), draws=draws, tune=0, chains=chains, seed=seed, **options)


@pytest.mark.parametrize("guide", [FULL, MEAN_FIELD])
def test_pyros_loop_comes_to_the_same_gaussian(guide):
    """It may leave a nat a parameter in a thousand, and finds no better ELBO."""
    posed = target(br.LaplacePrior(dist.HalfNormal(0.5)))
    ours, loop = fit(posed, guide=guide), fit(posed, guide=guide, pyro_loop=True)
    assert not ours.details["pyro_loop"] and loop.details["pyro_loop"]
    error = loop.details["elbo_standard_error"]
    assert 0 < error < 0.02
    assert ours.details["elbo"] > loop.details["elbo"] - 4 * error
    assert ours.details["elbo"] < loop.details["elbo"] + 4 * error + loop.details["tolerance"]
    one, other = (posed.unconstrain(result.draws).reshape(-1, posed.num_parameters) for result in (ours, loop))
    spread = one.std(0)
    assert float(((one.mean(0) - other.mean(0)) / spread).abs().max()) < 4 * math.sqrt(2 / 4_000) + 0.1
    assert float((other.std(0) / spread - 1).abs().max()) < 4 * math.sqrt(1 / 4_000) + 0.06


def test_a_gaussian_posterior_is_drawn_from_exactly():
    posed = target(br.GaussianPrior(0.3), 0.8)
    result = fit(posed)
    truth = exact.run(posed, draws=1, tune=0, chains=1, seed=0)
    assert result.details["elbo"] == pytest.approx(truth.log_evidence, abs=1e-9)
    assert result.details["elbo_standard_error"] == 0.0 and result.details["psis_khat"] == 0.0
    covariance = np.linalg.inv(posed.moments.Sxx / 0.64 + np.eye(2) / 0.09)
    mean = covariance @ posed.moments.Sxy / 0.64
    assert_matches(result.draws["weights"], mean, np.sqrt(np.diag(covariance)), minimum_ess=3_000)
    intercept = posed.moments.target_mean - posed.moments.feature_means @ mean
    means = posed.moments.feature_means
    assert_matches(
        result.draws["intercept"], intercept, math.sqrt(0.64 / 30 + means @ covariance @ means), minimum_ess=3_000
    )


@pytest.mark.parametrize("guide", [FULL, MEAN_FIELD])
@pytest.mark.parametrize("data", [rows(), rows(5, 12)], ids=["tall", "wide"])
def test_the_draws_are_those_of_the_fit(data, guide):
    posed = target(br.LaplacePrior(dist.HalfNormal(0.5)), data=data)
    gaussian = fit_gaussian(posed, mean_field=guide == MEAN_FIELD)
    draws = fit(posed, guide=guide).draws
    parts, covariance = gaussian.parts, gaussian.covariance
    assert_matches(draws["weights"], parts.weights[0], np.sqrt(covariance.variances[0]), minimum_ess=3_000)
    for index, name in enumerate(("noise_scale", "prior_scale")):
        spread = math.sqrt(covariance.scales[0, index, index])
        assert_matches(draws[name].log(), parts.scales[0, index], spread, minimum_ess=3_000)
    correlated = torch.cat([draws["weights"], draws["noise_scale"].log().unsqueeze(-1)], dim=-1).flatten(0, 1)
    found = np.cov(correlated.numpy().T)[:-1, -1] / np.sqrt(covariance.variances[0])
    expected = covariance.cross[0, :, 0] / np.sqrt(covariance.variances[0])
    spread = math.sqrt(covariance.scales[0, 0, 0] / 4_000)
    assert np.abs(found - expected).max() < 5 * spread


def test_the_mean_of_the_log_ratios_is_the_elbo():
    """ELBO = E_q[log p - log q]: draws, their density and the closed form say the same."""
    from bayesreg.inference.gaussian_draws import GaussianDraws

    for data in (rows(), rows(5, 12)):
        for mean_field in (False, True):
            posed = target(br.LaplacePrior(dist.HalfNormal(0.5)), data=data)
            gaussian = fit_gaussian(posed, mean_field=mean_field)
            points, log_guide = GaussianDraws(posed, gaussian)(40_000, torch.Generator().manual_seed(0))
            ratios = posed.log_density(points) - log_guide
            error = float(ratios.std()) / 200
            assert error < 0.02
            assert gaussian.elbos[0] == pytest.approx(float(ratios.mean()), abs=4 * error)


def test_a_dropped_prior_is_caught(monkeypatch):
    """The check of the exact posterior above is one that can fail."""
    expected_square = GaussianElbo._expected_square

    def dropped(self, *arguments):
        value, slope, curvature, rates = expected_square(self, *arguments)
        return 0.0 * value, 0.0 * slope, 0.0 * curvature, rates

    monkeypatch.setattr(GaussianElbo, "_expected_square", dropped)
    posed = target(br.GaussianPrior(0.3), 0.8)
    evidence = exact.run(posed, draws=1, tune=0, chains=1, seed=0).log_evidence
    covariance = np.linalg.inv(posed.moments.Sxx / 0.64 + np.eye(2) / 0.09)
    result = fit(posed)
    assert abs(result.details["elbo"] - evidence) > 0.1 and result.details["psis_khat"] != 0.0
    with pytest.raises(AssertionError, match="mean|sd"):
        assert_matches(result.draws["weights"], covariance @ posed.moments.Sxy / 0.64, np.sqrt(np.diag(covariance)))


def test_lp_is_the_density_of_its_draw():
    posed = target()
    result = fit(posed, draws=50)
    torch.testing.assert_close(result.sample_stats["lp"], posed.log_density(posed.unconstrain(result.draws)))
    assert result.sample_stats["lp"].shape == (4, 50)
    assert not result.draws["weights"].requires_grad and not result.sample_stats["lp"].requires_grad


def test_the_fit_says_how_it_went():
    details = fit(draws=10).details
    assert details["converged"] is True and 0 <= details["remaining"] < details["tolerance"] == 1e-6
    assert details["guide"] == FULL and 1 < details["steps"] < 20
    assert "in closed form has converged after" in fit(draws=10).message
    short = fit(draws=10, max_steps=1)
    assert short.details["converged"] is False and short.details["steps"] == 1
    assert "not converged after 1 steps" in short.message and "(threshold 1e-06)" in short.message
    assert "raise max_steps" in short.message
    loose = fit(draws=10, tolerance=0.01).details
    assert loose["tolerance"] == 0.04 and loose["steps"] < details["steps"]


def test_khat_tells_a_guide_that_fits_from_one_that_does_not():
    """Columns that are nearly one: k-hat is a random number, so it is the middle one of nine seeds that is judged."""
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 4))
    features[:, 1:] = 0.15 * features[:, 1:] + features[:, :1]
    data = br.RegressionData(features, features.sum(1) + random.standard_normal(60))
    posed = target(br.LaplacePrior(2.0), data=data)
    for draws in (10, 1_000):  # from draws of its own, and from those handed back
        full, mean_field = (
            [fit(posed, draws=draws, seed=seed, **guide).details["psis_khat"] for seed in range(9)]
            for guide in ({}, {"guide": MEAN_FIELD})
        )
        assert np.median(full) < 0.65 and np.median(mean_field) > 0.85


@pytest.mark.parametrize(
    ("posed", "options", "reason"),
    [
        (target(), {"guide": LOW_RANK, "rank": 1}, "AutoLowRankMultivariateNormal has no closed form here"),
        (target(noise=dist.Uniform(0.5, 2.0)), {}, "noise_scale has bounds"),
        (GaussianTarget(), {}, "needs the model and the moments of a regression"),
        (target(), {"pyro_loop": True, "num_particles": 8, "learning_rate": 0.1}, "as asked"),
    ],
)
def test_where_there_is_no_closed_form_pyros_loop_does_it_and_says_why(posed, options, reason):
    result = fit(posed, draws=5, max_steps=100, **options)
    assert result.details["pyro_loop"] is True and result.details["steps"] == 100
    assert reason in result.message


def test_a_chain_does_not_depend_on_the_others():
    for data in (rows(), rows(5, 12)):
        one, three = (fit(target(data=data), chains=chains, draws=20) for chains in (1, 3))
        other = fit(target(data=data), chains=1, draws=20, seed=1)
        assert_chains_stand_alone(one.draws, three.draws, other.draws)


@pytest.mark.parametrize("data", [rows(120, 100), rows(20, 100)], ids=["tall", "wide"])
def test_the_number_of_threads_does_not_matter(data):
    posed, threads, results = target(data=data), torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(fit(posed, draws=50).draws["weights"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("guide", [FULL, MEAN_FIELD])
@pytest.mark.parametrize("data", [rows(), rows(5, 12)], ids=["tall", "wide"])
@pytest.mark.parametrize("prior", [br.LaplacePrior(0.3), br.GaussianPrior(dist.HalfCauchy(1.0))], ids=repr)
def test_each_device(device, guide, data, prior, no_synchronisation):
    posed = target(prior, data=data, device=device)
    state = torch.get_rng_state()
    with no_synchronisation(at_most=3):
        result = fit(posed, draws=20, guide=guide)
    assert torch.equal(torch.get_rng_state(), state)
    tensors = [*result.draws.values(), *result.sample_stats.values()]
    assert {tensor.device.type for tensor in tensors} == {device.type}
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    assert result.draws["noise_scale"].shape == (4, 20)


def test_no_intercept_and_a_flat_prior():
    posed = br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0), intercept=False).target(rows())
    result = fit(posed)
    assert set(result.draws) == {"weights", "noise_scale"}
    evidence = exact.run(posed, draws=1, tune=0, chains=1, seed=0).log_evidence
    assert evidence - 0.2 < result.details["elbo"] < evidence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guide": "AutoDelta"}, "guide must be one of AutoMultivariateNormal, .* got 'AutoDelta'"),
        ({"rank": 2}, "rank is for AutoLowRankMultivariateNormal, 1 to 4; got 2 with AutoMultivariateNormal"),
        ({"rank": 5, "guide": LOW_RANK}, "1 to 4; got 5"),
        ({"rank": 1.5, "guide": LOW_RANK}, "rank must be an integer, got 1.5"),
        ({"num_particles": 8}, "num_particles is for Pyro's loop .* got 8 with the closed form"),
        ({"learning_rate": 0.1}, "learning_rate is for Pyro's loop .* got 0.1 with the closed form"),
        ({"max_steps": 10.5}, "max_steps must be an integer, got 10.5"),
        ({"max_steps": 0}, "max_steps must be 1 or more, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive and finite, got 0.0"),
        ({"tolerance": 0.0, "pyro_loop": True}, "tolerance must be positive and finite, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(**options)


@pytest.mark.parametrize("pyro_loop", [False, True])
def test_numbers_of_numpy_are_taken_and_reported_as_pythons(pyro_loop):
    options = {"max_steps": np.int64(100), "tolerance": np.float32(0.25)} | (
        {"num_particles": np.int64(8), "learning_rate": np.float32(0.125)} if pyro_loop else {}
    )
    details = fit(draws=3, pyro_loop=pyro_loop, **options).details
    assert details["tolerance"] == 0.25 * 4
    assert {type(value) for value in details.values()} <= {str, int, float, bool, type(None)}
