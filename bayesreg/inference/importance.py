"""How far draws of one density are from another: the tail of their importance weights.

The largest weights r = p / q follow a generalised Pareto law of shape k: q is close enough to p to be corrected by
importance sampling where k < 0.7 or so. Sources: Vehtari, Simpson, Gelman, Yao & Gabry, Pareto smoothed importance
sampling, JMLR 25 (2024); the fit of the shape: Zhang & Stephens, Technometrics 51 (2009).
"""

from __future__ import annotations

import math

import numpy as np
import torch

_SMALLEST_TAIL = 5


def tail_index(log_ratios: np.ndarray, rounding: float = 0.0) -> float:
    """Return k-hat of importance weights.

    Args:
        log_ratios: log p - log q at draws of q, ``(num,)``, up to a constant; 25 or more.
        rounding: How far rounding may have moved each of them.

    Returns:
        The shape k of the largest min(num / 5, 3 sqrt(num)) weights, drawn towards 1/2 as by 10 observations; 0 where
        all weights are equal but for rounding, which is no tail.

    Raises:
        ValueError: There are fewer than 25 weights.
    """
    num = len(log_ratios)
    tail = math.floor(3.0 * math.sqrt(num)) if num > 225 else num // 5
    if tail < _SMALLEST_TAIL:
        raise ValueError(f"log_ratios must have {5 * _SMALLEST_TAIL} entries or more, got {num}")
    if log_ratios.std() <= max(1e-9, rounding):
        return 0.0
    largest = np.sort(log_ratios)[-tail - 1 :]
    weights = np.exp(largest - largest[-1])
    if weights[1] == 0.0:  # weights below the largest by more than a float can tell
        return math.inf
    excess = weights[1:] - weights[0]
    excess = excess[excess > 0.0]  # of equal ones, which rounding makes, none exceeds the others
    if len(excess) < _SMALLEST_TAIL:
        return 0.0
    shape = _pareto_shape(excess)
    return (len(excess) * shape + 10 * 0.5) / (len(excess) + 10)


def rounding_of(log_density: torch.Tensor) -> float:
    """Return how far rounding may have moved log densities: a few units in the last place of the largest."""
    return float(8 * torch.finfo(log_density.dtype).eps * log_density.abs().max())


def _pareto_shape(excess: np.ndarray) -> float:
    """Return Zhang and Stephens' estimate of the shape, by the posterior mean of b = -shape / scale on their grid."""
    num = len(excess)
    grid_size = 30 + math.floor(math.sqrt(num))
    quartile = excess[math.floor(num / 4 + 0.5) - 1]
    grid = 1.0 / excess[-1] + (1.0 - np.sqrt(grid_size / (np.arange(grid_size) + 0.5))) / (3.0 * quartile)
    shapes = np.log1p(-grid[:, None] * excess).mean(1)
    profile = num * (np.log(-grid / shapes) - shapes - 1.0)
    posterior = np.exp(profile - profile.max())
    best = (grid * posterior).sum() / posterior.sum()
    return float(np.log1p(-best * excess).mean())
