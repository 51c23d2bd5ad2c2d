"""The lasso path on a Gram matrix: knot by knot, or from strength to strength where there are many knots between two.

From lambda_max = max|c| down, a knot is where the first of the linear functions of `bayesreg.paths.gram_active_set`
leaves its bounds: a weight would change its sign, and leaves the set, or a correlation would pass lambda in size, and
its column enters. Each condition is a function a lambda - b that must not fall below 0, and counts only where a is not
made of rounding; a duplicate of an active column that rounding lets pass is refused by the set, and ties are taken one
after the other in steps of length zero. Where sets are large and change by several columns between two strengths, all
that is violated at the next strength is exchanged at once, again and again until nothing is (block principal pivoting);
where that does not settle, the knots are taken after all.

Sources: Osborne, Presnell and Turlach, IMA Journal of Numerical Analysis 20 (2000); Efron, Hastie, Johnstone and
Tibshirani, Least angle regression, Annals of Statistics 32 (2004); Kim and Park, Fast active-set-type algorithms for
l1-regularized linear regression, AISTATS 2010.
"""

from __future__ import annotations

import bisect

import numpy as np

from bayesreg.paths.gram_active_set import GramActiveSet

# A function of lambda that is flatter than this is a constant made of rounding.
_STEEP = 1e-9
# Violations smaller than this share of lambda_max are rounding.
_VIOLATION = 1e-13
# From this size of the set on, and this many knots between two strengths, exchanges are faster.
_LARGE_SET, _MANY_KNOTS = 250, 12
_MOST_EXCHANGES = 12


def follow(gram: np.ndarray, correlation: np.ndarray, lambdas: np.ndarray, most_active: int) -> tuple[np.ndarray, int]:
    """Return the path at given strengths.

    Args:
        gram: G ``(d, d)``, symmetric positive semidefinite, C-contiguous.
        correlation: c ``(d,)``.
        lambdas: Strengths ``(m,)``, descending.
        most_active: Largest active set; where it would be passed, the rest of the path is left to the caller.

    Returns:
        Weights ``(m, d)``, and how many of the strengths, from the first on, were reached.
    """
    return PathFollower(gram, correlation, most_active).advance(lambdas)


