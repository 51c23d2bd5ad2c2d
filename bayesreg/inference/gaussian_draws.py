"""Draws of a fitted Gaussian on the target's device, with their log density.

The learned scales first, their coordinates Z ~ N(m_Z, S_ZZ); then the weights, whose conditional covariance is (g G +
diag(D))^-1 whatever Z:

    w = m_w + S_wZ S_ZZ^-1 (Z - m_Z) + e,      e ~ N(0, (g G + diag(D))^-1),

by an inverse root, or with r << d rows, G = A'A, at a price of r d a draw (Bhattacharya, Chakraborty & Mallick,
Biometrika 103, 2016):

    e = a - sqrt(g) D^-1 A' M^-1 (sqrt(g) A a + b),      M = I + g A D^-1 A',  a ~ N(0, D^-1),  b ~ N(0, I).

The intercept's deviation is Normal(0, 1 / (n E[1/s^2])) and independent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
import torch

from bayesreg.inference.bordered_precision import FewRowsDesign
from bayesreg.inference.gaussian_fit import GaussianFit
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.whitening import inverse_root


class GaussianDraws:
    """A source of draws of one fitted Gaussian.

    Args:
        target: The target that it was fitted to.
        fit: The fit.
        index: Which of its problems.
    """

    def __init__(self, target: Any, fit: GaussianFit, index: int = 0):
        self._target = target
        parts, covariance, elbo = fit.parts, fit.covariance, fit.elbo
        of_scales, cross = covariance.scales[index], covariance.cross[index]
        self._mean_weights, self._mean_scales = self._tensor(parts.weights[index]), self._tensor(parts.scales[index])
        self._scales_root = self._tensor(np.linalg.cholesky(of_scales))
        self._regression = self._tensor(np.linalg.solve(of_scales, cross.T))
        self._log_volume = 0.5 * float(covariance.log_determinant[index])
        self._deviation_scale = None
        if elbo.has_intercept:
            self._deviation_scale = 1.0 / math.sqrt(elbo.num_rows * float(parts.gram[index]))
            self._log_volume += math.log(self._deviation_scale)
        gram, diagonal = float(parts.gram[index]), parts.diagonal[index]
        if fit.mean_field:
            self._spread = self._tensor(np.sqrt(covariance.variances[index]))
            self._departures = self._independent
        elif isinstance(elbo.design, FewRowsDesign):
            diagonal = elbo.design.floored(gram, diagonal)
            rows = math.sqrt(gram) * elbo.design.rows
            root = np.linalg.cholesky(np.eye(len(rows)) + (rows / diagonal) @ rows.T)
            self._rows, self._diagonal, self._root = (self._tensor(array) for array in (rows, diagonal, root))
            self._back = self._tensor(scipy.linalg.solve_triangular(root, rows / diagonal, lower=True))
            self._departures = self._by_rows
        else:
            precision = gram * elbo.design.gram
            precision[np.diag_indices_from(precision)] += diagonal
            self._inverse_root = inverse_root(self._tensor(precision))
            self._departures = self._dense

    def __call__(self, num: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw points.

        Args:
            num: How many.
            generator: The source of randomness, on the target's device.

        Returns:
            Points ``(num, p)`` in the target's coordinates, and their log density under the Gaussian ``(num,)``.
        """
        normals = self._normals((num, len(self._mean_scales)), generator)
        along = normals @ self._scales_root.mT
        departures, squares = self._departures(num, generator)
        squares = squares + normals.square().sum(-1)
        columns = [self._mean_weights + along @ self._regression + departures]
        if self._deviation_scale is not None:
            normals = self._normals((num, 1), generator)
            squares = squares + normals[:, 0].square()
            columns.append(self._deviation_scale * normals)
        points = torch.cat([*columns, self._mean_scales + along], dim=1)
        return points, -0.5 * squares - 0.5 * points.shape[1] * math.log(2 * math.pi) - self._log_volume

    def _independent(self, num: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        normals = self._normals((num, len(self._mean_weights)), generator)
        return normals * self._spread, normals.square().sum(-1)

    def _dense(self, num: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        normals = self._normals((num, len(self._mean_weights)), generator)
        return normals @ self._inverse_root.mT, normals.square().sum(-1)

    def _by_rows(self, num: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        free = self._normals((num, len(self._mean_weights)), generator) * self._diagonal.rsqrt()
        right = free @ self._rows.mT + self._normals((num, len(self._rows)), generator)
        departures = free - torch.linalg.solve_triangular(self._root, right.mT, upper=False).mT @ self._back
        squares = (departures @ self._rows.mT).square().sum(-1) + departures.square() @ self._diagonal
        return departures, squares

    def _normals(self, shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        return standard_normals(shape, generator, torch.float64, self._target.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._target.device)
