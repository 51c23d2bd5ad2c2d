"""The lambda axis beside its peers: `python -m tests.benchmarks.paths [lasso] [ridge] [folds] [training] [study]`.

Everybody starts from the same rows in memory and pays for centring and Gram; ours for its certificates too. A peer's
tolerance is the loosest of a ladder at which every fit has a relative duality gap of 1e-10 or less, computed here from
the rows; looking for it is not counted, and a peer that no tolerance brings there, or that has looked for 20 seconds,
is not compared. Times are medians of runs in turn, each after a pause, in which the threads of the one before come to
rest. A run of less than a twentieth of a second is repeated for as long, and is the median of these: a processor takes
milliseconds to wake up from the pause.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from .lasso_peers import largest_gap, lasso_peers, tolerance_that_does

ROUNDS = 7
PAUSE = 0.1
REPEATED_FOR = 0.05
# Name, rows, features, correlation of neighbours.
DESIGNS = (
    ("442x10", 442, 10, 0.0),
    ("20x200", 20, 200, 0.0),
    ("100x500", 100, 500, 0.9),
    ("1e5x50", 100_000, 50, 0.0),
    ("200x5000", 200, 5_000, 0.0),
    ("5000x1000", 5_000, 1_000, 0.0),
    ("2000x2000", 2_000, 2_000, 0.0),
    ("2000x500", 2_000, 500, 0.9),
)
FOLD_DESIGNS = (("442x10", 442, 10, 0.0), ("1e5x50", 100_000, 50, 0.0), ("1e4x500", 10_000, 500, 0.0))


def rows_of(name: str, num_rows: int, num_features: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return features and target, standardised; 442x10 is the diabetes data."""
    if name == "442x10":
        from sklearn.datasets import load_diabetes

        features, target = load_diabetes(return_X_y=True)
    else:
        random = np.random.default_rng(0)
        features = random.standard_normal((num_rows, num_features))
        for j in range(1, num_features if correlation else 0):
            features[:, j] = correlation * features[:, j - 1] + np.sqrt(1 - correlation**2) * features[:, j]
        active = min(20, num_features)
        noise = 3.0 if num_rows < num_features else 1.0
        target = features[:, :active] @ random.standard_normal(active) + noise * random.standard_normal(num_rows)
    features, target = features - features.mean(0), target - target.mean()
    return np.ascontiguousarray(features / features.std(0)), target / target.std()


