"""The posterior path's axis, result and errors; its numbers are held to others in the tests of its two kinds."""

import dataclasses
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br

KINDS = {"l2": br.GaussianPrior, "l1": br.LaplacePrior}
LEARNED = dist.HalfNormal(1.0)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    features = random.standard_normal((12, 2)) + 1.5
    target = features[:, 0] + 2.0 + 0.5 * random.standard_normal(12)
    return br.RegressionData(features, target, feature_names=["dose", "age"])


@pytest.mark.parametrize("kind", KINDS)
def test_lambdas_and_prior_scales_are_one_axis(data, kind):
    path = br.posterior_path(data, kind, [0.3, 0.001, 2.0], noise_scale=0.5, draws=400)
    for strength, scale in zip(path.lambdas.tolist(), path.prior_scales.tolist(), strict=True):
        penalty = br.penalty_for(KINDS[kind](scale), noise_scale=0.5, num_rows=12)
        assert penalty.strength == pytest.approx(strength, rel=1e-14)
        power = 2 if kind == "l2" else 1
        assert strength == pytest.approx(0.25 / (12 * scale**power), rel=1e-14)
    assert path.lambdas.tolist() == [0.3, 0.001, 2.0]
    back = br.posterior_path(data, kind, prior_scales=path.prior_scales, noise_scale=0.5, draws=400)
    np.testing.assert_allclose(back.lambdas, path.lambdas, rtol=1e-14)
    np.testing.assert_allclose(back.mean, path.mean, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_relative_to_known_noise_is_the_absolute_scale_digit_for_digit(data, kind):
    asked = {"noise_scale": 0.3, "draws": 400, "within": 0.1, "num_density_points": 7}
    path = br.posterior_path(data, kind, prior_scales=[0.7, 4.0, 0.1], relative_to_noise=True, **asked)
    scales = path.prior_scales * 0.3
    absolute = br.posterior_path(data, kind, prior_scales=scales, **asked)
    assert path.relative_to_noise and not absolute.relative_to_noise
    assert path.prior_scales.tolist() == [0.7, 4.0, 0.1] and path.engines == absolute.engines
    for field in dataclasses.fields(path):
        values, others = (getattr(one, field.name) for one in (path, absolute))
        if isinstance(values, torch.Tensor) and field.name not in ("prior_scales", "lambdas"):
            assert torch.equal(values.nan_to_num(), others.nan_to_num()), field.name
    np.testing.assert_allclose(path.lambdas, absolute.lambdas, rtol=1e-14)
    expected = 1 / (12 * path.prior_scales**2) if kind == "l2" else 0.3 / (12 * path.prior_scales)
    np.testing.assert_allclose(path.lambdas, expected, rtol=1e-14)
    back = br.posterior_path(data, kind, path.lambdas, relative_to_noise=True, **asked)
    np.testing.assert_allclose(back.prior_scales, path.prior_scales, rtol=1e-14)
    np.testing.assert_allclose(back.mode, path.mode, rtol=1e-9, atol=1e-12)


def test_a_path_relative_to_the_noise_says_so(data):
    path = br.posterior_path(data, "l2", [0.3, 0.1], noise_scale=LEARNED, relative_to_noise=np.True_)
    assert path.relative_to_noise is True
    assert repr(path) == "PosteriorPath(l2: 2 prior scales, in noise scales, x 2 weights; 2 by exact)"
    frame = path.to_frame()
    np.testing.assert_array_equal(frame["prior_scale"], np.repeat(path.prior_scales.numpy(), 2))
    assert frame["lambda"].tolist() == [0.3, 0.3, 0.1, 0.1]
    of_laplace = br.posterior_path(data, "l1", prior_scales=[0.3], noise_scale=LEARNED, relative_to_noise=True)
    assert of_laplace.lambdas is None and "lambda" not in of_laplace.to_frame()


@pytest.mark.parametrize("noise", [0.5, LEARNED])
@pytest.mark.parametrize("kind", KINDS)
def test_moments_say_what_rows_say(data, kind, noise):
    paths = [
        br.posterior_path(given, kind, prior_scales=[0.3, 2.0], noise_scale=noise, draws=400, within=0.1)
        for given in (data, br.Moments.from_data(data))
    ]
    for name in ("mean", "median", "sd", "lower", "upper", "mode", "probability_near_zero", "noise_scale"):
        np.testing.assert_allclose(*(getattr(path, name) for path in paths), rtol=1e-8, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_plain_tensors_and_a_long_table(data, kind):
    path = br.posterior_path(data, kind, [0.3, 0.1, 2.0], noise_scale=0.5, interval=0.8, within=[0.1, 0.2], draws=400)
    for name in ("mean", "median", "sd", "lower", "upper", "mode", "probability_near_zero"):
        values = getattr(path, name)
        assert values.shape == (3, 2) and values.dtype == torch.float64 and values.device.type == "cpu", name
    assert (path.lower < path.median).all() and (path.median < path.upper).all()
    frame = path.to_frame()
    assert len(frame) == 6 and frame["feature"].tolist() == ["dose", "age"] * 3
    assert frame["lambda"].tolist() == [0.3, 0.3, 0.1, 0.1, 2.0, 2.0]
    row = frame[(frame["feature"] == "age") & (frame["lambda"] == 2.0)].iloc[0]
    found = {"mean": path.mean, "eti_80%_lower": path.lower, "eti_80%_upper": path.upper, "mode": path.mode}
    for name, values in found.items():
        assert row[name] == float(values[2, 1]), name
    assert row["engine"] == path.engines[2] and row["log_evidence"] == float(path.log_evidence[2])
    for name in ("mcse_mean", "mcse_lower", "mcse_upper"):
        assert (name in frame) == (kind == "l1") and (getattr(path, name) is None) == (kind == "l2")
        assert kind == "l2" or (row[name] == float(getattr(path, name)[2, 1]) and row[name] > 0)
    assert repr(path).startswith(f"PosteriorPath({kind}: 3 prior scales x 2 weights; 3 by ")


def test_what_was_not_asked_for_is_not_there(data):
    path = br.posterior_path(data, "l2", prior_scales=0.5, noise_scale=LEARNED)
    assert path.lambdas is None and path.probability_near_zero is None and path.mean.shape == (1, 2)
    assert not {"lambda", "probability_near_zero", "ess"} & set(path.to_frame())


def test_each_weight_has_its_own_distance(data):
    near = [
        br.posterior_path(data, "l2", [0.1], noise_scale=0.5, within=within).probability_near_zero[0]
        for within in (0.1, [0.1, 0.4], 0.4)
    ]
    assert near[1].tolist() == [float(near[0][0]), float(near[2][1])]
    assert (near[0] < near[2]).all()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "give one of lambdas and prior_scales, got neither", {}),
        (ValueError, "give one of lambdas and prior_scales, got both", {"lambdas": [1.0], "prior_scales": [1.0]}),
        (ValueError, "lambdas must be positive and finite, got 0", {"lambdas": [1.0, 0.0]}),
        (ValueError, "prior_scales must be positive and finite, got inf", {"prior_scales": [math.inf]}),
        (ValueError, r"lambdas must be a vector of positive .* shape \(0,\)", {"lambdas": []}),
        (TypeError, "lambdas must be a vector of positive finite numbers, got 'auto'", {"lambdas": "auto"}),
        (
            ValueError,
            r"lambdas need a known noise scale: .* relative_to_noise=True, .* 1 / \(n tau\^2\)",
            {"lambdas": [1.0], "noise_scale": LEARNED},
        ),
        *(
            (
                ValueError,
                r"lambdas need a known noise scale: .* nor does one relative to the noise \(lambda = s / \(n tau\)\)",
                {"lambdas": [1.0], "noise_scale": LEARNED, "kind": "l1", "relative_to_noise": relative},
            )
            for relative in (False, True)
        ),
        (TypeError, "relative_to_noise must be True or False, got 1", {"lambdas": [1.0], "relative_to_noise": 1}),
        (
            ValueError,
            "prior_scales times the noise scale must be positive and finite",
            {"prior_scales": [1.0, 1e-150], "noise_scale": 1e-200, "relative_to_noise": True},
        ),
        (ValueError, "kind must be one of l2, l1, got 'elasticnet'", {"lambdas": [1.0], "kind": "elasticnet"}),
        (ValueError, r"noise_scale=...\) must be positive and finite", {"lambdas": [1.0], "noise_scale": -1.0}),
        (TypeError, "noise_scale", {"lambdas": [1.0], "noise_scale": "HalfNormal"}),
        (ValueError, "interval must lie between 0 and 1", {"lambdas": [1.0], "interval": 90}),
        (ValueError, "within must be positive and finite, got 0", {"lambdas": [1.0], "within": 0.0}),
        (ValueError, r"within must be .* shape \(3,\) for 2 features", {"lambdas": [1.0], "within": [1.0] * 3}),
        (ValueError, "draws must be 100 or more, got 99", {"lambdas": [1.0], "draws": 99}),
        (TypeError, "draws must be an integer", {"lambdas": [1.0], "draws": 1e3}),
        (TypeError, "seed must be an integer", {"lambdas": [1.0], "seed": 0.5}),
        (ValueError, r"seed must be below 2\*\*63", {"lambdas": [1.0], "seed": 2**63}),
        (TypeError, "intercept", {"lambdas": [1.0], "intercept": "yes"}),
        (ValueError, "device must be", {"lambdas": [1.0], "device": "tpu"}),
        (TypeError, "data must be a RegressionData or Moments", {"lambdas": [1.0], "data": [[1.0]]}),
    ],
)
def test_wrong_inputs_are_named(data, error, message, arguments):
    with pytest.raises(error, match=message):
        br.posterior_path(**({"data": data, "noise_scale": 0.5} | arguments))


