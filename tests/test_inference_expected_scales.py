"""Expectations of scale densities: closed forms against the density itself, integrated."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from bayesreg.inference.expected_scales import ExpectedScale, _density
from bayesreg.scales import LearnedScale

NAMED = [
    dist.HalfNormal(0.7),
    dist.LogNormal(-0.4, 1.3),
    dist.Gamma(2.5, 3.0),
    dist.Chi2(3.0),
    dist.InverseGamma(1.5, 0.3),
    dist.Exponential(0.6),
    dist.Weibull(0.8, 1.7),
    dist.HalfNormal(1.0).mask(False),
]


class SquaredHalfCauchy(dist.HalfCauchy):
    """A density that no file can name."""

    def log_prob(self, value):
        return 2.0 * super().log_prob(value)


OTHERS = [
    dist.HalfCauchy(0.5),
    SquaredHalfCauchy(torch.tensor(0.8, dtype=torch.float64)),
]


def integrated(learned, mean, spread):
    """E f, E f' and E f'' by adaptive quadrature, the slopes by autograd."""

    def derivatives(u):
        point = torch.tensor(u, dtype=torch.float64, requires_grad=True)
        value = learned.log_density(point)
        if not value.requires_grad:
            value = value + 0.0 * point
        (slope,) = torch.autograd.grad(value, point, create_graph=True)
        curvature = torch.autograd.grad(slope, point)[0] if slope.requires_grad else torch.zeros_like(point)
        return value.item(), slope.item(), float(curvature)

    def weighted(z, order):
        return derivatives(mean + spread * z)[order] * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)

    return [quad(weighted, -11, 11, args=(order,), epsabs=1e-11, epsrel=1e-11, points=[0.0])[0] for order in range(3)]


@pytest.mark.parametrize("distribution", [*NAMED, *OTHERS], ids=str)
@pytest.mark.parametrize(("mean", "spread"), [(-0.8, 0.3), (0.5, 1.2)])
def test_expectations_are_integrals(distribution, mean, spread):
    learned = LearnedScale(distribution)
    found = ExpectedScale(learned)(np.array([mean, 9.0]), np.array([spread**2, 1.0]))
    for value, expected in zip(found, integrated(learned, mean, spread), strict=True):
        assert np.broadcast_to(value, 2)[0] == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("distribution", NAMED, ids=str)
def test_the_named_densities_have_closed_forms_that_the_quadrature_confirms(distribution):
    expected = ExpectedScale(LearnedScale(distribution))
    assert expected._closed is not None
    expected_by_quadrature = ExpectedScale(LearnedScale(distribution))
    expected_by_quadrature._closed, expected_by_quadrature._density = None, _density(distribution)
    mean, variance = np.array([-1.0, 0.3]), np.array([0.01, 0.8])
    for one, other in zip(expected(mean, variance), expected_by_quadrature(mean, variance), strict=True):
        np.testing.assert_allclose(np.broadcast_to(one, 2), other, rtol=1e-8, atol=1e-8)
