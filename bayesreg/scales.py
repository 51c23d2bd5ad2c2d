"""The one scale rule: a scale is a positive number (known), one number a feature, or a distribution (learned).

It holds for the scale of a prior and for the scale of the noise. A learned scale s with density p on a support inside
(0, inf) is moved in the unconstrained coordinate u, s = T(u), with T = ``biject_to(support)``; its log density there is
log p(T(u)) + log |T'(u)|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch.distributions import biject_to, constraints

from bayesreg.scale_slopes import LOG_KERNELS

# The distributions that a file or a command line can name, and their parameters: nothing else can be named there, and
# nothing is evaluated.
DISTRIBUTIONS = {
    "HalfNormal": ("scale",),
    "HalfCauchy": ("scale",),
    "LogNormal": ("loc", "scale"),
    "Gamma": ("concentration", "rate"),
    "InverseGamma": ("concentration", "rate"),
    "Exponential": ("rate",),
    "Uniform": ("low", "high"),
    "Weibull": ("scale", "concentration"),
    "Chi2": ("df",),
}

Scale = float | np.ndarray | dist.Distribution


def is_learned(scale: Any) -> bool:
    """Whether a scale is a distribution, that is, learned from the data."""
    return isinstance(scale, torch.distributions.Distribution)


def check_scale(scale: Any, argument: str, vector: bool = True) -> Scale:
    """Return a scale in its working form, or say what is wrong with it.

    Args:
        scale: A positive finite number, a vector of them (one a feature), or a Pyro distribution on (0, inf).
        argument: What the error messages call it, such as ``GaussianPrior(scale=...)``.
        vector: Whether one number a feature is accepted.

    Returns:
        A float, a read-only float64 array ``(d,)``, or the distribution with float64 parameters; one with
        ``mask(True)`` is the distribution itself.

    Raises:
        ValueError: A number that is not positive and finite, or a distribution whose support leaves (0, inf) or whose
            parameters are not finite.
        TypeError: Something that is not a scale at all.
    """
    wanted = "a positive finite number" + (", a vector of them (one a feature)" if vector else "")
    wanted += " or a Pyro distribution on the positive reals"
    if is_learned(scale):
        return _check_distribution(scale, argument)
    values = as_numbers(scale, argument, wanted)
    if values.ndim > (1 if vector else 0) or values.size == 0:
        raise ValueError(f"{argument} must be {wanted}, got an array of shape {values.shape}")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if bad.size:
        raise ValueError(f"{argument} must be positive and finite, got {bad.flat[0]:g}")
    return float(values) if values.ndim == 0 else values


def as_numbers(value: Any, argument: str, wanted: str) -> np.ndarray:
    """Return numbers given as a float, a list, an array or a tensor as a read-only float64 array.

    Args:
        value: What was given.
        argument: What the error message calls it.
        wanted: What the error message says would be accepted.

    Returns:
        A read-only float64 array of any shape.

    Raises:
        TypeError: ``value`` is not made of real numbers.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # ragged nesting
        array = np.asarray(None)
    if isinstance(value, bool) or array.dtype.kind not in "iuf":
        raise TypeError(f"{argument} must be {wanted}, got {value!r}")
    array = np.array(array, dtype=np.float64)
    array.setflags(write=False)
    return array


def check_location(loc: Any, argument: str) -> float | np.ndarray:
    """Return the location of a prior in its working form, or say what is wrong with it.

    Args:
        loc: A finite number, or a vector of them (one a feature).
        argument: What the error messages call it, such as ``GaussianPrior(loc=...)``.

    Returns:
        A float, or a read-only float64 array ``(d,)``.

    Raises:
        ValueError: A number that is not finite, or an array of another shape.
        TypeError: Something that is not made of numbers.
    """
    wanted = "a finite number or a vector of them (one a feature)"
    values = as_numbers(loc, argument, wanted)
    if values.ndim > 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{argument} must be {wanted}, got {loc!r}")
    return values if values.ndim else float(values)


def check_relative_to_noise(relative_to_noise: Any, argument: str) -> None:
    """Refuse what is neither True nor False.

    Args:
        relative_to_noise: What was given.
        argument: What the error message calls it.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(relative_to_noise, bool | np.bool_):
        raise TypeError(f"{argument} must be True or False, got {relative_to_noise!r}")


def one_a_feature(values: float | np.ndarray, num_features: int, argument: str) -> np.ndarray:
    """Return a number or a vector as one number a feature.

    Args:
        values: A number, or a vector ``(d,)``.
        num_features: The number d of features.
        argument: What the error message calls it.

    Returns:
        A new float64 array ``(d,)``.

    Raises:
        ValueError: A vector of another length.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1 and values.shape[0] != num_features:
        raise ValueError(f"{argument} has {values.shape[0]} entries, but the data have {num_features} features")
    return np.broadcast_to(values, (num_features,)).copy()


