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

Draws. The interpolation of the table (`bayesreg.inference.row_mixture`) proposes, and rejection against the density
makes the pair exact; rows are added until the density is nowhere far above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bayesreg.inference import brackets
from bayesreg.inference.row_mixture import RowMixture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bayesreg.target import Target

    # log p(y | s, t), up to an additive constant, of log s and log(t / s^k), elementwise on shapes that broadcast.
    LogEvidence = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]

EVIDENCE_TOLERANCE = 1e-10
# What may lie beyond and be left out of the draws; it counts as an error of the evidence in any case.
_LARGEST_MASS_BEYOND = 1e-4
# A slope at the end of the range below this is none.
_FLAT = 1e-6
# Enough for the interpolation to be accepted nearly always: a step is then a seventh of a standard deviation.
_FEWEST_NODES = 129
_MOST_NODES = 2**21
# A search sees the largest value to within a node, and what is beside it: humps may be far narrower than the step.
_OUTER_SEARCH_NODES, _INNER_SEARCH_NODES = 65, 33
# Rows are added until this share of the proposals is kept.
_LEAST_ACCEPTANCE = 0.7
_PROPOSALS_AT_ONCE = 100_000
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
        tolerance: The error of the log evidence that is asked for, in nats.

    Attributes:
        log_evidence: log p(y), the scales integrated out.
        evidence_error: How far it may be off, in nats: by the steps, and by the mass beyond the range of float64.
        allowed_error: The tolerance, or the rounding of a log evidence so large that it cannot be had to it.
        shape: The numbers of nodes, outer and inner.

    Raises:
        ValueError: The density does not fall off, or too slowly for the range of float64.
    """

    def __init__(
        self, target: Target, log_evidence: LogEvidence, noise_power: int, tolerance: float = EVIDENCE_TOLERANCE
    ):
        self._log_evidence, self._learned = log_evidence, target.learned_scales
        self._degrees = target.num_rows + target.num_features
        self._num_rows, self._flat = target.num_rows, target.model.prior.kind == "flat"
        self._known_log_noise = None if target.known_noise_scale is None else target.known_noise_scale.log()
        self._noise_power, self._tolerance = noise_power, tolerance
        self._like = {"dtype": target.dtype, "device": target.device}
        self._both = len(self._learned) == 2
        self._inner = next(iter(self._learned))
        # A scale whose coordinate is its logarithm can be had from the other one and their ratio.
        self._from_ratio = None
        if self._both and noise_power:
            logarithms = [name for name in ("prior_scale", "noise_scale") if self._learned[name].is_logarithm]
            self._from_ratio = next(iter(logarithms), None)
            self._inner = "prior_scale" if self._from_ratio == "noise_scale" else "noise_scale"
        self._log_jacobian = -math.log(noise_power) if self._from_ratio == "noise_scale" else 0.0
        start = dict(zip(self._learned, target.start()[-len(self._learned) :], strict=True))
        self._start = start
        self._refine()

    def nodes(self) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return nodes, the learned scales ``(nodes,)`` by name, and their probabilities ``(nodes,)``.

        As few a row as still give the evidence to what is allowed.
        """
        for stride in (8, 4, 2, 1):
            values = self._values[:, ::stride] + math.log(stride)
            if abs(self._integral(values) - self.log_evidence) < self.allowed_error:
                break
        row, column = (torch.arange(count, **self._like) for count in values.shape)
        inner = self._lower.unsqueeze(-1) + self._steps.unsqueeze(-1) * stride * column
        scales = self._scales((self._outer_lower + self._outer_step * row).unsqueeze(-1).expand_as(inner), inner)
        terms = _halved_ends(_halved_ends(values).mT).mT if self._both else _halved_ends(values)
        return {name: at.flatten() for name, at in scales.items()}, terms.flatten().softmax(0)

    def propose(
        self, size: int, generators: Sequence[torch.Generator]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Draw scales from an envelope of their density: for who rejects on other grounds too.

        Args:
            size: How many from each generator.
            generators: One a chain, whose draws do not depend on the others.

        Returns:
            The learned scales ``(chains, size)`` by name, the log density of their own unconstrained coordinates, and
            the log probability to keep each.
        """
        outer, inner, log_density, log_keep = self._propose(size, generators)
        return self._scales(outer, inner), log_density - self._log_jacobian, log_keep

    def draw_chains(
        self, size: int, generators: Sequence[torch.Generator]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Draw scales independently, for several chains at once, each with its density.

        Args:
            size: How many a chain.
            generators: One a chain, whose draws do not depend on the others.

        Returns:
            The learned scales ``(chains, size)`` by name, and the log density of their own unconstrained coordinates
            there.
        """
        batch, accept = self._accepted(self._proposals_for(size), generators)
        rank = accept.cumsum(-1)
        if bool((rank[:, -1] >= size).all()):
            kept = batch[:, accept & (rank <= size)].reshape(3, len(generators), size)
        else:
            first = [batch[:, chain, accept[chain]] for chain in range(len(generators))]
            kept = torch.stack([self._complete(*chain, size) for chain in zip(first, generators, strict=True)], 1)
        outer, inner, log_density = kept
        return self._scales(outer, inner), log_density - self._log_jacobian

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
        density = self._log_jacobian
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

    # --- the table

    def _refine(self) -> None:
        """Tabulate on ever more nodes, until leaving out every second one along either axis changes nothing."""
        outer, rows = self._bracket()
        nodes = (_FEWEST_NODES if self._both else 1, _FEWEST_NODES)
        while True:
            rows = self._tabulate(outer, rows, *nodes)
            self.shape, self.log_evidence = nodes, self._integral(self._values)
            size_of_terms = abs(self.log_evidence) + self._num_rows
            self.allowed_error = max(self._tolerance, 4.0 * torch.finfo(self._values.dtype).eps * size_of_terms)
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
            most = math.prod(finer) > _MOST_NODES
            if finer == nodes or most:
                self._mixture = RowMixture(
                    self._log_density, self._outer_lower, self._outer_step, self._lower, self._steps, self._values
                )
                # Rows that differ from the next are not interpolated well, however well they are summed.
                if not self._both or self._mixture.acceptance >= _LEAST_ACCEPTANCE or most:
                    break
                finer = (2 * nodes[0] - 1, nodes[1])
                if math.prod(finer) > _MOST_NODES:
                    break
            nodes = finer
        self.evidence_error = max(errors) + self._mass_beyond()

    def _bracket(self) -> tuple[tuple[torch.Tensor, torch.Tensor], _Rows]:
        """Return the ends of the outer axis, and the rows' brackets along it."""
        centre = self._start[self._inner].reshape(1)
        zero = torch.zeros((1,), **self._like)
        rows = _Rows(zero, *brackets.around(centre))
        if not self._both:
            return (zero, zero), rows
        if self._from_ratio is None:
            likely = self._start["prior_scale"]
        else:
            likely = self._log("prior_scale", self._start["prior_scale"])
            likely = likely - self._noise_power * self._log("noise_scale", self._start["noise_scale"])

        def profile(points: torch.Tensor) -> torch.Tensor:
            nonlocal rows
            outer = points.squeeze(0)
            rows, highest = self._search_rows(outer, rows)
            return highest.unsqueeze(0)

        lower, upper, _ = brackets.search(
            profile, *brackets.around(likely.reshape(1)), _OUTER_SEARCH_NODES, self._degrees
        )
        return (lower, upper), rows

    def _search_rows(self, outer: torch.Tensor, near: _Rows) -> tuple[_Rows, torch.Tensor]:
        """Return the rows' brackets, and each row's largest density, near enough to judge it by."""

        def log_density(inner: torch.Tensor) -> torch.Tensor:
            return self._log_density(outer.unsqueeze(-1), inner).expand(inner.shape)

        nodes = _INNER_SEARCH_NODES if self._both else _FEWEST_NODES
        # At one ratio the evidence is log-concave along the other coordinate, as the usual priors are: one peak.
        degrees = self._degrees if self._noise_power and self._from_ratio is None else 0
        lower, upper, highest = brackets.search(log_density, *near.at(outer), nodes, degrees)
        return _Rows(outer, lower, upper), highest

    def _tabulate(
        self, ends: tuple[torch.Tensor, torch.Tensor], near: _Rows, outer_nodes: int, inner_nodes: int
    ) -> _Rows:
        """Set the nodes and the log density there, each row's times its step; return the rows' brackets."""
        self._outer_lower, self._outer_upper = (end.squeeze(0) for end in ends)
        self._outer_step = (self._outer_upper - self._outer_lower) / max(outer_nodes - 1, 1)
        outer = self._outer_lower + self._outer_step * torch.arange(outer_nodes, **self._like)
        rows = self._search_rows(outer, near)[0]
        width = rows.upper - rows.lower
        inner = rows.lower.unsqueeze(-1) + width.unsqueeze(-1) * torch.linspace(0.0, 1.0, inner_nodes, **self._like)
        self._lower, self._upper, self._steps = rows.lower, rows.upper, width / (inner_nodes - 1)
        self._values = self._log_density(outer.unsqueeze(-1), inner) + self._steps.log().unsqueeze(-1)
        return rows

    def _integral(self, values: torch.Tensor) -> float:
        """Return the log of the trapezoidal rule's sum, at the table's own steps."""
        masses = _log_trapezoid(values)
        return float(_log_trapezoid(masses) + self._outer_step.log() if self._both else masses)

    def _mass_beyond(self) -> float:
        """Return a bound on the mass where coordinates leave their range, from the slopes there.

        A log density that is concave beyond, as for every prior of a scale that a file can name, falls at least as fast
        as it does at the end, so the mass beyond is at most the last term of the sum by its slope a node.

        Raises:
            ValueError: There is no slope, or too much mass beyond.
        """
        terms = self._values - self.log_evidence + (self._outer_step.log() if self._both else 0.0)
        inner, outer = self._inner, "prior_scale / noise_scale" if self._from_ratio else "prior_scale"
        ends = [
            (inner, "lower", self._lower <= -brackets.FARTHEST, terms[:, 0], terms[:, 1], self._steps),
            (inner, "upper", self._upper >= brackets.FARTHEST, terms[:, -1], terms[:, -2], self._steps),
        ]
        if self._both:
            rows = terms.logsumexp(1)
            ends += [
                (outer, "lower", self._outer_lower <= -brackets.FARTHEST, rows[0], rows[1], self._outer_step),
                (outer, "upper", self._outer_upper >= brackets.FARTHEST, rows[-1], rows[-2], self._outer_step),
            ]
        beyond = 0.0
        for name, end, reached, last, before, step in ends:
            counts = reached & (last > -brackets.DEPTH)
            fall = (before - last)[counts]
            if bool((fall <= _FLAT * step.expand(last.shape)[counts]).any()):
                raise ValueError(
                    f"the posterior is improper: its density does not fall off as {name} approaches the {end} end of "
                    f"its range. Give {inner} a proper prior such as dist.HalfNormal(1.0), a known value, or the "
                    "weights a proper prior."
                )
            mass = float((last[counts].exp() / fall).sum())
            if mass > _LARGEST_MASS_BEYOND:
                limit = math.exp(-brackets.FARTHEST if end == "lower" else brackets.FARTHEST)
                raise ValueError(
                    f"the posterior has too heavy a tail: about {mass:.2g} of its mass lies where {name} is "
                    f"{'below' if end == 'lower' else 'above'} {limit:.1g}, where float64 ends to square it "
                    f"(allowed: {_LARGEST_MASS_BEYOND:g}). Give it a prior with less weight there, such as "
                    "dist.HalfNormal(1.0) or dist.LogNormal(0.0, 1.0), or a known value."
                )
            beyond += mass
        return beyond

    # --- the draws

    def _proposals_for(self, size: int) -> int:
        return min(int(1.02 * size / self._mixture.acceptance) + 20, max(size, _PROPOSALS_AT_ONCE))

    @property
    def acceptance(self) -> float:
        """The share of proposed scales that is kept, as far as the table tells."""
        return self._mixture.acceptance

    def _scales(self, outer: torch.Tensor, inner: torch.Tensor) -> dict[str, torch.Tensor]:
        coordinates = self._coordinates(outer, inner)
        return {name: learned.constrain(coordinates[name]) for name, learned in self._learned.items()}

    def _propose(
        self, size: int, generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return both coordinates, the log density and the log probability to keep, ``(chains, size)`` each."""
        proposed = self._mixture.draw(size, generators)
        log_density = self._log_density(proposed.outer, proposed.inner)
        log_keep = (log_density - proposed.log_envelope).clamp_max(0.0)
        return proposed.outer.expand(log_density.shape), proposed.inner, log_density, log_keep

    def _accepted(self, size: int, generators: Sequence[torch.Generator]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the coordinates and the log density of proposals ``(3, chains, size)``, and which of them to keep."""
        outer, inner, log_density, log_keep = self._propose(size, generators)
        uniform = torch.stack([torch.rand(size, generator=generator, **self._like) for generator in generators])
        return torch.stack([outer, inner, log_density]), uniform <= log_keep.exp()

    def _complete(self, kept: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
        """Propose further until there are enough.

        Args:
            kept: What was kept so far, ``(3, count)``.
            generator: The source of randomness.
            size: How many there shall be.

        Returns:
            ``(3, size)``.

        Raises:
            ValueError: Hardly any proposal is accepted.
        """
        proposed = 0
        while kept.shape[-1] < size:
            if proposed > _MOST_PROPOSALS * (size + 10):
                raise ValueError(
                    f"{proposed} proposals gave {kept.shape[-1]} of {size} draws of the learned scales (allowed: "
                    f"{_MOST_PROPOSALS} a draw): their posterior is too narrow for its table. Give the scales priors "
                    "with less weight at the ends, such as dist.HalfNormal(1.0), or sample by method='pyro-nuts'."
                )
            count = self._proposals_for(size - kept.shape[-1])
            batch, accept = self._accepted(count, [generator])
            kept, proposed = torch.cat([kept, batch[:, accept]], -1), proposed + count
        return kept[:, :size]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Brackets of the inner coordinate at increasing outer ones, ``(rows,)`` each: where to look for those between."""

    outer: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor

    def at(self, outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return, of the rows before and after, the wider ends."""
        last = self.outer.shape[0] - 1
        after = torch.searchsorted(self.outer, outer).clamp(max=last)
        before = (after - 1).clamp_min(0)
        return torch.minimum(self.lower[before], self.lower[after]), torch.maximum(
            self.upper[before], self.upper[after]
        )


def _halved_ends(values: torch.Tensor) -> torch.Tensor:
    """Return the logs of the trapezoidal rule's terms along the last axis, at steps of 1."""
    return torch.cat([values[..., :1] - math.log(2.0), values[..., 1:-1], values[..., -1:] - math.log(2.0)], -1)


def _log_trapezoid(values: torch.Tensor) -> torch.Tensor:
    """Return the log of their sum."""
    return _halved_ends(values).logsumexp(-1)
