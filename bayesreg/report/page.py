"""What the page of a run says, part by part, gathered from the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bayesreg.data import RegressionData
from bayesreg.engines import ENGINES
from bayesreg.experiment.flags import in_flags
from bayesreg.objectives import CANONICAL
from bayesreg.paths.lasso_path import LARGEST_GAP
from bayesreg.report import sentences
from bayesreg.report.conventions import check_convention, check_factors
from bayesreg.report.explorer import Mark, explore
from bayesreg.report.folder import COMMANDS, EXPLORER, read_data, read_json, read_posterior, read_table
from bayesreg.report.from_posterior import PosteriorPart, posterior_part
from bayesreg.report.sentences import Finding, number

Rows = tuple[RegressionData, RegressionData | None]
_PRINTED_FITS = 12
_KINDS = {"l2": "L2", "l1": "L1", "elasticnet": "elastic net"}


def page_of(
    folder: Path, manifest: Mapping[str, Any], convention: str | None = None, rows: Rows | None = None
) -> dict[str, Any]:
    """Gather the page of a run.

    Args:
        folder: The run's folder.
        manifest: What its manifest says.
        convention: The convention that lambda is said in; None: the run's own.
        rows: The rows in the units of the fit, and the test rows or None; None: read again, where they are needed.

    Returns:
        What the template shows.

    Raises:
        ValueError: The folder lacks what the page is made of, or lambda cannot be said in that convention.
    """
    command = manifest.get("command")
    if command not in COMMANDS:
        raise ValueError(f"{str(folder)!r} is of the command {command!r}; there are reports of {', '.join(COMMANDS)}")
    make = {"run": _of_run, "demo": _of_demo, "compare": _of_compare, "path": _of_path, "choose": _of_path}[command]
    try:
        if convention is not None:
            check_convention(convention, manifest)
        page = make(folder, manifest, convention, rows)
        if convention is not None:
            check_factors(convention, manifest, page["explorer"])
        return page
    except KeyError as error:
        raise ValueError(f"the manifest of {str(folder)!r} has no {error}: run the command again") from error


def _page(
    folder: Path, manifest: Mapping[str, Any], explorer: Mapping[str, Any], convention: str, **rest: Any
) -> dict[str, Any]:
    data = manifest["data"]
    subject = f"{Path(str(data['source'])).name}, {data['rows']:,} rows, {len(data['features']):,} features, "
    return {
        "command": manifest["command"],
        "name": manifest.get("name", folder.name),
        "subject": subject + f"target {data['target']}",
        "columns": manifest.get("redundant_columns") or manifest.get("engine", {}).get("redundant_columns", ""),
        "manifest": _manifest_rows(manifest),
        "explorer": explorer,
        "certified": {
            kind: sentences.gaps(axis["largest_gap"], LARGEST_GAP, len(axis["lambdas"])).text
            for kind, axis in explorer["axes"].items()
        },
        "convention": convention,
        "parts": [],
        "path": None,
        "choices": None,
        **rest,
    }


def _of_run(folder: Path, manifest: Mapping[str, Any], convention: str | None, rows: Rows | None) -> dict[str, Any]:
    part = posterior_part(read_posterior(folder, "posterior.nc"), manifest["warnings"])
    explorer = _explorer_of(folder, [part])
    convention = convention or CANONICAL
    verdict = _verdict_of_part(part, None, explorer, convention)
    return _page(folder, manifest, explorer, convention, verdict=verdict, parts=[_part("", part, None)])


def _of_demo(folder: Path, manifest: Mapping[str, Any], convention: str | None, rows: Rows | None) -> dict[str, Any]:
    comparisons = read_json(folder, "comparison.json")
    parts = {
        kind: posterior_part(read_posterior(folder, f"posterior-{kind}.nc"), said["warnings"])
        for kind, said in manifest["posteriors"].items()
    }
    # The comparison knows the noise, the posterior learns it: the explorer is at the noise of the comparison.
    noise = next(iter(comparisons.values()))["noise_scale"]
    marks = [Mark(kind, comparisons[prior]["penalty"][kind], "the demo's") for prior, kind in _PENALTY_OF.items()]
    explorer = _explorer_of(folder, list(parts.values()), noise, marks)
    convention = convention or "torch-mse-mean"
    verdicts = [_verdict_of_part(part, comparisons[kind], explorer, convention) for kind, part in parts.items()]
    verdict = Finding(all(one.passed for one in verdicts), " ".join(one.text for one in verdicts))
    titles = {"gaussian": "Gaussian prior", "laplace": "Laplace prior"}
    shown = [_part(titles[kind], part, comparisons[kind]) for kind, part in parts.items()]
    return _page(folder, manifest, explorer, convention, verdict=verdict, parts=shown)


_PENALTY_OF = {"gaussian": "l2", "laplace": "l1"}


def _explorer_of(
    folder: Path, parts: list[PosteriorPart], noise_scale: float | None = None, marks: list[Mark] | None = None
) -> dict[str, Any]:
    """Return the explorer that the run stored, or else the one of its posterior's own data, and store it."""
    if (folder / EXPLORER).is_file():
        return read_json(folder, EXPLORER)
    posterior = parts[0].posterior
    source = "as given"
    if noise_scale is None:
        noise_scale = parts[0].noise_scale
        source = "its posterior mean" if "noise_scale" in parts[0].held else source
        marks = [mark for part in parts if (mark := part.mark("this run")) is not None]
    return explore(
        posterior.data,
        noise_scale,
        noise_source=source,
        intercept=bool(posterior.model.intercept),
        marks=marks,
        seed=posterior.seed,
    )


