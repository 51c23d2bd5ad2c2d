"""Rows: what is taken, what is refused and how it is named, files, and the built-in data."""

import pickle

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from fresh_process import modules_after
from pyarrow import parquet

from bayesreg import tables
from bayesreg.data import (
    RegressionData,
    load_diabetes,
    read_batches,
    read_table,
    require_rows,
    simulate_weight_decay,
)
from bayesreg.moments import Moments

FRAME = pd.DataFrame({"size": [1.5, 2.5, -3.0, 0.1], "rooms": [1, 2, 3, 2], "price": [10.0, 20.0, 1 / 3, 5e-324]})


# --- rows in memory


def test_frames_give_their_names_and_tensors_their_numbers():
    data = RegressionData(FRAME[["size", "rooms"]], FRAME["price"])
    assert data.feature_names == ("size", "rooms") and data.target_name == "price"
    assert RegressionData(FRAME[["size", "rooms"]], FRAME["price"], target_name="cost").target_name == "cost"
    same = RegressionData(torch.tensor(data.features), torch.tensor(data.target))
    np.testing.assert_array_equal(same.features, FRAME[["size", "rooms"]])
    np.testing.assert_array_equal(same.target, FRAME["price"])
    assert same.feature_names == ("x0", "x1") and same.target_name == "y"
    assert (data.num_rows, data.num_features) == (4, 2)
    assert RegressionData(FRAME[["size"]], FRAME["price"], ["area"]).feature_names == ("area",)
    assert RegressionData(pd.DataFrame(np.eye(2)), [1, 2]).feature_names == ("0", "1")


@pytest.mark.parametrize("name", [None, 0, "", ("price", "net")])
def test_a_series_gives_the_targets_name_only_where_it_is_a_text(name):
    numbered = pd.DataFrame(np.eye(4))
    assert RegressionData(numbered, FRAME["price"].rename(name)).target_name == "y"


def test_a_target_left_among_the_features_is_refused():
    with pytest.raises(ValueError, match="no feature may have the target's name, got 'price' for both: leave that col"):
        RegressionData(FRAME, FRAME["price"])


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ([3, 2, 1, 0], "got 0 and 3 in row 0"),
        ([0, 1, 3, 2], "got 2 and 3 in row 2"),
        (["0", "1", "2", "3"], "got 0 and '0' in row 0"),
        (pd.date_range("2026-01-01", periods=4), r"got 0 and Timestamp\(.* in row 0"),
        (pd.MultiIndex.from_product([["a", "b"], [0, 1]]), r"got 0 and \('a', 0\) in row 0"),
    ],
)
def test_rows_that_two_indices_name_differently_are_refused(index, found):
    features, target = FRAME[["size", "rooms"]], FRAME["price"].set_axis(index)
    with pytest.raises(ValueError, match=rf"must have one index.*{found}.*target\.loc\[features\.index\].*to_numpy"):
        RegressionData(features, target)
    with pytest.raises(ValueError, match="batch 0 .*must have one index"):
        Moments.from_batches([(features, target)])
    assert RegressionData(features, target.to_numpy()).num_rows == RegressionData(features.to_numpy(), target).num_rows


@pytest.mark.parametrize("index", [range(4), [0.0, 1.0, 2.0, 3.0], ["a", "b", "a", "b"], [np.nan, 1, 2, 3]])
def test_one_index_is_accepted_however_it_is_made(index):
    features, target = FRAME[["size", "rooms"]].set_axis(pd.Index(index)), FRAME["price"].set_axis(list(index))
    np.testing.assert_array_equal(RegressionData(features, target).target, FRAME["price"])


def test_what_the_refusal_of_two_indices_advises_matches_rows_by_label():
    features, target = FRAME[["size", "rooms"]], FRAME["price"].sort_values()
    data = RegressionData(features, target.loc[features.index])
    np.testing.assert_array_equal(data.target, FRAME["price"])


def test_float64_is_viewed_and_anything_else_copied():
    features, target = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    data = RegressionData(features, target)
    assert np.shares_memory(data.features, features) and np.shares_memory(data.target, target)
    features[0, 0] = 7.0
    assert data.features[0, 0] == 7.0
    assert not np.shares_memory(RegressionData(features.astype(np.float32), target).features, features)


