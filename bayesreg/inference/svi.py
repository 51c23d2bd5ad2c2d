"""Variational inference: the Gaussian closest to the posterior in the unconstrained coordinates.

What it maximises:
    the evidence lower bound (ELBO) over a family of Gaussians q on unconstrained points x (p,),

        ELBO(q) = E_q[ target.log_density(x) - log q(x) ] = log evidence - KL(q | posterior).

Families (`guide`), named after Pyro's autoguides:
    AutoMultivariateNormal          every Gaussian
    AutoNormal                      independent coordinates (mean field)
    AutoLowRankMultivariateNormal   diagonal plus a matrix of rank `rank`

How:
    For the first two the ELBO of a regression is a closed form (`gaussian_elbo`), and is climbed by natural-gradient
    steps without a random number in them (`gaussian_fit`). For the third, for a learned scale with bounds, and where
    `pyro_loop` asks for it, Pyro's loop of stochastic gradients does it (`pyro_svi`): the reference.

Known biases:
    q is fitted where it has mass, so it is too narrow where the family is too small: on a Gaussian posterior of
    precision P, mean field finds the right mean and sd 1/sqrt(P_jj), never above the true one. A heavy tail is cut.

Sources:
    Khan & Lin, AISTATS 2017 (natural gradients); Kucukelbir et al., JMLR 18 (2017) (the coordinates); k-hat: Yao et
    al., Yes, but Did It Work?, ICML 2018.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.threads import one_thread
from bayesreg.inference import gaussian_elbo
from bayesreg.inference.engine import EngineResult
from bayesreg.inference.gaussian_draws import GaussianDraws
from bayesreg.inference.gaussian_fit import fit_gaussian
from bayesreg.inference.guides import FULL, MEAN_FIELD, check_guide
from bayesreg.inference.importance import rounding_of, tail_index

_TOLERANCE = 1e-6
_MAX_STEPS = 1_000
# k-hat is judged on the draws that are handed back, and where those are too few to know it to 0.1, on draws of its own.
_MOST_OF_KHAT = 10_000
_FEWEST_OF_KHAT = 4_000


def run(
    target: Any,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    progress: bool = False,
    guide: str = FULL,
    rank: int | None = None,
    pyro_loop: bool = False,
    num_particles: int | None = None,
    learning_rate: float | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
) -> EngineResult:
    """Fit a Gaussian to a target and draw from it.

    Args:
        target: The log density: a `bayesreg.target.Target`, or for Pyro's loop anything with its methods.
        draws: Independent draws a chain.
        tune: Ignored: there is no warm-up.
        chains: Number of chains; they differ in their random numbers only, and chain k does not depend on how many.
        seed: The draws of chain k come from ``chain_seed(seed, k)``; it seeds Pyro's loop too.
        progress: Whether to show a bar; the closed form is done before one could be drawn.
        guide: ``"AutoMultivariateNormal"``, ``"AutoNormal"`` or ``"AutoLowRankMultivariateNormal"``.
        rank: Rank of the low-rank part; None is Pyro's sqrt(p). For that guide only.
        pyro_loop: Whether Pyro's loop fits the guide where the closed form could.
        num_particles: For Pyro's loop, see `pyro_svi.run`.
        learning_rate: For Pyro's loop.
        tolerance: Nats an unconstrained parameter that the fit may leave; None is 1e-6 nats for all of them together,
            and 1e-3 a parameter for Pyro's loop.
        max_steps: Largest number of steps; None is 1,000, and 10,000 for Pyro's loop.

    Returns:
        Draws ``(chains, draws, ...)``, and the target's log density ``lp`` ``(chains, draws)``. ``details`` has
        ``elbo`` and its standard error (0 in closed form), ``remaining`` (nats left to gain, estimated) against
        ``tolerance`` (nats), ``converged``, ``steps``, ``psis_khat`` (below 0.7: importance weights could correct the
        draws), ``pyro_loop`` (which of the two it was) and seconds.

    Raises:
        TypeError: A number of steps or particles that is no integer.
        ValueError: An unknown guide, a rank that the guide has no use for or that is not in 1..p, a number out of
            range, an option of Pyro's loop without it, or no finite ELBO to start from.
    """
    check_guide(guide, rank, target.num_parameters)
    of_both = {"tolerance": tolerance, "max_steps": max_steps}
    of_loop = {"num_particles": num_particles, "learning_rate": learning_rate}
    why_loop = _why_loop(target, guide, pyro_loop)
    if why_loop is not None:
        from bayesreg.inference import pyro_svi

        given = {name: value for name, value in (of_both | of_loop).items() if value is not None}
        result = pyro_svi.run(
            target, draws=draws, tune=tune, chains=chains, seed=seed, progress=progress, guide=guide, rank=rank, **given
        )
        return EngineResult(
            result.draws,
            result.sample_stats,
            message=f"{result.message} (by Pyro's loop: {why_loop})",
            details={**result.details, "pyro_loop": True},
        )
    for name, value in of_loop.items():
        if value is not None:
            raise ValueError(f"{name} is for Pyro's loop (pyro_loop=True); got {value!r} with the closed form")
    return _in_closed_form(target, draws, chains, seed, guide, **of_both)


@one_thread()
@torch.no_grad()
def _in_closed_form(
    target: Any, draws: int, chains: int, seed: int, guide: str, tolerance: float | None, max_steps: int | None
) -> EngineResult:
    allowed = _TOLERANCE if tolerance is None else _positive(tolerance, "tolerance") * target.num_parameters
    max_steps = _MAX_STEPS if max_steps is None else check_whole_number(max_steps, "max_steps", 1)
    began = time.perf_counter()
    fit = fit_gaussian(target, mean_field=guide == MEAN_FIELD, tolerance=allowed, max_steps=max_steps)
    source = GaussianDraws(target, fit)

    def draw(num: int, own_seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return source(num, torch.Generator(target.device).manual_seed(own_seed))

    by_chain = [draw(draws, chain_seed(seed, chain)) for chain in range(chains)]
    points = torch.stack([points for points, _ in by_chain])
    constrained, lp = target.constrain(points), target.log_density(points)
    log_ratios = (lp - torch.stack([log_guide for _, log_guide in by_chain])).flatten()[:_MOST_OF_KHAT]
    if len(log_ratios) < _FEWEST_OF_KHAT:
        judged, log_guide = draw(_FEWEST_OF_KHAT, chain_seed(seed, chains))
        log_ratios = target.log_density(judged) - log_guide
    khat = tail_index(log_ratios.cpu().numpy(), rounding_of(lp))
    seconds = time.perf_counter() - began

    steps, remaining, converged = int(fit.steps[0]), float(fit.remaining[0]), bool(fit.converged[0])
    message = (
        f"SVI with {guide} in closed form has {'' if converged else 'not '}converged after {steps} steps: "
        f"{remaining:.2g} nats of the ELBO may be left to gain (threshold {allowed:.2g}), k-hat {khat:.2f}"
    )
    return EngineResult(
        draws=constrained,
        sample_stats={"lp": lp},
        message=message if converged else f"{message}; raise max_steps",
        details={
            "guide": guide,
            "steps": steps,
            "converged": converged,
            "remaining": remaining if math.isfinite(remaining) else None,
            "tolerance": allowed,
            "elbo": float(fit.elbos[0]),
            "elbo_standard_error": 0.0,
            "psis_khat": khat,
            "pyro_loop": False,
            "seconds": seconds,
        },
    )


def _why_loop(target: Any, guide: str, pyro_loop: bool) -> str | None:
    """Say why Pyro's loop does it, or None where the closed form does."""
    if pyro_loop:
        return "as asked"
    if guide not in (FULL, MEAN_FIELD):
        return f"{guide} has no closed form here"
    return gaussian_elbo.why_not(target)


def _positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)
