"""Numbers and tables of the results page."""

from __future__ import annotations


def figure(value: float | None) -> str:
    """Return three significant digits with thousands separated; a dash where there is no figure."""
    if value is None:
        return "-"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float) -> str:
    """Return two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.1f}"


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Return a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
