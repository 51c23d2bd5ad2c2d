"""One thread for what must round alike wherever it runs: a sum split over threads depends on how many there are."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_inside = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch, where it is loaded, and the BLAS of NumPy and SciPy on one thread; put back on exit.

    A Markov chain makes other draws of a last digit. This holds for the libraries that threadpoolctl knows (OpenBLAS,
    MKL, BLIS); Apple's Accelerate goes its own way.

    Yields:
        Nothing.
    """
    if getattr(_inside, "flag", False):  # finding and setting the limits takes a quarter of a millisecond
        yield
        return
    torch = sys.modules.get("torch")  # what works on NumPy arrays alone does not wait for its import
    num_threads = torch.get_num_threads() if torch else 0
    try:
        _inside.flag = True
        if torch:
            torch.set_num_threads(1)
        with _blas_libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        _inside.flag = False
        if torch:
            torch.set_num_threads(num_threads)


@functools.cache  # looking for them takes milliseconds
def _blas_libraries():
    import scipy.linalg  # noqa: F401 (has a BLAS of its own, which must be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
