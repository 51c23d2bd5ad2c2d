"""Transitions by rotation and kick: exact on a Gaussian, reversible, of second order, whatever the metric."""

import math

import pytest
import torch
from checks import assert_matches
from gaussian_target import GaussianTarget

from bayesreg.inference.rotation import (
    Block,
    Coordinates,
    State,
    _trajectory,
    evaluate,
    run_block,
)

ON = {"dtype": torch.float64, "device": "cpu"}


class Quartic:
    """exp(-x^2/2 - x^4/8 + x/2) in each of three coordinates: V is the rest, neither even nor odd."""

    num_parameters = 3

    def log_density_and_gradient(self, points):
        density = -points.square() / 2 - points**4 / 8 + points / 2
        return density.sum(-1), -points - points**3 / 2 + 0.5


def state_at(target, coordinates, position):
    log_density, force = evaluate(target, coordinates, position)
    return State(position, force, log_density)


def whitened(target):
    return Coordinates(target.mean, torch.linalg.cholesky(target.covariance.flip(0, 1)).flip(0, 1))


def unit(p):
    return Coordinates(torch.zeros(p, **ON), torch.eye(p, **ON))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **ON)


def energy(state, momentum):
    return 0.5 * momentum.square().sum(-1) - state.log_density


def test_coordinates_go_both_ways():
    coordinates = whitened(GaussianTarget())
    positions = numbers(3, 5, 4)
    points = coordinates.points(positions)
    torch.testing.assert_close(points, coordinates.centre + positions @ coordinates.root.mT)
    torch.testing.assert_close(coordinates.positions(points[0]), positions[0])


def test_the_force_is_the_gradient_of_what_is_not_gaussian():
    coordinates = Coordinates(torch.tensor([0.3, -0.2, 0.1], **ON), torch.triu(numbers(3, 3, seed=1)))
    position = numbers(6, 3).requires_grad_(True)
    rest = evaluate(Quartic(), coordinates, position)[0] + 0.5 * position.square().sum(-1)
    expected = torch.autograd.grad(rest.sum(), position)[0]
    torch.testing.assert_close(evaluate(Quartic(), coordinates, position)[1], expected)


def test_a_quarter_turn_of_a_gaussian_puts_the_momentum_in_the_place_of_the_position():
    target = GaussianTarget()
    coordinates = whitened(target)
    position, momentum = numbers(7, 4), numbers(7, 4, seed=1)
    start = state_at(target, coordinates, position)
    torch.testing.assert_close(start.force, torch.zeros(7, 4, **ON), rtol=0, atol=1e-9)
    end, final = _trajectory(target, coordinates, start, momentum.clone(), math.pi / 2, 1)
    torch.testing.assert_close(end.position, momentum)
    torch.testing.assert_close(final, -position)


def test_a_trajectory_is_reversible_and_keeps_volume():
    coordinates = unit(3)
    position, momentum = numbers(1, 3), numbers(1, 3, seed=1)

    def end(position, momentum):
        return _trajectory(Quartic(), coordinates, state_at(Quartic(), coordinates, position), momentum, 0.5, 3)

    there, final = end(position, momentum.clone())
    back, returned = end(there.position, -final)
    torch.testing.assert_close(back.position, position)
    torch.testing.assert_close(returned, -momentum)

    def flow(both):
        # The first half kick is written into its argument, which autograd may not have as a leaf.
        state, momentum = end(both[None, :3], both[None, 3:] * 1.0)
        return torch.cat([state.position[0], momentum[0]])

    jacobian = torch.autograd.functional.jacobian(flow, torch.cat([position[0], momentum[0]]))
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, rel=1e-9)


def test_the_energy_error_falls_with_the_square_of_the_step():
    coordinates = unit(3)
    start, momentum = state_at(Quartic(), coordinates, numbers(50, 3)), numbers(50, 3, seed=1)
    errors = []
    for steps in (16, 32, 64):
        end, final = _trajectory(Quartic(), coordinates, start, momentum.clone(), 1.5 / steps, steps)
        errors.append(float((energy(end, final) - energy(start, momentum)).norm()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.05)


def test_a_block_keeps_the_law_and_its_own_books():
    """Chains that start in the law stay in it, by rejections where the steps are too long."""
    target = GaussianTarget()
    coordinates = Coordinates(target.start(), 0.6 * torch.triu(whitened(target).root + 0.1))
    calls, ticks, chains = [], [], 400
    points = target.mean + numbers(chains, 4, seed=2) @ torch.linalg.cholesky(target.covariance).T
    start = state_at(target, coordinates, coordinates.positions(points))
    target.calls = 0
    generator = torch.Generator().manual_seed(3)
    last, block = run_block(target, coordinates, start, 2, [1.2, 1.6] * 40, generator, lambda: ticks.append(1))
    calls.append(target.calls)
    assert calls == [160] and len(ticks) == 80
    draws = coordinates.points(block.positions).transpose(0, 1)
    assert_matches(draws, target.mean, target.sd)
    torch.testing.assert_close(block.log_density.T, target.log_density(draws), rtol=1e-9, atol=1e-8)
    moved = (block.positions[1:] != block.positions[:-1]).any(-1)
    acceptance = block.acceptance()[1:]
    assert 0.2 < float(acceptance.mean()) < 0.9  # or nothing is said of rejections
    spread = (acceptance * (1 - acceptance)).sum().sqrt()
    assert abs(float(moved.sum() - acceptance.sum())) < 4 * float(spread)
    assert torch.equal(last.position, block.positions[-1])
    torch.testing.assert_close(last.force, evaluate(target, coordinates, last.position)[1], rtol=1e-9, atol=1e-8)


def test_the_acceptance_is_a_probability_even_of_what_is_not_a_number():
    error = torch.tensor([[-3.0, 0.0, math.log(2.0), math.inf, math.nan]], **ON)
    block = Block(error, error, error, error)
    assert block.acceptance().tolist() == [[1.0, 1.0, pytest.approx(0.5), 0.0, 0.0]]
