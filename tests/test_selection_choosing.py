"""Choosing lambda: what each method must answer, and what the evidence is."""

import re
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr

import bayesreg as br
import bayesreg.selection.strength_evidence
from bayesreg.selection.strength_evidence import evidence_from_posteriors, gaussian_evidence, laplace_evidence


@pytest.fixture(scope="module")
def split():
    return br.load_diabetes().standardized().split(seed=1)


def test_every_method_answers_in_one_table(split):
    train, test = split
    choice = br.choose_lambda(train, "l2", test=test, seed=2)
    frame = choice.to_frame()
    assert frame.index.tolist() == ["validation", "cv", "cv-1se", "evidence", "loo", "learned"]
    assert frame["lambda"].tolist() == [c.strength for c in choice.choices]
    for row, strength in zip(frame["test_loss"], frame["lambda"], strict=True):
        assert row == pytest.approx(float(br.path(train, "l2", [strength]).loss(test)[0]), rel=1e-9)
    cv = br.cross_validate(train, "l2", choice.path.lambdas, seed=2)
    assert frame.loc["cv", "lambda"] == float(cv.lambdas[cv.best])
    assert frame.loc["cv", "held_out_loss"] == pytest.approx(float(cv.loss.min()))
    assert frame.loc["cv-1se", "lambda"] == float(cv.lambdas[cv.one_standard_error])
    errors = br.path(train, "l2", choice.path.lambdas).leave_one_out / 2
    assert frame.loc["loo", "lambda"] == float(choice.path.lambdas[errors.argmin()])
    assert frame.loc["evidence", "lower_5"] < frame.loc["evidence", "lambda"] < frame.loc["evidence", "upper_95"]
    assert choice.test_losses.shape == (100,)
    kept, held = train.split(0.25, seed=2)
    losses = br.path(kept, "l2", choice.path.lambdas).loss(held)
    assert frame.loc["validation", "lambda"] == float(choice.path.lambdas[losses.argmin()])


def test_the_learned_lambda_is_the_posterior_of_the_prior_scale(split):
    train, _ = split
    choice = br.choose_lambda(train, "l2", "learned", noise_scale=0.7)
    (learned,) = choice.choices
    # By quadrature: p(t | y) ~ p(y | s, t) HalfCauchy(t; sd(y) / rms(sd(x))).
    moments = br.Moments.from_data(train)
    scale = np.sqrt(moments.Syy) / np.sqrt(np.mean(np.diag(moments.Sxx)))
    t = torch.tensor(np.geomspace(1e-3, 1e2, 20001))
    density = br.path(train, "l2").spectrum.log_evidence(torch.full_like(t, 0.7), t)
    mass = (density + dist.HalfCauchy(scale).log_prob(t) + t.log()).softmax(0).numpy()
    lambdas = 0.49 / (train.num_rows * t.numpy() ** 2)
    cumulative = np.cumsum(mass)
    for level, found in ((0.05, learned.upper), (0.5, learned.strength), (0.95, learned.lower)):
        exact = lambdas[np.searchsorted(cumulative, level)]
        # The share of the 4,000 independent draws below it is off by its standard error.
        share = cumulative[np.searchsorted(-lambdas, -found)]
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 4000), (level, found, exact)


def test_the_gaussian_evidence_is_its_formula_and_its_maximum(split):
    spectrum = br.path(split[0], "l2").spectrum
    lambdas = np.geomspace(10.0, 1e-4, 50)
    found = gaussian_evidence(spectrum, lambdas, 0.7)
    n = split[0].num_rows
    scales = torch.tensor(0.7 / np.sqrt(n * lambdas))
    expected = spectrum.log_evidence(torch.full_like(scales, 0.7), scales).numpy()

    def height(strength):
        pair = torch.tensor([0.7, 0.7 / np.sqrt(n * strength)], dtype=torch.float64)
        return spectrum.log_evidence(*pair).item()

    top = height(found.strength)
    np.testing.assert_allclose(found.table["log_evidence"], expected - top, atol=1e-8)
    assert found.table["log_evidence"].max() <= 0
    for end in (found.lower, found.upper):
        assert height(end) == pytest.approx(top - 1.3528, abs=0.02)
    learned = gaussian_evidence(spectrum, lambdas, None)
    noise, prior = spectrum.likeliest_scales()
    assert learned.strength == pytest.approx(noise**2 / (n * prior**2), rel=1e-3)
    assert gaussian_evidence(spectrum, np.array([10.0, 1.0]), 0.7).at_end


