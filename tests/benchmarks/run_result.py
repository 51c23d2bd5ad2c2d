"""What every contestant's `prepare` returns, and what one run of it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


class NotRun(Exception):
    """The contestant cannot take this problem, or not within the time; the message is shown in the table."""


@dataclass
class Run:
    """One run.

    Attributes:
        draws: named and constrained, ``(chain, draw, ...)`` NumPy arrays.
        divergences: their number after warm-up.
        warmup: the part of the run that is not sampling, in seconds; None where it is not known apart.
        warmup_share: the same as a share of the run, where only that is known.
        info: what the table or a reader may want: engine chosen, chains, draws.
    """

    draws: dict[str, np.ndarray]
    divergences: int
    warmup: float | None = None
    warmup_share: float | None = None
    info: dict = field(default_factory=dict)


@dataclass
class Prepared:
    """A contestant on one problem.

    Attributes:
        compile: everything that a program pays once; None where nothing is apart from the first run.
        run: one whole run, warm-up included, of a seed.
        from_moments: makes the pass over the data and returns the same run without it, where there is such a way.
    """

    compile: Callable[[], None] | None
    run: Callable[[int], Run]
    from_moments: Callable[[], Callable[[int], Run]] | None = None
