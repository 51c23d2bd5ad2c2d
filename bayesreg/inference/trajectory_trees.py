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
chains whose trajectory has ended are dropped. Momenta point outwards at both ends of a trajectory (the left one is
reversed), so a step to the left is a step to the right.

Sources:
    Betancourt, A Conceptual Introduction to Hamiltonian Monte Carlo, arXiv:1701.02434 (2017), appendix A (the criterion
    and the sampling of leaves); the checks across two stretches are those of Stan's sampler.
    Phan, Pradhan and Jankowiak, arXiv:1912.11554 (2019) (a stack in place of recursion).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

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


class _Stretch(NamedTuple):
    """A stretch of a trajectory in the direction of its making: the sum of its momenta, the first and the last."""

    total: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor

    def take(self, index: torch.Tensor) -> _Stretch:
        return _Stretch(*(part.index_select(0, index) for part in self))


@dataclass
class _Trees:
    """The trajectories that still grow, one row a chain.

    Attributes:
        rows: Which chains they belong to.
        initial_energy: H at the start.
        ends: ``(chains, 2, 3p)``: point, outward momentum and gradient of the left and the right end.
        total: Sum of the momenta, ``(chains, p)``.
        log_weight: log sum over leaves of exp(H at the start - H).
        side: The end that grows, 0 left, 1 right.
        results: ``(chains, 2p + 6)``, packed so that a masked copy is one operation: the chosen leaf's point, gradient,
            log density and H at the start - H, then completed doublings, leaves, summed acceptance, divergence.
    """

    rows: torch.Tensor
    initial_energy: torch.Tensor
    ends: torch.Tensor
    total: torch.Tensor
    log_weight: torch.Tensor
    side: torch.Tensor
    results: torch.Tensor

    @classmethod
    def at(cls, states: States, generator: torch.Generator) -> _Trees:
        points, log_density, gradients = states
        momenta = torch.randn(points.shape, generator=generator, dtype=points.dtype, device=points.device)
        zeros = torch.zeros_like(log_density)
        rows = torch.arange(len(points), dtype=torch.int64, device=points.device)
        return cls(
            rows=rows,
            initial_energy=0.5 * torch.linalg.vecdot(momenta, momenta) - log_density,
            ends=torch.stack([torch.cat([points, sign * momenta, gradients], -1) for sign in (-1, 1)], 1),
            total=momenta,
            log_weight=zeros,
            side=torch.zeros_like(rows),
            results=torch.cat([points, gradients, torch.stack([log_density, *([zeros] * 5)], -1)], -1),
        )

    def end(self, side: torch.Tensor) -> torch.Tensor:
        """Return the end on a side, ``(chains, 3p)``."""
        return self.ends.flatten(0, 1).index_select(0, self._end_rows(side))

    def set_end(self, values: torch.Tensor) -> None:
        """Replace the end that grows."""
        self.ends.flatten(0, 1).index_copy_(0, self._end_rows(self.side), values)

    def _end_rows(self, side: torch.Tensor) -> torch.Tensor:
        return 2 * torch.arange(len(side), dtype=torch.int64, device=side.device) + side

    def take(self, index: torch.Tensor) -> _Trees:
        return _Trees(*(getattr(self, name).index_select(0, index) for name in self.__dataclass_fields__))


