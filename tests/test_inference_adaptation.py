"""What many chains adapt in warm-up: a step size, a covariance, and whether they have met."""

import math

import pytest
import torch
from gaussian_target import GaussianTarget

from bayesreg.inference.adaptation import StepSize, chains_have_met, initial_step_size, pooled_covariance

ON = {"dtype": torch.float64, "device": torch.device("cpu")}


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **ON)


class Flat:
    """Everything is accepted, whatever the step."""

    def log_density_and_gradient(self, points):
        return torch.zeros_like(points[..., 0]), torch.zeros_like(points)


@pytest.mark.parametrize("first", [1e-3, 0.7, 20.0])
def test_the_step_size_reaches_the_wanted_acceptance(first):
    """With an acceptance exp(-step), and noise on it: the step of an acceptance of 0.7 is -log 0.7."""
    noise = 0.05 * normals(400)
    step = StepSize(torch.tensor(first, **ON), target_acceptance=0.7)
    for iteration in range(400):
        step.update(torch.exp(-step.value) + noise[iteration])
    assert float(step.final()) == pytest.approx(-math.log(0.7), rel=0.05)
    assert step.settled() and step.num_updates == 400


@pytest.mark.parametrize(("acceptance", "bound"), [(1.0, 1e3), (0.0, 1e-10)])
def test_the_step_size_is_clipped(acceptance, bound):
    step = StepSize(torch.tensor(1.0, **ON), target_acceptance=0.8)
    for _ in range(2000):
        step.update(torch.tensor(acceptance, **ON))
    assert float(step.value) == pytest.approx(bound, rel=1e-9)
    assert float(step.final()) == pytest.approx(bound, rel=1e-3)


def test_a_step_size_that_still_moves_has_not_settled():
    step = StepSize(torch.tensor(1.0, **ON), target_acceptance=0.8)
    for _ in range(30):
        step.update(torch.tensor(0.3, **ON))
    assert not step.settled()


def acceptance_of_a_step(target, points, root, momenta, size):
    """Of one leapfrog step, ``(chains,)``."""
    halfway = momenta + size / 2 * target.log_density_and_gradient(points)[1] @ root
    end = points + size * halfway @ root.T
    last = halfway + size / 2 * target.log_density_and_gradient(end)[1] @ root
    before, after = (
        0.5 * r.square().sum(-1) - target.log_density_and_gradient(x)[0] for x, r in ((points, momenta), (end, last))
    )
    return (before - after).clamp_max(0.0).exp()


def test_the_first_step_size_suits_every_chain():
    target = GaussianTarget()
    root = torch.linalg.cholesky(target.covariance)
    points, momenta = target.mean + normals(500, 4) @ root.T, normals(500, 4, seed=1)
    found = {wanted: float(initial_step_size(target, points, root, momenta, wanted)) for wanted in (0.3, 0.8, 0.9999)}
    assert list(found.values()) == sorted(found.values(), reverse=True) and len(set(found.values())) > 1
    for wanted, step in found.items():
        assert math.log2(step).is_integer()
        suits = []
        for size in (step, 2 * step):  # the second one is too much
            acceptance = acceptance_of_a_step(target, points, root, momenta, size)
            suits.append(bool(acceptance.mean() >= wanted and acceptance.min() >= wanted / 2))
        assert suits == [True, False]


def test_one_chain_far_out_asks_for_smaller_steps():
    class Quartic:
        def log_density_and_gradient(self, points):
            return -(points[..., 0] ** 4), -4.0 * points**3

    root, points, momenta = torch.eye(1, **ON), 0.3 * normals(300, 1).clamp(-2.0, 2.0), torch.ones(300, 1, **ON)
    bulk = float(initial_step_size(Quartic(), points, root, momenta, 0.8))
    points[7] = 20.0
    assert float(initial_step_size(Quartic(), points, root, momenta, 0.8)) < bulk / 3


def test_the_first_step_size_has_an_end_on_both_sides():
    class Cliff(Flat):
        def log_density_and_gradient(self, points):
            return torch.where(points.norm(dim=-1) < 1e-12, 0.0, -math.inf), torch.full_like(points, math.nan)

    settings = (torch.zeros(3, 2, **ON), torch.eye(2, **ON), torch.ones(3, 2, **ON), 0.8)
    assert float(initial_step_size(Flat(), *settings)) == 2.0
    assert float(initial_step_size(Cliff(), *settings)) == 2.0**-20


def test_the_pooled_covariance_is_that_of_all_draws_shrunk_by_p_in_n():
    points = normals(5, 40, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.1]], **ON) + 7.0
    expected = (200 * torch.cov(points.reshape(200, 3).T, correction=0) + 3 * torch.eye(3, **ON)) / 203
    torch.testing.assert_close(pooled_covariance(points), expected, rtol=1e-12, atol=1e-14)
    few = pooled_covariance(points[:1, :2])
    assert float(torch.linalg.eigvalsh(few)[0]) > 0.5  # two draws do not make three directions


@pytest.mark.parametrize(("chains", "draws"), [(1000, 6), (16, 20), (2, 200)])
def test_independent_draws_have_met(chains, draws):
    verdicts = [bool(chains_have_met(3.0 + 2.0 * normals(chains, draws, 5, seed=seed))) for seed in range(20)]
    assert sum(verdicts) >= 18


@pytest.mark.parametrize("chains", [4, 1000])
def test_chains_that_keep_their_start_have_not_met(chains):
    points = normals(chains, 20, 5)
    points[..., 2] += 2.0 * normals(chains, 1, seed=1)
    assert not chains_have_met(points)


@pytest.mark.parametrize("chains", [1, 4, 1000])
def test_chains_that_still_travel_have_not_met(chains):
    points = 0.3 * normals(chains, 20, 5)
    points[..., 2] += torch.linspace(0.0, 2.0, 20, **ON)
    assert not chains_have_met(points)


def test_what_does_not_move_or_is_not_finite():
    points = normals(4, 20, 3)
    points[..., 1] = 5.0
    assert chains_have_met(points)  # a constant is where it should be
    points[..., 1] += torch.arange(4, **ON)[:, None]
    assert not chains_have_met(points)  # four constants are not
    points[..., 1] = math.nan
    assert not chains_have_met(points)


@pytest.mark.usefixtures("strict_factories")
def test_nothing_waits_for_the_device(device, no_synchronisation):
    target = GaussianTarget(device)
    points = target.mean.repeat(8, 1)
    with no_synchronisation(at_most=0):
        step = StepSize(torch.ones_like(points[0, 0]), 0.8)
        for _ in range(10):
            step.update(step.value * 0.1)
        results = [step.final(), step.settled(), chains_have_met(points[:, None].repeat(1, 6, 1))]
        results.append(pooled_covariance(points[:, None]))
    assert {one.device.type for one in results} == {device.type}
