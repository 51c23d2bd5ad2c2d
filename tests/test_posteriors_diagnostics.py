"""Diagnostics against ArviZ on chains of every kind, nested R-hat against its paper, and what each is there to find."""

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

from bayesreg.posteriors import diagnostics, ranks
from bayesreg.posteriors.diagnostics import Chains, diagnose, minimum_ess

AXES = {"chain_axis": 0, "draw_axis": 1}


def autoregressive(shape, correlation, seed=0, start=None):
    """Chains ``(chain, draw, ...)`` of variance 1, stationary unless they are given a start."""
    generator = np.random.default_rng(seed)
    draws = np.empty(shape)
    now = generator.standard_normal((shape[0], *shape[2:])) if start is None else np.asarray(start, dtype=float)
    for draw in range(shape[1]):
        now = correlation * now + np.sqrt(1.0 - correlation**2) * generator.standard_normal(now.shape)
        draws[:, draw] = now
    return draws


def chains_of_every_kind(num_chains, num_draws):
    """One scalar a kind ``(chain, draw, kind)``, and the kinds' names."""
    shape = (num_chains, num_draws)
    drift = np.linspace(0.0, 2.0, num_draws)
    kinds = {f"autocorrelation {rho}": autoregressive(shape, rho, 1) for rho in (0.0, 0.5, 0.99, -0.5, -0.95)}
    kinds |= {
        "chains apart": autoregressive(shape, 0.5, 2) + 3.0 * np.arange(num_chains)[:, None],
        "scales apart": autoregressive(shape, 0.0, 3) * (1.0 + np.arange(num_chains))[:, None],
        "drift": autoregressive(shape, 0.3, 4) + drift,
        "ties": np.round(autoregressive(shape, 0.5, 5), 1),
        "rejections": np.repeat(autoregressive(shape, 0.3, 6), 3, axis=1)[:, :num_draws],
        "two values": np.where(np.arange(num_draws) % 5 == 0, 1.0, autoregressive(shape, 0.5, 7) > 0.5),
        "no mean": np.tan(autoregressive(shape, 0.3, 8)),
        "offset": 1e8 + autoregressive(shape, 0.3, 9),
        "one outlier": np.where(
            np.arange(num_chains * num_draws).reshape(shape) == 1, 1e6, autoregressive(shape, 0, 9)
        ),
    }
    return np.stack(list(kinds.values()), axis=-1), list(kinds)


@pytest.mark.parametrize("shape", [(1, 100), (2, 101), (4, 4), (3, 5), (4, 7), (5, 33), (64, 20), (4, 500)])
def test_they_are_arvizs(shape, device):
    draws, names = chains_of_every_kind(*shape)
    measures = {
        "ess_bulk": (Chains.ess_bulk, array_stats.ess(draws, method="bulk", **AXES)),
        "ess_tail": (Chains.ess_tail, array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **AXES)),
        "ess_mean": (Chains.ess_mean, array_stats.ess(draws, method="mean", **AXES)),
        "ess_square": (Chains.ess_square, array_stats.ess(draws, method="sd", **AXES)),
        "mcse_mean": (Chains.mcse_mean, array_stats.mcse(draws, method="mean", **AXES)),
    }
    for probability in (0.0, 0.3, 1.0):
        expected = array_stats.ess(draws, method="quantile", prob=probability, **AXES)
        measures[f"ess of {probability}"] = (lambda chains, at=probability: chains.ess_quantile(at), expected)
        expected = array_stats.mcse(draws, method="quantile", prob=probability, **AXES)
        measures[f"mcse of {probability}"] = (
            lambda chains, at=probability: chains.mcse_quantile(at),
            expected,
        )
    if shape[0] > 1:
        with np.errstate(divide="ignore"):  # two draws a half: they may be the same in all chains
            measures["r_hat"] = (Chains.r_hat, array_stats.rhat(draws, **AXES))
    found = diagnose(torch.as_tensor(draws, device=device), *(measure for measure, _ in measures.values()))
    for (name, (_, expected)), numbers in zip(measures.items(), found, strict=True):
        assert numbers.device == torch.empty(0, device=device).device and numbers.shape == (len(names),)
        for kind, number, wanted in zip(names, numbers.cpu().numpy(), expected, strict=True):
            # Below 1e-5 of the spread an offset of 1e8 has lost the digits, in ArviZ and here.
            np.testing.assert_allclose(
                number, wanted, rtol=1e-9 if kind != "offset" else 1e-6, err_msg=f"{name}: {kind}"
            )


