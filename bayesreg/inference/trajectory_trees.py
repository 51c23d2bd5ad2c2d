"""One no-U-turn transition of many chains in lockstep: trajectories that double until they turn back.

From a point x with a momentum r ~ Normal(0, I), in coordinates z with x = x0 + L z, the energy is

    H(x, r) = -log density(x) + |r|^2 / 2,

and leapfrog steps of size e follow it: r += (e/2) L'g(x), x += e L r, r += (e/2) L'g(x). A trajectory grows by
doubling: as many leaves as it has are added at its left or its right end, until a stretch of it turns back, that is,
until the sum of its momenta no longer points forward at both of its ends. The next state is one of its leaves, with
probability proportional to exp(-H) within what one doubling adds, and between that and what was there before with the
bias towards the new that keeps the law. Every stretch that a doubling could have made is checked, on its own and with
the nearest leaf of its neighbour; if one inside the new half turns, the new half is dropped.

All chains are at the same leaf of the same doubling, so which stretches end there is known beforehand: no recursion,
and no masks in the integrator. Leaves are made in parts of up to 8; the stretches inside a part are checked in one
batch a level, the longer ones as their parts come in, from a stack of one unmerged stretch a level. After a part,
chains whose trajectory has ended are dropped. Momenta point outwards at both ends of a trajectory (one is reversed), so
there is no left and no right, only a front that grows and a back; before a doubling, they may change places.

Sources:
    Betancourt, A Conceptual Introduction to Hamiltonian Monte Carlo, arXiv:1701.02434 (2017), appendix A (the criterion
    and the sampling of leaves); the checks across two stretches are those of Stan's sampler.
    Phan, Pradhan and Jankowiak, arXiv:1912.11554 (2019) (a stack in place of recursion).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch

from bayesreg.inference.normals import standard_normals

# Leaves made before chains are looked at. More of them save operations and cost memory.
_PART = 8
# A leaf whose energy is higher than the start's by more has left the level set: the integrator diverged.
_LARGEST_ENERGY_ERROR = 1000.0


class States(NamedTuple):
    """Where chains are: ``points (chains, p)``, their ``log_density (chains,)`` and ``gradients (chains, p)``."""

    points: torch.Tensor
    log_density: torch.Tensor
    gradients: torch.Tensor


class Transition(NamedTuple):
    """How a transition went, ``(chains,)`` each.

    Attributes:
        energy: H of the state that it ended in, with the momentum that it arrived with.
        tree_depth: Doublings that were completed.
        n_steps: Leaves that were made.
        acceptance_rate: Mean over leaves of min(1, exp(H at the start - H)).
        diverging: Whether a leaf's energy was off by more than 1000.
    """

    energy: torch.Tensor
    tree_depth: torch.Tensor
    n_steps: torch.Tensor
    acceptance_rate: torch.Tensor
    diverging: torch.Tensor


def transition(
    target: Any,
    states: States,
    root: torch.Tensor,
    step_size: torch.Tensor,
    generator: torch.Generator,
    max_tree_depth: int,
) -> tuple[States, Transition]:
    """Make one transition of every chain.

    Args:
        target: Anything with ``log_density_and_gradient``.
        states: Where the chains are.
        root: L ``(p, p)``.
        step_size: The step e, a tensor ``()``.
        generator: Random numbers, on the device of the chains.
        max_tree_depth: Largest number of doublings.

    Returns:
        Where the chains are now, and how they got there.
    """
    trees = _Trees.at(states, generator)
    initial_energy = trees.initial_energy
    integrator = _Integrator(target, (step_size * root.T).contiguous(), 0.5 * step_size * root)
    finished = torch.empty_like(trees.results)
    for depth in range(max_tree_depth):
        trees = _double(trees, 2**depth, integrator, generator, finished)
        if not len(trees.rows):
            break
    finished.index_copy_(0, trees.rows, trees.results)  # what the largest depth has cut short
    p = root.shape[0]
    log_density, log_ratio, tree_depth, n_steps, acceptance, diverging = finished[:, 2 * p :].unbind(-1)
    return States(finished[:, :p].contiguous(), log_density, finished[:, p : 2 * p].contiguous()), Transition(
        initial_energy - log_ratio, tree_depth.long(), n_steps.long(), acceptance / n_steps, diverging > 0.0
    )


@dataclass
class _Rows:
    """Tensors with one row a chain."""

    def take(self, index: torch.Tensor) -> _Rows:
        return replace(self, **{one.name: getattr(self, one.name).index_select(0, index) for one in fields(self)})


@dataclass
class _Stretch(_Rows):
    """A stretch of a trajectory in the direction of its making: the sum of its momenta, the first and the last."""

    total: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor


@dataclass
class _Trees(_Rows):
    """The trajectories that still grow.

    Attributes:
        rows: Which chains they belong to.
        initial_energy: H at the start.
        ends: ``(chains, 2, 3p)``: point, outward momentum and gradient of the front and of the back.
        total: Sum of the momenta, as they point at the front, ``(chains, p)``.
        log_weight: log sum over leaves of exp(H at the start - H).
        results: ``(chains, 2p + 6)``, packed so that a masked copy is one operation: the chosen leaf's point, gradient,
            log density and H at the start - H, then completed doublings, leaves, summed acceptance, divergence.
    """

    rows: torch.Tensor
    initial_energy: torch.Tensor
    ends: torch.Tensor
    total: torch.Tensor
    log_weight: torch.Tensor
    results: torch.Tensor

    @classmethod
    def at(cls, states: States, generator: torch.Generator) -> _Trees:
        points, log_density, gradients = states
        momenta = standard_normals(points.shape, generator, points.dtype, points.device)
        zeros = torch.zeros_like(log_density)
        return cls(
            rows=torch.arange(len(points), dtype=torch.int64, device=points.device),
            initial_energy=0.5 * torch.linalg.vecdot(momenta, momenta) - log_density,
            ends=torch.cat([points, momenta, gradients, points, -momenta, gradients], -1).unflatten(-1, (2, -1)),
            total=momenta,
            log_weight=zeros,
            results=torch.cat([points, gradients, torch.stack([log_density, *([zeros] * 5)], -1)], -1),
        )

    def swap_ends(self, swap: torch.Tensor) -> None:
        """Let front and back change places where `swap` is 1 and not 0."""
        fronts = torch.arange(0, 2 * len(swap), 2, dtype=torch.int64, device=swap.device) + swap
        both = torch.stack([fronts, fronts + 1 - 2 * swap], -1)
        self.ends = self.ends.flatten(0, 1).index_select(0, both.flatten()).unflatten(0, (len(swap), 2))
        self.total = (1 - 2 * swap).unsqueeze(-1) * self.total

    def end(self, which: int) -> tuple[torch.Tensor, ...]:
        """Return point, outward momentum and gradient of the front (0) or the back (1)."""
        return self.ends[:, which].chunk(3, -1)


@dataclass
class _NewHalf(_Rows):
    """What a doubling has added so far.

    Attributes:
        point, momentum, gradient: Its outermost leaf, ``(chains, p)``.
        chosen: ``(chains, 2p + 2)``: point, gradient, log density and H at the start - H of the leaf chosen in it.
        log_weight: log sum over its leaves of exp(H at the start - H).
    """

    point: torch.Tensor
    momentum: torch.Tensor
    gradient: torch.Tensor
    chosen: torch.Tensor
    log_weight: torch.Tensor


class _Integrator(NamedTuple):
    """Leapfrog steps: ``drift`` is e L', ``half_kick`` (e/2) L, for points and momenta in rows."""

    target: Any
    drift: torch.Tensor
    half_kick: torch.Tensor

    def leaves(
        self, point: torch.Tensor, momentum: torch.Tensor, gradient: torch.Tensor, number: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return points, momenta, gradients ``(number, chains, p)`` and log densities ``(number, chains)``."""
        points, momenta, gradients = (point.new_empty((number, *point.shape)) for _ in range(3))
        log_density = point.new_empty((number, len(point)))
        kick, halfway, shift = gradient @ self.half_kick, torch.empty_like(points[0]), torch.empty_like(points[0])
        for leaf in range(number):  # (products and sums apart: for so few columns, addmm takes twice as long)
            torch.add(momentum, kick, out=halfway)
            torch.mm(halfway, self.drift, out=shift)
            point = torch.add(point, shift, out=points[leaf])
            log_density[leaf], gradient = self.target.log_density_and_gradient(point)
            gradients[leaf] = gradient
            torch.mm(gradient, self.half_kick, out=kick)
            momentum = torch.add(halfway, kick, out=momenta[leaf])
        return points, momenta, gradients, log_density


def _double(
    trees: _Trees, num_leaves: int, integrator: _Integrator, generator: torch.Generator, finished: torch.Tensor
) -> _Trees:
    """Add as many leaves as there are; return the trees that go on, and write the results of the others."""
    if num_leaves > 1:  # the first momentum is as likely as its opposite
        trees.swap_ends(_coins(trees.rows, generator))
    half, unmerged = None, []
    size = min(num_leaves, _PART)
    for part in range(1, num_leaves // size + 1):
        half, stretch, ended = _grow(trees, half, size, integrator, generator)
        length = size
        while part * size % (2 * length) == 0:  # the stretch before it is as long: together they are of the next level
            stretch, turned = _join(unmerged.pop(), stretch)
            ended |= turned
            length *= 2
        if length == num_leaves:
            break
        unmerged.append(stretch)
        going_on = _write_finished(trees, ended, finished)
        if going_on is not None:
            trees, half, *unmerged = (one.take(going_on) for one in (trees, half, *unmerged))
        if not len(trees.rows):
            return trees
    ended |= _attach(trees, half, stretch, ~ended, generator)
    going_on = _write_finished(trees, ended, finished)
    return trees if going_on is None else trees.take(going_on)


def _grow(
    trees: _Trees, half: _NewHalf | None, number: int, integrator: _Integrator, generator: torch.Generator
) -> tuple[_NewHalf, _Stretch, torch.Tensor]:
    """Make the next leaves of the new half; return it, their stretch, and which trajectories end with one of them."""
    start = trees.end(0) if half is None else (half.point, half.momentum, half.gradient)
    points, momenta, gradients, log_density = integrator.leaves(*start, number)
    log_ratio = torch.add(log_density, torch.linalg.vecdot(momenta, momenta), alpha=-0.5).add_(trees.initial_energy)
    log_ratio.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    diverged = log_ratio < -_LARGEST_ENERGY_ERROR
    stretch, ends_here = _fold(momenta)
    ends_here |= diverged
    # Up to the first leaf that ends the trajectory: a chain on its own would have made no other.
    made = ends_here.cumsum(0) <= ends_here
    p = points.shape[-1]
    steps, acceptance, divergence = trees.results[:, 2 * p + 3 :].unbind(-1)
    steps += made.sum(0)
    acceptance += torch.where(made, log_ratio.clamp_max(0.0).exp_(), 0.0).sum(0)
    divergence += (diverged & made).any(0)

    which, log_weight = _choose(log_ratio, generator)
    chosen = [
        points.flatten(0, 1).index_select(0, which),
        gradients.flatten(0, 1).index_select(0, which),
        log_density.flatten().index_select(0, which).unsqueeze(-1),
        log_ratio.flatten().index_select(0, which).unsqueeze(-1),
    ]
    grown = _NewHalf(points[-1], momenta[-1], gradients[-1], torch.cat(chosen, -1), log_weight)
    if half is not None:
        grown.log_weight = torch.logaddexp(half.log_weight, log_weight)
        taken = _log_uniform(log_weight, generator) < log_weight - grown.log_weight
        grown.chosen = torch.where(taken.unsqueeze(-1), grown.chosen, half.chosen)
    return grown, stretch, ends_here.any(0)


def _choose(log_weights: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose a leaf of each chain with probability proportional to its weight.

    Args:
        log_weights: ``(leaves, chains)``.
        generator: Random numbers.

    Returns:
        Indices into the flattened leaves, and the log of the summed weights; ``(chains,)`` each.
    """
    largest = log_weights.amax(0)
    cumulative = (log_weights - largest).exp_().cumsum(0)
    total = cumulative[-1]
    uniform = torch.rand(total.shape, generator=generator, dtype=total.dtype, device=total.device)
    leaf = (cumulative[:-1] <= uniform * total).sum(0)
    chains = torch.arange(len(total), dtype=torch.int64, device=total.device)
    return leaf * len(total) + chains, largest + total.log()


def _attach(
    trees: _Trees, half: _NewHalf, stretch: _Stretch, complete: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Add the new half to the trees in which it is complete (to others, which end, it may do anything but be chosen).

    Returns:
        Where the whole turns back.
    """
    # The old trajectory starts at its back, whose momentum points outwards, the other way.
    whole, turned = _join(_Stretch(trees.total, -trees.end(1)[1], trees.end(0)[1]), stretch)
    trees.total = whole.total
    torch.cat([half.point, half.momentum, half.gradient], -1, out=trees.ends[:, 0])
    # Biased towards the new: with the probability min(1, ratio of weights), and not its share.
    taken = complete & (_log_uniform(half.log_weight, generator) < half.log_weight - trees.log_weight)
    size = half.chosen.shape[1]
    chosen, doublings = trees.results[:, :size], trees.results[:, size]
    chosen.copy_(torch.where(taken.unsqueeze(-1), half.chosen, chosen))
    doublings += complete
    trees.log_weight = torch.logaddexp(trees.log_weight, half.log_weight)
    return turned


def _fold(momenta: torch.Tensor) -> tuple[_Stretch, torch.Tensor]:
    """Join leaves ``(leaves, chains, p)``, a power of two, pairwise up to one stretch.

    Returns:
        The stretch, and where one that turns back has its last leaf, ``(leaves, chains)``.
    """
    turns_here = torch.zeros(momenta.shape[:2], dtype=torch.bool, device=momenta.device)
    total = first = last = momenta
    length = 1
    while length < len(momenta):
        left, right = (_Stretch(total[one::2], first[one::2], last[one::2]) for one in (0, 1))
        whole, turned = _join(left, right, of_leaves=length == 1)
        total, first, last = whole.total, whole.first, whole.last
        length *= 2
        turns_here[length - 1 :: length] |= turned
    return _Stretch(total[0], first[0], last[0]), turns_here


def _join(left: _Stretch, right: _Stretch, of_leaves: bool = False) -> tuple[_Stretch, torch.Tensor]:
    """Join two stretches, one after the other; say where the whole, or one with its neighbour's nearest leaf, turns."""
    whole = _Stretch(left.total + right.total, left.first, right.last)
    forward = _forward(whole.total, left.first, right.last)
    if not of_leaves:  # for two leaves, these are the whole again
        forward = torch.minimum(forward, _forward(left.total + right.first, left.first, right.first))
        forward = torch.minimum(forward, _forward(left.last + right.total, left.last, right.last))
    return whole, forward <= 0.0


def _forward(total: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Return how far a sum of momenta points forward, at the end where it does so less."""
    return torch.minimum(torch.linalg.vecdot(total, first), torch.linalg.vecdot(total, last))


def _coins(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(2, rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)


def _log_uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device).log_()


def _write_finished(trees: _Trees, ended: torch.Tensor, finished: torch.Tensor) -> torch.Tensor | None:
    """Write the results of the trees that ended; return which go on, or None where all do. Waits for the device."""
    gone = ended.nonzero().squeeze(-1)
    if not len(gone):
        return None
    finished.index_copy_(0, trees.rows.index_select(0, gone), trees.results.index_select(0, gone))
    return (~ended).nonzero().squeeze(-1)
