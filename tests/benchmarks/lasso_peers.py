"""Lasso paths by others, and the duality gap of what they return."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

LARGEST_GAP = 1e-10
TOLERANCES = (1e-6, 1e-8, 1e-9, 1e-10, 4e-11, 1e-11, 1e-12, 1e-14)
LONGEST = 20.0


def largest_gap(features: np.ndarray, target: np.ndarray, weights: np.ndarray, lambdas: np.ndarray) -> float:
    """Return the largest relative duality gap of lasso fits `(m, d)`, from centred rows."""
    n = len(target)
    residuals = target - weights @ features.T
    correlations = residuals @ features / n
    multiple = np.minimum(1.0, lambdas / np.maximum(np.abs(correlations).max(axis=1), 1e-300))
    gaps = np.square(1.0 - multiple) * np.square(residuals).sum(axis=1) / (2 * n)
    kinks = lambdas[:, None] * np.abs(weights) - multiple[:, None] * correlations * weights
    return float(((gaps + kinks.sum(axis=1)) / (target @ target / (2 * n))).max())


def lasso_peers(
    features: np.ndarray,
    target: np.ndarray,
    lambdas: np.ndarray,
    most: int = 10**6,
    rounds: tuple[int, int] = (1_000, 50_000),
) -> dict[str, Callable[[float], np.ndarray]]:
    """Return the peers: functions of a tolerance that return weights `(m, d)`.

    Args:
        features: `(n, d)`.
        target: `(n,)`.
        lambdas: Descending, `(m,)`.
        most: Iterations of a fit by scikit-learn.
        rounds: Those of a fit by celer and skglm, and the iterations of each.

    Returns:
        The functions by name.
    """
    from sklearn.linear_model import lars_path, lars_path_gram, lasso_path

    n, d = features.shape
    limits = dict(zip(("max_iter", "max_epochs"), rounds, strict=True))

    def centred() -> tuple[np.ndarray, np.ndarray]:
        return features - features.mean(0), target - target.mean()

    def between_knots(knots: np.ndarray, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(knots)
        return np.stack([np.interp(lambdas, knots[order], row[order]) for row in weights], axis=1)

    def sklearn_descent(tolerance: float) -> np.ndarray:
        x, y = centred()
        return lasso_path(x, y, alphas=lambdas, precompute=d <= 3000, tol=tolerance, max_iter=most)[1].T

    def sklearn_lars(_: float) -> np.ndarray:
        x, y = centred()
        knots, _, weights = lars_path(x, y, alpha_min=lambdas[-1], method="lasso", max_iter=most)
        return between_knots(knots, weights)

    def sklearn_lars_gram(_: float) -> np.ndarray:
        x, y = centred()
        found = lars_path_gram(
            Xy=x.T @ y, Gram=x.T @ x, n_samples=n, alpha_min=lambdas[-1], method="lasso", max_iter=most
        )
        return between_knots(found[0], found[2])

    def celer_path(tolerance: float) -> np.ndarray:
        from celer import celer_path as path

        x, y = centred()
        found = path(np.asfortranarray(x), y, pb="lasso", alphas=lambdas, tol=tolerance, **limits)
        return found[1].T

    def skglm_path(tolerance: float) -> np.ndarray:
        from skglm import Lasso

        x, y = centred()
        found = Lasso(tol=tolerance, fit_intercept=False, **limits).path(np.asfortranarray(x), y, alphas=lambdas)
        return found[1].T

    peers = {"lasso_path": sklearn_descent, "lars_path": sklearn_lars, "celer": celer_path, "skglm": skglm_path}
    return peers | ({"lars_path_gram": sklearn_lars_gram} if d <= 3000 else {})


def tolerance_that_does(run: Callable, judge: Callable[[np.ndarray], float]) -> tuple[float | None, str]:
    """Return the loosest tolerance at which a peer's fits have the gap, or None and why there is none."""
    reached, started = np.inf, time.perf_counter()
    for tolerance in TOLERANCES if run.__name__ not in ("sklearn_lars", "sklearn_lars_gram") else (0.0,):
        try:
            gap = judge(run(tolerance))
        except Exception as error:
            return None, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        reached = min(reached, gap)
        if gap <= LARGEST_GAP:
            return tolerance, ""
        if time.perf_counter() - started > LONGEST:
            return None, f"more than {LONGEST:.0f} s, gap {reached:.0e}"
    return None, f"gap {reached:.0e}"