@pytest.mark.parametrize("shape", [(1, 8), (1, 10), (2, 13)])
def test_sums_that_reach_the_last_lag_end_as_arvizs(shape):
    """Few lags: the pair at which the sum stops may be a positive one with a negative first half."""
    draws = autoregressive((*shape, 300), 0.2)
    (found,) = diagnose(torch.from_numpy(draws), Chains.ess_mean)
    np.testing.assert_allclose(found.numpy(), array_stats.ess(draws, method="mean", **AXES), rtol=1e-9)


def test_the_error_of_the_sd_is_that_of_the_squares_halved():
    """ArviZ took the ESS of x for that of (x - mean)^2 until 1.0: here the formula, with ArviZ's ESS of the squares."""
    draws = autoregressive((4, 500, 3), 0.8) * [1.0, 1e-200, 1e200]
    units = draws / [1.0, 1e-200, 1e200]
    squares = (units - units.mean((0, 1))) ** 2
    ess = array_stats.ess(units, method="sd", **AXES)
    expected = np.sqrt((np.square(squares).mean((0, 1)) - squares.mean((0, 1)) ** 2) / ess / squares.mean((0, 1))) / 2.0
    (found,) = diagnose(torch.from_numpy(draws), Chains.mcse_sd)
    np.testing.assert_allclose(found.numpy(), expected * [1.0, 1e-200, 1e200], rtol=1e-9)


def test_the_errors_say_how_far_estimates_scatter():
    runs = autoregressive((4, 300, 2000), 0.7)
    mean, sd, mcse_mean, mcse_sd = diagnose(
        torch.from_numpy(runs), Chains.mean, Chains.sd, Chains.mcse_mean, Chains.mcse_sd
    )
    # The sd of 2000 numbers is known to 1.6 %; the median of an estimated error is a little off the error.
    assert float(mcse_mean.median()) == pytest.approx(float(mean.std()), rel=0.08)
    assert float(mcse_sd.median()) == pytest.approx(float(sd.std()), rel=0.08)


@pytest.mark.parametrize(("correlation", "independent"), [(0.0, True), (0.0, False), (0.7, False)])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95])
def test_the_errors_of_quantiles_say_how_far_they_scatter(correlation, independent, probability):
    runs = torch.from_numpy(autoregressive((4, 300, 2000), correlation))
    found, errors = diagnose(
        runs,
        lambda chains: chains.in_given_units(ranks.quantile(chains.ascending[0], probability)),
        lambda chains: chains.mcse_quantile(probability, independent),
    )
    # The sd of 2000 numbers is known to 1.6 %; the bracket, rounded outwards, may be wider by two draws in some ten.
    scatter = float(found.std())
    assert 0.95 * scatter < float(errors.square().mean().sqrt()) < 1.3 * scatter


def test_the_error_of_a_quantile_of_correlated_draws_taken_for_independent_is_too_small():
    runs = torch.from_numpy(autoregressive((4, 300, 200), 0.9))
    honest, naive = diagnose(
        runs, lambda chains: chains.mcse_quantile(0.5), lambda chains: chains.mcse_quantile(0.5, independent=True)
    )
    assert float(honest.median()) > 2.0 * float(naive.median())