@dataclass
class _NewHalf:
    """What a doubling adds, as far as it has been made.

    Attributes:
        point, momentum, gradient: Its outermost leaf, ``(chains, p)``.
        chosen: ``(chains, 2p + 2)``: point, gradient, log density and H at the start - H of the leaf chosen so far.
        arrival: Leaf i arrives after the time E_i / weight_i, E_i exponential, and the first of all is chosen: the log
            of the earliest time so far.
        log_weight: log sum over its leaves of exp(H at the start - H).
    """

    point: torch.Tensor
    momentum: torch.Tensor
    gradient: torch.Tensor
    chosen: torch.Tensor
    arrival: torch.Tensor
    log_weight: torch.Tensor

    def take(self, index: torch.Tensor) -> _NewHalf:
        return _NewHalf(*(getattr(self, name).index_select(0, index) for name in self.__dataclass_fields__))


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
        halfway = torch.empty_like(momentum)
        for leaf in range(number):
            torch.addmm(momentum, gradient, self.half_kick, out=halfway)
            point = torch.addmm(point, halfway, self.drift, out=points[leaf])
            density, gradient = self.target.log_density_and_gradient(point)
            momentum = torch.addmm(halfway, gradient, self.half_kick, out=momenta[leaf])
            gradients[leaf] = gradient
            log_density[leaf] = density
        return points, momenta, gradients, log_density


