"""Cross-validation of the strength: the folds' moments from one pass, a certified path for each.

The rows of a fold are left out of the sums, not subtracted from them, so that nothing cancels: without a fold are the
folds of the other half, those of the other quarter of its own half, and so on. The errors are made from the sums over
the rows left out, and from these rows where an error is so small beside the target that the sums have not its digits.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import KFold

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.progress import progress_bar
from bayesreg.computing.row_sums import RowSums, sum_up_parts
from bayesreg.data import RegressionData, require_rows
from bayesreg.moments import Moments
from bayesreg.paths.centred_design import CentredDesign, centred_design
from bayesreg.paths.lambdas import checked_lambdas, checked_ratio, default_lambdas
from bayesreg.paths.lasso_path import LARGEST_GAP
from bayesreg.paths.penalty_path import fit_all
from bayesreg.warnings import ConvergenceWarning

# The sums of so many folds are held at once; of more, they are made when needed.
_FEW_FOLDS = 32
# A held-out mean square below this share of what it is the difference of is made from rows: rounding of the sums, some
# 1e-15 of those, then is below 1e-10 of it.
_SMALLEST_SHARE = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Held-out losses of every strength in every fold, float64, in squared units of the target.

    Attributes:
        kind: "l2", "l1" or "elasticnet".
        lambdas: `(m,)`, canonical.
        fold_losses: |y - Xw - b|^2 / (2 rows) over the rows left out, `(folds, m)`.
        fold_sizes: Number of rows left out, `(folds,)`.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> br.cross_validate(data, "l2", folds=5)
        CrossValidation(l2, 5 folds, best lambda 0.00565, loss 0.2508)
    """

    kind: Literal["l2", "l1", "elasticnet"]
    lambdas: torch.Tensor
    fold_losses: torch.Tensor
    fold_sizes: torch.Tensor

    def __repr__(self) -> str:
        best = f"best lambda {float(self.lambdas[self.best]):.3g}, loss {float(self.loss[self.best]):.4g}"
        return f"CrossValidation({self.kind}, {len(self.fold_sizes)} folds, {best})"

    @property
    def loss(self) -> torch.Tensor:
        """The mean over all rows of half the squared held-out error, `(m,)`."""
        return self.fold_sizes.double() @ self.fold_losses / self.fold_sizes.sum()

    @property
    def standard_error(self) -> torch.Tensor:
        """The standard deviation (divisor folds - 1) of the folds' losses over the root of their number, `(m,)`.

        Each fold counts alike, whatever its size. As the folds share rows to fit on, it is a rough one.
        """
        return self.fold_losses.std(0) / len(self.fold_sizes) ** 0.5

    @property
    def best(self) -> int:
        """The index of the strength of the smallest loss; of several, the largest strength."""
        return smallest(self.lambdas, self.loss)

    @property
    def one_standard_error(self) -> int:
        """The index of the largest strength whose loss is within a standard error of the smallest.

        Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), section 3.4.3.
        """
        within = self.loss <= (self.loss + self.standard_error)[self.best]
        return int(torch.where(within, self.lambdas, -1.0).argmax())

    def to_frame(self) -> pd.DataFrame:
        """Return one row a strength: lambda, loss, and its standard error.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.cross_validate(data, "l2", [0.1, 0.01], folds=5).to_frame().round(3)
               lambda   loss  standard_error
            0    0.10  0.251           0.009
            1    0.01  0.251           0.011
        """
        columns = {"lambda": self.lambdas, "loss": self.loss, "standard_error": self.standard_error}
        return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def cross_validate(
    data: RegressionData,
    kind: Literal["l2", "l1", "elasticnet"] = "l2",
    lambdas: Sequence[float] | np.ndarray | torch.Tensor | None = None,
    *,
    folds: int = 10,
    seed: int = 0,
    l1_ratio: float = 0.5,
    intercept: bool = True,
    progress: bool = False,
) -> CrossValidation:
    """Return the held-out loss of every strength, by leaving out one fold of the rows after the other.

    The fit without a fold minimises |y - Xw - b|^2 / (2 n) + lambda R(w) over the n rows left (see `path`); its loss is
    |y - Xw - b|^2 / (2 rows) over those of the fold. Source: Stone, Cross-validatory choice and assessment of
    statistical predictions, JRSS B 36 (1974).

    Lambda is held, as in scikit-learn and glmnet: beside fewer rows it stands for a slightly wider prior.

    Args:
        data: The rows; where there is an intercept, columns are centred anew for every fold; they are not scaled anew.
        kind: "l2", "l1" or "elasticnet".
        lambdas: Canonical strengths; None: those of `path` on all rows.
        folds: Number of folds, at least 2; the number of rows leaves out one at a time.
        seed: Seeds the assignment of rows to folds (scikit-learn's `KFold` with shuffling).
        l1_ratio: The share of the L1 term of an elastic net.
        intercept: Whether there is an intercept.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook.

    Returns:
        The `CrossValidation`.

    Raises:
        TypeError: If the data are not rows, or an argument is of another type.
        ValueError: If the kind is unknown, or a strength or the number of folds out of range.

    Warns:
        ConvergenceWarning: If float64 does not reach a relative gap of 1e-10 in some fit.

    Example:
        >>> import bayesreg as br
        >>> found = br.cross_validate(br.load_diabetes().standardized(), "l1", folds=10, seed=0)
        >>> found.fold_losses.shape, bool(found.lambdas[found.best] <= found.lambdas[found.one_standard_error])
        (torch.Size([10, 100]), True)
    """
    ratio = checked_ratio(kind, l1_ratio)
    rows = require_rows(data, "cross_validate")
    if not isinstance(intercept, bool | np.bool_):
        raise TypeError(f"intercept must be True or False, got {intercept!r}")
    if check_whole_number(seed, "seed", 0) >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {seed}")
    folds = check_whole_number(folds, "folds", 2)
    if folds > rows.num_rows:
        raise ValueError(f"folds must be at most the number of rows, {rows.num_rows}, got {folds}")
    if rows.num_rows - -(-rows.num_rows // folds) < 2:
        raise ValueError(f"data must leave at least 2 rows to fit on beside a fold, got {rows.num_rows} rows")
    design = centred_design(rows, intercept) if lambdas is None else None
    strengths = default_lambdas(design, kind, ratio) if lambdas is None else checked_lambdas(lambdas, kind)
    splitter = KFold(folds, shuffle=True, random_state=int(seed))
    held_out = [held for _, held in splitter.split(rows.features)]
    mean_squares, worst = np.empty((folds, len(strengths))), 0.0
    with progress_bar(progress, "cross-validation, folds", folds) as bar:
        for number, (design, held) in enumerate(_designs_without(rows, held_out, intercept)):
            fits = fit_all(design, kind, strengths, ratio)
            worst = float(np.maximum(worst, fits.gaps.max()))  # which a NaN does not leave as it was
            found, exact = _from_sums(fits.weights, design, held) if held else (np.empty(len(strengths)), False)
            rest = np.flatnonzero(~np.broadcast_to(exact, found.shape))
            found[rest] = _from_rows(fits.weights[rest], design, rows, held_out[number])
            mean_squares[number] = found
            bar.advance()
    if not worst <= LARGEST_GAP:
        message = f"a fit in cross_validate has a relative gap of {worst:.1e} (threshold {LARGEST_GAP:g})"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    sizes = torch.tensor([len(held) for held in held_out])
    return CrossValidation(kind, torch.from_numpy(strengths), torch.from_numpy(mean_squares / 2.0), sizes)


def smallest(lambdas: torch.Tensor, loss: torch.Tensor) -> int:
    """Return the index of the smallest loss; of several, that of the largest strength."""
    return int(torch.where(loss == loss.min(), lambdas, -1.0).argmax())


def _from_rows(weights: np.ndarray, design: CentredDesign, data: RegressionData, held_out: np.ndarray) -> np.ndarray:
    """Return the mean square of the errors of held-out rows, `(m,)`."""
    if not len(weights):
        return np.empty(0)
    used = weights.any(axis=0)
    intercepts = design.target_mean - weights @ design.feature_means
    fitted = weights[:, used] @ data.features[held_out][:, used].T
    return np.square(data.target[held_out] - fitted - intercepts[:, None]).mean(axis=1)


def _from_sums(weights: np.ndarray, design: CentredDesign, held: RowSums) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean square of held-out errors, |yc - Xc w|^2 / n + (mean error)^2, `(m,)`, and where digits suffice.

    The means of fit and held-out rows are about one pivot: an offset of all of them does not enter.
    """
    used = np.append(np.flatnonzero(weights.any(axis=0)), weights.shape[1])
    combination = np.column_stack([-weights[:, used[:-1]], np.ones(len(weights))])  # of the columns [X, y]
    scatter = held.scatter[np.ix_(used, used)] / held.num_rows
    fitted = combination.copy()
    fitted[:, -1] = 0.0
    means = held.offsets - design.moments.offsets if design.has_intercept else design.moments.pivot + held.offsets
    bias = combination @ means[used]
    squares = ((combination @ scatter) * combination).sum(axis=1) + np.square(bias)
    parts = (
        ((fitted @ scatter) * fitted).sum(axis=1)
        + scatter[-1, -1]
        + np.square(np.abs(combination) @ np.abs(means[used]))
    )
    return squares, squares > _SMALLEST_SHARE * parts


def _designs_without(
    data: RegressionData, parts: list[np.ndarray], intercept: bool
) -> Iterator[tuple[CentredDesign, RowSums | None]]:
    """Yield the design of all rows but those of a part, and the sums over the part where they are held."""
    whole = centred_design(data, intercept)
    if whole.from_rows:  # rows of many columns, or such as their second moments would not do justice to
        for number in range(len(parts)):
            kept = np.concatenate(parts[:number] + parts[number + 1 :])
            rows = RegressionData(data.features[kept], data.target[kept], data.feature_names)
            yield centred_design(rows, intercept), None
        return
    pivot = np.append(data.features[0], data.target[0])
    sums = sum_up_parts(data, pivot, parts) if len(parts) <= _FEW_FOLDS else None

    def total(first: int, last: int) -> RowSums:
        if sums is not None:
            return functools.reduce(RowSums.merged, sums[first:last])
        return sum_up_parts(data, pivot, [np.concatenate(parts[first:last])])[0]

    def without(first: int, last: int, others: RowSums | None) -> Iterator[RowSums]:
        """Yield the sums without each of some folds, given those without all of them: half by half."""
        if last - first == 1:
            yield others
            return
        middle = (first + last) // 2
        for near, far in (((first, middle), (middle, last)), ((middle, last), (first, middle))):
            beside = total(*far)
            yield from without(*near, beside if others is None else others.merged(beside))

    for number, rest in enumerate(without(0, len(parts), None)):
        moments = Moments(rest.num_rows, pivot, rest.offsets, rest.scatter, data.feature_names)
        held = None if sums is None else sums[number]
        yield CentredDesign(moments if intercept else moments.about_origin()), held
