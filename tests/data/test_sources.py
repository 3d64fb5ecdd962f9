from __future__ import annotations

import gzip
import io
import json
import os
import re
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from sparsity_lab.data import sources
from sparsity_lab.data.sources import documents, image_blocks, source_files, source_hash
from sparsity_lab.errors import DataError
from sparsity_lab.specs.sources import (
    ImageSource,
    JsonLines,
    ParquetImages,
    ParquetText,
    PythonStdlib,
    TextFiles,
    TextSource,
)


def lines(path: Path, **changes: str) -> JsonLines:
    return JsonLines.model_validate({"kind": "jsonl", "path": str(path)} | changes)


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def png(shade: int, side: int = 9) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 0, 255 - shade)).save(stream, "PNG")
    return stream.getvalue()


def test_the_standard_library_is_whole_files_without_tests() -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    names = {path.relative_to(root).as_posix() for path in source_files(PythonStdlib(kind="python-stdlib"))}
    assert {"json/decoder.py", "abc.py"} <= names
    assert not [name for name in names if "site-packages" in name or "/tests/" in name or name.startswith("test/")]


def test_a_byte_limit_takes_a_prefix_of_whole_files() -> None:
    few = list(documents(PythonStdlib(kind="python-stdlib", maximum_bytes=300_000)))
    more = list(documents(PythonStdlib(kind="python-stdlib", maximum_bytes=600_000)))
    assert 0 < sum(map(len, few)) <= 300_000
    assert more[: len(few)] == few
    assert len(more) > len(few)


def test_files_come_sorted_and_without_the_empty_ones(tmp_path: Path) -> None:
    for name, text in (("b.txt", "two"), ("a.txt", "one"), ("c/d.txt", "three"), ("empty.txt", ""), ("x.md", "no")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(documents(TextFiles(kind="files", path=str(tmp_path)))) == [b"one", b"two", b"three"]


def test_a_relative_path_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.txt").write_text("found", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert list(documents(TextFiles(kind="files", path="here"))) == [b"found"]


def test_json_lines_plain_and_zipped_are_one(tmp_path: Path) -> None:
    rows = [{"text": f"row {k} ☃", "url": "x"} for k in range(5)]
    content = "\n\n".join(json.dumps(row) for row in rows).encode()
    (tmp_path / "plain.json").write_bytes(content)
    with gzip.open(tmp_path / "zipped.json.gz", "wb") as file:
        file.write(content)
    plain = list(documents(lines(tmp_path / "plain.json")))
    assert plain == list(documents(lines(tmp_path / "zipped.json.gz"))) == [row["text"].encode() for row in rows]
    assert list(documents(lines(tmp_path))) == plain * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"rows\.json:3: cannot be read as JSON: Invalid control character at, column 14"),
        ('{"body": "x"}', r"rows\.json:3: text: no text \(found 'the fields body', expected text under 'text'\)"),
        ('{"text": 7}', r"rows\.json:3: text: no text"),
        ("[1, 2]", r"rows\.json:3: text: no text \(found 'list'"),
        (r'{"text": "\ud800"}', r"rows\.json:3: text: text that has no UTF-8 form"),
        (b"\xff{}", r"rows\.json:3: cannot be read as JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str | bytes, message: str) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "rows.json").write_bytes(b'{"text": "fine"}\n\n' + bad + b"\n")
    with pytest.raises(DataError, match=message):
        list(documents(lines(tmp_path)))


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "fine"}\n' * 1000)
    for content in (whole[: len(whole) // 2], b"plain text"):
        (tmp_path / "rows.json.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"rows\.json\.gz: damaged gzip file"):
            list(documents(lines(tmp_path)))


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"a\.txt: is not UTF-8 at byte 3"):
        list(documents(TextFiles(kind="files", path=str(tmp_path))))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list(documents(TextFiles(kind="files", path=str(tmp_path / "nowhere"))))
    with pytest.raises(DataError, match=r"pattern: no file matches \(found '\*\*/\*\.txt'\)"):
        list(documents(TextFiles(kind="files", path=str(tmp_path))))
    with pytest.raises(DataError, match="pattern: is no pattern"):
        list(documents(TextFiles(kind="files", path=str(tmp_path), pattern="/absolute/*")))


def test_parquet_text(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"text": [f"row {k}" for k in range(600)], "other": list(range(600))})
    source = ParquetText(kind="parquet-text", path=str(tmp_path))
    assert list(documents(source)) == [f"row {k}".encode() for k in range(600)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, r"a\.parquet: text: no such column \(found 'body', expected text\)"),
        ({"text": [1]}, r"a\.parquet: text: no text \(found 'int64', expected a column of strings\)"),
        ({"text": ["x", None]}, r"a\.parquet: row 1: text: no text \(found 'null'\)"),
    ],
)
def test_parquet_without_text_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        list(documents(ParquetText(kind="parquet-text", path=str(tmp_path))))


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["x"]})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        list(documents(ParquetText(kind="parquet-text", path=str(tmp_path))))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_parquet_images(tmp_path: Path, nested: bool, channels: int) -> None:
    encoded: list[Any] = [png(shade) for shade in (0, 100, 255)]
    if nested:
        encoded = [{"bytes": image, "path": None} for image in encoded]
    parquet(tmp_path / "a.parquet", {"image": encoded, "label": [2, 0, 1]})
    source = ParquetImages.model_validate(
        {"kind": "parquet-images", "path": str(tmp_path), "image": 5, "channels": channels}
    )
    (block,) = image_blocks(source)
    assert block.pixels.shape == (3, 5, 5, channels)
    assert block.labels.tolist() == [2, 0, 1]
    if channels == 3:
        assert (block.pixels[1] == (100, 0, 155)).all()
    assert np.unique(block.pixels[0]).size == (1 if channels == 1 else 2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"no image"], "label": [0]}, r"row 0: image: cannot be decoded"),
        ({"image": ["text"], "label": [0]}, r"row 0: image: no encoded image \(found 'str'\)"),
        ({"image": [png(0)], "label": [-1]}, r"label: label out of range \(found -1"),
        ({"image": [png(0)], "label": ["cat"]}, r"label: no labels \(found 'large_string'"),
        ({"image": [png(0)]}, r"label: no such column"),
    ],
)
def test_parquet_without_images_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        list(image_blocks(ParquetImages(kind="parquet-images", path=str(tmp_path), image=4)))


