"""Moments: equal to two passes however the rows are cut, of one size, immutable, and exact where the rows allow it."""

import copy
import math
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import bayesreg.computing.row_sums
from bayesreg.computing.row_sums import sum_up_parts
from bayesreg.data import RegressionData, load_diabetes
from bayesreg.moments import Moments, as_moments
from bayesreg.standardization import Standardization


def make_rows(rows=300, offset=0.0, scales=(1.0, 1.0, 1.0, 1.0), seed=0):
    """Correlated, skewed rows, the last column the target."""
    generator = np.random.default_rng(seed)
    joint = generator.standard_normal((rows, 4)) @ generator.uniform(-1, 1, (4, 4)) + generator.exponential(
        size=(rows, 4)
    )
    return (joint + offset) * scales


def make_data(joint, **options):
    return RegressionData(joint[:, :-1].copy(), joint[:, -1].copy(), **options)


def two_passes(joint):
    """Mean less the first row, and scatter, in long double: the slow, obviously right way."""
    relative = joint.astype(np.longdouble) - joint[0].astype(np.longdouble)
    mean = relative.mean(axis=0)
    centred = relative - mean
    return mean, centred.T @ centred


def assert_moments_of(moments, joint, tolerance=1e-12):
    mean, scatter = two_passes(joint)
    deviations = np.sqrt(np.diagonal(scatter) / len(joint)).astype(float)
    lengths = np.sqrt(np.diagonal(scatter))
    assert moments.num_rows == moments.weight_sum == len(joint)
    assert np.all(np.abs(moments.scatter - scatter) <= tolerance * np.outer(lengths, lengths))
    relative_mean = (moments.pivot - joint[0].astype(np.longdouble)) + moments.offsets
    assert np.all(np.abs(relative_mean - mean) <= tolerance * deviations)
    np.testing.assert_array_equal(moments.scatter, moments.scatter.T)
    np.testing.assert_array_equal(moments.Sxx, moments.scatter[:-1, :-1])
    np.testing.assert_array_equal(moments.Sxy, moments.scatter[:-1, -1])
    assert moments.Syy == moments.scatter[-1, -1]


def cut(joint, sizes):
    return [make_data(part) for part in np.split(joint, np.cumsum(sizes)) if len(part)]


# --- rows, cut in any way


@pytest.mark.parametrize("scales", [(1, 1, 1, 1), (1e-12, 1.0, 1e12, 1e-3)], ids=["even", "1e24 apart"])
@pytest.mark.parametrize("offset", [0.0, -7.0, 1e8])
@pytest.mark.parametrize(
    "sizes",
    [[], [1] * 299, [1], [299], [100, 100], [3, 50, 1, 1, 200]],
    ids=["whole", "row by row", "one first", "one last", "thirds", "uneven"],
)
def test_moments_are_those_of_two_passes_however_the_rows_are_cut(sizes, offset, scales):
    joint = make_rows(offset=offset, scales=scales)
    parts = cut(joint, sizes)
    assert_moments_of(Moments.from_batches(parts), joint)
    assert_moments_of(Moments.from_batches((part.features, part.target) for part in parts), joint)
    assert_moments_of(sum(Moments.from_data(part) for part in parts), joint)
    assert_moments_of(sum(Moments.from_data(part) for part in reversed(parts)), joint)


def test_two_passes_in_float64_agree_too():
    joint = make_rows(rows=5000, offset=1e8)
    centred = joint - joint.mean(axis=0)
    scatter = centred.T @ centred
    lengths = np.sqrt(np.diagonal(scatter))
    moments = Moments.from_batches(cut(joint, [1] * 50 + [7, 2000]))
    assert np.all(np.abs(moments.scatter - scatter) <= 1e-12 * np.outer(lengths, lengths))
    means = [math.fsum(column) / 5000 for column in joint.T]
    np.testing.assert_allclose(np.append(moments.feature_means, moments.target_mean), means, rtol=2.3e-16)  # an ulp


