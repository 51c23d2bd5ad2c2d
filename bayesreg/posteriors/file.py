"""A posterior as a NetCDF file: the groups that ArviZ reads, and what a `Posterior` needs to come back exactly.

Group ``bayesreg`` holds the arrays of what was sampled (rows or moments, standardisation, and the draws in standard
units where ``posterior`` has them in original ones) and, as JSON, the rest. Nothing in a file is executed.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
import xarray as xr

from bayesreg.data import RegressionData
from bayesreg.model import LinearRegression
from bayesreg.moments import Moments, as_moments
from bayesreg.posteriors.tree import MOST_NUMBERS, build_tree
from bayesreg.standardization import Standardization

if TYPE_CHECKING:
    from bayesreg.posteriors.posterior import Posterior

FORMAT = 1
ENGINE = "h5netcdf"
_MOMENT_ARRAYS = ("pivot", "offsets", "scatter", "factor")


def write(posterior: Posterior, path: Path, pointwise_draws: int | None) -> None:
    """Write a posterior aside and rename it into place; see `bayesreg.Posterior.save`.

    Args:
        posterior: The posterior.
        path: The file.
        pointwise_draws: As for `bayesreg.Posterior.to_datatree`.

    Raises:
        FileNotFoundError: The folder of ``path`` does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must be a file in a folder that exists, got {str(path)!r}")
    posterior = _with_data_of_bounded_size(posterior)
    tree = build_tree(posterior, pointwise_draws, flat=False)
    tree["bayesreg"] = xr.DataTree(_what_was_sampled(posterior))
    # Made in memory: HDF5 does not survive a full disk, where it leaves open files and no clear error.
    content = io.BytesIO()
    tree.to_netcdf(content, engine=ENGINE)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        aside.write_bytes(content.getbuffer())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path, posterior_class: type[Posterior]) -> Posterior:
    """Read a posterior; see `bayesreg.Posterior.load`.

    Args:
        path: The file.
        posterior_class: `Posterior`.

    Returns:
        The posterior.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not one that `write` wrote.
    """
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file that Posterior.save wrote, got {str(path)!r}, which is no file")
    try:
        with h5py.File(path) as file:
            dict(file.attrs)  # a damaged head would leave half an h5netcdf file, which complains when it is collected
        with xr.open_datatree(path, engine=ENGINE) as tree:
            return _posterior(tree, posterior_class)  # reads what it needs: not the groups of one number a row
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"path must be a file that Posterior.save wrote, got {str(path)!r}: {error}") from error


def _with_data_of_bounded_size(posterior: Posterior) -> Posterior:
    data = posterior.data
    if isinstance(data, Moments) or data.num_rows * data.num_features <= MOST_NUMBERS:
        return posterior
    standardized = posterior.standardized
    return replace(
        posterior,
        data=as_moments(data),
        standardized=None if standardized is None else _with_data_of_bounded_size(standardized),
    )


def _what_was_sampled(posterior: Posterior) -> xr.Dataset:
    data = posterior.data
    if isinstance(data, Moments):
        arrays = {name: getattr(data, name) for name in _MOMENT_ARRAYS if getattr(data, name) is not None}
    else:
        arrays = {"features": data.features, "target": data.target}
    if data.transform is not None:
        arrays["transform"] = data.transform.as_vector()
    words = {
        "format": FORMAT,
        "kind": type(data).__name__,
        "num_rows": data.num_rows,
        "centred": getattr(data, "centred", True),
        "feature_names": data.feature_names,
        "target_name": data.target_name,
        "draws": list(posterior.draws),
        "sample_stats": list(posterior.sample_stats),
        **_provenance(posterior),
    }
    if posterior.standardized is not None:
        words["standardized"] = _provenance(posterior.standardized)
        words["standardized_draws"] = list(posterior.standardized.draws)
        arrays |= {f"standardized_{name}": draws.numpy() for name, draws in posterior.standardized.draws.items()}
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(values.ndim)), values) for name, values in arrays.items()
    }
    return xr.Dataset(variables, attrs={"json": json.dumps(words, default=_plain)})


def _provenance(posterior: Posterior) -> dict[str, Any]:
    return {
        "model": posterior.model.to_dict(),
        "method": posterior.method,
        "reason": posterior.reason,
        "seed": posterior.seed,
        "log_evidence": posterior.log_evidence,
        "details": posterior.details,
        "created_at": posterior.created_at,
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, tensors
        return value.tolist()
    raise TypeError(f"Posterior(details=...) must hold plain Python values to be saved, got {type(value).__name__}")


def _posterior(tree: xr.DataTree, posterior_class: type[Posterior]) -> Posterior:
    if "bayesreg" not in tree.children:
        raise ValueError("it has no group 'bayesreg'")
    group = tree["bayesreg"]
    words = json.loads(group.attrs["json"])
    if words["format"] != FORMAT:
        raise ValueError(f"it is of format {words['format']}, and this version reads {FORMAT}")
    data = _data(group, words)
    stats = {name: _tensor(tree["sample_stats"][name]) for name in words["sample_stats"]}
    standardized = None
    if "standardized" in words:
        draws = {name: _tensor(group[f"standardized_{name}"]) for name in words["standardized_draws"]}
        standardized = posterior_class(draws, stats, data=data, **_from_words(words["standardized"]))
    draws = {name: _tensor(tree["posterior"][name]) for name in words["draws"]}
    return posterior_class(draws, stats, data=data, standardized=standardized, **_from_words(words))


def _from_words(words: Mapping[str, Any]) -> dict[str, Any]:
    names = ("method", "reason", "seed", "log_evidence", "details", "created_at")
    return {"model": LinearRegression.from_dict(words["model"]), **{name: words[name] for name in names}}


def _data(group: xr.DataTree, words: Mapping[str, Any]) -> RegressionData | Moments:
    names, target_name = tuple(words["feature_names"]), words["target_name"]
    transform = Standardization.from_vector(group["transform"].values) if "transform" in group else None
    if words["kind"] == "RegressionData":
        features, target = group["features"].values, group["target"].values
        return RegressionData(features, target, names, target_name, transform=transform)
    arrays = {name: group[name].values for name in _MOMENT_ARRAYS if name in group}
    words = {name: words[name] for name in ("num_rows", "centred")}
    return Moments(**words, **arrays, feature_names=names, target_name=target_name, transform=transform)


def _tensor(variable: xr.DataArray) -> torch.Tensor:
    return torch.from_numpy(np.array(variable.values))
