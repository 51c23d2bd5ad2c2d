"""One penalty or prior in the words of every convention, held to the functions that translate one at a time."""

import math

import pytest
from fresh_process import modules_after

from bayesreg.objectives import CONVENTIONS
from bayesreg.translation import translate_penalty, translate_prior

KNOWN = {"num_rows": 20, "noise_scale": 0.5, "target_scale": 3.0, "steps_per_epoch": 4}


def by_name(found):
    return {entry.convention.name: entry for entry in found.entries}


def accepting(*kinds):
    return {
        name
        for name, row in CONVENTIONS.items()
        if not row.refusal and all(getattr(row, f"accepts_{k}") for k in kinds)
    }


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_the_dictionary_written_out(kind):
    n, s2, s_y, steps = 20, 0.25, 3.0, 4
    t2, b = 0.04, 0.2  # the prior's variance, its mean absolute value
    expected = {
        "l2": {
            "mean-half-squared": s2 / (n * t2),
            "torch-mse-mean": 2 * s2 / (n * t2),
            "torch-mse-sum": 2 * s2 / (steps * t2),
            "torch-adam": 2 * s2 / (n * t2),
            "sklearn-ridge": s2 / t2,
            "sklearn-elasticnet": s2 / (n * t2),
            "sklearn-bayesian-ridge": 1 / t2,
            "glmnet": s_y * s2 / (n * t2),
            "keras-l2": s2 / (n * t2),
            "laplace-torch": 1 / t2,
        },
        "l1": {
            "mean-half-squared": s2 / (n * b),
            "torch-mse-mean": 2 * s2 / (n * b),
            "torch-mse-sum": 2 * s2 / (steps * b),
            "torch-adam": 2 * s2 / (n * b),
            "sklearn-lasso": s2 / (n * b),
            "celer": s2 / (n * b),
            "sklearn-elasticnet": s2 / (n * b),
            "glmnet": s2 / (n * b),
            "keras-l1": 2 * s2 / (n * b),
            "park-casella": 0.5 / b,
        },
    }[kind]
    prior = {"l2": "gaussian", "l1": "laplace"}[kind]
    found = translate_prior({prior: 0.2}, **KNOWN)
    assert {name: entry.strengths[kind] for name, entry in by_name(found).items()} == pytest.approx(expected, rel=1e-14)
    for name, strength in expected.items():
        back = translate_penalty({kind: strength}, name, **KNOWN)
        assert back.scales == {prior: pytest.approx(0.2, rel=1e-14)}, name
        assert {n: e.strengths[kind] for n, e in by_name(back).items()} == pytest.approx(expected, rel=1e-13), name


def test_what_is_not_known_is_named_and_the_rest_is_answered():
    found = translate_penalty({"l2": 3.0}, "torch-mse-mean", num_rows=20)
    assert found.scales == {} and found.needs == ("noise_scale",)
    entries = by_name(found)
    assert entries["sklearn-ridge"].strengths == {"l2": 30.0}
    assert entries["glmnet"].needs == ("target_scale",) and entries["glmnet"].strengths == {}
    assert entries["torch-mse-sum"].needs == ("steps_per_epoch",)
    assert set(entries) == accepting("l2") and set(found.refused) == {"torch-adamw"}


def test_an_elastic_net_is_typed_as_its_library_wants_it():
    found = translate_penalty({"l2": 3.0, "l1": 2.0}, "sklearn-elasticnet", **KNOWN)
    entries = by_name(found)
    assert set(entries) == accepting("l1", "l2") and set(found.scales) == {"gaussian", "laplace"}
    assert entries["sklearn-elasticnet"].typed == {"alpha": 5.0, "l1_ratio": 0.4}
    assert entries["glmnet"].typed == pytest.approx({"lambda": 3.0 * 3.0 + 2.0, "alpha": 2.0 / 11.0})
    assert entries["torch-mse-mean"].typed == {"l2": 6.0, "l1": 4.0}
    ridge = by_name(translate_penalty({"l2": 3.0}, "sklearn-elasticnet", **KNOWN))
    assert ridge["sklearn-elasticnet"].typed == {"alpha": 3.0, "l1_ratio": 0.0}


