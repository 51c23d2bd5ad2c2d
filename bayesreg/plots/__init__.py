"""Pictures of what was computed elsewhere: Axes in, Axes out; nothing is fitted, shown or set globally.

Every function draws on the ``ax`` that it is given, or makes a figure of its own with pyplot, and returns the Axes.
"""

from bayesreg.plots.choice import plot_cross_validation, plot_evidence, plot_loss_against_lambda, plot_losses
from bayesreg.plots.diagnostics import plot_diagnostics
from bayesreg.plots.path import plot_path
from bayesreg.plots.plane import plot_weight_plane
from bayesreg.plots.posterior import plot_map_against_fit, plot_posterior_intervals
from bayesreg.plots.prior import plot_prior_and_penalty
from bayesreg.plots.training import plot_sgd_trajectories, plot_training

__all__ = [
    "plot_cross_validation",
    "plot_diagnostics",
    "plot_evidence",
    "plot_loss_against_lambda",
    "plot_losses",
    "plot_map_against_fit",
    "plot_path",
    "plot_posterior_intervals",
    "plot_prior_and_penalty",
    "plot_sgd_trajectories",
    "plot_training",
    "plot_weight_plane",
]
