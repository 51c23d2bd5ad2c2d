"""What a posterior accepts, its table against NumPy and ArviZ, predictions and change of units against closed forms."""

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import bayesreg as br
from bayesreg.posteriors.posterior import thinning
from bayesreg.posteriors.summary import interval_bounds


def design(num_rows=40, seed=0, offset=0.0, scales=(1.0, 20.0, 0.05)):
    generator = np.random.default_rng(seed)
    features = offset + generator.normal(size=(num_rows, 3)) * scales
    target = 7.0 + (features - offset) / scales @ [1.0, -2.0, 0.5] * 3.0 + generator.normal(size=num_rows)
    return br.RegressionData(features, target, ["age", "dose", "bmi"], "response")


def by_hand(data, draws=50, chains=2, model=None, stats=None, **changes):
    """A posterior of made-up draws, asymmetric and off centre."""
    generator = torch.Generator().manual_seed(3)
    d = data.num_features
    normals = torch.randn((chains, draws, d + 2), generator=generator, dtype=torch.float64)
    model = model or br.LinearRegression(br.GaussianPrior(2.0), noise_scale=0.7)
    values = {"weights": normals[..., :d].exp() + torch.arange(d), "intercept": 1.0 + normals[..., d]}
    if model.noise_is_learned:
        values["noise_scale"] = normals[..., d + 1].exp()
    arguments = {"model": model, "data": data, "method": "by hand"}
    return br.Posterior(values | changes, {"lp": -normals.square().sum(-1)} | (stats or {}), **arguments)


# --- what it accepts


def test_draws_become_detached_float64_tensors_on_the_cpu():
    data = design()
    weights = torch.zeros((2, 5, 3), dtype=torch.float32, requires_grad=True)
    posterior = br.Posterior(
        {"weights": weights},
        {"lp": torch.zeros(2, 5)},
        model=br.LinearRegression(br.FlatPrior()),
        data=data,
        method="x",
    )
    kept = posterior.draws["weights"]
    assert (kept.dtype, kept.device.type, kept.requires_grad) == (torch.float64, "cpu", False)
    assert (posterior.num_chains, posterior.num_draws) == (2, 5)


@pytest.mark.parametrize(
    ("changes", "stats", "error", "words"),
    [
        ({"weights": torch.zeros(2, 50, 4)}, {}, ValueError, r"\(chain, draw, 3\), got shape \(2, 50, 4\)"),
        ({"weights": torch.zeros(2, 3)}, {}, ValueError, r"got shape \(2, 3\)"),
        ({"weights": torch.zeros(2, 0, 3)}, {}, ValueError, r"got shape \(2, 0, 3\)"),
        ({"intercept": torch.zeros(2, 49)}, {}, ValueError, r"\(2, 49\) for 'intercept'"),
        ({}, {"energy": torch.zeros(2, 50, 3)}, ValueError, r"\(2, 50, 3\) for 'energy'"),
        ({}, {"energy": np.zeros((2, 50))}, TypeError, r"sample_stats\['energy'\] must be a tensor, got ndarray"),
    ],
)
def test_misshapen_draws_are_refused(changes, stats, error, words):
    with pytest.raises(error, match=words):
        by_hand(design(), stats=stats, **changes)


def test_missing_pieces_are_refused():
    data, learned = design(), br.LinearRegression(br.FlatPrior(), dist.HalfNormal(1.0))
    with pytest.raises(ValueError, match=r"got nothing"):
        br.Posterior({}, {}, model=learned, data=data, method="x")
    with pytest.raises(ValueError, match="learned noise_scale"):
        br.Posterior({"weights": torch.zeros(1, 2, 3)}, {}, model=learned, data=data, method="x")
    with pytest.raises(TypeError, match=r"RegressionData or Moments, got ndarray"):
        br.Posterior({"weights": torch.zeros(1, 2, 3)}, {}, model=learned, data=data.features, method="x")


def test_repr_says_what_and_how():
    posterior = by_hand(design().standardized(), draws=1500)
    assert repr(posterior) == (
        "Posterior(weights (3), intercept: 2 chains x 1,500 draws by by hand; in the units of the data given)"
    )
    assert repr(posterior.original_units()).endswith("in original units)")


