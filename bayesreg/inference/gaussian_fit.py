"""The Gaussian of largest ELBO, by accelerated natural-gradient steps, for a batch of prior scales at once.

What it solves:
    the maximum of `gaussian_elbo` over m and S, S any covariance or a diagonal one. There

        E_q[grad log p] = 0   and   P = S^-1 = E_q[-Hess log p]   (mean field: their diagonals),

    the fixed point of the natural-gradient step (Khan & Lin, Conjugate-computation variational inference, AISTATS 2017)

        m <- m + rho P^-1 E_q[grad log p],      P <- (1 - rho) P + rho E_q[-Hess log p].

    Mean field keeps the whole P for the step of the mean and has S = diag(P)^-1.

How:
    Steps of rho = 1, extrapolated by Anderson's rule from the last few (Walker & Ni, SIAM J. Numer. Anal. 49, 2011):
    with more rows than columns it saves a step or two, with fewer, where noise, prior scale and weights move together
    slowly, hundreds become dozens. The Gram's share g and the diagonal D of P enter by their logarithms, so that they
    stay positive, and since they follow the scales' logarithms along straight lines. A step that leads to no precision
    or loses ELBO is undone and a plain one of rho tried; where that fails too, the memory is cleared and rho halved.

Stopping rule:
    With F the Fisher metric (its diagonal, for the precision), f the natural-gradient step is F^-1 times the gradient.
    Along a direction in which the fixed point contracts by a factor 1 - r, the ELBO's curvature is r F, and <f, f>_F /
    (2 r) nats remain. The smallest r that the remembered steps have shown, and a factor for caution, make the estimate.
    The fit has converged when that is below the tolerance (or below what rounding of the ELBO can tell), and the step
    that led there has gained no more than was foretold.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from bayesreg.computing.threads import one_thread
from bayesreg.inference.bordered_precision import Covariance, Layout, Parts, independent
from bayesreg.inference.gaussian_elbo import GaussianElbo

_MEMORY = 6
_REGULARISATION = 1e-10
_SMALLEST_RHO = 1e-10
_SMALLEST_RATE = 1e-3  # of contraction: what a step of the size of rounding shows is no rate
_CAUTION = 4.0
_TINY = np.finfo(np.float64).tiny
_ROUNDING = 1e-15  # of the number of rows, whose terms the ELBO adds


@dataclass
class GaussianFit:
    """The best Gaussians of b problems, over weights (d,) and logarithms of learned scales (k,), c apart.

    Attributes:
        elbo: The closed form and what it knows of the problem.
        mean_field: Whether the coordinates are independent.
        vectors: The Gaussians ``(b, N)``, as ``elbo.layout`` has them.
        elbos: ``(b,)``, in nats.
        remaining: Nats that may remain, an estimate ``(b,)``.
        converged: ``(b,)``.
        steps: Steps tried ``(b,)``.
    """

    elbo: GaussianElbo
    mean_field: bool
    vectors: np.ndarray
    elbos: np.ndarray
    remaining: np.ndarray
    converged: np.ndarray
    steps: np.ndarray

    @property
    def parts(self) -> Parts:
        """The means and precisions by name."""
        return self.elbo.layout.parts(self.vectors)

    @cached_property
    def covariance(self) -> Covariance:
        """Their S."""
        return _covariance(self.elbo, self.mean_field, self.parts)

    @property
    def log_scales(self) -> np.ndarray:
        """Means of the logarithms of the learned scales ``(b, k)``."""
        return self.parts.scales

    @property
    def noise_precision(self) -> np.ndarray:
        """E[1 / s^2] ``(b,)``."""
        return self.parts.gram


@one_thread()
def fit_gaussian(
    target: Any,
    *,
    prior_scales: np.ndarray | None = None,
    mean_field: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 1_000,
) -> GaussianFit:
    """Maximise the ELBO of a regression over Gaussians.

    Args:
        target: A `bayesreg.target.Target` that ``gaussian_elbo.why_not`` has nothing against.
        prior_scales: ``(b,)`` or ``(b, d)``: one fit each, in place of the prior's known scale; None is one fit of the
            model as it is.
        mean_field: Whether the coordinates are independent.
        tolerance: Nats that a fit may leave.
        max_steps: Largest number of steps.

    Returns:
        The fits; a leading axis of one where no prior scales are given.

    Raises:
        ValueError: The ELBO has no closed form, scales are out of range, or there is no finite ELBO to start from.
    """
    elbo = GaussianElbo(target, prior_scales)
    with np.errstate(all="ignore"):  # a step into overflow has no finite ELBO and is undone
        return _climb(elbo, mean_field, tolerance, max_steps)


@dataclass
class _State:
    """Where the fits still at work stand; all arrays have their axis first.

    Attributes:
        index: Which fits they are.
        vectors: Their Gaussians x ``(b, N)``.
        values: Their ELBOs.
        natural: f ``(b, N)``, the natural-gradient step from x.
        dual: The Fisher metric times f, to its diagonal but for the mean.
        metric: The diagonal.
        rounding: What rounding may make of the ELBO.
        rho: The share of f that such a step takes.
        gains: Nats of the last step that was kept.
        foretold: Nats that seemed to remain before the last step.
        plain: Whether the last step failed, so that the next is a step of rho f.
        moves: Of those, x at the end less x at the start ``(b, _MEMORY, N)``, else 0.
        turns: The same of f.
    """

    index: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    natural: np.ndarray
    dual: np.ndarray
    metric: np.ndarray
    rounding: np.ndarray
    rho: np.ndarray
    gains: np.ndarray
    foretold: np.ndarray
    plain: np.ndarray
    moves: np.ndarray
    turns: np.ndarray

    def of(self, mask: np.ndarray) -> _State:
        """Return the state of some of the fits."""
        return _State(*(getattr(self, field.name)[mask] for field in fields(self)))


def _climb(elbo: GaussianElbo, mean_field: bool, tolerance: float, max_steps: int) -> GaussianFit:
    vectors = _start(elbo)
    size, width = vectors.shape
    values, *derivatives = _evaluate(elbo, mean_field, vectors)
    if not np.isfinite(values).all():
        raise ValueError(
            "svi found no finite evidence lower bound to start from: the posterior is improper, as with a learned "
            "noise and a target that the columns fit exactly, or its density overflows round target.start()"
        )
    state = _State(
        np.arange(size), vectors, values, *derivatives, _ROUNDING * (elbo.num_rows + np.abs(values)), np.ones(size),
        np.full(size, np.inf), np.zeros(size), np.zeros(size, dtype=bool),
        np.zeros((size, _MEMORY, width)), np.zeros((size, _MEMORY, width)),
    )  # fmt: skip
    best = GaussianFit(
        elbo, mean_field, np.empty_like(vectors), np.empty(size), np.empty(size), np.zeros(size, dtype=bool),
        np.zeros(size, dtype=int),
    )  # fmt: skip
    for number in range(max_steps + 1):
        step, remaining = _propose(elbo.layout, state)
        allowed = np.maximum(tolerance, state.rounding)
        enough = (remaining < allowed) & (state.gains < state.foretold + allowed)
        state.foretold = remaining
        leaving = enough | (state.rho < _SMALLEST_RHO)
        if number == max_steps:
            leaving[:] = True
        if leaving.any():
            index = state.index[leaving]
            best.vectors[index], best.elbos[index] = state.vectors[leaving], state.values[leaving]
            best.remaining[index], best.converged[index] = remaining[leaving], enough[leaving]
            best.steps[index] = number
            if leaving.all():
                break
            state, step, elbo = state.of(~leaving), step[~leaving], elbo.of(~leaving)
        _take(state, step, _evaluate(elbo, mean_field, state.vectors + step), number % _MEMORY)
    return best


def _start(elbo: GaussianElbo) -> np.ndarray:
    """Return Gaussians ``(b, N)`` at the target's start, as wide as it would be if the scales were known."""
    vectors = np.zeros((len(elbo.prior_scales), elbo.layout.size))
    parts, d = elbo.layout.views(vectors), elbo.layout.num_features
    parts.weights[:] = elbo.start[:d]
    parts.scales[:] = elbo.start[d + int(elbo.has_intercept) :]
    parts.gram[:] = elbo.noise_precision_at(parts.scales)
    if elbo.prior_kind != "flat":
        parts.diagonal[:] = 1.0 / np.square(elbo.prior_scales_at(parts.scales))
    for index, count in enumerate(elbo.scale_counts):
        parts.corner[:, index, index] = 2.0 * count
    if not elbo.start_has_its_prior:
        _move_to_ridge(elbo, parts)
    elif elbo.known_noise_scale is None and elbo.num_rows > 2 * d:
        # The target's start has the noise from a coarse grid, which many rows tell better.
        rss = elbo.design.residuals(parts.weights)[0]
        parts.scales[:, 0] = np.where(rss > 0.0, 0.5 * np.log(rss / (elbo.num_rows - d)), parts.scales[:, 0])
        parts.gram[:] = elbo.noise_precision_at(parts.scales)
    elbo.layout.take_logarithms(vectors)
    return vectors


