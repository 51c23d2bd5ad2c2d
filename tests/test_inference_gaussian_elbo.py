"""The closed-form ELBO: the integral of the target's own density, term by term and all together, and its gradient."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br
from bayesreg.inference.bordered_precision import FewRowsDesign
from bayesreg.inference.gaussian_elbo import GaussianElbo, why_not

PRIORS = [
    br.LaplacePrior(0.3, loc=0.25),
    br.LaplacePrior(0.3, loc=-0.1, relative_to_noise=True),
    br.LaplacePrior(dist.HalfCauchy(0.7)),
    br.LaplacePrior(dist.Weibull(0.5, 2.5), loc=0.1, relative_to_noise=True),
    br.GaussianPrior(0.4, loc=-0.2),
    br.GaussianPrior(0.4, relative_to_noise=True),
    br.GaussianPrior(dist.LogNormal(-0.5, 0.8), loc=0.3),
    br.GaussianPrior(dist.InverseGamma(3.0, 1.0), relative_to_noise=True),
    br.FlatPrior(),
]
NOISES = [0.7, dist.HalfNormal(0.8), dist.Gamma(2.0, 3.0)]


def problem(prior, noise, d, intercept=True, n=9):
    random = np.random.default_rng(d)
    features = random.standard_normal((n, d)) + 0.5
    data = br.RegressionData(features, features[:, 0] + 0.5 * random.standard_normal(n) + 2.0)
    return br.LinearRegression(prior, noise, intercept).target(data)


def some_gaussian(elbo, seed=0):
    """An asymmetric Gaussian off the optimum, as (vectors, parts, covariance)."""
    random, layout = np.random.default_rng(seed), elbo.layout
    vectors = np.zeros((1, layout.size))
    slots = layout.views(vectors)
    slots.weights[:] = 0.4 * random.standard_normal(slots.weights.shape)
    slots.scales[:] = [-0.3, 0.2][: layout.num_scales]
    slots.gram[:] = 1.7
    slots.diagonal[:] = 3.0 + random.random(slots.diagonal.shape)
    slots.border[:] = 3.0 * random.standard_normal(slots.border.shape)
    slots.corner[:] = np.array([[25.0, 4.0], [4.0, 18.0]])[: layout.num_scales, : layout.num_scales]
    layout.take_logarithms(vectors)
    parts = layout.parts(vectors)
    return parts, elbo.design.covariance(layout, parts)


def precision_of(parts, gram):
    """The precision as one matrix."""
    weights = parts.gram[0] * gram + np.diag(parts.diagonal[0])
    return np.block([[weights, parts.border[0]], [parts.border[0].T, parts.corner[0]]])


def hermite(num):
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return nodes, weights / math.sqrt(2 * math.pi)


def legendre_round(kink):
    """Nodes for the standard normal that do not straddle a kink."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    kink = min(max(kink, -8.0), 8.0)
    pieces = [(-9.5, kink), (kink, 9.5)]
    points = np.concatenate([low + (high - low) * (nodes + 1) / 2 for low, high in pieces])
    lengths = np.concatenate([weights * (high - low) / 2 for low, high in pieces])
    return points, lengths * np.exp(-0.5 * points**2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_it_is_the_integral_by_quadrature(prior, noise):
    """One weight, first in the triangle, so that the kink of |w| is at one node; to 1e-9."""
    target = problem(prior, noise, 1)
    elbo = GaussianElbo(target)
    parts, covariance = some_gaussian(elbo)
    value, _ = elbo(parts, covariance)

    root = np.linalg.cholesky(np.linalg.inv(precision_of(parts, elbo.design.gram)))
    mean = np.concatenate([parts.weights[0], parts.scales[0]])
    rules = [legendre_round((prior.locations(1)[0] - mean[0]) / root[0, 0])]
    rules += [hermite(32)] * elbo.layout.num_scales
    deviation_scale = 1.0 / math.sqrt(target.num_rows * _noise_precision(elbo, parts, covariance))
    grids = np.meshgrid(*(nodes for nodes, _ in [*rules, hermite(3)]), indexing="ij")
    weights = np.prod(np.meshgrid(*(weights for _, weights in [*rules, hermite(3)]), indexing="ij"), axis=0).ravel()
    normals = np.stack([grid.ravel() for grid in grids], axis=1)
    x = mean + normals[:, :-1] @ root.T
    points = np.concatenate([x[:, :1], deviation_scale * normals[:, -1:], x[:, 1:]], axis=1)
    log_density = target.log_density(torch.tensor(points, dtype=torch.float64)).numpy()
    p = points.shape[1]
    entropy = np.log(np.diag(root)).sum() + math.log(deviation_scale) + 0.5 * p * (1 + math.log(2 * math.pi))
    assert value[0] == pytest.approx(log_density @ weights + entropy, abs=1e-9 * max(1.0, abs(value[0])))


def _noise_precision(elbo, parts, covariance):
    if elbo.known_noise_scale is not None:
        return elbo.known_noise_scale**-2
    return math.exp(-2 * parts.scales[0, 0] + 2 * covariance.scales[0, 0, 0])


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("prior", [PRIORS[1], PRIORS[2], PRIORS[6]], ids=repr)
def test_it_is_the_mean_over_draws(prior, intercept):
    """Four weights, each with its own scale where it is known; within 4.5 standard errors of 0.02 or so."""
    if not prior.scale_is_learned:
        prior = type(prior)(np.array([0.2, 0.5, 1.0, 0.1]), np.array([0.1, -0.4, 0.0, 2.0]), True)
    target = problem(prior, dist.HalfNormal(1.0), 4, intercept)
    elbo = GaussianElbo(target)
    parts, covariance = some_gaussian(elbo)
    value, _ = elbo(parts, covariance)
    precision = precision_of(parts, elbo.design.gram)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    normals = np.random.default_rng(1).standard_normal((100_000, len(root) + 1))
    normals = np.concatenate([normals, -normals])
    x = np.concatenate([parts.weights[0], parts.scales[0]]) + normals[:, :-1] @ root.T
    log_guide = -0.5 * np.square(normals[:, :-1]).sum(1) - np.log(np.diag(root)).sum()
    log_guide -= 0.5 * len(root) * math.log(2 * math.pi)
    if intercept:
        scale = 1.0 / math.sqrt(target.num_rows * _noise_precision(elbo, parts, covariance))
        x = np.concatenate([x[:, :4], scale * normals[:, -1:], x[:, 4:]], axis=1)
        log_guide += -0.5 * normals[:, -1] ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    ratios = target.log_density(torch.tensor(x, dtype=torch.float64)).numpy() - log_guide
    pairs = ratios.reshape(2, -1).mean(0)
    error = pairs.std() / math.sqrt(len(pairs))
    assert error < 0.05
    assert value[0] == pytest.approx(pairs.mean(), abs=4.5 * error)


@pytest.mark.parametrize("few_rows", [False, True])
@pytest.mark.parametrize("noise", NOISES[:2], ids=str)
@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_the_gradient_is_that_of_the_value(prior, noise, few_rows):
    """In the means by differences; in the covariance, d ELBO = tr((P - E[-Hess]) dS) / 2 for any change of P."""
    target = problem(prior, noise, 3)
    elbo = GaussianElbo(target)
    gram = elbo.design.gram
    if few_rows:
        elbo.design = FewRowsDesign(target.moments)
    parts, _ = some_gaussian(elbo)
    step = 1e-5

    def value_of(changed):
        return elbo(changed, elbo.design.covariance(elbo.layout, changed))

    _, gradient = value_of(parts)
    for name in ("weights", "scales"):
        for index in range(getattr(parts, name).shape[1]):
            change = np.zeros_like(getattr(parts, name))
            change[0, index] = step
            up, down = (
                elbo(
                    parts._replace(**{name: getattr(parts, name) + sign * change}),
                    elbo.design.covariance(elbo.layout, parts),
                )[0]
                for sign in (1, -1)
            )
            column = index + (3 if name == "scales" else 0)
            assert gradient[0, column] == pytest.approx((up - down)[0] / (2 * step), rel=1e-6, abs=1e-6)

    expected = elbo.layout.views(gradient)
    difference = precision_of(parts, gram) - precision_of(expected, gram)
    random = np.random.default_rng(2)
    for name in ("gram", "diagonal", "border", "corner"):
        change = step * random.standard_normal(getattr(parts, name).shape)
        change = change + change.transpose(0, 2, 1) if name == "corner" else change
        sides = [parts._replace(**{name: getattr(parts, name) + sign * change}) for sign in (1, -1)]
        found = (value_of(sides[0])[0] - value_of(sides[1])[0])[0]
        turn = np.subtract(*(np.linalg.inv(precision_of(side, gram)) for side in sides))
        assert found == pytest.approx(0.5 * np.sum(difference * turn), rel=1e-5, abs=1e-11)


def test_many_scales_are_many_problems():
    target = problem(br.LaplacePrior(1.0), dist.HalfNormal(1.0), 3)
    scales = np.array([[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]])
    both = GaussianElbo(target, scales)
    parts, covariance = some_gaussian(GaussianElbo(target))
    stacked = type(parts)(*(np.concatenate([part, part]) for part in parts))
    values, _ = both(stacked, both.design.covariance(both.layout, stacked))
    for scale, value in zip(scales, values, strict=True):
        alone = GaussianElbo(problem(br.LaplacePrior(scale), dist.HalfNormal(1.0), 3))
        assert value == pytest.approx(alone(parts, covariance)[0][0], abs=1e-10)
    assert both.of(np.array([False, True]))(parts, covariance)[0][0] == pytest.approx(values[1], abs=1e-12)


@pytest.mark.parametrize(
    ("prior", "scales", "words"),
    [
        (br.ElasticNetPrior(1.0, 1.0), [1.0], "prior_scales needs a prior with one known scale"),
        (br.FlatPrior(), [1.0], "prior_scales needs a prior with one known scale"),
        (br.LaplacePrior(dist.HalfNormal(1.0)), [1.0], "prior_scales needs a prior with one known scale"),
        (br.LaplacePrior(1.0), [[1.0, 2.0]], r"prior_scales must have shape \(b,\) or \(b, 3\), got \(1, 2\)"),
        (br.LaplacePrior(1.0), [1.0, 0.0], "prior_scales must be positive and finite"),
        (br.LaplacePrior(1.0), [np.inf], "prior_scales must be positive and finite"),
    ],
)
def test_prior_scales_out_of_range_are_refused(prior, scales, words):
    with pytest.raises(ValueError, match=words):
        GaussianElbo(problem(prior, 1.0, 3), scales)


def test_what_has_no_closed_form_says_why():
    assert "noise_scale has bounds" in why_not(problem(br.LaplacePrior(1.0), dist.Uniform(0.1, 2.0), 2))
    assert "prior_scale has bounds" in why_not(problem(br.LaplacePrior(dist.Uniform(0.1, 2.0)), 1.0, 2))
    assert why_not(problem(br.LaplacePrior(1.0), dist.HalfNormal(1.0).mask(False), 2)) is None
    assert "needs the model and the moments" in why_not(object())
    with pytest.raises(ValueError, match="noise_scale has bounds"):
        GaussianElbo(problem(br.LaplacePrior(1.0), dist.Uniform(0.1, 2.0), 2))
