"""Simulation-based calibration: parameters from the prior, data from them, and their ranks among posterior draws.

If an engine draws from the posterior, the rank of each true quantity among its draws is uniform over simulations (Cook,
Gelman & Rubin, JCGS 15, 2006; Talts et al., arXiv:1804.06788, 2018). The intercept's prior is flat and cannot be drawn
from: any fixed value serves, since the posterior moves with the data. Beside the parameters, the log likelihood and
|w|_1 are ranked, which see errors that each parameter alone averages out (Modrak et al., Bayesian Analysis, 2023).
"""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chi2, norm

import bayesreg as br
from bayesreg.engines import ENGINES
from bayesreg.scales import LearnedScale

SIMULATIONS = 500
# A transition of NUTS takes many times as long as one of the others.
FEWER = {"nuts": 250}
# Half of the simulations first, and the others where the half's p-value, times the number of tests, is below this. Only
# all of them together can fail, so no right engine fails more often; a right one takes the second half 1 time in 4.
# The chance that an error in one of 7 quantities is seen so; in brackets by 500 at once, and by 250 alone: a shift of
# 0.25 sd 0.88 (0.91, 0.41), of 0.3 sd 0.98 (0.99, 0.69); draws 1.25 times too narrow 0.94 (0.97, 0.59), 1.25 times too
# wide 0.94 (0.96, 0.49). By 1,000 repetitions of each.
SUSPICIOUS = 0.3
DRAWS = 99  # ranks 0 to 99
INTERCEPT = 1.5
BINS = 10
# The chance that a right engine fails: split over what is tested of it.
FALSE_ALARM = 1e-3
PRIORS = {
    "gaussian": br.GaussianPrior(0.6),
    "gaussian, learned": br.GaussianPrior(dist.LogNormal(-0.5, 0.4)),
    "laplace": br.LaplacePrior(0.5),
    "laplace, learned": br.LaplacePrior(dist.LogNormal(-0.5, 0.4), relative_to_noise=True),
}
NOISE = dist.LogNormal(-0.3, 0.3)
FEATURES = np.random.default_rng(8).standard_normal((9, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0, 0, 1.0]])
# Independent draws of one chain, or one draw each of many chains after their warm-up.
SETTINGS = {
    "exact": {"draws": DRAWS, "tune": 0, "chains": 1},
    "rejection": {"draws": DRAWS, "tune": 0, "chains": 1},
    # After 8 scans no distance from the exact law is left that 4,000 chains show.
    "gibbs": {"draws": 1, "tune": 12, "chains": DRAWS},
    "hmc": {"draws": 1, "tune": 40, "chains": DRAWS},
    "nuts": {"draws": 1, "tune": 20, "chains": DRAWS},
}
CASES = [
    ("exact", "gaussian"),
    ("exact", "gaussian, learned"),
    ("rejection", "laplace"),
    ("rejection", "laplace, learned"),
    ("gibbs", "laplace"),
    ("gibbs", "laplace, learned"),
    ("hmc", "laplace"),
    ("hmc", "gaussian, learned"),
    ("nuts", "laplace"),
]
# With every scale learned that the engine's cases have, or a break of the scales' density is hard to see.
BROKEN = dict(CASES) | {"nuts": "laplace, learned"}
BROKEN_SIMULATIONS = {"exact": 80, "rejection": 30, "gibbs": 30, "hmc": 50, "nuts": 50}


def simulate(prior, random):
    """Return the true quantities and the data that they give."""
    seed = int(random.integers(2**31))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        noise = float(NOISE.sample())
        scale = float(prior.scale.sample()) if prior.scale_is_learned else prior.scale
    effective = scale * noise if prior.relative_to_noise else scale
    standard = random.standard_normal(3) if prior.kind == "gaussian" else random.laplace(size=3)
    weights = effective * standard
    target = INTERCEPT + FEATURES @ weights + noise * random.standard_normal(len(FEATURES))
    truth = {"weights": weights, "intercept": INTERCEPT, "noise_scale": noise}
    return truth | ({"prior_scale": scale} if prior.scale_is_learned else {}), br.RegressionData(FEATURES, target)


