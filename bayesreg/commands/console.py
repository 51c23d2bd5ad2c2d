"""What a terminal shows of results: sober tables, in the words of a newcomer."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import IO, TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayesreg.computing.progress import progress_bar
from bayesreg.engines import ENGINES
from bayesreg.experiment.flags import FLAGS, in_flags
from bayesreg.report.folder import page_in
from bayesreg.translation import Translation

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.commands.runs import Demonstration, Sampled
    from bayesreg.comparison import Comparison, Route
    from bayesreg.posteriors.posterior import Posterior

MOST_ROWS = 40
SYMBOLS = {"gaussian": "standard deviation t", "laplace": "mean absolute value b"}
PENALTIES = {"l1": "L1, ", "l2": "L2, ", "elasticnet": "L1 and L2, ", "none": "no penalty, "}


def console(stream: IO[str] | None = None) -> Console:
    """Return a console on a stream, standard output where none is given; 100 columns wide where it is no terminal."""
    stream = sys.stdout if stream is None else stream
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


class Stages:
    """Times the stages of a run, and shows on standard error which one is under way, where that is a terminal.

    Args:
        progress: Whether to show that.

    Attributes:
        seconds: What each finished stage took.
    """

    def __init__(self, progress: bool = True):
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, spinner: bool = True) -> Iterator[Callable[[str], None]]:
        """Run a stage; what it prints goes to standard error.

        Args:
            name: What is under way.
            spinner: Whether to show that; not where the stage shows a progress bar of its own.

        Yields:
            A function that shows which part of the stage is under way.
        """
        started = time.perf_counter()
        with redirect_stdout(sys.stderr), progress_bar(self.progress and spinner, name) as bar:
            yield bar.describe
        self.seconds[name] = time.perf_counter() - started


def table(*columns: str, title: str = "", text_columns: int = 1) -> Table:
    """Return an empty table: the first columns hold text, the others numbers, to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
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
        label(out, "", "(an elastic net's prior: the density is the product of both, normalised)")
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


def show_comparison(out: Console, found: Comparison) -> None:
    """Print every route to the MAP with its certificate and its verdict.

    Args:
        out: Where to print.
        found: The comparison.
    """
    strength, kind = found.penalty.strength, found.penalty.kind
    shown = f"lambda = {number(strength, 6)}" if not hasattr(strength, "shape") else "one lambda a feature"
    if kind == "elasticnet" and not hasattr(strength, "shape"):
        shown = f"lambda = {number(found.penalty.l1, 6)} and {number(found.penalty.l2, 6)}"
    noise = f"noise scale {number(found.noise_scale, 6)} ({found.noise_source})"
    label(out, "Penalty", f"{PENALTIES[kind]}{shown} ({found.penalty.convention}), at {noise}")
    show_columns(out, found.redundant_columns)
    difference = "|dw|" if found.unique else "|dfit|"
    made = table("route to the MAP", "gap", "allowed", "KKT", difference, "zeros", "sec", "verdict")

    def add(route: Route, name: str | Text, seconds: str, outcome: Text) -> None:
        apart = route.weight_difference if found.unique else route.fit_difference
        sizes = [_tiny(value) for value in (route.relative_gap, route.tolerance, route.kkt_residual, apart)]
        made.add_row(name, *sizes, str(route.zeros), seconds, outcome)

    for route in found.routes:
        add(route, route.name, f"{route.seconds:.2f}", verdict(route.passed))
    for route in found.wrong:
        caught = verdict(False) if route.passed else Text("caught", style="green")
        outcome = Text("same fit", style="dim") if route.same_point else caught
        add(route, Text(f"wrong: {route.name}", style="dim"), "", outcome)
    out.print(made)


def show_columns(out: Console, redundant: str | None) -> None:
    """Print which columns are constant or copies, if any are."""
    if redundant:
        label(out, "Columns", redundant)


