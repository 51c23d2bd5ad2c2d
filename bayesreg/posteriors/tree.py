"""A posterior as the tree of groups that ArviZ works on, built with xarray alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import bayesreg
from bayesreg.data import require_rows
from bayesreg.posteriors import pointwise
from bayesreg.posteriors.posterior import thinning
from bayesreg.posteriors.units import log_prior_shifts, to_original_units

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.posteriors.posterior import Posterior

MOST_POINTWISE_DRAWS = 4_000
MOST_NUMBERS = 20_000_000
PRIOR_DRAWS = 2_000
SAMPLE_DIMS = ("chain", "draw")


def build_tree(posterior: Posterior, pointwise_draws: int | None, flat: bool) -> xr.DataTree:
    """Convert a posterior; see `bayesreg.Posterior.to_datatree`.

    Args:
        posterior: The posterior.
        pointwise_draws: None, or how many draws the groups with one number a row keep.
        flat: Whether each weight is a scalar variable of its own.

    Returns:
        The tree.

    Raises:
        ValueError: ``pointwise_draws`` is not a whole number of at least 0.
    """
    whole = isinstance(pointwise_draws, int | np.integer) and not isinstance(pointwise_draws, bool)
    if pointwise_draws is not None and not (whole and pointwise_draws >= 0):
        raise ValueError(f"pointwise_draws must be None or a whole number of at least 0, got {pointwise_draws!r}")
    chains, draws = np.arange(posterior.num_chains), np.arange(posterior.num_draws)
    sampled = _Group(posterior, chains, draws)
    groups = {
        "posterior": sampled.dataset({name: values.numpy() for name, values in posterior.draws.items()}, flat),
        "sample_stats": sampled.dataset({name: values.numpy() for name, values in posterior.sample_stats.items()}),
    }
    prior = _prior_draws(posterior)
    if prior:
        groups["prior"] = _Group(posterior, [0], np.arange(PRIOR_DRAWS)).dataset(prior, flat)
    log_prior = _log_prior(posterior)
    if log_prior:
        groups["log_prior"] = sampled.dataset(log_prior)
    groups |= _pointwise_groups(posterior, pointwise_draws)
    root = xr.Dataset(attrs=_provenance(posterior))
    return xr.DataTree.from_dict({"/": root, **groups}, name="bayesreg")


def flat_name(name: str) -> str:
    """Return the variable that stands for a scalar, such as ``weights[bmi]``, in a flat tree: no slash can be in it."""
    return name.replace("/", "\u2215")


class _Group:
    """Makes the datasets of one group: the dimensions, their coordinates and the attributes that ArviZ expects."""

    def __init__(self, posterior: Posterior, chains, draws):
        self._coordinates = {
            "chain": np.asarray(chains),
            "draw": np.asarray(draws),
            "feature": np.array(posterior.data.feature_names, dtype=str),
            "row": np.arange(posterior.data.num_rows),
        }
        self._attributes = _library_attributes(posterior)

    def dataset(self, variables: Mapping[str, np.ndarray], flat: bool = False, last: str = "feature") -> xr.Dataset:
        """Return variables ``(chain, draw)`` or ``(chain, draw, last)`` as a dataset."""
        named = {}
        for name, values in variables.items():
            if values.ndim == 2:
                named[name] = (SAMPLE_DIMS, values)
            elif flat:
                features = self._coordinates["feature"]
                for j, feature in enumerate(features):
                    named[flat_name(f"{name}[{feature}]")] = (SAMPLE_DIMS, values[..., j])
            else:
                named[name] = ((*SAMPLE_DIMS, last), values)
        return self._with_coordinates(named, {**self._attributes, "sample_dims": list(SAMPLE_DIMS)})

    def data(self, variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> xr.Dataset:
        """Return variables without draws as a dataset."""
        return self._with_coordinates(variables, self._attributes)

    def _with_coordinates(self, variables: Mapping[str, Any], attributes: Mapping[str, Any]) -> xr.Dataset:
        used = {dimension for dimensions, _ in variables.values() for dimension in dimensions}
        coordinates = {name: values for name, values in self._coordinates.items() if name in used}
        return xr.Dataset(variables, coordinates, attributes)


def _pointwise_groups(posterior: Posterior, pointwise_draws: int | None) -> dict[str, xr.Dataset]:
    data = posterior.data
    if pointwise_draws:
        require_rows(data, "the pointwise groups of a DataTree")
    if not hasattr(data, "features"):
        return {}
    groups = _data_groups(posterior, data)
    if pointwise_draws is None:
        pointwise_draws = min(MOST_POINTWISE_DRAWS, MOST_NUMBERS // data.num_rows)
    if pointwise_draws == 0:
        return groups
    thinned = posterior.thin(int(pointwise_draws))
    source = thinned.standardized or thinned  # the rows are in its units
    draws, noise_scales = source.draws, source.noise_scales
    log_likelihood = pointwise.log_likelihood(draws, noise_scales, data.features, data.target)
    new_targets = pointwise.new_targets(draws, noise_scales, data.features, posterior.seed)
    if thinned is not source:
        # The density of s_y u + m_y is that of u over s_y.
        log_likelihood -= np.log(data.transform.target_scale)
        new_targets = data.transform.to_original_predictions(new_targets)
    group = _Group(posterior, *thinning(posterior, int(pointwise_draws)))
    groups["log_likelihood"] = group.dataset({"target": log_likelihood}, last="row")
    groups["posterior_predictive"] = group.dataset({"target": new_targets}, last="row")
    return groups


def _data_groups(posterior: Posterior, data: RegressionData) -> dict[str, xr.Dataset]:
    features, target = data.features, data.target
    if posterior.standardized is not None:
        transform = data.transform
        features = transform.feature_scales * features + transform.feature_remainders + transform.feature_means
        target = transform.to_original_predictions(target)
    group = _Group(posterior, (), ())
    return {
        "observed_data": group.data({"target": (("row",), target)}),
        "constant_data": group.data({"features": (("row", "feature"), features)}),
    }


def _prior_draws(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return draws from what is not flat, ``(1, draw, ...)``, in the units of the posterior."""
    model = posterior.model
    draws = model.prior_draws(PRIOR_DRAWS, posterior.data.num_features, posterior.seed)
    if posterior.standardized is not None:
        draws = to_original_units(draws, posterior.data.transform, model.prior.relative_to_noise)
    return {name: values.numpy()[None] for name, values in draws.items()}


