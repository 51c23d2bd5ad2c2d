"""Modes of the noise scale: against brute force on orthogonal designs, where the weights are independent."""

import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate

import bayesreg as br
from bayesreg.noise_modes import noise_modes

HALF_NORMAL = dist.HalfNormal(1.0)


def orthogonal(rows, seed=0, weak=0, weight=1.0, noise=0.1):
    """Columns of mean 0, length sqrt(n) (weak ones a twentieth) and no correlation; the strong ones have a weight."""
    random = np.random.default_rng(seed)
    columns = np.column_stack([np.ones(rows), random.standard_normal((rows, 5 + weak))])
    features = np.linalg.qr(columns)[0][:, 1:] * np.sqrt(rows)
    features[:, 5:] *= 0.05
    return br.RegressionData(features, features[:, :5].sum(1) * weight + noise * random.standard_normal(rows))


def log_evidence(data, scale, noise):
    """log p(y | s) under Laplace(0, b), the intercept integrated out: one integral a weight, on a grid."""
    moments = br.Moments.from_data(data)
    lengths, fitted = np.diag(moments.Sxx), moments.Sxy / np.diag(moments.Sxx)
    degrees = data.num_rows - 1
    residual = moments.Syy - (lengths * fitted**2).sum()
    total = -0.5 * degrees * np.log(2 * np.pi) - 0.5 * np.log(data.num_rows) - degrees * np.log(noise)
    total -= residual / (2 * noise**2)
    for length, centre in zip(lengths, fitted, strict=True):
        width = noise / np.sqrt(length)
        for_likelihood = centre + width * np.linspace(-12, 12, 4001)
        for_prior = scale * np.sinh(np.linspace(-8, 8, 4001))
        grid = np.unique(np.concatenate([for_likelihood, for_prior]))
        log_integrand = -(((grid - centre) / width) ** 2) / 2 - np.abs(grid) / scale - np.log(2 * scale)
        top = log_integrand.max()
        total += top + np.log(integrate.trapezoid(np.exp(log_integrand - top), grid))
    return total


def modes_of(data, prior, noise=HALF_NORMAL):
    target = br.LinearRegression(prior, noise).target(data)
    learned = target.learned_scales["noise_scale"]
    return learned, noise_modes(
        target.spectrum,
        prior.shape(target.num_features),
        learned,
        float(learned.constrain(target.start()[-1]).log()),
        1.0,
        prior.relative_to_noise,
    )


@pytest.mark.parametrize(("rows", "weak", "scale"), [(60, 8, 1 / 22), (60, 0, 1 / 22), (40, 0, 1 / 16)])
def test_a_mode_in_conflict_with_the_prior_is_found_and_its_height_bounded(rows, weak, scale):
    data = orthogonal(rows, weak=weak)
    learned, (mode,) = modes_of(data, br.LaplacePrior(scale))
    found = np.exp(mode.log_noise)
    grid = np.exp(np.linspace(np.log(found) - 0.3, np.log(found) + 0.3, 61))
    heights = [log_evidence(data, scale, s) - s**2 / 2 + np.log(s) for s in grid]
    assert grid[int(np.argmax(heights))] == pytest.approx(found, rel=0.08)
    truth = log_evidence(data, scale, found) + float(
        learned.log_density(torch.tensor(mode.coordinate, dtype=torch.float64))
    )
    # F leaves out what the evidence has of 2 pi and log n.
    bound = mode.bound - 0.5 * (rows - 1) * np.log(2 * np.pi) - 0.5 * np.log(rows)
    bound += data.num_features * (0.5 * np.log(2 * np.pi) - np.log(2))
    assert truth - 0.28 * data.num_features < bound < truth


def test_two_modes_of_like_height_both_have_chains():
    """A scale at which neither explanation wins: the strong weights from the data, or large noise."""
    data = orthogonal(30, noise=0.15)
    by_scale = {}
    for scale in 1 / np.linspace(8, 40, 65):
        modes = modes_of(data, br.LaplacePrior(scale))[1]
        if len(modes) == 2:
            by_scale[scale] = modes
    assert by_scale
    scale, (higher, lower) = next(iter(by_scale.items()))
    assert higher.bound >= lower.bound > higher.bound - 5.0
    starts = br.LinearRegression(br.LaplacePrior(scale), HALF_NORMAL).target(data).starts()
    assert starts.shape == (2, 7) and float(starts[0, -1]) == higher.coordinate
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        br.sample(br.LinearRegression(br.LaplacePrior(scale), HALF_NORMAL), data, method="hmc", draws=50)
    assert any(str(warning.message).startswith("R-hat") for warning in seen)


@pytest.mark.parametrize("prior", [br.LaplacePrior(0.1), br.LaplacePrior(0.3, relative_to_noise=True)])
def test_where_nothing_is_in_conflict_the_start_will_do(prior):
    data = orthogonal(60, weight=0.05, noise=1.0)
    assert modes_of(data, prior)[1] == []
    target = br.LinearRegression(prior, HALF_NORMAL).target(data)
    assert (target.starts() == target.start()).all()


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_a_target_that_says_nothing_of_the_noise_has_a_start_all_the_same(rows):
    features = np.random.default_rng(0).standard_normal((rows, 2))
    data, prior = br.RegressionData(features, np.full(rows, 2.0)), br.LaplacePrior(0.5)
    assert modes_of(data, prior, dist.LogNormal(0.0, 1.0))[1] == []
    for method in ("hmc", "gibbs"):
        model = br.LinearRegression(prior, dist.LogNormal(0.0, 1.0))
        assert br.sample(model, data, method=method, draws=5, chains=4).draws["noise_scale"].isfinite().all()


@pytest.mark.parametrize("noise", [dist.Uniform(0.01, 5.0), dist.LogNormal(0.0, 1.0), HALF_NORMAL.mask(False)])
def test_any_prior_of_the_noise_will_do(noise):
    learned, modes = modes_of(orthogonal(60), br.LaplacePrior(1 / 22), noise)
    assert np.exp(modes[0].log_noise) == pytest.approx(0.1, rel=0.2)


@pytest.fixture(scope="module")
def conflict():
    """Data, prior scale, and E s and sd s by brute force."""
    data, scale = orthogonal(60, weak=8), 1 / 22
    grid = np.exp(np.linspace(np.log(0.04), np.log(4.0), 500))
    heights = np.array([log_evidence(data, scale, s) - s**2 / 2 + np.log(s) for s in grid])
    weights = np.exp(heights - heights.max())
    weights /= weights.sum()
    mean = weights @ grid
    return data, scale, mean, np.sqrt(weights @ (grid - mean) ** 2)


@pytest.mark.parametrize("method", ["hmc", "nuts", "gibbs"])
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_chains_are_where_the_mass_is(method, conflict):
    """A Gaussian prior of the same variance would start at s = 2, where is e^-84 of it."""
    data, scale, mean, sd = conflict
    settings = {"draws": 60} if method == "nuts" else {}  # the slow one, whose ESS is still over ten times the 400
    model = br.LinearRegression(br.LaplacePrior(scale), HALF_NORMAL)
    posterior = br.sample(model, data, method=method, seed=0, **settings)
    draws = posterior.draws["noise_scale"]
    ess = posterior.summary().loc["noise_scale", "ess_bulk"]
    assert ess > 400
    assert abs(float(draws.mean()) - mean) < 4.0 * sd / np.sqrt(ess)
    assert float(draws.std()) == pytest.approx(sd, rel=0.15)
