"""Files that travel to a node once: packed in pieces, unpacked whole and verified, kept by their hash.

What carries the pieces is not decided here: `pack` is given what stores one, `unpack` what gives it back.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.errors import MachineError

PIECE = 32 * 2**20
"""bytes of a file that travel at once"""


@dataclass(frozen=True)
class PackedFile:
    """One file of a parcel."""

    name: str
    """below the folder that was packed"""
    sha256: str
    pieces: tuple[Any, ...]
    """in order, as `put` named them"""


@dataclass(frozen=True)
class Parcel:
    """A folder or a file on its way."""

    files: tuple[PackedFile, ...]
    alone: bool
    """a file, not a folder"""

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents."""
        listing = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(listing.encode()).hexdigest()


def pack(path: Path, put: Callable[[bytes], Any]) -> Parcel:
    """Read a file, or all of a folder but hidden files, and hand it on in pieces.

    Args:
        path: of the file or folder.
        put: stores a piece and gives what `unpack`'s `get` finds it by.
    """
    alone = path.is_file()
    folder = path.parent if alone else path
    found = [path] if alone else sorted(file for file in path.rglob("*") if file.is_file())
    names = {file: file.relative_to(folder) for file in found}
    visible = [file for file, name in names.items() if not any(part.startswith(".") for part in name.parts)]
    return Parcel(tuple(_packed(file, names[file].as_posix(), put) for file in visible), alone)


def _packed(file: Path, name: str, put: Callable[[bytes], Any]) -> PackedFile:
    digest, pieces = hashlib.sha256(), []
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            pieces.append(put(piece))
    return PackedFile(name, digest.hexdigest(), tuple(pieces))


def unpack(parcel: Parcel, folder: Path, get: Callable[[Any], bytes]) -> Path:
    """What was packed, in a folder of this machine: written by the first who asks, found by all others.

    Args:
        parcel: from `pack`.
        folder: that keeps parcels; everything below it can be deleted while nothing is trained.
        get: gives a piece.

    Returns:
        The path of the file or folder.

    Raises:
        MachineError: a file arrived damaged, or the disk is full.
    """
    target = folder / parcel.digest
    with locked(folder / f"{parcel.digest}.lock"):
        if not target.is_dir():
            temporary = target.with_suffix(".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            for file in parcel.files:
                _unpacked(file, temporary / file.name, get)
            temporary.rename(target)
    return target / parcel.files[0].name if parcel.alone else target


def _unpacked(file: PackedFile, path: Path, get: Callable[[Any], bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for name in file.pieces:
            piece = get(name)
            digest.update(piece)
            stream.write(piece)
    if digest.hexdigest() != file.sha256:
        message = "arrived damaged"
        raise MachineError(message, where=path, field="sha256", found=digest.hexdigest(), expected=file.sha256)
