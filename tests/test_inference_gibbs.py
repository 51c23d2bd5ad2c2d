"""The Gibbs engine against quadrature of the target's own density, a plain Gibbs sampler, and its conditionals."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.linalg
import scipy.stats
import torch
from arviz_stats.base import array_stats
from checks import assert_matches
from oracles import laplace_gibbs_with_scales

import bayesreg as br
from bayesreg.inference import gibbs
from bayesreg.inference.engine import EngineCannot
from bayesreg.inference.inverse_gaussian import mixing_variances
from bayesreg.inference.lattice import NUM_POINTS, RandomLattice, choose
from bayesreg.inference.scale_mixture import MixtureState, ScaleMixture, SpannedData
from bayesreg.scales import LearnedScale

ON = {"dtype": torch.float64, "device": "cpu"}


def generator(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def small_data(rows, columns, seed=0, noise=0.5):
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns)) + 0.7 * random.standard_normal((rows, 1)) + 1.5
    weights = np.linspace(1.0, -1.0, columns) if columns > 1 else np.array([0.6])
    return br.RegressionData(features, features @ weights + 2.0 + noise * random.standard_normal(rows))


def run(model, data, draws=400, tune=60, chains=16, seed=0, device="cpu"):
    return gibbs.run(model.target(data, device), draws=draws, tune=tune, chains=chains, seed=seed)


# --- the draws of the mixture's variances


@pytest.mark.parametrize("absolute", [1e-9, 0.03, 1.0, 40.0, 1e7])
def test_variances_are_reciprocal_inverse_gaussians(absolute):
    variances = mixing_variances(torch.full((40_000,), absolute, **ON), generator(1))
    expected = scipy.stats.invgauss(1 / absolute)  # its mean is 1 / a, its shape 1
    assert scipy.stats.kstest(variances.reciprocal().numpy(), expected.cdf).pvalue > 1e-3


def test_variances_at_zero_are_chi_squares_and_no_value_overflows():
    assert scipy.stats.kstest(mixing_variances(torch.zeros(40_000, **ON), generator()), "chi2", (1,)).pvalue > 1e-3
    for absolute in (1e-300, 1e-160, 1e150):
        variances = mixing_variances(torch.full((10_000,), absolute, **ON), generator())
        assert variances.isfinite().all()
    assert (mixing_variances(torch.full((10_000,), 1e150, **ON), generator()) / 1e150 - 1.0).abs().max() < 1e-9


def test_variances_and_values_make_a_laplace():
    """Alternating between the two conditionals keeps the joint law, whose margin is the standard Laplace."""
    random = generator(3)
    values = torch.tensor(np.random.default_rng(3).laplace(size=40_000), **ON)
    for _ in range(3):
        values = mixing_variances(values.abs(), random).sqrt() * torch.randn(40_000, generator=random, **ON)
    assert scipy.stats.kstest(values, "laplace").pvalue > 1e-3


# --- the lattice


@pytest.mark.parametrize("spacing", [0.05, 0.6, 3.0])
def test_a_step_on_a_lattice_keeps_the_law(spacing):
    """A skewed density with an edge: log of an exponential variable, cut off above 2."""
    law = np.random.default_rng(0).exponential(size=60_000)
    start = torch.tensor(np.log(law[law < 2.0]), **ON)
    lattice = RandomLattice(len(start), True, start, 1.0)
    lattice.spacing = torch.full((len(start), 1), spacing, **ON)
    steps, place = lattice.lay(generator())
    assert torch.equal(steps.gather(1, place.unsqueeze(-1)), torch.zeros_like(steps[:, :1]))
    points = start.unsqueeze(-1) + steps
    density = torch.where(points < np.log(2.0), points - points.exp(), -torch.inf)
    chosen, probabilities = choose(density, generator(1))
    end = points.gather(1, chosen.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(end))
    assert (end != start).double().mean() > 0.05
    expected = scipy.stats.truncexpon(2.0)
    assert scipy.stats.kstest(end.exp(), expected.cdf).pvalue > 1e-3
    # Detailed balance: the pair is as likely the other way round.
    third = ((end - start) ** 3).numpy()
    assert abs(third.mean()) < 4.5 * third.std() / len(third) ** 0.5


@pytest.mark.parametrize(("place", "width"), [(0.0, 1.0), (-40.0, 1e-4), (3.0, 50.0)])
def test_the_spacing_finds_the_width_of_the_density_from_far_away(place, width):
    random, points = generator(), torch.zeros(64, **ON)
    lattice = RandomLattice(64, True, points, 0.625)
    for _ in range(100):
        steps, _ = lattice.lay(random)
        chosen, probabilities = choose(-0.5 * ((points.unsqueeze(-1) + steps - place) / width).square(), random)
        lattice.learn(steps, probabilities)
        points = points + steps.gather(1, chosen.unsqueeze(-1)).squeeze(-1)
    assert (points - place).abs().max() < 6 * width
    assert 1.2 * width < lattice.spacing.mean() < 2.4 * width


# --- the conditionals


def mixture_of(model, data, chains):
    target = model.target(data)
    spectrum = target.spectrum
    seen = SpannedData(
        spectrum.singular_values.unsqueeze(-1) * spectrum.basis.mT,
        spectrum.projections,
        torch.tensor(spectrum.residual, **ON),
        spectrum.degrees_of_freedom,
    )
    scales = [target.learned_scales.get(name) for name in ("noise_scale", "prior_scale")]
    return ScaleMixture(seen, *scales, model.prior.relative_to_noise, chains)


def dense(data, intercept):
    """Rows, the flat intercept integrated out by orthogonal contrasts."""
    if not intercept:
        return data.features, data.target
    contrasts = scipy.linalg.null_space(np.ones((1, data.num_rows))).T
    return contrasts @ data.features, contrasts @ data.target


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (30, 4), (2, 3)])
def test_evidence_given_the_variances_is_the_dense_gaussian(rows, columns, intercept):
    data = small_data(rows, columns)
    scales, loc = np.linspace(0.5, 2.0, columns), np.linspace(-1.0, 1.0, columns)
    mixture = mixture_of(br.LinearRegression(br.LaplacePrior(scales, loc), 1.0, intercept), data, 1)
    variances = np.random.default_rng(1).exponential(2.0, columns)
    features, target = dense(data, intercept)
    noises, factors = np.array([0.03, 0.4, 0.4, 5.0]), np.array([1.0, 0.2, 3.0, 0.7])
    expected = [
        scipy.stats.multivariate_normal.logpdf(
            target,
            features @ loc,
            s**2 * np.eye(len(target)) + t**2 * (features * scales**2 * variances) @ features.T,
        )
        for s, t in zip(noises, factors, strict=True)
    ]
    log_noises, log_factors = torch.tensor(noises, **ON).log(), torch.tensor(factors, **ON).log()
    found = mixture.log_evidence(
        mixture.factorise(torch.tensor(variances, **ON).unsqueeze(0), (log_noises - log_factors).unsqueeze(0)),
        log_noises.reshape(1, -1, 1),
        log_factors.reshape(1, -1, 1),
    ).flatten()
    np.testing.assert_allclose(np.diff(found.numpy()), np.diff(expected), rtol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (12, 3)])
def test_weights_given_the_rest_are_the_dense_gaussian(rows, columns):
    data, chains, noise, factor = small_data(rows, columns), 40_000, 0.6, 0.8
    mixture = mixture_of(br.LinearRegression(br.LaplacePrior(1.0), noise), data, chains)
    variances = np.linspace(0.2, 3.0, columns)
    state = MixtureState(
        torch.tensor(variances, **ON).repeat(chains, 1),
        torch.full((chains,), np.log(noise), **ON),
        torch.full((chains,), np.log(factor), **ON),
    )
    mixture.draw_weights(state, generator(), learn=False)
    weights = factor * state.standardised.numpy()
    features, target = dense(data, True)
    covariance = np.linalg.inv(features.T @ features / noise**2 + np.diag(1 / (factor**2 * variances)))
    whitened = np.linalg.solve(
        np.linalg.cholesky(covariance), (weights - covariance @ features.T @ target / noise**2).T
    )
    assert np.abs(whitened.mean(1)).max() < 4.5 / chains**0.5
    assert np.abs(whitened @ whitened.T / chains - np.eye(columns)).max() < 4.5 * (2 / chains) ** 0.5


def test_chains_may_have_data_sets_of_their_own():
    """Chain k of a batch is what it would be if all of the batch had its data."""
    random = np.random.default_rng(0)
    design, projections = (
        torch.tensor(random.standard_normal((3, 7)), **ON),
        torch.tensor(random.normal(size=(4, 3)), **ON),
    )
    residuals, flat = torch.tensor([0.5, 1.0, 2.0, 4.0], **ON), LearnedScale(dist.HalfNormal(1.0))

    def scans(projections, residual):
        mixture = ScaleMixture(SpannedData(design, projections, residual, 8), flat, flat, False, 4)
        state = MixtureState(torch.ones(4, 7, **ON), torch.zeros(4, **ON), torch.zeros(4, **ON))
        source = generator()
        for _ in range(5):
            mixture.draw_weights(state, source, learn=False)
            mixture.draw_variances(state, source, learn=False)
        return torch.cat([state.standardised, state.log_noise[:, None], state.log_factor[:, None]], 1)

    together = scans(projections, residuals)
    for chain in range(4):
        torch.testing.assert_close(together[chain], scans(projections[chain], residuals[chain])[chain])


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("learned", [(True, True), (True, False), (False, True)])
def test_scans_keep_the_joint_law_of_parameters_and_data(learned, relative):
    """Parameters from their prior, a data set from them for each chain: the parameters are posterior draws, and stay.

    Source: Geweke, Getting It Right, JASA 99 (2004).
    """
    chains, d, degrees = 20_000, 5, 6
    random = np.random.default_rng(5)
    laws = scipy.stats.lognorm(0.5, scale=0.7), scipy.stats.lognorm(0.4, scale=1.2)
    noise, prior_scale = (
        law.rvs(chains, random) if one else np.ones(chains) for law, one in zip(laws, learned, strict=True)
    )
    factor = prior_scale * noise if relative else prior_scale
    variances, design = random.exponential(2.0, (chains, d)), random.standard_normal((3, d))
    values = np.sqrt(variances) * random.standard_normal((chains, d))
    projections = factor[:, None] * values @ design.T + noise[:, None] * random.standard_normal((chains, 3))
    residuals = noise**2 * random.chisquare(degrees - 3, chains)

    priors = [LearnedScale(dist.LogNormal(np.log(law.median()), law.args[0])) for law in laws]
    priors = [prior if one else None for prior, one in zip(priors, learned, strict=True)]
    tensors = [torch.tensor(array, **ON) for array in (design, projections, residuals)]
    mixture = ScaleMixture(SpannedData(*tensors, degrees), *priors, relative, chains)
    state = MixtureState(*(torch.tensor(array, **ON) for array in (variances, np.log(noise), np.log(factor))))
    source = generator()
    for _ in range(3):
        mixture.draw_weights(state, source, learn=False)
        weights = (state.standardised * state.log_factor.exp().unsqueeze(-1)).numpy()
        mixture.draw_variances(state, source, learn=False)
    noise_now, factor_now, now = (x.numpy() for x in (state.log_noise.exp(), state.log_factor.exp(), state.variances))
    scales = [noise_now, factor_now / noise_now if relative else factor_now]
    for law, one, scale, start in zip(laws, learned, scales, (noise, prior_scale), strict=True):
        if one:
            assert scipy.stats.kstest(scale, law.cdf).pvalue > 1e-3
            assert (np.abs(scale / start - 1.0) > 1e-6).mean() > 0.1
        else:
            np.testing.assert_allclose(scale, 1.0)
    values = weights / factor_now[:, None]
    assert scipy.stats.kstest(values.ravel(), "laplace").pvalue > 1e-3
    assert scipy.stats.kstest(now.ravel(), scipy.stats.expon(scale=2.0).cdf).pvalue > 1e-3
    assert scipy.stats.kstest((values / np.sqrt(now)).ravel(), "norm").pvalue > 1e-3
    misfits = (projections - weights @ design.T) / noise_now[:, None]
    assert scipy.stats.kstest(misfits.ravel(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(residuals / noise_now**2, scipy.stats.chi2(degrees - 3).cdf).pvalue > 1e-3


# --- the posterior


def quadrature(model, data, lengths):
    """Means and sds by the trapezoidal rule on the target's own density; the intercept, at its mode, by hand.

    Coordinates: weights linear round the location (a kink on a node), scales in their unconstrained coordinates.
    """
    target = model.target(data)
    axes = [torch.linspace(low, high, number, **ON) for low, high, number in lengths]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    d = data.num_features
    middle = torch.zeros(len(grid), int(model.intercept), **ON)
    points = torch.cat([grid[:, :d], middle, grid[:, d:]], 1)
    draws = target.constrain(points)
    log_mass = torch.cat([target.log_density(part) for part in points.split(200_000)])
    noise = draws.get("noise_scale", target.known_noise_scale)
    if model.intercept:  # Normal(0, s^2/n) round the mode
        log_mass = log_mass + noise.log()
    mass = torch.softmax(log_mass, 0)
    table = mass.reshape([len(axis) for axis in axes])
    for dimension in range(len(axes)):  # nothing is cut off
        assert table.movedim(dimension, 0)[[0, -1]].sum() < 1e-3
    moments = {}
    for name in ("weights", *target.learned_scales):
        values = draws[name] if name == "weights" else draws[name].log()
        mean = mass @ values
        moments[name] = (mean, (mass @ (values - mean).square()).sqrt())
    return moments


ONE = [(-4.0, 5.2, 231)]
CASES = {
    "noise": (br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)), 5, [*ONE, (-4, 3, 141)]),
    "bounded": (br.LinearRegression(br.LaplacePrior(0.5), dist.Uniform(0.3, 0.9)), 5, [*ONE, (-14, 14, 281)]),
    "lognormal-loc": (
        br.LinearRegression(br.LaplacePrior(0.3, loc=1.0), dist.LogNormal(-0.5, 0.4), intercept=False),
        3,
        [(-4.0, 6.0, 251), (-3, 2, 101)],
    ),
    "relative": (
        br.LinearRegression(br.LaplacePrior(0.7, relative_to_noise=True), dist.HalfNormal(1.0)),
        5,
        [*ONE, (-4, 3, 141)],
    ),
    "prior-scale": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-0.5, 1.0)), 0.4),
        5,
        [(-4.0, 5.2, 461), (-5.5, 5, 211)],
    ),
    "relative-prior-scale": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-0.5, 1.0), relative_to_noise=True), 0.4),
        5,
        [(-4.0, 5.2, 461), (-5.5, 5, 211)],
    ),
    "both": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(0.0, 0.7)), dist.HalfNormal(1.0)),
        6,
        [(-4.0, 5.2, 185), (-4, 3, 57), (-4, 4, 65)],
    ),
    "both-relative": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(0.0, 0.7), relative_to_noise=True), dist.HalfNormal(1.0)),
        6,
        [(-4.0, 5.2, 185), (-4, 3, 57), (-4, 4, 65)],
    ),
    "known": (br.LinearRegression(br.LaplacePrior(0.3), 0.5), 5, [(-4.0, 5.2, 2301)]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_weight_by_quadrature(case):
    model, rows, lengths = CASES[case]
    data = small_data(rows, 1)
    result = run(model, data, draws=500, chains=32)
    draws = dict(result.draws)
    for name, (mean, sd) in quadrature(model, data, lengths).items():
        values = draws[name] if name == "weights" else draws[name].log()
        assert_matches(values, mean, sd, minimum_ess=3000)


def test_two_weights_and_two_rows_by_quadrature():
    """Rank 1: the data see one direction g'w = c, and the noise may go to 0, the posterior a ridge of its width."""
    random = np.random.default_rng(2)
    data = br.RegressionData(random.standard_normal((2, 2)), np.array([0.3, 1.2]))
    model = br.LinearRegression(br.LaplacePrior([0.3, 0.5]), dist.HalfNormal(0.5))
    target = model.target(data)
    design, observed = (torch.tensor(array, **ON) for array in dense(data, True))
    length = design.norm()
    across, along = design[0] / length, torch.stack([-design[0, 1], design[0, 0]]) / length
    # Across the ridge in units of its width, which has a Jacobian of s.
    axes = [torch.linspace(*limits, **ON) for limits in ((-7, 7, 71), (-5, 5, 401), (-9, 1.5, 64))]
    standard, place, log_noise = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    weights = ((observed - log_noise.exp() * standard) / length).unsqueeze(-1) * across + place.unsqueeze(-1) * along
    points = torch.cat([weights, torch.zeros_like(weights[:, :1]), log_noise.unsqueeze(-1)], 1)
    log_mass = torch.cat([target.log_density(part) for part in points.split(200_000)])
    mass = torch.softmax(log_mass + 2 * log_noise, 0)  # once more for the intercept
    draws = run(model, data, draws=500, chains=32).draws
    for values, found in (
        (weights, draws["weights"]),
        (log_noise.unsqueeze(-1), draws["noise_scale"].log().unsqueeze(-1)),
    ):
        mean = mass @ values
        assert_matches(found, mean, (mass @ (values - mean).square()).sqrt(), minimum_ess=3000)


