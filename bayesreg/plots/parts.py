"""What the pictures share: the palette, axes without a frame, names as they are, labels that keep apart.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart. What a
colour means is the same in every picture; features and chains, which have no meaning in common, take them in turn.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Affine2D, ScaledTranslation

from bayesreg.computing.arrays import as_float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
# Probability (prior, posterior, evidence); the MAP, and the penalty; a penalised fit, and what was chosen; the loss on
# the rows trained on, and on rows not trained on (test, held out); what only helps to read the others. The two losses
# differ in lightness too: in grey, and for an eye without green.
PROBABILITY, MAP, FIT, TRAIN, TEST, GREY = "#0072B2", "#D55E00", "#000000", "#009E73", "#E69F00", "#666666"
# Characters of a name that there is room for: in a row of its own, and beside a point or over a small panel.
ROW_NAME, SHORT_NAME = 40, 20
INCHES_PER_CHARACTER = 0.085  # of a row's name, at the usual 10 points
_END_GAP = 12.0  # points from one name at the end of a line to the next
# A relative luminance that letters on white may have for a contrast of 4.5 (WCAG 2.1, success criterion 1.4.3).
_LIGHTEST_LETTERS = 1.05 / 4.5 - 0.05
_LUMINANCES = (0.2126, 0.7152, 0.0722)
LOSS_NAMES = {"half-mean": "mean of (y − ŷ)²/2", "mean": "mean of (y − ŷ)²", "sum": "sum of (y − ŷ)²"}


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches, without the frame's top and right."""
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    check_result(ax, "ax", "the Axes of a matplotlib figure, or None", "spines")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def width_of(ax: Axes) -> float:
    """Return the width of the axes in points, before any layout."""
    return ax.get_window_extent().width / ax.figure.dpi * 72.0


def length_of(words: str, size: float) -> float:
    """Return the length of words in points, at a font size."""
    return text_to_path.get_text_width_height_descent(words, FontProperties(size=size), ismath=False)[0]


def wrapped(words: str, points: float, size: float = 10.0) -> str:
    """Return words in lines that a width in points has room for, at a font size, those about an = or a − together."""
    lines: list[str] = []
    wholes = re.split(r"(?<![=−]) (?![=−])", words)
    parts = [[whole] if length_of(whole, size) <= points else whole.split() for whole in wholes]
    for word in itertools.chain.from_iterable(parts):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and length_of(longer, size) <= points:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def describe(ax: Axes, title: str, across: str, up: str, *, above: float = 0.0) -> None:
    """Write title and labels, in as many lines as the axes need.

    Args:
        ax: The axes.
        title: What the picture shows.
        across: The label of the horizontal axis.
        up: The label of the vertical axis.
        above: Points above the axes that are taken.
    """
    width, height = width_of(ax), ax.get_window_extent().height / ax.figure.dpi * 72.0
    # Beside other axes the layout leaves less.
    ax.set_title(
        wrapped(title, width if len(ax.figure.axes) == 1 else 0.9 * width), loc="left", fontsize=10, pad=6.0 + above
    )
    ax.set(xlabel=wrapped(across, width), ylabel=wrapped(up, height))


def legend_above(ax: Axes, title: str, left: float = 0.0, handles: Sequence[Any] | None = None) -> None:
    """Put a legend on top of the axes, below a title, in as many columns as there is room for.

    Args:
        ax: The axes.
        title: What the picture shows.
        left: Points left of the axes at which it starts.
        handles: What it names; None: what is on the axes with a name.
    """
    room = width_of(ax) * (1.2 if left else 1.0)  # at the left of the figure the layout leaves more
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    labels = [handle.get_label() for handle in handles]
    lengths = [length_of(label, 9.0) + 34.0 for label in labels]  # with the handle, and a space

    counts = range(1, len(labels) + 1)  # of columns, of which the first ones are longer
    fitting = [count for count in counts if sum(map(max, np.array_split(lengths, count))) <= room]
    columns = max(fitting, default=1)
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2, "borderpad": 0.0}
    shift = ScaledTranslation(-left / 72.0, 0.0, ax.figure.dpi_scale_trans)
    place |= {"bbox_transform": ax.transAxes + shift, "alignment": "left", "title_fontsize": 10}
    place |= {"handlelength": 1.4, "columnspacing": 1.4}
    ax.legend(handles=handles, title=wrapped(title, room), ncols=columns, frameon=False, fontsize=9, **place)


