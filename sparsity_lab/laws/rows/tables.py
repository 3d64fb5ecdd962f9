"""Tables as other tools write them: CSV, TSV, JSON, JSON lines, Parquet, Feather. Every row knows where it stands.

A cell is a number, a text, true or false, or missing (None): empty, null, NaN and the words na, n/a, null and none are
missing. True is no number. What is none of these (a date, a list) is kept as text; an object in a row becomes
columns of its own (`trees`). A column of CSV without a name is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.reading import (
    PACKED,
    feather_columns,
    json_lines,
    parquet_rows,
    parquet_schema,
    parse_json,
    read_text,
)
from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.rows.delimited import read_delimited, refuse_twice
from sparsity_lab.laws.rows.trees import flat, is_object, rows_in

Cell = float | str | bool | None
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
QUANTITIES = ("sparsity", "nonzero", "data", "loss")
"""names by which rows and columns of a JSON frame are told apart"""
MOST_CELLS = 50_000_000
"""of a table: rows times columns, those that a row leaves out included"""


@dataclass(frozen=True, eq=False)
class InputTable:
    """Columns of equal length, and where each row stands.

    Attributes:
        path: the file.
        columns: by name, one cell a row.
        places: `file:line` of each row, or `file: row n` where rows have no lines.
        cut: by column, the rows of CSV that end before it: a spreadsheet left empty cells out, or a copy broke off.
    """

    path: Path
    columns: Mapping[str, Sequence[Cell]]
    places: tuple[str, ...]
    cut: Mapping[str, Sequence[int]] = field(default_factory=dict)

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
                comma = isinstance(cell, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell)
                expected = "one with a dot, or --decimal , for all" if comma else ""
                raise RecordError("is not a number", where=place, field=name, found=cell, expected=expected)
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)


class Dialect(NamedTuple):
    """How files are written; Excel's first line `sep=;` says its delimiter itself.

    Attributes:
        delimiter: between cells of CSV; None for a comma, and a tab in .tsv.
        decimal: mark before decimals; with a comma, dots between groups of three digits are thousands.
        all_dense: runs of a file without a column sparsity are dense; else that is an error.
    """

    delimiter: str | None = None
    decimal: str = "."
    all_dense: bool = False


PLAIN_DIALECT = Dialect()


def are_tables(names: Iterable[Path | str]) -> bool:
    """Whether all names end as files do that `read_table` reads."""
    return all(_ending(Path(name)) in KINDS for name in names)


def refuse_other_files(name: str) -> None:
    """Refuse what names no study where it is a file's and ends in no way that `read_table` knows.

    Raises:
        RecordError: a file stands there that cannot be read, or the name is that of a file, and none stands there.
    """
    path = Path(name)
    if path.suffix.lower() in {".yaml", ".yml"}:
        return
    if not path.exists() and (len(path.parts) > 1 or name.startswith((".", "/")) or path.suffix):
        raise RecordError("no such file, and no such study", where=name)
    if path.is_file() or path.suffix.lower() in PACKED:
        expected = f"a file that ends in {', '.join(KINDS)}, or in one of these and {' or '.join(PACKED)}"
        raise RecordError("is no table of runs that can be read", where=name, expected=expected)


def read_table(path: Path | str, dialect: Dialect = PLAIN_DIALECT) -> InputTable:
    """Read a table; the name's ending says what it is (before .gz, where it is packed), and any other is read as CSV.

    Args:
        path: the file.
        dialect: of CSV and TSV; others have none.

    Raises:
        RecordError: the file is missing, empty, damaged or of another kind, or a row has more cells than there are
            columns.
        MachineError: the file is Parquet or Feather and pyarrow is not installed.
    """
    path = Path(path)
    ending = _ending(path)
    if ending in _READERS:
        return _READERS[ending](path)
    return _read_csv(path, dialect._replace(delimiter=dialect.delimiter or ("\t" if ending == ".tsv" else ",")))


def _ending(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() in PACKED else path.name).suffix.lower()


def _read_csv(path: Path, dialect: Dialect) -> InputTable:
    lines = read_delimited(path, dialect.delimiter or ",")
    names, number = lines.names, _with_decimal_comma if dialect.decimal == "," else str
    _check_size(path, len(lines.rows), len(names))
    if any(is_object(text) for row in lines.rows for text in row):
        rows = [{name: number(text) for name, text in zip(names, row, strict=False) if name} for row in lines.rows]
        table = of_objects(path, rows, lines.places)
    else:
        cells = [[_cell(number(text)) for text in row] + [None] * (len(names) - len(row)) for row in lines.rows]
        columns = {name: [row[i] for row in cells] for i, name in enumerate(names) if name}
        table = InputTable(path, columns, tuple(lines.places))
    return replace(table, cut=lines.cut())


def _with_decimal_comma(text: str) -> str:
    """A number as `float` reads it; a dot where no thousands can be makes it a text."""
    if re.fullmatch(r"\s*[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d*)?([eE][+-]?\d+)?\s*", text):
        return text.replace(".", "").replace(",", ".")
    return f"{text} (with a dot)" if re.fullmatch(r"\s*[+-]?[\d.]+([eE][+-]?\d+)?\s*", text) else text


def _read_json(path: Path) -> InputTable:
    tree = rows_in(parse_json(read_text(path, RecordError), path, RecordError), path, QUANTITIES)
    return of_objects(path, tree, [f"{path}: row {number}" for number in range(1, len(tree) + 1)])


def _read_json_lines(path: Path) -> InputTable:
    lines = list(json_lines(path, RecordError))
    return of_objects(path, [row for _, row in lines], [f"{path}:{number}" for number, _ in lines])


def _read_parquet(path: Path) -> InputTable:
    schema, rows = parquet_schema(path, RecordError)
    names = schema.names
    refuse_twice(names, path)
    _check_size(path, rows, len(names))
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    for start, block in parquet_rows(path, RecordError):
        for name, values in block.items():
            with refusing(f"{path}: row {start + 1} and following", RecordError, "cannot be read", field=name):
                columns[name] += map(_cell, _pythonic(values))
    return InputTable(path, columns, tuple(f"{path}: row {number}" for number in range(1, rows + 1)))


def _read_feather(path: Path) -> InputTable:
    columns: dict[str, list[Cell]] = {}
    found = feather_columns(path, RecordError)
    rows = len(next(iter(found.values()))) if found else 0
    _check_size(path, rows, len(found))
    for name, values in found.items():
        with refusing(path, RecordError, "cannot be read", field=name):
            columns[name] = list(map(_cell, _pythonic(values)))
    return InputTable(path, columns, tuple(f"{path}: row {number}" for number in range(1, rows + 1)))


def _pythonic(values: Any) -> list[Any]:
    """The values of an Arrow array; dates, whose Python kinds know no nanoseconds, as text."""
    import pyarrow as pa  # noqa: PLC0415 - loaded where a Parquet file is read

    return list((values.cast(pa.string()) if pa.types.is_temporal(values.type) else values).to_pylist())


_READERS: Mapping[str, Callable[[Path], InputTable]] = MappingProxyType(
    {
        ".json": _read_json,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
        ".feather": _read_feather,
        ".arrow": _read_feather,
    }
)
KINDS = (".csv", ".tsv", *_READERS)
"""endings of the files that can be read"""


def of_objects(path: Path, rows: Sequence[Any], places: Sequence[str]) -> InputTable:
    """Rows that are mappings; a name that a row lacks is missing there."""
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row, dict):
            raise RecordError("is no row", where=place, found=row, expected="an object of names and values")
    rows = [flat(row) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    _check_size(path, len(rows), len(names))
    columns = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return InputTable(path, columns, tuple(places))


def _check_size(path: Path, rows: int, columns: int) -> None:
    if rows * columns > MOST_CELLS:
        found = f"{rows:,} rows of {columns:,} columns"
        raise RecordError("is too large a table", where=path, found=found, expected=f"at most {MOST_CELLS:,} cells")


def _cell(value: Any) -> Cell:
    """A value as a cell; a number too large for a float is infinite, in whatever format it was written.

    A length of time is none, and neither is a text with underscores, though Python takes both for numbers.
    """
    if isinstance(value, timedelta) or (isinstance(value, str) and "_" in value):
        return str(value).strip()
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
