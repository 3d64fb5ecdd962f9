"""The rows of an index: a record's values as columns, and records from them.

Numbers and names have a column each; every other value is a text of JSON, parsed once however many rows share it, as
most do. A file is the SHA-256 of what follows, and a Parquet table.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter

from sparsity_lab import __version__
from sparsity_lab.artifacts.records import LONG, RunCost, RunRecord
from sparsity_lab.specs.runs import RunSpec

FORMAT = "1"
ABOUT = {"format": FORMAT, "version": __version__}
STAMP = pa.schema([("size", pa.int64()), ("modified", pa.int64()), ("changed", pa.int64()), ("inode", pa.uint64())])
PLAIN: Mapping[object, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
OPENED = (RunSpec, RunCost)
"""models whose fields are columns of their own"""
DIGEST = hashlib.sha256().digest_size

Made = TypeVar("Made", bound=BaseModel)


class _Field(NamedTuple):
    """A value of a record."""

    path: tuple[str, ...]
    """names from the record on"""
    plain: pa.DataType | None
    """None for what is kept as JSON"""
    adapter: TypeAdapter[Any]
    """reads that"""

    @property
    def column(self) -> str:
        return ".".join(self.path)


def _fields(kind: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[_Field]:
    hints = get_type_hints(kind, include_extras=True)
    for name, field in kind.model_fields.items():
        if field.annotation in OPENED:
            yield from _fields(field.annotation, (*above, name))
        elif above or name not in LONG:
            yield _Field((*above, name), PLAIN.get(field.annotation), TypeAdapter(hints[name]))


@cache
def _known() -> tuple[tuple[_Field, ...], pa.Schema]:
    """The fields of a record, and the columns of an index: they decide whether a file is one."""
    fields = tuple(_fields(RunRecord))
    columns = [pa.field(field.column, field.plain or pa.string()) for field in fields]
    return fields, pa.schema([*STAMP, *columns], metadata=ABOUT)


def load(path: Path) -> pa.Table:
    """The rows of an index; none where there is no file, or one that is damaged or of another version."""
    _, schema = _known()
    with contextlib.suppress(Exception):
        content = path.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            rows = pq.read_table(pa.BufferReader(content[DIGEST:]))
            if rows.schema.equals(schema, check_metadata=True):
                return rows
    return schema.empty_table()


def packed(rows: pa.Table) -> bytes:
    """The file of an index."""
    content = io.BytesIO()
    pq.write_table(rows, content, compression="zstd")
    return hashlib.sha256(content.getbuffer()).digest() + content.getbuffer()


def stamps(rows: pa.Table) -> Iterator[tuple[object, ...]]:
    """(fingerprint, *stamp) of each row."""
    return zip(*(rows[name].to_pylist() for name in ("fingerprint", *STAMP.names)), strict=True)


def settled(rows: pa.Table, before: int) -> pa.Table:
    """Rows of files that have not changed since a moment, in ns."""
    return rows.filter(pc.less(rows["changed"], before))


def joined(rows: pa.Table, kept: Sequence[int], new: Iterable[pa.Table]) -> pa.Table:
    """Some rows, by their numbers, and further ones."""
    return pa.concat_tables([rows.take(pa.array(kept, pa.int64())), *new]).combine_chunks()


def rows_of(found: Sequence[tuple[Sequence[int], RunRecord]]) -> pa.Table:
    """A row for each stamp and record."""
    fields, schema = _known()
    trees = [record.model_dump(mode="json", exclude=set(LONG)) for _, record in found]
    columns: list[list[Any]] = [[stamp[k] for stamp, _ in found] for k in range(len(STAMP))]
    for field in fields:
        if field.plain:
            columns.append([reduce(getattr, field.path, record) for _, record in found])
        else:
            columns.append([json.dumps(reduce(_part, field.path, tree)) for tree in trees])
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _part(tree: Mapping[str, Any], name: str) -> Any:
    """A value of a record's JSON, which leaves some out that are None."""
    return tree.get(name)


def records(kind: type[Made], rows: pa.Table, chosen: Sequence[int], **private: object) -> list[Made]:
    """Records without their long parts from chosen rows, of a kind that has private attributes beside them.

    Raises:
        ValidationError: a row holds what is no part of a record.
    """
    rows = rows.take(pa.array(chosen, pa.int64()))
    values = {field.path: _values(rows[field.column], field) for field in _known()[0]}
    return list(_made(kind, values, (), private))


def _values(column: pa.ChunkedArray, field: _Field) -> list[Any]:
    """A column's values: equal texts give one object."""
    if field.plain in {pa.int64(), pa.float64()}:
        return list(column.to_numpy().tolist())
    shared = pc.dictionary_encode(column.combine_chunks())
    distinct: list[Any] = shared.dictionary.to_pylist()
    if not field.plain:
        distinct = [field.adapter.validate_json(text) for text in distinct]
    return [distinct[k] for k in shared.indices.to_numpy().tolist()]


def _made(
    kind: type[Made], values: Mapping[tuple[str, ...], list[Any]], above: tuple[str, ...], private: Mapping[str, object]
) -> Iterator[Made]:
    columns: dict[str, Iterable[Any]] = {}
    for name, field in kind.model_fields.items():
        if field.annotation in OPENED:
            columns[name] = _made(field.annotation, values, (*above, name), {})
        elif (*above, name) in values:
            columns[name] = values[*above, name]
    names = set(columns)
    for row in zip(*columns.values(), strict=True):
        made = kind.model_construct(names, **dict(zip(columns, row, strict=True)), **private)
        for name in made.__dict__.keys() - names:
            del made.__dict__[name]  # a default stands for nothing here
        yield made
