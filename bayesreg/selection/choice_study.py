"""Is the chosen lambda really optimal, and does it matter? The choice repeated over many simulated data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.progress import progress_bar
from bayesreg.data import RegressionData, simulate_weight_decay
from bayesreg.paths.penalty_path import path
from bayesreg.selection.choosing import Chooser, checked_methods, positive_lambdas
from bayesreg.training.checks import check_test

# Without "learned", which draws from a posterior a data set.
_METHODS = ("validation", "cv", "cv-1se", "evidence", "loo")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False, repr=False)
class ChoiceStudy:
    """What each method chose on each simulated data set, and what it got on the test rows.

    Attributes:
        table: One row a data set and method: `replication`, `method`, `lambda`, `test_loss`, `best_lambda` and
            `best_test_loss` (the smallest along the path and among the choices on the same rows: nobody can know it),
            and `excess`, the test loss over the best one, less 1. Losses are means of error^2 / 2, lambdas canonical.
        kind: "l2", "l1" or "elasticnet".

    Example:
        >>> import bayesreg as br
        >>> br.study_choice(replications=5, methods=("evidence", "loo"), noise_scale=0.01).table.columns.tolist()
        ['replication', 'method', 'lambda', 'test_loss', 'best_lambda', 'best_test_loss', 'excess']
    """

    table: pd.DataFrame
    kind: Literal["l2", "l1", "elasticnet"]

    def __repr__(self) -> str:
        medians = self.table.groupby("method", sort=False)["excess"].median()
        found = ", ".join(f"{name} {value:.1%}" for name, value in medians.items())
        return f"ChoiceStudy({self.kind}, {self.table['replication'].nunique()} data sets, median excess: {found})"

    def summary(self) -> pd.DataFrame:
        """Return the mean of the excess test loss with its standard error, and its quantiles, by method.

        Returns:
            One row a method: `mean`, `standard_error` (the standard deviation over the data sets, divisor their number
            less 1, over its root), and the quantiles `q5`, `q25`, `q50`, `q75` and `q95`, all of `excess`, a ratio.

        Example:
            >>> import bayesreg as br
            >>> study = br.study_choice(replications=5, methods=("evidence", "loo"), noise_scale=0.01)
            >>> study.summary().columns.tolist(), study.summary().index.tolist()
            (['mean', 'standard_error', 'q5', 'q25', 'q50', 'q75', 'q95'], ['evidence', 'loo'])
        """
        groups = self.table.groupby("method", sort=False)["excess"]
        quantiles = groups.quantile(list(_QUANTILES)).unstack()
        quantiles.columns = [f"q{round(100 * level)}" for level in _QUANTILES]
        frame = pd.DataFrame({"mean": groups.mean(), "standard_error": groups.sem()})
        return frame.join(quantiles).loc[self.table["method"].unique()]


def study_choice(
    simulate: Callable[[int], tuple[RegressionData, RegressionData]] = simulate_weight_decay,
    replications: int = 500,
    kind: Literal["l2", "l1", "elasticnet"] = "l2",
    methods: Sequence[str] | None = None,
    lambdas: Sequence[float] | np.ndarray | None = None,
    *,
    noise_scale: float | None = None,
    l1_ratio: float = 0.5,
    folds: int = 10,
    seed: int = 0,
    intercept: bool = True,
    progress: bool = False,
) -> ChoiceStudy:
    """Repeat the choice of lambda over simulated data sets, each method's fit then judged by its test rows.

    Args:
        simulate: Takes a seed, returns training and test rows; the experiment of the deep-learning book by default.
        replications: Number of data sets.
        kind: "l2", "l1" or "elasticnet".
        methods: As for `choose_lambda`; None: all but "learned", for an elastic net all it has.
        lambdas: Canonical strengths; None: those of `path`, for each data set anew.
        noise_scale: The noise scale, where the methods may know it.
        l1_ratio: The share of the L1 term of an elastic net.
        folds: Number of folds.
        seed: The data sets have the seeds `seed`, `seed + 1` and so on.
        intercept: Whether there is an intercept.
        progress: Whether to show a bar.

    Returns:
        The `ChoiceStudy`.

    Raises:
        TypeError: If `simulate` is no function or does not return two `RegressionData`, or an argument is of another
            type.
        ValueError: If an argument is out of range.

    Example:
        >>> import bayesreg as br
        >>> study = br.study_choice(replications=5, methods=("cv", "loo"), noise_scale=0.01)
        >>> study.table.shape, bool((study.table["excess"] >= 0).all())
        ((10, 7), True)
    """
    if not callable(simulate):
        raise TypeError(f"simulate must be a function of a seed, got {simulate!r}")
    replications = check_whole_number(replications, "replications", 1)
    seed = check_whole_number(seed, "seed", 0)
    lambdas = None if lambdas is None else positive_lambdas(lambdas)
    options = {"l1_ratio": l1_ratio, "intercept": intercept}
    rows = []
    with progress_bar(progress, "data sets", replications) as bar:
        for replication in range(replications):
            made = simulate(seed + replication)
            if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(d, RegressionData) for d in made)):
                raise TypeError(f"simulate must return (training rows, test rows), got {made!r}")
            train, test = made
            check_test(test, train)
            given = [name for name in _METHODS if name in checked_methods(None, kind, train)]
            names = checked_methods(given if methods is None else methods, kind, train)
            whole = path(train, kind, lambdas, noise_scale=noise_scale, **options)
            chooser = Chooser(whole, noise_scale, options, folds, seed + replication, importance_sampling=False)
            strengths = [chooser.choose(name).strength for name in names]
            along = whole.loss(test)
            gets = path(train, kind, strengths, noise_scale=noise_scale, **options).loss(test)
            best = int(along.argmin())
            # The evidence chooses between the strengths of the path too.
            least = min(float(along[best]), float(gets.min()))
            best_strength = float(whole.lambdas[best]) if float(along[best]) == least else strengths[int(gets.argmin())]
            for name, strength, loss in zip(names, strengths, gets.tolist(), strict=True):
                excess = loss / least - 1.0 if least else (np.inf if loss else 0.0)
                rows.append((replication, name, strength, loss, best_strength, least, excess))
            bar.advance()
    columns = ["replication", "method", "lambda", "test_loss", "best_lambda", "best_test_loss", "excess"]
    return ChoiceStudy(pd.DataFrame(rows, columns=columns), kind)
