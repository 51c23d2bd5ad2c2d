"""The command line: parses, calls, writes. What it calls is imported where it is called, so that it answers at once.

Exit status: 0 fine; 1 a verdict or a convergence check failed; 2 bad input, or a file that cannot be read or written;
130 interrupted. With BAYESREG_TRACEBACK=1 in the environment an error keeps its traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import bayesreg
from bayesreg import console as show
from bayesreg.engines import METHODS
from bayesreg.flags import FLAGS, in_flags
from bayesreg.run_directory import environment, new_run, strict_json
from bayesreg.settings import RunSettings, check_seed, parse_scale, read_toml

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class _Commands(TyperGroup):
    """Says what is wrong with the input, and what a library warns of, in a line, for every command alike."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # of a figure: it has boxes for these letters
            warnings.showwarning = lambda message, *_: _say(in_flags(message, ctx.invoked_subcommand))
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("interrupted; nothing was written")
            raise typer.Exit(INTERRUPTED) from None
        except (ValueError, TypeError, OSError) as error:
            if os.environ.get("BAYESREG_TRACEBACK"):
                raise
            _say(in_flags(error, ctx.invoked_subcommand))
            raise typer.Exit(BAD_INPUT) from error


def _say(message: object) -> None:
    typer.echo(f"bayesreg: {' '.join(str(message).split())}", err=True)


def _whole(text: str) -> int | str:
    return _read(int, text)


def _number(text: str) -> float | str:
    return _read(float, text)


def _read(kind: type, text: str) -> Any:
    """Return a number; what is none goes on as it was typed, to the check that names what is accepted."""
    try:
        return kind(text)
    except ValueError:
        return text


def _option(flag: str, help: str, parser: Any) -> Any:
    return typer.Option(flag, help=help, parser=parser, metavar={_whole: "INTEGER", _number: "NUMBER"}[parser])


