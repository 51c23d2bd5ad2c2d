"""The plane of two weights: the loss, the penalty, and the way that training takes to the MAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from bayesreg.moments import as_moments
from bayesreg.plots.parts import (
    FIT,
    GREY,
    MAP,
    SHORT_NAME,
    TRAIN,
    as_drawn,
    as_vector,
    axes_or_new,
    check_result,
    check_same_units,
    describe,
    legend_above,
    weight_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.data import RegressionData
    from bayesreg.inference.map import MapEstimate
    from bayesreg.moments import Moments
    from bayesreg.penalties import Penalty

# Distances from the least loss, or from the centre of the penalty, of the contours, in units of those of the MAP.
_RADII = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0])
_GRID, _MARGIN = 301, 0.12


def plot_weight_plane(
    data: RegressionData | Moments,
    penalty: Penalty,
    map_estimate: MapEstimate | Sequence[float],
    trajectories: Sequence[Sequence[Any]] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw contours of the loss and of the penalty over two weights, the MAP, and trajectories of training to it.

    At the MAP a contour of the loss and one of the penalty, both drawn thick, touch: neither can become smaller unless
    the other becomes larger. The loss is |y - Xw - b|^2 / (2 n) with the best intercept b; weights are in the units of
    the data.

    Args:
        data: Rows or moments of two features.
        penalty: The penalty, with a strength above 0.
        map_estimate: The MAP, or its weights ``(2,)``.
        trajectories: Of each its points in their order, such as after each epoch: weights ``(2,)``, or runs of `train`.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: There are other than two features or weights, there is no penalty, or the weights are in other units
            than the data.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> rows = br.load_diabetes().standardized()
        >>> two = br.RegressionData(rows.features[:, [2, 8]], rows.target, ["bmi", "s5"])
        >>> fit = br.path(two, "l1", [0.3])
        >>> runs = [br.train(two, br.L1(0.3), epochs=epochs, batch_size=100) for epochs in range(4)]
        >>> ax = plot_weight_plane(two, br.L1(0.3), fit.weights[0], [runs])
        >>> ax.get_xlabel(), ax.lines[-1].get_xydata().shape
        ('weight of bmi (y per unit of the feature)', (1, 2))
        >>> plt.close(ax.figure)
    """
    moments = as_moments(data)
    if moments.num_features != 2:
        raise ValueError(f"data must have two features, got {moments.num_features}")
    check_result(penalty, "penalty", "a Penalty, such as br.L2(0.1)", "kind", "strength")
    check_result(trajectories, "trajectories", "a list of ways, each a list of weights or of runs", "__iter__")
    if penalty.kind == "none":
        raise ValueError("penalty must have a strength above 0, got none")
    check_same_units(data, map_estimate, "map_estimate")
    mode = as_vector(getattr(map_estimate, "weights", map_estimate), "map_estimate", 2)
    ways = [
        np.array([as_vector(getattr(point, "weights", point), "trajectories", 2) for point in way])
        for way in trajectories
    ]
    centre = np.broadcast_to(np.asarray(penalty.centre, dtype=float), 2)
    ax = axes_or_new(ax, (6.0, 6.4))
    # To the far side of the MAP, where the loss is least, and to that of the centre.
    around = [mode, centre, 2.0 * mode - centre, 1.5 * centre - 0.5 * mode]
    largest = float(np.sqrt(moments.Syy / np.diagonal(moments.Sxx)).max())  # a weight that explains all by itself
    grid = _grid(np.vstack([*around, *ways]), centre, largest)
    points = np.stack(np.meshgrid(*grid), axis=-1)
    loss = moments.residuals(points)[0] / (2 * moments.num_rows)
    pull = penalty.canonical(num_rows=moments.num_rows).value(points)
    loss_here = moments.residuals(mode)[0] / (2 * moments.num_rows)
    pull_here = float(penalty.canonical(num_rows=moments.num_rows).value(mode))
    least = float(loss.min())
    powers = _RADII**2 if penalty.kind == "l2" else _RADII
    _contours(ax, grid, loss, least + (loss_here - least) * _RADII**2, TRAIN, "-")
    _contours(ax, grid, pull, pull_here * powers, MAP, "--")
    ax.axhline(centre[1], color=GREY, linewidth=0.8, zorder=0)
    ax.axvline(centre[0], color=GREY, linewidth=0.8, zorder=0)
    for way in ways:
        ax.plot(*way.T, color=FIT, linewidth=0.8, marker="o", markersize=2.5)
        start = {"marker": "o", "markersize": 7, "markerfacecolor": "white", "markeredgecolor": FIT}
        ax.plot(*way[:1].T, linestyle="none", **start)
    ax.plot(*mode, "D", color=MAP, markersize=7, markeredgecolor="white")
    ax.set(xlim=grid[0][[0, -1]], ylim=grid[1][[0, -1]])
    ax.set_aspect("equal")
    names = as_drawn(moments.feature_names, SHORT_NAME)
    unit = weight_unit(data, data.transform)
    describe(ax, "", *(f"weight of {name}{unit}" for name in names))
    kind = {"l1": "an L1", "l2": "an L2"}.get(penalty.kind, "an elastic-net")
    touch = "at the MAP their thick contours touch" if pull_here > 0 else "at the MAP the penalty is least"
    _explain(ax, f"Loss and {kind} penalty: {touch}", bool(ways))
    return ax


def _grid(points: np.ndarray, centre: np.ndarray, otherwise: float) -> list[np.ndarray]:
    """Return the values of either weight at which the contours are found: a square about the points, with the centre.

    The contours of |w| have their corners over the centre: on the grid they are sharp. Where the points are one, the
    square is of another size.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + _MARGIN) * float((high - low).max() or 2.0 * otherwise)
    sides = [np.linspace(middle - half, middle + half, _GRID) for middle in (low + high) / 2]
    return [np.union1d(side, one) for side, one in zip(sides, centre, strict=True)]


def _contours(ax: Axes, grid: list[np.ndarray], values: np.ndarray, levels: np.ndarray, color: str, style: str) -> None:
    """Draw contours at levels, that through the MAP thick."""
    levels = np.unique(levels)
    if len(levels) < len(_RADII):  # the MAP is where the term is least: no contour goes through it
        low, high = float(values.min()), float(values.max())
        levels = low + (high - low) * np.linspace(0.1, 0.9, 7) ** 2
        widths = np.full(7, 0.7)
    else:
        widths = np.where(_RADII == 1.0, 2.0, 0.7)
    drawn = ax.contour(*grid, values, levels=levels, colors=color, linestyles=style, linewidths=widths, zorder=1)
    drawn.set_alpha(0.85)


def _explain(ax: Axes, title: str, trained: bool) -> None:
    """Write above the axes what is what."""
    line = {"linewidth": 2.0}
    handles = [
        Line2D([], [], color=TRAIN, label="loss", **line),
        Line2D([], [], color=MAP, linestyle="--", label="penalty", **line),
        Line2D([], [], color=MAP, marker="D", linestyle="none", label="MAP"),
    ]
    if trained:
        handles.append(Line2D([], [], color=FIT, linewidth=0.8, marker="o", markersize=2.5, label="training"))
        start = {"color": FIT, "marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        handles.append(Line2D([], [], label="start", **start))
    legend_above(ax, title, handles=handles)
