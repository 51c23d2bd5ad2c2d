"""`sample`: which engine, what is refused, what is warned of, and that every engine honours the same words."""

import inspect
import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br
from bayesreg.computing.devices import device_for
from bayesreg.computing.memory import require_memory
from bayesreg.engines import ENGINES, METHODS
from bayesreg.inference import scale_table
from bayesreg.inference.engine import EngineResult
from bayesreg.sampling import _warn, candidates

LEARNED = dist.HalfNormal(1.0)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    features = random.standard_normal((40, 2))
    return br.RegressionData(features, features @ [1.0, -0.5] + 0.3 * random.standard_normal(40), ["a", "b"])


@pytest.mark.parametrize(
    ("model", "expected", "reason"),
    [
        (br.LinearRegression(br.GaussianPrior(1.0), LEARNED), "exact", "exact posterior"),
        (br.LinearRegression(br.GaussianPrior(LEARNED), LEARNED), "exact", "exact posterior"),
        (br.LinearRegression(br.FlatPrior(), 0.5), "exact", "exact posterior"),
        (br.LinearRegression(br.LaplacePrior(1.0), LEARNED), "rejection", "the data say more"),
    ],
    ids=["gaussian", "learned", "flat", "laplace"],
)
def test_auto_takes_the_first_engine_that_can_and_says_why(model, expected, reason, data):
    posterior = br.sample(model, data)
    assert posterior.method == expected
    assert re.match(rf"auto: .*{reason}", posterior.reason)
    engine = ENGINES[expected]
    assert posterior.draws["weights"].shape == (engine.chains, engine.draws, 2)


def test_auto_takes_many_chains_where_rejection_keeps_too_little():
    posterior = br.sample(br.LinearRegression(br.LaplacePrior(0.02), 0.7), br.load_diabetes().standardized())
    assert posterior.method == "hmc"
    assert re.match("auto: .*rows enough.*; rejection would keep .* of its proposals", posterior.reason)


def test_auto_takes_gibbs_where_a_learned_prior_scale_may_be_small():
    """Noise alone: under a scale near 0 the weights are as small, where hmc does not go and does not say so."""
    random = np.random.default_rng(1)
    data = br.RegressionData(random.standard_normal((30, 10)), random.standard_normal(30))
    model = br.LinearRegression(br.LaplacePrior(LEARNED), LEARNED)
    posterior = br.sample(model, data)
    assert posterior.method == "gibbs" and "learned scale the data leave open" in posterior.reason
    log_scale = posterior.draws["prior_scale"].log()
    assert model.target(data).prior_scale_spread() == pytest.approx(float(log_scale.std()), rel=0.2)
    far = br.RegressionData(10.0 * data.features, data.features @ np.full(10, 30.0) + data.target)
    assert model.target(far).prior_scale_spread() < 0.5


@pytest.mark.parametrize(("rows", "expected"), [(45, "gibbs"), (55, "hmc")])
def test_auto_wants_two_rows_a_column_for_hmc(rows, expected):
    random = np.random.default_rng(0)
    data = br.RegressionData(random.standard_normal((rows, 25)), random.standard_normal(rows))
    target = br.LinearRegression(br.LaplacePrior(0.01), 0.5).target(data)
    assert [name for name, _ in candidates(target)] == ["rejection", expected]


def test_auto_takes_gibbs_where_there_are_fewer_rows_than_columns():
    features = np.random.default_rng(0).standard_normal((6, 9))
    posterior = br.sample(br.LinearRegression(br.LaplacePrior(0.5), 1.0), br.RegressionData(features, features[:, 0]))
    assert posterior.method == "gibbs"
    assert re.match("auto: .*too few rows.*rank 5 for 9 features", posterior.reason)


