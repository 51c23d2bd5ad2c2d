"""Hamiltonian Monte Carlo for many chains at once: the Gaussian part rotated exactly, a kick for the rest.

What it draws from:
    the density exp(target.log_density(x)) of unconstrained points x (p,). All chains move together in z, where

        x = x0 + L z,    -log density(x0 + L z) = |z|^2 / 2 + V(z),

    by the transitions of `bayesreg.inference.rotation`, exact for any x0 and L; x0 is about the posterior mean, L L'
    about the inverse curvature there, or the covariance where that is another. A quarter turn forgets where it came
    from, so the angles have the mean pi/2; they vary by a fifth either way against periodic orbits.

Energy:
    -lp + |r|^2 / 2 of the state that a transition ends in, with the (whitened) momentum r that it arrives with; where
    the end is not accepted, that of the state that it started from.

Sources:
    Shahbaba, Lan, Johnson and Neal, Split Hamiltonian Monte Carlo, Statistics and Computing 24 (2014); Ledoit and Wolf,
    A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis 88 (2004),
    for the shrinkage of the covariance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import pyro
import torch

from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.progress import Bar, progress_bar
from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.inference.engine import EngineResult
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
from bayesreg.inference.rotation import Block, Coordinates, State, evaluate, run_block
from bayesreg.inference.whitening import inverse_root

# Standard deviations of the starting points in whitened coordinates: wider than the posterior, so that R-hat can tell
# chains that have not met; the narrower ones serve where the density is zero or not finite further out.
_START_SPREADS = (2.0, 1.0, 0.5, 0.1, 0.0)
_MEAN_ANGLE = math.pi / 2
_JITTER = 0.2
# Kicks a trajectory: at first, and at most.
_FIRST_STEPS = 4
_MOST_STEPS = 32
# An energy error above which a trajectory has diverged, as in Stan.
_DIVERGENCE = 1000.0
# Iterations of a stage of the warm-up: no fewer than the first, and enough for the second number of points in all.
_STAGE_ITERATIONS = 5
_STAGE_POINTS = 320
# Below this acceptance many points of a stage are still those that it started from, and teach nothing.
_LEAST_ACCEPTANCE = 0.5
# A chain all of whose transitions have a lower acceptance is stuck where the steps are too long for it, which the mean
# over all chains hides.
_LEAST_BEST_ACCEPTANCE = 0.05
# Where noise explains this share of a covariance's distance from the identity, there is nothing left to learn.
_SETTLED_SHRINKAGE = 0.5
# Standard errors by which the mean of a coordinate is off the centre for certain.
_CLEAR_ERRORS = 3.0
# The correlation with the starting points, which stand twice too wide, that counts as none.
_LARGEST_MEMORY = 0.15
_STATISTICS = ("lp", "energy", "n_steps", "acceptance_rate", "diverging", "step_size")
# Numbers a block of transitions may hold: its momenta stay in a core's cache, or fill a GPU.
_BLOCK_NUMBERS = {"cpu": 2**17, "cuda": 2**24}
# Chains that move together hold about so many numbers, and are no fewer than a product is quick for.
_NUMBERS_OF_CHAINS, _FEWEST_CHAINS = 2**14, 32


@one_thread()
@torch.no_grad()
def run(
    target: Any,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    progress: bool = False,
    target_acceptance: float = 0.7,
) -> EngineResult:
    """Draw from a target with all chains in one batch.

    Args:
        target: The log density: a `bayesreg.target.Target`, or anything with its methods.
        draws: Draws a chain, after warm-up.
        tune: Warm-up iterations at most. Warm-up stops when the chains have forgotten where they started, the metric
            fits and the kicks are enough: 10 to 40 iterations as a rule, more with few chains. It learns from whole
            stages of 320 / ``chains`` iterations, 5 at least: fewer than one stage teach it nothing.
        chains: Number of chains, which share metric and number of kicks.
        seed: Seeds the draws.
        progress: Whether to show a bar.
        target_acceptance: The fewest kicks are made whose mean acceptance probability reaches this; a single one must
            come halfway from it to 1.

    Returns:
        Draws ``(chains, draws, ...)``; ``lp``, ``energy``, ``n_steps`` (the kicks K), ``acceptance_rate`` (the
        probability that the end was accepted with), ``diverging`` and ``step_size`` (the angle a step, a/K), each
        ``(chains, draws)``; in ``details`` the metric, the iterations of warm-up, and the gradients, each for all
        chains at once, and seconds of warm-up and sampling; and ``settled``, whether warm-up ended by itself, after a
        whole stage. With one chain it never does: only chains side by side show that they forgot where they started.

    Raises:
        ValueError: ``target_acceptance`` is not inside (0, 1).
        Interrupted: An interrupt ended the draws early.
    """
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must be above 0 and below 1, got {target_acceptance!r}")
    generator = torch.Generator(target.device).manual_seed(chain_seed(seed, 0))
    together = _chains_at_once(target, chains)
    firsts = range(0, chains, together)
    began = time.perf_counter()
    with (
        pyro.validation_enabled(False),  # a diverging trajectory leaves every support
        progress_bar(progress, f"hmc, {chains} chains", tune + draws * len(firsts)) as bar,
    ):
        bar.describe("warm-up")
        warmed = _warm_up(target, tune, chains, target_acceptance, generator, bar)
        warmed_up = time.perf_counter()
        bar.skip(tune - warmed.iterations)
        bar.describe("draws", step_size=_MEAN_ANGLE / warmed.steps, divergent=0)
        records = {first: Record(min(together, chains - first), draws) for first in firsts}

        def draw(first: int, go_on: Callable[[], None]) -> None:
            own = torch.Generator(target.device).manual_seed(chain_seed(seed, 1 + first))
            _draw(target, warmed, slice(first, first + together), records[first], own, bar, go_on)

        with kept_if_interrupted(records.values()) as making:
            in_parallel(draw, firsts)
    named = joined(list(records.values()))
    statistics = {name: named.pop(name) for name in _STATISTICS}
    chains, draws = statistics["lp"].shape
    num_divergent = int(statistics["diverging"].sum())
    result = EngineResult(
        named,
        statistics,
        message=(
            f"HMC: {chains} chains of {draws} draws after {warmed.iterations} warm-up iterations, {warmed.steps} "
            f"kick{'s' * (warmed.steps > 1)} a draw, {num_divergent} divergent"
        ),
        details={
            "tune": warmed.iterations,
            "target_acceptance": float(target_acceptance),
            "steps": warmed.steps,
            "metric": warmed.metric,
            "settled": warmed.settled,
            "warmup_gradients": warmed.gradients,
            "sampling_gradients": draws * warmed.steps,
            "warmup_seconds": warmed_up - began,
            "sampling_seconds": time.perf_counter() - warmed_up,
        },
    )
    return finished(making, result)


@dataclass(frozen=True)
class _Warmed:
    """What the draws start from, and what it took."""

    coordinates: Coordinates
    state: State
    steps: int
    iterations: int
    gradients: int
    metric: str
    settled: bool


# --- warm-up


def _warm_up(
    target: Any,
    tune: int,
    chains: int,
    target_acceptance: float,
    generator: torch.Generator,
    bar: Bar,
) -> _Warmed:
    """Bring the chains to the posterior, and fit centre, metric and the number of kicks, stage by stage.

    The curvature at the starting point serves until chains move, the curvature at their mean from then on, and the
    covariance of their points where it says more than the curvature does.

    Args:
        target: The log density.
        tune: Iterations at most.
        chains: Number of chains.
        target_acceptance: The mean acceptance wanted.
        generator: The source of random numbers.
        bar: Told of each iteration.

    Returns:
        Where the chains are, with what they go on.
    """
    starts = target.starts()
    coordinates = Coordinates(starts[0], inverse_root(target.curvature(starts[0])))
    state = _starting_state(target, coordinates, starts, chains, generator)
    begin = coordinates.points(state.position)
    length = max(_STAGE_ITERATIONS, math.ceil(_STAGE_POINTS / chains))
    iterations, gradients, steps, too_few = 0, len(_START_SPREADS), _FIRST_STEPS, 0
    # With few chains, chance alone correlates more.
    largest_memory = max(_LARGEST_MEMORY, 1.5 / math.sqrt(chains))
    metric, recentred, settled = "known curvature", False, False
    while iterations < tune and not settled:
        angles = _angles(iterations, min(length, tune - iterations))
        bar.describe(step_size=_MEAN_ANGLE / steps)
        state, block = run_block(target, coordinates, state, steps, angles, generator, bar.advance)
        iterations += len(angles)
        gradients += steps * len(angles)
        if len(angles) < length:
            break  # Cut short by `tune`: that moves the chains, but a few points say nothing of metric and kicks.
        evidence = _judge(block, coordinates, begin)
        # The one place where a stage waits for the device.
        acceptance, best, shrinkage, memory = evidence.numbers.tolist()
        moving = acceptance >= _LEAST_ACCEPTANCE
        fits = moving and recentred and shrinkage >= _SETTLED_SHRINKAGE
        stuck = moving and recentred and best < _LEAST_BEST_ACCEPTANCE
        if stuck or (fits and not _enough(steps, acceptance, target_acceptance)):
            too_few = max(too_few, steps)
        wanted = max(_steps_for(acceptance, steps, target_acceptance), 2 * steps if stuck else too_few + 1)
        wanted = min(wanted, 2 * steps, _MOST_STEPS)
        settled = fits and memory <= largest_memory and wanted == steps
        if moving:
            points = coordinates.points(state.position)
            if recentred:
                coordinates = evidence.refined
                metric = metric if fits else "pooled covariance"
            else:
                centre = evidence.refined.centre
                coordinates = Coordinates(centre, inverse_root(target.curvature(centre)))
                recentred = True
            position = coordinates.positions(points)
            log_density, force = evaluate(target, coordinates, position)
            state = State(position, force, log_density)
            gradients += 1
        steps = wanted
    return _Warmed(coordinates, state, steps, iterations, gradients, metric, settled)


def _starting_state(
    target: Any, coordinates: Coordinates, starts: torch.Tensor, chains: int, generator: torch.Generator
) -> State:
    """Draw a starting point for each chain round one of some ``(k, p)``, the widest at which the density is finite."""
    centre = coordinates.centre
    normals = torch.randn((chains, centre.shape[0]), generator=generator, dtype=centre.dtype, device=centre.device)
    spreads = torch.tensor(_START_SPREADS, dtype=centre.dtype, device=centre.device)
    chain = torch.arange(chains, dtype=torch.int64, device=centre.device)
    candidates = coordinates.positions(starts)[chain % len(starts)] + spreads[:, None, None] * normals
    log_density, force = evaluate(target, coordinates, candidates.flatten(0, 1))
    log_density, force = log_density.view(-1, chains), force.view_as(candidates)
    usable = log_density.isfinite() & force.isfinite().all(-1)
    widest = usable.to(torch.int64).argmax(0)
    return State(candidates[widest, chain], force[widest, chain], log_density[widest, chain])


@dataclass(frozen=True)
class _Evidence:
    """What a stage says: coordinates refined by its mean and covariance, and four ``numbers (4,)``.

    The mean acceptance; the best acceptance of a transition that the worst chain had; the weight of the identity in the
    covariance of z, near 1 where the metric fits as well as can be told; and the largest regression coefficient, over
    parameters, of the later half of the stage on the point that the warm-up started from.
    """

    refined: Coordinates
    numbers: torch.Tensor


def _judge(block: Block, coordinates: Coordinates, begin: torch.Tensor) -> _Evidence:
    """Read a stage that ran in some coordinates, of a warm-up that started from the points ``(chains, p)``."""
    best = block.acceptance().amax(0).amin()
    acceptance = block.acceptance().mean()
    # Rejected transitions repeat a point: of those, independent ones accepted with probability a count a / (2 - a).
    worth = acceptance / (2.0 - acceptance)
    later = block.positions[len(block.positions) // 2 :]
    pooled = block.positions.flatten(0, 1)
    covariance, shrinkage = _shrunk_covariance(pooled, pooled.shape[0] * worth)
    # Upper triangular, as the root is: the Cholesky factor of the matrix turned upside down, turned back.
    factor = torch.linalg.cholesky_ex(covariance.flip(0, 1))[0].flip(0, 1)
    mean = later.flatten(0, 1).mean(0)
    # Only where it is clear that a coordinate is off its centre: the noise of 1,000 means is a long way together.
    clear = mean.abs() > _CLEAR_ERRORS / (later.shape[0] * later.shape[1] * worth).sqrt()
    centre = coordinates.points(torch.where(clear, mean, 0.0).unsqueeze(0))[0]
    refined = Coordinates(centre, coordinates.root @ factor)
    start = begin - begin.mean(0)
    end = coordinates.points(later.mean(0))
    memory = ((end - end.mean(0)) * start).sum(0) / start.square().sum(0)
    largest = memory.abs().nan_to_num(math.inf).amax()
    return _Evidence(refined, torch.stack([acceptance, best, shrinkage, largest]))


def _shrunk_covariance(pooled: torch.Tensor, num_independent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1 - w) S + w m I and w, for the covariance S of points ``(N, p)`` that are worth n independent ones.

    m is the mean variance. The expected squared error, summed over entries, is least at w = E|S - E S|^2 / E|S - m
    I|^2; for Gaussian points an entry of S has the variance (S_ii S_jj + S_ij^2) / n. Where w says that there is
    nothing left to learn, m I takes the place of the mixture, whose p^2 entries would bring noise alone. Points that
    are all the same say nothing: I.
    """
    departure = pooled - pooled.mean(0)
    covariance = departure.mT @ departure / pooled.shape[0]
    identity = torch.eye(covariance.shape[0], dtype=pooled.dtype, device=pooled.device)
    variance = covariance.diagonal().mean()
    moved = variance > 0
    scaled = identity * torch.where(moved, variance, 1.0)
    noise = (covariance.diagonal().sum().square() + covariance.square().sum()) / num_independent
    weight = torch.where(moved, noise / (covariance - scaled).square().sum(), 1.0).clamp_max(1.0)
    return torch.lerp(covariance, scaled, torch.where(weight < _SETTLED_SHRINKAGE, weight, 1.0)), weight


