"""What an interrupt leaves: the first draws of the run that was asked for, or the interrupt itself."""

import os
import signal
import subprocess
import sys
import warnings
from pkgutil import resolve_name

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import bayesreg as br
from bayesreg.inference import hmc
from bayesreg.inference.record import Interrupted, Record, joined, kept_if_interrupted, most_draws

ROWS = br.load_diabetes().standardized()
GAUSSIAN = br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0))
LAPLACE = br.LinearRegression(br.LaplacePrior(0.25), dist.HalfNormal(1.0))
# What every draw of an engine goes through.
INNERMOST = {
    "exact": "bayesreg.inference.exact._draw",
    "rejection": "bayesreg.inference.rejection._Proposal.__call__",
    "hmc": "bayesreg.inference.rotation._trajectory",
    "gibbs": "bayesreg.inference.scale_mixture.ScaleMixture.draw_variances",
    "nuts": "bayesreg.inference.nuts.transition",
    "pyro-nuts": "bayesreg.inference.pyro_nuts._RecordingNUTS.sample",
}
SETTINGS = {
    "exact": {"draws": 60_000, "chains": 3},
    "rejection": {"draws": 9_000, "chains": 3},
    "hmc": {"draws": 300, "tune": 20, "chains": 40},
    "gibbs": {"draws": 60, "tune": 20, "chains": 5},
    "nuts": {"draws": 150, "tune": 20, "chains": 8},
    "pyro-nuts": {"draws": 30, "tune": 20, "chains": 3},
}


def after(calls, monkeypatch, method, error=KeyboardInterrupt):
    """An interrupt in the middle of the call of that number."""
    where, name = INNERMOST[method].rsplit(".", 1)
    module = resolve_name(where)
    work, count = getattr(module, name), [0]

    def interrupted(*arguments, **settings):
        count[0] += 1
        if count[0] == calls:
            raise error
        return work(*arguments, **settings)

    monkeypatch.setattr(module, name, interrupted)
    return count


@pytest.fixture(scope="module")
def whole():
    """Runs that nobody interrupts, and the calls that they take."""
    made = {}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", br.ConvergenceWarning)
        for method, settings in SETTINGS.items():
            count = after(-1, patch, method)
            made[method] = br.sample(model_of(method), ROWS, method, seed=3, **settings), count[0]
    return made


def model_of(method):
    return GAUSSIAN if method == "exact" else LAPLACE


@pytest.mark.filterwarnings("ignore:.*(threshold|expected|did not move)")
@pytest.mark.parametrize("method", SETTINGS)
def test_an_interrupt_keeps_the_first_draws_of_the_run(method, whole, monkeypatch):
    uninterrupted, calls = whole[method]
    before = (torch.get_num_threads(), torch.random.get_rng_state().tolist())
    after(int(0.7 * calls), monkeypatch, method)
    asked = SETTINGS[method]
    with pytest.warns(br.ConvergenceWarning, match="sampling was interrupted") as caught:
        posterior = br.sample(model_of(method), ROWS, method, seed=3, **asked)
    assert (torch.get_num_threads(), torch.random.get_rng_state().tolist()) == before
    chains, draws = posterior.num_chains, posterior.num_draws
    if method == "pyro-nuts":  # one chain after the other: two are whole, the third is not
        assert (chains, draws) == (2, 30)
    else:
        assert chains == asked["chains"] and 0.1 * asked["draws"] < draws < asked["draws"]
    for name, values in (posterior.draws | posterior.sample_stats).items():
        of_whole = (uninterrupted.draws | uninterrupted.sample_stats)[name][:chains, :draws]
        if name == "lp" or (name == "intercept" and method in ("nuts", "gibbs")):  # sums in blocks of other lengths
            torch.testing.assert_close(values, of_whole, rtol=1e-11, atol=1e-11)
        else:
            assert torch.equal(values, of_whole), name
    assert posterior.interrupted and not uninterrupted.interrupted
    assert posterior.details["draws_asked"] == asked["draws"] and posterior.details["chains_asked"] == asked["chains"]
    words = (
        f"sampling was interrupted: {chains} chains of {draws:,} draws are kept (asked for: {asked['chains']} chains"
    )
    assert [str(one.message).startswith(words) for one in caught].count(True) == 1
    if method == "rejection":
        error = posterior.details["log_evidence_standard_error"]
        assert abs(posterior.log_evidence - uninterrupted.log_evidence) < 4 * error


