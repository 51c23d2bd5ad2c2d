"""The objective of a convention as a training loop sees it, in the units of its loss, and the steps that it can stand.

For n rows, in batches of B, K = ceil(n / B) steps an epoch, the whole objective is (see `bayesreg.objectives`)

    loss_multiplier * RSS + P(w),      P(w) = sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ],

strengths times the multipliers of the convention. A step sees the loss of its batch: the mean of r^2/2 or of r^2 over
the batch, with the whole of P; or the sum of r^2, of which the K steps share the n rows, with P / K. That share of P
is what `weight_decay` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from bayesreg.computing.power_iteration import largest_eigenvalue
from bayesreg.data import require_rows
from bayesreg.objectives import CANONICAL, get_convention
from bayesreg.penalties import Penalty

if TYPE_CHECKING:
    from bayesreg.data import RegressionData


@dataclass(frozen=True, eq=False)
class TrainingObjective:
    """The loss and the penalty of a convention, on a device.

    Attributes:
        loss_name: "half-mean" RSS/2n, "mean" RSS/n, or "sum" RSS.
        l1: Strength of the L1 term in the whole objective; a tensor, () or (d,), float64.
        l2: Strength of the L2 term, alike.
        centre: What the weights are pulled towards, alike.
        steps_per_epoch: K.
    """

    loss_name: Literal["half-mean", "mean", "sum"]
    l1: torch.Tensor
    l2: torch.Tensor
    centre: torch.Tensor
    steps_per_epoch: int

    @classmethod
    def of(
        cls, penalty: Penalty, data: RegressionData, batch_size: int, device: torch.device | str = "cpu"
    ) -> TrainingObjective:
        """Translate a penalty.

        Args:
            penalty: The penalty, in a convention whose loss can be trained.
            data: The rows to train on.
            batch_size: Rows in a batch.
            device: Where the tensors are made.

        Returns:
            The objective that the penalty states.

        Raises:
            TypeError: If `penalty` is not a `Penalty`.
            ValueError: If the convention's loss is divided by the noise variance, which training does not know, or
                vectors of the penalty do not have one entry a feature.
        """
        if not isinstance(penalty, Penalty):
            raise TypeError(
                "penalty must be a Penalty, which knows the objective that its strength belongs to, such as L2(3.0) or "
                f"L2(3.0, convention='torch-mse-mean'), or None; got {penalty!r}"
            )
        row = get_convention(penalty.convention)
        if row.training_loss is None:
            raise ValueError(
                f"penalty must be in a convention whose loss can be trained; the objective of {row.name} is "
                f"{row.objective}. Convert it first: penalty.to({CANONICAL!r}, num_rows=..., noise_scale=...)"
            )
        knowledge = known_to_training(data, batch_size)
        numbers = {"centre": penalty.centre}
        for name in ("l1", "l2"):
            value = getattr(penalty, name)
            purpose = f"the penalty term in the objective of {row.name}"
            numbers[name] = value * row.multiplier(name).at(purpose, **knowledge) if np.any(value) else 0.0
        for name, value in numbers.items():
            if np.ndim(value) and len(value) != data.num_features:
                raise ValueError(
                    f"{name} of the penalty must be a number or have one entry for each of {data.num_features} "
                    f"features, got {len(value)}"
                )
        tensors = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in numbers.items()}
        return cls(loss_name=row.training_loss, steps_per_epoch=knowledge["steps_per_epoch"], **tensors)

    @property
    def share(self) -> float:
        """The share of the penalty in the objective of one step."""
        return 1.0 / self.steps_per_epoch if self.loss_name == "sum" else 1.0

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of some rows, (), as `nn.MSELoss` has it or half of that."""
        reduction = "sum" if self.loss_name == "sum" else "mean"
        squared = torch.nn.functional.mse_loss(prediction, target, reduction=reduction)
        return squared / 2 if self.loss_name == "half-mean" else squared

    def loss_multiplier(self, num_rows: int | np.ndarray) -> float | np.ndarray:
        """Return the factor of the residual sum of squares in the loss of so many rows."""
        return {"half-mean": 0.5 / num_rows, "mean": 1.0 / num_rows, "sum": 1.0}[self.loss_name]

    def penalty(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the whole of P(w), ()."""
        offset = weights - self.centre
        return (0.5 * self.l2 * offset * offset + self.l1 * offset.abs()).sum()


def known_to_training(data: RegressionData, batch_size: int) -> dict[str, Any]:
    """Return what training knows that a conversion of its penalty may need.

    Args:
        data: The rows to train on.
        batch_size: Rows in a batch.

    Returns:
        `num_rows`, `steps_per_epoch` and `target_scale` (None for a constant target).
    """
    spread = float(np.std(data.target - data.target[0]))
    return {
        "num_rows": data.num_rows,
        "steps_per_epoch": -(-data.num_rows // batch_size),
        "target_scale": spread or None,
    }


def largest_stable_step(
    data: RegressionData, penalty: Penalty | None = None, batch_size: int = 5, intercept: bool = True
) -> float:
    """The largest learning rate at which `train` is sure not to diverge, in the units of the loss that it minimises.

    With z = (x, 1) a row, m = loss_multiplier * n for a mean and 1 for a sum, and D the L2 strengths of one step,

        full batch:  2 / L,  L the largest eigenvalue of 2 loss_multiplier Z'Z + D: sharp, beyond it almost every
                     start diverges (with an L1 term: sufficient);
        batches:     2 / max_b (L_b + max D),  L_b <= 2 loss_multiplier_b min(the B largest |z_i|^2 summed, eigmax(Z'Z))
                     for whatever batches the shuffling makes: sufficient.

    Args:
        data: The rows.
        penalty: The penalty; its convention says which loss. None: half the mean squared error.
        batch_size: Rows in a batch; n or more is the full batch.
        intercept: Whether an intercept is trained.

    Returns:
        The bound; infinite where neither the rows nor the penalty have any curvature.

    Example:
        >>> from bayesreg import L2, RegressionData
        >>> data = RegressionData([[1.0], [-1.0]], [1.0, -1.0])
        >>> round(largest_stable_step(data, L2(3.0), batch_size=2), 9)  # L = 1 + 3
        0.5
    """
    rows = require_rows(data, "largest_stable_step")
    objective = TrainingObjective.of(Penalty() if penalty is None else penalty, rows, batch_size)
    features = torch.tensor(rows.features, dtype=torch.float64, device="cpu")
    return stable_step(objective, features, batch_size, intercept)[0]


def stable_step(
    objective: TrainingObjective, features: torch.Tensor, batch_size: int, intercept: bool
) -> tuple[float, bool]:
    """Return `largest_stable_step`, and whether it is sharp.

    Args:
        objective: The objective.
        features: The rows, (n, d).
        batch_size: Rows in a batch.
        intercept: Whether an intercept is trained.

    Returns:
        The bound, and True where it is sharp.
    """
    num_rows, device = len(features), features.device
    if intercept:
        features = torch.cat([features, torch.ones((num_rows, 1), dtype=torch.float64, device=device)], dim=1)
    decay = (objective.share * objective.l2).expand(features.shape[1] - intercept)
    if intercept:
        decay = torch.cat([decay, torch.zeros(1, dtype=torch.float64, device=device)])

    def curvature(rows: int) -> float:  # the factor of Z'Z in the Hessian of the loss of so many rows
        return 2 * objective.loss_multiplier(rows)

    if batch_size >= num_rows:
        factor = curvature(num_rows)
        largest = largest_eigenvalue(
            lambda v: factor * (features.T @ (features @ v)) + decay * v, features.shape[1], device
        )
        return (2 / largest if largest > 0 else float("inf")), not bool(objective.l1.any())
    whole = largest_eigenvalue(lambda v: features.T @ (features @ v), features.shape[1], device)
    lengths = features.square().sum(dim=1).sort(descending=True).values
    largest = max(
        curvature(rows) * min(float(lengths[:rows].sum()), whole)
        for rows in {batch_size, num_rows % batch_size or batch_size}
    ) + float(decay.max())
    return (2 / largest if largest > 0 else float("inf")), False
