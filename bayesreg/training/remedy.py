"""What each remedy against overfitting hands back, so that they can be laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from bayesreg.computing.arrays import as_float64, read_only
from bayesreg.data import RegressionData, require_rows
from bayesreg.training.checks import check_test
from bayesreg.training.ridge_spectrum import RidgeSpectrum


@dataclass(frozen=True, eq=False)
class Remedy:
    """The fits of one remedy at K values of its knob, and the ridge fits beside them.

    Losses are RSS / 2n, strengths those of RSS / 2n + sum_j lambda_j w_j^2 / 2 (`mean-half-squared`), all float64 and
    in the units of the data.

    Attributes:
        name: The remedy.
        knob: What its values are.
        values: (K,).
        weights: (K, d), float64, on the CPU.
        intercepts: (K,).
        train_loss: Loss on the rows given, without noise, masks or resampling, (K,); of `more_data` on the n rows.
        test_loss: Loss on the test rows, (K,), or None without them.
        equivalent_lambda: The ridge strength that theory says the remedy is equivalent to, (K,), or one a feature,
            (K, d); None where theory names none.
        nearest_lambda: Measured: the one strength whose ridge fit has the nearest fitted values, (K,); 0 or infinity
            where none between is nearer.
        ridge_weights: The ridge fits at `equivalent_lambda`, or at `nearest_lambda` where that is None, (K, d).
        difference: |w - ridge| / |w|, w the weights, (K,).

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> remedy = br.early_stopping(data, steps=[10, 100], learning_rate=0.1)
        >>> remedy.name, remedy.knob, remedy.weights.shape
        ('early stopping', 'steps', torch.Size([2, 10]))
    """

    name: str
    knob: str
    values: np.ndarray
    weights: torch.Tensor = field(repr=False)
    intercepts: torch.Tensor = field(repr=False)
    train_loss: np.ndarray
    test_loss: np.ndarray | None
    equivalent_lambda: np.ndarray | None = field(repr=False)
    nearest_lambda: np.ndarray
    ridge_weights: torch.Tensor = field(repr=False)
    difference: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Return one row a value; tables of several remedies can be put below each other.

        Returns:
            Columns `remedy`, `knob`, `value`, `train_loss`, `test_loss`, `weights_l2`, `equivalent_lambda` (NaN where
            there is none; of strengths of one a feature the mean), `nearest_lambda` and `difference`.

        Example:
            >>> import bayesreg as br
            >>> train, test = br.load_diabetes().standardized().split(seed=1)
            >>> remedy = br.early_stopping(train, steps=[10, 100], learning_rate=0.1, test=test)
            >>> remedy.to_frame()[["value", "test_loss", "equivalent_lambda"]].round(3)
               value  test_loss  equivalent_lambda
            0     10      0.254                1.0
            1    100      0.249                0.1
        """
        nothing = np.full(len(self.values), np.nan)
        equivalent = nothing if self.equivalent_lambda is None else self.equivalent_lambda
        return pd.DataFrame(
            {
                "remedy": self.name,
                "knob": self.knob,
                "value": self.values,
                "train_loss": self.train_loss,
                "test_loss": nothing if self.test_loss is None else self.test_loss,
                "weights_l2": self.weights.norm(dim=1).numpy(),
                "equivalent_lambda": equivalent if equivalent.ndim == 1 else equivalent.mean(axis=1),
                "nearest_lambda": self.nearest_lambda,
                "difference": self.difference,
            }
        )


