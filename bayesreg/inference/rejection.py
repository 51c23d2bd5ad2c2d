"""Independent draws under a prior with a kink: rejection from the Gaussian envelope that the MAP's certificate gives.

What it draws from: the posterior itself, without a Markov chain, as `bayesreg.inference.exact` does under Gaussian
priors. The learned scales come from the envelope's marginal (`bayesreg.inference.scale_table`), the weights from the
envelope given the scales, and both are kept with the probability that it gives (`bayesreg.inference.envelope`).
The intercept, round its conditional mode, is Normal(0, s^2 / n).

When it pays: the share of proposals that is kept is about prod_j E exp(-(|w_j| - t_j w_j) / b_j) over the posterior,
near 1 for a weight that is many posterior standard deviations from its location, and about 1 - 0.8 sd_j / b_j for one
that is not; under an elastic net also E exp(-(w_j - mode_j)^2 / (2 t_j^2)). So it is high where the data say much more
than the prior, whatever the number of weights that are zero at the mode, and hopeless where they do not, as with fewer
rows than columns.

The evidence: the envelope's integral times the share kept, a consistent estimate with a standard error.

Source: von Neumann (1951); Devroye, Non-Uniform Random Variate Generation (1986), chapter II.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.progress import progress_bar
from bayesreg.computing.threads import one_thread
from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.envelope import Envelope
from bayesreg.inference.independent import by_chains, chain_generators, draws_at_once, intercept_deviations
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
from bayesreg.inference.scale_table import ScaleTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bayesreg.target import Target

# Proposals of a chain that are made at once.
_SHORTEST_BLOCK, _LONGEST_BLOCK = 512, 4096
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
    if not target.model.prior.has_kink:
        return (
            "the rejection engine is for Laplace and elastic net priors: under others the exact engine draws without "
            "rejecting"
        )
    spectrum = target.spectrum
    if spectrum.rank < spectrum.num_features:
        return (
            f"rejection needs a design of full rank, got rank {spectrum.rank} for {spectrum.num_features} features: "
            "along the other directions the prior is all there is, and the data put no Gaussian above it"
        )
    if spectrum.degrees_of_freedom <= spectrum.num_features and "noise_scale" in target.learned_scales:
        return (
            f"rejection needs more rows than features to learn the noise scale, got {spectrum.num_rows} rows for "
            f"{spectrum.num_features} features"
        )
    return None


@one_thread()
def run(target: Target, *, draws: int, tune: int, chains: int, seed: int, progress: bool = False) -> EngineResult:
    """Draw independently from the posterior under a Laplace or an elastic net prior.

    Args:
        target: The posterior; its model's prior has a kink.
        draws: Draws a chain.
        tune: Not used: there is no chain to warm up.
        chains: Number of chains; a chain's draws do not depend on it.
        seed: Seeds the draws.
        progress: Whether to show a bar.

    Returns:
        The draws, their log density, and the log evidence with its standard error.

    Raises:
        EngineCannot: The model has another prior, the design's rank is short, or too few proposals would be kept.
        Interrupted: An interrupt ended the draws early.
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
            "prior says too much beside the data for its Gaussian envelope"
        )
    generators = chain_generators(target, chains, seed)
    proposals = math.ceil(1.1 * draws / acceptance) + 16
    block = min(draws_at_once(target, _SHORTEST_BLOCK, _LONGEST_BLOCK), proposals)

    records = [Record(1, draws) for _ in range(chains)]
    tallies = torch.zeros((chains, len(fields(_Tally))), dtype=target.dtype, device=target.device)
    with progress_bar(progress, f"rejection, {chains} chains", chains * draws) as bar:
        bar.describe("draws")

        def draw(group: slice, go_on: Callable[[], None]) -> None:
            _draw(target, proposal, records[group], tallies[group], block, generators[group], bar.advance, go_on)

        with kept_if_interrupted(records) as making:
            by_chains(target, chains, block, proposals, draw)
    named = joined(records)
    tally = _Tally(*tallies.sum(0).tolist())
    log_density = named.pop("lp")
    share, error = tally.share_kept()
    error += proposal.mass_error
    result = EngineResult(
        named,
        {"lp": log_density},
        proposal.log_mass + math.log(share),
        f"independent draws; {tally.acceptance:.1%} of {int(tally.proposals):,} proposals kept, the log evidence to "
        f"{error:.1g} nats",
        {"acceptance": tally.acceptance, "proposals": int(tally.proposals), "log_evidence_standard_error": error},
    )
    return finished(making, result)


@dataclass(frozen=True, eq=False)
class _Proposals:
    """Draws from the envelope, a draw a column.

    Attributes:
        scales: The learned scales by name, ``(chains, k)``.
        standard: z ``(chains, d, k)``.
        deviation: Of the intercept from its conditional mode, ``(chains, k)``; None without one.
        log_scales_keep: The log probability that the scales are kept, given that the table is what is drawn from.
        log_keep: That the weights are kept, given the scales.
        log_density: The target's log density, as at the points `Target.unconstrain` makes of a draw.
    """

    scales: dict[str, torch.Tensor]
    standard: torch.Tensor
    deviation: torch.Tensor | None
    log_scales_keep: torch.Tensor
    log_keep: torch.Tensor
    log_density: torch.Tensor


