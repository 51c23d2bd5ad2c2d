"""The book's SGD for many lambdas: `train_path` against the loop over `torch.optim.SGD`, one lambda after the other.

Both take the same start and the same batches, in float64, and keep no history: `train_path` makes its own when asked,
which is timed beside it. Every lambda costs the loop the same, so that a few of them, spread over the axis, are timed
and stand for the rest; that holds for its side of the largest difference too.

    python -m tests.benchmarks.training_path
"""

from __future__ import annotations

import json
import statistics
import time

import numpy as np
import torch

SETTINGS = {"epochs": 100, "batch_size": 5, "learning_rate": 0.003}


def loop(data, lambdas, kind: str = "l2", seed: int = 0) -> np.ndarray:
    """Return the weights (L, d) of the plainest program: SGD on half the mean squared error, one run after the other.

    L1 enters by its proximal step.
    """
    features, target = torch.tensor(data.features), torch.tensor(data.target)
    rate, found = SETTINGS["learning_rate"], []
    for strength in lambdas:
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(features.shape[1], generator=generator, dtype=torch.float64).requires_grad_()
        intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)
        decay = float(strength) if kind == "l2" else 0.0
        optimizer = torch.optim.SGD([{"params": [weights], "weight_decay": decay}, {"params": [intercept]}], lr=rate)
        for _ in range(SETTINGS["epochs"]):
            for batch in torch.randperm(len(target), generator=generator).split(SETTINGS["batch_size"]):
                optimizer.zero_grad()
                (torch.nn.functional.mse_loss(features[batch] @ weights + intercept, target[batch]) / 2).backward()
                optimizer.step()
                if kind == "l1":
                    with torch.no_grad():
                        weights -= weights.clip(-rate * strength, rate * strength)
        found.append(weights.detach().numpy())
    return np.stack(found)


def measure(num_lambdas: int = 100, kind: str = "l2", repeats: int = 5, looped: int = 8) -> dict:
    """Time both in turn on the book's problem (n = 20, d = 200).

    Args:
        num_lambdas: Lambdas of `train_path`, and of the loop that the timed part stands for.
        kind: "l2" or "l1".
        repeats: Runs of each, after a first one.
        looped: How many of the lambdas the loop takes.

    Returns:
        Median seconds, the median of the ratios of the runs, and the largest difference between the weights.
    """
    import bayesreg as br

    data, test = br.simulate_weight_decay(seed=0)
    lambdas = np.linspace(0.0, 3.0 if kind == "l2" else 0.3, num_lambdas)
    chosen = np.unique(np.linspace(0, num_lambdas - 1, looped).astype(int))
    path = br.train_path(data, lambdas, kind, test=test, **SETTINGS)
    difference = np.abs(path.weights[chosen, 0].numpy() - loop(data, lambdas[chosen], kind)).max()
    seconds = {"loop": [], "path": [], "history": []}
    for _ in range(repeats):
        taken, _ = _timed(loop, data, lambdas[chosen], kind)
        seconds["loop"].append(taken * num_lambdas / len(chosen))
        taken, path = _timed(br.train_path, data, lambdas, kind, test=test, **SETTINGS)
        seconds["path"].append(taken)
        seconds["history"].append(_timed(getattr, path, "history")[0])
    together = [path + history for path, history in zip(seconds["path"], seconds["history"], strict=True)]
    return {
        "num_lambdas": num_lambdas,
        "kind": kind,
        **{f"{name}_seconds": statistics.median(values) for name, values in seconds.items()},
        "ratio": _median_ratio(seconds["loop"], seconds["path"]),
        "ratio_with_history": _median_ratio(seconds["loop"], together),
        "largest_difference": float(difference),
    }


def _timed(function, *args, **kwargs) -> tuple:
    started = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - started, result


def _median_ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(loop / path for loop, path in zip(theirs, ours, strict=True))


if __name__ == "__main__":
    print(json.dumps([measure(number, kind) for kind in ("l2", "l1") for number in (100, 1000)], indent=1))
