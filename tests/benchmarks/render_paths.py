"""The page of the lambda axis, from the JSON that `paths` printed."""

from __future__ import annotations

from .tables import markdown, ratio

HOW_TO_READ = """\
Everybody starts from the same standardised rows in memory and pays for centring and Gram; ours pays for the certificate
of every fit too. A peer's tolerance is the loosest of a ladder at which each of the 100 fits has a relative duality gap
of 1e-10 or less, judged from the rows; one that no tolerance brings there is not compared, and its gap stands in its
place. Milliseconds are medians of runs in turn, of which those of less than 50 ms are repeated for as long. For ridge,
the eigenvectors and products that weights and variances come from are timed too, on centred columns and in bare NumPy
with all its threads: about what is to be had from one decomposition."""

HOW_TO_READ_HARD = """\
On how many random designs each of 100 fits, to lambda_max / 100, has a relative duality gap of 1e-10 or less, judged
from the rows. Peers at their tightest tolerance, and at most 10,000 iterations a fit (2,000 of celer and skglm)."""

FLOORS = {"ridge": 50.0, "leave-one-out": 10.0, "folds": {"1e4x500": 5.0}, "study": 60.0}


def page(found: dict) -> str:
    """Return the Markdown of what was measured.

    Args:
        found: What `paths` printed: some of `lasso`, `ridge`, `folds`, `training`, `study`.

    Returns:
        The section.
    """
    if "not_run" in found:
        return f"## The lambda axis\n\nnot run: {found['not_run']}"
    parts = {"lasso": _lasso, "ridge": _ridge, "folds": _folds, "training": _training, "study": _study}
    sections = [make(found[name]) for name, make in parts.items() if name in found]
    commit = f", commit {found['commit']}" if "commit" in found else ""
    return "\n\n".join([f"## The lambda axis{commit}", HOW_TO_READ, *sections])


def short(found: dict) -> str:
    """Return the table of the README: how many times faster on each design, lasso paths to their longest end.

    Args:
        found: What `paths` printed, all of it.

    Returns:
        A Markdown table.
    """
    share = min(row["share"] for row in found["lasso"])

    def fastest(row: dict) -> float:
        return min(peer["seconds"] for peer in row["peers"].values() if "seconds" in peer)

    lasso = [(fastest(row) / row["seconds"], row["problem"]) for row in found["lasso"] if row["share"] == share]
    seconds = [(row["problem"], row["seconds"]) for row in found["ridge"]]
    lines = [
        ("lasso path", "the fastest of scikit-learn, celer, skglm", lasso),
        (
            "ridge: fits, variances, evidence, degrees of freedom",
            "a loop of scikit-learn's `Ridge`: fits alone",
            [(of["Ridge"] / of["ours"], name) for name, of in seconds],
        ),
        (
            "ridge: leave-one-out errors",
            "`RidgeCV`",
            [(of["RidgeCV"] / of["ours, leave-one-out"], name) for name, of in seconds],
        ),
        (
            "lasso: ten folds",
            "`LassoCV`",
            [(row["seconds"]["LassoCV"] / row["seconds"]["ours"], row["problem"]) for row in found["folds"]],
        ),
        (
            "the book's SGD, weight decay",
            "a loop over `torch.optim.SGD`",
            [(row["ratio"], f"{row['num_lambdas']:,} lambdas") for row in found["training"] if row["kind"] == "l2"],
        ),
    ]
    cells = [
        [work, peer, ", ".join(f"{ratio(times)} ({name})" for times, name in ratios)] for work, peer, ratios in lines
    ]
    return markdown(["100 lambdas", "beside", "times as fast (rows x columns)"], cells)


def hard_designs(found: dict) -> str:
    """Return the Markdown of the hard designs: on how many of each kind every fit has the gap.

    Args:
        found: What `hard_designs` printed.

    Returns:
        The section.
    """
    if "not_run" in found:
        return f"## Hard designs\n\nnot run: {found['not_run']}"
    kinds = found["kinds"]
    names = list(kinds[0]["certified"])
    lines = [[row["kind"], str(row["designs"]), *(str(row["certified"][name]) for name in names)] for row in kinds]
    total = sum(row["designs"] for row in kinds)
    lines.append(["all", str(total), *(str(sum(row["certified"][name] for row in kinds)) for name in names)])
    head = f"## Hard designs, commit {found['commit']}"
    return "\n\n".join([head, HOW_TO_READ_HARD, markdown(["lasso paths", "designs", *names], lines)])


