"""Posteriors under Laplace priors on a grid of scales: closed forms in one feature, other samplers, and seeds."""

import functools
import math
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from checks import assert_matches
from oracles import laplace_gibbs
from quadrature import integrate

import bayesreg as br
from bayesreg.inference import gibbs, hmc, rejection
from bayesreg.paths import laplace_path
from bayesreg.paths.posterior_path import _modes
from bayesreg.paths.prior_grid import PriorGrid
from bayesreg.posteriors.diagnostics import Chains, diagnose


def data_of(rows, columns, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns)) + 1.5
    return br.RegressionData(features, 0.8 * features[:, 0] + 2.0 + 0.5 * random.standard_normal(rows))


class OneWeight:
    """exp(-(w - m)^2 / (2 v) - |w| / b): two truncated Normals, of means m -+ v / b, that meet at zero."""

    def __init__(self, data, noise_scale, prior_scale):
        x, y = data.features[:, 0] - data.features.mean(), data.target - data.target.mean()
        variance, mean = noise_scale**2 / (x @ x), (x @ y) / (x @ x)
        self.sd, shift = math.sqrt(variance), variance / prior_scale
        self.centres = np.array([mean + shift, mean - shift])  # of the negative and of the positive part
        log_masses = (self.centres**2 - mean**2) / (2 * variance) + scipy.stats.norm.logcdf(
            np.array([-1.0, 1.0]) * self.centres / self.sd
        )
        self.masses = np.exp(log_masses - log_masses.max())
        self.masses /= self.masses.sum()

    def cdf(self, w):
        """P(weight <= w), each part by its own truncated Normal."""
        negative = scipy.stats.truncnorm(-np.inf, -self.centres[0] / self.sd, self.centres[0], self.sd)
        positive = scipy.stats.truncnorm(-self.centres[1] / self.sd, np.inf, self.centres[1], self.sd)
        return self.masses[0] * negative.cdf(w) + self.masses[1] * positive.cdf(w)


def assert_holds(found, expected, ess, what):
    """Hold a probability to its expectation, at 4.5 standard errors of that many independent draws."""
    assert abs(found - expected) < 4.5 * math.sqrt(expected * (1.0 - expected) / ess) + 1.0 / ess, what


@pytest.mark.parametrize("engine", ["rejection", "gibbs", "hmc"])
def test_one_weight_has_its_closed_form(monkeypatch, engine):
    monkeypatch.setattr(laplace_path, "candidates", lambda target: [(engine, "as the test wants it")])
    monkeypatch.setattr(laplace_path, "_LARGEST_RANK", 0 if engine == "hmc" else 1)  # where a scan is dear, and not
    data, scales = data_of(12, 1), [2.0, 0.12, 0.03, 0.005]
    path = br.posterior_path(data, "l1", prior_scales=scales, noise_scale=0.5, draws=4000, within=0.05, interval=0.8)
    assert path.engines == (engine,) * 4
    for point, prior_scale in enumerate(scales):
        law, ess = OneWeight(data, 0.5, prior_scale), float(path.ess[point])
        assert ess > 1500
        for name, probability in (("lower", 0.1), ("median", 0.5), ("upper", 0.9)):
            assert_holds(law.cdf(float(getattr(path, name)[point])), probability, ess, (prior_scale, name))
        near = law.cdf(0.05) - law.cdf(-0.05)
        assert_holds(float(path.probability_near_zero[point]), near, ess, prior_scale)
        grid = np.linspace(-0.5, 2.5, 30_001)
        density = np.gradient(law.cdf(grid), grid)
        mean = np.trapezoid(grid * density, grid) if hasattr(np, "trapezoid") else np.trapz(grid * density, grid)
        assert abs(float(path.mean[point]) - mean) < 4.5 * float(path.mcse_mean[point])


