"""The picture: on each problem, what `auto` makes in a second, and what every peer makes that passed the gates."""

from __future__ import annotations

from pathlib import Path

from .measure import is_shown
from .problems import PROBLEMS

OURS, PEERS = "#d1495b", "#30638e"


def draw(found: dict, path: Path) -> None:
    """Draw figure b, effective draws a second with warm-up, a line a problem on one logarithmic axis.

    Args:
        found: What `__main__` wrote to JSON.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in PROBLEMS if any(record["problem"] == name for record in found["records"])]
    if not names:
        return
    figure = Figure(figsize=(9.0, 1.3 + 0.33 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for row, name in enumerate(names):
        records = [record for record in found["records"] if record["problem"] == name]
        ours = [record["b"] for record in records if record["contestant"] == "auto" and is_shown(record)]
        peers = [record["b"] for record in records if not record["is_ours"] and is_shown(record)]
        if ours and peers:
            axis.plot([max(peers), ours[0]], [row, row], color="0.8", linewidth=1.5, zorder=1)
        if ours:
            words = f"{ours[0] / max(peers):,.0f} x" if peers else "no peer passed"
            axis.annotate(words, (ours[0], row), (8, 0), textcoords="offset points", va="center", fontsize=8)
        axis.plot(peers, [row] * len(peers), "o", color=PEERS, markersize=5, markerfacecolor="white", zorder=2)
        axis.plot(ours, [row] * len(ours), "o", color=OURS, markersize=7, zorder=3)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), [PROBLEMS[name].describe() for name in names], fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.margins(x=0.1)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_xlabel("effective draws a second, warm-up included (logarithmic)", fontsize=9)
    title = axis.set_title("bayesreg (auto)", loc="left", fontsize=10, color=OURS, fontweight="bold")
    peers = "   each peer that passed the gates; the ratio is to the best"
    axis.annotate(peers, (1.0, 0.0), xycoords=title, va="bottom", fontsize=9, color=PEERS)
    figure.savefig(path, dpi=130)