def test_nothing_can_be_changed():
    data = RegressionData(np.eye(3), [True, False, True])
    standard = data.standardized()
    again = pickle.loads(pickle.dumps(standard))
    np.testing.assert_array_equal(again.features, standard.features)
    np.testing.assert_array_equal(again.transform.as_vector(), standard.transform.as_vector())
    assert (again.feature_names, again.target_name) == (standard.feature_names, standard.target_name)
    for array in (data.features, data.target, standard.features, again.features, again.target):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(AttributeError):
        data.target_name = "z"


def test_one_row_and_one_column_work():
    data = RegressionData([[3]], [2])
    assert (data.num_rows, data.num_features) == (1, 1)
    assert repr(data) == "RegressionData(1 rows, 1 features, target 'y')"
    assert repr(data.standardized()) == "RegressionData(1 rows, 1 features, target 'y', standardized)"


@pytest.mark.parametrize(
    ("features", "target", "names", "found"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, r"features must be a matrix.*got shape \(2,\); .*reshape"),
        (np.zeros((2, 2, 2)), [1.0, 2.0], None, r"features must be a matrix.*got shape \(2, 2, 2\)"),
        (3.0, [1.0], None, r"features must be a matrix.*got shape \(\)"),
        (np.zeros((2, 2)), [[1.0], [2.0]], None, r"target must be a vector.*got shape \(2, 1\); give target\[:, 0\]"),
        (np.zeros((2, 2)), pd.DataFrame([1.0, 2.0]), None, r"got shape \(2, 1\); give target\.iloc\[:, 0\]"),
        (np.zeros((2, 2)), 1.0, None, r"target must be a vector.*got shape \(\)"),
        (np.zeros((2, 2)), [1.0, 2.0, 3.0], None, "as many rows each, got 2 and 3"),
        (np.zeros((0, 2)), [], None, r"at least one row and one column, got shape \(0, 2\)"),
        (np.zeros((2, 0)), [1.0, 2.0], None, r"at least one row and one column, got shape \(2, 0\)"),
        (pd.DataFrame({"a": [], "b": []}, dtype=object), [], None, r"at least one row.*\(0, 2\)"),
        (np.zeros((0, 2), dtype=object), [], None, r"at least one row.*\(0, 2\)"),
        ([[1.0, 2.0], [3.0, np.nan]], [1.0, 2.0], ["a", "b"], "features must be finite, got nan in column 'b', row 1"),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0, -np.inf], None, "target must be finite, got -inf in column 'y', row 1"),
        (np.zeros((2, 2)), [1.0, 2.0], ["a", "a"], "more than one 'a'"),
        (np.zeros((2, 2)), [1.0, 2.0], ["a"], "one name a column, got 1 for 2"),
        (np.zeros((2, 2)), [1.0, 2.0], ["a", "y"], "target's name, got 'y'"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), [1.0, 2.0], None, "more than one 'a'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(features, target, names, found):
    with pytest.raises(ValueError, match=found):
        RegressionData(features, target, names)


