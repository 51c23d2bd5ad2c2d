"""A path: the fits along the lambda axis, what each of them stands for, and how they do on other rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import torch

from bayesreg.certificates import Certificate, certify
from bayesreg.computing.arrays import check_index
from bayesreg.conventions import prior_for
from bayesreg.data import RegressionData
from bayesreg.evidence import EvidenceSpectrum
from bayesreg.moments import Moments
from bayesreg.paths.centred_design import CentredDesign
from bayesreg.paths.ridge_path import RidgeFits
from bayesreg.penalties import Penalty
from bayesreg.priors import Prior
from bayesreg.redundant_columns import redundant_columns
from bayesreg.standardization import Standardization
from bayesreg.strengths import scale_from_strength


@dataclass(frozen=True, eq=False, repr=False)
class Path:
    """Penalised fits at strengths lambda, in the order in which they were given.

    The objective is the canonical one, `mean-half-squared`, R(w) = |w|^2 / 2 (l2), |w|_1 (l1) or
    r |w|_1 + (1 - r) |w|^2 / 2 (elasticnet, r the `l1_ratio`):

        J(w) = |y - Xw - b|^2 / (2 n) + lambda R(w).

    Tensors are float64, counts int64, on the CPU, all in the units of the data given; see `original_units`.

    Attributes:
        kind: "l2", "l1" or "elasticnet".
        lambdas: `(m,)`.
        weights: `(m, d)`, exact zeros where an L1 term makes them.
        intercepts: `(m,)`, 0 without one.
        losses: |y - Xw - b|^2 / (2 n), `(m,)`.
        relative_gaps: Upper bounds of J(w) - min J over J(0), `(m,)`.
        l1_ratio: r: 0 for l2, 1 for l1.
        data: The rows or moments.
        has_intercept: Whether there is an intercept.
        transform: The standardisation that the weights are in the units of, if any.
        standardized: The same path in standard units, where this one is in the original ones; set by `original_units`.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> br.path(data, "l1", noise_scale=0.7)
        Path(l1, 100 fits of 10 weights, lambda from 0.586 to 0.000586, relative gaps <= ...)
    """

    kind: Literal["l2", "l1", "elasticnet"]
    lambdas: torch.Tensor
    weights: torch.Tensor
    intercepts: torch.Tensor
    losses: torch.Tensor
    relative_gaps: torch.Tensor
    l1_ratio: float
    data: RegressionData | Moments
    has_intercept: bool
    transform: Standardization | None
    _design: CentredDesign
    _noise_scale: float | None
    _ridge: RidgeFits | None = None
    standardized: Path | None = field(default=None)

    def __repr__(self) -> str:
        strengths = f"lambda from {float(self.lambdas.max()):.3g} to {float(self.lambdas.min()):.3g}"
        shape = f"{len(self.lambdas)} fits of {self.weights.shape[1]} weights"
        return f"Path({self.kind}, {shape}, {strengths}, relative gaps <= {float(self.relative_gaps.max()):.1g})"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.data.feature_names

    @property
    def num_rows(self) -> int:
        """Number of rows n."""
        return self.data.num_rows

    @cached_property
    def num_nonzero(self) -> torch.Tensor:
        """Number of weights that are not exactly 0, `(m,)`."""
        return (self.weights != 0).sum(1)

    @cached_property
    def noise_scale(self) -> float:
        """The noise scale s of the prior scales: as given, or that of the highest evidence under a Gaussian prior.

        The evidence is maximised over s and the prior's scale; for l1 and elasticnet too, as it has a closed form.

        Raises:
            ValueError: It was not given, and by the data it may be as small as one likes.
        """
        if self._noise_scale is not None:
            return self._noise_scale
        return self.spectrum.likeliest_scales()[0]

    @cached_property
    def prior_scales(self) -> torch.Tensor:
        """The scale of the prior whose MAP is the fit, at `noise_scale`: infinite at lambda = 0.

            Gaussian  t = s / sqrt(n lambda)  (l2),        Laplace  b = s^2 / (n lambda)  (l1),

        Returns:
            `(m,)`; for an elastic net `(m, 2)`, the Gaussian factor's scale and the Laplace factor's.
        """
        knowledge = {"noise_scale": self.noise_scale, "num_rows": self.num_rows}

        def scales(term: str, strengths: np.ndarray) -> np.ndarray:
            found = np.full(strengths.shape, np.inf)
            if (strengths > 0).any():
                found[strengths > 0] = scale_from_strength(term, strengths[strengths > 0], **knowledge)
            return found

        lambdas = self.lambdas.numpy()
        if self.kind == "elasticnet":
            both = [scales("l2", lambdas * (1 - self.l1_ratio)), scales("l1", lambdas * self.l1_ratio)]
            return torch.from_numpy(np.stack(both, axis=1))
        return torch.from_numpy(scales(self.kind, lambdas))

    @cached_property
    def redundant_columns(self) -> str:
        """Which columns are constant or linear copies of others, in a sentence; empty where none is."""
        return redundant_columns(self._design.root[:, :-1], self.feature_names, self.has_intercept)

    def penalty(self, index: int) -> Penalty:
        """Return the penalty of a fit, in the units that the path was made in.

        Args:
            index: Which fit.

        Returns:
            The penalty, in the convention ``mean-half-squared``.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.path(data, "l1", [0.1, 0.01]).penalty(1)
            Penalty(l1=0.01, convention='mean-half-squared')
        """
        strength = float(self.lambdas[check_index(index, "index", len(self.lambdas))])
        return Penalty(l1=strength * self.l1_ratio, l2=strength * (1.0 - self.l1_ratio))

    def prior(self, index: int) -> Prior:
        """Return the prior under which a fit is the MAP, at `noise_scale`.

        Args:
            index: Which fit.

        Returns:
            The prior, in the units that the path was made in; a flat one where lambda is 0.

        Raises:
            ValueError: The noise scale was not given, and cannot be estimated.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.path(data, "l1", [0.1, 0.01], noise_scale=0.7).prior(1)
            LaplacePrior(scale=0.11085972850678731)
        """
        return prior_for(self.penalty(index), noise_scale=self.noise_scale, num_rows=self.num_rows)

    def certificate(self, index: int) -> Certificate:
        """Return what `certify` says of a fit: from the rows, where the path was made from rows.

        Args:
            index: Which fit.

        Returns:
            The certificate, in the units that the path was made in.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.path(data, "l1", [0.1, 0.01]).certificate(1).relative_gap < 1e-10
            True
        """
        path, index = self.standardized or self, check_index(index, "index", len(self.lambdas))
        intercept = None if self.has_intercept else False
        return certify(path.weights[index].numpy(), self.data, self.penalty(index), intercept=intercept)

    def loss(self, data: RegressionData | Moments) -> torch.Tensor:
        """Return the loss |y - Xw - b|^2 / (2 n) of each fit on other data, such as test rows.

        Args:
            data: Rows, or moments, in the units of the path's weights.

        Returns:
            `(m,)`.

        Raises:
            TypeError: If they are neither rows nor moments.
            ValueError: If they have other columns or other units, or are moments about the origin and the fits have
                intercepts.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> train, test = data.split(seed=1)
            >>> br.path(train, "l2", [1.0, 0.1, 0.01]).loss(test).numpy().round(3).tolist()
            [0.264, 0.247, 0.247]
        """
        if not isinstance(data, RegressionData | Moments):
            raise TypeError(f"data must be a RegressionData or Moments, got {type(data).__name__}")
        names = data.feature_names
        if names != self.feature_names:
            raise ValueError(
                f"data must have the columns of the path, {', '.join(self.feature_names[:5])} and so on "
                f"({len(self.feature_names)}); got {', '.join(names[:5])} and so on ({len(names)})"
            )
        if data.transform != self.transform:
            raise ValueError(
                "data must be in the units of the path's weights: on standardized data, data.transform.apply(rows) of "
                "rows in their own units; for rows in their own units, path.original_units()"
            )
        weights, intercepts = self.weights.numpy(), self.intercepts.numpy()
        if isinstance(data, RegressionData):
            total, step = np.zeros(len(weights)), max(1, 2**21 // len(weights))
            for first in range(0, data.num_rows, step):
                rows = slice(first, first + step)
                residuals = data.target[rows] - weights @ data.features[rows].T - intercepts[:, None]
                total += np.square(residuals).sum(axis=1)
            return torch.from_numpy(total / (2 * data.num_rows))
        if not data.centred and intercepts.any():
            raise ValueError("data must be rows or centred moments: those about the origin do not know their means")
        squares = data.residuals(weights)[0]
        bias = data.target_mean - weights @ data.feature_means - intercepts
        return torch.from_numpy(squares / data.num_rows / 2 + np.square(bias) * data.centred / 2)

    # --- what one decomposition gives of ridge

    @cached_property
    def covariance_diagonal(self) -> torch.Tensor:
        """The diagonal of s^2 (Xc'Xc + n lambda I)^-1, s the `noise_scale`, `(m, d)`, in the weights' units; l2 only.

        These are the posterior variances of the weights under the Gaussian prior of each strength, the noise known.
        """
        variances = torch.from_numpy(self._of_ridge("covariance_diagonal").variances(self.noise_scale))
        if self.standardized is None:
            return variances
        return self.standardized.transform.to_original_weights(variances.sqrt()).square()

    @cached_property
    def degrees_of_freedom(self) -> torch.Tensor:
        """Effective degrees of freedom, the intercept not counted, `(m,)`.

        For l2 the trace of Xc (Xc'Xc + n lambda I)^-1 Xc'; for l1 the number of nonzero weights, an unbiased estimate
        (Zou, Hastie and Tibshirani, On the degrees of freedom of the lasso, Annals of Statistics 35, 2007).

        Raises:
            ValueError: The path is of an elastic net.
        """
        if self.kind == "l1":
            return self.num_nonzero.double()
        if self.kind == "elasticnet":
            raise ValueError("degrees_of_freedom is known for kind='l2' and 'l1', got kind='elasticnet'")
        return torch.from_numpy(self._of_ridge("degrees_of_freedom").degrees_of_freedom())

    @cached_property
    def log_evidence(self) -> torch.Tensor:
        """The log of p(y | s, t) in nats, at `noise_scale` and the prior scale of each fit, `(m,)`; l2 only.

        The weights are integrated out, and the intercept against the density 1; at lambda = 0 it is -inf. Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 3.5.
        """
        return torch.from_numpy(self._of_ridge("log_evidence").log_evidence(self.noise_scale))

    @cached_property
    def gcv(self) -> torch.Tensor:
        """Generalised cross-validation: (|r|^2 / n) / (1 - (df + 1) / n)^2, `(m,)`; l2 only.

        It estimates the mean squared error of prediction, not half of it. The 1 is the intercept; without one it is 0.
        Source: Golub, Heath and Wahba, Technometrics 21 (1979).
        """
        return torch.from_numpy(self._of_ridge("gcv").generalised_cross_validation())

    @cached_property
    def leave_one_out(self) -> torch.Tensor:
        """The mean square (not half of it) of the exact leave-one-out residuals, `(m,)`; l2 only, and from rows.

        The fit without a row is that of the same prior and noise: n lambda, the weight of the penalty beside a sum over
        rows, is held. (`cross_validate` holds lambda.)

        Raises:
            TypeError: The path was made from moments.
            ValueError: It is not of kind l2.
        """
        return torch.from_numpy(self._of_ridge("leave_one_out").leave_one_out(self._rows(), self._design))

    def leave_one_out_rows(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the leave-one-out residual of every row at one strength, and 1 - h; l2 only, and from rows.

        The residual of row i of the fit without it is r_i / (1 - h_i), h_i the i-th diagonal entry of the matrix that
        takes y to its fit, intercept included; n lambda is held. Source: Hastie, Tibshirani and Friedman, The Elements
        of Statistical Learning (2009), section 7.10.

        Args:
            index: Which strength.

        Returns:
            Two tensors `(n,)`: the residuals, and 1 - h, in the units that the path was made in.

        Raises:
            TypeError: The path was made from moments.
            ValueError: It is not of kind l2.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> fits = br.path(data, "l2", [0.1, 0.01])
            >>> residuals, freedom = fits.leave_one_out_rows(1)
            >>> residuals.shape, bool(residuals.square().mean().isclose(fits.leave_one_out[1]))
            (torch.Size([442]), True)
        """
        ridge = self._of_ridge("leave_one_out_rows")
        index = check_index(index, "index", len(self.lambdas))
        residuals, freedom = ridge.leave_one_out_rows(self._rows(), self._design, index)
        return torch.from_numpy(residuals), torch.from_numpy(freedom)

    @cached_property
    def spectrum(self) -> EvidenceSpectrum:
        """The singular value decomposition of the columns, centred where there is an intercept."""
        d = self._design.num_features
        return EvidenceSpectrum.of_design(self._design.spectrum, np.ones(d), np.zeros(d))

    def _rows(self) -> RegressionData:
        if not isinstance(self.data, RegressionData):
            raise TypeError("leave-one-out needs rows (a RegressionData), and this path was made from Moments")
        return self.data

    def _of_ridge(self, what: str) -> RidgeFits:
        if self._ridge is None:
            raise ValueError(f"{what} is known for kind='l2', got kind={self.kind!r}")
        return self._ridge

    # --- tables and units

    def to_frame(self) -> pd.DataFrame:
        """Return one row a strength: lambda, the loss, nonzero weights, the gap, the intercept, and every weight.

        Intercept and weights are in the units of the path; `lambda`, `loss` and `relative_gap` (the attributes
        `lambdas`, `losses`, `relative_gaps`) in those that it was made in, after `original_units` too. Weights are
        named as their features; one that is called as another column is, ``weights[loss]`` and so on.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.path(data, "l1", [0.1, 0.01]).to_frame()[["lambda", "loss", "num_nonzero", "bmi"]].round(3)
               lambda   loss  num_nonzero    bmi
            0    0.10  0.264            4  0.305
            1    0.01  0.243            8  0.323
        """
        columns = {
            "lambda": self.lambdas.numpy(),
            "loss": self.losses.numpy(),
            "num_nonzero": self.num_nonzero.numpy(),
            "relative_gap": self.relative_gaps.numpy(),
            "intercept": self.intercepts.numpy(),
        }
        names = [f"weights[{name}]" if name in columns else name for name in self.feature_names]
        weights = pd.DataFrame(self.weights.numpy(), columns=names)
        return pd.concat([pd.DataFrame(columns), weights], axis=1)

    def original_units(self) -> Path:
        """Return weights and intercepts in the units of the data before `standardized()`.

        Strengths, losses, gaps, prior scales, evidence and leave-one-out errors stay those of the problem that was
        solved; `covariance_diagonal` and the method `loss` follow the weights.

        Returns:
            The same fits, in other units.

        Raises:
            ValueError: If the data were not standardised, or the path is in original units already.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.path(data, "l1", [0.1, 0.01]).original_units().intercepts.numpy().round(2).tolist()
            [152.13, 152.13]
        """
        if self.transform is None:
            raise ValueError(
                "original_units() needs a path on data.standardized(); this one is in the units of the original rows"
            )
        weights = self.transform.to_original_weights(self.weights)
        intercepts = self.transform.to_original_intercept(self.weights, self.intercepts)
        return replace(self, weights=weights, intercepts=intercepts, transform=None, standardized=self)
