"""`bayesreg path` and `bayesreg choose`: what they parse, call and print."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bayesreg.commands import console as show
from bayesreg.commands.options import (
    Data,
    Force,
    Intercept,
    Json,
    Out,
    Progress,
    Seed,
    Standardize,
    Target,
    finish,
    folder_of,
    number,
    option,
    print_json,
    settings_from,
    whole,
)
from bayesreg.experiment.flags import in_flags
from bayesreg.experiment.path_settings import ChoiceSettings, PathSettings
from bayesreg.experiment.run_directory import new_run
from bayesreg.experiment.settings import parse_scale
from bayesreg.report.folder import page_in

if TYPE_CHECKING:
    from typing import Any

    from bayesreg.commands.path_runs import WrittenChoice, WrittenPath

# Rows of the path that are printed, evenly spaced; the file has all.
_PRINTED_FITS = 10
_HEADINGS = {
    "prior_scale": "prior\nscale",
    "prior_scale_gaussian": "Gaussian\nscale",
    "prior_scale_laplace": "Laplace\nscale",
    "held_out_loss": "held-out\nloss",
    "standard_error": "s.e.",
    "test_loss": "test\nloss",
    "num_nonzero": "not 0",
    "degrees_of_freedom": "d.o.f.",
    "relative_gap": "gap",
}

Source = Annotated[
    str | None, typer.Argument(metavar="DATA", help="The data, or a TOML file with the options as keys.")
]
Kind = Annotated[str | None, typer.Option(help="l2 (default), l1 or elasticnet.")]
Lambdas = Annotated[str | None, typer.Option(help="Strengths on the mean of half the squared errors: 1,0.1,0.01.")]
NumLambdas = Annotated[int | None, option("--num-lambdas", "How many, where they are not given (default: 100).", whole)]
Ratio = Annotated[float | None, option("--l1-ratio", "Share of the L1 term of an elastic net (default: 0.5).", number)]
KnownNoise = Annotated[
    float | None, option("--noise-scale", "Noise scale of the prior scales (default: the likeliest).", number)
]
Test = Annotated[str | None, typer.Option(help="A file of test rows, with the same columns.")]


def path(
    ctx: typer.Context,
    source: Source = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    kind: Kind = None,
    lambdas: Lambdas = None,
    num_lambdas: NumLambdas = None,
    l1_ratio: Ratio = None,
    noise_scale: KnownNoise = None,
    intercept: Intercept = None,
    test: Test = None,
    out: Out = None,
    force: Force = False,
    progress: Progress = True,
    json: Json = False,
) -> None:
    """Fit at every strength, with a certificate and the prior scale of each; write table, figure and manifest."""
    settings = settings_from(ctx, PathSettings, _PARSERS)
    stages = show.Stages(progress)
    with new_run(folder_of(settings), force=force) as run:
        from bayesreg.commands.path_runs import run_path

        written = run_path(settings, run, stages)
        run.manifest["seconds"] = stages.seconds
    if json:
        print_json(run.manifest | {"out": settings.out, "path": written.table().to_dict("records")})
    else:
        _show_path(show.console(), written, settings.out)
    finish(not written.warnings)


def choose(
    ctx: typer.Context,
    source: Source = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    kind: Kind = None,
    methods: Annotated[
        str | None, typer.Option(help="Some of validation,cv,cv-1se,evidence,loo,learned (default: all there are).")
    ] = None,
    lambdas: Lambdas = None,
    num_lambdas: NumLambdas = None,
    l1_ratio: Ratio = None,
    noise_scale: KnownNoise = None,
    intercept: Intercept = None,
    test: Test = None,
    folds: Annotated[int | None, option("--folds", "Folds of cross-validation (default: 10).", whole)] = None,
    seed: Seed = None,
    out: Out = None,
    force: Force = False,
    progress: Progress = True,
    json: Json = False,
) -> None:
    """Choose the strength by several methods, side by side; write tables, figures and manifest."""
    settings = settings_from(ctx, ChoiceSettings, _PARSERS)
    stages = show.Stages(progress)
    with new_run(folder_of(settings), force=force) as run:
        from bayesreg.commands.path_runs import run_choice

        written = run_choice(settings, run, stages)
        run.manifest["seconds"] = stages.seconds
    if json:
        print_json(run.manifest | {"out": settings.out, "choices": written.choices().to_dict("records")})
    else:
        _show_choice(show.console(), written, settings.out)
    finish(not written.warnings)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


_PARSERS = {"lambdas": partial(parse_scale, argument="lambdas"), "methods": _names}


def _show_path(out: Console, written: WrittenPath, folder: str) -> None:
    """Print some of the fits, and what the whole path says."""
    _show_start(out, written)
    out.print(_fits_table(written))
    _show_smallest(out, written)
    _show_end(out, written, folder)


def _show_choice(out: Console, written: WrittenChoice, folder: str) -> None:
    """Print what each method chooses."""
    _show_start(out, written)
    frame = written.choices()
    scales = [name for name in frame if name.startswith("prior_scale")]
    numbers = [*scales, "held_out_loss", "standard_error", "test_loss", "num_nonzero"]
    made = show.table("method", "lambda", "90% interval", *(_HEADINGS.get(name, name) for name in numbers))
    for _, row in frame.iterrows():
        ends = [show.number(row[name], 2) for name in ("lower_5", "upper_95")]
        interval = "-" if "-" in ends else "–".join(ends)
        made.add_row(
            row["method"], show.number(row["lambda"], 3), interval, *(_cell(name, row[name], 3) for name in numbers)
        )
    out.print(made)
    for choice in written.choice.choices:
        if choice.note:
            show.label(out, "", f"{choice.method}: {in_flags(choice.note, 'choose')}")
    _show_end(out, written, folder)


def _show_start(out: Console, written: WrittenPath) -> None:
    fits = written.path
    kind = {"l2": "L2", "l1": "L1", "elasticnet": f"elastic net, l1_ratio {fits.l1_ratio:g}"}[fits.kind]
    counts = f"{len(fits.lambdas)} fits to {fits.num_rows:,} rows of {len(fits.feature_names):,} features"
    show.label(out, "Path", f"{kind}, {counts}")
    unknown = "not given, and the data say nothing of it: no prior scales"
    noise = unknown if written.noise_scale is None else f"prior scales are at noise scale {written.noise_scale:.4g}"
    show.label(out, "Noise", noise)
    show.show_columns(out, fits.redundant_columns)


def _fits_table(written: WrittenPath) -> Any:
    frame = written.table()
    if written.path.kind == "l2":  # of which none is 0
        frame = frame.drop(columns="num_nonzero")
    made = show.table(*(_HEADINGS.get(name, name) for name in frame), text_columns=0)
    count = min(_PRINTED_FITS, len(frame))
    for index in (round(step * (len(frame) - 1) / max(count - 1, 1)) for step in range(count)):
        made.add_row(*(_cell(name, value) for name, value in frame.iloc[index].items()))
    if left := len(frame) - count:
        made.add_row(f"... {left} more")
    return made


def _cell(name: str, value: float, digits_of_loss: int = 4) -> str:
    if name == "relative_gap":
        return "0" if value == 0 else f"{value:.0e}"
    if name == "num_nonzero":
        return str(int(value))
    return show.number(value, digits_of_loss if name.endswith("loss") else 3)


def _show_smallest(out: Console, written: WrittenPath) -> None:
    if written.test_loss is not None:
        best = int(written.test_loss.argmin())
        loss, strength = float(written.test_loss[best]), float(written.path.lambdas[best])
        show.label(out, "Test", f"smallest loss {show.number(loss)} at lambda = {show.number(strength)}")


def _show_end(out: Console, written: WrittenPath, folder: str) -> None:
    gap = f"every fit within {float(written.path.relative_gaps.max()):.0e} of the minimum (relative gap)"
    said = "; ".join(in_flags(warning, "path") for warning in written.warnings) or gap
    show.label(out, "Checks", show.verdict(not written.warnings), f" {said}")
    for reason in written.missing_figures:
        show.label(out, "Figures", f"not drawn: {reason}")
    show.label(out, "Written", page_in(folder), whole=True)
