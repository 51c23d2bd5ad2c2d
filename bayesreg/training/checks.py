"""What training refuses: test rows that do not fit, starts that are none, runs that diverge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bayesreg.computing.arrays import as_float64
from bayesreg.data import RegressionData
from bayesreg.training.objective import TrainingObjective, stable_step

if TYPE_CHECKING:
    from bayesreg.training.run import TrainingSettings

# A mini-batch run whose objective ends this far above both its start and that of weights 0 has diverged.
_DIVERGED = 1e3


def largest_end(first: np.ndarray, null: float, settings: TrainingSettings, num_rows: int, kind: str) -> np.ndarray:
    """Return the objective above which the end of a run says that it diverged.

    On the full batch, where each stable step goes down, that is the objective at the start; in mini-batches, and with
    the subgradient, far above.

    Args:
        first: Objective at the start; any shape.
        null: Objective at weights 0.
        settings: How the run was trained.
        num_rows: Number of rows.
        kind: Kind of the penalty.

    Returns:
        The bound, of the shape of `first`.
    """
    subgradient = kind in ("l1", "elasticnet") and settings.l1_update == "subgradient"
    scale = np.maximum(first, null)
    return first + 1e-9 * scale if settings.batch_size >= num_rows and not subgradient else _DIVERGED * scale


def check_convergent(
    first: float,
    last: float,
    objective: TrainingObjective,
    rows: tuple[torch.Tensor, torch.Tensor],
    settings: TrainingSettings,
    kind: str,
    which: str = "",
) -> None:
    """Refuse a run that diverged.

    Args:
        first: Its objective at the start.
        last: Its objective at the end.
        objective: The objective.
        rows: Features (n, d) and target (n,).
        settings: How it was trained.
        kind: Kind of the penalty.
        which: What names the run among others, for the message, such as ", lambda=3".

    Raises:
        ValueError: If the objective is not finite, or ends above what `largest_end` allows.
    """
    features, target = rows
    if not math.isfinite(first):
        raise ValueError(f"the objective at the start is {first}: data or start are too large for float64")
    null = float(objective.loss(torch.zeros_like(target), target))
    if last <= largest_end(np.float64(first), null, settings, len(target), kind):
        return
    bound, sharp = stable_step(objective, features, settings.batch_size, settings.intercept)
    reason = "2 / L with L the largest eigenvalue of the full batch's Hessian: a sharp bound"
    if not sharp:
        full = settings.batch_size >= len(target)
        reason = "2 / L for the full batch" if full else "2 / max over batches of (L_b + lambda), whatever the batches"
        reason += ": a sufficient bound, somewhat larger rates may work"
    raise ValueError(
        f"training diverged at learning_rate={settings.learning_rate:g}{which}: in {settings.epochs} epochs the "
        f"objective went from {first:.3g} to {last:.3g}. The largest stable learning_rate here is {bound:.6g} "
        f"({reason}). Standardized data, data.standardized(), may allow a larger one"
    )


def check_test(test: RegressionData | None, data: RegressionData) -> None:
    """Refuse test rows of other columns or in other units.

    Args:
        test: The test rows.
        data: The rows to train on.

    Raises:
        TypeError: If they are not rows.
        ValueError: If they do not fit.
    """
    if test is None:
        return
    if not isinstance(test, RegressionData):
        raise TypeError(f"test must be a RegressionData or None, got {type(test).__name__}")
    if test.feature_names != data.feature_names:
        pairs = zip(test.feature_names, data.feature_names, strict=False)
        differing = next((f"{its!r} stands where data have {ours!r}" for its, ours in pairs if its != ours), "")
        raise ValueError(
            f"test must have the columns of data, {data.num_features} in the same order; it has {test.num_features}"
            + (f", and {differing}" if differing else "")
        )
    if test.transform != data.transform:
        raise ValueError(
            "test must be in the units of data: where data are standardized, data.transform.apply(test) of rows in "
            "their own units; where they are not, test rows that are not standardized either"
        )


def checked_start(start: Any, num_features: int, intercept: bool) -> tuple[torch.Tensor, float]:
    """The start as a tensor and a number.

    Args:
        start: What the caller gave.
        num_features: Number of features d.
        intercept: Whether the model has an intercept.

    Returns:
        Weights (d,) and intercept.

    Raises:
        ValueError: If it is not a pair of d finite weights and a finite intercept (0 in a model without one).
    """
    if not isinstance(start, tuple | list) or len(start) != 2:
        raise ValueError(f"start must be a pair (weights, intercept), got {start!r}")
    weights, offset = as_float64(start[0], "weights of start"), as_float64(start[1], "intercept of start")
    if weights.shape != (num_features,) or offset.size != 1:
        raise ValueError(
            f"start must be weights of shape ({num_features},) and one intercept, got shapes {weights.shape} and "
            f"{offset.shape}"
        )
    weights, number = torch.tensor(weights, dtype=torch.float64, device="cpu"), float(offset.reshape(()))
    if not (bool(weights.isfinite().all()) and math.isfinite(number)):
        raise ValueError("start must be finite, got weights or an intercept that are not")
    if number and not intercept:
        raise ValueError(f"start must have an intercept of 0 with intercept=False, got {number}")
    return weights, number
