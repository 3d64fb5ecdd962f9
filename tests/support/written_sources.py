"""The same documents, pictures or ids written in every format that a source reads, three files each."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparsity_lab.data.sources import documents, image_blocks
from sparsity_lab.errors import InputError
from sparsity_lab.specs.datasets import ImageDataset, TextDataset

Texts = Sequence[str]
Pictures = Sequence[tuple[bytes, int, str]]
"""content, label, ending of the file's name"""
Fields = dict[str, Any]


def thirds(rows: Sequence[Any]) -> list[Sequence[Any]]:
    size = -(-len(rows) // 3)
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def packed(content: bytes, form: str) -> bytes:
    if form == "gzip":
        return gzip.compress(content)
    pa_form = {"zstd": "zstd", "bz2": "bz2", "brotli": "brotli"}[form]
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, pa_form) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def files(folder: Path, texts: Texts) -> Fields:
    for number, text in enumerate(texts):
        (folder / f"{number:05d}.txt").write_bytes(text.encode())
    return {"kind": "files"}


def json_lines(folder: Path, texts: Texts, form: str = "", before: bytes = b"", end: bytes = b"\n") -> Fields:
    endings = {"": "jsonl", "gzip": "json.gz", "zstd": "jsonl.zst"}
    for number, part in enumerate(thirds(texts)):
        content = before + b"".join(json.dumps({"text": text}).encode() + end for text in part)
        (folder / f"{number}.{endings[form]}").write_bytes(packed(content, form) if form else content)
    return {"kind": "jsonl"}


def marked_json_lines(folder: Path, texts: Texts) -> Fields:
    return json_lines(folder, texts, before=b"\xef\xbb\xbf", end=b"\r\n\r\n")


def column(values: Texts, kind: str) -> pa.Array:
    if kind == "dictionary":
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}[kind])


def parquet(folder: Path, texts: Texts, kind: str = "string") -> Fields:
    for number, part in enumerate(thirds(texts)):
        pq.write_table(pa.table({"n": range(len(part)), "text": column(part, kind)}), folder / f"{number}.parquet")
    return {"kind": "parquet-text"}


def saved(folder: Path, tables: Sequence[pa.Table]) -> Fields:
    """As `save_to_disk` lays a split out."""
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return {"kind": "huggingface"}


def saved_texts(folder: Path, texts: Texts, kind: str = "string") -> Fields:
    return saved(folder, [pa.table({"text": column(part, kind)}) for part in thirds(texts)])


def loaded(folder: Path, texts: Texts, **changes: bool) -> Fields:
    json_lines(folder, texts)
    return {"kind": "huggingface", **changes}


def archive(path: Path, members: Sequence[tuple[str, bytes]], form: str = "") -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(packed(stream.getvalue(), form) if form else stream.getvalue())


def webdataset(folder: Path, texts: Texts, form: str = "", member: str = "txt") -> Fields:
    for number, part in enumerate(thirds(texts)):
        rows = []
        for row, text in enumerate(part):
            content = json.dumps({"text": text}).encode() if member == "json" else text.encode()
            rows += [(f"./in.some/{row:04d}.{member}", content), (f"./in.some/{row:04d}.cls", b"7")]
        rows.insert(0, ("__meta__", b"{}"))
        archive(folder / f"{number}.tar{ {'': '', 'gzip': '.gz', 'zstd': '.zst'}[form] }", rows, form)
    return {"kind": "webdataset", "text_member": member}


def mds_shard(names: Sequence[tuple[str, str, int | None]], rows: Sequence[Sequence[bytes]]) -> bytes:
    """After the format's description: count, offsets, configuration, samples."""
    config = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": [],
        "size_limit": None,
        "column_names": [name for name, _, _ in names],
        "column_encodings": [encoding for _, encoding, _ in names],
        "column_sizes": [size for _, _, size in names],
    }
    head = json.dumps(config, sort_keys=True).encode()
    samples = []
    for row in rows:
        sizes = [len(value) for value, (_, _, size) in zip(row, names, strict=True) if size is None]
        samples.append(np.array(sizes, "<u4").tobytes() + b"".join(row))
    ends = np.cumsum([0, *map(len, samples)]) + 4 * (len(rows) + 2) + len(head)
    return np.array([len(rows), *ends], "<u4").tobytes() + head + b"".join(samples)


def mds_folder(folder: Path, shards: Sequence[bytes], form: str = "") -> None:
    entries = []
    for number, content in enumerate(shards):
        name = f"shard.{number:05d}.mds"
        entry: Fields = {"format": "mds", "raw_data": {"basename": name, "bytes": len(content)}, "zip_data": None}
        if form:
            small, ending = packed(content, form), {"zstd": "zstd", "gzip": "gz", "bz2": "bz2", "brotli": "br"}[form]
            entry["zip_data"] = {"basename": f"{name}.{ending}", "bytes": len(small)}
            (folder / f"{name}.{ending}").write_bytes(small)
        else:
            (folder / name).write_bytes(content)
        entries.append(entry)
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": entries}))


def mds(folder: Path, texts: Texts, form: str = "", encoding: str = "str") -> Fields:
    names = [("n", "int", 8), ("text", encoding, None), ("url", "str", None)]

    def row(number: int, text: str) -> list[bytes]:
        value = json.dumps(text) if encoding == "json" else text
        return [np.int64(number).tobytes(), value.encode(), b"https://a.b"]

    parts = thirds(texts)
    mds_folder(folder, [mds_shard(names, [row(k, text) for k, text in enumerate(part)]) for part in parts], form)
    return {"kind": "mds"}


