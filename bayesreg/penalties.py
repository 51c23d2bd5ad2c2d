"""One penalty on the weights, which carries the convention that its strengths belong to.

In the canonical objective, `mean-half-squared`, the penalised fit of n rows minimises

    J(w) = |y - Xw - b|^2 / (2 n) + sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ],

the intercept b unpenalised; in another convention each term has the multipliers of `bayesreg.objectives`. No prior
is known here: `bayesreg.conventions` translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayesreg.computing.arrays import as_number_or_vector
from bayesreg.objectives import CANONICAL, get_convention
from bayesreg.penalty_limits import check_held

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.moments import Moments


@dataclass(frozen=True, eq=False)
class Penalty:
    """A penalty sum_j [ l2_j (w_j - c_j)^2 / 2 + l1_j |w_j - c_j| ], times the multipliers of its convention.

    In the default convention, `mean-half-squared`, the multipliers are 1 and the loss beside it is |y - Xw - b|^2 /
    (2 n), the intercept b unpenalised. Weights and centre are in the units of the data. `L2` and `L1` construct the
    usual ones. Strengths of zero are legal: no penalty, the flat prior.

    Attributes:
        l1: Strength of the L1 term, as typed in the convention; a float, or one a feature, (d,).
        l2: Strength of the L2 term, as typed in the convention; a float, or one a feature, (d,).
        centre: What the weights are pulled towards, c; a float, or one a feature, (d,).
        convention: Name of the convention that the strengths belong to. Two strengths are held as l1 = alpha l1_ratio
            and l2 = alpha (1 - l1_ratio) of `sklearn-elasticnet`, lambda alpha and lambda (1 - alpha) of `glmnet`.

    Raises:
        TypeError: If a strength or the centre is not a number or a vector of numbers.
        ValueError: If a strength is negative or not finite, the lengths of vectors differ, the convention is unknown
            or refused, or it cannot hold such a penalty.

    Example:
        >>> penalty = Penalty(l2=3.0, convention="torch-mse-mean")
        >>> penalty.to("sklearn-ridge", num_rows=20)
        Penalty(l2=30.0, convention='sklearn-ridge')
        >>> penalty.canonical().l2
        1.5
    """

    l1: float | np.ndarray = 0.0
    l2: float | np.ndarray = 0.0
    centre: float | np.ndarray = 0.0
    convention: str = CANONICAL

    def __post_init__(self) -> None:
        row = get_convention(self.convention)
        object.__setattr__(self, "convention", row.name)
        lengths = {}
        for name in ("l1", "l2", "centre"):
            value = as_number_or_vector(getattr(self, name), f"{name} of a penalty")
            if name != "centre" and np.any(np.asarray(value) < 0):
                raise ValueError(f"{name} of a penalty must be at least 0, got {value!r}")
            if np.ndim(value):
                lengths[name] = len(value)
            object.__setattr__(self, name, value)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the vectors of a penalty must have one entry a feature; their lengths are {lengths}")
        check_held(self, row)

    def __reduce__(self):  # through the constructor: an array unpickled or copied by itself can be written to
        return Penalty, (self.l1, self.l2, self.centre, self.convention)

    def __repr__(self) -> str:
        shown = [f"{k}={_shown(getattr(self, k))}" for k in ("l1", "l2", "centre") if np.any(getattr(self, k))]
        return f"Penalty({', '.join([*(shown or ['l2=0.0']), f'convention={self.convention!r}'])})"

    def _key(self) -> tuple:
        return (self.convention, *(tuple(np.atleast_1d(v).tolist()) for v in (self.l1, self.l2, self.centre)))

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Penalty) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    @property
    def kind(self) -> Literal["l2", "l1", "elasticnet", "none"]:
        """Which of the two terms there are."""
        has_l1, has_l2 = bool(np.any(self.l1)), bool(np.any(self.l2))
        return {(0, 0): "none", (0, 1): "l2", (1, 0): "l1", (1, 1): "elasticnet"}[has_l1, has_l2]

    @property
    def strength(self) -> float | np.ndarray:
        """The number that is typed: l2 alone, l1 alone, or l1 + l2 (`alpha` of ElasticNet, `lambda` of glmnet)."""
        return self.l1 + self.l2

    @property
    def l1_ratio(self) -> float:
        """The share l1 / (l1 + l2) of the L1 term: `l1_ratio` of scikit-learn, `alpha` of glmnet; 0 with no penalty.

        Raises:
            ValueError: If the share differs between features.
        """
        total = np.atleast_1d(np.asarray(self.strength, dtype=np.float64))
        shares = np.broadcast_to(self.l1, total.shape)[total > 0] / total[total > 0]
        if not shares.size:
            return 0.0
        if np.ptp(shares) > 1e-12:
            raise ValueError(f"l1_ratio is one number, but the shares l1 / (l1 + l2) of the features are {shares}")
        return float(shares[0])

    def per_feature(self, num_features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The strengths as typed and the centre, one a feature.

        Args:
            num_features: The number of features d.

        Returns:
            l1, l2 and centre, each (d,) and read-only.

        Raises:
            ValueError: If one of them is a vector of another length.
        """
        for name in ("l1", "l2", "centre"):
            value = getattr(self, name)
            if np.ndim(value) and len(value) != num_features:
                raise ValueError(
                    f"{name} of the penalty has {len(value)} entries, but there are {num_features} features"
                )
        return tuple(np.broadcast_to(np.float64(v), (num_features,)) for v in (self.l1, self.l2, self.centre))

    def to(self, convention: str, **knowledge: Any) -> Penalty:
        """The same penalty in the words of another convention.

        Args:
            convention: Name of the convention wanted.
            **knowledge: What the conversion needs, and says when it is missing: `num_rows`, `noise_scale`,
                `target_scale` (the target's standard deviation, divisor n), `steps_per_epoch`.

        Returns:
            A penalty with the same minimiser.

        Raises:
            TypeError: If the convention is no string, or knowledge is of another name.
            ValueError: If knowledge is missing, the convention is unknown, refused or cannot hold this penalty, or a
                strength leaves the range of float64.

        Example:
            >>> L1(0.1).to("keras-l1")
            Penalty(l1=0.2, convention='keras-l1')
        """
        source, destination = get_convention(self.convention), get_convention(convention)
        if source is destination:
            return self
        strengths = {}
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if np.any(value):
                factor = source.to_canonical(name) / destination.to_canonical(name)
                converted = value * factor.at(f"converting {name.upper()} to {destination.name}", **knowledge)
                if not np.array_equal(np.asarray(converted) > 0, np.asarray(value) > 0):
                    raise ValueError(f"{name}={value!r} of {source.name} underflows to 0 in {destination.name}")
                strengths[name] = converted
        return Penalty(**strengths, centre=self.centre, convention=destination.name)

    def canonical(self, **knowledge: Any) -> Penalty:
        """The same penalty in the canonical objective, `mean-half-squared`.

        Args:
            **knowledge: As for `to`.

        Returns:
            A penalty with the same minimiser.
        """
        return self.to(CANONICAL, **knowledge)

    def value(self, weights: Any, **knowledge: Any) -> Any:
        """The penalty term, as it stands in the objective of the convention.

            l2_multiplier * sum_j l2_j (w_j - c_j)^2 / 2 + l1_multiplier * sum_j l1_j |w_j - c_j|

        Args:
            weights: (..., d), a NumPy array or a torch tensor on any device.
            **knowledge: What the multipliers need: `steps_per_epoch` in torch-mse-sum (1 gives the term of one
                step), `noise_scale` in park-casella, `target_scale` for the L2 term of glmnet; else nothing.

        Returns:
            (...), of the kind of the weights.

        Example:
            >>> float(L2(3.0, convention="sklearn-ridge").value([1.0, 2.0]))
            15.0
        """
        offset, l1, l2 = self._terms(weights, knowledge)
        return (0.5 * l2 * offset * offset + l1 * abs(offset)).sum(-1)

    def smooth_gradient(self, weights: Any, **knowledge: Any) -> Any:
        """The gradient of the L2 term of `value`: l2_multiplier * l2_j (w_j - c_j).

        Args:
            weights: (..., d), a NumPy array or a torch tensor on any device.
            **knowledge: As for `value`.

        Returns:
            (..., d), of the kind of the weights.
        """
        offset, _, l2 = self._terms(weights, knowledge)
        return l2 * offset

    def subgradient(self, weights: Any, **knowledge: Any) -> Any:
        """A subgradient of `value`: the gradient of the L2 term plus l1_multiplier * l1_j sign(w_j - c_j), sign(0) = 0.

        Args:
            weights: (..., d), a NumPy array or a torch tensor on any device.
            **knowledge: As for `value`.

        Returns:
            (..., d), of the kind of the weights.
        """
        offset, l1, l2 = self._terms(weights, knowledge)
        sign = np.sign(offset) if isinstance(offset, np.ndarray) else offset.sign()
        return l2 * offset + l1 * sign

    def proximal_step(self, weights: Any, step: float, **knowledge: Any) -> Any:
        """The minimiser over u of |u - w|^2 / 2 + step * value(u): the update that reaches exact zeros.

            u_j = c_j + soft(w_j - c_j, step l1_j) / (1 + step l2_j),    soft(v, t) = v - clip(v, -t, t)

        with l1_j, l2_j times the multipliers of the convention.

        Args:
            weights: (..., d), a NumPy array or a torch tensor on any device.
            step: Step size, at least 0.
            **knowledge: As for `value`.

        Returns:
            (..., d), of the kind of the weights; at c_j exactly wherever |w_j - c_j| <= step l1_j.

        Example:
            >>> L1(1.0).proximal_step(np.array([-3.0, 0.2, 1.0]), step=0.5).tolist()
            [-2.5, 0.0, 0.5]
        """
        offset, l1, l2 = self._terms(weights, knowledge)
        threshold = step * l1
        return (offset - offset.clip(-threshold, threshold)) / (1.0 + step * l2) + _like(self.centre, offset)

    def _terms(self, weights: Any, knowledge: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Returns w - c and both strengths times their multipliers, all of the kind of the weights."""
        if not hasattr(weights, "new_tensor"):
            weights = np.asarray(weights, dtype=np.float64)
        elif not weights.is_floating_point():
            weights = weights.double()
        row = get_convention(self.convention)
        purpose = f"the penalty term in the objective of {row.name}"
        l1, l2 = (
            _like(value * row.multiplier(name).at(purpose, **knowledge), weights) if np.any(value) else 0.0
            for name, value in (("l1", self.l1), ("l2", self.l2))
        )
        return weights - _like(self.centre, weights), l1, l2

    def largest_useful(self, data: RegressionData | Moments, **knowledge: Any) -> float | np.ndarray:
        """The smallest l1, in this penalty's convention, at which every weight is at the centre.

            max_j |Xc'(yc - Xc c)|_j / n    in the canonical objective, with or without an L2 term.

        With a vector of strengths, the smallest multiple of that vector.

        Args:
            data: The rows or their moments.
            **knowledge: As for `to`; `num_rows` is taken from the data.

        Returns:
            A float, or (d,) where `l1` is a vector; any larger l1 gives the same fit.

        Raises:
            TypeError: If the data are neither rows nor moments.
            ValueError: If the convention has no L1 term, knowledge is missing, or `l1` is a vector with zeros: those
                features can leave the centre at any strength.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> largest = br.L1(1.0).largest_useful(data)
            >>> round(largest, 4), int(br.path(data, "l1", [largest, 0.99 * largest]).num_nonzero.sum())
            (0.5865, 1)
        """
        from bayesreg.moments import as_moments  # the one method that needs data: the rest of the module is a leaf

        moments = as_moments(data)
        if np.ndim(self.l1) and not np.all(self.l1):
            raise ValueError(f"no multiple of l1={self.l1!r} keeps the features of strength 0 at the centre")
        pattern = np.asarray(self.l1 if np.ndim(self.l1) else 1.0)
        _, cross = moments.residuals(self.per_feature(moments.num_features)[2])
        largest = float(np.max(np.abs(cross) / pattern)) / moments.num_rows * pattern
        return Penalty(l1=largest).to(self.convention, **{**knowledge, "num_rows": moments.num_rows}).l1

    def original_units(self, data: RegressionData | Moments, **knowledge: Any) -> Penalty:
        """The penalty on the weights of the original columns that the standardised fit with this one minimises.

        With x_j = m_j + f_j x'_j and y = m + s_y y' (primed: standardised), weights obey w'_j = w_j f_j / s_y, and
        s_y^2 times the standardised objective is the canonical one on the original columns with

            l2_j f_j^2,    l1_j f_j s_y,    c_j s_y / f_j.

        Args:
            data: The standardised data or moments; their `transform` holds f, s_y.
            **knowledge: As for `to`, in standardised units; `num_rows` is taken from the data.

        Returns:
            A penalty in the canonical convention with strengths of one a feature, (d,).

        Raises:
            TypeError: If the data are neither rows nor moments.
            ValueError: If the data are not standardised.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.L2(0.1).original_units(data).kind, br.L2(0.1).original_units(data).l2.shape
            ('l2', (10,))
        """
        if not (hasattr(data, "transform") and hasattr(data, "num_rows")):
            raise TypeError(f"data must be a RegressionData or Moments, got {type(data).__name__}")
        if data.transform is None:
            raise ValueError("original_units needs data from data.standardized(); these have no transform")
        here = self.canonical(**{**knowledge, "num_rows": data.num_rows})
        feature, target = np.asarray(data.transform.feature_scales), float(data.transform.target_scale)
        return Penalty(
            l1=here.l1 * feature * target, l2=here.l2 * feature * feature, centre=here.centre * target / feature
        )


def L2(strength: float | np.ndarray, convention: str = CANONICAL) -> Penalty:
    """The ridge penalty, or weight decay: in the canonical objective, strength |w|^2 / 2 beside |y - Xw - b|^2 / (2 n).

    Args:
        strength: The number as typed in the convention; finite, at least 0; or one a feature, (d,).
        convention: Name of the convention that the number belongs to.

    Returns:
        The penalty.

    Raises:
        TypeError: If the strength is not made of numbers.
        ValueError: If it is out of range, or the convention is unknown, refused, or has no such term.

    Example:
        >>> L2(3.0, convention="torch-mse-mean")
        Penalty(l2=3.0, convention='torch-mse-mean')
    """
    return _single("l2", strength, convention)


def L1(strength: float | np.ndarray, convention: str = CANONICAL) -> Penalty:
    """The lasso penalty: in the canonical objective, strength |w|_1 beside |y - Xw - b|^2 / (2 n).

    Args:
        strength: The number as typed in the convention; finite, at least 0; or one a feature, (d,).
        convention: Name of the convention that the number belongs to.

    Returns:
        The penalty.

    Raises:
        TypeError: If the strength is not made of numbers.
        ValueError: If it is out of range, or the convention is unknown, refused, or has no such term.

    Example:
        >>> L1(0.1, convention="sklearn-lasso")
        Penalty(l1=0.1, convention='sklearn-lasso')
    """
    return _single("l1", strength, convention)


def _single(kind: Literal["l1", "l2"], strength: float | np.ndarray, convention: str) -> Penalty:
    """Returns a penalty with one of the terms; the convention must have that term even where the strength is 0."""
    get_convention(convention).multiplier(kind)
    return Penalty(**{kind: strength}, convention=convention)


def _like(value: float | np.ndarray, weights: Any) -> Any:
    """Returns a strength or centre of the kind of the weights: floats serve both, a vector goes to the device."""
    if not np.ndim(value) or isinstance(weights, np.ndarray):
        return value
    return weights.new_tensor(value)


def _shown(value: float | np.ndarray) -> str:
    """Returns a float, or a vector with at most six of its entries."""
    if not np.ndim(value):
        return repr(value)
    head = ", ".join(f"{v:.6g}" for v in value[:6])
    return f"[{head}{', ...' if len(value) > 6 else ''}]"
