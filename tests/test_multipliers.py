"""Products of powers: their algebra, and what they ask for. Refusals are tested by conversion, in test_objectives."""

import pytest

from bayesreg.multipliers import Factor, in_range

S, N, K, SY = 1.7, 23, 5, 3.1
KNOWN = {"noise_scale": S, "num_rows": N, "steps_per_epoch": K, "target_scale": SY}


def test_factors_multiply_and_divide():
    a, b = Factor(2.0, num_rows=1, noise_scale=-2), Factor(4.0, num_rows=1, target_scale=3)
    for combined, expected in ((a * b, 8.0 * N**2 / S**2 * SY**3), (a / b, 0.5 / S**2 / SY**3)):
        assert combined.at("a test", **KNOWN) == pytest.approx(expected, rel=1e-14)
    assert (a / a).needs == () and (a / b).needs == ("noise_scale", "target_scale")


def test_each_power_is_a_power_of_its_own_name():
    for name, value in KNOWN.items():
        for power in (-2, -1, 1, 2):
            assert Factor(3.0, **{name: power}).at("a test", **{name: value}) == pytest.approx(
                3 * value**power, rel=1e-15
            )


def test_all_that_is_missing_is_named():
    with pytest.raises(
        ValueError, match=r"^the sum needs num_rows= \(the number of rows.*; noise_scale= \(the standard"
    ):
        Factor(num_rows=1, noise_scale=-1).at("the sum", target_scale=1.0)


def test_numbers_of_other_types_are_taken():
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    for twenty in (20, 20.0, numpy.int64(20), numpy.float32(20), torch.tensor(20)):
        assert Factor(num_rows=1).at("a test", num_rows=twenty) == 20.0
    assert in_range("an array", numpy.array([1.0, 2.0])).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="an array must be positive and finite"):
        in_range("an array", numpy.array([1.0, 0.0]))
