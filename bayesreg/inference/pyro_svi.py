"""Variational inference by Pyro's loop of stochastic gradients: the reference that `svi` is held to.

What it maximises:
    the evidence lower bound (ELBO) over a family of Gaussians q on unconstrained points x (p,),

        ELBO(q) = E_q[ target.log_density(x) - log q(x) ] = log evidence - KL(q | posterior).

Families (`guide`), Pyro's autoguides on the coordinates z of x = x0 + L z, which keeps each family what it is:
    AutoMultivariateNormal          every Gaussian; L L' = H^-1 with H = target.curvature(x0), x0 = target.start()
    AutoNormal                      independent coordinates of x (mean field); L = diag(H)^-1/2
    AutoLowRankMultivariateNormal   diagonal plus a matrix of rank `rank`; L = diag(H)^-1/2
    In z all scales are about 1, so one learning rate serves every problem, and the guide starts near its optimum.

Known biases:
    q is fitted where it has mass, so it is too narrow where the family is too small: on a Gaussian posterior of
    precision P, mean field finds the right mean and sd 1/sqrt(P_jj), never above the true one. A heavy tail is cut.

Stopping rule:
    Adam at a fixed rate for a phase; its result is the average of the second half of its iterates, whose noise costs
    about 1 / (number of steps) nats. While a phase gains on the best so far, the rate stays; if it loses, it is undone
    and the rate halved; if it does neither, the rate is halved and the phase made twice as long. That halves what noise
    and rate cost, so the gain that such a phase brings estimates the gain that is left. The fit has converged when that
    and twice its standard error are below the tolerance. Both sides of a gain are evaluated on the same random numbers,
    which makes its standard error far smaller than the ELBO's.

Source:
    Kucukelbir et al., Automatic Differentiation Variational Inference, JMLR 18 (2017); averaged iterates under falling
    rates: Welandawe et al., arXiv:2203.15945 (2022); k-hat: Yao et al., Yes, but Did It Work?, ICML 2018.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from pyro.poutine.util import prune_subsample_sites

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.isolation import chain_seed, isolated, random_streams
from bayesreg.computing.progress import Bar, progress_bar
from bayesreg.inference.engine import EngineResult
from bayesreg.inference.guides import FULL, LOW_RANK, MEAN_FIELD, check_guide
from bayesreg.inference.importance import rounding_of, tail_index
from bayesreg.inference.whitening import inverse_root

_GUIDES = {FULL: AutoMultivariateNormal, MEAN_FIELD: AutoNormal, LOW_RANK: AutoLowRankMultivariateNormal}
# The widest start is right where the curvature is; the others serve where the posterior is far from Gaussian, as with a
# noise that may go to 0, and a guide of unit scale has mass where the density is exp(-1e6).
_START_SCALES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_FIRST_PHASE = 100
_PARTICLES_OF_A_GAIN = 2_000
_PARTICLES_OF_THE_RESULT = 10_000


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
    num_particles: int | None = None,
    learning_rate: float = 0.05,
    tolerance: float = 1e-3,
    max_steps: int = 10_000,
) -> EngineResult:
    """Fit a Gaussian to a target by stochastic gradients and draw from it.

    Args:
        target: The log density: a `bayesreg.target.Target`, or anything with its methods.
        draws: Independent draws a chain.
        tune: Ignored: there is no warm-up.
        chains: Number of chains; they differ in their random numbers only, and chain k does not depend on how many.
        seed: Seed of the fit; the draws of chain k come from ``chain_seed(seed, k)``.
        progress: Whether to show a bar.
        guide: ``"AutoMultivariateNormal"``, ``"AutoNormal"`` or ``"AutoLowRankMultivariateNormal"``.
        rank: Rank of the low-rank part; None is Pyro's sqrt(p). For that guide only.
        num_particles: Draws that estimate a gradient; None is max(64, p).
        learning_rate: Adam's rate in the first phase.
        tolerance: Nats an unconstrained parameter that the fit may leave: at the default, spread evenly, means off by
            0.045 standard deviations, or standard deviations off by 3 %.
        max_steps: Largest number of gradient steps.

    Returns:
        Draws ``(chains, draws, ...)``, and the target's log density ``lp`` ``(chains, draws)``. ``details`` has
        ``elbo`` and its standard error, ``remaining`` (nats left to gain, estimated; None: too few steps to tell)
        against ``tolerance`` (nats), ``converged``, ``steps``, ``psis_khat`` (below 0.7: importance weights could
        correct the draws) and seconds.

    Raises:
        TypeError: A number of steps or particles that is no integer.
        ValueError: An unknown guide, a rank that the guide has no use for or that is not in 1..p, a number out of
            range, or no finite ELBO to start from.
    """
    num_parameters = target.num_parameters
    check_guide(guide, rank, num_parameters)
    num_particles = max(64, num_parameters) if num_particles is None else num_particles
    num_particles = check_whole_number(num_particles, "num_particles", 1)
    max_steps = check_whole_number(max_steps, "max_steps", 1)
    for name, value in {"learning_rate": learning_rate, "tolerance": tolerance}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value!r}")

    learning_rate, allowed = float(learning_rate), float(tolerance) * num_parameters
    began = time.perf_counter()
    with isolated(seed), pyro.validation_enabled(False), progress_bar(progress, f"svi, {guide}", max_steps) as bar:
        fit = _Fit(target, guide, rank)
        steps, remaining = _optimise(fit, num_particles, learning_rate, allowed, max_steps, bar)
        _, log_ratios = fit.particles(_PARTICLES_OF_THE_RESULT)
        points = torch.stack([_chain(fit, draws, chain_seed(seed, chain)) for chain in range(chains)])
        constrained, lp = target.constrain(points), target.log_density(points)
    seconds = time.perf_counter() - began

    converged = remaining < allowed
    khat = tail_index(log_ratios.cpu().numpy(), rounding_of(lp))
    left = f"{remaining:.2g}" if math.isfinite(remaining) else "an unknown number of"
    message = (
        f"SVI with {guide} has {'' if converged else 'not '}converged after {steps} steps: {left} nats of the ELBO may "
        f"be left to gain (threshold {allowed:.2g}), k-hat {khat:.2f}"
    )
    return EngineResult(
        draws=constrained,
        sample_stats={"lp": lp},
        message=message if converged else f"{message}; raise max_steps or num_particles",
        details={
            "guide": guide,
            "num_particles": num_particles,
            "steps": steps,
            "converged": converged,
            "remaining": remaining if math.isfinite(remaining) else None,
            "tolerance": allowed,
            "elbo": float(log_ratios.mean()),
            "elbo_standard_error": float(log_ratios.std()) / math.sqrt(len(log_ratios)),
            "psis_khat": khat,
            "seconds": seconds,
        },
    )


class _Fit:
    """A guide over z, the one-site program that it approximates, and its parameters as one state.

    The program leaves out the constant log |det L|; `particles`, where a density of x is asked for, has it.
    """

    def __init__(self, target: Any, guide: str, rank: int | None):
        self.target = target
        self.origin = target.start()
        precision = target.curvature(self.origin)
        if guide == FULL:
            self.factor = inverse_root(precision)
        else:
            self.factor = torch.diag(precision.diagonal().rsqrt())
        self.log_volume = self.factor.diagonal().log().sum()
        self._settings = {"rank": rank} if guide == LOW_RANK else {}
        self._family = _GUIDES[guide]
        elbos = torch.stack([self._start(scale) for scale in _START_SCALES])
        if not elbos.isfinite().any():
            raise ValueError(
                "svi found no finite evidence lower bound to start from: the posterior is improper, as with a learned "
                "noise and a target that the columns fit exactly, or its density overflows round target.start()"
            )
        self._start(_START_SCALES[int(torch.where(elbos.isfinite(), elbos, -math.inf).argmax())])

    def program(self) -> None:
        """The target as a Pyro program over z: a flat site that can be drawn from, and the density of x as a factor."""
        zeros = torch.zeros_like(self.origin)
        z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1).mask(False))
        pyro.factor("log_density", self.target.log_density(self.points(z)))

    def points(self, z: torch.Tensor) -> torch.Tensor:
        """Return x = x0 + L z."""
        return self.origin + z @ self.factor.mT

    @torch.no_grad()
    def particles(self, num: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw from the guide: points ``(num, p)`` and log p(x) - log q(x) ``(num,)``, whose mean is the ELBO."""
        with pyro.plate("particles", num, device=self.origin.device):
            trace = prune_subsample_sites(poutine.trace(self.guide).get_trace())
        trace.compute_log_prob()
        points = self.points(trace.nodes["z"]["value"])
        log_guide = sum(site["log_prob"] for site in trace.nodes.values() if site["type"] == "sample") - self.log_volume
        return points, self.target.log_density(points) - log_guide

    def state(self) -> list[torch.Tensor]:
        """The guide's parameters, copied."""
        return [parameter.detach().clone() for parameter in self.guide.parameters()]

    @torch.no_grad()
    def load(self, state: list[torch.Tensor]) -> None:
        """Set the guide's parameters."""
        for parameter, value in zip(self.guide.parameters(), state, strict=True):
            parameter.copy_(value)

    def climb(self, num_particles: int, rate: float, length: int, advance: Callable[[], None]) -> list[torch.Tensor]:
        """Take `length` steps of Adam; the average state of their second half."""
        loss = Trace_ELBO(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=0)
        svi = SVI(self.program, self.guide, pyro.optim.Adam({"lr": rate, "betas": (0.9, 0.99)}), loss)
        average = None
        for step in range(length):
            svi.step()
            advance()
            if step < length // 2:
                continue
            if average is None:
                average, count = self.state(), 1
            else:
                count += 1
                torch._foreach_lerp_(average, [parameter.detach() for parameter in self.guide.parameters()], 1 / count)
        return average

    def gain(self, before: list[torch.Tensor], after: list[torch.Tensor], seed: int) -> tuple[float, float]:
        """ELBO of a state less that of another, in nats, and its standard error, on common random numbers."""
        ratios = []
        for state in (before, after):
            self.load(state)
            with random_streams(seed):
                ratios.append(self.particles(_PARTICLES_OF_A_GAIN)[1])
        difference = ratios[1] - ratios[0]
        return float(difference.mean()), float(difference.std()) / math.sqrt(_PARTICLES_OF_A_GAIN)

    def _start(self, scale: float) -> torch.Tensor:
        """Put a guide of this scale at z = 0; its ELBO."""
        pyro.clear_param_store()
        with random_streams(0):
            origin = init_to_value(values={"z": torch.zeros_like(self.origin)})
            self.guide = self._family(self.program, init_loc_fn=origin, init_scale=scale, **self._settings)
            self.guide()
            return self.particles(_PARTICLES_OF_A_GAIN)[1].mean()


