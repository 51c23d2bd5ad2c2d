"""How time grows with rows, features and chains, and what a call costs round its sampling: a process of its own."""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings

import numpy as np

from . import gates

FEATURES = 20
ROWS = (1_000, 10_000, 100_000, 1_000_000)
WIDTHS = (10, 30, 100, 300, 1000)
CHAINS = (4, 16, 64, 256, 1024, 4096)
REPEATS = 5


def _data(num_rows: int, num_features: int):
    import bayesreg as br

    random = np.random.default_rng(0)
    features = random.standard_normal((num_rows, num_features))
    return br.RegressionData(features, features[:, 0] - features[:, 1] + random.standard_normal(num_rows))


def _models():
    import pyro.distributions as dist

    import bayesreg as br

    noise = dist.HalfNormal(1.0)
    return {
        "gaussian": br.LinearRegression(br.GaussianPrior(0.5), noise),
        "laplace": br.LinearRegression(br.LaplacePrior(0.25), noise),
    }


def _median_seconds(function, repeats: int = REPEATS):
    """Return the median time of a call after a first one, and what it returned last."""
    function(0)
    seconds = []
    for seed in range(1, repeats + 1):
        started = time.perf_counter()
        result = function(seed)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def by_size(sizes: list[tuple[int, int]], device: str) -> list[dict]:
    """Return, for each (rows, features), the seconds of the pass over the rows and of `sample` on the moments."""
    import bayesreg as br

    found = []
    for num_rows, num_features in sizes:
        data = _data(num_rows, num_features)
        seconds, moments = _median_seconds(lambda _, data=data: br.Moments.from_data(data), 3)
        row = {"rows": num_rows, "features": num_features, "pass_seconds": seconds}
        for name, model in _models().items():
            seconds, posterior = _median_seconds(
                lambda seed, model=model, moments=moments: br.sample(model, moments, seed=seed, device=device), 3
            )
            row[name] = {"seconds": seconds, "method": posterior.method}
        found.append(row)
    return found


def by_chains(device: str) -> list[dict]:
    """Return seconds and ESS a second against the number of chains, for the two engines of many chains."""
    import bayesreg as br

    data, model = br.load_diabetes().standardized(), _models()["laplace"]
    found = []
    for method in ("hmc", "nuts"):
        for chains in CHAINS:
            seconds, posterior = _median_seconds(
                lambda seed, chains=chains, method=method: br.sample(
                    model, data, method, chains=chains, draws=200, seed=seed, device=device
                ),
                2,
            )
            columns = [posterior.draws["weights"], posterior.draws["intercept"][..., None]]
            columns.append(posterior.draws["noise_scale"].log()[..., None])
            ess, _ = gates.smallest_ess(np.concatenate([column.numpy() for column in columns], axis=-1))
            found.append({"method": method, "chains": chains, "seconds": seconds, "ess_a_second": ess / seconds})
    return found


def overhead(device: str) -> list[dict]:
    """Return seconds of a whole call, of the engine in it, and of the summary after it, on data of two sizes."""
    import bayesreg as br

    datasets = {"442 x 10 (diabetes)": br.load_diabetes().standardized(), "1e5 x 50": _data(100_000, 50)}
    found = []
    for design, data in datasets.items():
        moments = br.Moments.from_data(data)
        for name, model in _models().items():
            for source, words in ((data, "rows"), (moments, "moments")):
                engine = []

                def call(seed, model=model, source=source, engine=engine):
                    posterior = br.sample(model, source, seed=seed, device=device)
                    engine.append(posterior.details["engine_seconds"])
                    return posterior

                seconds, posterior = _median_seconds(call)
                summary, _ = _median_seconds(lambda _, posterior=posterior: posterior.summary(), 3)
                found.append(
                    {
                        "design": design,
                        "prior": name,
                        "data": words,
                        "method": posterior.method,
                        "call_seconds": seconds,
                        "engine_seconds": statistics.median(engine[1:]),
                        "summary_seconds": summary,
                    }
                )
    return found


def main() -> None:
    """Write all three tables to stdout as JSON."""
    import bayesreg as br

    device = sys.argv[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", br.ConvergenceWarning)
        found = {
            "rows": by_size([(num_rows, FEATURES) for num_rows in ROWS], device),
            "features": by_size([(20 * width, width) for width in WIDTHS], device),
            "chains": by_chains(device),
            "overhead": overhead(device),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
