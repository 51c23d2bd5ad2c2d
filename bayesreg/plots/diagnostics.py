"""What ArviZ shows of a posterior, of a readable size and in one palette."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bayesreg.data import RegressionData
from bayesreg.plots.parts import (
    FIT,
    GREY,
    INCHES_PER_CHARACTER,
    OKABE_ITO,
    SHORT_NAME,
    as_drawn,
    check_result,
    weight_unit,
)
from bayesreg.posteriors.tree import flat_name

if TYPE_CHECKING:
    from bayesreg.posteriors.posterior import Posterior

MOST_PANELS = 12
MOST_FOREST_ROWS = 40
MOST_CHAINS, MOST_DRAWS = len(OKABE_ITO), 250
PREDICTIVE_DRAWS = 50
# The density of fewer rows than this says more about its smoothing than about them.
FEWEST_ROWS_FOR_A_DENSITY = 20
# Of fewer draws a chain no effective sample size is defined, and neither ranks nor energies say anything of mixing.
FEWEST_DRAWS = 4


def plot_diagnostics(posterior: Posterior) -> dict[str, Any]:
    """Draw what ArviZ shows of a posterior: how the chains mixed, the weights, the energy, the predictive check.

    ``rank`` (several chains: where they mix, each one's fractional ranks are uniform and its line stays near 0) or
    ``trace`` (one chain), of up to 12 quantities, those of the lowest effective sample sizes, by up to 7 chains and 250
    draws of each. ``forest``: up to 40 weights, those farthest from 0 in units of their own standard deviation, in the
    units of the draws: mean, 50% and 90% equal-tailed interval. ``energy``, where the sampler kept it.
    ``posterior_predictive``, where the rows are at hand: densities, or cumulative distributions of less than 20 rows or
    of a constant target. Of fewer than 4 draws a chain there is no ``rank``, ``trace`` or ``energy``.

    Args:
        posterior: The draws.

    Returns:
        ArviZ's `PlotCollection` of each, by these names; ``.savefig(path)`` writes one.

    Example:
        >>> import bayesreg as br, matplotlib.pyplot as plt
        >>> data = br.load_diabetes().standardized()
        >>> drawn = plot_diagnostics(br.sample(br.LinearRegression(br.GaussianPrior(0.1), 0.7), data, draws=100))
        >>> list(drawn)
        ['rank', 'forest', 'posterior_predictive']
        >>> plt.close("all")
    """
    import arviz_plots  # takes a second

    check_result(posterior, "posterior", "a Posterior, which br.sample returns", "draws", "data", "to_datatree")
    has_rows = isinstance(posterior.data, RegressionData)
    tree = posterior.to_datatree(pointwise_draws=4 * PREDICTIVE_DRAWS if has_rows else 0)
    enough_draws = posterior.num_draws >= FEWEST_DRAWS
    drawn: dict[str, Any] = {}

    def draw(name: str, function: str, data: xr.DataTree, figure: dict[str, Any], **arguments: Any) -> Any:
        figure["layout"] = "constrained"
        drawn[name] = getattr(arviz_plots, function)(data, backend="matplotlib", figure_kwargs=figure, **arguments)
        return drawn[name].get_viz("figure")

    if enough_draws:
        few, names = _few_chains(posterior), _slowest(posterior)
        chains = few["posterior"]["chain"].values
        kind = "rank" if len(chains) > 1 else "trace"
        # The band that ArviZ 0.23 simulates for 2 and 3 chains is as wide as the axis; that of one chain on its own is
        # a little wide for several, and right on the safe side. ArviZ 1.x draws none.
        band = {"stats": {"ecdf_pit": {"n_chains": 1}}} if kind == "rank" else {}
        size = {"figsize": (11.0, 0.9 + 2.2 * -(-len(names) // 4))}
        figure = draw(kind, f"plot_{kind}", few, size, var_names=names, color=OKABE_ITO, **band)
        _write_titles(figure, posterior)
        if kind == "rank":
            _explain_ranks(figure, chains)
        else:
            words = "The draws of the chain in their order: one that mixes stays at no level for long"
            figure.suptitle(words, fontsize=10)

    farthest, d = _farthest_from_zero(posterior), posterior.data.num_features
    weights = tree["posterior"].to_dataset()[["weights"]].isel(feature=farthest)
    features = as_drawn([posterior.data.feature_names[index] for index in farthest])
    weights = xr.DataTree.from_dict({"posterior": weights.assign_coords(feature=features)})
    size = (6.2 + INCHES_PER_CHARACTER * max(map(len, features)), 1.2 + 0.25 * len(features))
    forest = {"combined": True, "labels": ["feature"], "visuals": {"labels": {"horizontal_align": "right"}}}
    forest |= {"point_estimate": "mean", "ci_kind": "eti", "ci_probs": (0.5, 0.9)}
    figure = draw("forest", "plot_forest", weights, {"figsize": size, "width_ratios": (1, 30)}, **forest)
    beside, intervals = figure.axes
    beside.set_axis_off()  # names, which need no axis
    intervals.margins(y=0.6 / max(len(features) - 1, 1))
    low, high = intervals.get_xlim()
    if low < 0.0 < high:
        intervals.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
    which = "each weight" if len(farthest) == d else f"the {len(farthest)} weights farthest from 0"
    figure.suptitle(f"Posterior of {which}: mean, 50% and 90% equal-tailed interval", fontsize=10)
    intervals.set_xlabel("weight" + weight_unit(posterior.data, posterior.transform))

    if enough_draws and "energy" in posterior.sample_stats:
        with warnings.catch_warnings():
            # ArviZ's guess that dimensions are confused, where there are just many chains.
            warnings.filterwarnings("ignore", "Found chain dimension to be longer than draw dimension", UserWarning)
            figure = draw("energy", "plot_energy", tree, {"figsize": (8.0, 3.5)}, color=OKABE_ITO)
        left, right = figure.axes
        left.yaxis.set_major_locator(MaxNLocator(integer=True))  # chains are whole
        left.spines[["top", "right"]].set_visible(False)
        left.set_title("BFMI of each chain: low below 0.3", fontsize=10)
        right.set_title("Energy, and its change from draw to draw", fontsize=10)
        left.set_xlabel("BFMI")
        right.set_xlabel("energy less its mean, or its change (nats)")
    if has_rows:
        observed = tree["observed_data"]["target"].values
        constant = np.ptp(observed) <= 1e-12 * np.abs(observed).max()
        density = len(observed) >= FEWEST_ROWS_FOR_A_DENSITY and not constant
        predictive = tree["posterior_predictive"].sizes
        shown = min(PREDICTIVE_DRAWS, predictive["chain"] * predictive["draw"])
        check = {"kind": "kde" if density else "ecdf", "num_samples": shown}
        with warnings.catch_warnings():
            # ArviZ's advice to the author of a plot about another one, such as for a target of two values.
            warnings.filterwarnings("ignore", r"(?s).*\bplot_ppc_", UserWarning)
            figure = draw("posterior_predictive", "plot_ppc_dist", tree, {"figsize": (7.0, 3.5)}, **check)
        (axes,) = figure.axes
        if constant:  # of which ArviZ can draw no line
            axes.axvline(observed[0], color=FIT)
        curves = "Densities" if density else "Cumulative distributions"
        axes.set_title(f"{curves} of the target: observed (black) and predicted by {shown} draws", fontsize=10)
        units = "" if posterior.transform is None else " (standard units)"
        axes.set_xlabel(f"{as_drawn([posterior.data.target_name])[0]}{units}")
    return drawn


def _write_titles(figure: Any, posterior: Posterior) -> None:
    """Write each weight's name over its panel as it is, and short enough for it."""
    features = posterior.data.feature_names
    drawn = zip(features, as_drawn(features, SHORT_NAME), strict=True)
    titles = {flat_name(f"weights[{name}]"): f"weights[{short}]" for name, short in drawn}
    for axes in figure.axes:
        axes.set_title(titles.get(axes.get_title(), axes.get_title()), fontsize=10)
        axes.tick_params(axis="x", labelbottom=True)  # ArviZ keeps them to the last row, which can be a short one


def _explain_ranks(figure: Any, chains: np.ndarray) -> None:
    """Write over the rank plot what its lines, its band or its p-values are."""
    banded = any(isinstance(artist, PolyCollection) for artist in figure.axes[0].collections)
    good = "one that mixes stays in the grey band, 99 times in 100" if banded else "a small p: they do not mix"
    figure.suptitle(f"How far the ranks of each chain's draws are from uniform; {good}", fontsize=10)
    lines = [Line2D([], [], color=color) for color in OKABE_ITO[: len(chains)]]
    place = {"loc": "outside lower center", "ncols": len(chains), "frameon": False, "fontsize": 9}
    figure.legend(lines, [f"chain {chain}" for chain in chains], **place)


def _few_chains(posterior: Posterior) -> xr.DataTree:
    """Return some chains and draws, evenly spaced, each quantity a scalar: enough to see whether the chains mix."""
    tree = posterior.to_datatree(pointwise_draws=0, flat=True)
    kept = {
        "chain": slice(None, None, -(-posterior.num_chains // MOST_CHAINS)),
        "draw": slice(None, None, -(-posterior.num_draws // MOST_DRAWS)),
    }
    groups = {name: tree[name].to_dataset() for name in ("posterior", "sample_stats")}
    return xr.DataTree.from_dict({name: group.isel(kept, missing_dims="ignore") for name, group in groups.items()})


def _slowest(posterior: Posterior) -> list[str]:
    """Return the names of the quantities with the lowest effective sample sizes, in the order of the draws."""
    ess = posterior.summary()[["ess_bulk", "ess_tail"]].min(axis=1)
    slowest = set(ess.sort_values(na_position="last", kind="stable").index[:MOST_PANELS])
    return [flat_name(name) for name in ess.index if name in slowest]


def _farthest_from_zero(posterior: Posterior) -> np.ndarray:
    """Return the positions of the weights that are farthest from 0 in their own sd, in the order of the data."""
    weights = posterior.draws["weights"].numpy().reshape(-1, posterior.data.num_features)
    with np.errstate(over="ignore"):  # where all draws are one: as far as can be
        distance = np.abs(weights.mean(axis=0)) / np.maximum(weights.std(axis=0), np.finfo(float).tiny)
    return np.sort(np.argsort(-distance, kind="stable")[:MOST_FOREST_ROWS])
