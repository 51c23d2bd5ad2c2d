"""Pictures: what they show is what they were given, on the axes they were given, and nothing else changes."""

import io
import itertools
import xml.etree.ElementTree as xml
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from matplotlib.collections import PolyCollection
from pictures import lines

import bayesreg as br
from bayesreg import plots
from bayesreg.commands import runs
from bayesreg.engines import ENGINES
from bayesreg.plots.parts import as_drawn
from bayesreg.posteriors.summary import interval_bounds

pytestmark = pytest.mark.usefixtures("nothing_else_changes")


def design(num_rows=30, num_features=3, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_rows, num_features)) * 2.0 + 1.0
    names = [f"feature [mg/l] {j}" for j in range(num_features)]
    target = 5.0 + features[:, 0] - features[:, -1] + generator.normal(size=num_rows)
    return br.RegressionData(features, target, names, "response")


def named(names, target="response"):
    rows = design(num_features=len(names))
    return br.RegressionData(rows.features, rows.target, names, target).standardized()


def by_hand(data, draws=60, chains=4, **stats):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn((chains, draws, data.num_features), generator=generator, dtype=torch.float64)
    weights = weights.exp() + torch.linspace(3.0, -3.0, data.num_features)
    scalars = torch.randn((2, chains, draws), generator=generator, dtype=torch.float64)
    return br.Posterior(
        {"weights": weights, "intercept": scalars[0], "noise_scale": scalars[1].exp()},
        {"lp": scalars[0], **stats} if chains > 1 else {},
        model=br.LinearRegression(br.GaussianPrior(1.0), dist.HalfNormal(1.0)),
        data=data,
        method="by hand",
    )


def drawings():
    data = design().standardized()
    posterior = by_hand(data)
    return {
        plots.plot_posterior_intervals: (posterior, np.zeros(3), np.ones(3)),
        plots.plot_map_against_fit: ([1.0, 2.0], [1.0, 2.5]),
        plots.plot_loss_against_lambda: ([0.1, 1.0], [1.0, 2.0], [3.0, 2.0]),
    }


@pytest.mark.parametrize("function", list(drawings()), ids=lambda function: function.__name__)
def test_axes_in_axes_out(function):
    arguments = drawings()[function]
    figure, ax = plt.subplots()
    assert function(*arguments, ax=ax) is ax
    assert plt.get_fignums() == [figure.number] and ax.has_data()
    own = function(*arguments)
    assert own is not ax and own.figure is not figure and own.get_xlabel() and own.get_ylabel() is not None


# --- names


def written(figure):
    """The texts of a figure as a viewer shows them, after any reading as TeX."""
    file = io.BytesIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    texts = xml.fromstring(file.getvalue()).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def with_names(data):
    """Every figure that shows names of columns."""
    posterior = by_hand(data)
    mode = br.map_estimate(br.LinearRegression(br.GaussianPrior(1.0), 1.0), data)
    drawn = plots.plot_diagnostics(posterior) | plots.plot_diagnostics(by_hand(data, chains=1))
    return {name: collection.get_viz("figure") for name, collection in drawn.items()} | {
        "intervals": plots.plot_posterior_intervals(posterior, mode).figure,
        "fit": plots.plot_map_against_fit(mode, mode.weights + torch.linspace(0.0, 0.1, data.num_features)).figure,
    }


def test_names_are_drawn_as_they_are():
    names = ["price_$,$^$,c", "cost in $ (US$)", r"$\foo$", "$x_1^2$ [µ]", r"\$ a/b", "plain"]
    target = r"rent in $^$ \$"
    figures = with_names(named(names, target))
    for axes in figures["trace"].axes:  # the last row can be a short one
        assert any(label.get_text() for label in axes.get_xticklabels()) or not axes.has_data()
    figures = {name: written(figure) for name, figure in figures.items()}
    for panels in ("rank", "trace"):
        assert {f"weights[{name}]" for name in names} <= set(figures[panels])
    assert set(names) <= set(figures["forest"]) and set(names) <= set(figures["intervals"])
    assert set(names) <= set(figures["fit"])
    assert "largest difference 0.1 (plain)" in figures["fit"]
    assert f"weight (sd of {target} per sd of the feature)" in figures["intervals"]
    assert f"{target} (standard units)" in figures["posterior_predictive"]


