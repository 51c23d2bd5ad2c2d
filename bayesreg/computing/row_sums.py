"""The pass over rows: their number, means and centred second moments, in blocks, on the cores there are.

Narrow rows are summed up in pieces side by side, wide ones a block after the other, and tiles of the product side by
side. Where pieces, blocks and tiles begin depends on the shape alone, and every sum is made on one thread: so the
digits of the result do not depend on the number of threads. Columns with means of less than a standard deviation are
summed up where they lie, others copied, less one of the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bayesreg.computing.products import WIDE, fill_gram, gram_of
from bayesreg.computing.square_roots import triangle
from bayesreg.computing.threads import even_slices, in_parallel, one_thread
from bayesreg.data import RegressionData

# Blocks of narrow rows stay in a core's cache; those of wide ones near 64 MiB.
_NARROW_BLOCK, _WIDE_BLOCK = 2**17, 2**23
# Of so many times more rows, the first ones tell whether all may lie near the origin.
_WORTH_A_LOOK, _FIRST_LOOK = 8, 256
# Pieces of narrow rows: not more than so many, none of fewer numbers.
_MOST_PIECES, _PIECE_NUMBERS = 8, 2**18

SMALLEST_SQUARE = np.finfo(np.float64).tiny / np.finfo(np.float64).eps


class RowSums(NamedTuple):
    """Sums over rows z = (x, y) relative to a pivot p, which the holder knows.

    Attributes:
        num_rows: n.
        offsets: mean - p, `(d + 1,)`.
        scatter: sum_i (z_i - mean)(z_i - mean)', `(d + 1, d + 1)`.
    """

    num_rows: int
    offsets: np.ndarray
    scatter: np.ndarray

    def merged(self, other: RowSums, delta: np.ndarray | None = None) -> RowSums:
        """Return the sums over the rows of both, about this one's pivot.

            S = S_a + S_b + (n_a n_b / n) delta delta'        (Chan, Golub and LeVeque, 1983)

        Args:
            other: The sums over other rows.
            delta: Their mean less that of these, `(d + 1,)`; None where both are about the same pivot.

        Returns:
            The sums.
        """
        num_rows = self.num_rows + other.num_rows
        share = other.num_rows / num_rows
        with np.errstate(over="ignore", invalid="ignore"):  # refused by name when stored
            delta = other.offsets - self.offsets if delta is None else delta
            between = np.outer(delta, delta)
            between *= self.num_rows * share
            between += self.scatter
            between += other.scatter
            return RowSums(num_rows, self.offsets + share * delta, between)


@one_thread()
def sum_up(data: RegressionData) -> tuple[np.ndarray, RowSums]:
    """Return the first row, as the pivot `(d + 1,)`, and the sums over all rows about it.

    Args:
        data: The rows.

    Returns:
        The pivot and the sums.

    Raises:
        ValueError: A column that varies by too little for float64 to hold its squares.
    """
    pivot = np.empty(data.num_features + 1)
    pivot[:-1], pivot[-1] = data.features[0], data.target[0]
    narrow = len(pivot) < WIDE
    pieces = max(1, min(_MOST_PIECES, data.num_rows * len(pivot) // _PIECE_NUMBERS)) if narrow else 1
    return pivot, functools.reduce(RowSums.merged, _totals(data, pivot, even_slices(data.num_rows, pieces), True))


@one_thread()
def sum_up_parts(data: RegressionData, pivot: np.ndarray, parts: list[np.ndarray]) -> list[RowSums]:
    """Return the sums over each of several sets of rows, none of them empty, about one pivot.

    Args:
        data: The rows.
        pivot: `(d + 1,)`.
        parts: The indices of each set's rows.

    Returns:
        The sums, in their order.
    """
    narrow = len(pivot) < WIDE
    return _totals(data, pivot, parts, narrow and max(map(len, parts)) * len(pivot) > _NARROW_BLOCK)


@one_thread()
def factor_of_rows(data: RegressionData, pivot: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return `(k, d + 1)` with the centred rows' second moments and, unlike their Gram, their condition."""
    factor = np.empty((0, data.num_features + 1))
    for block in _blocks(data, pivot, slice(0, data.num_rows)):
        factor = triangle(np.vstack([factor, block - offsets]))
    return factor