def quantities(draws, target):
    """Return what is ranked, ``(..., k)``."""
    weights, noise = np.asarray(draws["weights"]), np.asarray(draws["noise_scale"])
    residual = target - weights @ FEATURES.T - np.asarray(draws["intercept"])[..., None]
    log_likelihood = -len(FEATURES) * np.log(noise) - (residual**2).sum(-1) / (2 * noise**2)
    columns = [*np.moveaxis(weights, -1, 0), draws["intercept"], noise]
    columns += [draws["prior_scale"]] if "prior_scale" in draws else []
    return np.stack([*columns, log_likelihood, np.abs(weights).sum(-1)], axis=-1)


def ranks(method, prior, simulations):
    """Return the rank of each true quantity among the engine's draws, ``(simulation, k)``."""
    run, found = ENGINES[method].load().run, []
    of_case = [17, list(SETTINGS).index(method), list(PRIORS).index(prior)]
    for simulation in simulations:
        truth, data = simulate(PRIORS[prior], np.random.default_rng([*of_case, simulation]))
        target = br.LinearRegression(PRIORS[prior], NOISE).target(data)
        drawn = run(target, seed=simulation, **SETTINGS[method]).draws
        values = quantities(
            {name: value.reshape(DRAWS, *value.shape[2:]) for name, value in drawn.items()}, data.target
        )
        found.append((values < quantities(truth, data.target)).sum(0))
    return np.array(found)


def departure(found):
    """Return the smallest p-value over quantities of three tests that ranks are uniform, times the number of tests."""
    uniform = (found + 0.5) / (DRAWS + 1)
    simulations, number = found.shape
    smallest = 1.0
    for column in uniform.T:
        counts = np.histogram(column, BINS, (0, 1))[0]
        expected = simulations / BINS
        p_values = [chi2.sf(((counts - expected) ** 2 / expected).sum(), BINS - 1)]
        p_values.append(2 * norm.sf(abs(column.mean() - 0.5) * math.sqrt(12 * simulations)))
        # The mean of (u - 1/2)^2 is 1/12, with variance 1/180: too narrow or too wide posteriors.
        p_values.append(2 * norm.sf(abs(((column - 0.5) ** 2).mean() - 1 / 12) * math.sqrt(180 * simulations)))
        smallest = min(smallest, *p_values)
    return 3 * number * smallest


@pytest.mark.parametrize(("method", "prior"), CASES)
def test_ranks_are_uniform(method, prior):
    simulations = range(FEWER.get(method, SIMULATIONS))
    half = len(simulations) // 2
    found = ranks(method, prior, simulations[:half])
    if departure(found) < SUSPICIOUS:
        found = np.concatenate([found, ranks(method, prior, simulations[half:])])
    assert departure(found) > FALSE_ALARM


def forget_a_power_of_the_scale(monkeypatch):
    """Every engine's density of a learned scale, s^-3 times what it should be."""
    log_density, derivatives = LearnedScale.log_density, LearnedScale.derivatives

    def wrong(self, coordinate):
        scale, log_slope, density, slope = derivatives(self, coordinate)
        return scale, log_slope, density - 3.0 * coordinate, slope - 3.0

    monkeypatch.setattr(LearnedScale, "derivatives", wrong)
    monkeypatch.setattr(LearnedScale, "log_density", lambda self, u: log_density(self, u) - 3.0 * u)


@pytest.mark.parametrize(("method", "prior"), list(BROKEN.items()))
def test_a_broken_engine_does_not_pass(method, prior, monkeypatch):
    forget_a_power_of_the_scale(monkeypatch)
    assert departure(ranks(method, prior, range(BROKEN_SIMULATIONS[method]))) < FALSE_ALARM


def test_the_verdict_sees_what_is_not_uniform():
    random = np.random.default_rng(5)
    uniform = random.integers(0, DRAWS + 1, (SIMULATIONS, 3))
    assert departure(uniform) > FALSE_ALARM
    for mean, sd in ((50.0, 50.0), (50.0, 20.0), (60.0, 29.0)):  # too narrow a posterior, too wide a one, a shift
        column = np.clip(np.rint(random.normal(mean, sd, (SIMULATIONS, 1))), 0, DRAWS)
        assert departure(np.concatenate([uniform, column], 1)) < FALSE_ALARM
