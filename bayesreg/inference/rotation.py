"""One block of transitions of Hamiltonian Monte Carlo: the Gaussian part rotated exactly, a kick for the rest.

The chains move in whitened coordinates z, in which the density is about standard normal,

    x = x0 + L z,    -log density(x0 + L z) = |z|^2 / 2 + V(z),

so that V is small: it holds the kinks of a Laplace prior and the skewness of a learned scale.

A transition draws a momentum r ~ Normal(0, I) and makes K steps of h = a/K for an angle a, each of them

    r <- r - h/2 grad V(z);    (z, r) <- (z cos h + r sin h, r cos h - z sin h);    r <- r - h/2 grad V(z),

the middle one the exact flow of (|z|^2 + |r|^2) / 2. The end is accepted with probability min(1, exp(-error)), where
error is the change of |z|^2/2 + V(z) + |r|^2/2, which makes the law exact for any K, a, x0 and L. It costs K gradients,
since the last one serves the next transition.

Source: Shahbaba, Lan, Johnson and Neal, Split Hamiltonian Monte Carlo, Statistics and Computing 24 (2014), section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bayesreg.inference.normals import standard_normals


@dataclass(frozen=True)
class Coordinates:
    """x = centre + root z, ``(p,)`` and upper triangular ``(p, p)``."""

    centre: torch.Tensor
    root: torch.Tensor

    def points(self, positions: torch.Tensor) -> torch.Tensor:
        """Return x ``(..., p)`` of z ``(..., p)``."""
        return torch.addmm(self.centre, positions.flatten(0, -2), self.root.mT).view(positions.shape)

    def positions(self, points: torch.Tensor) -> torch.Tensor:
        """Return z ``(..., p)`` of x ``(..., p)``."""
        return torch.linalg.solve_triangular(self.root.mT, points - self.centre, upper=False, left=False)


@dataclass(frozen=True)
class State:
    """Where the chains are: z ``(chains, p)``, -grad V ``(chains, p)`` and the log density ``(chains,)``."""

    position: torch.Tensor
    force: torch.Tensor
    log_density: torch.Tensor


@dataclass
class Block:
    """Consecutive transitions: ``positions (n, chains, p)``; ``log_density``, ``energy``, ``error`` ``(n, chains)``.

    The first ``made`` of them are there.
    """

    positions: torch.Tensor
    log_density: torch.Tensor
    energy: torch.Tensor
    error: torch.Tensor
    made: int = 0

    @classmethod
    def empty(cls, transitions: int, state: State) -> Block:
        """Return room for so many transitions from a state."""
        numbers = [state.log_density.new_empty((transitions, *state.log_density.shape)) for _ in range(3)]
        return cls(state.position.new_empty((transitions, *state.position.shape)), *numbers)

    def acceptance(self) -> torch.Tensor:
        """Return the probabilities that the ends were accepted with."""
        return self.error.clamp_min(0.0).neg().exp().nan_to_num(0.0)


def evaluate(target: Any, coordinates: Coordinates, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log density at z and the force -grad V(z) = z + L' grad log density."""
    log_density, gradient = target.log_density_and_gradient(coordinates.points(position))
    return log_density, torch.addmm(position, gradient, coordinates.root)


def run_block(
    target: Any,
    coordinates: Coordinates,
    state: State,
    steps: int,
    angles: list[float],
    generator: torch.Generator,
    advance: Callable[[], None],
    block: Block | None = None,
) -> tuple[State, Block]:
    """Make one transition an angle, with random numbers drawn for all of them at once.

    Args:
        target: Anything with ``log_density_and_gradient``.
        coordinates: x0 and L.
        state: Where the chains are.
        steps: The number K of steps a transition.
        angles: The total angle a of each transition, the same for all chains.
        generator: The source of random numbers, on the device of the target.
        advance: Called once a transition.
        block: An empty block to write into, which has what was made where an interrupt ends this; None: a new one.

    Returns:
        The last state, and all of them.
    """
    block = Block.empty(len(angles), state) if block is None else block
    like = {"dtype": state.position.dtype, "device": state.position.device}
    shape = (len(angles), *state.log_density.shape)
    momenta = standard_normals((*shape, state.position.shape[-1]), generator, **like)
    kinetic = 0.5 * torch.linalg.vecdot(momenta, momenta)
    thresholds = torch.rand(shape, generator=generator, **like).log_().neg_()
    positions, log_density, energy, error = block.positions, block.log_density, block.energy, block.error
    for index, angle in enumerate(angles):
        start = kinetic[index] - state.log_density
        end, momentum = _trajectory(target, coordinates, state, momenta[index], angle / steps, steps)
        torch.sub(0.5 * torch.linalg.vecdot(momentum, momentum), end.log_density, out=energy[index])
        torch.sub(energy[index], start, out=error[index])
        accepted = error[index] < thresholds[index]  # false where the error is not a number
        rows = accepted.unsqueeze(-1)
        torch.where(accepted, energy[index], start, out=energy[index])
        torch.where(accepted, end.log_density, state.log_density, out=log_density[index])
        torch.where(rows, end.position, state.position, out=positions[index])
        state = State(positions[index], torch.where(rows, end.force, state.force), log_density[index])
        block.made = index + 1
        advance()
    return state, block


def _trajectory(
    target: Any, coordinates: Coordinates, state: State, momentum: torch.Tensor, step: float, steps: int
) -> tuple[State, torch.Tensor]:
    """Return where a trajectory ends, and its momentum, which takes the place of the one that it starts with."""
    cosine, sine = math.cos(step), math.sin(step)
    position, force = state.position, state.force
    momentum.add_(force, alpha=0.5 * step)
    for left in reversed(range(steps)):
        turned = torch.mul(position, cosine).add_(momentum, alpha=sine)
        momentum.mul_(cosine).sub_(position, alpha=sine)
        position = turned
        log_density, force = evaluate(target, coordinates, position)
        # Two half kicks at one place are one kick.
        momentum.add_(force, alpha=step if left else 0.5 * step)
    return State(position, force, log_density), momentum
