"""What a terminal shows of results: sober tables, in the words of a newcomer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayesreg.translation import Translation

FLAGS = {
    "num_rows": "--rows",
    "noise_scale": "--noise-scale",
    "target_scale": "--target-scale",
    "steps_per_epoch": "--steps-per-epoch",
}
SYMBOLS = {"gaussian": "standard deviation t", "laplace": "mean absolute value b"}


def console(stream: IO[str] | None = None) -> Console:
    """Return a console on a stream, standard output where none is given; 100 columns wide where it is no terminal."""
    stream = sys.stdout if stream is None else stream
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


@contextmanager
def progress(message: str) -> Iterator[None]:
    """Show on standard error that something is under way; nothing where that is no terminal.

    Args:
        message: What is under way.

    Yields:
        Nothing.
    """
    if not sys.stderr.isatty():
        yield
        return
    with console(sys.stderr).status(message):
        yield


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
    out.print(Text.assemble(("Given  ", "bold"), given))
    for prior, scale in found.scales.items():
        says = (
            f"{prior} with {SYMBOLS[prior]} = {number(scale, 6)}" if scale < float("inf") else "flat: a strength of 0"
        )
        out.print(Text.assemble(("Prior  ", "bold"), f"each weight {says}"))
    if len(found.scales) > 1:
        out.print("       (the density is the product of both, up to a constant)")
    if found.needs:
        out.print(Text.assemble(("Prior  ", "bold"), _needs(found.needs)))
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


def _needs(names: tuple[str, ...]) -> str:
    return "needs " + " and ".join(FLAGS[name] for name in names)
