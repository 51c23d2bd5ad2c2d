"""Independent draws under a Laplace prior: rejection from the Gaussian envelope that the MAP's certificate gives.

What it draws from: the posterior itself, without a Markov chain, as `bayesreg.inference.exact` does under Gaussian
priors. The learned scales come from the envelope's marginal (`bayesreg.inference.scale_table`), the weights from the
envelope given the scales, and both are kept with the probability that it gives (`bayesreg.inference.envelope`).
The intercept, round its conditional mode, is Normal(0, s^2 / n).

When it pays: the share of proposals that is kept is about prod_j E exp(-(|w_j| - t_j w_j) / b_j) over the posterior,
near 1 for a weight that is many posterior standard deviations from its location, and about 1 - 0.8 sd_j / b_j for one
that is not. So it is high where the data say much more than the prior, whatever the number of weights that are zero at
the mode, and hopeless where they do not, as with fewer rows than columns.

The evidence: the envelope's integral times the share kept, a consistent estimate with a standard error.

Source: von Neumann (1951); Devroye, Non-Uniform Random Variate Generation (1986), chapter II.3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.envelope import Envelope
from bayesreg.inference.scale_table import ScaleTable
from bayesreg.isolation import chain_seed
from bayesreg.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayesreg.target import Target

# Proposals made at once: they stay in cache, and a fixed rule makes the same seed give the same draws.
_BLOCK = 4096
_PILOT = 1024
# A few sweeps find the envelope where the posterior is; more of them, where its mass would otherwise be.
_SWEEPS, _GOOD_ACCEPTANCE = (6, 100), 0.3
# Below this share of kept proposals a Markov chain is faster.
_SMALLEST_ACCEPTANCE = 0.02
# An envelope whose marginal over the scales is this rugged is none of a posterior that rejection is for.
_SMALLEST_TABLE_ACCEPTANCE = 0.1
# The envelope's integral need not be known better than the share kept, whose error is a Monte Carlo one.
_TABLE_TOLERANCE = 1e-5


def why_not(target: Target) -> str | None:
    """Say in a sentence why there is no envelope over a posterior, or None where there is one."""
    if target.model.prior.kind != "laplace":
        return "the rejection engine is for Laplace priors: under others the exact engine draws without rejecting"
    spectrum = target.spectrum
    if spectrum.rank < spectrum.num_features:
        return (
            f"rejection needs a design of full rank, got rank {spectrum.rank} for {spectrum.num_features} features: "
            "along the other directions the Laplace prior is all there is, and no Gaussian lies above it"
        )
    if spectrum.degrees_of_freedom <= spectrum.num_features and "noise_scale" in target.learned_scales:
        return (
            f"rejection needs more rows than features to learn the noise scale, got {spectrum.num_rows} rows for "
            f"{spectrum.num_features} features"
        )
    return None


@one_thread()
def run(target: Target, *, draws: int, tune: int, chains: int, seed: int, progress: bool = False) -> EngineResult:
    """Draw independently from the posterior under a Laplace prior.

    Args:
        target: The posterior; its model's prior is a Laplace.
        draws: Draws a chain.
        tune: Not used: there is no chain to warm up.
        chains: Number of chains; a chain's draws do not depend on it.
        seed: Seeds the draws.
        progress: Not used: where it would take long, it is refused.

    Returns:
        The draws, their log density, and the log evidence with its standard error.

    Raises:
        EngineCannot: The model has another prior, the design's rank is short, or too few proposals would be kept.
    """
    reason = why_not(target)
    if reason is not None:
        raise EngineCannot(reason)
    for sweeps in _SWEEPS:
        try:
            proposal = _Proposal(target, sweeps)
        except ValueError as error:  # the envelope has more mass than the posterior, and its tails may be too heavy
            raise EngineCannot(f"rejection finds no table of the scales for its envelope: {error}") from error
        acceptance = proposal.acceptance()
        if acceptance > _GOOD_ACCEPTANCE:
            break
    if not acceptance >= _SMALLEST_ACCEPTANCE:
        raise EngineCannot(
            f"rejection would keep {acceptance:.2g} of its proposals (least worth while: {_SMALLEST_ACCEPTANCE}): the "
            "Laplace prior says too much beside the data for its Gaussian envelope"
        )
    by_chain, tally = [], torch.zeros(3, dtype=target.dtype, device=target.device)
    for chain in range(chains):
        generator = torch.Generator(target.device).manual_seed(chain_seed(seed, chain))
        by_chain.append(_chain(target, proposal, draws, acceptance, generator, tally))
    named = {name: torch.stack([chain[name] for chain in by_chain]) for name in by_chain[0]}
    log_density = named.pop("lp")
    proposals, total, squares = tally.tolist()
    share = total / proposals
    # At least what one rejection more or less would change: where none came, the spread of the shares does not say it.
    error = max(math.sqrt(max(squares / proposals / share**2 - 1.0, 0.0) / proposals), 1.0 / proposals)
    error += proposal.mass_error
    return EngineResult(
        named,
        {"lp": log_density},
        proposal.log_mass + math.log(share),
        f"independent draws; {share:.1%} of {proposals:,.0f} proposals kept, the log evidence to {error:.1g} nats",
        {"acceptance": share, "proposals": int(proposals), "log_evidence_standard_error": error},
    )


class _Proposal:
    """Draws of the scales and the weights from the envelope, each with its log probability to be kept."""

    def __init__(self, target: Target, sweeps: int):
        self._target, self._envelope = target, Envelope(target, sweeps)
        self._relative = target.model.prior.relative_to_noise
        self._zero = torch.zeros((), dtype=target.dtype, device=target.device)
        self._table = None
        if target.learned_scales:
            self._table = ScaleTable(
                target, self._envelope.log_marginal, 1 if self._relative else 2, tolerance=_TABLE_TOLERANCE
            )
            self.log_mass, self.mass_error = self._table.log_evidence, self._table.evidence_error
        else:
            self.log_mass, self.mass_error = float(self._envelope.log_marginal(*self._logarithms({}))), 0.0

    def acceptance(self) -> float:
        """Return about the share of proposals that is kept; 0 where even the scales can hardly be proposed."""
        if self._table is not None and self._table.acceptance < _SMALLEST_TABLE_ACCEPTANCE:
            return 0.0
        # Its own random numbers: a chain of the same seed does not depend on it but through its block size.
        pilot = torch.Generator(self._target.device).manual_seed(chain_seed(0, 0))
        return float(self(_PILOT, pilot)[1].exp().mean())

    def __call__(self, size: int, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Propose ``size`` draws."""
        scales = {} if self._table is None else self._table.draw(size, generator)
        log_noise, log_ratio = (logarithm.expand(size) for logarithm in self._logarithms(scales))
        weights, log_keep = self._envelope.propose(log_noise, log_ratio, generator)
        return {"weights": weights} | scales, log_keep

    def _logarithms(self, scales: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log s and log(f / s^2)."""
        log_noise = scales.get("noise_scale", self._target.known_noise_scale).log()
        log_factor = scales["prior_scale"].log() if "prior_scale" in scales else self._zero
        return log_noise, log_factor - (1 if self._relative else 2) * log_noise


def _chain(
    target: Target,
    propose: Callable[[int, torch.Generator], tuple[dict[str, torch.Tensor], torch.Tensor]],
    draws: int,
    acceptance: float,
    generator: torch.Generator,
    tally: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return a chain's draws with their log density; add to the proposals, their chances to be kept and the squares."""
    like = {"dtype": target.dtype, "device": target.device}
    blocks, missing = [], draws
    while missing > 0:
        size = min(_BLOCK, math.ceil(1.1 * missing / acceptance) + 16)
        proposed, log_keep = propose(size, generator)
        keep = log_keep.exp()
        kept = torch.nonzero(torch.rand(size, generator=generator, **like) < keep).squeeze(-1)[:missing]
        block = {name: values[kept] for name, values in proposed.items()}
        if target.model.intercept:
            normals = torch.randn(kept.shape[0], generator=generator, **like)
            noise = block.get("noise_scale", target.known_noise_scale)
            deviation = normals * noise / math.sqrt(target.num_rows)
            block["intercept"] = target.intercepts(block["weights"], deviation)
        block["lp"] = target.log_density(target.unconstrain(block))
        blocks.append(block)
        tally += torch.stack([torch.full((), float(size), **like), keep.sum(), keep.square().sum()])
        missing -= kept.shape[0]
    order = (*target.names, "lp")
    return {name: torch.cat([block[name] for block in blocks]) for name in order}
