"""Columns that tell the data nothing of their own: constant ones, and linear copies of others.

No fit needs them gone, as a penalty or a prior settles what they leave open; but who reads the weights should know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bayesreg.moments import Moments

# Columns of length 1 that are no further apart are the same: a square root of second moments has lost that much.
_SAME = 1e-6
# A column takes part in a dependence where its coefficient, of columns of length 1, is larger.
_TAKES_PART = 1e-6
# Names that a sentence has room for, and groups of copies.
_MOST_NAMES, _MOST_GROUPS = 5, 3


def redundant_columns(root: np.ndarray, names: Sequence[str], centred: bool = True) -> str:
    """Say which columns are constant, and which are linear copies of others.

    It takes as long as reading the numbers a few times: copies have one projection on a direction drawn at random, up
    to the sign, and only columns of one projection are held against each other.

    Args:
        root: Array `(k, d)` whose second moments are those of the columns: centred rows, or a factor.
        names: Names of the columns.
        centred: Whether the moments are about the means: then a constant column has none, and a copy may be shifted.

    Returns:
        A sentence without capital and full stop; empty where there are no such columns.

    Example:
        >>> rows = np.array([[1.0, 5.0, -2.0], [0.0, 5.0, 0.0], [2.0, 5.0, -4.0]])
        >>> redundant_columns(rows - rows.mean(axis=0), ["a", "b", "c"])[:44]
        "column 'b' is constant, so that the data say"
        >>> redundant_columns(np.eye(3), ["a", "b", "c"])
        ''
    """
    scale = np.abs(root).max(axis=0, initial=0.0)
    varying = np.flatnonzero(scale > 0.0)
    constant = [names[column] for column in np.flatnonzero(scale == 0.0)]
    unit = root[:, varying] / scale[varying]  # before squares, which could overflow
    unit /= np.sqrt(np.einsum("ij,ij->j", unit, unit))
    groups = [[names[varying[column]] for column in group] for group in _copies(unit)]
    said = []
    if constant:
        its = "its weight" if len(constant) == 1 else "their weights"
        what = "constant" if centred else "0 throughout"
        said.append(f"{_are(constant, what, what)}, so that the data say nothing of {its}")
    if groups:
        shown = [_are(copies, f"a linear copy of {of!r}", f"linear copies of {of!r}") for of, *copies in groups]
        left = len(groups) - _MOST_GROUPS
        more = f"; and {left:,} more such groups" if left > 0 else ""
        told = f"{' and '.join(shown[:_MOST_GROUPS])} (to 6 digits{more})"
        said.append(f"{told}, so that the data cannot tell the weights of copies apart")
    return "; ".join(said)


def columns_at_fault(moments: Moments, rank: int) -> str:
    """Say which columns leave a design short of rank: constant ones and copies, or else those that depend on others.

    Args:
        moments: The data, as the model sees them.
        rank: Their rank.

    Returns:
        A sentence without capital and full stop; empty where the rank is as large as the rows let it be, and no column
        is constant or a copy.
    """
    root, names, num_features = moments.square_root()[:, :-1], moments.feature_names, moments.num_features
    said = redundant_columns(root, names, moments.centred)
    if said or rank >= min(num_features, moments.num_rows - moments.centred):
        return said
    directions = np.linalg.svd(root / np.sqrt(np.einsum("ij,ij->j", root, root)))[2]
    coefficients = np.abs(directions[rank:]).max(axis=0)  # of the sums of columns that are 0
    found = [name for name, size in zip(names, coefficients, strict=True) if size > _TAKES_PART]
    words = f"linearly dependent (rank {rank} of {num_features})"
    return f"{_are(found, words, words)}, so that the data cannot tell their weights apart"


def _copies(unit: np.ndarray) -> list[list[int]]:
    """Return groups of columns of length 1 that are the same up to the sign, each in order."""
    direction = np.random.default_rng(0).standard_normal(len(unit))
    projections = np.abs(direction @ unit)
    order = np.argsort(projections, kind="stable")
    apart = np.diff(projections[order]) > _SAME * np.linalg.norm(direction)
    if apart.all():
        return []
    groups = []
    for run in np.split(order, np.flatnonzero(apart) + 1):
        run = np.sort(run)
        while len(run) > 1:
            # |u - v|^2 = 2 - 2 u'v, and of the two signs the nearer one counts.
            same = 2.0 - 2.0 * np.abs(unit[:, run[0]] @ unit[:, run]) <= _SAME**2
            same[0] = True
            if same.sum() > 1:
                groups.append(run[same].tolist())
            run = run[~same]
    return sorted(groups)


def _are(names: Sequence[str], singular: str, plural: str) -> str:
    shown = [repr(name) for name in names[:_MOST_NAMES]]
    if left := len(names) - len(shown):
        shown.append(f"{left:,} more")
    if len(names) == 1:
        return f"column {shown[0]} is {singular}"
    return f"columns {', '.join(shown[:-1])} and {shown[-1]} are {plural}"
