"""Where tensors live: one rule for the words "cpu", "cuda" and "auto"."""

from __future__ import annotations

import torch

from bayesreg.engines import NUTS_CHAINS_AT_ONCE

# Where a gradient moves fewer numbers than this, a GPU waits for its launches: some 40 of 5 microseconds each, in which
# one CPU core moves about a million numbers. By that arithmetic; to be replaced by measured sizes.
_FEWEST_NUMBERS = 3_000_000
_PASSES = 30  # of the elementwise operations of a gradient and a step


def resolve_device(device: str | torch.device) -> torch.device | None:
    """Return the torch device that a word stands for.

    Args:
        device: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``), or ``"auto"``.

    Returns:
        The device, or None for ``"auto"``, which `device_for` decides when the engine is known.

    Raises:
        ValueError: Another word, or a CUDA device where there is none.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return None
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'cpu', 'cuda', 'cuda:<index>' or 'auto', got {device!r}") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda', 'cuda:<index>' or 'auto', got {device!r}")
    if found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()):
        raise ValueError(
            f"device={device!r} was asked for, but {why_no_cuda() or f'there are {torch.cuda.device_count()}'}"
        )
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found


def device_for(method: str, chains: int, num_parameters: int) -> torch.device:
    """Return the device that ``"auto"`` stands for, once it is known what runs there.

    Only the engines that move many chains in one batch gain from a GPU, and only above a size: a gradient of all
    chains moves chains x p x (p + 30) numbers, p parameters, and below 3 million a CPU is done before the GPU's
    launches are.

    Args:
        method: The engine.
        chains: Number of chains.
        num_parameters: The number p of unconstrained parameters.

    Returns:
        A CUDA device where there is one and the size is enough, else the CPU.

    Example:
        >>> device_for("exact", 4, 10)
        device(type='cpu')
    """
    together = min(chains, NUTS_CHAINS_AT_ONCE) if method == "nuts" else chains
    numbers = together * num_parameters * (num_parameters + _PASSES)
    if method in ("nuts", "hmc") and numbers >= _FEWEST_NUMBERS and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def why_no_cuda() -> str | None:
    """Say in a sentence why there is no CUDA device, or None where there is one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return "this build of torch has no CUDA"
    return "torch finds no CUDA device or driver"
