"""What a terminal shows of results: sober tables, in the words of a newcomer."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import IO, TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayesreg.translation import Translation

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.posterior import Posterior
    from bayesreg.runs import Sampled

FLAGS = {
    "num_rows": "--rows",
    "noise_scale": "--noise-scale",
    "target_scale": "--target-scale",
    "steps_per_epoch": "--steps-per-epoch",
}
MOST_ROWS = 40
SYMBOLS = {"gaussian": "standard deviation t", "laplace": "mean absolute value b"}


def console(stream: IO[str] | None = None) -> Console:
    """Return a console on a stream, standard output where none is given; 100 columns wide where it is no terminal."""
    stream = sys.stdout if stream is None else stream
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


class Stages:
    """Times the stages of a run, and shows on standard error which one is under way, where that is a terminal.

    Attributes:
        seconds: What each finished stage took.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, spinner: bool = True) -> Iterator[None]:
        """Run a stage; what it prints goes to standard error.

        Args:
            name: What is under way.
            spinner: Whether to show that; not where the stage shows a progress bar of its own.

        Yields:
            Nothing.
        """
        started = time.perf_counter()
        shown = console(sys.stderr).status(f"{name} ...") if spinner and sys.stderr.isatty() else nullcontext()
        with shown, redirect_stdout(sys.stderr):
            yield
        self.seconds[name] = time.perf_counter() - started


def table(*columns: str, title: str = "", text_columns: int = 1) -> Table:
    """Return an empty table: the first columns hold text, the others numbers, to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for position, column in enumerate(columns):
        number = position >= text_columns
        made.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return made


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as a table shows it; a dash for none."""
    return "-" if value is None or value != value else f"{value:.{digits}g}"


def rounded(value: float, spread: float) -> str:
    """Return a number with as many decimals as three digits of its spread have, so that a column lines up.

    Args:
        value: The number; a dash stands for NaN.
        spread: What it may differ by and mean the same.

    Returns:
        The text.

    Example:
        >>> rounded(-0.104123, 0.0391), rounded(1234.5, 178.0)
        ('-0.1041', '1,234')
    """
    if not math.isfinite(value):
        return "-"
    if not (math.isfinite(spread) and spread > 0) or not 1e-6 < spread < 1e9:
        return number(value)
    decimals = max(0, 2 - math.floor(math.log10(spread)))
    return f"{value:,.{decimals}f}"


def verdict(passed: bool) -> Text:
    """Return a verdict in its colour."""
    return Text("pass", style="green") if passed else Text("FAIL", style="bold red")


def show_translation(out: Console, found: Translation, given: str) -> None:
    """Print a penalty or a prior, and the same in every convention.

    Args:
        out: Where to print.
        found: The translation.
        given: What was asked, in a line.
    """
    label(out, "Given", given)
    for prior, scale in found.scales.items():
        says = (
            f"{prior} with {SYMBOLS[prior]} = {number(scale, 6)}" if scale < float("inf") else "flat: a strength of 0"
        )
        label(out, "Prior", f"each weight {says}")
    if len(found.scales) > 1:
        label(out, "", "(the density is the product of both, up to a constant)")
    if found.needs:
        label(out, "Prior", _needs(found.needs))
    made = table("convention", "strength", "objective", text_columns=3)
    for entry in found.entries:
        named = len(entry.typed) > 1
        strengths = ", ".join(f"{knob} " * named + number(value, 6) for knob, value in entry.typed.items())
        made.add_row(
            entry.convention.name, strengths or Text(_needs(entry.needs), style="dim"), entry.convention.objective
        )
    out.print(made)
    for name, reason in found.refused.items():
        out.print(f"{name} is refused: {reason}", style="dim")


def show_environment(out: Console, found: Mapping[str, Any]) -> None:
    """Print what `bayesreg doctor` found.

    Args:
        out: Where to print.
        found: Its document.
    """
    made = table("", "", text_columns=2)
    made.show_header = False
    made.add_row("Python", f"{found['python']} on {found['platform']}")
    made.add_row("torch", found["torch"])
    made.add_row("CUDA", ", ".join(found["cuda"]["devices"]) or f"none: {found['cuda']['why_none']}")
    for package, version in found["versions"].items():
        made.add_row(package, version or "not installed")
    out.print(made)


def show_run(out: Console, sampled: Sampled, folder: str) -> None:
    """Print the posterior of `bayesreg run`.

    Args:
        out: Where to print.
        sampled: The posterior, its summaries and what its checks said.
        folder: The folder that was written.
    """
    label(out, "Posterior", _described(sampled.posterior))
    for units, summary in sampled.summaries.items():
        out.print(summary_table(summary, title=f"{units} units"))
    label(out, "Checks", *_checked(sampled))
    label(out, "Written", folder)


def summary_table(summary: pd.DataFrame, title: str) -> Table:
    """Return a posterior's summary as a table of at most 40 rows.

    Args:
        summary: What `Posterior.summary` gave.
        title: The title.

    Returns:
        The table.
    """
    lower, upper = (next(name for name in summary if name.endswith(end)) for end in ("_lower", "_upper"))
    interval = lower.removesuffix("_lower").split("_")[1] + " interval"
    made = table("", "mean", "sd", interval, "R-hat", "ESS", title=title)
    for name, row in summary.head(MOST_ROWS).iterrows():
        mean, sd, low, high = (rounded(row[column], row["sd"]) for column in ("mean", "sd", lower, upper))
        ess = min(row["ess_bulk"], row["ess_tail"])
        made.add_row(str(name), mean, sd, f"{low} to {high}", rounded(row["r_hat"], 0.1), rounded(ess, 100.0))
    if len(summary) > MOST_ROWS:
        made.add_row(f"... {len(summary) - MOST_ROWS} more in the file", *[""] * 5)
    return made


def label(out: Console, name: str, *parts: str | Text) -> None:
    """Print a line that starts with a name in bold."""
    out.print(Text.assemble((f"{name:<11}", "bold"), *parts))


def _described(posterior: Posterior) -> str:
    chains, draws = posterior.num_chains, posterior.num_draws
    return f"{chains} chain{'s' * (chains > 1)} x {draws:,} draws by {posterior.method} ({posterior.reason})"


def _checked(sampled: Sampled) -> list[str | Text]:
    return [verdict(False), " " + "; ".join(sampled.warnings)] if sampled.warnings else [verdict(True)]


def _needs(names: tuple[str, ...]) -> str:
    return "needs " + " and ".join(FLAGS[name] for name in names)
