"""Posteriors of the weights under Laplace priors of many scales, by the batched engines.

At each scale independent draws by rejection where ``bayesreg.sample(method="auto")`` has them. The scales that are left
go through two-block Gibbs sampling together, all chains in one batch (`bayesreg.inference.gibbs.run_at_scales`): they
differ by a factor only, and large batches take a fraction of the time of small ones. Those whose effective sample size
is too small are done again, with four times the scans of all chains, twice at most; the fewer are left, the more chains
each has. Where a scan is dear (many features, and more rows), it is HMC, a scale at a time, by the same rule.

Chains are judged by the ESS of bulk and tails of each weight, and of a learned noise scale. What differs between chains
counts against it, so that of m chains an ESS of E bounds R-hat: R-hat^2 - 1 <= m / E.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.progress import progress_bar
from bayesreg.computing.threads import in_parallel
from bayesreg.engines import ENGINES
from bayesreg.inference import gibbs
from bayesreg.inference.engine import EngineCannot
from bayesreg.paths.marginal_densities import density_points, laplace_densities
from bayesreg.posteriors.diagnostics import Chains, diagnose
from bayesreg.posteriors.ranks import quantile
from bayesreg.sampling import SMALLEST_ESS, candidates
from bayesreg.warnings import ConvergenceWarning

if TYPE_CHECKING:
    from bayesreg.inference.engine import EngineResult
    from bayesreg.paths.prior_grid import PriorGrid
    from bayesreg.target import Target

_INDEPENDENT_CHAINS = 4
# Gibbs: chains at a scale, the fewest, the most, and how many draws of each it takes to have more than the fewest; and
# scans before the draws, but at least a quarter of theirs.
_FEWEST_CHAINS, _MOST_CHAINS, _LONG_CHAIN, _TUNE = 16, 64, 100, 50
# The rounds of Markov chains: draws of all chains, as a multiple of the effective draws that are aimed at, and scans
# from one to the next. An ESS of half of these is enough, where it is enough to be trusted.
_ROUNDS, _ENOUGH = ((2, 1), (8, 1), (8, 4)), 0.5
# Numbers that the draws of one batch may take: 256 MB.
_NUMBERS_HELD = 2**25
# A scan costs r^2 d; above this rank HMC, d^2 a step, is sooner done where it mixes.
_LARGEST_RANK = 100
_FEWEST_HMC_DRAWS = 50  # a chain: of fewer, an ESS cannot be told


@dataclass(frozen=True)
class _Wanted:
    """What is computed of draws: effective draws, the bands' probability, distances, points of a density; with bars?"""

    draws: int
    interval: float
    within: torch.Tensor | None
    progress: bool
    num_density_points: int | None = None


def laplace_path(
    grid: PriorGrid,
    draws: int,
    interval: float,
    within: torch.Tensor | None,
    seed: int,
    progress: bool,
    num_density_points: int | None = None,
) -> dict[str, Any]:
    """Return the posteriors' marginals on a grid of scales of a Laplace prior, by the names of a `PosteriorPath`.

    Args:
        grid: The posteriors.
        draws: Effective draws at each scale.
        interval: The bands' probability.
        within: Distances from zero, ``(d,)``; None: no probabilities.
        seed: Seeds the draws.
        progress: Whether to show a bar.
        num_density_points: Points of each density; None: no densities.

    Returns:
        Tensors ``(k, d)``, ``(k,)`` and ``(k, d, m)``, and the engines' names, without the mode.
    """
    wanted, points, chains = _Wanted(draws, interval, within, progress, num_density_points), {}, {}
    with progress_bar(progress, "prior scales", len(grid)) as bar:
        for index, prior_scale in enumerate(grid.prior_scales):
            chains[index], points[index] = _independent(grid.target(prior_scale), wanted, seed)
            if points[index] is not None:
                bar.advance()
        left = [index for index in points if points[index] is None]
        for multiple, thin in _ROUNDS:
            by_gibbs = [index for index in left if chains[index] == "gibbs"]
            points |= _together(grid, by_gibbs, wanted, multiple * draws, thin, seed)
            for index in set(left).difference(by_gibbs):
                points[index] = _by_hmc(grid.target(grid.prior_scales[index]), wanted, multiple * thin * draws, seed)
            before = len(left)
            left = [index for index in left if not points[index]["ess"] >= max(_ENOUGH * draws, SMALLEST_ESS)]
            bar.advance(before - len(left))
    found = [points[index] for index in range(len(grid))]
    engines = tuple(point.pop("engines") for point in found)
    _warn(grid, found, engines, [point.pop("divergent") for point in found])
    return {name: torch.stack([point[name] for point in found]) for name in found[0]} | {"engines": engines}


