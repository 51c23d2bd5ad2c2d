"""The mode: against Pyro's trace, published modes, brute force, and the certificates that it carries."""

import csv
import json
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.optimize
import scipy.stats
import torch

import bayesreg as br

SHARED = Path(__file__).parents[2] / "shared" / "reference"


def wide_data(rows=100, columns=500, correlation=0.9, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns))
    for column in range(1, columns):
        features[:, column] = correlation * features[:, column - 1] + (1 - correlation**2) ** 0.5 * features[:, column]
    return br.RegressionData(features, features[:, :10] @ random.standard_normal(10) + random.standard_normal(rows))


def collinear_data():
    diabetes = br.load_diabetes().standardized()
    features = np.c_[diabetes.features, diabetes.features[:, :3], diabetes.features[:, 0] + diabetes.features[:, 1]]
    return br.RegressionData(features, diabetes.target)


DATA = {
    "diabetes": lambda: br.load_diabetes().standardized(),
    "diabetes as it comes": br.load_diabetes,
    "20 x 200": lambda: br.simulate_weight_decay(seed=0)[0],
    "100 x 500": wide_data,
    "collinear": collinear_data,
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("prior", [br.GaussianPrior, br.LaplacePrior])
@pytest.mark.parametrize("strength", [0.3, 0.01])
def test_known_noise_is_certified(name, prior, strength):
    """At a share of the largest useful lambda, so that neither all nor none of the weights vanish."""
    data = DATA[name]()
    largest = br.L1(1.0).largest_useful(br.Moments.from_data(data))
    noise = 0.5 * float(np.std(data.target))
    scale = noise**2 / (data.num_rows * strength * largest)
    scale = scale if prior is br.LaplacePrior else scale**0.5
    fit = br.map_estimate(br.LinearRegression(prior(scale), noise), data)
    assert fit.certificate.relative_gap < 1e-10
    judged = br.certify(fit.weights, data, fit.penalty, fit.intercept)
    assert judged.relative_gap < 1e-10
    zeros = int((fit.weights == 0).sum())
    assert zeros < data.num_features
    if prior is br.LaplacePrior and strength == 0.3:
        assert zeros > 0


@pytest.mark.parametrize("problem", ["diabetes", "d2l_20x200"])
def test_frequentist_references(problem):
    if not SHARED.is_dir():
        pytest.skip("the reference solutions are not at hand")
    arrays = np.load(SHARED / "frequentist" / f"{problem}.npz")
    data = br.RegressionData(arrays["X"], arrays["y"])
    for solution in json.loads((SHARED / "frequentist" / f"{problem}.json").read_text())["solutions"]:
        if solution["estimator"] == "ElasticNet" or solution["alpha"] == 0.0:
            continue
        ridge = solution["estimator"] == "Ridge"
        penalty = br.Penalty(
            **{"l2" if ridge else "l1": solution["alpha"]}, convention="sklearn-ridge" if ridge else "sklearn-lasso"
        )
        prior = br.prior_for(penalty, noise_scale=0.3, num_rows=data.num_rows)
        fit = br.map_estimate(br.LinearRegression(prior, 0.3), data)
        expected = np.array(solution["coef"])
        np.testing.assert_allclose(fit.weights, expected, rtol=0.0, atol=1e-9 * np.abs(expected).max())
        assert fit.intercept == pytest.approx(solution["intercept"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("kidiq-kidscore_momiq", br.LinearRegression(br.FlatPrior(), dist.HalfCauchy(2.5))),
        ("sblrc-blr", br.LinearRegression(br.GaussianPrior(10.0), dist.HalfNormal(10.0), intercept=False)),
        ("mesquite-logmesquite", br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0).mask(False))),
    ],
)
def test_published_joint_modes(name, model):
    if not SHARED.is_dir():
        pytest.skip("the reference posteriors are not at hand")
    with open(SHARED / name / "data.csv") as file:
        table = np.array(list(csv.reader(file))[1:], dtype=float)
    fit = br.map_estimate(model, br.RegressionData(table[:, 1:], table[:, 0]))
    mode = json.loads((SHARED / name / "reference.json").read_text())["joint_mode"]
    expected = list(mode["density_wrt_sigma"].values())
    found = [*([fit.intercept] if model.intercept else []), *fit.weights.tolist(), fit.noise_scale]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # The mode of log sigma is another point: a slip between the two is what this guards against.
    assert abs(mode["density_wrt_log_sigma"]["sigma"] / fit.noise_scale - 1.0) > 1e-4


