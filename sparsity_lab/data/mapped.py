"""Prepared shards, verified once and unpacked into flat memory maps that all workers share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparsity_lab.artifacts.atomic import locked, replacing
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.manifest import SPLITS, Manifest, Shard, Split, read_manifest
from sparsity_lab.data.shards import LABEL_COLUMN, PIXELS_COLUMN, TOKENS_COLUMN
from sparsity_lab.data.tokenizer import Tokens, token_type
from sparsity_lab.errors import DataError


@dataclass(frozen=True)
class TextSplit:
    """One side of a text dataset: all its documents, one after the other, each ended by EOS."""

    manifest: Manifest
    tokens: Tokens
    """(tokens,) memory map"""


@dataclass(frozen=True)
class ImageSplit:
    """One side of an image dataset."""

    manifest: Manifest
    pixels: NDArray[np.uint8]
    """(examples, height, width, channels) memory map"""
    labels: NDArray[np.int32]
    """(examples,) memory map"""


@dataclass(frozen=True)
class _Array:
    """One memory-mapped file of the cache: which column of a split it unpacks."""

    column: str
    shape: tuple[int, ...]
    dtype: Any

    def file(self, folder: Path, split: Split) -> Path:
        """Where it lies."""
        return folder / f"{split}-{self.column}.npy"

    def values(self, folder: Path, shard: Shard) -> Iterator[NDArray[Any]]:
        """A column of a shard as flat arrays."""
        path = folder / shard.name
        try:
            column = pq.read_table(path, columns=[self.column]).column(self.column)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"damaged shard: {error}", where=path) from None
        for chunk in column.chunks:
            if self.column == TOKENS_COLUMN:
                yield chunk.flatten().to_numpy()
            elif self.column == PIXELS_COLUMN:
                width = chunk.type.byte_width
                first, last = chunk.offset, chunk.offset + len(chunk)
                yield np.frombuffer(chunk.buffers()[1], np.uint8)[first * width : last * width]
            else:
                yield chunk.to_numpy()


def open_split(folder: Path, split: Split, cache: Path) -> TextSplit | ImageSplit:
    """Map one split of prepared data into memory.

    The first call on a machine verifies every shard of the dataset and unpacks it into `cache/<content hash>/`;
    later calls, in any process, only map those files.

    Args:
        folder: where the data were prepared.
        split: which side.
        cache: a folder of this machine; everything below it can be deleted at any time.

    Raises:
        NotReadyError: nothing is prepared in `folder`.
        DataError: a shard is missing, truncated or altered.
        MachineError: no space for the cache.
    """
    manifest = read_manifest(folder)
    unpacked = cache / manifest.content_hash
    maps = _mapped(unpacked, manifest, split)
    if not maps:
        with locked(cache / f"{manifest.content_hash}.lock"):
            if not _mapped(unpacked, manifest, split):
                _unpack(folder, manifest, unpacked)
            maps = _mapped(unpacked, manifest, split)
    if manifest.vocabulary:
        return TextSplit(manifest, maps[TOKENS_COLUMN])
    return ImageSplit(manifest, maps[PIXELS_COLUMN], maps[LABEL_COLUMN])


def verify_shards(folder: Path, manifest: Manifest) -> None:
    """Hold every shard against its manifest.

    Raises:
        DataError: a shard is missing, truncated or altered: names the file, what was found and what was expected.
    """
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise DataError("the shard is missing; prepare or pull the data again", where=path)
        size = path.stat().st_size
        if size != shard.size:
            raise DataError("the shard's size is wrong", where=path, found=size, expected=f"{shard.size} bytes")
        found = file_sha256(path)
        if found != shard.sha256:
            raise DataError("the shard's SHA-256 is wrong", where=path, found=found, expected=shard.sha256)


def _arrays(manifest: Manifest, split: Split) -> list[_Array]:
    count = manifest.counts(split).items
    if manifest.vocabulary:
        return [_Array(TOKENS_COLUMN, (count,), np.dtype(token_type(manifest.vocabulary)))]
    side = manifest.image
    return [
        _Array(PIXELS_COLUMN, (count, side, side, manifest.channels), np.dtype(np.uint8)),
        _Array(LABEL_COLUMN, (count,), np.dtype(np.int32)),
    ]


def _mapped(folder: Path, manifest: Manifest, split: Split) -> dict[str, Any]:
    """The split's memory maps; empty when one is missing or not what the manifest says."""
    maps: dict[str, Any] = {}
    for array in _arrays(manifest, split):
        try:
            found = np.load(array.file(folder, split), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return {}
        if found.shape != array.shape or found.dtype != array.dtype:
            return {}
        maps[array.column] = found
    return maps


def _unpack(folder: Path, manifest: Manifest, target: Path) -> None:
    """Verify and unpack both splits; `target` appears whole or not at all. The caller holds the lock."""
    verify_shards(folder, manifest)
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for split in SPLITS:
            for array in _arrays(manifest, split):
                _unpack_array(folder, manifest, split, array, array.file(temporary, split))
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_array(folder: Path, manifest: Manifest, split: Split, array: _Array, path: Path) -> None:
    """Written, not mapped: a full disk is then an error, where a mapped page would kill the process."""
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for shard in (shard for shard in manifest.shards if shard.split == split):
            for values in array.values(folder, shard):
                file.write(np.ascontiguousarray(values, array.dtype).data)
