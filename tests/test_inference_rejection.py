"""Independent draws under a Laplace prior: against brute-force integrals, and where the engine must refuse."""

import dataclasses

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from checks import assert_chains_stand_alone, assert_matches
from oracles import laplace_gibbs
from quadrature import integrate

import bayesreg as br
from bayesreg.inference import envelope, rejection, scale_table
from bayesreg.inference.engine import EngineCannot

HALF_NORMAL = dist.HalfNormal(1.0)


def data(num_features, weights, rows=14, seed=3, noise=0.8):
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, num_features)) + 1.0
    features[:, -1] += 0.6 * features[:, 0]
    return br.RegressionData(features, features @ weights + 2.0 + noise * random.standard_normal(rows))


def run(model, data, draws=6000, chains=2, seed=1):
    return rejection.run(model.target(data), draws=draws, tune=0, chains=chains, seed=seed)


PLANE = data(2, [1.0, -0.1])
LINE = data(1, [0.15])
GRID = [np.linspace(-1.2, 3.0, 241), np.linspace(-2.0, 1.6, 231)]
LOG_NOISE = np.linspace(-1.6, 1.7, 91)
LOG_PRIOR = np.linspace(-7.0, 3.2, 205)
LINE_GRID = np.linspace(-2.0, 2.0, 16_001)
CASES = {
    "both known": (br.LinearRegression(br.LaplacePrior([0.5, 0.3], loc=[0.2, 0.0]), 0.9), PLANE, GRID, {}),
    "noise learned": (br.LinearRegression(br.LaplacePrior(0.4), HALF_NORMAL), PLANE, GRID, {"noise_scale": LOG_NOISE}),
    "relative": (
        br.LinearRegression(br.LaplacePrior([0.6, 0.9], relative_to_noise=True), dist.LogNormal(0.0, 0.5)), PLANE, GRID,
        {"noise_scale": LOG_NOISE},
    ),
    "prior learned": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-1.0, 0.8)), 0.9), LINE, [LINE_GRID],
        {"prior_scale": LOG_PRIOR},
    ),
    "nothing to learn": (  # the prior scale goes far down, where the other envelope is the lower one
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-2.0, 0.8)), 0.9), data(1, [0.0], noise=0.3), [LINE_GRID],
        {"prior_scale": LOG_PRIOR},
    ),
    "both learned, relative": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-1.0, 0.6), relative_to_noise=True), HALF_NORMAL), LINE,
        [LINE_GRID[::20]], {"noise_scale": LOG_NOISE, "prior_scale": LOG_PRIOR[40::2]},
    ),
    "both learned": (
        br.LinearRegression(br.LaplacePrior(dist.LogNormal(-1.0, 0.6), loc=0.3), HALF_NORMAL), LINE,
        [LINE_GRID[::20]], {"noise_scale": LOG_NOISE, "prior_scale": LOG_PRIOR[40::2]},
    ),
}  # fmt: skip


def check(model, rows, weights, scales):
    log_evidence, moments = integrate(model, rows, weights, scales)
    result = run(model, rows)
    names = ["weights"] + [name for name in ("noise_scale", "prior_scale") if name in scales]
    columns = [result.draws[name] if name == "weights" else result.draws[name].log()[..., None] for name in names]
    assert_matches(torch.cat(columns, -1), *(torch.tensor(column) for column in zip(*moments, strict=True)))
    error = result.details["log_evidence_standard_error"]
    assert 0.0 < error < 0.02
    assert abs(result.log_evidence - log_evidence) < 4.0 * error
    return result


@pytest.mark.parametrize("case", CASES)
def test_draws_and_evidence_are_those_of_brute_force(case):
    result = check(*CASES[case])
    assert 0.02 < result.details["acceptance"] < 0.999  # there was something to reject


