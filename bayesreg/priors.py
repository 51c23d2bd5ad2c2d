"""Priors of the weights: Gaussian, Laplace and flat; their product, the elastic net, is `bayesreg.elastic_net_prior`.

Each knows its Pyro site, its log density with gradient, its curvature, and nothing of data or of penalties. A prior's
*effective* scale is the scale given, times the noise scale where ``relative_to_noise`` (Park & Casella, The Bayesian
Lasso, JASA 2008).
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch

from bayesreg.elastic_net_prior import ElasticNetPrior
from bayesreg.prior_shapes import PriorShape
from bayesreg.scales import (
    Scale,
    check_location,
    check_relative_to_noise,
    check_scale,
    describe_scale,
    is_learned,
    one_a_feature,
    scale_from_dict,
    scale_to_dict,
)


@dataclass(frozen=True, eq=False, repr=False)
class _ScaledPrior:
    """What the Gaussian and the Laplace prior share: a scale, a location, and how both meet a design of d columns."""

    scale: Scale
    loc: float | np.ndarray = 0.0
    relative_to_noise: bool = False

    kind: ClassVar[str]
    words: ClassVar[str]
    has_kink: ClassVar[bool]

    def __post_init__(self):
        name = type(self).__name__
        scale = check_scale(self.scale, f"{name}(scale=...)")
        object.__setattr__(self, "_working_scale", scale)
        loc = check_location(self.loc, f"{name}(loc=...)")
        object.__setattr__(self, "_working_loc", np.asarray(loc))
        # What is read back is not the caller's array, which can change later.
        object.__setattr__(self, "scale", self.scale if is_learned(scale) else scale)
        object.__setattr__(self, "loc", loc)
        check_relative_to_noise(self.relative_to_noise, f"{name}(relative_to_noise=...)")

    def __reduce__(self):
        # Through the constructor: an array unpickled or copied by itself can be written to.
        return type(self), (self.scale, self.loc, self.relative_to_noise)

    def __repr__(self) -> str:
        given = [f"scale={describe_scale(self._working_scale)}"]
        given += [f"loc={self.loc}"] if np.any(self._working_loc != 0.0) else []
        given += ["relative_to_noise=True"] if self.relative_to_noise else []
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def scale_is_learned(self) -> bool:
        """Whether the scale is a distribution."""
        return is_learned(self._working_scale)

    @property
    def scale_distribution(self) -> dist.Distribution:
        """The distribution of a learned scale, with float64 parameters.

        Raises:
            ValueError: The scale is known.
        """
        if not self.scale_is_learned:
            raise ValueError(f"the prior scale is known: {self.scale}")
        return self._working_scale

    def scales(self, num_features: int) -> np.ndarray:
        """Return the known scale of each feature, ``(d,)``; ones where the scale is learned.

        Args:
            num_features: The number d of columns that the prior meets.

        Returns:
            A float64 array ``(d,)``.

        Raises:
            ValueError: A scale vector of another length.
        """
        if self.scale_is_learned:
            return np.ones(num_features)
        return one_a_feature(self._working_scale, num_features, f"{type(self).__name__}(scale=...)")

    def locations(self, num_features: int) -> np.ndarray:
        """Return the location of each feature, ``(d,)``.

        Args:
            num_features: The number d of columns that the prior meets.

        Returns:
            A float64 array ``(d,)``.

        Raises:
            ValueError: A vector ``loc`` of another length.
        """
        return one_a_feature(self._working_loc, num_features, f"{type(self).__name__}(loc=...)")

    def rescaled(self, scales: np.ndarray, loc: np.ndarray) -> _ScaledPrior:
        """Return the prior of other known scales and locations ``(d,)``."""
        return type(self)(scales, loc, self.relative_to_noise)

    def to_dict(self) -> dict[str, Any]:
        """Return the prior in the words of JSON and TOML."""
        loc = self._working_loc
        return {
            "kind": self.kind,
            "scale": scale_to_dict(self._working_scale),
            "loc": float(loc) if loc.ndim == 0 else loc.tolist(),
            "relative_to_noise": bool(self.relative_to_noise),
        }


class GaussianPrior(_ScaledPrior):
    r"""Independent Gaussian weights: log p(w) = sum_j [ -(w_j - m_j)^2 / (2 t_j^2) - log(t_j) - log(2 pi) / 2 ].

    Its MAP is the L2-penalised fit (ridge, weight decay) at lambda = s^2 / (n t^2), n rows with noise of scale s:
    `penalty_for` has it in every convention. Scales and locations are in the units of the weights: of the target per
    unit of the feature, as the data have them, or standard deviations of both in standardized data. Source: Hoerl and
    Kennard, Ridge regression, Technometrics 12 (1970).

    Args:
        scale: The standard deviation t: a number, a vector (one a feature), or a Pyro distribution to learn one t for
            all features.
        loc: The mean m: a number or a vector.
        relative_to_noise: Whether the standard deviation is t times the noise scale; t then has no unit of the target.

    Raises:
        TypeError: A scale or a location that is not made of numbers, nor (the scale) a distribution; a
            ``relative_to_noise`` that is not a bool.
        ValueError: A scale that is not positive and finite, nor a distribution on the positive reals; a location that
            is not finite.

    Example:
        >>> GaussianPrior(scale=0.5)
        GaussianPrior(scale=0.5)
    """

    kind: ClassVar[str] = "gaussian"
    words: ClassVar[str] = "a Gaussian prior"
    has_kink: ClassVar[bool] = False

    def shape(self, num_features: int) -> PriorShape:
        """Return the density in units of the scale, ``(d,)`` each."""
        ones = np.ones(num_features)
        return PriorShape(0.0 * ones, ones, 0.5 * math.log(2 * math.pi) * ones)

    def distribution(self, scale: torch.Tensor, loc: torch.Tensor) -> dist.Distribution:
        """Return the Pyro distribution of each weight, at effective scales and locations ``(..., d)``."""
        return dist.Normal(loc, scale)

    def log_density(self, deviation: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return sum_j log p(w_j), ``(...)``.

        Args:
            deviation: w - m, ``(..., d)``.
            scale: The effective scale, ``(..., d)`` or broadcast to it.

        Returns:
            The log density, its constants included.
        """
        standard = deviation / scale
        return (-0.5 * standard.square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def derivatives(
        self, deviation: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return `log_density`, d log p / dw ``(..., d)`` and d log p / d log(common scale factor) ``(...)``."""
        slope = deviation * -scale.square().reciprocal()
        along, constant = (deviation * slope).sum(-1), -scale.log() - 0.5 * math.log(2 * math.pi)
        return 0.5 * along + constant.expand(deviation.shape).sum(-1), slope, -along - deviation.shape[-1]

    def expected_curvature(self, scale: torch.Tensor) -> torch.Tensor:
        """Return -d^2 log p / dw_j^2 = 1 / t_j^2, the shape of ``scale``."""
        return scale.square().reciprocal()

    def variance(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the prior variance t^2 of a weight."""
        return scale.square()


class LaplacePrior(_ScaledPrior):
    r"""Independent Laplace weights: log p(w) = sum_j [ -|w_j - m_j| / b_j - log(2 b_j) ].

    Its MAP is the L1-penalised fit (lasso) at lambda = s^2 / (n b), n rows with noise of scale s, with exact zeros; the
    rest of its posterior is not sparse. It is here for that link, not as the best prior for selecting features. Units
    are as for `GaussianPrior`. Sources: Tibshirani, Regression shrinkage and selection via the lasso, JRSS B 58 (1996);
    Park and Casella, The Bayesian lasso, JASA 103 (2008).

    Args:
        scale: The mean absolute value b of w - m: a number, a vector (one a feature), or a Pyro distribution to learn
            one b for all features. The standard deviation is b sqrt(2).
        loc: The median m: a number or a vector.
        relative_to_noise: Whether b multiplies the noise scale, as in Park & Casella (2008), whose lambda is then 1/b.

    Raises:
        TypeError: A scale or a location that is not made of numbers, nor (the scale) a distribution; a
            ``relative_to_noise`` that is not a bool.
        ValueError: A scale that is not positive and finite, nor a distribution on the positive reals; a location that
            is not finite.

    Example:
        >>> LaplacePrior(scale=0.25, relative_to_noise=True)
        LaplacePrior(scale=0.25, relative_to_noise=True)
    """

    kind: ClassVar[str] = "laplace"
    words: ClassVar[str] = "a Laplace prior"
    has_kink: ClassVar[bool] = True

    def shape(self, num_features: int) -> PriorShape:
        """Return the density in units of the scale, ``(d,)`` each."""
        ones = np.ones(num_features)
        return PriorShape(ones, 0.0 * ones, math.log(2.0) * ones)

    def distribution(self, scale: torch.Tensor, loc: torch.Tensor) -> dist.Distribution:
        """Return the Pyro distribution of each weight, at effective scales and locations ``(..., d)``."""
        return dist.Laplace(loc, scale)

    def log_density(self, deviation: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return sum_j log p(w_j), ``(...)``.

        Args:
            deviation: w - m, ``(..., d)``.
            scale: The effective scale, ``(..., d)`` or broadcast to it.

        Returns:
            The log density, its constants included.
        """
        # |w| by its sign: the second derivative of torch's abs() loads its compiler.
        absolute = deviation * deviation.detach().sign()
        return (-absolute / scale - scale.log() - math.log(2.0)).expand(deviation.shape).sum(-1)

    def derivatives(
        self, deviation: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return `log_density`, d log p / dw ``(..., d)``, 0 at the kink, and d log p / d log(common scale factor)."""
        slope = deviation.sign() * -scale.reciprocal()
        along, constant = (deviation * slope).sum(-1), -scale.log() - math.log(2.0)
        return along + constant.expand(deviation.shape).sum(-1), slope, -along - deviation.shape[-1]

    def expected_curvature(self, scale: torch.Tensor) -> torch.Tensor:
        """Return E[-d^2 log p / dw_j^2] = 1 / b_j^2 under the prior: the kink's 2 delta(w)/b at density 1/(2b)."""
        return scale.square().reciprocal()

    def variance(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the prior variance 2 b^2 of a weight."""
        return 2.0 * scale.square()


class FlatPrior:
    """The improper prior p(w) = 1: its MAP is least squares.

    `sample` and `map_estimate` refuse it with a ValueError where the design's rank is short.

    Example:
        >>> FlatPrior()
        FlatPrior()
    """

    kind: ClassVar[str] = "flat"
    words: ClassVar[str] = "a flat prior"
    has_kink: ClassVar[bool] = False
    scale = None
    loc = 0.0
    relative_to_noise = False
    scale_is_learned = False

    def __repr__(self) -> str:
        return "FlatPrior()"

    def scales(self, num_features: int) -> np.ndarray:
        """Return ones: a flat prior has no scale."""
        return np.ones(num_features)

    def locations(self, num_features: int) -> np.ndarray:
        """Return zeros: a flat prior has no location."""
        return np.zeros(num_features)

    def shape(self, num_features: int) -> PriorShape:
        """Return zeros: a flat prior's log density is 0."""
        return PriorShape(np.zeros(num_features), np.zeros(num_features), np.zeros(num_features))

    def distribution(self, scale: torch.Tensor, loc: torch.Tensor) -> dist.Distribution:
        """Return a Pyro distribution that can be drawn from and adds 0 to the log density."""
        return dist.Normal(loc, scale).mask(False)

    def log_density(self, deviation: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return 0, ``(...)``."""
        return torch.zeros_like(deviation[..., 0])

    def derivatives(
        self, deviation: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return zeros ``(...)``, ``(..., d)`` and ``(...)``."""
        nothing = torch.zeros_like(deviation[..., 0])
        return nothing, torch.zeros_like(deviation), nothing

    def expected_curvature(self, scale: torch.Tensor) -> torch.Tensor:
        """Return zeros, the shape of ``scale``."""
        return torch.zeros_like(scale)

    def variance(self, scale: torch.Tensor) -> torch.Tensor:
        """Return infinity, the shape of ``scale``."""
        return torch.full_like(scale, math.inf)

    def to_dict(self) -> dict[str, Any]:
        """Return the prior in the words of JSON and TOML."""
        return {"kind": "flat"}


Prior = GaussianPrior | LaplacePrior | ElasticNetPrior | FlatPrior
PRIORS = {"gaussian": GaussianPrior, "laplace": LaplacePrior, "elasticnet": ElasticNetPrior, "flat": FlatPrior}


def prior_from_dict(table: dict[str, Any]) -> Prior:
    """Read a prior written by ``prior.to_dict()``.

    Args:
        table: ``{"kind": "gaussian" | "laplace", "scale": ..., "loc": ..., "relative_to_noise": ...}``, ``{"kind":
            "elasticnet", "gaussian_scale": ..., "laplace_scale": ..., ...}`` or ``{"kind": "flat"}``.

    Returns:
        The prior.

    Raises:
        ValueError: An unknown kind or key, or a scale that is missing.
    """
    table = dict(table)
    kind = table.pop("kind", None)
    if kind not in PRIORS:
        raise ValueError(f"prior: kind must be one of {', '.join(PRIORS)}, got {kind!r}")
    parts = fields(PRIORS[kind]) if is_dataclass(PRIORS[kind]) else ()
    accepted, needed = {part.name for part in parts}, [part.name for part in parts if part.default is MISSING]
    unknown = sorted(set(table) - accepted)
    if unknown:
        raise ValueError(f"prior: {kind} takes {', '.join(sorted(accepted)) or 'nothing'}, got {', '.join(unknown)}")
    for name in needed:
        if name not in table:
            raise ValueError(f"prior: {kind} needs {name}")
        table[name] = scale_from_dict(table[name], f"prior {name}")
    return PRIORS[kind](**table)
