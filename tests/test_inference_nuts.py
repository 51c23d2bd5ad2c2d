"""NUTS in one batch: right draws from known targets, a warm-up that ends and adapts, and honest statistics."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_matches
from gaussian_target import GaussianTarget
from oracles import laplace_gibbs
from scipy import stats

import bayesreg as br
from bayesreg.inference import exact, nuts
from bayesreg.inference.whitening import inverse_root

ON = {"dtype": torch.float64, "device": torch.device("cpu")}


def small_data(rows=25):
    """Two features, off centre, and an intercept near 2."""
    random = np.random.default_rng(1)
    features = random.standard_normal((rows, 2)) + 1.0
    return br.RegressionData(features, features @ [1.0, -0.5] + 2.0 + 0.7 * random.standard_normal(rows))


class Stiff:
    """exp(-x^4), one-dimensional: light tails, in which a coarse step overshoots. |x|^4 is a gamma variable."""

    num_parameters, dtype, device = 1, *ON.values()

    def log_density_and_gradient(self, points):
        return -(points[..., 0] ** 4), -4.0 * points**3

    def starts(self):
        return torch.tensor([[0.5]], **ON)

    def curvature(self, point):
        return torch.tensor([[4.0]], **ON)

    def constrain(self, points):
        return {"x": points[..., 0]}


class WronglyScaled(GaussianTarget):
    """Says that all scales are alike, where they differ by 170."""

    def curvature(self, point):
        return torch.eye(4, dtype=self.dtype, device=self.device)


@pytest.fixture(scope="module")
def gaussian():
    target = GaussianTarget()
    return target, nuts.run(target, draws=100, tune=200, chains=32, seed=1)


def test_the_draws_have_the_right_mean_and_sd(gaussian):
    target, result = gaussian
    assert_matches(target.unconstrain(result.draws), target.mean, target.sd)


def test_the_draws_have_the_right_correlations(gaussian):
    target, result = gaussian
    root = torch.linalg.cholesky(target.covariance)
    whitened = (target.unconstrain(result.draws) - target.mean) @ torch.linalg.inv(root).T
    pairs = torch.stack([whitened[..., i] * whitened[..., j] for i in range(4) for j in range(i)], dim=-1)
    assert_matches(pairs, 0.0, 1.0)


def test_lp_is_the_density_of_its_draw(gaussian):
    target, result = gaussian
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-12, atol=1e-10)


def test_the_energy_has_the_right_mean_and_variance(gaussian):
    """H - H_min is the sum of p squared standard normals, halved, for the position, and as many for the momentum."""
    target, result = gaussian
    p = target.num_parameters
    lowest = -float(target.log_density(target.mean))
    kinetic = result.sample_stats["energy"] + result.sample_stats["lp"]
    assert bool((kinetic > 0).all())
    assert_matches(kinetic, p / 2, math.sqrt(p / 2))
    assert_matches(result.sample_stats["energy"], lowest + p, math.sqrt(p))


def test_a_statistic_a_draw(gaussian):
    _, result = gaussian
    dtypes = {name: values.dtype for name, values in result.sample_stats.items()}
    assert dtypes == {
        "lp": torch.float64,
        "energy": torch.float64,
        "tree_depth": torch.int64,
        "n_steps": torch.int64,
        "acceptance_rate": torch.float64,
        "diverging": torch.bool,
        "step_size": torch.float64,
    }
    assert {values.shape for values in result.sample_stats.values()} == {(32, 100)}
    assert not any(values.requires_grad for values in [*result.draws.values(), *result.sample_stats.values()])
    acceptance = result.sample_stats["acceptance_rate"]
    assert 0.7 < float(acceptance.mean()) < 0.95
    assert float(acceptance.min()) >= 0 and float(acceptance.max()) <= 1
    assert bool((result.sample_stats["step_size"] == result.details["step_size"]).all())
    assert not bool(result.sample_stats["diverging"].any())


def test_the_tree_has_as_many_leaves_as_its_depth_allows(gaussian):
    """D completed doublings are 2^D - 1 leaves; one more that stopped half-way adds 1 to 2^D."""
    _, result = gaussian
    depth, steps = result.sample_stats["tree_depth"], result.sample_stats["n_steps"]
    assert bool((steps >= 2**depth - 1).all() and (steps <= 2 ** (depth + 1) - 1).all())
    assert depth.unique().numel() > 1


def test_the_largest_depth_is_kept():
    sample_stats = nuts.run(GaussianTarget(), draws=10, tune=20, chains=5, seed=0, max_tree_depth=1).sample_stats
    assert bool((sample_stats["tree_depth"] <= 1).all()) and bool((sample_stats["n_steps"] == 1).all())


@pytest.mark.parametrize("target_acceptance", [0.6, 0.95])
def test_quantiles_of_a_stiff_density_are_exact(target_acceptance):
    result = nuts.run(Stiff(), draws=40, tune=40, chains=400, seed=3, target_acceptance=target_acceptance)
    assert float(result.sample_stats["acceptance_rate"].mean()) == pytest.approx(target_acceptance, abs=0.06)
    x = result.draws["x"]
    for quantile in (0.01, 0.1, 0.5, 0.9, 0.99):
        magnitude = stats.gamma(0.25).ppf(abs(2.0 * quantile - 1.0)) ** 0.25
        below = (x <= math.copysign(magnitude, quantile - 0.5)).double()
        assert_matches(below, quantile, math.sqrt(quantile * (1 - quantile)))


def test_a_laplace_prior_against_gibbs():
    random = np.random.default_rng(0)
    features = random.standard_normal((12, 3))
    data = br.RegressionData(features, features @ [1.0, 0.0, 0.0] + 0.8 * random.standard_normal(12) + 3.0)
    reference = laplace_gibbs(data.features, data.target, noise_scale=0.8, prior_scale=0.2, draws=8000, seed=1)
    target = br.LinearRegression(br.LaplacePrior(0.2), 0.8).target(data)
    draws = nuts.run(target, draws=60, tune=100, chains=100, seed=0).draws["weights"]
    # The reference has an error too: of 8,000 scans, a fifth at least counts.
    assert_matches(draws, reference.mean(0), reference.std(0), allowed_bias=4 / math.sqrt(8000 / 5))
    quantiles = np.quantile(reference, [0.05, 0.5, 0.95], axis=0)
    for level, values in zip((0.05, 0.5, 0.95), quantiles, strict=True):
        below = (draws <= torch.tensor(values, **ON)).double()
        assert_matches(below, level, math.sqrt(level * (1 - level)), allowed_bias=0.08)


def test_learned_scales_against_the_exact_engine():
    target = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0)).target(small_data())
    independent = exact.run(target, draws=20_000, tune=0, chains=1, seed=0).draws
    found = nuts.run(target, draws=50, tune=200, chains=100, seed=0).draws
    for name in ("weights", "intercept", "noise_scale", "prior_scale"):
        exactly, drawn = (values[name].log() if "scale" in name else values[name] for values in (independent, found))
        mean, sd = exactly[0].mean(0), exactly[0].std(0)
        assert_matches(drawn, mean, sd, allowed_bias=4 / math.sqrt(20_000))


def test_the_law_of_a_chain_does_not_depend_on_how_many_there_are():
    target = GaussianTarget()
    for chains, draws in ((1, 900), (3, 300), (1500, 3)):  # the last one in several blocks
        result = nuts.run(target, draws=draws, tune=100, chains=chains, seed=2)
        points = target.unconstrain(result.draws)
        if draws < 10:  # too short for an ESS: one draw of each chain
            points = points[:, -1:].transpose(0, 1)
        assert_matches(points, target.mean, target.sd, minimum_ess=150)


def test_warm_up_ends_when_it_is_done_and_not_before():
    many = nuts.run(GaussianTarget(), draws=1, tune=1000, chains=200, seed=0).details
    assert many["settled"] and 15 <= many["tune"] <= 60
    cut_short = nuts.run(GaussianTarget(), draws=1, tune=7, chains=200, seed=0).details
    assert not cut_short["settled"] and cut_short["tune"] == 7
    none = nuts.run(GaussianTarget(), draws=1, tune=0, chains=2, seed=0).details
    assert none["tune"] == 0 and none["warmup_steps"] == 0 and none["step_size"] > 0

    class TwoHills(GaussianTarget):
        """Two Gaussians, 20 standard deviations apart: chains stay where they started, and never meet."""

        def log_density_and_gradient(self, points):
            far = 10.0 * self.sd
            upper = points[..., :1] > self.mean[:1]
            density, gradient = super().log_density_and_gradient(points - torch.where(upper, far, -far))
            return density, gradient

        def curvature(self, point):
            return 0.005 * self.precision

    apart = nuts.run(TwoHills(), draws=1, tune=60, chains=20, seed=0).details
    assert not apart["settled"] and apart["tune"] == 60


def test_the_metric_is_refined_where_it_is_wrong_and_only_there():
    wrong = nuts.run(WronglyScaled(), draws=50, tune=400, chains=40, seed=0)
    right = nuts.run(GaussianTarget(), draws=50, tune=400, chains=40, seed=0)
    assert wrong.details["metric"] == "pooled covariance" and wrong.details["settled"]
    steps = [float(one.sample_stats["n_steps"].double().mean()) for one in (wrong, right)]
    assert steps[0] < 1.3 * steps[1]  # 200 steps a draw without
    target = WronglyScaled()
    assert_matches(target.unconstrain(wrong.draws), target.mean, target.sd)

    class Known(GaussianTarget):
        def curvature(self, point):
            return self.precision

    assert nuts.run(Known(), draws=1, tune=400, chains=20, seed=0).details["metric"] == "known curvature"


def test_the_refined_root_is_one_of_the_covariance_of_the_draws():
    """From a root that is far from symmetric: sides that are exchanged would show."""
    target = GaussianTarget()
    root = inverse_root(target.curvature(target.start())) @ torch.diag(torch.tensor([1.0, 9.0, 1.0, 0.1], **ON))
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(30, 400, 4, generator=generator, **ON)
    draws = target.mean + normals @ torch.linalg.cholesky(target.covariance).T
    states = nuts._starting_states(target, target.mean.unsqueeze(0), root, 400, generator)
    stage = nuts._Stage(nuts._Sampler(target, generator, 10), states, root, 0.8)
    moved = nuts.Transition(*(torch.ones(400, **ON) for _ in range(5)))
    for points in draws:
        stage.record(nuts.States(points, *target.log_density_and_gradient(points)), moved)
    found = stage.better_root()
    recent = draws[-10:].flatten(0, 1)  # 4,000 draws, and 4 more with the covariance that the old root stands for
    expected = (4000 * torch.cov(recent.T, correction=0) + 4 * root @ root.T) / 4004
    torch.testing.assert_close(found @ found.T, expected, rtol=1e-9, atol=1e-12)


def test_a_metric_that_does_not_help_is_given_back(monkeypatch):
    """A refinement that makes trajectories longer, planted."""
    worse = torch.diag(torch.tensor([1.0, 1.0, 1.0, 30.0], **ON))
    monkeypatch.setattr(nuts._Stage, "better_root", lambda stage: stage.root @ worse)
    result = nuts.run(GaussianTarget(), draws=50, tune=400, chains=20, seed=0)
    assert result.details["metric"] == "known curvature" and result.details["settled"]
    assert float(result.sample_stats["n_steps"].double().mean()) < 10


def test_divergences_are_flagged():
    class Cliff(GaussianTarget):
        """Nothing beyond one standard deviation above the mean of the first weight."""

        def log_density_and_gradient(self, points):
            density, gradient = super().log_density_and_gradient(points)
            return torch.where(points[..., 0] < self.mean[0] + self.sd[0], density, -math.inf), gradient

        def start(self):
            return self.mean - self.sd

    result = nuts.run(Cliff(), draws=50, tune=50, chains=20, seed=0)
    diverging = result.sample_stats["diverging"]
    assert 0 < int(diverging.sum()) < 1000
    assert result.message.endswith(f"{int(diverging.sum())} divergent")
    assert bool(result.sample_stats["energy"].isfinite().all())
    assert float(result.draws["weights"][..., 0].max()) < 1.2
    assert bool((result.sample_stats["acceptance_rate"][diverging] < 1).all())


def test_starting_points_are_spread_and_fall_back_where_the_density_ends():
    target = GaussianTarget()
    origin, root = target.start(), inverse_root(target.curvature(target.start()))
    generator = torch.Generator().manual_seed(0)
    states = nuts._starting_states(target, target.starts(), root, 2000, generator)

    def whitened(points):
        return torch.linalg.solve_triangular(root, (points - origin).T, upper=True).T

    assert whitened(states.points).std(0).tolist() == pytest.approx([2.0] * 4, rel=0.08)
    density, gradients = target.log_density_and_gradient(states.points)
    assert torch.equal(states.log_density, density) and torch.equal(states.gradients, gradients)

    class Ball(GaussianTarget):
        def log_density_and_gradient(self, points):
            density, gradient = super().log_density_and_gradient(points)
            inside = whitened(points.reshape(-1, 4)).norm(dim=1).reshape(density.shape) < 1.5
            return torch.where(inside, density, math.nan), gradient

    starts = whitened(nuts._starting_states(Ball(), origin.unsqueeze(0), root, 300, generator).points).norm(dim=1)
    assert float(starts.max()) < 1.5 and float(starts.min()) > 0


def test_the_same_seed_gives_the_same_draws_on_any_number_of_threads():
    features = np.random.default_rng(0).standard_normal((400, 300))
    data = br.RegressionData(features, features[:, 0])
    target = br.LinearRegression(br.LaplacePrior(1.0), 1.0).target(data)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(nuts.run(target, draws=4, tune=5, chains=40, seed=0).draws["weights"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
    other = nuts.run(target, draws=4, tune=5, chains=40, seed=1).draws["weights"]
    assert not torch.equal(other, results[0])


def test_no_two_chains_are_alike_in_whatever_block():
    points = nuts.run(GaussianTarget(), draws=70, tune=5, chains=1100, seed=0).draws["weights"]
    assert points.shape == (1100, 70, 3)  # more than one block of chains, more than one of draws
    assert len(points[:, -1].unique(dim=0)) == 1100
    assert bool((points[:, 1:] != points[:, :-1]).any(-1).double().mean() > 0.9)


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("prior", [br.LaplacePrior(0.3), br.GaussianPrior(dist.HalfNormal(1.0))])
def test_a_real_target_on_each_device(device, prior, no_synchronisation):
    target = br.LinearRegression(prior, dist.HalfNormal(1.0)).target(small_data(), device)
    with no_synchronisation(at_most=(10 + 15) * 5):  # once a doubling: there are up to 31 steps in 5
        result = nuts.run(target, draws=15, tune=10, chains=2, seed=0, max_tree_depth=5)
    tensors = [*result.draws.values(), *result.sample_stats.values()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}  # they stream to the host
    assert all(tensor.dtype == torch.float64 for tensor in result.draws.values())
    assert result.draws["weights"].shape == (2, 15, 2) and result.draws["noise_scale"].shape == (2, 15)


def test_nothing_global_changes():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    nuts.run(GaussianTarget(), draws=3, tune=3, chains=2, seed=0)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_what_was_done_is_reported(gaussian):
    _, result = gaussian
    details = result.details
    assert details["target_acceptance"] == 0.9 and details["max_tree_depth"] == 10
    assert details["sampling_steps"] == int(result.sample_stats["n_steps"].sum())
    assert (
        details["warmup_steps"] >= 32 * details["tune"]
        and min(details["warmup_seconds"], details["sampling_seconds"]) > 0
    )
    assert result.message == f"NUTS: 32 chains of 100 draws after {details['tune']} warm-up iterations, 0 divergent"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_tree_depth", 0),
        ("max_tree_depth", 2.5),
        ("max_tree_depth", True),
        ("target_acceptance", 1.0),
        ("target_acceptance", 0),
    ],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises((TypeError, ValueError), match=rf"{option} must be .*got {value}"):
        nuts.run(GaussianTarget(), draws=3, tune=3, chains=1, seed=0, **{option: value})


def test_numbers_of_numpy_are_taken_and_reported_as_pythons():
    options = {"max_tree_depth": np.int64(3), "target_acceptance": np.float32(0.75)}
    details = nuts.run(GaussianTarget(), draws=3, tune=3, chains=2, seed=0, **options).details
    assert {name: details[name] for name in options} == {"max_tree_depth": 3, "target_acceptance": 0.75}
    assert {type(details[name]) for name in options} == {int, float}


def test_a_learned_prior_scale_brings_no_divergence():
    """A benign problem, on which a step for an acceptance of 0.8 diverges in most runs."""
    random = np.random.default_rng(0)
    features = random.standard_normal((40, 3))
    data = br.RegressionData(features, features @ [1.0, -0.5, 0.0] + 0.5 * random.standard_normal(40))
    model = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0))
    diverging = [
        nuts.run(model.target(data), draws=250, tune=100, chains=64, seed=seed).sample_stats["diverging"]
        for seed in range(2)
    ]
    assert not bool(torch.stack(diverging).any())