# --- the table


def test_summary_is_numpys_and_arvizs_in_full_digits():
    from arviz_interface import az

    posterior = by_hand(design(), draws=300, chains=4)
    table = posterior.summary(interval=0.8)
    assert table.columns.tolist() == [
        "mean", "sd", "eti_80%_lower", "eti_80%_upper", "ess_bulk", "ess_tail", "mcse_mean", "r_hat",
    ]  # fmt: skip
    assert table.index.tolist() == ["weights[age]", "weights[dose]", "weights[bmi]", "intercept"]
    for name, draws in [
        ("weights[dose]", posterior.draws["weights"][..., 1].numpy()),
        ("intercept", posterior.draws["intercept"].numpy()),
    ]:
        expected = {
            "mean": draws.mean(),
            "sd": np.sqrt(np.square(draws - draws.mean()).sum() / (draws.size - 1)),
            "eti_80%_lower": np.quantile(draws, 0.1),
            "eti_80%_upper": np.quantile(draws, 0.9),
            "ess_bulk": az.ess(draws, method="bulk"),
            "ess_tail": az.ess(draws, method="tail", prob=(0.05, 0.95)),
            "mcse_mean": draws.std(ddof=1) / np.sqrt(az.ess(draws, method="mean")),
            "r_hat": az.rhat(draws),
        }
        np.testing.assert_allclose(table.loc[name], [expected[column] for column in table], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("number", [20, 101])
@pytest.mark.parametrize("interval", [0.05, 0.5, 0.89, 0.999])
def test_hdi_is_the_narrowest_of_all_intervals_between_draws(number, interval):
    draws = np.random.default_rng(number).gamma(2.0, size=(number, 2))
    lower, upper = interval_bounds(draws, interval, "hdi")
    for column in range(2):
        ordered, steps = np.sort(draws[:, column]), int(interval * number)
        widths = {(ordered[i], ordered[i + steps]) for i in range(number - steps)}
        assert (lower[column], upper[column]) == min(widths, key=lambda bounds: bounds[1] - bounds[0])


def test_hdi_reaches_the_table_and_agrees_with_arviz():
    from arviz_interface import az

    posterior = by_hand(design(), draws=500)
    table = posterior.summary(0.9, "hdi")
    draws = posterior.draws["weights"][..., 0].numpy()
    assert table.loc["weights[age]", ["hdi_90%_lower", "hdi_90%_upper"]].tolist() == pytest.approx(
        np.ravel(az.hdi(draws.ravel(), prob=0.9)), rel=1e-12
    )
    assert table.loc["weights[age]", "hdi_90%_lower"] < posterior.summary(0.9).loc["weights[age]", "eti_90%_lower"]


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**40])  # powers of 2: R-hat breaks ties by the last bit
def test_diagnostics_do_not_depend_on_the_units(factor):
    posterior = by_hand(design(), draws=200)
    scaled = by_hand(design(), draws=200, weights=factor * posterior.draws["weights"])
    table, other = posterior.summary().iloc[:3], scaled.summary().iloc[:3]
    for column in ("ess_bulk", "ess_tail", "r_hat"):
        np.testing.assert_allclose(other[column], table[column], rtol=1e-9)
    np.testing.assert_allclose(other["mcse_mean"], factor * table["mcse_mean"], rtol=1e-9)


def test_correlated_draws_and_unmixed_chains_show():
    noise = np.random.default_rng(0).normal(size=(2, 1000))
    walk = np.zeros((2, 1000))
    for step in range(1, 1000):
        walk[:, step] = 0.9 * walk[:, step - 1] + noise[:, step]
    apart = walk + np.array([[0.0], [10.0]])
    data = design()
    weights = torch.from_numpy(np.stack([noise, walk, apart], axis=-1))
    table = by_hand(data, draws=1000, weights=weights).summary()
    ess = table["ess_bulk"]
    assert 1500 < ess.iloc[0] < 2500
    assert 50 < ess.iloc[1] < 250  # 2000 (1 - 0.9) / (1 + 0.9) = 105
    assert table["r_hat"].iloc[0] < 1.01 < 1.5 < table["r_hat"].iloc[2]


