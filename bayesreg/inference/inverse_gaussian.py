"""The variances that make a Laplace a mixture of Gaussians, given the value: reciprocals of inverse Gaussian draws.

If v is exponential of mean 2 and x | v is Normal(0, v), then x has the Laplace density exp(-|x|)/2, and given x

    p(v | x)  ~  v^(-1/2) exp(-v/2 - x^2/(2v)),      that is,  1/v ~ InverseGaussian(mean 1/|x|, shape 1),

at x = 0 a Gamma(1/2, rate 1/2). Source: Park and Casella, The Bayesian Lasso, JASA 103 (2008), section 2.
"""

from __future__ import annotations

import torch

from bayesreg.inference.normals import standard_normals


def mixing_variances(absolute: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw v | x, where x is standard Laplace given v mixed as above.

    With a = |x|, the square (v - a)^2 / v is a chi-square of one degree. Two values of v give the same one, 2 h,

        v_1 = a + h + sqrt(h (h + 2 a)) >= a,      v_2 = a^2 / v_1 <= a,

    and v_1 is taken with probability v_1 / (v_1 + a). Nothing cancels, and a = 0 is no exception. Source: Michael,
    Schucany and Haas, Generating random variates using transformations with multiple roots, Am. Statistician 30 (1976).

    Args:
        absolute: a = |x|, of any shape.
        generator: The source of randomness, on the same device.

    Returns:
        v > 0, of that shape.

    Example:
        >>> generator = torch.Generator("cpu").manual_seed(0)
        >>> variances = mixing_variances(torch.full((100_000,), 2.0, dtype=torch.float64, device="cpu"), generator)
        >>> round(float(variances.mean()), 1), round(float(variances.reciprocal().mean()), 1)
        (3.0, 0.5)
    """
    like = {"generator": generator, "dtype": absolute.dtype, "device": absolute.device}
    half_square = standard_normals(absolute.shape, **like).square_().mul_(0.5)
    larger = absolute + half_square + (half_square * (half_square + 2.0 * absolute)).sqrt()
    take_larger = torch.rand(absolute.shape, **like) * (larger + absolute) < larger
    return torch.where(take_larger, larger, absolute.square() / larger)
