"""`sample`: checks, the choice of an engine, and what its draws must satisfy to go without a warning."""

from __future__ import annotations

import inspect
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

from bayesreg.arrays import check_whole_number
from bayesreg.data import RegressionData, require_rows
from bayesreg.devices import resolve_device
from bayesreg.inference import exact, pyro_nuts, svi
from bayesreg.inference.engine import EngineResult
from bayesreg.model import require_model
from bayesreg.posterior import Posterior
from bayesreg.propriety import require_proper
from bayesreg.warnings import ConvergenceWarning

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression
    from bayesreg.moments import Moments

METHODS = {"exact": exact, "svi": svi, "pyro-nuts": pyro_nuts}
# Vehtari et al., Bayesian Analysis 16 (2021): R-hat below 1.01, and an ESS of 400 before R-hat and ESS themselves can
# be trusted.
LARGEST_R_HAT = 1.01
SMALLEST_ESS = 400
# Yao et al., ICML 2018: above it, the importance weights have no mean to speak of, and the fit is not the posterior.
LARGEST_KHAT = 0.7
# A file keeps a seed as a signed integer of 64 bits.
_SEED_BOUND = 2**63


def sample(
    model: LinearRegression,
    data: RegressionData | Moments,
    method: str = "auto",
    draws: int = 1000,
    tune: int = 500,
    chains: int = 4,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
    **options: Any,
) -> Posterior:
    """Draw from the posterior of a model.

    Args:
        model: The `LinearRegression`.
        data: Rows or `Moments`.
        method: ``"exact"`` (Gaussian and flat priors: independent draws), ``"pyro-nuts"`` (Pyro's NUTS), ``"svi"`` (a
            variational approximation by Pyro), or ``"auto"``: exact where it exists, else pyro-nuts.
        draws: Draws a chain that are kept.
        tune: Warm-up iterations of a Markov chain; the exact engine and SVI have none.
        chains: Number of chains.
        seed: Seeds the run, 0 to 2^63 - 1; the global random state is left alone.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        progress: Whether to show progress on stderr.
        **options: The engine's own: for pyro-nuts ``max_tree_depth``, ``target_acceptance`` and ``pyro_program=True``
            (run on the Pyro program instead of the fused density); for svi ``guide``, ``rank`` and so on: its ``run``'s
            arguments.

    Returns:
        The `Posterior`, on the CPU. A `ConvergenceWarning` is issued where R-hat is above 1.01, an effective sample
        size below 400, a transition divergent, the k-hat of a variational fit above 0.7, or the engine's own check
        fails.

    Raises:
        ValueError: An unknown method, an engine that cannot take the model, an improper posterior, a number out of
            range, or no such device.
        TypeError: ``model`` is not a `LinearRegression`, an option that the engine does not have, or a setting that is
            not an integer.

    Example:
        >>> import bayesreg as br, pyro.distributions as dist
        >>> data = br.load_diabetes().standardized()
        >>> posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0)), data)
        >>> posterior.method, posterior.draws["weights"].shape
        ('exact', torch.Size([4, 1000, 10]))
    """
    for name, value, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1), ("seed", seed, 0)):
        check_whole_number(value, name, least)
    if seed >= _SEED_BOUND:
        raise ValueError(f"seed must be below 2**63, got {seed}")
    name, reason = _choose(require_model(model), method)
    engine = METHODS[name]
    if name == "pyro-nuts" and options.pop("pyro_program", False):
        options["program"] = _program(model, data, resolve_device(device))
    _check_options(engine, name, options)
    target = model.target(data, resolve_device(device))
    require_proper(target)
    started = time.perf_counter()
    result = engine.run(target, draws=draws, tune=tune, chains=chains, seed=seed, progress=progress, **options)
    seconds = time.perf_counter() - started
    posterior = Posterior(
        {name: values.detach().cpu() for name, values in result.draws.items()},
        {name: values.detach().cpu() for name, values in result.sample_stats.items()},
        model=model,
        data=data,
        method=name,
        reason=reason,
        seed=seed,
        log_evidence=result.log_evidence,
        details={
            **result.details,
            "message": result.message,
            "device": str(target.device),
            "sampling_seconds": seconds,
        },
    )
    _warn(posterior, result, chain=name == "pyro-nuts")
    return posterior


def _choose(model: LinearRegression, method: str) -> tuple[str, str]:
    """Return an engine's name, and why."""
    if method == "auto":
        why_not_exact = exact.why_not(model)
        if why_not_exact is None:
            return "exact", "auto: independent draws from the exact posterior, which a Gaussian or a flat prior has"
        return "pyro-nuts", f"auto: {why_not_exact}"
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(['auto', *METHODS])}, got {method!r}")
    if method == "exact" and exact.why_not(model) is not None:
        raise ValueError(
            f"method='exact' cannot take this model: {exact.why_not(model)}; use 'pyro-nuts', 'svi' or 'auto'"
        )
    return method, "as asked"


def _check_options(engine: Any, name: str, options: dict[str, Any]) -> None:
    own = {"target", "draws", "tune", "chains", "seed", "progress"}
    accepted = [option for option in inspect.signature(engine.run).parameters if option not in own]
    accepted = ["pyro_program" if option == "program" else option for option in accepted]
    for option in options:
        if option not in accepted and option != "program":
            raise TypeError(f"method={name!r} has no option {option!r}; it has {', '.join(accepted) or 'none'}")


def _program(model: LinearRegression, data: RegressionData | Moments, device: torch.device) -> Any:
    rows = require_rows(data, "pyro_program=True")
    tensors = tuple(torch.tensor(array, dtype=torch.float64, device=device) for array in (rows.features, rows.target))
    return lambda: model.pyro_model(tensors)


def _warn(posterior: Posterior, result: EngineResult, chain: bool) -> None:
    """Warn once a cause, with the number found and the threshold."""
    if result.details.get("converged") is False:
        warnings.warn(result.message, ConvergenceWarning, stacklevel=3)
    khat = result.details.get("psis_khat", 0.0)
    if khat > LARGEST_KHAT:
        message = (
            f"the k-hat of the variational fit is {khat:.2f} (threshold {LARGEST_KHAT}): its draws are too far from "
            "the posterior to be corrected by importance weights; use another guide, or method='pyro-nuts'"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    if not chain:  # independent draws: nothing to mix
        return
    divergent = int(posterior.sample_stats["diverging"].sum())
    if divergent:
        message = (
            f"{divergent} divergent transitions (0 expected): raise target_acceptance, or loosen or rescale the model"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    table = posterior.summary()
    r_hat, ess = table["r_hat"], table[["ess_bulk", "ess_tail"]].min(axis=1, skipna=False)
    if ess.isna().any():
        message = f"{ess.index[ess.isna()][0]} did not move, or has fewer than 4 draws a chain: nothing can be judged"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    if r_hat.max() > LARGEST_R_HAT:
        message = f"R-hat of {r_hat.idxmax()} is {r_hat.max():.3f} (threshold {LARGEST_R_HAT}): raise tune and draws"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    if ess.min() < SMALLEST_ESS:
        message = f"the ESS of {ess.idxmin()} is {ess.min():.0f} (threshold {SMALLEST_ESS}): raise draws or chains"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