def test_a_strength_of_zero_is_a_flat_prior():
    found = translate_penalty({"l1": 0.0}, "sklearn-lasso", **KNOWN)
    assert found.scales == {"laplace": math.inf}
    assert {entry.strengths["l1"] for entry in found.entries} == {0.0}
    assert by_name(found)["sklearn-elasticnet"].typed == {"alpha": 0.0, "l1_ratio": 0.0}


@pytest.mark.parametrize(
    ("strengths", "convention", "knowledge", "message"),
    [
        ({"l2": -1.0}, "sklearn-ridge", {}, r"L2 strength must be a finite number of at least 0, got -1"),
        ({"l2": math.nan}, "sklearn-ridge", {}, r"got nan"),
        ({"l2": math.inf}, "sklearn-ridge", {}, r"got inf"),
        ({}, "sklearn-ridge", {}, r"L2 or an L1 strength"),
        ({"l1": 1.0}, "sklearn-ridge", {}, r"sklearn-ridge .* has no L1 penalty; those with one: .*sklearn-lasso"),
        (
            {"l2": 1.0},
            "sklearn-rigde",
            {},
            r"unknown convention 'sklearn-rigde'; accepted, the closest first: sklearn-ridge",
        ),
        ({"l2": 1.0}, "AdamW", {}, r"torch-adamw.*box"),
        ({"l2": 1.0}, "sklearn-ridge", {"num_rows": 0}, r"num_rows must be .*got 0"),
        ({"l2": 1.0}, "sklearn-ridge", {"noise_scale": -2.0}, r"noise_scale must be .*got -2"),
    ],
)
def test_bad_penalties_are_refused(strengths, convention, knowledge, message):
    with pytest.raises(ValueError, match=message):
        translate_penalty(strengths, convention, **knowledge)


@pytest.mark.parametrize(
    ("prior", "scale", "knowledge", "message"),
    [
        ("gausian", 1.0, {}, "prior must be one of gaussian, laplace, got 'gausian'"),
        ("flat", 1.0, {}, "prior must be one of"),
        ("laplace", 0.0, {}, "prior_scale must be a positive finite number, got 0"),
        ("laplace", math.inf, {}, "prior_scale must be .*inf"),
        ("laplace", math.nan, {}, "prior_scale must be .*nan"),
        ("laplace", "one", {}, "prior_scale must be .*'one'"),
        ("laplace", 1.0, {"num_rows": -1}, "num_rows must be"),
    ],
)
def test_bad_priors_are_refused(prior, scale, knowledge, message):
    with pytest.raises(ValueError, match=message):
        translate_prior({prior: scale}, **knowledge)


def test_a_product_of_two_priors_is_a_penalty_of_two_terms():
    found = by_name(translate_prior({"gaussian": 0.2, "laplace": 0.1}, **KNOWN))
    alone = {
        k: by_name(translate_prior({prior: s}, **KNOWN))
        for k, prior, s in (("l2", "gaussian", 0.2), ("l1", "laplace", 0.1))
    }
    assert {"sklearn-elasticnet", "glmnet", "torch-mse-mean"} <= set(found) and "sklearn-ridge" not in found
    for name, entry in found.items():
        assert entry.strengths == {kind: alone[kind][name].strengths[kind] for kind in ("l2", "l1")}
        back = translate_penalty(entry.strengths, name, **KNOWN)
        assert back.scales == {"gaussian": pytest.approx(0.2, rel=1e-14), "laplace": pytest.approx(0.1, rel=1e-14)}
    with pytest.raises(ValueError, match="laplace_scale must be a positive finite number, got -1"):
        translate_prior({"gaussian": 0.2, "laplace": -1.0})
    with pytest.raises(ValueError, match="prior must be one of gaussian, laplace, got None"):
        translate_prior({})


def test_it_is_plain_python():
    program = "from bayesreg.translation import translate_prior; translate_prior({'laplace': 1.0})"
    assert not {"torch", "numpy"} & modules_after(program)
