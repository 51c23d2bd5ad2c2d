"""The evidence lower bound of a regression under a Gaussian, in closed form, with its gradient.

What it is:
    x = (w, c, u, v): weights, intercept deviation, logarithms of the learned noise scale and prior scale (`Target`).
    For q = N(m, S) over them,

        ELBO(m, S) = E_q[log density(x)] + log|S| / 2 + p/2 log(2 pi e).

    Each term of the log density is a function of one scale's logarithm alone (`expected_scales`), or a function of
    the weights times an exponential of the scales', whose expectation is that of a shifted Gaussian:

        E_q[e^(a'x) f(x)] = e^(a'm + a'Sa/2) E_N(m + Sa, S)[f(x)].

    Sum of squares:  E|yc - Xc w|^2 = |yc - Xc m|^2 + tr(G S),  G = Xc'Xc;  a = -2 for u.
    Gaussian prior:  E(w - l)^2 = (m - l)^2 + S_jj;  a = -2 for the scales that multiply its scale.
    Laplace prior:   E|w - l| = sd sqrt(2/pi) e^(-z^2/2) + (m - l) erf(z / sqrt 2),  z = (m - l) / sd;  a = -1.
    Elastic net:     both terms, times the two numbers of its shape (`bayesreg.prior_shapes`).

    The deviation c is even and independent of the rest in the best q, where Var(c) = 1 / (n E[1/s^2]); put in, it adds
    (log(2 pi) - log(n E[1/s^2])) / 2.

Gradient, by the theorems of Bonnet and Price (Opper & Archambeau, Neural Computation 21, 2009):

    d E_q[f] / dm = E_q[grad f],      d E_q[f] / dS = E_q[Hess f] / 2,      d ELBO / dS = (S^-1 - E_q[-Hess log p]) / 2,

    and E_q[-Hess log p] is a `bordered_precision`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf

from bayesreg.inference.bordered_precision import Covariance, Layout, Parts, design_of
from bayesreg.inference.expected_scales import ExpectedScale

_LOG_TWO_PI = math.log(2.0 * math.pi)


def why_not(target: Any) -> str | None:
    """Say in a sentence why the ELBO of a target has no closed form, or None where it has."""
    if not hasattr(target, "model") or not hasattr(target, "moments"):
        return "the closed form of the ELBO needs the model and the moments of a regression"
    for name, learned in target.learned_scales.items():
        if not learned.is_logarithm:
            return (
                f"the closed form of the ELBO needs scales that may be any positive number, and {name} has bounds: its "
                "coordinate is no logarithm"
            )
    return None


class GaussianElbo:
    """The ELBO of b problems that differ in the prior's scale.

    Args:
        target: A `bayesreg.target.Target`.
        prior_scales: ``(b,)`` or ``(b, d)``, in place of the prior's known scale; None is one problem, the model's own.

    Raises:
        ValueError: The ELBO has no closed form, or scales are given for a prior whose scale is not known, or are not
            positive and finite.
    """

    def __init__(self, target: Any, prior_scales: np.ndarray | None = None):
        reason = why_not(target)
        if reason is not None:
            raise ValueError(reason)
        model, d = target.model, target.num_features
        self.prior_kind, self._shape = model.prior.kind, model.prior.shape(d)
        self.prior_scales = _prior_scales(model.prior, d, prior_scales)
        self.start_has_its_prior = prior_scales is None
        self.layout = Layout(d, len(target.learned_scales))
        self.start = target.start().cpu().numpy()
        self.design = design_of(target.moments, self.start[:d])
        self.num_rows, self.has_intercept = target.num_rows, bool(model.intercept)
        known = target.known_noise_scale
        self.known_noise_scale = None if known is None else float(known)
        self.loc = model.prior.locations(d)
        self._expected_scales = [ExpectedScale(learned) for learned in target.learned_scales.values()]
        # a of the sum of squares and of the prior, over the scales' coordinates; the log of the known part beside it.
        names = list(target.learned_scales)
        self.noise_rates = np.array([-2.0 if name == "noise_scale" else 0.0 for name in names])
        relative = model.prior.relative_to_noise
        self.prior_rates = np.array([-1.0 if name == "prior_scale" or relative else 0.0 for name in names])
        self._known_log_noise = 0.0 if known is None else math.log(self.known_noise_scale)
        if relative and known is not None:
            self.prior_scales = self.prior_scales * self.known_noise_scale
        if self.prior_kind == "flat":
            self.prior_rates = np.zeros(len(names))
        # d E[log p] / d(log of a scale) that does not depend on q: -n for the noise, -d for each factor of the prior's.
        self.scale_counts = [self.num_rows if name == "noise_scale" else d for name in names]
        self._linear = 0.5 * self.num_rows * self.noise_rates + d * self.prior_rates
        self._constant = self._constants()

    def __call__(self, parts: Parts, covariance: Covariance) -> tuple[np.ndarray, np.ndarray]:
        """Return the ELBO and its gradient.

        Args:
            parts: The Gaussians; only their means are read.
            covariance: S.

        Returns:
            The ELBO ``(b,)``, and ``(b, N)``: E_q[grad log p] where the means stand, and where the precision stands
            the parts of E_q[-Hess log p], themselves and not their logarithms.
        """
        scales, of_scales = parts.scales, covariance.scales
        gradient = np.zeros((len(scales), self.layout.size))
        slots = self.layout.views(gradient)

        noise_precision = _exponential(scales, of_scales, self.noise_rates) * math.exp(-2.0 * self._known_log_noise)
        rss, residual_cross = self.design.residuals(parts.weights + covariance.cross @ self.noise_rates)
        fit = -0.5 * noise_precision * (rss + covariance.gram_trace)
        value = self._constant + fit + scales @ self._linear
        slots.gram[:] = noise_precision
        slots.weights[:] = noise_precision[:, None] * residual_cross
        slots.scales[:] = self._linear
        if self.has_intercept:
            value = value + 0.5 * (_LOG_TWO_PI - np.log(self.num_rows * noise_precision))
            fit = fit - 0.5  # E[-n c^2 / (2 s^2)], which `value` has with the entropy of c
        _couple(slots, slots.weights, fit, self.noise_rates)

        if self.prior_kind != "flat":
            for expected_term in self._prior_terms:
                log_prior, slope, curvature, rates = expected_term(parts.weights, scales, covariance)
                value = value + log_prior
                slots.weights[:] += slope
                slots.diagonal[:] += curvature
                _couple(slots, slope, log_prior, rates)
        for index, expected in enumerate(self._expected_scales):
            log_density, slope, curvature = expected(scales[:, index], of_scales[:, index, index])
            value = value + log_density
            slots.scales[:, index] += slope
            slots.corner[:, index, index] -= curvature
        entropy = 0.5 * covariance.log_determinant + 0.5 * self.layout.num_means * (1.0 + _LOG_TWO_PI)
        return value + entropy, gradient

    def of(self, mask: np.ndarray) -> GaussianElbo:
        """Return the ELBO of some of the problems."""
        some = copy.copy(self)
        some.prior_scales, some._constant = self.prior_scales[mask], self._constant[mask]
        return some

    def noise_precision_at(self, log_scales: np.ndarray) -> np.ndarray:
        """Return 1 / s^2 ``(b,)`` at logarithms of the learned scales ``(b, k)``."""
        return np.exp(log_scales @ self.noise_rates - 2.0 * self._known_log_noise)

    def prior_scales_at(self, log_scales: np.ndarray) -> np.ndarray:
        """Return the prior's effective scales ``(b, d)`` at logarithms of the learned scales ``(b, k)``."""
        return self.prior_scales * np.exp(log_scales @ -self.prior_rates)[:, None]

    @property
    def _prior_terms(self) -> list[Callable[[np.ndarray, np.ndarray, Covariance], tuple[np.ndarray, ...]]]:
        """The terms of the log prior density that it has."""
        terms = [(self._shape.square, self._expected_square), (self._shape.absolute, self._expected_absolute)]
        return [expected for weight, expected in terms if weight.any()]

    def _expected_square(
        self, weights: np.ndarray, scales: np.ndarray, covariance: Covariance
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return E of the prior's quadratic part, of its gradient, of its curvature, and the rates a."""
        rates = 2.0 * self.prior_rates
        departure = weights - self.loc + covariance.cross @ rates
        factor = _exponential(scales, covariance.scales, rates)[:, None]
        curvature = factor * self._shape.square / np.square(self.prior_scales)
        value = -0.5 * (curvature * (np.square(departure) + covariance.variances)).sum(-1)
        return value, -curvature * departure, curvature, rates

    def _expected_absolute(
        self, weights: np.ndarray, scales: np.ndarray, covariance: Covariance
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return E of the prior's absolute part, of its gradient, of its curvature, and the rates a."""
        rates = self.prior_rates
        departure = weights - self.loc + covariance.cross @ rates
        strength = _exponential(scales, covariance.scales, rates)[:, None] * self._shape.absolute / self.prior_scales
        deviation = np.sqrt(covariance.variances)
        standard = departure / deviation
        slope = -strength * erf(math.sqrt(0.5) * standard)
        # -d^2/dw^2 |w| is -2 delta(w): twice the density at the kink.
        curvature = strength * np.exp(-0.5 * np.square(standard)) * (math.sqrt(2.0 / math.pi) / deviation)
        return (slope * departure - curvature * covariance.variances).sum(-1), slope, curvature, rates

    def _constants(self) -> np.ndarray:
        value = -self.num_rows * (0.5 * _LOG_TWO_PI + self._known_log_noise)
        if self.prior_kind == "flat":
            return np.full(len(self.prior_scales), value)
        return value - (np.log(self.prior_scales) + self._shape.log_constant).sum(-1)


def _exponential(scales: np.ndarray, covariance: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return E e^(a'x) ``(b,)``."""
    return np.exp((scales + 0.5 * (covariance @ rates)) @ rates)


def _couple(slots: Parts, slope: np.ndarray, value: np.ndarray, rates: np.ndarray) -> None:
    """Add the derivatives along the scales of a term E[e^(a'x) f] with this value and this slope in the weights."""
    along = value[:, None] * rates
    slots.scales[:] += along
    slots.border[:] -= slope[:, :, None] * rates
    slots.corner[:] -= along[:, :, None] * rates


def _prior_scales(prior: Any, num_features: int, given: np.ndarray | None) -> np.ndarray:
    """Return the known scales ``(b, d)``."""
    if given is None:
        return prior.scales(num_features)[None]
    if prior.kind not in ("gaussian", "laplace") or prior.scale_is_learned:
        raise ValueError(f"prior_scales needs a prior with one known scale, got {prior!r}")
    scales = np.array(given, dtype=np.float64)
    scales = scales[:, None] if scales.ndim == 1 else scales
    if scales.ndim != 2 or scales.size == 0 or scales.shape[1] not in (1, num_features):
        raise ValueError(f"prior_scales must have shape (b,) or (b, {num_features}), got {np.shape(given)}")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"prior_scales must be positive and finite, got {scales[~(scales > 0)][:1]}")
    return np.broadcast_to(scales, (len(scales), num_features)).copy()