@pytest.mark.parametrize(
    ("features", "target", "names", "found"),
    [
        ([[1.0, "red"], [2.0, "blue"]], [1.0, 2.0], ["a", "colour"], "features .*column 'colour'.*'red'"),
        ([[1.0, "red"], [2.0, "blue"]], [1.0, 2.0], None, "column 'x1'"),
        ([[1.0, "red"], [2.0, "blue"]], [1.0, 2.0], ["a"], "features .*column 'x1'.*'red'"),
        (pd.DataFrame({"a": [1.0], "b": ["red"]}), [1.0], ["a"], "features .*column 'x1'.*'red'"),
        ([[1.0], [2.0]], [[1.0, "2"], [3.0, "4"]], None, "target .*column 'x1'.*'2'"),
        ([[1.0], [2.0]], ["1", "2"], None, "target .*column 'y'"),
        ([[1.0], [2.0]], pd.Series([1.0, "2"]), None, "target .*column 'y'.*row 0|target .*column 'y'.*'2'"),
        ([[1.0 + 1j], [2.0]], [1.0, 2.0], None, "column 'x0'"),
        ([[1.0], [2.0]], [1.0, None, "2"], None, "target .*column 'y'.*'2'"),
        (np.zeros((2, 2)), [1.0, 2.0], "ab", "feature_names must be a sequence .*got 'ab'"),
        (np.zeros((2, 2)), [1.0, 2.0], 5, "feature_names must be a sequence .*got 5"),
        (np.zeros((2, 2)), [1.0, 2.0], ["a", None], "a name in feature_names must be a string, got None"),
        (np.zeros((2, 2)), [1.0, 2.0], [b"a", b"b"], "got b'a'"),
    ],
)
def test_what_is_no_number_is_refused_by_name(features, target, names, found):
    with pytest.raises(TypeError, match=found):
        RegressionData(features, target, names)


def test_splitting_is_a_seeded_permutation_that_keeps_the_units():
    features = np.arange(40.0).reshape(20, 2)
    data = RegressionData(features, features[:, 0], ["a", "b"], target_name="t").standardized()
    train, test = data.split(0.25, seed=3)
    assert (train.num_rows, test.num_rows) == (15, 5)
    both = np.vstack([train.features, test.features])
    np.testing.assert_array_equal(both[np.argsort(both[:, 0])], data.features)
    np.testing.assert_allclose(train.features[:, 0], train.target)
    assert train.feature_names == test.feature_names == ("a", "b") and test.target_name == "t"
    assert train.transform is data.transform and test.transform is data.transform
    again, _ = data.split(0.25, seed=3)
    np.testing.assert_array_equal(again.features, train.features)
    assert not np.array_equal(data.split(0.25, seed=4)[0].features, train.features)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, np.nan, 0.99, "a", None])
def test_a_split_without_rows_on_a_side_is_refused(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        RegressionData(np.eye(5), np.arange(5)).split(fraction)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (0.5, TypeError), (None, TypeError)]
)
def test_a_split_needs_a_seed(seed, error):
    with pytest.raises(error, match="seed must be"):
        RegressionData(np.eye(5), np.arange(5)).split(0.5, seed=seed)


def test_rows_are_required_by_name_of_what_was_given():
    data = RegressionData([[1.0]], [1.0])
    assert require_rows(data, "training") is data
    Moments = type("Moments", (), {})
    with pytest.raises(TypeError, match="training needs rows.*got Moments.*no rows"):
        require_rows(Moments(), "training")
    with pytest.raises(TypeError, match="got ndarray; br.RegressionData"):
        require_rows(np.eye(2), "training")


# --- built-in data


def test_diabetes_is_scikit_learns():
    data = load_diabetes()
    assert (data.num_rows, data.num_features) == (442, 10) and data.feature_names[:3] == ("age", "sex", "bmi")
    np.testing.assert_allclose(np.square(data.features).sum(axis=0), 1.0)
    assert data.target[:3].tolist() == [151.0, 75.0, 141.0]


def test_the_weight_decay_experiment_is_the_books():
    train, test = simulate_weight_decay(seed=0)
    assert train.features.shape == (20, 200) and test.features.shape == (100, 200)
    many, more = simulate_weight_decay(seed=1, num_train=20_000, num_test=1, num_features=10)
    residuals = many.target - 0.05 - 0.01 * many.features.sum(axis=1)
    assert residuals.mean() == pytest.approx(0.0, abs=5 * 0.01 / 20_000**0.5)
    assert residuals.std() == pytest.approx(0.01, rel=5 / 40_000**0.5)
    assert many.features.mean() == pytest.approx(0.0, abs=5 / 200_000**0.5)
    assert many.features.std() == pytest.approx(1.0, rel=5 / 400_000**0.5)
    np.testing.assert_array_equal(simulate_weight_decay(seed=0)[1].target, test.target)
    assert not np.array_equal(simulate_weight_decay(seed=1)[0].target, train.target)
    assert not np.array_equal(more.features[0], many.features[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": None},
        {"num_train": 0},
        {"num_test": 2.0},
        {"num_features": -3},
        {"weight": np.nan},
        {"intercept": "0"},
        {"noise_scale": -1},
        {"noise_scale": [1.0]},
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(wrong):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(wrong))} must be"):
        simulate_weight_decay(**wrong)


