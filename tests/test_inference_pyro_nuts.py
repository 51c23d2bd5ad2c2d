"""Pyro's NUTS: right draws from a known Gaussian, and statistics that are what they say."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_chains_stand_alone, assert_matches
from gaussian_target import GaussianTarget

import bayesreg as br
from bayesreg.computing.isolation import isolated
from bayesreg.inference import pyro_nuts
from bayesreg.inference.pyro_nuts import _RecordingNUTS, _starting_point
from bayesreg.inference.whitening import inverse_root


def small_data():
    """Two features, off centre, and an intercept near 2."""
    random = np.random.default_rng(1)
    features = random.standard_normal((25, 2)) + 1.0
    return br.RegressionData(features, features @ [1.0, -0.5] + 2.0 + 0.7 * random.standard_normal(25))


@pytest.fixture(scope="module")
def gaussian():
    target = GaussianTarget()
    return target, pyro_nuts.run(target, draws=700, tune=80, chains=2, seed=1)


def test_the_draws_have_the_right_mean_and_sd(gaussian):
    target, result = gaussian
    assert_matches(target.unconstrain(result.draws), target.mean, target.sd)


def test_the_draws_have_the_right_correlations(gaussian):
    target, result = gaussian
    whitened = (target.unconstrain(result.draws) - target.mean) @ torch.linalg.inv(
        torch.linalg.cholesky(target.covariance)
    ).T
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
    assert {values.shape for values in result.sample_stats.values()} == {(2, 700)}
    assert not any(values.requires_grad for values in [*result.draws.values(), *result.sample_stats.values()])
    acceptance = result.sample_stats["acceptance_rate"]
    assert 0.7 < float(acceptance.mean()) < 0.98  # adapted to 0.8, which whole trees overshoot
    assert float(acceptance.min()) >= 0 and float(acceptance.max()) <= 1
    for chain, step_size in enumerate(result.details["step_size"]):
        assert bool((result.sample_stats["step_size"][chain] == step_size).all())


def test_the_tree_has_as_many_leaves_as_its_depth_allows(gaussian):
    """D completed doublings are 2^D - 1 leaves; one more that stopped half-way adds 1 to 2^D."""
    _, result = gaussian
    depth, steps = result.sample_stats["tree_depth"], result.sample_stats["n_steps"]
    assert bool((steps >= 2**depth - 1).all() and (steps <= 2 ** (depth + 1) - 1).all())
    assert depth.unique().numel() > 1


def test_the_largest_depth_is_kept():
    stats = pyro_nuts.run(GaussianTarget(), draws=60, tune=40, chains=1, seed=0, max_tree_depth=1).sample_stats
    assert bool((stats["tree_depth"] <= 1).all()) and bool((stats["n_steps"] == 1).all())


def test_the_steps_add_up_to_the_gradients_computed():
    """Two runs of the same chain, one longer: what the longer computes on top is its further draws' steps."""
    counts, results = [], []
    for draws in (20, 60):
        target = GaussianTarget()
        results.append(pyro_nuts.run(target, draws=draws, tune=30, chains=1, seed=4))
        counts.append(target.calls)
    short, long = (result.sample_stats["n_steps"] for result in results)
    assert torch.equal(long[:, :20], short)
    assert counts[1] - counts[0] == int(long[:, 20:].sum())
    assert results[1].details["sampling_steps"] == [int(long.sum())]
    assert 0 < counts[1] - int(long.sum()) - results[1].details["warmup_steps"][0] < 100  # the search for a first step


def test_the_acceptance_rate_and_the_energy_are_pyros(monkeypatch):
    """Pyro keeps a running mean of the acceptance; the energy differs from the start's by the integrator's error."""
    kernel = _RecordingNUTS(
        potential_fn=lambda sites: 0.5 * sites["z"].dot(sites["z"]), step_size=0.5, adapt_step_size=False,
        adapt_mass_matrix=False,
    )  # fmt: skip
    with isolated(0):
        kernel.initial_params = {"z": torch.ones(3, dtype=torch.float64)}
        kernel.setup(0)
        position, rates = kernel.initial_params, []
        for _ in range(50):
            position = kernel.sample(position)
            rates.append(float(kernel.transition["acceptance_rate"]))
            assert float(kernel.transition["lp"]) == pytest.approx(-0.5 * float(position["z"].dot(position["z"])))
            assert abs(float(kernel.transition["energy"] - kernel._initial_energy)) < 0.5
    assert np.mean(rates) == pytest.approx(kernel._mean_accept_prob, rel=1e-12)


def test_divergences_are_flagged_where_pyro_counts_them():
    stiff = torch.tensor([1.0, 1e4], dtype=torch.float64)
    kernel = _RecordingNUTS(
        potential_fn=lambda sites: 0.5 * (stiff * sites["z"] ** 2).sum(), step_size=0.03, adapt_step_size=False,
        adapt_mass_matrix=False, max_tree_depth=4,
    )  # fmt: skip
    with isolated(0):
        kernel.initial_params = {"z": torch.tensor([1.0, 1e-2], dtype=torch.float64)}
        kernel.setup(0)
        position, flags = kernel.initial_params, []
        for _ in range(40):
            position = kernel.sample(position)
            flags.append(bool(kernel.transition["diverging"]))
            assert math.isfinite(float(kernel.transition["energy"]))
    assert sum(flags) > 0
    assert np.flatnonzero(flags).tolist() == kernel._divergences


