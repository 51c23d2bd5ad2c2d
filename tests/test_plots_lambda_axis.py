"""The axis of lambda: places from strong to weak, zero apart, round numbers, names that keep apart."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pictures import assert_apart

from bayesreg.plots.lambda_axis import LambdaAxis, mark_lambdas, round_values

pytestmark = pytest.mark.usefixtures("nothing_else_changes")


def test_places_go_from_strong_to_weak_and_zero_stands_apart():
    axis = LambdaAxis.of(np.array([0.1, 0.0, 10.0]))
    assert axis.order.tolist() == [2, 0, 1] and axis.lambdas.tolist() == [10.0, 0.1, 0.0]
    assert axis.place.tolist() == [10.0, 0.1, 0.025] and axis.positive.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("lambdas", "strength", "place"),
    [
        ([10.0, 0.1], 1.0, 1.0),
        ([10.0, 0.1], 100.0, 10.0),
        ([10.0, 0.1], np.inf, 10.0),
        ([10.0, 0.1], 1e-9, 0.1),
        ([10.0, 0.1, 0.0], 1e-9, 0.1),  # positive, so not where zero stands
        ([10.0, 0.1, 0.0], 0.0, 0.025),
    ],
)
def test_a_strength_beyond_the_axis_stands_at_its_end(lambdas, strength, place):
    assert LambdaAxis.of(np.array(lambdas)).at(strength) == place


def test_an_axis_of_one_strength_has_room_to_both_sides():
    _, ax = plt.subplots()
    LambdaAxis.of(np.array([0.3])).draw(ax)
    left, right = ax.get_xlim()
    assert left > 0.3 > right > 0


@pytest.mark.parametrize(("low", "high"), [(0.011, 0.9), (0.3, 4000.0), (2e-7, 30.0), (1.1, 40.0)])
def test_few_round_values_inside(low, high):
    values = round_values(low, high)
    assert 2 <= len(values) <= 9 and low <= values.min() and values.max() <= high
    assert {f"{value:.0e}"[0] for value in values} <= {"1", "2", "3", "5"}
    np.testing.assert_allclose(values, [float(f"{value:.0e}") for value in values], rtol=1e-12)


def test_marks_share_the_label_of_a_place_and_stand_in_rows_only_where_they_must():
    _, ax = plt.subplots()
    LambdaAxis.of(np.geomspace(1.0, 1e-3, 9)).draw(ax)
    mark_lambdas(ax, [(0.9, "far left"), (0.002, "far right"), (0.05, "one"), (0.05, "two"), (0.049, "near them")])
    heights = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert heights.keys() == {"far left", "one, two", "near them", "far right"}
    assert len(set(heights.values())) == 1  # "one, two" ends where "near them" starts
    assert_apart(*ax.texts)
    mark_lambdas(ax, [(0.05, "first of three"), (0.049, "second of three"), (0.048, "third of three")])
    assert_apart(*ax.texts[4:])
    assert len({text.xyann[1] for text in ax.texts[4:]}) == 2
