"""The independent optimum against certificates and a general-purpose optimiser."""

import numpy as np
import pytest
import scipy.optimize

import bayesreg as br
from bayesreg.optimum import penalised_optimum


def make(kind, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((30, 8))
    if kind == "wide":
        features = random.standard_normal((10, 40))
    if kind == "collinear":
        features = np.c_[features, features[:, :4], np.ones(30)]
    if kind == "graded":
        features = features * 10.0 ** np.linspace(-6, 6, 8)
    return br.RegressionData(features, random.standard_normal(len(features)) + features[:, 0])


@pytest.mark.parametrize("kind", ["tall", "wide", "collinear", "graded"])
@pytest.mark.parametrize("share", [0.3, 1e-3])
def test_certified(kind, share):
    data = make(kind)
    moments = br.Moments.from_data(data)
    strength = share * br.L1(1.0).largest_useful(moments)
    for penalty in (br.L1(strength), br.L2(strength), br.Penalty(l1=strength, l2=strength / 3)):
        weights = penalised_optimum(moments, penalty)
        assert br.certify(weights, data, penalty).relative_gap < 1e-10
        if penalty.kind != "l2":
            assert (weights == 0).any() or kind == "tall"


def test_centres_and_strengths_a_feature_by_a_general_optimiser():
    data = make("tall")
    moments = br.Moments.from_data(data)
    penalty = br.Penalty(l1=np.linspace(0, 0.3, 8), l2=np.linspace(0.4, 0, 8), centre=np.linspace(-1, 1, 8))
    centred = data.features - data.features.mean(0)
    target = data.target - data.target.mean()

    def objective(pair):  # w = c + p - q with p, q >= 0 makes the kink smooth
        offset = pair[:8] - pair[8:]
        residual = target - centred @ (penalty.centre + offset)
        return residual @ residual / 60 + penalty.l2 @ offset**2 / 2 + penalty.l1 @ (pair[:8] + pair[8:])

    found = scipy.optimize.minimize(
        objective, np.full(16, 0.1), bounds=[(0, None)] * 16, tol=1e-14, options={"maxiter": 10_000, "maxfun": 10**6}
    )
    expected = penalty.centre + found.x[:8] - found.x[8:]
    np.testing.assert_allclose(penalised_optimum(moments, penalty), expected, atol=2e-4)
    assert br.certify(penalised_optimum(moments, penalty), data, penalty).relative_gap < 1e-12


def test_without_a_penalty_one_of_many_optima_is_found():
    data = br.RegressionData(np.arange(4.0)[:, None] * [1.0, 1.0], [0.0, 1.0, 1.0, 3.0])
    weights = penalised_optimum(br.Moments.from_data(data), br.Penalty())
    assert weights.sum() == pytest.approx(0.9, rel=1e-12) and br.certify(weights, data).kkt_residual < 1e-14


def test_offsets_without_an_intercept():
    """Columns at 1e8 about the origin have a condition number of 1e8: their Gram has none of the difference left."""
    data = make("tall")
    far = br.RegressionData(data.features + 1e8, data.target + 1e8)
    penalty = br.L2(0.1)
    weights = penalised_optimum(br.Moments.from_data(far).about_origin(), penalty)
    assert br.certify(weights, far, penalty, intercept=False).relative_gap < 1e-12


def test_constant_target():
    data = br.RegressionData(np.arange(6.0)[:, None], np.full(6, 2.0))
    assert penalised_optimum(br.Moments.from_data(data), br.L1(0.1)).tolist() == [0.0]
