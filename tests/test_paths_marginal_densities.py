"""Marginal densities along a posterior path: closed forms in one weight, brute force in two, mixtures of Normals."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from quadrature import integrate
from test_paths_laplace_path import OneWeight, data_of

import bayesreg as br
from bayesreg.paths import laplace_path
from bayesreg.paths.marginal_densities import laplace_densities


def masses(path):
    """The integral of each density and the mean of what it covers, by the trapezoidal rule."""
    at, density = path.density_at.numpy(), path.density.numpy()
    total = np.trapezoid(density, at, axis=-1)
    return total, np.trapezoid(density * at, at, axis=-1) / total


def test_one_weight_has_its_closed_form_whatever_was_drawn():
    data, scales = data_of(12, 1), [2.0, 0.12, 0.03, 0.005]
    path = br.posterior_path(data, "l1", prior_scales=scales, noise_scale=0.5, draws=100, num_density_points=41)
    assert path.density.shape == path.density_at.shape == (4, 1, 41)
    for scale, at, density in zip(scales, path.density_at[:, 0].numpy(), path.density[:, 0].numpy(), strict=True):
        exact, step = OneWeight(data, 0.5, scale), 1e-5 * np.ptp(at)
        slopes = (exact.cdf(at + step) - exact.cdf(at - step)) / (2 * step)
        smooth = np.abs(at) > step  # not across the kink
        np.testing.assert_allclose(density[smooth], slopes[smooth], rtol=1e-5, atol=1e-8 * slopes.max())


@pytest.mark.parametrize("engine", ["rejection", "gibbs"])
@pytest.mark.parametrize("noise", [0.5, dist.HalfNormal(1.0)])
def test_two_weights_have_what_brute_force_has(monkeypatch, engine, noise):
    monkeypatch.setattr(laplace_path, "candidates", lambda target: [(engine, "as the test wants it")])
    data = data_of(15, 2, seed=3)
    path = br.posterior_path(
        data, "l1", prior_scales=[0.3], noise_scale=noise, draws=4000, num_density_points=61, seed=1
    )
    total, mean = masses(path)
    np.testing.assert_allclose(total, 1.0, atol=2e-3)  # 4 standard deviations each side, 60 steps, a kink
    assert np.all(np.abs(mean - path.mean.numpy()) < 4.5 * path.mcse_mean.numpy() + 1e-3 * path.sd.numpy())
    grids = [np.linspace(-2.5, 2.5, 401)] * 2
    scales = {} if noise == 0.5 else {"noise_scale": np.linspace(-2.5, 2.5, 121)}
    _, moments = integrate(br.LinearRegression(br.LaplacePrior(0.3), noise), data, grids, scales)
    for j in range(2):
        assert abs(mean[0, j] - moments[j][0]) < 0.1 * moments[j][1], "the density's mean"
        at, density = path.density_at[0, j].numpy(), path.density[0, j].numpy()
        deviation = np.sqrt(np.trapezoid((at - mean[0, j]) ** 2 * density, at))
        assert deviation == pytest.approx(moments[j][1], rel=0.03)


def test_the_density_is_within_the_error_of_a_histogram_of_many_draws():
    data = data_of(15, 2, seed=3)
    path = br.posterior_path(data, "l1", prior_scales=[0.2], noise_scale=0.5, draws=4000, num_density_points=21, seed=1)
    posterior = br.sample(br.LinearRegression(br.LaplacePrior(0.2), 0.5), data, draws=50_000, chains=4, seed=2)
    for j in range(2):
        at, density = path.density_at[0, j].numpy(), path.density[0, j].numpy()
        fine = np.linspace(at[0], at[-1], 2001)
        cumulative = np.interp(at, fine, np.cumsum(np.interp(fine, at, density)) * (fine[1] - fine[0]))
        drawn = [float((posterior.draws["weights"][..., j] <= end).double().mean()) for end in at]
        np.testing.assert_allclose(cumulative, drawn, atol=0.02)


@pytest.mark.parametrize("noise", [0.5, dist.HalfNormal(1.0)])
def test_under_a_gaussian_prior_it_is_the_mixture_s(noise):
    data = data_of(15, 2)
    path = br.posterior_path(data, "l2", prior_scales=[0.1, 1.0], noise_scale=noise, num_density_points=81)
    total, mean = masses(path)
    np.testing.assert_allclose(total, 1.0, atol=2e-3)
    np.testing.assert_allclose(mean, path.mean, atol=2e-3 * float(path.sd.max()))
    if noise == 0.5:
        expected = scipy.stats.norm.pdf(path.density_at, path.mean[..., None], path.sd[..., None])
        np.testing.assert_allclose(path.density, expected, rtol=1e-12)


def test_a_column_of_one_number_keeps_its_prior():
    random = np.random.default_rng(0)
    data = br.RegressionData(np.column_stack([random.normal(size=12), np.ones(12)]), random.normal(size=12))
    path = br.posterior_path(data, "l1", prior_scales=[0.3], noise_scale=0.5, num_density_points=11)
    at = path.density_at[0, 1].numpy()
    np.testing.assert_allclose(path.density[0, 1], scipy.stats.laplace.pdf(at, scale=0.3), rtol=1e-12)


def test_nothing_else_changes_and_none_are_made_unless_asked():
    data = data_of(15, 2)
    plain, dense = (
        br.posterior_path(data, "l1", prior_scales=[0.3], noise_scale=0.5, draws=400, num_density_points=number)
        for number in (None, 5)
    )
    assert plain.density is None and plain.density_at is None
    assert plain.mean.tolist() == dense.mean.tolist() and plain.upper.tolist() == dense.upper.tolist()
    with pytest.raises(ValueError, match="num_density_points must be"):
        br.posterior_path(data, "l1", prior_scales=[0.3], noise_scale=0.5, num_density_points=1)


@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1.0])
@pytest.mark.parametrize("prior_scale", [1e-10, 1.0, 1e6])
def test_narrow_noise_and_narrow_priors_lose_no_digits(noise, prior_scale):
    random = np.random.default_rng(5)
    x = torch.from_numpy(random.standard_normal((50, 3)))
    gram, cross = x.mT @ x, x.mT @ (x @ torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64))
    precision = gram.diagonal() / noise**2
    mean = torch.linalg.solve(gram, cross)
    weights = mean.expand(7, 3).clone()
    # Around the mode of each conditional density: the least-squares weight moved by v / b, or zero.
    moved = mean.sign() * (mean.abs() - 1.0 / (precision * prior_scale)).clamp(min=0.0)
    narrow = torch.full((3,), 2.0 * prior_scale, dtype=torch.float64)  # at zero, where the prior is the narrower one
    spread = torch.where(moved == 0.0, torch.minimum(precision.rsqrt(), narrow), precision.rsqrt())
    points = moved.unsqueeze(-1) + spread.unsqueeze(-1) * torch.linspace(-12.0, 12.0, 4801, dtype=torch.float64)
    known, scale = torch.tensor([noise, prior_scale], dtype=torch.float64)
    densities = laplace_densities(points, weights, known, scale, gram, cross)
    area = torch.trapezoid(densities, points)
    assert torch.allclose(area, torch.ones(3, dtype=torch.float64), atol=1e-4), area


def test_relative_to_learned_noise_each_draw_has_a_prior_of_its_own():
    """A weight and a constant column: given the noise scale, p(w | s, y) and the prior, by quadrature over log s."""
    random, tau, law = np.random.default_rng(0), 0.4, dist.LogNormal(0.5, 0.5)
    x, noise = random.standard_normal(10) + 1.5, np.exp(np.linspace(-2.0, 4.0, 601))
    y = 0.8 * x + 2.0 * random.standard_normal(10)
    path = br.posterior_path(
        br.RegressionData(np.column_stack([x, np.ones(10)]), y), "l1", prior_scales=[tau], noise_scale=law,
        relative_to_noise=True, draws=4000, num_density_points=17,
    )  # fmt: skip
    xc, yc = x - x.mean(), y - y.mean()
    w = np.linspace(-40.0, 40.0, 40_001)[:, None]

    def height(w, s):
        return np.exp(-((yc - w * xc).reshape(-1, 10) ** 2).sum(1)[:, None] / (2 * s**2) - np.abs(w) / (tau * s))

    mass = np.stack([np.trapezoid(height(w, s)[:, 0], dx=w[1, 0] - w[0, 0]) for s in noise])
    # n - 1 powers of 1 / s by the rows, one by the prior of the weight; the other column integrates out.
    posterior = mass * noise ** -(9.0 + 1.0) * np.exp(law.log_prob(torch.from_numpy(noise)).numpy()) * noise
    posterior /= posterior.sum()
    for j in range(2):
        at = path.density_at[0, j].numpy()[:, None]
        given_noise = height(at, noise) / mass if j == 0 else scipy.stats.laplace.pdf(at, scale=tau * noise)
        expected = given_noise @ posterior
        spread = np.sqrt((given_noise - expected[:, None]) ** 2 @ posterior)
        error = spread / np.sqrt(min(500.0, float(path.ess[0])))  # the mean is over 500 draws of the noise
        assert np.all(np.abs(path.density[0, j].numpy() - expected) < 4.5 * error), j
