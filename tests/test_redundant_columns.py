"""Constant columns and copies are named in one sentence, wherever a fit is shown, and the engine's reason is true."""

import json
import re
import time

import numpy as np
import pyro.distributions as dist
import pytest
from commands import call

import bayesreg as br
from bayesreg.redundant_columns import redundant_columns
from bayesreg.sampling import candidates

NAMES = ["a", "b", "c", "d", "e", "f"]
SENTENCE = (
    "column 'd' is constant, so that the data say nothing of its weight; column 'e' is a linear copy of 'a' and column "
    "'f' is a linear copy of 'b' (to 6 digits), so that the data cannot tell the weights of copies apart"
)


def columns(rows=50):
    random = np.random.default_rng(0)
    free = random.standard_normal((rows, 3))
    made = [free, np.full(rows, 0.1), 32.0 + 1.8 * free[:, 0], -1e-9 * free[:, 1]]
    target = free @ [1.0, 0.0, -1.0] + random.standard_normal(rows)
    return br.RegressionData(np.column_stack(made), target, NAMES)


def said_of(moments):
    return redundant_columns(moments.square_root()[:, :-1], moments.feature_names, moments.centred)


@pytest.mark.parametrize("rows", [5, 7, 50])
def test_the_same_is_said_of_rows_batches_and_standard_units(rows):
    data = columns(rows)
    batches = [(data.features[:3], data.target[:3]), (data.features[3:], data.target[3:])]
    summed = br.Moments.from_batches(br.RegressionData(*batch, NAMES) for batch in batches)
    for moments in (br.Moments.from_data(data), summed, br.Moments.from_data(data.standardized())):
        assert said_of(moments) == SENTENCE


def test_without_an_intercept_a_constant_column_is_one_and_a_shifted_copy_is_none():
    data = columns()
    said = said_of(br.Moments.from_data(data).about_origin())
    assert said.startswith("column 'f' is a linear copy of 'b' (to 6 digits)") and "'d'" not in said
    zeros = br.RegressionData(np.c_[data.features, np.zeros(50)], data.target)
    assert said_of(br.Moments.from_data(zeros).about_origin()).startswith("column 'x6' is 0 throughout, so that")


@pytest.mark.parametrize(("apart", "same"), [(0.0, True), (1e-8, True), (1e-5, False), (1e-3, False)])
def test_a_copy_is_one_to_six_digits(apart, same):
    random = np.random.default_rng(1)
    column, other = random.standard_normal((2, 400))
    rows = np.column_stack([column, other, column + apart * other])
    assert bool(redundant_columns(rows - rows.mean(axis=0), ["a", "b", "c"])) is same


def test_long_lists_are_cut():
    rows = np.random.default_rng(2).standard_normal((30, 6))
    said = redundant_columns(np.repeat(rows, 9, axis=1), [f"x{column}" for column in range(54)])
    assert said.startswith("columns 'x1', 'x2', 'x3', 'x4', 'x5' and 3 more are linear copies of 'x0' and columns")
    assert "(to 6 digits; and 3 more such groups)" in said
    constant = redundant_columns(np.zeros((3, 54)), [f"x{column}" for column in range(54)])
    assert constant.startswith("columns 'x0', 'x1', 'x2', 'x3', 'x4' and 49 more are constant, so that the data say")


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_columns_of_any_size_are_compared(scale):
    rows = np.random.default_rng(3).standard_normal((20, 2))
    assert "'c' is a linear copy of 'a'" in redundant_columns(np.c_[rows, scale * rows[:, 0]], ["a", "b", "c"])


def test_copies_among_many_columns_are_found_without_comparing_each_with_each():
    random = np.random.default_rng(4)
    rows = np.repeat(random.standard_normal((50, 10_000)), 2, axis=1)
    rows *= random.choice([-1.0, 1.0], rows.shape[1])
    began = time.perf_counter()
    said = redundant_columns(rows, [f"x{column}" for column in range(20_000)])
    # All pairs are 2e10 operations, and a matrix of 3 GB.
    assert "(to 6 digits; and 9,997 more such groups)" in said and time.perf_counter() - began < 5.0


@pytest.mark.parametrize("prior", [br.GaussianPrior(0.5), br.LaplacePrior(0.25)])
def test_a_posterior_names_them_and_its_reason_does_not_blame_the_rows(prior):
    posterior = br.sample(br.LinearRegression(prior, 0.7), columns().standardized())
    assert posterior.details["redundant_columns"] == SENTENCE and SENTENCE in repr(posterior)
    assert "too few rows" not in posterior.reason
    if prior.has_kink:
        assert "a Laplace prior on columns that depend on one another (rank 3 of 6)" in posterior.reason


