"""Where documents and images come from: every source yields the same sequence whenever and wherever it is read."""

from __future__ import annotations

import hashlib
import io
import os
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sparsity_lab.artifacts.reading import file_sha256, json_lines, parquet_rows
from sparsity_lab.data.fonts import font_files
from sparsity_lab.data.glyphs import GlyphPainter
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import (
    Glyphs,
    ImageSource,
    JsonLines,
    ParquetImages,
    ParquetText,
    PythonStdlib,
    TextFiles,
    TextSource,
)

NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
LARGEST_LABEL = 1_000_000
FILES = 16
"""hashed by a thread before it asks for more"""


@dataclass(frozen=True)
class Images:
    """Images and their labels: pixels (examples, height, width, channels) uint8, labels (examples,) int32."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32]


def documents(source: TextSource) -> Iterator[bytes]:
    """Every document that is not empty, as UTF-8, in a fixed order.

    Raises:
        DataError: the source is missing, matches no file or holds something that is not text.
    """
    return (document for path in document_files(source) for document in file_documents(source, path))


def document_files(source: TextSource) -> list[Path]:
    """The files that documents come from, in the order of the documents; errors as `documents`."""
    return _stdlib_chosen(source.maximum_bytes) if isinstance(source, PythonStdlib) else source_files(source)


def file_documents(source: TextSource, path: Path) -> Iterator[bytes]:
    """The documents of one file; errors as `documents`."""
    match source:
        case PythonStdlib() | TextFiles():
            found = iter([_utf8(path)])
        case JsonLines():
            found = _json_lines(path, source.text_field)
        case ParquetText():
            found = _parquet_text(path, source.text_column)
        case _:
            assert_never(source)
    return (document for document in found if document)


def image_blocks(source: ImageSource) -> Iterator[Images]:
    """Every image with its label, in blocks, in a fixed order.

    Raises:
        DataError: the source is missing, matches no file or holds something that is no image.
    """
    match source:
        case Glyphs():
            painter = GlyphPainter(source)
            return (Images(*painter.block(index)) for index in range(painter.blocks))
        case ParquetImages():
            return (block for path in source_files(source) for block in _parquet_images(path, source))
        case _:
            assert_never(source)


def source_files(source: TextSource | ImageSource) -> list[Path]:
    """Every file a source reads, sorted by name.

    Raises:
        DataError: the folder is missing, or no file matches.
    """
    match source:
        case PythonStdlib():
            return _stdlib_files()
        case Glyphs():
            return font_files()
        case TextFiles() | JsonLines() | ParquetText() | ParquetImages():
            return _matching(Path(source.path), source.pattern)
        case _:
            assert_never(source)


def source_hash(source: TextSource | ImageSource, readers: int = 1) -> str:
    """SHA-256 over the names (below the source's folder) and the content of every file a source reads.

    Args:
        source: where examples come from.
        readers: threads that read files at once.

    Raises:
        DataError: as `source_files`, or a file cannot be read.
    """
    root = Path(_stdlib_root() if isinstance(source, PythonStdlib) else getattr(source, "path", ""))
    total = hashlib.sha256()
    paths = source_files(source)
    groups = [paths[first : first + FILES] for first in range(0, len(paths), FILES)]
    with ThreadPoolExecutor(readers) as pool:
        digests = (digest for group in pool.map(_digests, groups) for digest in group)
        for path, digest in zip(paths, digests, strict=True):
            name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            total.update(f"{name.as_posix()}\0{digest}\n".encode())
    return total.hexdigest()


def _digests(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            found.append(file_sha256(path))
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    return found


def _matching(root: Path, pattern: str) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError("no such file or folder", where=root, expected=f"a path below {Path.cwd()} or an absolute one")
    try:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"is no pattern: {error}", where=root, field="pattern", found=pattern) from None
    if not found:
        raise DataError("no file matches", where=root, field="pattern", found=pattern)
    return found


def _stdlib_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _stdlib_files() -> list[Path]:
    found: list[Path] = []
    for folder, inner, names in os.walk(_stdlib_root()):
        inner[:] = [name for name in inner if name not in NOT_LIBRARY]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    if not found:
        raise DataError("this Python carries no library source", where=_stdlib_root(), expected="*.py files")
    return sorted(found)


def _stdlib_chosen(maximum_bytes: int | None) -> list[Path]:
    """Whole files in order of a hash, as many as fit: an order that no name and no folder decides.

    Salted, for the split goes by the plain hash: in its order the first files would all be held out.
    """
    texts = ((path, path.read_bytes()) for path in _stdlib_files())
    keyed = [(hashlib.sha256(b"order" + text).digest(), len(text), path) for path, text in texts if _is_utf8(text)]
    keyed.sort(key=lambda one: one[0])
    left, chosen = maximum_bytes if maximum_bytes is not None else sum(size for _, size, _ in keyed), []
    for _, size, path in keyed:
        left -= size
        if left < 0:
            break
        chosen.append(path)
    return chosen


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8(path: Path) -> bytes:
    text = path.read_bytes()
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 at byte {error.start}", where=path) from None
    return text


def _json_lines(path: Path, field: str) -> Iterator[bytes]:
    return (_json_text(row, field, f"{path}:{number}") for number, row in json_lines(path, DataError))


def _json_text(row: Any, field: str, where: str) -> bytes:
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        found = f"the fields {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
        raise DataError("no text", where=where, field=field, found=found, expected=f"text under {field!r}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"text that has no UTF-8 form: {error.reason}", where=where, field=field) from None


def _parquet_text(path: Path, column: str) -> Iterator[bytes]:
    for start, columns in parquet_rows(path, DataError, [column]):
        values = columns[column]
        if not pa.types.is_large_string(values.type):
            raise DataError("no text", where=path, field=column, found=str(values.type), expected="a column of strings")
        for row, text in enumerate(values.to_pylist(), start):
            if text is None:
                raise DataError("no text", where=f"{path}: row {row}", field=column, found="null")
            yield text.encode()


def _parquet_images(path: Path, source: ParquetImages) -> Iterator[Images]:
    for start, columns in parquet_rows(path, DataError, [source.image_column, source.label_column]):
        encoded = columns[source.image_column].to_pylist()
        pixels = [_decode_image(value, source, f"{path}: row {row}") for row, value in enumerate(encoded, start)]
        yield Images(np.stack(pixels), _labels(columns[source.label_column], path, source.label_column))


def _decode_image(value: Any, source: ParquetImages, where: str) -> NDArray[np.uint8]:
    """Pixels (side, side, channels); squeezed to a square, not cropped. A struct carries its image under `bytes`."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError("no encoded image", where=where, field=source.image_column, found=type(content).__name__)
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB" if source.channels == 3 else "L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", where=where, field=source.image_column) from None
    resized = image.resize((source.image, source.image), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8).reshape(source.image, source.image, source.channels)


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
