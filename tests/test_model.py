"""The Pyro program: its sites and plates, Pyro's own tools on it, and the model's words."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive

import bayesreg as br
from bayesreg.computing.isolation import isolated


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    features = random.standard_normal((12, 3))
    return br.RegressionData(features, features @ [1.0, 0.0, -2.0] + 3.0 + 0.1 * random.standard_normal(12))


def trace_of(model, data):
    with isolated(0):
        return pyro.poutine.trace(model.pyro_model).get_trace(data)


def test_sites_and_plates(data):
    learned = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0)), dist.HalfNormal(1.0))
    sites = trace_of(learned, data).nodes
    assert {"weights", "intercept", "noise_scale", "prior_scale", "target", "feature", "row"} <= set(sites)
    assert sites["weights"]["value"].shape == (3,) and sites["intercept"]["value"].shape == ()
    assert sites["target"]["is_observed"] and sites["target"]["fn"].batch_shape == (12,)
    known = trace_of(br.LinearRegression(br.GaussianPrior(1.0), 0.5, intercept=False), data).nodes
    assert "intercept" not in known and "prior_scale" not in known
    assert float(known["noise_scale"]["value"]) == 0.5


def test_flat_intercept_adds_nothing(data):
    trace = trace_of(br.LinearRegression(br.GaussianPrior(1.0), 0.5), data)
    trace.compute_log_prob()
    assert float(trace.nodes["intercept"]["log_prob_sum"]) == 0.0


def test_program_runs_under_predictive_in_parallel(data):
    model = br.LinearRegression(br.GaussianPrior(0.5, relative_to_noise=True), dist.HalfNormal(1.0))
    draws = {
        "weights": torch.ones((7, 3), dtype=torch.float64),
        "intercept": torch.zeros((7, 1), dtype=torch.float64),
        "noise_scale": torch.full((7, 1), 1e-9, dtype=torch.float64),
    }
    with isolated(0):
        made = Predictive(pyro.poutine.uncondition(model.pyro_model), draws, parallel=True)(data)
    expected = torch.tensor(data.features.sum(1)).expand(7, 12)
    torch.testing.assert_close(made["target"].reshape(7, 12), expected, rtol=0.0, atol=1e-7)


def test_program_takes_tensors_and_refuses_moments(data):
    model = br.LinearRegression(br.GaussianPrior(1.0), 0.5)
    tensors = tuple(torch.tensor(array) for array in (data.features, data.target))
    with isolated(0):
        one = pyro.poutine.trace(model.pyro_model).get_trace(tensors).log_prob_sum()
    assert float(one) == float(trace_of(model, data).log_prob_sum())
    with pytest.raises(TypeError, match="rows"):
        model.pyro_model(br.Moments.from_data(data))


def test_a_model_reads_back_what_was_given():
    noise = np.array(0.5)
    known = br.LinearRegression(br.FlatPrior(), noise)
    noise[...] = 3.0
    assert known.noise_scale == 0.5 and repr(known) == "LinearRegression(FlatPrior(), noise_scale=0.5)"
    law = dist.HalfNormal(0.3).mask(False)
    learned = br.LinearRegression(br.LaplacePrior(dist.Uniform(0.1, 2)), law, intercept=False)
    assert learned.noise_scale is law
    prior, noise = "LaplacePrior(scale=Uniform(low=0.1, high=2.0))", "HalfNormal(scale=0.3).mask(False)"
    assert repr(learned) == f"LinearRegression({prior}, noise_scale={noise}, intercept=False)"


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="prior"):
        br.LinearRegression(0.5)
    with pytest.raises(TypeError, match="intercept"):
        br.LinearRegression(br.FlatPrior(), 1.0, intercept=None)
    for bad in (0.0, -1.0, np.nan, np.inf, [1.0, 2.0]):
        with pytest.raises(ValueError, match="noise_scale"):
            br.LinearRegression(br.FlatPrior(), bad)


def test_conditioned_holds_learned_scales():
    model = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0), 0.1, True), dist.HalfNormal(1.0), intercept=False)
    held = model.conditioned(noise_scale=0.3, prior_scale=0.2)
    assert (held.noise_scale, held.prior.scale, held.prior.loc) == (0.3, 0.2, 0.1)
    assert held.prior.relative_to_noise and not held.intercept and held.prior.kind == "laplace"
    with pytest.raises(ValueError, match="noise scale is known"):
        held.conditioned(noise_scale=0.3)
    with pytest.raises(ValueError, match="prior's scale is known"):
        held.conditioned(prior_scale=0.3)
    for name in ("noise_scale", "prior_scale"):
        with pytest.raises(TypeError, match=f"{name} must be a positive finite number to hold, got HalfNormal"):
            model.conditioned(**{name: dist.HalfNormal(2.0)})


def test_prior_draws_have_the_prior_laws_and_leave_the_streams_alone():
    model = br.LinearRegression(br.LaplacePrior(0.5, loc=2.0, relative_to_noise=True), dist.LogNormal(0.0, 0.1))
    state = torch.random.get_rng_state()
    draws = model.prior_draws(20_000, 3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(draws["weights"], model.prior_draws(20_000, 3, seed=1)["weights"])
    standard = (draws["weights"] - 2.0) / draws["noise_scale"].unsqueeze(-1) / 0.5
    # |w|/b is Exponential(1): mean 1, standard deviation 1.
    assert float(standard.abs().mean()) == pytest.approx(1.0, abs=4 / 60_000**0.5)
    assert float(standard.mean()) == pytest.approx(0.0, abs=4 * 2**0.5 / 60_000**0.5)


@pytest.mark.parametrize("numbers", [(-1, 2), (5, 0), (2.5, 2)])
def test_a_number_of_prior_draws_is_whole_and_at_least_one(numbers):
    with pytest.raises((TypeError, ValueError), match="num_draws|num_features"):
        br.LinearRegression(br.GaussianPrior(1.0)).prior_draws(*numbers)


def test_what_is_flat_has_no_prior_draws():
    assert br.LinearRegression(br.FlatPrior(), 1.0).prior_draws(5, 2) == {}
    flat_noise = dist.HalfNormal(1.0).mask(False)
    assert set(br.LinearRegression(br.GaussianPrior(1.0), flat_noise).prior_draws(5, 2)) == {"weights"}
    assert br.LinearRegression(br.GaussianPrior(1.0, relative_to_noise=True), flat_noise).prior_draws(5, 2) == {}


def test_log_prior_is_the_traces_less_the_likelihood(data):
    model = br.LinearRegression(br.LaplacePrior(dist.HalfNormal(1.0), relative_to_noise=True), dist.LogNormal(0.0, 1.0))
    trace = trace_of(model, data)
    trace.compute_log_prob()
    draws = {name: trace.nodes[name]["value"] for name in ("weights", "noise_scale", "prior_scale")}
    expected = trace.log_prob_sum() - trace.nodes["target"]["log_prob_sum"]
    torch.testing.assert_close(model.log_prior(draws), expected, rtol=1e-12, atol=0.0)


def test_round_trip_through_words():
    model = br.LinearRegression(br.LaplacePrior([0.1, 0.2]), dist.LogNormal(-1.0, 0.5), intercept=False)
    assert br.LinearRegression.from_dict(model.to_dict()).to_dict() == model.to_dict()


@pytest.mark.parametrize("use", [br.sample, br.map_estimate, br.compare])
def test_what_is_no_model_is_refused_by_name(use):
    with pytest.raises(TypeError, match="model must be a LinearRegression, .* got None"):
        use(None, br.load_diabetes())
