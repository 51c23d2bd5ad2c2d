"""The command line: parses, calls, writes. What it calls is imported where it is called, so that it answers at once.

Exit status: 0 fine; 1 a verdict or a convergence check failed; 2 bad input, or a file that cannot be read or written;
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bayesreg import console as show
from bayesreg.run_directory import data_fingerprint, environment, new_run, strict_json
from bayesreg.settings import RunSettings, parse_scale, read_toml

if TYPE_CHECKING:
    from bayesreg.posterior import Posterior

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class _Commands(TyperGroup):
    """Says what is wrong with the input in a line, for every command alike."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("bayesreg: interrupted; nothing was written", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError) as error:
            typer.echo(f"bayesreg: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(BAD_INPUT) from error


app = typer.Typer(
    cls=_Commands,
    help="The prior behind a weight decay, the certificate that the fit is its MAP, and the rest of the posterior.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier run in that folder, and nothing else.")]
Experiment = Annotated[Path | None, typer.Argument(help="A TOML file with the options as keys; options given here win.")]
Data = Annotated[str | None, typer.Option(help="CSV or Parquet file; 'diabetes' for the built-in data.")]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Standardize = Annotated[bool | None, typer.Option(help="Work on mean 0, standard deviation 1 (default: yes).")]
Prior = Annotated[str | None, typer.Option(help="gaussian (default), laplace or flat.")]
Scale = Annotated[str | None, typer.Option(help="Prior scale: 0.5, one a feature 0.5,0.1,..., or HalfNormal(1.0) to learn it.")]
Loc = Annotated[str | None, typer.Option(help="Prior location: a number, or one a feature.")]
Relative = Annotated[bool | None, typer.Option(help="Multiply the prior scale by the noise scale.")]
Noise = Annotated[str | None, typer.Option(help="Noise scale: a number, or a distribution (default: HalfNormal(1.0)).")]
Intercept = Annotated[bool | None, typer.Option(help="An unpenalised intercept (default: yes).")]


