"""The model's log density fused on Moments: batched, with gradient and curvature, in unconstrained coordinates.

A point is x = (w_1..w_d, c, u, v): the weights, the intercept's deviation c = b + m_x'w - m_y from its conditional
mode, and the unconstrained coordinates of the learned scales, s = T(u) and t = T(v). Absent parts are left out. With
RSS(w, c) = |yc - Xc w|^2 + n c^2,

    log density(x) = -n log(2 pi)/2 - n log s - RSS/(2 s^2) + log prior(w | t, s)
                     + log p(s) + log |ds/du| + log p(t) + log |dt/dv|,

which is what Pyro's trace of `LinearRegression.pyro_model` gives, plus the Jacobians; w -> (w, c) has Jacobian 1.
The sum of squares is expanded round the starting weights, where the posterior is, so that its digits survive R^2 near
1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from bayesreg.evidence import EvidenceSpectrum
from bayesreg.moments import Moments
from bayesreg.noise_modes import noise_modes
from bayesreg.scales import LearnedScale

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression


# Ratios of prior and noise scale at which a prior scale's spread is judged, and how far beyond the singular values.
_RATIOS, _RATIO_REACH = 2001, 12.0
# In coordinates that give the curvature a unit diagonal.
_SMALLEST_EIGENVALUE = 1e-8


class Target:
    """A log density over unconstrained points, for one model and one set of moments, on one device.

    Args:
        model: The `LinearRegression`.
        moments: The data.
        device: Where points and results live; everything is float64.
        spectrum: The attribute of that name, where it is known already.

    Attributes:
        spectrum: The data in the eigenbasis of the prior's coordinates, at the prior's own scales.

    Raises:
        ValueError: The prior's scale or location vector does not have one entry a feature.
    """

    def __init__(
        self,
        model: LinearRegression,
        moments: Moments,
        device: torch.device | str = "cpu",
        spectrum: EvidenceSpectrum | None = None,
    ):
        self.model = model
        self.moments = moments if model.intercept else moments.about_origin()
        self.device = torch.device(device)
        self.dtype = torch.float64
        self.num_features = moments.num_features
        self.num_rows = moments.num_rows
        self._prior = model.prior
        self._relative_scales = self._tensor(model.prior.scales(self.num_features))
        self._loc = self._tensor(model.prior.locations(self.num_features))
        self.learned_scales = {
            name: LearnedScale(learned.distribution, self.device) for name, learned in model.learned_scales.items()
        }
        self.known_noise_scale = None if model.noise_is_learned else self._tensor(float(model.noise_scale))
        self.spectrum = spectrum or EvidenceSpectrum.of(
            self.moments, model.prior.scales(self.num_features), model.prior.locations(self.num_features), self.device
        )
        self._start = self._find_start()
        weights = self._start[: self.num_features]
        rss, cross = self.moments.residuals(weights.cpu().numpy())
        self._reference, self._rss, self._cross = weights, self._tensor(rss), self._tensor(cross)
        self._gram = self._tensor(self.moments.Sxx)
        self._feature_means = self._tensor(self.moments.feature_means)

    @property
    def num_parameters(self) -> int:
        """The length p of a point."""
        return self.num_features + int(self.model.intercept) + len(self.learned_scales)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the quantities of a point, in order."""
        return ("weights", *(["intercept"] if self.model.intercept else []), *self.learned_scales)

    # --- points and draws

    def constrain(self, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named draws that points stand for.

        Args:
            points: ``(..., p)``.

        Returns:
            ``weights (..., d)``, and ``intercept``, ``noise_scale``, ``prior_scale`` ``(...)`` as the model has them.
        """
        weights = points[..., : self.num_features]
        draws = {"weights": weights}
        if self.model.intercept:
            draws["intercept"] = self.intercepts(weights, points[..., self.num_features])
        for index, (name, learned) in self._scale_columns():
            draws[name] = learned.constrain(points[..., index])
        return draws

    def intercepts(self, weights: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
        """Return b = c + m_y - m_x'w for weights ``(..., d)`` and deviations c ``(...)``."""
        return deviation + self.moments.target_mean - weights @ self._feature_means

    def unconstrain(self, draws: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the points of named draws: the inverse of `constrain`.

        Args:
            draws: As `constrain` returns them.

        Returns:
            Points ``(..., p)``.
        """
        weights = draws["weights"]
        columns = [weights]
        if self.model.intercept:
            deviation = draws["intercept"] - self.moments.target_mean + weights @ self._feature_means
            columns.append(deviation.unsqueeze(-1))
        columns += [learned.unconstrain(draws[name]).unsqueeze(-1) for name, learned in self.learned_scales.items()]
        return torch.cat(columns, dim=-1)

    def start(self) -> torch.Tensor:
        """Return a good starting point ``(p,)``.

        The scales that the evidence of a Gaussian prior of the same variance prefers, and the weights' mean there.
        """
        return self._start.clone()

    def starts(self) -> torch.Tensor:
        """Return starting points ``(k, p)`` for chains, the likeliest first.

        Under a prior with a kink and with the noise learned, one at each mode of the noise scale that may have mass
        (`bayesreg.noise_modes`), a learned prior scale held at its start; else `start` alone.
        """
        if not self._prior.has_kink or "noise_scale" not in self.learned_scales:
            return self._start.unsqueeze(0)
        columns = {name: column for column, (name, _) in self._scale_columns()}
        factor = 1.0
        if "prior_scale" in columns:
            factor = float(self.learned_scales["prior_scale"].constrain(self._start[columns["prior_scale"]]))
        learned, column = self.learned_scales["noise_scale"], columns["noise_scale"]
        log_noise = math.log(learned.constrain(self._start[column]))
        shape = self._prior.shape(self.num_features)
        modes = noise_modes(self.spectrum, shape, learned, log_noise, factor, self._prior.relative_to_noise)
        if not modes:
            return self._start.unsqueeze(0)
        points = self._start.repeat(len(modes), 1)
        points[:, : self.num_features] = self._tensor(np.stack([mode.weights for mode in modes]))
        points[:, column] = self._tensor([mode.coordinate for mode in modes])
        return points

    def prior_scale_spread(self) -> float:
        """Return about the posterior standard deviation of the log of a learned prior scale.

        From the evidence of a Gaussian prior of the same variance, a learned noise at its likeliest: what it takes to
        tell a scale that the data determine from one that may be arbitrarily small.
        """
        logs = self.spectrum.singular_values.log()
        unit = torch.linspace(0.0, 1.0, _RATIOS, dtype=self.dtype, device=self.device)
        log_ratios = -logs.max() - _RATIO_REACH + unit * (logs.max() - logs.min() + 2.0 * _RATIO_REACH)
        log_noise = self.known_noise_scale
        log_noise = self.spectrum.likeliest_noise(log_ratios) if log_noise is None else log_noise.log()
        log_scales = log_ratios - 0.5 * float(self._prior.variance(self._tensor(1.0)).log())
        log_scales = log_scales if self._prior.relative_to_noise else log_scales + log_noise
        density = self.spectrum.log_evidence_at_ratio(log_noise, log_ratios)
        density = density + self.learned_scales["prior_scale"].log_prior(log_scales.exp()) + log_scales
        weights = torch.softmax(density.nan_to_num(nan=-math.inf, posinf=-math.inf), 0)
        mean = weights @ log_scales
        return float((weights @ (log_scales - mean).square()).sqrt())

    # --- density, gradient, curvature

    def log_density(self, points: torch.Tensor) -> torch.Tensor:
        """Return the log density at points, differentiable by autograd through the analytic gradient.

        Args:
            points: ``(..., p)``.

        Returns:
            ``(...)``.
        """
        return _FusedLogDensity.apply(points, self)

    def log_density_and_gradient(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log density and its gradient at a batch of points, without an autograd graph of the model.

        Args:
            points: ``(..., p)``.

        Returns:
            ``(...)`` and ``(..., p)``.
        """
        d = self.num_features
        weights = points[..., :d]
        gradient = torch.empty_like(points)
        noise, noise_column = self.known_noise_scale, None
        prior_factor, prior_column = None, None
        log_density = torch.zeros_like(points[..., 0])
        for column, (name, learned) in self._scale_columns():
            scale, log_slope, density, density_slope = learned.derivatives(points[..., column])
            log_density = log_density + density
            gradient[..., column] = density_slope
            if name == "noise_scale":
                noise, noise_column, noise_log_slope = scale, column, log_slope
            else:
                prior_factor, prior_column, prior_log_slope = scale, column, log_slope

        rss, cross = self._residuals(weights)
        precision = noise.square().reciprocal()
        if self.model.intercept:
            deviation = points[..., d]
            rss = rss + self.num_rows * deviation.square()
            gradient[..., d] = -self.num_rows * deviation * precision
        scaled_rss = rss * precision
        log_density = log_density - self.num_rows * (noise.log() + 0.5 * math.log(2 * math.pi)) - 0.5 * scaled_rss
        # In units of the scales' common factor, in which the prior's own scales are constants.
        departure, factor = weights - self._loc, self._common_factor(noise, prior_factor)
        if factor is not None:
            departure = departure / factor.unsqueeze(-1)
        prior_density, slope, scale_slope = self._prior.derivatives(departure, self._relative_scales)
        log_density += prior_density
        if factor is not None:
            log_density -= d * factor.log()
            slope /= factor.unsqueeze(-1)
        torch.addcmul(slope, cross, precision.unsqueeze(-1), out=gradient[..., :d])
        if noise_column is not None:
            along = scaled_rss - self.num_rows
            if self._prior.relative_to_noise:
                along = along + scale_slope
            gradient[..., noise_column] += along * noise_log_slope
        if prior_column is not None:
            gradient[..., prior_column] += scale_slope * prior_log_slope
        return log_density, gradient

    def curvature(self, point: torch.Tensor) -> torch.Tensor:
        """Return the negative Hessian of the log density at a point, made positive definite.

        The kink of a Laplace prior enters by its expected curvature. Eigenvalues (in coordinates that give the matrix a
        unit diagonal) that are not safely positive are raised, so that the result always has a Cholesky factor.

        Args:
            point: ``(p,)``.

        Returns:
            A symmetric positive definite matrix ``(p, p)``.
        """
        hessian = self._negative_hessian(point)
        lengths = hessian.diagonal().abs().clamp_min(torch.finfo(self.dtype).tiny).sqrt()
        scaled = hessian / lengths / lengths.unsqueeze(-1)
        factor, failed = torch.linalg.cholesky_ex(scaled)
        if bool((failed == 0) & (factor.diagonal().amin() ** 2 > _SMALLEST_EIGENVALUE)):  # one read from the device
            return hessian
        values, vectors = torch.linalg.eigh(scaled)
        raised = vectors * lengths.unsqueeze(-1)
        return (raised * values.abs().clamp_min(_SMALLEST_EIGENVALUE)) @ raised.T

    def _negative_hessian(self, point: torch.Tensor) -> torch.Tensor:
        """Return the negative Hessian: the weights' block in closed form, the few other rows by autograd."""
        d, noise, prior_factor = self.num_features, *self._scales_at(point.detach())
        hessian = torch.empty((self.num_parameters, self.num_parameters), dtype=self.dtype, device=self.device)
        hessian[:d, :d] = self._gram / noise.square()
        # Autograd would see a straight line where the prior has its kink.
        effective = self._effective_scale(noise, prior_factor).expand(d)
        hessian[:d, :d].diagonal().add_(self._prior.expected_curvature(effective))
        if d < self.num_parameters:
            with torch.enable_grad():
                at = point.detach().requires_grad_(True)
                density = self._log_density_by_operations(at)
                (gradient,) = torch.autograd.grad(density, at, create_graph=True)
                for row in range(d, self.num_parameters):
                    (second,) = torch.autograd.grad(gradient[row], at, retain_graph=True)
                    hessian[row], hessian[:, row] = -second, -second
        return hessian

    # --- helpers

    def _tensor(self, values: np.ndarray | float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _scale_columns(self) -> list[tuple[int, tuple[str, LearnedScale]]]:
        return list(enumerate(self.learned_scales.items(), start=self.num_features + int(self.model.intercept)))

    def _residuals(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return |yc - Xc w|^2 ``(...)`` and Xc'(yc - Xc w) ``(..., d)``."""
        step = weights - self._reference
        product = step @ self._gram
        rss = self._rss + (step * (product - 2.0 * self._cross)).sum(-1)
        return rss.clamp_min(0.0), self._cross - product

    def _common_factor(self, noise: torch.Tensor, prior_factor: torch.Tensor | None) -> torch.Tensor | None:
        """Return what multiplies every entry of the prior's own scales, or None where that is 1."""
        if not self._prior.relative_to_noise:
            return prior_factor
        return noise if prior_factor is None else prior_factor * noise

    def _effective_scale(self, noise: torch.Tensor, prior_factor: torch.Tensor | None) -> torch.Tensor:
        factor = self._common_factor(noise, prior_factor)
        return self._relative_scales if factor is None else self._relative_scales * factor.unsqueeze(-1)

    def _scales_at(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        scales = {name: learned.constrain(point[..., column]) for column, (name, learned) in self._scale_columns()}
        return scales.get("noise_scale", self.known_noise_scale), scales.get("prior_scale")

    def _log_density_by_operations(self, points: torch.Tensor) -> torch.Tensor:
        """Return the density in plain differentiable operations: for the Hessian, and to test the analytic gradient."""
        d = self.num_features
        weights = points[..., :d]
        noise, prior_factor = self._scales_at(points)
        rss = self._residuals(weights)[0]
        if self.model.intercept:
            rss = rss + self.num_rows * points[..., d].square()
        log_density = -self.num_rows * (noise.log() + 0.5 * math.log(2 * math.pi)) - 0.5 * rss / noise.square()
        log_density = log_density + self._prior.log_density(
            weights - self._loc, self._effective_scale(noise, prior_factor)
        )
        for column, (_, learned) in self._scale_columns():
            log_density = log_density + learned.log_density(points[..., column])
        return log_density

    def _find_start(self) -> torch.Tensor:
        flat = self._prior.kind == "flat"
        variance_factor = 1.0 if flat else float(self._prior.variance(self._tensor(1.0)).sqrt())
        spectrum = self.spectrum
        if flat:
            spectrum.require_full_rank(self.moments)
        # A constant target has no spread: then the noise's scale, or 1, sets where to look.
        spread = math.sqrt(self.moments.Syy / self.num_rows) or float(self.known_noise_scale or 1.0)
        # The scales' coordinates on a coarse grid: noise from e^-16 to e^2 of the target's spread, priors over e^-20 to
        # e^20.
        grids = {
            "noise_scale": spread * np.exp(np.linspace(-16.0, 2.0, 73)),
            "prior_scale": np.exp(np.linspace(-20.0, 20.0, 81)),
        }
        lengths = math.sqrt(np.median(np.diag(self.moments.Sxx)) / self.num_rows) or 1.0
        grids["prior_scale"] *= (1.0 if self._prior.relative_to_noise else spread) / lengths
        axes, coordinates = {}, {}
        for name, learned in self.learned_scales.items():
            inside = self._inside_support(learned, self._tensor(grids[name]))
            axes[name], coordinates[name] = learned.constrain(inside), inside
        noise = axes.get(
            "noise_scale", self.known_noise_scale.reshape(1) if self.known_noise_scale is not None else None
        )
        prior = axes.get("prior_scale", self._tensor([1.0]))
        noise, prior = noise.unsqueeze(-1), prior.unsqueeze(0)
        effective = prior * variance_factor * (noise if self._prior.relative_to_noise else torch.ones_like(noise))
        table = spectrum.log_evidence(noise.expand(effective.shape), None if flat else effective)
        for name, learned in self.learned_scales.items():
            column = learned.log_density(coordinates[name])
            table = table + (column.unsqueeze(-1) if name == "noise_scale" else column.unsqueeze(0))
        best = int(torch.where(table.isfinite(), table, torch.full_like(table, -math.inf)).argmax())
        row, column = divmod(best, table.shape[1])
        weights = spectrum.weight_mean(float(noise[row, 0]), None if flat else float(effective[row, column]))
        tail = [self._tensor([0.0])] if self.model.intercept else []
        picked = {"noise_scale": row, "prior_scale": column}
        tail += [coordinates[name][picked[name]].reshape(1) for name in self.learned_scales]
        return torch.cat([weights, *tail])

    def _inside_support(self, learned: LearnedScale, scales: torch.Tensor) -> torch.Tensor:
        """Return unconstrained coordinates for a grid of scales; for a bounded support, a grid inside it."""
        support = learned.distribution.support
        if bool(support.check(scales).all()):
            return learned.unconstrain(scales)
        return torch.linspace(-12.0, 12.0, scales.shape[0], dtype=self.dtype, device=self.device)


class _FusedLogDensity(torch.autograd.Function):
    """`Target.log_density` as one node of an autograd graph."""

    @staticmethod
    def forward(ctx, points, target):
        log_density, gradient = target.log_density_and_gradient(points)
        ctx.save_for_backward(gradient)
        return log_density

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream.unsqueeze(-1) * gradient, None
