"""Pyro's loop: the known Gaussian, with the known bias of each family, and an honest stop."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_chains_stand_alone
from gaussian_target import GaussianTarget

import bayesreg as br
from bayesreg.inference import pyro_svi
from bayesreg.inference.guides import FULL, LOW_RANK, MEAN_FIELD


def fit(target=None, draws=5_000, chains=2, seed=0, **options):
    return pyro_svi.run(target or GaussianTarget(), draws=draws, tune=0, chains=chains, seed=seed, **options)


@pytest.fixture(scope="module")
def full():
    return fit()


@pytest.fixture(scope="module")
def mean_field():
    return fit(guide=MEAN_FIELD)


def moments(target, result):
    points = target.unconstrain(result.draws).reshape(-1, target.num_parameters)
    return points.mean(0), points.std(0)


def check_moments(target, result, sd):
    """Independent draws: 4 standard errors, and what the stopping rule may leave (0.045 sd and 3 %)."""
    mean, found = moments(target, result)
    assert float(((mean - target.mean) / sd).abs().max()) < 4 / math.sqrt(10_000) + 0.045
    assert float((found / sd - 1).abs().max()) < 0.03


def test_the_full_gaussian_is_found(full):
    target = GaussianTarget()
    check_moments(target, full, target.sd)
    points = target.unconstrain(full.draws).reshape(-1, 4)
    exact = target.covariance / torch.outer(target.sd, target.sd)
    assert float((torch.corrcoef(points.T) - exact).abs().max()) < 0.04


def test_the_elbo_of_the_right_family_is_the_log_normaliser(full):
    assert full.details["elbo"] == pytest.approx(GaussianTarget.log_normaliser, abs=0.02)
    assert full.details["elbo"] < GaussianTarget.log_normaliser + 4 * full.details["elbo_standard_error"]


def test_mean_field_is_too_narrow_by_what_is_known(mean_field):
    target = GaussianTarget()
    narrow = target.precision.diagonal().rsqrt()
    assert float((narrow / target.sd).min()) < 0.7  # else this test says nothing
    check_moments(target, mean_field, narrow)


def test_the_elbo_of_mean_field_is_short_of_it_by_the_known_divergence(mean_field):
    precision = GaussianTarget().precision
    divergence = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    expected = GaussianTarget.log_normaliser - divergence
    assert divergence > 0.3
    assert mean_field.details["elbo"] == pytest.approx(
        expected, abs=0.02 + 4 * mean_field.details["elbo_standard_error"]
    )


def test_low_rank_finds_a_covariance_that_it_can_hold():
    class Factor(GaussianTarget):
        def __init__(self):
            super().__init__()
            along = torch.tensor([0.3, -1.0, 4.0, 0.02], dtype=torch.float64)
            self.covariance = torch.diag(torch.tensor([0.2, 0.7, 3.0, 0.02], dtype=torch.float64) ** 2)
            self.covariance += torch.outer(along, along)
            self.precision = torch.linalg.inv(self.covariance)
            self.sd = self.covariance.diagonal().sqrt()

    target = Factor()
    result = fit(target, guide=LOW_RANK, rank=1)
    check_moments(target, result, target.sd)
    assert result.details["elbo"] == pytest.approx(target.log_normaliser, abs=0.02)


def test_the_units_do_not_matter():
    """In other units the same fit: the same steps, draws scaled, and the same ELBO, for the normaliser is the same."""
    for guide in (FULL, MEAN_FIELD):
        one, other = (fit(GaussianTarget(units=units), draws=50, guide=guide, max_steps=200) for units in (1.0, 1e6))
        assert other.details["elbo"] == pytest.approx(one.details["elbo"], abs=1e-6)
        torch.testing.assert_close(other.draws["weights"], 1e6 * one.draws["weights"], rtol=1e-6, atol=0)


def test_lp_is_the_density_of_its_draw(full):
    target = GaussianTarget()
    torch.testing.assert_close(full.sample_stats["lp"], target.log_density(target.unconstrain(full.draws)))
    assert full.sample_stats["lp"].shape == (2, 5_000)
    assert not full.draws["weights"].requires_grad and not full.sample_stats["lp"].requires_grad


def test_convergence_is_reported_and_is_true(full):
    details = full.details
    assert details["converged"] is True and details["remaining"] < details["tolerance"] == 4e-3
    assert "has converged after" in full.message


def test_too_few_steps_are_said_to_be_too_few():
    for max_steps in (50, 100, 300):
        result = fit(draws=10, max_steps=max_steps)
        assert result.details["converged"] is False
        assert result.details["steps"] <= max_steps
        assert "not converged" in result.message and "(threshold 0.004)" in result.message
    assert fit(draws=10, max_steps=50).details["remaining"] is None


def test_a_looser_tolerance_takes_fewer_steps(full):
    loose = fit(draws=10, tolerance=0.05)
    assert loose.details["converged"] and loose.details["tolerance"] == 0.2
    assert loose.details["steps"] < full.details["steps"]


@pytest.mark.parametrize("seed", [0, 1])
def test_what_remains_is_estimated_and_not_made_up(seed):
    """With one particle a gradient much remains, and what is said to remain is of its size."""
    details = fit(draws=10, seed=seed, tolerance=1e-9, max_steps=1_600, num_particles=1).details
    left = GaussianTarget.log_normaliser - details["elbo"]
    assert left > 5 * details["elbo_standard_error"]
    assert 0.5 * left < details["remaining"] < 5 * left


def test_the_best_averaged_state_is_what_is_kept(monkeypatch):
    """Not the last iterate, nor the last phase: here the steps end in the middle of improving."""
    averages, kept = [], []
    climb, optimise = pyro_svi._Fit.climb, pyro_svi._optimise

    def recorded_climb(self, *args):
        averages.append(climb(self, *args))
        return averages[-1]

    def recorded_optimise(fit, *args):
        result = optimise(fit, *args)
        kept.extend(fit.state())
        return result

    monkeypatch.setattr(pyro_svi._Fit, "climb", recorded_climb)
    monkeypatch.setattr(pyro_svi, "_optimise", recorded_optimise)
    fit(draws=10, max_steps=200)
    assert len(averages) == 2
    assert all(torch.equal(one, other) for one, other in zip(kept, averages[1], strict=True))


@pytest.mark.parametrize("guide", [FULL, LOW_RANK])
def test_a_fit_that_overflows_recovers(guide):
    """The density is not a number beyond 20 standard deviations, where a first phase at this rate ends up."""

    class Island(GaussianTarget):
        def log_density_and_gradient(self, points):
            density, gradient = super().log_density_and_gradient(points)
            outside = ((points - self.mean) / self.sd).abs().amax(-1) > 20
            return torch.where(outside, math.nan, density), torch.where(outside[..., None], math.nan, gradient)

        def log_density(self, points):
            density, gradient = self.log_density_and_gradient(points.detach())
            return density + ((points - points.detach()) * gradient).sum(-1)

    result = fit(Island(), learning_rate=10.0, draws=10, guide=guide, tolerance=4e-3)
    assert result.details["converged"] is True
    assert result.details["elbo"] == pytest.approx(Island.log_normaliser, abs=0.02 if guide == FULL else 0.2)


def test_a_posterior_that_does_not_exist_is_refused():
    """A constant target, fitted exactly, and a noise with a prior density at 0: all mass is there."""
    data = br.RegressionData(np.random.default_rng(0).standard_normal((10, 3)), np.ones(10))
    target = br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)).target(data)
    with pytest.raises(ValueError, match="svi found no finite evidence lower bound .* posterior is improper"):
        fit(target, draws=10)


def test_khat_tells_a_guide_that_fits_from_one_that_does_not(full, mean_field):
    assert full.details["psis_khat"] < 0.5 < mean_field.details["psis_khat"]


def test_where_the_guide_is_the_posterior_there_is_no_tail():
    target = br.LinearRegression(br.GaussianPrior(1.0), 1.0).target(br.load_diabetes().standardized())
    result = fit(target, draws=10, max_steps=1)
    assert result.details["psis_khat"] == 0.0 and result.details["elbo_standard_error"] < 1e-9


def test_a_chain_does_not_depend_on_the_others():
    one, three = (fit(chains=chains, draws=20, max_steps=100) for chains in (1, 3))
    other = fit(chains=1, draws=20, max_steps=100, seed=1)
    assert_chains_stand_alone(one.draws, three.draws, other.draws)


def test_the_number_of_threads_does_not_matter():
    features = np.random.default_rng(0).standard_normal((200, 100))
    target = br.LinearRegression(br.LaplacePrior(1.0), 1.0).target(br.RegressionData(features, features[:, 0]))
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(fit(target, draws=5, max_steps=100).draws["weights"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("guide", [FULL, MEAN_FIELD, LOW_RANK])
def test_a_real_target_on_each_device(device, guide, no_synchronisation):
    features = np.random.default_rng(0).standard_normal((30, 2))
    data = br.RegressionData(features, features @ [1.0, -0.5] + np.random.default_rng(1).standard_normal(30))
    target = br.LinearRegression(br.LaplacePrior(0.3), dist.HalfNormal(1.0)).target(data, device)
    with no_synchronisation(at_most=8):
        result = fit(target, draws=20, guide=guide, max_steps=100)
    tensors = [*result.draws.values(), *result.sample_stats.values()]
    assert {tensor.device.type for tensor in tensors} == {device.type}
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    assert result.draws["weights"].shape == (2, 20, 2) and result.draws["noise_scale"].shape == (2, 20)


def test_a_noise_that_may_go_to_zero_is_fitted_from_a_narrow_start(monkeypatch):
    """More columns than rows: a guide of unit scale has mass where the density is far lower."""
    random = np.random.default_rng(0)
    features = random.standard_normal((8, 20))
    data = br.RegressionData(features, features[:, 0] + 0.05 * random.standard_normal(8))
    target = br.LinearRegression(br.LaplacePrior(0.1), dist.LogNormal(-3.0, 1.0)).target(data)
    start = fit(target, draws=10, max_steps=1).details["elbo"]
    result = fit(target, draws=10, max_steps=1_000)
    monkeypatch.setattr(pyro_svi, "_START_SCALES", (1.0,))
    assert fit(target, draws=10, max_steps=1).details["elbo"] < start - 10
    assert start < result.details["elbo"]
    assert result.details["remaining"] < 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guide": "AutoDelta"}, "guide must be one of AutoMultivariateNormal, .* got 'AutoDelta'"),
        ({"rank": 2}, "rank is for AutoLowRankMultivariateNormal, 1 to 4; got 2 with AutoMultivariateNormal"),
        ({"rank": 5, "guide": LOW_RANK}, "1 to 4; got 5"),
        ({"rank": 1.5, "guide": LOW_RANK}, "rank must be an integer, got 1.5"),
        ({"num_particles": 0}, "num_particles must be 1 or more, got 0"),
        ({"max_steps": 10.5}, "max_steps must be an integer, got 10.5"),
        ({"tolerance": 0.0}, "tolerance must be positive and finite, got 0.0"),
        ({"learning_rate": math.inf}, "learning_rate must be positive and finite, got inf"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(**options)
