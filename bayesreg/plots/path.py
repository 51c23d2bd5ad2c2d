"""The path of the weights along the lambda axis, and their posterior on the same axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection

from bayesreg.plots.lambda_axis import DIRECTION, LambdaAxis, draw_line, most_ticks, round_values, top_row
from bayesreg.plots.parts import (
    GREY,
    OKABE_ITO,
    SHORT_NAME,
    as_drawn,
    axes_or_new,
    check_result,
    describe,
    label_ends,
    weight_unit,
    width_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesreg.paths.penalty_path import Path
    from bayesreg.paths.posterior_path import PosteriorPath

# Up to so many features each have a name; of more, those that become largest.
_MOST_NAMED, _NAMED_OF_MANY = 10, 6
# Points above the axes at which the counts stand, clear of the prior scale.
_ABOVE_PRIOR_SCALE = 36.0
# Of the width of the axes before the layout, what the names beside the lines may take; points of one letter.
_SHARE_OF_NAMES, _POINTS_A_LETTER = 0.27, 5.4


def plot_path(
    path: Path, posterior: PosteriorPath | None = None, ax: Axes | None = None, *, num_bands: int = 3
) -> Axes:
    """Draw the weights along the lambda axis, and the posterior of those that become largest.

    The weights are in the units of the path. With n rows and noise of scale s, the prior scale on top is
    t = s / sqrt(n lambda) for l2, b = s^2 / (n lambda) for l1, and that of the Laplace factor for an elastic net.
    Below stands lambda, on top the prior scale whose MAP the weights are, and over it the number of weights that are
    not 0 (for l2 the effective degrees of freedom). Up to 10 features have a name and a colour each; of more, the 6
    that become largest, before the others in grey. The prior scale is that at the noise scale of the posterior where
    that is known, else at `Path.noise_scale`; it is left out where there is none. Above a posterior relative to the
    noise it is in noise scales: t / s = 1 / sqrt(n lambda) for l2, whatever s is, and b / s = s / (n lambda) for l1.

    Args:
        path: The penalised fits.
        posterior: The posterior at some prior scales, in the units of the path: bands, and the mean, dotted.
        ax: Where to draw.
        num_bands: The number of features that have a band, those that become largest; of those that have a name.

    Returns:
        The axes.

    Raises:
        ValueError: The posterior is of another kind of prior, of other features or in other units, or nowhere where the
            path is.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> ax = plot_path(br.path(br.load_diabetes().standardized(), "l1", noise_scale=0.7))
        >>> ax.get_xlabel(), len(ax.texts)
        ('λ (weaker penalties to the right)', 10)
        >>> plt.close(ax.figure)
    """
    check_result(path, "path", "a Path, which br.path returns", "lambdas", "weights", "kind")
    if posterior is not None:
        wanted = "a PosteriorPath, which br.posterior_path returns, or None"
        check_result(posterior, "posterior", wanted, "kind", "interval", "feature_names")
    axis = LambdaAxis.of(path.lambdas.numpy())
    weights, features = path.weights.numpy()[axis.order], path.feature_names
    if posterior is not None and (posterior.kind, posterior.feature_names) != (path.kind, path.feature_names):
        raise ValueError(
            f"posterior must be of the path's kind and features, {path.kind!r} and {len(features)} of them; got "
            f"{posterior.kind!r} and {len(posterior.feature_names)}" + " of other names" * (posterior.kind == path.kind)
        )
    if posterior is not None and posterior.transform != path.transform:
        raise ValueError("posterior must be in the units of the path: original_units() of both, or of neither")
    places = None if posterior is None else _posterior_places(path, posterior)
    ax = axes_or_new(ax, (7.5, 5.2))
    names = as_drawn(features, int(np.clip(_SHARE_OF_NAMES * width_of(ax) / _POINTS_A_LETTER, 8, SHORT_NAME)))
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
        draw_line(ax, axis, weights[:, j], color=color, linestyle=style, linewidth=1.8, label=features[j])
        ends.append((names[j], weights[-1, j], color))
    if posterior is not None:
        _draw_bands(ax, places, posterior, named[:num_bands])
    axis.draw(ax)
    ax.autoscale(axis="y")
    _draw_top(ax, axis, path, posterior)
    label_ends(ax, ends)
    title = f"MAP of each weight along the {path.kind} path"
    if posterior is not None:
        title += f", posterior mean (dotted) and {100 * posterior.interval:g}% equal-tailed interval (band)"
    describe(ax, title, DIRECTION, "weight" + weight_unit(path.data, path.transform))
    return ax


def _scale_constant(path: Path, posterior: PosteriorPath | None) -> tuple[float, float]:
    """Return c and p of the prior scale, c / lambda^p: t = s / sqrt(n lambda), b = s^2 / (n lambda).

    Of a posterior relative to the noise it is t / s, or b / s.

    Raises:
        ValueError: The path has no noise scale.
    """
    power = 0.5 if path.kind == "l2" else 1.0
    if posterior is not None and posterior.lambdas is not None:
        return float(posterior.prior_scales[0] * posterior.lambdas[0] ** power), power
    largest = int(path.lambdas.argmax())
    scales = path.prior_scales[:, -1] if path.kind == "elasticnet" else path.prior_scales
    constant = float(scales[largest] * path.lambdas[largest] ** power)
    return constant / path.noise_scale if _is_relative(posterior) else constant, power


def _posterior_places(path: Path, posterior: PosteriorPath) -> np.ndarray:
    """Return where the points of a posterior stand: at their lambda, or where they have none at their prior scale.

    Raises:
        ValueError: None of them is where the path is.
    """
    if posterior.lambdas is not None:
        places = posterior.lambdas.numpy()
    else:
        constant, power = _scale_constant(path, posterior)
        places = (constant / posterior.prior_scales.numpy()) ** (1.0 / power)
    low, high = float(path.lambdas[path.lambdas > 0].min()), float(path.lambdas.max())
    if not _within(places, low, high).any():
        raise ValueError(f"posterior must have a point between lambda {low:.3g} and {high:.3g}, as the path has")
    return np.where(_within(places, low, high), places, np.nan)


def _within(places: np.ndarray, low: float, high: float) -> np.ndarray:
    return (places >= low * (1 - 1e-9)) & (places <= high * (1 + 1e-9))


def _draw_bands(ax: Axes, places: np.ndarray, posterior: PosteriorPath, features: np.ndarray) -> None:
    """Draw the posterior of some features where it has a place."""
    order = np.argsort(places)[: np.isfinite(places).sum()]
    for rank, j in enumerate(features):
        lower, upper, mean = (getattr(posterior, name).numpy()[order, j] for name in ("lower", "upper", "mean"))
        color = OKABE_ITO[rank % len(OKABE_ITO)]
        ax.fill_between(places[order], lower, upper, color=color, zorder=1, alpha=0.18, linewidth=0)
        ax.plot(places[order], mean, ":", color=color, linewidth=1.2)


def _is_relative(posterior: PosteriorPath | None) -> bool:
    return posterior is not None and posterior.relative_to_noise


def _scale_label(path: Path, constant: float, relative: bool) -> str:
    """Return what the prior scale on top is, c / lambda^p, with the noise scale that c was made with."""
    if relative:
        formula = "t/s = 1/√(nλ)" if path.kind == "l2" else f"b/s = s/(nλ), s = {path.num_rows * constant:.3g}"
        return f"prior scale in noise scales, {formula}"
    squared = path.num_rows * (constant**2 if path.kind == "l2" else constant * path.l1_ratio)  # s^2
    formula = {"l2": "t = s/√(nλ)", "l1": "b = s²/(nλ)", "elasticnet": "b = s²/(nrλ) of the Laplace factor"}
    return f"prior scale {formula[path.kind]}, s = {np.sqrt(squared):.3g}"


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
        label = _scale_label(path, constant, _is_relative(posterior))
        scales = round_values(constant / high**power, constant / low**power, most_ticks(ax))
        places = (constant / scales) ** (1.0 / power)
        top_row(ax, places, [f"{scale:g}" for scale in scales], label, 0.0)
    ticks = np.array([tick for tick in ax.get_xticks() if low <= tick <= high])
    nearest = np.unique(np.abs(np.log(axis.place) - np.log(ticks)[:, None]).argmin(axis=1))
    shown = [counts[index] for index in axis.order[nearest]]
    top_row(
        ax, axis.place[nearest], [f"{count:.0f}" if count >= 10 else f"{count:.2g}" for count in shown], words, above
    )
