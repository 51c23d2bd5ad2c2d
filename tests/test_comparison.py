"""The comparison: every route to one point on every design, and what a wrong correspondence looks like."""

import io
import json

import numpy as np
import pyro.distributions as dist
import pytest

import bayesreg as br
from bayesreg import comparison as module
from bayesreg.commands.console import console, show_comparison


def wide_data():
    random = np.random.default_rng(0)
    features = random.standard_normal((100, 500))
    for column in range(1, 500):
        features[:, column] = 0.9 * features[:, column - 1] + (1 - 0.81) ** 0.5 * features[:, column]
    return br.RegressionData(features, features[:, :10] @ random.standard_normal(10) + random.standard_normal(100))


def collinear_data():
    diabetes = br.load_diabetes().standardized()
    return br.RegressionData(np.c_[diabetes.features, diabetes.features[:, :3]], diabetes.target)


def book_data():
    return br.simulate_weight_decay(seed=0)[0]


def diabetes_data():
    return br.load_diabetes().standardized()


LEARNED = dist.HalfNormal(1.0)
CASES = {
    "diabetes, Gaussian": (diabetes_data, br.GaussianPrior(0.5), 0.7),
    "diabetes, Laplace": (diabetes_data, br.LaplacePrior(0.25), 0.7),
    "diabetes, Gaussian, learned noise": (diabetes_data, br.GaussianPrior(0.5), LEARNED),
    "diabetes, Laplace, learned noise": (diabetes_data, br.LaplacePrior(0.02), LEARNED),
    "diabetes as it comes, Gaussian": (br.load_diabetes, br.GaussianPrior(500.0), 54.0),
    "diabetes as it comes, Laplace": (br.load_diabetes, br.LaplacePrior(100.0), 54.0),
    "20 x 200, Gaussian": (book_data, br.GaussianPrior(0.01), 0.01),
    "20 x 200, Laplace": (book_data, br.LaplacePrior(0.007), 0.01),
    "20 x 200, Gaussian, learned noise": (book_data, br.GaussianPrior(0.01), dist.LogNormal(np.log(0.02), 0.15)),
    "20 x 200, Laplace, learned noise": (book_data, br.LaplacePrior(0.007), dist.LogNormal(np.log(0.02), 0.15)),
    "100 x 500, Gaussian": (wide_data, br.GaussianPrior(0.5), 1.0),
    "100 x 500, Laplace": (wide_data, br.LaplacePrior(0.1), 1.0),
    "100 x 500, Gaussian, learned noise": (wide_data, br.GaussianPrior(0.5), dist.LogNormal(0.5, 0.15)),
    "100 x 500, Laplace, learned noise": (wide_data, br.LaplacePrior(0.1), dist.LogNormal(0.5, 0.15)),
    "collinear, Gaussian": (collinear_data, br.GaussianPrior(0.5), 0.7),
    "collinear, Laplace": (collinear_data, br.LaplacePrior(0.1), 0.7),
    "collinear, Gaussian, learned noise": (collinear_data, br.GaussianPrior(0.5), LEARNED),
    "collinear, Laplace, learned noise": (collinear_data, br.LaplacePrior(0.1), LEARNED),
    "flat": (diabetes_data, br.FlatPrior(), 0.7),
    "no intercept": (diabetes_data, br.LaplacePrior(0.1), 0.7),
    "one scale a feature, a location": (diabetes_data, br.GaussianPrior(np.linspace(0.1, 1.0, 10), loc=0.2), 0.7),
    "relative to the noise": (diabetes_data, br.LaplacePrior(0.1, relative_to_noise=True), LEARNED),
}
NOMINAL = {"Pyro AutoDelta": 1e-4, "SGD, subgradient": 1e-2}


