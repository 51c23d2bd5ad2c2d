"""What `bayesreg run` and `bayesreg demo` do once the input is parsed: call, and write into a run's folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyro.distributions as dist

from bayesreg.commands.figures import write_figures
from bayesreg.commands.report_command import add_report
from bayesreg.conventions import prior_for
from bayesreg.data import load_diabetes
from bayesreg.engines import ENGINES
from bayesreg.experiment.run_directory import Run, data_fingerprint, strict_json, write_posterior
from bayesreg.experiment.settings import RunSettings
from bayesreg.model import LinearRegression
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.posteriors.posterior import Posterior
from bayesreg.priors import Prior
from bayesreg.sampling import sample, sample_whole
from bayesreg.warnings import convergence_warnings

if TYPE_CHECKING:
    from bayesreg.commands.console import Stages
    from bayesreg.comparison import Comparison

# The demo, in standard units. The noise is about the residual standard deviation of least squares on the diabetes data.
DEMO_NOISE_SCALE = 0.7
DEMO_PENALTIES = {
    "gaussian": L2(0.01, convention="torch-mse-mean"),
    "laplace": L1(0.01, convention="torch-mse-mean"),
}


@dataclass(frozen=True)
class Sampled:
    """A posterior that was written, and what its checks said.

    Attributes:
        posterior: The posterior, as sampled.
        summaries: Its summaries by units: ``original``, and ``standardized`` where the data were.
        warnings: What the convergence checks found; empty where they passed.
        missing_figures: Which figures could not be drawn, and why.
    """

    posterior: Posterior
    summaries: Mapping[str, pd.DataFrame]
    warnings: list[str]
    missing_figures: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the engine, its verdict and the evidence in the words of JSON."""
        details = {"method": self.posterior.method, "reason": self.posterior.reason, **self.posterior.details}
        return {
            "engine": details,
            "converged": not self.warnings,
            "warnings": self.warnings,
            "missing_figures": self.missing_figures,
            "log_evidence": self.posterior.log_evidence,
        }


@dataclass(frozen=True)
class Demonstration:
    """One penalty of the demo: the prior that it stands for, the certificate, the posterior.

    Attributes:
        penalty: What was typed.
        prior: The prior that it stands for.
        comparison: The routes to the MAP under that prior, the noise known.
        sampled: The posterior under that prior, the noise learned.
    """

    penalty: Penalty
    prior: Prior
    comparison: Comparison
    sampled: Sampled

    @property
    def passed(self) -> bool:
        """Whether every route was certified and the draws met their convergence checks."""
        return self.comparison.passed and not self.sampled.warnings

    @property
    def penalised_fit(self) -> np.ndarray:
        """The weights ``(d,)`` that penalised SGD came to."""
        return next(route.weights for route in self.comparison.routes if route.name.startswith("SGD"))


def run_experiment(settings: RunSettings, run: Run, stages: Stages) -> Sampled:
    """Sample what the settings describe, and write it.

    Args:
        settings: The settings.
        run: The run to write into: ``posterior.nc``, ``summary-*.csv``, ``settings.toml``, figures, manifest entries.
        stages: Called with the name of a stage, it gives the context that the stage runs in.

    Returns:
        What was sampled.
    """
    with stages("reading the data"):
        rows = settings.load_data(stages.progress)
        model = settings.model()
    data = rows.standardized() if settings.standardize else rows
    asked = {name: getattr(settings, name) for name in ("draws", "tune", "chains")}
    asked |= {"seed": settings.seed, "device": settings.device, "progress": stages.progress}
    with stages("sampling", spinner=False), convergence_warnings() as found:
        posterior = sample(model, data, settings.method, **asked)
    if posterior.interrupted:
        words = "interrupted; writing the draws made so far; interrupted again, nothing is written"
        print(f"bayesreg: {words}", file=sys.stderr)
    with stages("writing"):
        sampled = Sampled(posterior, write_posterior(run.folder, posterior), found)
        (run.folder / "settings.toml").write_text(settings.to_toml(), encoding="utf-8")
        _draw_run(run.folder / "figures", sampled)
    run.manifest |= {
        "command": "run",
        "seed": settings.seed,
        "device": posterior.details["device"],
        "data": {"source": settings.data, **data_fingerprint(rows)},
        "settings": settings.to_dict(),
        "model": model.to_dict(),
        **sampled.to_dict(),
        "interrupted": posterior.interrupted,
        "passed": not found,
    }
    add_report(run, stages)
    return sampled