@pytest.mark.parametrize("name", ["few-rows", "many-rows", "both", "both-relative"])
def test_against_a_gibbs_sampler_that_integrates_nothing_out(name):
    def half_normal(scale):
        return lambda s: -0.5 * (s / scale) ** 2

    def log_normal(s):
        return -0.5 * (np.log(s) / 0.5) ** 2 - np.log(s)

    rows, noise, scale, relative = {
        "few-rows": (6, half_normal(1.0), 0.4, False),
        "many-rows": (25, half_normal(1.0), 0.4, False),
        "both": (12, half_normal(1.0), log_normal, False),
        "both-relative": (7, half_normal(1.0), log_normal, True),
    }[name]
    data = small_data(rows, 8, seed=4, noise=0.8)
    prior = br.LaplacePrior(dist.LogNormal(0.0, 0.5) if callable(scale) else scale, relative_to_noise=relative)
    model = br.LinearRegression(prior, dist.HalfNormal(1.0))
    slow = laplace_gibbs_with_scales(data.features, data.target, noise, scale, 12, 900, 0, relative)
    draws = run(model, data, draws=500, chains=32).draws
    found = [draws["weights"], draws["intercept"].unsqueeze(-1), draws["noise_scale"].log().unsqueeze(-1)]
    expected = [slow[..., :-2], np.log(slow[..., -2:-1])]
    if callable(scale):
        found.append(draws["prior_scale"].log().unsqueeze(-1))
        expected.append(np.log(slow[..., -1:]))
    # The oracle is the noisier side: its law is held to the engine's.
    everything, expected = torch.cat(found, -1).flatten(0, 1), np.concatenate(expected, axis=-1)
    assert_matches(expected, everything.mean(0), everything.std(0), minimum_ess=300, allowed_bias=0.03)