@pytest.mark.parametrize("exponent", [-1070, -600, 0, 600, 960])
def test_no_unit_is_too_small_or_too_large(exponent):
    draws = autoregressive((4, 50, 2), 0.5)
    draws = np.round(draws * 8.0)  # few digits, which survive where numbers have few
    measures = (Chains.ess_bulk, Chains.ess_tail, Chains.ess_mean, Chains.ess_square, Chains.r_hat)
    reference = diagnose(torch.from_numpy(draws), *measures)
    scaled = torch.from_numpy(np.ldexp(draws, exponent))
    for found, expected in zip(diagnose(scaled, *measures), reference, strict=True):
        assert torch.equal(found, expected)
    sd, mcse = diagnose(scaled, Chains.sd, Chains.mcse_mean)
    other_sd, other_mcse = diagnose(torch.from_numpy(draws), Chains.sd, Chains.mcse_mean)
    assert torch.equal(sd, torch.from_numpy(np.ldexp(other_sd.numpy(), exponent)))
    assert torch.equal(mcse, torch.from_numpy(np.ldexp(other_mcse.numpy(), exponent)))


def test_what_cannot_be_judged_is_nan_and_spoils_nothing_else():
    draws = torch.from_numpy(autoregressive((4, 20, 6), 0.0))
    alone = diagnose(draws[..., 5], Chains.ess_bulk, Chains.r_hat)
    draws[..., 0], draws[..., 1] = 0.1, 0.0
    draws[1, 3, 2], draws[0, 0, 3], draws[2, 2, 4] = torch.nan, torch.inf, -torch.inf
    measures = (
        Chains.ess_bulk, Chains.ess_tail, Chains.ess_mean, Chains.ess_square, Chains.mcse_mean, Chains.mcse_sd,
        Chains.r_hat, Chains.lasting_r_hat, lambda chains: chains.nested_r_hat(2),
    )  # fmt: skip
    for numbers in diagnose(draws, *measures):
        assert numbers[:5].isnan().all() and numbers[5].isfinite()
    assert [float(numbers[5]) for numbers in diagnose(draws, Chains.ess_bulk, Chains.r_hat)] == pytest.approx(
        [float(number) for number in alone], rel=1e-12
    )
    mean, sd = diagnose(draws, Chains.mean, Chains.sd)
    assert mean[:2].tolist() == [0.1, 0.0] and sd[:2].tolist() == [0.0, 0.0]
    assert mean[2].isnan() and mean[3:5].tolist() == [torch.inf, -torch.inf] and sd[2:5].isnan().all()
    for short in (draws[:, :1, 5], draws[:, :3, 5]):
        assert all(numbers.isnan() for numbers in diagnose(short, *measures))
    assert all(numbers.isnan() for numbers in diagnose(draws[:1, :, 5], Chains.r_hat, Chains.lasting_r_hat))


def test_what_is_constant_has_itself_for_its_mean():
    constants = torch.arange(1, 50, dtype=torch.float64) / 7.0
    mean, sd = diagnose(constants.expand(3, 49, 49), Chains.mean, Chains.sd)
    assert torch.equal(mean, constants) and not sd.any()


@pytest.mark.parametrize("shape", [(), (4,), (0, 5), (4, 0), (4, 5, 0)])
def test_what_is_no_draws_is_refused(shape):
    with pytest.raises(ValueError, match=r"draws must have shape \(chain, draw, \.\.\.\), got"):
        diagnose(torch.zeros(shape, dtype=torch.float64), Chains.r_hat)


def test_shapes_and_blocks_change_no_number(monkeypatch):
    draws = torch.from_numpy(autoregressive((4, 51, 3, 7), 0.5))
    measures = (Chains.mean, Chains.ess_bulk, Chains.ess_tail, Chains.mcse_mean, Chains.r_hat)
    together = diagnose(draws, *measures)
    monkeypatch.setitem(diagnostics._BLOCK, "cpu", 4 * 51 * 2)
    for found, expected in zip(diagnose(draws, *measures), together, strict=True):
        assert found.shape == (3, 7)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)
    single = diagnose(draws[:, :, 1, 4], *measures)
    for found, expected in zip(single, together, strict=True):
        torch.testing.assert_close(found, expected[1, 4], rtol=1e-12, atol=0.0)
    single_precision = diagnose(draws.to(torch.float32), Chains.ess_bulk)[0]
    assert single_precision.dtype == torch.float64


