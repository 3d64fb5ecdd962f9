"""Tables as other tools write them: CSV, TSV, JSON, JSON lines, Parquet. Every row knows where it stands.

A cell is a number, a text, or missing (None): empty, null, NaN and the words na, n/a, null and none are missing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import MachineError, RecordError

Cell = float | str | None
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})


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

    def holds_text(self, name: str) -> bool:
        """Whether any cell of a column is a text."""
        return any(isinstance(cell, str) for cell in self.cells(name))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """(rows,) of a column; NaN where a cell is missing.

        Raises:
            RecordError: there is no such column, or a cell is a text.
        """
        cells = self.cells(name)
        for place, cell in zip(self.places, cells, strict=True):
            if isinstance(cell, str):
                raise RecordError("is not a number", where=place, field=name, found=cell)
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)


def are_tables(names: Iterable[Path | str]) -> bool:
    """Whether all names end as files do that `read_table` reads."""
    return all(Path(name).suffix.lower() in KINDS for name in names)


def read_table(path: Path | str) -> InputTable:
    """Read a table; the name's ending says what it is, and anything unknown is read as CSV.

    Raises:
        RecordError: the file is missing, damaged or of another kind, or a row has more cells than there are columns.
        MachineError: the file is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    try:
        return _READERS.get(path.suffix.lower(), _read_csv)(path)
    except FileNotFoundError:
        raise RecordError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot be read: {error}", where=path) from None


def _read_csv(path: Path, delimiter: str = ",") -> InputTable:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = _distinct([name.strip() for name in next(reader, [])], path)
            lines = [(f"{path}:{reader.line_num}", row) for row in reader if row]
        except csv.Error as error:
            raise RecordError(f"cannot be read as CSV: {error}", where=f"{path}:{reader.line_num}") from None
    for place, row in lines:
        if len(row) > len(names):
            message = "holds more cells than there are columns"
            raise RecordError(message, where=place, found=len(row), expected=f"{len(names)} cells")
    rows = [[_cell(text) for text in row] + [None] * (len(names) - len(row)) for _, row in lines]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return InputTable(path, columns, tuple(place for place, _ in lines))


def _read_json(path: Path) -> InputTable:
    """A list of objects, one a row, or one object of lists, one a column."""
    tree = _parse(path.read_text(encoding="utf-8"), str(path))
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
    lines = [(f"{path}:{n}", line) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)]
    rows = [(place, _parse(line, place)) for place, line in lines if line.strip()]
    return _of_objects(path, [row for _, row in rows], [place for place, _ in rows])


def _read_parquet(path: Path) -> InputTable:
    try:
        # pyarrow takes longer to load than all else, and only Parquet needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
        from pyarrow import ArrowException  # noqa: PLC0415
    except ImportError:
        raise MachineError("reading Parquet needs pyarrow", where=path, expected="pip install pyarrow") from None
    try:
        columns = pq.read_table(path).to_pydict()
    except ArrowException as error:
        raise RecordError(f"cannot be read as Parquet: {error}", where=path) from None
    rows = max((len(column) for column in columns.values()), default=0)
    places = tuple(f"{path}: row {number}" for number in range(1, rows + 1))
    return InputTable(path, {name: [_cell(value) for value in column] for name, column in columns.items()}, places)


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


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"cannot be read as JSON: {error}", where=where) from None


def _of_objects(path: Path, rows: Sequence[Any], places: Sequence[str]) -> InputTable:
    """Rows that are mappings; a name that a row lacks is missing there."""
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row, dict):
            raise RecordError("is no row", where=place, found=row, expected="an object of names and values")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return InputTable(path, columns, tuple(places))


def _distinct(names: Sequence[str], path: Path) -> Sequence[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecordError("names a column twice", where=f"{path}:1", field=twice[0])
    return names


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        value = None if value.strip().lower() in MISSING else value.strip()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None if value is None else str(value)
    return None if math.isnan(number) else number
