"""The command line: what it prints, writes and refuses, in this process and in real ones."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from commands import assert_refused, call, call_json, left_behind

import bayesreg as br
from bayesreg.commands import console

pytestmark = pytest.mark.usefixtures("without_reports")
CONVERT = ["convert", "--convention", "torch-mse-mean", "--l2", "3", "--noise-scale", "0.01", "--rows", "20"]


def run_program(*arguments, **options):
    command = [sys.executable, "-m", "bayesreg.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


# ---- convert


def test_convert_prints_the_prior_and_the_other_conventions():
    result = call(*CONVERT)
    assert result.exit_code == 0 and result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert "gaussian with standard deviation t = 0.00182574" in result.stdout
    strengths = {line[0]: line[1] for line in lines if len(line) > 2}
    assert strengths["sklearn-ridge"] == "30" and strengths["laplace-torch"] == "300000"
    assert "needs --target-scale" in result.stdout and "needs --steps-per-epoch" in result.stdout
    assert "torch-adamw is refused" in result.stdout


def test_convert_in_json_has_all_digits():
    found = call_json(*CONVERT)
    assert found["given"] == {"convention": "torch-mse-mean", "l2": 3.0, "num_rows": 20, "noise_scale": 0.01}
    assert found["prior"] == [{"kind": "gaussian", "scale": pytest.approx(0.01 / (20 * 1.5) ** 0.5, rel=1e-15)}]
    rows = {row["convention"]: row for row in found["conventions"]}
    assert rows["sklearn-ridge"]["strengths"] == {"l2": 30.0} and rows["sklearn-ridge"]["needs"] == []
    assert rows["glmnet"]["strengths"] is None and rows["glmnet"]["needs"] == ["--target-scale"]
    assert "torch-adamw" in found["refused"] and "sklearn-lasso" not in rows


def test_convert_starts_at_a_prior_too():
    found = call_json("convert", "--prior", "laplace", "--prior-scale", "0.25", "--noise-scale", 0.7, "--rows", 442)
    rows = {row["convention"]: row for row in found["conventions"]}
    assert rows["sklearn-lasso"]["strengths"]["l1"] == pytest.approx(0.49 / (442 * 0.25), rel=1e-14)
    assert found["needs"] == [] and found["prior"] == [{"kind": "laplace", "scale": 0.25}]


def test_convert_starts_at_a_product_of_priors():
    given = ("convert", "--prior", "elasticnet", "--noise-scale", 1, "--rows", 50)
    found = call_json(*given, "--gaussian-scale", 0.5, "--laplace-scale", 0.2)
    typed = {entry["convention"]: entry["typed"] for entry in found["conventions"]}
    assert typed["sklearn-elasticnet"] == pytest.approx({"alpha": 0.08 + 0.1, "l1_ratio": 0.1 / 0.18})
    assert {row["kind"]: row["scale"] for row in found["prior"]} == {"gaussian": 0.5, "laplace": 0.2}
    assert_refused(call(*given, "--gaussian-scale", 0.5), "--laplace-scale")
    assert_refused(call(*given, "--prior-scale", 0.5), "--gaussian-scale")


def test_convert_says_which_flag_names_the_prior():
    found = call_json("convert", "--convention", "sklearn-lasso", "--l1", "0.1", "--rows", 5)
    assert found["prior"] == [] and found["needs"] == ["--noise-scale"]
    assert (
        "Prior      needs --noise-scale"
        in call("convert", "--convention", "sklearn-lasso", "--l1", "0.1", "--rows", 5).stdout
    )


def test_convert_of_nothing_is_the_flat_prior_and_of_two_a_product():
    assert "flat" in call("convert", "--convention", "keras-l2", "--l2", 0, "--rows", 5, "--noise-scale", 1).stdout
    assert (
        call_json("convert", "--convention", "keras-l2", "--l2", 0, "--rows", 5, "--noise-scale", 1)["prior"][0][
            "scale"
        ]
        is None
    )
    result = call(
        "convert", "--convention", "sklearn-elasticnet", "--l2", 3, "--l1", 2, "--rows", 3, "--noise-scale", 1
    )
    assert "product of both" in result.stdout and "alpha 5, l1_ratio 0.4" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--convention", "--prior"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--prior", "laplace"], ["either --convention"]),
        (["--convention", "sklearn-ridge"], ["--l2"]),
        (["--l2", 1], ["--convention"]),
        (["--prior", "laplace"], ["--prior-scale"]),
        (["--prior-scale", 1], ["--prior"]),
        (
            ["--convention", "sklearn-rigde", "--l2", 1],
            ["unknown convention 'sklearn-rigde'", "closest first: sklearn-ridge"],
        ),
        (["--convention", "adamw", "--l2", 1], ["torch-adamw", "box"]),
        (["--convention", "sklearn-ridge", "--l1", 1], ["no L1 penalty", "sklearn-lasso"]),
        (["--convention", "sklearn-ridge", "--l2", -1], ["--l2 must be a finite number of at least 0, got -1"]),
        (["--convention", "sklearn-ridge", "--l2", "abc"], ["--l2 must be", "got 'abc'"]),
        (["--convention", "sklearn-lasso", "--l1", "nan"], ["--l1 must be", "got nan"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--rows", 0], ["--rows must be", "got 0"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--rows", "many"], ["--rows must be", "got 'many'"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--noise-scale", 0], ["--noise-scale must be", "got 0"]),
        (["--prior", "laplace", "--prior-scale", "inf"], ["--prior-scale must be", "got inf"]),
        (["--prior", "flat", "--prior-scale", 1], ["gaussian, laplace", "'flat'"]),
    ],
)
def test_convert_refuses(arguments, words):
    assert_refused(call("convert", *arguments), *words)


def test_convert_and_help_import_neither_torch_nor_numpy_and_answer_at_once():
    program = (
        "import sys\nfrom bayesreg.cli import app\nsys.argv = ['bayesreg', *{arguments!r}]\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {{'torch', 'numpy', 'pyro', 'pandas'}} & set(sys.modules), 'heavy imports'\n"
    )
    for arguments in (CONVERT, ["--help"], ["run", "--help"], ["path", "--help"]):
        before = os.times()
        finished = subprocess.run(
            [sys.executable, "-c", program.format(arguments=arguments)], capture_output=True, text=True, timeout=60
        )
        after = os.times()
        assert finished.returncode == 0, finished.stderr
        # Its own processor time, whatever else the machine does: importing torch alone takes longer.
        assert after.children_user - before.children_user < 1.0


# ---- doctor


def test_doctor_names_versions_and_the_device_or_why_there_is_none():
    found = call_json("doctor")
    assert found["python"] == sys.version.split()[0] and found["torch"] == torch.__version__
    assert found["versions"]["pyro-ppl"]
    if torch.cuda.is_available():
        assert found["cuda"]["devices"] and found["cuda"]["why_none"] is None
    else:
        assert found["cuda"]["devices"] == [] and found["cuda"]["why_none"]
    result = call("doctor")
    assert result.exit_code == 0 and torch.__version__ in result.stdout
    assert (found["cuda"]["why_none"] or found["cuda"]["devices"][0]) in result.stdout


def test_doctor_fails_where_torch_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = call_json("doctor", status=1)
    assert "cannot be imported" in found["torch"] and found["cuda"]["devices"] == []


# ---- run

LAPLACE = ["--target", "price", "--prior", "laplace", "--noise-scale", 0.5]
KNOWN = ["--prior", "gaussian", "--scale", "0.5", "--noise-scale", "0.7", "--draws", "50"]


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    """Leave out the pictures that take seconds; returns what draws them."""
    from bayesreg.commands import runs

    draw = runs._draw_diagnostics
    monkeypatch.setattr(runs, "_draw_diagnostics", lambda *_: None)
    return draw


@pytest.fixture
def table(tmp_path):
    """A small CSV file; two of its columns are related to the price."""
    generator = np.random.default_rng(5)
    features = generator.normal(size=(30, 3)) * [1.0, 10.0, 0.1] + [0.0, 100.0, 5.0]
    price = 200.0 + features @ [3.0, 0.5, 0.0] + generator.normal(size=30)
    path = tmp_path / "houses.csv"
    pd.DataFrame(features, columns=["size", "age", "rooms"]).assign(price=price).to_csv(path, index=False)
    return path


def test_run_writes_draws_summaries_figures_settings_and_a_manifest(table, tmp_path, pictures, monkeypatch):
    monkeypatch.setattr("bayesreg.commands.runs._draw_diagnostics", pictures)
    out = tmp_path / ("a folder whose name is longer than a line " * 3).strip() / "one"
    result = call("run", "--data", table, "--target", "price", *KNOWN, "--seed", 3, "--out", out)
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    assert "weights[rooms]" in result.stdout and "original units" in result.stdout
    assert any(line.split(None, 1) == ["Written", str(out / "report.html")] for line in result.stdout.splitlines()), (
        result.stdout
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "run" and manifest["seed"] == 3 and manifest["passed"] and manifest["device"] == "cpu"
    assert manifest["files"] == sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert manifest["settings"]["noise_scale"] == 0.7 and manifest["engine"]["method"] == "exact"
    rows = br.read_table(table, target="price")
    joined = np.ascontiguousarray(rows.features).tobytes() + rows.target.tobytes()
    assert manifest["data"]["sha256"] == hashlib.sha256(joined).hexdigest()
    assert set(manifest["seconds"]) == {"reading the data", "sampling", "writing", "report"}
    assert {"report.html", "explorer.json"} <= set(manifest["files"]) and "missing_report" not in manifest
    pngs = {path.stem for path in (out / "figures").iterdir() if path.read_bytes().startswith(b"\x89PNG")}
    assert pngs == {"intervals", "rank", "forest", "posterior_predictive"} and not plt.get_fignums()
    posterior = br.Posterior.load(out / "posterior.nc")
    again = br.sample(br.LinearRegression(br.GaussianPrior(0.5), 0.7), rows.standardized(), draws=50, seed=3)
    assert torch.equal(posterior.draws["weights"], again.draws["weights"])
    for units, draws in (("standardized", again), ("original", again.original_units())):
        summary = pd.read_csv(out / f"summary-{units}.csv", index_col="quantity")
        pd.testing.assert_frame_equal(summary, draws.summary(), check_names=False, rtol=1e-12)


def test_the_same_settings_from_a_file_and_from_the_run_s_own_give_the_same_draws(table, tmp_path):
    flags = ["--target", "price", "--scale", "HalfNormal(0.5)", "--method", "exact", "--seed", 3, "--draws", 20]
    outs = [tmp_path / name for name in ("flags", "file", "again")]
    call("run", "--data", table, *flags, "--out", outs[0])
    (tmp_path / "experiment.toml").write_text(
        'data = "houses.csv"\ntarget = "price"\nscale = {distribution = "HalfNormal", scale = 0.5}\n'
        'method = "exact"\nseed = 4\ndraws = 20\nout = "file"\n'
    )
    call("run", tmp_path / "experiment.toml", "--seed", 3)  # a flag wins
    call("run", outs[0] / "settings.toml", "--out", outs[2])
    tables = [(out / "summary-original.csv").read_bytes() for out in outs]
    assert tables[0] == tables[1] == tables[2] and b"prior_scale" in tables[0]


def test_run_in_the_units_of_the_data(table, tmp_path):
    arguments = [
        "run",
        "--data",
        table,
        "--target",
        "price",
        "--no-standardize",
        "--scale",
        "10,1,10",
        "--draws",
        20,
        "--out",
        tmp_path / "one",
    ]
    assert_refused(call(*arguments), "noise_scale must be given")
    found = call_json(*arguments, "--noise-scale", "HalfNormal(10)", "--no-intercept")
    assert list(found["summary"]) == ["original"] and found["settings"]["standardize"] is False
    names = [row["name"] for row in found["summary"]["original"]]
    assert names == ["weights[size]", "weights[age]", "weights[rooms]", "noise_scale"]
    assert sorted(path.name for path in (tmp_path / "one").glob("summary*")) == ["summary-original.csv"]


def test_a_run_that_has_not_converged_is_written_and_has_status_1(table, tmp_path):
    arguments = ["run", "--data", table, *LAPLACE, "--scale", 0.5]
    arguments += ["--method", "pyro-nuts", "--draws", 8, "--tune", 8, "--chains", 2, "--out", tmp_path / "one"]
    result = call(*arguments)
    assert result.exit_code == 1 and "FAIL" in result.stdout and "threshold" in result.stdout
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["passed"] is False and manifest["converged"] is False and "threshold" in manifest["warnings"][0]


@pytest.mark.parametrize(
    ("flags", "words", "others"),
    [
        (["--method", "exact"], ["--method exact", "--method auto"], "method="),
        (["--draws", 10**12], ["--draws 1,000,000,000,000", "--chains"], "draws="),
    ],
)
def test_run_s_refusals_speak_of_its_flags(flags, words, others, table, tmp_path):
    result = call("run", "--data", table, *LAPLACE, "--scale", 0.5, *flags, "--out", tmp_path / "one")
    assert_refused(result, *words)
    assert others not in result.stderr and left_behind(tmp_path) == []


def test_run_s_warnings_speak_of_its_flags():
    sampled = SimpleNamespace(
        warnings=["3 divergent transitions: raise target_acceptance, or loosen or rescale the model"]
    )
    assert "".join(map(str, console._checked(sampled))).endswith("transitions: loosen or rescale the model")


BAD_TABLES = {
    "a NaN": ("a,b,y\n1,2,3\n4,,6\n", ["b", "1"]),
    "an infinity": ("a,b,y\n1,2,3\n4,5,inf\n", ["y"]),
    "a text column": ("a,b,y\n1,red,3\n4,blue,6\n", ["b"]),
    "complex numbers": ("a,b,y\n1,1+2j,3\n4,2j,6\n", ["b"]),
    "no target": ("a,b,z\n1,2,3\n4,5,6\n", ["y"]),
    "no rows": ("a,b,y\n", ["row"]),
    "an empty file": ("", []),
    "names repeated": ("a,a,y\n1,2,3\n4,5,6\n", ["a"]),
    "no features": ("y\n1\n2\n", ["column"]),
    "lengths that differ": ("a,b,y\n1,2,3\n4,5,6,7,8\n", []),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused_and_nothing_is_written(name, tmp_path):
    text, words = BAD_TABLES[name]
    (tmp_path / "bad.csv").write_text(text)
    for command in (["run", "--out", tmp_path / "runs" / "one"], ["compare"]):
        result = call(*command, "--data", tmp_path / "bad.csv", "--target", "y", "--scale", 0.5, "--noise-scale", 1.0)
        assert_refused(result, *words)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", 0], ["scale must be a positive finite number", "0"]),
        (["--scale", -1], ["scale", "-1"]),
        (["--scale", "nan"], ["scale", "'nan'"]),
        (["--scale", "inf"], ["scale", "'inf'"]),
        (["--scale", "1e999"], ["scale", "inf"]),
        (["--scale", "0.5,0.5"], ["scale", "2", "3"]),
        (["--scale", "Normal(0, 1)"], ["unknown distribution 'Normal'"]),
        (["--scale", "HalfNormal(-1)"], ["scale of HalfNormal must be a positive number, got -1"]),
        (["--scale", "Uniform(-1, 1)"], ["positive reals, such as HalfNormal(1.0)"]),
        (["--noise-scale", 0], ["noise_scale", "0"]),
        (["--noise-scale", "1,2"], ["noise_scale"]),
        (["--loc", "1,2"], ["loc has 2 entries, but the data have 3 features"]),
        (["--loc", "HalfNormal(1)"], ["loc"]),
        (["--prior", "horseshoe"], ["gaussian", "laplace", "flat", "'horseshoe'"]),
        (["--prior", "flat"], ["scale"]),
        (["--method", "gibs"], ["method", "gibbs", "'gibs'"]),
        (["--method", "exact", "--prior", "laplace"], ["exact", "Laplace"]),
        (["--draws", 0], ["draws", "0"]),
        (["--draws", "1e3"], ["draws must be a whole number of at least 1, got '1e3'"]),
        (["--tune", -1], ["tune", "-1"]),
        (["--chains", 0], ["chains", "0"]),
        (["--seed", -1], ["seed", "-1"]),
        (["--seed", 2**63], ["seed must be a whole number from 0 to 9223372036854775807, got 9223372036854775808"]),
        (["--device", "tpu"], ["device", "'tpu'", "cuda"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--target", "prize"], ["prize", "price"]),
        (["--data", "nowhere.csv"], ["nowhere.csv"]),
        (["--data", "diabetes"], ["target", "left out"]),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_written(arguments, words, table, tmp_path):
    given = {"--data": table, "--target": "price", "--scale": 0.5, "--out": tmp_path / "runs" / "one"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert_refused(call("run", *(word for pair in given.items() for word in pair)), *words)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scal = 0.5", ["unknown key 'scal'", "closest first: scale"]),
        ("[run]\nscale = 0.5", ["unknown key 'run'", "scale"]),
        ("scale = nan", ["scale", "nan"]),
        ("scale = 0.5\ndraws = 1.5", ["draws", "1.5"]),
        ("scale = 0.5\nstandardize = 'no'", ["standardize", "true or false"]),
        ("scale = {distribution = 'HalfNormal', rate = 1.0}", ["HalfNormal", "scale"]),
        ("scale = ", ["not a TOML file"]),
    ],
)
def test_bad_files_are_refused_and_nothing_is_written(text, words, table, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    arguments = ["--data", table, "--target", "price", "--out", tmp_path / "runs" / "one"]
    assert_refused(call("run", tmp_path / "bad.toml", *arguments), *words)
    assert left_behind(tmp_path) == []


def test_a_file_that_is_not_there_is_named_and_the_folder_must_be_given(table, tmp_path):
    assert_refused(call("run", tmp_path / "nowhere.toml"), "experiment must be a TOML file, got", "nowhere.toml'")
    assert_refused(call("run", "--data", table, "--target", "price", *KNOWN), "--out")
    assert_refused(call("run"), "data is missing")


def test_the_demo_checks_its_seed_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("bayesreg.commands.runs.run_demo", lambda *_: pytest.fail("work"))
    for seed in ("one", 2**63):
        assert_refused(
            call("demo", "--seed", seed, "--out", tmp_path / "one"), "seed must be a whole number", str(seed)
        )
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_figure_that_cannot_be_drawn_does_not_cost_the_draws(json_wanted, table, tmp_path, pictures, monkeypatch):
    def no_room(*_):
        raise ValueError("no\nroom")

    monkeypatch.setattr("bayesreg.commands.runs._draw_diagnostics", pictures)
    monkeypatch.setattr("bayesreg.plots.plot_posterior_intervals", no_room)
    monkeypatch.setattr("bayesreg.plots.plot_diagnostics", lambda _: {"rank": Broken(), "forest": plt.figure()})
    arguments = ["run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "one"]
    result = call(*arguments, *["--json"] * json_wanted)
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["missing_figures"] == ["intervals (ValueError: no room)", "rank (RuntimeError: no letters)"]
    if not json_wanted:
        assert "Figures    not drawn: intervals (ValueError: no room)" in result.stdout
    assert br.Posterior.load(tmp_path / "one" / "posterior.nc").num_draws == 50
    assert [path.name for path in (tmp_path / "one" / "figures").iterdir()] == ["forest.png"]
    assert not plt.get_fignums()


class Broken:
    def savefig(self, *_, **__):
        raise RuntimeError("no letters")


def test_a_figure_that_cannot_be_written_is_a_failed_run(table, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    result = call("run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "one")
    assert_refused(result, "cannot write the output folder", "No space")
    assert left_behind(tmp_path) == [] and not plt.get_fignums()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(table, tmp_path):
    result = call("run", "--data", table, "--target", "price", *KNOWN, "--device", "cuda", "--out", tmp_path / "one")
    assert_refused(result, "cuda")
    assert left_behind(tmp_path) == []


def awkward(name):
    generator = np.random.default_rng(7)
    features = generator.normal(size=(12, 3))
    target = features @ [1.0, -1.0, 0.5] + 0.1 * generator.normal(size=12)
    if name == "fewer rows than columns":
        features, target = features[:2], target[:2]
    elif name == "one row":
        features, target = features[:1], target[:1]
    elif name == "duplicate columns":
        features[:, 2] = features[:, 1]
    elif name == "a constant column":
        features[:, 2] = 4.0
    elif name == "a constant target":
        target[:] = 3.0
    elif name == "columns 1e12 apart":
        features[:, 2] *= 1e12
    elif name == "an offset of 1e8":
        features += 1e8
    elif name == "integers":
        features = features.round(0).astype(int)
    return pd.DataFrame(features, columns=["a", "b", "c"]).assign(y=target)


SHORT_RANK = ["fewer rows than columns", "one row", "duplicate columns", "a constant column"]
FULL_RANK = ["a constant target", "columns 1e12 apart", "an offset of 1e8", "integers"]


@pytest.mark.parametrize("name", SHORT_RANK + FULL_RANK)
def test_awkward_data_work_under_a_proper_prior_and_are_refused_where_the_flat_one_is_improper(name, tmp_path):
    awkward(name).to_csv(tmp_path / "a.csv", index=False)
    arguments = ["--data", tmp_path / "a.csv", "--target", "y", "--noise-scale", 0.5]
    found = call_json("run", *arguments, "--scale", 0.5, "--draws", 20, "--out", tmp_path / "proper")
    assert all(row["mean"] is not None for row in found["summary"]["original"])
    flat = call("run", *arguments, "--prior", "flat", "--draws", 20, "--out", tmp_path / "flat")
    if name in SHORT_RANK:
        assert_refused(flat, "FlatPrior", "rank")
        assert left_behind(tmp_path) == ["proper"]
    else:
        assert flat.exit_code == 0, flat.stderr


def test_an_existing_folder_is_refused_without_force_and_only_a_run_is_replaced(table, tmp_path):
    arguments = ["run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "one"]
    assert call(*arguments).exit_code == 0
    before = (tmp_path / "one" / "manifest.json").read_text()
    assert_refused(call(*arguments), "exists", "--force")
    assert (tmp_path / "one" / "manifest.json").read_text() == before
    assert call(*arguments, "--force", "--seed", 8).exit_code == 0
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["seed"] == 8
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    assert_refused(call(*arguments[:-1], tmp_path / "thesis", "--force"), "not a bayesreg run")
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == "mine"
    assert left_behind(tmp_path) == ["one", "thesis"]


def test_an_interrupt_leaves_nothing_and_has_its_own_status(table, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bayesreg.posteriors.posterior.Posterior.save", interrupted)
    result = call("run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "runs" / "one")
    assert result.exit_code == 130 and "interrupted" in result.stderr and left_behind(tmp_path) == []


def interrupt_the_draws(monkeypatch, after):
    """Interrupt hmc in the middle of a trajectory."""
    from bayesreg.inference import rotation

    step, count = rotation._trajectory, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == after:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(rotation, "_trajectory", interrupted)


HMC = ["--prior", "laplace", "--scale", 0.5, "--noise-scale", 0.7, "--method", "hmc", "--chains", 8, "--tune", 50]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_run_is_written_with_the_draws_that_were_made(as_json, table, tmp_path, monkeypatch, pictures):
    interrupt_the_draws(monkeypatch, after=400)
    flags = [*HMC, "--draws", 1000, "--out", tmp_path / "one"]
    result = call("run", "--data", table, "--target", "price", *flags, *(["--json"] if as_json else []))
    assert result.exit_code == 130
    assert result.stderr == (
        "bayesreg: interrupted; writing the draws made so far; interrupted again, nothing is written\n"
    )
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    posterior = br.Posterior.load(tmp_path / "one" / "posterior.nc")
    assert posterior.interrupted and 4 <= posterior.num_draws < 400
    assert manifest["interrupted"] is True and manifest["passed"] is False and manifest["converged"] is False
    said = (
        f"sampling was interrupted: 8 chains of {posterior.num_draws} draws are kept "
        "(asked for: 8 chains of 1,000 draws)"
    )
    assert manifest["warnings"][0] == said and manifest["engine"]["draws_asked"] == 1000
    if as_json:
        assert json.loads(result.stdout)["interrupted"] is True
    else:
        printed = " ".join(result.stdout.split())
        assert said in printed and f"8 chains x {posterior.num_draws} draws by hmc" in printed
    assert left_behind(tmp_path) == ["one"]


@pytest.mark.parametrize("where", ["posteriors.posterior.Posterior.save", "commands.runs.write_posterior"])
def test_a_second_interrupt_leaves_nothing(where, table, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    interrupt_the_draws(monkeypatch, after=400)
    monkeypatch.setattr(f"bayesreg.{where}", interrupted)
    flags = [*HMC, "--draws", 1000, "--out", tmp_path / "runs" / "one"]
    result = call("run", "--data", table, "--target", "price", *flags)
    assert result.exit_code == 130 and "nothing was written" in result.stderr and left_behind(tmp_path) == []


def test_an_interrupted_demo_leaves_nothing(tmp_path, monkeypatch):
    """Its draws are a part: half of a demonstration is none."""
    from bayesreg.inference.record import Record

    write = Record.write

    def interrupted(record, values):
        write(record, values)
        raise KeyboardInterrupt

    monkeypatch.setattr(Record, "write", interrupted)
    result = call("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 130 and "nothing was written" in result.stderr and left_behind(tmp_path) == []


def test_a_run_that_is_not_interrupted_says_so(table, tmp_path):
    found = call_json("run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "one", status=0)
    assert found["interrupted"] is False


def test_a_bug_is_not_taken_for_bad_input(table, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("bayesreg.posteriors.posterior.Posterior.save", broken)
    result = call("run", "--data", table, "--target", "price", *KNOWN, "--out", tmp_path / "runs" / "one")
    assert isinstance(result.exception, RuntimeError) and left_behind(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_a_real_process_leaves_nothing(sent, status, table, tmp_path):
    arguments = [
        "run",
        "--data",
        table,
        "--target",
        "price",
        "--prior",
        "laplace",
        "--scale",
        "0.5",
        "--method",
        "pyro-nuts",
    ]
    command = [
        sys.executable,
        "-m",
        "bayesreg.cli",
        *arguments,
        "--draws",
        "1000000",
        "--tune",
        "1000000",  # an interrupt in the warm-up: there are no draws to keep
        "--out",
        tmp_path / "runs" / "one",
    ]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    # Where the interrupt met code that was being made from a string, as dataclasses are in an import, CPython ends with
    # the signal itself, though it was handled: a shell has the status 130 from both.
    assert process.returncode == status or (sent, process.returncode) == (signal.SIGINT, -signal.SIGINT)
    assert "Traceback" not in errors and left_behind(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("times", [1, 2])
def test_a_real_interrupt_writes_the_draws_and_two_of_them_nothing(times, tmp_path):
    """On a terminal, whose bar says when draws are being made."""
    flags = ["--prior", "laplace", "--scale", "0.25", "--method", "gibbs", "--draws", "1000000", "--chains", "2"]
    command = [sys.executable, "-m", "bayesreg.cli", "run", "--data", "diabetes", *flags, "--out", tmp_path / "one"]
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [*map(str, command), "--json"], stdout=subprocess.PIPE, stderr=end, env={**os.environ, "TERM": "xterm"}
    )
    os.close(end)
    shown = b""

    def wait_for(words):
        nonlocal shown
        while words not in shown:
            shown += os.read(terminal, 4096)

    wait_for(b"draws")
    process.send_signal(signal.SIGINT)
    if times == 2:
        wait_for(b"writing the draws made so far")
        process.send_signal(signal.SIGINT)
        wait_for(b"nothing was written")
    else:
        wait_for(b"writing the draws made so far")
    while True:  # what is not read may stop the process
        try:
            if not os.read(terminal, 4096):
                break
        except OSError:  # the other end is closed
            break
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    os.close(terminal)
    if times == 2:
        assert left_behind(tmp_path) == [] and out == b""
        return
    manifest = json.loads(out)
    assert manifest["interrupted"] is True and manifest["engine"]["draws_asked"] == 1_000_000
    assert left_behind(tmp_path) == ["one"]
    posterior = br.Posterior.load(tmp_path / "one" / "posterior.nc")
    assert posterior.interrupted and posterior.num_draws >= 4


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_nothing(table, tmp_path):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from bayesreg.cli import main; main()"
    )
    arguments = [
        "run",
        "--data",
        table,
        "--target",
        "price",
        "--scale",
        0.5,
        "--draws",
        5000,
        "--out",
        tmp_path / "runs" / "one",
    ]
    command = [sys.executable, "-c", limited, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 2 and finished.stderr.startswith("bayesreg: "), finished.stderr
    assert "Traceback" not in finished.stderr and left_behind(tmp_path) == []


# ---- compare


def test_compare_certifies_every_route_and_shows_that_the_wrong_lambda_fails(table):
    arguments = ["compare", "--data", table, *LAPLACE, "--scale", 0.1]
    found = call_json(*arguments, "--seed", 1)
    assert found["passed"] and all(route["passed"] for route in found["routes"])
    assert {"map_estimate", "Pyro AutoDelta", "SGD, proximal step", "SGD, subgradient", "scikit-learn"} <= {
        route["name"] for route in found["routes"]
    }
    assert [route["passed"] for route in found["wrong_lambda"]] == [False, False]
    data = br.read_table(table, target="price").standardized()
    mode = br.map_estimate(br.LinearRegression(br.LaplacePrior(0.1), 0.5), data)
    np.testing.assert_allclose(found["routes"][0]["weights"], mode.weights, atol=1e-8)
    assert found["penalty"]["l1"] == pytest.approx(0.25 / (30 * 0.1), rel=1e-12) and found["settings"]["seed"] == 1


def test_compare_takes_an_elastic_net(table):
    arguments = ["--data", table, "--target", "price", "--prior", "elasticnet", "--noise-scale", 0.5]
    scales = ["--gaussian-scale", 0.5, "--laplace-scale", 0.1]
    found = call_json("compare", *arguments, *scales)
    assert found["passed"] and min(found["penalty"]["l1"], found["penalty"]["l2"]) > 0
    shown = call("compare", *arguments, *scales).stdout
    assert f"L1 and L2, lambda = {found['penalty']['l1']:.6g} and {found['penalty']['l2']:.6g}" in shown
    learned = ["--gaussian-scale", "HalfNormal(1.0)", "--laplace-scale", 0.1]
    assert_refused(call("compare", *arguments, *learned), "gaussian_scale must be a positive number", "HalfNormal")


def test_compare_has_status_1_where_a_route_fails(table, monkeypatch):
    monkeypatch.setattr("bayesreg.comparison.EXACT_TOLERANCE", -1.0)
    monkeypatch.setattr("bayesreg.inference.auto_delta._MOST_STEPS", 20)
    arguments = ["--data", table, "--target", "price", "--scale", 0.5, "--noise-scale", 0.5]
    result = call("compare", *arguments)
    assert result.exit_code == 1 and result.stderr == ""
    verdicts = {line.split("  ")[0].strip(): line.split()[-1] for line in result.stdout.splitlines() if line.strip()}
    assert verdicts["map_estimate"] == "FAIL" and verdicts["wrong: 2 lambda"] == "caught"
    assert "lambda = 0.0333333 (mean-half-squared)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "HalfNormal(1.0)"], ["Give --scale a number", "or use `bayesreg run`"]),
        (["--scale", "0.5,0.5"], ["2", "3"]),
        (["--prior", "horseshoe"], ["'horseshoe'"]),
        (["--target", "prize"], ["prize"]),
    ],
)
def test_compare_refuses(arguments, words, table):
    given = {"--data": table, "--target": "price", "--scale": 0.5} | dict(
        zip(arguments[::2], arguments[1::2], strict=True)
    )
    assert_refused(call("compare", *(word for pair in given.items() for word in pair)), *words)


def test_compare_refuses_a_joint_mode_that_does_not_exist(tmp_path):
    awkward("fewer rows than columns").to_csv(tmp_path / "a.csv", index=False)
    result = call("compare", "--data", tmp_path / "a.csv", "--target", "y", "--scale", 0.5)
    assert_refused(result, '--noise-scale "LogNormal(0, 1)"', "or use `bayesreg run`")
    assert not any(word in result.stderr for word in ("dist.", "sample()", "noise_scale="))


# ---- the frame


def test_the_version():
    result = call("--version")
    assert result.exit_code == 0 and result.stdout.split() == ["bayesreg", br.__version__]


@pytest.mark.filterwarnings("default")
def test_what_libraries_warn_of_is_one_line_and_that_of_missing_letters_none(monkeypatch):
    def warned():
        warnings.warn("Glyph 26684 (X) missing from font(s) DejaVu Sans.", stacklevel=2)
        warnings.warn("a constant\ntarget", stacklevel=2)
        return {"python": "", "platform": "", "versions": {}}

    monkeypatch.setattr("bayesreg.cli.environment", warned)
    shown = warnings.showwarning
    result = call("doctor")
    assert result.exit_code == 0 and result.stderr == "bayesreg: a constant target\n"
    assert warnings.showwarning is shown


def test_usage_errors_have_status_2():
    for arguments in (["nonsense"], ["convert", "--nonsense"], ["convert", "--rows"]):
        result = call(*arguments)
        assert result.exit_code == 2 and result.stdout == ""


def test_errors_of_a_real_process_are_one_line_without_a_traceback():
    finished = run_program("convert", "--convention", "adamw", "--l2", 1)
    assert finished.returncode == 2 and finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1 and "Traceback" not in finished.stderr
