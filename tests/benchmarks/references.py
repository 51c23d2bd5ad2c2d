"""What draws must match: quadrature under a Gaussian prior, long runs in `references/` under a Laplace prior."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .contestants import Contestant
from .gates import Reference
from .problems import Problem
from .quadrature import gaussian_reference

FOLDER = Path(__file__).parent / "references"


def references(problem: Problem, rows: list[np.ndarray]) -> dict[str, Reference]:
    """Return the references of a problem by their sources.

    Args:
        problem: The problem.
        rows: Features and target.

    Returns:
        ``{"quadrature": ...}``, or the long runs, none where there is no file.
    """
    if problem.prior == "gaussian":
        return {"quadrature": gaussian_reference(problem, *rows)}
    path = FOLDER / f"{problem.name}.json"
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return {
        source: Reference(*(np.array(table[key]) for key in ("mean", "sd", "mean_error", "sd_error")), source)
        for source, table in stored.items()
    }


def not_its_own(found: dict[str, Reference], contestant: Contestant) -> str:
    """Return the source that a contestant is judged by: the first that is not a run of the same engine.

    Args:
        found: The references.
        contestant: Who is judged; ``auto`` is judged as if it were all engines that it picks from.

    Returns:
        A key of `found`.

    Raises:
        ValueError: There is none.
    """
    own = (
        ("exact", "rejection", "hmc", "gibbs")
        if contestant.name.startswith("auto")
        else (contestant.name.split(",")[0],)
    )
    own = ("NumPyro",) if contestant.module == "peers_numpyro" else own
    for source in found:
        if not source.startswith(own):
            return source
    raise ValueError(f"no reference for {contestant.name} among {', '.join(found) or 'none'}: see --references")
