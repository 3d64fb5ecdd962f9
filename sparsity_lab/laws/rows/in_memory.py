"""Tables that a program has in memory already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.rows.tables import InputTable, of_objects


def table_of(values: object, name: str = "table") -> InputTable:
    """A table in memory: columns by name, rows as mappings, or whatever hands its columns to Arrow.

    Args:
        values: a mapping of columns (lists, arrays) by name, a sequence of mappings, or a table of pyarrow, polars or
            pandas.
        name: what errors call it.

    Raises:
        RecordError: it is none of these, or its columns differ in length.
    """
    if isinstance(values, Mapping):
        rows: list[Any] = _rows(values, name)
    elif hasattr(values, "__arrow_c_stream__"):
        import pyarrow as pa  # noqa: PLC0415 - loaded where a table of Arrow is given

        with refusing(name, RecordError):
            table = pa.table(values)
            rows = _rows(dict(zip(table.column_names, map(_listed, table.columns), strict=True)), name)
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        rows = [dict(row) if isinstance(row, Mapping) else row for row in values]
    else:
        expected = "columns by name, a list of rows, or a table of pyarrow, polars or pandas"
        raise RecordError("is no table", where=name, found=type(values).__name__, expected=expected)
    return of_objects(Path(name), rows, [f"{name}: row {number}" for number in range(1, len(rows) + 1)])


def _rows(columns: Mapping[Any, Any], name: str) -> list[dict[str, Any]]:
    """Columns of equal length as rows."""
    listed: dict[str, list[Any]] = {}
    for key, column in columns.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__iter__"):
            raise RecordError("is no column", where=name, field=str(key), found=column, expected="a list or an array")
        with refusing(name, RecordError, field=str(key)):
            listed[str(key)] = _listed(column)
    lengths = {key: len(column) for key, column in listed.items()}
    if len(set(lengths.values())) > 1:
        raise RecordError("has columns of several lengths", where=name, found=lengths, expected="one cell a row")
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def _listed(column: Any) -> list[Any]:
    """The values of a list, an array of numpy or one of Arrow, as Python's own."""
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)
