"""What the explorer of a report moves along: fits, posteriors, losses and evidence at each strength of a grid.

Everything is at one known noise scale, so that each prior scale stands for one lambda: a Gaussian prior of scale t for
lambda = s^2 / (n t^2), a Laplace prior of scale b for s^2 / (n b), in the convention ``mean-half-squared``. The numbers
are those of the public functions: `bayesreg.path`, `bayesreg.posterior_path`, `bayesreg.cross_validate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bayesreg.data import RegressionData
from bayesreg.moments import as_moments
from bayesreg.paths.penalty_path import Path, path
from bayesreg.paths.posterior_path import posterior_path
from bayesreg.report.conventions import conventions
from bayesreg.selection.cross_validation import cross_validate
from bayesreg.selection.strength_evidence import evidence_from_posteriors
from bayesreg.warnings import convergence_warnings

if TYPE_CHECKING:
    from bayesreg.moments import Moments

FORMAT = 1
INTERVAL = 0.9
_DENSITY_POINTS = 61  # under a Laplace prior: under a Gaussian one mean and deviation say it
MOST_FEATURES = 60
# Above so many features the draws under a Laplace prior take minutes rather than seconds.
MOST_LAPLACE_FEATURES = 30
# The draws under a Laplace prior take some 0.15 s a strength on the diabetes data, 3 s with 20 rows of 200 features.
_STRENGTHS = {"l2": 41, "l1": 33}
_STRENGTHS_WITHOUT_DRAWS = 41
_NOTHING_MOVES = 10.0
_DRAWS = 1000
_FOLDS, _FEWEST_ROWS_TO_HOLD_OUT = 10, 20
# What is left out above: held-out losses by the numbers in the rows, the rest by the smaller side of the matrix.
_MOST_NUMBERS, _LARGEST_SIDE = 2e7, 2000
_DIGITS = 7


@dataclass(frozen=True)
class Mark:
    """A strength to find again on the axis.

    Attributes:
        kind: ``"l2"`` or ``"l1"``.
        strength: Lambda, in the convention ``mean-half-squared``.
        label: What it is.
    """

    kind: str
    strength: float
    label: str


def explore(
    data: RegressionData | Moments,
    noise_scale: float,
    *,
    noise_source: str = "known",
    intercept: bool = True,
    marks: Sequence[Mark] = (),
    test: RegressionData | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute what the explorer shows, in the units of the data.

    Args:
        data: Rows or moments; without rows there are no held-out losses.
        noise_scale: The noise scale s that all of it is at.
        noise_source: Where that number comes from, in a word or two.
        intercept: Whether there is an intercept.
        marks: Strengths that must be among those of the grid.
        test: Rows to show the loss on; None: cross-validation.
        seed: Seeds folds and draws.

    Returns:
        Plain values for a JSON document: ``axes`` by kind, and what they share.
    """
    moments = as_moments(data)
    document: dict[str, Any] = {
        "format": FORMAT,
        "rows": moments.num_rows,
        "noise_scale": noise_scale,
        "noise_source": noise_source,
        "interval": INTERVAL,
        "standardized": data.transform is not None,
        "conventions": conventions(moments, noise_scale),
        "axes": {},
        "notes": [],
    }
    if (side := min(moments.num_rows, moments.num_features)) > _LARGEST_SIDE:
        document["notes"].append(f"There is no explorer: the data have {side:,} rows and columns, too many for a page.")
        return document
    marks = [mark for mark in marks if np.isfinite(mark.strength) and mark.strength > 0.0]
    with convergence_warnings() as warned:
        fits = {kind: _fits(data, kind, noise_scale, intercept, marks) for kind in ("l2", "l1")}
    document["notes"] += [f"In the explorer, {warning}." for warning in warned]
    shown = _largest(moments, fits, marks)
    if left := moments.num_features - len(shown):
        document["notes"].append(
            f"Of {moments.num_features:,} features those {len(shown)} of the largest effect are shown; {left:,} are "
            "left out."
        )
    document["features"] = [moments.feature_names[index] for index in shown]
    document["left_out"] = left
    for kind, path_of_kind in fits.items():
        axis = _axis(data, path_of_kind, noise_scale, intercept, test, seed, shown, document["notes"])
        axis["marks"] = [
            {"index": _nearest(path_of_kind, mark), "label": mark.label} for mark in marks if mark.kind == kind
        ]
        document["axes"][kind] = axis
    return document


def _fits(
    data: RegressionData | Moments, kind: str, noise_scale: float, intercept: bool, marks: Sequence[Mark]
) -> Path:
    """Return the fits on the grid of a kind, the marks among them, from the smallest strength up."""
    ends = path(data, kind, noise_scale=noise_scale, intercept=intercept).lambdas[[0, -1]].numpy()
    if kind == "l2":  # beyond the spectrum by a factor of 10, not 100: nothing moves there
        ends = ends / [_NOTHING_MOVES, 1.0 / _NOTHING_MOVES]
    own = [mark.strength for mark in marks if mark.kind == kind]
    largest, smallest = max(ends[0], *own, 0.0), min([ends[1], *own])
    drawn = kind == "l1" and as_moments(data).num_features <= MOST_LAPLACE_FEATURES
    grid = np.geomspace(largest, smallest, _STRENGTHS["l1"] if drawn else _STRENGTHS_WITHOUT_DRAWS)
    every = np.unique(np.concatenate([grid, own]))
    return path(data, kind, every, noise_scale=noise_scale, intercept=intercept)


