"""Mixtures of Normals against SciPy's distribution functions and integrals."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from bayesreg.paths.normal_mixtures import NormalMixtures


def mixtures(kind, count=6, components=40):
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(components, 0.3))
    spread = {"one hump": 0.1, "many humps": 50.0}[kind]
    means = 2.0 + spread * random.standard_normal((count, components))
    deviations = np.exp(random.standard_normal((count, components)))
    return probabilities, means, deviations


def as_tensors(*arrays):
    return NormalMixtures(*(torch.tensor(array, dtype=torch.float64) for array in arrays))


@pytest.mark.parametrize("kind", ["one hump", "many humps"])
@pytest.mark.parametrize("probability", [1e-6, 0.05, 0.5, 0.9, 1.0 - 1e-9])
def test_quantiles_are_roots_of_the_distribution_function(kind, probability):
    probabilities, means, deviations = mixtures(kind)
    found = as_tensors(probabilities, means, deviations).quantile(probability).numpy()
    # The smaller tail, which has its digits.
    law = scipy.stats.norm.cdf if probability <= 0.5 else scipy.stats.norm.sf
    tail = min(probability, 1.0 - probability)
    reached = (probabilities * law(found[:, None], means, deviations)).sum(-1)
    # What F itself rounds to, where it is near 1.
    np.testing.assert_allclose(reached, tail, rtol=1e-12, atol=4e-16 if probability > 0.5 else 0.0)


@pytest.mark.parametrize("kind", ["one hump", "many humps"])
def test_moments_and_the_mass_near_zero_are_integrals(kind):
    probabilities, means, deviations = mixtures(kind, count=2)
    found = as_tensors(probabilities, means, deviations)
    near = found.probability_within(torch.tensor(1.5, dtype=torch.float64))
    for row in range(2):

        def density(x, row=row):
            return probabilities @ scipy.stats.norm.pdf(np.atleast_1d(x)[:, None], means[row], deviations[row]).T

        x = np.linspace(-400.0, 400.0, 40_001)
        mean = scipy.integrate.trapezoid(x * density(x), x)
        sd = scipy.integrate.trapezoid((x - mean) ** 2 * density(x), x) ** 0.5
        inside = scipy.integrate.fixed_quad(density, -1.5, 1.5, n=200)[0]
        assert found.mean()[row] == pytest.approx(mean, rel=1e-9)
        assert found.sd()[row] == pytest.approx(sd, rel=1e-9)
        assert near[row] == pytest.approx(inside, rel=1e-9)


def test_a_normal_has_its_own_quantiles_and_a_far_tail_its_digits():
    normal = as_tensors([1.0], [[3.0], [-3.0]], [[0.1], [0.1]])
    expected = scipy.stats.norm.ppf(0.05, [3.0, -3.0], 0.1)
    np.testing.assert_allclose(normal.quantile(0.05).numpy(), expected, rtol=1e-15)
    near = normal.probability_within(torch.tensor(0.5, dtype=torch.float64)).numpy()  # 25 standard deviations away
    np.testing.assert_allclose(near, scipy.stats.norm.sf(25.0) - scipy.stats.norm.sf(35.0), rtol=1e-10)
