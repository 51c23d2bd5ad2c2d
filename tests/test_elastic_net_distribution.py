"""The elastic net's density and draws: against quadrature and SciPy's truncated normal, at any ratio of its scales."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

from bayesreg.elastic_net_distribution import ElasticNetDistribution

# t / b from a Gaussian to a Laplace density, and beyond what a difference of large numbers would survive.
RATIOS = [1e-8, 1e-3, 0.1, 1.0, 5.0, 29.0, 31.0, 1e3, 1e8]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def made(ratio, gaussian=1.0, loc=0.0):
    return ElasticNetDistribution(tensor(loc), tensor(gaussian), tensor(gaussian / ratio))


def integral(ratio, gaussian, power):
    """Twice the integral over v > 0 of v^power times the density, in panels of Gauss-Legendre."""
    size = min(gaussian, gaussian / ratio)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    ends = np.concatenate([[0.0], np.geomspace(1e-4, 50.0, 400)]) * size
    half = np.diff(ends)[:, None] / 2
    values = (ends[:-1, None] + half) + half * nodes
    density = made(ratio, gaussian).log_prob(tensor(values)).exp().numpy()
    return 2.0 * float((values**power * density * half * weights).sum())


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("gaussian", [1e-6, 0.7, 1e6])
def test_density_integrates_to_one_and_has_the_variance(ratio, gaussian):
    assert integral(ratio, gaussian, 0) == pytest.approx(1.0, rel=1e-12)
    # a^4 eps is what the closed form loses up to a = 30.
    assert float(made(ratio, gaussian).variance) == pytest.approx(integral(ratio, gaussian, 2), rel=1e-9)


def test_density_is_that_of_two_halves_of_a_truncated_normal():
    values, gaussian, laplace, loc = np.array([-3.0, -0.2, 0.1, 2.0]), 0.8, 0.5, 0.3
    half = scipy.stats.truncnorm(gaussian / laplace, np.inf, loc=-(gaussian**2) / laplace, scale=gaussian)
    expected = half.logpdf(np.abs(values - loc)) - math.log(2.0)
    found = made(gaussian / laplace, gaussian, loc).log_prob(tensor(values))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("ratio", RATIOS)
def test_draws_are_those_of_the_density(ratio):
    law = made(ratio, 0.7, 0.2)
    torch.manual_seed(1)
    draws = law.sample((20_000,)).numpy()
    size = np.abs(draws - 0.2) / min(0.7, 0.7 / ratio)
    assert scipy.stats.binomtest(int((draws > 0.2).sum()), draws.size).pvalue > 1e-3
    # P(|v| > x) by SciPy, or where it has no digits left, that of an exponential.
    if ratio < 1e3:
        half = scipy.stats.truncnorm(ratio, np.inf, loc=-ratio * max(1.0, ratio), scale=max(1.0, ratio))
    else:
        half = scipy.stats.expon()
    assert scipy.stats.kstest(size, half.cdf).pvalue > 1e-3


def test_a_draw_solves_the_equation_of_the_tail(monkeypatch):
    """To rounding, at a probability that is given: the inverse of the distribution function, and nothing near it."""
    tails = tensor([1e-300, 1e-10, 1e-3, 0.5, 0.999, 1.0 - 1e-12])
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(-tails.log()))
    for ratio in (1e-3, 0.5, 3.0, 20.0):
        size = made(ratio).sample((6,)).abs()
        found = torch.special.log_ndtr(-(ratio + size)) - torch.special.log_ndtr(tensor(-ratio))
        torch.testing.assert_close(found, tails.log(), rtol=1e-11, atol=1e-13 * max(1.0, ratio**2))


def test_it_is_a_distribution_of_pyro():
    law = ElasticNetDistribution(torch.zeros(3, 1, dtype=torch.float64), tensor([0.5, 1.0]), tensor(2.0))
    assert law.batch_shape == (3, 2) and law.event_shape == ()
    assert law.sample((4,)).shape == (4, 3, 2) and law.sample().dtype == torch.float64
    wider = law.expand((5, 3, 2))
    assert wider.batch_shape == (5, 3, 2) and wider.sample().shape == (5, 3, 2)
    torch.testing.assert_close(wider.variance, law.variance.expand(5, 3, 2))
    with pyro.plate("feature", 2):
        assert pyro.sample("weights", law).shape == (3, 2)
    with pytest.raises(ValueError, match="gaussian_scale"):
        ElasticNetDistribution(tensor(0.0), tensor(-1.0), tensor(1.0), validate_args=True)
    with pytest.raises(ValueError, match="support"):
        ElasticNetDistribution(tensor(0.0), tensor(1.0), tensor(1.0), validate_args=True).log_prob(tensor(math.nan))


@pytest.mark.parametrize("values", [tensor([-2.0, -0.1, 0.3, 4.0])])
def test_limits_are_the_laplace_and_the_gaussian(values):
    zero, scale, wide = tensor(0.0), tensor(0.6), tensor(1e9)
    laplace = ElasticNetDistribution(zero, wide, scale).log_prob(values)
    torch.testing.assert_close(laplace, dist.Laplace(zero, scale).log_prob(values), rtol=1e-12, atol=0.0)
    # What the other factor still says is |v| / b.
    gaussian = ElasticNetDistribution(zero, scale, wide).log_prob(values)
    torch.testing.assert_close(gaussian, dist.Normal(zero, scale).log_prob(values), rtol=0.0, atol=6e-9)


def test_derivatives_of_the_density_are_differences():
    parameters = [tensor(0.3).requires_grad_(), tensor(0.8).requires_grad_(), tensor(0.5).requires_grad_()]
    ElasticNetDistribution(*parameters).log_prob(tensor(1.1)).backward()
    step = 1e-6
    for index, parameter in enumerate(parameters):
        ends = []
        for sign in (1.0, -1.0):
            moved = [p.detach() + sign * step * (k == index) for k, p in enumerate(parameters)]
            ends.append(float(ElasticNetDistribution(*moved).log_prob(tensor(1.1))))
        assert float(parameter.grad) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-7)
