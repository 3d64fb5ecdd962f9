"""Shards where they lie: beside their manifest or at any `pyarrow.fs` URI, verified and cached by each machine once.

A shard is held against its SHA-256 when it is first asked for. What was verified is noted in the cache by size and time
of the file, so that other processes of the machine need not read it again. Shards of an object store, and compressed
Parquet shards that earlier versions wrote, are copied into the cache first. What is there already, in a dataset's own
folder or in that of another study of the same dataset, is found and taken over.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sparsity_lab.artifacts.atomic import locked, replacing
from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.artifacts.remote import file_system_at
from sparsity_lab.data.manifest import Manifest, Shard, read_manifest
from sparsity_lab.data.shards import TOKENS_COLUMN, batch_items
from sparsity_lab.errors import DataError, NotReadyError, refusing
from sparsity_lab.specs.datasets import DatasetSpec

CHUNK: Final = 1 << 22
"""bytes copied at once"""
TOKENIZER: Final = "tokenizer.json"


class ShardPlace:
    """The shards of one dataset, as files of this machine."""

    def __init__(self, folder: Path, location: str, cache: Path) -> None:
        """Reads nothing.

        Args:
            folder: where the manifest lies, and the shards where `location` is empty.
            location: folder or URI of the shards, as in the manifest.
            cache: a folder of this machine for this dataset alone; it can be deleted at any time.
        """
        self.folder: Final = local_folder(location) if location else folder
        self._location, self._cache = location, cache

    def check_present(self, shards: tuple[Shard, ...]) -> None:
        """See that every shard in a folder is there and of its size; those of a store show when they are touched.

        Raises:
            DataError: names the file, what was found and what was expected.
        """
        if self.folder is None:
            return
        listed = fs.LocalFileSystem().get_file_info(fs.FileSelector(str(self.folder), allow_not_found=True))
        sizes = {one.base_name: one.size for one in listed}
        for shard in shards:
            where, found = self.folder / shard.name, sizes.get(shard.name)
            if found is None:
                raise _missing(where)
            if found != shard.size:
                raise DataError("the shard's size is wrong", where=where, found=found, expected=f"{shard.size} bytes")

    def file(self, shard: Shard) -> Path:
        """An Arrow file of this machine with the shard's content, verified.

        Raises:
            DataError: the shard is missing, truncated or altered.
            MachineError: no space for the cache.
        """
        source = None if self.folder is None else self.folder / shard.name
        path = source if source and source.suffix == ".arrow" else self._cache / f"{Path(shard.name).stem}.arrow"
        note = self._cache / f"{shard.name}.verified"
        if not _noted(note, path, shard):
            with locked(note):
                if not _noted(note, path, shard):
                    self._bring(shard, source, path)
                    note.write_text(_identity(path, shard), encoding="utf-8")
        return path

    def _bring(self, shard: Shard, source: Path | None, path: Path) -> None:
        """Verify a shard and, where it is not yet the file `path`, make that."""
        if source is None:
            where, digest = f"{self._location}: {shard.name}", hashlib.sha256()
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    for chunk in _chunks(self._location, shard.name):
                        digest.update(chunk)
                        file.write(chunk)
                _check(shard, where, digest.hexdigest())
            return
        _check(shard, source, file_sha256(source, DataError))
        if path != source:
            _convert(source, path)


def local_folder(location: str) -> Path | None:
    """The folder that a place names, None for a place that is none: `s3://…`, `gs://…`.

    Raises:
        DataError: a `file://` URI names another machine, or is none.
    """
    if location.startswith("file://"):
        with refusing(location, DataError, "is no place that can be reached"):
            parts = urlsplit(location)
        if parts.netloc:
            raise DataError("names another machine", where=location, found=parts.netloc, expected="file:///PATH")
        return Path(unquote(parts.path))
    return None if "://" in location else Path(location)


def store_at(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a `pyarrow.fs` URI, and the folder there.

    Raises:
        DataError: there is no such file system, or it cannot be reached.
    """
    try:
        return file_system_at(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"is no place that can be reached: {error}", where=location) from None