@pytest.mark.parametrize("kind", KINDS)
def test_an_improper_posterior_is_refused(kind):
    two_rows = br.RegressionData(np.random.default_rng(0).standard_normal((2, 5)), [0.0, 1.0])
    with pytest.raises(ValueError, match="the posterior is improper"):
        br.posterior_path(two_rows, kind, prior_scales=[1.0], noise_scale=dist.HalfNormal(1.0).mask(False))


@pytest.mark.parametrize("kind", KINDS)
def test_no_global_state_is_touched_and_no_tensor_made_carelessly(data, kind, strict_factories):
    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for noise in (LEARNED, 0.5):
        asked = {"noise_scale": noise, "draws": 400, "within": 0.1, "num_density_points": 3}
        br.posterior_path(data, kind, prior_scales=[0.02, 1.0], **asked)
        br.posterior_path(data, kind, prior_scales=[0.02, 1.0], relative_to_noise=True, **asked)
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_original_units_are_those_of_draws_in_them(kind):
    random = np.random.default_rng(3)
    raw = br.RegressionData(
        random.standard_normal((60, 2)) * [10.0, 0.01] + 5.0, 3.0 + 100.0 * random.standard_normal(60)
    )
    data = raw.standardized()
    path = br.posterior_path(data, kind, [0.1], noise_scale=0.8, within=[0.1, 0.2], num_density_points=9)
    original = path.original_units()
    factors = torch.from_numpy(data.transform.target_scale / data.transform.feature_scales)
    for name in ("mean", "median", "sd", "lower", "upper", "mode"):
        np.testing.assert_allclose(getattr(original, name)[0], getattr(path, name)[0] * factors, rtol=1e-14)
    for name in ("mcse_mean", "mcse_lower", "mcse_upper") if kind == "l1" else ():
        np.testing.assert_allclose(getattr(original, name)[0], getattr(path, name)[0] * factors, rtol=1e-14)
    np.testing.assert_allclose(original.within, path.within * factors, rtol=1e-14)
    area = [torch.trapezoid(one.density, one.density_at) for one in (path, original)]
    assert torch.allclose(*area) and torch.equal(original.probability_near_zero, path.probability_near_zero)
    prior = {"l2": br.GaussianPrior, "l1": br.LaplacePrior}[kind](float(path.prior_scales[0]))
    posterior = br.sample(br.LinearRegression(prior, 0.8), data, seed=1).original_units()
    draws = posterior.draws["weights"].flatten(0, 1)
    error = draws.std(0) / len(draws) ** 0.5 + (original.mcse_mean[0] if kind == "l1" else 0.0)
    assert ((draws.mean(0) - original.mean[0]).abs() < 4.5 * error).all()
    with pytest.raises(ValueError, match="original rows"):
        original.original_units()
    fits = br.path(data, kind, noise_scale=0.8)
    with pytest.raises(ValueError, match="units of the path"):
        br.plots.plot_path(fits, original)


def test_original_units_leave_scales_relative_to_the_noise(data):
    path = br.posterior_path(data.standardized(), "l2", [0.1, 1.0], noise_scale=LEARNED, relative_to_noise=True)
    original = path.original_units()
    assert original.relative_to_noise
    for name in ("prior_scales", "lambdas", "noise_scale"):
        assert torch.equal(getattr(original, name), getattr(path, name)), name
