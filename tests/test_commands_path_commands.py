"""`bayesreg path` and `bayesreg choose`: what they print, write and refuse."""

import json
import os
import subprocess
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from commands import assert_refused, call, call_json, left_behind

import bayesreg as br
from bayesreg.selection.choosing import Choice, LambdaChoice

pytestmark = pytest.mark.usefixtures("without_reports")


def houses(seed, num_rows=30):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_rows, 3)) * [1.0, 10.0, 0.1] + [0.0, 100.0, 5.0]
    price = 200.0 + features @ [3.0, 0.5, 0.0] + generator.normal(size=num_rows)
    return pd.DataFrame(features, columns=["size", "age", "rooms"]).assign(price=price)


@pytest.fixture
def table(tmp_path):
    """A small CSV file; two of its columns are related to the price."""
    houses(5).to_csv(tmp_path / "houses.csv", index=False)
    houses(6, 12).to_csv(tmp_path / "test.csv", index=False)
    return tmp_path / "houses.csv"


def data_of(table):
    return br.read_table(table, target="price").standardized()


def written(folder):
    return json.loads((folder / "manifest.json").read_text())


def assert_complete(folder, *names):
    """Check that a run's folder has these files, the report, the manifest and the settings, and lists them all."""
    expected = sorted([*names, "manifest.json", "settings.toml", "report.html", "explorer.json"])
    assert written(folder)["files"] == expected
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == expected
    for name in names:
        assert not name.endswith(".png") or (folder / name).read_bytes().startswith(b"\x89PNG")
    assert not plt.get_fignums()


# ---- path


