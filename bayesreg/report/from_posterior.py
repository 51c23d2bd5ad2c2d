"""What a report says of one posterior: the MAP and its certificate, coefficients, diagnostics, predictive check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.comparison import EXACT_TOLERANCE
from bayesreg.data import RegressionData
from bayesreg.engines import ENGINES
from bayesreg.inference.map import MapEstimate, map_estimate
from bayesreg.posteriors.summary import convergence
from bayesreg.report import sentences
from bayesreg.report.explorer import MOST_FEATURES, Mark
from bayesreg.sampling import MANY_CHAINS

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.posteriors.posterior import Posterior

INTERVAL = 0.9
_REPLICATIONS, _MOST_REPLICATED_NUMBERS = 1000, 2e7
_BINS = 24
_STATISTICS = {"mean": np.mean, "standard deviation": np.std, "smallest value": np.min, "largest value": np.max}


@dataclass(frozen=True)
class PosteriorPart:
    """One posterior as the report has it.

    Attributes:
        posterior: As sampled.
        estimate: The MAP at the posterior means of what is learned.
        held: What was held at its posterior mean for that, by name.
        passed: Whether the MAP is certified.
        certificate: Its certificate in a sentence.
        coefficients: Rows of the table of coefficients.
        left_out: How many coefficients are not in it.
        units: The units of the coefficients.
        coefficients_say: What the table shows, in a sentence.
        diagnostics: The finding on the draws.
        measures: The numbers of the diagnostics, by name.
        predictive: The posterior predictive check, or why there is none.
    """

    posterior: Posterior
    estimate: MapEstimate
    held: dict[str, float]
    passed: bool
    certificate: sentences.Finding
    coefficients: list[dict[str, str]]
    left_out: int
    units: str
    coefficients_say: str
    diagnostics: sentences.Finding
    measures: dict[str, str]
    predictive: dict[str, Any]

    @property
    def noise_scale(self) -> float:
        """The noise scale of the MAP."""
        return self.estimate.noise_scale

    @property
    def strengths(self) -> dict[str, Any]:
        """The canonical strengths of its penalty, by kind."""
        penalty = self.estimate.penalty
        found = {"l2": penalty.l2, "l1": penalty.l1}
        return {kind: np.asarray(value).tolist() for kind, value in found.items()}

    def mark(self, label: str) -> Mark | None:
        """Return where on the explorer's axis this is; None where it is not on it."""
        prior, penalty = self.estimate.model.prior, self.estimate.penalty
        kind = {"gaussian": "l2", "laplace": "l1"}.get(prior.kind)
        strength = getattr(penalty, kind) if kind else 0.0
        if np.ndim(strength) or np.any(penalty.centre) or not strength > 0.0:
            return None
        return Mark(kind, float(strength), label)


def posterior_part(posterior: Posterior, warnings: list[str]) -> PosteriorPart:
    """Gather what the report says of a posterior.

    Args:
        posterior: The posterior, as sampled.
        warnings: What the run's convergence checks warned of.

    Returns:
        The part.
    """
    held = {}
    for name, learned in (
        ("noise_scale", posterior.model.noise_is_learned),
        ("prior_scale", posterior.model.prior.scale_is_learned),
    ):
        if learned:
            held[name] = float(posterior.draws[name].mean())
    estimate = map_estimate(posterior.model, posterior.data, **held)
    certificate = estimate.certificate
    judged = certificate.kkt_residual if certificate.relative_gap is None else certificate.relative_gap
    passed = judged <= EXACT_TOLERANCE
    summary = posterior.summary(INTERVAL)
    coefficients, units = _coefficients(posterior, estimate)
    diagnostics, measures = _diagnostics(posterior, summary, warnings)
    return PosteriorPart(
        posterior=posterior,
        estimate=estimate,
        held=held,
        passed=passed,
        certificate=sentences.certified(passed, certificate.relative_gap, EXACT_TOLERANCE, certificate.kkt_residual),
        coefficients=coefficients,
        left_out=posterior.data.num_features - min(posterior.data.num_features, MOST_FEATURES),
        units=units,
        coefficients_say=_coefficients_say(posterior, estimate, summary),
        diagnostics=diagnostics,
        measures=measures,
        predictive=_predictive(posterior),
    )


def _coefficients(posterior: Posterior, estimate: MapEstimate) -> tuple[list[dict[str, str]], str]:
    """Return a row a weight in the units of the data, those of the largest effect, and what the units are."""
    spread = np.ones(posterior.data.num_features)
    if posterior.transform is not None:
        effects = estimate.weights.abs().numpy() + posterior.draws["weights"].mean((0, 1)).abs().numpy()
        posterior, estimate = posterior.original_units(), estimate.original_units()
    else:
        effects = posterior.draws["weights"].mean((0, 1)).abs().numpy()
        if isinstance(posterior.data, RegressionData):
            spread = posterior.data.features.std(0)
    shown = sorted(np.argsort(-effects * spread, kind="stable")[:MOST_FEATURES].tolist())
    summary = posterior.summary(INTERVAL)
    names = posterior.data.feature_names
    rows = [
        _row(names[index], float(estimate.weights[index]), summary.loc[f"weights[{names[index]}]"]) for index in shown
    ]
    if "intercept" in summary.index:
        rows.append(_row("intercept", estimate.intercept, summary.loc["intercept"]))
    if "noise_scale" in summary.index:
        rows.append(_row("noise scale", None, summary.loc["noise_scale"]))
    unit = f"{posterior.data.target_name} per unit of the feature"
    return rows, unit


