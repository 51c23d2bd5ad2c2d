"""The exact engine against published posteriors, quadrature, and the marginal Gaussian of the target."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
import torch

import bayesreg as br
from bayesreg.inference import exact


def run(model, data, draws=5000, chains=4, seed=0):
    return exact.run(model.target(data), draws=draws, tune=0, chains=chains, seed=seed)


def assert_law(draws, mean, sd, comparisons=1):
    """Hold independent draws to a mean and a standard deviation, at 4.5 standard errors (2e-5 a comparison at most)."""
    draws = np.asarray(draws).ravel()
    kurtosis = ((draws - draws.mean()) ** 4).mean() / draws.var() ** 2
    assert abs(draws.mean() - mean) < 4.5 * sd / draws.size**0.5
    assert abs(draws.std() / sd - 1.0) < 4.5 * ((kurtosis - 1.0) / draws.size) ** 0.5 / 2


def small_data(rows=15, columns=3, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns)) + 1.5
    return br.RegressionData(
        features, features @ np.linspace(1.0, -1.0, columns) + 2.0 + 0.5 * random.standard_normal(rows)
    )


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("kidiq-kidscore_momiq", br.LinearRegression(br.FlatPrior(), dist.HalfCauchy(2.5))),
        ("sblrc-blr", br.LinearRegression(br.GaussianPrior(10.0), dist.HalfNormal(10.0), intercept=False)),
        ("mesquite-logmesquite", br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0).mask(False))),
    ],
)
def test_published_posteriors(name, model):
    folder = Path(__file__).parents[2] / "shared" / "reference" / name
    if not folder.is_dir():
        pytest.skip("the reference posteriors of posteriordb are not at hand")
    with open(folder / "data.csv") as file:
        rows = list(csv.reader(file))
    table = np.array(rows[1:], dtype=float)
    expected = json.loads((folder / "reference.json").read_text())["exact_quadrature"]
    draws = run(model, br.RegressionData(table[:, 1:], table[:, 0]), draws=20_000).draws
    first = 1 if model.intercept else 0
    for parameter, answer in expected.items():
        if parameter == "sigma":
            found = draws["noise_scale"]
        elif model.intercept and parameter == "beta[1]":
            found = draws["intercept"]
        else:
            found = draws["weights"][..., int(parameter[5:-1]) - 1 - first]
        assert_law(found, answer["mean"], answer["sd"])


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(15, 3), (4, 7), (1, 2)])
def test_evidence_is_the_density_of_the_target_under_its_marginal_gaussian(intercept, rows, columns):
    data = small_data(rows, columns)
    loc, scales, noise = np.linspace(-1, 1, columns), np.linspace(0.5, 2.0, columns), 0.7
    model = br.LinearRegression(br.GaussianPrior(scales, loc), noise, intercept)
    covariance = noise**2 * np.eye(rows) + (data.features * scales**2) @ data.features.T
    mean, expected = data.features @ loc, 0.0
    if intercept:  # against p(b) = 1: the limit of a Normal(0, k^2) intercept, times sqrt(2 pi k^2)
        wide = 1e4
        covariance, expected = covariance + wide**2, 0.5 * np.log(2 * np.pi * wide**2)
    expected += scipy.stats.multivariate_normal.logpdf(data.target, mean, covariance)
    assert run(model, data, draws=1).log_evidence == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), dist.LogNormal(-0.5, 0.6)),
        br.LinearRegression(br.GaussianPrior(dist.HalfCauchy(1.0), relative_to_noise=True), dist.HalfNormal(1.0)),
        br.LinearRegression(br.GaussianPrior(0.8), dist.Uniform(0.2, 1.5), intercept=False),
        br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), 0.5),
        br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0)),
    ],
    ids=["both", "relative", "bounded", "prior-scale", "flat"],
)
def test_learned_scales_by_nested_quadrature(model):
    """Evidence and moments from quadrature of the dense marginal Gaussian over the scales themselves."""
    data = small_data()
    result = run(model, data, draws=20_000)
    features, target = data.features, data.target
    if model.intercept:  # orthogonal contrasts of the rows integrate the flat intercept out, leaving a factor 1/sqrt(n)
        contrasts = scipy.linalg.null_space(np.ones((1, 15)))
        features, target = contrasts.T @ features, contrasts.T @ target
    learned = model.learned_scales

    def joint(scales):
        """Return the density over the evidence at all nodes, ``(nodes,)``."""
        noise = scales.get("noise_scale", model.noise_scale)
        prior = scales.get("prior_scale", model.prior.scale)
        density = sum(learned[name].log_prior(torch.tensor(values)).numpy() for name, values in scales.items())
        size = len(target)
        if model.prior.kind == "flat":
            solution, rss, _, _ = np.linalg.lstsq(features, target)
            density += -(size - 3) / 2 * np.log(2 * np.pi * noise**2) - rss[0] / (2 * noise**2)
            density -= np.linalg.slogdet(features.T @ features)[1] / 2
        else:
            effective = prior * noise if model.prior.relative_to_noise else prior
            variances = [np.square(scale)[..., None, None] for scale in (noise, effective)]
            covariance = variances[0] * np.eye(size) + variances[1] * (features @ features.T)
            density += -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
            density += -0.5 * np.linalg.solve(covariance, target[:, None])[..., 0] @ target
        return np.exp(density - result.log_evidence)

    # The trapezoidal rule on the logarithms, which is exact for smooth humps once its step is a fraction of their
    # width.
    axes = {}
    for name, scale in learned.items():
        if isinstance(scale.distribution, dist.Uniform):  # a jump at either end: Gauss-Legendre inside
            nodes, gauss = np.polynomial.legendre.leggauss(200)
            axes[name] = 0.85 + 0.65 * nodes, 0.65 * gauss
        else:
            low, high = {"noise_scale": (0.05, 12.0), "prior_scale": (1e-6, 60.0)}[name]
            axis = np.geomspace(low, high, 121)
            axes[name] = axis, axis * np.log(high / low) / 120
    nodes, widths = (np.meshgrid(*parts, indexing="ij") for parts in zip(*axes.values(), strict=True))
    scales = {name: values.ravel() for name, values in zip(axes, nodes, strict=True)}
    masses = np.prod(widths, axis=0).ravel() * joint(scales)
    mass = masses.sum()
    constant = -0.5 * np.log(15) if model.intercept else 0.0
    assert np.log(mass) + constant == pytest.approx(0.0, abs=1e-5)
    for name in learned:
        mean, square = (masses @ scales[name] ** power / mass for power in (1, 2))
        assert_law(result.draws[name], mean, (square - mean**2) ** 0.5)


def test_known_scales_give_the_textbook_gaussian():
    data = small_data()
    loc, scales, noise = np.array([0.1, -0.5, 2.0]), np.array([0.5, 1.0, 3.0]), 0.6
    draws = run(br.LinearRegression(br.GaussianPrior(scales, loc), noise), data, draws=50_000).draws
    centred = data.features - data.features.mean(0)
    covariance = np.linalg.inv(centred.T @ centred / noise**2 + np.diag(1 / scales**2))
    mean = covariance @ (centred.T @ data.target / noise**2 + loc / scales**2)
    weights = draws["weights"].reshape(-1, 3).numpy()
    for index in range(3):
        assert_law(weights[:, index], mean[index], covariance[index, index] ** 0.5)
    # Each off-diagonal through the sum, whose variance has it.
    for first, second in itertools.combinations(range(3), 2):
        both = covariance[first, first] + covariance[second, second] + 2 * covariance[first, second]
        assert_law(weights[:, first] + weights[:, second], mean[first] + mean[second], both**0.5)
    means = data.features.mean(0)
    variance = noise**2 / 15 + means @ covariance @ means
    assert_law(draws["intercept"], data.target.mean() - means @ mean, variance**0.5)


def test_the_intercept_given_the_weights_has_the_variance_of_a_mean():
    data = small_data(rows=4)
    draws = run(br.LinearRegression(br.GaussianPrior(1.0), 0.5), data, draws=20_000).draws
    best = data.target.mean() - draws["weights"] @ torch.tensor(data.features.mean(0))
    assert_law(draws["intercept"] - best, 0.0, 0.5 / 4**0.5)


@pytest.mark.parametrize("prior", [br.GaussianPrior(0.5), br.GaussianPrior(dist.HalfNormal(1.0))])
def test_learned_scales_are_drawn_from_a_continuum(prior):
    """Not from the nodes of a table; and the evidence is as good as is said, on a skewed posterior too."""
    random = np.random.default_rng(0)
    data = br.RegressionData(random.standard_normal((5, 2)), random.standard_normal(5))
    result = run(br.LinearRegression(prior, dist.HalfCauchy(3.0)), data, draws=500)
    for name in set(result.draws) & {"noise_scale", "prior_scale"}:
        assert result.draws[name].unique().numel() == 2000
    assert result.details["evidence_error"] < 1e-10


def test_directions_that_the_data_do_not_see_keep_their_prior():
    data = small_data(rows=4, columns=7)
    draws = run(br.LinearRegression(br.GaussianPrior(0.8), 0.3), data, draws=20_000).draws["weights"].reshape(-1, 7)
    centred = data.features - data.features.mean(0)
    for direction in scipy.linalg.null_space(centred).T:
        assert_law(draws.numpy() @ direction, 0.0, 0.8)


def test_columns_far_apart_in_scale():
    data = small_data()
    factors = np.array([1e6, 1.0, 1e-6])
    graded = br.RegressionData(data.features * factors, data.target)
    model = br.LinearRegression(br.GaussianPrior(1.0 / factors), dist.HalfNormal(1.0))
    plain = run(br.LinearRegression(br.GaussianPrior(1.0), dist.HalfNormal(1.0)), data)
    result = run(model, graded)
    assert result.log_evidence - np.log(factors).sum() == pytest.approx(
        plain.log_evidence - np.log(factors).sum(), abs=1e-9
    )
    same_prior = run(br.LinearRegression(br.GaussianPrior(1.0), 0.5), graded)
    expected = np.linalg.inv(np.cov(data.features.T, bias=True) * 15 / 0.25 * np.outer(factors, factors) + np.eye(3))
    for index in range(3):
        assert_law(
            same_prior.draws["weights"][..., index] - same_prior.draws["weights"][..., index].mean(),
            0.0,
            expected[index, index] ** 0.5,
        )


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(
    ("prior", "noise", "shape"),
    [
        (br.GaussianPrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0), (15, 3)),
        (br.GaussianPrior(dist.Uniform(0.1, 2.0), loc=0.5), dist.HalfNormal(1.0), (15, 3)),
        (br.GaussianPrior(dist.HalfCauchy(1.0), relative_to_noise=True), dist.Uniform(0.2, 1.5), (4, 7)),
        (br.GaussianPrior([0.5, 1.0, 2.0], loc=[1.0, 0.0, -1.0]), 0.7, (15, 3)),
        (br.GaussianPrior(0.5), 0.7, (4, 7)),
        (br.FlatPrior(), dist.LogNormal(0.0, 1.0), (15, 3)),
        (br.FlatPrior(), 0.5, (15, 3)),
    ],
    ids=["both", "from-noise", "relative-wide", "known", "known-wide", "flat", "flat-known"],
)
def test_log_density_of_a_draw_is_the_targets(prior, noise, shape, intercept):
    """It is put together from the scales' marginal density and the Gaussians given them, constants included."""
    target = br.LinearRegression(prior, noise, intercept).target(small_data(*shape))
    result = exact.run(target, draws=50, tune=0, chains=2, seed=0)
    points = target.unconstrain(dict(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], target.log_density(points), rtol=0.0, atol=1e-9)


