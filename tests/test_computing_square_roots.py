"""F'F = S, whatever the scales and the rank."""

import numpy as np
import pytest

from bayesreg.computing import square_roots
from bayesreg.computing.square_roots import is_ill_conditioned, square_root, triangle


def rows(kind):
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((40, 5))
    if kind == "scales 1e12 apart":
        matrix *= [1e-12, 1.0, 1e12, 1e-6, 1e6]
    elif kind == "duplicate columns":
        matrix[:, 3] = matrix[:, 0]
        matrix[:, 4] = matrix[:, 1] + 1e-5 * matrix[:, 2]
    elif kind == "zero columns":
        matrix[:, [0, 4]] = 0
    elif kind == "all zero":
        matrix[:] = 0
    elif kind == "few rows":
        matrix = matrix[:3]
    return matrix


@pytest.mark.parametrize(
    "kind", ["plain", "scales 1e12 apart", "duplicate columns", "zero columns", "all zero", "few rows"]
)
def test_the_square_root_gives_the_matrix_back_relative_to_its_diagonal(kind):
    matrix = rows(kind)
    gram = matrix.T @ matrix
    root = square_root(gram)
    assert root.shape[0] <= root.shape[1] == 5
    lengths = np.sqrt(np.diagonal(gram))
    assert np.all(np.abs(root.T @ root - gram) <= 1e-14 * np.outer(lengths, lengths))


def test_an_indefinite_matrix_loses_its_negative_part_and_nothing_else():
    gram = np.eye(4)
    gram[0, 1] = gram[1, 0] = 1 + 1e-15  # what rounding can make of a duplicate column: an eigenvalue of -1e-15
    gram[2, 3] = gram[3, 2] = 1 - 1e-10  # and one of 1e-10, which is no rounding
    root = square_root(gram)
    assert np.abs(root.T @ root - gram).max() <= 1e-14


def test_a_triangle_has_no_more_rows_than_columns():
    matrix = rows("scales 1e12 apart")
    root = triangle(matrix)
    assert root.shape == (5, 5)
    np.testing.assert_allclose(root.T @ root, matrix.T @ matrix, rtol=1e-11)
    assert triangle(matrix[:5]) is not None and triangle(matrix[:5]).base is matrix


@pytest.mark.parametrize(("gap", "ill"), [(1e-4, False), (0.9e-5, True), (1e-9, True), (0.0, True)])
def test_ill_conditioned_is_beyond_1e10_whatever_the_scales(gap, ill):
    # Unit columns u and (u + gap v) / |...| with v orthogonal: the condition number of their Gram is about 4 / gap^2.
    matrix = np.zeros((4, 3))
    matrix[0, :2], matrix[1, 1] = 1.0, gap
    matrix[2, 2] = 1.0
    gram = matrix.T @ matrix
    assert is_ill_conditioned(gram) == ill
    scales = np.array([1e-12, 1e12, 1.0])
    assert is_ill_conditioned(gram * np.outer(scales, scales)) == ill
    padded = np.zeros((4, 4))
    padded[1:, 1:] = gram  # a constant column
    assert is_ill_conditioned(padded) == ill


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
@pytest.mark.parametrize(("smallest", "ill"), [(0.5, False), (1e-2, False), (1e-9, False), (1e-11, True), (0.0, True)])
def test_single_precision_is_asked_first_of_many_columns_and_not_believed_near_its_rounding(smallest, ill, scale):
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((150, 150)))[0]
    matrix = basis * np.geomspace(1.0, smallest, 150) @ basis.T if smallest else basis[:, :149] @ basis[:, :149].T
    lengths = np.geomspace(1e-10, 1e10, 150) * scale
    assert is_ill_conditioned((matrix + matrix.T) / 2.0 * np.outer(lengths, lengths)) == ill
    asked = []
    honest = square_roots._reciprocal_condition

    def counted(matrix, dtype):
        asked.append(dtype)
        return honest(matrix, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(square_roots, "_reciprocal_condition", counted)
        is_ill_conditioned((matrix + matrix.T) / 2.0)
    assert asked == [np.float32] if smallest > 1e-3 else asked == [np.float32, np.float64]


@pytest.mark.parametrize(("apart", "ill"), [(1e-9, True), (1e-7, False)])
def test_the_condition_counts_the_size_of_the_matrix_too(apart, ill):
    matrix = (1.0 - apart) * np.ones((50, 50)) + apart * np.eye(50)
    assert (np.linalg.cond(matrix, 1) > 1e10) == ill
    assert np.linalg.norm(np.linalg.inv(matrix), 1) < 1e10  # which alone would not tell
    assert is_ill_conditioned(matrix) == ill
