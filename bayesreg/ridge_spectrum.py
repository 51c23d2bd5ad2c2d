"""Ridge fits of every strength, and all that shrinks along the same directions, from one singular value decomposition.

With Xc = U diag(s) V' the centred columns, h_i = s_i^2 / n the eigenvalues of the Hessian H = Xc'Xc / n of RSS / 2n, c
the point that is shrunk towards and r = yc - Xc c,

    w = c + sum_i f_i (u_i'r / s_i) v_i,      f_i = h_i / (h_i + lambda)  for ridge,

the minimiser of RSS / 2n + lambda |w - c|^2 / 2; f = 1 is the least-squares fit that is nearest to c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize

if TYPE_CHECKING:
    from bayesreg.data import RegressionData

# The nearest strength is looked for in this range, as multiples of the largest h, and at 0 and infinity.
_RANGE = np.logspace(-14, 6, 401)


class RidgeSpectrum:
    """The directions of a design, and the fits that shrink along them.

    Attributes:
        curvatures: h, (r,), those that are not 0, descending.
    """

    def __init__(self, data: RegressionData, intercept: bool, centre: np.ndarray | None = None):
        self._centre = np.zeros(data.num_features) if centre is None else centre
        self._pivot = data.features[0] * intercept, data.target[0] * intercept
        features, target = data.features - self._pivot[0], data.target - self._pivot[1]
        self._means = features.mean(0) * intercept, target.mean() * intercept
        features, target = features - self._means[0], target - self._means[1]
        left, lengths, right = np.linalg.svd(features, full_matrices=False)
        kept = lengths > max(features.shape) * np.finfo(np.float64).eps * lengths.max()
        self._lengths, self._right = lengths[kept], right[kept]
        self.curvatures = self._lengths**2 / data.num_rows
        self._explained = left[:, kept].T @ (target - features @ self._centre)

    def shrunk(self, factors: np.ndarray) -> np.ndarray:
        """Return the fits of factors f, (..., r), as (..., d)."""
        return self._centre + (factors * self._explained / self._lengths) @ self._right

    def ridge(self, strengths: np.ndarray) -> np.ndarray:
        """Return the ridge fits of canonical strengths (K,), as (K, d); 0 gives the least-squares fit nearest to c."""
        return self.shrunk(self._ridge_factors(strengths))

    def intercepts(self, weights: np.ndarray) -> np.ndarray:
        """Return the best intercepts of weights (K, d), (K,); zeros in a model without one."""
        return self._pivot[1] + self._means[1] - weights @ (self._pivot[0] + self._means[0])

    def nearest(self, weights: np.ndarray) -> np.ndarray:
        """Find the strengths whose ridge fits have the fitted values nearest to those of some weights.

        Args:
            weights: (K, d).

        Returns:
            argmin over lambda of |Xc (w - w_lambda)|, (K,); 0 or infinity where no strength between is nearer.
        """
        return np.array([self._nearest(one) for one in (weights - self._centre) @ self._right.T * self._lengths])

    def _ridge_factors(self, strengths: np.ndarray) -> np.ndarray:
        return self.curvatures / (self.curvatures + np.asarray(strengths)[..., None])

    def _nearest(self, fitted: np.ndarray) -> float:
        if not self.curvatures.size:
            return 0.0
        strengths = np.concatenate([[0.0], _RANGE * self.curvatures[0], [np.inf]])

        def distance(strengths: np.ndarray) -> np.ndarray:
            return np.square(fitted - self._ridge_factors(strengths) * self._explained).sum(-1)

        best = int(np.argmin(distance(strengths)))
        if not 2 <= best < len(strengths) - 2:
            return float(strengths[best]) if best in (0, len(strengths) - 1) else float(strengths[round(best / 400) * 402])
        around = np.log(strengths[[best - 1, best + 1]])
        found = scipy.optimize.minimize_scalar(
            lambda at: distance(np.exp(at)), bounds=around, method="bounded", options={"xatol": 1e-10}
        )
        return float(np.exp(found.x))
