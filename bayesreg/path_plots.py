"""The path of the weights along the lambda axis, and their posterior on the same axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection

from bayesreg.lambda_axis import LambdaAxis, draw_line, round_values, top_row
from bayesreg.plot_parts import GREY, OKABE_ITO, SHORT_NAME, as_drawn, axes_or_new, label_ends, weight_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.penalty_path import Path
    from bayesreg.posterior_path import PosteriorPath

# Up to so many features each have a name; of more, those that become largest.
_MOST_NAMED, _NAMED_OF_MANY = 10, 6
# Points above the axes at which the counts stand, clear of the prior scale.
_ABOVE_PRIOR_SCALE = 36.0


def plot_path(
    path: Path, posterior: PosteriorPath | None = None, ax: Axes | None = None, *, num_bands: int = 3
) -> Axes:
    """Draw the weights along the lambda axis, and the posterior of those that become largest.

    Below stands lambda, on top the prior scale whose MAP the weights are, and over it the number of weights that are
    not 0 (for l2 the effective degrees of freedom). Up to 10 features have a name and a colour each; of more, the 6
    that become largest, before the others in grey. The prior scale is that at the noise scale of the posterior where
    that is known, else at `Path.noise_scale`; it is left out where there is none.

    Args:
        path: The penalised fits.
        posterior: The posterior at some prior scales, in the units of the path: bands, and the mean, dotted.
        ax: Where to draw.
        num_bands: The number of features that have a band: those that become largest.

    Returns:
        The axes.

    Raises:
        ValueError: The posterior is of another kind of prior or of other features.

    Example:
        >>> import bayesreg as br
        >>> ax = plot_path(br.path(br.load_diabetes().standardized(), "l1", noise_scale=0.7))
        >>> ax.get_xlabel(), len(ax.texts)
        ('λ (logarithmic, weaker penalties to the right)', 10)
        >>> plt.close(ax.figure)
    """
    axis = LambdaAxis.of(path.lambdas.numpy())
    weights, names = path.weights.numpy()[axis.order], as_drawn(path.feature_names, SHORT_NAME)
    if posterior is not None and (posterior.kind, posterior.feature_names) != (path.kind, path.feature_names):
        raise ValueError(
            f"posterior must be of the path's kind and features, {path.kind!r} and {len(names)} of them; got "
            f"{posterior.kind!r} and {len(posterior.feature_names)}" + " of other names" * (posterior.kind == path.kind)
        )
    ax = axes_or_new(ax, (7.5, 5.2))
    largest = np.argsort(-np.abs(weights).max(axis=0), kind="stable")
    named = largest[: _MOST_NAMED if len(names) <= _MOST_NAMED else _NAMED_OF_MANY]
    positive = axis.positive
    others = [np.column_stack([axis.place[positive], weights[positive, j]]) for j in largest[len(named) :]]
    grey = LineCollection(others, colors=GREY, linewidths=0.6, alpha=0.35, zorder=1, label="other features")
    ax.add_collection(grey)
    ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
    ends = []
    for rank, j in enumerate(named):
        color = OKABE_ITO[rank % len(OKABE_ITO)]
        style = "-" if rank < len(OKABE_ITO) else "--"
        draw_line(ax, axis, weights[:, j], color=color, linestyle=style, linewidth=1.8, label=names[j])
        ends.append((names[j], weights[-1, j], color))
    if posterior is not None:
        _draw_bands(ax, _posterior_places(path, posterior), posterior, named[:num_bands])
    axis.draw(ax)
    ax.autoscale(axis="y")
    ax.set_ylabel("weight" + weight_unit(path))
    _draw_top(ax, axis, path, posterior)
    label_ends(ax, ends)
    return ax


def _scale_constant(path: Path, posterior: PosteriorPath | None) -> tuple[float, float]:
    """Return c and p of the prior scale, c / lambda^p: t = s / sqrt(n lambda), b = s^2 / (n lambda).

    Raises:
        ValueError: The path has no noise scale.
    """
    power = 0.5 if path.kind == "l2" else 1.0
    if posterior is not None and posterior.lambdas is not None:
        return float(posterior.prior_scales[0] * posterior.lambdas[0] ** power), power
    largest = int(path.lambdas.argmax())
    scales = path.prior_scales[:, -1] if path.kind == "elasticnet" else path.prior_scales
    return float(scales[largest] * path.lambdas[largest] ** power), power


def _posterior_places(path: Path, posterior: PosteriorPath) -> np.ndarray:
    """Return where the points of a posterior stand: at their lambda, or with noise learned at their prior scale."""
    if posterior.lambdas is not None:
        return posterior.lambdas.numpy()
    constant, power = _scale_constant(path, posterior)
    return (constant / posterior.prior_scales.numpy()) ** (1.0 / power)


def _draw_bands(ax: Axes, places: np.ndarray, posterior: PosteriorPath, features: np.ndarray) -> None:
    order = np.argsort(places)
    for rank, j in enumerate(features):
        lower, upper, mean = (getattr(posterior, name).numpy()[order, j] for name in ("lower", "upper", "mean"))
        color = OKABE_ITO[rank % len(OKABE_ITO)]
        words = {"band": f"{100 * posterior.interval:g}% equal-tailed interval", "mean": "posterior mean"}
        words = words if rank == 0 else dict.fromkeys(words, "_")  # once in the legend
        style = {"color": color, "alpha": 0.18, "linewidth": 0, "zorder": 1}
        ax.fill_between(places[order], lower, upper, label=words["band"], **style)
        ax.plot(places[order], mean, ":", color=color, linewidth=1.2, label=words["mean"])


def _draw_top(ax: Axes, axis: LambdaAxis, path: Path, posterior: PosteriorPath | None) -> None:
    """Put the prior scale and the number of weights on top."""
    if path.kind == "l2":
        counts, words = path.degrees_of_freedom.numpy(), "effective degrees of freedom"
    else:
        counts, words = path.num_nonzero.numpy(), "weights that are not 0"
    low, high = sorted(ax.get_xlim())
    try:
        constant, power = _scale_constant(path, posterior)
    except ValueError:  # by the data the noise scale may be as small as one likes
        above = 0.0
    else:
        above = _ABOVE_PRIOR_SCALE
        squared = path.num_rows * (constant**2 if path.kind == "l2" else constant * path.l1_ratio)  # s^2
        formula = {"l2": "t = s/√(nλ)", "l1": "b = s²/(nλ)", "elasticnet": "b = s²/(nrλ) of the Laplace factor"}
        scales = round_values(constant / high**power, constant / low**power)
        places = (constant / scales) ** (1.0 / power)
        label = f"prior scale {formula[path.kind]}, s = {np.sqrt(squared):.3g}"
        top_row(ax, places, [f"{scale:g}" for scale in scales], label, 0.0)
    ticks = np.array([tick for tick in ax.get_xticks() if low <= tick <= high])
    nearest = np.abs(np.log(axis.place) - np.log(ticks)[:, None]).argmin(axis=1)
    top_row(ax, ticks, [f"{counts[index]:.3g}" for index in axis.order[nearest]], words, above)
