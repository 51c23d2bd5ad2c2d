"""SGD with dropout on the inputs, for several rates at once: what `bayesreg.training.remedies.dropout` measures."""

from __future__ import annotations

import numpy as np

from bayesreg.data import RegressionData


def train_with_dropout(
    data: RegressionData,
    rates: np.ndarray,
    strengths: np.ndarray,
    seed: int,
    steps: int,
    batch_size: int,
    intercept: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Average the second half of a run of SGD from zeros, on half the mean squared error of masked rows.

    Rows are drawn with replacement, so that steps are independent: w and its mean then obey one linear recursion, whose
    fixed point is the minimiser of the expected loss at any stable rate (Bach and Moulines, "Non-strongly-convex smooth
    stochastic approximation with convergence rate O(1/n)", NeurIPS 2013). The step is 1 / (L + R^2 / B), L the largest
    eigenvalue of the expected Hessian and R the length of the longest masked row: half of what is stable on average.

    Args:
        data: The rows.
        rates: Probabilities p of dropping an input, (K,).
        strengths: What they add to the Hessian's diagonal, (K, d).
        seed: Of rows and masks; all rates share them.
        steps: Number of steps.
        batch_size: Rows B of a step.
        intercept: Whether there is an intercept; it is not masked.

    Returns:
        Weights (K, d) and intercepts (K,).
    """
    random = np.random.default_rng(seed)
    features, target = data.features, data.target
    num_rows, num_features = features.shape
    step = _steps(features, rates, strengths, batch_size, intercept)[:, None]
    kept = (rates[:, None, None], 1.0 / (1.0 - rates)[:, None, None])
    weights, offsets = np.zeros((len(rates), num_features)), np.zeros((len(rates), 1))
    weight_sums, offset_sums = np.zeros_like(weights), np.zeros_like(offsets)
    for done in range(steps):
        chosen = random.integers(0, num_rows, batch_size)
        masked = (random.random((batch_size, num_features)) >= kept[0]) * (features[chosen] * kept[1])
        errors = (masked @ weights[:, :, None])[:, :, 0] + offsets - target[chosen]
        errors *= step / batch_size
        weights -= (errors[:, None] @ masked)[:, 0]
        if intercept:
            offsets -= errors.sum(axis=1, keepdims=True)
        if done >= steps // 2:
            weight_sums += weights
            offset_sums += offsets
    averaged = steps - steps // 2
    return weight_sums / averaged, offset_sums[:, 0] / averaged


def _steps(
    features: np.ndarray, rates: np.ndarray, strengths: np.ndarray, batch_size: int, intercept: bool
) -> np.ndarray:
    """Return the size of a step for each rate, (K,)."""
    rows = np.column_stack([features, np.full(len(features), float(intercept))])
    gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    largest = np.linalg.eigvalsh(gram)[-1] / len(rows) + strengths.max(axis=1)
    longest = np.square(features).sum(axis=1).max() / (1.0 - rates) ** 2 + intercept
    return 1.0 / (largest + longest / batch_size)
