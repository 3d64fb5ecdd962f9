"""How many held-out examples have a near-duplicate in training: counted in bounded memory, the same on every machine.

Text: MinHash (Broder 1997) by the library rensa, of hashes that are made here of all stretches at once, found by bands.
Pictures: pooled to 8 x 8, compared exactly. Shapes: E examples, H held-out examples that are looked at, K permutations,
B bands, D levels of a pooled picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import DatasetSpec

LOOKED_AT: Final = 4096
"""held-out examples, chosen by hash where there are more: a share of them is known to .8 points"""
MOST_TO_DROP: Final = 1 << 18
"""held-out examples whose near-duplicates can be left out: every process holds 1.5 kB of each document"""
ALIKE: Final = 0.8
"""share of stretches of text that two documents have in common"""
PERMUTATIONS: Final = 128
SEED: Final = 1
"""of the permutations"""
ROWS: Final = 4
"""permutations of a band: documents that are alike agree in one of the 32 bands but for a chance of 1e-7"""
AT_ONCE: Final = 1 << 20
"""bytes of a document that are looked at together"""
BLANK: Final = re.compile(rb"[ \t\n\r\x0b\x0c]")
PAIRS: Final = 1 << 14
"""compared at once"""
FACTORS: Final = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)
"""odd numbers by which hashes are mixed"""
HELD_OUT_AT_ONCE: Final = 1 << 14
"""pictures compared with others"""
POOLED: Final = 8
"""sides of a pooled picture"""
LEVELS: Final = 4
"""of 255 that pooled pictures may differ by, root mean square, and"""
CONTRAST: Final = 5
"""that many times less than the contrast of the held-out one, its standard deviation"""

Hashes = NDArray[np.uint64]
"""(E, K) of documents"""


def signature(document: bytes) -> Hashes:
    """The smallest value that each of K permutations gives a document's stretches of 24 bytes, (K,).

    Two signatures agree in about the share of stretches that two documents have in common. Case, and how words are
    spaced, do not matter.
    """
    text = b" ".join(_plain(document)).ljust(24)
    parts = [_smallest(text[first : first + AT_ONCE + 23]) for first in range(0, len(text) - 23, AT_ONCE)]
    smallest: Hashes = np.min(parts, axis=0)
    return smallest


def _plain(document: bytes) -> Iterator[bytes]:
    """The words of a document with one blank between them, without case, a part that ends with a word at a time."""
    begin = 0
    while begin < len(document):
        border = BLANK.search(document, begin + AT_ONCE)
        end = border.start() if border else len(document)
        if words := document[begin:end].decode().casefold().encode().split():
            yield b" ".join(words)
        begin = end


def _smallest(text: bytes) -> Hashes:
    """As `signature`, of one piece of text."""
    windows: NDArray[Any] = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    hashes: Hashes = windows[:-16] * FACTORS[0] + windows[8:-8] * FACTORS[1] + windows[16:] * FACTORS[2]
    hashes ^= hashes >> np.uint64(32)
    hashes *= FACTORS[3]
    hashes ^= hashes >> np.uint64(29)
    found = RMinHash.digest_matrix_from_flat_token_hashes(hashes, [0, len(hashes)], PERMUTATIONS, SEED)
    return np.array(found.to_rows()[0], np.uint64)


def _bands(signatures: Hashes) -> Hashes:
    """A key for each band of each document, (E, B)."""
    rows = signatures.reshape(len(signatures), PERMUTATIONS // ROWS, ROWS)
    keys: Hashes = (rows * FACTORS).sum(axis=2, dtype=np.uint64)
    keys += np.arange(keys.shape[1], dtype=np.uint64) * FACTORS[1]
    return keys


@dataclass(frozen=True)
class LookedAt:
    """Held-out documents that training ones are compared with."""

    signatures: Hashes
    """(H, K)"""
    keys: Hashes
    """(H * B,), sorted"""
    owners: NDArray[np.int64]
    """(H * B,) of each key"""

    @classmethod
    def of(cls, signatures: Hashes) -> LookedAt:
        """Index signatures, (H, K)."""
        keys = _bands(signatures)
        order = np.argsort(keys, axis=None, kind="stable")
        return cls(signatures, keys.ravel()[order], order // keys.shape[1])

    def near(self, documents: Sequence[bytes]) -> tuple[set[int], set[int]]:
        """Which held-out documents are near-duplicates of one of these: numbers, 0..H-1; and of which of these."""
        found: set[int] = set()
        alike: set[int] = set()
        if not len(self.signatures) or not documents:
            return found, alike
        signatures = np.stack([signature(document) for document in documents])
        keys = _bands(signatures)
        begins = np.searchsorted(self.keys, keys)
        counts = (np.searchsorted(self.keys, keys, "right") - begins).ravel()
        rows = np.repeat(np.arange(keys.size) // keys.shape[1], counts)
        places = (
            np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begins.ravel(), counts)
        )
        pairs = np.unique(rows * len(self.signatures) + self.owners[places])
        for first in range(0, len(pairs), PAIRS):
            ours, theirs = np.divmod(pairs[first : first + PAIRS], len(self.signatures))
            agree = (signatures[ours] == self.signatures[theirs]).mean(axis=1)
            found.update(theirs[agree >= ALIKE].tolist())
            alike.update(ours[agree >= ALIKE].tolist())
        return found, alike


def write_signatures(path: Path, signatures: Mapping[int, Hashes], most: int) -> None:
    """Note held-out documents: the number each is known by, and its signature; of more than `most`, the smallest."""
    rows = [np.append(np.uint64(key), one) for key, one in sorted(signatures.items())[:most]]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.array(rows, np.uint64).reshape(-1, PERMUTATIONS + 1))


def check_can_drop(spec: DatasetSpec, held_out: int) -> None:
    """Refuse to leave out near-duplicates of more held-out examples than are held in memory.

    Raises:
        DataError: there are more.
    """
    if spec.near_duplicates == "drop" and held_out > MOST_TO_DROP:
        expected = f"a share of at most {MOST_TO_DROP:,} examples, or near_duplicates: count"
        message = "is too large to leave out what is near it"
        raise DataError(message, field="held_out", found=spec.held_out, expected=expected)


def choose_signatures(paths: Sequence[Path], target: Path, most: int = LOOKED_AT) -> int:
    """Of all documents noted, those with the smallest numbers, each once: `target` holds their signatures, (H, K).

    Returns:
        How many they are, `most` at most.
    """
    chosen = np.empty((0, PERMUTATIONS + 1), np.uint64)
    waiting, count = list[Hashes](), 0
    for number, path in enumerate(paths, 1):
        waiting.append(np.load(path))
        count += len(waiting[-1])
        if count > LOOKED_AT or number == len(paths):  # rather than for every file, of which there may be thousands
            rows = np.concatenate([chosen, *waiting])
            _, first = np.unique(rows[:, 0], return_index=True)
            chosen, waiting, count = rows[first[:most]], [], 0
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.save(file, chosen[:, 1:])
    return len(chosen)


def pooled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (E, side, side, channels) as means over the cells of a grid of 8 x 8: (E, cells, channels)."""
    side, channels = pixels.shape[1], pixels.shape[3]
    edges = np.arange(min(POOLED, side)) * side // min(POOLED, side)
    sums = np.add.reduceat(np.add.reduceat(pixels, edges, 1, np.uint32), edges, 2)
    sizes = np.diff(np.append(edges, side)).astype(np.uint32)
    cells = (sizes[:, None] * sizes)[..., None]
    means: NDArray[np.uint8] = ((sums + cells // 2) // cells).astype(np.uint8)
    return means.reshape(len(pixels), -1, channels)


@dataclass(frozen=True)
class LookedAtPictures:
    """Held-out pictures that training ones are compared with, exactly: all sums are whole and under 2**24."""

    values: NDArray[np.float32]
    """(H, cells * channels), centred"""
    least: NDArray[np.float32]
    """(H,) twice the product with a near-duplicate, less that one's square, is at least this"""

    @classmethod
    def of(cls, held_out: NDArray[np.uint8]) -> LookedAtPictures:
        """Of pooled pictures, (H, cells, channels)."""
        values = _centred(held_out)
        limits = np.minimum(LEVELS**2, held_out.var(axis=1).mean(axis=1) / CONTRAST**2) * values.shape[1]
        return cls(values, (values**2).sum(axis=1) - np.floor(limits).astype(np.float32))

    def __len__(self) -> int:
        """H."""
        return len(self.values)

    def alike(self, ours: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of some pooled pictures, (E, cells, channels), are near-duplicates of which of these: (E, H)."""
        mine = _centred(ours)
        squares = (mine**2).sum(axis=1)[:, None]
        found = np.empty((len(ours), len(self)), np.bool_)
        for first in range(0, len(self), HELD_OUT_AT_ONCE):
            part = slice(first, first + HELD_OUT_AT_ONCE)
            products = 2 * mine @ self.values[part].T
            products -= squares
            np.greater_equal(products, self.least[part], out=found[:, part])
        return found


def _centred(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), math.prod(pictures.shape[1:])).astype(np.float32) - 128


def near_pictures(train: Iterable[NDArray[np.uint8]], held_out: NDArray[np.uint8]) -> int:
    """How many held-out pictures have a near-duplicate among others.

    Args:
        train: pooled pictures, blocks of (E, cells, channels).
        held_out: pooled pictures, (H, cells, channels).
    """
    looked_at, found = LookedAtPictures.of(held_out), np.zeros(len(held_out), np.bool_)
    for block in train:
        found |= looked_at.alike(block).any(axis=0)
    return int(found.sum())
