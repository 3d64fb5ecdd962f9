"""Shards: files with the tokens or images of one split, written whole or not at all, and read by mapping.

A shard is an Arrow IPC file ("Feather V2") without compression: what is in the file is what lies in memory, so that
reading is mapping. It is cut into record batches of equally many bytes, and a batch is all that a writer holds.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.manifest import Shard, Split, SplitCounts
from sparsity_lab.data.own_ids import Tokens, token_type
from sparsity_lab.errors import DataError

TOKENS_COLUMN: Final = "tokens"
PIXELS_COLUMN: Final = "pixels"
LABEL_COLUMN: Final = "label"
BATCH_BYTES: Final = 1 << 23
"""of tokens or pixels in one record batch, at most (a larger image has a batch for itself)"""


def batch_items(item_bytes: int) -> int:
    """Tokens or images in one record batch: every batch of a shard holds that many, but the last."""
    return max(1, BATCH_BYTES // item_bytes)


def read_batches(path: Path, column: str) -> list[NDArray[Any]]:
    """A column of each record batch, flat and mapped; the file is closed again, the maps live on.

    Raises:
        DataError: the file is no such shard.
    """
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            return [_flat(file.get_batch(number).column(column)) for number in range(file.num_record_batches)]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"damaged shard: {error}", where=path) from None


def _flat(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_fixed_size_binary(column.type):
        return np.frombuffer(column.buffers()[1], np.uint8)[: len(column) * column.type.byte_width]
    values: pa.Array = column.flatten() if pa.types.is_large_list(column.type) else column
    return np.asarray(np.from_dlpack(values))  # as `to_numpy` does, which loads pandas first where it is installed


class _Writer:
    """What text and images share: the shards so far, and the one that is open. An error leaves no half of a shard."""

    def __init__(self, stem: Path, split: Split, limit: int) -> None:
        """Writes `<stem>-00000.arrow` and so on, each of `limit` items at most."""
        self.shards: list[Shard] = []
        self._stem, self._split, self._limit = stem, split, limit
        self._rows = self._items = 0
        self._file = contextlib.ExitStack()
        self._sink: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def close(self) -> list[Shard]:
        """Write what is left: all shards of the split."""
        self._flush()
        self._finish()
        return self.shards

    def _flush(self) -> None:
        """Write the batch that is being filled."""
        raise NotImplementedError

    @property
    def _room(self) -> int:
        """Items that the open shard still takes."""
        return self._limit - self._items

    def _write(self, batch: pa.RecordBatch, items: int) -> None:
        path = self._stem.with_name(f"{self._stem.name}-{len(self.shards):05d}.arrow")
        if self._sink is None:
            temporary = self._file.enter_context(replacing(path))
            sink = self._file.enter_context(pa.OSFile(str(temporary), "wb"))
            self._sink = self._file.enter_context(pa.ipc.new_file(sink, batch.schema))
        self._sink.write_batch(batch)
        self._rows += batch.num_rows
        self._items += items
        if not self._room:
            self._finish()

    def _finish(self) -> None:
        """Give the open shard, if there is one, its name."""
        if self._sink is None:
            return
        self._file.close()
        path = self._stem.with_name(f"{self._stem.name}-{len(self.shards):05d}.arrow")
        self.shards.append(
            Shard(
                name=path.name,
                split=self._split,
                sha256=file_sha256(path, DataError),
                size=path.stat().st_size,
                rows=self._rows,
                items=self._items,
            )
        )
        self._sink, self._rows, self._items = None, 0, 0


class TextWriter(_Writer):
    """Shards of token ids: a row is a document, or a piece of one that a batch or shard cut; documents end with EOS."""

    def __init__(self, stem: Path, split: Split, limit: int, vocabulary: int) -> None:
        super().__init__(stem, split, limit)
        kind = np.dtype(token_type(vocabulary))
        self._batch = np.empty(batch_items(kind.itemsize), kind)
        self._filled = 0
        self._ends: list[NDArray[np.int64]] = []

    def add(self, tokens: Tokens, lengths: NDArray[np.int64]) -> None:
        """Append documents: their tokens one after the other, and how many each has, its end included."""
        ends = np.cumsum(lengths)
        while len(tokens):
            room = min(len(self._batch), self._room) - self._filled
            piece = tokens[:room]
            whole = int(np.searchsorted(ends, len(piece), "right"))
            self._batch[self._filled : self._filled + len(piece)] = piece
            self._ends.append(ends[:whole] + self._filled)
            self._filled += len(piece)
            tokens, ends = tokens[len(piece) :], ends[whole:] - len(piece)
            if len(piece) == room:
                self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        offsets = np.concatenate([np.zeros(1, np.int64), *self._ends])
        if offsets[-1] != self._filled:
            offsets = np.append(offsets, self._filled)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(self._batch[: self._filled]))
        self._ends, filled, self._filled = [], self._filled, 0
        self._write(pa.record_batch({TOKENS_COLUMN: column}), filled)


class ImageWriter(_Writer):
    """Shards of pixels (fixed-size binary, height x width x channels) and labels, counted and hashed."""

    def __init__(self, stem: Path, split: Split, limit: int) -> None:
        super().__init__(stem, split, limit)
        self.bytes = self.items = 0
        self._pixels: list[NDArray[np.uint8]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._pending = 0
        self._pixel_hash, self._label_hash = hashlib.sha256(), hashlib.sha256()

    def counts(self, duplicates: int) -> SplitCounts:
        """What was written, and how many images were not, for they came before."""
        sha256 = hashlib.sha256(self._pixel_hash.digest() + self._label_hash.digest()).hexdigest()
        return SplitCounts(
            documents=self.items, duplicates=duplicates, bytes=self.bytes, items=self.items, sha256=sha256
        )

    def add(self, pixels: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Append images: pixels (examples, bytes of one image), labels (examples,)."""
        self.items += len(labels)
        self.bytes += pixels.nbytes
        self._pixel_hash.update(pixels.tobytes())
        self._label_hash.update(labels.astype("<i4").tobytes())
        while len(labels):
            room = min(batch_items(pixels.shape[1]), self._room) - self._pending
            self._pixels.append(pixels[:room])
            self._labels.append(labels[:room])
            self._pending += len(labels[:room])
            full, pixels, labels = len(labels) >= room, pixels[room:], labels[room:]
            if full:
                self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        pixels, labels = np.concatenate(self._pixels), np.concatenate(self._labels)
        column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(pixels.shape[1]), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))]
        )
        self._pixels, self._labels, self._pending = [], [], 0
        self._write(pa.record_batch({PIXELS_COLUMN: column, LABEL_COLUMN: pa.array(labels)}), len(labels))
