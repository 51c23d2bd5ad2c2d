"""Which lambda? Validation, cross-validation, evidence, leave-one-out and a learned prior answer in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch

from bayesreg.computing.progress import progress_bar
from bayesreg.data import RegressionData, require_rows
from bayesreg.model import LinearRegression
from bayesreg.moments import Moments, as_moments
from bayesreg.paths.lambdas import checked_lambdas, checked_ratio
from bayesreg.paths.penalty_path import Path, path
from bayesreg.posteriors.posterior import Posterior
from bayesreg.priors import GaussianPrior, LaplacePrior
from bayesreg.sampling import sample_whole
from bayesreg.selection.cross_validation import CrossValidation, cross_validate, smallest
from bayesreg.selection.leave_one_out import LeaveOneOut, leave_one_out, with_importance_sampling
from bayesreg.selection.strength_evidence import gaussian_evidence, laplace_evidence
from bayesreg.training.checks import check_test

METHODS = ("validation", "cv", "cv-1se", "evidence", "loo", "learned")
# Those that need a prior with a scale of its own, which the product of two has not.
_OF_A_PRIOR = ("evidence", "learned")
_OF_ROWS = ("validation", "cv", "cv-1se", "loo")
_VALIDATION_SHARE = 0.25
_QUANTILES = (0.05, 0.5, 0.95)
# Where the choice is the smallest or the largest lambda: how far to go beyond it, and back from it.
_BEYOND, _BACK = 100.0, 10.0


@dataclass(frozen=True)
class Choice:
    """What one method chooses.

    Attributes:
        method: Its name.
        strength: Lambda, in the canonical convention, in the units of the data.
        loss: The held-out loss at it, the mean of error^2 / 2; None where nothing is held out.
        standard_error: Of that loss: over the rows held out, for "cv" and "cv-1se" over the folds.
        lower: Lower end of a 90 % interval of lambda: of the likelihood ("evidence") or the posterior ("learned").
        upper: Its upper end.
        note: What to know of it.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> (choice,) = br.choose_lambda(data, "l2", ("evidence",), noise_scale=0.7).choices
        >>> choice.method, round(choice.strength, 4), choice.lower < choice.strength < choice.upper
        ('evidence', 0.0333, True)
    """

    method: str
    strength: float
    loss: float | None = None
    standard_error: float | None = None
    lower: float | None = None
    upper: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class LambdaChoice:
    """The choices, and the curves that they were made by.

    Attributes:
        choices: One a method.
        path: The path on all data.
        chosen: The fits at the chosen strengths, in the order of the choices.
        test: The test rows, if given.
        cross_validation: The curve of "cv" and "cv-1se", where asked for.
        evidence: The curve of "evidence": columns `lambda`, `log_evidence` (in nats, less its maximum on the axis) and
            its `standard_error` (0 for l2, where it is exact).
        leave_one_out: The curve of "loo", with Pareto-smoothed importance sampling beside.
        posterior: The posterior of "learned".

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> br.choose_lambda(data, "l2", ("evidence", "loo"), noise_scale=0.7)
        LambdaChoice(l2, evidence 0.0333, loo 0.00414)
    """

    choices: tuple[Choice, ...]
    path: Path
    chosen: Path
    test: RegressionData | None = None
    cross_validation: CrossValidation | None = None
    evidence: pd.DataFrame | None = None
    leave_one_out: LeaveOneOut | None = None
    posterior: Posterior | None = None

    def __repr__(self) -> str:
        chosen = ", ".join(f"{choice.method} {choice.strength:.3g}" for choice in self.choices)
        return f"LambdaChoice({self.path.kind}, {chosen})"

    @cached_property
    def test_losses(self) -> torch.Tensor | None:
        """The test loss along the path, the mean of error^2 / 2, `(m,)`; None without test rows."""
        return None if self.test is None else self.path.loss(self.test)

    @cached_property
    def chosen_test_losses(self) -> torch.Tensor | None:
        """The test loss of each choice, fitted to all rows, `(number of choices,)`; None without test rows."""
        return None if self.test is None else self.chosen.loss(self.test)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a method: what it chose, how sure of it, and what it gets.

        Returns:
            `lambda`; `lower_5` and `upper_95`, the ends of its 90 % interval; `held_out_loss` and `standard_error`, as
            in `Choice`; `test_loss` and `num_nonzero` of the fit to all rows; `note`. NaN where there is none.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> train, test = data.split(seed=1)
            >>> found = br.choose_lambda(train, "l2", ("evidence", "loo"), test=test, noise_scale=0.7)
            >>> found.to_frame()[["lambda", "test_loss", "num_nonzero"]].round(3)
                      lambda  test_loss  num_nonzero
            method
            evidence   0.045      0.247           10
            loo        0.082      0.247           10
        """
        rows = []
        for index, choice in enumerate(self.choices):
            tests = self.chosen_test_losses
            rows.append(
                {
                    "method": choice.method,
                    "lambda": choice.strength,
                    "lower_5": choice.lower,
                    "upper_95": choice.upper,
                    "held_out_loss": choice.loss,
                    "standard_error": choice.standard_error,
                    "test_loss": None if tests is None else float(tests[index]),
                    "num_nonzero": int(self.chosen.num_nonzero[index]),
                    "note": choice.note,
                }
            )
        return pd.DataFrame(rows).set_index("method")


