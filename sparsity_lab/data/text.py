"""Text to shards, file by file in several processes; the data are the same however many there are.

1. Each unit (a large file, or small ones up to 16 MiB) is read and the hashes of its documents are noted, with
   signatures of those held out.
2. A document that equals an earlier one is found by sorting the hashes, a range of them at a time.
3. The tokenizer is trained, where one is to be.
4. Each unit is read again; what is not known yet is compared with the signatures, tokenized and written as shards of
   the unit, and a receipt.
5. In the order of the units, the tokens of each side are hashed.

What is finished is in `.work` beside the shards: a preparation that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.data.judging import HELD_OUT, KNOWN, Unit, Verdicts, as_text, blocks, unit_documents
from sparsity_lab.data.likeness import LookedAt
from sparsity_lab.data.manifest import SPLITS, NearDuplicates, Shard, Split, SplitCounts
from sparsity_lab.data.places import ShardPlace, copy_to_store
from sparsity_lab.data.shards import TOKENS_COLUMN, TextWriter, read_batches
from sparsity_lab.data.tokenizer import Codec, make_tokenizer, restored_tokenizer
from sparsity_lab.data.workers import Heard, threads
from sparsity_lab.errors import DataError
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.datasets import Bpe, TextDataset, Tokenizer


class Receipt(Spec):
    """What became of a unit: its shards are written."""

    documents: tuple[int, int]
    """distinct ones: training, held out"""
    duplicates: tuple[int, int]
    bytes: tuple[int, int]
    """of text (UTF-8)"""
    dropped: int = 0
    """training ones left out because they nearly equal a held-out one"""
    near: tuple[int, ...]
    """which held-out documents that are looked at have a near-duplicate among its training ones"""
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Train:
    """Trains a tokenizer on the distinct documents of the training side; gives its `tokenizer.json`."""

    spec: TextDataset
    verdicts: Path
    begins: tuple[int, ...]
    cores: int

    def __call__(self, task: tuple[Unit, ...], heard: Heard) -> str:
        """Read the units: all of them, or from the beginning of each as much as is its share by documents."""
        with threads(self.cores):
            return make_tokenizer(self.spec.tokenizer, self._documents(task, heard)).source

    def _documents(self, units: tuple[Unit, ...], heard: Heard) -> Iterator[bytes]:
        verdicts = _opened(self.verdicts, 0, self.begins[-1])
        asked = self.spec.tokenizer.training_bytes if isinstance(self.spec.tokenizer, Bpe) else None
        taken = 0
        for unit, begin, end in zip(units, self.begins, self.begins[1:], strict=False):
            share, first = inf if asked is None else asked * end / self.begins[-1], begin
            for block in blocks(unit_documents(self.spec, unit)):
                if taken >= share:
                    break
                for document, verdict in zip(block, verdicts[first : first + len(block)].tolist(), strict=False):
                    if not verdict and taken < share:
                        taken += len(document)
                        yield document
                first += len(block)
                heard(len(block))


@dataclass(frozen=True)
class Tokenize:
    """Writes the shards of a unit, and its receipt."""

    spec: TextDataset
    tokenizer: str
    """text of `tokenizer.json`; empty for bytes"""
    work: Path
    """folder of receipts"""
    verdicts: Path
    signatures: Path
    """of held-out documents that training ones are compared with"""
    home: Path
    """folder of the shards"""
    store: str = ""
    """URI of a place to which they are copied"""

    def receipt(self, number: int) -> Path:
        """Where a unit's receipt is."""
        return self.work / f"unit-{number:05d}.json"

    def kept(self, number: int) -> Receipt | None:
        """The receipt of a unit that is finished."""
        try:
            receipt = Receipt.model_validate_json(self.receipt(number).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        paths = [(self.home / shard.name, shard.size) for shard in receipt.shards if not self.store]
        return receipt if all(path.is_file() and path.stat().st_size == size for path, size in paths) else None

    def __call__(self, task: tuple[int, int, int, Unit], heard: Heard) -> Receipt:
        """Read a unit, whose verdicts lie between two places."""
        number, begin, end, unit = task
        codec = _codec(self.spec.tokenizer, self.tokenizer)
        verdicts, looked_at = (
            _opened(self.verdicts, begin, end),
            _looked_at(self.signatures, self.signatures.stat().st_mtime_ns),
        )
        sizes, near, dropped = np.zeros(2, np.int64), set[int](), 0
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    TextWriter(self.home / f"{split}-{number:05d}", split, self.spec.shard_tokens, codec.vocabulary)
                )
                for split in SPLITS
            ]
            row = 0
            for block in blocks(unit_documents(self.spec, unit)):
                judged = verdicts[row : row + len(block)].copy()
                row += len(block)
                if len(judged) < len(block):
                    break
                training = np.flatnonzero(judged == 0)
                found, alike = looked_at.near([as_text(block[one], self.spec.source) for one in training.tolist()])
                near |= found
                if self.spec.near_duplicates == "drop":
                    judged[training[sorted(alike)]] |= KNOWN
                    dropped += len(alike)
                sizes += _append(block, judged, codec, writers)
                heard(len(block))
            if row != len(verdicts):
                raise DataError("the source changed while it was read", where=unit[0])
            shards = tuple(shard for writer in writers for shard in writer.close())
        for shard in shards if self.store else ():
            copy_to_store(self.home / shard.name, self.store)
        counted = np.bincount(verdicts, minlength=4).tolist()
        receipt = Receipt(
            documents=(counted[0] - dropped, counted[HELD_OUT]),
            dropped=dropped,
            duplicates=(counted[KNOWN], counted[KNOWN | HELD_OUT]),
            bytes=(int(sizes[0]), int(sizes[1])),
            near=tuple(sorted(near)),
            shards=shards,
        )
        write_text(self.receipt(number), receipt.model_dump_json())
        return receipt