def explain_comparison(out: Console, *found: Comparison) -> None:
    """Print what the columns of `show_comparison` mean, those that are in its tables.

    Args:
        out: Where to print.
        *found: The comparisons that were printed.
    """
    kinds = {comparison.penalty.kind for comparison in found}
    words = []
    if kinds != {"none"}:
        words.append(
            "gap: how far the objective can be above its minimum, relative to its value at no weights; proven, not "
            "estimated."
        )
    words.append("KKT: how far the optimality conditions are from holding" + _about_kkt(kinds))
    if any(comparison.unique for comparison in found):
        words.append("|dw|: largest difference of a weight from the first route's.")
    if not all(comparison.unique for comparison in found):
        words.append(
            "|dfit|: root mean square difference of the fitted values from the first route's, as more than one set of "
            "weights may attain the minimum."
        )
    wrong = [route for comparison in found for route in comparison.wrong]
    if not all(route.same_point for route in wrong):
        words.append("At half or twice the lambda the same test must fail.")
    if same := dict.fromkeys(route.name for route in wrong if route.same_point):
        words.append(f"{' and '.join(same)}: the same fit on these data, so there is nothing to catch.")
    out.print(" ".join(words), style="dim")


def _about_kkt(kinds: set[str]) -> str:
    if kinds & {"l1", "elasticnet"}:
        return "; where a weight is almost 0 but not 0 (AutoDelta, subgradient) it can be large at a tiny gap."
    return "; without a penalty, it is what must be within the allowed." if kinds == {"none"} else "."


def show_run(out: Console, sampled: Sampled, folder: str) -> None:
    """Print the posterior of `bayesreg run`.

    Args:
        out: Where to print.
        sampled: The posterior, its summaries and what its checks said.
        folder: The folder that was written.
    """
    posterior = sampled.posterior
    label(out, "Posterior", _described(posterior))
    show_columns(out, posterior.details.get("redundant_columns"))
    if posterior.details["message"] not in sampled.warnings:  # those are with the checks
        label(out, "Engine", posterior.details["message"])
    if posterior.method == "svi":
        label(
            out,
            "",
            "An approximation, not exact sampling: independent draws from a Gaussian fitted in unconstrained "
            "coordinates, too narrow where none fits; a k-hat above 0.7 says that it is far from the posterior.",
        )
    for units, summary in sampled.summaries.items():
        out.print(summary_table(summary, f"{units} units", chain=not ENGINES[posterior.method].independent))
    label(out, "Checks", *_checked(sampled))
    _show_missing_figures(out, [sampled])
    label(out, "Written", page_in(folder), whole=True)


def show_demo(out: Console, parts: Sequence[Demonstration], folder: str) -> None:
    """Print the three questions and their answers on the diabetes data.

    Args:
        out: Where to print.
        parts: One demonstration a penalty.
        folder: The folder that was written.
    """
    data, noise = parts[0].sampled.posterior.data, number(parts[0].comparison.noise_scale)
    heading(out, f"Diabetes data: {data.num_rows} patients, {data.num_features} features; standardized; noise {noise}")
    heading(out, "1  Which prior does a penalty stand for?")
    made = table("typed in PyTorch, mean MSELoss", "prior of each weight", "the same in scikit-learn", text_columns=3)
    for part in parts:
        made.add_row(*_words(part, data.num_rows))
    out.print(made)
    heading(out, "2  Is the penalised fit the MAP under that prior?")
    for part in parts:
        show_comparison(out, part.comparison)
    explain_comparison(out, *(part.comparison for part in parts))
    heading(out, "3  What does the rest of the posterior look like? (the noise learned)")
    for part in parts:
        posterior = part.sampled.posterior
        draws = f"{posterior.num_chains} chains x {posterior.num_draws:,} draws by {posterior.method}: "
        label(out, part.prior.kind.capitalize(), draws, *_checked(part.sampled))
        out.print(both_units(part))
    label(out, "Verdicts", verdict(all(part.passed for part in parts)))
    _show_missing_figures(out, [part.sampled for part in parts])
    label(out, "Written", page_in(folder), whole=True)
    label(out, "", "beside it posterior-*.nc, summary-*.csv, comparison.json,")
    label(out, "", "figures/*.png, manifest.json")


