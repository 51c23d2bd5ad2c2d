"""Which lambda to take: losses, cross-validation and evidence along the lambda axis, and what was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesreg.computing.arrays import as_float64
from bayesreg.plots.lambda_axis import LambdaAxis, draw_band, draw_line, mark_lambdas
from bayesreg.plots.parts import (
    BLACK,
    BLUE,
    GREY,
    LOSS_NAMES,
    VERMILLION,
    as_vector,
    axes_or_new,
    label_ends,
    logarithmic_if_wide,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.data import RegressionData
    from bayesreg.moments import Moments
    from bayesreg.paths.penalty_path import Path
    from bayesreg.selection.choosing import Choice, LambdaChoice
    from bayesreg.selection.cross_validation import CrossValidation

# How far the log evidence falls below its maximum before the axis ends, in nats.
_LOWEST_EVIDENCE = -20.0
_COLORS = {"train": BLUE, "test": VERMILLION}


def plot_losses(
    result: LambdaChoice | Path, test: RegressionData | Moments | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss on the rows and on the test rows along the lambda axis, and mark what was chosen.

    Of a `LambdaChoice` each method's lambda is marked and named, at the loss that it gets, with its 90% interval where
    the method has one; a lambda outside of the path stands at its end, with its value. Of a `Path` the smallest test
    loss is marked.

    Args:
        result: The choice, or the fits alone.
        test: Test rows, in the units of the path; None: those that a choice has.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> rows, test = br.load_diabetes().split(seed=0)
        >>> ax = plot_losses(br.path(rows, "l2"), test)
        >>> [text.get_text() for text in ax.texts]
        ['smallest test loss 1.54e+03 at λ = 0.00106', 'train', 'test']
        >>> plt.close(ax.figure)
    """
    path, choices = getattr(result, "path", result), getattr(result, "choices", ())
    test = getattr(result, "test", None) if test is None else test
    curves = {"train": path.losses.numpy()} | ({} if test is None else {"test": path.loss(test).numpy()})
    axis = LambdaAxis.of(path.lambdas.numpy())
    ax = _draw_losses(axis, curves, ax, LOSS_NAMES["half-mean"])
    if choices:
        heights = result.chosen.losses if test is None else result.chosen.loss(test)
        _mark_choices(ax, axis, choices, heights.numpy())
    elif test is not None:
        _mark_smallest(ax, axis, curves["test"][axis.order])
    _label_curves(ax, axis, curves)
    return ax


def plot_loss_against_lambda(
    lambdas: Sequence[float], train_loss: Sequence[float], test_loss: Sequence[float], ax: Axes | None = None
) -> Axes:
    """Draw training and test loss over the strength of a penalty, and mark the smallest test loss.

    The axis of lambda is logarithmic, weaker penalties to the right; a lambda of 0 stands at its right end, apart.

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
        >>> import matplotlib.pyplot as plt
        >>> ax = plot_loss_against_lambda([0.0, 0.1, 1.0], train_loss=[1.0, 1.1, 2.0], test_loss=[1.4, 1.2, 2.1])
        >>> ax.texts[0].get_text()
        'smallest test loss 1.2 at λ = 0.1'
        >>> plt.close(ax.figure)
    """
    lambdas = as_float64(lambdas, "lambdas")
    axis = LambdaAxis.of(lambdas)
    curves = {
        "train": as_vector(train_loss, "train_loss", len(lambdas)),
        "test": as_vector(test_loss, "test_loss", len(lambdas)),
    }
    ax = _draw_losses(axis, curves, ax, "loss, without the penalty", marker="o", markersize=4)
    _mark_smallest(ax, axis, curves["test"][axis.order])
    _label_curves(ax, axis, curves)
    return ax