def test_long_names_leave_room_and_keep_apart():
    names = ["average_household_income_per_capita_usd", "share_of_population_over_65_years", "age"]
    names += [f"{'the_number_of_households_of_a_district_' * 3}{letter}" for letter in "xy"]
    for kind, figure in with_names(named(names, "t" * 90)).items():
        figure.canvas.draw()  # a layout that has no room warns
        main = max(figure.axes, key=lambda axes: axes.bbox.width)
        assert main.bbox.width > {"rank": 2.0, "trace": 2.0, "fit": 3.5}.get(kind, 5.0) * figure.dpi, kind
        texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
        for (first, box), (second, other) in itertools.combinations(boxes, 2):
            assert not box.overlaps(other), (kind, first, second)


def test_short_names_stay_and_cut_ones_are_distinct():
    assert as_drawn(["age", "x" * 40]) == ["age", "x" * 40]
    assert as_drawn(["abcdefghij", "abcdefghix"], 7) == ["abc…hij", "abc…hix"]
    assert as_drawn(["abcdefghij", "short", "abcdefXhij"], 7) == ["abcd…#1", "short", "abcd…#3"]
    awkward = ["abcd…#3", "abcdefghij", "abcdefXhij", "abcdeYYhij"]
    assert len(set(as_drawn(awkward, 7))) == 4
    many = [f"{'a' * 20}{j:05}{'b' * 20}" for j in range(2000)]
    assert len(set(as_drawn(many))) == 2000 and max(map(len, as_drawn(many))) <= 40


# --- posterior intervals


def test_intervals_by_name():
    data = design().standardized()
    posterior = by_hand(data)
    mode, fit = torch.tensor([0.5, -0.5, 1.5]), [0.25, 0.0, -1.0]
    ax = plots.plot_posterior_intervals(posterior, mode, fit, interval=0.8, kind="hdi")
    weights = posterior.draws["weights"].reshape(-1, 3).numpy()
    for label, share in (("80% highest-density interval", 0.8), ("50%", 0.5)):
        segments = np.array(lines(ax, label).get_segments())
        np.testing.assert_allclose(segments[:, :, 0].T, interval_bounds(weights, share, "hdi"), rtol=1e-12)
        np.testing.assert_array_equal(segments[:, :, 1], [[0, 0], [1, 1], [2, 2]])
    for label, expected in (("mean", weights.mean(axis=0)), ("MAP", mode), ("penalised fit", fit)):
        np.testing.assert_allclose(lines(ax, label).get_xdata(), expected, rtol=1e-12)
        np.testing.assert_array_equal(lines(ax, label).get_ydata(), [0, 1, 2])
    assert [label.get_text() for label in ax.get_yticklabels()] == list(data.feature_names)
    assert ax.yaxis_inverted() and ax.get_xlabel() == "weight (sd of response per sd of the feature)"
    assert ax.get_legend().get_texts()[0].get_text() == "80% highest-density interval"


def test_many_features_are_ordered_by_their_mean():
    posterior = by_hand(design(num_features=41))
    mode = np.arange(41.0)
    ax = plots.plot_posterior_intervals(posterior, mode)
    mean = posterior.draws["weights"].mean(dim=(0, 1)).numpy()
    order = np.argsort(mean)
    assert (np.diff(lines(ax, "mean").get_ydata()) >= 0).all()
    np.testing.assert_array_equal(lines(ax, "MAP").get_ydata(), mode[order])
    segments = np.array(lines(ax, "90% equal-tailed interval").get_segments())
    bounds = interval_bounds(posterior.draws["weights"].reshape(-1, 41).numpy(), 0.9, "eti")
    np.testing.assert_allclose(segments[:, :, 1].T, np.array(bounds)[:, order], rtol=1e-12)
    assert ax.get_ylabel() == "weight (response per unit of the feature)" and "41 features, ordered" in ax.get_xlabel()