def model_for(method):
    """A model that the engine takes."""
    prior = br.LaplacePrior(1.0) if method in ("rejection", "gibbs") else br.GaussianPrior(1.0)
    return br.LinearRegression(prior, LEARNED)


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_every_engine_honours_the_same_words(method, data):
    model = model_for(method)
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    settings = {"method": method, "draws": 30, "tune": 60, "chains": 2}
    posterior = br.sample(model, data, seed=3, **settings)
    assert posterior.draws["weights"].shape == (2, 30, 2)
    assert posterior.draws["intercept"].shape == posterior.draws["noise_scale"].shape == (2, 30)
    assert set(posterior.draws) == {"weights", "intercept", "noise_scale"}
    for values in posterior.draws.values():
        assert values.dtype == torch.float64 and values.device.type == "cpu" and not values.requires_grad
    assert posterior.sample_stats["lp"].shape == (2, 30)
    again = br.sample(model, data, seed=3, **settings)
    other = br.sample(model, data, seed=4, **settings)
    for name, values in posterior.draws.items():
        assert torch.equal(values, again.draws[name])
        assert not torch.equal(values, other.draws[name])
    assert (posterior.method, posterior.seed) == (method, 3)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_moments_give_the_same_draws_as_rows(method, data):
    model = model_for(method)
    settings = {"method": method, "draws": 10, "tune": 30, "chains": 1}
    rows, moments = br.sample(model, data, **settings), br.sample(model, br.Moments.from_data(data), **settings)
    assert torch.equal(rows.draws["weights"], moments.draws["weights"])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"draws": 0}, ValueError, "draws must be 1 or more, got 0"),
        ({"draws": 2.5}, TypeError, "draws must be an integer"),
        ({"chains": 0}, ValueError, "chains must be 1 or more"),
        ({"tune": -1}, ValueError, "tune must be 0 or more"),
        ({"seed": -1}, ValueError, "seed must be 0 or more"),
        ({"seed": 2**63}, ValueError, r"seed must be below 2\*\*63, got 9223372036854775808"),
        ({"method": "mcmc"}, ValueError, "method must be one of auto, exact, rejection, .* pyro-nuts, got 'mcmc'"),
        ({"method": "exact", "target_acceptance": 0.9}, TypeError, "no option 'target_acceptance'"),
        (
            {"method": "pyro-nuts", "target_acceptence": 0.9},
            TypeError,
            "'target_acceptence'; it has .*target_acceptance",
        ),
        ({"device": "gpu"}, ValueError, "device must be"),
        ({"device": "cuda:99"}, ValueError, "cuda:99"),
    ],
)
def test_wrong_words_are_refused(wrong, error, message, data):
    with pytest.raises(error, match=message):
        br.sample(br.LinearRegression(br.GaussianPrior(1.0), 0.5), data, **wrong)


def test_exact_refuses_a_laplace_prior_with_the_reason(data):
    with pytest.raises(ValueError, match="Laplace prior the posterior has no closed form; use method='auto'"):
        br.sample(br.LinearRegression(br.LaplacePrior(1.0), 0.5), data, method="exact")


def test_the_pyro_program_needs_rows(data):
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5)
    with pytest.raises(TypeError, match="rows"):
        br.sample(model, br.Moments.from_data(data), method="pyro-nuts", pyro_program=True)


def test_too_few_draws_are_warned_of_with_number_and_threshold(data):
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5)
    with pytest.warns(br.ConvergenceWarning, match=r"ESS of .* is \d+ \(threshold 400\)"):
        br.sample(model, data, method="pyro-nuts", draws=40, tune=50, chains=2)


@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")  # two draws give cause for others too
def test_a_chain_that_does_not_move_is_warned_of(data):
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5)
    with pytest.warns(br.ConvergenceWarning, match=r"weights\[a\] did not move, or has fewer than 4 draws"):
        br.sample(model, data, method="pyro-nuts", draws=2, tune=20, chains=2)


def test_enough_independent_draws_are_not(data):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        br.sample(br.LinearRegression(br.GaussianPrior(1.0), LEARNED), data, draws=20, chains=1)
    assert not [warning for warning in seen if warning.category is br.ConvergenceWarning]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_on_a_gpu(method, data):
    model = model_for(method)
    posterior = br.sample(model, data, method=method, draws=300, tune=100, chains=2, device="cuda")
    reference = br.sample(model, data, draws=4000)
    assert posterior.draws["weights"].device.type == "cpu"
    mean, sd = reference.draws["weights"].mean((0, 1)), reference.draws["weights"].std((0, 1))
    assert ((posterior.draws["weights"].mean((0, 1)) - mean).abs() < 0.5 * sd).all()


