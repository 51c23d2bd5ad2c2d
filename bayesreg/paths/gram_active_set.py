"""The lasso on an active set of a Gram matrix, as a linear function of lambda, while columns enter and leave.

    w(lambda) = argmin over w:   w'G w / 2 - c'w + lambda |w|_1,        G (d, d), c (d,).

On a set A with signs s the conditions of optimality are linear: w_A = N - lambda D with G_AA N = c_A and G_AA D = s,
and the correlations of the columns with the residual are c - G w = p + lambda q. So every column has one linear
function of lambda: its weight if it is in the set, its correlation if not. A column that enters or leaves adds a
multiple of one vector r to all of them,

    r = G_j - G_jA inv(G_AA) G_A    for those outside,      r_A = inv(G_AA) G_Aj    for those in the set.

The inverse of G_AA is held and updated, so that this costs |A| d + |A|^2 operations; many columns at once are matrix
products.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

# A pivot smaller than this share of its column's square: the column depends on those in the set.
_DEPENDENT = 1e-11


class GramActiveSet:
    """The set, its signs and the inverse of its Gram; the weights and correlations as functions of lambda.

    The arrays have room for `capacity` columns; the first `size` entries count.

    Attributes:
        gram: G ``(d, d)``, symmetric positive semidefinite, C-contiguous.
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
        self.functions = np.stack([correlation, np.zeros(d)])
        self._rows = np.empty((capacity, d))  # G_A
        self._inverse = np.empty((capacity, capacity))
        self.outside = (gram.diagonal() > 0.0).astype(np.float64)  # a float, since it enters sums
        self.signs = np.zeros(d)
        self._refused: list[int] = []

    def write(self, weights: np.ndarray, lambdas: np.ndarray) -> None:
        """Write the weights at strengths ``(m,)`` into an array of zeros ``(m, d)``."""
        at = self.active[: self.size]
        constant, slope = self.functions[:, at]
        weights[:, at] = constant + lambdas[:, None] * slope

    def enter(self, j: int, sign: float) -> None:
        """Let a column in; one that depends on those in the set is refused until one leaves."""
        k, row = self.size, self.gram[j]
        at, inverse = self.active[:k], self._inverse
        self.outside[j] = 0.0
        share = inverse[:k, :k] @ row[at]
        direction = row - share @ self._rows[:k]
        pivot = float(direction[j])
        if pivot <= _DEPENDENT * row[j]:
            self._refused.append(j)
            return
        direction[at] = share
        step = self.functions[:, j] / pivot
        step[1] -= sign / pivot
        self.functions -= step[:, None] * direction
        self.functions[:, j] = step
        scaled = share / pivot
        inverse[:k, :k] += scaled[:, None] * share
        np.negative(scaled, out=scaled)
        inverse[:k, k] = inverse[k, :k] = scaled
        inverse[k, k] = 1.0 / pivot
        self.active[k], self.signs[j], self._rows[k] = j, sign, row
        self.size = k + 1

    def leave(self, i: int) -> None:
        """Let the column at a place of the set go."""
        k = self.size
        at, inverse = self.active[:k], self._inverse[:k, :k]
        j = at[i]
        column = inverse[:, i].copy()
        scaled = column / column[i]
        direction = scaled @ self._rows[:k]
        step, own = self.functions[:, j].copy(), direction[j]
        direction[at] = -scaled
        self.functions += step[:, None] * direction
        step *= own
        step[1] += self.signs[j]
        self.functions[:, j] = step
        inverse -= scaled[:, None] * column
        self._close([i])

    def exchange(self, leaving: np.ndarray, entering: np.ndarray, signs: np.ndarray) -> bool:
        """Let columns at places of the set go and others in, all at once.

        Args:
            leaving: Places in the set.
            entering: Columns.
            signs: Their signs.

        Returns:
            False where they do not fit, are dependent, or rounding has spoilt the inverse: the set is then of no use.
        """
        if leaving.size:
            k = self.size
            columns = self._inverse[:k, leaving]
            upper, breakdown = scipy.linalg.lapack.dpotrf(columns[leaving], lower=0)
            if breakdown:
                return False
            self._inverse[:k, :k] -= columns @ scipy.linalg.cho_solve((upper, False), columns.T, check_finite=False)
            self._close(leaving.tolist())
        k, m = self.size, entering.size
        done = k + m <= self.capacity
        if m and done:
            at, rows = self.active[:k], self.gram[entering]
            shares = rows[:, at] @ self._inverse[:k, :k]  # (m, k)
            pivots = rows[:, entering] - shares @ rows[:, at].T
            upper, breakdown = scipy.linalg.lapack.dpotrf(pivots, lower=0)
            done = not breakdown and bool(np.all(upper.diagonal() ** 2 > _DEPENDENT * rows[range(m), entering]))
        if m and done:
            pivot_inverse = scipy.linalg.cho_solve((upper, False), np.eye(m), check_finite=False)
            scaled = pivot_inverse @ shares
            self._inverse[:k, :k] += shares.T @ scaled
            self._inverse[k : k + m, :k] = -scaled
            self._inverse[:k, k : k + m] = -scaled.T
            self._inverse[k : k + m, k : k + m] = pivot_inverse
            self.active[k : k + m], self.signs[entering], self._rows[k : k + m] = entering, signs, rows
            self.outside[entering] = 0.0
            self.size = k + m
        self._solve()
        return done

    def add_to_diagonal(self, ridge: float) -> bool:
        """Add a number to the diagonal of the Gram, which is changed in place; False where that makes it singular."""
        d, k = self.correlation.shape[0], self.size
        self.gram[range(d), range(d)] += ridge
        if k:
            at = self.active[:k]
            self._rows[range(k), at] = self.gram[at, at]
            upper, breakdown = scipy.linalg.lapack.dpotrf(self._rows[:k, at], lower=0)
            if breakdown:
                return False
            self._inverse[:k, :k] = scipy.linalg.cho_solve((upper, False), np.eye(k), check_finite=False)
            self._solve()
        return True

    def _close(self, places: list[int]) -> None:
        """Fill the places of those that have left with the last ones."""
        for i in sorted(places, reverse=True):
            j, k = self.active[i], self.size - 1
            self.outside[j], self.signs[j], self.size = 1.0, 0.0, k
            if i != k:
                self.active[i] = self.active[k]
                self._rows[i] = self._rows[k]
                self._inverse[i, : k + 1] = self._inverse[k, : k + 1]
                self._inverse[:k, i] = self._inverse[:k, k]
                self._inverse[i, i] = self._inverse[k, k]
        self.outside[self._refused] = 1.0
        self._refused.clear()

    def _solve(self) -> None:
        """All functions from the inverse, with a step of iterative refinement."""
        k = self.size
        rows, inverse, at = self._rows[:k], self._inverse[:k, :k], self.active[:k]
        wanted = np.stack([self.correlation[at], -self.signs[at]])
        found = wanted @ inverse
        products = found @ rows
        correction = (wanted - products[:, at]) @ inverse
        if np.abs(correction).max(initial=0.0) > _DEPENDENT * np.abs(found).max(initial=0.0):
            products += correction @ rows
        np.subtract(self.correlation, products[0], out=self.functions[0])
        np.negative(products[1], out=self.functions[1])
        self.functions[:, at] = found + correction
