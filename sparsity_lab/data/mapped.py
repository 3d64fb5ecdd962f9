"""Prepared shards as training sees them: one long array a column, mapped from the files that `prepare` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from sparsity_lab.data.manifest import Manifest, Shard, Split, read_manifest
from sparsity_lab.data.own_ids import token_type
from sparsity_lab.data.places import ShardPlace
from sparsity_lab.data.shards import LABEL_COLUMN, PIXELS_COLUMN, TOKENS_COLUMN, batch_items, read_batches
from sparsity_lab.errors import DataError

FEW: Final = 16
"""pieces; a read that meets more of them goes through its stretches one by one"""
READERS: Final = 8
"""threads that verify or fetch shards at once"""


class LongArray:
    """The values of a split one after the other, over all its shards; a shard is opened when it is first read."""

    def __init__(
        self,
        place: ShardPlace,
        shards: Sequence[Shard],
        name: str,
        *,
        batch: int,
        dtype: DTypeLike,
        item: tuple[int, ...] = (),
    ) -> None:
        """Opens nothing.

        Args:
            place: where the shards lie.
            shards: of the split, in order.
            name: of the column.
            batch: values in each record batch of a shard but its last.
            item: shape of one value, () for tokens and labels.
            dtype: of the values.
        """
        self._place, self._shards, self._name, self._item = place, shards, name, item
        self.dtype = np.dtype(dtype)
        pieces = [-(-shard.items // batch) for shard in shards]
        self._shard_of = np.repeat(np.arange(len(shards)), pieces)
        self._first_piece = np.cumsum(pieces) - pieces
        sizes = [min(batch, shard.items - first) for shard in shards for first in range(0, shard.items, batch)]
        self._sizes = np.array(sizes, np.int64)
        self._begins = np.cumsum(self._sizes) - self._sizes
        self._values: list[NDArray[Any]] = [np.empty((0, *item), self.dtype)] * len(sizes)
        self._open = np.zeros(len(sizes), np.bool_)

        self._length = int(self._sizes.sum())

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int, ...]:
        """(values, *shape of one)."""
        return (len(self), *self._item)

    def windows(self, begins: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Stretches of a flat column, `length` values from each position of `begins` on: (begins, length).

        Raises:
            DataError: a shard that is read for the first time is missing, truncated or altered.
        """
        pieces = np.searchsorted(self._begins, begins, "right") - 1
        self._touch(pieces)
        offsets = begins - self._begins[pieces]
        within = offsets + length <= self._sizes[pieces]
        found = np.empty((len(begins), length), self.dtype)
        for row in np.flatnonzero(~within).tolist():
            found[row] = self.read(int(begins[row]), int(begins[row]) + length)
        distinct = np.unique(pieces[within]).tolist()
        if len(distinct) > FEW:
            at = zip(pieces[within].tolist(), offsets[within].tolist(), strict=True)
            parts = [self._values[piece][offset : offset + length] for piece, offset in at]
            found[within] = np.concatenate(parts).reshape(-1, length)
            return found
        for piece in distinct:
            rows = within & (pieces == piece)
            found[rows] = sliding_window_view(self._values[piece], length)[offsets[rows]]
        return found

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The values at some positions: (positions, *shape of one); errors as `windows`."""
        if len(self._values) == 1 and self._open[0]:
            return self._values[0][positions]
        pieces = np.searchsorted(self._begins, positions, "right") - 1
        self._touch(pieces)
        offsets = positions - self._begins[pieces]
        found = np.empty((len(positions), *self._item), self.dtype)
        distinct = np.unique(pieces).tolist()
        if len(distinct) > FEW:
            for row, (piece, offset) in enumerate(zip(pieces.tolist(), offsets.tolist(), strict=True)):
                found[row] = self._values[piece][offset]
            return found
        for piece in distinct:
            rows = pieces == piece
            found[rows] = self._values[piece][offsets[rows]]
        return found

    def read(self, first: int, last: int) -> NDArray[Any]:
        """The values `first` to `last` - 1, copied; errors as `windows`."""
        begin, end = np.searchsorted(self._begins, (first, max(first, last - 1)), "right") - 1
        pieces = np.arange(begin, end + 1)
        self._touch(pieces)
        starts = self._begins[pieces].tolist()
        return np.concatenate(
            [
                self._values[piece][max(first - start, 0) : max(last - start, 0)]
                for piece, start in zip(pieces.tolist(), starts, strict=True)
            ]
        )

    def _touch(self, pieces: NDArray[np.int64]) -> None:
        """Open the shards of these pieces that are not open yet, several at once."""
        closed = pieces[~self._open[pieces]]
        if not len(closed):
            return
        needed = np.unique(self._shard_of[closed]).tolist()
        with ThreadPoolExecutor(min(READERS, len(needed))) as readers:
            opened = list(readers.map(self._map, needed))
        for number, batches in zip(needed, opened, strict=True):
            first = int(self._first_piece[number])
            self._values[first : first + len(batches)] = batches
            self._open[first : first + len(batches)] = True

    def _map(self, number: int) -> list[NDArray[Any]]:
        path = self._place.file(self._shards[number])
        found = [values.view(self.dtype).reshape(-1, *self._item) for values in read_batches(path, self._name)]
        first, sizes = int(self._first_piece[number]), [len(values) for values in found]
        if sizes != (expected := self._sizes[first : first + len(sizes)].tolist()):
            raise DataError("damaged shard: batches of other sizes", where=path, found=sizes, expected=str(expected))
        return found


@dataclass(frozen=True)
class TextSplit:
    """One side of a text dataset: all its documents, one after the other, each ended by EOS."""

    manifest: Manifest
    tokens: LongArray
    """(tokens,)"""


@dataclass(frozen=True)
class ImageSplit:
    """One side of an image dataset."""

    manifest: Manifest
    pixels: LongArray
    """(examples, height, width, channels) uint8"""
    labels: LongArray
    """(examples,) int32"""


def open_split(folder: Path, split: Split, cache: Path) -> TextSplit | ImageSplit:
    """One split of prepared data; reads nothing but the manifest.

    Each shard is verified when something of it is first read, once on a machine.

    Args:
        folder: where the data were prepared.
        split: which side.
        cache: a folder of this machine; everything below it can be deleted at any time.

    Raises:
        NotReadyError: nothing is prepared in `folder`.
        DataError: a shard is missing or of another size.
    """
    manifest = read_manifest(folder)
    place = ShardPlace(folder, manifest.location, cache / manifest.content_hash)
    place.check_present(manifest.shards)
    shards = [shard for shard in manifest.shards if shard.split == split]
    if manifest.vocabulary:
        kind = np.dtype(token_type(manifest.vocabulary))
        batch = batch_items(kind.itemsize)
        return TextSplit(manifest, LongArray(place, shards, TOKENS_COLUMN, batch=batch, dtype=kind))
    image = (manifest.image, manifest.image, manifest.channels)
    batch = batch_items(int(np.prod(image)))
    pixels = LongArray(place, shards, PIXELS_COLUMN, batch=batch, item=image, dtype=np.uint8)
    return ImageSplit(manifest, pixels, LongArray(place, shards, LABEL_COLUMN, batch=batch, dtype=np.int32))
