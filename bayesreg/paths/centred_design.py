"""What a penalised path needs of the data: second moments, or the centred rows where they are no more than the columns.

With Xc, yc the centred columns and target (as they are, without an intercept), everything here is in the units of the
canonical objective: correlations Xc'yc / n, Gram Xc'Xc / n.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from bayesreg.computing.products import gram_of, sparse_product_of
from bayesreg.computing.row_sums import are_near, check_squares
from bayesreg.data import RegressionData
from bayesreg.design_spectrum import DesignSpectrum
from bayesreg.moments import Moments, as_moments


class CentredDesign:
    """Columns and target through their second moments.

    Attributes:
        num_rows: n.
        num_features: d.
        has_intercept: Whether columns and target are centred.
        feature_means: Array `(d,)`, zeros without an intercept.
        target_mean: 0 without an intercept.
        deviations: Root mean squares of Xc's columns, array `(d,)`.
    """

    def __init__(self, moments: Moments):
        self.moments = moments
        self.num_rows, self.num_features = moments.num_rows, moments.num_features
        self.has_intercept = moments.centred
        self.feature_means, self.target_mean = moments.feature_means, moments.target_mean
        self.deviations = np.sqrt(moments.Sxx.diagonal() / self.num_rows)

    @property
    def from_rows(self) -> bool:
        """Whether `root` is one of the rows, and not of their second moments."""
        return self.moments.factor is not None

    @property
    def mean_square(self) -> float:
        """|yc|^2 / n."""
        return self.moments.Syy / self.num_rows

    @cached_property
    def correlations(self) -> np.ndarray:
        """Xc'yc / n, `(d,)`."""
        return self.moments.Sxy / self.num_rows

    def gram(self, columns: np.ndarray | None = None, others: np.ndarray | None = None) -> np.ndarray:
        """Return Xc'Xc / n of some columns with others, or with themselves, or of all; C-contiguous."""
        if columns is None:
            return self.moments.Sxx / self.num_rows
        return self.moments.Sxx[np.ix_(columns, columns if others is None else others)] / self.num_rows

    def residuals(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |yc - Xc w|^2 / n `(m,)` and Xc'(yc - Xc w) / n `(m, d)` of weights `(m, d)`."""
        squares, cross = self.moments.residuals(weights)
        return squares / self.num_rows, cross / self.num_rows

    @cached_property
    def root(self) -> np.ndarray:
        """F `(k, d + 1)` with F'F = [Xc yc]'[Xc yc]."""
        return self.moments.square_root()

    @cached_property
    def spectrum(self) -> DesignSpectrum:
        """The singular value decomposition of Xc, with the target in its coordinates."""
        return self.spectrum_about(None)

    def spectrum_about(self, prior_loc: np.ndarray | None) -> DesignSpectrum:
        """Return the decomposition with yc - Xc m in its coordinates, m `(d,)`."""
        return DesignSpectrum.of(self.moments, prior_loc=prior_loc)

    def left_vectors(self, data: RegressionData) -> Callable[[slice], np.ndarray]:
        """Return what gives U' `(r, rows)` of a slice of the rows that this is of."""
        to_left = (self.spectrum.basis / self.spectrum.singular_values).T
        return lambda rows: to_left @ (data.features[rows] - self.feature_means).T


class CentredRows(CentredDesign):
    """Columns and target as rows: nothing of d x d numbers is made unless it is asked for."""

    from_rows = True

    def __init__(self, data: RegressionData, intercept: bool):
        self.num_rows, self.num_features = data.num_rows, data.num_features
        self.has_intercept = intercept
        ones = np.ones(data.num_rows)
        with np.errstate(over="ignore", invalid="ignore"):  # refused by name below
            means = np.zeros(self.num_features + 1)
            if intercept:
                means[:-1], means[-1] = ones @ data.features, ones @ data.target  # half the time of a mean
                means /= data.num_rows
            rows = np.empty((self.num_rows, self.num_features + 1))
            squares = _centre(data, means, rows)
            if intercept and not are_near(data.num_rows * np.square(means), squares):
                # A row first: at an offset of 1e8 the mean itself is rounded, and constant columns would leave
                # rounding.
                pivot = np.append(data.features[0], data.target[0])
                _centre(data, pivot, rows)
                offsets = ones @ rows / data.num_rows
                rows -= offsets
                means, squares = pivot + offsets, np.einsum("ij,ij->j", rows, rows)
        check_squares(squares, rows, (*data.feature_names, data.target_name))
        self._rows = rows
        self.deviations = np.sqrt(squares[:-1] / self.num_rows)
        self.feature_means, self.target_mean = means[:-1], float(means[-1])

    @property
    def mean_square(self) -> float:
        """|yc|^2 / n."""
        return float(self._rows[:, -1] @ self._rows[:, -1]) / self.num_rows

    @cached_property
    def correlations(self) -> np.ndarray:
        """Xc'yc / n, `(d,)`."""
        return self._rows[:, -1] @ self._rows[:, :-1] / self.num_rows

    def gram(self, columns: np.ndarray | None = None, others: np.ndarray | None = None) -> np.ndarray:
        """Return Xc'Xc / n of some columns with others, or with themselves, or of all; C-contiguous."""
        chosen = self._rows[:, :-1] if columns is None else self._rows[:, columns]
        if others is not None:
            return chosen.T @ self._rows[:, others] / self.num_rows
        products = gram_of(chosen)
        products /= self.num_rows
        return products

    def residuals(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |yc - Xc w|^2 / n `(m,)` and Xc'(yc - Xc w) / n `(m, d)` of weights `(m, d)`."""
        left = self._rows[:, -1] - sparse_product_of(weights, self._rows[:, :-1].T)
        squares = np.einsum("ij,ij->i", left, left) / self.num_rows
        left /= self.num_rows
        return squares, left @ self._rows[:, :-1]

    @property
    def root(self) -> np.ndarray:
        """F `(k, d + 1)` with F'F = [Xc yc]'[Xc yc]: the rows themselves."""
        return self._rows

    def spectrum_about(self, prior_loc: np.ndarray | None) -> DesignSpectrum:
        """Return the decomposition with yc - Xc m in its coordinates, m `(d,)`."""
        return DesignSpectrum.of_root(self._rows, self.num_rows, self.has_intercept, True, prior_loc=prior_loc)

    def left_vectors(self, data: RegressionData) -> Callable[[slice], np.ndarray]:
        """Return what gives U' `(r, rows)` of a slice of the rows that this is of: these were decomposed themselves."""
        return lambda rows: self.spectrum.left[rows].T


def _centre(data: RegressionData, origin: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Write the rows [x, y], less an origin, into `(n, d + 1)`; return the columns' sums of squares."""
    np.subtract(data.features, origin[:-1], out=rows[:, :-1])
    np.subtract(data.target, origin[-1], out=rows[:, -1])
    return np.einsum("ij,ij->j", rows, rows)


def centred_design(data: RegressionData | Moments, intercept: bool = True) -> CentredDesign:
    """Return the design of data: their rows where they are no more than the columns, else their moments.

    Args:
        data: Rows or moments.
        intercept: Whether there is an intercept.

    Returns:
        The design.

    Raises:
        TypeError: If the data are neither.
        ValueError: If moments about the origin are to have an intercept.
    """
    if isinstance(data, RegressionData) and data.num_rows <= data.num_features:
        return CentredRows(data, intercept)
    moments = as_moments(data)
    if intercept and not moments.centred:
        raise ValueError("moments about the origin have no intercept: give intercept=False")
    return CentredDesign(moments if intercept else moments.about_origin())