@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO"]), st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_picture_is_decoded_or_refused_with_its_row(form: str, data: st.DataObject) -> None:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(noise).save(stream, form)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    with tempfile.TemporaryDirectory() as folder:
        parquet(Path(folder, "a.parquet"), {"image": [png(0), cut], "label": [0, 1]})
        source = ParquetImages(kind="parquet-images", path=folder, image=4)
        told = ""
        try:
            shapes = [block.pixels.shape for block in image_blocks(source)]
        except DataError as refusal:
            told = str(refusal)
        assert re.search(r"a\.parquet: row 1: image: cannot be decoded: .", told) if told else shapes == [(2, 4, 4, 3)]


def test_a_file_too_large_for_one_document_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        DataError, match=r"a\.txt: is too large for one document or picture .found 1099511627776, expected at most"
    ):
        source_hash(TextFiles(kind="files", path=str(tmp_path)))


HOLES: dict[str, tuple[str, dict[str, str]]] = {
    "jsonl": ("a.jsonl", {}),
    "packed jsonl": ("a.jsonl.gz", {"kind": "jsonl", "pattern": "*"}),
    "parquet-text": ("a.parquet", {}),
    "parquet-images": ("a.parquet", {}),
    "webdataset": ("a.tar", {}),
    "webdataset images": ("a.tar", {"kind": "webdataset"}),
    "image-folder": ("one/a.png", {}),
}


@pytest.mark.parametrize("kind", HOLES)
def test_a_file_of_hours_that_holds_no_example_is_refused_before_it_is_hashed(tmp_path: Path, kind: str) -> None:
    name, changes = HOLES[kind]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**40)
    images = {"image": 8, "classes": 1} if "image" in kind else {}
    fields: dict[str, Any] = {"kind": kind, "path": str(tmp_path), **images, **changes}
    source: TypeAdapter[Any] = TypeAdapter(ImageSource if images else TextSource)
    with pytest.raises(DataError, match=re.escape(Path(name).name)):
        source_hash(source.validate_python(fields))


def test_a_large_file_is_hashed_when_it_begins_with_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'{"text": "one"}\nno JSON, and far down\n'
    (tmp_path / "a.jsonl").write_bytes(content)
    whole = source_hash(lines(tmp_path))
    monkeypatch.setattr(sources, "LARGEST_FILE", 20)
    assert source_hash(lines(tmp_path)) == whole


def test_names_with_stray_bytes_are_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9\n\x1b.txt"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"text")
    source = TextFiles(kind="files", path=str(tmp_path))
    assert list(documents(source)) == [b"text"]
    assert source_hash(source)
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"\xff")
    with pytest.raises(DataError, match=r"caf\\udce9\\n\\x1b\.txt: is not UTF-8 at byte 0"):
        list(documents(source))


def test_parquet_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    wrong = pa.array([b"fine"] * 300 + [b"caf\xe9"], pa.binary())
    text = pa.StringArray.from_buffers(len(wrong), *wrong.buffers()[1:])
    parquet(tmp_path / "a.parquet", {"text": text})
    with pytest.raises(DataError, match=r"a\.parquet: rows 256 to 300: text: cannot be read as Parquet"):
        list(documents(ParquetText(kind="parquet-text", path=str(tmp_path))))


def test_a_sources_hash_knows_names_and_content_but_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two", "renamed", "edited"):
        (tmp_path / folder).mkdir()
        name = "b.txt" if folder == "renamed" else "a.txt"
        (tmp_path / folder / name).write_text("edited" if folder == "edited" else "text", encoding="utf-8")
    hashes = {
        folder: source_hash(TextFiles(kind="files", path=str(tmp_path / folder)))
        for folder in ("one", "two", "renamed", "edited")
    }
    assert hashes["one"] == hashes["two"]
    assert len(set(hashes.values())) == 3


def test_a_pattern_is_held_against_a_single_file_too(tmp_path: Path) -> None:
    file = tmp_path / "a.data"
    file.write_text('{"text": "one"}\n', encoding="utf-8")
    for pattern in ({}, {"pattern": "**/*.data"}, {"pattern": "a.*"}):
        assert list(documents(JsonLines(kind="jsonl", path=str(file), **pattern))) == [b"one"]
    with pytest.raises(DataError, match=r"a\.data: pattern: is a file that does not match \(found '\*\.json'\)"):
        list(documents(JsonLines(kind="jsonl", path=str(file), pattern="*.json")))
