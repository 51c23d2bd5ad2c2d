"""The likelihood row by row, in closed form: its log density at the rows, and new targets drawn from it.

    y_i ~ Normal(b + x_i'w, s^2),      log p(y_i | w, b, s) = -((y_i - b - x_i'w) / s)^2 / 2 - log s - log(2 pi) / 2.

Everything is float64 with the axes (chain, draw, row); beside the result at most one array of its size is held. It is
computed on one thread, so that it rounds alike whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from bayesreg.computing.threads import one_thread


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
    """
    values = np.random.default_rng(seed).standard_normal((*noise_scale.shape, len(features)))
    values *= noise_scale.numpy()[..., None]
    values += _means(draws, features)
    return values


def _means(draws: Mapping[str, torch.Tensor], features: np.ndarray) -> np.ndarray:
    weights = draws["weights"].numpy()
    means = (weights.reshape(-1, weights.shape[-1]) @ features.T).reshape(*weights.shape[:-1], len(features))
    if "intercept" in draws:
        means += draws["intercept"].numpy()[..., None]
    return means
