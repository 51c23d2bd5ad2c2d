"""The elastic net's MAP against scikit-learn and a brute-force profile; every engine against quadrature."""

import dataclasses

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_matches
from quadrature import integrate
from scipy.optimize import minimize_scalar
from sklearn.linear_model import ElasticNet

import bayesreg as br
from bayesreg import noise_modes
from bayesreg.engines import ENGINES
from bayesreg.inference import envelope, scale_mixture
from bayesreg.inference.engine import EngineCannot
from bayesreg.moments import as_moments

HALF_NORMAL = dist.HalfNormal(1.0)


def rows(num_rows, num_features, seed=3, noise=0.8):
    random = np.random.default_rng(seed)
    features = random.standard_normal((num_rows, num_features)) + 1.0
    features[:, -1] += 0.6 * features[:, 0]
    weights = np.where(np.arange(num_features) % 3, 0.0, 1.0)
    return br.RegressionData(features, features @ weights + 2.0 + noise * random.standard_normal(num_rows))


# --- the mode

SHAPES = {"n > d": rows(40, 8), "n < d": rows(15, 40)}


@pytest.mark.parametrize("shape", SHAPES)
def test_mode_is_that_of_scikit_learn(shape):
    data, noise, gaussian, laplace = SHAPES[shape], 0.7, 0.6, 0.1
    found = br.map_estimate(br.LinearRegression(br.ElasticNetPrior(gaussian, laplace), noise), data)
    total = noise**2 / (data.num_rows * laplace) + noise**2 / (data.num_rows * gaussian**2)
    share = noise**2 / (data.num_rows * laplace) / total
    solver = ElasticNet(alpha=total, l1_ratio=share, tol=1e-14, max_iter=1_000_000).fit(data.features, data.target)
    np.testing.assert_allclose(found.weights, solver.coef_, atol=1e-7)
    assert found.intercept == pytest.approx(solver.intercept_, abs=1e-7)
    assert found.certificate.relative_gap <= 1e-10 and 0 < int((found.weights == 0.0).sum()) < data.num_features


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_mode_with_scales_of_one_a_feature_and_a_location_is_certified(shape, intercept):
    data = SHAPES[shape]
    d = data.num_features
    prior = br.ElasticNetPrior(np.geomspace(0.05, 50.0, d), np.geomspace(3.0, 0.01, d), np.linspace(-0.3, 0.5, d))
    model = br.LinearRegression(prior, 0.7, intercept)
    found = br.map_estimate(model, data)
    assert found.certificate.relative_gap <= 1e-10
    assert 0 < int((found.weights.numpy() == prior.loc).sum()) < d
    # The density of Pyro's program at the mode, and that no step of any size or direction rises above it.
    target, draw = model.target(data), {"weights": found.weights}
    draw |= {"intercept": torch.tensor(found.intercept, dtype=torch.float64)} if intercept else {}
    height = target.log_density(target.unconstrain(draw))
    assert float(height) == pytest.approx(found.log_density, rel=1e-12)
    steps = torch.randn((400, d), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    steps *= torch.logspace(-6, 0, 400, dtype=torch.float64).unsqueeze(-1)
    points = target.unconstrain(draw).repeat(400, 1)
    points[:, :d] += steps
    assert bool((target.log_density(points) < height + 1e-9).all())


@pytest.mark.parametrize("relative", [True, False])
def test_mode_with_learned_noise_is_the_top_of_the_profile(relative):
    data = SHAPES["n > d"]
    model = br.LinearRegression(br.ElasticNetPrior(0.5, 0.3, 0.1, relative_to_noise=relative), HALF_NORMAL)
    found = br.map_estimate(model, data)
    target = model.target(data)

    def height(log_noise):
        """log density at the best weights for this noise, by scikit-learn on the rows; the constrained density."""
        noise, n = np.exp(log_noise), data.num_rows
        unit = noise if relative else 1.0
        l2, l1 = noise**2 / (n * (0.5 * unit) ** 2), noise**2 / (n * 0.3 * unit)
        solver = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-14, max_iter=1_000_000)
        solver.fit(data.features, data.target - 0.1 * data.features.sum(1))
        draw = {"weights": solver.coef_ + 0.1, "intercept": solver.intercept_, "noise_scale": noise}
        point = target.unconstrain({name: torch.tensor(value, dtype=torch.float64) for name, value in draw.items()})
        return float(target.log_density(point)) - log_noise  # the Jacobian of log s

    best = max(np.linspace(-2.0, 1.5, 36), key=height)
    best = minimize_scalar(lambda u: -height(u), bounds=(best - 0.1, best + 0.1), options={"xatol": 1e-9}).x
    assert found.noise_scale == pytest.approx(np.exp(best), rel=1e-6)
    assert found.log_density == pytest.approx(height(best), rel=1e-11)
    assert found.certificate.relative_gap <= 1e-10


def test_comparison_passes_and_knows_the_wrong_lambda():
    result = br.compare(br.LinearRegression(br.ElasticNetPrior(0.6, 0.1), 0.7), SHAPES["n < d"])
    assert result.passed and result.unique and {"scikit-learn", "SGD, proximal step"} <= {r.name for r in result.routes}
    assert not any(route.passed for route in result.wrong)


