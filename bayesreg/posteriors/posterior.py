"""Draws from a posterior, with the sampler's statistics, what was sampled and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.posteriors import pointwise
from bayesreg.posteriors.units import log_evidence_shift, to_original_units

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesreg.model import LinearRegression
    from bayesreg.standardization import Standardization


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws from the posterior of a `LinearRegression`, as `bayesreg.sample` returns them.

    Args:
        draws: ``weights (chain, draw, d)``, and ``intercept``, ``noise_scale``, ``prior_scale`` ``(chain, draw)`` where
            the model has and learns them: float64 tensors on the CPU, in the units of the data.
        sample_stats: Statistics of the sampler ``(chain, draw)`` under ArviZ's names; ``lp`` at least.
        model: The model that was sampled.
        data: The rows or moments that it was sampled on. Model and data stay in the units of the sampling where the
            draws are taken to the original ones.
        method: The name of the engine.
        reason: Why this engine, in a sentence.
        seed: The seed of the run.
        log_evidence: log p(y) in nats, what is flat integrated against the density 1; None where it is not known.
        details: Settings and measurements of the run: plain Python values.
        created_at: When, in ISO 8601; now where not given.
        standardized: The same draws in standard units, where these are in original ones; set by `original_units`.

    Raises:
        TypeError: Draws or statistics that are not tensors, or data that are neither rows nor moments.
        ValueError: Shapes do not fit one another or the data, or a learned noise scale has no draws.

    Example:
        >>> import bayesreg as br, torch
        >>> data = br.RegressionData([[0.0], [1.0], [2.0]], [0.1, 0.9, 2.1], feature_names=["dose"])
        >>> model = br.LinearRegression(br.GaussianPrior(1.0), noise_scale=0.1)
        >>> posterior = br.sample(model, data, draws=500, chains=2)
        >>> posterior
        Posterior(weights (1), intercept: 2 chains x 500 draws by exact; in the units of the data given)
        >>> posterior.summary(interval=0.9).loc["weights[dose]"].round(1)
        mean                1.0
        sd                  0.1
        eti_90%_lower       0.9
        eti_90%_upper       1.1
        ...
        >>> posterior.predict([[3.0], [4.0]]).shape
        torch.Size([2, 500, 2])
    """

    draws: Mapping[str, torch.Tensor]
    sample_stats: Mapping[str, torch.Tensor]
    model: LinearRegression = field(kw_only=True)
    data: RegressionData | Moments = field(kw_only=True)
    method: str = field(kw_only=True)
    reason: str = field(default="", kw_only=True)
    seed: int = field(default=0, kw_only=True)
    log_evidence: float | None = field(default=None, kw_only=True)
    details: Mapping[str, Any] | None = field(default=None, kw_only=True)
    created_at: str | None = field(default=None, kw_only=True)
    standardized: Posterior | None = field(default=None, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.data, RegressionData | Moments):
            raise TypeError(f"Posterior(data=...) must be a RegressionData or Moments, got {type(self.data).__name__}")
        draws = {name: _on_cpu(values, f"draws[{name!r}]").double() for name, values in self.draws.items()}
        stats = {name: _on_cpu(values, f"sample_stats[{name!r}]") for name, values in self.sample_stats.items()}
        weights = draws.get("weights")
        if weights is None or weights.ndim != 3 or weights.shape[-1] != self.data.num_features or 0 in weights.shape:
            found = "nothing" if weights is None else f"shape {tuple(weights.shape)}"
            raise ValueError(f"draws['weights'] must have shape (chain, draw, {self.data.num_features}), got {found}")
        scalars = weights.shape[:2]
        for name, values in (draws | stats).items():
            if values.shape != scalars and not (name in draws and values.shape == weights.shape):
                raise ValueError(
                    f"draws and sample_stats must have the shape {tuple(scalars)} of chains and draws, "
                    f"got {tuple(values.shape)} for {name!r}"
                )
        if self.model.noise_is_learned and "noise_scale" not in draws:
            raise ValueError(f"draws must hold the learned noise_scale, got {', '.join(draws)}")
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "sample_stats", stats)
        object.__setattr__(self, "details", dict(self.details or {}))
        object.__setattr__(self, "created_at", self.created_at or datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def num_chains(self) -> int:
        """Number of chains."""
        return self.draws["weights"].shape[0]

    @property
    def num_draws(self) -> int:
        """Number of draws of one chain."""
        return self.draws["weights"].shape[1]

    @property
    def interrupted(self) -> bool:
        """Whether an interrupt ended the sampling early; ``details`` then has ``draws_asked`` and ``chains_asked``."""
        return bool(self.details.get("interrupted", False))

    @property
    def transform(self) -> Standardization | None:
        """The standardisation that the draws are in the units of, if any."""
        return self.data.transform if self.standardized is None else None

    @property
    def noise_scales(self) -> torch.Tensor:
        """The noise scale at each draw, known or learned, in the units of the draws: ``(chain, draw)``."""
        if "noise_scale" in self.draws:
            return self.draws["noise_scale"]
        known = float(self.model.noise_scale)
        if self.standardized is not None:
            known = self.data.transform.to_original_noise_scale(known)
        return torch.full_like(self.draws["weights"][..., 0], known)

    def __repr__(self) -> str:
        widths = {name: f" ({values.shape[-1]})" if values.ndim == 3 else "" for name, values in self.draws.items()}
        chains = f"{self.num_chains} chain{'s' if self.num_chains > 1 else ''} x {self.num_draws:,} draws"
        columns = f"; {self.details['redundant_columns']}" if "redundant_columns" in self.details else ""
        units = "the units of the data given" if self.standardized is None else "original units"
        return f"Posterior({', '.join(map(''.join, widths.items()))}: {chains} by {self.method}; in {units}{columns})"

    def summary(self, interval: float = 0.9, kind: str = "eti") -> pd.DataFrame:
        """Summarise each scalar quantity in a row, in full digits.

        The columns: ``mean``; ``sd`` (divisor: number of draws - 1); the bounds of the interval, named
        ``eti_90%_lower`` and so on by its kind and probability; and after Vehtari, Gelman, Simpson, Carpenter and
        Buerkner (2021), number for number as in ArviZ (`bayesreg.posteriors.diagnostics`), ``ess_bulk``, ``ess_tail``
        (the smaller of the 5 % and the 95 % quantile's), ``mcse_mean`` and the rank-normalised split ``r_hat``. These
        are NaN for a quantity that does not move and below 4 draws a chain, ``r_hat`` also for a single chain.

        Args:
            interval: Probability of the interval.
            kind: ``"eti"``: equal tails. ``"hdi"``: the narrowest interval.

        Returns:
            A table with the rows ``weights[<feature>]``, ``intercept``, and so on.

        Raises:
            TypeError: ``interval`` is not a number.
            ValueError: ``interval`` is not inside (0, 1), or ``kind`` is unknown.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data)
            >>> posterior.summary(interval=0.8, kind="hdi").columns.tolist()
            ['mean', 'sd', 'hdi_80%_lower', 'hdi_80%_upper', 'ess_bulk', 'ess_tail', 'mcse_mean', 'r_hat']
            >>> posterior.summary().loc["weights[bmi]", ["mean", "sd"]].round(2).tolist()
            [0.32, 0.04]
        """
        from bayesreg.posteriors.summary import summarize

        return summarize(self.draws, self.data.feature_names, interval, kind)

    def predict(self, features, seed: int = 0) -> torch.Tensor:
        """Draw new targets, noise included: y ~ Normal(b + x'w, s^2) at each draw of (w, b, s).

        Args:
            features: Matrix ``(rows, d)``: array, tensor or nested list, or a DataFrame with the features' names as
                columns, in any order. In the units of the data given; of a posterior in original units, in those.
            seed: Seeds the noise.

        Returns:
            A tensor ``(chain, draw, rows)``, in the same units.

        Raises:
            TypeError: A column that is not of numbers, or a seed that is no integer.
            ValueError: Another number of columns, other column names, or a number that is not finite or out of range.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data)
            >>> posterior.original_units().predict(br.load_diabetes().features[:2]).shape
            torch.Size([4, 1000, 2])
        """
        features = pointwise.checked_features(features, self.data.feature_names)
        transform, source = self.data.transform, self.standardized
        if source is None:
            return torch.from_numpy(pointwise.new_targets(self.draws, self.noise_scales, features, seed))
        # By way of standard units, where a large offset does not cost digits.
        features = transform.apply_to_features(features)
        targets = pointwise.new_targets(source.draws, source.noise_scales, features, seed)
        return torch.from_numpy(transform.to_original_predictions(targets))

    def thin(self, max_draws: int) -> Posterior:
        """Keep at most a number of draws over all chains, evenly spaced, and as many of each chain.

        Args:
            max_draws: The number, at least 1. Chains are dropped only where it is smaller than their number.

        Returns:
            A posterior of fewer draws; this one where it has no more.

        Raises:
            ValueError: ``max_draws`` is not a whole number of at least 1.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data).thin(100)
            Posterior(weights (10), intercept: 4 chains x 25 draws by exact; in the units of the data given)
        """
        if isinstance(max_draws, bool) or not isinstance(max_draws, int | np.integer) or max_draws < 1:
            raise ValueError(f"max_draws must be a whole number of at least 1, got {max_draws!r}")
        if max_draws >= self.num_chains * self.num_draws:
            return self
        return self._select(*thinning(self, max_draws))

    def original_units(self) -> Posterior:
        """Take draws from standardized data to the units that the data had before ``standardized()``.

        `bayesreg.posteriors.units` has the formulas. A shared ``prior_scale`` becomes one a feature; a model without an
        intercept gets the one that the means bring; ``predict`` takes and gives original units; log likelihood, log
        prior and ``log_evidence`` change by their Jacobians. ``model``, ``data`` and ``sample_stats`` stay what was
        sampled.

        Returns:
            The posterior of the problem before it was standardized, with this one as ``standardized``.

        Raises:
            ValueError: The data were not standardized, or the draws are in original units already.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> model = br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7)
            >>> posterior = br.sample(model, data).original_units()
            >>> posterior
            Posterior(weights (10), intercept: 4 chains x 1,000 draws by exact; in original units)
            >>> round(float(posterior.draws["intercept"].mean()))
            152
        """
        transform, model = self.transform, self.model
        if transform is None:
            found = "those of the data given" if self.standardized is None else "original already"
            raise ValueError(f"original_units needs draws from standardized data, got draws whose units are {found}")
        draws = dict(self.draws)
        draws = {
            "weights": draws.pop("weights"),
            "intercept": draws.pop("intercept", torch.zeros_like(self.noise_scales)),
            **draws,
        }
        evidence = self.log_evidence
        if evidence is not None:
            evidence += log_evidence_shift(model, transform, self.data.num_rows)
        original = to_original_units(draws, transform, model.prior.relative_to_noise)
        return replace(self, draws=original, log_evidence=evidence, standardized=self)

    def to_datatree(self, pointwise_draws: int | None = None, flat: bool = False) -> xr.DataTree:
        """Convert to the groups that ArviZ 1.x works on; on Python 3.11 that is ``arviz.preview``.

        ``posterior``; ``sample_stats``; ``prior`` (2,000 draws of what is not flat); ``log_prior`` (of that, at the
        draws); from rows, ``log_likelihood``, ``posterior_predictive`` and ``observed_data`` (variable ``target``), and
        ``constant_data`` (``features``). Dimensions ``chain``, ``draw``, ``feature`` (by column names) and ``row``.

        `az.psense_summary` needs the same draws in all groups: of a posterior with more than the pointwise groups
        keep, give it ``posterior.thin(4000).to_datatree()``. `az.plot_prior_posterior` needs the variables that have
        prior draws, which an intercept has not: ``var_names=list(tree.prior.data_vars)``.

        Args:
            pointwise_draws: How many draws the groups with one number a row keep, evenly spaced; None: 4,000, and no
                more than 2e7 numbers a group; 0: none of these groups.
            flat: One scalar variable a weight, ``weights[bmi]``, instead of one vector: `az.plot_pair` of ArviZ 0.23
                cannot mix vectors and scalars. A slash in a name, which a tree cannot have, becomes U+2215.

        Returns:
            The `xarray.DataTree`.

        Raises:
            TypeError: ``pointwise_draws`` is positive and there are only moments.
            ValueError: ``pointwise_draws`` is not a whole number of at least 0.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> tree = br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data).to_datatree()
            >>> for name in sorted(tree.children):
            ...     print(name)
            constant_data
            log_likelihood
            log_prior
            observed_data
            posterior
            posterior_predictive
            prior
            sample_stats
            >>> tree["posterior"]["weights"].dims
            ('chain', 'draw', 'feature')
        """
        from bayesreg.posteriors.tree import build_tree

        return build_tree(self, pointwise_draws, flat)

    def save(self, path: str | Path, pointwise_draws: int | None = None) -> None:
        """Write a NetCDF file that `load`, xarray and ArviZ read: the groups of `to_datatree` and what was sampled.

        It is written aside and renamed when it is complete. Rows of more than 2e7 numbers are kept as their moments.

        Args:
            path: The file; one that exists is replaced.
            pointwise_draws: As for `to_datatree`.

        Raises:
            TypeError: ``pointwise_draws`` is positive and there are only moments.
            ValueError: A distribution of the model has no name in a file, or ``pointwise_draws`` is no whole number.
            OSError: The file cannot be written: nothing of it is left, and one that was there is untouched.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> import pathlib, tempfile
            >>> posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data, draws=10)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     posterior.save(pathlib.Path(folder, "run.nc"), pointwise_draws=0)
            ...     [path.name for path in pathlib.Path(folder).iterdir()]
            ['run.nc']
        """
        from bayesreg.posteriors.file import write

        write(self, Path(path), pointwise_draws)

    @classmethod
    def load(cls, path: str | Path) -> Posterior:
        """Read a posterior that `save` wrote.

        Args:
            path: The file.

        Returns:
            The posterior, its draws bit by bit what they were.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not one that `save` wrote.

        Example:
            >>> import bayesreg as br
            >>> data = br.load_diabetes().standardized()
            >>> import pathlib, tempfile
            >>> posterior = br.sample(br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7), data, draws=10)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     posterior.save(pathlib.Path(folder, "run.nc"))
            ...     loaded = br.Posterior.load(pathlib.Path(folder, "run.nc"))
            >>> bool((loaded.draws["weights"] == posterior.draws["weights"]).all())
            True
        """
        from bayesreg.posteriors.file import read

        return read(Path(path), cls)

    def _select(self, chains: np.ndarray, draws: np.ndarray) -> Posterior:
        def kept(values: torch.Tensor) -> torch.Tensor:
            return values[torch.from_numpy(chains)][:, torch.from_numpy(draws)]

        return replace(
            self,
            draws={name: kept(values) for name, values in self.draws.items()},
            sample_stats={name: kept(values) for name, values in self.sample_stats.items()},
            standardized=None if self.standardized is None else self.standardized._select(chains, draws),
        )


def thinning(posterior: Posterior, max_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which chains and draws `Posterior.thin` keeps.

    Args:
        posterior: The posterior.
        max_draws: At most as many over all chains; at least 1.

    Returns:
        Two increasing vectors of indices.
    """
    num_chains, num_draws = posterior.num_chains, posterior.num_draws
    chains = min(num_chains, max_draws)
    draws = min(num_draws, max_draws // chains)
    return np.arange(chains) * num_chains // chains, np.arange(draws) * num_draws // draws


def _on_cpu(values: Any, argument: str) -> torch.Tensor:
    if not isinstance(values, torch.Tensor):
        raise TypeError(f"{argument} must be a tensor, got {type(values).__name__}")
    return values.detach().cpu().contiguous()
