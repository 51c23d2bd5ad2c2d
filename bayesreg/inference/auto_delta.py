"""The mode as Pyro finds it: `AutoDelta` on the Pyro program, its loss given to torch's own optimisers.

It maximises the log density of the program's trace over weights and intercept, the scales known, by gradient steps
alone: L-BFGS, which ends at a smooth mode, and Rprop under a prior with kinks, where the sign of a slope says which way
to go and its size not how far: the step of a weight grows while that sign stays and shrinks where it changes, so that
it closes in on a kink. There is no proximal step, so no exact zeros. It starts from zero weights, not from any
solution. The program sees centred columns, each times the size u_j that its weight can have (as the target's spread or
the prior lets it), the prior of w_j / u_j, and the target and the noise in units of the target's spread: the same
posterior, at offsets and in units that gradient steps could not follow.

Sources: Pyro's `AutoDelta`; Liu & Nocedal, Mathematical Programming 45 (1989); Riedmiller & Braun, "A direct adaptive
method for faster backpropagation learning: the RPROP algorithm" (IEEE International Conference on Neural Networks,
1993).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyro
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value

from bayesreg.computing.isolation import isolated

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.model import LinearRegression
    from bayesreg.priors import Prior

# L-BFGS ends long before this where the mode is smooth.
_MOST_EVALUATIONS = 500
# Steps are shares of the size that a weight can have.
_FIRST_STEP = 1e-2
_SMALLEST_AND_LARGEST_STEP = (1e-10, 1.0)
_SHRINK_AND_GROW = (0.7, 1.2)
_MOST_STEPS = 8000
_STEPS_BETWEEN_CHECKS = 300


@dataclass(frozen=True)
class DeltaEstimate:
    """Where `AutoDelta` ended.

    Attributes:
        weights: ``(d,)`` float64 tensor on the CPU.
        intercept: The intercept; 0.0 for a model without one.
    """

    weights: torch.Tensor
    intercept: float


def auto_delta(
    model: LinearRegression,
    data: RegressionData,
    enough: Callable[[DeltaEstimate], bool] = lambda estimate: False,
    seed: int = 0,
) -> DeltaEstimate:
    """Run Pyro's AutoDelta on the program.

    Args:
        model: The model; its scales are known (slow coupling of noise and weights would need far more steps).
        data: The rows.
        enough: Asked now and then under a prior with a kink: where it is content, no more steps are made.
        seed: Seeds Pyro's streams, although nothing is drawn.

    Returns:
        The end point: how far it is from the mode is for `certify` to say.
    """
    share = 1.0 if model.intercept else 0.0  # without an intercept nothing may be moved
    feature_means, target_mean = share * data.features.mean(axis=0), share * data.target.mean()
    columns = data.features - feature_means
    spread = float(np.std(data.target)) or 1.0
    sizes = _sizes(model, np.sqrt(np.square(columns).mean(axis=0)), spread, data.num_rows)
    features = torch.tensor(columns * sizes / spread, dtype=torch.float64, device="cpu")
    target = torch.tensor((data.target - target_mean) / spread, dtype=torch.float64, device="cpu")
    scaled = replace(
        model, prior=_in_units_of(model.prior, sizes, spread), noise_scale=float(model.noise_scale) / spread
    )
    start = {
        "weights": torch.zeros(sizes.size, dtype=torch.float64, device="cpu"),
        "intercept": torch.zeros((), dtype=torch.float64, device="cpu"),
    }

    def estimate(guide: AutoDelta) -> DeltaEstimate:
        found = {name: value.detach().clone() for name, value in guide.median().items()}
        weights = found["weights"].numpy() * sizes
        moved = float(found["intercept"] * spread + target_mean - feature_means @ weights) if model.intercept else 0.0
        return DeltaEstimate(torch.from_numpy(weights), moved)

    def program():
        scaled.pyro_model((features, target))

    with isolated(seed), pyro.validation_enabled(False):
        guide, loss = AutoDelta(program, init_loc_fn=init_to_value(values=start)), Trace_ELBO()
        loss.differentiable_loss(program, guide)  # makes the guide's parameters

        def evaluate() -> torch.Tensor:
            guide.zero_grad()
            value = loss.differentiable_loss(program, guide)
            value.backward()
            return value

        if not model.prior.has_kink:
            torch.optim.LBFGS(
                list(guide.parameters()),
                max_iter=_MOST_EVALUATIONS,
                max_eval=_MOST_EVALUATIONS,
                history_size=200,
                tolerance_grad=0.0,
                tolerance_change=0.0,
                line_search_fn="strong_wolfe",
            ).step(evaluate)
            return estimate(guide)
        rprop = torch.optim.Rprop(guide.parameters(), _FIRST_STEP, _SHRINK_AND_GROW, _SMALLEST_AND_LARGEST_STEP)
        for step in range(1, _MOST_STEPS + 1):
            evaluate()
            rprop.step()
            if step % _STEPS_BETWEEN_CHECKS == 0 and enough(estimate(guide)):
                break
        return estimate(guide)


def _sizes(model: LinearRegression, lengths: np.ndarray, spread: float, num_rows: int) -> np.ndarray:
    """Return what each weight can be: what explains the target's spread, or less where the prior is narrow.

    The prior alone costs as much as the whole target unexplained at w_j = sqrt(n) spread t_j / s, or for a Laplace
    prior at n spread^2 b_j / (2 s^2).
    """
    inverse = lengths / spread
    if model.prior.kind != "flat":
        ratio = num_rows**0.5 * spread / float(model.noise_scale)
        scales = model.prior.scales(lengths.size) * (float(model.noise_scale) if model.prior.relative_to_noise else 1.0)
        shape = model.prior.shape(lengths.size)
        inverse = np.hypot(inverse, np.sqrt(shape.square) / (ratio * scales))  # the same curvature for every weight
        inverse = np.maximum(inverse, 2.0 * shape.absolute / (ratio * ratio * scales))
    return np.divide(1.0, inverse, out=np.ones_like(inverse), where=inverse > 0.0)


def _in_units_of(prior: Prior, sizes: np.ndarray, spread: float) -> Prior:
    """Return the prior of the weights divided by their sizes, where the noise is divided by the target's spread."""
    if prior.kind == "flat":
        return prior
    scales = prior.scales(sizes.size) * (spread if prior.relative_to_noise else 1.0)
    return prior.rescaled(scales / sizes, prior.locations(sizes.size) / sizes)
