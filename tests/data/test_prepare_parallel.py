"""Preparing text in several processes: one result, whatever their number."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from buckets import s3
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.data.judging import HELD_OUT, KNOWN, NoteHashes, judge, normal_form, units_of
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.data.mapped import TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.sources import documents
from sparsity_lab.data.tokenizer import EOS, ByteCodec, train_bpe
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import Bpe, Bytes, TextDataset, Tokenizer
from sparsity_lab.specs.sources import JsonLines, ParquetText, TextFiles, TextSource
from tests.data.conftest import FILES, packed_spec, snapshot

__all__ = ["s3"]


def plainly(spec: TextDataset) -> dict[str, bytes]:
    """Tokens of both sides, made in the most obvious way."""
    sides: dict[str, list[bytes]] = {"train": [], "heldout": []}
    seen = set()
    for document in documents(spec.source):
        digest = hashlib.sha256(normal_form(document, spec.source)).digest()
        if digest not in seen:
            seen.add(digest)
            held_out = int.from_bytes(digest[:8], "big") < spec.held_out * 2**64
            sides["heldout" if held_out else "train"].append(document)
    codec = ByteCodec()
    if isinstance(spec.tokenizer, Bpe):
        codec = train_bpe(sides["train"], spec.tokenizer.vocabulary)  # type: ignore[assignment]
    ended = {side: [np.append(tokens, EOS) for tokens in codec.encode(texts)] for side, texts in sides.items()}
    return {side: np.concatenate(tokens).astype("<u4").tobytes() for side, tokens in ended.items()}


@pytest.mark.parametrize("tokenizer", [Bytes(kind="bytes"), Bpe(kind="bpe", vocabulary=300)])
def test_the_data_are_those_of_the_plain_way(packed: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    spec = packed_spec(packed, tokenizer)
    manifest = prepare(spec, tmp_path / "data")
    for side, expected in plainly(spec).items():
        counts = manifest.train if side == "train" else manifest.heldout
        assert counts.sha256 == hashlib.sha256(expected).hexdigest()
        split = open_split(tmp_path / "data", side, tmp_path / "cache")  # type: ignore[arg-type]
        assert isinstance(split, TextSplit)
        assert split.tokens.read(0, counts.items).astype("<u4").tobytes() == expected
    every = list(documents(spec.source))
    duplicates = len(every) - len({normal_form(document, spec.source) for document in every})
    assert manifest.train.duplicates + manifest.heldout.duplicates == duplicates > FILES


@pytest.mark.slow
@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("tokenizer", [Bytes(kind="bytes"), Bpe(kind="bpe", vocabulary=300, training_bytes=9000)])
def test_the_data_are_the_same_however_many_processes(packed: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    spec = packed_spec(packed, tokenizer)
    assert len(units_of(spec)) == FILES
    one = prepare(spec, tmp_path / "1")
    for workers in (2, 3):
        assert prepare(spec, tmp_path / str(workers), workers=workers) == one
        assert snapshot(tmp_path / str(workers)) == snapshot(tmp_path / "1")


def test_the_data_do_not_depend_on_how_files_are_grouped(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = packed_spec(packed, Bpe(kind="bpe", vocabulary=300))
    whole = prepare(spec, tmp_path / "whole")
    for size in (1, 3000):
        monkeypatch.setattr("sparsity_lab.data.judging.UNIT_BYTES", size)
        assert prepare(spec, tmp_path / str(size)).content_hash == whole.content_hash


def test_every_kind_of_source_gives_the_same_data(packed: Path, tmp_path: Path) -> None:
    texts = [document.decode() for document in documents(JsonLines(kind="jsonl", path=str(packed)))]
    (tmp_path / "rows").mkdir()
    for part in range(3):
        pq.write_table(pa.table({"text": texts[part * 200 : part * 200 + 200]}), tmp_path / f"rows/{part}.parquet")
    (tmp_path / "files").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / f"files/{number:05d}.txt").write_bytes(text.encode())
    sources: list[TextSource] = [
        JsonLines(kind="jsonl", path=str(packed)),
        ParquetText(kind="parquet-text", path=str(tmp_path / "rows")),
        TextFiles(kind="files", path=str(tmp_path / "files")),
    ]
    found = {prepare(packed_spec(packed, source=one), tmp_path / one.kind).content_hash for one in sources}
    assert len(found) == 1


@given(
    names=st.lists(st.lists(st.integers(0, 30), max_size=40), min_size=1, max_size=5),
    at_once=st.sampled_from([1, 7, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_verdicts_are_exact(tmp_path_factory: pytest.TempPathFactory, names: list[list[int]], at_once: int) -> None:
    folder = tmp_path_factory.mktemp("verdicts")
    for number, unit in enumerate(names):
        rows = "".join(json.dumps({"text": f"text {name}"}) + "\n" for name in unit)
        (folder / f"{number}.json").write_text(rows, encoding="utf-8")
    spec = packed_spec(folder)
    notes = NoteHashes(spec, folder, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsity_lab.data.judging.UNIT_BYTES", 0)
        patch.setattr("sparsity_lab.data.judging.SORTED_AT_ONCE", at_once)
        units = units_of(spec)
        for task in enumerate(units):
            notes(task, lambda _: None)
        begins = judge([notes.file(number) for number in range(len(units))], folder / "verdicts")
    assert np.diff(begins).tolist() == [len(unit) for unit in names]
    expected, seen = [], set()
    for name in [name for unit in names for name in unit]:
        digest = hashlib.sha256(f"text {name}".encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") < spec.held_out * 2**64
        expected.append(HELD_OUT * held_out | KNOWN * (name in seen))
        seen.add(name)
    expected = [verdict // HELD_OUT % 2 * HELD_OUT | verdict & KNOWN for verdict in expected]
    assert list((folder / "verdicts").read_bytes()) == expected


@pytest.mark.usefixtures("small_units")
def test_a_tokenizer_may_learn_from_a_share_of_every_file(packed: Path, tmp_path: Path) -> None:
    source = JsonLines(kind="jsonl", path=str(packed))
    size = sum(map(len, documents(source)))
    hashes = {
        budget: prepare(
            packed_spec(packed, Bpe(kind="bpe", vocabulary=400, training_bytes=budget)), tmp_path / str(budget)
        ).tokenizer_sha256
        for budget in (None, 10 * size, size // 6)
    }
    everything = prepare(packed_spec(packed, Bpe(kind="bpe", vocabulary=400)), tmp_path / "all")
    assert everything.tokenizer_sha256 == hashes[None] == hashes[10 * size] != hashes[size // 6]
    before = hashes[size // 6]
    last = packed / f"c4.{FILES - 1:03d}.json.gz"
    content = "".join(json.dumps({"text": "qzqzqz " * 30 + str(number)}) + "\n" for number in range(40)).encode()
    last.write_bytes(gzip.compress(content))
    spec = packed_spec(packed, Bpe(kind="bpe", vocabulary=400, training_bytes=size // 6))
    after = prepare(spec, tmp_path / "after").tokenizer_sha256
    assert after != before, "the last file has its share too"


@pytest.mark.usefixtures("small_units")
def test_an_error_in_a_process_is_the_users(packed: Path, tmp_path: Path) -> None:
    (packed / "c4.007.json.gz").write_bytes(gzip.compress(b'{"text": "good"}\n{"txt": 1}\n'))
    with pytest.raises(DataError, match=r"c4\.007\.json\.gz:2: text: no text \(found 'the fields txt'"):
        prepare(packed_spec(packed), tmp_path / "data", workers=2)
    assert not (tmp_path / "data/manifest.json").exists()


@pytest.mark.usefixtures("small_units")
def test_what_was_begun_of_another_dataset_is_not_gone_on_with(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stopped_after(6):
        prepare(packed_spec(packed), tmp_path / "data")
    (packed / "c4.001.json.gz").write_bytes(gzip.compress(b'{"text": "another"}\n'))
    prepare(packed_spec(packed), tmp_path / "data")
    prepare(packed_spec(packed), tmp_path / "fresh")
    documents_ = {read_manifest(tmp_path / name).train.documents for name in ("data", "fresh")}
    assert len(documents_) == 1
    assert read_manifest(tmp_path / "data").content_hash == read_manifest(tmp_path / "fresh").content_hash


def test_what_was_begun_in_other_groups_is_not_gone_on_with(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsity_lab.data.judging.UNIT_BYTES", 1)
    with pytest.raises(KeyboardInterrupt), stopped_after(3):
        prepare(packed_spec(packed), tmp_path / "data")
    monkeypatch.undo()
    prepare(packed_spec(packed), tmp_path / "data")
    prepare(packed_spec(packed), tmp_path / "fresh")
    assert snapshot(tmp_path / "data") == snapshot(tmp_path / "fresh")


@contextmanager
def stopped_after(receipts: int) -> Iterator[None]:
    """Ctrl-C when so many units are finished."""
    left = iter(range(receipts))

    def stop(path: Path, content: str) -> None:
        write_text(path, content)
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsity_lab.data.text.write_text", stop)
        yield


@pytest.fixture
def s3_without_key(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a folder, as a manifest may keep it; the key is where pyarrow looks for it."""
    key, _, place = s3.removeprefix("s3://").partition("@")
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), key.split(":"), strict=True):
        monkeypatch.setenv(name, value)
    return f"s3://{place}"


