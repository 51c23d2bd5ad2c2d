"""The explorer's numbers are those of the public functions, and it says what it leaves out."""

import json
import warnings

import numpy as np
import pytest

import bayesreg as br
from bayesreg.experiment.run_directory import strict_json
from bayesreg.objectives import CONVENTIONS
from bayesreg.report.explorer import _DRAWS as DRAWS
from bayesreg.report.explorer import MOST_FEATURES, MOST_LAPLACE_FEATURES, Mark, explore
from bayesreg.selection.strength_evidence import laplace_evidence


def simulated(rows, columns, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, columns))
    return br.RegressionData(features, features[:, -1] - 0.5 * features[:, 0] + random.normal(size=rows)).standardized()


@pytest.fixture(scope="module")
def diabetes():
    data = br.load_diabetes().standardized()
    marks = [Mark("l2", 0.0123, "ours"), Mark("l1", 5e-5, "far out")]
    return data, explore(data, 0.7, marks=marks, seed=3)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_fits_losses_and_posteriors_are_those_of_the_api(diabetes, kind):
    data, document = diabetes
    axis = document["axes"][kind]
    strengths = np.array(axis["lambdas"])
    assert (np.diff(strengths) > 0).all()
    fits = br.path(data, kind, strengths, noise_scale=0.7)
    np.testing.assert_allclose(axis["map"], fits.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(axis["prior_scales"], fits.prior_scales, rtol=1e-6)
    np.testing.assert_allclose(axis["train_loss"], fits.losses, rtol=1e-6)
    assert axis["largest_gap"] < 1e-10 and len(axis["nonzero"]) == len(strengths)
    folds = br.cross_validate(data, kind, strengths, seed=3)
    np.testing.assert_allclose(axis["held_out"]["loss"], folds.loss, rtol=1e-6)
    np.testing.assert_allclose(axis["held_out"]["standard_error"], folds.standard_error, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", br.ConvergenceWarning)
        posterior = br.posterior_path(
            data, kind, strengths, noise_scale=0.7, draws=DRAWS, seed=3, num_density_points=61
        )
    for name in ("mean", "sd", "lower", "upper"):
        # Draws move with the last digits of the strengths, a little.
        spread = 1e-6 if kind == "l2" else 0.02
        np.testing.assert_allclose(
            axis["posterior"][name], getattr(posterior, name), atol=spread * float(posterior.sd.max())
        )
    if kind == "l2":
        assert not {"density", "mcse_mean", "mcse_lower", "mcse_upper"} & set(axis["posterior"])
        np.testing.assert_allclose(axis["log_evidence"], fits.log_evidence - fits.log_evidence.max(), atol=1e-4)
    else:
        for name in ("mcse_mean", "mcse_lower", "mcse_upper"):
            np.testing.assert_allclose(axis["posterior"][name], getattr(posterior, name), rtol=0.5)
        assert np.shape(axis["posterior"]["density"]) == (*posterior.mean.shape, 61)
        assert np.shape(axis["posterior"]["density_range"]) == (*posterior.mean.shape, 2)


def test_the_laplace_evidence_is_that_of_the_choice_within_its_error(diabetes):
    data, document = diabetes
    axis = document["axes"]["l1"]
    other = laplace_evidence(br.Moments.from_data(data), np.array(axis["lambdas"]), 0.7, True, seed=9, progress=False)
    heights = other.table["log_evidence"].to_numpy()
    errors = np.hypot(axis["log_evidence_error"], other.table["standard_error"])
    near = heights > -30
    assert near.sum() > 5
    # What the cubics are off by between their nodes comes on top, a tenth of a nat where the nodes are others.
    np.testing.assert_array_less(
        np.abs(np.array(axis["log_evidence"]) - (heights - heights.max()))[near], 4.5 * errors[near] + 0.15
    )


def test_marks_are_stops_of_the_axis_and_stretch_it(diabetes):
    _, document = diabetes
    for kind, strength, label in (("l2", 0.0123, "ours"), ("l1", 5e-5, "far out")):
        (mark,) = document["axes"][kind]["marks"]
        assert mark["label"] == label
        assert document["axes"][kind]["lambdas"][mark["index"]] == pytest.approx(strength, rel=1e-6)
    assert document["axes"]["l1"]["lambdas"][0] == pytest.approx(5e-5, rel=1e-6)


def test_under_a_laplace_prior_neighbours_are_less_than_a_factor_of_2_apart(diabetes):
    _, document = diabetes
    strengths = np.array(document["axes"]["l1"]["lambdas"])
    assert len(strengths) == 33 and (strengths[1:] / strengths[:-1]).max() < 2.0


def test_the_conventions_are_the_dictionary(diabetes):
    data, document = diabetes
    rows = {row["name"]: row for row in document["conventions"]}
    assert document["conventions"][0]["name"] == "mean-half-squared"
    assert set(rows) == {name for name, row in CONVENTIONS.items() if not row.refusal}
    for kind, penalty in (("l2", br.L2(0.01)), ("l1", br.L1(0.01))):
        for name, row in rows.items():
            if kind not in row:
                continue
            knowledge = {"noise_scale": 0.7, "target_scale": float(data.target.std()), "steps_per_epoch": 1}
            converted = penalty.to(name, num_rows=442, **knowledge)
            assert 0.01 * row[kind] == pytest.approx(getattr(converted, kind), rel=1e-12), name


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("torch-mse-sum", "l2", "K = 1 optimizer step an epoch, the full batch (with K steps lambda is divided by K)"),
        ("mean-half-squared", "l1", "n = 442 rows"),
        ("park-casella", "l1", "s = 0.7, the noise scale"),
        ("sklearn-bayesian-ridge", "l2", "s = 0.7, the noise scale"),
        ("glmnet", "l2", "n = 442 rows; s_y = 1; alpha = 0"),
        ("sklearn-elasticnet", "l1", "n = 442 rows; l1_ratio = 1"),
        ("celer", "l1", "n = 442 rows; each of weights_j = 1"),
        ("laplace-torch", "l2", "s = 0.7, the noise scale; prior_mean = 0"),
        ("sklearn-ridge", "l2", ""),
    ],
)
def test_each_symbol_of_an_objective_has_its_value(diabetes, name, kind, words):
    _, document = diabetes
    (row,) = [row for row in document["conventions"] if row["name"] == name]
    assert row["symbols"][kind] == words
    assert set(row["symbols"]) == {"l2", "l1"} & set(row)


