"""Writing one split's Parquet shards: every shard whole or absent, counted and hashed as it is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.manifest import Shard, Split, SplitCounts
from sparsity_lab.data.tokenizer import EOS, Tokens

TOKENS_COLUMN = "tokens"
PIXELS_COLUMN = "pixels"
LABEL_COLUMN = "label"


class _Writer:
    """What text and images share: shards so far, and what is counted."""

    def __init__(self, folder: Path, split: Split, limit: int) -> None:
        self.shards: list[Shard] = []
        self.documents = self.duplicates = self.bytes = self.items = 0
        self._folder, self._split, self._limit = folder, split, limit

    def _write(self, table: pa.Table, items: int) -> None:
        path = self._folder / f"{self._split}-{len(self.shards):05d}.parquet"
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", compression_level=1, use_dictionary=False)
        self.shards.append(
            Shard(
                name=path.name,
                split=self._split,
                sha256=file_sha256(path),
                size=path.stat().st_size,
                rows=table.num_rows,
                items=items,
            )
        )

    def _counts(self, sha256: str) -> SplitCounts:
        return SplitCounts(
            documents=self.documents, duplicates=self.duplicates, bytes=self.bytes, items=self.items, sha256=sha256
        )


class TextWriter(_Writer):
    """Shards of token ids: one row is a document or, where a shard was full, a piece of one; ids end with EOS."""

    def __init__(self, folder: Path, split: Split, limit: int) -> None:
        super().__init__(folder, split, limit)
        self._pieces: list[Tokens] = []
        self._pending = 0
        self._hash = hashlib.sha256()

    def add(self, document: bytes, tokens: Tokens) -> None:
        """Append a document, and the token that ends it."""
        ended = np.append(tokens, tokens.dtype.type(EOS))
        self.documents += 1
        self.bytes += len(document)
        self.items += len(ended)
        self._hash.update(ended.astype("<u4").tobytes())
        while len(ended):
            piece, ended = np.split(ended, [self._limit - self._pending])
            self._pieces.append(piece)
            self._pending += len(piece)
            if self._pending == self._limit:
                self._flush()

    def close(self) -> SplitCounts:
        """Write what is left."""
        if self._pieces:
            self._flush()
        return self._counts(self._hash.hexdigest())

    def _flush(self) -> None:
        offsets = np.cumsum([0, *map(len, self._pieces)], dtype=np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(self._pieces)))
        self._write(pa.table({TOKENS_COLUMN: column}), self._pending)
        self._pieces, self._pending = [], 0


class ImageWriter(_Writer):
    """Shards of pixels (fixed-size binary, height x width x channels) and labels."""

    def __init__(self, folder: Path, split: Split, limit: int) -> None:
        super().__init__(folder, split, limit)
        self._pixels: list[NDArray[np.uint8]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._pending = 0
        self._pixel_hash, self._label_hash = hashlib.sha256(), hashlib.sha256()

    def add(self, pixels: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Append images: pixels (examples, bytes of one image), labels (examples,)."""
        self.documents += len(labels)
        self.items += len(labels)
        self.bytes += pixels.nbytes
        self._pixel_hash.update(pixels.tobytes())
        self._label_hash.update(labels.astype("<i4").tobytes())
        while len(labels):
            room = self._limit - self._pending
            self._pixels.append(pixels[:room])
            self._labels.append(labels[:room])
            self._pending += len(labels[:room])
            pixels, labels = pixels[room:], labels[room:]
            if self._pending == self._limit:
                self._flush()

    def close(self) -> SplitCounts:
        """Write what is left."""
        if self._pixels:
            self._flush()
        both = hashlib.sha256(self._pixel_hash.digest() + self._label_hash.digest())
        return self._counts(both.hexdigest())

    def _flush(self) -> None:
        pixels, labels = np.concatenate(self._pixels), np.concatenate(self._labels)
        column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(pixels.shape[1]), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))]
        )
        self._write(pa.table({PIXELS_COLUMN: column, LABEL_COLUMN: pa.array(labels)}), len(labels))
        self._pixels, self._labels, self._pending = [], [], 0
