"""Every source against one list: the same data in, the same shards out; what is broken is told with file and record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_sources import PICTURES, TEXTS, archive, mds_folder, mds_shard, refusal, some_pictures

from sparsity_lab.data.manifest import Manifest, expected_shape, model_shape
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.sources import documents, image_blocks
from sparsity_lab.errors import DataError, InputError
from sparsity_lab.specs.datasets import ImageDataset, TextDataset
from tests.data.conftest import CLASSES, snapshot, text_of

SAID = [
    *(text_of(number) for number in range(40)),
    "\ufeffa mark before it",
    "lines\r\nthat end\rin three ways\n",
    "e\u0301 and \u00e9 ☃ \u2028 \x85 \U0001f600",
    "   blanks around   ",
    text_of(3) + "  ",
    text_of(5).replace("document", "Document"),
    "",
    "x" * 100_000,
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def text_dataset(name: str, folder: Path) -> TextDataset:
    folder.mkdir()
    source = TEXTS[name](folder, SAID) | {"path": str(folder)}
    return TextDataset.model_validate({"version": 1, "content": "text", "source": source, "held_out": 0.3})


def image_dataset(name: str, folder: Path, **changes: Any) -> ImageDataset:
    folder.mkdir()
    source = PICTURES[name](folder, some_pictures()) | {"path": str(folder), "image": 12} | changes
    return ImageDataset.model_validate({"version": 1, "content": "images", "source": source, "held_out": 0.3})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, dict[str, str]]:
    folder = tmp_path_factory.mktemp("plain")
    manifest = prepare(text_dataset("files", folder / "source"), folder / "data")
    return manifest, shards(folder / "data")


def shards(folder: Path) -> dict[str, str]:
    return {name: sha for name, sha in snapshot(folder).items() if name != "manifest.json"}


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_documents_are_the_same_shards(
    name: str, tmp_path: Path, plain: tuple[Manifest, dict[str, str]]
) -> None:
    manifest, expected = plain
    found = prepare(text_dataset(name, tmp_path / "source"), tmp_path / "data")
    assert found.content_hash == manifest.content_hash
    assert found.train == manifest.train
    assert found.near_duplicates == manifest.near_duplicates
    assert found.train.duplicates + found.heldout.duplicates == 1
    if name != "streamed":  # each of whose parts is a unit
        assert shards(tmp_path / "data") == expected


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_pictures_are_the_same_shards(name: str, tmp_path: Path) -> None:
    expected = prepare(image_dataset("parquet", tmp_path / "plain"), tmp_path / "one")
    spec = image_dataset(name, tmp_path / "source", classes=3)
    found = prepare(spec, tmp_path / "two")
    assert found.content_hash == expected.content_hash
    assert shards(tmp_path / "two") == shards(tmp_path / "one")
    assert expected_shape(spec, CLASSES) == model_shape(found, CLASSES)


CUT = [name for name in TEXTS if name not in {"files", "jsonl", "jsonl, BOM and CRLF", "loaded", "streamed"}]
"""formats in which no cut file is whole"""


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    source = text_dataset(name, tmp_path / "source").source
    path = sorted(path for path in (tmp_path / "source").iterdir() if path.suffix != ".json")[1]
    whole = path.read_bytes()
    steps = {*range(1, len(whole), len(whole) // 23), 512, 1024, 2048, len(whole) - 1, len(whole) - 512}
    zeros = len(whole) - len(whole.rstrip(b"\0")) if path.suffix == ".tar" else 0  # of which one block is enough
    for size in sorted(size for size in steps if 0 < size < len(whole) - max(0, zeros - 512)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=path.name.replace(".", r"\.")):
            list(documents(source))


@pytest.mark.parametrize("name", [*TEXTS, *(f"pictures: {name}" for name in PICTURES)])
def test_changed_bytes_are_read_or_refused_with_the_file(name: str, tmp_path: Path) -> None:
    folder, pictures = tmp_path / "source", name.removeprefix("pictures: ")
    spec = image_dataset(pictures, folder) if name.startswith("pictures") else text_dataset(name, folder)
    path = min(path for path in folder.rglob("*.*") if path.is_file() and not path.name.startswith("."))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(25):
        content = bytearray(whole)
        for place in random.integers(0, min(len(whole), 3000), 2).tolist():
            content[place] ^= int(random.integers(1, 256))
        path.write_bytes(content)
        try:
            for _ in image_blocks(spec.source) if isinstance(spec, ImageDataset) else documents(spec.source):
                pass
        except InputError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("name", ["webdataset", "mds, zstd", "saved"])
@pytest.mark.usefixtures("small_units")
def test_a_killed_preparation_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    spec = text_dataset(name, tmp_path / "source")
    prepare(spec, tmp_path / "whole")
    heard = kills = 0

    def kill(_what: str, _done: int, _total: int | None) -> None:
        nonlocal heard
        heard += 1
        if heard > 3:
            raise KeyboardInterrupt

    while kills < 20:
        heard = 0
        try:
            prepare(spec, tmp_path / "cut", kill)
        except KeyboardInterrupt:
            kills += 1
        else:
            break
    assert 1 < kills < 20
    assert snapshot(tmp_path / "cut") == snapshot(tmp_path / "whole")


PNG = some_pictures()[5][0]


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ([("a.cls", b"1")], {}, r"0\.tar: a: no such member .*expected one member that ends in txt"),
        ([("a.txt", b"x"), ("a.txt", b"y")], {}, r"0\.tar: a\.txt: stands twice in a sample"),
        ([("a.txt", b"caf\xe9")], {}, r"0\.tar: a\.txt: is not UTF-8 at byte 3"),
        ([("a.json", b"{]")], {"text_member": "json"}, r"0\.tar: a\.json:1: cannot be read as JSON"),
        ([("a.json", b'{"b": 1}')], {"text_member": "json"}, r"0\.tar: a\.json: text: no text .found 'the fields b'"),
        ([("a.cls", b"1")], {"image": 4}, r"a: no such member .*ends in jpg or jpeg or png or webp"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"1")], {"image": 4}, "a: several such members"),
        ([("a.png", PNG), ("a.cls", b"cat")], {"image": 4}, r"a\.cls: no label .found b'cat', expected a whole number"),
        ([("a.png", PNG), ("a.cls", b"-1")], {"image": 4}, r"a\.cls: label out of range"),
        ([("a.png", b"no"), ("a.cls", b"1")], {"image": 4}, r"0\.tar: a: cannot be decoded"),
    ],
)
def test_what_a_sample_lacks_is_named(
    tmp_path: Path, members: list[tuple[str, bytes]], changes: dict[str, Any], message: str
) -> None:
    archive(tmp_path / "0.tar", members)
    kind = "images" if "image" in changes else "text"
    assert re.search(message, refusal(kind, tmp_path, kind="webdataset", **changes))


def test_a_sample_s_members_must_follow_one_another_and_archives_must_end(tmp_path: Path) -> None:
    archive(tmp_path / "0.tar", [("a.txt", b"x"), ("b.txt", b"y"), ("._a.txt", b"z"), ("a/b.c/d.e.txt", b"w")])
    assert "a/b.c/d: no such member (found 'none of the" in refusal("text", tmp_path, kind="webdataset")
    archive(tmp_path / "0.tar", [("a.txt", b"x"), ("b.TXT", b"y"), ("._a.txt", b"z")])
    whole = (tmp_path / "0.tar").read_bytes()
    for ending in ("txt", "TXT"):
        source = {"kind": "webdataset", "path": str(tmp_path), "text_member": ending}
        spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source})
        assert list(documents(spec.source)) == [b"x", b"y"]
    (tmp_path / "0.tar").write_bytes(whole + b"more".ljust(512, b"x"))
    assert "0.tar: is cut" in refusal("text", tmp_path, kind="webdataset")


@pytest.mark.parametrize(
    ("column", "content", "changes", "message"),
    [
        (("text", "str", None), b"caf\xe9", {}, r"00000\.mds: sample 0: text: is not UTF-8 at byte 3"),
        (("text", "pkl", None), b"x", {}, r"sample 0: text: no text .found 'pkl', expected str, bytes or json"),
        (("body", "str", None), b"x", {}, r"00000\.mds: text: no such column .found 'body, label', expected text"),
        (("image", "str", None), PNG, {"image": 4}, r"sample 0: image: no image .found 'str', expected jpeg, png"),
        (("image", "png", None), b"no", {"image": 4}, r"sample 0: image: cannot be decoded"),
        (("image", "pil", None), b"no", {"image": 4}, r"sample 0: image: no image"),
    ],
)
def test_what_a_shard_lacks_is_named(
    tmp_path: Path, column: tuple[str, str, int | None], content: bytes, changes: dict[str, Any], message: str
) -> None:
    mds_folder(tmp_path, [mds_shard([column, ("label", "int", 8)], [[content, bytes(8)]])])
    kind = "images" if "image" in changes else "text"
    assert re.search(message, refusal(kind, tmp_path, kind="mds", **changes))


def test_a_label_that_is_no_whole_number_is_named(tmp_path: Path) -> None:
    mds_folder(tmp_path, [mds_shard([("image", "png", None), ("label", "float32", 4)], [[PNG, bytes(4)]])])
    assert "sample 0: label: no label (found 'float32'" in refusal("images", tmp_path, kind="mds", image=4)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{]", r"index\.json:1: cannot be read as JSON"),
        ("[]", r"index\.json: is no index of MDS shards"),
        ('{"version": 1, "shards": []}', r"version: is of another version .found 1, expected 2"),
        ('{"version": 2, "shards": [{}]}', r"shards\[0\]: is no index of MDS shards: 'format'"),
        (
            '{"version": 2, "shards": [{"format": "mds", "raw_data": {"basename": "../a", "bytes": 1}}]}',
            "lies outside the folder",
        ),
        (
            '{"version": 2, "shards": [{"format": "mds", "raw_data": {"basename": "a.mds", "bytes": 1}}]}',
            r"a\.mds: the shard is missing",
        ),
    ],
)
def test_a_wrong_index_is_named(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / "index.json").write_text(index)
    assert re.search(message, refusal("text", tmp_path, kind="mds"))


def test_an_image_folder_needs_pictures_in_each_class(tmp_path: Path) -> None:
    assert "holds no folder (expected a folder for each class)" in refusal("images", tmp_path, kind="image-folder")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.txt").write_text("no picture")
    assert "cat: pattern: a class has no picture" in refusal("images", tmp_path, kind="image-folder")
    (tmp_path / "cat" / "a.png").write_bytes(b"nor this")
    assert "a.png: cannot be decoded" in refusal("images", tmp_path, kind="image-folder")
