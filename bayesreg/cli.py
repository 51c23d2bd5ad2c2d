"""The command line: parses, calls, writes. What it calls is imported where it is called, so that it answers at once.

Exit status: 0 fine; 1 a verdict or a convergence check failed; 2 bad input, or a file that cannot be read or written;
130 interrupted, as shells have it: `run` has then written the draws made so far, where there were any, and says so; the
other commands write nothing. With BAYESREG_TRACEBACK=1 in the environment an error keeps its traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import bayesreg
from bayesreg.commands import console as show
from bayesreg.commands import path_commands
from bayesreg.commands.options import (
    BAD_INPUT,
    INTERRUPTED,
    Data,
    Experiment,
    Force,
    GaussianScale,
    Intercept,
    Json,
    LaplaceScale,
    Loc,
    Noise,
    Out,
    Prior,
    Progress,
    Relative,
    Scale,
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
from bayesreg.commands.report_command import report
from bayesreg.engines import METHODS
from bayesreg.experiment.flags import FLAGS, in_flags
from bayesreg.experiment.run_directory import environment, new_run
from bayesreg.experiment.settings import RunSettings, check_seed, parse_scale
from bayesreg.report.folder import page_in

_SCALES = ("scale", "gaussian_scale", "laplace_scale", "loc", "noise_scale")


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


app = typer.Typer(
    cls=_Commands,
    help="The prior behind a weight decay, the certificate that the fit is its MAP, and the rest of the posterior.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    l2: Annotated[float | None, option("--l2", "L2 strength, as typed in that convention.", number)] = None,
    l1: Annotated[float | None, option("--l1", "L1 strength, as typed in that convention.", number)] = None,
    prior: Annotated[str, typer.Option(help="Instead of a penalty: gaussian, laplace or elasticnet.")] = "",
    prior_scale: Annotated[float | None, option("--prior-scale", "The scale of that prior.", number)] = None,
    gaussian_scale: Annotated[
        float | None, option("--gaussian-scale", "Of an elasticnet prior: its Gaussian factor's scale.", number)
    ] = None,
    laplace_scale: Annotated[
        float | None, option("--laplace-scale", "Of an elasticnet prior: its Laplace factor's scale.", number)
    ] = None,
    noise_scale: Annotated[float | None, option("--noise-scale", "Standard deviation of the noise.", number)] = None,
    rows: Annotated[int | None, option("--rows", "Number of rows.", whole)] = None,
    target_scale: Annotated[
        float | None, option("--target-scale", "Standard deviation of the target (divisor n).", number)
    ] = None,
    steps_per_epoch: Annotated[int | None, option("--steps-per-epoch", "Optimizer steps an epoch.", whole)] = None,
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
    scales = {"prior_scale": prior_scale, "gaussian_scale": gaussian_scale, "laplace_scale": laplace_scale}
    scales = {name: value for name, value in scales.items() if value is not None}
    found, given, line = _translated(convention, strengths, prior, scales, knowledge)
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
    print_json(
        {
            "given": given | known,
            "prior": [{"kind": kind, "scale": scale} for kind, scale in found.scales.items()],
            "needs": [FLAGS[name] for name in found.needs],
            "conventions": entries,
            "refused": found.refused,
        }
    )


def _translated(
    convention: str, strengths: dict[str, float], prior: str, scales: dict[str, float], knowledge: dict
) -> tuple:
    from bayesreg.translation import translate_penalty, translate_prior

    if bool(convention or strengths) == bool(prior or scales):
        raise ValueError("give either --convention with --l2 or --l1, or --prior with --prior-scale")
    if convention or strengths:
        if not (convention and strengths):
            raise ValueError("a penalty needs --convention and a strength: --l2, --l1, or both")
        found = translate_penalty(strengths, convention, **knowledge)
        typed = ", ".join(f"{kind.upper()} strength {value:g}" for kind, value in strengths.items())
        return found, {"convention": convention, **strengths}, f"{typed} in {convention}"
    if prior == "elasticnet":
        if set(scales) != {"gaussian_scale", "laplace_scale"}:
            raise ValueError("an elasticnet prior needs --gaussian-scale and --laplace-scale, and no --prior-scale")
        found = translate_prior({name.removesuffix("_scale"): value for name, value in scales.items()}, **knowledge)
        words = (
            f"elasticnet prior, Gaussian scale {scales['gaussian_scale']:g}, Laplace scale {scales['laplace_scale']:g}"
        )
        return found, {"prior": prior, **scales}, words
    if not prior or set(scales) != {"prior_scale"}:
        raise ValueError("a prior needs --prior and --prior-scale (--prior elasticnet: two scales)")
    scale = scales["prior_scale"]
    found = translate_prior({prior: scale}, **knowledge)
    return found, {"prior": prior, "scale": scale}, f"{prior} prior of scale {scale:g}"


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, and whether there is a CUDA device or why there is none."""
    found = environment()
    try:
        import torch

        from bayesreg.computing.devices import why_no_cuda
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
        print_json(found)
    else:
        show.show_environment(show.console(), found)
    finish(not failed)


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
    draws: Annotated[int | None, option("--draws", "Draws a chain.", whole)] = None,
    tune: Annotated[
        int | None, option("--tune", "Warm-up steps a chain, at most; independent draws have none.", whole)
    ] = None,
    chains: Annotated[int | None, option("--chains", "Number of chains.", whole)] = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or cuda:INDEX.")] = None,
    out: Out = None,
    force: Force = False,
    progress: Progress = True,
    json: Json = False,
) -> None:
    """Draw from the posterior of your own data; write draws, summaries, figures and a manifest."""
    settings = _settings(ctx)
    stages = show.Stages(progress)
    with new_run(folder_of(settings), force=force) as written:
        from bayesreg.commands.runs import records, run_experiment

        sampled = run_experiment(settings, written, stages)
        written.manifest["seconds"] = stages.seconds
    if json:
        summaries = {units: records(table) for units, table in sampled.summaries.items()}
        print_json(written.manifest | {"out": settings.out, "summary": summaries})
    else:
        show.show_run(show.console(), sampled, settings.out)
    finish(not sampled.warnings, sampled.posterior.interrupted)


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
    out: Annotated[str | None, typer.Option(help="A folder to write, with a report.")] = None,
    force: Force = False,
    progress: Progress = True,
    json: Json = False,
) -> None:
    """Certify that the penalised fit is the MAP: every route to it, each judged against its own tolerance."""
    settings, stages = _settings(ctx), show.Stages(progress)
    # A TOML file's folder is that of its run: a comparison is written where a folder is asked for here.
    with nullcontext() if out is None else new_run(out, force=force) as written:
        from bayesreg.commands.runs import run_comparison

        found = run_comparison(settings, written, stages)
    if json:
        where = {} if out is None else {"out": out}
        print_json({"command": "compare", "settings": settings.to_dict(), **where, **found.to_dict()})
    else:
        show.show_comparison(show.console(), found)
        show.explain_comparison(show.console(), found)
        if out is not None:
            show.label(show.console(), "Written", page_in(out), whole=True)
    finish(found.passed)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="The folder to write.")] = "runs/demo",
    seed: Seed = None,
    force: Force = False,
    progress: Progress = True,
    json: Json = False,
) -> None:
    """Show what the package is for, on real data, in under a minute."""
    seed = 0 if seed is None else seed
    check_seed(seed)
    stages = show.Stages(progress)
    with new_run(out, force=force) as written:
        from bayesreg.commands.runs import run_demo

        parts = run_demo(written, seed, stages)
        written.manifest["seconds"] = stages.seconds
    if json:
        comparisons = {part.prior.kind: part.comparison.to_dict() for part in parts}
        print_json(written.manifest | {"out": out, "comparisons": comparisons})
    else:
        show.show_demo(show.console(), parts, out)
    finish(written.manifest["passed"])


app.command()(path_commands.path)
app.command()(path_commands.choose)
app.command()(report)


def _settings(ctx: typer.Context) -> RunSettings:
    return settings_from(ctx, RunSettings, {name: partial(parse_scale, argument=name) for name in _SCALES})


def main() -> None:
    """Run the command line; a request to terminate cleans up like an interrupt does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are written, no window is opened
    app()


if __name__ == "__main__":
    main()