def test_a_chain_does_not_depend_on_the_others():
    settings = {"draws": 30, "tune": 20}
    one = pyro_nuts.run(GaussianTarget(), chains=1, seed=0, **settings)
    three = pyro_nuts.run(GaussianTarget(), chains=3, seed=0, **settings)
    other = pyro_nuts.run(GaussianTarget(), chains=1, seed=1, **settings)
    assert_chains_stand_alone(one.draws, three.draws, other.draws)


def test_the_number_of_threads_does_not_matter():
    features = np.random.default_rng(0).standard_normal((400, 300))
    data = br.RegressionData(features, features[:, 0])
    target = br.LinearRegression(br.GaussianPrior(1.0), 1.0).target(data)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(pyro_nuts.run(target, draws=10, tune=5, chains=1, seed=0).draws["weights"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_starting_points_are_spread_and_fall_back_where_the_density_ends():
    target = GaussianTarget()
    origin, root = target.start(), inverse_root(target.curvature(target.start()))
    with isolated(0):
        starts = torch.stack([_starting_point(target, origin, root, origin) for _ in range(500)])
    assert starts.std(0).tolist() == pytest.approx([2.0] * 4, rel=0.15)

    class Ball(GaussianTarget):
        def log_density_and_gradient(self, points):
            density, gradient = super().log_density_and_gradient(points)
            inside = torch.linalg.solve_triangular(root, (points - origin).T, upper=True).norm(dim=0) < 1.5
            return torch.where(inside, density, math.nan), gradient

    with isolated(0):
        starts = torch.stack([_starting_point(Ball(), origin, root, origin) for _ in range(100)])
    assert float(starts.norm(dim=1).max()) < 1.5
    assert bool((starts.norm(dim=1) > 0).all())


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("prior", [br.LaplacePrior(0.3), br.GaussianPrior(dist.HalfNormal(1.0))])
def test_a_real_target_on_each_device(device, prior, no_synchronisation):
    target = br.LinearRegression(prior, dist.HalfNormal(1.0)).target(small_data(), device)
    with no_synchronisation(at_most=2):
        result = pyro_nuts.run(target, draws=15, tune=10, chains=2, seed=0)
    tensors = [*result.draws.values(), *result.sample_stats.values()]
    assert {tensor.device.type for tensor in tensors} == {device.type}
    assert all(tensor.dtype == torch.float64 for tensor in result.draws.values())


@pytest.mark.parametrize(
    "model",
    [
        br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0)),
        br.LinearRegression(br.GaussianPrior(dist.Gamma(2.0, 2.0), relative_to_noise=True), dist.LogNormal(0.0, 1.0)),
        br.LinearRegression(br.GaussianPrior(0.5), 0.7, intercept=False),
    ],
)
def test_on_the_pyro_program_itself(model):
    """The program moves in coordinates of its own, and yet its lp is the fused density of the draw."""
    data = small_data()
    target = model.target(data)
    result = pyro_nuts.run(target, draws=10, tune=10, chains=2, seed=0, program=lambda: model.pyro_model(data))
    assert set(result.draws) == set(target.names)
    assert result.draws["weights"].shape == (2, 10, 2)
    assert all(values.shape == (2, 10) for name, values in result.draws.items() if name != "weights")
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-9, atol=1e-9)
    assert float(result.draws["weights"].std()) > 0
    if "intercept" in result.draws:
        assert bool((result.draws["intercept"] - 2.0).abs().max() < 2.0)


def test_the_program_and_the_fused_density_agree_with_a_gaussian_posterior():
    model = br.LinearRegression(br.GaussianPrior(0.5), 0.7)
    data = small_data()
    target = model.target(data)
    precision = target.curvature(target.start())  # the posterior is Gaussian: this is exact, and so is the mean
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    fused = pyro_nuts.run(target, draws=500, tune=60, chains=2, seed=0)
    program = pyro_nuts.run(target, draws=110, tune=60, chains=2, seed=0, program=lambda: model.pyro_model(data))
    assert_matches(target.unconstrain(fused.draws), target.start(), sd, minimum_ess=250)
    assert_matches(target.unconstrain(program.draws), target.start(), sd, minimum_ess=100)
    assert (fused.details["density"], program.details["density"]) == ("fused", "Pyro program")


def test_what_was_done_is_reported(gaussian):
    _, result = gaussian
    details = result.details
    assert details["tune"] == 80 and details["target_acceptance"] == 0.8 and details["max_tree_depth"] == 10
    for name in ("warmup_seconds", "sampling_seconds", "warmup_steps", "sampling_steps", "step_size"):
        assert len(details[name]) == 2 and min(details[name]) > 0
    assert result.message == "NUTS: 2 chains of 700 draws after 80 warm-up iterations, 0 divergent"


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_tree_depth", 0), ("max_tree_depth", 2.5), ("target_acceptance", 1.0), ("target_acceptance", 0)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises((TypeError, ValueError), match=rf"{option} must be .*got {value}"):
        pyro_nuts.run(GaussianTarget(), draws=3, tune=3, chains=1, seed=0, **{option: value})


def test_numbers_of_numpy_are_taken_and_reported_as_pythons():
    options = {"max_tree_depth": np.int64(3), "target_acceptance": np.float32(0.75)}
    details = pyro_nuts.run(GaussianTarget(), draws=3, tune=3, chains=1, seed=0, **options).details
    assert {type(details[name]) for name in options} == {int, float}
