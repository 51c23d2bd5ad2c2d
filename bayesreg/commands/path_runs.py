"""What `bayesreg path` and `bayesreg choose` do once the input is parsed: call, and write into a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from bayesreg.commands.figures import write_figures
from bayesreg.commands.report_command import add_report
from bayesreg.data import RegressionData
from bayesreg.experiment.path_settings import ChoiceSettings, PathSettings
from bayesreg.experiment.run_directory import Run, data_fingerprint
from bayesreg.paths.centred_design import centred_design
from bayesreg.paths.lambdas import checked_ratio, default_lambdas
from bayesreg.paths.penalty_path import Path, path
from bayesreg.warnings import convergence_warnings

if TYPE_CHECKING:
    from bayesreg.commands.console import Stages
    from bayesreg.selection.choosing import LambdaChoice


@dataclass(frozen=True)
class WrittenPath:
    """A path that was written.

    Attributes:
        path: The fits, in the units that they were made in.
        test_loss: The loss of each on the test rows `(m,)`, or None without them.
        warnings: What the convergence checks found; empty where they passed.
        missing_figures: Which figures could not be drawn, and why.
    """

    path: Path
    test_loss: torch.Tensor | None
    warnings: list[str]
    missing_figures: list[str]

    @property
    def noise_scale(self) -> float | None:
        """The noise scale of the prior scales; None where the data say nothing of it and none was given."""
        try:
            return self.path.noise_scale
        except ValueError:
            return None

    def table(self) -> pd.DataFrame:
        """Return one row a strength, without the weights: as ``path.csv`` has it."""
        fits = self.path
        known = self.noise_scale is not None
        scales = fits.prior_scales.reshape(len(fits.lambdas), -1).numpy().T if known else []
        names = ("prior_scale_gaussian", "prior_scale_laplace") if fits.kind == "elasticnet" else ("prior_scale",)
        columns = {
            "lambda": fits.lambdas.numpy(),
            **dict(zip(names, scales, strict=False)),
            "loss": fits.losses.numpy(),
        }
        if self.test_loss is not None:
            columns["test_loss"] = self.test_loss.numpy()
        columns["num_nonzero"] = fits.num_nonzero.numpy()
        if fits.kind == "l2":
            columns["degrees_of_freedom"] = fits.degrees_of_freedom.numpy()
        return pd.DataFrame(columns | {"relative_gap": fits.relative_gaps.numpy()})

    def _prior_scales(self, fits: Path) -> dict[str, np.ndarray]:
        if self.noise_scale is None:
            return {}
        scales = fits.prior_scales.numpy()
        if fits.kind == "elasticnet":
            return {"prior_scale_gaussian": scales[:, 0], "prior_scale_laplace": scales[:, 1]}
        return {"prior_scale": scales}

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate, its verdict and what the prior scales refer to, in the words of JSON."""
        return {
            "noise_scale": self.noise_scale,
            "redundant_columns": self.path.redundant_columns,
            "largest_relative_gap": float(self.path.relative_gaps.max()),
            "converged": not self.warnings,
            "warnings": self.warnings,
            "missing_figures": self.missing_figures,
            "passed": not self.warnings,
        }


@dataclass(frozen=True)
class WrittenChoice(WrittenPath):
    """A choice of lambda that was written, with the path that it was made on.

    Attributes:
        choice: The choice.
    """

    choice: LambdaChoice

    def choices(self) -> pd.DataFrame:
        """Return one row a method: as ``choice.csv`` has it."""
        table = self.choice.to_frame().reset_index()
        after = table.columns.get_loc("lambda") + 1
        for name, scales in reversed(self._prior_scales(self.choice.chosen).items()):
            table.insert(after, name, scales)
        return table


def run_path(settings: PathSettings, run: Run, stages: Stages) -> WrittenPath:
    """Fit at every strength that the settings describe, and write it.

    Args:
        settings: The settings.
        run: The run to write into: ``path.csv`` in the units of the fit, ``path-original.csv`` where those are standard
            ones, ``settings.toml``, a figure, manifest entries.
        stages: Called with the name of a stage, it gives the context that the stage runs in.

    Returns:
        What was written.
    """
    rows, data, test = _read(settings, stages)
    with stages("fitting"), convergence_warnings() as found:
        fits = path(data, lambdas=_lambdas(settings, data), **settings.fit_arguments())
    with stages("writing"):
        written = WrittenPath(fits, None if test is None else fits.loss(test), found, [])
        _write_path(run.folder, written)
        _write_settings("path", settings, run, rows)
        from bayesreg.plots import plot_path

        _draw(run.folder, written, {"path": lambda: plot_path(fits).figure})
    run.manifest |= written.to_dict()
    add_report(run, stages, (data, test))
    return written


