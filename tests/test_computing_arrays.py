"""Whatever a user has, as float64; what is refused is named."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
import torch

from bayesreg.computing.arrays import as_float64, check_finite, check_index, check_names, read_only

EXPECTED = np.array([[1.0, 0.0], [2.0, 1.0], [-3.0, 1.0]])


@pytest.mark.parametrize(
    "values",
    [
        [[1, False], [2, True], [-3, True]],
        EXPECTED.astype(np.float32),
        EXPECTED.astype(np.float16),
        EXPECTED.astype(np.longdouble),
        EXPECTED.astype(">f8"),
        EXPECTED.astype(np.int8),
        np.asfortranarray(EXPECTED),
        np.repeat(EXPECTED, 2, axis=0)[::2],
        np.ma.masked_array(EXPECTED, mask=False),
        torch.tensor(EXPECTED),
        torch.tensor(EXPECTED, requires_grad=True),
        torch.tensor(EXPECTED).to(torch.bfloat16),
        torch.tensor(EXPECTED).to(torch.int32),
        torch.tensor(EXPECTED.T.copy()).T,
        pd.DataFrame(EXPECTED),
        pd.DataFrame({"a": [1, 2, -3], "b": [False, True, True]}),
        pd.DataFrame({"a": pd.array([1, 2, -3], dtype="Int64"), "b": pd.array([False, True, True], dtype="boolean")}),
        pd.DataFrame({"a": np.float32([1, 2, -3]), "b": [0, 1, 1]}, index=[5, 5, 7]),
        EXPECTED.astype(object),
        np.array([[1, False], [np.float32(2), np.bool_(True)], [np.int8(-3), 1.0]], dtype=object),
        pd.DataFrame({"a": [1, 2, -3], "b": [False, True, True]}).to_numpy(),
        pd.DataFrame({"a": [1, 2, -3], "b": [False, 1, 1.0]}, dtype=object),
    ],
)
def test_numbers_of_every_kind_become_contiguous_float64(values):
    array = as_float64(values, "features")
    np.testing.assert_array_equal(array, EXPECTED)
    assert array.dtype == np.float64 and array.flags.c_contiguous


@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (2, 3, 4)])
def test_shapes_are_kept(shape):
    assert as_float64(np.ones(shape, dtype=np.float32), "x").shape == shape
    assert as_float64(torch.ones(shape), "x").shape == shape


def test_contiguous_float64_is_not_copied():
    assert np.shares_memory(as_float64(EXPECTED, "x"), EXPECTED)
    tensor = torch.tensor(EXPECTED)
    assert np.shares_memory(as_float64(tensor, "x"), tensor.numpy())


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[1, "2"], [3, "four"]], r"column 'b'.*'four' \(str\) in row 11"),
        ([["one", 2], [3, 4]], r"column 'a'.*'one' \(str\) in row 10"),
        (np.array([["1", "2"], ["3", "4"]]), r"column 'a'.*'1' \(str\) in row 10"),
        (np.array([[1, "2"], [3, 4]], dtype=object), r"column 'b'.*'2' \(str\) in row 10"),
        (pd.DataFrame({"a": [1, None, "2"]}), r"column 'a'.*'2' \(str\) in row 12"),
        ([[1, 2j], [3, 4]], r"column 'b'.*2j \(complex\) in row 10"),
        (torch.tensor([[1, 2], [3, 4j]]), r"column 'a'.*\(complex\) in row 10"),
        ([[1, decimal.Decimal(2)], [3, decimal.Decimal(4)]], r"column 'b'.*\(Decimal\) in row 10"),
        (np.array([["2020-01-01", "2020-01-02"]], dtype="datetime64[D]"), r"column 'a'.*\(datetime64\) in row 10"),
        (np.array([[1, 2]], dtype="timedelta64[ns]"), r"column 'a'.*\(timedelta64\) in row 10"),
        (pd.DataFrame({"a": [1, 2], "b": ["1", "x"]}), r"column 'b'.*'x' \(str\) in row 11"),
        (pd.DataFrame({"a": [1, 2], "b": [1, "x"]}), r"column 'b'.*'x' \(str\) in row 11"),
        (pd.DataFrame({"a": [1, 2], "b": [1j, 2]}), r"column 'b'.*1j \(complex\) in row 10"),
        (pd.DataFrame({"a": pd.Categorical([1, 2]), "b": [1, 2]}), "column 'a' is of categories"),
        (pd.DataFrame({"a": [1, 2], "b": [datetime.datetime(2020, 1, 1)] * 2}), r"column 'b'.*\(Timestamp\) in row 10"),
        (pd.DataFrame({"a": [1, 2], "b": [pd.Timedelta(1)] * 2}), r"column 'b'.*\(Timedelta\) in row 10"),
    ],
)
def test_what_is_no_real_number_is_refused_with_column_value_and_row(values, found):
    with pytest.raises(TypeError, match=found):
        as_float64(values, "features", ("a", "b"), first_row=10)


def test_ragged_nesting_is_refused():
    with pytest.raises(ValueError, match="features must have rows of one length"):
        as_float64([[1, 2], [3]], "features")


@pytest.mark.parametrize(
    "values",
    [
        np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, False], [False, True]]),
        pd.DataFrame({"a": [1, 3], "b": pd.array([2, None], dtype="Int64")}),
        pd.DataFrame({"a": [1, 3], "b": [2.0, None]}),
        [[1, 2], [3, None]],
        np.array([[1, 2], [3, pd.NA]]),
        np.ma.masked_array(np.array([[1, 2], [3, 4]], dtype=object), mask=[[False, False], [False, True]]),
        pd.DataFrame({"a": [True, 3], "b": [2, None]}, dtype=object),
    ],
)
def test_missing_entries_are_nan(values):
    np.testing.assert_array_equal(as_float64(values, "x"), [[1, 2], [3, np.nan]])


def test_integers_beyond_64_bits_are_numbers_and_beyond_float64_infinite():
    assert as_float64([[2**64, 10**400], [1, -(10**400)]], "x").tolist() == [[2.0**64, np.inf], [1.0, -np.inf]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_entry_that_is_not_finite_is_named(bad):
    matrix = np.zeros((4, 3))
    check_finite(matrix, "features", "abc")
    matrix[2, 1] = matrix[3, 0] = bad
    with pytest.raises(ValueError, match=rf"features must be finite, got {bad} in column 'b', row 102 .*2 of 12"):
        check_finite(matrix, "features", "abc", first_row=100)


@pytest.mark.parametrize(
    ("names", "target_name", "found"),
    [
        (("a",), "y", "one name a column, got 1 for 2"),
        (("a", "b", "c"), "y", "one name a column, got 3 for 2"),
        (("a", "a"), "y", "must differ, got more than one 'a'"),
        (("a", ""), "y", "must not be empty"),
        (("a", "b"), "", "must not be empty"),
        (("a", "y"), "y", "target's name, got 'y' for both"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, target_name, found):
    with pytest.raises(ValueError, match=found):
        check_names(names, 2, target_name)


def test_read_only_leaves_the_original_writeable():
    original = np.zeros(2)
    view = read_only(original)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    original[0] = 1
    assert view[0] == 1


def test_an_index_counts_from_the_first_whatever_it_is_given_as():
    assert [check_index(index, "index", 5) for index in (0, 4, -1, -5, np.int64(2), torch.tensor(3))] == [
        0,
        4,
        4,
        0,
        2,
        3,
    ]
    for index, error in ((5, IndexError), (-6, IndexError), (1.0, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="index must be"):
            check_index(index, "index", 5)
