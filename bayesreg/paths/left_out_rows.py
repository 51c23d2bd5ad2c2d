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
not hold exchange the columns that violate it, until none does (block principal pivoting); as columns J join or leave,
all of the above changes by a few rows of the table

    K = [ H               -H Xc_A'Xc_N                                            ]
        [ -Xc_N'Xc_A H    -(Xc_N'Xc_N + (n - 1) l2 I - Xc_N'Xc_A H Xc_A'Xc_N)     ]

and the inverse of K_JJ (`_exchange`). Every fit is judged by its duality gap. One that is not reached in this way, that
is one of several without the row, or that is without a row that makes up nearly all of a column, so that second moments
have no digits without it, is fitted from the other rows.

Sources: Cook and Weisberg, Residuals and Influence in Regression (1982), for what a row changes; Rad and Maleki,
Journal of the Royal Statistical Society B 82 (2020), where e_i for the set of all rows is the approximation; Kim and
Park, Fast active-set-type algorithms for l1-regularized linear regression, AISTATS 2010, for the exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, lapack

from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.data import RegressionData
from bayesreg.paths.centred_design import CentredDesign, centred_design
from bayesreg.paths.lasso_path import LARGEST_GAP, fit_path, relative_gaps

# A row of a larger share of a column's, or a direction's, square is not taken from the second moments: too many digits
# would go.
_LARGEST_SHARE = 0.999
# Where the correlation of a column outside is within this share of lambda, it may belong to the set as well.
_TIE = 1e-9
# A correlation larger than lambda by this share of the largest one is rounding.
_VIOLATION = 1e-13
# Rounds of exchanges, and those of them in which all that violates a condition is exchanged.
_MOST_EXCHANGES, _ALL_AT_ONCE = 30, 5
_NUMBERS_AT_ONCE = 2**18


