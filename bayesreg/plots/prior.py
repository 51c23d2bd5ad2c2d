"""The picture of the dictionary: a prior's density beside the penalty that it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import ScaledTranslation

from bayesreg.plots.parts import MAP, PROBABILITY, axes_or_new, check_result, describe, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.elastic_net_prior import ElasticNetPrior
    from bayesreg.priors import GaussianPrior, LaplacePrior

# Points of the axes' width from which on the legend has room between the arms of the penalty; points below the axes at
# which it stands else.
_WIDE, _BELOW = 200.0, 32.0
# The letters of a prior's scales, and the attributes that hold them.
_SCALES = {
    "gaussian": {"t": "scale"},
    "laplace": {"b": "scale"},
    "elasticnet": {"t": "gaussian_scale", "b": "laplace_scale"},
}


def plot_prior_and_penalty(
    prior: GaussianPrior | LaplacePrior | ElasticNetPrior,
    ax: Sequence[Axes] | None = None,
    *,
    noise_scale: float,
    num_rows: int,
) -> np.ndarray:
    """Draw the density of a prior beside the penalty that it is.

    Left, p(w). Right, as a line, lambda R(w) of J(w) = |y - Xw - b|^2 / (2 n) + lambda R(w), or for an elastic net
    lambda1 |w| + lambda2 w^2 / 2, and on it, as dots computed from the density alone, (s^2 / n) (log p(m) - log p(w)).

    Args:
        prior: A prior with one known scale for all features, or for an elastic net one pair of them.
        ax: Two axes.
        noise_scale: The noise scale s.
        num_rows: The number n of rows.

    Returns:
        Array of the two axes.

    Raises:
        ValueError: The prior has no single known scale, or ``ax`` is not two axes.

    Example:
        >>> from bayesreg import LaplacePrior
        >>> left, right = plot_prior_and_penalty(LaplacePrior(0.25), noise_scale=0.7, num_rows=442)
        >>> print(right.get_title(loc="left"))
        Its penalty, λ = s²/(nb) = 0.00443
        (n = 442, s = 0.7)
        >>> plt.close(left.figure)
    """
    import torch

    from bayesreg.conventions import penalty_for

    check_result(prior, "prior", "a GaussianPrior, LaplacePrior or ElasticNetPrior", "kind")
    scales = {letter: getattr(prior, name) for letter, name in _SCALES.get(prior.kind, {}).items()}
    if not scales or prior.scale_is_learned or any(np.size(value) != 1 for value in (*scales.values(), prior.loc)):
        raise ValueError(
            "prior must be a GaussianPrior, LaplacePrior or ElasticNetPrior of one known scale for all features, "
            f"got {prior!r}"
        )
    if ax is None:
        _, ax = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained", sharex=True)
    if np.size(ax) != 2:
        raise ValueError(f"ax must be two axes, for the density and for the penalty, got {np.size(ax)}")
    left, right = (axes_or_new(one, (0.0, 0.0)) for one in np.ravel(ax))
    penalty = penalty_for(prior, noise_scale=noise_scale, num_rows=num_rows)
    loc = float(prior.locations(1)[0])
    unit = noise_scale if prior.relative_to_noise else 1.0
    scale = float(prior.scales(1)[0]) * unit
    weights = loc + scale * np.linspace(-4.0, 4.0, 401)

    def log_density(values: np.ndarray) -> np.ndarray:
        deviation = torch.from_numpy(values - loc)[:, None]
        return prior.log_density(deviation, torch.full_like(deviation, scale)).numpy()

    left.plot(weights, np.exp(log_density(weights)), color=PROBABILITY, linewidth=2.0)
    left.fill_between(weights, np.exp(log_density(weights)), color=PROBABILITY, alpha=0.15, linewidth=0)
    left.set_ylim(0.0, None)
    name = prior.words.split(maxsplit=1)[1].capitalize()
    shown = ", ".join(f"{letter} = {np.asarray(value).item() * unit:.3g}" for letter, value in scales.items())
    describe(left, f"{name}, scale{'s' * (len(scales) > 1)} {shown}", "weight w", "prior density p(w)")

    penalty_values = np.array([penalty.value(np.array([weight])) for weight in weights])
    away = "w" if loc == 0 else f"w − {loc:g}" if loc > 0 else f"w + {-loc:g}"
    terms = {
        "t": ("λ₂", "w²/2" if loc == 0 else f"({away})²/2", "t²", penalty.l2),
        "b": ("λ₁", f"|{away}|", "b", penalty.l1),
    }
    rows = [terms[letter] for letter in scales]
    if len(rows) == 1:
        rows = [("λ", *rest) for _, *rest in rows]
    words = " + ".join(f"{symbol} {term}" for symbol, term, _, _ in rows)
    room = 0.9 * width_of(right)
    right.plot(weights, penalty_values, color=MAP, linewidth=2.0, label=wrapped(words, room, 9.0))
    dots = weights[::25]
    by_density = noise_scale**2 / num_rows * (log_density(np.array([loc])) - log_density(dots))
    words = f"(s²/n) (log p({loc:g}) − log p(w))"
    right.plot(dots, by_density, "o", color=PROBABILITY, markersize=4.5, label=wrapped(words, room, 9.0), clip_on=False)
    right.set_ylim(0.0, None)
    strengths = [f"{symbol} = s²/(n{power}) = {np.asarray(value).item():.3g}" for symbol, _, power, value in rows]
    title = f"Its penalty, {', '.join(strengths)} (n = {num_rows:,}, s = {noise_scale:.3g})"
    describe(right, title, "weight w", "penalty on the mean of (y − ŷ)²/2")
    # Between the arms of the penalty there is room, of narrow axes only below them.
    place = {} if width_of(right) >= _WIDE else {"bbox_to_anchor": (0.5, 0.0)}
    below = ScaledTranslation(0.0, 0.0 if not place else -_BELOW / 72.0, right.figure.dpi_scale_trans)
    right.legend(loc="upper center", frameon=False, fontsize=9, bbox_transform=right.transAxes + below, **place)
    return np.array([left, right])
