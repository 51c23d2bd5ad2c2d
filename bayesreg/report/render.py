"""The page as one file: template, style, script, Plotly and numbers, with nothing to fetch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesreg.experiment.run_directory import plain

# Characters that could end a script element, or a line of old JavaScript, as escapes that JSON has for them.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(page: Mapping[str, Any]) -> str:
    """Return the HTML of a page.

    Args:
        page: What `bayesreg.report.page.page_of` gathered.

    Returns:
        The document. Texts are escaped; no address is in it that a browser would fetch.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("bayesreg.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    charts = {
        "explorer": page["explorer"],
        "convention": page["convention"],
        "certified": page["certified"],
        "predictive": [part["predictive"].get("chart") for part in page["parts"] if part["predictive"]],
    }
    files = {name: Markup(_file(name)) for name in ("style.css", "explorer.js", "charts.js")}
    return environment.get_template("page.html").render(
        page, files=files, plotly=Markup(get_plotlyjs()), document=safe_json(charts)
    )


def safe_json(value: Any) -> Markup:
    r"""Return a value as JSON that may stand inside a script element, whatever its texts are.

    Args:
        value: Plain values; NaN and infinities become null.

    Returns:
        The JSON.

    Example:
        >>> print(safe_json(["</script>", float("inf")]))
        ["\u003c/script\u003e",null]
    """
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.translate(_ESCAPES))


def _file(name: str) -> str:
    return resources.files("bayesreg.report").joinpath("templates", name).read_text(encoding="utf-8")
