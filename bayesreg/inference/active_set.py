"""The Laplace mode's quadratic programme, by coordinate descent for a start and an active set for the exact finish.

    minimise over w:   |f - F w|^2 / 2 + sum_j l_j |w_j|,        F (k, d), f (k,), l_j > 0.

On a set A of weights with fixed signs the problem is linear: F_A'(f - F_A w_A) = l_A sign_A. The method solves that,
walks towards its solution until a weight changes sign (which leaves the set), and then lets in the weight that violates
|F_j'(f - F w)| <= l_j most. Each step lowers the objective, so no set comes back and the number of steps is finite; the
end satisfies the conditions of optimality to rounding, with exact zeros. A column that depends on those in the set
enters along the direction that leaves the fit alone, in exchange for the first weight that reaches zero there, so
duplicates and n < d need no special case. The set's columns are held as a QR factorisation, updated with the set: in
their Gram matrix, columns that differ by 1e-8 are the same. Source: Osborne, Presnell & Turlach, IMA Journal of
Numerical Analysis 20 (2000); Lee, Battle, Raina & Ng, Efficient sparse coding algorithms (2007).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

# A column of unit length whose part outside the set's span is shorter than this depends on the set.
_DEPENDENT = 1e-12
# A condition of optimality counts as violated beyond this, relative to the largest correlation of a column with f.
_VIOLATION = 1e-13
_MOST_SWEEPS = 200


def minimise_absolute_penalty(
    design: np.ndarray, target: np.ndarray, strengths: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """Return the minimiser of |f - Fw|^2/2 + sum_j l_j |w_j|, with exact zeros.

    Where it is not unique, one of them is returned, with linearly independent columns.

    Args:
        design: F ``(k, d)``.
        target: f ``(k,)``.
        strengths: l ``(d,)``, positive.
        start: A guess ``(d,)``; with one, coordinate descent is left out.

    Returns:
        The weights ``(d,)``.
    """
    lengths = np.linalg.norm(design, axis=0)
    lengths[lengths == 0.0] = 1.0
    columns, bounds = design / lengths, strengths / lengths
    weights = _coordinate_descent(columns.T @ columns, columns.T @ target, bounds) if start is None else start * lengths
    return _ActiveSet(columns, target, bounds, weights).solve() / lengths


def _coordinate_descent(gram: np.ndarray, correlation: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sweep over the coordinates until the support has stopped changing: a start, not a solution."""
    weights, gradient, stable = np.zeros_like(correlation), correlation.copy(), 0
    for _ in range(_MOST_SWEEPS):
        support = weights != 0.0
        for j in range(weights.shape[0]):
            free = gradient[j] + weights[j]  # the columns have unit length
            new = np.sign(free) * max(abs(free) - bounds[j], 0.0)
            if new != weights[j]:
                gradient -= gram[j] * (new - weights[j])
                weights[j] = new
        stable = stable + 1 if np.array_equal(support, weights != 0.0) else 0
        if stable == 3:
            break
    return weights