MODELS = [
    br.LinearRegression(br.GaussianPrior(0.4), 0.6),
    br.LinearRegression(br.LaplacePrior([0.02, 0.5, 0.1], loc=[0.1, 0.0, -0.2]), 0.6),
    br.LinearRegression(br.LaplacePrior(0.05), 0.6, intercept=False),
    br.LinearRegression(br.GaussianPrior(0.4), dist.HalfNormal(1.0)),
    br.LinearRegression(br.LaplacePrior(0.3, relative_to_noise=True), dist.LogNormal(0.0, 1.0)),
    br.LinearRegression(br.GaussianPrior([0.2, 0.5, 0.1], relative_to_noise=True), dist.InverseGamma(2.0, 1.0)),
    br.LinearRegression(br.LaplacePrior(0.2, loc=0.3), dist.Gamma(2.0, 2.0), intercept=False),
    br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0).mask(False)),
    br.LinearRegression(br.GaussianPrior(0.4), dist.Uniform(0.9, 2.0)),  # the mode stands at the edge
    br.LinearRegression(br.LaplacePrior(0.4), dist.Uniform(0.0, 0.25)),  # at the other edge
]


def small_data():
    random = np.random.default_rng(3)
    features = random.standard_normal((30, 3)) + [0.0, 5.0, -2.0]
    return br.RegressionData(features, features @ [1.0, -0.5, 0.0] + 1.0 + 0.6 * random.standard_normal(30))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_no_neighbour_is_higher_and_the_density_is_that_of_the_trace(model):
    data = small_data()
    fit = br.map_estimate(model, data)

    def trace_density(weights, intercept, noise):
        values = {"weights": torch.tensor(weights)}
        if model.intercept:
            values["intercept"] = torch.tensor(intercept, dtype=torch.float64)
        if model.noise_is_learned:
            values["noise_scale"] = torch.tensor(noise, dtype=torch.float64)
        with pyro.validation_enabled(False):
            return float(pyro.poutine.trace(pyro.condition(model.pyro_model, values)).get_trace(data).log_prob_sum())

    at = fit.weights.numpy(), fit.intercept, fit.noise_scale
    assert fit.log_density == pytest.approx(trace_density(*at), rel=1e-10)
    random = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            noise = at[2] * np.exp(size * random.standard_normal())
            if isinstance(model.noise_scale, dist.Uniform):
                noise = min(max(noise, float(model.noise_scale.low)), float(model.noise_scale.high) * (1 - 1e-9))
            neighbour = at[0] + size * random.standard_normal(3), at[1] + size * random.standard_normal(), noise
            assert trace_density(*neighbour) < fit.log_density


def test_weights_at_a_joint_mode_are_the_penalised_fit_at_its_lambda():
    data = br.load_diabetes().standardized()
    model = br.LinearRegression(br.LaplacePrior(0.02), dist.HalfNormal(1.0))
    fit = br.map_estimate(model, data)
    held = br.map_estimate(model, data, noise_scale=fit.noise_scale)
    torch.testing.assert_close(held.weights, fit.weights, rtol=1e-12, atol=1e-14)
    assert fit.penalty.strength == pytest.approx(fit.noise_scale**2 / (442 * 0.02), rel=1e-14)
    assert fit.certificate.relative_gap < 1e-10


def test_the_global_mode_of_a_profile_with_three():
    """A noisy fit, a closer one, and a near-interpolating one: a brute scan of the profile says which is highest."""
    random = np.random.default_rng(1)
    features = random.standard_normal((12, 11))
    data = br.RegressionData(features, features @ random.standard_normal(11) + 0.5 * random.standard_normal(12))
    found, grid = [], np.exp(np.linspace(-25, 3, 1000))
    models = {width: br.LinearRegression(br.GaussianPrior(0.2), dist.LogNormal(0.0, width)) for width in (0.8, 1.2)}
    # Where the noise is held its prior does not count.
    held = [br.map_estimate(models[0.8], data, noise_scale=s).log_density for s in grid]
    for width, model in models.items():
        profile = np.array(held) + scipy.stats.lognorm.logpdf(grid, width)
        assert np.sum((profile[1:-1] > profile[:-2]) & (profile[1:-1] > profile[2:])) == 3
        fit = br.map_estimate(model, data)
        assert fit.log_density >= profile.max()
        assert fit.noise_scale == pytest.approx(grid[np.argmax(profile)], rel=0.03)
        found.append(fit.noise_scale)
    assert found[0] > 0.1 and found[1] < 1e-6  # the highest of the three is another one each time


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("prior", [br.GaussianPrior(1.0), br.LaplacePrior(1.0)])
def test_where_the_joint_mode_does_not_exist_it_is_refused(rows, prior):
    random = np.random.default_rng(0)
    data = br.RegressionData(random.standard_normal((rows, 20)), random.standard_normal(rows))
    for noise in (dist.HalfNormal(1.0), dist.HalfCauchy(1.0), dist.HalfNormal(1.0).mask(False), dist.Gamma(1.5, 1.0)):
        with pytest.raises(ValueError, match="joint mode.*does not exist.*LogNormal"):
            br.map_estimate(br.LinearRegression(prior, noise), data)
    for noise in (dist.LogNormal(0.0, 0.5), dist.InverseGamma(2.0, 1.0), dist.Uniform(0.5, 2.0)):
        assert br.map_estimate(br.LinearRegression(prior, noise), data).certificate.relative_gap < 1e-10