def in_turn(runs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of each, a run after a first one, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            time.sleep(PAUSE)
            repeats: list[float] = []
            while sum(repeats) < REPEATED_FOR:
                started = time.perf_counter()
                run()
                repeats.append(time.perf_counter() - started)
            seconds[name].append(statistics.median(repeats))
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def affordable_rounds(runs: dict[str, Callable[[], object]]) -> int:
    """Return how often to measure what takes as long as it does."""
    started = time.perf_counter()
    for run in runs.values():
        run()
    seconds = time.perf_counter() - started
    return ROUNDS if seconds < 5.0 else 3 if seconds < 30.0 else 1


def lasso() -> list[dict]:
    """Measure lasso paths of 100 lambdas."""
    import bayesreg as br

    found = []
    for design in DESIGNS:
        features, target = rows_of(*design)
        data = br.RegressionData(features, target)
        largest = np.abs(features.T @ target).max() / len(target)
        for share in (1e-2, 1e-3):
            lambdas = largest * np.geomspace(1.0, share, 100)

            def judge(weights: np.ndarray, features=features, target=target, lambdas=lambdas) -> float:
                return largest_gap(features, target, weights, lambdas)

            row = {"problem": design[0], "share": share, "peers": {}}
            runs = {"ours": lambda data=data, lambdas=lambdas: br.path(data, "l1", lambdas)}
            row["gap"] = judge(runs["ours"]().weights.numpy())
            for name, run in lasso_peers(features, target, lambdas).items():
                tolerance, why = tolerance_that_does(run, judge)
                row["peers"][name] = {"tolerance": tolerance, "why": why}
                if tolerance is not None:
                    runs[name] = lambda run=run, tolerance=tolerance: run(tolerance)
            seconds = in_turn(runs, affordable_rounds(runs))
            row["seconds"] = seconds.pop("ours")
            for name, value in seconds.items():
                row["peers"][name]["seconds"] = value
            found.append(row)
            print(json.dumps(row), file=sys.stderr)
    return found


def bare_ridge(features: np.ndarray, target: np.ndarray, ridge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights, and variances over s^2 within the span, of centred columns: eigenvectors and products alone.

    With NumPy's own threads, and nothing checked or certified: about what is to be had from one decomposition.

    Args:
        features: `(n, d)`, centred.
        target: `(n,)`, centred.
        ridge: n lambda, `(m,)`.

    Returns:
        Both `(m, d)`.
    """
    few = len(features) <= features.shape[1]
    squares, vectors = np.linalg.eigh(features @ features.T if few else features.T @ features)
    seen = squares > 1e-10 * squares[-1]
    squares, vectors = squares[seen], vectors[:, seen]
    shares = 1.0 / (squares + ridge[:, None])
    if few:  # U'Xc = S V'
        right = vectors.T @ features
        return (vectors.T @ target * shares) @ right, (shares / squares) @ np.square(right)
    return (target @ features @ vectors * shares) @ vectors.T, shares @ np.square(vectors).T


def ridge() -> list[dict]:
    """Measure ridge paths of 100 lambdas: with what one decomposition gives, and with leave-one-out."""
    from sklearn.linear_model import Ridge, RidgeCV

    import bayesreg as br

    found = []
    for design in DESIGNS:
        features, target = rows_of(*design)
        data, n = br.RegressionData(features, target), len(target)
        lambdas = np.geomspace(10.0, 1e-3, 100)

        def everything(data=data, lambdas=lambdas) -> tuple:
            path = br.path(data, "l2", lambdas, noise_scale=0.7)
            return path.covariance_diagonal, path.log_evidence, path.degrees_of_freedom

        runs = {
            "ours": everything,
            "ours, leave-one-out": lambda data=data, lambdas=lambdas: br.path(data, "l2", lambdas).leave_one_out,
            "bare": lambda x=features, y=target, a=n * lambdas: bare_ridge(x, y, a),
            "Ridge": lambda x=features, y=target, a=n * lambdas: [Ridge(alpha=s).fit(x, y).coef_ for s in a],
            "RidgeCV": lambda x=features, y=target, a=n * lambdas: RidgeCV(alphas=a).fit(x, y),
        }
        seconds = in_turn(runs, affordable_rounds(runs))
        found.append({"problem": design[0], "seconds": seconds})
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


def folds() -> list[dict]:
    """Measure ten folds of 100 lambdas, lasso."""
    from sklearn.linear_model import LassoCV, lasso_path
    from sklearn.model_selection import KFold

    import bayesreg as br

    found = []
    for design in FOLD_DESIGNS:
        features, target = rows_of(*design)
        data = br.RegressionData(features, target)
        lambdas = np.abs(features.T @ target).max() / len(target) * np.geomspace(1.0, 1e-2, 100)

        def descent(tolerance: float, x=features, y=target, lambdas=lambdas) -> np.ndarray:
            return lasso_path(x, y, alphas=lambdas, precompute=True, tol=tolerance, max_iter=10**6)[1].T

        tolerance, _ = tolerance_that_does(
            descent, lambda w, x=features, y=target, lambdas=lambdas: largest_gap(x, y, w, lambdas)
        )
        splits = KFold(10, shuffle=True, random_state=0)
        runs = {
            "ours": lambda data=data, lambdas=lambdas: br.cross_validate(data, "l1", lambdas, folds=10),
            "LassoCV": lambda x=features, y=target, lambdas=lambdas, tolerance=tolerance, splits=splits: LassoCV(
                alphas=lambdas, cv=splits, tol=tolerance, max_iter=10**6, precompute=True, n_jobs=2
            ).fit(x, y),
        }
        ours, peer = runs["ours"](), runs["LassoCV"]()
        order = np.argsort(-peer.alphas_)
        off = float(np.abs(peer.mse_path_[order].T / 2 - ours.fold_losses.numpy()).max())
        seconds = in_turn(runs, 3 if len(target) > 1000 else ROUNDS)
        found.append({"problem": design[0], "seconds": seconds, "tolerance": tolerance, "largest_difference": off})
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


def study() -> dict:
    """Measure the choice of lambda over 500 simulated data sets of the deep-learning book's experiment."""
    import bayesreg as br

    started = time.perf_counter()
    result = br.study_choice(replications=500, noise_scale=0.01)
    seconds = time.perf_counter() - started
    summary = result.summary()
    return {"seconds": seconds, "median_excess": summary["q50"].to_dict(), "mean_excess": summary["mean"].to_dict()}


def training() -> list[dict]:
    """Measure the deep-learning book's SGD for many lambdas at once."""
    from . import training_path

    return [training_path.measure(number, kind) for kind in ("l2", "l1") for number in (100, 1000)]


PARTS = {"lasso": lasso, "ridge": ridge, "folds": folds, "training": training, "study": study}


def main(names: list[str]) -> None:
    """Print what was measured as JSON, on the last line."""
    import torch

    warnings.simplefilter("ignore")  # peers say that they have not converged: their gap says how far
    found = {"cores": torch.get_num_threads()}
    for name in names or PARTS:
        found[name] = PARTS[name]()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