def one_feature(seed=0, n=12, slope=0.5):
    x = np.random.default_rng(seed).standard_normal((n, 1))
    return br.RegressionData(x, slope * x[:, 0] + np.random.default_rng(seed + 1).standard_normal(n))


def log_evidence_of_one_weight(data, scale, noise):
    """log of the integral over w of Normal(w; m, v) Laplace(w; 0, b), up to a constant, by two half-line integrals."""
    x, y = data.features[:, 0] - data.features.mean(), data.target - data.target.mean()
    variance, mean = noise**2 / (x @ x), (x @ y) / (x @ x)
    sd = np.sqrt(variance)
    halves = [
        sign * -mean / scale + variance / (2 * scale**2) + log_ndtr((sign * mean - variance / scale) / sd)
        for sign in (1, -1)
    ]
    return np.logaddexp(*halves) - np.log(2 * scale)


def test_the_oracle_is_the_integral():
    data = one_feature()
    x, y = data.features[:, 0] - data.features.mean(), data.target - data.target.mean()

    def density(w):
        return np.exp(-((w - x @ y / (x @ x)) ** 2) * (x @ x) / 2 - abs(w) / 0.3) / 0.6 * np.sqrt(x @ x / (2 * np.pi))

    assert np.log(quad(density, -5, 5, points=[0.0], epsabs=1e-13)[0]) == pytest.approx(
        log_evidence_of_one_weight(data, 0.3, 1.0), abs=1e-9
    )


def test_the_laplace_evidence_is_its_integral_within_its_error():
    data = one_feature(slope=1.0)
    lambdas = np.geomspace(1.0, 0.005, 40)
    found = laplace_evidence(br.Moments.from_data(data), lambdas, 1.0, True, seed=0, progress=False)
    scales = 1.0 / (data.num_rows * lambdas)
    exact = np.array([log_evidence_of_one_weight(data, b, 1.0) for b in scales])
    table = found.table
    best = table["log_evidence"].to_numpy().argmax()
    difference = table["log_evidence"] - (exact - exact[best]) - table["log_evidence"][best]
    # Beside the Monte Carlo error, that of the cubics between 16 nodes: a few thousandths of a nat.
    assert (np.abs(difference) < 4 * table["standard_error"] + 0.01).all()
    assert table["standard_error"].max() < 0.1
    fine = np.geomspace(1.0, 0.005, 4001)
    top = fine[np.argmax([log_evidence_of_one_weight(data, 1.0 / (data.num_rows * value), 1.0) for value in fine])]
    assert found.lower < top < found.upper


def test_the_laplace_evidence_is_the_same_along_scales_relative_to_the_noise():
    data, lambdas = one_feature(slope=1.0), np.geomspace(1.0, 0.005, 16)
    tables = [
        evidence_from_posteriors(
            br.posterior_path(data, "l1", lambdas, noise_scale=0.3, relative_to_noise=relative, draws=400), lambdas
        ).table
        for relative in (False, True)
    ]
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-7, atol=1e-9)


def test_psis_agrees_with_the_exact_predictive_density(split):
    train = split[0]
    choice = br.choose_lambda(train, "l2", ("loo",))
    loo = choice.leave_one_out
    # Exactly, by fitting without each row.
    strength, noise, n = choice.choices[0].strength, choice.path.noise_scale, train.num_rows
    total = 0.0
    for i in range(n):
        kept = np.delete(np.arange(n), i)
        x, y = train.features[kept], train.target[kept]
        mean_x, mean_y = x.mean(0), y.mean()
        inverse = np.linalg.inv((x - mean_x).T @ (x - mean_x) + n * strength * np.eye(10))
        w = inverse @ (x - mean_x).T @ (y - mean_y)
        there = train.features[i] - mean_x
        variance = noise**2 * (1 + 1 / (n - 1) + there @ inverse @ there)
        error = train.target[i] - mean_y - there @ w
        total += -0.5 * (np.log(2 * np.pi * variance) + error**2 / variance)
    assert loo.elpd == pytest.approx(total, abs=1e-6)
    assert loo.psis_elpd == pytest.approx(total, abs=0.2)
    assert loo.psis_khat.shape == (n,)
    assert float(loo.psis_khat.max()) < 0.7
    assert "exactly" in loo.note


