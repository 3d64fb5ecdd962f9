"""File systems that other machines reach too (a folder, S3, whatever pyarrow has), and checkpoints there.

A machine writes its checkpoint to its own disk first and sends a copy here; another one that takes the run over fetches
it. pyarrow is imported when it is used: only runs with such a place need it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.paths import CHECKPOINT
from sparsity_lab.errors import MachineError

BLOCK = 16 * 2**20
"""bytes that a copy moves at once"""
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
    system, folder = FileSystem.from_uri(urlunsplit(parts._replace(path=parts.path.rstrip("/"))))
    return system, str(folder)


@dataclass(frozen=True)
class RemoteCheckpoints:
    """The latest checkpoint of every unfinished run, one folder a run."""

    uri: str
    """of pyarrow.fs, or the path of a folder"""

    def put(self, fingerprint: str, file: Path) -> None:
        """Keep a copy of a checkpoint in place of the one before: whole, or not at all.

        Raises:
            MachineError: the place cannot be reached or written.
        """
        with self._reached() as (system, folder):
            target = f"{folder}/{fingerprint}/{CHECKPOINT}"
            renames = system.type_name in RENAMING
            if renames:
                system.create_dir(f"{folder}/{fingerprint}", recursive=True)
            written = f"{target}.tmp" if renames else target
            with file.open("rb") as source, system.open_output_stream(written, buffer_size=BLOCK) as copy:
                shutil.copyfileobj(source, copy, BLOCK)
            if renames:
                system.move(written, target)

    def fetch(self, fingerprint: str, file: Path) -> bool:
        """Write a run's checkpoint to `file`; False where there is none.

        Raises:
            MachineError: the place cannot be reached, or this disk is full.
        """
        from pyarrow.fs import FileType  # noqa: PLC0415

        with self._reached() as (system, folder):
            source = f"{folder}/{fingerprint}/{CHECKPOINT}"
            if system.get_file_info(source).type != FileType.File:
                return False
            with replacing(file) as temporary, system.open_input_stream(source) as stream, temporary.open("wb") as copy:
                shutil.copyfileobj(stream, copy, BLOCK)
            return True

    def forget(self, fingerprint: str) -> None:
        """Remove what is kept of a run; nothing where there is none. Errors as `put`."""
        from pyarrow.fs import FileType  # noqa: PLC0415

        with self._reached() as (system, folder):
            if system.get_file_info(f"{folder}/{fingerprint}/{CHECKPOINT}").type == FileType.File:
                system.delete_dir(f"{folder}/{fingerprint}")

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
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else self.uri