def test_the_devices_are_kept_to(device, strict_factories, no_synchronisation):
    draws = torch.as_tensor(np.round(autoregressive((4, 51, 40), 0.5), 1), device=device)
    measures = (Chains.sd, Chains.ess_bulk, Chains.ess_tail, Chains.r_hat, Chains.lasting_r_hat, Chains.mcse_sd)
    with no_synchronisation(at_most=2):
        found = diagnose(draws, *measures, lambda chains: chains.nested_r_hat(2))
    assert all(numbers.device == draws.device and numbers.dtype == torch.float64 for numbers in found)


@pytest.mark.parametrize("least", [*range(1, 200), 999, 1000, 4099, 51199])
def test_lengths_of_transforms_are_smooth_and_long_enough(least):
    length = diagnostics._smooth_length(least)
    assert least <= length <= 1.2 * least + 1
    for factor in (2, 3, 5):
        while length % factor == 0:
            length //= factor
    assert length == 1


# --- what an engine is judged by


def test_minimum_ess_is_the_smaller_of_mean_and_squares():
    """Antithetic draws: better than independent ones for the mean, worse for the variance."""
    draws = np.stack([autoregressive((8, 1000), rho, 3) for rho in (-0.6, 0.6)], axis=-1)
    found = minimum_ess(torch.from_numpy(draws))
    mean, squares = (array_stats.ess(draws, method=method, **AXES) for method in ("mean", "sd"))
    assert mean[0] > 2.5 * 8000 > 8000 > squares[0] and mean[1] < squares[1]
    np.testing.assert_allclose(found.numpy(), np.minimum(mean, squares), rtol=1e-9)
    # (1 - rho^2)/(1 + rho^2) a draw for squares, (1 - rho)/(1 + rho) for the mean.
    np.testing.assert_allclose(found.numpy(), [8000 * 0.64 / 1.36, 8000 * 0.4 / 1.6], rtol=0.1)


# --- nested R-hat


def nested_by_hand(draws, num_superchains):
    """Margossian et al., equations 4 to 8, in loops; of draws as they are."""
    superchains = np.split(draws, num_superchains)
    grand = np.mean([np.mean(superchain) for superchain in superchains])
    between, within = 0.0, 0.0
    for superchain in superchains:
        centre = np.mean(superchain)
        between += (centre - grand) ** 2 / (num_superchains - 1)
        for chain in superchain:
            within += (np.mean(chain) - centre) ** 2 / (len(superchain) - 1) / num_superchains
            squares = np.sum((chain - np.mean(chain)) ** 2) / (len(chain) - 1)
            within += squares / len(superchain) / num_superchains
    return np.sqrt(1.0 + between / within)


