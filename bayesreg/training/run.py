"""What a training run was told, and what it hands back."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from bayesreg.certificates import Certificate, certify
from bayesreg.penalties import Penalty

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from bayesreg.data import RegressionData
    from bayesreg.standardization import Standardization

L1_UPDATES = ("proximal", "subgradient")


@dataclass(frozen=True)
class TrainingSettings:
    """How a run was trained.

    Attributes:
        epochs: Passes through the rows; at least 0.
        batch_size: Rows in a batch; n or more is the full batch, and the last batch of an epoch has what is left.
        learning_rate: Size of a step, positive.
        seed: Seeds the starting weights and the shuffling.
        l1_update: "proximal" or "subgradient".
        finished: Whether a finishing phase followed.
        intercept: Whether there is an intercept.

    Raises:
        TypeError: If a whole number or a flag is of another type.
        ValueError: If one is out of range, or the learning rate no number.
    """

    epochs: int = 100
    batch_size: int = 5
    learning_rate: float = 0.003
    seed: int = 0
    l1_update: Literal["proximal", "subgradient"] = "proximal"
    finished: bool = False
    intercept: bool = True

    def __post_init__(self):
        for name, least in (("epochs", 0), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            try:
                number = None if isinstance(value, bool) else operator.index(value)
            except TypeError:
                number = None
            if number is None:
                raise TypeError(f"{name} must be a whole number of at least {least}, got {value!r}")
            if number < least or number >= 2**63:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
            object.__setattr__(self, name, number)
        try:
            rate = math.nan if isinstance(self.learning_rate, bool | str) else float(self.learning_rate)
        except (TypeError, ValueError):
            rate = math.nan
        if not 0 < rate < math.inf:
            raise ValueError(f"learning_rate must be a positive finite number, got {self.learning_rate!r}")
        object.__setattr__(self, "learning_rate", rate)
        if self.l1_update not in L1_UPDATES:
            raise ValueError(f"l1_update must be one of {', '.join(L1_UPDATES)}, got {self.l1_update!r}")
        for name in ("finished", "intercept"):
            if not isinstance(getattr(self, name), bool):
                argument = {"finished": "finish"}.get(name, name)
                raise TypeError(f"{argument} must be True or False, got {getattr(self, name)!r}")


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Where training ended, the way there, and how far from the optimum that is.

    Attributes:
        weights: (d,), float64 tensor on the CPU, in the units of the data.
        intercept: The intercept; 0.0 without one.
        history: One row an epoch, from epoch 0, the start, to the last one (the finishing phase is not in it): `epoch`,
            `train_loss`, `train_objective` (with the penalty), where there are test rows `test_loss` and
            `test_objective`, `weights_l2` |w|_2, `weights_l1` |w|_1 and `zeros`, the number of weights that are exactly
            0. Losses are those of the convention: a mean over the rows in question, or in the conventions with a sum,
            the sum over them.
        penalty: The penalty that was trained; `Penalty()` for none.
        settings: Epochs, batch size, learning rate and so on.
        data: The rows.
        finishing_steps: Number of full-batch steps of the finishing phase.
        standardized: The same run in standard units, where this one is in the original ones; set by `original_units`.

    Example:
        >>> import bayesreg as br
        >>> run = br.train(br.load_diabetes().standardized(), br.L1(0.05), epochs=20, learning_rate=0.01, seed=1)
        >>> run.weights.shape, len(run.history), 0 < run.certificate.relative_gap < 0.1
        (torch.Size([10]), 21, True)
    """

    weights: torch.Tensor
    intercept: float
    history: pd.DataFrame = field(repr=False)
    penalty: Penalty
    settings: TrainingSettings
    data: RegressionData
    finishing_steps: int = 0
    standardized: TrainingRun | None = field(default=None, repr=False)

    @cached_property
    def certificate(self) -> Certificate:
        """What `certify` says of the end point, intercept included, against the penalty, in the units of the training.

        Made when first asked for: it solves linear systems, which training does not.
        """
        if self.standardized is not None:
            return self.standardized.certificate
        return certify(
            self.weights,
            self.data,
            self.penalty,
            intercept=self.intercept if self.settings.intercept else False,
            steps_per_epoch=self.steps_per_epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return -(-self.data.num_rows // self.settings.batch_size)

    @property
    def transform(self) -> Standardization | None:
        """The standardisation that the weights are in the units of, if any."""
        return self.data.transform if self.standardized is None else None

    @property
    def message(self) -> str:
        """What was done and how far from the optimum it ended, in two sentences."""
        settings = self.settings
        batches = "the full batch" if settings.batch_size >= self.data.num_rows else f"batches of {settings.batch_size}"
        done = f"{settings.epochs} epochs of SGD in {batches} at learning_rate={settings.learning_rate:g}"
        if settings.finished:
            done += f", then {self.finishing_steps} accelerated steps on the full batch"
        return f"{done}. {self.certificate}"

    def original_units(self) -> TrainingRun:
        """Return weights and intercept in the units of the data before `standardized()`.

        History, penalty and certificate stay those of the problem that was trained.

        Returns:
            The run with other weights and intercept, and this one as `standardized`.

        Raises:
            ValueError: If the data were not standardised, or the run is in original units already.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> run = br.train(data, br.L2(0.01), epochs=1, finish=True).original_units()
            >>> round(run.intercept, 2), run.weights.numpy().round(1).tolist()[:3]
            (152.13, [-7.2, -234.5, 520.6])
        """
        if self.transform is None:
            raise ValueError(
                "original_units() needs a run on data.standardized(); this one is in the units of the original rows"
            )
        intercept = float(self.transform.to_original_intercept(self.weights, self.intercept))
        weights = self.transform.to_original_weights(self.weights)
        return replace(self, weights=weights, intercept=intercept, standardized=self)