def test_no_random_state_is_touched():
    state = np.random.get_state()[1].copy()
    simulate_weight_decay(seed=0)
    load_diabetes().split(0.5, seed=1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# --- files


@pytest.fixture(params=[".csv", ".parquet", ".CSV"])
def write(request, tmp_path):
    def write(frame, **options):
        path = tmp_path / f"houses{request.param}"
        if request.param == ".parquet":
            frame.to_parquet(path, **options)
        else:
            frame.to_csv(path, index=False)
        return path

    return write


def test_a_table_is_read_to_the_last_digit(write):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.standard_normal((500, 3)) * 10.0 ** generator.integers(-300, 300, (500, 3)))
    frame.columns = ["a", "b", "c"]
    frame.insert(1, "flag", generator.random(500) < 0.5)
    data = read_table(str(write(frame)), target="b")
    assert data.feature_names == ("a", "flag", "c") and data.target_name == "b"
    np.testing.assert_array_equal(data.features, frame[["a", "flag", "c"]].to_numpy(float))
    np.testing.assert_array_equal(data.target, frame["b"])


@pytest.mark.parametrize("rows", [1, 3, 7, 20, 1000])
def test_batches_are_the_table_in_pieces(write, rows):
    frame = pd.DataFrame(np.random.default_rng(1).standard_normal((20, 3)), columns=["a", "b", "c"])
    path = write(frame)
    whole = read_table(path, "a")
    batches = list(read_batches(path, "a", rows=rows))
    assert [batch.num_rows for batch in batches] == [min(rows, 20 - start) for start in range(0, 20, rows)]
    assert {batch.feature_names for batch in batches} == {("b", "c")}
    np.testing.assert_array_equal(np.vstack([batch.features for batch in batches]), whole.features)
    np.testing.assert_array_equal(np.concatenate([batch.target for batch in batches]), whole.target)


def test_row_numbers_count_over_the_file(write):
    frame = pd.DataFrame({"a": np.arange(10.0), "y": np.arange(10.0)})
    frame.loc[7, "a"] = np.nan
    path = write(frame)
    with pytest.raises(ValueError, match="houses.*got nan in column 'a', row 7 "):
        read_table(path, "y")
    batches = read_batches(path, "y", rows=3)
    assert next(batches).num_rows == next(batches).num_rows == 3
    with pytest.raises(ValueError, match="houses.*got nan in column 'a', row 7 "):
        next(batches)
    with pytest.raises(ValueError, match="column 'a', row 7 "):
        read_table(path, "a")


def test_text_is_refused_by_name(write):
    path = write(pd.DataFrame({"a": ["1.5", "x", "2"], "y": [1.0, 2.0, 3.0]}))
    with pytest.raises(TypeError, match="column 'a'.*'x'.* in row 1"):
        read_table(path, "y")
    with pytest.raises(TypeError, match="column 'a'.*'x'.* in row 1"):
        read_table(path, "a")


