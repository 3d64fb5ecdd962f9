from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.data.mapped import ImageSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.shards import TextWriter, read_batches
from sparsity_lab.data.sources import image_blocks
from sparsity_lab.data.tokenizer import EOS, ByteCodec
from sparsity_lab.errors import DataError, NotReadyError
from sparsity_lab.specs.datasets import TextDataset
from tests.data.conftest import glyph_spec, made_manifest, text_of, text_split, tokens_of

SpecMaker = Callable[..., TextDataset]


def test_text_comes_back_document_by_document(data: Path, tmp_path: Path) -> None:
    found = []
    for split in ("train", "heldout"):
        tokens = tokens_of(data, tmp_path / "cache", split)
        ends = np.flatnonzero(tokens == EOS)
        assert ends[-1] == len(tokens) - 1
        found += [ByteCodec().decode(piece[:-1]) for piece in np.split(tokens, ends + 1)[:-1]]
    assert sorted(found) == sorted(text_of(number).encode() for number in range(60))


def test_images_come_back_with_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.data.shards.BATCH_BYTES", 7 * 16 * 16)
    spec = glyph_spec()
    prepare(spec, tmp_path / "data")
    drawn = {
        image.tobytes(): int(label)
        for block in image_blocks(spec.source)
        for image, label in zip(block.pixels, block.labels, strict=True)
    }
    for split in ("train", "heldout"):
        opened = open_split(tmp_path / "data", split, tmp_path / "cache")  # type: ignore[arg-type]
        assert isinstance(opened, ImageSplit)
        assert opened.pixels.shape == (len(opened.labels), 16, 16, 1)
        rows = np.random.default_rng(0).permutation(len(opened.labels))
        for image, label in zip(opened.pixels.take(rows), opened.labels.take(rows), strict=True):
            assert drawn.pop(image.tobytes()) == label
    assert not drawn


def test_shards_are_mapped_not_copied_and_their_files_closed(data: Path, tmp_path: Path) -> None:
    split = text_split(data, tmp_path / "cache")
    allocated, tokens = pa.total_allocated_bytes(), split.tokens.read(0, 3000)
    assert pa.total_allocated_bytes() == allocated
    (first,) = read_batches(data / "train-00000-00000.arrow", "tokens")
    assert not first.flags.writeable
    assert not first.flags.owndata
    assert np.array_equal(first, tokens[:2000])
    assert not list((tmp_path / "cache").rglob("*.arrow")), "no second copy"
    if sys.platform.startswith("linux"):
        assert not [path for path in Path("/proc/self/fd").iterdir() if path.resolve().suffix == ".arrow"]


@given(
    limit=st.sampled_from([37, 400, 10_000]),
    batch_bytes=st.sampled_from([16, 300, 1 << 23]),
    length=st.integers(1, 300),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_windows_do_not_see_how_the_text_is_cut(
    tmp_path_factory: pytest.TempPathFactory, limit: int, batch_bytes: int, length: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    random = np.random.default_rng(seed)
    flat = random.integers(0, 250, 3000).astype(np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsity_lab.data.shards.BATCH_BYTES", batch_bytes)
        with TextWriter(folder / "train", "train", limit, 258) as writer:
            for part in np.split(flat, [700, 701, 1900]):
                writer.add(part, np.array([len(part) - 1, 1]))
            shards = writer.close()
        assert [shard.items for shard in shards[:-1]] == [limit] * (len(shards) - 1)
        (folder / "manifest.json").write_text(made_manifest(shards, len(flat)), encoding="utf-8")
        column = text_split(folder, folder / "cache").tokens
    for count in (1, 64):
        begins = random.integers(0, len(flat) - length + 1, count)
        assert np.array_equal(column.windows(begins, length), flat[begins[:, None] + np.arange(length)])
        assert np.array_equal(column.take(begins), flat[begins])
    assert np.array_equal(column.read(5, 2900), flat[5:2900])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncate", r"train-00000-00001\.arrow: the shard's size is wrong \(found \d+, expected \d+ bytes\)"),
        (
            "flip",
            r"train-00000-00001\.arrow: the shard's SHA-256 is wrong \(found '[0-9a-f]{64}', expected [0-9a-f]{64}\)",
        ),
        ("remove", r"train-00000-00001\.arrow: the shard is missing"),
    ],
)
def test_a_damaged_shard_is_named(data: Path, tmp_path: Path, damage: str, message: str) -> None:
    shard = data / "train-00000-00001.arrow"
    content = bytearray(shard.read_bytes())
    match damage:
        case "truncate":
            shard.write_bytes(content[: len(content) // 2])
        case "flip":
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case _:
            shard.unlink()
    if damage == "flip":
        split = text_split(data, tmp_path / "cache")
        assert len(split.tokens.read(0, 2000)) == 2000, "the others can be read"
        with pytest.raises(DataError, match=message):
            split.tokens.read(0, 2001)
    else:
        with pytest.raises(DataError, match=message):
            open_split(data, "heldout", tmp_path / "cache")


def test_each_shard_is_verified_when_it_is_first_touched(data: Path, tmp_path: Path, hashed: list[str]) -> None:
    split = text_split(data, tmp_path / "cache")
    assert not hashed
    split.tokens.windows(np.array([4100, 4500]), 32)
    split.tokens.windows(np.array([4200, 5000]), 32)
    assert hashed == ["train-00000-00002.arrow"]
    split.tokens.windows(np.array([100, 3990]), 32)
    assert sorted(hashed) == [f"train-00000-0000{number}.arrow" for number in range(3)]


def test_a_machine_verifies_a_shard_once_until_it_changes(data: Path, tmp_path: Path, hashed: list[str]) -> None:
    tokens_of(data, tmp_path / "cache")
    count = len(hashed)
    assert count == sum(shard.split == "train" for shard in read_manifest(data).shards)
    tokens_of(data, tmp_path / "cache")
    assert len(hashed) == count
    shard = data / "train-00000-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="SHA-256 is wrong"):
        tokens_of(data, tmp_path / "cache")


def test_ten_thousand_shards_are_opened_without_reading_any(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    one = read_manifest(data).shards[0]
    shards = [one.model_copy(update={"name": f"train-{number:05d}-00000.arrow"}) for number in range(10_000)]
    folder = tmp_path / "many"
    folder.mkdir()
    for shard in shards:
        (folder / shard.name).hardlink_to(data / one.name)
    (folder / "manifest.json").write_text(made_manifest(shards, 10_000 * one.items), encoding="utf-8")
    opened: list[str] = []

    def count(path: Path, column: str) -> list[Any]:
        opened.append(path.name)
        return read_batches(path, column)

    monkeypatch.setattr("sparsity_lab.data.mapped.read_batches", count)
    split = text_split(folder, tmp_path / "cache")
    assert len(split.tokens) == 10_000 * one.items
    assert (opened, hashed) == ([], [])
    split.tokens.windows(np.array([0, 5000 * one.items + 7, 9_999 * one.items]), 32)
    assert sorted(opened) == sorted(hashed) == [shards[number].name for number in (0, 5000, 9999)]


def test_nothing_prepared_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"manifest\.json does not exist yet"):
        open_split(tmp_path, "train", tmp_path / "cache")
