"""What a posterior's file brings back, bit by bit, and what a failed write or a foreign file leaves behind."""

import errno
import json
import pathlib
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import bayesreg as br
from bayesreg.posteriors import file as posterior_file
from bayesreg.posteriors import tree as posterior_tree


def design():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(25, 2)) * [1.0, 30.0] + [1e4, 0.0]
    return br.RegressionData(
        features, features @ [0.3, 0.1] + generator.normal(size=25), ["dose [mg/l]", "Größe"], "Ertrag"
    )


def by_hand(data, *, learned=True):
    """Draws with every kind of number that float64 has, and statistics of every type that samplers keep."""
    prior = br.LaplacePrior(dist.HalfCauchy(0.3) if learned else [0.5, 0.1 + 0.2], loc=0.1, relative_to_noise=True)
    model = br.LinearRegression(prior, dist.LogNormal(-0.3, 0.8) if learned else 1.0 / 3.0)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn((2, 6, 2), generator=generator, dtype=torch.float64)
    weights[0, :4, 0] = torch.tensor([-0.0, 5e-324, 1e100, 0.1], dtype=torch.float64)
    draws = {"weights": weights, "intercept": weights[..., 0] / 3.0}
    if learned:
        draws |= {"noise_scale": weights[..., 1].exp(), "prior_scale": weights[..., 0].abs() + 1.0}
    shape = (2, 6)
    stats = {
        "lp": torch.full(shape, float("-inf"), dtype=torch.float64),
        "diverging": torch.rand(shape, generator=generator) < 0.5,
        "n_steps": torch.randint(0, 2**40, shape, generator=generator),
        "tree_depth": torch.randint(0, 10, shape, generator=generator, dtype=torch.int32),
        "step_size": torch.rand(shape, generator=generator, dtype=torch.float32),
        "odd": torch.full(shape, float("nan"), dtype=torch.float64),
    }
    return br.Posterior(
        draws, stats, model=model, data=data, method="by hand", reason="für den Test", seed=7, log_evidence=-1.0 / 3.0,
        details={"nodes": 33, "losses": [1.5, 0.1 + 0.2], "converged": True, "nothing": None, "device": "cpu"},
    )  # fmt: skip


def with_factor():
    """Moments of collinear columns, which keep a factor of the rows."""
    data = design()
    moments = br.Moments.from_data(br.RegressionData(data.features[:, [0, 0]], data.target))
    assert moments.factor is not None
    return moments


CASES = {
    "rows": lambda: by_hand(design()),
    "known scales": lambda: by_hand(design(), learned=False),
    "moments": lambda: by_hand(br.Moments.from_data(design())),
    "moments with a factor": lambda: by_hand(with_factor()),
    "moments about the origin": lambda: by_hand(br.Moments.from_data(design()).about_origin()),
    "standardized": lambda: by_hand(design().standardized()),
    "original": lambda: by_hand(design().standardized()).original_units(),
    "original moments": lambda: by_hand(br.Moments.from_data(design()).standardized()).original_units(),
    "thinned": lambda: by_hand(design().standardized()).original_units().thin(6),
}


def assert_same(found, expected):
    def bits(values):
        return values.dtype, values.shape, values.numpy().tobytes()

    for name in ("draws", "sample_stats"):
        ours, theirs = getattr(expected, name), getattr(found, name)
        assert list(theirs) == list(ours)
        for key in ours:
            assert bits(theirs[key]) == bits(ours[key]), key
    for name in ("method", "reason", "seed", "log_evidence", "details", "created_at"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.model.to_dict() == expected.model.to_dict()
    assert type(found.data) is type(expected.data)
    assert (found.data.feature_names, found.data.target_name) == (
        expected.data.feature_names,
        expected.data.target_name,
    )
    assert found.data.transform == expected.data.transform
    arrays = (
        ("features", "target")
        if isinstance(expected.data, br.RegressionData)
        else ("pivot", "offsets", "scatter", "factor")
    )
    for name in arrays:
        ours, theirs = getattr(expected.data, name), getattr(found.data, name)
        assert ours is None and theirs is None or ours.tobytes() == theirs.tobytes(), name
    assert getattr(found.data, "centred", True) == getattr(expected.data, "centred", True)
    assert found.data.num_rows == expected.data.num_rows
    assert (found.standardized is None) == (expected.standardized is None)
    if expected.standardized is not None:
        assert_same(found.standardized, expected.standardized)


@pytest.mark.parametrize("case", CASES)
def test_everything_comes_back(tmp_path, case):
    posterior = CASES[case]()
    path = tmp_path / "run.nc"
    posterior.save(path)
    assert_same(br.Posterior.load(path), posterior)
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_a_sampled_posterior_comes_back_and_goes_on(tmp_path):
    posterior = br.sample(
        br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0)),
        design().standardized(),
        method="exact",
        draws=50,
    ).original_units()
    posterior.save(str(tmp_path / "run.nc"))
    loaded = br.Posterior.load(str(tmp_path / "run.nc"))
    assert torch.equal(loaded.predict(design().features, seed=3), posterior.predict(design().features, seed=3))
    assert loaded.summary().equals(posterior.summary())


def test_the_file_is_the_tree(tmp_path):
    from arviz_interface import az

    posterior = br.sample(
        br.LinearRegression(br.GaussianPrior(0.5), dist.HalfNormal(1.0)),
        design().standardized(),
        method="exact",
        draws=500,
    )
    path = tmp_path / "run.nc"
    posterior.save(path, pointwise_draws=1000)
    expected = posterior.to_datatree(pointwise_draws=1000)
    assert {"log_likelihood", "posterior_predictive", "prior", "log_prior", "observed_data"} < set(expected.children)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree.children) == {*expected.children, "bayesreg"}
        for name, group in expected.children.items():
            assert group.to_dataset().equals(tree[name].to_dataset()), name
        assert tree.attrs["method"] == "exact" and tree["posterior"].attrs["sample_dims"] == ["chain", "draw"]
        assert np.isfinite(az.loo(tree.load()).elpd)


