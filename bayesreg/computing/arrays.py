"""Whatever a user has (arrays, tensors, frames, lists, numbers) as checked float64; errors name row and column."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np


def as_float64(values, argument: str, names: Sequence[str] | None = None, first_row: int = 0) -> np.ndarray:
    """Return real numbers as a C-contiguous float64 array; what is that already is not copied.

    Args:
        values: NumPy array, torch tensor, pandas frame or series, nested list or number, of booleans,
            integers or floats, as Python objects too.
        argument: Name for the errors.
        names: Names of the columns for the errors, if known.
        first_row: Number of the first row for the errors.

    Returns:
        Array of the same shape; masked and missing entries are NaN.

    Raises:
        TypeError: If a column holds anything but real numbers.
        ValueError: If the nesting is ragged.
    """
    if type(values) is np.ndarray and values.dtype == np.float64 and values.ndim and values.flags.c_contiguous:
        return values
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        values = values.detach().cpu()
        values = (values.resolve_conj() if values.is_complex() else values.double()).numpy()
    if is_pandas(values):
        return _pandas_as_float64(values, argument, names, first_row)
    if isinstance(values, np.ma.MaskedArray):
        values = values.astype(np.float64 if values.dtype.kind in "biuf" else object).filled(np.nan)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{argument} must have rows of one length, got ragged nesting") from error
    if array.dtype.kind not in "biuf":
        return _objects_as_float64(_objects(array, values), argument, names, first_row)
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


def check_whole_number(value, argument: str, least: int) -> int:
    """Return an integer of at least some size.

    Args:
        value: What was given.
        argument: Name for the error.
        least: The smallest integer accepted.

    Returns:
        The integer.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{argument} must be {least} or more, got {value}")
    return int(value)


def check_index(value, argument: str, size: int) -> int:
    """Return a place among some, counted from the first.

    Args:
        value: What was given: an integer, an array or tensor of one; negative: counted from the end.
        argument: Name for the error.
        size: How many places there are.

    Returns:
        The place, 0 to size - 1.

    Raises:
        TypeError: If it is no integer.
        IndexError: If there is no such place.
    """
    try:
        index = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"{argument} must be an integer, got {value!r}")
    if not -size <= index < size:
        raise IndexError(f"{argument} must be from 0 to {size - 1}, or from {-size} to -1 from the end, got {index}")
    return index % size


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
        raise ValueError(
            f"no feature may have the target's name, got {target_name!r} for both: leave that column out of the "
            "features, or give another target_name"
        )


def names_given(features, feature_names: Iterable | None) -> tuple[str, ...] | None:
    """Return the names that a user gave, explicitly or as a frame's columns.

    Args:
        features: The features as given.
        feature_names: The names as given.

    Returns:
        Tuple of strings, or `None` where there are none.

    Raises:
        TypeError: If they are no sequence of names.
    """
    if feature_names is None and is_pandas(features) and hasattr(features, "columns"):
        feature_names = features.columns
    if feature_names is None:
        return None
    if isinstance(feature_names, str | bytes) or not isinstance(feature_names, Iterable):
        raise TypeError(f"feature_names must be a sequence of names, one a column, got {feature_names!r}")
    return tuple(name_given(name, "a name in feature_names") for name in feature_names)


def target_name_given(target, target_name: str | None) -> str:
    """Return the target's name that a user gave, explicitly or as a series'; `y` where there is none.

    Args:
        target: The target as given.
        target_name: The name as given.

    Returns:
        String.

    Raises:
        TypeError: If it is bytes.
    """
    if target_name is not None:
        return name_given(target_name, "target_name")
    name = getattr(target, "name", None) if is_pandas(target) else None
    # A number is a position more often than a name, and the columns of the features have them too.
    return name if isinstance(name, str) and name else "y"


