"""Pictures of training: the history as it is, and how far it is above the optimum."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pictures import assert_apart

import bayesreg as br
from bayesreg import plots

pytestmark = pytest.mark.usefixtures("nothing_else_changes")


def design():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(30, 3)) * 2.0 + 1.0
    return br.RegressionData(features, 5.0 + features[:, 0] - features[:, -1] + generator.normal(size=30))


@pytest.mark.parametrize(
    ("penalty", "test", "words"),
    [
        (br.L2(3.0, "torch-mse-mean"), True, ["train", "train + penalty", "test", "test + penalty"]),
        (br.L1(0.1), False, ["train", "train + penalty"]),
        (None, True, ["train", "test"]),
    ],
)
def test_training_shows_the_history(penalty, test, words):
    data = design().standardized()
    run = br.train(data, penalty, epochs=3, test=data if test else None)
    ax = plots.plot_training(run)
    assert [line.get_label() for line in ax.lines] == words == [text.get_text() for text in ax.texts]
    columns = [name.replace(" + penalty", "_objective") for name in words]
    for line, column in zip(ax.lines, columns, strict=True):
        column = column if column in run.history else f"{column}_loss"
        np.testing.assert_array_equal(line.get_xydata(), run.history[["epoch", column]])
    loss = (
        "mean of (y − ŷ)²" if penalty is not None and penalty.convention == "torch-mse-mean" else "mean of (y − ŷ)²/2"
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", loss)
    title = "Loss in training, " + ("no penalty" if penalty is None else repr(penalty))
    assert ax.get_title(loc="left").split() == title.split()


def test_training_names_a_sum_and_draws_where_it_is_told():
    figure, ax = plt.subplots()
    data = design().standardized()
    run = br.train(data, br.L2(0.1, "torch-mse-sum"), epochs=2, batch_size=30)
    assert plots.plot_training(run, ax) is ax and plt.get_fignums() == [figure.number]
    assert ax.get_ylabel() == "sum of (y − ŷ)²"
    plots.plot_map_against_fit(br.map_estimate(br.LinearRegression(br.GaussianPrior(1.0), 1.0), data), run)


# --- how far above the minimum

STRENGTHS = [0.03, 1.0, 0.2]


def objective(run, weights, intercept):
    """The objective of the torch-mse-mean convention or the canonical one, from its definition."""
    residuals = run.data.target - run.data.features @ np.asarray(weights) - intercept
    share = 1.0 if run.penalty.convention == "torch-mse-mean" else 0.5
    penalty = run.penalty.l2 * np.square(weights).sum() / 2 + run.penalty.l1 * np.abs(weights).sum()
    return share * np.square(residuals).mean() + float(penalty)


@pytest.mark.parametrize("kind", ["l1", "l2"])
@pytest.mark.parametrize("intercept", [True, False])
def test_each_lambda_has_the_excess_of_its_objective(kind, intercept):
    data = design()
    make = {"l1": br.L1, "l2": br.L2}[kind]
    runs = [br.train(data, make(s), epochs=20, learning_rate=0.002, intercept=intercept) for s in STRENGTHS]
    path = br.path(data, kind, STRENGTHS, intercept=intercept)
    ax = plots.plot_sgd_trajectories(runs, path)
    for index, (line, run) in enumerate(zip(ax.lines, runs, strict=True)):
        least = objective(run, path.weights[index].numpy(), float(path.intercepts[index]))
        np.testing.assert_allclose(line.get_ydata(), run.history["train_objective"] - least, rtol=1e-9)
        np.testing.assert_array_equal(line.get_xdata(), run.history["epoch"])
    assert {text.get_text(): text.get_color() for text in ax.texts}.keys() == {"λ = 0.03", "λ = 1", "λ = 0.2"}
    ends = {text.get_text(): text.xy[1] for text in ax.texts}
    assert ends == {f"λ = {s:g}": line.get_ydata()[-1] for s, line in zip(STRENGTHS, ax.lines, strict=True)}
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "epoch" and ax.get_ylabel() == "objective above its minimum"
    assert ax.get_title(loc="left") == "Training, above the optimum of: mean of (y − ŷ)²/2 + penalty"
    assert_apart(*ax.texts, ax.xaxis.label, ax.yaxis.label)
    # The lightness follows the strength.
    lightness = [float(np.dot(line.get_color()[:3], [0.299, 0.587, 0.114])) for line in ax.lines]
    assert np.argsort(lightness).tolist() == np.argsort(STRENGTHS).tolist()


def test_another_convention_and_optima_as_bare_weights():
    data = design()
    run = br.train(data, br.L2(0.4, "torch-mse-mean"), epochs=5, learning_rate=0.002)
    path = br.path(data, "l2", [0.2])  # mean r^2 + 0.4 |w|^2 / 2 is twice the canonical objective at 0.2
    figure, ax = plt.subplots()
    assert plots.plot_sgd_trajectories([run], [path.weights[0].tolist()], ax) is ax
    assert plt.get_fignums() == [figure.number]
    least = objective(run, path.weights[0].numpy(), float(path.intercepts[0]))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), run.history["train_objective"] - least, rtol=1e-9)
    assert [text.get_text() for text in ax.texts] == ["λ = 0.4"]
    assert ax.get_title(loc="left") == "Training, above the optimum of: mean of (y − ŷ)² + penalty"


def test_the_seeds_of_a_training_path_share_the_colour_of_their_lambda():
    data = design()
    training = br.train_path(data, STRENGTHS, seeds=(0, 1), epochs=4)
    path = br.path(data, "l2", STRENGTHS)
    ax = plots.plot_sgd_trajectories(training, path)
    assert len(ax.lines) == 6 and len(ax.texts) == 3
    colors = [tuple(line.get_color()) for line in ax.lines]
    assert colors[::2] == colors[1::2] and len(set(colors)) == 3
    run = training.run(1, 1)
    least = objective(run, path.weights[1].numpy(), float(path.intercepts[1]))
    np.testing.assert_allclose(ax.lines[3].get_ydata(), training.train_objective[:, 1, 1] - least, rtol=1e-9)


def test_many_lambdas_have_some_names_that_keep_apart():
    data, strengths = design(), np.geomspace(1.0, 0.01, 25)
    runs = [br.train(data, br.L2(float(s)), epochs=3) for s in strengths]
    ax = plots.plot_sgd_trajectories(runs, br.path(data, "l2", strengths))
    assert len(ax.lines) == 25 and 5 <= len(ax.texts) <= 10
    assert_apart(*ax.texts)


def test_a_run_that_has_arrived_has_no_place_on_the_axis():
    data = design()
    path = br.path(data, "l2", [0.5])
    start = (path.weights[0], float(path.intercepts[0]))
    run = br.train(data, br.L2(0.5), epochs=3, batch_size=30, learning_rate=0.01, start=start)
    ax = plots.plot_sgd_trajectories([run], path)
    assert np.isnan(ax.lines[0].get_ydata()).all() and not ax.texts


def test_a_run_in_original_units_is_judged_where_it_was_trained():
    data = design().standardized()
    run = br.train(data, br.L2(0.5), epochs=3)
    path = br.path(data, "l2", [0.5])
    lines = [plots.plot_sgd_trajectories([one], path).lines[0] for one in (run, run.original_units())]
    np.testing.assert_array_equal(lines[0].get_ydata(), lines[1].get_ydata())


def test_wrong_optima_and_runs_are_refused():
    data = design()
    run = br.train(data, br.L2(0.5), epochs=200, learning_rate=0.002)
    with pytest.raises(ValueError, match="optima must be one for each lambda, 1 of them, got 2"):
        plots.plot_sgd_trajectories([run], br.path(data, "l2", [0.5, 0.1]))
    with pytest.raises(ValueError, match=r"optima must be .* at lambda = 0.5 training came to .*, below the"):
        plots.plot_sgd_trajectories([run], [[5.0, 5.0, 5.0]])
    other = br.train(data, br.L2(0.5, "torch-mse-mean"), epochs=1)
    with pytest.raises(ValueError, match="training must be runs of one convention, got 2"):
        plots.plot_sgd_trajectories([run, other], [[0.0] * 3] * 2)
    with pytest.raises(ValueError, match="training must be runs of one convention, got 0"):
        plots.plot_sgd_trajectories([], [])
    assert plt.get_fignums() == []
