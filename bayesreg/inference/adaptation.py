"""What a warm-up of many chains adapts: one step size for all of them, the pooled covariance, and when to stop.

Many chains at once say in a few iterations what one says in hundreds: the mean acceptance over them has little noise,
their points at one moment already have the covariance of the target, and whether they have met can be seen. Only the
search for a first step size waits for the device.

Sources:
    Dual averaging: Hoffman and Gelman, The No-U-Turn Sampler, JMLR 15 (2014), section 3.2, with its constants.
    R-hat: Gelman et al., Bayesian Data Analysis (3rd edition, 2013), section 11.4.
"""

from __future__ import annotations

import math
from typing import Any

import torch

# Constants of dual averaging: how hard the deficit pulls (gamma), how many early iterations are damped (t0), and how
# fast the average forgets (kappa).
_PULL = 0.05
_DAMPED_ITERATIONS = 10
_FORGETTING = 0.75
# Powers of two among which the first step size is: from the limit of stability at unit scale downwards.
_FIRST_POWERS = range(1, -21, -1)
# Where the acceptance is 1 whatever the step (a flat density), the step would grow for ever.
_STEP_SIZES = (1e-10, 1e3)
# A step size has settled when its average moved less than this (relative) over so many updates.
_SETTLED_CHANGE = 0.1
_SETTLED_UPDATES = 5
# Chains have met when R-hat is below this. Looser than what draws are judged by: starting points are enough.
_LARGEST_R_HAT = 1.1


class StepSize:
    """Dual averaging of one step size towards a wanted mean acceptance.

    With the deficit h_t = mean over iterations of (wanted - acceptance), damped at first, update t sets

        log step_t = log step_0 - sqrt(t)/gamma h_t,     log average_t = t^-kappa log step_t + (1 - t^-kappa) log
        average_{t-1},

    both kept inside fixed bounds. The iterations use `value`, what comes after them `final`.

    Args:
        initial: A first step size, a tensor ``()`` on the device of the chains.
        target_acceptance: The mean acceptance wanted.

    Attributes:
        value: Step size of the next iteration, a tensor ``()``.
        num_updates: How often it was updated.

    Example:
        >>> step = StepSize(torch.tensor(1.0, dtype=torch.float64, device="cpu"), target_acceptance=0.8)
        >>> for _ in range(200):
        ...     step.update(torch.exp(-step.value))  # an acceptance that falls with the step: 0.8 at 0.223
        >>> round(float(step.final()), 1)
        0.2
    """

    def __init__(self, initial: torch.Tensor, target_acceptance: float):
        self.value = initial.clamp(*_STEP_SIZES)
        self.num_updates = 0
        self._target_acceptance = target_acceptance
        self._first = self.value.log()
        self._deficit = torch.zeros_like(self._first)
        self._averages = [self._first]

    def update(self, acceptance: torch.Tensor) -> None:
        """Take in the mean acceptance ``()`` of an iteration at `value`."""
        self.num_updates += 1
        weight = 1.0 / (self.num_updates + _DAMPED_ITERATIONS)
        self._deficit = torch.lerp(self._deficit, self._target_acceptance - acceptance, weight)
        logarithm = self._first - (math.sqrt(self.num_updates) / _PULL) * self._deficit
        logarithm = logarithm.clamp(math.log(_STEP_SIZES[0]), math.log(_STEP_SIZES[1]))
        average = torch.lerp(self._averages[-1], logarithm, self.num_updates**-_FORGETTING)
        self._averages = [*self._averages[-_SETTLED_UPDATES:], average]
        self.value = logarithm.exp()

    def final(self) -> torch.Tensor:
        """Return the averaged step size ``()``."""
        return self._averages[-1].exp()

    def settled(self) -> torch.Tensor:
        """Say whether the average has stopped moving, as a boolean tensor ``()``."""
        if self.num_updates <= _SETTLED_UPDATES:
            return torch.zeros_like(self._first, dtype=torch.bool)
        return (self._averages[-1] - self._averages[0]).abs() < _SETTLED_CHANGE