def both_units(part: Demonstration) -> Table:
    """Return the posterior of the weights beside the penalised fit, in standard and in original units."""
    standard, original = part.sampled.summaries["standardized"], part.sampled.summaries["original"]
    features = part.sampled.posterior.data.feature_names
    made = table(
        "", "penalised\nfit", "posterior\nmean", "posterior\n90% interval", "original\nmean", "original\n90% interval"
    )
    for feature, fit in zip(features, part.penalised_fit, strict=True):
        row, there = (summary.loc[f"weights[{feature}]"] for summary in (standard, original))
        made.add_row(
            feature,
            "0" if fit == 0.0 else rounded(fit, row["sd"]),
            *_mean_and_interval(row),
            *_mean_and_interval(there),
        )
    noise = [cell for summary in (standard, original) for cell in _mean_and_interval(summary.loc["noise_scale"])]
    made.add_row("noise", "", *noise)
    return made


def heading(out: Console, text: str) -> None:
    """Print a heading."""
    out.print()
    out.print(text, style="bold")


def summary_table(summary: pd.DataFrame, title: str, chain: bool = True) -> Table:
    """Return a posterior's summary as a table of at most 40 rows.

    Args:
        summary: What `Posterior.summary` gave.
        title: The title.
        chain: Whether R-hat and ESS mean something: the draws are of a Markov chain.

    Returns:
        The table; a learned prior scale, which is one a feature in original units, is left to the file there.
    """
    made = table("", "mean", "sd", "90% interval", *["R-hat", "ESS"] * chain, title=title)
    one_a_feature = summary.index.str.startswith("prior_scale[")
    for name, row in summary[~one_a_feature].head(MOST_ROWS).iterrows():
        mean, interval = _mean_and_interval(row)
        ess = min(row["ess_bulk"], row["ess_tail"])
        judged = [rounded(row["r_hat"], 0.1), rounded(ess, 100.0)] if chain else []
        made.add_row(str(name), mean, rounded(row["sd"], row["sd"]), interval, *judged)
    if left := len(summary) - made.row_count:
        what = " (prior_scale)" if left == one_a_feature.sum() else ""
        made.add_row(f"... {left} more in the file{what}")
    return made


def label(out: Console, name: str, *parts: str | Text, whole: bool = False) -> None:
    """Print a line that starts with a name in bold.

    Args:
        out: Where to print.
        name: The name.
        *parts: The rest of the line.
        whole: Never break the line: a path is there to be copied, however long it is.
    """
    out.print(Text.assemble((f"{name:<11}", "bold"), *parts), soft_wrap=whole)


def _described(posterior: Posterior) -> str:
    chains, draws = posterior.num_chains, posterior.num_draws
    return f"{chains} chain{'s' * (chains > 1)} x {draws:,} draws by {posterior.method} ({posterior.reason})"


def _checked(sampled: Sampled) -> list[str | Text]:
    if not sampled.warnings:
        return [verdict(True)]
    return [verdict(False), " " + "; ".join(in_flags(warning, "run") for warning in sampled.warnings)]


def _show_missing_figures(out: Console, sampled: Sequence[Sampled]) -> None:
    for reason in (reason for one in sampled for reason in one.missing_figures):
        label(out, "Figures", Text("not drawn: ", style="yellow"), reason)


def _words(part: Demonstration, num_rows: int) -> tuple[str, str, str]:
    strength, scale = part.penalty.strength, number(part.prior.scale, 3)
    if part.prior.kind == "gaussian":
        alpha = part.penalty.to("sklearn-ridge", num_rows=num_rows).strength
        return f"weight_decay={strength:g}", f"Gaussian, sd {scale}", f"Ridge(alpha={number(alpha, 3)})"
    alpha = part.penalty.to("sklearn-lasso", num_rows=num_rows).strength
    return f"loss + {strength:g} |w|_1", f"Laplace, mean |w| {scale}", f"Lasso(alpha={number(alpha, 3)})"


def _mean_and_interval(row: pd.Series) -> tuple[str, str]:
    lower, upper = (next(name for name in row.index if name.endswith(end)) for end in ("_lower", "_upper"))
    mean, low, high = (rounded(row[column], row["sd"]) for column in ("mean", lower, upper))
    return mean, f"{low} to {high}"


def _tiny(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0.0 else f"{value:.0e}"


def _needs(names: tuple[str, ...]) -> str:
    return "needs " + " and ".join(FLAGS[name] for name in names)