class _ActiveSet:
    """The state of the method: the set, its columns' QR factors and signs, and the weights, zero outside the set."""

    def __init__(self, columns: np.ndarray, target: np.ndarray, bounds: np.ndarray, start: np.ndarray):
        self.columns, self.target, self.bounds = columns, target, bounds
        self.weights = np.zeros(columns.shape[1])
        self.tolerance = _VIOLATION * max(float(np.abs(columns.T @ target).max(initial=0.0)), float(bounds.min()))
        self.active = self._independent(np.flatnonzero(start))
        self.basis, self.triangle = np.linalg.qr(columns[:, self.active])
        self.weights[self.active] = start[self.active]
        self.signs = np.sign(self.weights[self.active])

    def solve(self) -> np.ndarray:
        """Run to the optimum: as many steps as it takes, with a ceiling against a cycle made of rounding."""
        refused = np.zeros(self.weights.shape[0], dtype=bool)
        self._settle()
        height = self._objective()
        for _ in range(50 * (self.weights.shape[0] + 10)):
            slack = np.abs(self._gradient()) - self.bounds
            slack[self.active] = -np.inf
            slack[refused] = -np.inf
            entering = int(np.argmax(slack)) if slack.size else -1
            if entering < 0 or slack[entering] <= self.tolerance:
                break
            self._enter(entering)
            self._settle()
            before, height = height, self._objective()
            # What lowers nothing is violated by rounding alone; it may be let in again once something has moved.
            refused = np.zeros_like(refused) if height < before else refused
            refused[entering] = height >= before
        return self.weights

    def _settle(self) -> None:
        """Go to the optimum on the set, dropping each weight that would change its sign on the way."""
        while self.active.size:
            goal = self._solution_on_set()
            here = self.weights[self.active]
            # A weight that has just entered stands at zero and moves off it by its sign.
            wrong = goal * self.signs < 0.0
            if not wrong.any():
                self.weights[self.active] = goal
                return
            fractions = np.where(wrong, here / np.where(wrong, here - goal, 1.0), np.inf)
            leaving = int(np.argmin(fractions))
            self.weights[self.active] = here + max(fractions[leaving], 0.0) * (goal - here)
            self._leave(leaving)

    def _enter(self, entering: int) -> None:
        column = self.columns[:, entering]
        sign = float(np.sign(column @ (self.target - self.columns @ self.weights)))
        if self.active.size:
            inside = self.basis.T @ column
            outside = column - self.basis @ inside
            again = self.basis.T @ outside  # one projection leaves rounding of the whole column in the rest
            if np.linalg.norm(outside - self.basis @ again) <= _DEPENDENT:
                # Along this direction the fit stays and the penalty falls; it must meet a zero.
                direction = -scipy.linalg.solve_triangular(self.triangle, inside + again) * sign
                falling = direction * self.signs < 0.0
                if not falling.any():
                    return  # violated by rounding alone
                steps = np.where(falling, -self.weights[self.active] / np.where(falling, direction, 1.0), np.inf)
                leaving = int(np.argmin(steps))
                self.weights[self.active] += steps[leaving] * direction
                self.weights[entering] = steps[leaving] * sign
                self._leave(leaving)
        if self.active.size:
            self.basis, self.triangle = scipy.linalg.qr_insert(
                self.basis, self.triangle, column, self.active.size, which="col", check_finite=False
            )
        else:
            self.basis, self.triangle = np.linalg.qr(column[:, None])
        self.active = np.append(self.active, entering)
        self.signs = np.append(self.signs, sign)

    def _leave(self, position: int) -> None:
        self.weights[self.active[position]] = 0.0
        self.basis, self.triangle = scipy.linalg.qr_delete(
            self.basis, self.triangle, position, which="col", check_finite=False
        )
        # A square basis is a full factorisation, which keeps all its rows.
        self.basis, self.triangle = self.basis[:, : self.active.size - 1], self.triangle[: self.active.size - 1]
        self.active = np.delete(self.active, position)
        self.signs = np.delete(self.signs, position)

    def _gradient(self) -> np.ndarray:
        return self.columns.T @ self._residual()

    def _residual(self) -> np.ndarray:
        return self.target - self.columns[:, self.active] @ self.weights[self.active]

    def _objective(self) -> float:
        residual = self._residual()
        return 0.5 * float(residual @ residual) + float(self.bounds[self.active] @ np.abs(self.weights[self.active]))

    def _solution_on_set(self) -> np.ndarray:
        """Solve F_A'(f - F_A w) = l_A sign_A, refined twice with the residuals of the columns themselves."""
        columns, pull = self.columns[:, self.active], self.bounds[self.active] * self.signs

        def pulled(right: np.ndarray, strength: np.ndarray) -> np.ndarray:
            inner = scipy.linalg.solve_triangular(self.triangle, strength, trans=1, check_finite=False)
            return scipy.linalg.solve_triangular(self.triangle, self.basis.T @ right - inner, check_finite=False)

        solution = pulled(self.target, pull)
        for _ in range(2):
            left = self.target - columns @ solution
            # Of the residual only what the set still has to give; the pull by what it lacks.
            solution = solution + pulled(np.zeros_like(left), pull - columns.T @ left)
        return solution

    def _independent(self, support: np.ndarray) -> np.ndarray:
        """Return a subset of the columns that is safely independent, by a pivoted QR factorisation."""
        if support.size == 0:
            return support
        triangle, pivots = scipy.linalg.qr(self.columns[:, support], mode="r", pivoting=True, check_finite=False)
        rank = int(np.sum(np.abs(np.diag(triangle)) > 10.0 * _DEPENDENT))
        return np.sort(support[pivots[:rank]])
