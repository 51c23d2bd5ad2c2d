"""The command line: parses, calls, writes. What it calls is imported where it is called, so that it answers at once.

Exit status: 0 fine; 1 a verdict or a convergence check failed; 2 bad input, or a file that cannot be read or written;
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bayesreg import console as show
from bayesreg.run_directory import environment, strict_json

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


def _finish(passed: bool) -> None:
    if not passed:
        raise typer.Exit(FAILED)


def _print_json(document: Any) -> None:
    sys.stdout.write(strict_json(document))


def main() -> None:
    """Run the command line; a request to terminate cleans up like an interrupt does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()


if __name__ == "__main__":
    main()
