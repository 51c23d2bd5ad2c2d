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
from bayesreg.computing.progress import progress_bar
from bayesreg.computing.threads import in_parallel, one_thread
from bayesreg.inference.engine import EngineCannot, EngineResult
from bayesreg.inference.lattice import NUM_POINTS
from bayesreg.inference.normals import standard_normals
from bayesreg.inference.record import Record, finished, joined, kept_if_interrupted
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
_SCANNED = ("standardised", "log_noise", "log_factor")


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
        progress: Whether to show a bar.

    Returns:
        Draws ``(chains, draws, ...)``; the target's log density ``lp``; and, where a scale is learned,
        ``acceptance_rate``: the probability with which block 1 alone moved the scales. The prior scale's second move,
        in block 2, does not count.

    Raises:
        EngineCannot: The model has another prior.
        Interrupted: An interrupt ended the draws early.
    """
    reason = why_not(target)
    if reason is not None:
        raise EngineCannot(reason)
    num_blocks = -(-chains // chains_at_once(target))
    together = -(-chains // num_blocks)
    firsts = range(0, chains, together)
    records = {first: Record(min(together, chains - first), draws) for first in firsts}
    with progress_bar(progress, f"gibbs, {chains} chains", len(firsts) * (tune + draws)) as bar:

        def draw(first: int, go_on: Callable[[], None]) -> None:
            def scanned(learning: bool) -> None:
                go_on()
                bar.describe("warm-up" if learning else "draws")
                bar.advance()

            # The intercept has random numbers of its own: those of a draw do not depend on how many follow.
            sources = [torch.Generator(target.device).manual_seed(chain_seed(seed, k)) for k in (first, chains + first)]
            _block(target, records[first], tune, *sources, scanned)

        with kept_if_interrupted(records.values()) as making:
            in_parallel(draw, firsts)
    named = joined(list(records.values()))
    statistics = {"lp": named.pop("lp")}
    chains, draws = statistics["lp"].shape
    if target.learned_scales:
        statistics["acceptance_rate"] = named.pop("acceptance_rate")
    result = EngineResult(
        named,
        statistics,
        message=f"two-block Gibbs, {chains} chains of {draws} draws after {tune} scans",
        details={"tune": tune, "chains_at_once": together},
    )
    return finished(making, result)


@one_thread()
def run_at_scales(
    targets: Sequence[Target],
    *,
    draws: int,
    thin: int,
    tune: int,
    chains: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
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
        advance: Called once a scan.

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
    record = Record(len(state.log_noise), draws)
    _scan(mixture, state, record, thin, tune, generator, lambda learning: advance())
    of_scales = zip(*(record.arrays[name].split(chains) for name in _SCANNED), strict=True)
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
    target: Target,
    record: Record,
    tune: int,
    generator: torch.Generator,
    of_intercepts: torch.Generator,
    advance: Callable[[bool], None],
) -> None:
    """Run chains together, and record their draws and statistics."""
    chains = record.chains
    mixture, state = _mixture(target, chains, alike=True), _start(target, chains, generator)
    scanned = Record(chains, record.draws)
    try:
        _scan(mixture, state, scanned, 1, tune, generator, advance)
    finally:  # an interrupt leaves the scans that are made
        if scanned.made:
            made = {name: values[:, : scanned.made] for name, values in scanned.arrays.items()}
            named = _named(target, *(made[name] for name in _SCANNED), of_intercepts, record.draws)
            named["lp"] = _log_densities(target, named)
            if target.learned_scales:
                named["acceptance_rate"] = made["moved"]
            record.write(named)


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
    record: Record,
    thin: int,
    tune: int,
    generator: torch.Generator,
    advance: Callable[[bool], None],
) -> None:
    """Record x ``(chains, draws, d)``, and log s, log t and how probably the scales moved ``(chains, draws)``."""
    for scan in range(tune + record.draws * thin):
        learn, left = scan < tune, (scan - tune) % thin
        mixture.draw_weights(state, generator, learn)
        if not learn and left == thin - 1:
            record.write({name: getattr(state, name).unsqueeze(1) for name in (*_SCANNED, "moved")})
        mixture.draw_variances(state, generator, learn)
        advance(learn)


def _named(
    target: Target,
    standardised: torch.Tensor,
    log_noise: torch.Tensor,
    log_factor: torch.Tensor,
    generator: torch.Generator,
    draws: int | None = None,
) -> dict[str, torch.Tensor]:
    """Return the draws by name; x is overwritten. ``draws`` is how many there were to be, where there are fewer."""
    spectrum, on = target.spectrum, {"dtype": target.dtype, "device": target.device}
    factor = log_factor.exp().unsqueeze(-1)
    named = {"weights": standardised.mul_(factor * spectrum.relative_scales).add_(spectrum.prior_loc)}
    if target.model.intercept:
        chains, made = log_noise.shape
        normals = standard_normals((chains, draws or made), generator, **on)[:, :made]
        deviations = normals * log_noise.exp()
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