def plot_cross_validation(found: CrossValidation, ax: Axes | None = None) -> Axes:
    """Draw the held-out loss along the lambda axis with its standard error, and what the two rules choose.

    The band is one standard error of the folds' losses to either side. Marked are the smallest loss, and the largest
    lambda whose loss is within a standard error of it: below the dashed line.

    Args:
        found: The cross-validation.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> ax = plot_cross_validation(br.cross_validate(br.load_diabetes().standardized(), "l1"))
        >>> [text.get_text() for text in ax.texts]
        ['one standard error, λ = 0.0775', 'minimum, λ = 0.0135', 'mean of 10 folds', 'smallest + s.e.']
        >>> plt.close(ax.figure)
    """
    axis = LambdaAxis.of(found.lambdas.numpy())
    loss, error = (values.numpy()[axis.order] for values in (found.loss, found.standard_error))
    ax = axes_or_new(ax, (6.5, 4.0))
    draw_line(ax, axis, loss, color=BLUE, linewidth=1.8, label="held-out loss")
    draw_band(ax, axis, loss - error, loss + error, "± one standard error")
    bound = float((found.loss + found.standard_error)[found.best])
    ax.axhline(bound, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    marks = []
    for words, index in (("minimum", found.best), ("one standard error", found.one_standard_error)):
        strength = float(found.lambdas[index])
        ax.plot(axis.at(strength), float(found.loss[index]), "o", color=BLACK, markersize=5)
        marks.append((axis.at(strength), f"{words}, λ = {strength:.3g}"))
    ax.set_ylabel(f"held-out {LOSS_NAMES['half-mean']}, ± one standard error")
    logarithmic_if_wide(ax, loss - error, loss + error)
    axis.draw(ax)
    mark_lambdas(ax, marks)
    label_ends(ax, [(f"mean of {len(found.fold_sizes)} folds", loss[-1], BLUE), ("smallest + s.e.", bound, GREY)])
    return ax


def plot_evidence(result: LambdaChoice | Path, ax: Axes | None = None) -> Axes:
    """Draw the log evidence along the lambda axis, relative to its maximum, and mark that.

    The axis ends 20 nats below the maximum. A band is one standard error to either side, where the evidence has one;
    shaded is the 90% interval of lambda, where the choice has one.

    Args:
        result: The choice, or a `Path` of kind l2, at its own noise scale.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: The path is of another kind, or there is no finite evidence.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> ax = plot_evidence(br.path(br.load_diabetes().standardized(), "l2", noise_scale=0.7))
        >>> ax.texts[0].get_text()
        'maximum, λ = 0.03...'
        >>> plt.close(ax.figure)
    """
    frame = getattr(result, "evidence", None)
    if frame is None:
        lambdas, values, error = result.lambdas.numpy(), result.log_evidence.numpy(), np.zeros(len(result.lambdas))
    else:
        lambdas, values = (frame[name].to_numpy(dtype=float) for name in ("lambda", "log_evidence"))
        error = frame["standard_error"].to_numpy(dtype=float)
    kept = np.isfinite(values)
    if not kept.any():
        raise ValueError("the evidence must be finite at some strength, got none")
    axis = LambdaAxis.of(lambdas[kept])
    values = values[kept][axis.order]
    values = values - values.max()
    ax = axes_or_new(ax, (6.5, 4.0))
    draw_line(ax, axis, values, color=BLUE, linewidth=1.8, label="log evidence")
    if error.any():
        error = error[kept][axis.order]
        draw_band(ax, axis, values - error, values + error, "± one standard error")
    chosen = next((one for one in getattr(result, "choices", ()) if one.method == "evidence"), None)
    best = float(axis.lambdas[values.argmax()]) if chosen is None else chosen.strength
    ax.plot(axis.at(best), 0.0, "o", color=BLACK, markersize=5)
    if chosen is not None and chosen.lower is not None and chosen.upper is not None:
        span = {"color": GREY, "alpha": 0.12, "linewidth": 0, "zorder": 0}
        ax.axvspan(axis.at(chosen.lower), axis.at(chosen.upper), label="90% interval of λ", **span)
    ax.set_ylabel("log evidence, relative to its maximum (nats)")
    lowest = max(float(values.min()), _LOWEST_EVIDENCE)
    ax.set_ylim(1.08 * lowest if lowest < 0 else None, max(-0.08 * lowest, 0.1))
    axis.draw(ax)
    mark_lambdas(ax, [(axis.at(best), f"maximum, λ = {best:.3g}")])
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False, fontsize=9)
    return ax


def _draw_losses(
    axis: LambdaAxis, curves: Mapping[str, np.ndarray], ax: Axes | None, label: str, **style: object
) -> Axes:
    """Draw curves of the train loss and the test loss, given in the order of the strengths."""
    ax = axes_or_new(ax, (6.5, 4.0))
    for words, loss in curves.items():
        draw_line(ax, axis, loss[axis.order], color=_COLORS[words], linewidth=1.8, label=words, **style)
    logarithmic_if_wide(ax, *curves.values())
    ax.set_ylabel(label)
    axis.draw(ax)
    return ax


def _label_curves(ax: Axes, axis: LambdaAxis, curves: Mapping[str, np.ndarray]) -> None:
    label_ends(ax, [(words, loss[axis.order][-1], _COLORS[words]) for words, loss in curves.items()])


def _mark_smallest(ax: Axes, axis: LambdaAxis, loss: np.ndarray) -> None:
    best = int(np.argmin(loss))
    ax.plot(axis.place[best], loss[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=BLACK)
    mark_lambdas(ax, [(axis.place[best], f"smallest test loss {loss[best]:.3g} at λ = {axis.lambdas[best]:.3g}")])


def _mark_choices(ax: Axes, axis: LambdaAxis, choices: Sequence[Choice], heights: np.ndarray) -> None:
    """Mark what each method chose, at the loss that it gets."""
    marks, intervals = [], []
    for choice, height in zip(choices, heights, strict=True):
        place = axis.at(choice.strength)
        ax.plot(place, height, "o", markersize=8, markerfacecolor="none", markeredgecolor=BLACK, label=choice.method)
        beyond = not math.isclose(place, choice.strength, rel_tol=1e-9)
        marks.append((place, choice.method + (f", λ = {choice.strength:.3g}" if beyond else "")))
        if choice.lower is not None and choice.upper is not None:
            intervals.append((f"{choice.method}: 90% interval", axis.at(choice.lower), axis.at(choice.upper)))
    mark_lambdas(ax, marks)
    _draw_intervals(ax, intervals)


def _draw_intervals(ax: Axes, intervals: Sequence[tuple[str, float, float]]) -> None:
    """Draw intervals of lambda as bars below the curves, their names over them."""
    if not intervals:
        return
    row = 0.09  # of the height of the axes
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    free = row * len(intervals) + 0.02
    ax.set_ylim(scale.inverted().transform(low - (high - low) * free / (1 - free)), None)
    across = ax.get_xaxis_transform()
    for number, (words, *ends) in enumerate(intervals):
        height = 0.02 + row * number
        ax.plot(ends, [height] * 2, color=BLACK, linewidth=1.5, transform=across, solid_capstyle="butt", label=words)
        weak = max(ax.transData.transform([(end, 1.0) for end in ends])[:, 0]) > ax.bbox.x0 + ax.bbox.width / 2
        place = min(ends) if weak else max(ends)
        ax.text(place, height + 0.01, words, transform=across, fontsize=9, ha="right" if weak else "left", va="bottom")