def ink(color: Any) -> np.ndarray:
    """Return the colour for letters on white: as it is, or so much darker that they can be read."""
    shares = np.array(to_rgb(color))
    luminance = float(_LUMINANCES @ shares**2.2)
    return shares * min(1.0, _LIGHTEST_LETTERS / max(luminance, 1e-9)) ** (1.0 / 2.2)


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


def most_ends(ax: Axes) -> int:
    """Return how many names at the right of lines the axes have room for."""
    return max(int(ax.get_window_extent().height / ax.figure.dpi * 72.0 / _END_GAP), 1)


def label_ends(ax: Axes, ends: Sequence[tuple[str, float, Any]]) -> None:
    """Write names at the right of lines, pushed apart where they would meet, wherever the limits of the axes go.

    Args:
        ax: The axes.
        ends: Name, height at which the line ends, and colour of each.
    """
    heights = [height for _, height, _ in ends]
    for index, (words, height, color) in enumerate(ends):
        # Placed whenever it is drawn: until then axes that share their limits with these ones can move the lines.
        place = {"xycoords": ax.get_yaxis_transform(), "textcoords": partial(_beside_end, ax, heights, index)}
        ax.annotate(words, (1.0, height), (0.0, 0.0), color=ink(color), va="center", fontsize=9, **place)


def _beside_end(ax: Axes, heights: Sequence[float], index: int, renderer: Any) -> Affine2D:
    """Return the place of one label on the canvas, as a shift, when the lines end at these heights of the axes."""
    gap = _END_GAP / 72.0 * ax.figure.dpi
    visible = np.clip(heights, *sorted(ax.get_ylim()))
    places = ax.get_yaxis_transform().transform([(1.015, height) for height in visible])
    order = np.argsort(places[:, 1], kind="stable")
    spread = places[order, 1]
    for _ in range(100):  # each pair too near moves apart by half of what is missing, until none is
        missing = np.maximum(gap - np.diff(spread), 0.0)
        spread[1:] += missing / 2
        spread[:-1] -= missing / 2
    # Inside the axes as far as there is room, clear of what stands below them.
    low, high = ax.bbox.y0, ax.bbox.y1
    spread += max(low - spread[0], 0.0) - max(spread[-1] - high, 0.0)
    return Affine2D().translate(places[0, 0], spread[np.argsort(order)[index]])


def logarithmic_if_wide(ax: Axes, *values: np.ndarray) -> None:
    """Make the vertical axis logarithmic where the values on it are positive and span more than a factor of 30."""
    together = np.concatenate([np.ravel(one) for one in values])
    if together.min() > 0 and together.max() > 30 * together.min():
        logarithmic(ax, float(together.max() / together.min()))


def logarithmic(ax: Axes, ratio: float) -> None:
    """Make the vertical axis logarithmic, with ticks for values whose ends have this ratio."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(
        LogLocator(subs=(1.0,) if ratio > 1e3 else (1.0, 3.0) if ratio > 50 else (1.0, 2.0, 5.0))
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def weight_unit(data: Any, transform: Any) -> str:
    """Return the units of weights, to be put behind the word for them.

    Args:
        data: The rows or moments that they are of.
        transform: The standardisation that they are in the units of, if any.

    Returns:
        The units, in brackets.
    """
    (target,) = as_drawn([data.target_name], SHORT_NAME)
    unit = f"{target} per unit" if transform is None else f"sd of {target} per sd"
    return f" ({unit} of the feature)"


def check_result(value: Any, argument: str, wanted: str, *attributes: str) -> None:
    """Refuse what is not the result that a picture is of.

    Args:
        value: What was given.
        argument: What the error calls it.
        wanted: What it must be.
        *attributes: What the picture needs of it.

    Raises:
        TypeError: It lacks one of them.
    """
    if not all(hasattr(value, name) for name in attributes):
        raise TypeError(f"{argument} must be {wanted}, got {type(value).__name__}")


def check_same_units(first: Any, second: Any, argument: str) -> None:
    """Refuse two results in different units; bare vectors do not say theirs.

    Args:
        first: A result, data, or weights.
        second: Another one.
        argument: What the error calls the second.

    Raises:
        ValueError: One is in standard units and the other in original ones.
    """
    standard = [one.transform is not None for one in (first, second) if hasattr(one, "transform")]
    if len(set(standard)) > 1:
        wanted, found = ("standard", "original") if standard[0] else ("original", "standard")
        raise ValueError(f"{argument} must be in {wanted} units as what it is drawn with, got {found} units")


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