@pytest.mark.parametrize("block", [4, 37, 299])
def test_blocks_do_not_show(monkeypatch, block):
    joint = make_rows(offset=1e8)
    joint[:, 1] = joint[:, 0]  # collinear: the factor goes through the blocks too
    whole = Moments.from_data(make_data(joint))
    monkeypatch.setattr(bayesreg.computing.row_sums, "_NARROW_BLOCK", block * joint.shape[1])
    monkeypatch.setattr(bayesreg.computing.row_sums, "_PIECE_NUMBERS", 3 * block * joint.shape[1])
    moments = Moments.from_data(make_data(joint))
    assert_moments_of(moments, joint)
    lengths = np.sqrt(np.diagonal(whole.scatter))
    for root in (whole.factor, moments.factor):
        assert np.all(np.abs(root.T @ root - whole.scatter) <= 1e-13 * np.outer(lengths, lengths))


def test_tiles_do_not_show(monkeypatch):
    joint = make_rows(offset=1e8)
    monkeypatch.setattr(bayesreg.computing.row_sums, "WIDE", 2)
    monkeypatch.setattr(bayesreg.computing.products, "WIDE", 2)
    monkeypatch.setattr(bayesreg.computing.row_sums, "_WIDE_BLOCK", 700 * joint.shape[1])
    monkeypatch.setattr(bayesreg.computing.products, "_WORTH_THREADS", 0)
    moments = Moments.from_data(make_data(joint))
    assert_moments_of(moments, joint)
    assert np.array_equal(moments.scatter, moments.scatter.T)


def test_rows_at_hand_are_centred_a_block_at_a_time():
    joint = make_rows(rows=1_000_000)
    joint[:, 1] = joint[:, 0]
    data = make_data(joint)
    tracemalloc.start()
    Moments.from_data(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < joint.nbytes / 5


def test_a_first_row_far_from_the_others_does_no_harm():
    joint = make_rows(rows=4000)
    joint[0] = 1e6
    assert_moments_of(Moments.from_data(make_data(joint)), joint)
    assert_moments_of(Moments.from_batches(cut(joint, [1] * 100)), joint)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b, n, delta: a + b,
        lambda a, b, n, delta: a + b + np.outer(delta, delta) * n[0],
        lambda a, b, n, delta: a + b + np.outer(delta, delta) * n[0] * n[1] / (sum(n) - 1),
        lambda a, b, n, delta: a + b - np.outer(delta, delta) * n[0] * n[1] / sum(n),
    ],
)
def test_the_comparison_sees_a_wrong_merge(wrong):
    joint = make_rows()
    first, second = (Moments.from_data(part) for part in cut(joint, [100]))
    delta = second.pivot - first.pivot + second.offsets - first.offsets
    scatter = wrong(first.scatter, second.scatter, (100, 200), delta)
    assert_moments_of(first + second, joint)
    with pytest.raises(AssertionError):
        assert_moments_of(replace(first + second, scatter=scatter), joint)


def test_merging_is_associative_commutative_and_starts_at_zero():
    joint = make_rows(rows=90, offset=1e8)
    a, b, c = (Moments.from_data(part) for part in cut(joint, [30, 30]))
    for merged in ((a + b) + c, a + (b + c), 0 + a + b + c, sum([a, b, c]), Moments.from_batches([a, b, c])):
        assert_moments_of(merged, joint)
    assert_moments_of(c + (b + a), joint)
    assert 0 + a is a
    with pytest.raises(TypeError):
        1 + a
    with pytest.raises(TypeError):
        a + 0


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"feature_names": ["a", "c"]}, "got 'b' and 'c'"),
        ({"feature_names": ["b", "a"]}, "got 'a' and 'b'"),
        ({"target_name": "z"}, "got 'y' and 'z'"),
        ({"features": np.eye(3), "target": np.zeros(3), "feature_names": ["a", "b", "c"]}, "got 2 and 3 features"),
        ({"transform": Standardization([0.0, 0.0], [1.0, 1.0], 0.0, 1.0)}, "same units"),
    ],
)
def test_moments_of_other_columns_or_units_are_not_merged(other, found):
    options = {"features": np.eye(2), "target": np.zeros(2), "feature_names": ["a", "b"]}
    first, second = (Moments.from_data(RegressionData(**given)) for given in (options, options | other))
    with pytest.raises(ValueError, match=found):
        first + second
    with pytest.raises(ValueError, match=f"batch 1 .*{found}"):
        Moments.from_batches([first, second])
    with pytest.raises(ValueError, match="centred"):
        first + first.about_origin()


