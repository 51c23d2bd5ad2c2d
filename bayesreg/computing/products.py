"""Products of large matrices on the threads that `in_parallel` has, whose digits do not depend on how many these are.

Tiles and panels are made side by side, each on one thread; where they begin depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesreg.computing.threads import even_slices, in_parallel

# From this width on, second moments are made in tiles side by side.
WIDE = 400
# Panels of rows in which another product is made.
_PANELS = 6
# Products of fewer operations are done before a thread has begun.
_WORTH_THREADS = 1e8


def product_of(left: np.ndarray, right: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return AB `(n, m)`, of A `(n, k)` and B `(k, m)`, written into an array where one is given."""
    if left.size * right.shape[1] <= _WORTH_THREADS:
        return np.matmul(left, right, out=out)
    product = np.empty((len(left), right.shape[1])) if out is None else out

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
    # Four tiles of the same work, as wide as that allows (narrow ones are slower): each half's own, which are
    # symmetric, and two between them.
    first, second = even_slices(width, 2)
    tiles = [(first, first), (second, second), *((part, second) for part in even_slices(first.stop, 2))]

    def make(tile: tuple[slice, slice], _: Callable[[], None]) -> None:
        upper, lower = tile
        np.matmul(rows[:, upper].T, rows[:, lower], out=gram[upper, lower])
        if upper != lower:
            gram[lower, upper] = gram[upper, lower].T

    in_parallel(make, tiles)
