"""Training in batch: each run is the one that `train` makes, and so are its history and its refusals."""

import pickle

import numpy as np
import pytest
import torch

import bayesreg as br
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.training import batch as training_batch
from bayesreg.training.path import train_path
from bayesreg.training.train import largest_stable_step, train

LAMBDAS = [0.0, 0.1, 0.7]
SEEDS = (3, 5)
PENALTIES = {"l2": br.L2, "l1": br.L1}
# The conventions that can be trained and have the penalty, with a learning rate that suits their loss.
CONVENTIONS = {
    "l2": {
        "mean-half-squared": 0.01,
        "torch-mse-mean": 0.005,
        "torch-adam": 0.005,
        "torch-mse-sum": 4e-4,
        "sklearn-ridge": 4e-4,
        "sklearn-elasticnet": 0.01,
        "keras-l2": 0.005,
    },
    "l1": {
        "mean-half-squared": 0.01,
        "torch-mse-mean": 0.005,
        "torch-mse-sum": 4e-4,
        "sklearn-lasso": 0.01,
        "celer": 0.01,
        "keras-l1": 0.005,
    },
}


def make_rows(n=23, d=4, seed=0):
    """Rows whose last batch of 5 is a short one."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) + 0.5
    return RegressionData(features, features @ np.linspace(-1, 2, d) + 1.5 + rng.normal(size=n))


def assert_is_the_loop(path, kind, convention="mean-half-squared", test=None, start=None):
    """Each run of the path is that of `train`, and the path's history holds its history."""
    settings = path.settings
    for k, strength in enumerate(path.lambdas):
        for s, seed in enumerate(path.seeds):
            one = train(
                path.data,
                PENALTIES[kind](strength, convention),
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                seed=seed,
                test=test,
                l1_update=settings.l1_update,
                intercept=settings.intercept,
                start=start,
            )
            run = path.run(k, s)
            scale = float(one.weights.abs().max())
            np.testing.assert_allclose(path.weights[k, s].numpy(), one.weights.numpy(), rtol=0, atol=1e-12 * scale)
            assert abs(float(path.intercepts[k, s]) - one.intercept) <= 1e-12 * max(1.0, abs(one.intercept))
            assert list(run.history.columns) == list(one.history.columns)
            assert (run.history.dtypes == one.history.dtypes).all()
            np.testing.assert_allclose(run.history.to_numpy(), one.history.to_numpy(), rtol=1e-9, atol=1e-14)
            assert run.settings == one.settings
            assert run.penalty == one.penalty
            assert run.weights.tolist() == path.weights[k, s].tolist()


@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize(("kind", "convention"), [(kind, name) for kind in PENALTIES for name in CONVENTIONS[kind]])
def test_the_loop_in_every_convention(kind, convention, d):
    data, test = make_rows(d=d), make_rows(n=60, d=d, seed=1)
    rate = CONVENTIONS[kind][convention] * (1.0 if d == 4 else 0.5)
    path = train_path(data, LAMBDAS, kind, SEEDS, 3, learning_rate=rate, test=test, convention=convention)
    assert float((path.weights[0] - path.weights[2]).norm()) > 1e-3  # the strengths matter
    assert float((path.weights[:, 0] - path.weights[:, 1]).norm()) > 1e-3
    assert_is_the_loop(path, kind, convention, test)


@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 1000])
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_batches_of_all_sizes_and_no_intercept(kind, batch_size, d):
    data = make_rows(d=d)
    path = train_path(data, LAMBDAS, kind, SEEDS, 2, batch_size, learning_rate=0.01, intercept=False)
    assert not path.intercepts.any()
    assert_is_the_loop(path, kind)
    assert_is_the_loop(train_path(data, LAMBDAS[1:], kind, SEEDS[:1], 2, batch_size, learning_rate=0.01), kind)


@pytest.mark.parametrize("d", [4, 40])
def test_subgradient(d):
    path = train_path(make_rows(d=d), LAMBDAS, "l1", SEEDS, 8, learning_rate=0.01, l1_update="subgradient")
    proximal = train_path(make_rows(d=d), LAMBDAS, "l1", SEEDS, 8, learning_rate=0.01)
    assert float((path.weights - proximal.weights).abs().max()) > 1e-4
    assert_is_the_loop(path, "l1")


@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_a_start_is_that_of_all_runs(kind, d):
    start = (np.where(np.arange(d) % 3, np.linspace(-1.0, 1.0, d), 0.0), 0.75)
    path = train_path(make_rows(d=d), LAMBDAS, kind, SEEDS, 3, learning_rate=0.01, start=start)
    assert (path.zeros[0] == (start[0] == 0).sum()).all()
    assert_is_the_loop(path, kind, start=start)