@pytest.mark.parametrize(
    ("shift", "divergent", "cause"),
    [(0.0, 0, None), (1.0, 0, r"R-hat of .* \(threshold 1.01\)"), (0.0, 3, "3 divergent transitions")],
)
def test_chains_apart_and_divergences_are_warned_of(shift, divergent, cause, data):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((4, 400, 2), generator=generator, dtype=torch.float64)
    weights[0] += shift
    diverging = torch.zeros((4, 400), dtype=torch.bool)
    diverging[0, :divergent] = True
    stats = {"lp": -weights.square().sum(-1), "diverging": diverging}
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5, intercept=False)
    posterior = br.Posterior({"weights": weights}, stats, model=model, data=data, method="pyro-nuts")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _warn(posterior, EngineResult(posterior.draws, stats), chain=True)
    messages = [str(warning.message) for warning in seen if warning.category is br.ConvergenceWarning]
    assert any(re.search(cause, message) for message in messages) if cause else not messages


@pytest.mark.parametrize(("chains", "shift", "warned"), [(64, 0.0, False), (64, 0.7, True), (8, 0.0, True)])
def test_many_short_chains_are_judged_by_what_lasts_of_their_differences(chains, shift, warned, data):
    """Chains of 80 draws of autocorrelation 1/2 have a plain R-hat above 1.01, however many there are."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((chains, 80, 2), generator=generator, dtype=torch.float64)
    for draw in range(1, 80):
        weights[:, draw] = 0.5 * weights[:, draw - 1] + 0.75**0.5 * weights[:, draw]
    weights[: chains // 2, :, 1] += shift
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5, intercept=False)
    stats = {"lp": -weights.square().sum(-1)}
    posterior = br.Posterior({"weights": weights}, stats, model=model, data=data, method="hmc")
    assert posterior.summary()["r_hat"].min() > 1.01
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _warn(posterior, EngineResult(posterior.draws, stats), chain=True)
    found = [message for message in (str(warning.message) for warning in seen) if "R-hat" in message]
    assert len(found) == warned
    if warned:
        how = ", the noise of short chains left out" if chains == 64 else ""
        assert re.search(rf"R-hat of weights\[b\] is 1\.\d{{4}}{how} \(threshold 1.01\)", found[0])


def test_a_poor_tail_is_warned_of_where_the_bulk_is_fine(data):
    """Long stays in one tail: its quantile is known from few of them, the ranks of the rest from many draws."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((4, 2000, 2), generator=generator, dtype=torch.float64)
    for chain in range(4):
        weights[chain, 400 * chain : 400 * chain + 70, 0] = -4.0
    model = br.LinearRegression(br.LaplacePrior(1.0), 0.5, intercept=False)
    stats = {"lp": -weights.square().sum(-1), "diverging": torch.zeros((4, 2000), dtype=torch.bool)}
    posterior = br.Posterior({"weights": weights}, stats, model=model, data=data, method="pyro-nuts")
    table = posterior.summary()
    assert table["ess_bulk"].min() > 400 > table["ess_tail"].min()
    with pytest.warns(br.ConvergenceWarning, match=r"ESS of weights\[a\] is \d+ \(threshold 400\)"):
        _warn(posterior, EngineResult(posterior.draws, stats), chain=True)


@pytest.mark.parametrize("method", METHODS)
def test_no_engine_starts_on_a_posterior_that_does_not_exist(method):
    flat, random = LEARNED.mask(False), np.random.default_rng(0)
    data = br.RegressionData(random.standard_normal((4, 3)), random.standard_normal(4))
    with pytest.raises(ValueError, match="improper.* as noise_scale grows"):
        br.sample(br.LinearRegression(br.FlatPrior(), flat), data, method=method)
    if method != "exact":
        narrow = br.RegressionData(data.features[:, :1], data.target)
        with pytest.raises(ValueError, match="improper.* as prior_scale grows"):
            br.sample(br.LinearRegression(br.LaplacePrior(flat), LEARNED), narrow, method=method)
        two = br.RegressionData(narrow.features[:2], narrow.target[:2])
        with pytest.raises(ValueError, match="improper.* as noise_scale grows"):
            br.sample(br.LinearRegression(br.LaplacePrior(1.0), flat), two, method=method)


def test_a_table_that_cannot_be_made_fine_enough_is_warned_of(monkeypatch):
    monkeypatch.setattr(scale_table, "_MOST_NODES", 20_000)
    identity = br.RegressionData(np.eye(20), np.random.default_rng(0).standard_normal(20))
    with pytest.warns(br.ConvergenceWarning, match=r"the log evidence to \S+ nats \(threshold 1e-10\)"):
        posterior = br.sample(br.LinearRegression(br.GaussianPrior(LEARNED), LEARNED), identity, draws=5, chains=1)
    assert posterior.details["converged"] is False and posterior.details["evidence_error"] > 1e-10