def test_scales_in_one_batch_have_their_own_posteriors():
    """Noise learned, by quadrature over weight and log noise; no chain is alike, but those of one scale."""
    data, scales, law = data_of(8, 1), [0.01, 0.1, 3.0], dist.LogNormal(-0.5, 0.5)
    grid = PriorGrid("l1", np.array(scales), law, True, br.Moments.from_data(data))
    targets = [grid.target(scale) for scale in scales]
    found = gibbs.run_at_scales(targets, draws=400, thin=2, tune=50, chains=16, seed=1)
    for named, scale in zip(found, scales, strict=True):
        weights = np.linspace(-8.0, 10.0, 36_001) * min(1.0, 4.0 * scale)
        noises = np.linspace(-4.0, 3.0, 301)
        model = br.LinearRegression(br.LaplacePrior(scale), law)
        _, ((mean, sd), (log_mean, log_sd)) = integrate(model, data, [weights], {"noise_scale": noises})
        assert_matches(named["weights"][..., 0], mean, sd)
        assert_matches(named["noise_scale"].log(), log_mean, log_sd)


def test_fewer_rows_than_features_agree_with_another_sampler():
    data, scales = data_of(5, 8), [0.05, 0.5]
    path = br.posterior_path(data, "l1", prior_scales=scales, noise_scale=0.5, draws=2000)
    assert path.engines == ("gibbs", "gibbs")
    for point, prior_scale in enumerate(scales):
        draws = laplace_gibbs(data.features, data.target, 0.5, prior_scale, draws=6000, seed=3)
        # The other one's own error, from means of blocks far longer than its memory.
        blocks = draws.reshape(40, 150, -1)
        error = np.hypot(blocks.mean(1).std(0, ddof=1) / 40**0.5, path.mcse_mean[point].numpy())
        assert (np.abs(draws.mean(0) - path.mean[point].numpy()) < 4.5 * error).all()
        for name, probability in (("lower", 0.05), ("upper", 0.95)):
            below = draws <= getattr(path, name)[point].numpy()
            of_blocks = below.reshape(40, 150, -1).mean(1)
            error = np.hypot(of_blocks.std(0, ddof=1) / 40**0.5, math.sqrt(0.05 * 0.95 / float(path.ess[point])))
            assert (np.abs(below.mean(0) - probability) < 4.5 * error).all(), name


def test_points_by_rejection_say_what_its_draws_do():
    data = br.load_diabetes().standardized()
    path = br.posterior_path(data, "l1", prior_scales=[0.3, 1.0], noise_scale=0.7, draws=400, seed=5, within=0.05)
    grid = PriorGrid("l1", np.array([0.3, 1.0]), 0.7, True, br.Moments.from_data(data))
    for point, prior_scale in enumerate([0.3, 1.0]):
        result = rejection.run(grid.target(prior_scale), draws=100, tune=0, chains=4, seed=5)
        weights = result.draws["weights"].flatten(0, 1).numpy()
        expected = {
            "mean": weights.mean(0),
            "sd": weights.std(0, ddof=1),
            "median": np.median(weights, axis=0),
            "lower": np.quantile(weights, 0.05, axis=0),
            "upper": np.quantile(weights, 0.95, axis=0),
            "probability_near_zero": (np.abs(weights) <= 0.05).mean(0),
            "mcse_mean": weights.std(0, ddof=1) / 20.0,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(path, name)[point], values, rtol=1e-11, atol=1e-15, err_msg=name)
        assert float(path.log_evidence[point]) == result.log_evidence and float(path.ess[point]) == 400.0
        # The engine that "auto" takes, and its evidence as far as both can tell.
        posterior = br.sample(br.LinearRegression(br.LaplacePrior(prior_scale), 0.7), data, seed=6)
        assert posterior.method == path.engines[point] == "rejection"
        errors = [found["log_evidence_standard_error"] for found in (posterior.details, result.details)]
        assert abs(posterior.log_evidence - result.log_evidence) < 4.5 * math.hypot(*errors)


