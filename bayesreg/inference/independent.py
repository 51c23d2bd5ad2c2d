"""What the engines of independent draws share: how many draws are made at once, and the intercept's law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import torch

from bayesreg.computing.isolation import chain_seed
from bayesreg.computing.threads import in_parallel, num_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayesreg.target import Target

Result = TypeVar("Result")

# Numbers made at once: they stay in a core's cache, or fill a GPU.
_NUMBERS_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}
# Below so many numbers in one operation, or in all, a second thread costs more than it brings.
_WORTH_A_PIECE, _WORTH_A_THREAD = 2**16, 2**20


def draws_at_once(target: Target, least: int, most: int) -> int:
    """Return how many draws of a chain are made at once.

    That depends on the number of features and the kind of device alone, so that the same seed gives the same draws,
    whatever the number of chains and of threads.

    Args:
        target: The posterior.
        least: No fewer than this.
        most: No more than this.

    Returns:
        The number.
    """
    return min(most, max(least, _NUMBERS_AT_ONCE[target.device.type] // target.num_features))


def by_chains(
    target: Target,
    chains: int,
    block: int,
    draws: int,
    draw: Callable[[slice, Callable[[], None]], Result],
) -> list[Result]:
    """Draw chains in groups: as many together as fit, and on several threads where there is enough to do.

    Args:
        target: The posterior.
        chains: Number of chains.
        block: Draws of each that are made at once.
        draws: Draws, or proposals, of each.
        draw: Draws the chains of a slice; which ones are together must change none of them. Also takes a function to
            call once a block, as `bayesreg.computing.threads.in_parallel` has it.

    Returns:
        What it gave, group by group.
    """
    of_a_block = min(block, draws) * target.num_features
    together = max(1, _NUMBERS_AT_ONCE[target.device.type] // of_a_block)
    in_all = chains * draws * target.num_features
    worth_while = target.device.type == "cpu" and of_a_block >= _WORTH_A_PIECE and in_all >= _WORTH_A_THREAD
    if worth_while:
        together = min(together, -(-chains // num_threads()))
    groups = [slice(first, first + together) for first in range(0, chains, together)]
    return in_parallel(draw, groups, worth_while)


def chain_generators(target: Target, chains: int, seed: int) -> list[torch.Generator]:
    """Return a source of randomness for each chain, on the target's device."""
    return [torch.Generator(target.device).manual_seed(chain_seed(seed, chain)) for chain in range(chains)]


def intercept_deviations(
    target: Target, normals: torch.Tensor, log_noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return draws of the intercept's deviation from its conditional mode, c ~ Normal(0, s^2 / n), and its log density.

    Args:
        target: The posterior.
        normals: Standard normal numbers, of any shape.
        log_noise: log s, of a shape that broadcasts to it.

    Returns:
        c and log p(c | s), of that shape.
    """
    constant = 0.5 * math.log(2 * math.pi / target.num_rows)
    log_density = -0.5 * normals.square() - log_noise - constant
    return normals * log_noise.exp() / math.sqrt(target.num_rows), log_density
