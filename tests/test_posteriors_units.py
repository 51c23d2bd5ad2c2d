"""Original units: what the mode's log density becomes there."""

import math

import pyro.distributions as dist
import pytest
import torch

import bayesreg as br


def log_normal(loc, scale):
    return dist.LogNormal(*(torch.tensor(number, dtype=torch.float64) for number in (loc, scale)))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("noise", [0.4, log_normal(-1.0, 0.5)], ids=["known", "learned"])
def test_the_modes_log_density_is_that_of_the_original_problem(noise, relative):
    data = br.load_diabetes()
    scaled = data.standardized()
    unit = scaled.transform.target_scale
    factor = unit / scaled.transform.feature_scales
    there_noise = 0.4 * unit if noise == 0.4 else log_normal(-1.0 + math.log(unit), 0.5)
    there = br.LinearRegression(
        br.GaussianPrior(0.3 * factor / (unit if relative else 1.0), 0.0, relative), there_noise
    )
    fit = br.map_estimate(br.LinearRegression(br.GaussianPrior(0.3, 0.0, relative), noise), scaled).original_units()
    means = torch.tensor(data.features) @ fit.weights + fit.intercept
    scale = torch.tensor(fit.noise_scale, dtype=torch.float64)
    expected = dist.Normal(means, scale).log_prob(torch.tensor(data.target)).sum()
    expected += there.log_prior({"weights": fit.weights, "noise_scale": scale})
    assert fit.log_density == pytest.approx(float(expected), rel=1e-12)
