"""Brackets of many log densities against the Gaussians they are of."""

import math

import pytest
import torch

from bayesreg.inference import brackets


def gaussians(means, sds, heights, calls):
    """Log densities by rows, which count how often they are asked."""

    def evaluate(points):
        calls.append(points.shape)
        return heights.unsqueeze(-1) - 0.5 * ((points - means.unsqueeze(-1)) / sds.unsqueeze(-1)).square()

    return evaluate


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("centre", [0.0, -200.0, 130.0])
def test_a_bracket_is_where_the_density_is_within_forty_nats(centre):
    """Needles and plains, near and far from where the search begins."""
    means, sds = tensor(3.0, -41.7, 250.0, 0.0), tensor(1.0, 1e-6, 1e-3, 4.0)
    calls = []
    start = brackets.around(torch.full_like(means, centre))
    lower, upper, highest = brackets.search(gaussians(means, sds, torch.zeros_like(means), calls), *start, 33)
    reach = math.sqrt(2 * brackets.DEPTH) * sds
    assert bool((lower <= means - reach).all()) and bool((upper >= means + reach).all())
    assert bool((upper - lower < 2 * 1.6 * reach).all())
    assert bool((highest > -0.5).all()) and bool((highest <= 0.0).all())


def test_the_range_of_float64_is_the_last_end():
    lower, upper, _ = brackets.search(lambda points: 0.01 * points, *brackets.around(tensor(0.0)), 33)
    assert float(lower) == -brackets.FARTHEST and float(upper) == brackets.FARTHEST


def test_a_row_that_cannot_matter_does_not_keep_the_search_going():
    """At 1e26 nats below, rounding alone is more than 40 nats: such a row never settles."""
    means, sds = tensor(0.3, 0.3), tensor(0.1, 1e-13)
    calls = []
    heights = tensor(0.0, -1e26)
    lower, upper, _ = brackets.search(gaussians(means, sds, heights, calls), *brackets.around(tensor(0.0, 0.0)), 33)
    assert len(calls) < 8
    assert float(lower[0]) < 0.3 - 0.89 and float(upper[0]) > 0.3 + 0.89
