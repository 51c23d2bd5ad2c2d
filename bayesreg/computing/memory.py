"""Whether draws fit in memory, asked before the first one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from bayesreg.engines import Engine
    from bayesreg.target import Target

# Draws as the engine makes them, as the posterior holds them, and one copy for what is computed from them; on a GPU, as
# the engine makes them and puts them together.
_COPIES, _COPIES_ON_A_GPU = 3, 2
_STATISTICS = 8  # numbers a draw that an engine says about it


def require_memory(target: Target, engine: Engine, chains: int, draws: int) -> None:
    """Refuse more draws than the free memory holds: the machine's, and that of the GPU that would make them.

    Args:
        target: The posterior: how many numbers a draw has, and on which device.
        engine: What makes them.
        chains: Number of chains.
        draws: Draws a chain.

    Raises:
        ValueError: They need more; the message has both sizes.
    """
    numbers_of_all = 8 * chains * (target.num_parameters + _STATISTICS)
    once, held = numbers_of_all * draws, numbers_of_all * engine.points_held
    on_a_gpu = target.device.type == "cuda"
    places = [("memory", _COPIES * once + (0 if on_a_gpu else held), psutil.virtual_memory().available)]
    if on_a_gpu:
        needed = held + (0 if engine.streams else _COPIES_ON_A_GPU * once)
        places.append((f"memory of {target.device}", needed, _free_on(target.device)))
    for place, needed, free in places:
        if needed > free:
            raise ValueError(
                f"draws={draws:,} and chains={chains:,} of {target.num_parameters:,} parameters need about "
                f"{needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB of {place} are free: ask for fewer"
            )


def _free_on(device: torch.device) -> int:
    """Return the bytes that a GPU has free, with those that torch has taken and does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