def _enough(steps: int, acceptance: float, target_acceptance: float) -> bool:
    """Say whether an acceptance is high enough for a number of kicks."""
    # A single step meets the force at its two ends alone and loses its way in the tails: there its rejections come in
    # long runs, while the mean acceptance still looks fair.
    return acceptance >= (target_acceptance if steps > 1 else 0.5 * (1.0 + target_acceptance))


def _steps_for(acceptance: float, steps: int, target_acceptance: float) -> int:
    """Return how many kicks the acceptance wanted takes, from the one at another number of them.

    With an energy error ~ Normal(s^2/2, s^2) the acceptance is 2 Phi(-s/2). s falls as 1/K where kinks make the error,
    as 1/K^2 where the density is smooth: 1/K is the careful guess downwards, and the next stage tries it.
    """
    error = steps * -NormalDist().inv_cdf(0.5 * min(max(acceptance, 1e-3), 1.0 - 1e-9))
    for wanted in range(1, _MOST_STEPS):
        if _enough(wanted, 2.0 * NormalDist().cdf(-error / wanted), target_acceptance):
            return wanted
    return _MOST_STEPS


# --- sampling


def _angles(first: int, count: int) -> list[float]:
    """Return angles of the van der Corput sequence: the binary digits of 1, 2, 3, ..., mirrored at the point."""
    fractions = [int(f"{index:b}"[::-1], 2) / 2 ** index.bit_length() for index in range(first + 1, first + count + 1)]
    return [_MEAN_ANGLE * (1.0 + _JITTER * (2.0 * fraction - 1.0)) for fraction in fractions]


