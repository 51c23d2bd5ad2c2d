"""The elastic net's prior: its densities, derivatives and words, and what is refused."""

import copy
import pickle

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

import bayesreg as br
from bayesreg.conventions import penalty_for, prior_for
from bayesreg.penalties import Penalty
from bayesreg.priors import prior_from_dict

WEIGHTS = np.array([0.3, -1.2, 2.0])
GAUSSIAN, LAPLACE, LOC = np.array([0.5, 3.0, 200.0]), np.array([4.0, 0.3, 0.2]), np.array([0.0, 0.2, -1.0])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def parts_of(prior, weights):
    d = len(weights)
    return tensor(weights - prior.locations(d)), tensor(prior.scales(d))


@pytest.mark.parametrize("gaussian, laplace", [(GAUSSIAN, LAPLACE), (0.5, LAPLACE), (GAUSSIAN, 0.3), (0.5, 0.3)])
def test_density_is_that_of_its_distribution(gaussian, laplace):
    prior = br.ElasticNetPrior(gaussian, laplace, LOC)
    deviation, scale = parts_of(prior, WEIGHTS)
    law = prior.distribution(scale, tensor(LOC))
    torch.testing.assert_close(law.gaussian_scale, tensor(np.broadcast_to(gaussian, 3).copy()), rtol=1e-14, atol=0.0)
    torch.testing.assert_close(law.laplace_scale, tensor(np.broadcast_to(laplace, 3).copy()), rtol=1e-14, atol=0.0)
    found = float(prior.log_density(deviation, scale))
    assert found == pytest.approx(float(law.log_prob(tensor(WEIGHTS)).sum()), rel=1e-13)
    shape, standard = prior.shape(3), deviation.numpy() / prior.scales(3)
    by_shape = -shape.absolute * abs(standard) - shape.square * standard**2 / 2 - shape.log_constant
    assert found == pytest.approx((by_shape - np.log(prior.scales(3))).sum(), rel=1e-13)


def test_density_is_the_product_of_both_over_its_integral():
    for gaussian, laplace in zip(GAUSSIAN, LAPLACE, strict=True):

        def product(v, gaussian=gaussian, laplace=laplace):
            return np.exp(-(v**2) / (2 * gaussian**2) - abs(v) / laplace)

        constant = 2.0 * quad(product, 0.0, 40.0 * min(gaussian, laplace), epsabs=0.0, epsrel=1e-12, limit=200)[0]
        prior = br.ElasticNetPrior(gaussian, laplace)
        found = float(prior.log_density(*parts_of(prior, [0.37])))
        assert found == pytest.approx(np.log(product(0.37) / constant), rel=1e-10)


def test_derivatives_are_differences():
    prior, step = br.ElasticNetPrior(GAUSSIAN, LAPLACE), 1e-6
    deviation, scale = tensor(WEIGHTS), tensor([0.5, 1.0, 3.0])
    density, slope, scale_slope = prior.derivatives(deviation, scale)
    torch.testing.assert_close(density, prior.log_density(deviation, scale), rtol=1e-14, atol=0.0)
    for index in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[index]
        difference = prior.log_density(deviation + shift, scale) - prior.log_density(deviation - shift, scale)
        assert float(slope[index]) == pytest.approx(float(difference) / (2 * step), rel=1e-7)
    ends = [prior.log_density(deviation, scale * np.exp(sign * step)) for sign in (1.0, -1.0)]
    assert float(scale_slope) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-7)
    batch = torch.stack([deviation, -deviation])
    torch.testing.assert_close(prior.derivatives(batch, scale)[1][0], slope, rtol=0.0, atol=0.0)


def test_expected_curvature_is_the_mean_of_the_negative_second_derivative():
    # The kink is smoothed a little, and the mean taken under the prior itself.
    gaussian, laplace, width = 0.9, 0.7, 1e-4
    prior, grid = br.ElasticNetPrior(gaussian, laplace), np.linspace(-8.0, 8.0, 3_200_001)
    deviation, scale = parts_of(prior, grid)
    density = prior.log_density(deviation.unsqueeze(-1), scale.unsqueeze(-1)).exp().numpy()
    kink = width**2 / (grid**2 + width**2) ** 1.5 / laplace
    expected = np.trapezoid((kink + 1 / gaussian**2) * density, grid)
    assert float(prior.expected_curvature(tensor(prior.scales(1)))) == pytest.approx(expected, rel=1e-3)
    variance = np.trapezoid(grid**2 * density, grid)
    assert float(prior.variance(tensor(prior.scales(1)))) == pytest.approx(variance, rel=1e-9)


