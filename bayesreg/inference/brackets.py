"""Where log densities of one variable have their mass: a bracket each, many at once.

A bracket grows where its end is still within `DEPTH` nats of the peak, and is cut to the nodes that are, and one more
on either side. Of a log-concave density this cuts off nothing: what a coarse grid sees of the peak is too low, not too
high. It is too low by no more than the larger fall from the highest node to the next, as a concave function stays below
its chords' continuation; so a row that cannot come near the highest is left as it is. The coordinates are logarithms or
logits of scales, so their range is bounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

# A bracket ends where the density has fallen by this many nats: a mass of 4e-18.
DEPTH = 40.0
# A coordinate is a logarithm (or a logit): beyond this, squares of the scale leave the range of float64.
FARTHEST = 300.0
_MOST_SEARCHES = 40
# What a peak may rise by between two nodes, in nats, and how many nodes are spent on that.
_LARGEST_UNSEEN, _MOST_NODES = 4.0, 2**13
# A bracket that the last step has cut by less than this share is narrow enough.
_WORTH_CUTTING = 0.3


def around(centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ends ``(rows,)`` to begin with, where nothing but a likely place ``(rows,)`` is known."""
    lower = (centre - 60.0).clamp(-FARTHEST, 0.9 * FARTHEST)
    return lower, (centre + 60.0).clamp(-0.9 * FARTHEST, FARTHEST)


def search(
    evaluate: Callable[[torch.Tensor], torch.Tensor],
    lower: torch.Tensor,
    upper: torch.Tensor,
    nodes: int,
    degrees: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bracket, row by row, where a log density is within `DEPTH` of its row's peak.

    The rows belong to one density: those more than `DEPTH` below the highest have no bracket to speak of.

    Args:
        evaluate: Takes points ``(rows, nodes)``; the log density there.
        lower: The lower ends to begin with, ``(rows,)``.
        upper: The upper ends.
        nodes: Points a row, at least.
        degrees: nu, where the density may have several peaks, each as narrow as those of -nu (u + e^(-2u) / 2): more
            points are looked at while a peak could hide between two of them, since the one that rises highest there
            need not have the highest node.

    Returns:
        The lower and the upper ends, and the largest log density seen, ``(rows,)`` each.
    """
    least, largest_step = nodes, math.sqrt(4.0 * _LARGEST_UNSEEN / max(degrees, 1))
    hopeless = torch.zeros(lower.shape, dtype=torch.bool, device=lower.device)
    for _ in range(_MOST_SEARCHES):
        width = upper - lower
        if degrees:
            nodes = max(least, min(_MOST_NODES, 1 + math.ceil(float(width.max()) / largest_step)))
        index = torch.arange(nodes, dtype=lower.dtype, device=lower.device)
        step = width / (nodes - 1)
        values = evaluate(lower.unsqueeze(-1) + step.unsqueeze(-1) * index)
        highest = values.amax(-1)
        # Half a step from a peak of nu degrees of freedom, such a density is lower by this.
        unseen = 0.5 * degrees * (step.clamp_max(30.0).expm1() - step)
        high = values >= (highest - DEPTH - unseen).unsqueeze(-1)
        first = torch.where(high, index, nodes).amin(-1)
        last = torch.where(high, index, -1.0).amax(-1)
        below = torch.where(first == 0, lower - width, lower + (first - 1) * step).clamp_min(-FARTHEST)
        above = torch.where(last == nodes - 1, upper + width, lower + (last + 1) * step).clamp_max(FARTHEST)
        settled = (below >= lower) & (above <= upper) & (above - below > (1.0 - _WORTH_CUTTING) * width)
        lower, upper = below, above
        inside = (first > 0) & (last < nodes - 1)
        falls = highest.unsqueeze(-1) - values.gather(-1, _beside(values.argmax(-1), nodes))
        hopeless |= inside & (highest + falls.amax(-1) + unseen < highest.amax() - DEPTH)
        if bool((settled | hopeless).all()):
            break
    return lower, upper, highest


def _beside(node: torch.Tensor, nodes: int) -> torch.Tensor:
    return torch.stack([(node - 1).clamp_min(0), (node + 1).clamp_max(nodes - 1)], -1)
