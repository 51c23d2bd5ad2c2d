"""Where tensors live: one rule for the words "cpu", "cuda" and "auto"."""

from __future__ import annotations

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device that a word stands for.

    Args:
        device: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``), or ``"auto"``. Everything runs on moments, whose size does not
            grow with the rows, and on a handful of chains: there a CPU is faster than a GPU's launches, so ``"auto"``
            is the CPU.

    Returns:
        The device.

    Raises:
        ValueError: Another word, or a CUDA device where there is none.

    Example:
        >>> resolve_device("auto")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cpu")
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
    return found


def why_no_cuda() -> str | None:
    """Say in a sentence why there is no CUDA device, or None where there is one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return "this build of torch has no CUDA"
    return "torch finds no CUDA device or driver"
