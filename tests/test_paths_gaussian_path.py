"""Marginals under Gaussian priors against the textbook's inverses, quadrature in two dimensions and exact draws."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.linalg
import scipy.stats
import torch

import bayesreg as br

DESIGNS = {"tall": (30, 4), "square": (6, 5), "wide": (5, 9)}


def data_of(design, seed=0):
    rows, columns = DESIGNS[design]
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns)) + 1.5
    return br.RegressionData(features, features[:, 0] - features[:, -1] + 2.0 + 0.5 * random.standard_normal(rows))


def textbook(data, noise_scale, prior_scale, intercept):
    """Mean and covariance of the weights: (X'X / s^2 + I / t^2)^-1 of the centred rows, by a plain inverse."""
    features, target = data.features, data.target
    if intercept:
        features, target = features - features.mean(0), target - target.mean()
    covariance = np.linalg.inv(features.T @ features / noise_scale**2 + np.eye(features.shape[1]) / prior_scale**2)
    return covariance @ features.T @ target / noise_scale**2, covariance


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_known_noise_gives_the_textbook_posterior(design, intercept):
    data, scales = data_of(design), [3.0, 0.01, 0.4]
    path = br.posterior_path(
        data, "l2", prior_scales=scales, noise_scale=0.5, interval=0.8, within=0.3, intercept=intercept
    )
    for point, prior_scale in enumerate(scales):
        mean, covariance = textbook(data, 0.5, prior_scale, intercept)
        law = scipy.stats.norm(mean, np.sqrt(np.diag(covariance)))
        expected = {
            "mean": mean,
            "median": mean,
            "mode": mean,
            "sd": law.std(),
            "lower": law.ppf(0.1),
            "upper": law.ppf(0.9),
            "probability_near_zero": law.cdf(0.3) - law.cdf(-0.3),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(path, name)[point], values, rtol=1e-9, atol=1e-11, err_msg=name)
    assert path.noise_scale.tolist() == [0.5] * 3 and set(path.engines) == {"exact"}
    assert path.ess is None and path.mcse_mean is None


def test_the_evidence_is_the_log_density_of_the_target():
    data = data_of("tall")
    path = br.posterior_path(data, "l2", prior_scales=[0.3, 2.0], noise_scale=0.5, intercept=False)
    for found, prior_scale in zip(path.log_evidence, [0.3, 2.0], strict=True):
        covariance = 0.25 * np.eye(len(data.target)) + prior_scale**2 * data.features @ data.features.T
        expected = scipy.stats.multivariate_normal(cov=covariance).logpdf(data.target)
        assert float(found) == pytest.approx(expected, rel=1e-11)


def test_columns_twice_do_not_bring_the_prior_to_the_others():
    """A direction that the data see has no share of t^2, though 1 - sum V^2 is not 0 to the last digit."""
    data = data_of("tall")
    twice = br.RegressionData(np.c_[data.features, data.features[:, 1]], data.target)
    path = br.posterior_path(twice, "l2", prior_scales=[1e5], noise_scale=0.5)
    single = br.posterior_path(data, "l2", prior_scales=[1e5], noise_scale=0.5)
    others = [0, 2, 3]
    # The prior says 1e-10 of what the data say; twice the column is one with a prior 2^(1/2) as wide.
    np.testing.assert_allclose(path.sd[0, others], single.sd[0, others], rtol=1e-8)
    np.testing.assert_allclose(path.sd[0, [1, 4]], 1e5 / math.sqrt(2.0), rtol=1e-8)


@pytest.mark.parametrize("noise", [0.5, dist.HalfNormal(1.0)])
def test_a_wide_prior_gives_the_flat_posterior_and_a_narrow_one_its_centre(noise):
    data = data_of("tall")
    path = br.posterior_path(data, "l2", prior_scales=[1e6, 1e-6], noise_scale=noise)
    least_squares = textbook(data, 0.5, 1e9, True)[0]
    np.testing.assert_allclose(path.mean[0], least_squares, rtol=1e-7)
    np.testing.assert_allclose(path.mean[1], 0.0, atol=1e-9)
    np.testing.assert_allclose(path.sd[1], 1e-6, rtol=1e-6)
    if noise == 0.5:
        np.testing.assert_allclose(path.sd[0], np.sqrt(np.diag(textbook(data, 0.5, 1e9, True)[1])), rtol=1e-7)


# A noise prior that leaves the noise open, and one that fights the data.
@pytest.mark.parametrize("law", [dist.HalfNormal(2.0), dist.LogNormal(-2.0, 0.3), dist.Uniform(0.2, 0.9)])
@pytest.mark.parametrize("prior_scale", [0.02, 0.5, 20.0])
def test_learned_noise_agrees_with_quadrature_in_two_dimensions(law, prior_scale):
    random = np.random.default_rng(1)
    x = random.standard_normal(7)
    y = 1.0 + 0.8 * x + 0.5 * random.standard_normal(7)
    path = br.posterior_path(
        br.RegressionData(x[:, None], y), "l2", prior_scales=[prior_scale], noise_scale=law, within=0.2
    )
    xc, yc = x - x.mean(), y - y.mean()
    nodes, node_weights = np.polynomial.legendre.leggauss(150)
    low, high = (math.log(0.2), math.log(0.9)) if isinstance(law, dist.Uniform) else (-7.0, 3.0)
    log_noise = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    noise = np.exp(log_noise)
    prior = law.log_prob(torch.from_numpy(noise).double()).numpy() + log_noise

    mean, sd = float(path.mean[0]), float(path.sd[0])

    def integrate(lower, upper, of=lambda w, s: 1.0):
        """Integrate over (w, log s), w = mean + sd sinh(v): the tails of a learned noise are heavy."""
        total, edges = 0.0, np.linspace(*np.arcsinh((np.array([lower, upper]) - mean) / sd), 9)
        for left, right in itertools.pairwise(edges):
            v = (0.5 * (left + right) + 0.5 * (right - left) * nodes)[:, None]
            w = mean + sd * np.sinh(v)
            rss = yc @ yc - 2 * w * (xc @ yc) + w**2 * (xc @ xc)
            density = -6 * np.log(noise) - rss / (2 * noise**2) + prior - w**2 / (2 * prior_scale**2)
            values = np.exp(density) * of(w, noise) * node_weights * (node_weights[:, None] * sd * np.cosh(v))
            total += 0.5 * (right - left) * values.sum()
        return total

    ends = mean - 3000.0 * sd, mean + 3000.0 * sd
    mass = integrate(*ends)
    assert integrate(*ends, lambda w, s: w) / mass == pytest.approx(mean, abs=1e-6 * sd)
    assert integrate(*ends, lambda w, s: (w - mean) ** 2) / mass == pytest.approx(sd**2, rel=1e-6)
    assert integrate(*ends, lambda w, s: s) / mass == pytest.approx(float(path.noise_scale[0]), rel=1e-6)
    for name, probability in (("lower", 0.05), ("median", 0.5), ("upper", 0.95)):
        assert integrate(ends[0], float(getattr(path, name)[0])) / mass == pytest.approx(probability, abs=1e-6), name
    near = integrate(max(-0.2, ends[0]), min(0.2, ends[1])) / mass
    assert float(path.probability_near_zero[0]) == pytest.approx(near, abs=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
def test_learned_noise_agrees_with_exact_draws(design):
    data, law = data_of(design), dist.LogNormal(-0.5, 0.5)
    path = br.posterior_path(data, "l2", prior_scales=[0.7], noise_scale=law, within=0.3)
    posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.7), law), data, draws=20_000, chains=1)
    weights = posterior.draws["weights"][0]
    number = len(weights)
    assert float(path.log_evidence[0]) == pytest.approx(posterior.log_evidence, abs=1e-8)
    # 4.5 standard errors of independent draws.
    assert ((weights.mean(0) - path.mean[0]).abs() < 4.5 * path.sd[0] / number**0.5).all()
    for name, probability in (("lower", 0.05), ("median", 0.5), ("upper", 0.95)):
        share = (weights <= getattr(path, name)[0]).double().mean(0)
        assert ((share - probability).abs() < 4.5 * (probability * (1 - probability) / number) ** 0.5).all(), name
    share, near = (weights.abs() <= 0.3).double().mean(0), path.probability_near_zero[0]
    assert ((share - near).abs() < 4.5 * (near * (1 - near) / number).sqrt()).all()
    noise = posterior.draws["noise_scale"]
    assert abs(float(noise.mean() - path.noise_scale[0])) < 4.5 * float(noise.std()) / number**0.5


