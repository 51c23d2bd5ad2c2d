"""Ridge fits of every strength, and all fits that shrink along the same directions, from one decomposition.

With Xc = U diag(S) V' the centred columns, h_i = S_i^2 / n the eigenvalues of the Hessian Xc'Xc / n of RSS / 2n, c the
point that is shrunk towards and r = yc - Xc c,

    w = c + sum_i f_i (u_i'r / S_i) v_i,      f_i = h_i / (h_i + lambda)  for ridge,

the minimiser of RSS / 2n + lambda |w - c|^2 / 2; f = 1 gives the least-squares fit that is nearest to c.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from bayesreg.data import RegressionData
from bayesreg.paths.centred_design import centred_design

# The nearest strength is looked for at these multiples of the largest h.
_MULTIPLES = np.concatenate([[0.0], np.logspace(-14, 6, 401), [np.inf]])


class RidgeSpectrum:
    """The directions of a design, and the fits that shrink along them.

    Attributes:
        design: The centred design.
        curvatures: h, (r,), those that are not 0, descending.
    """

    def __init__(self, data: RegressionData, intercept: bool, centre: np.ndarray | None = None):
        self.design = centred_design(data, intercept)
        self._centre = np.zeros(data.num_features) if centre is None else centre
        spectrum = self.design.spectrum_about(self._centre)
        self._lengths, self._basis, self._projections = spectrum.singular_values, spectrum.basis, spectrum.projections
        self.curvatures = self._lengths**2 / data.num_rows

    def shrunk(self, factors: np.ndarray) -> np.ndarray:
        """Return the fits of factors f, (..., r), as (..., d)."""
        return self._centre + (factors * self._projections / self._lengths) @ self._basis.T

    def ridge(self, strengths: np.ndarray) -> np.ndarray:
        """Return the ridge fits of canonical strengths (K,), (K, d); 0 gives the least-squares fit nearest to c."""
        return self.shrunk(self._ridge_factors(strengths))

    def intercepts(self, weights: np.ndarray) -> np.ndarray:
        """Return the best intercepts of weights (K, d), (K,); zeros in a model without one."""
        return self.design.target_mean - weights @ self.design.feature_means

    def nearest(self, weights: np.ndarray) -> np.ndarray:
        """Find the strengths whose ridge fits have the fitted values nearest to those of some weights.

        Args:
            weights: (K, d).

        Returns:
            argmin over lambda of |Xc (w - w_lambda)|, (K,); 0 or infinity where no strength between is nearer.
        """
        return np.array([self._nearest(one) for one in (weights - self._centre) @ self._basis * self._lengths])

    def _ridge_factors(self, strengths: np.ndarray) -> np.ndarray:
        return self.curvatures / (self.curvatures + np.asarray(strengths)[..., None])

    def _nearest(self, fitted: np.ndarray) -> float:
        if not self.curvatures.size:
            return 0.0
        strengths = _MULTIPLES * self.curvatures[0]

        def distance(strengths: np.ndarray) -> np.ndarray:
            return np.square(fitted - self._ridge_factors(strengths) * self._projections).sum(axis=-1)

        best = int(np.argmin(distance(strengths)))
        if best <= 1:
            return 0.0
        if best >= len(strengths) - 2:
            return np.inf
        found = scipy.optimize.minimize_scalar(
            lambda at: distance(np.exp(at)),
            bounds=np.log(strengths[[best - 1, best + 1]]),
            method="bounded",
            options={"xatol": 1e-10},
        )
        return float(np.exp(found.x))