# --- the posterior

PLANE, LINE = rows(14, 2), rows(14, 1)
GRID, LOG_NOISE = [np.linspace(-1.0, 3.0, 241), np.linspace(-2.0, 1.9, 231)], np.linspace(-1.6, 1.7, 91)
LINE_GRID = [np.linspace(-2.0, 3.5, 8001)]
PLANAR = br.ElasticNetPrior([0.8, 0.5], [0.4, 0.9], loc=[0.3, 0.0])
CASES = {
    "both known": (br.LinearRegression(PLANAR, 0.9), PLANE, GRID, {}),
    "noise learned": (br.LinearRegression(PLANAR, HALF_NORMAL), PLANE, GRID, {"noise_scale": LOG_NOISE}),
    "relative": (
        br.LinearRegression(br.ElasticNetPrior([0.8, 0.5], 0.6, relative_to_noise=True), dist.LogNormal(0.0, 0.5)),
        PLANE, GRID, {"noise_scale": LOG_NOISE},
    ),
    "one weight": (br.LinearRegression(br.ElasticNetPrior(0.5, 0.7), HALF_NORMAL), LINE, LINE_GRID[:1],
        {"noise_scale": LOG_NOISE}),
}  # fmt: skip


def columns_of(draws, scales):
    return torch.cat([draws["weights"], *(draws[name].log()[..., None] for name in scales)], -1)


SETTINGS = {
    "rejection": {"draws": 5000, "chains": 2},
    "hmc": {"draws": 200, "tune": 100, "chains": 64},
    "gibbs": {"draws": 1000, "tune": 50, "chains": 16},
    "nuts": {"draws": 100, "tune": 100, "chains": 32},
}


