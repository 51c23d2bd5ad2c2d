"""How training went: the loss after each epoch, and how far it is above the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from bayesreg.certificates import certify
from bayesreg.objectives import get_convention
from bayesreg.plots.parts import (
    LOSS_NAMES,
    TEST,
    TRAIN,
    axes_or_new,
    check_result,
    describe,
    label_ends,
    logarithmic,
    logarithmic_if_wide,
    most_ends,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.paths.penalty_path import Path
    from bayesreg.training.path import TrainingPath
    from bayesreg.training.run import TrainingRun

_MOST_NAMED = 10
# An objective is known to so much of itself: below, its excess over the minimum is rounding.
_ROUNDING = 1e-13


def plot_training(run: TrainingRun, ax: Axes | None = None) -> Axes:
    """Draw the loss on the training and the test rows after each epoch, without the penalty and, dashed, with it.

    The loss is that of the penalty's convention, on a logarithmic axis where it spans more than a factor of 30.

    Args:
        run: What `bayesreg.train` returned; test lines need its ``test`` rows, dashed lines a penalty.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> rows, test = br.simulate_weight_decay(seed=0)
        >>> ax = plot_training(br.train(rows, br.L2(3.0), epochs=5, test=test))
        >>> ax.get_ylabel(), [text.get_text() for text in ax.texts]
        ('mean of (y − ŷ)²/2', ['train', 'train + penalty', 'test', 'test + penalty'])
        >>> plt.close(ax.figure)
    """
    check_result(run, "run", "a TrainingRun, which br.train returns", "history", "penalty")
    history, penalty = run.history, run.penalty
    ax = axes_or_new(ax, (6.5, 4.0))
    shown = []
    for rows, color in (("train", TRAIN), ("test", TEST)):
        if f"{rows}_loss" in history:
            shown.append((rows, history[f"{rows}_loss"].to_numpy(), color, "-"))
            if penalty.kind != "none":
                shown.append((f"{rows} + penalty", history[f"{rows}_objective"].to_numpy(), color, "--"))
    for words, losses, color, style in shown:
        ax.plot(history["epoch"], losses, style, color=color, linewidth=1.8, label=words)
    logarithmic_if_wide(ax, *(losses for _, losses, _, _ in shown))
    ax.margins(x=0.0)
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))  # epochs are whole
    title = "Loss in training, " + ("no penalty" if penalty.kind == "none" else f"{penalty!r}")
    describe(ax, title, "epoch", LOSS_NAMES[get_convention(penalty.convention).training_loss])
    label_ends(ax, [(words, losses[-1], color) for words, losses, color, _ in shown])
    return ax


def plot_sgd_trajectories(
    training: TrainingPath | Sequence[TrainingRun], optima: Path | Sequence[Sequence[float]], ax: Axes | None = None
) -> Axes:
    """Draw how far the objective is above its minimum after each epoch, for several lambdas.

    The objective is that of the runs' convention, penalty included, and its minimum that at the optima, with the best
    intercept. What is above it by no more than rounding has no place on the logarithmic axis, and is left out.

    Args:
        training: Runs, or what `train_path` gave: then all seeds of a lambda share its colour.
        optima: The MAP's weights `(d,)` for each run, or lambda, in their order; or a `Path` at these strengths.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: There are more or fewer optima than lambdas, the runs are of several conventions, or a run comes
            below the objective of its own, which is then none.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> rows, strengths = br.load_diabetes().standardized(), [1.0, 0.1]
        >>> runs = [br.train(rows, br.L2(strength), epochs=5) for strength in strengths]
        >>> ax = plot_sgd_trajectories(runs, br.path(rows, "l2", strengths))
        >>> ax.get_title(loc="left"), [text.get_text() for text in ax.texts]
        ('Training, above the optimum of: mean of (y − ŷ)²/2 + penalty', ['λ = 0.1', 'λ = 1'])
        >>> plt.close(ax.figure)
    """
    groups = _runs_by_strength(training)
    weights = getattr(optima, "weights", optima)
    if len(weights) != len(groups):
        raise ValueError(f"optima must be one for each lambda, {len(groups)} of them, got {len(weights)}")
    strengths = [float(np.max(runs[0].penalty.strength)) for runs in groups]
    excesses = [
        [_excess(run, point, strength) for run in runs]
        for runs, point, strength in zip(groups, weights, strengths, strict=True)
    ]
    ax = axes_or_new(ax, (6.5, 4.0))
    # In the order of the strengths, from dark to light: a palette that colour-blind readers see as an order too.
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(groups)))
    ranks = np.argsort(np.argsort(strengths, kind="stable"))
    ends = []
    for strength, found, rank in zip(strengths, excesses, ranks, strict=True):
        for excess in found:
            ax.plot(excess, color=shades[rank], linewidth=1.6 if len(found) == 1 else 0.8)
            known = excess[np.isfinite(excess)]
        if known.size:
            ends.append((strength, known[-1], shades[rank]))
    loss = LOSS_NAMES[get_convention(groups[0][0].penalty.convention).training_loss]
    values = np.concatenate([excess for found in excesses for excess in found])
    values = values[np.isfinite(values)]
    logarithmic(ax, values.max() / values.min() if values.size else 1.0)
    ax.margins(x=0.0)
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))  # epochs are whole
    describe(ax, f"Training, above the optimum of: {loss} + penalty", "epoch", "objective above its minimum")
    step = max(1, -(-len(ends) // min(_MOST_NAMED, most_ends(ax))))
    shown = sorted(ends, key=lambda end: end[0])[::step]
    label_ends(ax, [(f"λ = {strength:.3g}", height, shade) for strength, height, shade in shown])
    return ax


def _runs_by_strength(training: TrainingPath | Sequence[TrainingRun]) -> list[list[TrainingRun]]:
    """Return the runs of each strength, all of one convention."""
    if hasattr(training, "seeds"):
        return [[training.run(k, s) for s in range(len(training.seeds))] for k in range(len(training.lambdas))]
    check_result(training, "training", "a TrainingPath, or a list of runs of br.train", "__iter__")
    for run in training:
        check_result(run, "training", "a TrainingPath, or a list of runs of br.train", "history", "standardized")
    runs = [run.standardized or run for run in training]  # the history is that of the problem that was trained
    conventions = {run.penalty.convention for run in runs}
    if len(conventions) != 1:
        raise ValueError(f"training must be runs of one convention, got {len(runs)} of {sorted(conventions)}")
    return [[run] for run in runs]


def _excess(run: TrainingRun, optimum: Sequence[float], strength: float) -> np.ndarray:
    """Return how far the objective is above its minimum after each epoch; NaN where that is rounding."""
    intercept = None if run.settings.intercept else False
    knowledge = {"steps_per_epoch": run.steps_per_epoch}
    least = certify(optimum, run.data, run.penalty, intercept=intercept, **knowledge).objective
    objective = run.history["train_objective"].to_numpy()
    excess, known = objective - least, _ROUNDING * np.maximum(np.abs(objective), abs(least))
    if (excess < -known).any():
        raise ValueError(
            f"optima must be the weights of the smallest objective: at lambda = {strength:.3g} training came to "
            f"{objective.min():.6g}, below the {least:.6g} there"
        )
    return np.where(excess > known, excess, np.nan)
