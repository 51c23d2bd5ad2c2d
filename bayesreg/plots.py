"""Pictures of what was computed elsewhere: Axes in, Axes out; nothing is fitted, shown or set globally.

Every function draws on the ``ax`` that it is given, or makes a figure of its own with pyplot, and returns the Axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.arrays import as_float64
from bayesreg.diagnostic_plots import plot_diagnostics
from bayesreg.objectives import get_convention
from bayesreg.plot_parts import (
    BLACK,
    BLUE,
    GREY,
    INCHES_PER_CHARACTER,
    SHORT_NAME,
    VERMILLION,
    as_drawn,
    axes_or_new,
    label_ends,
    label_points,
    legend_above,
    logarithmic_if_wide,
)
from bayesreg.prior_plots import plot_prior_and_penalty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.inference.map import MapEstimate
    from bayesreg.posterior import Posterior
    from bayesreg.training import TrainingRun

__all__ = [
    "plot_diagnostics",
    "plot_loss_against_lambda",
    "plot_map_against_fit",
    "plot_posterior_intervals",
    "plot_prior_and_penalty",
    "plot_training",
]

LOSS_NAMES = {"half-mean": "mean of (y − ŷ)²/2", "mean": "mean of (y − ŷ)²", "sum": "sum of (y − ŷ)²"}
INTERVAL_NAMES = {"eti": "equal-tailed", "hdi": "highest-density"}
# More features than this have no room for their names: they are ordered by their posterior mean instead.
MOST_NAMED_FEATURES = 40
MOST_LABELLED_POINTS = 15


def plot_training(run: TrainingRun, ax: Axes | None = None) -> Axes:
    """Draw the loss on the training and the test rows after each epoch, without the penalty and, dashed, with it.

    The loss is that of the penalty's convention, on a logarithmic axis where it spans more than a factor of 30.

    Args:
        run: What `bayesreg.train` returned; test lines need its ``test`` rows, dashed lines a penalty.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> import bayesreg as br
        >>> rows, test = br.simulate_weight_decay(seed=0)
        >>> ax = plot_training(br.train(rows, br.L2(3.0), epochs=5, test=test))
        >>> ax.get_ylabel(), [text.get_text() for text in ax.texts]
        ('mean of (y − ŷ)²/2', ['train', 'train + penalty', 'test', 'test + penalty'])
        >>> plt.close(ax.figure)
    """
    history, penalty = run.history, run.penalty
    ax = axes_or_new(ax, (6.5, 4.0))
    shown = []
    for rows, color in (("train", BLUE), ("test", VERMILLION)):
        if f"{rows}_loss" in history:
            shown.append((rows, history[f"{rows}_loss"].to_numpy(), color, "-"))
            if penalty.kind != "none":
                shown.append((f"{rows} + penalty", history[f"{rows}_objective"].to_numpy(), color, "--"))
    for words, losses, color, style in shown:
        ax.plot(history["epoch"], losses, style, color=color, linewidth=1.8, label=words)
    logarithmic_if_wide(ax, *(losses for _, losses, _, _ in shown))
    ax.margins(x=0.0)
    ax.set(xlabel="epoch", ylabel=LOSS_NAMES[get_convention(penalty.convention).training_loss])
    title = "no penalty" if penalty.kind == "none" else f"{penalty!r}"
    ax.set_title(title, loc="left", fontsize=10)
    label_ends(ax, [(words, losses[-1], color) for words, losses, color, _ in shown])
    return ax


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
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> model = br.LinearRegression(br.GaussianPrior(0.1), 0.7)
        >>> ax = plot_posterior_intervals(br.sample(model, data, draws=100), br.map_estimate(model, data))
        >>> ax.get_xlabel()
        'weight (sd of progression per sd of the feature)'
        >>> plt.close(ax.figure)
    """
    from bayesreg.posterior_summary import check_interval, interval_bounds

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
    axis = "weight" + _weight_unit(posterior)
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
        >>> ax = plot_map_against_fit([0.0, 1.0, 2.0], [0.0, 1.0, 2.5])
        >>> print(ax.texts[-1].get_text())
        largest difference 0.5 (w2)
        1 of 3 exactly 0 in both
        >>> plt.close(ax.figure)
    """
    _check_same_units(map_estimate, penalised, "penalised")
    mode = as_float64(getattr(map_estimate, "weights", map_estimate), "map_estimate")
    fit = _vector(getattr(penalised, "weights", penalised), "penalised", len(mode))
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


def plot_loss_against_lambda(
    lambdas: Sequence[float], train_loss: Sequence[float], test_loss: Sequence[float], ax: Axes | None = None
) -> Axes:
    """Draw training and test loss over the strength of a penalty, and mark the smallest test loss.

    The axis of lambda is logarithmic; a lambda of 0 stands at its left end, apart.

    Args:
        lambdas: Strengths, at least 0.
        train_loss: The loss on the training rows at each, without the penalty.
        test_loss: The loss on the test rows at each, without the penalty.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: Lengths differ, or a lambda is negative or not finite, or none is positive.

    Example:
        >>> ax = plot_loss_against_lambda([0.0, 0.1, 1.0], train_loss=[1.0, 1.1, 2.0], test_loss=[1.4, 1.2, 2.1])
        >>> ax.texts[0].get_text()
        'smallest test loss 1.2 at λ = 0.1'
        >>> plt.close(ax.figure)
    """
    lambdas = as_float64(lambdas, "lambdas")
    if lambdas.ndim != 1 or not (np.isfinite(lambdas) & (lambdas >= 0)).all() or not (lambdas > 0).any():
        raise ValueError(f"lambdas must be finite numbers of at least 0, one of them larger, got {lambdas}")
    order = np.argsort(lambdas)
    lambdas, positive = lambdas[order], lambdas[order] > 0
    place = np.where(positive, lambdas, lambdas[positive][0] / 4.0)
    ax = axes_or_new(ax, (6.5, 4.0))
    losses = {
        "train": _vector(train_loss, "train_loss", len(lambdas))[order],
        "test": _vector(test_loss, "test_loss", len(lambdas))[order],
    }
    for loss, color in zip(losses.values(), (BLUE, VERMILLION), strict=True):
        ax.plot(place[positive], loss[positive], "-o", color=color, markersize=4, linewidth=1.8)
        ax.plot(place[~positive], loss[~positive], "o", color=color, markersize=4)
    loss = losses["test"]
    best = int(np.argmin(loss))
    ax.plot(place[best], loss[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=BLACK)
    ax.axvline(place[best], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    ax.set(xscale="log", xlabel="λ", ylabel="loss, without the penalty")
    ax.margins(x=0.02)
    logarithmic_if_wide(ax, *losses.values())
    if not positive.all():
        ticks = [tick for tick in ax.get_xticks() if lambdas[positive][0] <= tick <= lambdas[-1]]
        ax.set_xticks([place[0], *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
        ax.minorticks_off()
    words = f"smallest test loss {loss[best]:.3g} at λ = {lambdas[best]:.3g}"
    side = "left" if best < len(lambdas) / 3 else "right" if best > 2 * len(lambdas) / 3 else "center"
    ax.text(place[best], 1.02, words, transform=ax.get_xaxis_transform(), ha=side, fontsize=9)
    label_ends(ax, [("train", losses["train"][-1], BLUE), ("test", loss[-1], VERMILLION)])
    return ax


def _weights_of(fit: Any, argument: str, posterior: Posterior) -> np.ndarray:
    """Return the weights of a fit, or of a bare vector, in the units of the posterior."""
    _check_same_units(posterior, fit, argument)
    return _vector(getattr(fit, "weights", fit), argument, posterior.data.num_features)


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


def _vector(values: Any, argument: str, length: int) -> np.ndarray:
    vector = as_float64(values, argument)
    if vector.shape != (length,):
        raise ValueError(f"{argument} must have shape ({length},), got {vector.shape}")
    return vector


def _weight_unit(posterior: Posterior) -> str:
    (target,) = as_drawn([posterior.data.target_name])
    unit = f"{target} per unit" if posterior.transform is None else f"sd of {target} per sd"
    return f" ({unit} of the feature)"
