"""The command line: what it prints, writes and refuses, in this process and in real ones."""

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from bayesreg.cli import app

CONVERT = ["convert", "--convention", "torch-mse-mean", "--l2", "3", "--noise-scale", "0.01", "--rows", "20"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def call_json(*arguments, status=0):
    result = call(*arguments, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def assert_refused(result, *words):
    """Check that bad input gives status 2 and one line on standard error which has the words."""
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("bayesreg: "), result.stderr
    for word in words:
        assert word in result.stderr


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


def test_convert_says_which_flag_names_the_prior():
    found = call_json("convert", "--convention", "sklearn-lasso", "--l1", "0.1", "--rows", 5)
    assert found["prior"] == [] and found["needs"] == ["--noise-scale"]
    assert (
        "Prior  needs --noise-scale"
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
        (["--convention", "sklearn-ridge", "--l2", -1], ["-1"]),
        (["--convention", "sklearn-ridge", "--l2", "nan"], ["nan"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--rows", 0], ["num_rows", "got 0"]),
        (["--convention", "sklearn-ridge", "--l2", 1, "--noise-scale", 0], ["noise_scale", "got 0"]),
        (["--prior", "laplace", "--prior-scale", "inf"], ["prior_scale", "inf"]),
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
    for arguments in (CONVERT, ["--help"], ["run", "--help"]):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            finished = subprocess.run(
                [sys.executable, "-c", program.format(arguments=arguments)], capture_output=True, text=True, timeout=60
            )
            seconds.append(time.perf_counter() - start)
            assert finished.returncode == 0, finished.stderr
        assert min(seconds) < 1.0, (arguments, seconds)  # importing torch alone takes longer


# ---- doctor


def test_doctor_names_versions_and_the_device_or_why_there_is_none():
    torch = pytest.importorskip("torch")
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


# ---- the frame


def test_usage_errors_have_status_2():
    for arguments in (["nonsense"], ["convert", "--nonsense"], ["convert", "--rows", "many"]):
        result = call(*arguments)
        assert result.exit_code == 2 and result.stdout == ""


def test_errors_of_a_real_process_are_one_line_without_a_traceback():
    finished = run_program("convert", "--convention", "adamw", "--l2", 1)
    assert finished.returncode == 2 and finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1 and "Traceback" not in finished.stderr