@pytest.mark.parametrize(("num_chains", "num_superchains"), [(4, 2), (12, 3), (12, 12), (64, 8)])
@pytest.mark.parametrize("num_draws", [20, 21])
def test_nested_r_hat_is_its_papers_and_arvizs(num_chains, num_superchains, num_draws, device):
    draws, names = chains_of_every_kind(num_chains, num_draws)
    draws[..., 0] += np.repeat(np.arange(num_superchains), num_chains // num_superchains)[:, None]
    (found,) = diagnose(torch.as_tensor(draws, device=device), lambda chains: chains.nested_r_hat(num_superchains))
    half = num_draws // 2
    for column, name in enumerate(names):
        # Side by side the halves of a chain, and ArviZ's scores of these: the formula is the paper's.
        split = np.stack([draws[:, :half, column], draws[:, -half:, column]], axis=1).reshape(-1, half)
        scores = [array_stats._z_scale(split), array_stats._z_scale(np.abs(split - np.median(split)))]
        by_hand = max(nested_by_hand(score, num_superchains) for score in scores)
        assert float(found[column]) == pytest.approx(by_hand, rel=1e-9), name
    ids = np.arange(num_chains) * num_superchains // num_chains
    theirs = array_stats.rhat_nested(draws, ids, **AXES)
    np.testing.assert_allclose(found.cpu().numpy(), theirs, rtol=1e-9)


def test_nested_r_hat_sees_starts_and_not_the_noise_of_short_chains():
    shape, starts = (128, 30, 20), np.repeat(np.linspace(-3.0, 3.0, 8), 16)[:, None] * np.ones(20)
    settled = torch.from_numpy(autoregressive(shape, 0.3))
    started = torch.from_numpy(autoregressive(shape, 0.98, start=starts))
    plain, nested = diagnose(settled, Chains.r_hat, lambda chains: chains.nested_r_hat(8))
    assert plain.min() > 1.01 and nested.max() < 1.01
    assert diagnose(started, lambda chains: chains.nested_r_hat(8))[0].min() > 1.5


@pytest.mark.parametrize("number", [0, 1, 5, 24])
def test_chains_that_cannot_be_shared_out_are_refused(number):
    with pytest.raises(ValueError, match=rf"must be at least 2 and divide the number of chains \(12\), got {number}"):
        diagnose(torch.zeros((12, 10), dtype=torch.float64), lambda chains: chains.nested_r_hat(number))


# --- what lasts of R-hat


@pytest.mark.parametrize("num_draws", [20, 21])
def test_lasting_r_hat_by_hand(num_draws, device):
    draws, names = chains_of_every_kind(16, num_draws)
    (found,) = diagnose(torch.as_tensor(draws, device=device), Chains.lasting_r_hat)
    half = num_draws // 2
    for column, name in enumerate(names):
        split = np.stack([draws[:, :half, column], draws[:, -half:, column]])  # (half, chain, draw)
        expected = 1.0
        for scores in (array_stats._z_scale(split), array_stats._z_scale(np.abs(split - np.median(split)))):
            first, second = scores.mean(-1)
            lasting = np.cov(first, second)[0, 1] + (first.mean() - second.mean()) ** 2 / 4.0
            expected = max(expected, np.sqrt(1.0 + max(lasting, 0.0) / scores.var(axis=-1, ddof=1).mean()))
        assert float(found[column]) == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize(("shape", "correlation"), [((256, 100), 0.5), ((256, 190), 0.7), ((1024, 50), 0.5)])
def test_many_short_chains_in_agreement_pass_though_r_hat_does_not(shape, correlation):
    draws = torch.from_numpy(autoregressive((*shape, 50), correlation))
    r_hat, lasting, ess = diagnose(draws, Chains.r_hat, Chains.lasting_r_hat, Chains.ess_bulk)
    assert ess.min() > 5000 and r_hat.min() > 1.01
    assert lasting.max() < 1.01


@pytest.mark.parametrize("trouble", ["one stuck", "two modes", "slow", "same start", "drift", "scales"])
def test_what_lasts_shows(trouble):
    shape = (256, 100, 20)
    draws = autoregressive(shape, 0.3)
    if trouble == "one stuck":
        draws[17] += 3.0
    elif trouble == "two modes":
        draws[:128] += 0.6
    elif trouble == "slow":
        draws = autoregressive(shape, 0.97)
    elif trouble == "same start":
        draws = autoregressive(shape, 0.95, start=np.full((256, 20), 3.0))
    elif trouble == "drift":
        draws += np.linspace(0.0, 1.0, 100)[:, None]
    else:
        draws[:128] *= 2.0
    (lasting,) = diagnose(torch.from_numpy(draws), Chains.lasting_r_hat)
    assert lasting.min() > 1.01