class _Proposal:
    """Where proposals come from: scales by their table, weights by the envelope given them, an intercept by its law."""

    def __init__(self, target: Target, sweeps: int):
        self._target, self._envelope = target, Envelope(target, sweeps)
        self._relative = target.model.prior.relative_to_noise
        self._like = {"dtype": target.dtype, "device": target.device}
        self._log_relative_scales = float(target.spectrum.relative_scales.log().sum())
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
        proposed = self(_PILOT, [pilot])
        return float((proposed.log_scales_keep + proposed.log_keep).exp().mean())

    def __call__(self, size: int, generators: Sequence[torch.Generator]) -> _Proposals:
        """Propose ``size`` draws a generator."""
        target, shape = self._target, (len(generators), size)
        if self._table is None:
            scales, log_density = {}, torch.full(shape, self.log_mass, **self._like)
            log_scales_keep = torch.zeros_like(log_density)
        else:
            scales, log_density, log_scales_keep = self._table.propose(size, generators)
        log_noise, log_ratio = (logarithm.expand(shape) for logarithm in self._logarithms(scales))
        numbers = (target.num_features + int(target.model.intercept), size)
        normals = torch.stack([standard_normals(numbers, generator, **self._like) for generator in generators])
        standard, log_keep, log_conditional = self._envelope.propose(
            log_noise, log_ratio, normals[:, : target.num_features], generators
        )
        log_density = log_density + log_conditional + log_keep - self._log_relative_scales
        deviation = None
        if target.model.intercept:
            deviation, log_law = intercept_deviations(target, normals[:, -1], log_noise)
            log_density += log_law
        return _Proposals(scales, standard, deviation, log_scales_keep, log_keep, log_density)

    def _logarithms(self, scales: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log s and log(f / s^2)."""
        log_noise = scales.get("noise_scale", self._target.known_noise_scale).log()
        log_factor = scales["prior_scale"].log() if "prior_scale" in scales else torch.zeros_like(log_noise)
        return log_noise, log_factor - (1 if self._relative else 2) * log_noise


@dataclass(frozen=True)
class _Tally:
    """What was proposed and kept, as sums over proposals.

    Attributes:
        proposals: Their number.
        weights: The sum of w, the probability that the scales are kept.
        kept: The sum of k, that scales and weights are.
        squared_weights: The sum of w^2.
        products: The sum of w k.
        squared_kept: The sum of k^2.
    """

    proposals: float
    weights: float
    kept: float
    squared_weights: float
    products: float
    squared_kept: float

    @staticmethod
    def by_chain(proposed: _Proposals) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the probability of each proposal to be kept ``(chains, k)``, and each chain's sums ``(chains, 6)``."""
        weight, keep = proposed.log_scales_keep.exp(), proposed.log_keep.exp()
        both = weight * keep
        summands = [torch.ones_like(both), weight, both, weight.square(), weight * both, both.square()]
        return both, torch.stack(summands, 1).sum(-1)

    @property
    def acceptance(self) -> float:
        """The share of the proposals that is kept, by their probabilities."""
        return self.kept / self.proposals

    def share_kept(self) -> tuple[float, float]:
        """Return the mean of `log_keep`'s probabilities under the table's law, and the standard error of its log."""
        share = self.kept / self.weights
        # A ratio of sums: the squares of (k - share w).
        spread = max(self.squared_kept - 2.0 * share * self.products + share * share * self.squared_weights, 0.0)
        # At least what one rejection more or less would change: where none came, the spread does not say it.
        return share, max(math.sqrt(spread) / self.kept, 1.0 / self.proposals)


def _draw(
    target: Target,
    propose: _Proposal,
    records: Sequence[Record],
    tallies: torch.Tensor,
    block: int,
    generators: Sequence[torch.Generator],
    advance: Callable[[int], None],
    go_on: Callable[[], None],
) -> None:
    """Record the draws of each generator with their log density, made block by block, and add to its tally."""
    like = {"dtype": target.dtype, "device": target.device}
    unfinished = list(range(len(generators)))
    while unfinished:
        go_on()
        proposed = propose(block, [generators[chain] for chain in unfinished])
        keep, sums = _Tally.by_chain(proposed)
        for row, chain in enumerate(unfinished):
            record = records[chain]
            uniform = torch.rand(block, generator=generators[chain], **like)
            kept = torch.nonzero(uniform < keep[row]).squeeze(-1)[: record.draws - record.made]
            weights = proposed.standard[row].mT[kept] * target.spectrum.relative_scales + target.spectrum.prior_loc
            values = {"weights": weights}
            if proposed.deviation is not None:
                values["intercept"] = target.intercepts(weights, proposed.deviation[row, kept])
            values |= {name: of_chains[row, kept] for name, of_chains in proposed.scales.items()}
            values["lp"] = proposed.log_density[row, kept]
            tallies[chain] += sums[row]
            record.write({name: rows.unsqueeze(0) for name, rows in values.items()})
            advance(len(kept))
        unfinished = [chain for chain in unfinished if records[chain].made < records[chain].draws]
