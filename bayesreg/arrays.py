"""Whatever a user has (arrays, tensors, frames, lists) as checked float64 NumPy; errors name row and column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def as_float64(values, argument: str, names: Sequence[str] | None = None, first_row: int = 0) -> np.ndarray:
    """Return real numbers as a C-contiguous float64 array; what is that already is not copied.

    Args:
        values: NumPy array, torch tensor, pandas frame or series, nested list or number, of booleans,
            integers or floats.
        argument: Name for the errors.
        names: Names of the columns for the errors, if known.
        first_row: Number of the first row for the errors.

    Returns:
        Array of the same shape; masked and missing entries are NaN.

    Raises:
        TypeError: If a column holds anything but real numbers.
        ValueError: If the nesting is ragged.
    """
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        values = values.detach().cpu()
        values = (values.resolve_conj() if values.is_complex() else values.double()).numpy()
    if hasattr(values, "iloc"):  # pandas
        return _pandas_as_float64(values, argument, names, first_row)
    if isinstance(values, np.ma.MaskedArray):
        values = values.astype(np.float64).filled(np.nan)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{argument} must have rows of one length, got ragged nesting") from error
    if array.dtype.kind not in "biuf" and array.size:
        raise TypeError(_not_numbers(np.asarray(values, dtype=object), argument, names, first_row))
    with np.errstate(over="ignore"):  # a long double too large becomes inf, which the caller refuses by row
        return np.ascontiguousarray(array, dtype=np.float64) if array.ndim else array.astype(np.float64)


def as_number_or_vector(value, name: str) -> float | np.ndarray:
    """A float, or a read-only float64 vector; a vector of zeros is the float 0.

    Args:
        value: A number, or a sequence, array or tensor of one dimension.
        name: What it is, for the messages.

    Returns:
        The float or the (d,) array.

    Raises:
        TypeError: If it holds something else than numbers.
        ValueError: If it has more than one dimension, no entries, or entries that are not finite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value)
    except (TypeError, ValueError):
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number or a vector of numbers, one a feature; got {value!r}")
    array = array.astype(np.float64)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be a number or a vector, one a feature; got an array of shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if array.ndim == 0 or not array.any():
        return float(array.flat[0])
    array.flags.writeable = False
    return array


def check_finite(matrix: np.ndarray, argument: str, names: Sequence[str], first_row: int = 0) -> None:
    """Refuse NaN and infinity.

    Args:
        matrix: Array `(n, d)`.
        argument: Name for the error.
        names: Names of the columns.
        first_row: Number of the first row for the error.

    Raises:
        ValueError: If an entry is not finite; names its row and column.
    """
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        raise ValueError(
            f"{argument} must be finite, got {matrix[row, column]} in column {names[column]!r}, row {first_row + row} "
            f"(the first row is 0); {finite.size - np.count_nonzero(finite)} of {finite.size} entries are not finite"
        )


def check_names(names: Sequence[str], num_features: int, target_name: str) -> None:
    """Refuse names that do not name every column, and the target, differently.

    Args:
        names: Names of the columns.
        num_features: Number of columns.
        target_name: Name of the target.

    Raises:
        ValueError: If the number is wrong, a name is empty or repeated, or a feature is named as the target.
    """
    if len(names) != num_features:
        raise ValueError(f"feature_names must have one name a column, got {len(names)} for {num_features} columns")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"feature_names must differ, got more than one {', '.join(map(repr, repeated))}")
    if "" in names or not target_name:
        raise ValueError("feature_names and target_name must not be empty, got a name without characters")
    if target_name in names:
        raise ValueError(f"no feature may have the target's name, got {target_name!r} for both")


def names_given(features, feature_names: Iterable | None) -> tuple[str, ...] | None:
    """Return the names that a user gave, explicitly or as a frame's columns.

    Args:
        features: The features as given.
        feature_names: The names as given.

    Returns:
        Tuple of strings, or `None` where there are none.

    Raises:
        TypeError: If the names are a single string.
    """
    if isinstance(feature_names, str):
        raise TypeError(f"feature_names must be a sequence of names, one a column, got the string {feature_names!r}")
    if feature_names is None and hasattr(features, "iloc") and hasattr(features, "columns"):
        feature_names = features.columns
    return None if feature_names is None else tuple(str(name) for name in feature_names)


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def _pandas_as_float64(values, argument, names, first_row) -> np.ndarray:
    columns = [values.iloc[:, j] for j in range(values.shape[1])] if values.ndim == 2 else [values]
    for j, column in enumerate(columns):
        if column.dtype.kind not in "biuf" and len(column):  # pandas' nullable types have these kinds too
            raise TypeError(
                _not_numbers(column.to_numpy(dtype=object)[:, None], argument, [_name(names, j)], first_row)
            )
    return np.ascontiguousarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _not_numbers(array, argument, names, first_row) -> str:
    columns = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    allowed = (bool, int, float, np.bool_, np.integer, np.floating)
    found = (j for j in range(columns.shape[1]) if not all(isinstance(value, allowed) for value in columns[:, j]))
    column = next(found, 0)
    row = next((i for i, value in enumerate(columns[:, column]) if not _reads_as_number(value)), 0)
    value = columns[row, column]
    return (
        f"{argument} must be booleans, integers or floats: column {_name(names, column)!r} is not, "
        f"got {value!r} ({type(value).__name__}) in row {first_row + row} (the first row is 0)"
    )


def _name(names, column) -> str:
    # Names that a user gave are not checked yet at this point: there may be too few.
    return names[column] if names and column < len(names) else f"x{column}"


def _reads_as_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
