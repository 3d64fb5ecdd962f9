"""Where documents and images come from: every source yields the same sequence whenever and wherever it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sparsity_lab.artifacts.reading import file_sha256, json_lines, parquet_rows
from sparsity_lab.data.fonts import font_files
from sparsity_lab.data.formats.huggingface import arrow_rows, split_files, stream_hash, stream_texts
from sparsity_lab.data.formats.mds import INDEX, shard_files, shard_pictures, shard_texts
from sparsity_lab.data.formats.stdlib import stdlib_chosen, stdlib_files, stdlib_root
from sparsity_lab.data.formats.token_files import id_documents, index_of
from sparsity_lab.data.formats.values import (
    Images,
    column_images,
    column_texts,
    field_of,
    in_blocks,
    picture_of,
    text_of,
)
from sparsity_lab.data.formats.webdataset import member_pictures, member_texts
from sparsity_lab.data.glyphs import GlyphPainter
from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.datasets import GivenIds, Tokenizer
from sparsity_lab.specs.sources import (
    Glyphs,
    HuggingfaceImages,
    HuggingfaceText,
    ImageFolder,
    ImageSource,
    JsonLines,
    MdsImages,
    MdsText,
    ParquetImages,
    ParquetText,
    Patterned,
    PythonStdlib,
    TextFiles,
    TextSource,
    TokenFiles,
    WebdatasetImages,
    WebdatasetText,
)

LARGEST_FILE = 1 << 30
"""bytes of a file that is one document or picture; of one that is larger the beginning is read before its hash"""
FILES = 16
"""hashed by a thread before it asks for more"""


def documents(source: TextSource) -> Iterator[bytes]:
    """Every document that is not empty, as UTF-8, in a fixed order; not of token ids, which need their vocabulary.

    Raises:
        DataError: the source is missing, matches no file or holds something that is not text.
    """
    return (document for path in document_files(source) for document in file_documents(source, path))


def document_files(source: TextSource) -> list[Path]:
    """The files that documents come from, in the order of the documents; errors as `documents`."""
    match source:
        case PythonStdlib():
            return stdlib_chosen(source.maximum_bytes)
        case MdsText():
            return shard_files(Path(source.path))
        case TokenFiles():
            return _chosen(source)
        case _:
            return source_files(source)


def file_documents(source: TextSource, path: Path, tokenizer: Tokenizer | None = None) -> Iterator[bytes]:
    """The documents of one file, token ids as the tokenizer's spec says them; errors as `documents`."""
    match source:
        case PythonStdlib() | TextFiles():
            found = iter([text_of(_content(path), path)])
        case JsonLines():
            found = _line_texts(path, source.text_field)
        case ParquetText():
            found = column_texts(parquet_rows(path, DataError, [source.text_column]), path, source.text_column)
        case HuggingfaceText(streaming=True):
            found = stream_texts(source, path)
        case HuggingfaceText():
            found = column_texts(arrow_rows(path, [source.text_column]), path, source.text_column)
        case WebdatasetText():
            found = member_texts(path, source)
        case MdsText():
            found = shard_texts(path, source)
        case TokenFiles():
            assert isinstance(tokenizer, GivenIds), "which the spec of the dataset holds"
            found = id_documents(path, source, tokenizer)
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
        case ParquetImages() | HuggingfaceImages():
            return (
                block for path in source_files(source) for block in column_images(_rows(path, source), path, source)
            )
        case ImageFolder():
            return in_blocks(_folder_pictures(source))
        case WebdatasetImages():
            return in_blocks(one for path in source_files(source) for one in member_pictures(path, source))
        case MdsImages():
            return in_blocks(one for path in shard_files(Path(source.path)) for one in shard_pictures(path, source))
        case _:
            assert_never(source)


def _rows(path: Path, source: ParquetImages | HuggingfaceImages) -> Iterator[tuple[int, Mapping[str, pa.Array]]]:
    columns = [source.image_column, source.label_column]
    return parquet_rows(path, DataError, columns) if isinstance(source, ParquetImages) else arrow_rows(path, columns)


def source_files(source: TextSource | ImageSource) -> list[Path]:
    """Every file a source reads, in the order of its examples, with those that say how to read them.

    Raises:
        DataError: the folder is missing, no file matches, or a text file is too large for one document.
    """
    match source:
        case PythonStdlib():
            found = stdlib_files()
        case Glyphs():
            found = font_files()
        case TextFiles():
            found = [not_too_large(path) for path in _chosen(source)]
        case JsonLines() | ParquetText() | ParquetImages() | WebdatasetText() | WebdatasetImages():
            found = _chosen(source)
        case HuggingfaceText() | HuggingfaceImages():
            found = split_files(source)
        case ImageFolder():
            found = [path for paths in _class_files(source) for path in paths]
        case MdsText() | MdsImages():
            found = [Path(source.path) / INDEX, *shard_files(Path(source.path))]
        case TokenFiles():
            paths = _chosen(source)
            found = [one for path in paths for one in (path, index_of(path)) if one is not None]
        case _:
            assert_never(source)
    return found