def test_with_steps_an_epoch_lambda_is_divided_by_them(diabetes):
    _, document = diabetes
    (row,) = [row for row in document["conventions"] if row["name"] == "torch-mse-sum"]
    for kind, penalty in (("l2", br.L2(0.01)), ("l1", br.L1(0.01))):
        five = penalty.to("torch-mse-sum", num_rows=442, steps_per_epoch=5)
        assert getattr(five, kind) == pytest.approx(0.01 * row[kind] / 5, rel=1e-12)


def test_test_rows_take_the_place_of_folds():
    train, test = br.load_diabetes().standardized().split(seed=1)
    document = explore(train, 0.7, test=test)
    for kind, axis in document["axes"].items():
        losses = br.path(train, kind, axis["lambdas"]).loss(test)
        np.testing.assert_allclose(axis["held_out"]["loss"], losses, rtol=1e-5)
        assert axis["held_out"]["standard_error"] is None and axis["held_out"]["what"] == f"{test.num_rows} test rows"


def test_moments_and_few_rows_have_no_held_out_losses_and_say_so():
    data = simulated(60, 3)
    for given, reason in ((br.Moments.from_data(data), "moments"), (simulated(19, 3), "19 rows are too few")):
        document = explore(given, 0.7)
        assert all(axis["held_out"] is None for axis in document["axes"].values())
        assert [note for note in document["notes"] if reason in note and "no held-out" in note]
    assert document["standardized"] and explore(data, 0.7)["notes"] == []


def test_of_many_features_the_largest_are_shown_and_the_rest_counted():
    data = simulated(200, MOST_FEATURES + 20)
    document = explore(data, 0.7)
    assert len(document["features"]) == MOST_FEATURES and document["left_out"] == 20
    assert {data.feature_names[0], data.feature_names[-1]} <= set(document["features"])
    assert "Of 80 features those 60 of the largest effect are shown; 20 are left out." in document["notes"]
    assert document["axes"]["l1"]["posterior"] is None and document["axes"]["l2"]["posterior"] is not None
    assert any("Laplace prior only the MAP" in note for note in document["notes"])
    shown = [data.feature_names.index(name) for name in document["features"]]
    fits = br.path(data, "l1", document["axes"]["l1"]["lambdas"])
    np.testing.assert_allclose(document["axes"]["l1"]["map"], fits.weights[:, shown], rtol=1e-5, atol=1e-6)
    assert MOST_LAPLACE_FEATURES < 80


def test_the_document_is_strict_json(diabetes):
    _, document = diabetes
    assert json.loads(strict_json(document, indent=None)) == document
