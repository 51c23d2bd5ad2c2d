"""Mini-batch SGD for many strengths and seeds at once: one product moves them all.

For S seeds and L strengths the state is V (S, m, L), with A V the residuals of the rows, A (S, n, m). The batch b takes

    R = A_b V,    W <- (1 - rate l2) W - rate c X_b'R,    intercept <- intercept - rate c 1'R,

c the factor of RSS / 2 in the loss of a batch, W (S, d, L) the weights, which V holds in one of two forms:

    FeatureSpace    V = [W; intercept; 1],       A = [X, 1, -y]: for any penalty;
    RowSpace        V = [U; a; intercept; 1],    A = [X X', X w_0, 1, -y] with W = a w_0 + X'U: for d > n, L2 alone. A
                    step then changes the rows of U that belong to its batch, and shrinks U and a.

The L1 term enters as in `bayesreg.training.train`. Rows are put in the order of an epoch before it, so that its batches
are slices. The steps are short and wait for one another: on a CPU they are NumPy's, whose calls cost least; on a GPU
the same lines are torch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

Array = Any  # of NumPy or of torch: each line here means the same in both

# How many numbers of A are put in order at a time.
_BLOCK_NUMBERS = 2**20


@dataclass(frozen=True)
class BatchedProblem:
    """Rows, penalties and step sizes; all arrays of one library, float64.

    Attributes:
        features: (n, d).
        target: (n,).
        starts: Starting weights, (S, d).
        start_intercept: The intercept to start from.
        num_strengths: L.
        decay: 1 - rate * l2, l2 the strength in one step, (L,); None without an L2 term.
        threshold: rate * l1, alike, (L,); None without an L1 term.
        subgradient: Whether the L1 term enters by its subgradient and not by its proximal map.
        intercept: Whether there is an intercept.
        batch_size: Rows in a batch.
        rates: rate * c for each place in the order of an epoch, (n,).
    """

    features: Array
    target: Array
    starts: Array
    start_intercept: float
    num_strengths: int
    decay: Array | None
    threshold: Array | None
    subgradient: bool
    intercept: bool
    batch_size: int
    rates: Array

    @property
    def library(self) -> ModuleType:
        """`numpy` or `torch`."""
        return np if isinstance(self.features, np.ndarray) else torch

    def zeros(self, *shape: int) -> Array:
        """Return an array of zeros, where the others are."""
        return np.zeros(shape) if self.library is np else self.features.new_zeros(shape)

    def last_columns(self, target: Array) -> Array:
        """Return the columns [1, -y] of A, (n, 2); a model without an intercept has 0 for the 1."""
        columns = self.zeros(len(target), 2)
        columns[:, 0], columns[:, 1] = float(self.intercept), -target
        return columns

    def residual_buffers(self) -> dict[int, Array]:
        """Return room for the residuals of a batch, by its number of rows."""
        num_rows, size = len(self.target), min(self.batch_size, len(self.target))
        return {
            rows: self.zeros(len(self.starts), rows, self.num_strengths) for rows in {size, num_rows % size or size}
        }

    def blocks(self, row_numbers: int) -> Iterator[tuple[int, int]]:
        """Cut an epoch into blocks of whole batches, of a bounded number of numbers.

        Args:
            row_numbers: Numbers that one place in the order takes.

        Yields:
            First place, and the one after the last.
        """
        num_rows = len(self.target)
        size = max(1, _BLOCK_NUMBERS // (self.batch_size * row_numbers)) * self.batch_size
        for first in range(0, num_rows, size):
            yield first, min(first + size, num_rows)


def batched_descent(problem: BatchedProblem) -> FeatureSpace | RowSpace:
    """Return the form that takes fewer operations, at the start."""
    num_rows, num_features = problem.features.shape
    return RowSpace(problem) if problem.threshold is None and num_features > num_rows else FeatureSpace(problem)


class FeatureSpace:
    """V = [W; intercept; 1], (S, d + 2, L)."""

    def __init__(self, problem: BatchedProblem):
        self.problem = problem
        num_seeds, num_features = problem.starts.shape
        self.state = problem.zeros(num_seeds, num_features + 2, problem.num_strengths)
        self.weights, self.intercepts = self.state[:, :-2], self.state[:, -2]
        self.weights[...] = problem.starts[:, :, None]
        self.intercepts[...] = problem.start_intercept
        self.state[:, -1] = 1.0
        self._rows = self.residual_map(problem.features, problem.target)[0]
        self._change = problem.zeros(num_seeds, num_features + 1, problem.num_strengths)
        self._residuals = problem.residual_buffers()

    def residual_map(self, features: Array, target: Array) -> Array:
        """Return the A of some rows: A V is their prediction less the target, (1, rows, d + 2)."""
        return self.problem.library.concatenate([features, self.problem.last_columns(target)], 1)[None]

    def epoch(self, orders: Array) -> None:
        """Take the steps of an epoch; orders (S, n) has the order of the rows for each seed."""
        problem, library = self.problem, self.problem.library
        moving, weights, change = self.state[:, :-1], self.weights, self._change
        away, threshold = change[:, :-1], problem.threshold
        roots = problem.rates[:, None] ** 0.5  # on each side of A_b'A_b
        for first, last in problem.blocks(len(orders) * self.state.shape[1]):
            rows = self._rows[orders[:, first:last]] * roots[first:last]
            for place in range(0, last - first, problem.batch_size):
                batch = rows[:, place : place + problem.batch_size]
                residuals = self._residuals[batch.shape[1]]
                library.matmul(batch, self.state, out=residuals)
                library.matmul(batch[:, :, :-1].swapaxes(1, 2), residuals, out=change)
                if problem.subgradient:
                    away += threshold * library.sign(weights)
                if problem.decay is not None:
                    weights *= problem.decay
                moving -= change
                if threshold is not None and not problem.subgradient:
                    library.minimum(weights, threshold, out=away)  # in place, in half the time of clip
                    library.maximum(away, -threshold, out=away)
                    weights -= away


class RowSpace:
    """V = [U; a; intercept; 1], (S, n + 3, L), with W = a w_0 + X'U."""

    def __init__(self, problem: BatchedProblem):
        self.problem = problem
        num_rows, num_seeds = len(problem.target), len(problem.starts)
        self.state = problem.zeros(num_seeds, num_rows + 3, problem.num_strengths)
        self.state[:, num_rows] = 1.0
        self.intercepts = self.state[:, -2]
        self.intercepts[...] = problem.start_intercept
        self.state[:, -1] = 1.0
        rows = self.residual_map(problem.features, problem.target)
        self._kernel, self._others = rows[0, :, :num_rows], rows[:, :, num_rows:]
        self._residuals = problem.residual_buffers()
        seeds = np.arange(num_seeds)
        self._seeds = (
            seeds if problem.library is np else torch.as_tensor(seeds, dtype=torch.int64, device=rows.device)
        )[:, None]

    @property
    def weights(self) -> Array:
        """W, (S, d, L)."""
        problem = self.problem
        weights = problem.features.T @ self.state[:, :-3]
        weights += problem.starts[:, :, None] * self.state[:, None, -3]
        return weights

    def residual_map(self, features: Array, target: Array) -> Array:
        """Return the A of some rows: A V is their prediction less the target, (S, rows, n + 3)."""
        problem = self.problem
        rows = problem.zeros(len(problem.starts), len(target), self.state.shape[1])
        rows[:, :, :-3] = features @ problem.features.T
        rows[:, :, -3] = problem.starts @ features.T
        rows[:, :, -2:] = problem.last_columns(target)
        return rows

    def epoch(self, orders: Array) -> None:
        """Take the steps of an epoch; orders (S, n) has the order of the rows for each seed."""
        problem, library, num_rows = self.problem, self.problem.library, orders.shape[1]
        moving = library.concatenate([self.state[self._seeds, orders], self.state[:, num_rows:]], 1)
        shrinking, intercepts = moving[:, : num_rows + 1], moving[:, -2]
        for first, last in problem.blocks(len(orders) * moving.shape[1]):
            block = orders[:, first:last]
            kernel = self._kernel[block[:, :, None], orders[:, None, :]]
            rows = library.concatenate([kernel, self._others[self._seeds, block]], 2)
            rows *= problem.rates[first:last, None]
            for place in range(first, last, problem.batch_size):
                batch = rows[:, place - first : place - first + problem.batch_size]
                residuals = self._residuals[batch.shape[1]]
                library.matmul(batch, moving, out=residuals)
                if problem.decay is not None:
                    shrinking *= problem.decay
                moving[:, place : place + batch.shape[1]] -= residuals
                if problem.intercept:
                    intercepts -= residuals.sum(1)
        self.state[self._seeds, orders] = moving[:, :num_rows]
        self.state[:, num_rows:] = moving[:, num_rows:]