def run_choice(settings: ChoiceSettings, run: Run, stages: Stages) -> WrittenChoice:
    """Choose lambda as the settings describe, and write it.

    Args:
        settings: The settings.
        run: The run to write into: ``choice.csv``, ``cv.csv`` and ``evidence.csv`` as far as methods made them, what
            `run_path` writes, figures, manifest entries.
        stages: Called with the name of a stage, it gives the context that the stage runs in.

    Returns:
        What was written.
    """
    from bayesreg.selection.choosing import choose_lambda

    rows, data, test = _read(settings, stages)
    asked = {} if settings.methods is None else {"methods": settings.methods}
    asked |= {"folds": settings.folds, "seed": settings.seed, "test": test, "progress": stages.progress}
    with stages("choosing", spinner=False), convergence_warnings() as found:
        choice = choose_lambda(data, lambdas=_lambdas(settings, data), **asked, **settings.fit_arguments())
    with stages("writing"):
        written = WrittenChoice(choice.path, choice.test_losses, found, [], choice)
        _write_path(run.folder, written)
        tables = {"choice": written.choices(), "evidence": choice.evidence}
        if choice.cross_validation is not None:
            tables["cv"] = choice.cross_validation.to_frame()
        for name, table in tables.items():
            if table is not None:
                table.to_csv(run.folder / f"{name}.csv", index=False)
        _write_settings("choose", settings, run, rows)
        _draw(run.folder, written, _choice_figures(choice))
    run.manifest |= {"seed": settings.seed, **written.to_dict()}
    add_report(run, stages, (data, test))
    return written


def _read(settings: PathSettings, stages: Stages) -> tuple[RegressionData, RegressionData, RegressionData | None]:
    """Return the rows as they are, the rows to fit, and the test rows in the units of those."""
    with stages("reading the data"):
        rows = settings.load_data(stages.progress)
        test = settings.load_test(rows)
    data = rows.standardized() if settings.standardize else rows
    if test is not None and data.transform is not None:
        test = data.transform.apply(test)
    return rows, data, test


def _lambdas(settings: PathSettings, data: RegressionData) -> np.ndarray | None:
    """Return the strengths, or None for those of `path`."""
    if settings.lambdas is not None or settings.num_lambdas is None:
        return None if settings.lambdas is None else np.array(settings.lambdas)
    ratio = checked_ratio(settings.kind, 0.5 if settings.l1_ratio is None else settings.l1_ratio)
    ends = default_lambdas(centred_design(data, settings.intercept), settings.kind, ratio)[[0, -1]]
    return np.geomspace(*ends, settings.num_lambdas)


def _write_path(folder: Folder, written: WrittenPath) -> None:
    """Write the path in the units of the fit, and in those of the data where these are others."""
    units = {"path": written.path}
    if written.path.transform is not None:
        units["path-original"] = written.path.original_units()
    for name, fits in units.items():
        # A feature may be called as a column is, so the weights are put beside the table, not into it.
        weights = pd.DataFrame(fits.weights.numpy(), columns=list(fits.feature_names))
        intercepts = pd.DataFrame({"intercept": fits.intercepts.numpy()})
        pd.concat([written.table(), intercepts, weights], axis=1).to_csv(folder / f"{name}.csv", index=False)


def _write_settings(command: str, settings: PathSettings, run: Run, rows: RegressionData) -> None:
    (run.folder / "settings.toml").write_text(settings.to_toml(), encoding="utf-8")
    source = {"source": settings.data, **data_fingerprint(rows)}
    run.manifest |= {"command": command, "data": source, "settings": settings.to_dict()}


def _choice_figures(choice: LambdaChoice) -> dict[str, Callable[[], Any]]:
    from bayesreg.plots import plot_cross_validation, plot_evidence, plot_losses, plot_path

    figures = {"path": lambda: plot_path(choice.path).figure, "losses": lambda: plot_losses(choice).figure}
    if choice.cross_validation is not None or choice.leave_one_out is not None:
        figures["cross-validation"] = lambda: plot_cross_validation(choice).figure
    if choice.evidence is not None:
        figures["evidence"] = lambda: plot_evidence(choice).figure
    return figures


def _draw(folder: Folder, written: WrittenPath, figures: dict[str, Callable[[], Any]]) -> None:
    written.missing_figures.extend(write_figures(folder / "figures", figures))
