"""Pictures of one posterior: its intervals, and its MAP against a penalised fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.computing.arrays import as_float64
from bayesreg.plots.parts import (
    BLACK,
    BLUE,
    GREY,
    INCHES_PER_CHARACTER,
    SHORT_NAME,
    VERMILLION,
    as_drawn,
    as_vector,
    axes_or_new,
    label_points,
    legend_above,
    weight_unit,
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

    Up to 40 features stand in the order of the data, by name; more are ordered by their posterior mean.

    Args:
        posterior: The draws.
        map_estimate: The MAP, or its weights ``(d,)``.
        penalised: The penalised fit, or its weights ``(d,)``.
        ax: Where to draw.
        interval: Probability of the wide interval; the thick one holds half of the draws.
        kind: ``"eti"`` or ``"hdi"``.

    Returns:
        The axes.

    Raises:
        ValueError: Weights of another length, or in other units than the draws.

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
    names = as_drawn(posterior.data.feature_names)
    weights = posterior.draws["weights"].numpy().reshape(-1, len(names))
    mean = weights.mean(axis=0)
    named = len(names) <= MOST_NAMED_FEATURES
    order = np.arange(len(names)) if named else np.argsort(mean)
    # Names read best from the top down on the left; a long row of weights from left to right.
    width = 6.7 + INCHES_PER_CHARACTER * max(map(len, names))
    ax = axes_or_new(ax, (width, 1.6 + 0.26 * len(names)) if named else (9.0, 4.5))
    place = np.arange(len(names), dtype=float)

    def bars(bounds, **style):
        draw = ax.hlines if named else ax.vlines
        draw(place, bounds[0][order], bounds[1][order], color=BLUE, **style)

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
    marks(
        mean, marker="|" if named else "_", markersize=12 * room, color=BLUE, markeredgewidth=1.8 * room, label="mean"
    )
    if map_estimate is not None:
        values = _weights_of(map_estimate, "map_estimate", posterior)
        marks(values, marker="D", markersize=5 * room, color=VERMILLION, markeredgewidth=0, label="MAP")
    if penalised is not None:
        values = _weights_of(penalised, "penalised", posterior)
        style = {"markerfacecolor": "none", "markeredgecolor": BLACK, "markeredgewidth": 1.2 * room}
        marks(values, marker="o", markersize=10 * room, label="penalised fit", **style)
    axis = "weight" + weight_unit(posterior)
    if named:
        ax.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
        ax.set(yticks=place, yticklabels=names, ylim=(len(names) - 0.4, -0.6), xlabel=axis)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    else:
        ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
        ax.set(xlim=(-1, len(names)), ylabel=axis, xlabel=f"the {len(names)} features, ordered by posterior mean")
        ax.set_xticks([])
    legend_above(ax)
    return ax


def plot_map_against_fit(
    map_estimate: MapEstimate | Sequence[float], penalised: TrainingRun | Sequence[float], ax: Axes | None = None
) -> Axes:
    """Draw the weights of a penalised fit over those of the MAP, with the line on which they agree.

    The largest difference and the number of weights that are exactly zero in both are written above the picture.

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
        >>> print(ax.texts[-1].get_text())
        largest difference 0.5 (w2)
        1 of 3 exactly 0 in both
        >>> plt.close(ax.figure)
    """
    _check_same_units(map_estimate, penalised, "penalised")
    mode = as_float64(getattr(map_estimate, "weights", map_estimate), "map_estimate")
    fit = as_vector(getattr(penalised, "weights", penalised), "penalised", len(mode))
    names = as_drawn(getattr(map_estimate, "feature_names", [f"w{j}" for j in range(len(mode))]), SHORT_NAME)
    ax = axes_or_new(ax, (5.0, 5.0))
    ax.axline((0.0, 0.0), slope=1.0, color=GREY, linewidth=0.8, zorder=0)
    size = 7.0 if len(mode) <= MOST_NAMED_FEATURES else 4.0
    ax.plot(mode, fit, "o", color=BLUE, markersize=size, markeredgecolor="white", markeredgewidth=0.5)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)  # room for the names
    if len(mode) <= MOST_LABELLED_POINTS:
        label_points(ax, mode, fit, names)
    farthest = int(np.argmax(np.abs(fit - mode)))
    words = [f"largest difference {abs(fit - mode)[farthest]:.2g} ({names[farthest]})"]
    zeros = int(((fit == 0) & (mode == 0)).sum())
    if zeros:
        words.append(f"{zeros} of {len(mode)} exactly 0 in both")
    ax.text(0.0, 1.02, "\n".join(words), transform=ax.transAxes, fontsize=9)
    units = " (standard units)" if getattr(map_estimate, "transform", None) is not None else ""
    ax.set(xlabel=f"weight of the MAP{units}", ylabel=f"weight of the penalised fit{units}")
    return ax


def _weights_of(fit: Any, argument: str, posterior: Posterior) -> np.ndarray:
    """Return the weights of a fit, or of a bare vector, in the units of the posterior."""
    _check_same_units(posterior, fit, argument)
    return as_vector(getattr(fit, "weights", fit), argument, posterior.data.num_features)


def _check_same_units(first: Any, second: Any, argument: str) -> None:
    """Refuse two results in different units; bare vectors do not say theirs.

    Args:
        first: A result, or weights.
        second: Another one.
        argument: What the error calls the second.

    Raises:
        ValueError: One is in standard units and the other in original ones.
    """
    standard = [one.transform is not None for one in (first, second) if hasattr(one, "transform")]
    if len(set(standard)) > 1:
        wanted, found = ("standard", "original") if standard[0] else ("original", "standard")
        raise ValueError(f"{argument} must be in {wanted} units as what it is drawn with, got {found} units")
