"""Standard units: the map, its accuracy, and every way back."""

import copy
import pickle

import numpy as np
import pytest
import torch

from bayesreg.data import RegressionData
from bayesreg.standardization import Standardization


def shifted(offset, rows=200, seed=0):
    """Rows whose exact binary fractions survive an offset of 1e8 (they are multiples of 2^-20)."""
    generator = np.random.default_rng(seed)
    joint = np.round(generator.standard_normal((rows, 4)) * [1.0, 30.0, 0.2, 5.0] * 2**20) / 2**20
    return joint, RegressionData(joint[:, :3] + offset, joint[:, 3] - offset)


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e8])
def test_columns_have_mean_zero_and_deviation_one_to_the_last_digits(offset):
    joint, data = shifted(offset)
    scaled = data.standardized()
    exact = joint.astype(np.longdouble) - joint.astype(np.longdouble).mean(axis=0)
    exact /= np.sqrt((exact**2).mean(axis=0))
    np.testing.assert_allclose(np.column_stack([scaled.features, scaled.target]), exact.astype(float), atol=1e-14)


def test_the_divisor_is_n():
    scaled = RegressionData([[0.0], [2.0], [4.0]], [0.0, 0.0, 3.0]).standardized()
    assert scaled.transform.feature_scales[0] == pytest.approx(np.sqrt(8 / 3), rel=1e-15)
    assert scaled.transform.target_scale == pytest.approx(np.sqrt(2), rel=1e-15)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 + 0.1, -1e-300, 1e300])
def test_constant_columns_and_targets_keep_their_scale(constant):
    generator = np.random.default_rng(1)
    features = np.column_stack([np.full(1000, constant), generator.standard_normal(1000)])
    scaled = RegressionData(features, np.full(1000, constant)).standardized()
    assert scaled.transform.feature_scales[0] == scaled.transform.target_scale == 1.0
    assert not scaled.features[:, 0].any() and not scaled.target.any()
    assert scaled.features[:, 1].std() == pytest.approx(1.0)


@pytest.mark.parametrize("magnitude", [1e-200, 1.0, 1e8])
def test_a_column_is_constant_relative_to_its_magnitude(magnitude):
    ulps = np.arange(1000) % 2 * np.spacing(magnitude)  # rounding, not variation
    varying = magnitude * (1 + 1e-6 * np.arange(1000))
    transform = RegressionData(np.column_stack([magnitude + ulps, varying]), np.arange(1000)).standardized().transform
    assert transform.feature_scales[0] == 1.0
    assert transform.feature_scales[1] == pytest.approx(magnitude * 1e-6 * np.arange(1000).std(), rel=1e-6)


def test_columns_of_any_scale_and_a_single_row_work():
    generator = np.random.default_rng(2)
    features = generator.standard_normal((50, 4)) * [1e-200, 1e-6, 1e6, 1e200]
    np.testing.assert_allclose(RegressionData(features, features[:, 1]).standardized().features.std(axis=0), 1.0)
    one = RegressionData([[3.0, -4.0]], [5.0]).standardized()
    assert one.features.tolist() == [[0.0, 0.0]] and one.target.tolist() == [0.0]


def test_columns_too_wide_for_float64_are_refused():
    with pytest.raises(ValueError, match="standard deviations.*'x1'"):
        RegressionData([[1.0, 1.7e308], [2.0, -1.7e308]], [1.0, 2.0]).standardized()


def test_standardized_data_are_refused_by_standardized_and_apply():
    _, data = shifted(0.0)
    scaled = data.standardized()
    with pytest.raises(ValueError, match="standardized already"):
        scaled.standardized()
    with pytest.raises(ValueError, match="standardized already"):
        scaled.transform.apply(scaled)