def _check_distribution(distribution: Any, argument: str) -> dist.Distribution:
    if distribution.batch_shape or distribution.event_shape:
        shape = tuple(distribution.batch_shape + distribution.event_shape)
        raise ValueError(f"{argument} must be a distribution of one number, got {distribution!r} of shape {shape}")
    if not all(math.isfinite(value) for value in (_parameters(_base(distribution)) or {}).values()):
        raise ValueError(f"{argument} must have finite parameters, got {describe_scale(distribution)}")
    distribution = in_float64(distribution)
    try:
        support = distribution.support
        lower = getattr(support, "lower_bound", None)
        discrete = support.is_discrete
    except NotImplementedError:
        lower, discrete = None, False
    if discrete or lower is None or not float(lower) >= 0.0:
        raise ValueError(
            f"{argument} must be a continuous distribution on the positive reals, such as dist.HalfNormal(1.0) or "
            f"dist.LogNormal(0.0, 1.0), got {describe_scale(distribution)}"
        )
    return distribution


def in_float64(
    distribution: dist.Distribution, device: torch.device | str = "cpu", validate: bool | None = None
) -> dist.Distribution:
    """Return the same distribution with float64 parameters on a device.

    A Python number given to a torch distribution is rounded to the default float32; the shortest decimal that rounds to
    it is what was typed, so ``HalfNormal(0.3)`` means 0.3 and not 0.30000001192.

    Args:
        distribution: A distribution of one number.
        device: Where its parameters shall be.
        validate: Whether it checks values and parameters; None: as Pyro does. A check reads from the device.

    Returns:
        The distribution rebuilt, without a mask that masks nothing; the same object where it does not say its
        parameters.
    """
    if isinstance(distribution, dist.MaskedDistribution):
        base = in_float64(distribution.base_dist, device, validate)
        return base if bool(distribution._mask) else _base(base).mask(False)
    parameters = _parameters(distribution)
    if parameters is None:
        return distribution
    return type(distribution)(
        **{name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in parameters.items()},
        validate_args=validate,
    )


def _base(distribution: dist.Distribution) -> dist.Distribution:
    while isinstance(distribution, dist.MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _parameters(distribution: dist.Distribution) -> dict[str, float] | None:
    name = type(distribution).__name__
    if name not in DISTRIBUTIONS or type(distribution) is not getattr(dist, name):
        return None
    values = {}
    for parameter in DISTRIBUTIONS[name]:
        number = getattr(distribution, parameter).detach().cpu().numpy()
        values[parameter] = float(str(number)) if number.dtype == np.float32 else float(number)
    return values


def describe_scale(scale: Scale) -> str:
    """Return a scale as one would type it.

    Args:
        scale: A scale in its working form.

    Returns:
        Such as ``0.5`` or ``HalfNormal(scale=1.0).mask(False)``.

    Example:
        >>> describe_scale(dist.Uniform(0.1, 2.0))
        'Uniform(low=0.1, high=2.0)'
    """
    if not is_learned(scale):
        return str(scale)
    base = _base(scale)
    parameters = _parameters(base)
    if parameters is None:
        return repr(scale)
    words = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
    return f"{type(base).__name__}({words}){'' if base is scale else '.mask(False)'}"


def scale_to_dict(scale: Scale) -> float | list[float] | dict[str, Any]:
    """Return a scale in the words of JSON and TOML.

    Args:
        scale: A scale in its working form.

    Returns:
        A number, a list of numbers, or ``{"distribution": "HalfNormal", "scale": 1.0}``, with ``"mask": False`` for a
        flat one.

    Raises:
        ValueError: A distribution that has no name in a file.

    Example:
        >>> scale_to_dict(dist.HalfNormal(0.3).mask(False))
        {'distribution': 'HalfNormal', 'scale': 0.3, 'mask': False}
    """
    if not is_learned(scale):
        return float(scale) if np.ndim(scale) == 0 else [float(value) for value in scale]
    base = _base(scale)
    parameters = _parameters(base)
    if parameters is None:
        raise ValueError(
            f"the scale distribution {type(base).__name__} cannot be written to a file; "
            f"accepted: {', '.join(DISTRIBUTIONS)}"
        )
    return {"distribution": type(base).__name__, **parameters} | ({} if base is scale else {"mask": False})


def scale_from_dict(value: Any, argument: str = "scale") -> Scale:
    """Read a scale written by `scale_to_dict`, or by hand in a settings file.

    Args:
        value: A number, a list of numbers or a table with the key ``distribution``.
        argument: What the error messages call it.

    Returns:
        The scale in its working form.

    Raises:
        ValueError: An unknown distribution, a parameter that it does not have, or a value out of range.
    """
    if not isinstance(value, Mapping):
        return check_scale(value, argument)
    table = dict(value)
    name, mask = table.pop("distribution", None), table.pop("mask", True)
    if not isinstance(name, str) or name not in DISTRIBUTIONS:
        raise ValueError(f"{argument}: distribution must be one of {', '.join(DISTRIBUTIONS)}, got {name!r}")
    wanted = DISTRIBUTIONS[name]
    if set(table) != set(wanted) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in table.values()
    ):
        raise ValueError(f"{argument}: {name} takes the numbers {', '.join(wanted)}, got {table}")
    if not isinstance(mask, bool):
        raise ValueError(f"{argument}: mask must be true or false, got {mask!r}")
    try:
        distribution = getattr(dist, name)(
            **{key: torch.tensor(float(number), dtype=torch.float64, device="cpu") for key, number in table.items()},
            validate_args=True,
        )
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{argument}: {name} does not accept {table}") from error
    return check_scale(distribution if mask else distribution.mask(False), argument)