def choose_lambda(
    data: RegressionData | Moments,
    kind: Literal["l2", "l1", "elasticnet"] = "l2",
    methods: Sequence[str] | None = None,
    lambdas: Sequence[float] | np.ndarray | torch.Tensor | None = None,
    *,
    l1_ratio: float = 0.5,
    noise_scale: float | None = None,
    test: RegressionData | None = None,
    folds: int = 10,
    seed: int = 0,
    intercept: bool = True,
    progress: bool = False,
) -> LambdaChoice:
    """Choose lambda of |y - Xw - b|^2 / (2 n) + lambda R(w) in several ways, and say what each choice gets.

    - ``"validation"``: a quarter of the rows, drawn at random, is held out once; the lambda of the smallest loss there.
    - ``"cv"``: cross-validation, the smallest mean loss; ``"cv-1se"``: the largest lambda within a standard error of
      it.
    - ``"evidence"``: the prior of the largest marginal likelihood (`bayesreg.selection.strength_evidence`); with the
      noise scale not given, at its likeliest for each lambda (l2), or at `Path.noise_scale` (l1).
    - ``"loo"``: leave-one-out, exactly, the smallest mean loss (`bayesreg.selection.leave_one_out`); when a row goes,
      l2 holds the prior, n lambda, the others lambda, as in cross-validation.
    - ``"learned"``: the prior scale has a prior itself, HalfCauchy of the scale sd(y) / rms(sd(x)), and an unknown
      noise scale HalfNormal(sd(y)); the posterior median of lambda = s^2 / (n t^2), or s^2 / (n b).

    Sources: MacKay, Bayesian interpolation, Neural Computation 4 (1992), for the evidence; `CrossValidation`, and the
    modules named above, for the others.

    Args:
        data: Rows; `Moments` for "evidence" and "learned" alone.
        kind: "l2", "l1" or "elasticnet" (which has neither "evidence" nor "learned").
        methods: Names of methods; None: all that the kind and the data have.
        lambdas: Canonical strengths to choose among, positive; None: those of `path`. "evidence" chooses between
            them, within their range, "learned" anywhere.
        l1_ratio: The share of the L1 term of an elastic net.
        noise_scale: The noise scale where it is known, in the units of the target; None: it is not.
        test: Test rows, in the units of the data.
        folds: Number of folds.
        seed: Seeds folds, the held-out quarter, and draws.
        intercept: Whether there is an intercept.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook.

    Returns:
        The `LambdaChoice`.

    Raises:
        TypeError: If a method needs rows and the data are moments, or an argument is of another type.
        ValueError: If a method is unknown or not for this kind, an argument out of range, or the noise scale neither
            given nor to be estimated where "evidence" of kind l1 needs it.

    Example:
        >>> import bayesreg as br
        >>> train, test = br.load_diabetes().standardized().split(seed=1)
        >>> choice = br.choose_lambda(train, "l2", ("cv", "evidence", "loo"), test=test)
        >>> choice.to_frame()["lambda"].round(3).tolist()
        [0.0...]
    """
    checked_ratio(kind, l1_ratio)
    names = checked_methods(methods, kind, data)
    if lambdas is not None:
        lambdas = positive_lambdas(lambdas)
    check_test(test, data)
    options = {"l1_ratio": l1_ratio, "intercept": intercept}
    whole = path(data, kind, lambdas, noise_scale=noise_scale, **options)
    chooser = Chooser(whole, noise_scale, options, folds, seed, progress)
    choices = []
    with progress_bar(progress, "choosing lambda", len(names)) as bar:
        for name in names:
            bar.describe(name)
            choices.append(chooser.choose(name))
            bar.advance()
    chosen = path(data, kind, [choice.strength for choice in choices], noise_scale=noise_scale, **options)
    return LambdaChoice(tuple(choices), whole, chosen, test, **chooser.curves)


