"""Pyro's NUTS on a Pyro program as its users write it, one process a chain."""

from __future__ import annotations

import time
import warnings

import numpy as np

from .engines import model_of
from .problems import Problem
from .run_result import Prepared, Run


def imports() -> None:
    """Import Pyro and torch."""
    import pyro.infer

    _ = pyro.infer.MCMC


def prepare(problem: Problem, rows, settings: dict, device: str) -> Prepared:
    """Prepare Pyro's MCMC: nothing is compiled, each run is like the first.

    Args:
        problem: The problem.
        rows: Features and target.
        settings: ``chains``, ``draws``, ``tune``.
        device: Ignored.

    Returns:
        The runs.
    """
    import pyro
    import torch
    from pyro.infer import MCMC, NUTS

    features, target = (torch.tensor(np.asarray(part), dtype=torch.float64) for part in rows)
    chains, draws, tune = settings["chains"], settings["draws"], settings["tune"]
    program = model_of(problem).pyro_model  # a plain Pyro program: plates, priors and an observed site

    def run(seed: int) -> Run:
        pyro.set_rng_seed(seed)
        started = {}

        def watch(kernel, samples, stage, i):
            if stage == "Sample":
                started.setdefault("sampling", time.perf_counter())

        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mcmc = MCMC(
                NUTS(program, full_mass=True), num_samples=draws, warmup_steps=tune, num_chains=chains,
                mp_context="fork" if chains > 1 else None, disable_progbar=True, hook_fn=watch if chains == 1 else None,
            )  # fmt: skip
            mcmc.run((features, target))
        named = {name: values.detach().numpy() for name, values in mcmc.get_samples(group_by_chain=True).items()}
        divergent = sum(len(which) for which in mcmc.diagnostics()["divergences"].values())
        warmup = started["sampling"] - begin if started else None
        return Run(named, divergent, warmup=warmup, info={"chains": chains, "draws": draws})

    return Prepared(None, run)
