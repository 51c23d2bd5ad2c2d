"""The two forms of the batch say the same, with the arrays of NumPy and of torch."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from bayesreg.training.batched_descent import BatchedProblem, FeatureSpace, RowSpace, batched_descent


def problem(n=7, d=11, seeds=3, strengths=4, **change):
    random = np.random.default_rng(0)
    given = {
        "features": random.normal(size=(n, d)),
        "target": random.normal(size=n),
        "starts": random.normal(size=(seeds, d)),
        "start_intercept": 0.5,
        "num_strengths": strengths,
        "decay": 1.0 - np.linspace(0.0, 0.1, strengths),
        "threshold": None,
        "subgradient": False,
        "intercept": True,
        "batch_size": 3,
        "rates": np.linspace(0.01, 0.02, n),
    }
    return BatchedProblem(**{**given, **change})


def orders(n=7, seeds=3, epochs=4):
    random = np.random.default_rng(1)
    return [np.stack([random.permutation(n) for _ in range(seeds)]) for _ in range(epochs)]


def as_torch(given, device):
    values = {one.name: getattr(given, one.name) for one in fields(given)}
    moved = {k: torch.tensor(v, device=device) for k, v in values.items() if isinstance(v, np.ndarray)}
    return replace(given, **moved)


L1_TERM = {"decay": None, "threshold": np.linspace(0.0, 0.02, 4)}


@pytest.mark.parametrize("intercept", [True, False])
def test_rows_and_features_are_two_forms_of_one_descent(intercept):
    given = problem(intercept=intercept, start_intercept=0.5 * intercept)
    forms = RowSpace(given), FeatureSpace(given)
    more = np.random.default_rng(2).normal(size=(6, 12))
    for order in orders():
        for form in forms:
            form.epoch(order)
        np.testing.assert_allclose(forms[0].weights, forms[1].weights, rtol=0, atol=1e-14)
        np.testing.assert_allclose(forms[0].intercepts, forms[1].intercepts, rtol=0, atol=1e-14)
        residuals = [form.residual_map(more[:, :-1], more[:, -1]) @ form.state for form in forms]
        np.testing.assert_allclose(residuals[0], residuals[1], rtol=0, atol=1e-13)
        predicted = more[:, :-1] @ forms[1].weights + forms[1].intercepts[:, None] - more[:, -1:]
        np.testing.assert_allclose(residuals[1], predicted, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "change", [{}, {"d": 3}, L1_TERM, {**L1_TERM, "subgradient": True}, {"d": 3, "decay": None}, {"intercept": False}]
)
def test_torch_does_what_numpy_does(change, device):
    given = problem(**change)
    ours, theirs = batched_descent(given), batched_descent(as_torch(given, device))
    assert type(ours) is type(theirs) is (RowSpace if given.threshold is None and "d" not in change else FeatureSpace)
    for order in orders():
        ours.epoch(order)
        theirs.epoch(torch.tensor(order, device=device))
    np.testing.assert_allclose(theirs.weights.cpu(), ours.weights, rtol=0, atol=1e-14)
    np.testing.assert_allclose(theirs.intercepts.cpu(), ours.intercepts, rtol=0, atol=1e-14)
    assert np.abs(ours.weights - given.starts[:, :, None]).min(axis=(1, 2)).max() > 0 or "threshold" in change


def test_an_epoch_does_not_wait_for_the_device(no_synchronisation, device):
    for change in ({}, L1_TERM, {**L1_TERM, "subgradient": True}):
        form = batched_descent(as_torch(problem(**change), device))
        order = torch.tensor(orders()[0], device=device)
        with no_synchronisation(at_most=0):
            form.epoch(order)
        assert bool(form.weights.isfinite().all())