def test_exact_zeros_are_counted():
    path = train_path(make_rows(), [0.0, 1.5], "l1", learning_rate=0.05)
    assert path.zeros[-1, 1, 0] == (path.weights[1, 0] == 0).sum() > 0 == path.zeros[-1, 0, 0]
    assert_is_the_loop(path, "l1")


@pytest.mark.parametrize("d", [4, 40])
def test_columns_of_zeros_stay_at_a_start_of_zero(d):
    data = make_rows(d=d)
    features = data.features * (np.arange(d) % 2)
    path = train_path(RegressionData(features, data.target), LAMBDAS, epochs=3, start=(np.zeros(d), 0.0))
    assert (path.zeros[-1] == d // 2).all()
    assert_is_the_loop(path, "l2", start=(np.zeros(d), 0.0))


def test_the_books_problem():
    data, test = br.simulate_weight_decay(seed=0)
    path = train_path(data, [0.0, 0.01, 3.0], test=test)
    assert_is_the_loop(path, "l2", test=test)
    assert path.test_loss[-1, 0, 0] > 50 > path.test_loss[-1, 2, 0]
    assert path.run(2).certificate.relative_gap > 1


def test_losses_near_zero_keep_their_digits():
    # Interpolated rows: the loss is 1e-9 of what it was, and still that of the rows.
    data, test = br.simulate_weight_decay(seed=0)
    path = train_path(data, [0.0], batch_size=20, learning_rate=0.05, epochs=300, test=test)
    assert path.train_loss[-1] < 1e-9 * path.train_loss[0]
    one = path.run(0)
    residuals = data.target - data.features @ one.weights.numpy() - one.intercept
    assert path.train_loss[-1, 0, 0] == pytest.approx(np.mean(residuals**2) / 2, rel=1e-9)


@pytest.mark.parametrize(("kind", "d"), [("l2", 40), ("l2", 4), ("l1", 40)])
def test_pieces_and_blocks_do_not_matter(kind, d, monkeypatch):
    data = make_rows(d=d)
    whole = train_path(data, np.linspace(0, 1, 7), kind, range(5), 3, learning_rate=0.01)
    monkeypatch.setattr(training_batch, "_STATE_NUMBERS", {"cpu": 2 * 45 * 2})
    monkeypatch.setattr("bayesreg.training.batched_descent._BLOCK_NUMBERS", 2 * 5 * 45)
    cut = train_path(data, np.linspace(0, 1, 7), kind, range(5), 3, learning_rate=0.01)
    np.testing.assert_allclose(cut.weights.numpy(), whole.weights.numpy(), rtol=0, atol=1e-13)
    for name, values in whole.history.items():
        np.testing.assert_allclose(cut.history[name], values, rtol=1e-12)


def test_to_frame_is_one_row_a_strength_a_seed_and_an_epoch():
    path = train_path(make_rows(), LAMBDAS, seeds=SEEDS, epochs=2, test=make_rows(11, seed=9))
    frame = path.to_frame()
    assert list(frame.columns) == ["lambda", "seed", *path.run(0).history.columns]
    assert len(frame) == 3 * 2 * 3
    for k, strength in enumerate(LAMBDAS):
        for s, seed in enumerate(SEEDS):
            part = frame[(frame["lambda"] == strength) & (frame["seed"] == seed)]
            history = path.run(k, s).history
            assert part[history.columns].reset_index(drop=True).equals(history)


def test_histories_by_name():
    path = train_path(make_rows(), LAMBDAS, seeds=SEEDS, epochs=2, test=make_rows(11, seed=9))
    for name, values in path.history.items():
        assert getattr(path, name) is values
        assert values.shape == (3, 3, 2)
        assert not values.flags.writeable
    plain = train_path(make_rows(), LAMBDAS, epochs=0)
    assert plain.test_loss is plain.test_objective is None
    assert plain.train_loss.shape == (1, 3, 1)
    assert plain.weights[0].equal(train(make_rows(), epochs=0).weights[None])


def test_a_path_is_on_the_cpu_and_pickles_and_leaves_its_input_alone():
    lambdas = np.array(LAMBDAS)
    path = train_path(make_rows(), lambdas, epochs=2)
    again = pickle.loads(pickle.dumps(path))
    assert again.weights.equal(path.weights)
    assert again.train_loss.tolist() == path.train_loss.tolist()
    lambdas[0] = 5.0
    assert path.lambdas.tolist() == LAMBDAS
    assert (path.weights.dtype, path.weights.device.type) == (torch.float64, "cpu")


def test_factories_name_device_and_dtype(strict_factories):
    train_path(make_rows(), LAMBDAS, "l1", epochs=1).to_frame()
    path = train_path(make_rows(d=40), LAMBDAS, epochs=1)
    assert (path.weights.dtype, path.weights.device.type) == (torch.float64, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("kind", "d"), [("l2", 40), ("l2", 4), ("l1", 40)])
def test_on_a_gpu(kind, d):
    data = make_rows(d=d)
    path = train_path(data, LAMBDAS, kind, SEEDS, 5, learning_rate=0.01, device="cuda")
    for k, s in np.ndindex(3, 2):
        penalty = PENALTIES[kind](LAMBDAS[k])
        one = train(data, penalty, 5, learning_rate=0.01, seed=SEEDS[s], device="cuda")
        np.testing.assert_allclose(path.weights[k, s], one.weights, rtol=0, atol=1e-11)
        np.testing.assert_allclose(path.train_loss[:, k, s], one.history.train_loss, rtol=1e-9)


# --- input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lambdas": [-0.1]}, ValueError, "lambdas must be finite and at least 0, got -0.1"),
        ({"lambdas": [0.1, np.nan]}, ValueError, "lambdas must be finite and at least 0, got nan"),
        ({"lambdas": 3.0}, ValueError, r"lambdas must be a vector of at least one strength, got shape \(\)"),
        ({"lambdas": []}, ValueError, "lambdas must be a vector"),
        ({"lambdas": ["a"]}, TypeError, "lambdas must be"),
        ({"kind": "ridge"}, ValueError, "kind must be 'l2' or 'l1', got 'ridge'"),
        ({"seeds": 0}, TypeError, "seeds must be a sequence, such as .* got 0"),
        ({"seeds": ()}, ValueError, "seeds must have at least one entry"),
        ({"seeds": (0, -1)}, ValueError, "seed must be a whole number of at least 0, got -1"),
        ({"epochs": -1}, ValueError, "epochs must be a whole number of at least 0, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be"),
        ({"l1_update": "prox"}, ValueError, "l1_update must be one of"),
        ({"intercept": None}, TypeError, "intercept must be True or False"),
        ({"device": "tpu"}, ValueError, "device must be"),
        ({"convention": "pytorch"}, ValueError, "convention"),
        ({"convention": "sklearn-lasso"}, ValueError, "sklearn-lasso"),
        ({"convention": "laplace-torch"}, ValueError, "a convention whose loss can be trained"),
        ({"start": (np.zeros(3), 0.0)}, ValueError, r"weights of shape \(4,\)"),
        ({"start": (np.zeros(4), 1.0), "intercept": False}, ValueError, "an intercept of 0 with intercept=False"),
        ({"test": make_rows(d=3)}, ValueError, "4 in the same order; it has 3"),
        ({"test": make_rows().standardized()}, ValueError, "test must be in the units of data"),
        ({"data": Moments.from_data(make_rows())}, TypeError, "train_path needs rows: .* got Moments"),
        (
            {"data": RegressionData([[1e200], [2e200], [-1e200]], [1.0, 2.0, 3.0])},
            ValueError,
            "the objective at the start is (inf|nan): data or start are too large",
        ),
    ],
)
def test_bad_input_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        train_path(**{"data": make_rows(), "lambdas": LAMBDAS, **settings})


@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize(("batch_size", "rate"), [(5, 2.0), (1000, 0.0)])
def test_a_run_that_diverges_is_named_with_the_rate_that_train_names(batch_size, rate, d):
    data = make_rows(d=d)
    stable = largest_stable_step(data, br.L2(40.0), batch_size)
    # On the full batch the bound is sharp: beyond it for the strongest penalty, not for the others.
    rate = rate or 1.02 * stable
    lambdas = [0.0, 40.0] if batch_size == 1000 else [40.0]
    settings = {"epochs": 200, "batch_size": batch_size, "learning_rate": rate}
    with pytest.raises(ValueError, match=f"largest stable learning_rate here is {stable:.6g}") as alone:
        train(data, br.L2(40.0), **settings)
    with pytest.raises(ValueError, match=r"lambda=40, seed=0: in 200 epochs the objective went") as together:
        train_path(data, lambdas, **settings)
    assert str(together.value).partition("The largest")[2] == str(alone.value).partition("The largest")[2]
