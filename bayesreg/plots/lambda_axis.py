"""The axis of lambda of a picture: logarithmic, weaker penalties to the right, with what a strength stands for on top.

A strength of 0, which a logarithmic axis has no place for, stands apart at the right end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bayesreg.plots.parts import GREY, length_of, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECTION = "λ (weaker penalties to the right)"
# How far to the right of the smallest positive strength a strength of 0 stands, as a factor.
_APART = 4.0
_POINTS_A_ROW = 12.0  # of letters of 9 points
_MOST_TICKS, _POINTS_A_TICK = 8, 50.0


@dataclass(frozen=True, eq=False)
class LambdaAxis:
    """Strengths and their places on the axis, from the largest to the smallest.

    Attributes:
        order: Positions of the strengths in the order given, the largest first.
        lambdas: The strengths in that order.
        place: Where each stands.
    """

    order: np.ndarray
    lambdas: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, lambdas: np.ndarray) -> LambdaAxis:
        """Find the places of strengths.

        Args:
            lambdas: Strengths `(m,)`, finite and at least 0.

        Returns:
            The axis.

        Raises:
            ValueError: A strength is negative or not finite, or none is positive.
        """
        if lambdas.ndim != 1 or not (np.isfinite(lambdas) & (lambdas >= 0)).all() or not (lambdas > 0).any():
            raise ValueError(f"lambdas must be finite numbers of at least 0, one of them larger, got {lambdas}")
        order = np.argsort(-lambdas, kind="stable")
        ordered = lambdas[order]
        return cls(order, ordered, np.where(ordered > 0, ordered, ordered[ordered > 0][-1] / _APART))

    @property
    def positive(self) -> np.ndarray:
        """Which strengths are positive, `(m,)`."""
        return self.lambdas > 0

    def at(self, strength: float) -> float:
        """Return the place of a strength, at the end of the axis where it is beyond."""
        inside = float(np.clip(strength, self.place[-1], self.place[0]))
        smallest = float(self.lambdas[self.positive][-1])
        return max(inside, smallest) if strength > 0 else inside

    def draw(self, ax: Axes) -> None:
        """Set the scale, the direction and the ticks of the axis, once everything is on it."""
        ax.set_xscale("log")
        ends = self.place[[0, -1]] if self.place[0] > self.place[-1] else self.place[0] * np.array([2.0, 0.5])
        beyond = (ends[0] / ends[1]) ** 0.02
        ax.set_xlim(ends[0] * beyond, ends[1] / beyond)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_major_locator(_locator(ends[0] / ends[1], most_ticks(ax)))
        ax.xaxis.set_minor_locator(NullLocator())
        if not self.positive.all():
            ticks = [tick for tick in ax.get_xticks() if self.lambdas[self.positive][-1] <= tick <= ends[0]]
            ax.set_xticks([self.place[-1], *ticks], ["0", *(f"{tick:g}" for tick in ticks)])


def draw_line(ax: Axes, axis: LambdaAxis, values: np.ndarray, **style: object) -> None:
    """Draw values over the positive strengths as a line, and the one at a strength of 0 as a dot.

    Args:
        ax: The axes.
        axis: The axis of the strengths.
        values: Values `(m,)`, in the order of the axis.
        **style: The style of the line.
    """
    positive = axis.positive
    ax.plot(axis.place[positive], values[positive], **style)
    if not positive.all():
        dot = {"marker": "o", "markersize": 4, "linestyle": "none", "color": style.get("color")}
        ax.plot(axis.place[~positive], values[~positive], **dot)


def draw_band(ax: Axes, axis: LambdaAxis, lower: np.ndarray, upper: np.ndarray, color: str, words: str) -> None:
    """Shade what lies between two curves over the positive strengths.

    Args:
        ax: The axes.
        axis: The axis of the strengths.
        lower: The lower curve `(m,)`, in the order of the axis.
        upper: The upper one.
        color: Its colour, that of the curve between them.
        words: What it is.
    """
    shown = axis.positive
    ax.fill_between(axis.place[shown], lower[shown], upper[shown], color=color, alpha=0.2, linewidth=0, label=words)


def top_row(ax: Axes, places: np.ndarray, words: Sequence[str], label: str, above: float) -> Axes:
    """Put a row of words on top of the axes, over places of lambda.

    Args:
        ax: The axes, their axis of lambda drawn.
        places: The strengths over which they stand.
        words: What stands there.
        label: What they are, above them.
        above: How far above the axes, in points; at 0 there are ticks.

    Returns:
        The new axis.
    """
    top = ax.secondary_xaxis("top")
    top.spines["top"].set(position=("outward", above), visible=above == 0)
    top.set_xticks(places, words, fontsize=9)
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel(wrapped(label, width_of(ax), 9.0), fontsize=9)
    if above > 0:
        top.tick_params(length=0, pad=0)
    return top


def most_ticks(ax: Axes) -> int:
    """Return how many ticks the axis has room for."""
    return int(np.clip(width_of(ax) / _POINTS_A_TICK, 3, _MOST_TICKS))


def round_values(low: float, high: float, most: int = _MOST_TICKS) -> np.ndarray:
    """Return few round values between two positive numbers, evenly in their logarithm as far as round ones are."""
    values = np.asarray(_locator(high / low, most).tick_values(low, high))
    return values[(values >= low) & (values <= high)]


def mark_lambdas(ax: Axes, marks: Sequence[tuple[float, str]]) -> float:
    """Draw a dotted line at strengths, with their names above the axes, in as many rows as keep them apart.

    Args:
        ax: The axes, their axis of lambda drawn.
        marks: Places on the axis, and names; those of one place share a line and a label.

    Returns:
        Points above the axes that the names take.
    """
    shared: dict[float, list[str]] = {}
    for place, words in marks:
        shared.setdefault(place, []).append(words)
    first, last = np.log(ax.get_xlim())
    width = 0.85 * width_of(ax)  # what a layout may leave of it
    rows: list[list[tuple[float, float]]] = []  # of each, from where to where it is taken
    for place in sorted(shared, reverse=True):
        ax.axvline(place, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        words = ", ".join(shared[place])
        across = width * (np.log(place) - first) / (last - first)
        length = length_of(words, 9.0) + 6.0
        # First to the left of its line, where no later one will be: so two near ones share a row.
        sides = {"right": (across - length, across), "left": (across, across + length)}
        inside = [side for side, (start, end) in sides.items() if start >= 0 and end <= width] or ["left"]
        free = (
            (number, side)
            for number, row in enumerate([*rows, []])
            for side in inside
            if all(sides[side][1] <= start or end <= sides[side][0] for start, end in row)
        )
        number, side = next(free)
        if number == len(rows):
            rows.append([])
        rows[number].append(sides[side])
        offset = (3.0 if side == "left" else -3.0, 4.0 + _POINTS_A_ROW * number)
        anchor = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
        ax.annotate(words, (place, 1.0), offset, ha=side, va="bottom", fontsize=9, **anchor)
    return _POINTS_A_ROW * len(rows)


def _locator(ratio: float, most: int) -> LogLocator:
    """Return what places the ticks, at most so many, of an axis whose ends have this ratio."""
    decades = np.log10(ratio)
    subs = (1.0,) if decades > min(3.0, most / 2) else (1.0, 3.0) if decades > min(1.5, most / 3) else (1.0, 2.0, 5.0)
    return LogLocator(subs=subs, numticks=most)
