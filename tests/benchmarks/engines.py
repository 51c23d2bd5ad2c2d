"""The package's own engines, called as a user calls them."""

from __future__ import annotations

import warnings

from .problems import HALF_NORMAL_SCALE, Problem
from .run_result import NotRun, Prepared, Run


def imports() -> None:
    """Import what the program names and every engine; what is imported later, within the call, counts as its run."""
    import pyro.distributions
    import torch

    import bayesreg
    from bayesreg.engines import ENGINES

    _ = (bayesreg.sample, bayesreg.Posterior, bayesreg.LaplacePrior, bayesreg.RegressionData, bayesreg.Moments)
    _ = (pyro.distributions, torch, [engine.load() for engine in ENGINES.values()])


def model_of(problem: Problem):
    """Return the `LinearRegression` of a problem."""
    import pyro.distributions as dist

    import bayesreg as br

    prior_scale, noise_scale = (
        dist.HalfNormal(HALF_NORMAL_SCALE) if scale is None else scale
        for scale in (problem.prior_scale, problem.noise_scale)
    )
    prior = br.GaussianPrior(prior_scale) if problem.prior == "gaussian" else br.LaplacePrior(prior_scale)
    return br.LinearRegression(prior, noise_scale)


def prepare(problem: Problem, rows, settings: dict, device: str) -> Prepared:
    """Prepare a call of `bayesreg.sample`: from rows, the pass over them included, and from their moments.

    Args:
        problem: The problem.
        rows: Features and target.
        settings: ``method``, and what else `sample` takes.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Returns:
        The runs.
    """
    import bayesreg as br
    from bayesreg.engines import ENGINES

    model, data = model_of(problem), br.RegressionData(*rows)

    def run(seed: int, source=data) -> Run:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", br.ConvergenceWarning)  # the gates judge all alike
            try:
                posterior = br.sample(model, source, seed=seed, device=device, **settings)
            except ValueError as error:
                raise NotRun(str(error)) from error
        details = posterior.details
        divergences = posterior.sample_stats.get("diverging")
        return Run(
            {name: values.numpy() for name, values in posterior.draws.items()},
            0 if divergences is None else int(divergences.sum()),
            warmup=0.0 if ENGINES[posterior.method].independent else details.get("warmup_seconds"),
            info={
                "method": posterior.method,
                "chains": posterior.num_chains,
                "draws": posterior.num_draws,
                "device": details.get("device"),
                "engine_seconds": details["engine_seconds"],
            },
        )

    def from_moments():
        moments = br.Moments.from_data(data)
        return lambda seed: run(seed, moments)

    return Prepared(None, run, from_moments)
