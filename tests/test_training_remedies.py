"""The other remedies: each is what it says, and as near to ridge as theory says."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import bayesreg as br
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.training.remedies import bagging, dropout, early_stopping, input_noise, more_data


def make_rows(n=23, d=4, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) + 0.5
    return RegressionData(features, features @ np.linspace(-1, 2, d) + 1.5 + rng.normal(size=n))


def half_mean_square(data, weights, intercept):
    return np.mean(np.square(data.target - data.features @ weights - intercept)) / 2


ALL = {
    early_stopping: {"steps": [5, 50]},
    dropout: {"rates": [0.1, 0.5], "steps": 400},
    input_noise: {"scales": [0.1, 1.0], "copies": 5},
    bagging: {"sizes": [1, 4]},
    more_data: {"sizes": [10, 20], "penalty": br.L2(1.0, "sklearn-ridge")},
}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize("remedy", ALL)
def test_what_every_remedy_hands_back(remedy, d, intercept):
    data, test = make_rows(d=d), make_rows(31, d, seed=1)
    found = remedy(data, test=test, intercept=intercept, **ALL[remedy])
    assert found.weights.shape == found.ridge_weights.shape == (2, d)
    assert found.weights.dtype == found.intercepts.dtype == torch.float64
    assert bool(found.intercepts.all()) if intercept else not found.intercepts.any()
    for k in range(2):
        fit = found.weights[k].numpy(), float(found.intercepts[k])
        assert found.test_loss[k] == pytest.approx(half_mean_square(test, *fit), rel=1e-12)
        if remedy is not more_data:
            assert found.train_loss[k] == pytest.approx(half_mean_square(data, *fit), rel=1e-10, abs=1e-25)
        apart = np.linalg.norm(fit[0] - found.ridge_weights[k].numpy())
        assert found.difference[k] == pytest.approx(apart / np.linalg.norm(fit[0]), rel=1e-10)
    assert remedy(data, intercept=intercept, **ALL[remedy]).test_loss is None
    again = remedy(data, intercept=intercept, **ALL[remedy])
    assert again.weights.equal(found.weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "another"
    for values in (found.values, found.train_loss, found.nearest_lambda, found.difference):
        assert not values.flags.writeable


def test_the_tables_of_all_remedies_can_be_put_below_each_other():
    data, test = make_rows(), make_rows(31, seed=1)
    table = pd.concat([remedy(data, test=test, **knobs).to_frame() for remedy, knobs in ALL.items()])
    assert table.remedy.tolist() == [
        name for name in ("early stopping", "dropout", "input noise", "bagging", "more data") for _ in range(2)
    ]
    assert table.knob.unique().tolist() == ["steps", "rate", "scale", "members", "rows"]
    assert table.value.tolist() == [5, 50, 0.1, 0.5, 0.1, 1.0, 1, 4, 10, 20]
    known = table[table.remedy != "bagging"]
    assert known.notna().all().all()
    assert table[table.remedy == "bagging"].equivalent_lambda.isna().all()
    one = dropout(data, **ALL[dropout])
    np.testing.assert_allclose(one.to_frame().equivalent_lambda, one.equivalent_lambda.mean(axis=1))
    np.testing.assert_allclose(one.to_frame().weights_l2, np.linalg.norm(one.weights.numpy(), axis=1))


@pytest.mark.parametrize("remedy", [dropout, input_noise, bagging, more_data])
def test_the_seed_decides_and_nothing_global_changes(remedy):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again, other = (remedy(make_rows(), seed=seed, **ALL[remedy]) for seed in (1, 1, 2))
    assert first.weights.equal(again.weights)
    assert not first.weights.equal(other.weights)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_strengths_on_the_books_data_are_those_of_the_units():
    scaled = make_rows().standardized()
    np.testing.assert_allclose(dropout(scaled, rates=[0.2], steps=2).equivalent_lambda, 0.25, rtol=1e-12)


# --- early stopping


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize("started", [False, True])
def test_early_stopping_is_gradient_descent(d, intercept, started):
    data = make_rows(d=d)
    start = np.linspace(1.0, -1.0, d) * started
    x, y = data.features - data.features.mean(axis=0) * intercept, data.target - data.target.mean() * intercept
    rate = 1.5 / np.linalg.eigvalsh(x.T @ x / len(y))[-1]
    found = early_stopping(data, [1, 2, 9, 60], rate, intercept=intercept, start=start if started else None)
    w, k = start.copy(), 0
    for at, (count, weights) in enumerate(zip(found.values, found.weights.numpy(), strict=True)):
        while k < count:
            w, k = w - rate * x.T @ (x @ w - y) / len(y), k + 1
        np.testing.assert_allclose(weights, w, rtol=0, atol=1e-11)
        strength = 1.0 / (rate * count)
        assert found.equivalent_lambda[at] == pytest.approx(strength, rel=1e-14)
        hessian = x.T @ x / len(y) + strength * np.eye(d)
        ridge = start + np.linalg.solve(hessian, x.T @ (y - x @ start) / len(y))
        np.testing.assert_allclose(found.ridge_weights[at].numpy(), ridge, rtol=0, atol=1e-11)


def test_early_stopping_goes_1_to_1_3_times_as_far_as_ridge():
    data = make_rows(200, 6)
    x, y = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    curvatures, basis = np.linalg.eigh(x.T @ x / len(y))
    rate = 1e-3 / curvatures[-1]
    counts = np.unique(np.logspace(0, 7, 60).astype(int))
    found = early_stopping(data, counts, rate)
    full = basis.T @ np.linalg.solve(x.T @ x, x.T @ y)
    gone, ridge = (part.numpy() @ basis / full for part in (found.weights, found.ridge_weights))
    # sup of (1 - e^-x)(1 + x)/x and of 1 - e^-x - x/(1 + x); a step of eta h <= 1e-3 adds at most about that.
    points = np.logspace(-4, 3, 100_001)
    bounds = (-np.expm1(-points) * (1 + points) / points).max(), (-np.expm1(-points) - points / (1 + points)).max()
    assert bounds == pytest.approx((1.2985, 0.2036), abs=1e-4)
    ratio, more = gone / ridge, gone - ridge
    assert ratio.min() > 1 - 1e-6
    assert bounds[0] * 0.99 < ratio.max() < bounds[0] + 1e-3
    assert bounds[1] * 0.99 < more.max() < bounds[1] + 1e-3
    assert found.difference[0] < 1e-3 > found.difference[-1]


def test_early_stopping_by_default_and_at_the_end():
    data = make_rows()
    found = early_stopping(data, [10**9])
    exact = np.linalg.lstsq(np.column_stack([data.features, np.ones(23)]), data.target, rcond=None)[0]
    np.testing.assert_allclose(found.weights[0].numpy(), exact[:-1], rtol=1e-10)
    assert float(found.intercepts[0]) == pytest.approx(exact[-1], rel=1e-10)
    constant = early_stopping(RegressionData(np.full((5, 2), 3.0), np.arange(5.0)), [3])
    assert (constant.weights.tolist(), constant.difference.tolist()) == ([[0.0, 0.0]], [0.0])


def test_few_short_steps_lose_no_digits():
    data = make_rows()
    found = early_stopping(data, [7], 1e-13)
    x, y = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    np.testing.assert_allclose(found.weights[0].numpy(), 7e-13 * x.T @ y / len(y), rtol=1e-9)


# --- dropout


@pytest.mark.parametrize("intercept", [True, False])
def test_dropout_over_all_masks_is_the_ridge_fit(intercept):
    data, p = make_rows(), 0.3
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    chances = p ** (1 - masks).sum(axis=1) * (1 - p) ** masks.sum(axis=1)
    rows = np.concatenate([data.features * mask / (1 - p) for mask in masks])
    rows = np.column_stack([rows, np.full(len(rows), float(intercept))])
    roots = np.sqrt(np.repeat(chances, data.num_rows))
    exact = np.linalg.lstsq(rows * roots[:, None], np.tile(data.target, len(masks)) * roots, rcond=None)[0]
    found = dropout(data, [p], steps=2, intercept=intercept)
    np.testing.assert_allclose(found.ridge_weights[0].numpy(), exact[:-1], rtol=0, atol=1e-12)
    plain = early_stopping(data, [10**9], intercept=intercept).weights[0].numpy()
    assert np.abs(exact[:-1] - plain).max() > 0.1  # and dropout matters


def errors_of(remedy, seeds, **knobs):
    """Weights less those of ridge for several seeds, (seeds, d)."""
    found = [remedy(make_rows(), seed=seed, **knobs) for seed in seeds]
    return np.stack([(one.weights - one.ridge_weights).numpy()[0] for one in found])


def assert_no_bias(errors):
    """The mean over seeds is within its standard error of 0: 4.5 of them for the largest of four."""
    z = errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / np.sqrt(len(errors)))
    assert np.abs(z).max() < 4.5


def test_training_with_dropout_comes_to_ridge_as_the_root_of_the_steps():
    short, long = (errors_of(dropout, range(16), rates=[0.3], steps=steps) for steps in (300, 2700))
    assert_no_bias(long)
    # 64 numbers of a relative standard error of 9 % each side, and not all independent.
    ratio = np.sqrt(np.mean(short**2) / np.mean(long**2))
    assert 3 / 1.6 < ratio < 3 * 1.6
    assert np.sqrt(np.mean(long**2)) < 0.05


def test_rates_share_rows_and_masks():
    both, alone = (dropout(make_rows(), rates, steps=50) for rates in ([0.1, 0.5], [0.5]))
    np.testing.assert_allclose(both.weights[1].numpy(), alone.weights[0].numpy(), rtol=1e-12)


def test_no_dropout_is_least_squares():
    found = dropout(make_rows(), [0.0], steps=20_000)
    assert not found.equivalent_lambda.any()
    assert found.difference[0] < 0.05
    exact = early_stopping(make_rows(), [10**9]).weights[0].numpy()
    np.testing.assert_allclose(found.ridge_weights[0].numpy(), exact, rtol=1e-10)


# --- noise on the inputs


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("d", [4, 40])
def test_input_noise_is_least_squares_on_the_copies(d, intercept):
    data = make_rows(d=d)
    found = input_noise(data, [0.3], seed=5, copies=6, intercept=intercept)
    random = np.random.default_rng(5)
    rows = np.concatenate([data.features + 0.3 * random.standard_normal((23, d)) for _ in range(6)])
    rows = np.column_stack([rows, np.full(len(rows), float(intercept))])
    exact = np.linalg.lstsq(rows, np.tile(data.target, 6), rcond=None)[0]
    np.testing.assert_allclose(found.weights[0].numpy(), exact[:-1], rtol=0, atol=1e-10)
    assert float(found.intercepts[0]) == pytest.approx(exact[-1], abs=1e-10)
    assert found.equivalent_lambda.tolist() == [0.3**2]


def test_input_noise_comes_to_ridge_as_the_root_of_the_copies():
    few, many = (errors_of(input_noise, range(20), scales=[0.7], copies=copies) for copies in (15, 240))
    assert_no_bias(many)
    ratio = np.sqrt(np.mean(few**2) / np.mean(many**2))
    assert 4 / 1.5 < ratio < 4 * 1.5
    assert np.sqrt(np.mean(many**2)) < 0.03


# --- an ensemble


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("penalty", [None, br.L2(3.0, "sklearn-ridge")])
@pytest.mark.parametrize("d", [4, 40])
def test_bagging_averages_the_fits_to_bootstrap_samples(d, penalty, intercept):
    data = make_rows(d=d)
    found = bagging(data, [1, 3], seed=2, penalty=penalty, intercept=intercept)
    random, fits = np.random.default_rng(2), []
    for _ in range(3):
        places = random.integers(0, 23, 23)
        means = data.features[places].mean(axis=0) * intercept, data.target[places].mean() * intercept
        x, y = data.features[places] - means[0], data.target[places] - means[1]
        below = np.sqrt(3.0) * np.eye(d) if penalty else np.zeros((0, d))
        w = np.linalg.lstsq(np.vstack([x, below]), np.append(y, np.zeros(len(below))), rcond=1e-12)[0]
        fits.append(np.append(w, means[1] - means[0] @ w))
    for at, count in enumerate((1, 3)):
        expected = np.mean(fits[:count], axis=0)
        np.testing.assert_allclose(found.weights[at].numpy(), expected[:-1], rtol=0, atol=1e-9)
        assert float(found.intercepts[at]) == pytest.approx(expected[-1], abs=1e-9)
    assert found.equivalent_lambda is None


def test_the_ridge_fit_beside_an_ensemble_is_the_nearest_one():
    data, _ = br.simulate_weight_decay(seed=0, num_features=30)
    found = bagging(data, [50])
    strengths = np.append(np.logspace(-6, 3, 301), found.nearest_lambda)
    x, y = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    fits = [np.linalg.solve(x.T @ x / 20 + s * np.eye(30), x.T @ y / 20) for s in strengths]
    distances = [np.linalg.norm(x @ (w - found.weights[0].numpy())) for w in fits]
    assert np.argmin(distances) == 301
    assert 1e-6 < found.nearest_lambda[0] < 1e3
    np.testing.assert_allclose(found.ridge_weights[0].numpy(), fits[-1], rtol=0, atol=1e-12)


# --- more data


@pytest.mark.parametrize("d", [4, 40])
def test_more_data_under_one_prior(d):
    data, sizes = make_rows(60, d), [8, 30, 60]
    found = more_data(data, sizes, seed=4, penalty=br.L2(2.0, "sklearn-ridge"))
    np.testing.assert_allclose(found.equivalent_lambda, 2.0 / np.array(sizes), rtol=1e-14)
    np.testing.assert_allclose(found.nearest_lambda, 2.0 / np.array(sizes), rtol=1e-4)
    assert found.difference.max() < 1e-11
    order = np.random.default_rng(4).permutation(60)
    for k, size in enumerate(sizes):
        part = RegressionData(data.features[order[:size]], data.target[order[:size]])
        x, y = part.features - part.features.mean(axis=0), part.target - part.target.mean()
        w = np.linalg.solve(x.T @ x + 2.0 * np.eye(d), x.T @ y)
        np.testing.assert_allclose(found.weights[k].numpy(), w, rtol=0, atol=1e-11)
        loss = half_mean_square(part, w, part.target.mean() - part.features.mean(axis=0) @ w)
        assert found.train_loss[k] == pytest.approx(loss, rel=1e-9)


def test_a_strength_on_the_mean_loss_stays_as_n_grows():
    found = more_data(make_rows(60), [8, 60], penalty=br.L2(0.1))
    assert found.equivalent_lambda.tolist() == [0.1, 0.1]
    assert more_data(make_rows(60), [8, 60]).equivalent_lambda.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("intercept", [True, False])
def test_more_data_without_a_penalty_stands_beside_the_fit_of_minimum_norm(intercept):
    data = make_rows(60, d=40)
    data = RegressionData(data.features * np.logspace(0, 2, 40), data.target)  # in columns of other lengths too
    found = more_data(data, [8, 40, 60], intercept=intercept)
    assert (found.difference < 1e-9).all(), found.difference


# --- input


@pytest.mark.parametrize("remedy", ALL)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": np.zeros((3, 4))}, TypeError, "needs rows"),
        ({"data": Moments.from_data(make_rows())}, TypeError, "needs rows: .* got Moments"),
        ({"test": make_rows(d=3)}, ValueError, "4 in the same order; it has 3"),
        ({"test": make_rows().standardized()}, ValueError, "test must be in the units of data"),
        ({"intercept": 1}, TypeError, "intercept must be True or False, got 1"),
    ],
)
def test_bad_rows_are_refused_by_every_remedy(remedy, change, error, message):
    with pytest.raises(error, match=message):
        remedy(**{"data": make_rows(), **ALL[remedy], **change})


@pytest.mark.parametrize(
    ("remedy", "change", "error", "message"),
    [
        (early_stopping, {"steps": [0]}, ValueError, "steps must be whole numbers of at least 1, got 0"),
        (early_stopping, {"steps": [1.5]}, ValueError, "steps must be whole numbers .* got 1.5"),
        (early_stopping, {"steps": 5}, ValueError, r"steps must be a vector of .* got shape \(\)"),
        (early_stopping, {"learning_rate": 50.0}, ValueError, "below 2 / L = .* got 50.0"),
        (early_stopping, {"learning_rate": -1.0}, ValueError, "learning_rate must be positive"),
        (early_stopping, {"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        (early_stopping, {"start": np.zeros(3)}, ValueError, r"weights of shape \(4,\)"),
        (dropout, {"rates": [1.0]}, ValueError, "rates must be finite numbers of at least 0 and below 1, got 1"),
        (dropout, {"rates": [-0.1]}, ValueError, "rates must be"),
        (dropout, {"steps": 1}, ValueError, "steps must be"),
        (dropout, {"batch_size": 0}, ValueError, "batch_size must be"),
        (dropout, {"seed": -1}, ValueError, "seed must be"),
        (input_noise, {"scales": [0.0]}, ValueError, "scales must be"),
        (input_noise, {"scales": [np.inf]}, ValueError, "scales must be"),
        (input_noise, {"copies": 0}, ValueError, "copies must be"),
        (input_noise, {"seed": 0.5}, TypeError, "seed must be"),
        (bagging, {"sizes": []}, ValueError, "sizes must be a vector"),
        (bagging, {"penalty": 0.1}, TypeError, "penalty must be a Penalty"),
        (bagging, {"penalty": br.L1(0.1)}, ValueError, "penalty must be an L2 one of one strength"),
        (bagging, {"penalty": br.L2(np.ones(4))}, ValueError, "penalty must be an L2 one of one strength"),
        (bagging, {"penalty": br.L2(1.0, "laplace-torch")}, ValueError, "noise_scale"),
        (more_data, {"sizes": [24]}, ValueError, "sizes must be whole numbers of at least 1 and below 24, got 24"),
        (more_data, {"penalty": br.Penalty(l2=1.0, centre=1.0)}, ValueError, "towards 0"),
    ],
)
def test_bad_knobs_are_refused(remedy, change, error, message):
    with pytest.raises(error, match=message):
        remedy(make_rows(), **{**ALL[remedy], **change})
