"""File systems that other machines reach too (a folder, S3, whatever pyarrow has), and checkpoints there.

A machine writes its checkpoint to its own disk first and sends a copy here; another one that takes the run over fetches
it. pyarrow is imported when it is used: only runs with such a place need it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.paths import CHECKPOINT, FACTS, SHARDED
from sparsity_lab.errors import MachineError

BLOCK = 16 * 2**20
"""bytes that a copy moves at once"""
RETRIED = 10
"""seconds that Google's store is asked again where a URI says nothing else; its client would for a quarter hour"""
RENAMING = frozenset({"local", "hdfs", "subtree"})
"""file systems that rename: the others show an object only when it is complete"""


def file_system_at(uri: str) -> tuple[Any, str]:
    """The file system of a `pyarrow.fs` URI or of a folder's path, and the folder there.

    Raises:
        ArrowException, OSError, ValueError: as pyarrow does where there is no such place.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem  # noqa: PLC0415

    if "://" not in uri:
        return LocalFileSystem(), str(Path(uri).resolve())
    parts = urlsplit(uri)
    query = parts.query
    if parts.scheme in {"gs", "gcs"} and "retry_limit_seconds" not in query:
        query += f"{'&' * bool(query)}retry_limit_seconds={RETRIED}"
    system, folder = FileSystem.from_uri(urlunsplit(parts._replace(path=parts.path.rstrip("/"), query=query)))
    return system, str(folder)


@dataclass(frozen=True)
class RemoteCheckpoints:
    """The latest checkpoint of every unfinished run, one folder a run: a file, or a folder that has its facts."""

    uri: str
    """of pyarrow.fs, or the path of a folder"""

    def put(self, fingerprint: str, file: Path) -> None:
        """Keep a copy of a checkpoint in place of the one before: whole, or not at all.

        Raises:
            MachineError: the place cannot be reached or written.
        """
        self.put_part(fingerprint, file, CHECKPOINT)
        self._remove(fingerprint, lambda name: name.startswith(f"{SHARDED}/"))

    def put_part(self, fingerprint: str, file: Path, name: str) -> None:
        """Keep a copy of a file of a sharded checkpoint, whole or not at all; its facts, sent last, complete it.

        Args:
            fingerprint: of the run.
            file: what is copied.
            name: below the run's folder, `/` between its parts.

        Raises:
            MachineError: the place cannot be reached or written.
        """
        with self._reached() as (system, folder):
            target = f"{folder}/{fingerprint}/{name}"
            renames = system.type_name in RENAMING
            if renames:
                system.create_dir(target.rpartition("/")[0], recursive=True)
            written = f"{target}.tmp" if renames else target
            with file.open("rb") as source, system.open_output_stream(written, buffer_size=BLOCK) as copy:
                shutil.copyfileobj(source, copy, BLOCK)
            if renames:
                system.move(written, target)
        if name.endswith(f"/{FACTS}"):
            self._remove(fingerprint, lambda other: not other.startswith(name.removesuffix(FACTS)))

    def fetch(self, fingerprint: str, file: Path) -> bool:
        """Write a run's checkpoint to `file`, or beside it where it is sharded, in place of what is there.

        Returns:
            Whether there is one.

        Raises:
            MachineError: the place cannot be reached, or this disk is full.
        """
        with self._reached() as (system, folder):
            found = self._names(system, f"{folder}/{fingerprint}")
            complete = [name.removesuffix(FACTS) for name in found if name.endswith(f"/{FACTS}")]
            wanted = [name for name in found if name == CHECKPOINT or name.startswith(tuple(complete))]
            if wanted:
                shutil.rmtree(file.with_name(SHARDED), ignore_errors=True)
            for name in sorted(wanted, key=lambda name: (name.endswith(f"/{FACTS}"), name)):
                target = file if name == CHECKPOINT else file.with_name(SHARDED) / name.removeprefix(f"{SHARDED}/")
                source = system.open_input_stream(f"{folder}/{fingerprint}/{name}")
                with replacing(target) as temporary, source as stream, temporary.open("wb") as copy:
                    shutil.copyfileobj(stream, copy, BLOCK)
            return bool(wanted)

    def forget(self, fingerprint: str) -> None:
        """Remove what is kept of a run; nothing where there is none. Errors as `put`."""
        with self._reached() as (system, folder):
            if self._names(system, f"{folder}/{fingerprint}"):
                system.delete_dir(f"{folder}/{fingerprint}")

    def _remove(self, fingerprint: str, unwanted: Callable[[str], bool]) -> None:
        """Remove a run's files by their names: facts first, so that no part of a checkpoint looks like a whole."""
        with self._reached() as (system, folder):
            names = [name for name in self._names(system, f"{folder}/{fingerprint}") if unwanted(name)]
            for name in sorted(names, key=lambda name: (not name.endswith(f"/{FACTS}"), name)):
                system.delete_file(f"{folder}/{fingerprint}/{name}")

    @staticmethod
    def _names(system: Any, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415

        found = system.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
        return [info.path.removeprefix(f"{folder}/") for info in found if info.type == FileType.File]

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        from pyarrow import ArrowException  # noqa: PLC0415

        try:
            yield file_system_at(self.uri)
        except (ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).replace(self.uri, self.shown).split())
            raise MachineError(f"the place of checkpoints cannot be used: {reason}", where=self.shown) from None

    @property
    def shown(self) -> str:
        """The URI without keys and options."""
        try:
            parts = urlsplit(self.uri)
        except ValueError:
            return self.uri.partition("?")[0]
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else self.uri
