"""The README does what it says: its code runs, its commands exist, its table is the dictionary."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks import render, render_paths
from typer.testing import CliRunner

import bayesreg as br
from bayesreg.cli import app
from bayesreg.experiment.settings import RunSettings
from bayesreg.objectives import CONVENTIONS
from bayesreg.translation import translate_prior

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "tests" / "benchmarks" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
KNOWN = {"num_rows": 20, "noise_scale": 0.5, "target_scale": 3.0, "steps_per_epoch": 4}


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found
    return found


def commands(program):
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith(program)]


def test_every_block_is_one_of_those_tested_here():
    languages = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    assert set(languages[::2]) == {"bash", "python", "text", "toml"} and set(languages[1::2]) == {""}
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert sorted(lines) == sorted(commands("python3 ") + commands("bayesreg ") + ["source .venv/bin/activate"])


def test_the_two_single_commands_make_an_environment_from_nothing_but_this_folder():
    demo, tests = commands("python3 ")
    assert demo.split(" && ") == ["python3 -m venv .venv", ".venv/bin/pip install .", ".venv/bin/bayesreg demo"]
    assert tests.split(" && ") == ["python3 -m venv .venv", '.venv/bin/pip install -e ".[test]"', ".venv/bin/pytest"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"bayesreg": "bayesreg.cli:main"} and "test" in project["optional-dependencies"]
    assert re.search(r"Python 3\.(\d+) or newer", README)[1] == re.search(r">=3\.(\d+)", project["requires-python"])[1]


def test_ci_runs_the_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
    extraction = re.search(r"tests=\$\((.*)\)$", script, re.MULTILINE)[1]
    found = subprocess.run(["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == commands("python3 ")[1:]


@pytest.mark.parametrize(("code", "output"), list(zip(blocks("python"), blocks("text"), strict=True)))
def test_the_python_prints_what_stands_below_it(code, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})  # the README's own text
    shown = capsys.readouterr()
    assert shown.err == ""
    number = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
    assert number.sub("#", shown.out).split() == number.sub("#", output).split()
    promised, printed = (list(map(float, number.findall(text))) for text in (output, shown.out))
    assert printed == pytest.approx(promised, rel=0.01, abs=1e-8)  # the last digit shown may be rounded otherwise


@pytest.mark.usefixtures("short_reports")
def test_the_command_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment.toml").write_text(blocks("toml")[0], encoding="utf-8")
    random = np.random.default_rng(0)
    houses = pd.DataFrame(random.normal(size=(60, 3)), columns=["area", "rooms", "age"])
    houses.assign(price=2.0 * houses["area"] + random.normal(size=60)).to_csv("houses.csv", index=False)
    for command in commands("bayesreg "):
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.stdout, result.stderr, result.exception)
    folders = {path.name for path in (tmp_path / "runs").iterdir()}
    assert folders == {"choice", "experiment", "first", "houses", "path"}


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_toml_is_valid(text):
    assert RunSettings.from_mapping(tomllib.loads(text)).model().prior.scale_is_learned


def test_who_comes_from_elsewhere_finds_the_same_penalty():
    rows = [
        [cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in README.splitlines() if "| `br." in line
    ]
    found = [eval(ours, {"__builtins__": {}}, {"br": br}) for *_, ours in rows]  # the README's own text
    assert [typed for _, typed, _ in rows] == [
        "lambd = 3", "SGD(weight_decay=3)` on `nn.MSELoss()", "Adam(weight_decay=3)`, full batch", "Ridge(alpha=3)",
        "Lasso(alpha=0.1)", "ElasticNet(alpha=0.1, l1_ratio=0.3)", "lambda = 0.1, alpha = 1, standardize = FALSE",
        "regularizers.L2(0.1)` with `mse", "prior = normal(0, 2.5)`, `autoscale = FALSE",
        "prior = laplace(0, 0.5)`, `autoscale = FALSE",
    ]  # fmt: skip
    # As objectives RSS/2n + l1 |w|_1 + l2 |w|^2/2 of 20 rows, by hand.
    canonical = [penalty.to("mean-half-squared", num_rows=20, target_scale=3.0) for penalty in found[:8]]
    expected = [(0, 3), (0, 3 / 2), (0, 3 / 2), (0, 3 / 20), (0.1, 0), (0.03, 0.07), (0.1, 0), (0, 0.1)]
    np.testing.assert_allclose([(penalty.l1, penalty.l2) for penalty in canonical], expected, rtol=1e-12)
    assert list(map(repr, found[8:])) == ["GaussianPrior(scale=2.5)", "LaplacePrior(scale=0.5)"]


def table_rows():
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in README.splitlines() if re.match(r"\| `", line)]
    return [(re.findall(r"`([\w-]+)`", names), l2.strip(), l1.strip()) for names, _, l2, l1 in rows]


def value(formula):
    """Return what a formula of the table gives: juxtaposition is a product, so is a space."""
    program = formula.replace("²", "**2").replace(") ", ")*").replace(" ", "*")
    return eval(program, {"__builtins__": {}}, {"s": 0.5, "n": 20, "t": 0.2, "b": 0.2, "K": 4, "s_y": 3.0})


@pytest.mark.parametrize(("prior", "column"), [("gaussian", 1), ("laplace", 2)])
def test_the_table_is_the_dictionary(prior, column):
    expected = {
        entry.convention.name: sum(entry.strengths.values()) for entry in translate_prior({prior: 0.2}, **KNOWN).entries
    }
    kind = {"gaussian": "l2", "laplace": "l1"}[prior]
    found = {
        name: value(row[column])
        for row in table_rows()
        for name in row[0]
        if row[column] and getattr(CONVENTIONS[name], f"accepts_{kind}")
    }
    assert found == pytest.approx(expected, rel=1e-12)


def test_every_convention_is_in_the_table_and_every_refusal_in_the_text():
    named = {name for row in table_rows() for name in row[0]}
    assert named == {name for name, row in CONVENTIONS.items() if not row.refusal}
    assert {name for name, row in CONVENTIONS.items() if row.refusal} == {
        "torch-adamw"
    } and "AdamW is refused" in README


def test_the_speeds_are_those_of_the_stored_results():
    stored = json.loads((RESULTS / "amd-epyc-2-cores.json").read_text(encoding="utf-8"))
    assert render.short(stored["records"]) in README
    assert render_paths.short(stored["paths"]) in README
    assert render_paths.short_of_hard_designs(stored["hard"]) in README
    assert (RESULTS / "amd-epyc-2-cores.md").read_text(encoding="utf-8") == render.table(stored, "amd-epyc-2-cores.png")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