@pytest.mark.parametrize("prior", [br.GaussianPrior(1.0), br.LaplacePrior(1.0), br.FlatPrior()])
def test_an_exact_fit_of_many_rows_has_no_joint_mode_either(prior):
    """The rounding of its residual is none; what is left to say where the noise prior vanishes at 0 is that prior."""
    features = np.random.default_rng(0).standard_normal((50, 3))
    exact = br.RegressionData(features, features @ [1.0, -2.0, 0.5] + 1.0)
    with pytest.raises(ValueError, match="joint mode.*does not exist.*LogNormal"):
        br.map_estimate(br.LinearRegression(prior, dist.HalfNormal(1.0)), exact)
    log_normal = br.LinearRegression(prior, dist.LogNormal(0.0, 1.0))
    assert br.map_estimate(log_normal, exact).noise_scale == pytest.approx(np.exp(-51.0), rel=1e-6)
    noise = 1e-8 * np.random.default_rng(1).standard_normal(50)
    near = br.RegressionData(features, exact.target + noise)
    model = br.LinearRegression(prior, dist.HalfNormal(1.0))
    assert 0.8e-8 < br.map_estimate(model, near).noise_scale < 1e-8
    with pytest.raises(ValueError, match="data must be rows.*second moments of Moments"):
        br.map_estimate(model, br.Moments.from_batches([near]))


def test_the_highest_peak_of_a_profile_is_found_to_the_last_digit_whichever_it_is():
    random = np.random.default_rng(1)
    features = random.standard_normal((12, 11))
    target = features @ (0.3 * random.standard_normal(11)) + 0.01 * random.standard_normal(12)
    model, data = (
        br.LinearRegression(br.GaussianPrior(0.05), dist.LogNormal(-6.0, 0.7)),
        br.RegressionData(features, target),
    )
    fit = br.map_estimate(model, data)
    heights = [
        br.map_estimate(model, data, noise_scale=scale).log_density
        + scipy.stats.lognorm.logpdf(scale, 0.7, scale=np.exp(-6.0))
        for scale in fit.noise_scale * np.array([1 - 1e-5, 1.0, 1 + 1e-5])
    ]
    assert heights[1] > max(heights[0], heights[2]) and heights[1] == pytest.approx(fit.log_density, rel=1e-12)


@pytest.mark.parametrize("length", [1e4, 1e8])
def test_a_location_does_not_cost_small_weights_their_digits(length):
    random = np.random.default_rng(0)
    features = random.standard_normal((50, 3))
    data = br.RegressionData(features * [length, 1.0, 1.0], features @ [1.0, -2.0, 0.5] + random.standard_normal(50))
    fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(1.0, loc=1.0), 1.0), data)
    assert fit.certificate.relative_gap < 1e-10 and fit.certificate.kkt_residual < 1e-14


def test_relative_prior_has_a_joint_mode_even_where_columns_interpolate():
    random = np.random.default_rng(0)
    data = br.RegressionData(random.standard_normal((5, 20)), random.standard_normal(5))
    fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(1.0, relative_to_noise=True), dist.HalfNormal(1.0)), data)
    assert 1e-3 < fit.noise_scale < 1.0


def test_learned_prior_scale_is_refused_unless_held():
    data = small_data()
    model = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), 0.6)
    with pytest.raises(ValueError, match="prior_scale="):
        br.map_estimate(model, data)
    held = br.map_estimate(model, data, prior_scale=0.4)
    plain = br.map_estimate(br.LinearRegression(br.GaussianPrior(0.4), 0.6), data)
    assert torch.equal(held.weights, plain.weights)


def test_flat_prior_is_least_squares_and_short_rank_is_refused():
    data = small_data()
    fit = br.map_estimate(br.LinearRegression(br.FlatPrior(), 0.6), data)
    design = np.c_[data.features, np.ones(30)]
    expected = np.linalg.lstsq(design, data.target)[0]
    np.testing.assert_allclose([*fit.weights.tolist(), fit.intercept], expected, rtol=1e-10)
    assert fit.certificate.relative_gap is None and fit.certificate.kkt_residual < 1e-12
    with pytest.raises(ValueError, match="rank 3 and 4 features"):
        br.map_estimate(
            br.LinearRegression(br.FlatPrior(), 0.6),
            br.RegressionData(np.c_[data.features, data.features[:, 0]], data.target),
        )