def test_a_file_that_exists_is_replaced(tmp_path):
    path = tmp_path / "run.nc"
    by_hand(design()).save(path)
    posterior = by_hand(br.Moments.from_data(design()))
    posterior.save(path)
    assert_same(br.Posterior.load(path), posterior)


def test_rows_beyond_the_limit_are_kept_as_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(posterior_file, "MOST_NUMBERS", 49)
    for posterior in (by_hand(design()), by_hand(design().standardized()).original_units()):
        posterior.save(tmp_path / "run.nc")
        loaded = br.Posterior.load(tmp_path / "run.nc")
        assert isinstance(loaded.data, br.Moments) and isinstance(posterior.data, br.RegressionData)
        assert torch.equal(loaded.draws["weights"], posterior.draws["weights"])
        np.testing.assert_array_equal(loaded.data.Sxx, br.Moments.from_data(posterior.data).Sxx)
    monkeypatch.setattr(posterior_file, "MOST_NUMBERS", 50)
    by_hand(design()).save(tmp_path / "run.nc")
    assert isinstance(br.Posterior.load(tmp_path / "run.nc").data, br.RegressionData)
    assert posterior_tree.MOST_NUMBERS == 20_000_000


# --- nothing half-written


@pytest.mark.parametrize("interruption", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there_before", [True, False])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch, interruption, there_before):
    path = tmp_path / "run.nc"
    first = by_hand(design())
    if there_before:
        first.save(path)

    def half(file, content):
        with file.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_bytes", half)
        with pytest.raises(type(interruption)):
            by_hand(br.Moments.from_data(design())).save(path)
    assert [file.name for file in tmp_path.iterdir()] == (["run.nc"] if there_before else [])
    if there_before:
        assert_same(br.Posterior.load(path), first)


def test_a_full_disk_leaves_nothing(tmp_path):
    program = """
        import resource, sys
        import torch
        import bayesreg as br
        data = br.load_diabetes()
        draws = {"weights": torch.ones(4, 500, 10), "intercept": torch.ones(4, 500)}
        model = br.LinearRegression(br.FlatPrior())
        posterior = br.Posterior(draws, {"lp": torch.ones(4, 500)}, model=model, data=data, method="x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the draws alone are as large
        try:
            posterior.save(sys.argv[1])
        except OSError as error:
            print("refused", error.errno)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "run.nc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"refused {errno.EFBIG}" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_before_a_file_is_made(tmp_path):
    law = dist.TransformedDistribution(dist.HalfNormal(1.0), [dist.transforms.ExpTransform()])
    draws = {"weights": torch.ones(1, 4, 2), "noise_scale": torch.ones(1, 4)}
    posterior = br.Posterior(
        draws, {}, model=br.LinearRegression(br.FlatPrior(), law, intercept=False), data=design(), method="x"
    )
    with pytest.raises(ValueError, match="cannot be written to a file"):
        posterior.save(tmp_path / "run.nc")
    odd = by_hand(design())
    odd.details["odd"] = object()
    with pytest.raises(TypeError, match="plain Python values to be saved, got object"):
        odd.save(tmp_path / "run.nc")
    with pytest.raises(TypeError, match="needs rows"):
        by_hand(br.Moments.from_data(design())).save(tmp_path / "run.nc", pointwise_draws=3)
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        by_hand(design()).save(tmp_path / "missing" / "run.nc")
    assert list(tmp_path.iterdir()) == []


# --- foreign files


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "missing.nc", tmp_path):
        with pytest.raises(FileNotFoundError, match="which is no file"):
            br.Posterior.load(path)


def edited(path, edit):
    with h5py.File(path, "r+") as file:
        words = json.loads(file["bayesreg"].attrs["json"])
        edit(words)
        file["bayesreg"].attrs["json"] = json.dumps(words)


def with_a_damaged_head(path):
    """Overwrite some of the root's object header, whose checksum HDF5 then misses."""
    content = bytearray(path.read_bytes())
    start = content.index(b"OHDR")
    content[start + 20 : start + 60] = bytes(40)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("weights,intercept\n1,2\n"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4000]),
        with_a_damaged_head,
        lambda path: path.write_bytes(path.read_bytes().replace(b"creation_library", b"Creation_library")),
        lambda path: xr.Dataset({"a": ("x", [1.0])}).to_netcdf(path, engine="h5netcdf"),
        lambda path: edited(path, lambda words: words.update(format=2)),
        lambda path: edited(path, lambda words: words.pop("model")),
        lambda path: edited(path, lambda words: words["model"].update(prior={"kind": "horseshoe"})),
        lambda path: edited(path, lambda words: words["model"].update(noise_scale="__import__('os')")),
        lambda path: edited(path, lambda words: words["draws"].remove("weights")),
        lambda path: edited(path, lambda words: words.update(feature_names=["one"])),
    ],
    ids=str.split("text empty truncated head altered foreign format model-less prior code draws names"),
)
def test_a_foreign_or_damaged_file_is_refused(tmp_path, spoil):
    path = tmp_path / "run.nc"
    by_hand(design()).save(path)
    spoil(path)
    with pytest.raises(ValueError, match=r"path must be a file that Posterior.save wrote, got .*run\.nc"):
        br.Posterior.load(path)
