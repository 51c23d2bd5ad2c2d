"""The whole axis: fits, certificates, prior scales, and what is exact about ridge."""

import warnings

import numpy as np
import pytest
import torch
from path_designs import gap_from_rows
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from threadpoolctl import threadpool_limits

import bayesreg as br
import bayesreg.paths.centred_design
import bayesreg.paths.penalty_path
import bayesreg.paths.ridge_path


@pytest.fixture(scope="module")
def diabetes():
    return br.load_diabetes().standardized()


def wide(seed=0, n=12, d=30):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 3.0
    return br.RegressionData(x, 5.0 + x[:, :4].sum(1) + 0.3 * rng.standard_normal(n))


DATA = {"tall": lambda: br.load_diabetes(), "wide": wide}


def peer_of(kind, strength, num_rows, intercept):
    if kind == "l2":
        return Ridge(alpha=num_rows * strength, fit_intercept=intercept, tol=1e-14)
    options = {"fit_intercept": intercept, "tol": 1e-14, "max_iter": 10**6}
    return Lasso(strength, **options) if kind == "l1" else ElasticNet(strength, l1_ratio=0.3, **options)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
def test_every_fit_is_scikit_learns_and_certified_from_the_rows(name, intercept, kind):
    data = DATA[name]()
    found = br.path(data, kind, l1_ratio=0.3, intercept=intercept)
    assert found.weights.shape == (100, data.num_features)
    assert float(found.relative_gaps.max()) <= 1e-10
    for k in range(2, 100, 19):
        strength = float(found.lambdas[k])
        peer = peer_of(kind, strength, data.num_rows, intercept)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at that tolerance it says that it did not converge
            peer.fit(data.features, data.target)
        fitted = data.features @ found.weights[k].numpy() + float(found.intercepts[k])
        np.testing.assert_allclose(fitted, peer.predict(data.features), rtol=1e-6)
        assert float(found.losses[k]) == pytest.approx(np.square(data.target - fitted).mean() / 2, rel=1e-9)
        ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.3}[kind]
        l1, l2 = ratio * strength, (1 - ratio) * strength
        assert gap_from_rows(data, found.weights[k].numpy(), l1, l2, intercept) <= 1e-10
        assert found.certificate(k).relative_gap <= 1e-10
        assert found.penalty(k) == br.Penalty(l1=l1, l2=l2)


@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
def test_strengths_come_back_in_the_order_given(diabetes, kind):
    lambdas = [0.01, 0.3, 0.05, 0.3]
    found = br.path(diabetes, kind, torch.tensor(lambdas, dtype=torch.float64))
    assert found.lambdas.tolist() == lambdas
    for k, strength in enumerate(lambdas):
        alone = br.path(diabetes, kind, [strength])
        np.testing.assert_allclose(found.weights[k], alone.weights[0], atol=1e-9)
        np.testing.assert_allclose(found.losses[k], alone.losses[0], rtol=1e-10)


def test_the_l1_path_begins_where_all_weights_are_zero(diabetes):
    found = br.path(diabetes, "l1")
    assert float(found.lambdas[0]) == pytest.approx(br.L1(1.0).largest_useful(diabetes), rel=1e-12)
    assert found.num_nonzero[0] <= 2  # rounding decides at the knot itself
    assert found.num_nonzero[1] >= 1
    assert float(found.weights[0].abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
def test_each_fit_is_the_map_under_its_prior(diabetes, kind):
    found = br.path(diabetes, kind, [0.02, 0.2], noise_scale=0.7)
    for k in range(2):
        prior = found.prior(k)
        mode = br.map_estimate(br.LinearRegression(prior, noise_scale=0.7), diabetes)
        np.testing.assert_allclose(mode.weights, found.weights[k], atol=1e-9)
        scales = [prior.gaussian_scale, prior.laplace_scale] if kind == "elasticnet" else prior.scale
        np.testing.assert_allclose(scales, found.prior_scales[k], rtol=1e-12)
    assert found.noise_scale == 0.7


def test_an_elastic_net_has_two_prior_scales(diabetes):
    found = br.path(diabetes, "elasticnet", [0.1], l1_ratio=0.25, noise_scale=0.5)
    expected = [0.5 / np.sqrt(442 * 0.075), 0.25 / (442 * 0.025)]
    np.testing.assert_allclose(found.prior_scales, [expected], rtol=1e-12)


def test_the_noise_scale_not_given_is_that_of_the_highest_evidence(diabetes):
    found = br.path(diabetes, "l1")
    spectrum = br.path(diabetes, "l2").spectrum
    noise, prior = np.meshgrid(np.linspace(0.6, 0.8, 201), np.geomspace(0.02, 2.0, 401), indexing="ij")
    heights = spectrum.log_evidence(torch.tensor(noise), torch.tensor(prior)).numpy()
    assert found.noise_scale == pytest.approx(noise.ravel()[heights.argmax()], abs=1e-3)
    assert br.path(diabetes, "l2").noise_scale == found.noise_scale


def test_a_noise_scale_that_the_data_do_not_tell_must_be_given():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 40))
    data = br.RegressionData(x, x.sum(1))
    found = br.path(data, "l1")
    assert found.weights.shape == (100, 40)
    with pytest.raises(ValueError, match="noise_scale must be given"):
        _ = found.prior_scales


