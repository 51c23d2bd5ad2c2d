"""Writing a run's report into its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayesreg.experiment.run_directory import put_text, strict_json
from bayesreg.report.folder import EXPLORER, REPORT
from bayesreg.report.page import Rows, page_of
from bayesreg.report.render import render


def write_report(
    folder: Path, manifest: Mapping[str, Any], convention: str | None = None, rows: Rows | None = None
) -> dict[str, Any]:
    """Write ``report.html``, and the explorer's numbers as ``explorer.json`` where the folder has none yet.

    Args:
        folder: The run's folder.
        manifest: What its manifest says, or will say.
        convention: The convention that lambda is said in; None: the run's own.
        rows: The rows in the units of the fit, and the test rows or None; None: read again, where they are needed.

    Returns:
        The page: what the template was given.

    Raises:
        ValueError: The folder lacks what the page is made of.
        OSError: It cannot be written.
    """
    page = page_of(folder, manifest, convention, rows)
    html = render(page)
    if not (folder / EXPLORER).exists() and page["explorer"]["axes"]:
        put_text(folder / EXPLORER, strict_json(page["explorer"], indent=None))
    put_text(folder / REPORT, html)
    return page
