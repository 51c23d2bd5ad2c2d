"""Centred rows, wherever the rows lie."""

import numpy as np
import pytest

import bayesreg as br
from bayesreg.paths.centred_design import centred_design


@pytest.mark.parametrize("offset", [0.0, 0.1, 100.0, 1e8])
def test_few_rows_are_centred_to_their_last_digits(offset):
    random = np.random.default_rng(0)
    features, target = random.standard_normal((6, 9)) + offset, random.standard_normal(6) - offset
    features[:, 4] = 0.1  # of which no sum of six is exact
    rows = np.c_[features, target]
    exact = rows.astype(np.longdouble) - rows.astype(np.longdouble).mean(axis=0)
    design = centred_design(br.RegressionData(features, target))
    assert (design.root[:, 4] == 0.0).all()
    rounding = 4 * np.finfo(np.float64).eps
    assert np.abs(design.root - exact).max() <= rounding * max(offset, 3.0)
    # What all rows share is the intercept's: nothing of it is left, however far they lie from the origin.
    assert np.abs(design.root.sum(axis=0)).max() <= 6 * rounding * 3.0
    means = np.append(design.feature_means, design.target_mean)
    assert means == pytest.approx(rows.mean(axis=0), rel=1e-14, abs=1e-15)
    assert design.deviations == pytest.approx(np.delete(exact, 9, axis=1).astype(float).std(axis=0), rel=1e-7)


@pytest.mark.parametrize("constant", [5.543210152831155e-201, 0.0, 0.1, 0.7e308, -0.7e308])
def test_constants_of_any_size_are_zeros(constant):
    random = np.random.default_rng(2)
    features, target = random.standard_normal((5, 9)), random.standard_normal(5)
    features, target = features - features.mean(axis=0), target - target.mean()  # near the origin, but for one column
    features[:, 4] = constant
    design = centred_design(br.RegressionData(features, target))
    assert not design.root[:, 4].any() and design.feature_means[4] == constant


def test_without_an_intercept_rows_are_as_they_are():
    random = np.random.default_rng(1)
    features, target = random.standard_normal((3, 5)) + 2.0, random.standard_normal(3)
    design = centred_design(br.RegressionData(features, target), intercept=False)
    np.testing.assert_array_equal(design.root, np.c_[features, target])
    assert not design.feature_means.any() and design.target_mean == 0.0
