"""Pyro's no-U-turn sampler: on the fused density, or on the Pyro program itself.

What it draws from:
    the density exp(target.log_density(x)) of unconstrained points x (p,). By default the chain moves in z, where

        x = x0 + L z,   L L' = H^-1,   H = target.curvature(x0),   x0 = target.starts()[0],

    a dense metric known beforehand: the density of z has about unit covariance from the first iteration. Pyro adapts a
    diagonal one on top: against a dense one it costs less warm-up, mixes as well where the noise is well identified,
    and better where it is not. With ``program`` the sampler runs on that Pyro model with an adapted dense metric, as a
    Pyro user would run it: slower, and the definition.

Energy:
    -lp + |r|^2 / 2 of the state that a transition ends in, with the (whitened) momentum r that it arrives with, as
    Stan's ``energy__``; where no proposal is accepted, that of the state that it started from.

Source:
    Hoffman and Gelman, The No-U-Turn Sampler, JMLR 15 (2014); the multinomial variant that Pyro implements is in
    Betancourt, A Conceptual Introduction to Hamiltonian Monte Carlo, arXiv:1701.02434 (2017), appendix A.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc import NUTS

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.isolation import chain_seed, isolated
from bayesreg.computing.progress import Bar, progress_bar
from bayesreg.inference.engine import EngineResult
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
from bayesreg.inference.whitening import inverse_root

# Standard deviations of the starting points in whitened coordinates: wider than the posterior, so that R-hat can tell
# chains that have not met; the narrower ones serve where the density is zero or not finite further out.
_START_SPREADS = (2.0, 1.0, 0.5, 0.1, 0.0)
_STATISTICS = ("lp", "energy", "tree_depth", "n_steps", "acceptance_rate", "diverging", "step_size")


def run(
    target: Any,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    progress: bool = False,
    max_tree_depth: int = 10,
    target_acceptance: float = 0.8,
    program: Callable[[], Any] | None = None,
) -> EngineResult:
    """Draw from a target with Pyro's NUTS, one chain after the other.

    A chain has its own seed, starting point and warm-up, so chain k is the same however many are asked for.

    Args:
        target: The log density: a `bayesreg.target.Target`, or anything with its methods.
        draws: Draws a chain, after warm-up.
        tune: Warm-up iterations a chain, which adapt the step size and the metric; none of them is kept.
        chains: Number of chains.
        seed: Seed of the run; chain k runs under ``chain_seed(seed, k)``.
        progress: Whether to show a bar.
        max_tree_depth: Largest number of doublings of a trajectory.
        target_acceptance: Acceptance probability that the step size is adapted to.
        program: A Pyro model without arguments, its latent sites named as the target's draws, to run in place of the
            fused density.

    Returns:
        Draws ``(chains, draws, ...)``; ``lp``, ``energy``, ``tree_depth``, ``n_steps``, ``acceptance_rate``,
        ``diverging`` and ``step_size``, each ``(chains, draws)``; in ``details``, a chain each, the seconds and
        leapfrog steps of warm-up and sampling.

    Raises:
        TypeError: ``max_tree_depth`` is no integer.
        ValueError: ``max_tree_depth`` is below 1, or ``target_acceptance`` not inside (0, 1).
        Interrupted: An interrupt ended the draws early.
    """
    max_tree_depth = check_whole_number(max_tree_depth, "max_tree_depth", 1)
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must be above 0 and below 1, got {target_acceptance!r}")
    with isolated(seed):  # on one thread, or the chains would start from another rounding
        starts = target.starts()
        origin, whitening = starts[0], inverse_root(target.curvature(starts[0]))
    settings = {
        "full_mass": program is not None,
        "target_accept_prob": target_acceptance,
        "max_tree_depth": max_tree_depth,
    }
    records, costs = [Record(1, draws) for _ in range(chains)], []
    with (
        progress_bar(progress, f"pyro-nuts, {chains} chains", chains * (tune + draws)) as bar,
        kept_if_interrupted(records) as making,
    ):
        bar.describe(divergent=0)
        for chain, record in enumerate(records):
            bar.describe(f"chain {chain + 1}, warm-up")
            with (
                isolated(chain_seed(seed, chain)),
                pyro.validation_enabled(False),  # a diverging trajectory leaves every support
            ):
                start = _starting_point(target, origin, whitening, starts[chain % len(starts)])
                if program is None:
                    kernel = _RecordingNUTS(
                        potential_fn=lambda sites: -target.log_density(origin + whitening @ sites["z"]), **settings
                    )
                    kernel.initial_params = {"z": start}
                else:
                    first = target.constrain(origin + whitening @ start)
                    kernel = _RecordingNUTS(program, init_strategy=init_to_value(values=first), **settings)
                began = time.perf_counter()
                position, warmup_steps = _warm_up(kernel, tune, bar)
                warmed_up = time.perf_counter()
                bar.describe(f"chain {chain + 1}, draws", step_size=kernel.step_size)
                try:
                    made = []
                    _sample(kernel, position, draws, made, bar)
                finally:  # an interrupt leaves the draws that are made
                    if made:
                        sites, statistics = _sites(kernel, [one for one, _ in made]), [one for _, one in made]
                        if program is None:
                            sites = target.constrain(origin + sites["z"] @ whitening.T)
                        values = sites | _stack(statistics, like=statistics[0]["lp"])
                        # Before the draws: where another interrupt comes in between, the chain counts in neither.
                        costs.append(
                            {
                                "warmup_seconds": warmed_up - began,
                                "sampling_seconds": time.perf_counter() - warmed_up,
                                "warmup_steps": warmup_steps,
                                "sampling_steps": sum(one["n_steps"] for one in statistics),
                                "step_size": kernel.step_size,
                            }
                        )
                        record.write({name: of_draws.unsqueeze(0) for name, of_draws in values.items()})
    named = joined(records)
    sample_stats = {name: named.pop(name) for name in _STATISTICS}
    chains, draws = sample_stats["lp"].shape
    costs = [cost for cost, record in zip(costs, records, strict=False) if record.made >= draws]
    num_divergent = int(sample_stats["diverging"].sum())
    result = EngineResult(
        draws=named,
        sample_stats=sample_stats,
        message=f"NUTS: {chains} chains of {draws} draws after {tune} warm-up iterations, {num_divergent} divergent",
        details={
            "density": "fused" if program is None else "Pyro program",
            "tune": tune,
            "target_acceptance": float(target_acceptance),
            "max_tree_depth": max_tree_depth,
            **{name: [cost[name] for cost in costs] for name in costs[0]},
        },
    )
    return finished(making, result)


class _RecordingNUTS(NUTS):
    """Pyro's kernel, which keeps of each transition what Pyro computes and drops."""

    def sample(self, params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Make a transition, then leave its statistics in ``self.transition``."""
        self._leaves = []
        position = super().sample(params)
        # The state that was accepted is the very object that one of the leaves made; if none was, the start stays.
        relative = [tree.weight for tree in self._leaves if tree.z_proposal is self._z_last]
        last = self._last_tree
        stopped = torch.logical_or(self._as_flag(last.turning), self._as_flag(last.diverging))
        self.transition = {
            "lp": -self._potential_energy_last,
            # A leaf's weight is the energy at the start less its own.
            "energy": self._initial_energy - relative[0] if relative else self._initial_energy,
            # Doublings that were completed; one that stopped half-way by a turn or a divergence does not count.
            "tree_depth": self._last_depth + 1 - stopped.to(torch.int64),
            "n_steps": len(self._leaves),
            "acceptance_rate": torch.stack([tree.sum_accept_probs for tree in self._leaves]).mean(),
            "diverging": self._as_flag(last.diverging),
            "step_size": self.step_size,
        }
        return position

    def _build_tree(self, z, r, z_grads, log_slice, direction, tree_depth, energy_current):
        tree = super()._build_tree(z, r, z_grads, log_slice, direction, tree_depth, energy_current)
        if tree_depth == 0:
            self._leaves.append(tree)
        # Subtrees return before the tree that they are part of, so the last to return is the last doubling.
        self._last_tree, self._last_depth, self._initial_energy = tree, tree_depth, energy_current
        return tree

    def _as_flag(self, value: bool | torch.Tensor) -> torch.Tensor:
        """Pyro's flags are tensors where they were computed and Python's where they were not."""
        return torch.as_tensor(value, dtype=torch.bool, device=self._potential_energy_last.device)


def _warm_up(kernel: _RecordingNUTS, tune: int, bar: Bar) -> tuple[dict[str, torch.Tensor], int]:
    """Adapt a kernel; where the chain is then, and the leapfrog steps that it took."""
    kernel.setup(tune)
    position, steps = kernel.initial_params, 0
    for _ in range(tune):
        position = kernel.sample(position)
        steps += kernel.transition["n_steps"]
        bar.advance()
        bar.describe(step_size=kernel.step_size)
    return position, steps


def _sample(kernel: _RecordingNUTS, position: dict[str, torch.Tensor], draws: int, made: list, bar: Bar) -> None:
    """Append positions and statistics to a list, draw by draw."""
    for _ in range(draws):
        position = kernel.sample(position)
        made.append((position, kernel.transition))
        bar.advance()
        bar.count(divergent=kernel.transition["diverging"])


def _sites(kernel: _RecordingNUTS, positions: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return constrained sites ``(draws, ...)``."""
    sites = _stack(positions)
    for name, transform in (kernel.transforms or {}).items():
        sites[name] = transform.inv(sites[name])
    return sites


def _starting_point(target: Any, origin: torch.Tensor, whitening: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Draw a starting point near a point, in whitened coordinates, the widest at which the density is finite."""
    z = torch.randn(target.num_parameters, dtype=target.dtype, device=target.device)
    place = torch.linalg.solve_triangular(whitening, (near - origin).unsqueeze(-1), upper=True).squeeze(-1)
    candidates = place + torch.tensor(_START_SPREADS, dtype=target.dtype, device=target.device)[:, None] * z
    log_density, gradient = target.log_density_and_gradient(origin + candidates @ whitening.T)
    usable = log_density.isfinite() & gradient.isfinite().all(-1)
    return candidates[usable.to(torch.int64).argmax()]


def _stack(records: list[dict[str, Any]], like: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Stack records of one shape along a new first axis; numbers go where `like` lives."""

    def column(name):
        values = [record[name] for record in records]
        if isinstance(values[0], torch.Tensor):
            return torch.stack(values).detach()
        return torch.tensor(values, device=like.device, dtype=torch.int64 if isinstance(values[0], int) else like.dtype)

    return {name: column(name) for name in records[0]}