def _chains_at_once(target: Any, chains: int) -> int:
    """Return how many chains move together after the warm-up, by shape and kind of device alone.

    What is a long product for fewer chains is no longer for them, and leaves the others to another thread.
    """
    if target.device.type != "cpu":
        return chains
    most = max(_FEWEST_CHAINS, _NUMBERS_OF_CHAINS // target.num_parameters)
    return -(-chains // -(-chains // most))


@torch.no_grad()  # it may run on a thread of its own
def _draw(
    target: Any,
    warmed: _Warmed,
    which: slice,
    record: Record,
    generator: torch.Generator,
    bar: Bar,
    go_on: Callable[[], None],
) -> None:
    """Record constrained draws and statistics of some chains, made block by block."""
    state = State(*(part[which] for part in (warmed.state.position, warmed.state.force, warmed.state.log_density)))
    chains, num_parameters = state.position.shape
    size = max(1, _BLOCK_NUMBERS[target.device.type] // (chains * num_parameters))
    all_angles = _angles(warmed.iterations, record.draws)
    step_sizes = torch.tensor(all_angles, dtype=target.dtype, device=target.device) / warmed.steps

    def moved() -> None:
        go_on()
        bar.advance()

    for first in range(0, record.draws, size):
        angles = all_angles[first : first + size]
        block = Block.empty(len(angles), state)
        try:
            state, _ = run_block(target, warmed.coordinates, state, warmed.steps, angles, generator, moved, block)
        finally:  # an interrupt leaves the transitions that are made
            columns = {
                "lp": block.log_density,
                "energy": block.energy,
                "n_steps": torch.full_like(block.error, warmed.steps, dtype=torch.int64),
                "acceptance_rate": block.acceptance(),
                "diverging": ~(block.error <= _DIVERGENCE),  # as a number that is none has
                "step_size": step_sizes[first : first + size, None].expand_as(block.error),
            }
            bar.count(divergent=columns["diverging"][: block.made].sum())
            # The whole block, so that it rounds alike however much of it is made.
            columns |= target.constrain(warmed.coordinates.points(block.positions))
            record.write({name: values.transpose(0, 1) for name, values in columns.items()}, block.made)
