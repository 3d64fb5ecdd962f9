"""Documents and images to Parquet shards and a manifest. The manifest is written last and removed first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias, assert_never

import numpy as np

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import MANIFEST
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.manifest import (
    SPLITS,
    Manifest,
    Split,
    SplitCounts,
    content_hash,
    read_manifest,
)
from sparsity_lab.data.shards import ImageWriter, TextWriter
from sparsity_lab.data.sources import documents, image_blocks, source_hash
from sparsity_lab.data.tokenizer import make_tokenizer, tokenizer_hash
from sparsity_lab.errors import DataError, NotReadyError
from sparsity_lab.specs.datasets import DatasetSpec, DataShape, Glyphs, ImageDataset, TextDataset, TokenizerFile

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""called with what is being done, how many documents or images are done, and of how many (None: not known)"""

TOKENIZER = "tokenizer.json"
DOCUMENTS_AT_ONCE = 256


def prepare(spec: DatasetSpec, folder: Path, progress: Progress | None = None) -> Manifest:
    """Make `folder` hold the data a spec describes; does nothing when it does already.

    At any moment the folder holds either no manifest or a complete dataset.

    Args:
        spec: the dataset.
        folder: where shards, tokenizer and manifest go.
        progress: told of every few hundred documents or images.

    Raises:
        DataError: the source is missing, empty or damaged, or one side of the split would be empty.
        MachineError: the disk is full.
    """
    report = progress or (lambda _what, _done, _total: None)
    source = _fingerprint(spec)
    present = _intact(spec, folder, source)
    if present is not None:
        return present
    _clear(folder)
    match spec:
        case TextDataset():
            manifest = _prepare_text(spec, folder, source, report)
        case ImageDataset():
            manifest = _prepare_images(spec, folder, source, report)
        case _:
            assert_never(spec)
    content = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=2)  # equal data, equal bytes
    write_text(folder / MANIFEST, content + "\n")
    return manifest


def _fingerprint(spec: DatasetSpec) -> str:
    """SHA-256 of everything outside the spec that decides the data."""
    found = source_hash(spec.source)
    if isinstance(spec, TextDataset) and isinstance(spec.tokenizer, TokenizerFile):
        path = Path(spec.tokenizer.path)
        if not path.is_file():
            raise DataError("no such file", where=path, field="tokenizer.path")
        found = hashlib.sha256((found + file_sha256(path)).encode()).hexdigest()
    return found


def _intact(spec: DatasetSpec, folder: Path, source: str) -> Manifest | None:
    """The manifest, when the folder holds what the spec describes, undamaged."""
    try:
        manifest = read_manifest(folder)
    except (NotReadyError, DataError):
        return None
    if manifest.spec != spec or manifest.source_sha256 != source:
        return None
    paths = [(folder / shard.name, shard.sha256) for shard in manifest.shards]
    if manifest.tokenizer_sha256:
        paths.append((folder / TOKENIZER, manifest.tokenizer_sha256))
    return manifest if all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in paths) else None


