"""What a record holds, whatever its format: text, a picture, a label. What is none is refused with file and record."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparsity_lab.data.formats.pictures import decode
from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.sources import PictureColumns, Pictures

LARGEST_LABEL: Final = 1_000_000
TOGETHER: Final = 256
"""pictures of a block"""


@dataclass(frozen=True)
class Images:
    """Images and their labels: pixels (examples, height, width, channels) uint8, labels (examples,) int32."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32]


def text_of(value: Any, where: object, field: str | None = None) -> bytes:
    """Text as UTF-8, from a string or from bytes that are UTF-8 already.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"is not UTF-8 at byte {error.start}", where=where, field=field) from None
        return value
    if not isinstance(value, str):
        found = "null" if value is None else type(value).__name__
        raise DataError("no text", where=where, field=field, found=found, expected="text")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"text that has no UTF-8 form: {error.reason}", where=where, field=field) from None


def field_of(row: Any, field: str, what: str, where: object) -> Any:
    """What is kept under a field of a JSON object.

    Raises:
        DataError: it is no object, or has no such field.
    """
    if isinstance(row, dict) and field in row:
        return row[field]
    found = f"the fields {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
    raise DataError(f"no {what}", where=where, field=field, found=found, expected=f"{what} under {field!r}")


def picture_of(value: Any, source: Pictures, where: object, field: str | None = None) -> NDArray[np.uint8]:
    """Pixels (side, side, channels). A struct carries its image under `bytes`.

    Raises:
        DataError: it is no picture, or one without one look.
    """
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        path = value.get("path") if isinstance(value, dict) else None
        found = (
            f"the path {path!r} alone: `save_to_disk` writes the files themselves" if path else type(content).__name__
        )
        raise DataError("no encoded image", where=where, field=field, found=found)
    with refusing(where, DataError, "cannot be decoded", field=field):
        return decode(content, source.image, source.channels, source.background)


def label_of(value: Any, where: object, field: str | None = None) -> int:
    """A class, from a whole number or its digits.

    Raises:
        DataError: it is none, or out of range.
    """
    digits = value.strip() if isinstance(value, bytes) else b""
    number = int(digits) if digits.removeprefix(b"-").isdigit() and len(digits) < 20 else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise DataError("no label", where=where, field=field, found=value, expected="a whole number")
    if not 0 <= number < LARGEST_LABEL:
        expected = f"0 <= label < {LARGEST_LABEL}"
        raise DataError("label out of range", where=where, field=field, found=number, expected=expected)
    return number


def in_blocks(pairs: Iterable[tuple[NDArray[np.uint8], int]]) -> Iterator[Images]:
    """Pictures with their labels, a block at a time."""
    left = iter(pairs)
    while block := list(itertools.islice(left, TOGETHER)):
        yield Images(np.stack([pixels for pixels, _ in block]), np.array([label for _, label in block], np.int32))


def column_texts(blocks: Iterable[tuple[int, Mapping[str, pa.Array]]], path: Path, column: str) -> Iterator[bytes]:
    """The documents of a column, as `parquet_rows` and `arrow_rows` give blocks of rows.

    Raises:
        DataError: it is no column of strings, or a row of it is null.
    """
    for start, columns in blocks:
        values = columns[column]
        if not pa.types.is_large_string(values.type):
            raise DataError("no text", where=path, field=column, found=str(values.type), expected="a column of strings")
        for row, text in enumerate(values.to_pylist(), start):
            if text is None:
                raise DataError("no text", where=f"{path}: row {row}", field=column, found="null")
            yield text.encode()


def column_images(
    blocks: Iterable[tuple[int, Mapping[str, pa.Array]]], path: Path, source: PictureColumns
) -> Iterator[Images]:
    """The pictures of a column and the labels of another.

    Raises:
        DataError: a row holds no picture, or the labels are no integers.
    """
    for start, columns in blocks:
        if len(encoded := columns[source.image_column].to_pylist()):
            rows = ((f"{path}: row {row}", value) for row, value in enumerate(encoded, start))
            pixels = [picture_of(value, source, where, source.image_column) for where, value in rows]
            yield Images(np.stack(pixels), _labels(columns[source.label_column], path, source.label_column))


def _labels(labels: pa.Array, path: Path, column: str) -> NDArray[np.int32]:
    if not pa.types.is_integer(labels.type) or labels.null_count:
        found = "null" if labels.null_count else str(labels.type)
        raise DataError("no labels", where=path, field=column, found=found, expected="a column of integers")
    values: NDArray[np.int64] = labels.to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = values[(values < 0) | (values >= LARGEST_LABEL)]
    if len(wrong):
        expected = f"0 <= label < {LARGEST_LABEL}"
        raise DataError("label out of range", where=path, field=column, found=int(wrong[0]), expected=expected)
    return values.astype(np.int32)
