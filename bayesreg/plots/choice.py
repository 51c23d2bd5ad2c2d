"""Which lambda to take: losses, cross-validation and evidence along the lambda axis, and what was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesreg.computing.arrays import as_float64
from bayesreg.plots.lambda_axis import DIRECTION, LambdaAxis, draw_band, draw_line, mark_lambdas
from bayesreg.plots.parts import (
    FIT,
    GREY,
    LOSS_NAMES,
    PROBABILITY,
    TEST,
    TRAIN,
    as_vector,
    axes_or_new,
    check_result,
    describe,
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
    from bayesreg.selection.leave_one_out import LeaveOneOut

# How far the log evidence falls below its maximum before the axis ends, in nats.
_LOWEST_EVIDENCE = -20.0
_COLORS = {"train": TRAIN, "test": TEST}
_CIRCLE = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": FIT, "linestyle": "none"}
_CHOICE_OR_PATH = "a LambdaChoice or a Path, which br.choose_lambda and br.path return"
_ROW = 15.0  # points from one interval of lambda to the next


def plot_losses(
    result: LambdaChoice | Path, test: RegressionData | Moments | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss on the rows and on the test rows along the lambda axis, and mark what was chosen.

    The loss is the mean of (y - x'w - b)^2 / 2, in squared units of the target as the path has it.
    Of a `LambdaChoice` each method's lambda is marked and named, at the loss that it gets, with its 90% interval where
    the method has one; a lambda outside of the path stands at its end, with its value. Of a `Path` the smallest test
    loss is marked.

    Args:
        result: The choice, or the fits alone.
        test: Test rows, in the units of the path; None: those that a choice has.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: The test rows have other columns or other units than the path.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> rows, test = br.load_diabetes().split(seed=0)
        >>> ax = plot_losses(br.path(rows, "l2"), test)
        >>> [text.get_text() for text in ax.texts]
        ['smallest test loss 1.54e+03 at λ = 0.00106', 'train', 'test']
        >>> plt.close(ax.figure)
    """
    path, choices = getattr(result, "path", result), getattr(result, "choices", ())
    check_result(path, "result", _CHOICE_OR_PATH, "lambdas", "losses", "kind")
    test = getattr(result, "test", None) if test is None else test
    curves = {"train": path.losses.numpy()} | ({} if test is None else {"test": path.loss(test).numpy()})
    axis = LambdaAxis.of(path.lambdas.numpy())
    ax = _draw_losses(axis, curves, ax)
    title, above = f"Loss along the {path.kind} path", 0.0
    if choices:
        heights = result.chosen.losses if test is None else result.chosen.loss(test)
        above = _mark_choices(ax, axis, choices, heights.numpy())
        title += ", and what each method chooses (circles)"
    elif test is not None:
        above = _mark_smallest(ax, axis, curves["test"][axis.order])
    _label_curves(ax, axis, curves)
    describe(ax, title, DIRECTION, LOSS_NAMES["half-mean"], above=above)
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
    ax = _draw_losses(axis, curves, ax, marker="o", markersize=4)
    above = _mark_smallest(ax, axis, curves["test"][axis.order])
    _label_curves(ax, axis, curves)
    describe(ax, "Loss on train and test rows", DIRECTION, "loss, without the penalty", above=above)
    return ax


