"""Ascending order of many rows at once, and what rests on it: quantiles and normal scores."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch


def sort(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows in ascending order, and where each stood.

    On a CPU torch's sort is most of the time of a summary. NumPy sorts integers of 16 bits by their digits and nearly
    sorted numbers in one pass: so rows are sorted by an increasing function rounded to 16 bits, then as they are. How
    good the function is decides the time and not the result; centre and spread are those of a few draws.

    Args:
        values: ``(k, number)``.

    Returns:
        Two tensors ``(k, number)``.
    """
    if values.device.type != "cpu":
        return torch.sort(values, dim=-1)
    sample = values[:, :: max(1, values.shape[-1] // 32)].sort(-1).values
    first, centre, third = (sample[:, [sample.shape[-1] * quarter // 4]] for quarter in (1, 2, 3))
    steps = (values - centre) / (third - first).clamp(min=1e-300)
    steps.div_(steps.abs().add_(1.0)).mul_(32767.0).add_(32768.0)
    keys = steps.to(torch.int32).to(torch.uint16)
    places = torch.from_numpy(np.argsort(keys.numpy(), axis=-1, kind="stable"))
    ordered, order = _sort_runs(values.gather(-1, places))
    return ordered, places.gather(-1, order)


def quantile(ordered: torch.Tensor, probability: float) -> torch.Tensor:
    """Return a quantile by linear interpolation, in NumPy's arithmetic: a draw that is one compares equal to it.

    Args:
        ordered: ``(..., number)``, ascending.
        probability: Between 0 and 1.

    Returns:
        ``(...)``; NaN where a draw is.
    """
    place = probability * (ordered.shape[-1] - 1)
    below, above = math.floor(place), math.ceil(place)
    lower, upper, weight = ordered[..., below], ordered[..., above], place - below
    between = upper - (upper - lower) * (1.0 - weight) if weight >= 0.5 else lower + (upper - lower) * weight
    return torch.where(ordered[..., -1].isnan(), math.nan, between)  # NaN comes last


def normal_scores(ordered: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return Phi^-1((r - 3/8) / (number + 1/4)), r the rank of each number in its row, the average one among ties.

    Args:
        ordered: ``(k, number)``, ascending.
        places: ``(k, number)``: where each stood.

    Returns:
        ``(k, number)``, each where its number stood.
    """
    number = ordered.shape[-1]
    table = _scores_of_half_ranks(number, ordered.device)
    scores = table[::2].repeat(len(ordered), 1)
    row, column = (ordered[:, 1:] == ordered[:, :-1]).nonzero(as_tuple=True)
    left = row * number + column  # the left one of any two equal neighbours, in all rows end to end
    opens = torch.ones_like(left, dtype=torch.bool)
    opens[1:] = left[1:] > left[:-1] + 1  # of each run of ties; the last of a row is never a left one
    first, last = left[opens] % number, left[opens.roll(-1)] % number + 1
    tied = table[first + last][opens.cumsum(0) - 1]
    scores.view(-1)[left] = tied
    scores.view(-1)[left + 1] = tied
    return torch.empty_like(ordered).scatter_(-1, places, scores)


def fold(ordered: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances to the median in ascending order.

    Args:
        ordered: ``(k, number)``, ascending; an even number.
        places: ``(k, number)``: where each stood.

    Returns:
        The distances, and the places of their numbers.
    """
    middle = ordered.shape[-1] // 2
    median = 0.5 * (ordered[:, middle - 1 : middle] + ordered[:, middle : middle + 1])
    distances = torch.cat([(median - ordered[:, :middle]).flip(-1), ordered[:, middle:] - median], -1)
    places = torch.cat([places[:, :middle].flip(-1), places[:, middle:]], -1)
    distances, order = _sort_runs(distances)
    return distances, places.gather(-1, order)


def _sort_runs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows that have few ascending runs in ascending order, and where each stood."""
    if values.device.type != "cpu":
        return torch.sort(values, dim=-1)
    order = torch.from_numpy(np.argsort(values.numpy(), axis=-1, kind="stable"))
    return values.gather(-1, order), order


@functools.lru_cache(maxsize=2)  # one serves all blocks of a batch
def _scores_of_half_ranks(number: int, device: torch.device) -> torch.Tensor:
    """Return the normal scores of the ranks 1, 1.5, 2, ..., number: averages of consecutive ranks."""
    ranks = 0.5 * torch.arange(2, 2 * number + 1, device=device, dtype=torch.float64)
    return torch.special.ndtri((ranks - 0.375) / (number + 0.25))