@dataclass(frozen=True, eq=False)
class _Held:
    """The problem without a row as long as a set and its signs are held.

    Attributes:
        signs: Of all columns `(d,)`, 0 outside the set.
        strength: (n - 1) l1.
        bound: What a correlation may be, rounding included.
        table: K `(d, d)`, the columns in their own order.
        state: w_A of columns in the set, c of the others, `(d,)`.
    """

    signs: np.ndarray
    strength: float
    bound: float
    table: np.ndarray
    state: np.ndarray

    def violated(self, states: np.ndarray) -> np.ndarray:
        """Return whether a row violates a condition of these signs, `(k,)`."""
        lower = np.where(self.signs, np.where(self.signs < 0.0, -np.inf, 0.0), -self.bound)
        upper = np.where(self.signs, np.where(self.signs > 0.0, np.inf, 0.0), self.bound)
        return ((states < lower) | (states > upper)).any(axis=1)

    def exchanges(self, states: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """Return the signs of rows after what violates a condition has left or joined, `(f, d)`."""
        violates = np.where(signs, ~(states * signs > 0.0), ~(np.abs(states) <= self.bound))
        return np.where(violates, np.where(signs, 0.0, np.sign(states)), signs)


class LeftOutRows:
    """What every row's residual is when it is left out, at one pair of strengths after the other.

    Args:
        data: The rows.
        design: Their design, from second moments (`CentredDesign.from_rows` is False): more rows than columns.
        l1: L1 strengths ``(m,)``, positive, descending.
        l2: L2 strengths ``(m,)``, at least 0, descending.

    Attributes:
        largest_gap: The largest relative duality gap of all fits.
    """

    def __init__(self, data: RegressionData, design: CentredDesign, l1: np.ndarray, l2: np.ndarray):
        self.data, self.design, self.l1, self.l2 = data, design, l1, l2
        self._gram, self._cross, self._square = design.moments.Sxx, design.moments.Sxy, design.moments.Syy
        self._others = design.num_rows - 1
        # How much farther than from the mean of all rows a row is from the mean of the others.
        self._apart = design.num_rows / self._others if design.has_intercept else 1.0
        self.largest_gap = 0.0
        self._dominant = np.flatnonzero(np.concatenate(self._of_blocks(self._dominate)))
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
        l1, l2 = self.l1[[index]], self.l2[[index]]
        held = self._hold(np.sign(weights), float(l1[0]), float(l2[0]))
        if held is None:
            return np.array([self._from_other_rows(row, l1, l2)[0] for row in range(self._others + 1)])
        found, gaps = np.concatenate(self._of_blocks(lambda rows: self._of_rows(held, rows, l1, l2)), axis=1)
        gaps[self._dominant] = 0.0  # counted already
        found[self._dominant] = [residuals[index] for residuals in self._without_dominant]
        left = np.flatnonzero(~(gaps <= LARGEST_GAP))
        gaps[left] = 0.0
        self._count(gaps)
        for row in left:
            found[row] = self._from_other_rows(row, l1, l2)[0]
        return found

    def _hold(self, signs: np.ndarray, l1: float, l2: float) -> _Held | None:
        """Return the problem with a set held; None where its columns depend on each other."""
        active, outside = np.flatnonzero(signs), np.flatnonzero(signs == 0.0)
        strength, ridged = self._others * l1, self._gram.copy()
        ridged.flat[:: len(ridged) + 1] += self._others * l2
        table, state = np.empty_like(ridged), self._cross.copy()
        table[np.ix_(outside, outside)] = -ridged[np.ix_(outside, outside)]
        if active.size:
            upper, breakdown = lapack.dpotrf(ridged[np.ix_(active, active)])
            if breakdown:
                return None
            between = ridged[np.ix_(active, outside)]
            inverse = cho_solve((upper, False), np.eye(active.size), check_finite=False)
            regressions = inverse @ between
            table[np.ix_(active, active)] = inverse
            table[np.ix_(active, outside)] = -regressions
            table[np.ix_(outside, active)] = -regressions.T
            table[np.ix_(outside, outside)] += between.T @ regressions
            state[active] = inverse @ (self._cross[active] - strength * signs[active])
            state[outside] -= state[active] @ between
        return _Held(signs, strength, strength + _VIOLATION * np.abs(self._cross).max(), table, state)

    def _of_rows(self, held: _Held, rows: slice, l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
        """Return residual and relative gap of each of some rows, `(2, k)`."""
        features, target = self._centred(rows)
        active = np.flatnonzero(held.signs)
        inside = features[:, active]
        # u of columns in the set, Xc - Xc'Xc_A u of the others.
        changes = features * (held.signs == 0.0)
        changes += inside @ held.table[active]
        own = 1.0 / (self._others + 1) if self.design.has_intercept else 0.0
        free = 1.0 - own - np.einsum("ij,ij->i", inside, changes[:, active])
        left = target - inside @ held.state[active]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            states = held.state - (left / free)[:, None] * changes
            signs = np.broadcast_to(held.signs, states.shape).copy()
            failing = np.flatnonzero(held.violated(states))
            if failing.size:
                parts = states[failing], signs[failing], free[failing]
                _exchange(held, changes[failing], left[failing], parts)
                states[failing], signs[failing], free[failing] = parts
            found = self._judged(features, target, np.where(signs, states, 0.0), l1, l2)
            # Without the row, columns of the set depend on each other, or another one could take part: of several fits
            # it is to be the one that n fits would find.
            ties = (np.where(signs, 0.0, np.abs(states)) >= held.strength * (1.0 - _TIE)).any(axis=1)
            found[1, ties | ~(free > 1.0 - _LARGEST_SHARE)] = np.inf
            return found

    def _judged(
        self, features: np.ndarray, target: np.ndarray, weights: np.ndarray, l1: np.ndarray, l2: np.ndarray
    ) -> np.ndarray:
        """Return each row's residual by weights `(k, d)` of the others, and their relative gap by second moments."""
        left = target - np.einsum("ij,ij->i", features, weights)
        slopes = weights @ self._gram
        np.subtract(self._cross, slopes, out=slopes)
        slopes -= (self._apart * left)[:, None] * features
        squares = self._square - self._apart * np.square(target)
        explained = weights @ self._cross - self._apart * target * (target - left)
        explained += np.einsum("ij,ij->i", weights, slopes)
        mean_squares = np.maximum(squares - explained, 0.0) / self._others
        strengths = (np.repeat(strength, len(weights)) for strength in (l1, l2))
        gaps = relative_gaps(self.design, weights, mean_squares, slopes / self._others, *strengths)
        # Over J(0) without the row, where the target is not constant.
        gaps *= np.divide(self._others * self.design.mean_square, squares, out=np.ones_like(squares), where=squares > 0)
        return np.stack([self._apart * left, gaps])

    def _from_other_rows(self, row: int, l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
        """Return the residuals of one row at strengths, from fits to the other rows."""
        others = np.arange(self._others + 1) != row
        rest = RegressionData(self.data.features[others], self.data.target[others], self.data.feature_names)
        design = centred_design(rest, self.design.has_intercept)
        fits = fit_path(design, l1, l2)
        self._count(fits.gaps)
        features = self.data.features[row] - design.feature_means
        return self.data.target[row] - design.target_mean - fits.weights @ features

    def _count(self, gaps: np.ndarray) -> None:
        self.largest_gap = float(np.maximum(self.largest_gap, gaps.max()))  # which a NaN does not leave as it was

    def _dominate(self, rows: slice) -> np.ndarray:
        """Return which rows make up nearly all of a column, or of the target."""
        features, target = self._centred(rows)
        dominate = (self._apart * np.square(features) > _LARGEST_SHARE * self._gram.diagonal()).any(axis=1)
        return dominate | (self._apart * np.square(target) > _LARGEST_SHARE * self._square)

    def _centred(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return self.data.features[rows] - self.design.feature_means, self.data.target[rows] - self.design.target_mean

    def _of_blocks(self, of_rows: Callable[[slice], np.ndarray]) -> list[np.ndarray]:
        step = max(1, _NUMBERS_AT_ONCE // len(self._cross))

        def of_block(first: int, go_on: Callable[[], None]) -> np.ndarray:
            go_on()
            return of_rows(slice(first, first + step))

        return in_parallel(of_block, range(0, self._others + 1, step))


def _exchange(
    held: _Held,
    changes: np.ndarray,
    left: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Exchange columns until no condition is violated; rows for which that does not settle keep a wrong fit.

    Where columns J leave or join a set, with a and b the solutions of

        K_JJ a = (n - 1) l1 s_J - state_J,     K_JJ b = -changes_iJ,          s_J the signs of those that join, else 0,

    state, changes, r_i and 1 - h_i are more by K_.J a, K_.J b, -changes_iJ a and -changes_iJ b. A weight that joins is
    a_J, and the correlation of one that left (n - 1) l1 s_j - a_j, s_j its old sign. A sign that turns, of columns F,
    comes first: with f = 2 (n - 1) l1 s_F, state and r_i are more by K_.F f and -changes_iF f.

    Args:
        held: The set that all began with.
        changes: Of that set, `(f, d)`.
        left: r_i `(f,)`.
        parts: States without the row `(f, d)`, signs `(f, d)` and 1 - h_i `(f,)`, to be written.
    """
    states, signs, free = parts
    free_before = free.copy()
    going, inside = np.arange(len(left)), held.signs != 0.0
    for round_ in range(_MOST_EXCHANGES):
        exchanged = held.exchanges(states[going], signs[going])
        violated = exchanged != signs[going]
        if round_ >= _ALL_AT_ONCE:  # one at a time, always the last: this ends (Murty's rule)
            last = violated.shape[1] - 1 - violated[:, ::-1].argmax(axis=1)
            only = np.arange(violated.shape[1]) == last[:, None]
            exchanged = np.where(only, exchanged, signs[going])
        moved = violated.any(axis=1)
        going = going[moved]
        signs[going] = exchanged[moved]
        if not going.size:
            return
        differ = (signs[going] != 0.0) != inside
        sizes = differ.sum(axis=1)
        for size in np.unique(sizes).tolist():
            step = max(1, _NUMBERS_AT_ONCE // (max(size, 1) * len(inside)))
            same = np.flatnonzero(sizes == size)
            for some in (same[first : first + step] for first in range(0, len(same), step)):
                rows, columns = going[some], np.nonzero(differ[some])[1].reshape(len(some), size)
                found = _exchanged(held, columns, signs[rows], changes[rows], left[rows], free_before[rows])
                if found is not None:  # else columns that depend on each other: left to who judges the fits
                    states[rows], free[rows] = found


def _exchanged(
    held: _Held, columns: np.ndarray, signs: np.ndarray, changes: np.ndarray, left: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return states `(f, d)` and 1 - h_i `(f,)` where each row has its own J `(f, j)` and its own signs `(f, d)`."""
    base = held.state
    turned = held.strength * np.where(held.signs * signs < 0.0, 2.0 * held.signs, 0.0)
    if turned.any():
        base = base + turned @ held.table
        left = left - np.einsum("ij,ij->i", turned, changes)
    base = np.broadcast_to(base, changes.shape)
    of_columns = {"indices": columns, "axis": 1}
    across, joining = np.take_along_axis(changes, **of_columns), np.take_along_axis(signs, **of_columns)
    right = np.stack([held.strength * joining - np.take_along_axis(base, **of_columns), -across], axis=-1)
    try:
        both = np.linalg.solve(held.table[columns[:, :, None], columns[:, None, :]], right)
    except np.linalg.LinAlgError:
        return None
    less = np.einsum("fj,fjt->ft", across, both)
    free = free - less[:, 1]
    residuals = (left - less[:, 0]) / free
    of_set = both[:, :, 0] - residuals[:, None] * both[:, :, 1]
    states = base - residuals[:, None] * changes + (of_set[:, None, :] @ held.table[columns])[:, 0]
    gone = held.strength * held.signs[columns] - of_set
    np.put_along_axis(states, columns, np.where(joining, of_set, gone), axis=1)
    return states, free