@pytest.mark.parametrize("method", ["hmc", "gibbs", "nuts", "pyro-nuts"])
def test_an_interrupt_in_the_warm_up_goes_on(method, monkeypatch):
    after(3, monkeypatch, method)
    with pytest.raises(KeyboardInterrupt) as caught:
        br.sample(LAPLACE, ROWS, method, **SETTINGS[method])
    assert not isinstance(caught.value, Interrupted)


@pytest.mark.parametrize(("made", "kept"), [(3, False), (4, True)])
def test_four_draws_a_chain_are_kept_and_three_are_not(made, kept, monkeypatch):
    after(10 + made + 1, monkeypatch, "nuts")  # warm-up cannot end before 10 iterations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", br.ConvergenceWarning)
        if kept:
            posterior = br.sample(LAPLACE, ROWS, "nuts", draws=50, tune=10, chains=8)
            assert posterior.num_draws == 4 and posterior.num_chains == 8
        else:
            with pytest.raises(KeyboardInterrupt):
                br.sample(LAPLACE, ROWS, "nuts", draws=50, tune=10, chains=8)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("method", ["hmc", "gibbs"])
def test_a_real_signal_ends_chains_on_several_threads(method, two_threads, monkeypatch):
    """The main thread waits for the others, and the signal is its own."""
    generator = np.random.default_rng(0)
    rows, features = (30, 60) if method == "gibbs" else (600, 40)
    design = generator.standard_normal((rows, features))
    data = br.RegressionData(design, design[:, 0] + generator.standard_normal(rows))
    asked = {"hmc": {"draws": 200, "tune": 20, "chains": 64}, "gibbs": {"draws": 60, "tune": 5, "chains": 400}}[method]
    monkeypatch.setattr(hmc, "_NUMBERS_OF_CHAINS", 2**10)
    model = br.LinearRegression(br.LaplacePrior(0.5), dist.HalfNormal(1.0))
    uninterrupted = br.sample(model, data, method, **asked)
    where, name = INNERMOST[method].rsplit(".", 1)
    module = resolve_name(where)
    work, count = getattr(module, name), [0]
    at = {"hmc": 20 + 3 * 100, "gibbs": 60}[method]

    def signalled(*arguments, **settings):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGINT)
        return work(*arguments, **settings)

    monkeypatch.setattr(module, name, signalled)
    posterior = br.sample(model, data, method, **asked)
    chains, draws = posterior.num_chains, posterior.num_draws
    assert posterior.interrupted and 4 <= draws < asked["draws"]
    assert chains == asked["chains"] or method == "gibbs"
    # Which blocks of chains are kept depends on the threads.
    by_weights = {
        one[:draws].numpy().tobytes(): chain for chain, one in enumerate(uninterrupted.draws["weights"].unbind())
    }
    kept = [by_weights[one.contiguous().numpy().tobytes()] for one in posterior.draws["weights"].unbind()]
    assert kept == sorted(set(kept))
    for name, values in posterior.draws.items():
        torch.testing.assert_close(values, uninterrupted.draws[name][kept][:, :draws], rtol=1e-11, atol=1e-11)