TEXTS: dict[str, Callable[[Path, Texts], Fields]] = {
    "files": files,
    "jsonl": json_lines,
    "jsonl, gzip": lambda folder, texts: json_lines(folder, texts, "gzip"),
    "jsonl, zstd": lambda folder, texts: json_lines(folder, texts, "zstd"),
    "jsonl, BOM and CRLF": marked_json_lines,
    "parquet": parquet,
    "parquet, large": lambda folder, texts: parquet(folder, texts, "large"),
    "parquet, dictionary": lambda folder, texts: parquet(folder, texts, "dictionary"),
    "saved": saved_texts,
    "saved, large": lambda folder, texts: saved_texts(folder, texts, "large"),
    "saved, dictionary": lambda folder, texts: saved_texts(folder, texts, "dictionary"),
    "saved, view": lambda folder, texts: saved_texts(folder, texts, "view"),
    "loaded": loaded,
    "streamed": lambda folder, texts: loaded(folder, texts, streaming=True),
    "webdataset": webdataset,
    "webdataset, gzip": lambda folder, texts: webdataset(folder, texts, "gzip"),
    "webdataset, zstd, json": lambda folder, texts: webdataset(folder, texts, "zstd", "json"),
    "mds": mds,
    "mds, zstd": lambda folder, texts: mds(folder, texts, "zstd"),
    "mds, gzip, json": lambda folder, texts: mds(folder, texts, "gzip", "json"),
    "mds, brotli, bytes": lambda folder, texts: mds(folder, texts, "brotli", "bytes"),
}
"""of each format, what writes documents into a folder and gives the source's fields but its path"""


def image_folder(folder: Path, pictures: Pictures) -> Fields:
    for number, (content, label, ending) in enumerate(pictures):
        (folder / f"class {label}" / "deep").mkdir(parents=True, exist_ok=True)
        (folder / f"class {label}" / "deep" / f"{number:04d}.{ending.upper()}").write_bytes(content)
        (folder / f"class {label}" / ".DS_Store").write_bytes(b"\0")
    return {"kind": "image-folder"}


def parquet_pictures(folder: Path, pictures: Pictures) -> Fields:
    for number, part in enumerate(thirds(pictures)):
        columns = {"image": [content for content, _, _ in part], "label": [label for _, label, _ in part]}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return {"kind": "parquet-images"}


def saved_pictures(folder: Path, pictures: Pictures) -> Fields:
    tables = [
        pa.table(
            {
                "image": [{"bytes": content, "path": f"x.{ending}"} for content, _, ending in part],
                "label": [label for _, label, _ in part],
            }
        )
        for part in thirds(pictures)
    ]
    return saved(folder, tables)


def webdataset_pictures(folder: Path, pictures: Pictures, label: str = "cls") -> Fields:
    for number, part in enumerate(thirds(pictures)):
        rows = []
        for row, (content, known, ending) in enumerate(part):
            told = f"{known}\n" if label == "cls" else json.dumps({"label": known})
            rows += [(f"{row:04d}.{label}", told.encode()), (f"{row:04d}.{ending}", content)]
        archive(folder / f"{number}.tar", rows)
    return {"kind": "webdataset", "label_member": label, "image_members": ["jpg", "png", "tiff"]}


def mds_pictures(folder: Path, pictures: Pictures, form: str = "", encoding: str = "bytes") -> Fields:
    names = [("image", encoding, None), ("label", "uint16", 2)]
    rows = [[[content, np.uint16(label).tobytes()] for content, label, _ in part] for part in thirds(pictures)]
    mds_folder(folder, [mds_shard(names, part) for part in rows], form)
    return {"kind": "mds"}


PICTURES: dict[str, Callable[[Path, Pictures], Fields]] = {
    "image-folder": image_folder,
    "parquet": parquet_pictures,
    "saved": saved_pictures,
    "webdataset": webdataset_pictures,
    "webdataset, json": lambda folder, pictures: webdataset_pictures(folder, pictures, "json"),
    "mds": mds_pictures,
    "mds, zstd": lambda folder, pictures: mds_pictures(folder, pictures, "zstd", "png"),
}


def some_pictures() -> list[tuple[bytes, int, str]]:
    """As users bring them: turned by EXIF, 16-bit, transparent, CMYK, palette; labels in ascending order."""
    made = []
    for number in range(42):
        noise = np.random.default_rng(number).integers(0, 256, (12, 12, 4), np.uint8)
        noise[..., 3] |= 64
        image, ending, options = Image.fromarray(noise[..., :3]), "png", Fields()
        match number % 6:
            case 0:
                image.getexif()[0x0112] = 6
                ending, options = "jpg", {"exif": image.getexif(), "quality": 95}
            case 1:
                image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
            case 2:
                image = Image.fromarray(noise)
            case 3:
                image, ending = Image.fromarray(noise, "CMYK"), "tiff"
            case 4:
                image = image.quantize(16)
        image.save(stream := io.BytesIO(), {"jpg": "JPEG", "png": "PNG", "tiff": "TIFF"}[ending], **options)
        made.append((stream.getvalue(), number // 14, ending))
    return made


def refusal(content: str, folder: Path, **changes: Any) -> str:
    dataset = TextDataset if content == "text" else ImageDataset
    source = {"path": str(folder)} | ({} if content == "text" else {"image": 4}) | changes
    spec = dataset.model_validate({"version": 1, "content": content, "source": source})
    with pytest.raises(InputError) as refused:
        list(documents(spec.source) if isinstance(spec, TextDataset) else image_blocks(spec.source))
    return str(refused.value)
