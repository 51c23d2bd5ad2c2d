"""The book's mini-batch SGD along the lambda axis: every strength and every seed in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch

from bayesreg.arrays import as_float64, read_only
from bayesreg.data import RegressionData, require_rows
from bayesreg.devices import resolve_device
from bayesreg.inference.progress import progress_bar
from bayesreg.objectives import CANONICAL
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.threads import in_parallel, one_thread
from bayesreg.training_batch import Array, BatchedProblem, batched_descent
from bayesreg.training_checks import check_convergent, check_test, checked_start, largest_end
from bayesreg.training_objective import TrainingObjective
from bayesreg.training_run import TrainingRun, TrainingSettings
from bayesreg.training_shuffling import Shuffling

_KINDS = {"l2": L2, "l1": L1}
# As `TrainingRun.history` has them.
_LOSSES = ("train_loss", "train_objective", "test_loss", "test_objective")
_SIZES = ("weights_l2", "weights_l1", "zeros")
# How many numbers of the state move together: few enough for a core's cache, or enough to fill a GPU.
_STATE_NUMBERS = {"cpu": 2**16, "cuda": 2**26}
# A step of fewer multiplications than this is over before threads have passed Python's lock on.
_LONG_STEP = 2_000_000


@dataclass(frozen=True, eq=False)
class TrainingPath:
    """Where each of L strengths and S seeds ended, and the way there.

    Attributes:
        lambdas: Strengths in the words of `convention`, (L,).
        seeds: The S seeds.
        weights: End points, (L, S, d), float64, on the CPU.
        intercepts: (L, S).
        train_loss: Loss on the rows after each epoch, the start first, (epochs + 1, L, S); the loss of the convention.
        train_objective: The same with the penalty.
        test_loss: Loss on the test rows, or None without them.
        test_objective: The same with the penalty, or None.
        weights_l2: |w|_2, (epochs + 1, L, S).
        weights_l1: |w|_1, alike.
        zeros: Number of weights that are 0 exactly, alike, integers.
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
    train_loss: np.ndarray = field(repr=False)
    train_objective: np.ndarray = field(repr=False)
    test_loss: np.ndarray | None = field(repr=False)
    test_objective: np.ndarray | None = field(repr=False)
    weights_l2: np.ndarray = field(repr=False)
    weights_l1: np.ndarray = field(repr=False)
    zeros: np.ndarray = field(repr=False)
    kind: Literal["l2", "l1"]
    convention: str
    settings: TrainingSettings
    data: RegressionData

    def penalty(self, lambda_index: int) -> Penalty:
        """Return the penalty of a strength."""
        return _KINDS[self.kind](float(self.lambdas[lambda_index]), self.convention)

    def run(self, lambda_index: int, seed_index: int = 0) -> TrainingRun:
        """Return one of the runs, as `train` would have made it.

        Args:
            lambda_index: Which strength.
            seed_index: Which seed.

        Returns:
            The run; its certificate says how far from the optimum it ended.
        """
        here = (lambda_index, seed_index)
        history = {name: values[:, *here] for name, values in self._histories().items()}
        return TrainingRun(
            weights=self.weights[here].clone(),
            intercept=float(self.intercepts[here]),
            history=pd.DataFrame({"epoch": range(len(self.train_loss)), **history}),
            penalty=self.penalty(lambda_index),
            settings=replace(self.settings, seed=self.seeds[seed_index]),
            data=self.data,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the history as a table: one row for each strength, seed and epoch.

        Returns:
            Columns `lambda`, `seed`, `epoch`, and those of `TrainingRun.history`.
        """
        epochs, num_strengths, num_seeds = self.train_loss.shape
        return pd.DataFrame(
            {
                "lambda": np.repeat(self.lambdas, num_seeds * epochs),
                "seed": np.tile(np.repeat(self.seeds, epochs), num_strengths),
                "epoch": np.tile(np.arange(epochs), num_strengths * num_seeds),
                **{name: values.transpose(1, 2, 0).reshape(-1) for name, values in self._histories().items()},
            }
        )

    def _histories(self) -> dict[str, np.ndarray]:
        found = {name: getattr(self, name) for name in (*_LOSSES, *_SIZES)}
        return {name: values for name, values in found.items() if values is not None}


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
    same start, the same batches, the same steps, as products of matrices (see `bayesreg.training_batch`). The one
    exception: where rounding decides the sign of a weight, the subgradient of the L1 term follows it.

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
        device: "cpu", "cuda" or "auto".
        progress: Whether to show a bar on stderr.

    Returns:
        End points and history of all of them.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
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
    batch = _Batch(rows, test, _strengths(lambdas), kind, objective, settings, given, place)
    with progress_bar(progress, "training", batch.num_ticks) as advance:
        found = batch.run(advance)
    path = TrainingPath(**found, kind=kind, convention=convention, settings=settings[0], data=rows)
    batch.check_convergent(path)
    return path


class _Batch:
    """The pieces of the batch, each of some seeds and some strengths, and what they leave in the history."""

    def __init__(
        self,
        rows: RegressionData,
        test: RegressionData | None,
        lambdas: np.ndarray,
        kind: Literal["l2", "l1"],
        objective: TrainingObjective,
        settings: list[TrainingSettings],
        start: tuple[torch.Tensor, float] | None,
        device: torch.device,
    ):
        self.lambdas, self.kind, self.objective, self.given, self.device = lambdas, kind, objective, start, device
        self.settings, self.seeds = settings[0], tuple(one.seed for one in settings)
        self.parts = {"train": self._on_device(rows.features, rows.target)}
        if test is not None:
            self.parts["test"] = self._on_device(test.features, test.target)
        # A strength is linear in the number that is typed: the objective is that of the number 1.
        self.strengths = float(getattr(objective, kind)) * lambdas

    def _on_device(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        if self.device.type == "cpu":
            return arrays
        return tuple(torch.tensor(array, dtype=torch.float64, device=self.device) for array in arrays)

    def _native(self, tensor: torch.Tensor) -> Array:
        return tensor.numpy() if self.device.type == "cpu" else tensor

    @property
    def pieces(self) -> list[tuple[slice, slice]]:
        """Slices of the seeds and of the strengths, cut in the same places wherever it runs."""
        num_rows, num_features = self.parts["train"][0].shape
        tall = 3 + (num_features if self.kind == "l1" else min(num_rows, num_features))
        room = max(1, _STATE_NUMBERS[self.device.type] // tall)
        wide = min(len(self.lambdas), room)
        deep = max(1, room // wide)
        return [
            (slice(s, s + deep), slice(k, k + wide))
            for s in range(0, len(self.seeds), deep)
            for k in range(0, len(self.lambdas), wide)
        ]

    @property
    def num_ticks(self) -> int:
        """How often the progress bar moves."""
        return len(self.pieces) * self.settings.epochs

    def run(self, advance: Callable[[], None]) -> dict:
        """Train all pieces; return the fields of a `TrainingPath` that come out of it."""
        shape = (self.settings.epochs + 1, len(self.lambdas), len(self.seeds))
        names = [*(f"{part}_loss" for part in self.parts), *_SIZES]
        history = {name: np.empty(shape) for name in names}
        num_features = self.parts["train"][0].shape[1]
        weights, intercepts = np.empty((*shape[1:], num_features)), np.empty(shape[1:])

        def train_piece(piece: tuple[slice, slice], go_on: Callable[[], None]) -> None:
            seeds, strengths = piece

            def tick() -> None:
                go_on()
                advance()

            with np.errstate(all="ignore"):  # of runs that diverge: refused below, by name
                records, end, offsets = self._train(self.seeds[seeds], self.strengths[strengths], tick)
            for name, values in zip(names, records, strict=True):
                history[name][:, strengths, seeds] = values.transpose(0, 2, 1)
            weights[strengths, seeds], intercepts[strengths, seeds] = end.transpose(2, 0, 1), offsets.T

        batch = min(self.settings.batch_size, len(self.parts["train"][1]))
        long = batch * _STATE_NUMBERS["cpu"] >= _LONG_STEP and self.device.type == "cpu"
        with one_thread():
            in_parallel(train_piece, self.pieces, worth_while=long)
        with np.errstate(all="ignore"):
            size = 0.5 * history["weights_l2"] ** 2 if self.kind == "l2" else history["weights_l1"]
            penalty = self.strengths[:, None] * size
            objectives = {f"{part}_objective": history[f"{part}_loss"] + penalty for part in self.parts}
        history["zeros"] = history["zeros"].astype(np.int64)
        found = {name: read_only(values) for name, values in (history | objectives).items()}
        return {
            **dict.fromkeys(_LOSSES),
            **found,
            "lambdas": read_only(self.lambdas),
            "seeds": self.seeds,
            "weights": torch.from_numpy(weights),
            "intercepts": torch.from_numpy(intercepts),
        }

    def _train(
        self, seeds: tuple[int, ...], strengths: np.ndarray, tick: Callable[[], None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Train a piece: its history (columns, epochs + 1, S, L), weights (S, d, L) and intercepts (S, L)."""
        features, target = self.parts["train"]
        shufflings = [Shuffling(seed, *features.shape, self.device) for seed in seeds]
        descent = batched_descent(self._problem([one.start for one in shufflings], strengths))
        maps = [_root(descent.residual_map(*part)) for part in self.parts.values()]
        multipliers = [self.objective.loss_multiplier(len(part[1])) for part in self.parts.values()]
        records = [_record(descent, maps, multipliers)]
        for _ in range(self.settings.epochs):
            descent.epoch(self._native(torch.stack([one.order() for one in shufflings])))
            records.append(_record(descent, maps, multipliers))
            tick()
        arrays = descent.problem.library.stack(records, 1), descent.weights, descent.intercepts
        return tuple(np.array(v) if isinstance(v, np.ndarray) else v.cpu().numpy() for v in arrays)

    def _problem(self, drawn: list[torch.Tensor], strengths: np.ndarray) -> BatchedProblem:
        features, target = self.parts["train"]
        settings, num_rows = self.settings, len(target)
        starts, offset = torch.stack(drawn), 0.0
        if self.given is not None:
            starts, offset = self.given[0].to(starts).expand(len(drawn), -1), self.given[1]
        batch = min(settings.batch_size, num_rows)
        lengths = np.minimum(batch, num_rows - np.arange(num_rows) // batch * batch)
        factors = {int(rows): 2 * self.objective.loss_multiplier(int(rows)) for rows in set(lengths.tolist())}
        rates = settings.learning_rate * np.array([factors[rows] for rows in lengths.tolist()])
        moved = settings.learning_rate * self.objective.share * strengths
        rates, decay, threshold = self._on_device(rates, 1.0 - moved, moved)
        return BatchedProblem(
            features=features,
            target=target,
            starts=self._native(starts),
            start_intercept=offset,
            num_strengths=len(strengths),
            decay=decay if self.kind == "l2" else None,
            threshold=threshold if self.kind == "l1" else None,
            subgradient=self.kind == "l1" and settings.l1_update == "subgradient",
            intercept=settings.intercept,
            batch_size=batch,
            rates=rates,
        )

    def check_convergent(self, path: TrainingPath) -> None:
        """Refuse a path with a run that diverged."""
        features, target = (torch.tensor(part, dtype=torch.float64) for part in self.parts["train"])
        null = self.objective.loss_multiplier(len(target)) * float(target.square().sum())
        first, last = path.train_objective[0], path.train_objective[-1]
        for k, s in zip(*np.nonzero(~(last <= largest_end(first, null, self.settings, len(target), self.kind))), strict=True):
            penalty = path.penalty(k)
            objective = TrainingObjective.of(penalty, path.data, self.settings.batch_size)
            which = f", lambda={path.lambdas[k]:g}, seed={path.seeds[s]}"
            check_convergent(first[k, s], last[k, s], objective, (features, target), self.settings, penalty.kind, which)


def _root(rows: Array) -> Array:
    """Return R with R'R = A'A and no more rows than it takes, of each (rows, m) of A."""
    if rows.shape[1] <= rows.shape[2]:
        return rows
    return np.linalg.qr(rows, mode="r") if isinstance(rows, np.ndarray) else torch.linalg.qr(rows, mode="r")[1]


def _record(descent, maps: list[Array], multipliers: list[float]) -> Array:
    """Return losses and sizes of the present weights, (columns, S, L)."""
    values = [multiplier * _squares(rows @ descent.state) for rows, multiplier in zip(maps, multipliers, strict=True)]
    weights = descent.weights
    values += [_squares(weights) ** 0.5, abs(weights).sum(1), (weights == 0).sum(1) + 0.0]
    return descent.problem.library.stack(values)


def _squares(array: Array) -> Array:
    return (array * array).sum(1)


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