def test_a_column_that_turns_text_later_is_refused_by_name(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("a,y\n" + "1,2\n" * 9 + "oops,2\n")
    batches = read_batches(path, "y", rows=4)
    assert next(batches).num_rows == next(batches).num_rows == 4
    with pytest.raises(TypeError, match="late.csv.*column 'a'.*'oops'.* in row 9"):
        next(batches)


def test_text_far_down_a_table_is_refused_without_a_warning(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("a,y\n" + "1,2\n" * 400_000 + "oops,2\n")
    with pytest.raises(TypeError, match="long.csv.*column 'a'.*'oops'.* in row 400000 "):
        read_table(path, "y")


def test_a_target_that_is_not_there_is_answered_with_the_columns(write):
    path = write(FRAME)
    for read in (read_table, read_batches):
        with pytest.raises(ValueError, match="got 'cost'; its columns are size, rooms, price"):
            read(path, "cost")
    with pytest.raises(ValueError, match="besides the target 'price'"):
        read_table(write(FRAME[["price"]]), "price")


def test_files_without_rows_are_refused(write):
    path = write(FRAME.iloc[:0])
    with pytest.raises(ValueError, match="must have rows"):
        read_table(path, "price")
    with pytest.raises(ValueError, match="must have rows"):
        list(read_batches(path, "price"))
    path.write_bytes(b"")
    for read in (read_table, read_batches):
        with pytest.raises(ValueError, match="houses"):
            read(path, "price")


@pytest.mark.parametrize("read", [read_table, read_batches])
def test_files_that_cannot_be_read_are_refused_at_once(read, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.csv"):
        read(tmp_path / "nothing.csv", "y")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileNotFoundError, match="folder.csv"):
        read(tmp_path / "folder.csv", "y")
    for name in ("table.xlsx", "table"):
        with pytest.raises(ValueError, match=r"path must end in \.csv or \.parquet, got .*table"):
            read(tmp_path / name, "y")
    for name, kind in (("noise.csv", "CSV"), ("noise.parquet", "Parquet")):
        (tmp_path / name).write_bytes(bytes(range(256)) * 4)
        with pytest.raises(ValueError, match=f"{name} must be .*{kind}"):
            read(tmp_path / name, "y")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,a,y\n1,2,3\n", "more than one 'a'"),
        ("a,y,y\n1,2,3\n", "got 'y' for both"),
        (",a,y\n0,1,2\n", r"broken\.csv must have a name .*, got none for column 1 of 3; .*index=False"),
        ("a,y,\n0,1,2\n", r"got none for column 3 of 3$"),
        ("a;y\n1;2\n", r"broken\.csv must have commas between its columns, .*, got ';' in its header 'a;y'"),
        ("a;y\n1,5;2,5\n", "must have commas"),
        ("a\ty\n1\t2\n", r"must have commas .*got '\\t'"),
        ("a,y\n1,2,3\n4,5,6\n", "a name for each column, got 2 for 3"),
        ("a,y\n  \n9,1,2\n8,3,4\n", "a name for each column, got 2 for 3"),
        ("a,y\n \t\n\n0,1,2\n1,3,4\n", "a name for each column, got 2 for 3"),
        ("a,y\n1,2\n4,5,6\n", "Expected 2 fields"),
        ("a,y\n1,2\n4\n", "got nan in column 'y', row 1 "),
        ("a,y\n1,2\n4,\n", "got nan in column 'y', row 1 "),
        ("a,y\n1,2\n4,inf\n", "got inf in column 'y', row 1 "),
        ("a,y\n1,NA\n", "got nan in column 'y', row 0 "),
    ],
)
def test_broken_csv_is_refused(text, found, tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=found):
        read_table(path, "y")
    with pytest.raises(ValueError, match=found):
        list(read_batches(path, "y", rows=1))


def test_a_byte_order_mark_quotes_blanks_and_empty_lines_are_no_harm(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_bytes('\n \t\n"größe, m", y\n\n  \n1, 2\n\t\n3, "4"\n'.encode("utf-8-sig"))
    data = read_table(path, "y")
    assert data.feature_names == ("größe, m",)
    assert data.features.tolist() == [[1.0], [3.0]] and data.target.tolist() == [2.0, 4.0]


def test_parquet_files_may_repeat_names_or_number_columns_or_keep_an_index(tmp_path):
    path = tmp_path / "table.parquet"
    columns = [pyarrow.array([1.0, 2.0])] * 3
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["a", "a", "y"]), path)
    with pytest.raises(ValueError, match="more than one 'a'"):
        read_table(path, "y")
    FRAME.set_index("rooms").to_parquet(path)
    assert read_table(path, "price").feature_names == ("size",)
    parquet.write_table(pyarrow.Table.from_pandas(pd.DataFrame(np.eye(3))), path)
    assert read_table(path, "1").feature_names == ("0", "2")
    parquet.write_table(pyarrow.table({"a": [1, None], "y": [1, 2]}), path)
    with pytest.raises(ValueError, match="got nan in column 'a', row 1 "):
        read_table(path, "y")
    parquet.write_table(pyarrow.table({"a": [[1], [2]], "y": [1, 2]}), path)
    with pytest.raises(TypeError, match="column 'a'"):
        read_table(path, "y")


