"""`bayesreg report`, and the report that every run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesreg.commands.options import Json, finish, print_json
from bayesreg.experiment.run_directory import MANIFEST, environment, put_text, read_manifest, strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayesreg.commands.console import Stages
    from bayesreg.experiment.run_directory import Run

Folder = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run.")]
Convention = Annotated[
    str | None, typer.Option(help="Say lambda in this convention (default: mean-half-squared; of the demo, torch's).")
]


def report(folder: Folder, convention: Convention = None, json: Json = False) -> None:
    """Write one self-contained page about a run into its folder, with the lambda axis to move along."""
    if not folder.is_dir():
        raise ValueError(f"RUN_DIR must be the folder of a run, got {str(folder)!r}, where there is none")
    manifest = read_manifest(folder)
    if convention is not None:
        from bayesreg.objectives import get_convention

        convention = get_convention(convention).name
    from bayesreg.report.folder import EXPLORER, REPORT
    from bayesreg.report.write import write_report

    strangers = [name for name in (REPORT, EXPLORER) if (folder / name).exists() and name not in manifest["files"]]
    if strangers:
        raise ValueError(f"{str(folder)!r} holds {strangers[0]}, which bayesreg did not write: move it away")
    page = write_report(folder, manifest, convention)
    made = {name for name in (REPORT, EXPLORER) if (folder / name).exists()}
    if not made <= set(manifest["files"]):
        put_text(folder / MANIFEST, strict_json(manifest | {"files": sorted({*manifest["files"], *made})}))
    if json:
        verdict = page["verdict"]
        print_json({"command": "report", "report": folder / REPORT, "passed": verdict.passed, "verdict": verdict.text})
    else:
        typer.echo(page["verdict"].text)
        typer.echo(f"Written    {folder / REPORT}")
    finish(page["verdict"].passed)


def add_report(run: Run, stages: Stages, rows: Any = None) -> None:
    """Write the report of a run into its folder, before it is renamed.

    One that cannot be made costs nothing else: standard error and the manifest, as ``missing_report``, say why.

    Args:
        run: The run, its manifest complete but for the environment.
        stages: Called with the name of a stage, it gives the context that the stage runs in.
        rows: The rows in the units of the fit, and the test rows or None, where the folder does not hold them.

    Raises:
        OSError: It cannot be written.
    """
    with stages("report"):
        try:
            from bayesreg.report.write import write_report

            write_report(run.folder, _complete(run), None, rows)
        except OSError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            run.manifest["missing_report"] = reason
            typer.echo(f"bayesreg: there is no report: {reason}", err=True)


def _complete(run: Run) -> Mapping[str, Any]:
    return {"name": run.name, "created_at": run.created_at, **run.manifest, "environment": environment()}
