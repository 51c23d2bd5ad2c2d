"""More rows than columns, of which few have a weight: rows of the Gram are made when a path asks for them.

Of the Gram Xc'Xc / n a lasso path reads the rows of the columns that enter. Where these are few, the others need not be
made: n d k operations for k of d columns, in place of n d^2 / 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.linalg.blas import dger

from bayesreg.computing.products import WIDE, fill_gram
from bayesreg.computing.row_sums import are_near
from bayesreg.computing.square_roots import is_ill_conditioned
from bayesreg.computing.threads import even_slices, in_parallel
from bayesreg.data import RegressionData
from bayesreg.moments import Moments, as_moments
from bayesreg.paths.centred_design import CentredDesign

# Products are summed up of so many pieces of rows, side by side, by the numbers in them.
_FEWEST_PIECES, _MOST_PIECES, _PIECE_NUMBERS = 2, 8, 2**19


class TallRows(CentredDesign):
    """Columns and target as rows; of their second moments what is asked for.

    Attributes:
        rows_of_gram: G = Xc'Xc / n `(d, d)`, C-contiguous: the diagonal and the rows that are made.
        made: Which rows are, `(d,)`.
    """

    def __init__(self, data: RegressionData, means: np.ndarray, cross: np.ndarray, squares: np.ndarray, centred: bool):
        self._data, self._mean_square = data, float(squares[-1]) / data.num_rows
        self.num_rows, self.num_features, self.has_intercept = data.num_rows, data.num_features, centred
        self.feature_means, self.target_mean = means[:-1], float(means[-1])
        self.deviations, self.correlations = np.sqrt(squares[:-1] / self.num_rows), cross / self.num_rows
        d = self.num_features
        self.rows_of_gram, self.made = np.empty((d, d)), np.zeros(d, dtype=bool)
        self.rows_of_gram[range(d), range(d)] = squares[:-1] / self.num_rows

    @classmethod
    def of(cls, data: RegressionData | Moments, intercept: bool) -> TallRows | None:
        """Return the design of rows that are worth while; None for others.

        Rows are where they are more than the columns, these many, and their means, with an intercept, not above their
        deviations, so that no copy is centred.
        """
        if not isinstance(data, RegressionData) or not data.num_rows > data.num_features >= WIDE:
            return None
        n, features, target = data.num_rows, data.features, data.target
        with np.errstate(over="ignore", invalid="ignore"):  # the moments refuse them by name
            ones, means = np.ones(n), np.zeros(data.num_features + 1)
            if intercept:
                means[:-1], means[-1] = ones @ features, ones @ target
                means /= n
            between = n * np.square(means)
            squares = np.append(np.einsum("ij,ij->j", features, features), target @ target) - between
            cross = target @ features - n * means[-1] * means[:-1]
        return cls(data, means, cross, squares, intercept) if are_near(between, squares) else None

    @cached_property
    def moments(self) -> Moments:
        """All second moments, with a factor of the rows where their condition needs it."""
        moments = as_moments(self._data)
        return moments if self.has_intercept else moments.about_origin()

    @property
    def mean_square(self) -> float:
        """|yc|^2 / n."""
        return self._mean_square

    def make(self, columns: np.ndarray) -> None:
        """Make rows of the Gram."""
        features, means = self._data.features, self.feature_means

        def products(rows: slice, _: Callable[[], None]) -> np.ndarray:
            return features[rows][:, columns].T @ features[rows]

        pieces = min(max(features.size // _PIECE_NUMBERS, _FEWEST_PIECES), _MOST_PIECES)
        sums = functools.reduce(np.add, in_parallel(products, even_slices(self.num_rows, pieces)))
        self.rows_of_gram[columns] = sums / self.num_rows - means[columns, None] * means
        self.made[columns] = True

    def make_all(self) -> None:
        """Make all rows of the Gram."""
        fill_gram(self._data.features, self.rows_of_gram)
        self.rows_of_gram /= self.num_rows
        dger(-1.0, self.feature_means, self.feature_means, a=self.rows_of_gram.T, overwrite_a=1)
        self.made[:] = True

    def residuals(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |yc - Xc w|^2 / n `(m,)` and Xc'(yc - Xc w) / n `(m, d)` of weights `(m, d)`."""
        used = np.flatnonzero(weights.any(axis=0))
        if not self.made[used].all() or self._loses_digits(used):
            return super().residuals(weights)
        weights = weights[:, used]
        cross = self.correlations - weights @ self.rows_of_gram[used]
        fitted = np.einsum("ij,ij->i", weights, (self.correlations + cross)[:, used])
        return np.maximum(self.mean_square - fitted, 0.0), cross

    def _loses_digits(self, used: np.ndarray) -> bool:
        """Tell whether of some columns and the target a factor has digits that the second moments have not."""
        scatter = np.empty((used.size + 1, used.size + 1))
        scatter[:-1, :-1] = self.rows_of_gram[np.ix_(used, used)]
        scatter[-1, :-1] = scatter[:-1, -1] = self.correlations[used]
        scatter[-1, -1] = self.mean_square
        return is_ill_conditioned(scatter)
