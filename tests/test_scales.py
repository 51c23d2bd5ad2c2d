"""The scale rule: what is a scale, what is refused, and a learned scale's coordinate."""

import json

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from bayesreg.scales import (
    DISTRIBUTIONS,
    LearnedScale,
    check_scale,
    describe_scale,
    in_float64,
    scale_from_dict,
    scale_to_dict,
)

EXAMPLES = {
    "HalfNormal": dist.HalfNormal(0.3),
    "HalfCauchy": dist.HalfCauchy(2.5),
    "LogNormal": dist.LogNormal(-1.0, 0.7),
    "Gamma": dist.Gamma(2.0, 3.0),
    "InverseGamma": dist.InverseGamma(3.0, 0.5),
    "Exponential": dist.Exponential(1.7),
    "Uniform": dist.Uniform(0.1, 2.0),
    "Weibull": dist.Weibull(1.3, 2.0),
    "Chi2": dist.Chi2(3.0),
}


def test_every_named_distribution_has_an_example():
    assert set(EXAMPLES) == set(DISTRIBUTIONS)


@pytest.mark.parametrize("given", [2, 2.5, np.float32(0.5), torch.tensor(0.25)])
def test_a_number_is_a_known_scale(given):
    assert check_scale(given, "scale") == float(given)


@pytest.mark.parametrize("given", [[1, 2], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])])
def test_a_vector_is_one_scale_a_feature(given):
    np.testing.assert_array_equal(check_scale(given, "scale"), [1.0, 2.0])


