"""Images to shards: sides by the hash of the pixels, equal ones once, label conflicts and near-duplicates counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.data.formats.values import Images
from sparsity_lab.data.likeness import LOOKED_AT, LookedAtPictures, check_can_drop, near_pictures, pooled
from sparsity_lab.data.manifest import SPLITS, NearDuplicates, Shard, Split, SplitCounts
from sparsity_lab.data.shards import ImageWriter
from sparsity_lab.data.sources import image_blocks
from sparsity_lab.data.workers import Progress
from sparsity_lab.specs.datasets import DataShape, ImageDataset
from sparsity_lab.specs.sources import Glyphs

AT_ONCE: Final = 1024
"""training images compared with those held out"""


@dataclass(frozen=True)
class Written:
    """What became of a source."""

    counts: dict[Split, SplitCounts]
    shards: list[Shard]
    shape: DataShape
    """classes as the labels have them"""
    near_duplicates: NearDuplicates
    label_conflicts: int | None
    """None for text"""


def write_images(spec: ImageDataset, home: Path, work: Path, report: Progress) -> Written:
    """Write the shards of an image dataset.

    Args:
        spec: the dataset.
        home: folder of the shards.
        work: folder for what is needed meanwhile.
        report: told of every block.

    Raises:
        DataError: the source is missing, or holds something that is no image.
        MachineError: the disk is full.
    """
    sorter = _Sorter(spec.held_out)
    total = spec.source.examples if isinstance(spec.source, Glyphs) else None
    done, shape = 0, DataShape(image=1)
    with ExitStack() as stack:
        alike = _Alike(work / "pooled", stack.enter_context((work / "pooled").open("wb")))
        held_out, dropped = _held_out(spec, report) if spec.near_duplicates == "drop" else None, 0
        writers = {
            split: stack.enter_context(ImageWriter(home / split, split, spec.shard_examples)) for split in SPLITS
        }
        for block in image_blocks(spec.source):
            fresh = sorter(block)
            flat, small = block.pixels.reshape(len(block.labels), -1), pooled(block.pixels)
            if held_out is None:
                alike.add(small[fresh["train"]], small[fresh["heldout"]], sorter.keys[fresh["heldout"]])
            else:
                near = fresh["train"] & held_out.alike(small).any(axis=1)
                fresh["train"] &= ~near
                dropped += int(near.sum())
            for split, writer in writers.items():
                chosen = fresh[split]
                writer.add(flat[chosen], block.labels[chosen])
            done += len(block.labels)
            _, height, _, channels = block.pixels.shape
            classes = max(shape.classes, int(block.labels.max()) + 1)
            shape = DataShape(image=height, channels=channels, classes=classes)
            report("draw" if total else "decode", done, total)
        shards = [shard for writer in writers.values() for shard in writer.close()]
    counts = {split: writer.counts(sorter.duplicates[split]) for split, writer in writers.items()}
    counted = alike.count() if held_out is None else NearDuplicates(looked_at=len(held_out), found=0, dropped=dropped)
    return Written(counts, shards, shape, counted, sorter.conflicts)


def _held_out(spec: ImageDataset, report: Progress) -> LookedAtPictures:
    """The pictures that are held out: all are looked through before any is written."""
    sorter, found, done, count = _Sorter(spec.held_out), [], 0, 0
    for block in image_blocks(spec.source):
        found.append(pooled(block.pixels[sorter(block)["heldout"]]))
        count += len(found[-1])
        check_can_drop(spec, count)
        done += len(block.labels)
        report("look for near-duplicates", done, None)
    return LookedAtPictures.of(np.concatenate(found) if found else np.empty((0, 1, 1), np.uint8))


@dataclass
class _Sorter:
    """Sends each image to its side by the hash of its content, and finds those that came before.

    Remembers 8 bytes of every hash and its label (about 100 bytes of memory an image), as text does in a file: among a
    billion documents, one in forty corpora loses a single document to a collision.
    """

    held_out: float
    labels: dict[bytes, int] = field(default_factory=dict)
    duplicates: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    conflicts: int = 0
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """of the block"""

    def __call__(self, block: Images) -> dict[Split, NDArray[np.bool_]]:
        """Which images of a block are new, on each side: (examples,)."""
        fresh: dict[Split, NDArray[np.bool_]] = {split: np.zeros(len(block.labels), np.bool_) for split in SPLITS}
        keys = []
        for number, (image, label) in enumerate(zip(block.pixels, block.labels.tolist(), strict=True)):
            digest = hashlib.sha256(image.tobytes()).digest()
            split: Split = "heldout" if int.from_bytes(digest[:8], "big") < self.held_out * 2.0**64 else "train"
            key = digest[8:16]
            keys.append(int.from_bytes(key, "big"))
            known = self.labels.setdefault(key, -1)
            if known < 0:
                self.labels[key] = label
                fresh[split][number] = True
            else:
                self.duplicates[split] += 1
                self.conflicts += known != label
        self.keys = np.array(keys, np.uint64)
        return fresh


@dataclass
class _Alike:
    """Pooled images: the training ones in a file, of the held-out ones those with the smallest hashes."""

    path: Path
    file: BinaryIO
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    held_out: NDArray[np.uint8] | None = None

    def add(self, train: NDArray[np.uint8], held_out: NDArray[np.uint8], keys: NDArray[np.uint64]) -> None:
        """Take pooled images, (examples, cells, channels), and the hashes of the held-out ones, (examples,)."""
        self.file.write(train.tobytes())
        every = np.concatenate([self.keys, keys])
        images = held_out if self.held_out is None else np.concatenate([self.held_out, held_out])
        first = np.argsort(every, kind="stable")[:LOOKED_AT]
        self.keys, self.held_out = every[first], images[first]

    def count(self) -> NearDuplicates:
        """Compare them all, once the file is closed."""
        if self.held_out is None:
            return NearDuplicates(looked_at=0, found=0)
        found = near_pictures(self._train(self.held_out.shape[1:]), self.held_out)
        self.path.unlink()
        return NearDuplicates(looked_at=len(self.keys), found=found)

    def _train(self, item: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
        size = int(np.prod(item))
        with self.path.open("rb") as file:
            while content := file.read(AT_ONCE * size):
                yield np.frombuffer(content, np.uint8).reshape(-1, *item)
