from __future__ import annotations

import errno
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsity_lab.data.mapped import ImageSplit, TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.sources import image_blocks
from sparsity_lab.data.tokenizer import EOS, ByteCodec
from sparsity_lab.errors import DataError, MachineError, NotReadyError
from sparsity_lab.specs.datasets import TextDataset
from tests.data.conftest import glyph_spec, text_of

SpecMaker = Callable[..., TextDataset]


@pytest.fixture
def data(text_spec: SpecMaker, tmp_path: Path) -> Path:
    prepare(text_spec(), tmp_path / "data")
    return tmp_path / "data"


def test_text_comes_back_document_by_document(data: Path, tmp_path: Path) -> None:
    found = []
    for split in ("train", "heldout"):
        opened = open_split(data, split, tmp_path / "cache")
        assert isinstance(opened, TextSplit)
        assert isinstance(opened.tokens, np.memmap)
        ends = np.flatnonzero(opened.tokens == EOS)
        assert ends[-1] == len(opened.tokens) - 1
        pieces = np.split(opened.tokens, ends + 1)[:-1]
        found += [ByteCodec().decode(piece[:-1]) for piece in pieces]
    assert sorted(found) == sorted(text_of(number).encode() for number in range(60))


def test_images_come_back_with_their_labels(tmp_path: Path) -> None:
    spec = glyph_spec()
    prepare(spec, tmp_path / "data")
    drawn = {
        image.tobytes(): int(label)
        for block in image_blocks(spec.source)
        for image, label in zip(block.pixels, block.labels, strict=True)
    }
    for split in ("train", "heldout"):
        opened = open_split(tmp_path / "data", split, tmp_path / "cache")
        assert isinstance(opened, ImageSplit)
        assert opened.pixels.shape == (len(opened.labels), 16, 16, 1)
        for image, label in zip(opened.pixels, opened.labels, strict=True):
            assert drawn.pop(image.tobytes()) == label
    assert not drawn


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncate", r"train-00000\.parquet: the shard's size is wrong \(found \d+, expected \d+ bytes\)"),
        ("flip", r"train-00000\.parquet: the shard's SHA-256 is wrong \(found '[0-9a-f]{64}', expected [0-9a-f]{64}\)"),
        ("remove", r"train-00000\.parquet: the shard is missing"),
    ],
)
def test_a_damaged_shard_is_named(data: Path, tmp_path: Path, damage: str, message: str) -> None:
    shard = data / "train-00000.parquet"
    content = bytearray(shard.read_bytes())
    match damage:
        case "truncate":
            shard.write_bytes(content[: len(content) // 2])
        case "flip":
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case _:
            shard.unlink()
    with pytest.raises(DataError, match=message):
        open_split(data, "heldout", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def test_nothing_prepared_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"manifest\.json does not exist yet"):
        open_split(tmp_path, "train", tmp_path / "cache")


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage", "empty"])
def test_a_damaged_cache_is_rebuilt(data: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    before = open_split(data, "train", cache)
    assert isinstance(before, TextSplit)
    expected = np.array(before.tokens)
    (path,) = cache.glob("*/train-tokens.npy")
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "truncate":
            path.write_bytes(content[:-10])
        case "garbage":
            path.write_bytes(b"x" * len(content))
        case "empty":
            path.write_bytes(b"")
    after = open_split(data, "train", cache)
    assert isinstance(after, TextSplit)
    assert np.array_equal(after.tokens, expected)
    assert np.array_equal(before.tokens, expected), "who mapped the old file goes on reading it"


def test_the_cache_is_reused(data: Path, tmp_path: Path) -> None:
    open_split(data, "train", tmp_path / "cache")
    (data / "train-00000.parquet").unlink()
    open_split(data, "heldout", tmp_path / "cache")


def test_a_full_disk_is_told_and_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("numpy.lib.format.write_array_header_1_0", full)
        with pytest.raises(MachineError, match="no space left"):
            open_split(data, "train", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
    open_split(data, "train", tmp_path / "cache")


def _open_and_sum(folder: Path, cache: Path) -> int:
    split = open_split(folder, "train", cache)
    assert isinstance(split, TextSplit)
    return int(split.tokens.sum(dtype=np.int64))


def test_processes_that_open_at_once_agree(data: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.starmap(_open_and_sum, [(data, tmp_path / "cache")] * 8)
    assert len(set(sums)) == 1
    assert not list((tmp_path / "cache").glob("*.tmp"))