def test_a_narrow_interval_stands_alone():
    ax = plots.plot_posterior_intervals(by_hand(design()), interval=0.5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["50% equal-tailed interval", "mean"]


def test_intervals_refuse_other_units_and_lengths():
    data = design().standardized()
    model = br.LinearRegression(br.GaussianPrior(1.0), 0.5)
    mode = br.map_estimate(model, data)
    posterior = by_hand(data)
    plots.plot_posterior_intervals(posterior, mode)
    plots.plot_posterior_intervals(posterior.original_units(), mode.original_units())
    with pytest.raises(
        ValueError, match="map_estimate must be in original units as what it is drawn with, got standard"
    ):
        plots.plot_posterior_intervals(posterior.original_units(), mode)
    with pytest.raises(ValueError, match="penalised must be in standard units as what it is drawn with, got original"):
        plots.plot_posterior_intervals(posterior, None, mode.original_units())
    with pytest.raises(ValueError, match=r"penalised must have shape \(3,\), got \(2,\)"):
        plots.plot_posterior_intervals(posterior, penalised=[1.0, 2.0])
    with pytest.raises(ValueError, match="interval must lie between 0 and 1, got 90"):
        plots.plot_posterior_intervals(posterior, interval=90)


# --- MAP against the fit


def test_map_against_fit_says_how_far_apart_they_are():
    mode, fit = np.array([0.0, 1.0, -2.0, 0.0]), np.array([0.0, 1.0, -2.25, 1e-3])
    ax = plots.plot_map_against_fit(mode, fit)
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), np.column_stack([mode, fit]))
    title = ax.get_title(loc="left").splitlines()
    assert title[1:] == ["largest difference 0.25 (w2)", "1 of 4 exactly 0 in both"]
    assert sorted(text.get_text() for text in ax.texts) == ["w0, w3", "w1", "w2"]  # points that touch share a label


def test_names_beside_near_points_keep_apart():
    mode = np.array([0.0, 0.021, 0.042, 0.063, 0.084, 1.0])
    ax = plots.plot_map_against_fit(mode, mode)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 6
    assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))


def test_a_label_that_many_points_share_stays_inside():
    names = [" ", *(f"average_share_of_population_{j}_years" for j in range(9))]
    mode = SimpleNamespace(weights=np.eye(10)[0], feature_names=names, transform=None)
    ax = plots.plot_map_against_fit(mode, mode)
    ax.figure.canvas.draw()
    assert any(text.get_text().endswith("…") for text in ax.texts)
    for text in ax.texts:
        box = text.get_window_extent()
        assert ax.bbox.contains(box.x0, box.y0) and ax.bbox.contains(box.x1, box.y1)


def test_map_against_fit_takes_results():
    data = design(num_features=20).standardized()
    mode = br.map_estimate(br.LinearRegression(br.LaplacePrior(0.1), 0.7), data)
    zeros = int((mode.weights == 0).sum())
    assert 0 < zeros < 20
    ax = plots.plot_map_against_fit(mode, mode)
    words = ["largest difference 0 (feature [mg/l] 0)", f"{zeros} of 20 exactly 0 in both"]
    assert ax.get_title(loc="left").splitlines()[1:] == words
    assert ax.get_xlabel() == "weight of the MAP (standard units)"
    original = mode.original_units()
    assert plots.plot_map_against_fit(original, original.weights).get_xlabel() == "weight of the MAP"
    with pytest.raises(ValueError, match="penalised must be in original units as what it is drawn with, got standard"):
        plots.plot_map_against_fit(original, mode)
    with pytest.raises(ValueError, match=r"penalised must have shape \(20,\), got \(3,\)"):
        plots.plot_map_against_fit(mode, [1.0, 2.0, 3.0])


# --- prior and penalty


@pytest.mark.parametrize(
    "prior",
    [
        br.GaussianPrior(0.5),
        br.LaplacePrior(0.5),
        br.GaussianPrior(0.02, loc=-3.0, relative_to_noise=True),
        br.LaplacePrior(4.0, loc=0.7, relative_to_noise=True),
        br.ElasticNetPrior(0.5, 0.4, loc=-0.2, relative_to_noise=True),
    ],
    ids=repr,
)
def test_the_penalty_is_the_density_upside_down(prior):
    left, right = plots.plot_prior_and_penalty(prior, noise_scale=0.6, num_rows=50)
    weights, density = left.lines[0].get_data()
    inside = (density[:-1] + density[1:]) @ np.diff(weights) / 2.0
    # An elastic net's scale is its standard deviation: four of them hold more than four scales of a Laplace density.
    share = {"gaussian": 1 - 6.3e-5, "laplace": 1 - np.exp(-4), "elasticnet": 1 - 1e-3}[prior.kind]
    assert inside == pytest.approx(share, rel=1e-3)
    assert weights[np.argmax(density)] == pytest.approx(prior.loc)
    line, dots = right.lines
    # Two roads to the same curve: the dictionary's lambda, and the logarithm of the density.
    np.testing.assert_allclose(np.interp(dots.get_xdata(), *line.get_data()), dots.get_ydata(), rtol=1e-9, atol=1e-15)
    assert dots.get_ydata().max() > 1e-4
    terms = {"gaussian": ["λ = s²/(nt²)"], "laplace": ["λ = s²/(nb)"]}
    for term in terms.get(prior.kind, ["λ₂ = s²/(nt²)", "λ₁ = s²/(nb)"]):
        assert term in right.get_title(loc="left")


