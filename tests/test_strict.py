"""The tests' own tools catch what they are there to catch."""

import numpy as np
import pytest
import torch
from checks import assert_matches
from strict import PACKAGE, StrictFactories, no_synchronisation_in_loops


def planted(source):
    """A function whose code claims to stand in a file of the package."""
    names = {"torch": torch}
    exec(compile(source, f"{PACKAGE}/planted.py", "exec"), names)
    return names["offence"]


@pytest.mark.parametrize(
    "call",
    [
        "torch.zeros(3)",
        "torch.eye(3, dtype=torch.float64)",
        "torch.randn(3, device='cpu')",
        "torch.tensor([1.0])",
        "torch.as_tensor([1.0], dtype=torch.float64)",
        "torch.arange(3, device='cpu')",
        "torch.full((2,), 1.0, dtype=torch.float64)",
    ],
)
def test_factories_without_device_or_dtype_are_caught(call):
    offence = planted(f"def offence(): return {call}")
    offence()
    with StrictFactories(), pytest.raises(AssertionError, match=r"planted.py:1: torch\.\w+ without"):
        offence()


def test_careful_factories_and_other_peoples_factories_pass(strict_factories):
    careful = planted("def offence(): return torch.zeros(3, dtype=torch.float64, device='cpu')")()
    assert torch.equal(careful, torch.zeros(3, dtype=torch.float64))
    given = torch.zeros(3)
    assert planted("def offence(x): return torch.as_tensor(x)")(given) is given
    assert planted("def offence(): return torch.distributions.Normal(0.0, 1.0).sample()")().isfinite()


@pytest.mark.parametrize(
    "read", ["float(x)", "int(x)", "bool(x)", "x.item()", "x.tolist()", "x.cpu()", "x.numpy()", "[0, 1, 2, 3][x.int()]"]
)
def test_reads_in_a_loop_are_caught_and_a_single_read_is_not(read):
    offence = planted(f"def offence(times):\n    x = torch.ones(())\n    for _ in range(times):\n        {read}")
    with no_synchronisation_in_loops(at_most=2):
        offence(2)
    with pytest.raises(AssertionError, match=r"planted.py:4"), no_synchronisation_in_loops(at_most=2):
        offence(3)


def test_a_branch_on_a_tensor_is_caught():
    offence = planted("def offence(x):\n    while x < 9:\n        x = x + 1")
    with pytest.raises(AssertionError, match=r"planted.py:2"), no_synchronisation_in_loops(at_most=2):
        offence(torch.zeros(()))


class TestAssertMatches:
    MEAN, SD = np.array([3.0, -1.0]), np.array([0.5, 20.0])

    def draws(self, num=5_000):
        return self.MEAN + self.SD * np.random.default_rng(0).standard_normal((4, num, 2))

    def test_true_draws_pass(self):
        assert_matches(self.draws(), self.MEAN, self.SD)
        assert_matches(torch.as_tensor(self.draws()), self.MEAN, self.SD)

    @pytest.mark.parametrize("coordinate", [0, 1])
    def test_a_mean_off_by_a_twentieth_of_the_sd_fails(self, coordinate):
        draws = self.draws()
        draws[..., coordinate] += 0.05 * self.SD[coordinate]
        with pytest.raises(AssertionError, match=rf"mean\[{coordinate}\]"):
            assert_matches(draws, self.MEAN, self.SD)
        assert_matches(draws, self.MEAN, self.SD, allowed_bias=0.05)

    @pytest.mark.parametrize("factor", [0.95, 1.05])
    def test_an_sd_off_by_a_twentieth_fails(self, factor):
        draws = self.MEAN + factor * (self.draws() - self.MEAN)
        with pytest.raises(AssertionError, match=r"sd\[0\].*sd\[1\]"):
            assert_matches(draws, self.MEAN, self.SD)

    def test_too_few_effective_draws_give_no_verdict(self):
        with pytest.raises(AssertionError, match="no verdict"):
            assert_matches(self.draws(50), self.MEAN, self.SD)
        sticky = np.repeat(self.draws(100), 50, axis=1)
        with pytest.raises(AssertionError, match="no verdict"):
            assert_matches(sticky, self.MEAN, self.SD)