def dense_ridge(data, strength, noise):
    """The textbook formulas, from the rows with an inverse."""
    x = data.features - data.features.mean(0)
    n, d = x.shape
    precision = x.T @ x + n * strength * np.eye(d)
    hat = x @ np.linalg.solve(precision, x.T)
    covariance = noise**2 * np.linalg.inv(precision)
    k = noise**2 * np.eye(n) + noise**2 / (n * strength) * x @ x.T
    # log N(y; 0, K + k^2 11') + log(2 pi k^2) / 2 as k grows: the intercept integrated against 1.
    ones, inverse = np.ones(n), np.linalg.inv(k)
    along = ones @ inverse @ ones
    target = data.target
    quadratic = target @ inverse @ target - (ones @ inverse @ target) ** 2 / along
    evidence = -0.5 * ((n - 1) * np.log(2 * np.pi) + np.linalg.slogdet(k)[1] + np.log(along) + quadratic)
    return np.diag(covariance), np.trace(hat), evidence


@pytest.mark.parametrize("name", DATA)
def test_ridge_has_its_covariance_degrees_of_freedom_and_evidence(name):
    data = DATA[name]().standardized()
    lambdas = [3.0, 0.2, 0.004]
    found = br.path(data, "l2", lambdas, noise_scale=0.6)
    for k, strength in enumerate(lambdas):
        variances, freedom, evidence = dense_ridge(data, strength, 0.6)
        np.testing.assert_allclose(found.covariance_diagonal[k], variances, rtol=1e-9)
        assert float(found.degrees_of_freedom[k]) == pytest.approx(freedom, rel=1e-10)
        assert float(found.log_evidence[k]) == pytest.approx(evidence, rel=1e-9)
        residual = 2 * float(found.losses[k]) / (1 - (freedom + 1) / data.num_rows) ** 2
        assert float(found.gcv[k]) == pytest.approx(residual, rel=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", ["tall", "wide"])
def test_leave_one_out_is_n_fits(name, intercept, monkeypatch):
    data = DATA[name]().split(0.9, seed=0)[0] if name == "tall" else wide()
    lambdas = [5.0, 0.1, 1e-4]
    found = br.path(data, "l2", lambdas, intercept=intercept)
    errors = np.empty((3, data.num_rows))
    for i in range(data.num_rows):
        kept = np.delete(np.arange(data.num_rows), i)
        for k, strength in enumerate(lambdas):
            # The fit without row i, of the same objective: the sum over rows plus n lambda |w|^2 / 2.
            fit = Ridge(alpha=data.num_rows * strength, fit_intercept=intercept, solver="svd")
            fit.fit(data.features[kept], data.target[kept])
            errors[k, i] = data.target[i] - fit.predict(data.features[i : i + 1])[0]
    np.testing.assert_allclose(found.leave_one_out, np.square(errors).mean(1), rtol=1e-7)
    monkeypatch.setattr(bayesreg.paths.ridge_path, "_NUMBERS_AT_ONCE", 100)  # blocks of a few rows
    residuals, freedom = found.leave_one_out_rows(1)
    np.testing.assert_allclose(residuals, errors[1], rtol=1e-6, atol=1e-9)
    assert bool(((freedom > 0) & (freedom < 1)).all())


def test_ridge_at_zero_is_least_squares_of_minimum_norm():
    data = wide()
    found = br.path(data, "l2", [0.0, 1.0], noise_scale=1.0)
    x, y = data.features - data.features.mean(0), data.target - data.target.mean()
    np.testing.assert_allclose(found.weights[0], np.linalg.pinv(x) @ y, atol=1e-10)
    assert found.prior_scales.tolist()[0] == np.inf
    assert found.relative_gaps[0] < 1e-20
    assert found.log_evidence[0] == -np.inf
    fits = br.path(br.load_diabetes(), "l2", [1e-26, 0.0])  # where the gradient's square over lambda bounds nothing
    assert (fits.relative_gaps < 1e-20).all()


def test_at_zero_a_weight_that_the_rows_tell_has_a_variance():
    random = np.random.default_rng(0)
    features = random.standard_normal((30, 3))
    twice = br.RegressionData(np.column_stack([features, features[:, 2]]), random.standard_normal(30))
    variances = br.path(twice, "l2", [0.0], noise_scale=1.0).covariance_diagonal[0]
    once = br.path(br.RegressionData(features, twice.target), "l2", [0.0], noise_scale=1.0).covariance_diagonal[0]
    np.testing.assert_allclose(variances[:2], once[:2], rtol=1e-10)
    assert variances[2:].tolist() == [np.inf, np.inf]


def test_a_row_that_alone_has_a_column_cannot_be_left_out_at_zero():
    data = br.RegressionData([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]], [1.0, 2.0, 3.0, 1.0])
    errors = br.path(data, "l2", [1.0, 0.0], intercept=False).leave_one_out
    assert errors[0] < 10.0 and errors[1] == np.inf