def test_prior_and_penalty_fill_the_axes_given():
    figure, axes = plt.subplots(1, 2)
    drawn = plots.plot_prior_and_penalty(br.GaussianPrior(1.0), axes, noise_scale=1.0, num_rows=10)
    assert drawn.tolist() == axes.tolist() and plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    "prior",
    [
        br.FlatPrior(),
        br.GaussianPrior([1.0, 2.0]),
        br.LaplacePrior(dist.HalfNormal(1.0)),
        br.GaussianPrior(1.0, [0, 1]),
        br.ElasticNetPrior(1.0, [1.0, 2.0]),
    ],
)
def test_prior_and_penalty_need_one_known_scale(prior):
    with pytest.raises(
        ValueError, match="prior must be a GaussianPrior, LaplacePrior or ElasticNetPrior of one known scale"
    ):
        plots.plot_prior_and_penalty(prior, noise_scale=1.0, num_rows=10)
    with pytest.raises(ValueError, match="ax must be two axes"):
        plots.plot_prior_and_penalty(br.GaussianPrior(1.0), plt.figure().subplots(), noise_scale=1.0, num_rows=10)


# --- names at the ends of lines


def test_names_at_line_ends_keep_apart():
    for ends in ([1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0], [5.0, 5.0]):
        ax = plots.plot_loss_against_lambda([1.0, 0.1], [0.0, ends[0]], [0.0, ends[1]])
        ax.figure.canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts[1:]]
        assert not boxes[0].overlaps(boxes[1])


def test_names_at_line_ends_follow_shared_limits():
    _, axes = plt.subplots(1, 2, sharey=True)
    plots.plot_loss_against_lambda([1.0, 0.1], [1.0, 2.0], [3.0, 2.1], ax=axes[0])
    plots.plot_loss_against_lambda([1.0, 0.1], [0.01, 500.0], [1000.0, 800.0], ax=axes[1])
    axes[0].figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes[0].texts[1:]]
    end = axes[0].transData.transform((0.1, 2.05))[1]
    assert np.mean([(box.y0 + box.y1) / 2 for box in boxes]) == pytest.approx(end, abs=3)
    assert not boxes[0].overlaps(boxes[1])
    axes[0].set_ylim(0.5, 1.5)  # the lines end above what is shown: their names stay at the edge
    assert axes[0].texts[2].get_window_extent().y0 == pytest.approx(axes[0].bbox.y1, abs=20)


# --- diagnostics


