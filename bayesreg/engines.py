"""The engines by name: whether their draws are independent, and how many they make where the caller does not say.

Nothing here is imported by name but the engine that runs, so that settings and tables are read without torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

# Chains that nuts moves together: what they hold stays in cache, and the same are together on every machine.
NUTS_CHAINS_AT_ONCE = 1024


@dataclass(frozen=True)
class Engine:
    """What is known of an engine without running it.

    Attributes:
        module: Its module in `bayesreg.inference`.
        chains: Chains by default: with `draws` and `tune`, what reaches a bulk and a tail ESS of 1,000 soonest.
        draws: Draws a chain by default.
        tune: Warm-up iterations by default, a Markov chain's; an upper bound for the engines that stop when it is done.
        independent: Whether its draws are independent, so that there is no mixing to judge.
        points_held: Points of each chain that it holds at once beside the draws: those of a warm-up, starts and states.
        streams: Whether draws leave a GPU as they are made.
    """

    module: str
    chains: int
    draws: int
    tune: int = 0
    independent: bool = False
    points_held: int = 0
    streams: bool = False

    def load(self) -> ModuleType:
        """Import the engine's module."""
        return importlib.import_module(f"bayesreg.inference.{self.module}")


ENGINES = {
    "exact": Engine("exact", chains=4, draws=1000, independent=True),
    "rejection": Engine("rejection", chains=4, draws=1000, independent=True),
    "hmc": Engine("hmc", chains=64, draws=200, tune=100, points_held=30),
    "gibbs": Engine("gibbs", chains=16, draws=800, tune=50, points_held=10),
    "nuts": Engine("nuts", chains=64, draws=200, tune=100, points_held=100, streams=True),
    "svi": Engine("svi", chains=4, draws=1000, independent=True),
    "pyro-nuts": Engine("pyro_nuts", chains=4, draws=1000, tune=500),
}
METHODS = ("auto", *ENGINES)