def checked_methods(methods: Sequence[str] | None, kind: str, data: RegressionData | Moments) -> tuple[str, ...]:
    """Return the methods' names, or refuse them."""
    if methods is None:
        left_out = (_OF_A_PRIOR if kind == "elasticnet" else ()) + (_OF_ROWS if isinstance(data, Moments) else ())
        methods = [name for name in METHODS if name not in left_out]
        if not methods:
            raise TypeError("data must be rows (a RegressionData) to choose for kind 'elasticnet', got Moments")
    if not isinstance(methods, str | Sequence):
        raise TypeError(f"methods must be names, among {', '.join(METHODS)}, got {methods!r}")
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    for name in names:
        if name not in METHODS:
            raise ValueError(f"methods must be among {', '.join(METHODS)}, got {name!r}")
        if kind == "elasticnet" and name in _OF_A_PRIOR:
            raise ValueError(f"method {name!r} is for kind 'l2' and 'l1', whose prior has one scale; got 'elasticnet'")
        if name in _OF_ROWS:
            require_rows(data, f"method {name!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods must be different names, at least one, got {names}")
    return names


def positive_lambdas(lambdas: Sequence[float] | np.ndarray | torch.Tensor) -> np.ndarray:
    """Return strengths to choose among, or refuse them: 0 stands for no prior with a scale."""
    values = checked_lambdas(lambdas, "l2")
    if not values.all():
        raise ValueError("lambdas must be positive to choose among, got 0, which stands for no prior with a scale")
    return values


def at_end(strength: float, strengths: np.ndarray) -> str:
    """Return what to do where the chosen lambda is the smallest or the largest; nothing where it is neither.

    Args:
        strength: The chosen lambda.
        strengths: Those that it was chosen among.

    Returns:
        The advice, with lambdas that go on beyond.

    Example:
        >>> at_end(20.0, np.array([10.0, 20.0]))
        'the largest lambda, and larger ones may be better: look there, lambdas=[2000,1000,500,200,100,50,20,10,5,2]'
    """
    smallest, largest = _ends(strengths)
    if smallest == largest:
        low, high, words = strength / _BACK, strength * _BACK, "the only lambda: choose among several"
    elif strength == smallest:
        low, high = strength / _BEYOND, strength * _BACK
        words = "the smallest lambda, and smaller ones may be better: look there"
    elif strength == largest:
        low, high = strength / _BACK, strength * _BEYOND
        words = "the largest lambda, and larger ones may be better: look there"
    else:
        return ""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [float(f"{first}e{decade}") for decade in decades for first in (1, 2, 5)]
    inside = [f"{value:g}" for value in reversed(values) if 0.999 * low <= value <= 1.001 * high]
    return f"{words}, lambdas=[{','.join(inside)}]"


def _ends(strengths: np.ndarray) -> tuple[float, float]:
    return float(strengths.min()), float(strengths.max())


