"""The active set on designs with ties, duplicates, polynomials, constants and columns of any length."""

import numpy as np
import pytest

from bayesreg.inference.active_set import minimise_absolute_penalty

KINDS = ("normal", "signs", "polynomial", "bits", "repeated", "graded")


def design(kind, random):
    rows, columns = random.integers(1, 40), random.integers(1, 60)
    if kind == "normal":
        made = random.standard_normal((rows, columns))
    elif kind == "signs":
        made = np.sign(random.standard_normal((rows, columns)))
    elif kind == "polynomial":
        made = np.vander(np.linspace(-1, 1, rows), min(columns, 13))
    elif kind == "bits":
        made = random.integers(0, 2, (rows, columns)).astype(float)
    elif kind == "repeated":
        base = random.standard_normal((rows, max(columns // 4, 1)))
        made = base.repeat(4, axis=1) * random.choice([-1, 1], 4 * base.shape[1])
    else:
        made = random.standard_normal((rows, columns)) * 10.0 ** random.uniform(-6, 6, columns)
    return made - made.mean(0)


def optimality(design, target, strengths, weights):
    """Largest violation of |F_j'r| <= l_j, with equality and sign where w_j is not zero, per column length."""
    gradient = design.T @ (target - design @ weights)
    on = np.abs(gradient - strengths * np.sign(weights))
    off = np.maximum(np.abs(gradient) - strengths, 0.0)
    lengths = np.linalg.norm(design, axis=0) * np.linalg.norm(target)
    return (np.where(weights != 0, on, off) / np.where(lengths > 0, lengths, 1.0)).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 1e-2, 1e-4, 1e-7])
def test_optimality_conditions_hold_to_rounding(kind, share):
    for seed in range(25):
        random = np.random.default_rng([KINDS.index(kind), seed])
        columns = design(kind, random)
        target = (
            random.standard_normal(len(columns)) if seed % 2 else columns @ random.integers(-2, 3, columns.shape[1])
        )
        target = target - target.mean()
        largest = np.abs(columns.T @ target).max()
        strengths = np.full(columns.shape[1], share * (largest if largest > 0 else 1.0))
        weights = minimise_absolute_penalty(columns, target, strengths)
        if np.linalg.norm(target) > 0:
            assert optimality(columns, target, strengths, weights) < 1e-12
        support = columns[:, weights != 0]
        assert (
            np.linalg.matrix_rank(support / np.linalg.norm(support, axis=0)) == support.shape[1]
            if support.size
            else True
        )


def test_a_start_does_not_change_the_end():
    random = np.random.default_rng(0)
    columns, target = random.standard_normal((30, 50)), random.standard_normal(30)
    strengths = np.full(50, 2.0)
    plain = minimise_absolute_penalty(columns, target, strengths)
    for seed in range(10):
        start = np.random.default_rng(seed).standard_normal(50)
        np.testing.assert_allclose(minimise_absolute_penalty(columns, target, strengths, start), plain, atol=1e-12)
    assert 0 < np.count_nonzero(plain) < 30


def test_one_strength_a_column():
    random = np.random.default_rng(0)
    columns, target = random.standard_normal((30, 5)), random.standard_normal(30)
    strengths = np.array([1e-3, 1.0, 3.0, 1e3, 5.0])
    weights = minimise_absolute_penalty(columns, target, strengths)
    assert optimality(columns, target, strengths, weights) < 1e-12 and weights[3] == 0.0


@pytest.mark.parametrize("apart", [1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("share", [1e-2, 1e-6, 1e-10])
def test_nearly_equal_columns_are_told_apart(apart, share):
    """A penalty so weak that the difference of two columns, of length 1 / apart, pays: both must be let in."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        columns = random.standard_normal((20, 4))
        columns[:, 1] = columns[:, 0] + apart * random.standard_normal(20)
        target = columns.sum(axis=1) + random.standard_normal(20)
        strengths = np.full(4, share * np.abs(columns.T @ target).max())
        weights = minimise_absolute_penalty(columns, target, strengths)
        # The gradient's rounding is that of weights as large as 1 / apart.
        size = 1.0 + np.abs(weights).max() / np.linalg.norm(target)
        assert optimality(columns, target, strengths, weights) < 1e-12 * size