def test_what_cannot_be_diagnosed_is_nan():
    constant = by_hand(design(), weights=torch.ones(2, 50, 3)).summary()
    assert constant.loc["weights[age]", ["mean", "sd"]].tolist() == [1.0, 0.0]
    diagnostics = ["ess_bulk", "ess_tail", "mcse_mean", "r_hat"]
    assert (
        constant.loc["weights[age]", diagnostics].isna().all() and constant.loc["intercept", diagnostics].notna().all()
    )
    single = by_hand(design(), chains=1).summary()
    assert single["r_hat"].isna().all() and single[diagnostics[:3]].notna().all(axis=None)
    one = by_hand(design(), draws=1, chains=1).summary()
    assert one["mean"].notna().all() and one[["sd", *diagnostics]].isna().all(axis=None)


@pytest.mark.parametrize("interval", [0.0, 1.0, 94, -0.1, float("nan")])
def test_an_interval_outside_0_and_1_is_refused(interval):
    with pytest.raises(ValueError, match=rf"interval must lie between 0 and 1, got {interval}"):
        by_hand(design()).summary(interval)


def test_unknown_intervals_are_refused():
    with pytest.raises(ValueError, match=r"kind must be one of eti, hdi, got 'HPD'"):
        by_hand(design()).summary(kind="HPD")
    with pytest.raises(TypeError, match="interval must be a number"):
        by_hand(design()).summary("90%")


# --- predictions


def exact(model, data, draws=1000, chains=4, seed=0):
    return br.sample(model, data, method="exact", draws=draws, chains=chains, seed=seed)


def test_predictions_follow_the_closed_form():
    data = design(num_rows=12)
    scale, noise = np.array([3.0, 0.1, 40.0]), 0.9
    posterior = exact(br.LinearRegression(br.GaussianPrior(scale), noise), data, draws=5000)
    new = np.array([[0.5, -30.0, 0.1], [3.0, 2.0, 0.0]])
    # With a flat intercept: y | x is normal, from the augmented design [X, 1] with precision 0 for the intercept.
    augmented, wanted = (np.column_stack([rows, np.ones(len(rows))]) for rows in (data.features, new))
    precision = augmented.T @ augmented / noise**2 + np.diag(np.append(scale**-2.0, 0.0))
    mean = wanted @ np.linalg.solve(precision, augmented.T @ data.target / noise**2)
    sd = np.sqrt(noise**2 + np.einsum("ij,ij->i", wanted, np.linalg.solve(precision, wanted.T).T))
    draws = posterior.predict(new, seed=1)
    assert draws.shape == (4, 5000, 2) and draws.dtype == torch.float64
    pooled = draws.reshape(-1, 2).numpy()
    number = len(pooled)
    assert (np.abs(pooled.mean(axis=0) - mean) < 4.0 * sd / np.sqrt(number)).all()
    assert (np.abs(pooled.std(axis=0) / sd - 1.0) < 4.0 / np.sqrt(2 * number)).all()
    assert (
        sd > 1.1 * noise
    ).all()  # so that a prediction without the weights' spread, or without the noise, would show


def test_predictions_are_seeded_and_leave_the_global_stream_alone():
    posterior = by_hand(design())
    torch.manual_seed(5), np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (posterior.predict(np.ones((4, 3)), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_every_kind_of_features_gives_the_same_predictions():
    posterior = by_hand(design())
    rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expected = posterior.predict(rows)
    frame = pd.DataFrame(rows, columns=["age", "dose", "bmi"])[["bmi", "age", "dose"]]
    for same in (rows.tolist(), rows.astype(int), torch.tensor(rows, dtype=torch.float32), frame):
        assert torch.equal(posterior.predict(same), expected)


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        ([[1.0, 2.0]], ValueError, r"shape \(rows, 3\), got \(1, 2\)"),
        ([1.0, 2.0, 3.0], ValueError, r"shape \(rows, 3\), got \(3,\)"),
        ([[1.0, np.nan, 3.0]], ValueError, r"column 'dose', row 0"),
        ([["a", "b", "c"]], TypeError, "booleans, integers or floats"),
        (
            pd.DataFrame([[1.0, 2.0, 3.0]], columns=["age", "dose", "weight"]),
            ValueError,
            "missing: bmi, unknown: weight",
        ),
        (pd.DataFrame([[1.0] * 4], columns=["age", "dose", "bmi", "response"]), ValueError, "unknown: response"),
        (pd.DataFrame([[1.0] * 3], columns=["age", "age", "bmi"]), ValueError, "missing: dose, unknown: none"),
    ],
)
def test_wrong_features_are_refused(features, error, words):
    with pytest.raises(error, match=words):
        by_hand(design()).predict(features)


