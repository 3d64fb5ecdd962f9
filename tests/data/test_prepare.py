from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.judging import normal_form
from sparsity_lab.data.manifest import Manifest, expected_shape, model_shape, read_manifest
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.tokenizer import EOS, ByteCodec, load_tokenizer
from sparsity_lab.errors import DataError, NotReadyError
from sparsity_lab.specs.datasets import Bpe, ImageDataset, TextDataset, TokenizerFile
from sparsity_lab.specs.sources import JsonLines, ParquetImages
from tests.data.conftest import CLASSES, NEXT, SPANS, glyph_spec, snapshot, text_of

SpecMaker = Callable[..., TextDataset]


def stored(folder: Path, manifest: Manifest, split: str) -> list[bytes]:
    """A split's documents, read from its shards with pyarrow alone."""
    rows = [
        row
        for shard in manifest.shards
        if shard.split == split
        for row in pa.ipc.open_file(folder / shard.name).read_all().column("tokens").to_pylist()
    ]
    flat = np.array([token for row in rows for token in row])
    pieces = np.split(flat, np.flatnonzero(flat == EOS) + 1)
    assert not len(pieces[-1]), "every document is ended"
    return [ByteCodec().decode(piece[:-1]) for piece in pieces[:-1]]


def test_every_document_lands_on_one_side_once(text_spec: SpecMaker, corpus: Path, tmp_path: Path) -> None:
    for number in range(0, 60, 7):
        (corpus / f"copy-{number}.txt").write_text(text_of(number), encoding="utf-8")
    manifest = prepare(text_spec(), tmp_path / "data")
    train, heldout = (stored(tmp_path / "data", manifest, split) for split in ("train", "heldout"))
    assert sorted(train + heldout) == sorted(text_of(number).encode() for number in range(60))
    assert not set(train) & set(heldout)
    assert manifest.train.duplicates + manifest.heldout.duplicates == 9
    assert manifest.train.documents == len(train)
    assert manifest.train.bytes == sum(map(len, train))
    assert manifest.train.items == manifest.train.bytes + len(train)


