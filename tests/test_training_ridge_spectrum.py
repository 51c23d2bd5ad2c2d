"""Ridge fits from one decomposition, and the strength whose fit is nearest to given weights."""

import numpy as np
import pytest

from bayesreg.data import RegressionData
from bayesreg.training.ridge_spectrum import RidgeSpectrum


def make_rows(n=23, d=4, seed=0, offset=0.5):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) + offset
    return RegressionData(features, features @ np.linspace(-1, 2, d) + 1.5 + rng.normal(size=n))


def ridge_of(data, strength, centre, intercept):
    """The normal equations, about the centre."""
    x, y = data.features, data.target - data.features @ centre
    if intercept:
        x, y = x - x.mean(axis=0), y - y.mean()
    n, d = x.shape
    return centre + np.linalg.solve(x.T @ x / n + strength * np.eye(d), x.T @ y / n)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("d", [4, 40])
def test_ridge(d, intercept):
    data, centre = make_rows(d=d), np.linspace(1.0, -1.0, d)
    strengths = np.array([0.01, 1.0, 30.0])
    spectrum = RidgeSpectrum(data, intercept, centre)
    weights = spectrum.ridge(strengths)
    for w, strength in zip(weights, strengths, strict=True):
        np.testing.assert_allclose(w, ridge_of(data, strength, centre, intercept), rtol=0, atol=1e-10)
    residuals = data.target - weights @ data.features.T
    expected = residuals.mean(axis=1) if intercept else np.zeros(3)
    np.testing.assert_allclose(spectrum.intercepts(weights), expected, rtol=0, atol=1e-12)


def test_strength_0_is_the_least_squares_fit_nearest_to_the_centre():
    data, centre = make_rows(n=10, d=40), np.linspace(1.0, -1.0, 40)
    fit = RidgeSpectrum(data, False, centre).ridge(np.array([0.0]))[0]
    np.testing.assert_allclose(data.features @ fit, data.target, rtol=0, atol=1e-11)
    moved = np.linalg.lstsq(data.features, data.target - data.features @ centre, rcond=None)[0]
    np.testing.assert_allclose(fit, centre + moved, rtol=0, atol=1e-11)


@pytest.mark.parametrize("d", [4, 40])
def test_the_nearest_strength_of_a_ridge_fit_is_its_own(d):
    spectrum = RidgeSpectrum(make_rows(d=d), True)
    strengths = np.array([0.0, 0.003, 0.2, 5.0, 1e3])
    np.testing.assert_allclose(spectrum.nearest(spectrum.ridge(strengths)), strengths, rtol=1e-5)
    assert spectrum.nearest(np.zeros((1, d))).tolist() == [np.inf]
    assert spectrum.nearest(-spectrum.ridge(strengths[:1])).tolist() == [np.inf]
    assert spectrum.nearest(2 * spectrum.ridge(strengths[:1])).tolist() == [0.0]


def test_no_other_strength_is_nearer():
    data = make_rows()
    spectrum = RidgeSpectrum(data, True)
    weights = spectrum.ridge(np.array([0.3])) + np.random.default_rng(1).normal(scale=0.2, size=(1, 4))
    centred = data.features - data.features.mean(axis=0)

    def distances(strengths):
        return np.linalg.norm((weights - spectrum.ridge(np.asarray(strengths))) @ centred.T, axis=1)

    found = spectrum.nearest(weights)
    assert 0 < found[0] < np.inf
    assert distances(found)[0] <= distances(np.logspace(-6, 4, 20_001)).min() * (1 + 1e-9)


def test_constant_columns_have_no_direction():
    spectrum = RidgeSpectrum(RegressionData(np.full((5, 2), 3.0), np.arange(5.0)), True)
    assert spectrum.curvatures.size == 0
    assert spectrum.ridge(np.array([0.0, 1.0])).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert spectrum.nearest(np.ones((1, 2))).tolist() == [0.0]