def _optimise(
    fit: _Fit, num_particles: int, rate: float, allowed: float, max_steps: int, bar: Bar
) -> tuple[int, float]:
    """Follow the stopping rule; the number of steps and the nats that may be left to gain."""
    steps, length, just_halved, remaining = 0, _FIRST_PHASE, False, math.inf
    best = fit.state()
    with warnings.catch_warnings():
        # Pyro's word on a step into overflow, which is undone below.
        warnings.filterwarnings("ignore", message="Encountered (NaN|infinity)")
        while steps + length <= max_steps:
            steps += length
            bar.describe(rate=rate)
            try:
                average = fit.climb(num_particles, rate, length, bar.advance)
                latest = fit.state()
                gain, error = fit.gain(best, average, seed=steps)
            except torch.linalg.LinAlgError:  # a low-rank guide whose parameters are not numbers
                gain = error = math.nan
            threshold = max(allowed, 2 * error)
            if not gain >= -threshold:  # the rate is too high, or a step went into overflow: undo the phase
                rate, just_halved = rate / 2, False
                fit.load(best)
                continue
            best = average if gain > 0 else best
            if just_halved:
                remaining = abs(gain) + 2 * error
                if remaining < allowed:
                    break
            if gain > threshold and not just_halved:
                fit.load(latest)
            else:
                rate, length, just_halved = rate / 2, 2 * length, True
                fit.load(best)
    fit.load(best)
    return steps, remaining


def _chain(fit: _Fit, draws: int, seed: int) -> torch.Tensor:
    with random_streams(seed):
        return fit.particles(draws)[0]
