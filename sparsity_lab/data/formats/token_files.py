"""Files of token ids: nanoGPT's, one id after the other, and Megatron's, whose `.idx` says where documents are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.datasets import GivenIds
from sparsity_lab.specs.sources import TokenFiles

MAGIC: Final = b"MMIDIDX\0\0"
TYPES: Final = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
"""of ids, by their number in an `.idx`"""
HEAD: Final = 34
"""bytes of an `.idx` before its tables"""
AT_ONCE: Final = 1 << 22
"""ids looked at"""
LONGEST: Final = 1 << 28
"""ids of a document"""


def index_of(path: Path) -> Path | None:
    """Megatron's index of a file of ids, where there is one."""
    index = path.with_suffix(".idx")
    return index if index.is_file() else None


def id_documents(path: Path, source: TokenFiles, asked: GivenIds) -> Iterator[bytes]:
    """The documents of a file that are not empty, without the id that ends them: ids as little-endian uint32.

    Raises:
        DataError: the file is damaged, holds an id outside the vocabulary, or a document without end.
    """
    index = index_of(path)
    pieces = _cut(path, source, asked) if index is None else _indexed(path, index)
    for begin, ids in pieces:
        if len(ids) and ids[-1] == asked.end and (index is not None or source.document_tokens is None):
            ids = ids[:-1]  # noqa: PLW2901
        wrong = np.flatnonzero((ids < 0) | (ids >= asked.vocabulary))
        if len(wrong):
            where, expected = f"{path}: token {begin + int(wrong[0]):,}", f"below the vocabulary, {asked.vocabulary:,}"
            raise DataError("an id is too high", where=where, found=int(ids[wrong[0]]), expected=expected)
        if len(ids):
            yield ids.astype("<u4").tobytes()


def _mapped(path: Path, kind: str) -> NDArray[Any]:
    with refusing(path, DataError):
        size = path.stat().st_size
        if size % np.dtype(kind).itemsize:
            expected = f"a multiple of {np.dtype(kind).itemsize}"
            raise DataError("is cut, or of another type", where=path, found=f"{size:,} bytes", expected=expected)
        return np.memmap(path, kind, "r") if size else np.empty(0, kind)


def _cut(path: Path, source: TokenFiles, asked: GivenIds) -> Iterator[tuple[int, NDArray[Any]]]:
    """Where documents begin in a file without an index, and their ids, the one that ends them included."""
    ids = _mapped(path, "<u2" if source.dtype == "uint16" else "<u4")
    if source.document_tokens is not None:
        for begin in range(0, len(ids), source.document_tokens):
            yield begin, np.asarray(ids[begin : begin + source.document_tokens])
        return
    begin = 0
    for first in range(0, len(ids), AT_ONCE):
        for end in (np.flatnonzero(ids[first : first + AT_ONCE] == asked.end) + first + 1).tolist():
            yield begin, np.asarray(ids[begin:end])
            begin = end
        if min(first + AT_ONCE, len(ids)) - begin > LONGEST:
            message = f"no document ends within {LONGEST:,} tokens; name the id that ends one, or `document_tokens`"
            raise DataError(message, where=f"{path}: token {begin:,}", field="end", found=asked.end)
    yield begin, np.asarray(ids[begin:])


def _indexed(path: Path, index: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    """Where the documents of an index begin, and their ids."""
    with refusing(index, DataError, "is no index of Megatron's"):
        kind, sizes, places, documents = _tables(index.read_bytes())
    ids = _mapped(path, kind)
    begins, ends = places // np.dtype(kind).itemsize, places // np.dtype(kind).itemsize + sizes
    if len(ends) and (begins.min() < 0 or ends.max() > len(ids)):
        expected = f"at least {int(ends.max()):,} tokens, as {index.name} has it"
        raise DataError("is cut, or of another index", where=path, found=f"{len(ids):,} tokens", expected=expected)
    for first, last in zip(documents[:-1].tolist(), documents[1:].tolist(), strict=True):
        pieces = [ids[begins[number] : ends[number]] for number in range(first, last)]
        if pieces:
            yield int(begins[first]), np.concatenate(pieces)


def _tables(content: bytes) -> tuple[str, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The type of ids; sizes and places of sequences, tokens and bytes; and the first sequence of each document."""
    version = int.from_bytes(content[9:17], "little")
    if content[:9] != MAGIC or version != 1:
        raise ValueError(f"it begins with {content[:9]!r}, version {version}")
    sequences, documents = np.frombuffer(content, "<u8", 2, HEAD - 16).tolist()
    sizes = np.frombuffer(content, "<i4", sequences, HEAD).astype(np.int64)
    places = np.frombuffer(content, "<i8", sequences, HEAD + 4 * sequences)
    borders = np.frombuffer(content, "<i8", documents, HEAD + 12 * sequences)
    if (
        (sizes < 0).any()
        or (np.diff(borders) < 0).any()
        or (documents and not 0 <= borders[0] <= borders[-1] <= sequences)
    ):
        raise ValueError("its documents are not in order")
    return TYPES[content[17]], sizes, places, borders
