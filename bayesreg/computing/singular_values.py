"""Singular value decompositions that lose no column to longer ones."""

from __future__ import annotations

import functools

import numpy as np
from scipy.linalg import lapack

from bayesreg.computing.arrays import read_only
from bayesreg.computing.products import gram_of, product_of

# Singular values within this ratio: products in which it is squared keep nearly all digits.
WELL_CONDITIONED = 30.0
# Where the columns' lengths differ by more than this, an ordinary SVD loses the short ones against the long ones;
# one-sided Jacobi does not (Demmel & Veselic, SIAM J. Matrix Anal. Appl. 13, 1992).
_GRADED = 1e4
# Columns whose lengths differ by no more than the rounding of a length, as standardised ones do, are of one length.
_OF_ONE_LENGTH = 64 * np.finfo(np.float64).eps
# From this many times more columns than rows on, the eigenvectors of the rows' products are sooner had than an SVD;
# they do where the singular values, as many as the rank, are well conditioned, and no square underflows.
_FEW_ROWS = 2
_LEAST_PRODUCT = np.finfo(np.float64).tiny / np.finfo(np.float64).eps ** 2
# From so many rows and columns on, the eigenvectors of the products take two thirds of the time of an SVD.
_MANY = 150


def singular_value_decomposition(
    design: np.ndarray, largest_rank: int, smallest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decompose a matrix of a numerical rank r, each column to an accuracy of its own length.

    The rank is judged on columns of unit length, a short column being no sign of a short rank: by the singular values
    above a share of the largest, and by what is known of it. A singular vector's sign is anyone's choice, and libraries
    and processors differ in it: here V'(cos 1, cos 2, ...) is not negative.

    Args:
        design: Array `(k, d)`.
        largest_rank: What the rank is known not to be above.
        smallest: The share of the largest singular value from which on one counts.

    Returns:
        U `(k, r)`, S `(r,)` descending and V `(d, r)`.

    Raises:
        LinAlgError: An iteration did not converge.
    """
    left, values, basis = _of_unit_columns(design, largest_rank, smallest)
    signs = _signs(_towards(len(basis)) @ basis)
    basis *= signs
    return left * signs, values, basis


def decomposition_of_products(products: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Decompose A by its columns' products, where that loses three digits at most.

    Args:
        products: A'A `(d, d)`.

    Returns:
        S `(d,)` descending and V `(d, d)`, of the signs that `singular_value_decomposition` gives it; None where the
        singular values are not well conditioned, or their squares leave the range of float64.

    Raises:
        LinAlgError: An iteration did not converge.
    """
    found = _eigenvectors(products, len(products))
    if found is None:
        return None
    values, basis = found
    basis *= _signs(_towards(len(basis)) @ basis)
    return values, basis


def decomposition_of_few_rows(
    design: np.ndarray, largest_rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Decompose A by its rows' products, where they are few and that is nearly as good as by A.

    U is orthonormal to rounding: a column of A is U times its coordinates to an accuracy of its own length, whatever
    those of the others are, and so V' = U'A / S is orthonormal up to eps times the square of the largest ratio of two
    singular values. V is not made here: it takes as long as A A', and not all need it.

    Args:
        design: A `(k, d)`.
        largest_rank: What the rank is known not to be above; further singular values are known to be rounding.

    Returns:
        U `(k, r)`, S `(r,)` descending, r all the rank there can be, and A A' `(k, k)`, V of the signs that
        `singular_value_decomposition` gives it; None where the rows are many, the singular values not well conditioned,
        or their squares leave the range of float64.

    Raises:
        LinAlgError: An iteration did not converge.
    """
    rows, columns = design.shape
    rank = min(largest_rank, rows)
    if not rank or _FEW_ROWS * rows > columns:
        return None
    products = gram_of(design.T)
    found = _eigenvectors(products, rank)
    if found is None:
        return None
    values, left = found
    left *= _signs((design @ _towards(columns)) @ left)
    return left, values, products


def _eigenvectors(products: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the roots of the `rank` largest eigenvalues, descending, and their vectors; None if ill conditioned."""
    if not _in_range(products):
        return None
    squares, vectors = np.linalg.eigh(products)
    squares, vectors = squares[: -rank - 1 : -1], vectors[:, : -rank - 1 : -1].copy()  # backwards, no BLAS takes them
    return (np.sqrt(squares), vectors) if squares[-1] > squares[0] / WELL_CONDITIONED**2 else None


def _in_range(products: np.ndarray) -> bool:
    return _LEAST_PRODUCT < products.trace() < np.inf


@functools.lru_cache(maxsize=1)  # paths over the same columns follow each other
def _towards(num_features: int) -> np.ndarray:
    return read_only(np.cos(np.arange(1.0, num_features + 1)))


def _signs(coordinates: np.ndarray) -> np.ndarray:
    return np.where(coordinates < 0.0, -1.0, 1.0)


def _directions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the eigenvectors U' of A A', longest first, the lengths S of the rows of U'A, and these.

    None where squares leave the range of float64.
    """
    products = gram_of(matrix.T)
    if not _in_range(products):
        return None
    left = np.ascontiguousarray(np.linalg.eigh(products)[1].T[::-1])
    right = product_of(left, matrix)
    return _descending(left, np.sqrt(np.einsum("ij,ij->i", right, right)), right)


def _descending(left: np.ndarray, values: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of both, and what they are sorted by but for rounding, in its order."""
    if (values[1:] <= values[:-1]).all():
        return left, values, right
    order = np.argsort(-values)
    return left[order], values[order], right[order]


def _of_unit_columns(
    design: np.ndarray, largest_rank: int, smallest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, S descending and V from the SVD of columns of unit length, and a second one of what it leaves."""
    lengths = np.sqrt(np.einsum("ij,ij->j", design, design))
    lengths[lengths == 0.0] = 1.0
    left, values, right = _thin(design / lengths)
    rank = min(int(np.count_nonzero(values > smallest * values[:1])), largest_rank)  # they descend
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    longest, shortest = lengths.max(), lengths.min()
    if longest <= shortest * (1.0 + _OF_ONE_LENGTH):
        return left, values * lengths[0], right.T
    rescaled = (values[:, None] * right * lengths).T  # (d, r): design = left @ rescaled.T
    if longest <= _GRADED * shortest or rank == 0:
        basis, values, rotation = _thin(rescaled)
        return left @ rotation.T, values, basis
    values, basis, rotation, work, _, info = lapack.dgejsv(rescaled, joba=2, jobu=0, jobv=0, jobr=0)
    if info != 0:
        raise np.linalg.LinAlgError(f"the Jacobi singular value decomposition did not converge (info {info})")
    return left @ rotation, values * (work[0] / work[1]), basis


def _thin(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the thin U, S descending and V'."""
    if len(matrix) > matrix.shape[1]:
        right, values, left = _thin(matrix.T)
        return left.T, values, right.T
    return (_long_ones_first(matrix) if len(matrix) >= _MANY else None) or _divide_and_conquer(matrix)


def _long_ones_first(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return U, S descending and V', or None where that gains nothing: long directions by products, then an SVD.

    The eigenvectors of A A' lose digits of the short directions to the long ones alone. What is left of A when the
    long ones are taken out of it has few rows, and its SVD the accuracy that one of A would have.
    """
    directions = _directions(matrix)
    if directions is None:
        return None
    left, values, right = directions
    short = values * WELL_CONDITIONED <= values[0]
    count = int(short.argmax()) if short.any() else len(short)
    if 2 * count < len(short):
        return None
    long, rest = right[:count], right[count:]
    long /= values[:count, None]
    if not len(rest):
        return left.T, values, right
    rest -= (rest @ long.T) @ long
    rotation, values[count:], right[count:] = _divide_and_conquer(rest)
    left, values, right = _descending(np.concatenate([left[:count], rotation.T @ left[count:]]), values, right)
    return left.T, values, right


def _divide_and_conquer(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the thin U, S descending and V'; LAPACK's own call, as SciPy's function takes longer than a small matrix.

    Raises:
        LinAlgError: The iteration did not converge.
    """
    if matrix.size == 0:
        rank, (rows, columns) = 0, matrix.shape
        return np.empty((rows, rank)), np.empty(rank), np.empty((rank, columns))
    work, _ = lapack.dgesdd_lwork(*matrix.shape, full_matrices=False)
    left, values, right, info = lapack.dgesdd(matrix, full_matrices=False, lwork=int(work))
    if info != 0:
        raise np.linalg.LinAlgError(f"the singular value decomposition did not converge (info {info})")
    return left, values, right
