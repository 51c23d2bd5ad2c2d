"""Training: the very steps of a program that a deep-learning reader would write, and what is kept of them."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import bayesreg as br
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.training.train import TrainingRun, train


def make_rows(n=23, d=4, seed=0):
    """Rows whose last batch of 5 is a short one."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) + 0.5
    return RegressionData(features, features @ np.linspace(-1, 2, d) + 1.5 + rng.normal(size=n))


def batches(n, d, batch_size, epochs, seed):
    """The start and the batches of a seed: normal weights first, then one permutation an epoch."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(d, generator=generator, dtype=torch.float64)
    orders = [torch.randperm(n, generator=generator) for _ in range(epochs)]
    return weights.numpy(), [order[i : i + batch_size].numpy() for order in orders for i in range(0, n, batch_size)]


@pytest.mark.parametrize("penalty", [L2(0.3, "torch-mse-sum"), L1(0.3, "torch-mse-sum"), L2(0.3, "torch-mse-mean")])
def test_the_objective_has_the_whole_penalty_once(penalty):
    run = train(make_rows(), penalty, epochs=2, batch_size=12, learning_rate=1e-3)  # two batches an epoch
    added = run.history["train_objective"] - run.history["train_loss"]
    assert added.iloc[-1] == pytest.approx(float(penalty.value(run.weights, steps_per_epoch=2)), rel=1e-10)


# --- step by step against programs that share nothing with the package


def concise_program(data, reduction, weight_decay, learning_rate, weights, steps):
    """The book's concise program: nn.Linear, nn.MSELoss, SGD with weight_decay on the weight alone."""
    net = torch.nn.Linear(data.num_features, 1, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weights)[None])
        net.bias.zero_()
    loss = torch.nn.MSELoss(reduction=reduction)
    trainer = torch.optim.SGD(
        [{"params": net.weight, "weight_decay": weight_decay}, {"params": net.bias}], lr=learning_rate
    )
    features, target = torch.tensor(data.features), torch.tensor(data.target)[:, None]
    for batch in steps:
        trainer.zero_grad()
        loss(net(features[batch]), target[batch]).backward()
        trainer.step()
    return net.weight.detach()[0].numpy(), float(net.bias.detach())


@pytest.mark.parametrize(
    ("reduction", "convention", "learning_rate"),
    [("mean", "torch-mse-mean", 0.02), ("mean", "torch-adam", 0.02), ("sum", "torch-mse-sum", 0.004)],
)
def test_the_concise_program(reduction, convention, learning_rate):
    data = make_rows()
    weights, steps = batches(23, 4, 5, epochs=7, seed=3)
    expected = concise_program(data, reduction, 0.3, learning_rate, weights, steps)
    run = train(data, L2(0.3, convention), epochs=7, batch_size=5, learning_rate=learning_rate, seed=3)
    np.testing.assert_allclose(run.weights.numpy(), expected[0], rtol=1e-12, atol=1e-12)
    assert run.intercept == pytest.approx(expected[1], rel=1e-12)
    assert np.abs(run.weights.numpy() - weights).max() > 0.1


def from_scratch(data, weights, steps, learning_rate, factor, l2=0.0, l1=0.0, centre=0.0, proximal=True, bias=True):
    """The book's program from scratch, in NumPy: factor(B) times X'(prediction - y), plus the penalty of one step."""
    w, b = weights.copy(), 0.0
    for batch in steps:
        x, y = data.features[batch], data.target[batch]
        error = x @ w + b - y
        gradient = factor(len(batch)) * x.T @ error + l2 * (w - centre)
        if not proximal:
            gradient += l1 * np.sign(w - centre)
        b -= learning_rate * factor(len(batch)) * error.sum() * bias
        w = w - learning_rate * gradient
        if proximal:
            away = np.abs(w - centre) - learning_rate * l1
            w = centre + np.where(away > 0, away, 0.0) * np.sign(w - centre)
    return w, b


def half_mean(rows):
    return 1 / rows


def mean(rows):
    return 2 / rows


def whole(rows):
    return 2.0


VECTOR, CENTRE = np.array([0.1, 0.0, 0.4, 1.0]), np.array([0.5, -1.0, 0.0, 2.0])
STEPS = 5  # an epoch: 23 rows in batches of 5


