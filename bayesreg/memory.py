"""Whether draws fit in memory, asked before the first one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from bayesreg.target import Target

# Draws as the engine makes them, as the posterior holds them, and one copy for what is computed from them.
_COPIES = 3
_STATISTICS = 8  # numbers a draw that an engine says about it


def require_memory(target: Target, chains: int, draws: int) -> None:
    """Refuse more draws than the machine's free memory holds.

    Args:
        target: The posterior: how many numbers a draw has.
        chains: Number of chains.
        draws: Draws a chain.

    Raises:
        ValueError: They need more; the message has both sizes.
    """
    needed = 8 * _COPIES * chains * draws * (target.num_parameters + _STATISTICS)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"draws={draws:,} and chains={chains:,} of {target.num_parameters:,} parameters need about "
            f"{needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB of memory are free: ask for fewer"
        )
