"""The picture: figure b of every contestant that passed the gates, one panel a problem."""

from __future__ import annotations

from pathlib import Path

from .measure import is_shown

OURS, PEERS = "#d1495b", "#30638e"


def draw(found: dict, path: Path) -> None:
    """Draw b, effective draws a second with warm-up, on a logarithmic axis shared by all problems.

    Args:
        found: What `__main__` wrote to JSON.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(record["problem"] for record in found["records"]))
    by_problem = [[record for record in found["records"] if record["problem"] == name] for name in problems]
    if not by_problem:
        return
    columns = min(2, len(problems))
    grid_rows = -(-len(problems) // columns)
    longest = max(len(records) for records in by_problem)
    figure = Figure(figsize=(6.5 * columns, (0.7 + 0.22 * longest) * grid_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(grid_rows, columns, squeeze=False, sharex=True).ravel()
    for axis, name, records in zip(axes, problems, by_problem, strict=False):
        _panel(axis, name, records)
    for axis in axes[len(problems) :]:
        axis.set_visible(False)
    figure.supxlabel("effective draws a second, warm-up included (red: bayesreg, blue: peers)", fontsize=9)
    figure.savefig(path, dpi=110)


def _panel(axis, name: str, records: list[dict]) -> None:
    labels = []
    for row, record in enumerate(records):
        labels.append(record["contestant"])
        colour = OURS if record["is_ours"] else PEERS
        if is_shown(record):
            axis.plot(record["b"], row, "o", color=colour, markersize=5)
        else:
            words = "not run" if record["not_run"] else "gate failed"
            axis.annotate(words, (0.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=6, color="0.45")
    axis.set_xscale("log")
    axis.set_yticks(range(len(records)), labels, fontsize=6.5)
    axis.set_ylim(len(records) - 0.5, -0.5)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(name, fontsize=8.5, loc="left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