def _independent(target: Target, wanted: _Wanted, seed: int) -> tuple[str, dict[str, Any] | None]:
    """Return the engine that a scale is for, and its summaries where the draws are independent."""
    for name, _ in candidates(target):
        if not ENGINES[name].independent:
            return ("gibbs" if target.spectrum.rank <= _LARGEST_RANK else name), None
        draws = math.ceil(wanted.draws / _INDEPENDENT_CHAINS)
        try:
            asked = {"draws": draws, "tune": 0, "chains": _INDEPENDENT_CHAINS, "seed": seed}
            result = ENGINES[name].load().run(target, **asked, progress=wanted.progress)
        except EngineCannot:
            continue
        return name, _summaries(result.draws, target, wanted, name, result)
    raise AssertionError("the last engine that auto tries takes every model")


def _by_hmc(target: Target, wanted: _Wanted, draws: int, seed: int) -> dict[str, Any]:
    """Return the summaries of one scale by HMC, so many draws in all."""
    engine = ENGINES["hmc"]
    draws = max(_FEWEST_HMC_DRAWS, math.ceil(draws / engine.chains))
    asked = {"draws": draws, "tune": engine.tune, "chains": engine.chains, "seed": seed}
    result = engine.load().run(target, **asked, progress=wanted.progress)
    return _summaries(result.draws, target, wanted, "hmc", result)


