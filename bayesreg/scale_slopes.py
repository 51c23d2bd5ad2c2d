"""The densities of a scale that a file can name, as functions of its logarithm, with their slopes: no autograd.

For s = e^u each entry gives k(s) and dk/du, where log p(s) = k(s) + constant. Source: any table of distributions.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch


def _half_normal(prior, log_scale, scale):  # -s^2 / (2 a^2)
    share = (scale / prior.scale).square()
    return -0.5 * share, -share


def _half_cauchy(prior, log_scale, scale):  # -log(1 + s^2 / a^2)
    share = (scale / prior.scale).square()
    return -share.log1p(), -2.0 * torch.sigmoid(2.0 * (log_scale - prior.scale.log()))


def _log_normal(prior, log_scale, scale):  # -(u - m)^2 / (2 a^2) - u
    standard = (log_scale - prior.loc) / prior.scale
    return -0.5 * standard.square() - log_scale, -standard / prior.scale - 1.0


def _gamma(prior, log_scale, scale):  # (a - 1) u - r s
    power, exponent = prior.concentration - 1.0, prior.rate * scale
    return power * log_scale - exponent, power - exponent


def _inverse_gamma(prior, log_scale, scale):  # -(a + 1) u - r / s
    power, exponent = prior.concentration + 1.0, prior.rate / scale
    return -power * log_scale - exponent, exponent - power


def _exponential(prior, log_scale, scale):  # -r s
    exponent = prior.rate * scale
    return -exponent, -exponent


def _weibull(prior, log_scale, scale):  # (k - 1) u - (s / a)^k
    power, exponent = prior.concentration - 1.0, (scale / prior.scale).pow(prior.concentration)
    return power * log_scale - exponent, power - prior.concentration * exponent


_Kernel = Callable[[dist.Distribution, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
_Place = Callable[[dist.Distribution], torch.Tensor]
# With each, a scale of the density's own size, where its constant is to be had without cancellation.
LOG_KERNELS: dict[type, tuple[_Kernel, _Place]] = {
    dist.HalfNormal: (_half_normal, lambda prior: prior.scale),
    dist.HalfCauchy: (_half_cauchy, lambda prior: prior.scale),
    dist.LogNormal: (_log_normal, lambda prior: prior.loc.exp()),
    dist.Gamma: (_gamma, lambda prior: prior.rate.reciprocal()),
    dist.Chi2: (_gamma, lambda prior: prior.rate.reciprocal()),  # a Gamma(df / 2, 1/2), and so called by torch
    dist.InverseGamma: (_inverse_gamma, lambda prior: prior.rate),
    dist.Exponential: (_exponential, lambda prior: prior.rate.reciprocal()),
    dist.Weibull: (_weibull, lambda prior: prior.scale),
}
