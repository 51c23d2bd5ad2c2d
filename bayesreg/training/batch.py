"""What `bayesreg.training.path` does: all strengths and seeds through the epochs, in pieces, and what each leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch

from bayesreg.computing.arrays import read_only
from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.data import RegressionData
from bayesreg.training.batched_descent import Array, BatchedProblem, FeatureSpace, RowSpace, batched_descent
from bayesreg.training.objective import TrainingObjective
from bayesreg.training.run import TrainingSettings
from bayesreg.training.shuffling import Shuffling

# How many numbers of the state move together: few enough for a core's cache, or enough to fill a GPU.
_STATE_NUMBERS = {"cpu": 2**16, "cuda": 2**26}
# A step of fewer multiplications than this is over before threads have passed Python's lock on.
_LONG_STEP = 2_000_000


class Trained(NamedTuple):
    """Weights (L, S, d), intercepts (L, S), and history by name: of each epoch, or of the start and the end."""

    weights: torch.Tensor
    intercepts: torch.Tensor
    history: dict[str, np.ndarray]


class TrainingBatch:
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

    def run(self, advance: Callable[[], None] = lambda: None, follow: bool = False) -> Trained:
        """Train all pieces; the history is of each epoch only if asked to follow."""
        num_features = self.parts["train"][0].shape[1]
        shape = len(self.lambdas), len(self.seeds)
        weights, intercepts = np.empty((*shape, num_features)), np.empty(shape)
        names = [*(f"{part}_loss" for part in self.parts), "weights_l2", "weights_l1", "zeros"]
        columns = np.empty((len(names), self.settings.epochs + 1 if follow else 2, *shape))

        def train_piece(piece: tuple[slice, slice], go_on: Callable[[], None]) -> None:
            seeds, strengths = piece

            def tick() -> None:
                go_on()
                advance()

            with np.errstate(all="ignore"):  # of runs that diverge: refused afterwards, by name
                found = self._train(self.seeds[seeds], self.strengths[strengths], tick, follow)
            # Strengths come last where the work is done, and seeds before them.
            columns[:, :, strengths, seeds] = found[0].swapaxes(2, 3)
            weights[strengths, seeds], intercepts[strengths, seeds] = found[1].transpose(2, 0, 1), found[2].T

        batch = min(self.settings.batch_size, len(self.parts["train"][1]))
        long = batch * _STATE_NUMBERS["cpu"] >= _LONG_STEP and self.device.type == "cpu"
        with one_thread():
            in_parallel(train_piece, self.pieces, worth_while=long)
        return Trained(torch.from_numpy(weights), torch.from_numpy(intercepts), self._history(names, columns))

    def _history(self, names: list[str], columns: np.ndarray) -> dict[str, np.ndarray]:
        """Return the history by name, in the order of `TrainingRun.history`, with the objectives."""
        found = dict(zip(names, columns, strict=True))
        with np.errstate(all="ignore"):
            size = 0.5 * found["weights_l2"] ** 2 if self.kind == "l2" else found["weights_l1"]
            penalty = self.strengths[:, None] * size
            ordered = {}
            for part in self.parts:
                ordered[f"{part}_loss"] = found[f"{part}_loss"]
                ordered[f"{part}_objective"] = found[f"{part}_loss"] + penalty
        sizes = {"weights_l2": found["weights_l2"], "weights_l1": found["weights_l1"]}
        return {
            name: read_only(values)
            for name, values in (ordered | sizes | {"zeros": found["zeros"].astype(np.int64)}).items()
        }

    def _train(
        self, seeds: tuple[int, ...], strengths: np.ndarray, tick: Callable[[], None], follow: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Train a piece: its history (columns, times, S, L), weights (S, d, L) and intercepts (S, L)."""
        features, target = self.parts["train"]
        shufflings = [Shuffling(seed, *features.shape, self.device) for seed in seeds]
        descent = batched_descent(self._problem([one.start for one in shufflings], strengths))
        maps = [_root(descent.residual_map(*part)) for part in self.parts.values()]
        multipliers = [self.objective.loss_multiplier(len(part[1])) for part in self.parts.values()]
        records = [_record(descent, maps, multipliers)]
        for _ in range(self.settings.epochs):
            descent.epoch(self._native(torch.stack([one.order() for one in shufflings])))
            if follow:
                records.append(_record(descent, maps, multipliers))
            tick()
        if not follow:
            records.append(_record(descent, maps, multipliers))
        arrays = descent.problem.library.stack(records, 1), descent.weights, descent.intercepts
        return tuple(v if isinstance(v, np.ndarray) else v.cpu().numpy() for v in arrays)

    def _problem(self, drawn: list[torch.Tensor], strengths: np.ndarray) -> BatchedProblem:
        features, target = self.parts["train"]
        settings, num_rows = self.settings, len(target)
        starts, offset = torch.stack(drawn), 0.0
        if self.given is not None:
            starts, offset = self.given[0].to(starts).expand(len(drawn), -1), self.given[1]
        batch = min(settings.batch_size, num_rows)
        lengths = np.minimum(batch, num_rows - np.arange(num_rows) // batch * batch)
        rates = 2 * settings.learning_rate * self.objective.loss_multiplier(lengths) * np.ones(num_rows)
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


def _root(rows: Array) -> Array:
    """Return R with R'R = A'A and no more rows than it takes, of each (rows, m) of A."""
    if rows.shape[1] <= rows.shape[2]:
        return rows
    return np.linalg.qr(rows, mode="r") if isinstance(rows, np.ndarray) else torch.linalg.qr(rows, mode="r")[1]


def _record(descent: FeatureSpace | RowSpace, maps: list[Array], multipliers: list[float]) -> Array:
    """Return losses and sizes of the present weights, (columns, S, L)."""
    values = [multiplier * _squares(rows @ descent.state) for rows, multiplier in zip(maps, multipliers, strict=True)]
    weights = descent.weights
    values += [_squares(weights) ** 0.5, abs(weights).sum(1), (weights == 0).sum(1) + 0.0]
    return descent.problem.library.stack(values)


def _squares(array: Array) -> Array:
    return (array * array).sum(1)
