"""What draws must satisfy before they have a speed: R-hat, divergences, and the reference's means and deviations.

All diagnostics are ArviZ's, for every engine and peer alike: the package's own are among what is judged.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

LARGEST_R_HAT = 1.01
# Of |mean - reference|, in standard errors.
LARGEST_MEAN_ERROR = 4.0
# Of |sd / reference - 1|; widened to 4 standard errors where the draws cannot resolve 3 %.
LARGEST_SD_ERROR = 0.03
# Below it neither R-hat nor the standard errors themselves can be trusted (Vehtari et al., 2021).
SMALLEST_ESS = 400
# Chains shorter than this are judged by nested R-hat, in superchains of about 1,000 draws: plain R-hat has noise of
# its own above 1.01 there (Margossian et al., 2024).
SHORT_CHAIN = 400
SUPERCHAIN = 1000


@dataclass(frozen=True)
class Reference:
    """Means and standard deviations ``(p,)``, and their own standard errors: 0 where they are integrals."""

    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray
    sd_error: np.ndarray
    source: str


@dataclass(frozen=True)
class Verdict:
    """What the gates found.

    `why` is empty where all are passed. `suspects` are the parameters whose mean or deviation is off, and
    `only_suspects` is whether nothing else failed: of thousands of parameters one is off by 4 standard errors by
    chance, so these are looked at once more with fresh draws, and alone.
    """

    why: str
    suspects: list[int]
    only_suspects: bool
    r_hat: float
    divergences: int
    ess: float
    mean_error: float
    sd_error: float
    sd_resolution: float
    reference: str

    @property
    def passed(self) -> bool:
        """Whether the figures may be shown."""
        return not self.why

    def to_dict(self) -> dict:
        """Return the verdict as plain values."""
        return asdict(self) | {"passed": self.passed}


def effective_sizes(draws: np.ndarray, centre: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the effective sample sizes of x and of (x - centre)^2.

    Args:
        draws: ``(chain, draw, p)``.
        centre: ``(p,)``; None: the draws' own mean.

    Returns:
        Two vectors ``(p,)``.
    """
    from arviz_stats.base import array_stats

    centre = draws.mean((0, 1)) if centre is None else centre
    both = [np.moveaxis(values, -1, 0) for values in (draws, (draws - centre) ** 2)]
    first, second = (array_stats.ess(values, chain_axis=1, draw_axis=2, method="mean") for values in both)
    moves = draws.max((0, 1)) > draws.min((0, 1))  # where nothing moves ArviZ counts every draw
    return np.where(moves, first, 0.0), np.where(moves, second, 0.0)


def smallest_ess(draws: np.ndarray) -> tuple[float, int]:
    """Return the figure of merit, min over all parameters of min(ESS of x, ESS of (x - mean)^2), and where it is."""
    smaller = np.minimum(*effective_sizes(draws))
    smaller = np.where(np.isfinite(smaller), smaller, 0.0)  # one that does not move has no effective draw
    return float(smaller.min()), int(smaller.argmin())


def largest_r_hat(draws: np.ndarray) -> float:
    """Return the largest rank-normalised split R-hat of ``(chain, draw, p)``; nested for many short chains."""
    from arviz_stats.base import array_stats

    chains, length = draws.shape[:2]
    size = math.ceil(SUPERCHAIN / length)
    by_parameter = np.moveaxis(draws, -1, 0)
    if length >= SHORT_CHAIN or chains < 4 * size:
        return float(np.max(array_stats.rhat(by_parameter, chain_axis=1, draw_axis=2)))
    used = chains // size * size
    superchains = np.arange(used) // size
    return float(np.max(array_stats.rhat_nested(by_parameter[:, :used], superchains, chain_axis=1, draw_axis=2)))


def judge(
    draws: np.ndarray,
    divergences: int,
    reference: Reference,
    parameters: list[str],
    suspects: list[int] | None = None,
) -> Verdict:
    """Judge the pooled draws of all runs of one engine.

    Args:
        draws: ``(chain, draw, p)``, the runs side by side as chains.
        divergences: their number in all runs.
        reference: what means and deviations must be.
        parameters: names ``(p,)``.
        suspects: the only parameters whose mean and deviation are compared; None: all.

    Returns:
        The verdict. A standard error is that of the draws and that of the reference together.
    """
    ess, squared_ess = effective_sizes(draws, reference.mean)
    smaller = np.minimum(ess, squared_ess)
    size, slowest = float(np.nan_to_num(smaller).min()), parameters[int(np.nan_to_num(smaller).argmin())]
    r_hat = largest_r_hat(draws)
    mean, squares = draws.mean((0, 1)), (draws - reference.mean) ** 2
    deviation = np.sqrt(squares.mean((0, 1)))
    error = np.hypot(draws.std((0, 1)) / np.sqrt(ess), reference.mean_error)
    off = np.abs(mean - reference.mean) / error
    # sd^2 + 2 sd error: the delta method for the square root.
    resolution = squares.std((0, 1)) / np.sqrt(squared_ess) / (2.0 * reference.sd)
    resolution = np.hypot(resolution, reference.sd_error) / reference.sd
    sd_off = np.abs(deviation / reference.sd - 1.0)
    excess = sd_off / np.maximum(LARGEST_SD_ERROR, LARGEST_MEAN_ERROR * resolution)

    compared = np.arange(len(parameters)) if suspects is None else np.array(suspects)
    mean_is_off, sd_is_off = off[compared] >= LARGEST_MEAN_ERROR, excess[compared] >= 1.0
    why = []
    if not size >= SMALLEST_ESS:
        why.append(f"ESS of {slowest} {size:.0f} < {SMALLEST_ESS}")
    if not r_hat < LARGEST_R_HAT:
        why.append(f"R-hat {r_hat:.3f}")
    if divergences:
        why.append(f"{divergences} divergences")
    only_suspects = not why
    if mean_is_off.any():
        worst = compared[int(np.argmax(off[compared]))]
        why.append(f"mean of {parameters[worst]} off by {off[worst]:.1f} MCSE")
    if sd_is_off.any():
        worst = compared[int(np.argmax(excess[compared]))]
        why.append(f"sd of {parameters[worst]} off by {100 * sd_off[worst]:.1f} %")
    return Verdict(
        why="; ".join(why),
        suspects=[int(index) for index in compared[mean_is_off | sd_is_off]],
        only_suspects=only_suspects,
        r_hat=r_hat,
        divergences=int(divergences),
        ess=size,
        mean_error=float(off.max()),
        sd_error=float(sd_off.max()),
        sd_resolution=float(LARGEST_MEAN_ERROR * resolution.max()),
        reference=reference.source,
    )