@pytest.mark.parametrize(
    "bad",
    [
        *(0.0, -1.0, np.nan, np.inf, [1.0, -2.0], [], np.ones((2, 2))),
        *(dist.Normal(0.0, 1.0), dist.Poisson(3.0), dist.Uniform(-1.0, 1.0)),
        *(dist.HalfNormal(np.inf), dist.Gamma(np.inf, 1.0), dist.HalfNormal(np.inf).mask(False)),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="my scale"):
        check_scale(bad, "my scale")


@pytest.mark.parametrize("bad", ["wide", None, True, 1j, [1.0, [2.0]], {"a": 1}, dist.HalfNormal])
def test_what_is_no_scale_is_refused_by_name(bad):
    with pytest.raises(TypeError, match="my scale"):
        check_scale(bad, "my scale")


class WithoutSupport(dist.TorchDistribution):
    """A user's own law that does not say where its values lie: asked for, torch raises NotImplementedError."""

    arg_constraints = {}


def test_a_law_that_does_not_say_its_support_is_refused_by_name():
    with pytest.raises(ValueError, match="my scale must be a continuous distribution on the positive reals"):
        check_scale(WithoutSupport(validate_args=False), "my scale")


def test_a_learned_vector_is_refused():
    with pytest.raises(ValueError, match="of one number"):
        check_scale(dist.HalfNormal(torch.ones(3)), "scale")


def test_a_number_typed_into_a_distribution_is_not_rounded_to_float32():
    assert float(in_float64(dist.HalfNormal(0.3)).scale) == 0.3
    assert float(dist.HalfNormal(0.3).scale) != 0.3  # what it guards against


def test_a_mask_that_masks_nothing_is_none():
    law = dist.HalfNormal(0.3)
    assert not LearnedScale(check_scale(law.mask(True), "scale")).is_flat
    for flat in (law.mask(False), law.mask(False).mask(True), law.mask(True).mask(False), law.mask(False).mask(False)):
        assert LearnedScale(check_scale(flat, "scale")).is_flat
        assert scale_to_dict(check_scale(flat, "scale")) == {"distribution": "HalfNormal", "scale": 0.3, "mask": False}


def test_a_scale_is_described_as_it_is_typed():
    described = [describe_scale(EXAMPLES[name]) for name in ("HalfNormal", "Uniform", "LogNormal")]
    assert described == ["HalfNormal(scale=0.3)", "Uniform(low=0.1, high=2.0)", "LogNormal(loc=-1.0, scale=0.7)"]
    assert describe_scale(dist.HalfNormal(0.3).mask(False)) == "HalfNormal(scale=0.3).mask(False)"
    assert describe_scale(dist.HalfNormal(torch.tensor(0.3, dtype=torch.float64))) == "HalfNormal(scale=0.3)"
    assert describe_scale(0.25) == "0.25" and describe_scale(np.array([1.0, 2.5])) == "[1.  2.5]"


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("mask", [True, False])
def test_round_trip_through_json(name, mask):
    given = EXAMPLES[name] if mask else EXAMPLES[name].mask(False)
    read = scale_from_dict(json.loads(json.dumps(scale_to_dict(check_scale(given, "scale")))))
    at = torch.linspace(0.15, 1.9, 7, dtype=torch.float64)
    expected = in_float64(EXAMPLES[name]).log_prob(at) if mask else torch.zeros_like(at)
    torch.testing.assert_close(read.log_prob(at), expected, rtol=1e-14, atol=0.0, check_dtype=False)


@pytest.mark.parametrize(
    "table",
    [
        {"distribution": "Normal", "loc": 0.0, "scale": 1.0},
        {"distribution": "os.system"},
        {"distribution": ["HalfNormal"], "scale": 1.0},
        {"distribution": "HalfNormal", "scale": 10**400},
        {"distribution": "HalfNormal", "scale": float("inf")},
        {"distribution": "HalfNormal"},
        {"distribution": "HalfNormal", "scale": "1.0"},
        {"distribution": "HalfNormal", "scale": -1.0},
        {"distribution": "HalfNormal", "scale": 1.0, "loc": 0.0},
        {"distribution": "HalfNormal", "scale": 1.0, "mask": 0},
    ],
)
def test_what_a_file_cannot_say(table):
    with pytest.raises(ValueError, match="noise"):
        scale_from_dict(table, "noise")


@pytest.mark.parametrize("name", EXAMPLES)
def test_coordinate_goes_there_and_back_and_its_density_integrates_to_one(name):
    learned = LearnedScale(EXAMPLES[name])
    coordinate = torch.linspace(-60.0, 20.0, 200_001, dtype=torch.float64)
    inner = coordinate[(coordinate > -5) & (coordinate < 5)]
    torch.testing.assert_close(learned.unconstrain(learned.constrain(inner)), inner, rtol=1e-9, atol=1e-9)
    mass = torch.trapezoid(learned.log_density(coordinate).exp().nan_to_num(), coordinate)
    assert float(mass) == pytest.approx(1.0, abs=2e-6 if name != "HalfCauchy" else 1e-5)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("mask", [True, False])
def test_derivatives_are_differences(name, mask):
    learned = LearnedScale(EXAMPLES[name] if mask else EXAMPLES[name].mask(False))
    coordinate = torch.tensor([-1.0, 0.2, 0.9], dtype=torch.float64)
    scale, log_slope, density, density_slope = learned.derivatives(coordinate)
    step = 1e-6
    up, down = coordinate + step, coordinate - step
    torch.testing.assert_close(scale, learned.constrain(coordinate))
    torch.testing.assert_close(density, learned.log_density(coordinate))
    slope = (learned.constrain(up).log() - learned.constrain(down).log()) / (2 * step)
    torch.testing.assert_close(log_slope, slope, rtol=1e-7, atol=1e-8)
    slope = (learned.log_density(up) - learned.log_density(down)) / (2 * step)
    torch.testing.assert_close(density_slope, slope, rtol=1e-7, atol=1e-7)


def test_density_outside_a_bounded_support_is_zero():
    learned = LearnedScale(dist.Uniform(0.5, 2.0))
    found = learned.log_prior(torch.tensor([0.4, 1.0, 2.5], dtype=torch.float64))
    np.testing.assert_allclose(found.exp(), [0.0, 1 / 1.5, 0.0])


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 1e6])
@pytest.mark.parametrize("law", [dist.HalfNormal, dist.HalfCauchy, lambda unit: dist.Weibull(unit, torch.tensor(4.0))])
def test_the_density_does_not_lose_its_digits_in_other_units(law, unit):
    unit = torch.tensor(unit, dtype=torch.float64)
    learned, plain = LearnedScale(law(unit)), LearnedScale(law(torch.ones((), dtype=torch.float64)))
    at = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(learned.log_density(at + unit.log()), plain.log_density(at), rtol=0.0, atol=1e-12)