@pytest.mark.parametrize("kind", ["l2", "l1", "elasticnet"])
def test_path_writes_tables_in_both_units_a_figure_and_a_manifest(kind, table, tmp_path):
    out = tmp_path / ("a folder whose name is longer than a line " * 3).strip() / "one"
    flags = ["--kind", kind, "--noise-scale", 0.5, "--test", tmp_path / "test.csv", "--out", out]
    result = call("path", table, "--target", "price", *flags)
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    assert_complete(out, "path.csv", "path-original.csv", "figures/path.png")
    data = data_of(table)
    test = data.transform.apply(br.read_table(tmp_path / "test.csv", target="price"))
    path = br.path(data, kind, noise_scale=0.5)
    for name, fits in (("path", path), ("path-original", path.original_units())):
        frame = pd.read_csv(out / f"{name}.csv")
        np.testing.assert_allclose(frame[["size", "age", "rooms"]], fits.weights, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(frame["intercept"], fits.intercepts, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(frame["lambda"], path.lambdas)
        np.testing.assert_allclose(frame["loss"], path.losses, rtol=1e-12)
        np.testing.assert_allclose(frame["test_loss"], path.loss(test), rtol=1e-12)
        np.testing.assert_array_equal(frame["num_nonzero"], path.num_nonzero)
        scales = [column for column in frame if column.startswith("prior_scale")]
        np.testing.assert_allclose(frame[scales], path.prior_scales.reshape(100, -1), rtol=1e-12)
        assert len(scales) == (2 if kind == "elasticnet" else 1) and (frame["relative_gap"] < 1e-10).all()
    manifest = written(out)
    assert list(manifest)[2:5] == ["command", "data", "settings"] and manifest["command"] == "path"
    assert manifest["passed"] and manifest["noise_scale"] == 0.5 and manifest["largest_relative_gap"] < 1e-10
    assert manifest["data"]["rows"] == 30 and len(manifest["data"]["sha256"]) == 64
    assert set(manifest["seconds"]) == {"reading the data", "fitting", "writing", "report"}
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()).endswith("100 fits to 30 rows of 3 features")
    assert (
        lines[1] == "Noise      prior scales are at noise scale 0.5"
        and "Checks     pass every fit within" in result.stdout
    )
    assert any(line.split(None, 1) == ["Written", str(out / "report.html")] for line in lines)
    best = int(path.loss(test).argmin())
    assert (
        f"smallest loss {float(path.loss(test)[best]):.4g} at lambda = {float(path.lambdas[best]):.4g}" in result.stdout
    )
    numbers = [line.split() for line in lines if line.strip()[:1].isdigit() and len(line.split()) > 4]
    assert len(numbers) == 10 and float(numbers[0][0]) == pytest.approx(float(path.lambdas[0]), rel=5e-3)
    assert float(numbers[-1][0]) == pytest.approx(float(path.lambdas[-1]), rel=5e-3) and "... 90 more" in result.stdout


def test_path_in_the_units_of_the_data_at_strengths_given(table, tmp_path):
    arguments = ["--target", "price", "--no-standardize", "--no-intercept", "--lambdas", "0.5,2e-1, 0", "--out"]
    found = call_json("path", "--data", table, *arguments, tmp_path / "one")
    assert_complete(tmp_path / "one", "path.csv", "figures/path.png")
    path = br.path(br.read_table(table, target="price"), "l2", [0.5, 0.2, 0.0], intercept=False)
    frame = pd.read_csv(tmp_path / "one" / "path.csv")
    np.testing.assert_allclose(frame[["size", "age", "rooms"]], path.weights, rtol=1e-10)
    assert [row["lambda"] for row in found["path"]] == [0.5, 0.2, 0.0] and found["out"] == str(tmp_path / "one")
    np.testing.assert_allclose(
        [row["degrees_of_freedom"] for row in found["path"]], path.degrees_of_freedom, rtol=1e-10
    )
    np.testing.assert_allclose([row["prior_scale"] for row in found["path"][:2]], path.prior_scales[:2], rtol=1e-10)
    assert found["path"][2]["prior_scale"] is None  # infinite
    assert found["settings"] == {
        "data": str(table), "target": "price", "standardize": False, "kind": "l2", "lambdas": [0.5, 0.2, 0.0],
        "intercept": False, "out": str(tmp_path / "one"),
    }  # fmt: skip


def test_path_with_as_many_strengths_as_asked_for(table, tmp_path):
    arguments = ["--target", "price", "--kind", "elasticnet", "--l1-ratio", 0.25, "--num-lambdas", 7]
    found = call_json("path", table, *arguments, "--out", tmp_path / "one")
    ends = br.path(data_of(table), "elasticnet", l1_ratio=0.25).lambdas[[0, -1]]
    np.testing.assert_allclose([row["lambda"] for row in found["path"]], np.geomspace(*ends, 7), rtol=1e-12)


def test_the_built_in_data_need_no_target_and_one_strength_is_a_path(tmp_path):
    found = call_json("path", "diabetes", "--lambdas", 0.1, "--out", tmp_path / "one")
    assert len(found["path"]) == 1 and found["data"]["rows"] == 442


def test_path_from_a_file_and_again_from_the_run_s_own_settings(table, tmp_path):
    (tmp_path / "experiment.toml").write_text(
        'data = "houses.csv"\ntarget = "price"\nkind = "l1"\nlambdas = [0.3, 0.1]\ntest = "test.csv"\nout = "first"\n'
    )
    assert call("path", tmp_path / "experiment.toml").exit_code == 0
    assert call("path", tmp_path / "first" / "settings.toml", "--out", tmp_path / "again").exit_code == 0
    assert call("path", tmp_path / "experiment.toml", "--lambdas", 0.3, "--out", tmp_path / "third").exit_code == 0
    tables = [pd.read_csv(tmp_path / name / "path.csv") for name in ("first", "again", "third")]
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=0.0, atol=0.0)
    pd.testing.assert_frame_equal(tables[0][:1], tables[2], rtol=1e-12, atol=1e-15)


def test_where_the_data_say_nothing_of_the_noise_there_is_no_prior_scale(tmp_path):
    exact = pd.DataFrame(np.eye(4)[:, :2], columns=["a", "b"]).assign(y=[1.0, 2.0, 0.0, 0.0])
    exact.to_csv(tmp_path / "exact.csv", index=False)
    arguments = ["--target", "y", "--no-standardize", "--no-intercept", "--lambdas", "0.2,0.1", "--kind", "l1"]
    result = call("path", tmp_path / "exact.csv", *arguments, "--out", tmp_path / "one")
    assert result.exit_code == 0 and "no prior scales" in result.stdout, result.stderr
    assert "prior_scale" not in pd.read_csv(tmp_path / "one" / "path.csv")
    assert written(tmp_path / "one")["noise_scale"] is None


def test_features_may_be_called_as_columns_of_the_table_are(tmp_path):
    houses(5).rename(columns={"size": "loss", "age": "lambda"}).to_csv(tmp_path / "a.csv", index=False)
    result = call("path", tmp_path / "a.csv", "--target", "price", "--lambdas", 0.1, "--out", tmp_path / "one")
    assert result.exit_code == 0, result.stderr
    header = (tmp_path / "one" / "path.csv").read_text().splitlines()[0].split(",")
    assert header[0] == "lambda" and header[-3:] == ["loss", "lambda", "rooms"]


