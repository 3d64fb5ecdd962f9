"""Which documents are held out and which equal one before, exactly, however many there are.

Documents are known by their normal form. Its hashes are noted file by file, sorted; then one range of hashes after the
other is looked at as a whole.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.data.formats.huggingface import is_streamed
from sparsity_lab.data.likeness import Hashes, signature, write_signatures
from sparsity_lab.data.sources import document_files, file_documents
from sparsity_lab.data.workers import Heard
from sparsity_lab.specs.datasets import TextDataset
from sparsity_lab.specs.sources import PythonStdlib, TextSource, TokenFiles

UNIT_BYTES: Final = 1 << 24
"""files smaller than that are read together"""
PACKED: Final = 4
"""times as much text as bytes in compressed files, about"""
PACKED_FILES: Final = frozenset({".gz", ".tgz", ".zst", ".zstd", ".bz2", ".br", ".parquet"})
BLOCK_DOCUMENTS: Final = 256
BLOCK_BYTES: Final = 1 << 20
"""of text tokenized at once (a longer document is alone)"""
SORTED_AT_ONCE: Final = 1 << 21
"""hashes"""
HELD_OUT, KNOWN = 1, 2
"""bits of a document's verdict: its side, and whether an equal document came before"""

AROUND: Final = "".join(one for one in map(chr, range(0x10000)) if one.isspace()) + "\ufeff"
"""blanks and the byte order mark, of which files that were joined or marked twice have several"""
BLANK_AT_END: Final = re.compile(r"\n(?<=[^\S\n]\n)")
"""a line's end after a blank, found ten times as fast as blanks are taken out"""
LINE_BLANKS: Final = re.compile(r"(?<![^\S\n])[^\S\n]++(?=\n)")
"""at the end of a line; sought at the beginning of each run alone, so that long ones take no longer"""

Verdicts: TypeAlias = NDArray[np.uint8]
Unit: TypeAlias = tuple[Path, ...]


def units_of(spec: TextDataset) -> list[Unit]:
    """The files of a source in the order of their documents, in groups that processes take whole."""
    units: list[Unit] = []
    group: list[Path] = []
    size = 0
    for path in document_files(spec.source):
        group.append(path)
        size += _size(path, spec.source)
        if size >= UNIT_BYTES:
            units.append(tuple(group))
            group, size = [], 0
    return [*units, tuple(group)] if group else units


def _size(path: Path, source: TextSource) -> int:
    """Bytes of text in a file, about; a part of a stream is a unit."""
    if is_streamed(source):
        return UNIT_BYTES
    return path.stat().st_size * (PACKED if path.suffix in PACKED_FILES else 1)


def unit_documents(spec: TextDataset, unit: Unit) -> Iterator[bytes]:
    """The documents of a unit, in order."""
    return (document for path in unit for document in file_documents(spec.source, path, spec.tokenizer))


def normal_form(document: bytes, source: TextSource) -> bytes:
    r"""What a document is known by: no byte order marks and blanks around it, lines ended by \n alone, Unicode's NFC.

    Blanks before the end of a line are not seen either; those between words, and before them, are.

    The library of a Python is known by its bytes, for it is one release, and so are token ids.
    """
    if isinstance(source, PythonStdlib | TokenFiles):
        return document
    text = document.decode().strip(AROUND).replace("\r\n", "\n").replace("\r", "\n")
    text = LINE_BLANKS.sub("", text) if BLANK_AT_END.search(text) else text
    return unicodedata.normalize("NFC", text).encode()


def as_text(document: bytes, source: TextSource) -> bytes:
    """A document as near-duplicates are sought: token ids are words, their digits."""
    if isinstance(source, TokenFiles):
        return " ".join(map(str, np.frombuffer(document, "<u4").tolist())).encode()
    return document