def initial_step_size(
    target: Any, points: torch.Tensor, root: torch.Tensor, momenta: torch.Tensor, target_acceptance: float
) -> torch.Tensor:
    """Return the largest power of two, 2^-20 to 2, at which one leapfrog step suits every chain.

    The mean acceptance must be as wanted, and no chain's below half of that: where the density has light tails, a step
    for the bulk leaves chains that started further out where they are, for ever, and hardly shows in the mean.

    Args:
        target: Anything with ``log_density_and_gradient``.
        points: Where the chains are, ``(chains, p)``.
        root: L ``(p, p)``: the coordinates z with x = x0 + L z have about unit scale.
        momenta: Standard normal ``(chains, p)``, the velocity in z.
        target_acceptance: The mean acceptance wanted.

    Returns:
        A tensor ``()``.
    """
    log_density, gradient = target.log_density_and_gradient(points)
    kick, kinetic = 0.5 * gradient @ root, 0.5 * momenta.square().sum(-1)
    for power in _FIRST_POWERS:
        step = 2.0**power
        halfway = momenta + step * kick
        end_density, end_gradient = target.log_density_and_gradient(points + step * (halfway @ root.T))
        end = halfway + step * 0.5 * (end_gradient @ root)
        log_ratio = end_density - log_density + kinetic - 0.5 * end.square().sum(-1)
        acceptance = log_ratio.clamp_max(0.0).exp().nan_to_num(0.0)
        if bool((acceptance.mean() >= target_acceptance) & (acceptance.amin() >= 0.5 * target_acceptance)):
            break
    return torch.full_like(log_density[0], step)


def pooled_covariance(points: torch.Tensor) -> torch.Tensor:
    """Return the covariance of the draws of all chains, shrunk towards the identity.

    With N draws the weight of the identity is p / (N + p): it stands for p draws more, from a target that has unit
    scale already. So the coordinates should be those in which that was the guess.

    Args:
        points: ``(chains, draws, p)``.

    Returns:
        Symmetric positive definite ``(p, p)``.
    """
    pooled = points.flatten(0, 1)
    num_draws, num_parameters = pooled.shape
    departure = pooled - pooled.mean(0)
    identity = torch.eye(num_parameters, dtype=points.dtype, device=points.device)
    return (departure.T @ departure + num_parameters * identity) / (num_draws + num_parameters)


def chains_have_met(points: torch.Tensor) -> torch.Tensor:
    """Say whether chains give one answer, as a boolean tensor ``()``.

    Every chain is split into its halves, with means a_c and b_c over a half. What chains keep of where they started
    shows in the covariance of a_c and b_c over chains, and what they have in common of it in a difference of the means
    A and B over chains. Both are compared with the variance W within halves:

        max over quantities of  (cov(a, b) + (A - B)^2 / 4) / W  <  1.1^2 - 1,

    what R-hat < 1.1 asks for, R-hat^2 = 1 + between/within. R-hat takes the variance of a_c for the covariance, so in
    halves of m draws it stands at noise of the order 1/m, however many chains there are; the covariance tends to 0 with
    their number, and a few iterations of many chains are enough.

    Args:
        points: Latest draws ``(chains, draws, q)``, 4 draws at least.

    Returns:
        Whether they have; not where a quantity is not finite.
    """
    half = points.shape[1] // 2
    first, last = points[:, :half], points[:, -half:]
    within = 0.5 * (first.var(1) + last.var(1)).mean(0)
    first, last = first.mean(1), last.mean(1)
    common = 0.25 * (first.mean(0) - last.mean(0)).square()
    departures = (first - first.mean(0)) * (last - last.mean(0))
    between = common + departures.sum(0) / max(1, len(points) - 1)  # one chain has nothing but its trend
    return (between <= (_LARGEST_R_HAT**2 - 1.0) * within).all()