def follow_elastic_net(gram: np.ndarray, correlation: np.ndarray, l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
    """Return the fits with an L2 term, l2 |w|^2 / 2, whose strength changes along the path.

    Given l2 it is a lasso on G + l2 I: the set of one strength is where the next one's begins.

    Args:
        gram: G ``(d, d)``, symmetric positive semidefinite.
        correlation: c ``(d,)``.
        l1: Strengths ``(m,)``, descending.
        l2: Strengths ``(m,)``.

    Returns:
        Weights ``(m, d)``.
    """
    d = correlation.shape[0]
    weights = np.zeros((l1.shape[0], d))
    ridged, ridge = gram.copy(), 0.0
    path = PathFollower(ridged, correlation, d)
    for k in range(l1.shape[0]):
        regular = path.set.add_to_diagonal(float(l2[k]) - ridge)
        ridge = float(l2[k])
        if regular and path.jump_to(float(l1[k])):
            path.set.write(weights[k : k + 1], l1[k : k + 1])
        else:
            weights[k : k + 1] = follow(ridged, correlation, l1[k : k + 1], d)[0]
            path = PathFollower(ridged, correlation, d)
    return weights


class PathFollower:
    """Where on the path we are, with the active set there.

    Args:
        gram: G ``(d, d)``, symmetric positive semidefinite, C-contiguous.
        correlation: c ``(d,)``.
        most_active: Largest active set.
        weights: The solution ``(d,)`` at a strength where to start; None: lambda_max, where it is 0.
        strength: That strength.
        made: Which rows of the Gram there are ``(d,)``, where more are made when they are asked for; None: all.

    Attributes:
        missing: The column that would have entered had its row been there; None where that is not what has held us.
    """

    def __init__(
        self,
        gram: np.ndarray,
        correlation: np.ndarray,
        most_active: int,
        weights: np.ndarray | None = None,
        strength: float = 0.0,
        made: np.ndarray | None = None,
    ):
        d = correlation.shape[0]
        self.set = GramActiveSet(gram, correlation, min(most_active, d))
        self.largest = float(np.abs(correlation).max(initial=0.0))
        self.position = self.largest if weights is None else strength  # lambda
        self.tolerance = _VIOLATION * self.largest
        self.steepness = _STEEP / self.largest if self.largest else 0.0
        self.knots_left, self.knots_since = 50 * (d + 20), 0
        self.prefers_jumps = False
        self.made = np.ones(d, dtype=bool) if made is None else made
        self.missing: int | None = None
        if weights is not None:
            active = np.flatnonzero(weights)
            self.set_to(active, np.sign(weights[active]))

    def advance(self, lambdas: np.ndarray) -> tuple[np.ndarray, int]:
        """Go down to given strengths.

        Args:
            lambdas: Strengths ``(m,)``, descending, none above where we are but by the first one's rounding.

        Returns:
            Weights ``(m, d)``, and how many of the strengths were reached.
        """
        weights = np.zeros((lambdas.shape[0], self.set.correlation.shape[0]))
        ascending, done = (-lambdas).tolist(), 0
        self.missing = None
        with np.errstate(divide="ignore", invalid="ignore"):
            while done < len(ascending):
                if self.prefers_jumps and self.jump_to(-ascending[done]):
                    self.set.write(weights[done : done + 1], lambdas[done : done + 1])
                    done += 1
                    continue
                knot, column = self.next_knot()
                reached = bisect.bisect_right(ascending, -knot, done)
                if reached > done:
                    self.set.write(weights[done:reached], lambdas[done:reached])
                    self.arrived(reached - done)
                    done = reached
                if done < len(ascending) and not self.cross(knot, column):
                    break
        return weights, done

    def next_knot(self) -> tuple[float, int]:
        """Return the next knot's strength, and the column that enters or leaves there."""
        active = self.set
        # With e the sign of the constant part (only on that side can a correlation reach lambda > 0), or minus that of
        # the weight, a function a + b lambda reaches lambda, or a weight's 0, at e a / (1 - e b), or e a / -e b.
        edges = np.copysign(active.outside, active.functions[0])
        edges -= active.signs
        heights, slopes = edges * active.functions
        # The largest knot has the smallest inverse. One far above lambda_max is of a constant but for rounding.
        inverses = (active.outside - slopes) / np.maximum(heights, 0.0)
        inverses = np.where(inverses > self.steepness, inverses, np.inf)
        column = int(inverses.argmin())
        return min(1.0 / float(inverses[column]), self.position), column

    def cross(self, knot: float, column: int) -> bool:
        """Change the set at a knot; return whether the path goes on."""
        active = self.set
        if not self.made[column]:
            self.missing = column
            return False
        self.position = knot
        self.knots_left -= 1
        self.knots_since += 1
        if knot <= 0.0 or self.knots_left < 0:
            return False
        if active.signs[column]:
            active.leave(int(np.flatnonzero(active.active[: active.size] == column)[0]))
            return True
        if active.size == active.capacity:
            return False
        constant, slope = active.functions[:, column]
        active.enter(column, 1.0 if constant + knot * slope > 0 else -1.0)
        return True

    def likely(self, strength: float) -> tuple[np.ndarray, int]:
        """Return the columns whose rows are not there, likeliest to enter first, and how many will, down to a strength.

        Those will whose correlations are larger now: few others rise above it, and about as many fall below.
        """
        active = self.set
        sizes = np.abs(active.functions[0] + self.position * active.functions[1])
        sizes *= active.outside * ~self.made
        if self.missing is not None:
            sizes[self.missing] = np.inf
        return np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)], np.count_nonzero(sizes > strength)

    def arrived(self, strengths: int) -> None:
        """Note that strengths were reached with the set as it is."""
        self.prefers_jumps = self.set.size >= _LARGE_SET and self.knots_since >= _MANY_KNOTS * strengths
        self.knots_since = 0

    def jump_to(self, strength: float) -> bool:
        """Exchange what is violated at a strength until nothing is; where that does not settle, go back and say so."""
        active, before, solved = self.set, None, True
        fewest, patience = np.inf, 3
        for exchange in range(_MOST_EXCHANGES):
            at = active.active[: active.size]
            values = active.functions[0] + strength * active.functions[1]
            leaving = np.flatnonzero(values[at] * active.signs[at] < 0.0)
            entering = np.flatnonzero(active.outside * np.abs(values) > strength + self.tolerance)
            violated = leaving.size + entering.size
            if not violated and not solved:
                active.solve()
                solved = True
                continue
            if not violated:
                self.position = strength
                self.prefers_jumps = exchange > 0
                return True
            patience = 3 if violated < fewest else patience - 1
            fewest = min(fewest, violated)
            if before is None:
                before = at.copy(), active.signs[at]
            possible = patience > 0 and self.made[entering].all()
            if not possible or not active.exchange(leaving, entering, np.sign(values[entering])):
                break
            solved = False
        if before is not None:
            self.set_to(*before)
        self.prefers_jumps = False
        return False

    def set_to(self, columns: np.ndarray, signs: np.ndarray) -> None:
        """Exchange the set for another one; where rounding does not allow it, go back to lambda_max."""
        active = self.set
        if active.exchange(np.arange(active.size), columns, signs):
            active.solve()
        else:  # knot by knot, what is on the way comes again
            self.set = GramActiveSet(active.gram, active.correlation, active.capacity)
            self.position = self.largest