def _coefficients_say(posterior: Posterior, estimate: MapEstimate, summary: pd.DataFrame) -> str:
    d = posterior.data.num_features
    weights = summary.iloc[:d]
    bounds = [next(name for name in summary if name.endswith(end)) for end in ("_lower", "_upper")]
    apart = int(((weights[bounds[0]] > 0) | (weights[bounds[1]] < 0)).sum())
    text = f"The {INTERVAL:.0%} intervals of {apart} of {d:,} weights leave out 0"
    zeros = int((estimate.weights == 0).sum())
    if estimate.penalty.kind in ("l1", "elasticnet"):
        return f"{text}; the MAP sets {zeros} of them to exactly 0, which is not to say that they are known to be 0."
    return f"{text}: the sign of the others is not settled by these data and this prior."


def _row(name: str, mode: float | None, row: pd.Series) -> dict[str, Any]:
    lower, upper = (next(column for column in row.index if column.endswith(end)) for end in ("_lower", "_upper"))
    spread = row["sd"]
    return {
        "name": name,
        "map": "–" if mode is None else "0" if mode == 0.0 else rounded(mode, spread),
        "mean": rounded(row["mean"], spread),
        "lower": rounded(row[lower], spread),
        "upper": rounded(row[upper], spread),
        "sure": bool(row[lower] > 0.0 or row[upper] < 0.0),
    }


def rounded(value: float, spread: float) -> str:
    """Return a number with as many decimals as two digits of its spread have."""
    if not np.isfinite(value):
        return "–"
    if not (np.isfinite(spread) and 1e-6 < spread < 1e9):
        return sentences.number(value)
    decimals = max(0, 1 - int(np.floor(np.log10(spread))))
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−", 1)


def _diagnostics(
    posterior: Posterior, summary: pd.DataFrame, warnings: list[str]
) -> tuple[sentences.Finding, dict[str, str]]:
    draws = posterior.num_chains * posterior.num_draws
    many = posterior.num_chains >= MANY_CHAINS
    judged = convergence(posterior.draws, posterior.data.feature_names, many)  # as the run itself was judged
    r_hat, ess = judged["r_hat"], judged["ess"]
    divergent = int(posterior.sample_stats["diverging"].sum()) if "diverging" in posterior.sample_stats else 0
    finding = sentences.chains(posterior.method, draws, float(r_hat.max()), float(ess.min()), divergent, warnings, many)
    error = float((summary["mcse_mean"] / summary["sd"]).max())
    measures = {
        "Engine": posterior.method,
        "Why this one": posterior.reason,
        "Draws": f"{posterior.num_chains} × {posterior.num_draws:,}",
        "Error of the means": "unknown" if np.isnan(error) else f"at most {error:.1%} of a standard deviation",
    }
    if not ENGINES[posterior.method].independent:
        measures |= {
            "Largest R-hat": "unknown" if r_hat.isna().all() else f"{r_hat.max():.4f} ({r_hat.idxmax()})",
            "Smallest effective sample size": "unknown" if ess.isna().all() else f"{ess.min():,.0f} ({ess.idxmin()})",
            "Divergent transitions": f"{divergent:,}",
        }
    if posterior.log_evidence is not None:
        measures["Log evidence"] = (
            f"{posterior.log_evidence:,.2f} nats, of the target in the units that were sampled in"
        )
    return finding, measures


def _predictive(posterior: Posterior) -> dict[str, Any]:
    """Return the posterior predictive check: coverage, statistics, and counts of replicated targets in bins."""
    data = posterior.data
    if not isinstance(data, RegressionData):
        return {
            "chart": None,
            "why_not": "There is no predictive check: the run holds the moments of the data and not their rows.",
        }
    if data.num_rows * _REPLICATIONS > _MOST_REPLICATED_NUMBERS:
        return {"chart": None, "why_not": f"There is no predictive check: {data.num_rows:,} rows would take too long."}
    drawn, observed = posterior.thin(_REPLICATIONS).predict(data.features, seed=posterior.seed % 2**32), data.target
    drawn = drawn.reshape(-1, data.num_rows).numpy()
    if posterior.transform is not None:
        drawn, observed = map(posterior.transform.to_original_predictions, (drawn, observed))
    lower, upper = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
    covered = int(((observed >= lower) & (observed <= upper)).sum())
    p_values, statistics = {}, []
    for name, statistic in _STATISTICS.items():
        replicated = statistic(drawn, axis=1)
        found = float(statistic(observed))
        p_values[name] = float(np.mean(replicated < found) + 0.5 * np.mean(replicated == found))
        low, high = np.quantile(replicated, [0.05, 0.95])
        spread = float(replicated.std())
        statistics.append(
            {
                "name": name,
                "observed": rounded(found, spread),
                "low": rounded(low, spread),
                "high": rounded(high, spread),
            }
        )
    ends = np.quantile(drawn, [0.001, 0.999])
    edges = np.linspace(min(observed.min(), ends[0]), max(observed.max(), ends[1]), _BINS + 1)
    counts = np.stack([np.histogram(one, edges)[0] for one in drawn])
    low, middle, high = np.quantile(counts, [0.05, 0.5, 0.95], axis=0)
    return {
        "coverage": sentences.coverage(covered, data.num_rows, INTERVAL),
        "replicated": sentences.replicated(p_values),
        "statistics": statistics,
        "replications": len(drawn),
        "chart": {
            "target": data.target_name,
            "centres": ((edges[1:] + edges[:-1]) / 2).tolist(),
            "width": float(edges[1] - edges[0]),
            "observed": np.histogram(observed, edges)[0].tolist(),
            "lower": low.tolist(),
            "median": middle.tolist(),
            "upper": high.tolist(),
        },
    }