def _log_prior(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return the log density of each prior that is not flat at the draws, in the units of the posterior."""
    model = posterior.model
    draws = (posterior.standardized or posterior).draws
    of_scales = {name: scale.log_prior(draws[name]) for name, scale in model.learned_scales.items()}
    log_prior = {}
    if model.prior.kind != "flat":
        log_prior["weights"] = model.log_prior(draws) - sum(of_scales.values())
    for name, scale in model.learned_scales.items():
        if not scale.is_flat:
            log_prior[name] = of_scales[name]
    if posterior.standardized is not None:
        shifts = log_prior_shifts(posterior.data.transform)
        log_prior = {name: values + shifts[name] for name, values in log_prior.items()}
    return {name: values.numpy() for name, values in log_prior.items()}


def _library_attributes(posterior: Posterior) -> dict[str, str]:
    import pyro

    by_pyro = posterior.method == "pyro-nuts" or posterior.details.get("pyro_loop", False)
    return {
        "created_at": posterior.created_at,
        "creation_library": "bayesreg",
        "creation_library_version": bayesreg.__version__,
        "inference_library": "pyro" if by_pyro else "bayesreg",
        "inference_library_version": pyro.__version__ if by_pyro else bayesreg.__version__,
    }


def _provenance(posterior: Posterior) -> dict[str, Any]:
    """Return the attributes of the root, in words and numbers that NetCDF holds."""
    attributes = {
        **_library_attributes(posterior),
        "model": repr(posterior.model),
        "method": posterior.method,
        "reason": posterior.reason,
        "seed": posterior.seed,
        "num_rows": posterior.data.num_rows,
        "target_name": posterior.data.target_name,
        "units": "as given" if posterior.standardized is None else "original",
    }
    if posterior.interrupted:
        attributes["interrupted"] = 1  # NetCDF has no booleans
    if posterior.log_evidence is not None:
        attributes["log_evidence"] = posterior.log_evidence
    return attributes
