"""The elastic net's prior: the product of a Gaussian and a Laplace density, normalised.

It is a scale family once the ratio of its two scales is fixed. Its *scale*, in the words that priors share, is its
standard deviation, so that what looks for the size of the weights finds the same as under a Gaussian prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from bayesreg.elastic_net_distribution import ElasticNetDistribution, log_normaliser, variance
from bayesreg.prior_shapes import PriorShape
from bayesreg.scales import (
    check_location,
    check_relative_to_noise,
    check_scale,
    describe_scale,
    is_learned,
    one_a_feature,
)


@dataclass(frozen=True, eq=False, repr=False)
class ElasticNetPrior:
    r"""Independent weights under a Gaussian times a Laplace density.

        log p(w) = sum_j -v_j^2 / (2 t_j^2) - |v_j| / b_j - log Z_j,
        Z_j = t_j sqrt(2 pi) erfcx(t_j / (b_j sqrt 2)),    v_j = w_j - m_j.

    Its MAP is the elastic net's fit, with l2 = s^2 / (n t^2) and l1 = s^2 / (n b); see `bayesreg.conventions`. As t
    grows it is the Laplace prior of scale b, as b grows the Gaussian prior of scale t. Here erfcx(x) = e^(x^2) erfc(x);
    units are as for `GaussianPrior`. Source: Li and Lin, The Bayesian elastic net, Bayesian Analysis 5 (2010).

    Args:
        gaussian_scale: t, the standard deviation of the Gaussian factor: a number or a vector (one a feature).
        laplace_scale: b, the mean absolute value of the Laplace factor: a number or a vector.
        loc: The mean and mode m: a number or a vector.
        relative_to_noise: Whether both scales multiply the noise scale.

    Raises:
        TypeError: A scale that is a distribution, or no number.
        ValueError: A scale that is not positive and finite, or vectors of different lengths.

    Example:
        >>> ElasticNetPrior(gaussian_scale=0.5, laplace_scale=0.25)
        ElasticNetPrior(gaussian_scale=0.5, laplace_scale=0.25)
    """

    gaussian_scale: float | np.ndarray
    laplace_scale: float | np.ndarray
    loc: float | np.ndarray = 0.0
    relative_to_noise: bool = False

    kind: ClassVar[str] = "elasticnet"
    words: ClassVar[str] = "an elastic net prior"
    has_kink: ClassVar[bool] = True
    scale_is_learned: ClassVar[bool] = False

    def __post_init__(self):
        lengths = {}
        for name in ("gaussian_scale", "laplace_scale"):
            given = getattr(self, name)
            if is_learned(given):
                raise TypeError(
                    f"ElasticNetPrior({name}=...) must be a positive finite number or a vector of them (one a "
                    f"feature), got {describe_scale(given)}: GaussianPrior and LaplacePrior can learn their scale, "
                    "ElasticNetPrior cannot"
                )
            object.__setattr__(self, name, check_scale(given, f"ElasticNetPrior({name}=...)"))
            lengths[name] = np.size(getattr(self, name))
        object.__setattr__(self, "loc", check_location(self.loc, "ElasticNetPrior(loc=...)"))
        check_relative_to_noise(self.relative_to_noise, "ElasticNetPrior(relative_to_noise=...)")
        lengths["loc"] = np.size(self.loc)
        if len({length for length in lengths.values() if length > 1}) > 1:
            raise ValueError(f"the vectors of an ElasticNetPrior must have one entry a feature, got lengths {lengths}")
        gaussian, laplace = (
            torch.tensor(np.array(values), dtype=torch.float64, device="cpu")
            for values in np.broadcast_arrays(self.gaussian_scale, self.laplace_scale)
        )
        deviation = variance(gaussian, laplace).sqrt()
        object.__setattr__(self, "_standard_deviation", deviation.numpy())
        object.__setattr__(self, "_by_device", {})
        self._put_on(torch.device("cpu"), gaussian / deviation, laplace / deviation)

    def __reduce__(self):
        # Through the constructor: an array unpickled or copied by itself can be written to.
        return type(self), (self.gaussian_scale, self.laplace_scale, self.loc, self.relative_to_noise)

    def __repr__(self) -> str:
        given = [f"{name}={describe_scale(getattr(self, name))}" for name in ("gaussian_scale", "laplace_scale")]
        given += [f"loc={self.loc}"] if np.any(self.loc) else []
        given += ["relative_to_noise=True"] if self.relative_to_noise else []
        return f"ElasticNetPrior({', '.join(given)})"

    def scales(self, num_features: int) -> np.ndarray:
        """Return the standard deviation of each feature's weight, ``(d,)``, in units of the noise scale where relative.

        Args:
            num_features: The number d of columns that the prior meets.

        Returns:
            A float64 array ``(d,)``.

        Raises:
            ValueError: A scale vector of another length.
        """
        name = "gaussian_scale" if np.ndim(self.gaussian_scale) else "laplace_scale"
        return one_a_feature(self._standard_deviation, num_features, f"ElasticNetPrior({name}=...)")

    def locations(self, num_features: int) -> np.ndarray:
        """Return the location of each feature, ``(d,)``.

        Args:
            num_features: The number d of columns that the prior meets.

        Returns:
            A float64 array ``(d,)``.

        Raises:
            ValueError: A vector ``loc`` of another length.
        """
        return one_a_feature(self.loc, num_features, "ElasticNetPrior(loc=...)")

    def shape(self, num_features: int) -> PriorShape:
        """Return the density in units of `scales`, ``(d,)`` each."""
        gaussian, laplace, log_constant = (
            one_a_feature(part.numpy(), num_features, "ElasticNetPrior") for part in self._on(torch.device("cpu"))
        )
        return PriorShape(1.0 / laplace, 1.0 / np.square(gaussian), log_constant)

    def rescaled(self, scales: np.ndarray, loc: np.ndarray) -> ElasticNetPrior:
        """Return the same shape at other standard deviations and locations ``(d,)``."""
        gaussian, laplace, _ = (part.numpy() for part in self._on(torch.device("cpu")))
        return ElasticNetPrior(scales * gaussian, scales * laplace, loc, self.relative_to_noise)

    def distribution(self, scale: torch.Tensor, loc: torch.Tensor) -> ElasticNetDistribution:
        """Return the Pyro distribution of each weight, at effective scales and locations ``(..., d)``."""
        gaussian, laplace, _ = self._on(scale.device)
        return ElasticNetDistribution(loc, scale * gaussian, scale * laplace)

    def log_density(self, deviation: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return sum_j log p(w_j), ``(...)``.

        Args:
            deviation: w - m, ``(..., d)``.
            scale: The effective scale, ``(..., d)`` or broadcast to it.

        Returns:
            The log density, its constants included.
        """
        gaussian, laplace, log_constant = self._on(scale.device)
        # |w| by its sign: the second derivative of torch's abs() loads its compiler.
        absolute = deviation * deviation.detach().sign() / (scale * laplace)
        quadratic = 0.5 * (deviation / (scale * gaussian)).square()
        return (-quadratic - absolute - scale.log() - log_constant).expand(deviation.shape).sum(-1)

    def derivatives(
        self, deviation: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return `log_density`, d log p / dw ``(..., d)``, 0 at the kink, and d log p / d log(common scale factor)."""
        gaussian, laplace, log_constant = self._on(scale.device)
        pull = deviation * -(scale * gaussian).square().reciprocal()
        kink = deviation.sign() * -(scale * laplace).reciprocal()
        quadratic, absolute = (deviation * pull).sum(-1), (deviation * kink).sum(-1)
        constant = (-scale.log() - log_constant).expand(deviation.shape).sum(-1)
        along = -quadratic - absolute - deviation.shape[-1]
        return 0.5 * quadratic + absolute + constant, pull + kink, along

    def expected_curvature(self, scale: torch.Tensor) -> torch.Tensor:
        """Return E[-d^2 log p / dw_j^2] = 1 / t_j^2 + 2 / (b_j Z_j) under the prior: the kink's 2 delta(w)/b at 1/Z."""
        gaussian, laplace, log_constant = self._on(scale.device)
        return (gaussian.square().reciprocal() + 2.0 * (-log_constant).exp() / laplace) / scale.square()

    def variance(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the prior variance of a weight: the square of the effective scale, which is its standard deviation."""
        return scale.square()

    def to_dict(self) -> dict[str, Any]:
        """Return the prior in the words of JSON and TOML."""
        words = {name: np.asarray(getattr(self, name)).tolist() for name in ("gaussian_scale", "laplace_scale", "loc")}
        return {"kind": self.kind, **words, "relative_to_noise": bool(self.relative_to_noise)}

    def _on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return t, b and log Z in units of the standard deviation, on a device where they stay."""
        if device not in self._by_device:
            gaussian, laplace, _ = self._by_device[torch.device("cpu")]
            self._put_on(device, gaussian, laplace)
        return self._by_device[device]

    def _put_on(self, device: torch.device, gaussian: torch.Tensor, laplace: torch.Tensor) -> None:
        parts = (gaussian, laplace, log_normaliser(gaussian, laplace))
        self._by_device[device] = tuple(part.to(device) for part in parts)