def _of_compare(folder: Path, manifest: Mapping[str, Any], convention: str | None, rows: Rows | None) -> dict[str, Any]:
    comparison = read_json(folder, "comparison.json")
    convention = convention or CANONICAL
    strengths = {kind: comparison["penalty"][kind] for kind in ("l2", "l1")}
    kinds = {"gaussian": "l2", "laplace": "l1"}
    kind = kinds.get(manifest["model"]["prior"]["kind"])
    single = kind is not None and not isinstance(strengths[kind], list) and not np.any(comparison["penalty"]["centre"])
    marks = [Mark(kind, strengths[kind], "this run")] if single else []
    source = "at the joint mode" if isinstance(manifest["model"]["noise_scale"], dict) else "as given"
    explorer = _explorer_of_rows(folder, manifest, comparison["noise_scale"], source, marks, rows)
    where = _where(strengths, explorer, convention, comparison["noise_scale"])
    state = "certified" if comparison["passed"] else "not certified"
    prior = sentences.prior_words(manifest["model"]["prior"])
    text = f"Under {prior} ({where}) the penalised fit is {state} as the MAP; nothing was drawn."
    part = dict.fromkeys(("held", "coefficients", "diagnostics", "predictive"))
    part |= {"title": "", "comparison": _comparison(comparison), "routes": sentences.routes(comparison)}
    return _page(folder, manifest, explorer, convention, verdict=Finding(comparison["passed"], text), parts=[part])


def _where(strengths: Mapping[str, Any], explorer: Mapping[str, Any], convention: str, noise_scale: float) -> str:
    factors = next((row for row in explorer.get("conventions", ()) if row["name"] == convention), None)
    if factors is None:  # without the data there are no factors to another one
        convention, factors = CANONICAL, {"l2": 1, "l1": 1}
    return f"{sentences.lambda_words(strengths, convention, factors)}, at noise scale {number(noise_scale)}"


