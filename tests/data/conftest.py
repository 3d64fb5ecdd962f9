from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.data.manifest import Manifest, SplitCounts, content_hash, read_manifest
from sparsity_lab.data.mapped import TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.errors import DataError, InputError
from sparsity_lab.specs.datasets import (
    Bytes,
    Classification,
    DataShape,
    ImageDataset,
    NextToken,
    SpanCorruption,
    TextDataset,
    Tokenizer,
)
from sparsity_lab.specs.sources import Glyphs, JsonLines, TextFiles, TextSource

BYTES = Bytes(kind="bytes")
SPANS = SpanCorruption(kind="span-corruption", input_length=32)
NEXT = NextToken(kind="next-token", length=32)
CLASSES = Classification(kind="classification")


def text_of(number: int) -> str:
    """A document of a few hundred characters that no other number gives."""
    return f"document {number}: " + " ".join(f"{number * k} and naïve ☃ {k}" for k in range(1, 12))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:03d}.txt").write_text(text_of(number), encoding="utf-8")
    return folder


@pytest.fixture
def text_spec(corpus: Path) -> Callable[..., TextDataset]:
    def make(tokenizer: Tokenizer = BYTES, held_out: float = 0.3, shard_tokens: int = 5000) -> TextDataset:
        source = TextFiles(kind="files", path=str(corpus))
        return TextDataset(
            version=1, content="text", source=source, tokenizer=tokenizer, held_out=held_out, shard_tokens=shard_tokens
        )

    return make


def glyph_spec(**changes: object) -> ImageDataset:
    source = Glyphs.model_validate({"kind": "glyphs", "classes": 12, "examples": 300, "image": 16} | changes)
    return ImageDataset(version=1, content="images", source=source, held_out=0.2, shard_examples=100)


@pytest.fixture
def data(text_spec: Callable[..., TextDataset], tmp_path: Path) -> Path:
    prepare(text_spec(shard_tokens=2000), tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read to verify them, as that happens."""
    names: list[str] = []

    def count(path: Path, error: type[InputError]) -> str:
        names.append(path.name)
        return file_sha256(path, error)

    monkeypatch.setattr("sparsity_lab.data.places.file_sha256", count)
    return names


def text_split(folder: Path, cache: Path, split: str = "train") -> TextSplit:
    opened = open_split(folder, split, cache)  # type: ignore[arg-type]
    assert isinstance(opened, TextSplit)
    return opened


def tokens_of(folder: Path, cache: Path, split: str = "train") -> np.ndarray[Any, Any]:
    column = text_split(folder, cache, split).tokens
    return column.read(0, len(column))


def made_manifest(shards: list[Any], items: int) -> str:
    counts = SplitCounts(documents=1, duplicates=0, bytes=items, items=items, sha256="0" * 64)
    source = {"kind": "files", "path": "x"}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source})
    return Manifest(
        spec=spec,
        source_sha256="0" * 64,
        vocabulary=258,
        train=counts,
        heldout=counts,
        shards=tuple(shards),
        content_hash=content_hash(counts, counts, DataShape(vocabulary=258), ""),
    ).model_dump_json()


def as_once_written(folder: Path) -> None:
    """Rewrite prepared data as earlier versions did: compressed Parquet."""
    manifest = read_manifest(folder)
    shards = []
    for shard in manifest.shards:
        path = (folder / shard.name).with_suffix(".parquet")
        with pa.ipc.open_file(folder / shard.name) as file:
            pq.write_table(file.read_all(), path, compression="zstd", compression_level=1, use_dictionary=False)
        (folder / shard.name).unlink()
        changed = {"name": path.name, "sha256": file_sha256(path, DataError), "size": path.stat().st_size}
        shards.append(shard.model_copy(update=changed).model_dump())
    document = manifest.model_dump(mode="json", exclude={"location"}) | {"shards": shards}
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


WORDS = ["the", "of", "law", "sparse", "weight", "naïve", "☃", "zero", "model", "data\n", "it's", "", "and"]
FILES = 12


def lines(number: int, count: int = 40) -> list[str]:
    """Documents of a file, a few of which stand in the file before as well."""
    random_ = random.Random(number)  # noqa: S311 - made text
    made = [" ".join(random_.choices(WORDS, k=random_.randrange(1, 60))) for _ in range(count)]
    return [*made, *(lines(number - 1, count)[:3] if number else []), made[0]]


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """C4's layout: gzipped JSON lines, and one file that is not packed."""
    root = tmp_path / "source"
    root.mkdir()
    for number in range(FILES):
        content = "".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in lines(number)).encode()
        if number == 5:
            (root / f"c4.{number:03d}.json").write_bytes(content)
        else:
            half = content.index(b"\n", len(content) // 2) + 1
            packed = gzip.compress(content[:half]) + gzip.compress(content[half:])  # two members
            (root / f"c4.{number:03d}.json.gz").write_bytes(packed)
    return root


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit a file."""
    monkeypatch.setattr("sparsity_lab.data.judging.UNIT_BYTES", 1)


def packed_spec(folder: Path, tokenizer: Tokenizer | None = None, source: TextSource | None = None) -> TextDataset:
    return TextDataset(
        version=1,
        content="text",
        source=source or JsonLines(kind="jsonl", path=str(folder)),
        tokenizer=tokenizer or Bytes(kind="bytes"),
        held_out=0.25,
        shard_tokens=5000,
    )


def snapshot(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
