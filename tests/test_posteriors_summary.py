"""The table of a posterior against NumPy and ArviZ, scalar by scalar, in every unit; what it does not import."""

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from fresh_process import modules_after

from bayesreg.posteriors.summary import convergence, interval_bounds, summarize

AXES = {"chain_axis": 0, "draw_axis": 1}


def draws_of(num_chains, num_draws, seed=0):
    """Skewed weights with ties, and a scalar that wanders."""
    generator = np.random.default_rng(seed)
    weights = np.round(generator.gamma(2.0, size=(num_chains, num_draws, 5)), 2)
    wandering = 0.1 * np.cumsum(generator.standard_normal((num_chains, num_draws)), axis=1)
    return {"weights": torch.from_numpy(weights), "noise_scale": torch.from_numpy(np.exp(wandering))}


@pytest.mark.parametrize("kind", ["eti", "hdi"])
@pytest.mark.parametrize("shape", [(4, 100), (3, 51), (1, 40), (64, 10)])
def test_every_number_is_numpys_or_arvizs(shape, kind):
    draws = draws_of(*shape)
    table = summarize(draws, list("abcde"), 0.8, kind)
    values = np.concatenate([draws["weights"].numpy(), draws["noise_scale"].numpy()[..., None]], axis=-1)
    pooled = values.reshape(-1, 6)
    if kind == "eti":
        lower, upper = np.quantile(pooled, [0.1, 0.9], axis=0)
    else:
        lower, upper = np.stack([array_stats.hdi(pooled[:, column], prob=0.8) for column in range(6)], axis=-1)
    expected = {
        "mean": pooled.mean(0),
        "sd": pooled.std(0, ddof=1),
        f"{kind}_80%_lower": lower,
        f"{kind}_80%_upper": upper,
        "ess_bulk": array_stats.ess(values, method="bulk", **AXES),
        "ess_tail": array_stats.ess(values, method="tail", prob=(0.05, 0.95), **AXES),
        "mcse_mean": array_stats.mcse(values, method="mean", **AXES),
        "r_hat": array_stats.rhat(values, **AXES) if shape[0] > 1 else np.full(6, np.nan),
    }
    assert table.columns.tolist() == list(expected)
    assert table.index.tolist() == [*(f"weights[{name}]" for name in "abcde"), "noise_scale"]
    for column, numbers in expected.items():
        np.testing.assert_allclose(table[column], numbers, rtol=1e-10, err_msg=column)


@pytest.mark.parametrize("kind", ["eti", "hdi"])
@pytest.mark.parametrize("exponent", [-1000, -60, 900])
def test_units_change_the_units_alone(exponent, kind):
    draws = draws_of(4, 50)
    scaled = {name: torch.from_numpy(np.ldexp(values.numpy(), exponent)) for name, values in draws.items()}
    table, other = (summarize(values, list("abcde"), 0.9, kind) for values in (draws, scaled))
    for column in table:
        power = 0 if column in {"ess_bulk", "ess_tail", "r_hat"} else exponent
        np.testing.assert_array_equal(other[column], np.ldexp(table[column].to_numpy(), power), err_msg=column)


@pytest.mark.parametrize("number", [1, 2, 7, 1000])
@pytest.mark.parametrize("interval", [0.05, 0.5, 0.9, 0.999])
def test_equal_tails_are_numpys_quantiles_bit_by_bit(number, interval):
    values = np.random.default_rng(number).gamma(2.0, size=(number, 2, 3))
    found = interval_bounds(values, interval, "eti")
    for bound, probability in zip(found, ((1.0 - interval) / 2.0, (1.0 + interval) / 2.0), strict=True):
        np.testing.assert_array_equal(bound, np.quantile(values, probability, axis=0))


def test_convergence_is_what_the_table_says_and_for_many_chains_what_lasts():
    draws = draws_of(20, 50)
    draws["weights"][:10, :, 3] += 2.0
    draws["noise_scale"] = draws["weights"][..., 0].clone()
    table = summarize(draws, list("abcde"), 0.9, "eti")
    few, many = (convergence(draws, list("abcde"), many_chains) for many_chains in (False, True))
    assert few["r_hat"].equals(table["r_hat"]) and many.index.equals(table.index)
    assert few["ess"].equals(table[["ess_bulk", "ess_tail"]].min(axis=1)) and many["ess"].equals(few["ess"])
    assert many["r_hat"].idxmax() == "weights[d]" and many["r_hat"].max() > 1.2
    assert many["r_hat"]["noise_scale"] == many["r_hat"]["weights[a]"] < 1.05


def test_a_summary_does_not_wait_for_the_import_of_arviz():
    program = """
import torch
from bayesreg.posteriors.summary import summarize
draws = {"weights": torch.randn((4, 100, 2), dtype=torch.float64)}
assert summarize(draws, ["a", "b"], 0.9, "hdi").notna().all(axis=None)
"""
    assert not {"arviz", "arviz_stats", "arviz_base", "xarray"} & modules_after(program)
