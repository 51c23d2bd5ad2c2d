"""What engines ask of a prior of the weights beyond its density: its shape, in units of its scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class PriorShape(NamedTuple):
    """The density of x = (w - m) / D, D the prior's effective scale, one a feature.

        log p(x) = -absolute |x| - square x^2 / 2 - log_constant.

    A Gaussian prior has absolute 0 and square 1, a Laplace prior absolute 1 and square 0, an elastic net both.

    Attributes:
        absolute: The slope of the kink ``(d,)``, at least 0.
        square: The precision of the Gaussian factor ``(d,)``, at least 0.
        log_constant: The logarithm of the normalising constant ``(d,)``.
    """

    absolute: np.ndarray
    square: np.ndarray
    log_constant: np.ndarray