def blocks(documents: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Documents in groups that are small enough to be held several times over."""
    block: list[bytes] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if len(block) == BLOCK_DOCUMENTS or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


@dataclass(frozen=True)
class NoteHashes:
    """Notes the hashes of a unit's documents, sorted: (2, documents), 8 bytes that name it, and 2 * row + side.

    Beside them, the signatures of the held-out documents with the smallest hashes.
    """

    spec: TextDataset
    folder: Path
    signatures: int
    """how many are noted"""

    def file(self, number: int) -> Path:
        """Where a unit's hashes are."""
        return self.folder / f"hashes-{number:05d}.npy"

    def signature_file(self, number: int) -> Path:
        """Where its signatures are."""
        return self.folder / f"signatures-{number:05d}.npy"

    def __call__(self, task: tuple[int, Unit], heard: Heard) -> None:
        """Read a unit."""
        number, unit = task
        limit = ceil(self.spec.held_out * 2.0**64)
        digests, signatures = bytearray(), dict[int, Hashes]()
        for block in blocks(unit_documents(self.spec, unit)):
            for document in block:
                digest = hashlib.sha256(normal_form(document, self.spec.source)).digest()[:16]
                digests += digest
                key = int.from_bytes(digest[8:], "big")
                if int.from_bytes(digest[:8], "big") < limit and key not in signatures:
                    signatures[key] = signature(as_text(document, self.spec.source))
            if len(signatures) > 2 * self.signatures:
                signatures = dict(sorted(signatures.items())[: self.signatures])
            heard(len(block))
        sides, keys = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2).T
        held_out = sides < np.uint64(limit)
        order = np.argsort(keys, kind="stable")
        rows = 2 * order.astype(np.uint64) + held_out[order].astype(np.uint64)
        write_signatures(self.signature_file(number), signatures, self.signatures)
        with replacing(self.file(number)) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([keys[order], rows]))


def judge(files: list[Path], target: Path) -> NDArray[np.int64]:
    """Which documents are held out, and which equal one before: written to `target`, a byte a document.

    Exact over all documents, in memory for a few million of them: ranges of hashes are sorted one after the other.

    Args:
        files: of `NoteHashes`, in the order of the units.
        target: the verdicts of all units' documents, one after the other.

    Returns:
        (units + 1,) where each unit's verdicts begin, and their number.
    """
    maps = [np.load(file, mmap_mode="r") for file in files]
    begins = np.cumsum([0, *(len(one[0]) for one in maps)], dtype=np.int64)
    ranges = max(1, -(-int(begins[-1]) // SORTED_AT_ONCE))
    edges = np.array([2**64 * part // ranges for part in range(1, ranges)], np.uint64)
    cuts = [[0, *np.searchsorted(one[0], edges).tolist(), len(one[0])] for one in maps]
    with replacing(target) as temporary:
        with temporary.open("wb") as file:  # written before it is mapped: a full disk is then an error, no signal
            for one in maps:
                file.write(bytes(len(one[0])))
        verdicts = np.memmap(temporary, np.uint8, "r+") if begins[-1] else np.empty(0, np.uint8)
        for part in range(ranges):
            pieces = [one[:, cut[part] : cut[part + 1]] for one, cut in zip(maps, cuts, strict=True)]
            _judge_range(pieces, begins, verdicts)
    return begins


def _judge_range(pieces: list[NDArray[np.uint64]], begins: NDArray[np.int64], verdicts: Verdicts) -> None:
    """All documents whose hashes lie in one range: of equal ones, all but the first are known."""
    keys, rows = np.concatenate([np.empty((2, 0), np.uint64), *pieces], axis=1)
    documents = (rows >> np.uint64(1)).astype(np.int64) + np.repeat(begins[:-1], [one.shape[1] for one in pieces])
    verdicts[documents] = rows & np.uint64(1)
    order = np.argsort(keys, kind="stable")
    verdicts[documents[order[1:][keys[order[1:]] == keys[order[:-1]]]]] |= KNOWN