def test_intercept_round_its_mode_has_the_variance_of_a_mean():
    data = small_data(9, 3)
    draws = run(br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)), data).draws
    mode = data.target.mean() - draws["weights"] @ torch.tensor(data.features.mean(0), **ON)
    standard = 3.0 * (draws["intercept"] - mode) / draws["noise_scale"]
    assert scipy.stats.kstest(standard.flatten(), "norm").pvalue > 1e-3


def assert_mixes(values, least):
    """Hold the ESS of x and of (x - mean)^2 to a share of the number of draws, and chains to one another."""
    for numbers in (values, (values - values.mean()).square()):
        assert array_stats.ess(numbers.numpy(), method="mean") > least * values.numel()
    assert array_stats.rhat(values.numpy()) < 1.02


@pytest.mark.parametrize(("scale", "least"), [(0.25, 0.3), (0.007, 0.3)])
def test_many_features_and_few_rows_mix(scale, least):
    """The case that the engine is for: a sampler given the noise, or of both at once, has a hundredth of this."""
    train, _ = br.simulate_weight_decay(seed=0)
    draws = run(br.LinearRegression(br.LaplacePrior(scale), dist.HalfNormal(1.0)), train, draws=250, chains=8).draws
    assert_mixes(draws["noise_scale"].log(), least)


