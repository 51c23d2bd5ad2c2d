"""The table of a posterior: one row a scalar, full digits, the interval's kind and probability in its column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

INTERVALS = ("eti", "hdi")
_FEWEST_DRAWS = 4  # of one chain: below, neither half of it has a variance


def scalar_names(draws: Mapping[str, torch.Tensor], feature_names: Sequence[str]) -> list[str]:
    """Return the name of each scalar of some draws: ``weights[bmi]`` for a weight, ``intercept`` for a scalar.

    Args:
        draws: ``(chain, draw, d)`` and ``(chain, draw)`` tensors by name.
        feature_names: The d names of the features.

    Returns:
        The names, in the order of the draws and of the features.
    """
    names = []
    for name, values in draws.items():
        names += [name] if values.ndim == 2 else [f"{name}[{feature}]" for feature in feature_names]
    return names


def interval_bounds(values: np.ndarray, interval: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of an interval that holds a given share of the draws.

    Args:
        values: Draws ``(number, ...)``.
        interval: The share, between 0 and 1.
        kind: ``"eti"``: as many draws below as above, quantiles by linear interpolation. ``"hdi"``: the narrowest
            interval between two draws that reaches over floor(interval * number) steps of the sorted draws.

    Returns:
        Lower and upper bounds, of the shape of one draw.

    Example:
        >>> interval_bounds(np.array([0.0, 1.0, 2.0, 3.0, 10.0]), 0.5, "hdi")
        (np.float64(0.0), np.float64(2.0))
    """
    if kind == "eti":
        lower, upper = np.quantile(values, [(1.0 - interval) / 2.0, (1.0 + interval) / 2.0], axis=0)
        return lower, upper
    ordered = np.sort(values, axis=0)
    steps = int(np.floor(interval * len(ordered)))
    width = ordered[steps:] - ordered[: len(ordered) - steps]
    first = np.argmin(width, axis=0)[None]
    return np.take_along_axis(ordered, first, 0)[0], np.take_along_axis(ordered, first + steps, 0)[0]


def check_interval(interval: float, kind: str) -> None:
    """Refuse what is no interval.

    Args:
        interval: A share of the draws.
        kind: The kind of interval.

    Raises:
        TypeError: ``interval`` is not a number.
        ValueError: A share outside (0, 1), or an unknown kind.
    """
    if isinstance(interval, bool) or not isinstance(interval, int | float | np.integer | np.floating):
        raise TypeError(f"interval must be a number between 0 and 1, got {interval!r}")
    if not 0.0 < interval < 1.0:
        raise ValueError(f"interval must lie between 0 and 1, got {interval!r}")
    if kind not in INTERVALS:
        raise ValueError(f"kind must be one of {', '.join(INTERVALS)}, got {kind!r}")


def summarize(
    draws: Mapping[str, torch.Tensor], feature_names: Sequence[str], interval: float, kind: str
) -> pd.DataFrame:
    """Summarise draws; see `bayesreg.Posterior.summary` for the columns.

    Args:
        draws: ``(chain, draw, d)`` and ``(chain, draw)`` tensors by name.
        feature_names: The d names of the features.
        interval: The interval's share of the draws.
        kind: ``"eti"`` or ``"hdi"``.

    Returns:
        The table.
    """
    check_interval(interval, kind)
    blocks = [values if values.ndim == 3 else values[..., None] for values in draws.values()]
    values = torch.cat(blocks, dim=-1).numpy()
    pooled = values.reshape(-1, values.shape[-1])
    lower, upper = interval_bounds(pooled, interval, kind)
    mean = pooled.mean(axis=0)
    sd = pooled.std(axis=0, ddof=1) if len(pooled) > 1 else np.full(values.shape[-1], np.nan)
    share = f"{100.0 * interval:g}%"
    columns = {"mean": mean, "sd": sd, f"{kind}_{share}_lower": lower, f"{kind}_{share}_upper": upper}
    return pd.DataFrame(columns | _diagnostics(values, sd), index=scalar_names(draws, feature_names))


def _diagnostics(values: np.ndarray, sd: np.ndarray) -> dict[str, np.ndarray]:
    """Return ArviZ's diagnostics of draws ``(chain, draw, k)``, NaN where they are not defined."""
    from bayesreg.arviz_interface import az

    names = ("ess_bulk", "ess_tail", "mcse_mean", "r_hat")
    result = {name: np.full(values.shape[-1], np.nan) for name in names}
    num_chains, num_draws, _ = values.shape
    moves = np.isfinite(sd) & (sd > 0)
    if num_draws < _FEWEST_DRAWS or not moves.any():
        return result
    # ArviZ takes draws that spread over less than 1e-15 for a constant: they meet it in units of about their own
    # spread, a power of 2, so that nothing is rounded.
    exponents = np.frexp(sd[moves])[1]
    standard = np.ldexp(values[..., moves], -exponents)
    axes = {"chain_axis": 0, "draw_axis": 1}
    result["ess_bulk"][moves] = az.ess(standard, method="bulk", **axes)
    result["ess_tail"][moves] = az.ess(standard, method="tail", prob=(0.05, 0.95), **axes)
    result["mcse_mean"][moves] = np.ldexp(az.mcse(standard, method="mean", **axes), exponents)
    if num_chains > 1:
        result["r_hat"][moves] = az.rhat(standard, **axes)
    return result
