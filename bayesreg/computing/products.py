"""Products of large matrices on the threads that `in_parallel` has, whose digits do not depend on how many these are.

Tiles are made side by side, each on one thread; where they begin depends on the shapes alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from bayesreg.computing.threads import even_slices, in_parallel

# From this width on, second moments are made in tiles side by side: two a side, which is the same work for two threads;
# from the other on four, for more threads. (Products of narrow tiles are slower.)
WIDE, _VERY_WIDE = 400, 1000
_PANELS = 6
# Products of fewer operations are done before a thread has begun.
_WORTH_THREADS = 1e8


def product_of(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return AB `(n, m)`, of A `(n, k)` and B `(k, m)`."""
    if left.size * right.shape[1] <= _WORTH_THREADS:
        return left @ right
    product = np.empty((len(left), right.shape[1]))

    def make(panel: slice, _: Callable[[], None]) -> None:
        np.matmul(left[panel], right, out=product[panel])

    in_parallel(make, even_slices(len(left), _PANELS))
    return product


def sparse_product_of(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return AB `(..., m)`, of A `(..., k)`, many columns of which may be 0 altogether, and B `(k, m)`."""
    if left.ndim == 2:
        used = np.flatnonzero(left.any(axis=0))
        if 4 * used.size < left.shape[1]:
            return left[:, used] @ right[used]
    return left @ right


def gram_of(rows: np.ndarray) -> np.ndarray:
    """Return rows'rows `(m, m)`, of rows `(n, m)`."""
    gram = np.empty((rows.shape[1], rows.shape[1]))
    fill_gram(rows, gram)
    return gram


def fill_gram(rows: np.ndarray, gram: np.ndarray) -> None:
    """Write rows'rows `(m, m)`, of rows `(n, m)`, into an array."""
    width = rows.shape[1]
    if width < WIDE or len(rows) * width**2 <= _WORTH_THREADS:
        np.matmul(rows.T, rows, out=gram)
        return
    tiles = even_slices(width, 2 if width < _VERY_WIDE else 4)

    def make(pair: tuple[slice, slice], _: Callable[[], None]) -> None:
        first, second = pair
        np.matmul(rows[:, first].T, rows[:, second], out=gram[first, second])
        if first != second:
            gram[second, first] = gram[first, second].T

    pairs = sorted(itertools.combinations_with_replacement(tiles, 2), key=lambda pair: pair[0] == pair[1])
    in_parallel(make, pairs)