@pytest.mark.parametrize("command", ["path", "choose"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "l3"], ["kind must be one of l2, l1, elasticnet, got 'l3'"]),
        (["--lambdas", "0.1,-1"], ["lambdas must be"]),
        (["--lambdas", "0.1,x"], ["lambdas must be a positive number", "'0.1,x'"]),
        (["--lambdas", "HalfNormal(1)"], ["lambdas must be", "HalfNormal"]),
        (["--lambdas", "1e999"], ["lambdas must be a finite number or a list of them"]),
        (["--kind", "l1", "--lambdas", "0.1,0"], ["lambdas must be", "positive"]),
        (["--lambdas", "0.1", "--num-lambdas", 3], ["num_lambdas must be left out where lambdas are given, got 3"]),
        (["--num-lambdas", 1], ["num_lambdas must be a whole number of at least 2, got 1"]),
        (["--num-lambdas", "many"], ["num_lambdas", "'many'"]),
        (["--l1-ratio", 0.5], ["l1_ratio must be left out: only an elastic net, --kind elasticnet, has it, got 0.5"]),
        (["--kind", "elasticnet", "--l1-ratio", 1.5], ["l1_ratio must be above 0 and below 1", "1.5"]),
        (["--kind", "elasticnet", "--l1-ratio", "half"], ["l1_ratio must be a number", "'half'"]),
        (["--noise-scale", 0], ["noise_scale must be positive", "0"]),
        (["--noise-scale", "HalfNormal(1)"], ["noise_scale must be a positive number", "HalfNormal"]),
        (["--target", "prize"], ["prize", "price"]),
        (["--data", "nowhere.csv"], ["nowhere.csv"]),
        (["--data", "diabetes"], ["target", "left out"]),
        (["--test", "nowhere.csv"], ["nowhere.csv"]),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_written(command, arguments, words, table, tmp_path):
    given = {"--data": table, "--target": "price", "--out": tmp_path / "runs" / "one"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert_refused(call(command, *(word for pair in given.items() for word in pair)), *words)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kinds = 'l1'", ["unknown key 'kinds'", "closest first: kind"]),
        ("kind = 1", ["kind must be a text", "1"]),
        ("intercept = 'no'", ["intercept must be true or false"]),
        ("lambdas = ['a']", ["lambdas must be a finite number or a list of them, got ['a']"]),
        ("lambdas = []", ["lambdas must be a finite number or a list of them"]),
        ("num_lambdas = 2.5", ["num_lambdas must be a whole number"]),
    ],
)
def test_bad_files_are_refused_and_nothing_is_written(text, words, table, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    arguments = ["--data", table, "--target", "price", "--out", tmp_path / "runs" / "one"]
    assert_refused(call("path", tmp_path / "bad.toml", *arguments), *words)
    assert left_behind(tmp_path) == []


def test_test_rows_of_other_columns_are_refused(table, tmp_path):
    houses(6).rename(columns={"rooms": "floors"}).to_csv(tmp_path / "other.csv", index=False)
    houses(6)[["age", "size", "rooms", "price"]].to_csv(tmp_path / "turned.csv", index=False)
    arguments = ["path", table, "--target", "price", "--out", tmp_path / "one", "--test"]
    words = "test must have the columns of data; they differ in"
    assert_refused(call(*arguments, tmp_path / "other.csv"), f"{words} floors, rooms")
    assert_refused(call(*arguments, tmp_path / "turned.csv"), f"{words} another order")
    assert_refused(call("path", table, "--target", "price"), "--out FOLDER")
    assert_refused(call("path"), "data is missing")
    assert left_behind(tmp_path) == []


def test_a_path_is_replaced_only_with_force(table, tmp_path):
    arguments = ["path", table, "--target", "price", "--lambdas", 0.1, "--out", tmp_path / "one"]
    assert call(*arguments).exit_code == 0
    assert_refused(call(*arguments), "exists", "--force")
    assert call(*arguments, "--kind", "l1", "--force").exit_code == 0
    assert written(tmp_path / "one")["settings"]["kind"] == "l1" and left_behind(tmp_path) == ["one"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a bug")])
def test_what_ends_a_path_leaves_nothing(error, table, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("bayesreg.commands.path_runs.write_figures", broken)
    result = call("path", table, "--target", "price", "--out", tmp_path / "runs" / "one")
    assert left_behind(tmp_path) == []
    if error is KeyboardInterrupt:
        assert result.exit_code == 130 and "interrupted" in result.stderr
    else:
        assert result.exception is error


def test_a_figure_that_cannot_be_drawn_does_not_cost_the_path(table, tmp_path, monkeypatch):
    def no_room(*_):
        raise ValueError("no\nroom")

    monkeypatch.setattr("bayesreg.plots.plot_path", no_room)
    result = call("path", table, "--target", "price", "--out", tmp_path / "one")
    assert result.exit_code == 0 and "Figures    not drawn: path (ValueError: no room)" in result.stdout
    assert written(tmp_path / "one")["missing_figures"] == ["path (ValueError: no room)"]
    assert len(pd.read_csv(tmp_path / "one" / "path.csv")) == 100


def test_a_path_that_does_not_reach_its_gap_is_written_and_has_status_1(table, tmp_path, monkeypatch):
    monkeypatch.setattr("bayesreg.paths.penalty_path.LARGEST_GAP", -1.0)
    result = call("path", table, "--target", "price", "--lambdas", "0.2,0.1", "--out", tmp_path / "one")
    assert result.exit_code == 1 and "Checks     FAIL 2 of 2 fits have a relative gap above" in result.stdout
    manifest = written(tmp_path / "one")
    assert manifest["passed"] is False and manifest["converged"] is False and "2 of 2" in manifest["warnings"][0]


# ---- choose


def made_by_hand(data, *choices, curves=True, **_):
    """What choose_lambda gives, the choices known."""
    path = br.path(data, "l2", [1.0, 0.3, 0.1], noise_scale=0.5)
    chosen = br.path(data, "l2", [choice.strength for choice in choices], noise_scale=0.5)
    if not curves:
        return LambdaChoice(choices, path, chosen)
    evidence = pd.DataFrame({"lambda": path.lambdas, "log_evidence": [-3.0, 0.0, -1.0], "standard_error": 0.0})
    cross_validation = br.cross_validate(data, "l2", path.lambdas, folds=5)
    return LambdaChoice(choices, path, chosen, data, cross_validation, evidence)


BY_HAND = (
    Choice("cv", 0.3, loss=0.25, standard_error=0.02),
    Choice("learned", 0.2, lower=0.1, upper=0.4, note="posterior by exact"),
)


@pytest.fixture
def asked(monkeypatch):
    """Put a choice made by hand in the place of choose_lambda; returns what it was asked."""
    calls = []

    def choose_lambda(data, **arguments):
        calls.append((data, arguments))
        return made_by_hand(data, *BY_HAND)

    monkeypatch.setattr("bayesreg.selection.choosing.choose_lambda", choose_lambda)
    return calls


def test_choose_hands_on_what_is_asked_and_writes_what_it_gets(asked, table, tmp_path):
    flags = ["--kind", "elasticnet", "--l1-ratio", 0.3, "--methods", "cv, learned", "--lambdas", "1,0.3", "--folds", 5]
    flags += ["--seed", 7, "--noise-scale", 0.5, "--no-intercept", "--test", tmp_path / "test.csv"]
    result = call("choose", table, "--target", "price", *flags, "--out", tmp_path / "one")
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    ((data, arguments),) = asked
    test = arguments.pop("test")
    assert arguments.pop("lambdas").tolist() == [1.0, 0.3]
    assert arguments == {
        "kind": "elasticnet", "l1_ratio": 0.3, "methods": ("cv", "learned"), "folds": 5, "seed": 7, "noise_scale": 0.5,
        "intercept": False, "progress": True,
    }  # fmt: skip
    np.testing.assert_array_equal(data.features, data_of(table).features)
    expected = data.transform.apply(br.read_table(tmp_path / "test.csv", target="price"))
    np.testing.assert_array_equal(test.features, expected.features)
    np.testing.assert_array_equal(test.target, expected.target)
    figures = [f"figures/{name}.png" for name in ("path", "losses", "cross-validation", "evidence")]
    tables = [f"{name}.csv" for name in ("choice", "cv", "evidence", "path", "path-original")]
    assert_complete(tmp_path / "one", *figures, *tables)
    choice = made_by_hand(data, *BY_HAND)
    found = pd.read_csv(tmp_path / "one" / "choice.csv")
    assert found["method"].tolist() == ["cv", "learned"] and found["lambda"].tolist() == [0.3, 0.2]
    np.testing.assert_allclose(found["prior_scale"], choice.chosen.prior_scales, rtol=1e-12)
    np.testing.assert_allclose(found["test_loss"], choice.chosen.loss(data), rtol=1e-12)
    curve = pd.read_csv(tmp_path / "one" / "cv.csv")
    pd.testing.assert_frame_equal(curve, choice.cross_validation.to_frame(), rtol=1e-12)
    assert pd.read_csv(tmp_path / "one" / "evidence.csv")["log_evidence"].tolist() == [-3.0, 0.0, -1.0]
    manifest = written(tmp_path / "one")
    assert (
        manifest["command"] == "choose"
        and manifest["seed"] == 7
        and manifest["settings"]["methods"] == ["cv", "learned"]
    )
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["cv"][1:3] == ["0.3", "-"] and rows["cv"][4:6] == ["0.25", "0.02"]
    assert rows["learned"][1:3] == ["0.2", "0.1–0.4"] and rows["learned:"][1:] == ["posterior", "by", "exact"]


def test_choose_leaves_to_the_choice_what_is_not_asked(asked, table, tmp_path):
    found = call_json("choose", table, "--target", "price", "--out", tmp_path / "one")
    ((_, arguments),) = asked
    assert arguments == {
        "kind": "l2", "lambdas": None, "folds": 10, "seed": 0, "noise_scale": None, "intercept": True, "test": None,
        "progress": True,
    }  # fmt: skip
    assert [row["method"] for row in found["choices"]] == ["cv", "learned"] and found["command"] == "choose"
    assert found["choices"][0]["upper_95"] is None and found["choices"][1]["upper_95"] == 0.4


def test_choose_writes_curves_only_of_methods_that_have_some(table, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bayesreg.selection.choosing.choose_lambda", lambda data, **_: made_by_hand(data, *BY_HAND, curves=False)
    )
    assert call("choose", table, "--target", "price", "--out", tmp_path / "one").exit_code == 0
    tables = ["choice.csv", "path.csv", "path-original.csv"]
    assert_complete(tmp_path / "one", "figures/path.png", "figures/losses.png", *tables)


def test_choose_has_status_1_where_a_check_warned(table, tmp_path, monkeypatch):
    def warned(data, **_):
        warnings.warn("not mixed: R-hat 1.2", br.ConvergenceWarning, stacklevel=2)
        return made_by_hand(data, *BY_HAND)

    monkeypatch.setattr("bayesreg.selection.choosing.choose_lambda", warned)
    result = call("choose", table, "--target", "price", "--out", tmp_path / "one")
    assert result.exit_code == 1 and "Checks     FAIL not mixed: R-hat 1.2" in result.stdout and result.stderr == ""
    assert written(tmp_path / "one")["warnings"] == ["not mixed: R-hat 1.2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds", 1], ["folds must be a whole number of at least 2, got 1"]),
        (["--folds", "ten"], ["folds", "'ten'"]),
        (["--folds", 99], ["folds", "30", "99"]),
        (["--seed", -1], ["seed", "-1"]),
        (["--methods", "cv,aic"], ["methods must be among validation, cv", "'aic'"]),
        (["--methods", ","], ["methods must be a list of names, at least one"]),
        (["--kind", "elasticnet", "--methods", "evidence"], ["'evidence' is for --kind l2 and l1"]),
    ],
)
def test_choose_refuses(arguments, words, table, tmp_path):
    assert_refused(call("choose", table, "--target", "price", *arguments, "--out", tmp_path / "one"), *words)
    assert left_behind(tmp_path) == []


