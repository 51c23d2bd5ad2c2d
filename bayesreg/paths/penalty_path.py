"""The whole lambda axis: the penalised fit at every strength, its certificate, and the prior that it stands for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np
import torch

from bayesreg.computing.threads import one_thread
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.paths.centred_design import CentredDesign, centred_design
from bayesreg.paths.lambdas import checked_lambdas, checked_number, checked_ratio, default_lambdas
from bayesreg.paths.lasso_path import LARGEST_GAP, FittedPath, fit_path
from bayesreg.paths.path_of_fits import Path
from bayesreg.paths.ridge_path import RidgeFits, fit_ridge
from bayesreg.paths.tall_rows import TallRows
from bayesreg.warnings import ConvergenceWarning


def path(
    data: RegressionData | Moments,
    kind: Literal["l2", "l1", "elasticnet"] = "l2",
    lambdas: Sequence[float] | np.ndarray | torch.Tensor | None = None,
    *,
    l1_ratio: float = 0.5,
    noise_scale: float | None = None,
    intercept: bool = True,
) -> Path:
    """Fit at every strength lambda, with a certificate for each.

        J(w) = |y - Xw - b|^2 / (2 n) + lambda R(w),    R = |w|^2 / 2, |w|_1, or r |w|_1 + (1 - r) |w|^2 / 2

    L2 comes from one decomposition (`bayesreg.paths.ridge_path`), L1 from the knots of its path
    (`bayesreg.paths.homotopy`). Sources are there.

    Args:
        data: Rows or `Moments`.
        kind: "l2" (ridge), "l1" (lasso) or "elasticnet".
        lambdas: Strengths in the canonical convention, in any order: positive, for l2 at least 0. None: 100 of them,
            evenly in their logarithm: from the least that holds all weights at 0 to a thousandth of it (a hundredth
            where n <= d); for l2 from where nearly all is shrunk away to where the fit hardly changes.
        l1_ratio: r, the share of the L1 term of an elastic net, above 0 and below 1.
        noise_scale: The noise scale s, in the units of the target, that prior scales, variances and evidence refer to;
            None: see `Path.noise_scale`.
        intercept: Whether there is an intercept, unpenalised.

    Returns:
        The `Path`.

    Raises:
        TypeError: If the data are neither rows nor moments, or an argument is of another type.
        ValueError: If the kind is unknown, a strength or the noise scale out of range.

    Warns:
        ConvergenceWarning: If float64 does not reach a relative gap of 1e-10 at some strength.

    Example:
        >>> import bayesreg as br
        >>> lasso = br.path(br.load_diabetes().standardized(), "l1", noise_scale=0.7)
        >>> lasso.weights.shape, float(lasso.relative_gaps.max()) < 1e-10
        (torch.Size([100, 10]), True)
        >>> lasso.num_nonzero[[1, 30, 99]].tolist(), lasso.prior(30)
        ([2, 5, 10], LaplacePrior(scale=0.0153332...))
    """
    ratio = checked_ratio(kind, l1_ratio)
    if not isinstance(intercept, bool | np.bool_):
        raise TypeError(f"intercept must be True or False, got {intercept!r}")
    if noise_scale is not None:
        noise_scale = checked_number(noise_scale, "noise_scale", "a positive number")
        if not 0.0 < noise_scale < np.inf:
            raise ValueError(f"noise_scale must be positive and finite, got {noise_scale!r}")
    with one_thread():
        design = TallRows.of(data, bool(intercept)) if kind == "l1" else None
        design = design or centred_design(data, bool(intercept))
        given = default_lambdas(design, kind, ratio) if lambdas is None else checked_lambdas(lambdas, kind)
        fits = fit_all(design, kind, given, ratio)
        intercepts = design.target_mean - fits.weights @ design.feature_means
    weights, gaps = fits.weights, fits.gaps
    if not (gaps <= LARGEST_GAP).all():
        worst = int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps)))
        warnings.warn(
            f"{int((~(gaps <= LARGEST_GAP)).sum())} of {len(gaps)} fits have a relative gap above {LARGEST_GAP:g}: the "
            f"largest is {gaps[worst]:.1e}, at lambda = {given[worst]:.3g}",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Path(
        kind=kind,
        lambdas=torch.from_numpy(given),
        weights=torch.from_numpy(weights),
        intercepts=torch.from_numpy(intercepts),
        losses=torch.from_numpy(fits.mean_squares / 2.0),
        relative_gaps=torch.from_numpy(gaps),
        l1_ratio=ratio,
        data=data,
        has_intercept=bool(intercept),
        transform=data.transform,
        _design=design,
        _noise_scale=noise_scale,
        _ridge=fits if kind == "l2" else None,
    )


@one_thread()  # many products of vectors, which would wait for a second thread longer than they take
def fit_all(design: CentredDesign, kind: str, lambdas: np.ndarray, l1_ratio: float) -> RidgeFits | FittedPath:
    """Return the fits at strengths in any order, as arrays."""
    if kind == "l2":
        return fit_ridge(design, lambdas)
    order = np.argsort(-lambdas, kind="stable")
    descending = lambdas[order]
    fits = fit_path(design, descending * l1_ratio, descending * (1.0 - l1_ratio))
    if np.array_equal(order, np.arange(len(order))):
        return fits
    back = np.argsort(order)
    return FittedPath(*(getattr(fits, item.name)[back] for item in fields(fits)))
