"""What the engines of independent draws share: how many draws are made at once, and the intercept's law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bayesreg.isolation import chain_seed
from bayesreg.threads import num_threads

if TYPE_CHECKING:
    from bayesreg.target import Target

# Numbers made at once: they stay in a core's cache, or fill a GPU.
_NUMBERS_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}
# Below so many numbers in all, a second thread costs more than it brings.
_WORTH_A_THREAD = 2**18


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


def chains_at_once(target: Target, chains: int, block: int, draws: int) -> int:
    """Return how many chains are drawn together: what fits, and no more than leaves each thread its share.

    Args:
        target: The posterior.
        chains: Number of chains.
        block: Draws of each that are made at once.
        draws: Draws, or proposals, of each.

    Returns:
        The number. Which chains are together changes none of their draws.
    """
    together = max(1, _NUMBERS_AT_ONCE[target.device.type] // (min(block, draws) * target.num_features))
    if target.device.type == "cpu" and chains * draws * target.num_features > _WORTH_A_THREAD:
        together = min(together, -(-chains // num_threads()))
    return together


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