# --- thinning


@pytest.mark.parametrize(("most", "chains", "draws"), [(100, 2, 50), (99, 2, 49), (10, 2, 5), (3, 2, 1), (1, 1, 1)])
def test_thinning_keeps_evenly_spaced_draws(most, chains, draws):
    posterior = by_hand(design())
    thin = posterior.thin(most)
    assert (thin.num_chains, thin.num_draws) == (chains, draws)
    assert (thin is posterior) == (most >= 100)
    _, kept = thinning(posterior, most)
    assert set(np.diff(kept)) <= {50 // draws, -(-50 // draws)}
    assert torch.equal(thin.draws["weights"], posterior.draws["weights"][:chains, kept])
    assert torch.equal(thin.sample_stats["lp"], posterior.sample_stats["lp"][:chains, kept])


@pytest.mark.parametrize("most", [0, -1, 2.0, True, None])
def test_thinning_to_nothing_is_refused(most):
    with pytest.raises(ValueError, match=f"max_draws must be a whole number of at least 1, got {most}"):
        by_hand(design()).thin(most)


# --- units


def models_and_their_originals():
    """Models of standardized data, and how the same model reads in original units: from the scales of the transform."""
    for name, noise, noise_then in [
        ("known", 0.4, lambda s_y: 0.4 * s_y),
        ("learned", dist.HalfNormal(0.8), lambda s_y: dist.HalfNormal(torch.tensor(0.8 * s_y, dtype=torch.float64))),
        (
            "unmasked",
            dist.HalfNormal(0.8).mask(True),
            lambda s_y: dist.HalfNormal(torch.tensor(0.8 * s_y, dtype=torch.float64)),
        ),
        ("flat", dist.HalfNormal(1.0).mask(False), lambda s_y: dist.HalfNormal(1.0).mask(False)),
    ]:
        for relative in (False, True):
            prior = br.GaussianPrior(0.6, [0.2, -0.1, 0.0], relative)

            def prior_then(factor, s_y, relative=relative):
                scale = 0.6 * factor / (s_y if relative else 1.0)
                return br.GaussianPrior(scale, np.array([0.2, -0.1, 0.0]) * factor, relative)

            label = f"{name}-{'relative' if relative else 'absolute'}"
            yield pytest.param(prior, prior_then, noise, noise_then, id=label)
        yield pytest.param(br.FlatPrior(), lambda factor, s_y: br.FlatPrior(), noise, noise_then, id=f"{name}-flat")


@pytest.mark.parametrize(("prior", "prior_then", "noise", "noise_then"), list(models_and_their_originals()))
def test_original_units_are_the_posterior_of_the_original_problem(prior, prior_then, noise, noise_then):
    data = design()
    scaled = data.standardized()
    s_y = scaled.transform.target_scale
    model = br.LinearRegression(prior, noise)
    there = br.LinearRegression(prior_then(s_y / scaled.transform.feature_scales, s_y), noise_then(s_y))
    standard = exact(model, scaled, draws=20)
    original = standard.original_units()
    assert list(original.draws) == list(standard.draws)
    # The draws' log densities, from the fused target on the original rows, differ by one constant: the Jacobian.
    target, standard_target = there.target(data), model.target(scaled)
    lp = target.log_density(target.unconstrain(original.draws))
    standard_lp = standard_target.log_density(standard_target.unconstrain(standard.draws))
    difference = lp - standard_lp
    assert difference.max() - difference.min() < 1e-9 * standard_lp.abs().max()
    assert standard_lp.max() - standard_lp.min() > 1.0
    # ... and so do the evidences, by what the change of units does to densities.
    assert original.log_evidence == pytest.approx(exact(there, data, draws=1, chains=1).log_evidence, rel=1e-9)
    # The tree's log prior and log likelihood are those of the original problem, constants included.
    tree = original.to_datatree()
    if "log_prior" in tree.children:
        total = sum(values.values for values in tree["log_prior"].data_vars.values())
        np.testing.assert_allclose(total, there.log_prior(original.draws).numpy(), rtol=1e-9, atol=1e-9)
    else:
        assert (there.log_prior(original.draws) == 0.0).all()
    means = original.draws["weights"].numpy() @ data.features.T + original.draws["intercept"].numpy()[..., None]
    noise_scales = original.draws.get("noise_scale", torch.full((4, 20), 0.4 * s_y, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(original.noise_scales, noise_scales, rtol=1e-14)
    expected = scipy.stats.norm.logpdf(data.target, means, noise_scales[..., None])
    np.testing.assert_allclose(tree["log_likelihood"]["target"], expected, rtol=1e-9)


def test_original_predictions_are_the_standard_ones_taken_back():
    for data in (design(), design(offset=1e8), design(num_rows=2)):
        scaled = data.standardized()
        transform = scaled.transform
        new = data.features[:2] + 0.5 * transform.feature_scales
        for intercept in (True, False):
            model = br.LinearRegression(br.GaussianPrior(0.5), dist.LogNormal(-1.0, 0.3), intercept)
            standard = exact(model, scaled, draws=50)
            original = standard.original_units()
            expected = standard.predict(transform.apply_to_features(new), seed=4) * transform.target_scale
            expected += transform.target_mean + transform.target_remainder
            np.testing.assert_allclose(original.predict(new, seed=4), expected, rtol=1e-12)
            # The draws say the same fit: b + x'w, to the digits that an intercept of that size has.
            means = original.draws["weights"].numpy() @ new.T + original.draws["intercept"].numpy()[..., None]
            there = standard.draws["weights"].numpy() @ transform.apply_to_features(new).T
            there = there + standard.draws.get("intercept", torch.zeros(4, 50)).numpy()[..., None]
            there = transform.to_original_predictions(there)
            size = np.abs(original.draws["weights"].numpy() * new[0]).sum(-1).max()
            np.testing.assert_allclose(means, there, rtol=1e-10, atol=1e-14 * size)


def test_a_shared_prior_scale_becomes_one_a_feature():
    data = design()
    scaled = data.standardized()
    factor = torch.from_numpy(scaled.transform.target_scale / scaled.transform.feature_scales)
    for relative in (False, True):
        model = br.LinearRegression(
            br.GaussianPrior(dist.HalfNormal(1.0), relative_to_noise=relative), dist.HalfNormal(1.0)
        )
        standard = exact(model, scaled, draws=30)
        original = standard.original_units()
        # The prior of a weight, in units of its own scale, is the same number in both.
        ratios = []
        for posterior in (standard, original):
            scale = posterior.draws["prior_scale"].reshape(4, 30, -1)
            scale = scale * posterior.draws["noise_scale"][..., None] if relative else scale
            ratios.append(posterior.draws["weights"] / scale)
        np.testing.assert_allclose(ratios[1], ratios[0], rtol=1e-12)
        assert original.draws["prior_scale"].shape == (4, 30, 3)
        np.testing.assert_allclose(original.draws["weights"], standard.draws["weights"] * factor, rtol=1e-14)


def test_draws_that_were_not_standardized_have_no_other_units():
    with pytest.raises(ValueError, match="got draws whose units are those of the data given"):
        by_hand(design()).original_units()
    with pytest.raises(ValueError, match="whose units are original already"):
        by_hand(design().standardized()).original_units().original_units()


def test_thinning_an_original_posterior_keeps_both_units_together():
    thin = by_hand(design().standardized()).original_units().thin(10)
    assert thin.standardized.num_draws == thin.num_draws == 5
    for name, draws in thin.standardized.original_units().draws.items():
        assert torch.equal(draws, thin.draws[name])
