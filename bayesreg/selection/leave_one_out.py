"""Leave-one-out along a path: exact losses, and beside them what importance sampling makes of one posterior.

Ridge has them in closed form (`bayesreg.paths.ridge_path`), lasso and elastic net too as long as a row does not change
the set (`bayesreg.paths.left_out_rows`). For the chosen
strength, Pareto-smoothed importance sampling estimates the expected log predictive density of a row left out from the
posterior given all rows, with a diagnostic k of each row that says whether it can. Under a Gaussian prior the exact one
is beside:

    log N(y_i; mean without i, s^2 / (1 - h_i)),        y_i - mean without i = r_i / (1 - h_i).

Source: Vehtari, Gelman and Gabry, Statistics and Computing 27 (2017).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from bayesreg.computing.threads import one_thread
from bayesreg.data import RegressionData
from bayesreg.model import LinearRegression
from bayesreg.paths.centred_design import CentredDesign, centred_design
from bayesreg.paths.lasso_path import LARGEST_GAP
from bayesreg.paths.left_out_rows import LeftOutRows
from bayesreg.paths.path_of_fits import Path
from bayesreg.paths.penalty_path import fit_all
from bayesreg.sampling import sample
from bayesreg.selection.cross_validation import cross_validate, smallest
from bayesreg.warnings import ConvergenceWarning

# Rows beyond which n fits take too long, and beyond which the pointwise likelihood of the draws is too large.
_MOST_REFITS, _MOST_ROWS = 5000, 5000
_LARGEST_KHAT = 0.7


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The leave-one-out losses, and the predictive density at the chosen strength.

    Attributes:
        lambdas: `(m,)`.
        loss: Mean of half the squared leave-one-out residual, `(m,)`.
        errors: Half the squared leave-one-out residuals at the best strength, `(n,)`.
        elpd: The expected log predictive density there, exactly, the sum over rows; None but for l2.
        psis_elpd: The same by Pareto-smoothed importance sampling; None where it was not made.
        psis_standard_error: Its standard error over rows.
        psis_khat: The diagnostic k of each row, `(n,)`; above 0.7 its term is not to be trusted.
    """

    lambdas: torch.Tensor
    loss: torch.Tensor
    errors: torch.Tensor
    elpd: float | None = None
    psis_elpd: float | None = None
    psis_standard_error: float | None = None
    psis_khat: torch.Tensor | None = None

    @property
    def best(self) -> int:
        """The index of the smallest loss; of several, of the largest strength."""
        return smallest(self.lambdas, self.loss)

    @property
    def standard_error(self) -> float:
        """The standard error of the loss at the best strength."""
        return float(self.errors.std() / math.sqrt(len(self.errors))) if len(self.errors) > 1 else math.nan

    @property
    def note(self) -> str:
        """What importance sampling says, in a line."""
        if self.psis_khat is None:
            return ""
        exact = "" if self.elpd is None else f" (exactly {self.elpd:.2f})"
        bad = int((self.psis_khat > _LARGEST_KHAT).sum())
        return f"elpd by PSIS {self.psis_elpd:.2f}{exact}, {bad} of {len(self.psis_khat)} rows with k > {_LARGEST_KHAT}"


def leave_one_out(path: Path, data: RegressionData) -> LeaveOneOut:
    """Leave every row out once, exactly, at every strength of a path.

    Args:
        path: The path on these rows.
        data: The rows.

    Returns:
        The losses.

    Raises:
        ValueError: If there are more than 5,000 rows to fit without, one after the other: for lasso and elastic net,
            where columns depend on each other or are not fewer than the rows.

    Warns:
        ConvergenceWarning: If float64 does not reach a relative gap of 1e-10 in some fit.
    """
    n = data.num_rows
    if path.kind == "l2":
        loss = path.leave_one_out / 2.0
        best = smallest(path.lambdas, loss)
        return LeaveOneOut(path.lambdas, loss, path.leave_one_out_rows(best)[0].square() / 2.0)
    design = centred_design(data, path.has_intercept)
    if not design.from_rows:
        return _from_fits_to_all_rows(path, data, design)
    if n > _MOST_REFITS:
        raise ValueError(
            f"method 'loo' of kind {path.kind!r} fits once a row where columns depend on each other or are not fewer "
            f"than the rows, at most {_MOST_REFITS:,} times, got {n:,} rows: 'cv' answers the same question"
        )
    ratio = path.l1_ratio if path.kind == "elasticnet" else 0.5
    found = cross_validate(data, path.kind, path.lambdas, folds=n, l1_ratio=ratio, intercept=path.has_intercept)
    return LeaveOneOut(path.lambdas, found.loss, found.fold_losses[:, found.best])


@one_thread()
def _from_fits_to_all_rows(path: Path, data: RegressionData, design: CentredDesign) -> LeaveOneOut:
    """Return the losses of lasso or elastic net without n fits (`bayesreg.paths.left_out_rows`)."""
    lambdas = path.lambdas.numpy()
    order = np.argsort(-lambdas, kind="stable")
    descending, ratio = lambdas[order], path.l1_ratio
    rows = LeftOutRows(data, design, descending * ratio, descending * (1.0 - ratio))
    # The penalty of n - 1 rows, in the units of n.
    fits = fit_all(design, path.kind, descending * (1.0 - 1.0 / data.num_rows), ratio)
    losses, errors = np.empty(len(lambdas)), np.empty(0)
    for index, weights in enumerate(fits.weights):
        halves = np.square(rows.residuals(index, weights)) / 2.0
        losses[order[index]] = loss = halves.mean()
        if index == 0 or loss < errors.mean():  # of several, the largest strength
            errors = halves
    if not rows.largest_gap <= LARGEST_GAP:
        message = f"a fit of leave-one-out has a relative gap of {rows.largest_gap:.1e} (threshold {LARGEST_GAP:g})"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    return LeaveOneOut(path.lambdas, torch.from_numpy(losses), torch.from_numpy(errors))


def with_importance_sampling(curve: LeaveOneOut, path: Path, data: RegressionData, seed: int) -> LeaveOneOut:
    """Add the predictive density at the best strength, by importance sampling and, for l2, exactly.

    Args:
        curve: The losses.
        path: The path on these rows.
        data: The rows.
        seed: Seeds the draws.

    Returns:
        The losses with it; without it where there are too many rows, or the noise scale is neither given nor can be
        estimated.
    """
    noise = _noise_scale(path)
    if noise is None or data.num_rows > _MOST_ROWS:
        return curve
    density = None
    if path.kind == "l2":
        residuals, freedom = path.leave_one_out_rows(curve.best)
        variance = noise**2 / freedom
        density = float((-0.5 * ((2.0 * math.pi * variance).log() + residuals.square() / variance)).sum())
    model = LinearRegression(path.prior(curve.best), noise, path.has_intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the k of each row is reported
        from arviz_stats import loo  # takes a second

        found = loo(sample(model, data, seed=seed).to_datatree(), pointwise=True)
    khat = torch.tensor(np.asarray(found.pareto_k), dtype=torch.float64)
    return replace(
        curve, elpd=density, psis_elpd=float(found.elpd), psis_standard_error=float(found.se), psis_khat=khat
    )


def _noise_scale(path: Path) -> float | None:
    try:
        return path.noise_scale
    except ValueError:
        return None