@pytest.mark.parametrize("relative", [False, True])
def test_scales_of_which_one_is_known_far_better_mix(relative):
    """The noise to 4 %, the prior scale to 40 %: a lattice along log rho and log t would move neither."""
    prior = br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=relative)
    draws = run(br.LinearRegression(prior, dist.HalfNormal(1.0)), small_data(300, 6), draws=250, chains=8).draws
    assert_mixes(draws["noise_scale"].log(), 0.5)
    assert_mixes(draws["prior_scale"].log(), 0.5)


def test_data_that_say_nothing_leave_the_prior():
    """Rank 0: one row, or constant columns."""
    for rows in (1, 5):
        data = br.RegressionData(np.full((rows, 2), 3.0), np.full(rows, 7.0))
        prior = br.LaplacePrior(dist.LogNormal(0.0, 0.3), loc=2.0)
        draws = run(br.LinearRegression(prior, 0.5), data, draws=500, chains=32).draws
        assert_matches(draws["prior_scale"].log(), 0.0, 0.3)
        assert_matches((draws["weights"] - 2.0) / draws["prior_scale"].unsqueeze(-1), 0.0, 2**0.5)


def test_columns_far_apart_in_scale():
    data, factors = small_data(12, 3), np.array([1e6, 1.0, 1e-6])
    graded = br.RegressionData(data.features * factors, data.target)
    plain = run(br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)), data).draws["weights"].flatten(0, 1)
    draws = run(br.LinearRegression(br.LaplacePrior(0.5 / factors), dist.HalfNormal(1.0)), graded, seed=1).draws
    assert_matches(draws["weights"] * torch.tensor(factors, **ON), plain.mean(0), plain.std(0), allowed_bias=0.03)
    wide = run(br.LinearRegression(br.LaplacePrior(2.0), 0.5), graded).draws["weights"]
    assert_matches(wide[..., 2], 0.0, 2.0 * 2**0.5, allowed_bias=0.02)


