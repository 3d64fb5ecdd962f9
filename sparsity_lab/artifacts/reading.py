"""The border to files: text, JSON, JSON lines and Parquet are read here, by one reader each, for tables and data alike.

Whatever a library throws ends in one error that names the file and the place in it (`errors.refusing`). All readers
take what tools write: a byte order mark before text, lines that end in CRLF, empty lines, files packed by gzip or
Zstandard.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from pydantic import BaseModel, ValidationError

from sparsity_lab.artifacts.kinds import naming
from sparsity_lab.errors import InputError, MachineError, RecordError, first_problem, refusing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Document = TypeVar("Document", bound=BaseModel)

ZSTANDARD = ".zst"
PACKED = {".gz": "damaged gzip file", ZSTANDARD: "damaged Zstandard file"}
"""how the names of packed files end, and what is told of one that cannot be unpacked"""
MARK = b"\xef\xbb\xbf"
"""byte order mark of UTF-8"""
LARGEST_UNPACKED = 2**30
"""bytes that a packed file may hold: a table of more is read unpacked"""
LONGEST_LINE = 2**28
"""bytes of one line of JSON lines"""
ROWS = 256
"""rows of a Parquet file decoded at once"""


def read_json(path: Path, kind: type[Document], name: str) -> Document:
    """A document from its file.

    Args:
        path: the file.
        kind: what it should hold.
        name: of such a document, with its article, for errors.

    Raises:
        RecordError: the file is missing, damaged, another document, or of another format version.
    """
    content = read_bytes(path, RecordError)
    with refusing(path, RecordError, f"is no {name.partition(' ')[2]}"):
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise _refusal(path, name, error) from None


def _refusal(path: Path, name: str, error: ValidationError) -> RecordError:
    field, wrong, found = first_problem(error)
    first = error.errors(include_url=False)[0]
    if field == "version" and first["type"] == "literal_error":
        expected = f"{first['ctx']['expected']}: make it again"
        return RecordError(
            f"is {name} of another format version", where=path, field=field, found=found, expected=expected
        )
    return RecordError(f"is no {name.partition(' ')[2]}: {wrong}", where=path, field=field)


def file_sha256(path: Path, error: type[InputError]) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        InputError: of the kind `error`: it is no file (a pipe would be waited for), or cannot be read.
    """
    with refusing(path, error):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise error("cannot be read: is no file", where=path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def opened(path: Path, error: type[InputError]) -> Iterator[BinaryIO]:
    """A file to read bytes from; what gzip (.gz) or Zstandard (.zst) packed is unpacked on the way.

    Raises:
        InputError: of the kind `error`: there is no such file, it is none (a folder, a pipe), or it cannot be read.
    """
    form = path.suffix.lower()
    with refusing(path, error, PACKED.get(form, "cannot be read")):
        if path.exists() and not path.is_file():
            raise error("is a folder" if path.is_dir() else "is no file", where=path)
        with _unpacked(path) if form == ZSTANDARD else gzip.open(path) if form in PACKED else path.open("rb") as file:
            yield cast("BinaryIO", file)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    import pyarrow as pa  # noqa: PLC0415 - takes longer to load than all else

    with path.open("rb") as packed, pa.CompressedInputStream(packed, "zstd") as stream:
        yield cast("BinaryIO", io.BufferedReader(stream))


def read_bytes(path: Path, error: type[InputError]) -> bytes:
    """All of a file; raises as `opened`, and where a packed file holds more than can be read at once."""
    with opened(path, error) as file:
        content = file.read(LARGEST_UNPACKED + 1) if path.suffix.lower() in PACKED else file.read()
    if path.suffix.lower() in PACKED and len(content) > LARGEST_UNPACKED:
        raise error("unpacks to more than can be read at once", where=path, expected=f"{LARGEST_UNPACKED:,} bytes")
    return content


def read_text(path: Path, error: type[InputError]) -> str:
    """All of a file of UTF-8, without a byte order mark.

    Raises:
        InputError: of the kind `error`: as `read_bytes`, and where a byte is no UTF-8, with its line.
    """
    content = read_bytes(path, error)
    with naming(path, error, "text"):
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as wrong:
            line = content.count(b"\n", 0, wrong.start) + 1
            found = content[wrong.start :][:4]
            raise error("cannot be read: is not UTF-8", where=f"{path}:{line}", found=found) from None


def parse_json(text: str | bytes, path: Path, error: type[InputError], *, line: int | None = None) -> Any:
    """What JSON says; NaN and Infinity, which Python and JavaScript write, are numbers.

    Args:
        text: all of a file, or a line of it.
        path: the file.
        error: what is raised.
        line: which line of the file it is, where it is one.

    Raises:
        InputError: of the kind `error`: it is no JSON, nests too deep, holds a number of thousands of digits, or an
            object that names a field twice.
    """
    where = path if line is None else f"{path}:{line}"
    with naming(path, error, "JSON"), refusing(where, error, "cannot be read as JSON"):
        if isinstance(text, bytes):
            text = text.removeprefix(MARK).decode()
        try:
            return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object)
        except json.JSONDecodeError as wrong:
            place = f"{path}:{wrong.lineno if line is None else line}"
            raise error(f"cannot be read as JSON: {wrong.msg}, column {wrong.colno}", where=place) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object names {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def json_lines(path: Path, error: type[InputError]) -> Iterator[tuple[int, Any]]:
    r"""What each line of a file says, with its number, counted from 1; empty lines are passed over.

    Only \n ends a line: texts may hold U+2028 and its like.

    Raises:
        InputError: of the kind `error`: the file cannot be read, or a line is no JSON.
    """
    with opened(path, error) as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            if len(line) > LONGEST_LINE:
                raise error("is too long a line", where=f"{path}:{number}", expected=f"{LONGEST_LINE:,} bytes")
            if not line.isspace():
                yield number, parse_json(line, path, error, line=number)


def parquet_schema(path: Path, error: type[InputError]) -> tuple[pa.Schema, int]:
    """Names and types of the columns of a Parquet file, and how many rows it has.

    Raises:
        InputError: of the kind `error`: it is missing or no Parquet file.
        MachineError: pyarrow is not installed.
    """
    with _parquet(path, error) as file:
        return file.schema_arrow, file.metadata.num_rows


def parquet_rows(
    path: Path, error: type[InputError], columns: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, pa.Array]]]:
    """Blocks of rows of a Parquet file: the number of the first, from 0, and an array for each column.

    Dictionaries are decoded, and every kind of text (large, views) comes as `large_string`, checked to be UTF-8.

    Args:
        path: the file.
        error: what is raised.
        columns: names of those to read; all when None.

    Raises:
        InputError: of the kind `error`: it is missing, damaged, lacks a column, or a text in it is no UTF-8.
        MachineError: pyarrow is not installed.
    """
    with _parquet(path, error) as file:
        check_columns(file.schema_arrow.names, columns, path, error)
        wanted = None if columns is None else list(columns)
        yield from plain_rows(_batches(file, wanted, path, error), path, error, "Parquet")