def test_small_blocks_and_a_coarse_table_cost_proposals_and_no_truth(monkeypatch):
    """Where proposals of the scales are rough, and where a chain is full in the midst of a block."""
    monkeypatch.setattr(scale_table, "_FEWEST_NODES", 9)
    monkeypatch.setattr(rejection, "_TABLE_TOLERANCE", 10.0)
    monkeypatch.setattr(rejection, "_SHORTEST_BLOCK", 8)
    monkeypatch.setattr(rejection, "_LONGEST_BLOCK", 8)
    model, rows, weights, scales = CASES["noise learned"]
    log_evidence, moments = integrate(model, rows, weights, scales)
    result = run(model, rows, draws=2001)
    assert bool((result.draws["noise_scale"] > 0.0).all()) and result.draws["weights"].shape == (2, 2001, 2)
    columns = torch.cat([result.draws["weights"], result.draws["noise_scale"].log().unsqueeze(-1)], -1)
    assert_matches(columns, *(torch.tensor(column) for column in zip(*moments, strict=True)))
    target = model.target(rows)
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("gaussian", [True, False], ids=["the Gaussian one", "the lower of the two"])
@pytest.mark.parametrize("relative", [False, True])
def test_envelope_times_chance_is_the_posterior_at_any_scales(relative, gaussian):
    """m(s, f) q(z | s, f) exp(log_keep) = p(y, z | s, f), far beyond where the posterior's mass is."""
    rows = data(3, [1.0, -0.1, 0.3])
    prior = br.LaplacePrior(dist.LogNormal(0.0, 1.0), loc=0.2, relative_to_noise=relative)
    target = br.LinearRegression(prior, HALF_NORMAL).target(rows)
    made, generator = envelope.Envelope(target, sweeps=100), torch.Generator().manual_seed(0)
    log_noise = torch.linspace(-7.0, 5.0, 61, dtype=torch.float64).repeat_interleave(81).unsqueeze(0)
    log_ratio = torch.linspace(-14.0, 14.0, 81, dtype=torch.float64).repeat(61).unsqueeze(0)
    normals = torch.randn((1, 3, log_noise.shape[1]), generator=generator, dtype=torch.float64)
    if gaussian:
        z, log_keep, log_density = made._propose_gaussian(log_noise, log_ratio, normals)
        found = made._log_gaussian(log_noise, log_ratio) + log_density + log_keep
    else:
        z, log_keep, log_density = made.propose(log_noise, log_ratio, normals, [generator])
        found = made.log_marginal(log_noise, log_ratio) + log_density + log_keep
    noise, factor = log_noise.exp().T, (log_ratio + 2.0 * log_noise).exp().T
    centred = [torch.tensor(part - part.mean(0)) for part in (rows.features, rows.target)]
    spectrum = target.spectrum
    weights = spectrum.prior_loc + spectrum.relative_scales * z[0].T
    misfit = (centred[1] - weights @ centred[0].T).square().sum(-1, keepdim=True)
    expected = -0.5 * misfit / noise**2 - 13 * noise.log() - 13 / 2 * np.log(2 * np.pi) - 0.5 * np.log(14)
    expected = expected - z[0].T.abs().sum(-1, keepdim=True) / factor - 3 * (2 * factor).log()
    torch.testing.assert_close(found.T, expected, rtol=1e-10, atol=1e-8)
    assert float(log_keep.max()) < 1e-8 * float(expected.abs().max())  # it is above the posterior


def test_both_envelopes_were_needed():
    model, rows, *_ = CASES["nothing to learn"]
    result = run(model, rows)
    made = envelope.Envelope(model.target(rows), sweeps=100)
    log_noise = torch.tensor(0.9, dtype=torch.float64).log()
    log_ratio = result.draws["prior_scale"].log() - 2.0 * log_noise
    tangent = made._log_tangent(log_noise, log_ratio) < made._log_gaussian(log_noise, log_ratio)
    assert 0.1 < float(tangent.double().mean()) < 0.9


def keep_everything(monkeypatch):
    def propose(*call):
        proposed = honest(*call)
        return dataclasses.replace(proposed, log_keep=torch.zeros_like(proposed.log_keep))

    honest = rejection._Proposal.__call__
    monkeypatch.setattr(rejection._Proposal, "__call__", propose)