def test_a_joint_mode_is_that_of_map_estimate_and_none_where_there_is_none():
    law = dist.LogNormal(-0.5, 0.5)
    path = br.posterior_path(data_of("wide"), "l2", prior_scales=[2.0, 0.1], noise_scale=law)
    for weights, prior_scale in zip(path.mode, [2.0, 0.1], strict=True):
        fit = br.map_estimate(br.LinearRegression(br.GaussianPrior(prior_scale), law), data_of("wide"))
        np.testing.assert_allclose(weights, fit.weights, rtol=1e-9, atol=1e-12)
    without = br.posterior_path(data_of("wide"), "l2", prior_scales=[2.0, 0.1], noise_scale=dist.HalfNormal(1.0))
    assert without.mode is None and torch.isfinite(without.mean).all()


class RelativeToLearnedNoise:
    """The posterior under Normal(0, (tau s)^2), by Gauss-Legendre rules over log s, from rows and plain inverses."""

    def __init__(self, data, law, tau, intercept):
        nodes, weights = np.polynomial.legendre.leggauss(40)
        edges = np.linspace(-7.0, 4.0, 31)
        half = 0.5 * np.diff(edges)[:, None]
        log_noise = (half * nodes + 0.5 * (edges[1:] + edges[:-1])[:, None]).ravel()
        self.noise, n = np.exp(log_noise), len(data.target)
        # Differences from the mean, in an orthonormal basis; the intercept's integral leaves n^(-1/2).
        basis = scipy.linalg.null_space(np.ones((1, n))) if intercept else np.eye(n)
        target, features = basis.T @ data.target, basis.T @ data.features
        covariance = np.eye(len(target)) + tau**2 * features @ features.T
        evidence = np.array([scipy.stats.multivariate_normal(cov=s**2 * covariance).logpdf(target) for s in self.noise])
        evidence += law.logpdf(self.noise) + log_noise - 0.5 * intercept * math.log(n)
        masses = np.exp(evidence - evidence.max()) * (half * weights).ravel()
        assert max(masses[0], masses[-1]) < 1e-18 * masses.sum()
        self.log_evidence, self.masses = evidence.max() + math.log(masses.sum()), masses / masses.sum()
        moments = [textbook(data, s, tau * s, intercept) for s in self.noise]
        self.means = np.stack([mean for mean, _ in moments])
        self.deviations = np.stack([np.sqrt(np.diag(covariance)) for _, covariance in moments])

    def average(self, values):
        return self.masses @ values

    def cdf(self, w):
        return self.average(scipy.stats.norm.cdf(w, self.means, self.deviations))

    def density(self, w):
        return self.average(scipy.stats.norm.pdf(w, self.means, self.deviations))


