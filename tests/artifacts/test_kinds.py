from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from sparsity_lab.artifacts.kinds import kind_of
from sparsity_lab.artifacts.reading import json_lines, parquet_rows, read_text
from sparsity_lab.artifacts.weights import opened
from sparsity_lab.errors import CheckpointError, DataError, InputError

ROWS = b"".join(json.dumps({"text": f"row {number}"}).encode() + b"\n" for number in range(40))
TABLE = pa.table({"text": [f"row {number}" for number in range(40)]})


def _of_arrow(path: Path, make: Callable[..., pa.RecordBatchWriter]) -> None:
    with make(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("rows.jsonl")
        member.size = len(ROWS)
        archive.addfile(member, io.BytesIO(ROWS))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", ROWS)


def _sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table rows (text)")
    connection.close()


def _with(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


WRITERS: dict[str, Callable[[Path], object]] = {
    "packed by Zstandard": _with(pa.compress(ROWS, "zstd", asbytes=True)),
    "packed by gzip": _with(gzip.compress(ROWS)),
    "packed by xz": _with(lzma.compress(ROWS)),
    "packed by bzip2": _with(bz2.compress(ROWS)),
    "packed by LZ4": _with(pa.compress(ROWS, "lz4", asbytes=True)),
    "a Parquet file": lambda path: pq.write_table(TABLE, path),
    "an Arrow file": lambda path: _of_arrow(path, pa.ipc.new_file),
    "an Arrow stream": lambda path: _of_arrow(path, pa.ipc.new_stream),
    "a tar archive": _tar,
    "a zip archive": lambda path: torch.save({"weight": torch.ones(2)}, path) if path.suffix == ".bin" else _zip(path),
    "a NumPy file": lambda path: path.write_bytes(_npy()),
    "an SQLite file": _sqlite,
    "an HTML page": _with(b"<!DOCTYPE html><html><body>404</body></html>"),
    "a Git LFS pointer, whose content was not fetched": _with(b"version https://git-lfs.github.com/spec/v1\noid x\n"),
}
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "JSON": (lambda path: list(json_lines(path, DataError)), "rows.jsonl"),
    "a Parquet file": (lambda path: list(parquet_rows(path, DataError)), "rows.parquet"),
    "a safetensors file": (lambda path: opened(path).__enter__(), "model.bin"),
}


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(4))
    return stream.getvalue()


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_of_another_format_is_called_what_it_is(tmp_path: Path, kind: str, form: str) -> None:
    read, name = READERS[form]
    WRITERS[kind](tmp_path / name)
    assert kind_of(tmp_path / name) == kind
    if kind == form:
        read(tmp_path / name)
        return
    with pytest.raises(InputError, match=rf"{name}.*: cannot be read: is {kind}, not {form}"):
        read(tmp_path / name)


def test_files_as_they_should_be_are_none_of_the_others(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(ROWS))
    for path in tmp_path.iterdir():
        assert kind_of(path) is None
    assert kind_of(tmp_path / "nowhere") is kind_of(tmp_path) is None


def test_what_a_packed_file_holds_is_named_too(tmp_path: Path) -> None:
    _tar(tmp_path / "rows.tar")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress((tmp_path / "rows.tar").read_bytes()))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: cannot be read: is a tar archive, not JSON"):
        list(json_lines(tmp_path / "rows.jsonl.gz", DataError))


def test_a_damaged_file_of_the_right_format_is_called_damaged(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as Parquet"):
        list(parquet_rows(tmp_path / "rows.parquet", DataError))
    (tmp_path / "model.safetensors").write_bytes(b"\x09" * 40)
    with (
        pytest.raises(CheckpointError, match="is damaged or no safetensors file"),
        opened(tmp_path / "model.safetensors"),
    ):
        pass
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin\.csv:1: cannot be read: is not UTF-8"):
        read_text(tmp_path / "latin.csv", DataError)


@pytest.mark.parametrize("suffix", [".safetensors", ".csv.gz"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    assert kind_of(path) is None
    with pytest.raises(CheckpointError, match="is no file"), opened(path):
        pass