def _append(block: list[bytes], judged: Verdicts, codec: Codec, writers: list[TextWriter]) -> NDArray[np.int64]:
    """Tokenize the documents of a block that are not known yet; bytes of text that went to each side."""
    fresh = [document for document, verdict in zip(block, judged.tolist(), strict=True) if not verdict & KNOWN]
    if not fresh:
        return np.zeros(2, np.int64)
    tokens, lengths = codec.encode_joined(fresh)
    sides = judged[judged & KNOWN == 0] & HELD_OUT
    sizes = np.array([len(document) for document in fresh], np.int64)
    for side, writer in enumerate(writers):
        chosen = sides == side
        writer.add(tokens if chosen.all() else tokens[np.repeat(chosen, lengths)], lengths[chosen])
    return np.array([sizes[sides == side].sum() for side in range(len(SPLITS))], np.int64)


@lru_cache(maxsize=1)
def _codec(spec: Tokenizer, source: str) -> Codec:
    return restored_tokenizer(spec, source)


@lru_cache(maxsize=1)
def _looked_at(signatures: Path, _written: int) -> LookedAt:
    """Read once while the file is the same: one process may prepare the same folder from another source."""
    return LookedAt.of(np.load(signatures))


def _opened(verdicts: Path, begin: int, end: int) -> Verdicts:
    if begin == end:
        return np.empty(0, np.uint8)
    return np.memmap(verdicts, np.uint8, "r", offset=begin, shape=(end - begin,))


@dataclass
class Joined:
    """Receipts in the order of the units, whatever the order in which they come, and their tokens hashed in it."""

    tokenize: Tokenize
    fetched: Path
    """folder for shards that are in the store alone, after a kill"""
    receipts: list[Receipt] = field(default_factory=list)
    waiting: dict[int, Receipt] = field(default_factory=dict)
    hashes: dict[Split, hashlib._Hash] = field(default_factory=lambda: {split: hashlib.sha256() for split in SPLITS})

    def add(self, receipts: dict[int, Receipt]) -> None:
        """Take receipts by their units' numbers."""
        self.waiting |= receipts
        while (receipt := self.waiting.pop(len(self.receipts), None)) is not None:
            for shard in receipt.shards:
                self._hash(shard)
            self.receipts.append(receipt)

    def counts(self) -> dict[Split, SplitCounts]:
        """Of each side."""
        shards = self.shards()
        return {
            split: SplitCounts(
                documents=sum(receipt.documents[side] for receipt in self.receipts),
                duplicates=sum(receipt.duplicates[side] for receipt in self.receipts),
                bytes=sum(receipt.bytes[side] for receipt in self.receipts),
                items=sum(shard.items for shard in shards if shard.split == split),
                sha256=self.hashes[split].hexdigest(),
            )
            for side, split in enumerate(SPLITS)
        }

    def near_duplicates(self) -> NearDuplicates:
        """Between the sides."""
        near = set[int]().union(*(receipt.near for receipt in self.receipts))
        return NearDuplicates(
            looked_at=len(np.load(self.tokenize.signatures)),
            found=0 if self.tokenize.spec.near_duplicates == "drop" else len(near),
            dropped=sum(receipt.dropped for receipt in self.receipts),
        )

    def shards(self) -> list[Shard]:
        """Of both sides, each in order."""
        every = [shard for receipt in self.receipts for shard in receipt.shards]
        return [shard for split in SPLITS for shard in every if shard.split == split]

    def _hash(self, shard: Shard) -> None:
        path = self.tokenize.home / shard.name
        if self.tokenize.store and not path.is_file():
            path = ShardPlace(self.fetched, self.tokenize.store, self.fetched).file(shard)
        for values in read_batches(path, TOKENS_COLUMN):
            self.hashes[shard.split].update(values.astype("<u4").data)
        if self.tokenize.store:
            path.unlink()
