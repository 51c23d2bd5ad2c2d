"""The tree of groups against closed forms, and ArviZ working on it."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import bayesreg as br
from bayesreg.posteriors import tree as posterior_tree


def design(num_rows=30, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_rows, 3)) + [0.0, 2.0, 0.0]
    target = 7.0 + features @ [1.0, -2.0, 0.5] + generator.normal(size=num_rows)
    return br.RegressionData(features, target, ["age", "dose", "body mass"], "response")


LEARNED = br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0)), dist.HalfNormal(2.0))


def exact(model, data, draws=100, chains=4, seed=0):
    return br.sample(model, data, method="exact", draws=draws, chains=chains, seed=seed)


@pytest.fixture(scope="module")
def posterior():
    """Independent draws with the statistics that NUTS keeps."""
    sampled = exact(LEARNED, design(), draws=200)
    generator = torch.Generator().manual_seed(0)
    shape = (4, 200)
    stats = {
        "lp": sampled.sample_stats["lp"],
        "energy": -sampled.sample_stats["lp"] + torch.randn(shape, generator=generator).square(),
        "diverging": torch.rand(shape, generator=generator) < 0.01,
        "tree_depth": torch.randint(1, 4, shape, generator=generator),
        "n_steps": torch.randint(1, 15, shape, generator=generator),
        "acceptance_rate": torch.rand(shape, generator=generator),
        "step_size": torch.full(shape, 0.5),
    }
    return br.Posterior(
        sampled.draws, stats, model=LEARNED, data=sampled.data, method="pyro-nuts", reason="as asked", log_evidence=-1.5
    )


@pytest.fixture(scope="module")
def tree(posterior):
    return posterior.to_datatree()


# --- groups, dimensions, names


def test_groups_and_dimensions(tree, posterior):
    dims = {
        "posterior": {
            "weights": ("chain", "draw", "feature"),
            **dict.fromkeys(["intercept", "noise_scale", "prior_scale"]),
        },
        "sample_stats": dict.fromkeys(posterior.sample_stats),
        "prior": {"weights": ("chain", "draw", "feature"), **dict.fromkeys(["noise_scale", "prior_scale"])},
        "log_prior": dict.fromkeys(["weights", "noise_scale", "prior_scale"]),
        "observed_data": {"target": ("row",)},
        "constant_data": {"features": ("row", "feature")},
        "log_likelihood": {"target": ("chain", "draw", "row")},
        "posterior_predictive": {"target": ("chain", "draw", "row")},
    }
    found = {name: {v: a.dims for v, a in group.data_vars.items()} for name, group in tree.children.items()}
    assert found == {n: {v: a or ("chain", "draw") for v, a in group.items()} for n, group in dims.items()}
    assert tree["posterior"]["feature"].values.tolist() == ["age", "dose", "body mass"]
    for name, values in posterior.draws.items():
        assert np.array_equal(tree["posterior"][name], values)
    for name, values in posterior.sample_stats.items():
        assert tree["sample_stats"][name].dtype == values.numpy().dtype and np.array_equal(
            tree["sample_stats"][name], values
        )
    assert np.array_equal(tree["constant_data"]["features"], design().features)
    assert np.array_equal(tree["observed_data"]["target"], design().target)


def test_attributes_say_who_made_it(tree, posterior):
    attributes = tree.attrs
    assert attributes["creation_library"] == "bayesreg" and attributes["creation_library_version"] == br.__version__
    assert attributes["inference_library"] == "pyro" and attributes["created_at"] == posterior.created_at
    assert (attributes["method"], attributes["seed"], attributes["log_evidence"]) == ("pyro-nuts", 0, -1.5)
    assert attributes["model"] == repr(LEARNED)
    assert tree["posterior"].attrs["sample_dims"] == ["chain", "draw"]
    assert exact(LEARNED, design(), draws=2).to_datatree().attrs["inference_library"] == "bayesreg"


@pytest.mark.parametrize(
    ("model", "prior", "log_prior"),
    [
        (br.LinearRegression(br.FlatPrior(), 1.0), None, None),
        (br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0)), {"noise_scale"}, {"noise_scale"}),
        (br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0).mask(True)), {"noise_scale"}, {"noise_scale"}),
        (br.LinearRegression(br.GaussianPrior(1.0), dist.HalfNormal(1.0).mask(False)), {"weights"}, {"weights"}),
        (
            br.LinearRegression(br.GaussianPrior(1.0, relative_to_noise=True), dist.HalfNormal(1.0).mask(False)),
            None,
            {"weights"},
        ),
        (
            br.LinearRegression(br.GaussianPrior(dist.HalfNormal(1.0).mask(False)), dist.HalfNormal(1.0)),
            {"noise_scale"},
            {"weights", "noise_scale"},
        ),
    ],
)
def test_what_is_flat_has_no_prior(model, prior, log_prior):
    draws = {"weights": torch.ones(2, 5, 3)}
    draws |= {name: torch.ones(2, 5) for name in ("intercept", *model.learned_scales)}
    data = design()
    tree = br.Posterior(draws, {"lp": torch.ones(2, 5)}, model=model, data=data, method="x").to_datatree()
    found = [set(tree[name].data_vars) if name in tree.children else None for name in ("prior", "log_prior")]
    assert found == [prior, log_prior]


def test_prior_draws_follow_the_seed():
    def drawn(seed):
        draws = {"weights": torch.ones(2, 5, 3), "noise_scale": torch.ones(2, 5), "prior_scale": torch.ones(2, 5)}
        tree = br.Posterior(draws, {}, model=LEARNED, data=design(), method="x", seed=seed).to_datatree()
        return tree["prior"].to_dataset()

    assert drawn(3).equals(drawn(3))
    assert not any((drawn(3)[name] == drawn(4)[name]).any() for name in ("weights", "noise_scale", "prior_scale"))


def test_prior_draws_follow_the_prior():
    scale, loc = np.array([0.5, 2.0, 10.0]), np.array([1.0, 0.0, -3.0])
    data = design().standardized()
    posterior = br.Posterior(
        {"weights": torch.zeros(1, 2, 3)},
        {"lp": torch.zeros(1, 2)},
        model=br.LinearRegression(br.LaplacePrior(scale, loc), 1.0),
        data=data,
        method="x",
    )
    factor = data.transform.target_scale / data.transform.feature_scales
    for case, unit in ((posterior, np.ones(3)), (posterior.original_units(), factor)):
        draws = case.to_datatree()["prior"]["weights"].values[0]
        for j in range(3):
            law = scipy.stats.laplace(loc[j], scale[j])
            assert scipy.stats.kstest(draws[:, j] / unit[j], law.cdf).pvalue > 1e-3


def test_log_prior_adds_up_to_the_models(tree, posterior):
    total = sum(values.values for values in tree["log_prior"].data_vars.values())
    np.testing.assert_allclose(total, LEARNED.log_prior(posterior.draws), rtol=1e-12)
    scale = posterior.draws["noise_scale"].numpy()
    np.testing.assert_allclose(
        tree["log_prior"]["noise_scale"], scipy.stats.halfnorm.logpdf(scale, scale=2.0), rtol=1e-12
    )


# --- the groups with one number a row


def test_log_likelihood_is_scipys(tree, posterior):
    data, draws = design(), {name: values.numpy() for name, values in posterior.draws.items()}
    means = draws["weights"] @ data.features.T + draws["intercept"][..., None]
    expected = scipy.stats.norm.logpdf(data.target, means, draws["noise_scale"][..., None])
    np.testing.assert_allclose(tree["log_likelihood"]["target"], expected, rtol=1e-10)


def test_posterior_predictive_is_predict(tree, posterior):
    assert np.array_equal(
        tree["posterior_predictive"]["target"], posterior.predict(design().features, seed=posterior.seed)
    )


def test_a_model_without_intercept_and_with_known_noise():
    data = design()
    posterior = exact(br.LinearRegression(br.GaussianPrior(2.0), 1.5, intercept=False), data, draws=10)
    tree = posterior.to_datatree()
    assert set(tree["posterior"].data_vars) == {"weights"}
    expected = scipy.stats.norm.logpdf(data.target, posterior.draws["weights"].numpy() @ data.features.T, 1.5)
    np.testing.assert_allclose(tree["log_likelihood"]["target"], expected, rtol=1e-10)


def test_pointwise_groups_are_thinned(posterior, monkeypatch):
    full = posterior.to_datatree()
    for name in ("log_likelihood", "posterior_predictive"):
        thin = posterior.to_datatree(pointwise_draws=40)[name]
        assert dict(thin.sizes) == {"chain": 4, "draw": 10, "row": 30}
        assert thin["draw"].values.tolist() == list(range(0, 200, 20))
    thin = posterior.to_datatree(pointwise_draws=40)
    np.testing.assert_array_equal(
        thin["log_likelihood"]["target"], full["log_likelihood"]["target"].sel(draw=thin["log_likelihood"]["draw"])
    )
    assert thin["posterior"].sizes["draw"] == 200
    assert not {"log_likelihood", "posterior_predictive"} & set(posterior.to_datatree(pointwise_draws=0).children)
    monkeypatch.setattr(posterior_tree, "MOST_POINTWISE_DRAWS", 80)
    assert posterior.to_datatree()["log_likelihood"].sizes["draw"] == 20
    monkeypatch.setattr(posterior_tree, "MOST_NUMBERS", 30 * 8 + 29)
    assert posterior.to_datatree()["log_likelihood"].sizes["draw"] == 2
    assert posterior.to_datatree(pointwise_draws=800)["log_likelihood"].sizes["draw"] == 200
    monkeypatch.setattr(posterior_tree, "MOST_NUMBERS", 29)
    assert "log_likelihood" not in posterior.to_datatree().children


def test_defaults_keep_at_most_4000_draws_and_20_million_numbers():
    assert (posterior_tree.MOST_POINTWISE_DRAWS, posterior_tree.MOST_NUMBERS) == (4000, 20_000_000)


@pytest.mark.parametrize("number", [-1, 2.5, True, "all"])
def test_a_wrong_number_of_pointwise_draws_is_refused(posterior, number):
    with pytest.raises(
        ValueError, match=f"pointwise_draws must be None or a whole number of at least 0, got {number!r}"
    ):
        posterior.to_datatree(pointwise_draws=number)


def test_moments_have_no_pointwise_groups():
    moments = br.Moments.from_data(design())
    posterior = exact(LEARNED, moments, draws=10)
    rows = {"log_likelihood", "posterior_predictive", "observed_data", "constant_data"}
    for draws in (None, 0):
        assert set(posterior.to_datatree(pointwise_draws=draws).children) == {
            "posterior",
            "sample_stats",
            "prior",
            "log_prior",
        }
    assert rows < set(exact(LEARNED, design(), draws=10).to_datatree().children)
    with pytest.raises(TypeError, match="needs rows: data must be a RegressionData, got Moments"):
        posterior.to_datatree(pointwise_draws=10)


def test_original_rows_come_back():
    data = design()
    for offset in (0.0, 1e8):
        moved = br.RegressionData(data.features + offset, data.target - offset)
        tree = exact(LEARNED, moved.standardized(), draws=2).original_units().to_datatree()
        # At the offset the rounding of a row, 1e-8, is far above that of the way there and back: every bit comes back.
        error = {"rtol": 1e-14, "atol": 1e-14} if offset == 0 else {"rtol": 0}
        np.testing.assert_allclose(tree["constant_data"]["features"], moved.features, **error)
        np.testing.assert_allclose(tree["observed_data"]["target"], moved.target, **error)
        assert tree.attrs["units"] == "original"


# --- ArviZ

PLOTS = (
    "plot_trace", "plot_rank", "plot_forest", "plot_dist", "plot_pair", "plot_energy", "plot_autocorr", "plot_ess",
    "plot_ess_evolution", "plot_mcse", "plot_ppc_dist", "plot_loo_pit", "plot_prior_posterior", "plot_trace_dist",
    "plot_ridge",
)  # fmt: skip


@pytest.fixture(scope="module")
def az():
    from arviz_interface import az

    return az


@pytest.mark.parametrize("name", PLOTS)
def test_arviz_plots(az, posterior, name):
    import matplotlib.pyplot as plt

    small = posterior.thin(200)
    tree = small.to_datatree(flat=name == "plot_pair")
    arguments = {
        "plot_prior_posterior": {"var_names": list(tree["prior"].data_vars)},
        "plot_pair": {"var_names": ["weights[age]", "weights[body mass]", "noise_scale"]},
    }
    drawn = getattr(az, name)(tree, backend="matplotlib", **arguments.get(name, {}))
    figure = drawn.get_viz("figure")
    assert len([axes for axes in figure.axes if axes.has_data()]) >= 1
    figure.canvas.draw()
    plt.close(figure)


def test_plot_pair_of_vectors_and_scalars_alone(az, tree):
    import matplotlib.pyplot as plt

    for names in (["weights"], ["intercept", "noise_scale"]):
        drawn = az.plot_pair(tree, var_names=names, backend="matplotlib")
        assert any(axes.has_data() for axes in drawn.get_viz("figure").axes)
        plt.close("all")


def test_flat_variables(posterior):
    flat = posterior.to_datatree(flat=True)
    names = ["weights[age]", "weights[dose]", "weights[body mass]"]
    assert list(flat["posterior"].data_vars) == [*names, "intercept", "noise_scale", "prior_scale"]
    assert set(names) < set(flat["prior"].data_vars)
    np.testing.assert_array_equal(flat["posterior"][names[1]], posterior.draws["weights"][..., 1])


def test_flat_variables_have_no_slash():
    data = br.RegressionData(design().features[:, :2], design().target, ["mg/l", "kg"])
    posterior = exact(br.LinearRegression(br.GaussianPrior(1.0), 1.0), data, draws=5)
    assert list(posterior.to_datatree(flat=True)["posterior"].data_vars) == [
        "weights[mg∕l]",
        "weights[kg]",
        "intercept",
    ]
    assert posterior.to_datatree()["posterior"]["feature"].values.tolist() == ["mg/l", "kg"]


def test_arviz_summary_agrees(az, tree, posterior):
    theirs = az.summary(
        tree, round_to="none" if not az.__name__.endswith("preview") else None, ci_prob=0.9, ci_kind="eti"
    )
    ours = posterior.summary(0.9)
    assert set(theirs.index) == set(ours.index)
    theirs = theirs.loc[ours.index]
    for column in ("mean", "ess_bulk", "r_hat", "mcse_mean"):
        np.testing.assert_allclose(theirs[column].astype(float), ours[column], rtol=1e-8)
    np.testing.assert_allclose(theirs["eti90_lb"].astype(float), ours["eti_90%_lower"], rtol=1e-8)
    np.testing.assert_allclose(
        theirs["sd"].astype(float), ours["sd"], rtol=1 / 800
    )  # the divisor differs between versions


def test_loo_is_the_exact_one(az):
    data, noise = design(), 1.1
    posterior = exact(br.LinearRegression(br.GaussianPrior(2.0), noise), data, draws=1000)
    found = az.loo(posterior.to_datatree(), pointwise=True)
    # Closed form: the row left out is predicted by the normal posterior of the others, the intercept flat.
    augmented = np.column_stack([data.features, np.ones(data.num_rows)])
    expected = []
    for row in range(data.num_rows):
        others = np.delete(augmented, row, axis=0)
        precision = others.T @ others / noise**2 + np.diag([0.25, 0.25, 0.25, 0.0])
        mean = augmented[row] @ np.linalg.solve(precision, others.T @ np.delete(data.target, row) / noise**2)
        variance = noise**2 + augmented[row] @ np.linalg.solve(precision, augmented[row])
        expected.append(scipy.stats.norm.logpdf(data.target[row], mean, np.sqrt(variance)))
    np.testing.assert_allclose(found.elpd_i, expected, atol=0.05)
    assert abs(float(found.elpd) - sum(expected)) < 0.1
    in_sample = scipy.special.logsumexp(posterior.to_datatree()["log_likelihood"]["target"], axis=(0, 1)) - np.log(4000)
    assert in_sample.sum() - sum(expected) > 1.0  # so that leaving out shows


def test_psense_sees_prior_and_likelihood(az, tree, posterior, capsys):
    table = az.psense_summary(tree)
    assert len(table) == 6 and np.isfinite(table[["prior", "likelihood"]].to_numpy(dtype=float)).all()
    assert (table["likelihood"].astype(float) > 0.02).all()
    thinned = az.psense_summary(posterior.thin(400).to_datatree())
    assert np.isfinite(thinned[["prior", "likelihood"]].to_numpy(dtype=float)).all()
    capsys.readouterr()
