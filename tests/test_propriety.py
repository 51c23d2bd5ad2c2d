"""Which posteriors exist: the rule against integrals over ever larger squares of the log scales."""

import itertools

import numpy as np
import pyro.distributions as dist
import pytest
from scipy.special import erfcx, log_ndtr

import bayesreg as br
from bayesreg.propriety import require_proper

FLAT = dist.HalfNormal(1.0).mask(False)
# With the log density of the log scale, constants aside.
SCALES = {
    "known": (1.0, lambda u: np.where(u == 0.0, 0.0, -np.inf)),
    "flat": (FLAT, lambda u: u),
    "half-normal": (dist.HalfNormal(1.0), lambda u: u - np.exp(2 * u) / 2),
    "half-cauchy": (dist.HalfCauchy(1.0), lambda u: u - np.logaddexp(0.0, 2 * u)),
    "gamma": (dist.Gamma(2.5, 1.0), lambda u: 2.5 * u - np.exp(u)),
    "inverse-gamma": (dist.InverseGamma(0.5, 1.0), lambda u: -0.5 * u - np.exp(-u)),
}
# A column of length 1 (of mean 0 with an intercept), so that the target's part in its span is its coefficient.
DESIGNS = [(1, True), (2, True), (3, True), (4, True), (1, False), (2, False)]


def column(rows, intercept):
    values = np.linspace(-1.0, 1.0, rows) if intercept and rows > 1 else np.full(rows, 0.0 if intercept else 1.0)
    return values / (np.linalg.norm(values) or 1.0)


def log_laplace(fit, log_noise, log_prior):
    """Log of the integral of Normal(w; fit, s^2) Laplace(w; 0, t)."""
    ratio, parts = np.exp(log_noise - log_prior), []
    for sign in (1.0, -1.0):
        misfit = sign * fit * np.exp(-log_noise)
        inside = -0.5 * misfit**2 + np.log(0.5 * erfcx(np.maximum(ratio - misfit, 0.0) / np.sqrt(2.0)))
        outside = 0.5 * ratio**2 - sign * fit * np.exp(-log_prior) + log_ndtr(np.maximum(misfit - ratio, 0.0))
        parts.append(np.where(misfit < ratio, inside, outside))
    return np.logaddexp(*parts) - log_prior


def log_gaussian(fit, log_noise, log_prior):
    log_variance = np.logaddexp(2 * log_noise, 2 * log_prior)
    return -0.5 * log_variance - (0.5 * fit**2 * np.exp(-log_variance) if fit else 0.0)


def is_finite(features, target, kind, relative, noise, prior, intercept):
    """Whether the mass stays the same as a square of the log scales is made three times as large."""
    target = target - target.mean() if intercept else target
    fit, degrees = float(features @ target), len(target) - intercept
    outside = float(((target - fit * features) ** 2).sum())
    fit, outside = (value if abs(value) > 1e-20 else 0.0 for value in (fit, outside))
    masses = []
    for half in (30, 90):
        axis = np.arange(-half, half + 1.0)
        u = axis[:, None] if noise != "known" else np.zeros((1, 1))
        v = axis[None, :] if prior != "known" else np.zeros((1, 1))
        with np.errstate(all="ignore"):
            density = SCALES[noise][1](u) + SCALES[prior][1](v)
            density = density - (degrees - features.any()) * u - (0.5 * outside * np.exp(-2 * u) if outside else 0.0)
            if features.any() and kind != "flat":
                weights = {"gaussian": log_gaussian, "laplace": log_laplace}[kind]
                density = density + weights(fit, u, v + u if relative else v)
        density = np.nan_to_num(density, nan=-np.inf, neginf=-np.inf, posinf=np.inf)
        masses.append(density.max() + np.log(np.exp(density - density.max()).sum()))
    return masses[1] - masses[0] < 0.1


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "flat"])
def test_the_rule_agrees_with_integrals(kind):
    """One column: every size at a border, fits exact or not, priors relative to the noise or not."""
    verdicts = {True: 0, False: 0}
    for (rows, intercept), noise, prior, relative in itertools.product(DESIGNS, SCALES, SCALES, (False, True)):
        if noise == prior == "known" or (kind == "flat" and (relative or prior != "known")):
            continue
        features = column(rows, intercept)
        if kind == "flat" and not features.any():
            continue
        scale = SCALES[prior][0]
        if kind == "flat":
            weights = br.FlatPrior()
        else:
            weights = {"gaussian": br.GaussianPrior, "laplace": br.LaplacePrior}[kind](scale, 0.0, relative)
        model = br.LinearRegression(weights, SCALES[noise][0], intercept)
        for target in (np.cos(1.0 + np.arange(rows)), 1.3 * features, np.zeros(rows)):
            expected = is_finite(features, target, kind, relative, noise, prior, intercept)
            try:
                require_proper(model.target(br.RegressionData(features[:, None], target)))
                found = True
            except ValueError as error:
                assert "improper" in str(error)
                found = False
            assert found == expected, (kind, rows, intercept, noise, prior, relative, target)
            verdicts[found] += 1
    assert min(verdicts.values()) >= 15


