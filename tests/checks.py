"""What is asserted of draws: comparisons whose tolerances come from their own ESS and standard error, and seeds."""

import numpy as np
import torch
from arviz_stats.base import array_stats
from scipy.stats import norm

# Probability that correct draws fail somewhere among the comparisons of one call. Seeds are fixed: a draw either passes
# for ever or the seed was one of the unlucky ones.
FALSE_ALARM = 1e-3


def assert_matches(draws, mean, sd, minimum_ess=400, allowed_bias=0.0):
    """Assert that draws have the given means and standard deviations, as far as they can tell.

    Both are judged by the effective sample sizes of x and of (x - mean)^2, which must reach `minimum_ess` or there is
    no verdict.

    Args:
        draws: ``(chain, draw, ...)``, array or tensor.
        mean, sd: what broadcasts to ``(...)``; the exact values.
        minimum_ess: the gate.
        allowed_bias: a known bias, in standard deviations for the mean and relative for the sd.
    """
    draws = np.asarray(torch.as_tensor(draws).cpu(), dtype=np.float64)
    shape = draws.shape[2:]
    mean = np.broadcast_to(np.asarray(torch.as_tensor(mean).cpu(), dtype=np.float64), shape)
    sd = np.broadcast_to(np.asarray(torch.as_tensor(sd).cpu(), dtype=np.float64), shape)
    multiple = norm.isf(FALSE_ALARM / (2 * 2 * max(1, mean.size)))
    problems = []
    for index in np.ndindex(shape):
        values = draws[(slice(None), slice(None), *index)]
        squares = (values - mean[index]) ** 2
        error, squared_error = _standard_error(values, minimum_ess), _standard_error(squares, minimum_ess)
        found_mean, found_sd = values.mean(), np.sqrt(squares.mean())
        if abs(found_mean - mean[index]) > multiple * error + allowed_bias * sd[index]:
            problems.append(f"mean{list(index)} {found_mean:.6g}, expected {mean[index]:.6g} +- {error:.2g}")
        # sd^2 + 2 sd error: the delta method for the square root.
        if abs(found_sd - sd[index]) > multiple * squared_error / (2 * sd[index]) + allowed_bias * sd[index]:
            problems.append(
                f"sd{list(index)} {found_sd:.6g}, expected {sd[index]:.6g} +- {squared_error / (2 * sd[index]):.2g}"
            )
    assert not problems, "; ".join(problems)


def _standard_error(values, minimum_ess):
    ess = float(array_stats.ess(values, method="mean"))
    assert ess >= minimum_ess, f"no verdict: an effective sample size of {ess:.0f}, below {minimum_ess}"
    return values.std() / np.sqrt(ess)


def assert_chains_stand_alone(one, three, other):
    """Assert that a chain is the same whatever runs beside it, and that no two chains or seeds are.

    Args:
        one: draws by name, ``(1, draw, ...)``.
        three: the same seed with three chains.
        other: another seed, one chain.
    """
    for name, values in one.items():
        assert torch.equal(values[0], three[name][0])
        assert not torch.equal(three[name][1], three[name][2])
        assert not torch.equal(other[name][0], three[name][1])
