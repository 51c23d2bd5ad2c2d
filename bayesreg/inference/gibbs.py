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

from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.lattice import NUM_POINTS
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.progress import progress_bar
from bayesreg.inference.scale_mixture import Kink, MixtureState, ScaleMixture, SpannedData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    num_blocks = -(-chains // chains_at_once(target))
    together = -(-chains // num_blocks)
    firsts = range(0, chains, together)
    with progress_bar(progress, "gibbs", len(firsts) * (tune + draws)) as advance:

        def draw(first: int, go_on: Callable[[], None]) -> dict[str, torch.Tensor]:
            def scanned() -> None:
                go_on()
                advance()

            generator = torch.Generator(target.device).manual_seed(chain_seed(seed, first))
            return _block(target, min(together, chains - first), draws, tune, generator, scanned)

        blocks = in_parallel(draw, firsts)
    named = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    statistics = {"lp": named.pop("lp")}
    if target.learned_scales:
        statistics["acceptance_rate"] = named.pop("acceptance_rate")
    return EngineResult(
        named,
        statistics,
        message=f"two-block Gibbs, {chains} chains of {draws} draws after {tune} scans",
        details={"tune": tune, "chains_at_once": together},
    )


@one_thread()
def run_at_scales(
    targets: Sequence[Target], *, draws: int, thin: int, tune: int, chains: int, seed: int
) -> list[dict[str, torch.Tensor]]:
    """Draw from the posteriors of one model at several known prior scales, the chains of all in one batch.

    In the coordinates x they differ by the factor t alone, which each chain has of its own: so a scan of all costs as
    much as a scan of as many chains at one scale.

    Args:
        targets: The posteriors: of the same data, their priors alike but for a common factor of the scales, which is
            known.
        draws: Draws a chain that are kept.
        thin: Scans from one to the next.
        tune: Scans before them.
        chains: Number of chains at each scale.
        seed: Seeds the draws; those of a scale depend on which others are in the batch.

    Returns:
        For each target its draws ``(chains, draws, ...)`` by name, on its device.
    """
    starts = []
    for index, target in enumerate(targets):
        generator = torch.Generator(target.device).manual_seed(chain_seed(seed, index))
        starts.append(_start(target, chains, generator))
    first, generator = targets[0], torch.Generator(targets[0].device).manual_seed(chain_seed(seed, len(targets)))
    factors = torch.stack([target.spectrum.relative_scales[0] for target in targets])
    log_factors = (factors / first.spectrum.relative_scales[0]).log().repeat_interleave(chains)
    state = MixtureState(
        torch.cat([start.variances for start in starts]),
        torch.cat([start.log_noise for start in starts]),
        torch.cat([start.log_factor for start in starts]) + log_factors,
    )
    mixture = _mixture(first, len(state.log_noise), alike=False)
    standardised, log_noise, log_factor, _ = _scan(mixture, state, draws, thin, tune, generator, lambda: None)
    of_scales = zip(*(values.split(chains) for values in (standardised, log_noise, log_factor)), strict=True)
    return [_named(first, *values, generator) for values in of_scales]


def chains_at_once(target: Target) -> int:
    """Return how many chains go through a scan together: as many as stay in a processor's cache, or fill a GPU.

    Args:
        target: The posterior.

    Returns:
        The number, at least 1; by shape and kind of device alone.
    """
    spectrum = target.spectrum
    numbers_a_chain = max(1, spectrum.rank * (NUM_POINTS * spectrum.rank + spectrum.num_features))
    return max(1, _BLOCK_NUMBERS[target.device.type] // numbers_a_chain)


def _block(
    target: Target, chains: int, draws: int, tune: int, generator: torch.Generator, advance: Callable[[], None]
) -> dict[str, torch.Tensor]:
    """Run chains together; their draws and statistics ``(chains, draws, ...)``."""
    mixture, state = _mixture(target, chains, alike=True), _start(target, chains, generator)
    *values, moved = _scan(mixture, state, draws, 1, tune, generator, advance)
    named = _named(target, *values, generator)
    named["lp"] = _log_densities(target, named)
    if target.learned_scales:
        named["acceptance_rate"] = moved
    return named


def _mixture(target: Target, chains: int, alike: bool) -> ScaleMixture:
    """Return the two blocks; chains that are not alike learn spacings of their own."""
    spectrum = target.spectrum
    residual = torch.tensor(spectrum.residual, dtype=target.dtype, device=target.device)
    data = SpannedData(
        spectrum.singular_values.unsqueeze(-1) * spectrum.basis.mT,
        spectrum.projections if alike else spectrum.projections.expand(chains, -1),
        residual if alike else residual.expand(chains),
        spectrum.degrees_of_freedom,
    )
    noise, prior_scale = target.learned_scales.get("noise_scale"), target.learned_scales.get("prior_scale")
    shape = target.model.prior.shape(target.num_features)
    relative = target.model.prior.relative_to_noise
    return ScaleMixture(data, noise, prior_scale, relative, chains, shape)


def _scan(
    mixture: ScaleMixture,
    state: MixtureState,
    draws: int,
    thin: int,
    tune: int,
    generator: torch.Generator,
    advance: Callable[[], None],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x ``(chains, draws, d)``, and log s, log t and how probably the scales moved ``(chains, draws)``."""
    chains, num_features = state.variances.shape
    on = {"dtype": state.variances.dtype, "device": state.variances.device}
    standardised = torch.empty((chains, draws, num_features), **on)
    log_noise, log_factor, moved = (torch.empty((chains, draws), **on) for _ in range(3))
    for scan in range(tune + draws * thin):
        learn, (draw, left) = scan < tune, divmod(scan - tune, thin)
        mixture.draw_weights(state, generator, learn)
        if not learn and left == thin - 1:
            standardised[:, draw], log_noise[:, draw] = state.standardised, state.log_noise
            log_factor[:, draw], moved[:, draw] = state.log_factor, state.moved
        mixture.draw_variances(state, generator, learn)
        advance()
    return standardised, log_noise, log_factor, moved


def _named(
    target: Target,
    standardised: torch.Tensor,
    log_noise: torch.Tensor,
    log_factor: torch.Tensor,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return the draws by name; x is overwritten."""
    spectrum, on = target.spectrum, {"dtype": target.dtype, "device": target.device}
    factor = log_factor.exp().unsqueeze(-1)
    named = {"weights": standardised.mul_(factor * spectrum.relative_scales).add_(spectrum.prior_loc)}
    if target.model.intercept:
        deviations = standard_normals(log_noise.shape, generator, **on) * log_noise.exp()
        named["intercept"] = target.intercepts(named["weights"], deviations / math.sqrt(target.num_rows))
    if "noise_scale" in target.learned_scales:
        named["noise_scale"] = log_noise.exp()
    if "prior_scale" in target.learned_scales:
        relative = target.model.prior.relative_to_noise
        named["prior_scale"] = (log_factor - log_noise if relative else log_factor).exp()
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
