"""The table and the picture of one run of the benchmark, from its JSON alone."""

from __future__ import annotations

from pathlib import Path

from .measure import is_shown
from .problems import PROBLEMS
from .render_paths import hard_designs, page
from .tables import figure, markdown, ratio
from .targets import TARGETS, compared, reached

HOW_TO_READ = """\
A figure is an effective sample size a second: the smallest over **all** parameters (weights, intercept, logarithms of
the learned scales) of the smaller of the ESS of x and of (x - mean)^2, by the wall clock. **a**: sampling only. **b**:
with warm-up, everything compiled before; ours is the whole call of `sample` from rows, the pass over them included, and
beside it the same from `Moments`. **c**: the first call in a fresh process, compile included (`c_of` in the JSON file
lists the processes that it is the median of, where there were several). Imports are left out of all three and stand
beside. a and b are medians of runs in turn with those of the other contestants, a turn a quarter of a second at least
where runs are shorter. Peers use all cores, float64, and compile once for all runs of a process; NumPyro "on moments"
samples the same fused density as the package, and pays the pass over the rows in each run too. Gates come first: split
rank-normalised R-hat below 1.01 (nested where chains have fewer than 400 draws), no divergence, each mean within 4
standard errors of the reference and each standard deviation within 3 % (or within 4 standard errors, where the draws of
the time allowed cannot resolve 3 %), an ESS of 400 at least; draws that fail one have no speed."""

_WHY_BELOW = """
The floors of c were set beside peers of 4 chains, and Pyro at 3 to 6 ESS/s. A peer of many chains spreads its compile
over as many draws, so what counts is draws a second; there the limit is operations on one core. Of a draw's time
about a third are its random numbers, the rest passes over numbers in cache, one product with the design's basis, and
the look-up of the scales. Of a call of 4,000 draws most is work that does not depend on how many there are (the
decomposition, the table of the scales, the envelope): some hundred operations of 5 to 50 microseconds. A first call
pays for torch's first use of each.
"""


def write(found: dict, folder: Path, name: str) -> None:
    """Write ``<name>.md`` and ``<name>.png``."""
    (folder / f"{name}.md").write_text(table(found, f"{name}.png"))
    from .picture import draw

    draw(found, folder / f"{name}.png")


def table(found: dict, picture: str) -> str:
    """Return the Markdown page.

    Args:
        found: What `__main__` wrote to JSON.
        picture: The picture's file name.

    Returns:
        The page.
    """
    parts = ["# Posteriors: effective draws a second", machine_words(found["machine"]), HOW_TO_READ]
    parts.append(f"![Effective draws a second, with warm-up]({picture})")
    parts += ["## In short\n\n" + short(found["records"]), _targets(found["records"]), _limits(found["records"])]
    for problem in dict.fromkeys(record["problem"] for record in found["records"]):
        records = [record for record in found["records"] if record["problem"] == problem]
        parts.append(
            f"## {problem}: {PROBLEMS[problem].describe()}, commit {records[0]['commit']}\n\n{_records(records)}"
        )
    parts += [_svi(found["svi"])] if "svi" in found else []
    parts += [_growth(found["growth"])] if "growth" in found else []
    parts += [page(found["paths"])] if "paths" in found else []
    parts += [hard_designs(found["hard"])] if "hard" in found else []
    return "\n\n".join(part for part in parts if part) + "\n"


def short(records: list[dict]) -> str:
    """Return the table of the README: `auto` beside the best peer on each problem with the noise learned.

    Args:
        records: Of all problems.

    Returns:
        A Markdown table.
    """
    head = ["data", "prior", "by", "ESS/s", "the best peer's", "ratio", "ratio, first call"]
    lines = []
    for name, problem in PROBLEMS.items():
        here = [record for record in records if record["problem"] == name]
        ours = next((record for record in here if record["contestant"] == "auto"), None)
        if problem.learned != ["noise_scale"] or ours is None or not is_shown(ours):
            continue
        warm, first = (compared(ours, [record for record in here if not record["is_ours"]], letter) for letter in "bc")
        prior = f"{problem.prior.capitalize()} {problem.prior_scale:g}"
        line = [problem.design, prior, ours["info"]["method"], figure(ours["b"])]
        if warm["ratio"] is None:
            lines.append([*line, f"{warm['why']}: {_failed(warm)}".rstrip(": "), "", ""])
            continue
        peer = f"{figure(warm['theirs'])} ({warm['peer']})"
        lines.append([*line, peer, *(f"{ratio(one['ratio'])} x" for one in (warm, first))])
    return markdown(head, lines)