def copy_to_store(file: Path, location: str) -> None:
    """Copy a file to a store, under its name.

    Raises:
        DataError: the store cannot be reached or refuses it.
    """
    system, folder = store_at(location)
    try:
        with file.open("rb") as source, system.open_output_stream(f"{folder}/{file.name}") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be written: {error}", where=f"{location}: {file.name}") from None


def _chunks(location: str, name: str) -> Iterator[bytes]:
    try:
        system, folder = store_at(location)
        with system.open_input_stream(f"{folder}/{name}") as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except FileNotFoundError:
        raise _missing(f"{location}: {name}") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the shard cannot be read: {error}", where=f"{location}: {name}") from None


def _missing(where: object) -> DataError:
    return DataError("the shard is missing; prepare or pull the data again", where=where)


def _noted(note: Path, path: Path, shard: Shard) -> bool:
    try:
        return note.read_text(encoding="utf-8") == _identity(path, shard)
    except OSError:
        return False


def _identity(path: Path, shard: Shard) -> str:
    stat = path.stat()
    return f"{shard.sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def _check(shard: Shard, where: object, found: str) -> None:
    if found != shard.sha256:
        raise DataError("the shard's SHA-256 is wrong", where=where, found=found, expected=shard.sha256)


def _convert(source: Path, path: Path) -> None:
    """A compressed Parquet shard as an Arrow file with the same values, without the borders of documents."""
    try:
        table = pq.read_table(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"damaged shard: {error}", where=source) from None
    if table.column_names == [TOKENS_COLUMN]:
        flat = pa.chunked_array([chunk.flatten() for chunk in table.column(TOKENS_COLUMN).chunks])
        table = pa.table({TOKENS_COLUMN: flat})
    width = table.schema.field(0).type.bit_width // 8
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks(), max_chunksize=batch_items(width))


def intact(spec: DatasetSpec, folder: Path, source: str, location: str | None, readers: int) -> Manifest | None:
    """The manifest, when the folder holds what the spec describes, undamaged (in a store: there, and of its size)."""
    try:
        manifest = read_manifest(folder)
    except (NotReadyError, DataError):
        return None
    if manifest.spec != spec or manifest.source_sha256 != source or location not in (None, manifest.location):
        return None
    if manifest.tokenizer_sha256 and not _holds(folder / TOKENIZER, manifest.tokenizer_sha256):
        return None
    place = ShardPlace(folder, manifest.location, folder)
    try:
        place.check_present(manifest.shards)
    except DataError:
        return None
    if (home := place.folder) is None:
        return manifest
    with ThreadPoolExecutor(readers) as pool:
        sound = pool.map(lambda shard: _holds(home / shard.name, shard.sha256), manifest.shards)
        return manifest if all(sound) else None


def _holds(path: Path, sha256: str) -> bool:
    with suppress(DataError):
        return path.is_file() and file_sha256(path, DataError) == sha256
    return False


def holder(spec: DatasetSpec, source: str, others: Sequence[Path], readers: int) -> tuple[Path, Manifest] | None:
    """The first of some folders that holds what the spec describes, and its manifest."""
    found = ((other, intact(spec, other, source, None, readers)) for other in others)
    return next(((other, manifest) for other, manifest in found if manifest is not None), None)


def take_over(source: Path, manifest: Manifest, folder: Path) -> Manifest:
    """Have the files of prepared data in another folder too; its manifest is for the caller to write, at the end.

    They take no room a second time where the file system can give a file two names: nobody writes into a shard, for a
    new one takes its place.
    """
    shards = () if manifest.location else (shard.name for shard in manifest.shards)
    for name in (*shards, *((TOKENIZER,) if manifest.tokenizer_sha256 else ())):
        with replacing(folder / name) as temporary:
            temporary.unlink()
            try:
                os.link(source / name, temporary)
            except OSError:
                shutil.copyfile(source / name, temporary)
    return manifest