def plot_cross_validation(found: CrossValidation | LeaveOneOut | LambdaChoice, ax: Axes | None = None) -> Axes:
    """Draw the held-out loss along the lambda axis, of folds or of single rows, and what it chooses.

    The loss is the mean of (y - x'w - b)^2 / 2 over the rows left out (`CrossValidation.loss`).
    Of folds the band is one standard error of the folds' losses to either side; marked are the smallest loss, and the
    largest lambda whose loss is within a standard error of it: below the dashed line. Leave-one-out is the dash-dotted
    curve; marked is its smallest loss, with a bar of one standard error over the rows. (When rows go, cross-validation
    holds lambda, and leave-one-out of kind l2 the prior, n lambda.)

    Args:
        found: The cross-validation, the leave-one-out curve, or the choice that has made one or both of them.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: The choice has made neither.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> ax = plot_cross_validation(br.cross_validate(br.load_diabetes().standardized(), "l1"))
        >>> [text.get_text() for text in ax.texts]
        ['one standard error, λ = 0.0775', 'minimum, λ = 0.0135', '10 folds', 'smallest + s.e.']
        >>> plt.close(ax.figure)
    """
    wanted = "a CrossValidation, a LeaveOneOut or a LambdaChoice, as br.choose_lambda returns"
    check_result(found, "found", wanted, *(("choices",) if hasattr(found, "choices") else ("lambdas", "best")))
    folds, single = _held_out_curves(found)
    axis = LambdaAxis.of((folds or single).lambdas.numpy())
    ax = axes_or_new(ax, (6.5, 4.0))
    marks, ends, shown = [], [], []
    if folds is not None:
        loss, error = (values.numpy()[axis.order] for values in (folds.loss, folds.standard_error))
        draw_line(ax, axis, loss, color=TEST, linewidth=1.8, label="held-out loss")
        draw_band(ax, axis, loss - error, loss + error, TEST, "± one standard error")
        bound = float((folds.loss + folds.standard_error)[folds.best])
        ax.axhline(bound, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        chosen = {"minimum": folds.best, "one standard error": folds.one_standard_error}
        marks += [(words, float(folds.lambdas[index]), float(folds.loss[index])) for words, index in chosen.items()]
        ends += [(f"{len(folds.fold_sizes)} folds", loss[-1], TEST), ("smallest + s.e.", bound, GREY)]
        shown += [loss - error, loss + error]
    if single is not None:
        loss, best = single.loss.numpy()[axis.order], single.best
        draw_line(ax, axis, loss, color=TEST, linewidth=1.8, linestyle="-.", label="leave-one-out loss")
        place, height = float(single.lambdas[best]), float(single.loss[best])
        error = np.nan_to_num(single.standard_error)
        ax.errorbar(axis.at(place), height, error, color=FIT, linewidth=1.0, capsize=3.0, label="± one standard error")
        marks.append(("minimum" if folds is None else "leave-one-out", place, height))
        ends.append(("leave-one-out", loss[-1], TEST))
        shown += [loss, np.array([height - error])]
    for _, place, height in marks:
        ax.plot(axis.at(place), height, "o", color=FIT, markersize=5)
    logarithmic_if_wide(ax, *shown)
    axis.draw(ax)
    above = mark_lambdas(ax, [(axis.at(place), f"{words}, λ = {place:.3g}") for words, place, _ in marks])
    label_ends(ax, ends)
    titles = ["Cross-validation, ± one standard error (band)"] * (folds is not None)
    titles += ["leave-one-out, ± one standard error (bar)"] * (single is not None)
    title = "; ".join(titles)
    title = title[0].upper() + title[1:]
    describe(ax, title, DIRECTION, f"held-out {LOSS_NAMES['half-mean']}", above=above)
    return ax


def plot_evidence(result: LambdaChoice | Path, ax: Axes | None = None) -> Axes:
    """Draw the log evidence along the lambda axis, relative to its maximum, and mark that.

    That is log p(y | s, lambda) in nats, weights and intercept integrated out (`Path.log_evidence`).
    The axis ends 20 nats below the maximum. A band is one standard error to either side, where the evidence has one;
    shaded in grey is the 90% interval of lambda, where the choice has one.

    Args:
        result: The choice, or a `Path` of kind l2, at its own noise scale.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: The path is of another kind, the choice was not made by "evidence", or none of it is finite.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> ax = plot_evidence(br.path(br.load_diabetes().standardized(), "l2", noise_scale=0.7))
        >>> ax.texts[0].get_text()
        'maximum, λ = 0.03...'
        >>> plt.close(ax.figure)
    """
    frame = getattr(result, "evidence", None)
    if frame is None and hasattr(result, "choices"):
        methods = ", ".join(choice.method for choice in result.choices)
        raise ValueError(f"result must be a choice by 'evidence', or a path, got a choice by {methods}")
    if frame is None:
        check_result(result, "result", _CHOICE_OR_PATH, "lambdas", "kind")
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
    draw_line(ax, axis, values, color=PROBABILITY, linewidth=1.8, label="log evidence")
    title = "Evidence of each λ"
    if error.any():
        error = error[kept][axis.order]
        draw_band(ax, axis, values - error, values + error, PROBABILITY, "± one standard error")
        title += ", ± one standard error (band)"
    chosen = next((one for one in getattr(result, "choices", ()) if one.method == "evidence"), None)
    best = float(axis.lambdas[values.argmax()]) if chosen is None else chosen.strength
    ax.plot(axis.at(best), 0.0, "o", color=FIT, markersize=5)
    if chosen is not None and chosen.lower is not None and chosen.upper is not None:
        span = {"color": GREY, "alpha": 0.12, "linewidth": 0, "zorder": 0}
        ax.axvspan(axis.at(chosen.lower), axis.at(chosen.upper), label="90% interval of λ", **span)
        title += ", 90% interval of λ (grey)"
    lowest = max(float(values.min()), _LOWEST_EVIDENCE)
    ax.set_ylim(1.08 * lowest if lowest < 0 else None, max(-0.08 * lowest, 0.1))
    axis.draw(ax)
    above = mark_lambdas(ax, [(axis.at(best), f"maximum, λ = {best:.3g}")])
    describe(ax, title, DIRECTION, "log evidence, less its maximum (nats)", above=above)
    return ax


def _held_out_curves(
    found: CrossValidation | LeaveOneOut | LambdaChoice,
) -> tuple[CrossValidation | None, LeaveOneOut | None]:
    """Return the curve of folds and that of single rows.

    Raises:
        ValueError: There is neither.
    """
    if hasattr(found, "choices"):
        folds, single = found.cross_validation, found.leave_one_out
    else:
        folds, single = (found, None) if hasattr(found, "fold_losses") else (None, found)
    if folds is None and single is None:
        methods = ", ".join(choice.method for choice in found.choices)
        raise ValueError(f"found must be a choice by 'cv', 'cv-1se' or 'loo', got one by {methods}")
    return folds, single


def _draw_losses(axis: LambdaAxis, curves: Mapping[str, np.ndarray], ax: Axes | None, **style: object) -> Axes:
    """Draw curves of the train loss and the test loss, given in the order of the strengths."""
    ax = axes_or_new(ax, (6.5, 4.0))
    for words, loss in curves.items():
        draw_line(ax, axis, loss[axis.order], color=_COLORS[words], linewidth=1.8, label=words, **style)
    logarithmic_if_wide(ax, *curves.values())
    axis.draw(ax)
    return ax


def _label_curves(ax: Axes, axis: LambdaAxis, curves: Mapping[str, np.ndarray]) -> None:
    label_ends(ax, [(words, loss[axis.order][-1], _COLORS[words]) for words, loss in curves.items()])


def _mark_smallest(ax: Axes, axis: LambdaAxis, loss: np.ndarray) -> float:
    """Mark the smallest test loss, and return the points above the axes that its name takes."""
    best = int(np.argmin(loss))
    ax.plot(axis.place[best], loss[best], markersize=11, **_CIRCLE)
    words = f"smallest test loss {loss[best]:.3g} at λ = {axis.lambdas[best]:.3g}"
    return mark_lambdas(ax, [(axis.place[best], words)])


def _mark_choices(ax: Axes, axis: LambdaAxis, choices: Sequence[Choice], heights: np.ndarray) -> float:
    """Mark what each method chose, at the loss that it gets, and return the points above the axes that is taken."""
    marks, intervals = [], []
    for choice, height in zip(choices, heights, strict=True):
        place = axis.at(choice.strength)
        ax.plot(place, height, markersize=8, label=choice.method, **_CIRCLE)
        beyond = not math.isclose(place, choice.strength, rel_tol=1e-9)
        marks.append((place, choice.method + (f", λ = {choice.strength:.3g}" if beyond else "")))
        if choice.lower is not None and choice.upper is not None:
            intervals.append((f"{choice.method}: 90% interval", axis.at(choice.lower), axis.at(choice.upper)))
    above = mark_lambdas(ax, marks)
    _draw_intervals(ax, intervals)
    return above


def _draw_intervals(ax: Axes, intervals: Sequence[tuple[str, float, float]]) -> None:
    """Draw intervals of lambda as bars below the curves, their names over them."""
    if not intervals:
        return
    row = _ROW / 72.0 * ax.figure.dpi / ax.get_window_extent().height
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    free = min(row * len(intervals) + 0.02, 0.6)
    ax.set_ylim(scale.inverted().transform(low - (high - low) * free / (1 - free)), None)
    across = ax.get_xaxis_transform()
    for number, (words, *ends) in enumerate(intervals):
        height = 0.02 + row * number
        ax.plot(ends, [height] * 2, color=FIT, linewidth=1.5, transform=across, solid_capstyle="butt", label=words)
        weak = max(ax.transData.transform([(end, 1.0) for end in ends])[:, 0]) > ax.bbox.x0 + ax.bbox.width / 2
        style = {"ha": "right" if weak else "left", "va": "bottom", "fontsize": 9}
        # White behind the letters, where dotted lines go through.
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
        ax.text(min(ends) if weak else max(ends), height + 0.1 * row, words, transform=across, **style)
