"""Whether a posterior exists: its learned scales' density must fall off in every direction.

With the weights and the intercept integrated out, what is left is a density of the logarithms (u, v) of the noise scale
s and the prior scale t. Far out it is log-linear: along a ray (u, v) = R (a, b) it goes like exp(E(a, b) R), with E
linear inside each of a few cones. So its integral is finite exactly where E < 0 on every ray that bounds a cone.

The likelihood's part. Let nu = n - 1 (n without an intercept), r the rank of the design, e the squared distance of the
target from the columns' span, c what of it (less the prior's location) lies in the span, and g the exponent of the
weights' effective scale: b, or a + b for a prior relative to the noise. The likelihood has s^-nu; where it is narrower
than the prior (a < g) integrating the weights gives (s / t_eff)^r times the prior's density, in units of its scale, at
the fit, which is positive and bounded; where it is wider, the prior integrates to 1. So

    E_likelihood(a, b) = -(nu - r) a - r max(a, g),

but minus infinity (it falls faster than any power) where a residual cannot be had, e > 0 and a < 0, and where the
target can be had neither by the weights nor by the noise, c != 0 and max(a, g) < 0. The Gaussian and the Laplace prior
differ only in how fast that is, since both are bounded, positive at 0, and lighter than any power: what follows holds
for either. Under a flat prior (full rank d) it is -(nu - d) a.

The scales' part. A prior density p(s) with s p(s) ~ s^k at 0 and ~ s^-l at infinity adds -k |a| for a < 0 and -l |a|
for a > 0. A flat one has k = 1 and l = -1; a bound, or what falls faster than any power, an infinite one.

Some consequences. Flat noise alone: nu >= 2, and e > 0 or nu = r; under a flat prior of the weights nu >= d + 2 and
e > 0. A flat prior scale alone: r >= 2. Both flat: r >= 2, nu >= 3 (2 if relative), and e > 0, or nu = r if not
relative. A proper noise prior that is positive at 0: e > 0, or nu = r.

References: Gelman, Prior distributions for variance parameters in hierarchical models, Bayesian Analysis 1 (2006);
Hobert and Casella, The effect of improper priors on Gibbs sampling in hierarchical linear mixed models, JASA 91 (1996).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pyro.distributions as dist

if TYPE_CHECKING:
    from bayesreg.evidence import EvidenceSpectrum
    from bayesreg.model import LinearRegression
    from bayesreg.scales import LearnedScale
    from bayesreg.target import Target

# The powers k at 0 and l at infinity of s p(s), for the distributions that have one at either end; they are infinite
# elsewhere.
_POWER_AT_ZERO = {
    dist.HalfNormal: lambda prior: 1.0,
    dist.HalfCauchy: lambda prior: 1.0,
    dist.Exponential: lambda prior: 1.0,
    dist.Gamma: lambda prior: float(prior.concentration),
    dist.Chi2: lambda prior: 0.5 * float(prior.df),
    dist.Weibull: lambda prior: float(prior.concentration),
    dist.Uniform: lambda prior: 1.0 if float(prior.low) == 0.0 else math.inf,
}
_POWER_AT_INFINITY = {
    dist.HalfCauchy: lambda prior: 1.0,
    dist.InverseGamma: lambda prior: float(prior.concentration),
}


def require_proper(target: Target) -> None:
    """Refuse a posterior that does not exist, or of which Moments cannot tell.

    A distribution of a scale that no file can name is taken to vanish at both ends, so nothing proper is refused.

    Args:
        target: The posterior, of a design of full rank where the prior of the weights is flat.

    Raises:
        ValueError: It is improper, or the noise is learned from second moments that hold no residual.
    """
    if not target.learned_scales:
        return
    model, spectrum = target.model, target.spectrum
    if model.noise_is_learned:
        spectrum.require_residual()
    for ray in itertools.product((-1, 0, 1), repeat=2):
        towards = dict(zip(("noise_scale", "prior_scale"), ray, strict=True))
        if ray == (0, 0) or any(sign and name not in target.learned_scales for name, sign in towards.items()):
            continue
        exponent = _likelihood_exponent(model, spectrum, *ray)
        for name, learned in target.learned_scales.items():
            exponent += _scale_exponent(learned, towards[name])
        if exponent >= 0.0:
            raise ValueError(_refusal(target, spectrum, towards, exponent))


def _likelihood_exponent(model: LinearRegression, spectrum: EvidenceSpectrum, noise: int, prior: int) -> float:
    degrees = spectrum.degrees_of_freedom
    if spectrum.residual > 0.0 and noise < 0:
        return -math.inf
    if model.prior.kind == "flat":
        return -(degrees - spectrum.num_features) * noise
    effective = prior + noise if model.prior.relative_to_noise else prior
    if max(noise, effective) < 0 and float(spectrum.projections.square().sum()) > spectrum.rounding:
        return -math.inf
    return -(degrees - spectrum.rank) * noise - spectrum.rank * max(noise, effective)


def _scale_exponent(learned: LearnedScale, towards: int) -> float:
    if towards == 0:
        return 0.0
    if learned.is_flat:
        support = learned.distribution.support
        if towards < 0:
            return -1.0 if float(support.lower_bound) == 0.0 else -math.inf
        return -math.inf if hasattr(support, "upper_bound") else 1.0
    powers = _POWER_AT_ZERO if towards < 0 else _POWER_AT_INFINITY
    power = powers.get(type(learned.distribution), lambda prior: math.inf)
    return -power(learned.distribution)


def _refusal(target: Target, spectrum: EvidenceSpectrum, towards: dict[str, int], exponent: float) -> str:
    moving = {name: sign for name, sign in towards.items() if sign}
    where = " and ".join(f"{name} {'goes to 0' if sign < 0 else 'grows'}" for name, sign in moving.items())
    # The scale whose prior is at fault: a flat one that grows, else the noise that may go to 0.
    guilty = [name for name, sign in moving.items() if sign > 0 and target.learned_scales[name].is_flat]
    name = guilty[-1] if guilty else next(iter(moving))
    remedy = "a proper prior such as dist.HalfNormal(1.0)"
    if not guilty:
        remedy = "a prior that vanishes at 0 such as dist.LogNormal(0.0, 1.0)"
    fit = " and a target that the features fit exactly" if spectrum.residual == 0.0 else ""
    power = "stays level" if exponent == 0.0 else f"rises with the power {exponent:g}"
    return (
        f"the posterior is improper: its density (of the log scales) {power} as {where}, with "
        f"{spectrum.degrees_of_freedom} degrees of freedom, a design of rank {spectrum.rank}{fit}. "
        f"Give {name} {remedy}, or a known value."
    )
