"""Files that exist whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from sparsity_lab.errors import SCHEMES, MachineError

URLS = frozenset(f"{scheme}:" for scheme in SCHEMES)
"""parts of paths that were made of URLs"""
IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG})
"""a folder where a file goes, a file where a folder goes, links in a circle, a name that is too long"""
MOST_OF_NAME = 40
"""characters of a folder's name in that of the folder beside it, which must not be too long where the first is not"""


@contextlib.contextmanager
def replacing(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any error it disappears.

    Without `flush` a crash of the machine, though not of the process, may leave it empty or half. What a kill leaves,
    `clear_unfinished` removes.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explaining(path):
            make_parent(path)
            with temporary.open("w+b") as mark:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
                yield temporary
                if flush:
                    _flush(temporary)
                temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_parent(path: Path) -> None:
    """Make the folder in which a file is to be.

    Raises:
        MachineError: the path was a URL's, or its file system makes no folders.
        OSError: as the system does.
    """
    if url := URLS.intersection(path.parts):
        given = Path(*path.parts[path.parts.index(min(url)) :])
        raise MachineError("is a URL; this is written to folders of this machine alone", where=given)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # such as /proc
        raise MachineError("cannot be made here", where=path.parent) from None


def clear_unfinished(*places: Path) -> None:
    """Remove what writers that are dead left half-written beside files, or anywhere in folders.

    A living writer, of whatever machine, holds the kernel's lock on what it writes.
    """
    for place in places:
        for left in place.rglob(".*.tmp") if place.is_dir() else place.parent.glob(f".{place.name}.*.tmp"):
            with contextlib.suppress(OSError), left.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield the place of a folder beside `path`, to be filled and renamed; at the end what is left of it disappears.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    beside = path.parent / f".{path.name[:MOST_OF_NAME]}.{os.getpid()}.tmp"
    try:
        with explaining(path):
            make_parent(path)
            yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file atomically; errors as `write_bytes`."""
    write_bytes(path, content.encode())


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock that the kernel frees when the process dies; yields whether it is held.

    Raises:
        MachineError: its folder cannot be made or written.
    """
    with _lock_file(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def present(path: Path) -> Iterator[Callable[[], bool]]:
    """Be one of several processes at some work; yields a question: is this process the only one left?

    Once it has been told so, no other is let in before it leaves. The kernel forgets those that die; errors
    as `locked`.
    """
    with _lock_file(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        def alone() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(file, fcntl.LOCK_SH)  # a conversion that fails may have given up what was held
                return False
            return True

        yield alone


def _lock_file(path: Path) -> TextIO:
    with explaining(path):
        make_parent(path)
        return path.open("a")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def explaining(path: object) -> Iterator[None]:
    """Tell what the system refuses meanwhile in words, as of `path`.

    Raises:
        MachineError: `explained` knows what it was.
    """
    try:
        yield
    except OSError as error:
        told = explained(error, path)
        if told is None:
            raise
        raise told from error


def explained(error: OSError, path: object) -> MachineError | None:
    """What the system refused, in words: a full disk, no permission, something in the way; None where we may err."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return MachineError("no space left on the disk; nothing half-written was kept", where=path)
        case errno.EACCES | errno.EROFS | errno.EPERM:
            return MachineError("cannot be written: no permission", where=path)
        case number if number in IN_THE_WAY:
            return MachineError(f"cannot be used: {error.strerror}", where=path)
        case _:
            return None
