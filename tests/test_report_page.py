"""The report that a run ends with, `bayesreg report`, and what both do where something is missing."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from commands import assert_refused, call, call_json, short_reports

import bayesreg as br
from bayesreg.report import page
from bayesreg.report.conventions import check_convention
from bayesreg.report.render import safe_json

pytestmark = pytest.mark.usefixtures("short_reports")
EVIL = "</script><b>bold</b>"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV file; a column is called like code, and two are related to the target."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(40, 3)), columns=["dose", EVIL, "age"])
    frame["y"] = frame["dose"] - 0.5 * frame[EVIL] + 0.5 * random.normal(size=40)
    path = tmp_path_factory.mktemp("tables") / "small.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def runs(table, tmp_path_factory):
    """A run of each command on the table, by the command."""
    folder = tmp_path_factory.mktemp("runs")
    data = ["--data", table, "--target", "y"]
    laplace = ["--prior", "laplace", "--scale", 0.3, "--noise-scale", 0.5]
    commands = {
        "run": [*data, *laplace],
        "compare": [*data, *laplace],
        "path": [*data, "--kind", "l2"],
        "choose": [*data, "--kind", "l1", "--noise-scale", 0.5, "--methods", "cv,evidence"],
    }
    for command, arguments in commands.items():
        with short_reports():
            result = call(command, *arguments, "--out", folder / command)
        assert result.exit_code == 0 and result.stderr == "", result.stderr
        where = ["Written", str(folder / command / "report.html")]
        assert result.stdout.splitlines()[-1].split(None, 1) == where
    return {command: folder / command for command in commands}


class Reader(HTMLParser):
    """The texts of a page by element, its addresses, and whether what is opened is closed."""

    VOID = ("meta", "link", "input", "br", "img", "hr")

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.addresses, self.scripts = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("href", "src", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open[-1:] in (["script"], ["style"]) else self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read(folder):
    page = Reader((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def copy_of(folder, to):
    return shutil.copytree(folder, to)


@pytest.mark.parametrize("command", ["run", "compare", "path", "choose"])
def test_every_command_ends_with_a_page_that_fetches_nothing(runs, command):
    folder = runs[command]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"report.html", "explorer.json"} <= set(manifest["files"]) and "missing_report" not in manifest
    page = read(folder)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert page.text.count("<b>bold</b>") >= (1 if command in ("run",) else 0)
    assert manifest["data"]["sha256"] in page.text and "numpy" in page.text
    document = json.loads(next(text for text in page.scripts if text.startswith('{"explorer"')))
    assert document["explorer"] == json.loads((folder / "explorer.json").read_text())
    assert document["explorer"]["features"] == ["dose", EVIL, "age"]
    for kind in ("l2", "l1"):
        assert np.shape(document["explorer"]["axes"][kind]["map"])[1] == 3
    assert (folder / "report.html").stat().st_size < 8e6


def test_a_run_says_its_verdict_and_its_numbers(runs, table):
    page, data = read(runs["run"]), br.read_table(table, target="y").standardized()
    model = br.LinearRegression(br.LaplacePrior(0.3), 0.5)
    penalty = br.penalty_for(model.prior, noise_scale=0.5, num_rows=40)
    verdict = f"Under a Laplace prior of scale 0.3 (lambda = {penalty.strength:.3g} in mean-half-squared, at noise "
    assert verdict + "scale 0.5) the MAP is certified, and the draws are independent." in page.text
    posterior = br.Posterior.load(runs["run"] / "posterior.nc")
    row = posterior.original_units().summary().loc["weights[dose]"]
    mode = float(br.map_estimate(model, data).original_units().weights[0])
    assert f"dose {mode:.3f} {row['mean']:.3f} {row.iloc[2]:.3f} to {row.iloc[3]:.3f}".replace("-", "−") in page.text
    assert f"{int((posterior.draws['weights'].shape[0]) * posterior.num_draws):,} independent draws" in page.text
    assert re.search(r"The 90% predictive intervals hold \d+\.\d% of the 40 observed targets", page.text)
    marks = json.loads((runs["run"] / "explorer.json").read_text())["axes"]["l1"]
    assert marks["lambdas"][marks["marks"][0]["index"]] == pytest.approx(penalty.strength, rel=1e-6)


def test_a_comparison_and_a_choice_say_theirs(runs):
    text = read(runs["compare"]).text
    assert "the penalised fit is certified as the MAP; nothing was drawn." in text
    assert "SGD, proximal step" in text and "wrong on purpose: 2 lambda" in text and "caught" in text
    chosen = pd.read_csv(runs["choose"] / "choice.csv", index_col="method")["lambda"]
    text = read(runs["choose"]).text
    assert f"chosen lambda: cv {chosen['cv']:.3g}, evidence {chosen['evidence']:.3g}." in text
    axis = json.loads((runs["choose"] / "explorer.json").read_text())["axes"]["l1"]
    marked = [(mark["label"], axis["lambdas"][mark["index"]]) for mark in axis["marks"]]
    assert marked == [
        ("cv", pytest.approx(chosen["cv"], rel=1e-6)),
        ("evidence", pytest.approx(chosen["evidence"], rel=1e-6)),
    ]
    assert "Each of the 100 fits is certified" in read(runs["path"]).text


def test_report_writes_it_anew_without_the_data_and_lists_it(runs, table, tmp_path):
    folder = copy_of(runs["path"], tmp_path / "one")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "report.html").unlink()
    manifest["files"].remove("report.html")
    manifest["settings"]["data"] = manifest["data"]["source"] = str(tmp_path / "moved.csv")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = call_json("report", folder, "--convention", "sklearn-ridge")
    assert found["passed"] and found["report"] == str(folder / "report.html")
    assert '"convention":"sklearn-ridge"' in (folder / "report.html").read_text()
    assert "report.html" in json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted(path.name for path in folder.glob(".*")) == []
    # As a run that is complete, it can be replaced.
    arguments = ["path", table, "--target", "y", "--lambdas", 0.1, "--out", folder, "--force"]
    assert call(*arguments).exit_code == 0


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_without_stored_numbers_the_data_are_read_again_if_they_are_the_same(runs, table, tmp_path, change):
    folder, source = copy_of(runs["path"], tmp_path / "one"), tmp_path / "small.csv"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["data"] = manifest["data"]["source"] = str(source)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    stored = json.loads((folder / "explorer.json").read_text())
    shutil.copy(table, source)
    (folder / "explorer.json").unlink()
    assert call("report", folder).exit_code == 0
    assert json.loads((folder / "explorer.json").read_text()) == stored
    (folder / "explorer.json").unlink()
    if change == "moved":
        source.unlink()
    else:
        pd.read_csv(source).assign(age=0.5).to_csv(source, index=False)
    assert call("report", folder).exit_code == 0
    wanted = {"moved": "cannot be read again", "changed": "have changed since: their hash is another"}[change]
    assert "There is no explorer" in read(folder).text and wanted in read(folder).text
    assert not (folder / "explorer.json").exists()


def test_report_of_a_run_of_an_older_version_makes_the_numbers_from_its_draws(runs, tmp_path):
    folder = copy_of(runs["run"], tmp_path / "one")
    stored = json.loads((folder / "explorer.json").read_text())
    for name in ("explorer.json", "report.html"):
        (folder / name).unlink()
    result = call("report", folder)
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout.startswith("Under a Laplace prior") and f"Written    {folder / 'report.html'}" in result.stdout
    assert json.loads((folder / "explorer.json").read_text()) == stored


def test_a_verdict_that_failed_is_said_and_has_status_1(runs, tmp_path):
    folder = copy_of(runs["run"], tmp_path / "one")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["warnings"] = ["R-hat of weights[dose] is 1.2"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = call("report", folder)
    assert result.exit_code == 1 and "certified, but the draws did not pass their checks." in result.stdout
    assert "The run warned: R-hat of weights[dose] is 1.2." in read(folder).text


def test_report_refuses_what_is_no_run(runs, tmp_path):
    assert_refused(call("report", tmp_path / "nowhere"), "RUN_DIR must be the folder of a run", "nowhere")
    assert_refused(call("report", tmp_path), "is not a bayesreg run")
    assert_refused(call("report", runs["run"], "--convention", "sklearn-rigde"), "unknown convention", "sklearn-ridge")
    folder = copy_of(runs["run"], tmp_path / "one")
    (folder / "posterior.nc").unlink()
    assert_refused(call("report", folder), "has no posterior.nc", "run the command again")
    (folder / "manifest.json").write_text(json.dumps({"created_by": "bayesreg", "files": [], "command": "dance"}))
    assert_refused(call("report", folder), "report.html, which bayesreg did not write")
    (folder / "report.html").unlink()
    (folder / "explorer.json").unlink()
    assert_refused(call("report", folder), "is of the command 'dance'")
    folder = copy_of(runs["path"], tmp_path / "old")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["largest_relative_gap"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(call("report", folder), "has no 'largest_relative_gap'", "run the command again")


@pytest.mark.parametrize(
    ("command", "convention", "words"),
    [
        ("run", "sklearn-ridge", ["an L1 penalty", "a Laplace prior", "no L1 penalty", "sklearn-lasso"]),
        ("compare", "Keras-L2", ["an L1 penalty", "got 'keras-l2'", "keras-l1"]),
        ("path", "sklearn-lasso", ["an L2 penalty", "a Gaussian prior", "sklearn-ridge"]),
        ("choose", "laplace-torch", ["an L1 penalty", "glmnet"]),
    ],
)
def test_a_convention_without_such_a_penalty_is_refused_and_nothing_written(runs, command, convention, words, tmp_path):
    folder = copy_of(runs[command], tmp_path / "one")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = call("report", folder, "--convention", convention)
    assert_refused(result, "convention must be one with", *words)
    assert convention.lower() not in result.stderr.split("accepted:")[1]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("command", "convention"), [("run", "keras-l1"), ("path", "sklearn-ridge")])
def test_a_convention_with_such_a_penalty_is_the_one_of_the_page(runs, command, convention, tmp_path):
    folder = copy_of(runs[command], tmp_path / "one")
    assert call("report", folder, "--convention", convention).exit_code == 0
    document = json.loads(next(text for text in read(folder).scripts if text.startswith('{"explorer"')))
    assert document["convention"] == convention
    assert command == "path" or f"in {convention}, at noise" in read(folder).text


def test_a_convention_whose_factor_is_not_known_is_refused(runs, tmp_path):
    folder = copy_of(runs["path"], tmp_path / "one")
    (folder / "explorer.json").write_text(json.dumps({"axes": {}, "notes": ["There is no explorer: for a reason."]}))
    assert call("report", folder, "--convention", "mean-half-squared").exit_code == 0
    refused = call("report", folder, "--convention", "sklearn-ridge")
    assert_refused(refused, "convention must be 'mean-half-squared'", "got 'sklearn-ridge'", "for a reason")


@pytest.mark.parametrize(
    ("prior", "convention", "accepted"),
    [("elasticnet", "sklearn-ridge", "sklearn-elasticnet"), ("elasticnet", "celer", "glmnet"), ("flat", "celer", None)],
)
def test_an_elastic_net_needs_both_penalties_and_a_flat_prior_none(prior, convention, accepted):
    manifest = {"command": "run", "model": {"prior": {"kind": prior}}}
    if accepted is None:
        check_convention(convention, manifest)
    else:
        with pytest.raises(ValueError, match=f"an L2 and an L1 penalty.* got '{convention}'.*accepted: .*{accepted}"):
            check_convention(convention, manifest)


def test_a_demo_has_both_priors():
    with pytest.raises(ValueError, match="which the demo's two priors are; got 'sklearn-ridge'"):
        check_convention("sklearn-ridge", {"command": "demo"})
    check_convention("glmnet", {"command": "demo"})


def test_fits_of_the_explorer_that_are_not_certified_are_said_to_be_so(runs, tmp_path):
    folder = copy_of(runs["run"], tmp_path / "one")
    stored = json.loads((folder / "explorer.json").read_text())
    stored["axes"]["l2"]["largest_gap"] = 3e-7
    (folder / "explorer.json").write_text(json.dumps(stored))
    made = page.page_of(folder, json.loads((folder / "manifest.json").read_text()))
    assert made["certified"]["l2"].startswith("Not every fit is certified: the largest relative duality gap is 3e-07")
    number_of = len(stored["axes"]["l1"]["lambdas"])
    assert made["certified"]["l1"].startswith(f"Each of the {number_of} fits is certified")


def test_a_report_that_cannot_be_made_costs_nothing_else(table, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no room\nfor a page")

    monkeypatch.setattr("bayesreg.report.write.render", broken)
    arguments = ["path", table, "--target", "y", "--lambdas", 0.1, "--out", tmp_path / "one"]
    result = call(*arguments)
    assert result.exit_code == 0 and result.stdout.splitlines()[-1].split(None, 1) == ["Written", str(tmp_path / "one")]
    assert result.stderr.splitlines() == ["bayesreg: there is no report: RuntimeError: no room for a page"]
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["missing_report"] == "RuntimeError: no room for a page" and "path.csv" in manifest["files"]
    assert not list((tmp_path / "one").glob("report.html"))


def test_a_report_that_cannot_be_written_is_an_error_and_leaves_nothing(table, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bayesreg.report.write.put_text", full)
    arguments = ["path", table, "--target", "y", "--lambdas", 0.1, "--out", tmp_path / "one"]
    assert_refused(call(*arguments), "No space left on device", "--out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prior", "flat"], "Under a flat prior (lambda = 0, at noise scale"),
        (
            ["--prior", "elasticnet", "--gaussian-scale", 0.5, "--laplace-scale", 0.2],
            "an elastic net's prior of scales 0.5 (Gaussian) and 0.2 (Laplace)",
        ),
        (["--scale", "0.5,0.1,0.2"], "of scale one a feature (one lambda a feature"),
        (["--scale", "HalfNormal(1.0)"], "a Gaussian prior of a learned scale (posterior mean"),
        (["--scale", 0.5, "--loc", 1], "a Gaussian prior of scale 0.5"),
        (["--scale", 0.5, "--no-intercept", "--no-standardize", "--noise-scale", 1], "a Gaussian prior of scale 0.5"),
    ],
)
def test_every_prior_has_a_page(flags, words, table, tmp_path):
    result = call("run", "--data", table, "--target", "y", *flags, "--draws", 200, "--out", tmp_path / "one")
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    page = read(tmp_path / "one")
    assert words in page.text and "is certified" in page.text
    axes = json.loads((tmp_path / "one" / "explorer.json").read_text())["axes"]
    on_the_axis = flags[1] in ("HalfNormal(1.0)", 0.5) and "--loc" not in flags
    assert len(axes["l2"]["marks"]) == int(on_the_axis) and axes["l1"]["marks"] == []


def test_a_path_on_data_that_say_nothing_of_the_noise_has_a_page_without_an_explorer(tmp_path):
    random = np.random.default_rng(0)
    features = random.normal(size=(12, 2))
    pd.DataFrame(features, columns=["a", "b"]).assign(y=features[:, 0]).to_csv(tmp_path / "exact.csv", index=False)
    assert call("path", tmp_path / "exact.csv", "--target", "y", "--out", tmp_path / "one").exit_code == 0
    assert "There is no explorer: the data say nothing of the noise" in read(tmp_path / "one").text


@pytest.mark.parametrize("text", [EVIL, "<!--", "]]>", "\u2028", "a & b", "größe", '"'])
def test_json_in_a_script_is_harmless_and_says_the_same(text):
    written = str(safe_json({text: [text, 1.5, float("nan")]}))
    assert json.loads(written) == {text: [text, 1.5, None]}
    assert not set("<>&\u2028\u2029") & set(written)


def test_columns_called_as_those_of_the_path_are_told_apart_and_its_explorer_opens_on_its_own_prior(tmp_path):
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(30, 2)), columns=["test_loss", "prior_scale_x"])
    frame.assign(y=frame["test_loss"] + random.normal(size=30)).to_csv(tmp_path / "named.csv", index=False)
    found = ["--data", tmp_path / "named.csv", "--target", "y", "--kind", "l1", "--noise-scale", 1, "--num-lambdas", 3]
    assert call("path", *found, "--out", tmp_path / "run").exit_code == 0
    made = page.page_of(tmp_path / "run", json.loads((tmp_path / "run" / "manifest.json").read_text()))
    assert made["explorer"]["first"] == "l1"
    rows = made["path"]["rows"]
    assert [row["test_loss"] for row in rows] == [None] * 3 and not any(" and " in row["scale"] for row in rows)


def test_without_factors_lambda_is_said_in_the_convention_that_it_is_in():
    words = page._where({"l2": 0.0667, "l1": 0.0}, {"axes": {}}, "sklearn-ridge", 0.6)
    assert words == "lambda = 0.0667 in mean-half-squared, at noise scale 0.6"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "svi"], "the draws are those of an approximation"),
        (["--method", "nuts", "--chains", 1, "--draws", 20, "--tune", 20], "the draws did not pass their checks"),
    ],
)
def test_an_approximation_and_a_single_chain_have_a_page(flags, words, table, tmp_path):
    flags = ["--data", table, "--target", "y", "--scale", 0.5, "--noise-scale", 0.5, *flags]
    call("run", *flags, "--out", tmp_path / "run")
    assert words in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_the_notes_of_the_choices_are_in_the_words_of_the_command_line():
    row = {"method": "cv", "lambda": 5.0, "prior_scale": 0.01, "lower_5": float("nan"), "upper_95": float("nan")}
    row |= {"held_out_loss": 0.4, "test_loss": float("nan"), "num_nonzero": 3, "note": "look there, lambdas=[50,20,10]"}
    (made,) = page._choice_rows(pd.DataFrame([row]))
    assert made["note"] == "look there, --lambdas 50,20,10" and made["interval"] == "–"
