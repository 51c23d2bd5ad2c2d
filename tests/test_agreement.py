"""The engines against one another on real data, and slips that these checks must catch."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_matches
from oracles import laplace_gibbs

import bayesreg as br
from bayesreg.evidence import EvidenceSpectrum
from bayesreg.inference import exact
from bayesreg.priors import FlatPrior, GaussianPrior
from bayesreg.scales import LearnedScale

LEARNED = dist.HalfNormal(1.0)
GAUSSIAN = br.LinearRegression(br.GaussianPrior(0.2), LEARNED)


@pytest.fixture(scope="module")
def diabetes():
    return br.load_diabetes().standardized()


@pytest.fixture(scope="module")
def apart(diabetes):
    """The columns that are not nearly copies of one another, on which a trajectory is shorter."""
    return br.RegressionData(diabetes.features[:, [0, 1, 2, 3, 8, 9]], diabetes.target)


@pytest.fixture(scope="module")
def reference(diabetes):
    """Mean and standard deviation of each quantity by 200,000 independent draws of the exact engine."""
    draws = br.sample(GAUSSIAN, diabetes, method="exact", draws=50_000, seed=9).draws
    return {name: (values.mean((0, 1)), values.std((0, 1))) for name, values in draws.items()}


def test_nuts_agrees_with_exact(diabetes, reference):
    posterior = br.sample(GAUSSIAN, diabetes, method="pyro-nuts", draws=400, tune=150, chains=3)
    for name, (mean, sd) in reference.items():
        assert_matches(posterior.draws[name], mean, sd)


def test_svi_agrees_with_exact_within_its_known_bias(diabetes, reference):
    """A Gaussian in (w, log s) lacks the weights' Student tails and the noise's skewness: a few per cent of an sd."""
    posterior = br.sample(GAUSSIAN, diabetes, method="svi", draws=2000)
    for name, (mean, sd) in reference.items():
        assert_matches(posterior.draws[name], mean, sd, allowed_bias=0.04)
    assert posterior.log_evidence is None
    evidence = br.sample(GAUSSIAN, diabetes, method="exact", draws=1, chains=1).log_evidence
    assert evidence - 0.1 < posterior.details["elbo"] < evidence + 4 * posterior.details["elbo_standard_error"]


def test_nuts_agrees_with_gibbs_under_a_laplace_prior(apart):
    gibbs = laplace_gibbs(apart.features, apart.target, 0.7, 0.05, draws=40_000, seed=0)
    model = br.LinearRegression(br.LaplacePrior(0.05), 0.7)
    posterior = br.sample(model, apart, method="pyro-nuts", draws=450, tune=150, chains=3)
    # The oracle's own error is a sixth of the chains': 40,000 draws against some 1,100.
    assert_matches(posterior.draws["weights"], gibbs.mean(0), gibbs.std(0), allowed_bias=0.02)


# --- slips: each makes the engine that it is planted in fail against quadrature


def small_data():
    random = np.random.default_rng(5)
    features = random.standard_normal((12, 2))
    return br.RegressionData(features, features @ [1.0, -0.5] + 0.8 * random.standard_normal(12))


def by_quadrature(model, data):
    """Mean and sd of log noise under the marginal posterior, from the density of the contrasts of the target."""
    contrasts = np.linalg.svd(np.ones((1, data.num_rows)))[2][1:]
    features, target = contrasts @ data.features, contrasts @ data.target
    grid = np.linspace(-5, 3, 2001)
    density = []
    for log_scale in grid:
        covariance = np.exp(2 * log_scale) * np.eye(len(target)) + model.prior.scale**2 * features @ features.T
        density.append(
            -0.5 * np.linalg.slogdet(covariance)[1]
            - 0.5 * target @ np.linalg.solve(covariance, target)
            - np.exp(2 * log_scale) / 2
            + log_scale
        )
    weight = np.exp(np.array(density) - max(density))
    weight /= weight.sum()
    mean = weight @ grid
    return mean, (weight @ (grid - mean) ** 2) ** 0.5


def check_exact():
    model, data = br.LinearRegression(br.GaussianPrior(0.5), LEARNED), small_data()
    result = exact.run(model.target(data), draws=10_000, tune=0, chains=4, seed=0)
    assert_matches(result.draws["noise_scale"].log(), *by_quadrature(model, data))


def test_the_exact_engine_passes_where_nothing_is_planted():
    check_exact()


def plant_n_for_n_minus_1(monkeypatch):
    monkeypatch.setattr(EvidenceSpectrum, "degrees_of_freedom", property(lambda self: self.num_rows))


def plant_a_missing_jacobian(monkeypatch):
    monkeypatch.setattr(LearnedScale, "log_density", lambda self, u: self.distribution.log_prob(self.constrain(u)))


def plant_a_dropped_noise_prior(monkeypatch):
    monkeypatch.setattr(LearnedScale, "log_density", lambda self, u: u)


@pytest.mark.parametrize("plant", [plant_n_for_n_minus_1, plant_a_missing_jacobian, plant_a_dropped_noise_prior])
def test_a_slip_in_the_exact_engine_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="mean|sd"):
        check_exact()


def drop_the_prior(monkeypatch):
    monkeypatch.setattr(
        GaussianPrior, "log_density", lambda self, deviation, scale: torch.zeros_like(deviation[..., 0])
    )
    monkeypatch.setattr(GaussianPrior, "derivatives", FlatPrior.derivatives)


@pytest.mark.parametrize("method", ["pyro-nuts", "svi"])
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_a_dropped_weight_prior_is_caught_in_the_other_engines(method, apart, monkeypatch):
    model = br.LinearRegression(br.GaussianPrior(0.05), 0.7)
    draws = br.sample(model, apart, method="exact", draws=20_000).draws["weights"]
    mean, sd = draws.mean((0, 1)), draws.std((0, 1))
    settings = {"method": method, "draws": 250, "tune": 120, "chains": 2}
    settings |= {"pyro_loop": True} if method == "svi" else {}  # the closed form has the prior in it, not its density
    drop_the_prior(monkeypatch)
    posterior = br.sample(model, apart, **settings)
    with pytest.raises(AssertionError, match="mean|sd"):
        assert_matches(posterior.draws["weights"], mean, sd, minimum_ess=100, allowed_bias=0.05)
