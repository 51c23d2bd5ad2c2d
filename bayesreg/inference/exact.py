"""Exact posteriors: the Gaussian and the flat prior, scales known or learned, without a Markov chain.

Given the noise scale s and the prior scale t, the weights are Gaussian and the evidence p(y | s, t) is a closed form in
the eigenbasis (`bayesreg.evidence`). Learned scales have the marginal posterior, in their unconstrained coordinates u
and v,

    p(u, v | y)  ~  p(y | s, t) p(s) p(t) |ds/du| |dt/dv|,

a smooth function of one or two numbers: tabulated and drawn from independently (`bayesreg.inference.scale_table`), and
followed by one draw of the weights each. Source: Gelman et al., Bayesian Data Analysis (3rd edition, 2013), section
3.7.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bayesreg.computing.progress import progress_bar
from bayesreg.computing.threads import one_thread
from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.independent import by_chains, chain_generators, draws_at_once, intercept_deviations
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
from bayesreg.inference.scale_table import ScaleTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bayesreg.target import Target

# Draws of a chain that are made at once.
_SHORTEST_BLOCK, _LONGEST_BLOCK = 128, 2048


def why_not(target: Target) -> str | None:
    """Say in a sentence why this engine cannot take a posterior, or None where it can."""
    if target.model.prior.has_kink:
        return (
            f"the exact engine needs a Gaussian or a flat prior: under {target.model.prior.words} the posterior has "
            "no closed form"
        )
    return None


@one_thread()
def run(target: Target, *, draws: int, tune: int, chains: int, seed: int, progress: bool = False) -> EngineResult:
    """Draw independently from the exact posterior.

    Args:
        target: The posterior; its model's prior is Gaussian or flat.
        draws: Draws a chain.
        tune: Not used: there is no chain to warm up.
        chains: Number of chains; a chain's draws do not depend on it.
        seed: Seeds the draws.
        progress: Whether to show a bar.

    Returns:
        The draws, their log density, the log evidence, and the numbers of nodes used.

    Raises:
        EngineCannot: The model has another prior.
        ValueError: Its posterior is improper.
        Interrupted: An interrupt ended the draws early.
    """
    model = target.model
    reason = why_not(target)
    if reason is not None:
        raise EngineCannot(reason)
    spectrum, table = target.spectrum, None
    if target.learned_scales:
        table = ScaleTable(target, spectrum.log_evidence_at_ratio, 0 if model.prior.relative_to_noise else 1)
    generators = chain_generators(target, chains, seed)
    block = draws_at_once(target, _SHORTEST_BLOCK, _LONGEST_BLOCK)
    records: dict[int, Record] = {}
    with progress_bar(progress, f"exact, {chains} chains", chains * draws) as bar:
        bar.describe("draws")

        def draw(group: slice, go_on: Callable[[], None]) -> None:
            own = generators[group]
            record = records[group.start] = Record(len(own), draws)
            for first in range(0, draws, block):
                go_on()
                record.write(_draw(target, table, min(block, draws - first), own))
                bar.advance(len(own) * min(block, draws - first))

        with kept_if_interrupted(records.values()) as making:
            by_chains(target, chains, block, draws, draw)
    named = joined([records[first] for first in sorted(records)])
    log_density = named.pop("lp")
    if table is None:
        noise, prior_scale = _effective_scales(target, {})
        log_evidence = float(spectrum.log_evidence(noise, prior_scale))
        message = "independent draws from the closed form"
        details = {}
    else:
        log_evidence = table.log_evidence
        converged = table.evidence_error < table.allowed_error
        message = (
            f"independent draws; {' and '.join(target.learned_scales)} integrated on {math.prod(table.shape)} nodes, "
            f"the log evidence to {table.evidence_error:.1g} nats"
        )
        if not converged:
            message += (
                f" (threshold {table.allowed_error:.1g}): a prior of the scales with less weight at the ends helps"
            )
        details = {
            "nodes": math.prod(table.shape),
            "evidence_error": table.evidence_error,
            "tolerance": table.allowed_error,
            "converged": converged,
        }
    return finished(making, EngineResult(named, {"lp": log_density}, log_evidence, message, details))


def _draw(
    target: Target, table: ScaleTable | None, size: int, generators: Sequence[torch.Generator]
) -> dict[str, torch.Tensor]:
    """Return that many draws a generator, and their log density: the scales' marginal one, the rest's given them."""
    like = {"dtype": target.dtype, "device": target.device}
    scales, log_density = ({}, None) if table is None else table.draw_chains(size, generators)
    noise, prior_scale = _effective_scales(target, scales)
    if log_density is None:
        log_density = target.spectrum.log_evidence(noise, prior_scale)
    shape = (target.num_features + int(target.model.intercept), size)
    normals = torch.stack([standard_normals(shape, generator, **like) for generator in generators])
    weights, log_conditional = target.spectrum.weight_draws(normals[:, : target.num_features], noise, prior_scale)
    block, log_density = {"weights": weights}, log_density + log_conditional
    if target.model.intercept:
        deviation, log_law = intercept_deviations(target, normals[:, -1], noise.log())
        by_chain = [target.intercepts(*chain) for chain in zip(weights, deviation, strict=True)]
        block["intercept"] = torch.stack(by_chain)
        log_density += log_law
    return block | scales | {"lp": log_density}


def _effective_scales(target: Target, scales: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the noise scale and the common factor of the prior's effective scales (None for a flat prior)."""
    noise = scales.get("noise_scale", target.known_noise_scale)
    if target.model.prior.kind == "flat":
        return noise, None
    prior_scale = scales.get("prior_scale", torch.ones((), dtype=target.dtype, device=target.device))
    return noise, prior_scale * noise if target.model.prior.relative_to_noise else prior_scale