def test_lasso_leaves_out_by_fitting_again(split):
    train = split[0].split(0.9, seed=0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = br.choose_lambda(train, "l1", ("loo",), [0.3, 0.1, 0.03])
    expected = br.cross_validate(train, "l1", [0.3, 0.1, 0.03], folds=train.num_rows)
    np.testing.assert_allclose(choice.leave_one_out.loss, expected.loss)
    assert choice.leave_one_out.elpd is None
    assert np.isfinite(choice.leave_one_out.psis_elpd)


def test_methods_by_default_are_those_there_are(split):
    moments = br.Moments.from_data(split[0])
    assert br.choose_lambda(moments, "l2").to_frame().index.tolist() == ["evidence", "learned"]
    frame = br.choose_lambda(split[0], "elasticnet", lambdas=[1.0, 0.1, 0.01], folds=3).to_frame()
    assert frame.index.tolist() == ["validation", "cv", "cv-1se", "loo"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": ("cv", "aic")}, ValueError, "methods must be among .* got 'aic'"),
        ({"methods": ()}, ValueError, "at least one"),
        ({"methods": ("cv", "cv")}, ValueError, "different names"),
        ({"kind": "elasticnet", "methods": "evidence"}, ValueError, "'evidence' is for kind 'l2' and 'l1'"),
        ({"lambdas": [0.0, 1.0]}, ValueError, "lambdas must be positive"),
        ({"test": "rows"}, TypeError, "test must be a RegressionData"),
    ],
)
def test_bad_arguments(split, arguments, error, message):
    with pytest.raises(error, match=message):
        br.choose_lambda(split[0], **arguments)


def test_a_method_that_needs_rows_says_so(split):
    with pytest.raises(TypeError, match="method 'cv'"):
        br.choose_lambda(br.Moments.from_data(split[0]), methods=("cv",))


def test_the_study_repeats_the_choice():
    study = br.study_choice(replications=6, methods=("cv", "loo"), noise_scale=0.01, seed=4)
    table = study.table
    assert table["replication"].nunique() == 6
    assert (table["excess"] >= 0).all()
    train, test = br.simulate_weight_decay(seed=4 + 3)
    choice = br.choose_lambda(train, "l2", ("cv", "loo"), test=test, seed=4 + 3, noise_scale=0.01)
    fourth = table[table["replication"] == 3]
    np.testing.assert_allclose(fourth["lambda"], choice.to_frame()["lambda"], rtol=1e-12)
    np.testing.assert_allclose(fourth["test_loss"], choice.to_frame()["test_loss"], rtol=1e-12)
    best = min(float(choice.test_losses.min()), *fourth["test_loss"])
    np.testing.assert_allclose(fourth["excess"], fourth["test_loss"] / best - 1, rtol=1e-12)
    summary = study.summary()
    assert summary.loc["cv", "mean"] == pytest.approx(table[table["method"] == "cv"]["excess"].mean())
    assert summary.columns.tolist() == ["mean", "standard_error", "q5", "q25", "q50", "q75", "q95"]


def test_a_study_needs_two_sets_of_rows():
    with pytest.raises(TypeError, match="simulate must return"):
        br.study_choice(lambda seed: br.simulate_weight_decay(seed)[0], replications=1)


def test_a_constant_target_has_no_noise_scale(split):
    flat = br.RegressionData(split[0].features, np.ones(split[0].num_rows))
    frame = br.choose_lambda(flat, "l2", ("cv", "loo"), [0.1, 1.0]).to_frame()
    assert frame["lambda"].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="the target is constant"):
        _ = br.path(flat, "l2", [0.1]).noise_scale


def test_one_lambda_leaves_nothing_to_choose(split):
    for kind in ("l2", "l1"):
        (choice,) = br.choose_lambda(split[0], kind, ("evidence",), [0.1], noise_scale=0.7).choices
        assert choice.strength == 0.1 and choice.lower is None
        assert choice.note == "the only lambda: choose among several, lambdas=[1,0.5,0.2,0.1,0.05,0.02,0.01]"


