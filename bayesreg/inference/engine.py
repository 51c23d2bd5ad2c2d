"""What every engine hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class EngineResult:
    """Draws of an engine and what it says about them.

    Attributes:
        draws: constrained draws by name, ``{"weights": (chain, draw, d), "intercept": (chain, draw), ...}``; float64,
            detached, on the device of the target or, where they are many, on the CPU already.
        sample_stats: one number a draw, ``{"lp": (chain, draw), ...}``, under ArviZ's names.
        log_evidence: log of the normalising constant in nats, where the engine knows it.
        message: one sentence on how the run went.
        details: settings and measurements of the run as plain Python values. ``converged`` is False where the engine
            missed its own convergence check; ``message`` then has the number found and the threshold.
    """

    draws: Mapping[str, torch.Tensor]
    sample_stats: Mapping[str, torch.Tensor]
    log_evidence: float | None = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class EngineCannot(ValueError):
    """An engine cannot take a posterior, or not in reasonable time; the message says why."""
