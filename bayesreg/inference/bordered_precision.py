"""Precisions of the Gaussians that approximate a regression: the Gram, a diagonal and a few borders.

Over the weights w (d,) and the k <= 2 coordinates of the learned scales, a precision is

    P = [[ g G + diag(D),  B ],          G = Xc'Xc = A'A,  A (r, d)
         [ B',             K ]],

with g a number, D (d,), B (d, k), K (k, k): averages of such matrices are again such. Everything has a leading axis of
independent problems. Where the design has few rows, r << d, nothing of size d x d is made: with M = I + g A D^-1 A',

    (g G + diag(D))^-1 = D^-1 - g D^-1 A' M^-1 A D^-1            (Woodbury)

and draws of that covariance come from Bhattacharya, Chakraborty and Mallick (Biometrika 103, 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from bayesreg.moments import Moments

# The few-rows route makes about 2 r d + r^2 numbers where the other makes d^2, each at a higher price.
_FEW_ROWS = 0.5
# The few-rows route takes differences of numbers of size 1 / D: a weight that only the data hold has D = 0. A diagonal
# of this share of the Gram's moves the precision by as much, and the ELBO by the square of it.
_SMALLEST_SHARE = 1e-7
_TINY = 1e-300  # in place of 0, where there is a logarithm


class Parts(NamedTuple):
    """The parts of b Gaussians: their means and precisions.

    Attributes:
        weights: The weights' means ``(b, d)``.
        scales: The means of the scales' coordinates ``(b, k)``.
        gram: g ``(b,)``.
        diagonal: D ``(b, d)``.
        border: B ``(b, d, k)``.
        corner: K ``(b, k, k)``.
    """

    weights: np.ndarray
    scales: np.ndarray
    gram: np.ndarray
    diagonal: np.ndarray
    border: np.ndarray
    corner: np.ndarray


class Layout:
    """Where the parts of a Gaussian stand in its vector of N numbers: mean (d + k), then log g, log D, B and K.

    Args:
        num_features: d.
        num_scales: k.

    Attributes:
        num_features: d.
        num_scales: k.
        num_means: The length d + k of the mean.
        size: N.
        logarithms: Where log g and log D stand.
    """

    def __init__(self, num_features: int, num_scales: int):
        self.num_features, self.num_scales = num_features, num_scales
        self.num_means = num_features + num_scales
        self._diagonal = self.num_means + 1
        self._border = self._diagonal + num_features
        self._corner = self._border + num_features * num_scales
        self.size = self._corner + num_scales**2
        self.logarithms = slice(self.num_means, self._border)

    def views(self, vectors: np.ndarray) -> Parts:
        """Return views of vectors ``(b, N)`` where the parts stand."""
        b, d, k = len(vectors), self.num_features, self.num_scales
        return Parts(
            vectors[:, :d],
            vectors[:, d : self.num_means],
            vectors[:, self.num_means],
            vectors[:, self._diagonal : self._border],
            vectors[:, self._border : self._corner].reshape(b, d, k),
            vectors[:, self._corner :].reshape(b, k, k),
        )

    def parts(self, vectors: np.ndarray) -> Parts:
        """Return the parts of Gaussians ``(b, N)``."""
        positive = np.exp(vectors[:, self.logarithms])
        return self.views(vectors)._replace(gram=positive[:, 0], diagonal=positive[:, 1:])

    def take_logarithms(self, vectors: np.ndarray) -> None:
        """Put log g and log D where vectors ``(b, N)`` have g and D; those of 0 are just far down."""
        positive = vectors[:, self.logarithms]
        np.log(np.maximum(positive, _TINY), out=positive)


@dataclass
class Covariance:
    """What the ELBO needs of P^-1, for b problems.

    Attributes:
        valid: Whether P is positive definite ``(b,)``; elsewhere the numbers mean nothing.
        variances: Of the weights ``(b, d)``.
        cross: Covariance of weights and scales ``(b, d, k)``.
        scales: Covariance of the scales ``(b, k, k)``.
        gram_trace: tr(G Cov(w)) ``(b,)``.
        log_determinant: log |P^-1| ``(b,)``.
        solve: Maps ``(b, d + k)`` to P^-1 times it.
    """

    valid: np.ndarray
    variances: np.ndarray
    cross: np.ndarray
    scales: np.ndarray
    gram_trace: np.ndarray
    log_determinant: np.ndarray
    solve: Callable[[np.ndarray], np.ndarray]


def design_of(moments: Moments, reference: np.ndarray) -> DenseDesign | FewRowsDesign:
    """Return the data in the form that costs less.

    Args:
        moments: The data, centred as the model wants them.
        reference: Weights ``(d,)`` round which sums of squares are expanded.

    Returns:
        The design.
    """
    few_rows = min(moments.num_rows, moments.num_features + 1) <= _FEW_ROWS * moments.num_features
    return FewRowsDesign(moments) if few_rows else DenseDesign(moments, reference)


class DenseDesign:
    """The Gram of the data, for designs with rows enough.

    Args:
        moments: The data.
        reference: Weights ``(d,)`` round which sums of squares are expanded, to keep their digits.
    """

    def __init__(self, moments: Moments, reference: np.ndarray):
        self.gram = np.array(moments.Sxx)
        self.gram_diagonal = self.gram.diagonal().copy()
        self._reference = reference
        rss, cross = moments.residuals(reference)
        self._rss, self._cross = float(rss), cross

    def residuals(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |yc - Xc w|^2 ``(b,)`` and Xc'(yc - Xc w) ``(b, d)``."""
        step = weights - self._reference
        cross = self._cross - step @ self.gram
        # step'(G step - 2 c) = -step'(cross + c)
        rss = self._rss - (step * (cross + self._cross)).sum(-1)
        return np.maximum(rss, 0.0), cross

    def covariance(self, layout: Layout, parts: Parts) -> Covariance:
        """Return what the ELBO needs of P^-1."""
        b, d, size = len(parts.gram), layout.num_features, layout.num_means
        matrix = np.empty((b, size, size))
        matrix[:, :d, :d] = parts.gram[:, None, None] * self.gram
        matrix.reshape(b, -1)[:, : d * size : size + 1] += parts.diagonal
        matrix[:, :d, d:] = parts.border
        matrix[:, d:, :d] = parts.border.transpose(0, 2, 1)
        matrix[:, d:, d:] = parts.corner
        valid, log_determinant = np.ones(b, dtype=bool), np.empty(b)
        for index in range(b):
            # Of a symmetric matrix the transpose is a view in the order that LAPACK works on in place.
            factor, info = lapack.dpotrf(matrix[index].T, lower=1, clean=1, overwrite_a=1)
            log_determinant[index] = -2.0 * np.log(factor.diagonal()).sum()
            valid[index] = info == 0 and math.isfinite(log_determinant[index])  # LAPACK may let a nan pass
            if info == 0:
                lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = matrix + matrix.transpose(0, 2, 1)
        diagonal = inverse.reshape(b, -1)[:, :: size + 1]
        diagonal *= 0.5
        weights = inverse[:, :d, :d]
        return Covariance(
            valid,
            diagonal[:, :d],
            inverse[:, :d, d:],
            inverse[:, d:, d:],
            (weights * self.gram).sum((1, 2)),
            log_determinant,
            lambda vectors: (inverse @ vectors[..., None])[..., 0],
        )


