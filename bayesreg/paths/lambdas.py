"""The strengths of a path: which kinds of penalty have one, what is accepted, and a grid where none are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesreg.computing.arrays import as_float64
from bayesreg.computing.threads import one_thread
from bayesreg.paths.centred_design import CentredDesign

if TYPE_CHECKING:
    import torch

KINDS = ("l2", "l1", "elasticnet")
_NUM_LAMBDAS = 100
# The smallest strength by default, as a share of the largest: as far as the fit still changes.
_SHARE, _SHARE_WITH_FEW_ROWS = 1e-3, 1e-2
# Ridge shrinks directions: from well above the longest one's strength to well below the shortest one's.
_BEYOND_SPECTRUM, _LEAST_OF_SPECTRUM = 100.0, 1e-6


@one_thread()
def default_lambdas(design: CentredDesign, kind: str, l1_ratio: float) -> np.ndarray:
    """Return 100 strengths, descending, evenly in their logarithm."""
    largest = float(np.abs(design.correlations).max())
    if kind != "l2":
        first = largest / l1_ratio or 1.0
        share = _SHARE if design.num_rows > design.num_features else _SHARE_WITH_FEW_ROWS
        return np.geomspace(first, share * first, _NUM_LAMBDAS)
    squares = np.square(design.spectrum.singular_values) / design.num_rows
    if not squares.size:
        return np.geomspace(1.0, _SHARE, _NUM_LAMBDAS)
    last = max(squares.min(), _LEAST_OF_SPECTRUM * squares.max()) / _BEYOND_SPECTRUM
    spectrum = design.spectrum
    free = spectrum.degrees_of_freedom - spectrum.rank
    if free <= 0:  # the rows are fitted exactly: how small a strength the noise calls for is left open by them
        last /= _BEYOND_SPECTRUM
    if free > 0 and spectrum.residual > 0.0:  # the prior that the least-squares fit would suggest: s^2 / (n t^2)
        with np.errstate(over="ignore"):  # large weights suggest no small strength
            mean_square = float(np.square(spectrum.projections / spectrum.singular_values).mean())
        suggested = spectrum.residual / free / (design.num_rows * mean_square or np.inf)
        last = min(last, suggested / _BEYOND_SPECTRUM) or last
    return np.geomspace(_BEYOND_SPECTRUM * squares.max(), last, _NUM_LAMBDAS)


def checked_lambdas(lambdas: Sequence[float] | np.ndarray | torch.Tensor, kind: str) -> np.ndarray:
    """Return strengths as an array `(m,)`, or refuse them with a ValueError."""
    values = as_float64(lambdas, "lambdas")
    if values.ndim != 1 or not values.size:
        hint = f"; give [{float(values):g}]" if values.ndim == 0 else ""
        raise ValueError(f"lambdas must be a vector of at least one strength, got shape {values.shape}{hint}")
    valid = np.isfinite(values) & ((values >= 0.0) if kind == "l2" else (values > 0.0))
    if not valid.all():
        least = "at least 0" if kind == "l2" else "positive (strength 0 is least squares: kind='l2' has it)"
        first = int(np.argmin(valid))
        raise ValueError(f"lambdas must be finite and {least}, got {values[first]} at position {first}")
    return values.copy()


def checked_ratio(kind: str, l1_ratio: float) -> float:
    """Return the share r of the L1 term: 0 for l2, 1 for l1, as given for an elastic net; or refuse kind and share."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"kind must be one of {', '.join(KINDS)}, got {kind if isinstance(kind, str) else type(kind).__name__!r}"
        )
    if kind != "elasticnet":
        return {"l2": 0.0, "l1": 1.0}[kind]
    ratio = checked_number(l1_ratio, "l1_ratio", "a number above 0 and below 1")
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"l1_ratio must be above 0 and below 1 (else kind is 'l2' or 'l1'), got {l1_ratio!r}")
    return ratio


def checked_number(value: object, name: str, wanted: str) -> float:
    """Return a number as a float, or refuse it with a TypeError that says what is wanted."""
    if isinstance(value, bool | str) or not np.isscalar(value) or isinstance(value, complex):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    return float(value)