class Chooser:
    """The methods, each on the same path; what they looked at is kept in `curves`."""

    def __init__(
        self,
        whole: Path,
        noise_scale: float | None,
        options: dict[str, Any],
        folds: int = 10,
        seed: int = 0,
        progress: bool = False,
        importance_sampling: bool = True,
    ):
        self.path, self.noise_scale, self.options = whole, noise_scale, options
        self.folds, self.seed, self.progress = folds, seed, progress
        self.importance_sampling = importance_sampling
        self.strengths = whole.lambdas.numpy()
        self.curves: dict[str, Any] = {}

    def choose(self, method: str) -> Choice:
        """Return what a method chooses."""
        return getattr(self, "_by_" + method.replace("-", "_"))()

    def _by_validation(self) -> Choice:
        kept, held = self.path.data.split(_VALIDATION_SHARE, self.seed)
        fits = path(kept, self.path.kind, self.strengths, **self.options)
        losses = fits.loss(held)
        index = smallest(fits.lambdas, losses)
        residuals = held.target - held.features @ fits.weights[index].numpy() - float(fits.intercepts[index])
        error = float(np.std(np.square(residuals) / 2, ddof=1) / np.sqrt(held.num_rows)) if held.num_rows > 1 else None
        return self._held_out("validation", index, losses, error, f"{held.num_rows} rows held out")

    def _by_cv(self) -> Choice:
        curve = self._cross_validation()
        return self._held_out("cv", curve.best, curve.loss, float(curve.standard_error[curve.best]))

    def _by_cv_1se(self) -> Choice:
        curve = self._cross_validation()
        index = curve.one_standard_error
        return self._held_out("cv-1se", index, curve.loss, float(curve.standard_error[index]))

    def _by_evidence(self) -> Choice:
        if self.path.kind == "l2":
            evidence = gaussian_evidence(self.path.spectrum, self.strengths, self.noise_scale)
        else:
            moments, noise = as_moments(self.path.data), self.path.noise_scale
            evidence = laplace_evidence(
                moments, self.strengths, noise, self.path.has_intercept, self.seed, self.progress
            )
        self.curves["evidence"] = evidence.table
        if evidence.at_end:  # it may go on beyond: no interval
            strength = min(_ends(self.strengths), key=lambda end: abs(np.log(end / evidence.strength)))
            return Choice("evidence", strength, note=at_end(strength, self.strengths))
        return Choice("evidence", evidence.strength, lower=evidence.lower, upper=evidence.upper)

    def _by_loo(self) -> Choice:
        curve = leave_one_out(self.path, self.path.data)
        if self.importance_sampling:
            curve = with_importance_sampling(curve, self.path, self.path.data, self.seed)
        self.curves["leave_one_out"] = curve
        return self._held_out("loo", curve.best, curve.loss, curve.standard_error, curve.note)

    def _by_learned(self) -> Choice:
        moments, l2 = as_moments(self.path.data), self.path.kind == "l2"
        n = moments.num_rows
        spread = float(np.sqrt(moments.Syy / n)) or 1.0
        lengths = float(np.sqrt(np.mean(np.diagonal(moments.Sxx)) / n)) or 1.0
        prior = (GaussianPrior if l2 else LaplacePrior)(scale=dist.HalfCauchy(spread / lengths))
        noise = dist.HalfNormal(spread) if self.noise_scale is None else self.noise_scale
        model = LinearRegression(prior, noise, self.path.has_intercept)
        posterior = sample_whole(model, moments, seed=self.seed, progress=self.progress)
        self.curves["posterior"] = posterior
        noise_scales, scales = posterior.noise_scales.numpy(), posterior.draws["prior_scale"].numpy()
        draws = np.square(noise_scales) / (n * scales ** (2 if l2 else 1))
        lower, median, upper = map(float, np.quantile(draws, _QUANTILES))
        return Choice("learned", median, lower=lower, upper=upper, note=f"posterior by {posterior.method}")

    def _cross_validation(self) -> CrossValidation:
        if "cross_validation" not in self.curves:
            self.curves["cross_validation"] = cross_validate(
                self.path.data,
                self.path.kind,
                self.strengths,
                folds=self.folds,
                seed=self.seed,
                progress=self.progress,
                **self.options,
            )
        return self.curves["cross_validation"]

    def _held_out(self, method: str, index: int, losses: torch.Tensor, error: float | None, note: str = "") -> Choice:
        strength = float(self.strengths[index])
        end = at_end(strength, self.strengths)
        if end and index == self.strengths.argmax() and not self.path.weights[index].any():
            end = "the largest lambda, at which all weights are 0, as at every larger one"
        return Choice(method, strength, float(losses[index]), error, note="; ".join(filter(None, [end, note])))
