"""Rows: a checked float64 design and target, where they come from, and their standardisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from bayesreg.computing.arrays import (
    as_float64,
    check_finite,
    check_names,
    check_one_index,
    check_whole_number,
    is_pandas,
    names_given,
    read_only,
    target_name_given,
)
from bayesreg.standardization import Standardization
from bayesreg.tables import open_table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class RegressionData:
    """A design matrix and a target, checked once: float64, finite, named and read-only.

    Takes NumPy arrays, torch tensors, pandas frames and series, and nested lists, of booleans, integers or floats. Rows
    are matched by position; a frame and a series must therefore have one index. C-contiguous float64 input is viewed
    and not copied: who changes the original afterwards changes the data. Everything else is copied. Columns stay in the
    units that they come in; `standardized` changes them.

    Args:
        features: Matrix `(n, d)` with at least one row and one column.
        target: Vector `(n,)`.
        feature_names: One name a column; `None` takes a frame's column names, or else `x0`, `x1`, ...
        target_name: Name of the target; no feature may have it. `None` takes a series' name where that is a text, or
            else `y`.
        transform: The standardisation that these rows went through; set by `standardized`.

    Attributes:
        features: Read-only float64 array `(n, d)`.
        target: Read-only float64 array `(n,)`.
        feature_names: Tuple of `d` different strings.
        target_name: String.
        transform: `Standardization`, or `None` where the rows are in their own units.

    Raises:
        TypeError: If a column is not of real numbers (the column is named), or a name is no string.
        ValueError: If a number is missing, NaN or infinite (row and column are named), or shapes, names or indices do
            not fit.

    Example:
        >>> data = RegressionData([[1, 0], [2, 1], [4, 0]], [1.0, 2.5, 4.0], feature_names=["dose", "sex"])
        >>> data
        RegressionData(3 rows, 2 features, target 'y')
        >>> data.standardized().target.round(4).tolist()
        [-1.2247, 0.0, 1.2247]
    """

    features: np.ndarray
    target: np.ndarray
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    transform: Standardization | None = field(default=None, kw_only=True)

    def __post_init__(self):
        names = names_given(self.features, self.feature_names)
        target_name = target_name_given(self.target, self.target_name)
        features = as_float64(self.features, "features", names)
        target = as_float64(self.target, "target", (target_name,))
        if features.ndim != 2:
            hint = "; for one column give features.reshape(-1, 1)" if features.ndim == 1 else ""
            raise ValueError(f"features must be a matrix (rows, columns), got shape {features.shape}{hint}")
        if target.ndim != 1:
            first = "target.iloc[:, 0]" if is_pandas(self.target) else "target[:, 0]"
            hint = f"; give {first}" if target.ndim == 2 and target.shape[1] == 1 else ""
            raise ValueError(f"target must be a vector (rows,), got shape {target.shape}{hint}")
        if features.shape[0] != target.shape[0]:
            raise ValueError(
                f"features and target must have as many rows each, got {features.shape[0]} and {target.shape[0]}"
            )
        check_one_index(self.features, self.target)
        if 0 in features.shape:
            raise ValueError(f"features must have at least one row and one column, got shape {features.shape}")
        if names is None:
            names = tuple(f"x{column}" for column in range(features.shape[1]))
        check_names(names, features.shape[1], target_name)
        check_finite(features, "features", names)
        check_finite(target[:, None], "target", (target_name,))
        object.__setattr__(self, "features", read_only(features))
        object.__setattr__(self, "target", read_only(target))
        object.__setattr__(self, "feature_names", names)
        object.__setattr__(self, "target_name", target_name)

    @property
    def num_rows(self) -> int:
        """Number of rows n."""
        return self.features.shape[0]

    @property
    def num_features(self) -> int:
        """Number of columns d."""
        return self.features.shape[1]

    def __reduce__(self):
        # Through the constructor: an array unpickled by itself can be written to.
        names = (self.feature_names, self.target_name)
        return _unpickle, (self.features, self.target, *names, self.transform)

    def __repr__(self) -> str:
        units = ", standardized" if self.transform is not None else ""
        return f"RegressionData({self.num_rows} rows, {self.num_features} features, target {self.target_name!r}{units})"

    def standardized(self) -> RegressionData:
        """Shift and scale every column, the target too, to mean 0 and standard deviation 1 (divisor n).

        A weight is then in standard deviations of the target per standard deviation of its column.
        A constant column (standard deviation within rounding of the mean's magnitude) is shifted and keeps its scale.

        Returns:
            The rows in standard units, with the `Standardization` as `transform`.

        Raises:
            ValueError: If the rows are standardized already, or too large for float64.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> bool(abs(data.features.mean(axis=0)).max() < 1e-12), round(float(data.target.std()), 12)
            (True, 1.0)
        """
        if self.transform is not None:
            raise ValueError("data must be in their own units to be standardized, got data standardized already")
        joint = np.column_stack([self.features, self.target])
        pivot = joint[0].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            joint -= pivot  # exact zeros in constant columns, and no digits lost to an offset
            offsets = joint.mean(axis=0)
            joint -= offsets
            largest = np.abs(joint).max(axis=0)
            joint /= np.where(largest > 0, largest, 1.0)  # so that no square overflows or underflows
            deviations = largest * np.sqrt(np.einsum("ij,ij->j", joint, joint) / self.num_rows)
        check_finite(deviations[None, :], "standard deviations", (*self.feature_names, self.target_name))
        return Standardization.about(pivot, offsets, deviations).apply(self)

    def split(self, test_fraction: float = 0.25, seed: int = 0) -> tuple[RegressionData, RegressionData]:
        """Split the rows at random in two, with scikit-learn's `train_test_split`.

        Args:
            test_fraction: Share of the rows that goes to the second part, between 0 and 1; rounded up to whole rows.
            seed: Seed of the permutation, below 2**32.

        Returns:
            `(train, test)`, both with this data's names and transform.

        Raises:
            TypeError: If the seed is not an integer.
            ValueError: If the seed is out of range, or the fraction is not inside (0, 1) or leaves a part without rows.

        Example:
            >>> import bayesreg as br
            >>> train, test = br.load_diabetes().split(test_fraction=0.25, seed=1)
            >>> train.num_rows, test.num_rows
            (331, 111)
        """
        from sklearn.model_selection import train_test_split

        if not (isinstance(test_fraction, float | np.floating) and 0 < test_fraction < 1):
            raise ValueError(f"test_fraction must be a number between 0 and 1, got {test_fraction!r}")
        if check_whole_number(seed, "seed", 0) >= 2**32:
            raise ValueError(f"seed must be below 2**32, got {seed}")
        num_test = int(np.ceil(test_fraction * self.num_rows))
        if num_test == self.num_rows:
            raise ValueError(f"test_fraction={test_fraction!r} of {self.num_rows} rows leaves none to train on")
        parts = train_test_split(np.arange(self.num_rows), test_size=num_test, random_state=seed)
        return tuple(replace(self, features=self.features[rows], target=self.target[rows]) for rows in parts)


def _unpickle(features, target, feature_names, target_name, transform) -> RegressionData:
    return RegressionData(features, target, feature_names, target_name, transform=transform)


def load_diabetes() -> RegressionData:
    """Load scikit-learn's diabetes data: 442 patients, 10 features (centred, unit norm), disease progression.

    Source: Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics 32 (2004).

    Returns:
        The data, in scikit-learn's default scaling: mean 0 and sum of squares 1 in each feature, the target as it was
        measured (25 to 346). `standardized()` brings both to standard units.

    Example:
        >>> load_diabetes()
        RegressionData(442 rows, 10 features, target 'progression')
    """
    from sklearn import datasets

    bunch = datasets.load_diabetes()
    return RegressionData(bunch.data, bunch.target, bunch.feature_names, target_name="progression")


def simulate_weight_decay(
    seed: int = 0,
    num_train: int = 20,
    num_test: int = 100,
    num_features: int = 200,
    *,
    weight: float = 0.01,
    intercept: float = 0.05,
    noise_scale: float = 0.01,
) -> tuple[RegressionData, RegressionData]:
    """Simulate the weight-decay experiment of "Dive into Deep Learning": y = 0.05 + 0.01 sum_j x_j + N(0, 0.01^2).

    With other arguments, y_i = intercept + weight sum_j x_ij + noise_scale e_i, all x_ij and e_i independent N(0, 1).
    Source: Zhang, Lipton, Li and Smola, Dive into Deep Learning (2023), the section on weight decay.

    Args:
        seed: Seed of NumPy's generator, for the training rows and then the test rows.
        num_train: Number of training rows.
        num_test: Number of test rows.
        num_features: Number of features, each standard normal.
        weight: The one true weight of every feature.
        intercept: The true intercept.
        noise_scale: Standard deviation of the noise, at least 0.

    Returns:
        `(train, test)`, of `num_train` and `num_test` rows.

    Raises:
        TypeError: If the seed or a number of rows or columns is not an integer, or another argument not a number.
        ValueError: If one is out of range, or another number is not finite.

    Example:
        >>> train, test = simulate_weight_decay(seed=0)
        >>> train.features.shape, test.features.shape
        ((20, 200), (100, 200))
    """
    sizes = (("num_train", num_train), ("num_test", num_test), ("num_features", num_features))
    for name, size in sizes:
        check_whole_number(size, name, 1)
    for name, number in (("weight", weight), ("intercept", intercept), ("noise_scale", noise_scale)):
        if as_float64(number, name).ndim or not np.isfinite(number) or (name == "noise_scale" and number < 0):
            wanted = "a finite number of 0 or more" if name == "noise_scale" else "a finite number"
            raise ValueError(f"{name} must be {wanted}, got {number!r}")
    generator = np.random.default_rng(check_whole_number(seed, "seed", 0))

    def rows(number: int) -> RegressionData:
        features = generator.standard_normal((number, num_features))
        noise = noise_scale * generator.standard_normal(number)
        return RegressionData(features, intercept + weight * features.sum(axis=1) + noise)

    return rows(num_train), rows(num_test)


def read_table(path: str | PathLike, target: str, *, progress: bool = False) -> RegressionData:
    r"""Read a CSV (UTF-8, comma, header) or Parquet file with numeric columns only.

    Args:
        path: File whose name ends in `.csv` or `.parquet`.
        target: Name of the column to be explained; all others are features.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook.

    Returns:
        All rows: the numbers as they stand in the file, as float64, the features in the order of its columns.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If a column is not of real numbers; names column, row and value (the first row of numbers is row 0).
            If the path is neither a string nor a path.
        ValueError: If the ending is another, the file is broken or has no rows, a name is empty or repeated, the target
            is not there, or an entry is missing or not finite; names row and column.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "houses.csv")
        ...     _ = path.write_text("size,rooms,price\n70,3,210\n45,2,150\n")
        ...     read_table(path, target="price").features.tolist()
        [[70.0, 3.0], [45.0, 2.0]]
    """
    return next(_read(path, target, None, progress))


def read_batches(
    path: str | PathLike, target: str, rows: int = 100_000, *, progress: bool = False
) -> Iterator[RegressionData]:
    r"""Read a file as `read_table` does, some rows at a time, never holding more of it.

    File and names are checked at once, the rows as they come; rows in errors are numbered over the whole file.

    Args:
        path: File whose name ends in `.csv` or `.parquet`.
        target: Name of the column to be explained; all others are features.
        rows: The most rows of a batch.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook.

    Returns:
        Iterator over the batches, in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `rows` is not an integer, or as in `read_table`.
        ValueError: If `rows` is not positive, or as in `read_table`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "houses.csv")
        ...     _ = path.write_text("size,price\n70,210\n45,150\n60,190\n")
        ...     [batch.num_rows for batch in read_batches(path, target="price", rows=2)]
        [2, 1]
    """
    return _read(path, target, check_whole_number(rows, "rows", 1), progress)


def require_rows(data: RegressionData, purpose: str) -> RegressionData:
    """Return the data where they are rows, and refuse what has none (`Moments`).

    Args:
        data: What a caller was given.
        purpose: What needs the rows, as the start of a sentence.

    Returns:
        The data.

    Raises:
        TypeError: If the data are not a `RegressionData`.
    """
    if not isinstance(data, RegressionData):
        kept = " (which keep sums and no rows)" if type(data).__name__ == "Moments" else ""
        raise TypeError(
            f"{purpose} needs rows: data must be a RegressionData, got {type(data).__name__}{kept}; "
            "br.RegressionData(features, target) makes one of arrays, tensors or a DataFrame"
        )
    return data


def _read(path, target, rows: int | None, progress: bool) -> Iterator[RegressionData]:
    file, names, frames = open_table(path, rows, progress)
    if target not in names:
        raise ValueError(f"target must be a column of {file}, got {target!r}; its columns are {', '.join(names)}")
    features = list(names)
    features.remove(target)
    if not features:
        raise ValueError(f"{file} must have a column besides the target {target!r}, got none")
    check_names(features, len(features), target)
    return _batches(file, frames, features, target)


def _batches(file: str, frames: Iterator[pandas.DataFrame], features: list[str], target: str):
    first_row = 0
    for frame in frames:
        if frame.empty:
            continue
        explained = as_float64(frame.pop(target), file, [target], first_row)
        design = as_float64(frame, file, features, first_row)
        del frame  # nothing of a batch is held while the next one is read
        check_finite(design, file, features, first_row)
        check_finite(explained[:, None], file, [target], first_row)
        first_row += len(design)
        batch = [RegressionData(design, explained, features, target)]
        del design, explained
        yield batch.pop()
    if not first_row:
        raise ValueError(f"{file} must have rows below its header, got none")