def test_batches_of_one_row_group_are_not_held_whole(tmp_path):
    path = tmp_path / "group.parquet"
    table = pyarrow.table({name: np.random.default_rng(0).standard_normal(2_000_000) for name in "xy"})
    parquet.write_table(table, path, row_group_size=2_000_000)
    del table
    before, held = pyarrow.total_allocated_bytes(), 0
    for batch in read_batches(path, "y", rows=50_000):
        held = max(held, pyarrow.total_allocated_bytes() - before)
        assert batch.num_rows <= 50_000
    assert path.stat().st_size > 30e6 and held < 15e6


@pytest.mark.parametrize(("rows", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), (True, TypeError)])
def test_the_rows_of_a_batch_are_checked_at_once(rows, error):
    with pytest.raises(error, match=f"rows must be .*, got {rows}"):
        read_batches("never read.csv", "y", rows=rows)


def test_a_batch_may_be_larger_than_any_file(write):
    (batch,) = read_batches(write(FRAME), "price", rows=10**30)
    np.testing.assert_array_equal(batch.target, FRAME["price"])


@pytest.mark.parametrize("read", [read_table, read_batches])
@pytest.mark.parametrize("path", [None, 3, b"table.csv"])
def test_what_is_no_path_is_refused_by_name(read, path):
    with pytest.raises(TypeError, match="path must be a string or a path, got"):
        read(path, "y")


def test_the_verdict_on_a_cell_does_not_depend_on_the_rows_beside_it(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_text("a,b,y\nTrue,-1,1\n2.5,18446744073709551615,2\nFALSE,0.1,18446744073709551616\n")
    for batch in [read_table(path, "y")], read_batches(path, "y", rows=1):
        features, target = zip(*((data.features, data.target) for data in batch), strict=True)
        assert np.vstack(features).tolist() == [[1.0, -1.0], [2.5, 2.0**64], [0.0, 0.1]]
        assert np.concatenate(target).tolist() == [1.0, 2.0, 2.0**64]
    path.write_text("a,y\nTrue,1\n1_000,2\n")
    with pytest.raises(TypeError, match="column 'a'.*'1_000'.* in row 1"):
        read_table(path, "y")
    with pytest.raises(TypeError, match="column 'a'.*'1_000'.* in row 1"):
        list(read_batches(path, "y", rows=1))


def test_missing_entries_are_refused_as_such_in_every_kind_of_column(tmp_path):
    for column in ([True, None], [None, None], ["", None]):
        parquet.write_table(pyarrow.table({"a": column, "y": [1, 2]}), path := tmp_path / "table.parquet")
        error, found = (TypeError, "''") if "" in column else (ValueError, "got nan in column 'a'")
        with pytest.raises(error, match=found):
            read_table(path, "y")
    with pytest.raises(ValueError, match="got nan in column 'x0', row 1 "):
        RegressionData([[1], [None]], [1, 2])


def test_importing_brings_neither_torch_nor_pandas():
    assert not {"torch", "pandas", "sklearn"} & modules_after("import bayesreg.data, bayesreg.moments")


@pytest.mark.parametrize(("rows", "expected"), [(20, [20, 20, 10]), (7, [7] * 7 + [1]), (50, [50]), (60, [50])])
def test_batches_are_as_long_as_asked_whatever_the_parts_they_are_decoded_in(rows, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_DECODED_ROWS", 8)
    frame = pd.DataFrame({"x": np.arange(50.0), "y": 2.0})
    frame.to_parquet(tmp_path / "parts.parquet", row_group_size=13)
    batches = list(read_batches(tmp_path / "parts.parquet", "y", rows))
    assert [batch.num_rows for batch in batches] == expected
    assert np.concatenate([batch.features[:, 0] for batch in batches]).tolist() == list(range(50))
