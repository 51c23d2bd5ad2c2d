"""What the commands share: options, how numbers are read, how a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bayesreg.experiment.run_directory import strict_json
from bayesreg.experiment.settings import DataSettings, read_toml

Settings = TypeVar("Settings", bound=DataSettings)
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def whole(text: str) -> int | str:
    """Return a whole number, or what is none as it was typed."""
    return _read(int, text)


def number(text: str) -> float | str:
    """Return a number, or what is none as it was typed."""
    return _read(float, text)


def _read(kind: type, text: str) -> Any:
    """Return a number; what is none goes on as it was typed, to the check that names what is accepted."""
    try:
        return kind(text)
    except ValueError:
        return text


def option(flag: str, help: str, parser: Any) -> Any:
    """Return an option whose value `whole` or `number` reads."""
    return typer.Option(flag, help=help, parser=parser, metavar={whole: "INTEGER", number: "NUMBER"}[parser])


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Progress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Show on a terminal what takes longer than a second.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier run in that folder, and nothing else.")]
Experiment = Annotated[
    Path | None, typer.Argument(help="A TOML file with the options as keys; options given here win.")
]
Data = Annotated[str | None, typer.Option(help="CSV or Parquet file; 'diabetes' for the built-in data.")]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Standardize = Annotated[bool | None, typer.Option(help="Work on mean 0, standard deviation 1 (default: yes).")]
Prior = Annotated[str | None, typer.Option(help="gaussian (default), laplace, elasticnet or flat.")]
Scale = Annotated[
    str | None, typer.Option(help="Prior scale: 0.5, one a feature 0.5,0.1,..., or HalfNormal(1.0) to learn it.")
]
GaussianScale = Annotated[str | None, typer.Option(help="Of an elasticnet prior: its Gaussian factor's scale.")]
LaplaceScale = Annotated[str | None, typer.Option(help="Of an elasticnet prior: its Laplace factor's scale.")]
Loc = Annotated[str | None, typer.Option(help="Prior location: a number, or one a feature.")]
Relative = Annotated[bool | None, typer.Option(help="Multiply the prior scale by the noise scale.")]
Noise = Annotated[str | None, typer.Option(help="Noise scale: a number, or a distribution (default: HalfNormal(1.0)).")]
Seed = Annotated[int | None, option("--seed", "Seeds every random number (default: 0).", whole)]
Out = Annotated[str | None, typer.Option(help="The folder to write.")]
Intercept = Annotated[bool | None, typer.Option(help="An unpenalised intercept (default: yes).")]


def settings_from(ctx: typer.Context, kind: type[Settings], parsers: Mapping[str, Callable[[str], Any]]) -> Settings:
    """Return the settings of a command: those of a TOML file, and over them the options.

    Args:
        ctx: What was typed. An argument `experiment` is a TOML file; an argument `source` one, or the data themselves.
        kind: The settings to make.
        parsers: What reads an option's text, by the option's name.

    Returns:
        The settings.
    """
    given = {name: value for name, value in ctx.params.items() if value is not None}
    for name in ("force", "json", "progress"):
        given.pop(name, None)
    experiment, source = given.pop("experiment", None), given.pop("source", None)
    if source is not None and Path(source).suffix.lower() != ".toml":
        given = {"data": source} | given
    elif source is not None:
        experiment = source
    for name in parsers.keys() & given.keys():
        given[name] = parsers[name](given[name])
    return kind.from_mapping((read_toml(experiment) if experiment is not None else {}) | given)


def folder_of(settings: Any) -> str:
    """Return the folder to write, or refuse settings without one."""
    if settings.out is None:
        raise ValueError("out is missing: give the folder to write, --out FOLDER")
    return settings.out


def finish(passed: bool, interrupted: bool = False) -> None:
    """End with status 1 where a verdict or a convergence check failed, with 130 where an interrupt cut draws short."""
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not passed:
        raise typer.Exit(FAILED)


def print_json(document: Any) -> None:
    """Print a document that every JSON parser reads."""
    sys.stdout.write(strict_json(document))
