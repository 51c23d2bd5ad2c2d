"""Make the pictures of the README anew, beside this file or in the folder named.

python notebooks/figures/make.py
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import bayesreg as br

NOISE_SCALE = 0.7  # of the diabetes data in standard units, by their residuals
DPI = 200  # 1,800 pixels across, shown at 900: sharp on dense screens too


def path_with_posterior():
    """The lasso path of the diabetes data, with the posterior under each of its priors."""
    data = br.load_diabetes().standardized()
    lasso = br.path(data, "l1", noise_scale=NOISE_SCALE)
    ends = lasso.lambdas.max(), lasso.lambdas.min()
    posterior = br.posterior_path(data, "l1", np.geomspace(*ends, 40), noise_scale=NOISE_SCALE, draws=4000)
    figure, ax = plt.subplots(figsize=(9.0, 5.8), layout="constrained")
    br.plots.plot_path(lasso, posterior, ax, num_bands=3)
    return figure


def prior_and_penalty():
    """Ridge and lasso: the density of each prior, and the penalty that it is."""
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 6.2), layout="constrained")
    for prior, row in zip((br.GaussianPrior(0.5), br.LaplacePrior(0.25)), axes, strict=True):
        br.plots.plot_prior_and_penalty(prior, row, noise_scale=NOISE_SCALE, num_rows=442)
    return figure


def epochs(data, penalty, start, number=30):
    """The weights from a start on, after each of a number of epochs."""
    ways = [br.train(data, penalty, epochs=0, start=(start, 0.0))]
    for epoch in range(number):
        last = (ways[-1].weights, ways[-1].intercept)
        ways.append(br.train(data, penalty, 1, batch_size=50, learning_rate=0.02, seed=epoch, start=last))
    return ways


def training_to_the_map():
    """Gradient descent on two columns of the diabetes data, under an L2 and an L1 penalty, to the MAP."""
    whole = br.load_diabetes()
    columns = [whole.feature_names.index(name) for name in ("bmi", "s5")]
    data = br.RegressionData(whole.features[:, columns], whole.target, ["bmi", "s5"], "progression").standardized()
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 5.4), layout="constrained")
    for ax, kind, penalty in zip(axes, ("l2", "l1"), (br.L2(0.5), br.L1(0.3)), strict=True):
        fit = br.path(data, kind, [float(penalty.strength)])
        ways = [epochs(data, penalty, start) for start in ([-0.4, 0.5], [0.9, 0.8], [0.6, -0.4])]
        br.plots.plot_weight_plane(data, penalty, fit.weights[0], ways, ax)
    return figure


FIGURES = (path_with_posterior, prior_and_penalty, training_to_the_map)


def main(folder):
    """Write every picture into a folder."""
    for draw in FIGURES:
        with plt.style.context("default", after_reset=True):
            figure = draw()
            figure.savefig(folder / f"{draw.__name__}.png", dpi=DPI, metadata={"Software": None})
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