@dataclass(frozen=True)
class Rows:
    """The rows of a remedy, checked.

    Attributes:
        data: The rows to fit.
        test: The rows to test on, or None.
        intercept: Whether there is an intercept.
    """

    data: RegressionData
    test: RegressionData | None
    intercept: bool

    @classmethod
    def checked(cls, data: RegressionData, test: RegressionData | None, intercept: bool, who: str) -> Rows:
        """Check what every remedy is given.

        Args:
            data: The rows.
            test: The test rows, or None.
            intercept: Whether there is an intercept.
            who: Name of the remedy's function.

        Returns:
            The rows.

        Raises:
            TypeError: If the data are not rows or `intercept` is no bool.
        """
        rows = require_rows(data, who)
        check_test(test, rows)
        if not isinstance(intercept, bool):
            raise TypeError(f"intercept must be True or False, got {intercept!r}")
        return cls(rows, test, intercept)

    def remedy(
        self,
        name: str,
        knob: str,
        values: np.ndarray,
        fits: tuple[np.ndarray, np.ndarray],
        equivalent: np.ndarray | None,
        ridge_weights: np.ndarray | None = None,
        spectrum: RidgeSpectrum | None = None,
        nearest: np.ndarray | None = None,
        train_loss: np.ndarray | None = None,
    ) -> Remedy:
        """Lay fits beside the ridge fits.

        Args:
            name: The remedy.
            knob: What its values are.
            values: (K,).
            fits: Weights (K, d) and intercepts (K,).
            equivalent: The equivalent strengths, (K,) or (K, d), or None.
            ridge_weights: The ridge fits at these, (K, d); None: those of one strength for all features.
            spectrum: The ridge fits to compare with; None: those of the rows.
            nearest: The nearest strengths, (K,); None: those of `spectrum`.
            train_loss: The loss on what was fitted, (K,); None: on the rows.

        Returns:
            The remedy.
        """
        weights, intercepts = fits
        spectrum = spectrum or RidgeSpectrum(self.data, self.intercept)
        nearest = spectrum.nearest(weights) if nearest is None else nearest
        train_loss = half_mean_square(self.data, weights, intercepts) if train_loss is None else train_loss
        if ridge_weights is None:
            ridge_weights = spectrum.ridge(nearest if equivalent is None else equivalent)
        return Remedy(
            name=name,
            knob=knob,
            values=read_only(values),
            weights=torch.from_numpy(weights),
            intercepts=torch.from_numpy(intercepts),
            train_loss=read_only(train_loss),
            test_loss=None if self.test is None else read_only(half_mean_square(self.test, weights, intercepts)),
            equivalent_lambda=None if equivalent is None else read_only(equivalent),
            nearest_lambda=read_only(nearest),
            ridge_weights=torch.from_numpy(ridge_weights),
            difference=read_only(_relative_distance(weights, ridge_weights)),
        )


def half_mean_square(data: RegressionData, weights: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Return RSS / 2n of weights (K, d) and intercepts (K,), (K,)."""
    residuals = data.features @ weights.T + intercepts - data.target[:, None]
    return np.square(residuals).mean(axis=0) / 2


def knob_values(values: Sequence[float], name: str, least: float, below: float = np.inf, whole: bool = False):
    """Return the values of a knob as an array, (K,).

    Args:
        values: What was given.
        name: The argument's name.
        least: The smallest value allowed.
        below: What they must be below.
        whole: Whether they must be whole numbers; the array is then of integers.

    Returns:
        The array.

    Raises:
        ValueError: If it is no vector of such numbers.
    """
    found = np.array(as_float64(values, name))
    wanted = f"{'whole' if whole else 'finite'} numbers of at least {least:g}" + (
        f" and below {below:g}" if below < np.inf else ""
    )
    if found.ndim != 1 or not len(found):
        raise ValueError(f"{name} must be a vector of {wanted}, got shape {found.shape}")
    good = (found >= least) & (found < below) & (~np.array(whole) | (found == np.round(found)))
    if not good.all():
        raise ValueError(f"{name} must be {wanted}, got {found[~good][0]:g}")
    return found.astype(np.int64) if whole else found


def _relative_distance(weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    distance, size = np.linalg.norm(weights - others, axis=1), np.linalg.norm(weights, axis=1)
    return np.divide(distance, size, out=np.where(distance > 0, np.inf, 0.0), where=size > 0)
