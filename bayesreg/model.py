"""Bayesian linear regression as a Pyro program: the definition that everything faster is held to.

w_j ~ prior,   b ~ 1 (flat),   s known or ~ its distribution,   y_i ~ Normal(b + x_i'w, s),   i = 1..n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.isolation import isolated
from bayesreg.data import RegressionData, require_rows
from bayesreg.moments import Moments, as_moments
from bayesreg.priors import FlatPrior, Prior, prior_from_dict
from bayesreg.scales import (
    LearnedScale,
    Scale,
    check_scale,
    describe_scale,
    is_learned,
    scale_from_dict,
    scale_to_dict,
)
from bayesreg.target import Target


@dataclass(frozen=True, eq=False)
class LinearRegression:
    """Linear regression with Gaussian noise, a prior on its weights and an unpenalised intercept.

    The log density of (w, b, s, t) given the data is, less the log evidence,

        -n log(2 pi)/2 - n log s - |y - Xw - b|^2 / (2 s^2) + log prior(w) + log p(s) + log p(t),

    the last two terms only where the noise scale s, or the prior's scale t, is learned. Everything is in the units of
    the data that the model meets, and in float64. Source: Bishop, Pattern Recognition and Machine Learning (2006),
    section 3.3.

    Args:
        prior: `GaussianPrior`, `LaplacePrior`, `ElasticNetPrior` or `FlatPrior` of the weights.
        noise_scale: The noise's standard deviation s, in the units of the target: a number (known) or a Pyro
            distribution on the positive reals (learned), such as ``dist.HalfNormal(1.0)``; a flat one is
            ``dist.HalfNormal(1.0).mask(False)``.
        intercept: Whether there is an intercept b, with the flat prior p(b) = 1.

    Raises:
        TypeError: ``prior`` is not a prior, ``intercept`` not a bool, or the noise scale not made of numbers.
        ValueError: A noise scale that is not positive and finite, nor a distribution on the positive reals.

    Example:
        >>> import bayesreg as br
        >>> model = br.LinearRegression(br.LaplacePrior(scale=0.25), noise_scale=0.7)
        >>> model
        LinearRegression(LaplacePrior(scale=0.25), noise_scale=0.7)
    """

    prior: Prior
    noise_scale: Scale = 1.0
    intercept: bool = True

    def __post_init__(self):
        if not isinstance(self.prior, Prior):
            raise TypeError(
                "LinearRegression(prior=...) must be a GaussianPrior, a LaplacePrior, an ElasticNetPrior or a "
                f"FlatPrior, got {self.prior!r}"
            )
        if not isinstance(self.intercept, bool | np.bool_):
            raise TypeError(f"LinearRegression(intercept=...) must be True or False, got {self.intercept!r}")
        working = check_scale(self.noise_scale, "LinearRegression(noise_scale=...)", vector=False)
        object.__setattr__(self, "_working_noise_scale", working)
        # What is read back is not the caller's array, which can change later.
        object.__setattr__(self, "noise_scale", self.noise_scale if is_learned(working) else working)

    def __repr__(self) -> str:
        intercept = "" if self.intercept else ", intercept=False"
        return f"LinearRegression({self.prior!r}, noise_scale={describe_scale(self._working_noise_scale)}{intercept})"

    @property
    def noise_is_learned(self) -> bool:
        """Whether the noise scale is a distribution."""
        return is_learned(self._working_noise_scale)

    @property
    def learned_scales(self) -> dict[str, LearnedScale]:
        """The learned scales by site name, in the order of the unconstrained coordinates, on the CPU."""
        scales = {}
        if self.noise_is_learned:
            scales["noise_scale"] = LearnedScale(self._working_noise_scale)
        if self.prior.scale_is_learned:
            scales["prior_scale"] = LearnedScale(self.prior.scale_distribution)
        return scales

    def conditioned(self, noise_scale: float | None = None, prior_scale: float | None = None) -> LinearRegression:
        """Return the model with learned scales held at given values.

        Args:
            noise_scale: The value for a learned noise scale; None leaves it as it is.
            prior_scale: The value for a learned prior scale; None leaves it as it is.

        Returns:
            A model with fewer learned scales.

        Raises:
            TypeError: A value that is no number.
            ValueError: A value is given for a scale that is known already, or is not positive and finite.

        Example:
            >>> import bayesreg as br
            >>> import pyro.distributions as dist
            >>> br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0)).conditioned(noise_scale=0.7)
            LinearRegression(GaussianPrior(scale=0.5), noise_scale=0.7)
        """
        prior, noise = self.prior, self.noise_scale
        for name, value in (("noise_scale", noise_scale), ("prior_scale", prior_scale)):
            if is_learned(value):
                raise TypeError(f"{name} must be a positive finite number to hold, got {describe_scale(value)}")
        if noise_scale is not None:
            if not self.noise_is_learned:
                raise ValueError(
                    f"noise_scale={noise_scale!r} was given, but the model's noise scale is known: {noise}"
                )
            noise = check_scale(noise_scale, "noise_scale", vector=False)
        if prior_scale is not None:
            if not prior.scale_is_learned:
                raise ValueError(f"prior_scale={prior_scale!r} was given, but the prior's scale is known: {prior!r}")
            value = check_scale(prior_scale, "prior_scale", vector=False)
            prior = type(prior)(value, prior.loc, prior.relative_to_noise)
        return LinearRegression(prior, noise, self.intercept)

    def pyro_model(self, data: RegressionData | tuple[torch.Tensor, torch.Tensor]) -> None:
        """Run the Pyro program.

        Sites ``weights``, ``intercept``, ``noise_scale``, ``target``, and ``prior_scale`` when learned; plates
        ``feature`` and ``row``. A known noise scale is a deterministic site. Batches of values to the left (of shape
        ``(..., 1)`` for scalars and ``(..., d)`` for weights) broadcast, so that ``Predictive(parallel=True)`` and
        vectorised particles work.

        Args:
            data: Rows, or the pair ``(features (n, d), target (n,))`` of float64 tensors on the device to use.

        Raises:
            TypeError: The data are neither, such as `Moments`.

        Example:
            >>> import bayesreg as br
            >>> from pyro import poutine
            >>> data = br.RegressionData([[0.0], [1.0], [2.0]], [0.1, 0.9, 2.1])
            >>> model = br.LinearRegression(br.GaussianPrior(1.0), noise_scale=0.1)
            >>> trace = poutine.trace(model.pyro_model).get_trace(data)
            >>> [name for name in ("weights", "intercept", "noise_scale", "target") if name in trace]
            ['weights', 'intercept', 'noise_scale', 'target']
        """
        if isinstance(data, tuple):
            features, target = data
        else:
            rows = require_rows(data, "the Pyro program")
            features = torch.tensor(rows.features, dtype=torch.float64, device="cpu")
            target = torch.tensor(rows.target, dtype=torch.float64, device="cpu")
        on_device = {"dtype": torch.float64, "device": features.device}
        num_rows, num_features = features.shape

        if self.noise_is_learned:
            learned = LearnedScale(self._working_noise_scale, features.device)
            noise_scale = pyro.sample("noise_scale", learned.distribution)
        else:
            noise_scale = pyro.deterministic("noise_scale", torch.tensor(self._working_noise_scale, **on_device))
        scale = torch.tensor(self.prior.scales(num_features), **on_device)
        if self.prior.scale_is_learned:
            scale = scale * pyro.sample(
                "prior_scale", LearnedScale(self.prior.scale_distribution, features.device).distribution
            )
        if self.prior.relative_to_noise:
            scale = scale * noise_scale
        loc = torch.tensor(self.prior.locations(num_features), **on_device)
        with pyro.plate("feature", num_features, device=features.device):
            weights = pyro.sample("weights", self.prior.distribution(scale, loc))
        mean = weights @ features.T
        if self.intercept:
            # Flat, yet it can be drawn from, which ImproperUniform cannot: the mask leaves 0 in the log density.
            flat = dist.Normal(torch.zeros((), **on_device), torch.ones((), **on_device)).mask(False)
            mean = mean + pyro.sample("intercept", flat)
        with pyro.plate("row", num_rows, device=features.device):
            pyro.sample("target", dist.Normal(mean, noise_scale), obs=target)

    def target(self, data: RegressionData | Moments, device: torch.device | str = "cpu") -> Target:
        """Return the same log density fused on the data's moments, batched, with gradient and curvature.

        Args:
            data: Rows or their `Moments`.
            device: Where the density is evaluated.

        Returns:
            The `Target` that the engines see.
        """
        return Target(self, as_moments(data), device)

    def log_prior(self, draws: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the log prior density of draws: weights and learned scales, the flat intercept adding nothing.

        Args:
            draws: ``weights (..., d)``, and ``noise_scale``, ``prior_scale`` ``(...)`` where learned.

        Returns:
            A tensor ``(...)``.
        """
        weights = draws["weights"]
        loc = torch.as_tensor(self.prior.locations(weights.shape[-1]), dtype=weights.dtype, device=weights.device)
        total = self.prior.log_density(weights - loc, self._effective_scale(draws, weights))
        for name, learned in self.learned_scales.items():
            total = total + learned.log_prior(draws[name])
        return total

    def prior_draws(self, num_draws: int, num_features: int, seed: int = 0) -> dict[str, torch.Tensor]:
        """Draw weights and learned scales from their priors; what is flat has no draws and is left out.

        Args:
            num_draws: How many.
            num_features: The number d of weights.
            seed: Seeds these draws; the global random state is not touched.

        Returns:
            ``weights (num_draws, d)`` and ``noise_scale``, ``prior_scale`` ``(num_draws,)`` where learned, those of
            them that are proper: float64 tensors on the CPU, in the units of the data that the model is for.

        Raises:
            TypeError: A number is not whole.
            ValueError: A number is below 1.

        Example:
            >>> import bayesreg as br
            >>> draws = br.LinearRegression(br.LaplacePrior(0.25)).prior_draws(1000, num_features=3)
            >>> draws["weights"].shape, round(float(draws["weights"].abs().mean()), 2)
            (torch.Size([1000, 3]), 0.25)
        """
        num_draws = check_whole_number(num_draws, "num_draws", 1)
        num_features = check_whole_number(num_features, "num_features", 1)
        draws: dict[str, torch.Tensor] = {}
        proper = not isinstance(self.prior, FlatPrior)
        with isolated(seed):
            for name, learned in self.learned_scales.items():
                if learned.is_flat:
                    proper = proper and name != "prior_scale" and not self.prior.relative_to_noise
                else:
                    draws[name] = learned.distribution.sample((num_draws,))
            if proper:
                like = torch.zeros((num_draws, num_features), dtype=torch.float64, device="cpu")
                loc = torch.as_tensor(self.prior.locations(num_features), dtype=torch.float64, device="cpu")
                scale = self._effective_scale(draws, like).expand(like.shape)
                draws["weights"] = self.prior.distribution(scale, loc).sample()
        return draws

    def _effective_scale(self, draws: dict[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Return the effective prior scale at draws, broadcasting to the weights ``(..., d)``."""
        scale = torch.as_tensor(self.prior.scales(weights.shape[-1]), dtype=weights.dtype, device=weights.device)
        if self.prior.scale_is_learned:
            scale = scale * draws["prior_scale"].unsqueeze(-1)
        if self.prior.relative_to_noise:
            noise = draws["noise_scale"].unsqueeze(-1) if self.noise_is_learned else self._working_noise_scale
            scale = scale * noise
        return scale

    def to_dict(self) -> dict[str, Any]:
        """Return the model in the words of JSON and TOML.

        Returns:
            ``{"prior": ..., "noise_scale": ..., "intercept": ...}``, read back by `from_dict`.

        Raises:
            ValueError: A learned scale's distribution has no name in a file.

        Example:
            >>> import bayesreg as br
            >>> table = br.LinearRegression(br.LaplacePrior(0.25), noise_scale=0.7).to_dict()
            >>> table["prior"]["kind"], table["prior"]["scale"], table["noise_scale"], table["intercept"]
            ('laplace', 0.25, 0.7, True)
        """
        noise_scale = scale_to_dict(self._working_noise_scale)
        return {"prior": self.prior.to_dict(), "noise_scale": noise_scale, "intercept": bool(self.intercept)}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> LinearRegression:
        """Read a model written by `to_dict`.

        Args:
            table: Its words.

        Returns:
            The model.

        Raises:
            KeyError: ``"prior"``, ``"noise_scale"`` or ``"intercept"`` is missing.
            ValueError: An unknown prior, distribution or parameter, or a number out of range.

        Example:
            >>> import bayesreg as br
            >>> model = br.LinearRegression(br.LaplacePrior(0.25), noise_scale=0.7)
            >>> br.LinearRegression.from_dict(model.to_dict())
            LinearRegression(LaplacePrior(scale=0.25), noise_scale=0.7)
        """
        noise_scale = scale_from_dict(table["noise_scale"], "noise_scale")
        return cls(prior_from_dict(table["prior"]), noise_scale, table["intercept"])


def require_model(model: Any) -> LinearRegression:
    """Return a model as it is.

    Args:
        model: What a caller gave.

    Returns:
        The model.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(model, LinearRegression):
        raise TypeError(f"model must be a LinearRegression, as LinearRegression(GaussianPrior(1.0)), got {model!r}")
    return model
