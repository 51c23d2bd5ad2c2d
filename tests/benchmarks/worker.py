"""One contestant on one problem in a process of its own: reads requests from stdin, answers each in a line of JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback

import numpy as np

from . import gates
from .problems import PROBLEMS
from .run_result import NotRun, Prepared, Run


class Worker:
    """Imports, first run, further runs, verdict; each timed here, where nothing but the work is in between."""

    def __init__(self, request: dict):
        self.problem = PROBLEMS[request["problem"]]
        self.module = importlib.import_module(f".{request['module']}", package=__package__)
        self.request = request
        self.pool: list[np.ndarray] = []
        self.divergences = 0
        self.prepared: Prepared | None = None
        self.from_moments = None

    def first(self) -> dict:
        """Import, prepare, compile and run once: what a program pays in a fresh process."""
        started = time.perf_counter()
        self.module.imports()
        imported = time.perf_counter()
        rows = [np.load(path, mmap_mode="r") for path in self.request["rows"]]
        self.prepared = self.module.prepare(self.problem, rows, self.request["settings"], self.request["device"])
        answer = {"import_seconds": imported - started}
        started = time.perf_counter()
        if self.prepared.compile is not None:
            self.prepared.compile()
        answer["compile_seconds"] = time.perf_counter() - started
        return answer | self.run(0)

    def run(self, seed: int) -> dict:
        """Run once more; the draws join the pool."""
        answer, draws, run = self._timed(self.prepared.run, seed)
        self.pool.append(draws)
        self.divergences += run.divergences
        return answer

    def moments(self, seed: int) -> dict:
        """Run once more with the pass over the data done before."""
        if self.prepared.from_moments is None:
            return {}
        self.from_moments = self.from_moments or self.prepared.from_moments()
        return self._timed(self.from_moments, seed)[0]

    def judge(self, suspects: list[int] | None = None) -> dict:
        """Judge the pool against the reference, and empty it."""
        stored = np.load(self.request["reference"])
        reference = gates.Reference(
            *(stored[key] for key in ("mean", "sd", "mean_error", "sd_error")), str(stored["source"])
        )
        shortest = min(draws.shape[1] for draws in self.pool)
        pool = np.concatenate([draws[:, -shortest:] for draws in self.pool])
        verdict = gates.judge(pool, self.divergences, reference, self.problem.parameters, suspects)
        self.pool, self.divergences = [], 0
        return verdict.to_dict()

    def summarize(self) -> dict:
        """Return means and deviations of the pool, and their standard errors, as a reference."""
        pool = np.concatenate(self.pool)
        ess, squared_ess = gates.effective_sizes(pool)
        mean, sd = pool.mean((0, 1)), pool.std((0, 1))
        squared_error = ((pool - mean) ** 2).std((0, 1)) / np.sqrt(squared_ess)
        numbers = {"mean": mean, "sd": sd, "mean_error": sd / np.sqrt(ess), "sd_error": squared_error / (2.0 * sd)}
        return {
            "r_hat": gates.largest_r_hat(pool),
            "ess": float(min(ess.min(), squared_ess.min())),
            "divergences": self.divergences,
            "draws": pool.shape[0] * pool.shape[1],
            **{name: [float(f"{value:.9g}") for value in values] for name, values in numbers.items()},
        }

    def _timed(self, function, seed: int) -> tuple[dict, np.ndarray, Run]:
        started = time.perf_counter()
        run = function(seed)
        seconds = time.perf_counter() - started
        draws = self.problem.matrix(run.draws)
        ess, slowest = gates.smallest_ess(draws)
        warmup = run.warmup if run.warmup_share is None else run.warmup_share * seconds
        answer = {
            "seconds": seconds,
            "warmup_seconds": warmup,
            "ess": ess,
            "slowest": self.problem.parameters[slowest],
            "info": run.info,
        }
        return answer, draws, run


def main() -> None:
    """Serve requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(request)
                answer = worker.first()
            else:
                answer = getattr(worker, request["do"])(*request["arguments"])
        except NotRun as reason:
            answer = {"not_run": str(reason)}
        except Exception as error:  # a contestant that breaks is a line of the table, not the end of the benchmark
            answer = {"not_run": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