def test_a_posterior_of_other_columns_says_nothing_of_them():
    data = br.load_diabetes().standardized()
    posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), 0.7), data, draws=50)
    assert "redundant_columns" not in posterior.details and br.path(data, "l1", [0.1]).redundant_columns == ""


@pytest.mark.parametrize(
    ("rows", "copied", "reason"),
    [(40, False, "rows enough"), (40, True, "depend on one another"), (8, False, "too few"), (15, False, "too few")],
)
def test_auto_blames_the_rows_or_the_columns(rows, copied, reason):
    features = np.random.default_rng(5).standard_normal((rows, 10))
    if copied:
        features[:, 9] = features[:, 0] + features[:, 1]
    target = br.LinearRegression(br.LaplacePrior(0.1), 0.7).target(br.RegressionData(features, features[:, 2]))
    assert reason in list(candidates(target))[-1][1]


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_columns_that_sum_to_a_constant_are_named(scale):
    random = np.random.default_rng(6)
    colours = np.eye(3)[random.integers(3, size=60)]
    features = np.column_stack([random.standard_normal(60), scale * colours, random.standard_normal(60)])
    data = br.RegressionData(features, features[:, 0], ["size", "red", "green", "blue", "age"])
    said = (
        "columns 'red', 'green' and 'blue' are linearly dependent (rank 4 of 5), so that the data cannot tell their "
        "weights apart"
    )
    posterior = br.sample(br.LinearRegression(br.LaplacePrior(0.25), 0.7), data.standardized())
    assert posterior.details["redundant_columns"] == said and "rank 4 of 5" in posterior.reason
    with pytest.raises(ValueError, match=f"the redundant columns: {re.escape(said)}"):
        br.map_estimate(br.LinearRegression(br.FlatPrior(), 0.7), data)
    # About the origin the three sum to the ones of no intercept, and depend on nothing.
    without = br.sample(br.LinearRegression(br.LaplacePrior(0.25), 0.7, intercept=False), data, draws=1000)
    assert "redundant_columns" not in without.details


def test_fewer_rows_than_columns_are_no_fault_of_the_columns():
    features = np.random.default_rng(7).standard_normal((6, 9))
    data = br.RegressionData(features, features[:, 0])
    assert "redundant_columns" not in br.sample(br.LinearRegression(br.GaussianPrior(0.5), 0.7), data).details


@pytest.mark.parametrize("fit", [br.map_estimate, br.sample])
def test_a_flat_prior_is_refused_with_the_columns_to_leave_out(fit):
    with pytest.raises(ValueError, match="leave out the redundant columns: column 'd' is constant.*'f' is a linear"):
        fit(br.LinearRegression(br.FlatPrior(), 0.7), columns())


def test_a_path_and_a_comparison_name_them():
    data = columns()
    found = br.compare(br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0)), data)
    assert found.redundant_columns == found.to_dict()["redundant_columns"] == SENTENCE and SENTENCE in repr(found)
    assert br.path(data, "l1", [0.1]).redundant_columns == br.path(data, "l2", [0.1]).redundant_columns == SENTENCE


@pytest.mark.usefixtures("short_reports")
@pytest.mark.parametrize("command", ["run", "compare", "path", "choose"])
def test_every_command_that_fits_says_it_once(command, tmp_path):
    data, table = columns(), tmp_path / "rows.csv"
    header = ",".join([*NAMES, "y"])
    np.savetxt(table, np.c_[data.features, data.target], delimiter=",", header=header, comments="", fmt="%.17g")
    given = {
        "run": ["--data", table, "--scale", "0.5", "--draws", "50", "--out", tmp_path / "out"],
        "compare": ["--data", table, "--scale", "0.5", "--noise-scale", "0.7", "--out", tmp_path / "out"],
        "path": [table, "--num-lambdas", "5", "--out", tmp_path / "out"],
        "choose": [table, "--num-lambdas", "5", "--methods", "evidence", "--out", tmp_path / "out"],
    }[command]
    result = call(command, *given, "--target", "y")
    assert result.exit_code == 0, result.stderr
    printed = " ".join(result.stdout.split())
    assert f"Columns {SENTENCE}" in printed and printed.count("linear copy of 'a'") == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("so that the data say nothing of its weight") == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest.get("engine") or manifest)["redundant_columns"] == SENTENCE
