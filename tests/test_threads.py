"""The number of threads decides nothing: neither moments nor where chains start, nor what is drawn."""

import threading

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 (its BLAS is one of those that are counted)
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import bayesreg as br
from bayesreg.threads import one_thread


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
