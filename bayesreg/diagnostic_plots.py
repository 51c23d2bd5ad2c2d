"""What ArviZ shows of a posterior, of a readable size and in one palette."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from bayesreg.data import RegressionData
from bayesreg.plot_parts import OKABE_ITO
from bayesreg.posterior_tree import flat_name

if TYPE_CHECKING:
    from bayesreg.posterior import Posterior

MOST_PANELS = 12
MOST_FOREST_ROWS = 40
MOST_CHAINS, MOST_DRAWS = 8, 250
PREDICTIVE_DRAWS = 50
# The density of fewer rows than this says more about its smoothing than about them.
FEWEST_ROWS_FOR_A_DENSITY = 20


def plot_diagnostics(posterior: Posterior) -> dict[str, Any]:
    """Draw what ArviZ shows of a posterior: how the chains mixed, the weights, the energy, the predictive check.

    ``rank`` (several chains: where they mix, each one's fractional ranks are uniform and its line stays near 0) or
    ``trace`` (one chain), of up to 12 quantities, those of the lowest effective sample sizes. ``forest``: up to 40
    weights, those farthest from 0 in units of their own standard deviation. ``energy``, where the sampler kept it.
    ``posterior_predictive``, where the rows are at hand: densities, or cumulative distributions of less than 20 rows.

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
    from bayesreg.arviz_interface import az

    has_rows = isinstance(posterior.data, RegressionData)
    tree = posterior.to_datatree(pointwise_draws=4 * PREDICTIVE_DRAWS if has_rows else 0)
    few = _few_chains(posterior)
    names = _slowest(posterior)
    farthest = _farthest_from_zero(posterior)
    drawn = {}

    def draw(name: str, function: str, data: xr.DataTree, size: tuple[float, float], **arguments: Any) -> Any:
        figure = {"figsize": size, "layout": "constrained"}
        drawn[name] = getattr(az, function)(data, backend="matplotlib", figure_kwargs=figure, **arguments)
        return drawn[name].get_viz("figure").axes

    size = (11.0, 0.4 + 2.2 * -(-len(names) // 4))
    if few["posterior"].sizes["chain"] > 1:
        # The band that ArviZ 0.23 simulates for 2 and 3 chains is as wide as the axis; that of one chain on its own is
        # a little wide for several, and right on the safe side. ArviZ 1.x draws none.
        draw("rank", "plot_rank", few, size, var_names=names, color=OKABE_ITO, stats={"ecdf_pit": {"n_chains": 1}})
    else:
        draw("trace", "plot_trace", few, size, var_names=names, color=OKABE_ITO)

    forest = {"var_names": ["weights"], "coords": {"feature": farthest}, "combined": True}
    forest |= {"point_estimate": "mean", "ci_kind": "eti", "ci_probs": (0.5, 0.9)}
    axes = draw("forest", "plot_forest", tree, (8.0, 1.2 + 0.25 * len(farthest)), **forest)
    which = "" if len(farthest) == posterior.data.num_features else f"the {len(farthest)} weights farthest from 0: "
    axes[-1].set_xlabel(f"{which}mean, 50% and 90% equal-tailed interval")

    if "energy" in posterior.sample_stats:
        axes = draw("energy", "plot_energy", tree, (7.0, 3.5), color=OKABE_ITO)
        axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))  # chains are whole
    if has_rows:
        kind = "kde" if posterior.data.num_rows >= FEWEST_ROWS_FOR_A_DENSITY else "ecdf"
        predictive = tree["posterior_predictive"].sizes
        shown = min(PREDICTIVE_DRAWS, predictive["chain"] * predictive["draw"])
        with warnings.catch_warnings():
            # ArviZ's advice to the author of a plot about another one, such as for a target of two values.
            warnings.filterwarnings("ignore", "The observed data", UserWarning)
            axes = draw("posterior_predictive", "plot_ppc_dist", tree, (7.0, 3.5), kind=kind, num_samples=shown)
        axes[0].set_title(f"observed (black) and predicted by {shown} draws", fontsize=10)
        units = "" if posterior.transform is None else " (standard units)"
        axes[0].set_xlabel(f"{posterior.data.target_name}{units}")
    return drawn


def _few_chains(posterior: Posterior) -> xr.DataTree:
    """Return some chains and draws, evenly spaced, each quantity a scalar: enough to see whether the chains mix."""
    tree = posterior.to_datatree(pointwise_draws=0, flat=True)
    kept = {
        "chain": slice(None, None, -(-posterior.num_chains // MOST_CHAINS)),
        "draw": slice(None, None, -(-posterior.num_draws // MOST_DRAWS)),
    }
    return xr.DataTree.from_dict({name: tree[name].to_dataset().isel(kept) for name in ("posterior", "sample_stats")})


def _slowest(posterior: Posterior) -> list[str]:
    """Return the names of the quantities with the lowest effective sample sizes, in the order of the draws."""
    ess = posterior.summary()[["ess_bulk", "ess_tail"]].min(axis=1)
    slowest = set(ess.sort_values(na_position="last", kind="stable").index[:MOST_PANELS])
    return [flat_name(name) for name in ess.index if name in slowest]


def _farthest_from_zero(posterior: Posterior) -> list[str]:
    """Return the names of the features whose weights are farthest from 0 in their own sd, in the order of the data."""
    weights = posterior.draws["weights"].numpy().reshape(-1, posterior.data.num_features)
    distance = np.abs(weights.mean(axis=0)) / np.maximum(weights.std(axis=0), np.finfo(float).tiny)
    kept = np.sort(np.argsort(-distance, kind="stable")[:MOST_FOREST_ROWS])
    return [posterior.data.feature_names[index] for index in kept]