def test_who_does_not_ask_for_the_draws_is_interrupted(monkeypatch):
    """A part of other work must not go on with half of its draws as if nothing had happened."""
    calls = after(-1, monkeypatch, "hmc")
    target = LAPLACE.target(br.Moments.from_data(ROWS))
    hmc.run(target, draws=100, tune=20, chains=40, seed=0)
    total = calls[0]
    monkeypatch.undo()
    after(total - 20, monkeypatch, "hmc")
    with pytest.raises(KeyboardInterrupt) as caught:
        hmc.run(target, draws=100, tune=20, chains=40, seed=0)
    assert isinstance(caught.value, Interrupted) and 4 <= caught.value.result.draws["weights"].shape[1] < 100
    monkeypatch.undo()
    after(2, monkeypatch, "exact")
    monkeypatch.setattr("bayesreg.inference.exact._LONGEST_BLOCK", 128)
    with pytest.raises(KeyboardInterrupt):
        br.choose_lambda(ROWS, "l2", ("learned",))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("chain", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:.*(threshold|expected|did not move)")
def test_an_interrupt_about_a_chain_of_pyro_nuts_counts_it_whole_or_not_at_all(chain, late, monkeypatch):
    write, calls = Record.write, []

    def interrupted(record, values):
        calls.append(record)
        if late or len(calls) < chain:
            write(record, values)
        if len(calls) == chain:
            raise KeyboardInterrupt

    monkeypatch.setattr(Record, "write", interrupted)
    kept = chain if late else chain - 1
    settings = {"draws": 8, "tune": 5, "chains": 3}
    if not kept:
        with pytest.raises(KeyboardInterrupt) as caught:
            br.sample(LAPLACE, ROWS, "pyro-nuts", **settings)
        assert not isinstance(caught.value, Interrupted)
        return
    with pytest.warns(br.ConvergenceWarning, match=f"interrupted: {kept} chains of 8 draws"):
        posterior = br.sample(LAPLACE, ROWS, "pyro-nuts", **settings)
    assert posterior.num_chains == kept
    for name in ("warmup_seconds", "sampling_seconds", "warmup_steps", "sampling_steps", "step_size"):
        assert len(posterior.details[name]) == kept
    assert posterior.details["sampling_steps"] == posterior.sample_stats["n_steps"].sum(1).tolist()


def test_an_error_is_no_interrupt(monkeypatch):
    after(40, monkeypatch, "hmc", RuntimeError("planned"))
    with pytest.raises(RuntimeError, match="planned"):
        br.sample(LAPLACE, ROWS, "hmc", **SETTINGS["hmc"])


def test_a_second_interrupt_stops_at_once(monkeypatch):
    after(100, monkeypatch, "hmc")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bayesreg.inference.hmc.joined", interrupted)
    with pytest.raises(KeyboardInterrupt):
        br.sample(LAPLACE, ROWS, "hmc", **SETTINGS["hmc"])


@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
def test_an_interrupted_posterior_says_so_wherever_it_goes(monkeypatch, tmp_path):
    after(100, monkeypatch, "hmc")
    posterior = br.sample(LAPLACE, ROWS, "hmc", **SETTINGS["hmc"])
    monkeypatch.undo()
    assert posterior.interrupted and posterior.original_units().interrupted and posterior.thin(50).interrupted
    posterior.save(tmp_path / "run.nc")
    loaded = br.Posterior.load(tmp_path / "run.nc")
    assert loaded.interrupted and loaded.details["draws_asked"] == 300 and loaded.num_draws == posterior.num_draws
    assert posterior.to_datatree(0).attrs["interrupted"] == 1
    assert "interrupted" not in br.sample(GAUSSIAN, ROWS, draws=10).to_datatree(0).attrs


PROGRAM = """
import sys, time, warnings
import pyro.distributions as dist
import bayesreg as br
from bayesreg.inference import rotation
step, count = rotation._trajectory, [0]
def counted(*arguments):
    count[0] += 1
    if count[0] == 200:
        print("drawing", flush=True)
    time.sleep(0.003)
    return step(*arguments)
rotation._trajectory = counted
warnings.simplefilter("ignore")
model = br.LinearRegression(br.LaplacePrior(0.25), dist.HalfNormal(1.0))
posterior = br.sample(model, br.load_diabetes().standardized(), "hmc", draws=1_000, chains=8)
posterior.save(sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_real_signal_to_a_real_process_keeps_its_draws(tmp_path):
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "run.nc")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "drawing\n", process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == "", errors
    posterior = br.Posterior.load(tmp_path / "run.nc")
    assert posterior.interrupted and 4 <= posterior.num_draws < 1_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", br.ConvergenceWarning)
        whole = br.sample(LAPLACE, ROWS, "hmc", draws=1_000, chains=8)
    assert torch.equal(posterior.draws["weights"], whole.draws["weights"][:, : posterior.num_draws])


# --- the parts


def test_most_draws():
    assert most_draws([]) == 0 and most_draws([0, 0]) == 0
    assert most_draws([7, 7, 7]) == 7
    assert most_draws([100, 99]) == 99
    assert most_draws([10, 5]) == 5  # as many numbers from both ways: all chains
    assert most_draws([10, 4]) == 10


def test_a_record_counts_what_is_whole_and_joins_equal_lengths():
    def block(size, value):
        return {"lp": torch.full((2, size), value, dtype=torch.float64, device="cpu")}

    records = [Record(2, 10), Record(2, 10), Record(2, 10)]
    records[0].write(block(4, 1.0))
    records[0].write(block(4, 2.0), size=3)
    records[1].write(block(8, 3.0))
    found = joined(records)["lp"]
    assert found.shape == (4, 7)
    assert found[0].tolist() == [1.0] * 4 + [2.0] * 3 and found[3].tolist() == [3.0] * 7
    with pytest.raises(KeyboardInterrupt), kept_if_interrupted(records[2:]):
        raise KeyboardInterrupt
    with kept_if_interrupted(records) as making:
        assert not making.interrupted
        raise KeyboardInterrupt
    assert making.interrupted
