"""Prior <-> penalty: the lambda dictionary between the two roads to a point estimate.

With Gaussian noise of scale s, n rows and the intercept unpenalised, the negative log posterior density is n/s^2 times

    J(w) = |y - Xw - b|^2 / (2 n) + lambda R(w - c)

up to a constant, where c is the location of the prior and

    Gaussian prior of scale t:  R = |.|^2 / 2,  lambda = s^2 / (n t^2)
    Laplace prior of scale b:   R = |.|_1,      lambda = s^2 / (n b).

The product of both, normalised, is the prior of an elastic net, with both terms at these strengths. A larger lambda is
a narrower prior. A scale relative to the noise is multiplied by s first. Which number that is in a library's own words
is the business of `bayesreg.objectives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.computing.arrays import as_number_or_vector
from bayesreg.objectives import CANONICAL, get_convention
from bayesreg.penalties import Penalty
from bayesreg.strengths import scale_from_strength, strength_from_scale

if TYPE_CHECKING:
    from bayesreg.elastic_net_prior import ElasticNetPrior
    from bayesreg.priors import GaussianPrior, LaplacePrior, Prior

# The terms of the penalty, each with the scale that sets its strength.
_TERMS_OF_PRIOR = {
    "gaussian": {"l2": "scale"},
    "laplace": {"l1": "scale"},
    "elasticnet": {"l2": "gaussian_scale", "l1": "laplace_scale"},
}


def penalty_for(
    prior: Prior,
    *,
    noise_scale: float | None = None,
    num_rows: int | None = None,
    convention: str = CANONICAL,
    prior_scale: float | np.ndarray | None = None,
    **knowledge: Any,
) -> Penalty:
    """The penalty whose penalised fit is the MAP under a prior.

    In the canonical objective, |y - Xw - b|^2 / (2 n) + l2 |w - c|^2 / 2 + l1 |w - c|_1, with c the prior's location,

        l2 = s^2 / (n t^2)  for a Gaussian prior of scale t,      l1 = s^2 / (n b)  for a Laplace prior of scale b,

    both for an elastic net's prior; a scale relative to the noise is multiplied by s first. The multipliers of another
    convention come on top. Scales are in the units of the data that are fitted. Source for the correspondence: Bishop,
    Pattern Recognition and Machine Learning (2006), section 3.3.

    Refused with a ValueError: knowledge that is missing or not a number, a learned scale without its value, a penalty
    that the convention cannot hold, a strength that leaves the range of float64.

    Args:
        prior: The prior of the weights. Scales of one a feature give strengths of one a feature, `loc` the centre.
        noise_scale: The standard deviation s of the noise: a number. Where the noise is learned, the value to use, such
            as `map_estimate(...).noise_scale`.
        num_rows: The number of rows n.
        convention: Name of the convention that the strength is wanted in.
        prior_scale: The value to use, where the prior's scale is learned; not for a known one.
        **knowledge: What else the convention needs, named when missing: `target_scale` (the target's standard
            deviation, divisor n), `steps_per_epoch`.

    Returns:
        The penalty; of strength 0 for a flat prior.

    Raises:
        TypeError: If the prior is none of the four, the convention no string, or knowledge of another name.

    Example:
        >>> from bayesreg import GaussianPrior
        >>> penalty_for(GaussianPrior(scale=0.5), noise_scale=2.0, num_rows=100)
        Penalty(l2=0.16, convention='mean-half-squared')
        >>> penalty_for(GaussianPrior(scale=0.5), noise_scale=2.0, num_rows=100, convention="sklearn-ridge")
        Penalty(l2=16.0, convention='sklearn-ridge')
    """
    row = get_convention(convention)
    kind = getattr(prior, "kind", None)
    if kind == "flat":
        return Penalty(convention=row.name)
    if kind not in _TERMS_OF_PRIOR:
        raise TypeError(
            f"prior must be a GaussianPrior, a LaplacePrior, an ElasticNetPrior or a FlatPrior, got {prior!r}"
        )
    given = {"noise_scale": noise_scale, "num_rows": num_rows, **knowledge}
    strengths = {
        term: strength_from_scale(
            term, _scale_to_use(prior, name, prior_scale), row.name, relative_to_noise=bool(prior.relative_to_noise),
            **given,
        )
        for term, name in _TERMS_OF_PRIOR[kind].items()
    }  # fmt: skip
    return Penalty(**strengths, centre=prior.loc, convention=row.name)


def prior_for(
    penalty: Penalty, *, noise_scale: float | None = None, num_rows: int | None = None, **knowledge: Any
) -> Prior:
    """The prior under which a penalised fit is the MAP: the way back from `penalty_for`.

    From the canonical strengths, t = s / sqrt(n l2) for a Gaussian prior and b = s^2 / (n l1) for a Laplace prior.

    Args:
        penalty: The penalty.
        noise_scale: The standard deviation s of the noise: a number.
        num_rows: The number of rows n.
        **knowledge: What else the penalty's convention needs, named when missing: `target_scale` (the target's standard
            deviation, divisor n), `steps_per_epoch`.

    Returns:
        A Gaussian prior for L2, a Laplace prior for L1, an elastic net's for both (none of them relative to the
        noise), a flat one for strength 0. Strengths of one a feature give scales of one a feature, a NumPy array.

    Raises:
        TypeError: If it is not a Penalty, or knowledge is of another name.
        ValueError: If knowledge is missing or not a number, or some features have strength 0 in a term and others do
            not.

    Example:
        The prior behind weight_decay=3 in the deep-learning book's concise program:

        >>> from bayesreg import L2
        >>> round(prior_for(L2(3.0, "torch-mse-mean"), noise_scale=0.01, num_rows=20).scale, 5)
        0.00183
    """
    # Here and not above: priors need torch and Pyro, which take seconds to import, and penalties do not.
    from bayesreg.elastic_net_prior import ElasticNetPrior
    from bayesreg.priors import FlatPrior, GaussianPrior, LaplacePrior

    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be a Penalty, such as L2(0.1), got {penalty!r}")
    if penalty.kind == "none":
        return FlatPrior()
    scales = {}
    for term, name in (("l2", "gaussian_scale"), ("l1", "laplace_scale")):
        strength = getattr(penalty, term)
        if not np.any(strength):
            continue
        if not np.all(strength):
            zero = np.flatnonzero(np.asarray(strength) == 0).tolist()
            raise ValueError(
                f"features {zero} have {term.upper()} strength 0, a flat prior, and the others have not: "
                "no single prior has scales for both; give them small positive strengths"
            )
        scales[name] = scale_from_strength(
            term, strength, penalty.convention, noise_scale=noise_scale, num_rows=num_rows, **knowledge
        )
    if len(scales) == 2:
        return ElasticNetPrior(**scales, loc=penalty.centre)
    ((name, scale),) = scales.items()
    return {"gaussian_scale": GaussianPrior, "laplace_scale": LaplacePrior}[name](scale=scale, loc=penalty.centre)


def _scale_to_use(
    prior: GaussianPrior | LaplacePrior | ElasticNetPrior, name: str, prior_scale: Any
) -> float | np.ndarray:
    """The numbers of a prior's scale: its own where known, those given where learned.

    Args:
        prior: The prior.
        name: The attribute that is the scale.
        prior_scale: What the caller gave, or None.

    Returns:
        A positive float, or one a feature, (d,).

    Raises:
        ValueError: If a learned scale has no value given, a known one has, or the value is not positive.
    """
    if not prior.scale_is_learned:
        if prior_scale is not None:
            raise ValueError(f"prior_scale= is the value of a learned scale, but that of {prior!r} is known")
        return as_number_or_vector(getattr(prior, name), "the scale of a prior")
    if prior_scale is None:
        raise ValueError(f"the scale of {prior!r} is learned: give the value to use as prior_scale=")
    value = as_number_or_vector(prior_scale, "prior_scale")
    if not np.all(np.asarray(value) > 0):
        raise ValueError(f"prior_scale must be positive, got {prior_scale!r}")
    return value
