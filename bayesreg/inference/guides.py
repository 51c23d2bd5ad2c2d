"""The families of Gaussians that variational inference fits, named after Pyro's autoguides."""

from __future__ import annotations

from bayesreg.computing.arrays import check_whole_number

FULL, MEAN_FIELD, LOW_RANK = "AutoMultivariateNormal", "AutoNormal", "AutoLowRankMultivariateNormal"


def check_guide(guide: str, rank: int | None, num_parameters: int) -> None:
    """Refuse a guide that there is none, and a rank that it has no use for.

    Args:
        guide: The family's name.
        rank: Rank of the low-rank part, or None for the family's own.
        num_parameters: The length p of a point.

    Raises:
        TypeError: A rank that is not an integer.
        ValueError: An unknown guide, or a rank with another guide than the low-rank one or not in 1..p.
    """
    if guide not in (FULL, MEAN_FIELD, LOW_RANK):
        raise ValueError(f"guide must be one of {FULL}, {MEAN_FIELD}, {LOW_RANK}, got {guide!r}")
    if rank is not None and (guide != LOW_RANK or check_whole_number(rank, "rank", 1) > num_parameters):
        raise ValueError(f"rank is for {LOW_RANK}, 1 to {num_parameters}; got {rank!r} with {guide}")
