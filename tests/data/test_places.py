from __future__ import annotations

import errno
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.data.mapped import ImageSplit, TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.errors import DataError, MachineError
from sparsity_lab.specs.datasets import DatasetSpec, TextDataset
from tests.data.conftest import as_once_written, glyph_spec, text_split, tokens_of

SpecMaker = Callable[..., TextDataset]


@pytest.mark.parametrize("kind", ["text", "images"])
def test_compressed_shards_of_earlier_versions_are_unpacked_when_touched(
    text_spec: SpecMaker, tmp_path: Path, kind: str
) -> None:
    spec: DatasetSpec = text_spec(shard_tokens=2000) if kind == "text" else glyph_spec()
    before = prepare(spec, tmp_path / "new")
    prepare(spec, tmp_path / "old")
    as_once_written(tmp_path / "old")
    assert prepare(spec, tmp_path / "old").content_hash == before.content_hash
    assert list((tmp_path / "old").glob("*.parquet")), "what is intact is not prepared anew"
    new, old = (open_split(tmp_path / name, "train", tmp_path / "cache" / name) for name in ("new", "old"))
    if isinstance(new, TextSplit):
        assert isinstance(old, TextSplit)
        assert np.array_equal(old.tokens.read(0, 100), new.tokens.read(0, 100))
        assert len(list((tmp_path / "cache/old").rglob("*.arrow"))) == 1
        assert np.array_equal(old.tokens.read(0, len(old.tokens)), new.tokens.read(0, len(new.tokens)))
    else:
        assert isinstance(old, ImageSplit)
        rows = np.arange(len(new.labels))[::-1]
        assert np.array_equal(old.pixels.take(rows), new.pixels.take(rows))
        assert np.array_equal(old.labels.take(rows), new.labels.take(rows))


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage", "note"])
def test_a_damaged_cache_is_made_again(data: Path, tmp_path: Path, damage: str) -> None:
    as_once_written(data)
    expected = tokens_of(data, tmp_path / "cache")
    path = next((tmp_path / "cache").rglob("*.arrow"))
    content = path.read_bytes()
    match damage:
        case "truncate":
            path.write_bytes(content[:-10])
        case "garbage":
            path.write_bytes(b"x" * len(content))
        case "remove":
            path.unlink()
        case _:
            path.with_name(f"{path.stem}.parquet.verified").write_bytes(b"\0")
    assert np.array_equal(tokens_of(data, tmp_path / "cache"), expected)


@pytest.fixture
def store() -> str:
    fsspec.filesystem("memory").store.clear()
    return "fsspec+memory://bucket/texts"


def test_shards_of_a_store_are_fetched_when_touched_and_kept(data: Path, tmp_path: Path, store: str) -> None:
    expected = tokens_of(data, tmp_path / "cache")
    manifest = read_manifest(data)
    memory = fsspec.filesystem("memory")
    for shard in manifest.shards:
        memory.pipe(f"/bucket/texts/{shard.name}", (data / shard.name).read_bytes())
    away = tmp_path / "away"
    away.mkdir()
    content = manifest.model_copy(update={"location": store}).model_dump_json()
    (away / "manifest.json").write_text(content, encoding="utf-8")
    node = tmp_path / "node"
    column = text_split(away, node).tokens
    assert np.array_equal(column.read(2100, 2200), expected[2100:2200])
    assert [path.name for path in node.rglob("*.arrow")] == ["train-00000-00001.arrow"]
    assert np.array_equal(tokens_of(away, node), expected)
    memory.rm("/bucket/texts/train-00000-00000.arrow")
    memory.pipe("/bucket/texts/train-00000-00001.arrow", b"altered")
    assert np.array_equal(tokens_of(away, node), expected), "a node fetches once"
    with pytest.raises(DataError, match=r"train-00000-00000\.arrow: the shard is missing"):
        text_split(away, tmp_path / "other").tokens.read(0, 5)
    with pytest.raises(DataError, match=r"train-00000-00001\.arrow: the shard's SHA-256 is wrong"):
        text_split(away, tmp_path / "other").tokens.read(2000, 2005)


def test_a_full_disk_is_told_and_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    as_once_written(data)
    with monkeypatch.context() as patched:
        patched.setattr("pyarrow.ipc.new_file", full)
        with pytest.raises(MachineError, match="no space left"):
            tokens_of(data, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".verified"]
    tokens_of(data, tmp_path / "cache")


def _open_and_sum(folder: Path, cache: Path) -> int:
    return int(tokens_of(folder, cache).sum(dtype=np.int64))


@pytest.mark.parametrize("once", [False, True])
def test_processes_that_open_at_once_agree(data: Path, tmp_path: Path, once: bool) -> None:
    if once:
        as_once_written(data)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.starmap(_open_and_sum, [(data, tmp_path / "cache")] * 8)
    assert len(set(sums)) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


@pytest.mark.parametrize("place", ["file://[x", "file://elsewhere/x", "foo://x", "/proc/nowhere"])
def test_a_place_that_is_none_costs_nothing_that_was_prepared(text_spec: SpecMaker, tmp_path: Path, place: str) -> None:
    spec = text_spec()
    before = prepare(spec, tmp_path / "data")
    with pytest.raises((DataError, MachineError), match=re.escape(place)):
        prepare(spec, tmp_path / "data", location=place)
    assert read_manifest(tmp_path / "data") == before