def random_rows(rows, columns):
    random = np.random.default_rng(0)
    return br.RegressionData(random.standard_normal((rows, columns)), random.standard_normal(rows))


@pytest.mark.parametrize(
    ("prior", "noise", "rows", "columns", "proper"),
    [
        (br.LaplacePrior(FLAT), dist.HalfNormal(1.0), 9, 1, False),
        (br.LaplacePrior(FLAT), dist.HalfNormal(1.0), 9, 2, True),
        (br.GaussianPrior(FLAT), FLAT, 3, 2, False),
        (br.GaussianPrior(FLAT), FLAT, 4, 2, True),
        (br.GaussianPrior(FLAT, relative_to_noise=True), FLAT, 4, 2, True),
        (br.GaussianPrior(FLAT, relative_to_noise=True), FLAT, 3, 2, False),
        (br.FlatPrior(), FLAT, 4, 2, False),
        (br.FlatPrior(), FLAT, 5, 2, True),
        (br.GaussianPrior(1.0), dist.HalfNormal(1.0), 4, 9, True),
        (br.LaplacePrior(dist.Uniform(0.1, 9.0).mask(False)), 1.0, 9, 1, True),
    ],
)
def test_at_the_borders(prior, noise, rows, columns, proper):
    target = br.LinearRegression(prior, noise).target(random_rows(rows, columns))
    if proper:
        require_proper(target)
    else:
        with pytest.raises(ValueError, match="improper"):
            require_proper(target)


def test_the_refusal_says_where_why_and_what_to_give():
    with pytest.raises(
        ValueError, match=r"stays level as prior_scale grows, with 8 .* rank 1\. Give prior_scale a pro"
    ):
        require_proper(br.LinearRegression(br.LaplacePrior(FLAT), 1.0).target(random_rows(9, 1)))
    exact = br.RegressionData(np.arange(5.0)[:, None], 2.0 * np.arange(5.0))
    model = br.LinearRegression(br.GaussianPrior(1.0), dist.HalfNormal(1.0))
    words = r"power 2 as noise_scale goes to 0, .* fit exactly\. Give noise_scale a prior that vanishes at 0"
    with pytest.raises(ValueError, match=words):
        require_proper(model.target(exact))
    require_proper(br.LinearRegression(br.GaussianPrior(1.0), dist.LogNormal(0.0, 1.0)).target(exact))


def test_moments_that_hold_no_residual_are_refused_for_every_engine():
    exact = br.RegressionData(np.arange(5.0)[:, None], 2.0 * np.arange(5.0) + 1e-12 * np.array([1, -2, 0, 2, -1]))
    model = br.LinearRegression(br.LaplacePrior(1.0), dist.LogNormal(0.0, 1.0))
    with pytest.raises(ValueError, match="data must be rows"):
        require_proper(model.target(br.Moments.from_batches([exact])))


@pytest.mark.parametrize("source", [br.Moments.from_data, lambda rows: br.Moments.from_batches([rows])])
def test_the_location_of_the_prior_hides_no_residual(source):
    """X loc lies in the span: a constant target leaves no residual, and one that is not leaves its own."""
    half_normal, constant = dist.HalfNormal(1.0), source(br.RegressionData([[1.0], [2.0], [4.0]], [0.1, 0.1, 0.1]))
    relative = br.GaussianPrior(1.0, loc=1.0, relative_to_noise=True)
    require_proper(br.LinearRegression(relative, half_normal).target(constant))
    with pytest.raises(ValueError, match="improper: .* noise_scale goes to 0, .* fit exactly"):
        require_proper(br.LinearRegression(br.GaussianPrior(1.0, loc=1.0), half_normal).target(constant))
    far = br.GaussianPrior(1.0, loc=1e9)
    require_proper(br.LinearRegression(far, half_normal).target(source(random_rows(9, 2))))