def _together(
    grid: PriorGrid, indices: Sequence[int], wanted: _Wanted, draws: int, thin: int, seed: int
) -> dict[int, dict[str, Any]]:
    """Return the summaries of some scales by Gibbs sampling, in batches that stay in a cache, on several threads.

    So many draws of all chains at each scale.
    """
    if not indices:
        return {}
    first = grid.target(grid.prior_scales[indices[0]])
    most = gibbs.chains_at_once(first)
    # A scan of few chains takes as long as one of many: where few scales are left, each has more chains.
    chains = max(min(most // len(indices), draws // _LONG_CHAIN, _MOST_CHAINS), _FEWEST_CHAINS)
    draws = math.ceil(draws / chains)
    tune = max(_TUNE, draws * thin // 4)
    size = max(1, min(most, _NUMBERS_HELD // (draws * first.num_features)) // chains)
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]

    scans = len(batches) * (tune + draws * thin)
    with progress_bar(wanted.progress, f"gibbs, {len(indices)} scales", scans) as bar:

        def work(batch: Sequence[int], go_on: Callable[[], None]) -> list[dict[str, Any]]:
            def scanned() -> None:
                go_on()
                bar.advance()

            targets = [grid.target(grid.prior_scales[index]) for index in batch]
            asked = {"draws": draws, "thin": thin, "tune": tune, "chains": chains}
            found = gibbs.run_at_scales(targets, **asked, seed=chain_seed(seed, batch[0]), advance=scanned)
            return [_summaries(named, target, wanted, "gibbs") for named, target in zip(found, targets, strict=True)]

        found = in_parallel(work, batches)
    return {
        index: point
        for batch, points in zip(batches, found, strict=True)
        for index, point in zip(batch, points, strict=True)
    }


def _summaries(
    named: Mapping[str, torch.Tensor],
    target: Target,
    wanted: _Wanted,
    engine: str,
    result: EngineResult | None = None,
) -> dict[str, Any]:
    """Return what draws at one scale say."""
    weights = named["weights"].cpu()
    noise = named.get("noise_scale", target.known_noise_scale).cpu()
    ends = (0.5 * (1.0 - wanted.interval), 0.5, 0.5 * (1.0 + wanted.interval))

    def quantiles(chains: Chains) -> torch.Tensor:
        return chains.in_given_units(torch.stack([quantile(chains.ascending[0], end) for end in ends], -1))

    independent = ENGINES[engine].independent

    def errors_of_ends(chains: Chains) -> torch.Tensor:
        return torch.stack([chains.mcse_quantile(end, independent) for end in (ends[0], ends[2])], -1)

    # The size of all weights, which the evidence needs, and the noise are judged with the weights.
    columns = [weights, weights.abs().sum(-1, keepdim=True)]
    columns = torch.cat([*columns, noise.unsqueeze(-1)] if noise.ndim and not independent else columns, -1)
    of_chains = () if independent else (Chains.mcse_mean, Chains.ess_bulk, Chains.ess_tail)
    mean, sd, bounds, errors, *judged = diagnose(columns, Chains.mean, Chains.sd, quantiles, errors_of_ends, *of_chains)
    found = {"mean": mean, "sd": sd, "lower": bounds[:, 0], "median": bounds[:, 1], "upper": bounds[:, 2]}
    found |= {"mcse_lower": errors[:, 0], "mcse_upper": errors[:, 1]}
    if independent:
        number = weights.shape[0] * weights.shape[1]
        found["mcse_mean"] = sd / math.sqrt(number)
        ess = torch.tensor(float(number), dtype=torch.float64, device="cpu")
    else:
        found["mcse_mean"], bulk, tail = judged
        ess = torch.minimum(bulk, tail).amin()
    d = weights.shape[-1]
    size = {"l1_norm": found["mean"][d], "mcse_l1_norm": found["mcse_mean"][d]}
    found = {name: values[:d] for name, values in found.items()} | size
    if wanted.within is not None:
        found["probability_near_zero"] = (weights.abs() <= wanted.within).double().mean((0, 1))
    if wanted.num_density_points is not None:
        found["density_at"] = density_points(found["mean"], found["sd"], wanted.num_density_points)
        gram, cross = (
            torch.tensor(part, dtype=torch.float64, device="cpu") for part in (target.moments.Sxx, target.moments.Sxy)
        )
        noise_at = noise.reshape(-1) if noise.ndim else noise
        unit = noise_at if target.model.prior.relative_to_noise else torch.ones_like(noise_at)
        scale_at = float(target.model.prior.scale) * unit
        found["density"] = laplace_densities(
            found["density_at"], weights.reshape(-1, d), noise_at, scale_at, gram, cross
        )
    log_evidence = math.nan if result is None or result.log_evidence is None else result.log_evidence
    found["log_evidence"] = torch.tensor(log_evidence, dtype=torch.float64, device="cpu")
    found |= {"noise_scale": noise.mean(), "ess": ess}
    divergent = 0 if result is None or engine != "hmc" else int(result.sample_stats["diverging"].sum())
    return found | {"engines": engine, "divergent": divergent}


def _warn(
    grid: PriorGrid, points: Sequence[Mapping[str, torch.Tensor]], engines: Sequence[str], divergent: Sequence[int]
) -> None:
    """Warn once a cause of the prior scales at which chains know too little, with what was found and the threshold."""
    short = {
        prior_scale: f"{float(point['ess']):.0f}"
        for prior_scale, point, engine in zip(grid.given_scales, points, engines, strict=True)
        if not (ENGINES[engine].independent or point["ess"] >= SMALLEST_ESS)
    }
    diverged = {scale: str(number) for scale, number in zip(grid.given_scales, divergent, strict=True) if number}
    for what, found, advice in (
        ("smallest ESS", short, f"threshold {SMALLEST_ESS}): raise draws"),
        ("number of divergent transitions", diverged, "0 expected): loosen or rescale the model"),
    ):
        if found:
            where = ", ".join(f"{value} at prior scale {prior_scale:.4g}" for prior_scale, value in found.items())
            warnings.warn(f"the {what} is {where} ({advice}", ConvergenceWarning, stacklevel=4)
