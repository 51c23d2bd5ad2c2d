"""The finishing phase of training: from where the epochs ended to the optimum, on the full batch, by products alone.

In the canonical objective, with centred rows, each column divided by D_j = sqrt(|Xc_j|^2 / n + l2_j) to make A,
u_j = D_j (w_j - c_j) and b = yc - Xc c, the problem is

    F(u) = |b - A u|^2 / (2 n) + sum_j [ q_j u_j^2 / 2 + t_j |u_j| ],      q_j = l2_j / D_j^2,   t_j = l1_j / D_j.

The Hessian of its smooth part has a diagonal of ones whatever the scales of the columns, and the L1 term is still
separable. Nesterov's accelerated gradient with step 1/L, restarted whenever it goes uphill, minimises it, with L1 as

    proximal      u <- soft(y - grad/L, t/L): reaches exact zeros;
    subgradient   u <- y - h (grad + t sign(y)), with a step h_j = 1/L that is cut where it would carry a weight across
                  its kink, to end a tenth of the distance beyond it: the step of a weight that belongs at the kink
                  decays geometrically, all others move at full speed. No exact zeros.

Sources: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm" (SIAM J. Imaging Sciences 2, 2009);
O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes" (Foundations of Computational Mathematics 15,
2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from bayesreg.computing.power_iteration import largest_eigenvalue
from bayesreg.penalties import Penalty

# What is aimed at, and what is warned of: a relative gap, or a KKT residual where a feature bears no penalty.
_AIM = {"relative gap": 1e-14, "KKT residual": 1e-12}
_PROMISE = {"relative gap": 1e-10, "KKT residual": 1e-8}
_STEPS_BETWEEN_CHECKS = 50
_MOST_STEPS = 100_000
# It has stalled where so many steps did not bring the measure down by a tenth, before and after the promise is met.
_PATIENCE = 20_000
_PATIENCE_WITHIN_PROMISE = 1_000
# Power iteration approaches L from below; acceleration is stable up to 4/3 of 1/L.
_MARGIN = 1.02
# A start whose objective is this many times J(0) is drawn in until it is about J(0).
_FAR_OUT = 1e8
# Where a step across a kink ends: at this share of the distance before it, or so near that F cannot tell.
_CUT = 0.1
_INVISIBLE = 1e-20
# How near to a kink, as a share of the target's standard deviation, the KKT residual counts as at it.
_AT_KINK = 1e-12


@dataclass(frozen=True, eq=False)
class FinishedFit:
    """Where the finishing phase ended.

    Attributes:
        weights: (d,), in the units of the data, on the device of the rows.
        intercept: The best intercept for them; 0.0 without one.
        steps: Number of full-batch steps.
        measure: "relative gap", or "KKT residual" where a feature bears no penalty.
        reached: The measure at these weights; the KKT residual is that of F(u), as a share of the target's standard
            deviation.
        threshold: What the measure should be at most.
    """

    weights: torch.Tensor
    intercept: float
    steps: int
    measure: Literal["relative gap", "KKT residual"]
    reached: float
    threshold: float


def finish(
    features: torch.Tensor,
    target: torch.Tensor,
    penalty: Penalty,
    weights: torch.Tensor,
    *,
    intercept: bool,
    l1_update: Literal["proximal", "subgradient"],
) -> FinishedFit:
    """Take weights to the optimum of a penalised least-squares problem.

    Args:
        features: Rows, (n, d), float64.
        target: (n,), float64.
        penalty: The penalty in the canonical convention, with n rows.
        weights: Where to start, (d,).
        intercept: Whether there is an intercept; it is then at its best (centring).
        l1_update: How an L1 term enters.

    Returns:
        The best point found, and how good it is.
    """
    problem = _ScaledProblem(features, target, penalty, centred=intercept)
    point, steps, reached = _minimise(problem, problem.start(weights), l1_update)
    weights = problem.unscaled(point)
    return FinishedFit(
        weights=weights,
        intercept=problem.best_intercept(weights) if intercept else 0.0,
        steps=steps,
        measure=problem.measure,
        reached=reached,
        threshold=_PROMISE[problem.measure],
    )


class _ScaledProblem:
    """F(u) of the head of this file: its data, gradient and optimality measure."""

    def __init__(self, features: torch.Tensor, target: torch.Tensor, penalty: Penalty, centred: bool):
        self.num_rows, self.num_features = features.shape
        l1, l2, self.centre = (
            torch.tensor(value, dtype=torch.float64, device=features.device).expand(self.num_features)
            for value in (penalty.l1, penalty.l2, penalty.centre)
        )
        if centred:
            # A row first: at an offset of 1e8 the mean itself is rounded, and constant columns would leave rounding.
            self._pivot = features[0], target[0]
            features, target = features - features[0], target - target[0]
            self._offsets = features.mean(dim=0), target.mean()
            features, target = features - self._offsets[0], target - self._offsets[1]
        lengths = (features.square().mean(dim=0) + l2).sqrt()
        self.scales = torch.where(lengths > 0, lengths, 1.0)
        self.l1, self.l2 = l1 / self.scales, l2 / self.scales.square()
        # A constant column without an L2 term: its optimum is the centre where L1 holds it, else anywhere.
        self._pinned = (lengths == 0) & (l1 > 0)
        wanted = target - features @ self.centre
        self._mean_square = wanted.square().mean()
        self.solved_by_centre = not bool(self._mean_square > 0)
        # J(0); for a constant target the objective at the centre stands in.
        spread = target.square().mean()
        self.null = torch.where(spread > 0, spread, self._mean_square) / 2
        design = features / self.scales
        self._correlation = design.T @ wanted / self.num_rows
        if self.num_rows > self.num_features:
            gram = design.T @ design / self.num_rows
            self._curvature = lambda point: gram @ point
        else:
            self._curvature = lambda point: design.T @ (design @ point) / self.num_rows
        penalised = (l1 > 0) | (l2 > 0) | (lengths == 0)
        self.measure = "relative gap" if bool(penalised.all()) else "KKT residual"

    def start(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the u to start from: that of the weights, or, where it is absurdly far out, nearer to the centre.

        N(0, 1) weights on a column of scale 1e6 are 1e6 away, which the bounded pull of an L1 term does not make good.
        """
        settled = self._pinned | self.solved_by_centre
        point = torch.where(settled, 0.0, self.scales * (weights - self.centre))
        excess = point @ (self._curvature(point) + self.l2 * point) / 2 + self.l1 @ point.abs()
        excess = excess - point @ self._correlation  # F(u) - F(0)
        return torch.where(excess > _FAR_OUT * self.null, (self.null / excess).sqrt(), 1.0) * point

    def unscaled(self, point: torch.Tensor) -> torch.Tensor:
        """Return the weights of u."""
        return self.centre + point / self.scales

    def best_intercept(self, weights: torch.Tensor) -> float:
        """Return mean(y) - mean(x)'w."""
        means, mean = self._pivot[0] + self._offsets[0], self._pivot[1] + self._offsets[1]
        return float(mean - means @ weights)

    def gradient(self, point: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the smooth part, (d,)."""
        return self._curvature(point) - self._correlation + self.l2 * point

    def curvature_bound(self) -> float:
        """Return L, a little above the largest eigenvalue of the Hessian of the smooth part."""
        device = self.scales.device
        largest = largest_eigenvalue(lambda v: self._curvature(v) + self.l2 * v, self.num_features, device)
        return _MARGIN * largest or 1.0

    def optimality(self, point: torch.Tensor) -> torch.Tensor:
        """Return the relative gap at u, or its KKT residual, (): see `bayesreg.duality`, whose form of the gap this is.

            gap = (1 - a)^2 |r|^2 / (2 n) + sum_j [ R_j(u_j) + R_j*(a z_j) - a z_j u_j ],    z = A'r / n,

        with the largest multiple a <= 1 of the residual r = b - A u that is feasible: |a z_j| <= t_j where q_j = 0.
        """
        residual = self._correlation - self._curvature(point)
        mean_square = (self._mean_square - point @ (self._correlation + residual)).clamp(min=0)
        # The subgradient comes as near to a kink as one likes and never sits on it.
        at_kink = point.abs() <= _AT_KINK * (2 * self.null).sqrt()
        pull = self.l2 * point + torch.where(at_kink, 0.0, self.l1 * point.sign())
        slack = torch.where(at_kink, self.l1, 0.0)
        nearest = residual.clip(pull - slack, pull + slack)
        if self.measure == "KKT residual":
            return (residual - nearest).abs().amax() / (2 * self.null).sqrt()
        # What float64 cannot tell from optimal counts as optimal: t_j may be 1e-12 of the rest.
        size = self._mean_square.sqrt() + point.abs().sum()
        rounding = 8 * torch.finfo(torch.float64).eps * (size + self.l2 * point.abs())
        residual = torch.where((residual - nearest).abs() <= rounding, nearest, residual)
        too_large = (self.l2 == 0) & (residual.abs() > self.l1)
        multiple = torch.where(too_large, self.l1 / residual.abs(), 1.0).amin()
        dual = multiple * residual
        clipped = dual.clip(-self.l1, self.l1)
        off_curve = dual - clipped - self.l2 * point
        gap = (1 - multiple).square() * mean_square / 2
        gap = gap + torch.where(self.l2 > 0, off_curve.square() / (2 * self.l2), 0.0).sum()
        gap = gap + (point.abs() * (self.l1 - clipped * point.sign())).sum()
        return gap / self.null


def _minimise(problem: _ScaledProblem, point: torch.Tensor, l1_update: str) -> tuple[torch.Tensor, int, float]:
    """Return the best point, the number of steps, and the measure there; only the checks wait for the device."""
    if problem.solved_by_centre:
        return point, 0, 0.0
    rate = 1.0 / problem.curvature_bound()
    threshold = rate * problem.l1
    # min(J(0) / t, sqrt(J(0))) is what a weight may be before it costs J(0).
    nearest = _INVISIBLE * torch.minimum(problem.null / problem.l1, problem.null.sqrt())

    def proximal(ahead: torch.Tensor) -> torch.Tensor:
        moved = ahead - rate * problem.gradient(ahead)
        return moved - moved.clip(-threshold, threshold)

    def subgradient(ahead: torch.Tensor) -> torch.Tensor:
        sign = ahead.sign()
        moved = ahead - rate * (problem.gradient(ahead) + problem.l1 * sign)
        beyond = -sign * torch.maximum(_CUT * ahead.abs(), nearest)
        return torch.where((moved * sign < 0) & (problem.l1 > 0), beyond, moved)

    update = {"proximal": proximal, "subgradient": subgradient}[l1_update]
    one = torch.ones((), dtype=torch.float64, device=point.device)
    promise = _PROMISE[problem.measure]
    best, reached, steps = point, float(problem.optimality(point)), 0
    gained, gained_at = reached, 0
    ahead, inertia = point, one
    while reached > _AIM[problem.measure] and steps < _MOST_STEPS:
        for _ in range(_STEPS_BETWEEN_CHECKS):
            new = update(ahead)
            change = new - point
            uphill = torch.dot(ahead - new, change) > 0
            next_inertia = (1 + (1 + 4 * inertia.square()).sqrt()) / 2
            momentum = torch.where(uphill, 0.0, (inertia - 1) / next_inertia)
            inertia = torch.where(uphill, one, next_inertia)
            point, ahead = new, new + momentum * change
        steps += _STEPS_BETWEEN_CHECKS
        found = float(problem.optimality(point))
        if found < reached:
            best, reached = point, found
        if reached < 0.9 * gained:
            gained, gained_at = reached, steps
        if steps - gained_at >= (_PATIENCE if reached > promise else _PATIENCE_WITHIN_PROMISE):
            break
    return best, steps, reached
