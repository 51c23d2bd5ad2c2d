"""The mode of the posterior, in posterior units: noise scale s, prior scales t_j, no lambda.

    known noise:    maximise over w, b    -|y - Xw - b|^2 / (2 s^2) + log prior(w)
    learned noise:  maximise over w, b, s -n log s - |y - Xw - b|^2 / (2 s^2) + log prior(w) + log p(s)

The intercept is at its mode (centring). The mode with learned noise is that of the joint density of (w, b, s): it
depends on the parametrisation, and with s (not log s) as here, n keeps its full power. It is the global maximum of the
profile h(s) = max_w [...], a function of one number that can have several local maxima; where n - 1 columns can fit the
target exactly, h can grow without bound as s goes to 0, and there is no mode. Given s: under a Gaussian (flat) prior
the mode is a ridge (least-squares) solution in closed form; under a Laplace prior a lasso, to optimality conditions at
rounding level; under an elastic net's prior the lasso of the rows with diag(s / t) below them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize
import torch

from bayesreg.certificates import Certificate, certify
from bayesreg.conventions import penalty_for
from bayesreg.evidence import EvidenceSpectrum
from bayesreg.inference.active_set import minimise_absolute_penalty
from bayesreg.model import require_model
from bayesreg.moments import Moments, as_moments

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.model import LinearRegression
    from bayesreg.penalties import Penalty
    from bayesreg.standardization import Standardization

# The profile is looked at in steps of this in log s, over the part of the axis that can hold its maximum.
_PROFILE_STEP = 0.1
_MOST_PROFILE_NODES = 400
# How far from the target's spread a mode of log s is looked for.
_FARTHEST = 80.0
# How far inside a bounded support log s stays: at the bound itself a density may be given as 0.
_INSIDE = 1e-12


class NoJointMode(ValueError):
    """The joint density grows without bound; the message says where to, and what would give it a mode."""


@dataclass(frozen=True)
class MapEstimate:
    """The mode of the joint posterior density of weights, intercept and (where learned) noise scale.

    Weights, intercept, noise scale and log density are in the units of the data given; see `original_units`.

    Attributes:
        weights: ``(d,)`` float64 tensor on the CPU; exact zeros (or exact ``loc``) where the prior has a kink.
        intercept: The intercept at its mode; 0.0 for a model without one.
        noise_scale: The noise scale, known or at the mode.
        log_density: The joint log density there in nats, constants included: what Pyro's trace of the program gives.
        certificate: What `certify` says of the weights against the penalty at this noise scale.
        penalty: That penalty, in the convention ``mean-half-squared``.
        model: The model, with learned scales as they were given.
        feature_names: The names of the features.
        num_rows: Number of rows n.
        transform: The standardisation that the weights are in the units of, if any.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(0.05), noise_scale=0.7), data)
        >>> int((fit.weights == 0).sum()), fit.certificate.relative_gap < 1e-12
        (3, True)
        >>> fit.penalty
        Penalty(l1=0.022171945701357464, convention='mean-half-squared')
    """

    weights: torch.Tensor
    intercept: float
    noise_scale: float
    log_density: float
    certificate: Certificate
    penalty: Penalty
    model: LinearRegression
    feature_names: tuple[str, ...]
    num_rows: int
    transform: Standardization | None = None

    def original_units(self) -> MapEstimate:
        """Return the estimate in the units of the data before ``standardized()``.

        The log density becomes that of the original target, weights and noise scale (the Jacobians of the change of
        units); certificate, penalty and model stay those of the problem that was solved.

        Returns:
            The same mode, in other units.

        Raises:
            ValueError: The data were not standardised.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> fit = br.map_estimate(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data)
            >>> fit = fit.original_units()
            >>> round(fit.intercept, 2), round(fit.noise_scale, 2)
            (152.13, 53.9)
        """
        if self.transform is None:
            raise ValueError(
                "original_units() needs an estimate from data.standardized(); these data were not standardised"
            )
        transform = self.transform
        weights = transform.to_original_weights(self.weights)
        log_factors = np.log(np.asarray(transform.target_scale) / np.asarray(transform.feature_scales))
        shift = -self.num_rows * math.log(transform.target_scale)
        shift -= float(log_factors.sum()) if self.model.prior.kind != "flat" else 0.0
        learned = self.model.learned_scales.get("noise_scale")
        shift -= math.log(transform.target_scale) if learned is not None and not learned.is_flat else 0.0
        return replace(
            self,
            weights=weights,
            intercept=float(transform.to_original_intercept(self.weights, self.intercept)),
            noise_scale=float(transform.to_original_noise_scale(self.noise_scale)),
            log_density=self.log_density + shift,
            transform=None,
        )


def map_estimate(
    model: LinearRegression,
    data: RegressionData | Moments,
    noise_scale: float | None = None,
    prior_scale: float | None = None,
) -> MapEstimate:
    """Return the mode of the posterior, with its certificate.

        maximise over w, b (and s where learned)   -n log s - |y - Xw - b|^2 / (2 s^2) + log prior(w) + log p(s)

    At known s, and at the mode's s, w is the penalised fit at the lambda that the prior stands for (`penalty_for`). A
    learned s is the mode of s itself, not of log s, with the intercept at its mode and not integrated out.

    Args:
        model: The `LinearRegression`.
        data: Rows or `Moments`.
        noise_scale: Conditions on this value of a learned noise scale.
        prior_scale: Conditions on this value of a learned prior scale, which has no joint mode.

    Returns:
        The `MapEstimate`; its relative duality gap is 1e-10 or less, but for a flat prior, which has none.

    Raises:
        TypeError: ``model`` is not a `LinearRegression`, ``data`` neither rows nor `Moments`, or a value to condition
            on no number.
        NoJointMode: A learned prior scale, or learned noise whose joint density has no maximum; a ValueError.
        ValueError: A flat prior on a design of short rank (improper), or a value given for a scale that is known, or
            not positive and finite.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> fit = br.map_estimate(br.LinearRegression(br.LaplacePrior(0.02), noise_scale=0.7), data)
        >>> int((fit.weights == 0).sum()), fit.certificate.relative_gap < 1e-10
        (5, True)
    """
    model = require_model(model).conditioned(noise_scale, prior_scale)
    if model.prior.scale_is_learned:
        raise NoJointMode(
            "a learned prior scale has no joint mode with the weights: the density grows without bound as the "
            "scale goes to 0 with the weights. Give prior_scale= the value to condition on, or use sample(), "
            "whose posterior is proper"
        )
    moments = as_moments(data)
    centred = moments if model.intercept else moments.about_origin()
    problem, scale, weights = _find_mode(model, centred)
    penalty = penalty_for(model.prior, noise_scale=scale, num_rows=moments.num_rows)
    return MapEstimate(
        weights=torch.tensor(weights, dtype=torch.float64, device="cpu"),
        intercept=float(moments.target_mean - moments.feature_means @ weights) if model.intercept else 0.0,
        noise_scale=scale,
        log_density=problem.log_density(scale, weights),
        certificate=certify(weights, data, penalty, intercept=None if model.intercept else False),
        penalty=penalty,
        model=model,
        feature_names=moments.feature_names,
        num_rows=moments.num_rows,
        transform=moments.transform,
    )


def joint_mode(model: LinearRegression, moments: Moments, spectrum: EvidenceSpectrum) -> torch.Tensor:
    """Return the weights of the joint mode, without a certificate: for who wants many of one data set.

    Args:
        model: The model, its prior scale known.
        moments: The data; centred for a model with an intercept, about the origin without.
        spectrum: Their decomposition, at the prior's scales.

    Returns:
        The weights ``(d,)`` that `map_estimate` gives.

    Raises:
        NoJointMode: There is none.
    """
    return torch.tensor(_find_mode(model, moments, spectrum)[2], dtype=torch.float64, device="cpu")


def _find_mode(
    model: LinearRegression, moments: Moments, spectrum: EvidenceSpectrum | None = None
) -> tuple[_ModeProblem, float, np.ndarray]:
    """Return the problem, and the noise scale and the weights of its mode."""
    problem = _ModeProblem(model, moments, spectrum)
    scale = _best_noise_scale(model, problem) if model.noise_is_learned else float(model.noise_scale)
    return problem, scale, problem.weights(scale)


class _ModeProblem:
    """The weights' mode at any noise scale, and the joint log density there."""

    def __init__(self, model: LinearRegression, moments: Moments, spectrum: EvidenceSpectrum | None = None):
        self.model, self.moments = model, moments
        self.learned_noise = model.learned_scales.get("noise_scale")
        prior, num_features = model.prior, moments.num_features
        self.scales, self.loc = prior.scales(num_features), prior.locations(num_features)
        self._shape = prior.shape(num_features)
        self.spectrum = spectrum or EvidenceSpectrum.of(moments, self.scales, self.loc)
        if prior.kind == "flat":
            self.spectrum.require_full_rank(moments)
        self._root = moments.square_root()
        self._design, self._target = self._root[:, :-1], self._root[:, -1] - self._root[:, :-1] @ self.loc
        self._previous: np.ndarray | None = None

    def weights(self, noise_scale: float) -> np.ndarray:
        """Return the weights' mode given the noise scale; solutions at neighbouring scales start each other."""
        prior = self.model.prior
        factor = noise_scale if prior.relative_to_noise else 1.0
        if not prior.has_kink:
            return self.spectrum.weight_mean(noise_scale, None if prior.kind == "flat" else factor).cpu().numpy()
        ratios = noise_scale / (self.scales * factor)
        strengths = noise_scale * ratios * self._shape.absolute
        design, target = self._design, self._target
        if self._shape.square.any():  # the Gaussian factor: rows below the data's
            design = np.vstack([design, np.diag(ratios * np.sqrt(self._shape.square))])
            target = np.concatenate([target, np.zeros(ratios.size)])
        self._previous = minimise_absolute_penalty(design, target, strengths, self._previous)
        return self._without_rounding_of_loc(self.loc + self._previous, design, strengths)

    def _without_rounding_of_loc(self, weights: np.ndarray, design: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """Return the weights after a Newton step on their support, where they are not the difference of loc and v.

        A weight much smaller than loc (a column of large numbers) has lost its digits in loc + v.
        """
        support = np.flatnonzero(self._previous)
        if not (self.loc[support].any() and support.size):
            return weights
        columns, num_rows = design[:, support], len(self._root)
        lengths = np.linalg.norm(columns, axis=0)
        left = np.concatenate([self._root[:, -1] - self._design @ weights, -design[num_rows:] @ self._previous])
        slope = columns.T @ left
        slope = (slope - strengths[support] * np.sign(self._previous[support])) / lengths
        upper = np.linalg.qr(columns / lengths, mode="r")
        refined = weights.copy()
        refined[support] += (
            scipy.linalg.solve_triangular(
                upper, scipy.linalg.solve_triangular(upper, slope, trans=1), check_finite=False
            )
            / lengths
        )
        return refined

    def log_density(self, noise_scale: float, weights: np.ndarray) -> float:
        """Return the joint log density of the weights, the intercept at its mode, and the noise scale."""
        rss = self._residual_squares(weights)
        prior = self.model.prior
        deviation = torch.tensor(weights - self.loc, dtype=torch.float64, device="cpu")
        scale = torch.tensor(
            self.scales * (noise_scale if prior.relative_to_noise else 1.0), dtype=torch.float64, device="cpu"
        )
        likelihood = -self.moments.num_rows * (0.5 * math.log(2 * math.pi) + math.log(noise_scale))
        likelihood -= 0.5 * rss / noise_scale / noise_scale
        return likelihood + float(prior.log_density(deviation, scale)) + self.log_noise_prior(noise_scale)

    def _residual_squares(self, weights: np.ndarray) -> float:
        # Not below the squares that no weights fit, or the profile would pass its ceiling; nor made of rounding.
        squares = float(self.moments.residuals(weights)[0])
        return max(squares, self.spectrum.residual) if squares > self.spectrum.rounding else self.spectrum.residual

    def log_noise_prior(self, noise_scale: float) -> float:
        """Return log p(s), 0 for known noise."""
        if self.learned_noise is None:
            return 0.0
        return float(self.learned_noise.log_prior(torch.tensor(noise_scale, dtype=torch.float64, device="cpu")))

    def ceiling(self, log_scales: np.ndarray) -> np.ndarray:
        """Return upper bounds of the joint log density at log s: the best fit and the best prior density at once."""
        prior = self.model.prior
        noise = torch.tensor(log_scales, dtype=torch.float64, device="cpu").exp()
        scale = torch.tensor(self.scales, dtype=torch.float64, device="cpu").expand(len(log_scales), -1)
        scale = scale * noise.unsqueeze(-1) if prior.relative_to_noise else scale
        best_fit = 0.5 * self.spectrum.residual / noise.square()
        likelihood = -self.moments.num_rows * (0.5 * math.log(2 * math.pi) + noise.log()) - best_fit
        best_prior = prior.log_density(torch.zeros_like(scale), scale)
        return (likelihood + best_prior + self.learned_noise.log_prior(noise)).numpy()

    def profile(self, log_scale: float) -> float:
        """Return h(s) at log s."""
        scale = math.exp(log_scale)
        return self.log_density(scale, self.weights(scale))

    def profile_slope(self, log_scale: float) -> float:
        """Return dh / d log s = RSS/s^2 - n + d log p / d log s (+ the prior's where relative), by the envelope."""
        scale, prior = math.exp(log_scale), self.model.prior
        weights = self.weights(scale)
        slope = self._residual_squares(weights) / scale**2 - self.moments.num_rows
        if prior.relative_to_noise:
            effective = torch.tensor(self.scales * scale, dtype=torch.float64, device="cpu")
            deviation = torch.tensor(weights - self.loc, dtype=torch.float64, device="cpu")
            slope += float(prior.derivatives(deviation, effective)[2])
        with torch.enable_grad():
            at = torch.tensor(scale, dtype=torch.float64, device="cpu", requires_grad=True)
            density = self.learned_noise.log_prior(at)
            slope += scale * float(torch.autograd.grad(density, at)[0]) if density.requires_grad else 0.0
        return slope


def _best_noise_scale(model: LinearRegression, problem: _ModeProblem) -> float:
    """Return the noise scale of the joint mode: the global maximum of the profile."""
    moments = problem.moments
    problem.spectrum.require_residual()
    _require_mode(model, problem)
    spread = math.sqrt(moments.Syy / moments.num_rows) or 1.0
    support = problem.learned_noise.distribution.support
    lower, upper = math.log(spread) - _FARTHEST, math.log(spread) + _FARTHEST
    if float(support.lower_bound) > 0.0:
        lower = math.log(float(support.lower_bound)) + _INSIDE
    if math.isfinite(float(getattr(support, "upper_bound", math.inf))):
        upper = math.log(float(support.upper_bound)) - _INSIDE
        lower = min(lower, upper - _FARTHEST) if float(support.lower_bound) == 0.0 else lower
    # Where even the ceiling is below a height that the profile reaches, the maximum is not: the rest is searched.
    axis = np.linspace(lower, upper, 2001)
    ceiling = problem.ceiling(axis)
    height = problem.profile(float(axis[np.argmax(ceiling)]))
    height = max(height, problem.profile(min(max(math.log(spread), lower), upper)))
    possible = np.flatnonzero(ceiling >= height - 1e-9 * abs(height))  # under a flat prior both are the same number
    first = axis[max(possible[0] - 1, 0)]
    last = axis[min(possible[-1] + 1, axis.size - 1)]
    count = int(min(max((last - first) / _PROFILE_STEP, 16), _MOST_PROFILE_NODES)) + 1
    # From large noise to small: each solution then starts the next, with few weights to let in.
    nodes = np.linspace(last, first, count)
    values = np.array([problem.profile(u) for u in nodes])
    best_scale, best_value = math.exp(nodes[np.argmax(values)]), values.max()
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    for peak in np.flatnonzero((values >= padded[:-2]) & (values >= padded[2:])):
        above, below = nodes[max(peak - 1, 0)], nodes[min(peak + 1, count - 1)]
        if problem.profile_slope(below) > 0.0 > problem.profile_slope(above):
            root = scipy.optimize.brentq(problem.profile_slope, below, above, xtol=1e-15, rtol=1e-15)
            if problem.profile(root) >= best_value:
                best_scale, best_value = math.exp(root), problem.profile(root)
    return best_scale


def _require_mode(model: LinearRegression, problem: _ModeProblem) -> None:
    """Refuse learned noise where the joint density grows without bound as the noise scale goes to 0.

    Raises:
        NoJointMode: It does.
    """
    interpolates = problem.spectrum.residual == 0.0
    if model.prior.relative_to_noise:
        # The prior shrinks with the noise, so that only weights at its centre keep their density.
        interpolates = interpolates and not bool(problem.spectrum.projections.any())
    if not interpolates or float(problem.learned_noise.distribution.support.lower_bound) > 0.0:
        return
    heights = [
        -(problem.moments.num_rows + (problem.moments.num_features if model.prior.relative_to_noise else 0)) * u
        + problem.log_noise_prior(math.exp(u))
        for u in (-200.0, -250.0, -300.0)
    ]
    if heights[0] < heights[1] < heights[2]:
        raise NoJointMode(
            f"the joint mode of weights and noise_scale does not exist: {problem.moments.num_features} features fit "
            f"{problem.moments.num_rows} rows exactly, and the density grows without bound as noise_scale goes "
            "to 0. Give a noise prior that vanishes there fast enough (dist.LogNormal, dist.InverseGamma), a known "
            "noise scale (noise_scale=), or use sample(), whose posterior can be proper"
        )
