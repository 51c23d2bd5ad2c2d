"""Square roots of second-moment matrices: F with F'F = S, accurate whatever the scales of the columns."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

# Beyond this condition number (1-norm, unit diagonal) S has lost 10 of its 16 digits: a factor of the rows has more.
LARGEST_CONDITION = 1e10
# From so many columns m on, single precision is asked first, which takes half the time. Of singular matrices (copies,
# sums, few factors, categories) it finds less than 1e-3 m eps, and it is believed above this many m eps.
_LARGE, _ABOVE_ROUNDING = 100, 0.25
# Rows that are scaled at once, in a processor's cache.
_ROWS = 64


def triangle(rows: np.ndarray) -> np.ndarray:
    """Return a factor of rows with no more rows than columns.

    Args:
        rows: Array `(n, m)`.

    Returns:
        Array `(min(n, m), m)`: the R of a QR factorisation, or the rows themselves where they are few enough.
    """
    return np.linalg.qr(rows, mode="r") if rows.shape[0] > rows.shape[1] else rows


def square_root(second_moments: np.ndarray) -> np.ndarray:
    """Return a factor of a positive semidefinite matrix S.

    It is a Cholesky factor of S scaled to unit diagonal, so that the columns' scales do not matter; where rounding made
    that indefinite, the eigenvectors of its positive part.

    Args:
        second_moments: Symmetric array `(m, m)`.

    Returns:
        Array `(k, m)` with k <= m.
    """
    unit, scales = _unit_diagonal(second_moments)
    upper, breakdown = lapack.dpotrf(unit, lower=False, clean=True)
    if breakdown:
        values, vectors = np.linalg.eigh(unit)
        positive = values > 0
        upper = np.sqrt(values[positive])[:, None] * vectors[:, positive].T
    return upper * scales


def is_ill_conditioned(second_moments: np.ndarray) -> bool:
    """Tell whether S, scaled to unit diagonal, is singular or has a condition number above `LARGEST_CONDITION`.

    Args:
        second_moments: Symmetric array `(m, m)`; rows of zeros (constant columns) do not count.

    Returns:
        True or False.
    """
    return reciprocal_condition(second_moments) * LARGEST_CONDITION < 1.0


def reciprocal_condition(second_moments: np.ndarray) -> float:
    """Return 1 / (|S| |S^-1|), in the 1-norm, of S scaled to unit diagonal, as LAPACK estimates it; 0 if singular.

    Args:
        second_moments: Symmetric array `(m, m)`; rows of zeros (constant columns) do not count.

    Returns:
        The number; of many columns in single precision where it is large enough.
    """
    width = len(second_moments)
    if width >= _LARGE:
        found = _reciprocal_condition(second_moments, np.float32)
        if found > _ABOVE_ROUNDING * width * np.finfo(np.float32).eps:
            return found
    return _reciprocal_condition(second_moments, np.float64)


def _reciprocal_condition(second_moments: np.ndarray, dtype: type[np.floating]) -> float:
    unit, _ = _unit_diagonal(second_moments, dtype)
    lange, potrf, pocon = lapack.get_lapack_funcs(("lange", "potrf", "pocon"), (unit,))
    size = lange("1", unit.T)
    upper, breakdown = potrf(unit.T, lower=False, overwrite_a=True)  # in place: new memory takes as long
    return 0.0 if breakdown else float(pocon(upper, anorm=size)[0])


def _unit_diagonal(second_moments: np.ndarray, dtype: type[np.floating] = np.float64) -> tuple[np.ndarray, np.ndarray]:
    scales = np.sqrt(second_moments.diagonal())
    divisors = np.where(scales > 0, scales, 1.0)
    unit = np.empty(second_moments.shape, dtype)
    for first in range(0, len(unit), _ROWS):
        rows = slice(first, first + _ROWS)
        unit[rows] = second_moments[rows] / divisors / divisors[rows, None]
    unit.flat[:: len(unit) + 1] = 1.0  # a row of zeros too: it stands alone, and its scale of 0 brings it back
    return unit, scales
