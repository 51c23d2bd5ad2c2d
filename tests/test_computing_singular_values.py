"""Singular value decompositions of designs: few rows, short rank, columns of all lengths."""

import numpy as np
import pytest

from bayesreg.computing import singular_values as module
from bayesreg.computing.singular_values import decomposition_of_few_rows, singular_value_decomposition

EPS = np.finfo(np.float64).eps


def design(rows, columns, smallest=0.1, centred=False, lengths=None, seed=0):
    """A matrix with singular values from 1 down to the smallest, evenly in their logarithm."""
    random = np.random.default_rng(seed)
    rank = min(rows, columns)
    left = np.linalg.qr(random.standard_normal((rows, rank)))[0]
    right = np.linalg.qr(random.standard_normal((columns, rank)))[0]
    matrix = left * np.geomspace(1.0, smallest, rank) @ right.T
    matrix = matrix - matrix.mean(axis=0) if centred else matrix
    return matrix if lengths is None else matrix * np.geomspace(*lengths, columns)


def decompose(matrix, rank):
    """Return U, S and V by the rows' products where they are to be used, else by an SVD."""
    found = decomposition_of_few_rows(matrix, rank)
    if found is None:
        return singular_value_decomposition(matrix, rank, 1e-13)
    left, values, products = found
    assert products == pytest.approx(matrix @ matrix.T, rel=0.0, abs=100 * EPS * products.trace())
    return left, values, matrix.T @ (left / values)


CASES = {
    "few rows": (design(12, 60), 12),
    "few rows, centred": (design(12, 60, centred=True), 11),
    "few rows, dependent": (np.vstack([design(6, 60), design(6, 60)]), 6),
    "few rows, of other lengths": (design(12, 60, lengths=(1e-2, 1e2)), 12),
    "few rows, graded": (design(12, 60, lengths=(1e-5, 1e5)), 12),
    "few rows, ill conditioned": (design(12, 60, smallest=1e-9), 12),
    "one row": (design(1, 60), 1),
    "many rows": (design(60, 12), 12),
    "square": (design(20, 20), 20),
}


def with_short_ones(rows, columns, shortest, share=0.1):
    """A matrix most of whose singular values are near each other, and some of which are short."""
    random = np.random.default_rng(3)
    rank = min(rows, columns)
    left = np.linalg.qr(random.standard_normal((rows, rank)))[0]
    right = np.linalg.qr(random.standard_normal((columns, rank)))[0]
    short = round(share * rank)
    values = np.r_[np.geomspace(1.0, 0.06, rank - short), np.geomspace(0.02, shortest, short)]
    return left * values @ right.T


# As many rows and columns as their products are worth while for.
MANY = {
    "well conditioned": design(200, 160),
    "wide": design(170, 300, smallest=0.04),
    "of one length": np.linalg.qr(design(200, 200))[0],
    "some short": with_short_ones(200, 200, 1e-6),
    "some short, wide": with_short_ones(160, 310, 1e-4),
    "half of them short": with_short_ones(200, 180, 1e-3, share=0.5),
    "most of them short": with_short_ones(200, 180, 1e-3, share=0.7),
    "evenly down to 1e-9": design(220, 200, smallest=1e-9),
    "at the seam": with_short_ones(200, 200, 1.0 / module.WELL_CONDITIONED * (1 - 1e-15), share=0.2),
    "of other lengths": with_short_ones(200, 160, 1e-3) * np.geomspace(0.1, 1.0, 160),
}


