"""Leave-one-out of the lasso and the elastic net: exactly, and without n fits.

Without row i, at strengths l1 and l2, what is minimised is

    sum_{k != i} (y_k - b - x_k'w)^2 / 2 + (n - 1) (l1 |w|_1 + l2 |w|^2 / 2).

Let A be a set of columns and s their signs. With these held it is a least squares problem with a linear term, and what
a row changes is known in closed form: with centred columns Xc and target yc,

    H = inv(Xc_A'Xc_A + (n - 1) l2 I),     w_A = H (Xc_A'yc - (n - 1) l1 s),     r = yc - Xc_A w_A,     c = Xc'r,
    u_i = H Xc_iA,     h_i = 1/n + Xc_iA'u_i     (1/n only with an intercept),

the residual of the row that was left out, the weights without it, and the correlations of the columns with the
residuals of the other rows are

    e_i = r_i / (1 - h_i),     w_A - e_i u_i,     c - e_i (Xc_i - Xc'Xc_A u_i).

They are the fit without the row if and only if every weight has its sign and no column outside A has a correlation
larger than (n - 1) l1 in size. All rows begin with the set of the fit to all of them. Those for which a condition does
not hold exchange what violates it, and go on together with those that came to the same set (block principal pivoting).
The few for which that does not settle follow the path on the Gram without the row; and a row that makes up nearly all
of a column, so that the Gram has no digits without it, is fitted without from the other rows.

Sources: Cook and Weisberg, Residuals and Influence in Regression (1982), for what a row changes; Rad and Maleki,
Journal of the Royal Statistical Society B 82 (2020), where e_i for the set of all rows is the approximation; Kim and
Park, Fast active-set-type algorithms for l1-regularized linear regression, AISTATS 2010, for the exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy.linalg import cho_solve, lapack

from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.data import RegressionData
from bayesreg.paths.centred_design import CentredDesign, centred_design
from bayesreg.paths.homotopy import follow
from bayesreg.paths.lasso_path import fit_path

Result = TypeVar("Result")

# A row of a larger share of a column's square, or of a direction's, is not taken from the Gram: too many digits go.
_LARGEST_SHARE = 0.999
# A correlation larger than lambda by this share of the largest one is rounding.
_VIOLATION = 1e-13
# How far a slope of J may be off, as a share of lambda.
_LARGEST_SLOPE = 1e-11
_MOST_EXCHANGES = 8
_NUMBERS_AT_ONCE = 2**18


class LeftOutRows:
    """What every row's residual is when it is left out, at one pair of strengths after the other.

    Args:
        data: The rows.
        design: Their design, from second moments (`CentredDesign.from_rows` is False): more rows than columns.
        l1: L1 strengths ``(m,)``, positive, descending.
        l2: L2 strengths ``(m,)``, at least 0, descending.

    Attributes:
        largest_gap: The largest relative duality gap of the fits to other rows; all else is judged by its conditions.
    """

    def __init__(self, data: RegressionData, design: CentredDesign, l1: np.ndarray, l2: np.ndarray):
        self.data, self.design, self.l1, self.l2 = data, design, l1, l2
        self.gram, self.cross = design.moments.Sxx, design.moments.Sxy
        self.others = design.num_rows - 1
        # How much farther than from the mean of all rows a row is from the mean of the others.
        self.apart = design.num_rows / self.others if design.has_intercept else 1.0
        self.largest_gap = 0.0
        dominates = np.concatenate(self._of_blocks(np.arange(design.num_rows), self._dominates))
        self._dominant, self._taken_from_gram = np.flatnonzero(dominates), np.flatnonzero(~dominates)
        self._without_dominant = [self._from_other_rows(row, l1, l2) for row in self._dominant]

    @one_thread()
    def residuals(self, index: int, weights: np.ndarray) -> np.ndarray:
        """Return the residuals at one pair of strengths.

        Args:
            index: Which pair.
            weights: The fit to all rows ``(d,)`` at (n - 1) / n times these strengths.

        Returns:
            Array ``(n,)``.
        """
        l1, l2 = float(self.l1[index]), float(self.l2[index])
        found = np.empty(self.others + 1)
        found[self._dominant] = [residuals[index] for residuals in self._without_dominant]
        sets = [(np.sign(weights), self._taken_from_gram)]
        for _ in range(_MOST_EXCHANGES):
            if not sets:
                break
            failing, exchanged = zip(*(self._with_signs(*pair, l1, l2, found) for pair in sets), strict=True)
            sets = _by_set(np.concatenate(failing), np.concatenate(exchanged))
        for _, rows in sets:
            for row in rows:
                found[row] = self._by_path(row, l1, l2)
        return found

    def _with_signs(
        self, signs: np.ndarray, rows: np.ndarray, l1: float, l2: float, found: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Write the residuals of rows with these signs, and return for which they do not hold, and what may instead.

        Args:
            signs: Of all columns ``(d,)``, 0 outside the set.
            rows: Their indices ``(k,)``.
            l1: The L1 strength.
            l2: The L2 strength.
            found: The residuals ``(n,)``, to be written.

        Returns:
            Indices of rows ``(f,)`` and their signs ``(f, d)``.
        """
        active = np.flatnonzero(signs)
        k, of_active = active.size, signs[active]
        inverse = np.empty((0, 0))
        if k:
            precision = self.gram[np.ix_(active, active)]
            precision.flat[:: k + 1] += self.others * l2
            upper, breakdown = lapack.dpotrf(precision)
            if breakdown:
                for row in rows:
                    found[row] = self._by_path(row, l1, l2)
                return rows[:0], np.empty((0, signs.size))
            inverse = cho_solve((upper, False), np.eye(k), check_finite=False)
        mode = inverse @ (self.cross[active] - self.others * l1 * of_active)
        correlations = self.cross - mode @ self.gram[active]
        # A row's entries in the set times this are u_i, and what of all of its entries they account for.
        taken = np.hstack([inverse, inverse @ self.gram[active]])
        bound = np.full(signs.size, self.others * l1 + _VIOLATION * np.abs(self.cross).max())
        bound[active] = np.inf
        own = 1.0 / (self.others + 1) if self.design.has_intercept else 0.0

        def of_rows(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            features, target = self._centred(block)
            inside = features[:, active]
            changes = inside @ taken
            free = 1.0 - own - np.einsum("ij,ij->i", inside, changes[:, :k])
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                residuals = (target - inside @ mode) / free
                weights = mode - residuals[:, None] * changes[:, :k]
                slopes = correlations - residuals[:, None] * (features - changes[:, k:])
            found[block] = residuals
            leaves, enters = ~(weights * of_active > 0.0), ~(np.abs(slopes) <= bound)
            fails = np.flatnonzero(leaves.any(axis=1) | enters.any(axis=1) | ~(free > 1.0 - _LARGEST_SHARE))
            exchanged = np.where(enters[fails], np.sign(slopes[fails]), signs)
            exchanged[:, active] *= ~leaves[fails]
            return block[fails], exchanged

        failing, exchanged = zip(*self._of_blocks(rows, of_rows), strict=True)
        return np.concatenate(failing), np.concatenate(exchanged)

    def _by_path(self, row: int, l1: float, l2: float) -> float:
        """Return the residual of one row by the path on the Gram without it."""
        features, target = (values[0] for values in self._centred(np.array([row])))
        gram = (self.gram - self.apart * np.outer(features, features)) / self.others
        cross = (self.cross - self.apart * target * features) / self.others
        gram.flat[:: len(gram) + 1] += l2
        weights = follow(gram, cross, np.array([l1]), len(gram))[0][0]
        slopes = cross - gram @ weights
        off = np.where(weights, np.abs(slopes - l1 * np.sign(weights)), np.maximum(np.abs(slopes) - l1, 0.0))
        if not off.max() <= _LARGEST_SLOPE * l1:
            return float(self._from_other_rows(row, np.array([l1]), np.array([l2]))[0])
        return self.apart * float(target - features @ weights)

    def _from_other_rows(self, row: int, l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
        """Return the residuals of one row at strengths, from fits to the other rows."""
        others = np.arange(self.others + 1) != row
        rest = RegressionData(self.data.features[others], self.data.target[others], self.data.feature_names)
        design = centred_design(rest, self.design.has_intercept)
        fits = fit_path(design, l1, l2)
        self.largest_gap = float(np.maximum(self.largest_gap, fits.gaps.max()))  # a NaN stays
        features = self.data.features[row] - design.feature_means
        return self.data.target[row] - design.target_mean - fits.weights @ features

    def _dominates(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows make up nearly all of a column."""
        features, _ = self._centred(rows)
        return (self.apart * np.square(features) > _LARGEST_SHARE * self.gram.diagonal()).any(axis=1)

    def _centred(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.data.features[rows] - self.design.feature_means, self.data.target[rows] - self.design.target_mean

    def _of_blocks(self, rows: np.ndarray, of_rows: Callable[[np.ndarray], Result]) -> list[Result]:
        """Return what is made of blocks of rows, at least one."""
        step = max(1, _NUMBERS_AT_ONCE // len(self.cross))

        def of_block(first: int, go_on: Callable[[], None]) -> Result:
            go_on()
            return of_rows(rows[first : first + step])

        return in_parallel(of_block, range(0, max(len(rows), 1), step))


def _by_set(rows: np.ndarray, signs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each of the different signs of rows ``(f, d)``, with the rows that have them."""
    if not rows.size:
        return []
    order = np.lexsort(signs.T)
    rows, signs = rows[order], signs[order]
    starts = np.flatnonzero(np.any(signs[1:] != signs[:-1], axis=1)) + 1
    return list(zip(signs[np.append(0, starts)], np.split(rows, starts), strict=True))