def _clear(folder: Path) -> None:
    """Remove what an earlier preparation left, whole or broken off, the manifest first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    names = (TOKENIZER, *(f"{split}-*.parquet" for split in SPLITS))
    for pattern in (*names, *(f".{name}.*.tmp" for name in (MANIFEST, *names))):
        for path in folder.glob(pattern):
            path.unlink()


@dataclass
class _Sorter:
    """Sends each document to its side by the hash of its content, and drops those that came before.

    Remembers 8 bytes of every hash (about 70 bytes of memory a document): among a billion documents, one in
    forty corpora loses a single document to a collision.
    """

    held_out: float
    seen: set[bytes] = field(default_factory=set)

    def __call__(self, document: bytes | memoryview) -> tuple[Split, bool]:
        """(side, whether an equal document came before)."""
        digest = hashlib.sha256(document).digest()
        split: Split = "heldout" if int.from_bytes(digest[:8], "big") < self.held_out * 2.0**64 else "train"
        key = digest[8:16]
        known = key in self.seen
        self.seen.add(key)
        return split, known


def _prepare_text(spec: TextDataset, folder: Path, source: str, report: Progress) -> Manifest:
    first = _Sorter(spec.held_out)
    training = (document for document in documents(spec.source) if first(document) == ("train", False))
    codec = make_tokenizer(spec.tokenizer, _counted(training, "train tokenizer", report))
    if codec.source:
        write_text(folder / TOKENIZER, codec.source)
    side = _Sorter(spec.held_out)
    writers = {split: TextWriter(folder, split, spec.shard_tokens) for split in SPLITS}
    for block in _blocks(_counted(documents(spec.source), "tokenize", report)):
        for document, tokens in zip(block, codec.encode(block), strict=True):
            split, known = side(document)
            writers[split].duplicates += known
            if not known:
                writers[split].add(document, tokens)
    return _finish(spec, source, writers, DataShape(vocabulary=codec.vocabulary), tokenizer_hash(codec))


def _prepare_images(spec: ImageDataset, folder: Path, source: str, report: Progress) -> Manifest:
    side = _Sorter(spec.held_out)
    writers = {split: ImageWriter(folder, split, spec.shard_examples) for split in SPLITS}
    total = spec.source.examples if isinstance(spec.source, Glyphs) else None
    done, shape = 0, DataShape(image=1)
    for block in image_blocks(spec.source):
        pixels = np.ascontiguousarray(block.pixels).reshape(len(block.labels), -1)
        verdicts = [side(image.data) for image in pixels]
        for split, writer in writers.items():
            chosen = np.array([verdict == (split, False) for verdict in verdicts])
            writer.duplicates += verdicts.count((split, True))
            writer.add(pixels[chosen], block.labels[chosen])
        done += len(block.labels)
        _, height, _, channels = block.pixels.shape
        classes = max(shape.classes, int(block.labels.max()) + 1)
        shape = DataShape(image=height, channels=channels, classes=classes)
        report("draw" if total else "decode", done, total)
    asked = spec.source.classes
    if asked is not None and shape.classes > asked:
        expected = f"at least {shape.classes}"
        raise DataError(
            "a label lies outside the classes", where="source", field="classes", found=asked, expected=expected
        )
    if asked is not None:
        shape = shape.model_copy(update={"classes": asked})
    return _finish(spec, source, writers, shape, "")


def _finish(
    spec: DatasetSpec,
    source: str,
    writers: dict[Split, TextWriter] | dict[Split, ImageWriter],
    shape: DataShape,
    tokenizer_sha256: str,
) -> Manifest:
    counts: dict[Split, SplitCounts] = {split: writer.close() for split, writer in writers.items()}
    where = f"{spec.source.kind} {getattr(spec.source, 'path', '')}".strip()
    total = sum(one.documents for one in counts.values())
    if not total:
        raise DataError("the source is empty", where=where)
    empty = next((split for split in SPLITS if not counts[split].documents), None)
    if empty is not None:
        message = f"no document falls on the {empty} side of the split ({total} documents in all)"
        raise DataError(message, where=where, field="held_out", found=spec.held_out)
    return Manifest(
        spec=spec,
        source_sha256=source,
        tokenizer_sha256=tokenizer_sha256,
        vocabulary=shape.vocabulary,
        image=shape.image,
        channels=shape.channels,
        classes=shape.classes,
        train=counts["train"],
        heldout=counts["heldout"],
        shards=tuple(shard for split in SPLITS for shard in writers[split].shards),
        content_hash=content_hash(counts["train"], counts["heldout"], shape, tokenizer_sha256),
    )


def _blocks(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    iterator = iter(items)
    while block := list(islice(iterator, DOCUMENTS_AT_ONCE)):
        yield block


def _counted(items: Iterable[bytes], what: str, report: Progress) -> Iterator[bytes]:
    count = 0
    for count, item in enumerate(items, 1):
        if count % DOCUMENTS_AT_ONCE == 0:
            report(what, count, None)
        yield item
    report(what, count, count)
