"""Data sets of Hugging Face: what `save_to_disk` wrote, what the library's cache holds, and streams.

The first two are Arrow files, read here without the library; it is imported to find, fetch or stream the others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sparsity_lab.artifacts.kinds import naming
from sparsity_lab.artifacts.reading import ROWS, check_columns, opened, parse_json, plain_rows, read_bytes
from sparsity_lab.data.formats.values import text_of
from sparsity_lab.errors import DataError, MachineError, refusing
from sparsity_lab.specs.sources import HuggingfaceImages, HuggingfaceText

STATE, SPLITS = "state.json", "dataset_dict.json"
"""of a split that was saved, and of several in folders of their own"""
END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""of an Arrow stream"""
COMMIT: Final = re.compile("[0-9a-f]{40}")
PART: Final = re.compile(r"part-(\d+)-of-(\d+)")
"""names of parts of a stream"""

Huggingface = HuggingfaceText | HuggingfaceImages


def is_streamed(source: object) -> bool:
    """Whether a source is read from where it lies: its files are parts by name, and none is on the disk."""
    return isinstance(source, HuggingfaceText) and source.streaming


def split_files(source: Huggingface) -> list[Path]:
    """The Arrow files of a split, in the order of its rows; a stream's parts, by name, where it is one.

    Raises:
        DataError: there is no such data set, commit or split, or it is damaged.
        MachineError: it has to be fetched, and the library is not installed.
    """
    if is_streamed(source):
        count = _loaded(source).num_shards
        return [Path(f"part-{number:05d}-of-{count:05d}") for number in range(count)]
    folder = Path(source.path)
    if (folder / SPLITS).is_file():
        found = parse_json(read_bytes(folder / SPLITS, DataError), folder / SPLITS, DataError)
        splits = found.get("splits", []) if isinstance(found, dict) else []
        if source.split not in splits:
            told = ", ".join(map(str, splits))
            raise DataError("has no such split", where=folder, field="split", found=source.split, expected=told)
        folder = folder / source.split
    if (folder / STATE).is_file():
        return _saved(folder)
    found = [Path(file["filename"]) for file in _loaded(source).cache_files]
    if not found:
        raise DataError("holds no rows on the disk", where=source.path, field="split", found=source.split)
    commit = found[0].parent.name  # as the cache keeps what came from the hub
    asked = source.revision or ""
    if COMMIT.fullmatch(asked) and COMMIT.fullmatch(commit) and asked != commit:
        message = "is not what the cache holds, and the hub was not reached"
        raise DataError(message, where=source.path, field="source.revision", found=asked, expected=commit)
    return found


def _saved(folder: Path) -> list[Path]:
    state = parse_json(read_bytes(folder / STATE, DataError), folder / STATE, DataError)
    with refusing(folder / STATE, DataError, "is no state of a saved data set"):
        names = [str(file["filename"]) for file in state["_data_files"]]
    for name in names:
        if Path(name).name != name:
            raise DataError("lies outside the folder", where=folder / STATE, field="_data_files", found=name)
        if not (folder / name).is_file():
            raise DataError("the file is missing", where=folder / name)
    return [folder / name for name in names]


def arrow_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, pa.Array]]]:
    """As `parquet_rows`, of an Arrow IPC stream, which `datasets` writes, or file.

    Raises:
        DataError: it is missing, damaged, lacks a column, or a text in it is no UTF-8.
    """
    with opened(path, DataError) as content:
        with naming(path, DataError, "an Arrow stream"), refusing(path, DataError, "cannot be read as Arrow"):
            is_file = content.read(6) == b"ARROW1"
            content.seek(-len(END), os.SEEK_END)
            if not is_file and content.read() != END:
                raise ValueError("it is cut: a stream ends with a mark, and here is none")
            content.seek(0)
            reader = pa.ipc.open_file(content) if is_file else pa.ipc.open_stream(content)
        check_columns(reader.schema.names, columns, path, DataError)

        def batches() -> Iterator[pa.RecordBatch]:
            with refusing(path, DataError, "cannot be read as Arrow"):
                whole = (reader.get_batch(k) for k in range(reader.num_record_batches)) if is_file else iter(reader)
                for batch in whole:
                    for start in range(0, batch.num_rows, ROWS):
                        yield batch.select(list(columns)).slice(start, ROWS)

        yield from plain_rows(batches(), path, DataError, "Arrow")


def stream_texts(source: HuggingfaceText, part: Path) -> Iterator[bytes]:
    """The documents of one part of a stream.

    Raises:
        DataError: it breaks off, or a row has no text.
    """
    number, count = map(int, PART.fullmatch(part.name).groups())  # type: ignore[union-attr]  # made by `split_files`
    rows = _rows(source, number, count)
    for row, found in enumerate(rows):
        where = f"{source.path}: {part.name}: row {row}"
        check_columns(found, [source.text_column], where, DataError)
        yield text_of(found[source.text_column], where, source.text_column)


def _rows(source: HuggingfaceText, number: int, count: int) -> Iterator[dict[str, Any]]:
    with refusing(f"{source.path}: {source.split}", DataError, "cannot be read"):
        yield from _loaded(source).shard(num_shards=count, index=number)


def stream_hash(source: HuggingfaceText) -> str:
    """What a stream of the hub is known by: its name and commit.

    Raises:
        DataError: no commit is named, so that the rows may be others tomorrow.
    """
    if not COMMIT.fullmatch(source.revision or ""):
        expected = "a commit of 40 digits: what is streamed cannot be compared with what was read before"
        raise DataError("must be named for a stream", field="source.revision", found=source.revision, expected=expected)
    told = "\0".join((source.path, source.config or "", source.split, source.revision or ""))
    return hashlib.sha256(told.encode()).hexdigest()


def _loaded(source: Huggingface) -> Any:
    """The data set as the library has it: of the hub asked for once, of a folder, which may change, again.

    A folder's stream is asked for by each of its parts, and the library looks at all files every time.
    """
    folder = Path(source.path)
    if folder.is_dir() and not is_streamed(source):
        return _load(source)
    with refusing(folder, DataError):
        stats = [(str(path), path.lstat()) for path in sorted(folder.rglob("*"))]
    return _load_once(source, tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats))


def _load(source: Huggingface) -> Any:
    try:
        import datasets  # noqa: PLC0415 - takes seconds, and is an extra
    except ImportError:
        raise MachineError(
            "reading data sets of Hugging Face that were not saved by save_to_disk needs the library datasets",
            where=source.path,
            expected="pip install 'sparsity-lab[huggingface]'",
        ) from None
    options = {"streaming": True} if is_streamed(source) else {"keep_in_memory": False}
    with refusing(source.path, DataError, "cannot be loaded", field="source"):
        return datasets.load_dataset(
            source.path, source.config, split=source.split, revision=source.revision, **options
        )


@lru_cache(maxsize=4)
def _load_once(source: Huggingface, _state: tuple[tuple[str, int, int], ...]) -> Any:
    return _load(source)
