"""Which objective a penalty strength belongs to: the lambda dictionary as numbers, in plain Python.

Every library that offers an L2 or an L1 penalty minimises, for n rows with residual sum of squares RSS,

    loss_multiplier * RSS + l2_multiplier * l2 * |w|^2 / 2 + l1_multiplier * l1 * |w|_1

with multipliers of its own; `l2` and `l1` are the numbers that a user types. A `Convention` holds the multipliers
of one library. Dividing the objective by 2 n loss_multiplier gives the canonical one, called `mean-half-squared`,

    J(w) = RSS / (2 n) + lambda2 |w|^2 / 2 + lambda1 |w|_1,    lambda2 = l2 * l2_multiplier / (2 n loss_multiplier),

and lambda1 alike. With Gaussian noise of scale s, J n / s^2 is a negative log posterior density, up to a constant:

    Gaussian prior of scale t:  lambda2 = s^2 / (n t^2)          Laplace prior of scale b:  lambda1 = s^2 / (n b).

Nothing heavy is imported, so that a conversion on the command line answers at once.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from bayesreg.multipliers import Factor

PenaltyKind = Literal["l2", "l1"]


@dataclass(frozen=True)
class Convention:
    """One library's objective: a row of the lambda dictionary.

        loss_multiplier * RSS + l2_multiplier * l2 * |w|^2 / 2 + l1_multiplier * l1 * |w|_1

    Attributes:
        name: What to pass as `convention=`.
        library: Whose objective it is.
        objective: The objective in that library's own symbols, s the noise scale.
        knobs: What the library calls the numbers that are typed.
        loss_multiplier: Factor in front of the residual sum of squares.
        l2_multiplier: Factor of l2 |w|^2 / 2; None where there is no L2 penalty.
        l1_multiplier: Factor of l1 |w|_1; None where there is no L1 penalty.
        training_loss: The loss that mini-batch training minimises: "half-mean" RSS/2n, "mean" RSS/n, "sum" RSS,
            or None where the loss is divided by the noise variance.
        accepts_centre: Whether the penalty may pull towards something other than zero.
        accepts_per_feature: Whether a strength may be a vector, one a feature.
        notes: What a user of that library has to watch.
        refusal: Why no strength of this library corresponds to a prior; empty where one does.
    """

    name: str
    library: str
    objective: str
    knobs: str
    loss_multiplier: Factor
    l2_multiplier: Factor | None = None
    l1_multiplier: Factor | None = None
    training_loss: Literal["half-mean", "mean", "sum"] | None = None
    accepts_centre: bool = False
    accepts_per_feature: bool = False
    notes: str = ""
    refusal: str = ""

    @property
    def accepts_l2(self) -> bool:
        """Whether the library has an L2 penalty in this objective."""
        return self.l2_multiplier is not None

    @property
    def accepts_l1(self) -> bool:
        """Whether the library has an L1 penalty in this objective."""
        return self.l1_multiplier is not None

    def multiplier(self, kind: PenaltyKind) -> Factor:
        """The factor of l2 |w|^2 / 2 or of l1 |w|_1 in the objective.

        Args:
            kind: "l2" or "l1".

        Returns:
            The factor.

        Raises:
            ValueError: If the convention has no such penalty; the message lists those that have.
        """
        factor = {"l2": self.l2_multiplier, "l1": self.l1_multiplier}[kind]
        if factor is None:
            others = [row.name for row in CONVENTIONS.values() if getattr(row, f"accepts_{kind}")]
            raise ValueError(
                f"{self.name} ({self.objective}) has no {kind.upper()} penalty; those with one: {', '.join(others)}"
            )
        return factor

    def to_canonical(self, kind: PenaltyKind) -> Factor:
        """The factor that takes a strength typed here to lambda of the canonical objective.

            multiplier / (2 n loss_multiplier)

        Args:
            kind: "l2" or "l1".

        Returns:
            The factor; its inverse takes lambda to the strength to type.
        """
        return self.multiplier(kind) / (self.loss_multiplier * Factor(2.0, num_rows=1))


_HALF_MEAN = Factor(0.5, num_rows=-1)
_MEAN = Factor(1.0, num_rows=-1)
_SUM = Factor(1.0)
_OVER_NOISE = Factor(0.5, noise_scale=-2)
_ONE = Factor(1.0)
_TWO = Factor(2.0)

_ROWS = (
    Convention(
        name="mean-half-squared",
        library="the deep-learning book's text and from-scratch program; sklearn SGDRegressor, statsmodels, skglm",
        objective="RSS/2n + l2 |w|^2/2 + l1 |w|_1",
        knobs="lambda, alpha",
        loss_multiplier=_HALF_MEAN,
        l2_multiplier=_ONE,
        l1_multiplier=_ONE,
        training_loss="half-mean",
        accepts_centre=True,
        accepts_per_feature=True,
        notes="The canonical objective. The same number in the book's concise program (torch-mse-mean) is half of it.",
    ),
    Convention(
        name="torch-mse-mean",
        library="PyTorch: nn.MSELoss() with SGD(weight_decay=...); the deep-learning book's concise program",
        objective="RSS/n + wd |w|^2/2 + l1 |w|_1",
        knobs="weight_decay for L2; the factor of a term added to the loss for L1",
        loss_multiplier=_MEAN,
        l2_multiplier=_ONE,
        l1_multiplier=_ONE,
        training_loss="mean",
        notes="weight_decay covers every parameter of its group: keep the bias in a group of its own.",
    ),
    Convention(
        name="torch-mse-sum",
        library='PyTorch: nn.MSELoss(reduction="sum") with SGD(weight_decay=...), K optimizer steps an epoch',
        objective="RSS + K wd |w|^2/2 + K l1 |w|_1",
        knobs="weight_decay for L2; the factor of a term added to each step's loss for L1",
        loss_multiplier=_SUM,
        l2_multiplier=Factor(1.0, steps_per_epoch=1),
        l1_multiplier=Factor(1.0, steps_per_epoch=1),
        training_loss="sum",
        notes="The decay is applied at each of the K steps, the loss is spread over them: K is part of the convention.",
    ),
    Convention(
        name="torch-adam",
        library="PyTorch: nn.MSELoss() with Adam(weight_decay=...), full batch",
        objective="RSS/n + wd |w|^2/2 + l1 |w|_1",
        knobs="weight_decay for L2; the factor of a term added to the loss for L1",
        loss_multiplier=_MEAN,
        l2_multiplier=_ONE,
        l1_multiplier=_ONE,
        training_loss="mean",
        notes="Its stationary point is the MAP on the full batch; the way there differs from SGD's.",
    ),
    Convention(
        name="torch-adamw",
        library="PyTorch: AdamW(weight_decay=...)",
        objective="none",
        knobs="weight_decay",
        loss_multiplier=_MEAN,
        refusal=(
            "AdamW decouples the decay from the gradient, which it rescales: no Gaussian prior has its end point as "
            "MAP. On the full batch it minimises the loss within |w_j| <= 1/weight_decay: a uniform prior on a box. "
            "Use SGD or Adam with weight_decay (torch-mse-mean, torch-adam)."
        ),
    ),
    Convention(
        name="sklearn-ridge",
        library="scikit-learn: Ridge(alpha)",
        objective="RSS + alpha |w|^2",
        knobs="alpha",
        loss_multiplier=_SUM,
        l2_multiplier=_TWO,
        training_loss="sum",
    ),
    Convention(
        name="sklearn-lasso",
        library="scikit-learn: Lasso(alpha)",
        objective="RSS/2n + alpha |w|_1",
        knobs="alpha",
        loss_multiplier=_HALF_MEAN,
        l1_multiplier=_ONE,
        training_loss="half-mean",
    ),
    Convention(
        name="celer",
        library="celer: Lasso(alpha, weights)",
        objective="RSS/2n + alpha sum_j weights_j |w_j|",
        knobs="alpha; a vector of strengths is weights= with alpha=1",
        loss_multiplier=_HALF_MEAN,
        l1_multiplier=_ONE,
        training_loss="half-mean",
        accepts_per_feature=True,
    ),
    Convention(
        name="sklearn-elasticnet",
        library="scikit-learn: ElasticNet(alpha, l1_ratio)",
        objective="RSS/2n + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) |w|^2/2",
        knobs="alpha and l1_ratio, held as l1 = alpha l1_ratio and l2 = alpha (1 - l1_ratio)",
        loss_multiplier=_HALF_MEAN,
        l2_multiplier=_ONE,
        l1_multiplier=_ONE,
        training_loss="half-mean",
    ),
    Convention(
        name="sklearn-bayesian-ridge",
        library="scikit-learn: BayesianRidge, at its alpha_ and lambda_",
        objective="alpha_ RSS/2 + lambda_ |w|^2/2, alpha_ = 1/s^2",
        knobs="lambda_ = 1/t^2, t the prior scale; alpha_ = 1/s^2 is the noise",
        loss_multiplier=_OVER_NOISE,
        l2_multiplier=_ONE,
        notes="The strength is lambda_, the precision of the weights; alpha_ is the precision of the noise.",
    ),
    Convention(
        name="glmnet",
        library="glmnet: gaussian family, standardize=FALSE",
        objective="RSS/2n + lambda alpha |w|_1 + lambda (1 - alpha) |w|^2/(2 s_y), s_y the sd of y with divisor n",
        knobs="lambda and alpha, held as l1 = lambda alpha and l2 = lambda (1 - alpha)",
        loss_multiplier=_HALF_MEAN,
        l2_multiplier=Factor(1.0, target_scale=-1),
        l1_multiplier=_ONE,
        training_loss="half-mean",
        accepts_per_feature=True,
        notes=(
            "It divides y by s_y inside, which changes the L2 term and not the L1 term. It rescales penalty.factor to "
            "a mean of 1: for a vector of strengths give penalty.factor = strengths and lambda = their mean."
        ),
    ),
    Convention(
        name="keras-l2",
        library="Keras: loss mse, kernel_regularizer L2(wd)",
        objective="RSS/n + wd |w|^2",
        knobs="l2",
        loss_multiplier=_MEAN,
        l2_multiplier=_TWO,
        training_loss="mean",
    ),
    Convention(
        name="keras-l1",
        library="Keras: loss mse, kernel_regularizer L1(wd)",
        objective="RSS/n + wd |w|_1",
        knobs="l1",
        loss_multiplier=_MEAN,
        l1_multiplier=_ONE,
        training_loss="mean",
    ),
    Convention(
        name="park-casella",
        library="Park and Casella's Bayesian lasso (monomvn::blasso and others)",
        objective="RSS/(2 s^2) + (lambda/s) |w|_1",
        knobs="lambda = s/b, b the prior scale",
        loss_multiplier=_OVER_NOISE,
        l1_multiplier=Factor(1.0, noise_scale=-1),
        notes="Its prior scale is multiplied by the noise's (s / lambda), and its columns have unit norm.",
    ),
    Convention(
        name="laplace-torch",
        library="laplace-torch: Laplace(..., prior_precision, sigma_noise, prior_mean)",
        objective="RSS/(2 s^2) + prior_precision |w - prior_mean|^2/2",
        knobs="prior_precision = 1/t^2, t the prior scale",
        loss_multiplier=_OVER_NOISE,
        l2_multiplier=_ONE,
        accepts_centre=True,
        accepts_per_feature=True,
        notes="Its prior covers the bias too, unless the bias is given a precision of its own (near 0).",
    ),
)

CONVENTIONS: dict[str, Convention] = {row.name: row for row in _ROWS}
"""The rows of the lambda dictionary by name, refused ones included (see `Convention.refusal`)."""

CANONICAL = "mean-half-squared"
"""Name of the canonical objective, RSS/2n + l2 |w|^2/2 + l1 |w|_1."""

_ALIASES = {"adam": "torch-adam", "adamw": "torch-adamw"}


def get_convention(name: str) -> Convention:
    """The convention of that name.

    Args:
        name: Name of a row of the dictionary; upper and lower case are the same.

    Returns:
        The row.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If there is no such row (the accepted names follow, closest first), or if the library's penalty
            corresponds to no prior (the reason follows).

    Example:
        >>> get_convention("Torch-MSE-mean").objective
        'RSS/n + wd |w|^2/2 + l1 |w|_1'
    """
    if not isinstance(name, str):
        raise TypeError(f"convention must be a name such as {CANONICAL!r}, got {name!r}")
    key = name.strip().lower()
    row = CONVENTIONS.get(_ALIASES.get(key, key))
    if row is None:
        accepted = sorted(
            (row.name for row in _ROWS if not row.refusal),
            key=lambda known: -difflib.SequenceMatcher(None, key, known).ratio(),
        )
        raise ValueError(f"unknown convention {name!r}; accepted, the closest first: {', '.join(accepted)}")
    if row.refusal:
        raise ValueError(f"convention {row.name!r} is refused: {row.refusal}")
    return row
