"""The affine map between the units of the rows and standard units, both ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesreg.computing.arrays import read_only

if TYPE_CHECKING:
    from bayesreg.data import RegressionData


@dataclass(frozen=True, eq=False)
class Standardization:
    """The affine map x -> (x - mean) / scale of every column and of the target, and the way back.

    A mean is the sum of two float64 numbers, `feature_means + feature_remainders`: at an offset of 1e8 the rounding of
    a single one, 1e-8, would stay behind in every standardized row. With z = (x - m) / s and u = (y - m_y) / s_y,
    the fit u = b + z'w is y = b' + x'w' with w' = s_y w / s and b' = m_y + s_y b - m'w'.

    The ways back take NumPy arrays and torch tensors with any leading axes, and give the same kind back.

    Attributes:
        feature_means: Array `(d,)`.
        feature_scales: Array `(d,)`, positive; 1 for a constant column.
        target_mean: Number.
        target_scale: Positive number; 1 for a constant target.
        feature_remainders: Array `(d,)`: what rounding left out of `feature_means`.
        target_remainder: Number: what rounding left out of `target_mean`.

    Example:
        >>> from bayesreg.data import RegressionData
        >>> scaled = RegressionData([[1.0], [3.0]], [10.0, 50.0]).standardized()  # the line y = 20 x - 10
        >>> weights = np.array([1.0])
        >>> scaled.transform.to_original_weights(weights).tolist()
        [20.0]
        >>> float(scaled.transform.to_original_intercept(weights, 0.0))
        -10.0
    """

    feature_means: np.ndarray
    feature_scales: np.ndarray
    target_mean: float
    target_scale: float
    feature_remainders: np.ndarray | float = 0.0
    target_remainder: float = 0.0

    def __post_init__(self):
        shape = np.shape(self.feature_means)
        for name in ("feature_means", "feature_scales", "feature_remainders"):
            values = np.array(np.broadcast_to(getattr(self, name), shape), dtype=np.float64)
            object.__setattr__(self, name, read_only(values))
        for name in ("target_mean", "target_scale", "target_remainder"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @classmethod
    def about(cls, pivot: np.ndarray, offsets: np.ndarray, deviations: np.ndarray) -> Standardization:
        """Make the standardisation from means `pivot + offsets` and standard deviations, the target's last.

        Args:
            pivot: Array `(d + 1,)`, a point near the rows.
            offsets: Array `(d + 1,)`, means relative to the pivot.
            deviations: Array `(d + 1,)` of standard deviations.

        Returns:
            The standardisation; its scale is 1 where a deviation is within rounding of the mean's magnitude.
        """
        means = pivot + offsets
        change = means - pivot
        remainders = (pivot - (means - change)) + (offsets - change)  # Knuth's two-sum: exact
        constant = deviations <= 4 * np.finfo(np.float64).eps * np.abs(means)
        scales = np.where(constant, 1.0, deviations)
        return cls(means[:-1], scales[:-1], means[-1], scales[-1], remainders[:-1], remainders[-1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Standardization):
            return NotImplemented
        return np.array_equal(self.as_vector(), other.as_vector())

    def __reduce__(self):
        # Through the constructor: an array unpickled or copied by itself can be written to.
        return Standardization.from_vector, (self.as_vector(),)

    def as_vector(self) -> np.ndarray:
        """Return all numbers in one new array `(3 (d + 1),)`: means, scales, remainders, the target's last in each."""
        return np.concatenate(
            [
                np.append(self.feature_means, self.target_mean),
                np.append(self.feature_scales, self.target_scale),
                np.append(self.feature_remainders, self.target_remainder),
            ]
        )

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> Standardization:
        """Make the standardisation that `as_vector` gave.

        Args:
            vector: Array `(3 (d + 1),)`.

        Returns:
            The same standardisation.
        """
        means, scales, remainders = np.reshape(vector, (3, -1))
        return cls(means[:-1], scales[:-1], means[-1], scales[-1], remainders[:-1], remainders[-1])

    def apply(self, data: RegressionData) -> RegressionData:
        """Take rows in the original units to standard units.

        Args:
            data: Rows with the same columns, not standardized.

        Returns:
            The rows in standard units, with this as `transform`.

        Raises:
            ValueError: If the rows are standardized already or have another number of columns.
        """
        if data.transform is not None:
            raise ValueError("data must be in their own units, got data standardized already")
        target = (data.target - self.target_mean - self.target_remainder) / self.target_scale
        return replace(data, features=self.apply_to_features(data.features), target=target, transform=self)

    def apply_to_features(self, features):
        """Take features `(..., d)` in the original units to standard units.

        Args:
            features: Array or tensor `(..., d)`.

        Returns:
            The same kind, `(..., d)`.

        Raises:
            ValueError: If the last axis does not have length d.
        """
        if features.shape[-1] != len(self.feature_means):
            raise ValueError(f"features must have {len(self.feature_means)} columns, got {features.shape[-1]}")
        means, remainders, scales = (
            _like(features, v) for v in (self.feature_means, self.feature_remainders, self.feature_scales)
        )
        return (features - means - remainders) / scales

    def to_original_weights(self, weights):
        """Return the weights (or a prior's `loc`) `(..., d)` in the original units: w' = s_y w / s."""
        return weights * _like(weights, self.target_scale / self.feature_scales)

    def to_original_intercept(self, weights, intercept):
        """Return the intercept `(...)` in the original units, given standard weights `(..., d)`: m_y + s_y b - m'w'."""
        original = self.to_original_weights(weights)
        large = self.target_mean - (original * _like(original, self.feature_means)).sum(-1)
        small = self.target_remainder - (original * _like(original, self.feature_remainders)).sum(-1)
        return large + (self.target_scale * intercept + small)

    def to_original_noise_scale(self, noise_scale):
        """Return the noise's scale `(...)` in the original units: s_y times it."""
        return self.target_scale * noise_scale

    def to_original_prior_scale(self, prior_scale):
        """Return the scale of a prior on the weights in the original units, one a feature: s_y t / s.

        Args:
            prior_scale: Number, or array or tensor `(..., d)` or `(..., 1)` (draws of one scale need that last axis).

        Returns:
            Array or tensor `(..., d)`.
        """
        return prior_scale * _like(prior_scale, self.target_scale / self.feature_scales)

    def to_original_predictions(self, predictions):
        """Return predictions of the target `(...)` in the original units: m_y + s_y u."""
        return self.target_scale * predictions + self.target_remainder + self.target_mean


def _like(reference, values):
    """Return NumPy values as the reference's kind: a tensor of its dtype and device, or NumPy."""
    return reference.new_tensor(values.tolist()) if hasattr(reference, "new_tensor") else values
