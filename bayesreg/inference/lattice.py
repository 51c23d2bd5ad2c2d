"""A Markov step on a line for many chains at once: choose among the points of a lattice laid at random round each.

From x it draws a spacing h (by a law that does not depend on x) and a place k uniform on 0..P-1, lays the points x_i
= x + (i - k) h, and chooses x_i with probability proportional to its density. Seen from the chosen point, the same
lattice was as probable, since k is uniform: detailed balance holds for any density, with no rejection, and all P
densities are had in one batched evaluation. With several lattices the points are their grid. The spacing is a multiple
of half the mean square step, which in the long run is the variance of the density on the lattice: it shrinks where
chains stay, and grows where they go to an end, so it finds its size from far away.

Source: Neal, MCMC using ensembles of states for problems with fast and slow variables, arXiv:1101.0387 (2011), with the
lattice as the ensemble; Tjelmeland, Using all Metropolis-Hastings proposals to estimate mean values, NTNU (2004).
"""

from __future__ import annotations

import torch

# Points of a lattice and their spacing in standard deviations: the effective draws a second are flat near these, for a
# Gaussian as for a hump with a long tail. More points cost a matrix factorisation each.
NUM_POINTS = 6
_SPACING = 1.6
_JITTER = 0.25
# While learning, the spacing is the last one wanted for so many steps, then the average of those wanted after. One that
# is this much too wide, which a single step rarely makes it seem by chance, is made narrower at once.
_FOLLOWING = 10
_LARGEST_SHRINKAGE = 0.25


class RandomLattice:
    """Lattices of one coordinate, one a chain, and the spacing that they learn.

    Args:
        num_chains: Number of chains.
        pooled: Whether all chains share one spacing, learned from all of them: for chains with one target.
        like: Any tensor of the device and the dtype to use.
        width: About the density's standard deviation: sets the spacing until the lattice learns.

    Attributes:
        pooled: As given.
        spacing: The mean spacing, ``(chains, 1)``.

    Example:
        >>> on = {"dtype": torch.float64, "device": "cpu"}
        >>> generator = torch.Generator("cpu").manual_seed(0)
        >>> lattice, x = RandomLattice(500, True, torch.zeros((), **on), 1.0), torch.full((500,), 9.0, **on)
        >>> for _ in range(60):
        ...     steps, _ = lattice.lay(generator)
        ...     points = x.unsqueeze(-1) + steps
        ...     chosen, probabilities = choose(-0.5 * ((points - 2.0) / 0.1).square(), generator)
        ...     lattice.learn(steps, probabilities)
        ...     x = points.gather(1, chosen.unsqueeze(-1)).squeeze(-1)
        >>> round(float(x.mean()), 1), round(float(x.std()), 1)
        (2.0, 0.1)
    """

    def __init__(self, num_chains: int, pooled: bool, like: torch.Tensor, width: float):
        self._on = {"dtype": like.dtype, "device": like.device}
        self.pooled = pooled
        self._numbers = torch.arange(NUM_POINTS, **self._on)
        self._num_learned = 0
        self.spacing = torch.full((num_chains, 1), _SPACING * width, **self._on)

    def lay(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Lay a lattice round where each chain is.

        Args:
            generator: The source of randomness.

        Returns:
            The steps to its points ``(chains, P)``, and the place ``(chains,)`` of the one that is 0.
        """
        shape = self.spacing.shape
        place = torch.randint(NUM_POINTS, shape, generator=generator, device=self._on["device"], dtype=torch.int64)
        jitter = 1.0 + _JITTER * (2.0 * torch.rand(shape, generator=generator, **self._on) - 1.0)
        return (self._numbers - place) * (self.spacing * jitter), place.squeeze(-1)

    def learn(self, steps: torch.Tensor, probabilities: torch.Tensor) -> None:
        """Move the spacing towards what the density on a lattice asks for; during a warm-up only.

        Args:
            steps: As `lay` gave them.
            probabilities: Of these points, ``(chains, P)``.
        """
        variance = 0.5 * (probabilities * steps.square()).sum(-1, keepdim=True)
        if self.pooled:
            variance = variance.mean(0, keepdim=True)
        wanted, least = _SPACING * variance.sqrt(), _LARGEST_SHRINKAGE * self.spacing
        self._num_learned += 1
        average = torch.lerp(self.spacing, wanted.expand_as(least), 1.0 / max(1, self._num_learned - _FOLLOWING))
        self.spacing = torch.where(wanted < least, least, average)


def choose(log_density: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose one point in each row with probability proportional to its density.

    Args:
        log_density: ``(chains, points)``; minus infinity where a point is outside of the support, but not in a whole
            row.
        generator: The source of randomness.

    Returns:
        The places chosen ``(chains,)``, and all probabilities ``(chains, points)``.
    """
    probabilities = torch.softmax(log_density, dim=-1)
    cumulative = probabilities.cumsum(-1)
    uniform = torch.rand((len(cumulative), 1), generator=generator, dtype=cumulative.dtype, device=cumulative.device)
    # Strictly above: a point of no mass is never chosen, not by a uniform number of 0 either.
    return (cumulative <= uniform * cumulative[:, -1:]).sum(-1).clamp_max(cumulative.shape[1] - 1), probabilities