@pytest.mark.parametrize(("khat", "warned"), [(0.71, True), (0.69, False)])
def test_a_variational_fit_that_importance_weights_cannot_correct_is_warned_of(khat, warned):
    result = EngineResult({}, {}, details={"converged": True, "psis_khat": khat})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _warn(SimpleNamespace(interrupted=False), result, chain=False)
    assert len(seen) == warned
    assert all(re.search(r"k-hat .* 0.71 \(threshold 0.7\)", str(found.message)) for found in seen)


def test_more_draws_than_fit_are_refused_with_the_size(data, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=50_000_000))
    model = br.LinearRegression(br.GaussianPrior(1.0), LEARNED)
    with pytest.raises(ValueError, match=r"draws=50,000 and chains=8 of 4 parameters need about 0.115 GB, and 0.05 GB"):
        br.sample(model, data, draws=50_000, chains=8)
    assert br.sample(model, data, draws=5_000, chains=8).num_draws == 5_000


def test_draws_must_fit_on_the_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000, 20_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4_000)
    target = SimpleNamespace(device=torch.device("cuda", 0), num_parameters=4)
    require_memory(target, ENGINES["exact"], chains=2, draws=39)  # 2 copies of 192 bytes a draw, 15,000 free
    with pytest.raises(ValueError, match="draws=40 and chains=2 .* 1.5e-05 GB of memory of cuda:0 are free"):
        require_memory(target, ENGINES["exact"], chains=2, draws=40)
    require_memory(target, replace(ENGINES["nuts"], points_held=10), chains=2, draws=4_000)  # leaves it as it is made
    with pytest.raises(ValueError, match="memory of cuda:0"):
        require_memory(target, ENGINES["nuts"], chains=2, draws=40)


def test_what_an_engine_holds_beside_the_draws_must_fit(data, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=50_000_000))
    with pytest.raises(ValueError, match="draws=1 and chains=10,000 of 3 parameters need about 0.0906 GB"):
        br.sample(br.LinearRegression(br.GaussianPrior(1.0), 0.5), data, method="nuts", draws=1, chains=10_000)


def test_options_are_the_chosen_engines(data):
    model = br.LinearRegression(br.GaussianPrior(1.0), 0.5)
    with pytest.raises(TypeError, match="method='exact' has no option 'target_acceptance'"):
        br.sample(model, data, method="exact", target_acceptance=0.9)
    with pytest.raises(TypeError, match="method='auto' takes no engine's options, got target_acceptance: name"):
        br.sample(model, data, target_acceptance=0.9)


def test_auto_moves_to_the_device_that_is_best_with_one_pass_over_the_rows(data, monkeypatch):
    asked, passes = [], []
    monkeypatch.setattr("bayesreg.sampling.device_for", lambda *shape: asked.append(shape) or torch.device("cpu", 0))
    of_data = br.Moments.from_data
    monkeypatch.setattr(br.Moments, "from_data", lambda data: passes.append(data) or of_data(data))
    posterior = br.sample(br.LinearRegression(br.GaussianPrior(1.0), LEARNED), data, method="hmc", chains=70)
    assert asked == [("hmc", 70, 4)] and posterior.details["device"] == "cpu:0" and len(passes) == 1


@pytest.mark.parametrize(
    ("shape", "place"),
    [(("hmc", 4096, 12), "cpu"), (("hmc", 8192, 12), "cuda:0"), (("nuts", 10**6, 12), "cpu"),
     (("nuts", 10**6, 50), "cuda:0"), (("exact", 10**6, 50), "cpu")],
)  # fmt: skip
def test_a_gpu_is_for_many_numbers_at_once(shape, place, monkeypatch):
    assert device_for(*shape) == torch.device("cpu") or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert device_for(*shape) == torch.device(place)


@pytest.mark.parametrize("method", ENGINES)
def test_every_engine_has_a_module_with_the_same_first_words(method):
    words = list(inspect.signature(ENGINES[method].load().run).parameters)
    assert words[:6] == ["target", "draws", "tune", "chains", "seed", "progress"]
