"""One no-U-turn transition in lockstep: the same trees as made leaf by leaf, and the right law of what is chosen."""

import math

import numpy as np
import pytest
import torch
from gaussian_target import GaussianTarget
from scipy import stats

from bayesreg.inference import trajectory_trees
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.trajectory_trees import States, transition

ON = {"dtype": torch.float64, "device": torch.device("cpu")}


class LogGamma:
    """Logarithms of gamma variables of different shapes, independent: asymmetric, and sampled exactly."""

    shapes = torch.tensor([0.7, 3.0, 12.0], **ON)

    def log_density_and_gradient(self, points):
        exponential = points.exp()
        return (self.shapes * points - exponential).sum(-1), self.shapes - exponential


class Iid:
    """Standard normal."""

    def log_density_and_gradient(self, points):
        return -0.5 * points.square().sum(-1), -points


class Narrow:
    """A Gaussian with two scales: long trajectories, on which the short one makes the energy swing."""

    def log_density_and_gradient(self, points):
        gradient = -points / torch.tensor([8.0, 0.5], **ON) ** 2
        return 0.5 * (points * gradient).sum(-1), gradient


def states_at(target, points):
    return States(points, *target.log_density_and_gradient(points))


def turns(momenta, halves=None):
    """Whether a stretch turns, by itself or with its neighbour's nearest leaf; `halves` says where it was joined."""
    total = momenta.sum(0)
    if min(total @ momenta[0], total @ momenta[-1]) <= 0:
        return True
    middle = len(momenta) // 2 if halves is None else halves
    if len(momenta) < 2:
        return False
    left, right = momenta[: middle + 1].sum(0), momenta[middle - 1 :].sum(0)
    pairs = [(left, momenta[0]), (left, momenta[middle]), (right, momenta[middle - 1]), (right, momenta[-1])]
    return min(total @ momentum for total, momentum in pairs) <= 0


def tree_leaf_by_leaf(target, point, momentum, root, step, swap, max_tree_depth):
    """The definition, one chain, one leaf after the other; every quantity recomputed from the leaves.

    Returns:
        depth, steps, mean acceptance, divergence, and the probability of each leaf to be chosen by its point.
    """

    def leapfrog(x, r, sign):
        r = r + sign * step / 2 * root.T @ target.log_density_and_gradient(x)[1]
        x = x + sign * step * root @ r
        return x, r + sign * step / 2 * root.T @ target.log_density_and_gradient(x)[1]

    def energy(x, r):
        return float(0.5 * r @ r - target.log_density_and_gradient(x)[0])

    leaves, start, direction = [(point, momentum)], energy(point, momentum), 1
    probabilities, weight = {tuple(point.tolist()): 1.0}, 1.0
    depth, acceptance = 0, []
    while depth < max_tree_depth:
        if depth > 0 and swap(2**depth):
            direction = -direction
        new, weights, ended = [], [], False
        x, r = leaves[-1] if direction > 0 else leaves[0]
        while len(new) < 2**depth and not ended:
            x, r = leapfrog(x, r, direction)
            new.append((x, r))
            error = energy(x, r) - start
            weights.append(math.exp(-error) if error < 1000 else 0.0)
            acceptance.append(min(1.0, weights[-1]))
            if not error <= 1000:
                return depth, len(acceptance), np.mean(acceptance), True, probabilities
            made = len(new)
            for length in [2**level for level in range(1, depth + 1) if made % 2**level == 0]:
                ended = ended or turns(direction * torch.stack([momentum for _, momentum in new[-length:]]))
        if ended:
            break
        share = min(1.0, sum(weights) / weight)
        probabilities = {key: value * (1 - share) for key, value in probabilities.items()}
        probabilities |= {
            tuple(one[0].tolist()): share * own / sum(weights) for one, own in zip(new, weights, strict=True)
        }
        weight += sum(weights)
        depth += 1
        leaves = leaves + new if direction > 0 else new[::-1] + leaves
        if turns(torch.stack([momentum for _, momentum in leaves]), len(new)):
            break
    return depth, len(acceptance), np.mean(acceptance), False, probabilities


