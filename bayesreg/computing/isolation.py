"""Random streams and Pyro state of one's own: whatever a run touches is put back on the way out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.threads import one_thread


def chain_seed(seed: int, chain: int) -> int:
    """Return the seed of one chain, from the chain-th child that NumPy's ``SeedSequence(seed)`` spawns.

    It depends on nothing but its two arguments, so chain 2 of 4 is chain 2 of 100. ``seed + chain`` would make chain 1
    of seed 0 the same as chain 0 of seed 1.

    Args:
        seed: The user's seed, a non-negative integer.
        chain: Index of the chain, from 0.

    Returns:
        An integer in [0, 2^63), for ``torch.Generator.manual_seed`` or ``numpy.random.default_rng``.

    Raises:
        TypeError: ``seed`` or ``chain`` is not an integer.
        ValueError: ``seed`` or ``chain`` is negative.

    Example:
        >>> chain_seed(0, 1) == chain_seed(1, 0)
        False
    """
    seed, chain = check_whole_number(seed, "seed", 0), check_whole_number(chain, "chain", 0)
    return _first_word(np.random.SeedSequence(seed, spawn_key=(chain,)))


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Run Pyro or torch code with random streams of its own, an empty parameter store, and no effect on the caller.

    Put back on exit, after an exception too: the random state of torch (the CPU's and every CUDA device's), of NumPy
    and of Python; Pyro's parameter store and settings (validation flags among them); torch's gradient mode, on inside,
    and the number of threads, which is 1 inside (`bayesreg.computing.threads`). Handlers that the caller has active do
    not see the sites inside.

    Args:
        seed: Seed of all streams, a non-negative integer.

    Yields:
        Nothing.

    Example:
        >>> with isolated(seed=3):
        ...     first = torch.rand(2, dtype=torch.float64, device="cpu")
        >>> with isolated(seed=3):
        ...     second = torch.rand(2, dtype=torch.float64, device="cpu")
        >>> torch.equal(first, second)
        True
    """
    import pyro  # slow to import, and `chain_seed` does without

    store = pyro.get_param_store()
    try:
        with (
            one_thread(),
            random_streams(seed),
            store.scope(),
            pyro.settings.context(**pyro.settings.get()),
            pyro.poutine.block(),
            torch.enable_grad(),
        ):
            yield
    finally:
        # scope() strips the caller's parameters of `.unconstrained`; reading them from the store gives it back.
        dict(store.items())


@contextmanager
def random_streams(seed: int) -> Iterator[None]:
    """Seed the global streams of torch, NumPy and Python, and put them back on exit, after an exception too.

    Args:
        seed: Seed of all streams, a non-negative integer.

    Yields:
        Nothing.
    """
    seeds = np.random.SeedSequence(seed)
    # Not torch.manual_seed: where CUDA is not initialised yet, that would leave a seed behind for the time when it is.
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    torch_states = [generator.get_state() for generator in generators]
    numpy_state = np.random.get_state(legacy=False)
    python_state = random.getstate()
    try:
        for generator in generators:
            generator.manual_seed(_first_word(seeds))
        np.random.seed(seeds.generate_state(8))
        random.seed(_first_word(seeds))
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for generator, state in zip(generators, torch_states, strict=True):
            generator.set_state(state)


def _first_word(sequence: np.random.SeedSequence) -> int:
    """Return the sequence's first 64 bits, less one, since not every generator takes the upper half of the range."""
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
