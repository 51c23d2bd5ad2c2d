"""The dictionary's formulas, written out by hand a second time, and what they refuse."""

import math

import pytest
from fresh_process import modules_after

from bayesreg.multipliers import KNOWLEDGE
from bayesreg.objectives import CONVENTIONS
from bayesreg.strengths import (
    conversion,
    convert_strength,
    prior_factor,
    scale_from_strength,
    strength_from_scale,
)

# Numbers without common factors, so that no wrong power hides.
S, T, N, K, SY = 1.7, 0.6, 23, 5, 3.1
KNOWN = {"noise_scale": S, "num_rows": N, "steps_per_epoch": K, "target_scale": SY}

# The knob of each row under a prior of scale T (Gaussian: standard deviation; Laplace: mean absolute value), as in the
# design's table. test_conventions.py derives the same by minimising each objective.
L2_KNOBS = {
    "mean-half-squared": S**2 / (N * T**2),
    "torch-mse-mean": 2 * S**2 / (N * T**2),
    "torch-mse-sum": 2 * S**2 / (K * T**2),
    "torch-adam": 2 * S**2 / (N * T**2),
    "sklearn-ridge": S**2 / T**2,
    "sklearn-elasticnet": S**2 / (N * T**2),
    "sklearn-bayesian-ridge": 1 / T**2,
    "glmnet": SY * S**2 / (N * T**2),
    "keras-l2": S**2 / (N * T**2),
    "laplace-torch": 1 / T**2,
}
L1_KNOBS = {
    "mean-half-squared": S**2 / (N * T),
    "torch-mse-mean": 2 * S**2 / (N * T),
    "torch-mse-sum": 2 * S**2 / (K * T),
    "torch-adam": 2 * S**2 / (N * T),
    "sklearn-lasso": S**2 / (N * T),
    "celer": S**2 / (N * T),
    "sklearn-elasticnet": S**2 / (N * T),
    "glmnet": S**2 / (N * T),
    "keras-l1": 2 * S**2 / (N * T),
    "park-casella": S / T,
}
KNOBS = [("l2", name, knob) for name, knob in L2_KNOBS.items()] + [
    ("l1", name, knob) for name, knob in L1_KNOBS.items()
]
PAIRS = [(kind, a, b) for kind, table in (("l2", L2_KNOBS), ("l1", L1_KNOBS)) for a in table for b in table]


def test_every_row_and_term_is_in_the_tables_above():
    assert {name for name, row in CONVENTIONS.items() if row.accepts_l2} == set(L2_KNOBS)
    assert {name for name, row in CONVENTIONS.items() if row.accepts_l1} == set(L1_KNOBS)
    assert {name for name, row in CONVENTIONS.items() if row.refusal} == {"torch-adamw"}


@pytest.mark.parametrize(("kind", "name", "knob"), KNOBS)
def test_knob_of_a_prior_scale_and_back(kind, name, knob):
    assert strength_from_scale(kind, T, name, **KNOWN) == pytest.approx(knob, rel=1e-14)
    assert scale_from_strength(kind, knob, name, **KNOWN) == pytest.approx(T, rel=1e-14)


@pytest.mark.parametrize(("kind", "source", "destination"), PAIRS)
def test_every_row_into_every_other(kind, source, destination):
    table = {"l2": L2_KNOBS, "l1": L1_KNOBS}[kind]
    converted = convert_strength(kind, table[source], source, destination, **KNOWN)
    assert converted == pytest.approx(table[destination], rel=1e-14)
    assert convert_strength(kind, 0.0, source, destination, **KNOWN) == 0.0


@pytest.mark.parametrize(("kind", "name", "knob"), KNOBS)
def test_only_what_does_not_cancel_has_to_be_known(kind, name, knob):
    needs = prior_factor(kind, name).needs
    assert strength_from_scale(kind, T, name, **{k: KNOWN[k] for k in needs}) == pytest.approx(knob, rel=1e-14)
    for missing in needs:
        rest = {k: v for k, v in KNOWN.items() if k != missing}
        with pytest.raises(ValueError, match=rf"{missing}= \("):
            strength_from_scale(kind, T, name, **rest)
        with pytest.raises(ValueError, match=rf"{missing}= \("):
            scale_from_strength(kind, knob, name, **{**rest, missing: None})


