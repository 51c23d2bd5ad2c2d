"""The likelihood row by row, in closed form: its log density at the rows, and new targets drawn from it.

    y_i ~ Normal(b + x_i'w, s^2),      log p(y_i | w, b, s) = -((y_i - b - x_i'w) / s)^2 / 2 - log s - log(2 pi) / 2.

Everything is float64 with the axes (chain, draw, row); beside the result at most one array of its size is held. It is
computed on one thread, so that it rounds alike whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bayesreg.computing.arrays import as_float64, check_finite, check_whole_number
from bayesreg.computing.threads import one_thread
from bayesreg.moments import Moments


def checked_features(features: Any, names: tuple[str, ...]) -> np.ndarray:
    """Return features as a finite float64 matrix with the columns of the data, in their order.

    Args:
        features: What `bayesreg.Posterior.predict` was given.
        names: The columns of the data.

    Returns:
        ``(rows, d)``.

    Raises:
        TypeError: They are data, or not numbers.
        ValueError: Another number of columns, or other column names.
    """
    if hasattr(features, "feature_names"):
        kind, kept = type(features).__name__, " (which keep sums and no rows)" if isinstance(features, Moments) else ""
        give = "data.features of a RegressionData" if kept else "data.features"
        raise TypeError(f"features must be a matrix of numbers or a DataFrame, got {kind}{kept}: give {give}")
    columns = getattr(features, "columns", None)
    found = names if columns is None else tuple(str(name) for name in columns)
    if sorted(found) != sorted(names):
        missing = ", ".join(name for name in names if name not in found) or "none"
        unknown = ", ".join(name for name in found if name not in names) or "none"
        raise ValueError(
            f"features must have the columns {', '.join(names)}, each once; missing: {missing}, unknown: {unknown}"
        )
    values = as_float64(features, "features", found)
    if values.ndim != 2 or values.shape[1] != len(names):
        hint = "; of one row give [features]" if values.shape == (len(names),) else ""
        raise ValueError(f"features must have shape (rows, {len(names)}), got {values.shape}{hint}")
    check_finite(values, "features", found)
    return values if found == names else values[:, [found.index(name) for name in names]]


@one_thread()
def log_likelihood(
    draws: Mapping[str, torch.Tensor], noise_scale: torch.Tensor, features: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Return log p(y_i | w, b, s) at each draw and row, constants included.

    Args:
        draws: ``weights (chain, draw, d)`` and, where there is one, ``intercept (chain, draw)``.
        noise_scale: Draws ``(chain, draw)``.
        features: ``(n, d)``.
        target: ``(n,)``.

    Returns:
        ``(chain, draw, n)``.
    """
    scale = noise_scale.numpy()[..., None]
    values = _means(draws, features)
    values -= target
    values /= scale
    np.square(values, out=values)
    values *= -0.5
    values -= np.log(scale) + 0.5 * math.log(2.0 * math.pi)
    return values


@one_thread()
def new_targets(
    draws: Mapping[str, torch.Tensor], noise_scale: torch.Tensor, features: np.ndarray, seed: int
) -> np.ndarray:
    """Draw one target, noise included, at each draw and row.

    Args:
        draws: ``weights (chain, draw, d)`` and, where there is one, ``intercept (chain, draw)``.
        noise_scale: Draws ``(chain, draw)``.
        features: ``(n, d)``.
        seed: Seeds the noise.

    Returns:
        ``(chain, draw, n)``.

    Raises:
        TypeError: The seed is no integer.
        ValueError: It is negative.
    """
    values = np.random.default_rng(check_whole_number(seed, "seed", 0)).standard_normal(
        (*noise_scale.shape, len(features))
    )
    values *= noise_scale.numpy()[..., None]
    values += _means(draws, features)
    return values


def _means(draws: Mapping[str, torch.Tensor], features: np.ndarray) -> np.ndarray:
    weights = draws["weights"].numpy()
    means = (weights.reshape(-1, weights.shape[-1]) @ features.T).reshape(*weights.shape[:-1], len(features))
    if "intercept" in draws:
        means += draws["intercept"].numpy()[..., None]
    return means
