"""Exact posteriors: the Gaussian and the flat prior, scales known or learned, without a Markov chain.

Given the noise scale s and the prior scale t, the weights are Gaussian and the evidence p(y | s, t) is a closed form in
the eigenbasis (`bayesreg.evidence`). Learned scales have the marginal posterior, in their unconstrained coordinates u
and v,

    p(u, v | y)  ~  p(y | s, t) p(s) p(t) |ds/du| |dt/dv|,

a smooth function of one or two numbers: tabulated by the trapezoidal rule, whose nodes are doubled until the log
evidence moves by less than 1e-10, drawn from by rejection against the table's own interpolation, and followed by one
draw of the weights each. The draws are independent. Source: Gelman et al., Bayesian Data Analysis (3rd edition, 2013),
section 3.7.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch

from bayesreg.evidence import EvidenceSpectrum
from bayesreg.inference.engine import EngineResult
from bayesreg.isolation import chain_seed

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression
    from bayesreg.target import Target

# The table ends where the density has fallen by this many nats: a mass of 4e-18.
_DEPTH = 40.0
# A coordinate is a logarithm (or a logit): beyond this, squares of the scale leave the range of float64.
_FARTHEST = 300.0
_EVIDENCE_TOLERANCE = 1e-10
_MOST_NODES = {1: 2**14 + 1, 2: 2**10 + 1}
# Enough for the interpolation to be accepted nearly always: the step is then about a seventh of a standard deviation.
_FEWEST_NODES = 129
# Draws made at once: they stay in cache, and a fixed size makes the same seed give the same draws on any number of
# threads.
_BLOCK = 2048


def why_not(model: LinearRegression) -> str | None:
    """Say in a sentence why this engine cannot take a model, or None where it can."""
    if model.prior.kind == "laplace":
        return (
            "the exact engine needs a Gaussian or a flat prior: under a Laplace prior the posterior has no closed form"
        )
    return None


def run(target: Target, *, draws: int, tune: int, chains: int, seed: int, progress: bool = False) -> EngineResult:
    """Draw independently from the exact posterior.

    Args:
        target: The posterior; its model's prior is Gaussian or flat.
        draws: Draws a chain.
        tune: Not used: there is no chain to warm up.
        chains: Number of chains; a chain's draws do not depend on it.
        seed: Seeds the draws.
        progress: Not used: it is done before a bar could be drawn.

    Returns:
        The draws, their log density, the log evidence, and the numbers of nodes used.

    Raises:
        ValueError: The model has another prior, or its posterior is improper.
    """
    model = target.model
    reason = why_not(model)
    if reason is not None:
        raise ValueError(reason)
    prior = model.prior
    spectrum = EvidenceSpectrum.of(
        target.moments, prior.scales(target.num_features), prior.locations(target.num_features), target.device
    )
    if prior.kind == "flat":
        spectrum.require_full_rank()
    if model.noise_is_learned:
        spectrum.require_residual()
    table = _ScaleTable(target, spectrum) if target.learned_scales else None
    by_chain = [
        _chain(target, spectrum, table, draws, torch.Generator(target.device).manual_seed(chain_seed(seed, chain)))
        for chain in range(chains)
    ]
    named = {name: torch.stack([chain[name] for chain in by_chain]) for name in by_chain[0]}
    log_density = named.pop("lp")
    if table is None:
        noise, prior_scale = _effective_scales(target, {})
        log_evidence = float(spectrum.log_evidence(noise, prior_scale))
        message = "independent draws from the closed form"
        details = {}
    else:
        log_evidence = table.log_evidence
        message = (
            f"independent draws; {' and '.join(target.learned_scales)} integrated on {table.num_nodes} nodes an axis"
        )
        details = {"nodes": table.num_nodes, "evidence_error": table.evidence_error}
    return EngineResult(named, {"lp": log_density}, log_evidence, message, details)


def _chain(
    target: Target, spectrum: EvidenceSpectrum, table: _ScaleTable | None, draws: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    blocks = []
    for first in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - first)
        scales = {} if table is None else table.draw(size, generator)
        noise, prior_scale = _effective_scales(target, scales)
        noise = noise.expand(size)
        weights = spectrum.weight_draws(noise, None if prior_scale is None else prior_scale.expand(size), generator)
        block = {"weights": weights}
        if target.model.intercept:
            normals = torch.randn(size, generator=generator, dtype=target.dtype, device=target.device)
            # Round its conditional mode, the intercept's deviation is Normal(0, s^2 / n).
            block["intercept"] = target.intercepts(weights, normals * noise / math.sqrt(target.num_rows))
        block |= scales
        blocks.append(block | {"lp": target.log_density(target.unconstrain(block))})
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _effective_scales(target: Target, scales: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the noise scale and the common factor of the prior's effective scales (None for a flat prior)."""
    noise = scales.get("noise_scale", target.known_noise_scale)
    if target.model.prior.kind == "flat":
        return noise, None
    prior_scale = scales.get("prior_scale", torch.ones((), dtype=target.dtype, device=target.device))
    return noise, prior_scale * noise if target.model.prior.relative_to_noise else prior_scale


