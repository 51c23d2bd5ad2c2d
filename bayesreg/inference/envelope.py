"""A simple density that lies above the posterior of the weights under a prior with a kink, at every pair of scales.

Posterior. With the intercept integrated out, noise scale s, effective prior scales b_j = f D_j, z = (w - m) / D, and
the design's singular value decomposition Xc D = U S V' (`bayesreg.evidence`), c = U'(yc - Xc m):

    log p(y, z | s, f) = -nu/2 log(2 pi) - log(n)/2 - nu log s - [e + |c - S V'z|^2] / (2 s^2)
                         - d log(2 f) - |z|_1 / f.

The Gaussian envelope. For any t in the box |t_j| <= 1, -|z_j| <= -t_j z_j, so that t'z in place of |z|_1 gives a
larger function, which is Gaussian in z. Its integral is closed: with lambda = s^2 / f and a = V't,

    log m(s, f) = -nu/2 log(2 pi) - log(n)/2 + d/2 log(2 pi) - sum_i log S_i - (nu - d) log s - d log(2 f)
                  - [e - lambda^2 sum_i a_i^2 / S_i^2 + 2 lambda sum_i a_i c_i / S_i] / (2 s^2).

A draw of (s, f) from m p(s) p(f) and of z from the Gaussian, kept with probability exp(-(|z|_1 - t'z) / f), is an
independent draw from the posterior, whatever t is; and the share of kept draws times the integral of m is the evidence.

The best t. That which makes m least solves the dual of the lasso at strength lambda: it is the subgradient of |z|_1 at
the posterior's mode, and the Gaussian's mean is then that mode. So the certificate of the MAP is the envelope of the
sampler. It depends on lambda alone; it is computed at nodes of log lambda and interpolated between them, which stays in
the box.

The elastic net. Its log density in x = z / f is -sum_j (p_j |x_j| + q_j x_j^2 / 2 + log Z_j) (`bayesreg.prior_shapes`;
a Laplace prior has p = 1, q = 0 and Z = 2, as above). With -q x^2 / 2 <= -k sqrt(q) x + k^2 / 2 for any k, the slope
g_j = p_j t_j + sqrt(q_j) k_j takes the place of t_j everywhere, its part beyond |g_j| <= p_j at the price of
sum_j k_j^2 / 2 in log m: the dual of the elastic net, which is the least where k_j = sqrt(q_j) times the mode of x_j.
It still depends on lambda alone, since f = 1, or f = s and lambda = s, where no prior scale is learned.

The other envelope, for a Laplace prior whose scale is learned. A narrow prior says more than the data: m then grows as
f^-d, while the evidence does not. There the concave log likelihood lies below its tangent at z = 0, of slope h / s^2, h
= V S c, so that where lambda > max|h_j|

    log m0(s, f) = -nu/2 log(2 pi) - log(n)/2 - nu log s - [e + |c|^2] / (2 s^2) - sum_j log(1 - (h_j / lambda)^2)

is a bound too, its z independent and two-sided exponential, kept with probability exp(-|S V'z|^2 / (2 s^2)). At each
pair of scales the smaller of the two bounds is used.

Source of the dual: Osborne, Presnell & Turlach, JCGS 9 (2000).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bayesreg.evidence import EvidenceSpectrum
    from bayesreg.prior_shapes import PriorShape
    from bayesreg.target import Target

# Nodes of log lambda this far apart, over this many standard deviations to either side, and no further than this.
_STEP, _REACH, _FARTHEST = 0.25, 16.0, 12.0
# A smaller q, of an elastic net that is a Laplace prior but for it, leaves k to the rounding of g.
_SMALLEST_SQUARE = 1e-16
# Coordinate descent on the dual ends when a sweep lowers the envelope by less, in nats: what is left costs acceptance,
# not truth.
_SMALLEST_GAIN = 1e-3


class Envelope:
    """The smaller of the two envelopes of a target whose prior has a kink, and a design of full column rank.

    Args:
        target: The posterior.
        sweeps: The most sweeps that look for the best t.
    """

    def __init__(self, target: Target, sweeps: int):
        self._spectrum = spectrum = target.spectrum
        self._like = {"dtype": target.dtype, "device": target.device}
        degrees, num_features = spectrum.degrees_of_freedom, spectrum.num_features
        self._power = degrees - num_features
        normalisation = -0.5 * degrees * math.log(2 * math.pi)
        normalisation -= 0.5 * math.log(spectrum.num_rows) if spectrum.has_intercept else 0.0
        self._constant_of_tangent = normalisation
        self._constant = normalisation + 0.5 * num_features * math.log(2 * math.pi)
        log_determinant = float(spectrum.singular_values.log().sum())
        self._constant -= log_determinant
        self._log_volume = log_determinant - 0.5 * num_features * math.log(2 * math.pi)
        shape = target.model.prior.shape(num_features)
        self._absolute, self._square = self._tensor(shape.absolute), self._tensor(shape.square)
        self._log_prior_constant, self._has_square = float(shape.log_constant.sum()), bool(shape.square.any())
        self._slope = spectrum.basis @ (spectrum.singular_values * spectrum.projections)  # h
        self._log_largest = (self._slope.abs() / self._absolute).max().log()
        self._total = spectrum.residual + float(spectrum.projections.square().sum())
        nodes = self._nodes(target)
        noise = target.constrain(target.start()).get("noise_scale", target.known_noise_scale)
        subgradients = _dual_of_the_lasso(
            spectrum, np.exp(nodes), float(noise), sweeps, shape, self._factors(target, nodes)
        )
        rotated = subgradients @ spectrum.basis.cpu().numpy()  # a at each node
        values, projections = spectrum.singular_values.cpu().numpy(), spectrum.projections.cpu().numpy()
        scaled = rotated / values
        self._nodes_at, self._rotated_columns = self._tensor(nodes), self._tensor(rotated.T).contiguous()
        self._squares = self._tensor((scaled**2).sum(1))
        self._products = self._tensor(np.r_[(scaled[:-1] * scaled[1:]).sum(1), 0.0])
        self._linear = self._tensor(scaled @ projections)
        self._basis_columns = spectrum.basis.T.contiguous()
        excess = _beyond_kink(subgradients, shape)
        self._excess_squares = self._tensor((excess**2).sum(1))
        self._excess_products = self._tensor(np.r_[(excess[:-1] * excess[1:]).sum(1), 0.0])

    def log_marginal(self, log_noise: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        """Return the smaller of log m and log m0, of the broadcast shape: a bound on log p(y | s, f) from above.

        Args:
            log_noise: log s.
            log_ratio: log(f / s^2), that is -log lambda.

        Returns:
            The log of the envelope's integral over the weights.
        """
        if self._has_square:
            return self._log_gaussian(log_noise, log_ratio)
        return torch.minimum(self._log_gaussian(log_noise, log_ratio), self._log_tangent(log_noise, log_ratio))

    def _log_gaussian(self, log_noise: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        node, share, shrink = self._locate(-log_ratio)
        rest = 1.0 - share
        squares = _interpolated(self._squares, self._products, node, share)
        linear = rest * self._linear[node] + share * self._linear[node + 1]
        strength = (-log_ratio).exp() * shrink
        misfit = self._spectrum.residual + strength * (2.0 * linear - strength * squares)
        log_factor = log_ratio + 2.0 * log_noise
        density = self._constant - self._power * log_noise - 0.5 * misfit * (-2.0 * log_noise).exp()
        if self._has_square:
            excess = _interpolated(self._excess_squares, self._excess_products, node, share)
            density = density + 0.5 * shrink.square() * excess
        return density - self._spectrum.num_features * log_factor - self._log_prior_constant

    def _log_tangent(self, log_noise: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        log_volume = torch.full_like(log_ratio, -math.inf)  # the integral is infinite up to the largest useful lambda
        beyond = -log_ratio > self._log_largest
        if beyond.any():
            tilt = self._slope * log_ratio[beyond].exp().unsqueeze(-1)
            log_volume[beyond] = torch.log1p(-tilt.square()).sum(-1)
        density = self._constant_of_tangent - self._spectrum.degrees_of_freedom * log_noise
        return density - 0.5 * self._total * (-2.0 * log_noise).exp() - log_volume

    def propose(
        self,
        log_noise: torch.Tensor,
        log_ratio: torch.Tensor,
        normals: torch.Tensor,
        generators: Sequence[torch.Generator],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw z from the envelope given the scales, a draw a column.

        Args:
            log_noise: log s ``(chains, k)``.
            log_ratio: log(f / s^2) ``(chains, k)``.
            normals: Standard normal numbers ``(chains, d, k)``.
            generators: One a chain, for the tangent envelope's own random numbers.

        Returns:
            z ``(chains, d, k)``; the log probability to keep each, and the log density of z in the envelope, both
            ``(chains, k)``.
        """
        standard, log_keep, log_density = self._propose_gaussian(log_noise, log_ratio, normals)
        beyond = -log_ratio > self._log_largest
        if not self._has_square and bool(beyond.any()):
            beyond &= self._log_tangent(log_noise, log_ratio) < self._log_gaussian(log_noise, log_ratio)
            for chain, generator in enumerate(generators):
                columns = beyond[chain].nonzero().squeeze(-1)
                proposed = self._propose_tangent(log_noise[chain, columns], log_ratio[chain, columns], generator)
                standard[chain][:, columns], log_keep[chain][columns], log_density[chain][columns] = proposed
        return standard, log_keep, log_density

    def _propose_gaussian(
        self, log_noise: torch.Tensor, log_ratio: torch.Tensor, normals: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        spectrum = self._spectrum
        node, share, shrink = (values.unsqueeze(-2) for values in self._locate(-log_ratio))
        by_node = self._rotated_columns.expand(len(normals), -1, -1)
        node = node.expand(normals.shape)
        rotated = torch.lerp(by_node.gather(-1, node), by_node.gather(-1, node + 1), share).mul_(shrink)
        # S a of the coordinates a = V'z: the mean c - lambda V't / S, and noise of scale s.
        noise, strength = log_noise.exp().unsqueeze(-2), (-log_ratio).exp().unsqueeze(-2)
        values = spectrum.singular_values.unsqueeze(-1)
        coordinates = torch.addcmul(spectrum.projections.unsqueeze(-1), normals, noise)
        coordinates.addcmul_(rotated / values, strength, value=-1.0).div_(values)
        # A product a chain: its rounding may depend on its shape.
        standard = torch.bmm(spectrum.basis.expand(len(normals), -1, -1), coordinates)
        absolute, per_factor = standard.abs(), (-log_ratio - 2.0 * log_noise).exp()  # 1 / f
        if self._has_square:
            absolute *= self._absolute.unsqueeze(-1)
        log_keep = ((rotated * coordinates).sum(-2) - absolute.sum(-2)) * per_factor
        if self._has_square:
            node, share, shrink = self._locate(-log_ratio)
            excess = shrink.square() * _interpolated(self._excess_squares, self._excess_products, node, share)
            quadratic = (standard.square() * self._square.unsqueeze(-1)).sum(-2) * per_factor.square()
            log_keep -= 0.5 * (quadratic + excess)
        log_density = self._log_volume - spectrum.num_features * log_noise - 0.5 * normals.square().sum(-2)
        return standard, log_keep, log_density

    def _propose_tangent(
        self, log_noise: torch.Tensor, log_ratio: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw u = z / f from exp(r_j u_j - |u_j|), r = h / lambda: positive with probability (1 + r_j) / 2."""
        tilt = (self._slope.unsqueeze(-1) * log_ratio.exp()).clamp(-1.0, 1.0)
        sign = torch.rand(tilt.shape, generator=generator, **self._like) * 2.0 - 1.0 + tilt
        sign = torch.where(sign > 0.0, 1.0, -1.0)
        rate = 1.0 - sign * tilt
        steps = torch.empty_like(tilt).exponential_(generator=generator)  # rate |u|
        log_factor = log_ratio + 2.0 * log_noise
        standard = sign * (steps / rate) * log_factor.exp()
        fitted = (self._basis_columns @ standard) * self._spectrum.singular_values.unsqueeze(-1)
        log_density = torch.log1p(-tilt.square()).sum(0) - steps.sum(0)
        log_density -= self._spectrum.num_features * (log_factor + math.log(2.0))
        return standard, -0.5 * fitted.square().sum(0) * (-2.0 * log_noise).exp(), log_density

    def _locate(self, log_strength: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the node below, the share of the next one, and the factor that t is shrunk by beyond the last."""
        last = self._nodes_at.shape[0] - 1
        position = (log_strength - self._nodes_at[0]) / _STEP
        inside = position.clamp(0.0, last)
        node = inside.to(torch.int64).clamp_max(last - 1)
        # Beyond the last node lambda t stays, as it does for the lasso beyond its largest useful strength.
        return node, inside - node, torch.exp((last - position).clamp_max(0.0) * _STEP)

    def _factors(self, target: Target, nodes: np.ndarray) -> np.ndarray:
        """Return f / s at nodes of log lambda, where no prior scale is learned: 1, or 1 / sqrt(lambda)."""
        return np.exp(-0.5 * nodes) if not target.model.prior.relative_to_noise else np.ones_like(nodes)

    def _nodes(self, target: Target) -> np.ndarray:
        """Return the nodes of log lambda: where the posterior of the scales can be."""
        scales = target.constrain(target.start())
        noise, prior = scales.get("noise_scale", target.known_noise_scale), scales.get("prior_scale")
        centre = (1.0 if target.model.prior.relative_to_noise else 2.0) * math.log(noise)
        centre -= 0.0 if prior is None else math.log(prior)
        # The logarithm of a scale with k degrees of freedom has about the variance 1 / (2 k).
        widths = {"noise_scale": 2.0 / math.sqrt(2.0 * max(self._power, 1)), "prior_scale": 1.0 / math.sqrt(
            self._spectrum.num_features)}  # fmt: skip
        reach = min(_REACH * math.hypot(*(widths[name] for name in target.learned_scales)), _FARTHEST)
        below = max(1, math.ceil(reach / _STEP))
        # Up to the largest useful strength: without the best t there, m grows faster than the evidence falls.
        highest = max(reach, float(self._log_largest) - centre) if target.learned_scales else 0.0
        return centre + _STEP * np.arange(-below, max(1, math.ceil(min(highest, 100.0) / _STEP)) + 1)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, **self._like)


def _dual_of_the_lasso(
    spectrum: EvidenceSpectrum,
    strengths: np.ndarray,
    noise_scale: float,
    sweeps: int,
    shape: PriorShape,
    factors: np.ndarray,
) -> np.ndarray:
    """Return, for each lambda, the g that minimises |alpha / S|^2 / 2 - sum alpha c / (S lambda) + (f/s)^2 |k|^2 / 2.

    Here alpha = V'g, and k is what of g is beyond the kink (`_beyond_kink`); where q = 0 that is nothing.

    Args:
        spectrum: The design.
        strengths: lambda ``(n,)``.
        noise_scale: About s, which says what the function is worth: (lambda / s)^2 of it are nats of log m.
        sweeps: The most that are made.
        shape: The prior's density in units of its scale.
        factors: f / s ``(n,)``.

    Returns:
        Slopes g ``(n, d)``.
    """
    basis = spectrum.basis.cpu().numpy() / spectrum.singular_values.cpu().numpy()
    quadratic, least_squares = basis @ basis.T, basis @ spectrum.projections.cpu().numpy()
    free = least_squares / strengths[:, None]  # where the quadratic's slope vanishes
    diagonal, bounds = quadratic.diagonal(), shape.absolute
    curvature = diagonal * _usable_square(shape)
    subgradients = np.zeros_like(free)
    slopes = free.copy()  # (free - quadratic g)
    gain_of_a_move = 0.5 * (strengths / noise_scale) ** 2
    for _ in range(sweeps):
        gains = np.zeros_like(strengths)
        for j in range(free.shape[1]):
            best = subgradients[:, j] + slopes[:, j] / diagonal[j]
            new = np.minimum(np.maximum(best, -bounds[j]), bounds[j])
            if curvature[j]:
                new += (best - new) * curvature[j] / (curvature[j] + factors**2)
            move = new - subgradients[:, j]
            slopes -= move[:, None] * quadratic[j]
            subgradients[:, j] = new
            gains += diagonal[j] * move * move
        if float((gain_of_a_move * gains).max()) < _SMALLEST_GAIN:
            break
    return subgradients


def _usable_square(shape: PriorShape) -> np.ndarray:
    """Return q, or 0 where it is too small for k to be told from the rounding of g: then k = 0 does."""
    return np.where(shape.square > _SMALLEST_SQUARE, shape.square, 0.0)


def _beyond_kink(subgradients: np.ndarray, shape: PriorShape) -> np.ndarray:
    """Return k = (g - the nearest slope within +-p) / sqrt(q), of the shape of g."""
    beyond = subgradients - np.clip(subgradients, -shape.absolute, shape.absolute)
    root = np.sqrt(_usable_square(shape))
    return np.divide(beyond, root, out=np.zeros_like(beyond), where=root > 0.0)


def _interpolated(
    squares: torch.Tensor, products: torch.Tensor, node: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Return the squared length of a vector between two nodes, from those at the nodes and their products."""
    rest = 1.0 - share
    ends = rest * rest * squares[node] + share * share * squares[node + 1]
    return ends + 2.0 * rest * share * products[node]
