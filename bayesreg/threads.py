"""One thread for what must round alike wherever it runs: a sum split over threads depends on how many there are."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_inside = threading.local()  # torch's number of threads is a thread's own
_lock = threading.Lock()  # that of the BLAS libraries is the process's: the first in sets it, the last out puts it back
_blas_limits: list = []
_num_inside = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch, where it is loaded, and the BLAS of NumPy and SciPy on one thread; put back on exit.

    A Markov chain makes other draws of a last digit. This holds for the libraries that threadpoolctl knows (OpenBLAS,
    MKL, BLIS); Apple's Accelerate goes its own way. Several Python threads may be inside at once; where the
    one that came first leaves first, OpenBLAS lets nobody else put its number of threads back, and it stays at 1.

    Yields:
        Nothing.
    """
    if getattr(_inside, "flag", False):  # finding and setting the limits takes a quarter of a millisecond
        yield
        return
    torch = sys.modules.get("torch")  # what works on NumPy arrays alone does not wait for its import
    num_threads = torch.get_num_threads() if torch else 0
    _limit_blas()
    try:
        _inside.flag = True
        if torch:
            torch.set_num_threads(1)
        yield
    finally:
        _inside.flag = False
        if torch:
            torch.set_num_threads(num_threads)
        _release_blas()


def _limit_blas() -> None:
    global _num_inside
    with _lock:
        if _num_inside == 0:
            _blas_limits.append(_blas_libraries().limit(limits=1, user_api="blas"))
        _num_inside += 1


def _release_blas() -> None:
    global _num_inside
    with _lock:
        _num_inside -= 1
        if _num_inside == 0:
            _blas_limits.pop().restore_original_limits()


@functools.cache  # looking for them takes milliseconds
def _blas_libraries():
    import scipy.linalg  # noqa: F401 (has a BLAS of its own, which must be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
