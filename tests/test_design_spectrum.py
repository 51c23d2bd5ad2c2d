"""One decomposition of a design, by its second moments where they lose little and by a root of them elsewhere."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import bayesreg as br
from bayesreg import design_spectrum as module
from bayesreg.computing.singular_values import (
    WELL_CONDITIONED,
    decomposition_of_products,
    singular_value_decomposition,
)
from bayesreg.design_spectrum import DesignSpectrum

EPS = np.finfo(np.float64).eps


def rows(n=80, d=6, shortest=0.1, noise=0.5, offset=0.0, lengths=None, seed=0):
    """Rows whose centred columns have singular values from 1 down to the shortest, and a target of unit weights."""
    random = np.random.default_rng(seed)
    left = random.standard_normal((n, d))
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    features = left * np.geomspace(1.0, shortest, d) @ np.linalg.qr(random.standard_normal((d, d)))[0].T
    if lengths is not None:
        features *= np.geomspace(*lengths, d)
    target = features.sum(axis=1) + noise * features.std() * random.standard_normal(n)
    return br.RegressionData(features + offset, target - target.mean() + offset)


def by_products(moments, *prior):
    """Return the spectrum, and whether it came from the second moments alone."""
    spectrum = DesignSpectrum.of(moments, *prior)
    return spectrum, spectrum.left is None


def by_root(moments, *prior):
    return DesignSpectrum.of_root(moments.square_root(), moments.num_rows, moments.centred, False, *prior)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("about_origin", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("loc", [False, True])
def test_both_ways_give_the_same(offset, about_origin, scaled, loc):
    random = np.random.default_rng(1)
    moments = br.Moments.from_data(rows(offset=0.0 if about_origin else offset))
    moments = moments.about_origin() if about_origin else moments
    prior = (random.uniform(0.5, 2.0, 6) if scaled else None, random.standard_normal(6) if loc else None)
    found, direct = by_products(moments, *prior)
    expected = by_root(moments, *prior)
    assert direct and expected.left is not None
    assert found.singular_values == pytest.approx(expected.singular_values, rel=1e-12)
    assert np.abs(found.basis - expected.basis).max() < 1e-10  # of the same signs
    assert found.projections == pytest.approx(expected.projections, abs=1e-11 * np.abs(expected.projections).max())
    assert found.residual == pytest.approx(expected.residual, rel=1e-10)
    assert found.rounding == pytest.approx(expected.rounding, rel=1e-10, abs=0.0)
    assert (found.lost_residual, found.num_rows, found.num_features) == (0.0, 80, 6)
    assert found.rank == 6 and found.degrees_of_freedom == expected.degrees_of_freedom == 80 - (not about_origin)


def test_it_is_what_the_rows_say():
    data = rows(offset=30.0, noise=0.1)
    spectrum, direct = by_products(br.Moments.from_data(data))
    features, target = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    weights, (residual,), _, values = np.linalg.lstsq(features, target, rcond=None)
    assert direct and spectrum.singular_values == pytest.approx(values, rel=1e-9)
    assert spectrum.basis @ (spectrum.projections / spectrum.singular_values) == pytest.approx(weights, rel=1e-9)
    assert spectrum.residual == pytest.approx(residual, rel=1e-9)


BY_A_ROOT = {
    "ill conditioned": rows(shortest=0.9 / WELL_CONDITIONED),
    "columns of other lengths": rows(lengths=(1.0, 100.0)),
    "a constant column": br.RegressionData(np.c_[rows().features, np.ones(80)], rows().target),
    "a copy": br.RegressionData(rows().features[:, [0, 1, 1]], rows().target),
    "hardly a residual": rows(noise=1e-3),
    "few rows": rows(n=7, d=6),
}


@pytest.mark.parametrize("name", BY_A_ROOT)
def test_where_squares_lose_digits_it_is_a_root_that_is_decomposed(name):
    data = BY_A_ROOT[name]
    merged = br.Moments.from_batches([data])  # without a factor of the rows
    assert merged.factor is None and not by_products(merged)[1]
    spectrum = DesignSpectrum.of(br.Moments.from_data(data))
    features, target = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    values = np.linalg.svd(features, compute_uv=False)
    assert spectrum.singular_values == pytest.approx(values[values > 1e-8 * values[0]], rel=1e-9)
    fitted = features @ spectrum.basis @ (spectrum.projections / spectrum.singular_values)
    assert fitted == pytest.approx(features @ np.linalg.lstsq(features, target, rcond=None)[0], abs=1e-7)


def test_a_target_that_the_columns_fit_is_not_learned_from_rounding():
    features = rows(shortest=0.05).features
    exact = br.Moments.from_batches([(features, features @ np.arange(1.0, 7.0))])
    spectrum = DesignSpectrum.of(exact)
    assert spectrum.residual == 0.0 < spectrum.lost_residual


@pytest.mark.parametrize(("shortest", "decomposed"), [(0.2, True), (1.0 / WELL_CONDITIONED**2, False)])
def test_many_columns_are_not_decomposed_in_vain(shortest, decomposed, monkeypatch):
    tried = []
    honest = decomposition_of_products
    monkeypatch.setattr(module, "decomposition_of_products", lambda products: tried.append(1) or honest(products))
    moments = br.Moments.from_data(rows(n=2000, d=160, shortest=shortest, noise=2.0))
    assert by_products(moments)[1] == decomposed == bool(tried)
    assert DesignSpectrum.of(moments).rank == 160


@pytest.mark.parametrize("size", [1e-130, 1.0, 1e153])
@pytest.mark.parametrize("spread", [1.0, 0.99 * WELL_CONDITIONED, 1.01 * WELL_CONDITIONED])
def test_products_tell_a_decomposition_where_it_is_well_conditioned(spread, size):
    random = np.random.default_rng(2)
    left, right = (np.linalg.qr(random.standard_normal((k, 9)))[0] for k in (30, 9))
    matrix = size * left * np.geomspace(1.0, 1.0 / spread, 9) @ right.T
    found = decomposition_of_products(matrix.T @ matrix)
    assert (found is None) == (spread > WELL_CONDITIONED)
    if found is not None and spread > 1.0:  # vectors of one value are anyone's choice
        _, values, basis = singular_value_decomposition(matrix, 9, 1e-13)
        far = 20 * EPS * spread**2
        assert found[0] == pytest.approx(values, rel=far) and np.abs(found[1] - basis).max() < 100 * far


@pytest.mark.parametrize("size", [1e-160, 1e160])
def test_products_beyond_float64_tell_nothing(size):
    with np.errstate(over="ignore"):
        assert decomposition_of_products(np.eye(3) * size * size) is None
    assert decomposition_of_products(np.zeros((2, 2))) is None


@pytest.mark.parametrize("scaled", [False, True])
def test_vectors_of_few_rows_are_made_when_they_are_asked_for(scaled, monkeypatch):
    made = []
    product_of = module.product_of
    monkeypatch.setattr(module, "product_of", lambda *matrices: made.append(1) or product_of(*matrices))
    random = np.random.default_rng(5)
    root, scales = random.standard_normal((7, 31)), random.uniform(0.5, 2.0, 30) if scaled else None
    spectrum = DesignSpectrum.of_root(root, 7, False, True, scales)
    design = root[:, :-1] * (1.0 if scales is None else scales)
    assert not made
    before, after = np.empty((7, 30)), np.empty((7, 30))
    spectrum.squared_basis(before)
    assert len(made) == 1
    assert (spectrum.left * spectrum.singular_values) @ spectrum.basis.T == pytest.approx(design, abs=1e-13)
    assert spectrum.basis is spectrum.basis and len(made) == 2
    spectrum.squared_basis(after)
    assert len(made) == 2
    assert np.array_equal(before, after) and np.array_equal(after, np.square(spectrum.basis.T))


def test_digits_of_vectors_do_not_depend_on_the_threads_of_who_asks_for_them():
    root = np.random.default_rng(7).standard_normal((60, 301))
    asked = [DesignSpectrum.of_root(root, 60, False, True) for _ in range(2)]
    with threadpool_limits(1):
        alone = asked[0].basis
    with threadpool_limits(2):
        assert np.array_equal(asked[1].basis, alone)


def test_rows_that_are_not_few_have_their_vectors_at_once():
    root = np.random.default_rng(6).standard_normal((20, 31))
    spectrum = DesignSpectrum.of_root(root, 20, False, True)
    assert spectrum.row_products is None is spectrum.rows
    squares = np.empty((20, 30))
    spectrum.squared_basis(squares)
    assert np.array_equal(squares, np.square(spectrum.basis.T))
    assert (spectrum.left * spectrum.singular_values) @ spectrum.basis.T == pytest.approx(root[:, :-1], abs=1e-12)


@pytest.mark.parametrize("size", [1e152, 5e153])
def test_numbers_near_the_end_of_the_range(size):
    data, plain = rows(), DesignSpectrum.of(br.Moments.from_data(rows()))
    large = DesignSpectrum.of(br.Moments.from_data(br.RegressionData(data.features * size, data.target)))
    assert large.singular_values == pytest.approx(plain.singular_values * size, rel=1e-12)
    assert large.projections == pytest.approx(plain.projections, rel=1e-10)
    scaled = DesignSpectrum.of(br.Moments.from_data(data), np.full(6, size))
    assert scaled.singular_values == pytest.approx(plain.singular_values * size, rel=1e-12)
