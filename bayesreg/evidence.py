"""The marginal likelihood of the Gaussian and the flat prior as a function of the two scales, in the eigenbasis.

With the intercept integrated out, z = (w - m) / D ~ Normal(0, t^2 I) and the singular value decomposition Xc D = U S
V', the data enter through r = rank(Xc) pairs (S_i, c_i), c = U'(yc - Xc m), and the residual sum of squares e outside
the columns' span. With nu = n - 1 (n without an intercept):

    log p(y | s, t) = -nu/2 log(2 pi) - log(n)/2 - (nu - r) log s - e / (2 s^2)
                      - sum_i [ log(s^2 + t^2 S_i^2) + c_i^2 / (s^2 + t^2 S_i^2) ] / 2        (log(n)/2 only with an
                      intercept)

and, given both scales, the coordinates of z in V are independent. One decomposition serves every pair of scales.
Under a flat prior, with full rank: log p(y | s) = -(nu - d)/2 log(2 pi) - log(n)/2 - (nu - d) log s - e/(2 s^2) -
log|S|. The intercept is integrated against p(b) = 1. Source: Bishop, Pattern Recognition and Machine Learning (2006),
section 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
import torch

from bayesreg.design_spectrum import DesignSpectrum, Numbers, Spectrum
from bayesreg.moments import Moments
from bayesreg.redundant_columns import columns_at_fault

# How far beyond the singular values' range the log of a ratio of scales is looked for.
_RATIO_REACH = 12.0
_NUMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class EvidenceSpectrum(Spectrum[torch.Tensor]):
    """The decomposition of a design, as tensors on one device, and the evidence as a function of the scales.

    Attributes:
        basis: V ``(d, r)``.
        prior_loc: m ``(d,)``.
        relative_scales: D ``(d,)``.
    """

    basis: torch.Tensor
    prior_loc: torch.Tensor
    relative_scales: torch.Tensor

    @classmethod
    def of(
        cls, moments: Moments, relative_scales: np.ndarray, prior_loc: np.ndarray, device: torch.device | str = "cpu"
    ) -> EvidenceSpectrum:
        """Decompose the design, on the CPU, where a single d x d decomposition belongs.

        Args:
            moments: The data; centred for a model with an intercept, about the origin without.
            relative_scales: D ``(d,)``, positive.
            prior_loc: m ``(d,)``.
            device: Where the result shall be.

        Returns:
            The spectrum.
        """
        design = DesignSpectrum.of(moments, relative_scales, prior_loc)
        return cls.of_design(design, relative_scales, prior_loc, device)

    @classmethod
    def of_design(
        cls,
        design: DesignSpectrum,
        relative_scales: np.ndarray,
        prior_loc: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> EvidenceSpectrum:
        """Return the spectrum of a design that is decomposed already, with the scales and the loc that it was for."""
        values, basis, projections, relative_scales, prior_loc = (
            torch.from_numpy(own).to(device)
            for own in (
                design.singular_values, design.basis, design.projections, np.array(relative_scales), np.array(prior_loc)
            )
        )  # fmt: skip
        return cls(
            values, projections, design.residual, design.rounding, design.lost_residual,
            design.num_rows, design.num_features, design.has_intercept, basis, prior_loc, relative_scales,
        )  # fmt: skip

    def at_scale(self, factor: float) -> EvidenceSpectrum:
        """Return the spectrum of the same data under a prior whose scales are all longer by a factor.

        Args:
            factor: Positive.

        Returns:
            The spectrum, without another decomposition.
        """
        return replace(
            self, singular_values=self.singular_values * factor, relative_scales=self.relative_scales * factor
        )

    def require_residual(self) -> None:
        """Refuse to learn the noise from second moments that do not tell the residual from rounding.

        Raises:
            ValueError: They do not; rows would.
        """
        if self.lost_residual > 0.0:
            raise ValueError(
                "data must be rows (a RegressionData) to learn the noise scale here: the features fit the target to "
                f"within {math.sqrt(self.lost_residual):.1g} (root of the residual sum of squares), and the second "
                "moments of Moments hold no smaller residual; or give noise_scale= a number"
            )

    def require_full_rank(self, moments: Moments) -> None:
        """Refuse a flat prior on a design whose rank is short.

        Args:
            moments: The data that this is of, as the model sees them; the columns at fault are looked for in them.

        Raises:
            ValueError: rank(Xc) < d, so that the posterior of the weights is improper.
        """
        if self.rank < self.num_features:
            found = columns_at_fault(moments, self.rank)
            raise ValueError(
                f"FlatPrior() with a design of rank {self.rank} and {self.num_features} features has no "
                "proper posterior and no unique mode: give the weights a GaussianPrior or a LaplacePrior, or leave out "
                f"the redundant columns{found and ': ' + found}"
            )

    def log_evidence(self, noise_scale: torch.Tensor, prior_scale: torch.Tensor | None) -> torch.Tensor:
        """Return log p(y | s, t) elementwise.

        Args:
            noise_scale: s, any shape.
            prior_scale: t of the same shape (broadcast); None for a flat prior, which needs rank d.

        Returns:
            The log evidence, of the broadcast shape.
        """
        log_noise = noise_scale.log()
        return self.log_evidence_at_ratio(log_noise, None if prior_scale is None else prior_scale.log() - log_noise)

    def log_evidence_at_ratio(self, log_noise: torch.Tensor, log_ratio: torch.Tensor | None) -> torch.Tensor:
        """Return log p(y | s, t) elementwise, as a function of s and of the ratio tau = t / s.

        With q_i = 1 / (1 + tau^2 S_i^2) the sums over the singular values depend on tau only,

            log p(y | s, t) = -nu/2 log(2 pi) - log(n)/2 - nu log s + sum_i log(q_i) / 2 - b(tau) / (2 s^2),
            b(tau) = e + sum_i c_i^2 q_i,

        and are done once for each ratio given, so a table of m ratios against k noise scales costs m r + m k.

        Args:
            log_noise: log s, any shape.
            log_ratio: log(t / s), of a shape that broadcasts against it; None for a flat prior, which needs rank d.

        Returns:
            The log evidence, of the broadcast shape.
        """
        if log_ratio is not None:
            volume, misfit, degrees = *self._sums_at_ratio(log_ratio), self.degrees_of_freedom
        else:
            volume = 2.0 * (self.singular_values / self.relative_scales).log().sum()
            misfit, degrees = log_noise.new_tensor(self.residual), self.degrees_of_freedom - self.num_features
        squared_error = (misfit.log() - 2.0 * log_noise).exp()  # 0 where the misfit is, however small s is
        return log_evidence_of_sums(self, volume, squared_error, log_noise, degrees)

    def _sums_at_ratio(self, log_ratio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return -sum_i log(q_i) and b(tau)."""
        log_values, squares = self.singular_values.log().unsqueeze(-1), self.projections.square().unsqueeze(-1)
        volumes, misfits = [], []
        for ratios in log_ratio.flatten().split(max(1, _NUMBERS_AT_ONCE // max(self.rank, 1))):
            # A ratio a column: long loops over the last axis, and sums that do not depend on how many there are.
            shares = torch.sigmoid(-2.0 * (log_values + ratios))
            volumes.append(shares.log().sum(0).neg())
            misfits.append(self.residual + (squares * shares).sum(0))
        return torch.cat(volumes).reshape(log_ratio.shape), torch.cat(misfits).reshape(log_ratio.shape)

    def likeliest_noise(self, log_ratio: torch.Tensor) -> torch.Tensor:
        """Return the log of the noise scale s that p(y | s, t) is highest at: s^2 = b(tau) / nu.

        Args:
            log_ratio: log(t / s), any shape.

        Returns:
            log s, of that shape.
        """
        misfit = self._sums_at_ratio(log_ratio)[1]
        return 0.5 * (misfit / self.degrees_of_freedom).clamp_min(torch.finfo(misfit.dtype).tiny).log()

    def likeliest_scales(self) -> tuple[float, float]:
        """Return the noise scale s and the prior scale t that p(y | s, t) is highest at (type-II maximum likelihood).

        The highest of a grid over the ratio t / s, the noise at its best at each, refined by Brent's method.

        Returns:
            s and t; t may be 0, where the target is best explained without the columns.

        Raises:
            ValueError: The evidence has no maximum, but grows, or stays as high, as the noise goes to 0; or second
                moments do not tell the residual from rounding.
        """
        self.require_residual()
        logs = self.singular_values.log()
        squares = float(self.projections.square().sum())
        if not self.residual and not squares > self.rounding:
            raise ValueError("noise_scale must be given: the target is constant, and says nothing of it")
        if not self.rank or not squares:
            return math.sqrt(max(self.residual, 0.0) / max(self.degrees_of_freedom, 1)), 0.0
        # Where there is a residual, a weight can be as many times the noise's part of it as the target is.
        clear = math.log(max(squares / self.residual * self.degrees_of_freedom, 1.0)) / 2.0 if self.residual else 0.0
        lower, upper = float(-logs.max()) - _RATIO_REACH, float(-logs.min()) + clear + _RATIO_REACH
        grid = torch.linspace(lower, upper, 20 + round(8 * (upper - lower)), dtype=torch.float64, device=logs.device)

        def height(log_ratio: torch.Tensor) -> torch.Tensor:
            return self.log_evidence_at_ratio(self.likeliest_noise(log_ratio), log_ratio)

        heights = height(grid)
        best = int(heights.argmax())
        if best == len(grid) - 1 or heights[-1] > heights[best] - 1e-6:
            raise ValueError(
                "noise_scale must be given: by these data the noise may be as small as one likes (the columns fit the "
                "target without any)"
            )
        if best == 0:
            return math.exp(float(self.likeliest_noise(grid[:1])[0])), 0.0
        found = scipy.optimize.minimize_scalar(
            lambda log_ratio: -float(height(grid.new_tensor([log_ratio]))[0]),
            bounds=(float(grid[best - 1]), float(grid[best + 1])),
            method="bounded",
            options={"xatol": 1e-9},
        )
        noise = math.exp(float(self.likeliest_noise(grid.new_tensor([found.x]))[0]))
        return noise, noise * math.exp(found.x)

    def weight_draws(
        self, normals: torch.Tensor, noise_scale: torch.Tensor, prior_scale: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return independent draws of the weights given the scales.

        In the coordinates of V, with h_i = sqrt(S_i^2 + s^2 / t^2) and g ~ Normal(0, I),

            a_i = (S_i c_i / h_i + s g_i) / h_i,        log p(a) = sum_i (log(h_i / s) - log(2 pi) / 2 - g_i^2 / 2),

        and outside them, the prior. Under a flat prior h_i = S_i.

        Args:
            normals: Standard normal numbers ``(chains, d, k)``; a chain's draws do not depend on the others.
            noise_scale: s, one or ``(chains, k)``.
            prior_scale: t, likewise; None for a flat prior.

        Returns:
            Weights ``(chains, k, d)``, and log p(w | y, s, t) there, ``(chains, k)``.
        """
        # A draw a column: each operation is a few long loops. A product a chain: its rounding may depend on its shape.
        chains = normals.shape[0]
        seen_by = self.basis.expand(chains, -1, -1)
        inside = normals if self.rank == self.num_features else torch.bmm(seen_by.mT, normals)
        values, projections = self.singular_values.unsqueeze(-1), self.projections.unsqueeze(-1)
        noise = noise_scale.unsqueeze(-2) if noise_scale.ndim else noise_scale
        prior = prior_scale.unsqueeze(-2) if prior_scale is not None and prior_scale.ndim else prior_scale
        if prior is None:
            root = values
            coordinates = (noise * inside).add_(projections).div_(values)
        else:  # in the square root of the precision, so that no difference of squares appears
            root = torch.hypot(values, noise / prior)
            coordinates = (noise * inside).add_(values * projections / root).div_(root)
        log_density = root.log().sum(-2) - 0.5 * normals.square().sum(-2) - self.rank * noise_scale.log()
        log_density -= 0.5 * self.num_features * math.log(2 * math.pi) + self.relative_scales.log().sum()
        if self.rank < self.num_features:
            log_density -= (self.num_features - self.rank) * prior_scale.log()
            coordinates -= prior * inside
        weights = torch.bmm(coordinates.mT, seen_by.mT)
        if self.rank < self.num_features:
            weights += (prior * normals).mT
        return weights.mul_(self.relative_scales).add_(self.prior_loc), log_density

    def weight_mean(self, noise_scale: float, prior_scale: float | None) -> torch.Tensor:
        """Return the posterior mean of the weights given both scales, ``(d,)``."""
        if prior_scale is None:
            coordinates = self.projections / self.singular_values
        else:
            ratio = noise_scale / prior_scale
            coordinates = self.singular_values * self.projections / (self.singular_values.square() + ratio * ratio)
        return self.prior_loc + self.relative_scales * (self.basis @ coordinates)


def log_evidence_of_sums(
    spectrum: Spectrum[Numbers],
    volume: Numbers,
    squared_error: Numbers,
    log_noise: Numbers | float,
    degrees_of_freedom: int,
) -> Numbers:
    """Return log p(y | s, t) of the sums over the singular values, elementwise, tensors or arrays.

    Args:
        spectrum: The data.
        volume: -sum_i log(q_i).
        squared_error: b(tau) / s^2, at least 0.
        log_noise: log s.
        degrees_of_freedom: What s is the divisor of so many times, nu but under a flat prior.

    Returns:
        The log evidence, of the broadcast shape.
    """
    constant = -0.5 * degrees_of_freedom * math.log(2 * math.pi)
    constant -= 0.5 * math.log(spectrum.num_rows) if spectrum.has_intercept else 0.0
    return constant - degrees_of_freedom * log_noise - 0.5 * (volume + squared_error)
