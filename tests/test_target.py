"""The fused density against Pyro's trace of the program, its derivatives against autograd and differences."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br

PRIORS = {
    "gaussian": br.GaussianPrior,
    "laplace": br.LaplacePrior,
}
NOISES = {
    "known": 0.7,
    "half-normal": dist.HalfNormal(1.3),
    "flat": dist.HalfNormal(1.0).mask(False),
    "log-normal": dist.LogNormal(-0.3, 0.8),
    "bounded": dist.Uniform(0.2, 2.5),
}
SCALES = {"known": 0.4, "vector": np.array([0.2, 0.5, 1.7]), "learned": dist.HalfCauchy(0.6)}


def models():
    for prior, noise, scale, intercept, relative in itertools.product(
        PRIORS, NOISES, SCALES, (True, False), (True, False)
    ):
        name = "-".join(
            [prior, noise, scale, "intercept" if intercept else "none", "relative" if relative else "absolute"]
        )
        loc = [0.0, 0.3, -0.1] if scale == "vector" else 0.0
        yield pytest.param(
            br.LinearRegression(PRIORS[prior](SCALES[scale], loc, relative), NOISES[noise], intercept), id=name
        )
    for noise, intercept, relative in itertools.product(NOISES, (True, False), (True, False)):
        prior = br.ElasticNetPrior([0.2, 0.5, 30.0], 0.4, [0.0, 0.3, -0.1], relative)
        name = f"elasticnet-{noise}-{intercept}-{relative}"
        yield pytest.param(br.LinearRegression(prior, NOISES[noise], intercept), id=name)
    for noise, intercept in itertools.product(NOISES, (True, False)):
        yield pytest.param(
            br.LinearRegression(br.FlatPrior(), NOISES[noise], intercept), id=f"flat-{noise}-{intercept}"
        )


MODELS = list(models())


def small_data(rows=12, offset=3.0):
    random = np.random.default_rng(4)
    features = random.standard_normal((rows, 3)) * [1.0, 0.1, 5.0] + offset
    return br.RegressionData(features, features @ [0.5, -2.0, 0.1] + random.standard_normal(rows))


def points_near(target, count=5):
    generator = torch.Generator().manual_seed(1)
    return target.start() + torch.randn((count, target.num_parameters), generator=generator, dtype=torch.float64)


def log_jacobian(target, points):
    """Sum of log |ds/du| over the learned scales, by autograd on `constrain` alone."""
    total = torch.zeros(points.shape[0], dtype=torch.float64)
    for name in target.learned_scales:
        points = points.detach().requires_grad_(True)
        scale = target.constrain(points)[name]
        (slope,) = torch.autograd.grad(scale.sum(), points)
        total += slope.sum(-1).abs().log()  # the scale depends on its own coordinate only
    return total


@pytest.mark.parametrize("model", MODELS)
def test_density_is_that_of_the_pyro_trace(model):
    data = small_data()
    target = model.target(data)
    points = points_near(target)
    fused = target.log_density(points) - log_jacobian(target, points)
    for index in range(points.shape[0]):
        draw = {name: value[index] for name, value in target.constrain(points).items()}
        trace = pyro.poutine.trace(pyro.condition(model.pyro_model, data=draw)).get_trace(data)
        torch.testing.assert_close(fused[index], trace.log_prob_sum(), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("model", MODELS)
def test_gradient_is_that_of_autograd(model):
    target = model.target(small_data())
    points = points_near(target)
    _, gradient = target.log_density_and_gradient(points)
    points = points.requires_grad_(True)
    (by_operations,) = torch.autograd.grad(target._log_density_by_operations(points).sum(), points)
    torch.testing.assert_close(gradient, by_operations, rtol=1e-9, atol=1e-9)
    (through_node,) = torch.autograd.grad((2.0 * target.log_density(points)).sum(), points)
    torch.testing.assert_close(through_node, 2.0 * gradient, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("model", MODELS)
def test_unconstrain_is_the_way_back(model):
    target = model.target(small_data())
    points = points_near(target)
    torch.testing.assert_close(target.unconstrain(target.constrain(points)), points, rtol=1e-9, atol=1e-9)
    assert tuple(target.constrain(points)) == target.names


def test_curvature_is_the_differentiated_gradient():
    model = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0), relative_to_noise=True), dist.HalfNormal(1.0))
    target = model.target(small_data())
    point = target.start()
    step = 1e-5
    columns = []
    for index in range(target.num_parameters):
        shift = torch.zeros_like(point)
        shift[index] = step
        up, down = (target.log_density_and_gradient(p.unsqueeze(0))[1][0] for p in (point + shift, point - shift))
        columns.append((down - up) / (2 * step))
    torch.testing.assert_close(target.curvature(point), torch.stack(columns), rtol=1e-5, atol=1e-3)


def test_curvature_has_a_cholesky_factor_wherever_it_is_asked():
    model = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0))
    target = model.target(small_data())
    indefinite = 0
    for point in target.start() + 3.0 * (points_near(target, count=20) - target.start()):
        hessian = -torch.autograd.functional.hessian(target._log_density_by_operations, point)
        indefinite += int(torch.linalg.cholesky_ex(hessian).info != 0)
        assert int(torch.linalg.cholesky_ex(target.curvature(point)).info) == 0
    assert indefinite  # or there was nothing to raise


def test_laplace_curvature_counts_the_kink_by_its_expectation():
    data = small_data()
    target = br.LinearRegression(br.LaplacePrior(0.4), 0.7).target(data)
    expected = br.Moments.from_data(data).Sxx / 0.7**2 + np.eye(3) / 0.4**2
    np.testing.assert_allclose(target.curvature(target.start())[:3, :3], expected, rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_density_keeps_its_digits_where_the_fit_is_nearly_perfect(offset):
    random = np.random.default_rng(0)
    features = random.standard_normal((50, 3)) + offset
    weights = np.array([1.0, -2.0, 3.0])
    data = br.RegressionData(features, (features - offset) @ weights + 1e-6 * random.standard_normal(50))
    target = br.LinearRegression(br.GaussianPrior(1.0), 1e-6).target(data)
    point = target.unconstrain(
        {"weights": torch.tensor(weights), "intercept": torch.tensor(-offset * weights.sum(), dtype=torch.float64)}
    )
    centred = features - features.mean(0)
    residual = data.target - data.target.mean() - centred @ weights
    deviation = float(point[3])
    expected = (
        -50 * np.log(1e-6) - 25 * np.log(2 * np.pi) - (residual @ residual + 50 * deviation**2) / 2e-12
        - weights @ weights / 2 - 1.5 * np.log(2 * np.pi)
    )  # fmt: skip
    assert float(target.log_density(point)) == pytest.approx(expected, rel=1e-6)


def test_start_is_where_the_posterior_is():
    data = br.load_diabetes().standardized()
    for prior in (br.GaussianPrior(0.5), br.LaplacePrior(0.25), br.LaplacePrior(dist.HalfNormal(1.0))):
        target = br.LinearRegression(prior, dist.HalfNormal(1.0)).target(data)
        start = target.start()
        step = torch.linalg.solve(target.curvature(start), target.log_density_and_gradient(start[None])[1][0])
        lengths = torch.linalg.inv(target.curvature(start)).diagonal().sqrt()
        assert float((step / lengths).abs().max()) < 4.0


def test_start_of_a_bounded_scale_is_inside_its_support():
    target = br.LinearRegression(br.GaussianPrior(0.5), dist.Uniform(0.70, 0.71)).target(
        br.load_diabetes().standardized()
    )
    assert abs(float(target.start()[-1])) < 20.0  # beyond, the coordinate is at the bound to float64's last digit
    assert 0.70 < float(target.constrain(target.start())["noise_scale"]) < 0.71


def test_short_rank_under_a_flat_prior_is_refused():
    features = np.random.default_rng(0).standard_normal((10, 2))
    data = br.RegressionData(np.c_[features, features[:, 0] - features[:, 1]], np.arange(10.0))
    with pytest.raises(ValueError, match="rank 2 and 3 features"):
        br.LinearRegression(br.FlatPrior(), 1.0).target(data)


def test_scale_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 entries, but the data have 3 features"):
        br.LinearRegression(br.GaussianPrior([1.0, 2.0])).target(small_data())
