"""What the pictures share: the palette, axes without a frame, labels that keep apart.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
BLUE, VERMILLION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#666666"


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches, without the frame's top and right."""
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend_above(ax: Axes) -> None:
    """Put a legend on top of the axes, in one row where they are wide enough."""
    columns = 5 if ax.get_window_extent().width > 5.2 * ax.figure.dpi else 3
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    ax.legend(ncols=columns, frameon=False, fontsize=9, handlelength=1.4, columnspacing=1.4, **place)


def label_points(ax: Axes, across: np.ndarray, up: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside points near a rising diagonal, below and above it in turn; points that touch share a label."""
    order = np.argsort(across)
    near = 0.02 * max(np.ptp(across), np.ptp(up))
    groups = [[order[0]]]
    for index in order[1:]:
        last = groups[-1][-1]
        touches = max(abs(across[index] - across[last]), abs(up[index] - up[last])) <= near
        groups = [*groups[:-1], [*groups[-1], index]] if touches else [*groups, [index]]
    sides = (((7, -5), "left", "top"), ((-7, 5), "right", "bottom"))
    for turn, group in enumerate(groups):
        offset, horizontal, vertical = sides[turn % 2]
        words = ", ".join(names[index] for index in sorted(group))
        place = {"xytext": offset, "textcoords": "offset points", "ha": horizontal, "va": vertical}
        ax.annotate(words, (across[group].mean(), up[group].mean()), fontsize=9, **place)


def label_ends(ax: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write names at the right of lines, pushed apart where they would meet.

    Args:
        ax: The axes, their limits settled.
        ends: Name, height at which the line ends, and colour of each.
    """
    height = ax.get_window_extent().height / ax.figure.dpi * 72.0
    gap = 12.0 / height
    to_axes = ax.transData + ax.transAxes.inverted()
    low, high = ax.get_ylim()
    places = [to_axes.transform((1.0, float(np.clip(end, low, high))))[1] for _, end, _ in ends]
    order = np.argsort(places)
    spread = np.array(places)[order]
    for _ in range(100):  # each pair too near moves apart by half of what is missing, until none is
        missing = np.maximum(gap - np.diff(spread), 0.0)
        spread[1:] += missing / 2
        spread[:-1] -= missing / 2
    for (words, _, color), place in zip(ends, spread[np.argsort(order)], strict=True):
        ax.text(1.015, place, words, color=color, transform=ax.transAxes, va="center", fontsize=9)


def logarithmic_if_wide(ax: Axes, *values: np.ndarray) -> None:
    """Make the vertical axis logarithmic where the values on it are positive and span more than a factor of 30."""
    together = np.concatenate([np.ravel(one) for one in values])
    if together.min() > 0 and together.max() > 30 * together.min():
        ax.set_yscale("log")
