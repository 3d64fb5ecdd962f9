"""What a file of another format than was asked for is: refusals name it."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sparsity_lab.errors import InputError

KINDS: Final = (
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"\xff\xff\xff\xff", "an Arrow stream"),
    (257, b"ustar", "a tar archive"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "packed by gzip"),
    (0, b"\x28\xb5\x2f\xfd", "packed by Zstandard"),
    (0, b"\xfd7zXZ\0", "packed by xz"),
    (0, b"BZh", "packed by bzip2"),
    (0, b"\x04\x22\x4d\x18", "packed by LZ4"),
    (0, b"ORC", "an ORC file"),
    (0, b"Obj\1", "an Avro file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"SQLite format 3\0", "an SQLite file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x80\2", "a pickle"),
    (0, b"\x80\4", "a pickle"),
    (0, b"%PDF-", "a PDF file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, whose content was not fetched"),
    (0, b"<!doctype html", "an HTML page"),
    (0, b"<html", "an HTML page"),
)
"""what the bytes from a place on say a file is"""


def kind_of(path: Path) -> str | None:
    """What a file is by its first bytes, unpacked if its name says .gz; None where they do not say, and of no file."""
    if not path.is_file():  # a pipe would be waited for
        return None
    with contextlib.suppress(Exception), gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        head = file.read(512)
        return next((kind for place, sign, kind in KINDS if head[place:][: len(sign)].lower() == sign.lower()), None)
    return None


@contextlib.contextmanager
def naming(path: Path, error: type[InputError], form: str) -> Iterator[None]:
    """Where a file is refused inside that is of another format than was asked for, this one is named.

    Args:
        path: the file.
        error: what is raised.
        form: the format asked for, as `KINDS` or people call it.

    Raises:
        InputError: of the kind `error`, or as it was.
    """
    try:
        yield
    except InputError as refusal:
        kind = kind_of(path)
        if kind is None or kind == form:
            raise
        expected = "unpacked, or packed and named .gz or .zst" if kind.startswith("packed") else None
        raise error(f"cannot be read: is {kind}, not {form}", where=path, expected=expected) from refusal