# --- batches


def test_batches_of_every_kind_may_mix_and_are_held_one_at_a_time():
    joint, given = make_rows(), []

    def batches():
        for number, part in enumerate(cut(joint, [100, 100])):
            assert all(earlier() is None for earlier in given)
            features = part.features.copy()
            given.append(weakref.ref(features))
            yield [RegressionData(features, part.target), (features, part.target), Moments.from_data(part)][number]
            del features

    moments = Moments.from_batches(batches())
    assert_moments_of(moments, joint)
    assert moments.factor is None and len(given) == 3
    assert Moments.from_batches([Moments.from_data(make_data(joint[:2]))]).factor is None


@pytest.mark.parametrize(
    ("batches", "error", "found"),
    [
        ([], ValueError, "at least one batch, got none"),
        (iter(()), ValueError, "at least one batch, got none"),
        ([(np.eye(2), [1.0, 2.0]), (np.eye(3), [1.0, 2.0, 3.0])], ValueError, "batch 1 .*got 2 and 3 features"),
        ([(np.eye(2), [1.0, np.nan])], ValueError, "batch 0 .*nan in column 'y', row 1"),
        ([(np.eye(2), ["a", "b"])], TypeError, "batch 0 .*column 'y'"),
        ([np.eye(2)], TypeError, "batch 0 .*got ndarray"),
        ([(np.eye(2),)], TypeError, "batch 0 .*got tuple"),
        (None, TypeError, "batches must be an iterable of batches, got NoneType"),
        (RegressionData(np.eye(2), [1.0, 2.0]), TypeError, "use from_data"),
        (Moments.from_data(RegressionData(np.eye(2), [1.0, 2.0])), TypeError, "use from_data"),
    ],
)
def test_batches_that_are_none_or_do_not_fit_are_refused(batches, error, found):
    with pytest.raises(error, match=found):
        Moments.from_batches(batches)


def test_an_error_of_the_iterator_itself_passes_through():
    def batches():
        yield np.eye(2), [1.0, 2.0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="^the disk is gone$"):
        Moments.from_batches(batches())


