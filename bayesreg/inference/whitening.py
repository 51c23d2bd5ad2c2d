"""Coordinates in which a density with a known curvature has unit scale in every direction."""

import torch


def inverse_root(precision: torch.Tensor) -> torch.Tensor:
    """Return L, upper triangular, with L L' = precision^-1: x = x0 + L z has that covariance if z has the identity.

    Args:
        precision: Symmetric positive definite ``(p, p)``.

    Returns:
        ``(p, p)``, its diagonal positive.

    Example:
        >>> precision = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64, device="cpu")
        >>> root = inverse_root(precision)
        >>> torch.allclose(root @ root.T @ precision, torch.eye(2, dtype=torch.float64, device="cpu"))
        True
    """
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(precision).mT, identity, upper=True)
