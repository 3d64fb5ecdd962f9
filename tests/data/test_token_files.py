"""Ids as others wrote them: nanoGPT's files, and Megatron's with their index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sparsity_lab.data.formats.token_files import id_documents
from sparsity_lab.data.manifest import Manifest, expected_shape, model_shape, read_manifest
from sparsity_lab.data.prepare import prepare
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import GivenIds, TextDataset
from sparsity_lab.specs.sources import TokenFiles
from tests.data.conftest import NEXT, SPANS, text_split, tokens_of

END, VOCABULARY = 7, 300
GIVEN = GivenIds(kind="given", vocabulary=VOCABULARY, end=END)


def made(count: int = 60) -> list[list[int]]:
    random = np.random.default_rng(0)
    rows = [random.integers(8, VOCABULARY, random.integers(1, 90)).tolist() for _ in range(count)]
    return [*rows, rows[0]]


def nano(path: Path, rows: list[list[int]], kind: str = "<u2") -> Path:
    np.array([one for row in rows for one in [*row, END]], kind).tofile(path)
    return path


def megatron(path: Path, rows: list[list[int]], kind: str = "<i4", ended: bool = True) -> Path:
    """Each document as two sequences."""
    rows = [[*row, END] if ended else row for row in rows]
    np.array([one for row in rows for one in row], kind).tofile(path)
    sizes = np.array([size for row in rows for size in (len(row) // 2, len(row) - len(row) // 2)], "<i4")
    places = (np.cumsum(sizes) - sizes).astype("<i8") * np.dtype(kind).itemsize
    borders = np.arange(0, len(sizes) + 1, 2).astype("<i8")
    code = {"<u1": 1, "<i2": 3, "<i4": 4, "<i8": 5, "<u2": 8}[kind]
    head = b"MMIDIDX\0\0" + np.array([1], "<u8").tobytes() + bytes([code])
    head += np.array([len(sizes), len(borders)], "<u8").tobytes()
    path.with_suffix(".idx").write_bytes(head + sizes.tobytes() + places.tobytes() + borders.tobytes())
    return path


def source(folder: Path, **changes: Any) -> TokenFiles:
    return TokenFiles.model_validate({"kind": "token-files", "path": str(folder)} | changes)


def spec(folder: Path, **changes: Any) -> TextDataset:
    return TextDataset(version=1, content="text", source=source(folder, **changes), tokenizer=GIVEN, held_out=0.3)


def read(path: Path, **changes: Any) -> list[list[int]]:
    return [np.frombuffer(one, "<u4").tolist() for one in id_documents(path, source(path, **changes), GIVEN)]


WRITTEN = ["nano, 2 bytes", "nano, 4 bytes", "megatron", "megatron, 8 bytes, no ends"]


def prepared(name: str, folder: Path) -> Manifest:
    (folder / "source").mkdir(parents=True)
    path, changes = folder / "source" / "train.bin", {}
    match name:
        case "nano, 2 bytes":
            nano(path, made())
        case "nano, 4 bytes":
            nano(path, made(), "<u4")
            changes = {"dtype": "uint32"}
        case "megatron":
            megatron(path, made())
        case _:
            megatron(path, made(), "<i8", ended=False)
    return prepare(spec(folder / "source", **changes), folder / "data")


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_ids_are_the_same_data(name: str, tmp_path: Path) -> None:
    expected, found = prepared(WRITTEN[0], tmp_path / "a"), prepared(name, tmp_path / "b")
    assert found.content_hash == expected.content_hash
    assert found.train.duplicates + found.heldout.duplicates == 1
    assert found.train.documents + found.heldout.documents == 60
    ids = [tokens_of(tmp_path / "b" / "data", tmp_path / "cache", split) for split in ("train", "heldout")]
    whole = [[*row, END] for part in ids for row in rows_of(part)]
    assert sorted(whole) == sorted([*row, END] for row in made()[:60])
    assert model_shape(found, NEXT).vocabulary == VOCABULARY
    assert model_shape(found, NEXT) == expected_shape(found.spec, NEXT)


def rows_of(ids: Any) -> list[list[int]]:
    assert ids[-1] == END
    return [piece[:-1].tolist() for piece in np.split(ids, np.flatnonzero(ids == END) + 1)[:-1]]


def test_near_duplicates_are_counted_among_ids(tmp_path: Path) -> None:
    rows = [list(range(8 + k, 8 + k + 200, 1 + k % 7)) for k in range(80)]
    nano(tmp_path / "train.bin", rows + [[*row, 299] for row in rows])
    near = prepare(spec(tmp_path), tmp_path / "data").near_duplicates
    assert near is not None
    assert 0 < near.found <= near.looked_at


def test_the_last_id_of_a_file_need_not_end_a_document_and_empty_ones_are_none(tmp_path: Path) -> None:
    np.array([END, 8, 9, END, END, 10], "<u2").tofile(tmp_path / "a.bin")
    assert read(tmp_path / "a.bin") == [[8, 9], [10]]
    assert read(tmp_path / "a.bin", document_tokens=4) == [[END, 8, 9, END], [END, 10]]
    (tmp_path / "b.bin").write_bytes(b"")
    assert read(tmp_path / "b.bin") == []


@given(st.lists(st.lists(st.integers(8, VOCABULARY - 1), min_size=1, max_size=9), min_size=1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_documents_are_found_however_much_is_looked_at(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsity_lab.data.formats.token_files.AT_ONCE", at_once)
        assert read(nano(folder / "a.bin", rows)) == rows
        assert read(megatron(folder / "b.bin", rows)) == rows


def test_an_id_outside_the_vocabulary_is_named_with_its_place(tmp_path: Path) -> None:
    for path in (nano(tmp_path / "a.bin", [[8, 9], [10, 300]]), megatron(tmp_path / "b.bin", [[8, 9], [10, 300]])):
        with pytest.raises(DataError, match=rf"{path.name}: token 4: an id is too high .found 300, expected below"):
            read(path)
    with pytest.raises(DataError, match=r"token 1: an id is too high .found -2"):
        read(megatron(tmp_path / "c.bin", [[8, -2]]))


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = nano(tmp_path / "a.bin", made())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"a\.bin: is cut, or of another type"):
        read(path)
    path = megatron(tmp_path / "b.bin", made())
    whole, index = path.read_bytes(), path.with_suffix(".idx").read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(DataError, match=r"b\.bin: is cut, or of another index .*expected at least"):
        read(path)
    path.write_bytes(whole)
    for size in range(0, len(index), 37):
        path.with_suffix(".idx").write_bytes(index[:size])
        with pytest.raises(DataError, match=r"b\.idx: is no index of Megatron's"):
            read(path)


def test_a_file_in_which_no_document_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.data.formats.token_files.LONGEST", 100)
    np.arange(8, 250, dtype="<u2").tofile(tmp_path / "a.bin")
    with pytest.raises(DataError, match=r"token 0: end: no document ends within 100 tokens.*document_tokens"):
        read(tmp_path / "a.bin")
    assert len(read(tmp_path / "a.bin", document_tokens=100)) == 3


def test_a_spec_says_the_vocabulary_and_the_end(tmp_path: Path) -> None:
    base = {"version": 1, "content": "text", "source": {"kind": "token-files", "path": "x"}}
    with pytest.raises(ValidationError, match="must be `given` where the source is `token-files`"):
        TextDataset.model_validate(base)
    with pytest.raises(ValidationError, match="must be `given` where the source is `token-files`"):
        TextDataset.model_validate(
            base | {"source": {"kind": "files", "path": "x"}, "tokenizer": GIVEN.model_dump(mode="json")}
        )
    with pytest.raises(ValidationError, match="must lie below the vocabulary, 300"):
        GivenIds(kind="given", vocabulary=300, end=300)
    prepared(WRITTEN[0], tmp_path)
    with pytest.raises(DataError, match="too few sentinels"):
        model_shape(read_manifest(tmp_path / "data"), SPANS)
    assert len(text_split(tmp_path / "data", tmp_path / "cache").tokens)