def test_limits_are_the_laplace_and_the_gaussian_prior():
    for limit, prior in (
        (br.LaplacePrior(LAPLACE, LOC), br.ElasticNetPrior(1e9, LAPLACE, LOC)),
        (br.GaussianPrior(GAUSSIAN, LOC), br.ElasticNetPrior(GAUSSIAN, 1e13, LOC)),
    ):
        density, limiting = (each.log_density(*parts_of(each, WEIGHTS)) for each in (prior, limit))
        assert float(density) == pytest.approx(float(limiting), abs=1e-9)
        curvature, limiting = (each.expected_curvature(parts_of(each, WEIGHTS)[1]) for each in (prior, limit))
        torch.testing.assert_close(curvature, limiting, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("learned", [{"gaussian_scale": dist.HalfNormal(1.0)}, {"laplace_scale": dist.LogNormal(0, 1)}])
def test_a_learned_scale_is_refused(learned):
    given = {"gaussian_scale": 1.0, "laplace_scale": 1.0} | learned
    with pytest.raises(TypeError, match=rf"\({next(iter(learned))}=...\).*GaussianPrior and LaplacePrior can learn"):
        br.ElasticNetPrior(**given)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_what_is_wrong_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"ElasticNetPrior\(gaussian_scale=...\) must be positive and finite"):
        br.ElasticNetPrior(bad, 1.0)
    with pytest.raises(ValueError, match=r"ElasticNetPrior\(laplace_scale=...\) must be positive and finite"):
        br.ElasticNetPrior(1.0, bad)
    with pytest.raises(ValueError, match=r"loc=...\) must be a finite number"):
        br.ElasticNetPrior(1.0, 1.0, loc=np.inf)
    with pytest.raises(TypeError, match="relative_to_noise"):
        br.ElasticNetPrior(1.0, 1.0, relative_to_noise="yes")
    with pytest.raises(ValueError, match="one entry a feature, got lengths"):
        br.ElasticNetPrior([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"laplace_scale=...\) has 3 entries, but the data have 2"):
        br.ElasticNetPrior(1.0, [1.0, 2.0, 3.0]).scales(2)
    with pytest.raises(ValueError, match="prior's scale is known: ElasticNetPrior"):
        br.LinearRegression(br.ElasticNetPrior(1.0, 1.0)).conditioned(prior_scale=1.0)


def test_copies_and_words_say_the_same():
    made = br.ElasticNetPrior(GAUSSIAN, LAPLACE, LOC, relative_to_noise=True)
    words = prior_from_dict(made.to_dict())
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), words):
        assert same.to_dict() == made.to_dict() and repr(same) == repr(made)
        for array in (same.gaussian_scale, same.laplace_scale, same.loc):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
    assert repr(br.ElasticNetPrior(1, 2.0, loc=3)) == "ElasticNetPrior(gaussian_scale=1.0, laplace_scale=2.0, loc=3.0)"
    with pytest.raises(ValueError, match="elasticnet needs laplace_scale"):
        prior_from_dict({"kind": "elasticnet", "gaussian_scale": 1.0})
    with pytest.raises(ValueError, match="elasticnet takes .*, got scale"):
        prior_from_dict({"kind": "elasticnet", "scale": 1.0})


KNOWN = {"noise_scale": 1.3, "num_rows": 50}


def test_strengths_are_those_of_the_two_factors():
    prior = br.ElasticNetPrior(GAUSSIAN, LAPLACE, LOC)
    found = penalty_for(prior, **KNOWN)
    np.testing.assert_allclose(found.l2, 1.3**2 / (50 * GAUSSIAN**2), rtol=1e-14)
    np.testing.assert_allclose(found.l1, 1.3**2 / (50 * LAPLACE), rtol=1e-14)
    np.testing.assert_array_equal(found.centre, LOC)
    relative = penalty_for(br.ElasticNetPrior(0.5, 0.3, relative_to_noise=True), **KNOWN)
    assert relative.l2 == pytest.approx(1 / (50 * 0.25)) and relative.l1 == pytest.approx(1.3 / (50 * 0.3))
    with pytest.raises(ValueError, match="prior_scale= is the value of a learned scale"):
        penalty_for(prior, prior_scale=1.0, **KNOWN)


@pytest.mark.parametrize(
    ("convention", "more"),
    [("mean-half-squared", {}), ("sklearn-elasticnet", {}), ("glmnet", {"target_scale": 2.5}), ("torch-mse-mean", {})],
)
def test_penalty_to_prior_and_back(convention, more):
    penalty = Penalty(l1=0.07, l2=0.03, convention=convention)
    prior = prior_for(penalty, **KNOWN, **more)
    back = penalty_for(prior, convention=convention, **KNOWN, **more)
    assert (back.l1, back.l2) == pytest.approx((0.07, 0.03), rel=1e-14)
    # The objective that scikit-learn documents, with alpha and l1_ratio, at the same prior.
    there = penalty_for(prior, convention="sklearn-elasticnet", **KNOWN)
    assert there.strength * there.l1_ratio == pytest.approx(1.3**2 / (50 * prior.laplace_scale))
    assert there.strength * (1 - there.l1_ratio) == pytest.approx(1.3**2 / (50 * prior.gaussian_scale**2))


def test_a_convention_without_both_terms_refuses():
    with pytest.raises(ValueError, match="sklearn-lasso .* has no L2 penalty"):
        penalty_for(br.ElasticNetPrior(1.0, 1.0), convention="sklearn-lasso", **KNOWN)