def _verdict_of_part(
    part: PosteriorPart, comparison: Mapping[str, Any] | None, explorer: Mapping[str, Any], convention: str
) -> Finding:
    prior = sentences.prior_words(part.posterior.model.prior.to_dict())
    if "prior_scale" in part.held:
        prior += f" (posterior mean {number(part.held['prior_scale'])})"
    passed = part.passed if comparison is None else comparison["passed"]
    strengths = part.strengths if comparison is None else {k: comparison["penalty"][k] for k in ("l2", "l1")}
    noise = part.noise_scale if comparison is None else comparison["noise_scale"]
    fit = "the MAP is certified" if comparison is None else "the penalised fit is certified as the MAP"
    fit = fit if passed else fit.replace("is certified", "is not certified")
    good = bool(part.diagnostics.passed)
    independent = ENGINES[part.posterior.method].independent
    drawn = "the draws are independent" if independent else "the draws converged"
    drawn = "the draws are those of an approximation" if part.posterior.method == "svi" else drawn
    drawn = drawn if good else "the draws did not pass their checks"
    link = "and" if passed == good else "but"
    text = f"Under {prior} ({_where(strengths, explorer, convention, noise)}) {fit}, {link} {drawn}."
    return Finding(passed and good, text)


def _part(title: str, part: PosteriorPart, comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    held = " and ".join(
        f"the {name.replace('_', ' ')} at its posterior mean {number(value)}" for name, value in part.held.items()
    )
    return {
        "title": title,
        "held": f"The MAP holds {held}." if held else "",
        "comparison": _single_route(part) if comparison is None else _comparison(comparison),
        "routes": part.certificate if comparison is None else sentences.routes(comparison),
        "coefficients": part.coefficients,
        "left_out": part.left_out,
        "units": part.units,
        "coefficients_say": part.coefficients_say,
        "diagnostics": part.diagnostics,
        "measures": part.measures,
        "predictive": part.predictive,
    }


def _single_route(part: PosteriorPart) -> list[dict[str, Any]]:
    from bayesreg.comparison import EXACT_TOLERANCE

    found = part.estimate.certificate
    return [
        {
            "name": "map_estimate",
            "gap": sentences.tiny(found.relative_gap),
            "allowed": sentences.tiny(EXACT_TOLERANCE),
            "kkt": sentences.tiny(found.kkt_residual),
            "verdict": "pass" if part.passed else "fail",
        }
    ]


def _comparison(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for wrong, route in [(False, one) for one in comparison["routes"]] + [
        (True, one) for one in comparison["wrong_lambda"]
    ]:
        verdict = "pass" if route["passed"] else "fail"
        if wrong:
            verdict = "same fit" if route["same_point"] else "missed" if route["passed"] else "caught"
        rows.append(
            {
                "name": f"wrong on purpose: {route['name']}" if wrong else route["name"],
                "gap": sentences.tiny(route["relative_gap"]),
                "allowed": sentences.tiny(route["tolerance"]),
                "kkt": sentences.tiny(route["kkt_residual"]),
                "verdict": verdict,
            }
        )
    return rows


def _of_path(folder: Path, manifest: Mapping[str, Any], convention: str | None, rows: Rows | None) -> dict[str, Any]:
    fits = read_table(folder, "path.csv")
    fits = fits.iloc[:, : fits.columns.get_loc("intercept")]  # what follows is called as the features are
    settings = manifest["settings"]
    kind = settings.get("kind", "l2")
    convention = convention or CANONICAL
    chosen = read_table(folder, "choice.csv") if manifest["command"] == "choose" else None
    explorer = _explorer_of_path(folder, manifest, kind, chosen, rows)
    largest = manifest["largest_relative_gap"]
    certified = sentences.gaps(largest, LARGEST_GAP, len(fits))
    passed = bool(manifest["passed"])
    prior = {"l2": "Gaussian", "l1": "Laplace", "elasticnet": "elastic net's"}[kind]
    ends = f"{number(fits['lambda'].max())} to {number(fits['lambda'].min())} in {CANONICAL}"
    state = "certified" if certified.passed else "not certified"
    text = f"{len(fits)} {_KINDS[kind]} fits, each the MAP under {_a(prior)} prior, lambda from {ends}: {state}"
    if chosen is not None:
        named = ", ".join(f"{row['method']} {number(row['lambda'])}" for _, row in chosen.iterrows())
        text += f"; chosen lambda: {named}"
    warned = "" if passed else f" The run warned: {'; '.join(manifest['warnings'])}."
    return _page(
        folder,
        manifest,
        explorer,
        convention,
        verdict=Finding(passed, f"{text}.{warned}"),
        path={"finding": certified, "rows": _path_rows(fits), "fits": len(fits)},
        choices=None if chosen is None else _choice_rows(chosen),
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _explorer_of_path(
    folder: Path, manifest: Mapping[str, Any], kind: str, chosen: Any, rows: Rows | None
) -> dict[str, Any]:
    noise = manifest["noise_scale"]
    if noise is None:
        return {"axes": {}, "notes": ["There is no explorer: the data say nothing of the noise, and none was given."]}
    marks = [] if chosen is None else [Mark(kind, row["lambda"], row["method"]) for _, row in chosen.iterrows()]
    source = "as given" if "noise_scale" in manifest["settings"] else "the likeliest"
    found = _explorer_of_rows(folder, manifest, noise, source, marks if kind in ("l2", "l1") else [], rows)
    if kind == "elasticnet":
        notes = [
            *found["notes"],
            "The explorer shows either factor of the elastic net's prior alone, not their product.",
        ]
        return found | {"notes": notes}
    return found | {"first": kind}


def _explorer_of_rows(
    folder: Path, manifest: Mapping[str, Any], noise_scale: float, source: str, marks: list[Mark], rows: Rows | None
) -> dict[str, Any]:
    """Return the explorer that the run stored, or one of its data, read again where they are not at hand."""
    if (folder / EXPLORER).is_file():
        return read_json(folder, EXPLORER)
    try:
        data, test = rows or read_data(manifest)
    except ValueError as error:
        return {"axes": {}, "notes": [f"There is no explorer: {error}."]}
    return explore(
        data,
        noise_scale,
        noise_source=source,
        intercept=manifest["settings"]["intercept"],
        marks=marks,
        test=test,
        seed=manifest.get("seed", 0),
    )


def _path_rows(fits: Any) -> list[dict[str, str]]:
    count = min(_PRINTED_FITS, len(fits))
    rows = []
    for index in (round(step * (len(fits) - 1) / max(count - 1, 1)) for step in range(count)):
        row = fits.iloc[index]
        scales = " and ".join(number(row[name]) for name in fits if name.startswith("prior_scale"))
        rows.append(
            {
                "lambda": number(row["lambda"]),
                "scale": scales or "–",
                "loss": number(row["loss"], 4),
                "test_loss": number(row["test_loss"], 4) if "test_loss" in fits else None,
                "nonzero": str(int(row["num_nonzero"])),
                "gap": sentences.tiny(row["relative_gap"]),
            }
        )
    return rows


def _choice_rows(chosen: Any) -> list[dict[str, str]]:
    scales = [name for name in chosen if name.startswith("prior_scale")]
    rows = []
    for _, row in chosen.iterrows():
        interval = "–"
        if row["lower_5"] == row["lower_5"]:
            interval = f"{number(row['lower_5'])} to {number(row['upper_95'])}"
        rows.append(
            {
                "method": row["method"],
                "lambda": number(row["lambda"]),
                "interval": interval,
                "scale": " and ".join(number(row[name]) for name in scales) or "–",
                "held_out": number(row["held_out_loss"], 4),
                "test": number(row["test_loss"], 4),
                "nonzero": str(int(row["num_nonzero"])),
                "note": in_flags(row["note"], "choose") if isinstance(row["note"], str) else "",
            }
        )
    return rows


def _manifest_rows(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, made = manifest["data"], manifest.get("environment", {})
    rows = [
        ("Made", str(manifest.get("created_at", "–"))),
        ("Command", f"bayesreg {manifest['command']}"),
        ("Seed", str(manifest.get("seed", "none: nothing is random"))),
        ("Data", f"{data['source']}, {data['rows']:,} rows"),
        ("SHA-256 of the data", data["sha256"]),
        ("Python", f"{made.get('python', '–')} on {made.get('platform', '–')}"),
    ]
    rows += [(f"Setting {name}", str(value)) for name, value in manifest["settings"].items()]
    return rows + [(name, str(version)) for name, version in made.get("versions", {}).items() if version]
