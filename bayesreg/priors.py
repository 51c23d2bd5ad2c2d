"""Priors of the weights: Gaussian, Laplace and flat.

Each knows its Pyro site, its log density with gradient, its curvature, and nothing of data or of penalties. A prior's
*effective* scale is the scale given, times the noise scale where ``relative_to_noise`` (Park & Casella, The Bayesian
Lasso, JASA 2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch

from bayesreg.scales import Scale, as_numbers, check_scale, describe_scale, is_learned, scale_from_dict, scale_to_dict


@dataclass(frozen=True, eq=False, repr=False)
class _ScaledPrior:
    """What the Gaussian and the Laplace prior share: a scale, a location, and how both meet a design of d columns."""

    scale: Scale
    loc: float | np.ndarray = 0.0
    relative_to_noise: bool = False

    kind: ClassVar[str]

    def __post_init__(self):
        name = type(self).__name__
        scale = check_scale(self.scale, f"{name}(scale=...)")
        object.__setattr__(self, "_working_scale", scale)
        loc = as_numbers(self.loc, f"{name}(loc=...)", "a finite number or a vector of them (one a feature)")
        if loc.ndim > 1 or loc.size == 0 or not np.isfinite(loc).all():
            raise ValueError(
                f"{name}(loc=...) must be a finite number or a vector of them (one a feature), got {self.loc!r}"
            )
        object.__setattr__(self, "_working_loc", loc)
        # What is read back is not the caller's array, which can change later.
        object.__setattr__(self, "scale", self.scale if is_learned(scale) else scale)
        object.__setattr__(self, "loc", loc if loc.ndim else float(loc))
        if not isinstance(self.relative_to_noise, bool | np.bool_):
            raise TypeError(f"{name}(relative_to_noise=...) must be True or False, got {self.relative_to_noise!r}")

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
        return _one_a_feature(self._working_scale, num_features, f"{type(self).__name__}(scale=...)")

    def locations(self, num_features: int) -> np.ndarray:
        """Return the location of each feature, ``(d,)``.

        Args:
            num_features: The number d of columns that the prior meets.

        Returns:
            A float64 array ``(d,)``.

        Raises:
            ValueError: A vector ``loc`` of another length.
        """
        return _one_a_feature(self._working_loc, num_features, f"{type(self).__name__}(loc=...)")

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
    r"""Independent Gaussian weights: log p(w) = sum_j -(w_j - m_j)^2 / (2 t_j^2) - log(t_j) - log(2 pi) / 2.

    Its MAP is the L2-penalised fit (ridge, weight decay); see `bayesreg.conventions`.

    Args:
        scale: The standard deviation t: a number, a vector (one a feature), or a Pyro distribution to learn it.
        loc: The mean m: a number or a vector.
        relative_to_noise: Whether t multiplies the noise scale.

    Example:
        >>> GaussianPrior(scale=0.5)
        GaussianPrior(scale=0.5)
    """

    kind: ClassVar[str] = "gaussian"

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
    r"""Independent Laplace weights: log p(w) = sum_j -|w_j - m_j| / b_j - log(2 b_j).

    Its MAP is the L1-penalised fit (lasso), with exact zeros; the rest of its posterior is not sparse. It is here for
    that link, not as the best prior for selecting features.

    Args:
        scale: b: a number, a vector (one a feature), or a Pyro distribution to learn it. The standard deviation is b
        sqrt(2).
        loc: The median m: a number or a vector.
        relative_to_noise: Whether b multiplies the noise scale, as in Park & Casella (2008), whose lambda is then 1/b.

    Example:
        >>> LaplacePrior(scale=0.25, relative_to_noise=True)
        LaplacePrior(scale=0.25, relative_to_noise=True)
    """

    kind: ClassVar[str] = "laplace"

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
    """The improper prior p(w) = 1: its MAP is least squares. Refused where the design's rank is short.

    Example:
        >>> FlatPrior()
        FlatPrior()
    """

    kind: ClassVar[str] = "flat"
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


Prior = GaussianPrior | LaplacePrior | FlatPrior
PRIORS = {"gaussian": GaussianPrior, "laplace": LaplacePrior, "flat": FlatPrior}


def prior_from_dict(table: dict[str, Any]) -> Prior:
    """Read a prior written by ``prior.to_dict()``.

    Args:
        table: ``{"kind": "gaussian" | "laplace", "scale": ..., "loc": ..., "relative_to_noise": ...}`` or ``{"kind":
            "flat"}``.

    Returns:
        The prior.

    Raises:
        ValueError: An unknown kind or key.
    """
    table = dict(table)
    kind = table.pop("kind", None)
    if kind not in PRIORS:
        raise ValueError(f"prior: kind must be one of {', '.join(PRIORS)}, got {kind!r}")
    accepted = set() if kind == "flat" else {"scale", "loc", "relative_to_noise"}
    unknown = sorted(set(table) - accepted)
    if unknown:
        raise ValueError(f"prior: {kind} takes {', '.join(sorted(accepted)) or 'nothing'}, got {', '.join(unknown)}")
    if kind == "flat":
        return FlatPrior()
    if "scale" not in table:
        raise ValueError(f"prior: {kind} needs scale")
    table["scale"] = scale_from_dict(table["scale"], "prior scale")
    return PRIORS[kind](**table)


def _one_a_feature(values: float | np.ndarray, num_features: int, argument: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1 and values.shape[0] != num_features:
        raise ValueError(f"{argument} has {values.shape[0]} entries, but the data have {num_features} features")
    return np.broadcast_to(values, (num_features,)).copy()
