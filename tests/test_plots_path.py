"""The picture of a path: the weights, bands and axes given, names that keep apart at 10 and at 200 features."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from pictures import assert_apart, lines

import bayesreg as br
from bayesreg import plots
from bayesreg.plots.lambda_axis import DIRECTION
from bayesreg.plots.parts import OKABE_ITO, ink

pytestmark = pytest.mark.usefixtures("nothing_else_changes")


def rows(num_features=10, num_rows=40, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_rows, num_features))
    weights = np.linspace(2.0, -2.0, num_features) ** 3
    target = features @ weights + generator.normal(size=num_rows)
    return br.RegressionData(features, target, [f"column {j}" for j in range(num_features)], "response")


def posterior_of(path, lambdas, noise_scale=None, num_features=None, relative=False):
    """Something like a posterior path: at these lambdas, or with None, at the prior scales of the path."""
    d = num_features or len(path.feature_names)
    scales = torch.tensor([0.3, 0.1, 0.6]).double()
    if lambdas is not None:
        lambdas, n = torch.tensor(lambdas).double(), path.num_rows
        scales = noise_scale / (n * lambdas).sqrt() if path.kind == "l2" else noise_scale**2 / (n * lambdas)
        scales = scales / noise_scale if relative else scales
    mean = torch.linspace(-1.0, 1.0, len(scales) * d).double().reshape(len(scales), d)
    found = {"prior_scales": scales, "lambdas": lambdas, "mean": mean, "lower": mean - 0.25, "upper": mean + 0.5}
    found["relative_to_noise"] = relative
    names = path.feature_names if num_features is None else tuple(f"w{j}" for j in range(d))
    return SimpleNamespace(kind=path.kind, transform=path.transform, interval=0.8, feature_names=names, **found)


def tops(ax):
    """The rows on top of the axes: label, places and words of each."""
    return {
        top.get_xlabel(): dict(zip(top.get_xticks(), [t.get_text() for t in top.get_xticklabels()], strict=True))
        for top in ax.child_axes
    }


@pytest.mark.parametrize("kind", ["l1", "l2", "elasticnet"])
def test_every_weight_along_the_axis_with_its_name_at_its_end(kind):
    path = br.path(rows(), kind, np.geomspace(0.01, 3.0, 20), noise_scale=1.0)  # in rising order
    figure, ax = plt.subplots()
    assert plots.plot_path(path, ax=ax) is ax and plt.get_fignums() == [figure.number]
    for j, name in enumerate(path.feature_names):
        line = lines(ax, name)
        np.testing.assert_array_equal(line.get_xdata(), path.lambdas.numpy()[::-1])
        np.testing.assert_array_equal(line.get_ydata(), path.weights.numpy()[::-1, j])
    assert {text.get_text(): text.xy[1] for text in ax.texts} == dict(
        zip(path.feature_names, path.weights.numpy()[0], strict=True)
    )
    colors = {text.get_text(): text.get_color() for text in ax.texts}
    for name, color in colors.items():
        np.testing.assert_array_equal(ink(lines(ax, name).get_color()), color)
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.lines if line.get_label() in path.feature_names}
    assert len(styles) == 10 and {color for color, _ in styles} == set(OKABE_ITO)
    assert ax.get_xscale() == "log" and ax.xaxis_inverted() and ax.get_xlabel() == DIRECTION
    assert ax.get_ylabel() == "weight (response per unit of the feature)"


@pytest.mark.parametrize("size", [10, 200])
@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_labels_keep_apart(kind, size):
    path = br.path(rows(size), kind, noise_scale=1.0)
    ax = plots.plot_path(path, posterior_of(path, [0.1, 0.3, 0.5], 1.0))
    texts = list(ax.texts)
    for axis, limits in ((ax.yaxis, ax.get_ylim()), *((one.xaxis, one.get_xlim()) for one in (ax, *ax.child_axes))):
        shown = [min(limits) <= tick <= max(limits) for tick in axis.get_ticklocs()]
        texts += [axis.label, *np.array(axis.get_ticklabels())[shown]]
    assert_apart(*texts)
    assert ax.bbox.width > 4.5 * ax.figure.dpi and ax.bbox.height > 3.0 * ax.figure.dpi


def test_of_many_features_the_largest_have_names_and_the_others_are_grey():
    path = br.path(rows(200), "l1")
    ax = plots.plot_path(path)
    size = path.weights.abs().amax(0)
    largest = size.argsort(descending=True, stable=True)
    assert [text.get_text() for text in ax.texts] == [path.feature_names[j] for j in largest[:6]]
    (grey,) = [one for one in ax.collections if isinstance(one, LineCollection)]
    assert len(grey.get_segments()) == 194
    for j, segment in zip(largest[6:], grey.get_segments(), strict=True):
        np.testing.assert_array_equal(segment, np.column_stack([path.lambdas, path.weights[:, j]]))
    low, high = ax.get_ylim()
    assert low < float(path.weights.min()) and high > float(path.weights.max())


@pytest.mark.parametrize("kind", ["l1", "l2", "elasticnet"])
def test_on_top_stand_the_prior_scale_and_the_number_of_weights(kind):
    data = rows(num_rows=50)
    path = br.path(data, kind, np.geomspace(3.0, 0.01, 9), noise_scale=0.5)
    found = tops(plots.plot_path(path))
    (scale_label, scales), (label, counts) = found.items()
    assert scale_label.startswith("prior scale ") and scale_label.endswith("s = 0.5") and len(scales) >= 2
    for strength, words in scales.items():
        fit = br.path(data, kind, [strength], noise_scale=0.5)
        assert float(words) == pytest.approx(float(fit.prior_scales.reshape(-1)[-1]), rel=1e-9)
    expected = path.degrees_of_freedom if kind == "l2" else path.num_nonzero
    assert label == ("effective degrees of freedom" if kind == "l2" else "weights that are not 0")
    assert len(counts) >= 3 and len(set(counts.values())) > 1
    for strength, words in counts.items():
        (index,) = np.flatnonzero(path.lambdas == strength)
        assert words == (f"{expected[index]:.0f}" if expected[index] >= 10 else f"{float(expected[index]):.2g}")


def test_without_a_noise_scale_there_is_no_prior_scale():
    exact = br.RegressionData(np.eye(4)[:, :2], [1.0, 2.0, 0.0, 0.0])  # fits exactly without an intercept
    path = br.path(exact, "l1", [0.1, 0.01], intercept=False)
    with pytest.raises(ValueError, match="noise_scale"):
        path.noise_scale  # noqa: B018
    assert list(tops(plots.plot_path(path))) == ["weights that are not 0"]


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_bands_of_the_largest_weights_as_far_as_the_path_goes(kind):
    path = br.path(rows(), kind, np.geomspace(1.0, 0.01, 9), noise_scale=1.0)
    # At another noise scale than the path's, in any order, one point beyond the path.
    posterior = posterior_of(path, [0.02, 5.0, 0.5, 0.1], noise_scale=2.0)
    ax = plots.plot_path(path, posterior, num_bands=2)
    bands = [one for one in ax.collections if isinstance(one, PolyCollection)]
    largest = path.weights.abs().amax(0).argsort(descending=True, stable=True)[:2]
    assert len(bands) == 2
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    for j, band, mean in zip(largest, bands, dotted, strict=True):
        assert to_hex(band.get_facecolor()[0]) == lines(ax, path.feature_names[j]).get_color().lower()
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
        for index in (0, 2, 3):
            strength = float(posterior.lambdas[index])
            assert {
                (strength, float(posterior.lower[index, j])),
                (strength, float(posterior.upper[index, j])),
            } <= corners
        assert max(place for place, _ in corners) == 0.5
        expected = np.column_stack([posterior.lambdas, posterior.mean[:, j]])[[0, 3, 2]]
        np.testing.assert_array_equal(mean.get_xydata(), expected)
    title = " ".join(ax.get_title(loc="left").split())
    assert title == (
        f"MAP of each weight along the {kind} path, posterior mean (dotted) and 80% equal-tailed interval (band)"
    )
    # On top the scales of the posterior that is shown.
    (label, scales), _ = tops(ax).items()
    assert label.endswith("s = 2")
    strength, text = next(iter(scales.items()))
    expected = 2.0 / np.sqrt(40 * strength) if kind == "l2" else 4.0 / (40 * strength)
    assert float(text) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_a_posterior_with_learned_noise_stands_at_its_prior_scales(kind):
    path = br.path(rows(), kind, np.geomspace(30.0, 1e-4, 9), noise_scale=1.5)
    posterior = posterior_of(path, None)
    ax = plots.plot_path(path, posterior, num_bands=1)
    (mean,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    power = 2 if kind == "l2" else 1
    expected = 1.5**2 / (40 * posterior.prior_scales.numpy() ** power)
    np.testing.assert_allclose(mean.get_xdata(), np.sort(expected), rtol=1e-12)


def test_the_mode_of_a_posterior_path_lies_on_the_path():
    data = rows()
    path = br.path(data, "l2", np.geomspace(10.0, 0.01, 30), noise_scale=1.5)
    posterior = br.posterior_path(data, "l2", np.geomspace(10.0, 0.01, 4), noise_scale=1.5)
    ax = plots.plot_path(path, posterior, num_bands=1)
    (mean,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    line = lines(ax, path.feature_names[int(path.weights.abs().amax(0).argmax())])
    at = np.interp(np.log(mean.get_xdata()), np.log(line.get_xdata()[::-1]), line.get_ydata()[::-1])
    np.testing.assert_allclose(mean.get_ydata(), at, rtol=1e-2)  # the path is drawn in straight pieces


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_above_a_posterior_relative_to_the_noise_stand_scales_in_its_units(kind):
    path = br.path(rows(), kind, np.geomspace(1.0, 0.01, 9), noise_scale=1.5)
    ax = plots.plot_path(path, posterior_of(path, [0.02, 0.5], noise_scale=2.0, relative=True))
    (label, scales), _ = tops(ax).items()
    formula = "t/s = 1/√(nλ)" if kind == "l2" else "b/s = s/(nλ), s = 2"  # that of the posterior, where it is needed
    assert " ".join(label.split()) == f"prior scale in noise scales, {formula}"
    assert len(scales) >= 2
    for strength, text in scales.items():
        expected = 1.0 / np.sqrt(40 * strength) if kind == "l2" else 2.0 / (40 * strength)
        assert float(text) == pytest.approx(expected, rel=1e-9)


def test_relative_to_learned_noise_a_gaussian_posterior_stands_at_its_lambdas_on_the_path():
    data, lambdas = rows(), np.geomspace(10.0, 0.01, 4)
    path = br.path(data, "l2", lambdas)
    posterior = br.posterior_path(data, "l2", lambdas, noise_scale=dist.HalfNormal(3.0), relative_to_noise=True)
    ax = plots.plot_path(path, posterior, num_bands=1)
    (mean,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    line = lines(ax, path.feature_names[int(path.weights.abs().amax(0).argmax())])
    np.testing.assert_allclose(mean.get_xydata(), line.get_xydata()[::-1], rtol=1e-9)


def test_relative_to_learned_noise_a_laplace_posterior_stands_at_its_prior_scales():
    path = br.path(rows(), "l1", np.geomspace(30.0, 1e-4, 9), noise_scale=1.5)
    posterior = posterior_of(path, None, relative=True)
    ax = plots.plot_path(path, posterior, num_bands=1)
    (mean,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(mean.get_xdata(), np.sort(1.5 / (40 * posterior.prior_scales.numpy())), rtol=1e-12)
    label = " ".join(next(iter(tops(ax))).split())
    assert label == "prior scale in noise scales, b/s = s/(nλ), s = 1.5"


def test_a_strength_of_zero_stands_apart():
    path = br.path(rows(), "l2", [0.0, 1.0, 0.1], noise_scale=1.0)
    ax = plots.plot_path(path)
    dots = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert sorted(float(dot.get_ydata()[0]) for dot in dots) == sorted(path.weights[0].tolist())
    assert {float(dot.get_xdata()[0]) for dot in dots} == {0.1 / 4}
    assert ax.get_xticklabels()[0].get_text() == "0" and ax.get_xticks()[0] == 0.1 / 4
    label, counts = list(tops(ax).items())[1]
    assert counts[0.1 / 4] == "10" and label == "effective degrees of freedom"


def test_units_are_those_of_the_path():
    path = br.path(rows().standardized(), "l2", [1.0, 0.1], noise_scale=1.0)
    assert plots.plot_path(path).get_ylabel() == "weight (sd of response per sd of the feature)"
    original = path.original_units()
    ax = plots.plot_path(original)
    assert ax.get_ylabel() == "weight (response per unit of the feature)"
    np.testing.assert_array_equal(lines(ax, "column 0").get_ydata(), original.weights[:, 0])


def test_a_posterior_of_something_else_is_refused():
    path = br.path(rows(), "l1", [1.0, 0.1], noise_scale=1.0)
    ridge = br.path(rows(), "l2", [1.0, 0.1], noise_scale=1.0)
    with pytest.raises(ValueError, match="posterior must be of the path's kind and features, 'l1' .* got 'l2'"):
        plots.plot_path(path, posterior_of(ridge, [0.5], 1.0))
    with pytest.raises(ValueError, match="got 'l1' and 3 of other names"):
        plots.plot_path(path, posterior_of(path, [0.5], 1.0, num_features=3))
    with pytest.raises(ValueError, match="posterior must have a point between lambda 0.1 and 1"):
        plots.plot_path(path, posterior_of(path, [7.0], 1.0))
    assert plt.get_fignums() == []
