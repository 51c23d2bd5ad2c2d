"""The rows of the dictionary: what each says of itself, and the names that are refused."""

import pytest

from bayesreg.objectives import CONVENTIONS, get_convention

S, N = 1.7, 23


@pytest.mark.parametrize(
    ("loss", "names"),
    {
        "half-mean": {"mean-half-squared", "sklearn-lasso", "celer", "sklearn-elasticnet", "glmnet"},
        "mean": {"torch-mse-mean", "torch-adam", "keras-l2", "keras-l1"},
        "sum": {"torch-mse-sum", "sklearn-ridge"},
        None: {"sklearn-bayesian-ridge", "park-casella", "laplace-torch", "torch-adamw"},
    }.items(),
)
def test_training_loss_is_the_loss_multiplier(loss, names):
    assert {row.name for row in CONVENTIONS.values() if row.training_loss == loss} == names
    expected = {"half-mean": 1 / (2 * N), "mean": 1 / N, "sum": 1.0, None: 1 / (2 * S**2)}[loss]
    for name in names - {"torch-adamw"}:
        value = CONVENTIONS[name].loss_multiplier.at("a test", num_rows=N, noise_scale=S)
        assert value == pytest.approx(expected, rel=1e-14)


def test_which_rows_hold_a_centre_and_vectors():
    assert {row.name for row in CONVENTIONS.values() if row.accepts_centre} == {"mean-half-squared", "laplace-torch"}
    vectors = {row.name for row in CONVENTIONS.values() if row.accepts_per_feature}
    assert vectors == {"mean-half-squared", "laplace-torch", "celer", "glmnet"}


def test_rows_say_what_they_are():
    for name, row in CONVENTIONS.items():
        assert row.name == name
        assert row.library and row.objective and row.knobs
    assert "bias too" in CONVENTIONS["laplace-torch"].notes
    assert "unit norm" in CONVENTIONS["park-casella"].notes
    assert "penalty.factor" in CONVENTIONS["glmnet"].notes


def test_names_ignore_case_and_adam_is_short_for_its_row():
    assert get_convention("SKLearn-Ridge") is CONVENTIONS["sklearn-ridge"]
    assert get_convention("adam") is CONVENTIONS["torch-adam"]


@pytest.mark.parametrize("name", ["torch-adamw", "AdamW", "Torch-AdamW"])
def test_adamw_is_refused_with_the_reason(name):
    with pytest.raises(
        ValueError, match=r"decouples.*no Gaussian prior.*\|w_j\| <= 1/weight_decay.*uniform prior on a box"
    ):
        get_convention(name)


def test_unknown_names_list_the_accepted_ones_closest_first():
    with pytest.raises(
        ValueError, match="unknown convention 'sklearn-rigde'; accepted, the closest first: sklearn-ridge, "
    ):
        get_convention("sklearn-rigde")
    with pytest.raises(ValueError, match="closest first: torch-mse-sum, ") as caught:
        get_convention("torch_mse_sum")
    accepted = str(caught.value).split("first: ")[1].split(", ")
    assert set(accepted) == set(CONVENTIONS) - {"torch-adamw"}
    with pytest.raises(TypeError, match="convention must be a name"):
        get_convention(None)
