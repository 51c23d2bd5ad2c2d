"""What a terminal shows: numbers that line up, tables of bounded length, silence where nobody looks."""

import io

import pandas as pd
import pytest

from bayesreg import console as show


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (-0.104123, 0.0391, "-0.1041"),
        (1234.5, 178.0, "1,234"),
        (0.5, 0.5, "0.500"),
        (12.0, 12.0, "12.0"),
        (float("nan"), 1.0, "-"),
        (3.14159, float("nan"), "3.142"),
        (1.5e-9, 1e-9, "1.5e-09"),
        (2.0, 0.0, "2"),
    ],
)
def test_numbers_have_the_digits_that_their_spread_gives_them(value, spread, text):
    assert show.rounded(value, spread) == text


def test_a_long_summary_is_cut_and_says_so():
    columns = ["mean", "sd", "eti_90%_lower", "eti_90%_upper", "ess_bulk", "ess_tail", "mcse_mean", "r_hat"]
    summary = pd.DataFrame(
        [[0.0, 1.0, -1.0, 1.0, 900.0, 800.0, 0.1, 1.0]] * 60, columns=columns, index=[f"w[{j}]" for j in range(60)]
    )
    out = io.StringIO()
    show.console(out).print(show.summary_table(summary, "standard units"))
    text = out.getvalue()
    assert "w[39]" in text and "w[40]" not in text and "20 more" in text and "800" in text and "-1.00 to 1.00" in text


def test_markup_in_names_is_text():
    out = io.StringIO()
    made = show.table("", "mean")
    made.add_row("weights[bold]", "1")
    show.console(out).print(made)
    assert "weights[bold]" in out.getvalue()


def test_stages_are_timed_and_silent_unless_somebody_looks(monkeypatch, capsys):
    stages = show.Stages()
    with stages("first") as tell:
        tell("a part")
        print("from a library")
    with stages("second", spinner=False):
        pass
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "from a library\n"
    assert list(stages.seconds) == ["first", "second"] and all(value >= 0 for value in stages.seconds.values())
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with stages("third") as tell:
        tell("a part")
    assert "third" in terminal.getvalue()


def test_a_console_is_as_wide_as_asked_or_a_hundred_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert show.console(io.StringIO()).width == 100
    monkeypatch.setenv("COLUMNS", "80")
    assert show.console(io.StringIO()).width == 80