@pytest.fixture(scope="module")
def exactly():
    return {name: integrate(*case) for name, case in CASES.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("engine", SETTINGS)
def test_draws_are_those_of_brute_force(engine, case, exactly):
    model, data, _, scales = CASES[case]
    log_evidence, moments = exactly[case]
    result = ENGINES[engine].load().run(model.target(data), **({"tune": 0} | SETTINGS[engine]), seed=1)
    assert_matches(columns_of(result.draws, scales), *(torch.tensor(values) for values in zip(*moments, strict=True)))
    expected = model.target(data).log_density(model.target(data).unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-10, atol=1e-9)
    if engine == "rejection":
        error = result.details["log_evidence_standard_error"]
        assert 0.0 < error < 0.02 and abs(result.log_evidence - log_evidence) < 4.0 * error
        assert 0.05 < result.details["acceptance"] < 0.999  # there was something to reject


def test_pyros_sampler_agrees(exactly):
    model, data, *_ = CASES["both known"]
    result = br.sample(model, data, method="pyro-nuts", draws=1200, tune=200, chains=1)
    assert_matches(result.draws["weights"], *(torch.tensor(v) for v in zip(*exactly["both known"][1], strict=True)))


def test_auto_takes_what_fits_and_exact_says_why_it_does_not():
    model, data, *_ = CASES["noise learned"]
    assert br.sample(model, data).method == "rejection"
    few = rows(15, 40)
    assert br.sample(model := br.LinearRegression(br.ElasticNetPrior(1.0, 0.2), 0.7), few).method == "gibbs"
    narrow = br.LinearRegression(br.ElasticNetPrior(0.02, 0.02), HALF_NORMAL)
    assert br.sample(narrow, rows(60, 12)).method == "hmc"
    with pytest.raises(EngineCannot, match="under an elastic net prior the posterior has no closed form"):
        ENGINES["exact"].load().run(model.target(few), draws=1, tune=0, chains=1, seed=0)


def test_few_rows_agree_between_engines():
    """Gibbs against hmc through the target, which shares nothing with the mixture."""
    model, data = br.LinearRegression(br.ElasticNetPrior(np.linspace(0.2, 2.0, 12), 0.3), 0.7), rows(8, 12)
    by_target = br.sample(model, data, method="hmc", draws=400, chains=128)
    by_mixture = br.sample(model, data, method="gibbs", draws=2000, chains=16)
    weights = by_target.draws["weights"].flatten(0, 1)
    # The oracle's own error is about that of the draws.
    assert_matches(by_mixture.draws["weights"], weights.mean(0), weights.std(0), allowed_bias=0.02)


def test_limits_of_the_posterior_are_laplace_and_gaussian():
    laplace = br.LinearRegression(br.LaplacePrior([0.5, 0.4], loc=[0.2, 0.0]), HALF_NORMAL)
    log_evidence, moments = integrate(laplace, PLANE, GRID, {"noise_scale": LOG_NOISE})
    near = br.LinearRegression(br.ElasticNetPrior(1e8, [0.5, 0.4], loc=[0.2, 0.0]), HALF_NORMAL)
    found = br.sample(near, PLANE, draws=5000)
    columns = columns_of(found.draws, ["noise_scale"])
    assert_matches(columns, *(torch.tensor(values) for values in zip(*moments, strict=True)))
    assert found.log_evidence == pytest.approx(log_evidence, abs=0.02)

    gaussian = br.sample(br.LinearRegression(br.GaussianPrior([0.8, 0.5]), 0.9), PLANE)
    near = br.LinearRegression(br.ElasticNetPrior([0.8, 0.5], 1e8), 0.9)
    found = br.sample(near, PLANE, draws=5000)
    target = br.LinearRegression(br.GaussianPrior([0.8, 0.5]), 0.9).target(PLANE)
    mean = target.spectrum.weight_mean(0.9, 1.0)
    sd = target.curvature(target.start())[:2, :2].inverse().diagonal().sqrt()
    assert_matches(found.draws["weights"], mean, sd)
    assert found.log_evidence == pytest.approx(gaussian.log_evidence, abs=0.02)


def test_prior_draws_are_those_of_the_prior():
    model = br.LinearRegression(br.ElasticNetPrior([0.3, 3.0], 0.4, 1.0, relative_to_noise=True), 2.0)
    draws = model.prior_draws(20_000, 2, seed=1)["weights"]
    assert_matches(draws.unsqueeze(0), 1.0, 2.0 * model.prior.scales(2))
    posterior = br.sample(model, PLANE, draws=200, chains=2)
    tree = posterior.to_datatree()
    assert tree["prior"]["weights"].shape[-1] == 2 and np.isfinite(tree["log_prior"]["weights"]).all()
    assert br.LinearRegression.from_dict(model.to_dict()).to_dict() == model.to_dict()


@pytest.mark.parametrize("guide", ["AutoMultivariateNormal", "AutoNormal"])
def test_closed_form_of_the_elbo_is_the_mean_of_the_density(guide):
    """The ELBO at the fit against a plain Monte Carlo mean of log density - log guide."""
    model, data, *_ = CASES["relative"]
    result = br.sample(model, data, method="svi", guide=guide, draws=20_000, chains=2)
    target = model.target(data)
    log_density = target.log_density(target.unconstrain(result.draws)).flatten()
    points = target.unconstrain(result.draws).flatten(0, 1)
    spread = torch.cov(points.T)
    # Of a Gaussian, p/2 log(2 pi e) + log|S|/2.
    entropy = 0.5 * torch.logdet(2.0 * np.pi * np.e * spread)
    error = float(log_density.std()) / 200.0
    assert result.details["elbo"] == pytest.approx(float(log_density.mean() + entropy), abs=5.0 * error + 0.01)
    assert result.details["converged"]


# --- the noise's modes, and slips


def test_the_bound_on_the_noise_is_below_the_evidence_and_near_it():
    model, data = br.LinearRegression(PLANAR, HALF_NORMAL), PLANE
    target = model.target(data)
    climb = noise_modes._Climb(target.spectrum, PLANAR.shape(2), target.learned_scales["noise_scale"], 1.0, False)
    for noise in (0.4, 0.9, 1.2):
        exact, _ = integrate(dataclasses.replace(model, noise_scale=noise), data, GRID, {})
        shape, mixing = PLANAR.shape(2), np.ones(2)
        for _ in range(50):
            _, second, _, bound = climb._moments(np.log(noise), 0.0, mixing)
            mixing = climb._best_mixing(second)
        # The constants that F leaves out: of the likelihood, and 2 pi of the mixture's normal densities.
        constant = -6.5 * np.log(2 * np.pi) - 0.5 * np.log(14) + (np.log(2 * np.pi) / 2 - shape.log_constant).sum()
        assert exact - 0.6 < bound + constant < exact


def test_the_best_slope_is_that_of_the_map():
    data, prior = SHAPES["n > d"], br.ElasticNetPrior(0.5, 0.05, 0.1)
    model = br.LinearRegression(prior, 0.7)
    fit, target = br.map_estimate(model, data), model.target(data)
    _, cross = as_moments(data).residuals(fit.weights.numpy())
    expected = prior.scales(8) * np.asarray(cross) / 0.7**2
    strength, factor = np.array([0.7**2]), 1.0 / np.array([0.7])
    found = envelope._dual_of_the_lasso(target.spectrum, strength, 0.7, 200, prior.shape(8), factor)[0]
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert abs(found).max() > prior.shape(8).absolute[0] > abs(found).min()  # both parts were needed


def test_a_slip_is_caught(monkeypatch, exactly):
    """The Gaussian factor left out of the chance to keep a draw, and the mixture's variance taken for a Laplace's."""
    honest = envelope.Envelope.__init__

    def without_square(self, *call):
        honest(self, *call)
        self._square = torch.zeros_like(self._square)

    monkeypatch.setattr(envelope.Envelope, "__init__", without_square)
    monkeypatch.setattr(scale_mixture.Kink, "variances", lambda self, mixing: mixing / self._absolute.square())
    with pytest.raises(AssertionError):
        test_draws_are_those_of_brute_force("rejection", "noise learned", exactly)
    with pytest.raises(AssertionError):
        test_draws_are_those_of_brute_force("gibbs", "noise learned", exactly)