@app.command()
def convert(
    convention: Annotated[str, typer.Option(help="Whose penalty it is, such as torch-mse-mean or sklearn-lasso.")] = "",
    l2: Annotated[float | None, typer.Option("--l2", help="L2 strength, as typed in that convention.")] = None,
    l1: Annotated[float | None, typer.Option("--l1", help="L1 strength, as typed in that convention.")] = None,
    prior: Annotated[str, typer.Option(help="Instead of a penalty: gaussian or laplace.")] = "",
    prior_scale: Annotated[float | None, typer.Option(help="The scale of that prior.")] = None,
    noise_scale: Annotated[float | None, typer.Option(help="Standard deviation of the noise.")] = None,
    rows: Annotated[int | None, typer.Option(help="Number of rows.")] = None,
    target_scale: Annotated[float | None, typer.Option(help="Standard deviation of the target (divisor n).")] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(help="Optimizer steps an epoch.")] = None,
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
        line += "".join(f", {show.FLAGS[name][2:]} {value:g}" for name, value in known.items())
        show.show_translation(show.console(), found, line)
        return
    entries = [
        {
            "convention": entry.convention.name,
            "strengths": entry.strengths or None,
            "typed": entry.typed or None,
            "needs": [show.FLAGS[name] for name in entry.needs],
            "objective": entry.convention.objective,
            "knobs": entry.convention.knobs,
        }
        for entry in found.entries
    ]
    _print_json(
        {
            "given": given | known,
            "prior": [{"kind": kind, "scale": scale} for kind, scale in found.scales.items()],
            "needs": [show.FLAGS[name] for name in found.needs],
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
        line = (
            ", ".join(f"{kind.upper()} strength {value:g}" for kind, value in strengths.items()) + f" in {convention}"
        )
        return translate_penalty(strengths, convention, **knowledge), {"convention": convention, **strengths}, line
    if not (prior and scale is not None):
        raise ValueError("a prior needs --prior and --prior-scale")
    return (
        translate_prior(prior, scale, **knowledge),
        {"prior": prior, "scale": scale},
        f"{prior} prior of scale {scale:g}",
    )


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, and whether there is a CUDA device or why there is none."""
    found = environment()
    try:
        import torch
    except ImportError as error:
        found |= {
            "torch": f"cannot be imported: {error}",
            "cuda": {"devices": [], "why_none": "torch cannot be imported"},
        }
        failed = True
    else:
        found |= {"torch": torch.__version__, "cuda": _cuda(torch)}
        failed = False
    if json:
        _print_json(found)
    else:
        show.show_environment(show.console(), found)
    _finish(not failed)


def _cuda(torch: Any) -> dict[str, Any]:
    try:
        torch.zeros(1, dtype=torch.float64, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return {"devices": [], "why_none": str(error).strip().splitlines()[0]}
    return {"devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], "why_none": None}


@app.command()
def run(
    ctx: typer.Context,
    experiment: Experiment = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    prior: Prior = None,
    scale: Scale = None,
    loc: Loc = None,
    relative_to_noise: Relative = None,
    noise_scale: Noise = None,
    intercept: Intercept = None,
    method: Annotated[str | None, typer.Option(help="auto (default), exact, svi or pyro-nuts.")] = None,
    draws: Annotated[int | None, typer.Option(help="Draws a chain.")] = None,
    tune: Annotated[int | None, typer.Option(help="Warm-up steps a chain.")] = None,
    chains: Annotated[int | None, typer.Option(help="Number of chains.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds every random number (default: 0).")] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or cuda:INDEX.")] = None,
    out: Annotated[str | None, typer.Option(help="The folder to write.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw from the posterior of your own data; write draws, summaries, a figure and a manifest."""
    settings = _settings(ctx)
    with new_run(_given_folder(settings), force=force) as written:
        stages = show.Stages()
        with stages("reading the data"):
            rows = settings.load_data()
            model = settings.model()
        posterior, messages = _sample(settings, model, rows.standardized() if settings.standardize else rows, stages)
        with stages("writing"):
            summaries = _write_posterior(written.folder, posterior)
            (written.folder / "settings.toml").write_text(settings.to_toml(), encoding="utf-8")
        result = {
            "command": "run",
            "seed": settings.seed,
            "settings": settings.to_dict(),
            "data": {"source": settings.data, **data_fingerprint(rows)},
            "engine": {"method": posterior.method, "reason": posterior.reason, **(posterior.details or {})},
            "verdicts": {"converged": not messages, "warnings": messages},
            "log_evidence": posterior.log_evidence,
            "seconds": stages.seconds,
        }
        written.manifest.update(result)
    if json:
        _print_json(result | {"out": settings.out, "summary": {units: _records(table) for units, table in summaries.items()}})
    else:
        show.show_run(show.console(), posterior, summaries, messages, settings.out)
    _finish(not messages)


@app.command()
def compare(
    ctx: typer.Context,
    experiment: Experiment = None,
    data: Data = None,
    target: Target = None,
    standardize: Standardize = None,
    prior: Prior = None,
    scale: Scale = None,
    loc: Loc = None,
    relative_to_noise: Relative = None,
    noise_scale: Noise = None,
    intercept: Intercept = None,
    json: Json = False,
) -> None:
    """Certify that the penalised fit is the MAP: every route to it, each judged against its own tolerance."""
    settings = _settings(ctx)
    stages = show.Stages()
    with stages("reading the data"):
        rows = settings.load_data()
        model = settings.model()
    with stages("comparing"):
        from bayesreg.compare import compare as compare_routes

        found = compare_routes(model, rows.standardized() if settings.standardize else rows)
    if json:
        _print_json({"command": "compare", "passed": found.passed, "settings": settings.to_dict(), "routes": _records(found.to_frame())})
    else:
        show.show_comparison(show.console(), found, settings.prior)
    _finish(found.passed)


def _settings(ctx: typer.Context) -> RunSettings:
    experiment = ctx.params["experiment"]
    table = read_toml(experiment) if experiment is not None else {}
    given = {name: value for name, value in ctx.params.items() if value is not None}
    for name in ("experiment", "force", "json"):
        given.pop(name, None)
    for name in ("scale", "loc", "noise_scale"):
        if name in given:
            given[name] = parse_scale(given[name], name)
    try:
        return RunSettings.from_mapping(table | given)
    except ValueError as error:
        raise ValueError(f"{experiment}: {error}" if experiment is not None else str(error)) from error


def _given_folder(settings: RunSettings) -> str:
    if settings.out is None:
        raise ValueError("out is missing: give the folder to write, --out FOLDER")
    return settings.out


def _sample(settings: RunSettings, model: Any, data: Any, stages: show.Stages) -> tuple[Posterior, list[str]]:
    from bayesreg.sampling import sample
    from bayesreg.warnings import ConvergenceWarning

    wanted = {name: getattr(settings, name) for name in ("draws", "tune", "chains")}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    with stages("sampling", spinner=False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        posterior = sample(
            model, data, settings.method, seed=settings.seed, device=settings.device, progress=sys.stderr.isatty(), **wanted
        )
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    for message in messages:
        typer.echo(f"bayesreg: not converged: {message}", err=True)
    return posterior, messages


def _finish(passed: bool) -> None:
    if not passed:
        raise typer.Exit(FAILED)


def _records(table: Any) -> list[dict[str, Any]]:
    return table.reset_index().to_dict("records")


def _print_json(document: Any) -> None:
    sys.stdout.write(strict_json(document))


def main() -> None:
    """Run the command line; a request to terminate cleans up like an interrupt does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()


if __name__ == "__main__":
    main()
