"""Priors: densities against SciPy's, derivatives against differences, and what is refused."""

import copy
import pickle

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import bayesreg as br
from bayesreg.priors import prior_from_dict

SCIPY = {br.GaussianPrior: scipy.stats.norm, br.LaplacePrior: scipy.stats.laplace}
SCALED = list(SCIPY)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("prior", SCALED)
def test_density_is_scipys(prior):
    weights, scale, loc = np.array([0.3, -1.2, 2.0]), np.array([0.5, 1.0, 3.0]), np.array([0.0, 0.2, -1.0])
    made = prior(scale, loc)
    found = made.log_density(tensor(weights - made.locations(3)), tensor(made.scales(3)))
    assert float(found) == pytest.approx(SCIPY[prior].logpdf(weights, loc, scale).sum(), rel=1e-14)
    site = made.distribution(tensor(scale), tensor(loc)).log_prob(tensor(weights)).sum()
    assert float(site) == pytest.approx(float(found), rel=1e-14)


@pytest.mark.parametrize("prior", SCALED)
def test_derivatives_are_differences(prior):
    made, deviation, scale, step = prior(1.0), tensor([0.3, -1.2, 2.0]), tensor([0.5, 1.0, 3.0]), 1e-6
    density, slope, scale_slope = made.derivatives(deviation, scale)
    torch.testing.assert_close(density, made.log_density(deviation, scale), rtol=1e-14, atol=0.0)
    for index in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[index] = step
        difference = made.log_density(deviation + shift, scale) - made.log_density(deviation - shift, scale)
        assert float(slope[index]) == pytest.approx(float(difference) / (2 * step), rel=1e-7)
    difference = made.log_density(deviation, scale * np.exp(step)) - made.log_density(deviation, scale * np.exp(-step))
    assert float(scale_slope) == pytest.approx(float(difference) / (2 * step), rel=1e-7)


@pytest.mark.parametrize("prior", SCALED)
def test_variance_is_scipys(prior):
    assert float(prior(1.0).variance(tensor(0.7))) == pytest.approx(SCIPY[prior].var(scale=0.7))


def test_expected_curvature_is_the_mean_of_the_negative_second_derivative():
    # For the Laplace prior the kink is smoothed a little, and the mean taken under the prior itself.
    scale, width = 0.7, 1e-4
    grid = np.linspace(-20, 20, 4_000_001)
    kink = width**2 / (grid**2 + width**2) ** 1.5 / scale  # -(d^2/dw^2) of -sqrt(w^2 + width^2) / b
    expected = np.trapezoid(kink * scipy.stats.laplace.pdf(grid, scale=scale), grid)
    assert float(br.LaplacePrior(scale).expected_curvature(tensor(scale))) == pytest.approx(expected, rel=1e-3)
    assert float(br.GaussianPrior(scale).expected_curvature(tensor(scale))) == pytest.approx(1 / scale**2)


@pytest.mark.parametrize("prior", SCALED)
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_scale_out_of_range_is_refused_by_name(prior, bad):
    with pytest.raises(ValueError, match=rf"{prior.__name__}\(scale=...\) must be positive and finite, got"):
        prior(scale=bad)


@pytest.mark.parametrize("prior", SCALED)
def test_other_wrong_arguments(prior):
    with pytest.raises(ValueError, match="loc"):
        prior(1.0, loc=np.nan)
    with pytest.raises(TypeError, match="relative_to_noise"):
        prior(1.0, relative_to_noise="yes")
    with pytest.raises(ValueError, match="3 entries, but the data have 2"):
        prior([1.0, 2.0, 3.0]).scales(2)
    with pytest.raises(ValueError, match="3 entries, but the data have 2"):
        prior(1.0, loc=[1.0, 2.0, 3.0]).locations(2)


def test_scale_reads_back_what_was_given():
    given = dist.HalfNormal(1.0)
    assert br.GaussianPrior(given).scale is given
    assert br.LaplacePrior(0.25).scale == 0.25
    assert br.GaussianPrior(given).scale_is_learned and not br.LaplacePrior(0.25).scale_is_learned
    assert repr(br.GaussianPrior(given, loc=2)) == "GaussianPrior(scale=HalfNormal(scale=1.0), loc=2.0)"


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
@pytest.mark.parametrize("prior", SCALED)
def test_what_is_read_back_does_not_change_with_the_callers_array(prior, kind):
    scale, loc = kind([0.5, 2.0]), kind([1.0, 0.0])
    made = prior(scale, loc)
    scale[0] = loc[0] = 5e-3
    for read, working, given in ((made.scale, made.scales(2), [0.5, 2.0]), (made.loc, made.locations(2), [1.0, 0.0])):
        assert read.tolist() == working.tolist() == given
        with pytest.raises(ValueError, match="read-only"):
            read[0] = 1.0
    number = np.array(0.5)
    made = prior(number, number)
    number[...] = 3.0
    assert made.scale == made.loc == 0.5


@pytest.mark.parametrize("prior", SCALED)
def test_no_copy_can_be_changed(prior):
    made = prior([0.5, 2.0], [1.0, 0.0], relative_to_noise=True)
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(same) is prior and same.to_dict() == made.to_dict()
        for array in (same.scale, same.loc, same._working_scale, same._working_loc):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0


@pytest.mark.parametrize("scale", [dist.HalfNormal(0.3), dist.HalfNormal(0.3).mask(False), dist.LogNormal(0.1, 1.0)])
@pytest.mark.parametrize("prior", SCALED)
def test_copies_of_a_learned_scale_say_the_same(prior, scale):
    made = prior(scale, 2.0)
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert same.to_dict() == made.to_dict()


def test_flat_prior_adds_nothing_and_can_be_drawn_from():
    prior, weights = br.FlatPrior(), tensor([[1.0, 2.0], [3.0, 4.0]])
    ones, zeros = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    assert prior.log_density(weights, ones).tolist() == [0.0, 0.0]
    site = prior.distribution(ones, zeros)
    assert site.log_prob(weights).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert site.sample().shape == (2,)


@pytest.mark.parametrize(
    "prior",
    [
        br.FlatPrior(),
        br.GaussianPrior(0.5),
        br.LaplacePrior([0.5, 1.0], loc=[0.0, 2.0], relative_to_noise=True),
        br.GaussianPrior(dist.HalfNormal(0.3).mask(False)),
    ],
)
def test_round_trip_through_words(prior):
    assert prior_from_dict(prior.to_dict()).to_dict() == prior.to_dict()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"kind": "horseshoe"}, "horseshoe"),
        ({"kind": "laplace"}, "scale"),
        ({"kind": "flat", "scale": 1.0}, "scale"),
        ({"kind": "gaussian", "sclae": 1.0}, "sclae"),
    ],
)
def test_wrong_words_are_named(table, named):
    with pytest.raises(ValueError, match=named):
        prior_from_dict(table)