# --- the interface


@pytest.mark.parametrize("relative", [False, True])
def test_result(relative, device, strict_factories, no_synchronisation):
    data = small_data(6, 8)
    model = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=relative), dist.HalfNormal(1.0))
    target = model.target(data, device)
    with no_synchronisation(at_most=12):
        result = gibbs.run(target, draws=30, tune=20, chains=3, seed=0)
    assert {name: tuple(values.shape) for name, values in result.draws.items()} == {
        "weights": (3, 30, 8),
        "intercept": (3, 30),
        "noise_scale": (3, 30),
        "prior_scale": (3, 30),
    }
    points = target.unconstrain(dict(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], target.log_density(points))
    rate = result.sample_stats["acceptance_rate"]
    assert rate.shape == (3, 30) and (rate >= 0).all() and (rate <= 1).all() and 0.3 < rate.mean() < 0.95
    for values in (*result.draws.values(), *result.sample_stats.values()):
        assert values.dtype == torch.float64 and values.device.type == device.type and not values.requires_grad


def test_scales_that_are_known_are_not_drawn():
    result = run(br.LinearRegression(br.LaplacePrior([0.5, 1.0]), 0.5, intercept=False), small_data(5, 2), draws=10)
    assert set(result.draws) == {"weights"}
    assert set(result.sample_stats) == {"lp"}


