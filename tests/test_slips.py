"""Likely slips, a result of another kind or a text for a number: what is said names the argument and what would do."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import bayesreg as br

DATA = br.load_diabetes().standardized()
FRAME = pd.DataFrame(DATA.features, columns=DATA.feature_names)
MODEL = br.LinearRegression(br.GaussianPrior(0.5), 0.7)
TWO = br.RegressionData(DATA.features[:, :2], DATA.target)


@pytest.fixture(scope="module")
def posterior():
    return br.sample(MODEL, DATA, draws=20)


@pytest.fixture(scope="module")
def path():
    return br.path(DATA, "l2", [1.0, 0.1], noise_scale=0.7)


@pytest.fixture(autouse=True)
def no_window():
    with matplotlib.rc_context({"backend": "agg"}):
        yield
        matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    ("features", "error", "found"),
    [
        (DATA, TypeError, "must be a matrix of numbers or a DataFrame, got RegressionData: give data.features"),
        (
            br.Moments.from_data(DATA),
            TypeError,
            r"got Moments \(which keep sums and no rows\): give data.features of a",
        ),
        ("rows.csv", TypeError, r"features must be booleans, integers or floats, got 'rows.csv' \(str\)"),
        (DATA.features[0], ValueError, r"shape \(rows, 10\), got \(10,\); of one row give \[features\]"),
    ],
)
def test_predict_says_what_it_takes(features, error, found, posterior):
    with pytest.raises(error, match=found):
        posterior.predict(features)
    assert posterior.predict([DATA.features[0]]).shape == (4, 20, 1)


@pytest.mark.parametrize(("seed", "error"), [("a", TypeError), (1.5, TypeError), (-1, ValueError)])
def test_predict_takes_whole_seeds(seed, error, posterior):
    with pytest.raises(error, match=f"seed must be .*got {seed!r}"):
        posterior.predict(DATA.features, seed=seed)


@pytest.mark.parametrize("fit", [br.path, br.choose_lambda, br.cross_validate])
@pytest.mark.parametrize(
    ("lambdas", "error", "found"),
    [
        ("0.1", TypeError, r"lambdas must be booleans, integers or floats, got '0.1' \(str\)"),
        (0.1, ValueError, r"lambdas must be a vector of at least one strength, got shape \(\); give \[0.1\]"),
    ],
)
def test_one_strength_is_a_list_of_one(fit, lambdas, error, found):
    with pytest.raises(error, match=found):
        fit(DATA, "l2", lambdas=lambdas)


def test_an_object_in_place_of_numbers_is_named_by_its_kind():
    estimate = br.map_estimate(MODEL, DATA)
    with pytest.raises(TypeError, match=r"^weights must be booleans, integers or floats, got MapEstimate$"):
        br.certify(estimate, DATA, br.L2(0.1))


@pytest.mark.parametrize("method", ["prior", "penalty", "certificate", "leave_one_out_rows"])
def test_a_fit_that_is_not_there_is_named(method, path):
    for index in (2, 500, -3):
        with pytest.raises(IndexError, match=f"index must be from 0 to 1, or from -2 to -1 from the end, got {index}"):
            getattr(path, method)(index)
    for index in ("0", 1.0, True, None, slice(0, 1), torch.tensor(0.5)):
        with pytest.raises(TypeError, match="index must be an integer, got"):
            getattr(path, method)(index)


@pytest.mark.parametrize("last", [1, -1, np.int64(1), torch.tensor(1), np.array(-1)])
def test_a_fit_is_counted_from_either_end_by_any_integer(last, path):
    assert path.penalty(last).strength == 0.1 and repr(path.prior(last)) == repr(path.prior(1))
    assert path.certificate(last) == path.certificate(1)


def test_a_run_that_is_not_there_is_named():
    trained = br.train_path(DATA, [1.0, 0.1], epochs=1, seeds=(0,))
    with pytest.raises(IndexError, match="lambda_index must be from 0 to 1.*got 2"):
        trained.run(2)
    with pytest.raises(IndexError, match="seed_index must be from 0 to 0.*got 1"):
        trained.run(0, 1)
    assert trained.run(-1).settings.seed == 0


def test_data_are_simulated_by_a_function():
    with pytest.raises(TypeError, match="simulate must be a function of a seed, got 'l2'"):
        br.study_choice("l2")


PICTURES = {
    "plot_path": (br.plots.plot_path, "path must be a Path, which br.path returns"),
    "plot_losses": (br.plots.plot_losses, "result must be a LambdaChoice or a Path"),
    "plot_evidence": (br.plots.plot_evidence, "result must be a LambdaChoice or a Path"),
    "plot_cross_validation": (br.plots.plot_cross_validation, "found must be a CrossValidation, a LeaveOneOut or a L"),
    "plot_posterior_intervals": (br.plots.plot_posterior_intervals, "posterior must be a Posterior, which br.sample"),
    "plot_diagnostics": (br.plots.plot_diagnostics, "posterior must be a Posterior, which br.sample returns"),
    "plot_training": (br.plots.plot_training, "run must be a TrainingRun, which br.train returns"),
    "plot_sgd_trajectories": (lambda given: br.plots.plot_sgd_trajectories(given, [[0.0]]), "training must be a Train"),
    "plot_prior_and_penalty": (
        lambda given: br.plots.plot_prior_and_penalty(given, noise_scale=0.7, num_rows=10),
        "prior must be a GaussianPrior, LaplacePrior or ElasticNetPrior",
    ),
    "plot_weight_plane": (
        lambda given: br.plots.plot_weight_plane(TWO, given, [0.0, 0.0]),
        "penalty must be a Penalty, such as br.L2",
    ),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    "given", [FRAME, DATA, None, "a path", 3, br.Moments.from_data(DATA)], ids=lambda g: str(type(g))
)
def test_a_picture_of_something_else_is_refused(picture, given):
    draw, found = PICTURES[picture]
    with pytest.raises(TypeError, match=rf"{found}.*got {type(given).__name__}|{found}.*got str"):
        draw(given)
    assert not matplotlib.pyplot.get_fignums()


def test_pictures_name_their_second_argument_and_their_axes(path, posterior):
    with pytest.raises(TypeError, match="posterior must be a PosteriorPath.*or None, got Posterior"):
        br.plots.plot_path(path, posterior)
    figure, pair = matplotlib.pyplot.subplots(1, 2)
    for ax in ("left", figure, pair):
        with pytest.raises(
            TypeError, match=f"ax must be the Axes of a matplotlib figure, or None, got {type(ax).__name__}"
        ):
            br.plots.plot_path(path, ax=ax)
    with pytest.raises(TypeError, match="trajectories must be a list of ways.*got int"):
        br.plots.plot_weight_plane(TWO, br.L2(0.1), [0.0, 0.0], 5)