@given(texts=st.lists(st.text("ab☃", min_size=1, max_size=3), min_size=30, max_size=120), seed=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_no_heldout_text_is_trained_on(tmp_path_factory: pytest.TempPathFactory, texts: list[str], seed: int) -> None:
    folder = tmp_path_factory.mktemp("leak")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    source = JsonLines(kind="jsonl", path=str(folder / "rows.jsonl"))
    spec = TextDataset(version=1, content="text", source=source, held_out=0.3 + 0.1 * seed)
    if {_heldout(text, spec.held_out) for text in texts} != {True, False}:
        with pytest.raises(DataError, match="no document falls on the"):
            prepare(spec, folder / "data")
        return
    manifest = prepare(spec, folder / "data")
    train, heldout = (stored(folder / "data", manifest, split) for split in ("train", "heldout"))
    assert not set(train) & set(heldout)
    first = {normal_form(text.encode(), source): text.encode() for text in reversed(texts)}
    assert sorted(train + heldout) == sorted(first.values())
    assert all(_heldout(text.decode(), spec.held_out) for text in heldout)


def _heldout(text: str, share: float) -> bool:
    digest = hashlib.sha256(normal_form(text.encode(), JsonLines(kind="jsonl", path="x"))).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def test_preparing_again_does_nothing(text_spec: SpecMaker, tmp_path: Path) -> None:
    first = prepare(text_spec(), tmp_path / "data")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    assert prepare(text_spec(), tmp_path / "data") == first == read_manifest(tmp_path / "data")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == times


@pytest.mark.parametrize("kind", ["bytes", "bpe", "glyphs"])
def test_two_folders_hold_the_same_bytes(text_spec: SpecMaker, tmp_path: Path, kind: str) -> None:
    spec = {"bytes": text_spec(), "bpe": text_spec(Bpe(kind="bpe", vocabulary=300)), "glyphs": glyph_spec()}[kind]
    for folder in ("one", "two"):
        prepare(spec, tmp_path / folder)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_the_hash_knows_the_content_but_not_the_sharding(text_spec: SpecMaker, corpus: Path, tmp_path: Path) -> None:
    whole, cut = prepare(text_spec(), tmp_path / "a"), prepare(text_spec(shard_tokens=333), tmp_path / "b")
    assert len(cut.shards) > len(whole.shards)
    assert all(shard.items <= 333 for shard in cut.shards)
    assert whole.content_hash == cut.content_hash
    assert prepare(text_spec(held_out=0.5), tmp_path / "c").content_hash != whole.content_hash
    (corpus / "000.txt").write_text("edited", encoding="utf-8")
    assert prepare(text_spec(), tmp_path / "a").content_hash != whole.content_hash


@pytest.mark.parametrize("damage", ["edit source", "truncate", "remove", "manifest", "tokenizer"])
def test_anything_amiss_is_built_anew(text_spec: SpecMaker, corpus: Path, tmp_path: Path, damage: str) -> None:
    spec = text_spec(Bpe(kind="bpe", vocabulary=300))
    folder = tmp_path / "data"
    shard = folder / prepare(spec, folder).shards[0].name
    match damage:
        case "edit source":
            (corpus / "new.txt").write_text("new text " * 50, encoding="utf-8")
        case "truncate":
            shard.write_bytes(shard.read_bytes()[:-5])
        case "remove":
            shard.unlink()
        case "manifest":
            (folder / "manifest.json").write_text("{", encoding="utf-8")
        case _:
            (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    prepare(spec, folder)
    prepare(spec, tmp_path / "fresh")
    assert snapshot(folder) == snapshot(tmp_path / "fresh")


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("kind", ["text", "images"])
def test_a_kill_at_any_write_leaves_all_or_nothing(
    text_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spec = text_spec(Bpe(kind="bpe", vocabulary=300)) if kind == "text" else glyph_spec()
    old = text_spec(shard_tokens=3000) if kind == "text" else glyph_spec(seed=3)
    prepare(spec, tmp_path / "fresh")
    writes = len(list((tmp_path / "fresh").iterdir()))
    rename, folder = Path.replace, tmp_path / "data"
    for dies_at in range(writes):
        prepare(old, folder)
        left = iter(range(dies_at))

        def replace(self: Path, target: Path, left: object = left) -> Path:
            if next(left, None) is None:  # type: ignore[call-overload]
                self.with_name(f"{self.name[:-8]}.1.tmp").write_bytes(self.read_bytes()[:7])
                raise Killed
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            prepare(spec, folder)
        monkeypatch.setattr(Path, "replace", rename)
        with pytest.raises(NotReadyError):
            read_manifest(folder)
        prepare(spec, folder)
        assert snapshot(folder) == snapshot(tmp_path / "fresh")


def test_bpe_learns_from_the_training_split_only(text_spec: SpecMaker, corpus: Path, tmp_path: Path) -> None:
    spec = text_spec(Bpe(kind="bpe", vocabulary=400), held_out=0.5)
    before = prepare(spec, tmp_path / "data")
    secret = next(
        text
        for number in range(100)
        if hashlib.sha256((text := f"{number}" + "zqxj" * 200).encode()).digest()[0] < 0x70
    )
    (corpus / "secret.txt").write_text(secret, encoding="utf-8")
    after = prepare(spec, tmp_path / "data")
    assert after.heldout.documents == before.heldout.documents + 1
    assert after.tokenizer_sha256 == before.tokenizer_sha256
    assert load_tokenizer(tmp_path / "data" / "tokenizer.json").vocabulary <= 400


def test_shapes_are_known_before_preparing(text_spec: SpecMaker, tmp_path: Path) -> None:
    bpe = prepare(text_spec(Bpe(kind="bpe", vocabulary=4000)), tmp_path / "bpe")
    from_file = TokenizerFile(kind="file", path=str(tmp_path / "bpe" / "tokenizer.json"))
    for number, tokenizer in enumerate((None, Bpe(kind="bpe", vocabulary=300), from_file)):
        spec = text_spec(tokenizer) if tokenizer else text_spec()
        manifest = prepare(spec, tmp_path / str(number))
        for objective in (SPANS, NEXT):
            shape = model_shape(manifest, objective)
            assert shape == expected_shape(spec, objective)
            assert shape.vocabulary % 8 == 0
            assert shape.vocabulary >= manifest.vocabulary
    assert expected_shape(bpe.spec, NEXT).vocabulary == 4000
    images = glyph_spec()
    assert model_shape(prepare(images, tmp_path / "images"), CLASSES) == expected_shape(images, CLASSES)
    assert expected_shape(images, CLASSES).classes == 12


def test_an_objective_that_does_not_fit_is_refused(text_spec: SpecMaker) -> None:
    with pytest.raises(DataError, match="objective: cannot be asked of text"):
        expected_shape(text_spec(), CLASSES)
    with pytest.raises(DataError, match="objective: cannot be asked of images"):
        expected_shape(glyph_spec(), NEXT)
    source = ParquetImages(kind="parquet-images", path="x", image=8)
    with pytest.raises(NotReadyError, match="number of classes in x"):
        expected_shape(ImageDataset(version=1, content="images", source=source), CLASSES)


def test_a_corpus_without_text_is_refused(text_spec: SpecMaker, corpus: Path, tmp_path: Path) -> None:
    for path in corpus.iterdir():
        path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="the source is empty"):
        prepare(text_spec(), tmp_path / "data")
    (corpus / "000.txt").write_text("one document", encoding="utf-8")
    with pytest.raises(DataError, match=r"no document falls on the \w+ side of the split \(1 documents in all\)"):
        prepare(text_spec(), tmp_path / "data")
    with pytest.raises(NotReadyError):
        read_manifest(tmp_path / "data")


def test_a_missing_tokenizer_is_named(text_spec: SpecMaker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: tokenizer\.path: no such file"):
        prepare(text_spec(TokenizerFile(kind="file", path="nowhere.json")), tmp_path / "data")


def test_a_tokenizer_of_hours_is_refused_before_it_is_hashed(text_spec: SpecMaker, tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=r"tokenizer\.json: is too large for a tokenizer .found 1099511627776"):
        prepare(text_spec(TokenizerFile(kind="file", path=str(tmp_path / "tokenizer.json"))), tmp_path / "data")


def test_images_are_counted_and_labelled(tmp_path: Path) -> None:
    manifest = prepare(glyph_spec(), tmp_path)
    assert manifest.train.items + manifest.heldout.items == 300
    assert (manifest.image, manifest.channels, manifest.classes, manifest.vocabulary) == (16, 1, 12, 0)
    assert manifest.shards[0].items == manifest.shards[0].rows == 100
    assert 0.1 < manifest.heldout.items / 300 < 0.3


def test_progress_counts_to_the_end(text_spec: SpecMaker, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int | None]] = []
    prepare(text_spec(), tmp_path / "text", lambda *event: heard.append(event))
    prepare(glyph_spec(), tmp_path / "images", lambda *event: heard.append(event))
    assert ("tokenize", 60, 60) in heard
    assert heard[-1] == ("draw", 300, 300)


@pytest.mark.parametrize(
    "change",
    [{"vocabulary": 0}, {"vocabulary": 300}, {"image": 8, "vocabulary": 0}, {"tokenizer_sha256": "0" * 64}],
    ids=str,
)
def test_a_manifest_that_does_not_say_what_it_was_hashed_from_is_refused(data: Path, change: dict[str, object]) -> None:
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.json: (content_hash: )?damaged manifest"):
        read_manifest(data)


def test_the_manifest_is_readable_and_says_when_it_is_damaged(text_spec: SpecMaker, tmp_path: Path) -> None:
    manifest = prepare(text_spec(), tmp_path)
    assert read_manifest(tmp_path) == manifest
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1,\n  "vocab', '"version": 9,\n  "vocab'))
    with pytest.raises(DataError, match=r"manifest\.json: version: damaged manifest"):
        read_manifest(tmp_path)


def test_shapes_are_asked_for_without_torch() -> None:
    program = "import sys, sparsity_lab.data.manifest, sparsity_lab.data.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