@pytest.mark.parametrize(
    ("law", "textbook_law"),
    [
        (dist.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0)),
        (dist.LogNormal(-1.0, 0.25), scipy.stats.lognorm(0.25, scale=math.exp(-1.0))),
    ],
)
@pytest.mark.parametrize(("design", "intercept"), [("tall", True), ("wide", True), ("tall", False)])
def test_relative_to_learned_noise_agrees_with_quadrature(design, intercept, law, textbook_law):
    data, lambdas = data_of(design), [0.003, 2.0, 0.1]
    path = br.posterior_path(
        data, "l2", lambdas, noise_scale=law, relative_to_noise=True, within=0.3, intercept=intercept,
        num_density_points=5,
    )  # fmt: skip
    n = len(data.target)
    assert path.relative_to_noise and path.lambdas.tolist() == lambdas
    np.testing.assert_allclose(path.prior_scales, 1.0 / np.sqrt(n * np.array(lambdas)), rtol=1e-14)
    for point, tau in enumerate(path.prior_scales.tolist()):
        exact = RelativeToLearnedNoise(data, textbook_law, tau, intercept)
        mean = exact.average(exact.means)
        variance = exact.average(exact.deviations**2 + (exact.means - mean) ** 2)
        assert float(path.log_evidence[point]) == pytest.approx(exact.log_evidence, abs=1e-8)
        assert float(path.noise_scale[point]) == pytest.approx(exact.average(exact.noise), rel=1e-8)
        np.testing.assert_allclose(path.mean[point], mean, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(path.sd[point], np.sqrt(variance), rtol=1e-8)
        for name, probability in (("lower", 0.05), ("median", 0.5), ("upper", 0.95)):
            np.testing.assert_allclose(exact.cdf(getattr(path, name)[point].numpy()), probability, atol=1e-8)
        near = exact.cdf(0.3) - exact.cdf(-0.3)
        np.testing.assert_allclose(path.probability_near_zero[point], near, atol=1e-8)
        at = path.density_at[point].numpy().T
        heights = np.stack([exact.density(row) for row in at])
        np.testing.assert_allclose(path.density[point].numpy().T, heights, rtol=1e-7)


@pytest.mark.parametrize("design", DESIGNS)
def test_relative_to_learned_noise_mean_and_mode_are_the_ridge_fit_of_the_strength(design):
    data, lambdas, law = data_of(design), [1.0, 0.1, 0.01], dist.HalfNormal(1.0)
    path = br.posterior_path(data, "l2", lambdas, noise_scale=law, relative_to_noise=True)
    fits = br.path(data, "l2", lambdas)
    np.testing.assert_allclose(path.mean, fits.weights, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(path.mode, fits.weights, rtol=1e-9, atol=1e-11)
    for weights, tau in zip(path.mode, path.prior_scales.tolist(), strict=True):
        model = br.LinearRegression(br.GaussianPrior(tau, relative_to_noise=True), law)
        np.testing.assert_allclose(weights, br.map_estimate(model, data).weights, rtol=1e-9, atol=1e-11)
