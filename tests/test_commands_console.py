"""What a terminal shows: numbers that line up, tables of bounded length, silence where nobody looks."""

import io
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from bayesreg.commands import console as show


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


def summary_of(*names):
    columns = ["mean", "sd", "eti_90%_lower", "eti_90%_upper", "ess_bulk", "ess_tail", "mcse_mean", "r_hat"]
    row = [0.0, 1.0, -1.0, 1.0, 900.0, 800.0, 0.1, 1.0]
    return pd.DataFrame([row] * len(names), columns=columns, index=list(names))


def printed(write, *arguments, **options):
    """What a function prints to a console, as one line of words."""
    out = io.StringIO()
    write(show.console(out), *arguments, **options)
    return " ".join(out.getvalue().split())


def test_a_long_summary_is_cut_and_says_so():
    summary = summary_of(*(f"w[{j}]" for j in range(60)))
    text = printed(lambda out: out.print(show.summary_table(summary, "standard units")))
    assert "w[39]" in text and "w[40]" not in text and "20 more in the file" in text
    assert "800" in text and "-1.00 to 1.00" in text and "(prior_scale)" not in text


def test_a_prior_scale_that_is_one_a_feature_is_left_to_the_file():
    summary = summary_of("weights[a]", "weights[b]", "prior_scale[a]", "prior_scale[b]")
    text = printed(lambda out: out.print(show.summary_table(summary, "original units")))
    assert "weights[b]" in text and "prior_scale[" not in text and "2 more in the file (prior_scale)" in text
    assert "prior_scale" in printed(lambda out: out.print(show.summary_table(summary_of("prior_scale"), "")))


def sampled_by(method, warnings=()):
    posterior = SimpleNamespace(
        num_chains=4, num_draws=10, method=method, reason="as asked", details={"message": "how it went"}
    )
    summaries = {"original": summary_of("weights[a]")}
    return SimpleNamespace(posterior=posterior, summaries=summaries, warnings=list(warnings), missing_figures=[])


@pytest.mark.parametrize(("method", "chain"), [("svi", False), ("exact", False), ("pyro-nuts", True)])
def test_every_engine_says_how_it_went_and_only_a_chain_is_judged_as_one(method, chain):
    text = printed(show.show_run, sampled_by(method), "runs/one")
    assert "Engine how it went" in text and "Checks pass" in text
    assert ("An approximation, not exact sampling" in text) is (method == "svi")
    assert ("R-hat" in text and "ESS" in text) is chain and ("R-hat" in text or "ESS" in text) is chain


def test_a_warning_that_is_the_engine_s_message_is_printed_once():
    text = printed(show.show_run, sampled_by("svi", ["how it went"]), "runs/one")
    assert "Checks FAIL how it went" in text and text.count("how it went") == 1 and "An approximation" in text


def route(name, passed=True, same_point=False):
    measures = {"relative_gap": 1e-9, "tolerance": 1e-8, "kkt_residual": 1e-7, "seconds": 0.0, "zeros": 0}
    apart = {"weight_difference": 0.7, "fit_difference": 0.02}
    return SimpleNamespace(name=name, passed=passed, same_point=same_point, **measures, **apart)


def comparison(kind="l2", unique=True, wrong=()):
    penalty = SimpleNamespace(kind=kind, strength=0.1, convention="mean-half-squared")
    noise = {"noise_scale": 1.0, "noise_source": "at the joint mode"}
    found = {"unique": unique, "routes": [route("first")], "wrong": list(wrong), "redundant_columns": ""}
    return SimpleNamespace(penalty=penalty, **noise, **found)


MUST_FAIL = "At half or twice the lambda the same test must fail."
CAUGHT = (route("lambda / 2", passed=False), route("2 lambda", passed=False))


def test_the_footnote_is_about_what_is_in_the_table():
    text = printed(show.explain_comparison, comparison(wrong=CAUGHT))
    assert text.startswith("gap: ") and "|dw|: " in text and "|dfit|" not in text and text.endswith(MUST_FAIL)
    assert "AutoDelta" not in text
    assert "almost 0 but not 0 (AutoDelta, subgradient)" in printed(show.explain_comparison, comparison("l1"))
    text = printed(show.explain_comparison, comparison("none"))
    assert text.startswith("KKT: ") and "gap" not in text and "lambda" not in text
    text = printed(show.explain_comparison, comparison(unique=False))
    assert "|dfit|: " in text and "|dw|" not in text
    both = printed(show.explain_comparison, comparison(unique=False), comparison(wrong=CAUGHT))
    assert "|dfit|: " in both and "|dw|: " in both and MUST_FAIL in both


def test_a_wrong_lambda_is_caught_or_missed_or_gives_the_same_fit():
    wrong = (route("lambda / 2", same_point=True), route("2 lambda", passed=False))
    text = printed(show.show_comparison, comparison(unique=False, wrong=(*wrong, route("missed"))))
    assert "wrong: lambda / 2 1e-09 1e-08 1e-07 2e-02 0 same fit" in text  # the difference of the fits
    assert (
        "wrong: 2 lambda 1e-09 1e-08 1e-07 2e-02 0 caught" in text and "missed 1e-09 1e-08 1e-07 2e-02 0 FAIL" in text
    )
    text = printed(show.explain_comparison, comparison(wrong=wrong))
    assert MUST_FAIL in text and text.endswith("lambda / 2: the same fit on these data, so there is nothing to catch.")
    text = printed(show.explain_comparison, comparison(wrong=[route("lambda / 2", same_point=True)]))
    assert MUST_FAIL not in text and "nothing to catch" in text


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
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("bayesreg.computing.progress.DELAY", 0.0)
    monkeypatch.setattr("bayesreg.computing.progress.EVERY", 0.01)
    with stages("third") as tell:
        tell("a part")
        deadline = time.monotonic() + 20
        while "a part" not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "third" in terminal.getvalue()
    before = terminal.getvalue()
    with show.Stages(progress=False)("fourth"):
        time.sleep(0.1)
    assert terminal.getvalue() == before


def test_a_console_is_as_wide_as_asked_or_a_hundred_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert show.console(io.StringIO()).width == 100
    monkeypatch.setenv("COLUMNS", "80")
    assert show.console(io.StringIO()).width == 80
