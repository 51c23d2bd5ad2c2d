"""What a run's folder holds for the report, read back: refused in a sentence where it is no run, or lacks a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.data import RegressionData
    from bayesreg.posteriors.posterior import Posterior

EXPLORER = "explorer.json"
REPORT = "report.html"
COMMANDS = ("run", "demo", "compare", "path", "choose")


def page_in(folder: str) -> str:
    """Return the path of the page in a run's folder, to be opened; of the folder, where there is no page."""
    page = Path(folder) / REPORT
    return str(page) if page.is_file() else folder


def read_json(folder: Path, name: str) -> Any:
    """Return a JSON file of a run.

    Args:
        folder: The run's folder.
        name: The file's name.

    Returns:
        Its document.

    Raises:
        ValueError: There is no such file, or it is no JSON.
    """
    try:
        return json.loads(_existing(folder, name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{name} in {str(folder)!r} cannot be read: {error}") from error


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Return a CSV file of a run."""
    import pandas as pd

    return pd.read_csv(_existing(folder, name))


def read_posterior(folder: Path, name: str) -> Posterior:
    """Return a posterior of a run."""
    from bayesreg.posteriors.posterior import Posterior

    return Posterior.load(_existing(folder, name))


def read_data(manifest: Mapping[str, Any]) -> tuple[RegressionData, RegressionData | None]:
    """Read the data of a run again, and check that they are the same.

    Args:
        manifest: The run's manifest.

    Returns:
        The rows in the units of the fit, and the test rows, if there are any.

    Raises:
        ValueError: They cannot be read, or are others.
    """
    from bayesreg.experiment.path_settings import ChoiceSettings, PathSettings
    from bayesreg.experiment.run_directory import data_fingerprint
    from bayesreg.experiment.settings import RunSettings

    kinds = {"path": PathSettings, "choose": ChoiceSettings}
    settings = kinds.get(manifest["command"], RunSettings).from_mapping(manifest["settings"])
    source = manifest["data"]["source"]
    try:
        rows = settings.load_data()
        test = settings.load_test(rows) if hasattr(settings, "load_test") else None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"the data of this run, {source!r}, cannot be read again: {error}") from error
    if data_fingerprint(rows)["sha256"] != manifest["data"]["sha256"]:
        raise ValueError(f"the data of this run, {source!r}, have changed since: their hash is another")
    data = rows.standardized() if settings.standardize else rows
    if test is not None and data.transform is not None:
        test = data.transform.apply(test)
    return data, test


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} has no {name}: it may be of an older version; run the command again")
    return path
