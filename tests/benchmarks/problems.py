"""The problems: data, priors and scales, the same for every engine and every peer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Of a learned noise scale, and of a learned prior scale: HalfNormal.
HALF_NORMAL_SCALE = 1.0


@dataclass(frozen=True)
class Problem:
    """y ~ Normal(b + x'w, s^2), b flat; w ~ Normal(0, t^2) or Laplace(0, t); a scale of None is HalfNormal(1).

    Attributes:
        name: what the command line and the table call it.
        design: the name of its data in `DESIGNS`.
        prior: "gaussian" or "laplace".
        prior_scale, noise_scale: numbers; None where learned.
    """

    name: str
    design: str
    prior: str
    prior_scale: float | None
    noise_scale: float | None = None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return DESIGNS[self.design][0]

    @property
    def learned(self) -> list[str]:
        """The names of the learned scales."""
        scales = {"noise_scale": self.noise_scale, "prior_scale": self.prior_scale}
        return [name for name, known in scales.items() if known is None]

    @property
    def parameters(self) -> list[str]:
        """The names of all that is judged, in the order of `matrix`."""
        weights = [f"weights[{index}]" for index in range(self.shape[1])]
        return [*weights, "intercept", *(f"log {name}" for name in self.learned)]

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(n, d)`` and target ``(n,)``, the same at each call."""
        return DESIGNS[self.design][1]()

    def matrix(self, draws: dict[str, np.ndarray]) -> np.ndarray:
        """Return named draws as ``(chain, draw, parameter)``, scales as their logarithms."""
        columns = [np.asarray(draws["weights"]), np.asarray(draws["intercept"])[..., None]]
        columns += [np.log(np.asarray(draws[name]))[..., None] for name in self.learned]
        return np.concatenate(columns, axis=-1, dtype=np.float64)

    def describe(self) -> str:
        """Return the model in a few words."""
        prior = "learned" if self.prior_scale is None else f"{self.prior_scale:g}"
        noise = "learned" if self.noise_scale is None else f"{self.noise_scale:g}"
        return f"{self.design}, {self.prior.capitalize()} {prior}, noise {noise}"


def _diabetes():
    from sklearn.datasets import load_diabetes

    features, target = load_diabetes(return_X_y=True)
    return (features - features.mean(0)) / features.std(0), (target - target.mean()) / target.std()


def _weight_decay():
    import bayesreg

    data = bayesreg.simulate_weight_decay(seed=0)[0]
    return np.array(data.features), np.array(data.target)


def _sparse(num_rows, num_features, correlation=0.0, num_active=None):
    """Rows whose neighbouring columns have the given correlation; a fifth of the weights, or so many, is not 0."""
    random = np.random.default_rng(0)
    features = random.standard_normal((num_rows, num_features))
    for column in range(1, num_features if correlation else 0):
        features[:, column] *= np.sqrt(1.0 - correlation**2)
        features[:, column] += correlation * features[:, column - 1]
    active = random.permutation(num_features)[: num_active or num_features // 5]
    weights = np.zeros(num_features)
    weights[active] = random.normal(0.0, 0.5, len(active))
    return features, features @ weights + 1.0 + random.standard_normal(num_rows)


DESIGNS = {
    "442 x 10 (diabetes)": ((442, 10), _diabetes),
    "20 x 200": ((20, 200), _weight_decay),
    "100 x 500, correlation 0.9": ((100, 500), lambda: _sparse(100, 500, correlation=0.9, num_active=10)),
    "1e5 x 50": ((100_000, 50), lambda: _sparse(100_000, 50)),
    "1e6 x 100": ((1_000_000, 100), lambda: _sparse(1_000_000, 100)),
    "1e5 x 1000": ((100_000, 1000), lambda: _sparse(100_000, 1000)),
}

_DIABETES = "442 x 10 (diabetes)"
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("diabetes-gaussian", _DIABETES, "gaussian", 0.5),
        Problem("diabetes-gaussian-known", _DIABETES, "gaussian", 0.5, 0.7),
        Problem("diabetes-gaussian-both", _DIABETES, "gaussian", None),
        Problem("diabetes-gaussian-prior", _DIABETES, "gaussian", None, 0.7),
        Problem("diabetes-laplace", _DIABETES, "laplace", 0.25),
        Problem("diabetes-laplace-known", _DIABETES, "laplace", 0.25, 0.7),
        Problem("diabetes-laplace-both", _DIABETES, "laplace", None),
        Problem("diabetes-laplace-prior", _DIABETES, "laplace", None, 0.7),
        Problem("20x200-gaussian", "20 x 200", "gaussian", 0.01),
        Problem("20x200-laplace-0.007", "20 x 200", "laplace", 0.007),
        Problem("20x200-laplace-0.25", "20 x 200", "laplace", 0.25),
        Problem("100x500-gaussian", "100 x 500, correlation 0.9", "gaussian", 0.1),
        Problem("100x500-laplace", "100 x 500, correlation 0.9", "laplace", 0.1),
        Problem("1e5x50-gaussian", "1e5 x 50", "gaussian", 0.5),
        Problem("1e5x50-laplace", "1e5 x 50", "laplace", 0.25),
        Problem("1e5x50-laplace-both", "1e5 x 50", "laplace", None),
        Problem("1e6x100-gaussian", "1e6 x 100", "gaussian", 0.5),
        Problem("1e6x100-laplace", "1e6 x 100", "laplace", 0.25),
        Problem("1e5x1000-gaussian", "1e5 x 1000", "gaussian", 0.5),
        Problem("1e5x1000-laplace", "1e5 x 1000", "laplace", 0.25),
    )
}