def check_one_index(features, target) -> None:
    """Refuse a frame and a series whose indices name the rows differently: rows are matched by position.

    Args:
        features: The features as given.
        target: The target as given.

    Raises:
        ValueError: If both have an index, and these are not equal.
    """
    if not (is_pandas(features) and is_pandas(target)) or features.index.equals(target.index):
        return
    for row, (ours, theirs) in enumerate(zip(features.index, target.index, strict=True)):
        if ours != theirs:
            raise ValueError(
                f"features and target must have one index, as rows are matched by position; got {ours!r} and "
                f"{theirs!r} in row {row} (the first row is 0): give target.loc[features.index] to match rows by "
                "label, or target.to_numpy() where they are in one order already"
            )


def is_pandas(values) -> bool:
    """Tell whether something is a pandas frame or series, without importing pandas."""
    return hasattr(values, "iloc")


def name_given(name, argument: str) -> str:
    """Return the name of a column as text; numbers, which frames may have, become it.

    Args:
        name: The name as given.
        argument: What the error calls it.

    Returns:
        String.

    Raises:
        TypeError: If it is `None`, or bytes.
    """
    if name is None or isinstance(name, bytes):
        raise TypeError(f"{argument} must be a string, got {name!r}")
    return str(name)


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def _pandas_as_float64(values, argument, names, first_row) -> np.ndarray:
    columns = [values.iloc[:, j] for j in range(values.shape[1])] if values.ndim == 2 else [values]
    numeric = [column.dtype.kind in "biuf" for column in columns]  # pandas' nullable types have these kinds too
    if all(numeric):
        return np.ascontiguousarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    numbers = np.empty((len(values), len(columns)))
    for j, column in enumerate(columns):
        if column.dtype == "category":  # its values may be numbers, which then are names
            wanted = f"{argument} must be booleans, integers or floats"
            raise TypeError(
                f"{wanted}: column {_name(names, j)!r} is of categories; give indicators of them, or .codes"
            )
        if numeric[j]:
            numbers[:, j] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            objects = column.to_numpy(dtype=object, na_value=np.nan)[:, None]
            numbers[:, j] = _objects_as_float64(objects, argument, [_name(names, j)], first_row)[:, 0]
    return numbers.reshape(values.shape)


def _objects(array: np.ndarray, given) -> np.ndarray:
    if array.dtype.kind not in "mM":
        return np.asarray(given, dtype=object)
    objects = np.empty(array.shape, dtype=object)
    objects.flat = list(array.flat)  # asarray would make integers of nanoseconds
    return objects


def _objects_as_float64(objects, argument, names, first_row) -> np.ndarray:
    if not objects.ndim and _float(objects.item()) is None:
        found, kind = objects.item(), type(objects.item()).__name__
        text = f"{found!r} ({kind})" if isinstance(found, str | bytes | complex) else kind
        raise TypeError(f"{argument} must be booleans, integers or floats, got {text}")
    rows = objects.reshape(objects.shape[0] if objects.ndim else 1, math.prod(objects.shape[1:]))
    numbers = np.empty(rows.shape)
    for j in range(rows.shape[1]):
        floats = [_float(value) for value in rows[:, j]]
        if None in floats:
            refused = [row for row, number in enumerate(floats) if number is None]
            # In a column of text, the first value that does not read as a number says most.
            row = next((row for row in refused if not _reads_as_number(rows[row, j])), refused[0])
            value = rows[row, j]
            raise TypeError(
                f"{argument} must be booleans, integers or floats: column {_name(names, j)!r} is not, "
                f"got {value!r} ({type(value).__name__}) in row {first_row + row} (the first row is 0)"
            )
        numbers[:, j] = floats
    return numbers.reshape(objects.shape)


def _float(value) -> float | None:
    """Return a real number as a float, NaN for a missing one, and None for anything else."""
    if value is None or type(value).__name__ == "NAType":  # pandas.NA, without importing pandas
        return math.nan
    real = isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))
    if not real or isinstance(value, np.timedelta64):  # which is an np.integer
        return None
    try:
        return float(value)
    except OverflowError:  # an integer; the caller refuses infinity by row
        return math.inf if value > 0 else -math.inf


def _name(names, column) -> str:
    # Names that a user gave are not checked yet at this point: there may be too few.
    return names[column] if names and column < len(names) else f"x{column}"


def _reads_as_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
