"""Posteriors of the weights under Laplace priors of many scales, by the batched engines.

At each scale independent draws by rejection where ``bayesreg.sample(method="auto")`` has them. The scales that are left
go through two-block Gibbs sampling together, all chains in one batch (`bayesreg.inference.gibbs.run_at_scales`): they
differ by a factor only, and large batches take a fraction of the time of small ones. Those whose effective sample size
is too small are done again, with four times the scans, twice at most. Where a scan is dear (many features, and more
rows), it is HMC, a scale at a time.

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

from bayesreg.diagnostics import Chains, diagnose
from bayesreg.engines import ENGINES
from bayesreg.inference import gibbs
from bayesreg.inference.engine import EngineCannot
from bayesreg.inference.progress import progress_bar
from bayesreg.isolation import chain_seed
from bayesreg.ranks import quantile
from bayesreg.sampling import SMALLEST_ESS, candidates
from bayesreg.threads import in_parallel
from bayesreg.warnings import ConvergenceWarning

if TYPE_CHECKING:
    from bayesreg.inference.engine import EngineResult
    from bayesreg.prior_grid import PriorGrid
    from bayesreg.target import Target

_INDEPENDENT_CHAINS = 4
# Gibbs: chains at a scale, scans before the draws, and what each round makes: draws a chain as a share of the effective
# draws that are aimed at, and scans from one draw to the next. An ESS of so large a share of them is enough, where it
# is enough to be trusted.
_GIBBS_CHAINS, _TUNE = 16, 50
_ROUNDS, _ENOUGH = ((0.125, 1), (0.5, 1), (0.5, 4)), 0.5
# Numbers that the draws of one batch may take: 256 MB.
_NUMBERS_HELD = 2**25
# A scan costs r^2 d; above this rank HMC, d^2 a step, is sooner done where it mixes.
_LARGEST_RANK = 100
_FEWEST_HMC_DRAWS = 50  # a chain: of fewer, an ESS cannot be told


@dataclass(frozen=True)
class _Wanted:
    """What is computed of draws: effective draws, the bands' probability, and distances from zero or None."""

    draws: int
    interval: float
    within: torch.Tensor | None


def laplace_path(
    grid: PriorGrid, draws: int, interval: float, within: torch.Tensor | None, seed: int, progress: bool
) -> dict[str, Any]:
    """Return the posteriors' marginals on a grid of scales of a Laplace prior, by the names of a `PosteriorPath`.

    Args:
        grid: The posteriors.
        draws: Effective draws at each scale.
        interval: The bands' probability.
        within: Distances from zero, ``(d,)``; None: no probabilities.
        seed: Seeds the draws.
        progress: Whether to show a bar on stderr.

    Returns:
        Tensors ``(k, d)`` and ``(k,)`` and the engines' names, without the mode.
    """
    wanted, points, batch = _Wanted(draws, interval, within), {}, []
    with progress_bar(progress, "prior scales", len(grid)) as advance:
        for index, prior_scale in enumerate(grid.prior_scales):
            target = grid.target(prior_scale)
            points[index] = _alone(target, wanted, seed)
            if points[index] is None:
                batch.append(index)
            else:
                advance()
        for share, thin in _ROUNDS:
            if batch:
                points |= _together(grid, batch, wanted, max(4, math.ceil(share * draws)), thin, seed)
            batch = [index for index in batch if not points[index]["ess"] >= max(_ENOUGH * draws, SMALLEST_ESS)]
        for _ in range(sum(points[index]["engines"] == "gibbs" for index in points)):
            advance()
    found = [points[index] for index in range(len(grid))]
    _warn(grid, found)
    engines = tuple(point.pop("engines") for point in found)
    return {name: torch.stack([point[name] for point in found]) for name in found[0]} | {"engines": engines}


def _alone(target: Target, wanted: _Wanted, seed: int) -> dict[str, Any] | None:
    """Return the summaries of one scale by the engine that takes it alone; None: it belongs in the batch."""
    for name, _ in candidates(target):
        if name == "gibbs" or (name == "hmc" and target.spectrum.rank <= _LARGEST_RANK):
            return None
        engine = ENGINES[name]
        if engine.independent:
            chains, draws = _INDEPENDENT_CHAINS, math.ceil(wanted.draws / _INDEPENDENT_CHAINS)
        else:
            chains = engine.chains
            draws = max(_FEWEST_HMC_DRAWS, math.ceil(2 * wanted.draws / chains))
        try:
            result = engine.load().run(target, draws=draws, tune=engine.tune, chains=chains, seed=seed)
        except EngineCannot:
            continue
        return _summaries(result.draws, target, wanted, name, result)
    raise AssertionError("the last engine that auto tries takes every model")


def _together(
    grid: PriorGrid, indices: Sequence[int], wanted: _Wanted, draws: int, thin: int, seed: int
) -> dict[int, dict[str, Any]]:
    """Return the summaries of some scales by Gibbs sampling, in batches that stay in a cache, on several threads."""
    first = grid.target(grid.prior_scales[indices[0]])
    most = min(gibbs.chains_at_once(first), _NUMBERS_HELD // (draws * first.num_features))
    size = max(1, most // _GIBBS_CHAINS)
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]

    def work(batch: Sequence[int], go_on: Callable[[], None]) -> list[dict[str, Any]]:
        go_on()
        targets = [grid.target(grid.prior_scales[index]) for index in batch]
        own_seed = chain_seed(seed, batch[0])
        found = gibbs.run_at_scales(targets, draws=draws, thin=thin, tune=_TUNE, chains=_GIBBS_CHAINS, seed=own_seed)
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

    mean, sd, bounds = diagnose(weights, Chains.mean, Chains.sd, quantiles)
    found = {"mean": mean, "sd": sd, "lower": bounds[:, 0], "median": bounds[:, 1], "upper": bounds[:, 2]}
    if wanted.within is not None:
        found["probability_near_zero"] = (weights.abs() <= wanted.within).double().mean((0, 1))
    found["noise_scale"] = noise.mean()
    log_evidence = math.nan if result is None or result.log_evidence is None else result.log_evidence
    found["log_evidence"] = torch.tensor(log_evidence, dtype=torch.float64, device="cpu")
    if ENGINES[engine].independent:
        number = weights.shape[0] * weights.shape[1]
        found["mcse_mean"] = sd / math.sqrt(number)
        found["ess"] = torch.tensor(float(number), dtype=torch.float64, device="cpu")
    else:
        judged = torch.cat([weights, noise.unsqueeze(-1)], -1) if noise.ndim else weights
        error, bulk, tail = diagnose(judged, Chains.mcse_mean, Chains.ess_bulk, Chains.ess_tail)
        found["mcse_mean"] = error[: weights.shape[-1]]
        found["ess"] = torch.minimum(bulk, tail).amin()
    return found | {"engines": engine}


def _warn(grid: PriorGrid, points: Sequence[Mapping[str, Any]]) -> None:
    """Warn of the prior scales at which chains know too little, with what was found and the threshold."""
    judged = zip(grid.prior_scales, points, strict=True)
    found = [
        f"{float(point['ess']):.0f} at prior scale {prior_scale:.4g}"
        for prior_scale, point in judged
        if not (ENGINES[point["engines"]].independent or point["ess"] >= SMALLEST_ESS)
    ]
    if found:
        message = f"the smallest ESS is {', '.join(found)} (threshold {SMALLEST_ESS}): raise draws"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