def test_what_a_conversion_needs():
    assert conversion("l2", "torch-mse-mean", "mean-half-squared").needs == ()
    assert conversion("l2", "torch-mse-mean", "sklearn-ridge").needs == ("num_rows",)
    assert conversion("l2", "torch-mse-sum", "sklearn-ridge").needs == ("steps_per_epoch",)
    assert conversion("l2", "torch-mse-sum", "keras-l2").needs == ("num_rows", "steps_per_epoch")
    assert conversion("l2", "glmnet", "mean-half-squared").needs == ("target_scale",)
    assert conversion("l1", "glmnet", "sklearn-lasso").needs == ()
    assert conversion("l2", "laplace-torch", "sklearn-bayesian-ridge").needs == ()
    assert prior_factor("l2", relative_to_noise=True).needs == ("num_rows",)
    assert prior_factor("l1", "park-casella", relative_to_noise=True).needs == ()


def test_a_scale_relative_to_the_noise_is_that_scale_times_the_noise():
    for kind, name, _ in KNOBS:
        relative = strength_from_scale(kind, T, name, relative_to_noise=True, **KNOWN)
        assert relative == pytest.approx(strength_from_scale(kind, T * S, name, **KNOWN), rel=1e-14)
        assert scale_from_strength(kind, relative, name, relative_to_noise=True, **KNOWN) == pytest.approx(T, rel=1e-14)


def test_the_books_three():
    """weight_decay=3 at noise 0.01 and 20 rows: prior scale 0.0013 in the text, 0.0018 in the concise program."""
    book = {"noise_scale": 0.01, "num_rows": 20}
    assert scale_from_strength("l2", 3.0, "mean-half-squared", **book) == pytest.approx(0.01 / math.sqrt(60), rel=1e-14)
    assert scale_from_strength("l2", 3.0, "torch-mse-mean", **book) == pytest.approx(0.01 / math.sqrt(30), rel=1e-14)
    assert convert_strength("l2", 3.0, "torch-mse-mean", "mean-half-squared") == 1.5


@pytest.mark.parametrize(("kind", "name"), [("l1", "sklearn-ridge"), ("l2", "keras-l1"), ("l2", "park-casella")])
def test_a_missing_penalty_is_refused_and_the_others_named(kind, name):
    with pytest.raises(
        ValueError, match=f"{name} .* has no {kind.upper()} penalty; those with one: mean-half-squared, "
    ):
        convert_strength(kind, 1.0, name, "mean-half-squared", **KNOWN)


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf, "3", True])
def test_bad_strengths(strength):
    with pytest.raises(ValueError, match="L2 strength must be a finite number of at least 0, got "):
        convert_strength("l2", strength, "sklearn-ridge", "mean-half-squared", **KNOWN)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in KNOWLEDGE for value in (0, -1, math.nan, math.inf, "20", True, [1, 2], 1j)]
    + [("num_rows", 2.5), ("steps_per_epoch", 0.5)],
)
def test_bad_knowledge_is_named_even_where_it_is_not_needed(name, value):
    with pytest.raises(ValueError, match=f"{name} must be {KNOWLEDGE[name].split(',')[0]}.*; got "):
        convert_strength("l2", 1.0, "torch-mse-mean", "mean-half-squared", **{name: value})


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, "3", True, None])
def test_bad_scales_and_strengths_of_priors(bad):
    with pytest.raises(ValueError, match="the scale of a prior must be positive and finite"):
        strength_from_scale("l2", bad, "sklearn-ridge", **KNOWN)
    with pytest.raises(ValueError, match="a strength must be positive and finite"):
        scale_from_strength("l1", bad, "celer", **KNOWN)


def test_what_leaves_float64_is_refused():
    for scale, noise in ((1e-200, 1.0), (1e200, 1.0), (1.0, 1e-200), (1.0, 1e200)):
        with pytest.raises(ValueError, match="within the range of float64"):
            strength_from_scale("l2", scale, "sklearn-ridge", noise_scale=noise)


def test_misspelt_knowledge_is_refused():
    with pytest.raises(TypeError, match="unknown argument 'rows'; a conversion may be told num_rows, noise_scale"):
        convert_strength("l2", 1.0, "torch-mse-mean", "sklearn-ridge", rows=20)


def test_nothing_heavy_is_imported():
    assert not {"numpy", "scipy", "pandas", "torch", "pyro"} & modules_after("import bayesreg.strengths")