def test_a_strength_that_underflows_has_no_leave_one_out_error_that_is_no_number():
    random = np.random.default_rng(0)
    data = br.RegressionData(3.0 * random.standard_normal((6, 12)), random.standard_normal(6))
    errors = br.path(data, "l2", [0.0, 5e-324, 1.0]).leave_one_out
    assert errors[0] < 10.0 and errors[1] == np.inf and errors[2] < 10.0


def test_losses_on_other_data_from_rows_and_from_moments(diabetes):
    train, test = diabetes.split(seed=0)
    found = br.path(train, "l1")
    expected = [
        np.square(test.target - test.features @ w.numpy() - float(b)).mean() / 2
        for w, b in zip(found.weights, found.intercepts, strict=True)
    ]
    np.testing.assert_allclose(found.loss(test), expected, rtol=1e-12)
    np.testing.assert_allclose(found.loss(br.Moments.from_data(test)), expected, rtol=1e-10)
    np.testing.assert_allclose(found.loss(train), found.losses, rtol=1e-12)
    with pytest.raises(ValueError, match="must have the columns of the path"):
        found.loss(br.RegressionData(test.features, test.target))


def test_moments_give_the_same_path(diabetes):
    moments = br.Moments.from_data(diabetes)
    for kind in ("l2", "l1"):
        np.testing.assert_allclose(br.path(moments, kind).weights, br.path(diabetes, kind).weights, atol=1e-12)
    with pytest.raises(TypeError, match="needs rows"):
        _ = br.path(moments, "l2").leave_one_out
    with pytest.raises(ValueError, match="intercept=False"):
        br.path(moments.about_origin(), "l2")


def test_original_units(diabetes):
    raw = br.load_diabetes()
    found = br.path(diabetes, "l1", noise_scale=0.7)
    there = found.original_units()
    standard = diabetes.features @ found.weights[40].numpy() + float(found.intercepts[40])
    original = raw.features @ there.weights[40].numpy() + float(there.intercepts[40])
    np.testing.assert_allclose(original, raw.target.mean() + raw.target.std() * standard, rtol=1e-10)
    assert there.certificate(40).relative_gap == found.certificate(40).relative_gap
    with pytest.raises(ValueError, match="original_units"):
        there.original_units()
    with pytest.raises(ValueError, match="original_units"):
        br.path(raw, "l1").original_units()


def test_a_feature_may_be_called_as_another_column():
    data = br.RegressionData(np.eye(4)[:, :2], [1.0, 2.0, 0.0, 0.0], feature_names=["loss", "b"])
    frame = br.path(data, "l2", [0.1]).to_frame()
    assert frame.columns.is_unique and list(frame.columns[-2:]) == ["weights[loss]", "b"]


def test_the_table(diabetes):
    frame = br.path(diabetes, "l1", [0.1, 0.01]).to_frame()
    assert list(frame.columns[:5]) == ["lambda", "loss", "num_nonzero", "relative_gap", "intercept"]
    assert list(frame.columns[5:]) == list(diabetes.feature_names)
    assert frame["num_nonzero"].tolist() == [(w != 0).sum() for w in frame.iloc[:, 5:].to_numpy()]


