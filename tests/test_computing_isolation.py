"""Nothing of the caller's changes under `isolated`, and what runs inside depends on the seed alone."""

import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from global_state import differences, snapshot

from bayesreg.computing.isolation import chain_seed, isolated, random_streams


def draws():
    """One number from each global stream."""
    sample = pyro.sample("x", dist.Normal(torch.zeros(1, dtype=torch.float64), 1.0)).item()
    return torch.rand(1).item(), sample, float(np.random.rand()), random.random()


def disturb():
    """Touch all that a Pyro run might."""
    draws()
    pyro.param("mine", torch.ones(2))
    pyro.param("stray", torch.ones(3))
    pyro.enable_validation(not torch.distributions.Distribution._validate_args)
    pyro.settings.set(cholesky_relative_jitter=17.0)
    torch.set_num_threads(3)
    torch.set_grad_enabled(False)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_global_changes(fails):
    with pyro.get_param_store().scope():
        parameter = pyro.param("mine", torch.zeros(2))
        before = snapshot()
        if fails:
            with pytest.raises(RuntimeError, match="planned"), isolated(seed=1):
                disturb()
                raise RuntimeError("planned")
        else:
            with isolated(seed=1):
                disturb()
        assert differences(before, snapshot()) == {}
        assert parameter.unconstrained() is pyro.get_param_store()._params["mine"]


def test_the_snapshot_sees_a_disturbance():
    before = snapshot()
    with isolated(seed=1):
        disturb()
        changed = differences(before, snapshot())
    assert set(changed) >= {
        "gradients", "numpy random", "python random", "pyro parameters", "pyro settings", "torch random",
        "torch threads",
    }  # fmt: skip


def test_the_seed_decides_all_streams():
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    with isolated(seed=3):
        first = draws()
    torch.manual_seed(6), np.random.seed(6), random.seed(6)
    with isolated(seed=3):
        second = draws()
    with isolated(seed=4):
        third = draws()
    assert first == second
    assert all(one != other for one, other in zip(first, third, strict=True))


def test_the_parameter_store_is_empty_inside_and_isolation_nests():
    with pyro.get_param_store().scope():
        pyro.param("outer", torch.zeros(1))
        with isolated(seed=0):
            assert len(pyro.get_param_store()) == 0
            pyro.param("middle", torch.zeros(1))
            expected = torch.get_rng_state()
            with isolated(seed=0):
                draws()
                assert "middle" not in pyro.get_param_store()
            assert list(pyro.get_param_store().keys()) == ["middle"]
            assert torch.equal(torch.get_rng_state(), expected)
        assert list(pyro.get_param_store().keys()) == ["outer"]


def test_handlers_outside_do_not_see_what_is_inside():
    with pyro.poutine.trace() as recorded, isolated(seed=0):
        draws()
    assert list(recorded.trace.nodes) == []


def test_gradients_are_on_inside():
    with torch.no_grad(), isolated(seed=0):
        x = torch.ones((), dtype=torch.float64, requires_grad=True)
        assert (2 * x).requires_grad


def test_random_streams_leave_parameters_alone():
    with pyro.get_param_store().scope(), random_streams(seed=0):
        pyro.param("kept", torch.zeros(1))
        assert "kept" in pyro.get_param_store()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_stream_is_seeded_and_put_back():
    torch.zeros(1, device="cuda")
    before = torch.cuda.get_rng_state()
    values = []
    for _ in range(2):
        with isolated(seed=3):
            values.append(torch.rand(3, device="cuda"))
    assert torch.equal(*values)
    assert torch.equal(torch.cuda.get_rng_state(), before)


class TestChainSeed:
    def test_it_is_numpys_spawning(self):
        children = np.random.SeedSequence(17).spawn(4)
        words = [int(child.generate_state(1, np.uint64)[0]) >> 1 for child in children]
        assert [chain_seed(17, chain) for chain in range(4)] == words

    def test_no_two_chains_of_neighbouring_seeds_share_a_stream(self):
        assert len({chain_seed(seed, chain) for seed in range(50) for chain in range(50)}) == 2500

    def test_every_generator_takes_it(self):
        for seed in (0, 1, 2**40, np.int64(3)):
            word = chain_seed(seed, 0)
            assert torch.Generator().manual_seed(word).initial_seed() == word
            assert np.random.default_rng(word).bit_generator.seed_seq.entropy == word

    @pytest.mark.parametrize(
        ("seed", "chain", "error", "words"),
        [
            (-1, 0, ValueError, "seed must be 0 or more, got -1"),
            (0, -2, ValueError, "chain must be 0 or more, got -2"),
            (1.0, 0, TypeError, "seed must be an integer, got 1.0"),
            (True, 0, TypeError, "seed must be an integer, got True"),
        ],
    )
    def test_what_is_no_seed_is_refused(self, seed, chain, error, words):
        with pytest.raises(error, match=words):
            chain_seed(seed, chain)
