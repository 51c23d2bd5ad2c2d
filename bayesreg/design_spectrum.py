"""The singular value decomposition of a design, with the target in its coordinates, from rows or second moments.

    Xc D = U S V',      c = U'(yc - Xc m),      e = |yc - U U'yc|^2,

D and m the relative scales and the loc of a prior. Where the singular values are near each other they and V are had
from the eigenvectors of D Xc'Xc D, in which they are squared; else from a root of the second moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from bayesreg.computing.products import product_of
from bayesreg.computing.singular_values import (
    WELL_CONDITIONED,
    decomposition_of_few_rows,
    decomposition_of_products,
    singular_value_decomposition,
)
from bayesreg.computing.square_roots import reciprocal_condition
from bayesreg.computing.threads import one_thread
from bayesreg.moments import Moments

# The share of the target from which on a residual is had as a difference of squares.
_CLEAR_RESIDUAL = 1e-3
# From so many columns on, eigenvectors that will not do are worth avoiding. The condition number in the 1-norm, soon
# had, is some 2 to 30 times the one that counts.
_MANY, _LIKELY = 150, 2.5

Numbers = TypeVar("Numbers")  # arrays, or tensors


@dataclass(frozen=True, eq=False)
class Spectrum(Generic[Numbers]):
    """The design and the target seen in the eigenbasis V of the prior's coordinates, in float64.

    Attributes:
        singular_values: S `(r,)`, descending, of Xc D.
        projections: c `(r,)`.
        residual: e, the squared length of the target outside the span; 0 where it is not above the rounding.
        rounding: The squared length that rounding alone can give the projections.
        lost_residual: The squared length of a residual that rounding may hide and rows would tell; 0 where none is.
        num_rows: n.
        num_features: d.
        has_intercept: Whether an intercept was profiled out, which is to integrate it out.
    """

    singular_values: Numbers
    projections: Numbers
    residual: float
    rounding: float
    lost_residual: float
    num_rows: int
    num_features: int
    has_intercept: bool

    @property
    def rank(self) -> int:
        """The number r of directions that the data see."""
        return len(self.singular_values)

    @property
    def degrees_of_freedom(self) -> int:
        """Nu: n - 1 with an intercept, n without."""
        return self.num_rows - (1 if self.has_intercept else 0)


@dataclass(frozen=True, eq=False)
class DesignSpectrum(Spectrum[np.ndarray]):
    """The decomposition, as arrays.

    Attributes:
        left: U `(k, r)`, in the rows of the root that was decomposed; None where none was.
        rows: Xc D `(k, d)`, where these few rows and well conditioned columns were decomposed by their products.
        row_products: Xc D D Xc' `(k, k)`, there.
    """

    _basis: np.ndarray | None = None
    left: np.ndarray | None = None
    rows: np.ndarray | None = None
    row_products: np.ndarray | None = None

    @cached_property
    def basis(self) -> np.ndarray:
        """V `(d, r)`; of few rows it is made where it is first asked for."""
        return self._basis_of_rows().T if self._basis is None else self._basis

    def squared_basis(self, out: np.ndarray) -> None:
        """Write the squares of V' into an array `(r, d)`; V itself is not made for it."""
        if self._basis is None and "basis" not in vars(self):
            np.square(self._basis_of_rows(out), out=out)
        else:
            np.square(self.basis.T, out=out)

    @one_thread()  # whoever asks for it
    def _basis_of_rows(self, out: np.ndarray | None = None) -> np.ndarray:
        return product_of((self.left / self.singular_values).T, self.rows, out)

    @classmethod
    @one_thread()
    def of(
        cls, moments: Moments, relative_scales: np.ndarray | None = None, prior_loc: np.ndarray | None = None
    ) -> DesignSpectrum:
        """Decompose the design of second moments.

        Args:
            moments: The data; centred for a model with an intercept, about the origin without.
            relative_scales: D `(d,)`, positive; None: ones.
            prior_loc: m `(d,)`; None: zeros.

        Returns:
            The spectrum.
        """
        if moments.factor is None:
            found = cls._of_products(moments, relative_scales, prior_loc)
            if found is not None:
                return found
        return cls.of_root(
            moments.square_root(), moments.num_rows, moments.centred, moments.factor is not None, relative_scales,
            prior_loc,
        )  # fmt: skip

    @classmethod
    def _of_products(
        cls, moments: Moments, relative_scales: np.ndarray | None, prior_loc: np.ndarray | None
    ) -> DesignSpectrum | None:
        """Decompose D Xc'Xc D, where that loses three digits at most; else return None."""
        products, cross, square = moments.Sxx, moments.Sxy, moments.Syy
        if relative_scales is not None:
            with np.errstate(over="ignore"):  # then they are not well conditioned
                products, cross = relative_scales[:, None] * products * relative_scales, relative_scales * cross
        d = moments.num_features
        squares = products.diagonal()
        if not squares.min() > squares.max() / WELL_CONDITIONED**2:
            return None
        graded = squares.max() / squares.min()
        if d >= _MANY and reciprocal_condition(products) * _LIKELY * WELL_CONDITIONED**2 < graded:
            return None
        found = decomposition_of_products(products)
        if found is None:
            return None
        values, basis = found
        projections = cross @ basis / values
        residual = square - float(projections @ projections)
        if not residual > _CLEAR_RESIDUAL * square:
            return None
        size = math.sqrt(square)
        if prior_loc is not None and prior_loc.any():
            pull = moments.Sxx @ prior_loc
            projections -= (pull if relative_scales is None else relative_scales * pull) @ basis / values
            size += float(np.sqrt(moments.Sxx.diagonal()) @ np.abs(prior_loc))
        rounding = float(_share_of_rounding(d, False) * size) ** 2
        return cls(values, projections, residual, rounding, 0.0, moments.num_rows, d, moments.centred, basis)

    @classmethod
    @one_thread()
    def of_root(
        cls,
        root: np.ndarray,
        num_rows: int,
        centred: bool,
        from_rows: bool,
        relative_scales: np.ndarray | None = None,
        prior_loc: np.ndarray | None = None,
    ) -> DesignSpectrum:
        """Decompose a design given by a root F of its second moments, F'F = [Xc yc]'[Xc yc].

        Args:
            root: F `(k, d + 1)`.
            num_rows: n.
            centred: Whether an intercept was profiled out.
            from_rows: Whether the root was made from rows, and not from their second moments.
            relative_scales: D `(d,)`, positive; None: ones.
            prior_loc: m `(d,)`; None: zeros.

        Returns:
            The spectrum.
        """
        num_features = root.shape[1] - 1
        features, observed = root[:, :-1], root[:, -1]
        design = features
        if relative_scales is not None and (relative_scales != 1.0).any():
            design = features * relative_scales
        degrees = num_rows - (1 if centred else 0)
        share = _share_of_rounding(num_features, from_rows)
        smallest = max(num_rows, num_features) * np.finfo(np.float64).eps if from_rows else share
        basis = rows = row_products = None
        found = decomposition_of_few_rows(design, degrees)
        if found is None:
            left, values, basis = singular_value_decomposition(design, degrees, smallest)
        else:
            (left, values, row_products), rows = found, design
        projections = left.T @ observed
        outside = observed - left @ projections
        # At full row rank nothing is outside, and nothing where the rows fit exactly; what is seen there is rounding,
        # which a small noise scale would blow up.
        size = math.sqrt(observed @ observed)
        residual, smallest = float(outside @ outside), float(share * size) ** 2
        blind = not from_rows and values.size < degrees and residual <= smallest
        if values.size >= degrees or residual <= smallest:
            residual = 0.0
        # The fit of the loc lies in the span: the residual is the target's own, and so is its rounding.
        if prior_loc is not None and prior_loc.any():
            projections = left.T @ (observed - features @ prior_loc)
            size += np.linalg.norm(features, axis=0) @ np.abs(prior_loc)
        rounding = float(share * size) ** 2
        return cls(
            values, projections, residual, rounding, smallest if blind else 0.0, num_rows, num_features, centred, basis,
            left, rows, row_products,
        )  # fmt: skip


def _share_of_rounding(num_features: int, from_rows: bool) -> float:
    """Return how long a residual can be, relative to the target, of which rounding tells nothing.

    A factor of the rows carries lengths to eps, second moments carry their squares.
    """
    rounding = 8 * (num_features + 1) * np.finfo(np.float64).eps
    return rounding if from_rows else math.sqrt(rounding)