def test_constant_and_hopeless_data():
    x = np.random.default_rng(0).standard_normal((8, 3))
    flat = br.RegressionData(x, np.full(8, 2.0))
    for kind in ("l2", "l1", "elasticnet"):
        found = br.path(flat, kind)
        assert not found.weights.any()
        assert found.relative_gaps.max() == 0
    constant = br.RegressionData(np.ones((8, 2)), np.arange(8.0))
    for kind in ("l2", "l1", "elasticnet"):
        assert not br.path(constant, kind).weights.any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "lasso"}, ValueError, "kind must be one of l2, l1, elasticnet, got 'lasso'"),
        ({"kind": "l1", "lambdas": [0.1, 0.0]}, ValueError, "positive .* got 0.0 at position 1"),
        ({"lambdas": [-1.0]}, ValueError, "at least 0, got -1.0 at position 0"),
        ({"lambdas": [np.inf]}, ValueError, "finite"),
        ({"lambdas": []}, ValueError, "at least one strength"),
        ({"lambdas": 0.1}, ValueError, "vector"),
        ({"lambdas": ["a"]}, TypeError, "lambdas"),
        ({"kind": "elasticnet", "l1_ratio": 1.0}, ValueError, "l1_ratio must be above 0 and below 1"),
        ({"kind": "elasticnet", "l1_ratio": "half"}, TypeError, "l1_ratio"),
        ({"noise_scale": 0.0}, ValueError, "noise_scale must be positive"),
        ({"noise_scale": True}, TypeError, "noise_scale"),
        ({"intercept": 1}, TypeError, "intercept must be True or False"),
    ],
)
def test_bad_arguments(diabetes, arguments, error, message):
    with pytest.raises(error, match=message):
        br.path(diabetes, **arguments)


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="RegressionData or Moments"):
        br.path(np.ones((3, 2)))


def test_what_ridge_alone_has_is_refused_for_others(diabetes):
    found = br.path(diabetes, "l1")
    for name in ("covariance_diagonal", "log_evidence", "gcv", "leave_one_out"):
        with pytest.raises(ValueError, match=f"{name} is known for kind='l2', got kind='l1'"):
            getattr(found, name)
    assert found.degrees_of_freedom.tolist() == found.num_nonzero.tolist()


def test_a_gap_that_is_not_reached_is_said(diabetes, monkeypatch):
    monkeypatch.setattr(bayesreg.paths.penalty_path, "LARGEST_GAP", -1.0)
    with pytest.warns(br.ConvergenceWarning, match="100 of 100 fits have a relative gap above -1"):
        br.path(diabetes, "l1")


@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
def test_rows_of_many_columns_give_the_path_of_their_moments(kind):
    data = wide(1, 10, 60)
    expected = br.path(br.Moments.from_data(data), kind)
    found = br.path(data, kind)
    np.testing.assert_allclose(found.lambdas, expected.lambdas, rtol=1e-10)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)
    np.testing.assert_allclose(found.intercepts, expected.intercepts, atol=1e-8)
    assert float(found.relative_gaps.max()) <= 1e-10


@pytest.mark.parametrize("ratio", [0.5, 0.01])
@pytest.mark.parametrize("lambdas", [[1.0, 1e-10], [1.0, 1e-12], list(np.geomspace(1.0, 1e-12, 50))])
def test_an_elastic_net_over_many_decades_is_reached_whatever_becomes_of_the_inverse(lambdas, ratio):
    x, y = np.random.default_rng(0).normal(size=(10, 30)), np.random.default_rng(1).normal(size=10)
    assert float(br.path(br.RegressionData(x, y), "elasticnet", lambdas, l1_ratio=ratio).relative_gaps.max()) <= 1e-10


def test_the_noise_scale_of_clear_data_is_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 3))
    data = br.RegressionData(x, x @ [1.0, 2.0, 3.0] + 1e-3 * rng.normal(size=100_000))
    assert br.path(data, "l2", [0.1]).noise_scale == pytest.approx(1e-3, rel=0.02)


def test_second_moments_have_the_rank_of_their_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 50))
    data = br.RegressionData(x, x[:, 0] + rng.normal(size=20))
    batches = br.Moments.from_batches([data])  # without a factor of the rows
    lambdas = [1.0, 1e-4, 1e-8, 1e-12]
    rows, moments = br.path(data, "l2", lambdas, noise_scale=0.5), br.path(batches, "l2", lambdas, noise_scale=0.5)
    assert rows.spectrum.rank == moments.spectrum.rank == 19
    np.testing.assert_allclose(moments.gcv, rows.gcv, rtol=1e-6)
    np.testing.assert_allclose(moments.losses, rows.losses, rtol=1e-6)
    np.testing.assert_allclose(moments.log_evidence, rows.log_evidence, rtol=1e-9)
    twins = np.column_stack([x[:, 0]] * 3)
    data = br.RegressionData(twins, rng.normal(size=20))
    batches = br.Moments.from_batches([data])
    evidence = [br.path(one, "l2", [0.1], noise_scale=0.3).log_evidence for one in (data, batches)]
    np.testing.assert_allclose(*evidence, rtol=1e-9)