def _move_to_ridge(elbo: GaussianElbo, parts: Parts) -> None:
    """Start from the ridge fits of precision D: the target's start is for the model's own prior scale.

    A learned noise is raised to what these leave unexplained; it is not lowered, since few rows are fitted exactly.
    """
    slope = np.zeros((len(parts.gram), elbo.layout.num_means))
    residual_cross = elbo.design.residuals(parts.weights)[1]
    slope[:, : elbo.layout.num_features] = parts.gram[:, None] * residual_cross - parts.diagonal * (
        parts.weights - elbo.loc
    )
    parts.weights[:] += elbo.design.covariance(elbo.layout, parts).solve(slope)[:, : elbo.layout.num_features]
    if elbo.known_noise_scale is None:
        rss = elbo.design.residuals(parts.weights)[0]
        parts.scales[:, 0] = np.maximum(parts.scales[:, 0], 0.5 * np.log(rss / elbo.num_rows))
        parts.gram[:] = elbo.noise_precision_at(parts.scales)


def _covariance(elbo: GaussianElbo, mean_field: bool, parts: Parts) -> Covariance:
    full = elbo.design.covariance(elbo.layout, parts)
    return independent(elbo.layout, elbo.design, parts, full) if mean_field else full


def _evaluate(
    elbo: GaussianElbo, mean_field: bool, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the ELBO (minus infinity where there is none), f, its dual and the metric's diagonal."""
    layout, num_means = elbo.layout, elbo.layout.num_means
    parts = layout.parts(vectors)
    covariance = _covariance(elbo, mean_field, parts)
    values, natural = elbo(parts, covariance)
    slope = natural[:, :num_means].copy()
    layout.take_logarithms(natural)
    natural -= vectors
    natural[:, :num_means] = covariance.solve(slope)
    values = np.where(covariance.valid & np.isfinite(values + natural.sum(-1)), values, -np.inf)
    # KL between neighbours is dm'P dm / 2 + |P^-1/2 dP P^-1/2|^2 / 4.
    metric = np.empty_like(vectors)
    slots, variances = layout.views(metric), covariance.variances
    of_scales = np.diagonal(covariance.scales, axis1=1, axis2=2)
    np.divide(1.0, variances, out=slots.weights)
    np.divide(1.0, of_scales, out=slots.scales)
    slots.gram[:] = np.square(parts.gram * covariance.gram_trace) / (2 * layout.num_features)
    np.multiply(0.5, np.square(parts.diagonal * variances), out=slots.diagonal)
    np.multiply(variances[:, :, None], of_scales[:, None, :], out=slots.border)
    np.multiply(0.5 * of_scales[:, :, None], of_scales[:, None, :], out=slots.corner)
    dual = metric * natural
    dual[:, :num_means] = slope
    return values, natural, dual, metric


def _propose(layout: Layout, state: _State) -> tuple[np.ndarray, np.ndarray]:
    """Return the next steps ``(b, N)``, and the nats that may remain ``(b,)``."""
    turns, moves, metric = state.turns, state.moves, state.metric[:, None]
    weighted = turns * metric
    normal = weighted @ turns.transpose(0, 2, 1)
    diagonal = normal.reshape(len(normal), -1)[:, :: _MEMORY + 1]
    # The diagonal is kept from 0 where nothing is remembered, and from dependence of what is.
    diagonal += _REGULARISATION * diagonal.sum(-1, keepdims=True) + _TINY
    shares = np.linalg.solve(normal, weighted @ state.natural[..., None])
    step = state.natural - (shares.transpose(0, 2, 1) @ (moves + turns))[:, 0]
    damped = state.plain | (state.rho < 1.0)
    if damped.any():
        step[damped] = _mixture(layout, state.natural[damped], state.rho[damped, None])
    # 1 - (the largest factor by which a step of f has shortened f), where anything is remembered.
    length = (moves * moves * metric).sum(-1)
    slowest = -((weighted * moves).sum(-1) / np.maximum(length, _TINY)).max(-1, where=length > 0, initial=-1.0)
    newton = 0.5 * (state.dual * state.natural).sum(-1)
    return step, _CAUTION * newton / np.maximum(slowest, _SMALLEST_RATE)


def _mixture(layout: Layout, natural: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Return the step to (1 - rho) P + rho E, of which the logarithms in a vector know no more than its ends."""
    step = rho * natural
    logarithms = layout.logarithms
    # log((1 - rho) + rho E / D), the steps of log g and log D.
    step[:, logarithms] = np.logaddexp(np.log1p(-rho), np.log(rho) + natural[:, logarithms])
    return step


def _take(state: _State, step: np.ndarray, trial: tuple, slot: int) -> None:
    """Go where the ELBO does not fall, and remember it; elsewhere stay, and forget or damp."""
    values, natural, dual, metric = trial
    good = values >= state.values - state.rounding
    if good.all():
        state.moves[:, slot], state.turns[:, slot] = step, natural - state.natural
        state.gains = values - state.values
        state.vectors, state.values, state.natural, state.dual, state.metric = (
            state.vectors + step, values, natural, dual, metric,
        )  # fmt: skip
        state.rho = np.minimum(1.0, 2.0 * state.rho)
        state.plain = ~good
        return
    state.moves[good, slot], state.turns[good, slot] = step[good], natural[good] - state.natural[good]
    state.gains[good] = values[good] - state.values[good]
    state.vectors[good] += step[good]
    for name, new in (("values", values), ("natural", natural), ("dual", dual), ("metric", metric)):
        getattr(state, name)[good] = new[good]
    state.rho[good] = np.minimum(1.0, 2.0 * state.rho[good])
    stuck = ~good & state.plain
    state.rho[stuck] /= 2.0
    state.moves[stuck], state.turns[stuck] = 0.0, 0.0
    state.plain = ~good