@pytest.mark.parametrize("model", [MODELS[0], MODELS[1], MODELS[3], MODELS[7]], ids=str)
def test_original_units_is_the_mode_of_the_translated_model(model):
    data = small_data()
    scaled = data.standardized()
    fit = br.map_estimate(model, scaled).original_units()
    transform = scaled.transform
    factors = np.asarray(transform.target_scale) / np.asarray(transform.feature_scales)
    prior = model.prior
    if prior.kind != "flat":
        prior = type(prior)(prior.scales(3) * factors, prior.locations(3) * factors)
    noise = model.noise_scale
    if model.noise_is_learned:  # the same prior density of s / target_scale, its Jacobian with it
        noise = fit.noise_scale
    expected = br.map_estimate(
        br.LinearRegression(prior, noise if model.noise_is_learned else noise * transform.target_scale), data
    )
    np.testing.assert_allclose(fit.weights, expected.weights, rtol=1e-9, atol=1e-12)
    assert fit.intercept == pytest.approx(expected.intercept, rel=1e-9)
    log_prior = 0.0
    if model.noise_is_learned and model.prior.kind != "flat":  # the density of s in the units of the target
        log_prior = float(
            model.noise_scale.log_prob(torch.tensor(fit.noise_scale / transform.target_scale, dtype=torch.float64))
        )
        log_prior -= np.log(transform.target_scale)
    assert fit.log_density == pytest.approx(expected.log_density + log_prior, rel=1e-10)
    assert fit.noise_scale == pytest.approx(expected.noise_scale)
    with pytest.raises(ValueError, match="standardi"):
        expected.original_units()


HARD = {
    "one row": (np.array([[1.0, 2.0]]), np.array([3.0])),
    "duplicate columns": (np.random.default_rng(0).standard_normal((9, 2)).repeat(2, axis=1), np.arange(9.0)),
    "constant column": (np.c_[np.ones(9), np.arange(9.0)], np.arange(9.0) ** 2),
    "constant column at 1e8": (np.c_[np.full(9, 1e8), np.arange(9.0)], np.arange(9.0) ** 2),
    "constant target": (np.random.default_rng(0).standard_normal((9, 3)), np.full(9, 0.1)),
    "columns 1e12 apart": (
        np.random.default_rng(0).standard_normal((30, 3)) * [1e6, 1.0, 1e-6],
        np.random.default_rng(1).standard_normal(30),
    ),
    "offset 1e8": (
        np.random.default_rng(0).standard_normal((30, 3)) + 1e8,
        np.random.default_rng(1).standard_normal(30) + 1e8,
    ),
    "integers": (np.arange(12).reshape(6, 2), np.arange(6)),
    "float32": (np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32), np.arange(9, dtype=np.float32)),
    "one column, all zero": (np.zeros((5, 1)), np.arange(5.0)),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize(
    "prior", [br.GaussianPrior(0.7), br.LaplacePrior(0.7), br.LaplacePrior(1e-3), br.GaussianPrior(1e4)]
)
@pytest.mark.parametrize("intercept", [True, False])
def test_hard_inputs_simply_work_and_are_certified(name, prior, intercept):
    data = br.RegressionData(*HARD[name])
    fit = br.map_estimate(br.LinearRegression(prior, 0.5, intercept), data)
    assert torch.isfinite(fit.weights).all() and np.isfinite(fit.log_density)
    assert fit.certificate.relative_gap < 1e-10


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2], MODELS[4]], ids=str)
def test_moments_serve_as_well_as_rows(model):
    data = small_data()
    by_rows, by_moments = br.map_estimate(model, data), br.map_estimate(model, br.Moments.from_data(data))
    torch.testing.assert_close(by_rows.weights, by_moments.weights)
    assert by_moments.certificate.relative_gap < 1e-10


def test_laplace_mode_is_the_proximal_fixed_point_by_a_scalar_solver():
    """One weight: the mode by golden search of the density that SciPy evaluates."""
    random = np.random.default_rng(0)
    x = random.standard_normal(20)
    y = 0.4 * x + random.standard_normal(20)
    fit = br.map_estimate(
        br.LinearRegression(br.LaplacePrior(0.3), 0.8, intercept=False), br.RegressionData(x[:, None], y)
    )
    found = scipy.optimize.minimize_scalar(
        lambda w: np.sum((y - x * w) ** 2) / 1.28 + abs(w) / 0.3, bracket=(-1, 1), tol=1e-12
    )
    assert float(fit.weights[0]) == pytest.approx(found.x, abs=1e-7)
