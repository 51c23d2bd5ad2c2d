"""Normal numbers are normal, and independent of each other."""

import math

import torch
from scipy.stats import kstest

from bayesreg.inference.normals import standard_normals


def test_normal_numbers_are_normal_and_independent(device):
    generator = torch.Generator(device).manual_seed(0)
    normals = standard_normals((20_001, 5), generator, torch.float64, device)
    assert normals.shape == (20_001, 5) and bool(normals.isfinite().all())
    flat = normals.flatten().cpu()
    assert kstest(flat.numpy(), "norm").pvalue > 0.01
    half = flat.numel() // 2 + 1  # the two of a pair are as far apart
    for one, other in ((flat[:-1], flat[1:]), (flat[:-half], flat[half:])):
        for function in (lambda x: x, torch.square, lambda x: x.abs().log()):
            correlation = torch.corrcoef(torch.stack([function(one), function(other)]))[0, 1]
            assert abs(float(correlation)) < 4 / math.sqrt(one.numel())
    again = standard_normals((20_001, 5), torch.Generator(device).manual_seed(0), torch.float64, device)
    assert torch.equal(normals, again)
