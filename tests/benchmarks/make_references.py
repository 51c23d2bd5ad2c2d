"""Long runs of two unrelated samplers on each Laplace problem, kept in `references/`: each judges the other."""

from __future__ import annotations

import json
from pathlib import Path

from .contestants import Contestant
from .gates import LARGEST_R_HAT
from .measure import Process
from .problems import Problem
from .references import FOLDER

WANTED_ESS = 40_000
SECONDS = 240.0
# A run in its process, however slow: these are made once.
PATIENCE = 3600.0


def samplers(problem: Problem) -> list[tuple[str, Contestant]]:
    """Return the source's name and the contestant of each long run: one that is unrelated, and an engine of ours.

    The unrelated one is NumPyro on the moments; with fewer rows than columns, where NUTS creeps, the Gibbs sampler of
    `tests/oracles.py`; and from 500 weights on, where NumPyro takes hours, our NUTS: another algorithm than those that
    it judges.
    """
    rows, features = problem.shape
    if rows < 2 * features:
        method = "gibbs"
        other = ("NumPy Gibbs sampler", Contestant("NumPy Gibbs sampler", "oracle", {"chains": 8, "draws": 2000}))
    else:
        method = "rejection"
        settings = {"potential": "on moments", "chains": 8, "draws": 4000 if features <= 100 else 1200, "tune": 1000}
        other = ("NumPyro NUTS", Contestant("NumPyro", "peers_numpyro", settings))
        if features >= 500:
            other = ("nuts", Contestant("nuts", "engines", {"method": "nuts", "chains": 16}, is_ours=True))
    ours = {"method": method, "draws": 10_000 if features < 500 else 2000}
    both = [other, (method, Contestant(method, "engines", ours, is_ours=True))]
    return [(f"{source}, a long run", contestant) for source, contestant in both]


def make(problem: Problem, rows: list[Path], root: Path, say=print) -> None:
    """Make both long runs and write them; one that cannot be made leaves what is stored of it.

    Args:
        problem: One with a Laplace prior.
        rows: The files of features and target.
        root: The repository's root.
        say: Prints a line of progress.
    """
    path = FOLDER / f"{problem.name}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    for source, contestant in samplers(problem):
        request = {
            "problem": problem.name, "module": contestant.module, "settings": contestant.settings, "device": "cpu",
            "rows": [str(path) for path in rows], "reference": "",
        }  # fmt: skip
        process = Process(contestant, request, root, PATIENCE)
        while process.not_run is None and sum(run["ess"] for run in process.runs) < WANTED_ESS:
            if sum(run["seconds"] for run in process.runs) > SECONDS:
                break
            process.runs.append(process.do("run", len(process.runs)))
        table = process.do("summarize") if process.not_run is None else {}
        process.close()
        if process.not_run is not None:
            say(f"  {source}: not run: {process.not_run}")
            continue
        say(f"  {source}: ESS {table['ess']:,.0f}, R-hat {table['r_hat']:.4f}, {table['divergences']} divergences")
        if table["r_hat"] < LARGEST_R_HAT:
            stored[source] = table
    if stored:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(stored) + "\n")