@pytest.mark.parametrize("name", CASES)
def test_every_route_ends_at_the_same_point(name):
    make, prior, noise = CASES[name]
    data = make()
    result = br.compare(br.LinearRegression(prior, noise, intercept=name != "no intercept"), data)
    table = result.to_frame()
    assert result.passed, table.to_string()
    assert len(table) >= (5 if prior.kind == "laplace" else 4)
    for row in table.itertuples():
        assert row.tolerance <= NOMINAL.get(row.name, 1e-8)
    exact = [route for route in result.routes if route.name not in NOMINAL]
    for route in exact:
        if result.unique:
            assert route.weight_difference < 1e-3 * np.abs(exact[0].weights).max()
        assert route.fit_difference < 1e-4 * np.std(data.target)
    if prior.kind != "flat":
        assert len(result.wrong) == 2 and not any(route.passed for route in result.wrong)
        loosest = max(row.tolerance for row in table.itertuples())
        assert all(route.relative_gap > 9.99 * loosest for route in result.wrong)  # out of reach for each route
    if prior.kind == "laplace":
        zeros = {route.name: route.zeros for route in result.routes}
        assert zeros["SGD, proximal step"] > 0 and zeros["map_estimate"] > 0
        assert zeros["SGD, proximal step"] == zeros["map_estimate"] or not result.unique
        assert zeros["SGD, subgradient"] == 0  # the proximal step alone reaches exact zeros


def small_data(scale=1.0, offset=0.0):
    random = np.random.default_rng(0)
    features = random.standard_normal((50, 3))
    target = features @ [1.0, -2.0, 0.5] + random.standard_normal(50)
    return br.RegressionData(features * scale + offset, target + offset)


@pytest.mark.parametrize(
    ("data", "prior", "same"),
    [
        (br.RegressionData([[1.0, 2.0]], [3.0]), br.GaussianPrior(0.5), [True, True]),
        (br.RegressionData(np.eye(4), np.ones(4)), br.LaplacePrior(0.5), [True, True]),
        (small_data(), br.LaplacePrior(0.005), [False, True]),  # it holds every weight at 0, and half of it does not
        (small_data(), br.LaplacePrior(1e-4), [True, True]),
        (small_data(), br.GaussianPrior(1e7), [True, True]),
    ],
    ids=["one row", "constant target", "near the largest lambda", "above it", "next to none"],
)
def test_a_lambda_with_the_same_optimum_is_nothing_to_catch(data, prior, same):
    result = br.compare(br.LinearRegression(prior, 0.7), data)
    assert result.passed, result.to_frame().to_string()
    assert [route.same_point for route in result.wrong] == same
    for route in result.wrong:
        assert route.same_point == (route.relative_gap < 1e-13) and route.passed == route.same_point
    nominal = {"Pyro AutoDelta": 1e-4, "SGD, subgradient": 1e-2}
    if all(same):
        assert all(route.tolerance == nominal.get(route.name, 1e-8) for route in result.routes)


TINY = br.RegressionData(small_data().features, 1e-9 * small_data().target)


@pytest.mark.parametrize(
    ("data", "prior", "noise"),
    [
        (small_data(offset=1e8), br.GaussianPrior(0.5), 0.7),
        (small_data(offset=1e8), br.LaplacePrior(0.5), 0.7),
        (small_data(scale=np.array([1e-6, 1.0, 1e6])), br.LaplacePrior(0.5), 0.7),
        (small_data(scale=np.array([1e-6, 1.0, 1e6])), br.LaplacePrior(1.0, loc=1.0), 0.7),
        (TINY, br.GaussianPrior(0.5e-9), 0.7e-9),
        (TINY, br.GaussianPrior([0.5, 0.1, 2.0], loc=1e-10, relative_to_noise=True), 0.7e-9),
        (small_data(), br.GaussianPrior([1e-8, 1.0, 0.3]), 0.7),
        (small_data(), br.LaplacePrior([1e-8, 1.0, 0.3]), 0.7),
    ],
    ids=[
        "offset, Gaussian", "offset, Laplace", "1e12 apart", "1e12 apart, a location", "a tiny target",
        "a tiny target, relative", "a narrow prior of one, Gaussian", "a narrow prior of one, Laplace",
    ],
)  # fmt: skip
def test_offsets_and_units_are_no_harm_to_any_route(data, prior, noise):
    result = br.compare(br.LinearRegression(prior, noise), data)
    assert result.passed, result.to_frame().to_string()


