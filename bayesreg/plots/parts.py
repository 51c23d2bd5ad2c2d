"""What the pictures share: the palette, axes without a frame, names as they are, labels that keep apart.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import Affine2D

from bayesreg.computing.arrays import as_float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
BLUE, VERMILLION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#666666"
# Characters of a name that there is room for: in a row of its own, and beside a point or over a small panel.
ROW_NAME, SHORT_NAME = 40, 20
INCHES_PER_CHARACTER = 0.085  # of a row's name, at the usual 10 points
LOSS_NAMES = {"half-mean": "mean of (y − ŷ)²/2", "mean": "mean of (y − ŷ)²", "sum": "sum of (y − ŷ)²"}


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


def as_drawn(names: Sequence[str], most: int = ROW_NAME) -> list[str]:
    """Return names as a picture is given them: long ones without their middle, all of them distinct, none read as TeX.

    Args:
        names: Distinct names of columns.
        most: Characters that there is room for.

    Returns:
        The names, at most so long; those that would look alike end in the number of their column, counted from 1.
    """
    end = (most - 1) // 2
    short = [name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}" for name in names]
    alike = Counter(short)
    short = [
        one if alike[one] == 1 else f"{name[: most - 2 - len(str(column))]}…#{column}"
        for column, (name, one) in enumerate(zip(names, short, strict=True), 1)
    ]
    if len(set(short)) < len(names):  # a column is itself called "…#2"
        return as_drawn(names, most + 1)
    # A dollar with a backslash is a dollar; two bare ones would set what is between them as a formula.
    return [name.replace("$", r"\$") for name in short]


def label_points(ax: Axes, across: np.ndarray, up: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside points near a rising diagonal; points that touch share a label of two lines at most.

    The labels stand right of and below their points and left of and above them in turn, as far as there is room.

    Args:
        ax: The axes, their horizontal limits settled.
        across: The points' horizontal coordinates.
        up: The vertical ones.
        names: The points' names, as drawn.
    """
    order = np.argsort(across)
    near = 0.02 * max(np.ptp(across), np.ptp(up))
    groups = [[order[0]]]
    for index in order[1:]:
        last = groups[-1][-1]
        touches = max(abs(across[index] - across[last]), abs(up[index] - up[last])) <= near
        groups = [*groups[:-1], [*groups[-1], index]] if touches else [*groups, [index]]
    low, high = ax.get_xlim()
    width = ax.get_window_extent().width / ax.figure.dpi * 72.0
    points = width / (high - low)  # in one unit of either axis
    below, above = [], []
    for turn, group in enumerate(groups):
        words = ", ".join(names[index] for index in sorted(group))
        words = textwrap.fill(words, 28, break_long_words=False, max_lines=2, placeholder=" …")
        place = across[group].mean(), up[group].mean()
        left = points * (place[0] - low)
        needed = 7.0 + 5.5 * max(map(len, words.splitlines()), default=0)  # of letters of 9 points
        rooms = (width - left, left)
        side = turn % 2 if rooms[turn % 2] >= needed else int(rooms[1] > rooms[0])
        (below, above)[side].append((words, place))
    # From the top down, and from the bottom up, each clear of the one before.
    for labels, sign, across_by, horizontal, vertical in (
        (below[::-1], -1, 7, "left", "top"),
        (above, 1, -7, "right", "bottom"),
    ):
        taken = -np.inf
        for words, place in labels:
            start = max(sign * points * place[1] + 5.0, taken)
            taken = start + 12.0 * (1 + words.count("\n"))
            offset = (across_by, sign * start - points * place[1])
            style = {"ha": horizontal, "va": vertical, "fontsize": 9}
            ax.annotate(words, place, offset, textcoords="offset points", **style)


def label_ends(ax: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write names at the right of lines, pushed apart where they would meet, wherever the limits of the axes go.

    Args:
        ax: The axes.
        ends: Name, height at which the line ends, and colour of each.
    """
    heights = [height for _, height, _ in ends]
    for index, (words, height, color) in enumerate(ends):
        # Placed whenever it is drawn: until then axes that share their limits with these ones can move the lines.
        place = {"xycoords": ax.get_yaxis_transform(), "textcoords": partial(_beside_end, ax, heights, index)}
        ax.annotate(words, (1.0, height), (0.0, 0.0), color=color, va="center", fontsize=9, **place)


def _beside_end(ax: Axes, heights: Sequence[float], index: int, renderer: Any) -> Affine2D:
    """Return the place of one label on the canvas, as a shift, when the lines end at these heights of the axes."""
    gap = 12.0 / 72.0 * ax.figure.dpi
    visible = np.clip(heights, *sorted(ax.get_ylim()))
    places = ax.get_yaxis_transform().transform([(1.015, height) for height in visible])
    order = np.argsort(places[:, 1], kind="stable")
    spread = places[order, 1]
    for _ in range(100):  # each pair too near moves apart by half of what is missing, until none is
        missing = np.maximum(gap - np.diff(spread), 0.0)
        spread[1:] += missing / 2
        spread[:-1] -= missing / 2
    return Affine2D().translate(places[0, 0], spread[np.argsort(order)[index]])


def logarithmic_if_wide(ax: Axes, *values: np.ndarray) -> None:
    """Make the vertical axis logarithmic where the values on it are positive and span more than a factor of 30."""
    together = np.concatenate([np.ravel(one) for one in values])
    if together.min() > 0 and together.max() > 30 * together.min():
        ax.set_yscale("log")


def weight_unit(result: Any) -> str:
    """Return the units of the weights of a result, to be put behind the word for them.

    Args:
        result: Draws, or fits: with `data` and `transform`.

    Returns:
        The units, in brackets.
    """
    (target,) = as_drawn([result.data.target_name])
    unit = f"{target} per unit" if result.transform is None else f"sd of {target} per sd"
    return f" ({unit} of the feature)"


def as_vector(values: Any, argument: str, length: int) -> np.ndarray:
    """Return values as an array of a length.

    Args:
        values: Numbers, or a tensor.
        argument: What the error calls them.
        length: How many there must be.

    Returns:
        Array `(length,)`, float64.

    Raises:
        ValueError: There are more or fewer.
    """
    vector = as_float64(values, argument)
    if vector.shape != (length,):
        raise ValueError(f"{argument} must have shape ({length},), got {vector.shape}")
    return vector