@pytest.mark.parametrize("proximal", [True, False])
@pytest.mark.parametrize(
    ("penalty", "factor", "learning_rate", "one_step"),
    [
        (None, half_mean, 0.05, {}),
        (L2(0.3), half_mean, 0.05, {"l2": 0.3}),
        (L1(0.3), half_mean, 0.05, {"l1": 0.3}),
        (Penalty(l1=0.2, l2=0.1), half_mean, 0.05, {"l1": 0.2, "l2": 0.1}),
        (Penalty(l1=0.2, l2=0.1, convention="sklearn-elasticnet"), half_mean, 0.05, {"l1": 0.2, "l2": 0.1}),
        (L2(VECTOR), half_mean, 0.05, {"l2": VECTOR}),
        (L1(VECTOR, "celer"), half_mean, 0.05, {"l1": VECTOR}),
        (Penalty(l2=0.3, centre=0.7), half_mean, 0.05, {"l2": 0.3, "centre": 0.7}),
        (Penalty(l1=VECTOR, l2=0.3, centre=CENTRE), half_mean, 0.05, {"l1": VECTOR, "l2": 0.3, "centre": CENTRE}),
        (L1(0.3, "torch-mse-mean"), mean, 0.03, {"l1": 0.3}),
        (L2(0.3, "keras-l2"), mean, 0.03, {"l2": 0.6}),
        (L1(0.3, "keras-l1"), mean, 0.03, {"l1": 0.3}),
        (L1(0.3, "torch-mse-sum"), whole, 0.005, {"l1": 0.3}),
        (L2(3.0, "sklearn-ridge"), whole, 0.005, {"l2": 6.0 / STEPS}),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_the_program_from_scratch(penalty, factor, learning_rate, one_step, proximal):
    data = make_rows()
    weights, steps = batches(23, 4, 5, epochs=9, seed=1)
    expected = from_scratch(data, weights, steps, learning_rate, factor, **one_step, proximal=proximal)
    settings = {"epochs": 9, "learning_rate": learning_rate, "seed": 1}
    run = train(data, penalty, l1_update="proximal" if proximal else "subgradient", **settings)
    np.testing.assert_allclose(run.weights.numpy(), expected[0], rtol=1e-12, atol=1e-12)
    assert run.intercept == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.parametrize("penalty", [L2(0.3), L1(0.3)])
def test_without_an_intercept(penalty):
    data = make_rows()
    weights, steps = batches(23, 4, 5, epochs=9, seed=1)
    expected = from_scratch(data, weights, steps, 0.05, half_mean, l2=penalty.l2, l1=penalty.l1, bias=False)
    run = train(data, penalty, epochs=9, learning_rate=0.05, seed=1, intercept=False)
    np.testing.assert_allclose(run.weights.numpy(), expected[0], rtol=1e-12, atol=1e-12)
    assert run.intercept == 0.0


@pytest.mark.parametrize("batch_size", [1, 22, 23, 24, 1000])
def test_batches_of_all_sizes(batch_size):
    data = make_rows()
    weights, steps = batches(23, 4, batch_size, epochs=3, seed=2)
    expected = from_scratch(data, weights, steps, 0.01, half_mean, l2=0.1)
    run = train(data, L2(0.1), epochs=3, learning_rate=0.01, seed=2, batch_size=batch_size)
    np.testing.assert_allclose(run.weights.numpy(), expected[0], rtol=1e-12, atol=1e-12)
    assert run.steps_per_epoch == len(steps) // 3


# --- the book's experiment


@pytest.mark.parametrize(("convention", "half"), [("mean-half-squared", 0.5), ("torch-mse-mean", 1.0)])
def test_the_books_experiment(convention, half):
    data, test = br.simulate_weight_decay(seed=0)
    # lambda = 3: what the data say nothing about has shrunk by (1 - 3 lr)^400, whatever the loss, and is not at 0 yet.
    run = train(data, L2(3.0, convention), test=test)
    start, _ = batches(20, 200, 5, 0, seed=0)
    blind = np.linalg.svd(data.features)[2][20:]  # orthogonal to all rows
    np.testing.assert_allclose(blind @ run.weights.numpy(), (1 - 0.009) ** 400 * (blind @ start), rtol=0, atol=1e-11)
    history = run.history
    assert len(history) == 101
    assert 13 < history.weights_l2.iloc[0] < 15
    assert 0.35 < history.weights_l2.iloc[-1] < 0.40
    optimum = train(data, L2(3.0, convention), finish=True)
    centred = data.features - data.features.mean(axis=0)
    ridge = np.linalg.solve(
        centred.T @ centred + 20 * 3.0 * (0.5 / half) * np.eye(200), centred.T @ (data.target - data.target.mean())
    )
    np.testing.assert_allclose(optimum.weights.numpy(), ridge, rtol=0, atol=1e-8)
    assert 0.02 < float(optimum.weights.norm()) < 0.05
    assert run.certificate.relative_gap > 1 > 1e-10 > optimum.certificate.relative_gap

    # lambda = 0: the test loss is the leftover random start; MSE counts it as near 200, half of it as near 100.
    plain = train(data, L2(0.0, convention), test=test).history
    leftover = blind.T @ (blind @ start)
    assert plain.train_loss.iloc[-1] < 1e-4
    assert plain.test_loss.iloc[-1] == pytest.approx(half * np.mean(np.square(test.features @ leftover)), rel=0.05)
    assert 130 * half < plain.test_loss.iloc[-1] < 270 * half
    assert plain.weights_l2.iloc[-1] > 0.9 * plain.weights_l2.iloc[0]


# --- what is kept


def test_history_is_one_row_an_epoch_from_the_start():
    data, test = make_rows(), make_rows(11, seed=9)
    start = (np.array([0.5, -1.0, 0.0, 2.0]), 0.25)
    penalty = Penalty(l1=0.2, l2=0.3)
    run = train(data, penalty, epochs=3, start=start, test=test, seed=4)
    parts = ["train_loss", "train_objective", "test_loss", "test_objective"]
    assert list(run.history.columns) == ["epoch", *parts, "weights_l2", "weights_l1", "zeros"]
    assert run.history.epoch.tolist() == [0, 1, 2, 3]
    assert run.history.zeros.dtype.kind == run.history.epoch.dtype.kind == "i"
    end = (run.weights.numpy(), run.intercept)
    for (weights, intercept), row in ((start, run.history.iloc[0]), (end, run.history.iloc[-1])):
        term = 0.2 * np.abs(weights).sum() + 0.15 * weights @ weights
        for part, rows in (("train", data), ("test", test)):
            loss = np.mean(np.square(rows.target - rows.features @ weights - intercept)) / 2
            assert row[f"{part}_loss"] == pytest.approx(loss, rel=1e-12)
            assert row[f"{part}_objective"] == pytest.approx(loss + term, rel=1e-12)
        assert row.weights_l2 == pytest.approx(np.sqrt(weights @ weights), rel=1e-12)
        assert row.weights_l1 == pytest.approx(np.abs(weights).sum(), rel=1e-12)
        assert row.zeros == (weights == 0).sum()
    assert list(train(data, epochs=0).history.columns) == ["epoch", *parts[:2], "weights_l2", "weights_l1", "zeros"]


def test_only_the_proximal_step_reaches_exact_zeros():
    data = make_rows()
    zeros = {
        update: train(data, L1(1.5), l1_update=update, learning_rate=0.05).history.zeros
        for update in ("proximal", "subgradient")
    }
    assert zeros["proximal"].iloc[-1] > 0
    assert zeros["subgradient"].max() == 0


def test_the_distance_left_is_reported():
    data = make_rows()
    run = train(data, L2(0.3), epochs=2)
    judged = br.certify(run.weights, data, L2(0.3), intercept=run.intercept)
    assert run.certificate == judged
    assert run.certificate.relative_gap > 0.01
    profiled = br.certify(run.weights, data, L2(0.3))
    assert run.certificate.gap > profiled.gap  # the intercept is not at its best either, and that counts
    assert f"relative gap {judged.relative_gap:.1e}" in run.message
    assert "2 epochs of SGD in batches of 5 at learning_rate=0.003." in run.message
    done = train(data, L2(0.3), epochs=2, finish=True)
    assert f"then {done.finishing_steps} accelerated steps" in done.message
    assert done.certificate.relative_gap < 1e-10
    assert done.history.equals(run.history)
    assert train(data, None, epochs=1).certificate.gap is None


def test_in_torch_mse_sum_the_certificate_knows_the_steps_of_an_epoch():
    data = make_rows()
    run = train(data, L2(0.3, "torch-mse-sum"), epochs=1, batch_size=5, learning_rate=0.004, finish=True)
    assert run.certificate.relative_gap < 1e-10
    assert br.certify(run.weights, data, L2(0.3, "torch-mse-sum"), steps_per_epoch=6).relative_gap > 1e-6


def test_a_run_is_frozen_and_on_the_cpu_and_pickles():
    run = train(make_rows(), L2(0.3), epochs=1)
    assert isinstance(run, TrainingRun)
    assert run.weights.dtype == torch.float64
    assert not run.weights.requires_grad
    assert isinstance(run.intercept, float)
    assert (run.settings.epochs, run.settings.batch_size, run.settings.learning_rate) == (1, 5, 0.003)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.intercept = 1.0
    again = pickle.loads(pickle.dumps(run))
    assert again.weights.tolist() == run.weights.tolist()
    assert again.certificate == run.certificate


def test_original_units_predict_the_same():
    rows = make_rows()
    raw = RegressionData(rows.features * [1.0, 50.0, 0.01, 3.0] + [0.0, 7.0, 1.0, -3.0], 20 * rows.target + 5)
    run = train(raw.standardized(), L2(0.3), finish=True)
    original = run.original_units()
    standard = run.data.features @ run.weights.numpy() + run.intercept
    expected = run.data.transform.to_original_predictions(standard)
    np.testing.assert_allclose(raw.features @ original.weights.numpy() + original.intercept, expected, rtol=1e-11)
    assert original.standardized is run
    assert original.certificate is run.certificate
    assert (run.transform, original.transform) == (run.data.transform, None)
    penalty = L2(0.3).original_units(run.data)
    judged = br.certify(original.weights, raw, penalty, intercept=original.intercept)
    assert judged.relative_gap < 1e-10
    for already in (original, train(raw, L2(0.3), epochs=0)):
        with pytest.raises(ValueError, match="in the units of the original rows"):
            already.original_units()


# --- seeds, devices, global state


def test_the_seed_decides():
    data = make_rows()
    first, again, other = (train(data, L2(0.3), epochs=3, seed=seed) for seed in (1, 1, 2))
    assert first.history.equals(again.history)
    assert not first.history.equals(other.history)
    # The batches too: one start, other shuffling.
    start = (np.zeros(4), 0.0)
    ends = [train(data, L2(0.3), epochs=3, seed=seed, start=start).weights for seed in (1, 1, 2)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_starts_are_standard_normal():
    weights = np.concatenate([train(br.simulate_weight_decay()[0], epochs=0, seed=s).weights for s in range(10)])
    assert abs(weights.mean()) < 0.1
    assert abs(weights.std() - 1) < 0.1
    assert train(make_rows(), epochs=0).intercept == 0.0


def test_start_is_used_and_left_alone():
    data = make_rows()
    weights = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    run = train(data, epochs=0, start=(weights, 3))
    assert (run.weights.tolist(), run.intercept) == ([0.5, -1.0, 0.0, 2.0], 3.0)
    train(data, epochs=2, start=(weights, 3))
    assert weights.tolist() == [0.5, -1.0, 0.0, 2.0]


def test_nothing_global_changes():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype()
    with torch.no_grad():  # a caller's own mode does not matter
        run = train(make_rows(), L1(0.1), epochs=2, finish=True)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.get_default_dtype() == before[2]
    assert run.history.equals(train(make_rows(), L1(0.1), epochs=2).history)


class _Watch(TorchDispatchMode):
    """Counts what makes the host wait for a device: .item(), bool() and the like."""

    waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.waits += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("penalty", [L2(0.3), L1(0.3), Penalty(l1=VECTOR, l2=VECTOR, centre=CENTRE)])
@pytest.mark.parametrize("l1_update", ["proximal", "subgradient"])
def test_no_epoch_waits_for_the_device(penalty, l1_update):
    waits = []
    for epochs in (1, 10):
        with _Watch() as watch:
            train(make_rows(), penalty, epochs=epochs, l1_update=l1_update)
        waits.append(watch.waits)
    assert waits[0] == waits[1] < 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    run = train(make_rows(), L2(0.3, "torch-mse-mean"), epochs=50, learning_rate=0.02, device="cuda")
    assert run.weights.device.type == "cpu"
    assert run.history.train_objective.iloc[-1] < 0.5 * run.history.train_objective.iloc[0]


# --- input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs must be a whole number of at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number of at least 0, got 1.5"),
        ({"epochs": True}, TypeError, "epochs must be a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": "5"}, TypeError, "batch_size must be"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a positive finite number, got 0.0"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be .* got nan"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate must be"),
        ({"learning_rate": "fast"}, ValueError, "learning_rate must be .* got 'fast'"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": None}, TypeError, "seed must be"),
        ({"l1_update": "prox"}, ValueError, "l1_update must be one of proximal, subgradient, got 'prox'"),
        ({"finish": 1}, TypeError, "finish must be True or False, got 1"),
        ({"intercept": None}, TypeError, "intercept must be True or False, got None"),
        ({"device": "tpu"}, ValueError, "device must be"),
        ({"start": np.zeros(4)}, ValueError, "start must be a pair"),
        ({"start": (np.zeros(3), 0.0)}, ValueError, r"weights of shape \(4,\) .* got shapes \(3,\)"),
        ({"start": (np.zeros(4), [0.0, 1.0])}, ValueError, "one intercept"),
        ({"start": ([0.0, np.nan, 0.0, 0.0], 0.0)}, ValueError, "start must be finite"),
        ({"start": (["a", "b", "c", "d"], 0.0)}, TypeError, "weights of start"),
        ({"start": (np.zeros(4), 1.0), "intercept": False}, ValueError, "an intercept of 0 with intercept=False"),
        ({"test": np.zeros((3, 4))}, TypeError, "test must be a RegressionData"),
        ({"test": make_rows(d=3)}, ValueError, "4 in the same order; it has 3"),
        ({"test": RegressionData(np.zeros((2, 4)), np.zeros(2), list("abcd"))}, ValueError, "'a' stands where .* 'x0'"),
        ({"test": make_rows().standardized()}, ValueError, "test must be in the units of data"),
    ],
)
def test_bad_input_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        train(make_rows(), L2(0.1), **settings)


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="device='cuda' was asked for"):
        train(make_rows(), device="cuda")


def test_moments_are_refused_for_want_of_rows():
    with pytest.raises(TypeError, match="train needs rows: .* got Moments"):
        train(Moments.from_data(make_rows()), L2(0.1))


def test_test_rows_in_the_units_of_the_data_are_taken():
    data, test = make_rows(), make_rows(11, seed=9)
    scaled = data.standardized()
    history = train(scaled, L2(0.1), epochs=2, test=scaled.transform.apply(test)).history
    assert history.test_loss.notna().all()
    with pytest.raises(ValueError, match=r"data\.transform\.apply\(test\)"):
        train(scaled, L2(0.1), test=test)
    with pytest.raises(ValueError, match=r"data\.transform\.apply\(test\)"):
        train(scaled, L2(0.1), test=test.standardized())


def test_numbers_of_numpy_are_taken():
    run = train(
        make_rows(), epochs=np.int64(2), batch_size=np.int32(5), learning_rate=np.float32(0.01), seed=np.uint8(3)
    )
    assert run.history.equals(train(make_rows(), epochs=2, learning_rate=float(np.float32(0.01)), seed=3).history)


def test_one_row():
    run = train(RegressionData([[2.0, -1.0]], [3.0]), L2(0.1), epochs=200, learning_rate=0.05)
    assert run.history.train_objective.iloc[-1] < run.history.train_objective.iloc[0]
    finished = train(RegressionData([[2.0, -1.0]], [3.0]), L2(0.1), epochs=1, finish=True)
    assert (finished.weights.tolist(), finished.intercept) == ([0.0, 0.0], 3.0)


def test_data_beyond_float64_are_not_called_diverging():
    rows = RegressionData([[1e200], [2e200], [-1e200]], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="the objective at the start is inf: data or start are too large"):
        train(rows, L2(0.1))
