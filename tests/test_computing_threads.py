"""The number of threads decides nothing: neither moments nor where chains start, nor what is drawn."""

import threading
import time

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.linalg  # noqa: F401 (its BLAS is one of those that are counted)
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import bayesreg as br
import bayesreg.computing.threads
from bayesreg.computing.threads import in_parallel, num_threads, one_thread
from bayesreg.inference import hmc


def blas_threads():
    return {
        library["filepath"]: library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    }


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_put_back(fails):
    before = torch.get_num_threads()
    with threadpool_limits(2, "blas"):
        torch.set_num_threads(2)
        try:
            with one_thread():
                assert set(blas_threads().values()) == {torch.get_num_threads()} == {1}
                if fails:
                    raise RuntimeError("planned")
        except RuntimeError:
            pass
        assert set(blas_threads().values()) == {torch.get_num_threads()} == {2}
    torch.set_num_threads(before)


def test_moments_starts_and_draws_do_not_depend_on_the_number_of_threads():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2000, 300))
    data = br.RegressionData(features, features[:, 0] + generator.standard_normal(2000))
    collinear = br.RegressionData(np.c_[features, features[:, 0]], data.target)
    model = br.LinearRegression(br.GaussianPrior(0.5), 1.0)
    before, found = torch.get_num_threads(), []
    for number in (1, 2):
        with threadpool_limits(number, "blas"):
            torch.set_num_threads(number)
            moments, factor = br.Moments.from_data(data), br.Moments.from_data(collinear).factor
            start = model.target(data).start()
            draws = br.sample(model, data, method="exact", draws=20, chains=1).draws["weights"]
            found.append([values.tobytes() for values in (moments.scatter, factor, start.numpy(), draws.numpy())])
    torch.set_num_threads(before)
    assert [one == other for one, other in zip(*found, strict=True)] == [True] * 4


def test_several_python_threads_may_be_inside_at_once():
    """The first one out leaves the other on one BLAS thread."""
    entered, left = threading.Event(), threading.Event()
    seen = []

    def other():
        with one_thread():
            entered.set()
            left.wait(10)
            seen.append(set(blas_threads().values()))

    with threadpool_limits(2, "blas"):
        thread = threading.Thread(target=other)
        with one_thread():
            thread.start()
            entered.wait(10)
        left.set()
        thread.join()
        assert seen == [{1}]


@pytest.mark.filterwarnings("ignore::bayesreg.warnings.ConvergenceWarning")
@pytest.mark.parametrize("method", ["exact", "rejection", "hmc", "gibbs"])
def test_draws_do_not_depend_on_how_many_threads_share_the_chains(method, monkeypatch):
    """Sizes at which each engine hands out its chains, which `shared` counts."""
    generator = np.random.default_rng(0)
    rows, features = (30, 60) if method == "gibbs" else (600, 40)
    design = generator.standard_normal((rows, features))
    data = br.RegressionData(design, design[:, 0] + generator.standard_normal(rows))
    prior = br.GaussianPrior(0.5) if method == "exact" else br.LaplacePrior(0.5)
    model = br.LinearRegression(prior, dist.HalfNormal(1.0))
    draws, chains = {"hmc": (5, 70), "gibbs": (5, 400)}.get(method, (8000, 4))
    monkeypatch.setattr(hmc, "_NUMBERS_OF_CHAINS", 2**10)
    shared, before, found = [], torch.get_num_threads(), []

    def counted(work, pieces, worth_while=True):
        shared.append(min(len(pieces), num_threads()) if worth_while else 1)
        return in_parallel(work, pieces, worth_while)

    where = "independent" if method in ("exact", "rejection") else method
    monkeypatch.setattr(f"bayesreg.inference.{where}.in_parallel", counted)
    for number in (1, 2):
        torch.set_num_threads(number)
        posterior = br.sample(model, data, method=method, draws=draws, tune=5, chains=chains)
        found.append([values.numpy().tobytes() for values in posterior.draws.values()] + [posterior.log_evidence])
        found[-1].append(posterior.predict(design[:50]).numpy().tobytes())
        assert torch.get_num_threads() == number
    torch.set_num_threads(before)
    assert shared == [1, 2]
    assert found[0] == found[1]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_pieces_come_back_in_order_each_on_one_thread(two_threads):
    barrier = threading.Barrier(2, timeout=10)

    def work(piece, go_on):
        if piece < 2:
            barrier.wait()  # both at once, or this times out
        go_on()
        return piece, torch.get_num_threads(), threading.get_ident()

    with one_thread():
        found = in_parallel(work, range(5))
    assert [piece for piece, _, _ in found] == list(range(5))
    assert {number for _, number, _ in found} == {1}
    assert len({identity for _, _, identity in found}) == 2
    assert in_parallel(work, [7])[0][0] == 7  # outside: here and now
    assert torch.get_num_threads() == 2


def test_a_piece_that_fails_ends_the_others(two_threads):
    running, ended = threading.Event(), []

    def work(piece, go_on):
        if piece == 0:
            running.wait(10)
            raise RuntimeError("planned")
        running.set()
        for _ in range(10_000):
            go_on()
            time.sleep(0.001)
        ended.append(piece)

    with one_thread(), pytest.raises(RuntimeError, match="planned"):
        in_parallel(work, range(4))
    assert not ended


def test_an_interrupt_on_the_way_in_leaves_nothing_behind(monkeypatch):
    libraries = bayesreg.computing.threads._blas_libraries()
    before, calls = [library.num_threads for library in libraries], []

    def interrupted(number):
        calls.append(number)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(libraries[-1], "set_num_threads", interrupted)
        with pytest.raises(KeyboardInterrupt), one_thread():
            pytest.fail("inside")
    assert [library.num_threads for library in libraries[:-1]] == before[:-1]
    with one_thread():
        assert all(library.num_threads == 1 for library in libraries)
    assert [library.num_threads for library in libraries] == before
