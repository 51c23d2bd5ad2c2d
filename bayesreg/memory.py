"""Whether draws fit in memory, asked before the first one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from bayesreg.target import Target

# Draws as the engine makes them, as the posterior holds them, and one copy for what is computed from them; on a GPU, as
# the engine makes them and puts them together.
_COPIES, _COPIES_ON_A_GPU = 3, 2
_STATISTICS = 8  # numbers a draw that an engine says about it


def require_memory(target: Target, chains: int, draws: int) -> None:
    """Refuse more draws than the free memory holds: the machine's, and that of the GPU that would make them.

    Args:
        target: The posterior: how many numbers a draw has, and on which device.
        chains: Number of chains.
        draws: Draws a chain.

    Raises:
        ValueError: They need more; the message has both sizes.
    """
    once = 8 * chains * draws * (target.num_parameters + _STATISTICS)
    places = [("memory", _COPIES * once, psutil.virtual_memory().available)]
    if target.device.type == "cuda":
        places.append(
            (f"memory of {target.device}", _COPIES_ON_A_GPU * once, torch.cuda.mem_get_info(target.device)[0])
        )
    for place, needed, free in places:
        if needed > free:
            raise ValueError(
                f"draws={draws:,} and chains={chains:,} of {target.num_parameters:,} parameters need about "
                f"{needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB of {place} are free: ask for fewer"
            )
