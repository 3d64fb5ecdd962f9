"""Documents and images to shards and a manifest. The manifest is written last and removed first."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

import numpy as np

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import MANIFEST
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.judging import NoteHashes, Unit, judge, units_of
from sparsity_lab.data.manifest import SPLITS, Manifest, Shard, Split, SplitCounts, content_hash, read_manifest
from sparsity_lab.data.places import ShardPlace, copy_to_store, local_folder
from sparsity_lab.data.shards import ImageWriter
from sparsity_lab.data.sources import image_blocks, source_hash
from sparsity_lab.data.text import Joined, Tokenize, Train
from sparsity_lab.data.tokenizer import Codec, make_tokenizer, restored_tokenizer, tokenizer_hash
from sparsity_lab.data.workers import Counter, Progress, Workers
from sparsity_lab.errors import DataError, NotReadyError
from sparsity_lab.specs.datasets import Bpe, DatasetSpec, DataShape, Glyphs, ImageDataset, TextDataset, TokenizerFile
from sparsity_lab.specs.fingerprint import canonical_json

TOKENIZER: Final = "tokenizer.json"
WORK: Final = ".work"
PLAN: Final = "plan"
WORK_FORMAT: Final = 1
"""raised when work that was begun by an earlier version cannot be gone on with"""


@dataclass(frozen=True)
class _Asked:
    """What is prepared, where, and by how many."""

    spec: DatasetSpec
    folder: Path
    work: Path
    location: str
    source: str
    """SHA-256 of everything outside the spec that decides the data"""
    workers: int
    report: Progress

    @property
    def home(self) -> Path:
        """Where shards are written: their folder, or one from which they are copied to a store."""
        return (local_folder(self.location) or self.work / "shards") if self.location else self.folder

    @property
    def store(self) -> str:
        """URI of the store that shards are copied to; empty when they lie in a folder."""
        return "" if self.location and local_folder(self.location) else self.location


def prepare(
    spec: DatasetSpec,
    folder: Path,
    progress: Progress | None = None,
    *,
    workers: int = 1,
    location: str | None = None,
    work: Path | None = None,
) -> Manifest:
    """Make `folder` hold the data a spec describes; does nothing when it does already.

    At any moment the folder holds either no manifest or a complete dataset. What was prepared of text before a kill
    is gone on with.

    Args:
        spec: the dataset.
        folder: where shards, tokenizer and manifest go.
        progress: told of every few hundred documents or images.
        workers: processes that read and tokenize; the data do not depend on their number.
        location: folder or `pyarrow.fs` URI for the shards in the place of `folder`; None: wherever they are.
        work: folder for what is finished of a preparation under way; below `folder` when None.

    Raises:
        DataError: the source is missing, empty or damaged, or one side of the split would be empty.
        MachineError: the disk is full, or a process was killed.
    """
    work = work or folder / WORK
    source = _fingerprint(spec, workers)
    present = _intact(spec, folder, source, location, workers)
    if present is not None:
        shutil.rmtree(work, ignore_errors=True)
        return present
    job = _Asked(spec, folder, work, location or "", source, workers, progress or (lambda _what, _done, _total: None))
    match spec:
        case TextDataset():
            units = units_of(spec)
            _clear(job, units)
            manifest = _prepare_text(job, spec, units)
        case ImageDataset():
            _clear(job, ())
            manifest = _prepare_images(job, spec)
        case _:
            assert_never(spec)
    content = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=2)  # equal data, equal bytes
    write_text(folder / MANIFEST, content + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def _fingerprint(spec: DatasetSpec, readers: int) -> str:
    found = source_hash(spec.source, readers)
    if isinstance(spec, TextDataset) and isinstance(spec.tokenizer, TokenizerFile):
        path = Path(spec.tokenizer.path)
        if not path.is_file():
            raise DataError("no such file", where=path, field="tokenizer.path")
        found = hashlib.sha256((found + file_sha256(path)).encode()).hexdigest()
    return found


def _intact(spec: DatasetSpec, folder: Path, source: str, location: str | None, readers: int) -> Manifest | None:
    """The manifest, when the folder holds what the spec describes, undamaged (in a store: there, and of its size)."""
    try:
        manifest = read_manifest(folder)
    except (NotReadyError, DataError):
        return None
    if manifest.spec != spec or manifest.source_sha256 != source or location not in (None, manifest.location):
        return None
    if manifest.tokenizer_sha256 and not _holds(folder / TOKENIZER, manifest.tokenizer_sha256):
        return None
    place = ShardPlace(folder, manifest.location, folder)
    try:
        place.check_present(manifest.shards)
    except DataError:
        return None
    if (home := place.folder) is None:
        return manifest
    with ThreadPoolExecutor(readers) as pool:
        sound = pool.map(lambda shard: _holds(home / shard.name, shard.sha256), manifest.shards)
        return manifest if all(sound) else None


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _clear(job: _Asked, units: Sequence[Unit]) -> None:
    """Remove what an earlier preparation left, the manifest first; what was broken off of this very one stays."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / MANIFEST).unlink(missing_ok=True)
    shards = tuple(f"{split}-*.{kind}" for split in SPLITS for kind in ("arrow", "parquet"))
    identity = {"format": WORK_FORMAT, "spec": job.spec.model_dump(mode="json"), "source": job.source}
    plan = canonical_json({**identity, "location": job.location, "units": [len(unit) for unit in units]})
    try:
        goes_on = (job.work / PLAN).read_text(encoding="utf-8") == plan
    except OSError:
        goes_on = False
    names = (TOKENIZER, *(() if goes_on else shards), *(f".{name}.*.tmp" for name in (MANIFEST, TOKENIZER, *shards)))
    for pattern in names:
        for path in job.folder.glob(pattern):
            path.unlink()
    if not goes_on:
        shutil.rmtree(job.work, ignore_errors=True)
        write_text(job.work / PLAN, plan)


