"""k-hat: the known index of a power law, and ArviZ's number."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

from bayesreg.inference.importance import rounding_of, tail_index


@pytest.mark.parametrize("ratio", [0.6, 0.8])
def test_khat_is_the_tail_index_of_the_weights(ratio):
    """p = N(0, 1), q = N(0, ratio^2): p/q = exp(a x^2), whose tail under q is a power law of index 1 - ratio^2."""
    x = ratio * np.random.default_rng(0).standard_normal(20_000)
    assert tail_index(0.5 * x**2 * (1 / ratio**2 - 1)) == pytest.approx(1 - ratio**2, abs=0.12)


@pytest.mark.parametrize("num", [25, 100, 225, 226, 4_000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_khat_is_that_of_arviz(num, spread):
    log_ratios = spread * np.random.default_rng(num).standard_normal(num) + 1e3
    assert tail_index(log_ratios) == pytest.approx(float(array_stats.psislw(-log_ratios)[1]), abs=1e-9)


def test_equal_weights_have_no_tail():
    assert tail_index(7.0 + 1e-12 * np.random.default_rng(0).standard_normal(1_000)) == 0.0


def test_weights_that_only_rounding_tells_apart_have_no_tail():
    """Log densities near 1e8 are multiples of 1.5e-8: ratios that are all 0 come out as a few of these."""
    log_density = torch.full((1_000,), 1e8, dtype=torch.float64)
    ratios = np.spacing(1e8) * np.random.default_rng(0).integers(-2, 3, 1_000)
    assert ratios.std() > 1e-9
    assert tail_index(ratios, rounding_of(log_density)) == 0.0
    assert math.isfinite(tail_index(np.round(np.random.default_rng(0).standard_normal(1_000), 1)))


def test_weights_beyond_floats_are_a_tail_of_no_index():
    assert tail_index(-1e3 * np.arange(1_000.0)) == math.inf


def test_too_few_weights_are_refused():
    with pytest.raises(ValueError, match="25 entries or more, got 24"):
        tail_index(np.arange(24.0))
