"""nutpie on a PyMC model as its users write it, chains on all cores."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from .contestants import LONGEST_RUN
from .problems import HALF_NORMAL_SCALE, Problem
from .run_result import NotRun, Prepared, Run


def imports() -> None:
    """Import PyMC and nutpie; what PyTensor compiles goes to a folder of its own, as at a program's first run."""
    os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={tempfile.mkdtemp(prefix='pytensor-')}"
    import nutpie
    import pymc

    _ = (nutpie.sample, pymc.Model)


def model_of(problem: Problem, features: np.ndarray, target: np.ndarray):
    """Return the PyMC model."""
    import pymc

    with pymc.Model() as model:
        prior_scale, noise_scale = (
            pymc.HalfNormal(name, HALF_NORMAL_SCALE) if known is None else known
            for name, known in (("prior_scale", problem.prior_scale), ("noise_scale", problem.noise_scale))
        )
        if problem.prior == "gaussian":
            weights = pymc.Normal("weights", 0.0, prior_scale, shape=features.shape[1])
        else:
            weights = pymc.Laplace("weights", 0.0, prior_scale, shape=features.shape[1])
        intercept = pymc.Flat("intercept")
        pymc.Normal("target", features @ weights + intercept, noise_scale, observed=target)
    return model


def prepare(problem: Problem, rows, settings: dict, device: str) -> Prepared:
    """Prepare a compiled model.

    Args:
        problem: The problem.
        rows: Features and target.
        settings: ``chains``, ``draws``, ``tune``.
        device: Ignored.

    Returns:
        The runs.
    """
    import nutpie

    features, target = (np.asarray(part) for part in rows)
    chains, draws, tune = settings["chains"], settings["draws"], settings["tune"]
    state = {}

    def compile_model():
        state["compiled"] = nutpie.compile_pymc_model(model_of(problem, features, target))

    def run(seed: int) -> Run:
        sampler = nutpie.sample(
            state["compiled"], draws=draws, tune=tune, chains=chains, cores=len(os.sched_getaffinity(0)), seed=seed,
            progress_bar=False, save_warmup=True, blocking=False,
        )  # fmt: skip
        try:
            trace = sampler.wait(timeout=LONGEST_RUN)
        except TimeoutError:
            sampler.abort()
            raise NotRun(f"{chains} chains of {draws + tune} iterations take more than {LONGEST_RUN:.0f} s") from None
        posterior, stats = trace.posterior, trace.sample_stats
        named = {name: posterior[name].to_numpy() for name in ("weights", "intercept", "noise_scale", "prior_scale")
                 if name in posterior}  # fmt: skip
        steps, warm = stats["n_steps"].sum().item(), trace.warmup_sample_stats["n_steps"].sum().item()
        info = {"chains": chains, "draws": draws, "steps_a_draw": steps / (chains * draws)}
        # It does not time its phases; gradients are nearly all of it.
        return Run(named, int(stats["diverging"].sum()), warmup_share=warm / (warm + steps), info=info)

    return Prepared(compile_model, run)
