"""The largest eigenvalue of a symmetric matrix from products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

# The estimate grows towards the eigenvalue; where 20 products change it by less than this share, it has arrived.
_TOLERANCE = 1e-10
_MOST_ROUNDS = 100


def largest_eigenvalue(apply: Callable[[torch.Tensor], torch.Tensor], size: int, device: torch.device) -> float:
    """Return the largest eigenvalue of a positive semidefinite matrix, by power iteration.

        v <- H v / |H v|,      |H v| -> the largest eigenvalue, from below

    Args:
        apply: The product of H with a vector (size,).
        size: Number of rows of H.
        device: Where the vectors are.

    Returns:
        The eigenvalue, to about 10 digits where the next one is not within 1e-3 of it, else to a few; 0 for H = 0.

    Example:
        >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> round(largest_eigenvalue(lambda vector: matrix @ vector, 2, matrix.device), 9)
        3.0
    """
    generator = torch.Generator(device=device).manual_seed(0)
    vector = torch.randn(size, generator=generator, dtype=torch.float64, device=device)
    smallest = torch.finfo(torch.float64).tiny
    estimate = previous = 0.0
    for _ in range(_MOST_ROUNDS):
        for _ in range(20):
            length = vector.norm()
            vector = apply(vector / length.clamp(min=smallest))
        estimate = float(vector.norm())
        if not abs(estimate - previous) > _TOLERANCE * estimate:
            break
        previous = estimate
    return estimate
