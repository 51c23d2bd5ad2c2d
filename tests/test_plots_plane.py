"""The plane of two weights: contours that touch at the MAP, the trajectories given, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.contour import ContourSet

import bayesreg as br
from bayesreg import plots

pytestmark = pytest.mark.usefixtures("nothing_else_changes")
KINDS = {"l1": br.L1(0.2), "l2": br.L2(0.4), "elasticnet": br.Penalty(l1=0.2, l2=0.2)}


def rows(num_features=2):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, num_features))
    target = features[:, 0] + 0.6 * features[:, -1] + generator.normal(size=40)
    return br.RegressionData(features, target, [f"column {j}" for j in range(num_features)], "response")


def mode_of(kind, strength=0.4):
    return br.path(rows(), kind, [strength]).weights[0].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_through_the_map_goes_a_contour_of_each_and_it_is_the_thick_one(kind):
    mode, penalty = mode_of(kind, 0.2 if kind == "l1" else 0.4), KINDS[kind]
    ax = plots.plot_weight_plane(rows(), penalty, mode)
    contours = [one for one in ax.collections if isinstance(one, ContourSet)]
    assert len(contours) == 2
    data = rows()
    centred = data.features - data.features.mean(axis=0), data.target - data.target.mean()
    for drawn, value in zip(
        contours,
        (
            np.square(centred[1] - centred[0] @ mode).mean() / 2,
            penalty.l1 * np.abs(mode).sum() + penalty.l2 * np.square(mode).sum() / 2,
        ),
        strict=True,
    ):
        thick = int(np.argmax(drawn.get_linewidths()))
        assert drawn.levels[thick] == pytest.approx(value, rel=1e-9)
        path = drawn.get_paths()[thick].vertices
        assert np.linalg.norm(path - mode, axis=1).min() < 0.02
    assert "at the MAP their thick contours touch" in " ".join(ax.get_legend().get_title().get_text().split())


def test_trajectories_are_those_given_as_weights_or_as_runs():
    data, penalty, mode = rows(), KINDS["l2"], mode_of("l2")
    runs = [br.train(data, penalty, epochs) for epochs in range(3)]
    figure, ax = plt.subplots()
    assert plots.plot_weight_plane(data, penalty, mode, [runs, [[1.0, 2.0], mode]], ax) is ax
    assert plt.get_fignums() == [figure.number]
    shown = [line.get_xydata() for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) > 1]
    np.testing.assert_array_equal(shown[0], [run.weights.tolist() for run in runs])
    np.testing.assert_array_equal(shown[1], [[1.0, 2.0], mode])
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), [mode])
    for points in shown:
        assert (points.min(axis=0) > [ax.get_xlim()[0], ax.get_ylim()[0]]).all()
        assert (points.max(axis=0) < [ax.get_xlim()[1], ax.get_ylim()[1]]).all()
    assert " ".join(ax.get_xlabel().split()) == "weight of column 0 (response per unit of the feature)"


def test_a_map_at_the_centre_says_so():
    ax = plots.plot_weight_plane(rows(), br.L1(50.0), [0.0, 0.0])
    assert ax.get_legend().get_title().get_text().endswith("at the MAP the penalty is least")


def test_what_is_no_plane_is_refused():
    with pytest.raises(ValueError, match="data must have two features, got 3"):
        plots.plot_weight_plane(rows(3), br.L2(1.0), [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="penalty must have a strength above 0, got none"):
        plots.plot_weight_plane(rows(), br.Penalty(), [0.0, 0.0])
    with pytest.raises(ValueError, match=r"map_estimate must have shape \(2,\), got \(3,\)"):
        plots.plot_weight_plane(rows(), br.L2(1.0), [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"trajectories must have shape \(2,\), got \(1,\)"):
        plots.plot_weight_plane(rows(), br.L2(1.0), [0.0, 0.0], [[[1.0]]])
    model = br.LinearRegression(br.GaussianPrior(1.0), 1.0)
    with pytest.raises(ValueError, match="map_estimate must be in original units"):
        plots.plot_weight_plane(rows(), br.L2(1.0), br.map_estimate(model, rows().standardized()))
    assert plt.get_fignums() == []