class LearnedScale:
    """A learned scale in its unconstrained coordinate u, on one device: s = T(u).

    Args:
        distribution: Its prior density p, on a support inside (0, inf).
        device: The device of the coordinates.
    """

    def __init__(self, distribution: dist.Distribution, device: torch.device | str = "cpu"):
        self.distribution = in_float64(distribution, device, validate=False)
        self._transform = biject_to(self.distribution.support)
        support = self.distribution.support
        half_line = isinstance(support, constraints.greater_than | constraints.greater_than_eq)
        #: Whether the support is (0, inf), so that u = log s.
        self.is_logarithm = half_line and float(support.lower_bound) == 0.0
        self._base = _base(self.distribution)
        kernel, place = LOG_KERNELS.get(type(self._base), (None, None))
        self._log_kernel = kernel if self.is_logarithm and not self.is_flat else None
        if self._log_kernel is not None:
            here = place(self._base)
            self._constant = self._base.log_prob(here) - kernel(self._base, here.log(), here)[0]

    @property
    def is_flat(self) -> bool:
        """Whether the density is masked: 1 at any scale, with nothing to draw from."""
        return isinstance(self.distribution, dist.MaskedDistribution)

    def constrain(self, coordinate: torch.Tensor) -> torch.Tensor:
        """Return s = T(u)."""
        return coordinate.exp() if self.is_logarithm else self._transform(coordinate)

    def unconstrain(self, scale: torch.Tensor) -> torch.Tensor:
        """Return u with T(u) = s."""
        return scale.log() if self.is_logarithm else self._transform.inv(scale)

    def log_prior(self, scale: torch.Tensor) -> torch.Tensor:
        """Return log p(s), and minus infinity outside the support."""
        inside = self.distribution.support.check(scale)
        # A validating distribution would raise there; a value inside stands in, and its density is not used.
        stand_in = self._transform(torch.zeros_like(scale))
        density = self.distribution.log_prob(torch.where(inside, scale, stand_in))
        return torch.where(inside, density, torch.full_like(scale, -math.inf))

    def log_density(self, coordinate: torch.Tensor) -> torch.Tensor:
        """Return log p(T(u)) + log |T'(u)|, elementwise."""
        if self._log_kernel is not None:
            return self._log_kernel(self._base, coordinate, coordinate.exp())[0] + (self._constant + coordinate)
        scale = self._transform(coordinate)
        return self.distribution.log_prob(scale) + self._transform.log_abs_det_jacobian(coordinate, scale)

    def derivatives(self, coordinate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return T(u), d log T(u) / du, log p(T(u)) + log |T'(u)| and its derivative, elementwise.

        In closed form on (0, inf), for the densities that a file can name and for flat ones; by autograd for others.

        Args:
            coordinate: u, any shape; each element stands for itself.

        Returns:
            Four tensors of that shape.
        """
        if self._log_kernel is not None:
            scale = coordinate.exp()
            kernel, slope = self._log_kernel(self._base, coordinate, scale)
            return scale, torch.ones_like(scale), kernel + (self._constant + coordinate), slope + 1.0
        if self.is_logarithm and self.is_flat:
            one = torch.ones_like(coordinate)
            return coordinate.exp(), one, coordinate, one
        return self._derivatives_by_autograd(coordinate)

    def _derivatives_by_autograd(
        self, coordinate: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            coordinate = coordinate.detach().requires_grad_(True)
            scale = self._transform(coordinate)
            density = self.distribution.log_prob(scale) + self._transform.log_abs_det_jacobian(coordinate, scale)
            if not density.requires_grad:  # a flat density on the scale itself has no coordinate in it
                density = density + 0.0 * coordinate
            (log_slope,) = torch.autograd.grad(scale.log().sum(), coordinate, retain_graph=True)
            (density_slope,) = torch.autograd.grad(density.sum(), coordinate)
        return scale.detach(), log_slope, density.detach(), density_slope