@pytest.mark.parametrize("name", MANY)
def test_many_columns_are_decomposed_as_well(name, monkeypatch):
    matrix, rank = MANY[name], min(MANY[name].shape)
    decomposed = []

    def divide_and_conquer(matrix):
        decomposed.append(min(matrix.shape))
        return np.linalg.svd(matrix, False)

    monkeypatch.setattr(module, "_divide_and_conquer", divide_and_conquer)
    left, values, basis = decompose(matrix, rank)
    if name not in ("most of them short", "evenly down to 1e-9"):
        assert sum(decomposed) <= rank  # at most half of them twice, where columns are of other lengths
    assert values.shape == (rank,) and (np.diff(values) <= 0.0).all()
    assert min(*left.strides, *values.strides, *basis.strides) > 0  # torch takes no others
    far = 100 * EPS * module.WELL_CONDITIONED
    assert np.abs(left.T @ left - np.eye(rank)).max() < far
    assert np.abs(basis.T @ basis - np.eye(rank)).max() < far
    lengths = np.linalg.norm(matrix, axis=0)
    assert (np.linalg.norm(left * values @ basis.T - matrix, axis=0) <= far * lengths).all()
    # As many digits as an SVD has.
    expected = np.linalg.svd(matrix, compute_uv=False)
    assert np.abs(values - expected).max() < 1e-14 * expected[0]
    assert values == pytest.approx(expected, rel=1e-14 * expected[0] / expected[-1])


def test_many_columns_of_a_short_rank():
    random = np.random.default_rng(4)
    matrix = random.standard_normal((300, 150))
    copies = np.c_[matrix, matrix]
    left, values, basis = decompose(copies, 300)
    assert values == pytest.approx(np.sqrt(2.0) * np.linalg.svd(matrix, compute_uv=False), rel=1e-12)
    assert np.abs(left * values @ basis.T - copies).max() < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_matrix_with_orthonormal_vectors(name):
    matrix, rank = CASES[name]
    left, values, basis = decompose(matrix, min(matrix.shape))
    assert values.shape == (rank,) and (np.diff(values) <= 0.0).all()
    # V' = U'A / S has rounding of A over S in the worst case, where the products' eigenvectors are taken.
    far = 100 * EPS * max(module.WELL_CONDITIONED**2, 1.0)
    assert np.abs(left.T @ left - np.eye(rank)).max() < far
    assert np.abs(basis.T @ basis - np.eye(rank)).max() < far
    lengths = np.linalg.norm(matrix, axis=0)
    assert (np.linalg.norm(left * values @ basis.T - matrix, axis=0) <= far * lengths).all()
    # The digits of every singular value, whatever the columns' lengths.
    if "graded" not in name:
        assert values == pytest.approx(
            np.linalg.svd(matrix, compute_uv=False)[:rank], rel=1e-6 if "ill" in name else 1e-12
        )


def test_products_of_rows_are_taken_where_they_lose_nothing(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_divide_and_conquer", lambda matrix: calls.append(1) or np.linalg.svd(matrix, False))
    for name, (matrix, rank) in CASES.items():
        calls.clear()
        decompose(matrix, rank)
        spread = np.linalg.svd(matrix, compute_uv=False)
        well = name.startswith(("few", "one")) and spread[0] < module.WELL_CONDITIONED * spread[rank - 1]
        assert (not calls) == well, name


@pytest.mark.parametrize("size", [1e-170, 1e-155, 1e150])
def test_numbers_of_any_size(size):
    for matrix, rank in CASES["few rows"], (MANY["of other lengths"], 160):
        left, values, basis = decompose(matrix * size, rank)
        assert np.abs((left * (values / size)) @ basis.T - matrix).max() < 1e-13
        assert np.abs(left.T @ left - np.eye(rank)).max() < 1e-12 > np.abs(basis.T @ basis - np.eye(rank)).max()


def test_nothing_at_all():
    for shape in ((0, 3), (3, 8), (8, 3)):
        left, values, basis = decompose(np.zeros(shape), min(shape))
        assert (left.shape, values.shape, basis.shape) == ((shape[0], 0), (0,), (shape[1], 0))


@pytest.mark.parametrize("known", [12, 200])
def test_the_rank_is_no_larger_than_there_are_rows(known):
    matrix, _ = CASES["few rows"]
    assert decompose(matrix, known)[1].shape == singular_value_decomposition(matrix, known, 1e-13)[1].shape == (12,)


def test_the_rank_is_no_larger_than_what_is_known_of_it():
    matrix, _ = CASES["few rows"]
    assert decompose(matrix, 5)[1].shape == singular_value_decomposition(matrix, 5, 1e-13)[1].shape == (5,)