def check_columns(names: Collection[str], wanted: Sequence[str] | None, where: object, error: type[InputError]) -> None:
    """Raises an InputError of the kind `error` where a wanted column is not among those that are there."""
    for name in wanted or ():
        if name not in names:
            raise error("no such column", where=where, field=name, found=", ".join(names), expected=name)


def plain_rows(
    batches: Iterator[pa.RecordBatch], path: Path, error: type[InputError], kind: str
) -> Iterator[tuple[int, Mapping[str, pa.Array]]]:
    """As `parquet_rows`, from batches of rows that a file of some `kind` holds."""
    start = 0
    for batch in batches:
        where = f"{path}: rows {start} to {start + batch.num_rows - 1}"
        names = enumerate(batch.schema.names)
        yield start, {name: _plain(batch.column(i), where, name, error, kind) for i, name in names}
        start += batch.num_rows


def feather_columns(path: Path, error: type[InputError]) -> Mapping[str, pa.Array]:
    """The columns of a Feather (Arrow IPC) file, as `parquet_rows` gives those of a block.

    Raises:
        InputError: of the kind `error`: it is missing or damaged, or a text in it is no UTF-8.
        MachineError: pyarrow is not installed.
    """
    try:
        from pyarrow import feather  # noqa: PLC0415
    except ImportError:
        raise MachineError("reading Feather needs pyarrow", where=path, expected="pip install pyarrow") from None
    with opened(path, error) as content, refusing(path, error, "cannot be read as Feather"):
        table = feather.read_table(content, memory_map=False)
        names = table.column_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise error("names a column twice", where=path, field=twice)
        return {name: _plain(table.column(name).combine_chunks(), str(path), name, error, "Feather") for name in names}


@contextlib.contextmanager
def _parquet(path: Path, error: type[InputError]) -> Iterator[pq.ParquetFile]:
    try:
        # pyarrow takes longer to load than all else, and only Parquet needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise MachineError("reading Parquet needs pyarrow", where=path, expected="pip install pyarrow") from None
    with opened(path, error) as content:
        with naming(path, error, "a Parquet file"), refusing(path, error, "cannot be read as Parquet"):
            file = pq.ParquetFile(content)
        yield file


def _batches(
    file: pq.ParquetFile, columns: list[str] | None, path: Path, error: type[InputError]
) -> Iterator[pa.RecordBatch]:
    with refusing(path, error, "cannot be read as Parquet"):
        yield from file.iter_batches(batch_size=ROWS, columns=columns)


def _plain(values: pa.Array, where: str, name: str, error: type[InputError], kind: str = "Parquet") -> pa.Array:
    """Without dictionaries, and text as `large_string`."""
    import pyarrow as pa  # noqa: PLC0415

    with refusing(where, error, f"cannot be read as {kind}", field=name):
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_string(values.type) or pa.types.is_string_view(values.type):
            values = values.cast(pa.large_string())
        values.validate(full=True)
        return values