class _ScaleTable:
    """The marginal posterior of the learned scales on a regular grid of their unconstrained coordinates."""

    def __init__(self, target: Target, spectrum: EvidenceSpectrum):
        self._target, self._spectrum = target, spectrum
        self._names = list(target.learned_scales)
        lower, upper = self._bracket()
        dimensions, nodes, previous = len(self._names), 33, None
        while True:
            values, steps = self._tabulate(lower, upper, nodes)
            log_evidence = float(torch.logsumexp(values.flatten(), 0) + steps.log().sum())
            error = math.inf if previous is None else abs(log_evidence - previous)
            if error < _EVIDENCE_TOLERANCE and nodes >= _FEWEST_NODES:
                break
            if nodes >= _MOST_NODES[dimensions]:
                break
            previous, nodes = log_evidence, 2 * nodes - 1
        self.log_evidence, self.evidence_error, self.num_nodes = log_evidence, error, nodes
        self._lower, self._steps, self._peak = lower, steps, values.max()
        self._table = (values - self._peak).exp()
        self._cumulative = self._table.flatten().cumsum(0)
        # Between nodes a hump rises above the interpolation, most at the middle of a cell.
        middles, _ = self._tabulate(lower + steps / 2, upper - steps / 2, nodes - 1)
        corners = torch.stack([
            self._table[tuple(slice(corner, corner + nodes - 1) for corner in index)]
            for index in itertools.product((0, 1), repeat=dimensions)
        ]).mean(0)  # fmt: skip
        seen = corners > 1e-12
        ratio = torch.where(seen, (middles - self._peak).exp() / corners.clamp_min(1e-12), torch.ones_like(corners))
        self._ceiling = 1.01 * ratio.max().clamp_min(1.0)

    def log_density(self, coordinates: list[torch.Tensor]) -> torch.Tensor:
        """Return log p(y | s, t) + log p(s) + log p(t) + log Jacobians at coordinates of one broadcast shape."""
        scales, density = {}, 0.0
        for name, coordinate in zip(self._names, coordinates, strict=True):
            scales[name] = self._target.learned_scales[name].constrain(coordinate)
            density = density + self._target.learned_scales[name].log_density(coordinate)
        noise, prior_scale = _effective_scales(self._target, scales)
        density = density + self._spectrum.log_evidence(noise, prior_scale)
        return density.nan_to_num(nan=-math.inf, neginf=-math.inf)

    def draw(self, size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draw scales independently: a node by its weight, a triangular step, and rejection against the density.

        A node with a triangular step of the grid's width is exactly a draw from the multilinear interpolation of the
        table.

        Args:
            size: How many.
            generator: The source of randomness.

        Returns:
            The learned scales ``(size,)`` by name.
        """
        like = {"generator": generator, "dtype": self._table.dtype, "device": self._table.device}
        kept: list[torch.Tensor] = []
        while sum(batch.shape[0] for batch in kept) < size:
            uniform = torch.rand(size, **like) * self._cumulative[-1]
            nodes = torch.searchsorted(self._cumulative, uniform, right=True).clamp_max(self._cumulative.shape[0] - 1)
            index = torch.stack(torch.unravel_index(nodes, self._table.shape), -1)
            step = torch.rand(index.shape, **like) - torch.rand(index.shape, **like)
            position = (index + step).clamp(0.0, self.num_nodes - 1.0)
            points = self._lower + position * self._steps
            accept = torch.rand(size, **like) * self._ceiling * self._interpolate(position)
            kept.append(points[accept <= (self.log_density(list(points.unbind(-1))) - self._peak).exp()])
        points = torch.cat(kept)[:size]
        return {
            name: self._target.learned_scales[name].constrain(column)
            for name, column in zip(self._names, points.unbind(-1), strict=True)
        }

    def _interpolate(self, position: torch.Tensor) -> torch.Tensor:
        """Return the multilinear interpolation of the table at fractional indices ``(k, dimensions)``."""
        base = position.floor().clamp_max(self.num_nodes - 2).to(torch.int64)
        fraction = position - base
        total = torch.zeros_like(position[:, 0])
        for corner in itertools.product((0, 1), repeat=position.shape[-1]):
            weight = torch.ones_like(total)
            for axis, side in enumerate(corner):
                weight = weight * (fraction[:, axis] if side else 1.0 - fraction[:, axis])
            total = total + weight * self._table[tuple(base[:, axis] + side for axis, side in enumerate(corner))]
        return total

    def _tabulate(self, lower: torch.Tensor, upper: torch.Tensor, nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
        axes = [lower[axis] + (upper[axis] - lower[axis]) * self._unit_grid(nodes) for axis in range(lower.shape[0])]
        mesh = torch.meshgrid(*axes, indexing="ij")
        # The first axis in blocks: one row of the evidence takes as many numbers as the design has directions.
        rows = max(1, 2_000_000 // (max(self._spectrum.rank, 1) * nodes ** (lower.shape[0] - 1)))
        parts = [self.log_density([m[first : first + rows] for m in mesh]) for first in range(0, nodes, rows)]
        return torch.cat(parts), (upper - lower) / (nodes - 1)

    def _unit_grid(self, nodes: int) -> torch.Tensor:
        return torch.linspace(0.0, 1.0, nodes, dtype=self._target.dtype, device=self._target.device)

    def _bracket(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a box outside which the density is `_DEPTH` nats below its peak, by zooming in on what is above."""
        dimensions = len(self._names)
        nodes = {1: 481, 2: 121}[dimensions]
        centre = self._target.start()[-dimensions:]
        lower, upper = (centre - 60.0).clamp_min(-_FARTHEST), (centre + 60.0).clamp_max(_FARTHEST)
        while True:
            values, steps = self._tabulate(lower, upper, nodes)
            high = (values >= values.max() - _DEPTH).nonzero()
            first, last = high.amin(0), high.amax(0)
            grow_below, grow_above = first == 0, last == nodes - 1
            if bool((grow_below | grow_above).any()):
                stuck = (grow_below & (lower <= -_FARTHEST)) | (grow_above & (upper >= _FARTHEST))
                if bool(stuck.any()):
                    self._refuse_improper(int(stuck.nonzero()[0]), bool(grow_below[stuck.nonzero()[0]]))
                width = upper - lower
                lower = torch.where(grow_below, lower - width, lower).clamp_min(-_FARTHEST)
                upper = torch.where(grow_above, upper + width, upper).clamp_max(_FARTHEST)
                continue
            tighter = lower + (first - 1) * steps, lower + (last + 1) * steps
            shrinkage = ((tighter[1] - tighter[0]) / (upper - lower)).min()
            lower, upper = tighter
            if float(shrinkage) > 0.7:
                return lower, upper

    def _refuse_improper(self, axis: int, below: bool) -> None:
        name = self._names[axis]
        end = "the lower" if below else "the upper"
        raise ValueError(
            f"the posterior is improper: its density does not fall off as {name} approaches {end} end of its support. "
            f"Give {name} a proper prior such as dist.HalfNormal(1.0), a known value, or the weights a proper prior."
        )