def test_a_chain_does_not_depend_on_the_others_nor_draws_on_threads():
    model = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0))
    data = br.load_diabetes().standardized()
    threads = torch.get_num_threads()
    four = run(model, data, draws=3000, chains=4).draws
    try:
        torch.set_num_threads(3 - threads if threads < 3 else 1)
        two = run(model, data, draws=3000, chains=2).draws
    finally:
        torch.set_num_threads(threads)
    for name, values in two.items():
        assert torch.equal(values, four[name][:2])
    assert not torch.equal(four["noise_scale"][0], four["noise_scale"][1])
    assert not torch.equal(run(model, data, draws=3000, seed=1).draws["noise_scale"], four["noise_scale"])


def test_improper_posteriors_are_refused():
    flat = dist.HalfNormal(1.0).mask(False)
    data = small_data(rows=4, columns=2)
    with pytest.raises(ValueError, match="improper.*noise_scale"):  # n - 1 - d = 1: falls like 1/s
        run(br.LinearRegression(br.FlatPrior(), flat), data)
    with pytest.raises(ValueError, match="improper.*prior_scale"):  # one direction: t's density has a tail 1/t
        run(br.LinearRegression(br.GaussianPrior(flat), 1.0), small_data(rows=9, columns=1))
    with pytest.raises(ValueError, match="Laplace"):
        run(br.LinearRegression(br.LaplacePrior(1.0), 1.0), data)


@pytest.mark.parametrize("rows", [1, 4])
def test_data_that_say_nothing_leave_the_learned_prior_scale_its_prior(rows):
    data = br.RegressionData(np.full((rows, 2), 3.0), np.full(rows, 7.0))
    draws = run(br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), 0.5), data, draws=20_000).draws
    assert_law(draws["prior_scale"], (2 / np.pi) ** 0.5, (1 - 2 / np.pi) ** 0.5)


def test_constant_target_and_constant_column():
    data = br.RegressionData(np.c_[np.ones(9), np.arange(9.0)], np.full(9, 3.0))
    draws = run(br.LinearRegression(br.GaussianPrior(2.0), 0.5), data, draws=20_000).draws
    assert_law(draws["weights"][..., 0], 0.0, 2.0)
    assert_law(draws["weights"][..., 1], 0.0, (60 / 0.25 + 1 / 4) ** -0.5)
