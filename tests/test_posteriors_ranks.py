"""Order, quantiles and normal scores of rows against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.stats
import torch

from bayesreg.posteriors.ranks import fold, normal_scores, quantile, sort


def rows(kind, number):
    generator = np.random.default_rng(number)
    values = generator.standard_normal((3, number))
    if kind == "ties":
        values = np.round(values, 1)
    elif kind == "constant":
        values = np.full((3, number), 0.1)
    elif kind == "heavy":
        values = generator.standard_cauchy((3, number)) ** 5
    elif kind == "clusters":
        values = 1e-9 * values + generator.integers(0, 2, (3, number))
    elif kind == "few apart":
        values = np.where(generator.random((3, number)) < 0.1, values, 0.0)
    elif kind == "not finite":
        values[0, 0], values[1, -1], values[1, 0], values[2, number // 2] = np.nan, np.inf, -np.inf, np.inf
    return torch.from_numpy(values)


KINDS = ["normal", "ties", "constant", "heavy", "clusters", "few apart"]


@pytest.mark.parametrize("number", [1, 2, 31, 33, 1000])
@pytest.mark.parametrize("kind", [*KINDS, "not finite"])
def test_rows_are_sorted(kind, number, device):
    values = rows(kind, number)
    ordered, places = (found.cpu() for found in sort(values.to(device)))
    np.testing.assert_array_equal(ordered.numpy(), np.sort(values.numpy(), axis=-1))
    np.testing.assert_array_equal(values.gather(-1, places).numpy(), ordered.numpy())
    np.testing.assert_array_equal(places.sort(-1).values.numpy(), np.tile(np.arange(number), (3, 1)))


@pytest.mark.parametrize("number", [2, 32, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_average_ranks(kind, number, device):
    values = rows(kind, number)
    ascending = sort(values.to(device))
    for found, of in (
        (normal_scores(*ascending), values.numpy()),
        (normal_scores(*fold(*ascending)), np.abs(values.numpy() - np.median(values.numpy(), axis=-1, keepdims=True))),
    ):
        ranks = scipy.stats.rankdata(of, method="average", axis=-1)
        expected = scipy.stats.norm.ppf((ranks - 0.375) / (number + 0.25))
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("number", [1, 2, 5, 100, 101])
@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_are_numpys_bit_by_bit(kind, number, device):
    values = rows(kind, number)
    ordered = sort(values.to(device))[0]
    for probability in (0.0, 0.05, 0.25, 0.3, 0.5, 0.8, 0.95, 1.0):
        expected = np.quantile(values.numpy(), probability, axis=-1)
        np.testing.assert_array_equal(quantile(ordered, probability).cpu().numpy(), expected)


def test_the_quantile_of_what_is_no_number_is_none():
    ordered = sort(rows("not finite", 20))[0]
    assert quantile(ordered, 0.3).isnan().tolist() == [True, False, False]