def source_hash(source: TextSource | ImageSource, readers: int = 1) -> str:
    """SHA-256 over the names (below the source's folder) and the content of every file a source reads.

    Args:
        source: where examples come from.
        readers: threads that read files at once.

    Raises:
        DataError: as `source_files`, or a file cannot be read.
    """
    root = Path(stdlib_root() if isinstance(source, PythonStdlib) else getattr(source, "path", ""))
    match source:
        case HuggingfaceText(streaming=True) if not root.is_dir():
            return stream_hash(source)
        case HuggingfaceText(streaming=True):
            paths = _matching(root, "**/*")
        case _:
            paths = source_files(source)
    total = hashlib.sha256()
    groups = [paths[first : first + FILES] for first in range(0, len(paths), FILES)]
    with ThreadPoolExecutor(readers) as pool:
        digests = (digest for group in pool.map(partial(_digests, source), groups) for digest in group)
        for path, digest in zip(paths, digests, strict=True):
            name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            total.update(os.fsencode(name.as_posix()) + f"\0{digest}\n".encode())
    return total.hexdigest()


def _digests(source: TextSource | ImageSource, paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        with refusing(path, DataError):
            if path.stat().st_size > LARGEST_FILE:
                next(_examples(source, path), None)  # what is no data is refused now, not after hours
            found.append(file_sha256(path, DataError))
    return found


def _examples(source: TextSource | ImageSource, path: Path) -> Iterator[object]:
    """The examples of a file that holds many and says itself what it is; none of others."""
    match source:
        case JsonLines() | ParquetText() | WebdatasetText() | HuggingfaceText(streaming=False):
            return file_documents(source, path)
        case ParquetImages() | HuggingfaceImages():
            return column_images(_rows(path, source), path, source)
        case WebdatasetImages():
            return member_pictures(path, source)
        case _:
            return iter(())


def not_too_large(path: Path, what: str = "one document or picture") -> Path:
    """A file that is read whole.

    Raises:
        DataError: it is larger than `LARGEST_FILE`.
    """
    with refusing(path, DataError):
        size = path.stat().st_size
    if size > LARGEST_FILE:
        expected = f"at most {LARGEST_FILE:,} bytes"
        raise DataError(f"is too large for {what}", where=path, found=size, expected=expected)
    return path


def _chosen(source: Patterned) -> list[Path]:
    """The file, or those of the folder that match; a pattern of one's own is held against a single file too."""
    root, last = Path(source.path), source.pattern.rpartition("/")[2]
    if not root.is_file():
        return _matching(root, source.pattern)
    if source.pattern != type(source).model_fields["pattern"].default and not fnmatchcase(root.name, last):
        raise DataError("is a file that does not match", where=root, field="pattern", found=source.pattern)
    return [root]


def _matching(root: Path, pattern: str) -> list[Path]:
    if not root.is_dir():
        raise DataError("no such file or folder", where=root, expected=f"a path below {Path.cwd()} or an absolute one")
    try:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"is no pattern: {error}", where=root, field="pattern", found=pattern) from None
    if not found:
        raise DataError("no file matches", where=root, field="pattern", found=pattern)
    return found


def _content(path: Path) -> bytes:
    with refusing(path, DataError):
        return path.read_bytes()


def _line_texts(path: Path, field: str) -> Iterator[bytes]:
    for number, row in json_lines(path, DataError):
        where = f"{path}:{number}"
        yield text_of(field_of(row, field, "text", where), where, field)


def class_folders(source: ImageFolder) -> list[Path]:
    """The folder of each class, in order of name.

    Raises:
        DataError: there is none.
    """
    root = Path(source.path)
    if not root.is_dir():
        raise DataError("no such folder", where=root, expected="a folder with a folder for each class")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError("holds no folder", where=root, expected="a folder for each class")
    return folders


def _class_files(source: ImageFolder) -> list[list[Path]]:
    """The pictures of each class, in the order of the classes' folders."""
    folders = class_folders(source)
    endings = frozenset(Image.registered_extensions())
    found = [
        [not_too_large(path) for path in _matching(one, source.pattern) if path.suffix.lower() in endings]
        for one in folders
    ]
    empty = next((folder for folder, paths in zip(folders, found, strict=True) if not paths), None)
    if empty is not None:
        raise DataError("a class has no picture", where=empty, field="pattern", found=source.pattern)
    return found


def _folder_pictures(source: ImageFolder) -> Iterator[tuple[NDArray[np.uint8], int]]:
    for label, paths in enumerate(_class_files(source)):
        for path in paths:
            yield picture_of(_content(path), source, path), label
