"""The no-U-turn sampler with all chains in one batch: the reference engine, for any target.

What it draws from:
    the density exp(target.log_density(x)) of unconstrained points x (p,), with the transitions of
    `bayesreg.inference.trajectory_trees`, in the coordinates

        x = x0 + L z,   L L' = H^-1,   H = target.curvature(x0),   x0 = target.starts()[0].

Warm-up:
    The metric is known beforehand, and many chains say much in few iterations: warm-up ends as soon as the one step
    size of all chains has settled and the chains have met, at the latest after ``tune`` iterations. Where the
    covariance S of z, pooled over chains, is far from the identity (a prior that dominates, a curvature that is not
    that of the bulk), L chol(S) takes the place of L, and keeps it if trajectories are shorter then.

Memory:
    Chains run in blocks of fixed size and draws go to the host in blocks, so that what is held on the device does not
    grow with the number of draws.

Source:
    Hoffman and Gelman, The No-U-Turn Sampler, JMLR 15 (2014), and the sources of `trajectory_trees`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import pyro
import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.progress import Bar, progress_bar
from bayesreg.computing.threads import one_thread
from bayesreg.engines import NUTS_CHAINS_AT_ONCE
from bayesreg.inference.adaptation import StepSize, chains_have_met, initial_step_size, pooled_covariance
from bayesreg.inference.engine import EngineResult
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
from bayesreg.inference.trajectory_trees import States, Transition, transition
from bayesreg.inference.whitening import inverse_root

# Draws that wait on the device before they go to the host.
_DRAWS_BLOCK = 64
# Standard deviations of the starting points in whitened coordinates: wider than the posterior, so that R-hat can tell
# chains that have not met; the narrower ones serve where the density is zero or not finite further out.
_START_SPREADS = (2.0, 1.0, 0.5, 0.1, 0.0)
# Warm-up is looked at after so many iterations: to look is to wait for the device.
_LOOK_EVERY = 5
# Iterations before a metric is given up in which the chains do not meet; twice as many the next time.
_PATIENCE = 25
# Iterations at a step that suits the chain furthest out: each new momentum takes half of its excess of energy away.
_OPENING = 5
# What chains are judged by: iterations, pooled draws, and pooled draws a parameter, which a covariance takes, too.
_LEAST_WINDOW = 10
_WINDOW_DRAWS = 1000
_DRAWS_PER_PARAMETER = 10
# Where the longest and the shortest standard deviation in z differ by less, L is good enough.
_LARGEST_SPREAD = 2.0


@one_thread()
def run(
    target: Any,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    progress: bool = False,
    max_tree_depth: int = 10,
    target_acceptance: float = 0.9,
) -> EngineResult:
    """Draw from a target with all chains at once.

    Chains share a step size and a metric, adapted to all of them; the law of a chain's draws does not depend on how
    many there are, its numbers do.

    Args:
        target: The log density: a `bayesreg.target.Target`, or anything with its methods.
        draws: Draws a chain, after warm-up.
        tune: The most warm-up iterations; none of them is kept.
        chains: Number of chains.
        seed: Seed of the run.
        progress: Whether to show a bar.
        max_tree_depth: Largest number of doublings of a trajectory.
        target_acceptance: Mean acceptance probability that the step size is adapted to. At the usual 0.8 a model with
            a learned prior scale has a few divergent transitions in 16,000 where nothing is
            wrong; at 0.9, for half as many steps again, none.

    Returns:
        Draws ``(chains, draws, ...)`` and ``lp``, ``energy``, ``tree_depth``, ``n_steps``, ``acceptance_rate``,
        ``diverging`` and ``step_size``, each ``(chains, draws)``, all on the host; in ``details``, the warm-up
        iterations made, the metric, and the seconds and leapfrog steps of warm-up and sampling, all chains together.

    Raises:
        TypeError: ``max_tree_depth`` is no integer.
        ValueError: ``max_tree_depth`` is below 1, or ``target_acceptance`` not inside (0, 1).
        Interrupted: An interrupt ended the draws early.
    """
    max_tree_depth = check_whole_number(max_tree_depth, "max_tree_depth", 1)
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must be above 0 and below 1, got {target_acceptance!r}")
    began = time.perf_counter()
    with (
        pyro.validation_enabled(False),  # a diverging trajectory leaves every support
        progress_bar(progress, f"nuts, {chains} chains", tune + draws) as bar,
    ):
        starts = target.starts()
        with torch.enable_grad():
            root = inverse_root(target.curvature(starts[0]))
        generator = torch.Generator(target.device).manual_seed(chain_seed(seed, 0))
        sampler = _Sampler(target, generator, max_tree_depth)
        states = _starting_states(target, starts, root, chains, generator)
        bar.describe("warm-up")
        warm_up = _warm_up(sampler, states, root, tune, target_acceptance, bar)
        warmed_up = time.perf_counter()
        bar.skip(tune - warm_up.iterations)
        bar.describe("draws", step_size=warm_up.step_size, divergent=0)
        record = Record(chains, draws, torch.device("cpu"))
        with kept_if_interrupted([record]) as making:
            _sample(sampler, warm_up, record, bar)
    named = joined([record])
    sample_stats = {name: named.pop(name) for name in ("lp", *Transition._fields)}
    draws = sample_stats["lp"].shape[1]
    step_size = float(warm_up.step_size)
    num_divergent = int(sample_stats["diverging"].sum())
    result = EngineResult(
        draws=named,
        sample_stats=sample_stats | {"step_size": torch.full_like(sample_stats["lp"], step_size)},
        message=f"NUTS: {chains} chains of {draws} draws after {warm_up.iterations} warm-up iterations, "
        f"{num_divergent} divergent",
        details={
            "tune": warm_up.iterations,
            "settled": warm_up.done,
            "metric": "pooled covariance" if warm_up.refined else "known curvature",
            "step_size": step_size,
            "target_acceptance": float(target_acceptance),
            "max_tree_depth": max_tree_depth,
            "warmup_seconds": warmed_up - began,
            "sampling_seconds": time.perf_counter() - warmed_up,
            "warmup_steps": int(warm_up.num_steps),
            "sampling_steps": int(sample_stats["n_steps"].sum()),
        },
    )
    return finished(making, result)


@dataclass
class _Sampler:
    """Transitions of all chains, one block after the other."""

    target: Any
    generator: torch.Generator
    max_tree_depth: int

    def move(self, states: States, root: torch.Tensor, step_size: torch.Tensor) -> tuple[States, Transition]:
        moved = [
            transition(self.target, States(*block), root, step_size, self.generator, self.max_tree_depth)
            for block in zip(*(part.split(NUTS_CHAINS_AT_ONCE) for part in states), strict=True)
        ]
        if len(moved) == 1:
            return moved[0]
        states, transitions = (
            type(parts[0])(*(torch.cat(blocks) for blocks in zip(*parts, strict=True)))
            for parts in zip(*moved, strict=True)
        )
        return states, transitions


@dataclass
class _WarmUp:
    """What warm-up hands over, and how it went: ``done`` where it ended before the last iteration allowed."""

    states: States
    root: torch.Tensor
    step_size: torch.Tensor
    iterations: int
    num_steps: torch.Tensor
    refined: bool
    done: bool


class _Stage:
    """The iterations of warm-up in one metric."""

    def __init__(self, sampler: _Sampler, states: States, root: torch.Tensor, target_acceptance: float):
        self.root, self.iterations = root, 0
        chains, p = states.points.shape
        momenta = _standard_normal((chains, p), sampler.generator, states.points)
        first = initial_step_size(sampler.target, states.points, root, momenta, target_acceptance)
        self.step = StepSize(first, target_acceptance)
        # Twice what is judged at a time: the latter half of the stage, or of this window.
        window = 2 * max(_LEAST_WINDOW, math.ceil(max(_WINDOW_DRAWS, _DRAWS_PER_PARAMETER * p) / chains))
        self._history: deque[tuple[torch.Tensor, ...]] = deque(maxlen=window)

    def record(self, states: States, moved: Transition) -> None:
        self.iterations += 1
        self.step.update(moved.acceptance_rate.mean())
        self._history.append((states.points, states.log_density, moved.n_steps))

    def _recent(self) -> list[torch.Tensor]:
        """Return points, log density and steps of the latter half, ``(chains, draws, ...)``."""
        return [torch.stack(parts, 1) for parts in zip(*list(self._history)[len(self._history) // 2 :], strict=True)]

    def settled(self) -> bool:
        if self.iterations < 2 * _LOOK_EVERY:
            return False
        points, log_density, _ = self._recent()
        met = chains_have_met(torch.cat([points, log_density.unsqueeze(-1)], -1))
        return bool(met & self.step.settled())

    def cost(self) -> float:
        """Return the mean number of leapfrog steps a transition."""
        return float(self._recent()[2].double().mean())

    def better_root(self) -> torch.Tensor | None:
        """Return a root of the pooled covariance, or None where there are too few draws or it is much the same."""
        points = self._recent()[0]
        chains, num_draws, p = points.shape
        if chains * num_draws < _DRAWS_PER_PARAMETER * p:
            return None
        covariance = pooled_covariance(points @ torch.linalg.inv(self.root).T)
        variances = torch.linalg.eigvalsh(covariance.cpu())  # a small one: not work for a GPU
        if float(variances[-1] / variances[0]) < _LARGEST_SPREAD**2:
            return None
        return self.root @ torch.linalg.cholesky(covariance)


def _warm_up(
    sampler: _Sampler,
    states: States,
    root: torch.Tensor,
    tune: int,
    target_acceptance: float,
    bar: Bar,
) -> _WarmUp:
    """Move the chains to where the density is, and find the step size and the metric, in `tune` iterations at most."""
    stage, before = _Stage(sampler, states, root, target_acceptance), None
    chains, p = states.points.shape
    # Long enough for the latter half to have the draws that a covariance takes.
    patience = max(_PATIENCE, 2 * math.ceil(_DRAWS_PER_PARAMETER * p / chains))
    refining, done = True, False
    num_steps = torch.zeros((), dtype=torch.int64, device=root.device)
    iterations = 0
    while iterations < tune and not done:
        states, moved = sampler.move(states, stage.root, stage.step.value)
        num_steps += moved.n_steps.sum()
        iterations += 1
        bar.advance()
        bar.describe(step_size=stage.step.value)
        if iterations < _OPENING:
            continue
        if iterations == _OPENING:
            stage = _Stage(sampler, states, root, target_acceptance)
            continue
        stage.record(states, moved)
        if stage.iterations % _LOOK_EVERY:
            continue
        settled = stage.settled()
        if not settled and stage.iterations < patience:
            continue
        if before is not None and stage.cost() >= before.cost():  # no gain: back to the metric before, and stay there
            stage, before, refining = _Stage(sampler, states, before.root, target_acceptance), None, False
            continue
        better = stage.better_root() if refining else None
        if better is not None:
            stage, before = _Stage(sampler, states, better, target_acceptance), stage
        done = settled and better is None
        if not settled:
            patience *= 2
    return _WarmUp(states, stage.root, stage.step.final(), iterations, num_steps, stage.root is not root, done)


def _sample(sampler: _Sampler, warm_up: _WarmUp, record: Record, bar: Bar) -> None:
    """Record constrained draws and statistics."""
    states, draws = warm_up.states, record.draws
    for first in range(0, draws, _DRAWS_BLOCK):
        made = []
        try:
            for _ in range(min(_DRAWS_BLOCK, draws - first)):
                states, moved = sampler.move(states, warm_up.root, warm_up.step_size)
                made.append({"points": states.points, "lp": states.log_density} | moved._asdict())
                bar.advance()
                bar.count(divergent=moved.diverging.sum())
        finally:  # an interrupt leaves the draws that are made
            if made:
                block = {name: torch.stack([one[name] for one in made], 1) for name in made[0]}
                record.write(sampler.target.constrain(block.pop("points")) | block)


def _starting_states(
    target: Any, starts: torch.Tensor, root: torch.Tensor, chains: int, generator: torch.Generator
) -> States:
    """Draw a starting point for each chain round one of some ``(k, p)``, the widest at which the density is finite."""
    z = _standard_normal((chains, len(root)), generator, root)
    spreads = torch.tensor(_START_SPREADS, dtype=z.dtype, device=z.device)
    chain = torch.arange(chains, dtype=torch.int64, device=z.device)
    candidates = starts[chain % len(starts)] + spreads[:, None, None] * (z @ root.T)
    log_density, gradients = target.log_density_and_gradient(candidates)
    usable = log_density.isfinite() & gradients.isfinite().all(-1)
    chosen = usable.to(torch.int64).argmax(0)
    return States(*(values[chosen, chain] for values in (candidates, log_density, gradients)))


def _standard_normal(shape: tuple[int, ...], generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