def _totals(
    data: RegressionData, pivot: np.ndarray, parts: list[slice] | list[np.ndarray], side_by_side: bool
) -> list[RowSums]:
    """Return the sums over each part of the rows."""

    def total(rows: slice | np.ndarray, go_on: Callable[[], None]) -> RowSums:
        go_on()
        # Rows by their indices are copied in any case: better a block at a time.
        sums = _where_they_lie(data.features[rows], data.target[rows], pivot) if isinstance(rows, slice) else None
        if sums is not None:
            return sums
        of_blocks = (_sums_of(block, data, go_on) for block in _blocks(data, pivot, rows))
        return functools.reduce(RowSums.merged, of_blocks)

    return in_parallel(total, parts, side_by_side)


def _where_they_lie(features: np.ndarray, target: np.ndarray, pivot: np.ndarray) -> RowSums | None:
    """Return the sums over rows near the origin, which need no copy; None where that would cost more than a bit."""
    n, d = features.shape
    if n <= d:  # a copy of the rows is less than what their means add to the sums
        return None
    look = slice(max(_FIRST_LOOK, 2 * d))
    if n > _WORTH_A_LOOK * look.stop and _where_they_lie(features[look], target[look], pivot) is None:
        return None
    ones, means, scatter = np.ones(n), np.empty(d + 1), np.empty((d + 1, d + 1))
    with np.errstate(over="ignore", invalid="ignore"):
        means[:-1], means[-1] = ones @ features, ones @ target  # a third of the time of a mean
        means /= n
        fill_gram(features, scatter[:-1, :-1])
        scatter[-1, :-1] = scatter[:-1, -1] = target @ features
        scatter[-1, -1] = target @ target
        between = means[:, None] * means
        between *= n  # (n m_i) m_j would not be symmetric
        scatter -= between
    return RowSums(n, means - pivot, scatter) if are_near(between.diagonal(), scatter.diagonal()) else None


def _blocks(data: RegressionData, origin: np.ndarray, rows: slice | np.ndarray) -> Iterator[np.ndarray]:
    """Yield new arrays `(rows, d + 1)` of the rows [x, y], less an origin."""
    width = len(origin)
    most = max(width, (_NARROW_BLOCK if width < WIDE else _WIDE_BLOCK) // width)
    first, length = (rows.start, rows.stop - rows.start) if isinstance(rows, slice) else (0, len(rows))
    for part in even_slices(length, -(-length // most), first):
        chosen = part if isinstance(rows, slice) else rows[part]
        block = np.empty((part.stop - part.start, width))
        with np.errstate(over="ignore"):
            np.subtract(data.features[chosen], origin[:-1], out=block[:, :-1])
            np.subtract(data.target[chosen], origin[-1], out=block[:, -1])
        yield block


def _sums_of(block: np.ndarray, data: RegressionData, go_on: Callable[[], None]) -> RowSums:
    """Return the sums over a block, which is overwritten."""
    go_on()
    with np.errstate(over="ignore", invalid="ignore"):  # refused by name when stored
        offsets = np.ones(len(block)) @ block / len(block)  # a third of the time of a mean
        block -= offsets
        scatter = gram_of(block)
    squares = scatter.diagonal()
    if (squares < SMALLEST_SQUARE).any():
        finite = np.nan_to_num(squares, nan=1.0, posinf=1.0)  # what overflows is refused when all is summed up
        check_squares(finite, block, (*data.feature_names, data.target_name))
    return RowSums(len(block), offsets, scatter)


def are_near(of_means: np.ndarray, squares: np.ndarray) -> bool:
    """Tell whether columns lie so near the origin that their sums about the mean lose a bit at most where they lie.

    Args:
        of_means: n mean^2 of each, what was taken from its sum of squares.
        squares: The sums of squares about the mean; float64 must hold them.

    Returns:
        Whether all do.
    """
    return bool(((of_means <= squares) & (squares >= SMALLEST_SQUARE) & (squares < np.inf)).all())


def check_squares(squares: np.ndarray, rows: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse columns whose sums of squares float64 does not hold.

    Args:
        squares: The sums of squares of the centred columns.
        rows: The columns, of which one of zeros may be without length.
        names: Their names.

    Raises:
        ValueError: One is too large; or so small that it has lost digits.
    """
    if ((squares >= SMALLEST_SQUARE) & (squares < np.inf)).all():
        return
    wrong = ~np.isfinite(squares)
    if wrong.any():
        name = names[int(np.argmax(wrong))]
        raise ValueError(f"column {name!r} is too large: its sum of squares overflows float64; rescale it")
    wrong = (squares < SMALLEST_SQUARE) & rows.any(axis=0)
    if wrong.any():
        name = names[int(np.argmax(wrong))]
        raise ValueError(f"column {name!r} varies too little: its sum of squares underflows float64; rescale it")
