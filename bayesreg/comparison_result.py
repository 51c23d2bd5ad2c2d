"""What a comparison of routes to the MAP found: a row a route, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.inference.map import MapEstimate
from bayesreg.penalties import Penalty

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Route:
    """One way to the point, and how close it came.

    Attributes:
        name: What was run.
        weights: Its weights ``(d,)``.
        intercept: Its intercept; None where the best one for the weights is meant.
        noise_scale: The noise scale it found or was given.
        objective: J(w, b), ``mean-half-squared``.
        relative_gap: Upper bound of J - min J over the loss of weights 0, |yc|^2 / (2 n); None under a flat prior.
        kkt_residual: As `certify` defines it.
        weight_difference: max_j |w_j - w_j of the first route|.
        fit_difference: Root mean square over the rows of (fitted value - that of the first route), centred.
        l1_norm_difference: | |w|_1 - |w of the first route|_1 |.
        zeros: Number of weights exactly at the penalty's centre.
        seconds: Wall time.
        tolerance: What its gap (its KKT residual under a flat prior) is held to.
        passed: Whether it is met.
        same_point: For a wrong lambda: whether its optimum is also that at lambda, as far as float64 tells.
    """

    name: str
    weights: np.ndarray = field(repr=False)
    intercept: float | None
    noise_scale: float
    objective: float
    relative_gap: float | None
    kkt_residual: float
    weight_difference: float
    fit_difference: float
    l1_norm_difference: float
    zeros: int
    seconds: float
    tolerance: float
    passed: bool
    same_point: bool = False


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found, in the units of the data.

    Attributes:
        routes: One `Route` a road, the independent optimum first.
        wrong: The optima at lambda / 2 and 2 lambda, judged against lambda at the strictest tolerance: they must fail,
            unless they are the ``same_point``. Empty under a flat prior, which has no lambda.
        penalty: The penalty that the prior stands for, ``mean-half-squared``.
        noise_scale: The noise scale at which it does: see `noise_source`.
        unique: Whether strong convexity makes the minimiser unique; where not, compare fitted values and not weights.
        estimate: The `MapEstimate`.
        redundant_columns: Which columns are constant or linear copies of others, in a sentence; empty where none is.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> found = br.compare(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data)
        >>> found.passed, found.penalty, found.noise_source
        (True, Penalty(l2=0.004434389140271493, convention='mean-half-squared'), 'as given')
        >>> [(route.name, route.passed) for route in found.wrong]
        [('lambda / 2', False), ('2 lambda', False)]
    """

    routes: tuple[Route, ...]
    wrong: tuple[Route, ...]
    penalty: Penalty
    noise_scale: float
    unique: bool
    estimate: MapEstimate
    redundant_columns: str = ""

    def __repr__(self) -> str:
        within = sum(route.passed for route in self.routes)
        columns = f"; {self.redundant_columns}" if self.redundant_columns else ""
        return (
            f"Comparison({'passed' if self.passed else 'failed'}, {within} of {len(self.routes)} routes within "
            f"tolerance, {self.penalty!r}, noise scale {self.noise_scale:.6g} {self.noise_source}{columns})"
        )

    @property
    def noise_source(self) -> str:
        """Where the noise scale is from: ``as given``, or, where the model learns it, ``at the joint mode``."""
        return "at the joint mode" if self.estimate.model.noise_is_learned else "as given"

    @property
    def passed(self) -> bool:
        """Whether each route meets its tolerance, and each wrong lambda, but for a ``same_point``, fails."""
        missed = any(route.passed and not route.same_point for route in self.wrong)
        return all(route.passed for route in self.routes) and not missed

    def to_frame(self) -> pd.DataFrame:
        """Return one row a route to the same point.

        Returns:
            A DataFrame with the fields of `Route`, but for weights, intercept and ``same_point``: ``name``,
            ``noise_scale``, ``objective``, ``relative_gap``, ``kkt_residual``, ``weight_difference``,
            ``fit_difference``, ``l1_norm_difference``, ``zeros``, ``seconds``, ``tolerance`` and ``passed``.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> found = br.compare(br.LinearRegression(br.FlatPrior(), noise_scale=0.7), data)
            >>> found.to_frame()[["name", "passed"]]
                         name  passed
            0   least squares    True
            1    map_estimate    True
            2  Pyro AutoDelta    True
            3             SGD    True
            4    scikit-learn    True
        """
        import pandas as pd

        columns = [name for name in Route.__dataclass_fields__ if name not in ("weights", "intercept", "same_point")]
        return pd.DataFrame([{name: getattr(route, name) for name in columns} for route in self.routes])

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison in the words of JSON: the verdict, lambda, the routes and the wrong lambdas."""

        def row(route: Route) -> dict[str, Any]:
            values = {name: getattr(route, name) for name in Route.__dataclass_fields__}
            return values | {"weights": route.weights.tolist()}

        def number(value: float | np.ndarray) -> float | list[float]:
            return float(value) if np.ndim(value) == 0 else np.asarray(value).tolist()

        penalty = {name: number(getattr(self.penalty, name)) for name in ("l1", "l2", "centre")}
        return {
            "passed": self.passed,
            "penalty": penalty | {"convention": self.penalty.convention},
            "noise_scale": self.noise_scale,
            "noise_source": self.noise_source,
            "unique": self.unique,
            "redundant_columns": self.redundant_columns,
            "routes": [row(route) for route in self.routes],
            "wrong_lambda": [row(route) for route in self.wrong],
        }
