"""Pictures of the choice of lambda: the numbers given, what was chosen where it was chosen, names that keep apart."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from pictures import assert_apart, lines

import bayesreg as br
from bayesreg import plots
from bayesreg.plots.lambda_axis import DIRECTION
from bayesreg.selection.choosing import Choice, LambdaChoice

pytestmark = pytest.mark.usefixtures("nothing_else_changes")
STRENGTHS = np.geomspace(3.0, 0.003, 13)


def rows(seed=0, num_rows=40):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_rows, 5))
    return br.RegressionData(features, features @ [1.0, -1.0, 0.5, 0.0, 0.0] + generator.normal(size=num_rows))


def chosen(*choices, test=None, evidence=None):
    """What choose_lambda gives, the choices made by hand."""
    path, strengths = br.path(rows(), "l2", STRENGTHS), [choice.strength for choice in choices]
    return LambdaChoice(choices, path, br.path(rows(), "l2", strengths or [1.0]), test, evidence=evidence)


def dotted(ax):
    return sorted(line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":")


# --- losses


def test_losses_of_a_path():
    path, test = br.path(rows(), "l2", STRENGTHS[::-1]), rows(1)
    figure, ax = plt.subplots()
    assert plots.plot_losses(path, test, ax) is ax and plt.get_fignums() == [figure.number]
    loss = path.loss(test).numpy()
    np.testing.assert_array_equal(lines(ax, "train").get_xydata(), np.column_stack([path.lambdas, path.losses])[::-1])
    np.testing.assert_array_equal(lines(ax, "test").get_xydata(), np.column_stack([path.lambdas, loss])[::-1])
    best = loss.argmin()
    words = f"smallest test loss {loss[best]:.3g} at λ = {float(path.lambdas[best]):.3g}"
    assert [text.get_text() for text in ax.texts] == [words, "train", "test"]
    assert dotted(ax) == [float(path.lambdas[best])]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (DIRECTION, "mean of (y − ŷ)²/2") and ax.xaxis_inverted()
    alone = plots.plot_losses(path)
    assert [text.get_text() for text in alone.texts] == ["train"] and not dotted(alone)


def test_what_was_chosen_stands_at_the_loss_that_it_gets_with_its_name():
    test = rows(1)
    choices = (
        Choice("validation", STRENGTHS[6]),
        Choice("cv", STRENGTHS[6]),
        Choice("cv-1se", STRENGTHS[3]),
        Choice("evidence", 0.2, lower=0.05, upper=0.7),  # between two strengths of the path
        Choice("learned", 1e-5, lower=1e-6, upper=0.1),  # beyond the path
    )
    made = chosen(*choices, test=test)
    ax = plots.plot_losses(made)
    for choice in choices:
        (point,) = lines(ax, choice.method).get_xydata()
        loss = br.path(rows(), "l2", [choice.strength]).loss(test)
        np.testing.assert_allclose(point, [max(choice.strength, STRENGTHS[-1]), float(loss)], rtol=1e-12)
    texts = [text.get_text() for text in ax.texts]
    assert texts[:4] == ["cv-1se", "evidence", "validation, cv", "learned, λ = 1e-05"]
    assert texts[4:] == ["evidence: 90% interval", "learned: 90% interval", "train", "test"]
    assert dotted(ax) == sorted([STRENGTHS[3], 0.2, STRENGTHS[6], STRENGTHS[12]])
    assert sorted(lines(ax, "evidence: 90% interval").get_xdata()) == [0.05, 0.7]
    assert sorted(lines(ax, "learned: 90% interval").get_xdata()) == [STRENGTHS[12], 0.1]
    ax.figure.canvas.draw()
    for bar in (line for line in ax.lines if "interval" in line.get_label()):  # below every curve
        top = bar.get_window_extent().y1
        assert top < min(ax.transData.transform(lines(ax, name).get_xydata())[:, 1].min() for name in ("train", "test"))


def test_without_test_rows_a_choice_stands_on_the_train_loss_and_other_test_rows_win():
    made = chosen(Choice("cv", STRENGTHS[2]))
    assert lines(plots.plot_losses(made), "cv").get_ydata()[0] == pytest.approx(float(made.path.losses[2]), rel=1e-12)
    other = plots.plot_losses(chosen(Choice("cv", STRENGTHS[2]), test=rows(1)), rows(2))
    assert lines(other, "cv").get_ydata()[0] == pytest.approx(float(made.path.loss(rows(2))[2]), rel=1e-12)


@pytest.mark.parametrize("where", [0, 6, 12])
def test_names_of_six_methods_keep_apart(where):
    methods = ["validation", "cv", "cv-1se", "evidence", "loo", "learned"]
    near = STRENGTHS[where] * np.array([1.0, 1.05, 1.1, 1.2, 1.25, 1.3]) ** (1 if where else -1)
    made = chosen(*(Choice(*pair, lower=0.01, upper=1.0) for pair in zip(methods, near, strict=True)), test=rows(1))
    ax = plots.plot_losses(made)
    assert_apart(*ax.texts, ax.xaxis.label, ax.yaxis.label)
    for text in ax.texts[:6]:
        box = text.get_window_extent()
        assert box.x0 > 0 and box.x1 < ax.figure.bbox.x1 and box.y1 < ax.figure.bbox.y1


# --- arrays of losses


def test_loss_against_lambda_in_any_order():
    ax = plots.plot_loss_against_lambda([1.0, 0.01, 0.1], [3.0, 1.0, 2.0], [9.0, 8.0, 7.0])
    np.testing.assert_array_equal(lines(ax, "train").get_xydata(), [[1.0, 3.0], [0.1, 2.0], [0.01, 1.0]])
    np.testing.assert_array_equal(lines(ax, "test").get_ydata(), [9.0, 7.0, 8.0])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear") and ax.xaxis_inverted()
    assert [text.get_text() for text in ax.texts] == ["smallest test loss 7 at λ = 0.1", "train", "test"]


def test_a_lambda_of_zero_stands_apart():
    ax = plots.plot_loss_against_lambda([0.0, 0.01, 1.0], [0.001, 1.0, 3.0], [7.0, 8.0, 9.0])
    assert ax.lines[1].get_xdata()[0] < 0.01 and ax.lines[1].get_ydata().tolist() == [0.001]
    assert ax.get_xticklabels()[0].get_text() == "0" and ax.get_xticks()[0] == ax.lines[1].get_xdata()[0]
    assert ax.texts[0].get_text() == "smallest test loss 7 at λ = 0" and ax.get_yscale() == "log"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.1, -1.0], [1.0, 1.0], [1.0, 1.0]), "lambdas must be finite numbers of at least 0"),
        (([0.1, np.inf], [1.0, 1.0], [1.0, 1.0]), "lambdas must be finite numbers of at least 0"),
        (([0.0], [1.0], [1.0]), "one of them larger"),
        (([0.1, 1.0], [1.0], [1.0, 1.0]), r"train_loss must have shape \(2,\), got \(1,\)"),
        (([0.1, 1.0], [1.0, 2.0], [[1.0, 1.0]]), r"test_loss must have shape \(2,\), got \(1, 2\)"),
    ],
)
def test_wrong_losses_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        plots.plot_loss_against_lambda(*arguments)
    assert plt.get_fignums() == []


# --- cross-validation


def test_cross_validation_with_its_band_and_both_rules():
    found = br.cross_validate(rows(), "l2", STRENGTHS[::-1].copy(), folds=4)
    ax = plots.plot_cross_validation(found)
    np.testing.assert_array_equal(
        lines(ax, "held-out loss").get_xydata(), np.column_stack([found.lambdas, found.loss])[::-1]
    )
    corners = {tuple(corner) for corner in lines(ax, "± one standard error").get_paths()[0].vertices}
    for strength, loss, error in zip(
        *(v.tolist() for v in (found.lambdas, found.loss, found.standard_error)), strict=True
    ):
        assert {(strength, loss - error), (strength, loss + error)} <= corners
    strengths = [float(found.lambdas[index]) for index in (found.one_standard_error, found.best)]
    assert strengths[0] > strengths[1]
    words = [f"one standard error, λ = {strengths[0]:.3g}", f"minimum, λ = {strengths[1]:.3g}"]
    assert [text.get_text() for text in ax.texts] == [*words, "4 folds", "smallest + s.e."]
    assert dotted(ax) == sorted(strengths)
    (bound,) = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"}
    assert bound == float(found.loss[found.best] + found.standard_error[found.best])
    dots = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [(float(found.lambdas[i]), float(found.loss[i])) for i in (found.best, found.one_standard_error)]
    assert_apart(*ax.texts, ax.xaxis.label, ax.yaxis.label)


def test_cross_validation_of_a_strength_of_zero():
    found = br.cross_validate(rows(), "l2", [1.0, 0.1, 0.0], folds=4)
    ax = plots.plot_cross_validation(found)
    assert ax.get_xticklabels()[0].get_text() == "0"
    assert len(lines(ax, "held-out loss").get_xdata()) == 2


def test_leave_one_out_alone_and_beside_the_folds_of_a_choice():
    made = br.choose_lambda(rows(), "l2", ("cv", "loo"), STRENGTHS, folds=4)
    single = made.leave_one_out
    alone, both = plots.plot_cross_validation(single), plots.plot_cross_validation(made)
    best = f"λ = {float(single.lambdas[single.best]):.3g}"
    assert [text.get_text() for text in alone.texts] == [f"minimum, {best}", "leave-one-out"]
    assert {f"leave-one-out, {best}", "4 folds", "leave-one-out"} <= {text.get_text() for text in both.texts}
    for ax in (alone, both):
        line = lines(ax, "leave-one-out loss")
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([single.lambdas, single.loss]))
        (bar,) = [one for one in ax.collections if isinstance(one, LineCollection)]
        place, error = float(single.loss[single.best]), single.standard_error
        np.testing.assert_allclose(bar.get_segments()[0][:, 1], [place - error, place + error], rtol=1e-12)
        assert_apart(*ax.texts, ax.xaxis.label, ax.yaxis.label, ax._left_title)
    with pytest.raises(ValueError, match="found must be a choice by 'cv', 'cv-1se' or 'loo', got one by evidence"):
        plots.plot_cross_validation(chosen(Choice("evidence", 1.0)))


# --- evidence


def test_evidence_of_a_ridge_path():
    path = br.path(rows(), "l2", STRENGTHS, noise_scale=1.0)
    ax = plots.plot_evidence(path)
    expected = path.log_evidence - path.log_evidence.max()
    np.testing.assert_allclose(
        lines(ax, "log evidence").get_xydata(), np.column_stack([STRENGTHS, expected]), atol=1e-12
    )
    best = float(path.lambdas[path.log_evidence.argmax()])
    assert [text.get_text() for text in ax.texts] == [f"maximum, λ = {best:.3g}"] and dotted(ax) == [best]
    assert ax.get_ylabel() == "log evidence, less its maximum (nats)" and ax.get_legend() is None
    with pytest.raises(ValueError, match="log_evidence is known for kind='l2', got kind='l1'"):
        plots.plot_evidence(br.path(rows(), "l1", STRENGTHS))


def test_evidence_of_a_choice_with_its_error_and_interval():
    frame = pd.DataFrame({"lambda": STRENGTHS[::-1], "log_evidence": -(np.log(STRENGTHS[::-1] / STRENGTHS[5]) ** 2)})
    frame["standard_error"] = 0.25
    made = chosen(Choice("cv", 1.0), Choice("evidence", 0.18, lower=0.02, upper=0.5), evidence=frame)
    ax = plots.plot_evidence(made)
    np.testing.assert_array_equal(lines(ax, "log evidence").get_xydata(), frame[["lambda", "log_evidence"]][::-1])
    corners = {tuple(corner) for corner in lines(ax, "± one standard error").get_paths()[0].vertices}
    assert (STRENGTHS[5], -0.25) in corners and (STRENGTHS[5], 0.25) in corners
    (span,) = [patch for patch in ax.patches if patch.get_label() == "90% interval of λ"]
    ends = ax.transData.inverted().transform(span.get_window_extent().corners())[:, 0]
    np.testing.assert_allclose(np.unique(ends.round(9)), [0.02, 0.5], rtol=1e-6)
    assert ax.get_ylim()[0] == pytest.approx(1.08 * max(frame["log_evidence"].min(), -20.0))
    assert [text.get_text() for text in ax.texts] == ["maximum, λ = 0.18"] and dotted(ax) == [0.18]
    frame["standard_error"] = 0.0
    without = plots.plot_evidence(chosen(evidence=frame))
    assert not [one for one in without.collections if isinstance(one, PolyCollection)]


def test_evidence_of_a_choice_that_was_made_without_is_refused():
    with pytest.raises(ValueError, match="result must be a choice by 'evidence', or a path, got a choice by cv, loo"):
        plots.plot_evidence(chosen(Choice("cv", 1.0), Choice("loo", 1.0)))


def test_evidence_that_is_nowhere_finite_is_refused_and_far_below_is_cut():
    frame = pd.DataFrame({"lambda": [1.0, 0.1, 0.01], "log_evidence": [0.0, -1000.0, -np.inf], "standard_error": 0.0})
    ax = plots.plot_evidence(chosen(evidence=frame))
    np.testing.assert_array_equal(lines(ax, "log evidence").get_ydata(), [0.0, -1000.0])
    assert ax.get_ylim()[0] == pytest.approx(-21.6)
    with pytest.raises(ValueError, match="the evidence must be finite at some strength, got none"):
        plots.plot_evidence(chosen(evidence=frame[2:]))