def short_of_hard_designs(found: dict) -> str:
    """Return the sentence of the README: on how many designs each solver's fits all have the gap."""
    kinds = found["kinds"]
    counts = {name: sum(row["certified"][name] for row in kinds) for name in kinds[0]["certified"]}
    ours, peers = counts.pop("ours"), sorted(counts.items(), key=lambda item: -item[1])
    others = ", ".join(f"`{name}`'s on {count}" for name, count in peers)
    return (
        f"On {sum(row['designs'] for row in kinds)} small designs with ties, copies, polynomials and the like, to "
        f"lambda_max / 100: all 100 fits of ours have that gap on {ours}; at their tightest tolerances and at most "
        f"10,000 iterations (2,000 of celer and skglm) {others}."
    )


def _lasso(rows: list[dict]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    head = ["lasso path, 100 lambdas", "largest gap", "ours", *names, "best peer over ours"]
    lines = []
    for row in rows:
        times = [peer["seconds"] for peer in row["peers"].values() if "seconds" in peer]
        cells = [_peer(row["peers"].get(name)) for name in names]
        best = ratio(min(times) / row["seconds"]) + " x" if times else "no peer has the gap"
        name = f"{row['problem']}, to lambda_max / {1 / row['share']:.0f}"
        lines.append([name, f"{row['gap']:.0e}", _ms(row["seconds"]), *cells, best])
    return markdown(head, lines)


def _peer(peer: dict | None) -> str:
    if peer is None:
        return "-"
    return _ms(peer["seconds"]) if "seconds" in peer else peer["why"]


def _ridge(rows: list[dict]) -> str:
    head = ["ridge, 100 lambdas", "fits, variances, evidence, df", "loop of Ridge", "ratio (floor 50)"]
    head += ["eigenvectors and products alone", "that ratio"]
    head += ["leave-one-out", "RidgeCV", "ratio (floor 10, n > d)"]
    lines = []
    for row in rows:
        seconds = row["seconds"]
        ours, left_out = seconds["ours"], seconds["ours, leave-one-out"]
        cells = [_ms(ours), _ms(seconds["Ridge"]), ratio(seconds["Ridge"] / ours) + " x"]
        cells += [_ms(seconds["bare"]), ratio(seconds["Ridge"] / seconds["bare"]) + " x"]
        cells += [_ms(left_out), _ms(seconds["RidgeCV"]), ratio(seconds["RidgeCV"] / left_out) + " x"]
        lines.append([row["problem"], *cells])
    return markdown(head, lines)


def _folds(rows: list[dict]) -> str:
    head = ["10 folds x 100 lambdas, lasso", "ours", "LassoCV", "ratio (floor 10; 5 at 1e4x500)", "losses differ by"]
    lines = []
    for row in rows:
        ours, peer = row["seconds"]["ours"], row["seconds"]["LassoCV"]
        lines.append(
            [row["problem"], _ms(ours), _ms(peer), ratio(peer / ours) + " x", f"{row['largest_difference']:.0e}"]
        )
    return markdown(head, lines)


def _training(rows: list[dict]) -> str:
    head = [
        "the book's SGD, 100 epochs",
        "ours",
        "with history",
        "loop of torch.optim.SGD",
        "ratio",
        "floor",
        "differ by",
    ]
    lines = []
    for row in rows:
        floor = {("l2", 100): "500", ("l2", 1000): "2,000"}.get((row["kind"], row["num_lambdas"]), "")
        both = row["path_seconds"] + row["history_seconds"]
        cells = [_ms(row["path_seconds"]), _ms(both), _ms(row["loop_seconds"]), ratio(row["ratio"]) + " x", floor]
        lines.append(
            [f"{row['kind'].upper()}, {row['num_lambdas']:,} lambdas", *cells, f"{row['largest_difference']:.0e}"]
        )
    return markdown(head, lines)


def _study(row: dict) -> str:
    medians = ", ".join(f"{name} {value:.1%}" for name, value in row["median_excess"].items())
    means = ", ".join(f"{name} {value:.1%}" for name, value in row["mean_excess"].items())
    return (
        f"The choice of lambda over 500 simulated data sets of the book's experiment takes {row['seconds']:.0f} s (at "
        f"most 60). Excess of the test loss over the best on the path, median: {medians}; mean: {means}."
    )


def _ms(seconds: float) -> str:
    return f"{float(f'{1e3 * seconds:.3g}'):,g} ms"
