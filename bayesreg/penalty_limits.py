"""What the convention of a penalty cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesreg.objectives import CANONICAL, Convention

if TYPE_CHECKING:
    from bayesreg.penalties import Penalty


def check_held(penalty: Penalty, row: Convention) -> None:
    """Refuse what the convention cannot hold.

    Args:
        penalty: The `bayesreg.Penalty`, its numbers already checked.
        row: Its convention.

    Raises:
        ValueError: If a term, a centre, or strengths of one a feature have no place in the convention.
    """
    for kind in ("l1", "l2"):
        if np.any(getattr(penalty, kind)):
            row.multiplier(kind)
    if np.any(penalty.centre) and not row.accepts_centre:
        raise ValueError(
            f"{row.name} pulls the weights towards 0 and cannot hold centre={penalty.centre!r}; "
            f"{CANONICAL} and laplace-torch can"
        )
    if (np.ndim(penalty.l1) or np.ndim(penalty.l2)) and not row.accepts_per_feature:
        raise ValueError(
            f"{row.name} has one strength for all features and cannot hold {penalty!r}; "
            f"{CANONICAL}, celer, glmnet and laplace-torch can"
        )
    if row.name == "glmnet" and penalty.kind == "elasticnet":
        _ = penalty.l1_ratio  # its alpha is one number for all features, and raises where it is not
