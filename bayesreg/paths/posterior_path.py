"""The posterior along the lambda axis: what is known of each weight at each of a grid of prior scales.

    Gaussian prior of scale t:  lambda = s^2 / (n t^2)          Laplace prior of scale b:  lambda = s^2 / (n b)

in the convention ``mean-half-squared``, with known noise of scale s. With the noise learned such a scale stands for no
single lambda, and the axis is the prior scale. Relative to the noise, t = tau s, it does under a Gaussian prior: lambda
= 1 / (n tau^2) whatever s is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.devices import resolve_device
from bayesreg.computing.threads import one_thread
from bayesreg.inference.active_set import minimise_absolute_penalty
from bayesreg.inference.map import NoJointMode, joint_mode
from bayesreg.moments import as_moments
from bayesreg.paths.gaussian_path import gaussian_path
from bayesreg.paths.laplace_path import laplace_path
from bayesreg.paths.prior_axis import check_axis
from bayesreg.paths.prior_grid import PRIORS, PriorGrid
from bayesreg.posteriors.summary import check_interval
from bayesreg.sampling import check_seed
from bayesreg.scales import as_numbers, check_relative_to_noise

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.data import RegressionData
    from bayesreg.moments import Moments
    from bayesreg.scales import Scale
    from bayesreg.standardization import Standardization

_DRAWS = 1000
# Fewer say nothing of a quantile in a tail.
_FEWEST_DRAWS = 100
# What is in the units of the weights.
_ERRORS = ("mcse_mean", "mcse_lower", "mcse_upper")
_OF_WEIGHTS = ("mean", "median", "sd", "lower", "upper", "mode", "within", *_ERRORS)


@dataclass(frozen=True, eq=False, repr=False)
class PosteriorPath:
    """The posterior at each of k prior scales, feature by feature: float64 tensors on the CPU, in the data's units.

    Attributes:
        kind: ``"l2"``, a Gaussian prior, or ``"l1"``, a Laplace prior.
        prior_scales: Their scales ``(k,)``, in the order given; in noise scales where they are relative.
        relative_to_noise: Whether they are: the weights' prior scale is then a prior scale times the noise scale.
        lambdas: The same axis as penalties, ``(k,)``; None where the noise is learned, unless the prior is Gaussian and
            relative to it.
        mean: Posterior means of the weights ``(k, d)``.
        median: Their posterior medians ``(k, d)``.
        sd: Their posterior standard deviations ``(k, d)``.
        lower: The lower ends of the bands ``(k, d)``: equal-tailed intervals.
        upper: The upper ends ``(k, d)``.
        mode: The weights of the joint mode ``(k, d)``, with exact zeros under a Laplace prior; None where the noise is
            learned and there is no joint mode.
        probability_near_zero: P(|w_j| <= within_j) ``(k, d)``; None where ``within`` was not given.
        noise_scale: The noise scale, known or its posterior mean, ``(k,)``.
        log_evidence: log p(y) in nats ``(k,)``, the intercept integrated against the density 1; NaN where the engine
            does not know it.
        engines: How each point was had: ``"exact"``, or the name of an engine of `bayesreg.sample`.
        ess: The smallest effective sample size, of bulk and tails, at each point ``(k,)``, chains that differ counted
            against it; None where no draws were made.
        mcse_mean: The Monte Carlo standard errors of the means ``(k, d)``; None likewise.
        mcse_lower: Those of the lower ends of the bands ``(k, d)``; None likewise.
        mcse_upper: Those of the upper ends ``(k, d)``; None likewise.
        l1_norm: The posterior mean of |w|_1 ``(k,)``; None under a Gaussian prior.
        mcse_l1_norm: Its Monte Carlo standard error ``(k,)``; None likewise.
        density_at: Points of each weight, evenly from 4 standard deviations below its mean to 4 above, ``(k, d, m)``;
            None where ``num_density_points`` was not given.
        density: The marginal posterior densities there ``(k, d, m)``; None likewise.
        interval: The bands' probability.
        within: The distances from zero ``(d,)``, or None.
        feature_names: The names of the features.
        transform: The standardisation that the weights are in the units of, if any.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> br.posterior_path(data, "l2", [0.01, 0.1], noise_scale=0.7)
        PosteriorPath(l2: 2 prior scales x 10 weights; 2 by exact)
    """

    kind: str
    prior_scales: torch.Tensor
    relative_to_noise: bool
    lambdas: torch.Tensor | None
    mean: torch.Tensor
    median: torch.Tensor
    sd: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor
    mode: torch.Tensor | None
    probability_near_zero: torch.Tensor | None
    noise_scale: torch.Tensor
    log_evidence: torch.Tensor
    engines: tuple[str, ...]
    ess: torch.Tensor | None
    mcse_mean: torch.Tensor | None
    mcse_lower: torch.Tensor | None
    mcse_upper: torch.Tensor | None
    l1_norm: torch.Tensor | None
    mcse_l1_norm: torch.Tensor | None
    density_at: torch.Tensor | None
    density: torch.Tensor | None
    interval: float
    within: torch.Tensor | None
    feature_names: tuple[str, ...]
    transform: Standardization | None = None

    def __repr__(self) -> str:
        counts = {name: self.engines.count(name) for name in dict.fromkeys(self.engines)}
        by = ", ".join(f"{count} by {name}" for name, count in counts.items())
        num_points, num_features = self.mean.shape
        scales = "prior scales, in noise scales," if self.relative_to_noise else "prior scales"
        return f"PosteriorPath({self.kind}: {num_points} {scales} x {num_features} weights; {by})"

    def to_frame(self) -> pd.DataFrame:
        """Return a long table: a row for each prior scale and feature.

        Returns:
            Columns ``prior_scale`` (in noise scales where `relative_to_noise`), ``lambda`` (where there are
            `lambdas`), ``feature``, ``mean``, ``median``, ``sd``, the bands as ``eti_90%_lower`` and ``eti_90%_upper``
            (by their probability), ``mode`` and ``probability_near_zero`` where there are any, ``noise_scale``,
            ``log_evidence``, ``engine``, and of draws ``mcse_mean``, ``mcse_lower``, ``mcse_upper`` and ``ess``. What
            is of weights is in the units of the path; ``prior_scale``, ``lambda`` and ``noise_scale`` stay, after
            `original_units` too, in those that it was made in.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> path = br.posterior_path(data, "l2", [0.01, 0.1], noise_scale=0.7)
            >>> path.to_frame()[["prior_scale", "feature", "mean", "eti_90%_lower", "eti_90%_upper"]].head(3).round(2)
               prior_scale feature  mean  eti_90%_lower  eti_90%_upper
            0         0.33     age -0.00          -0.06           0.06
            1         0.33     sex -0.14          -0.21          -0.08
            2         0.33     bmi  0.32           0.25           0.39
        """
        import pandas as pd

        num_points, num_features = self.mean.shape
        share = f"{100.0 * self.interval:g}%"
        columns: dict[str, Any] = {
            "prior_scale": self.prior_scales,
            "lambda": self.lambdas,
            "feature": list(self.feature_names) * num_points,
            "mean": self.mean,
            "median": self.median,
            "sd": self.sd,
            f"eti_{share}_lower": self.lower,
            f"eti_{share}_upper": self.upper,
            "mode": self.mode,
            "probability_near_zero": self.probability_near_zero,
            "noise_scale": self.noise_scale,
            "log_evidence": self.log_evidence,
            "engine": np.repeat(self.engines, num_features),
            **{name: getattr(self, name) for name in _ERRORS},
            "ess": self.ess,
        }
        for name, values in columns.items():
            if isinstance(values, torch.Tensor):
                long = values if values.ndim == 2 else values.unsqueeze(-1).expand(-1, num_features)
                columns[name] = long.reshape(-1).numpy()
        return pd.DataFrame({name: values for name, values in columns.items() if values is not None})

    def original_units(self) -> PosteriorPath:
        """Return what is known of the weights in the units of the data before ``standardized()``.

        Prior scales, strengths, noise scales, |w|_1 and the evidence stay those of the problem that was solved.

        Returns:
            The same posteriors, in other units.

        Raises:
            ValueError: If the data were not standardised, or the path is in original units already.

        Example:
            >>> import bayesreg as br
            >>> path = br.posterior_path(br.load_diabetes().standardized(), "l2", [0.1], noise_scale=0.7)
            >>> (path.original_units().mean / path.mean)[0, :2].round()  # sd of the target over that of the feature
            tensor([1619., 1619.], dtype=torch.float64)
        """
        if self.transform is None:
            raise ValueError(
                "original_units() needs a path on data.standardized(); this one is in the units of the original rows"
            )
        factors = self.transform.to_original_weights(torch.ones_like(self.mean[0]))
        found = {name: values * factors for name in _OF_WEIGHTS if (values := getattr(self, name)) is not None}
        if self.density is not None:
            found["density_at"] = self.density_at * factors[:, None]
            found["density"] = self.density / factors[:, None]
        return replace(self, **found, transform=None)


def posterior_path(
    data: RegressionData | Moments,
    kind: str = "l2",
    lambdas: Any = None,
    *,
    prior_scales: Any = None,
    noise_scale: Scale,
    relative_to_noise: bool = False,
    draws: int | None = None,
    interval: float = 0.9,
    within: Any = None,
    num_density_points: int | None = None,
    intercept: bool = True,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> PosteriorPath:
    """Return the posterior of the weights at each of a grid of prior scales, or of the lambdas that they stand for.

    With n rows and noise of scale s, lambda = s^2 / (n t^2) for a Gaussian prior of scale t, s^2 / (n b) for a Laplace
    prior of scale b, in |y - Xw - b_0|^2 / (2 n) + lambda R(w). Everything is in the units of the data.

    Relative to the noise (Park and Casella, JASA 103, 2008) the scales are t = tau s and b = tau s, and lambda =
    1 / (n tau^2) for a Gaussian prior, s / (n tau) for a Laplace prior. Under the Gaussian one the noise scale cancels:
    lambdas are penalties with the noise learned too, the mean of the weights is the ridge fit at lambda, known or
    learned, and the noise scale tells how wide the bands are.

    Under a Gaussian prior no draws are made: with the noise known a weight is Normal, with the noise learned a mixture
    of Normals over the noise scale, whose quantiles are solved for. Under a Laplace prior the posterior is drawn from,
    by rejection where ``sample(method="auto")`` takes it, else by Gibbs sampling with a prior scale a chain, and by HMC
    above 100 features that the rows determine.

    Args:
        data: Rows or `Moments`.
        kind: ``"l2"``: weights ~ Normal(0, t^2). ``"l1"``: weights ~ Laplace(0, b).
        lambdas: Penalties in the convention ``mean-half-squared``, ``(k,)``, positive, in any order; where the noise is
            known, or the prior Gaussian and relative to it. Either these or the prior scales.
        prior_scales: The scales t or b, or tau, ``(k,)``, positive, in any order.
        noise_scale: The noise's standard deviation s: a number (known) or a Pyro distribution (learned), as for
            `LinearRegression`.
        relative_to_noise: Whether the prior scales are multiples tau of the noise scale, as in `GaussianPrior`.
        draws: Effective draws aimed at, for each scale of a Laplace prior, at least 100; None: 1,000. Independent draws
            are as many. Chains of twice as many draws in all are run anew with 4 and then 16 times the scans, unless
            their effective sample size is at least half of ``draws``, and 400.
        interval: The bands' probability: equal-tailed.
        within: A distance from zero, or one a feature ``(d,)``, in the units of the weights: the probability to be at
            most that far away is computed.
        num_density_points: The number m, at least 2, of points at which the density of each weight is given; None: no
            densities. Under a Laplace prior it is a mean over draws of the other weights (Gelfand and Smith, JASA 85,
            1990).
        intercept: Whether there is an intercept, with a flat prior.
        seed: Seeds the draws, 0 to 2^63 - 1; the global random state is left alone.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"`` (the CPU), for the draws under a Laplace prior.
        progress: Whether to show progress, on stderr where that is a terminal, or in a notebook.

    Returns:
        The `PosteriorPath`. A `ConvergenceWarning` names the prior scales at which the effective sample size is below
        400, a transition is divergent, or the evidence not converged.

    Raises:
        TypeError: An argument of the wrong type; data that are neither rows nor `Moments`.
        ValueError: Both or neither of ``lambdas`` and ``prior_scales``, lambdas with learned noise (but for a Gaussian
            prior relative to it), a number out of range, an improper posterior, or no such device.

    Example:
        >>> import bayesreg as br
        >>> data = br.load_diabetes().standardized()
        >>> path = br.posterior_path(data, "l2", [0.01, 0.1, 1.0], noise_scale=0.7, within=0.05)
        >>> path.prior_scales
        tensor([0.3330, 0.1053, 0.0333], dtype=torch.float64)
        >>> path.to_frame().query("feature == 'bmi'")[["lambda", "mean", "sd"]].round(2)
            lambda  mean    sd
        2     0.01  0.32  0.04
        12    0.10  0.30  0.04
        22    1.00  0.19  0.03

        The same lambdas, the noise learned:

        >>> import pyro.distributions as dist
        >>> noise = dist.HalfNormal(1.0)
        >>> learned = br.posterior_path(data, "l2", [0.01, 0.1, 1.0], noise_scale=noise, relative_to_noise=True)
        >>> learned.prior_scales, learned.noise_scale
        (tensor([0.4757, 0.1504, 0.0476], dtype=torch.float64), tensor([0.7003, 0.7178, 0.8080], dtype=torch.float64))
    """
    if kind not in PRIORS:
        raise ValueError(f"kind must be one of {', '.join(PRIORS)}, got {kind!r}")
    draws = _DRAWS if draws is None else check_whole_number(draws, "draws", _FEWEST_DRAWS)
    if num_density_points is not None:
        num_density_points = check_whole_number(num_density_points, "num_density_points", 2)
    seed, device = check_seed(seed), resolve_device(device)
    check_interval(interval, "eti")
    check_relative_to_noise(relative_to_noise, "relative_to_noise")
    moments = as_moments(data)
    distances = _check_distances(within, moments.num_features)
    # On one thread, for what must round alike wherever it runs.
    with one_thread():
        axis = check_axis(kind, lambdas, prior_scales, noise_scale, moments.num_rows, bool(relative_to_noise))
        scales, strengths = axis
        on = (device or "cpu") if kind == "l1" else "cpu"
        grid = PriorGrid(kind, scales, noise_scale, intercept, moments, on, bool(relative_to_noise))
        if kind == "l2":
            found = gaussian_path(grid, interval, distances, progress, num_density_points)
            found |= {"engines": ("exact",) * len(scales)}
        else:
            found = laplace_path(grid, draws, interval, distances, seed, progress, num_density_points)
        found["mode"] = found["mean"].clone() if kind == "l2" and not grid.noise_is_learned else _modes(kind, grid)
    optional = ("probability_near_zero", "ess", *_ERRORS, "l1_norm", "mcse_l1_norm", "density_at", "density")
    nothing = dict.fromkeys(optional)
    return PosteriorPath(
        kind=kind,
        prior_scales=torch.from_numpy(scales.copy()),
        relative_to_noise=bool(relative_to_noise),
        lambdas=None if strengths is None else torch.from_numpy(strengths.copy()),
        interval=float(interval),
        within=distances,
        feature_names=moments.feature_names,
        transform=moments.transform,
        **(nothing | found),
    )


def _check_distances(within: Any, num_features: int) -> torch.Tensor | None:
    """Return distances from zero, one a feature.

    Args:
        within: What was given.
        num_features: The number d of features.

    Returns:
        A tensor ``(d,)``, or None where none was given.

    Raises:
        ValueError: They are not positive and finite, or too many or too few.
    """
    if within is None:
        return None
    wanted = "a positive finite number or a vector of them (one a feature)"
    values = as_numbers(within, "within", wanted)
    if values.shape not in ((), (num_features,)):
        raise ValueError(f"within must be {wanted}, got an array of shape {values.shape} for {num_features} features")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if bad.size:
        raise ValueError(f"within must be positive and finite, got {bad.flat[0]:g}")
    return torch.from_numpy(np.broadcast_to(values, num_features).copy())


def _modes(kind: str, grid: PriorGrid) -> torch.Tensor | None:
    """Return the joint mode's weights ``(k, d)``, or None where there is no joint mode."""
    if kind == "l1" and not grid.noise_is_learned:
        return _lasso_modes(grid)
    try:  # whether there is one does not depend on the prior's scale
        return torch.stack(
            [joint_mode(grid.model(t), grid.moments, grid.spectrum.at_scale(t)) for t in grid.prior_scales.tolist()]
        )
    except NoJointMode:
        return None


def _lasso_modes(grid: PriorGrid) -> torch.Tensor:
    """Return the modes under Laplace priors with the noise known, each solution the start of the next one."""
    root, noise = grid.moments.square_root(), float(grid.model(1.0).noise_scale)
    design, target = root[:, :-1], root[:, -1]
    modes, last = np.empty((len(grid), design.shape[1])), np.zeros(design.shape[1])
    for index in np.argsort(grid.prior_scales):  # from the largest strength, with few weights to let in
        strengths = np.full(design.shape[1], noise * noise / grid.prior_scales[index])
        modes[index] = last = minimise_absolute_penalty(design, target, strengths, last)
    return torch.from_numpy(modes)
