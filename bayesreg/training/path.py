"""The book's mini-batch SGD along the lambda axis: every strength and every seed in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import torch

from bayesreg.computing.arrays import as_float64, check_index, read_only
from bayesreg.computing.devices import resolve_device
from bayesreg.computing.progress import progress_bar
from bayesreg.data import RegressionData, require_rows
from bayesreg.objectives import CANONICAL
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.training.batch import TrainingBatch
from bayesreg.training.checks import check_convergent, check_test, checked_start, largest_end
from bayesreg.training.objective import TrainingObjective
from bayesreg.training.run import TrainingRun, TrainingSettings

_KINDS = {"l2": L2, "l1": L1}


@dataclass(frozen=True, eq=False)
class TrainingPath:
    """Where each of L strengths and S seeds ended, and the way there.

    The history is made when first asked for, by going the same way again: to follow all runs through the epochs can
    take several times as long as to train them.

    Attributes:
        lambdas: Strengths in the words of `convention`, (L,).
        seeds: The S seeds.
        weights: End points, (L, S, d), float64, on the CPU, in the units of the data.
        intercepts: (L, S).
        kind: "l2" or "l1".
        convention: Whose objective it is.
        settings: How it was trained; its `seed` is the first one.
        data: The rows.

    Example:
        >>> import bayesreg as br
        >>> rows, test = br.simulate_weight_decay(seed=0)
        >>> path = br.train_path(rows, [0.0, 3.0], seeds=(0, 1), test=test)
        >>> path.weights.shape, path.test_loss.shape
        (torch.Size([2, 2, 200]), (101, 2, 2))
        >>> path.run(1, 0).certificate.relative_gap > 1
        True
    """

    lambdas: np.ndarray
    seeds: tuple[int, ...]
    weights: torch.Tensor = field(repr=False)
    intercepts: torch.Tensor = field(repr=False)
    kind: Literal["l2", "l1"]
    convention: str
    settings: TrainingSettings
    data: RegressionData
    _batch: TrainingBatch = field(repr=False)

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """What `TrainingRun.history` has, after each epoch, the start first: (epochs + 1, L, S) by name."""
        return self._batch.run(follow=True).history

    @property
    def train_loss(self) -> np.ndarray:
        """Loss on the rows, that of the convention (`TrainingRun.history`), (epochs + 1, L, S)."""
        return self.history["train_loss"]

    @property
    def train_objective(self) -> np.ndarray:
        """Loss on the rows and the penalty, (epochs + 1, L, S)."""
        return self.history["train_objective"]

    @property
    def test_loss(self) -> np.ndarray | None:
        """Loss on the test rows, (epochs + 1, L, S); None without them."""
        return self.history.get("test_loss")

    @property
    def test_objective(self) -> np.ndarray | None:
        """Loss on the test rows and the penalty, (epochs + 1, L, S); None without them."""
        return self.history.get("test_objective")

    @property
    def weights_l2(self) -> np.ndarray:
        """|w|_2, (epochs + 1, L, S)."""
        return self.history["weights_l2"]

    @property
    def weights_l1(self) -> np.ndarray:
        """|w|_1, (epochs + 1, L, S)."""
        return self.history["weights_l1"]

    @property
    def zeros(self) -> np.ndarray:
        """Number of weights that are 0 exactly, integers, (epochs + 1, L, S)."""
        return self.history["zeros"]

    def penalty(self, lambda_index: int) -> Penalty:
        """Return the penalty of a strength.

        Args:
            lambda_index: Which strength.

        Returns:
            The penalty, in the path's convention.

        Example:
            >>> import bayesreg as br
            >>> rows, _ = br.simulate_weight_decay(seed=0)
            >>> br.train_path(rows, [0.0, 3.0], epochs=5).penalty(1)
            Penalty(l2=3.0, convention='mean-half-squared')
        """
        index = check_index(lambda_index, "lambda_index", len(self.lambdas))
        return _KINDS[self.kind](float(self.lambdas[index]), self.convention)

    def run(self, lambda_index: int, seed_index: int = 0) -> TrainingRun:
        """Return one of the runs, as `train` would have made it.

        Args:
            lambda_index: Which strength.
            seed_index: Which seed.

        Returns:
            The run; its certificate says how far from the optimum it ended.

        Example:
            >>> import bayesreg as br
            >>> rows, _ = br.simulate_weight_decay(seed=0)
            >>> run = br.train_path(rows, [0.0, 3.0], seeds=(0, 1), epochs=5).run(1, 0)
            >>> run.penalty, run.settings.seed, len(run.history)
            (Penalty(l2=3.0, convention='mean-half-squared'), 0, 6)
        """
        lambda_index = check_index(lambda_index, "lambda_index", len(self.lambdas))
        seed_index = check_index(seed_index, "seed_index", len(self.seeds))
        here = (lambda_index, seed_index)
        history = {name: values[:, *here] for name, values in self.history.items()}
        return TrainingRun(
            weights=self.weights[here].clone(),
            intercept=float(self.intercepts[here]),
            history=pd.DataFrame({"epoch": range(self.settings.epochs + 1), **history}),
            penalty=self.penalty(lambda_index),
            settings=replace(self.settings, seed=self.seeds[seed_index]),
            data=self.data,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the history as a table: one row for each strength, seed and epoch.

        Returns:
            Columns `lambda`, `seed`, `epoch`, and those of `TrainingRun.history`.

        Example:
            >>> import bayesreg as br
            >>> rows, _ = br.simulate_weight_decay(seed=0)
            >>> found = br.train_path(rows, [0.0, 3.0], seeds=(0, 1), epochs=5).to_frame()
            >>> found.shape, found.columns[:4].tolist()
            ((24, 8), ['lambda', 'seed', 'epoch', 'train_loss'])
        """
        epochs, num_strengths, num_seeds = self.settings.epochs + 1, len(self.lambdas), len(self.seeds)
        return pd.DataFrame(
            {
                "lambda": np.repeat(self.lambdas, num_seeds * epochs),
                "seed": np.tile(np.repeat(self.seeds, epochs), num_strengths),
                "epoch": np.tile(np.arange(epochs), num_strengths * num_seeds),
                **{name: values.transpose(1, 2, 0).reshape(-1) for name, values in self.history.items()},
            }
        )


