"""MosaicML's streaming format, version 2: `index.json` and shards that say themselves how they are laid out.

A shard is the number of its samples, where each begins and the last ends (uint32, from the shard's first byte), its
configuration as JSON, and the samples. A sample is the sizes of its columns of no fixed size (uint32), then the values
of all columns. Its writer and reader, in the public repository mosaicml/streaming, are what this follows.
"""

from __future__ import annotations

import io
import itertools
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sparsity_lab.artifacts.reading import check_columns, parse_json, read_bytes
from sparsity_lab.data.formats.values import label_of, picture_of, text_of
from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.sources import MdsImages, MdsText

INDEX: Final = "index.json"
ENDINGS: Final = {".zstd": "zstd", ".zst": "zstd", ".gz": "gzip", ".bz2": "bz2", ".br": "brotli"}
"""of compressed shards, and what pyarrow calls their compression"""
LARGEST_SHARD: Final = 1 << 32
"""bytes, unpacked: offsets have 32 bits"""
WHOLE_NUMBERS: Final = {"int": "<i8"} | {
    f"{sign}int{8 * size}": f"<{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)
}
"""encodings, and the type of their bytes"""


@dataclass(frozen=True)
class _MdsColumn:
    """One of a shard."""

    name: str
    encoding: str
    size: int | None
    """bytes; None where each sample says it"""


def shard_files(folder: Path) -> list[Path]:
    """The shards that a folder's index names, in its order, unpacked ones where both are there.

    Raises:
        DataError: the index is missing, of another version or damaged, or a shard is missing or of another size.
    """
    index = folder / INDEX
    document = parse_json(read_bytes(index, DataError), index, DataError)
    with refusing(index, DataError, "is no index of MDS shards"):
        version, shards = document["version"], list(document["shards"])
    if version != 2:
        raise DataError("is of another version", where=index, field="version", found=version, expected="2")
    return [_shard_file(folder, index, number, shard) for number, shard in enumerate(shards)]


def _shard_file(folder: Path, index: Path, number: int, shard: Any) -> Path:
    field = f"shards[{number}]"
    with refusing(index, DataError, "is no index of MDS shards", field=field):
        form = shard["format"]
        files = [(str(one["basename"]), int(one["bytes"])) for one in (shard["raw_data"], shard.get("zip_data")) if one]
    if form != "mds":
        raise DataError("is of another format", where=index, field=f"{field}.format", found=form, expected="mds")
    for name, size in files:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DataError("lies outside the folder", where=index, field=field, found=name)
        path = folder / name
        if path.is_file():
            if (found := path.stat().st_size) != size:
                raise DataError("the shard's size is wrong", where=path, found=found, expected=f"{size} bytes")
            return path
    raise DataError("the shard is missing", where=folder / files[0][0])


def shard_texts(path: Path, source: MdsText) -> Iterator[bytes]:
    """The documents of a shard.

    Raises:
        DataError: it is damaged, has no such column, or one without text.
    """
    column = source.text_column
    for where, values in _samples(path, [column]):
        encoding, value = values[column]
        if encoding == "json":
            yield text_of(parse_json(text_of(value, where, column), Path(where), DataError), where, column)
        elif encoding in {"str", "bytes"}:
            yield text_of(value, where, column)
        else:
            raise DataError("no text", where=where, field=column, found=encoding, expected="str, bytes or json")


def shard_pictures(path: Path, source: MdsImages) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The pictures of a shard, each with its label.

    Raises:
        DataError: it is damaged, or lacks a column, or one holds something else.
    """
    for where, values in _samples(path, [source.image_column, source.label_column]):
        encoding, picture = values[source.image_column]
        if encoding == "pil":
            with refusing(where, DataError, "no image", field=source.image_column):
                picture = _encoded(picture)
        elif encoding.partition(":")[0] not in {"jpeg", "png", "bytes"}:
            expected = "jpeg, png, pil or bytes"
            raise DataError("no image", where=where, field=source.image_column, found=encoding, expected=expected)
        label = _label(*values[source.label_column], where, source.label_column)
        yield picture_of(picture, source, where, source.image_column), label


def _label(encoding: str, value: bytes, where: str, field: str) -> int:
    if encoding in {"str_int", "json", "str"}:
        return label_of(value, where, field)
    if encoding not in WHOLE_NUMBERS:
        raise DataError("no label", where=where, field=field, found=encoding, expected="a column of whole numbers")
    return label_of(int(np.frombuffer(value, WHOLE_NUMBERS[encoding])[0]), where, field)


def _encoded(raw: bytes) -> bytes:
    """Pixels as the format keeps them, width, height and the name of their mode before them, as a PNG."""
    width, height, letters = np.frombuffer(raw, "<u4", 3).tolist()
    image = Image.frombytes(raw[12 : 12 + letters].decode(), (width, height), raw[12 + letters :])
    image.save(file := io.BytesIO(), "PNG", compress_level=0)
    return file.getvalue()


def _samples(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, tuple[str, bytes]]]]:
    """Where each sample lies, and of some columns the encoding and the bytes."""
    content = _content(path)
    with refusing(path, DataError, "is no MDS shard"):
        offsets, columns = _head(content, path)
    check_columns([column.name for column in columns], wanted, path, DataError)
    flexible = [column for column in columns if not column.size]
    for number, (begin, end) in enumerate(itertools.pairwise(offsets)):
        where = f"{path}: sample {number}"
        with refusing(where, DataError, "is damaged"):
            sizes = iter(np.frombuffer(content, "<u4", len(flexible), begin).tolist())
            at, values = begin + 4 * len(flexible), {}
            for column in columns:
                size = column.size or next(sizes)
                if column.name in wanted:
                    values[column.name] = column.encoding, bytes(content[at : at + size])
                at += size
            if at != end:
                raise ValueError(f"its columns have {at - begin} bytes, and it has {end - begin}")
        yield where, values


def _head(content: memoryview, path: Path) -> tuple[list[int], list[_MdsColumn]]:
    """Where samples begin, with the end of the last, and the columns."""
    count = int(np.frombuffer(content, "<u4", 1)[0])
    offsets = np.frombuffer(content, "<u4", count + 1, 4).astype(np.int64)
    begin = 4 * (count + 2)
    if offsets[0] < begin or (np.diff(offsets) < 0).any() or offsets[-1] != len(content):
        raise ValueError(f"it has {len(content):,} bytes, and its samples end at {offsets[-1]:,}")
    config = cast("dict[str, Any]", parse_json(bytes(content[begin : offsets[0]]), Path(f"{path}: head"), DataError))
    rows = zip(config["column_names"], config["column_encodings"], config["column_sizes"], strict=True)
    return offsets.tolist(), [_MdsColumn(str(name), str(encoding), size) for name, encoding, size in rows]


def _content(path: Path) -> memoryview:
    """A shard's bytes, mapped where it is not compressed."""
    with refusing(path, DataError, "cannot be unpacked" if path.suffix in ENDINGS else "cannot be read"):
        if path.suffix not in ENDINGS:
            with path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, ENDINGS[path.suffix]) as stream:
            content = memoryview(stream.read(LARGEST_SHARD + 1))
    if len(content) > LARGEST_SHARD:
        raise DataError("unpacks to more than a shard can hold", where=path, expected=f"{LARGEST_SHARD:,} bytes")
    return content
