"""Tables in files, CSV and Parquet, as pandas frames of all their rows or of some at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from bayesreg.computing.progress import progress_bar

if TYPE_CHECKING:
    import pandas
    import pyarrow

# Larger batches than the readers can count to are the whole file.
_MOST_ROWS = 2**31 - 1
_DECODED_ROWS = 2**14
_READ_AT_ONCE = 2**18  # bytes of a file whose reading is shown

# What pandas reads as booleans in a column of nothing else.
_BOOLEANS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def open_table(
    path: str | PathLike, rows: int | None, progress: bool = False
) -> tuple[str, list[str], Iterator[pandas.DataFrame]]:
    """Open a file, and check at once what its header tells.

    Args:
        path: File whose name ends in `.csv` or `.parquet`.
        rows: The most rows of a frame; `None` for all.
        progress: Whether to show a bar while frames are read.

    Returns:
        The file's name, the columns' names as they stand in it, and an iterator over frames with those columns.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If the path is none.
        ValueError: If the ending is another, the file is broken, or a column has no name.
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"path must be a string or a path, got {path!r}")
    path = Path(path)
    formats = {".csv": (_csv_names, _csv_frames), ".parquet": (_parquet_names, _parquet_frames)}
    if path.suffix.lower() not in formats:
        raise ValueError(f"path must end in {' or '.join(formats)}, got {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file, got {str(path)!r}, where there is none")
    read_names, read_frames = formats[path.suffix.lower()]
    names = read_names(path)
    if "" in names:
        position = names.index("")
        cause = "" if position else "; where pandas wrote its index there, write the file with to_csv(..., index=False)"
        wanted = f"{path.name} must have a name for each column"
        raise ValueError(f"{wanted}, got none for column {position + 1} of {len(names)}{cause}")
    return path.name, names, read_frames(path, names, None if rows is None else min(rows, _MOST_ROWS), progress)


def _csv_names(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        # As pandas does, over lines of blanks and tabs too: the first row after them is the one that it counts.
        reader = csv.reader(file, skipinitialspace=True)
        lines = (line for line in reader if len(line) > 1 or "".join(line).strip(" \t"))
        try:
            names, first = next(lines, []), next(lines, [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} must be CSV in UTF-8: {error}") from error
    if not names:
        raise ValueError(f"{path.name} must have a header and rows, got an empty file")
    if len(names) == 1 and (found := next((mark for mark in ";\t|" if mark in names[0]), None)):
        wanted = f"{path.name} must have commas between its columns, and points in its numbers"
        raise ValueError(f"{wanted}, got {found!r} in its header {names[0]!r}")
    if len(first) > len(names):  # pandas would take the first column for an index, or drop the last
        raise ValueError(f"{path.name} must have a name for each column, got {len(names)} for {len(first)} columns")
    return names


def _csv_frames(path: Path, names: list[str], rows: int | None, progress: bool) -> Iterator[pandas.DataFrame]:
    import pandas

    # The names as they stand in the file: pandas would rename some. One type for a column: not one for each part of it.
    options = {"header": 0, "names": names, "skipinitialspace": True, "low_memory": False}
    if tuple(int(part) for part in pandas.__version__.split(".")[:2]) < (3, 1):
        options["float_precision"] = "round_trip"  # older readers are off by an ulp at times without
    try:
        with (
            progress_bar(progress, f"reading {path.name}", path.stat().st_size) as bar,
            _counted(path, bar.advance) if progress else nullcontext(path) as file,
            pandas.read_csv(file, iterator=True, chunksize=rows, **options) as reader,
        ):
            for frame in reader:
                texts = [name for name in names if frame[name].dtype.kind not in "biuf"]
                yield frame.assign(**{name: [_cell(value) for value in frame[name]] for name in texts})
    except (pandas.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} must be CSV in UTF-8: {error}") from error


class _Counted(io.FileIO):
    """A file that tells how many of its bytes were read."""

    def __init__(self, path: Path, advance: Callable[[int], None]):
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: bytearray) -> int:
        count = super().readinto(buffer)
        self._advance(count)
        return count


def _counted(path: Path, advance: Callable[[int], None]) -> io.BufferedReader:
    return io.BufferedReader(_Counted(path, advance), _READ_AT_ONCE)


def _cell(value):
    """Return the number of a cell in a column that pandas could not read as one of numbers; what has none, as it is.

    A column of numbers and booleans, or of integers beyond 64 bits, is such a column as a whole, but need not be one in
    each batch: so that the batches do not matter, each cell is taken by itself.
    """
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    try:
        return float(value) if isinstance(value, str) and "_" not in value else value
    except ValueError:
        return value


def _parquet_names(path: Path) -> list[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path.name} must be a Parquet file: {error}") from error
    return [str(name) for name in schema.empty_table().to_pandas().columns]


def _parquet_frames(path: Path, names: list[str], rows: int | None, progress: bool) -> Iterator[pandas.DataFrame]:
    from pyarrow import parquet

    # A small buffer a column, so that a row group which is the whole file is not held whole; decoded in small parts,
    # since decoding needs several times the memory of what it gives.
    with (
        parquet.ParquetFile(path, buffer_size=2**16, pre_buffer=False) as file,
        progress_bar(progress, f"reading {path.name}", file.metadata.num_rows if rows else None) as bar,
    ):
        tables = _tables_of(file.iter_batches(min(rows, _DECODED_ROWS)), rows) if rows else [[file.read()]]
        for table in tables:
            bar.advance(table[0].num_rows)
            yield table.pop().to_pandas().set_axis(names, axis=1)  # pandas' own names need not be strings


def _tables_of(parts: Iterator[pyarrow.RecordBatch], rows: int) -> Iterator[list[pyarrow.Table]]:
    """Join small parts to tables of so many rows, the last of fewer; each in a list, to be taken out of it."""
    import pyarrow

    held, missing = [], rows
    for part in parts:
        while part.num_rows:
            held.append(part.slice(0, missing))
            missing -= held[-1].num_rows
            part = part.slice(held[-1].num_rows)
            if not missing:
                table = [pyarrow.Table.from_batches(held)]
                held, missing = [], rows
                yield table
    if held:
        yield [pyarrow.Table.from_batches(held)]