def _nearest(fits: Path, mark: Mark) -> int:
    return int(np.abs(np.log(fits.lambdas.numpy() / mark.strength)).argmin())


def _largest(moments: Moments, fits: dict[str, Path], marks: Sequence[Mark]) -> list[int]:
    """Return the columns to show, in the order of the data: those whose weights, times their sd, are the largest."""
    kind = marks[0].kind if marks else "l2"
    index = _nearest(fits[kind], marks[0]) if marks else len(fits[kind].lambdas) // 2
    effects = fits["l2"].weights[index if kind == "l2" else len(fits["l2"].lambdas) // 2].abs().numpy()
    if kind == "l1":  # zeros say nothing of which is the largest: the ridge fit breaks the tie
        effects = fits["l1"].weights[index].abs().numpy() + 1e-9 * effects
    spread = np.sqrt(np.diagonal(moments.Sxx) / moments.num_rows)
    return sorted(np.argsort(-effects * spread, kind="stable")[:MOST_FEATURES].tolist())


def _axis(
    data: RegressionData | Moments,
    fits: Path,
    noise_scale: float,
    intercept: bool,
    test: RegressionData | None,
    seed: int,
    shown: list[int],
    notes: list[str],
) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "lambdas": _numbers(fits.lambdas),
        "prior_scales": _numbers(fits.prior_scales),
        "map": _numbers(fits.weights[:, shown]),
        "nonzero": fits.num_nonzero.tolist(),
        "largest_gap": float(fits.relative_gaps.max()),
        "train_loss": _numbers(fits.losses),
        "held_out": _held_out(data, fits, intercept, test, seed, notes),
        "posterior": None,
        "log_evidence": None,
        "log_evidence_error": None,
    }
    if fits.kind == "l1" and len(fits.feature_names) > MOST_LAPLACE_FEATURES:
        notes.append(
            f"Under the Laplace prior only the MAP is shown: with {len(fits.feature_names):,} features the draws at "
            f"each strength take minutes. `br.posterior_path(data, 'l1', ...)` makes them."
        )
        return axis
    with convergence_warnings() as found:
        posterior = posterior_path(
            data,
            fits.kind,
            fits.lambdas,
            noise_scale=noise_scale,
            draws=_DRAWS,
            interval=INTERVAL,
            num_density_points=_DENSITY_POINTS if fits.kind == "l1" else None,
            intercept=intercept,
            seed=seed,
        )
    notes += [
        f"On the {'Laplace' if fits.kind == 'l1' else 'Gaussian'} axis {str(warning).removesuffix(': raise draws')}."
        for warning in found
    ]
    axis["posterior"] = {
        name: _numbers(getattr(posterior, name)[:, shown]) for name in ("mean", "sd", "lower", "upper")
    }
    if posterior.mcse_mean is not None:
        for name in ("mcse_mean", "mcse_lower", "mcse_upper"):
            axis["posterior"][name] = _numbers(getattr(posterior, name)[:, shown], 3)
    if posterior.density is not None:
        axis["posterior"]["density"] = _numbers(posterior.density[:, shown], 4)
        axis["posterior"]["density_range"] = _numbers(posterior.density_at[:, shown][..., [0, -1]])
    if fits.kind == "l1":
        table = evidence_from_posteriors(posterior, fits.lambdas.numpy()).table
        heights, errors = table["log_evidence"].to_numpy(), table["standard_error"].to_numpy()
    else:
        heights, errors = posterior.log_evidence.numpy(), None
    axis["log_evidence"] = _numbers(heights - heights.max())
    axis["log_evidence_error"] = None if errors is None else _numbers(errors)
    return axis


def _held_out(
    data: RegressionData | Moments,
    fits: Path,
    intercept: bool,
    test: RegressionData | None,
    seed: int,
    notes: list[str],
) -> dict[str, Any] | None:
    if test is not None:
        return {"what": f"{test.num_rows:,} test rows", "loss": _numbers(fits.loss(test)), "standard_error": None}
    reason = None
    if not isinstance(data, RegressionData):
        reason = "the run holds the moments of the data and not their rows"
    elif data.num_rows < _FEWEST_ROWS_TO_HOLD_OUT:
        reason = f"{data.num_rows} rows are too few to hold some out"
    elif data.num_rows * data.num_features > _MOST_NUMBERS:
        reason = f"{data.num_rows:,} rows of {data.num_features:,} columns would take too long"
    if reason is not None:
        if (note := f"There are no held-out losses: {reason}.") not in notes:
            notes.append(note)
        return None
    with convergence_warnings() as warned:
        found = cross_validate(data, fits.kind, fits.lambdas, folds=_FOLDS, seed=seed % 2**32, intercept=intercept)
    notes += [f"In the cross-validation, {warning}." for warning in warned]
    errors = _numbers(found.standard_error)
    return {"what": f"{_FOLDS}-fold cross-validation", "loss": _numbers(found.loss), "standard_error": errors}


def _numbers(values: torch.Tensor | np.ndarray, digits: int = _DIGITS) -> list:
    """Return numbers as lists, with more digits than the page shows and fewer than make the page large."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore"):
        decimals = digits - 1 - np.floor(np.log10(np.abs(values)))
    rounded = [
        value if not np.isfinite(places) else round(value, int(places))
        for value, places in zip(values.ravel().tolist(), decimals.ravel().tolist(), strict=True)
    ]
    return np.array(rounded, dtype=np.float64).reshape(values.shape).tolist()