def run_demo(run: Run, seed: int, stages: Stages) -> list[Demonstration]:
    """Show on the diabetes data what the package is for, with an L2 and an L1 penalty, and write it.

    Args:
        run: The run to write into.
        seed: Seeds the draws.
        stages: Called with the name of a stage, it gives the context that the stage runs in.

    Returns:
        One demonstration a penalty.
    """
    with stages("reading the data"):
        from bayesreg.comparison import compare  # with every optimiser that it compares: no run needs them

        rows = load_diabetes()
        data = rows.standardized()
    shown = []
    for kind, penalty in DEMO_PENALTIES.items():
        prior = prior_for(penalty, noise_scale=DEMO_NOISE_SCALE, num_rows=data.num_rows)
        with stages(f"{kind} prior, routes to its MAP") as tell:
            comparison = compare(LinearRegression(prior, noise_scale=DEMO_NOISE_SCALE), data, seed=seed, progress=tell)
        model = LinearRegression(prior, noise_scale=dist.HalfNormal(1.0))
        with stages(f"{kind} prior, sampling", spinner=False), convergence_warnings() as found:
            posterior = sample_whole(model, data, seed, stages.progress)
        with stages(f"{kind} prior, writing"):
            sampled = Sampled(posterior, write_posterior(run.folder, posterior, f"-{kind}"), found)
            part = Demonstration(penalty, prior, comparison, sampled)
            _draw_demonstration(run.folder / "figures", part)
        shown.append(part)
    comparisons = {part.prior.kind: part.comparison.to_dict() for part in shown}
    (run.folder / "comparison.json").write_text(strict_json(comparisons), encoding="utf-8")
    run.manifest |= {
        "command": "demo",
        "seed": seed,
        "device": shown[0].sampled.posterior.details["device"],
        "data": {"source": "diabetes", **data_fingerprint(rows)},
        "settings": {"noise_scale": DEMO_NOISE_SCALE, "penalties": {k: repr(p) for k, p in DEMO_PENALTIES.items()}},
        "posteriors": {part.prior.kind: {"prior": part.prior.to_dict(), **part.sampled.to_dict()} for part in shown},
        "comparisons": {part.prior.kind: part.comparison.passed for part in shown},
        "passed": all(part.passed for part in shown),
    }
    add_report(run, stages)
    return shown


def run_comparison(settings: RunSettings, run: Run | None, stages: Stages) -> Comparison:
    """Compare the routes to the MAP that the settings describe, and write what they found, where it is wanted.

    Args:
        settings: The settings.
        run: The run to write into: ``comparison.json``, ``settings.toml``, the report, manifest entries; or None.
        stages: Called with the name of a stage, it gives the context that the stage runs in.

    Returns:
        The comparison.
    """
    with stages("comparing") as tell:
        from bayesreg.comparison import compare

        rows, model = settings.load_data(stages.progress), settings.model()
        data = rows.standardized() if settings.standardize else rows
        found = compare(model, data, seed=settings.seed, progress=tell)
    if run is not None:
        (run.folder / "comparison.json").write_text(strict_json(found.to_dict()), encoding="utf-8")
        (run.folder / "settings.toml").write_text(settings.to_toml(), encoding="utf-8")
        run.manifest |= {
            "command": "compare",
            "seed": settings.seed,
            "data": {"source": settings.data, **data_fingerprint(rows)},
            "settings": settings.to_dict(),
            "model": model.to_dict(),
            "redundant_columns": found.redundant_columns,
            "passed": found.passed,
        }
        add_report(run, stages, (data, None))
    return found


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as one dictionary a row."""
    return table.rename_axis("name").reset_index().to_dict("records")


def _draw_run(folder: Path, sampled: Sampled) -> None:
    from bayesreg.plots import plot_posterior_intervals

    figures = {"intervals": lambda: plot_posterior_intervals(sampled.posterior).figure}
    _write_figures(folder, sampled, figures)
    _draw_diagnostics(folder, sampled)


def _draw_demonstration(folder: Path, part: Demonstration) -> None:
    from bayesreg.plots import plot_map_against_fit, plot_posterior_intervals, plot_prior_and_penalty

    estimate, fit, posterior = part.comparison.estimate, part.penalised_fit, part.sampled.posterior
    knowledge = {"noise_scale": estimate.noise_scale, "num_rows": posterior.data.num_rows}
    figures = {
        "prior-and-penalty": lambda: plot_prior_and_penalty(part.prior, **knowledge)[0].figure,
        "map-against-fit": lambda: plot_map_against_fit(estimate, fit).figure,
        "intervals": lambda: plot_posterior_intervals(posterior, estimate, fit).figure,
    }
    _write_figures(folder, part.sampled, figures, f"-{part.prior.kind}")
    if not ENGINES[posterior.method].independent:  # independent draws have no chain to diagnose
        _draw_diagnostics(folder, part.sampled, f"-{part.prior.kind}")


def _draw_diagnostics(folder: Path, sampled: Sampled, name: str = "") -> None:
    from bayesreg.plots import plot_diagnostics

    _write_figures(folder, sampled, {"diagnostics": lambda: plot_diagnostics(sampled.posterior)}, name)


def _write_figures(folder: Path, sampled: Sampled, figures: Mapping[str, Callable[[], Any]], name: str = "") -> None:
    sampled.missing_figures.extend(write_figures(folder, figures, name))
