"""A density of two coordinates known on rows, each with its own nodes: its interpolation, to draw from and to evaluate.

Along a row, a node by its weight and a triangular step are a draw from the linear interpolation g between its nodes.
Between rows k and k + 1 nothing at equal inner coordinates can be interpolated, as a ridge may bend and be thin. So
each row is taken in units of its own, z = (y - m_k) / d_k with its mean m_k and standard deviation d_k. At the outer
coordinate x, the share h of the way from row k to the next, the interpolation is a mixture of both rows, moved to the
mean m(x) and standard deviation d(x) that are linear in between,

    q(x, y) = M(x) [ (1 - h) g_k(z) + h g_{k+1}(z) ] / d(x),        z = (y - m(x)) / d(x),

with M(x) the linear interpolation of the rows' masses. Where the density is smooth it is right to second order in the
steps. To be an envelope for rejection, each cell between two rows is raised by how far the density is above it in the
middles of its cells, where the interpolation is at its worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOWEST = -1e300
_SMALLEST_SD = 1e-3
# Rounding may put a draw so far (in nodes) beyond the row that it is from.
_MARGIN = 1e-9
# An envelope is at least this much above the interpolation. What lies so many nats below the peak, a mass of about
# 1e-12, need not be under it; and a cell of less than the smallest mass is not raised beyond its cost.
_LEAST_LIFT, _LARGEST_LIFT = 0.01, 50.0
_DEPTH = 28.0
_SMALLEST_MASS, _LARGEST_COST = 1e-9, 1e-4


@dataclass(frozen=True, eq=False)
class Proposals:
    """Pairs of coordinates.

    Attributes:
        outer: x, any shape.
        inner: y, of the same shape.
        log_envelope: The log of the envelope there, on the scale of the table's values.
    """

    outer: torch.Tensor
    inner: torch.Tensor
    log_envelope: torch.Tensor


class RowMixture:
    """The interpolation of a table by rows; a table of one row has no outer coordinate.

    Args:
        log_density: Takes x and y, which broadcast, and returns the log density there.
        outer_lower: x of the first row.
        outer_step: How far the rows are apart.
        lower: y of each row's first node ``(rows,)``.
        steps: How far a row's nodes are apart ``(rows,)``.
        values: The log density at the nodes, plus the log of the row's step ``(rows, nodes)``.

    Attributes:
        acceptance: About the share of draws that is under the density.
    """

    def __init__(
        self,
        log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        outer_lower: torch.Tensor,
        outer_step: torch.Tensor,
        lower: torch.Tensor,
        steps: torch.Tensor,
        values: torch.Tensor,
    ):
        self._outer_lower, self._outer_step = outer_lower, outer_step
        self._rows, self._nodes = values.shape
        index = torch.arange(self._nodes, dtype=values.dtype, device=values.device)
        highest = values.amax(-1, keepdim=True)
        heights = (values - highest.clamp_min(_LOWEST)).exp()  # a row may have no density at all
        weights = heights.clone()
        weights[:, [0, -1]] *= 0.5
        totals = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        weights /= totals
        log_masses = (totals.log() + highest).squeeze(-1)
        self._log_scale = log_masses.max()
        self._masses = (log_masses - self._log_scale).exp()
        # In nodes: means, standard deviations (any unit does that is the same for near rows), the density of z.
        self._mean_nodes = weights @ index
        self._sd_nodes = (
            ((index - self._mean_nodes.unsqueeze(-1)).square() * weights).sum(-1).sqrt().clamp_min(_SMALLEST_SD)
        )
        self._heights = (heights / totals * self._sd_nodes.unsqueeze(-1)).flatten()
        self._means = lower + steps * self._mean_nodes
        self._sds = steps * self._sd_nodes
        # Row k's distribution function goes from k to k + 1: one increasing sequence to search in.
        numbers = torch.arange(self._rows, dtype=values.dtype, device=values.device).unsqueeze(-1)
        self._cumulative = (weights.cumsum(-1) + numbers).flatten()
        self._lifts = torch.zeros(max(self._rows - 1, 1), dtype=values.dtype, device=values.device)
        self._lift(log_density)

    def _lift(self, log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        """Raise each cell between two rows to where the density is not above it."""
        middles = torch.arange(self._nodes - 1, dtype=self._masses.dtype, device=self._masses.device) + 0.5
        if self._rows == 1:
            worst = self._at(None, None, ((middles - self._mean_nodes) / self._sd_nodes).unsqueeze(0))
            widths, ends = self._sds, self._masses.unsqueeze(-1)
        else:
            middles = middles[::2]  # neighbours along a row hardly differ
            base = torch.arange(self._rows - 1, dtype=torch.int64, device=self._masses.device).unsqueeze(-1)
            share = torch.full((1, 1), 0.5, dtype=self._masses.dtype, device=self._masses.device)
            worst = self._at(base, share, (middles - self._mean_nodes[base]) / self._sd_nodes[base])
            # A cell's linear density is that of its two ends, each falling to 0 at the other.
            widths, ends = self._sds[:-1], torch.stack([self._masses[:-1], self._masses[1:]], -1)
        log_heights = log_density(worst.outer, worst.inner)
        by_mass = log_heights + widths.log().unsqueeze(-1)
        above = torch.where(by_mass > by_mass.amax() - _DEPTH, log_heights - worst.log_envelope, 0.0)
        share = ends.sum(-1) / ends.sum()
        most = torch.where(share < _SMALLEST_MASS, (_LARGEST_COST / share).log(), _LARGEST_LIFT)
        self._lifts = above.amax(-1).clamp_min(_LEAST_LIFT).minimum(most)
        factors = self._lifts.exp()
        lifted = factors.unsqueeze(-1) * ends
        self._cell_cumulative = lifted.flatten().cumsum(-1)
        self.acceptance = float(ends.sum() / lifted.sum())

    def draw(self, size: int, generators: Sequence[torch.Generator]) -> Proposals:
        """Draw from the envelope, independently.

        Args:
            size: How many from each generator.
            generators: The sources of randomness; what one gives does not depend on the others.

        Returns:
            Coordinates ``(generators, size)`` and the envelope there; the outer one is a single number in a table of
            one row.
        """
        shape, like = (3 if self._rows == 1 else 7, size), {"dtype": self._masses.dtype, "device": self._masses.device}
        uniform = torch.stack([torch.rand(shape, generator=generator, **like) for generator in generators], 1)
        row, base, share = None, None, None
        if self._rows > 1:
            end = torch.searchsorted(self._cell_cumulative, uniform[3] * self._cell_cumulative[-1], right=True)
            end = end.clamp_max(2 * self._rows - 3)
            base, upper = end // 2, end % 2
            away = torch.minimum(uniform[4], uniform[5])
            share = torch.where(upper == 1, 1.0 - away, away)
            row = base + (uniform[6] < share)
        last = self._nodes - 1
        if row is None:
            node = torch.searchsorted(self._cumulative, uniform[0], right=True)
            mean, sd = self._mean_nodes, self._sd_nodes
        else:
            node = torch.searchsorted(self._cumulative, uniform[0] + row, right=True) - self._nodes * row
            mean, sd = self._mean_nodes[row], self._sd_nodes[row]
        position = _step_from(node.clamp(0, last), uniform[1], uniform[2], last)
        return self._at(base, share, (position - mean) / sd)

    def _at(self, base: torch.Tensor | None, share: torch.Tensor | None, standard: torch.Tensor) -> Proposals:
        """Return the coordinates and the envelope at z, the share h of the way from row k (None: the only one)."""
        if base is None:
            density = self._height(None, standard)
            inner = self._means + self._sds * standard
            return Proposals(self._outer_lower, inner, (density / self._sds).log() + (self._log_scale + self._lifts))
        after = base + 1
        density = torch.lerp(self._height(base, standard), self._height(after, standard), share)
        mass = torch.lerp(self._masses[base], self._masses[after], share)
        sd = torch.lerp(self._sds[base], self._sds[after], share)
        inner = torch.lerp(self._means[base], self._means[after], share) + sd * standard
        outer = self._outer_lower + (base + share) * self._outer_step
        return Proposals(outer, inner, (density * mass / sd).log() + (self._log_scale + self._lifts[base]))

    def _height(self, row: torch.Tensor | None, standard: torch.Tensor) -> torch.Tensor:
        """Return the density of z in a row, 0 beyond its ends."""
        mean, sd = (self._mean_nodes, self._sd_nodes) if row is None else (self._mean_nodes[row], self._sd_nodes[row])
        position = mean + sd * standard
        base = position.clamp(0, self._nodes - 2).to(torch.int64)
        index = base if row is None else base + self._nodes * row
        height = torch.lerp(self._heights[index], self._heights[index + 1], position - base)
        beyond = (position < -_MARGIN) | (position > self._nodes - 1 + _MARGIN)
        return height.masked_fill(beyond, 0.0)


def _step_from(node: torch.Tensor, forward: torch.Tensor, backward: torch.Tensor, last: int) -> torch.Tensor:
    """Return a draw from the triangle round a node: one over an edge comes back, as the edges have half a weight."""
    position = (node + forward - backward).abs()
    return last - (last - position).abs()
