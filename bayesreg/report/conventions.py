"""The conventions that a page says lambda in: which can, what their symbols are here, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesreg.objectives import CANONICAL, CONVENTIONS, get_convention
from bayesreg.report.sentences import number
from bayesreg.strengths import conversion

if TYPE_CHECKING:
    from bayesreg.moments import Moments
    from bayesreg.objectives import Convention

# The terms of the penalty that a prior is, by what a manifest calls the prior, or the kind of a path.
_TERMS = {
    "gaussian": ("l2",), "laplace": ("l1",), "elasticnet": ("l2", "l1"), "flat": (), "l2": ("l2",), "l1": ("l1",),
}  # fmt: skip
_PRIORS = {("l2",): "a Gaussian prior is", ("l1",): "a Laplace prior is", ("l2", "l1"): "an elastic net's prior is"}
# What a symbol is that only an objective of two terms, or of several strengths, has: here there is one of each.
_ALONE = {
    "sklearn-elasticnet": {"l2": "l1_ratio = 0", "l1": "l1_ratio = 1"},
    "glmnet": {"l2": "alpha = 0", "l1": "alpha = 1"},
    "celer": {"l1": "each of weights_j = 1"},
    "laplace-torch": {"l2": "prior_mean = 0"},
}


def conventions(moments: Moments, noise_scale: float) -> list[dict[str, Any]]:
    """Return the conventions that a lambda can be said in: their names, their knobs, and the factor from lambda.

    Args:
        moments: The data.
        noise_scale: The noise scale.

    Returns:
        One dictionary a convention, the canonical one first: ``l2`` and ``l1`` are factors, ``symbols`` says by kind
        what the symbols of the objective are here.
    """
    known = {
        "num_rows": moments.num_rows,
        "noise_scale": noise_scale,
        "target_scale": float(np.sqrt(moments.Syy / moments.num_rows)),
        "steps_per_epoch": 1,
    }
    found = []
    for row in CONVENTIONS.values():
        factors = {}
        for kind in ("l2", "l1"):
            if row.refusal or not getattr(row, f"accepts_{kind}"):
                continue
            factor = conversion(kind, CANONICAL, row.name)
            if known["target_scale"] > 0.0 or "target_scale" not in factor.needs:  # a constant target has none
                factors[kind] = factor.at(f"the factor to {row.name}", **{k: v for k, v in known.items() if v})
        if factors:
            symbols = {kind: _symbols(row, kind, known) for kind in factors}
            entry = {"name": row.name, "library": row.library, "objective": row.objective, "symbols": symbols}
            found.append(entry | factors)
    return sorted(found, key=lambda entry: entry["name"] != CANONICAL)


def _symbols(row: Convention, kind: str, known: Mapping[str, float]) -> str:
    """Return what the symbols of an objective are, in words."""
    words = {
        "num_rows": f"n = {known['num_rows']:,} rows",
        "noise_scale": f"s = {number(known['noise_scale'])}, the noise scale",
        "target_scale": f"s_y = {number(known['target_scale'])}",
        "steps_per_epoch": "K = 1 optimizer step an epoch, the full batch (with K steps lambda is divided by K)",
    }
    factors = [row.loss_multiplier, row.l2_multiplier, row.l1_multiplier]
    needs = {name for factor in factors if factor is not None for name in factor.needs}
    said = [sentence for name, sentence in words.items() if name in needs]
    if row.name in _ALONE:
        said.append(_ALONE[row.name][kind])
    return "; ".join(said)


def check_convention(convention: str, manifest: Mapping[str, Any]) -> None:
    """Refuse a convention that has no penalty such as the prior of a run is.

    Args:
        convention: The convention's name.
        manifest: What the run's manifest says.

    Raises:
        ValueError: It has none; the message lists those that have.
    """
    row = get_convention(convention)
    terms = _terms(manifest)
    missing = [kind for kind in terms if not getattr(row, f"accepts_{kind}")]
    if missing:
        fit = [
            one.name
            for one in CONVENTIONS.values()
            if not one.refusal and all(getattr(one, f"accepts_{kind}") for kind in terms)
        ]
        prior = "the demo's two priors are" if manifest["command"] == "demo" else _PRIORS[terms]
        wanted = " and an ".join(kind.upper() for kind in terms)
        raise ValueError(
            f"convention must be one with an {wanted} penalty, which {prior}; got {row.name!r} "
            f"({row.objective}), which has no {missing[0].upper()} penalty; accepted: {', '.join(fit)}"
        )


def check_factors(convention: str, manifest: Mapping[str, Any], explorer: Mapping[str, Any]) -> None:
    """Refuse a convention whose factors from lambda are not known.

    Args:
        convention: The convention's name, one that `check_convention` accepts.
        manifest: What the run's manifest says.
        explorer: The numbers of the explorer, with the factors, as far as the data are known.

    Raises:
        ValueError: They are not known, and the message says why.
    """
    known = next((row for row in explorer.get("conventions", ()) if row["name"] == convention), {})
    if convention == CANONICAL or all(kind in known for kind in _terms(manifest)):
        return
    reason = "the target is constant" if explorer.get("conventions") else " ".join(explorer["notes"]).rstrip(".")
    raise ValueError(f"convention must be {CANONICAL!r} for this {manifest['command']}, got {convention!r}: {reason}")


def _terms(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the terms of the penalties that a page is about; those of both of its priors for a demo."""
    if manifest["command"] == "demo":
        return _TERMS["elasticnet"]
    if manifest["command"] in ("run", "compare"):
        return _TERMS[manifest["model"]["prior"]["kind"]]
    return _TERMS[manifest["settings"].get("kind", "l2")]
