r"""The density of an elastic net: a Gaussian times a Laplace density, normalised.

With v = w - m, Gaussian scale t, Laplace scale b and a = t / b,

    log p(w) = -v^2 / (2 t^2) - |v| / b - log Z,      Z = t sqrt(2 pi) erfcx(a / sqrt 2),

erfcx(x) = e^(x^2) erfc(x): |v| is Normal(-t^2 / b, t^2), given that it is positive. Z goes to t sqrt(2 pi) as b grows,
to 2 b as t does. Source: Li & Lin, The Bayesian elastic net, Bayesian Analysis 5 (2010).
"""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

# From this ratio t / b on the moments are taken from their asymptotic series in b / t, whose first term left out is
# below the rounding; the closed form loses a^4 eps there.
_LARGE_RATIO, _TERMS = 30.0, 9
# Newton's method from above, on a convex function: it is at rounding level after seven steps at the latest.
_NEWTON_STEPS = 10


def log_normaliser(gaussian_scale: torch.Tensor, laplace_scale: torch.Tensor) -> torch.Tensor:
    """Return log Z.

    Args:
        gaussian_scale: t, positive.
        laplace_scale: b, positive, of a shape that broadcasts against it.

    Returns:
        The logarithm of the normalising constant, of the broadcast shape.
    """
    return (gaussian_scale * _scaled_tail(gaussian_scale / laplace_scale)).log() + 0.5 * math.log(2.0 * math.pi)


def variance(gaussian_scale: torch.Tensor, laplace_scale: torch.Tensor) -> torch.Tensor:
    """Return E v^2 = t^2 [1 + a^2 - a h], with h = sqrt(2 / pi) / erfcx(a / sqrt 2) the mean of the truncated normal.

    Args:
        gaussian_scale: t, positive.
        laplace_scale: b, positive, of a shape that broadcasts against it.

    Returns:
        The variance, of the broadcast shape: from t^2 (b large) to 2 b^2 (t large).
    """
    ratio = gaussian_scale / laplace_scale
    small, large = ratio.clamp_max(_LARGE_RATIO), ratio.clamp_min(_LARGE_RATIO)
    closed = gaussian_scale.square() * (1.0 + small.square() - small * _hazard(small))
    # With u = |v| / b, E u^2 under e^(-u - u^2 / (2 a^2)), the Gaussian factor expanded.
    power, second, zeroth = torch.ones_like(large), torch.zeros_like(large), torch.zeros_like(large)
    for k in range(_TERMS):
        zeroth = zeroth + math.factorial(2 * k) / math.factorial(k) * power
        second = second + math.factorial(2 * k + 2) / math.factorial(k) * power
        power = power * -0.5 / large.square()
    return torch.where(ratio < _LARGE_RATIO, closed, laplace_scale.square() * second / zeroth)


class ElasticNetDistribution(TorchDistribution):
    """The elastic net's distribution of one number, for Pyro programs: exact draws and the normalised log density.

    Args:
        loc: m, a tensor; it and the two scales broadcast against each other.
        gaussian_scale: t, positive.
        laplace_scale: b, positive.
        validate_args: As for every torch distribution.

    Example:
        >>> one = torch.ones((), dtype=torch.float64)
        >>> round(float(ElasticNetDistribution(0.0 * one, one, one).log_prob(one)), 6)
        -1.771064
    """

    arg_constraints = {
        "loc": constraints.real,
        "gaussian_scale": constraints.positive,
        "laplace_scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = False

    def __init__(
        self,
        loc: torch.Tensor,
        gaussian_scale: torch.Tensor,
        laplace_scale: torch.Tensor,
        validate_args: bool | None = None,
    ):
        self.loc, self.gaussian_scale, self.laplace_scale = broadcast_all(loc, gaussian_scale, laplace_scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(
        self, batch_shape: torch.Size, _instance: ElasticNetDistribution | None = None
    ) -> ElasticNetDistribution:
        """Return the distribution with its parameters expanded to a batch shape."""
        batch_shape = torch.Size(batch_shape)
        expanded = self._get_checked_instance(ElasticNetDistribution, _instance)
        for name in self.arg_constraints:
            setattr(expanded, name, getattr(self, name).expand(batch_shape))
        super(ElasticNetDistribution, expanded).__init__(batch_shape, validate_args=False)
        expanded._validate_args = self._validate_args
        return expanded

    @property
    def mean(self) -> torch.Tensor:
        """The mean m."""
        return self.loc

    @property
    def variance(self) -> torch.Tensor:
        """The variance, see `variance`."""
        return variance(self.gaussian_scale, self.laplace_scale)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Return log p at values ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        deviation = value - self.loc
        absolute = deviation * deviation.detach().sign()
        quadratic = 0.5 * (deviation / self.gaussian_scale).square()
        return -quadratic - absolute / self.laplace_scale - log_normaliser(self.gaussian_scale, self.laplace_scale)

    @torch.no_grad()
    def sample(self, sample_shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Return draws: the inverse of the distribution function of |v|, and a sign.

        With z = |v| / t and E exponential, the tail P(|v| > t z) = e^-E solves

            G(z) = a z + z^2 / 2 + log erfcx(a / sqrt 2) - log erfcx((a + z) / sqrt 2) - E = 0,

        where nothing underflows, whatever a. G is convex and increasing, and a z + z^2 / 2 = E gives a z that is not
        below the root, so that Newton's method falls to it.

        Args:
            sample_shape: The shape of the draws of each.

        Returns:
            A tensor ``(*sample_shape, *batch_shape)``.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        exponential = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).exponential_()
        positive = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device) < 0.5
        ratio = self.gaussian_scale / self.laplace_scale
        at_zero = _scaled_tail(ratio).log()
        size = 2.0 * exponential / (ratio + (ratio.square() + 2.0 * exponential).sqrt())
        for _ in range(_NEWTON_STEPS):
            excess = size * (ratio + 0.5 * size) + at_zero - _scaled_tail(ratio + size).log() - exponential
            size = (size - excess / _hazard(ratio + size)).clamp_min(0.0)
        return self.loc + torch.where(positive, size, -size) * self.gaussian_scale


def _scaled_tail(ratio: torch.Tensor) -> torch.Tensor:
    """Return erfcx(a / sqrt 2): twice the normal tail beyond a, times e^(a^2 / 2)."""
    return torch.special.erfcx(ratio * math.sqrt(0.5))


def _hazard(ratio: torch.Tensor) -> torch.Tensor:
    """Return the normal density at a over the tail beyond it."""
    return math.sqrt(2.0 / math.pi) / _scaled_tail(ratio)
