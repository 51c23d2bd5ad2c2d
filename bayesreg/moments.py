"""Moments: all that a Gaussian likelihood needs of the rows, in one pass, of one size for any number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayesreg.computing.arrays import as_float64, read_only
from bayesreg.computing.products import sparse_product_of
from bayesreg.computing.row_sums import RowSums, factor_of_rows, sum_up
from bayesreg.computing.square_roots import is_ill_conditioned, square_root, triangle
from bayesreg.computing.threads import one_thread
from bayesreg.data import RegressionData
from bayesreg.standardization import Standardization


@dataclass(frozen=True, eq=False, repr=False)
class Moments:
    """Number, means and centred second moments of rows (x, y); two Moments of disjoint rows add up with `+`.

    With z = (x, y) in R^(d+1), a pivot p (one of the rows) and n rows, it holds

        offsets = (1/n) sum_i z_i - p,      scatter = sum_i (z_i - mean)(z_i - mean)',      mean = p + offsets,

    so that no digits are lost where the rows lie far from 0. Two of them merge as in Chan, Golub and LeVeque (1983):
    scatter = S_a + S_b + (n_a n_b / n) delta delta' with delta = mean_b - mean_a.

    Make them with `from_data` or `from_batches`. The arrays are float64, read-only, and in the units of the rows. A
    pickle has the same length for any n, and leaves out `factor`. Sums over rows are made on one thread: their last
    digits do not depend on how many there are.

    Attributes:
        num_rows: Number of rows n.
        pivot: Array `(d + 1,)`, the target last.
        offsets: Array `(d + 1,)`.
        scatter: Symmetric array `(d + 1, d + 1)`.
        feature_names: Tuple of d names.
        target_name: Name of the target.
        transform: The `Standardization` of the rows, or `None`.
        centred: False for models without an intercept (`about_origin`): means, `Sxx`, `Sxy`, `Syy`, `square_root` and
            `residuals` then are about 0. The fields above are about the mean in any case.
        factor: Array `(k, d + 1)`, k <= d + 1, with factor'factor = scatter to the accuracy of the rows, or `None`.
            Kept by `from_data` where the scatter's condition needs it; lost on merging.

    Raises:
        ValueError: If a column is so large that its sum of squares overflows float64; names the column.

    Example:
        >>> from bayesreg.data import RegressionData
        >>> first = Moments.from_data(RegressionData([[1.0], [2.0]], [1.0, 3.0]))
        >>> second = Moments.from_data(RegressionData([[6.0]], [5.0]))
        >>> both = first + second
        >>> both.num_rows, both.feature_means.tolist(), both.Sxx.tolist(), both.Syy
        (3, [3.0], [[14.0]], 8.0)
    """

    num_rows: int
    pivot: np.ndarray
    offsets: np.ndarray
    scatter: np.ndarray
    feature_names: tuple[str, ...]
    target_name: str = "y"
    transform: Standardization | None = None
    centred: bool = True
    factor: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "num_rows", int(self.num_rows))
        object.__setattr__(self, "feature_names", tuple(self.feature_names))
        for name in ("pivot", "offsets", "scatter", "factor"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(np.ascontiguousarray(getattr(self, name), dtype=np.float64)))
        too_large = ~np.isfinite(self._second_moments.diagonal())
        if too_large.any():
            name = (*self.feature_names, self.target_name)[int(np.argmax(too_large))]
            raise ValueError(f"column {name!r} is too large: its sum of squares overflows float64; rescale it")

    @classmethod
    @one_thread()
    def from_data(cls, data: RegressionData) -> Moments:
        """Sum up rows at hand, and keep a QR factor of them where the second moments alone lose too many digits.

        Args:
            data: The rows.

        Returns:
            Their moments.

        Raises:
            TypeError: If the data are not a `RegressionData`.
            ValueError: If a column's sum of squares overflows or underflows float64; names the column.

        Example:
            >>> import bayesreg as br
            >>> br.Moments.from_data(br.load_diabetes()).Sxx.shape
            (10, 10)
        """
        if not isinstance(data, RegressionData):
            raise TypeError(f"data must be a RegressionData, got {type(data).__name__}; for batches use from_batches")
        moments = cls._from_rows(data)
        if data.num_rows <= data.num_features + 1 or is_ill_conditioned(moments.scatter):
            return replace(moments, factor=factor_of_rows(data, moments.pivot, moments.offsets))
        return moments

    @classmethod
    def from_batches(cls, batches: Iterable) -> Moments:
        """Sum up batches, one held at a time.

        Args:
            batches: Iterable of `RegressionData`, `(features, target)` pairs or `Moments`, of the same columns.

        Returns:
            The moments of all rows.

        Raises:
            TypeError: If the batches, or one of them, are something else.
            ValueError: If there is no batch, or one is no valid data or does not fit the first; names the batch.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes()
            >>> halves = [(data.features[:200], data.target[:200]), (data.features[200:], data.target[200:])]
            >>> br.Moments.from_batches(halves)
            Moments(442 rows, 10 features, target 'y')
        """
        if isinstance(batches, (RegressionData, Moments)):
            raise TypeError(f"batches must be an iterable of batches, got one {type(batches).__name__}; use from_data")
        if not isinstance(batches, Iterable):
            raise TypeError(f"batches must be an iterable of batches, got {type(batches).__name__}")
        total, number = None, 0
        for batch in batches:
            try:
                moments = cls._from_batch(batch)
                total = moments if total is None else total + moments
            except TypeError as error:
                raise TypeError(f"batch {number} (the first is 0): {error}") from error
            except ValueError as error:
                raise ValueError(f"batch {number} (the first is 0): {error}") from error
            number += 1  # noqa: SIM113 (enumerate would hold the batch while the next one is made)
            del batch
        if total is None:
            raise ValueError("batches must have at least one batch, got none")
        return replace(total, factor=None)

    @classmethod
    def _from_batch(cls, batch) -> Moments:
        if isinstance(batch, Moments):
            return batch
        if isinstance(batch, RegressionData):
            return cls._from_rows(batch)
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            return cls._from_rows(RegressionData(*batch))
        raise TypeError(f"it must be RegressionData, (features, target) or Moments, got {type(batch).__name__}")

    @classmethod
    def _from_rows(cls, data: RegressionData) -> Moments:
        pivot, sums = sum_up(data)
        return cls(sums.num_rows, pivot, *sums[1:], data.feature_names, data.target_name, data.transform)

    @property
    def num_features(self) -> int:
        """Number of features d."""
        return len(self.pivot) - 1

    @property
    def weight_sum(self) -> float:
        """Sum of the rows' weights: n, as every row weighs 1."""
        return float(self.num_rows)

    @property
    def feature_means(self) -> np.ndarray:
        """Means of the features `(d,)`; zeros about the origin."""
        return self.centred * self._mean[:-1]

    @property
    def target_mean(self) -> float:
        """Mean of the target; 0 about the origin."""
        return float(self.centred * self._mean[-1])

    @property
    def Sxx(self) -> np.ndarray:
        """Second moments of the features `(d, d)`: Xc'Xc, or X'X about the origin."""
        return self._second_moments[:-1, :-1]

    @property
    def Sxy(self) -> np.ndarray:
        """Second moments of features and target `(d,)`: Xc'yc, or X'y about the origin."""
        return self._second_moments[:-1, -1]

    @property
    def Syy(self) -> float:
        """Second moment of the target: |yc|^2, or |y|^2 about the origin."""
        return float(self._second_moments[-1, -1])

    @property
    def _mean(self) -> np.ndarray:
        return self.pivot + self.offsets

    @cached_property
    def _second_moments(self) -> np.ndarray:
        if self.centred:
            return self.scatter
        with np.errstate(over="ignore", invalid="ignore"):  # refused by name when stored
            return read_only(self.scatter + self.num_rows * np.outer(self._mean, self._mean))

    def __repr__(self) -> str:
        units = ", standardized" if self.transform is not None else ""
        origin = "" if self.centred else ", about the origin"
        return (
            f"Moments({self.num_rows} rows, {self.num_features} features, target {self.target_name!r}{units}{origin})"
        )

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_same_columns(other)
        with np.errstate(over="ignore", invalid="ignore"):  # refused by name when stored
            delta = (other.pivot - self.pivot) + (other.offsets - self.offsets)
        sums = RowSums(self.num_rows, self.offsets, self.scatter)
        sums = sums.merged(RowSums(other.num_rows, other.offsets, other.scatter), delta)
        return replace(self, num_rows=sums.num_rows, offsets=sums.offsets, scatter=sums.scatter, factor=None)

    def __radd__(self, other: int) -> Moments:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() starts from 0

    def __reduce__(self):
        # Bytes, not arrays: the length of a pickled array depends on which objects it shares with others.
        numbers = np.concatenate([self.pivot, self.offsets, self.scatter.ravel()]).tobytes()
        transform = None if self.transform is None else self.transform.as_vector().tobytes()
        rows = np.int64(self.num_rows).tobytes()
        return _unpickle, (rows, numbers, self.feature_names, self.target_name, transform, self.centred)

    def __copy__(self) -> Moments:
        return self  # nothing in it can change, and by way of a pickle the factor would be lost

    def __deepcopy__(self, memo) -> Moments:
        return self

    def about_origin(self) -> Moments:
        """Undo the centring, for models without an intercept: second moments scatter + n mean mean', means 0.

        Returns:
            The moments about the origin, `centred` False.
        """
        return replace(self, centred=False)

    def standardized(self) -> Moments:
        """Return the moments of the standardized rows, as `Moments.from_data(data.standardized())` would.

        Returns:
            Moments in standard units, with the `Standardization` as `transform`.

        Raises:
            ValueError: If the moments are standardized already, or about the origin.

        Example:
            >>> import bayesreg as br
            >>> br.Moments.from_data(br.load_diabetes()).standardized()
            Moments(442 rows, 10 features, target 'progression', standardized)
        """
        if self.transform is not None:
            raise ValueError("moments must be in their own units to be standardized, got moments standardized already")
        if not self.centred:
            raise ValueError("moments must be centred to be standardized, got moments about the origin")
        deviations = np.sqrt(np.diagonal(self.scatter) / self.num_rows)
        transform = Standardization.about(self.pivot, self.offsets, deviations)
        scales = np.append(transform.feature_scales, transform.target_scale)
        zeros = np.zeros_like(scales)
        return replace(
            self,
            pivot=zeros,
            offsets=zeros,
            scatter=self.scatter / np.outer(scales, scales),
            transform=transform,
            factor=None if self.factor is None else self.factor / scales,
        )

    def square_root(self) -> np.ndarray:
        """Return F `(k, d + 1)` with F'F = [[Sxx, Sxy], [Sxy', Syy]].

        Returns:
            Array `(k, d + 1)` with k <= d + 1: from `factor` where there is one, else from the scatter.
        """
        root = square_root(self.scatter) if self.factor is None else self.factor
        # About the origin, from the sum n mean mean' the digits of the scatter could not be had back: a row keeps them.
        return root if self.centred else triangle(np.vstack([root, np.sqrt(self.num_rows) * self._mean]))

    def condition(self) -> float:
        """Return the condition number of Xc (X about the origin), its columns scaled to unit length.

        Without a `factor` it cannot be told beyond about 1e7: a larger number, inf too, then means "at least 1e7".

        Returns:
            Ratio of the largest to the smallest singular value; inf where the rank is short.
        """
        root = self.square_root()[:, :-1]
        lengths = np.sqrt(np.einsum("ij,ij->j", root, root))
        if self.num_rows - self.centred < self.num_features or not lengths.all():
            return float("inf")
        values = np.linalg.svd(root / lengths, compute_uv=False)
        short = len(values) < self.num_features or values[-1] <= values[0] * np.finfo(np.float64).eps
        return float("inf") if short else float(values[0] / values[-1])

    def residuals(self, weights) -> tuple[np.ndarray | float, np.ndarray]:
        """Return the residual sum of squares of weights, the intercept profiled out, and the residuals' cross moments.

            rss = |yc - Xc w|^2,      cross = Xc'(yc - Xc w),

        or without the c about the origin. From `factor` where there is one; else from the scatter, where rss is off by
        rounding of Syy and not below 0.

        Args:
            weights: Array or tensor `(..., d)`.

        Returns:
            `(rss, cross)`: a float (an array `(...)` with leading axes) and an array `(..., d)`.

        Raises:
            ValueError: If the last axis of the weights does not have length d.
        """
        weights = as_float64(weights, "weights")
        if weights.ndim == 0 or weights.shape[-1] != self.num_features:
            raise ValueError(f"weights must have shape (..., {self.num_features}), got {weights.shape}")
        if self.factor is not None:
            left = self.factor[:, -1] - weights @ self.factor[:, :-1].T
            rss, cross = np.square(left).sum(axis=-1), left @ self.factor[:, :-1]
        else:
            cross = self.scatter[:-1, -1] - sparse_product_of(weights, self.scatter[:-1, :-1])
            rss = self.scatter[-1, -1] - np.einsum("...j,...j->...", weights, self.scatter[:-1, -1] + cross)
            rss = np.maximum(rss, 0.0)
        if not self.centred:
            mean_residual = self._mean[-1] - weights @ self._mean[:-1]
            rss = rss + self.num_rows * np.square(mean_residual)
            cross = cross + self.num_rows * mean_residual[..., None] * self._mean[:-1]
        return (float(rss) if weights.ndim == 1 else rss), cross

    def _check_same_columns(self, other: Moments) -> None:
        ours, theirs = (*self.feature_names, self.target_name), (*other.feature_names, other.target_name)
        if len(ours) != len(theirs):
            raise ValueError(f"moments must have the same columns, got {len(ours) - 1} and {len(theirs) - 1} features")
        for our, their in zip(ours, theirs, strict=True):
            if our != their:
                raise ValueError(f"moments must have the same columns in one order, got {our!r} and {their!r}")
        if self.transform != other.transform:
            raise ValueError("moments must be in the same units, got two different standardisations (`transform`)")
        if self.centred != other.centred:
            raise ValueError("moments must be both centred or both about the origin, got one of each")


def as_moments(data: RegressionData | Moments) -> Moments:
    """Return moments as they are, and those of rows.

    Args:
        data: Rows or moments.

    Returns:
        The moments.

    Raises:
        TypeError: If the data are neither.
    """
    if isinstance(data, Moments):
        return data
    if isinstance(data, RegressionData):
        return Moments.from_data(data)
    raise TypeError(
        f"data must be a RegressionData or Moments, got {type(data).__name__}; br.RegressionData(features, target) "
        "makes one of arrays, tensors or a DataFrame, br.read_table(path, target=...) of a file"
    )


def _unpickle(rows, numbers, feature_names, target_name, transform, centred) -> Moments:
    width = len(feature_names) + 1
    pivot, offsets, scatter = np.split(np.frombuffer(numbers), [width, 2 * width])
    transform = None if transform is None else Standardization.from_vector(np.frombuffer(transform))
    num_rows = np.frombuffer(rows, dtype=np.int64)[0]
    scatter = scatter.reshape(width, width)
    return Moments(num_rows, pivot, offsets, scatter, feature_names, target_name, transform, centred)