def test_a_hard_scale_goes_on_until_it_is_known():
    """Where 800 draws of 16 chains are worth 30."""
    data = br.load_diabetes().standardized()
    grid = PriorGrid("l1", np.array([3e-3]), 0.7, True, br.Moments.from_data(data))
    first = laplace_path._together(grid, [0], laplace_path._Wanted(400, 0.9, None, progress=False), 800, 1, seed=0)[0]
    assert float(first["ess"]) < 200.0
    path = br.posterior_path(data, "l1", prior_scales=[3e-3], noise_scale=0.7, draws=400)
    assert float(path.ess[0]) >= 400.0
    other = hmc.run(grid.target(3e-3), draws=60, tune=60, chains=64, seed=2).draws["weights"]
    mean, error = diagnose(other, Chains.mean, Chains.mcse_mean)
    assert ((mean - path.mean[0]).abs() < 4.5 * torch.hypot(error, path.mcse_mean[0])).all()
    assert math.isnan(float(path.log_evidence[0]))


def test_what_is_not_known_well_is_said_with_its_prior_scale():
    with pytest.warns(br.ConvergenceWarning, match=r"smallest ESS is \d+ at prior scale 0\.005 \(threshold 400\)"):
        br.posterior_path(data_of(5, 8), "l1", prior_scales=[0.005], noise_scale=0.01, draws=100)


@pytest.mark.parametrize("noise", [0.5, dist.LogNormal(-0.5, 0.5)])
def test_modes_are_those_of_map_estimate(noise):
    data, scales = data_of(12, 8), [0.03, 4.0, 1.0]
    modes = _modes("l1", PriorGrid("l1", np.array(scales), noise, True, br.Moments.from_data(data)))
    zeros = []
    for weights, prior_scale in zip(modes, scales, strict=True):
        fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(prior_scale), noise), data)
        np.testing.assert_allclose(weights, fit.weights, rtol=1e-8, atol=1e-11)
        assert torch.equal(weights == 0, fit.weights == 0)
        zeros.append(int((weights == 0).sum()))
    assert zeros[0] == 8 and 0 < zeros[2] < 8  # neither all of them empty, nor none


def test_no_mode_where_the_joint_density_has_none():
    path = br.posterior_path(data_of(5, 8), "l1", prior_scales=[0.5], noise_scale=dist.HalfNormal(1.0), draws=800)
    assert path.mode is None and "mode" not in path.to_frame()


def test_a_wide_prior_gives_the_flat_posterior_and_a_narrow_one_its_centre():
    data = data_of(30, 3)
    path = br.posterior_path(data, "l1", prior_scales=[1e5, 1e-6], noise_scale=0.5, draws=4000)
    centred = data.features - data.features.mean(0)
    covariance = 0.25 * np.linalg.inv(centred.T @ centred)
    flat = covariance @ centred.T @ (data.target - data.target.mean()) / 0.25
    assert (np.abs(path.mean[0].numpy() - flat) < 4.5 * path.mcse_mean[0].numpy()).all()
    np.testing.assert_allclose(path.sd[0], np.sqrt(np.diag(covariance)), rtol=4.5 / math.sqrt(2 * 4000))
    assert (path.mean[1].abs() < 1e-6).all()
    # The standard deviation of a Laplace of scale b is sqrt(2) b; its square has the kurtosis 6.
    np.testing.assert_allclose(path.sd[1], math.sqrt(2.0) * 1e-6, rtol=4.5 * math.sqrt(5.0 / 4000) / 2)