def wrong_dimension(monkeypatch):
    marginal = envelope.Envelope._log_gaussian
    monkeypatch.setattr(envelope.Envelope, "_log_gaussian", lambda self, s, ratio: marginal(self, s, ratio) + 1.0 * s)


def no_constant(monkeypatch):
    tangent = envelope.Envelope._log_tangent
    monkeypatch.setattr(envelope.Envelope, "_log_tangent", lambda *call: tangent(*call) - 1.0)


@pytest.mark.parametrize(
    ("plant", "case"),
    [(keep_everything, "both known"), (wrong_dimension, "noise learned"), (no_constant, "nothing to learn")],
)
def test_a_slip_is_caught(plant, case, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check(*CASES[case])


def test_a_t_that_is_not_the_best_costs_acceptance_and_no_truth(monkeypatch):
    good = run(*CASES["noise learned"][:2]).details["acceptance"]
    monkeypatch.setattr(envelope, "_dual_of_the_lasso", lambda _, strengths, *rest: np.full((len(strengths), 2), 0.3))
    assert check(*CASES["noise learned"]).details["acceptance"] < 0.8 * good


def test_the_best_t_is_the_subgradient_at_the_map():
    """The MAP's own condition of optimality: X'(y - Xw) / s^2 = t / b, with t the sign of a weight that is not zero."""
    diabetes = br.load_diabetes().standardized()
    model = br.LinearRegression(br.LaplacePrior(0.1), 0.7)
    fit = br.map_estimate(model, diabetes)
    centred = diabetes.features - diabetes.features.mean(0)
    expected = 0.1 / 0.7**2 * centred.T @ (diabetes.target - diabetes.target.mean() - centred @ fit.weights.numpy())
    target = model.target(diabetes)
    shape, strength = model.prior.shape(10), np.array([0.7**2])  # z is in units of the scale 0.1
    found = envelope._dual_of_the_lasso(target.spectrum, strength, 0.7, 100, shape, 1.0 / np.array([0.7]))[0]
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert 0 < int((fit.weights == 0.0).sum()) < 10


def test_diabetes_against_an_independent_gibbs_sampler():
    diabetes = br.load_diabetes().standardized()
    gibbs = laplace_gibbs(diabetes.features, diabetes.target, 0.7, 0.25, draws=20_000, seed=0)
    result = run(br.LinearRegression(br.LaplacePrior(0.25), 0.7), diabetes, draws=2000)
    # The oracle's own error is a fifth of the draws'.
    assert_matches(result.draws["weights"], gibbs.mean(0), gibbs.std(0), allowed_bias=0.03)
    assert 0.3 < result.details["acceptance"] < 0.45


def test_a_learned_prior_scale_keeps_its_envelope_low_where_many_weights_are_well_determined():
    """Where t is not the best, the envelope's mass goes to narrow priors, as f^-d, and nothing is kept."""
    random = np.random.default_rng(0)
    features = random.standard_normal((3000, 40))
    weights = random.laplace(size=40) * 0.25
    rows = br.RegressionData(features, features @ weights + random.standard_normal(3000))
    result = run(br.LinearRegression(br.LaplacePrior(HALF_NORMAL), HALF_NORMAL), rows, draws=200)
    assert result.details["acceptance"] > 0.3


@pytest.mark.parametrize("case", CASES)
def test_lp_belongs_to_the_draw(case):
    model, rows = CASES[case][:2]
    target = model.target(rows)
    result = run(model, rows, draws=500)
    expected = target.log_density(target.unconstrain(result.draws))
    torch.testing.assert_close(result.sample_stats["lp"], expected, rtol=1e-12, atol=1e-10)


def test_the_intercept_is_round_its_conditional_mode():
    model, rows = CASES["both learned"][:2]
    result = run(model, rows, draws=500)
    fitted = float(rows.target.mean()) - result.draws["weights"][..., 0] * float(rows.features.mean())
    standard = (result.draws["intercept"] - fitted) / result.draws["noise_scale"] * rows.num_rows**0.5
    assert_matches(standard.unsqueeze(-1), 0.0, 1.0)


def test_refusals_say_why():
    wide = br.RegressionData(*(lambda x: (x, x[:, 0]))(np.random.default_rng(0).standard_normal((8, 12))))
    with pytest.raises(EngineCannot, match="rank 7 for 12 features"):
        run(br.LinearRegression(br.LaplacePrior(1.0), 1.0), wide)
    with pytest.raises(EngineCannot, match=r"would keep .* \(least worth while: 0.02\)"):
        run(br.LinearRegression(br.LaplacePrior(0.01), 0.7), br.load_diabetes().standardized())
    with pytest.raises(EngineCannot, match="for Laplace and elastic net priors"):
        run(br.LinearRegression(br.GaussianPrior(1.0), 1.0), PLANE)
    short = data(3, [1.0, 0.0, 0.0], rows=4)
    with pytest.raises(EngineCannot, match="4 rows for 3 features"):
        run(br.LinearRegression(br.LaplacePrior(1.0), HALF_NORMAL), short)


def test_a_chain_does_not_depend_on_the_others():
    target = CASES["noise learned"][0].target(PLANE)

    def draws(chains, seed):
        return rejection.run(target, draws=50, tune=0, chains=chains, seed=seed).draws

    assert_chains_stand_alone(draws(1, 0), draws(3, 0), draws(1, 1))


@pytest.mark.usefixtures("strict_factories")
@pytest.mark.parametrize("case", ["both known", "both learned"])
def test_on_each_device(device, case):
    model, rows = CASES[case][:2]
    result = rejection.run(model.target(rows, device), draws=20, tune=0, chains=2, seed=0)
    assert {values.device.type for values in [*result.draws.values(), *result.sample_stats.values()]} == {device.type}
    assert result.draws["weights"].shape == (2, 20, rows.num_features)


@pytest.mark.parametrize("learned", [False, True])
def test_a_mode_between_two_nodes_of_the_first_search_is_not_lost(learned):
    """A prior that conflicts with the data: the noise explains all, or the weight does; both are narrow, far apart.

    A prior scale that is learned and all but known is a third narrow thing, along a ridge of the other coordinates.
    """
    random = np.random.default_rng(0)
    features = random.standard_normal((500, 1))
    rows = br.RegressionData(features, 1000.0 * features[:, 0] + 100.0 * random.standard_normal(500))
    spread, noise_scale = 5e-4, dist.LogNormal(5.0, 2.0)
    roots, masses = np.polynomial.hermite_e.hermegauss(4 if learned else 1)
    grid = {"noise_scale": np.linspace(4.2, 7.6, 801)}
    found = []
    for root in roots:
        known = br.LinearRegression(br.LaplacePrior(0.83 * np.exp(spread * root)), noise_scale)
        log_evidence, (_, moments) = integrate(known, rows, [np.linspace(-60.0, 1060.0, 6001)], grid)
        found.append((log_evidence, *moments))
    log_evidences, means, sds = np.array(found).T
    shares = masses / masses.sum() * np.exp(log_evidences - log_evidences.max())
    log_evidence, shares = log_evidences.max() + np.log(shares.sum()), shares / shares.sum()
    mean = shares @ means
    sd = np.sqrt(shares @ (sds**2 + (means - mean) ** 2))
    prior_scale = dist.LogNormal(float(np.log(0.83)), spread) if learned else 0.83
    result = run(br.LinearRegression(br.LaplacePrior(prior_scale), noise_scale), rows)
    noise = result.draws["noise_scale"]
    assert 0.3 < float((noise < 300.0).double().mean()) < 0.5
    assert_matches(noise.log().unsqueeze(-1), mean, sd)
    assert abs(result.log_evidence - log_evidence) < 0.01


def test_an_envelope_too_rugged_to_propose_from_is_refused_at_once():
    random = np.random.default_rng(0)
    features = random.standard_normal((600, 200))
    weights = random.laplace(size=200) * 0.25 * (random.random(200) < 0.3)
    rows = br.RegressionData(features, features @ weights + random.standard_normal(600))
    with pytest.raises(EngineCannot, match="would keep"):
        run(br.LinearRegression(br.LaplacePrior(HALF_NORMAL), HALF_NORMAL), rows, draws=10)