def test_seeds_threads_and_blocks(monkeypatch):
    model, data = br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)), small_data(9, 4)
    one = run(model, data, draws=20, chains=4).draws["weights"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(run(model, data, draws=20, chains=4).draws["weights"], one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(run(model, data, draws=20, chains=4, seed=1).draws["weights"], one)
    assert len(one[:, -1, 0].unique()) == 4
    # Blocks of two chains: the first has the same generator, and other chains beside it.
    monkeypatch.setitem(gibbs._BLOCK_NUMBERS, "cpu", 2 * 4 * (NUM_POINTS * 4 + 4))
    blocks = run(model, data, draws=20, chains=5)
    assert blocks.details["chains_at_once"] == 2
    two = run(model, data, draws=20, chains=2)
    assert torch.equal(blocks.draws["weights"][:2], two.draws["weights"])
    assert len(blocks.draws["weights"][:, -1, 0].unique()) == 5


def test_chains_start_apart_and_inside_the_support():
    prior = br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=True)
    target = br.LinearRegression(prior, dist.Uniform(0.3, 0.9)).target(small_data(9, 4))
    state = gibbs._start(target, 200, generator())
    noise, scale = state.log_noise.exp(), (state.log_factor - state.log_noise).exp()
    assert (noise > 0.3).all() and (noise < 0.9).all() and noise.std() > 0.05
    assert scale.log().std() > 1.0 and state.variances.mean(1).log().std() > 0.6


def test_short_warm_ups_keep_the_law():
    """Without learning the lattice is exact too, only slower."""
    model, data = CASES["noise"][0], small_data(5, 1)
    moments = quadrature(model, data, CASES["noise"][2])
    draws = run(model, data, draws=600, tune=0, chains=32).draws
    assert_matches(draws["noise_scale"][:, 50:].log(), *moments["noise_scale"])


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("relative", [False, True])
def test_scales_that_are_known_well_move_without_a_warm_up(relative, learned):
    """The noise to 1 %: a lattice that starts a hundred times as wide would stay where it is."""
    prior = br.LaplacePrior(dist.HalfNormal(1.0) if learned else 0.5, relative_to_noise=relative)
    model = br.LinearRegression(prior, dist.HalfNormal(1.0))
    draws = run(model, small_data(5000, 4), draws=450, tune=0, chains=8).draws
    for name in model.target(small_data(5, 4)).learned_scales:
        assert_mixes(draws[name].log()[:, 50:], 0.3)


@pytest.mark.parametrize("relative", [False, True])
def test_a_prior_scale_of_many_weights_moves_without_a_warm_up(relative):
    prior = br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=relative)
    draws = run(br.LinearRegression(prior, 0.5), small_data(500, 80), draws=350, tune=0, chains=8).draws
    assert_mixes(draws["prior_scale"].log()[:, 50:], 0.3)


def test_other_priors_are_refused():
    model = br.LinearRegression(br.GaussianPrior(1.0), 1.0)
    assert gibbs.why_not(br.LinearRegression(br.LaplacePrior(1.0), 1.0).target(small_data(5, 2))) is None
    with pytest.raises(EngineCannot, match="Gaussian"):
        run(model, small_data(5, 2))