def test_seeds_and_threads():
    def run(seed, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", br.ConvergenceWarning)
                return br.posterior_path(
                    data_of(5, 8), "l1", prior_scales=[0.3, 0.1, 0.5], noise_scale=0.5, draws=400, seed=seed
                )
        finally:
            torch.set_num_threads(before)

    one, again, other = run(1, 1), run(1, 2), run(2, 1)
    for name in ("mean", "median", "lower", "upper", "sd", "ess"):
        assert torch.equal(getattr(one, name), getattr(again, name)), name
        assert not torch.equal(getattr(one, name), getattr(other, name)), name


def test_batches_on_threads_are_those_one_after_the_other(monkeypatch):
    data, scales = data_of(5, 8), np.geomspace(0.3, 1.0, 5)
    monkeypatch.setattr(laplace_path, "_NUMBERS_HELD", 2 * 16 * 100 * 8)  # two scales a batch
    found = []
    for threads, state in ((1, 0), (2, 7)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.manual_seed(state)
        try:
            found.append(br.posterior_path(data, "l1", prior_scales=scales, noise_scale=0.5, draws=800).mean)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*found)


class RelativeToLearnedNoise:
    """One weight under Laplace(0, scale x noise scale): its density and that of log noise, summed over a grid."""

    def __init__(self, data, scale, law):
        self.weights, self.log_noise = (
            np.linspace(-8.0, 10.0, 9001) * min(1.0, 4.0 * scale),
            np.linspace(-4.0, 3.0, 201),
        )
        x, y = data.features[:, 0] - data.features.mean(), data.target - data.target.mean()
        w, noise = self.weights[:, None], np.exp(self.log_noise)
        squares = y @ y - 2.0 * w * (x @ y) + w**2 * (x @ x)
        # n - 1 powers of 1 / s by the rows, the intercept integrated out, and one by the weight's prior.
        density = -squares / (2.0 * noise**2) - len(y) * self.log_noise - np.abs(w) / (scale * noise)
        density += law.log_prob(torch.from_numpy(noise)).numpy() + self.log_noise
        density = np.exp(density - density.max())
        self.of_weight, self.of_log_noise = (density.sum(axis) / density.sum() for axis in (1, 0))
        assert max(self.of_weight[[0, -1]].max(), self.of_log_noise[[0, -1]].max()) < 1e-6

    def moments(self):
        """Mean and standard deviation of the weight, and of the log noise scale."""
        for values, masses in ((self.weights, self.of_weight), (self.log_noise, self.of_log_noise)):
            mean = masses @ values
            yield mean, math.sqrt(masses @ (values - mean) ** 2)

    def cdf(self, w):
        return np.interp(w, self.weights, self.of_weight.cumsum() - 0.5 * self.of_weight)


def test_relative_scales_in_one_batch_have_their_own_posteriors():
    data, scales, law = data_of(8, 1), [0.02, 0.3, 5.0], dist.LogNormal(-0.5, 0.5)
    grid = PriorGrid("l1", np.array(scales), law, True, br.Moments.from_data(data), relative_to_noise=True)
    targets = [grid.target(scale) for scale in scales]
    found = gibbs.run_at_scales(targets, draws=400, thin=2, tune=50, chains=16, seed=1)
    for named, scale in zip(found, scales, strict=True):
        weight, log_noise = RelativeToLearnedNoise(data, scale, law).moments()
        assert_matches(named["weights"][..., 0], *weight)
        assert_matches(named["noise_scale"].log(), *log_noise)


@pytest.mark.parametrize("engine", ["rejection", "gibbs", "hmc"])
def test_relative_to_learned_noise_agrees_with_quadrature(monkeypatch, engine):
    monkeypatch.setattr(laplace_path, "candidates", lambda target: [(engine, "as the test wants it")])
    monkeypatch.setattr(laplace_path, "_LARGEST_RANK", 0 if engine == "hmc" else 1)
    data, scales, law = data_of(8, 1), [5.0, 0.3, 0.02], dist.LogNormal(-0.5, 0.5)
    path = br.posterior_path(
        data, "l1", prior_scales=scales, noise_scale=law, relative_to_noise=True, draws=4000, seed=2, within=0.05
    )
    assert path.engines == (engine,) * 3 and path.lambdas is None
    for point, scale in enumerate(scales):
        exact, ess = RelativeToLearnedNoise(data, scale, law), float(path.ess[point])
        (mean, _), (_, log_noise_sd) = exact.moments()
        assert abs(float(path.mean[point]) - mean) < 4.5 * float(path.mcse_mean[point])
        for name, probability in (("lower", 0.05), ("median", 0.5), ("upper", 0.95)):
            assert_holds(exact.cdf(float(getattr(path, name)[point])), probability, ess, (scale, name))
        near = exact.cdf(0.05) - exact.cdf(-0.05)
        assert_holds(float(path.probability_near_zero[point]), near, ess, scale)
        expected = exact.of_log_noise @ np.exp(exact.log_noise)
        spread = math.sqrt(exact.of_log_noise @ (np.exp(exact.log_noise) - expected) ** 2)
        assert abs(float(path.noise_scale[point]) - expected) < 4.5 * spread / math.sqrt(ess)
        assert log_noise_sd > 0.1  # one noise scale is not as good as all


def test_relative_to_learned_noise_agrees_with_sample():
    data, scales = data_of(5, 8), [0.1, 1.0]
    law = dist.LogNormal(-0.5, 0.5)
    path = br.posterior_path(data, "l1", prior_scales=scales, noise_scale=law, relative_to_noise=True, seed=3)
    for point, scale in enumerate(scales):
        model = br.LinearRegression(br.LaplacePrior(scale, relative_to_noise=True), law)
        posterior = br.sample(model, data, seed=4)
        draws, noise = posterior.draws["weights"], posterior.draws["noise_scale"]
        mean, errors = diagnose(draws, Chains.mean, Chains.mcse_mean)
        error = torch.hypot(errors, path.mcse_mean[point])
        assert ((mean - path.mean[point]).abs() < 4.5 * error).all()
        for name, probability in (("lower", 0.05), ("upper", 0.95)):
            (found,) = diagnose(draws, functools.partial(Chains.mcse_quantile, probability=probability))
            other = torch.quantile(draws.flatten(0, 1), probability, 0)
            error = torch.hypot(found, getattr(path, f"mcse_{name}")[point])
            assert ((other - getattr(path, name)[point]).abs() < 4.5 * error).all(), name
        error = float(noise.std()) * math.sqrt(2.0 / float(path.ess[point]))
        assert abs(float(noise.mean() - path.noise_scale[point])) < 4.5 * error


def test_modes_relative_to_learned_noise_are_those_of_map_estimate():
    data, scales, law = data_of(12, 8), [0.1, 4.0], dist.LogNormal(-0.5, 0.5)
    path = br.posterior_path(data, "l1", prior_scales=scales, noise_scale=law, relative_to_noise=True, draws=800)
    for weights, scale in zip(path.mode, scales, strict=True):
        fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(scale, relative_to_noise=True), law), data)
        np.testing.assert_allclose(weights, fit.weights, rtol=1e-8, atol=1e-11)
        assert torch.equal(weights == 0, fit.weights == 0)
    assert 0 < int((path.mode == 0).sum()) < 16


def test_warnings_name_the_scales_that_were_given():
    with pytest.warns(br.ConvergenceWarning, match=r"smallest ESS is \d+ at prior scale 0\.5 \(threshold 400\)"):
        br.posterior_path(data_of(5, 8), "l1", prior_scales=[0.5], noise_scale=0.01, relative_to_noise=True, draws=100)


def test_where_few_scales_are_left_each_has_more_chains_of_a_hundred_draws_or_more(monkeypatch):
    asked, run = [], laplace_path.gibbs.run_at_scales
    monkeypatch.setattr(laplace_path.gibbs, "run_at_scales", lambda targets, **given: (
        asked.append({**given, "scales": len(targets)}) or run(targets, **given)
    ))  # fmt: skip
    data = br.load_diabetes().standardized()
    br.posterior_path(data, "l1", prior_scales=np.geomspace(2e-3, 6e-3, 4), noise_scale=0.7, draws=1000)
    assert [(each["chains"], each["draws"], each["thin"], each["tune"]) for each in asked] == [
        (20, 100, 1, 50), (64, 125, 1, 50), (64, 125, 4, 125)
    ]  # fmt: skip
    assert asked[0]["scales"] == 4 > asked[-1]["scales"]