def test_leave_one_out_has_its_digits_down_to_zero():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 30)), rng.normal(size=12)
    fits, again = (br.path(br.RegressionData(x, y), "l2", [1e-9, 1e-12, 1e-14, 1e-16, 0.0]) for _ in range(2))
    left = fits.leave_one_out
    np.testing.assert_array_equal(fits.gcv, again.gcv)  # what is put in place of 0 / 0 stays with whom it is for
    errors = []
    for i in range(12):
        kept = np.delete(np.arange(12), i)
        mean_x, mean_y = x[kept].mean(0), y[kept].mean()
        w = np.linalg.pinv(x[kept] - mean_x) @ (y[kept] - mean_y)
        errors.append(y[i] - mean_y - (x[i] - mean_x) @ w)
    np.testing.assert_allclose(left, np.mean(np.square(errors)), rtol=1e-6)


def test_losses_of_data_in_other_units_are_refused(diabetes):
    found = br.path(diabetes, "l2", [0.1], noise_scale=0.7)
    raw = br.load_diabetes()
    with pytest.raises(ValueError, match="data must be in the units of the path's weights"):
        found.loss(raw)
    there = found.original_units()
    scale = raw.target.var()
    np.testing.assert_allclose(there.loss(raw), found.losses * scale, rtol=1e-10)
    with pytest.raises(ValueError, match="units"):
        there.loss(diabetes)
    factor = raw.target.std() / raw.features.std(0)
    np.testing.assert_allclose(there.covariance_diagonal, found.covariance_diagonal.numpy() * factor**2, rtol=1e-10)
    with pytest.raises(ValueError, match="centred moments"):
        br.path(raw, "l2", [0.1]).loss(br.Moments.from_data(raw).about_origin())
    origin = br.path(raw, "l2", [0.1], intercept=False)
    np.testing.assert_allclose(origin.loss(br.Moments.from_data(raw).about_origin()), origin.losses, rtol=1e-10)
    with pytest.raises(TypeError, match="RegressionData or Moments"):
        found.loss(3)


def test_rows_of_many_columns_are_refused_like_others():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1200))
    for factor, words in ((1e160, "too large"), (1e-170, "varies too little")):
        with pytest.raises(ValueError, match=words):
            br.path(br.RegressionData(x * factor, x[:, 0]), "l1")


def test_the_default_lambdas_and_the_signs_of_the_directions(diabetes):
    for data, share in ((diabetes, 1e-3), (wide(), 1e-2)):
        lambdas = br.path(data, "l1").lambdas
        assert float(lambdas[-1] / lambdas[0]) == pytest.approx(share, rel=1e-12)
        basis = br.path(data, "l2").spectrum.basis.numpy()
        assert (np.cos(np.arange(1.0, data.num_features + 1)) @ basis >= 0.0).all()


def test_default_lambdas_where_weights_are_beyond_their_squares(diabetes):
    data = br.RegressionData(diabetes.features * 1e-60, diabetes.target * 1e100)
    assert (br.path(data, "l2", noise_scale=1e100).lambdas > 0.0).all()


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_the_number_of_threads_changes_no_digit(kind):
    random = np.random.default_rng(5)
    features = random.standard_normal((900, 600))  # of which a Cholesky factor by two threads is another one
    data = br.RegressionData(features, features[:, :9].sum(axis=1) + random.standard_normal(900))

    def digits(number):
        with threadpool_limits(number, user_api="blas"):
            fits = br.path(data, kind)
            scores = fits.leave_one_out if kind == "l2" else fits.losses
            return torch.cat([fits.lambdas, fits.weights.flatten(), fits.intercepts, scores])

    assert torch.equal(digits(1), digits(2))


def test_the_evidence_at_no_penalty_is_minus_infinity_of_columns_that_say_nothing_too():
    data = br.RegressionData(np.ones((6, 2)), np.arange(6.0))
    assert br.path(data, "l2", [1.0, 0.0], noise_scale=1.0).log_evidence.isinf().tolist() == [False, True]
