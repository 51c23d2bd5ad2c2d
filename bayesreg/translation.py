"""One penalty or one prior in the words of every convention: the lambda dictionary, opened at a page.

Plain Python like `bayesreg.objectives`, whose numbers it lists, so that the command line answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bayesreg.multipliers import Factor
from bayesreg.objectives import CONVENTIONS, Convention, get_convention
from bayesreg.strengths import (
    conversion,
    convert_strength,
    prior_factor,
    scale_from_strength,
    strength_from_scale,
)

PRIOR_OF = {"l2": "gaussian", "l1": "laplace"}
TWO_KNOBS = {"sklearn-elasticnet": ("alpha", "l1_ratio"), "glmnet": ("lambda", "alpha")}
PENALTY_OF = {prior: kind for kind, prior in PRIOR_OF.items()}


@dataclass(frozen=True)
class Entry:
    """A penalty as one convention writes it.

    Attributes:
        convention: The row of the dictionary.
        strengths: The strengths to type, by "l2" and "l1"; empty where something is not known.
        needs: The knowledge that is missing, in the words of `bayesreg.objectives.KNOWLEDGE`.
    """

    convention: Convention
    strengths: dict[str, float] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def typed(self) -> dict[str, float]:
        """What its user types, by name: l2 and l1, or their sum and the share of l1 where the library wants these."""
        if not self.strengths or self.convention.name not in TWO_KNOBS:
            return self.strengths
        total = sum(self.strengths.values())
        share = self.strengths.get("l1", 0.0) / total if total else 0.0
        return dict(zip(TWO_KNOBS[self.convention.name], (total, share), strict=True))


@dataclass(frozen=True)
class Translation:
    """A penalty, the prior that it stands for, and the same penalty in every convention that has one like it.

    Attributes:
        scales: Scales of the prior's factors by "gaussian" and "laplace"; infinite where the strength is 0 (flat);
            empty where something is not known.
        needs: The knowledge that is missing to name the prior.
        entries: One a convention, in the order of the dictionary.
        refused: Reasons by the name of a convention that stands for no prior.
    """

    scales: dict[str, float]
    needs: tuple[str, ...]
    entries: tuple[Entry, ...]
    refused: dict[str, str]


def translate_penalty(strengths: Mapping[str, float], convention: str, **knowledge: Any) -> Translation:
    """Translate a penalty.

    Args:
        strengths: The strengths as typed in the convention, by "l2", "l1" or both (an elastic net).
        convention: The name of the convention.
        **knowledge: Any of `bayesreg.objectives.KNOWLEDGE`; None counts as not known.

    Returns:
        The translation.

    Raises:
        ValueError: No strength, or one that is not a finite number of at least 0; a convention that is unknown,
            refused, or has no such penalty.

    Example:
        >>> found = translate_penalty({"l2": 3.0}, "torch-mse-mean", num_rows=20, noise_scale=0.01)
        >>> round(found.scales["gaussian"], 5)
        0.00183
        >>> [entry.strengths for entry in found.entries if entry.convention.name == "sklearn-ridge"]
        [{'l2': 30.0}]
    """
    source = get_convention(convention).name
    if not strengths:
        raise ValueError("a penalty must have an L2 or an L1 strength, got neither")
    for kind, strength in strengths.items():
        convert_strength(kind, strength, source, source, **knowledge)  # checks all that is given, needed or not
    needs = _missing((prior_factor(kind, source) for kind in strengths), knowledge)
    scales = {}
    if not needs:
        for kind, strength in strengths.items():
            scale = scale_from_strength(kind, strength, source, **knowledge) if strength else math.inf
            scales[PRIOR_OF[kind]] = scale

    def entry(row: Convention) -> Entry:
        missing = _missing((conversion(kind, source, row.name) for kind in strengths), knowledge)
        if missing:
            return Entry(row, needs=missing)
        return Entry(
            row, {k: convert_strength(k, value, source, row.name, **knowledge) for k, value in strengths.items()}
        )

    return Translation(scales, needs, _entries(strengths, entry), _refused())


def translate_prior(scales: Mapping[str, float], **knowledge: Any) -> Translation:
    """Translate a prior with known scales.

    Args:
        scales: Scales by "gaussian" (the standard deviation t), "laplace" (the mean absolute value b) or both: the
            elastic net's prior, the product of the two densities, normalised.
        **knowledge: Any of `bayesreg.objectives.KNOWLEDGE`; None counts as not known.

    Returns:
        The translation.

    Raises:
        ValueError: No prior or another one, or a scale that is not positive and finite.

    Example:
        >>> translate_prior({"gaussian": 0.5}, noise_scale=1.0).entries[0].needs
        ('num_rows',)
    """
    unknown = sorted(set(scales) - set(PENALTY_OF))
    if unknown or not scales:
        raise ValueError(f"prior must be one of {', '.join(PENALTY_OF)}, got {unknown[0] if unknown else None!r}")
    for prior, scale in scales.items():
        if isinstance(scale, (str, bool)) or not (math.isfinite(scale) and scale > 0):
            name = "prior_scale" if len(scales) == 1 else f"{prior}_scale"
            raise ValueError(f"{name} must be a positive finite number, got {scale!r}")
    Factor().at("a translation", **knowledge)  # checks all that is given, needed or not
    kinds = {PENALTY_OF[prior]: scale for prior, scale in scales.items()}

    def entry(row: Convention) -> Entry:
        missing = _missing((prior_factor(kind, row.name) for kind in kinds), knowledge)
        if missing:
            return Entry(row, needs=missing)
        return Entry(row, {k: strength_from_scale(k, scale, row.name, **knowledge) for k, scale in kinds.items()})

    return Translation(dict(scales), (), _entries(kinds, entry), _refused())


def _entries(kinds: Any, entry: Any) -> tuple[Entry, ...]:
    rows = (row for row in CONVENTIONS.values() if not row.refusal)
    return tuple(entry(row) for row in rows if all(getattr(row, f"accepts_{kind}") for kind in kinds))


def _refused() -> dict[str, str]:
    return {row.name: row.refusal for row in CONVENTIONS.values() if row.refusal}


def _missing(factors: Any, knowledge: Mapping[str, Any]) -> tuple[str, ...]:
    needed = dict.fromkeys(name for factor in factors for name in factor.needs)
    return tuple(name for name in needed if knowledge.get(name) is None)