def test_choose_in_a_real_process(table, tmp_path):
    command = [sys.executable, "-m", "bayesreg.cli", "choose", "houses.csv", "--target", "price"]
    flags = ["--methods", "cv,cv-1se,evidence", "--test", "test.csv", "--out", "one"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "COLUMNS": "80"}
    finished = subprocess.run(
        [*command, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    assert max(map(len, finished.stdout.splitlines())) <= 80 and "…" not in finished.stdout
    assert {"cv", "cv-1se", "evidence"} <= {line.split()[0] for line in finished.stdout.splitlines() if line.strip()}
    choice = br.choose_lambda(data_of(table), "l2", ("cv", "cv-1se", "evidence"))
    found = pd.read_csv(tmp_path / "one" / "choice.csv", index_col="method")
    np.testing.assert_allclose(found["lambda"], choice.to_frame()["lambda"], rtol=1e-9)


def test_a_choice_at_the_end_of_the_lambdas_says_which_option_goes_on(table, tmp_path):
    flags = ["--target", "price", "--noise-scale", 0.5, "--methods", "evidence", "--out", tmp_path / "one"]
    result = call("choose", table, *flags, "--lambdas", "100,200")
    assert result.exit_code == 0, result.stderr
    words = "the smallest lambda, and smaller ones may be better: look there, --lambdas 1000,500,200,100,50,20,10,5,2,1"
    assert f"evidence: {words}" in " ".join(result.stdout.split())
    option = words.split("--lambdas ")[1]
    assert call("choose", table, *flags, "--lambdas", option, "--force").exit_code == 0
