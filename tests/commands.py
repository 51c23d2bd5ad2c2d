"""How tests call the command line in this process, and what they hold of what it says and leaves."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from bayesreg.cli import app


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


def left_behind(folder):
    """The names of what is there beside the tables that the tests made."""
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".csv", ".toml", ".parquet"))


@contextmanager
def short_reports():
    """For tests of other things: runs whose explorer has few strengths and draws, without pictures of diagnostics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bayesreg.report.explorer._STRENGTHS", {"l2": 9, "l1": 7})
        patch.setattr("bayesreg.report.explorer._DRAWS", 400)
        patch.setattr("bayesreg.commands.runs._draw_diagnostics", lambda *_: None)
        yield