class FewRowsDesign:
    """The rows of the data, or a factor of them, for designs with far fewer rows than columns.

    Args:
        moments: The data.
    """

    def __init__(self, moments: Moments):
        root = moments.square_root()
        self.rows, self._target = np.ascontiguousarray(root[:, :-1]), root[:, -1].copy()
        self.gram_diagonal = np.square(self.rows).sum(0)

    def residuals(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |yc - Xc w|^2 ``(b,)`` and Xc'(yc - Xc w) ``(b, d)``."""
        left = self._target - weights @ self.rows.T
        return np.square(left).sum(-1), left @ self.rows

    def covariance(self, layout: Layout, parts: Parts) -> Covariance:
        """Return what the ELBO needs of P^-1."""
        b, r, k = len(parts.gram), len(self.rows), layout.num_scales
        diagonal = self.floored(parts.gram[:, None], parts.diagonal)
        inverse_diagonal = 1.0 / diagonal
        root_gram = np.sqrt(parts.gram)[:, None, None]
        scaled = root_gram * self.rows * inverse_diagonal[:, None, :]  # sqrt(g) A D^-1, (b, r, d)
        inner = root_gram * (scaled @ self.rows.T)
        inner.reshape(b, -1)[:, :: r + 1] += 1.0
        valid, log_determinant, trace = diagonal.min(-1) > 0, -np.log(diagonal).sum(-1), np.empty(b)
        for index in range(b):
            # W = L^-1 sqrt(g) A D^-1 with M = L L', so that the inverse is D^-1 - W'W.
            factor, info = lapack.dpotrf(inner[index].T, lower=1, clean=1, overwrite_a=1)
            if info == 0:
                root, _ = lapack.dtrtri(factor, lower=1)
                scaled[index] = root @ scaled[index]
                trace[index] = r - np.square(root).sum()  # g tr(G (g G + D)^-1) = r - tr(M^-1)
            log_determinant[index] -= 2.0 * np.log(factor.diagonal()).sum()
            valid[index] &= info == 0

        def solve_block(vectors: np.ndarray) -> np.ndarray:  # (b, d, columns)
            return inverse_diagonal[..., None] * vectors - scaled.transpose(0, 2, 1) @ (scaled @ vectors)

        lean = solve_block(parts.border)
        schur = parts.corner - parts.border.transpose(0, 2, 1) @ lean
        scales = np.zeros((b, k, k))
        for index in range(b if k else 0):
            factor, info = lapack.dpotrf(schur[index], lower=1, clean=1)
            log_determinant[index] -= 2.0 * np.log(factor.diagonal()).sum()
            valid[index] &= info == 0
            root, _ = lapack.dtrtri(factor, lower=1)
            scales[index] = root.T @ root
        valid &= np.isfinite(log_determinant)  # LAPACK may let a nan pass
        cross = -lean @ scales
        seen = self.rows @ lean

        def solve(vectors: np.ndarray) -> np.ndarray:
            of_weights, of_scales = vectors[:, : layout.num_features, None], vectors[:, layout.num_features :, None]
            tail = scales @ (of_scales - lean.transpose(0, 2, 1) @ of_weights)
            return np.concatenate([solve_block(of_weights) - lean @ tail, tail], axis=1)[..., 0]

        variances = inverse_diagonal - np.square(scaled).sum(1) - (cross * lean).sum(-1)
        gram_trace = trace / parts.gram + (seen * (seen @ scales)).sum((1, 2))
        return Covariance(valid, variances, cross, scales, gram_trace, log_determinant, solve)

    def floored(self, gram: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """Return D no smaller than a small share of the Gram's diagonal."""
        return np.maximum(diagonal, _SMALLEST_SHARE * gram * self.gram_diagonal)


def independent(layout: Layout, design: DenseDesign | FewRowsDesign, parts: Parts, full: Covariance) -> Covariance:
    """Return the covariance of independent coordinates with the diagonal of P: 1 / P_jj.

    Args:
        layout: The layout.
        design: The data.
        parts: The precision P.
        full: P^-1, whose `solve` and validity are kept: steps of the mean are made with the whole matrix.

    Returns:
        The diagonal covariance.
    """
    variances = 1.0 / (parts.diagonal + parts.gram[:, None] * design.gram_diagonal)
    of_scales = 1.0 / np.diagonal(parts.corner, axis1=1, axis2=2)
    return Covariance(
        full.valid,
        variances,
        np.zeros((len(variances), layout.num_features, layout.num_scales)),
        of_scales[:, :, None] * np.eye(layout.num_scales),
        (variances * design.gram_diagonal).sum(-1),
        np.log(variances).sum(-1) + np.log(of_scales).sum(-1),
        full.solve,
    )
