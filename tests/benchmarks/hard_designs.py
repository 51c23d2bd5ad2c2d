"""Lasso paths on 900 designs with ties, copies, polynomials, constant columns: on how many is every fit certified?

A design counts for a solver where each of 100 fits, to lambda_max / 100, has a relative duality gap of 1e-10 or less,
computed here from the rows. A peer has the tightest tolerance, which is as near as it comes, and at most 10,000
iterations a fit (scikit-learn's default is 1,000; celer and skglm have 20 rounds of 100).
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable

import numpy as np

from .lasso_peers import LARGEST_GAP, TOLERANCES, largest_gap, lasso_peers

EACH = 75  # of 12 kinds
MOST_ITERATIONS, ROUNDS = 10_000, (20, 100)


def of_kind(kind: str, design_of: Callable, each: int) -> dict:
    """Return of how many designs each solver certified every fit.

    Args:
        kind: What `design_of` takes.
        design_of: Makes the rows of a kind and a seed.
        each: Number of designs.

    Returns:
        `kind`, `designs` and, by solver, `certified`.
    """
    import bayesreg as br

    certified: dict[str, int] = {}
    seed = designs = 0
    while designs < each:
        rows = design_of(kind, seed)
        seed += 1
        features, target = rows.features - rows.features.mean(axis=0), rows.target - rows.target.mean()
        largest = np.abs(features.T @ target).max() / len(target)
        if largest <= 1e-12:  # the target is constant, or no column says anything of it
            continue
        designs += 1
        lambdas = largest * np.geomspace(1.0, 1e-2, 100)
        runs = {"ours": lambda _, x=features, y=target, s=lambdas: br.path(br.RegressionData(x, y), "l1", s).weights}
        for name, run in (runs | lasso_peers(features, target, lambdas, MOST_ITERATIONS, ROUNDS)).items():
            try:
                gap = largest_gap(features, target, np.asarray(run(TOLERANCES[-1])), lambdas)
            except ImportError:  # it is not there
                continue
            except Exception:  # a solver that gives up has certified nothing
                gap = np.inf
            certified[name] = certified.get(name, 0) + bool(gap <= LARGEST_GAP)
    return {"kind": kind, "designs": designs, "certified": certified}


def main() -> None:
    """Print what was counted as JSON, on the last line: a row a kind of design."""
    from tests.path_designs import KINDS, design_of

    warnings.simplefilter("ignore")  # peers say that they have not converged: their gap says how far
    found = []
    for kind in KINDS:
        found.append(of_kind(kind, design_of, EACH))
        print(json.dumps(found[-1]), file=sys.stderr)
    print(json.dumps({"kinds": found}))


if __name__ == "__main__":
    main()
