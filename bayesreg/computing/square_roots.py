"""Square roots of second-moment matrices: F with F'F = S, accurate whatever the scales of the columns."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

# Beyond this condition number (1-norm, unit diagonal) S has lost 10 of its 16 digits: a factor of the rows has more.
LARGEST_CONDITION = 1e10


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
    unit, _ = _unit_diagonal(second_moments)
    size = lapack.dlange("1", unit.T)
    upper, breakdown = lapack.dpotrf(unit.T, lower=False, overwrite_a=True)  # in place: new memory takes as long
    if breakdown:
        return True
    reciprocal, _ = lapack.dpocon(upper, anorm=size)
    return bool(reciprocal * LARGEST_CONDITION < 1)


def _unit_diagonal(second_moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scales = np.sqrt(second_moments.diagonal())
    divisors = np.where(scales > 0, scales, 1.0)
    unit = second_moments / divisors
    unit /= divisors[:, None]
    unit.flat[:: len(unit) + 1] = 1.0  # a row of zeros too: it stands alone, and its scale of 0 brings it back
    return unit, scales