STREAM = """
import resource, sys
import numpy as np
from bayesreg.moments import Moments

def batches():
    generator = np.random.default_rng(0)
    for _ in range(100):
        features = generator.standard_normal((10_000, 100))
        features += 1e8
        yield features, features[:, 0] - 1e8

moments = Moments.from_batches(batches())
assert moments.num_rows == 1_000_000 and moments.num_features == 100
assert abs(moments.Sxx / 1e6 - np.eye(100)).max() < 6e-3      # six standard errors of a variance are 8e-3
assert abs(moments.Sxy[0] / moments.Syy - 1) < 1e-12
assert "torch" not in sys.modules
if sys.platform == "linux":  # where ru_maxrss begins with what the process that started this one held
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(1024 * int(peak))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_million_rows_of_a_hundred_columns_stay_below_one_gibibyte():
    pytest.importorskip("resource", reason="peak memory is measured on Unix only")
    done = subprocess.run([sys.executable, "-c", STREAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert int(done.stdout) < 2**30


# --- what moments are


def test_only_rows_and_moments_have_moments():
    data = RegressionData(np.eye(2), [1.0, 2.0])
    moments = as_moments(data)
    assert as_moments(moments) is moments and moments.num_rows == 2
    for function in (as_moments, Moments.from_data):
        with pytest.raises(TypeError, match="data must be a RegressionData.*got ndarray"):
            function(np.eye(2))


def test_names_units_and_shapes_are_kept():
    data = RegressionData(make_rows()[:, :2], make_rows()[:, 2], ["a", "b"], target_name="t")
    moments = Moments.from_data(data)
    assert (moments.num_features, moments.feature_names, moments.target_name) == (2, ("a", "b"), "t")
    assert moments.Sxx.shape == (2, 2) and moments.Sxy.shape == (2,) and isinstance(moments.Syy, float)
    assert moments.transform is None and moments.centred
    assert repr(moments) == "Moments(300 rows, 2 features, target 't')"
    assert repr(moments.standardized()) == "Moments(300 rows, 2 features, target 't', standardized)"
    assert repr(moments.about_origin()) == "Moments(300 rows, 2 features, target 't', about the origin)"


def test_nothing_can_be_changed():
    moments = Moments.from_data(RegressionData(np.eye(3), [1.0, 2.0, 4.0]))
    for each in (moments, pickle.loads(pickle.dumps(moments)), moments.about_origin(), moments + moments):
        arrays = [each.pivot, each.offsets, each.scatter, each.Sxx, each.Sxy]
        for array in arrays + ([] if each.factor is None else [each.factor]):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
        with pytest.raises(AttributeError):
            each.num_rows = 3


def test_pickles_have_one_length_for_any_number_of_rows():
    joint = make_rows(rows=5000)
    scaled = make_data(joint).standardized()
    for columns in (joint, np.column_stack([scaled.features, scaled.target])):
        parts = [Moments.from_data(make_data(columns[:rows])) for rows in (1, 2, 3, 300, 5000)]
        parts.append(Moments.from_batches(cut(columns, [7, 1, 1000])))
        parts.append(pickle.loads(pickle.dumps(parts[0])) + parts[1])
        doubled = parts[-1]
        for _ in range(40):
            doubled = doubled + doubled
        parts.append(doubled)
        assert doubled.num_rows == 3 * 2**40
        assert len({len(pickle.dumps(part)) for part in parts}) == 1
    standard = [Moments.from_data(make_data(joint[:rows])).standardized() for rows in (1, 2, 300)]
    assert len({len(pickle.dumps(part)) for part in standard}) == 1


def test_a_pickle_brings_back_all_but_the_factor():
    data = RegressionData(np.eye(3), [1.0, 2.0, 4.0], ["a", "b", "c"], target_name="t").standardized()
    moments = Moments.from_data(data).about_origin()
    back = pickle.loads(pickle.dumps(moments))
    assert back.transform == moments.transform and back.transform is not moments.transform
    for name in ("num_rows", "feature_names", "target_name", "centred"):
        assert getattr(back, name) == getattr(moments, name)
    for name in ("pivot", "offsets", "scatter", "Sxx"):
        np.testing.assert_array_equal(getattr(back, name), getattr(moments, name))
    assert moments.factor is not None and back.factor is None
    assert copy.copy(moments) is copy.deepcopy(moments) is moments  # a copy in memory keeps the factor


@pytest.mark.parametrize("cut_at", [None, 100])
def test_columns_out_of_float64s_range_are_refused_by_name(cut_at):
    joint = make_rows()
    sizes = [] if cut_at is None else [cut_at]
    for scale, found in (
        (1e160, "'x1' is too large"),
        (1e307, "'x1' is too large"),
        (1e-160, "'x1' varies too little"),
    ):
        with pytest.raises(ValueError, match=found):
            Moments.from_batches(cut(joint * [1, scale, 1, 1], sizes))
    with pytest.raises(ValueError, match="'y' is too large"):
        Moments.from_batches(cut(joint * [1, 1, 1, 1e200], sizes))
    assert_moments_of(Moments.from_batches(cut(joint * [1, 1e140, 1e-140, 1], sizes)), joint * [1, 1e140, 1e-140, 1])
    first = Moments.from_data(RegressionData([[1e200]], [0.0]))
    with pytest.raises(ValueError, match="'x0' is too large"):
        first + Moments.from_data(RegressionData([[-1e200]], [0.0]))
    with pytest.raises(ValueError, match="'x0' is too large"):
        first.about_origin()


# --- factors and residuals


def square(moments):
    root = moments.square_root()
    assert root.shape[0] <= root.shape[1] == moments.num_features + 1
    return root.T @ root


def unlucky_rows(kind):
    generator = np.random.default_rng(5)
    joint = generator.standard_normal((60, 5))
    if kind == "duplicate":
        joint[:, 1] = joint[:, 0]
    elif kind == "constant":
        joint[:, [1, 2]] = [1e8 + 0.1, 0.0]
    elif kind == "constant target":
        joint[:, -1] = 0.1
    elif kind == "scales":
        joint *= [1e-12, 1.0, 1e12, 1e-6, 1e6]
    elif kind == "noise-free":
        joint[:, -1] = joint[:, :-1] @ [1.0, -2.0, 3.0, 0.5]
    elif kind == "one row":
        joint = joint[:1]
    elif kind == "few rows":
        joint = joint[:3]
    elif kind == "offset":
        joint += 1e8
    return joint


KINDS = ["duplicate", "constant", "constant target", "scales", "noise-free", "one row", "few rows", "offset"]


@pytest.mark.parametrize("about", ["mean", "origin"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_square_root_gives_the_second_moments_with_and_without_rows(kind, about):
    joint = unlucky_rows(kind)
    for moments in (Moments.from_data(make_data(joint)), Moments.from_batches([make_data(joint)])):
        moments = moments if about == "mean" else moments.about_origin()
        _, expected = two_passes(joint)
        if about == "origin":
            expected = joint.T.astype(np.longdouble) @ joint.astype(np.longdouble)
        lengths = np.sqrt(np.diagonal(expected))
        assert np.all(np.abs(square(moments) - expected) <= 1e-13 * np.outer(lengths, lengths))
        whole = np.block([[moments.Sxx, moments.Sxy[:, None]], [moments.Sxy, np.array(moments.Syy)]])
        assert np.all(np.abs(whole - expected) <= 1e-13 * np.outer(lengths, lengths))


def test_a_factor_is_kept_where_the_second_moments_lose_digits_and_only_there():
    kept = {kind: Moments.from_data(make_data(unlucky_rows(kind))).factor is not None for kind in KINDS}
    needed = {"duplicate", "noise-free", "one row", "few rows"}
    assert kept == {kind: kind in needed for kind in KINDS}
    assert Moments.from_data(load_diabetes()).factor is None
    generator = np.random.default_rng(6)
    for rows in (5, 6):  # n <= d + 1, and one more
        moments = Moments.from_data(RegressionData(generator.standard_normal((rows, 4)), np.arange(rows)))
        assert (moments.factor is not None) == (rows == 5)
    ill = Moments.from_data(make_data(unlucky_rows("duplicate")))
    assert (ill + ill).factor is None and Moments.from_batches([ill]).factor is None


def ill_conditioned_data(condition=1e9, rows=400, width=6):
    generator = np.random.default_rng(7)
    left, _ = np.linalg.qr(generator.standard_normal((rows, width)) - 0.5)
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right, _ = np.linalg.qr(generator.standard_normal((width, width)))
    features = (left * np.geomspace(1, 1 / condition, width)) @ right
    return RegressionData(features, features @ np.arange(1.0, width + 1))


def test_on_a_condition_of_1e9_the_factor_finds_the_weights_that_the_gram_loses():
    data = ill_conditioned_data()
    truth = np.arange(1.0, 7)
    moments = Moments.from_data(data)
    assert 1e8 < moments.condition() < 1e10
    root = moments.square_root()
    found = np.linalg.lstsq(root[:, :-1], root[:, -1], rcond=None)[0]
    assert np.abs(found - truth).max() < 1e-5  # condition times 1e-16, with room
    from_gram = np.linalg.lstsq(moments.Sxx, moments.Sxy, rcond=None)[0]
    assert np.abs(from_gram - truth).max() > 1e-2


def test_without_rows_the_condition_says_at_least_1e7():
    data = ill_conditioned_data()
    assert Moments.from_batches([data]).condition() > 1e7
    for condition in (1e2, 1e5):
        data = ill_conditioned_data(condition)
        centred = data.features - data.features.mean(axis=0)
        expected = np.linalg.cond(centred / np.sqrt(np.square(centred).sum(axis=0)))
        for moments in (Moments.from_data(data), Moments.from_batches([data])):
            assert moments.condition() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["duplicate", "constant", "one row", "few rows"])
def test_the_condition_is_infinite_where_the_rank_is_short(kind):
    assert Moments.from_data(make_data(unlucky_rows(kind))).condition() > 1e15


def test_as_many_rows_as_columns_have_full_rank_about_the_origin_only():
    batch = make_data(unlucky_rows("plain")[:4])
    for moments in (Moments.from_data(batch), Moments.from_batches([batch])):
        assert moments.condition() == np.inf
        assert moments.about_origin().condition() == pytest.approx(
            np.linalg.cond(batch.features / np.linalg.norm(batch.features, axis=0)), rel=1e-6
        )


def test_the_condition_does_not_see_the_scales():
    plain, scaled = (Moments.from_data(make_data(unlucky_rows(kind))).condition() for kind in ("noise", "scales"))
    assert plain == pytest.approx(scaled, rel=1e-9) and 1 < plain < 10


@pytest.mark.parametrize("about", ["mean", "origin"])
@pytest.mark.parametrize("kind", [*KINDS, "plain"])
def test_residuals_are_those_of_the_rows(kind, about):
    joint = unlucky_rows(kind)
    weights = np.array([0.3, -0.2, 0.7, 1.1]) / (joint.std(axis=0)[:-1] + (kind != "scales"))
    exact = joint.astype(np.longdouble)
    if about == "mean":
        exact = exact - exact[0]
        exact = exact - exact.mean(axis=0)
    left = exact[:, -1] - exact[:, :-1] @ weights
    lengths = np.sqrt(np.square(exact[:, :-1]).sum(axis=0)).astype(float)
    size = float(np.sqrt(np.square(exact[:, -1]).sum()) + np.abs(weights) @ lengths)
    for moments in (Moments.from_data(make_data(joint)), Moments.from_batches([make_data(joint)])):
        moments = moments if about == "mean" else moments.about_origin()
        rss, cross = moments.residuals(weights)
        assert isinstance(rss, float) and rss >= 0
        assert abs(rss - float(left @ left)) <= 1e-14 * size**2
        assert np.all(np.abs(cross - (exact[:, :-1].T @ left).astype(float)) <= 1e-14 * size * lengths)


def test_residuals_of_a_perfect_fit_are_zero_to_the_digits_of_the_rows():
    joint = unlucky_rows("noise-free") + 1e3
    data, weights = make_data(joint), np.array([1.0, -2.0, 3.0, 0.5])
    rss, cross = Moments.from_data(data).residuals(weights)
    assert rss < 60 * (1e3 * 1e-15) ** 2 and np.abs(cross).max() < 1e-10
    assert 0 <= Moments.from_batches([data]).residuals(weights)[0] < 1e-10


def test_residuals_of_a_perfect_fit_are_never_negative():
    generator = np.random.default_rng(9)
    for _ in range(20):
        features, weights = generator.standard_normal((50, 3)), generator.standard_normal(3)
        moments = Moments.from_batches([(features, features @ weights)])
        assert moments.residuals(weights)[0] >= 0  # from the scatter alone it is rounding, of either sign


def test_residuals_of_many_weights_and_of_tensors():
    moments = Moments.from_data(load_diabetes())
    weights = np.random.default_rng(8).standard_normal((3, 2, 10)) * 300
    rss, cross = moments.residuals(torch.tensor(weights))
    assert rss.shape == (3, 2) and cross.shape == (3, 2, 10)
    one, gradient = moments.residuals(weights[2, 1])
    assert one == pytest.approx(rss[2, 1], rel=1e-13)
    np.testing.assert_allclose(cross[2, 1], gradient, rtol=1e-10)
    for shape in ((), (9,), (10, 9)):
        with pytest.raises(ValueError, match=r"weights must have shape \(\.\.\., 10\)"):
            moments.residuals(np.zeros(shape))


# --- about the origin, and in standard units


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e8])
def test_about_the_origin_nothing_is_centred(offset):
    joint = make_rows(offset=offset)
    parts = [Moments.from_data(part).about_origin() for part in cut(joint, [100, 1])]
    exact = joint.astype(np.longdouble)
    expected = exact.T @ exact
    for moments in (
        Moments.from_data(make_data(joint)).about_origin(),
        sum(parts),
        pickle.loads(pickle.dumps(sum(parts))),
    ):
        assert not moments.centred and moments.target_mean == 0 and not moments.feature_means.any()
        np.testing.assert_allclose(moments.Sxx, expected[:-1, :-1].astype(float), rtol=1e-13)
        np.testing.assert_allclose(moments.Sxy, expected[:-1, -1].astype(float), rtol=1e-13)
        assert moments.Syy == pytest.approx(float(expected[-1, -1]), rel=1e-13)
        # The digits below the offset are there still: the square root's weights are those of the rows.
        root = moments.square_root()
        found = np.linalg.lstsq(root[:, :-1], root[:, -1], rcond=None)[0]
        slow = np.linalg.lstsq(joint[:, :-1], joint[:, -1], rcond=None)[0]
        np.testing.assert_allclose(found, slow, rtol=1e-6)
        assert moments.about_origin().about_origin().Syy == moments.Syy


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("kind", ["plain", "constant", "constant target", "scales", "few rows", "one row"])
def test_standardizing_moments_is_standardizing_rows(kind, offset):
    joint = unlucky_rows(kind)
    joint = joint + offset * np.abs(joint).max(axis=0)
    data = make_data(joint)
    rows, moments = Moments.from_data(data.standardized()), Moments.from_data(data).standardized()
    np.testing.assert_allclose(moments.scatter, rows.scatter, atol=1e-12 * len(joint))
    np.testing.assert_allclose(moments.transform.as_vector(), rows.transform.as_vector(), rtol=1e-12, atol=1e-6)
    np.testing.assert_allclose(moments.transform.feature_scales, rows.transform.feature_scales, rtol=1e-12)
    assert not moments.feature_means.any() and np.abs(rows.feature_means).max() < 1e-13
    assert (moments.factor is None) == (rows.factor is None)
    if rows.factor is not None:
        np.testing.assert_allclose(square(moments), square(rows), atol=1e-12)
    for index, column in enumerate(data.features.T):
        assert moments.Sxx[index, index] == pytest.approx(len(joint) * (np.ptp(column) > 0), rel=1e-12)


def test_moments_are_not_standardized_twice_or_about_the_origin():
    moments = Moments.from_data(load_diabetes())
    with pytest.raises(ValueError, match="standardized already"):
        moments.standardized().standardized()
    with pytest.raises(ValueError, match="about the origin"):
        moments.about_origin().standardized()


@pytest.mark.parametrize("shape", [(60_000, 12), (900, 600)])
def test_digits_do_not_depend_on_the_number_of_threads(shape):
    features = np.random.default_rng(0).standard_normal(shape)
    data = RegressionData(features, features[:, 0])
    scatters = []
    for number in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            scatters.append(Moments.from_data(data).scatter)
        finally:
            torch.set_num_threads(before)
    assert all(np.array_equal(scatters[0], other) for other in scatters)


def test_sums_over_chosen_rows_copy_no_more_than_a_block():
    generator = np.random.default_rng(3)
    data = RegressionData(generator.standard_normal((300_000, 10)), generator.standard_normal(300_000))
    halves = [np.arange(0, 300_000, 2), np.arange(1, 300_000, 2)]
    pivot = np.append(data.features[0], data.target[0])
    tracemalloc.start()
    both = sum_up_parts(data, pivot, halves)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # a half of the rows has 12 MiB
    whole = Moments.from_data(data)
    lengths = np.sqrt(np.diagonal(whole.scatter))
    assert np.abs(both[0].merged(both[1]).scatter - whole.scatter).max() <= 1e-13 * (lengths**2).max()
