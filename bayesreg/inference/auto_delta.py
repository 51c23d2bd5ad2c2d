"""The mode as Pyro finds it: `AutoDelta` on the Pyro program, Adam with a decaying rate.

It maximises the log density of the program's trace over the constrained sites (weights, intercept, learned noise
scale), the same mode as `map_estimate`, by gradient steps alone: no proximal step, so under a Laplace prior no exact
zeros. It starts from zero weights and the target's spread, not from any solution. Source: Kingma & Ba, Adam (2015), and
Pyro's `AutoDelta`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value

from bayesreg.isolation import isolated

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.model import LinearRegression

# Adam moves a parameter by about its rate: rates are shares of the size that a parameter can have.
_FIRST_RATE = 0.05
_LAST_RATE = 2e-5


@dataclass(frozen=True)
class DeltaEstimate:
    """Where `AutoDelta` ended.

    Attributes:
        weights: ``(d,)`` float64 tensor on the CPU.
        intercept: The intercept; 0.0 for a model without one.
        noise_scale: The noise scale, known or found.
    """

    weights: torch.Tensor
    intercept: float
    noise_scale: float


def auto_delta(model: LinearRegression, data: RegressionData, steps: int = 3000, seed: int = 0) -> DeltaEstimate:
    """Run Pyro's AutoDelta on the program.

    Args:
        model: The model; its prior scale is known.
        data: The rows.
        steps: Steps of Adam, over which its rate falls geometrically.
        seed: Seeds Pyro's streams, although nothing is drawn.

    Returns:
        The end point: how far it is from the mode is for `certify` to say.
    """
    features = torch.tensor(data.features, dtype=torch.float64, device="cpu")
    target = torch.tensor(data.target, dtype=torch.float64, device="cpu")
    spread = float(target.std(correction=0)) or 1.0
    lengths = features.std(dim=0, correction=0) if model.intercept else features.square().mean(0).sqrt()
    lengths = lengths[lengths > 0.0]
    rates = {"intercept": _FIRST_RATE * spread, "noise_scale": _FIRST_RATE}
    rates["weights"] = _FIRST_RATE * spread / (float(lengths.median()) if lengths.numel() else 1.0)
    start = {"weights": torch.zeros(features.shape[1], dtype=torch.float64, device="cpu"), "intercept": target.mean()}
    if model.noise_is_learned:
        learned = model.learned_scales["noise_scale"]
        guess = torch.tensor(spread, dtype=torch.float64, device="cpu")
        inside = bool(learned.distribution.support.check(guess))
        start["noise_scale"] = guess if inside else learned.constrain(torch.zeros_like(guess))
    decay = (_LAST_RATE / _FIRST_RATE) ** (1.0 / steps)

    def program():
        model.pyro_model((features, target))

    def adam(parameter: str) -> dict[str, float]:
        return {"lr": rates[parameter.rsplit(".", 1)[-1]], "lrd": decay, "clip_norm": math.inf}

    with isolated(seed), pyro.validation_enabled(False):
        guide = AutoDelta(program, init_loc_fn=init_to_value(values=start))
        inference = SVI(program, guide, pyro.optim.ClippedAdam(adam), Trace_ELBO())
        for _ in range(steps):
            inference.step()
        found = {name: value.detach().clone() for name, value in guide().items()}
    noise_scale = found["noise_scale"] if model.noise_is_learned else model.noise_scale
    intercept = float(found["intercept"]) if model.intercept else 0.0
    return DeltaEstimate(found["weights"], intercept, float(noise_scale))