@pytest.mark.parametrize("part", [1, 2, 8])
@pytest.mark.parametrize(("step", "max_tree_depth"), [(0.9, 10), (0.25, 10), (0.04, 10), (0.1, 4), (2.6, 10)])
def test_the_trees_are_those_made_leaf_by_leaf(monkeypatch, step, max_tree_depth, part):
    """Directions are fixed by row and doubling, so that nothing about a tree is left to chance."""
    monkeypatch.setattr(trajectory_trees, "_PART", part)
    monkeypatch.setattr(trajectory_trees, "_coins", lambda rows, _: (rows * doubling_of["leaves"] // 3 + rows) % 2)
    doubling_of, double = {}, trajectory_trees._double

    def watched(trees, num_leaves, *rest):
        doubling_of["leaves"] = num_leaves
        return double(trees, num_leaves, *rest)

    monkeypatch.setattr(trajectory_trees, "_double", watched)
    target = LogGamma()
    generator = torch.Generator().manual_seed(5)
    points = torch.randn(12, 3, generator=generator, **ON) + target.shapes.log()
    root = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.6, 0.1], [0.0, 0.0, 0.3]], **ON)
    state = generator.get_state()
    momenta = standard_normals((12, 3), generator, torch.float64, torch.device("cpu"))
    generator.set_state(state)
    size = torch.tensor(step, **ON)
    _, found = transition(target, states_at(target, points), root, size, generator, max_tree_depth)
    expected = [
        tree_leaf_by_leaf(
            target, points[row], momenta[row], root, step, lambda leaves, row=row: (row * leaves // 3 + row) % 2,
            max_tree_depth,
        )
        for row in range(12)
    ]  # fmt: skip
    depths, steps, acceptance, diverging, _ = zip(*expected, strict=True)
    assert found.tree_depth.tolist() == list(depths)
    assert found.n_steps.tolist() == list(steps)
    assert found.acceptance_rate.tolist() == pytest.approx(list(acceptance), rel=1e-9)
    assert found.diverging.tolist() == list(diverging)
    assert len(set(steps)) > 1 or max_tree_depth == 4
    assert any(diverging) == (step > 2)


@pytest.mark.parametrize("part", [2, 8])
def test_a_leaf_is_chosen_with_its_probability(monkeypatch, part):
    """The same chain 20,000 times, the momentum and the directions too: the law of the choice, given the tree."""
    target, chains, step = Narrow(), 20_000, 0.9
    point, momentum = torch.tensor([-1.2, 0.4], **ON), torch.tensor([0.9, -1.1], **ON)
    swaps = iter([0, 0, 1, 0, 0])  # at 2, 4, 8, 16 leaves and on
    depth, steps, _, _, probabilities = tree_leaf_by_leaf(
        target, point, momentum, torch.eye(2, **ON), step, lambda leaves: leaves == 8, 10
    )
    assert (depth, steps) == (4, 19)  # a choice between parts and between halves, and a half that was dropped
    monkeypatch.setattr(trajectory_trees, "_PART", part)
    monkeypatch.setattr(trajectory_trees, "_coins", lambda rows, _: torch.full_like(rows, next(swaps)))
    start, generator = states_at(target, point.repeat(chains, 1)), torch.Generator().manual_seed(2)
    with monkeypatch.context() as patch:
        patch.setattr(trajectory_trees, "standard_normals", lambda *_: momentum.repeat(chains, 1))
        moved, found = transition(target, start, torch.eye(2, **ON), torch.tensor(step, **ON), generator, 10)
    assert found.tree_depth.eq(depth).all() and found.n_steps.eq(steps).all()
    leaves, expected = torch.tensor(list(probabilities), **ON), chains * np.array(list(probabilities.values()))
    nearest = (moved.points[:, None] - leaves).norm(dim=-1).min(1)
    assert float(nearest.values.max()) < 1e-9
    counts = nearest.indices.bincount(minlength=len(leaves)).numpy()
    assert not counts[expected == 0].any()
    rare = expected < 5
    assert rare.sum() < 8 and expected[:8].sum() > 1000
    counts, expected = (np.append(values[~rare], values[rare].sum() + 1e-9) for values in (counts, expected))
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    # What comes with a state belongs to it.
    again = states_at(target, moved.points)
    torch.testing.assert_close(moved.log_density, again.log_density, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved.gradients, again.gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("step", "max_tree_depth"), [(1.5, 10), (0.9, 10), (0.3, 10), (0.5, 2)])
def test_the_density_stays_as_it_is(step, max_tree_depth):
    """Chains that start from exact draws still are exact draws afterwards, however coarse the steps."""
    chains, target = 30_000, LogGamma()
    shapes = target.shapes.numpy()
    points = torch.tensor(np.log(np.random.default_rng(3).gamma(shapes, size=(chains, 3))), **ON)
    states, generator = states_at(target, points), torch.Generator().manual_seed(1)
    root = torch.tensor([[1.1, 0.4, 0.0], [0.0, 0.6, 0.1], [0.0, 0.0, 0.3]], **ON)
    for _ in range(4):
        states, found = transition(target, states, root, torch.tensor(step, **ON), generator, max_tree_depth)
    assert float((states.points[:, 0] - points[:, 0]).abs().mean()) > 0.02
    if max_tree_depth == 10:
        assert float(found.acceptance_rate.mean()) < 0.999
    for column, shape in enumerate(shapes):
        uniform = stats.gamma(shape).cdf(states.points[:, column].exp().numpy())
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3, column
    energy = found.energy + states.log_density
    assert stats.kstest(2.0 * energy.numpy(), stats.chi2(3).cdf).pvalue > 1e-3


def test_a_trajectory_that_returns_to_its_start_is_noticed():
    """On a Gaussian all coordinates turn at the same time, and a doubling can jump over it: 500 leaves for 7."""
    target, generator = Iid(), torch.Generator().manual_seed(0)
    states = states_at(target, torch.randn(64, 50, generator=generator, **ON))
    root = torch.eye(50, **ON)
    for _ in range(5):
        states, found = transition(target, states, root, torch.tensor(0.78, **ON), generator, 10)
        assert int(found.n_steps.max()) <= 15


def test_chains_that_have_ended_are_dropped():
    """Two scales: the chain of the shorter one ends after a few leaves, and is asked for no more."""

    class Watched(GaussianTarget):
        sizes = []

        def log_density_and_gradient(self, points):
            self.sizes.append(len(points))
            return super().log_density_and_gradient(points)

    target = Watched()
    root = torch.linalg.cholesky(target.covariance)
    generator = torch.Generator().manual_seed(0)
    points = target.mean + torch.randn(200, 4, generator=generator, **ON) @ root.T
    start = states_at(target, points)
    target.sizes.clear()
    _, found = transition(target, start, root, torch.tensor(0.2, **ON), generator, 10)
    assert found.tree_depth.unique().numel() > 2
    assert target.sizes[0] == 200 and target.sizes == sorted(target.sizes, reverse=True)
    # A chain costs no more than its leaves and the rest of the part of 8 in which it ended.
    assert int(found.n_steps.sum()) <= sum(target.sizes) <= int((8 * ((found.n_steps + 8) // 8)).sum())


def test_a_chain_does_not_feel_its_neighbours_diverge():
    target, generator = LogGamma(), torch.Generator().manual_seed(0)
    points = torch.zeros(6, 3, **ON)
    points[::2, 0] = 60.0  # e^60: the first kick leaves the range of float64
    _, found = transition(target, states_at(target, points), torch.eye(3, **ON), torch.tensor(0.2, **ON), generator, 10)
    assert found.diverging.tolist() == [True, False] * 3
    assert found.tree_depth[::2].eq(0).all() and found.n_steps[::2].eq(1).all()
    assert found.tree_depth[1::2].ge(1).all()
    assert bool(found.energy[1::2].isfinite().all()) and bool(found.acceptance_rate.isfinite().all())


@pytest.mark.usefixtures("strict_factories")
def test_the_host_waits_once_a_doubling(no_synchronisation, device):
    target = GaussianTarget(device)
    root = torch.linalg.cholesky(target.covariance)
    states = states_at(target, target.mean.repeat(6, 1))
    generator = torch.Generator(device).manual_seed(0)
    step = torch.tensor(0.01, dtype=torch.float64, device=device)
    with no_synchronisation(at_most=6 + 1):  # parts: 1 each to 8 leaves, 2 at 16, 4 at 32, of which one attaches
        _, found = transition(target, states, root, step, generator, 5)
    assert found.n_steps.eq(31).all()
