"""Ridge fits for many strengths from one decomposition, with what is exact about each: bands, evidence, leave-one-out.

    J(w) = |yc - Xc w|^2 / (2 n) + lambda |w|^2 / 2

With Xc = U S V', c = U'yc, and e the squared length of yc outside the span, each fit is a shrinkage of the coordinates,
f_i = S_i^2 / (S_i^2 + n lambda):

    w = V diag(f / S) c,       |yc - Xc w|^2 = e + sum_i (1 - f_i)^2 c_i^2,       df = sum_i f_i,
    var(w_j) = s^2 [ sum_i V_ji^2 / (S_i^2 + n lambda) + (1 - sum_i V_ji^2) / (n lambda) ],
    leave-one-out residual = r_i / (1 - 1/n - sum_k U_ik^2 f_k)        (1/n only with an intercept).

Sources: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), sections 3.4 and 7.10; Golub,
Heath and Wahba, Technometrics 21 (1979), for GCV.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayesreg.computing.singular_values import WELL_CONDITIONED
from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.data import RegressionData
from bayesreg.design_spectrum import DesignSpectrum
from bayesreg.evidence import log_evidence_of_sums
from bayesreg.paths.centred_design import CentredDesign

# Rows of the leave-one-out errors that are worked on at once, times strengths.
_NUMBERS_AT_ONCE = 2**18
_UNIT_ROUNDOFF = np.finfo(np.float64).eps / 2
# A bound of the gap that is below this needs not be sharper.
_FAR_BELOW = 1e-16


@dataclass(frozen=True, eq=False)
class RidgeFits:
    """Ridge at strengths `(m,)`, as NumPy arrays.

    Attributes:
        spectrum: The decomposition.
        lambdas: Strengths, at least 0; at 0 the least-squares fit of minimum norm.
        divisors: S_i^2 + n lambda, `(m, r)`.
        kept: 1 - f, made without a difference, `(m, r)`.
        weights: `(m, d)`.
        misfits: e + sum_i (1 - f_i) c_i^2, twice n times the minimum of J, `(m,)`.
        mean_squares: |yc - Xc w|^2 / n, `(m,)`.
        gaps: What J lies above its minimum by at most, over J(0), `(m,)`.
    """

    spectrum: DesignSpectrum
    lambdas: np.ndarray
    divisors: np.ndarray
    kept: np.ndarray
    weights: np.ndarray
    misfits: np.ndarray
    mean_squares: np.ndarray
    gaps: np.ndarray

    @property
    def shrinkage(self) -> np.ndarray:
        """F, `(m, r)`."""
        return np.square(self.spectrum.singular_values) / self.divisors

    @one_thread()
    def variances(self, noise_scale: float) -> np.ndarray:
        """Return the posterior variances of the weights, `(m, d)`; infinite at 0 where the rank is short."""
        spectrum, rank, noise = self.spectrum, self.spectrum.rank, noise_scale**2
        if rank == spectrum.num_features:
            return (noise / self.divisors) @ np.square(spectrum.basis).T
        # One more coordinate: what of a column lies outside the span.
        shares, scales = np.empty((rank + 1, spectrum.num_features)), np.zeros((len(self.lambdas), rank + 1))
        spectrum.squared_basis(out=shares[:rank])
        outside = np.maximum(1.0 - np.ones(rank) @ shares[:rank], 0.0)
        outside[outside < 64 * np.finfo(np.float64).eps] = 0.0
        shares[rank] = outside
        np.divide(noise, self.divisors, out=scales[:, :rank])
        positive = self.lambdas > 0.0
        np.divide(noise / spectrum.num_rows, self.lambdas, out=scales[:, rank], where=positive)
        variances = scales @ shares
        if not positive.all():
            variances[np.ix_(~positive, outside > 0.0)] = np.inf
        return variances

    def degrees_of_freedom(self) -> np.ndarray:
        """Return sum_i f_i, `(m,)`: the trace of the matrix that takes yc to its fit, the intercept not counted."""
        return self.shrinkage.sum(axis=1)

    def log_evidence(self, noise_scale: float) -> np.ndarray:
        """Return log p(y | s, t = s / sqrt(n lambda)), the intercept integrated against 1, `(m,)`; -inf at 0."""
        with np.errstate(divide="ignore", over="ignore"):  # a strength that underflows; a noise scale near 0
            volume = -np.log(self.kept).sum(axis=1)
            squared_error = self.misfits / noise_scale / noise_scale  # their square could underflow
        spectrum = self.spectrum
        degrees = spectrum.degrees_of_freedom
        evidence = log_evidence_of_sums(spectrum, volume, squared_error, math.log(noise_scale), degrees)
        return np.where(self.lambdas > 0.0, evidence, -np.inf)  # of rank 0 too, where no sum says so

    def generalised_cross_validation(self) -> np.ndarray:
        """Return (|r|^2 / n) / (1 - (df + 1) / n)^2, the 1 with an intercept only, `(m,)`; inf where that is 0 / 0."""
        spectrum = self.spectrum
        free = spectrum.degrees_of_freedom - spectrum.rank + self.kept.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = self.mean_squares / np.square(free / spectrum.num_rows)
        return np.where(np.isnan(score), np.inf, score)

    def leave_one_out(self, data: RegressionData, design: CentredDesign) -> np.ndarray:
        """Return the mean square of the leave-one-out residuals, exactly, `(m,)`.

        Args:
            data: The rows.
            design: Their centred design.

        Returns:
            The errors; infinite where a row alone determines a direction.
        """

        def sum_of_squares(residuals: np.ndarray, _: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", residuals, residuals)

        return np.sum(self._of_blocks(data, design, slice(None), sum_of_squares), axis=0) / self.spectrum.num_rows

    def leave_one_out_rows(
        self, data: RegressionData, design: CentredDesign, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the leave-one-out residual of every row at one strength, and 1 - h, `(n,)` each."""
        return tuple(
            np.concatenate(self._of_blocks(data, design, [index], lambda *of_rows: np.concatenate(of_rows)), axis=1)
        )

    @one_thread()
    def _of_blocks(
        self,
        data: RegressionData,
        design: CentredDesign,
        which: slice | list[int],
        use: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> list[np.ndarray]:
        """Return what is made of the leave-one-out residuals and 1 - h of blocks of rows, `(m, rows)` each."""
        spectrum, n = self.spectrum, self.spectrum.num_rows
        left_vectors = design.left_vectors(data)
        projections, lambdas = spectrum.projections, self.lambdas[which]
        # Where the span holds everything nothing is outside, and what would be seen there is rounding.
        rank, own = spectrum.rank, 1.0 / n if spectrum.has_intercept else 0.0
        full = rank == spectrum.degrees_of_freedom
        kept = np.ones((len(lambdas), rank + (not full)))
        kept[:, :rank] = self.kept[which]
        if full:  # residual and 1 - h go to 0 together with lambda: their ratio at 0 is that of their slopes
            kept[lambdas == 0.0] = 1.0 / np.square(spectrum.singular_values)
        step, least = max(1, _NUMBERS_AT_ONCE // max(*kept.shape, 1)), int(kept.sum(axis=1).argmin())

        def of_block(first: int, go_on: Callable[[], None]) -> np.ndarray:
            go_on()
            rows = slice(first, first + step)
            left = left_vectors(rows)
            of_coordinates = np.empty((2, kept.shape[1], left.shape[1]))  # a row of the data a column: long loops
            np.multiply(left, projections[:, None], out=of_coordinates[0, :rank])
            squares = np.square(left, out=of_coordinates[1, :rank])
            if not full:  # one more coordinate, of which all is kept: what lies outside the span
                of_coordinates[0, rank] = data.target[rows] - design.target_mean - projections @ left
                of_coordinates[1, rank] = np.maximum(1.0 - own - squares.sum(axis=0), 0.0)
            residuals, freedom = kept @ of_coordinates
            with np.errstate(divide="ignore", invalid="ignore"):
                residuals /= freedom
            if not freedom[least].all():  # where anything is 0, it is so there
                residuals[np.isnan(residuals)] = np.inf
            return use(residuals, freedom)

        return in_parallel(of_block, range(0, n, step))


def fit_ridge(design: CentredDesign, lambdas: np.ndarray) -> RidgeFits:
    """Fit at every strength.

    Args:
        design: The data.
        lambdas: Strengths `(m,)`, at least 0.

    Returns:
        The fits.
    """
    spectrum, n, null = design.spectrum, design.num_rows, design.mean_square or 1.0
    values, projections = spectrum.singular_values, spectrum.projections
    ridge = n * lambdas[:, None]
    divisors = np.square(values) + ridge
    kept = ridge / divisors
    # Not from the weights: second moments make a small residual a difference of large numbers.
    squares = np.square(projections)
    misfits = spectrum.residual + kept @ squares
    mean_squares = (spectrum.residual + np.square(kept) @ squares) / n
    # A sum over rows loses the digits by which the longest direction is longer than the shortest.
    few_rows = spectrum.left is not None and len(spectrum.left) <= design.num_features
    if few_rows and spectrum.rank and values[0] < WELL_CONDITIONED * values[-1]:
        weights, gaps = _through_rows(design.root, spectrum, projections / divisors, ridge)
        gaps /= null
    else:
        weights = (values * projections / divisors) @ spectrum.basis.T
        gaps = _excess(design, weights, lambdas) / null
    coarse = (~(gaps <= _FAR_BELOW)).nonzero()[0]
    if coarse.size:
        gaps[coarse] = _excess(design, weights[coarse], lambdas[coarse], divisors[coarse]) / null
    return RidgeFits(spectrum, lambdas, divisors, kept, weights, misfits, mean_squares, gaps)


def _through_rows(
    root: np.ndarray, spectrum: DesignSpectrum, coordinates: np.ndarray, ridge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return w = Xc'a, a = (Xc Xc' + n lambda I)^-1 yc within the span, and a bound of twice J's excess: (m, d), (m,).

    At the dual point n lambda a + o, o what of yc lies outside the span, the duality gap is, exactly and whatever w, a
    and o are,

        |yc - Xc w - n lambda a - o|^2 / (2 n) + |Xc'o / n + lambda (Xc'a - w)|^2 / (2 lambda).

    Where the products Xc Xc' are at hand, Xc w is taken for Xc Xc'a, and w - Xc'a for as long as the rounding of a sum
    can make it; that of the gap's own arithmetic, which ends in squares of eps, is not counted.
    """
    features, target, left, products = root[:, :-1], root[:, -1], spectrum.left, spectrum.row_products
    coefficients = coordinates @ left.T
    weights = coefficients @ features
    misfit = target - (weights @ features.T if products is None else coefficients @ products)
    misfit -= ridge * coefficients
    ridge = ridge[:, 0]
    if products is not None:  # of all the rank there can be: o = 0
        longest = spectrum.singular_values[0]
        sizes = longest * math.sqrt(products.trace()) * coefficients  # as long as the target, so that squares have room
        rounding = len(root) * _UNIT_ROUNDOFF * np.sqrt(np.einsum("ij,ij->i", sizes, sizes))
        along = np.sqrt(np.einsum("ij,ij->i", misfit, misfit)) + rounding
        return weights, (np.square(along) + np.square(np.sqrt(ridge) / longest * rounding)) / spectrum.num_rows
    bounds = 0.0
    if spectrum.residual:
        outside = target - left @ (left.T @ target)
        misfit -= outside
        correlation = outside @ features
        with np.errstate(divide="ignore", invalid="ignore"):  # no bound at 0
            bounds = correlation @ correlation / ridge
    return weights, (np.einsum("ij,ij->i", misfit, misfit) + bounds) / spectrum.num_rows


def _excess(
    design: CentredDesign, weights: np.ndarray, lambdas: np.ndarray, divisors: np.ndarray | None = None
) -> np.ndarray:
    """Return a bound of twice J's excess over its minimum: the gradient's square in the inverse Hessian's metric, (m,).

    Without the divisors the metric is taken for 1 / lambda, which is above it; with them, for what it is.
    """
    gradient = design.residuals(weights)[1]
    gradient -= lambdas[:, None] * weights
    squares = np.einsum("ij,ij->i", gradient, gradient)
    if divisors is None:
        return np.divide(squares, lambdas, out=np.full_like(squares, np.inf), where=lambdas > 0.0)
    spectrum = design.spectrum
    along = np.square(gradient @ spectrum.basis)
    excess = spectrum.num_rows * (along / divisors).sum(axis=1)
    if spectrum.rank < design.num_features:
        rest = np.maximum(squares - along.sum(axis=1), 0.0)
        excess += np.divide(rest, lambdas, out=np.zeros_like(rest), where=lambdas > 0.0)
    return excess
