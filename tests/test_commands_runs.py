"""The demo as a newcomer runs it: a real process, its tables, its files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayesreg as br
from bayesreg.commands.runs import Demonstration

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bayesreg.cli", "demo"]
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    return finished, folder / "runs" / "demo"


def test_it_answers_the_three_questions_on_80_columns_and_says_where_the_files_are(demo):
    finished, _ = demo
    assert finished.stderr == ""
    lines = finished.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in finished.stdout
    headings = [line for line in lines if re.match(r"[123]  ", line)]
    assert [line[0] for line in headings] == ["1", "2", "3"]
    assert len(lines) < 100
    assert re.search(r"weight_decay=0.01 +Gaussian, sd 0.471 +Ridge\(alpha=2.21\)", finished.stdout)
    assert re.search(r"loss \+ 0.01 \|w\|_1 +Laplace, mean \|w\| 0.222 +Lasso\(alpha=0.005\)", finished.stdout)
    assert finished.stdout.count("caught") == 4 and "FAIL" not in finished.stdout
    assert lines[-3].split() == ["Written", "runs/demo/report.html"] and lines[-2].split()[0] == "beside"


def test_it_writes_what_it_says(demo):
    _, folder = demo
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    tables = {
        f"summary-{kind}-{units}.csv" for kind in ("gaussian", "laplace") for units in ("original", "standardized")
    }
    assert tables | {"comparison.json", "posterior-gaussian.nc", "posterior-laplace.nc"} <= set(manifest["files"])
    assert {"report.html", "explorer.json"} <= set(manifest["files"]) and "missing_report" not in manifest
    assert {"figures/intervals-gaussian.png", "figures/map-against-fit-laplace.png"} <= set(manifest["files"])
    assert "figures/rank-laplace.png" not in manifest["files"]  # independent draws have no chain to diagnose
    assert all(
        (folder / name).read_bytes().startswith(b"\x89PNG") for name in manifest["files"] if name.endswith(".png")
    )
    assert manifest["command"] == "demo" and manifest["seed"] == 0 and manifest["passed"] is True
    assert manifest["comparisons"] == {"gaussian": True, "laplace": True} and len(manifest["data"]["sha256"]) == 64
    assert manifest["posteriors"]["gaussian"]["engine"]["method"] == "exact"
    assert sum(manifest["seconds"].values()) > 0 and manifest["environment"]["versions"]["torch"]


def test_its_numbers_are_those_of_the_package(demo):
    _, folder = demo
    data = br.load_diabetes().standardized()
    comparisons = json.loads((folder / "comparison.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    for kind, penalty in (("gaussian", br.L2(0.01, "torch-mse-mean")), ("laplace", br.L1(0.01, "torch-mse-mean"))):
        prior = br.prior_for(penalty, noise_scale=0.7, num_rows=442)
        mode = br.map_estimate(br.LinearRegression(prior, 0.7), data)
        for route in comparisons[kind]["routes"]:
            np.testing.assert_allclose(route["weights"], mode.weights, atol=1e-4)
        posterior = br.Posterior.load(folder / f"posterior-{kind}.nc")
        assert posterior.model.prior.kind == kind and posterior.model.noise_is_learned
        for units, draws in (("standardized", posterior), ("original", posterior.original_units())):
            summary = pd.read_csv(folder / f"summary-{kind}-{units}.csv", index_col="quantity")
            pd.testing.assert_frame_equal(summary, draws.summary(), check_names=False, rtol=1e-12)
        assert (summary["r_hat"] < 1.01).all() and (summary["ess_bulk"] > 400).all()


def test_a_demonstration_passes_where_both_its_verdicts_do():
    for certified in (True, False):
        for warnings in ([], ["not mixed"]):
            part = Demonstration(None, None, SimpleNamespace(passed=certified), SimpleNamespace(warnings=warnings))
            assert part.passed is (certified and not warnings)
