"""The many-chain engine: right draws whatever it is told, and a warm-up that finds metric and kicks by itself."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_matches
from gaussian_target import GaussianTarget
from oracles import laplace_gibbs

import bayesreg as br
from bayesreg.inference import exact, hmc
from bayesreg.inference.hmc import _angles, _shrunk_covariance, _starting_state, _steps_for
from bayesreg.inference.rotation import Block, Coordinates
from bayesreg.inference.whitening import inverse_root

LEARNED = dist.HalfNormal(1.0)


def small_data(n=25, d=2):
    """Features off centre, and an intercept near 2."""
    random = np.random.default_rng(1)
    features = random.standard_normal((n, d)) + 1.0
    weights = np.resize([1.0, -0.5, 0.0], d)
    return br.RegressionData(features, features @ weights + 2.0 + 0.7 * random.standard_normal(n))


class Misled(GaussianTarget):
    """Its gradient is wrong by a factor: as long as it is a function of the point, the law must not notice."""

    def log_density_and_gradient(self, points):
        density, gradient = super().log_density_and_gradient(points)
        return density, 0.75 * gradient


class Walled(GaussianTarget):
    """The Gaussian cut off at its mean in the third coordinate: not a number beyond."""

    def log_density_and_gradient(self, points):
        density, gradient = super().log_density_and_gradient(points)
        return torch.where(points[..., 2] > self.mean[2], density, math.nan), gradient


@pytest.fixture(scope="module")
def gaussian():
    target = GaussianTarget()
    return target, hmc.run(target, draws=150, tune=100, chains=64, seed=1)


def test_the_draws_have_the_right_mean_sd_and_correlations(gaussian):
    target, result = gaussian
    points = target.unconstrain(result.draws)
    assert_matches(points, target.mean, target.sd, minimum_ess=4000)
    whitened = (points - target.mean) @ torch.linalg.inv(torch.linalg.cholesky(target.covariance)).T
    pairs = torch.stack([whitened[..., i] * whitened[..., j] for i in range(4) for j in range(i)], dim=-1)
    assert_matches(pairs, 0.0, 1.0)


def test_the_warm_up_learns_what_it_was_told_wrong(gaussian):
    _, result = gaussian
    details = result.details
    assert details["metric"] == "pooled covariance" and details["settled"]
    assert details["steps"] == 1 and 10 <= details["tune"] <= 40
    assert float(result.sample_stats["acceptance_rate"].mean()) > 0.93


def test_lp_is_the_density_of_its_draw(gaussian):
    target, result = gaussian
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("target_type", [GaussianTarget, Misled])
def test_the_energy_has_the_right_mean_and_variance(target_type):
    """H - H_min is the sum of p squared standard normals, halved, for the position, and as many for the momentum."""
    target = target_type()
    stats = hmc.run(target, draws=150, tune=100, chains=64, seed=2).sample_stats
    p = target.num_parameters
    kinetic = stats["energy"] + stats["lp"]
    assert bool((kinetic > 0).all())
    assert_matches(kinetic, p / 2, math.sqrt(p / 2))
    assert_matches(stats["energy"], p - float(target.log_density(target.mean)), math.sqrt(p))


def test_a_statistic_a_draw(gaussian):
    _, result = gaussian
    assert {name: values.dtype for name, values in result.sample_stats.items()} == {
        "lp": torch.float64,
        "energy": torch.float64,
        "n_steps": torch.int64,
        "acceptance_rate": torch.float64,
        "diverging": torch.bool,
        "step_size": torch.float64,
    }
    assert {values.shape for values in result.sample_stats.values()} == {(64, 150)}
    assert not any(values.requires_grad for values in [*result.draws.values(), *result.sample_stats.values()])
    stats = result.sample_stats
    assert bool((stats["n_steps"] == result.details["steps"]).all()) and not bool(stats["diverging"].any())
    angles = stats["step_size"] * stats["n_steps"]
    assert torch.equal(angles, angles[:1].expand_as(angles))
    assert float(angles.mean()) == pytest.approx(math.pi / 2, rel=0.01)
    assert float(angles.min()) < 1.3 and float(angles.max()) > 1.85
    assert float(stats["acceptance_rate"].min()) >= 0 and float(stats["acceptance_rate"].max()) <= 1


def check_misled(chains=64, draws=100):
    """A sixth of the ends are rejected: a wrong acceptance shows."""
    target = Misled()
    result = hmc.run(target, draws=draws, tune=100, chains=chains, seed=3)
    assert_matches(target.unconstrain(result.draws), target.mean, target.sd)
    return result


@pytest.mark.parametrize(("chains", "draws"), [(4, 1500), (500, 12)])
def test_the_law_does_not_depend_on_gradient_or_number_of_chains(chains, draws):
    assert float(check_misled(chains, draws).sample_stats["acceptance_rate"].mean()) < 0.95


def test_beyond_a_wall_nothing_is_accepted_and_it_counts_as_divergent(monkeypatch):
    monkeypatch.setitem(hmc._BLOCK_NUMBERS, "cpu", 10 * 64 * 4)  # blocks of 10 draws: the next goes on where one ends
    target = Walled()
    result = hmc.run(target, draws=300, tune=15, chains=64, seed=0, target_acceptance=0.3)
    points = target.unconstrain(result.draws)
    assert float(points[..., 2].min()) > float(target.mean[2])
    stats = result.sample_stats
    assert bool(stats["energy"].isfinite().all()) and bool(stats["lp"].isfinite().all())
    diverging = stats["diverging"]
    assert 0.02 < float(diverging.double().mean()) < 0.9
    assert bool((stats["acceptance_rate"][diverging] == 0).all())
    moved = (points[:, 1:] != points[:, :-1]).any(-1)
    assert not bool((moved & diverging[:, 1:]).any())
    # |z| for a standard normal z: the moments of the half that is left.
    distance = (points[..., 2] - target.mean[2]) / target.sd[2]
    assert_matches(distance, math.sqrt(2 / math.pi), math.sqrt(1 - 2 / math.pi))


def test_a_laplace_posterior_agrees_with_gibbs():
    """A prior that pulls hard: the kinks are met all the time, and the covariance is not the curvature."""
    data = small_data(n=30, d=3)
    gibbs = laplace_gibbs(data.features, data.target, 0.7, 0.08, draws=20_000, seed=0)
    target = br.LinearRegression(br.LaplacePrior(0.08), 0.7).target(data)
    result = hmc.run(target, draws=100, tune=100, chains=64, seed=0)
    assert result.details["steps"] > 1
    # The oracle's own error: 20,000 scans against some 2,000 draws.
    assert_matches(result.draws["weights"], gibbs.mean(0), gibbs.std(0), allowed_bias=0.02)


@pytest.fixture(scope="module")
def check_against_exact():
    """Noise and prior scale learned from 30 rows: skewed, and each wants its Jacobian."""
    target = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), LEARNED).target(small_data(n=30, d=6))
    reference = exact.run(target, draws=50_000, tune=0, chains=4, seed=9).draws

    def check():
        draws = hmc.run(target, draws=200, tune=100, chains=64, seed=0).draws
        for name, values in reference.items():
            values, found = (v.log() if name.endswith("scale") else v for v in (values, draws[name]))
            assert_matches(found, values.mean((0, 1)), values.std((0, 1)), allowed_bias=0.01)

    return check


def test_learned_scales_agree_with_exact(check_against_exact):
    check_against_exact()


def nearly_always_accepted(monkeypatch):
    """The logarithms of uniform numbers, ten times too low."""
    logarithm = torch.Tensor.log_
    monkeypatch.setattr(torch.Tensor, "log_", lambda values: logarithm(values).mul_(10.0))


def no_jacobian(monkeypatch):
    from bayesreg.target import Target

    honest = Target.log_density_and_gradient

    def slipped(self, points):
        density, gradient = honest(self, points)
        noise = list(self.names).index("noise_scale") - len(self.names)
        gradient = gradient.clone()
        gradient[..., noise] -= 1.0
        return density - points[..., noise], gradient

    monkeypatch.setattr(Target, "log_density_and_gradient", slipped)


def test_a_wrong_acceptance_is_caught(monkeypatch):
    nearly_always_accepted(monkeypatch)
    with pytest.raises(AssertionError, match="mean|sd"):
        check_misled()


def test_a_missing_jacobian_is_caught(check_against_exact, monkeypatch):
    no_jacobian(monkeypatch)
    with pytest.raises(AssertionError, match="mean|sd"):
        check_against_exact()


def test_where_the_prior_is_a_perturbation_one_kick_is_enough():
    features = np.random.default_rng(0).standard_normal((20_000, 30))
    data = br.RegressionData(features, features @ np.linspace(-0.5, 0.5, 30) + np.cos(np.arange(20_000)))
    target = br.LinearRegression(br.LaplacePrior(0.25), LEARNED).target(data)
    result = hmc.run(target, draws=20, tune=100, chains=128, seed=0)
    assert result.details["steps"] == 1 and result.details["tune"] <= 25
    assert float(result.sample_stats["acceptance_rate"].mean()) > 0.9
    least_squares = np.linalg.lstsq(features - features.mean(0), data.target - data.target.mean())[0]
    # The prior moves a mean by sd^2 / b, a thirtieth of an sd here.
    assert_matches(result.draws["weights"], least_squares, 2**-0.5 / math.sqrt(20_000), allowed_bias=0.05)


def test_the_gradients_counted_are_those_computed():
    target = GaussianTarget()
    details = hmc.run(target, draws=30, tune=40, chains=16, seed=0).details
    assert details["sampling_gradients"] == 30 * details["steps"]
    # One call weighs all the starting points' candidates, and counts as one gradient for each of them.
    assert target.calls == details["warmup_gradients"] - len(hmc._START_SPREADS) + 1 + details["sampling_gradients"]
    assert details["warmup_seconds"] > 0 and details["sampling_seconds"] > 0


@pytest.mark.parametrize("tune", [0, 3, 7])
def test_tune_is_a_bound(tune):
    result = hmc.run(GaussianTarget(), draws=5, tune=tune, chains=40, seed=0)
    assert result.details["tune"] == tune and not result.details["settled"]
    assert result.draws["weights"].shape == (40, 5, 3)


def test_the_seed_decides_and_blocks_lose_no_draw(monkeypatch):
    settings = {"draws": 23, "tune": 40, "chains": 10}
    first, again = (hmc.run(GaussianTarget(), seed=0, **settings) for _ in range(2))
    other = hmc.run(GaussianTarget(), seed=1, **settings)
    assert torch.equal(first.draws["weights"], again.draws["weights"])
    assert not torch.equal(first.draws["weights"], other.draws["weights"])
    assert first.draws["weights"][:, -1].unique(dim=0).shape[0] == 10
    monkeypatch.setitem(hmc._BLOCK_NUMBERS, "cpu", 7 * 40)
    target = GaussianTarget()
    split = hmc.run(target, seed=0, **settings)
    torch.testing.assert_close(split.sample_stats["lp"], target.log_density(target.unconstrain(split.draws)))
    assert torch.equal(split.sample_stats["step_size"], first.sample_stats["step_size"])


def test_the_number_of_threads_does_not_matter():
    features = np.random.default_rng(0).standard_normal((400, 300))
    data = br.RegressionData(features, features[:, 0])
    target = br.LinearRegression(br.LaplacePrior(1.0), 1.0).target(data)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(hmc.run(target, draws=5, tune=5, chains=8, seed=0).draws["weights"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_starting_points_are_spread_and_fall_back_where_the_density_ends():
    target = GaussianTarget()
    coordinates = Coordinates(target.start(), inverse_root(target.curvature(target.start())))
    state = _starting_state(target, coordinates, target.starts(), 4000, torch.Generator().manual_seed(0))
    assert state.position.std(0).tolist() == pytest.approx([2.0] * 4, rel=0.05)

    class Ball(GaussianTarget):
        def log_density_and_gradient(self, points):
            density, gradient = super().log_density_and_gradient(points)
            return torch.where(coordinates.positions(points).norm(dim=1) < 1.5, density, math.nan), gradient

    state = _starting_state(Ball(), coordinates, target.starts(), 500, torch.Generator().manual_seed(0))
    norms = state.position.norm(dim=1)
    assert float(norms.min()) > 0 and float(norms.max()) < 1.5
    assert bool(state.log_density.isfinite().all())
    density, _ = target.log_density_and_gradient(coordinates.points(state.position))
    torch.testing.assert_close(state.log_density, density)


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("prior", [br.LaplacePrior(0.3), br.GaussianPrior(dist.HalfNormal(1.0))])
def test_a_real_target_on_each_device(device, prior, no_synchronisation):
    target = br.LinearRegression(prior, LEARNED).target(small_data(), device)
    with no_synchronisation(at_most=2):  # two stages of warm-up
        result = hmc.run(target, draws=15, tune=10, chains=64, seed=0)
    assert {tensor.device.type for tensor in [*result.draws.values(), *result.sample_stats.values()]} == {device.type}
    assert all(tensor.dtype == torch.float64 for tensor in result.draws.values())
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-9, atol=1e-9)


def stage(positions, error):
    return Block(positions, torch.zeros_like(error), torch.zeros_like(error), error)


def test_what_a_stage_says():
    """Of 200 coordinates two are off; one chain accepts nothing; all remember half of where they started."""
    generator = torch.Generator().manual_seed(0)
    positions, begin = (torch.randn((*n, 50, 200), generator=generator, dtype=torch.float64) for n in ((8,), ()))
    positions = 0.5 * 2.0**0.5 * positions + 0.5 * begin
    positions[..., 7] += 1.0
    positions[..., 8] -= 1.0
    error = torch.full((8, 50), math.log(2.0), dtype=torch.float64)
    error[:, 3] = 10.0
    root = torch.diag(torch.linspace(0.5, 2.0, 200, dtype=torch.float64))
    coordinates = Coordinates(torch.full((200,), 5.0, dtype=torch.float64), root)
    evidence = hmc._judge(stage(positions, error), coordinates, coordinates.points(begin))
    acceptance, best, shrinkage, memory = evidence.numbers.tolist()
    assert acceptance == pytest.approx(0.49, abs=0.001) and best == pytest.approx(math.exp(-10.0))
    assert shrinkage > 0.5 and 0.5 < memory < 1.0
    moved = evidence.refined.centre - coordinates.centre
    assert moved[7] / root[7, 7] == pytest.approx(1.0, abs=0.2) and moved[8] / root[8, 8] == pytest.approx(
        -1.0, abs=0.2
    )
    assert int((moved != 0).sum()) < 20


@pytest.mark.parametrize(
    ("number", "value", "steps", "settled"), [(1, 1.0, 1, True), (1, 0.0, 32, True), (3, 1.0, 1, False)]
)
def test_the_warm_up_goes_on_while_chains_are_stuck_or_remember(monkeypatch, number, value, steps, settled):
    """More than 32 kicks are not made: then it goes on with those."""
    judge = hmc._judge

    def forced(*stage):
        evidence = judge(*stage)
        evidence.numbers[number] = value
        return evidence

    monkeypatch.setattr(hmc, "_judge", forced)
    details = hmc.run(GaussianTarget(), draws=3, tune=60, chains=64, seed=1).details
    assert (details["steps"], details["settled"]) == (steps, settled)
    assert (details["tune"] == 60) is not settled


def test_the_covariance_is_shrunk_by_as_much_as_is_noise():
    normals = torch.randn((400, 20), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance, weight = _shrunk_covariance(3.0 * normals, torch.tensor(400.0, dtype=torch.float64))
    assert float(weight) > 0.9
    torch.testing.assert_close(covariance, 9.0 * torch.eye(20, dtype=torch.float64), rtol=0, atol=0.5)
    wide = normals * torch.tensor([1.0] * 19 + [10.0], dtype=torch.float64)
    covariance, weight = _shrunk_covariance(wide, torch.tensor(400.0, dtype=torch.float64))
    assert float(weight) < 0.05
    assert float(covariance[-1, -1]) == pytest.approx(100.0, rel=0.2)


def test_points_that_are_all_the_same_leave_the_covariance_alone():
    points = torch.ones((5, 3), dtype=torch.float64)
    for worth in (0.0, 5.0):
        covariance, weight = _shrunk_covariance(points, torch.tensor(worth, dtype=torch.float64))
        assert torch.equal(covariance, torch.eye(3, dtype=torch.float64)) and float(weight) == 1.0


@pytest.mark.parametrize("chains", [1, 2])
def test_a_stage_cut_short_moves_the_chains_and_teaches_nothing(chains):
    """The last stage has one iteration: its mean is no centre, its covariance no metric, its acceptance no rate."""
    model = br.LinearRegression(br.LaplacePrior(0.5), LEARNED)
    target = model.target(small_data(n=40, d=3))
    stage = 320 // chains
    for seed in range(3):
        whole, more = (
            hmc.run(target, draws=50, tune=tune, chains=chains, seed=seed, target_acceptance=np.float32(0.75))
            for tune in (stage, stage + 1)
        )
        learned = [(result.details["steps"], result.details["metric"]) for result in (whole, more)]
        assert learned[0] == learned[1] and not more.details["settled"]
        assert type(more.details["target_acceptance"]) is float
        assert more.details["tune"] == stage + 1
        assert bool(more.draws["weights"].isfinite().all())
        assert float(more.sample_stats["acceptance_rate"].mean()) > 0.5


@pytest.mark.parametrize(("tune", "judged"), [(4, 0), (5, 1), (9, 1)])
def test_only_whole_stages_are_judged(monkeypatch, tune, judged):
    judge, stages = hmc._judge, []
    monkeypatch.setattr(hmc, "_judge", lambda *stage: stages.append(stage) or judge(*stage))
    details = hmc.run(GaussianTarget(), draws=3, tune=tune, chains=64, seed=0).details
    assert len(stages) == judged and details["tune"] == tune


def test_the_number_of_kicks_follows_the_acceptance():
    assert [_steps_for(rate, 4, 0.7) for rate in (1.0, 0.98, 0.9, 0.7, 0.5, 0.3)] == [1, 1, 2, 4, 8, 11]
    assert _steps_for(0.0, 4, 0.7) > 30
    # A single kick wants 0.85, halfway from 0.7 to 1.
    assert _steps_for(0.86, 1, 0.7) == 1 and _steps_for(0.84, 1, 0.7) == 2


def test_the_angles_fill_their_interval_evenly():
    angles = np.sort(_angles(0, 255)) / (math.pi / 2)
    np.testing.assert_allclose(np.diff(angles), 0.4 / 256, rtol=1e-9)
    assert angles.mean() == pytest.approx(1.0)
    assert _angles(3, 4) == _angles(0, 7)[3:]


def test_what_was_done_is_said(gaussian):
    _, result = gaussian
    tune = result.details["tune"]
    assert result.message == f"HMC: 64 chains of 150 draws after {tune} warm-up iterations, 1 kick a draw, 0 divergent"


@pytest.mark.parametrize("value", [1.0, 0, -0.5])
def test_options_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=rf"target_acceptance must be above 0 and below 1, got {value}"):
        hmc.run(GaussianTarget(), draws=3, tune=3, chains=1, seed=0, target_acceptance=value)