def test_apply_takes_other_rows_and_keeps_names():
    _, data = shifted(1e8)
    train, test = data.split(0.3, seed=1)
    scaled = train.standardized().transform.apply(test)
    expected = (test.features - train.features.mean(axis=0)) / train.features.std(axis=0)
    np.testing.assert_allclose(scaled.features, expected, atol=1e-6)  # the oracle's mean is rounded at 1e8
    assert scaled.feature_names == data.feature_names and scaled.transform == train.standardized().transform
    with pytest.raises(ValueError, match="3 columns, got 2"):
        scaled.transform.apply(RegressionData(np.zeros((2, 2)), np.zeros(2)))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_the_way_back_gives_the_same_fit_in_the_original_units(kind, leading):
    generator = np.random.default_rng(3)
    data = RegressionData(generator.standard_normal((30, 3)) * [1, 10, 0.1] + [5, -7, 0], generator.uniform(10, 90, 30))
    scaled = data.standardized()
    weights, intercept = generator.standard_normal((*leading, 3)), generator.standard_normal(leading)
    standard_fit = intercept[..., None] + weights @ scaled.features.T

    original_weights = scaled.transform.to_original_weights(kind(weights))
    original_intercept = scaled.transform.to_original_intercept(kind(weights), kind(intercept))
    predictions = scaled.transform.to_original_predictions(kind(standard_fit))
    for result in (original_weights, original_intercept, predictions):
        assert torch.is_tensor(result) == (kind is torch.as_tensor)
    original_fit = np.asarray(original_intercept)[..., None] + np.asarray(original_weights) @ data.features.T
    np.testing.assert_allclose(np.asarray(predictions), original_fit, rtol=1e-12)
    residuals = np.asarray(scaled.transform.to_original_noise_scale(kind(scaled.target - standard_fit)))
    np.testing.assert_allclose(residuals, data.target - original_fit, rtol=1e-9, atol=1e-11)


def test_the_prior_goes_back_with_the_weights():
    generator = np.random.default_rng(4)
    transform = RegressionData(generator.standard_normal((30, 2)) * [3, 50], generator.uniform(size=30)).standardized()
    transform = transform.transform
    expected = 0.25 * transform.to_original_weights(np.ones(2))
    np.testing.assert_array_equal(transform.to_original_prior_scale(0.25), expected)
    np.testing.assert_array_equal(transform.to_original_prior_scale(np.array([0.25, 0.5])), expected * [1, 2])
    draws = torch.tensor([[0.25, 0.5, 0.75], [1.0, 1.25, 1.5]], dtype=torch.float64)
    scales = transform.to_original_prior_scale(draws[..., None])
    assert scales.shape == (2, 3, 2) and scales.dtype == torch.float64
    np.testing.assert_allclose(scales[1, 2].numpy(), 6 * expected)


def test_the_way_back_is_differentiable():
    _, data = shifted(0.0)
    transform = data.standardized().transform
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    transform.to_original_weights(weights).sum().backward()
    np.testing.assert_allclose(weights.grad.numpy(), transform.target_scale / transform.feature_scales)


def test_means_keep_what_rounding_leaves_out():
    transform = Standardization.about(np.array([1e8, 0.0]), np.array([1e-9, 3.0]), np.array([2.0, 0.5]))
    assert transform.feature_means[0] == 1e8 and transform.feature_remainders[0] == 1e-9
    assert transform.apply_to_features(np.array([1e8]))[0] == -0.5e-9
    back = transform.to_original_intercept(np.array([8.0]), 1.0)  # 3 + 0.5 - 2 * (1e8 + 1e-9)
    assert back == 3.5 - 2e8
    # Where the means cancel, what rounding left out of them is all there is.
    transform = Standardization.about(np.array([1e8, 1e8]), np.array([1e-9, 4e-9]), np.array([2.0, 2.0]))
    assert transform.to_original_intercept(np.array([1.0]), 0.0) == pytest.approx(3e-9, rel=1e-15)


def test_vectors_and_equality():
    _, data = shifted(1e8)
    transform = data.standardized().transform
    assert Standardization.from_vector(transform.as_vector()) == transform
    other = transform.as_vector()
    other[-1] += 1
    assert Standardization.from_vector(other) != transform
    assert transform != None and transform != "x"  # noqa: E711


def test_no_copy_can_be_changed():
    transform = shifted(1e8)[1].standardized().transform
    copies = [pickle.loads(pickle.dumps(transform, protocol)) for protocol in (2, 4, 5)]
    for same in (transform, *copies, copy.deepcopy(transform), copy.copy(transform)):
        assert same == transform
        for name in ("feature_means", "feature_scales", "feature_remainders"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(same, name)[0] = 0
