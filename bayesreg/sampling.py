"""`sample`: checks, the choice of an engine, and what its draws must satisfy to go without a warning."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.devices import device_for, resolve_device
from bayesreg.computing.memory import require_memory
from bayesreg.computing.threads import one_thread
from bayesreg.data import RegressionData, require_rows
from bayesreg.engines import ENGINES, METHODS
from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.record import Interrupted
from bayesreg.model import require_model
from bayesreg.moments import as_moments
from bayesreg.posteriors.posterior import Posterior
from bayesreg.propriety import require_proper
from bayesreg.redundant_columns import columns_at_fault
from bayesreg.warnings import ConvergenceWarning

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression
    from bayesreg.moments import Moments
    from bayesreg.target import Target

# Vehtari et al., Bayesian Analysis 16 (2021): R-hat below 1.01, and an ESS of 400 before R-hat and ESS themselves can
# be trusted.
LARGEST_R_HAT = 1.01
SMALLEST_ESS = 400
MANY_CHAINS = 16
# Yao et al., ICML 2018: above it, the importance weights have no mean to speak of, and the fit is not the posterior.
LARGEST_KHAT = 0.7
# Where the posterior of a prior scale's logarithm is wider, it has a tail of small scales, whose weights are as small:
# a funnel, into which trajectories of one length do not go. Gibbs does.
_LARGEST_SPREAD = 0.25
# A file keeps a seed as a signed integer of 64 bits.
_SEED_BOUND = 2**63


def sample(
    model: LinearRegression,
    data: RegressionData | Moments,
    method: str = "auto",
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
    **options: Any,
) -> Posterior:
    """Draw from the posterior of a model.

    The engines, and when ``"auto"`` takes them, the first that can:

    - ``"exact"``: independent draws in closed form; always, for a Gaussian and a flat prior.
    - ``"rejection"``: independent draws under a Laplace or an elastic net prior, from the Gaussian envelope that the
      MAP's certificate gives; where it keeps at least one proposal in 50, that is, where the data say more than the
      prior.
    - ``"hmc"``: many chains with jittered trajectories, the rest where the weights are well determined, and so is the
      prior scale if it is learned.
    - ``"gibbs"``: two blocks with the scales collapsed, for what is left: fewer than two rows a feature, columns that
      depend on one another, or a learned prior scale that the data leave open.

    Never by itself: ``"nuts"``, the reference for any density; ``"svi"``, a Gaussian approximation; ``"pyro-nuts"``,
    Pyro's sampler. Each engine's module, `bayesreg.inference.exact` and so on, names its sources; the density is that
    of `LinearRegression`, the draws are in the units of the data.

    Args:
        model: The `LinearRegression`.
        data: Rows or `Moments`.
        method: One of the engines, or ``"auto"``.
        draws: Draws a chain that are kept; None, here and for ``tune`` and ``chains``: what suits the engine.
        tune: Warm-up iterations of a Markov chain, at most; independent draws have none.
        chains: Number of chains.
        seed: Seeds the run, 0 to 2^63 - 1; the global random state is left alone.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``: a GPU where there is one and the chains are many.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook: engine, chains, phase,
            step size, divergences so far and the time left, of work that takes longer than a second.
        **options: The engine's own, such as ``max_tree_depth`` and ``target_acceptance`` for nuts and pyro-nuts,
            ``pyro_program=True`` for pyro-nuts (run on the Pyro program instead of the fused density), ``guide`` for
            svi: its ``run``'s arguments.

    Returns:
        The `Posterior`, float64 on the CPU; its ``reason`` says why this engine, and where the columns depend on one
        another, ``details["redundant_columns"]`` which are constant, copies of others, or dependent on others.

        A `ConvergenceWarning` is issued where R-hat of Markov chains is above 1.01 (from 16 chains on, what of it
        lasts), their effective sample size below 400, a transition divergent, the k-hat of a variational fit above 0.7,
        or the engine's own check fails. The thresholds are those of Vehtari et al., Bayesian Analysis 16 (2021), and
        Yao et al. (ICML 2018).

        An interrupt (Ctrl-C) once draws are made ends the run with those there are: the first ones of the run that was
        asked for, equally many of each chain and at least 4; of chains one after the other, those that are furthest.
        The posterior's ``interrupted`` is then True, and a `ConvergenceWarning` says how many draws there are.

    Raises:
        KeyboardInterrupt: An interrupt before that, as in the warm-up.
        ValueError: An unknown method, an engine that cannot take the model, an improper posterior, a number out of
            range, more draws than fit in memory, or no such device.
        TypeError: ``model`` is not a `LinearRegression`, ``data`` neither rows nor `Moments`, an option that the engine
            does not have, or a setting that is not an integer.

    Example:
        >>> import bayesreg as br, pyro.distributions as dist
        >>> data = br.load_diabetes().standardized()
        >>> posterior = br.sample(br.LinearRegression(br.LaplacePrior(0.25), dist.HalfNormal(1.0)), data)
        >>> posterior.method, posterior.draws["weights"].shape
        ('rejection', torch.Size([4, 1000, 10]))
    """
    asked = {"draws": draws, "tune": tune, "chains": chains}
    return _sample(model, data, method, asked, seed, device, progress, options, keep=True)


def sample_whole(
    model: LinearRegression, data: RegressionData | Moments, seed: int = 0, progress: bool = False
) -> Posterior:
    """Draw as `sample` does, but let every interrupt go on: for work that the draws are a part of.

    Args:
        model: The model.
        data: Rows or `Moments`.
        seed: Seeds the run.
        progress: Whether to show progress.

    Returns:
        The posterior, with all its draws.
    """
    asked = dict.fromkeys(("draws", "tune", "chains"))
    return _sample(model, data, "auto", asked, seed, "auto", progress, {}, keep=False)


def _sample(
    model: LinearRegression,
    data: RegressionData | Moments,
    method: str,
    asked: dict[str, int | None],
    seed: int,
    device: str | torch.device,
    progress: bool,
    options: dict[str, Any],
    keep: bool,
) -> Posterior:
    """Check, draw and warn; `keep` is whether draws that an interrupt leaves are enough."""
    for name, least in (("draws", 1), ("tune", 0), ("chains", 1)):
        if asked[name] is not None:
            asked[name] = check_whole_number(asked[name], name, least)
    seed = check_seed(seed)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    # On one thread, for what is set up as for the draws: these are small operations, for which threads wait.
    with one_thread():
        posterior, result, independent = _run(
            require_model(model), data, method, asked, seed, device, progress, options, keep
        )
    _warn(posterior, result, chain=not independent)
    return posterior


def _run(
    model: LinearRegression,
    data: RegressionData | Moments,
    method: str,
    asked: dict[str, int | None],
    seed: int,
    device: str | torch.device,
    progress: bool,
    options: dict[str, Any],
    keep: bool,
) -> tuple[Posterior, EngineResult, bool]:
    """Return the posterior, what the engine handed back, and whether its draws are independent."""
    device = resolve_device(device)
    if method == "auto" and options:
        raise TypeError(
            f"method='auto' takes no engine's options, got {', '.join(options)}: name the method that they are for"
        )
    moments = as_moments(data)
    target = model.target(moments, device or "cpu")
    require_proper(target)
    refusals = []
    for name, why in candidates(target) if method == "auto" else [(method, "as asked")]:
        engine = ENGINES[name]
        run = engine.load().run
        _check_options(run, name, options)
        own = dict(options)
        if own.pop("pyro_program", False):
            own["program"] = _program(model, data, target.device)
        settings = {key: getattr(engine, key) if value is None else value for key, value in asked.items()}
        if device is None:
            best = device_for(name, settings["chains"], target.num_parameters)
            target = target if best == target.device else model.target(moments, best)
        require_memory(target, engine, settings["chains"], settings["draws"])
        started, interruption = time.perf_counter(), {}
        try:
            result = run(target, **settings, seed=seed, progress=progress, **own)
        except EngineCannot as reason:
            if method != "auto":
                raise ValueError(f"method={method!r} cannot take this: {reason}; use method='auto'") from reason
            refusals.append(str(reason))
            continue
        except Interrupted as interrupt:
            if not keep:
                raise
            result = interrupt.result
            interruption = {"interrupted": True} | {f"{what}_asked": settings[what] for what in ("chains", "draws")}
        details = {
            **result.details,
            "message": result.message,
            "device": str(target.device),
            "engine_seconds": time.perf_counter() - started,
            **_about_columns(target),
            **interruption,
        }
        posterior = Posterior(
            {name: values.detach().cpu() for name, values in result.draws.items()},
            {name: values.detach().cpu() for name, values in result.sample_stats.items()},
            model=model,
            data=data,
            method=name,
            reason="; ".join([why, *refusals]),
            seed=seed,
            log_evidence=result.log_evidence,
            details=details,
        )
        return posterior, result, engine.independent
    raise AssertionError("the last engine that auto tries takes every model")


def check_seed(seed: int) -> int:
    """Return a seed that a run and a file can keep.

    Args:
        seed: What was given.

    Returns:
        The seed.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is outside 0 to 2^63 - 1.
    """
    if check_whole_number(seed, "seed", 0) >= _SEED_BOUND:
        raise ValueError(f"seed must be below 2**63, got {seed}")
    return seed


def candidates(target: Target) -> Iterator[tuple[str, str]]:
    """Yield the engines that ``"auto"`` tries, each with why; the last one takes every model.

    Args:
        target: The posterior.

    Yields:
        The name of an engine, and the reason.
    """
    prior = target.model.prior
    if not prior.has_kink:
        yield "exact", "auto: independent draws from the exact posterior, which a Gaussian or a flat prior has"
        return
    yield "rejection", "auto: independent draws, since the data say more than the prior"
    spectrum = target.spectrum
    columns = spectrum.num_features
    if spectrum.rank < min(columns, spectrum.degrees_of_freedom):  # not for want of rows
        dependent = f"on columns that depend on one another (rank {spectrum.rank} of {columns})"
        yield "gibbs", f"auto: {prior.words} {dependent}, which do not determine the weights"
    elif spectrum.rank < columns or spectrum.degrees_of_freedom < 2 * columns:
        yield "gibbs", f"auto: {prior.words} with too few rows to determine the weights"
    elif "prior_scale" in target.learned_scales and target.prior_scale_spread() > _LARGEST_SPREAD:
        yield "gibbs", "auto: a Laplace prior whose learned scale the data leave open"
    else:
        yield "hmc", f"auto: {prior.words}, with rows enough to determine the weights"


def _about_columns(target: Target) -> dict[str, str]:
    """Return what is to be said of the columns, as details of a run."""
    moments = target.moments
    if target.spectrum.rank == moments.num_features:
        return {}
    said = columns_at_fault(moments, target.spectrum.rank)
    return {"redundant_columns": said} if said else {}


def _check_options(run: Any, name: str, options: dict[str, Any]) -> None:
    own = {"target", "draws", "tune", "chains", "seed", "progress"}
    accepted = [option for option in inspect.signature(run).parameters if option not in own]
    accepted = ["pyro_program" if option == "program" else option for option in accepted]
    for option in options:
        if option not in accepted:
            raise TypeError(f"method={name!r} has no option {option!r}; it has {', '.join(accepted) or 'none'}")


def _program(model: LinearRegression, data: RegressionData | Moments, device: torch.device) -> Any:
    rows = require_rows(data, "pyro_program=True")
    tensors = tuple(torch.tensor(array, dtype=torch.float64, device=device) for array in (rows.features, rows.target))
    return lambda: model.pyro_model(tensors)


def _warn(posterior: Posterior, result: EngineResult, chain: bool) -> None:
    """Warn once a cause, with the number found and the threshold.

    Chains are judged by R-hat while they are fewer than 16. Many chains may be so short that the noise of each lifts
    R-hat above 1.01 by itself (below an ESS of about 100 a chain), though all together know the posterior well: there
    it is `bayesreg.posteriors.diagnostics.Chains.lasting_r_hat`, which leaves that noise out, that must be below 1.01.
    The ESS must be 400 for bulk and tails in either case.
    """
    if posterior.interrupted:
        kept = f"{posterior.num_chains:,} chains of {posterior.num_draws:,} draws"
        of = f"{posterior.details['chains_asked']:,} chains of {posterior.details['draws_asked']:,} draws"
        message = f"sampling was interrupted: {kept} are kept (asked for: {of})"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    if result.details.get("converged") is False:
        warnings.warn(result.message, ConvergenceWarning, stacklevel=4)
    khat = result.details.get("psis_khat", 0.0)
    if khat > LARGEST_KHAT:
        message = (
            f"the k-hat of the variational fit is {khat:.2f} (threshold {LARGEST_KHAT}): its draws are too far from "
            "the posterior to be corrected by importance weights; use method='auto'"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    if not chain:  # independent draws: nothing to mix
        return
    divergent = int(posterior.sample_stats["diverging"].sum()) if "diverging" in posterior.sample_stats else 0
    if divergent:
        message = (
            f"{divergent} divergent transitions (0 expected): raise target_acceptance, or loosen or rescale the model"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    from bayesreg.posteriors.summary import convergence

    many = posterior.num_chains >= MANY_CHAINS
    table = convergence(posterior.draws, posterior.data.feature_names, many)
    r_hat, ess = table["r_hat"], table["ess"]
    if ess.isna().any():
        message = f"{ess.index[ess.isna()][0]} did not move, or has fewer than 4 draws a chain: nothing can be judged"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    if r_hat.max() > LARGEST_R_HAT:
        found = f"{r_hat.max():.4f}{', the noise of short chains left out' if many else ''}"
        message = f"R-hat of {r_hat.idxmax()} is {found} (threshold {LARGEST_R_HAT}): raise tune and draws"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    if ess.min() < SMALLEST_ESS:
        message = f"the ESS of {ess.idxmin()} is {ess.min():.0f} (threshold {SMALLEST_ESS}): raise draws or chains"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