def train_path(
    data: RegressionData,
    lambdas: Sequence[float] | np.ndarray,
    kind: Literal["l2", "l1"] = "l2",
    seeds: Sequence[int] = (0,),
    epochs: int = 100,
    batch_size: int = 5,
    learning_rate: float = 0.003,
    test: RegressionData | None = None,
    *,
    convention: str = CANONICAL,
    l1_update: Literal["proximal", "subgradient"] = "proximal",
    intercept: bool = True,
    start: tuple[Sequence[float] | torch.Tensor, float] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> TrainingPath:
    """Train with each of many strengths and seeds, as `train` does with one, all at once.

    Strength l and seed s end where `train(data, L2(lambdas[l], convention), seed=seeds[s], ...)` does, to rounding: the
    same start, the same batches, the same steps, as products of matrices (see `bayesreg.training.batched_descent`). The
    one exception: where rounding decides the sign of a weight, the subgradient of the L1 term follows it.

    Args:
        data: The rows.
        lambdas: The strengths, (L,), in the words of `convention`; each at least 0.
        kind: "l2" or "l1".
        seeds: One whole number a seed: of the start and the shuffling, the same for all strengths.
        epochs: Passes through the rows.
        batch_size: Rows in a batch; n or more is the full batch.
        learning_rate: Size of a step.
        test: Rows to follow the loss on, in the units of `data`.
        convention: Whose objective the strengths belong to; the loss follows from it.
        l1_update: How an L1 term enters: "proximal" reaches exact zeros, "subgradient" does not.
        intercept: Whether there is an intercept.
        start: Weights (d,) and intercept to start from, with every strength and seed.
        device: "cpu", "cuda" or "auto" (the CPU).
        progress: Whether to show a bar.

    Returns:
        End points and history of all of them.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type, as for `train`.
        ValueError: If a setting is out of range, the convention has no loss to train or no such penalty, start or test
            rows do not fit the data, or a run diverges; the message then names it and the largest stable learning rate.

    Example:
        >>> import bayesreg as br
        >>> rows, _ = br.simulate_weight_decay(seed=0)
        >>> path = br.train_path(rows, [0.0, 0.3, 3.0], epochs=20)
        >>> one = br.train(rows, br.L2(0.3), epochs=20)
        >>> float((path.weights[1, 0] - one.weights).abs().max()) < 1e-12
        True
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be 'l2' or 'l1', got {kind!r}")
    place = resolve_device(device) or torch.device("cpu")
    settings = [
        TrainingSettings(epochs, batch_size, learning_rate, seed, l1_update, False, intercept)
        for seed in _several(seeds, "seeds")
    ]
    rows = require_rows(data, "train_path")
    objective = TrainingObjective.of(_KINDS[kind](1.0, convention), rows, settings[0].batch_size, place)
    check_test(test, rows)
    given = None if start is None else checked_start(start, rows.num_features, settings[0].intercept)
    batch = TrainingBatch(rows, test, _strengths(lambdas), kind, objective, settings, given, place)
    with progress_bar(progress, "training", batch.num_ticks) as bar:
        found = batch.run(bar.advance)
    path = TrainingPath(
        lambdas=read_only(batch.lambdas),
        seeds=batch.seeds,
        weights=found.weights,
        intercepts=found.intercepts,
        kind=kind,
        convention=convention,
        settings=settings[0],
        data=rows,
        _batch=batch,
    )
    _check_convergent(path, objective, *found.history["train_objective"])
    return path


def _check_convergent(path: TrainingPath, objective: TrainingObjective, first: np.ndarray, last: np.ndarray) -> None:
    """Refuse a path with a run that diverged; the objectives at the start and at the end are (L, S)."""
    rows, settings = path.data, path.settings
    with np.errstate(over="ignore"):
        null = objective.loss_multiplier(rows.num_rows) * float(np.square(rows.target).sum())
        bounds = largest_end(first, null, settings, rows.num_rows, path.kind)
    for k, s in np.argwhere(~(np.isfinite(first) & (last <= bounds))):
        penalty = path.penalty(k)
        check_convergent(
            float(first[k, s]),
            float(last[k, s]),
            TrainingObjective.of(penalty, rows, settings.batch_size),
            tuple(torch.tensor(v, dtype=torch.float64, device="cpu") for v in (rows.features, rows.target)),
            settings,
            penalty.kind,
            f", lambda={path.lambdas[k]:g}, seed={path.seeds[s]}",
        )


def _several(values: Sequence[int], name: str) -> list:
    """Return a sequence as a list that is not empty.

    Args:
        values: What was given.
        name: What it is.

    Returns:
        The list.

    Raises:
        TypeError: If it is no sequence.
        ValueError: If it is empty.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, such as (0, 1, 2), got {values!r}")
    found = list(values)
    if not found:
        raise ValueError(f"{name} must have at least one entry, got none")
    return found


def _strengths(lambdas: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the strengths as an array of its own, (L,).

    Args:
        lambdas: What was given.

    Returns:
        The array.

    Raises:
        ValueError: If it is no vector of finite numbers of at least 0.
    """
    found = np.array(as_float64(lambdas, "lambdas"))
    if found.ndim != 1 or not len(found):
        raise ValueError(f"lambdas must be a vector of at least one strength, got shape {found.shape}")
    if not np.all((found >= 0) & (found < np.inf)):
        wrong = found[~((found >= 0) & (found < np.inf))][0]
        raise ValueError(f"lambdas must be finite and at least 0, got {wrong}")
    return found
