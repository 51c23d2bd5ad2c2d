"""Penalised linear regression by stochastic gradient descent, as a deep-learning reader would write it.

Each epoch shuffles the rows and takes them in batches; each step is one of `torch.optim.SGD` on

    loss of the batch + sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ]        (see `bayesreg.training.objective`),

the intercept unpenalised. An L2 term of one strength, towards 0, is the optimizer's `weight_decay`, any other adds its
gradient. An L1 term either adds its subgradient, l1_j sign(w_j - c_j) with sign(0) = 0, or follows the step by its
proximal map, which alone reaches exact zeros. The loss is that of the penalty's convention. No prior is known here,
nothing is solved in closed form, and what is left to the optimum is certified.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import pandas as pd
import torch

from bayesreg.computing.devices import resolve_device
from bayesreg.computing.progress import progress_bar
from bayesreg.data import RegressionData, require_rows
from bayesreg.penalties import Penalty
from bayesreg.training.checks import check_convergent, check_test, checked_start
from bayesreg.training.finishing import finish as finish_training
from bayesreg.training.objective import TrainingObjective, known_to_training, largest_stable_step
from bayesreg.training.run import TrainingRun, TrainingSettings
from bayesreg.training.shuffling import Shuffling
from bayesreg.warnings import ConvergenceWarning

__all__ = ["TrainingRun", "TrainingSettings", "largest_stable_step", "train"]


def train(
    data: RegressionData,
    penalty: Penalty | None = None,
    epochs: int = 100,
    batch_size: int = 5,
    learning_rate: float = 0.003,
    seed: int = 0,
    test: RegressionData | None = None,
    *,
    l1_update: Literal["proximal", "subgradient"] = "proximal",
    finish: bool = False,
    intercept: bool = True,
    start: tuple[Sequence[float] | torch.Tensor, float] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> TrainingRun:
    """Train penalised linear regression by stochastic gradient descent; the loss follows from the penalty's convention.

    A step is one of `torch.optim.SGD` on

        loss of the batch + sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ],

    the intercept unpenalised, the L1 term by its proximal map after the step or by its subgradient in it. In
    `mean-half-squared` the loss is the mean of (y - x'w - b)^2 / 2; `bayesreg.training.objective` has the others. The
    weights start from N(0, 1) and the intercept from 0 (see `bayesreg.training.shuffling`). All is float64, in the
    units of the data. Source: Zhang, Lipton, Li and Smola, Dive into Deep Learning (2023), the section on weight decay.

    Args:
        data: The rows.
        penalty: The penalty, such as `L2(3.0)` (on half the mean squared error) or `L2(3.0, "torch-mse-mean")` (on
            `nn.MSELoss`). None: none, on half the mean squared error.
        epochs: Passes through the rows; 0 leaves the start as it is.
        batch_size: Rows in a batch; n or more is the full batch.
        learning_rate: Size of a step.
        seed: Seeds start and shuffling.
        test: Rows to follow the loss on, in the units of `data`.
        l1_update: How an L1 term enters: "proximal" reaches exact zeros, "subgradient" does not.
        finish: Whether to go on to the optimum, on the full batch, after the epochs (`bayesreg.training.finishing`).
        intercept: Whether there is an intercept.
        start: Weights (d,) and intercept to start from.
        device: "cpu", "cuda" or "auto" (the CPU).
        progress: Whether to show a bar.

    Returns:
        The run; its certificate says how far from the optimum it ended.

    Raises:
        TypeError: If the data are not rows, the penalty is no `Penalty`, or a whole number or a flag is of another
            type.
        ValueError: If a setting is out of range (or `learning_rate` no number), the penalty's convention has no loss to
            train, start or test rows do not fit the data, or the run diverges; the message then has the largest stable
            learning rate.

    Warns:
        ConvergenceWarning: If the finishing phase stops short of its promise, a relative gap of 1e-10, or where a
            feature bears no penalty a KKT residual of 1e-8.

    Example:
        The experiment of the deep-learning book ends far from its optimum; the finishing phase reaches it.

        >>> import bayesreg as br
        >>> rows, test = br.simulate_weight_decay(seed=0)
        >>> run = br.train(rows, br.L2(3.0), test=test)
        >>> list(run.history.columns[:4]), len(run.history)
        (['epoch', 'train_loss', 'train_objective', 'test_loss'], 101)
        >>> run.certificate.relative_gap > 1, br.train(rows, br.L2(3.0), finish=True).certificate.relative_gap < 1e-10
        (True, True)
    """
    settings = TrainingSettings(epochs, batch_size, learning_rate, seed, l1_update, finish, intercept)
    rows = require_rows(data, "train")
    penalty = Penalty() if penalty is None else penalty
    place = resolve_device(device)
    objective = TrainingObjective.of(penalty, rows, settings.batch_size, place)
    check_test(test, rows)
    given = None if start is None else checked_start(start, rows.num_features, settings.intercept)
    loop = _Loop(rows, test, objective, penalty, settings, place)
    loop.start(given)
    loop.run(progress)
    history = loop.history()
    first, last = history["train_objective"].iloc[[0, -1]]
    check_convergent(first, last, objective, (loop.features, loop.target), settings, penalty.kind)
    weights, offset, finishing_steps = loop.weights.detach(), loop.intercept.item(), 0
    if settings.finished:
        canonical = penalty.canonical(**known_to_training(rows, settings.batch_size))
        end = finish_training(
            loop.features, loop.target, canonical, weights, intercept=intercept, l1_update=settings.l1_update
        )
        weights, offset, finishing_steps = end.weights, end.intercept, end.steps
        if not end.reached <= end.threshold:
            warnings.warn(
                f"the finishing phase stopped after {end.steps} steps at a {end.measure} of {end.reached:.1e}, above "
                f"{end.threshold:.0e}; the certificate of the run says how far from the optimum it is",
                ConvergenceWarning,
                stacklevel=2,
            )
    return TrainingRun(weights.cpu(), offset, history, penalty, settings, rows, finishing_steps)


class _Loop:
    """The epochs: parameters, optimizer, and what each epoch leaves in the history, all on one device."""

    def __init__(
        self,
        rows: RegressionData,
        test: RegressionData | None,
        objective: TrainingObjective,
        penalty: Penalty,
        settings: TrainingSettings,
        device: torch.device,
    ):
        self.objective, self.settings = objective, settings
        self.number = {"dtype": torch.float64, "device": device}
        self.features, self.target = (torch.tensor(v, **self.number) for v in (rows.features, rows.target))
        self.parts = {"train": (self.features, self.target)}
        if test is not None:
            self.parts["test"] = tuple(torch.tensor(v, **self.number) for v in (test.features, test.target))
        self.shuffling = Shuffling(settings.seed, *self.features.shape, device)
        rate, share = settings.learning_rate, objective.share
        self.l1, self.l2, self.threshold = share * objective.l1, share * objective.l2, rate * share * objective.l1
        self.has_l1 = penalty.kind in ("l1", "elasticnet")
        plain = self.l2.ndim == 0 and penalty.kind in ("l2", "elasticnet") and objective.centre.ndim == 0
        self.decay = float(self.l2) if plain and float(objective.centre) == 0 else 0.0
        self.pulls = penalty.kind in ("l2", "elasticnet") and not self.decay
        self.records: list[torch.Tensor] = []

    def start(self, given: tuple[torch.Tensor, float] | None) -> None:
        """Make the parameters and the optimizer."""
        weights, intercept = (self.shuffling.start, 0.0) if given is None else given
        self.weights = weights.to(**self.number, copy=True).requires_grad_()
        self.intercept = torch.tensor(intercept, **self.number, requires_grad=self.settings.intercept)
        groups = [{"params": [self.weights], "weight_decay": self.decay}]
        if self.settings.intercept:
            groups.append({"params": [self.intercept], "weight_decay": 0.0})
        self.optimizer = torch.optim.SGD(groups, lr=self.settings.learning_rate)

    @torch.enable_grad()
    def run(self, progress: bool) -> None:
        """Go through the epochs; nothing in here waits for the device."""
        self.record()
        with progress_bar(progress, "training", self.settings.epochs) as bar:
            for _ in range(self.settings.epochs):
                for batch in self.shuffling.order().split(self.settings.batch_size):
                    self.step(self.features[batch], self.target[batch])
                self.record()
                bar.advance()

    def step(self, features: torch.Tensor, target: torch.Tensor) -> None:
        """Take one step of SGD on a batch."""
        self.optimizer.zero_grad()
        self.objective.loss(features @ self.weights + self.intercept, target).backward()
        with torch.no_grad():
            centre = self.objective.centre
            if self.pulls:
                self.weights.grad += self.l2 * (self.weights - centre)
            if self.has_l1 and self.settings.l1_update == "subgradient":
                self.weights.grad += self.l1 * (self.weights - centre).sign()
            self.optimizer.step()
            if self.has_l1 and self.settings.l1_update == "proximal":
                offset = self.weights - centre
                self.weights.copy_(offset - offset.clip(-self.threshold, self.threshold) + centre)

    @torch.no_grad()
    def record(self) -> None:
        """Keep losses and norms of the present parameters, as a tensor."""
        penalty, values = self.objective.penalty(self.weights), []
        for features, target in self.parts.values():
            loss = self.objective.loss(features @ self.weights + self.intercept, target)
            values += [loss, loss + penalty]
        weights = self.weights
        values += [weights.norm(), weights.abs().sum(), (weights == 0).sum().double()]
        self.records.append(torch.stack(values))

    def history(self) -> pd.DataFrame:
        """Return one row an epoch."""
        names = [f"{part}_{what}" for part in self.parts for what in ("loss", "objective")]
        names += ["weights_l2", "weights_l1", "zeros"]
        table = pd.DataFrame(torch.stack(self.records).cpu().numpy(), columns=names)
        table.insert(0, "epoch", range(len(table)))
        return table.astype({"zeros": "int64"})
