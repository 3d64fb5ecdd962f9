"""Documents and images to shards and a manifest. The manifest is written last and removed first."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sparsity_lab.artifacts.atomic import make_parent, write_text
from sparsity_lab.artifacts.paths import MANIFEST
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.images import Written, write_images
from sparsity_lab.data.judging import NoteHashes, Unit, judge, units_of
from sparsity_lab.data.likeness import LOOKED_AT, MOST_TO_DROP, check_can_drop, choose_signatures
from sparsity_lab.data.manifest import SPLITS, Manifest, content_hash
from sparsity_lab.data.places import TOKENIZER, copy_to_store, holder, intact, local_folder, store_at, take_over
from sparsity_lab.data.sources import not_too_large, source_hash
from sparsity_lab.data.text import Joined, Tokenize, Train
from sparsity_lab.data.tokenizer import ByteCodec, Codec, asked_ids, make_tokenizer, restored_tokenizer, tokenizer_hash
from sparsity_lab.data.workers import Counter, Progress, Workers
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import Bpe, DatasetSpec, DataShape, ImageDataset, TextDataset, TokenizerFile
from sparsity_lab.specs.fingerprint import canonical_json
from sparsity_lab.specs.sources import Glyphs, PythonStdlib

WORK: Final = ".work"
PLAN: Final = "plan"
SIGNATURES: Final = "signatures"
WORK_FORMAT: Final = 2
"""raised when work that was begun by an earlier version cannot be gone on with"""
RULES: Final = "normal forms, line ends, pictures as seen"
"""by which examples are kept, in sources whose examples other rules would change; changed with them"""


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
    others: Sequence[Path] = (),
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
        others: folders of prepared data, from which it is taken over where one holds it.

    Raises:
        DataError: the source is missing, empty or damaged, or one side of the split would be empty.
        MachineError: the disk is full, or a process was killed.
    """
    work = work or folder / WORK
    source = _fingerprint(spec, workers)
    present = intact(spec, folder, source, location, workers)
    if present is not None:
        shutil.rmtree(work, ignore_errors=True)
        return present
    job = _Asked(spec, folder, work, location or "", source, workers, progress or (lambda _what, _done, _total: None))
    shared = holder(spec, source, others, workers) if location is None else None
    units = units_of(spec) if shared is None and isinstance(spec, TextDataset) else ()
    if job.store:
        store_at(job.store)  # what is there stays where no place is
    elif job.location:
        make_parent(job.home / MANIFEST)
    _clear(job, units)
    if shared is not None:
        manifest = take_over(*shared, folder)
    elif isinstance(spec, TextDataset):
        manifest = _prepare_text(job, spec, units)
    else:
        manifest = _prepare_images(job, spec)
    content = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=2)  # equal data, equal bytes
    write_text(folder / MANIFEST, content + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def _fingerprint(spec: DatasetSpec, readers: int) -> str:
    found = source_hash(spec.source, readers)
    if not isinstance(spec.source, PythonStdlib | Glyphs):
        found = hashlib.sha256(f"{RULES}\n{found}".encode()).hexdigest()
    if isinstance(spec, TextDataset) and isinstance(spec.tokenizer, TokenizerFile):
        path = Path(spec.tokenizer.path)
        if not path.is_file():
            message = "is no file" if path.exists() else "no such file"
            raise DataError(message, where=path, field="tokenizer.path")
        not_too_large(path, "a tokenizer")
        told = own.model_dump_json() if (own := asked_ids(spec.tokenizer)) else ""
        found = hashlib.sha256((found + file_sha256(path, DataError) + told).encode()).hexdigest()
    return found


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
        verdicts, begins = _judged(job, spec, units, workers)
        codec = _tokenizer(job, Train(spec, verdicts, begins, job.workers), units, workers)
        tokenize = Tokenize(spec, codec.source, job.work, verdicts, job.work / SIGNATURES, job.home, job.store)
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
    shape = DataShape(vocabulary=codec.vocabulary)
    found = Written(joined.counts(), joined.shards(), shape, joined.near_duplicates(), None)
    return _finish(job, found, codec)


def _judged(job: _Asked, spec: TextDataset, units: Sequence[Unit], workers: Workers) -> tuple[Path, tuple[int, ...]]:
    """A file with the verdict on every document, and where those of each unit begin in it, with the end."""
    most, noted = LOOKED_AT, 4 * LOOKED_AT // max(1, len(units)) + 16  # more than a unit's share, chosen by hash
    if spec.near_duplicates == "drop":
        most = noted = MOST_TO_DROP + 1
    notes = NoteHashes(spec, job.work, noted)
    heard = Counter(job.report, "read", None)
    new = [(number, unit) for number, unit in enumerate(units) if not notes.file(number).is_file()]
    for _ in workers.map(notes, new, heard):
        pass
    heard.end()
    files = [notes.signature_file(number) for number in range(len(units))]
    chosen = choose_signatures(files, job.work / SIGNATURES, most)
    check_can_drop(spec, chosen)
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
    written = write_images(spec, job.home, job.work, job.report)
    asked, shape = spec.source.classes, written.shape
    if asked is not None and shape.classes > asked:
        message, expected = "a label lies outside the classes", f"at least {shape.classes}"
        raise DataError(message, where="source", field="classes", found=asked, expected=expected)
    shape = shape.model_copy(update={"classes": asked or shape.classes})
    for shard in written.shards if job.store else ():
        copy_to_store(job.home / shard.name, job.store)
    return _finish(job, replace(written, shape=shape), ByteCodec())


def _finish(job: _Asked, found: Written, codec: Codec) -> Manifest:
    spec, counts, shape, tokenizer = job.spec, found.counts, found.shape, tokenizer_hash(codec)
    where = f"{spec.source.kind} {getattr(spec.source, 'path', '')}".strip()
    documents = [one.documents for one in counts.values()]
    if not sum(documents):
        raise DataError("the source is empty", where=where)
    empty = next((split for split in SPLITS if not counts[split].documents), None)
    if empty is not None:
        message = f"no document falls on the {empty} side of the split ({sum(documents)} documents in all)"
        raise DataError(message, where=where, field="held_out", found=spec.held_out)
    return Manifest(
        spec=spec,
        source_sha256=job.source,
        tokenizer_sha256=tokenizer,
        vocabulary=shape.vocabulary,
        own=codec.own,
        image=shape.image,
        channels=shape.channels,
        classes=shape.classes,
        train=counts["train"],
        heldout=counts["heldout"],
        near_duplicates=found.near_duplicates,
        label_conflicts=found.label_conflicts,
        location=job.location,
        shards=tuple(found.shards),
        content_hash=content_hash(counts["train"], counts["heldout"], shape, tokenizer, codec.own),
    )
