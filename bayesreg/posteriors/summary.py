"""The table of a posterior: one row a scalar, full digits, the interval's kind and probability in its column names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from bayesreg.computing.threads import one_thread
from bayesreg.posteriors.diagnostics import Chains, diagnose
from bayesreg.posteriors.ranks import quantile

INTERVALS = ("eti", "hdi")


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
    ordered = torch.from_numpy(np.sort(np.moveaxis(values, 0, -1), axis=-1))
    bounds = _bounds(ordered, interval, kind).numpy()
    return bounds[..., 0][()], bounds[..., 1][()]


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


@one_thread()  # many small sums: threads would wait for one another
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
    mean, sd, bounds, ess_bulk, ess_tail, mcse_mean, r_hat = _diagnose(
        draws,
        Chains.mean,
        Chains.sd,
        lambda chains: chains.in_given_units(_bounds(chains.ascending[0], interval, kind)),
        Chains.ess_bulk,
        Chains.ess_tail,
        Chains.mcse_mean,
        Chains.r_hat,
    )
    share = f"{100.0 * interval:g}%"
    columns = {
        "mean": mean,
        "sd": sd,
        f"{kind}_{share}_lower": bounds[:, 0],
        f"{kind}_{share}_upper": bounds[:, 1],
        "ess_bulk": ess_bulk,
        "ess_tail": ess_tail,
        "mcse_mean": mcse_mean,
        "r_hat": r_hat,
    }
    return pd.DataFrame(columns, index=scalar_names(draws, feature_names))


@one_thread()
def convergence(draws: Mapping[str, torch.Tensor], feature_names: Sequence[str], many_chains: bool) -> pd.DataFrame:
    """Return what chains are judged by, and no more than that.

    Args:
        draws: ``(chain, draw, d)`` and ``(chain, draw)`` tensors by name.
        feature_names: The d names of the features.
        many_chains: Whether R-hat is `bayesreg.posteriors.diagnostics.Chains.lasting_r_hat`.

    Returns:
        A table with the columns ``r_hat`` and ``ess``, the smaller one of bulk and tails.
    """
    r_hat, bulk, tail = _diagnose(
        draws, Chains.lasting_r_hat if many_chains else Chains.r_hat, Chains.ess_bulk, Chains.ess_tail
    )
    names = scalar_names(draws, feature_names)
    return pd.DataFrame({"r_hat": r_hat, "ess": np.minimum(bulk, tail)}, index=names)  # NaN where either is


def _diagnose(draws: Mapping[str, torch.Tensor], *measures: Callable[[Chains], torch.Tensor]) -> list[np.ndarray]:
    values = torch.cat([values if values.ndim == 3 else values[..., None] for values in draws.values()], dim=-1)
    return [numbers.cpu().numpy() for numbers in diagnose(values, *measures)]


def _bounds(ordered: torch.Tensor, interval: float, kind: str) -> torch.Tensor:
    """Return lower and upper bounds ``(..., 2)`` of ascending draws ``(..., number)``."""
    if kind == "eti":
        return torch.stack([quantile(ordered, (1.0 - interval) / 2.0), quantile(ordered, (1.0 + interval) / 2.0)], -1)
    steps = math.floor(interval * ordered.shape[-1])
    first = (ordered[..., steps:] - ordered[..., : ordered.shape[-1] - steps]).argmin(-1, keepdim=True)
    return ordered.gather(-1, torch.cat([first, first + steps], -1))
