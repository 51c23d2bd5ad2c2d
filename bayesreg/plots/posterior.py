"""Pictures of one posterior: its intervals, and its MAP against a penalised fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from bayesreg.computing.arrays import as_float64
from bayesreg.plots.parts import (
    FIT,
    GREY,
    INCHES_PER_CHARACTER,
    MAP,
    PROBABILITY,
    ROW_NAME,
    SHORT_NAME,
    as_drawn,
    as_vector,
    axes_or_new,
    check_result,
    check_same_units,
    describe,
    label_points,
    legend_above,
    length_of,
    weight_unit,
    width_of,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.inference.map import MapEstimate
    from bayesreg.posteriors.posterior import Posterior
    from bayesreg.training.train import TrainingRun

INTERVAL_NAMES = {"eti": "equal-tailed", "hdi": "highest-density"}
# More features than this have no room for their names: they are ordered by their posterior mean instead.
MOST_NAMED_FEATURES = 40
MOST_LABELLED_POINTS = 15
# Of the width of the axes before the layout, what names of features may take; points that a row of them needs,
# and points that the layout gives to what stands above and below the rows.
_SHARE_OF_NAMES, _LOWEST_ROW, _ABOVE_AND_BELOW = 0.45, 8.0, 90.0


def plot_posterior_intervals(
    posterior: Posterior,
    map_estimate: MapEstimate | Sequence[float] | None = None,
    penalised: TrainingRun | Sequence[float] | None = None,
    ax: Axes | None = None,
    *,
    interval: float = 0.9,
    kind: str = "eti",
) -> Axes:
    """Draw the posterior interval of each weight, and on top its mean, the MAP and a penalised fit.

    Up to 40 features, as far as the axes are high enough, stand in the order of the data, by name; more are ordered by
    their posterior mean.

    Args:
        posterior: The draws.
        map_estimate: The MAP, or its weights ``(d,)``.
        penalised: The penalised fit, or its weights ``(d,)``.
        ax: Where to draw.
        interval: Probability of the wide interval; where it is above 0.5, the thick one holds half of the draws.
        kind: ``"eti"`` or ``"hdi"``.

    Returns:
        The axes.

    Raises:
        TypeError: ``interval`` is no number.
        ValueError: Weights of another length, or in other units than the draws; ``interval`` is not inside (0, 1), or
            ``kind`` is unknown.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> data = br.load_diabetes().standardized()
        >>> model = br.LinearRegression(br.GaussianPrior(0.1), 0.7)
        >>> ax = plot_posterior_intervals(br.sample(model, data, draws=100), br.map_estimate(model, data))
        >>> ax.get_xlabel()
        'weight (sd of progression per sd of the feature)'
        >>> plt.close(ax.figure)
    """
    from bayesreg.posteriors.summary import check_interval, interval_bounds

    check_interval(interval, kind)
    check_result(posterior, "posterior", "a Posterior, which br.sample returns", "draws", "data")
    features = posterior.data.feature_names
    weights = posterior.draws["weights"].numpy().reshape(-1, len(features))
    mean = weights.mean(axis=0)
    named = len(features) <= MOST_NAMED_FEATURES
    # Names read best from the top down on the left; a long row of weights from left to right.
    width = 6.7 + INCHES_PER_CHARACTER * max(map(len, as_drawn(features)))
    ax = axes_or_new(ax, (width, 1.8 + 0.26 * len(features)) if named else (9.0, 4.5))
    height = ax.get_window_extent().height / ax.figure.dpi * 72.0
    row = (1.2 * height - _ABOVE_AND_BELOW) / len(features)
    named = named and row >= _LOWEST_ROW
    order = np.arange(len(features)) if named else np.argsort(mean)
    place = np.arange(len(features), dtype=float)

    def bars(bounds, **style):
        draw = ax.hlines if named else ax.vlines
        draw(place, bounds[0][order], bounds[1][order], color=PROBABILITY, **style)

    def marks(values, **style):
        across = (values[order], place) if named else (place, values[order])
        ax.plot(*across, linestyle="none", **style)

    room = 1.0 if named else 0.5  # how large a mark can be before it meets its neighbour
    words = f"{100 * interval:g}% {INTERVAL_NAMES[kind]} interval"
    bars(
        interval_bounds(weights, interval, kind),
        linewidth=1.5 if named else 2.2,
        alpha=1.0 if named else 0.3,
        label=words,
    )
    if interval > 0.5:
        half = interval_bounds(weights, 0.5, kind)
        bars(half, linewidth=5.0 if named else 2.2, alpha=0.45 if named else 0.65, label="50%")
    marker = {"marker": "|" if named else "_", "markersize": 12 * room, "markeredgewidth": 1.8 * room}
    marks(mean, color=PROBABILITY, label="mean", **marker)
    if map_estimate is not None:
        values = _weights_of(map_estimate, "map_estimate", posterior)
        marks(values, marker="D", markersize=5 * room, color=MAP, markeredgewidth=0, label="MAP")
    if penalised is not None:
        values = _weights_of(penalised, "penalised", posterior)
        style = {"markerfacecolor": "none", "markeredgecolor": FIT, "markeredgewidth": 1.2 * room}
        marks(values, marker="o", markersize=10 * room, label="penalised fit", **style)
    axis, left = "weight" + weight_unit(posterior.data, posterior.transform), 0.0
    if named:
        size = min(10.0, 0.75 * row)
        most = int(np.clip(_SHARE_OF_NAMES * width_of(ax) / (0.55 * size), 8, ROW_NAME))
        names = as_drawn(features, most)
        left = max(length_of(name, size) for name in names) + 8.0
        ax.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
        across = 1.2 * width_of(ax) - left  # what the names leave, the layout having taken the margins
        ax.set(yticks=place, ylim=(len(names) - 0.4, -0.6))
        ax.set_xlabel(wrapped(axis, max(across, width_of(ax))), loc="center" if across > width_of(ax) else "right")
        ax.set_yticklabels(names, fontsize=size)
        ticks = {"nbins": int(np.clip(across / 40.0, 2, 9)), "steps": [1, 2, 2.5, 5, 10]}
        ax.xaxis.set_major_locator(MaxNLocator(**ticks))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    else:
        ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
        describe(ax, "", f"the {len(features)} features, ordered by posterior mean", axis)
        ax.set_xlim(-1, len(features))
        ax.set_xticks([])
    beside = " and ".join(["the MAP"] * (map_estimate is not None) + ["a penalised fit"] * (penalised is not None))
    legend_above(ax, "Posterior of each weight" + f", beside {beside}" * bool(beside), left)
    return ax


def plot_map_against_fit(
    map_estimate: MapEstimate | Sequence[float], penalised: TrainingRun | Sequence[float], ax: Axes | None = None
) -> Axes:
    """Draw the weights of a penalised fit over those of the MAP, with the line on which they agree.

    The largest difference, and the number of weights that are exactly zero in both where there are any, stand in the
    title. The weights are in the units of the two.

    Args:
        map_estimate: The MAP, or its weights ``(d,)``.
        penalised: The penalised fit, or its weights ``(d,)``.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: The two differ in length or in units.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> ax = plot_map_against_fit([0.0, 1.0, 2.0], [0.0, 1.0, 2.5])
        >>> print(ax.get_title(loc="left"))
        Penalised fit (circles) beside the MAP (line)
        largest difference 0.5 (w2)
        1 of 3 exactly 0 in both
        >>> plt.close(ax.figure)
    """
    check_same_units(map_estimate, penalised, "penalised")
    mode = as_float64(getattr(map_estimate, "weights", map_estimate), "map_estimate")
    fit = as_vector(getattr(penalised, "weights", penalised), "penalised", len(mode))
    names = as_drawn(getattr(map_estimate, "feature_names", [f"w{j}" for j in range(len(mode))]), SHORT_NAME)
    ax = axes_or_new(ax, (5.0, 5.0))
    ax.axline((0.0, 0.0), slope=1.0, color=MAP, linewidth=1.2, zorder=0)
    size = 8.0 if len(mode) <= MOST_NAMED_FEATURES else 5.0
    circle = {"markerfacecolor": "none", "markeredgecolor": FIT, "markeredgewidth": 1.0}
    ax.plot(mode, fit, "o", markersize=size, **circle)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)  # room for the names
    if len(mode) <= MOST_LABELLED_POINTS:
        label_points(ax, mode, fit, names)
    farthest = int(np.argmax(np.abs(fit - mode)))
    words = ["Penalised fit (circles) beside the MAP (line)"]
    words.append(f"largest difference {abs(fit - mode)[farthest]:.2g} ({names[farthest]})")
    zeros = int(((fit == 0) & (mode == 0)).sum())
    if zeros:
        words.append(f"{zeros} of {len(mode)} exactly 0 in both")
    ax.set_title("\n".join(wrapped(line, width_of(ax)) for line in words), loc="left", fontsize=10)
    units = " (standard units)" if getattr(map_estimate, "transform", None) is not None else ""
    ax.set(xlabel=f"weight of the MAP{units}", ylabel=f"weight of the penalised fit{units}")
    return ax


def _weights_of(fit: Any, argument: str, posterior: Posterior) -> np.ndarray:
    """Return the weights of a fit, or of a bare vector, in the units of the posterior."""
    check_same_units(posterior, fit, argument)
    return as_vector(getattr(fit, "weights", fit), argument, posterior.data.num_features)
