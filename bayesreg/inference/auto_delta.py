"""The mode as Pyro finds it: `AutoDelta` on the Pyro program, its loss given to torch's own optimisers.

It maximises the log density of the program's trace over weights and intercept, the scales known, by gradient steps
alone: L-BFGS, which ends at a smooth mode, and for the kinks of a Laplace prior Adam with a decaying rate after it.
There is no proximal step, so no exact zeros. It starts from zero weights and the target's spread, not from any
solution. Sources: Pyro's `AutoDelta`; Liu & Nocedal, Mathematical Programming 45 (1989); Kingma & Ba, Adam (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value

from bayesreg.isolation import isolated

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.model import LinearRegression

# L-BFGS ends long before this where the mode is smooth.
_MOST_EVALUATIONS = 500
# Adam moves a parameter by about its rate: rates are shares of the size that a parameter can have.
_FIRST_RATE = 3e-3
_LAST_RATE = 1e-6


@dataclass(frozen=True)
class DeltaEstimate:
    """Where `AutoDelta` ended.

    Attributes:
        weights: ``(d,)`` float64 tensor on the CPU.
        intercept: The intercept; 0.0 for a model without one.
    """

    weights: torch.Tensor
    intercept: float


def auto_delta(model: LinearRegression, data: RegressionData, steps: int = 2000, seed: int = 0) -> DeltaEstimate:
    """Run Pyro's AutoDelta on the program.

    Args:
        model: The model; its scales are known (slow coupling of noise and weights would need far more steps).
        data: The rows.
        steps: Steps of Adam under a Laplace prior, over which its rate falls geometrically.
        seed: Seeds Pyro's streams, although nothing is drawn.

    Returns:
        The end point: how far it is from the mode is for `certify` to say.
    """
    features = torch.tensor(data.features, dtype=torch.float64, device="cpu")
    target = torch.tensor(data.target, dtype=torch.float64, device="cpu")
    spread = float(target.std(correction=0)) or 1.0
    lengths = features.std(dim=0, correction=0) if model.intercept else features.square().mean(0).sqrt()
    lengths = lengths[lengths > 0.0]
    sizes = {"intercept": spread, "weights": spread / (float(lengths.median()) if lengths.numel() else 1.0)}
    start = {"weights": torch.zeros(features.shape[1], dtype=torch.float64, device="cpu"), "intercept": target.mean()}

    def program():
        model.pyro_model((features, target))

    with isolated(seed), pyro.validation_enabled(False):
        guide, loss = AutoDelta(program, init_loc_fn=init_to_value(values=start)), Trace_ELBO()
        loss.differentiable_loss(program, guide)  # makes the guide's parameters

        def evaluate() -> torch.Tensor:
            guide.zero_grad()
            value = loss.differentiable_loss(program, guide)
            value.backward()
            return value

        torch.optim.LBFGS(
            list(guide.parameters()),
            max_iter=_MOST_EVALUATIONS,
            max_eval=_MOST_EVALUATIONS,
            history_size=50,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        ).step(evaluate)
        if model.prior.kind == "laplace":
            groups = [
                {"params": [parameter], "lr": _FIRST_RATE * sizes[name.split(".")[-1].removesuffix("_unconstrained")]}
                for name, parameter in guide.named_parameters()
            ]
            adam = torch.optim.Adam(groups)
            decay = torch.optim.lr_scheduler.ExponentialLR(adam, (_LAST_RATE / _FIRST_RATE) ** (1.0 / steps))
            for _ in range(steps):
                evaluate()
                adam.step()
                decay.step()
        found = {name: value.detach().clone() for name, value in guide.median().items()}
    intercept = float(found["intercept"]) if model.intercept else 0.0
    return DeltaEstimate(found["weights"], intercept)
