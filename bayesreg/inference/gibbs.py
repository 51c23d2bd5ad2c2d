"""Two-block Gibbs sampling under a Laplace or an elastic net prior, with the learned scales collapsed: the hard cases.

What it draws from: the posterior of `bayesreg.model.LinearRegression`, exactly in the limit, by turns from

    (s, t) | v, y        with the weights and the intercept integrated out, then   w | s, t, v, y,
    t | w, s             with v integrated out, where the prior scale is learned, then   v | w, t,

v the variances of the Gaussian mixture that such a prior is, s the noise scale, t the prior's (`bayesreg.inference.
scale_mixture`); and the intercept, round its conditional mode, from Normal(0, s^2 / n). A scan costs r^2 d and a few
r^3, r the rank of the design: at most d, and n - 1 with an intercept or n without one.

When it pays: fewer rows than features, or a prior that lets the noise go to 0. There the weights' scale follows the
noise, and a sampler of both at once, or of one given the other, creeps. Nothing is tuned but the spacing of the
lattices that the scales move on, so a short warm-up does.

Where it starts: at the modes of the noise scale in turn (`bayesreg.noise_modes`), scales within a factor of e^2 of the
mode's, inside their support, and variances from their prior, plus what the mode's weights take, larger or smaller by up
to nine times, each chain its own.

Sources: see `bayesreg.inference.scale_mixture`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.lattice import NUM_POINTS
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.progress import progress_bar
from bayesreg.inference.scale_mixture import Kink, MixtureState, ScaleMixture, SpannedData
from bayesreg.isolation import chain_seed
from bayesreg.threads import in_parallel, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayesreg.target import Target

# Numbers in a scan's matrices that are worked on at once: chains go in blocks that stay in a processor's cache, or fill
# a GPU. The rule depends on shape and kind of device alone: the same seed gives the same draws on any machine.
_BLOCK_NUMBERS = {"cpu": 2**20, "cuda": 2**26}
_DRAWS_AT_ONCE = 2**11
_START_SPREAD = 2.0
_LOG_VARIANCE_SPREAD = math.log(9.0)


def why_not(target: Target) -> str | None:
    """Say in a sentence why this engine cannot take a target, or None where it can."""
    prior = target.model.prior
    if not prior.has_kink:
        return (
            f"the gibbs engine is for Laplace and elastic net priors: under {prior.words} the exact engine draws "
            "independently"
        )
    return None


@one_thread()
def run(target: Target, *, draws: int, tune: int, chains: int, seed: int, progress: bool = False) -> EngineResult:
    """Draw from the posterior under a Laplace or an elastic net prior by two-block Gibbs sampling.

    Args:
        target: The posterior; its model's prior has a kink.
        draws: Draws a chain that are kept.
        tune: Scans before them, in which the lattices learn their spacing; 50 do.
        chains: Number of chains. They run in blocks of a size that the design's shape and it set, and which draws a
            chain makes depends on which chains share its block.
        seed: Seeds the draws.
        progress: Whether to show a bar on stderr.

    Returns:
        Draws ``(chains, draws, ...)``; the target's log density ``lp``; and, where a scale is learned,
        ``acceptance_rate``: the probability with which block 1 alone moved the scales. The prior scale's second move,
        in block 2, does not count.

    Raises:
        EngineCannot: The model has another prior.
    """
    reason = why_not(target)
    if reason is not None:
        raise EngineCannot(reason)
    spectrum = target.spectrum
    numbers_a_chain = max(1, spectrum.rank * (NUM_POINTS * spectrum.rank + spectrum.num_features))
    num_blocks = -(-chains // max(1, _BLOCK_NUMBERS[target.device.type] // numbers_a_chain))
    chains_at_once = -(-chains // num_blocks)
    firsts = range(0, chains, chains_at_once)
    with progress_bar(progress, "gibbs", len(firsts) * (tune + draws)) as advance:

        def draw(first: int, go_on: Callable[[], None]) -> dict[str, torch.Tensor]:
            def scanned() -> None:
                go_on()
                advance()

            generator = torch.Generator(target.device).manual_seed(chain_seed(seed, first))
            return _block(target, min(chains_at_once, chains - first), draws, tune, generator, scanned)

        blocks = in_parallel(draw, firsts)
    named = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    statistics = {"lp": named.pop("lp")}
    if target.learned_scales:
        statistics["acceptance_rate"] = named.pop("acceptance_rate")
    return EngineResult(
        named,
        statistics,
        message=f"two-block Gibbs, {chains} chains of {draws} draws after {tune} scans",
        details={"tune": tune, "chains_at_once": chains_at_once},
    )


def _block(
    target: Target, chains: int, draws: int, tune: int, generator: torch.Generator, advance: Callable[[], None]
) -> dict[str, torch.Tensor]:
    """Run chains together; their draws and statistics ``(chains, draws, ...)``."""
    on = {"dtype": target.dtype, "device": target.device}
    spectrum, relative = target.spectrum, target.model.prior.relative_to_noise
    data = SpannedData(
        spectrum.singular_values.unsqueeze(-1) * spectrum.basis.mT,
        spectrum.projections,
        torch.tensor(spectrum.residual, **on),
        spectrum.degrees_of_freedom,
    )
    noise, prior_scale = target.learned_scales.get("noise_scale"), target.learned_scales.get("prior_scale")
    mixture = ScaleMixture(data, noise, prior_scale, relative, chains, target.model.prior.shape(target.num_features))
    state = _start(target, chains, generator)
    standardised = torch.empty((chains, draws, target.num_features), **on)
    log_noise, log_factor, moved = (torch.empty((chains, draws), **on) for _ in range(3))
    for scan in range(tune + draws):
        learn, draw = scan < tune, scan - tune
        mixture.draw_weights(state, generator, learn)
        if not learn:
            standardised[:, draw], log_noise[:, draw] = state.standardised, state.log_noise
            log_factor[:, draw], moved[:, draw] = state.log_factor, state.moved
        mixture.draw_variances(state, generator, learn)
        advance()

    factor = log_factor.exp().unsqueeze(-1)
    named = {"weights": standardised.mul_(factor * spectrum.relative_scales).add_(spectrum.prior_loc)}
    if target.model.intercept:
        deviations = standard_normals((chains, draws), generator, **on) * log_noise.exp()
        named["intercept"] = target.intercepts(named["weights"], deviations / math.sqrt(target.num_rows))
    if noise is not None:
        named["noise_scale"] = log_noise.exp()
    if prior_scale is not None:
        named["prior_scale"] = (log_factor - log_noise if relative else log_factor).exp()
    named["lp"] = _log_densities(target, named)
    if target.learned_scales:
        named["acceptance_rate"] = moved
    return named


def _start(target: Target, chains: int, generator: torch.Generator) -> MixtureState:
    """Return scales and variances to start from, chains apart from each other."""
    like = {"generator": generator, "dtype": target.dtype, "device": target.device}
    starts = target.starts()
    points = starts[torch.arange(chains, dtype=torch.int64, device=target.device) % len(starts)]
    weights = points[:, : target.num_features]
    learned = slice(target.num_parameters - len(target.learned_scales), None)
    points[:, learned] += _START_SPREAD * (2.0 * torch.rand(points[:, learned].shape, **like) - 1.0)
    scales = target.constrain(points)
    log_noise = scales.get("noise_scale", target.known_noise_scale).log().expand(chains)
    log_factor = scales["prior_scale"].log() if "prior_scale" in scales else torch.zeros_like(log_noise)
    if target.model.prior.relative_to_noise:
        log_factor = log_factor + log_noise
    departure = (weights - target.spectrum.prior_loc) / target.spectrum.relative_scales
    # An exponential of mean 2, by its inverse distribution function, and what a weight far from its location takes.
    kink = Kink(target.model.prior.shape(target.num_features), target.spectrum.basis)
    mixing = -2.0 * torch.rand((chains, target.num_features), **like).neg_().log1p_()
    mixing += kink.scaled(departure.abs()) / log_factor.exp().unsqueeze(-1)
    larger = _LOG_VARIANCE_SPREAD * (2.0 * torch.rand((chains, 1), **like) - 1.0)
    return MixtureState(kink.variances(mixing * larger.exp()), log_noise, log_factor)


def _log_densities(target: Target, named: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the target's log density at draws ``(chains, draws)``, a fixed number of them at a time."""
    rows = {name: values.flatten(0, 1).split(_DRAWS_AT_ONCE) for name, values in named.items()}
    pieces = [
        target.log_density(target.unconstrain(dict(zip(rows, piece, strict=True))))
        for piece in zip(*rows.values(), strict=True)
    ]
    return torch.cat(pieces).unflatten(0, named["weights"].shape[:2])
