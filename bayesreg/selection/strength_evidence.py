"""The evidence for a strength: the marginal likelihood of the prior that it stands for, along the lambda axis.

Gaussian prior: in closed form (`bayesreg.evidence`), at the noise scale given, or at its likeliest for each lambda.

Laplace prior of scale b, d weights, the noise scale known: by path sampling. Since b d/db log p(y | b) =
E(|w|_1 | y, b) / b - d, the slope of the log evidence over u = log lambda is

    d log p(y | lambda) / d u = d - E(|w|_1 | y, b) / b,        b = s^2 / (n lambda),

a posterior mean at each of a few strengths; between them it is interpolated by a monotone cubic, and its integral is
the log evidence up to a constant. Its standard error is that of the posterior means, carried through the integral; what
the cubics are off by between their nodes, five a decade, comes on top (some hundredths of a nat).

Sources: Gelman and Meng, Statistical Science 13 (1998); Casella, Biostatistics 2 (2001), and Park and Casella, JASA 103
(2008), section 3, for its root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.integrate
import scipy.interpolate
import scipy.optimize
import torch

from bayesreg.computing.threads import one_thread
from bayesreg.evidence import EvidenceSpectrum
from bayesreg.moments import Moments
from bayesreg.paths.posterior_path import PosteriorPath, posterior_path

# Strengths at which the posterior under a Laplace prior is drawn from.
_FEWEST_NODES, _NODES_A_DECADE = 16, 5
_EFFECTIVE_DRAWS = 500
_DENSE = 2001
# 90 % of a chi-squared number of one degree of freedom are below twice this: a likelihood interval.
_DROP = 1.3527717270477
# Half of the normal interval that holds 90 %.
_HALF_NORMAL_90 = 1.6448536269514722


@dataclass(frozen=True, eq=False)
class StrengthEvidence:
    """The log evidence along the axis, less its maximum.

    Attributes:
        table: Columns `lambda`, `log_evidence`, `standard_error` (0 in closed form).
        strength: The lambda of the largest evidence.
        lower: Lower end of its 90 % interval: where the log evidence is 1.35 below its maximum, and the Monte Carlo
            error of the maximum's place included; or the end of the axis.
        upper: Its upper end.
        at_end: Whether the maximum is at an end of the axis.
    """

    table: pd.DataFrame
    strength: float
    lower: float
    upper: float
    at_end: bool


@one_thread()
def gaussian_evidence(spectrum: EvidenceSpectrum, lambdas: np.ndarray, noise_scale: float | None) -> StrengthEvidence:
    """Return the evidence of Gaussian priors, in closed form.

    Args:
        spectrum: The decomposition of the design, relative scales 1.
        lambdas: Strengths `(m,)`, positive, in any order.
        noise_scale: s; None: the likeliest one at each lambda.

    Returns:
        The evidence.
    """

    def height(logs: np.ndarray) -> np.ndarray:
        ratios = torch.from_numpy(-0.5 * (logs + np.log(spectrum.num_rows)))
        noise = spectrum.likeliest_noise(ratios) if noise_scale is None else torch.full_like(ratios, noise_scale).log()
        return spectrum.log_evidence_at_ratio(noise, ratios).numpy()

    logs = np.log(lambdas)
    dense = np.linspace(logs.min(), logs.max(), _DENSE)
    heights = height(dense)
    best = int(heights.argmax())
    place, top = dense[best], heights[best]
    if 0 < best < _DENSE - 1:
        bounds = (dense[best - 1], dense[best + 1])
        found = scipy.optimize.minimize_scalar(lambda u: -height(np.array([u]))[0], bounds=bounds, method="bounded")
        place, top = (found.x, -found.fun) if -found.fun >= top else (place, top)
    return _evidence(lambdas, height(logs) - top, np.zeros(len(logs)), dense, heights - top, place, 0.0)


def laplace_evidence(
    moments: Moments, lambdas: np.ndarray, noise_scale: float, intercept: bool, seed: int, progress: bool
) -> StrengthEvidence:
    """Return the evidence of Laplace priors, by path sampling.

    Args:
        moments: The data.
        lambdas: Strengths `(m,)`, positive, in any order; the axis reaches from the smallest to the largest.
        noise_scale: s.
        intercept: Whether there is an intercept.
        seed: Seeds the draws.
        progress: Whether to show a bar.

    Returns:
        The evidence, with its Monte Carlo error.
    """
    logs, n = np.log(lambdas), moments.num_rows
    if not np.ptp(logs):  # one strength: nothing to choose between
        return _evidence(lambdas, 0.0 * logs, 0.0 * logs, logs[:1], np.zeros(1), logs[0], 0.0)
    nodes = np.linspace(logs.min(), logs.max(), max(_FEWEST_NODES, round(_NODES_A_DECADE * np.ptp(logs) / np.log(10))))
    scales = noise_scale**2 / (n * np.exp(nodes))
    found = posterior_path(
        moments,
        "l1",
        prior_scales=scales,
        noise_scale=noise_scale,
        draws=_EFFECTIVE_DRAWS,
        intercept=intercept,
        seed=seed,
        progress=progress,
    )
    return evidence_from_posteriors(found, lambdas)


def evidence_from_posteriors(found: PosteriorPath, lambdas: np.ndarray) -> StrengthEvidence:
    """Return the evidence of Laplace priors along posteriors that were drawn from, the noise known.

    Under priors relative to the noise the slope is the same: lambda is s / (n tau), and b = tau s.

    Args:
        found: Posteriors at two strengths or more, in any order.
        lambdas: Strengths `(m,)` between them, in any order.

    Returns:
        The evidence, with its Monte Carlo error.
    """
    order = np.argsort(found.lambdas.numpy())
    logs, nodes = np.log(lambdas), np.log(found.lambdas.numpy()[order])
    scales = found.prior_scales.numpy()[order]
    if found.relative_to_noise:
        scales = scales * found.noise_scale.numpy()[order]
    slopes = found.mean.shape[1] - found.l1_norm.numpy()[order] / scales
    errors = found.mcse_l1_norm.numpy()[order] / scales
    slope = scipy.interpolate.PchipInterpolator(nodes, slopes)
    integral = slope.antiderivative()
    dense = np.linspace(nodes[0], nodes[-1], _DENSE)
    heights = integral(dense)
    place, top = dense[heights.argmax()], heights.max()
    # The place of the maximum is off by the slope's error over its own slope.
    bend = -float(slope.derivative()(place))
    off = float(np.interp(place, nodes, errors)) / bend if bend > 0.0 else 0.0
    return _evidence(
        lambdas, integral(logs) - top, _errors_from(place, logs, nodes, errors), dense, heights - top, place, off
    )


def _errors_from(place: float, logs: np.ndarray, nodes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the standard error of the integral of the slope from a place to each of the logs."""
    dense = np.linspace(nodes[0], nodes[-1], _DENSE)
    hats = np.stack([np.interp(dense, nodes, row) for row in np.eye(len(nodes))], axis=1)  # 1 at a node, 0 at others
    areas = scipy.integrate.cumulative_trapezoid(hats, dx=(nodes[-1] - nodes[0]) / (_DENSE - 1), axis=0, initial=0.0)
    areas = areas - areas[np.abs(dense - place).argmin()]
    return np.interp(logs, dense, np.sqrt(np.square(areas * errors).sum(axis=1)))


def _evidence(
    lambdas: np.ndarray,
    log_evidence: np.ndarray,
    errors: np.ndarray,
    dense: np.ndarray,
    heights: np.ndarray,
    place: float,
    off: float,
) -> StrengthEvidence:
    inside = dense[heights >= -_DROP]
    reach = _HALF_NORMAL_90 * off  # the two errors add up as squares
    lower = max(dense[0], place - np.hypot(place - inside.min(initial=place), reach))
    upper = min(dense[-1], place + np.hypot(inside.max(initial=place) - place, reach))
    table = pd.DataFrame({"lambda": lambdas, "log_evidence": log_evidence, "standard_error": errors})
    at_end = bool(min(place - dense[0], dense[-1] - place) <= 1e-9 * (dense[-1] - dense[0]))
    return StrengthEvidence(table, float(np.exp(place)), float(np.exp(lower)), float(np.exp(upper)), at_end)