def test_the_differences_from_the_first_route():
    data, prior = small_data(), br.LaplacePrior(0.02, loc=0.3)
    result = br.compare(br.LinearRegression(prior, 0.7), data)
    first = result.routes[0]
    centred = data.features - data.features.mean(axis=0)
    for route in (*result.routes, *result.wrong):
        difference = route.weights - first.weights
        assert route.fit_difference == pytest.approx(np.sqrt(np.mean((centred @ difference) ** 2)), rel=1e-9, abs=1e-14)
        assert route.weight_difference == np.abs(difference).max()
        assert route.zeros == np.sum(route.weights == 0.3)
    assert max(route.fit_difference for route in result.wrong) > 0.01 and first.zeros > 0


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("prior", [br.GaussianPrior(0.5), br.LaplacePrior(0.05)])
def test_a_wrong_dictionary_fails(monkeypatch, factor, prior):
    """The MAP owes nothing to lambda: with the dictionary off by 2 the training routes go elsewhere, and are caught."""
    original = module.map_estimate

    def mistaken(model, data, *rest):
        import dataclasses

        found = original(model, data, *rest)
        wrong = br.Penalty(l1=factor * found.penalty.l1, l2=factor * found.penalty.l2)
        return dataclasses.replace(found, penalty=wrong)

    monkeypatch.setattr(module, "map_estimate", mistaken)
    monkeypatch.setattr("bayesreg.inference.auto_delta._MOST_STEPS", 500)  # it cannot pass, so more are in vain
    result = br.compare(br.LinearRegression(prior, 0.7), diabetes_data())
    failed = {route.name for route in result.routes if not route.passed}
    assert {"map_estimate", "Pyro AutoDelta"} <= failed and not result.passed


def test_table_and_json():
    result = br.compare(br.LinearRegression(br.LaplacePrior(0.1), 0.7), diabetes_data())
    words = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert words["passed"] is True and len(words["routes"]) == len(result.to_frame()) == 6
    assert words["penalty"]["l1"] == pytest.approx(0.49 / (442 * 0.1)) and words["noise_scale"] == 0.7


def test_rows_are_needed_and_missing_modes_refused():
    data = book_data()
    with pytest.raises(TypeError, match="rows"):
        br.compare(br.LinearRegression(br.GaussianPrior(0.5), 0.7), br.Moments.from_data(data))
    with pytest.raises(ValueError, match="does not exist"):
        br.compare(br.LinearRegression(br.GaussianPrior(0.5), LEARNED), data)
    with pytest.raises(ValueError, match="prior_scale="):
        br.compare(br.LinearRegression(br.GaussianPrior(LEARNED), 0.7), data)


@pytest.mark.parametrize(
    ("noise", "given", "source"),
    [(0.7, None, "as given"), (LEARNED, 0.7, "as given"), (LEARNED, None, "at the joint mode")],
)
def test_a_comparison_says_where_its_noise_scale_is_from(noise, given, source):
    rows = br.RegressionData(diabetes_data().features[:60, :3], diabetes_data().target[:60])
    found = br.compare(br.LinearRegression(br.GaussianPrior(0.5), noise), rows, noise_scale=given)
    assert found.noise_source == found.to_dict()["noise_source"] == source
    assert repr(found).startswith("Comparison(passed, 5 of 5 routes within tolerance, Penalty(l2=")
    assert repr(found).endswith(f"noise scale {found.noise_scale:.6g} {source})")
    printed = io.StringIO()
    show_comparison(console(printed), found)
    assert f"at noise scale {found.noise_scale:.6g} ({source})" in " ".join(printed.getvalue().split())
