"""One thread for what must round alike wherever it runs, and pieces of work side by side on one thread each.

A sum split over threads depends on how many there are. Pieces that do not depend on each other do not: how many run at
once changes when each is done, and nothing else.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

Piece, Result, Function = TypeVar("Piece"), TypeVar("Result"), TypeVar("Function", bound=Callable)

# From this many rows and columns on, the BLAS's threads pay.
_LARGE = 1000
_inside = threading.local()  # torch's number of threads is a thread's own
_lock = threading.Lock()  # that of the BLAS libraries is the process's: the first in sets it, the last out puts it back
_blas_threads_before: list[int] = []
_num_inside = 0


class one_thread(AbstractContextManager):
    """Run torch, where it is loaded, and the BLAS of NumPy and SciPy on one thread; put back on exit.

    A context manager and a decorator of functions. A Markov chain makes other draws of a last digit. This holds for
    the libraries that threadpoolctl knows (OpenBLAS, MKL, BLIS); Apple's Accelerate goes its own way. Several Python
    threads may be inside at once; where the one that came first leaves first, OpenBLAS lets nobody else put its number
    of threads back, and it stays at 1.

    Example:
        >>> import torch
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """

    def __enter__(self) -> None:
        self._num_threads = None if _is_inside() else _enter()

    def __exit__(self, *_) -> None:
        if self._num_threads is not None:
            _leave(self._num_threads)

    def __call__(self, function: Function) -> Function:
        """Return the function so that it runs inside."""

        @functools.wraps(function)
        def on_one_thread(*args, **kwargs):
            if _is_inside():  # most calls come from such a function: for microseconds' work the frame is worth saving
                return function(*args, **kwargs)
            with one_thread():
                return function(*args, **kwargs)

        return on_one_thread


def threads_for(size: int) -> AbstractContextManager[None]:
    """Return `one_thread()` for the algebra of matrices of so many rows and columns, or nothing where they are large.

    The BLAS's threads wait for each other, on a busy machine for many times what the work takes.
    """
    return one_thread() if size < _LARGE else nullcontext()


def num_threads() -> int:
    """Return how many threads `in_parallel` uses: torch's number of them, or the BLAS's, as before `one_thread`."""
    return _inside.num_threads if _is_inside() else 1


def in_parallel(
    work: Callable[[Piece, Callable[[], None]], Result], pieces: Sequence[Piece], worth_while: bool = True
) -> list[Result]:
    """Do pieces of work, as many at once as `num_threads` says, each of them on one thread.

    Worth while for pieces whose operations take 100 microseconds or more: torch lets go of Python's lock in shorter
    ones too, but then the threads mostly wait for each other to pass it on.

    Args:
        work: Takes a piece, and a function to call now and then, which ends the work where another piece has failed or
            the program was interrupted.
        pieces: The pieces; whatever they share is only read.
        worth_while: Otherwise, one piece after the other.

    Returns:
        The results, in the order of the pieces.

    Raises:
        BaseException: What the first piece that failed has raised, or the interrupt; no piece is left running.

    Example:
        >>> with one_thread():
        ...     in_parallel(lambda piece, go_on: piece**2, [1, 2, 3])
        [1, 4, 9]
    """
    workers = min(len(pieces), num_threads()) if worth_while else 1
    if workers <= 1:
        return [work(piece, _go_on) for piece in pieces]
    stop = threading.Event()

    def go_on() -> None:
        if stop.is_set():
            raise _Stopped

    def on_one_thread(piece: Piece) -> Result:
        with one_thread():
            return work(piece, go_on)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(on_one_thread, piece) for piece in pieces]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def even_slices(length: int, parts: int, start: int = 0) -> list[slice]:
    """Return slices of about the same length, wherever they are worked on."""
    ends = [start + length * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]


class _Stopped(Exception):
    """Another piece of the work has failed."""


def _go_on() -> None:
    pass


def _is_inside() -> bool:
    return getattr(_inside, "flag", False)


def _enter() -> int:
    """Set the threads to one; return how many torch had, or the BLAS without it."""
    torch = sys.modules.get("torch")  # what works on NumPy arrays alone does not wait for its import
    before, limited = torch.get_num_threads() if torch else _blas_threads(), False
    _inside.torch = torch
    try:
        _limit_blas()
        limited = True
        _inside.flag, _inside.num_threads = True, before
        if torch:
            torch.set_num_threads(1)
    except BaseException:  # an interrupt
        _leave(before, limited)
        raise
    return before


def _leave(num_threads: int, limited: bool = True) -> None:
    """Undo `_enter`."""
    _inside.flag = False
    if _inside.torch:
        _inside.torch.set_num_threads(num_threads)
    if limited:
        _release_blas()


def _limit_blas() -> None:
    global _num_inside
    with _lock:
        if _num_inside == 0:
            # Not by a `threadpool_limits`: that describes each library before and after, which takes most of its time.
            before = [library.num_threads for library in _blas_libraries()]
            try:
                for library in _blas_libraries():
                    library.set_num_threads(1)
                _blas_threads_before[:] = before
            except BaseException:  # an interrupt must not leave half of it
                _set_blas(before)
                raise
        _num_inside += 1


def _release_blas() -> None:
    global _num_inside
    with _lock:
        _num_inside -= 1
        if _num_inside == 0:
            _set_blas(_blas_threads_before)


def _set_blas(numbers: list[int]) -> None:
    for library, number in zip(_blas_libraries(), numbers, strict=True):
        library.set_num_threads(number)


def _blas_threads() -> int:
    return max((library.num_threads or 1 for library in _blas_libraries()), default=1)


@functools.cache  # looking for them takes milliseconds
def _blas_libraries() -> list:
    import scipy.linalg  # noqa: F401 (has a BLAS of its own, which must be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