def _prepare_text(job: _Asked, spec: TextDataset, units: Sequence[Unit]) -> Manifest:
    with Workers(job.workers) as workers:
        verdicts, begins = _judged(job, NoteHashes(spec, job.work), units, workers)
        codec = _tokenizer(job, Train(spec, verdicts, begins, job.workers), units, workers)
        tokenize = Tokenize(spec, codec.source, job.work, verdicts, job.home, job.store)
        heard, joined = Counter(job.report, "tokenize", begins[-1]), Joined(tokenize, job.work / "fetched")
        receipts = {number: kept for number in range(len(units)) if (kept := tokenize.kept(number)) is not None}
        heard(sum(begins[number + 1] - begins[number] for number in receipts))
        joined.add(receipts)
        tasks = [
            (number, begins[number], begins[number + 1], unit)
            for number, unit in enumerate(units)
            if number not in receipts
        ]
        for done, receipt in workers.map(tokenize, tasks, heard):
            joined.add({tasks[done][0]: receipt})
        heard.end()
    if codec.source:
        write_text(job.folder / TOKENIZER, codec.source)
    return _finish(job, joined.counts(), joined.shards(), DataShape(vocabulary=codec.vocabulary), tokenizer_hash(codec))


def _judged(job: _Asked, notes: NoteHashes, units: Sequence[Unit], workers: Workers) -> tuple[Path, tuple[int, ...]]:
    """A file with the verdict on every document, and where those of each unit begin in it, with the end."""
    heard = Counter(job.report, "read", None)
    new = [(number, unit) for number, unit in enumerate(units) if not notes.file(number).is_file()]
    for _ in workers.map(notes, new, heard):
        pass
    heard.end()
    begins = judge([notes.file(number) for number in range(len(units))], job.work / "verdicts")
    return job.work / "verdicts", tuple(begins.tolist())


def _tokenizer(job: _Asked, train: Train, units: Sequence[Unit], workers: Workers) -> Codec:
    asked = train.spec.tokenizer
    if not isinstance(asked, Bpe):
        return make_tokenizer(asked, ())
    path = job.work / TOKENIZER
    if not path.is_file():
        total = train.begins[-1] if asked.training_bytes is None else None
        heard = Counter(job.report, "train tokenizer", total)
        ((_, source),) = workers.map(train, [tuple(units)], heard, apart=len(units) > 1)
        write_text(path, source)
    return restored_tokenizer(asked, path.read_text(encoding="utf-8"))


def _prepare_images(job: _Asked, spec: ImageDataset) -> Manifest:
    side = _Sorter(spec.held_out)
    duplicates = dict.fromkeys(SPLITS, 0)
    total = spec.source.examples if isinstance(spec.source, Glyphs) else None
    done, shape = 0, DataShape(image=1)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(ImageWriter(job.home / split, split, spec.shard_examples)) for split in SPLITS
        }
        for block in image_blocks(spec.source):
            pixels = np.ascontiguousarray(block.pixels).reshape(len(block.labels), -1)
            verdicts = [side(image.data) for image in pixels]
            for split, writer in writers.items():
                chosen = np.array([verdict == (split, False) for verdict in verdicts])
                duplicates[split] += verdicts.count((split, True))
                writer.add(pixels[chosen], block.labels[chosen])
            done += len(block.labels)
            _, height, _, channels = block.pixels.shape
            classes = max(shape.classes, int(block.labels.max()) + 1)
            shape = DataShape(image=height, channels=channels, classes=classes)
            job.report("draw" if total else "decode", done, total)
        shards = [shard for writer in writers.values() for shard in writer.close()]
    asked = spec.source.classes
    if asked is not None and shape.classes > asked:
        expected = f"at least {shape.classes}"
        raise DataError(
            "a label lies outside the classes", where="source", field="classes", found=asked, expected=expected
        )
    if asked is not None:
        shape = shape.model_copy(update={"classes": asked})
    for shard in shards if job.store else ():
        copy_to_store(job.home / shard.name, job.store)
    counts = {split: writer.counts(duplicates[split]) for split, writer in writers.items()}
    return _finish(job, counts, shards, shape, "")


@dataclass
class _Sorter:
    """Sends each image to its side by the hash of its content, and finds those that came before.

    Remembers 8 bytes of every hash (about 70 bytes of memory an image), as text does in a file: among a billion
    documents, one in forty corpora loses a single document to a collision.
    """

    held_out: float
    seen: set[bytes] = field(default_factory=set)

    def __call__(self, document: bytes | memoryview) -> tuple[Split, bool]:
        """(side, whether an equal one came before)."""
        digest = hashlib.sha256(document).digest()
        split: Split = "heldout" if int.from_bytes(digest[:8], "big") < self.held_out * 2.0**64 else "train"
        key = digest[8:16]
        known = key in self.seen
        self.seen.add(key)
        return split, known


def _finish(
    job: _Asked,
    counts: dict[Split, SplitCounts],
    shards: Sequence[Shard],
    shape: DataShape,
    tokenizer_sha256: str,
) -> Manifest:
    spec = job.spec
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
        source_sha256=job.source,
        tokenizer_sha256=tokenizer_sha256,
        vocabulary=shape.vocabulary,
        image=shape.image,
        channels=shape.channels,
        classes=shape.classes,
        train=counts["train"],
        heldout=counts["heldout"],
        location=job.location,
        shards=tuple(shards),
        content_hash=content_hash(counts["train"], counts["heldout"], shape, tokenizer_sha256),
    )