@pytest.mark.parametrize(
    ("posterior", "names"),
    [
        (lambda: by_hand(design()), ["rank", "forest", "posterior_predictive"]),
        (
            lambda: by_hand(design(), energy=torch.rand(4, 60).double()),
            ["rank", "forest", "energy", "posterior_predictive"],
        ),
        (lambda: by_hand(design(), chains=1, draws=500), ["trace", "forest", "posterior_predictive"]),
        (lambda: by_hand(br.Moments.from_data(design())), ["rank", "forest"]),
        (
            lambda: by_hand(design(num_rows=2).standardized()).original_units(),
            ["rank", "forest", "posterior_predictive"],
        ),
        # A target of 0 and 1, of which ArviZ warns; no warning may come out.
        (
            lambda: by_hand(br.RegressionData(design().features, design().target > 0)),
            ["rank", "forest", "posterior_predictive"],
        ),
        # Neither may one come out of a target that is the same in all rows.
        (
            lambda: by_hand(br.RegressionData(design().features, np.full(30, 7.0))),
            ["rank", "forest", "posterior_predictive"],
        ),
        (
            lambda: by_hand(br.RegressionData(design().features, 1e8 + 1e-8 * (np.arange(30) % 3))),
            ["rank", "forest", "posterior_predictive"],
        ),
        (lambda: by_hand(design(num_features=45), chains=8, draws=260), ["rank", "forest", "posterior_predictive"]),
    ],
    ids=[
        "rows",
        "energy",
        "one chain without statistics",
        "moments",
        "two rows",
        "binary",
        "constant",
        "all but constant",
        "many",
    ],
)
def test_diagnostics(posterior, names):
    posterior = posterior()
    drawn = plots.plot_diagnostics(posterior)
    assert list(drawn) == names
    figures = {name: collection.get_viz("figure") for name, collection in drawn.items()}
    panels = [axes for axes in figures[names[0]].axes if axes.has_data()]
    assert len(panels) == min(12, posterior.data.num_features + 2)
    d = posterior.data.num_features
    which = "the 40 weights farthest from 0" if d > 40 else "each weight"
    title = f"Posterior of {which}: mean, 50% and 90% equal-tailed interval"
    assert figures["forest"].get_suptitle() == title
    assert figures["forest"].axes[-1].get_xlabel().startswith(f"weight ({'sd of ' * bool(posterior.transform)}")
    beside, intervals = figures["forest"].axes
    assert not beside.axison and intervals.get_ylim()[0] < intervals.dataLim.y0 - 0.4
    texts = {text.get_text() for axes in figures["forest"].axes for text in axes.texts}
    weights = posterior.draws["weights"].reshape(-1, d)
    farthest = (weights.mean(dim=0).abs() / weights.std(dim=0)).argsort(descending=True)[:40]
    assert texts == {posterior.data.feature_names[j] for j in farthest}
    if "rank" in figures:
        shown = [text.get_text() for text in figures["rank"].legends[0].get_texts()]
        assert shown == [f"chain {chain}" for chain in range(0, posterior.num_chains, 2 if d > 40 else 1)]
        colors = [line.get_color() for line in figures["rank"].legends[0].get_lines()]
        assert [line.get_color() for line in panels[0].lines[: len(shown)]] == colors and len(set(colors)) == len(shown)
        banded = any(isinstance(band, PolyCollection) for band in panels[0].collections)
        assert ("grey band" if banded else "a small p") in figures["rank"].get_suptitle()
    if "energy" in figures:
        assert all(float(tick).is_integer() for tick in figures["energy"].axes[0].get_yticks())
        assert all(axes.get_xlabel() for axes in figures["energy"].axes)
    if "posterior_predictive" in figures:
        assert figures["posterior_predictive"].axes[0].get_xlabel() == posterior.data.target_name
        axes = figures["posterior_predictive"].axes[0]
        assert "predicted by 50 draws" in axes.get_title()
        black = [line for line in axes.lines if matplotlib.colors.to_hex(line.get_color()) == "#000000"]
        seen = np.ptp(np.concatenate([line.get_ydata() for line in black]))
        assert seen > 0 and ("Densities" in axes.get_title()) == (
            np.ptp(posterior.data.target) > 1e-6 and posterior.data.num_rows >= 20
        )


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("chains", [1, 4])
def test_diagnostics_of_too_few_draws_leave_out_what_would_show_nothing(chains, draws):
    posterior = by_hand(design(), draws=draws, chains=chains)
    posterior.sample_stats["energy"] = torch.rand(chains, draws).double()
    assert list(plots.plot_diagnostics(posterior)) == ["forest", "posterior_predictive"]


def test_more_chains_than_draws_are_no_confusion_of_dimensions():
    posterior = by_hand(design(), draws=5, chains=9, energy=torch.rand(9, 5).double())
    assert list(plots.plot_diagnostics(posterior)) == ["rank", "forest", "energy", "posterior_predictive"]


@pytest.mark.parametrize("method", ENGINES)
def test_a_demonstration_shows_diagnostics_of_chains_only(method, monkeypatch, tmp_path):
    posterior = SimpleNamespace(method=method, data=SimpleNamespace(num_rows=3))
    comparison = SimpleNamespace(estimate=SimpleNamespace(noise_scale=1.0))
    prior, sampled = SimpleNamespace(kind="laplace"), SimpleNamespace(posterior=posterior)
    part = SimpleNamespace(comparison=comparison, penalised_fit=None, sampled=sampled, prior=prior)
    shown = []
    monkeypatch.setattr(runs, "_write_figures", lambda folder, sampled, figures, name: shown.extend(figures))
    runs._draw_demonstration(tmp_path, part)
    assert ("diagnostics" in shown) == (method in {"gibbs", "hmc", "nuts", "pyro-nuts"})