def machine_words(machine: dict) -> str:
    """Return the description of a machine in a sentence or two."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    gpu = f" and {machine['gpu']}" if "gpu" in machine else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB{gpu}; {machine['system']}; "
        f"{machine['date']}, load {machine['load']} at the start. {versions}."
    )


def _targets(records: list[dict]) -> str:
    lines = []
    for target in TARGETS:
        result = reached(target, records)
        if result is None:
            continue
        cells = [target.problem, target.ours, target.against, target.letter, f"{target.floor:,.0f} x"]
        if result["ratio"] is None:
            cells += [f"no ratio: {result['why']}", _failed(result)]
        else:
            cells.append(f"**{ratio(result['ratio'])} x**" + ("" if result["ratio"] >= target.floor else " (below)"))
            cells.append(f"{figure(result['ours'])} to {figure(result['theirs'])} ({result['peer']})")
        lines.append(cells)
    head = ["problem", "engine", "against", "figure", "at least", "found", "ESS/s"]
    return "## Ratios\n\n" + markdown(head, lines) if lines else ""


def _limits(records: list[dict]) -> str:
    """Say of each ratio below its floor what it would take, and what a call's time goes into."""
    lines = []
    for target in TARGETS:
        result = reached(target, records)
        if result is None or result["ratio"] is None or result["ratio"] >= target.floor:
            continue
        ours = next(
            record for record in records if (record["problem"], record["contestant"]) == (target.problem, target.ours)
        )
        first, warm = 1e3 * ours["runs"][0]["seconds"], 1e3 * ours["seconds"]
        draws = ours["info"]["chains"] * ours["info"]["draws"]
        lines.append(
            f"- {target.problem}, {target.ours}, {target.letter}: {target.floor:,.0f} x would take "
            f"{figure(target.floor * result['theirs'])} ESS/s. {draws:,} draws take {first:.3g} ms in a first call, "
            f"{warm:.3g} ms in a later one."
        )
    return "\n".join(["## What is below, and why", _WHY_BELOW, *lines]) if lines else ""


def _failed(result: dict) -> str:
    """Return what the fastest peer made whose draws failed the gates, where one ran."""
    if "ratio_to_failed" not in result:
        return ""
    return f"the fastest that failed, {result['peer']}, made {figure(result['theirs'])}"


def _records(records: list[dict]) -> str:
    head = ["engine or peer", "a", "b", "b from moments", "c", "a run, s", "compile, s", "imports, s", "gates"]
    return markdown(head, [_row(record) for record in records])


def _row(record: dict) -> list[str]:
    if record["not_run"]:
        return [record["contestant"], "", "", "", "", "", "", "", f"not run: {record['not_run']}"]
    verdict, info = record["verdict"], record["info"]
    method = info.get("method")
    words = f" ({method})" if method and not record["contestant"].startswith(method) else ""
    name = f"{record['contestant']}{words}, {info['chains']:,} x {info['draws']:,} draws"
    times = [f"{record[key]:.3g}" for key in ("seconds", "compile_seconds", "import_seconds")]
    times[1] = "" if record["compile_seconds"] < 1e-3 else times[1]
    if not is_shown(record):
        return [name, "", "", "", "", *times, f"gate failed: {verdict['why']}"]
    figures = [figure(record[key]) for key in ("a", "b", "b_from_moments", "c")]
    gates = (
        f"R-hat {verdict['r_hat']:.4f}, means {verdict['mean_error']:.1f} MCSE, sd {100 * verdict['sd_error']:.1f} %"
    )
    return [name, *figures, *times, gates]


def _svi(rows: list[dict]) -> str:
    head = ["SVI", "seconds to within 0.05 nats of the best ELBO", "steps", "compile, s", "how"]
    lines = []
    for row in rows:
        if "not_run" in row:
            lines.append([row["words"][0], f"not run: {row['not_run']}", "", "", ""])
            continue
        seconds = "not reached" if row["seconds"] is None else f"{row['seconds']:.3g}"
        lines.append([row["name"], seconds, f"{row['steps']:,}", f"{row['compile_seconds']:.3g}", row["how"]])
    return "## diabetes-laplace by SVI, Gaussian of full rank\n\n" + markdown(head, lines)


def _growth(growth: dict) -> str:
    if "not_run" in growth:
        return f"## Growth\n\nnot run: {growth['not_run']}"
    head = ["rows", "features", "pass over the rows, s", "Gaussian, from moments, s", "Laplace, from moments, s"]
    lines = [
        [f"{row['rows']:,}", f"{row['features']:,}", f"{row['pass_seconds']:.3g}"]
        + [f"{row[prior]['seconds']:.3g} ({row[prior]['method']})" for prior in ("gaussian", "laplace")]
        for row in growth["rows"] + growth["features"]
    ]
    parts = ["## Growth: time of `sample` by its defaults, noise learned", markdown(head, lines)]
    lines = [
        [row["method"], f"{row['chains']:,}", f"{row['seconds']:.3g}", figure(row["ess_a_second"])]
        for row in growth["chains"]
    ]
    parts += ["Chains of 200 draws on diabetes-laplace:", markdown(["engine", "chains", "s", "ESS/s"], lines)]
    lines = [
        [row["design"], row["prior"], row["data"], row["method"]]
        + [f"{1e3 * value:.1f}" for value in (row["call_seconds"], row["engine_seconds"])]
        + [f"{1e3 * (row['call_seconds'] - row['engine_seconds']):.1f}", f"{1e3 * row['summary_seconds']:.1f}"]
        for row in growth["overhead"]
    ]
    head = ["data", "prior", "given as", "engine", "call, ms", "engine, ms", "around it, ms", "summary, ms"]
    return "\n\n".join([*parts, "What a call costs around its sampling:", markdown(head, lines)])
