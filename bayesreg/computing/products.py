"""Products of large matrices on the threads that `in_parallel` has, whose digits do not depend on how many these are.

Panels are made side by side, each on one thread; where they begin depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesreg.computing.threads import even_slices, in_parallel

# From this width on, it is panels of the second moments that are made side by side.
WIDE, _PANELS = 400, 6
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


def gram_of(rows: np.ndarray) -> np.ndarray:
    """Return rows'rows `(m, m)`, of rows `(n, m)`."""
    gram = np.empty((rows.shape[1], rows.shape[1]))
    fill_gram(rows, gram)
    return gram


def fill_gram(rows: np.ndarray, gram: np.ndarray) -> None:
    """Write rows'rows `(m, m)`, of rows `(n, m)`, into an array."""
    width = rows.shape[1]
    if width < WIDE:
        np.matmul(rows.T, rows, out=gram)
        return
    ends = [round(width * (panel / _PANELS) ** 0.5) for panel in range(_PANELS + 1)]  # of about the same work

    def make(panel: slice, _: Callable[[], None]) -> None:
        columns = rows[:, panel]
        gram[panel, panel] = columns.T @ columns
        np.matmul(rows[:, : panel.start].T, columns, out=gram[: panel.start, panel])
        gram[panel, : panel.start] = gram[: panel.start, panel].T

    panels = [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
    in_parallel(make, panels, worth_while=len(rows) * width**2 > _WORTH_THREADS)
