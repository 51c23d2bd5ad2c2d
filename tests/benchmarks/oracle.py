"""The Gibbs sampler of `tests/oracles.py`, in NumPy alone: what the engines are judged by where rows are few."""

from __future__ import annotations

import numpy as np

from .problems import HALF_NORMAL_SCALE, Problem
from .run_result import Prepared, Run


def imports() -> None:
    """Nothing but NumPy is needed."""


def prepare(problem: Problem, rows, settings: dict, device: str) -> Prepared:
    """Prepare runs of the sampler, each from new starting points.

    Args:
        problem: One with a Laplace prior of known scale and the noise learned.
        rows: Features and target.
        settings: ``chains``, ``draws``.
        device: Ignored.

    Returns:
        The runs.
    """
    from tests.oracles import laplace_gibbs_noise_collapsed

    features, target = (np.asarray(part) for part in rows)

    def run(seed: int) -> Run:
        draws = laplace_gibbs_noise_collapsed(
            features, target, lambda noise: -0.5 * (noise / HALF_NORMAL_SCALE) ** 2, problem.prior_scale,
            settings["chains"], settings["draws"], seed,
        )  # fmt: skip
        named = {"weights": draws[..., :-2], "intercept": draws[..., -2], "noise_scale": np.exp(draws[..., -1])}
        return Run(named, divergences=0)

    return Prepared(None, run)
