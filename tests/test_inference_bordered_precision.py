"""Precisions with few rows and with many: both are NumPy's inverse, and what is none is seen."""

import numpy as np
import pytest

import bayesreg as br
from bayesreg.inference.bordered_precision import DenseDesign, FewRowsDesign, Layout, design_of, independent

N, D, B = 7, 5, 3


def moments(n=N, d=D, centred=True):
    random = np.random.default_rng(n)
    made = br.Moments.from_data(br.RegressionData(random.standard_normal((n, d)) + 1.0, random.standard_normal(n)))
    return made if centred else made.about_origin()


def some_parts(num_scales, d=D):
    random, layout = np.random.default_rng(1), Layout(d, num_scales)
    vectors = random.random((B, layout.size))
    slots = layout.views(vectors)
    slots.border[:] = 2.0 * random.standard_normal(slots.border.shape)
    slots.corner[:] = np.array([[30.0, 4.0], [4.0, 40.0]])[:num_scales, :num_scales]
    slots.diagonal[:] += 1.0
    slots.gram[:] += [0.1, 1.0, 10.0]
    slots.border[:] *= slots.gram[:, None, None] ** 0.5
    layout.take_logarithms(vectors)
    return layout, layout.parts(vectors)


def dense(parts, gram, index):
    weights = parts.gram[index] * gram + np.diag(parts.diagonal[index])
    return np.block([[weights, parts.border[index]], [parts.border[index].T, parts.corner[index]]])


@pytest.mark.parametrize("num_scales", [0, 1, 2])
@pytest.mark.parametrize("made", ["dense", "few rows"])
def test_covariances_are_inverses(made, num_scales):
    data = moments()
    design = DenseDesign(data, np.zeros(D)) if made == "dense" else FewRowsDesign(data)
    layout, parts = some_parts(num_scales)
    covariance = design.covariance(layout, parts)
    vectors = np.random.default_rng(2).standard_normal((B, D + num_scales))
    solved = covariance.solve(vectors)
    assert covariance.valid.all()
    for index in range(B):
        inverse = np.linalg.inv(dense(parts, data.Sxx, index))
        np.testing.assert_allclose(covariance.variances[index], np.diag(inverse)[:D], rtol=1e-10)
        np.testing.assert_allclose(covariance.cross[index], inverse[:D, D:], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(covariance.scales[index], inverse[D:, D:], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(solved[index], inverse @ vectors[index], rtol=1e-9, atol=1e-13)
        assert covariance.gram_trace[index] == pytest.approx(np.sum(data.Sxx * inverse[:D, :D]), rel=1e-10)
        assert covariance.log_determinant[index] == pytest.approx(np.linalg.slogdet(inverse)[1], abs=1e-10)


@pytest.mark.parametrize("made", ["dense", "few rows"])
def test_a_matrix_that_is_no_precision_is_seen_and_spoils_no_other(made):
    data = moments()
    design = DenseDesign(data, np.zeros(D)) if made == "dense" else FewRowsDesign(data)
    layout, parts = some_parts(1)
    right = design.covariance(layout, parts)
    parts.corner[1] = 1e-3  # below what its border takes
    parts.diagonal[2] = np.nan
    with np.errstate(invalid="ignore"):
        wrong = design.covariance(layout, parts)
    assert wrong.valid.tolist() == [True, False, False]
    np.testing.assert_array_equal(wrong.variances[0], right.variances[0])


@pytest.mark.parametrize("centred", [True, False])
def test_residuals_are_those_of_the_moments(centred):
    data = moments(centred=centred)
    weights = np.random.default_rng(3).standard_normal((B, D))
    rss, cross = data.residuals(weights)
    for design in (DenseDesign(data, weights[0] + 0.1), FewRowsDesign(data)):
        found, found_cross = design.residuals(weights)
        np.testing.assert_allclose(found, rss, rtol=1e-10)
        np.testing.assert_allclose(found_cross, cross, rtol=1e-9, atol=1e-10)


def test_the_shape_chooses_the_route():
    assert isinstance(design_of(moments(20, 4), np.zeros(4)), DenseDesign)
    assert isinstance(design_of(moments(4, 20), np.zeros(20)), FewRowsDesign)


def test_independent_coordinates_have_the_diagonal_of_the_precision():
    data = moments()
    layout, parts = some_parts(2)
    for design in (DenseDesign(data, np.zeros(D)), FewRowsDesign(data)):
        full = design.covariance(layout, parts)
        covariance = independent(layout, design, parts, full)
        for index in range(B):
            variances = 1.0 / np.diag(dense(parts, data.Sxx, index))
            np.testing.assert_allclose(covariance.variances[index], variances[:D], rtol=1e-12)
            np.testing.assert_allclose(covariance.scales[index], np.diag(variances[D:]), rtol=1e-12)
            assert covariance.gram_trace[index] == pytest.approx(np.diag(data.Sxx) @ variances[:D], rel=1e-12)
            assert covariance.log_determinant[index] == pytest.approx(np.log(variances).sum(), abs=1e-12)
        assert not covariance.cross.any() and covariance.solve is full.solve


def test_a_weight_without_a_diagonal_has_its_variance_from_few_rows_too():
    """D = 0 for one weight that the data hold alone: the inverse of D does not exist, that of P does."""
    data = br.Moments.from_data(br.RegressionData(np.diag([1.0, 2.0, 3.0, 0.0])[:, :3], np.arange(4.0)))
    layout, parts = some_parts(1, d=3)
    parts.diagonal[:] = [[0.0, 1.0, 1.0]]
    parts.border[:] *= 0.1
    expected = DenseDesign(data, np.zeros(3)).covariance(layout, parts)
    found = FewRowsDesign(data).covariance(layout, parts)
    assert found.valid.all()
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-5)