def _double(
    trees: _Trees, num_leaves: int, integrator: _Integrator, generator: torch.Generator, finished: torch.Tensor
) -> _Trees:
    """Add as many leaves as there are; return the trees that go on, and write the results of the others."""
    chains, p = trees.total.shape
    trees.side = torch.randint(2, (chains,), generator=generator, dtype=torch.int64, device=trees.rows.device)
    point, momentum, gradient = (part.contiguous() for part in trees.end(trees.side).split(p, -1))
    nothing = torch.full_like(trees.log_weight, -torch.inf)
    half = _NewHalf(point, momentum, gradient, torch.empty_like(trees.results[:, : 2 * p + 2]), -nothing, nothing)
    size = min(num_leaves, _PART)
    unmerged: list[_Stretch] = []
    for part in range(num_leaves // size):
        stretch, stopped = _grow(trees, half, size, integrator, generator)
        while part & 1:  # the one before is as long: together they are a stretch of the next level
            stretch, turned = _join(unmerged.pop(), stretch)
            stopped |= turned
            part >>= 1
        unmerged.append(stretch)
        going_on = _write_finished(trees, stopped, finished)
        if going_on is not None:
            trees, half, unmerged = trees.take(going_on), half.take(going_on), [one.take(going_on) for one in unmerged]
        if not len(trees.rows):
            return trees
    turned = _attach(trees, half, unmerged[0], generator)
    going_on = _write_finished(trees, turned, finished)
    return trees if going_on is None else trees.take(going_on)


def _grow(
    trees: _Trees, half: _NewHalf, number: int, integrator: _Integrator, generator: torch.Generator
) -> tuple[_Stretch, torch.Tensor]:
    """Make the next leaves of the new half; return their stretch, and which trajectories end with one of them."""
    points, momenta, gradients, log_density = integrator.leaves(half.point, half.momentum, half.gradient, number)
    log_ratio = trees.initial_energy + log_density - 0.5 * torch.linalg.vecdot(momenta, momenta)
    log_ratio.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    diverged = log_ratio < -_LARGEST_ENERGY_ERROR
    stretch, ends_here = _fold(momenta)
    ends_here |= diverged
    # Up to the first leaf that ends the trajectory: a chain on its own would have made no other.
    made = ends_here.cumsum(0) <= ends_here
    p = points.shape[-1]
    steps, acceptance, divergence = trees.results[:, 2 * p + 3 :].unbind(-1)
    steps += made.sum(0)
    acceptance += torch.where(made, log_ratio.clamp_max(0.0).exp(), 0.0).sum(0)
    divergence += (diverged & made).any(0)

    uniform = torch.rand(log_ratio.shape, generator=generator, dtype=log_ratio.dtype, device=log_ratio.device)
    arrival, which = (uniform.log().neg_().log_() - log_ratio).min(0)
    flat = which * len(which) + torch.arange(len(which), dtype=torch.int64, device=which.device)
    leaf = [
        points.flatten(0, 1).index_select(0, flat),
        gradients.flatten(0, 1).index_select(0, flat),
        log_density.flatten().index_select(0, flat).unsqueeze(-1),
        log_ratio.flatten().index_select(0, flat).unsqueeze(-1),
    ]
    half.chosen = torch.where((arrival < half.arrival).unsqueeze(-1), torch.cat(leaf, -1), half.chosen)
    half.arrival = torch.minimum(arrival, half.arrival)
    half.log_weight = torch.logaddexp(half.log_weight, log_ratio.logsumexp(0))
    half.point, half.momentum, half.gradient = points[-1], momenta[-1], gradients[-1]
    return stretch, ends_here.any(0)


def _attach(trees: _Trees, half: _NewHalf, stretch: _Stretch, generator: torch.Generator) -> torch.Tensor:
    """Add the new half to the trees; return where the whole turns back."""
    p = trees.total.shape[1]
    # Seen in the direction of growth, the old trajectory starts at its far end, whose momentum points the other way.
    sign = (2 * trees.side - 1).unsqueeze(-1)
    old = _Stretch(sign * trees.total, -trees.end(1 - trees.side)[:, p : 2 * p], trees.end(trees.side)[:, p : 2 * p])
    whole, turned = _join(old, stretch)
    trees.total = sign * whole.total
    trees.set_end(torch.cat([half.point, half.momentum, half.gradient], -1))
    uniform = torch.rand(turned.shape, generator=generator, dtype=half.point.dtype, device=half.point.device)
    taken = uniform.log() < half.log_weight - trees.log_weight  # biased towards the new, whatever the weights
    chosen, depth = trees.results[:, : 2 * p + 2], trees.results[:, 2 * p + 2]
    chosen.copy_(torch.where(taken.unsqueeze(-1), half.chosen, chosen))
    depth += 1
    trees.log_weight = torch.logaddexp(trees.log_weight, half.log_weight)
    return turned


def _fold(momenta: torch.Tensor) -> tuple[_Stretch, torch.Tensor]:
    """Join leaves ``(leaves, chains, p)``, a power of two, pairwise up to one stretch.

    Returns:
        The stretch, and where one that turns back has its last leaf, ``(leaves, chains)``.
    """
    turns_here = torch.zeros(momenta.shape[:2], dtype=torch.bool, device=momenta.device)
    stretches, length = _Stretch(momenta, momenta, momenta), 1
    while length < len(momenta):
        left, right = (_Stretch(*(part[offset::2] for part in stretches)) for offset in (0, 1))
        stretches, turned = _join(left, right, of_leaves=length == 1)
        length *= 2
        turns_here[length - 1 :: length] |= turned
    return _Stretch(*(part[0] for part in stretches)), turns_here


def _join(left: _Stretch, right: _Stretch, of_leaves: bool = False) -> tuple[_Stretch, torch.Tensor]:
    """Join two stretches, one after the other; say where the whole, or one with its neighbour's nearest leaf, turns."""
    whole = _Stretch(left.total + right.total, left.first, right.last)
    turned = _turns(whole)
    if not of_leaves:  # for two leaves, these are the whole again
        turned |= _turns(_Stretch(left.total + right.first, left.first, right.first))
        turned |= _turns(_Stretch(left.last + right.total, left.last, right.last))
    return whole, turned


def _turns(stretch: _Stretch) -> torch.Tensor:
    """Say where the sum of the momenta does not point forward at both ends."""
    start, end = (torch.linalg.vecdot(stretch.total, momentum) for momentum in (stretch.first, stretch.last))
    return torch.minimum(start, end) <= 0.0


def _write_finished(trees: _Trees, ended: torch.Tensor, finished: torch.Tensor) -> torch.Tensor | None:
    """Write the results of the trees that ended; return which go on, or None where all do. Waits for the device."""
    gone = ended.nonzero().squeeze(-1)
    if not len(gone):
        return None
    finished.index_copy_(0, trees.rows.index_select(0, gone), trees.results.index_select(0, gone))
    return (~ended).nonzero().squeeze(-1)