@pytest.mark.parametrize("kind", ["folder", "store", "s3"])
@pytest.mark.usefixtures("small_units")
def test_shards_go_where_they_are_asked_to(
    packed: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    fsspec.filesystem("memory").store.clear()
    place = str(tmp_path / "elsewhere") if kind == "folder" else "fsspec+memory://bucket/shards"
    if kind == "s3":
        place = request.getfixturevalue("s3_without_key")
    spec, data = packed_spec(packed), tmp_path / "data"
    here = prepare(spec, tmp_path / "here")
    with pytest.raises(KeyboardInterrupt), stopped_after(6):
        prepare(spec, data, location=place)
    manifest = prepare(spec, data, location=place)
    assert (manifest.location, manifest.content_hash) == (place, here.content_hash)
    assert [path.name for path in data.iterdir()] == ["manifest.json"]
    for side in ("train", "heldout"):
        there, beside = (
            open_split(one, side, tmp_path / "cache" / one.name)  # type: ignore[arg-type]
            for one in (data, tmp_path / "here")
        )
        assert isinstance(there, TextSplit)
        assert isinstance(beside, TextSplit)
        assert np.array_equal(there.tokens.read(0, len(there.tokens)), beside.tokens.read(0, len(beside.tokens)))
    assert prepare(spec, data) == manifest, "wherever they are"
    assert prepare(spec, data, location="").location == ""
