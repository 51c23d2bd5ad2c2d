"""The lasso on an active set of a Gram matrix, as a linear function of lambda, while columns enter and leave.

    w(lambda) = argmin over w:   w'G w / 2 - c'w + lambda |w|_1,        G (d, d), c (d,).

On a set A with signs s the conditions of optimality are linear: w_A = N - lambda D with G_AA N = c_A and G_AA D = s,
and the correlations of the columns with the residual are c - G w = p + lambda q. So every column has one linear
function of lambda: its weight if it is in the set, its correlation if not. These functions and the regression of every
column on those in the set are kept in one table,

    columns in the set    others
    N                     p                        constant parts
    -D                    q                        slopes
    -inv(G_AA)            inv(G_AA) G_A.           a row for each column in the set

and a column that enters or leaves changes the table by a multiple of one row, as in a sweep of Gauss and Jordan: |A| d
operations, done in place; many columns at once are matrix products.

Sources: Beaton, The use of special matrix operators in statistical calculus (1964); Goodnight, A tutorial on the SWEEP
operator, The American Statistician 33 (1979).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.linalg.blas import dgemm, dgemv, dger, dsymv

# A pivot smaller than this share of its column's square: the column depends on those in the set.
_DEPENDENT = 1e-11
# Where the equations hold to this share of what they are to give, there is nothing to refine.
_ROUNDING = 1e-14


class GramActiveSet:
    """The set, its signs, and the table of functions and regressions.

    The arrays have room for `capacity` columns; the first `size` entries count.

    Attributes:
        gram: G ``(d, d)``, symmetric positive semidefinite, C-contiguous. Read are its diagonal and the rows of columns
            that have been in the set; as long as that is less than half of the columns, nothing else.
        correlation: c ``(d,)``.
        capacity: The most columns that the set can hold.
        size: |A|.
        active: A.
        functions: Constant part and slope in lambda ``(2, d)``: of the weights N - lambda D of columns in the set, of
            the correlations p + lambda q of the others.
        outside: 1 for columns that may enter ``(d,)``: not in the set, and not refused since one last left; else 0.
        signs: s, in the places of its columns ``(d,)``; 0 elsewhere.
    """

    def __init__(self, gram: np.ndarray, correlation: np.ndarray, capacity: int):
        d = correlation.shape[0]
        self.gram, self.correlation, self.capacity, self.size = gram, correlation, capacity, 0
        self.active = np.empty(capacity, dtype=np.intp)
        self._table = np.empty((capacity + 2, d))
        self.functions = self._table[:2]
        self.functions[0], self.functions[1] = correlation, 0.0
        self.outside = (gram.diagonal() > 0.0).astype(np.float64)  # a float, since it enters sums
        self.signs = np.zeros(d)
        self._refused: list[int] = []

    def write(self, weights: np.ndarray, lambdas: np.ndarray) -> None:
        """Write the weights at strengths ``(m,)`` into an array ``(m, d)``."""
        constant, slope = self._weights()
        np.multiply(lambdas[:, None], slope, out=weights)
        weights += constant

    def enter(self, j: int, sign: float) -> None:
        """Let a column in; one that depends on those in the set is refused until one leaves."""
        k, row = self.size, self.gram[j]
        at, table = self.active[:k], self._table[: k + 2]
        self.outside[j] = 0.0
        direction = dgemv(-1.0, table[2:].T, row[at], beta=1.0, y=row) if k else row.copy()
        pivot = float(direction[j])
        if pivot <= _DEPENDENT * row[j]:
            self._refused.append(j)
            return
        column = table[:, j].copy()
        column[1] -= sign
        direction[at] = column[2:]
        direction /= pivot
        dger(-1.0, direction, column, a=table.T, overwrite_a=1)
        table[:, j] = column / pivot
        direction[j] = -1.0 / pivot
        self._table[k + 2] = direction
        self.active[k], self.signs[j], self.size = j, sign, k + 1

    def leave(self, i: int) -> None:
        """Let the column at a place of the set go."""
        j, table = self.active[i], self._table[: self.size + 2]
        column = table[:, j].copy()
        pivot = -column[i + 2]
        direction = table[i + 2] / pivot
        dger(1.0, direction, column, a=table.T, overwrite_a=1)
        table[:, j] = column / pivot
        self.functions[1, j] += self.signs[j]
        self._close([i])

    def exchange(self, leaving: np.ndarray, entering: np.ndarray, signs: np.ndarray) -> bool:
        """Let columns at places of the set go and others in, all at once.

        Args:
            leaving: Places in the set.
            entering: Columns.
            signs: Their signs.

        Returns:
            False where they do not fit, are dependent, or rounding has spoilt the table: the set is then of no use.
        """
        if leaving.size:
            table, those = self._table[: self.size + 2], self.active[leaving]
            columns = table[:, those]
            upper, breakdown = scipy.linalg.lapack.dpotrf(-columns[leaving + 2], lower=0)
            if breakdown:
                return False
            directions = scipy.linalg.cho_solve((upper, False), table[leaving + 2], check_finite=False)
            _add_product(table, columns, directions)
            table[:, those] = scipy.linalg.cho_solve((upper, False), columns.T, check_finite=False).T
            self.functions[1, those] += self.signs[those]
            self._close(leaving.tolist())
        k, m = self.size, entering.size
        done = k + m <= self.capacity
        if m and done:
            at, rows, table = self.active[:k], self.gram[entering], self._table[: k + 2]
            directions = rows.copy()  # (m, d)
            if k:
                _add_product(directions, -rows[:, at], table[2:])
            pivots = directions[:, entering]
            upper, breakdown = scipy.linalg.lapack.dpotrf(pivots, lower=0)
            done = not breakdown and bool(np.all(upper.diagonal() ** 2 > _DEPENDENT * rows[range(m), entering]))
        if m and done:
            inverse = scipy.linalg.cho_solve((upper, False), np.eye(m), check_finite=False)
            columns = table[:, entering]
            columns[1] -= signs
            directions[:, at] = columns[2:].T
            directions = dgemm(1.0, directions.T, inverse).T
            _add_product(table, -columns, directions)
            table[:, entering] = dgemm(1.0, inverse, columns.T).T
            directions[:, entering] = -inverse
            self._table[k + 2 : k + 2 + m] = directions
            self.active[k : k + m], self.signs[entering], self.outside[entering] = entering, signs, 0.0
            self.size = k + m
        return done

    def add_to_diagonal(self, ridge: float) -> bool:
        """Add a number to the diagonal of the Gram, which is changed in place; False where that makes it singular."""
        d, k = self.correlation.shape[0], self.size
        self.gram[range(d), range(d)] += ridge
        if k:
            at, table = self.active[:k], self._table[2 : k + 2]
            rows = self.gram[at]
            upper, breakdown = scipy.linalg.lapack.dpotrf(rows[:, at], lower=0)
            if breakdown:
                return False
            rows[:, at] = -np.eye(k)
            table[:] = scipy.linalg.cho_solve((upper, False), rows, check_finite=False)
            self.solve()
        return True

    def solve(self) -> None:
        """Make all functions from the equations, with a step of refinement where those in the table do not hold."""
        at = self.active[: self.size]
        wanted = np.stack([self.correlation[at], -self.signs[at]])
        found, largest = self._weights(), np.abs(wanted).max(axis=1, initial=0.0)
        products = self._products(found)
        error = wanted - products[:, at]
        if (np.abs(error).max(axis=1, initial=0.0) > _ROUNDING * largest).any():
            correction = np.zeros_like(found)
            inverse = self._table[2 : self.size + 2]
            correction[:, at] = -np.stack([dgemv(1.0, inverse.T, row) for row in error])[:, at]
            found += correction
            products += self._products(correction)
        np.subtract(self.correlation, products[0], out=self.functions[0])
        np.negative(products[1], out=self.functions[1])
        self.functions[:, at] = found[:, at]

    def _close(self, places: list[int]) -> None:
        """Fill the places of those that have left with the last ones."""
        for i in sorted(places, reverse=True):
            j, k = self.active[i], self.size - 1
            self.outside[j], self.signs[j], self.size = 1.0, 0.0, k
            if i != k:
                self.active[i] = self.active[k]
                self._table[i + 2] = self._table[k + 2]
        self.outside[self._refused] = 1.0
        self._refused.clear()

    def _weights(self) -> np.ndarray:
        """Return N and -D with zeros outside the set ``(2, d)``."""
        return np.where(self.signs, self.functions, 0.0)

    def _products(self, weights: np.ndarray) -> np.ndarray:
        """Return weights ``(2, d)`` times the Gram: by the rows of the set, or the half that tells all of it."""
        at = self.active[: self.size]
        if 2 * self.size < self.correlation.size:
            return weights[:, at] @ self.gram[at]
        return np.stack([dsymv(1.0, self.gram.T, row, lower=1) for row in weights])


def _add_product(table: np.ndarray, columns: np.ndarray, directions: np.ndarray) -> None:
    """Add columns directions to a C-contiguous table, in place."""
    dgemm(1.0, directions.T, columns.T, beta=1.0, c=table.T, overwrite_c=1)
