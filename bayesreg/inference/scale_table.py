"""The marginal posterior of one or two learned scales, tabulated: the log evidence, and independent draws.

Given the noise scale s and the prior scale t, the evidence is cheap along s for a given ratio tau = t / s^k: k = 1 for
a Gaussian prior, whose sums over the singular values depend on t/s only (`bayesreg.evidence`), 0 for one relative to
the noise.

Coordinates. So the *outer* coordinate is log tau (or that of t itself, where k = 0 or both supports are bounded), the
*inner* one that of s: the sums cost one row each, and a ridge along which s^2 + t^2 S^2 is constant, as where there are
as many features as rows, runs along the outer axis. The change from the coordinates of (s, t) has Jacobian 1 (1/k where
s is had from t and the ratio). A single scale is the inner coordinate, with an outer axis that changes nothing.

Table. Each row has its own bracket, outside which the density is 40 nats below the row's peak, so a ridge may bend and
be as thin as it likes. Both directions are summed by the trapezoidal rule, which converges geometrically for a smooth
hump; nodes are doubled until leaving out every second one moves the log evidence by less than 1e-10.

Draws. A node by its weight and a triangular step are a draw from the linear interpolation between nodes. The outer
coordinate is so drawn from the rows' masses, and the inner one from a row tabulated at just that outer coordinate, as
nothing between rows whose brackets differ can be interpolated; rejection against the density makes the pair exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayesreg.target import Target

    # log p(y | s, t), up to an additive constant, of log s and log(t / s^k), elementwise on shapes that broadcast.
    LogEvidence = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]

EVIDENCE_TOLERANCE = 1e-10
# The table ends where the density has fallen by this many nats: a mass of 4e-18.
_DEPTH = 40.0
# A coordinate is a logarithm (or a logit): beyond this, squares of the scale leave the range of float64.
_FARTHEST = 300.0
# What may lie beyond and be left out of the draws; it counts as an error of the evidence in any case.
_LARGEST_MASS_BEYOND = 1e-4
# A slope at the end of the range below this is none.
_FLAT = 1e-6
# Enough for the interpolation to be accepted nearly always: an inner step is then a seventh of a standard deviation.
_FEWEST_NODES = 129
_MOST_NODES = 2**21
# A search sees the largest value to within a node, and what is beside it: humps may be far narrower than the step.
_OUTER_SEARCH_NODES, _INNER_SEARCH_NODES = 65, 33
_MOST_SEARCHES = 40
_ROW_NUMBERS_AT_ONCE = 30_000  # what a processor's cache holds
_MOST_PROPOSALS = 100


class ScaleTable:
    """The marginal posterior of the learned scales of a target, under any evidence that is a function of the scales.

    Args:
        target: The posterior, with one or two learned scales.
        log_evidence: Takes log s and log(t / s^k), tensors that broadcast against each other, and returns log p(y | s,
            t) elementwise; ``None`` stands for the ratio under a flat prior. With both scales learned and one of them
            on (0, inf), the ratio has one column, so what depends on the ratio alone is worth doing once for each.
        noise_power: k, the power of the noise in the ratio along which the evidence is simplest: 1 for a Gaussian
            prior, 0 for one relative to the noise, 2 where s^2 / b counts, as under a Laplace prior.

    Attributes:
        log_evidence: log p(y), the scales integrated out.
        evidence_error: How far it may be off, in nats: by the steps, and by the mass beyond the range of float64.
        allowed_error: 1e-10, or the rounding of a log evidence so large that it cannot be had to 1e-10.
        shape: The numbers of nodes, outer and inner.

    Raises:
        ValueError: The density does not fall off, or too slowly for the range of float64.
    """

    def __init__(self, target: Target, log_evidence: LogEvidence, noise_power: int):
        self._log_evidence, self._learned = log_evidence, target.learned_scales
        self._num_rows, self._flat = target.num_rows, target.model.prior.kind == "flat"
        self._known_log_noise = None if target.known_noise_scale is None else target.known_noise_scale.log()
        self._noise_power = noise_power
        self._like = {"dtype": target.dtype, "device": target.device}
        self._both = len(self._learned) == 2
        self._inner = next(iter(self._learned))
        # A scale whose coordinate is its logarithm can be had from the other one and their ratio.
        self._from_ratio = None
        if self._both and noise_power:
            logarithms = [name for name in ("prior_scale", "noise_scale") if self._learned[name].is_logarithm]
            self._from_ratio = next(iter(logarithms), None)
            self._inner = "prior_scale" if self._from_ratio == "noise_scale" else "noise_scale"
        start = dict(zip(self._learned, target.start()[-len(self._learned) :], strict=True))
        self._centre = start[self._inner]
        self._outer_lower, self._outer_upper = self._bracket_outer(start)
        self._refine()
        self._prepare_draws()

    def draw(self, size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draw scales independently.

        Args:
            size: How many.
            generator: The source of randomness.

        Returns:
            The learned scales ``(size,)`` by name.

        Raises:
            ValueError: Hardly any proposal is accepted.
        """
        kept: list[torch.Tensor] = []
        missing, proposed = size, 0
        while missing > 0:
            if proposed > _MOST_PROPOSALS * (size + 10):
                raise ValueError(
                    f"{proposed} proposals gave {size - missing} of {size} draws of the learned scales (allowed: "
                    f"{_MOST_PROPOSALS} a draw): their posterior is too narrow for its table. Give the scales priors "
                    "with less weight at the ends, such as dist.HalfNormal(1.0), or sample by method='pyro-nuts'."
                )
            count = min(
                int(1.1 * missing) + 10, max(1, _ROW_NUMBERS_AT_ONCE // self.shape[1]) if self._both else size + 10
            )
            kept.append(self._draw_batch(count, generator))
            missing, proposed = missing - kept[-1].shape[-1], proposed + count
        outer, inner = torch.cat(kept, -1)[:, :size]
        coordinates = self._coordinates(outer, inner)
        return {name: self._learned[name].constrain(coordinate) for name, coordinate in coordinates.items()}

    # --- the density

    def _coordinates(self, outer: torch.Tensor, inner: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scales' own unconstrained coordinates, each of the least shape that it needs."""
        if self._from_ratio == "prior_scale":
            return {"noise_scale": inner, "prior_scale": outer + self._noise_power * self._log("noise_scale", inner)}
        if self._from_ratio == "noise_scale":
            return {"noise_scale": (self._log("prior_scale", inner) - outer) / self._noise_power, "prior_scale": inner}
        return {"noise_scale": inner, "prior_scale": outer} if self._both else {self._inner: inner}

    def _log(self, name: str, coordinate: torch.Tensor) -> torch.Tensor:
        learned = self._learned[name]
        return coordinate if learned.is_logarithm else learned.constrain(coordinate).log()

    def _log_density(self, outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """Return log p(y | s, t) + log p(s) + log p(t) + log Jacobians, of the broadcast shape."""
        coordinates, logs = self._coordinates(outer, inner), {}
        density = -math.log(self._noise_power) if self._from_ratio == "noise_scale" else 0.0
        for name, coordinate in coordinates.items():
            logs[name] = self._log(name, coordinate)
            density = density + self._learned[name].log_density(coordinate)
        log_noise = logs.get("noise_scale", self._known_log_noise)
        if self._flat:
            log_ratio = None
        elif self._from_ratio is not None:
            log_ratio = outer
        else:
            log_prior = logs.get("prior_scale", torch.zeros((), **self._like))
            log_ratio = log_prior - self._noise_power * log_noise if self._noise_power else log_prior
        density = density + self._log_evidence(log_noise, log_ratio)
        return density.nan_to_num(nan=-math.inf, neginf=-math.inf)

    # --- where it is

    def _bracket_outer(self, start: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._both:
            return torch.zeros((), **self._like), torch.ones((), **self._like)
        if self._from_ratio is None:
            around = start["prior_scale"]
        else:
            around = self._log("prior_scale", start["prior_scale"])
            around = around - self._noise_power * self._log("noise_scale", start["noise_scale"])
        around = around.reshape(1)
        lower, upper = _search(lambda rows: self._profile(rows[0]).unsqueeze(0), around, _OUTER_SEARCH_NODES)
        return lower[0], upper[0]

    def _profile(self, outer: torch.Tensor) -> torch.Tensor:
        """Return each row's largest density, near enough to judge it by."""
        lower, upper = self._bracket_rows(outer)
        grid = torch.linspace(0.0, 1.0, _INNER_SEARCH_NODES, **self._like)
        inner = lower.unsqueeze(-1) + (upper - lower).unsqueeze(-1) * grid
        return self._log_density(outer.unsqueeze(-1), inner).amax(-1)

    def _bracket_rows(self, outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        around = self._centre.expand(outer.shape)
        return _search(
            lambda inner: self._log_density(outer.unsqueeze(-1), inner).expand(inner.shape), around, _INNER_SEARCH_NODES
        )

    # --- the table

    def _refine(self) -> None:
        """Tabulate on ever more nodes, until leaving out every second one along either axis changes nothing."""
        nodes = (_FEWEST_NODES if self._both else 2, _FEWEST_NODES)
        while True:
            self._tabulate(*nodes)
            self.shape, self.log_evidence = nodes, self._integral(self._values)
            size_of_terms = abs(self.log_evidence) + self._num_rows
            self.allowed_error = max(EVIDENCE_TOLERANCE, 4.0 * torch.finfo(self._values.dtype).eps * size_of_terms)
            coarser = (self._values[::2] if self._both else self._values, self._values[:, ::2])
            doubled = (math.log(2.0) if self._both else 0.0, math.log(2.0))
            errors = [
                abs(self._integral(values) + step - self.log_evidence)
                for values, step in zip(coarser, doubled, strict=True)
            ]
            finer = tuple(
                2 * count - 1 if not error < self.allowed_error else count
                for count, error in zip(nodes, errors, strict=True)
            )
            if finer == nodes or math.prod(finer) > _MOST_NODES:
                break
            nodes = finer
        self.evidence_error = max(errors) + self._mass_beyond()

    def _tabulate(self, outer_nodes: int, inner_nodes: int) -> None:
        self._outer_step = (self._outer_upper - self._outer_lower) / (outer_nodes - 1)
        outer = self._outer_lower + self._outer_step * torch.arange(outer_nodes, **self._like)
        self._lower, self._upper = self._bracket_rows(outer)
        self._steps, self._values = self._tabulate_rows(outer, self._lower, self._upper, inner_nodes)

    def _tabulate_rows(
        self, outer: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor, nodes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each row's step, and its log density against the outer coordinate and the inner index."""
        steps = (upper - lower) / (nodes - 1)
        inner = lower.unsqueeze(-1) + steps.unsqueeze(-1) * torch.arange(nodes, **self._like)
        return steps, self._log_density(outer.unsqueeze(-1), inner) + steps.log().unsqueeze(-1)

    def _integral(self, values: torch.Tensor) -> float:
        """Return the log of the trapezoidal rule's sum, at the table's own steps."""
        return float(_log_trapezoid(_log_trapezoid(values)) + self._outer_step.log())

    def _mass_beyond(self) -> float:
        """Return a bound on the mass where coordinates leave their range, from the slopes there.

        A log density that is concave beyond, as for every prior of a scale that a file can name, falls at least as fast
        as it does at the end, so the mass beyond is at most the last term of the sum by its slope a node.

        Raises:
            ValueError: There is no slope, or too much mass beyond.
        """
        terms = self._values + self._outer_step.log() - self.log_evidence
        rows = terms.logsumexp(1)
        inner, outer = self._inner, "prior_scale / noise_scale" if self._from_ratio else "prior_scale"
        ends = [
            (inner, "lower", self._lower <= -_FARTHEST, terms[:, 0], terms[:, 1], self._steps),
            (inner, "upper", self._upper >= _FARTHEST, terms[:, -1], terms[:, -2], self._steps),
            (outer, "lower", self._outer_lower <= -_FARTHEST, rows[0], rows[1], self._outer_step),
            (outer, "upper", self._outer_upper >= _FARTHEST, rows[-1], rows[-2], self._outer_step),
        ]
        beyond = 0.0
        for name, end, reached, last, before, step in ends:
            counts = reached & (last > -_DEPTH)
            fall = (before - last)[counts]
            if bool((fall <= _FLAT * step.expand(last.shape)[counts]).any()):
                raise ValueError(
                    f"the posterior is improper: its density does not fall off as {name} approaches the {end} end of "
                    f"its range. Give {inner} a proper prior such as dist.HalfNormal(1.0), a known value, or the "
                    "weights a proper prior."
                )
            mass = float((last[counts].exp() / fall).sum())
            if mass > _LARGEST_MASS_BEYOND:
                limit = math.exp(-_FARTHEST if end == "lower" else _FARTHEST)
                raise ValueError(
                    f"the posterior has too heavy a tail: about {mass:.2g} of its mass lies where {name} is "
                    f"{'below' if end == 'lower' else 'above'} {limit:.1g}, where float64 ends to square it "
                    f"(allowed: {_LARGEST_MASS_BEYOND:g}). Give it a prior with less weight there, such as "
                    "dist.HalfNormal(1.0) or dist.LogNormal(0.0, 1.0), or a known value."
                )
            beyond += mass
        return beyond

    # --- the draws

    def _prepare_draws(self) -> None:
        log_masses = _log_trapezoid(self._values)
        self._peak = log_masses.max()
        self._masses = (log_masses - self._peak).exp().unsqueeze(0)
        rows = (self._values - self._values.amax(-1, keepdim=True)).exp()
        self._ceiling = _most_above_interpolation(self._masses) * _most_above_interpolation(rows[:, ::2])

    def _draw_batch(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """Propose that many pairs of coordinates, and return those that rejection keeps, ``(2, kept)``."""
        position, mass = (values.squeeze(0) for values in _draw(self._masses, size if self._both else 1, generator))
        outer = self._outer_lower + position * self._outer_step
        base = position.to(torch.int64).clamp_max(self.shape[0] - 2)
        # Of both neighbours' brackets the wider ends. Half the nodes do: the ceiling is that of a quarter of them.
        lower = torch.minimum(self._lower[base], self._lower[base + 1])
        upper = torch.maximum(self._upper[base], self._upper[base + 1])
        steps, values = self._tabulate_rows(outer, lower, upper, self.shape[1] // 2 + 1)
        log_scale = values.amax(-1, keepdim=True)
        position, height = _draw((values - log_scale).exp(), 1 if self._both else size, generator)
        outer, inner = outer.unsqueeze(-1), lower.unsqueeze(-1) + position * steps.unsqueeze(-1)
        log_conditional = height.log() + log_scale - _log_trapezoid(values).unsqueeze(-1)
        log_proposed = mass.log().unsqueeze(-1) + self._peak + log_conditional
        log_ratio = self._log_density(outer, inner) + steps.log().unsqueeze(-1) - log_proposed
        uniform = torch.rand(inner.shape, generator=generator, **self._like)
        accept = uniform * self._ceiling <= log_ratio.exp()
        return torch.stack([outer.expand(inner.shape)[accept], inner[accept]])


def _search(
    evaluate: Callable[[torch.Tensor], torch.Tensor], around: torch.Tensor, nodes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bracket, row by row, where a log density is within `_DEPTH` of its peak.

    A bracket grows where its end is still that high, and is cut to the nodes that are, and one more on either side. Of
    a log-concave density this cuts off nothing: what a coarse grid sees of the peak is too low, not too high.

    Args:
        evaluate: Takes points ``(rows, nodes)``; the log density there.
        around: Where to begin, ``(rows,)``.
        nodes: Points a row.

    Returns:
        The lower and the upper ends, ``(rows,)``.
    """
    like = {"dtype": around.dtype, "device": around.device}
    index = torch.arange(nodes, **like)
    lower, upper = (
        (around - 60.0).clamp(-_FARTHEST, 0.9 * _FARTHEST),
        (around + 60.0).clamp(-0.9 * _FARTHEST, _FARTHEST),
    )
    for _ in range(_MOST_SEARCHES):
        width = upper - lower
        step = width / (nodes - 1)
        values = evaluate(lower.unsqueeze(-1) + step.unsqueeze(-1) * index)
        high = values >= values.amax(-1, keepdim=True) - _DEPTH
        first = torch.where(high, index, nodes).amin(-1)
        last = torch.where(high, index, -1.0).amax(-1)
        below = torch.where(first == 0, lower - width, lower + (first - 1) * step).clamp_min(-_FARTHEST)
        above = torch.where(last == nodes - 1, upper + width, lower + (last + 1) * step).clamp_max(_FARTHEST)
        settled = (below >= lower) & (above <= upper) & (above - below > 0.7 * width)
        lower, upper = below, above
        if bool(settled.all()):
            break
    return lower, upper


def _log_trapezoid(values: torch.Tensor) -> torch.Tensor:
    """Return the log of the trapezoidal rule's sum along the last axis, at steps of 1."""
    values = values.clone()
    values[..., [0, -1]] -= math.log(2.0)
    return values.logsumexp(-1)


def _most_above_interpolation(table: torch.Tensor) -> torch.Tensor:
    """Return how many times larger than the linear interpolation between a row's nodes the density may be.

    It is how far the odd nodes rise above the interpolation between the even ones: at half the step a smooth hump
    rises a quarter as far.
    """
    sides = 0.5 * (table[:, :-2:2] + table[:, 2::2])
    ratio = torch.where(sides > 1e-12, table[:, 1:-1:2] / sides.clamp_min(1e-12), torch.ones_like(sides))
    return torch.cat([ratio.flatten(), ratio.new_full((1,), 1.01)]).max()


def _draw(table: torch.Tensor, each: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from the linear interpolation between the nodes of each row.

    Args:
        table: The density at nodes 0, 1, ..., up to a factor a row, ``(rows, nodes)``.
        each: How many draws a row.
        generator: The source of randomness.

    Returns:
        The draws, and the interpolation there, ``(rows, each)``.
    """
    like = {"generator": generator, "dtype": table.dtype, "device": table.device}
    shape, last = (table.shape[0], each), table.shape[1] - 1
    weights = table.clone()
    weights[:, [0, -1]] *= 0.5
    cumulative = weights.cumsum(-1)
    node = torch.searchsorted(cumulative, torch.rand(shape, **like) * cumulative[:, -1:], right=True).clamp_max(last)
    position = (node + torch.rand(shape, **like) - torch.rand(shape, **like)).abs()
    position = last - (last - position).abs()  # a step over an edge comes back: the edges have half a weight
    base = position.to(torch.int64).clamp_max(last - 1)
    return position, torch.lerp(table.gather(1, base), table.gather(1, base + 1), position - base)
