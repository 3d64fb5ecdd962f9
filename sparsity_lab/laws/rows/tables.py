"""Tables as other tools write them: CSV, TSV, JSON, JSON lines, Parquet. Every row knows where it stands.

A cell is a number, a text, true or false, or missing (None): empty, null, NaN and the words na, n/a, null and none are
missing. True is no number. What is none of these (a date, a list, an object) is kept as text.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.reading import PACKED, json_lines, parquet_rows, parquet_schema, parse_json, read_text
from sparsity_lab.errors import RecordError, refusing

Cell = float | str | bool | None
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
MOST_CELLS = 50_000_000
"""of a table: rows times columns, those that a row leaves out included"""


@dataclass(frozen=True, eq=False)
class InputTable:
    """Columns of equal length, and where each row stands.

    Attributes:
        path: the file.
        columns: by name, one cell a row.
        places: `file:line` of each row, or `file: row n` where rows have no lines.
    """

    path: Path
    columns: Mapping[str, Sequence[Cell]]
    places: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.places)

    def cells(self, name: str) -> Sequence[Cell]:
        """A column as it stands.

        Raises:
            RecordError: there is none of that name.
        """
        if name not in self.columns:
            raise RecordError(
                f"lacks the column {name}", where=self.path, found=list(self.columns), expected=f"a column {name}"
            )
        return self.columns[name]

    def holds(self, name: str, kind: type[str | bool]) -> bool:
        """Whether any cell of a column is a text, or true or false."""
        return any(isinstance(cell, kind) for cell in self.cells(name))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """(rows,) of a column; NaN where a cell is missing.

        Raises:
            RecordError: there is no such column, or a cell is a text, true or false.
        """
        cells = self.cells(name)
        for place, cell in zip(self.places, cells, strict=True):
            if isinstance(cell, str | bool):
                raise RecordError("is not a number", where=place, field=name, found=cell)
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)


def are_tables(names: Iterable[Path | str]) -> bool:
    """Whether all names end as files do that `read_table` reads."""
    return all(_ending(Path(name)) in KINDS for name in names)


def refuse_other_files(name: str) -> None:
    """Refuse a name that is a file's and ends in no way that `read_table` knows.

    Raises:
        RecordError: a file stands there, or the name has an ending of files after a folder; it is no study's, either.
    """
    path = Path(name)
    if path.suffix.lower() in {".yaml", ".yml"}:
        return
    if path.is_file() or (path.suffix and path.parent != Path()) or path.suffix.lower() == PACKED:
        expected = f"a file that ends in {', '.join(KINDS)}, or in one of these and {PACKED}"
        raise RecordError("is no table of runs that can be read", where=name, expected=expected)


def read_table(path: Path | str) -> InputTable:
    """Read a table; the name's ending says what it is (before .gz, where it is packed), and any other is read as CSV.

    Raises:
        RecordError: the file is missing, damaged or of another kind, or a row has more cells than there are columns.
        MachineError: the file is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    return _READERS.get(_ending(path), _read_csv)(path)


def _ending(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() == PACKED else path.name).suffix.lower()


def _read_csv(path: Path, delimiter: str = ",") -> InputTable:
    text = read_text(path, RecordError)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[str, list[str]]] = []
    names: Sequence[str] | None = None
    while True:
        with refusing(f"{path}:{reader.line_num + 1}", RecordError, "cannot be read as CSV"):
            row = next(reader, None)
        if row is None:
            break
        if names is None:
            names = _distinct([name.strip() for name in row], path)
        elif row:
            lines.append((f"{path}:{reader.line_num}", row))
    names = names or []
    _check_size(path, len(lines), len(names))
    for place, row in lines:
        if len(row) > len(names):
            message = "holds more cells than there are columns"
            raise RecordError(message, where=place, found=len(row), expected=f"{len(names)} cells")
    rows = [[_cell(text) for text in row] + [None] * (len(names) - len(row)) for _, row in lines]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return InputTable(path, columns, tuple(place for place, _ in lines))


def _read_json(path: Path) -> InputTable:
    """A list of objects, one a row, or one object of lists, one a column."""
    tree = parse_json(read_text(path, RecordError), path, RecordError)
    if isinstance(tree, dict) and tree and all(isinstance(column, list) for column in tree.values()):
        lengths = {len(column) for column in tree.values()}
        if len(lengths) > 1:
            raise RecordError("columns differ in length", where=path, found=sorted(lengths))
        tree = [dict(zip(tree, row, strict=True)) for row in zip(*tree.values(), strict=True)]
    if not isinstance(tree, list):
        expected = "a list of objects, or one object of lists"
        raise RecordError("holds no table", where=path, found=type(tree).__name__, expected=expected)
    return _of_objects(path, tree, [f"{path}: row {number}" for number in range(1, len(tree) + 1)])


def _read_json_lines(path: Path) -> InputTable:
    lines = list(json_lines(path, RecordError))
    return _of_objects(path, [row for _, row in lines], [f"{path}:{number}" for number, _ in lines])


def _read_parquet(path: Path) -> InputTable:
    schema, rows = parquet_schema(path, RecordError)
    names = _distinct(schema.names, path)
    _check_size(path, rows, len(names))
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    for start, block in parquet_rows(path, RecordError):
        for name, values in block.items():
            with refusing(f"{path}: row {start + 1} and following", RecordError, "cannot be read", field=name):
                columns[name] += map(_cell, _pythonic(values))
    return InputTable(path, columns, tuple(f"{path}: row {number}" for number in range(1, rows + 1)))


def _pythonic(values: Any) -> list[Any]:
    """The values of an Arrow array; dates, whose Python kinds know no nanoseconds, as text."""
    import pyarrow as pa  # noqa: PLC0415 - loaded where a Parquet file is read

    return list((values.cast(pa.string()) if pa.types.is_temporal(values.type) else values).to_pylist())


_READERS: Mapping[str, Callable[[Path], InputTable]] = MappingProxyType(
    {
        ".tsv": partial(_read_csv, delimiter="\t"),
        ".json": _read_json,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
)
KINDS = (".csv", *_READERS)
"""endings of the files that can be read"""


def _of_objects(path: Path, rows: Sequence[Any], places: Sequence[str]) -> InputTable:
    """Rows that are mappings; a name that a row lacks is missing there."""
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row, dict):
            raise RecordError("is no row", where=place, found=row, expected="an object of names and values")
    names = dict.fromkeys(name for row in rows for name in row)
    _check_size(path, len(rows), len(names))
    columns = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return InputTable(path, columns, tuple(places))


def _check_size(path: Path, rows: int, columns: int) -> None:
    if rows * columns > MOST_CELLS:
        found = f"{rows:,} rows of {columns:,} columns"
        raise RecordError("is too large a table", where=path, found=found, expected=f"at most {MOST_CELLS:,} cells")


def _distinct(names: Sequence[str], path: Path) -> Sequence[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecordError("names a column twice", where=f"{path}:1", field=twice[0])
    return names


def _cell(value: Any) -> Cell:
    """A value as a cell; a number too large for a float is infinite, in whatever format it was written."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value = value.strip()
        if value.lower() in MISSING:
            return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else number