app = typer.Typer(
    cls=_Commands,
    help="The prior behind a weight decay, the certificate that the fit is its MAP, and the rest of the posterior.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
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
Seed = Annotated[int | None, _option("--seed", "Seeds every random number (default: 0).", _whole)]
Intercept = Annotated[bool | None, typer.Option(help="An unpenalised intercept (default: yes).")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bayesreg {bayesreg.__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def convert(
    convention: Annotated[str, typer.Option(help="Whose penalty it is, such as torch-mse-mean or sklearn-lasso.")] = "",
    l2: Annotated[float | None, _option("--l2", "L2 strength, as typed in that convention.", _number)] = None,
    l1: Annotated[float | None, _option("--l1", "L1 strength, as typed in that convention.", _number)] = None,
    prior: Annotated[str, typer.Option(help="Instead of a penalty: gaussian or laplace.")] = "",
    prior_scale: Annotated[float | None, _option("--prior-scale", "The scale of that prior.", _number)] = None,
    noise_scale: Annotated[float | None, _option("--noise-scale", "Standard deviation of the noise.", _number)] = None,
    rows: Annotated[int | None, _option("--rows", "Number of rows.", _whole)] = None,
    target_scale: Annotated[
        float | None, _option("--target-scale", "Standard deviation of the target (divisor n).", _number)
    ] = None,
    steps_per_epoch: Annotated[int | None, _option("--steps-per-epoch", "Optimizer steps an epoch.", _whole)] = None,
    json: Json = False,
) -> None:
    """Say which prior a penalty strength stands for, and the same penalty in every other library's words."""
    knowledge = {
        "num_rows": rows,
        "noise_scale": noise_scale,
        "target_scale": target_scale,
        "steps_per_epoch": steps_per_epoch,
    }
    strengths = {kind: value for kind, value in (("l2", l2), ("l1", l1)) if value is not None}
    found, given, line = _translated(convention, strengths, prior, prior_scale, knowledge)
    known = {name: value for name, value in knowledge.items() if value is not None}
    if not json:
        line += "".join(f", {FLAGS[name][2:]} {value:g}" for name, value in known.items())
        show.show_translation(show.console(), found, line)
        return
    entries = [
        {
            "convention": entry.convention.name,
            "strengths": entry.strengths or None,
            "typed": entry.typed or None,
            "needs": [FLAGS[name] for name in entry.needs],
            "objective": entry.convention.objective,
            "knobs": entry.convention.knobs,
        }
        for entry in found.entries
    ]
    _print_json(
        {
            "given": given | known,
            "prior": [{"kind": kind, "scale": scale} for kind, scale in found.scales.items()],
            "needs": [FLAGS[name] for name in found.needs],
            "conventions": entries,
            "refused": found.refused,
        }
    )


def _translated(
    convention: str, strengths: dict[str, float], prior: str, scale: float | None, knowledge: dict
) -> tuple:
    from bayesreg.translation import translate_penalty, translate_prior

    if bool(convention or strengths) == bool(prior or scale is not None):
        raise ValueError("give either --convention with --l2 or --l1, or --prior with --prior-scale")
    if convention or strengths:
        if not (convention and strengths):
            raise ValueError("a penalty needs --convention and a strength: --l2, --l1, or both")
        found = translate_penalty(strengths, convention, **knowledge)
        typed = ", ".join(f"{kind.upper()} strength {value:g}" for kind, value in strengths.items())
        return found, {"convention": convention, **strengths}, f"{typed} in {convention}"
    if not (prior and scale is not None):
        raise ValueError("a prior needs --prior and --prior-scale")
    found = translate_prior(prior, scale, **knowledge)
    return found, {"prior": prior, "scale": scale}, f"{prior} prior of scale {scale:g}"


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, and whether there is a CUDA device or why there is none."""
    found = environment()
    try:
        import torch

        from bayesreg.devices import why_no_cuda
    except ImportError as error:
        found |= {
            "torch": f"cannot be imported: {error}",
            "cuda": {"devices": [], "why_none": "torch cannot be imported"},
        }
        failed = True
    else:
        devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        found |= {"torch": torch.__version__, "cuda": {"devices": devices, "why_none": why_no_cuda()}}
        failed = False
    if json:
        _print_json(found)
    else:
        show.show_environment(show.console(), found)
    _finish(not failed)


@app.command()
def run(
    ctx: typer.Context,
    experiment: Experiment = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    prior: Prior = None,
    scale: Scale = None,
    gaussian_scale: GaussianScale = None,
    laplace_scale: LaplaceScale = None,
    loc: Loc = None,
    relative_to_noise: Relative = None,
    noise_scale: Noise = None,
    intercept: Intercept = None,
    method: Annotated[str | None, typer.Option(help=f"{METHODS[0]} (default), {', '.join(METHODS[1:])}.")] = None,
    draws: Annotated[int | None, _option("--draws", "Draws a chain.", _whole)] = None,
    tune: Annotated[
        int | None, _option("--tune", "Warm-up steps a chain, at most; independent draws have none.", _whole)
    ] = None,
    chains: Annotated[int | None, _option("--chains", "Number of chains.", _whole)] = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or cuda:INDEX.")] = None,
    out: Annotated[str | None, typer.Option(help="The folder to write.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw from the posterior of your own data; write draws, summaries, figures and a manifest."""
    settings = _settings(ctx)
    stages = show.Stages()
    with new_run(_folder_of(settings), force=force) as written:
        from bayesreg.runs import records, run_experiment

        sampled = run_experiment(settings, written, stages)
        written.manifest["seconds"] = stages.seconds
    if json:
        summaries = {units: records(table) for units, table in sampled.summaries.items()}
        _print_json(written.manifest | {"out": settings.out, "summary": summaries})
    else:
        show.show_run(show.console(), sampled, settings.out)
    _finish(not sampled.warnings)


@app.command()
def compare(
    ctx: typer.Context,
    experiment: Experiment = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    prior: Prior = None,
    scale: Scale = None,
    gaussian_scale: GaussianScale = None,
    laplace_scale: LaplaceScale = None,
    loc: Loc = None,
    relative_to_noise: Relative = None,
    noise_scale: Noise = None,
    intercept: Intercept = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Certify that the penalised fit is the MAP: every route to it, each judged against its own tolerance."""
    settings = _settings(ctx)
    with show.Stages()("comparing") as tell:
        from bayesreg.comparison import compare as compare_routes

        rows = settings.load_data()
        scaled = rows.standardized() if settings.standardize else rows
        found = compare_routes(settings.model(), scaled, seed=settings.seed, progress=tell)
    if json:
        _print_json({"command": "compare", "settings": settings.to_dict(), **found.to_dict()})
    else:
        out = show.console()
        show.show_comparison(out, found)
        show.explain_comparison(out, found)
    _finish(found.passed)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="The folder to write.")] = "runs/demo",
    seed: Seed = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Show what the package is for, on real data, in under a minute."""
    seed = 0 if seed is None else seed
    check_seed(seed)
    stages = show.Stages()
    with new_run(out, force=force) as written:
        from bayesreg.runs import run_demo

        parts = run_demo(written, seed, stages)
        written.manifest["seconds"] = stages.seconds
    if json:
        comparisons = {part.prior.kind: part.comparison.to_dict() for part in parts}
        _print_json(written.manifest | {"out": out, "comparisons": comparisons})
    else:
        show.show_demo(show.console(), parts, out)
    _finish(written.manifest["passed"])


def _settings(ctx: typer.Context) -> RunSettings:
    experiment = ctx.params["experiment"]
    table = read_toml(experiment) if experiment is not None else {}
    given = {name: value for name, value in ctx.params.items() if value is not None}
    for name in ("experiment", "force", "json"):
        given.pop(name, None)
    for name in ("scale", "gaussian_scale", "laplace_scale", "loc", "noise_scale"):
        if name in given:
            given[name] = parse_scale(given[name], name)
    return RunSettings.from_mapping(table | given)


def _folder_of(settings: RunSettings) -> str:
    if settings.out is None:
        raise ValueError("out is missing: give the folder to write, --out FOLDER")
    return settings.out


def _finish(passed: bool) -> None:
    if not passed:
        raise typer.Exit(FAILED)


def _print_json(document: Any) -> None:
    sys.stdout.write(strict_json(document))


def main() -> None:
    """Run the command line; a request to terminate cleans up like an interrupt does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are written, no window is opened
    app()


if __name__ == "__main__":
    main()