@pytest.mark.parametrize(
    ("lambdas", "words"),
    [
        ([30.0, 100.0], "the smallest lambda, and smaller ones may be better: look there, lambdas=[200,100,"),
        ([1e-7, 2e-6], "the largest lambda, and larger ones may be better: look there, lambdas=[0.0002,0.0001,"),
    ],
)
@pytest.mark.parametrize("method", ["cv", "evidence", "loo"])
def test_a_choice_at_the_end_of_the_lambdas_says_which_to_try_and_these_reach_it(split, method, lambdas, words):
    (choice,) = br.choose_lambda(split[0], "l2", (method,), lambdas, noise_scale=0.7).choices
    assert choice.note.startswith(words)
    found = re.search(r"lambdas=\[([^]]*)\]", choice.note)[1].split(",")
    wider = [float(value) for value in found]
    assert min(wider) <= choice.strength <= max(wider)
    # As long as the advice is followed, the end moves by a factor of 50 at least, until it is none.
    for _ in range(6):
        (choice,) = br.choose_lambda(split[0], "l2", (method,), wider, noise_scale=0.7).choices
        if "may be better" not in choice.note:
            break
        wider = [float(value) for value in re.search(r"lambdas=\[([^]]*)\]", choice.note)[1].split(",")]
    whole = br.choose_lambda(split[0], "l2", (method,), noise_scale=0.7).choices[0]
    assert "may be better" not in choice.note + whole.note
    assert abs(np.log10(choice.strength / whole.strength)) < 0.5


def test_where_all_weights_are_0_larger_lambdas_are_not_looked_at():
    random = np.random.default_rng(0)
    data = br.RegressionData(random.normal(size=(40, 3)), random.normal(size=40))
    (choice,) = br.choose_lambda(data, "l1", ("cv-1se",)).choices
    assert choice.note == "the largest lambda, at which all weights are 0, as at every larger one"


def test_moments_of_an_elastic_net_leave_no_method(split):
    with pytest.raises(TypeError, match="data must be rows"):
        br.choose_lambda(br.Moments.from_data(split[0]), "elasticnet")


def test_the_default_lambdas_reach_what_clear_data_choose():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(442, 3))
    data = br.RegressionData(x, x @ [1.0, 2.0, 3.0] + 0.03 * rng.normal(size=442))
    choices = br.choose_lambda(data, "l2", ("evidence", "loo")).choices
    assert all("may be better" not in choice.note for choice in choices)


def test_a_study_of_perfect_fits_and_of_lambda_zero():
    flat = br.RegressionData(np.random.default_rng(0).normal(size=(12, 2)), np.ones(12))
    study = br.study_choice(lambda seed: (flat, flat), replications=2, methods=("cv",), lambdas=[1.0, 0.1])
    assert study.table["excess"].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="lambdas must be positive"):
        br.study_choice(replications=1, lambdas=[0.0, 0.1])


def test_the_learned_lambda_of_l1_is_that_of_a_laplace_prior(split):
    choice = br.choose_lambda(split[0], "l1", "learned", noise_scale=0.7)
    scales = choice.posterior.draws["prior_scale"].numpy()
    assert choice.choices[0].strength == pytest.approx(np.median(0.49 / (split[0].num_rows * scales)), rel=1e-12)


def test_the_standard_errors_of_the_laplace_evidence_are_those_of_repeated_draws(monkeypatch):
    moments, lambdas = br.Moments.from_data(one_feature(slope=1.0)), np.geomspace(1.0, 0.005, 3)
    evidence, offs = bayesreg.selection.strength_evidence._evidence, []
    monkeypatch.setattr(
        bayesreg.selection.strength_evidence, "_evidence", lambda *of: offs.append(of[-1]) or evidence(*of)
    )
    found = [laplace_evidence(moments, lambdas, 1.0, True, seed, False) for seed in range(12)]
    spread = np.std([one.table["log_evidence"][0] for one in found], ddof=1)
    claimed = np.mean([one.table["standard_error"][0] for one in found])
    # A standard deviation of 12 is within a factor of 2 either way with probability 0.998.
    assert 0.5 < spread / claimed < 2.0
    places = np.log([one.strength for one in found])  # to a step of the grid on which they are looked for
    step = np.log(200.0) / (bayesreg.selection.strength_evidence._DENSE - 1)
    assert 0.5 < np.std(places, ddof=1) / np.hypot(np.mean(offs), step / np.sqrt(12.0)) < 2.0


def test_the_evidence_of_more_features_than_rows_has_its_maximum_on_the_axis():
    train, _ = br.simulate_weight_decay(seed=0)
    choice = br.choose_lambda(train, "l2", "evidence", noise_scale=0.01)
    # The prior that made the weights, of scale 0.01, is lambda = 0.05.
    assert 2.0 * float(choice.path.lambdas.min()) < choice.choices[0].lower < 0.05 < choice.choices[0].upper < 0.5
